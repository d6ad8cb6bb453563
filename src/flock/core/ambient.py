"""Where the running code is: in which run, and in which activation with which slots."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from flock.core.agent import Agent, Shortcut
from flock.core.components import ComponentRunner
from flock.core.slots import Slots
from flock.model.artifact import Artifact, Record
from flock.model.context import Context, Reads
from flock.model.ledger import Lease
from flock.ports import OpenSpan


@dataclass(slots=True, eq=False)
class Ambient:
    """One level: a `traced_run` of one board, within what is around it."""

    board: object
    run: str
    outer: Ambient | None


@dataclass(slots=True, eq=False)
class Desk:
    """What all activations of one agent share on this event loop.

    `on_lend(desk, n)` lets n more of the agent's tasks run; `gone` says that the agent was removed. `shortcut` calls
    the agent's only engine with an activation's inputs, when nobody else has to see them.
    """

    agent: Agent
    slots: Slots
    everyone: Slots | None
    reader: Reads
    hooks: ComponentRunner | None
    on_lend: Callable[[Desk, int], None]
    gone: bool = False
    shortcut: Shortcut | None = None

    def __post_init__(self) -> None:
        """See who looks at the inputs beside the engine."""
        agent = self.agent
        if self.hooks is None and agent.context is None and not agent.streams and len(agent.outputs) == 1:
            self.shortcut = agent.shortcut


class Acting(Ambient):
    """The level of an activation, or of one candidate: it holds slots while its engine chain runs."""

    __slots__ = ("_away", "_busy", "_ctx", "_held", "_lent", "_over", "desk", "error", "lease", "span", "streamed")

    def __init__(self, board: object, lease: Lease, desk: Desk) -> None:
        """Hold nothing yet."""
        self.board = board
        self.run = lease.activation.run
        self.outer = None
        self.lease = lease
        self.desk = desk
        self._ctx: Context | None = None
        self.span: OpenSpan | None = None
        self.error: BaseException | None = None  # what the attempt failed with
        self.streamed: Sequence[Record] = ()  # what it has committed before its end
        self._away = self._busy = 0
        self._held = self._lent = False
        self._over = True

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.desk.agent.name

    @property
    def ctx(self) -> Context:
        """The attempt as engines and hooks see it."""
        if self._ctx is None:
            artifacts = [Artifact.of(record) for record in self.lease.activation.inputs]
            self._ctx = Context(self.lease, self.desk.agent, artifacts, self.desk.reader)
            if self.span is not None:
                self._ctx.span = self.span.span
        return self._ctx

    def take_free(self) -> bool:
        """Take the slots if they are free right now."""
        slots, everyone = self.desk.slots, self.desk.everyone
        if slots.free <= 0 or (everyone is not None and everyone.free <= 0):
            return False
        slots.free -= 1
        if everyone is not None:
            everyone.free -= 1
        self._held, self._over = True, False
        return True

    async def take(self) -> None:
        """Take the agent's slot, then the Flock's."""
        desk, priority = self.desk, self.lease.activation.priority
        await desk.slots.take(priority)
        if desk.everyone is not None:
            try:
                await desk.everyone.take(priority)
            except BaseException:
                desk.slots.give()
                raise
        self._held, self._over = True, False

    def give(self) -> None:
        """End the chain: give back what is held, unless a thread still uses it, which does when it returns."""
        self._over = True
        if self._held and not self._busy:
            self._release()

    def occupy(self) -> None:
        """Keep the slots for a thread."""
        self._busy += 1

    def vacate(self, *, late: bool) -> None:
        """A thread has returned; `late` says that its chain is over and the slots are free now."""
        self._busy -= 1
        if late:
            self.give()

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None, None]:
        """Lend the slots while this chain waits for other activations: until the last of several waits is over."""
        if not (self._held or self._away):
            yield
            return
        self._away += 1
        self._lend()
        try:
            yield
        finally:
            self._away -= 1
            if not self._away:
                await self._come_back()

    def _lend(self) -> None:
        if self._held:
            self._release()
            self._lent = True
            self.desk.on_lend(self.desk, 1)

    async def _come_back(self) -> None:
        """Take the slots again; a chain that has ended meanwhile only ends the loan."""
        if self._lent:
            self._lent = False
            self.desk.on_lend(self.desk, -1)
        if self._over or self._held:
            return
        await self.take()
        if self._away:  # another wait has begun meanwhile
            self._lend()

    def _release(self) -> None:
        self._held = False
        self.desk.slots.give()
        if self.desk.everyone is not None:
            self.desk.everyone.give()


current: ContextVar[Ambient | None] = ContextVar("flock_ambient", default=None)


def here(board: object) -> Ambient | None:
    """Give the innermost level of this board."""
    found = current.get()
    while found is not None and found.board is not board:
        found = found.outer
    return found


def acting(board: object) -> Acting | None:
    """Give the innermost activation of this board around the running code."""
    found = current.get()
    while found is not None and not (isinstance(found, Acting) and found.board is board):
        found = found.outer
    return found
