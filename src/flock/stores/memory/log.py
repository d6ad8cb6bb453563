"""The memory store's records in board order, with indexes that are made when somebody reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from flock.model.artifact import Record
from flock.model.evaluation import FAILURE
from flock.model.ledger import Query


class Log:
    """An append-only list of records. Appending costs two insertions; the first read after it pays for the indexes."""

    def __init__(self) -> None:
        """Start empty."""
        self.sequence = 0
        self.newest_failure = 0
        self._by_id: dict[str, Record] = {}
        self._records: list[Record | None] = []  # by sequence, from 1; None where a run was forgotten
        self._folded = 0
        self._hidden = 0  # records whose place in the lineage alone is kept
        self._by_run: dict[str, list[Record]] = {}
        self._by_type: dict[str, list[Record]] = {}
        self._by_parent: dict[str, list[Record]] = {}

    def __len__(self) -> int:
        """The number of records."""
        return len(self._by_id) - self._hidden

    def extend(self, records: Iterable[Record]) -> None:
        """Give the records that have none the next sequences."""
        for record in records:
            if not record.sequence:
                self.sequence = record.sequence = self.sequence + 1
                self._records.append(record)
                self._by_id[record.id] = record
                if record.type == FAILURE:
                    self.newest_failure = record.sequence

    def place(self, record: Record, *, hidden: bool) -> None:
        """Put a record that has its sequence after the last one; a hidden one is found by its id and lineage alone."""
        self.end_at(record.sequence - 1)
        self.sequence = record.sequence
        self._records.append(None if hidden else record)
        self._by_id[record.id] = record
        if record.type == FAILURE:
            self.newest_failure = record.sequence
        if hidden:
            self._hidden += 1
            for parent in record.parents:
                self._by_parent.setdefault(parent, []).append(record)

    def end_at(self, sequence: int) -> None:
        """Leave a gap up to a sequence."""
        self._records += [None] * (sequence - len(self._records))
        self.sequence = max(self.sequence, sequence)

    def lacks(self, records: Sequence[Record]) -> bool:
        """Say whether none of these is here, and each has an id of its own."""
        if len(records) == 1:
            return records[0].id not in self._by_id
        ids = {record.id for record in records}
        return len(ids) == len(records) and self._by_id.keys().isdisjoint(ids)

    def get(self, id: str) -> Record | None:
        """Look an id up."""
        return self._by_id.get(id)

    def runs(self) -> list[str]:
        """Name the runs that have records, oldest first."""
        self._fold()
        return list(self._by_run)

    def kinds(self) -> list[str]:
        """Name the types that have records."""
        self._fold()
        return [kind for kind, records in self._by_type.items() if records]

    def count(self, run: str | None) -> int:
        """Count a run's records, or all."""
        if run is None:
            return len(self)
        self._fold()
        return len(self._by_run.get(run, ()))

    def follow(self, since: int, most: int) -> list[Record]:
        """Give the records after a sequence."""
        later = itertools.islice(self._records, since, None)
        return list(itertools.islice((record for record in later if record is not None), most))

    def children(self, ids: Sequence[str]) -> list[Record]:
        """Give the records that name one of these as a parent, in board order."""
        self._fold()
        found = {record.id: record for each in ids for record in self._by_parent.get(each, ())}
        return sorted(found.values(), key=_sequence)

    def select(self, query: Query) -> list[Record]:
        """Give the records that match, from the smallest index that serves."""
        self._fold()
        low, high = query.since, query.until
        found = [
            record
            for record in self._candidates(query)
            if record.sequence > low and (high is None or record.sequence <= high) and _matches(record, query)
        ]
        end = None if query.limit is None else query.offset + query.limit
        return found[query.offset : end]

    def forget(self, run: str) -> None:
        """Drop a run's records."""
        self._fold()
        gone = self._by_run.pop(run, [])
        ids = {record.id for record in gone}
        for record in gone:
            self._records[record.sequence - 1] = None
            del self._by_id[record.id]
            self._by_parent.pop(record.id, None)
        for kind in {record.type for record in gone}:
            self._by_type[kind] = [record for record in self._by_type[kind] if record.id not in ids]

    def _candidates(self, query: Query) -> Iterable[Record]:
        if query.run is not None:
            return self._by_run.get(query.run, ())
        if query.types:
            lists = [self._by_type.get(kind, []) for kind in query.types]
            return lists[0] if len(lists) == 1 else sorted((r for each in lists for r in each), key=_sequence)
        return [record for record in self._records if record is not None]

    def _fold(self) -> None:
        for record in self._records[self._folded :]:
            if record is not None:
                self._by_run.setdefault(record.run, []).append(record)
                self._by_type.setdefault(record.type, []).append(record)
                for parent in record.parents:
                    self._by_parent.setdefault(parent, []).append(record)
        self._folded = len(self._records)


def _matches(record: Record, query: Query) -> bool:
    return (
        (not query.types or record.type in query.types)
        and (query.run is None or record.run == query.run)
        and query.tags <= record.tags
        and (query.produced_by is None or record.produced_by == query.produced_by)
        and (query.activation is None or record.activation_id == query.activation)
    )


def _sequence(record: Record) -> int:
    return record.sequence
