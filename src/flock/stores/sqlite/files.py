"""The file of a board: opened, checked and brought up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, Literal

from flock.model.errors import StoreError
from flock.stores.sqlite.statements import migrations

Synchronous = Literal["full", "normal"]
_APPLICATION: Final = 0x464C4F43  # "FLOC", in the header of each file
PATIENCE: Final = 30.0  # seconds that a step waits for another process to end its own
_CACHED: Final = 256  # statements that stay compiled
_REMOTE: Final = frozenset({"afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"})
_MOUNTS: Final = Path("/proc/self/mounts")
SCHEMA: Final = max(number for number, _ in migrations())


def connect(path: Path, synchronous: Synchronous, *, create: bool = True) -> sqlite3.Connection:
    """Open a board for writing and bring its schema up to date; raises StoreError and leaves a file as it is.

    `create=False` refuses a path where there is no file.
    """
    refuse_remote(path)
    try:
        db = _open(path, "rwc" if create else "rw")
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
    try:
        db = _open(path, "rw")
        try:
            _check(db, path)
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    return db


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED,
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
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION and (application or tables):
        raise StoreError(f"{path} is a database of another application, not a board; it was left as it is")
    if version > SCHEMA:
        raise StoreError(
            f"{path} was written by a newer Flock (schema {version}, this one knows {SCHEMA}): upgrade flock-board"
        )
    return int(version)


def checkpoint(path: Path) -> None:
    """Copy the log into the file, as far as no reader needs it as it is; no writer waits meanwhile."""
    db = _open(path, "rw")
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


def _explained(path: Path, error: sqlite3.Error) -> StoreError:
    """Say what an error at opening means."""
    text = str(error)
    if not path.exists() and "unable to open" in text:
        return StoreError(f"there is no board at {path}" if path.parent.is_dir() else f"there is no {path.parent}")
    if "not a database" in text or "malformed" in text:
        return StoreError(f"{path} is no board or is damaged ({text}); it was left as it is")
    return StoreError(f"{path} can't be opened: {text}")
