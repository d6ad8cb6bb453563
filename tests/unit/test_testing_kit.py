"""The testing kit: fake time, scripted engines, the recorder and the fixtures."""

import asyncio
import contextvars
import datetime as dt
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from pydantic import BaseModel

from flock import Artifact, BatchSpec, Context, EvalInputs, EvalResult, Flock
from flock.model.events import Event
from flock.stores.sqlite.session import Session
from flock.stores.sqlite.store import SQLiteStore
from flock.stores.sqlite.writer import Writer
from flock.testing import FakeClock, Recorder, ScriptedEngine, ScriptError
from flock.testing.quiet import when_quiet

pytest_plugins = ["pytester"]
HOUR = 3600.0


class Order(BaseModel):
    n: int = 0


class Bill(BaseModel):
    n: int = 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(0.0)


# Fake time


def test_time_starts_where_it_is_told_and_stands_still() -> None:
    moment = dt.datetime(2030, 1, 2, tzinfo=dt.UTC)
    assert FakeClock(moment).now() == moment.timestamp()
    assert FakeClock(5).now() == 5.0
    assert FakeClock().now() == FakeClock().now()


def test_ids_and_chance_repeat_from_clock_to_clock_but_differ_by_seed() -> None:
    first, again, other = FakeClock(), FakeClock(), FakeClock(seed=1)
    assert [first.new_id() for _ in range(3)] == [again.new_id() for _ in range(3)]
    assert first.random() == again.random() != other.random()
    assert len({clock.new_id() for clock in (first, other) for _ in range(3)}) == 6


async def test_time_jumps_to_the_next_deadline_when_nothing_can_run(clock: FakeClock) -> None:
    await clock.sleep(HOUR)
    assert clock.now() == HOUR


async def test_time_stands_still_while_anything_can_run(clock: FakeClock) -> None:
    seen: list[float] = []

    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(clock.now())

    async with asyncio.TaskGroup() as group:
        group.create_task(clock.sleep(1))
        group.create_task(work())
    assert seen == [0.0]


async def test_deadlines_come_in_order_of_time_then_as_they_were_armed(clock: FakeClock) -> None:
    called: list[tuple[str, float]] = []

    def call(name: str) -> None:
        called.append((name, clock.now()))

    for name, when in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
        clock.call_at(when, partial(call, name))
    await clock.sleep(3)
    assert called == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 2.0)]


async def test_a_deadline_that_was_called_off_is_neither_called_nor_jumped_to(clock: FakeClock) -> None:
    called: list[str] = []
    handle = clock.call_at(1.0, lambda: called.append("off"))
    handle.cancel()
    handle.cancel()
    await clock.sleep(2)
    assert (called, clock.now()) == ([], 2.0)


async def test_of_two_deadlines_at_one_time_the_first_may_call_off_the_second(clock: FakeClock) -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")
        second.cancel()

    clock.call_at(1.0, first)
    second = clock.call_at(1.0, lambda: called.append("second"))
    await clock.sleep(2)
    assert called == ["first"]


async def test_a_deadline_in_the_past_is_called_at_once_and_moves_no_time(clock: FakeClock) -> None:
    called: list[float] = []
    clock.call_at(-5.0, lambda: called.append(clock.now()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert called == [0.0]


async def test_a_deadline_keeps_the_context_variables_of_who_armed_it(clock: FakeClock) -> None:
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")
    heard: list[str] = []

    async def arm(value: str, when: float) -> None:
        word.set(value)
        clock.call_at(when, lambda: heard.append(word.get()))

    await asyncio.gather(arm("one", 2.0), arm("two", 1.0))
    await clock.sleep(3)
    assert heard == ["two", "one"]


async def test_a_timeout_on_the_clock_does_not_overtake_work(clock: FakeClock) -> None:
    flock = Flock(clock=clock)

    @flock.agent
    async def bill(order: Order) -> Bill:
        for _ in range(20):
            await asyncio.sleep(0)
        await clock.sleep(10)
        return Bill(n=order.n)

    async with flock:
        await flock.publish(Order())
        assert (await flock.run_until_idle(timeout=20)).idle
        assert clock.now() == 10.0
        await flock.publish(Order())
        assert not (await flock.run_until_idle(timeout=5)).idle
        assert clock.now() == 15.0
        assert (await flock.run_until_idle()).succeeded == 1


async def test_schedules_and_batches_run_in_fake_time(clock: FakeClock) -> None:
    flock, ticks = Flock(clock=clock), list[float | None]()

    async def tick(ctx: Context) -> None:
        ticks.append(ctx.fire_time)

    flock.agent("minute").schedule(every=60).calls(tick)
    flock.agent("batch").consumes(Order, batch=BatchSpec(timeout=90)).publishes(Bill).calls(_first_bill)
    async with flock:
        await flock.publish(Order())
        await flock.run_until_idle()
        assert clock.now() == 90.0
        await clock.advance(100)
        assert ticks == [60.0, 120.0, 180.0]
        assert (await flock.run_until_idle(timeout=5)).idle
        assert clock.now() == 190.0


async def test_a_long_row_of_retries_takes_no_time_and_always_the_same_way() -> None:
    async def once() -> list[float]:
        clock, recorder = FakeClock(0.0), Recorder()
        async with Flock(clock=clock, observers=[recorder]) as flock:
            script = ScriptedEngine([ValueError("no")] * 9 + [Bill()])
            flock.agent("stubborn").consumes(Order).publishes(Bill).with_engines(script).retry(10, delay=10)
            await flock.publish(Order())
            await flock.run_until_idle()
        return [event.at for event in recorder.of("started")]

    first = await once()
    assert len(first) == 10
    assert first[-1] > 100
    assert await once() == first


async def test_a_threads_work_is_not_overtaken(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flock.testing.clock._FOR_THREADS", 2.0)
    go = threading.Event()
    flock = Flock(clock=clock)

    @flock.agent
    def slow(order: Order) -> Bill:
        go.wait(0.02)
        return Bill()

    async with flock:
        await flock.publish(Order())
        assert (await flock.run_until_idle(timeout=HOUR)).idle
        assert clock.now() == 0.0


@pytest.mark.parametrize("synchronous", ["full", "normal"])
async def test_what_a_store_in_a_file_does_is_not_overtaken(
    clock: FakeClock, tmp_path: Path, synchronous: Literal["full", "normal"], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (threading.Event().wait(0.2), fn(*given))[1]

    for cls, name in ((Session, "_reading"), (Writer, "_transact")):  # what their threads do
        monkeypatch.setattr(cls, name, slowly(vars(cls)[name]))
    async with Flock(clock=clock, store=SQLiteStore(tmp_path / "board.db", synchronous=synchronous)) as flock:
        clock.call_at(HOUR, lambda: None)
        await flock.publish(Order())
        assert await flock.store.get_by_type(Order) == [Order()]
        assert clock.now() == 0.0


async def test_a_threshold_waits_for_what_takes_real_time() -> None:
    clock = FakeClock(0.0, threshold=0.05)
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, woken.set_result, None)
    timeout = clock.call_at(1.0, partial(woken.set_exception, TimeoutError()))
    await woken
    timeout.cancel()
    assert clock.now() == 0.0


def test_one_clock_serves_several_loops_one_after_the_other(clock: FakeClock) -> None:
    async def nap() -> float:
        clock.call_at(clock.now() + 1, lambda: None)
        clock.call_at(clock.now() + HOUR, lambda: None)  # its loop is gone before
        await clock.sleep(5)
        return clock.now()

    assert asyncio.run(nap()) == 5.0
    assert asyncio.run(nap()) == 10.0


def test_one_clock_serves_two_loops_at_once(clock: FakeClock) -> None:
    met = threading.Barrier(2, timeout=5)
    seen: list[tuple[str, float]] = []

    async def nap(name: str, *naps: float) -> None:
        clock.call_at(HOUR, lambda: None)
        met.wait()
        for seconds in naps:
            await clock.sleep(seconds)
            seen.append((name, clock.now()))

    threads = [threading.Thread(target=asyncio.run, args=(nap(*plan),)) for plan in (("a", 1, 2), ("b", 2, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [at for _, at in seen] == sorted(at for _, at in seen)
    assert dict(seen)["b"] >= 5.0


async def test_two_clocks_on_one_loop_do_not_take_each_other_for_work() -> None:
    first, second = FakeClock(0.0), FakeClock(100.0)
    await asyncio.gather(first.sleep(5), second.sleep(7))
    assert (first.now(), second.now()) == (5.0, 107.0)


async def test_without_a_deadline_the_clock_leaves_the_loop_alone() -> None:
    clock = FakeClock(0.0, threshold=0.0)  # whatever threads other tests have left
    await clock.sleep(1)
    clock.call_at(HOUR, lambda: None).cancel()
    loop = asyncio.get_running_loop()
    looks: list[bool] = []
    for _ in range(5):  # others may have something to do at one look, but not at all of them
        woken = loop.create_future()
        loop.call_later(0.01, woken.set_result, None)
        await woken
        looks.append(bool(getattr(loop, "_ready", ())))
    assert not all(looks)
    assert clock.now() == 1.0


async def test_advance_goes_deadline_by_deadline_and_lets_everything_happen() -> None:
    clock = FakeClock(0.0, autojump=False)
    seen: list[float] = []

    async def naps() -> None:
        for _ in range(5):
            await clock.sleep(10)
            await asyncio.sleep(0)
            seen.append(clock.now())

    task = asyncio.create_task(naps())
    await clock.settle()
    assert seen == []
    await clock.advance(25)
    assert (seen, clock.now()) == ([10.0, 20.0], 25.0)
    await clock.advance(5)
    assert (seen, clock.now()) == ([10.0, 20.0, 30.0], 30.0)
    await clock.settle()
    assert not task.done()
    task.cancel()


async def test_advance_goes_no_further_than_told_though_time_jumps_by_itself(clock: FakeClock) -> None:
    task = asyncio.create_task(clock.sleep(HOUR))
    await asyncio.sleep(0)
    await clock.advance(10)
    assert (clock.now(), task.done()) == (10.0, False)
    await task


async def test_time_moved_by_hand_calls_what_is_due() -> None:
    clock = FakeClock(0.0, autojump=False)
    called: list[float] = []
    clock.call_at(10.0, lambda: called.append(clock.now()))
    clock.advance_to(5.0)
    await clock.settle()
    assert called == []
    clock.advance_to(20.0)
    clock.advance_to(1.0)
    await clock.settle()
    assert called == [20.0]


async def test_a_loop_that_does_not_show_what_is_ready_is_given_a_little_real_time() -> None:
    class Foreign:
        """What the watch sees of a loop of another make."""

        def call_soon(self, callback: Callable[[], object]) -> None:
            loop.call_soon(callback)

        def is_closed(self) -> bool:
            return True

    loop, told = asyncio.get_running_loop(), asyncio.Event()
    when_quiet(cast("asyncio.AbstractEventLoop", Foreign()), told.set)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not told.is_set()
    await told.wait()


async def test_who_asks_first_is_told_first_and_one_at_a_time() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()
    done = loop.create_future()

    def second() -> None:
        told.append("second")
        loop.call_soon(told.append, "between")

    when_quiet(loop, second)
    when_quiet(loop, partial(done.set_result, None))
    when_quiet(loop, partial(told.append, "first"), first=True)
    await done
    assert told == ["first", "second", "between"]


# Scripted engines


async def test_a_script_is_played_in_order_and_calls_are_kept(clock: FakeClock) -> None:
    async def later(inputs: EvalInputs) -> Bill:
        await clock.sleep(1)
        return Bill(n=sum(order.n for order in inputs.all_as(Order)))

    script = ScriptedEngine(
        [Bill(n=1), [Bill(n=2), Bill(n=3)], None, lambda inputs: Bill(n=len(inputs.artifacts)), later,
         EvalResult.from_object(Bill(n=9)), Artifact(Bill(n=8))]
    )  # fmt: skip
    flock = Flock(clock=clock)
    flock.agent("biller").consumes(Order).publishes(Bill, fan_out=(0, 2)).max_concurrency(1).with_engines(script)
    async with flock:
        for n in range(7):
            await flock.publish(Order(n=n), correlation_id="run")
        (await flock.run_until_idle()).raise_for_failures()
        bills = [bill.n for bill in await flock.store.get_by_type(Bill)]
    assert bills == [1, 2, 3, 1, 4, 9, 8]
    assert [call.payloads for call in script.calls] == [(Order(n=n),) for n in range(7)]
    assert {(call.agent, call.attempt, call.run) for call in script.calls} == {("biller", 1, "run")}
    assert script.left == 0


async def test_a_script_raises_what_it_is_told_to(clock: FakeClock) -> None:
    script = ScriptedEngine([ValueError("one"), KeyError, Bill()])
    flock = Flock(clock=clock)
    flock.agent("biller").consumes(Order).publishes(Bill).with_engines(script).retry(3, delay=1)
    async with flock:
        await flock.publish(Order())
        assert (await flock.run_until_idle()).succeeded == 1
    assert [call.attempt for call in script.calls] == [1, 2, 3]


async def test_a_call_beyond_the_script_says_so(clock: FakeClock) -> None:
    script = ScriptedEngine({2: Bill()})
    assert repr(script) == "<ScriptedEngine: 0 calls, 1 of 1 steps left>"
    flock = Flock(clock=clock)
    flock.agent("biller").consumes(Order).publishes(Bill).with_engines(script)
    async with flock:
        with pytest.raises(ScriptError, match="call 1 by agent 'biller' is not in the script, which has steps 2"):
            await flock.invoke("biller", Order())
        assert len(await flock.invoke("biller", Order())) == 1


# The recorder


async def test_a_recorder_keeps_what_happens(clock: FakeClock) -> None:
    recorder = Recorder()
    flock = Flock(clock=clock, observers=[recorder])
    flock.agent("biller").consumes(Order).publishes(Bill).calls(_bill)
    async with flock:
        await flock.publish(Order(), correlation_id="one")
        await flock.publish(Order(), correlation_id="two")
        await flock.run_until_idle()
    assert recorder.kinds.count("finished") == 2
    assert len(recorder.of("started", agent="biller")) == 2
    assert len(recorder.of("started", agent="biller", run="one")) == 1
    assert recorder.of("started", agent="nobody") == []
    assert "started biller" in repr(recorder)
    recorder.clear()
    assert repr(recorder) == "<Recorder of 0 events: none>"


async def test_a_recorder_waits_for_what_has_happened_or_will(clock: FakeClock) -> None:
    recorder = Recorder()
    flock = Flock(clock=clock, observers=[recorder])
    flock.agent("biller").consumes(Order).publishes(Bill).calls(_bill)
    async with flock:
        waits = [asyncio.create_task(recorder.wait_for("finished", count=count)) for count in (1, 2)]
        impatient = asyncio.create_task(recorder.wait_for("failed"))
        await asyncio.sleep(0)
        impatient.cancel()
        await flock.publish_many([Order(), Order()])
        first, second = [await wait for wait in waits]
        assert (first, second) == tuple(recorder.of("finished"))
        assert await recorder.wait_for("finished", agent="biller") is first


async def test_a_recorder_that_waits_in_vain_says_what_did_happen() -> None:
    recorder = Recorder()
    for number in range(25):
        recorder(Event(kind="tick", at=0.0, agent=f"agent {number}"))
    with pytest.raises(AssertionError, match=r"no 'failed' event number 1 within 0.01 s: .* \.\.\., tick agent 5"):
        await recorder.wait_for("failed", timeout=0.01)


# The fixtures


MODULE = """
    import asyncio, pytest
    from pydantic import BaseModel
    from flock import ClosedError

    class Order(BaseModel):
        pass

    class Bill(BaseModel):
        n: int = 0

    kept = []

    async def test_go_together(flock_clock, make_flock, flock_spans):
        flock = make_flock("test", name="fixtures")
        flock.agent("biller").consumes(Order).publishes(Bill)
        async with flock.traced_run("billing"):
            assert isinstance(await flock.ask(Order(), Bill), Bill)
            before = flock_clock.now()
            await flock_clock.sleep(3600)
            assert flock_clock.now() == before + 3600
        assert {"invoke_workflow billing", "invoke_agent biller"} <= {span.name for span in flock_spans.spans}

    def test_plain_code(make_flock):
        flock = make_flock("test")
        flock.agent("biller").consumes(Order).publishes(Bill)
        assert len(flock.run("biller", Order())) == 1
        kept.append(flock)

    async def test_leaves_work_behind(make_flock):
        flock = make_flock()

        @flock.agent
        async def slow(order: Order) -> None:
            await asyncio.Event().wait()

        await flock.publish(Order())
        await asyncio.sleep(0)
        kept.append(flock)

    def test_never_starts(make_flock):
        kept.append(make_flock())

    @pytest.fixture
    def ready(make_flock):
        return make_flock("test", clock=None)

    async def test_gets_one_from_a_fixture(ready):
        await ready.publish(Order())
        kept.append(ready)

    async def test_all_are_closed():
        for flock in kept:
            with pytest.raises(ClosedError):
                await flock.publish(Order())
        assert len(kept) == 4
"""


def test_every_flock_made_is_shut_down_at_the_end_of_its_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pytester.makepyfile(MODULE)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    by_hand = () if request.config.pluginmanager.hasplugin("flock") else ("-p", "flock.testing.plugin")
    result = pytester.runpytest_subprocess(*by_hand, "-W", "error")
    result.assert_outcomes(passed=6)


async def _bill(order: Order) -> Bill:
    return Bill(n=order.n)


async def _first_bill(orders: list[Order]) -> Bill:
    return Bill(n=len(orders))
