"""The laws of forks: a history that goes on from any of its moments elsewhere ends as it would have ended."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flock.board.ports import restorable
from flock.declaring.conditions import When
from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold
from flock.model.events import Waiting
from flock.model.ledger import Activation, Commit, Direct, Offer, Query, Settle, Target, Tick
from flock.model.payload import type_name
from flock.ports import Store
from flock.stores.memory import MemoryStore
from flock.stores.sqlite.store import SQLiteStore
from flock.testing import FakeClock
from flock.testing.store_contract.bench import MANY, TYPES, Note

RUNS = ("one", "two")
COUNT = When.count(Note).at_least(2)


class Way(NamedTuple):
    """Which records a subscription takes: by their number, into which slot, under which key, how late."""

    target: Target
    takes: Callable[[int], int | None]
    key: Callable[[int], str] = lambda _: ""
    late: float = 0.0


def _target(agent: str, *stages: Any, **parts: Any) -> Target:
    return Target(subscription=f"{agent}/only", agent=agent, stages=stages, **parts)


def _even(number: int) -> int | None:
    return number % 2


def _all(_: int) -> int | None:
    return 0


WAYS = (
    Way(_target("plain", priority=1), lambda number: 0 if number % 3 == 0 else None),
    Way(_target("gate", Gather(need=(1, 2))), _even),
    Way(_target("across", Gather(need=(2, 1)), board_wide=True), _even),
    Way(_target("join", Gather(need=(1, 1), within=20.0, keyed=True)), _even, lambda number: f"s:{number % 3}"),
    Way(_target("last", Gather(need=(1, 1), last=3, keyed=True)), _even, lambda number: f"s:{number % 4}"),
    Way(_target("batch", Batch(size=3), batches=True), _all),
    Way(_target("timed", Batch(size=4, timeout=15.0), batches=True), _all),
    Way(_target("both", Gather(need=(1, 1)), Batch(size=2, timeout=25.0), batches=True), _even),
    Way(_target("when", Hold(COUNT)), lambda number: 0 if number % 2 else -1),
    Way(_target("late", Batch(size=2), batches=True), lambda number: 0 if number % 5 == 0 else None, late=12.0),
)
CLOCK, DIRECT = _target("clock"), _target("direct")
AGENTS = [way.target.agent for way in WAYS] + ["clock", "direct"]


class Step(NamedTuple):
    """One thing that happens: `many` and `number` mean what its kind makes of them."""

    what: Literal["publish", "work", "fail", "pass", "flush", "cancel", "tick", "invoke"]
    many: int = 1
    number: int = 0


STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("publish"), st.integers(1, 4), st.integers(0, 30)),
        st.builds(Step, st.just("work"), st.integers(0, 3), st.integers(0, len(AGENTS) - 1)),
        st.builds(Step, st.just("fail"), st.just(1), st.integers(0, len(AGENTS) - 1)),
        st.builds(Step, st.just("pass"), st.integers(1, 12)),
        st.builds(Step, st.sampled_from(["flush", "tick", "invoke"])),
        st.builds(Step, st.just("cancel"), st.just(1), st.integers(0, 40)),
    ),
    min_size=1,
    max_size=20,
)  # fmt: skip


def offers(records: Sequence[Record]) -> list[Offer]:
    """Give what records match."""
    found: list[Offer] = []
    for record in records:
        assert isinstance(record.snapshot, Note)
        number = int(record.snapshot.text)
        for way in WAYS:
            slot, due = way.takes(number), record.created + way.late if way.late else 0.0
            found += [] if slot is None else [Offer(way.target, record, slot, way.key(number), due)]
    return found


class Play:
    """A store on which a history is played, step by step."""

    def __init__(self, store: Store, start: float | None = None, seed: int = 0) -> None:
        """Begin at a time."""
        self.store = store
        self.clock = FakeClock(seed=seed) if start is None else FakeClock(start, seed=seed)

    async def open(self) -> Play:
        self.store.declare([CLOCK, DIRECT, *[way.target for way in WAYS]])
        await self.store.open(self.clock, TYPES)
        return self

    def _record(self, id: str, number: int, run: str) -> Record:
        return Record(
            id=id, type=type_name(Note), snapshot=Note(text=str(number)), run=run, created=self.clock.now()
        )  # fmt: skip

    def _output(self, index: int, slot: int, of: Activation) -> Record:
        return replace(
            self._record(f"{index}-out-{slot}", index + slot, of.run), produced_by=of.agent, activation_id=of.id,
            slot=slot, depth=of.depth, parents=_ids(of.inputs),
        )  # fmt: skip

    async def do(self, index: int, step: Step) -> None:
        """Do one step, second by second, since nothing says who is first of what is due at once."""
        await self._act(index, step)
        for _ in range(step.many if step.what == "pass" else 1):
            self.clock.advance_to(self.clock.now() + 1.0)
            await self.store.tick({})

    async def _act(self, index: int, step: Step) -> None:
        store, run = self.store, RUNS[step.number % 2]
        match step.what:
            case "publish":
                numbers = range(step.number, step.number + step.many)
                await self._publish([self._record(f"{index}-{number}", number, run) for number in numbers])
            case "work" | "fail":
                await self._work(index, step)
            case "flush":
                await store.flush(None, {})
            case "cancel" if step.number < 4:  # seldom
                await store.cancel(run=run)
            case "tick":
                await store.commit(Commit(ticks=(Tick(CLOCK, RUNS[0], index + 1, self.clock.now()),)))
            case "invoke":
                record = self._record(f"{index}-in", index, RUNS[1])
                await self._publish([record], Direct(f"direct-{index}", DIRECT, (record,), RUNS[1]))
            case "cancel" | "pass":
                pass

    async def _publish(self, records: Sequence[Record], direct: Direct | None = None) -> None:
        if not (await self.store.progress(records[0].run)).was_cancelled:
            await self.store.commit(Commit(records, offers(records), direct=direct))

    async def _work(self, index: int, step: Step) -> None:
        for lease in await self.store.claim({AGENTS[step.number]: MANY}, 1):
            made = lease.activation
            gone = (await self.store.progress(made.run)).was_cancelled
            outputs = [self._output(index, slot, made) for slot in range(0 if gone else step.many)]
            settle = Settle("done") if step.what == "work" else Settle("failed", error="no")
            await self.store.commit(Commit(outputs, offers(outputs), lease=lease, settle=settle))

    # ---- looks

    async def told(self) -> object:
        """Give all that a store tells of its board, without the ids of activations, which differ."""
        store = self.store
        records = await store.query(Query())
        waiting = {run: Counter(map(_plain, await store.waiting(run))) for run in (None, *RUNS)}
        progress = [(await store.progress())._replace(known=True), *[await store.progress(run) for run in RUNS]]
        work = [await store.work(run) for run in (None, *RUNS)]
        artifacts = [(_parts(record), await self._maker(record.activation_id)) for record in records]
        had = [await self._had(record.id) for record in records]
        related = [[each.id for each in await store.children([record.id])] for record in records]
        return artifacts, had, related, waiting, progress, work, dict(await store.timers()), sorted(await store.runs())

    async def _maker(self, id: str | None) -> object:
        made = None if id is None else await self.store.activation(id)
        if made is None:
            return None
        return made.agent, made.subscription, made.run, made.state, made.attempt, made.error, _ids(made.inputs)

    async def _had(self, id: str) -> Counter[object]:
        return Counter([(await self._maker(each.activation), each.state) for each in await self.store.consumptions(id)])

    async def ready(self) -> list[object]:
        """Give, at the end, what can be claimed agent by agent, with all that an attempt is told."""
        leases = await self.store.claim(dict.fromkeys(AGENTS, MANY), MANY)
        return [
            (
                each.agent, each.run, each.runs, _ids(each.inputs), [_ids(group) for group in each.groups],
                each.is_batch, each.trigger, each.iteration, each.fire_time, each.depth, each.priority, each.ordinal,
            )
            for each in sorted((lease.activation for lease in leases), key=lambda it: it.agent)
        ]  # fmt: skip


def _ids(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple([record.id for record in records])


def _parts(record: Record) -> str:
    return repr(replace(record, activation_id=None))


def _plain(waiting: Waiting) -> Waiting:
    return waiting if waiting.reason not in {"ready", "running", "retry"} else waiting._replace(detail="")


async def forked(source: SQLiteStore, at: int, target: Store, start: float) -> Play:
    """Copy a board as of a sequence, and open the copy."""
    clock = FakeClock(start, seed=7)
    await target.open(clock, TYPES)
    await restorable(target).restore(source.image(at))
    await target.close()
    return await Play(target, start, seed=9).open()


async def history(folder: Path, steps: Sequence[Step]) -> tuple[Play, dict[int, tuple[int, float, object]]]:
    """Play a history; gives the last step at each sequence, with its time and what the board told."""
    play = await Play(SQLiteStore(folder / "board.db", synchronous="normal")).open()
    moments: dict[int, tuple[int, float, object]] = {}
    for index, step in enumerate(steps):
        await play.do(index, step)
        moments[(await play.store.progress()).sequence] = (index, play.clock.now(), await play.told())
    return play, moments


async def check_every_moment(folder: Path, steps: Sequence[Step]) -> None:
    play, moments = await history(folder, steps)
    assert isinstance(play.store, SQLiteStore)
    source, ended = play.store, await play.told()
    forks: list[Play] = []
    for at, (index, time, told) in moments.items():
        for target in (MemoryStore(), SQLiteStore(folder / f"fork-{at}.db", synchronous="normal")):
            fork = await forked(source, at, target, time)
            assert await fork.told() == told
            for later, step in enumerate(steps[index + 1 :], index + 1):
                await fork.do(later, step)
            assert await fork.told() == ended
            forks.append(fork)
    ready = await play.ready()
    for fork in forks:
        assert await fork.ready() == ready
        await fork.store.close()
    await source.close()


async def check_every_sequence(folder: Path, steps: Sequence[Step]) -> None:
    play, moments = await history(folder, steps)
    assert isinstance(play.store, SQLiteStore)
    for at in range(max(moments) + 1):
        target = SQLiteStore(folder / f"fork-{at}.db", synchronous="normal")
        fork = await forked(play.store, at, target, play.clock.now())
        memory = await forked(play.store, at, MemoryStore(), play.clock.now())
        records = await target.query(Query())
        assert [*map(repr, records)] == [*map(repr, await play.store.query(Query(until=at)))]
        assert [*map(repr, await memory.store.query(Query()))] == [*map(repr, records)]
        for record in records:
            await _check_places(fork, record)
        again = SQLiteStore(folder / f"again-{at}.db", synchronous="normal")
        told = await fork.told()
        assert await memory.told() == told
        twice = await forked(target, at, again, play.clock.now())
        assert await twice.told() == told
        for each in (target, twice.store):
            await each.close()
    await play.store.close()


async def _check_places(fork: Play, record: Record) -> None:
    """See that an artifact is in one place for each subscription that it was offered to, or was let go."""
    assert isinstance(fork.store, SQLiteStore)
    store = fork.store
    offered = {offer.target.subscription for offer in offers([record]) if offer.slot >= 0}
    fates = {fate.subscription: fate.state for fate in await store.fates(record.id)}
    cancelled = (await store.progress(record.run)).was_cancelled
    places: Counter[str] = Counter()
    for each in await store.waiting():
        if each.reason not in {"ready", "running", "retry"}:
            places.update([each.subscription] * each.artifacts.count(record.id))
    for consumption in await store.consumptions(record.id):
        made = await store.activation(consumption.activation)
        assert made is not None
        places[made.subscription] += 1
    places["direct/only"] = 0
    for subscription in offered:
        gone = cancelled or fates[subscription] in {"expired", "withdrawn"}
        assert places[subscription] == 1 or (gone and not places[subscription]), (subscription, fates)


def _play(check: Callable[[Path, Sequence[Step]], Any], steps: Sequence[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="flock-forks-") as folder:
        asyncio.run(check(Path(folder), steps))


@pytest.mark.timeout(300)
@settings(max_examples=12)
@given(STEPS)
def test_a_fork_at_any_moment_tells_what_the_board_told_and_ends_as_it_does(steps: list[Step]) -> None:
    _play(check_every_moment, steps)


@pytest.mark.timeout(300)
@settings(max_examples=8)
@given(STEPS)
def test_a_fork_at_any_sequence_has_every_artifact_in_one_place(steps: list[Step]) -> None:
    _play(check_every_sequence, steps)
