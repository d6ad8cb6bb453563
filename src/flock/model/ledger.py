"""The store's vocabulary: offers go into a commit, activations and leases come out.

Plain data. What the hot path makes or reads per artifact or activation is a slots class: a frozen one costs three times
as much to build, and a named tuple three times as much to read.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flock.model.artifact import Record
from flock.model.collect import Stage

Trigger = Literal["artifact", "timer", "direct"]
BOARD = ""  # the scope key of what collects across runs


@dataclass(slots=True, eq=False)
class Target:
    """Where an offer goes: what a store needs to know of a subscription."""

    subscription: str
    agent: str
    stages: tuple[Stage, ...] = ()
    board_wide: bool = False
    priority: int = 0
    batches: bool = False
    slots: tuple[str, ...] = ()  # the types' short names, for reports


@dataclass(slots=True, eq=False)
class Offer:
    """One match: an artifact for a subscription. Slots from -1 down are counters of its `when` condition.

    `not_before` (UTC seconds) holds the offer back; `replayed` makes it count once for its subscription and artifact.
    """

    target: Target
    record: Record
    slot: int = 0
    key: str = ""
    not_before: float = 0.0
    replayed: bool = False


class Tick(NamedTuple):
    """One firing of an agent's schedule. A store applies each iteration of an agent once."""

    target: Target
    run: str
    iteration: int
    fire_time: float


class Direct(NamedTuple):
    """An activation with just these inputs, past every gate. `id` is given by the caller, who waits for it."""

    id: str
    target: Target
    records: tuple[Record, ...]
    run: str
    trace_context: str | None = None


class State(enum.Enum):
    """Where an activation stands."""

    READY = "ready"
    RUNNING = "running"
    DELAYED = "delayed"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Activation:
    """One firing: an agent and its inputs. A store changes `state`, `epoch` and `attempt`; nobody else does.

    `runs` holds every run that contributed, its own `run` first; `groups` the tuples of a batch; `ordinal` counts the
    activations of this agent in this run since the run was last idle; `depth` is that of what it makes. An `obstacle`
    is a reason of the store's why it can't be run: it fails at once.
    """

    id: str
    agent: str
    subscription: str
    inputs: tuple[Record, ...]
    run: str
    runs: tuple[str, ...]
    priority: int
    order: int
    trigger: Trigger
    groups: tuple[tuple[Record, ...], ...] = ()
    is_batch: bool = False
    ordinal: int = 0
    depth: int = 0
    state: State = State.READY
    epoch: int = 0
    attempt: int = 0
    deferrals: int = 0
    due: float | None = None
    fire_time: float | None = None
    iteration: int = 0
    trace_context: str | None = None
    error: str | None = None
    obstacle: str | None = None


@dataclass(slots=True, eq=False)
class Lease:
    """The right to run an activation until it is settled: the pair (activation id, epoch) is the fence."""

    activation: Activation
    epoch: int
    attempt: int


def depth_after(inputs: Sequence[Record]) -> int:
    """Give the depth of what is made from these inputs: one more than the deepest one's."""
    return max([record.depth for record in inputs], default=-1) + 1


Outcome = Literal["done", "failed", "cancelled", "skipped", "retry", "defer"]


class Settle(NamedTuple):
    """How an attempt ended. `delay` (s) comes with retry and defer, which leave the activation open."""

    outcome: Outcome
    delay: float = 0.0
    error: str | None = None


@dataclass(slots=True)
class Commit:
    """One atomic step. Sent again after a lost answer it changes nothing and gets the same answer.

    Its identity is its content: artifact ids, (activation, slot) of outputs, (activation, epoch) of a settlement.
    Offers come in the order of their records. A lease without a settlement is a fenced partial commit. `limits` names
    the agents whose activations the caller can start at once and how many of each may run; `max_pending` refuses the
    commit with Backpressure.
    """

    records: Sequence[Record] = ()
    offers: Sequence[Offer] = ()
    ticks: Sequence[Tick] = ()
    direct: Direct | None = None
    lease: Lease | None = None
    settle: Settle | None = None
    limits: Mapping[str, int] | None = None
    max_pending: int | None = None


class Expired(NamedTuple):
    """What a collector gave up."""

    agent: str
    run: str
    records: tuple[Record, ...]
    reason: str


@dataclass(slots=True)
class Committed:
    """What a commit, a tick or a flush did.

    `records` are the stored ones in the order given (an idempotent repeat gives the older ones); `leases` are the
    caller's to run; `quiet` names the runs left without work; `due` is when the store next wants `tick`;
    `skipped` counts schedule ticks that found their predecessor open.
    """

    records: Sequence[Record] = ()
    leases: Sequence[Lease] = ()
    quiet: Sequence[str] = ()
    due: float | None = None
    expired: Sequence[Expired] = ()
    skipped: Sequence[Tick] = ()
    repeated: bool = False


class Withdrawn(NamedTuple):
    """What the cancellation of a run or activation took away."""

    running: tuple[str, ...]
    ended: tuple[str, ...]
    records: tuple[Record, ...]
    committed: Committed


class Progress(NamedTuple):
    """One snapshot of a run, or of the whole board.

    `timed` counts batches with a timeout, `collecting` open rows; `newest_failure` is the sequence of the board's last
    Failure, whichever run it is of.
    """

    known: bool = True
    was_cancelled: bool = False
    ready: int = 0
    running: int = 0
    delayed: int = 0
    timed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    collecting: int = 0
    artifacts: int = 0
    sequence: int = 0
    newest_failure: int = 0

    @property
    def ended(self) -> int:
        """How many activations have ended."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def work(self) -> int:
        """What has to end before the run is idle (P10)."""
        return self.ready + self.running + self.delayed + self.timed


class Consumption(NamedTuple):
    """An artifact was an input of an activation."""

    artifact: str
    agent: str
    activation: str
    state: str


class TimerState(NamedTuple):
    """Where an agent's schedule stands."""

    iteration: int
    fire_time: float
    skipped: int


class Query(NamedTuple):
    """Which artifacts to read, in board order. Empty means any; `as_of` and `since` are sequences."""

    types: frozenset[str] = frozenset()
    run: str | None = None
    tags: frozenset[str] = frozenset()
    produced_by: str | None = None
    activation: str | None = None
    since: int = 0
    until: int | None = None
    limit: int | None = None
    offset: int = 0
