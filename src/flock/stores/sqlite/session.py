"""What is there while a store is open: threads, connections, a place among the processes on the file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from socket import socket as Socket  # noqa: N812 - a class by a lower-case name
from typing import Final, TypeVar

from flock.model.errors import StoreError
from flock.model.ledger import Committed, Target
from flock.ports import Types
from flock.stores.sqlite.files import connect_reader
from flock.stores.sqlite.reading import Reading
from flock.stores.sqlite.steps import Steps
from flock.stores.sqlite.workers import Workers
from flock.stores.sqlite.writer import Writer
from flock.sync.owed import owe

T = TypeVar("T")
_READERS: Final = 2


class Session:
    """What an open store holds: its threads, its connections, and its place among other processes."""

    def __init__(
        self,
        path: Path,
        steps: Steps,
        workers: Workers,
        types: Types,
        targets: Mapping[str, Target],
        *,
        syncs: bool,
    ) -> None:
        self._path = path
        self._steps = steps
        self._types = types
        self._targets = targets
        self.workers = workers
        self.unheard: Callable[[Committed], None] = _ignore
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "flock sqlite reader")
        self._attending: asyncio.AbstractEventLoop | None = None
        self.writer = Writer(path, steps, workers, syncs=syncs)

    def attend(self, hint: Callable[[], None], unheard: Callable[[Committed], None]) -> None:
        """Call these on the running loop, which may be another one than before."""
        self.unheard = unheard
        loop, socket = asyncio.get_running_loop(), self.workers.presence.socket
        self.workers.on_taken = lambda: _call(loop, hint)
        self._deafen()
        if socket is not None:
            loop.add_reader(socket, _drain, socket, hint)
            self._attending = loop

    def _deafen(self) -> None:
        loop, self._attending = self._attending, None
        socket = self.workers.presence.socket
        if loop is not None and socket is not None and not loop.is_closed():
            loop.remove_reader(socket)

    async def read(self, read: Callable[[Reading], T]) -> T:
        """Read in one transaction, in a reader's thread."""
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._readers, self._reading, read)
        except RuntimeError:  # at the end of the process some versions start no thread
            return self._reading(read)
        owe(reading)
        return await reading

    def _reading(self, read: Callable[[Reading], T]) -> T:
        db = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = connect_reader(self._path)
            self._connections.append(db)
        return _read_on(db, read, self._types, self._targets)

    def abandon(self) -> None:
        """Be the parent's alone, in the child of a fork, which may neither use nor close what SQLite has open."""
        self.workers.presence.abandon()
        _of_parents.append(self)

    async def close(self) -> None:
        """Leave, and end the threads, also when the file refuses to be told of it."""
        self._deafen()
        try:
            await self.writer.do(self.workers.leave)
        finally:
            await self.writer.do(lambda _: self._readers.shutdown(), alone=True)  # in a thread that is there already
            await self.writer.close()
            for db in (*self._connections, self._steps.db):
                db.close()
            self.workers.presence.leave()


_of_parents: Final[list[Session]] = []


def _ignore(_: object) -> None:
    return


def _call(loop: asyncio.AbstractEventLoop, hint: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # that loop is closed: who comes next looks anyway
        loop.call_soon_threadsafe(hint)


def _drain(socket: Socket, hint: Callable[[], None]) -> None:
    """Take all hints that wait as one."""
    with suppress(BlockingIOError):
        while socket.recv(16):
            pass
    hint()


def _read_on(db: sqlite3.Connection, read: Callable[[Reading], T], types: Types, targets: Mapping[str, Target]) -> T:
    """Read one state."""
    try:
        db.execute("BEGIN")
        try:
            return read(Reading(db, types, targets))
        finally:
            db.rollback()  # a read changes nothing, and after some errors no transaction is left to commit
    except sqlite3.Error as error:
        raise StoreError(f"the board's file can't be read: {error}") from error


def read_once(path: Path, read: Callable[[Reading], T], types: Types, targets: Mapping[str, Target]) -> T:
    """Read one state of a file that is opened for just this."""
    db = connect_reader(path)
    try:
        return _read_on(db, read, types, targets)
    finally:
        db.close()
