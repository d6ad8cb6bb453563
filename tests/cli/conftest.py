"""The real command, in a process of its own, in a folder with a few targets."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

import flock

SHOP = """
import asyncio
import os
from datetime import timedelta

from pydantic import BaseModel

from flock import BatchSpec, Context, Flock, JoinSpec


class Order(BaseModel):
    number: int


class Paid(BaseModel):
    number: int


class Receipt(BaseModel):
    number: int
    text: str


class Summary(BaseModel):
    count: int


def number_of(each: Order | Paid) -> int:
    return each.number


flock = Flock(name="shop")


@flock.agent
async def cashier(order: Order) -> Paid | None:
    print(f"paying {order.number}", flush=True)
    os.system("echo from a child process")
    if order.number == 13:
        raise ValueError("unlucky")
    return None if order.number == 0 else Paid(number=order.number)


@(flock.agent("printer").consumes(Order, Paid, join=JoinSpec(by=number_of, within=timedelta(days=1))))
def printer(order: Order, paid: Paid) -> Receipt:
    return Receipt(number=order.number, text="thank you")


@(flock.agent("counter").consumes(Order, batch=BatchSpec(size=10)))
def counter(orders: list[Order]) -> Summary:
    return Summary(count=len(orders))
"""

SLOW = """
import asyncio

from pydantic import BaseModel

from flock import Flock


class Task(BaseModel):
    stubborn: bool = False


flock = Flock()


@flock.agent
async def worker(task: Task) -> None:
    print("started", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            if not task.stubborn:
                raise
"""

CLOCKWORK = """
from pydantic import BaseModel

from flock import Context, Flock


class Tock(BaseModel):
    number: int


async def tick(ctx: Context) -> Tock:
    print("tick", flush=True)
    return Tock(number=ctx.iteration)


flock = Flock()
flock.agent("tick").schedule(every=0.01, max_repeats=3).calls(tick)
endless = Flock()
endless.agent("tick").schedule(every=0.01).calls(tick)
"""


class Finished(Protocol):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """Runs `flock` in a folder; warnings are errors there, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: Mapping[str, str] = {
            **os.environ,
            "PYTHONPATH": str(Path(str(flock.__file__)).parent.parent),
            "TERM": "xterm",
            "COLUMNS": "100",
        }
        self.words = (sys.executable, "-W", "error", "-m", "flock")
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, text: str | None = None) -> Finished:
        """Run it to its end."""
        return subprocess.run(  # noqa: S603 - our own interpreter
            [*self.words, *words], cwd=self.folder, env=self.environment, input=text or "", capture_output=True,
            encoding="utf-8", check=False, timeout=120,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run it until the test is over."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [*self.words, *words], cwd=self.folder, env=self.environment, encoding="utf-8", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "clockwork.py").write_text(CLOCKWORK)
    # A suite in the background of a shell ignores SIGINT, and what it starts would do so, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = Command(tmp_path)
    yield command
    signal.signal(signal.SIGINT, before)
    for process in command.started:
        process.kill()
        process.communicate()
