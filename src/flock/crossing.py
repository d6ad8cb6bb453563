"""Crossing to another event loop: one awaitable there on behalf of somebody elsewhere, and what speaks against it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

from flock.model.errors import BlockingCallWarning, ConfigurationError, SyncInLoopError

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop
_UNSET: Final = object()
blocked: contextvars.ContextVar[tuple[Loop, ...]] = contextvars.ContextVar("flock_blocked", default=())
"""The loops that stand still until the running code is done."""
_warned: set[tuple[str, int]] = set()  # places in code


class Call(Generic[T]):
    """One awaitable on a home loop, on behalf of somebody elsewhere; `on_end` is called there."""

    __slots__ = ("__weakref__", "_async_fn", "_cancelled", "_context", "_error", "_on_end", "_task", "_value", "over")

    def __init__(self, async_fn: Callable[[], Awaitable[T]], on_end: Callable[[], object]) -> None:
        """Take the caller's context along."""
        self._async_fn = async_fn
        self._on_end = on_end
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self.over = False

    def block(self, running: Loop) -> None:
        """Take along that this loop stands still meanwhile."""
        self._context.run(blocked.set, (*blocked.get(), running))

    def start(self, home: Loop) -> None:
        """Begin soon."""
        home.call_soon_threadsafe(self._begin, home)

    def _begin(self, home: Loop) -> None:
        if self._cancelled:
            self.end(asyncio.CancelledError())
        elif not self.over:
            self._task = _start_task(home, self._run(), self._context)

    async def _run(self) -> None:
        """Await; nothing is raised here, so that no error of a caller's ends the loop."""
        error: BaseException | None = None
        try:
            self._value = await _awaitable(self._async_fn)
        except BaseException as raised:  # noqa: BLE001 - it is the caller's
            error = raised
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Tell the caller that it is over, once."""
        if not self.over:
            self._error = error
            self.over = True
            self._on_end()

    def cancel(self, home: Loop) -> None:
        """Cancel the work, from anywhere; it has taken its first step before, so that what it shields goes on."""
        with suppress(RuntimeError):  # the loop is gone, and the work with it
            home.call_soon_threadsafe(home.call_soon, self._cancel)

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()
            self._task.add_done_callback(lambda _: self.end(asyncio.CancelledError()))  # it may never have started

    def fail(self, error: BaseException) -> None:
        """End for the caller with an error that has broken the loop, and cancel the work."""
        self.end(error)
        self._cancel()

    def outcome(self) -> T:
        """Give what came of it, in the caller's context, with the context variables that it has changed."""
        for variable, value in self._context.items():
            if variable is not blocked and variable.get(_UNSET) is not value:
                variable.set(value)
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            del error, self


def _start_task(home: Loop, work: Coroutine[Any, Any, None], context: contextvars.Context) -> asyncio.Task[None]:
    """Start a task with its first step at once, where Python can: what needs no other is over before the next turn."""
    if sys.version_info >= (3, 12) and home.get_task_factory() is None:
        return asyncio.Task(work, loop=home, context=context, eager_start=True)
    return home.create_task(work, context=context)


def _awaitable(async_fn: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    given = async_fn()
    if not isinstance(given, Awaitable):
        raise ConfigurationError(f"a blocking call takes an async function; {named(async_fn)} is none")
    return given


def running_loop() -> Loop | None:
    """Give the event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def in_notebook() -> bool:
    """Say whether this is a Jupyter kernel, whose cells run inside its event loop."""
    found = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return found is not None and getattr(found(), "kernel", None) is not None


def named(async_fn: Callable[..., object]) -> str:
    """Name a function as its author has."""
    while isinstance(async_fn, functools.partial):
        async_fn = async_fn.func
    return getattr(async_fn, "__name__", None) or type(async_fn).__name__


def refuse_to_block(fn: Callable[..., object]) -> None:
    """Raise SyncInLoopError that says what to write instead."""
    name = named(fn)
    raise SyncInLoopError(
        f"this runs on the event loop that the call needs: write `await {name}(...)` instead of the blocking call"
    )


def warn_of_blocking(async_fn: Callable[..., object]) -> None:
    """Warn of a call that makes a running loop stand still, once per place in the user's code."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    place = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    if place in _warned:
        return
    _warned.add(place)
    text = f"{named(async_fn)}: a blocking call makes the event loop around it stand still; await it there instead"
    warnings.warn(text, BlockingCallWarning, stacklevel=level)
