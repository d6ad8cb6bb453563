"""A program with an input that kills it, whatever is tried; its other work is slow enough to be under way then."""

import asyncio
from collections.abc import Sequence

from killing import kill_oneself
from lives import Journal
from pydantic import BaseModel

from flock import Failure, Flock

POISON = 13
HARMLESS = range(6)


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    order: int


def build(flock: Flock) -> None:
    """Declare the agent that dies of one order."""

    @flock.agent("taster").consumes(Order)
    async def taste(order: Order) -> Receipt:
        await asyncio.sleep(0.02)
        if order.number == POISON:
            kill_oneself()
        await asyncio.sleep(0.02)
        return Receipt(order=order.number)


async def play(url: str, journal: Journal) -> tuple[Sequence[int], Sequence[tuple[str, str]]]:
    """Give the orders that have receipts, and the failures."""
    flock = Flock(store=url)
    build(flock)
    async with flock:
        for number in (POISON, *HARMLESS):
            await flock.publish(Order(number=number), id=f"order-{number}")
        await flock.run_until_idle()
        receipts, failures = await flock.store.get_by_type(Receipt), await flock.store.get_by_type(Failure)
    return sorted(each.order for each in receipts), [(each.agent, each.error_type) for each in failures]
