"""Workers: tasks, threads or processes that take one job after the other and tell what comes of each."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable
from math import inf
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Literal, NamedTuple

from typing_extensions import override

from flock.studies.attempt import Job, attempt, error_text, failure
from flock.studies.moments import now
from flock.studies.runs import RunResult, RunStatus
from flock.studies.seeds import Share
from flock.studies.ways import Blocking, OnLoop, OwnLoop, Waiter
from flock.sync import ThreadPool
from flock.sync.driving import at_once

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
        self, jobs: Iterable[Job], news: queue.SimpleQueue[News | None], *, fail_fast: bool, share: Share
    ) -> None:  # fmt: skip
        """Offer these jobs, in their order; with `fail_fast` none after the first failure.

        `share` says whether no two runs are in one process at a time.
        """
        self.share = share
        self._closed = False
        self._jobs, self._news, self._fail_fast = iter(jobs), news, fail_fast
        self._lock = threading.Lock()

    def take(self, worker: Worker) -> Job | None:
        """Give the next job and tell that it begins; None when the worker has to leave."""
        with self._lock:
            job = None if self._closed or worker.given_up else next(self._jobs, None)
            worker.job, worker.started = job, worker.begins()
            if job is not None:
                self._news.put(News(worker, job))
        return job

    def tell(self, worker: Worker, job: Job, result: RunResult) -> None:
        """Tell what came of a job, unless the worker was given up."""
        with self._lock:
            if worker.given_up:
                return
            worker.job = None
            self._closed |= self._fail_fast and result.status is RunStatus.FAILED
            self._news.put(News(worker, job, result))

    def close(self) -> None:
        """Give no more jobs; whichever was taken has been told of."""
        with self._lock:
            self._closed = True

    def leave(self, worker: Worker) -> None:
        """Tell that a worker has left."""
        self._news.put(News(worker, None))

    def give_up(self, worker: Worker, job: Job) -> bool:
        """Give a worker up for a job; False when it has just told what came of that."""
        with self._lock:
            if worker.job is not job:
                return False
            worker.given_up = True
        worker.stop()
        return True

    def left(self) -> list[Job]:
        """Give the jobs that nobody took."""
        with self._lock:
            return list(self._jobs)


class Worker:
    """Takes jobs until there are none, or until it is given up. `started` is when its job began (UTC seconds)."""

    started = 0.0
    job: Job | None = None
    given_up = False

    def begins(self) -> float:
        """Say when a job begins that is taken now."""
        return now()

    def stop(self) -> None:
        """Stop the job where that can be done; what comes of it is nobody's business any more."""


class TaskWorker(Worker):
    """A task on an event loop; each run has a task and a context of its own, and what blocks a thread."""

    def __init__(self, shift: Shift, loop: asyncio.AbstractEventLoop, threads: ThreadPool) -> None:
        """Start the task."""
        self._shift, self._way = shift, OnLoop(threads)
        self._began = False
        self._future = asyncio.run_coroutine_threadsafe(self._work(), loop)
        self._future.add_done_callback(self._leave_unbegun)

    @override
    def stop(self) -> None:
        """Cancel the task, and with it its run."""
        self._future.cancel()

    def _leave_unbegun(self, _: object) -> None:
        """Leave also when the task was cancelled before its first step, as by an agent that cancels all there are."""
        if not self._began:
            self._shift.leave(self)

    async def _work(self) -> None:
        self._began = True
        try:
            while (job := self._shift.take(self)) is not None:
                self._shift.tell(self, job, await self._outcome(job))
        finally:
            self._shift.leave(self)

    async def _outcome(self, job: Job) -> RunResult:
        """Run a job in a task of its own, which its agent may cancel."""
        run, me = asyncio.create_task(self._run(job)), asyncio.current_task()
        try:
            return await run
        except asyncio.CancelledError as error:
            if not run.cancelled() or (me is not None and me.cancelling()):
                raise
            return failure(job.spec, error_text(error), started=self.started, reason="exception")

    async def _run(self, job: Job) -> RunResult:
        try:
            return await attempt(job, self._way, alone=self._shift.share.alone)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - of the agent: it would end a loop that others use, too
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
            self.shift.leave(self)
            self.end()

    def run(self, job: Job) -> RunResult:
        """Run a job to its end."""
        raise NotImplementedError

    def end(self) -> None:
        """Let go of what the worker has."""


class ThreadWorker(ThreadedWorker):
    """A thread that awaits on a loop: on one that several share, or on its own."""

    def __init__(self, shift: Shift, shared: asyncio.AbstractEventLoop | None = None) -> None:
        """Start the thread."""
        self._own = OwnLoop()
        self._waiter = self._own if shared is None else Waiter(lambda: shared)
        self._way = Blocking(self._waiter.wait)
        super().__init__(shift)

    @override
    def stop(self) -> None:
        """Cancel what is awaited."""
        self._waiter.cancel()

    @override
    def run(self, job: Job) -> RunResult:
        """Run a job to its end."""
        return at_once(attempt(job, self._way, alone=self.shift.share.alone))

    @override
    def end(self) -> None:
        """End the loop, unless others share it."""
        self._own.close()


class ProcessWorker(ThreadedWorker):
    """A thread with a process of its own, which is started anew when a job has killed it."""

    _process: Any = None
    _pipe: Connection | None = None

    @override
    def begins(self) -> float:
        """Say when a job begins: once the process is there."""
        return inf if self._pipe is None else now()

    @override
    def stop(self) -> None:
        """Kill the process."""
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
        process = context.Process(target=_serve, args=(theirs,), name="flock study", daemon=True)
        process.start()
        self._process = process
        theirs.close()
        self._pipe.recv()
        if self.given_up:
            process.kill()
        return self._pipe

    @override
    def end(self) -> None:
        """Let the process end."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.join(_PATIENCE)
            self._process.kill()


def _serve(pipe: Connection) -> None:
    """Run jobs in this process until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started the process ends it
    threading.Thread(target=_follow_parent, daemon=True).start()
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


def _follow_parent() -> None:
    """End this process with the one that started it, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


Hire = Callable[[bool], Worker]  # True for one in the place of one that was given up
