"""What happens, and what is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from flock.model.errors import AgentFailedError
from flock.model.evaluation import Failure

EventKind = Literal[
    "published", "waiting", "started", "finished", "failed", "retried", "deferred", "skipped", "cancelled",
    "expired", "dropped", "withdrawn", "limited", "tick", "error", "missed", "abandoned",
    "run_started", "run_ended",
]  # fmt: skip
WaitReason = Literal["gate", "join", "batch", "when", "after", "schedule", "retry", "ready", "running", "agent"]
RunState = Literal["active", "waiting", "succeeded", "failed", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `at` is in UTC seconds; `missed` events say how many a slow reader lost in `count`."""

    kind: EventKind
    at: float
    run: str | None = None
    agent: str | None = None
    activation: str | None = None
    artifacts: tuple[str, ...] = ()
    reason: str = ""
    count: int = 1
    error: BaseException | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Give the event as plain JSON data."""
        parts = {name: getattr(self, name) for name in self.__slots__}
        error = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        return parts | {"artifacts": list(self.artifacts), "error": error}


class Waiting(NamedTuple):
    """Something that waits: why, for whom, with which artifacts, and when it is due (UTC seconds or None).

    `subscription` is the id of the one that it waits for; empty for schedules.
    """

    reason: WaitReason
    agent: str
    run: str | None = None
    artifacts: tuple[str, ...] = ()
    due: float | None = None
    detail: str = ""
    subscription: str = ""


class RunReport(NamedTuple):
    """What a wait for idleness found. Counts are activations; `duration` is the wait in seconds."""

    idle: bool
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    waiting: tuple[Waiting, ...] = ()
    failures: tuple[Failure, ...] = ()
    duration: float = 0.0

    def raise_for_failures(self) -> None:
        """Raise AgentFailedError when anything failed."""
        if self.failures or self.failed:
            raise AgentFailedError(self.failures or (f"{self.failed} activations failed",))


class RunStatus(NamedTuple):
    """Where a run stands. Counts are activations; `waiting` counts what waits in collectors."""

    state: RunState
    ready: int = 0
    running: int = 0
    delayed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    waiting: int = 0
    artifacts: int = 0
