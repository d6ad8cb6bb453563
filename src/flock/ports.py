"""The contracts between the core and what surrounds it."""

# A protocol's method is its signature and what it promises. mypy looks at what the other functions here return.
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opentelemetry.trace import Span
from pydantic import BaseModel

from flock.model import ledger
from flock.model.artifact import Artifact, Record
from flock.model.context import Context, Reads
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup
from flock.model.events import Event, Waiting
from flock.model.visibility import Identity

Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentInfo:
    """What engines and components see of an agent: what was declared, never what runs."""

    name: str
    description: str = ""
    identity: Identity  # as whom it reads
    outputs: tuple[OutputGroup, ...] = ()
    best_of: int = 1
    model: str | None = None  # if it has its own
    tools: tuple[Callable[..., Any], ...] = ()


class Engine:
    """Turns inputs into outputs. Subclass it, or give any object with `evaluate`."""

    # `evaluate` from the activation's inputs alone, of an engine that looks at nothing else: it makes its own copies.
    shortcut: Callable[[ledger.Activation], Awaitable[Any]] | None = None

    async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs:
        """Prepare the inputs."""
        return inputs

    async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> Any:  # noqa: ANN401 - EvalResult, model, artifact, list of these, or None
        """Make the outputs."""
        raise NotImplementedError

    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult:
        """Look at or change the result."""
        return result


class AgentComponent:
    """Hooks around an agent's activations; lower `priority` first. Override the ones that you need.

    A hook that gets something and gives something of its kind back replaces it; None keeps it.
    """

    priority: float = 0

    async def on_initialize(self, agent: AgentInfo, ctx: Context) -> None:
        """Before anything else of an attempt."""

    async def on_pre_consume(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> list[Artifact] | None:
        """With the inputs."""

    async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs | None:
        """Before the engines."""

    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult | None:
        """After the engines, before the commit."""

    async def on_post_publish(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> None:
        """After the commit."""

    async def on_error(self, agent: AgentInfo, ctx: Context, error: BaseException) -> None:
        """After an attempt that failed."""

    async def on_terminate(self, agent: AgentInfo, ctx: Context) -> None:
        """At the very end, always."""


Decision = Literal["CONTINUE", "SKIP", "DEFER"]


class BoardHandle:
    """What an orchestrator's component may do: read the board, publish (see `Flock.publish`), cancel a run."""

    def __init__(
        self, reads: Callable[[], Reads], publish: Callable[..., Awaitable[Artifact]], cancel: Callable[..., Any]
    ) -> None:
        """Hand on these methods and no others."""
        self._reads, self._publish, self._cancel = reads, publish, cancel

    @property
    def store(self) -> Reads:
        """Read the board."""
        return self._reads()

    async def publish(self, obj: object, **envelope: Any) -> Artifact:  # noqa: ANN401 - see Flock.publish
        """Publish one object."""
        return await self._publish(obj, **envelope)

    async def cancel(self, correlation_id: str) -> int:
        """Cancel a run."""
        ended: int = await self._cancel(correlation_id)
        return ended


class OrchestratorComponent:
    """Hooks around the whole board; lower `priority` first. Override the ones that you need."""

    priority: float = 0

    async def on_initialize(self, board: BoardHandle) -> None:
        """When the Flock starts."""

    async def on_artifact_published(self, board: BoardHandle, artifact: Artifact) -> None:
        """After an artifact was committed."""

    async def on_before_schedule(
        self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]
    ) -> Decision | None:
        """Before an activation runs: CONTINUE (or None), SKIP it, or DEFER it to a later try."""

    async def on_collect_artifacts(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        """With the inputs that an activation collected."""

    async def on_before_agent_schedule(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        """Right before the agent runs."""

    async def on_agent_scheduled(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        """When the agent's task has been started."""

    async def on_idle(self, board: BoardHandle) -> None:
        """When no work is left."""

    async def on_shutdown(self, board: BoardHandle) -> None:
        """When the Flock shuts down."""


class Workers(Protocol):
    """Where engines run bodies that block."""

    @property
    def late(self) -> Iterable[str]:
        """The agents whose bodies still run although nobody waits for them any more."""

    def close(self) -> None:
        """Let idle workers end, and busy ones after their body."""

    def forget(self) -> None:
        """Begin anew in the child of a fork, where no worker is."""


class Handle(Protocol):
    """Something to be called later that can be called off."""

    def cancel(self) -> None:
        """Call it off."""


class Clock(Protocol):
    """All that the core asks of the world: time, ids and chance. Times are UTC seconds that never go back."""

    def now(self) -> float:
        """Give the time."""

    def advance_to(self, at_least: float) -> None:
        """Never be behind this time again: a store's last commit."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        """Call back on the running loop when the time has come."""

    def new_id(self) -> str:
        """Give an id that no one else has."""

    def random(self) -> float:
        """Give a number from 0 up to 1."""


Counted = Literal["published", "dropped", "activations", "hook errors", "skipped ticks"]


class OpenSpan(Protocol):
    """The span of an attempt that is under way."""

    span: Span

    def record_inputs(self, payloads: Iterable[object]) -> None:
        """Put the payloads that the agent got on it, if payloads were asked for."""

    def record_outputs(self, payloads: Iterable[object]) -> None:
        """Put the payloads that the agent made on it, if payloads were asked for."""

    def end(self, error: BaseException | None) -> None:
        """End it, in the task that started it, with what the attempt raised if it did."""


class Telemetry(Protocol):
    """Where spans and metrics of one Flock go; every call is next to free while nobody listens."""

    def enabled(self) -> bool:
        """Tell whether spans go anywhere."""

    def metering(self) -> bool:
        """Tell whether metrics go anywhere."""

    def active(self) -> bool:
        """Tell whether anybody listens, to spans or to metrics."""

    def workflow(self, name: str, correlation_id: str) -> AbstractContextManager[Span]:
        """Make the body a span of a run, below the current one if there is one, and time it."""

    def engine(self, agent: str, name: str, *, candidate: int | None = None) -> AbstractContextManager[Span]:
        """Make the body a span below the current one: one evaluation by one engine."""

    def start_attempt(self, agent: AgentInfo, lease: ledger.Lease) -> OpenSpan | None:
        """Start the span of an attempt, below that of its trigger, and make it current for this task."""

    def count(self, counted: Counted, amount: int = 1, **labels: str | None) -> None:
        """Add to a counter, under what is given of agent, outcome, reason and hook: names, never ids."""

    def traceparent(self) -> str | None:
        """Give the current span as a W3C traceparent, to be kept on artifacts; None when off or outside any span."""


class Types(Protocol):
    """The payload classes of a program by their stable names."""

    def find(self, name: str) -> type[BaseModel] | None:
        """Give a class that the program has, or None; imports nothing."""


class Store(Protocol):
    """Where the board lives. Every method leaves it in a consistent state or raises StoreError and changes nothing.

    A store that more than one process uses keeps its leases alive by itself, from a thread when it has to, until they
    are settled or released; the core never does. Its reducer for collecting is `flock.core.gates.reduce`.
    """

    @property
    def forgets(self) -> bool:
        """True when what is left ends with this process."""

    async def open(self, clock: Clock, types: Types) -> ledger.Committed:
        """Migrate and recover; gives the clock the time of the last commit. The answer's `due` is when to tick."""

    def forget(self) -> None:
        """Begin anew in the child of a fork, with the same subscriptions: what is open is the parent's."""

    def declare(self, targets: Iterable[ledger.Target]) -> None:
        """Know these subscriptions: what their collectors have due is this process's to do."""

    async def close(self) -> None:
        """Release what is open; calling it twice is fine."""

    def commit(self, commit: ledger.Commit) -> Coroutine[Any, Any, ledger.Committed]:
        """Do one atomic, idempotent step; raises Stale, Backpressure, RunCancelledError, PublishError, StoreError."""

    async def claim(self, limits: Mapping[str, int], most: int) -> Sequence[ledger.Lease]:
        """Lease ready activations of these agents: highest priority, then oldest; never more than an agent's limit."""

    async def release(self, lease: ledger.Lease) -> ledger.Committed:
        """Give an activation back: ready again, the attempt is not counted."""

    async def tick(self, limits: Mapping[str, int]) -> ledger.Committed:
        """Do all that is due: expired joins, batches, delayed work and offers, leases that ran out."""

    async def flush(self, run: str | None, limits: Mapping[str, int]) -> ledger.Committed:
        """Fire partial batches of a run, or of all."""

    async def cancel(self, *, run: str | None = None, activation: str | None = None) -> ledger.Withdrawn:
        """End a run for good, or one activation: open ones are cancelled, what the run holds in collectors goes."""

    def attend(self, hint: Callable[[], None], unheard: Callable[[ledger.Committed], None]) -> None:
        """Call `hint` on the running loop when others have changed something, or perhaps have.

        `unheard` gets what a step did whose caller was cancelled meanwhile: nobody else knows of the leases in it.
        """

    async def work(self, run: str | None = None) -> int:
        """Count, at no cost, what has to end before a run or the board is idle: open activations and timed batches."""

    async def progress(self, run: str | None = None) -> ledger.Progress:
        """Give one consistent snapshot of a run or of the board."""

    async def waiting(self, run: str | None = None) -> Sequence[Waiting]:
        """Say what waits in collectors, and what is delayed."""

    async def get(self, ids: Sequence[str]) -> Sequence[Record]:
        """Give the records of these ids that exist, in the order asked."""

    async def query(self, query: ledger.Query) -> Sequence[Record]:
        """Give matching records in board order."""

    async def follow(self, since: int, most: int) -> Sequence[Record]:
        """Give the next records after a sequence, none missed."""

    async def children(self, ids: Sequence[str]) -> Sequence[Record]:
        """Give the records that name one of these as a parent."""

    async def consumptions(self, id: str) -> Sequence[ledger.Consumption]:
        """Say which activations had this artifact as an input."""

    async def activation(self, id: str) -> ledger.Activation | None:
        """Give an activation as it stands; None when it is not known (any more)."""

    async def timers(self) -> Mapping[str, ledger.TimerState]:
        """Say where each agent's schedule stands."""

    async def runs(self) -> Sequence[str]:
        """Name the runs that the board has artifacts of, in the order of the first of each."""

    async def unserved(self) -> Sequence[str]:
        """Name the agents that something waits for and that no process has; that is nobody's work now."""

    async def kinds(self) -> Sequence[str]:
        """Name the types of the artifacts on the board."""
