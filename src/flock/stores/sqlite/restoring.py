"""Taking an image in: an empty file becomes the board that another store has, or had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never, cast

from flock.board.image import (
    ActivationImage,
    CollectorImage,
    HeldImage,
    Image,
    Moment,
    OfferImage,
    Piece,
    RetryImage,
    RunImage,
    TimerImage,
)
from flock.model.artifact import Record
from flock.model.errors import StoreError
from flock.model.evaluation import FAILURE
from flock.model.ledger import Outcome
from flock.model.payload import Unreadable
from flock.stores.codec import Encoded, encode
from flock.stores.sqlite.records import artifact_row, to_text
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.steps import Steps

_Place = tuple[int, int, str]  # collector, stage, key


def restore(steps: Steps, image: Image) -> None:
    """Take an image in, all or nothing; outside a transaction. Raises StoreError on a board that is not empty."""
    db = steps.db
    db.execute("BEGIN IMMEDIATE")
    try:
        steps.load()
        if db.execute(SQL["is_used"]).fetchone()[0]:
            raise StoreError("an image goes into an empty store, and there is something on this board")
        restoring = _Restoring(steps)
        for page in image:
            restoring.take(page)
        restoring.end()
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        steps.load()


class _Restoring:
    """Writes the pieces of an image as rows."""

    def __init__(self, steps: Steps) -> None:
        self._db = steps.db
        self._counting = steps.counting
        self._moment = Moment(0, 0.0)
        self._runs: list[RunImage] = []
        self._lengths: dict[_Place, list[int]] = {}
        self._counters: dict[_Place, Sequence[int]] = {}

    def take(self, page: Sequence[Piece]) -> None:
        """Write a page."""
        for piece in page:
            self._write(piece)
        self._counting.save(self._moment.time)

    def end(self) -> None:
        """Write what is known only when all of it is there."""
        counting, moment = self._counting, self._moment
        counting.sequence, counting.horizon = moment.sequence, moment.horizon
        counting.save(moment.time)
        rows = [(run.first, run.quiet, run.withdrawn, to_text(run.ordinals), run.name) for run in self._runs]
        self._db.executemany(SQL["restore_run"], rows)
        for place in self._lengths.keys() | self._counters.keys():
            lengths, counters = self._lengths.get(place, []), self._counters.get(place, ())
            self._db.execute(SQL["save_shelf"], (*place, to_text(lengths), to_text(counters)))

    def _write(self, piece: Piece) -> None:
        match piece:
            case Record():
                self._artifact(piece)
            case ActivationImage():
                self._activation(piece)
            case HeldImage():
                self._held(piece)
            case Moment():
                self._moment = piece
            case RunImage():
                self._run(piece)
            case RetryImage() | TimerImage() | OfferImage() | CollectorImage():
                self._other(piece)
            case _:
                assert_never(piece)

    def _artifact(self, record: Record) -> None:
        counting, snapshot = self._counting, record.snapshot
        counting.sequence = record.sequence - 1  # where its run begins, if that is new
        stored = Encoded(snapshot.content, snapshot.version) if isinstance(snapshot, Unreadable) else None
        encoded = stored or encode(snapshot)
        counting.touch(record.run)
        if encoded.payload:
            counting.add(record.run, record.created)
        counting.sequence = record.sequence
        if record.type == FAILURE:
            counting.newest_failure = record.sequence
        self._db.execute(SQL["restore_artifact"], artifact_row(record, encoded))
        if record.slot is None:
            self._db.executemany(SQL["add_parent"], [(parent, record.sequence) for parent in record.parents])

    def _run(self, run: RunImage) -> None:
        self._runs.append(run)
        if run.withdrawn is not None:
            self._counting.touch(run.name)

    def _activation(self, each: ActivationImage) -> None:
        names = tuple(each.runs)
        self._counting.start(names, each.agent)
        if each.ended is not None:
            self._counting.end(names, cast("Outcome", each.state))
        row = (
            each.number, each.id, each.agent, each.subscription, each.run, _several(names), each.priority, each.trigger,
            to_text(each.inputs), each.ordinal, each.depth, each.state, each.epoch, each.attempt, each.deferrals,
            each.crashes, each.due, each.fire_time, each.iteration, each.trace_context, each.error, each.made,
            each.ended,
        )  # fmt: skip
        self._db.execute(SQL["restore_activation"], row)
        if not each.id.endswith(f"-{each.number:x}"):
            self._db.execute(SQL["add_alias"], (each.id, each.number))
        self._db.executemany(SQL["add_input"], [(sequence, each.number) for sequence in each.all_inputs()])

    def _held(self, item: HeldImage) -> None:
        runs = item.runs
        row = (
            item.collector, item.stage, item.key, item.slot, item.position, item.arrived, item.artifact,
            to_text(item.parts), None if len(runs) > 1 else runs[0], _several(runs), item.timed, item.came, item.gone,
            item.why, item.left_at,
        )  # fmt: skip
        self._db.execute(SQL["restore_held"], row)
        if item.gone is not None:
            return
        lengths = self._lengths.setdefault((item.collector, item.stage, item.key), [])
        lengths += [0] * (item.slot + 1 - len(lengths))
        lengths[item.slot] += 1
        for run in runs if item.timed else ():
            self._counting.hold(run, 1)

    def _other(self, piece: RetryImage | TimerImage | OfferImage | CollectorImage) -> None:
        match piece:
            case RetryImage():
                self._db.execute(SQL["restore_retry"], piece)
            case TimerImage():
                self._db.execute(SQL["save_timer"], piece)
            case OfferImage():
                self._db.execute(SQL["restore_offer"], piece)
            case CollectorImage(number, subscription, agent, scope, position, due, counters, stage):
                row = (number, subscription, agent, scope, position, due)
                self._db.execute(SQL["restore_collector"], row)
                if counters:
                    self._counters[number, stage, ""] = counters


def _several(runs: Sequence[str]) -> str | None:
    return to_text(runs) if len(runs) > 1 else None
