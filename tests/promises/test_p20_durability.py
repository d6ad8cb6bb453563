"""P20: after kill -9 nothing acknowledged is lost, activations run until they have ended, and what waits resumes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flock

pytestmark = [
    pytest.mark.memory,  # each test names its own store
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX"),
]

PROGRAM = """
import asyncio, json, os, signal, sys
from datetime import timedelta

from pydantic import BaseModel

from flock import BatchSpec, Context, Flock, JoinSpec


class Order(BaseModel):
    number: int


class Payment(BaseModel):
    number: int


class Parcel(BaseModel):
    number: int


class Pair(BaseModel):
    number: int


class Crate(BaseModel):
    numbers: list[int]


class Beat(BaseModel):
    iteration: int


class Note(BaseModel):
    text: str


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def number(each):
    return each.number


def made(url, deadly):
    board = Flock(store=url, name="shop")

    @board.agent("packer")
    async def packer(order: Order, ctx: Context) -> Parcel:
        print(json.dumps(["packing", order.number, ctx.attempt, ctx.idempotency_key]), flush=True)
        if deadly == "packing":
            die()
        return Parcel(number=order.number)

    @(board.agent("pairs").consumes(Order, Payment, join=JoinSpec(by=number, within=timedelta(hours=1))))
    def pairs(order: Order, payment: Payment) -> Pair:
        return Pair(number=order.number)

    @(board.agent("crates").consumes(Parcel, batch=BatchSpec(size=2)))
    def crates(parcels: list[Parcel]) -> Crate:
        return Crate(numbers=[each.number for each in parcels])

    @board.agent("streamer")
    async def streamer(note: Note, ctx: Context):
        yield Parcel(number=100)
        if deadly == "streaming":
            die()
        yield Parcel(number=101)

    @(board.agent("clock").schedule(every=0.05, max_repeats=3))
    async def clock(ctx: Context) -> Beat:
        if deadly == "ticking" and ctx.iteration == 2:
            die()
        return Beat(iteration=ctx.iteration)

    return board


async def main(url, deadly, *objects):
    board = made(url, deadly)
    if deadly != "ticking" and "ticks" not in sys.argv:
        board.remove_agent("clock")
    async with board:
        for place, text in enumerate(objects):
            kind, _, value = text.partition(":")
            if kind == "ticks":
                events = board.events()
                while board.lifecycle.waiting():
                    await anext(events)
                continue
            what = {"note": Note(text=value)} if kind == "note" else {
                "order": Order(number=int(value or 0)), "payment": Payment(number=int(value or 0))}
            await board.publish(what[kind], id=text, correlation_id="day")
            print(json.dumps(["acknowledged", text]), flush=True)
            if deadly == f"after {place}":
                die()
        report = await board.run_until_idle()
        found = [[type(each.payload).__name__, each.payload.model_dump()] for each in await board.store.list()]
        print(json.dumps(["end", found, [each.reason for each in report.waiting], report.idle]), flush=True)


asyncio.run(main(*sys.argv[1:]))
"""


class Life:
    """One process that worked on the board: its exit status and what it said."""

    def __init__(self, status: int, said: list[list[Any]]) -> None:
        self.status = status
        self.said = said

    def told(self, word: str) -> list[list[Any]]:
        return [rest for first, *rest in self.said if first == word]

    def board(self, kind: str) -> list[Any]:
        (end,) = self.told("end")
        return [next(iter(payload.values())) for name, payload in end[0] if name == kind]

    @property
    def waiting(self) -> list[str]:
        (end,) = self.told("end")
        return list(end[1])


@pytest.fixture(params=["full", "normal"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(str(flock.__file__)).parent.parent)}

    def run(deadly: str, *objects: str) -> Life:
        url = f"sqlite:///{tmp_path / 'board.db'}?synchronous={request.param}"
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-W", "error", str(program), url, deadly, *objects],
            env=environment, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Life(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])

    return run


def test_p20_what_was_acknowledged_is_there_after_kill_9(live: Any) -> None:
    first = live("after 1", "payment:1", "payment:2", "payment:3")
    assert first.status == -signal.SIGKILL
    assert first.told("acknowledged") == [["payment:1"], ["payment:2"]]
    assert live("never").board("Payment") == [1, 2]


def test_p20_an_activation_that_was_cut_off_runs_again_with_the_same_key(live: Any) -> None:
    first = live("packing", "order:7")
    ((number, attempt, key),) = first.told("packing")
    assert (first.status, number, attempt) == (-signal.SIGKILL, 7, 1)
    second = live("never")
    assert second.told("packing") == [[7, 2, key]]
    assert second.board("Parcel") == [7]
    assert live("never").told("packing") == []  # it has ended, and stays so


def test_p20_a_join_goes_on_with_what_it_held(live: Any) -> None:
    assert live("after 0", "payment:4").status == -signal.SIGKILL
    second = live("never", "order:5")
    assert (second.board("Pair"), second.waiting.count("join")) == ([], 2)
    third = live("never", "order:4", "payment:5")
    assert sorted(third.board("Pair")) == [4, 5]
    assert "join" not in third.waiting


def test_p20_a_batch_goes_on_with_what_it_held(live: Any) -> None:
    assert live("never", "order:1").waiting == ["join", "batch"]
    assert live("packing", "order:2").status == -signal.SIGKILL
    assert live("never").board("Crate") == [[1, 2]]


def test_p20_what_a_stream_has_yielded_is_on_the_board_once(live: Any) -> None:
    assert live("streaming", "note:go").status == -signal.SIGKILL
    assert live("never").board("Parcel") == [100, 101]


def test_p20_a_schedule_goes_on_where_it_was(live: Any) -> None:
    assert live("ticking", "ticks").status == -signal.SIGKILL
    beats = live("never", "ticks").board("Beat")  # the third may find the second running, and is skipped then
    assert beats in ([1, 2], [1, 2, 3])
    assert live("never").board("Beat") == beats


def test_p20_an_output_is_on_the_board_exactly_once_whenever_the_process_dies(live: Any) -> None:
    for number in range(3):
        live("after 0", f"order:{number}")  # killed while its activation runs, or before, or when it has ended
    assert sorted(live("never").board("Parcel")) == [0, 1, 2]


def test_p20_a_repeated_publish_of_the_same_id_after_a_crash_is_the_same_artifact(live: Any) -> None:
    live("after 0", "payment:1")
    assert live("never", "payment:1", "payment:1").board("Payment") == [1]
