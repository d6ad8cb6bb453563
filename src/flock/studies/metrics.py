"""The metrics of a run: what its agent measured, what evaluators did, and what was counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flock.studies.runs import Observation

PRIMARY: Final = "primary_outcome"
_STEPS: Final = frozenset({"step", "tool_call", "assistant_output"})


def compose_metrics(
    *,
    agent_metrics: Mapping[str, Any],
    evaluation_rows: Sequence[Mapping[str, Any]],
    observations: Sequence[Observation],
    latency_s: float,
    cost_usd: float,
    primary: str | None = None,
) -> dict[str, Any]:
    """Give the metrics of one run.

    The primary outcome is what the agent says it is, else the metric or evaluation called `primary`, else the value of
    the first evaluation.
    """
    kinds = [each.event_type for each in observations]
    found = {
        **agent_metrics,
        "tool_call_count": kinds.count("tool_call"),
        "step_event_count": sum(kind in _STEPS for kind in kinds),
        "unique_actor_count": len({each.actor_id for each in observations}),
        "latency_s": latency_s,
        "cost_usd": cost_usd,
        "input_tokens": number(agent_metrics.get("input_tokens")),
        "output_tokens": number(agent_metrics.get("output_tokens")),
    }
    if PRIMARY not in found:
        named = {str(row.get("metric_name")): row.get("metric_value") for row in reversed(evaluation_rows)}
        if primary is not None and primary in {**named, **agent_metrics}:
            found[PRIMARY] = agent_metrics.get(primary, named.get(primary))
        elif evaluation_rows:
            found[PRIMARY] = evaluation_rows[0].get("metric_value")
    return found


def number(value: object) -> float:
    """Give a number; 0 for what is none, or not finite."""
    return float(value) if isinstance(value, int | float) and abs(value) <= sys.float_info.max else 0.0
