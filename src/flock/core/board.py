"""Reading the board, for an identity or for the operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from flock.model.artifact import Artifact, Record
from flock.model.context import Lineage
from flock.model.errors import VisibilityError
from flock.model.ledger import Consumption, Query
from flock.model.payload import members
from flock.model.visibility import PUBLIC

if TYPE_CHECKING:
    from flock.core.roster import Catalog
    from flock.model.visibility import Identity
    from flock.ports import Clock, Store

M = TypeVar("M", bound=BaseModel)


def sees(identity: Identity | None, record: Record, now: float) -> bool:
    """Say whether an identity may see a record now; the operator (None) sees all."""
    if identity is None or record.visibility is PUBLIC:
        return True
    return record.due <= now and record.visibility.allows(identity)


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
        ends = [end for end in (until, as_of) if end is not None]
        query = Query(
            types=self._names(types),
            run=correlation_id,
            tags=frozenset({tags} if isinstance(tags, str) else tags),
            produced_by=produced_by,
            since=since,
            until=min(ends, default=None),
            limit=limit if self._identity is None else None,
            offset=offset if self._identity is None else 0,
        )
        found = self._seen(await self._store.query(query))
        if self._identity is None:
            return found
        return found[offset : None if limit is None else offset + limit]

    async def lineage(self, artifact: Artifact | str) -> Lineage:
        """Give ancestors and descendants; raises VisibilityError when the artifact is not there or not for you."""
        key = artifact if isinstance(artifact, str) else artifact.id
        own = await self.get(key)
        if own is None:
            message = f"there is no artifact {key!r} on this board for you"
            raise VisibilityError(message)
        up: dict[str, Record] = {}
        edge: Sequence[Record] = [own.record]
        while edge:
            wanted = [parent for record in edge for parent in record.parents if parent not in up]
            edge = await self._store.get(wanted)
            up.update({record.id: record for record in edge})
        down: dict[str, Record] = {}
        edge = [own.record]
        while edge:
            children = await self._store.children([record.id for record in edge])
            edge = [record for record in children if record.id not in down]
            down.update({record.id: record for record in edge})
        ancestors, descendants = self._seen(up.values()), self._seen(down.values())
        return Lineage(artifact=own, ancestors=tuple(ancestors), descendants=tuple(descendants))

    async def consumptions(self, artifact: Artifact | str) -> Sequence[Consumption]:
        """Say which activations had it as an input; nothing when it is not for you."""
        key = artifact if isinstance(artifact, str) else artifact.id
        return () if await self.get(key) is None else await self._store.consumptions(key)

    async def runs(self) -> Sequence[str]:
        """Name the runs, oldest first."""
        return await self._store.runs()

    def _names(self, types: Any) -> frozenset[str]:  # noqa: ANN401 - what query takes
        names: set[str] = set()
        for kind in members(types):
            names |= self._types.names_of(_as_model(kind) or self._types.resolve(kind))
        return frozenset(names)

    def _seen(self, records: Iterable[Record]) -> Sequence[Artifact]:
        now = self._clock.now()
        found = [Artifact.of(record) for record in records if sees(self._identity, record, now)]
        return sorted(found, key=_sequence)


def _as_model(kind: object) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _sequence(artifact: Artifact) -> int:
    return artifact.sequence
