"""The course of a study: jobs go to workers, results into the record, and only then to whoever follows."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

from flock.model.errors import FlockError
from flock.studies.agents import awaits
from flock.studies.attempt import Job, attempt, failure, skipped
from flock.studies.crew import (
    Hire,
    Isolation,
    News,
    ProcessWorker,
    SharedLoop,
    SharingWorker,
    Shift,
    TaskWorker,
    ThreadWorker,
    Worker,
)
from flock.studies.moments import now
from flock.studies.record import Record
from flock.studies.runs import RunResult, RunSpec, RunStatus
from flock.studies.ways import Blocking, OwnLoop
from flock.sync import ThreadPool
from flock.sync.driving import at_once

_STOPPED: Final = "Interrupted: the study was stopped while this ran"
_QUICK: Final = 0.002  # seconds: what took no longer may as well run again
_MOMENT: Final = 0.005  # seconds
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

    @property
    def alone(self) -> bool:
        """Whether no two runs are in one process at a time, so that global chance can be seeded for each."""
        return self.parallel == 1 or self.isolation == "process"


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
        self._workers = 0
        self._failed = False

    def stop(self) -> None:
        """Make whoever follows the results stop: it raises StudyStoppedError."""
        self._news.put(None)

    def results(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Run jobs in their order. What runs when this is left is stopped and kept as interrupted."""
        course = self._course
        if course.parallel == 1 and course.timeout is None and course.isolation == "task" and self._loop is None:
            yield from self._one_by_one(jobs)
        else:
            with ExitStack() as stack:
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
                    held.append(result := copy_context().run(at_once, attempt(job, way, None)))
                    current = None
                    last = self._ends_intake(result) or number == len(jobs)
                    if last or result.latency > _QUICK or now() - kept > _MOMENT:
                        current, started = None if last else jobs[number], 0.0
                        self._keeper.advance(held, [] if current is None else [current.spec])
                        ended, held, kept = held, [], now()
                        yield from ended
                    if self._failed:
                        yield from self._skip(jobs[number:])
                        return
            finally:
                self._keeper.advance([*held, *([] if current is None else [_stopped(current, started)])], [])

    def _side_by_side(self, jobs: Sequence[Job], stack: ExitStack) -> Generator[RunResult]:
        shift = Shift(jobs, self._news, fail_fast=self._course.fail_fast)
        if self._course.alone:
            shift.watch = None
        hire = self._hiring(shift, jobs, stack)
        try:
            for _ in range(min(self._course.parallel, len(jobs))):
                self._hire(hire)
            while self._workers:
                begun, ended = self._hear(hire)
                self._keeper.advance(ended, begun)
                yield from ended
        finally:
            shift.closed = True
            self._give_up()
        if self._failed:
            yield from self._skip(shift.left())

    def _hiring(self, shift: Shift, jobs: Sequence[Job], stack: ExitStack) -> Hire:
        match self._course.isolation:
            case "process":
                return partial(ProcessWorker, shift)
            case "thread":
                return partial(ThreadWorker, shift)
            case "task":
                loop = self._loop or stack.enter_context(closing(SharedLoop())).loop
                if self._loop is None and not any(
                    awaits(each) for each in {id(job.agent): job.agent for job in jobs}.values()
                ):
                    return partial(SharingWorker, shift, loop)
                return partial(TaskWorker, shift, loop, stack.enter_context(closing(ThreadPool("flock study"))))

    def _hire(self, hire: Hire) -> None:
        self._workers += 1
        hire()

    def _hear(self, hire: Hire) -> tuple[list[RunSpec], list[RunResult]]:
        """Wait for news, or until the time of a run is over; gives what runs now and what has ended."""
        begun: dict[str, RunSpec] = {}
        ended: list[RunResult] = []
        with suppress(queue.Empty):
            self._take(self._news.get(timeout=self._patience()), begun, ended)
            while True:
                self._take(self._news.get_nowait(), begun, ended)
        ended += self._overdue(hire)
        for result in ended:
            begun.pop(result.run_id, None)
            self._ends_intake(result)
        return list(begun.values()), ended

    def _take(self, news: News | None, begun: dict[str, RunSpec], ended: list[RunResult]) -> None:
        if news is None:
            raise StudyStoppedError("the study was stopped")
        worker, job, result = news
        if worker.given_up:
            return
        if job is None:
            self._workers -= 1
        elif result is None:
            self._running[job.spec.run_id] = worker, job
            begun[job.spec.run_id] = job.spec
        else:
            del self._running[job.spec.run_id]
            ended.append(result)

    def _patience(self) -> float | None:
        limit = self._course.timeout
        if limit is None or not self._running:
            return None
        first = min(worker.started for worker, _ in self._running.values())
        return limit if first == inf else max(0.0, first + limit - now())

    def _overdue(self, hire: Hire) -> list[RunResult]:
        limit, ended, moment = self._course.timeout, list[RunResult](), now()
        if limit is None:
            return ended
        for worker, job in [each for each in self._running.values() if each[0].started + limit <= moment]:
            del self._running[job.spec.run_id]
            worker.give_up()
            self._workers -= 1
            self._hire(hire)
            said = f"TimeoutError: it took longer than {limit:g} s"
            ended.append(failure(job.spec, said, started=worker.started, reason="timeout", family=job.packet.family))
        return ended

    def _ends_intake(self, result: RunResult) -> bool:
        self._failed |= self._course.fail_fast and result.status is RunStatus.FAILED
        return self._failed

    def _skip(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        results = [skipped(job.spec, _FAIL_FAST) for job in jobs]
        self._keeper.advance(results, [])
        yield from results

    def _give_up(self) -> None:
        """Stop what runs, and keep that it did."""
        for worker, _ in self._running.values():
            worker.give_up()
        self._keeper.advance([_stopped(job, worker.started) for worker, job in self._running.values()], [])
        self._running.clear()


def _stopped(job: Job, started: float) -> RunResult:
    """Give the result of a run that was stopped in the middle, or before it began."""
    if not 0 < started < inf:
        return skipped(job.spec, "stopped")
    return failure(job.spec, _STOPPED, started=started, reason="interrupted", family=job.packet.family)
