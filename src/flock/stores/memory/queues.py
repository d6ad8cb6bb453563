"""The memory store's queues: which activation of an agent is next, and how many run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from flock.model.ledger import Activation, Lease, State
from flock.stores.activating import urgency, urgency_of


class Queue:
    """The ready activations of one agent, best first, and how many of its activations run."""

    __slots__ = ("_line", "_others", "running", "waiting")

    def __init__(self) -> None:
        """Start empty."""
        self.running = 0
        self.waiting = 0
        self._line: deque[Activation] = deque()  # those that came in order, which nearly all do
        self._others: list[tuple[tuple[int, int], Activation]] = []  # a heap of the rest

    def put(self, activation: Activation) -> None:
        """Let a ready activation wait."""
        self.waiting += 1
        line = self._line
        if not line or (line[-1].priority >= activation.priority and line[-1].order < activation.order):
            line.append(activation)
        else:
            heapq.heappush(self._others, (urgency(activation), activation))

    def lease(self, activation: Activation) -> Lease:
        """Run an activation."""
        self.running += 1
        activation.state = State.RUNNING
        activation.epoch = epoch = activation.epoch + 1
        activation.attempt = attempt = activation.attempt + 1
        return Lease(activation, epoch, attempt)

    def lease_up_to(self, limit: int) -> Iterable[Lease]:
        """Run what waits, until so many run."""
        while self.waiting and self.running < limit:
            activation = self._next()
            if activation.state is State.READY:  # else it was cancelled meanwhile
                yield self.lease(activation)

    def _next(self) -> Activation:
        self.waiting -= 1
        line, others = self._line, self._others
        if not others or (line and urgency(line[0]) < others[0][0]):
            return line.popleft()
        return heapq.heappop(others)[1]


class Queues:
    """A queue per agent that has ever had an activation."""

    def __init__(self) -> None:
        """Start with no agents."""
        self._by_agent: dict[str, Queue] = {}
        self.fresh: list[Activation] = []  # made ready in the step of the store that is under way
        self._freed: list[str] = []  # agents that have room since this step, or may have

    def put_back(self, activation: Activation) -> None:
        """Make an activation that was leased ready again."""
        queue = self._by_agent[activation.agent]
        queue.running -= 1
        activation.state = State.READY
        queue.put(activation)

    def leave(self, activation: Activation) -> None:
        """Count an activation as running no longer."""
        queue = self._by_agent[activation.agent]
        queue.running -= 1
        if queue.waiting:
            self._freed.append(activation.agent)

    def settle_down(self, limits: Mapping[str, int] | None) -> Sequence[Lease]:
        """End a step: lease what it made ready, and what it made room for, as far as the limits allow."""
        leases: list[Lease] = []
        limits = {} if limits is None else limits
        if self.fresh:
            self._admit(limits, leases)
        if self._freed:
            for agent in self._freed:
                leases += self._by_agent[agent].lease_up_to(limits.get(agent, 0))
            self._freed.clear()
            if len(leases) > 1:
                leases.sort(key=urgency_of)
        return leases

    def _admit(self, limits: Mapping[str, int], leases: list[Lease]) -> None:
        """Lease the fresh ones that need not wait, the most urgent first, and queue the others."""
        fresh, queues = self.fresh, self._by_agent
        if len(fresh) > 1:
            fresh.sort(key=urgency)
        for activation in fresh:
            agent = activation.agent
            queue = queues.get(agent)
            if queue is None:
                queue = queues[agent] = Queue()
            room = queue.running < limits.get(agent, 0)
            if room and not queue.waiting:
                leases.append(queue.lease(activation))
                continue
            queue.put(activation)
            if room:
                self._freed.append(agent)
        fresh.clear()

    def claim(self, limits: Mapping[str, int]) -> list[Lease]:
        """Lease what is ready of these agents, the most urgent first."""
        queues = ((self._by_agent.get(agent), limit) for agent, limit in limits.items())
        leases = [lease for queue, limit in queues if queue is not None for lease in queue.lease_up_to(limit)]
        leases.sort(key=urgency_of)
        return leases
