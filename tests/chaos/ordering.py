"""Two agents that work one by one, and a process that dies while both are at work."""

import asyncio
from collections.abc import Sequence

from killing import kill_oneself
from lives import Journal
from pydantic import BaseModel

from flock import Context, Flock

COUNT = 3


class Order(BaseModel):
    number: int


class Slow(BaseModel):
    number: int


class Quick(BaseModel):
    number: int


def build(flock: Flock) -> None:
    """Declare both; the process dies when each has begun its first order."""
    begun = asyncio.Barrier(2)

    @flock.agent("slow").consumes(Order).max_concurrency(1)
    async def slow(order: Order, ctx: Context) -> Slow:
        if ctx.attempt == order.number == 1:
            await begun.wait()
            kill_oneself()
        await asyncio.sleep(0.1)
        return Slow(number=order.number)

    @flock.agent("quick").consumes(Order).max_concurrency(1)
    async def quick(order: Order, ctx: Context) -> Quick:
        if ctx.attempt == order.number == 1:
            await begun.wait()
            await asyncio.Event().wait()
        return Quick(number=order.number)


async def play(url: str, journal: Journal) -> tuple[Sequence[int], Sequence[int]]:
    """Give the numbers of what each has made, in the order of the board."""
    flock = Flock(store=url)
    build(flock)
    async with flock:
        numbers = range(1, COUNT + 1)
        await flock.publish_many([Order(number=number) for number in numbers], id=[f"order-{n}" for n in numbers])
        await flock.run_until_idle(timeout=20)
        slow, quick = await flock.store.get_by_type(Slow), await flock.store.get_by_type(Quick)
    return [each.number for each in slow], [each.number for each in quick]
