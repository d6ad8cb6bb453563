"""How a task stands."""

from __future__ import annotations

import enum


class TypeStatus(enum.StrEnum):
    """How a task stands; the value is what people read."""

    NOT_STARTED = "Not started"
    IN_PROGRESS = "In progress"
    COMPLETED = "Completed"
    PAUSED = "Paused"
    RETRY = "Retry"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
