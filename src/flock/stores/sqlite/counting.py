"""The counts of the board and of its runs: read once, kept while no other process writes, written after each step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from flock.model.ledger import Outcome
from flock.stores.sqlite.statements import SQL

_MOST = 1_000  # runs that are kept in memory between two steps


@dataclass(slots=True)
class Counts:
    """What is counted of one run, or of the board."""

    name: str = ""
    artifacts: int = 0
    open: int = 0
    timed: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    ordinals: dict[str, int] = field(default_factory=dict[str, int])
    withdrawn: int | None = None
    first: int = 0
    quiet: float = 0.0

    def end(self, outcome: Outcome) -> None:
        """Count an activation that has ended."""
        self.open -= 1
        if outcome == "done":
            self.done += 1
        elif outcome == "failed":
            self.failed += 1
        else:
            self.cancelled += 1


class Counting:
    """The board's counts and position, and those of the runs that steps ask for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Know nothing yet."""
        self._db = db
        self._runs: dict[str, Counts] = {}
        self._touched: dict[str, Counts] = {}
        self.board = Counts()
        self.sequence = self.newest_failure = self.steps = 0
        self.at = 0  # the position that what happens now has in the board's history: an offer's is its record's
        self.horizon = 0
        self.time = 0.0
        self._saved: tuple[int, ...] = ()

    def load(self) -> None:
        """Read the board anew and forget the runs."""
        self._runs.clear()
        self._touched.clear()
        row = self._db.execute(SQL["board"]).fetchone()
        board = self.board = Counts()
        (
            self.sequence, self.newest_failure, board.artifacts, board.open, board.timed, board.done, board.failed,
            board.cancelled, self.horizon, self.time, self.steps,
        ) = row  # fmt: skip
        self.at = self.sequence
        self._saved = self._state()

    def save(self, now: float) -> None:
        """Write what a transaction has changed."""
        if not self._touched and self._state() == self._saved:
            return
        for run in self._touched.values():
            if not run.open and not run.timed:
                run.ordinals.clear()
        rows = [
            (
                run.name, run.artifacts, run.open, run.timed, run.done, run.failed, run.cancelled,
                to_json(run.ordinals).decode(), run.withdrawn, run.first, run.quiet,
            )
            for run in self._touched.values()
        ]  # fmt: skip
        self._db.executemany(SQL["save_run"], rows)
        self._touched.clear()
        if len(self._runs) > _MOST:
            self._runs.clear()
        self.time = max(self.time, now)
        self.steps += 1
        self._saved = self._state()
        self._db.execute(SQL["save_board"], (*self._saved, self.time, self.steps))

    def _state(self) -> tuple[int, ...]:
        board = self.board
        return (
            self.sequence, self.newest_failure, board.artifacts, board.open, board.timed, board.done, board.failed,
            board.cancelled, self.horizon,
        )  # fmt: skip

    def look(self, name: str) -> Counts:
        """Give a run to look at; zeros for one that is not known."""
        found = self._runs.get(name)
        if found is None:
            row = self._db.execute(SQL["run"], (name,)).fetchone()
            found = self._runs[name] = Counts(name, first=self.sequence) if row is None else _read(row)
        return found

    def touch(self, name: str) -> Counts:
        """Give a run to change; it is known from now on."""
        run = self._touched.get(name)
        if run is None:
            run = self._touched[name] = self.look(name)
        return run

    def add(self, name: str, now: float) -> int:
        """Count an artifact; gives its sequence."""
        run = self._touched.get(name) or self.touch(name)  # before the sequence moves: a run's first says how old it is
        run.artifacts += 1
        run.quiet = now
        self.board.artifacts += 1
        self.sequence += 1
        return self.sequence

    def remove(self, name: str) -> None:
        """Count an artifact that is gone."""
        self.touch(name).artifacts -= 1
        self.board.artifacts -= 1

    def start(self, names: tuple[str, ...], agent: str) -> int:
        """Count an activation that these runs contributed to; gives which of its agent it is in the first run."""
        self.board.open += 1
        runs = [self.touch(name) for name in names]
        for run in runs:
            run.open += 1
        ordinals = runs[0].ordinals
        ordinals[agent] = ordinal = ordinals.get(agent, 0) + 1
        return ordinal

    def end(self, names: tuple[str, ...], outcome: Outcome) -> bool:
        """Count an activation that has ended; says whether any of its runs has no other left."""
        self.board.end(outcome)
        last = False
        for name in names:
            run = self.touch(name)
            run.end(outcome)
            last = last or not run.open
        return last

    def restart(self, names: Iterable[str]) -> None:
        """Count an activation that had failed as open again."""
        for counts in (self.board, *map(self.touch, names)):
            counts.failed -= 1
            counts.open += 1

    def hold(self, name: str, change: int) -> None:
        """Count what a run has in batches with a timeout."""
        self.touch(name).timed += change
        self.board.timed += change

    def is_quiet(self, name: str, now: float) -> bool:
        """Say whether no work is left in a run; if so at the end of the transaction, its agents are counted anew."""
        run = self.touch(name)
        if run.open or run.timed:
            return False
        run.quiet = now
        return True


def read_run(db: sqlite3.Connection, name: str) -> Counts | None:
    """Read a run's counts past any cache; None for one that is not known."""
    row = db.execute(SQL["run"], (name,)).fetchone()
    return None if row is None else _read(row)


def _read(row: tuple[str, int, int, int, int, int, int, str, int | None, int, float]) -> Counts:
    name, artifacts, still_open, timed, done, failed, cancelled, ordinals, withdrawn, first, quiet = row
    return Counts(
        name, artifacts, still_open, timed, done, failed, cancelled, from_json(ordinals), withdrawn, first, quiet
    )
