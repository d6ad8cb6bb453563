"""Looking back, and after what a store keeps: the board as its operator has it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

from flock.board.ports import Fate, KeepingStore, Pruned, Retention, StoreInfo, keeping, restorable
from flock.board.reader import BoardReader
from flock.board.why import Known, WhyNot, answer
from flock.core.agent import Agent
from flock.core.roster import Catalog
from flock.model.artifact import Artifact
from flock.model.errors import ConfigurationError
from flock.model.events import Waiting
from flock.model.ledger import Activation
from flock.ports import Clock, Store

Joined = tuple[Agent, int]  # an agent, and the board's last sequence before it was there


class Program(NamedTuple):
    """What a board's operator has beside the store: agents by what users name them with, all of them, and stores."""

    find: Callable[[Any], Joined]
    agents: Callable[[], Mapping[str, Agent]]
    store: Callable[[str | Store], Store]


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
        known = Known(taken, waits, fates, record.sequence <= before)
        return [answer(declared, subscription, record, known) for subscription in declared.subscriptions]

    async def replay(self, until: Artifact | int | None = None) -> BoardKeeper:
        """Give the board as it was at a sequence (None: now), to read: a copy in memory on which nothing ever runs.

        Raises ConfigurationError for a sequence that the board does not have yet.
        """
        copy = await self._copied("memory://", "until", until)
        copy.declare([each.target for agent in self._program.agents().values() for each in agent.subscriptions])
        return self._reading(copy)

    def _reading(self, store: Store) -> BoardKeeper:
        """Give another board to read as this one is."""
        return BoardKeeper(store, self._clock, self._types, self._program)

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
        copy = restorable(self._program.store(store))
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
