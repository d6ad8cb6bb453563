"""Workers: tasks, threads or processes that take one job after the other and tell what comes of each."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import queue
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from multiprocessing.connection import Connection
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

from typing_extensions import override

from flock.studies.attempt import Job, attempt, error_text, failure
from flock.studies.moments import now
from flock.studies.runs import RunResult, RunStatus
from flock.studies.ways import Blocking, OnLoop, OwnLoop, Way, leave_threads
from flock.sync import ThreadPool
from flock.sync.driving import at_once

T = TypeVar("T")
Isolation = Literal["task", "thread", "process"]
ISOLATIONS: Final = ("task", "thread", "process")
_PATIENCE: Final = 5.0  # seconds that a loop's last tasks and a process have to end


class News(NamedTuple):
    """What a worker tells: that a job begins (no result), what came of it, or that the worker leaves (no job)."""

    worker: Worker
    job: Job | None
    result: RunResult | None = None


class Shift:
    """What workers share: the jobs that are left to take, and where they tell their news."""

    def __init__(
        self, jobs: Iterable[Job], news: queue.SimpleQueue[News | None], *, fail_fast: bool, alone: bool
    ) -> None:  # fmt: skip
        """Offer these jobs, in their order; with `fail_fast` none after the first failure.

        `alone` says that no two run in one process at a time.
        """
        self.alone = alone
        self.closed = False
        self._jobs, self._news, self._fail_fast = iter(jobs), news, fail_fast
        self._lock = threading.Lock()

    def take(self, worker: Worker) -> Job | None:
        """Give the next job and tell that it begins; None when the worker may leave."""
        with self._lock:
            job = None if self.closed or worker.given_up else next(self._jobs, None)
        worker.started = worker.begins()
        self._news.put(News(worker, job))
        return job

    def tell(self, worker: Worker, job: Job, result: RunResult) -> None:
        """Tell what came of a job."""
        if self._fail_fast and result.status is RunStatus.FAILED:
            self.closed = True
        self._news.put(News(worker, job, result))

    def left(self) -> list[Job]:
        """Give the jobs that nobody took."""
        with self._lock:
            return list(self._jobs)


class Worker:
    """Takes jobs until there are none, or until it is given up. `started` is when its job began (UTC seconds)."""

    started = 0.0
    given_up = False

    def begins(self) -> float:
        """Say when a job begins that is taken now."""
        return now()

    def give_up(self) -> None:
        """Stop the job where that can be done; what comes of it is nobody's business any more."""
        self.given_up = True


class TaskWorker(Worker):
    """A task on an event loop; each run has a task and a context of its own, and what blocks a thread."""

    def __init__(self, shift: Shift, loop: asyncio.AbstractEventLoop, threads: ThreadPool) -> None:
        """Start the task."""
        self._shift, self._way = shift, OnLoop(threads)
        self._future = asyncio.run_coroutine_threadsafe(self._work(), loop)

    @override
    def give_up(self) -> None:
        """Cancel the task, and with it its run."""
        super().give_up()
        self._future.cancel()

    async def _work(self) -> None:
        while (job := self._shift.take(self)) is not None:
            run = asyncio.create_task(self._run(job))
            try:
                result = await run
            except asyncio.CancelledError as error:
                if self.given_up or not run.cancelled():
                    raise
                result = failure(job.spec, error_text(error), started=self.started, reason="exception")
            self._shift.tell(self, job, result)

    async def _run(self, job: Job) -> RunResult:
        try:
            return await attempt(job, self._way, alone=self._shift.alone)
        except KeyboardInterrupt as error:  # of the agent: it would end a loop that others use, too
            return failure(job.spec, error_text(error), started=self.started, reason="exception")


class ThreadedWorker(Worker):
    """A thread, a daemon: no job keeps the process alive. Each run has a context of its own."""

    def __init__(self, shift: Shift) -> None:
        """Start the thread."""
        self.shift = shift
        threading.Thread(target=self._work, name="flock study", daemon=True).start()

    def _work(self) -> None:
        try:
            while (job := self.shift.take(self)) is not None:
                try:
                    result = contextvars.copy_context().run(self.run, job)
                except BaseException as error:  # noqa: BLE001 - whatever ends a thread must not end the study
                    result = failure(job.spec, error_text(error), started=self.started, reason="exception")
                self.shift.tell(self, job, result)
        finally:
            self.end()

    def run(self, job: Job) -> RunResult:
        """Run a job to its end."""
        raise NotImplementedError

    def end(self) -> None:
        """Let go of what the worker has."""


class SharingWorker(ThreadedWorker):
    """A thread whose runs await on a loop that all of them share."""

    def __init__(self, shift: Shift, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread."""
        self._loop, self._way = loop, Blocking(self._wait)
        self._waiting: concurrent.futures.Future[Any] | None = None
        super().__init__(shift)

    @override
    def give_up(self) -> None:
        """Cancel what is awaited."""
        super().give_up()
        if self._waiting is not None:
            self._waiting.cancel()

    @override
    def run(self, job: Job) -> RunResult:
        """Run a job to its end."""
        return at_once(attempt(job, self._way, alone=self.shift.alone))

    def _wait(self, work: Awaitable[T]) -> T:
        self._waiting = asyncio.run_coroutine_threadsafe(_contained(work), self._loop)
        try:
            result, error = self._waiting.result()
        finally:
            self._waiting = None
        if error is not None:
            raise error
        return cast("T", result)


async def _contained(work: Awaitable[T]) -> tuple[T | None, BaseException | None]:
    """Await, and give what would end a loop that others use, too."""
    try:
        return await work, None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


class ThreadWorker(ThreadedWorker):
    """A thread with an event loop of its own."""

    def __init__(self, shift: Shift) -> None:
        """Start the thread."""
        self._loop = OwnLoop()
        self._way: Way = Blocking(self._loop.wait)
        super().__init__(shift)

    @override
    def give_up(self) -> None:
        """Cancel what is awaited."""
        super().give_up()
        self._loop.cancel()

    @override
    def run(self, job: Job) -> RunResult:
        """Run a job to its end."""
        return at_once(attempt(job, self._way, alone=self.shift.alone))

    @override
    def end(self) -> None:
        """End the loop."""
        self._loop.close()


class ProcessWorker(ThreadedWorker):
    """A thread with a process of its own, which is started anew when a job has killed it."""

    _process: Any = None
    _pipe: Connection | None = None

    @override
    def begins(self) -> float:
        """Say when a job begins: once the process is there."""
        return inf if self._pipe is None else now()

    @override
    def give_up(self) -> None:
        """Kill the process."""
        super().give_up()
        process = self._process
        if process is not None:
            process.kill()

    @override
    def run(self, job: Job) -> RunResult:
        """Run a job to its end, or to that of its process."""
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
    def end(self) -> None:
        """Let the process end."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.join(_PATIENCE)


def _serve(pipe: Connection) -> None:
    """Run jobs in this process until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started the process ends it
    loop = OwnLoop()
    way = Blocking(loop.wait)
    try:
        pipe.send(None)  # it is here
        while True:
            job: Job = pipe.recv()
            pipe.send(contextvars.copy_context().run(at_once, attempt(job, way, alone=True)))
    except (EOFError, OSError):
        return
    finally:
        loop.close()


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


Hire = Callable[[], Worker]
