"""The one thread that writes: steps that wait join one transaction, and the file is synced once for all of them."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flock.model.errors import FlockError, StoreError
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.steps import Steps
from flock.stores.sqlite.workers import Workers

T = TypeVar("T")
logger = logging.getLogger("flock")
_MOST: Final = 64  # steps in one transaction


@dataclass(slots=True, eq=False)
class Job:
    """A step, and who waits for its answer."""

    act: Callable[[Steps], Any]
    future: asyncio.Future[Any] | None = None
    alone: bool = False  # outside a transaction
    answer: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs in the order in which they come, and lets a process give signs of life in between."""

    def __init__(self, steps: Steps, workers: Workers) -> None:
        """Start the thread."""
        self._steps = steps
        self._db = steps.db
        self._workers = workers
        self._changes = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._version = -1
        self._thread = threading.Thread(target=self._work, name="flock sqlite writer", daemon=True)
        self._thread.start()

    async def do(self, act: Callable[[Steps], T], *, alone: bool = False) -> T:
        """Have a step done and give its answer when it is durable; raises what it raised, or StoreError."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(Job(act, future, alone))
        return await future

    def post(self, act: Callable[[Steps], object]) -> None:
        """Have a step done at some time."""
        self._jobs.put(Job(act))

    async def close(self) -> None:
        """End after what was asked for before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put(Job(_nothing, future, alone=True))
        self._jobs.put(None)
        await future
        self._thread.join()

    # ---- in the thread

    def _work(self) -> None:
        while True:
            patience = self._workers.patience
            if patience <= 0:
                self._pulse()
                continue
            try:
                job = self._jobs.get(timeout=patience)
            except queue.Empty:
                continue
            group = self._group(job)
            self._run([each for each in group if each is not None])
            if group[-1] is None:
                return

    def _pulse(self) -> None:
        try:
            act = self._workers.pulse()
        except (sqlite3.Error, FlockError):
            logger.exception("the board's file can't be looked after, which is tried again")
            return
        if act is not None:
            job = Job(act)
            self._transact([job])
            if job.error is not None:
                logger.error("the board's file can't be looked after, which is tried again", exc_info=job.error)

    def _group(self, job: Job | None) -> list[Job | None]:
        """Take along what waits already."""
        group = [job]
        while len(group) < _MOST and group[-1] is not None and not group[-1].alone:
            try:
                group.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return group

    def _run(self, jobs: list[Job]) -> None:
        together = [job for job in jobs if not job.alone]
        if together:
            self._transact(together)
        for job in together:
            if job.error is not None and job.future is None:  # nobody else could ask again
                _forget(job)
                self._transact([job])
        for job in jobs:
            if job.alone:
                self._guard(job)
        _deliver(jobs)

    def _transact(self, jobs: list[Job]) -> None:
        """Do steps in one transaction; when that fails as a whole, each in one of its own."""
        try:
            self._begin()
            for job in jobs:
                self._step(job, several=len(jobs) > 1)
            self._commit()
        except Exception as error:  # noqa: BLE001 - the guard of the file: each error becomes an answer
            self._undo()
            if len(jobs) > 1:
                for job in jobs:
                    _forget(job)
                    self._transact([job])
                return
            jobs[0].answer, jobs[0].error = None, _explained(error)

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._steps.begin()
        self._changes = self._db.total_changes
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:  # another process wrote
            self._steps.load()
            self._workers.load()
            self._version = version

    def _step(self, job: Job, *, several: bool) -> None:
        """Do one step; what it refuses leaves the others' work as it is."""
        if several:
            self._db.execute("SAVEPOINT step")
        try:
            job.answer = job.act(self._steps)
        except FlockError as error:
            job.error = error
            if not several:
                raise
            self._db.execute("ROLLBACK TO step")
            self._steps.load()
        if several:
            self._db.execute("RELEASE step")

    def _commit(self) -> None:
        steps = self._steps.counting.steps
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction or self._db.execute(SQL["board"]).fetchone()[-1] != steps:
                raise
        if self._db.total_changes != self._changes:
            self._workers.wake()

    def _undo(self) -> None:
        self._version = -1  # what is remembered is read anew
        self._steps.undo()
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            return

    def _guard(self, job: Job) -> None:
        try:
            job.answer = job.act(self._steps)
        except Exception as error:  # noqa: BLE001 - see _transact
            job.error = _explained(error)


def _deliver(jobs: list[Job]) -> None:
    """Hand the answers over, in one call per event loop."""
    loops = {job.future.get_loop() for job in jobs if job.future is not None}
    for loop in loops:
        mine = [job for job in jobs if job.future is not None and job.future.get_loop() is loop]
        try:
            loop.call_soon_threadsafe(_resolve, mine)
        except RuntimeError:  # that loop is gone; what was done is done
            continue


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is None or job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.answer)
        else:
            job.future.set_exception(job.error)


def _explained(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error):
        told = StoreError(f"the board's file refused: {error}")
        told.__cause__ = error
        return told
    return error


def _forget(job: Job) -> None:
    job.answer = job.error = None


def _nothing(_: Steps) -> None:
    return
