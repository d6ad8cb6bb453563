"""SIGKILL at exact places: all over a life, inside group commit, while a file is made, while it is pruned."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import burst
import pruning
import pytest
from killing import Point
from lives import Journal
from scenario import problems_of
from sweep import Ran, damage, main, result, start

from flock import Flock
from flock.board.ports import KeepingStore
from flock.stores.url import open_store


class Deaths:
    """Boards on which one process each has died, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def board(self, number: int | str) -> Path:
        return self._folder / f"board-{number}.db"

    def url(self, number: int | str) -> str:
        return f"sqlite:///{self.board(number)}?synchronous=normal"

    def acknowledged(self, number: int) -> set[str]:
        return set(Journal(self._folder / f"journal-{number}").read())

    def die(self, module: str, points: Sequence[Point]) -> Ran:
        """Play a module once for each point, until that is reached, and once more to its end."""
        url, journal = self.url("{}"), str(self._folder / "journal-{}")
        return result(start(module, url, "--apart", "--journal", journal, "--die", *map(str, points)))


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    return Deaths(tmp_path)


def every(ran: Ran, statements: int) -> Sequence[Point]:
    """Give points before and after each commit of a life, and at so many statements of it.

    How many statements a life has depends a little on time, as processes look at each other: none of the last is taken.
    """
    points = [Point("before", number) for number in range(1, ran.commits + 1)]
    points += [Point("after", number) for number in range(1, ran.commits + 1)]
    step = max(1, ran.statements // statements)
    return points + [Point("statement", number) for number in range(1, ran.statements * 9 // 10, step)]


@pytest.mark.timeout(180)
def test_a_program_that_is_killed_thirty_times_ends_with_the_board_of_one_that_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["--kills", "30", "--jobs", "2"])
    said = capsys.readouterr().out
    assert status == 0, said
    done = re.search(r"(\d+) kills in \d+ histories \((\d+) of four processes", said)
    assert done is not None
    assert int(done[1]) >= 30
    assert int(done[2]) >= 1


@pytest.mark.timeout(180)
async def test_a_kill_in_the_middle_of_a_group_commit_loses_nothing_acknowledged_and_leaves_nothing_half(
    deaths: Deaths, tmp_path: Path
) -> None:
    ran = result(start("burst", f"sqlite:///{tmp_path / 'plain.db'}"))
    assert ran.commits < burst.COUNT  # of 64 publishes and 64 settlements
    points = every(ran, 6)
    assert deaths.die("burst", points).deaths >= len(points) * 0.5  # groups, and so commits, differ from life to life
    for number in range(len(points)):
        await check_burst(deaths, number)


async def check_burst(deaths: Deaths, number: int, then: str | None = None) -> None:
    """Carry on after a death: each order that is there has one receipt, and those acknowledged are there."""
    flock = Flock(store=deaths.url(number))
    burst.build(flock)
    async with flock:
        if then is not None:
            await flock.publish(burst.Order(number=0), id=then)
        report = await flock.run_until_idle(timeout=30)
        board = await flock.store.list()
    orders = {each.id for each in board if isinstance(each.payload, burst.Order)}
    receipts = [each.parents[0] for each in board if isinstance(each.payload, burst.Receipt)]
    assert {*deaths.acknowledged(number), *([] if then is None else [then])} <= orders
    assert sorted(receipts) == sorted(orders)
    assert report.idle
    assert not [*problems_of(board)]
    assert not damage(deaths.board(number))


async def test_a_kill_while_a_file_is_made_leaves_one_that_opens_and_works(deaths: Deaths) -> None:
    points = [Point("before", 1), Point("after", 1), *[Point("statement", number) for number in range(1, 61, 2)]]
    assert deaths.die("burst", points).deaths == len(points)
    for number in range(len(points)):
        await check_burst(deaths, number, then="order-0")


@pytest.mark.timeout(180)
async def test_a_kill_while_it_prunes_takes_nothing_that_has_to_stay_and_the_next_prune_does_the_rest(
    deaths: Deaths, tmp_path: Path
) -> None:
    full = tmp_path / "full.db"
    await pruning.fill(f"sqlite:///{full}")

    def fresh(count: int) -> None:
        for number in range(count):
            shutil.copy(full, deaths.board(number))

    fresh(1)
    ran = deaths.die("pruning", [])
    expected = await left(deaths, 0)
    points = every(ran, 25)
    fresh(len(points) + 1)
    assert deaths.die("pruning", points).deaths == len(points)
    for number in range(len(points)):
        assert not damage(deaths.board(number))
        assert await left(deaths, number) == expected


async def left(deaths: Deaths, number: int) -> tuple[Any, ...]:
    """Prune what is left to prune; gives the runs and payloads that stayed, and what still comes of what waited."""
    store = cast("KeepingStore", open_store(deaths.url(number)))
    flock = Flock(store=store)
    pruning.build(flock)
    async with flock:
        await pruning.prune(store)
        runs = [run for run in await store.runs() if run != "default"]
        board = await flock.store.list()
        await flock.publish(pruning.Signature(text="yes"), correlation_id=pruning.WAITING)
        await flock.run_until_idle()
        contracts = await flock.store.get_by_type(pruning.Contract)
    assert contracts == [pruning.Contract(order=-1)]
    return sorted(runs), sorted((each.type, repr(each.payload)) for each in board)
