"""P7: surplus waits, and what is given up is an event, a counter and, where work was lost, a Failure."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import NumberDataPoint
from pydantic import BaseModel, ConfigDict

from flock import BatchSpec, ConfigurationError, EvalInputs, Event, Failure, Flock, JoinSpec, Until, When
from flock.testing import FakeClock
from flock.tracing import setup


class Order(BaseModel):
    item: str = "pen"
    key: Any = None


class Payment(BaseModel):
    item: str = "pen"
    key: Any = None


class Parcel(BaseModel):
    item: str = "pen"


class Colour(Enum):
    RED = 1


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    number: int = 0


def asks(predicate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Tell type checkers what a lambda among options is."""
    return predicate


class Watched:
    """A board together with what its observers and counters saw."""

    def __init__(self, flock: Flock, events: Sequence[Event], dropped: Callable[[], dict[str, float]]) -> None:
        self.flock = flock
        self._events = events
        self.dropped = dropped

    def events(self, kind: str) -> list[Event]:
        return [event for event in self._events if event.kind == kind]

    async def failures(self) -> list[Failure]:
        return list(await self.flock.store.get_by_type(Failure))


@pytest.fixture
async def watched(clock: FakeClock) -> AsyncIterator[Watched]:
    events: list[Event] = []
    with setup(memory=True) as tracing:

        def dropped() -> dict[str, float]:
            points = tracing.metrics().get("flock.artifacts.dropped", ())
            return {
                str((point.attributes or {}).get("flock.reason", "")): float(point.value)
                for point in points
                if isinstance(point, NumberDataPoint)
            }

        async with Flock(clock=clock, observers=[events.append]) as flock:
            yield Watched(flock, events, dropped)


def told(watched: Watched, kind: str, artifact: str, agent: str) -> Event:
    """Expect one event of a kind, about this artifact and agent, and a counter that moved."""
    (event,) = watched.events(kind)
    assert event.agent == agent
    assert event.artifacts == (artifact,)
    assert sum(watched.dropped().values()) == 1
    return event


# ---- surplus


async def test_p07_surplus_inputs_wait_for_the_next_completion_in_order(flock: Flock) -> None:
    fired: list[tuple[str, str]] = []

    @flock.agent
    async def pack(order: Order, payment: Payment) -> None:
        fired.append((order.item, payment.item))

    for item in "abc":
        await flock.publish(Order(item=item))
    for item in "xy":
        await flock.publish(Payment(item=item))
    report = await flock.run_until_idle()
    assert fired == [("a", "x"), ("b", "y")]
    assert [(each.reason, each.detail) for each in report.waiting] == [("gate", "holds 1 of 1 Order, 0 of 1 Payment")]
    await flock.publish(Payment(item="z"))
    await flock.run_until_idle()
    assert fired[2:] == [("c", "z")]


async def test_p07_surplus_of_counts_waits_too(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("pack").consumes(Order, Order, Payment)
    async def pack(inputs: EvalInputs) -> None:
        fired.append([artifact.payload.item for artifact in inputs.artifacts])

    await flock.publish_many([Order(item="a"), Payment(item="x"), Payment(item="y"), Order(item="b"), Order(item="c")])
    await flock.run_until_idle()
    assert fired == [["a", "b", "x"]]
    await flock.publish(Order(item="d"))
    await flock.run_until_idle()
    assert fired[1:] == [["c", "d", "y"]]


async def test_p07_surplus_of_one_commit_completes_several_gates_at_once(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("pack").consumes(Order, Order).max_concurrency(1)
    async def pack(orders: list[Order]) -> None:
        fired.append([order.item for order in orders])

    await flock.publish_many([Order(item=item) for item in "abcde"])
    await flock.run_until_idle()
    assert fired == [["a", "b"], ["c", "d"]]


async def test_p07_surplus_of_a_join_waits_per_key(flock: Flock) -> None:
    fired: list[list[str]] = []

    join = JoinSpec(by=lambda it: it.key, within=timedelta(hours=1))

    @flock.agent("pack").consumes(Order, Payment, join=join).max_concurrency(1)
    async def pack(order: Order, payment: Payment) -> None:
        fired.append([order.item, payment.item])

    await flock.publish_many([Order(item="a", key=1), Order(item="b", key=1), Order(item="c", key=2)])
    await flock.publish_many([Payment(item="x", key=2), Payment(item="y", key=1), Payment(item="z", key=1)])
    await flock.run_until_idle()
    assert fired == [["c", "x"], ["a", "y"], ["b", "z"]]


async def test_p07_when_keeps_what_it_holds_back_and_fires_each_by_itself(flock: Flock) -> None:
    fired: list[str] = []

    @flock.agent("pack").consumes(Order, when=When.count(Payment).at_least(2)).max_concurrency(1)
    async def pack(order: Order) -> None:
        fired.append(order.item)

    await flock.publish_many([Order(item="a"), Order(item="b"), Payment()])
    report = await flock.run_until_idle()
    assert fired == []
    assert [(each.reason, len(each.artifacts)) for each in report.waiting] == [("when", 2)]
    await flock.publish(Payment())
    await flock.publish(Order(item="c"))
    assert (await flock.run_until_idle()).waiting == ()
    assert fired == ["a", "b", "c"]


CONDITIONS: dict[str, tuple[Any, str]] = {
    "count at least": (When.count(Payment).at_least(2), "xx|"),
    "count exactly": (When.count(Payment).exactly(1), "x|"),
    "exists": (When.exists(Payment), "x|"),
    "any field": (When.any_field(Payment, "item", lambda item: item == "gold"), "xg|"),
    "both": (When.exists(Payment) & When.exists(Parcel), "xp|"),
    "either": (When.exists(Parcel) | When.count(Payment).at_least(2), "p|"),
    "not and": (~When.exists(Parcel) & When.exists(Payment), "x|"),
    "filters": (When.exists(Payment, where=asks(lambda payment: payment.item == "gold")), "xxg|"),
    "tags": (When.exists(Payment, tags={"gold"}), "xt|"),
}


@pytest.mark.parametrize("name", CONDITIONS)
async def test_p07_when_holds_until_its_condition_is_true_and_not_longer(flock: Flock, name: str) -> None:
    condition, story = CONDITIONS[name]
    fired: list[str] = []

    @flock.agent("pack").consumes(Order, when=condition)
    async def pack(order: Order) -> None:
        fired.append(order.item)

    await flock.publish(Order())
    for event in story[:-1]:
        await flock.run_until_idle()
        assert fired == []
        match event:
            case "g":
                await flock.publish(Payment(item="gold"))
            case "t":
                await flock.publish(Payment(), tags=["gold"])
            case "p":
                await flock.publish(Parcel())
            case _:
                await flock.publish(Payment())
    await flock.run_until_idle()
    assert fired == ["pen"]


async def test_p07_a_partial_batch_is_reported_and_kept(flock: Flock) -> None:
    @flock.agent("ship").consumes(Order, batch=BatchSpec(size=3))
    async def ship(orders: list[Order]) -> Parcel:
        return Parcel(item=",".join(order.item for order in orders))

    await flock.publish_many([Order(item="a"), Order(item="b")])
    (waiting,) = (await flock.run_until_idle()).waiting
    assert (waiting.agent, waiting.reason, waiting.detail) == ("ship", "batch", "holds 2 of 3")
    await flock.publish(Order(item="c"))
    await flock.run_until_idle()
    assert await flock.store.get_by_type(Parcel) == [Parcel(item="a,b,c")]


# ---- what is given up


async def test_p07_an_expired_join_is_an_event_and_a_counter(watched: Watched, clock: FakeClock) -> None:
    join = JoinSpec(by=lambda it: it.item, within=timedelta(minutes=5))

    @watched.flock.agent("pack").consumes(Order, Payment, join=join)
    async def pack(order: Order, payment: Payment) -> None:
        raise AssertionError

    lost = await watched.flock.publish(Order())
    await clock.advance(299)
    assert watched.events("expired") == []
    await clock.advance(2)
    event = told(watched, "expired", lost.id, "pack")
    assert event.run == "default"
    assert watched.dropped() == {"join expired": 1}
    await watched.flock.publish(Payment())
    assert (await watched.flock.run_until_idle()).succeeded == 0


async def test_p07_a_join_over_a_count_expires_loudly_too(watched: Watched) -> None:
    @watched.flock.agent("pack").consumes(Order, Payment, join=JoinSpec(by=lambda it: it.item, within=2))
    async def pack(order: Order, payment: Payment) -> None: ...

    lost = await watched.flock.publish(Order(item="a"))
    await watched.flock.publish(Order(item="b"))
    await watched.flock.publish(Order(item="c"))
    assert watched.events("expired") == []
    await watched.flock.publish(Order(item="d"))
    told(watched, "expired", lost.id, "pack")


def raising(_: object) -> bool:
    message = "no idea"
    raise RuntimeError(message)


RAISING: dict[str, dict[str, Any]] = {
    "where": {"where": raising},
    "one of several": {"where": [asks(lambda _: True), raising]},
    "join key": {"join": JoinSpec(by=raising, within=3)},
    "when": {"when": When.count(Order, where=raising).at_least(1)},
}


@pytest.mark.parametrize("kind", RAISING)
async def test_p07_a_predicate_or_key_that_raises_is_an_event_a_counter_and_a_failure(
    watched: Watched, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    @watched.flock.agent("pack").consumes(Order, *([Payment] if "join" in kind else []), **RAISING[kind])
    async def pack(inputs: EvalInputs) -> None: ...

    artifact = await watched.flock.publish(Order(), correlation_id="run-1", tags=["a"])
    await watched.flock.run_until_idle()
    event = told(watched, "dropped", artifact.id, "pack")
    assert event.run == "run-1"
    assert isinstance(event.error, RuntimeError)
    (failure,) = await watched.flock.store.query(Failure)
    assert failure.correlation_id == "run-1"
    assert failure.parents == (artifact.id,)
    assert (failure.payload.agent, failure.payload.error_type, failure.payload.message) == (
        "pack", "RuntimeError", "no idea",
    )  # fmt: skip
    assert failure.payload.inputs == (artifact.id,)
    assert "no idea" in caplog.text
    assert artifact.payload == Order()


async def test_p07_a_predicate_that_raises_disturbs_no_other_subscription(flock: Flock) -> None:
    ran: list[str] = []

    @flock.agent("before").consumes(Order)
    async def before(order: Order) -> None:
        ran.append("before")

    @flock.agent("broken").consumes(Order, where=raising).consumes(Order, where=lambda order: order.item == "pen")
    async def broken(order: Order) -> None:
        ran.append("broken")

    @flock.agent("after").consumes(Order)
    async def after(order: Order) -> None:
        ran.append("after")

    await flock.publish(Order())
    report = await flock.run_until_idle()
    assert sorted(ran) == ["after", "before", "broken"]
    assert len(report.failures) == 1


async def test_p07_a_predicate_that_raises_on_one_artifact_is_asked_about_the_next(flock: Flock) -> None:
    ran: list[str] = []

    @flock.agent("pack").consumes(Order, where=lambda order: len(order.key) > 0)
    async def pack(order: Order) -> None:
        ran.append(order.item)

    await flock.publish_many([Order(item="a", key=3), Order(item="b", key="ok")])
    report = await flock.run_until_idle()
    assert ran == ["b"]
    assert [failure.error_type for failure in report.failures] == ["TypeError"]


async def test_p07_a_failure_that_a_predicate_raises_on_makes_no_new_failure(watched: Watched) -> None:
    @watched.flock.agent("handle").consumes(Failure, where=raising)
    async def handle(failure: Failure) -> None: ...

    @watched.flock.agent
    async def pack(order: Order) -> None:
        raise ValueError("no paper")

    await watched.flock.publish(Order())
    await watched.flock.run_until_idle()
    assert [failure.error_type for failure in await watched.failures()] == ["ValueError"]
    (event,) = watched.events("dropped")
    assert event.agent == "handle"


ODD_KEYS: dict[str, object] = {
    "list": [1],
    "dict": {},
    "None": None,
    "float": 1.5,
    "bytes": b"1",
    "model": Frozen(),
    "timedelta": timedelta(1),
    "list in a tuple": (1, [2]),
}


@pytest.mark.memory
@pytest.mark.parametrize("kind", ODD_KEYS)
async def test_p07_a_join_key_that_no_store_can_keep_is_the_same_failure(flock: Flock, kind: str) -> None:
    @flock.agent("pack").consumes(Order, Payment, join=JoinSpec(by=lambda it: it.key, within=3))
    async def pack(order: Order, payment: Payment) -> None: ...

    await flock.publish(Order(key=ODD_KEYS[kind]))
    report = await flock.run_until_idle()
    assert [failure.error_type for failure in report.failures] == ["TypeError"]
    assert "join key" in report.failures[0].message
    assert report.waiting == ()


GOOD_KEYS: list[tuple[object, object]] = [
    ("a", "a"),
    (1, 1),
    (True, True),
    (Colour.RED, Colour.RED),
    (date(2026, 1, 1), date(2026, 1, 1)),
    (datetime.fromisoformat("2026-01-01T12:00+00:00"), datetime.fromisoformat("2026-01-01T13:00+01:00")),
    (uuid.UUID(int=1), uuid.UUID(int=1)),
    ((1, "a", (True,)), (1, "a", (True,))),
    ((), ()),
]


@pytest.mark.memory
@pytest.mark.parametrize(("one", "two"), GOOD_KEYS, ids=repr)
async def test_p07_equal_keys_meet(flock: Flock, one: object, two: object) -> None:
    @flock.agent("pack").consumes(Order, Payment, join=JoinSpec(by=lambda it: it.key, within=3))
    async def pack(order: Order, payment: Payment) -> None: ...

    await flock.publish_many([Order(key=one), Payment(key=two)])
    assert (await flock.run_until_idle()).succeeded == 1


OTHER_KEYS: list[tuple[object, object]] = [(1, True), (1, "1"), (0, False), ("a", ("a",)), (("a", "b"), ("ab",))]


@pytest.mark.memory
@pytest.mark.parametrize(("one", "two"), OTHER_KEYS, ids=repr)
async def test_p07_keys_of_different_kinds_never_meet(flock: Flock, one: object, two: object) -> None:
    @flock.agent("pack").consumes(Order, Payment, join=JoinSpec(by=lambda it: it.key, within=3))
    async def pack(order: Order, payment: Payment) -> None: ...

    await flock.publish_many([Order(key=one), Payment(key=two)])
    report = await flock.run_until_idle()
    assert (report.succeeded, len(report.waiting)) == (0, 2)


# ---- rejected outputs


async def test_p07_an_output_that_publishes_where_leaves_out_is_an_event_and_a_counter(watched: Watched) -> None:
    @watched.flock.agent("pack").consumes(Order).publishes(Parcel, where=lambda parcel: parcel.item != "b")
    async def pack(order: Order) -> list[Parcel]:
        return [Parcel(item=item) for item in "abc"]

    await watched.flock.publish(Order(), correlation_id="run-1")
    report = await watched.flock.run_until_idle()
    assert [parcel.item for parcel in await watched.flock.store.get_by_type(Parcel)] == ["a", "c"]
    assert (report.succeeded, report.failures) == (1, ())
    (event,) = watched.events("dropped")
    assert (event.agent, event.run) == ("pack", "run-1")
    assert "Parcel" in event.reason
    assert sum(watched.dropped().values()) == 1


REJECTED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "invalid": ({"validate": asks(lambda parcel: parcel.item != "bad")}, Parcel(item="bad"), "invalid Parcel"),
    "invalid, with a message": ({"validate": [(asks(lambda _: False), "never good")]}, Parcel(), "never good"),
    "one of several checks": ({"validate": [asks(lambda _: True), asks(lambda _: False)]}, Parcel(), "invalid Parcel"),
    "undeclared type": ({}, Payment(), "returned Payment, which it does not declare; declared: Parcel"),
    "too few": ({"fan_out": 2}, Parcel(), "made 1 of Parcel; fan_out asks for 2"),
    "too many": ({"fan_out": (0, 1)}, [Parcel(), Parcel()], "made 2 of Parcel; fan_out asks for 0 to 1"),
    "none of at least one": ({"fan_out": (1, 3)}, None, "made 0 of Parcel; fan_out asks for 1 to 3"),
    "no model": ({}, "parcel", "not str"),
    "no model in a list": ({}, [Parcel(), 3], "a list with a int"),
    "a dict": ({}, {"item": "pen"}, "not dict"),
    "where raises": ({"where": raising}, Parcel(), "no idea"),
    "validate raises": ({"validate": raising}, Parcel(), "no idea"),
    "visibility raises": ({"visibility": raising}, Parcel(), "no idea"),
    "visibility is none": ({"visibility": asks(lambda _: "public")}, Parcel(), "no Visibility"),
}


@pytest.mark.parametrize("kind", REJECTED)
async def test_p07_an_output_that_breaks_the_declaration_is_a_failure_and_publishes_nothing(
    watched: Watched, kind: str
) -> None:
    options, output, words = REJECTED[kind]

    @watched.flock.agent("pack").consumes(Order).publishes(Parcel, **options)
    async def pack(inputs: EvalInputs) -> Any:
        return output

    artifact = await watched.flock.publish(Order())
    report = await watched.flock.run_until_idle()
    assert report.failed == 1
    (failure,) = await watched.failures()
    assert words in failure.message
    assert failure.inputs == (artifact.id,)
    (event,) = watched.events("failed")
    assert event.agent == "pack"
    assert len(await watched.flock.store.list()) == 2


async def test_p07_one_bad_output_of_several_publishes_none_of_them(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order).publishes(Parcel, validate=lambda parcel: parcel.item != "c")
    async def pack(order: Order) -> list[Parcel]:
        return [Parcel(item=item) for item in "abc"]

    await flock.publish(Order())
    assert (await flock.run_until_idle()).failed == 1
    assert await flock.store.get_by_type(Parcel) == []


async def test_p07_a_tripped_limit_is_an_event_a_counter_and_a_failure(clock: FakeClock) -> None:
    events: list[Event] = []
    with setup(memory=True) as tracing:
        async with Flock(max_depth=3, clock=clock, observers=[events.append]) as flock:

            @flock.agent("echo").consumes(Order).prevent_self_trigger(prevent=False)
            async def echo(order: Order) -> Order:
                return order

            await flock.publish(Order())
            report = await flock.run_until_idle()
        assert tracing.metrics()["flock.artifacts.dropped"]
    assert [failure.error_type for failure in report.failures] == ["LimitExceeded"]
    (event,) = [event for event in events if event.kind == "limited"]
    assert len(event.artifacts) == 1


async def test_p07_observers_and_event_streams_see_the_same(clock: FakeClock) -> None:
    seen: list[Event] = []
    async with Flock(clock=clock, observers=[seen.append]) as flock:
        stream = flock.events()

        @flock.agent("pack").consumes(Order, where=raising)
        async def pack(order: Order) -> None: ...

        await flock.publish(Order())
        await flock.run_until(Until.idle())
    assert [event async for event in stream] == seen
    assert {"dropped", "published"} <= {event.kind for event in seen}


# ---- declarations that can never collect anything are refused


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2"])
def test_p07_a_batch_needs_a_size_above_zero(size: Any) -> None:
    with pytest.raises(ConfigurationError, match="size"):
        BatchSpec(size=size)


@pytest.mark.parametrize("timeout", [0, -1, timedelta(0), timedelta(seconds=-1), True, "1", float("nan"), float("inf")])
def test_p07_a_batch_needs_a_timeout_above_zero(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        BatchSpec(timeout=timeout)


def test_p07_a_batch_needs_a_size_or_a_timeout() -> None:
    with pytest.raises(ConfigurationError, match="size, a timeout or both"):
        BatchSpec()


@pytest.mark.parametrize("within", [0, -1, timedelta(0), timedelta(seconds=-1), True, 1.5, "1", None])
def test_p07_a_join_needs_a_window_above_zero(within: Any) -> None:
    with pytest.raises(ConfigurationError, match="within"):
        JoinSpec(by=lambda it: it.item, within=within)


def test_p07_a_join_needs_a_key_function() -> None:
    odd: Any = "item"
    with pytest.raises(ConfigurationError, match="by="):
        JoinSpec(by=odd, within=1)


async def test_p07_a_join_of_one_artifact_is_refused() -> None:
    flock = Flock("test")
    flock.agent("pack").consumes(Order, join=JoinSpec(by=lambda it: it.item, within=1))
    with pytest.raises(ConfigurationError, match="two artifacts or more"):
        await flock.ready()
