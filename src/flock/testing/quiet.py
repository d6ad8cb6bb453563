"""Noticing that nothing on an event loop can run."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sized
from math import ceil

from flock.core.clock import SystemClock

_SLICE = 0.001  # seconds between two looks while other threads have time
_UNSEEN = 0.01  # seconds of patience with a loop that does not show what is ready
_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}
_real = SystemClock()


def when_quiet(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[], None],
    *,
    patience: Callable[[], float] = lambda: 0.0,
    first: bool = False,
) -> None:
    """Call back once, on this loop, at a moment when nothing there can run, after `patience()` real seconds of that.

    One callback per such moment, in the order of asking; those that ask as `first` come before all others. Call it on
    the loop itself.
    """
    watch = _watches.get(loop)
    if watch is None:
        for gone in [each for each in _watches if each.is_closed()]:
            del _watches[gone]
        watch = _watches[loop] = _Watch(loop)
    watch.add(callback, patience, first=first)


class _Watch:
    """Looks at one loop as long as anybody asks; one watch per loop, so that two never see each other as work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: deque[tuple[Callable[[], None], Callable[[], float]]] = deque()
        self._looking = False
        self._was_quiet = False

    def add(self, callback: Callable[[], None], patience: Callable[[], float], *, first: bool) -> None:
        (self._asked.appendleft if first else self._asked.append)((callback, patience))
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        # The one private look: asyncio's own loops keep what is ready in `_ready`. It has been filled with all I/O
        # and timers of this round before the first callback of the round runs, and this callback is taken out.
        ready: Sized | None = getattr(self._loop, "_ready", None)
        patience = self._asked[0][1]()
        if ready:
            self._was_quiet = False
        elif not self._was_quiet:
            # One quiet look is not enough: the loop may be about to stop, or not know yet of what threads have done.
            self._was_quiet = True
            if ready is None:
                _real.call_at(_real.now() + max(patience, _UNSEEN), self._look)
                return
            _wait_for_threads(ready, patience)
        else:
            self._was_quiet = False
            self._asked.popleft()[0]()
            if not self._asked:
                self._looking = False
                return
        self._loop.call_soon(self._look)


def _wait_for_threads(ready: Sized, seconds: float) -> None:
    """Hold the loop, which has nothing to do, until another thread gives it something or the time is over."""
    pause = threading.Event()
    for _ in range(ceil(seconds / _SLICE)):  # each of which may take long on a machine with much to do
        if ready:
            return
        pause.wait(_SLICE)
