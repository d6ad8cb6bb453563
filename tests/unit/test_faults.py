"""Faults of what surrounds the core: stores that fail, engines that return nonsense, observers that raise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import AgentFailedError, BatchSpec, Context, Engine, EvalInputs, Event, Flock, OutputGroup, StoreError
from flock.model.ledger import Commit, Committed
from flock.ports import AgentInfo
from flock.stores.memory import MemoryStore
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class FailingStore(MemoryStore):
    """Refuses the next `left` commits that `picks` chooses; what it refuses it does not begin."""

    def __init__(self, picks: Callable[[Commit], bool] = bool) -> None:
        super().__init__()
        self.left = 0
        self.refused = 0
        self.picks = picks

    @override
    async def commit(self, commit: Commit) -> Committed:
        if self.left and self.picks(commit):
            self.left -= 1
            self.refused += 1
            raise StoreError("the disk is full")
        return await super().commit(commit)


class ForgetfulStore(MemoryStore):
    """Loses the answer of the next `left` settlements that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    @override
    async def commit(self, commit: Commit) -> Committed:
        committed = await super().commit(commit)
        if self.left and commit.lease is not None:
            self.left -= 1
            raise StoreError("the connection was cut")
        return committed


def settles(commit: Commit) -> bool:
    return commit.settle is not None


async def counts(flock: Flock) -> tuple[int, int]:
    return len(await flock.store.list()), sum(len(each.artifacts) for each in (await flock.run_until_idle()).waiting)


# ---- stores


async def test_a_failing_commit_leaves_board_and_collectors_unchanged_and_tells_the_caller() -> None:
    store = FailingStore()
    groups: list[list[int]] = []
    async with Flock(store=store) as flock:

        async def ship(order: Order, paid: Paid) -> None:
            groups.append([order.number, paid.number])

        flock.agent("ship").consumes(Order, Paid).calls(ship)
        flock.agent("batch").consumes(Order, batch=BatchSpec(size=5)).calls(lambda _: None)
        await flock.publish(Order(number=1))
        before = await counts(flock)

        store.left = 2
        with pytest.raises(StoreError, match="disk is full"):
            await flock.publish(Order(number=2))
        with pytest.raises(StoreError, match="disk is full"):
            await flock.publish_many([Paid(number=2), Order(number=3)])
        assert await counts(flock) == before

        await flock.publish(Paid(number=9))
        await flock.run_until_idle()
        assert groups == [[1, 9]]


async def test_a_failing_commit_fails_an_invoke_and_nothing_runs() -> None:
    store = FailingStore()
    async with Flock(store=store) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: Parcel())
        await flock.ready()
        store.left = 1
        with pytest.raises(StoreError, match="disk is full"):
            await flock.invoke("packer", Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, await flock.store.list()) == (0, [])


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_settlement_that_the_store_refuses_is_tried_again_without_running_the_body_again(times: int) -> None:
    store, clock = FailingStore(settles), FakeClock()
    bodies: list[int] = []
    async with Flock(store=store, clock=clock) as flock:

        async def pack(order: Order) -> Parcel:
            bodies.append(order.number)
            return Parcel()

        flock.agent("packer").consumes(Order).calls(pack)
        store.left = times
        await flock.publish(Order(number=1))
        report = await flock.run_until_idle()
        assert (bodies, store.refused) == ([1], times)
        assert (report.succeeded, report.failed) == (1, 0)
        assert len(await flock.store.get_by_type(Parcel)) == 1


async def test_a_settlement_whose_answer_was_lost_is_not_done_twice() -> None:
    store, clock = ForgetfulStore(), FakeClock()
    async with Flock(store=store, clock=clock) as flock:

        async def pack(order: Order) -> list[Parcel]:
            return [Parcel(number=1), Parcel(number=2)]

        flock.agent("packer").consumes(Order).calls(pack)
        store.left = 2
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert len(await flock.store.get_by_type(Parcel)) == 2
        assert (report.idle, report.succeeded, report.failed) == (True, 1, 0)


async def test_an_activation_whose_outputs_the_store_never_takes_fails() -> None:
    store, clock = FailingStore(lambda commit: settles(commit) and _makes_parcels(commit)), FakeClock()
    async with Flock(store=store, clock=clock) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: Parcel())
        store.left = 1_000
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [(failure.agent, failure.error_type) for failure in report.failures] == [("packer", "StoreError")]
        assert await flock.store.get_by_type(Parcel) == []


def _makes_parcels(commit: Commit) -> bool:
    return any(isinstance(record.snapshot, Parcel) for record in commit.records)


async def test_a_publish_inside_an_agent_that_the_store_refuses_is_the_agents_to_handle() -> None:
    store = FailingStore(lambda commit: any(isinstance(record.snapshot, Paid) for record in commit.records))
    async with Flock(store=store) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            try:
                await flock.publish(Paid())
            except StoreError:
                return Parcel(number=-1)
            return Parcel()

        store.left = 1
        await flock.publish(Order())
        await flock.run_until_idle()
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=-1)]


# ---- engines


class Gives(Engine):
    """Returns what it was told to."""

    def __init__(self, given: object) -> None:
        self.given = given

    @override
    async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (42, "not int"),
        ("text", "not str"),
        ({"type": "Parcel"}, "not dict"),
        ([Parcel(), 42], "a list with a int"),
        (object(), "not object"),
        (Parcel, "not ModelMetaclass"),
        (iter([Parcel()]), "not list_iterator"),
    ],
)
async def test_an_engine_that_returns_the_wrong_thing_fails_its_activation(given: object, says: str) -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).publishes(Parcel).with_engines(Gives(given))
        await flock.publish(Order())
        (failure,) = (await flock.run_until_idle()).failures
        assert failure.error_type == "OutputError"
        assert says in failure.message


@pytest.mark.parametrize(
    ("fan_out", "made", "well"),
    [(2, 2, True), (2, 1, False), (2, 3, False), ((1, 3), 0, False), ((1, 3), 3, True), ((0, 1), 0, True)],
)
async def test_an_engine_has_to_keep_an_explicit_fan_out(
    fan_out: int | tuple[int, int], made: int, *, well: bool
) -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).publishes(Parcel, fan_out=fan_out).with_engines(Gives([Parcel()] * made))
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ([] if well else ["OutputError"])
        assert len(await flock.store.get_by_type(Parcel)) == (made if well else 0)


@pytest.mark.parametrize("fan_out", [0, -1, True, (2, 1), (0, 0), (-1, 2), 1.5, "two"])
def test_a_fan_out_that_can_never_work_is_refused(fan_out: object) -> None:
    with pytest.raises(ValueError, match="fan_out"):
        Flock().agent("packer").publishes(Parcel, fan_out=fan_out)  # type: ignore[arg-type]


async def test_an_invalid_payload_that_an_agent_builds_is_its_failure() -> None:
    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            return Parcel(number="many")  # type: ignore[arg-type]

        flock.agent("packer").consumes(Order).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["ValidationError"]


async def test_a_raising_validate_where_or_visibility_of_an_output_fails_its_activation() -> None:
    def broken(parcel: Parcel) -> Any:
        raise RuntimeError("broken")

    for declared in ({"validate": broken}, {"where": broken}, {"visibility": broken}):
        async with Flock() as flock:
            flock.agent("packer").consumes(Order).publishes(Parcel, **declared).calls(lambda _: Parcel())  # type: ignore[arg-type]
            await flock.publish(Order())
            report = await flock.run_until_idle()
            assert [failure.message for failure in report.failures] == ["broken"]
            assert await flock.store.get_by_type(Parcel) == []


async def test_an_output_that_does_not_pass_where_is_told() -> None:
    events: list[Event] = []
    async with Flock(observers=[events.append]) as flock:
        flock.agent("packer").consumes(Order).publishes(Parcel, where=lambda parcel: parcel.number > 0).calls(
            lambda _: [Parcel(number=0), Parcel(number=1)]
        )
        await flock.publish(Order())
        await flock.run_until_idle()
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=1)]
        (dropped,) = [event for event in events if event.kind == "dropped"]
        assert dropped.agent == "packer"


# ---- observers and providers


async def test_a_raising_observer_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def broken(event: Event) -> None:
        raise RuntimeError(event.kind)

    async with Flock(observers=[broken, lambda event: seen.append(event.kind)]) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: Parcel())
        with caplog.at_level(logging.ERROR, logger="flock"):
            await flock.publish(Order())
            report = await flock.run_until_idle()
        assert report.succeeded == 1
        assert seen == ["published", "started", "published", "finished"]
        said = [record.getMessage() for record in caplog.records if record.name == "flock"]
        assert said == [f"an observer raised on {kind}" for kind in seen]


async def test_a_raising_context_provider_is_recorded_and_gives_nothing() -> None:
    events: list[Event] = []
    found: list[object] = []
    async with Flock(observers=[events.append]) as flock:

        async def pack(inputs: EvalInputs) -> None:
            found.append(list(inputs.state["context"]))

        flock.agent("packer").consumes(Order).with_context(lambda _: 1 / 0).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, found) == (1, [[]])
        assert [event.reason for event in events if event.kind == "error"] == ["context provider"]


async def test_an_artifact_that_was_published_before_a_fault_can_still_be_asked_for() -> None:
    async with Flock() as flock:
        flock.agent("breaks").consumes(Order).calls(lambda _: 1 / 0)
        with pytest.raises(AgentFailedError):
            await flock.ask(Order(number=3), returns=Parcel)
        assert await flock.store.get_by_type(Order) == [Order(number=3)]
