"""Activations in the file: each one's life, from the match that started it to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from flock.model.artifact import Record
from flock.model.ledger import (
    Activation,
    Direct,
    Lease,
    Settle,
    State,
    Target,
    Tick,
    Trigger,
)
from flock.stores.activating import STATES, begin, urgency, urgency_of
from flock.stores.sqlite.counting import Counting
from flock.stores.sqlite.later import Row, WritingConnection
from flock.stores.sqlite.records import Records, find_row, new_activation
from flock.stores.sqlite.statements import SQL

_OPEN = (State.READY, State.RUNNING, State.DELAYED)
_CRASHES: Final = 15  # its column
_PRIORITY: Final = attrgetter("priority")
_Ready = tuple[Activation, int]  # with how often it has crashed in a row


@dataclass(slots=True)
class _Load:
    """How many activations of an agent run, and how many wait for a place."""

    running: int
    waiting: int


class Activations:
    """What the steps of a writer do to activations; fresh ones get their row at the end of a step.

    An id is this opening's mark and the activation's number: no other opening, of a copy of the file either, makes the
    same. One that was given by who waits for it is an alias.
    """

    def __init__(
        self, db: WritingConnection, records: Records, counting: Counting, new_id: Callable[[], str], poison: int
    ) -> None:
        """Work on one connection."""
        self._db = db
        self._records = records
        self._counting = counting
        self._mark = new_id()[-12:].replace("-", "")
        self._poison = poison
        self.worker = 0
        self._fresh: list[Activation] = []
        self._made: dict[int, int] = {}  # their positions by their numbers
        self._freed: dict[str, None] = {}
        self._loads: dict[str, _Load] = {}
        self._held: dict[int, tuple[int, int]] = {}  # epoch and crashes of each that runs by a lease of this opening
        self._last = 0
        self._suspect_runs = False

    def load(self) -> None:
        """Read anew what is remembered between steps."""
        self._fresh.clear()
        self._made.clear()
        self._freed.clear()
        self._loads.clear()
        self._held.clear()
        (self._last,) = self._db.execute(SQL["last_activation"]).fetchone()
        self._suspect_runs = self._ask("suspect_runs")

    # ---- beginnings

    def start(
        self,
        target: Target,
        inputs: tuple[Record, ...],
        groups: tuple[tuple[Record, ...], ...] = (),
        *,
        id: str | None = None,
        run: str | None = None,
        trigger: Trigger = "artifact",
    ) -> Activation:
        """Make an activation ready, in the run of its newest input unless another is given."""
        self._last = number = self._last + 1
        activation = begin(
            id or f"{self._mark}-{number:x}", number, target, inputs, groups,
            run=run, trigger=trigger, count=self._counting.start,
        )  # fmt: skip
        self._fresh.append(activation)
        self._made[number] = self._counting.at
        if id is not None:
            self._db.execute(SQL["add_alias"], (id, number))
        return activation

    def start_tick(self, tick: Tick) -> bool:
        """Start a new firing of a schedule; False when it is skipped, because the one before is open."""
        agent = tick.target.agent
        iteration, _, skipped = self._db.execute(SQL["timer"], (agent,)).fetchone() or (0, 0.0, 0)
        if tick.iteration <= iteration:
            return True
        fresh = any(each.trigger == "timer" and each.agent == agent for each in self._fresh)
        runs = fresh or self._ask("timer_runs", agent)
        stands = (agent, self._counting.at, tick.iteration, tick.fire_time, skipped + runs)
        self._db.execute(SQL["save_timer"], stands)
        if not runs:
            started = self.start(tick.target, (), run=tick.run, trigger="timer")
            started.fire_time, started.iteration = tick.fire_time, tick.iteration
        return not runs

    def start_direct(self, direct: Direct, inputs: tuple[Record, ...]) -> None:
        """Start an activation that its caller waits for, once."""
        if self.find(direct.id) is None:
            started = self.start(direct.target, inputs, id=direct.id, run=direct.run, trigger="direct")
            started.trace_context = direct.trace_context

    # ---- ends

    def fence(self, lease: Lease) -> int | None:
        """Give how often an activation has crashed in a row; None for a lease that is not its worker's any more."""
        held = self._held.get(lease.activation.order)
        if held is not None and held[0] == lease.epoch:
            return held[1]
        epoch, state, crashes = self._fence(lease)
        return crashes if epoch == lease.epoch and state == State.RUNNING.value else None

    def state_after(self, lease: Lease) -> tuple[int, State]:
        """Give the epoch and state of an activation that a lease was for."""
        epoch, state, _ = self._fence(lease)
        return epoch, State(state)

    def settle(self, lease: Lease, settle: Settle, crashes: int, now: float) -> tuple[bool, float | None]:
        """End an attempt that holds its lease.

        Says whether it was the last activation in a run of its, and when it is tried again.
        """
        activation, outcome = lease.activation, settle.outcome
        self._leave(activation, suspect=crashes > 0)
        if outcome in STATES:
            at, number = self._counting.at, activation.order
            if outcome == "done" and settle.error is None:
                self._db.later("finish_activation").append((at, number))
            else:
                self._db.later("end_activation").append((STATES[outcome].value, settle.error, at, number))
            return self._counting.end(activation.runs, outcome), None
        due, deferred = now + settle.delay, outcome == "defer"
        self._db.execute(
            SQL["delay_activation"], (settle.error, due, lease.attempt - deferred, deferred, activation.order)
        )
        return False, due

    def give_back(self, lease: Lease) -> None:
        """Make a running activation ready again; the attempt is not counted."""
        if self.fence(lease) is not None:
            self._put_back(lease.activation)

    def recover(self) -> None:
        """Make ready again what this worker ran on a loop that is gone."""
        for row in self._db.execute(SQL["running_of_worker"], (self.worker,)).fetchall():
            self._put_back(self._records.activation(row))

    def _put_back(self, activation: Activation) -> None:
        self._db.execute(SQL["give_back"], (activation.order,))
        self._held.pop(activation.order, None)
        load = self._load(activation.agent)
        load.running -= 1
        load.waiting += 1
        self._suspect_runs = self._ask("suspect_runs")
        activation.state = State.READY
        activation.epoch += 1
        activation.attempt -= 1

    def cancel(self, activations: Iterable[Activation]) -> None:
        """End activations as they stand; whoever runs one has lost it."""
        for each in activations:
            load = self._load(each.agent)
            if each.state is State.RUNNING:
                self._leave(each, suspect=self._suspect_runs)
            elif each.state is State.READY:
                load.waiting -= 1
            self._db.execute(SQL["cancel_activation"], (self._counting.at, each.order))
            self._counting.end(each.runs, "cancelled")

    def wake(self, number: int, agent: str) -> None:
        """Make a delayed activation ready."""
        load = self._load(agent)
        self._db.execute(SQL["wake_activation"], (number,))
        load.waiting += 1
        self._freed[agent] = None

    def retry(self, activation: Activation) -> None:
        """Make a failed activation ready, as if it had never been tried."""
        load = self._load(activation.agent)
        self._db.execute(SQL["remember_end"], (self._counting.at, activation.order))
        self._db.execute(SQL["retry"], (activation.order,))
        self._counting.restart(activation.runs)
        load.waiting += 1

    def _leave(self, activation: Activation, *, suspect: bool) -> None:
        """Count an activation as running no longer; one after a crash lets the next of its kind run."""
        self._held.pop(activation.order, None)
        load = self._load(activation.agent)
        load.running -= 1
        if load.waiting:
            self._freed[activation.agent] = None
        if suspect:
            self._suspect_runs = False
            self._freed.update((name, None) for (name,) in self._db.execute(SQL["suspects_waiting"]))

    # ---- leases

    def settle_down(self, limits: Mapping[str, int] | None) -> Sequence[Lease]:
        """End a step: write what it started, and lease that and what it made room for, as far as the limits allow."""
        if not self._fresh and not self._freed:
            return ()
        limits = {} if limits is None else limits
        leases: list[Lease] = []
        if self._fresh:
            self._admit(limits, leases)
        if self._freed:
            for agent in self._freed:
                leases += self._lease(self._ready(agent, limits.get(agent, 0)))
            self._freed.clear()
            leases.sort(key=urgency_of)
        return leases

    def claim(self, limits: Mapping[str, int], most: int) -> list[Lease]:
        """Lease what is ready of these agents, the most urgent first."""
        ready: list[_Ready] = []
        for agent, limit in limits.items():
            ready += self._ready(agent, limit, most)
        ready.sort(key=_urgency_of_ready)
        return self._lease(ready[:most])

    def _admit(self, limits: Mapping[str, int], leases: list[Lease]) -> None:
        """Lease the fresh ones that need not wait, the most urgent first, and let the others wait."""
        if any(map(_PRIORITY, self._fresh)):  # else they are in order
            self._fresh.sort(key=urgency)
        for activation in self._fresh:
            load = self._load(activation.agent)
            if not load.waiting and load.running < limits.get(activation.agent, 0):
                load.running += 1
                activation.state, activation.epoch, activation.attempt = State.RUNNING, 1, 1
                self._held[activation.order] = (1, 0)
                leases.append(Lease(activation, 1, 1))
            else:
                load.waiting += 1
                self._freed[activation.agent] = None
        made = self._made
        later = self._db.later
        for each in self._fresh:
            statement, row = new_activation(each, self.worker, made[each.order])
            later(statement).append(row)
        later("add_input").extend([(record.sequence, each.order) for each in self._fresh for record in each.inputs])
        self._fresh.clear()
        made.clear()

    def _ready(self, agent: str, limit: int, most: int | None = None) -> list[_Ready]:
        load = self._load(agent)
        free = limit - load.running
        most = free if most is None else min(free, most)
        if most <= 0 or not load.waiting:
            return []
        # Where work is done one by one, its order is kept: nothing overtakes what has to be tried alone.
        suspects = limit == 1 or not self._suspect_runs
        rows: list[Row] = self._db.execute(SQL["ready_of_agent"], (agent, suspects, most)).fetchall()
        return [(self._records.activation(row, poison=self._poison), row[_CRASHES]) for row in rows]

    def _lease(self, ready: Sequence[_Ready]) -> list[Lease]:
        """Lease all but those that ran when a process died: these are tried one at a time."""
        leases: list[Lease] = []
        for activation, crashes in ready:
            if crashes and self._suspect_runs:
                continue
            self._suspect_runs = self._suspect_runs or crashes > 0
            load = self._load(activation.agent)
            load.running += 1
            load.waiting -= 1
            activation.state = State.RUNNING
            activation.epoch += 1
            activation.attempt += 1
            self._held[activation.order] = (activation.epoch, crashes)
            leases.append(Lease(activation, activation.epoch, activation.attempt))
        self._db.executemany(SQL["lease_activation"], [(self.worker, lease.activation.order) for lease in leases])
        return leases

    # ---- looks

    @property
    def some_run(self) -> bool:
        """True when an activation of an agent that steps have met of late runs, here or elsewhere."""
        return any(load.running for load in self._loads.values())

    def find(self, id: str) -> Activation | None:
        """Look an activation up."""
        row = find_row(self._db, id)
        return None if row is None else self._records.activation(row)

    def open(self, *, run: str | None = None, id: str | None = None) -> list[Activation]:
        """Give the open activations of a run, or the one of this id, oldest first."""
        if run is None:
            found = None if id is None else self.find(id)
            return [] if found is None or found.state not in _OPEN else [found]
        rows = self._db.execute(SQL["open_activations_of_run"], {"run": run}).fetchall()
        return [self._records.activation(row) for row in rows]

    def _fence(self, lease: Lease) -> tuple[int, str, int]:
        found: tuple[int, str, int] | None = self._db.execute(SQL["fence"], (lease.activation.order,)).fetchone()
        return (-1, State.CANCELLED.value, 0) if found is None else found

    def _load(self, agent: str) -> _Load:
        load = self._loads.get(agent)
        if load is None:
            (running,) = self._db.execute(SQL["count_running"], (agent,)).fetchone()
            (waiting,) = self._db.execute(SQL["count_ready"], (agent,)).fetchone()
            load = self._loads[agent] = _Load(running, waiting)
        return load

    def _ask(self, name: str, *parameters: object) -> bool:
        (answer,) = self._db.execute(SQL[name], parameters).fetchone()
        return bool(answer)


def _urgency_of_ready(ready: _Ready) -> tuple[int, int]:
    return urgency(ready[0])
