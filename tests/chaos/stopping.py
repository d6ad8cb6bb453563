"""A program that is stopped in the middle of its work, for longer than its lease."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence

from lives import Journal
from pydantic import BaseModel

from flock import Context, Event, Flock


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    attempt: int


class Line(BaseModel):
    number: int
    attempt: int


def build(flock: Flock) -> None:
    """Declare an agent that stops its process between two lines, and one that has its answer ready at that time."""
    begun, continued = asyncio.Event(), asyncio.Event()

    @flock.agent("clerk").consumes(Order)
    async def clerk(order: Order, ctx: Context) -> Receipt:
        begun.set()
        if ctx.attempt == 1:
            await continued.wait()
        return Receipt(attempt=ctx.attempt)

    @flock.agent("writer").consumes(Order)
    async def writer(order: Order, ctx: Context) -> AsyncIterator[Line]:
        yield Line(number=1, attempt=ctx.attempt)
        if ctx.attempt == 1:
            await begun.wait()
            os.kill(os.getpid(), signal.SIGSTOP)
            continued.set()
        yield Line(number=2, attempt=ctx.attempt)


class Late:
    """Counts results that came too late."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Event) -> None:
        self.count += event.kind == "dropped" and event.reason == "late result discarded"


async def play(url: str, journal: Journal) -> tuple[Sequence[int], Sequence[tuple[int, int]], int]:
    """Give the attempts behind the receipts, the lines with theirs, and how many results of this process were late."""
    late = Late()
    flock = Flock(store=url, observers=[late])
    build(flock)
    async with flock:
        await flock.publish(Order(number=1), id="order")
        await flock.run_until_idle()
        receipts, lines = await flock.store.get_by_type(Receipt), await flock.store.get_by_type(Line)
    return [each.attempt for each in receipts], [(each.number, each.attempt) for each in lines], late.count
