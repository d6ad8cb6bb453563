"""Workers: threads that run one job at a time, by themselves, on a shared loop, or in a process of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import queue
import signal
import threading
from collections.abc import Awaitable, Callable
from math import inf
from multiprocessing.connection import Connection
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

from typing_extensions import override

from flock.studies.agents import Wait
from flock.studies.attempt import Job, attempt, error_text, failure
from flock.studies.moments import now
from flock.studies.runs import RunResult
from flock.sync import run_sync

T = TypeVar("T")
Isolation = Literal["task", "thread", "process"]
ISOLATIONS: Final = ("task", "thread", "process")
_PATIENCE: Final = 5.0  # seconds that a loop's last tasks and a process have to end


class Done(NamedTuple):
    """A worker's news: what came of its job."""

    worker: Worker
    result: RunResult


class Worker:
    """A thread that runs jobs and tells `news` what came of each. It is a daemon: no job keeps the process alive."""

    def __init__(self, news: queue.SimpleQueue[Done | None], number: int) -> None:
        """Start the thread."""
        self.started = 0.0  # when its job began
        self._news = news
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"flock study {number}", daemon=True).start()

    def start(self, job: Job) -> None:
        """Run a job."""
        self.started = now()
        self._inbox.put(job)

    def give_up(self) -> None:
        """Stop the job where that can be done; what comes of it is nobody's business any more."""
        self._inbox.put(None)

    def leave(self) -> None:
        """End when there is no job."""
        self._inbox.put(None)

    def _work(self) -> None:
        try:
            while (job := self._inbox.get()) is not None:
                try:
                    result = self._run(job)
                except BaseException as error:  # noqa: BLE001 - whatever ends a thread must not end the study
                    result = failure(job.spec, error_text(error), started=self.started, reason="exception")
                self._news.put(Done(self, result))
                del job, result
        finally:
            self._end()

    def _run(self, job: Job) -> RunResult:
        raise NotImplementedError

    def _end(self) -> None:
        """Let go of what the worker has."""


class LoopWorker(Worker):
    """Runs what blocks in its thread, and awaits on a loop that all of them share."""

    def __init__(self, news: queue.SimpleQueue[Done | None], number: int, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread."""
        self._loop = loop
        self._waiting: concurrent.futures.Future[Any] | None = None
        super().__init__(news, number)

    @override
    def give_up(self) -> None:
        """Cancel what is awaited."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().give_up()

    @override
    def _run(self, job: Job) -> RunResult:
        return attempt(job, self._wait)

    def _wait(self, work: Awaitable[T]) -> T:
        self._waiting = asyncio.run_coroutine_threadsafe(_contained(work), self._loop)
        try:
            result, error = self._waiting.result()
        finally:
            self._waiting = None
        if error is not None:
            raise error
        return cast("T", result)


class ThreadWorker(Worker):
    """Has an event loop of its own in its thread."""

    def __init__(self, news: queue.SimpleQueue[Done | None], number: int) -> None:
        """Start the thread."""
        self._runner = OwnLoop()
        super().__init__(news, number)

    @override
    def give_up(self) -> None:
        """Cancel what is awaited."""
        self._runner.cancel()
        super().give_up()

    @override
    def _run(self, job: Job) -> RunResult:
        return attempt(job, self._runner.wait)

    @override
    def _end(self) -> None:
        self._runner.close()


class ProcessWorker(Worker):
    """Has a process of its own, which is started anew when a job has killed it or was given up."""

    _process: Any = None
    _pipe: Connection | None = None

    @override
    def start(self, job: Job) -> None:
        """Run a job; its time begins when the process is there."""
        self.started = inf if self._pipe is None else now()
        self._inbox.put(job)

    @override
    def give_up(self) -> None:
        """Kill the process."""
        super().give_up()
        process = self._process
        if process is not None:
            process.kill()

    @override
    def _run(self, job: Job) -> RunResult:
        said = "no process can be started: put what a script runs under `if __name__ == '__main__':`;"
        try:
            pipe = self._pipe or self._opened()
            self.started, said = now(), "the run ended its process with"
            pipe.send(job)
            found: RunResult = pipe.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            self._pipe = None
            said = f"ProcessDied: {said} exit code {self._process.exitcode}"
            return failure(job.spec, said, started=min(self.started, now()), reason="exception")
        return found

    def _opened(self) -> Connection:
        """Start a process and wait until it can run jobs."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="flock study", daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        return self._pipe

    @override
    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._process.join(_PATIENCE)


class OwnLoop:
    """An event loop for one thread that waits, made when it is needed first."""

    def __init__(self) -> None:
        """Have none yet."""
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None

    def wait(self, work: Awaitable[T]) -> T:
        """Await to the end: here, or on the loop in the background where one runs in this thread already."""
        if _runs_here():
            return run_sync(lambda: _awaited(work))
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._awaited(work))
        except asyncio.CancelledError as error:
            raise concurrent.futures.CancelledError(*error.args) from error

    async def _awaited(self, work: Awaitable[T]) -> T:
        self._task = asyncio.current_task()
        try:
            return await work
        finally:
            self._task = None

    def cancel(self) -> None:
        """Cancel what is awaited, from another thread."""
        task, runner = self._task, self._runner
        if task is not None and runner is not None:
            runner.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the loop; a thread that one of its tasks waits for is left alone."""
        if self._runner is not None:
            leave_threads(self._runner.get_loop())
            self._runner.close()
            self._runner = None


class SharedLoop:
    """An event loop in a thread of its own, for the awaits of all workers."""

    def __init__(self) -> None:
        """Start it."""
        self.loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="flock study loop", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._stop.wait())
            leave_threads(self.loop)

    def close(self) -> None:
        """End it; what is left on it is cancelled."""
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)


def leave_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop end at once, though a thread that it began (`asyncio.to_thread`) blocks: nobody can stop that."""
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))


def _runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _contained(work: Awaitable[T]) -> tuple[T | None, BaseException | None]:
    """Await, and give what would end a loop that others use, too."""
    try:
        return await work, None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _serve(pipe: Connection) -> None:
    """Run jobs in this process until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started the process ends it
    loop = OwnLoop()
    wait: Wait = loop.wait
    try:
        pipe.send(None)  # it is here
        while True:
            pipe.send(attempt(pipe.recv(), wait))
    except (EOFError, OSError):
        return
    finally:
        loop.close()


MakeWorker = Callable[[queue.SimpleQueue["Done | None"], int], Worker]
