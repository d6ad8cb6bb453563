"""What an agent knows about the activation that it runs in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from opentelemetry.trace import INVALID_SPAN, Span
from pydantic import BaseModel

if TYPE_CHECKING:
    from flock.model.artifact import Artifact
    from flock.model.ledger import Activation, Consumption, Lease, Trigger

M = TypeVar("M", bound=BaseModel)


class Lineage(NamedTuple):
    """Why an artifact exists and what came of it; both in board order, without the artifact itself."""

    artifact: Artifact
    ancestors: tuple[Artifact, ...]
    descendants: tuple[Artifact, ...]


class Reads(Protocol):
    """Reads of the board for one identity."""

    async def list(self) -> Sequence[Artifact]:
        """Give all artifacts."""
        ...

    async def get(self, id: str) -> Artifact | None:
        """Give one artifact."""
        ...

    async def get_by_type(self, kind: type[M]) -> Sequence[M]:
        """Give the payloads of a type, subclasses included."""
        ...

    async def query(
        self,
        types: Any = (),  # noqa: ANN401 - a class, a name or several
        *,
        correlation_id: str | None = None,
        tags: Iterable[str] = (),
        produced_by: str | None = None,
        since: int = 0,
        until: int | None = None,
        limit: int | None = None,
        offset: int = 0,
        as_of: int | None = None,
    ) -> Sequence[Artifact]:
        """Give matching artifacts in board order."""
        ...

    async def lineage(self, artifact: Artifact | str) -> Lineage:
        """Give ancestors and descendants."""
        ...

    async def consumptions(self, artifact: Artifact | str) -> Sequence[Consumption]:
        """Say who had it as an input."""
        ...


class Context:
    """One attempt, as its engines and hooks see it. `state` is theirs to use; the rest is read-only."""

    __slots__ = ("_artifacts", "_lease", "agent", "board", "candidate", "span", "state")

    def __init__(self, lease: Lease, agent: Any, artifacts: list[Artifact], board: Reads) -> None:  # noqa: ANN401 - Agent
        """Describe an attempt."""
        self._lease = lease
        self._artifacts = artifacts
        self.agent = agent
        self.board = board
        self.state: dict[str, Any] = {}
        self.span: Span = INVALID_SPAN
        self.candidate = 0

    def for_candidate(self, number: int, artifacts: list[Artifact]) -> Context:
        """Give a candidate of best-of-N a context of its own: its number, its copies, its state."""
        own = Context(self._lease, self.agent, artifacts, self.board)
        own.candidate, own.span, own.state = number, self.span, dict(self.state)
        return own

    @property
    def artifacts(self) -> list[Artifact]:
        """The inputs."""
        return self._artifacts

    @property
    def lease(self) -> Lease:
        """The right to run this attempt."""
        return self._lease

    @property
    def activation(self) -> Activation:
        """The activation, as the store knows it."""
        return self._lease.activation

    @property
    def correlation_id(self) -> str:
        """The run."""
        return self._lease.activation.run

    @property
    def activation_id(self) -> str:
        """The activation."""
        return self._lease.activation.id

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt: hand it to services that must act once."""
        return self._lease.activation.id

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self._lease.attempt

    @property
    def is_batch(self) -> bool:
        """True when a batch fired it."""
        return self._lease.activation.is_batch

    @property
    def trigger(self) -> Trigger:
        """What fired it: an artifact, a timer, or a direct call."""
        return self._lease.activation.trigger

    @property
    def fire_time(self) -> float | None:
        """For a timer, when it was due (UTC seconds)."""
        return self._lease.activation.fire_time

    @property
    def iteration(self) -> int:
        """For a timer, which firing this is, from 1."""
        return self._lease.activation.iteration
