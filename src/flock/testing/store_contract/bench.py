"""Where a store is tried out: short words for what the rules do through the port."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from flock.model.artifact import Record
from flock.model.collect import Stage
from flock.model.errors import StoreError
from flock.model.evaluation import Failure
from flock.model.ledger import Commit, Committed, Direct, Lease, Offer, Settle, Target, Tick
from flock.model.payload import type_name
from flock.ports import Store
from flock.testing.clock import FakeClock

RUN = "run"
MANY = 1_000


@types.coroutine
def turn() -> Generator[None]:
    """Let the loop turn once."""
    yield


class Note(BaseModel):
    """What the rules publish."""

    text: str = ""


class Mark(Note):
    """Another type to publish."""


class _Types:
    """The types that the rules publish."""

    def find(self, name: str) -> type[BaseModel] | None:
        """Look a name up."""
        return next((cls for cls in (Note, Mark, Failure) if type_name(cls) == name), None)


TYPES = _Types()


class Bench:
    """One store on a fake clock that stands still until a rule lets time pass."""

    def __init__(self, store: Store, clock: FakeClock, again: Callable[[Store], Store] | None = None) -> None:
        """Try out a store that is not open yet."""
        self.store = store
        self.clock = clock
        self._again = again
        self._targets: list[Target] = []

    async def open(self) -> Committed:
        """Open the store."""
        self.store.declare(self._targets)
        return await self.store.open(self.clock, TYPES)

    async def reopen(self) -> Committed:
        """Close the store and open it again."""
        await self.store.close()
        if self._again is not None:
            self.store = self._again(self.store)
        return await self.open()

    # ---- things

    def note(self, id: str, *, run: str = RUN, kind: type[Note] = Note, **parts: Any) -> Record:  # noqa: ANN401
        """Make a record that no store has seen; its text is its id, unless another snapshot is given."""
        snapshot: BaseModel = parts.setdefault("snapshot", kind(text=id))
        return Record(id=id, type=type_name(type(snapshot)), run=run, created=self.clock.now(), **parts)

    def target(self, agent: str, *stages: Stage, **parts: Any) -> Target:  # noqa: ANN401
        """Make the one subscription of an agent."""
        target = Target(subscription=f"{agent}/only", agent=agent, stages=stages, **parts)
        self._targets.append(target)
        self.store.declare([target])
        return target

    # ---- steps

    async def commit(self, *offers: Offer, more: Iterable[Record] = (), **parts: Any) -> Committed:  # noqa: ANN401
        """Commit offers together with their records, and other records."""
        records = list({offer.record.id: offer.record for offer in offers}.values())
        return await self.store.commit(Commit(records=[*records, *more], offers=offers, **parts))

    async def put(
        self,
        target: Target,
        *ids: str,
        run: str = RUN,
        slot: int = 0,
        key: str = "",
        **parts: Any,  # noqa: ANN401
    ) -> Committed:
        """Publish notes for one subscription, in one commit."""
        return await self.commit(*[Offer(target, self.note(each, run=run), slot, key) for each in ids], **parts)

    async def tick(self, agent: str, iteration: int, *, run: str = RUN) -> Committed:
        """Fire an agent's schedule."""
        fired = Tick(self.target(agent), run, iteration, self.clock.now())
        return await self.store.commit(Commit(ticks=(fired,)))

    async def invoke(self, id: str, agent: str, *records: Record, run: str = RUN) -> Committed:
        """Make a direct activation of records."""
        fresh = [record for record in records if not record.sequence]
        direct = Direct(id, self.target(agent), records, run, "00-trace")
        return await self.store.commit(Commit(records=fresh, direct=direct))

    async def claim(self, *agents: str, limit: int = MANY, most: int = MANY) -> Sequence[Lease]:
        """Lease what is ready for these agents."""
        return list(await self.store.claim(dict.fromkeys(agents, limit), most))

    async def one(self, agent: str) -> Lease:
        """Lease the only activation that is ready for an agent."""
        (lease,) = await self.claim(agent)
        return lease

    async def settle(self, lease: Lease, settle: Settle | None = None, **parts: Any) -> Committed:  # noqa: ANN401
        """End an attempt: done, unless told otherwise."""
        return await self.commit(lease=lease, settle=settle or Settle("done"), **parts)

    async def wait(self, seconds: float, limits: Mapping[str, int] | None = None) -> Committed:
        """Let time pass and the store do what is due."""
        self.clock.advance_to(self.clock.now() + seconds)
        return await self.store.tick(limits or {})

    # ---- looks

    async def fired(self, *agents: str) -> list[list[str]]:
        """Lease what is ready and give the ids of the inputs."""
        return [inputs(lease) for lease in await self.claim(*agents)]

    async def board(self) -> list[str]:
        """Give the ids of all artifacts in board order."""
        return [record.id for record in await self.store.follow(0, MANY)]

    async def everything(self, *runs: str) -> object:
        """Give all that the port tells of the board and of runs."""
        store = self.store
        told = [(await store.progress(run), await store.work(run), await store.waiting(run)) for run in (None, *runs)]
        return told, await self.board(), dict(await store.timers()), list(await store.runs())

    @asynccontextmanager
    async def refused(self, error: type[Exception] = StoreError, *runs: str) -> AsyncGenerator[None, None]:
        """Expect that what is done inside raises this and changes nothing."""
        before = await self.everything(*(runs or (RUN,)))
        try:
            yield
        except error:
            after = await self.everything(*(runs or (RUN,)))
            if after != before:
                raise AssertionError(f"a refused step changed the board:\n{before}\n{after}") from None
            return
        raise AssertionError(f"{error.__name__} was to be raised")


def inputs(lease: Lease) -> list[str]:
    """Give the ids of an activation's inputs."""
    return [record.id for record in lease.activation.inputs]


def ids(records: Iterable[Record]) -> list[str]:
    """Give the ids of records."""
    return [record.id for record in records]
