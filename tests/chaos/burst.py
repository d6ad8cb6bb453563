"""Publishes many orders at once, so that the store puts several into one commit."""

import asyncio

from lives import Journal
from pydantic import BaseModel

from flock import Flock

COUNT = 64


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    order: int


def build(flock: Flock) -> None:
    """Declare the one agent."""

    @flock.agent("clerk").consumes(Order)
    async def clerk(order: Order) -> Receipt:
        return Receipt(order=order.number)


async def play(url: str, journal: Journal) -> int:
    """Publish all at once, and give how many receipts came of it."""
    flock = Flock(store=url)
    build(flock)
    async with flock:

        async def publish(id: str, number: int) -> None:
            await flock.publish(Order(number=number), id=id)
            journal.add(id)

        async with asyncio.TaskGroup() as group:
            for number in range(COUNT):
                _ = group.create_task(publish(f"order-{number}", number))
        await flock.run_until_idle()
        return len(await flock.store.get_by_type(Receipt))
