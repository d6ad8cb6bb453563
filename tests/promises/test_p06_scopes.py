"""P6: collectors stay within a run unless scope="board" crosses runs on purpose."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flock import BatchSpec, ConfigurationError, Context, EvalInputs, Flock, JoinSpec, When


class Order(BaseModel):
    item: str = "pen"


class Payment(BaseModel):
    item: str = "pen"


class Parcel(BaseModel):
    runs: list[str] = []


KINDS: dict[str, dict[str, Any]] = {
    "gate": {},
    "join": {"join": JoinSpec(by=lambda it: it.item, within=timedelta(hours=1))},
    "gate, then batch": {"batch": BatchSpec(size=1)},
}


def packs(flock: Flock, **options: Any) -> list[tuple[str, list[str]]]:
    """Let an agent collect one order and one payment, and note its run and those of its inputs."""
    fired: list[tuple[str, list[str]]] = []

    @flock.agent("pack").consumes(Order, Payment, **options)
    async def pack(inputs: EvalInputs, ctx: Context) -> Parcel:
        runs = [artifact.correlation_id for artifact in inputs.artifacts]
        fired.append((ctx.correlation_id, runs))
        return Parcel(runs=runs)

    return fired


@pytest.mark.parametrize("kind", KINDS)
async def test_p06_collectors_collect_within_a_run(flock: Flock, kind: str) -> None:
    fired = packs(flock, **KINDS[kind])
    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    report = await flock.run_until_idle()
    assert fired == []
    assert sorted(str(each.run) for each in report.waiting) == ["one", "two"]
    await flock.publish(Payment(), correlation_id="one")
    await flock.publish(Order(), correlation_id="two")
    assert (await flock.run_until_idle()).waiting == ()
    assert fired == [("one", ["one", "one"]), ("two", ["two", "two"])]


@pytest.mark.parametrize("kind", KINDS)
async def test_p06_board_scope_crosses_runs(flock: Flock, kind: str) -> None:
    fired = packs(flock, scope="board", **KINDS[kind])
    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    assert (await flock.run_until_idle()).waiting == ()
    assert fired == [("two", ["one", "two"])]


async def test_p06_batches_collect_within_a_run(flock: Flock) -> None:
    batches: list[list[str]] = []

    @flock.agent("ship").consumes(Order, batch=BatchSpec(size=2))
    async def ship(orders: list[Order]) -> None:
        batches.append([order.item for order in orders])

    for item, run in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")]:
        await flock.publish(Order(item=item), correlation_id=run)
    await flock.run_until_idle()
    assert batches == [["a", "c"], ["b", "d"]]


async def test_p06_board_wide_batches_collect_over_runs(flock: Flock) -> None:
    batches: list[list[str]] = []

    @flock.agent("ship").consumes(Order, batch=BatchSpec(size=2), scope="board")
    async def ship(orders: list[Order]) -> None:
        batches.append([order.item for order in orders])

    for item, run in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")]:
        await flock.publish(Order(item=item), correlation_id=run)
    await flock.run_until_idle()
    assert batches == [["a", "b"], ["c", "d"]]


async def test_p06_when_conditions_count_within_a_run_or_over_the_board(flock: Flock) -> None:
    fired: list[tuple[str, str]] = []

    @flock.agent("by run").consumes(Order, when=When.exists(Payment))
    async def by_run(order: Order, ctx: Context) -> None:
        fired.append(("by run", ctx.correlation_id))

    @flock.agent("by board").consumes(Order, when=When.exists(Payment), scope="board")
    async def by_board(order: Order, ctx: Context) -> None:
        fired.append(("by board", ctx.correlation_id))

    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    await flock.run_until_idle()
    assert fired == [("by board", "one")]


@pytest.mark.parametrize("last", ["one", "two"])
async def test_p06_the_activation_and_its_outputs_belong_to_the_run_of_the_latest_input(
    flock: Flock, last: str
) -> None:
    packs(flock, scope="board")
    first = {"one": "two", "two": "one"}[last]
    await flock.publish(Payment(), correlation_id=first)
    await flock.publish(Order(), correlation_id=last)
    await flock.run_until_idle()
    (parcel,) = await flock.store.query(Parcel)
    assert parcel.correlation_id == last
    assert sorted(parcel.payload.runs) == ["one", "two"]


async def test_p06_the_activation_counts_for_idle_and_status_of_every_run_that_contributed(flock: Flock) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @flock.agent("pack").consumes(Order, Payment, scope="board")
    async def pack(order: Order, payment: Payment) -> None:
        started.set()
        await gate.wait()

    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    await started.wait()
    for run in ("one", "two"):
        assert not (await flock.run_until_idle(correlation_id=run, timeout=1)).idle
        status = await flock.status(run)
        assert (status.state, status.running) == ("active", 1)
    assert (await flock.run_until_idle(correlation_id="three", timeout=1)).idle
    gate.set()
    for run in ("one", "two"):
        report = await flock.run_until_idle(correlation_id=run)
        assert (report.idle, report.succeeded) == (True, 1)
        assert (await flock.status(run)).state == "succeeded"


async def test_p06_a_failed_activation_counts_for_every_run_that_contributed(flock: Flock) -> None:
    @flock.agent("pack").consumes(Order, Payment, scope="board")
    async def pack(order: Order, payment: Payment) -> None:
        raise RuntimeError("no paper")

    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    await flock.run_until_idle()
    for run in ("one", "two"):
        assert (await flock.run_until_idle(correlation_id=run)).failed == 1
        assert (await flock.status(run)).state == "failed"


async def test_p06_cancel_of_a_run_withdraws_only_inputs_that_are_not_collected(flock: Flock) -> None:
    fired = packs(flock, scope="board")
    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Order(), correlation_id="two")
    await flock.cancel("one")
    await flock.publish(Payment(), correlation_id="three")
    report = await flock.run_until_idle()
    assert fired == [("three", ["two", "three"])]
    assert report.waiting == ()


async def test_p06_cancel_of_a_run_that_contributed_leaves_the_activation_of_another_run(flock: Flock) -> None:
    started, gate = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    @flock.agent("pack").consumes(Order, Payment, scope="board")
    async def pack(order: Order, payment: Payment) -> None:
        started.set()
        await gate.wait()
        ended.append(order.item)

    await flock.publish(Order(), correlation_id="one")
    await flock.publish(Payment(), correlation_id="two")
    await started.wait()
    await flock.cancel("one")
    gate.set()
    await flock.run_until_idle()
    assert ended == ["pen"]
    assert (await flock.status("one")).state == "cancelled"
    assert (await flock.status("two")).state == "succeeded"


async def test_p06_cancel_leaves_what_other_runs_have_in_a_board_wide_batch(flock: Flock) -> None:
    batches: list[list[str]] = []

    @flock.agent("ship").consumes(Order, batch=BatchSpec(size=2), scope="board")
    async def ship(orders: list[Order]) -> None:
        batches.append([order.item for order in orders])

    await flock.publish(Order(item="a"), correlation_id="one")
    await flock.cancel("one")
    await flock.publish(Order(item="b"), correlation_id="two")
    await flock.publish(Order(item="c"), correlation_id="three")
    await flock.run_until_idle()
    assert batches == [["b", "c"]]


async def test_p06_cancel_leaves_a_group_that_another_run_completed_in_its_batch(flock: Flock) -> None:
    batches: list[list[str]] = []

    @flock.agent("pack").consumes(Order, Payment, batch=BatchSpec(size=2), scope="board")
    async def pack(pairs: list[tuple[Order, Payment]]) -> None:
        batches.append([order.item + payment.item for order, payment in pairs])

    await flock.publish(Order(item="a"), correlation_id="one")
    await flock.publish(Payment(item="x"), correlation_id="two")
    await flock.cancel("one")
    await flock.publish_many([Order(item="b"), Payment(item="y")], correlation_id="three")
    await flock.run_until_idle()
    assert batches == [["ax", "by"]]


async def test_p06_a_board_wide_collector_waits_for_every_run_that_has_something_in_it(flock: Flock) -> None:
    packs(flock, scope="board")
    await flock.publish(Order(), correlation_id="one")
    (waiting,) = (await flock.run_until_idle(correlation_id="one")).waiting
    assert (waiting.agent, waiting.reason) == ("pack", "gate")
    assert (await flock.run_until_idle(correlation_id="two")).waiting == ()
    assert (await flock.status("one")).state == "waiting"


def test_p06_an_unknown_scope_is_refused() -> None:
    odd: Any = "galaxy"
    with pytest.raises(ConfigurationError, match="scope= is one of 'run', 'board'"):
        Flock().agent("pack").consumes(Order, scope=odd)
