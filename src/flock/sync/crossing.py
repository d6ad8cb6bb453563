"""Crossing to another event loop: one awaitable there on behalf of somebody elsewhere, and what speaks against it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from flock.model.errors import BlockingCallWarning, ConfigurationError, SyncInLoopError

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop
_UNSET: Final = object()
_Blocking = tuple[Loop, "Call[Any]"]
_blocked: contextvars.ContextVar[tuple[_Blocking, ...]] = contextvars.ContextVar("flock_blocked", default=())
standing: dict[Loop, tuple[Loop, Call[Any]]] = {}
"""Loops that stand still: for which loop, and which call there, each waits."""
_OURS: Final = (f"{Path(__file__).parents[1]}{os.sep}", contextlib.__file__)  # files that are not the code of users
_warned: set[tuple[str, int]] = set()  # places in it


class Call(Generic[T]):
    """One awaitable on a home loop, on behalf of somebody elsewhere; `on_end` is called there."""

    __slots__ = (
        "_async_fn", "_before", "_cancelled", "_context", "_error", "_finished", "_on_end", "_task", "_value", "over",
    )  # fmt: skip

    def __init__(self, async_fn: Callable[[], Awaitable[T]], on_end: Callable[[], object]) -> None:
        """Take the caller's context along."""
        self._async_fn = async_fn
        self._on_end = on_end
        self._context = contextvars.copy_context()
        self._before = self._context.copy()
        self._finished = False
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self.over = False

    @property
    def name(self) -> str:
        """The function's name as its author gave it."""
        return named(self._async_fn)

    def block(self, running: Loop) -> None:
        """Take along that this loop stands still meanwhile."""
        self._context.run(_blocked.set, (*_blocked.get(), (running, self)))

    def start(self, home: Loop) -> None:
        """Begin soon."""
        home.call_soon_threadsafe(self._begin, home)

    def _begin(self, home: Loop) -> None:
        if self._cancelled:
            self.end(asyncio.CancelledError())
        elif not self.over:
            try:  # its first step at once, where Python can: what needs no other is over before the loop's next turn
                if sys.version_info >= (3, 12) and home.get_task_factory() is None:
                    self._task = asyncio.Task(self._run(), loop=home, context=self._context, eager_start=True)
                else:
                    self._task = home.create_task(self._run(), context=self._context)
            except BaseException as error:  # noqa: BLE001 - a task factory of the user's; it is the caller's
                self.end(error)

    async def _run(self) -> None:
        """Await; nothing is raised here, so that no error of a caller's ends the loop."""
        error: BaseException | None = None
        try:
            given = self._async_fn()
            if not hasattr(given, "__await__"):
                _refuse_function(self.name)
            self._value = await given
        except BaseException as raised:  # noqa: BLE001 - it is the caller's
            error = raised
        self._finished = True
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Tell the caller that it is over, once."""
        if not self.over:
            self._error = error
            self.over = True
            self._on_end()

    def cancel(self, home: Loop) -> None:
        """Cancel the work, from anywhere; it has taken its first step before, so that what it shields goes on."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and the work with it
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
        if self._finished:
            for variable, value in self._context.items():
                if variable is not _blocked and self._before.get(variable, _UNSET) is not value:
                    variable.set(value)
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            del error, self


def _refuse_function(name: str) -> NoReturn:
    raise ConfigurationError(f"a blocking call takes an async function; {name} is none")


def is_blocked(loop: Loop) -> bool:
    """Say whether a loop stands still until the running code is done."""
    blocked = _blocked.get()
    return bool(blocked) and any(each is loop and not call.over for each, call in blocked)


def waits_for(loop: Loop, end: Loop) -> Call[Any] | None:
    """Give the call for which a loop stands still, when it is on this one, or on one that waits for this in turn."""
    first = step = standing.get(loop)
    if first is None:
        return None
    seen = {loop}
    while step is not None and step[0] is not end and step[0] not in seen:
        seen.add(step[0])
        step = standing.get(step[0])
    return first[1] if step is not None and step[0] is end else None


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
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    place = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    if place in _warned:
        return
    _warned.add(place)
    text = f"{named(async_fn)}: a blocking call makes the event loop around it stand still; await it there instead"
    warnings.warn(text, BlockingCallWarning, stacklevel=level)
