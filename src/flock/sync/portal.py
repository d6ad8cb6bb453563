"""The way to a home loop for blocking calls and for awaits on other loops."""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, Literal, ParamSpec, TypeVar

from flock.model.errors import ClosedError, ConfigurationError, FlockError, SyncInLoopError
from flock.sync.crossing import (
    Call,
    Loop,
    in_notebook,
    is_blocked,
    refuse_to_block,
    running_loop,
    standing,
    waits_for,
    warn_of_blocking,
)
from flock.sync.host import PATIENCE, Host
from flock.sync.iterating import BlockingIterator, Source

P = ParamSpec("P")
T = TypeVar("T")
HomeKind = Literal["auto", "background", "caller"]
logger = logging.getLogger("flock")
_LOOK: Final = 0.2  # seconds after which whoever waits looks whether the loop is still there


def run_sync(async_fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:  # noqa: ANN401
    """Run an async function to its end and give what it returned; from scripts, threads, notebooks and running loops.

    All calls of a process share one event loop in the background, so what is bound to a loop, as connections are, can
    be kept from call to call. Raises what the function raised, TimeoutError after `timeout` seconds, and
    SyncInLoopError where it would wait for itself. It warns once per place that blocks a running loop.
    """
    return _shared().call(async_fn, *args, timeout=timeout)


class Portal:
    """The way to one home loop: the running loop of the first use, or one in a thread of its own.

    `kind` says which: "caller" and "background", or "auto": the caller's for the first `await`, the background for the
    first blocking call and in notebooks. `ending(at_once)` is awaited there before the portal closes, `on_fork()` is
    called in the child of a fork, where everything begins anew.
    """

    def __init__(
        self,
        name: str,
        kind: HomeKind = "auto",
        loop_factory: Callable[[], Loop] | None = None,
        *,
        ending: Callable[[bool], Awaitable[object]] | None = None,
        on_fork: Callable[[], None] | None = None,
    ) -> None:
        """Have no home yet. Raises ConfigurationError for another kind."""
        if kind not in {"auto", "background", "caller"}:
            raise ConfigurationError(f"home= is 'auto', 'background' or 'caller', not {kind!r}")
        self.loop: Loop | None = None
        self.closed = False
        self._name = name
        self._kind = kind
        self._loop_factory = loop_factory
        self._ending = ending
        self._on_fork = on_fork
        self._host: Host | None = None
        self._lock, self._closing = threading.RLock(), threading.RLock()  # a signal's handler may use the Flock, too
        _begin_anew_in_children()
        with _once:
            _portals.add(self)

    # ---- from an event loop

    def is_home(self) -> bool:
        """Say whether the running loop is the home; it becomes that when there is none."""
        running = asyncio.get_running_loop()
        return self.loop is running or self.closed or self._settle(running) is running

    async def hop(self, async_fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await on the home loop, from another one; cancelling the wait cancels the work and waits for its clean-up."""
        here, home = asyncio.get_running_loop(), self._settle(asyncio.get_running_loop())
        if is_blocked(home):
            _refuse_to_wait(self._name)
        over: asyncio.Future[None] = here.create_future()
        call = Call(functools.partial(async_fn, *args, **kwargs), functools.partial(_wake, here, over))
        patience, reason = PATIENCE, waits_for(home, here)
        self._start(call, home)
        try:
            while not over.done():
                await asyncio.wait({over}, timeout=_LOOK)
                self._look(call, home)
                same = waits_for(home, here)
                patience, reason = (patience - _LOOK if same is reason is not None else PATIENCE), same
                if patience <= 0:  # it has stood still for one call all the while, which may well wait for this
                    _refuse_to_wait(self._name)
        except asyncio.CancelledError:
            call.cancel(home)
            await asyncio.wait({over}, timeout=PATIENCE)
            raise
        except BaseException:  # of a loop that has ended, or ends
            call.cancel(home)
            raise
        finally:
            self._let_go(call)
        return call.outcome()

    async def here(self, async_fn: Callable[[], Awaitable[T]]) -> T:
        """Await at home, wherever this is."""
        return await (async_fn() if self.is_home() else self.hop(async_fn))

    async def iterate(self, source: Source[T]) -> AsyncGenerator[T, None]:
        """Iterate over what lives at home from wherever this is iterated."""
        try:
            while True:
                try:
                    item = await self.here(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await self.here(source.aclose)

    # ---- blocking

    def call(
        self, async_fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None, **kwargs: Any  # noqa: ANN401
    ) -> T:  # fmt: skip
        """Block until an async function has run on the home loop, with the caller's context variables.

        Raises what it raised. A timeout (s) or an interrupt cancels it and waits for its clean-up, PATIENCE at most.
        Raises SyncInLoopError where it would wait for itself.
        """
        if self.closed and self is not _shared():
            return _shared().call(async_fn, *args, timeout=timeout, **kwargs)
        running = running_loop()
        home = self._settle_for(async_fn, running)
        ended = threading.Lock()
        ended.acquire()
        call = Call(functools.partial(async_fn, *args, **kwargs) if args or kwargs else async_fn, ended.release)
        outer = None if running is None else self._stand_still(running, home, call)
        try:
            self._start_and_wait(call, home, ended, timeout, None if running is None else asyncio.current_task())
        except BaseException as error:
            call.cancel(home)
            if not isinstance(error, ClosedError):
                ended.acquire(timeout=PATIENCE)
            raise
        finally:
            if running is not None:
                _go_on(running, outer)
            self._let_go(call)
        return call.outcome()

    def _settle_for(self, async_fn: Callable[..., object], running: Loop | None) -> Loop:
        """Give the home for a blocking call; raises where it may not be waited for."""
        if self._kind == "caller" and not self._is_open():
            _refuse_to_start(self._name)
        home = self.loop
        if home is None or self._host is None or home.is_closed():
            home = self._settle(None)
        if running is home:
            refuse_to_block(async_fn)
        if is_blocked(home):
            _refuse_to_wait(self._name)
        if running is not None and not in_notebook():
            warn_of_blocking(async_fn)
        return home

    def _stand_still(self, running: Loop, home: Loop, call: Call[Any]) -> tuple[Loop, Call[Any]] | None:
        """Say that a loop stands still for another; gives for which it does already, below a signal's handler.

        Raises SyncInLoopError where that other loop waits for it in turn.
        """
        call.block(running)
        with _once:
            if waits_for(home, running) is not None:
                _refuse_to_wait(self._name)
            outer = standing.get(running)
            standing[running] = (home, call)
        return outer

    def _start_and_wait(
        self, call: Call[Any], home: Loop, ended: threading.Lock, timeout: float | None, task: asyncio.Task[Any] | None
    ) -> None:
        """Wait for the end; `task` is what waits, where that is one."""
        left = inf if timeout is None else max(0.0, timeout)
        before = 0 if task is None else task.cancelling()
        self._start(call, home)
        while not ended.acquire(timeout=min(left, _LOOK)):
            left -= _LOOK
            if left <= 0:
                _refuse_to_wait_longer(call.name, timeout)
            if task is not None and task.cancelling() > before:  # as `asyncio.run` does when it is interrupted
                raise asyncio.CancelledError
            self._look(call, home)

    def iterate_blocking(self, source: Source[T]) -> BlockingIterator[T]:
        """Iterate over what lives at home; leaving early closes it there."""
        return BlockingIterator(self, source)

    def close(self, *, at_once: bool = False) -> None:
        """Await the ending at home, and end the loop that was started for it, with all that still runs there; once.

        `at_once` bounds how long that takes, whatever is stuck there. Raises FlockError where the home stands still.
        """
        if running_loop() is not None and running_loop() is self.loop:
            refuse_to_block(self.close)
        mine = self._closing.acquire(timeout=PATIENCE if at_once else -1)  # or another's call is at it
        try:
            self._close(at_once=at_once)
        finally:
            if mine:
                self._closing.release()

    def _close(self, *, at_once: bool) -> None:
        way = self if self._is_open() else _shared()
        if self._ending is None or self.closed:
            self._end()
            return
        if self._is_open():
            self._settle(None)  # which refuses a loop that stands still
        try:
            way.call(self._ending, at_once, timeout=PATIENCE if at_once else None)
        finally:
            self._end()

    def _end(self) -> None:
        self.closed = True
        with self._lock:
            host, self._host = self._host, None
        if host is not None:
            host.stop()

    def retire(self) -> None:
        """Lead nowhere any more: the ending has been awaited."""
        self.closed = True
        host = self._host
        if host is not None and host.loop is not running_loop():  # else `close` ends it, or the end of the process
            host.ask_to_stop()

    @property
    def has_thread(self) -> bool:
        """Whether a loop in the background was started and not ended."""
        return self._host is not None

    # ---- the home

    def _is_open(self) -> bool:
        return self.loop is not None and not self.loop.is_closed()

    def _settle(self, running: Loop | None) -> Loop:
        """Give the home loop, which is chosen now if there is none; raises FlockError for one that stands still."""
        with self._lock:
            home = self.loop
            if home is None or home.is_closed():
                if self.closed:
                    raise ClosedError(f"{self._name!r} is closed")
                if running is not None and self._kind != "background" and not (self._kind == "auto" and in_notebook()):
                    self.loop = home = running
                else:
                    _end_at_exit()
                    self._host = host = Host(self._name, self._loop_factory)
                    self.loop = home = host.loop
                    weakref.finalize(self, host.ask_to_stop).atexit = False
            elif self._host is None and home is not running and not home.is_running():
                raise FlockError(
                    f"{self._name!r} lives on an event loop that is open but does not run: run it, close it, or use "
                    "home='background'"
                )
        return home

    def _start(self, call: Call[Any], home: Loop) -> None:
        host = self._host
        if host is not None:
            host.calls.add(call)
        try:
            call.start(home)
        except RuntimeError:
            raise ClosedError(f"{self._name!r} is closed: its event loop has ended") from None

    def _let_go(self, call: Call[Any]) -> None:
        host = self._host
        if host is not None:
            host.calls.discard(call)

    def _look(self, call: Call[Any], home: Loop) -> None:
        """Raise when nobody runs the home loop any more, so that what was asked for never comes."""
        if not call.over and (home.is_closed() or (self._host is None and not home.is_running())):
            raise ClosedError(f"the event loop of {self._name!r} has ended meanwhile")

    def forget(self) -> None:
        """Begin anew in the child of a fork: the parent's loop and thread are not here."""
        self._lock, self._closing = threading.RLock(), threading.RLock()
        self.loop = self._host = None
        if self._on_fork is not None:
            self._on_fork()


def _wake(loop: Loop, over: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # that loop has ended: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if over.done() else over.set_result(None))


def _refuse_to_wait(name: str) -> None:
    raise SyncInLoopError(
        f"the event loop of {name!r} is blocked by the call that leads here, which would never end: await it instead"
    )


def _refuse_to_wait_longer(name: str, timeout: float | None) -> None:
    raise TimeoutError(f"{name} took longer than {timeout:g} s")


def _refuse_to_start(name: str) -> None:
    if running_loop() is not None:
        raise SyncInLoopError(f"home='caller': the loop that runs here becomes the home of {name!r} by an `await`")
    raise FlockError(f"home='caller' starts no loop for {name!r}: await it first, or use home='background'")


def _go_on(running: Loop, outer: tuple[Loop, Call[Any]] | None) -> None:
    """Say that a loop stands still no longer, or only for what it stood still for before."""
    if outer is None:
        standing.pop(running, None)
    else:
        standing[running] = outer


# ---- one per process


_once = threading.RLock()  # held for moments, by who changes these
_portals: Final[weakref.WeakSet[Portal]] = weakref.WeakSet()
_of_no_flock: Final[list[Portal]] = []


def _shared() -> Portal:
    """Give the portal of code without a Flock."""
    if not _of_no_flock:
        with _once:
            if not _of_no_flock:
                _of_no_flock.append(Portal("run_sync", "background"))
    return _of_no_flock[0]


@functools.cache
def _begin_anew_in_children() -> None:
    os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    global _once  # noqa: PLW0603 - another thread of the parent's may have held it
    _once = threading.RLock()
    standing.clear()
    for portal in list(_portals):
        portal.forget()


@functools.cache
def _end_at_exit() -> None:
    """End all loops in the background with the interpreter, while it still runs."""
    importlib.import_module("concurrent.futures.thread")  # whose own end is to come later
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    with suppress(RuntimeError):  # it ends already
        register(_end_all)


def _end_all() -> None:
    """End every loop that was started, in a bounded time; what does not end is told."""
    shared = _shared()
    with _once:
        started = [each for each in _portals if each.has_thread and each is not shared]
    for portal in [*started, shared]:
        try:
            portal.close(at_once=True)
        except BaseException:
            logger.exception("what ran in the background did not end with the process as it should")
