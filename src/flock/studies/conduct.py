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
from flock.studies.seeds import Watch, preserved
from flock.studies.ways import Blocking, OwnLoop
from flock.sync import ThreadPool
from flock.sync.driving import at_once

_STOPPED: Final = "Interrupted: the study was stopped while this ran"
TOUCHED: Final = "global_random"  # in a run's provenance: why its result may not come again
_QUICK: Final = 0.002  # seconds: what took no longer may as well run again
_MOMENT: Final = 0.005  # seconds within which results are kept together
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
        self._noted: set[str] = set()  # of these, those that are kept as running
        self._ended: list[RunResult] = []  # and not kept yet
        self._stopping = threading.Event()
        self._kept = 0.0  # when news were kept last
        self._watch, self._touched = Watch(), set[str]()
        self._workers = 0
        self._failed = False

    def stop(self) -> None:
        """Make whoever follows the results stop: it raises StudyStoppedError."""
        self._stopping.set()
        self._news.put(None)

    def results(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Run jobs in their order. What runs when this is left is stopped and kept as interrupted."""
        course = self._course
        with ExitStack() as stack:
            if course.alone:
                stack.enter_context(preserved())
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
                    held.append(result := copy_context().run(at_once, attempt(job, way, alone=True)))
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
        shift = Shift(jobs, self._news, fail_fast=self._course.fail_fast, alone=self._course.alone)
        hire = self._hiring(shift, jobs, stack)
        try:
            for _ in range(min(self._course.parallel, len(jobs))):
                self._hire(hire)
            while self._workers:
                self._hear(hire)
                yield from self._keep()
                if self._stopping.is_set():
                    raise StudyStoppedError("the study was stopped")
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
                agents = {id(job.agent): job.agent for job in jobs}.values()
                if self._loop is None and not any(map(awaits, agents)):  # what blocks is best in threads all along
                    return partial(SharingWorker, shift, loop)
                return partial(TaskWorker, shift, loop, stack.enter_context(closing(ThreadPool("flock study"))))

    def _hire(self, hire: Hire) -> None:
        self._workers += 1
        hire()

    def _hear(self, hire: Hire) -> None:
        """Wait for news, or until the time of a run is over."""
        with suppress(queue.Empty):
            self._take(self._news.get(timeout=self._patience()))
            self._stopping.wait(self._kept + _MOMENT - now())  # what comes within a moment is kept together
            self._take_all()
        self._give_up_overdue(hire)

    def _take_all(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._take(self._news.get_nowait())

    def _take(self, news: News | None) -> None:
        if news is None or news.worker.given_up:
            return
        worker, job, result = news
        if job is None:
            self._workers -= 1
        elif result is None:
            self._running[job.spec.run_id] = worker, job
        else:
            del self._running[job.spec.run_id]
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
        if self._course.alone:
            return
        if self._watch.touched():
            self._touched.update(self._running, (each.run_id for each in ended))
        for each in ended:
            if each.run_id in self._touched:
                each.provenance_info[TOUCHED] = "drawn from beside other runs: use rng, or isolation='process'"

    def _patience(self) -> float | None:
        limit = self._course.timeout
        if limit is None or not self._running:
            return None
        first = min(worker.started for worker, _ in self._running.values())
        return limit if first == inf else max(0.0, first + limit - now())

    def _give_up_overdue(self, hire: Hire) -> None:
        """Give up the runs whose time is over, each with its worker, in whose place another comes."""
        limit, moment = self._course.timeout, now()
        if limit is None:
            return
        for worker, job in [each for each in self._running.values() if each[0].started + limit <= moment]:
            del self._running[job.spec.run_id]
            worker.give_up()
            self._workers -= 1
            self._hire(hire)
            said = f"TimeoutError: it took longer than {limit:g} s"
            result = failure(job.spec, said, started=worker.started, reason="timeout", family=job.packet.family)
            self._ended.append(result)
            self._ends_intake(result)

    def _ends_intake(self, result: RunResult) -> bool:
        self._failed |= self._course.fail_fast and result.status is RunStatus.FAILED
        return self._failed

    def _skip(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        results = [skipped(job.spec, _FAIL_FAST) for job in jobs]
        self._keeper.advance(results, [])
        yield from results

    def _give_up(self) -> None:
        """Stop what runs, and keep that it did, and what has ended meanwhile."""
        self._take_all()
        for worker, job in self._running.values():
            worker.give_up()
            self._ended.append(_stopped(job, worker.started))
        self._running.clear()
        self._keep()


def _stopped(job: Job, started: float) -> RunResult:
    """Give the result of a run that was stopped in the middle, or before it began."""
    if not 0 < started < inf:
        return skipped(job.spec, "stopped")
    return failure(job.spec, _STOPPED, started=started, reason="interrupted", family=job.packet.family)
