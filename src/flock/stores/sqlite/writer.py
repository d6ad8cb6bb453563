"""The one writer: steps that wait join one transaction, and the file is synced once for all of them."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

from flock.model.errors import FlockError, StoreError
from flock.stores.sqlite.files import PATIENCE, checkpoint
from flock.stores.sqlite.later import Collision
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.steps import Steps
from flock.stores.sqlite.workers import Workers
from flock.sync.owed import owe

T = TypeVar("T")
logger = logging.getLogger("flock")
_MOST: Final = 64  # steps in one transaction
_FIRST_WAIT, _LAST_WAIT = 0.001, 0.02  # seconds between two tries to begin while another process writes
_PRIMARY: Final = 0xFF  # of an error's code; the rest says more
_DIRTY: Final = 20_000  # changed rows after which the log is copied into the file


@dataclass(slots=True, eq=False)
class Job:
    """A step, and who waits for its answer."""

    act: Callable[[Steps], Any]
    future: asyncio.Future[Any] | None = None
    alone: bool = False  # outside a transaction
    last: bool = True  # of those in its transaction: others make room for it
    unheard: Callable[[Any], None] | None = None  # gets the answer when who waited for it was cancelled
    answer: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs in the order in which they come, and lets a process give signs of life in between.

    Where each transaction waits for the disk (`syncs`), a thread does them. Where none does, a step costs less than a
    hop to a thread: what comes up within a turn of the event loop is done there, as one transaction; the thread
    takes over while another process writes, and copies the log into the file.
    """

    def __init__(self, path: Path, steps: Steps, workers: Workers, *, syncs: bool) -> None:
        """Start the thread."""
        self._path = path
        self._steps = steps
        self._db = steps.db
        self._workers = workers
        self._syncs = syncs
        self._lock = threading.Lock()  # of the connection
        self._changes = 0
        self._copied = self._db.total_changes
        self._here: list[Job] = []
        self._turn: asyncio.AbstractEventLoop | None = None  # that will run them
        self._handed = self._finished = 0  # jobs for the thread: while there are any, all are, to stay in order
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._version = -1
        self._thread = threading.Thread(target=self._work, name="flock sqlite writer", daemon=True)
        self._thread.start()

    async def do(
        self,
        act: Callable[[Steps], T],
        *,
        alone: bool = False,
        last: bool = True,
        unheard: Callable[[T], None] | None = None,
    ) -> T:
        """Have a step done and give its answer when it is durable; raises what it raised, or StoreError.

        A step that was asked for is done, also when the wait for it is cancelled; `unheard` then gets the answer.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = Job(act, future, alone, last, unheard)
        if self._syncs or alone:
            self._hand_over([*self._taken(), job])
        else:
            self._here.append(job)
            if self._turn is not loop:
                self._turn = loop
                loop.call_soon(self._run_here)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():  # the answer was there already
                _tell_unheard(job, loop)
            raise

    def post(self, act: Callable[[Steps], object]) -> None:
        """Have a step done before the next one."""
        if self._syncs:
            self._hand_over([Job(act)])
        else:
            self._here.append(Job(act))

    async def close(self) -> None:
        """End after what was asked for before."""
        await self.do(_nothing, alone=True)
        self._jobs.put(None)
        self._thread.join()

    # ---- on the loop

    def _taken(self) -> list[Job]:
        jobs, self._here, self._turn = self._here, [], None
        return jobs

    def _run_here(self) -> None:
        jobs = self._taken()
        if not jobs:
            return
        jobs.sort(key=_LAST)
        if self._handed != self._finished or not self._lock.acquire(blocking=False):
            self._hand_over(jobs)
            return
        try:
            done = self._try_to_begin() and self._try(jobs) is None
        except sqlite3.Error:
            done = False  # the thread tries it again, and tells those who wait
        finally:
            self._lock.release()
        if not done:
            self._hand_over(jobs)
            return
        _deliver(jobs)
        if self._db.total_changes - self._copied > _DIRTY:
            self._copied = self._db.total_changes
            self._jobs.put(_COPY)

    def _hand_over(self, jobs: list[Job]) -> None:
        self._handed += len(jobs)
        for job in jobs:
            if job.future is not None and not job.future.done():
                owe(job.future)
            self._jobs.put(job)

    def _try_to_begin(self) -> bool:
        try:
            self._begin()
        except sqlite3.Error as error:
            self._undo()
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

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
            if job is _COPY:
                self._copy()
                continue
            group = self._group(job)
            jobs = [each for each in group if each is not None]
            self._run(jobs)
            self._finished += len(jobs)
            if group[-1] is None:
                return

    def _pulse(self) -> None:
        with self._lock:
            try:
                act = self._workers.pulse()
            except (sqlite3.Error, FlockError):
                logger.exception("the board's file can't be looked after, which is tried again")
                return
            if act is None:
                return
            job = Job(act)
            self._transact([job])
            if job.error is not None:
                logger.error("the board's file can't be looked after, which is tried again", exc_info=job.error)

    def _copy(self) -> None:
        try:
            checkpoint(self._path)
        except sqlite3.Error:
            logger.exception("the board's log can't be copied into its file, which is tried again")

    def _group(self, job: Job | None) -> list[Job | None]:
        """Take along what waits already."""
        group = [job]
        while len(group) < _MOST and group[-1] is not None and not group[-1].alone:
            try:
                following = self._jobs.get_nowait()
            except queue.Empty:
                break
            if following is _COPY:
                self._copy()
            else:
                group.append(following)
        return group

    def _run(self, jobs: list[Job]) -> None:
        together = sorted([job for job in jobs if not job.alone], key=_LAST)
        if together:
            with self._lock:
                self._transact(together)
                for job in together:
                    if job.error is not None and job.future is None:  # nobody else could ask again
                        job.error = None
                        self._transact([job])
        for job in jobs:
            if job.alone:
                self._guard(job)
        _deliver(jobs)

    def _guard(self, job: Job) -> None:
        with self._lock:
            try:
                job.answer = job.act(self._steps)
            except Exception as error:  # noqa: BLE001 - see _transact
                job.error = _explained(error)

    # ---- transactions

    def _transact(self, jobs: list[Job]) -> None:
        """Do steps in one transaction; when that fails as a whole, each in one of its own."""
        try:
            self._wait_to_begin()
            error = self._try(jobs)
        except sqlite3.Error as raised:
            error = raised
        if error is None:
            return
        if len(jobs) > 1:
            for job in jobs:
                self._transact([job])
        elif isinstance(error, Collision) and not self._steps.careful:
            self._carefully(jobs[0])
        else:
            jobs[0].error = _explained(error)

    def _try(self, jobs: list[Job]) -> Exception | None:
        """Do steps in the transaction that has begun; gives what made all of it undone."""
        try:
            for job in jobs:
                self._step(job)
            self._steps.save()
            self._commit()
        except Exception as error:  # noqa: BLE001 - the guard of the file: each error becomes an answer
            self._undo()
            for job in jobs:
                job.answer = job.error = None
            return error
        return None

    def _carefully(self, job: Job) -> None:
        """Do a step again that came upon something known."""
        self._steps.careful = True
        try:
            self._transact([job])
        finally:
            self._steps.careful = False

    def _wait_to_begin(self) -> None:
        """Begin when no other process writes; raises sqlite3.OperationalError when that takes too long."""
        waited, pause, never = 0.0, _FIRST_WAIT, threading.Event()
        while not self._try_to_begin():
            if waited > PATIENCE:
                raise sqlite3.OperationalError(f"another process has been writing for {PATIENCE:g} s")
            never.wait(pause)
            waited, pause = waited + pause, min(2 * pause, _LAST_WAIT)

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._steps.begin()
        self._changes = self._db.total_changes
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:  # another process wrote
            self._steps.load()
            self._workers.load()
            self._version = version

    def _step(self, job: Job) -> None:
        """Do one step. One that is refused has changed nothing, so that it takes no other along."""
        before = self._db.changes
        try:
            job.answer = job.act(self._steps)
        except FlockError as error:
            if self._db.changes != before:
                raise
            job.error = error

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


def _deliver(jobs: list[Job]) -> None:
    """Hand the answers over: at once on the loop that waits for them, in one call on any other."""
    here = asyncio._get_running_loop()  # noqa: SLF001 - the one that says None in a thread
    for loop in {job.future.get_loop() for job in jobs if job.future is not None}:
        mine = [job for job in jobs if job.future is not None and job.future.get_loop() is loop]
        try:
            if loop is here:
                _resolve(mine)
            else:
                loop.call_soon_threadsafe(_resolve, mine)
        except RuntimeError:  # that loop is gone; what was done is done
            continue


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is None:
            continue
        if job.future.done():
            _tell_unheard(job, job.future.get_loop())
        elif job.error is None:
            job.future.set_result(job.answer)
        else:
            job.future.set_exception(job.error)


def _tell_unheard(job: Job, loop: asyncio.AbstractEventLoop) -> None:
    if job.unheard is not None and job.error is None:
        loop.call_soon(job.unheard, job.answer)


def _explained(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error):
        told = StoreError(f"the board's file refused: {error}")
        told.__cause__ = error
        return told
    return error


def _nothing(_: Steps) -> None:
    return


_LAST: Final = attrgetter("last")
_COPY: Final = Job(_nothing)  # a request to copy the log into the file, beside the steps
