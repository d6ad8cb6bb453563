"""A program with a bit of everything, whose board ends the same however often it dies on the way.

Whatever is published has an id, so a restarted program publishes nothing twice. What is put on the board depends on no
order that chance could change: gates and sized batches collect what the program itself publishes, one by one; joins go
by keys; where a batch groups by time, each member is published by itself. Only a schedule skips ticks that find their
predecessor at work: its firings are counted instead of compared.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lives import Journal
from pydantic import BaseModel

from flock import (
    AfterVisibility,
    Artifact,
    BatchSpec,
    Context,
    EvalResult,
    Failure,
    Flock,
    JoinSpec,
    RunReport,
    Until,
    When,
)
from flock.model.errors import FlockError

ORDERS = 7
UNLUCKY = 3  # the order that cannot be priced
EMBARGOES = 2
PAIRS = 3
BEATS = 4
PARTS = 3
LATE = 0.15  # seconds
PATIENCE = 20.0  # seconds that a life may take
ANY_NUMBER = 1_000  # attempts: those that a kill took count, too


class Order(BaseModel):
    number: int


class Stamp(BaseModel):
    number: int


class Stamped(BaseModel):
    order: int
    stamp: int


class Payment(BaseModel):
    order: int


class Receipt(BaseModel):
    order: int
    payment: int


class Parcel(BaseModel):
    orders: list[int]


class Sent(BaseModel):
    order: int


class Price(BaseModel):
    order: int


class Obituary(BaseModel):
    text: str


class Slogan(BaseModel):
    order: int
    candidate: int


class Part(BaseModel):
    order: int
    number: int


class Polished(BaseModel):
    order: int
    number: int


class Line(BaseModel):
    order: int
    number: int


class Mark(BaseModel):
    order: int


class Shipment(BaseModel):
    order: int


class Left(BaseModel):
    number: int


class Right(BaseModel):
    number: int


class Both(BaseModel):
    left: int
    right: int


class Embargo(BaseModel):
    number: int


class News(BaseModel):
    number: int


class Beat(BaseModel):
    number: int


def order_of(each: Receipt | Payment | Order) -> int:
    """Give the key of a join."""
    return each.number if isinstance(each, Order) else each.order


def by_candidate(result: EvalResult) -> float:
    """Prefer the last candidate."""
    return float(result.artifacts[0].payload.candidate)


def build(flock: Flock) -> None:
    """Declare all agents."""
    _collectors(flock)
    _bodies(flock)
    _outputs(flock)
    _others(flock)


def _collectors(flock: Flock) -> None:
    @flock.agent("gate").consumes(Order, Stamp)
    async def stamp(order: Order, stamp: Stamp) -> Stamped:
        return Stamped(order=order.number, stamp=stamp.number)

    @flock.agent("join").consumes(Order, Payment, join=JoinSpec(by=order_of, within=timedelta(hours=1)))
    async def receipt(order: Order, payment: Payment) -> Receipt:
        return Receipt(order=order.number, payment=payment.order)

    @flock.agent("batch by size").consumes(Order, batch=BatchSpec(size=3))
    async def pack(orders: list[Order]) -> Parcel:
        return Parcel(orders=[order.number for order in orders])

    @flock.agent("batch by time").consumes(Receipt, batch=BatchSpec(timeout=0.05))
    async def send(receipts: list[Receipt]) -> list[Sent]:
        return [Sent(order=receipt.order) for receipt in receipts]

    @flock.agent("hold").consumes(Order, when=When.count(Payment).at_least(ORDERS))
    async def ship(order: Order) -> Shipment:
        return Shipment(order=order.number)

    @flock.agent("across runs").consumes(Left, Right, scope="board")
    async def meet(left: Left, right: Right) -> Both:
        return Both(left=left.number, right=right.number)


def _bodies(flock: Flock) -> None:
    @flock.agent("retried").consumes(Order).publishes(Payment).retry(ANY_NUMBER, delay=0.01, jitter=False)
    async def pay(order: Order, ctx: Context) -> Payment:
        if ctx.attempt < 2 + order.number % 2:
            raise ConnectionError("no line")
        return Payment(order=order.number)

    @flock.agent("in a thread").consumes(Order)
    def price(order: Order) -> Price:
        if order.number == UNLUCKY:
            raise ValueError("unlucky")
        return Price(order=order.number)

    @flock.agent("mourner").consumes(Failure)
    async def mourn(failure: Failure) -> Obituary:
        return Obituary(text=f"{failure.agent}: {failure.message}")


def _outputs(flock: Flock) -> None:
    @flock.agent("best of").consumes(Order).publishes(Slogan).best_of(3, score=by_candidate)
    async def invent(order: Order, ctx: Context) -> Slogan:
        return Slogan(order=order.number, candidate=ctx.candidate)

    @flock.agent("fan-out").consumes(Order).publishes(Part, fan_out=PARTS, tags={"part"})
    async def split(order: Order) -> list[Part]:
        return [Part(order=order.number, number=number) for number in range(PARTS)]

    @flock.agent("chained").consumes(Part).max_concurrency(2)
    async def polish(part: Part) -> Polished:
        return Polished(order=part.order, number=part.number)

    @flock.agent("streaming").consumes(Order, where=lambda order: order.number % 2 == 0)
    async def write(order: Order) -> AsyncIterator[Line]:
        for number in range(PARTS):
            yield Line(order=order.number, number=number)
            await asyncio.sleep(0.002)


def _others(flock: Flock) -> None:
    @flock.agent("publishing inside").consumes(Order).publishes(Mark)
    async def mark(order: Order) -> None:
        await flock.publish(Mark(order=order.number), id=f"mark-{order.number}")

    @flock.agent("after").consumes(Embargo)
    async def report(embargo: Embargo) -> News:
        return News(number=embargo.number)

    @flock.agent("schedule").schedule(every=0.03, max_repeats=BEATS)
    async def beat(ctx: Context) -> Beat:
        return Beat(number=ctx.iteration)


# ---- a life


async def publish_all(flock: Flock, journal: Journal) -> None:
    """Publish what comes from outside: one by one, so that its order is always the same."""
    objects: list[tuple[str, BaseModel, str | None, float]] = []
    objects += [(f"embargo-{number}", Embargo(number=number), None, LATE) for number in range(EMBARGOES)]
    for number in range(ORDERS):
        objects.append((f"order-{number}", Order(number=number), None, 0.0))
        objects.append((f"stamp-{number}", Stamp(number=ORDERS - number), None, 0.0))
    for number in range(PAIRS):
        objects.append((f"left-{number}", Left(number=number), "left", 0.0))
        objects.append((f"right-{number}", Right(number=number), "right", 0.0))
    for id, payload, run, ttl in objects:
        visibility = AfterVisibility(ttl=timedelta(seconds=ttl)) if ttl else None
        await flock.publish(payload, id=id, correlation_id=run, visibility=visibility)
        journal.add(id)


async def play(url: str, journal: Journal) -> Mapping[str, Sequence[str]]:
    """Live until all is done, and say how the board ended; raises FlockError when that does not come to pass."""
    flock = Flock(store=url, name="chaos")
    build(flock)
    async with flock:
        lost = [id for id in journal.read() if await flock.store.get(id) is None]
        if lost:
            raise FlockError(f"acknowledged, and lost: {', '.join(lost)}")
        await publish_all(flock, journal)
        if not await flock.run_until(Until.artifact_count(News).at_least(EMBARGOES), timeout=PATIENCE):
            raise FlockError("the embargoes never end")
        await _schedule_over(flock)
        await _idle(flock)
        await _idle(flock, drain=True)
        return await ending(flock)


async def _schedule_over(flock: Flock) -> None:
    events = flock.events()
    while any(each.reason == "schedule" for each in (await _idle(flock)).waiting):
        await anext(events)


async def _idle(flock: Flock, *, drain: bool = False) -> RunReport:
    report = await flock.run_until_idle(timeout=PATIENCE, drain=drain)
    if not report.idle:
        raise FlockError(f"never idle: {report}")
    return report


async def ending(flock: Flock) -> Mapping[str, Sequence[str]]:
    """Give what is on the board and what waits, without ids, times and order; and problems: what may never be."""
    board = await flock.store.list()
    beats = [each for each in board if each.produced_by == "schedule"]
    waiting = (await flock.run_until_idle()).waiting
    return {
        "artifacts": sorted(_shown(each) for each in board if each not in beats),
        "waiting": sorted(f"{each.reason} {each.agent}: {len(each.artifacts)}" for each in waiting),
        "problems": [*problems_of(board), *_problems_of_beats(beats), *await _problems_of_consumption(flock, board)],
    }


def _shown(artifact: Artifact) -> str:
    payload: dict[str, Any] = artifact.payload.model_dump(mode="json")
    if isinstance(artifact.payload, Failure):  # its attempts count what kills took; the rest are ids
        payload = {name: payload[name] for name in ("agent", "error_type", "message")}
    parts = [artifact.type.rpartition(":")[2], payload, artifact.produced_by, artifact.correlation_id]
    return json.dumps([*parts, sorted(artifact.tags), artifact.depth, type(artifact.visibility).__name__])


def problems_of(board: Sequence[Artifact]) -> Iterable[str]:
    """Name outputs that are there twice, and parents that are not there."""
    ids = Counter(each.id for each in board)
    yield from (f"id {id} is there {count} times" for id, count in ids.items() if count > 1)
    slots = Counter((each.activation_id, each.record.slot) for each in board if each.record.slot is not None)
    yield from (f"output {slot} of {id} is there {count} times" for (id, slot), count in slots.items() if count > 1)
    yield from (f"{each} has no parent {id}" for each in board for id in each.parents if id not in ids)
    sequences = [each.sequence for each in board]
    if sequences != sorted(set(sequences)):
        yield f"sequences are no order: {sequences}"


def _problems_of_beats(beats: Sequence[Artifact]) -> Iterable[str]:
    numbers = sorted(each.payload.number for each in beats)
    if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(1, BEATS + 1)):
        yield f"the schedule fired as {numbers}"


async def _problems_of_consumption(flock: Flock, board: Sequence[Artifact]) -> Sequence[str]:
    """Name what is not settled, and what an agent consumed twice."""
    problems: list[str] = []
    for artifact in board:
        taken = await flock.store.consumptions(artifact)
        problems += [f"{each} is open" for each in taken if each.state not in {"done", "failed"}]
        twice = [agent for agent, count in Counter(each.agent for each in taken).items() if count > 1]
        problems += [f"{agent} consumed {artifact} twice" for agent in twice]
    return problems
