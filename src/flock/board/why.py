"""Why an agent had an artifact, or had it not: from what the store knows, else from what matching says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flock.board.ports import Fate, FateState
from flock.core.agent import Agent, Subscription
from flock.core.match import Entry, Objection, Rejection, Route, match, route, ways_into
from flock.core.publish import said
from flock.declaring.arguments import All
from flock.model.artifact import Record
from flock.model.evaluation import FAILURE
from flock.model.events import Waiting
from flock.model.ledger import Activation, Offer
from flock.model.payload import Unreadable

Verdict = Literal[FateState, "refused", "missed", "gone"]


class WhyNot(NamedTuple):
    """What became of an artifact with one subscription of an agent, and the reason in plain words.

    `consumed` names the `activation`: that is a yes. `refused` never matched; `missed` came before the agent, or from a
    process without it; `expired` and `withdrawn` were let go, `gone` as well, but the store keeps no record of how.
    `due` (UTC seconds) is when the wait ends or has ended.
    """

    subscription: str
    verdict: Verdict
    reason: str
    activation: str | None = None
    due: float | None = None


_LET_GO: Mapping[str, str] = {"expired": "given up at the end of its window", "withdrawn": "its run was cancelled"}
_EARLIER = WhyNot("", "missed", "it was there before the agent, which has replay=False")
_ELSEWHERE = WhyNot("", "missed", "a process that does not have this agent has published it")
_GONE = WhyNot("", "gone", "collected, then let go: its window or its run has ended, and the store keeps no more")


class Known(NamedTuple):
    """What a store knows of an artifact by subscriptions: which activations had it, what waits with it, its fates.

    `fates` is None where the store keeps none; `earlier` says that the artifact was there before the agent.
    """

    taken: Mapping[str, Activation]
    waits: Mapping[str, Waiting]
    fates: Mapping[str, Fate] | None
    earlier: bool


def answer(agent: Agent, subscription: Subscription, record: Record, known: Known) -> WhyNot:
    """Say what became of an artifact with one subscription of an agent; its predicates are asked again."""
    id = subscription.id
    otherwise = _EARLIER if known.earlier else _GONE if known.fates is None else _ELSEWHERE
    found = _told(id, known) or _refused(agent, subscription, record, known.taken)
    return found or otherwise._replace(subscription=id)


def refusal(agent: Agent, subscription: Subscription, record: Record) -> str | None:
    """Say why a subscription does not match a record; None when it does."""
    if subscription.mode == "direct":
        return 'mode="direct": it runs only when it is invoked'
    payload = record.snapshot
    if isinstance(payload, Unreadable):
        return f"this program can't read it: {payload.reason}"
    slots = [entry for entry in ways_into(agent, subscription) if entry.slot >= 0]
    found = route(type(payload), slots).entries
    if not found:
        wanted = " and ".join(kind.__name__ for kind in subscription.types)
        hint = ": a Failure goes only to those that name it" if record.type == FAILURE else ""
        return f"it takes {wanted}, not {record.type}{hint}"
    ((_, entry),) = found
    objection = entry.objection(record)
    return _said_no(entry, record) if objection is None else _objected(entry, record, objection)


def _told(id: str, known: Known) -> WhyNot | None:
    """Answer from what the store knows of a subscription and an artifact."""
    if id in known.taken:
        return WhyNot(id, "consumed", _ran(known.taken[id]), known.taken[id].id)
    if id in known.waits:
        reason, due, detail = known.waits[id].reason, known.waits[id].due, known.waits[id].detail
        if reason == "after":
            return WhyNot(id, "delayed", f"nobody may see it before {_time(due)}", due=due)
        return WhyNot(id, "waiting", f"{reason}: {detail}" + (f", until {_time(due)}" if due else ""), due=due)
    if known.fates is not None and id in known.fates:
        _, _, state, at, detail = known.fates[id]
        parts = (_LET_GO.get(state, state), _time(at), detail)
        return WhyNot(id, state, ", ".join(filter(None, parts)), due=at)
    return None


def _refused(
    agent: Agent, subscription: Subscription, record: Record, taken: Mapping[str, Activation]
) -> WhyNot | None:
    """Answer by what matching says, where the store knows nothing of a subscription and an artifact."""
    id, against = subscription.id, refusal(agent, subscription, record)
    direct = taken.get(agent.direct.subscription)
    if direct is not None and (against is None or subscription.mode == "direct"):
        return WhyNot(id, "consumed", f"handed to it directly: {_ran(direct)}", direct.id)
    return None if against is None else WhyNot(id, "refused", against)


def _said_no(entry: Entry, record: Record) -> str | None:
    """Ask predicates and key one by one, as matching does."""
    where, key = entry.where, entry.key
    predicates = where.predicates if isinstance(where, All) else () if where is None else (where,)
    for asked, keyed in [*[(each, None) for each in predicates], *([] if key is None else [(None, key)])]:
        offers: list[Offer] = []
        rejections: list[Rejection] = []
        single = Route([(asked, replace(entry, key=keyed))], choosy=True, shy=frozenset())
        match(single, record, offers, rejections)
        name = f"its predicate {_name(asked)}" if keyed is None else f"the key of its join, {_name(keyed)},"
        for _, _, error in rejections:
            return f"{name} raised {type(error).__name__}: {said(error)}"
        if not offers:
            return f"{name} said no"
    return None


def _objected(entry: Entry, record: Record, objection: Objection) -> str:
    match objection:
        case "visibility":
            return f"{entry.identity.name} may not see it: {record.visibility!r}"
        case "own output":
            return f"{entry.identity.name} made it itself, and prevent_self_trigger is on"
        case "tags":
            return f"it lacks the tags {', '.join(sorted(entry.tags - record.tags))}"
        case "producer":
            return f"it comes from {record.produced_by}, not from {' or '.join(sorted(entry.from_agents))}"
        case "run":
            return f"it belongs to run {record.run!r}, not {entry.run!r}"


def _name(asked: object) -> str:
    """Name a function; a lambda by where it stands."""
    name = str(getattr(asked, "__name__", type(asked).__name__))
    code: Any = getattr(asked, "__code__", None)
    return f"in {Path(code.co_filename).name}, line {code.co_firstlineno}," if name == "<lambda>" and code else name


def _ran(activation: Activation) -> str:
    error = "" if activation.error is None else f": {activation.error}"
    return f"activation {activation.id} is {activation.state.value}{error}"


def _time(at: float | None) -> str:
    return "" if at is None else dt.datetime.fromtimestamp(at, dt.UTC).isoformat(sep=" ", timespec="seconds")
