"""From the rows of a design to conditions: ids, constraints, and what comparisons are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flock.studies.design.factors import Condition, Constraint, ConstraintSeverity, Factor, value_key
from flock.studies.design.layouts import Row
from flock.studies.stable import hash_identifier, stable_json_dumps


def conditions_of(
    rows: Iterable[Row], factors: Sequence[Factor], constraints: Sequence[Constraint], kind: str
) -> list[Condition]:
    """Give a condition per row, its id the hash of what it assigns, and where that came before, of how often."""
    seen: Counter[str] = Counter()
    found: list[Condition] = []
    for row in rows:
        assigned: dict[str, Any] = {"factors": row.factors, "blocks": row.blocks}
        fingerprint = stable_json_dumps(assigned)
        seen[fingerprint] += 1
        again = {"repeat": seen[fingerprint]} if seen[fingerprint] > 1 else {}
        violated = [each for each in constraints if not each.evaluate(row.factors, row.blocks)]
        found.append(
            Condition(
                hash_identifier("cond", assigned | again),
                dict(row.factors),
                dict(row.blocks),
                {"fingerprint": fingerprint, "design_kind": kind} | again | dict(row.notes) | _comparison(row, factors),
                all(each.severity is not ConstraintSeverity.ERROR for each in violated),
                [f"{each.constraint_id}: {each.description}" for each in violated],
            )
        )
    return found


def _comparison(row: Row, factors: Iterable[Factor]) -> dict[str, Any]:
    """Give the labels and baselines of levels whose metadata says what they are in comparisons."""
    axes = {each.name: axis for each in factors if (axis := _axis(each, row.factors[each.name])) is not None}
    if not axes:
        return {}
    baselines = [name for name, axis in axes.items() if axis["is_baseline"]]
    return {
        "condition_label": " | ".join(axis["label"] for axis in axes.values()),
        "comparison_axes": axes,
        "comparison_baseline": {"is_baseline_condition": len(baselines) == len(axes), "axes": baselines},
    }


def _axis(factor: Factor, value: object) -> dict[str, Any] | None:
    level = next((each for each in factor.levels if value_key(each.value) == value_key(value)), None)
    if level is None or not {"is_baseline", "role"} & level.metadata.keys():
        return None
    is_baseline = bool(level.metadata.get("is_baseline", level.metadata.get("role") == "baseline"))
    return {
        "value": value,
        "level_name": level.name,
        "label": level.label or level.name,
        "role": str(level.metadata.get("role", "baseline" if is_baseline else "treatment")),
        "is_baseline": is_baseline,
    }
