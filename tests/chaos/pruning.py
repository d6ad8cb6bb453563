"""Prunes a board that is there, and fills one that is not."""

from typing import cast

from lives import Journal
from pydantic import BaseModel

from flock import Flock
from flock.board.ports import KeepingStore, Pruned, Retention
from flock.stores.url import open_store

RUNS = 12
KEPT = 2
WAITING = "waiting"


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    order: int


class Signature(BaseModel):
    text: str


class Contract(BaseModel):
    order: int


def build(flock: Flock) -> None:
    """Declare an agent that answers, and one that waits for what comes in one run only."""

    @flock.agent("clerk").consumes(Order)
    async def clerk(order: Order) -> Receipt:
        return Receipt(order=order.number)

    @flock.agent("notary").consumes(Receipt, Signature, where=lambda each: getattr(each, "order", -1) < 0)
    async def notary(receipt: Receipt, signature: Signature) -> Contract:
        return Contract(order=receipt.order)


async def fill(url: str) -> None:
    """Leave finished runs behind, and before them one where a receipt waits for a signature."""
    flock = Flock(store=url)
    build(flock)
    async with flock:
        await flock.publish(Order(number=-1), correlation_id=WAITING)
        for number in range(RUNS):
            await flock.publish(Order(number=number), correlation_id=f"run-{number}")
        await flock.run_until_idle()


async def prune(store: KeepingStore) -> Pruned:
    """Prune a store that is open."""
    return await store.prune(Retention(keep_runs=KEPT))


async def play(url: str, journal: Journal) -> int:
    """Prune, and give how many artifacts went."""
    store = cast("KeepingStore", open_store(url))
    flock = Flock(store=store)
    build(flock)
    async with flock:
        return (await prune(store)).artifacts
