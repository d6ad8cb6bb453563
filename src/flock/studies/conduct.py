"""The course of a study: jobs go to workers, results into the record, and only then to whoever follows."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

from flock.model.errors import FlockError
from flock.studies.agents import awaits
from flock.studies.attempt import Job, attempt, error_text, failure, skipped
from flock.studies.crew import Hire, Isolation, News, ProcessWorker, Shift, TaskWorker, ThreadWorker, Worker
from flock.studies.interrupts import uninterrupted
from flock.studies.moments import now
from flock.studies.record import Record
from flock.studies.runs import RunResult, RunSpec, RunStatus
from flock.studies.seeds import Share, Watch
from flock.studies.ways import Blocking, OwnLoop
from flock.sync import ThreadPool
from flock.sync.driving import at_once

_STOPPED: Final = "Interrupted: the study was stopped while this ran"
TOUCHED: Final = "global_random"  # in a run's provenance: why its result may not come again
_QUICK: Final = 0.002  # seconds: what took no longer may as well run again
_MOMENT: Final = 0.005  # seconds within which results are kept together
_LOOK: Final = 0.5  # seconds after which a wait looks up: a signal that another thread got waits for that
_FAIL_FAST: Final = "fail_fast_after_failed_run"


class StudyStoppedError(FlockError):
    """Raised by what follows a study that was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How jobs run: so many at a time, where, for how long (s) at most, and whether the first failure ends intake."""

    parallel: int = 1
    isolation: Isolation = "task"
    timeout: float | None = None
    fail_fast: bool = False


class Keeper:
    """Keeps what begins and ends in the record, if there is one."""

    def __init__(self, record: Record | None, fingerprints: Mapping[str, str]) -> None:
        """Keep runs with these fingerprints."""
        self._record, self._fingerprints = record, fingerprints

    def advance(self, ended: Sequence[RunResult], begun: Sequence[RunSpec]) -> None:
        """Keep that runs have ended and others begin."""
        if self._record is not None and (ended or begun):
            known = self._fingerprints
            self._record.advance(
                [(each, known[each.run_id]) for each in ended], [(each, known[each.run_id]) for each in begun]
            )


class Conductor:
    """Runs jobs and gives each result once it is kept. `stop` ends that from any thread."""

    def __init__(self, course: Course, keeper: Keeper, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Await on the given loop, which another thread runs, or on one of its own."""
        self._course, self._keeper, self._loop = course, keeper, loop
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._running: dict[str, tuple[Worker, Job]] = {}
        self._noted: set[str] = set()  # of these, those that are kept as running
        self._ended: list[RunResult] = []  # and not kept yet
        self._stopping = threading.Event()
        self._kept = 0.0  # when news were kept last
        self._watch, self._touched = Watch(), set[str]()
        self._workers = 0
        self._own: OwnLoop | None = None
        self._share = Share(alone=course.parallel == 1 or course.isolation == "process")
        self._failed = False

    def stop(self) -> None:
        """Make whoever follows the results stop: it raises StudyStoppedError."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        self._news.put(None)

    def results(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Run jobs in their order. What runs when this is left is stopped and kept as interrupted."""
        course = self._course
        with ExitStack() as stack:
            if course.isolation != "process":
                stack.enter_context(self._share.held())
            if course.parallel == 1 and course.timeout is None and course.isolation == "task" and self._loop is None:
                yield from self._one_by_one(jobs)
            else:
                yield from self._side_by_side(jobs, stack)

    def _one_by_one(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Run jobs in this thread. What took no time to speak of is kept together with what follows within a moment."""
        held: list[RunResult] = []
        current, started, kept = None, 0.0, now()
        self._keeper.advance([], [job.spec for job in jobs[:1]])
        with closing(OwnLoop()) as loop:
            way = Blocking(loop.wait)
            try:
                for number, job in enumerate(jobs, 1):
                    current, started = job, now()
                    held.append(result := _run(job, way, alone=self._share.alone))
                    self._mark([result])
                    last = self._ends_intake(result) or number == len(jobs)
                    if last or result.latency > _QUICK or now() - kept > _MOMENT:
                        with uninterrupted(self._wake):
                            current, started = None if last else jobs[number], 0.0
                            self._keeper.advance(held, [] if current is None else [current.spec])
                            ended, held, kept = held, [], now()
                        yield from ended
                    if self._failed:
                        yield from self._skip(jobs[number:])
                        return
            finally:
                with uninterrupted(self._wake):
                    if current is not None and current.spec.run_id not in {each.run_id for each in held}:
                        held.append(_stopped(current, started))
                    self._keeper.advance(held, [])

    def _side_by_side(self, jobs: Sequence[Job], stack: ExitStack) -> Generator[RunResult]:
        shift = Shift(jobs, self._news, fail_fast=self._course.fail_fast, share=self._share)
        hire = self._hiring(shift, jobs, stack)
        try:
            for _ in range(min(self._course.parallel, len(jobs))):
                self._hire(hire)
            while self._workers:
                with uninterrupted(self._wake):  # news that were heard and not kept would be lost
                    self._hear(shift, hire)
                    ended = self._keep()
                yield from ended
                if self._stopping.is_set():
                    raise StudyStoppedError("the study was stopped")
        finally:
            shift.close()
            self._give_up(shift)
        if self._failed:
            yield from self._skip(shift.left())

    def _hiring(self, shift: Shift, jobs: Sequence[Job], stack: ExitStack) -> Hire:
        match self._course.isolation:
            case "process":
                return lambda _: ProcessWorker(shift)
            case "thread":
                return lambda _: ThreadWorker(shift)
            case "task":
                agents = {id(job.agent): job.agent for job in jobs}.values()
                if self._loop is None and not any(map(awaits, agents)):  # what blocks is best in threads all along
                    shared = stack.enter_context(closing(OwnLoop()))
                    return lambda _: ThreadWorker(shift, shared.loop())
                threads = stack.enter_context(closing(ThreadPool("flock study")))
                return partial(self._task_worker, shift, threads, stack)

    def _task_worker(self, shift: Shift, threads: ThreadPool, stack: ExitStack, again: bool) -> Worker:  # noqa: FBT001
        """Give a worker on the loop; again on another of ours, since a run that was given up may block this one."""
        if self._loop is not None:
            return TaskWorker(shift, self._loop, threads)
        if again or self._own is None:
            self._own = stack.enter_context(closing(OwnLoop()))
        return TaskWorker(shift, self._own.loop(), threads)

    def _hire(self, hire: Hire, *, again: bool = False) -> None:
        self._workers += 1
        hire(again)

    def _hear(self, shift: Shift, hire: Hire) -> None:
        """Wait for news, or until the time of a run is over."""
        with suppress(queue.Empty):
            self._take(self._news.get(timeout=self._patience()), hire)
            self._stopping.wait(self._kept + _MOMENT - now())  # what comes within a moment is kept together
            self._take_all(hire)
        self._give_up_overdue(shift, hire)
        if self._loop is not None and self._loop.is_closed():
            raise StudyStoppedError("the event loop of the study was closed")

    def _take_all(self, hire: Hire | None) -> None:
        with suppress(queue.Empty):
            while True:
                self._take(self._news.get_nowait(), hire)

    def _take(self, news: News | None, hire: Hire | None) -> None:
        if news is None or news.worker.given_up:
            return
        worker, job, result = news
        if job is None:
            self._lose(worker, hire)
        elif result is None:
            self._running[job.spec.run_id] = worker, job
        else:
            del self._running[job.spec.run_id]
            self._end(result)

    def _lose(self, worker: Worker, hire: Hire | None) -> None:
        """Count a worker that has left; one that leaves a job behind was ended by it, or with its loop."""
        self._workers -= 1
        job = worker.job
        if job is None:
            return
        del self._running[job.spec.run_id]
        said = "CancelledError: the run ended the loop that it was on"
        self._end(failure(job.spec, said, started=worker.started, reason="exception", family=job.packet.family))
        if self._loop is not None:  # whoever runs that loop has ended it
            self._stopping.set()
        elif hire is not None:
            self._hire(hire, again=True)

    def _end(self, result: RunResult) -> None:
        self._ended.append(result)
        self._ends_intake(result)

    def _keep(self) -> list[RunResult]:
        """Keep what has begun and what has ended, and give the latter."""
        ended, running = self._ended, self._running
        self._mark(ended)
        self._keeper.advance(ended, [job.spec for run_id, (_, job) in running.items() if run_id not in self._noted])
        self._ended, self._noted, self._kept = [], set(running), now()
        return ended

    def _mark(self, ended: Sequence[RunResult]) -> None:
        """Mark the runs beside which somebody drew from global chance, who may have been any of them."""
        if self._share.alone:
            return
        if self._watch.touched():
            self._touched.update(self._running, (each.run_id for each in ended))
        for each in ended:
            if each.run_id in self._touched:
                each.provenance_info[TOUCHED] = "drawn from beside other runs: use rng, or isolation='process'"

    def _patience(self) -> float:
        limit = self._course.timeout
        if limit is None or not self._running:
            return _LOOK
        first = min(worker.started for worker, _ in self._running.values())
        return min(_LOOK, limit if first == inf else max(0.0, first + limit - now()))

    def _give_up_overdue(self, shift: Shift, hire: Hire) -> None:
        """Give up the runs whose time is over, each with its worker, in whose place another comes."""
        limit, moment = self._course.timeout, now()
        if limit is None:
            return
        for worker, job in [each for each in self._running.values() if each[0].started + limit <= moment]:
            if not shift.give_up(worker, job):
                continue
            del self._running[job.spec.run_id]
            if self._course.isolation != "process":  # its thread may go on drawing from global chance
                self._share.alone = False
            self._workers -= 1
            said = f"TimeoutError: it took longer than {limit:g} s"
            self._end(failure(job.spec, said, started=worker.started, reason="timeout", family=job.packet.family))
            self._hire(hire, again=True)

    def _ends_intake(self, result: RunResult) -> bool:
        self._failed |= self._course.fail_fast and result.status is RunStatus.FAILED
        return self._failed

    def _skip(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        results = [skipped(job.spec, _FAIL_FAST) for job in jobs]
        self._keeper.advance(results, [])
        yield from results

    def _give_up(self, shift: Shift) -> None:
        """Stop what runs, and keep that it did, and what has ended meanwhile."""
        with uninterrupted(self._wake):
            self._take_all(None)
            for worker, job in list(self._running.values()):
                if shift.give_up(worker, job):
                    self._ended.append(_stopped(job, worker.started))
            self._take_all(None)
            self._running.clear()
            self._keep()


def _run(job: Job, way: Blocking, *, alone: bool) -> RunResult:
    """Run a job in this thread, in a context of its own."""
    started = now()
    try:
        return copy_context().run(at_once, attempt(job, way, alone=alone))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever an agent raises must not end the study
        return failure(job.spec, error_text(error), started=started, reason="exception", family=job.packet.family)


def _stopped(job: Job, started: float) -> RunResult:
    """Give the result of a run that was stopped in the middle, or before it began."""
    if not 0 < started < inf:
        return skipped(job.spec, "stopped")
    return failure(job.spec, _STOPPED, started=started, reason="interrupted", family=job.packet.family)
