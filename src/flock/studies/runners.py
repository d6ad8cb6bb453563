"""Studies as functions: run, resume, dry run, and the two ways to run specs without a study around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from flock.studies.agents import resolve_agent
from flock.studies.attempt import Job
from flock.studies.conduct import Conductor, Course, Keeper
from flock.studies.crew import Isolation
from flock.studies.definition import StudyDefinition
from flock.studies.design.factors import Condition
from flock.studies.plan import plan_study
from flock.studies.problems import resolve_problem
from flock.studies.record import FILE, Results, reading, writing
from flock.studies.running import Options, Running
from flock.studies.runs import RunResult, RunSpec
from flock.studies.stable import ValidationError


def run_study(
    study: StudyDefinition,
    *,
    conditions: Sequence[Condition] | None = None,
    agent_bindings: Mapping[str, Any] | None = None,
    problem_registry: Mapping[str, Any] | None = None,
    parallelism: int | None = None,
    dry_run: bool = False,
    resume: bool = False,
    checkpoint: bool = True,
    include_sqlite: bool = False,
    show_progress: bool | None = None,
) -> list[RunResult]:
    """Run a study and give the results of its planned runs, in the order of the plan; a dry run gives none.

    Args:
        study: what to run.
        conditions: the conditions, unless the study's design says them.
        agent_bindings: agents by name, beside those that the study has.
        problem_registry: problems by name, beside those that the study has.
        parallelism: how many run at a time, unless the budget says it.
        dry_run: only look whether it can run.
        resume: run only what has not succeeded yet.
        checkpoint: keep a record, so that the study can be resumed.
        include_sqlite: write `study.sqlite`, too.
        show_progress: False shows none.

    Raises:
        ValidationError: with all that stands in the way, before anything runs.
    """
    plan = plan_study(study, conditions=conditions, agents=agent_bindings, problems=problem_registry)
    options = Options(
        parallel=parallelism,
        resume=resume,
        progress=show_progress,
        checkpoint=checkpoint,
        include_sqlite=include_sqlite,
    )
    running = Running(plan, options)
    if dry_run:
        return []
    with closing(running.results()) as results:
        for _ in results:
            pass
    return list(running.all())


def resume_study(
    study: StudyDefinition,
    *,
    conditions: Sequence[Condition] | None = None,
    agent_bindings: Mapping[str, Any] | None = None,
    problem_registry: Mapping[str, Any] | None = None,
    parallelism: int | None = None,
    checkpoint: bool = True,
    include_sqlite: bool = False,
    show_progress: bool | None = None,
) -> list[RunResult]:
    """Run what of a study has not succeeded yet and give the results of all planned runs; else as `run_study`."""
    return run_study(
        study,
        conditions=conditions,
        agent_bindings=agent_bindings,
        problem_registry=problem_registry,
        parallelism=parallelism,
        resume=True,
        checkpoint=checkpoint,
        include_sqlite=include_sqlite,
        show_progress=show_progress,
    )


class LocalParallelRunner:
    """Runs specs side by side in this process, or in processes of their own."""

    def __init__(
        self, max_workers: int = 8, *, isolation: Isolation = "task", timeout: float | None = None
    ) -> None:  # fmt: skip
        """Run so many at a time, each for `timeout` seconds at most."""
        options = Options(parallel=max_workers, isolation=isolation, timeout=timeout)
        self._parallel, self._timeout = max_workers, options.timeout
        self._isolation: Isolation = isolation

    def run(
        self,
        *,
        run_specs: Sequence[RunSpec],
        condition_by_id: Mapping[str, Condition],
        agent_bindings: Mapping[str, Any] | None = None,
        problem_registry: Mapping[str, Any] | None = None,
        output_dir: str | Path | None = None,
        fail_fast: bool = False,
    ) -> list[RunResult]:
        """Run all specs and give their results in the order of the specs; with `output_dir` each is kept there.

        Raises ValidationError for names that nobody knows, before anything runs.
        """
        course = Course(parallel=self._parallel, isolation=self._isolation, timeout=self._timeout, fail_fast=fail_fast)
        jobs = [
            Job(
                spec=spec,
                condition=_condition(spec, condition_by_id),
                packet=resolve_problem(spec.problem_spec_ref, registry=problem_registry),
                agent=resolve_agent(spec.agent_spec_ref, agent_bindings),
                evaluators={},
            )
            for spec in run_specs
        ]
        found: dict[str, RunResult] = {}
        with closing(Conductor(course, Keeper(None, {})).results(jobs)) as results:
            for result in results:
                found[result.run_id] = result
                if output_dir is not None:
                    checkpoint_run_result(result, output_dir=output_dir)
        return [found[spec.run_id] for spec in run_specs if spec.run_id in found]


class SerialRunner(LocalParallelRunner):
    """Runs specs one after the other, with the global generators seeded for each."""

    def __init__(self) -> None:
        """Run one at a time."""
        super().__init__(1)


def checkpoint_run_result(run_result: RunResult, *, output_dir: str | Path) -> Path:
    """Keep one result in the record of a directory, as an attempt of its own, and give the record's path."""
    spec = run_result.run_spec
    with writing(Path(output_dir), None if spec is None else spec.study_id) as record:
        record.advance([(run_result, "")])
    return Path(output_dir) / FILE


def load_checkpointed_run_results(output_dir: str | Path) -> dict[str, RunResult]:
    """Give the result of each run's last attempt by run id; nothing for a directory without a record."""
    if not (Path(output_dir) / FILE).is_file():
        return {}
    with reading(Path(output_dir)) as reader:
        return {each.run_id: each for each in Results(reader.results().values())}


def _condition(spec: RunSpec, conditions: Mapping[str, Condition]) -> Condition:
    if spec.condition_id not in conditions:
        raise ValidationError(f"{spec.run_id} is of condition {spec.condition_id!r}, which condition_by_id lacks")
    return conditions[spec.condition_id]
