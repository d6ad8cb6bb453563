"""The plan of a study: which runs there are, in which order they start, and what stands in their way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple

from typing_extensions import override

from flock.studies.agents import resolve_agent
from flock.studies.calling import check_callable
from flock.studies.definition import (
    AGENT_FACTORS,
    PROBLEM,
    PROBLEM_FACTORS,
    SCHEMA_VERSION,
    StudyDefinition,
    validate_study,
)
from flock.studies.design.designs import build_design
from flock.studies.design.factors import Condition
from flock.studies.fingerprints import fingerprint
from flock.studies.problems import ProblemPacket, resolve_problem
from flock.studies.runs import RunSpec
from flock.studies.seeds import seed_of
from flock.studies.stable import DIGITS, ValidationError, digest, quoted, stable_json_dumps

_AGENT: Final = "default-agent"  # the name of the only one that nobody named
_SHOWN = 20  # runs that a printed plan lists
_LENGTH = 16


class DryRunReport(NamedTuple):
    """What stands in the way of a study, and how many runs it plans."""

    errors: list[str]
    planned_runs: int


@dataclass(frozen=True, slots=True)
class Bindings:
    """The objects behind the names of a study's agents, problems and evaluators."""

    agents: dict[str, Any] = field(default_factory=dict[str, Any])
    problems: dict[str, ProblemPacket] = field(default_factory=dict[str, ProblemPacket])
    evaluators: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study would run: the dry run.

    `runs` are in the order of conditions, replicates, agents and problems; `order` has their ids as they start.
    `estimated_cost` (USD) is what the runs would cost at the mean of those that have run, None when none has.
    """

    study: StudyDefinition
    conditions: list[Condition]
    runs: list[RunSpec]
    errors: list[str]
    bindings: Bindings = field(repr=False)
    estimated_cost: float | None = None

    @property
    def order(self) -> list[str]:
        """The ids of the runs in the order in which they start: at random, always the same for the study's seed."""
        return self.in_order(each.run_id for each in self.runs)

    def in_order(self, run_ids: Iterable[str]) -> list[str]:
        """Give the ids of some runs in the order in which they start."""
        seed = self.study.seed_policy.base_seed
        return sorted(run_ids, key=lambda run_id: digest(f"{seed}:{run_id}"))

    def raise_for_errors(self) -> None:
        """Raise ValidationError with all that stands in the way, if anything does."""
        if self.errors:
            raise ValidationError("\n".join(self.errors))

    def fingerprints(self) -> dict[str, str]:
        """Say in short, by run id, what a run's result depends on: condition, problem, agent, seed and schema."""
        conditions = {each.condition_id: _of_condition(each) for each in self.conditions}
        agents = {name: fingerprint(each) for name, each in self.bindings.agents.items()}
        evaluators = stable_json_dumps({name: fingerprint(each) for name, each in self.bindings.evaluators.items()})
        problems = {name: _of_problem(each) for name, each in self.bindings.problems.items()}
        rest = f"{evaluators}|{SCHEMA_VERSION}"
        return {
            run.run_id: digest(
                f"{conditions[run.condition_id]}|{problems[run.problem_id]}|{agents[run.agent_id]}|{run.seed}|{rest}"
            )[:_LENGTH]
            for run in self.runs
        }

    @override
    def __str__(self) -> str:
        """Say what would run, or what stands in the way."""
        if self.errors:
            return "\n".join(["the study can't run:", *(f"- {each}" for each in self.errors)])
        counts = {
            "conditions": sum(each.admissible for each in self.conditions),
            "problems": len({each.problem_id for each in self.runs}),
            "agents": len({each.agent_id for each in self.runs}),
            "replicates": max((each.replicate for each in self.runs), default=0),
        }
        cost = "" if not self.estimated_cost else f", about {self.estimated_cost:.2f} USD"
        parts = " x ".join(f"{count} {what if count != 1 else what[:-1]}" for what, count in counts.items())
        runs = {each.run_id: each for each in self.runs}
        first = [runs[run_id] for run_id in self.order[:_SHOWN]]
        lines = [f"{each.run_id}  {each.agent_id}  {each.problem_id}  {each.condition_id}" for each in first]
        more = [f"... and {len(runs) - _SHOWN} more"] if len(runs) > _SHOWN else []
        return "\n".join([f"{len(runs)} runs ({parts}{cost}), in this order:", *lines, *more])


def plan_study(
    study: StudyDefinition,
    *,
    conditions: Sequence[Condition] | None = None,
    agents: Mapping[str, Any] | None = None,
    problems: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a study with the objects that it has and that are given beside it; its errors are in the plan.

    A study that names no agents, or no problems, has those that are given.
    """
    study = _with_names(study, agents or {}, problems or {})
    found, errors = _conditions_of(study, conditions)
    runs = list(planned_runs(study, found))
    errors += errors_of(study, found, len(runs), designed=not errors)
    bindings = Bindings(evaluators=dict(study.evaluators))
    known_agents, known_problems = {**study.agents, **(agents or {})}, {**study.problems, **(problems or {})}
    for name in dict.fromkeys(each.agent_id for each in runs):
        _bind(bindings.agents, name, partial(resolve_agent, name, known_agents), errors)
    for name in dict.fromkeys(each.problem_id for each in runs):
        _bind(bindings.problems, name, partial(resolve_problem, name, registry=known_problems), errors)
    evaluators = {**study.evaluators, **{name: each.evaluator for name, each in bindings.problems.items()}}
    for each in evaluators.values():
        if each is not None:
            _bind({}, "", partial(check_callable, each, "evaluator"), errors)
    return Plan(study, found, runs, list(dict.fromkeys(errors)), bindings)


def dry_run_validate(study: StudyDefinition, *, conditions: Sequence[Condition]) -> DryRunReport:
    """Say what in a study's definition stands in the way of running it, and how many runs it plans."""
    count = sum(1 for _ in planned_runs(study, conditions))
    return DryRunReport(errors_of(study, conditions, count), count)


def errors_of(
    study: StudyDefinition, conditions: Sequence[Condition], planned: int, *, designed: bool = True
) -> list[str]:
    """Say what stands in the way of a study with these conditions and so many runs; none where its design failed."""
    errors = validate_study(study)
    if not study.problem_ids and not any(each.name in PROBLEM_FACTORS for each in study.factors):
        errors.append("the study has no problems: give problems=, problem_ids, or a factor named problem_id")
    if designed and not any(each.admissible for each in conditions):
        said = dict.fromkeys(text for each in conditions for text in each.constraint_messages)
        errors.append("no condition is admissible: " + ("; ".join(said) or "there is none"))
    most = study.run_budget.max_runs
    if most is not None and planned > most:
        errors.append(f"{planned} runs are planned, and max_runs is {most}: plan fewer or raise it")
    return errors


def planned_runs(study: StudyDefinition, conditions: Sequence[Condition]) -> Iterable[RunSpec]:
    """Give the runs of all admissible conditions: conditions x replicates x agents x problems."""
    maker = _Maker(study)
    for condition in conditions:
        if condition.admissible:
            agents = _named(condition, AGENT_FACTORS) or study.agent_specs or (_AGENT,)
            problems = _named(condition, PROBLEM_FACTORS) or study.problem_ids
            for replicate in range(1, study.run_budget.replicates + 1):
                for agent in agents:
                    for problem in problems:
                        yield maker.run(condition, replicate, agent, problem)


class _Maker:
    """Makes run ids and seeds: what `hash_identifier` and `SeedPolicy.derive_seed` give, with fewer steps for many."""

    def __init__(self, study: StudyDefinition) -> None:
        self._study = study
        self._study_id = quoted(study.study_id)
        policy = study.seed_policy
        self._offset, self._strategy = policy.per_run_offset, quoted(policy.strategy)

    def run(self, condition: Condition, replicate: int, agent: str, problem: str) -> RunSpec:
        run_id = digest(
            f'{{"agent_id":{quoted(agent)},"condition_id":{quoted(condition.condition_id)},"problem_id":{quoted(problem)},'
            f'"replicate":{replicate},"study_id":{self._study_id}}}'
        )[:DIGITS]
        shared = self._shared(condition, problem) if self._study.pair_by else None
        seed = self._seed(
            condition.condition_id if shared is None else "",
            replicate,
            f"{agent}:{problem}" if shared is None else shared,
        )
        return RunSpec(
            f"run-{run_id}",
            self._study.study_id,
            condition.condition_id,
            problem,
            replicate,
            seed,
            agent,
            problem,
            {"agent_id": agent, "problem_id": problem, "condition_fingerprint": condition.metadata.get("fingerprint")},
        )

    def _seed(self, condition_id: str, replicate: int, salt: str) -> int:
        return seed_of(
            f'{{"base_seed":{self._study.seed_policy.base_seed},"condition_id":{quoted(condition_id)},'
            f'"per_run_offset":{self._offset},"replicate":{replicate},"salt":{quoted(salt)},'
            f'"strategy":{self._strategy},"study_id":{self._study_id}}}'
        )

    def _shared(self, condition: Condition, problem: str) -> str:
        """Give what runs share that share their seed."""
        values = {PROBLEM: problem, **condition.factor_assignments, **condition.block_assignments}
        return stable_json_dumps({name: values.get(name) for name in self._study.pair_by})


def _with_names(study: StudyDefinition, agents: Mapping[str, Any], problems: Mapping[str, Any]) -> StudyDefinition:
    """Give a study that names its agents and problems."""
    factors = {each.name for each in study.factors}
    if agents and _AGENT not in agents and not study.agent_specs and not factors & set(AGENT_FACTORS):
        study = replace(study, agent_specs=tuple(agents))
    if problems and not study.problem_ids and not factors & set(PROBLEM_FACTORS):
        study = replace(study, problem_ids=tuple(problems))
    return study


def _conditions_of(study: StudyDefinition, given: Sequence[Condition] | None) -> tuple[list[Condition], list[str]]:
    if given is not None:
        return list(given), []
    try:
        return build_design(study), []
    except ValidationError as error:
        return [], [str(error)]


def _named(condition: Condition, factors: Sequence[str]) -> tuple[str, ...]:
    """Give the agent or problem that a condition names, if it does."""
    found = condition.factor_assignments
    return next(((str(found[name]),) for name in factors if name in found), ())


def _bind(names: dict[str, Any], name: str, resolve: Callable[[], Any], errors: list[str]) -> None:
    try:
        names[name] = resolve()
    except ValidationError as error:
        errors.append(str(error))


def _of_condition(condition: Condition) -> str:
    return stable_json_dumps([condition.factor_assignments, condition.block_assignments])


def _of_problem(packet: ProblemPacket) -> str:
    evaluator = None if packet.evaluator is None else fingerprint(packet.evaluator)
    return digest(stable_json_dumps([packet.family, packet.brief, packet.payload, packet.metadata, evaluator]))
