"""Reading the board, for an identity or for the operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from flock.core.roster import Catalog
from flock.model.artifact import Artifact, Record
from flock.model.context import Lineage, Maker, Why
from flock.model.errors import VisibilityError
from flock.model.ledger import Consumption, Query
from flock.model.payload import members
from flock.model.visibility import Identity
from flock.ports import Clock, Store

M = TypeVar("M", bound=BaseModel)


class BoardReader:
    """Reads of one board. For an identity every read leaves out what that may not see."""

    __slots__ = ("_clock", "_identity", "_store", "_types")

    def __init__(self, store: Store, clock: Clock, types: Catalog, identity: Identity | None = None) -> None:
        """Read for an identity, or for the operator."""
        self._store = store
        self._clock = clock
        self._types = types
        self._identity = identity

    async def list(self) -> Sequence[Artifact]:
        """Give all artifacts in board order."""
        return await self.query()

    async def get(self, id: str) -> Artifact | None:
        """Give one artifact, or None when it is not there or not for you."""
        found = self._seen(await self._store.get([id]))
        return found[0] if found else None

    async def get_by_type(self, kind: type[M]) -> Sequence[M]:
        """Give the payloads of a type, subclasses included, in board order."""
        return [artifact.payload for artifact in await self.query(kind)]

    async def query(
        self,
        types: Any = (),  # noqa: ANN401 - a class, a name or several
        *,
        correlation_id: str | None = None,
        tags: Iterable[str] = (),
        produced_by: str | None = None,
        since: int = 0,
        until: int | None = None,
        limit: int | None = None,
        offset: int = 0,
        as_of: int | None = None,
    ) -> Sequence[Artifact]:
        """Give matching artifacts in board order. `since` (exclusive), `until` and `as_of` are sequences."""
        mine = self._identity is not None  # then limit and offset count what it may see
        query = Query(
            types=self._names(types),
            run=correlation_id,
            tags=frozenset({tags} if isinstance(tags, str) else tags),
            produced_by=produced_by,
            since=since,
            until=min((end for end in (until, as_of) if end is not None), default=None),
            limit=None if mine else limit,
            offset=0 if mine else offset,
        )
        found = self._seen(await self._store.query(query))
        return found[offset : None if limit is None else offset + limit] if mine else found

    async def lineage(self, artifact: Artifact | str) -> Lineage:
        """Give ancestors and descendants; raises VisibilityError when the artifact is not there or not for you."""
        own = await self._own(artifact)
        up = await self._all(own.record, lambda edge: self._store.get([each for r in edge for each in r.parents]))
        down = await self._all(own.record, lambda edge: self._store.children([record.id for record in edge]))
        return Lineage(own, tuple(up), tuple(down))

    async def why(self, artifact: Artifact | str) -> Why:
        """Say what made it, of which inputs; raises VisibilityError when it is not there or not for you."""
        own = await self._own(artifact)
        record, now, made_by = own.record, self._clock.now(), None
        if record.activation_id is not None:
            made_by = Maker(record.activation_id, record.produced_by)
            made = await self._store.activation(record.activation_id)
            if made is not None:
                made_by = Maker(made.id, made.agent, made.subscription, made.attempt, made.state.value)
        inputs = [each for each in await self._store.get(record.parents) if self._sees(each, now)]
        return Why(own, made_by, tuple(map(Artifact.of, inputs)))

    async def consumptions(self, artifact: Artifact | str) -> Sequence[Consumption]:
        """Say which activations had it as an input; nothing when it is not for you."""
        key = _id(artifact)
        return () if await self.get(key) is None else await self._store.consumptions(key)

    async def runs(self) -> Sequence[str]:
        """Name the runs, oldest first."""
        return await self._store.runs()

    async def _own(self, artifact: Artifact | str) -> Artifact:
        own = await self.get(_id(artifact))
        if own is None:
            raise VisibilityError(f"there is no artifact {_id(artifact)!r} on this board for you")
        return own

    async def _all(
        self, own: Record, step: Callable[[Iterable[Record]], Awaitable[Sequence[Record]]]
    ) -> Sequence[Artifact]:
        """Follow one way through the lineage to its end; gives what was met on it, as far as it may be seen."""
        met: dict[str, Record] = {}
        edge = {own.id: own}
        while edge:
            edge = {record.id: record for record in await step(edge.values()) if record.id not in met}
            met |= edge
        return self._seen(met.values())

    def _names(self, types: Any) -> frozenset[str]:  # noqa: ANN401 - what query takes
        known = self._types
        models = [_as_model(kind) or known.resolve(kind) for kind in members(types)]
        return frozenset(name for model in models for name in known.names_of(model))

    def _sees(self, record: Record, now: float) -> bool:
        return self._identity is None or record.seen_by(self._identity, now)

    def _seen(self, records: Iterable[Record]) -> Sequence[Artifact]:
        now = self._clock.now()
        found = sorted((record for record in records if self._sees(record, now)), key=_sequence)
        return [Artifact.of(record) for record in found]


def _as_model(kind: object) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _id(artifact: Artifact | str) -> str:
    return artifact if isinstance(artifact, str) else artifact.id


def _sequence(record: Record) -> int:
    return record.sequence
