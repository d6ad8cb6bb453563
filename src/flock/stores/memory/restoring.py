"""The memory store takes an image in: an empty store becomes the board that another one has, or had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never, cast

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
from flock.core.gates import Arrival
from flock.model.artifact import Record
from flock.model.ledger import Activation, Offer, Outcome, State, Target, TimerState
from flock.model.payload import Unreadable
from flock.ports import Types
from flock.stores.activating import obstacle
from flock.stores.codec import decode, is_pruned
from flock.stores.memory.activations import Activations
from flock.stores.memory.collectors import Collectors
from flock.stores.memory.log import Log
from flock.stores.memory.runs import Runs
from flock.stores.memory.timeline import Timeline
from flock.stores.memory.unclaimed import Item, Unclaimed


def readable(page: Iterable[Piece], types: Types) -> list[Piece]:
    """Read the payloads of a page with the classes of this program."""
    return [_read(piece, types) if isinstance(piece, Record) else piece for piece in page]


def _read(record: Record, types: Types) -> Record:
    payload = record.snapshot
    if isinstance(payload, Unreadable) and payload.content:
        payload = decode(payload.type, payload.version, payload.content, types)
    return replace(record, snapshot=payload)


class Restoring:
    """Puts the pieces of an image where the memory store has them; `time` is that of the image."""

    def __init__(
        self, log: Log, runs: Runs, activations: Activations, collectors: Collectors, timeline: Timeline
    ) -> None:
        """Fill these, which are empty."""
        self._log = log
        self._runs = runs
        self._activations = activations
        self._collectors = collectors
        self._timeline = timeline
        self._records: dict[int, Record] = {}
        self._known: list[RunImage] = []
        self._places: dict[int, Unclaimed] = {}
        self._moment = Moment(0, 0.0)

    def take(self, pages: Iterable[Sequence[Piece]]) -> float:
        """Take all in; gives the time of the image."""
        for page in pages:
            for piece in page:
                self._put(piece)
        self._log.end_at(self._moment.sequence)
        self._activations.end_restoring(self._records.values())
        for name, _, _, withdrawn, ordinals in self._known:
            if withdrawn is not None:
                self._runs.add(name)
                self._runs.cancelled.add(name)
            if name in self._runs:
                self._runs.of(name).ordinals = dict(ordinals)
        return self._moment.time

    def _put(self, piece: Piece) -> None:
        match piece:
            case Record():
                self._records[piece.sequence] = piece
                self._log.place(piece, hidden=is_pruned(piece.snapshot))
            case ActivationImage():
                self._activation(piece)
            case CollectorImage():
                self._places[piece.number] = self._collectors.park(piece)
            case HeldImage() | OfferImage():
                self._waiting(piece)
            case Moment() | RunImage() | TimerImage() | RetryImage():
                self._note(piece)
            case _:
                assert_never(piece)

    def _note(self, piece: Moment | RunImage | TimerImage | RetryImage) -> None:
        match piece:
            case Moment():
                self._moment = piece
            case RunImage():
                self._known.append(piece)
            case TimerImage(agent, _, iteration, fire_time, skipped):
                self._activations.timers[agent] = TimerState(iteration, fire_time, skipped)
            case RetryImage():
                pass  # this store keeps no past

    def _activation(self, image: ActivationImage) -> None:
        inputs = self._group(image.all_inputs())
        groups = tuple([self._group(part) for part in image.inputs if not isinstance(part, int)])
        activation = Activation(
            id=image.id,
            agent=image.agent,
            subscription=image.subscription,
            inputs=inputs,
            run=image.run,
            runs=tuple(image.runs),
            priority=image.priority,
            order=image.number,
            trigger=image.trigger,
            groups=groups,
            is_batch=bool(groups),
            ordinal=image.ordinal,
            depth=image.depth,
            state=State(image.state),
            epoch=image.epoch,
            attempt=image.attempt,
            deferrals=image.deferrals,
            due=image.due,
            fire_time=image.fire_time,
            iteration=image.iteration,
            trace_context=image.trace_context,
            error=image.error,
            obstacle=obstacle(inputs),
        )
        self._activations.restore(activation, None if image.ended is None else cast("Outcome", image.state))

    def _waiting(self, piece: HeldImage | OfferImage) -> None:
        if piece.gone is not None:
            return
        if isinstance(piece, OfferImage):
            target = Target(piece.subscription, piece.agent)
            self._timeline.park(piece.due, Offer(target, self._records[piece.artifact], piece.slot, piece.key))
            return
        groups = tuple([self._group(part) for part in piece.parts])
        arrival = Arrival(piece.arrived, piece.position, groups)
        self._places[piece.collector].items.append(Item(piece.stage, piece.key, piece.slot, arrival, piece.timed))
        for run in piece.runs if piece.timed else ():
            self._runs.hold(run, 1)

    def _group(self, sequences: Iterable[int]) -> tuple[Record, ...]:
        return tuple([self._records[sequence] for sequence in sequences])
