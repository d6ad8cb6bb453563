"""A board that is kept meets a program that has changed: agents that are gone, come back, or work elsewhere."""

import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import BatchSpec, ConfigurationError, Flock
from flock.core.clock import SystemClock
from flock.core.roster import Catalog
from flock.model.ledger import Progress
from flock.stores.sqlite.files import connect
from flock.stores.sqlite.later import WritingConnection
from flock.stores.sqlite.store import SQLiteStore
from flock.stores.url import open_store


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Truck(BaseModel):
    parcels: int = 0


def opened(path: Path) -> Flock:
    return Flock(store=SQLiteStore(path / "board.db", synchronous="normal"), name="shop")


async def with_an_order_that_waits(path: Path) -> None:
    """Leave an activation of `packer`, and one artifact in a timed batch of `loader`."""
    flock = opened(path)

    @flock.agent
    async def packer(order: Order) -> None:
        await asyncio.Event().wait()

    flock.agent("loader").consumes(Order, batch=BatchSpec(size=5, timeout=3600)).calls(lambda _: None)
    await flock.publish(Order(number=1))
    await flock.shutdown(grace=0.0)


async def test_what_waits_for_an_agent_that_is_not_declared_is_told_and_is_no_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await with_an_order_that_waits(tmp_path)
    flock = opened(tmp_path)
    flock.agent("other").consumes(Parcel).calls(lambda _: None)
    with caplog.at_level(logging.WARNING, "flock"):
        async with flock:
            report = await flock.run_until_idle(timeout=20)
    assert report.idle
    (ready,) = [each for each in report.waiting if each.reason == "ready"]
    assert ready.agent == "packer"
    assert ready.detail.endswith("no process has an agent of this name")
    assert "work waits for agents that are not declared: loader, packer" in caplog.text
    found = [each for each in flock.check() if each.kind == "undeclared-agent"]
    assert [each.agent for each in found] == ["loader", "packer"]
    assert str(found[1]) == (
        "warning: something on the board waits for packer, which is not declared: declare it, or cancel those runs"
    )


async def test_it_runs_when_the_agent_is_back(tmp_path: Path) -> None:
    await with_an_order_that_waits(tmp_path)
    async with opened(tmp_path) as flock:

        @flock.agent("packer")
        async def packer(order: Order) -> Parcel:
            return Parcel(number=order.number)

        report = await flock.run_until_idle(timeout=20)
        assert report.succeeded == 1
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=1)]


async def test_two_flocks_on_one_board_share_the_work_and_wait_for_all_of_it(tmp_path: Path) -> None:
    done: list[str] = []
    first, second = opened(tmp_path), opened(tmp_path)
    for name, flock in (("first", first), ("second", second)):

        async def pack(order: Order, name: str = name) -> Parcel:
            await asyncio.sleep(0.02)
            done.append(name)
            return Parcel(number=order.number)

        flock.agent("packer").consumes(Order).publishes(Parcel).calls(pack).max_concurrency(3)
    async with first, second:
        await second.publish_many([Order(number=number) for number in range(12)])
        assert (await first.run_until_idle(timeout=20)).idle
        parcels = await first.store.get_by_type(Parcel)
    assert sorted(parcel.number for parcel in parcels) == list(range(12))
    assert len(done) == 12


@pytest.mark.parametrize("name", ["board.db", "b" * 180], ids=["folder", "name"])
async def test_those_on_a_board_wake_each_other_however_long_its_path_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    hint = asyncio.Event()
    first, second = (SQLiteStore(folder / name, synchronous="normal", lease=600) for _ in range(2))
    await first.open(SystemClock(), Catalog())
    first.attend(hint.set, lambda _: None)
    await second.open(SystemClock(), Catalog())  # which it writes down
    await asyncio.wait_for(hint.wait(), 20)  # without hints it would look after 200 seconds
    await second.close()
    await first.close()
    assert not [path for path in folder.iterdir() if path.suffix in {".lock", ".wake"}]


async def test_who_came_by_a_link_is_not_taken_for_gone(tmp_path: Path) -> None:
    board, link = tmp_path / "board.db", tmp_path / "links" / "link.db"
    link.parent.mkdir()
    board.touch()
    link.symlink_to(board)
    started, release = asyncio.Event(), asyncio.Event()
    starts: list[str] = []
    first, second = Flock(store=SQLiteStore(link)), Flock(store=SQLiteStore(board))
    for name, flock in (("first", first), ("second", second)):

        async def pack(order: Order, name: str = name) -> None:
            starts.append(name)
            started.set()
            await release.wait()

        flock.agent("packer").consumes(Order).calls(pack)
    async with first:
        await first.publish(Order())
        await started.wait()
        async with second:
            await second.ready()
            release.set()
            assert (await second.run_until_idle(timeout=20)).idle
    assert starts == ["first"]


class Slow(SQLiteStore):
    """A store that says how far it is when what it set off has ended already."""

    @override
    async def progress(self, run: str | None = None) -> Progress:
        await asyncio.sleep(0.05)
        return await super().progress(run)


async def test_draining_goes_on_although_what_a_flush_set_off_has_ended_when_it_is_looked_at(tmp_path: Path) -> None:
    async with Flock(store=Slow(tmp_path / "board.db", synchronous="normal")) as flock:

        async def pack(orders: list[Order]) -> Parcel:
            return Parcel(number=len(orders))

        flock.agent("packer").consumes(Order, batch=BatchSpec(size=2)).publishes(Parcel).calls(pack)

        async def load(parcels: list[Parcel]) -> Truck:
            return Truck(parcels=len(parcels))

        flock.agent("loader").consumes(Parcel, batch=BatchSpec(size=100)).publishes(Truck).calls(load)
        flock.agent("garage").consumes(Truck, batch=BatchSpec(size=100)).calls(lambda _: None)
        await flock.publish_many([Order(), Order(), Order()])
        assert (await flock.run_until_idle(drain=True)).waiting == ()


def test_an_option_of_a_url_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"option lease is there more than once in .*: give it once"):
        open_store(f"sqlite:///{tmp_path}/board.db?lease=3&lease=4")
    with pytest.raises(ConfigurationError, match="lease takes seconds, as in lease=15, not 'abc'"):
        open_store(f"sqlite:///{tmp_path}/board.db?lease=abc")


async def test_whoever_reads_first_opens_the_board(tmp_path: Path) -> None:
    async with opened(tmp_path) as flock:
        await flock.publish(Order(number=1))
    reader = opened(tmp_path)
    assert [artifact.payload for artifact in await reader.store.list()] == [Order(number=1)]
    await reader.shutdown()


def test_whoever_reads_first_without_await_opens_the_board(tmp_path: Path) -> None:
    with opened(tmp_path).sync as flock:
        flock.publish(Order(number=1))
    reader = opened(tmp_path).sync
    assert [artifact.payload for artifact in reader.store.list()] == [Order(number=1)]
    past = reader.store.replay(0)
    assert list(past.list()) == []
    reader.close()


async def test_the_past_of_a_board_is_read_on_any_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as flock:
        await flock.publish(Order(number=1))
        past = await flock.store.replay(1)
        there = await asyncio.to_thread(asyncio.run, past.list())
    assert [artifact.payload for artifact in there] == [Order(number=1)]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_board_that_another_process_makes_while_it_is_looked_at_is_opened(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [number]

    class Overtaken(WritingConnection):
        """Sees another process make the board just before so many statements."""

        @override
        def execute(self, *given: Any) -> sqlite3.Cursor:
            left[0] -= 1
            if not left[0]:
                connect(tmp_path / "board.db", "normal").close()
            return super().execute(*given)

    monkeypatch.setattr("flock.stores.sqlite.files.WritingConnection", Overtaken)
    connect(tmp_path / "board.db", "normal").close()
    assert left[0] <= 0
