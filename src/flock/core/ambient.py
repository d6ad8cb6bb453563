"""Where the running code is: in which run, and in which activation."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flock.core.slots import Turn
    from flock.core.threads import Threads
    from flock.model.artifact import Record


@dataclass(slots=True, eq=False)
class Ambient:
    """One level: a `traced_run` or an activation of one Flock. `outer` is the level around it."""

    board: object
    run: str
    outer: Ambient | None = None
    activation: str | None = None
    agent: str = ""
    inputs: tuple[Record, ...] = ()
    depth: int = 0
    turn: Turn | None = None
    threads: Threads | None = None


current: ContextVar[Ambient | None] = ContextVar("flock_ambient", default=None)


def here(board: object) -> Ambient | None:
    """Give the innermost level of this board."""
    found = current.get()
    while found is not None and found.board is not board:
        found = found.outer
    return found


def acting(board: object) -> Ambient | None:
    """Give the innermost activation of this board around the running code."""
    found = here(board)
    while found is not None and (found.activation is None or found.board is not board):
        found = found.outer
    return found
