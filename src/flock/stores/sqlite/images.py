"""Images of a board in a file: its state at any position, read page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic_core import from_json

from flock.board.image import (
    ActivationImage,
    CollectorImage,
    HeldImage,
    Moment,
    OfferImage,
    Piece,
    RetryImage,
    RunImage,
    TimerImage,
)
from flock.model.errors import StoreError
from flock.stores.sqlite.counting import Counting
from flock.stores.sqlite.files import connect_reader, unreadable
from flock.stores.sqlite.later import Row
from flock.stores.sqlite.records import Records
from flock.stores.sqlite.statements import SQL

_PAGE: Final = 500


class _NoTypes:
    """Knows no class: payloads stay as they are stored."""

    def find(self, name: str) -> type[BaseModel] | None:  # noqa: ARG002 - none is known by any name
        """Know none."""
        return None


def image(path: Path, at: int | None) -> Iterator[Sequence[Piece]]:
    """Read the board's state at a position (None: now); raises StoreError where what was pruned is missing."""
    with closing(connect_reader(path)) as db:
        try:
            db.execute("BEGIN")
            yield from _Image(db, at).pages()
        except sqlite3.Error as error:
            raise unreadable(path, error) from error


class _Image:
    """What one read transaction sees of a past state."""

    def __init__(self, db: sqlite3.Connection, at: int | None) -> None:
        counting = Counting(db)
        counting.load()
        self._db = db
        self._board = counting
        self._records = Records(db, _NoTypes())
        self._now = at is None or at >= counting.sequence
        self._at = counting.sequence if at is None or self._now else at
        if self._at < counting.horizon and not self._now:
            raise StoreError(
                f"the board is not whole any more as of {self._at}: what was pruned waited or ran "
                f"until {counting.horizon}"
            )

    def pages(self) -> Iterator[Sequence[Piece]]:
        """Give all of it, what is named before what names it."""
        yield [self._moment()]
        yield from self._of("image_artifacts", self._records.one)
        ordinals = self._ordinals()
        yield from self._of("image_runs", lambda row: self._run(row, ordinals))
        yield from self._of("image_activations", self._activation)
        yield from self._of("image_retries", RetryImage._make)
        yield from self._of("image_timers", TimerImage._make)
        later = self._counted_later()
        yield from self._of("image_collectors", lambda row: self._collector(row, later))
        yield from self._of("image_held", self._held)
        yield from self._of("image_offers", self._offer)

    def _of(self, name: str, make: Callable[[Row], Piece]) -> Iterator[Sequence[Piece]]:
        rows = self._db.execute(SQL[name], {"at": self._at})
        while page := rows.fetchmany(_PAGE):
            yield [make(row) for row in page]

    def _moment(self) -> Moment:
        if self._now:
            return Moment(self._at, self._board.time, self._board.horizon)
        (time,) = self._db.execute(SQL["image_time"], {"at": self._at}).fetchone()
        return Moment(self._at, time or 0.0, self._board.horizon)

    def _ordinals(self) -> Mapping[str, dict[str, int]]:
        """Count each busy run's activations since it was last idle."""
        counts: dict[str, dict[str, int]] = {}
        if self._now:
            return counts  # which the board knows
        for run, agent, ordinal in self._db.execute(SQL["image_ordinals"], {"at": self._at}):
            counts.setdefault(run, {})[agent] = ordinal
        return counts

    def _run(self, row: Row, counted: Mapping[str, dict[str, int]]) -> RunImage:
        name, first, quiet, withdrawn, ordinals = row
        known: dict[str, int] = from_json(ordinals) if self._now else counted.get(name, {})
        return RunImage(name, first, quiet, withdrawn if self._was(withdrawn) else None, known)

    def _was(self, position: int | None) -> bool:
        return position is not None and position <= self._at

    def _activation(self, row: Row) -> ActivationImage:
        (
            number, id, agent, subscription, run, runs, priority, cause, inputs, ordinal, depth, state, epoch, attempt,
            deferrals, crashes, due, fire_time, iteration, trace_context, error, _, made, ended,
            failed, failed_attempt, failed_error,
        ) = row  # fmt: skip
        found = ActivationImage(
            number, id, agent, subscription, run, (run,) if runs is None else from_json(runs), priority, cause,
            from_json(inputs), ordinal, depth, state, epoch, attempt, deferrals, crashes, due, fire_time, iteration,
            trace_context, error, made, ended,
        )  # fmt: skip
        if failed is not None:
            return found._replace(
                state="failed", ended=failed, attempt=failed_attempt, error=failed_error, crashes=0, due=None
            )
        if self._was(ended):
            return found
        if not self._now:
            return found._replace(
                state="ready", attempt=0, deferrals=0, crashes=0, due=None, error=None, ended=None
            )  # fmt: skip
        return found._replace(state="ready", attempt=attempt - 1) if state == "running" else found

    def _counted_later(self) -> Mapping[int, dict[int, int]]:
        """Count what has raised each collector's counters since, by slot."""
        counts: dict[int, dict[int, int]] = {}
        for collector, slot, count in self._db.execute(SQL["image_counted_later"], {"at": self._at}):
            counts.setdefault(collector, {})[slot] = count
        return counts

    def _collector(self, row: Row, counted_later: Mapping[int, dict[int, int]]) -> CollectorImage:
        number, subscription, agent, scope, position, due, stage, counters, later, holds = row
        counts: list[int] = from_json(counters)
        for slot, count in counted_later.get(number, {}).items():
            counts[-slot - 1] -= count
        if not self._now:  # who knows the subscription finds out
            due = 0.0 if holds else None
        return CollectorImage(number, subscription, agent, scope, position - later, due, counts, stage)

    def _held(self, row: Row) -> HeldImage:
        collector, stage, key, slot, position, arrived, artifact, parts, run, runs, timed, came, *gone = row
        several: Sequence[str] = (run,) if runs is None else from_json(runs)
        left = gone if self._was(gone[0]) else (None, None, None)
        return HeldImage(
            collector, stage, key, slot, position, arrived, artifact, from_json(parts), several, bool(timed), came,
            *left,
        )  # fmt: skip

    def _offer(self, row: Row) -> OfferImage:
        offer = OfferImage._make(row)
        return offer if self._was(offer.gone) else offer._replace(gone=None, why=None)
