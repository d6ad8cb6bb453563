"""What a study is: its questions, factors, problems, agents and budget, as text that can be kept and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from flock.studies.design.designs import DesignSpec
from flock.studies.design.expressions import MAPPINGS, names_in
from flock.studies.design.factors import Block, Constraint, Factor
from flock.studies.design.hypotheses import AnalysisPlan, Hypothesis, OutcomeSpec, unknown_references
from flock.studies.design.reading import fields_in, refuse_unknown
from flock.studies.files import replace_text
from flock.studies.problems import ProblemPacket
from flock.studies.runs import RunBudget
from flock.studies.seeds import SeedPolicy
from flock.studies.stable import ValidationError, is_mapping, to_jsonable

SCHEMA_VERSION: Final = "0.2.0"  # of the files that a study writes
AGENT_FACTORS: Final = ("agent_id", "agent", "agent_spec")  # a factor of such a name says which agent runs
PROBLEM_FACTORS: Final = ("problem_id", "problem")
PROBLEM: Final = "problem"  # in `pair_by`
_OLDER: Final = frozenset({"schema_version", "primary_outcomes", "secondary_outcomes"})  # of files, and of older ones
_MEANT: Final = {"design": "design_spec", "replicates": "run_budget", "seed": "seed_policy", "agents": "agent_specs"}
_LIVE: Final = frozenset({"agents", "problems", "evaluators"})  # what text can't hold

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class StudyDefinition:
    """An experiment as it is declared.

    `agents`, `problems` and `evaluators` are the objects behind the names in `agent_specs` and `problem_ids`; files
    hold the names alone. Runs that agree on what `pair_by` names ("problem", factors, blocks), and on the replicate,
    share their seed: common random numbers across all else.
    """

    study_id: str
    title: str = ""
    description: str = ""
    authors: tuple[str, ...] = ()
    rationale: str = ""
    tags: tuple[str, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    factors: tuple[Factor, ...] = ()
    blocks: tuple[Block, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    design_spec: DesignSpec = field(default_factory=DesignSpec)
    outcomes: tuple[OutcomeSpec, ...] = ()
    analysis_plans: tuple[AnalysisPlan, ...] = ()
    run_budget: RunBudget = field(default_factory=RunBudget)
    seed_policy: SeedPolicy = field(default_factory=SeedPolicy)
    output_dir: Path | None = None
    provenance_metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: str = ""
    problem_ids: tuple[str, ...] = ()
    agent_specs: tuple[str, ...] = ()
    pair_by: tuple[str, ...] = ()
    agents: dict[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)
    problems: dict[str, ProblemPacket] = field(default_factory=dict[str, ProblemPacket], repr=False, compare=False)
    evaluators: dict[str, Callable[..., Any]] = field(
        default_factory=dict[str, Callable[..., Any]], repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Take lists, mappings and names for what they stand for; raises ValidationError."""
        if not isinstance(self.study_id, str) or not self.study_id.strip():
            raise ValidationError("Study.study_id is empty: give the study a name that its files and ids are made of")
        self._settle("title", self.title or self.study_id)
        for name, kind in _NOUNS.items():
            self._settle(name, tuple(_noun(kind, each) for each in _several(name, getattr(self, name))))
        for name in ("authors", "tags", "problem_ids", "agent_specs", "pair_by"):
            self._settle(name, tuple(str(each) for each in _several(name, getattr(self, name))))
        self._settle("design_spec", _noun(DesignSpec, self.design_spec))
        self._settle("run_budget", _parts(RunBudget, self.run_budget))
        self._settle("seed_policy", _parts(SeedPolicy, self.seed_policy))
        self._settle(
            "output_dir", Path("artifacts", self.study_id) if self.output_dir is None else Path(self.output_dir)
        )

    def _settle(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.output_dir or Path("artifacts", self.study_id)

    @property
    def primary_outcomes(self) -> tuple[str, ...]:
        """The outcomes that the study is about."""
        return tuple(each.name for each in self.outcomes if each.primary)

    @property
    def secondary_outcomes(self) -> tuple[str, ...]:
        """The other outcomes."""
        return tuple(each.name for each in self.outcomes if not each.primary)

    # ---- text

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON, without the objects behind names."""
        parts = {each.name: to_jsonable(getattr(self, each.name)) for each in fields(self) if each.name not in _LIVE}
        return {"schema_version": SCHEMA_VERSION} | parts

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Self:
        """Give what `to_dict` made of one; raises ValidationError for what is missing, and for what no study has."""
        if "study_id" not in payload:
            raise ValidationError("this is no study: it has no study_id")
        known = {each.name for each in fields(cls)} - _LIVE
        refuse_unknown(payload.keys() - _OLDER, known, "a study", _MEANT)
        given = {name: value for name, value in payload.items() if name in known and value is not None}
        primary = payload.get("primary_outcomes")  # as older files say it
        if primary and not any("primary" in each for each in given.get("outcomes", ())):
            given["outcomes"] = [{**each, "primary": each["name"] in primary} for each in given.get("outcomes", ())]
        return cls(**given)

    def to_yaml(self, path: str | Path) -> Path:
        """Write it as YAML."""
        return replace_text(Path(path), yaml_text(self.to_dict()))

    def to_json(self, path: str | Path) -> Path:
        """Write it as JSON."""
        return replace_text(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read what `to_yaml` wrote."""
        yaml = _yaml()
        try:
            return cls.from_dict(_mapping(path, yaml.safe_load(_text(path))))
        except yaml.YAMLError as error:
            raise ValidationError(f"{path} is no YAML: {error}") from error

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote."""
        try:
            return cls.from_dict(_mapping(path, json.loads(_text(path))))
        except json.JSONDecodeError as error:
            raise ValidationError(f"{path} is no JSON: {error}") from error


_NOUNS: Final[dict[str, Any]] = {
    "hypotheses": Hypothesis,
    "factors": Factor,
    "blocks": Block,
    "constraints": Constraint,
    "outcomes": OutcomeSpec,
    "analysis_plans": AnalysisPlan,
}


def validate_study(study: StudyDefinition) -> list[str]:
    """Say what in a study does not fit together: names given twice, and names that nothing has."""
    factors = [each.name for each in study.factors]
    blocks = [each.name for each in study.blocks]
    outcomes = [each.name for each in study.outcomes]
    errors = [
        *_twice("factor or block", [*factors, *blocks]),
        *_twice("outcome", outcomes),
        *_twice("hypothesis", [each.hypothesis_id for each in study.hypotheses]),
        *_twice("analysis plan", [each.analysis_plan_id for each in study.analysis_plans]),
        *_twice("problem", study.problem_ids),
        *_twice("agent", study.agent_specs),
        *unknown_references(study.hypotheses, study.analysis_plans, factors=[*factors, *blocks], outcomes=outcomes),
    ]
    known = {PROBLEM, *factors, *blocks}
    unknown = [name for name in study.pair_by if name not in known]
    if unknown:
        errors.append(f"pair_by names {', '.join(unknown)}, which is none of {', '.join(sorted(known))}")
    for constraint in study.constraints:
        names = names_in(constraint.expression or "True") - {*factors, *blocks, *MAPPINGS}
        if names:
            said = f"constraint {constraint.expression!r} names {', '.join(sorted(names))}; known names: "
            errors.append(said + ", ".join([*factors, *blocks, *sorted(MAPPINGS)]))
    return errors


def _twice(what: str, names: Iterable[str]) -> list[str]:
    several = list(names)
    return [f"{what} {name!r} is there twice" for name in dict.fromkeys(several) if several.count(name) > 1]


def yaml_text(data: Mapping[str, Any]) -> str:
    """Give JSON as YAML, in ASCII."""
    text: str = _yaml().safe_dump(data, sort_keys=False, default_flow_style=False, allow_unicode=False)
    return text


def _yaml() -> Any:  # noqa: ANN401 - a library that need not be there
    try:
        return import_module("yaml")
    except ImportError as error:
        raise ValidationError("studies as YAML need PyYAML: pip install 'flock-board[studies]'") from error


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ValidationError(f"the study {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValidationError(f"the study {path} is no text in UTF-8: {error}") from error


def _mapping(path: str | Path, data: object) -> Mapping[str, Any]:
    if not is_mapping(data):
        raise ValidationError(f"{path} holds no study: its top level is no mapping")
    return data


def _several(name: str, value: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever was given
    if isinstance(value, str) and name != "pair_by":
        raise ValidationError(f"Study.{name} takes a list, not the text {value!r}")
    return (value,) if isinstance(value, str) else tuple(value or ())


def _noun(kind: Any, value: Any) -> Any:  # noqa: ANN401 - a class that reads itself, and what it reads
    if kind is OutcomeSpec and isinstance(value, str):
        return OutcomeSpec(value)
    return value if isinstance(value, kind) else kind.from_dict(value)


def _parts(kind: type[N], value: Any) -> N:  # noqa: ANN401 - the noun, or its fields
    if not is_mapping(value):
        noun: N = value
        return noun
    return kind(**fields_in(kind, value))
