"""Callers that are cancelled while a store works for them, at each turn of the loop: nothing is lost, nothing hangs."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import BatchSpec, Failure, Flock, OrchestratorComponent, StoreError
from flock.model.ledger import Committed, Lease
from flock.ports import BoardHandle
from flock.stores.sqlite.files import Synchronous
from flock.stores.sqlite.store import SQLiteStore

TURNS = range(7)


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int


class Note(BaseModel):
    number: int


@pytest.fixture(params=["normal", "full"])
def synchronous(request: pytest.FixtureRequest) -> Synchronous:
    return "normal" if request.param == "normal" else "full"


@pytest.fixture
async def flock(tmp_path: Path, synchronous: Synchronous) -> AsyncIterator[Flock]:
    """A Flock on a file; a test that leaves a body behind shuts it down at once."""
    async with Flock(store=SQLiteStore(tmp_path / "board.db", synchronous=synchronous)) as board:
        await board.ready()
        yield board
        await board.shutdown(grace=0.05)


async def cut_off(work: Coroutine[Any, Any, object], turns: int) -> bool:
    """Cancel some work after so many turns; say whether it was cancelled."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return task.cancelled()


async def settled(flock: Flock) -> bool:
    """Say whether the board goes idle once all that was asked for before is done."""
    await flock.publish(Note(number=0))
    return (await flock.run_until_idle(timeout=30)).idle


def packs(flock: Flock) -> list[int]:
    """Declare an agent that packs orders; gives what it got."""
    ran: list[int] = []

    async def pack(order: Order) -> Parcel:
        ran.append(order.number)
        return Parcel(number=order.number)

    flock.agent("pack").consumes(Order).publishes(Parcel).calls(pack)
    return ran


@pytest.mark.parametrize("turns", TURNS)
async def test_a_claim_whose_caller_is_cancelled_loses_no_lease(flock: Flock, turns: int) -> None:
    ran = packs(flock)
    await flock.ready()
    await cut_off(flock.publish(Order(number=1)), 1)
    await cut_off(flock.run_until_idle(), turns)  # which claims what the other has left
    assert await settled(flock)
    assert ran == [1]


@pytest.mark.parametrize("turns", TURNS)
async def test_a_flush_whose_caller_is_cancelled_loses_no_lease(flock: Flock, turns: int) -> None:
    ran: list[int] = []

    async def pack(orders: list[Order]) -> None:
        ran.extend(order.number for order in orders)

    batch = BatchSpec(size=5, timeout=timedelta(hours=1))
    flock.agent("pack").consumes(Order, batch=batch).calls(pack)
    await flock.publish(Order(number=1))
    await cut_off(flock.run_until_idle(drain=True), turns)
    await flock.publish(Note(number=0))
    assert (await flock.run_until_idle(timeout=5, drain=True)).idle
    assert ran == [1]


@pytest.mark.parametrize("turns", range(1, 6))
async def test_the_cancellation_of_a_run_goes_on_when_its_caller_is_cancelled(flock: Flock, turns: int) -> None:
    ran: list[int] = []
    started = asyncio.Event()

    async def pack(order: Order) -> None:
        ran.append(order.number)
        started.set()
        if order.number == 1:
            await asyncio.Event().wait()

    flock.agent("pack").consumes(Order).max_concurrency(1).calls(pack)
    await flock.publish(Order(number=1), correlation_id="one")
    await started.wait()
    await cut_off(flock.cancel("one"), turns)
    await flock.publish(Order(number=2), correlation_id="two")
    assert (await flock.run_until_idle(timeout=30)).idle
    assert ran == [1, 2]
    assert (await flock.status("one")).state == "cancelled"


async def test_callers_that_are_cancelled_at_random_leave_a_board_that_goes_idle(flock: Flock) -> None:
    ran, chance = packs(flock), random.Random(1)  # noqa: S311 - no secret
    for number in range(60):
        calls: tuple[Coroutine[Any, Any, object], ...] = (
            flock.publish(Order(number=number)), flock.publish_many([Order(number=number)]), flock.run_until_idle(),
            flock.invoke("pack", Order(number=number)), flock.ask(Order(number=number), returns=Parcel),
        )  # fmt: skip
        chosen = chance.choice(calls)
        for call in calls:
            if call is not chosen:
                call.close()
        await cut_off(chosen, chance.randrange(12))
    assert await settled(flock)
    assert len(ran) >= len(await flock.store.query(Parcel))
    assert (await flock.store.info()).open == 0


@pytest.mark.parametrize("how", ["pending", "swallowed"])
async def test_a_body_that_cancels_its_own_task_keeps_nobody_waiting(flock: Flock, how: str) -> None:
    ran, got = list[int](), list[int]()

    async def pack(order: Order) -> Parcel:
        ran.append(order.number)
        task = asyncio.current_task()
        if task is not None and len(ran) == 1:
            task.cancel()
            if how == "swallowed":
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
        return Parcel(number=order.number)

    async def take(parcel: Parcel) -> None:
        got.append(parcel.number)

    flock.agent("pack").consumes(Order).publishes(Parcel).calls(pack)
    flock.agent("take").consumes(Parcel).calls(take)
    (parcel,) = await asyncio.wait_for(flock.invoke("pack", Order(number=1)), 30)
    assert parcel.payload == Parcel(number=1)
    assert (await flock.run_until_idle(timeout=30)).idle
    assert (ran, got) == ([1], [1])


@pytest.mark.parametrize("sleeps", [1, 2])
async def test_what_a_body_has_set_off_counts_before_its_end(
    tmp_path: Path, synchronous: Synchronous, sleeps: int
) -> None:
    """The body's end and what it published meanwhile are in one transaction: the run was never idle (P18)."""
    store = SQLiteStore(tmp_path / "loop.db", synchronous=synchronous)
    flock = Flock(store=store, max_activations=5)
    publishing: set[asyncio.Task[object]] = set()
    ran: list[int] = []

    async def set_off(model: BaseModel) -> None:
        publishing.add(asyncio.create_task(flock.publish(model)))
        for _ in range(sleeps):
            await asyncio.sleep(0)

    async def there(order: Order) -> None:
        ran.append(order.number)
        if order.number < 30:
            await set_off(Note(number=order.number + 1))

    async def back(note: Note) -> None:
        await set_off(Order(number=note.number))

    flock.agent("there").consumes(Order).calls(there)
    flock.agent("back").consumes(Note).calls(back)
    async with flock:
        await flock.publish(Order())
        for _ in range(30):
            await flock.run_until_idle(timeout=30)
            await asyncio.gather(*publishing)
        assert len(ran) == 5
        assert len(await flock.store.query(Failure)) == 1


class Stumbling(SQLiteStore):
    """Refuses the first release."""

    refused = False

    @override
    async def release(self, lease: Lease) -> Committed:
        if not self.refused:
            self.refused = True
            raise StoreError("busy")
        return await super().release(lease)


async def test_a_store_that_stumbles_while_it_is_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock.core.lifecycle._AGAIN", 0.02)
    store, packed = Stumbling(tmp_path / "board.db", synchronous="normal"), asyncio.Event()
    async with Flock(store=store) as flock:

        async def pack(order: Order) -> None:
            packed.set()

        flock.agent("pack").consumes(Order).calls(pack)
        await flock.ready()
        await cut_off(flock.publish(Order(number=1)), 1)
        await asyncio.wait_for(packed.wait(), 30)  # nobody uses the Flock meanwhile
        assert store.refused


class Counting(OrchestratorComponent):
    """Counts the starts."""

    started = 0

    @override
    async def on_initialize(self, board: BoardHandle) -> None:
        self.started += 1


@pytest.mark.parametrize("after", [0.0, 0.002, 0.005, 0.01, 0.02])
async def test_a_first_use_that_is_cancelled_starts_the_flock_all_the_same(
    tmp_path: Path, synchronous: Synchronous, after: float
) -> None:
    before, counting = set(threading.enumerate()), Counting()
    flock = Flock(store=SQLiteStore(tmp_path / "board.db", synchronous=synchronous), components=[counting])
    ran = packs(flock)
    publishing = asyncio.create_task(flock.publish(Order(number=0)))
    await asyncio.sleep(after)
    publishing.cancel()
    await asyncio.wait({publishing})
    async with flock:
        await flock.publish(Order(number=1))
        assert (await flock.run_until_idle(timeout=30)).idle
        assert ran.count(1) == 1
        assert counting.started == 1
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("flock sqlite")]


@pytest.mark.filterwarnings("error")
def test_a_loop_that_ends_under_an_invoke_leaves_no_task_behind(
    tmp_path: Path, synchronous: Synchronous, caplog: pytest.LogCaptureFixture
) -> None:
    flock = Flock(store=SQLiteStore(tmp_path / "board.db", synchronous=synchronous))
    ran = packs(flock)

    async def begin(turns: int) -> None:
        await flock.ready()
        calls: list[Coroutine[Any, Any, object]] = [flock.publish(Order(number=1)), flock.invoke("pack", Order())]
        tasks = [asyncio.create_task(call) for call in calls]
        for _ in range(turns):
            await asyncio.sleep(0)
        assert tasks

    async def go_on() -> None:
        async with flock:
            assert (await flock.run_until_idle(timeout=30)).idle
            assert (await flock.store.info()).open == 0

    for turns in range(1, 6):
        asyncio.run(begin(turns))
    asyncio.run(go_on())
    assert ran
    assert not [record for record in caplog.records if record.name == "asyncio"]
