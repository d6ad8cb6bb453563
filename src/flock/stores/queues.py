"""The memory store's queues: which activation of an agent is next, and how many run."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from flock.model.ledger import Activation, Lease, State


class Queue:
    """The ready activations of one agent, best first, and how many of its activations run."""

    __slots__ = ("ready", "running")

    def __init__(self) -> None:
        """Start empty."""
        self.ready: list[tuple[int, int, Activation]] = []
        self.running = 0


class Queues:
    """A queue per agent that has ever had an activation."""

    def __init__(self) -> None:
        """Start with no agents."""
        self._by_agent: dict[str, Queue] = {}

    def put(self, activation: Activation) -> None:
        """Make an activation ready."""
        activation.state = State.READY
        queue = self._by_agent.get(activation.agent)
        if queue is None:
            queue = self._by_agent[activation.agent] = Queue()
        heapq.heappush(queue.ready, (-activation.priority, activation.order, activation))

    def leave(self, activation: Activation) -> None:
        """Count an activation as running no longer."""
        self._by_agent[activation.agent].running -= 1

    def lease(self, agents: Iterable[str], limits: Mapping[str, int]) -> Sequence[Lease]:
        """Lease what is ready of these agents, as far as their limits allow."""
        leases: list[Lease] = []
        for agent in agents:
            limit = limits.get(agent)
            queue = self._by_agent.get(agent)
            if limit is None or queue is None:
                continue
            ready = queue.ready
            while ready and queue.running < limit:
                activation = heapq.heappop(ready)[2]
                if activation.state is not State.READY:
                    continue  # cancelled meanwhile
                queue.running += 1
                activation.state = State.RUNNING
                activation.epoch += 1
                activation.attempt += 1
                leases.append(Lease(activation, activation.epoch, activation.attempt))
        return leases
