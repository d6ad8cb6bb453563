"""Blocking calls, and awaits from other loops: R1 to R14, each by its number (R9 and R10 in `test_processes`)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from opentelemetry import trace
from pydantic import BaseModel

from flock import (
    BlockingCallWarning,
    ClosedError,
    ConfigurationError,
    Event,
    Flock,
    FlockError,
    SyncInLoopError,
    run_sync,
)
from flock.tracing import Tracing

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="nothing")


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


@pytest.fixture
def flock() -> Generator[Flock]:
    """A Flock with one agent, for code that blocks."""
    board = Flock(name="depot")

    @board.agent
    async def pack(order: Order) -> Parcel:
        return Parcel(number=order.number)

    yield board
    board.sync.close()


@pytest.fixture
def quiet() -> Generator[None]:
    """Nobody is told that a loop stands still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingCallWarning)
        yield


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a notebook's kernel has in its modules."""
    module = ModuleType("IPython")
    vars(module)["get_ipython"] = lambda: SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", module)


def home_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "home loop" in thread.name and "run_sync" not in thread.name]


async def no_home_threads() -> None:
    """Wait until all have ended: `shutdown` on another loop only asks for that."""
    for thread in home_threads():
        await asyncio.to_thread(thread.join, 30)
    assert home_threads() == []


async def here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def in_thread(fn: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fn).result()


# ---- R1


async def test_r1_the_first_await_adopts_the_running_loop() -> None:
    async with Flock() as flock:
        assert flock.portal.loop is asyncio.get_running_loop()
        assert await asyncio.to_thread(flock.sync.call, here) is asyncio.get_running_loop()
    assert home_threads() == []


def test_r1_the_first_blocking_call_starts_one_loop_in_the_background(flock: Flock) -> None:
    loops = [flock.sync.call(here) for _ in range(3)]
    assert len(set(loops)) == 1
    (thread,) = home_threads()
    assert thread.daemon
    assert "depot" in thread.name


def test_r1_agents_run_on_the_home_loop(flock: Flock) -> None:
    seen: list[asyncio.AbstractEventLoop] = []

    @flock.agent
    async def look(parcel: Parcel) -> None:
        seen.append(asyncio.get_running_loop())

    flock.sync.publish(Order())
    flock.sync.run_until_idle()
    asyncio.run(publish_and_wait(flock))
    assert seen == [flock.portal.loop] * 2


async def publish_and_wait(flock: Flock) -> None:
    await flock.publish(Order())
    await flock.run_until_idle()


def test_r1_what_is_bound_to_a_loop_is_kept_from_call_to_call(flock: Flock) -> None:
    made = flock.sync.call(make_bound)
    assert [flock.sync.call(use_bound, *made) for _ in range(3)] == [200] * 3
    flock.sync.call(made[0].aclose)


async def make_bound() -> tuple[httpx.AsyncClient, asyncio.Semaphore]:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    return httpx.AsyncClient(transport=transport), asyncio.Semaphore(1)


async def use_bound(client: httpx.AsyncClient, one: asyncio.Semaphore) -> int:
    async def get() -> int:
        async with one:
            await asyncio.sleep(0)
            return (await client.get("http://depot.test/")).status_code

    return max(await asyncio.gather(get(), get()))


@pytest.mark.usefixtures("notebook")
async def test_r1_in_a_notebook_the_home_is_in_the_background() -> None:
    flock = Flock()
    await flock.publish(Order())
    assert flock.portal.loop is not asyncio.get_running_loop()
    assert len(flock.sync.store.list()) == 1  # and nobody is warned
    await flock.shutdown()
    await no_home_threads()


async def test_r1_a_home_in_the_background_can_be_asked_for() -> None:
    flock = Flock(home="background")
    await flock.ready()
    assert flock.portal.loop is not asyncio.get_running_loop()
    await flock.shutdown()
    await no_home_threads()


def test_r1_a_home_that_is_the_callers_is_never_started() -> None:
    flock = Flock(home="caller")
    with pytest.raises(FlockError, match="home='caller' starts no loop"):
        flock.sync.ready()

    async def main() -> None:
        with pytest.raises(SyncInLoopError, match="await"):
            flock.sync.ready()
        await flock.ready()
        assert await asyncio.to_thread(flock.sync.call, here) is asyncio.get_running_loop()

    asyncio.run(main())
    assert home_threads() == []


def test_r1_another_home_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'auto', 'background' or 'caller'"):
        Flock(home=cast("Any", "elsewhere"))


def test_r1_after_the_loop_of_the_first_use_another_one_is_the_home(flock: Flock) -> None:
    asyncio.run(publish_and_wait(flock))
    asyncio.run(publish_and_wait(flock))
    assert flock.sync.publish(Order()).sequence == 5
    flock.sync.run_until_idle()
    assert len(flock.sync.store.list()) == 6


# ---- R2


def test_r2_calls_from_every_thread_go_to_the_home_loop(flock: Flock) -> None:
    homes = [flock.sync.call(here), in_thread(lambda: flock.sync.call(here)), flock.portal.loop]
    assert len(set(homes)) == 1


def test_r2_every_call_has_a_blocking_twin(flock: Flock) -> None:
    own = {"shutdown", "arun"}  # close, run
    calls = {name for name, member in inspect.getmembers(Flock) if inspect.iscoroutinefunction(inspect.unwrap(member))}
    assert {name for name in calls - own if not name.startswith("_")} <= set(dir(flock.sync))
    reads = {name for name, _ in inspect.getmembers(flock.store, inspect.iscoroutinefunction)}
    assert {name for name in reads if not name.startswith("_")} <= set(dir(flock.sync.store))


def test_r2_blocking_calls_do_what_their_twins_do(flock: Flock) -> None:
    one = flock.sync.publish(Order(number=1), tags={"urgent"})
    flock.sync.publish_many([Order(number=2), Order(number=3)])
    assert flock.sync.run_until_idle().succeeded == 3
    assert flock.sync.ask(Order(number=4), Parcel).number == 4
    assert [each.payload.number for each in flock.sync.invoke("pack", Order(number=5))] == [5]
    assert [each.payload.number for each in flock.run("pack", Order(number=6))] == [6]
    assert flock.sync.status(one.correlation_id).state == "succeeded"
    assert flock.sync.cancel("no such run") == 0
    assert [each.id for each in flock.sync.store.query(tags="urgent")] == [one.id]
    assert flock.sync.store.get(one.id) == one
    with flock.sync.traced_run("mine", correlation_id="mine"):
        assert flock.sync.publish(Order()).correlation_id == "mine"
    assert flock.correlation_id == "depot"


def test_r2_fifty_threads_share_one_flock() -> None:
    flock = Flock()

    @flock.agent
    async def pack(order: Order) -> Parcel:
        await asyncio.sleep(0)
        return Parcel(number=order.number)

    barrier = threading.Barrier(50)

    def use(number: int) -> int:
        barrier.wait()
        return flock.sync.ask(Order(number=number), Parcel).number

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(use, range(50))) == list(range(50))
    assert len(home_threads()) == 1
    flock.sync.close()


async def test_r2_a_loop_that_has_ended_is_not_waited_for() -> None:
    flock, started, ended = Flock(), threading.Event(), threading.Event()

    async def live() -> None:
        await flock.ready()
        started.set()
        await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    await asyncio.to_thread(started.wait)
    assert await flock.portal.hop(here) is flock.portal.loop
    ended.set()
    thread.join()
    await flock.ready()  # here, now
    assert flock.portal.loop is asyncio.get_running_loop()
    await flock.shutdown()


# ---- R3


async def test_r3_inside_another_loop_it_works_and_warns_once_per_place(flock: Flock) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(3):
            flock.sync.publish(Order(number=number))
        flock.sync.run_until_idle()
    assert [warning.category for warning in told] == [BlockingCallWarning] * 2
    assert {warning.filename for warning in told} == {__file__}
    assert "publish" in str(told[0].message)


@pytest.mark.usefixtures("notebook")
async def test_r3_in_a_notebook_nobody_is_warned(flock: Flock) -> None:
    flock.sync.publish(Order())
    assert run_sync(here) is not asyncio.get_running_loop()


# ---- R4


async def test_r4_on_the_home_loop_it_is_refused_at_once() -> None:
    async with Flock() as flock:
        for call in (
            lambda: flock.sync.publish(Order()),
            lambda: flock.run("pack", Order()),
            flock.sync.close,
            flock.sync.ready,
            lambda: next(flock.sync.stream()),
            lambda: next(flock.sync.events()),
            flock.sync.store.list,
        ):
            with pytest.raises(SyncInLoopError, match="write `await"):
                call()


def test_r4_an_async_agent_is_refused_too(flock: Flock) -> None:
    @flock.agent
    async def careless(parcel: Parcel) -> None:
        flock.sync.publish(Order(number=parcel.number))

    with pytest.raises(SyncInLoopError, match="write `await publish"):
        flock.sync.invoke(careless, Parcel())


@pytest.mark.usefixtures("quiet")
async def test_r4_a_call_that_would_wait_for_its_own_caller_is_refused() -> None:
    async with Flock() as flock:

        async def publish() -> None:
            await flock.publish(Order())

        with pytest.raises(SyncInLoopError, match="blocked by the call that leads here"):
            run_sync(publish)
        with pytest.raises(SyncInLoopError, match="blocked by the call that leads here"):
            run_sync(lambda: asyncio.to_thread(lambda: flock.sync.publish(Order())))


# ---- R5


def test_r5_an_await_on_another_loop_runs_at_home(flock: Flock) -> None:
    home = flock.sync.call(here)
    seen: list[asyncio.AbstractEventLoop] = []

    def look(order: Order) -> bool:
        seen.append(asyncio.get_running_loop())
        return False

    flock.agent("look").consumes(Order, where=look).calls(pack_nothing)

    async def main() -> list[object]:
        assert asyncio.get_running_loop() is not home
        await flock.publish(Order(number=1))
        await flock.run_until_idle()
        streamed = [artifact.payload async for artifact in first(flock.stream(Parcel, since=0))]
        events = flock.events()
        await flock.publish(Order(number=2))
        kinds = [(await anext(events)).kind]
        await events.aclose()
        return [*streamed, *kinds, await flock.store.get_by_type(Order)]

    expected = [Parcel(number=1), "published", [Order(number=1), Order(number=2)]]
    assert asyncio.run(main()) == expected
    assert seen == [home, home]


async def pack_nothing(order: Order) -> None:
    raise AssertionError(order)


async def first(stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any]:
    async for item in stream:
        yield item
        break
    await stream.aclose()


def test_r5_cancelling_the_wait_cancels_the_work_and_waits_for_its_end(flock: Flock) -> None:
    told: list[str] = []
    work = Slow(told)
    flock.agent("slow").consumes(Parcel).calls(work.body)

    async def main() -> None:
        waiting = asyncio.create_task(flock.invoke("slow", Parcel()))
        await asyncio.to_thread(work.started.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    flock.sync.ready()
    asyncio.run(main())
    assert told == ["cancelled", "cleaned up"]


class Slow:
    """A body that takes its time, and some more to clean up."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.started = threading.Event()

    async def body(self, parcel: Parcel) -> None:  # noqa: ARG002 - its type is what it subscribes to
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.told.append("cancelled")
            await asyncio.sleep(0.02)
            self.told.append("cleaned up")
            raise


def test_r5_work_that_is_cancelled_at_home_is_cancelled_for_its_caller(flock: Flock) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        flock.sync.call(give_up)

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await flock.portal.hop(give_up)

    asyncio.run(main())


# ---- R6


def test_r6_context_variables_go_in_and_come_back(flock: Flock) -> None:
    async def change() -> str:
        found = word.get()
        word.set("changed there")
        return found

    token = word.set("set here")
    try:
        assert flock.sync.call(change) == "set here"
        assert word.get() == "changed there"
    finally:
        word.reset(token)

    async def main() -> str:
        word.set("set on another loop")
        assert await flock.portal.hop(change) == "set on another loop"
        return word.get()

    assert asyncio.run(main()) == "changed there"


def test_r6_a_run_that_is_ambient_here_is_ambient_there(flock: Flock) -> None:
    with flock.sync.traced_run("mine", correlation_id="mine"):
        assert flock.sync.publish(Order()).correlation_id == "mine"
        assert flock.sync.run_until_idle().succeeded == 1
    assert [each.correlation_id for each in flock.sync.store.list()] == ["mine"] * 2


def test_r6_spans_keep_their_parents(flock_spans: Tracing) -> None:
    flock = Flock()

    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel(number=order.number)

    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("request") as request, flock.sync.traced_run("mine"):
        flock.sync.publish(Order())
        flock.sync.run_until_idle()
    flock.sync.close()
    spans = {span.name: span for span in flock_spans.spans}
    run, agent = spans["invoke_workflow mine"], spans["invoke_agent pack"]
    parents = [span.parent and span.parent.span_id for span in (run, agent)]
    assert parents == [request.get_span_context().span_id, run.context and run.context.span_id]


# ---- R7


def test_r7_a_timeout_cancels_the_work_and_waits_for_its_clean_up(flock: Flock) -> None:
    told: list[str] = []
    work = Slow(told)
    with pytest.raises(TimeoutError, match="body took longer than"):
        flock.sync.call(work.body, Parcel(), timeout=0.05)
    assert told == ["cancelled", "cleaned up"]
    with pytest.raises(TimeoutError):
        run_sync(Slow(told).body, Parcel(), timeout=0.0)


def test_r7_clean_up_is_not_waited_for_for_ever(flock: Flock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flock.sync.portal.PATIENCE", 0.05)
    enough = threading.Event()

    async def stubborn() -> None:
        while not enough.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        flock.sync.call(stubborn, timeout=0.05)
    enough.set()


# ---- R8


class Unusual(BaseException):
    """No Exception, as SystemExit is none."""


@pytest.mark.parametrize("error", [SystemExit(3), Unusual(), KeyboardInterrupt(), GeneratorExit()])
def test_r8_what_is_no_exception_reaches_the_caller_and_the_loop_goes_on(flock: Flock, error: BaseException) -> None:
    async def fail() -> None:
        raise error

    home = flock.sync.call(here)
    with pytest.raises(type(error)) as caught:
        flock.sync.call(fail)
    assert caught.value is error
    with pytest.raises(type(error)):
        run_sync(fail)
    assert flock.sync.call(here) is home


@pytest.mark.parametrize("stop", [StopIteration("odd"), StopAsyncIteration("odd")])
def test_r8_an_end_of_iteration_is_an_error_like_others(flock: Flock, stop: Exception) -> None:
    async def fail() -> None:
        raise stop

    with pytest.raises((RuntimeError, StopAsyncIteration)):
        flock.sync.call(fail)
    assert flock.sync.call(here) is flock.portal.loop


def test_r8_an_agent_that_exits_does_so_for_who_waits(flock: Flock) -> None:
    @flock.agent
    async def leave(parcel: Parcel) -> None:
        raise SystemExit(4)

    with pytest.raises(SystemExit) as caught:
        flock.sync.invoke(leave, Parcel())
    assert caught.value.code == 4
    flock.remove_agent("leave")
    assert flock.sync.publish(Order()).sequence > 1


# ---- R11


class Endless:
    """A source that says on which loops it was closed."""

    def __init__(self) -> None:
        self.closed: list[asyncio.AbstractEventLoop] = []

    async def __anext__(self) -> int:
        return 1

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed.append(asyncio.get_running_loop())


def test_r11_leaving_a_stream_early_closes_its_source_at_home(flock: Flock) -> None:
    flock.sync.ready()
    sources = [Endless(), Endless(), Endless()]
    for item in flock.portal.iterate_blocking(sources[0]):
        assert item == 1
        break
    iterator = flock.portal.iterate_blocking(sources[1])
    assert next(iterator) == 1
    iterator.close()
    iterator.close()
    assert list(iterator) == []
    flock.sync.call(let_go, [flock.portal.iterate_blocking(sources[2])])  # as garbage, at home itself
    gc.collect()
    flock.sync.call(asyncio.sleep, 0.01)
    assert [source.closed for source in sources] == [[flock.portal.loop]] * 3


async def let_go(kept: list[object]) -> None:
    kept.clear()


def test_r11_streams_and_events_are_left_early(flock: Flock) -> None:
    events = flock.sync.events()
    stream = flock.sync.stream(Parcel)
    flock.sync.publish(Order(number=1))
    assert next(stream).payload == Parcel(number=1)
    assert next(events).kind == "published"
    stream.close()
    events.close()
    assert flock.portal.loop is not None
    assert not [task for task in asyncio.all_tasks(flock.portal.loop) if "follow" in repr(task)]


# ---- R12


def test_r12_the_same_exception_reaches_the_caller_with_a_readable_traceback(flock: Flock) -> None:
    error = ValueError("the very one")

    async def fail() -> None:
        raise error

    calls: list[Callable[[], None]] = [
        lambda: flock.sync.call(fail),
        lambda: run_sync(fail),
        lambda: asyncio.run(flock.portal.hop(fail)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="the very one") as caught:
            call()
        assert caught.value is error
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert "fail" in frames
        assert len(frames) < 12
        error.__traceback__ = None


# ---- R13


def test_r13_a_sync_agent_may_block(flock: Flock) -> None:
    def report(parcel: Parcel) -> None:
        flock.sync.publish(Note(text=f"parcel {parcel.number} of {flock.sync.ask(Order(number=8), Parcel).number}"))

    flock.agent("report").consumes(Parcel, where=lambda parcel: parcel.number == 3).calls(report)
    with flock.sync.traced_run("mine", correlation_id="mine"):
        flock.sync.publish(Order(number=3))
        assert flock.sync.run_until_idle(timeout=5).idle
    (note,) = flock.sync.store.query(Note, correlation_id="mine")
    assert note.payload.text == "parcel 3 of 8"
    assert note.produced_by == "report"


class Note(BaseModel):
    text: str


# ---- R14


def test_r14_the_callers_loop_is_as_it_was(flock: Flock) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = dict(vars(loop)), [(name, getattr(type(loop), name)) for name in dir(type(loop))]
        with pytest.warns(BlockingCallWarning):
            flock.sync.publish(Order())
        await flock.publish(Order())
        after = dict(vars(loop)), [(name, getattr(type(loop), name)) for name in dir(type(loop))]
        assert before[0].keys() == after[0].keys()
        assert before[1] == after[1]

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is for other systems")
def test_r14_uvloop_works_in_the_background_and_as_the_callers() -> None:
    import uvloop  # noqa: PLC0415 - not everywhere

    async def pack(order: Order) -> Parcel:
        return Parcel(number=order.number)

    background = Flock(loop_factory=uvloop.new_event_loop)
    background.agent(pack)
    assert background.sync.ask(Order(number=3), Parcel).number == 3
    assert isinstance(background.portal.loop, uvloop.Loop)

    async def main() -> int:
        async with Flock() as flock:
            flock.agent(pack)
            with pytest.warns(BlockingCallWarning):
                assert background.sync.ask(Order(number=4), Parcel).number == 4
            return (await flock.ask(Order(number=5), Parcel)).number + await asyncio.to_thread(
                lambda: flock.sync.ask(Order(number=6), Parcel).number
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 11
    background.sync.close()


# ---- what must hold as well


def double_of(number: int) -> Awaitable[int]:
    async def double() -> int:
        await asyncio.sleep(0)
        return 2 * number

    return double()


def test_a_value_is_returned_with_and_without_an_active_loop() -> None:
    assert run_sync(double_of, 2) == 4

    async def main() -> int:
        with pytest.warns(BlockingCallWarning):
            return run_sync(double_of, 3)

    assert asyncio.run(main()) == 6


def test_a_callback_that_is_given_per_run_is_told_of_its_start_and_its_end(flock: Flock) -> None:
    told: list[Event] = []
    with flock.sync.traced_run("mine", correlation_id="mine", on_event=told.append):
        flock.sync.publish(Order())
        flock.sync.run_until_idle()
        flock.sync.publish(Order(), correlation_id="another")
    with pytest.raises(LookupError), flock.sync.traced_run("not mine"):
        raise LookupError
    assert [event.kind for event in told][:2] == ["run_started", "published"]
    assert [event.kind for event in told][-2:] == ["finished", "run_ended"]
    assert {event.run for event in told} == {"mine"}

    async def main() -> None:
        with pytest.raises(LookupError):
            async with flock.traced_run("failing", on_event=told.append):
                raise LookupError

    del told[:]
    asyncio.run(main())
    assert [(event.kind, event.reason) for event in told] == [("run_started", "failing"), ("run_ended", "failing")]
    assert isinstance(told[-1].error, LookupError)


def test_what_is_no_async_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes an async function; len is none"):
        run_sync(len, "three")  # type: ignore[arg-type]


def test_close_is_idempotent_and_what_comes_after_it_says_closed() -> None:
    flock = Flock(name="depot")
    with flock.sync as board:
        board.publish(Order())
    flock.sync.close()
    for call in (
        lambda: flock.sync.publish(Order()),
        lambda: flock.run("pack", Order()),
        flock.sync.ready,
        lambda: asyncio.run(flock.publish(Order())),
    ):
        with pytest.raises(ClosedError, match="closed"):
            call()
    assert len(flock.sync.store.list()) == 1
    assert home_threads() == []


async def test_a_flock_of_the_background_is_shut_down_by_await() -> None:
    flock = Flock(home="background")
    async with flock:
        await flock.publish(Order())
    await no_home_threads()
    with pytest.raises(ClosedError, match="closed"):
        await flock.publish(Order())


def test_a_flock_that_nobody_has_any_more_ends_its_loop() -> None:
    flock = Flock(name="forgotten")
    flock.sync.publish(Order())
    (thread,) = home_threads()
    gone = weakref.ref(flock)
    del flock
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()
