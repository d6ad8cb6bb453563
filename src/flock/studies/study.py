"""Studies: the short way in, from agents and problems to a plan, its run and its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

from flock.studies.calling import name_of
from flock.studies.crew import Isolation
from flock.studies.definition import StudyDefinition
from flock.studies.design.designs import DesignKind, DesignSpec
from flock.studies.design.factors import Block, Constraint, Factor
from flock.studies.design.hypotheses import OutcomeSpec
from flock.studies.design.reading import refuse_unknown
from flock.studies.plan import Plan, plan_study
from flock.studies.problems import ProblemPacket, packet_of
from flock.studies.results import StudyResults
from flock.studies.running import OnChange, Options, Running, stored, with_cost
from flock.studies.runs import RunBudget, RunResult
from flock.studies.seeds import SeedPolicy
from flock.studies.stable import ValidationError, is_mapping, stable_json_dumps, to_jsonable
from flock.studies.streaming import streamed


class RunOptions(TypedDict, total=False):
    """How a study runs.

    `parallel` runs go on at a time. `isolation` says where: "task" awaits on one event loop and runs what blocks in
    threads, "thread" gives each worker a loop of its own, "process" a process. A run that takes longer than `timeout`
    seconds fails. `resume` runs only what has not succeeded yet (`retry_failed=False`: nor failed), False runs all
    anew; `on_change` says what becomes of results of agents or problems that are others now. `progress` shows a bar
    where somebody looks at it and lines elsewhere, unless False. `include_sqlite` writes `study.sqlite`, too.
    """

    parallel: int | None
    resume: bool
    retry_failed: bool
    fail_fast: bool | None
    isolation: Isolation
    timeout: float | None
    on_change: OnChange
    progress: bool | None
    include_sqlite: bool


class Study(StudyDefinition):
    """An experiment over agents: conditions x problems x agents x replicates."""

    __slots__ = ()

    @classmethod
    def build(
        cls,
        study_id: str,
        *,
        agents: Mapping[str, Any] | Sequence[Any] | Callable[..., Any],
        problems: Mapping[str, Any] | Sequence[Any],
        factors: Mapping[str, Iterable[Any]] | Sequence[Factor] = (),
        design: Any = "factorial",  # noqa: ANN401 - a name, a DesignSpec, rows, or a DataFrame
        replicates: int = 1,
        seed: int = 0,
        outcomes: Sequence[str | OutcomeSpec] = (),
        evaluators: Mapping[str, Callable[..., Any]] | Callable[..., Any] | None = None,
        pair_by: str | Sequence[str] = (),
        blocks: Mapping[str, Iterable[Any]] | Sequence[Block] = (),
        constraints: Sequence[str | Constraint] = (),
        max_runs: int | None = None,
        **more: Any,  # noqa: ANN401 - other fields of a study
    ) -> Self:
        """Declare a study.

        Args:
            study_id: the name that its ids and its directory, `artifacts/<study_id>`, are made of.
            agents: by name: functions, objects with `run`, functions that make a Flock, or "module:attribute".
            problems: packets, mappings, models or texts, by id or in order.
            factors: what is varied: the levels by name.
            design: "factorial", "lhs", "fractional" or another kind, a DesignSpec or its fields, rows, or a DataFrame.
            replicates: how often each combination runs.
            seed: where all seeds and the order of the runs come from.
            outcomes: what is measured; the first is the primary one unless others say so.
            evaluators: functions of `output` (and `problem`, `condition`, ...) that measure it, by the outcome's name.
            pair_by: what runs share that get the same seed, as "problem".
            blocks: what is kept equal within: the levels by name.
            constraints: expressions over factors and blocks that conditions have to fulfil.
            max_runs: more planned runs than that are an error.
            more: any other field of a study, as `title` or `output_dir`.

        Raises:
            ValidationError: for what can never work.
        """
        refuse_unknown(more, {*(each.name for each in fields(cls)), *signature(cls.build).parameters}, "a study")
        named, packets = _agents(agents), _problems(problems)
        spec, found = _design(design, factors)
        measured = _outcomes(outcomes)
        budget = {"replicates": replicates, "max_runs": max_runs} | to_jsonable(more.pop("run_budget", {}))
        return cls(
            study_id=study_id,
            factors=found,
            blocks=_blocks(blocks),
            constraints=tuple(_constraint(each, number) for number, each in enumerate(constraints, 1)),
            design_spec=spec,
            outcomes=measured,
            run_budget=RunBudget(**budget),
            seed_policy=more.pop("seed_policy", SeedPolicy(base_seed=seed)),
            problem_ids=tuple(packets),
            agent_specs=tuple(named),
            pair_by=(pair_by,) if isinstance(pair_by, str) else tuple(pair_by),
            agents=named,
            problems=packets,
            evaluators=_evaluators(evaluators, measured),
            **more,
        )

    def plan(self) -> Plan:
        """Say what would run, in which order and at which cost, or what stands in the way: the dry run."""
        return with_cost(plan_study(self))

    def run(self, **options: Unpack[RunOptions]) -> StudyResults:
        """Run what is left to do and give the results of all planned runs; `RunOptions` says what the options mean.

        It blocks, and works from anywhere; in a coroutine `arun` is better. Raises ValidationError before anything runs
        when the plan has errors, StudyLockedError while another run of the study writes, StudyChangedError for results
        of other agents. What failed is in the results. Ctrl-C keeps what has ended, writes the files and raises
        KeyboardInterrupt: the next run goes on from there.
        """
        plan = plan_study(self)
        running = Running(plan, _options(options))
        with closing(running.results()) as results:
            for _ in results:
                pass
        return _given(plan, running)

    async def arun(self, **options: Unpack[RunOptions]) -> StudyResults:
        """Do what `run` does without blocking; what agents await runs on this event loop."""
        plan = plan_study(self)
        running = Running(plan, _options(options), asyncio.get_running_loop())
        async with aclosing(streamed(running)) as results:
            async for _ in results:
                pass
        return await asyncio.to_thread(_given, plan, running)

    async def astream(self, **options: Unpack[RunOptions]) -> AsyncGenerator[RunResult, None]:
        """Give each result as it is kept; leaving the iteration, at once in `aclosing(...)`, stops the study."""
        running = Running(plan_study(self), _options(options), asyncio.get_running_loop())
        async with aclosing(streamed(running)) as results:
            async for result in results:
                yield result

    def results(self, *, on_change: OnChange = "raise") -> StudyResults:
        """Give what the record has of the planned runs.

        For results of agents or problems that are others now it raises StudyChangedError; "reuse" takes them as they
        are, "rerun" leaves them out. Raises ValidationError without a record and for a plan with errors.
        """
        plan = plan_study(self)
        return StudyResults(plan, stored(plan, on_change))


def _given(plan: Plan, running: Running) -> StudyResults:
    """Give the results of a run that has ended."""
    results = StudyResults(plan, running.all())
    if running.ran:
        results.warn()
    return results


def _options(given: RunOptions) -> Options:
    refuse_unknown(given, RunOptions.__annotations__, "a run of a study")
    return Options(**given)


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML or JSON file; raises ValidationError for what is none."""
    match Path(path).suffix.lower():
        case ".yaml" | ".yml":
            return Study.from_yaml(path)
        case ".json":
            return Study.from_json(path)
        case other:
            raise ValidationError(f"{path} ends in {other or 'nothing'}: a study is a .yaml, .yml or .json file")


# ---- what people give


def _agents(given: Any) -> dict[str, Any]:  # noqa: ANN401 - see `build`
    if is_mapping(given):
        return {str(name): each for name, each in given.items()}
    several = [given] if callable(given) or isinstance(given, str) else list(given)
    names = [each if isinstance(each, str) else name_of(each) for each in several]
    if len(set(names)) < len(names):
        raise ValidationError(f"agents= has several of the same name ({', '.join(names)}): give a mapping of names")
    return dict(zip(names, several, strict=True))


def _problems(given: Any) -> dict[str, Any]:  # noqa: ANN401 - see `build`
    if is_mapping(given):
        return {str(name): _renamed(packet_of(each, str(name)), str(name)) for name, each in given.items()}
    if isinstance(given, str):
        raise ValidationError("problems= takes a list of problems, not one text")
    packets = [packet_of(each, f"p{number}") for number, each in enumerate(given, 1)]
    found = {each.problem_id: each for each in packets}
    if len(found) < len(packets):
        twice = [each.problem_id for each in packets if [*map(_id, packets)].count(each.problem_id) > 1]
        raise ValidationError(f"problem {twice[0]!r} is there twice: give each an id of its own")
    return found


def _id(packet: ProblemPacket) -> str:
    return packet.problem_id


def _renamed(packet: ProblemPacket, name: str) -> ProblemPacket:
    return packet if packet.problem_id == name else replace(packet, problem_id=name)


def _design(given: Any, factors: Any) -> tuple[DesignSpec, tuple[Factor, ...]]:  # noqa: ANN401 - see `build`
    found = _factors(factors)
    if isinstance(given, str):
        return DesignSpec.from_dict({"kind": given}), found
    if isinstance(given, DesignSpec):
        return given, found
    if is_mapping(given):
        return DesignSpec.from_dict(given), found
    table = getattr(given, "to_dict", None)  # of a DataFrame
    rows = [
        {str(name): to_jsonable(value) for name, value in row.items()} for row in (table("records") if table else given)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    levels = {
        name: list({stable_json_dumps(row[name]): row[name] for row in rows if name in row}.values()) for name in names
    }
    return DesignSpec(kind=DesignKind.CUSTOM_MATRIX, matrix=tuple(rows)), found or _factors(levels)


def _factors(given: Any) -> tuple[Factor, ...]:  # noqa: ANN401 - see `build`
    if not is_mapping(given):
        return tuple(given)
    return tuple(_factor(str(name), levels) for name, levels in given.items())


def _factor(name: str, levels: Any) -> Factor:  # noqa: ANN401 - see `build`
    if isinstance(levels, Factor):
        return levels
    if isinstance(levels, str) or not hasattr(levels, "__iter__"):
        raise ValidationError(f"the levels of factor {name!r} are {levels!r}: give a list, [{levels!r}]")
    return Factor(name, "", levels=tuple(levels))


def _blocks(given: Any) -> tuple[Block, ...]:  # noqa: ANN401 - see `build`
    if not is_mapping(given):
        return tuple(given)
    return tuple(Block(str(name), tuple(levels)) for name, levels in given.items())


def _constraint(given: str | Constraint, number: int) -> Constraint:
    return given if isinstance(given, Constraint) else Constraint(f"c{number}", given, expression=given)


def _outcomes(given: Sequence[str | OutcomeSpec]) -> tuple[OutcomeSpec, ...]:
    if isinstance(given, str):
        raise ValidationError(f"outcomes= takes a list, as [{given!r}]")
    found = tuple(each if isinstance(each, OutcomeSpec) else OutcomeSpec(each) for each in given)
    if found and not any(each.primary for each in found):
        return (replace(found[0], primary=True), *found[1:])
    return found


def _evaluators(given: Any, outcomes: Sequence[OutcomeSpec]) -> dict[str, Callable[..., Any]]:  # noqa: ANN401 - see `build`
    if given is None:
        return {}
    if is_mapping(given):
        return {str(name): each for name, each in given.items()}
    if not callable(given):
        return {name_of(each): each for each in given}
    return {outcomes[0].name if outcomes else name_of(given): given}
