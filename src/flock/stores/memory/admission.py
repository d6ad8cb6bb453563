"""The memory store's admission: what a commit must pass before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from flock.model.artifact import Record
from flock.model.errors import Backpressure, RunCancelledError, Stale
from flock.model.ledger import Commit, Committed, Lease
from flock.stores.activating import LEFT_BY
from flock.stores.memory.activations import Activations
from flock.stores.memory.log import Log
from flock.stores.memory.runs import Runs
from flock.stores.repeats import check_repeat


class Admission:
    """Looks at the board and changes nothing."""

    def __init__(self, log: Log, runs: Runs, activations: Activations) -> None:
        """Judge by these."""
        self._log = log
        self._runs = runs
        self._activations = activations

    def is_plain(self, commit: Commit) -> bool:
        """Say whether nothing but a repeat could stand against a commit."""
        return not (self._runs.cancelled or self._activations.yields) and commit.max_pending is None

    def admit(self, commit: Commit) -> Sequence[Record]:
        """Give the records to be, older ones in place of repeats; raises when the commit can't be done."""
        if commit.max_pending is not None:
            self._check_room(commit, commit.max_pending)
        if self._runs.cancelled:
            self._check_runs(commit)
        records, lease, yields = commit.records, commit.lease, self._activations.yields
        if self._log.lacks(records) and not (yields and lease is not None and lease.activation.id in yields):
            return records
        first: dict[str, Record] = {}
        for record in records:
            older = self._log.get(record.id) or first.setdefault(record.id, record)
            if older is not record:
                check_repeat(record, older)
        return [self._stored(record, lease, first.get(record.id, record)) for record in records]

    def repeated(self, lease: Lease, commit: Commit) -> Committed:
        """Give the answer that a commit had, when it was done before; raises Stale for a lease that was lost."""
        activation, settle = lease.activation, commit.settle
        if settle is not None and activation.epoch == lease.epoch and activation.state in LEFT_BY[settle.outcome]:
            found = [self._log.get(record.id) for record in commit.records]
            stored = [record for record in found if record is not None]
            if len(stored) == len(found):
                return Committed(stored, repeated=True)
        message = f"activation {activation.id} is no longer this worker's: nothing was written"
        raise Stale(message)

    def _check_room(self, commit: Commit, most: int) -> None:
        pending = len(self._activations.open)
        is_new = not commit.records or any(self._log.get(record.id) is None for record in commit.records)
        if pending >= most and is_new:
            message = f"{pending} activations are open"
            raise Backpressure(message)

    def _check_runs(self, commit: Commit) -> None:
        direct = [] if commit.direct is None else [commit.direct.run]
        for run in [*[record.run for record in commit.records], *direct]:
            if run in self._runs.cancelled:
                message = f"run {run!r} was cancelled"
                raise RunCancelledError(message)

    def _stored(self, record: Record, lease: Lease | None, first: Record) -> Record:
        older = self._log.get(record.id) or (None if first is record else first)
        if older is None and lease is not None and record.slot is not None:
            older = self._activations.yields.get(lease.activation.id, {}).get(record.slot)
        return record if older is None else older
