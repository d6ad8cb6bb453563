"""Flock: the class that users enter."""

from __future__ import annotations

from typing import Any

from flock.blocking import SyncFlock
from flock.declaring.enlist import AgentName
from flock.model.artifact import Artifact
from flock.orchestrator import Orchestrator


class Flock(Orchestrator):
    """A board and the agents on it.

    What is `async` may be awaited on any event loop, and `sync` has the blocking twin of each call. Use it as a context
    manager, `async with flock` or `with flock.sync`, to shut down cleanly; without that it starts at first use.
    """

    def run(self, agent: AgentName, *inputs: Any, timeout: float | None = None) -> list[Artifact]:  # noqa: ANN401 - as arun
        """Do what `arun` does and block until then, from anywhere but the event loop that the Flock lives on."""
        return self.sync.run(agent, *inputs, timeout=timeout)

    @property
    def sync(self) -> SyncFlock:
        """The blocking twin of every call, for code that does not `await`."""
        return SyncFlock(self, self.portal)
