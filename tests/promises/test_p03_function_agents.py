"""P3 for functions: the annotations of a function are its contract, in every form that Python has."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional, Union

import pytest
from pydantic import BaseModel

from flock import (
    Artifact,
    BatchSpec,
    ConfigurationError,
    Context,
    EvalInputs,
    EvalResult,
    Flock,
    JoinSpec,
)

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

pytestmark = pytest.mark.memory  # functions are read before anything is stored


class Bug(BaseModel):
    name: str = "bug"


class Audit(BaseModel):
    name: str = "audit"


class Review(BaseModel):
    text: str = ""


class Extra(BaseModel):
    text: str = ""


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def made(flock: Flock, *inputs: BaseModel) -> list[str]:
    """Publish inputs, wait, and give the reviews that came of them."""
    await flock.publish_many(inputs)
    report = await flock.run_until_idle()
    report.raise_for_failures()
    return [review.text for review in await flock.store.get_by_type(Review)]


# ---- parameters


async def test_p03_parameters_of_model_types_are_and(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug, audit: Audit, ctx: Context) -> Review:
        return Review(text=f"{bug.name}+{audit.name} in {ctx.correlation_id} by {ctx.agent.name}")

    assert await made(flock, Audit(), Bug()) == ["bug+audit in default by review"]


async def test_p03_a_parameter_with_alternatives_is_or(flock: Flock) -> None:
    @flock.agent
    async def review(it: Bug | Audit) -> Review:
        return Review(text=it.name)

    assert sorted(await made(flock, Audit(), Bug())) == ["audit", "bug"]


async def test_p03_alternatives_may_be_written_in_the_old_way(flock: Flock) -> None:
    @flock.agent
    async def review(it: Union[Bug, Audit]) -> Optional[Review]:  # noqa: UP007, UP045 - the old way
        return Review(text=it.name)

    assert sorted(await made(flock, Audit(), Bug())) == ["audit", "bug"]


async def test_p03_alternatives_are_subscriptions_of_their_own_beside_other_parameters(flock: Flock) -> None:
    @flock.agent
    async def review(it: Bug | Audit, extra: Extra) -> Review:
        return Review(text=f"{it.name} {extra.text}")

    assert await made(flock, Bug(), Extra(text="x")) == ["bug x"]
    assert sorted(await made(flock, Audit(), Extra(text="y"))) == ["audit x", "bug x"]


async def test_p03_one_type_twice_takes_two_artifacts(flock: Flock) -> None:
    @flock.agent
    async def review(one: Bug, two: Bug) -> Review:
        return Review(text=f"{one.name} {two.name}")

    assert await made(flock, Bug(name="a"), Bug(name="b"), Bug(name="c")) == ["a b"]


async def test_p03_an_optional_parameter_is_none_where_there_is_no_input(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug)
    async def review(bug: Bug, audit: Audit | None, extra: Optional[Extra] = None) -> Review:  # noqa: UP045
        return Review(text=f"{bug.name} {audit} {extra}")

    assert await made(flock, Bug()) == ["bug None None"]
    (output,) = await flock.invoke("review", Bug(), Audit())
    assert output.payload.text == "bug name='audit' None"


async def test_p03_a_list_parameter_takes_a_batch(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug, batch=BatchSpec(size=3))
    async def review(bugs: list[Bug], ctx: Context) -> Review:
        assert ctx.is_batch
        return Review(text=" ".join(bug.name for bug in bugs))

    assert await made(flock, Bug(name="a"), Bug(name="b"), Bug(name="c")) == ["a b c"]


async def test_p03_a_list_parameter_takes_a_count_beside_a_single_model(flock: Flock) -> None:
    @flock.agent("review").consumes(Audit, Bug, Bug)
    async def review(bugs: list[Bug], audit: Audit) -> Review:
        return Review(text=f"{audit.name}: {len(bugs)}")

    assert await made(flock, Bug(), Bug(), Audit()) == ["audit: 2"]


async def test_p03_a_list_of_alternatives_takes_all_of_them(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug, Audit, Bug)
    async def review(things: list[Bug | Audit]) -> Review:
        return Review(text=" ".join(thing.name for thing in things))

    assert await made(flock, Audit(), Bug(name="a"), Bug(name="b")) == ["a b audit"]


async def test_p03_a_list_of_tuples_takes_a_batch_of_joins(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug, Audit, join=JoinSpec(by=lambda it: it.name, within=9), batch=BatchSpec(size=2))
    async def review(pairs: list[tuple[Bug, Audit]]) -> Review:
        return Review(text=" ".join(f"{type(a).__name__}-{type(b).__name__}-{a.name}{b.name}" for a, b in pairs))

    found = await made(flock, Audit(name="x"), Audit(name="y"), Bug(name="y"), Bug(name="x"))
    assert found == ["Bug-Audit-yy Bug-Audit-xx"]


async def test_p03_eval_inputs_may_be_asked_for(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug, Audit)
    async def review(inputs: EvalInputs) -> Review:
        bug = inputs.first_as(Bug)
        assert bug is not None
        assert inputs.first_as(Extra) is None
        return Review(text=f"{bug.name} {len(inputs.all_as(Audit))} {len(inputs.artifacts)}")

    assert await made(flock, Bug(), Audit()) == ["bug 1 2"]


async def test_p03_one_untyped_parameter_receives_eval_inputs(flock: Flock) -> None:
    async def review(inputs, ctx: Context):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return Review(text=f"{inputs.__class__.__name__} {ctx.trigger}")

    flock.agent("review").consumes(Bug).publishes(Review).calls(review)  # pyright: ignore[reportUnknownArgumentType]
    assert await made(flock, Bug()) == ["EvalInputs artifact"]


async def test_p03_a_lambda_is_a_function_like_any_other(flock: Flock) -> None:
    fn: Callable[[EvalInputs], Review] = lambda inputs: Review(text=inputs.all_as(Bug)[0].name)  # noqa: E731
    flock.agent("review").consumes(Bug).publishes(Review).calls(fn)
    assert await made(flock, Bug()) == ["bug"]


async def test_p03_a_function_needs_no_parameter_at_all(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug)
    async def review() -> Review:
        return Review(text="called")

    assert await made(flock, Bug()) == ["called"]


async def test_p03_parameters_with_defaults_are_left_alone(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug, untouched=5, *, limit: int = 7, log: Callable[[str], None] = print) -> Review:  # type: ignore[no-untyped-def] # noqa: ANN001
        return Review(text=f"{bug.name} {untouched} {limit} {log is print}")

    assert await made(flock, Bug()) == ["bug 5 7 True"]


async def test_p03_keyword_only_and_positional_only_parameters_are_filled(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug, /, *, ctx: Context, audit: Audit) -> Review:
        return Review(text=f"{bug.name} {audit.name} {ctx.attempt}")

    assert await made(flock, Bug(), Audit()) == ["bug audit 1"]


async def test_p03_a_parameter_of_a_base_takes_a_subclass(flock: Flock) -> None:
    class Crash(Bug):
        pass

    @flock.agent
    async def review(bug: Bug) -> Review:
        return Review(text=type(bug).__name__)

    assert await made(flock, Crash()) == ["Crash"]


BAD_PARAMETERS: dict[str, tuple[Callable[..., Any], str]] = {}


def bad(words: str) -> Callable[[Callable[..., Any]], None]:
    def keep(fn: Callable[..., Any]) -> None:
        BAD_PARAMETERS[fn.__name__] = (fn, words)

    return keep


@bad("parameter 'number'")
async def number(number: int) -> Review:
    return Review()


@bad("parameter 'names'")
async def list_of_text(names: list[str]) -> Review:
    return Review()


@bad("only one may be untyped")
async def two_untyped(one, two) -> Review:  # type: ignore[no-untyped-def] # noqa: ANN001
    return Review()


@bad(r"\*args")
async def star_args(*bugs: Bug) -> Review:
    return Review()


@bad(r"\*args")
async def star_kwargs(bug: Bug, **rest: Any) -> Review:
    return Review()


@bad("returns <class 'int'>")
async def returns_number(bug: Bug) -> int:
    return 1


@bad("returns")
async def returns_list_of_text(bug: Bug) -> list[str]:
    return []


@bad("OnlyForTypeCheckers")
async def unknown_name(bug: Bug, price: OnlyForTypeCheckers) -> Review:
    return Review()


@bad("needs consumes")
async def bare_list(bugs: list[Bug]) -> Review:
    return Review()


@bad("needs consumes")
async def bare_tuples(pairs: list[tuple[Bug, Audit]]) -> Review:
    return Review()


@pytest.mark.parametrize("case", BAD_PARAMETERS)
async def test_p03_annotations_that_are_no_contract_are_refused(flock: Flock, case: str) -> None:
    fn, words = BAD_PARAMETERS[case]
    with pytest.raises(ConfigurationError, match=words):
        flock.agent(fn)
    assert fn.__name__ not in flock.agents


async def singles(bug: Bug) -> None: ...


async def audits(audits: list[Audit]) -> None: ...


async def pairs(pairs: list[tuple[Bug, Audit]]) -> None: ...


UNFITTING: dict[str, tuple[dict[str, Any], tuple[type[BaseModel], ...], Callable[..., Any], str]] = {
    "other type": ({}, (Audit,), singles, "can never fill the parameter 'bug'"),
    "batch into a single model": ({"batch": BatchSpec(size=2)}, (Bug,), singles, r"needs a parameter bug: list\[...\]"),
    "list of another type": ({"batch": BatchSpec(size=2)}, (Bug,), audits, "can never fill the parameter 'audits'"),
    "tuples without a batch": ({}, (Bug, Audit), pairs, "can never fill the parameter 'pairs'"),
    "tuples in another order": ({"batch": BatchSpec(size=2)}, (Audit, Bug), pairs, "can never fill"),
    "tuples of another length": ({"batch": BatchSpec(size=2)}, (Bug, Bug, Audit), pairs, "can never fill"),
}


@pytest.mark.parametrize("case", UNFITTING)
async def test_p03_a_subscription_that_can_never_fill_the_parameters_is_refused(flock: Flock, case: str) -> None:
    options, kinds, fn, words = UNFITTING[case]
    flock.agent("review").consumes(*kinds, **options).calls(fn)
    with pytest.raises(ConfigurationError, match=words):
        await flock.ready()


# ---- what a function returns


async def test_p03_a_model_or_nothing(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> Review | None:
        return Review(text=bug.name) if bug.name == "a" else None

    assert await made(flock, Bug(name="a"), Bug(name="b")) == ["a"]


async def test_p03_a_list_is_fan_out(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> list[Review]:
        return [Review(text=letter) for letter in bug.name]

    assert await made(flock, Bug(name="abc")) == ["a", "b", "c"]


async def test_p03_a_tuple_is_one_of_each(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> tuple[Review, Extra | None]:
        return Review(text=bug.name), Extra() if bug.name == "a" else None

    assert await made(flock, Bug(name="a"), Bug(name="b")) == ["a", "b"]
    assert len(await flock.store.get_by_type(Extra)) == 1


async def test_p03_an_eval_result(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> EvalResult:
        return EvalResult.from_objects(Review(text="x"), Extra(), agent="review")

    assert await made(flock, Bug()) == ["x"]
    assert len(await flock.store.get_by_type(Extra)) == 1


async def test_p03_an_artifact_with_an_envelope_of_its_own(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> Artifact:
        return Artifact(Review(text="x"), tags=["hot"], partition_key="eu", id="mine")

    (output,) = await flock.invoke(review, Bug())
    assert (output.id, output.partition_key, output.produced_by) == ("mine", "eu", "review")
    assert output.tags == {"hot"}


async def test_p03_declared_to_return_nothing_a_model_is_an_output_error(flock: Flock) -> None:
    async def lie(bug: Bug) -> None:
        return Review()  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    flock.agent(lie)
    await flock.publish(Bug())
    (failure,) = (await flock.run_until_idle()).failures
    assert failure.error_type == "OutputError"
    assert "does not declare; declared: none" in failure.message


async def test_p03_without_publishes_and_annotation_whatever_models_it_returns_are_published(flock: Flock) -> None:
    async def anything(bug: Bug):  # type: ignore[no-untyped-def] # noqa: ANN202
        return [Review(text=bug.name), Extra(), None]

    flock.agent(anything)
    assert await made(flock, Bug()) == ["bug"]
    assert len(await flock.store.get_by_type(Extra)) == 1


async def test_p03_publishes_goes_before_the_annotation(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug).publishes(Extra)
    async def review(bug: Bug) -> Review | Extra:
        return Review()

    await flock.publish(Bug())
    (failure,) = (await flock.run_until_idle()).failures
    assert "declared: Extra" in failure.message


@pytest.mark.parametrize("kind", ["AsyncIterator", "AsyncGenerator"])
async def test_p03_an_async_generator_publishes_each_yield_at_once(flock: Flock, kind: str) -> None:
    seen: list[int] = []

    async def iterator(bug: Bug) -> AsyncIterator[Review]:
        for letter in bug.name:
            yield Review(text=letter)
            seen.append(len(await flock.store.get_by_type(Review)))

    async def generator(bug: Bug) -> AsyncGenerator[Review, None]:
        for letter in bug.name:
            yield Review(text=letter)
            seen.append(len(await flock.store.get_by_type(Review)))

    flock.agent(iterator if kind == "AsyncIterator" else generator)
    assert await made(flock, Bug(name="abc")) == ["a", "b", "c"]
    assert seen == [1, 2, 3]


async def test_p03_what_a_generator_yields_is_held_to_its_annotation(flock: Flock) -> None:
    async def lie(bug: Bug) -> AsyncIterator[Review]:
        yield Review(text="kept")
        yield Extra()  # type: ignore[misc] # pyright: ignore[reportReturnType]

    flock.agent(lie)
    await flock.publish(Bug())
    (failure,) = (await flock.run_until_idle()).failures
    assert "returned Extra, which it does not declare" in failure.message
    assert await flock.store.get_by_type(Review) == [Review(text="kept")]


async def test_p03_the_bounds_of_a_generator_are_checked_at_its_end(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug).publishes(Review, fan_out=3)
    async def review(bug: Bug) -> AsyncIterator[Review]:
        yield Review(text="1")
        yield Review(text="2")

    await flock.publish(Bug())
    (failure,) = (await flock.run_until_idle()).failures
    assert "made 2 of Review; fan_out asks for 3" in failure.message
    assert len(await flock.store.get_by_type(Review)) == 2


async def test_p03_best_of_a_generator_is_refused(flock: Flock) -> None:
    @flock.agent("review").consumes(Bug).best_of(2)
    async def review(bug: Bug) -> AsyncIterator[Review]:
        yield Review()

    with pytest.raises(ConfigurationError, match="best_of can't choose"):
        await flock.ready()


# ---- kinds of callables


async def plain(bug: Bug, *, mark: str = "-") -> Review:
    return Review(text=f"{bug.name}{mark}")


def in_thread(bug: Bug, *, mark: str = "-") -> Review:
    assert threading.current_thread() is not threading.main_thread()
    return Review(text=f"{bug.name}{mark}{variable.get()}")


def returns_awaitable(bug: Bug) -> Awaitable[Review]:
    return plain(bug, mark="awaited")


def wrapped() -> Callable[..., Any]:
    def log(fn: Callable[[Bug], Coroutine[Any, Any, Review]]) -> Callable[[Bug], Any]:
        @functools.wraps(fn)
        def inner(bug: Bug) -> Any:
            return fn(bug)

        return inner

    @log
    async def target(bug: Bug) -> Review:
        return Review(text=f"{bug.name}wrapped")

    return target


class Reviewer:
    """Callable objects and methods of all kinds."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    async def __call__(self, bug: Bug) -> Review:
        return Review(text=bug.name + self.mark)

    async def method(self, bug: Bug) -> Review:
        return Review(text=bug.name + self.mark)

    @classmethod
    async def of_class(cls, bug: Bug) -> Review:
        return Review(text=bug.name + cls.__name__)

    @staticmethod
    async def of_nobody(bug: Bug) -> Review:
        return Review(text=bug.name + "static")

    def sync_method(self, bug: Bug) -> Review:
        assert threading.current_thread() is not threading.main_thread()
        return Review(text=bug.name + "sync")


class SyncReviewer:
    def __call__(self, bug: Bug) -> Review:
        assert threading.current_thread() is not threading.main_thread()
        return Review(text=bug.name + "sync object")


class StreamReviewer:
    async def __call__(self, bug: Bug) -> AsyncIterator[Review]:
        yield Review(text=bug.name + "stream")


async def marked(mark: str, bug: Bug) -> Review:
    return Review(text=bug.name + mark)


def sync_generator(bug: Bug) -> Iterator[Review]:
    yield Review(text=bug.name + "generated")


def sync_iterable(bug: Bug) -> Iterable[Review]:
    return [Review(text=bug.name + "iterable")]


CALLABLES: dict[str, tuple[Callable[..., Any], str]] = {
    "coroutine function": (plain, "bug-"),
    "sync function": (in_thread, "bug-unset"),
    "function that returns an awaitable": (returns_awaitable, "bugawaited"),
    "decorated coroutine function": (wrapped(), "bugwrapped"),
    "partial by keyword": (functools.partial(plain, mark="p"), "bugp"),
    "partial by position": (functools.partial(marked, "q"), "bugq"),
    "partial of a partial": (functools.partial(functools.partial(marked), "r"), "bugr"),
    "partial by keyword before": (functools.partial(marked, mark="k"), "bugk"),
    "partial of a sync function": (functools.partial(in_thread, mark="s"), "bugsunset"),
    "partial of an object": (functools.partial(Reviewer("o")), "bugo"),
    "object": (Reviewer("object"), "bugobject"),
    "sync object": (SyncReviewer(), "bugsync object"),
    "generator object": (StreamReviewer(), "bugstream"),
    "method": (Reviewer("method").method, "bugmethod"),
    "class method": (Reviewer.of_class, "bugReviewer"),
    "static method": (Reviewer.of_nobody, "bugstatic"),
    "sync method": (Reviewer("x").sync_method, "bugsync"),
    "sync generator": (sync_generator, "buggenerated"),
    "sync iterable": (sync_iterable, "bugiterable"),
}


@pytest.mark.parametrize("kind", CALLABLES)
@pytest.mark.parametrize("declared", [True, False], ids=["calls", "decorated"])
async def test_p03_every_kind_of_callable_is_an_agent(flock: Flock, kind: str, *, declared: bool) -> None:
    fn, expected = CALLABLES[kind]
    if declared:
        flock.agent("review").calls(fn)
    else:
        flock.agent(fn)
    assert await made(flock, Bug()) == [expected]


async def test_p03_an_async_body_runs_on_the_loop_and_a_sync_one_beside_it(flock: Flock) -> None:
    together = threading.Event()

    @flock.agent
    async def on_loop(bug: Bug) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert asyncio.current_task() in flock.scheduler.tasks
        await asyncio.sleep(0)
        together.set()

    @flock.agent
    def beside(bug: Bug) -> None:
        assert together.wait(timeout=30)

    await flock.publish(Bug())
    assert (await flock.run_until_idle()).failures == ()


async def test_p03_a_sync_body_sees_the_context_variables_of_its_activation(flock: Flock) -> None:
    seen: list[str] = []

    @flock.agent
    def look(bug: Bug, ctx: Context) -> None:
        seen.append(flock.correlation_id)

    await flock.publish(Bug(), correlation_id="mine")
    await flock.run_until_idle()
    assert seen == ["mine"]


async def test_p03_a_sync_body_that_raises_fails_like_any_other(flock: Flock) -> None:
    @flock.agent
    def fail(bug: Bug) -> None:
        raise StopIteration("odd")

    await flock.publish(Bug())
    (failure,) = (await flock.run_until_idle()).failures
    assert failure.agent == "fail"


# ---- names that only exist around the function


async def test_p03_local_classes_are_found_from_text_annotations(flock: Flock) -> None:
    class Local(BaseModel):
        text: str

    class Answer(BaseModel):
        text: str

    @flock.agent
    async def decorated(it: Local) -> Answer:
        return Answer(text=it.text)

    @flock.agent("built")
    async def built(it: Local | Extra, ctx: Context) -> list[Answer]:
        return [Answer(text="built " + it.text)]

    async def called(answers: list[Answer]) -> Review:
        return Review(text=" ".join(sorted(answer.text for answer in answers)))

    flock.agent("called").consumes(Answer, Answer).calls(called)
    assert await made(flock, Local(text="x")) == ["built x x"]


async def test_p03_local_classes_are_found_through_a_closure(flock: Flock) -> None:
    def shop() -> Callable[..., Any]:
        class Local(BaseModel):
            text: str = "local"

        async def review(it: Local) -> Review:
            return Review(text=Local().text + it.text)

        review.kind = Local  # type: ignore[attr-defined] # pyright: ignore[reportFunctionMemberAccess]
        return review

    review = shop()
    flock.agent(review)
    kind: type[BaseModel] = vars(review)["kind"]
    assert await made(flock, kind()) == ["locallocal"]


async def test_p03_the_description_is_the_first_line_of_the_docstring(flock: Flock) -> None:
    @flock.agent
    async def review(bug: Bug) -> None:
        """Look at one bug.

        And more.
        """

    @flock.agent("said").description("what was said")
    async def said(bug: Bug) -> None:
        """Not this."""

    assert flock.get_agent("review").description == "Look at one bug."
    assert flock.get_agent("said").description == "what was said"


async def test_p03_a_decorated_function_is_still_the_function(flock: Flock) -> None:
    assert flock.agent(plain) is plain
    assert await plain(Bug()) == Review(text="bug-")
    (output,) = await flock.invoke(plain, Bug())
    assert output.payload == Review(text="bug-")


def test_p03_a_return_annotation_that_publishes_does_not_cover_is_refused() -> None:
    flock = Flock()

    async def pack(bug: Bug) -> Review:
        raise AssertionError(bug)

    flock.agent("pack").consumes(Bug).publishes(Audit).calls(pack)
    with pytest.raises(ConfigurationError, match="does not cover"):
        flock.check()
