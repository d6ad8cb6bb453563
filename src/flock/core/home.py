"""The home of a board: the event loop that it lives on, from its first use to its shutdown."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flock.core.ambient import acting
from flock.model.artifact import Artifact
from flock.model.errors import ClosedError, FlockError
from flock.model.events import RunReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from flock.core.components import ComponentRunner
    from flock.core.enlist import Registrar
    from flock.core.execute import Executor
    from flock.core.lifecycle import LifecycleManager
    from flock.core.publish import Spine
    from flock.core.schedule import Scheduler
    from flock.core.wait import Waiter
    from flock.model.artifact import Record
    from flock.model.context import Reads
    from flock.ports import BoardHandle


class Handle:
    """What an orchestrator's components may do: a `flock.ports.BoardHandle`, never the whole Flock."""

    def __init__(
        self,
        reads: Callable[[], Reads],
        publish: Callable[..., Awaitable[Artifact]],
        cancel: Callable[[str], Awaitable[int]],
    ) -> None:
        """Hand on these methods and no others."""
        self._reads = reads
        self._publish = publish
        self._cancel = cancel

    @property
    def store(self) -> Reads:
        """Read the board."""
        return self._reads()

    async def publish(self, obj: object, **envelope: Any) -> Artifact:  # noqa: ANN401 - see Flock.publish
        """Publish one object."""
        return await self._publish(obj, **envelope)

    async def cancel(self, correlation_id: str) -> int:
        """Cancel a run."""
        return await self._cancel(correlation_id)


class Workers(Protocol):
    """The threads in which engines run bodies that block."""

    @property
    def late(self) -> Iterable[str]:
        """The agents whose bodies still run although nobody waits for them any more."""
        ...

    def close(self) -> None:
        """Let idle threads end, and busy ones after their body."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What starts and ends together."""

    spine: Spine
    executor: Executor
    scheduler: Scheduler
    lifecycle: LifecycleManager
    registrar: Registrar
    waiter: Waiter
    threads: Workers
    components: ComponentRunner
    board: BoardHandle


class Home:
    """Adopts the loop of the first use; when that is closed, the loop of the next use."""

    def __init__(self, name: str, parts: Parts) -> None:
        """Live nowhere yet."""
        self._name = name
        self._parts = parts
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        if parts.components.components:
            parts.spine.on_published = self._tell_published
            parts.spine.on_quiet = self._tell_idle

    async def enter(self, *, publishing: bool = False) -> None:
        """Start on the running loop if need be, and enlist what was declared since.

        Raises ClosedError after the shutdown, but lets agents that still run publish, and FlockError on another loop.
        """
        if self.closed and not (publishing and acting(self._parts.spine) is not None):
            message = f"Flock {self._name!r} is closed"
            raise ClosedError(message)
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            if self._gate is None or self._gate[0] is not loop:
                self._gate = (loop, asyncio.Lock())
            async with self._gate[1]:
                if self.loop is not loop:
                    await self._adopt(loop)
        if self._parts.registrar.waits:
            await self._parts.registrar.enlist()
        if self._parts.spine.unclaimed and not self.closed:
            await self._parts.scheduler.claim()

    async def leave(self, grace: float) -> RunReport:
        """Shut down; says what waits, and warns of what is lost or was left behind."""
        parts = self._parts
        spine, signals, clock = parts.spine, parts.spine.signals, parts.spine.clock
        self.closed = spine.closed = True
        signals.room.wake()  # who waits for room is told
        started = clock.now()
        await parts.components.notify("on_shutdown", parts.board)
        await parts.lifecycle.shutdown()
        stuck = sorted({*await parts.scheduler.stop(grace), *parts.threads.late})
        await parts.lifecycle.shutdown()
        work = await spine.store.work()
        report = await parts.waiter.report(None, idle=not work, duration=clock.now() - started)
        parts.waiter.closed = True
        signals.end_streams()
        signals.quiet.wake()
        parts.threads.close()
        await spine.store.close()
        if stuck:
            _warn(f"bodies of these agents did not stop and were left behind: {', '.join(stuck)}")
        if work and spine.store.forgets:
            _warn(f"the memory store is left with {work} open activations or batches, which end with this process")
        return report

    async def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on this loop; what another loop left running runs again."""
        parts = self._parts
        if self.loop is not None and not self.loop.is_closed():
            message = f"Flock {self._name!r} works on another event loop, which is still open: use it from there"
            raise FlockError(message)
        again = self.loop is not None
        parts.executor.reset()
        parts.scheduler.adopt()
        parts.lifecycle.disarm()
        opened = await parts.spine.store.open(parts.spine.clock)
        self.loop = loop
        parts.spine.last_sequence = (await parts.spine.store.progress()).sequence
        parts.lifecycle.listen()
        parts.lifecycle.rearm(opened.due)
        if not again:
            await parts.registrar.enlist()
            await parts.components.notify("on_initialize", parts.board)
        await parts.scheduler.claim()

    async def _tell_published(self, records: Sequence[Record]) -> None:
        for record in records:
            await self._parts.components.notify("on_artifact_published", self._parts.board, Artifact.of(record))

    def _tell_idle(self) -> None:
        async def tell() -> None:
            if not await self._parts.spine.store.work():
                await self._parts.components.notify("on_idle", self._parts.board)

        if not self.closed:
            _ = self._parts.scheduler.spawn(tell())


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
