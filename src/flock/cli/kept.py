"""A board that is kept: opened for a look, which disturbs nobody, or for a change."""

import datetime as dt
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from flock.board.ports import KeepingStore
from flock.board.reader import BoardReader
from flock.cli.errors import UsageError
from flock.core.clock import SystemClock
from flock.core.roster import Catalog
from flock.direct.wait import status_of
from flock.model.artifact import Artifact
from flock.model.evaluation import FAILURE, Failure
from flock.model.events import RunStatus
from flock.model.ledger import Query
from flock.ports import Clock, Store
from flock.stores.url import open_store

T = TypeVar("T")
PAGE = 500  # artifacts read at once
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Choice(NamedTuple):
    """Which artifacts are asked for; types as users write them."""

    types: Sequence[str] = ()
    run: str | None = None
    agent: str | None = None
    tags: Sequence[str] = ()
    since: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """A board that is open."""

    store: KeepingStore
    reads: BoardReader

    async def find(self, id: str) -> Artifact:
        """Give an artifact by its id or its position on the board; raises UsageError when there is none."""
        found = await self.reads.get(id)
        if found is None and id.isdecimal():
            position = int(id)
            at = await self.store.query(Query(since=position - 1, until=position))
            found = Artifact.of(at[0]) if at else None
            if found is None and 0 < position <= (await self.store.progress()).sequence:
                raise UsageError(f"the artifact at {position} was pruned: what is left of it is shown by its id")
        if found is None:
            raise UsageError(f"there is no artifact {id!r} on this board: `list` shows those that are there")
        return found

    async def query(self, choice: Choice) -> Query:
        """Give the query for a choice; raises UsageError for types that are not on the board."""
        return Query(
            types=await self.type_names(choice.types), run=choice.run, tags=frozenset(choice.tags),
            produced_by=choice.agent, since=choice.since,
        )  # fmt: skip

    async def unknown(self, run: str | None, agent: str | None = None) -> Sequence[str]:
        """Say which of a run and an agent the board knows nothing of."""
        said: list[str] = []
        if run is not None and run not in await self.store.runs():
            said.append(f"there is no run {run!r} on this board: `runs` lists those that are there")
        if agent is not None and not await self.store.query(Query(produced_by=agent, limit=1)):
            said.append(f"nothing on this board was made by {agent!r}")
        return said

    async def type_names(self, types: Sequence[str]) -> frozenset[str]:
        """Find types by their stable or simple names; raises UsageError for one that is not there, or ambiguous."""
        if not types:
            return frozenset()
        known = sorted(await self.store.kinds())
        return frozenset(_type_name(each, known) for each in types)

    async def run(self, name: str) -> RunStatus:
        """Say where a run stands, as `Flock.status` does."""
        progress = await self.store.progress(name)
        found = await self.store.query(Query(types=frozenset({FAILURE}), run=name)) if progress.newest_failure else ()
        return status_of(progress, [each.snapshot for each in found if isinstance(each.snapshot, Failure)])

    async def pages(self, query: Query) -> AsyncGenerator[Artifact]:
        """Give what a query finds, a page at a time."""
        while found := await self.store.query(query._replace(limit=PAGE)):
            for record in found:
                yield Artifact.of(record)
            query = query._replace(since=found[-1].sequence)


async def looked(url: str, read: Callable[[Kept], Awaitable[T]]) -> T:
    """Read from the board at a URL; creates nothing, and disturbs no flock that works on it."""
    store, clock, types = _store_at(url), SystemClock(), Catalog()
    await store.look(clock, types)
    return await _used(store, clock, types, read)


async def changed(url: str, change: Callable[[Kept], Awaitable[T]]) -> T:
    """Change the board at a URL, which has to be there."""
    store, clock, types = _store_at(url), SystemClock(), Catalog()
    await store.open(clock, types)
    return await _used(store, clock, types, change)


async def _used(store: KeepingStore, clock: Clock, types: Catalog, use: Callable[[Kept], Awaitable[T]]) -> T:
    try:
        return await use(Kept(store, BoardReader(store, clock, types)))
    finally:
        await store.close()


def _store_at(url: str) -> KeepingStore:
    store: Store = open_store(url)
    if isinstance(store, KeepingStore):
        return store
    raise UsageError(f"{url} keeps nothing to look at: name a store that does, as in sqlite:///board.db")


def _type_name(name: str, known: Sequence[str]) -> str:
    found = [each for each in known if name in {each, each.rpartition(":")[2]}]
    if len(found) == 1 or name in found:
        return name if name in found else found[0]
    if found:
        raise UsageError(f"type {name!r} is ambiguous: use one of {', '.join(found)}")
    raise UsageError(f"there is no {name!r} on this board; its types: {', '.join(known) or 'none'}")


def time_of(text: str) -> float:
    """Read an age such as 30d, or an ISO time (UTC unless it says otherwise), as UTC seconds."""
    age = re.fullmatch(r"(\d+)([smhdw])", text)
    if age is not None:
        return SystemClock().now() - int(age[1]) * _UNITS[age[2]]
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no age (90m, 12h, 30d, 2w) and no ISO time (2026-01-31)") from None
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()
