"""All rules, and how one is checked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType

from flock.ports import Store
from flock.testing.clock import FakeClock
from flock.testing.store_contract import batches, cancelling, commits, gates, joins, leases, reading, restoring, ticks
from flock.testing.store_contract.bench import Bench

Rule = Callable[[Bench], Awaitable[None]]


def _rules_of(module: ModuleType) -> Sequence[Rule]:
    functions = [each for each in vars(module).values() if inspect.iscoroutinefunction(each)]
    return [each for each in functions if each.__module__ == module.__name__ and not each.__name__.startswith("_")]


RULES: Sequence[Rule] = [
    rule
    for module in (commits, leases, gates, joins, batches, ticks, cancelling, reading, restoring)
    for rule in _rules_of(module)
]


async def check(rule: Rule, make: Callable[[], Store], *, again: Callable[[Store], Store] | None = None) -> None:
    """Check one rule on a new, empty store; raises AssertionError when it is broken.

    `again` gives what a new process would use on the same data after a close; without it the same object is opened
    again.
    """
    bench = Bench(make(), FakeClock(), again)
    await bench.open()
    try:
        await rule(bench)
    finally:
        await bench.store.close()


def title(rule: Rule) -> str:
    """Give a rule's name as a sentence."""
    return str(getattr(rule, "__name__", rule)).replace("_", " ")
