"""Home loops: how blocking calls, and awaits from other loops, get there. The one module that runs a loop in a thread.

It knows loops, threads and awaitables; what a Flock is, it does not.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar

from flock.crossing import Call, Loop, blocked, in_notebook, named, refuse_to_block, running_loop, warn_of_blocking
from flock.model.errors import ClosedError, ConfigurationError, FlockError, SyncInLoopError

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
HomeKind = Literal["auto", "background", "caller"]
logger = logging.getLogger("flock")
PATIENCE: Final = 5.0  # seconds that work which is cancelled has for its clean-up
_LOOK: Final = 0.2  # seconds after which whoever waits looks whether the loop is still there


def run_sync(async_fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:  # noqa: ANN401
    """Run an async function to its end and give what it returned; from scripts, threads, notebooks and running loops.

    All calls of a process share one event loop in the background, so what is bound to a loop, as connections are, can
    be kept from call to call. Raises what the function raised, TimeoutError after `timeout` seconds, and
    SyncInLoopError where it would wait for itself. It warns once per place that blocks a running loop.
    """
    return _shared().call(async_fn, *args, timeout=timeout)


class Source(Protocol[T_co]):
    """What is iterated over with `await`, and closed before its end."""

    def __anext__(self) -> Awaitable[T_co]:
        """Give the next item."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Give no more."""
        ...


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
        self._host: _Host | None = None
        self._lock = threading.Lock()
        _portals().add(self)

    # ---- from an event loop

    def is_home(self) -> bool:
        """Say whether the running loop is the home; it becomes that when there is none."""
        running = asyncio.get_running_loop()
        return self.loop is running or self.closed or self._settle(running) is running

    async def hop(self, async_fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await on the home loop, from another one; cancelling the wait cancels the work and waits for its clean-up."""
        here, home = asyncio.get_running_loop(), self._settle(asyncio.get_running_loop())
        self._refuse_blocked(home)
        over: asyncio.Future[None] = here.create_future()
        call = Call(functools.partial(async_fn, *args, **kwargs), functools.partial(_wake, here, over))
        self._start(call, home)
        try:
            while not over.done():
                await asyncio.wait({over}, timeout=_LOOK)
                self._look(call, home)
        except asyncio.CancelledError:
            call.cancel(home)
            await asyncio.wait({over}, timeout=PATIENCE)
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
        if self.closed:
            return _shared().call(async_fn, *args, timeout=timeout, **kwargs)
        if self._kind == "caller" and not self._is_open():
            _refuse_to_start(self._name)
        running, home = running_loop(), self._settle(None)
        if running is home:
            refuse_to_block(async_fn)
        self._refuse_blocked(home)
        ended = threading.Lock()
        ended.acquire()
        call = Call(functools.partial(async_fn, *args, **kwargs), ended.release)
        if running is not None:
            call.block(running)
            if not in_notebook():
                warn_of_blocking(async_fn)
        try:
            self._start(call, home)
            if not self._wait(call, home, ended, timeout):
                _refuse_to_wait_longer(async_fn, timeout)
        except BaseException:
            call.cancel(home)
            ended.acquire(timeout=PATIENCE)
            raise
        finally:
            self._let_go(call)
        return call.outcome()

    def _wait(self, call: Call[Any], home: Loop, ended: threading.Lock, timeout: float | None) -> bool:
        """Wait for the end; False when that takes longer than the timeout."""
        left = float("inf") if timeout is None else max(0.0, timeout)
        task = None if running_loop() is None else asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        while not ended.acquire(timeout=min(_LOOK, left)):
            left -= min(_LOOK, left)
            if not left:
                return False
            if task is not None and task.cancelling() > before:  # as `asyncio.run` does when it is interrupted
                raise asyncio.CancelledError
            self._look(call, home)
        return True

    def iterate_blocking(self, source: Source[T]) -> Generator[T, None, None]:
        """Iterate over what lives at home; leaving early closes it there."""
        try:
            while True:
                try:
                    item = self.call(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if running_loop() is not None and running_loop() is self.loop:  # collected as garbage there
                _ = asyncio.get_running_loop().create_task(_close(source))
            else:
                self.call(source.aclose)

    def close(self, *, at_once: bool = False) -> None:
        """Await the ending at home, and end the loop that was started for it, with all that still runs there; once."""
        if running_loop() is not None and running_loop() is self.loop:
            refuse_to_block(self.close)
        try:
            if self._ending is not None and not self.closed:
                (self if self._is_open() else _shared()).call(self._ending, at_once)
        finally:
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
                if running is not None and self._kind != "background" and not (self._kind == "auto" and in_notebook()):
                    self.loop = home = running
                else:
                    self._host = host = _Host(self._name, self._loop_factory)
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
        if not call.over and self._host is None and not home.is_running():
            raise ClosedError(f"the event loop of {self._name!r} has ended meanwhile")

    def _refuse_blocked(self, home: Loop) -> None:
        if home in blocked.get():
            raise SyncInLoopError(
                f"the event loop of {self._name!r} is blocked by the call that leads here, which would wait for ever: "
                "await that call instead"
            )

    def forget(self) -> None:
        """Begin anew in the child of a fork: the parent's loop and thread are not here."""
        self._lock = threading.Lock()
        self.loop = self._host = None
        if self._on_fork is not None:
            self._on_fork()


class _Host:
    """An event loop in a thread of its own. It goes on whatever is raised on it, until it is stopped."""

    def __init__(self, name: str, loop_factory: Callable[[], Loop] | None) -> None:
        """Start the thread, a daemon: nothing on it keeps the process from its end, where it is stopped."""
        self.loop = (loop_factory or asyncio.new_event_loop)()
        self.calls: set[Call[Any]] = set()  # for which somebody waits
        self._stopping = False
        _end_at_exit()
        self._thread = threading.Thread(target=self._work, name=f"flock home loop of {name}", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """End soon."""
        self._stopping = True
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self.loop.stop)

    def stop(self) -> None:
        """End, and wait for that."""
        self.ask_to_stop()
        if self._thread is not threading.current_thread():
            self._thread.join(4 * PATIENCE)

    def _work(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self._stopping:
            self._guard(loop.run_forever)
        self._guard(self._wind_up)
        for call in list(self.calls):
            call.end(ClosedError("the event loop was closed before this was done"))
        asyncio.set_event_loop(None)
        loop.close()

    def _guard(self, work: Callable[[], object]) -> None:
        """Run the loop; what breaks it goes to those who wait for it."""
        try:
            work()
        except BaseException as error:
            waiting = [call for call in list(self.calls) if not call.over]
            for call in waiting:
                call.fail(error)
            if not waiting:
                logger.critical("%r was raised on the home loop while nobody waited; it goes on", error, exc_info=error)

    def _wind_up(self) -> None:
        """Cancel what is left, and let it clean up."""
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        for last in (_finish(tasks), loop.shutdown_asyncgens(), _end_executor(loop)):
            loop.run_until_complete(asyncio.wait({loop.create_task(last)}, timeout=PATIENCE))


async def _finish(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


async def _end_executor(loop: Loop) -> None:
    with suppress(RuntimeError):  # at the end of the process some versions start no thread, which this needs
        await loop.shutdown_default_executor()


async def _close(source: Source[Any]) -> None:
    await source.aclose()


def _wake(loop: Loop, over: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # that loop has ended: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if over.done() else over.set_result(None))


def _refuse_to_wait_longer(async_fn: Callable[..., object], timeout: float | None) -> None:
    raise TimeoutError(f"{named(async_fn)} took longer than {timeout:g} s")


def _refuse_to_start(name: str) -> None:
    if running_loop() is not None:
        raise SyncInLoopError(f"home='caller': the loop that runs here becomes the home of {name!r} by an `await`")
    raise FlockError(f"home='caller' starts no loop for {name!r}: await it first, or use home='background'")


# ---- one per process


@functools.cache
def _shared() -> Portal:
    return Portal("run_sync", "background")


@functools.cache
def _portals() -> weakref.WeakSet[Portal]:
    """Give all that there are, which begin anew in the child of a fork."""
    portals: weakref.WeakSet[Portal] = weakref.WeakSet()
    os.register_at_fork(after_in_child=_forget_all)
    return portals


def _forget_all() -> None:
    for portal in list(_portals()):
        portal.forget()


@functools.cache
def _end_at_exit() -> None:
    """End all loops in the background with the interpreter, while threads can still be started."""
    importlib.import_module("concurrent.futures.thread")  # whose own end is to come later
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(_end_all)


def _end_all() -> None:
    shared = _shared()
    started = [each for each in list(_portals()) if each.has_thread and each is not shared]
    for portal in [*started, shared]:
        try:
            portal.close(at_once=True)
        except BaseException:
            logger.exception("closing at the end of the process failed")
