"""P4: the caller's await returns when the commit is durable, nothing runs before, and an id makes it idempotent."""

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr
from typing_extensions import override

from flock import (
    Artifact,
    BatchSpec,
    Failure,
    Flock,
    JoinSpec,
    PrivateVisibility,
    PublishError,
    RunReport,
    StoreError,
    Until,
    When,
)
from flock.model.ledger import Commit, Committed
from flock.stores.memory import MemoryStore
from flock.testing import FakeClock


class Order(BaseModel):
    item: str = "pen"


class Payment(BaseModel):
    item: str = "pen"


class Parcel(BaseModel):
    item: str


class Reading(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    value: float = math.nan
    _looked_at: int = PrivateAttr(0)

    def look(self) -> Self:
        self._looked_at += 1
        return self


class Moment(BaseModel):
    at: datetime


class Evasive:
    """Gives no truth when it is compared, as arrays do."""

    @override
    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth of several values is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Loose(BaseModel):
    value: Any


class SlowStore(MemoryStore):
    """Holds back commits that bring artifacts, before or after the board has them, until `disk` is set."""

    def __init__(self, *, after: bool = False) -> None:
        super().__init__()
        self.disk = asyncio.Event()
        self._after = after

    @override
    def attend(self, hint: Callable[[], None], unheard: Callable[[Committed], None]) -> None:
        self._unheard = unheard
        super().attend(hint, unheard)

    @override
    async def commit(self, commit: Commit) -> Committed:
        task = asyncio.create_task(self._commit(commit))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda task: self._unheard(task.result()))
            raise

    async def _commit(self, commit: Commit) -> Committed:
        if commit.records and not self._after:
            await self.disk.wait()
        committed = await super().commit(commit)
        if commit.records and self._after:
            await self.disk.wait()
        return committed


class BrokenStore(MemoryStore):
    """Refuses the next commits that bring artifacts, as often as `broken` says."""

    broken = 0

    @override
    async def commit(self, commit: Commit) -> Committed:
        if commit.records and self.broken:
            self.broken -= 1
            raise StoreError("disk full")
        return await super().commit(commit)


async def rounds(number: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_p04_publish_returns_and_agents_run_only_when_the_commit_is_durable(clock: FakeClock) -> None:
    store = SlowStore()
    ran: list[Order] = []
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> None:
            ran.append(order)

        publishing = asyncio.create_task(flock.publish(Order()))
        await rounds()
        assert not publishing.done()
        assert ran == []
        assert await flock.store.list() == []
        store.disk.set()
        artifact = await publishing
        assert await flock.store.get(artifact.id) == artifact
        await flock.run_until_idle()
        assert ran == [Order()]


async def test_p04_publish_many_returns_only_when_the_commit_is_durable(clock: FakeClock) -> None:
    store = SlowStore()
    async with Flock(store=store, clock=clock) as flock:
        publishing = asyncio.create_task(flock.publish_many([Order(), Order()]))
        await rounds()
        assert not publishing.done()
        store.disk.set()
        assert len(await publishing) == 2


async def test_p04_the_next_agent_starts_only_when_the_outputs_are_durable(clock: FakeClock) -> None:
    store = SlowStore()
    store.disk.set()
    packed, sent = asyncio.Event(), asyncio.Event()
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> Parcel:
            store.disk.clear()
            packed.set()
            return Parcel(item=order.item)

        @flock.agent
        async def send(parcel: Parcel) -> None:
            sent.set()

        await flock.publish(Order())
        await packed.wait()
        await rounds()
        assert not sent.is_set()
        assert await flock.store.get_by_type(Parcel) == []
        store.disk.set()
        assert (await flock.run_until_idle()).succeeded == 2
        assert sent.is_set()


async def test_p04_the_board_is_not_idle_while_outputs_are_on_their_way(clock: FakeClock) -> None:
    store = SlowStore()
    store.disk.set()
    packed = asyncio.Event()
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> Parcel:
            store.disk.clear()
            packed.set()
            return Parcel(item=order.item)

        await flock.publish(Order())
        await packed.wait()
        waiting = asyncio.create_task(flock.run_until_idle())
        await rounds()
        assert not waiting.done()
        store.disk.set()
        assert (await waiting).idle


async def test_p04_an_invoker_waits_for_durable_outputs(clock: FakeClock) -> None:
    store = SlowStore()
    store.disk.set()
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> Parcel:
            store.disk.clear()
            return Parcel(item=order.item)

        invoking = asyncio.create_task(flock.invoke(pack, Order()))
        await rounds()
        assert not invoking.done()
        store.disk.set()
        assert [output.payload for output in await invoking] == [Parcel(item="pen")]


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
async def test_p04_a_caller_that_gives_up_while_the_store_is_slow_leaves_nothing_stuck(
    clock: FakeClock, *, after: bool
) -> None:
    store = SlowStore(after=after)
    ran: list[Order] = []
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> None:
            ran.append(order)

        publishing = asyncio.create_task(flock.publish(Order()))
        await rounds()
        publishing.cancel()
        await rounds()
        store.disk.set()
        await asyncio.wait({publishing})
        assert (await flock.run_until_idle(timeout=60)).idle
        assert len(ran) == len(await flock.store.list())


async def test_p04_a_failing_commit_is_told_and_changes_nothing(clock: FakeClock) -> None:
    store = BrokenStore()
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> None: ...

        store.broken = 2
        with pytest.raises(StoreError, match="disk full"):
            await flock.publish(Order(), id="one")
        with pytest.raises(StoreError, match="disk full"):
            await flock.publish_many([Order(), Order()])
        assert await flock.store.list() == []
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed, report.waiting) == (0, 0, ())
        await flock.publish(Order(), id="one")
        assert (await flock.run_until_idle()).succeeded == 1


COLLECTORS: dict[str, dict[str, Any]] = {
    "gate": {},
    "join": {"join": JoinSpec(by=lambda it: it.item, within=timedelta(hours=1))},
    "gate and batch": {"batch": BatchSpec(size=1)},
    "gate and when": {"when": When.exists(Order)},
}


@pytest.mark.parametrize("kind", COLLECTORS)
async def test_p04_a_failing_commit_leaves_collectors_as_they_were(clock: FakeClock, kind: str) -> None:
    store = BrokenStore()
    fired: list[int] = []
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent("pack").consumes(Order, Payment, **COLLECTORS[kind])
        async def pack(inputs: Any = None) -> None:
            fired.append(1)

        await flock.publish(Order())
        before = (await flock.run_until_idle()).waiting
        store.broken = 1
        with pytest.raises(StoreError):
            await flock.publish(Payment())
        assert (await flock.run_until_idle()).waiting == before
        assert fired == []
        await flock.publish(Payment())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.waiting) == (1, ())
        assert fired == [1]


async def test_p04_a_failing_commit_of_outputs_is_tried_again_without_running_the_agent_again(clock: FakeClock) -> None:
    store = BrokenStore()
    ran: list[Order] = []
    async with Flock(store=store, clock=clock) as flock:

        @flock.agent
        async def pack(order: Order) -> Parcel:
            ran.append(order)
            store.broken = 2
            return Parcel(item=order.item)

        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        assert ran == [Order()]
        assert await flock.store.get_by_type(Parcel) == [Parcel(item="pen")]


# ---- publish(..., id=)


AGAIN: dict[str, Any] = {
    "model": Order(),
    "dict": {"type": "Order", "item": "pen"},
    "artifact": Artifact(Order()),
}


@pytest.mark.parametrize("form", AGAIN)
async def test_p04_the_same_id_and_content_give_the_stored_artifact(flock: Flock, form: str) -> None:
    ran: list[Order] = []

    @flock.agent
    async def pack(order: Order) -> None:
        ran.append(order)

    first = await flock.publish(Order(), id="order-1", tags=["urgent"])
    await flock.run_until_idle()
    second = await flock.publish(AGAIN[form], id="order-1", tags=["urgent"])
    await flock.run_until_idle()
    assert second == first
    assert (second.sequence, second.created_at) == (first.sequence, first.created_at)
    assert ran == [Order()]
    assert len(await flock.store.list()) == 1


async def test_p04_publishing_a_stored_artifact_gives_it_back(flock: Flock) -> None:
    first = await flock.publish(Order(), tags=["urgent"], correlation_id="run-1")
    again = await flock.publish(first)
    assert (again.id, again.sequence) == (first.id, first.sequence)
    assert len(await flock.store.list()) == 1


OTHERS: dict[str, Callable[[Flock], Any]] = {
    "payload": lambda flock: flock.publish(Order(item="ink"), id="order-1"),
    "type": lambda flock: flock.publish(Payment(), id="order-1"),
    "tags": lambda flock: flock.publish(Order(), id="order-1", tags=["urgent"]),
    "partition key": lambda flock: flock.publish(Order(), id="order-1", partition_key="eu"),
    "visibility": lambda flock: flock.publish(
        Order(), id="order-1", visibility=PrivateVisibility(agents=frozenset({"pack"}))
    ),
    "run": lambda flock: flock.publish(Order(), id="order-1", correlation_id="other"),
}


@pytest.mark.parametrize("part", OTHERS)
async def test_p04_the_same_id_with_other_content_is_a_publish_error(flock: Flock, part: str) -> None:
    await flock.publish(Order(), id="order-1")
    with pytest.raises(PublishError, match="order-1"):
        await OTHERS[part](flock)
    assert [artifact.payload for artifact in await flock.store.list()] == [Order()]


async def test_p04_publishers_of_one_id_at_the_same_time_make_one_artifact(clock: FakeClock) -> None:
    store = SlowStore()
    async with Flock(store=store, clock=clock) as flock:
        publishing = [asyncio.create_task(flock.publish(Order(), id="order-1")) for _ in range(5)]
        await rounds()
        store.disk.set()
        artifacts = await asyncio.gather(*publishing)
        assert {artifact.sequence for artifact in artifacts} == {1}
        assert len(await flock.store.list()) == 1


async def test_p04_a_repeat_is_not_collected_again(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order, Order)
    async def pack(orders: list[Order]) -> None: ...

    await flock.publish(Order(), id="order-1")
    await flock.publish(Order(), id="order-1")
    report = await flock.run_until_idle()
    assert report.succeeded == 0
    assert [each.artifacts for each in report.waiting] == [("order-1",)]


async def test_p04_one_id_twice_in_publish_many_is_one_artifact(flock: Flock) -> None:
    ran: list[Order] = []

    @flock.agent
    async def pack(order: Order) -> None:
        ran.append(order)

    one, two = await flock.publish_many([Order(), Order()], id=["order-1", "order-1"])
    await flock.run_until_idle()
    assert one == two
    assert ran == [Order()]
    assert len(await flock.store.list()) == 1


async def test_p04_private_attributes_and_what_does_not_equal_itself_make_no_other_content(flock: Flock) -> None:
    reading = Reading()
    first = await flock.publish(reading.look(), id="r")
    assert (await flock.publish(reading.look(), id="r")).sequence == first.sequence
    assert (await flock.publish(Reading(), id="r")).sequence == first.sequence
    with pytest.raises(PublishError, match="other content"):
        await flock.publish(Reading(value=1.0), id="r")
    assert len(await flock.store.list()) == 1


async def test_p04_two_moments_that_are_an_hour_apart_are_other_content(flock: Flock) -> None:
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    await flock.publish(Moment(at=twice), id="m")
    assert (await flock.publish(Moment(at=twice), id="m")).sequence == 1
    with pytest.raises(PublishError, match="other content"):
        await flock.publish(Moment(at=twice.replace(fold=1)), id="m")


@pytest.mark.memory
async def test_p04_what_can_not_be_compared_is_other_content(flock: Flock) -> None:
    await flock.publish(Loose(value=Evasive()), id="l")
    with pytest.raises(PublishError, match="other content"):
        await flock.publish(Loose(value="text"), id="l")


async def test_p04_one_id_twice_in_publish_many_with_other_content_stores_none(flock: Flock) -> None:
    with pytest.raises(PublishError, match="order-1"):
        await flock.publish_many([Order(), Order(item="ink")], id=["order-1", "order-1"])
    assert await flock.store.list() == []


async def test_p04_publish_many_completes_a_half_that_is_already_there(flock: Flock) -> None:
    await flock.publish(Order(item="a"), id="a")
    artifacts = await flock.publish_many([Order(item="a"), Order(item="b")], id=["a", "b"])
    assert [(artifact.id, artifact.sequence) for artifact in artifacts] == [("a", 1), ("b", 2)]


async def test_p04_a_repeat_that_a_predicate_raises_on_makes_no_second_failure(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order, where=lambda order: order.nothing)
    async def pack(order: Order) -> None: ...

    await flock.publish(Order(), id="order-1")
    await flock.publish(Order(), id="order-1")
    assert len(await flock.store.get_by_type(Failure)) == 1


async def test_p04_what_was_published_is_there_for_who_looks_next(flock: Flock) -> None:
    artifact = await flock.publish(Order())
    assert await flock.store.get_by_type(Order) == [Order()]
    assert await flock.run_until(Until.exists(Order))
    report: RunReport = await flock.run_until_idle()
    assert report.idle
    assert (await flock.status(artifact.correlation_id)).artifacts == 1
