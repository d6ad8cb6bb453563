"""Random topologies and histories with crashes: a board in a file ends as one in memory that nothing interrupted."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pydantic import BaseModel
from scenario import problems_of
from typing_extensions import override

from flock import BatchSpec, Context, Flock, JoinSpec, When
from flock.model.ledger import Commit, Committed
from flock.ports import Store
from flock.stores.url import open_store
from flock.testing import FakeClock

HOUR = timedelta(hours=1)
LIVES = 1_000  # attempts: those that a crash took count, too


class A(BaseModel):
    text: str


class B(BaseModel):
    text: str


class C(BaseModel):
    text: str


class D(BaseModel):
    text: str


class E(BaseModel):
    text: str


class F(BaseModel):
    text: str


class G(BaseModel):
    text: str


Item = A | B | C | D | E | F | G
FROM_OUTSIDE: Sequence[type[Item]] = (A, B, C)
MADE: Sequence[type[Item]] = (D, E, F, G)
RUNS = ("default", "other")

Kind = Literal["chain", "gate", "across", "join", "batch", "timed", "hold", "retried"]
NEEDS_ORDER: Sequence[Kind] = ("gate", "join", "batch", "hold")  # what they put together depends on who came first
KEEPS_ORDER: Sequence[Kind] = ("chain", "gate", "batch", "hold")


class Made(NamedTuple):
    """One agent: how it collects, what it takes and gives, and a number that means what its kind makes of it."""

    kind: Kind
    takes: tuple[type[Item], ...]
    gives: type[Item]
    number: int


@st.composite
def topologies(draw: st.DrawFn) -> Sequence[Made]:
    """Give agents, each fed from outside or by those before it, so that order decides nothing that can vary.

    An ordered type comes in the same order in each history: from outside, or from one agent that works one by one on
    what is ordered. A run's outputs of a gate keep their order, but not among those of other runs.
    """
    ordered: list[type[Item]] = list(FROM_OUTSIDE)
    known: list[type[Item]] = list(FROM_OUTSIDE)
    made: list[Made] = []
    for gives in draw(st.sampled_from([MADE[:count] for count in range(1, len(MADE) + 1)])):
        kind = draw(st.sampled_from(cast("Sequence[Kind]", Kind.__args__)))  # type: ignore[attr-defined]
        source: Sequence[type[Item]] = ordered if kind in NEEDS_ORDER else known
        if kind == "across":
            source = FROM_OUTSIDE
        several = kind in {"gate", "across", "join"}
        takes = draw(st.lists(st.sampled_from(source), min_size=1 + several, max_size=1 + several, unique=True))
        made.append(Made(kind, tuple(takes), gives, draw(st.integers(1, 3))))
        known.append(gives)
        if kind in KEEPS_ORDER and all(each in ordered for each in takes):
            ordered.append(gives)
    return made


def build(flock: Flock, topology: Sequence[Made]) -> None:
    """Declare the agents."""
    for made in topology:
        _declare(flock, made)


def _declare(flock: Flock, made: Made) -> None:
    name, gives = made.gives.__name__.lower(), made.gives
    builder = flock.agent(name).publishes(gives).max_concurrency(1)

    async def one(ctx: Context) -> list[Item]:
        return [gives(text=f"{name}({','.join(each.payload.text for each in ctx.artifacts)})")]

    async def each_by_itself(ctx: Context) -> list[Item]:
        return [gives(text=f"{name}({each.payload.text})") for each in ctx.artifacts]

    async def at_last(ctx: Context) -> list[Item]:
        if ctx.attempt <= made.number:
            raise ConnectionError("no line")
        return await one(ctx)

    options: dict[Kind, dict[str, Any]] = {
        "across": {"scope": "board"},
        "join": {"join": JoinSpec(by=lambda item: len(item.text) % 2, within=HOUR)},
        "batch": {"batch": BatchSpec(size=1 + made.number)},
        "timed": {"batch": BatchSpec(timeout=made.number)},
        "hold": {"when": When.count(made.takes[0]).at_least(made.number)},
    }
    bodies: dict[Kind, Callable[[Context], Awaitable[list[Item]]]] = {"timed": each_by_itself, "retried": at_last}
    builder.consumes(*made.takes, **options.get(made.kind, {})).calls(bodies.get(made.kind, one))
    if made.kind == "retried":
        builder.retry(LIVES, delay=0.1, jitter=False)


# ---- what both boards do


class Step(NamedTuple):
    """What happens from outside: a publish, a wait for idleness, or time that passes."""

    what: Literal["publish", "idle", "pass"]
    number: int = 0
    kind: type[Item] = A
    run: str = RUNS[0]


async def do(flock: Flock, clock: FakeClock, step: Step) -> None:
    """Do one step; doing it again changes nothing."""
    match step.what:
        case "publish":
            text = f"{step.kind.__name__}{step.number}"
            await flock.publish(step.kind(text=text), id=text, correlation_id=step.run)
        case "idle":
            await flock.run_until_idle()
        case "pass":
            await clock.advance(step.number)


class Ending(NamedTuple):
    """What is on a board and what waits."""

    artifacts: Counter[tuple[str, ...]]
    waiting: Counter[tuple[str, str, int]]


def beyond(one: Ending, other: Ending) -> Ending:
    """Give what one ending has and the other has not."""
    return Ending(one.artifacts - other.artifacts, one.waiting - other.waiting)


async def end(flock: Flock) -> Ending:
    """Let a board come to its end, and look at it; raises AssertionError for what may never be."""
    report = await flock.run_until_idle(drain=True)
    assert report.idle
    board = await flock.store.list()
    assert not [*problems_of(board)]
    return Ending(
        Counter((each.type, each.payload.text, each.produced_by, each.correlation_id) for each in board),
        Counter((each.reason, each.agent, len(each.artifacts)) for each in report.waiting),
    )


async def uninterrupted(topology: Sequence[Made], steps: Sequence[Step]) -> Ending:
    """Play a history in memory."""
    clock = FakeClock()
    flock = Flock(store="memory://", clock=clock)
    build(flock, topology)
    async with flock:
        for step in steps:
            await do(flock, clock, step)
        return await end(flock)


# ---- a board that dies


class Mortal:
    """A store that dies after so many commits: what is in the file then is all that its next life has."""

    def __init__(self, store: Any, on_death: Callable[[], None]) -> None:
        """Live on until `left` commits are done."""
        self._store = store
        self._on_death = on_death
        self.left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> Committed:
        """Commit; the last one is in the file and nobody hears of it."""
        committed: Committed = await self._store.commit(commit)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self._on_death()
        return committed


class Board:
    """The lives of one board on files: each begins with what the file of the last one held when that died."""

    def __init__(self, folder: Path, topology: Sequence[Made], synchronous: str) -> None:
        """Begin with no file."""
        self._folder = folder
        self._synchronous = synchronous
        self._topology = topology
        self.clock = FakeClock()
        self.lives = 0
        self.die_in: int | None = None

    async def begin(self) -> None:
        """Open the next life."""
        self.lives += 1
        self.clock = FakeClock(self.clock.now(), seed=self.lives, threshold=0.01)
        self.path = self._folder / f"life-{self.lives}.db"
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store = Mortal(open_store(f"sqlite:///{self.path}?synchronous={self._synchronous}"), self._die)
        self.flock = Flock(store=cast("Store", self._store), clock=self.clock)
        build(self.flock, self._topology)

    def _die(self) -> None:
        """Keep what a kill would leave: everything that is committed and nothing else."""
        with closing(sqlite3.connect(self.path)) as old, closing(sqlite3.connect(self._next)) as new:
            old.backup(new)
        self._died.set_result(None)

    @property
    def _next(self) -> Path:
        return self._folder / f"life-{self.lives + 1}.db"

    async def live(self, work: Callable[[Board], Coroutine[Any, Any, Any]]) -> Any:
        """Do some work, beginning it again in the next life when this one ends meanwhile."""
        while True:
            self._store.left, self.die_in = self.die_in or self._store.left, None
            doing = asyncio.ensure_future(work(self))  # noqa: TID251 - owned here
            await asyncio.wait({doing, self._died}, return_when=asyncio.FIRST_COMPLETED)
            if not self._died.done():
                return await doing
            doing.cancel()
            await asyncio.wait({doing})
            await self.flock.shutdown(grace=0)  # nobody looks at that file any more
            await self.begin()


@settings(deadline=None)
class Histories(RuleBasedStateMachine):
    """Plays a history on a file with crashes; at the end the same one in memory without."""

    def __init__(self) -> None:
        """Start a loop of its own."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="flock-histories-")
        self.steps: list[Step] = []
        self.board: Board | None = None

    @initialize(topology=topologies(), synchronous=st.sampled_from(("normal", "full")))
    def start(self, topology: Sequence[Made], synchronous: str) -> None:
        self.topology = topology
        self.board = Board(Path(self.folder.name), topology, synchronous)
        self.runner.run(self.board.begin())

    def step(self, step: Step) -> None:
        assert self.board is not None
        self.steps.append(step)
        self.runner.run(self.board.live(lambda board: do(board.flock, board.clock, step)))

    @rule(kind=st.sampled_from(FROM_OUTSIDE), run=st.sampled_from(RUNS))
    def publish(self, kind: type[Item], run: str) -> None:
        self.step(Step("publish", len(self.steps), kind, run))

    @rule()
    def wait(self) -> None:
        self.step(Step("idle"))

    @rule(seconds=st.integers(1, 5))
    def let_time_pass(self, seconds: int) -> None:
        self.step(Step("pass", seconds))

    @rule(commits=st.integers(1, 6))
    def crash_soon(self, commits: int) -> None:
        assert self.board is not None
        self.board.die_in = commits

    @override
    def teardown(self) -> None:
        try:
            if self.board is not None:
                ended = self.runner.run(self.board.live(lambda board: end(board.flock)))
                expected = asyncio.run(uninterrupted(self.topology, self.steps))
                missing, too_much = beyond(expected, ended), beyond(ended, expected)
                assert ended == expected, f"missing: {missing}\ntoo much: {too_much}\nin {self.board.lives} lives"
        finally:
            if self.board is not None:
                self.runner.run(self.board.flock.shutdown())
            self.runner.close()
            self.folder.cleanup()


def test_any_topology_with_any_history_of_crashes_gives_the_board_of_an_uninterrupted_memory_store() -> None:
    run_state_machine_as_test(Histories, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))
