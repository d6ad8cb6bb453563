"""P14: `cancel` ends one run and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from pydantic import BaseModel

from flock import AfterVisibility, BatchSpec, Event, Flock, FlockError, PublishError


class Order(BaseModel):
    item: str = "soap"


class Paid(BaseModel):
    item: str = "soap"


class Parcel(BaseModel):
    item: str = "soap"


async def test_p14_the_tasks_of_a_cancelled_run_get_cancelled_error() -> None:
    started, ended = asyncio.Event(), list[str]()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append(order.item)
                raise
            return Parcel()

        await flock.publish(Order(), correlation_id="doomed")
        await started.wait()
        assert await flock.cancel("doomed") == 1
        report = await flock.run_until_idle()

        assert ended == ["soap"]
        assert (report.cancelled, report.failed, report.failures) == (1, 0, ())
        assert (await flock.status("doomed")).state == "cancelled"


async def test_p14_other_runs_go_on() -> None:
    go = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await go.wait()
            return Parcel(item=order.item)

        await flock.publish(Order(item="a"), correlation_id="doomed")
        await flock.publish(Order(item="b"), correlation_id="other")
        await flock.cancel("doomed")
        go.set()
        await flock.run_until_idle()

        assert [parcel.item for parcel in await flock.store.get_by_type(Parcel)] == ["b"]
        assert (await flock.status("other")).state == "succeeded"


async def test_p14_what_a_cancelled_body_still_gives_is_discarded() -> None:
    started = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def stubborn(order: Order) -> Parcel:
            started.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Parcel()

        await flock.publish(Order(), correlation_id="doomed")
        await started.wait()
        await flock.cancel("doomed")
        await flock.run_until_idle()

        assert await flock.store.get_by_type(Parcel) == []


async def test_p14_ready_activations_that_wait_for_a_slot_never_run() -> None:
    go, seen = asyncio.Event(), list[str]()
    async with Flock() as flock:

        async def pack(order: Order) -> None:
            seen.append(order.item)
            await go.wait()

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        await flock.publish(Order(item="a"), correlation_id="other")
        await flock.publish(Order(item="b"), correlation_id="doomed")
        await flock.publish(Order(item="c"), correlation_id="other")
        assert await flock.cancel("doomed") == 1
        go.set()
        await flock.run_until_idle()

        assert seen == ["a", "c"]


async def test_p14_the_slot_of_a_cancelled_activation_goes_to_the_next_one() -> None:
    started, seen = asyncio.Event(), list[str]()
    async with Flock() as flock:

        async def pack(order: Order) -> None:
            seen.append(order.item)
            started.set()
            if order.item == "a":
                await asyncio.Event().wait()

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        await flock.publish(Order(item="a"), correlation_id="doomed")
        await flock.publish(Order(item="b"), correlation_id="other")
        await started.wait()
        await flock.cancel("doomed")
        await flock.run_until_idle()

        assert seen == ["a", "b"]


async def test_p14_inputs_that_wait_in_gates_and_batches_are_withdrawn_and_told() -> None:
    events: list[Event] = []
    async with Flock(observers=[events.append]) as flock:
        flock.agent("gate").consumes(Order, Paid).calls(lambda _: None)
        flock.agent("batch").consumes(Order, batch=BatchSpec(size=3)).calls(lambda _: None)
        flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=3600)).calls(lambda _: None)
        doomed = await flock.publish(Order(), correlation_id="doomed")
        other = await flock.publish(Order(), correlation_id="other")
        assert (await flock.status("doomed")).waiting == 3

        await flock.cancel("doomed")

        withdrawn = [event for event in events if event.kind == "withdrawn"]
        assert {artifact for event in withdrawn for artifact in event.artifacts} == {doomed.id}
        assert (await flock.status("doomed")).waiting == 0
        waiting = (await flock.run_until_idle(correlation_id="doomed")).waiting
        assert doomed.id not in {artifact for each in waiting for artifact in each.artifacts}
        assert (await flock.status("other")).waiting == 3
        await flock.cancel(other.correlation_id)  # else its timed batch is work that the memory store warns of


async def test_p14_in_a_gate_across_runs_only_the_inputs_of_the_cancelled_run_go() -> None:
    groups: list[list[str]] = []
    async with Flock() as flock:

        async def ship(order: Order, paid: Paid) -> None:
            groups.append([order.item, paid.item])

        flock.agent("ship").consumes(Order, Paid, scope="board").calls(ship)
        await flock.publish(Order(item="a"), correlation_id="doomed")
        await flock.publish(Order(item="b"), correlation_id="other")
        await flock.cancel("doomed")
        await flock.publish(Paid(item="p"), correlation_id="third")
        await flock.run_until_idle()

        assert groups == [["b", "p"]]


async def test_p14_delayed_artifacts_of_the_run_are_withdrawn() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: None)
        later = AfterVisibility(ttl=timedelta(hours=1))
        await flock.publish(Order(), correlation_id="doomed", visibility=later)
        kept = await flock.publish(Order(), correlation_id="other", visibility=later)
        await flock.cancel("doomed")

        report = await flock.run_until_idle()
        assert [(each.reason, each.artifacts) for each in report.waiting] == [("after", (kept.id,))]


async def test_p14_delayed_retries_of_the_run_end() -> None:
    failed = asyncio.Event()
    async with Flock() as flock:

        def pack(order: Order) -> None:
            message = "no paper"
            raise RuntimeError(message)

        flock.agent("packer").consumes(Order).retry(3, delay=3600, max_delay=3600).calls(pack)
        events = flock.events()
        await flock.publish(Order(), correlation_id="doomed")
        async for event in events:
            if event.kind == "retried":
                failed.set()
                break
        await events.aclose()
        assert (await flock.status("doomed")).delayed == 1
        assert await flock.cancel("doomed") == 1
        assert (await flock.run_until_idle()).idle
        assert (await flock.status("doomed")).state == "cancelled"


async def test_p14_publishing_into_a_cancelled_run_is_a_publish_error_and_stores_nothing() -> None:
    async with Flock() as flock:
        await flock.publish(Order(), correlation_id="doomed")
        await flock.cancel("doomed")
        with pytest.raises(PublishError, match="cancelled"):
            await flock.publish(Order(), correlation_id="doomed")
        with pytest.raises(PublishError, match="cancelled"):
            await flock.publish_many([Order(), Order()], correlation_id="doomed")
        assert len(await flock.store.list()) == 1


async def test_p14_who_invoked_an_agent_in_the_run_is_told() -> None:
    started = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            started.set()
            await asyncio.Event().wait()
            return Parcel()

        async def caller() -> None:
            async with flock.traced_run("doomed", correlation_id="doomed"):
                await flock.invoke("packer", Order())

        waiting = asyncio.create_task(caller())
        await started.wait()
        await flock.cancel("doomed")
        with pytest.raises(FlockError, match="cancelled"):
            await waiting


async def test_p14_an_agent_may_cancel_its_own_run() -> None:
    async with Flock() as flock:

        @flock.agent
        async def gives_up(order: Order) -> Parcel:
            await flock.cancel("doomed")
            await asyncio.sleep(0)
            return Parcel()

        await flock.publish(Order(), correlation_id="doomed")
        report = await flock.run_until_idle()

        assert report.idle
        assert (await flock.status("doomed")).state == "cancelled"
        assert await flock.store.get_by_type(Parcel) == []


async def test_p14_cancelling_twice_or_an_unknown_run_ends_nothing() -> None:
    async with Flock() as flock:
        await flock.publish(Order(), correlation_id="doomed")
        assert await flock.cancel("doomed") == 0
        assert await flock.cancel("doomed") == 0
        assert await flock.cancel("nobody knows it") == 0


async def test_p14_a_run_that_ended_stays_readable_after_it_was_cancelled() -> None:
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel()

        await flock.publish(Order(), correlation_id="doomed")
        await flock.run_until_idle()
        await flock.cancel("doomed")
        assert len(await flock.store.query(correlation_id="doomed")) == 2
