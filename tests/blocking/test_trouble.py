"""What could go wrong on the way to a home loop and back: waits in a circle, ends that are stuck, closes that meet."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest
from pydantic import BaseModel

from flock import BlockingCallWarning, ClosedError, Flock, SyncInLoopError, run_sync


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Nobody is told that a loop stands still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingCallWarning)
        yield


@pytest.fixture
def background() -> Generator[Flock]:
    """A Flock in the background."""
    flock = Flock(home="background")
    flock.sync.ready()
    yield flock
    flock.sync.close()


def run(program: str) -> tuple[int, str, str]:
    """Run a program, which has to end soon; gives its exit status and what it printed."""
    beginning = """
    import asyncio, os, sys, threading, time, warnings
    from concurrent.futures import ThreadPoolExecutor
    from pydantic import BaseModel
    from flock import ClosedError, Flock, flock_type, run_sync
    warnings.simplefilter("ignore")
    begun = threading.Event()

    @flock_type("Order")
    class Order(BaseModel):
        number: int = 0
    """
    source = textwrap.dedent(beginning) + textwrap.dedent(program)
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=50)  # noqa: S603
    return ended.returncode, ended.stdout, ended.stderr


# ---- waits in a circle


async def test_what_once_stood_still_is_not_held_against_later_calls(background: Flock) -> None:
    async with Flock() as here:

        @background.agent
        async def work(order: Order) -> None:
            await here.publish(Parcel(number=order.number))

        background.sync.ready()  # this loop stands still for a moment, and the board there begins in it
        await background.publish(Order(number=3))
        assert (await background.run_until_idle(timeout=10)).failures == ()
        assert await here.store.get_by_type(Parcel) == [Parcel(number=3)]


async def test_an_agent_that_waits_for_the_loop_that_waits_for_it_is_told(
    background: Flock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock.sync.portal.PATIENCE", 0.5)
    async with Flock() as here:

        @background.agent
        async def work(order: Order) -> None:
            await here.publish(Parcel(number=order.number))

        await background.ready()
        with pytest.raises(SyncInLoopError, match="blocked by the call that leads here"):
            background.sync.invoke(work, Order())


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no timer that sends a signal")
async def test_a_signal_may_call_where_a_call_blocks_already(background: Flock) -> None:
    called = 0

    def handler(*_: object) -> None:
        nonlocal called
        background.sync.call(asyncio.sleep, 0.01)
        called += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        background.sync.call(asyncio.sleep, 0.3)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert called == 1
    background.sync.call(asyncio.sleep, 0)


def test_two_loops_that_wait_for_each_other_are_told() -> None:
    one, two, both = Flock(home="background"), Flock(home="background"), threading.Barrier(2)
    told: list[BaseException] = []

    async def call(other: Flock) -> None:
        both.wait()
        try:
            other.sync.publish(Order())
        except SyncInLoopError as error:
            told.append(error)

    one.sync.ready()
    two.sync.ready()
    calls = [threading.Thread(target=a.sync.call, args=(call, b)) for a, b in ((one, two), (two, one))]
    for thread in calls:
        thread.start()
    for thread in calls:
        thread.join(20)
    assert len(told) == 1
    one.sync.close()
    two.sync.close()


# ---- what is told to whom


def test_a_run_that_an_exit_has_ended_is_not_the_callers_afterwards(background: Flock) -> None:
    @background.agent
    async def leave(order: Order) -> Parcel:
        raise SystemExit(7)

    for _ in range(5):
        with pytest.raises(SystemExit):
            background.sync.ask(Order(), Parcel)
        assert background.correlation_id == "default"
    background.remove_agent("leave")


async def test_a_blocking_run_warns_of_the_users_own_line(background: Flock) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with background.sync.traced_run("mine"):
            pass
    assert {warning.filename for warning in told} == {__file__}


async def test_work_is_cancelled_when_its_caller_is_thrown_away(background: Flock) -> None:
    started, told = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.set()

    waiting = background.portal.hop(work)
    waiting.send(None)
    await asyncio.to_thread(started.wait)
    waiting.close()  # as happens to what waits on a loop that is closed
    assert await asyncio.to_thread(told.wait, 10)


def test_events_end_at_once_after_the_end(background: Flock) -> None:
    background.sync.close()
    assert list(background.sync.events()) == []


def test_events_that_nobody_has_read_are_let_go(background: Flock) -> None:
    background.sync.events().close()
    events = background.sync.events()
    del events
    gc.collect()
    assert not background.sync.call(listened, background)


async def listened(flock: Flock) -> bool:
    return flock._spine.signals.listened  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


# ---- ends


def test_a_second_close_waits_for_the_first() -> None:
    flock, told, started = Flock(), list[str](), threading.Event()

    async def slow(order: Order) -> None:
        started.set()
        await asyncio.sleep(0.3)
        told.append("done")

    flock.agent(slow)
    flock.sync.publish(Order())
    started.wait()
    closes = [threading.Thread(target=flock.sync.close) for _ in range(3)]
    for thread in closes:
        thread.start()
    closes[-1].join(20)
    assert told == ["done"]
    for thread in closes:
        thread.join(20)


@pytest.mark.parametrize(
    "stuck",
    [
        pytest.param(
            "async def work(order: Order) -> None: begun.set(); time.sleep(100_000)", id="a body that blocks its loop"
        ),
        pytest.param("def work(order: Order) -> None: begun.set(); time.sleep(100_000)", id="a body in a thread"),
    ],
)
def test_a_process_ends_although_something_is_stuck(stuck: str) -> None:
    code, out, err = run(f"""
    import flock.sync.host, flock.sync.portal
    flock.sync.host.PATIENCE = flock.sync.portal.PATIENCE = 0.3
    flock = Flock()

    @flock.agent
    {stuck}

    flock.sync.publish(Order())
    begun.wait(20)
    print("end of the script", flush=True)
    """)
    assert (code, out) == (0, "end of the script\n")
    assert "async def" not in stuck or "did not end with the process" in err


def test_threads_that_outlive_the_loops_are_told() -> None:
    code, out, err = run("""
    flock = Flock()
    flock.sync.publish(Order())
    run_sync(asyncio.sleep, 0)

    def late() -> None:
        threading.main_thread().join()
        for call in (lambda: flock.sync.publish(Order()), lambda: run_sync(asyncio.sleep, 0)):
            try:
                while True:  # as long as the loops are there
                    call()
            except ClosedError:
                print("closed")

    threading.Thread(target=late).start()
    """)
    assert code == 0, err
    assert out.splitlines() == ["closed", "closed"]


def test_a_pool_that_reads_a_stream_ends_with_the_process() -> None:
    code, out, err = run("""
    flock = Flock()
    flock.sync.publish(Order())
    pool = ThreadPoolExecutor(1)

    def read() -> None:
        for artifact in flock.sync.stream(since=0):
            print(artifact.sequence, flush=True)
            begun.set()

    pool.submit(read)
    begun.wait(20)
    """)
    assert (code, out) == (0, "1\n"), err


def test_a_board_in_a_file_is_left_in_order_at_the_end_of_the_process(tmp_path: Path) -> None:
    code, _, err = run(f"""
    Flock().sync.publish(Order())
    Flock(store="sqlite:///{tmp_path}/board.db").sync.publish(Order())
    """)
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["board.db"]


def test_after_the_end_nothing_is_started_again() -> None:
    flock = Flock()
    flock.sync.publish(Order())
    flock.sync.close()
    flock.sync.close()
    with pytest.raises(ClosedError):
        flock.sync.publish(Order())
    assert run_sync(asyncio.sleep, 0, "goes on") == "goes on"
