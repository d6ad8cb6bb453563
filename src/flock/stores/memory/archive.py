"""The memory store's archive: what is kept of activations that have ended."""

from __future__ import annotations

from collections.abc import Iterator

from flock.model.ledger import Activation, Consumption, Outcome
from flock.stores.activating import STATES
from flock.stores.memory.log import Log

# Agent, subscription, run, outcome, attempt, error and the ids of the inputs: the garbage collector does not visit a
# tuple of plain values.
_Row = tuple[str | int | None, ...]
_RUN, _OUTCOME, _INPUTS = 2, 3, 6


class Archive:
    """Ended activations by id; their inputs are looked up in the log."""

    def __init__(self, log: Log) -> None:
        """Start empty."""
        self._log = log
        self._rows: dict[str, _Row] = {}

    def __contains__(self, id: object) -> bool:
        """Say whether an activation has ended and is not forgotten."""
        return id in self._rows

    def add(self, activation: Activation, outcome: Outcome) -> None:
        """Keep what is asked of an activation after its end."""
        self._rows[activation.id] = (
            activation.agent,
            activation.subscription,
            activation.run,
            outcome,
            activation.attempt,
            activation.error,
            *[record.id for record in activation.inputs],
        )

    def find(self, id: str) -> Activation | None:
        """Give an ended activation back, without what nobody asks for."""
        row = self._rows.get(id)
        if row is None:
            return None
        agent, subscription, run, outcome, attempt, error, *ids = row
        found = [self._log.get(str(each)) for each in ids]
        return Activation(
            id=id,
            agent=str(agent),
            subscription=str(subscription),
            inputs=tuple([record for record in found if record is not None]),
            run=str(run),
            runs=(str(run),),
            priority=0,
            order=0,
            trigger="artifact",
            state=STATES[str(outcome)],
            attempt=int(attempt or 0),
            error=None if error is None else str(error),
        )

    def consumptions(self, id: str) -> list[Consumption]:
        """Say which ended activations had an artifact as an input."""
        return [
            Consumption(id, str(row[0]), key, STATES[str(row[_OUTCOME])].value)
            for key, row in self._rows.items()
            if id in row[_INPUTS:]
        ]

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Give each input's id, after the subscription that it came by."""
        return ((str(row[1]), str(each)) for row in self._rows.values() for each in row[_INPUTS:])

    def forget(self, run: str) -> None:
        """Drop a run's activations."""
        for key in [key for key, row in self._rows.items() if row[_RUN] == run]:
            del self._rows[key]
