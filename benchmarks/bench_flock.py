"""The same workloads on Flock, written as a user would write them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from pydantic import BaseModel
from typing_extensions import override

from common import (
    AGENTS,
    BATCH,
    CANDIDATES,
    CHAIN,
    GROUP,
    PAUSE,
    WATCHERS,
    Order,
    Payment,
    Receipt,
    Timer,
    board_file,
    hop,
    main,
    nothing,
    offer,
    order,
    order_of,
    order_types,
    passes,
    pause,
    payment,
    rows_in,
    settle,
    shuffled_pairs,
    tally,
    total,
    work,
)
from flock import BatchSpec, EvalResult, Flock, JoinSpec, RunReport

HOUR = timedelta(hours=1)


class NoExporter(SpanExporter):
    """Counts spans and sends them nowhere."""

    def __init__(self) -> None:
        """Start at zero."""
        self.spans = 0

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Count the spans."""
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


exporter = NoExporter()


def trace_to_nowhere() -> None:
    """Set up the traced variant: every span is recorded by the SDK and handed to an exporter that drops it."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def typed(body: Callable[[Order], Awaitable[BaseModel]], source: type[BaseModel], target: type[BaseModel]) -> None:
    """Give a function the annotations of an agent from `source` to `target`, which only exist at run time."""
    body.__annotations__ = {"order": source, "return": target}


async def verify(
    flock: Flock, timer: Timer, *, reports: Sequence[RunReport], ran: int, receipts: int, artifacts: int
) -> None:
    """Check that the board was idle each time, every body ran, nothing failed and every result is on the board."""
    timer.check("idle", all(report.idle for report in reports), want=True)
    timer.check("failures", any(report.failed for report in reports), want=False)
    timer.check("bodies run", tally.ran, ran)
    timer.check("receipts", len(await flock.store.get_by_type(Receipt)), receipts)
    timer.check("artifacts", len(await flock.store.list()), artifacts)


async def one_agent(n: int, timer: Timer) -> int:
    """W1 and W9: n artifacts to one agent, 64 at once."""
    async with Flock() as flock:
        flock.agent("worker").consumes(Order).publishes(Receipt).max_concurrency(64).calls(work)
        await flock.ready()
        spans = exporter.spans
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        timer.artifacts = 2 * n
        if isinstance(trace.get_tracer_provider(), TracerProvider):
            timer.check("a span per activation", exporter.spans - spans >= n, want=True)
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=2 * n)
    return n


async def chain(n: int, timer: Timer) -> int:
    """W2: n artifacts, one after the other, through 100 agents."""
    kinds = order_types(CHAIN + 1)
    async with Flock() as flock:
        for k, (source, target) in enumerate(itertools.pairwise(kinds)):
            flock.agent(f"hop {k}").consumes(source).publishes(target).calls(hop_to(source, target))
        await flock.ready()
        reports: list[RunReport] = []
        timer.start()
        for i in range(n):
            await flock.publish(order_of(kinds[0], i))
            reports.append(await flock.run_until_idle())
        timer.stop()
        await verify(flock, timer, reports=reports, ran=CHAIN * n, receipts=0, artifacts=(CHAIN + 1) * n)
        timer.check("ends of the chain", len(await flock.store.get_by_type(kinds[-1])), n)
    return CHAIN * n


def hop_to(source: type[Order], target: type[Order]) -> Callable[[Order], Awaitable[Order]]:
    """Return the agent that passes an order of `source` on as `target`."""

    async def agent(order: Order) -> Order:
        return await hop(order, target)

    typed(agent, source, target)
    return agent


async def fan_out(n: int, timer: Timer) -> int:
    """W3: n artifacts, each consumed by 100 agents."""
    async with Flock() as flock:
        for k in range(WATCHERS):
            flock.agent(f"watcher {k}").consumes(Order).publishes(Receipt).calls(work)
        await flock.ready()
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(
            flock, timer, reports=reports, ran=WATCHERS * n, receipts=WATCHERS * n, artifacts=(WATCHERS + 1) * n
        )
    return WATCHERS * n


async def many_types(n: int, timer: Timer) -> int:
    """W4: 1,000 agents on 1,000 types, n artifacts spread evenly."""
    kinds = order_types(AGENTS)
    async with Flock() as flock:
        for k, kind in enumerate(kinds):
            flock.agent(f"worker {k}").consumes(kind).publishes(Receipt).calls(work_on(kind))
        await flock.ready()
        timer.start()
        for i in range(n):
            await flock.publish(order_of(kinds[i % AGENTS], i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=2 * n)
    return n


def work_on(kind: type[Order]) -> Callable[[Order], Awaitable[Receipt]]:
    """Return the agent that works on orders of `kind`."""

    async def agent(order: Order) -> Receipt:
        return await work(order)

    typed(agent, kind, Receipt)
    return agent


async def many_predicates(n: int, timer: Timer) -> int:
    """W4W: 1,000 agents on one type, each with a predicate that one artifact in a thousand passes."""
    async with Flock() as flock:
        for k in range(AGENTS):
            flock.agent(f"worker {k}").consumes(Order, where=passes(k)).publishes(Receipt).calls(work)
        await flock.ready()
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=2 * n)
    return n


def key(item: Order | Payment) -> int:
    """Return what an order and its payment share."""
    return item.id


async def join_in_time(n: int, timer: Timer) -> int:
    """W5: n shuffled pairs of two types, joined by key within an hour."""
    return await join(n, timer, HOUR)


async def join_in_count(n: int, timer: Timer) -> int:
    """W5C: the same, joined within as many artifacts as there are."""
    return await join(n, timer, 2 * n)


async def join(n: int, timer: Timer, within: timedelta | int) -> int:
    """Publish n shuffled pairs of two types that are joined by key."""
    pairs = shuffled_pairs(n)
    async with Flock() as flock:
        spec = JoinSpec(by=key, within=within)
        flock.agent("settle").consumes(Order, Payment, join=spec).publishes(Receipt).calls(settle)
        await flock.ready()
        timer.start()
        for kind, i in pairs:
            await flock.publish(order(i) if kind == "order" else payment(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=3 * n)
        receipts = await flock.store.get_by_type(Receipt)
        timer.check("distinct pairs", len({receipt.id for receipt in receipts}), n)
    return n


async def batch(n: int, timer: Timer) -> int:
    """W6: n artifacts in batches of 25."""
    async with Flock() as flock:
        flock.agent("total").consumes(Order, batch=BatchSpec(size=BATCH)).publishes(Receipt).calls(total)
        await flock.ready()
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(flock, timer, reports=reports, ran=n // BATCH, receipts=n // BATCH, artifacts=n + n // BATCH)
        firsts = sorted(receipt.id for receipt in await flock.store.get_by_type(Receipt))
        timer.check("whole batches in order", firsts == list(range(0, n, BATCH)), want=True)
    return n // BATCH


async def best_of(n: int, timer: Timer) -> int:
    """W7: n activations, each the best of 8 candidates."""
    turns = itertools.cycle(range(CANDIDATES))

    async def candidate(order: Order) -> Receipt:
        return await offer(order, next(turns))

    async with Flock() as flock:
        flock.agent("offer").consumes(Order).publishes(Receipt).best_of(CANDIDATES, score=price).calls(candidate)
        await flock.ready()
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
        reports = [await flock.run_until_idle()]
        timer.stop()
        await verify(flock, timer, reports=reports, ran=CANDIDATES * n, receipts=n, artifacts=2 * n)
    return n


def price(result: EvalResult) -> float:
    """Score a candidate by the total of its receipt."""
    receipt = result.artifacts[0].payload
    return receipt.total if isinstance(receipt, Receipt) else 0.0


async def durable(n: int, timer: Timer, options: str, publish: Callable[[Flock], Awaitable[None]]) -> int:
    """Do what W1 does on a board in a file; every publish returns when it is durable."""
    with board_file() as path:
        async with Flock(store=f"sqlite:///{path}{options}") as flock:
            flock.agent("worker").consumes(Order).publishes(Receipt).max_concurrency(64).calls(work)
            await flock.ready()
            timer.start()
            await publish(flock)
            reports = [await flock.run_until_idle()]
            timer.stop()
            await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=2 * n)
        timer.check("rows", rows_in(path, "artifact"), 2 * n)
        timer.check("activations in the file", rows_in(path, "activation WHERE state = 'done'"), n)
    return n


async def durable_each(n: int, timer: Timer) -> int:
    """W8: artifacts published one by one, durable for this process."""
    return await durable(n, timer, "?synchronous=normal", one_by_one(n))


async def durable_groups(n: int, timer: Timer) -> int:
    """W8G: artifacts published 64 at a time."""

    async def publish(flock: Flock) -> None:
        for start in range(0, n, GROUP):
            await flock.publish_many([order(i) for i in range(start, min(start + GROUP, n))])

    return await durable(n, timer, "?synchronous=normal", publish)


async def durable_full(n: int, timer: Timer) -> int:
    """W8F: artifacts published one by one, durable past a power cut, which is the default."""
    return await durable(n, timer, "", one_by_one(n))


def one_by_one(n: int) -> Callable[[Flock], Awaitable[None]]:
    """Return what publishes n artifacts, each when the one before is acknowledged."""

    async def publish(flock: Flock) -> None:
        for i in range(n):
            await flock.publish(order(i))

    return publish


async def sleepers(n: int, timer: Timer) -> int:
    """W10: n agents that sleep, one artifact; the time beyond the sleep is not subtracted."""
    async with Flock() as flock:
        for k in range(n):
            flock.agent(f"sleeper {k}").consumes(Order).publishes(Receipt).calls(pause)
        await flock.ready()
        timer.start()
        await flock.publish(order(1))
        reports = [await flock.run_until_idle()]
        timer.stop()
        timer.check("at once", tally.peak, n)
        timer.check("slept", timer.wall >= PAUSE, want=True)
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=n + 1)
    return n


async def latency(n: int, timer: Timer) -> int:
    """LAT: publish one artifact and wait until idle, n times."""
    async with Flock() as flock:
        flock.agent("worker").consumes(Order).publishes(Receipt).calls(work)
        await flock.ready()
        reports: list[RunReport] = []
        timer.start()
        for i in range(n):
            await flock.publish(order(i))
            reports.append(await flock.run_until_idle())
        timer.stop()
        await verify(flock, timer, reports=reports, ran=n, receipts=n, artifacts=2 * n)
    return n


async def idle(n: int, timer: Timer) -> int:
    """IDLE: n seconds of a Flock in which a schedule, a batch timeout and a join window are armed."""
    async with Flock() as flock:
        flock.agent("hourly").schedule(every=HOUR).publishes(Receipt).calls(hourly)
        flock.agent("total").consumes(Order, batch=BatchSpec(size=BATCH, timeout=HOUR)).publishes(Receipt).calls(total)
        spec = JoinSpec(by=key, within=HOUR)
        flock.agent("settle").consumes(Order, Payment, join=spec).publishes(Receipt).calls(settle)
        await flock.publish(order(1), correlation_id="armed")
        await asyncio.sleep(0.1)
        timer.start()
        await asyncio.sleep(n)
        timer.stop()
        timer.check("bodies run", tally.ran, 0)
        timer.check("artifacts", len(await flock.store.list()), 1)
        await flock.cancel("armed")
    return 1


async def hourly() -> Receipt | None:
    """Publish nothing; it never fires while it is measured."""
    tally.ran += 1
    return None


WORKLOADS = {
    "W1": one_agent,
    "W2": chain,
    "W3": fan_out,
    "W4": many_types,
    "W4W": many_predicates,
    "W5": join_in_time,
    "W5C": join_in_count,
    "W6": batch,
    "W7": best_of,
    "W8": durable_each,
    "W8G": durable_groups,
    "W8F": durable_full,
    "W9": one_agent,
    "W10": sleepers,
    "LAT": latency,
    "IDLE": idle,
}

if __name__ == "__main__":
    main("flock", WORKLOADS, {"plain": nothing, "traced": trace_to_nowhere})
