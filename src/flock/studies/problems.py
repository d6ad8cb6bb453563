"""Problems: what agents are given, and how their answers are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from flock.studies.stable import ValidationError, is_mapping, is_numpy, members

OBJECT = "problem_object"  # in a packet's payload: what `problem` gives instead of the packet
_ANSWERS = ("candidate", "state", "answer", "solution", "final_answer", "x")  # keys of an output, the first counts
_PARTS = frozenset({"problem_id", "family", "brief", "payload", "metadata", "evaluator"})
SCORE = "score"  # the metric of numbers without a name
EVALUATOR = "problem_evaluator"  # the name of a problem's own


@dataclass(frozen=True, slots=True)
class ProblemPacket:
    """A problem: its brief for people and models, its data, and the function that measures answers, if there is one."""

    problem_id: str
    family: str = "unknown"
    brief: str = ""
    payload: dict[str, Any] = field(default_factory=dict[str, Any])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    evaluator: Callable[..., Any] | None = None

    @property
    def problem(self) -> Any:  # noqa: ANN401 - whatever it was made of
        """The object that it was made of, where there is one; else the packet."""
        return self.payload.get(OBJECT, self)


def resolve_problem(problem_spec_ref: Any, *, registry: Mapping[str, Any] | None = None) -> ProblemPacket:  # noqa: ANN401
    """Give the packet that a name in the registry, a packet, a mapping or a model stands for, or ValidationError."""
    if isinstance(problem_spec_ref, str):
        if registry is None or problem_spec_ref not in registry:
            known = ", ".join(sorted(registry or ())) or "none"
            raise ValidationError(f"there is no problem {problem_spec_ref!r}; known problems: {known}")
        return packet_of(registry[problem_spec_ref], problem_spec_ref)
    return packet_of(problem_spec_ref, "problem")


def packet_of(value: object, name: str) -> ProblemPacket:
    """Make a packet of what people call a problem; `name` is its id unless it has one."""
    match value:
        case ProblemPacket():
            return value
        case str():
            return ProblemPacket(name, brief=value)
        case BaseModel():
            own = getattr(value, "problem_id", None) or getattr(value, "id", None)
            return ProblemPacket(str(own or name), brief=value.model_dump_json(), payload={OBJECT: value})
        case _ if is_mapping(value):
            return _from_mapping(dict(value.items()), name)
        case _:
            raise ValidationError(
                f"problem {name!r} is a {type(value).__name__}: give a ProblemPacket, a mapping, a model or a text"
            )


def _from_mapping(parts: dict[Any, Any], name: str) -> ProblemPacket:
    own = str(parts.get("problem_id") or parts.get("id") or name)
    if not _PARTS & parts.keys() - {"problem_id"}:  # plain data
        return ProblemPacket(own, brief=str(parts.get("prompt", parts.get("question", ""))), payload={OBJECT: parts})
    rest = {key: value for key, value in parts.items() if key not in _PARTS and key != "id"}
    return ProblemPacket(
        own,
        str(parts.get("family", "unknown")),
        str(parts.get("brief", "")),
        rest | dict(parts.get("payload", {})),
        dict(parts.get("metadata", {})),
        parts.get("evaluator"),
    )


def answer_in(output: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever an agent gave
    """Give the part of an output that evaluators measure: its answer where it names one, else all of it."""
    return next((output[key] for key in _ANSWERS if key in output), output)


def evaluation_rows(raw: object, evaluator: str = EVALUATOR, metric: str = SCORE) -> list[dict[str, Any]]:
    """Give the rows of `evaluations.csv` for what an evaluator returned.

    A number is the value of `metric`, a mapping has a number per metric or is a row already, a sequence has several of
    these. Raises TypeError for anything else.
    """
    if is_numpy(raw):
        raw = raw.tolist()
    match raw:
        case None:
            return []
        case bool() | int() | float():
            return [_row({"metric_name": metric, "metric_value": raw}, evaluator)]
        case list() | tuple():
            return [row for each in members(raw) for row in evaluation_rows(each, evaluator, metric)]
        case _:
            return _rows_in(_mapping_of(raw), evaluator)


def _mapping_of(raw: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever an evaluator gave
    if is_mapping(raw):
        return raw
    if isinstance(raw, BaseModel):
        return raw.model_dump()
    if is_dataclass(raw) and not isinstance(raw, type):
        return {each.name: getattr(raw, each.name) for each in fields(raw)}
    raise TypeError(f"an evaluator gave a {type(raw).__name__}: give a number or a mapping of numbers")


def _rows_in(found: Mapping[str, Any], evaluator: str) -> list[dict[str, Any]]:
    if {"metric_name", "metric_value", "value"} & found.keys():
        return [_row(found, evaluator)]
    rows = ({"metric_name": name, "metric_value": value} for name, value in found.items() if _is_metric(name, value))
    return [_row(row, evaluator) for row in rows]


def _is_metric(name: object, value: object) -> bool:
    return name != "higher_is_better" and (isinstance(value, bool | int | float) or is_numpy(value))


def _row(found: Mapping[str, Any], evaluator: str) -> dict[str, Any]:
    return {
        "evaluator_id": str(found.get("evaluator_id", evaluator)),
        "metric_name": str(found.get("metric_name", SCORE)),
        "metric_value": found.get("metric_value", found.get("value")),
        "metric_unit": str(found.get("metric_unit", "unitless")),
        "aggregation_level": str(found.get("aggregation_level", "run")),
        "notes_json": found.get("notes_json", {}),
    }
