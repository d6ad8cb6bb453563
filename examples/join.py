"""A join: an order is shipped when it has been paid and packed, in whatever order the three arrive.

One `consumes` call with several types waits for all of them; `join=` keeps them apart by a key. Order 2 is never paid,
so it stays behind: the report says who waits for what, and after a day it would expire as an event that observers see.

    python examples/join.py
    flock run examples/join.py --publish '[{"type": "Order", "number": 7, "what": "lamp"},
        {"type": "Packed", "number": 7, "shelf": "A1"}, {"type": "Paid", "number": 7, "cents": 1900}]'
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel

from flock import Flock, JoinSpec


class Step(BaseModel):
    """Something that belongs to an order."""

    number: int


class Order(Step):
    """What a customer wants."""

    what: str


class Paid(Step):
    """That the money is here."""

    cents: int


class Packed(Step):
    """That the goods are ready."""

    shelf: str


class Shipment(Step):
    """What leaves the house."""

    label: str


def number_of(step: Step) -> int:
    """Give the key that joins what belongs to one order."""
    return step.number


flock = Flock()


@flock.agent("ship").consumes(Order, Paid, Packed, join=JoinSpec(by=number_of, within=timedelta(days=1)))
async def ship(order: Order, paid: Paid, packed: Packed) -> Shipment:
    """Ship what is ordered, paid and packed."""
    return Shipment(number=order.number, label=f"{order.what} from {packed.shelf}, {paid.cents / 100:.2f} paid")


async def trade() -> Sequence[Shipment]:
    """Let three orders arrive, with their payments and parcels in disorder."""
    async with flock:
        await flock.publish_many([Paid(number=3, cents=900), Order(number=1, what="cup"), Packed(number=1, shelf="B4")])
        await flock.publish_many([Order(number=2, what="vase"), Packed(number=2, shelf="B5")])
        for step in (Order(number=3, what="rug"), Packed(number=3, shelf="C1"), Paid(number=1, cents=2500)):
            await flock.publish(step)
        report = await flock.run_until_idle()
        shipments = await flock.store.get_by_type(Shipment)
        for shipment in shipments:
            print(f"order {shipment.number} is shipped: {shipment.label}")
        for waiting in report.waiting:
            held = [artifact.payload for id in waiting.artifacts if (artifact := await flock.store.get(id))]
            print(f"{waiting.agent!r} still waits with {held}")
    return shipments


def main() -> Sequence[Shipment]:
    """Return the Shipments of the orders that are complete, 3 and 1, in the order in which they became so."""
    return asyncio.run(trade())


if __name__ == "__main__":
    main()
