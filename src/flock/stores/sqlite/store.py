"""The SQLite store: the port over one writer and a few readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from flock.board.image import Image
from flock.board.ports import Fate, Pruned, Retention, StoreInfo
from flock.model.artifact import Record
from flock.model.collect import seconds
from flock.model.errors import StoreError
from flock.model.events import Waiting
from flock.model.ledger import (
    Activation,
    Commit,
    Committed,
    Consumption,
    Lease,
    Progress,
    Query,
    Target,
    TimerState,
    Withdrawn,
)
from flock.ports import Clock, Types
from flock.stores.codec import Encoded, encode
from flock.stores.sqlite.files import Synchronous, connect
from flock.stores.sqlite.images import image
from flock.stores.sqlite.reading import Reading
from flock.stores.sqlite.restoring import restore
from flock.stores.sqlite.session import Session, read_once
from flock.stores.sqlite.steps import Steps
from flock.stores.sqlite.upkeep import prune_runs, prune_some, vacuum
from flock.stores.sqlite.workers import Workers
from flock.stores.sqlite.writer import Writer

T = TypeVar("T")
LEASE: Final = 15.0  # seconds
_SYNCHRONOUS: Final[dict[str, Synchronous]] = {"full": "full", "normal": "normal"}
POISON: Final = 3  # processes that an activation may take with it


OPTIONS: Final = ("synchronous", "lease", "poison")


def from_url(path: str, options: Mapping[str, str]) -> SQLiteStore:
    """Make the store of `sqlite:///board.db` (beside the program) or `sqlite:////data/board.db`; raises ValueError."""
    file = path.removeprefix("/")
    if not file or file == ":memory:":
        raise ValueError("name a file, as in sqlite:///board.db; a board in memory is memory://")
    synchronous = options.get("synchronous", "full").lower()
    if synchronous not in _SYNCHRONOUS:
        raise ValueError(f"synchronous is full or normal, not {synchronous!r}")
    lease, poison = options.get("lease", str(LEASE)), options.get("poison", str(POISON))
    if not poison.isdigit():
        raise ValueError("poison takes a count of zero or more")
    try:
        patience = float(lease)
    except ValueError:
        raise ValueError(f"lease takes seconds, as in lease=15, not {lease!r}") from None
    return SQLiteStore(
        file, synchronous=_SYNCHRONOUS[synchronous], lease=seconds("lease", patience), poison=int(poison)
    )


class SQLiteStore:
    """A board in one file, for one process or several on one machine.

    `synchronous="full"` acknowledges what survives a power cut, `"normal"` what survives the end of the process.
    `lease` is the time (s) after which a process that has stopped to give signs of life loses its work; `poison` the
    number of processes in a row that an activation may take with it before it fails (0: any number).
    """

    forgets = False

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "full",
        lease: float = LEASE,
        poison: int = POISON,
    ) -> None:
        """Touch no file yet."""
        self.path = Path(path)
        self._synchronous: Synchronous = synchronous
        self._lease = lease
        self._poison = poison
        self._targets: dict[str, Target] = {}
        self._types: Types | None = None
        self._open: Session | None = None

    # ---- life

    async def open(self, clock: Clock, types: Types) -> Committed:
        """Migrate, and take over what processes that are gone have left; again on another loop: what that one ran."""
        self._types = types
        if self._open is None:
            self._open = await self._joined(await asyncio.to_thread(self._start, clock, types))
        else:
            await self._writer.do(_recover)
        time, due = await self._writer.do(_look)
        clock.advance_to(time)
        return Committed(due=due)

    async def _joined(self, found: Session) -> Session:
        """Take a place among the processes on the file: the first step that writes there."""
        try:
            await found.writer.do(found.workers.join)
        except BaseException as error:
            with suppress(StoreError):
                await found.close()
            if isinstance(error, StoreError):
                raise StoreError(f"{self.path} can't be opened for writing: {error}") from error
            raise
        return found

    def _start(self, clock: Clock, types: Types) -> Session:
        db = connect(self.path, self._synchronous)
        try:
            steps = Steps(db, clock, types, self._poison)
            steps.targets = self._targets
            workers = Workers(self.path, steps, clock.new_id()[-12:], self._lease)
        except BaseException:
            db.close()
            raise
        return Session(self.path, steps, workers, types, self._targets, syncs=self._synchronous == "full")

    async def look(self, clock: Clock, types: Types) -> None:
        """Take no part: reads open the file one by one."""
        self._types = types
        clock.advance_to(await self._read(Reading.time))

    def declare(self, targets: Iterable[Target]) -> None:
        """Know these subscriptions, and their agents as served."""
        self._targets.update((target.subscription, target) for target in targets)
        if self._open is not None:
            self._writer.post(self._open.workers.declare)

    async def close(self) -> None:
        """Leave the file; what runs is ready for others."""
        found, self._open = self._open, None
        if found is not None:
            await found.close()

    def forget(self) -> None:
        """Open the file anew at the next use; the connections of the process that has forked stay as they are."""
        found, self._open = self._open, None
        if found is not None:
            found.abandon()

    def attend(self, hint: Callable[[], None], unheard: Callable[[Committed], None]) -> None:
        """Tell of other processes' changes, of work taken over from one that is gone, and of commits nobody heard."""
        self._opened.attend(hint, unheard)

    @property
    def _opened(self) -> Session:
        if self._open is None:
            raise StoreError(f"the board at {self.path} is not open")
        return self._open

    @property
    def _writer(self) -> Writer:
        return self._opened.writer

    # ---- steps

    def _step(self, act: Callable[[Steps], Committed]) -> Coroutine[Any, Any, Committed]:
        opened = self._opened
        return opened.writer.do(act, unheard=opened.unheard)

    def commit(self, commit: Commit) -> Coroutine[Any, Any, Committed]:
        """Do one step, durable when this has been awaited."""
        encoded = [encode(record.snapshot) for record in commit.records]
        opened = self._open or self._opened
        return opened.writer.do(
            partial(_commit, commit, encoded), last=commit.settle is None, unheard=opened.unheard
        )  # what ends an activation makes room for others

    async def claim(self, limits: Mapping[str, int], most: int) -> Sequence[Lease]:
        """Lease what is ready."""
        wanted = dict(limits)
        return (await self._step(lambda steps: Committed(leases=steps.claim(wanted, most)))).leases

    async def release(self, lease: Lease) -> Committed:
        """Make an activation ready again."""
        return await self._step(lambda steps: steps.release(lease))

    async def tick(self, limits: Mapping[str, int]) -> Committed:
        """Do what is due."""
        wanted = dict(limits)
        return await self._step(lambda steps: steps.tick(wanted))

    async def flush(self, run: str | None, limits: Mapping[str, int]) -> Committed:
        """Fire partial batches."""
        wanted = dict(limits)
        return await self._step(lambda steps: steps.flush(run, wanted))

    async def cancel(self, *, run: str | None = None, activation: str | None = None) -> Withdrawn:
        """End a run, or one activation."""
        return await self._writer.do(lambda steps: steps.cancel(run, activation))

    async def retry(self, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Make failed activations ready again."""
        return await self._writer.do(lambda steps: steps.retry(ids))

    async def prune(self, retention: Retention) -> Pruned:
        """Remove what may go, a few hundred artifacts at a time, so that others' steps go on in between."""
        artifacts = activations = removed = since = 0
        while True:
            since, pruned = await self._writer.do(partial(prune_some, retention=retention, since=since))
            if not since:
                break
            artifacts += pruned.artifacts
        after = ""
        while True:
            after, pruned = await self._writer.do(partial(prune_runs, after=after))
            if not after:
                break
            activations, removed = activations + pruned.activations, removed + pruned.runs
        return Pruned(artifacts, activations, removed)

    async def vacuum(self) -> None:
        """Give the space of what was removed back."""
        await self._writer.do(vacuum, alone=True)

    async def restore(self, image: Image) -> None:
        """Become the board that an image shows: all of it, or nothing."""
        await self._writer.do(lambda steps: restore(steps, image), alone=True)

    # ---- reads

    async def _read(self, read: Callable[[Reading], T]) -> T:
        """Read; past the end of a Flock, too, whose file is opened for just this."""
        if self._open is not None:
            return await self._open.read(read)
        if self._types is None:
            raise StoreError(f"the board at {self.path} is not open")
        return await asyncio.to_thread(read_once, self.path, read, self._types, self._targets)

    async def work(self, run: str | None = None) -> int:
        """Count what has to end."""
        return await self._read(lambda reading: reading.work(run))

    async def progress(self, run: str | None = None) -> Progress:
        """Count."""
        return await self._read(lambda reading: reading.progress(run))

    async def waiting(self, run: str | None = None) -> Sequence[Waiting]:
        """Describe what waits."""
        return await self._read(lambda reading: reading.waiting(run))

    async def get(self, ids: Sequence[str]) -> Sequence[Record]:
        """Look ids up; of what was pruned the envelope is left."""
        return await self._read(lambda reading: reading.get(ids))

    async def query(self, query: Query) -> Sequence[Record]:
        """Select records."""
        return await self._read(lambda reading: reading.query(query))

    async def follow(self, since: int, most: int) -> Sequence[Record]:
        """Read on."""
        return await self._read(lambda reading: reading.follow(since, most))

    async def children(self, ids: Sequence[str]) -> Sequence[Record]:
        """Look parents up."""
        return await self._read(lambda reading: reading.children(ids))

    async def consumptions(self, id: str) -> Sequence[Consumption]:
        """Look up which activations had an artifact as an input."""
        return await self._read(lambda reading: reading.consumptions(id))

    async def activation(self, id: str) -> Activation | None:
        """Look an activation up."""
        return await self._read(lambda reading: reading.activation(id))

    async def failures(self, run: str | None = None) -> Sequence[Activation]:
        """Give the activations that have failed."""
        return await self._read(lambda reading: reading.failures(run))

    async def fates(self, id: str) -> Sequence[Fate]:
        """Look up what became of an artifact."""
        return await self._read(lambda reading: reading.fates(id))

    def image(self, at: int | None = None) -> Image:
        """Show the board as it was at a position."""
        return image(self.path, at)

    async def info(self) -> StoreInfo:
        """Count and measure."""
        return await self._read(lambda reading: reading.info(self.path))

    async def timers(self) -> Mapping[str, TimerState]:
        """Give the schedules' state."""
        return await self._read(Reading.timers)

    async def runs(self) -> Sequence[str]:
        """Name the runs."""
        return await self._read(Reading.runs)

    async def unserved(self) -> Sequence[str]:
        """Name the agents that no process has."""
        return await self._read(Reading.unserved)

    async def kinds(self) -> Sequence[str]:
        """Name the types."""
        return await self._read(Reading.kinds)


def _commit(commit: Commit, encoded: Sequence[Encoded], steps: Steps) -> Committed:
    return steps.commit(commit, encoded)


def _recover(steps: Steps) -> None:
    steps.activations.recover()


def _look(steps: Steps) -> tuple[float, float | None]:
    return steps.counting.time, steps.next_due()
