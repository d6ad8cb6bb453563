"""What an agent knows about the activation that it runs in."""

# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from opentelemetry.trace import INVALID_SPAN, Span
from pydantic import BaseModel

from flock.model.artifact import Artifact, part
from flock.model.ledger import Activation, Consumption, Lease, Trigger

M = TypeVar("M", bound=BaseModel)


class Lineage(NamedTuple):
    """Why an artifact exists and what came of it; both in board order, without the artifact itself."""

    artifact: Artifact
    ancestors: tuple[Artifact, ...]
    descendants: tuple[Artifact, ...]


class Maker(NamedTuple):
    """The activation that made an artifact; one that the store has forgotten is `"forgotten"` in state."""

    activation: str
    agent: str
    subscription: str = ""
    attempt: int = 0
    state: str = "forgotten"


class Why(NamedTuple):
    """Why an artifact exists: what made it (None: it came from outside) of which inputs, in the order it had them."""

    artifact: Artifact
    made_by: Maker | None
    inputs: tuple[Artifact, ...]


class Reads(Protocol):
    """Reads of the board for one identity."""

    async def list(self) -> Sequence[Artifact]:
        """Give all artifacts."""

    async def get(self, id: str) -> Artifact | None:
        """Give one artifact."""

    async def get_by_type(self, kind: type[M]) -> Sequence[M]:
        """Give the payloads of a type, subclasses included."""

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

    async def lineage(self, artifact: Artifact | str) -> Lineage:
        """Give ancestors and descendants."""

    async def why(self, artifact: Artifact | str) -> Why:
        """Say what made it, of what."""

    async def consumptions(self, artifact: Artifact | str) -> Sequence[Consumption]:
        """Say who had it as an input."""


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

    artifacts: Final[list[Artifact]] = part("_artifacts")
    """The inputs."""
    lease: Final[Lease] = part("_lease")
    """The right to run this attempt."""
    activation: Final[Activation] = part("_lease.activation")
    """The activation, as the store knows it."""
    correlation_id: Final[str] = part("_lease.activation.run")
    """The run."""
    activation_id: Final[str] = part("_lease.activation.id")
    """The activation."""
    idempotency_key: Final[str] = part("_lease.activation.id")
    """The same on every attempt: hand it to services that must act once."""
    attempt: Final[int] = part("_lease.attempt")
    """Counts from 1."""
    is_batch: Final[bool] = part("_lease.activation.is_batch")
    """True when a batch fired it."""
    trigger: Final[Trigger] = part("_lease.activation.trigger")
    """What fired it: an artifact, a timer, or a direct call."""
    fire_time: Final[float | None] = part("_lease.activation.fire_time")
    """For a timer, when it was due (UTC seconds)."""
    iteration: Final[int] = part("_lease.activation.iteration")
    """For a timer, which firing this is, from 1."""
