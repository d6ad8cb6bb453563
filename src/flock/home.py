"""The home of a board: its parts, wired to each other, and the event loop that they live on."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from flock.board.reader import BoardReader
from flock.core.ambient import acting, current
from flock.core.components import ComponentRunner
from flock.core.execute import Executor, Limits
from flock.core.lifecycle import LifecycleManager
from flock.core.publish import Spine
from flock.core.schedule import Scheduler
from flock.core.settle import Settler
from flock.declaring.enlist import Choice, Registrar
from flock.direct.call import Caller
from flock.direct.wait import Waiter
from flock.model.artifact import Artifact, Record
from flock.model.errors import ClosedError
from flock.model.events import RunReport
from flock.ports import BoardHandle, Workers

logger = logging.getLogger("flock")


class Home:
    """Adopts the loop of the first use; when that is closed, the loop of the next use."""

    def __init__(
        self,
        spine: Spine,
        components: ComponentRunner,
        board: BoardHandle,
        limits: Limits,
        engines: Choice,
        workers: Workers,
    ) -> None:
        """Wire the parts around a spine and live nowhere yet."""
        self.spine = spine
        self.components = components
        self._board = board
        self._workers = workers
        settler = Settler(spine)
        self.executor = Executor(
            spine=spine, settler=settler, components=components, board=board, limits=limits,
            reads=lambda identity: BoardReader(spine.store, spine.clock, spine.roster.types, identity),
        )  # fmt: skip
        self.scheduler = Scheduler(spine, self.executor, settler)
        self.lifecycle = LifecycleManager(spine, self.scheduler)
        self.waiter = Waiter(spine, self.scheduler, self.lifecycle)
        self.caller = Caller(spine, self.scheduler, self.waiter)
        self.registrar = Registrar(spine, self.scheduler, self.lifecycle, engines)
        self._adopting: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.missing: Sequence[str] = ()  # agents for which something waited at the start, and that nobody had
        if components.components:
            spine.on_published = self._tell_published
            spine.on_quiet = self._tell_idle

    async def enter(self, *, publishing: bool = False) -> None:
        """Start on the running loop if need be, and enlist what was declared since.

        Raises ClosedError after the shutdown, but lets agents that still run publish.
        """
        closed, loop = self.spine.closed, asyncio.get_running_loop()
        if closed and not (publishing and acting(self.spine) is not None):
            raise ClosedError(f"Flock {self.spine.default_run!r} is closed")
        if self.loop is not loop:
            adopting = self._adopting
            if adopting is None or adopting.done() or adopting.get_loop() is not loop:
                adopting = self._adopting = loop.create_task(self._adopt(loop))
            await asyncio.shield(adopting)  # whoever asked for it may be cancelled meanwhile
        if self.registrar.waits:
            await self.registrar.enlist()
        if self.spine.unclaimed and not closed:
            await self.scheduler.claim()

    async def begin(self) -> None:
        """Start on the running loop if need be; a board that is closed stays so, and reads say what they find."""
        if self.loop is not asyncio.get_running_loop() and not self.spine.closed:
            await self.enter()

    def forget(self) -> None:
        """Begin anew in the child of a fork: what runs, and what is in a file, is the parent's."""
        self.loop = self._adopting = None
        current.set(None)
        self.spine.signals.forget()
        self.spine.store.forget()
        self._workers.forget()

    async def leave(self, grace: float) -> RunReport:
        """Shut down, once; says what waits, and warns of what is lost or was left behind."""
        spine, signals, clock = self.spine, self.spine.signals, self.spine.clock
        if spine.closed:
            await self._see_left()
            return RunReport(idle=True)
        if self.loop is not asyncio.get_running_loop():
            await self.enter()
        spine.closed, self._leaving = True, asyncio.current_task()
        signals.room.wake()  # who waits for room is told
        started = clock.now()
        await self.components.notify("on_shutdown", self._board)
        await self.lifecycle.shutdown()
        stuck = sorted({*await self.scheduler.stop(grace), *self._workers.late})
        await self.lifecycle.shutdown()
        work = await spine.store.work()
        report = await self.waiter.report(None, idle=not work, duration=clock.now() - started)
        signals.end()
        self._workers.close()
        await spine.store.close()
        if stuck:
            _warn(f"bodies of these agents did not stop and were left behind: {', '.join(stuck)}")
        if work and spine.store.forgets:
            _warn(f"the memory store is left with {work} open activations or batches, which end with this process")
        return report

    async def _see_left(self) -> None:
        """Wait for the end of a shutdown that somebody else has begun on this loop, unless that waits for this."""
        leaving, me, loop = self._leaving, asyncio.current_task(), asyncio.get_running_loop()
        if leaving is not None and leaving is not me and leaving.get_loop() is loop and acting(self.spine) is None:
            await asyncio.wait({leaving})

    async def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on this loop; what another loop left running runs again."""
        again = self.loop is not None
        self.scheduler.adopt()
        types = self.spine.roster.types
        opened = await self.spine.store.open(self.spine.clock, types)
        types.meet(await self.spine.store.kinds())
        progress = await self.spine.store.progress()
        self.spine.last_sequence = progress.sequence
        self.loop, self.spine.unclaimed = loop, True
        self.lifecycle.adopt(opened.due)
        if not again:
            self.waiter.reported = progress
            await self.registrar.enlist()
            await self.components.notify("on_initialize", self._board)
        await self.scheduler.claim()
        self.missing = await self.spine.store.unserved()
        if self.missing and self.spine.roster.agents:
            logger.warning("work waits for agents that are not declared: %s", ", ".join(self.missing))

    async def _tell_published(self, records: Sequence[Record]) -> None:
        for record in records:
            await self.components.notify("on_artifact_published", self._board, Artifact.of(record))

    def _tell_idle(self) -> None:
        self.spine.signals.quiet.wake()

        async def tell() -> None:
            if not await self.spine.store.work():
                await self.components.notify("on_idle", self._board)

        if not self.spine.closed:
            _ = self.scheduler.spawn(tell())


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
