"""What the runs of a study were measured by, to be looked up by name and grouped by what was varied."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from flock.studies.definition import AGENT_FACTORS, PROBLEM_FACTORS
from flock.studies.design.factors import Condition, value_key
from flock.studies.metrics import PRIMARY
from flock.studies.plan import Plan
from flock.studies.runs import RunResult, RunSpec, RunStatus, outcome_of
from flock.studies.stable import ValidationError, stable_json_dumps

AGENT: Final = "agent_id"
PROBLEM: Final = "problem_id"
FAMILY: Final = "problem_family"
CONDITION: Final = "condition_id"
REPLICATE: Final = "replicate"
BEFORE: Final = ("run_id", CONDITION, PROBLEM, FAMILY, AGENT, REPLICATE, "seed", "status")  # the columns of each run
SUMMARY: Final = ("outcome", "n", "failed", "mean", "low", "high", "se", "method")
PASS_AT_K: Final = ("outcome", "k", "problems", "left_out", "pass_at_k", "low", "high", "se", "method")
AFTER: Final = ("latency_s", "cost_usd", "tokens", "error_info")
READABLE: Final = 40  # groups that a picture or a report can show
_TOKENS: Final = ("input_tokens", "output_tokens")
_AMOUNTS: Final = frozenset(
    {*_TOKENS, "tokens", "latency_s", "cost_usd", "tool_call_count", "step_event_count", "unique_actor_count"}
)
_UNITS: Final = {"latency_s": "s", "cost_usd": "USD"}
_SAME: Final = frozenset({*AGENT_FACTORS, *PROBLEM_FACTORS})  # factors that say again which agent or problem runs


@dataclass(frozen=True, slots=True)
class Row:
    """A planned run, its result once it has one, and the names and values that it can be grouped by."""

    spec: RunSpec
    result: RunResult | None
    keys: Mapping[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether it has values."""
        return self.result is not None and self.result.status is RunStatus.SUCCESS

    @property
    def failed(self) -> bool:
        """Whether it ended without an answer."""
        return self.result is not None and self.result.status is RunStatus.FAILED


class Group(NamedTuple):
    """Rows, by their place, that agree on what they are grouped by."""

    levels: dict[str, Any]
    places: list[int]


class Measurements:
    """The planned runs of a study, in the order of the plan, and what was measured."""

    def __init__(self, plan: Plan, results: Iterable[RunResult]) -> None:
        """Look up these results."""
        self.plan = plan
        self.factors, self.blocks = _columns(plan.conditions)
        self.rows = list(_rows(plan, {each.run_id: each for each in results}, self._keys))
        self._declared = {each.name: each.column for each in plan.study.outcomes}
        self._found: dict[str, list[object]] = {}

    def _keys(self, condition: Condition | None) -> dict[str, Any]:
        if condition is None:
            return {}
        factors, blocks = condition.factor_assignments, condition.block_assignments
        found = {column: cell(factors.get(name)) for name, column in self.factors.items()}
        return found | {column: cell(blocks.get(name)) for name, column in self.blocks.items()}

    # ---- outcomes

    def raw(self, name: str) -> list[object]:
        """Give what each row was measured by under a name; None where it was not."""
        if name not in self._found:
            self._found[name] = [None if row.result is None else self._look_up(row.result, name) for row in self.rows]
        return self._found[name]

    def _look_up(self, result: RunResult, name: str) -> object:
        found = outcome_of(result, name)
        if found is None and self._declared.get(name, name) != name:
            found = outcome_of(result, self._declared[name])
        if found is None and name == "tokens":
            counts = [number_of(result.metrics.get(each)) for each in _TOKENS]
            return sum(each or 0.0 for each in counts) if any(each is not None for each in counts) else None
        return found

    def numbers(self, name: str) -> list[float | None]:
        """Give, by row, the number that a run that succeeded was measured by; raises ValidationError for other names.

        Truth values are 0 and 1.
        """
        values = self.raw(name)
        if name not in self._declared and all(value is None for value in values) and name not in self.numeric:
            known = ", ".join([*self.numeric, *([] if "tokens" in self.numeric else ["tokens"])])
            raise ValidationError(f"there is no outcome {name!r}; known outcomes: {known}")
        for row, value in zip(self.rows, values, strict=True):
            if row.succeeded and _is_odd(value):
                raise ValidationError(
                    f"outcome {name!r} is {_short(value)} in {row.spec.run_id}: only numbers and truth values can be "
                    "summarized, so give the study an evaluator that makes one of it"
                )
        return [number_of(value) if row.succeeded else None for row, value in zip(self.rows, values, strict=True)]

    def is_proportion(self, name: str) -> bool:
        """Say whether an outcome is 0 or 1 wherever it has a value, and no amount that happens to be."""
        return name not in _AMOUNTS and {each for each in self.numbers(name) if each is not None} <= {0.0, 1.0}

    @cached_property
    def numeric(self) -> list[str]:
        """The names of what has numbers, or nothing but could have: outcomes of the study, metrics, evaluations."""
        names = dict.fromkeys(self._declared)
        for row in self.rows:
            if row.result is not None:
                names.update(dict.fromkeys(row.result.metrics))
                names.update((str(each.get("metric_name")), None) for each in row.result.evaluator_outputs)
        return [name for name in names if self._is_numeric(name)]

    def _is_numeric(self, name: str) -> bool:
        values = self.raw(name)
        if any(map(_is_odd, values)):
            return False
        return name in self._declared or any(number_of(value) is not None for value in values)

    def outcomes(self, names: str | Sequence[str] | None = None) -> list[str]:
        """Give the outcomes that are asked for; else those of the study, the primary outcome, or all metrics."""
        if names is not None:
            return [names] if isinstance(names, str) else list(names)
        if self._declared:
            return [name for name in self._declared if name in self.numeric]
        return [PRIMARY] if PRIMARY in self.numeric else list(self.numeric)

    def primary(self, name: str | None = None) -> str:
        """Give the outcome that is asked for, else the first that the study is about; ValidationError without any."""
        found = [each for each in self.plan.study.primary_outcomes if each in self.numeric] or self.outcomes()
        if name is None and not found:
            raise ValidationError("no run has a number: give the study outcomes= and evaluators=")
        return found[0] if name is None else name

    def unit(self, name: str) -> str:
        """Give the unit of an outcome where its evaluations say one."""
        for row in self.rows:
            for each in [] if row.result is None else row.result.evaluator_outputs:
                if each.get("metric_name") == name and each.get("metric_unit") not in {None, "", "unitless"}:
                    return str(each["metric_unit"])
        return _UNITS.get(name, "")

    # ---- groups

    @property
    def varied(self) -> list[str]:
        """The factors that have several values among the planned runs."""
        names = [column for name, column in self.factors.items() if name not in _SAME]
        return [name for name in names if len(self.levels(name)) > 1]

    def shared(self, by: str) -> list[str]:
        """Give the names that runs agree on when nothing but a given one differs, as far as it can be told from it."""
        factors = [column for name, column in self.factors.items() if name not in _SAME]
        found = [PROBLEM, REPLICATE, AGENT, *([] if by == CONDITION else [*factors, *self.blocks.values()])]
        agents = {self.factors[name] for name in AGENT_FACTORS if name in self.factors}
        told = {by}
        if by in agents or (by == CONDITION and self._plan_names(AGENT_FACTORS)):
            told.add(AGENT)
        if by in {self.factors[name] for name in PROBLEM_FACTORS if name in self.factors}:
            told.add(PROBLEM)
        return [name for name in found if name not in told]

    def _plan_names(self, factors: Iterable[str]) -> bool:
        return any(name in each.factor_assignments for each in self.plan.conditions for name in factors)

    def by(self, names: str | Sequence[str] | None) -> list[str]:
        """Give the names to group by: agents and the factors that vary unless given; ValidationError for others."""
        if names is None:
            return [AGENT, *self.varied]
        given = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        known = [AGENT, PROBLEM, FAMILY, CONDITION, REPLICATE, *self.factors.values(), *self.blocks.values()]
        columns = self.blocks | self.factors
        found = [name if name in known else columns.get(name, name) for name in given]
        for name in found:
            if name not in known:
                raise ValidationError(f"runs can't be grouped by {name!r}; known names: {', '.join(known)}")
        return found

    def readable(self, by: str | Sequence[str] | None = None) -> list[str]:
        """Give the names to group by for somebody to read: those given, else agents alone where `by` makes too many."""
        names = self.by(by)
        return names if by is not None or len(self.groups(names)) <= READABLE else [AGENT]

    def levels(self, name: str) -> dict[str, Any]:
        """Give the values of a name that rows can be grouped by, by their key, in the order of the plan."""
        return {value_key(row.keys.get(name)): row.keys.get(name) for row in self.rows}

    def groups(self, by: Sequence[str]) -> list[Group]:
        """Give the rows in groups, in the order in which each name's values come in the plan."""
        ranks: list[dict[str, int]] = [{} for _ in by]
        found: dict[tuple[int, ...], Group] = {}
        for place, row in enumerate(self.rows):
            levels = [row.keys.get(name) for name in by]
            rank = tuple(
                seen.setdefault(value_key(level), len(seen)) for seen, level in zip(ranks, levels, strict=True)
            )
            if rank not in found:
                found[rank] = Group(dict(zip(by, levels, strict=True)), [])
            found[rank].places.append(place)
        return [found[rank] for rank in sorted(found)]


def cell(value: object) -> Any:  # noqa: ANN401 - a scalar
    """Give what a table shows of a value: numbers, texts, truth values and None as they are, else its JSON."""
    return value if value is None or isinstance(value, str | int | float) else stable_json_dumps(value)


def number_of(value: object) -> float | None:
    """Give a finite number, or None for anything else."""
    if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
        return float(value)
    return None


def _is_odd(value: object) -> bool:
    return value is not None and not isinstance(value, int | float)


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."  # noqa: PLR2004 - what a line can hold


def _columns(conditions: Iterable[Condition]) -> tuple[dict[str, str], dict[str, str]]:
    """Give the columns of factors and of blocks by their names; a column that is taken gets a prefix."""
    factors: dict[str, str] = {}
    blocks: dict[str, str] = {}
    for condition in conditions:
        factors |= dict.fromkeys(condition.factor_assignments, "")
        blocks |= dict.fromkeys(condition.block_assignments, "")
    taken = {*BEFORE, *AFTER, *SUMMARY, *PASS_AT_K}
    found = {name: f"factor_{name}" if name in taken else name for name in factors if name not in {AGENT, PROBLEM}}
    taken |= {*found.values()}
    return found, {name: f"block_{name}" if name in taken else name for name in blocks}


def _rows(
    plan: Plan, results: Mapping[str, RunResult], keys_of: Callable[[Condition | None], dict[str, Any]]
) -> Iterator[Row]:
    conditions = {each.condition_id: each for each in plan.conditions}
    keys = {name: keys_of(each) for name, each in conditions.items()}
    planned = {each.run_id: each for each in plan.runs}
    for run_id in {**planned, **results}:
        result = results.get(run_id)
        spec = planned.get(run_id) or (None if result is None else result.run_spec)
        if spec is None:
            raise ValidationError(f"{run_id} is no run of study {plan.study.study_id!r}, and does not say what it ran")
        packet = plan.bindings.problems.get(spec.problem_id)
        own = {
            AGENT: spec.agent_id,
            PROBLEM: spec.problem_id,
            FAMILY: packet.family if packet is not None else spec.execution_metadata.get(FAMILY, "unknown"),
            CONDITION: spec.condition_id,
            REPLICATE: spec.replicate,
        }
        yield Row(spec, result, own | keys.get(spec.condition_id, {}))
