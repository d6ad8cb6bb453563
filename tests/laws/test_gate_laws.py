"""The laws of collecting: gates, joins, batches and holds as the reducer decides and the collector does."""

import copy
import json
import os
import pathlib
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flock.core.gates import Arrival, Step, flush, merge, reduce
from flock.declaring.conditions import When
from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold, Stage
from flock.model.ledger import Offer, Target
from flock.stores.collecting import Changes
from flock.stores.memory.collectors import Collector

KEYS = ("", "k1", "k2")
WITHIN, LAST, SIZE, TIMEOUT = 10.0, 4, 3, 7.0


class Thing(BaseModel):
    n: int = 0


class Sign(BaseModel):
    pass


@dataclass(frozen=True)
class Put:
    """An artifact comes, some seconds after what was before."""

    slot: int
    key: str
    after: float


@dataclass
class Scene:
    """One collector, what came to it and what it did; like a store it looks in whenever something is due."""

    stages: tuple[Stage, ...]
    ticking: bool = True
    looks: Sequence[float] = ()
    now: float = 0.0
    came: dict[str, tuple[Put, float, int]] = field(default_factory=dict[str, tuple[Put, float, int]])
    fired: list[tuple[float, int, tuple[tuple[Record, ...], ...]]] = field(
        default_factory=list[tuple[float, int, tuple[tuple[Record, ...], ...]]]
    )
    expired: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.collector = Collector(Target(subscription="s", agent="a", stages=self.stages), "run")
        self.due: float | None = None

    def play(self, puts: Iterable[Put]) -> "Scene":
        """Let artifacts come."""
        for number, put in enumerate(puts, 1):
            self.pass_time(self.now + put.after)
            name = f"{number}"
            record = Record(id=name, type="thing", snapshot=Thing(), run="run", created=self.now, sequence=number)
            self.came[name] = (put, self.now, number)
            self._do(Offer(self.collector.target, record, put.slot, put.key))
        return self

    def count(self) -> None:
        """Let the first counter of the condition move."""
        record = Record(id="sign", type="sign", snapshot=Sign(), run="run", created=self.now)
        self._do(Offer(self.collector.target, record, -1))

    def pass_time(self, until: float) -> None:
        """Look in at what is due and at the given moments."""
        moments = [look for look in self.looks if self.now < look <= until]
        while self.ticking and self.due is not None and self.due <= until:
            self.now = max(self.due, self.now)
            self._do(None)
        for moment in moments:
            self.now = max(self.now, moment)
            self._do(None)
        self.now = until

    def flush(self) -> None:
        """Fire partial batches."""
        changes = Changes()
        self.collector.flush(self.now, changes)
        self._keep(changes)

    @property
    def held(self) -> list[str]:
        """What the collector holds."""
        return [record.id for record in self.collector.records()]

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """What it has fired, group by group."""
        return [tuple(record.id for record in group) for _, _, groups in self.fired for group in groups]

    def _do(self, offer: Offer | None) -> None:
        changes = Changes()
        if offer is None:
            self.due = self.collector.expire(self.now, changes)
        elif (due := self.collector.offer(offer, self.now, changes)) is not None:
            self.due = due if self.due is None else min(self.due, due)
        self._keep(changes)

    def _keep(self, changes: Changes) -> None:
        self.fired += [(self.now, len(self.came), fired.groups) for fired in changes.fired]
        self.expired += [record.id for _, record, _ in changes.expired]


def puts(slots: int, keys: Sequence[str] = ("",)) -> st.SearchStrategy[list[Put]]:
    gaps = st.sampled_from((0.0, 0.5, 1.0, 3.0, 7.0, 10.0, 12.0))
    one = st.builds(Put, slot=st.integers(0, slots - 1), key=st.sampled_from(keys), after=gaps)
    return st.lists(one, max_size=40)


GATES = (Gather(need=(1, 1)), Gather(need=(2, 1)), Gather(need=(3,)), Gather(need=(1, 2, 1)))
TIMED_JOINS = tuple(Gather(need=need, within=WITHIN, keyed=True) for need in ((1, 1), (2, 1), (1, 1, 1)))
COUNTED_JOINS = tuple(Gather(need=need, last=LAST, keyed=True) for need in ((1, 1), (2, 1)))
JOINS = TIMED_JOINS + COUNTED_JOINS
BATCHES = (Batch(size=SIZE), Batch(timeout=TIMEOUT), Batch(size=SIZE, timeout=TIMEOUT), Batch(size=1))
HOLD = Hold(condition=When.exists(Sign))
CHAINS: tuple[tuple[Stage, ...], ...] = (
    *[(spec,) for spec in GATES + JOINS + BATCHES],
    *[(gather, batch) for gather in (GATES[1], JOINS[0], JOINS[3]) for batch in BATCHES],
    (HOLD,),
    (GATES[0], HOLD),
    (BATCHES[2], HOLD),
    (JOINS[0], BATCHES[2], HOLD),
)


def slots(stages: Sequence[Stage]) -> int:
    first = stages[0]
    return len(first.need) if isinstance(first, Gather) else 1


def keys(stages: Sequence[Stage]) -> Sequence[str]:
    first = stages[0]
    return KEYS[1:] if isinstance(first, Gather) and first.keyed else KEYS[:1]


@st.composite
def scenes(draw: st.DrawFn, chains: Sequence[tuple[Stage, ...]] = CHAINS, *, ticking: bool | None = None) -> Scene:
    stages = draw(st.sampled_from(chains))
    scene = Scene(stages, ticking=draw(st.booleans()) if ticking is None else ticking)
    scene.play(draw(puts(slots(stages), keys(stages))))
    if isinstance(stages[-1], Hold) and draw(st.booleans()):
        scene.count()
    if draw(st.booleans()):
        scene.flush()
    return scene


def only(specs: Iterable[Stage]) -> list[tuple[Stage, ...]]:
    return [(spec,) for spec in specs]


# Nothing is lost


@given(scenes())
def test_every_artifact_is_fired_held_or_expired_and_only_one_of_these(scene: Scene) -> None:
    fired = [name for group in scene.groups for name in group]
    assert Counter(fired + scene.held + scene.expired) == Counter(dict.fromkeys(scene.came, 1))


@given(scenes())
def test_what_leaves_a_queue_leaves_in_the_order_in_which_it_came(scene: Scene) -> None:
    queues: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for name, (put, _, _) in scene.came.items():
        queues[put.slot, put.key].append(name)
    fired = [name for group in scene.groups for name in group]
    for queue in queues.values():
        assert [name for name in fired if name in queue] == [name for name in queue if name in fired]
        assert [name for name in scene.expired if name in queue] == [name for name in queue if name in scene.expired]


@given(scenes(only(GATES + JOINS + BATCHES)))
def test_what_is_held_came_after_all_of_its_queue_that_has_left(scene: Scene) -> None:
    held = set(scene.held)
    for name in held:
        put, _, number = scene.came[name]
        later = [n for n, (p, _, k) in scene.came.items() if (p.slot, p.key) == (put.slot, put.key) and k > number]
        assert held.issuperset(later)


# Gates and joins


@given(scenes(only(GATES + JOINS)))
def test_a_group_has_the_declared_counts_in_the_declared_order(scene: Scene) -> None:
    (spec,) = scene.stages
    assert isinstance(spec, Gather)
    wanted = [slot for slot, count in enumerate(spec.need) for _ in range(count)]
    for group in scene.groups:
        assert [scene.came[name][0].slot for name in group] == wanted
        numbers = [(scene.came[name][0].slot, scene.came[name][2]) for name in group]
        assert numbers == sorted(numbers)
        assert len({scene.came[name][0].key for name in group}) == 1


@given(scenes(only(GATES + JOINS)))
def test_nothing_complete_is_ever_held_back(scene: Scene) -> None:
    (spec,) = scene.stages
    assert isinstance(spec, Gather)
    held = [row for row in scene.collector.rows() if any(row.slots)]
    assert all(any(len(q) < need for q, need in zip(row.slots, spec.need, strict=True)) for row in held)


@given(scenes(only(GATES)))
def test_a_gate_without_a_window_expires_nothing(scene: Scene) -> None:
    assert scene.expired == []


@given(scenes(only(TIMED_JOINS)))
def test_a_join_never_fires_over_its_window(scene: Scene) -> None:
    for group in scene.groups:
        times = [scene.came[name][1] for name in group]
        assert max(times) - min(times) < WITHIN


@given(scenes(only(COUNTED_JOINS)))
def test_a_join_never_fires_over_its_count(scene: Scene) -> None:
    for _, newest, groups in scene.fired:
        for group in groups:
            assert all(newest - scene.came[record.id][2] <= LAST for record in group)


@given(scenes(only(TIMED_JOINS)))
def test_what_has_expired_was_out_of_its_window(scene: Scene) -> None:
    assert all(scene.now - scene.came[name][1] >= WITHIN for name in scene.expired)


@given(scenes(only(COUNTED_JOINS)))
def test_what_has_expired_was_out_of_its_count(scene: Scene) -> None:
    assert all(len(scene.came) - scene.came[name][2] > LAST for name in scene.expired)


@given(scenes(only(COUNTED_JOINS)))
def test_nothing_is_held_beyond_its_count(scene: Scene) -> None:
    assert all(len(scene.came) - scene.came[name][2] <= LAST for name in scene.held)


@given(scenes(only(TIMED_JOINS), ticking=True))
def test_nothing_is_held_beyond_its_window(scene: Scene) -> None:
    scene.pass_time(scene.now + WITHIN)
    assert scene.held == []


# Batches


@given(scenes(only(BATCHES)))
def test_a_batch_never_exceeds_its_size(scene: Scene) -> None:
    (spec,) = scene.stages
    assert isinstance(spec, Batch)
    assert all(groups for _, _, groups in scene.fired)
    if spec.size is not None:
        assert all(len(groups) <= spec.size for _, _, groups in scene.fired)
        assert len(scene.held) < spec.size


@given(st.sampled_from((1, 2, 3)), puts(1))
def test_a_batch_by_size_alone_fires_full_and_only_full(size: int, came: list[Put]) -> None:
    scene = Scene((Batch(size=size),)).play(came)
    assert [len(groups) for _, _, groups in scene.fired] == [size] * (len(came) // size)
    scene.flush()
    assert scene.held == []


@given(scenes(only(BATCHES[1:3]), ticking=True))
def test_a_timed_batch_fires_at_its_deadline_at_the_latest(scene: Scene) -> None:
    scene.pass_time(scene.now + TIMEOUT)
    assert scene.held == []
    for at, _, groups in scene.fired:
        assert all(at - scene.came[record.id][1] <= TIMEOUT for group in groups for record in group)


@given(st.sampled_from(only(BATCHES[1:3])), puts(1))
def test_a_partial_batch_fires_at_its_deadline_and_not_before(stages: tuple[Stage, ...], came: list[Put]) -> None:
    scene = Scene(stages).play(came)
    scene.pass_time(scene.now + TIMEOUT)
    for at, _, groups in scene.fired:
        if len(groups) < SIZE:
            assert at == scene.came[groups[0][0].id][1] + TIMEOUT


@given(st.sampled_from((GATES[1], JOINS[0])), st.sampled_from(BATCHES), st.data())
def test_a_batch_of_gates_holds_the_groups_in_firing_order(gather: Gather, batch: Batch, data: st.DataObject) -> None:
    came = data.draw(puts(slots((gather,)), keys((gather,))))
    alone, both = Scene((gather,)).play(came), Scene((gather, batch)).play(came)
    both.flush()
    assert both.groups == alone.groups


# Holds


@given(puts(1))
def test_a_condition_lets_nothing_through_before_it_is_true_and_everything_after(came: list[Put]) -> None:
    scene = Scene((HOLD,)).play(came)
    assert scene.groups == []
    scene.count()
    assert scene.groups == [(name,) for name in scene.came]
    assert all(len(groups) == 1 for _, _, groups in scene.fired)


# Time and repetition


@given(st.sampled_from(CHAINS), st.data())
def test_looking_in_more_often_than_due_changes_nothing(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    came = data.draw(puts(slots(stages), keys(stages)))
    looks = sorted(data.draw(st.lists(st.floats(0, 100), max_size=10)))
    plain, watched = Scene(stages).play(came), Scene(stages, looks=looks).play(came)
    assert (watched.groups, watched.held, watched.expired) == (plain.groups, plain.held, plain.expired)


@given(scenes())
def test_what_the_collector_says_is_due_lies_ahead(scene: Scene) -> None:
    if scene.ticking:
        assert scene.due is None or scene.due > scene.now


@given(st.sampled_from(only(GATES + JOINS + BATCHES)), st.data())
def test_keys_do_not_touch_each_other(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    (spec,) = stages
    if not isinstance(spec, Gather) or not spec.keyed or spec.last is not None:
        return  # a window of artifacts counts those of all keys
    came = data.draw(puts(len(spec.need), KEYS[1:]))
    both = Scene(stages).play(came)
    for key in KEYS[1:]:
        alone, moment, names = Scene(stages), 0.0, dict[str, str]()
        mine: list[Put] = []
        for number, put in enumerate(came, 1):
            moment += put.after
            if put.key == key:
                names[f"{len(mine) + 1}"] = f"{number}"
                mine.append(Put(put.slot, key, moment))
                moment = 0.0
        alone.play(mine)
        expected = [tuple(names[name] for name in group) for group in alone.groups]
        assert [group for group in both.groups if both.came[group[0]][0].key == key] == expected


# The reducer itself


@dataclass
class Queues:
    """A row, as the reducer reads it."""

    slots: list[list[Arrival]]
    counters: list[int]


@st.composite
def rows(draw: st.DrawFn, spec: Stage, since: float = 0.0) -> Queues:
    width = len(spec.need) if isinstance(spec, Gather) else 1
    times = st.lists(st.floats(since, 20), max_size=4).map(sorted)
    record = Record(id="r", type="thing", snapshot=Thing(), run="run", created=0.0)
    queues = [[Arrival(at, n, ((record,),)) for n, at in enumerate(draw(times))] for _ in range(width)]
    return Queues(queues, [draw(st.integers(0, 2))] if isinstance(spec, Hold) else [])


@given(st.sampled_from((*GATES, *JOINS, *BATCHES, HOLD)), st.data())
def test_the_reducer_is_pure(spec: Stage, data: st.DataObject) -> None:
    row = data.draw(rows(spec))
    before = copy.deepcopy([[(item.at, item.position) for item in queue] for queue in row.slots]), list(row.counters)
    slot = data.draw(st.none() | st.integers(0, len(row.slots) - 1))
    position, now = data.draw(st.integers(4, 10)), data.draw(st.floats(20, 40))
    first, again = (reduce(spec, row, slot, position, now) for _ in range(2))
    assert first == again
    assert ([[(item.at, item.position) for item in queue] for queue in row.slots], row.counters) == before


@given(st.sampled_from((*GATES, *JOINS, *BATCHES, HOLD)), st.data())
def test_the_reducer_never_asks_for_more_than_there_is(spec: Stage, data: st.DataObject) -> None:
    row = data.draw(rows(spec))
    slot = data.draw(st.none() | st.integers(0, len(row.slots) - 1))
    step = reduce(spec, row, slot, data.draw(st.integers(4, 10)), data.draw(st.floats(20, 40)))
    drop = step.drop or (0,) * len(row.slots)
    for number, queue in enumerate(row.slots):
        taken = drop[number] + sum(counts[number] for counts in step.fire)
        assert 0 <= drop[number] <= len(queue)
        assert taken <= len(queue) + (number == slot)


@given(st.sampled_from((*TIMED_JOINS, *BATCHES[1:3])), st.data(), st.floats(20, 22))
def test_a_row_changes_by_itself_when_the_reducer_says_so_and_not_before(
    spec: Stage, data: st.DataObject, now: float
) -> None:
    row = data.draw(rows(spec, since=16))
    step = reduce(spec, row, None, 4, now)
    assert not step.fire
    assert not any(step.drop)
    assert (step.due is None) == (not any(row.slots))
    if step.due is not None:
        later = reduce(spec, row, None, 4, step.due + 1e-6)
        assert later.fire or any(later.drop)
        sooner = reduce(spec, row, None, 4, step.due - 1e-3)
        assert not sooner.fire
        assert not any(sooner.drop)


@given(st.sampled_from((*GATES, *JOINS, HOLD)), st.data())
def test_only_batches_are_flushed(spec: Stage, data: st.DataObject) -> None:
    assert flush(spec, data.draw(rows(spec))) == Step()


def test_a_gate_orders_each_slot_by_sequence_whatever_order_they_came_in() -> None:
    def arrival(sequence: int) -> Arrival:
        record = Record(id=f"{sequence}", type="thing", snapshot=Thing(), run="run", created=0.0, sequence=sequence)
        return Arrival(0.0, sequence, ((record,),))

    ((group,),) = [merge(Gather(need=(2, 1)), [[arrival(10), arrival(9)], [arrival(1)]])]
    assert [record.sequence for record in group] == [9, 10, 1]


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from flock.core.gates import encode_key
from test_gate_laws import CHAINS, Put, Scene, keys, slots
told = []
for stages in CHAINS:
    came = [Put(n * 7 % slots(stages), keys(stages)[n * 5 % len(keys(stages))], (n * 3 % 4)) for n in range(60)]
    scene = Scene(stages).play(came)
    told.append([scene.groups, scene.held, scene.expired, scene.due])
told.append(encode_key(("a", 1, True, "x")))
print(json.dumps(told))
"""


def test_every_process_decides_alike_whatever_its_hash_seed() -> None:
    answers: list[object] = []
    for seed in ("0", "1", "4711"):
        process = subprocess.run(  # noqa: S603 - our own interpreter and our own text
            [sys.executable, "-c", PROGRAM, str(pathlib.Path(__file__).parent)],
            capture_output=True, text=True, check=False,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        answers.append(json.loads(process.stdout))
    assert answers[0] == answers[1] == answers[2]
