"""What is measured, how it is judged and against which target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

RAW, FLOCK, IMPORT, DURABLE, SYNC, TASKS, STUDIES = (
    f"bench_{name}.py" for name in ("raw", "flock", "import", "durable", "sync", "tasks", "studies")
)

Outcome = Mapping[str, float]  # what one run reports, by quantity
Command = tuple[str, ...]  # a script and its arguments
Kind = Literal["ratio", "growth", "added", "absolute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two commands to compare: the measured one stands between two runs of the baseline."""

    name: str
    baseline: Command
    measured: Command


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run and the baseline's runs before and after it."""

    before: Outcome
    measured: Outcome
    after: Outcome

    def baseline(self, quantity: str) -> float:
        """Return the mean of the two baseline runs."""
        return (self.before[quantity] + self.after[quantity]) / 2

    def ratio(self, quantity: str) -> float:
        """Return the measured run relative to the baseline."""
        return self.measured[quantity] / self.baseline(quantity)


Round = Mapping[str, Sample]  # by the case's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table: a quantity of a case, or its growth from a first case to a last one."""

    name: str
    what: str
    cases: tuple[str, ...]
    kind: Kind = "ratio"
    quantity: str = "us"
    unit: str = "us"
    target: float | None = None

    def of(self, samples: Round) -> float:
        """Return the figure of one round."""
        last = samples[self.cases[-1]]
        match self.kind:
            case "ratio":
                return last.ratio(self.quantity)
            case "growth":
                return last.ratio(self.quantity) / samples[self.cases[0]].ratio(self.quantity)
            case "added":
                return last.measured[self.quantity] - last.baseline(self.quantity)
            case "absolute":
                return last.measured[self.quantity]
            case _:
                assert_never(self.kind)

    @property
    def sign(self) -> str:
        """What follows a number of this figure."""
        return "x" if self.kind in {"ratio", "growth"} else f" {self.unit}"


def _case(workload: str, *options: str, name: str = "") -> Case:
    return Case(name=name or workload, baseline=(RAW, workload, *options), measured=(FLOCK, workload, *options))


def _workload(name: str, target: float, what: str) -> Figure:
    return Figure(name=name, what=what, cases=(name,), target=target)


SIZES = (1_000, 10_000, 50_000, 100_000)

QUERIES = {
    "type_ms": "20 of 500,000 of a type",
    "rare_type_ms": "all 5 of a type",
    "run_ms": "20 of 500,000 in a run",
    "small_run_ms": "all 20 in a run",
    "run_and_type_ms": "20 of 250,000 of a type in a run",
    "small_run_and_type_ms": "all 10 of a frequent type in a run of 20",
    "run_and_rare_type_ms": "all 5 of a type in a run of 5",
}

CASES = (
    *(_case(name) for name in ("W1", "W2", "W3", "W4", "W4W", "W5", "W5C", "W6", "W7", "W10", "LAT")),
    _case("W8"),
    Case(name="W8G", baseline=(RAW, "W8"), measured=(FLOCK, "W8G")),
    _case("W8G", name="W8G raw"),
    _case("W8F"),
    *(_case("W9", "--n", str(size), name=f"W9 {size:,}") for size in SIZES),
    Case(name="TRACE", baseline=(FLOCK, "W1"), measured=(FLOCK, "W1", "--variant", "traced")),
    _case("IDLE"),
    *(
        Case(name=name, baseline=(DURABLE, what, small), measured=(DURABLE, what, large))
        for name, what, small, large in (
            ("RECOVER", "recover", "crashed-small", "crashed"),
            ("QUERY", "query", "small", "large"),
            ("MEMORY", "weigh", "small", "large"),
        )
    ),
    *(
        Case(name=f"SYNC {way}{suffix}", baseline=(SYNC, other), measured=(SYNC, way))
        for way, suffix, other in (
            ("inside", "", "inside-by-thread"),
            ("inside", " hops", "inside-by-handoff"),
            ("outside", "", "outside-by-run"),
            ("native", "", "plain"),
        )
    ),
    *(
        Case(name=f"TASKS {way}", baseline=(TASKS, other), measured=(TASKS, way))
        for way, other in (("sequential", "plain"), ("parallel", "by-task"), ("sleepers", "plain-sleepers"))
    ),
    *(
        Case(name=f"STUDIES {way}", baseline=(STUDIES, other), measured=(STUDIES, way))
        for way, other in (
            ("serial", "bare"),
            ("parallel", "bare"),
            ("resume", "bare"),
            ("resume-large", "bare"),
            ("frame-large", "bare"),
            ("waiting-parallel", "waiting"),
        )
    ),
    Case(name="IMPORT", baseline=(IMPORT, "asyncio", "pydantic.main"), measured=(IMPORT, "flock")),
)

FIGURES = (
    _workload("W1", 3.0, "10,000 artifacts to one agent, 64 at once"),
    _workload("W2", 2.0, "one artifact through 100 agents, per hop"),
    _workload("W3", 2.0, "100 artifacts, each to 100 agents"),
    _workload("W4", 3.5, "1,000 agents on 1,000 types"),
    _workload("W4W", 1.6, "1,000 predicates on one type"),
    _workload("W5", 2.5, "pairs joined by key within an hour"),
    _workload("W5C", 2.5, "pairs joined by key within 10,000 artifacts"),
    _workload("W6", 4.0, "batches of 25, per batch"),
    _workload("W7", 1.5, "best of 8, per activation"),
    _workload("W8", 5.0, "W1 with 2,000 artifacts, durable one by one"),
    _workload("W8G", 1.3, "the same in groups of 64, over one by one"),
    Figure(name="W8G", what="the same, over groups of 64", cases=("W8G raw",)),
    Figure(name="W8F", what="W8 with synchronous=full, the default", cases=("W8F",)),
    _workload("W10", 1.2, "1,000 agents that sleep 0.1 s at once"),
    _workload("LAT", 3.0, "publish one artifact, wait until idle"),
    *(Figure(name="W9", what=f"W1 with {size:,} artifacts", cases=(f"W9 {size:,}",)) for size in SIZES),
    Figure(
        name="W9",
        what="growth from 1,000 to 100,000 over raw's",
        cases=("W9 1,000", "W9 100,000"),
        kind="growth",
        target=1.3,
    ),
    Figure(
        name="W9",
        what="memory per artifact at 100,000",
        cases=("W9 100,000",),
        kind="absolute",
        quantity="kept_kib",
        unit="KiB",
    ),
    Figure(name="TRACE", what="W1 traced by the SDK, over W1", cases=("TRACE",), kind="added", target=60.0),
    Figure(
        name="IDLE",
        what="CPU per second, armed and idle",
        cases=("IDLE",),
        kind="absolute",
        quantity="cpu_ms_per_second",
        unit="ms",
        target=1.0,
    ),
    Figure(
        name="RECOVER",
        what="100,000 artifacts, 10,000 open activations",
        cases=("RECOVER",),
        kind="absolute",
        quantity="seconds",
        unit="s",
        target=2.0,
    ),
    *(
        Figure(
            name="QUERY",
            what=what,
            cases=("QUERY",),
            kind="absolute",
            quantity=quantity,
            unit="ms",
            target=1.0,
        )
        for quantity, what in QUERIES.items()
    ),
    Figure(
        name="MEMORY",
        what="of 1,000,000 artifacts over 1,000",
        cases=("MEMORY",),
        kind="added",
        quantity="resident_mb",
        unit="MB",
        target=64.0,
    ),
    Figure(name="SYNC", what="a blocking call inside a running loop", cases=("SYNC inside",), target=0.3),
    Figure(name="SYNC", what="its time", cases=("SYNC inside",), kind="absolute", target=60.0),
    Figure(name="SYNC", what="over the two hops alone", cases=("SYNC inside hops",)),
    Figure(name="SYNC", what="a blocking call in a plain thread", cases=("SYNC outside",), target=1.0),
    Figure(name="SYNC", what="what an await at home pays", cases=("SYNC native",), kind="added", target=1.0),
    Figure(
        name="TASKS", what="a step of a workflow, over an await", cases=("TASKS sequential",), kind="added", target=20.0
    ),
    Figure(name="TASKS", what="side by side, over bare tasks", cases=("TASKS parallel",), kind="added", target=20.0),
    Figure(
        name="TASKS",
        what="1,000 steps that sleep 100 ms",
        cases=("TASKS sleepers",),
        kind="absolute",
        quantity="ms",
        unit="ms",
        target=150.0,
    ),
    Figure(name="STUDIES", what="a durable run, over a row by hand", cases=("STUDIES serial",)),
    Figure(name="STUDIES", what="its time", cases=("STUDIES serial",), kind="absolute", target=200.0),
    Figure(name="STUDIES", what="with 8 workers", cases=("STUDIES parallel",), kind="absolute", target=200.0),
    *(
        Figure(
            name="STUDIES",
            what=what,
            cases=(f"STUDIES {way}",),
            kind="absolute",
            quantity="ms",
            unit="ms",
            target=target,
        )
        for way, what, target in (
            ("resume", "a resume with 1,000 done", 50.0),
            ("resume-large", "a resume with 10,000 done", 500.0),
            ("frame-large", "a DataFrame of 10,000 runs", 1_000.0),
        )
    ),
    Figure(
        name="STUDIES",
        what="500 runs of 2 ms with 8 workers, over one at a time",
        cases=("STUDIES waiting-parallel",),
        quantity="ms",
        unit="ms",
        target=round(1 / 6, 3),
    ),
    Figure(
        name="IMPORT",
        what="CPU of a process that imports it",
        cases=("IMPORT",),
        kind="absolute",
        quantity="cpu_seconds",
        unit="s",
        target=0.25,
    ),
    Figure(
        name="IMPORT",
        what="memory of a process that imports it",
        cases=("IMPORT",),
        kind="absolute",
        quantity="peak_mb",
        unit="MB",
        target=60.0,
    ),
)
