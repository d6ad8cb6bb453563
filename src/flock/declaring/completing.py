"""Completing a declaration: what can never work is refused; the rest becomes an agent with the ids that stores know."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from flock.core.agent import Agent, EngineStep, Hook, Subscription
from flock.model.collect import Batch, Gather, Hold, Stage, seconds
from flock.model.errors import ConfigurationError
from flock.model.evaluation import OutputGroup
from flock.model.ledger import Target
from flock.model.payload import type_name
from flock.ports import Engine


def complete(declared: Agent, engines: Iterable[object]) -> Agent:
    """Complete an agent; raises ConfigurationError for combinations that can never work."""
    if declared.streams and declared.best_of > 1:
        _refuse(declared, "an async generator publishes as it goes, so best_of can't choose among candidates")
    if declared.streams and len(declared.outputs) > 1:
        _refuse(declared, "an async generator serves one publishes(...) group")
    steps = tuple(map(_step_of, engines))
    alone = len(steps) == 1 and steps[0].before is None and steps[0].after is None
    return replace(
        declared,
        subscriptions=tuple(_completed(declared)),
        outputs=declared.outputs or (OutputGroup(declared=False),),
        engines=steps,
        direct_call=steps[0].evaluate if alone else None,
        shortcut=steps[0].shortcut if alone else None,
    )


def _completed(declared: Agent) -> Iterator[Subscription]:
    """Refuse subscriptions that can never fire, and give the others their ids and targets."""
    labels: Counter[str] = Counter()
    for each in declared.subscriptions:
        if each.join is not None and sum(each.counts) == 1:
            _refuse(declared, f"a join needs two artifacts or more; {each.types[0].__name__} alone is one")
        if each.replay and each.mode == "direct":
            _refuse(declared, "replay=True means nothing for mode='direct'")
        label = each.name or _fingerprint(each)
        labels[label] += 1
        if labels[label] > 1:
            if each.name is not None:
                raise ConfigurationError(f"agent {declared.name!r} has two subscriptions named {each.name!r}")
            label = f"{label}~{labels[label]}"
        target = Target(
            subscription=f"{declared.name}/{label}", agent=declared.name, stages=tuple(_stages(each)),
            board_wide=each.scope == "board", priority=each.priority, batches=each.batch is not None,
            slots=tuple(kind.__name__ for kind in each.types),
        )  # fmt: skip
        yield each._replace(id=target.subscription, target=target)


def _refuse(declared: Agent, why: str) -> NoReturn:
    raise ConfigurationError(f"agent {declared.name!r}: {why}")


def _stages(subscription: Subscription) -> Iterator[Stage]:
    need, join, batch = subscription.counts, subscription.join, subscription.batch
    if join is None:
        if sum(need) > 1:
            yield Gather(need=need)
    elif isinstance(join.within, timedelta):
        yield Gather(need=need, keyed=True, within=join.within.total_seconds())
    else:
        yield Gather(need=need, keyed=True, last=join.within)
    if batch is not None:
        yield Batch(size=batch.size, timeout=None if batch.timeout is None else seconds("timeout", batch.timeout))
    if subscription.when is not None:
        yield Hold(condition=subscription.when)


def _fingerprint(of: Subscription) -> str:
    """Identify a subscription over restarts by its shape; predicates have no stable text and are left out."""
    join = None if of.join is None else str(of.join.within)
    batch = None if of.batch is None else (of.batch.size, str(of.batch.timeout))
    shape = (tuple(type_name(kind) for kind in of.types), of.counts, of.scope, join, batch)
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:12]


def _step_of(engine: Any) -> EngineStep:  # noqa: ANN401 - any object with evaluate
    """Look which hooks an engine has of its own."""
    name = str(getattr(engine, "name", None) or type(engine).__name__)
    before, after = (_own_hook(engine, hook) for hook in ("on_pre_evaluate", "on_post_evaluate"))
    return EngineStep(name, engine.evaluate, before, after, engine.shortcut if isinstance(engine, Engine) else None)


def _own_hook(engine: Any, name: str) -> Hook | None:  # noqa: ANN401
    inherited = getattr(engine.__class__, name, None) is getattr(Engine, name)
    return None if inherited else getattr(engine, name, None)
