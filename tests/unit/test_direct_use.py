"""Direct use: invoke, arun, run, ask, stream, events, run_until, status."""

from __future__ import annotations

import asyncio
import datetime as dt
import operator
from typing import Any

import pytest
from pydantic import BaseModel

from flock import (
    AfterVisibility,
    AgentFailedError,
    Artifact,
    BlockingCallWarning,
    ConfigurationError,
    Context,
    EvalInputs,
    Failure,
    Flock,
    FlockError,
    PrivateVisibility,
    PublishError,
    Until,
    VisibilityError,
    WaitError,
    When,
    run_sync,
)
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Truck(BaseModel):
    number: int = 0


class HeavyParcel(Parcel):
    pass


def shop(flock: Flock) -> None:
    """Declare two agents: order to parcel, parcel to truck."""

    @flock.agent
    async def packer(order: Order) -> Parcel:
        return Parcel(number=order.number + 1)

    @flock.agent
    async def loader(parcel: Parcel) -> Truck:
        return Truck(number=parcel.number + 1)


def numbers(artifacts: list[Artifact]) -> list[tuple[str, int]]:
    return [(type(artifact.payload).__name__, artifact.payload.number) for artifact in artifacts]


# ---- invoke


async def test_invoke_runs_one_agent_once_and_gives_its_outputs() -> None:
    async with Flock() as flock:
        shop(flock)
        outputs = await flock.invoke("packer", Order(number=1))
        assert numbers(outputs) == [("Parcel", 2)]
        (order,) = await flock.store.query(Order)
        assert outputs[0].parents == (order.id,)
        assert outputs[0].produced_by == "packer"
        assert outputs[0].sequence > order.sequence


async def test_invoke_takes_a_name_a_function_a_builder_or_an_agent() -> None:
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel()

        builder = flock.agent("other").consumes(Order).publishes(Parcel)
        builder.calls(lambda _: Parcel())
        for agent in ("packer", packer, builder, flock.get_agent("packer")):
            outputs = await flock.invoke(agent, Order())
            assert numbers(outputs) == [("Parcel", 0)]
        with pytest.raises(ConfigurationError, match=r"nobody.*packer"):
            await flock.invoke("nobody", Order())


async def test_invoke_takes_every_form_that_publish_takes() -> None:
    async with Flock() as flock:
        shop(flock)
        for given in (Order(number=1), {"type": "Order", "number": 1}, Artifact(Order(number=1))):
            assert numbers(await flock.invoke("packer", given)) == [("Parcel", 2)]
        with pytest.raises(PublishError):
            await flock.invoke("packer", 42)


async def test_invoked_inputs_are_published_and_fire_every_other_agent_and_outputs_cascade() -> None:
    seen: list[str] = []
    async with Flock() as flock:
        shop(flock)

        @flock.agent
        async def auditor(order: Order) -> None:
            seen.append("auditor")

        await flock.invoke("packer", Order(number=1))
        report = await flock.run_until_idle()
        assert seen == ["auditor"]
        assert report.succeeded == 3
        assert [truck.number for truck in await flock.store.get_by_type(Truck)] == [3]
        assert len(await flock.store.get_by_type(Parcel)) == 1  # the invoked agent did not fire again


async def test_an_input_that_is_on_the_board_is_not_published_again() -> None:
    async with Flock() as flock:
        shop(flock)
        order = await flock.publish(Order(number=1))
        await flock.run_until_idle()
        await flock.invoke("packer", order)
        await flock.run_until_idle()
        assert len(await flock.store.get_by_type(Order)) == 1
        assert [parcel.number for parcel in await flock.store.get_by_type(Parcel)] == [2, 2]


async def test_invoke_goes_past_gates_and_predicates() -> None:
    async with Flock() as flock:

        async def ship(inputs: EvalInputs, ctx: Context) -> Parcel:
            assert ctx.trigger == "direct"
            return Parcel(number=len(ctx.artifacts))

        flock.agent("ship").consumes(Order, Paid, where=lambda order: order.number > 10).calls(ship)
        assert numbers(await flock.invoke("ship", Order())) == [("Parcel", 1)]
        assert numbers(await flock.invoke("ship", Order(), Paid(), Paid())) == [("Parcel", 3)]
        assert (await flock.run_until_idle()).waiting == ()


async def test_invoke_does_not_go_past_visibility() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        shop(flock)
        secret = Artifact(Order(), visibility=PrivateVisibility(agents=frozenset({"nobody"})))
        with pytest.raises(VisibilityError, match="packer"):
            await flock.invoke("packer", secret)
        later = await flock.publish(Order(), visibility=AfterVisibility(ttl=dt.timedelta(minutes=1)))
        with pytest.raises(VisibilityError, match="packer"):
            await flock.invoke("packer", later)
        assert len(await flock.store.list()) == 1


async def test_invoke_retries_and_times_out_like_any_activation() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            if ctx.attempt == 1:
                raise RuntimeError("again")
            await clock.sleep(1 if order.number == 0 else 100)
            return Parcel(number=ctx.attempt)

        flock.agent("packer").consumes(Order).retry(2, delay=1).timeout(10).calls(pack)
        assert numbers(await flock.invoke("packer", Order())) == [("Parcel", 2)]
        with pytest.raises(TimeoutError, match="longer than 10 s"):
            await flock.invoke("packer", Order(number=1))


async def test_a_failing_invoke_raises_what_the_agent_raised_and_leaves_its_failure() -> None:
    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            raise KeyError("no paper")

        flock.agent("packer").consumes(Order).calls(pack)
        with pytest.raises(KeyError, match="no paper"):
            await flock.invoke("packer", Order())
        (failure,) = await flock.store.get_by_type(Failure)
        assert (failure.agent, failure.error_type) == ("packer", "KeyError")


async def test_an_invoke_that_times_out_cancels_its_activation() -> None:
    clock, cancelled = FakeClock(), list[int]()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            try:
                await clock.sleep(3_600)
            except asyncio.CancelledError:
                cancelled.append(order.number)
                raise
            return Parcel()

        with pytest.raises(TimeoutError, match=r"^packer took longer than 10 s"):
            await flock.invoke("packer", Order(number=4), timeout=10)
        report = await flock.run_until_idle()
        assert cancelled == [4]
        assert (report.idle, report.cancelled, report.failures) == (True, 1, ())


async def test_invoke_gives_the_agents_own_outputs_only() -> None:
    def picky(parcel: Parcel) -> bool:
        raise RuntimeError("picky")

    async with Flock() as flock:
        shop(flock)
        flock.agent("picky").consumes(Parcel, where=picky).calls(lambda _: None)
        assert numbers(await flock.invoke("packer", Order())) == [("Parcel", 1)]
        await flock.run_until_idle()
        assert len(await flock.store.get_by_type(Failure)) == 1


async def test_an_agent_for_events_alone_can_not_be_invoked_and_one_for_direct_use_hears_nothing() -> None:
    async with Flock() as flock:
        flock.agent("events").consumes(Order, mode="events").calls(lambda _: None)
        flock.agent("direct").consumes(Order, mode="direct").calls(lambda _: Parcel())
        with pytest.raises(ConfigurationError, match="mode='events'"):
            await flock.invoke("events", Order())
        await flock.publish(Order())
        assert (await flock.run_until_idle()).succeeded == 1
        assert numbers(await flock.invoke("direct", Order())) == [("Parcel", 0)]


async def test_an_agent_may_invoke_another_while_it_holds_the_only_slot() -> None:
    async with Flock(max_concurrency=1) as flock:
        shop(flock)

        @flock.agent
        async def boss(paid: Paid) -> None:
            outputs = await flock.invoke("packer", Order(number=paid.number))
            assert numbers(outputs) == [("Parcel", paid.number + 1)]

        await flock.publish(Paid(number=7))
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failures) == (3, ())


async def test_an_invoke_outside_any_run_opens_one_and_inside_stays_there() -> None:
    async with Flock() as flock:
        shop(flock)
        (first,) = await flock.invoke("packer", Order())
        (second,) = await flock.invoke("packer", Order())
        assert len({first.correlation_id, second.correlation_id, flock.name}) == 3
        async with flock.traced_run("mine", correlation_id="mine"):
            (third,) = await flock.invoke("packer", Order())
        assert third.correlation_id == "mine"


# ---- arun and run


async def test_arun_waits_until_its_run_is_idle_and_gives_the_agents_outputs() -> None:
    async with Flock() as flock:
        shop(flock)
        outputs = await flock.arun("packer", Order(number=1))
        assert numbers(outputs) == [("Parcel", 2)]
        assert [truck.number for truck in await flock.store.get_by_type(Truck)] == [3]


async def test_arun_gives_up_after_its_timeout() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        shop(flock)
        flock.agent("slow").consumes(Truck).calls(lambda _: clock.sleep(100))
        with pytest.raises(TimeoutError, match=r"^packer and what followed took longer than 10 s"):
            await flock.arun("packer", Order(), timeout=10)
        assert (await flock.run_until_idle()).idle


def test_run_is_for_code_without_an_event_loop() -> None:
    flock = Flock()
    shop(flock)
    outputs = flock.run("packer", Order(number=1))
    assert numbers(outputs) == [("Parcel", 2)]
    assert numbers(flock.run("packer", Order(number=2))) == [("Parcel", 3)]
    flock.sync.close()


def test_run_raises_what_the_agent_raised() -> None:
    flock = Flock()
    flock.agent("packer").consumes(Order).calls(lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        flock.run("packer", Order())
    flock.sync.close()


def test_run_sync_gives_what_the_function_returned() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    assert run_sync(double, 21) == 42
    with pytest.raises(TimeoutError):
        run_sync(asyncio.Event().wait, timeout=0.01)


async def test_run_sync_works_inside_a_running_loop_and_warns_of_it() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    with pytest.warns(BlockingCallWarning, match="double"):
        assert run_sync(double, 21) == 42


# ---- ask


async def test_ask_gives_the_first_artifact_of_a_type_from_a_run_of_its_own() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order(number=50))
        assert await flock.ask(Order(number=1), returns=Truck) == Truck(number=3)
        runs = {artifact.correlation_id for artifact in await flock.store.query(Truck)}
        assert len(runs) == 2


async def test_ask_never_gives_the_asked_one() -> None:
    async with Flock() as flock:

        @flock.agent
        async def grow(parcel: Parcel) -> HeavyParcel | None:
            return None if isinstance(parcel, HeavyParcel) else HeavyParcel(number=parcel.number + 1)

        assert await flock.ask(Parcel(number=1), returns=Parcel) == HeavyParcel(number=2)


async def test_ask_raises_the_first_failure() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: 1 / 0)
        with pytest.raises(AgentFailedError, match="packer: ZeroDivisionError") as raised:
            await flock.ask(Order(), returns=Parcel)
        assert isinstance(raised.value.failures[0], Failure)


async def test_ask_raises_what_waits_when_the_run_goes_idle_without_an_answer() -> None:
    async with Flock() as flock:
        flock.agent("ship").consumes(Order, Paid).calls(lambda _: Parcel())
        with pytest.raises(WaitError, match=r"ship.*gate"):
            await flock.ask(Order(), returns=Parcel)
        with pytest.raises(WaitError, match="Parcel: nothing waits"):
            await flock.ask(Truck(), returns=Parcel)


async def test_the_timeout_of_ask_cancels_its_run() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def slow(order: Order) -> None:
            await clock.sleep(3_600)

        with pytest.raises(TimeoutError, match=r"^an answer of type Parcel took longer than 10 s"):
            await flock.ask(Order(), returns=Parcel, timeout=10)
        (order,) = await flock.store.query(Order)
        assert (await flock.status(order.correlation_id)).state == "cancelled"


async def test_cancelling_ask_cancels_its_run() -> None:
    started = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            started.set()
            await asyncio.Event().wait()
            return Parcel()

        asking = asyncio.create_task(flock.ask(Order(), returns=Parcel))
        await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (order,) = await flock.store.query(Order)
        assert (await flock.status(order.correlation_id)).state == "cancelled"


async def test_ask_waits_for_what_becomes_visible_later() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def later(order: Order) -> Parcel:
            return Parcel()

        flock.agent("packer").consumes(Order).publishes(
            Parcel, visibility=AfterVisibility(ttl=dt.timedelta(minutes=1))
        ).calls(later)
        flock.agent("loader").consumes(Parcel).calls(lambda _: Truck(number=9))
        assert await flock.ask(Order(), returns=Truck) == Truck(number=9)


async def test_an_agent_may_ask_while_it_holds_the_only_slot() -> None:
    async with Flock(max_concurrency=1) as flock:
        shop(flock)
        answers: list[Truck] = []

        @flock.agent
        async def boss(paid: Paid) -> None:
            answers.append(await flock.ask(Order(number=1), returns=Truck))

        await flock.publish(Paid())
        report = await flock.run_until_idle()
        assert report.failures == ()
        assert answers == [Truck(number=3)]


# ---- stream and events


async def test_a_stream_gives_artifacts_as_they_are_committed_from_its_call_on() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order(number=1))
        await flock.run_until_idle()
        stream = flock.stream(Parcel, Truck)
        await flock.publish(Order(number=10))  # before the first read: the cursor is fixed at the call
        found = [await anext(stream), await anext(stream)]
        assert numbers(found) == [("Parcel", 11), ("Truck", 12)]
        await stream.aclose()


async def test_a_stream_may_be_of_all_types_of_one_run_and_since_a_sequence() -> None:
    async with Flock() as flock:
        shop(flock)
        first = await flock.publish(Order(number=1), correlation_id="one")
        await flock.run_until_idle()
        await flock.publish(Order(number=5), correlation_id="two")
        await flock.run_until_idle()
        stream = flock.stream(correlation_id="one", since=first.sequence)
        found = [await anext(stream), await anext(stream)]
        assert numbers(found) == [("Parcel", 2), ("Truck", 3)]
        await stream.aclose()


async def test_streams_include_subclasses() -> None:
    async with Flock() as flock:
        stream = flock.stream(Parcel)
        await flock.publish(HeavyParcel(number=3))
        assert numbers([await anext(stream)]) == [("HeavyParcel", 3)]
        await stream.aclose()


async def test_a_slow_reader_never_blocks_agents_and_misses_nothing() -> None:
    async with Flock() as flock:
        shop(flock)
        stream = flock.stream(Truck)
        await flock.publish_many([Order(number=number) for number in range(600)])
        assert (await flock.run_until_idle()).succeeded == 1_200
        await flock.shutdown()
        assert len([artifact async for artifact in stream]) == 600


async def test_events_tell_what_happens_in_order() -> None:
    async with Flock() as flock:
        shop(flock)
        events = flock.events()
        order = await flock.publish(Order())
        await flock.run_until_idle()
        await flock.shutdown()
        told = [(event.kind, event.agent) async for event in events]
        assert told == [
            ("published", "external"), ("started", "packer"), ("published", "packer"), ("finished", "packer"),
            ("started", "loader"), ("published", "loader"), ("finished", "loader"),
        ]  # fmt: skip
        assert order.id


async def test_an_event_knows_run_agent_activation_artifacts_and_time() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        shop(flock)
        events = flock.events()
        order = await flock.publish(Order(), correlation_id="one")
        published, started = await anext(events), await anext(events)
        assert (published.run, published.artifacts, published.at) == ("one", (order.id,), clock.now())
        assert (started.run, started.agent, started.artifacts) == ("one", "packer", (order.id,))
        assert started.activation is not None
        assert started.to_dict()["kind"] == "started"
        await events.aclose()
        await flock.run_until_idle()


async def test_a_reader_of_events_that_is_too_slow_is_told_how_many_it_missed() -> None:
    async with Flock() as flock:
        shop(flock)
        events = flock.events(capacity=3)
        await flock.publish(Order())
        await flock.run_until_idle()
        await flock.shutdown()
        told = [(event.kind, event.count) async for event in events]
        assert told == [("published", 1), ("started", 1), ("published", 1), ("missed", 4)]


@pytest.mark.parametrize("capacity", [0, -1, True])
def test_a_capacity_that_can_never_work_is_refused(capacity: int) -> None:
    with pytest.raises(ConfigurationError, match="capacity"):
        Flock().events(capacity=capacity)


# ---- run_until


async def test_run_until_an_artifact_exists() -> None:
    async with Flock() as flock:
        shop(flock)
        waiting = asyncio.create_task(flock.run_until(Until.exists(Truck), timeout=30))
        await asyncio.sleep(0)
        assert not waiting.done()
        await flock.publish(Order())
        assert await waiting is True


async def test_run_until_without_a_timeout_ends_when_nothing_could_make_it_true_any_more() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order())
        assert await flock.run_until(Until.exists(Paid)) is False
        assert len(await flock.store.get_by_type(Truck)) == 1


async def test_run_until_counts_filters_and_fields() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order(number=1), tags=["express"])
        await flock.publish_many([Order(number=2), Order(number=3)], correlation_id="other")
        await flock.run_until_idle()
        holds = [
            Until.artifact_count(Parcel).at_least(3),
            Until.artifact_count(Parcel).exactly(3),
            Until.artifact_count(Parcel).at_most(3),
            Until.artifact_count(Order, tags=["express"]).exactly(1),
            Until.artifact_count(Parcel, produced_by="packer").exactly(3),
            Until.artifact_count(Order, correlation_id="other").exactly(2),
            Until.artifact_count(Order, where=lambda order: order.number > 1).exactly(2),
            Until.any_field(Truck, "number", lambda number: number == 5),
            Until.idle(),
            ~Until.failure(),
            When.count(Parcel).at_least(3) & When.exists(Truck),
        ]
        for condition in holds:
            assert await flock.run_until(condition) is True
        fails = [
            Until.artifact_count(Parcel).at_least(4),
            Until.any_field(Truck, "number", lambda number: number > 100),
            Until.failure(),
            Until.exists(Paid),
        ]
        for condition in fails:
            assert await flock.run_until(condition, timeout=0.001) is False


async def test_conditions_combine_with_and_or_and_not() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order())
        await flock.run_until_idle()
        yes, no = Until.exists(Truck), Until.exists(Paid)
        assert await flock.run_until(yes & ~no)
        assert await flock.run_until(no | yes)
        assert not await flock.run_until(yes & no, timeout=0.001)
        assert not await flock.run_until(~(yes | no), timeout=0.001)
        with pytest.raises(ConfigurationError, match="&"):
            bool(yes and no)
        with pytest.raises(ConfigurationError, match="at_least"):
            operator.and_(yes, Until.artifact_count(Order))


async def test_run_until_a_failure() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: 1 / 0)
        await flock.publish(Order())
        assert await flock.run_until(Until.failure())


async def test_run_until_gives_false_after_its_timeout_and_work_goes_on() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await clock.sleep(100)
            return Parcel()

        await flock.publish(Order())
        assert await flock.run_until(Until.exists(Parcel), timeout=10) is False
        assert await flock.run_until(Until.exists(Parcel)) is True


async def test_run_until_waits_for_what_time_will_bring() -> None:
    async def parcel(inputs: EvalInputs) -> Parcel:
        return Parcel()

    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        flock.agent("ticker").schedule(every=60, max_repeats=3).calls(parcel)
        assert await flock.run_until(Until.artifact_count(Parcel).at_least(3)) is True
        assert await flock.run_until(Until.artifact_count(Parcel).at_least(4)) is False


async def test_run_until_inside_a_traced_run_looks_at_that_run() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order())
        await flock.run_until_idle()
        async with flock.traced_run("mine"):
            assert await flock.run_until(Until.exists(Truck), timeout=0.001) is False
            await flock.publish(Order())
            assert await flock.run_until(Until.exists(Truck)) is True


async def test_what_is_no_condition_is_refused() -> None:
    async with Flock() as flock:
        for wrong in (True, "idle", Until.artifact_count(Order), lambda: True):
            with pytest.raises(ConfigurationError):
                await flock.run_until(wrong)
        number: Any = int
        with pytest.raises(ConfigurationError):
            Until.exists(number)
        with pytest.raises(ConfigurationError):
            Until.artifact_count(Order).at_least(-1)


async def test_a_condition_whose_predicate_raises_tells_its_caller() -> None:
    async with Flock() as flock:
        await flock.publish(Order())
        with pytest.raises(ZeroDivisionError):
            await flock.run_until(Until.any_field(Order, "number", lambda number: 1 / number > 0))


# ---- status


async def test_status_says_where_a_run_stands() -> None:
    clock, go = FakeClock(), asyncio.Event()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order) -> Parcel:
            await go.wait()
            return Parcel()

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        flock.agent("ship").consumes(Parcel, Paid).calls(lambda _: None)
        flock.agent("breaks").consumes(Truck).calls(lambda _: 1 / 0)

        assert (await flock.status("one")).state == "unknown"
        await flock.publish_many([Order(), Order()], correlation_id="one")
        status = await flock.status("one")
        assert (status.state, status.running, status.ready, status.artifacts) == ("active", 1, 1, 2)
        go.set()
        await flock.run_until_idle()
        status = await flock.status("one")
        assert (status.state, status.succeeded, status.waiting) == ("waiting", 2, 1)
        await flock.publish_many([Paid(), Paid()], correlation_id="one")
        await flock.run_until_idle()
        status = await flock.status("one")
        assert (status.state, status.succeeded, status.artifacts) == ("succeeded", 4, 6)
        await flock.publish(Truck(), correlation_id="one")
        await flock.run_until_idle()
        status = await flock.status("one")
        assert (status.state, status.succeeded, status.failed) == ("failed", 4, 1)
        await flock.cancel("one")
        assert (await flock.status("one")).state == "cancelled"


async def test_a_run_of_artifacts_that_nobody_consumes_has_succeeded() -> None:
    async with Flock() as flock:
        await flock.publish(Order(), correlation_id="one")
        status = await flock.status("one")
        assert (status.state, status.artifacts) == ("succeeded", 1)


async def test_a_delayed_retry_is_active() -> None:
    async def fail(inputs: EvalInputs) -> None:
        raise ValueError

    clock = FakeClock(autojump=False)
    async with Flock(clock=clock) as flock:
        flock.agent("packer").consumes(Order).retry(2, delay=60).calls(fail)
        await flock.publish(Order(), correlation_id="one")
        await clock.settle()
        status = await flock.status("one")
        assert (status.state, status.delayed) == ("active", 1)
        await flock.cancel("one")


async def test_an_invoked_agent_that_is_removed_meanwhile_is_no_longer_there() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.ready()
        flock.remove_agent("packer")
        with pytest.raises(FlockError, match="packer"):
            await flock.invoke("packer", Order())
