"""P23: who sees an artifact is decided once and holds on every path."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    AgentComponent,
    Artifact,
    BatchSpec,
    ConfigurationError,
    Context,
    EvalInputs,
    EvalResult,
    Failure,
    Flock,
    JoinSpec,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    TenantVisibility,
    Visibility,
    VisibilityError,
    When,
)
from flock.testing import FakeClock


class Secret(BaseModel):
    text: str = "secret"


class Note(BaseModel):
    text: str = "note"


class Result(BaseModel):
    text: str = "result"


class Trigger(BaseModel):
    pass


HOUR = timedelta(hours=1)
PUBLIC = PublicVisibility()


def asks(predicate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Tell type checkers what a lambda among options is."""
    return predicate


def private(*names: str) -> PrivateVisibility:
    return PrivateVisibility(agents=frozenset(names))


def labelled(*labels: str) -> LabelledVisibility:
    return LabelledVisibility(required_labels=frozenset(labels))


def tenant(name: str) -> TenantVisibility:
    return TenantVisibility(tenant_id=name)


def after(then: Visibility = PUBLIC) -> AfterVisibility:
    return AfterVisibility(ttl=HOUR, then=then)


CASES: dict[str, tuple[Visibility, bool]] = {
    "public": (PUBLIC, True),
    "private to it": (private("spy", "boss"), True),
    "private to others": (private("boss"), False),
    "private to nobody": (private(), False),
    "its labels": (labelled("red"), True),
    "all its labels": (labelled("red", "blue"), True),
    "no labels": (labelled(), True),
    "one label too many": (labelled("red", "green"), False),
    "its tenant": (tenant("acme"), True),
    "another tenant": (tenant("apex"), False),
    "after, later": (after(), False),
    "after nothing": (AfterVisibility(ttl=timedelta(0), then=PUBLIC), True),
    "after nothing, for others": (AfterVisibility(ttl=timedelta(0), then=private("boss")), False),
}


def spy(flock: Flock, *kinds: type[BaseModel], **options: Any) -> list[list[str]]:
    """Let an agent with labels and a tenant consume types, and note what it gets."""
    seen: list[list[str]] = []
    builder = flock.agent("spy").labels("red", "blue").tenant("acme").consumes(*kinds, **options)

    @builder
    async def look(inputs: EvalInputs) -> None:
        seen.append([type(artifact.payload).__name__ for artifact in inputs.artifacts])

    return seen


# ---- matching


@pytest.mark.parametrize("case", CASES)
async def test_p23_only_who_may_see_an_artifact_fires_on_it(flock: Flock, case: str) -> None:
    visibility, allowed = CASES[case]
    seen = spy(flock, Secret)
    await flock.publish(Secret(), visibility=visibility)
    await flock.run_until_idle()
    assert seen == ([["Secret"]] if allowed else [])


COLLECTORS: dict[str, dict[str, Any]] = {
    "gate": {},
    "join": {"join": JoinSpec(by=lambda _: 1, within=9)},
    "gate, then batch": {"batch": BatchSpec(size=1)},
    "board": {"scope": "board"},
}


@pytest.mark.parametrize("kind", COLLECTORS)
async def test_p23_what_an_agent_may_not_see_never_enters_its_collectors(flock: Flock, kind: str) -> None:
    seen = spy(flock, Secret, Note, **COLLECTORS[kind])
    await flock.publish(Secret(), visibility=private("boss"))
    await flock.publish(Note())
    (waiting,) = (await flock.run_until_idle()).waiting
    assert len(waiting.artifacts) == 1
    await flock.publish(Secret(), visibility=tenant("acme"))
    await flock.run_until_idle()
    assert seen == [["Secret", "Note"]]


async def test_p23_a_when_condition_does_not_count_what_the_agent_may_not_see(flock: Flock) -> None:
    seen = spy(flock, Note, when=When.exists(Secret))
    await flock.publish(Note())
    await flock.publish(Secret(), visibility=private("boss"))
    await flock.run_until_idle()
    assert seen == []
    await flock.publish(Secret(), visibility=labelled("blue"))
    await flock.run_until_idle()
    assert seen == [["Note"]]


async def test_p23_predicates_are_not_asked_about_what_the_agent_may_not_see(flock: Flock) -> None:
    asked: list[Secret] = []

    def ask(secret: Secret) -> bool:
        asked.append(secret)
        return True

    spy(flock, Secret, where=ask)
    await flock.publish(Secret(), visibility=private("boss"))
    await flock.run_until_idle()
    assert asked == []


async def test_p23_replay_shows_a_late_agent_only_what_it_may_see(flock: Flock) -> None:
    for visibility, _ in CASES.values():
        await flock.publish(Secret(), visibility=visibility)
    seen = spy(flock, Secret, replay=True)
    await flock.run_until_idle()
    assert len(seen) == sum(allowed for _, allowed in CASES.values())


# ---- After


async def test_p23_after_fires_when_its_time_comes(flock: Flock, clock: FakeClock) -> None:
    seen = spy(flock, Secret)
    await flock.publish(Secret(), visibility=after())
    report = await flock.run_until_idle()
    (waiting,) = report.waiting
    assert (waiting.reason, waiting.agent, waiting.due) == ("after", "spy", clock.now() + 3600)
    await clock.advance(3599)
    assert seen == []
    await clock.advance(1)
    await flock.run_until_idle()
    assert seen == [["Secret"]]


async def test_p23_from_then_on_its_then_decides(flock: Flock, clock: FakeClock) -> None:
    seen = spy(flock, Secret)
    await flock.publish(Secret(), visibility=after(private("boss")))
    await flock.publish(Secret(), visibility=after(tenant("acme")))
    await clock.advance(3601)
    await flock.run_until_idle()
    assert seen == [["Secret"]]


async def test_p23_nested_delays_add_up(flock: Flock, clock: FakeClock) -> None:
    seen = spy(flock, Secret)
    await flock.publish(Secret(), visibility=after(after(labelled("red"))))
    await clock.advance(7199)
    assert seen == []
    await clock.advance(2)
    await flock.run_until_idle()
    assert seen == [["Secret"]]


async def test_p23_a_delayed_artifact_enters_gates_joins_batches_and_conditions_when_its_time_comes(
    flock: Flock, clock: FakeClock
) -> None:
    fired: list[str] = []
    options: dict[str, tuple[tuple[type[BaseModel], ...], dict[str, Any]]] = {
        "gate": ((Secret, Note), {}),
        "join": ((Secret, Note), {"join": JoinSpec(by=lambda _: 1, within=timedelta(hours=2))}),
        "batch": ((Secret,), {"batch": BatchSpec(size=1)}),
        "when": ((Note,), {"when": When.exists(Secret)}),
    }
    for name, (kinds, option) in options.items():

        @flock.agent(name).consumes(*kinds, **option)
        async def look(inputs: EvalInputs, name: str = name) -> None:
            fired.append(name)

    await flock.publish(Note())
    await flock.publish(Secret(), visibility=after())
    await flock.run_until_idle()
    assert fired == []
    await clock.advance(3601)
    await flock.run_until_idle()
    assert sorted(fired) == ["batch", "gate", "join", "when"]


async def test_p23_the_board_shows_a_delayed_artifact_to_agents_when_its_time_comes(
    flock: Flock, clock: FakeClock
) -> None:
    counts: list[int] = []

    @flock.agent
    async def look(trigger: Trigger, ctx: Context) -> None:
        counts.append(len(await ctx.board.get_by_type(Secret)))

    await flock.publish(Secret(), visibility=after())
    for _ in range(2):
        await flock.publish(Trigger())
        await flock.run_until_idle()
        await clock.advance(3601)
    assert counts == [0, 1]
    assert len(await flock.store.get_by_type(Secret)) == 1


async def test_p23_cancel_withdraws_what_is_delayed(flock: Flock, clock: FakeClock) -> None:
    seen = spy(flock, Secret)
    await flock.publish(Secret(), visibility=after(), correlation_id="mine")
    await flock.cancel("mine")
    await clock.advance(3601)
    assert seen == []
    assert (await flock.run_until_idle()).waiting == ()


async def test_p23_a_direct_input_that_is_not_due_is_refused(flock: Flock, clock: FakeClock) -> None:
    seen = spy(flock, Secret)
    secret = await flock.publish(Secret(), visibility=after())
    with pytest.raises(VisibilityError):
        await flock.invoke("spy", secret)
    await clock.advance(3601)
    await flock.invoke("spy", secret)
    await flock.run_until_idle()
    assert seen == [["Secret"]] * 2


# ---- direct invocation


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "on the board"])
async def test_p23_an_agent_is_not_invoked_with_what_it_may_not_see(flock: Flock, case: str, *, fresh: bool) -> None:
    visibility, allowed = CASES[case]
    seen = spy(flock, Secret, mode="direct")
    given = Artifact(Secret(), visibility=visibility) if fresh else await flock.publish(Secret(), visibility=visibility)
    if allowed:
        await flock.invoke("spy", given)
        assert seen == [["Secret"]]
    else:
        with pytest.raises(VisibilityError, match="spy"):
            await flock.invoke("spy", given)
        with pytest.raises(VisibilityError, match="spy"):
            await flock.arun("spy", given)
        assert seen == []
        assert len(await flock.store.list()) == (0 if fresh else 1)


async def test_p23_the_scheduler_runs_no_agent_with_what_it_may_not_see(flock: Flock) -> None:
    seen = spy(flock, Secret, mode="direct")
    secret = await flock.publish(Secret(), visibility=private("boss"))
    with pytest.raises(VisibilityError, match="spy"):
        await flock.scheduler.schedule_task(flock.get_agent("spy"), [secret])
    assert seen == []


# ---- reads


Read = Callable[[Context, str], Awaitable[list[str]]]


async def by_list(ctx: Context, secret: str) -> list[str]:
    return [artifact.id for artifact in await ctx.board.list()]


async def by_get(ctx: Context, secret: str) -> list[str]:
    found = await ctx.board.get(secret)
    return [] if found is None else [found.id]


async def by_type(ctx: Context, secret: str) -> list[str]:
    return [secret for _ in await ctx.board.get_by_type(Secret)]


async def by_query(ctx: Context, secret: str) -> list[str]:
    return [artifact.id for artifact in await ctx.board.query([Secret, Trigger], tags=["t"], produced_by="external")]


async def by_pages(ctx: Context, secret: str) -> list[str]:
    pages = [await ctx.board.query(limit=1, offset=offset) for offset in range(3)]
    return [artifact.id for page in pages for artifact in page]


async def by_lineage(ctx: Context, secret: str) -> list[str]:
    try:
        return [secret for _ in [await ctx.board.lineage(secret)]]
    except VisibilityError:
        return []


async def by_consumptions(ctx: Context, secret: str) -> list[str]:
    return [each.artifact for each in await ctx.board.consumptions(secret)]


READS: list[Read] = [by_list, by_get, by_type, by_query, by_pages, by_lineage, by_consumptions]


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
@pytest.mark.parametrize("case", CASES)
async def test_p23_every_read_of_an_agent_shows_only_what_it_may_see(flock: Flock, case: str, read: Read) -> None:
    visibility, allowed = CASES[case]
    found: list[list[str]] = []
    secret = await flock.publish(Secret(), visibility=visibility, tags=["t"])

    @flock.agent("consumer").consumes(Secret, replay=True).labels("red", "blue", "green").tenant("acme")
    async def consumer(inputs: EvalInputs) -> None: ...

    await flock.run_until_idle()

    @flock.agent("spy").labels("red", "blue").tenant("acme").consumes(Trigger)
    async def look(trigger: Trigger, ctx: Context) -> None:
        found.append(await read(ctx, secret.id))

    await flock.publish(Trigger(), tags=["t"])
    assert (await flock.run_until_idle()).failures == ()
    if read is by_consumptions:
        had = bool(await flock.store.consumptions(secret))
        assert (secret.id in found[0]) == (allowed and had)
    else:
        assert (secret.id in found[0]) == allowed


async def test_p23_pages_of_an_agents_query_count_only_what_it_sees(flock: Flock) -> None:
    pages: list[list[str]] = []

    @flock.agent("spy").consumes(Trigger)
    async def look(trigger: Trigger, ctx: Context) -> None:
        found = [await ctx.board.query(Secret, limit=2, offset=offset) for offset in (0, 2, 4)]
        pages.extend([each.payload.text for each in page] for page in found)

    for number in range(8):
        await flock.publish(Secret(text=str(number)), visibility=private("boss") if number % 2 else PUBLIC)
    await flock.publish(Trigger())
    await flock.run_until_idle()
    assert pages == [["0", "2"], ["4", "6"], []]


async def test_p23_the_operator_reads_everything(flock: Flock) -> None:
    for visibility, _ in CASES.values():
        await flock.publish(Secret(), visibility=visibility)
    assert len(await flock.store.list()) == len(CASES)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_p23_a_context_provider_can_not_show_an_agent_what_it_may_not_see(
    flock: Flock, *, is_async: bool
) -> None:
    shown: list[list[str]] = []

    async def provide(ctx: Context) -> Any:
        return await flock.store.query(Secret)

    drafts = [Artifact(Secret(text=name), visibility=visibility) for name, (visibility, _) in CASES.items()]
    everything = await flock.publish_many(drafts)
    provider: Any = provide if is_async else asks(lambda _: everything)

    @flock.agent("spy").labels("red", "blue").tenant("acme").consumes(Trigger).with_context(provider)
    async def look(trigger: Trigger, ctx: Context) -> None:
        shown.append([artifact.payload.text for artifact in ctx.state["context"]])

    await flock.publish(Trigger())
    await flock.run_until_idle()
    assert shown == [[name for name, (_, allowed) in CASES.items() if allowed]]


# ---- what outputs take


async def combined(flock: Flock, *visibilities: Visibility, clock: FakeClock | None = None, **options: Any) -> Any:
    """Let a boss with all rights combine secrets of these visibilities; give the result's, or the Failure."""
    boss = flock.agent("boss").labels("red", "blue").tenant("acme").consumes(*[Secret] * len(visibilities))

    @boss.publishes(Result, **options)
    async def combine(inputs: EvalInputs) -> Result:
        return Result()

    for visibility in visibilities:
        await flock.publish(Secret(), visibility=visibility)
    if clock is not None:
        await clock.advance(3601)
    await flock.run_until_idle()
    (found,) = await flock.store.query([Result, Failure])
    return found.payload if isinstance(found.payload, Failure) else found.visibility


MEET: dict[str, tuple[list[Visibility], Visibility | None]] = {
    "public": ([PUBLIC], PUBLIC),
    "public twice": ([PUBLIC, PUBLIC], PUBLIC),
    "private": ([private("boss", "spy")], private("spy", "boss")),
    "the same twice": ([tenant("acme"), tenant("acme")], tenant("acme")),
    "public counts as none": ([labelled("red"), PUBLIC, PUBLIC], labelled("red")),
    "after counts as its then": ([after(tenant("acme")), tenant("acme")], tenant("acme")),
    "after nested": ([after(AfterVisibility(ttl=timedelta(0), then=private("boss")))], private("boss")),
    "after public counts as none": ([after(), private("boss")], private("boss")),
    "only after public": ([after(), after()], PUBLIC),
    "private and tenant": ([private("boss"), tenant("acme")], None),
    "two privates": ([private("boss"), private("boss", "spy")], None),
    "two labels": ([labelled("red"), labelled("blue")], None),
    "after another": ([after(private("boss")), tenant("acme")], None),
    "with public between": ([private("boss"), PUBLIC, labelled("red")], None),
}


@pytest.mark.parametrize("case", MEET)
async def test_p23_outputs_take_the_inputs_visibility_and_different_ones_are_an_output_error(
    flock: Flock, clock: FakeClock, case: str
) -> None:
    visibilities, expected = MEET[case]
    found = await combined(flock, *visibilities, clock=clock)
    if expected is None:
        assert isinstance(found, Failure)
        assert found.error_type == "OutputError"
        assert "declare publishes(..., visibility=...)" in found.message
        assert await flock.store.get_by_type(Result) == []
    else:
        assert found == expected


@pytest.mark.parametrize("declared", [PUBLIC, private("spy"), tenant("apex"), after(labelled("x"))], ids=repr)
@pytest.mark.parametrize("by_function", [True, False], ids=["function", "value"])
async def test_p23_the_declaration_decides_where_visibilities_differ(
    flock: Flock, declared: Visibility, *, by_function: bool
) -> None:
    option: Any = asks(lambda _: declared) if by_function else declared
    assert await combined(flock, private("boss"), tenant("acme"), visibility=option) == declared


async def test_p23_a_function_declares_visibility_per_payload(flock: Flock) -> None:
    @flock.agent("sort").consumes(Trigger).publishes(Result, visibility=lambda result: private(result.text))
    async def sort(trigger: Trigger) -> list[Result]:
        return [Result(text="a"), Result(text="b")]

    await flock.publish(Trigger())
    await flock.run_until_idle()
    assert [each.visibility for each in await flock.store.query(Result)] == [private("a"), private("b")]


async def test_p23_an_engine_may_narrow_what_is_public(flock: Flock) -> None:
    @flock.agent
    async def narrow(trigger: Trigger) -> EvalResult:
        return EvalResult.from_object(Artifact(Result(), visibility=private("boss")))

    (output,) = await flock.invoke(narrow, Trigger())
    assert output.visibility == private("boss")


@pytest.mark.parametrize("wanted", [PUBLIC, private("boss", "spy"), tenant("apex"), after()], ids=repr)
async def test_p23_an_engine_can_not_change_what_comes_from_the_inputs(flock: Flock, wanted: Visibility) -> None:
    @flock.agent("boss").consumes(Secret)
    async def widen(secret: Secret) -> EvalResult:
        return EvalResult.from_object(Artifact(Result(), visibility=wanted))

    await flock.publish(Secret(), visibility=private("boss"))
    report = await flock.run_until_idle()
    assert [failure.error_type for failure in report.failures] == ["OutputError"]
    assert await flock.store.get_by_type(Result) == []


async def test_p23_an_engine_that_hands_a_private_input_on_keeps_it_private(flock: Flock) -> None:
    @flock.agent("boss").consumes(Secret)
    async def pass_on(inputs: EvalInputs) -> Any:
        return inputs.artifacts

    await flock.publish(Secret(), visibility=private("boss"))
    await flock.run_until_idle()
    assert [each.visibility for each in await flock.store.query(Secret)] == [private("boss")] * 2


async def test_p23_a_hook_can_not_widen_what_comes_from_the_inputs(flock: Flock) -> None:
    class Leak(AgentComponent):
        @override
        async def on_post_evaluate(
            self, agent: Any, ctx: Context, inputs: EvalInputs, result: EvalResult
        ) -> EvalResult:
            return EvalResult([Artifact(Result(), visibility=PUBLIC)])

    @flock.agent("boss").consumes(Secret).with_utilities(Leak())
    async def make(secret: Secret) -> Result:
        return Result()

    await flock.publish(Secret(), visibility=private("boss"))
    report = await flock.run_until_idle()
    assert [failure.error_type for failure in report.failures] == ["OutputError"]


async def test_p23_a_failure_inherits_the_visibility_of_its_inputs(flock: Flock) -> None:
    handled: list[str] = []

    @flock.agent("boss").consumes(Secret)
    async def fail(secret: Secret) -> None:
        raise RuntimeError(secret.text)

    for name in ("spy", "boss 2"):

        @flock.agent(name).consumes(Failure)
        async def handle(failure: Failure, ctx: Context, name: str = name) -> None:
            handled.append(name)

    await flock.publish(Secret(), visibility=private("boss", "boss 2"))
    await flock.run_until_idle()
    (failure,) = await flock.store.query(Failure)
    assert failure.visibility == private("boss", "boss 2")
    assert handled == ["boss 2"]


async def test_p23_no_agent_sees_a_failure_of_inputs_whose_visibilities_differ(flock: Flock) -> None:
    handled: list[Failure] = []

    @flock.agent("boss").tenant("acme").consumes(Secret, Secret)
    async def fail(inputs: EvalInputs) -> None:
        raise RuntimeError("no")

    @flock.agent("handler").tenant("acme").consumes(Failure)
    async def handle(failure: Failure) -> None:
        handled.append(failure)

    await flock.publish(Secret(), visibility=private("boss", "handler"))
    await flock.publish(Secret(), visibility=tenant("acme"))
    report = await flock.run_until_idle()
    assert len(report.failures) == 1
    assert handled == []


async def test_p23_a_failure_of_a_predicate_inherits_the_artifacts_visibility(flock: Flock) -> None:
    @flock.agent("boss").consumes(Secret, where=lambda secret: secret.nothing)
    async def look(secret: Secret) -> None: ...

    await flock.publish(Secret(), visibility=private("boss"))
    await flock.run_until_idle()
    (failure,) = await flock.store.query(Failure)
    assert failure.visibility == private("boss")


# ---- nonsense is refused


@pytest.mark.parametrize("ttl", [timedelta(seconds=-1), 5, None])
def test_p23_a_delay_is_a_timedelta_of_zero_or_more(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        AfterVisibility(ttl=ttl, then=PUBLIC)


@pytest.mark.parametrize("names", ["boss", None, 3])
def test_p23_names_and_labels_are_collections(names: Any) -> None:
    with pytest.raises(ConfigurationError, match="agents="):
        PrivateVisibility(agents=names)
    with pytest.raises(ConfigurationError, match="required_labels="):
        LabelledVisibility(required_labels=names)


@pytest.mark.parametrize("odd", ["public", 3, PublicVisibility], ids=repr)
async def test_p23_a_visibility_that_is_none_is_refused_everywhere(flock: Flock, odd: Any) -> None:
    with pytest.raises(ValueError, match="visibility="):
        await flock.publish(Secret(), visibility=odd)
    with pytest.raises(ValueError, match="visibility="):
        Artifact(Secret(), visibility=odd)
    with pytest.raises(ConfigurationError, match="then="):
        AfterVisibility(ttl=HOUR, then=odd)


@pytest.mark.parametrize("odd", ["public", 3, []], ids=repr)
def test_p23_publishes_takes_a_visibility_or_a_function(odd: Any) -> None:
    with pytest.raises(ConfigurationError, match="visibility="):
        Flock().agent("boss").publishes(Secret, visibility=odd)
