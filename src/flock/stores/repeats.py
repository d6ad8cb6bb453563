"""Repeats, as every store knows them: an artifact that is on the board already (P4)."""

from __future__ import annotations

from operator import attrgetter

from flock.model.artifact import Record
from flock.model.errors import PublishError
from flock.stores.codec import is_pruned
from flock.stores.losses import loss_of

_envelope = attrgetter("type", "run", "tags", "visibility", "partition_key")


def check_repeat(record: Record, older: Record) -> None:
    """Raise PublishError unless what is published under a known id is what is there, or was until it was pruned."""
    if is_pruned(older.snapshot):
        same = (record.type, record.run) == (older.type, older.run)
    else:
        same = _envelope(record) == _envelope(older) and loss_of(record.snapshot, older.snapshot) is None
    if not same:
        raise PublishError(f"an artifact with id {record.id!r} is on the board with other content")
