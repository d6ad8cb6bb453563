"""The connection of a writer: its most frequent rows wait, and are written together before anything else is asked."""

from __future__ import annotations

import functools
import sqlite3
from itertools import chain
from typing import Any, Final, Literal, get_args

from typing_extensions import override

from flock.stores.sqlite.statements import SQL

Row = tuple[Any, ...]
Statement = Literal[
    "add_artifact", "add_plain_artifact", "add_plain_output", "add_parent", "add_activation", "add_plain_activation",
    "add_input", "end_activation", "finish_activation",
]  # fmt: skip
_ORDER: Final[tuple[Statement, ...]] = get_args(Statement)
_UPDATES: Final = frozenset({"end_activation", "finish_activation"})
_ARTIFACTS: Final = frozenset({"add_artifact", "add_plain_artifact", "add_plain_output"})
_SEVERAL: Final = 16  # rows that one execution of a statement inserts, where there are as many


class Collision(Exception):  # noqa: N818 - no error: the step is done again, with more care
    """Something that a step would write is on the board already."""


class WritingConnection(sqlite3.Connection):
    """Takes rows for later; whatever else it executes, a COMMIT too, finds them written.

    One statement for the rows of all steps in a transaction costs less than one for each step's. Most rows are plain:
    they leave out what would be NULL, which sqlite3 takes long to bind.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of sqlite3
        """Open as `sqlite3.connect` does; nothing waits."""
        super().__init__(*arguments, **options)
        self._rows: dict[Statement, list[Row]] = {name: [] for name in _ORDER}
        self._waiting = False
        self._asked = self._written = 0

    @property
    def changes(self) -> int:
        """A number that grows with each change that is made or asked for, and with nothing else."""
        return self.total_changes - self._written + self._asked

    def later(self, statement: Statement) -> list[Row]:
        """Give the list to which rows for a statement are added."""
        self._waiting = True
        self._asked += 1
        return self._rows[statement]

    def write(self) -> None:
        """Write what waits; raises Collision for an artifact that is there already."""
        self._waiting = False
        for statement, rows in self._rows.items():
            if not rows:
                continue
            written, several = 0, 0 if statement in _UPDATES else len(rows) - len(rows) % _SEVERAL
            for start in range(0, several, _SEVERAL):
                values = list(chain.from_iterable(rows[start : start + _SEVERAL]))
                written += super().execute(_with_several(statement), values).rowcount
            if several < len(rows):
                written += super().executemany(SQL[statement], rows[several:]).rowcount
            if statement in _ARTIFACTS and written != len(rows):
                raise Collision
            self._written += written
            rows.clear()

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting = False
        for rows in self._rows.values():
            rows.clear()

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self._waiting:
            self.write()
        return super().execute(sql, parameters)

    @override
    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        if self._waiting:
            self.write()
        return super().executemany(sql, parameters)


@functools.cache
def _with_several(statement: Statement) -> str:
    """Give an insertion of one row as one of several."""
    head, values, row = SQL[statement].rpartition("VALUES ")
    return f"{head}{values}{', '.join([row] * _SEVERAL)}"
