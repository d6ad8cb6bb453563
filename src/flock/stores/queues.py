"""The memory store's queues: which activation of an agent is next, and how many run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from flock.model.ledger import Activation, Lease, State

Urgency = tuple[int, int]


class Queue:
    """The ready activations of one agent, best first, and how many of its activations run."""

    __slots__ = ("_line", "_others", "running")

    def __init__(self) -> None:
        """Start empty."""
        self.running = 0
        self._line: deque[Activation] = deque()  # those that came in order, which nearly all do
        self._others: list[tuple[Urgency, Activation]] = []  # a heap of the rest

    def put(self, activation: Activation) -> None:
        """Let a ready activation wait."""
        line = self._line
        if not line or (line[-1].priority >= activation.priority and line[-1].order < activation.order):
            line.append(activation)
        else:
            heapq.heappush(self._others, (urgency(activation), activation))

    def lease(self, activation: Activation) -> Lease:
        """Run an activation."""
        self.running += 1
        activation.state = State.RUNNING
        activation.epoch += 1
        activation.attempt += 1
        return Lease(activation, activation.epoch, activation.attempt)

    def lease_up_to(self, limit: int) -> Iterable[Lease]:
        """Run what waits, until so many run."""
        while self.running < limit and self:
            activation = self._next()
            if activation.state is State.READY:  # else it was cancelled meanwhile
                yield self.lease(activation)

    def __bool__(self) -> bool:
        """Say whether anything waits."""
        return bool(self._line or self._others)

    def _next(self) -> Activation:
        line, others = self._line, self._others
        if not others or (line and urgency(line[0]) < others[0][0]):
            return line.popleft()
        return heapq.heappop(others)[1]


class Queues:
    """A queue per agent that has ever had an activation."""

    def __init__(self) -> None:
        """Start with no agents."""
        self._by_agent: dict[str, Queue] = {}
        self._fresh: list[Activation] = []  # made ready in the step of the store that is under way
        self._freed: list[str] = []  # agents of which one runs no longer

    def add(self, activation: Activation) -> None:
        """Make an activation ready in this step; `settle_down` ends the step."""
        self._fresh.append(activation)

    def put_back(self, activation: Activation) -> None:
        """Make an activation that was leased ready again."""
        queue = self._by_agent[activation.agent]
        queue.running -= 1
        activation.state = State.READY
        queue.put(activation)

    def leave(self, activation: Activation) -> None:
        """Count an activation as running no longer."""
        agent = activation.agent
        self._by_agent[agent].running -= 1
        self._freed.append(agent)

    def settle_down(self, limits: Mapping[str, int] | None) -> Sequence[Lease]:
        """End a step: lease what it made ready, and what it made room for, as far as the limits allow."""
        if not self._fresh and not self._freed:
            return ()
        limits = {} if limits is None else limits
        leases = self._admit(limits)
        for agent in self._freed:
            queue = self._by_agent[agent]
            if queue:
                leases += queue.lease_up_to(limits.get(agent, 0))
        self._freed.clear()
        return leases

    def _admit(self, limits: Mapping[str, int]) -> list[Lease]:
        """Lease the fresh ones that need not wait, the most urgent first, and queue the others."""
        leases: list[Lease] = []
        fresh, queues = self._fresh, self._by_agent
        if len(fresh) > 1:
            fresh.sort(key=urgency)
        for activation in fresh:
            agent = activation.agent
            queue = queues.get(agent)
            if queue is None:
                queue = queues[agent] = Queue()
            if not queue and queue.running < limits.get(agent, 0):
                leases.append(queue.lease(activation))
            else:
                queue.put(activation)
                self._freed.append(agent)
        fresh.clear()
        return leases

    def claim(self, limits: Mapping[str, int]) -> list[Lease]:
        """Lease what is ready of these agents, the most urgent first."""
        queues = ((self._by_agent.get(agent), limit) for agent, limit in limits.items())
        leases = [lease for queue, limit in queues if queue is not None for lease in queue.lease_up_to(limit)]
        leases.sort(key=lambda lease: urgency(lease.activation))
        return leases


def urgency(activation: Activation) -> Urgency:
    """Sort by priority, then by age."""
    return -activation.priority, activation.order
