"""P5: which run a publish joins, and what opens a run of its own."""

import asyncio

import pytest
from pydantic import BaseModel

from flock import AgentFailedError, Artifact, Context, Flock, PublishError, RunCancelledError, WaitError
from flock.testing import FakeClock


class Order(BaseModel):
    item: str = "pen"


class Payment(BaseModel):
    item: str = "pen"


class Parcel(BaseModel):
    item: str = "pen"


def packs(flock: Flock, packed: list[tuple[str, str, str]]) -> None:
    """Let an agent join orders and payments, and note of which run they were."""

    @flock.agent
    async def pack(order: Order, payment: Payment, ctx: Context) -> Parcel:
        packed.append((order.item, payment.item, ctx.correlation_id))
        return Parcel(item=order.item)


async def test_p05_outside_any_run_a_publish_joins_the_flocks_default_run(flock: Flock) -> None:
    packed: list[tuple[str, str, str]] = []
    packs(flock, packed)
    first = await flock.publish(Order())
    await flock.publish(Payment())
    await flock.run_until_idle()
    assert first.correlation_id == "default"
    assert packed == [("pen", "pen", "default")]


async def test_p05_the_default_run_bears_the_flocks_name_every_time(clock: FakeClock) -> None:
    for _ in range(2):
        async with Flock(name="shop", clock=clock) as flock:
            assert (await flock.publish(Order())).correlation_id == "shop"
            assert flock.correlation_id == "shop"


async def test_p05_a_correlation_id_wins_over_the_ambient_run(flock: Flock) -> None:
    async with flock.traced_run(correlation_id="ambient"):
        assert (await flock.publish(Order(), correlation_id="mine")).correlation_id == "mine"
        assert (await flock.publish(Order())).correlation_id == "ambient"
        assert (await flock.publish(Artifact(Order(), correlation_id="its"))).correlation_id == "its"
    assert (await flock.publish(Order(), correlation_id="mine")).correlation_id == "mine"


async def test_p05_a_traced_run_makes_a_new_run_each_time(flock: Flock) -> None:
    runs: set[str] = set()
    for _ in range(3):
        async with flock.traced_run("checkout"):
            runs.add((await flock.publish(Order())).correlation_id)
            assert flock.correlation_id in runs
    assert len(runs) == 3
    assert "default" not in runs


async def test_p05_a_traced_run_with_an_id_joins_that_run(flock: Flock) -> None:
    packed: list[tuple[str, str, str]] = []
    packs(flock, packed)
    async with flock.traced_run(correlation_id="order-7"):
        await flock.publish(Order())
    async with flock.traced_run(correlation_id="order-7"):
        await flock.publish(Payment())
    await flock.run_until_idle()
    assert packed == [("pen", "pen", "order-7")]


async def test_p05_a_nested_traced_run_is_a_run_of_its_own_and_the_outer_one_comes_back(flock: Flock) -> None:
    async with flock.traced_run("outer"):
        outer = flock.correlation_id
        async with flock.traced_run("inner"):
            inner = flock.correlation_id
            assert (await flock.publish(Order())).correlation_id == inner
        assert (await flock.publish(Order())).correlation_id == outer
    assert len({outer, inner, "default"}) == 3
    assert flock.correlation_id == "default"


async def test_p05_the_idleness_and_cancellation_of_a_nested_run_are_its_own(flock: Flock) -> None:
    gate = asyncio.Event()

    @flock.agent
    async def pack(order: Order) -> Parcel:
        await gate.wait()
        return Parcel(item=order.item)

    async with flock.traced_run("outer"):
        outer = flock.correlation_id
        await flock.publish(Order(item="outer"))
        async with flock.traced_run("inner"):
            inner = flock.correlation_id
            assert (await flock.run_until_idle()).idle
            await flock.publish(Order(item="inner"))
            await flock.cancel(inner)
            assert (await flock.run_until_idle()).cancelled == 1
        gate.set()
        report = await flock.run_until_idle()
    assert (report.succeeded, report.cancelled) == (1, 0)
    assert (await flock.status(inner)).state == "cancelled"
    assert (await flock.status(outer)).state == "succeeded"
    assert await flock.store.get_by_type(Parcel) == [Parcel(item="outer")]


async def test_p05_two_concurrent_traced_runs_never_mix(flock: Flock) -> None:
    packed: list[tuple[str, str, str]] = []
    packs(flock, packed)
    barrier = asyncio.Barrier(2)

    async def request(item: str) -> str:
        async with flock.traced_run("request"):
            await flock.publish(Order(item=item))
            await barrier.wait()
            await flock.publish(Payment(item=item))
            await flock.run_until_idle()
            return flock.correlation_id

    runs = await asyncio.gather(request("pen"), request("ink"))
    assert sorted(packed) == sorted([("pen", "pen", runs[0]), ("ink", "ink", runs[1])])


async def test_p05_a_task_started_inside_a_traced_run_publishes_into_it(flock: Flock) -> None:
    async with flock.traced_run(correlation_id="mine"):
        task = asyncio.create_task(flock.publish(Order()))
    assert (await task).correlation_id == "mine"


async def test_p05_an_agents_outputs_and_publishes_belong_to_its_activations_run(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order, ctx: Context) -> Parcel:
        assert flock.correlation_id == ctx.correlation_id == "mine"
        await flock.publish(Payment())
        return Parcel()

    await flock.publish(Order(), correlation_id="mine")
    await flock.run_until_idle()
    assert [artifact.correlation_id for artifact in await flock.store.list()] == ["mine"] * 3


async def test_p05_an_activation_runs_in_its_inputs_run_wherever_it_was_published_from(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order, ctx: Context) -> Parcel:
        return Parcel(item=ctx.correlation_id)

    async with flock.traced_run("ambient"):
        await flock.publish(Order(), correlation_id="mine")
    await flock.run_until_idle()
    assert await flock.store.get_by_type(Parcel) == [Parcel(item="mine")]


async def test_p05_a_traced_run_inside_an_agent_is_innermost(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        async with flock.traced_run(correlation_id="its own"):
            await flock.publish(Payment(item="inside"))
        await flock.publish(Payment(item="after"))
        return Parcel()

    await flock.publish(Order(), correlation_id="mine")
    await flock.run_until_idle()
    found = {artifact.payload.item: artifact for artifact in await flock.store.query(Payment)}
    assert found["inside"].correlation_id == "its own"
    assert found["after"].correlation_id == "mine"
    assert found["inside"].produced_by == "pack"


async def test_p05_leaving_a_traced_run_neither_waits_nor_cancels(flock: Flock) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @flock.agent
    async def pack(order: Order) -> Parcel:
        started.set()
        await gate.wait()
        return Parcel()

    async with flock.traced_run(correlation_id="mine"):
        await flock.publish(Order())
        await started.wait()
    assert (await flock.status("mine")).running == 1
    gate.set()
    assert (await flock.run_until_idle(correlation_id="mine")).succeeded == 1


async def test_p05_leaving_a_traced_run_by_an_error_leaves_the_run_alone(flock: Flock) -> None:
    async def broken() -> None:
        async with flock.traced_run(correlation_id="mine"):
            await flock.publish(Order())
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await broken()
    assert flock.correlation_id == "default"
    assert (await flock.publish(Order(), correlation_id="mine")).correlation_id == "mine"


async def test_p05_runs_of_two_flocks_do_not_see_each_other(clock: FakeClock) -> None:
    async with (
        Flock(name="one", clock=clock) as one,
        Flock(name="two", clock=clock) as two,
        one.traced_run(correlation_id="first"),
    ):
        assert (await two.publish(Order())).correlation_id == "two"
        async with two.traced_run(correlation_id="second"):
            assert (await one.publish(Order())).correlation_id == "first"
            assert (await two.publish(Order())).correlation_id == "second"


async def test_p05_invoke_and_arun_outside_any_run_open_one(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    runs = [(await flock.invoke(pack, Order()))[0].correlation_id for _ in range(2)]
    runs += [(await flock.arun(pack, Order()))[0].correlation_id for _ in range(2)]
    assert len(set(runs)) == 4
    assert "default" not in runs


def test_p05_run_opens_a_run(clock: FakeClock) -> None:
    flock = Flock(clock=clock)

    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    runs = {flock.run(pack, Order())[0].correlation_id for _ in range(2)}
    assert len(runs) == 2
    assert "default" not in runs


async def test_p05_invoke_and_arun_inside_a_run_stay_in_it(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    async with flock.traced_run(correlation_id="mine"):
        await flock.invoke(pack, Order())
        await flock.arun(pack, Order())
    assert {artifact.correlation_id for artifact in await flock.store.list()} == {"mine"}


async def test_p05_ask_always_opens_a_run(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    async with flock.traced_run(correlation_id="mine"):
        assert await flock.ask(Order(), Parcel) == Parcel()
        assert await flock.ask(Order(), Parcel) == Parcel()
    runs = [artifact.correlation_id for artifact in await flock.store.query(Parcel)]
    assert len(set(runs)) == 2
    assert "mine" not in runs


async def test_p05_ask_never_returns_the_asked_artifact_itself(flock: Flock) -> None:
    @flock.agent("change").consumes(Order, where=lambda order: order.item == "pen")
    async def change(order: Order) -> Order:
        return Order(item="ink")

    assert await flock.ask(Order(item="pen"), Order) == Order(item="ink")
    with pytest.raises(WaitError, match="idle without a Order"):
        await flock.ask(Order(item="ink"), Order)


async def test_p05_ask_raises_with_the_first_failure(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        raise RuntimeError("no paper")

    with pytest.raises(AgentFailedError, match="no paper") as caught:
        await flock.ask(Order(), Parcel)
    assert len(caught.value.failures) == 1


async def test_p05_ask_raises_with_what_waits_when_the_run_goes_idle(flock: Flock) -> None:
    packs(flock, [])
    with pytest.raises(WaitError, match=r"pack .gate: holds 1 of 1 Order, 0 of 1 Payment"):
        await flock.ask(Order(), Parcel)


async def test_p05_the_timeout_of_ask_cancels_its_run(flock: Flock, clock: FakeClock) -> None:
    runs: list[str] = []
    ended: list[str] = []

    @flock.agent
    async def pack(order: Order, ctx: Context) -> Parcel:
        runs.append(ctx.correlation_id)
        try:
            await clock.sleep(3600)
        except asyncio.CancelledError:
            ended.append(ctx.correlation_id)
            raise
        return Parcel()

    with pytest.raises(TimeoutError):
        await flock.ask(Order(), Parcel, timeout=5)
    assert ended == runs
    assert (await flock.status(runs[0])).state == "cancelled"


async def test_p05_cancelling_ask_cancels_its_run(flock: Flock) -> None:
    started = asyncio.Event()
    runs: list[str] = []

    @flock.agent
    async def pack(order: Order, ctx: Context) -> Parcel:
        runs.append(ctx.correlation_id)
        started.set()
        await asyncio.Event().wait()
        return Parcel()

    asking = asyncio.create_task(flock.ask(Order(), Parcel))
    await started.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await flock.status(runs[0])).state == "cancelled"


async def test_p05_an_answer_leaves_the_rest_of_its_run_alone(flock: Flock) -> None:
    gate = asyncio.Event()

    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    @flock.agent
    async def file(order: Order) -> Payment:
        await gate.wait()
        return Payment()

    assert await flock.ask(Order(), Parcel) == Parcel()
    gate.set()
    assert (await flock.run_until_idle()).cancelled == 0
    assert await flock.store.get_by_type(Payment) == [Payment()]


async def test_p05_publishing_into_a_cancelled_run_is_a_publish_error(flock: Flock) -> None:
    await flock.publish(Order(), correlation_id="mine")
    await flock.cancel("mine")
    with pytest.raises(PublishError, match="'mine' was cancelled"):
        await flock.publish(Order(), correlation_id="mine")
    with pytest.raises(PublishError, match="'mine' was cancelled"):
        await flock.publish_many([Order(), Order()], correlation_id="mine")
    async with flock.traced_run(correlation_id="mine"):
        for publishing in (flock.publish(Order()), flock.publish_many([Order()])):
            with pytest.raises(PublishError):
                await publishing
    assert len(await flock.store.list()) == 1


async def test_p05_invoking_in_a_cancelled_run_is_a_publish_error(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    await flock.cancel("mine")
    async with flock.traced_run(correlation_id="mine"):
        with pytest.raises((PublishError, RunCancelledError)):
            await flock.invoke(pack, Order())
    assert await flock.store.list() == []
