"""The course of a study: jobs go to workers, results into the record, and only then to whoever follows."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from typing import Final

from flock.model.errors import FlockError
from flock.studies.attempt import Job, attempt, failure, skipped
from flock.studies.crew import (
    Done,
    Isolation,
    LoopWorker,
    MakeWorker,
    OwnLoop,
    ProcessWorker,
    SharedLoop,
    ThreadWorker,
    Worker,
)
from flock.studies.moments import now
from flock.studies.record import Record
from flock.studies.runs import RunResult, RunSpec, RunStatus

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
        self._news: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        self._running: dict[Worker, Job] = {}
        self._idle: list[Worker] = []
        self._count = 0
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
                yield from self._side_by_side(iter(jobs), self._hiring(stack))

    def _one_by_one(self, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Run jobs in this thread. What took no time to speak of is kept together with what follows within a moment."""
        held: list[RunResult] = []
        current, started, kept = None, 0.0, now()
        self._keeper.advance([], [job.spec for job in jobs[:1]])
        with closing(OwnLoop()) as loop:
            try:
                for number, job in enumerate(jobs, 1):
                    current, started = job, now()
                    held.append(result := attempt(job, loop.wait))
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

    def _side_by_side(self, jobs: Iterator[Job], hire: MakeWorker) -> Generator[RunResult]:
        left: list[Job] = []
        try:
            self._start(self._next(jobs, self._course.parallel), [], hire)
            while self._running:
                ended = self._wait_for_news()
                more = self._next(jobs, self._course.parallel - len(self._running))
                self._start(more, ended, hire)
                yield from ended
            if self._failed:
                left = list(jobs)
        finally:
            self._give_up()
        yield from self._skip(left)

    def _hiring(self, stack: ExitStack) -> MakeWorker:
        match self._course.isolation:
            case "process":
                return ProcessWorker
            case "thread":
                return ThreadWorker
            case "task":
                loop = self._loop or stack.enter_context(closing(SharedLoop())).loop
                return partial(LoopWorker, loop=loop)

    def _next(self, jobs: Iterator[Job], most: int) -> list[Job]:
        return [] if self._failed else list(islice(jobs, most))

    def _start(self, jobs: Sequence[Job], ended: Sequence[RunResult], hire: MakeWorker) -> None:
        self._keeper.advance(ended, [job.spec for job in jobs])
        for job in jobs:
            if self._idle:
                worker = self._idle.pop()
            else:
                self._count += 1
                worker = hire(self._news, self._count)
            self._running[worker] = job
            worker.start(job)

    def _wait_for_news(self) -> list[RunResult]:
        """Wait until a run ends or its time is over; gives all that have."""
        ended = self._overdue()
        while not ended:
            try:
                news = self._news.get(timeout=self._patience())
            except queue.Empty:
                ended = self._overdue()
                continue
            ended = self._take(news)
            while not self._news.empty():
                ended += self._take(self._news.get())
        for result in ended:
            self._ends_intake(result)
        return ended

    def _take(self, news: Done | None) -> list[RunResult]:
        if news is None:
            raise StudyStoppedError("the study was stopped")
        if self._running.pop(news.worker, None) is None:  # it was given up before
            return []
        self._idle.append(news.worker)
        return [news.result]

    def _patience(self) -> float | None:
        limit = self._course.timeout
        if limit is None:
            return None
        first = min(worker.started for worker in self._running)
        return limit if first == inf else max(0.0, first + limit - now())

    def _overdue(self) -> list[RunResult]:
        limit, ended = self._course.timeout, list[RunResult]()
        if limit is None:
            return ended
        moment = now()
        for worker in [each for each in self._running if each.started + limit <= moment]:
            job = self._running.pop(worker)
            worker.give_up()
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
        """Stop what runs, keep that it did, and let everybody go."""
        for worker in self._running:
            worker.give_up()
        stopped = [_stopped(job, worker.started) for worker, job in self._running.items()]
        self._running.clear()
        self._keeper.advance(stopped, [])
        for worker in self._idle:
            worker.leave()
        self._idle.clear()


def _stopped(job: Job, started: float) -> RunResult:
    """Give the result of a run that was stopped in the middle, or before it began."""
    if not 0 < started < inf:
        return skipped(job.spec, "stopped")
    return failure(job.spec, _STOPPED, started=started, reason="interrupted", family=job.packet.family)
