"""P18: limits are loud."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from flock import ConfigurationError, Event, Failure, Flock


class Ping(BaseModel):
    count: int = 0


class Pong(BaseModel):
    count: int = 0


class Order(BaseModel):
    pass


def endless(flock: Flock) -> None:
    async def again(ping: Ping) -> Ping:
        return Ping(count=ping.count + 1)

    flock.agent("loop").consumes(Ping).prevent_self_trigger(prevent=False).calls(again)


def ping_pong(flock: Flock) -> None:
    @flock.agent
    async def left(ping: Ping) -> Pong:
        return Pong(count=ping.count + 1)

    @flock.agent
    async def right(pong: Pong) -> Ping:
        return Ping(count=pong.count + 1)


async def test_p18_a_self_loop_ends_in_one_failure_at_max_depth() -> None:
    async with Flock(max_depth=20) as flock:
        endless(flock)
        await flock.publish(Ping())
        report = await flock.run_until_idle()

        (failure,) = report.failures
        assert (failure.agent, failure.error_type) == ("loop", "LimitExceeded")
        assert "max_depth=20" in failure.message
        last = (await flock.store.get_by_type(Ping))[-1]
        assert last.count == 21
        (artifact,) = await flock.store.query(Failure)
        (lost,) = artifact.payload.inputs
        assert (await flock.store.query(Ping))[-1].id == lost


async def test_p18_the_depth_limit_is_one_thousand_by_default() -> None:
    async with Flock() as flock:
        endless(flock)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert report.succeeded == 1_001  # depths 0 to 1,000
        assert [failure.error_type for failure in report.failures] == ["LimitExceeded"]


async def test_p18_ping_pong_ends() -> None:
    async with Flock(max_depth=7) as flock:
        ping_pong(flock)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert report.succeeded == 8
        assert [failure.agent for failure in report.failures] == ["left"]


async def test_p18_a_loop_that_multiplies_ends_whatever_its_volume() -> None:
    async with Flock(max_depth=6) as flock:

        async def twice(ping: Ping) -> list[Ping]:
            return [Ping(), Ping()]

        flock.agent("loop").consumes(Ping).prevent_self_trigger(prevent=False).calls(twice)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert report.succeeded == 2**7 - 1
        assert len(report.failures) == 2**7


async def test_p18_a_loop_through_flock_publish_ends() -> None:
    async with Flock(max_depth=5) as flock:

        async def again(ping: Ping) -> None:
            await flock.publish(Ping(count=ping.count + 1))

        flock.agent("loop").consumes(Ping).prevent_self_trigger(prevent=False).calls(again)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["LimitExceeded"]


async def test_p18_depth_follows_the_deepest_parent() -> None:
    async with Flock() as flock:
        ping_pong(flock)
        flock.remove_agent("right")

        @flock.agent
        async def meet(order: Order, pong: Pong) -> Failure:
            return Failure(agent="meet", error_type="none", message="")

        await flock.publish(Order())
        await flock.publish(Ping())
        await flock.run_until_idle()
        depths = {artifact.produced_by: artifact.depth for artifact in await flock.store.list()}
        assert depths == {"external": 0, "left": 1, "meet": 2}


async def test_p18_other_runs_are_untouched() -> None:
    async with Flock(max_depth=10) as flock:
        endless(flock)

        @flock.agent
        async def quiet(order: Order) -> Pong:
            return Pong()

        await flock.publish(Ping(), correlation_id="runaway")
        await flock.publish(Order(), correlation_id="calm")
        await flock.run_until_idle()
        assert (await flock.status("runaway")).state == "failed"
        calm = await flock.status("calm")
        assert (calm.state, calm.succeeded) == ("succeeded", 1)


async def test_p18_a_tripped_limit_is_an_event_that_names_the_input() -> None:
    events: list[Event] = []
    async with Flock(max_depth=2, observers=[events.append]) as flock:
        endless(flock)
        await flock.publish(Ping(), correlation_id="runaway")
        await flock.run_until_idle()
        (limited,) = [event for event in events if event.kind == "limited"]
        last = (await flock.store.query(Ping))[-1]
        assert (limited.agent, limited.run, limited.artifacts) == ("loop", "runaway", (last.id,))
        assert "max_depth=2" in str(limited.error)


async def test_p18_the_body_does_not_run_beyond_the_limit_and_is_not_tried_again() -> None:
    attempts: list[int] = []
    async with Flock(max_depth=3) as flock:

        async def again(ping: Ping) -> Ping:
            attempts.append(ping.count)
            return Ping(count=ping.count + 1)

        flock.agent("loop").consumes(Ping).prevent_self_trigger(prevent=False).retry(5).calls(again)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert attempts == [0, 1, 2, 3]
        assert [failure.attempts for failure in report.failures] == [1]


async def test_p18_a_failure_handler_gets_the_failure_of_a_limit() -> None:
    heard: list[str] = []
    async with Flock(max_depth=3) as flock:
        endless(flock)

        @flock.agent
        async def nurse(failure: Failure) -> None:
            heard.append(failure.error_type)

        await flock.publish(Ping())
        await flock.run_until_idle()
        assert heard == ["LimitExceeded"]


async def test_p18_failure_handlers_that_publish_again_end_too() -> None:
    async with Flock(max_depth=10) as flock:

        @flock.agent
        async def breaks(ping: Ping) -> None:
            raise RuntimeError("broken")

        @flock.agent
        async def tries_again(failure: Failure) -> Ping:
            return Ping()

        await flock.publish(Ping())
        report = await flock.run_until_idle(timeout=30)
        assert report.idle
        assert "LimitExceeded" in {failure.error_type for failure in report.failures}
        assert len(await flock.store.get_by_type(Ping)) < 20


async def test_p18_a_handler_that_restarts_a_loop_ends_too() -> None:
    async with Flock(max_depth=5) as flock:
        endless(flock)

        @flock.agent
        async def restart(failure: Failure) -> Ping:
            return Ping()

        await flock.publish(Ping())
        report = await flock.run_until_idle(timeout=30)
        assert report.idle
        assert len(await flock.store.list()) < 20


async def test_p18_max_activations_bounds_a_runs_activations_of_one_agent() -> None:
    async with Flock(max_activations=4) as flock:
        endless(flock)
        await flock.publish(Ping())
        report = await flock.run_until_idle()
        assert report.succeeded == 4
        (failure,) = report.failures
        assert failure.error_type == "LimitExceeded"
        assert "max_activations=4" in failure.message


async def test_p18_max_activations_counts_each_agent_and_run_for_itself() -> None:
    async with Flock(max_activations=2) as flock:
        flock.agent("a").consumes(Order).calls(lambda _: None)
        flock.agent("b").consumes(Order).calls(lambda _: None)
        for run in ("one", "two"):
            await flock.publish_many([Order(), Order()], correlation_id=run)
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (8, 0)
        await flock.publish_many([Order(), Order(), Order()], correlation_id="three")
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (4, 2)


async def test_p18_max_activations_restarts_when_the_run_is_idle() -> None:
    async with Flock(max_activations=2) as flock:
        flock.agent("a").consumes(Order).calls(lambda _: None)
        for _ in range(3):
            await flock.publish_many([Order(), Order()])
            report = await flock.run_until_idle()
            assert (report.succeeded, report.failed) == (2, 0)


async def test_p18_failure_handlers_end_under_max_activations() -> None:
    async with Flock(max_activations=5) as flock:

        @flock.agent
        async def breaks(ping: Ping) -> None:
            raise RuntimeError("broken")

        @flock.agent
        async def tries_again(failure: Failure) -> Ping:
            return Ping()

        await flock.publish(Ping())
        report = await flock.run_until_idle(timeout=30)
        assert report.idle
        assert len(await flock.store.get_by_type(Ping)) <= 6


@pytest.mark.parametrize("limit", ["max_depth", "max_activations", "max_concurrency"])
@pytest.mark.parametrize("count", [0, -3, True, 1.5])
def test_p18_a_limit_that_can_never_work_is_refused(limit: str, count: float) -> None:
    with pytest.raises(ConfigurationError, match=limit):
        Flock(**{limit: count})  # type: ignore[arg-type]
