"""Runs of a plan: what is left to do, its course, its progress, and the files at the end."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal, get_args

from flock.studies.attempt import Job, error_text
from flock.studies.conduct import Conductor, Course, Keeper
from flock.studies.crew import ISOLATIONS, Isolation
from flock.studies.definition import yaml_text
from flock.studies.exports import SQLITE, export_canonical_artifacts
from flock.studies.plan import Plan
from flock.studies.progress import progress_of
from flock.studies.record import Reader, Record, Results, State, reading, writing
from flock.studies.runs import RunResult, RunStatus
from flock.studies.stable import ValidationError, digest

OnChange = Literal["raise", "rerun", "reuse"]
SortedOut = tuple[dict[str, State], dict[str, State]]  # runs of the same fingerprint, and of another
_EXPORTED: Final = "exported"  # in the record: what the files were made of last
_FILES: Final = (
    "study.yaml", "manifest.json", "conditions.csv", "runs.csv", "events.csv", "evaluations.csv", "hypotheses.json",
    "analysis_plan.json",
)  # fmt: skip


class StudyChangedError(ValidationError):
    """Raised when runs that succeeded were of another agent, problem, condition or seed than is planned now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a plan is run.

    None for `parallel` and `fail_fast` takes what the study's budget says; `timeout` is in seconds per run;
    `checkpoint=False` keeps no record, so that nothing can be resumed.
    """

    parallel: int | None = None
    resume: bool = True
    retry_failed: bool = True
    fail_fast: bool | None = None
    isolation: Isolation = "task"
    timeout: float | None = None
    on_change: OnChange = "raise"
    progress: bool | None = None
    checkpoint: bool = True
    include_sqlite: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be; raises ValidationError."""
        parallel = self.parallel
        if parallel is not None and (not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1):
            raise ValidationError(f"parallelism is a whole number of at least 1, not {parallel!r}")
        if self.isolation not in ISOLATIONS:
            raise ValidationError(f"isolation is one of {', '.join(ISOLATIONS)}, not {self.isolation!r}")
        if self.on_change not in get_args(OnChange):
            raise ValidationError(f"on_change is one of {', '.join(get_args(OnChange))}, not {self.on_change!r}")
        if self.timeout is not None and not (self.timeout > 0 and isfinite(self.timeout)):
            raise ValidationError(f"timeout takes seconds above zero, not {self.timeout!r}")

    def course(self, plan: Plan) -> Course:
        """Say how the jobs of a plan run."""
        budget = plan.study.run_budget
        return Course(
            parallel=budget.parallelism if self.parallel is None else self.parallel,
            isolation=self.isolation,
            timeout=self.timeout,
            fail_fast=budget.fail_fast if self.fail_fast is None else self.fail_fast,
        )


class Running:
    """One run of a plan. `results()` gives what ends, after it was kept; `found` has all there is by run id."""

    def __init__(self, plan: Plan, options: Options, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Look whether it can run; raises ValidationError, before anything does. `loop` awaits what agents await."""
        plan.raise_for_errors()
        yaml_text({})  # what the files need is missing before anything runs, or not at all
        self._folder = plan.study.directory.absolute()  # whatever becomes of the working directory
        self.found: dict[str, RunResult | str] = {}
        self._plan, self._options = plan, options
        self._course = options.course(plan)
        self._fingerprints = plan.fingerprints()
        if self._course.isolation == "process":
            _check_pickles(plan)
        self._conductor: Conductor | None = None
        self._loop = loop
        self._stopped = False
        self._before: SortedOut | None = None  # what the record had of this plan
        self.ran = 0  # how many runs there were to do

    def stop(self) -> None:
        """Stop at once, from any thread."""
        self._stopped = True
        if self._conductor is not None:
            self._conductor.stop()

    def results(self) -> Generator[RunResult]:
        """Run what is left to do, and write the files however that ends."""
        study, options = self._plan.study, self._options
        with ExitStack() as stack:
            record = None
            if options.checkpoint:
                record = stack.enter_context(writing(self._folder, study.study_id, anew=not options.resume))
            done = {} if record is None or not options.resume else self._done(record)
            jobs = self._jobs(done)
            self.ran = len(jobs)
            try:
                yield from self._run(jobs, record, done)
            finally:
                self._export(record, changed=bool(jobs))

    def _done(self, record: Record) -> dict[str, State]:
        """Give the runs that need not run again; raises StudyChangedError when that is not to be decided here."""
        ended = {RunStatus.SUCCESS} if self._options.retry_failed else {RunStatus.SUCCESS, RunStatus.FAILED}
        same, other = self._before = sorted_out(self._fingerprints, record)
        done = {run_id: state for run_id, state in same.items() if state.status in ended and not state.interrupted}
        changed = {run_id: state for run_id, state in other.items() if state.status is RunStatus.SUCCESS}
        match self._options.on_change:
            case "raise" if changed:
                raise StudyChangedError(_told(self._plan, changed))
            case "reuse":
                return done | {run_id: state for run_id, state in other.items() if state.status in ended}
            case _:
                return done

    def _jobs(self, done: Mapping[str, State]) -> list[Job]:
        plan = self._plan
        runs = {each.run_id: each for each in plan.runs}
        conditions = {each.condition_id: each for each in plan.conditions}
        agents, problems, evaluators = plan.bindings.agents, plan.bindings.problems, plan.bindings.evaluators
        primary = next(iter(plan.study.primary_outcomes), None)
        return [
            Job(
                spec=spec,
                condition=conditions[spec.condition_id],
                packet=problems[spec.problem_id],
                agent=agents[spec.agent_id],
                evaluators=evaluators,
                primary=primary,
            )
            for spec in map(runs.__getitem__, plan.in_order(runs.keys() - done.keys()))
        ]

    def _run(self, jobs: Sequence[Job], record: Record | None, done: Mapping[str, State]) -> Generator[RunResult]:
        if not jobs:
            return
        self._conductor = Conductor(self._course, Keeper(record, self._fingerprints), self._loop)
        if self._stopped:
            self._conductor.stop()
        wanted, total = self._options.progress, len(self._plan.runs)
        failed = sum(state.status is RunStatus.FAILED for state in done.values())
        with progress_of(self._plan.study.study_id, total, len(done), failed, wanted=wanted) as progress:
            for result in self._conductor.results(jobs):
                self.found[result.run_id] = result
                progress.add(result.status)
                yield result

    def all(self) -> Results:
        """Give the results of all planned runs that have one, in the order of the plan."""
        if self._options.checkpoint and len(self.found) < len(self._fingerprints):
            with reading(self._folder) as reader:
                self._load(reader)
        return in_order(self._plan, self.found)

    def _load(self, reader: Reader) -> None:
        """Read the results that are of this plan and not known yet."""
        same, other = sorted_out(self._fingerprints, reader) if self.ran or self._before is None else self._before
        chosen = other | same if self._options.on_change == "reuse" else same
        missing = {run_id: state for run_id, state in chosen.items() if run_id not in self.found}
        if missing:
            self.found |= reader.results_of(missing)

    def _export(self, record: Record | None, *, changed: bool) -> None:
        """Write the files, unless they are of just this state."""
        folder, made_of = self._folder, self._made_of()
        files = (*_FILES, SQLITE) if self._options.include_sqlite else _FILES
        there = all((folder / name).is_file() for name in files)
        if not changed and there and record is not None and record.get(_EXPORTED) == made_of:
            return
        if record is not None:
            record.put(_EXPORTED, "")
            self._load(record)
        export(self._plan, self.found, include_sqlite=self._options.include_sqlite, folder=folder)
        if record is not None:
            record.put(_EXPORTED, made_of)

    def _made_of(self) -> str:
        return digest(f"{self._fingerprints}{self._plan.study.to_dict()}{self._options.include_sqlite}")


def export(
    plan: Plan, found: Mapping[str, RunResult | str], *, include_sqlite: bool = False, folder: Path | None = None
) -> dict[str, Path]:
    """Write the files of what is planned and has a result."""
    return export_canonical_artifacts(
        study=plan.study,
        conditions=plan.conditions,
        run_results=in_order(plan, found),
        output_dir=folder,
        include_sqlite=include_sqlite,
    )


def in_order(plan: Plan, found: Mapping[str, RunResult | str]) -> Results:
    """Give the results of planned runs in the order of the plan."""
    return Results(found[each.run_id] for each in plan.runs if each.run_id in found)


def stored(plan: Plan, on_change: OnChange = "raise") -> Results:
    """Give the results of planned runs that the record has, in the order of the plan.

    Raises ValidationError without a record and for a plan with errors, StudyChangedError when `on_change` says so.
    """
    plan.raise_for_errors()
    Options(on_change=on_change)
    with reading(plan.study.directory) as reader:
        current, other = sorted_out(plan.fingerprints(), reader)
        changed = {run_id: state for run_id, state in other.items() if state.status is RunStatus.SUCCESS}
        if on_change == "reuse":
            current |= other
        elif changed and on_change == "raise":
            raise StudyChangedError(_told(plan, changed))
        return in_order(plan, reader.results_of(current))


def sorted_out(fingerprints: Mapping[str, str], reader: Reader) -> SortedOut:
    """Give the planned runs that have begun since all began anew: those of the same fingerprint, and those of another.

    A success of the same fingerprint counts, whatever was tried after it.
    """
    generation, states = reader.generation, reader.states()
    again = any(state.attempt > 1 for state in states.values())
    earlier = {
        run_id: state
        for run_id, state in (reader.earlier_successes() if again else ())
        if state.generation == generation and state.fingerprint in {fingerprints.get(run_id), ""}
    }
    same: dict[str, State] = {}
    other: dict[str, State] = {}
    for run_id, fingerprint in fingerprints.items():
        state = states.get(run_id)
        if state is None or state.generation != generation:
            continue
        fits = state.fingerprint in {fingerprint, ""}
        if run_id in earlier and not (fits and state.status is RunStatus.SUCCESS):
            same[run_id] = earlier[run_id]
        else:
            (same if fits else other)[run_id] = state
    return same, other


def _told(plan: Plan, changed: Mapping[str, State]) -> str:
    agents = dict.fromkeys(each.agent_id for each in plan.runs if each.run_id in changed)
    return (
        f"{len(changed)} runs have succeeded with another agent, problem, condition, evaluator or seed than now "
        f"(agents: {', '.join(agents)}): on_change='rerun' runs them again, 'reuse' takes what they gave, and "
        "resume=False begins anew"
    )


def with_cost(plan: Plan) -> Plan:
    """Give a plan that says what it would cost at the mean of what has run."""
    try:
        with reading(plan.study.directory) as reader:
            costs = [each.cost for each in reader.states().values() if each.cost is not None]
    except ValidationError:
        return plan
    return replace(plan, estimated_cost=sum(costs) / len(costs) * len(plan.runs)) if costs else plan


def _check_pickles(plan: Plan) -> None:
    """Raise ValidationError for what can't be sent to another process."""
    parts: dict[str, Mapping[str, Any]] = {
        "agent": plan.bindings.agents,
        "evaluator": plan.bindings.evaluators,
        "problem": plan.bindings.problems,
    }
    for role, several in parts.items():
        for name, each in several.items():
            try:
                pickle.dumps(each)
            except Exception as error:  # the guard of what users wrote: it can be anything
                raise ValidationError(
                    f"isolation='process' needs {role} {name!r} at the top of a module, where another process finds "
                    f"it: {error_text(error)}"
                ) from error
