"""Looking back, and after what a store keeps: the board as its operator has it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

from flock.core.agent import Agent, Every, Subscription
from flock.core.board import BoardReader
from flock.core.match import Entry, Objection, Rejection, Route, match, route, ways_into
from flock.core.publish import said
from flock.core.roster import Catalog
from flock.model.artifact import Artifact, Record
from flock.model.errors import ConfigurationError, StoreError
from flock.model.evaluation import FAILURE
from flock.model.events import Waiting
from flock.model.history import WhyNot
from flock.model.ledger import Activation, Fate, Offer, Pruned, Retention, StoreInfo
from flock.model.payload import Unreadable
from flock.ports import Clock, KeepingStore, Store

_LET_GO: Mapping[str, str] = {"expired": "given up at the end of its window", "withdrawn": "its run was cancelled"}
_EARLIER = WhyNot("", "missed", "it was there before the agent, which has replay=False")
_ELSEWHERE = WhyNot("", "missed", "a process that does not have this agent has published it")
_GONE = WhyNot("", "gone", "collected, then let go: its window or its run has ended, and the store keeps no more")
Joined = tuple[Agent, int]  # an agent, and the board's last sequence before it was there


class Program(NamedTuple):
    """What a board's operator has beside the store: agents by what users name them with, all of them, and stores."""

    find: Callable[[Any], Joined]
    agents: Callable[[], Mapping[str, Agent]]
    store: Callable[[str | Store], Store]


def keeping(store: Store) -> KeepingStore:
    """Give a store that keeps what has been; raises StoreError for one that does not."""
    if isinstance(store, KeepingStore):
        return store
    raise StoreError(f"{type(store).__name__} keeps no history: use a store that does, as in 'sqlite:///board.db'")


class BoardKeeper(BoardReader):
    """All reads of a board, what waits and why, and what only stores that keep can do: their past and their upkeep.

    Those two raise StoreError on stores that don't.
    """

    __slots__ = ("_program",)

    def __init__(self, store: Store, clock: Clock, types: Catalog, program: Program) -> None:
        """Read as the operator."""
        super().__init__(store, clock, types)
        self._program = program

    @override
    async def query(
        self,
        types: Any = (),
        *,
        correlation_id: str | None = None,
        tags: Iterable[str] = (),
        produced_by: str | None = None,
        since: int = 0,
        until: int | None = None,
        limit: int | None = None,
        offset: int = 0,
        as_of: Artifact | int | None = None,
    ) -> Sequence[Artifact]:
        """Give matching artifacts in board order.

        `since` (exclusive) and `until` are sequences, `as_of` is one or the artifact that has it. Raises
        ConfigurationError for what can be no sequence.
        """
        return await super().query(
            types, correlation_id=correlation_id, tags=tags, produced_by=produced_by, since=_sequence("since", since),
            until=None if until is None else _sequence("until", until), limit=limit, offset=offset,
            as_of=None if as_of is None else _sequence("as_of", as_of),
        )  # fmt: skip

    async def waiting(self, correlation_id: str | None = None) -> Sequence[Waiting]:
        """Say what waits (in a run): what is collected, held back, or not ended."""
        return await self._store.waiting(correlation_id)

    async def why_not(self, artifact: Artifact | str, agent: Any) -> Sequence[WhyNot]:  # noqa: ANN401 - as Flock.invoke
        """Say for each of an agent's subscriptions what became of an artifact, and why.

        Its predicates are asked again. Raises VisibilityError when the artifact is not there and ConfigurationError
        when the agent is not.
        """
        record = (await self._own(artifact)).record
        declared, before = self._program.find(agent)
        had = [each for each in await self._store.consumptions(record.id) if each.agent == declared.name]
        found = [await self._store.activation(each.activation) for each in had]
        taken = {each.subscription: each for each in found if each is not None}
        held = await self._store.waiting(record.run)
        waits = {each.subscription: each for each in held if record.id in each.artifacts}
        fates: Mapping[str, Fate] | None = None
        if isinstance(self._store, KeepingStore):
            fates = {fate.subscription: fate for fate in await self._store.fates(record.id)}
        otherwise = _EARLIER if record.sequence <= before else _GONE if fates is None else _ELSEWHERE
        return [
            _known(each.id, taken, waits, fates or {}) or _refused(declared, each, record, taken)
            or otherwise._replace(subscription=each.id)
            for each in declared.subscriptions
        ]  # fmt: skip

    async def replay(self, until: Artifact | int | None = None) -> BoardKeeper:
        """Give the board as it was at a sequence (None: now), to read: a copy in memory on which nothing ever runs.

        Raises ConfigurationError for a sequence that the board does not have yet.
        """
        copy = await self._copied("memory://", "until", until)
        copy.declare([each.target for agent in self._program.agents().values() for each in agent.subscriptions])
        return BoardKeeper(copy, self._clock, self._types, self._program)

    async def fork(self, store: str | Store, at: Artifact | int | None = None) -> Store:
        """Copy the board as it was at a sequence (None: now) to another store, which is empty; gives that, closed.

        A Flock on it carries on from there: what was open then runs, what waited goes on. Raises ConfigurationError
        for a sequence that the board does not have yet.
        """
        return await self._copied(store, "at", at)

    async def _copied(self, store: str | Store, name: str, at: Artifact | int | None) -> Store:
        source, position = keeping(self._store), None if at is None else _sequence(name, at)
        if position is not None and position > (last := (await source.progress()).sequence):
            raise ConfigurationError(f"this board has no state at {position} yet: its last sequence is {last}")
        copy = self._program.store(store)
        await copy.open(self._clock, self._types)
        try:
            await copy.restore(source.image(position))
        finally:
            await copy.close()
        return copy

    @override
    async def _own(self, artifact: Artifact | str) -> Artifact:
        if not isinstance(artifact, Artifact | str):
            raise ConfigurationError(f"this takes an artifact or its id, not {artifact!r}")
        return await super()._own(artifact)

    async def failures(self, correlation_id: str | None = None) -> Sequence[Activation]:
        """Give the activations (of a run) that have failed, oldest first; `Flock.retry` tries them again."""
        return await keeping(self._store).failures(correlation_id)

    async def prune(
        self,
        *,
        before: dt.datetime | dt.timedelta | None = None,
        keep_runs: int | None = None,
        types: Any = (),  # noqa: ANN401 - what query takes
    ) -> Pruned:
        """Remove what was made before a time or longer ago, in finished runs beyond the newest few, of some types.

        Each part narrows the choice. What waits or runs stays. Raises ConfigurationError when
        nothing is chosen, for a time without a zone, and for a negative age or count.
        """
        names = self._names(types)
        if before is None and keep_runs is None and not names:
            raise ConfigurationError("prune needs to know what may go: give before=, keep_runs= or types=")
        if keep_runs is not None and keep_runs < 0:
            raise ConfigurationError(f"prune(keep_runs=...) takes how many runs to keep, 0 or more, not {keep_runs}")
        end = None if before is None else self._end(before)
        return await keeping(self._store).prune(Retention(end, keep_runs, names))

    def _end(self, before: dt.datetime | dt.timedelta) -> float:
        if isinstance(before, dt.timedelta):
            if before < dt.timedelta(0):
                raise ConfigurationError(f"prune(before=...) takes an age of zero or more, not {before}")
            return self._clock.now() - before.total_seconds()
        if before.tzinfo is None:
            raise ConfigurationError(f"prune(before=...) takes an aware datetime or a timedelta, not {before!r}")
        return before.timestamp()

    async def vacuum(self) -> None:
        """Give the space of what was removed back."""
        await keeping(self._store).vacuum()

    async def info(self) -> StoreInfo:
        """Count and measure what the store holds."""
        return await keeping(self._store).info()


def _sequence(name: str, at: Artifact | int) -> int:
    sequence = at.sequence if isinstance(at, Artifact) else at
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0:
        raise ConfigurationError(
            f"{name}={sequence!r} is no sequence of a board: give a whole number, 1 for the first artifact and 0 for "
            "before it"
        )
    return sequence


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


def _known(
    id: str, taken: Mapping[str, Activation], waits: Mapping[str, Waiting], fates: Mapping[str, Fate]
) -> WhyNot | None:
    """Answer from what the store knows of a subscription and an artifact."""
    if id in taken:
        return WhyNot(id, "consumed", _ran(taken[id]), taken[id].id)
    if id in waits:
        reason, due, detail = waits[id].reason, waits[id].due, waits[id].detail
        if reason == "after":
            return WhyNot(id, "delayed", f"nobody may see it before {_time(due)}", due=due)
        return WhyNot(id, "waiting", f"{reason}: {detail}" + (f", until {_time(due)}" if due else ""), due=due)
    if id in fates:
        _, _, state, at, detail = fates[id]
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
    predicates = where.predicates if isinstance(where, Every) else () if where is None else (where,)
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
