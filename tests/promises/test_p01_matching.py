"""P1 and what follows from it: which agents a published artifact fires, and declarations that can never work."""

import asyncio
import types
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    AgentComponent,
    BatchSpec,
    ConfigurationError,
    Context,
    Engine,
    EvalInputs,
    EvalResult,
    Failure,
    FanOut,
    Flock,
    JoinSpec,
    OutputGroup,
    ScheduleSpec,
    Until,
    When,
    agent,
)
from flock.ports import AgentInfo
from flock.testing import FakeClock


class Order(BaseModel):
    item: str = "pen"
    count: int = 1


class Rush(Order):
    pass


class Payment(BaseModel):
    item: str = "pen"


class Parcel(BaseModel):
    item: str = "pen"


class Label(BaseModel):
    text: str = ""


def asks(predicate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Tell type checkers what a lambda among options is."""
    return predicate


def watch(flock: Flock, *kinds: type[BaseModel], name: str = "watch", **options: Any) -> list[str]:
    """Let an agent consume types, and note the items that it gets."""
    seen: list[str] = []

    @flock.agent(name).consumes(*kinds, **options)
    async def look(inputs: EvalInputs) -> None:
        seen.extend(artifact.payload.item for artifact in inputs.artifacts)

    return seen


# ---- type, where, tags, producer


async def test_p01_an_artifact_fires_every_agent_that_consumes_its_type_or_a_base(flock: Flock) -> None:
    exact = watch(flock, Rush, name="exact")
    base = watch(flock, Order, name="base")
    everything = watch(flock, BaseModel, name="everything")
    other = watch(flock, Payment, name="other")
    await flock.publish(Rush())
    await flock.run_until_idle()
    assert (exact, base, everything, other) == (["pen"], ["pen"], ["pen"], [])


async def test_p01_a_base_never_matches_a_failure(flock: Flock) -> None:
    seen = watch(flock, BaseModel, name="everything")
    named: list[Failure] = []

    @flock.agent
    async def fail(order: Order) -> None:
        raise RuntimeError("no")

    @flock.agent
    async def handle(failure: Failure) -> None:
        named.append(failure)

    await flock.publish(Order())
    await flock.run_until_idle()
    assert seen == ["pen"]
    assert len(named) == 1


async def test_p01_several_consumes_are_or_and_several_types_are_and(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("both").consumes(Order).consumes(Payment, Parcel)
    async def both(inputs: EvalInputs) -> None:
        fired.append([type(artifact.payload).__name__ for artifact in inputs.artifacts])

    await flock.publish_many([Payment(), Order(), Parcel()])
    await flock.run_until_idle()
    assert fired == [["Order"], ["Payment", "Parcel"]]


async def test_p01_two_subscriptions_that_match_one_artifact_fire_twice(flock: Flock) -> None:
    seen: list[str] = []

    @flock.agent("twice").consumes(Order, where=lambda order: order.count > 0).consumes(Order, tags={"rush"})
    async def twice(order: Order) -> None:
        seen.append(order.item)

    await flock.publish(Order(item="a"), tags=["rush"])
    await flock.publish(Order(item="b"))
    await flock.run_until_idle()
    assert sorted(seen) == ["a", "a", "b"]


async def test_p01_one_artifact_fills_one_place_of_a_gate(flock: Flock) -> None:
    fired = watch(flock, Order, Order)
    await flock.publish(Order(item="a"))
    assert (await flock.run_until_idle()).succeeded == 0
    await flock.publish(Order(item="b"))
    await flock.run_until_idle()
    assert fired == ["a", "b"]


async def test_p01_where_takes_one_predicate_or_several(flock: Flock) -> None:
    one = watch(flock, Order, name="one", where=asks(lambda order: order.count > 1))
    several = [asks(lambda order: order.count > 1), asks(lambda order: order.item != "c")]
    two = watch(flock, Order, name="two", where=several)
    await flock.publish_many([Order(item="a"), Order(item="b", count=2), Order(item="c", count=3)])
    await flock.run_until_idle()
    assert (one, two) == (["b", "c"], ["b"])


async def test_p01_where_is_asked_of_every_type_of_a_gate(flock: Flock) -> None:
    fired = watch(flock, Order, Payment, where=asks(lambda it: it.item != "bad"))
    await flock.publish_many([Order(item="bad"), Payment(item="good"), Payment(item="bad"), Order(item="fine")])
    await flock.run_until_idle()
    assert fired == ["fine", "good"]


async def test_p01_tags_must_all_be_there(flock: Flock) -> None:
    both = watch(flock, Order, name="both", tags={"a", "b"})
    word = watch(flock, Order, name="word", tags="a")
    await flock.publish(Order(item="1"), tags=["a"])
    await flock.publish(Order(item="2"), tags=["a", "b", "c"])
    await flock.publish(Order(item="3"))
    await flock.run_until_idle()
    assert (both, word) == (["2"], ["1", "2"])


async def test_p01_from_agents_matches_by_producer(flock: Flock) -> None:
    flock.agent("packer").consumes(Order).calls(make_parcel)
    flock.agent("robot").consumes(Order).calls(make_parcel)
    packers = watch(flock, Parcel, name="packers", from_agents={"packer"})
    outside = watch(flock, Parcel, name="outside", from_agents="external")
    several = watch(flock, Parcel, name="several", from_agents=["packer", "robot"])
    await flock.publish(Order(item="made"))
    await flock.publish(Parcel(item="found"))
    await flock.run_until_idle()
    assert (packers, outside, several) == (["made"], ["found"], ["made", "made"])


async def make_parcel(order: Order) -> Parcel:
    return Parcel(item=order.item)


# ---- the self-trigger rule


async def test_p01_an_agent_does_not_fire_on_what_it_published_itself(flock: Flock) -> None:
    seen: list[str] = []

    @flock.agent("echo").consumes(Order)
    async def echo(order: Order) -> Order:
        seen.append(order.item)
        await flock.publish(Order(item="while running"))
        return Order(item="returned")

    others = watch(flock, Order)
    await flock.publish(Order(item="first"))
    await flock.run_until_idle()
    assert seen == ["first"]
    assert sorted(others) == ["first", "returned", "while running"]


async def test_p01_an_agent_may_ask_for_its_own_artifacts(flock: Flock) -> None:
    @flock.agent("count").consumes(Order, where=lambda order: order.count < 5).prevent_self_trigger(prevent=False)
    async def count(order: Order) -> Order:
        return Order(count=order.count + 1)

    await flock.publish(Order())
    await flock.run_until_idle()
    assert [order.count for order in await flock.store.get_by_type(Order)] == [1, 2, 3, 4, 5]


async def test_p01_two_agents_may_play_ping_pong(flock: Flock) -> None:
    for name in ("ping", "pong"):

        @flock.agent(name).consumes(Order, where=lambda order: order.count < 6)
        async def hit(order: Order, name: str = name) -> Order:
            return Order(item=name, count=order.count + 1)

    await flock.publish(Order(item="external", count=0), tags=["x"])
    await flock.run_until_idle()
    assert max(order.count for order in await flock.store.get_by_type(Order)) == 6


# ---- modes


async def test_p01_a_direct_agent_does_not_fire_on_events(flock: Flock) -> None:
    seen = watch(flock, Order, mode="direct")
    await flock.publish(Order(item="event"))
    await flock.run_until_idle()
    assert seen == []
    await flock.invoke("watch", Order(item="direct"))
    assert seen == ["direct"]


async def test_p01_an_events_agent_can_not_be_invoked(flock: Flock) -> None:
    seen = watch(flock, Order, mode="events")
    with pytest.raises(ConfigurationError, match="can't be invoked"):
        await flock.invoke("watch", Order())
    assert await flock.store.list() == []
    await flock.publish(Order(item="event"))
    await flock.run_until_idle()
    assert seen == ["event"]


async def test_p01_by_default_an_agent_does_both(flock: Flock) -> None:
    seen = watch(flock, Order)
    await flock.publish(Order(item="event"))
    await flock.run_until_idle()
    await flock.invoke("watch", Order(item="direct"))
    assert seen == ["event", "direct"]


async def test_p01_an_invocation_goes_past_gates_and_predicates_and_fires_every_other_agent(flock: Flock) -> None:
    fired: list[str] = []

    @flock.agent("pack").consumes(Order, Payment, where=lambda _: False, batch=BatchSpec(size=7))
    async def pack(inputs: EvalInputs, ctx: Context) -> Parcel:
        fired.append(ctx.trigger)
        return Parcel(item=inputs.artifacts[0].payload.item)

    others = watch(flock, Order)
    parcels = watch(flock, Parcel, name="parcels")
    (parcel,) = await flock.invoke("pack", Order(item="one"))
    assert parcel.payload == Parcel(item="one")
    await flock.run_until_idle()
    assert fired == ["direct"]
    assert (others, parcels) == (["one"], ["one"])
    assert (await flock.run_until_idle()).waiting == ()


async def test_p01_invoking_with_an_artifact_of_the_board_does_not_publish_it_again(flock: Flock) -> None:
    others = watch(flock, Order)
    flock.agent("pack").consumes(Order, mode="direct").calls(make_parcel)
    order = await flock.publish(Order())
    await flock.run_until_idle()
    await flock.invoke("pack", order)
    await flock.run_until_idle()
    assert others == ["pen"]
    assert len(await flock.store.query(Order)) == 1


async def test_p01_an_unknown_agent_is_an_error_that_lists_the_known_ones(flock: Flock) -> None:
    watch(flock, Order)
    with pytest.raises(ConfigurationError, match="no agent named 'nobody'; known agents: watch"):
        await flock.invoke("nobody", Order())
    assert await flock.store.list() == []


# ---- agents come and go


async def test_p01_a_late_agent_with_replay_sees_earlier_artifacts(flock: Flock) -> None:
    await flock.publish_many([Order(item="a"), Payment(item="x"), Order(item="b")])
    plain = watch(flock, Order, name="plain")
    replayed = watch(flock, Order, name="replayed", replay=True)
    chosen = watch(flock, Order, name="chosen", replay=True, where=asks(lambda order: order.item == "b"))
    await flock.publish(Order(item="c"))
    await flock.run_until_idle()
    assert plain == ["c"]
    assert sorted(replayed) == ["a", "b", "c"]
    assert sorted(chosen) == ["b"]


async def test_p01_replay_fills_gates_within_their_runs(flock: Flock) -> None:
    await flock.publish(Order(item="a"), correlation_id="one")
    await flock.publish(Order(item="b"), correlation_id="two")
    await flock.publish(Payment(item="x"), correlation_id="two")
    fired = watch(flock, Order, Payment, replay=True)
    report = await flock.run_until_idle()
    assert fired == ["b", "x"]
    assert [each.run for each in report.waiting] == ["one"]


async def test_p01_a_predicate_that_raises_on_replay_is_a_failure_too(flock: Flock) -> None:
    order = await flock.publish(Order())
    watch(flock, Order, replay=True, where=asks(lambda it: it.nothing))
    report = await flock.run_until_idle()
    assert [failure.inputs for failure in report.failures] == [(order.id,)]


async def test_p01_replay_leaves_cancelled_runs_alone(flock: Flock) -> None:
    await flock.publish(Order(item="a"), correlation_id="one")
    await flock.publish(Order(item="b"), correlation_id="two")
    await flock.cancel("one")
    seen = watch(flock, Order, replay=True)
    await flock.run_until_idle()
    assert seen == ["b"]


async def test_p01_replay_happens_once_however_the_agent_was_registered(flock: Flock) -> None:
    await flock.publish(Order(item="a"))
    seen = watch(flock, Order, replay=True)
    assert set(flock.agents) == {"watch"}
    await flock.publish(Order(item="b"))
    await flock.run_until_idle()
    assert sorted(seen) == ["a", "b"]


async def test_p01_what_is_published_while_an_agent_arrives_reaches_it_once(flock: Flock) -> None:
    gate = asyncio.Event()

    @flock.agent
    async def make(payment: Payment) -> Order:
        await gate.wait()
        return Order(item="made")

    await flock.publish(Payment())
    seen = watch(flock, Order, replay=True)
    assert "watch" in flock.agents
    gate.set()
    assert await flock.run_until(Until.exists(Order))
    await flock.ready()
    await flock.run_until_idle()
    assert seen == ["made"]


async def test_p01_a_late_agent_with_a_schedule_ticks_however_it_was_registered(flock: Flock, clock: FakeClock) -> None:
    await flock.ready()
    ticks: list[int] = []

    @flock.agent("clockwork").schedule(every=10)
    async def tick(ctx: Context) -> None:
        ticks.append(ctx.iteration)

    assert "clockwork" in flock.agents
    await flock.ready()
    await clock.advance(25)
    assert ticks == [1, 2]


async def test_p01_a_removed_agent_fires_no_more_and_its_name_is_free(flock: Flock) -> None:
    first = watch(flock, Order)
    await flock.publish(Order(item="a"))
    await flock.run_until_idle()
    flock.remove_agent("watch")
    await flock.publish(Order(item="b"))
    await flock.run_until_idle()
    second = watch(flock, Order)
    await flock.publish(Order(item="c"))
    await flock.run_until_idle()
    assert (first, second) == (["a"], ["c"])


async def test_p01_agents_may_be_added_by_agents(flock: Flock) -> None:
    seen: list[str] = []

    @flock.agent
    async def hire(order: Order) -> Parcel:
        seen.extend(watch(flock, Parcel))
        return Parcel(item=order.item)

    await flock.publish(Order())
    await flock.run_until_idle()
    assert "watch" in flock.agents


async def test_p01_replay_of_a_delayed_artifact_waits_for_its_time(flock: Flock, clock: FakeClock) -> None:
    await flock.publish(Order(item="later"), visibility=AfterVisibility(ttl=timedelta(seconds=60)))
    seen = watch(flock, Order, replay=True)
    await flock.run_until_idle()
    assert seen == []
    await clock.advance(61)
    assert seen == ["later"]


# ---- what an agent declares to publish


async def test_p01_publishes_tags_are_on_every_output_besides_the_engines_own(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order).publishes(Parcel, tags={"made"})
    async def pack(order: Order) -> EvalResult:
        from_engine = EvalResult.from_objects(Parcel(item="plain"))
        from_engine.artifacts.append(type(from_engine.artifacts[0])(Parcel(item="tagged"), tags=["own"]))
        return from_engine

    await flock.publish(Order(), tags=["input"])
    await flock.run_until_idle()
    assert [parcel.tags for parcel in await flock.store.query(Parcel)] == [{"made"}, {"made", "own"}]


async def test_p01_outputs_take_the_partition_key_that_all_inputs_share(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order, Payment)
    async def pack(order: Order, payment: Payment) -> Parcel:
        return Parcel(item=order.item)

    stories = [("same", "eu", "eu"), ("different", "eu", "us"), ("one", "eu", None), ("none", None, None)]
    for item, first, second in stories:
        await flock.publish(Order(item=item), partition_key=first)
        await flock.publish(Payment(), partition_key=second)
        await flock.run_until_idle()
    found = {parcel.payload.item: parcel.partition_key for parcel in await flock.store.query(Parcel)}
    assert found == {"same": "eu", "different": None, "one": None, "none": None}


async def test_p01_several_publishes_are_several_evaluations(flock: Flock) -> None:
    groups: list[tuple[type[BaseModel], ...]] = []

    class Maker(Engine):
        @override
        async def evaluate(
            self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup
        ) -> list[BaseModel]:
            groups.append(output_group.types)
            return [kind() for kind in output_group.types]

    flock.agent("make").consumes(Order).publishes(Parcel, Label).publishes(Payment).with_engines(Maker())
    await flock.publish(Order())
    await flock.run_until_idle()
    assert groups == [(Parcel, Label), (Payment,)]
    assert [type(each.payload).__name__ for each in await flock.store.list()] == ["Order", "Parcel", "Label", "Payment"]


async def test_p01_a_repeated_output_type_is_a_count_for_engines_that_generate(clock: FakeClock) -> None:
    async with Flock("test", clock=clock) as flock:
        flock.agent("three").consumes(Order).publishes(Parcel, Parcel, Parcel)
        flock.agent("fixed").consumes(Order).publishes(Label, fan_out=4)
        flock.agent("ranged").consumes(Order).publishes(Payment, fan_out=(2, 5))
        await flock.publish(Order())
        assert (await flock.run_until_idle()).failures == ()
        counts = [len(await flock.store.query(kind)) for kind in (Parcel, Label, Payment)]
    assert counts == [3, 4, 2]


@pytest.mark.parametrize(("fan_out", "made", "good"), [
    (2, 2, True), (2, 1, False), (2, 3, False), ((0, 2), 0, True), ((0, 2), 2, True), ((0, 2), 3, False),
    ((1, 1), 1, True), ((1, 1), 0, False), (FanOut(2, 3), 3, True), (FanOut(2, 3), 4, False),
])  # fmt: skip
async def test_p01_fan_out_bounds_what_one_evaluation_makes(flock: Flock, fan_out: Any, made: int, good: bool) -> None:  # noqa: FBT001
    @flock.agent("pack").consumes(Order).publishes(Parcel, fan_out=fan_out)
    async def pack(order: Order) -> list[Parcel]:
        return [Parcel() for _ in range(made)]

    await flock.publish(Order())
    report = await flock.run_until_idle()
    assert [failure.error_type for failure in report.failures] == ([] if good else ["OutputError"])
    assert len(await flock.store.query(Parcel)) == (made if good else 0)


async def test_p01_fan_out_holds_before_where_leaves_outputs_out(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order).publishes(Parcel, fan_out=3, where=lambda parcel: parcel.item != "b")
    async def pack(order: Order) -> list[Parcel]:
        return [Parcel(item=item) for item in "abc"]

    await flock.publish(Order())
    assert (await flock.run_until_idle()).failures == ()
    assert [parcel.item for parcel in await flock.store.get_by_type(Parcel)] == ["a", "c"]


async def test_p01_no_output_is_allowed_unless_fan_out_says_otherwise(flock: Flock) -> None:
    @flock.agent("lazy").consumes(Order).publishes(Parcel)
    async def lazy(order: Order) -> None: ...

    await flock.publish(Order())
    assert (await flock.run_until_idle()).failures == ()


async def test_p01_a_subclass_of_a_declared_output_is_fine_and_counts(flock: Flock) -> None:
    @flock.agent("make").consumes(Payment).publishes(Order, fan_out=2)
    async def make(payment: Payment) -> list[Order]:
        return [Order(), Rush()]

    await flock.publish(Payment())
    assert (await flock.run_until_idle()).failures == ()
    assert [type(order) for order in await flock.store.get_by_type(Order)] == [Order, Rush]


# ---- names


def test_p01_a_name_is_reserved_at_once() -> None:
    flock = Flock()
    flock.agent("pack")
    with pytest.raises(ConfigurationError, match="an agent named 'pack' already"):
        flock.agent("pack")
    with pytest.raises(ConfigurationError, match="'make_parcel' already"):
        flock.agent(flock.agent(make_parcel))


async def test_p01_a_registered_name_is_taken(flock: Flock) -> None:
    watch(flock, Order)
    await flock.ready()
    with pytest.raises(ConfigurationError, match="an agent named 'watch' already"):
        flock.agent("watch")


def test_p01_modules_that_declare_one_name_twice_are_refused() -> None:
    module = types.ModuleType("shop")
    vars(module)["first"] = agent("pack").consumes(Order).calls(make_parcel)
    vars(module)["second"] = agent("pack").consumes(Rush).calls(make_parcel)
    with pytest.raises(ConfigurationError, match="an agent named 'pack' already"):
        Flock().include(module)


async def test_p01_include_registers_what_a_module_declares(flock: Flock) -> None:
    module = types.ModuleType("shop")
    vars(module)["pack"] = agent(make_parcel)
    vars(module)["label"] = agent("label").consumes(Parcel).calls(make_label)
    vars(module)["other"] = make_label
    flock.include(module)
    assert set(flock.agents) == {"make_parcel", "label"}
    assert await flock.ask(Order(item="ink"), Label) == Label(text="ink")


async def make_label(parcel: Parcel) -> Label:
    return Label(text=parcel.item)


def test_p01_including_a_module_without_agents_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="declares no agents"):
        Flock().include(types.ModuleType("empty"))


@pytest.mark.parametrize("name", ["", " ", None])
def test_p01_an_agent_needs_a_name(name: Any) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        Flock().agent(name)


# ---- what can never work is refused

Declare = Callable[[Any], Any]

NONSENSE: dict[str, tuple[Declare, str]] = {
    "consumes nothing": (lambda a: a.consumes(), "at least one type"),
    "consumes no model": (lambda a: a.consumes(int), "pydantic models"),
    "consumes an instance": (lambda a: a.consumes(Order()), "pydantic models"),
    "where is no function": (lambda a: a.consumes(Order, where="item"), "where="),
    "one where is no function": (lambda a: a.consumes(Order, where=[bool, 3]), "where="),
    "tags are numbers": (lambda a: a.consumes(Order, tags=[1]), "tags"),
    "tags is a number": (lambda a: a.consumes(Order, tags=1), "tags"),
    "from_agents is a number": (lambda a: a.consumes(Order, from_agents=1), "from_agents"),
    "join is a function": (lambda a: a.consumes(Order, Payment, join=len), "join="),
    "batch is a number": (lambda a: a.consumes(Order, batch=3), "batch="),
    "when is a function": (lambda a: a.consumes(Order, when=len), "when="),
    "when without a bound": (lambda a: a.consumes(Order, when=When.count(Order)), "when="),
    "unknown mode": (lambda a: a.consumes(Order, mode="maybe"), "mode="),
    "semantic match": (lambda a: a.consumes(Order, semantic_match="pens"), "semantic_match"),
    "publishes nothing": (lambda a: a.publishes(), "at least one type"),
    "publishes no model": (lambda a: a.publishes(str), "pydantic models"),
    "publishes where": (lambda a: a.publishes(Order, where=3), "where="),
    "validate": (lambda a: a.publishes(Order, validate=3), "validate="),
    "validate pair": (lambda a: a.publishes(Order, validate=[(3, "text")]), "validate="),
    "output tags": (lambda a: a.publishes(Order, tags=[1]), "tags"),
    "calls no function": (lambda a: a.calls(3), "calls"),
    "no engine": (lambda a: a.with_engines(object()), "no engine"),
    "score": (lambda a: a.best_of(2, score=3), "score="),
    "labels": (lambda a: a.labels(1), "labels"),
    "retry on no exception": (lambda a: a.retry(2, on=int), "on="),
    "retry on cancellation": (lambda a: a.retry(2, on=asyncio.CancelledError), "on="),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_p01_a_bad_argument_raises_in_its_own_call(case: str) -> None:
    declare, words = NONSENSE[case]
    with pytest.raises(ConfigurationError, match=words):
        declare(Flock().agent("pack"))


NUMBERS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "best_of": lambda a: a.best_of,
    "max_concurrency": lambda a: a.max_concurrency,
    "retry": lambda a: a.retry,
    "timeout": lambda a: a.timeout,
    "fan_out": lambda a: lambda n: a.publishes(Parcel, fan_out=n),
    "every": lambda a: lambda n: a.schedule(every=n),
    "max_repeats": lambda a: lambda n: a.schedule(every=1, max_repeats=n),
    "size": lambda _: lambda n: BatchSpec(size=n),
    "BatchSpec.timeout": lambda _: lambda n: BatchSpec(timeout=n),
    "within": lambda _: lambda n: JoinSpec(by=len, within=n),
    "max_depth": lambda _: lambda n: Flock(max_depth=n),
    "max_activations": lambda _: lambda n: Flock(max_activations=n),
    "Flock max_concurrency": lambda _: lambda n: Flock(max_concurrency=n),
    "max_pending": lambda _: lambda n: Flock(max_pending=n),
    "capacity": lambda _: lambda n: Flock().events(capacity=n),
}


@pytest.mark.parametrize("number", [0, -1, True, "3", float("nan")], ids=repr)
@pytest.mark.parametrize("case", NUMBERS)
def test_p01_zero_negative_and_odd_numbers_are_refused(case: str, number: Any) -> None:
    with pytest.raises(ConfigurationError):
        NUMBERS[case](Flock().agent("pack"))(number)


@pytest.mark.parametrize("fan_out", [(2, 1), (-1, 1), (0, 0), (1,), (1, 2, 3), ("1", 2), (True, 2), 1.5], ids=repr)
def test_p01_fan_out_ranges_must_be_possible(fan_out: Any) -> None:
    with pytest.raises(ConfigurationError, match="fan_out"):
        Flock().agent("pack").publishes(Parcel, fan_out=fan_out)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1), (0, 0)])
def test_p01_a_fan_out_that_can_never_hold_is_refused_when_built(low: int, high: int) -> None:
    with pytest.raises(ConfigurationError, match="fan_out"):
        FanOut(low, high)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"every": 5, "cron": "* * * * *"},
        {"cron": "nonsense"},
        {"cron": ""},
        {"cron": "* * * *"},
        {"cron": "* * * * * *"},
        {"cron": "61 * * * *"},
        {"cron": "* 25 * * *"},
        {"cron": "* * 0 * *"},
        {"cron": "* * * 13 *"},
        {"cron": "*/0 * * * *"},
        {"cron": "5-1 * * * *"},
        {"cron": "0 0 30 2 *"},
        {"cron": "@fortnightly"},
        {"cron": 5},
        {"every": -1},
        {"every": timedelta(0)},
        {"every": "soon"},
        {"every": 5, "after": -1},
        {"at": "25:00"},
        {"at": "tomorrow"},
        {"at": 5},
        {"at": time(9, tzinfo=UTC)},
        {"at": datetime(2030, 1, 1, tzinfo=UTC), "after": 3},
        {"every": 5, "tz": "Mars/Olympus"},
        {"every": 5, "tz": ""},
        {"every": 5, "tz": None},
    ],
    ids=repr,
)
def test_p01_schedule_nonsense_is_refused_when_built(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Flock().agent("clockwork").schedule(**options)


def test_p01_a_schedule_spec_checks_itself() -> None:
    with pytest.raises(ConfigurationError):
        ScheduleSpec()


COMBINATIONS: dict[str, tuple[Declare, str]] = {
    "no engine": (lambda a: a.consumes(Order), "no engine"),
    "function and engine": (lambda a: a.consumes(Order).calls(make_parcel).with_engines(Engine()), "choose one"),
    "two of one name": (
        lambda a: a.consumes(Order, name="x").consumes(Payment, name="x").calls(asks(lambda _: None)),
        "two subscriptions named 'x'",
    ),
    "replay of direct": (
        lambda a: a.consumes(Order, mode="direct", replay=True).calls(make_parcel),
        "replay=True means nothing",
    ),
    "join of one": (
        lambda a: a.consumes(Order, join=JoinSpec(by=len, within=1)).calls(make_parcel),
        "two artifacts or more",
    ),
    "unfillable": (lambda a: a.consumes(Payment).calls(make_parcel), "can never fill the parameter 'order'"),
    "unknown model": (lambda a: a.consumes(Order).model("openai:gpt-5"), "flock-board\\[llm\\]"),
}


@pytest.mark.parametrize("case", COMBINATIONS)
async def test_p01_a_bad_combination_raises_at_the_next_operation(flock: Flock, case: str) -> None:
    declare, words = COMBINATIONS[case]
    declare(flock.agent("pack"))
    with pytest.raises(ConfigurationError, match=words):
        await flock.publish(Order())
    assert await flock.store.list() == []
    await flock.publish(Order())
    assert "pack" not in flock.agents


async def test_p01_a_registered_agent_can_not_be_changed(flock: Flock) -> None:
    builder = flock.agent("pack").consumes(Order).calls(make_parcel)
    await flock.ready()
    with pytest.raises(ConfigurationError, match="'pack' is registered"):
        builder.consumes(Payment)
    with pytest.raises(ConfigurationError, match="'pack' is registered"):
        builder.max_concurrency(2)


def test_p01_an_unknown_model_of_the_flock_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs an LLM engine"):
        Flock("openai:gpt-5")


@pytest.mark.parametrize("url", ["memory://?keep_runs=-1", "memory://?keep_runs=x", "memory://?keep=1", "redis://", ""])
def test_p01_a_store_that_does_not_exist_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Flock(store=url)


@pytest.mark.parametrize("component", [3, "logger", AgentComponent], ids=repr)
def test_p01_utilities_are_components(component: Any) -> None:
    with pytest.raises(ConfigurationError, match="with_utilities"):
        Flock().agent("pack").with_utilities(component)
