"""Interrupts, as Ctrl-C, that come between two steps and never in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted(wake: Callable[[], object]) -> Generator[None]:
    """Have what handles SIGINT and SIGTERM, which may raise at any line, run after the body only.

    `wake` is called when one comes, so that a body that waits can end. Signals are handled in the main thread alone:
    in others this does nothing.
    """
    came: list[tuple[int, FrameType | None]] = []

    def put_off(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        wake()

    main = threading.current_thread() is threading.main_thread()
    handlers = {each: found for each in _INTERRUPTS if main and callable(found := signal.getsignal(each))}
    try:
        for each in handlers:
            signal.signal(each, put_off)
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number, frame in came:
            handlers[signal.Signals(number)](number, frame)
