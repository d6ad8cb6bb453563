"""The store of record: one SQLite file that has every attempt at every run, written by one process at a time."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from sys import float_info
from typing import Any, Final, NamedTuple, overload

from typing_extensions import override

from flock.model.errors import StoreError
from flock.studies.files import take_lock
from flock.studies.moments import iso_now
from flock.studies.runs import RunResult, RunSpec, RunStatus
from flock.studies.stable import ValidationError

FILE: Final = "record.sqlite"
_LOCK: Final = "record.lock"
_VERSION: Final = "1"
_PAUSE: Final = 0.05  # seconds between two tries
_GRACE: Final = 2.0  # seconds that another run of the study has to end, as one that was just left has to
_PAGES: Final = 8000  # of the log of what was written, before it goes into the file: each time waits for the disk
INTERRUPTED: Final = "interrupted"  # the reason of runs that were stopped
_INTERRUPTED: Final = "Interrupted: the process ended while this ran"
_BLOCK: Final = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.DOTALL | re.MULTILINE)
_SQL: Final = dict(_BLOCK.findall((resources.files("flock.studies") / "record.sql").read_text("utf-8")))


_STATUS: Final = {each.value: each for each in RunStatus}


class StudyLockedError(StoreError):
    """Raised when another run of the same study writes to its directory."""


class State(NamedTuple):
    """Where a run stands: its last attempt, or an earlier one that counts."""

    attempt: int
    generation: int
    fingerprint: str
    status: RunStatus
    status_reason: str | None
    cost: float | None
    earlier: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped in the middle, and so has failed at nothing."""
        return self.status_reason == INTERRUPTED


class Attempt(NamedTuple):
    """One try at a run; times are ISO 8601 in UTC."""

    run_id: str
    attempt: int
    generation: int
    status: RunStatus
    status_reason: str | None
    started_at: str | None
    ended_at: str | None
    error_info: str | None


class Results(Sequence[RunResult]):
    """Results, of which those that are texts are read when somebody looks at them."""

    def __init__(self, several: Iterable[RunResult | str]) -> None:
        """Hold results, and the texts of others."""
        self._several = list(several)

    @override
    def __len__(self) -> int:
        """Count them."""
        return len(self._several)

    @overload
    def __getitem__(self, index: int) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RunResult]: ...

    @override
    def __getitem__(self, index: int | slice) -> RunResult | Sequence[RunResult]:
        """Give one by position, or several."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        found = self._several[index]
        if isinstance(found, str):
            found = self._several[index] = RunResult.from_dict(json.loads(found))
        return found


class Reader:
    """Reads a record, also while a study writes to it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Read by this connection."""
        self._db = db

    def states(self) -> dict[str, State]:
        """Give where each run stands, by its id: its attempts come in their order, and the last one counts."""
        return {
            run_id: State(attempt, generation, fingerprint, _STATUS[status], reason, cost)
            for run_id, attempt, generation, fingerprint, status, reason, cost in self._db.execute(_SQL["states"])
        }

    def earlier_successes(self) -> list[tuple[str, State]]:
        """Give the attempts that succeeded and were followed by others, each with its run, oldest first."""
        return [
            (run_id, State(attempt, generation, fingerprint, _STATUS[status], reason, cost, earlier=True))
            for run_id, attempt, generation, fingerprint, status, reason, cost in self._db.execute(_SQL["earlier"])
        ]

    def results_of(self, chosen: Mapping[str, State]) -> dict[str, RunResult | str]:
        """Give the results of these attempts by run id, as `results` does."""
        last = self.results()
        return {
            run_id: self._db.execute(_SQL["result"], (run_id, state.attempt)).fetchone()[0]
            if state.earlier
            else last[run_id]
            for run_id, state in chosen.items()
        }

    def results(self) -> dict[str, RunResult | str]:
        """Give the results of the last attempts by run id: as the texts that they are kept as, for `Results`."""
        return {
            run_id: RunResult(run_id, _STATUS[status], error_info=error, started_at=started, status_reason=reason)
            if result is None
            else result
            for run_id, result, status, reason, started, error in self._db.execute(_SQL["results"])
        }

    def attempts(self) -> Iterator[Attempt]:
        """Give every attempt, by run."""
        for run_id, attempt, generation, status, *rest in self._db.execute(_SQL["attempts"]):
            yield Attempt(run_id, attempt, generation, RunStatus(status), *rest)

    @property
    def generation(self) -> int:
        """The number of the last beginning anew; what was before is kept and does not count."""
        return int(self.get("generation", "0"))

    def get(self, name: str, default: str = "") -> str:
        """Give what was noted under a name."""
        row = self._db.execute(_SQL["get"], (name,)).fetchone()
        return default if row is None else str(row[0])


class Record(Reader):
    """Writes a record. Each call is one transaction: what it returned from survives the end of the process."""

    def __init__(self, db: sqlite3.Connection, *, anew: bool) -> None:
        """Write by this connection; `anew` begins a generation, in which nothing has run yet."""
        super().__init__(db)
        self._attempts: dict[str, int] = dict(db.execute(_SQL["last"]))
        self._begun: dict[str, int] = {}  # the rows of what runs
        self._current = self.generation + (1 if anew or not self._attempts else 0)
        self._db.execute(_SQL["put"], ("generation", str(self._current)))
        if db.execute(_SQL["running"]).fetchone()[0]:
            self._db.execute(_SQL["interrupt"], (_INTERRUPTED,))

    def put(self, name: str, value: str) -> None:
        """Note something under a name."""
        self._db.execute(_SQL["put"], (name, value))

    def advance(
        self, ended: Sequence[tuple[RunResult, str]] = (), begun: Sequence[tuple[RunSpec, str]] = ()
    ) -> None:  # fmt: skip
        """Keep results of runs, each with its fingerprint, and that others begin."""
        execute, rows, new = self._db.execute, self._begun, dict[str, int]()
        written = [(result, fingerprint, _columns(result)) for result, fingerprint in ended]
        try:
            execute("BEGIN IMMEDIATE")
            for result, fingerprint, columns in written:
                if result.run_id in rows:
                    execute(_SQL["finish"], (*columns, rows[result.run_id]))
                else:
                    execute(_SQL["whole"], (*self._try(_spec_of(result), fingerprint), *columns))
            for spec, fingerprint in begun:
                new[spec.run_id] = execute(_SQL["begin"], (*self._try(spec, fingerprint), iso_now())).lastrowid or 0
            execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                execute("ROLLBACK")
            raise
        for result, _ in ended:
            rows.pop(result.run_id, None)
        rows |= new

    def _try(self, spec: RunSpec, fingerprint: str) -> tuple[Any, ...]:
        """Give the columns of another attempt that are known when it begins."""
        attempt = self._attempts[spec.run_id] = self._attempts.get(spec.run_id, 0) + 1
        return (
            spec.run_id, attempt, self._current, fingerprint, spec.condition_id, spec.problem_id, spec.agent_id,
            spec.replicate, spec.seed,
        )  # fmt: skip


def _spec_of(result: RunResult) -> RunSpec:
    """Give what a result is of; all that is known of one without a spec is its id."""
    return result.run_spec or RunSpec(result.run_id, "", "", "", 1, 0, "", "")


def _columns(result: RunResult) -> tuple[Any, ...]:
    metrics = result.metrics
    return (
        result.status.value,
        result.status_reason,
        result.started_at,
        result.ended_at,
        result.latency,
        result.cost,
        _number(metrics, "input_tokens"),
        _number(metrics, "output_tokens"),
        _number(metrics, "primary_outcome"),
        result.error_info,
        json.dumps(result.to_dict(), ensure_ascii=False, separators=(",", ":")),
    )


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) <= float_info.max else None


@contextmanager
def writing(directory: Path, study_id: str | None, *, anew: bool = False) -> Generator[Record]:
    """Open a study's record to write; raises StudyLockedError while another does, and ValidationError for another's.

    Raises StoreError when the disk takes no more; what was kept until then is safe.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValidationError(f"output_dir {directory} can't be made: {error.strerror}") from error
    with _only_one(directory), _written(directory), closing(_connect(directory / FILE)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
        db.executescript(_SQL["schema"])
        _check(Reader(db), directory, study_id)
        record = Record(db, anew=anew)
        if study_id is not None:
            record.put("study_id", study_id)
        record.put("version", _VERSION)
        yield record


@contextmanager
def _written(directory: Path) -> Generator[None]:
    """Say what it means when SQLite can't write."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"the record in {directory} can't be written: {error}. What was kept until now is safe: see to the disk, "
            "then run the study again, which goes on from there"
        ) from error


@contextmanager
def reading(directory: Path) -> Generator[Reader]:
    """Open a study's record to read; raises ValidationError when there is none."""
    if not (directory / FILE).is_file():
        raise ValidationError(f"there is no record of a study in {directory}: run it first, or name its output_dir")
    with closing(_connect(directory / FILE)) as db:
        if db.execute("SELECT name FROM sqlite_master WHERE name = 'attempts'").fetchone() is None:
            raise ValidationError(f"the record in {directory} is empty: run the study first")
        yield Reader(db)


def _connect(path: Path) -> sqlite3.Connection:
    db = None
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        db.execute("SELECT name FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise StoreError(f"the record {path} can't be opened: {error}") from error
    return db


def _check(found: Reader, directory: Path, study_id: str | None) -> None:
    version, whose = found.get("version", _VERSION), found.get("study_id", study_id or "")
    if version != _VERSION:
        raise StoreError(f"the record in {directory} has version {version}, this Flock writes version {_VERSION}")
    if study_id is not None and whose != study_id:
        raise ValidationError(
            f"{directory} has the record of study {whose!r}: give {study_id!r} an output_dir of its own"
        )


def is_written(directory: Path) -> bool:
    """Say whether a process writes to the record of a directory at this moment."""
    if not (directory / _LOCK).is_file():
        return False
    with (directory / _LOCK).open("ab") as file:
        if not take_lock(file):
            return True
    return False


@contextmanager
def _only_one(directory: Path) -> Generator[None]:
    """Hold a lock of the system, which goes with the process however that ends."""
    try:
        file = (directory / _LOCK).open("ab")
    except OSError as error:
        raise StoreError(f"{directory} can't be written to: {error.strerror}") from error
    with file:
        patience = threading.Event()
        for _ in range(round(_GRACE / _PAUSE)):
            if take_lock(file):
                break
            patience.wait(_PAUSE)
        else:
            raise StudyLockedError(f"another run of this study writes to {directory}: wait for it or stop it")
        yield
