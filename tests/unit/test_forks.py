"""The board as it was: replayed to read, forked to go on elsewhere."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    Artifact,
    BatchSpec,
    ConfigurationError,
    Context,
    Failure,
    Flock,
    JoinSpec,
    PublishError,
    StoreError,
    When,
)
from flock.model.ledger import Committed
from flock.model.payload import Unreadable
from flock.ports import Clock, Store, Types
from flock.stores.memory import MemoryStore
from flock.stores.sqlite.store import SQLiteStore
from flock.testing import FakeClock


class Order(BaseModel):
    number: int


class Paid(BaseModel):
    number: int


class Parcel(BaseModel):
    orders: list[int]


def packing(flock: Flock) -> None:
    """Packs orders in pairs."""

    @flock.agent("pack").consumes(Order, batch=BatchSpec(size=2))
    async def pack(orders: list[Order]) -> Parcel:
        return Parcel(orders=[order.number for order in orders])


def warehouse(flock: Flock) -> None:
    """Packs orders in pairs, and those that are paid at once."""
    packing(flock)
    join = JoinSpec(by=lambda it: it.number, within=timedelta(minutes=5))

    @flock.agent("express").consumes(Order, Paid, join=join)
    async def express(order: Order, paid: Paid) -> Parcel:
        return Parcel(orders=[order.number])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/board.db?synchronous=normal"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(autojump=False)


@pytest.fixture
async def flock(url: str, clock: FakeClock) -> AsyncIterator[Flock]:
    async with Flock(store=url, clock=clock) as board:
        yield board


@pytest.fixture(params=["memory", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "fork.db", synchronous="normal")


def elsewhere(store: Store | str, clock: FakeClock, build: Callable[[Flock], None] = warehouse) -> Flock:
    """Make a Flock for a fork."""
    other = Flock(store=store, clock=clock)
    build(other)
    return other


def nobody(_: Flock) -> None:
    """Declare no agents."""


# ---- replays


async def test_a_replay_is_the_board_as_it_was_recorded_at_that_time(flock: Flock) -> None:
    warehouse(flock)
    recorded: list[tuple[int, Sequence[Artifact], Sequence[Any], list[Any], list[Any]]] = []
    for number in range(1, 4):
        await flock.publish(Order(number=number))
        await flock.publish(Paid(number=number + 1))
        await flock.run_until_idle()
        sequence = (await flock.store.list())[-1].sequence
        board = await flock.store.list()
        had = [await flock.store.consumptions(each) for each in board]
        why = [(await flock.store.why(each)).made_by for each in board]
        recorded.append((sequence, board, await flock.store.waiting(), had, why))
    for sequence, board, waiting, had, why in recorded:
        past = await flock.store.replay(until=sequence)
        assert list(await past.list()) == list(board)
        assert sorted(await past.waiting()) == sorted(waiting)
        assert [await past.consumptions(each) for each in board] == had
        assert [(await past.why(each)).made_by for each in board] == why
    assert list(await (await flock.store.replay()).list()) == list(await flock.store.list())


async def test_a_replay_until_any_sequence_gives_what_a_query_as_of_it_gives(flock: Flock) -> None:
    warehouse(flock)
    await flock.publish_many([Order(number=number) for number in range(5)], tags={"new"})
    await flock.run_until_idle()
    for sequence in range(8):
        past = await flock.store.replay(until=sequence)
        found, told = await past.list(), await flock.store.query(as_of=sequence)
        assert [each.to_json() for each in found] == [each.to_json() for each in told]


async def test_a_replay_stands_still_while_the_board_goes_on(flock: Flock) -> None:
    warehouse(flock)
    await flock.publish(Order(number=1))
    past = await flock.store.replay()
    await flock.publish(Order(number=2))
    await flock.run_until_idle()
    assert len(await past.list()) == 1
    assert {each.reason for each in await past.waiting()} == {"batch", "join"}
    assert len(await flock.store.list()) == 3


async def test_a_replay_says_why_an_agent_had_not_had_something_yet(flock: Flock) -> None:
    warehouse(flock)
    first = await flock.publish(Order(number=1))
    await flock.publish(Order(number=2))
    await flock.run_until_idle()
    past = await flock.store.replay(until=1)
    (now,), (then,) = await flock.store.why_not(first, "pack"), await past.why_not(first, "pack")
    assert (now.verdict, then.verdict, then.reason) == ("consumed", "waiting", "batch: holds 1 of 2")


async def test_a_replay_tells_what_waits_for_agents_that_are_not_here(flock: Flock, url: str, clock: FakeClock) -> None:
    warehouse(flock)
    await flock.publish(Order(number=1))
    await flock.publish(Order(number=9), visibility=AfterVisibility(ttl=timedelta(hours=1)))
    await flock.run_until_idle()
    async with Flock(store=url, clock=clock) as other:
        waiting = await (await other.store.replay()).waiting()
    assert sorted((each.agent, each.reason, each.detail) for each in waiting) == [
        ("express", "after", "not visible yet"),
        ("express", "gate", "holds 1; no process here has this subscription"),
        ("pack", "after", "not visible yet"),
        ("pack", "gate", "holds 1; no process here has this subscription"),
    ]


# ---- forks


async def test_a_fork_goes_on_from_the_middle(flock: Flock, target: Store, clock: FakeClock) -> None:
    warehouse(flock)
    for number in range(1, 5):
        await flock.publish(Order(number=number))
    await flock.run_until_idle()
    assert [parcel.orders for parcel in await flock.store.get_by_type(Parcel)] == [[1, 2], [3, 4]]

    async with elsewhere(await flock.store.fork(target, at=1), clock) as other:
        await other.publish(Order(number=9))
        await other.publish(Paid(number=1))
        await other.run_until_idle()
        assert sorted(parcel.orders for parcel in await other.store.get_by_type(Parcel)) == [[1], [1, 9]]
    assert len(await flock.store.get_by_type(Parcel)) == 2


async def test_what_was_open_runs_on_the_fork(flock: Flock, target: Store, clock: FakeClock) -> None:
    bodies: list[int] = []

    def build(board: Flock) -> None:
        @board.agent
        async def pack(order: Order) -> Parcel:
            bodies.append(order.number)
            return Parcel(orders=[order.number])

    build(flock)
    await flock.publish_many([Order(number=1), Order(number=2)])
    await flock.run_until_idle()
    async with elsewhere(await flock.store.fork(target, at=2), clock, build) as other:
        assert (await other.run_until_idle()).succeeded == 2
        assert [each.orders for each in await other.store.get_by_type(Parcel)] == [[1], [2]]
    assert bodies == [1, 2, 1, 2]


async def test_a_fork_inside_a_commit_has_each_output_once(flock: Flock, target: Store, clock: FakeClock) -> None:
    def build(board: Flock) -> None:
        @board.agent
        async def split(parcel: Parcel) -> list[Order]:
            return [Order(number=number) for number in parcel.orders]

    build(flock)
    await flock.publish(Parcel(orders=[1, 2, 3]))
    await flock.run_until_idle()
    before = await flock.store.query(Order, as_of=3)
    assert len(before) == 2
    async with elsewhere(await flock.store.fork(target, at=3), clock, build) as other:
        await other.run_until_idle()
        orders = await other.store.query(Order)
        assert [order.payload.number for order in orders] == [1, 2, 3]
        assert list(orders[:2]) == list(before)


async def test_a_commit_of_several_is_exact_at_each_of_its_sequences(flock: Flock) -> None:
    warehouse(flock)
    orders = await flock.publish_many([Order(number=number) for number in range(5)])
    await flock.run_until_idle()
    for count in range(1, 6):
        waiting = await (await flock.store.replay(until=count)).waiting()
        there = {order.id for order in orders[:count]}
        packing = {id for each in waiting if each.agent == "pack" for id in each.artifacts}
        assert packing == there
        assert [each.reason for each in waiting if each.agent == "pack"].count("batch") == count % 2


async def test_schedules_go_on_where_they_stood(flock: Flock, target: Store, clock: FakeClock) -> None:
    seen: list[int] = []

    def build(board: Flock) -> None:
        @board.agent("tick").schedule(every=timedelta(seconds=10)).publishes(Order)
        async def tick(ctx: Context) -> Order:
            seen.append(ctx.iteration)
            return Order(number=ctx.iteration)

    build(flock)
    await flock.ready()
    await clock.advance(45)
    assert seen == [1, 2, 3, 4]
    seen.clear()
    then = FakeClock(clock.now(), autojump=False, seed=1)
    async with elsewhere(await flock.store.fork(target, at=2), then, build) as other:
        await then.advance(10)
        assert seen[0] == 3
        numbers = [each.number for each in await other.store.get_by_type(Order)]
        assert numbers == sorted(set(numbers))
        assert numbers[:2] == [1, 2]


async def test_what_is_held_back_is_offered_on_the_fork(flock: Flock, target: Store, clock: FakeClock) -> None:
    warehouse(flock)
    await flock.publish(Order(number=1))
    await flock.publish(Order(number=2), visibility=AfterVisibility(ttl=timedelta(minutes=1)))
    await flock.run_until_idle()
    async with elsewhere(await flock.store.fork(target, at=2), clock) as other:
        assert sorted(each.reason for each in await other.store.waiting()) == ["after", "after", "batch", "join"]
        await clock.advance(61)
        await other.run_until_idle()
        assert [each.orders for each in await other.store.get_by_type(Parcel)] == [[1, 2]]


async def test_counts_of_conditions_and_runs_that_were_cancelled_come_along(
    flock: Flock, target: Store, clock: FakeClock
) -> None:
    def build(board: Flock) -> None:
        @board.agent("pack").consumes(Order, when=When.count(Paid).at_least(2))
        async def pack(order: Order) -> Parcel:
            return Parcel(orders=[order.number])

    build(flock)
    await flock.publish(Paid(number=1))
    await flock.publish(Order(number=1))
    await flock.publish(Paid(number=3), correlation_id="gone")
    await flock.cancel("gone")
    await flock.publish(Paid(number=2))
    await flock.publish(Paid(number=4))
    await flock.run_until_idle()
    async with elsewhere(await flock.store.fork(target, at=3), clock, build) as other:
        assert await other.store.query(Parcel) == []
        with pytest.raises(PublishError, match="cancelled"):
            await other.publish(Paid(number=9), correlation_id="gone")
        await other.publish(Paid(number=5))
        await other.run_until_idle()
        assert [each.orders for each in await other.store.get_by_type(Parcel)] == [[1]]


async def test_a_retry_that_waits_keeps_its_time_and_its_attempts_now_but_not_in_the_past(
    url: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with Flock(store=url, clock=clock) as flock:

        @flock.agent("pack").consumes(Order).retry(5, delay=60, jitter=False)
        async def pack(order: Order) -> None:
            raise ConnectionError("no line")

        await flock.publish(Order(number=1))
        await clock.settle()
        await flock.publish(Paid(number=1))
        found = []
        for name, at in (("now", None), ("then", 1)):
            copy = await flock.store.fork(f"sqlite:///{tmp_path}/{name}.db", at=at)
            async with elsewhere(copy, clock, nobody) as other:
                ((reason, due),) = [(each.reason, each.due) for each in await other.store.waiting()]
                activation = await copy.activation((await flock.store.waiting())[0].detail)
                assert activation is not None
                found.append((reason, due, activation.attempt))
        assert found == [("retry", clock.now() + 60, 1), ("ready", None, 0)]


async def test_an_activation_that_was_retried_has_failed_in_the_time_between(flock: Flock) -> None:
    ready = False

    @flock.agent
    async def pack(order: Order) -> Parcel:
        if not ready:
            raise ConnectionError("no line")
        return Parcel(orders=[order.number])

    order = await flock.publish(Order(number=1))
    await flock.run_until_idle()
    await flock.publish(Paid(number=1))
    ready = True
    await flock.retry(all=True)
    await flock.run_until_idle()
    states: list[str] = []
    for sequence in range(1, 5):
        past = await flock.store.replay(until=sequence)
        states += [each.state for each in await past.consumptions(order)]
    assert states == ["ready", "failed", "ready", "done"]


async def test_what_was_made_keeps_its_activation_and_new_ones_get_ids_of_their_own(
    flock: Flock, target: Store, clock: FakeClock
) -> None:
    def build(board: Flock) -> None:
        @board.agent
        async def pack(order: Order) -> Parcel:
            return Parcel(orders=[order.number])

    build(flock)
    await flock.publish(Order(number=1))
    await flock.run_until_idle()
    (direct,) = await flock.invoke("pack", Order(number=2))
    made = [await flock.store.why(each) for each in await flock.store.query(Parcel)]
    async with elsewhere(await flock.store.fork(target), clock, build) as other:
        assert [await other.store.why(each) for each in await other.store.query(Parcel)] == made
        assert (await other.store.why(direct)).made_by == (await flock.store.why(direct)).made_by
        for board in (flock, other):
            await board.publish(Order(number=3))
            await board.run_until_idle()
        (here,), (there,) = [(await board.store.query(Parcel))[2:] for board in (flock, other)]
        assert here.activation_id != there.activation_id
        assert await other.store.why_not(here.parents[0], "pack") if here.parents == there.parents else True


async def test_a_fork_of_a_fork_knows_the_past_of_both(flock: Flock, tmp_path: Path, clock: FakeClock) -> None:
    warehouse(flock)
    for number in range(1, 4):
        await flock.publish(Order(number=number))
        await flock.run_until_idle()
    first = f"sqlite:///{tmp_path}/first.db"
    await flock.store.fork(first, at=3)
    async with elsewhere(first, clock) as other:
        await other.run_until_idle()
        for sequence in range(4):
            one, two = await flock.store.replay(until=sequence), await other.store.replay(until=sequence)
            assert list(await one.list()) == list(await two.list())
            assert sorted(await one.waiting()) == sorted(await two.waiting())


async def test_agents_that_are_declared_later_take_up_what_waits_for_them(
    flock: Flock, target: Store, clock: FakeClock
) -> None:
    warehouse(flock)
    await flock.publish(Order(number=1))
    await flock.run_until_idle()
    async with elsewhere(await flock.store.fork(target), clock, nobody) as other:
        assert {each.detail for each in await other.store.waiting()} == {
            "holds 1; no process here has this subscription"
        }
        warehouse(other)
        await other.publish(Order(number=2))
        await other.run_until_idle()
        assert [each.orders for each in await other.store.get_by_type(Parcel)] == [[1, 2]]


@pytest.mark.parametrize("at", [None, 1])
async def test_windows_end_on_the_fork_when_they_would_have_ended(
    flock: Flock, target: Store, clock: FakeClock, at: int | None
) -> None:
    warehouse(flock)
    await flock.publish(Order(number=1))
    if at is not None:
        await flock.publish(Paid(number=2))
    async with elsewhere(await flock.store.fork(target, at=at), clock) as other:
        await other.ready()
        await clock.advance(299)
        assert sorted(each.reason for each in await other.store.waiting()) == ["batch", "join"]
        await clock.advance(1)
        assert [each.reason for each in await other.store.waiting()] == ["batch"]


async def test_what_became_due_meanwhile_happens_in_the_order_of_its_time(
    flock: Flock, target: Store, clock: FakeClock
) -> None:
    def build(board: Flock) -> None:
        @board.agent("pack").consumes(Order, batch=BatchSpec(timeout=60)).max_concurrency(1)
        async def pack(orders: list[Order]) -> Parcel:
            return Parcel(orders=[order.number for order in orders])

    build(flock)
    for number, run in enumerate(("one", "two", "three", "one"), 1):
        await flock.publish(Order(number=number), correlation_id=run)
        await clock.advance(50 if number == 1 else 20)
    await flock.run_until_idle(drain=True)
    then = FakeClock(clock.now() + 600, autojump=False, seed=1)
    sequence = (await flock.store.query(Order))[-1].sequence
    async with elsewhere(await flock.store.fork(target, at=sequence), then, build) as other:
        await other.ready()
        await then.advance(1)
        await other.run_until_idle()
        assert [each.orders for each in await other.store.get_by_type(Parcel)] == [[1], [2], [3], [4]]


async def test_payloads_are_copied_as_they_are_stored_though_nobody_can_read_them(
    url: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with Flock(store=url, clock=clock) as flock:
        await flock.publish(Order(number=1))
    with closing(sqlite3.connect(tmp_path / "board.db")) as db, db:
        db.execute("UPDATE artifact SET type = 'gone.Type', version = 7, payload = '{\"odd\":  1}'")
    copy = f"sqlite:///{tmp_path}/fork.db"
    async with Flock(store=url, clock=clock) as flock:
        await flock.store.fork(copy)
        (artifact,) = await (await flock.store.replay()).list()
        assert isinstance(artifact.payload, Unreadable)
    with closing(sqlite3.connect(tmp_path / "fork.db")) as db:
        assert db.execute("SELECT type, version, payload FROM artifact").fetchall() == [("gone.Type", 7, '{"odd":  1}')]


async def test_a_large_board_is_copied_page_by_page(flock: Flock, target: Store, clock: FakeClock) -> None:
    warehouse(flock)
    await flock.publish_many([Order(number=number) for number in range(1_201)])
    await flock.run_until_idle()
    everything = await flock.store.list()
    async with elsewhere(await flock.store.fork(target, at=1_801), clock) as other:
        assert list((await other.store.list())[:1_801]) == list(everything[:1_801])
        await other.run_until_idle()
        assert len(await other.store.list()) == len(everything)


# ---- what is gone


async def test_of_what_was_pruned_a_copy_has_the_place_in_the_lineage(
    flock: Flock, target: Store, clock: FakeClock
) -> None:
    packing(flock)
    orders = await flock.publish_many([Order(number=1), Order(number=2)])
    await flock.run_until_idle()
    await flock.store.prune(types=Order)
    async with elsewhere(await flock.store.fork(target), clock, packing) as other:
        (parcel,) = await other.store.list()
        assert await other.store.lineage(parcel) == await flock.store.lineage(parcel)
        assert [each.id for each in (await other.store.lineage(parcel)).ancestors] == [each.id for each in orders]
        new = await other.publish(Order(number=3))
        assert new.sequence == 4


async def test_the_past_ends_where_what_was_pruned_had_not_come_to_its_end(flock: Flock) -> None:
    packing(flock)
    await flock.publish(Order(number=1))
    await flock.publish(Order(number=2))
    await flock.run_until_idle()
    await flock.publish(Order(number=3))
    await flock.store.prune(types=Order)
    with pytest.raises(StoreError, match="not whole any more as of 2: what was pruned waited or ran until 3"):
        await flock.store.replay(until=2)
    assert len(await (await flock.store.replay(until=3)).list()) == 1
    assert len(await (await flock.store.replay(until=4)).list()) == 2


async def test_a_collector_that_went_with_its_run_leaves_no_count_to_the_next(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order, when=When.count(Paid).at_least(2))
    async def pack(order: Order) -> Parcel:
        return Parcel(orders=[order.number])

    await flock.publish(Paid(number=1), correlation_id="old")
    await flock.run_until_idle()
    await flock.store.prune(types=Paid)
    await flock.publish_many([Paid(number=2), Order(number=1)], correlation_id="new")
    await flock.run_until_idle()
    assert await flock.store.query(Parcel) == []


# ---- refusals


async def test_a_copy_goes_into_an_empty_store_only(flock: Flock, target: Store, url: str) -> None:
    await flock.publish(Order(number=1))
    await flock.store.fork(target)
    for store in (target, url):
        with pytest.raises(StoreError, match="an empty store"):
            await flock.store.fork(store)
    assert len(await flock.store.list()) == 1


async def test_a_board_in_memory_has_no_past(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:
        for asked in (flock.store.replay(), flock.store.fork("memory://")):
            with pytest.raises(StoreError, match="keeps no history"):
                await asked


async def test_there_is_no_state_before_the_first_nor_after_the_last(flock: Flock, target: Store) -> None:
    odd: Any
    for odd in (-1, "1"):
        with pytest.raises(ConfigurationError, match=f"until={odd!r} is no sequence"):
            await flock.store.replay(until=odd)
        with pytest.raises(ConfigurationError, match=f"at={odd!r} is no sequence"):
            await flock.store.fork(target, at=odd)
    order = await flock.publish(Order(number=1))
    with pytest.raises(ConfigurationError, match="no state at 2 yet: its last sequence is 1"):
        await flock.store.replay(until=2)
    with pytest.raises(ConfigurationError, match="no state at 2 yet"):
        await flock.store.fork(target, at=2)
    assert await (await flock.store.replay(until=0)).list() == []
    assert await (await flock.store.replay(until=order)).list() == [order]
    assert await flock.store.fork(target, at=order) is target


async def test_a_failure_of_a_fork_leaves_the_new_board_empty(flock: Flock, tmp_path: Path) -> None:
    await flock.publish(Order(number=1))
    await flock.run_until_idle()
    with closing(sqlite3.connect(tmp_path / "board.db")) as db, db:
        db.execute("UPDATE artifact SET visibility = 'nonsense'")
    with pytest.raises(StoreError, match="no visibility"):
        await flock.store.fork(f"sqlite:///{tmp_path}/fork.db")
    async with Flock(store=f"sqlite:///{tmp_path}/fork.db") as other:
        assert await other.store.list() == []
        assert (await other.store.info()).sequence == 0


async def test_a_failure_is_the_same_failure_on_a_copy(flock: Flock, target: Store, clock: FakeClock) -> None:
    @flock.agent
    async def pack(order: Order) -> None:
        raise ConnectionError("no line")

    await flock.publish(Order(number=1))
    await flock.run_until_idle()
    async with elsewhere(await flock.store.fork(target), clock, nobody) as other:
        (failure,) = await other.store.get_by_type(Failure)
        assert failure.message == "no line"
        assert (await target.progress()).newest_failure == 2


async def test_a_fork_into_a_store_that_takes_no_copies_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    class Sealed(MemoryStore):
        restore: Any = None

        @override
        async def open(self, clock: Clock, types: Types) -> Committed:
            raise AssertionError

    async with Flock(store=f"sqlite:///{tmp_path}/board.db") as flock:
        with pytest.raises(StoreError, match="Sealed can't take in the copy of a board"):
            await flock.store.fork(Sealed())
