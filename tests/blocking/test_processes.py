"""What only whole processes show of blocking calls: R7 interrupts, R9 forks, R10 ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from flock import Flock, run_sync

BEGINNING = """
import asyncio, os, signal, sys, threading, time
from pydantic import BaseModel
from flock import Flock, flock_type, run_sync

@flock_type("Order")
class Order(BaseModel):
    number: int = 0

@flock_type("Parcel")
class Parcel(BaseModel):
    number: int = 0

def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # in one piece: several threads talk
    sys.stdout.flush()

async def pack(order: Order) -> Parcel:
    return Parcel(number=order.number)

begun, working = threading.Event(), threading.Event()

async def wait() -> None:
    say("waiting")
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        say("cleaned up")

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have ignored for its background

def boards(*places: str) -> list[Flock]:
    made = [Flock(store=place) for place in places]
    for flock in made:
        flock.agent(pack)
    return made

"""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Order(BaseModel):
    number: int = 0


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program, which begins as all of these do."""
    source = BEGINNING + textwrap.dedent(program)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def run(program: str, *arguments: str, code: int = 0) -> list[str]:
    """Run a program to its end, which has to come soon and without complaints; gives the lines that it printed."""
    with start(program, *arguments) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert err == ""
    return out.splitlines()


# ---- R7


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are signals of other systems")
@pytest.mark.parametrize("call", ["flock.sync.call(wait)", "run_sync(wait)", "asyncio.run(inside())"])
def test_r7_an_interrupt_cancels_the_work_and_waits_for_its_clean_up(call: str) -> None:
    program = f"""
    import warnings
    warnings.simplefilter("ignore")
    flock = Flock()

    async def inside() -> None:
        flock.sync.call(wait)

    try:
        {call}
    except KeyboardInterrupt:
        say("interrupted")
    say(flock.sync.call(asyncio.sleep, 0, "goes on"))
    """
    with start(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert err == ""
    assert out.splitlines() == ["cleaned up", "interrupted", "goes on"]
    assert process.returncode == 0


# ---- R9


@forks
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_r9_the_child_of_a_fork_has_a_loop_of_its_own_and_leaves_the_parents_work_alone(
    kind: str, tmp_path: Path
) -> None:
    place = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/board.db"
    program = """
    (flock,) = boards(sys.argv[1])
    release = asyncio.Event()

    @flock.agent
    async def slow(parcel: Parcel) -> None:
        await release.wait()
        say(os.getpid() == parent, "ran slow", parcel.number)

    parent = os.getpid()
    flock.sync.publish(Order(number=1))
    while not any(artifact.produced_by == "pack" for artifact in flock.sync.store.list()):
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        flock.remove_agent("slow")
        with flock.sync.traced_run("child"):
            say("child", flock.sync.ask(Order(number=2), Parcel, timeout=10).number)
            say("child idle", flock.sync.run_until_idle(timeout=10).idle)
        say("child has", len(flock.sync.store.list()))
        flock.sync.close()
        os._exit(0)
    say("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    async def let_go() -> None:
        release.set()

    flock.sync.call(let_go)
    say("parent idle", flock.sync.run_until_idle(timeout=10).idle)
    flock.sync.close()
    """
    found = run(program, place)
    assert found == [
        "child 2",
        "child idle True",
        "child has 2" if kind == "memory" else "child has 4",
        "child ended with 0",
        "True ran slow 1",
        "parent idle True",
    ]


@forks
def test_r9_a_child_that_forks_within_a_call_is_free_of_it() -> None:
    program = """
    (flock,) = boards("memory://")

    async def fork_there() -> int:
        return os.fork()

    if flock.sync.call(asyncio.sleep, 0, True) and os.fork() == 0:
        say(flock.sync.ask(Order(number=3), Parcel, timeout=10).number, run_sync(pack, Order(number=4)).number)
        sys.exit(0)
    os.wait()
    say(flock.sync.ask(Order(number=5), Parcel, timeout=10).number)
    """
    assert run(program) == ["3 4", "5"]


@forks
def test_r9_a_process_of_multiprocessing_has_a_loop_of_its_own() -> None:
    program = """
    import multiprocessing
    (flock,) = boards("memory://")

    def child(answers):
        answers.put(flock.sync.ask(Order(number=6), Parcel, timeout=10).number)

    flock.sync.publish(Order())
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=child, args=(answers,))
    process.start()
    say(answers.get())
    process.join()
    say(process.exitcode)
    """
    assert run(program) == ["6", "0"]


@forks
@pytest.mark.timeout(120)
def test_r9_workers_of_gunicorn_that_were_preloaded_answer(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(BEGINNING)
        + textwrap.dedent("""
        (flock,) = boards("memory://")
        flock.sync.publish(Order())  # before the workers are forked
        flock.sync.run_until_idle()

        def app(environ, start_response):
            number = int(environ["QUERY_STRING"])
            answer = f"{os.getpid()} {flock.sync.ask(Order(number=number), Parcel, timeout=10).number}"
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [answer.encode()]
        """),
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "--threads", "4", "-b", "127.0.0.1:0"]
    with subprocess.Popen(  # noqa: S603
        [*command, "shop:app"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "Listening at" in line)
            url = line.split("Listening at: ")[1].split(" ")[0]
            with httpx.Client(base_url=url, timeout=20) as client:
                answers = [client.get(f"/?{number}").text.split() for number in range(20)]
        finally:
            server.send_signal(signal.SIGTERM)
            rest = server.communicate(timeout=60)[1]
    assert [int(number) for _, number in answers] == list(range(20))
    assert str(server.pid) not in {pid for pid, _ in answers}
    assert "Traceback" not in rest


# ---- R10


def test_r10_the_end_of_the_interpreter_ends_what_runs() -> None:
    program = """
    (flock,) = boards("memory://")

    @flock.agent
    async def endless(parcel: Parcel) -> None:
        try:
            say("working")
            working.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            say("agent cleaned up")

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            say("generator closed")

    async def begin() -> None:
        global generator, task
        generator = numbers()
        await anext(generator)
        await asyncio.to_thread(time.sleep, 0)
        task = asyncio.get_running_loop().create_task(wait())

    flock.sync.publish(Order())
    run_sync(begin)
    assert begun.wait(20) and working.wait(20)
    import warnings
    warnings.simplefilter("ignore")
    say("end of the script")
    """
    found = run(program)
    assert sorted(found[:2]) == ["waiting", "working"]
    assert found[2] == "end of the script"
    assert sorted(found[3:]) == ["agent cleaned up", "cleaned up", "generator closed"]


@pytest.mark.parametrize(
    "work",
    [
        pytest.param("flock.sync.publish(Order())", id="nothing is left"),
        pytest.param("threading.Thread(target=flock.sync.call, args=(wait,), daemon=True).start()", id="a call"),
        pytest.param("stream = flock.sync.stream(); flock.sync.publish(Order()); next(stream)", id="a stream"),
        pytest.param("threading.Thread(target=lambda: list(flock.sync.events()), daemon=True).start()", id="events"),
        pytest.param("asyncio.run(flock.publish(Order()))", id="a loop that has ended"),
    ],
)
def test_r10_a_process_ends_whatever_is_left(work: str) -> None:
    program = f"""
    import warnings
    warnings.simplefilter("ignore")
    threading.excepthook = lambda _: None  # a thread that is ended while it writes would end the process in its way
    (flock,) = boards("memory://")
    flock.sync.ready()
    {work}
    time.sleep(0.05)
    """
    with start(program) as process:
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_r10_a_stubborn_body_does_not_keep_the_process() -> None:
    program = """
    import warnings
    warnings.simplefilter("ignore")
    import flock.sync.host, flock.sync.portal
    flock.sync.host.PATIENCE = flock.sync.portal.PATIENCE = 0.2
    (board,) = boards("memory://")

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                say("no")

    async def begin() -> None:
        global task
        task = asyncio.get_running_loop().create_task(stubborn())
        await asyncio.sleep(0)

    board.sync.call(begin)
    """
    with start(program) as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "no" in out


def test_r10_many_cycles_leave_no_thread_behind() -> None:
    before = set(threading.enumerate())
    run_sync(nothing)
    for number in range(20):
        with Flock(name=f"cycle {number}").sync as board:
            board.publish(Order(number=number))
            board.run_until_idle()
    left = {thread for thread in set(threading.enumerate()) - before if "run_sync" not in thread.name}
    assert left == set()


def test_r10_close_cancels_and_runs_what_is_to_be_done_at_the_end() -> None:
    told: list[str] = []
    flock = Flock()
    started = threading.Event()

    async def endless(order: Order) -> None:
        started.set()
        try:
            await run_forever()
        finally:
            told.append("cleaned up")

    flock.agent(endless)
    flock.sync.publish(Order())
    started.wait()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the memory store is left with", RuntimeWarning)
        flock.portal.close(at_once=True)
    assert told == ["cleaned up"]


async def nothing() -> None:
    """Do nothing."""


async def run_forever() -> None:

    await asyncio.Event().wait()
