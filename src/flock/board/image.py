"""An image: a board as it stood at one of its positions, in pieces that another store can go on from.

What has a position on the board (`made`, `came`, `ended`, `gone`, `at`) has one in the image, too, so that a copy knows
the past of what it is a copy of. Artifacts are named by their sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flock.model.artifact import Record
from flock.model.ledger import Trigger


class Moment(NamedTuple):
    """Which state it is: the board's position, the time (UTC seconds), and before which position its past has gaps."""

    sequence: int
    time: float
    horizon: int = 0


class RunImage(NamedTuple):
    """A run: `withdrawn` is where it was cancelled, `ordinals` count its activations by agent since it was idle."""

    name: str
    first: int
    quiet: float
    withdrawn: int | None = None
    ordinals: Mapping[str, int] = {}


class ActivationImage(NamedTuple):
    """An activation: open while `ended` is None. Of a batch, `inputs` are groups."""

    number: int
    id: str
    agent: str
    subscription: str
    run: str
    runs: Sequence[str]
    priority: int
    trigger: Trigger
    inputs: Sequence[int] | Sequence[Sequence[int]]
    ordinal: int
    depth: int
    state: str = "ready"
    epoch: int = 1
    attempt: int = 0
    deferrals: int = 0
    crashes: int = 0
    due: float | None = None
    fire_time: float | None = None
    iteration: int = 0
    trace_context: str | None = None
    error: str | None = None
    made: int = 0
    ended: int | None = None

    def all_inputs(self) -> Sequence[int]:
        """Give the inputs one by one; those of a batch of single artifacts in board order."""
        parts = [(part,) if isinstance(part, int) else part for part in self.inputs]
        flat = [sequence for part in parts for sequence in part]
        single = all(not isinstance(part, int) and len(part) == 1 for part in self.inputs)
        return sorted(flat) if single else flat


class RetryImage(NamedTuple):
    """The end of an activation that was made ready again."""

    activation: int
    ended: int
    again: int
    attempt: int
    error: str | None


class TimerImage(NamedTuple):
    """Where an agent's schedule stood from a position on; the last one counts."""

    agent: str
    at: int
    iteration: int
    fire_time: float
    skipped: int


class CollectorImage(NamedTuple):
    """What a subscription collects in a scope, by a number that its items name: where it stands, and its counters.

    `stage` is the one that counts; `due` (UTC seconds) may be 0.0 for what is to be found out by who collects.
    """

    number: int
    subscription: str
    agent: str
    scope: str
    position: int
    due: float | None = None
    counters: Sequence[int] = ()
    stage: int = 0


class HeldImage(NamedTuple):
    """One item of a collector, there while `gone` is None, oldest first; slots from -1 down have raised a counter."""

    collector: int
    stage: int
    key: str
    slot: int
    position: int
    arrived: float
    artifact: int | None
    parts: Sequence[Sequence[int]]
    runs: Sequence[str]
    timed: bool = False
    came: int = 0
    gone: int | None = None
    why: str | None = None
    left_at: float | None = None


class OfferImage(NamedTuple):
    """An offer that is held back until it is due, while `gone` is None."""

    due: float
    subscription: str
    agent: str
    artifact: int
    run: str
    slot: int
    key: str
    came: int = 0
    gone: int | None = None
    why: str | None = None


Piece = (
    Moment
    | Record
    | RunImage
    | ActivationImage
    | RetryImage
    | TimerImage
    | CollectorImage
    | HeldImage
    | OfferImage
)  # fmt: skip
Image = Iterable[Sequence[Piece]]
"""Pages: the moment first, then artifacts in board order, then what names them.

Payloads may be `Unreadable`, as they were stored: who takes them in reads them. One without content was pruned.
"""
