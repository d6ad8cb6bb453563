"""Answers that threads owe to event loops and give as soon as they can, as those of a store."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_owed: Final = set[asyncio.Future[Any]]()


def owe(future: asyncio.Future[Any]) -> None:
    """Note that a thread works on an answer, until it is there or nobody waits for it."""
    _owed.add(future)
    future.add_done_callback(_owed.discard)


def owes(loop: asyncio.AbstractEventLoop) -> bool:
    """Say whether a thread works on an answer for this loop; a clock of tests must not overtake it."""
    return any(future.get_loop() is loop for future in tuple(_owed))
