"""The processes that work on one file: who is there, and whose work is taken over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flock.stores.sqlite.presence import Presence, clean, is_gone, wake
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.steps import Steps

_LOOK: Final = 1.0  # seconds between two looks at the others' locks
_DEAF_LOOK: Final = 0.1  # the same, where hints can't be had
_BEATS: Final = 3  # heartbeats in the time of a lease
Act = Callable[[Steps], object]


class Workers:
    """This process among those on a file. Called from the writer's thread.

    Heartbeats are real time, whatever the board's clock says: they are between processes.
    """

    def __init__(self, board: Path, steps: Steps, token: str, lease: float) -> None:
        """Take the lock; `lease` is the time (s) without a heartbeat after which work is given to others."""
        self._board = board.resolve()  # what is beside it is found there, also by who came by a link
        self._steps = steps
        self._lease = lease
        self.presence = Presence(self._board, token)
        self._number = 0
        self._peers: list[tuple[int, str, float, float]] = []
        self._beaten = 0.0
        self._version = 0
        self._looked = time.monotonic()
        self.on_taken: Callable[[], None] = _ignore

    def join(self, steps: Steps) -> None:
        """Register, and take over what the processes that are gone have left."""
        self._beaten = time.time()
        row = (self.presence.token, os.getpid(), self._lease, self._beaten)
        self._number = steps.activations.worker = steps.db.execute(SQL["add_worker"], row).lastrowid or 0
        self.load()
        self._take_over(steps, [peer for peer in self._peers if is_gone(self._board, peer[1])])
        steps.db.execute(SQL["orphans"])
        self._serve(steps)
        steps.refresh()

    def declare(self, steps: Steps) -> None:
        """Say which agents this process has; what they had waiting may be due soon, with no commit to say so."""
        self._serve(steps)
        steps.refresh()
        if steps.next_due() is not None:
            self.on_taken()

    def leave(self, steps: Steps) -> None:
        """Deregister."""
        steps.activations.recover()
        steps.db.execute(SQL["unserve"], (self._number,))
        steps.db.execute(SQL["drop_worker"], (self._number,))

    def load(self) -> None:
        """Read who else is there."""
        self._peers = self._steps.db.execute(SQL["workers"], (self._number,)).fetchall()

    def wake(self) -> None:
        """Hint to the others that something has changed."""
        if self._peers:
            wake(self._board, [token for _, token, _, _ in self._peers], self.presence.socket)

    @property
    def _look(self) -> float:
        return _LOOK if self.presence.socket is not None else _DEAF_LOOK

    @property
    def patience(self) -> float:
        """Seconds until `pulse` is to be called, zero or less when it is time."""
        beat = self._lease / _BEATS
        return self._looked + (min(self._look, beat) if self._peers else beat) - time.monotonic()

    def pulse(self) -> Act | None:
        """Give what is to be done now: a heartbeat while something runs here, and taking over from who is gone."""
        self._looked = time.monotonic()
        db, now = self._steps.db, time.time()
        self.load()
        gone = [peer for peer in self._peers if is_gone(self._board, peer[1])]
        stuck = [peer for peer in self._peers if peer not in gone and peer[3] + peer[2] < now and self._runs(peer[0])]
        beat = now - self._beaten >= self._lease / _BEATS and self._steps.activations.some_run
        if self.presence.socket is None and self._has_changed():
            self.on_taken()
        silent = db.execute(SQL["count_declared"]).fetchone()[0] < len(self._steps.targets)  # a step failed
        if not (gone or stuck or beat or silent):
            return None
        if beat:
            self._beaten = now

        def act(steps: Steps) -> None:
            db.execute(SQL["beat"], (now, self._number))
            if silent:
                self.declare(steps)
            self._take_over(steps, gone)
            for number, _, _, _ in stuck:
                db.execute(SQL["overdue"], (number,))
            if gone or stuck:
                steps.refresh()
                self.on_taken()

        return act

    def _has_changed(self) -> bool:
        """Say whether another process has written since the last time."""
        before, (self._version,) = self._version, self._steps.db.execute("PRAGMA data_version").fetchone()
        return before != self._version

    def _runs(self, worker: int) -> bool:
        return bool(self._steps.db.execute(SQL["runs_here"], (worker,)).fetchone()[0])

    def _take_over(self, steps: Steps, gone: list[tuple[int, str, float, float]]) -> None:
        for number, token, _, _ in gone:
            steps.db.execute(SQL["crashed"], (number,))
            steps.db.execute(SQL["unserve"], (number,))
            steps.db.execute(SQL["drop_worker"], (number,))
            clean(self._board, token)

    def _serve(self, steps: Steps) -> None:
        agents = {target.agent for target in steps.targets.values()}
        steps.db.executemany(SQL["serve"], [(self._number, agent) for agent in agents])
        steps.db.executemany(SQL["declare"], [(subscription,) for subscription in steps.targets])
        steps.shelves.find_dues(steps.targets)


def _ignore() -> None:
    return
