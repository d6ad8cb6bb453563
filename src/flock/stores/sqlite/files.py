"""The file of a board: opened, checked and brought up to date."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final, Literal, TypeVar

from flock.model.errors import StoreError
from flock.stores.sqlite.later import WritingConnection
from flock.stores.sqlite.statements import migrations

C = TypeVar("C", bound=sqlite3.Connection)
Synchronous = Literal["full", "normal"]
_APPLICATION: Final = 0x464C4F43  # "FLOC", in the header of each file
PATIENCE: Final = 30.0  # seconds that a step waits for another process to end its own
_URL: Final = "sqlite:///"
_CACHED: Final = 256  # statements that stay compiled
_REMOTE: Final = frozenset({"afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"})
_MOUNTS: Final = Path("/proc/self/mounts")
SCHEMA: Final = max(number for number, _ in migrations())


def connect(path: Path, synchronous: Synchronous, *, create: bool = True) -> WritingConnection:
    """Open a board for writing and bring its schema up to date; raises StoreError and leaves a file as it is.

    `create=False` refuses a path where there is no file.
    """
    refuse_remote(path)
    _refuse_place(path)
    _refuse_locked(path)
    try:
        db = _open(path, "rwc" if create else "rw", WritingConnection)
        try:
            _prepare(db, path, synchronous)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a board that is there for reading; raises StoreError."""
    _refuse_place(path)
    try:
        # To read a board SQLite makes files beside it, which whoever may write it could not use then.
        db = _open(path, "ro&immutable=1" if _stands_still(path) else "rw", sqlite3.Connection)
        try:
            _refuse_empty(path, _check(db, path))
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    return db


def _stands_still(path: Path) -> bool:
    """Say whether no process works on a board, which this one may not write."""
    board = path.resolve()
    locked = not (os.access(board, os.W_OK) and os.access(board.parent, os.W_OK))
    return locked and not board.with_name(f"{board.name}-wal").exists()


def _open(path: Path, mode: str, factory: type[C]) -> C:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED,
        factory=factory,
    )


def _prepare(db: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    version = _check(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    _declared(db)
    if version < SCHEMA:
        migrate(db)
    db.execute("PRAGMA busy_timeout = 0")  # the writer waits by itself
    if synchronous == "normal":
        db.execute("PRAGMA wal_autocheckpoint = 0")  # which would sync: the writer says when


def _declared(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("CREATE TEMP TABLE IF NOT EXISTS declared (subscription TEXT PRIMARY KEY) WITHOUT ROWID")


def _check(db: sqlite3.Connection, path: Path) -> int:
    """Give the version of the schema; raises StoreError for what is no board, or a newer program's."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()  # last: another process may just make the tables
    if application != _APPLICATION and (application or tables):
        raise StoreError(f"{path} is a database of another application, not a board; it was left as it is")
    if version > SCHEMA:
        raise StoreError(
            f"{path} was written by a newer Flock (schema {version}, this one knows {SCHEMA}): upgrade flock-board"
        )
    return int(version)


def checkpoint(path: Path) -> None:
    """Copy the log into the file, as far as no reader needs it as it is; no writer waits meanwhile."""
    db = _open(path, "rw", sqlite3.Connection)
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    finally:
        db.close()


def migrate(db: sqlite3.Connection) -> None:
    """Apply the steps that are missing, all in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been quicker
        for number, script in migrations():
            if number > version:
                _run(db, script)
                db.execute(f"PRAGMA user_version = {number}")
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _run(db: sqlite3.Connection, script: str) -> None:
    """Run a script statement by statement: `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""


def refuse_remote(path: Path) -> None:
    """Raise StoreError on a network's file system, where SQLite's locks do not hold, so far as it can be told."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return
    folder = path.absolute().parent
    held = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    place, kind = max(held, key=_length, default=("", ""))
    if kind in _REMOTE:
        raise StoreError(f"{path} is on a network file system ({kind} at {place}): put the board on a local disk")


def _length(mount: tuple[str, str] | list[str]) -> int:
    return len(mount[0])


def _refuse_place(path: Path) -> None:
    """Raise StoreError where there can be no file."""
    try:
        if path.is_dir():
            raise StoreError(f"{path} is a folder: name a file in it, as in {path / 'board.db'}")
        if not path.parent.is_dir():
            raise StoreError(f"there is no folder {path.parent} for {path.name}: make it first")
        path.exists()
    except PermissionError as error:
        raise StoreError(f"{path} can't be reached by this user: change the permissions of its folder") from error


def _refuse_empty(path: Path, version: int) -> None:
    if not version:
        raise StoreError(f"{path} is empty: it is a board as soon as a Flock has had it as its store")


def _refuse_locked(path: Path) -> None:
    """Raise StoreError for what this process may not write: the file, or its folder, where others come beside it."""
    if path.exists() and not os.access(path, os.W_OK):
        raise StoreError(f"{path} may not be written by this user: change the permissions of the file")
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        raise StoreError(
            f"{path} needs a folder in which this user may write, as files come beside it: change the permissions of "
            f"{folder}"
        )


def _explained(path: Path, error: sqlite3.Error) -> StoreError:
    """Say what an error at opening means."""
    text = str(error)
    if not path.exists():
        return StoreError(f"there is no board at {path}")
    if not os.access(path, os.R_OK):
        return StoreError(f"{path} may not be read by this user: change the permissions of the file")
    if "not a database" in text or "malformed" in text:
        return StoreError(f"{path} is no board or is damaged ({text}); it was left as it is{_advice(path, text)}")
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        return StoreError(
            f"{path} was not closed, and can't be read by a user who may not write in its folder ({text}): change the "
            f"permissions of {folder}, or open the board once as a user who may"
        )
    return StoreError(f"{path} can't be opened: {text}")


def unreadable(path: Path, error: sqlite3.Error) -> StoreError:
    """Say what an error at reading means, and what to do where pages are damaged."""
    return StoreError(f"the board's file can't be read: {error}{_advice(path, str(error))}")


def _advice(path: Path, text: str) -> str:
    return f": save what `flock board {_URL}{path} export` can read, or put a copy back" if "malformed" in text else ""
