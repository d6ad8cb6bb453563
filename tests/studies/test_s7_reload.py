"""S7: what a study gives live equals what is read back, whatever agents give."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import override

from flock.studies import AgentExecution, Observation, RunResult, RunStatus, Study, load_checkpointed_run_results
from flock.studies.settling import settled


class Mood(Enum):
    GOOD = "good"


class Model(BaseModel):
    when: dt.date
    score: float


@dataclass
class Point:
    x: int
    tags: frozenset[str]


ODD: dict[str, tuple[Any, Any]] = {
    "numpy": (np.float64(0.5), 0.5),
    "numpy_int": (np.int64(3), 3),
    "numpy_bool": (np.bool_(True), True),  # noqa: FBT003 - a value
    "array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "moment": (np.datetime64("2026-01-02"), "2026-01-02"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
    "tuple": ((1, (2.5, None)), [1, [2.5, None]]),
    "set": ({"b", "a"}, ["a", "b"]),
    "enum": (Mood.GOOD, "good"),
    "model": (Model(when=dt.date(2026, 1, 2), score=1), {"when": "2026-01-02", "score": 1.0}),
    "dataclass": (Point(1, frozenset({"t"})), {"x": 1, "tags": ["t"]}),
    "decimal": (Decimal("1.50"), "1.50"),
    "path": (Path("a") / "b", "a/b"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "keys": ({2: "two", None: "none", True: "yes"}, {"2": "two", "null": "none", "true": "yes"}),
    "text": ("\U0001f914 \u00fc \n\t\u0000", "\U0001f914 \u00fc \n\t\u0000"),
    "big": (2**70, 2**70),
}  # fmt: skip


def ran(folder: Path, agent: Callable[..., Any], **more: Any) -> RunResult:
    (result,) = Study.build("reload", agents={"agent": agent}, problems=["one"], output_dir=folder, **more).run(
        progress=False
    )
    assert load_checkpointed_run_results(folder) == {result.run_id: result}
    return result


@pytest.mark.parametrize("name", ODD)
def test_s7_odd_values_are_json_and_equal_what_is_read_back(tmp_path: Path, name: str) -> None:
    value, plain = ODD[name]
    result = ran(tmp_path, lambda: {"output": {"deep": [value]}, "metrics": {"m": value}})
    assert (result.status, result.error_info) == (RunStatus.SUCCESS, None)
    assert result.outputs["deep"] == result.outputs["deep"] == [plain]
    assert result.metrics["m"] == plain
    assert "as_text" not in result.provenance_info


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_s7_numbers_that_are_none_are_null_with_a_flag(tmp_path: Path, number: float) -> None:
    result = ran(tmp_path, lambda: {"output": {"a": {"b": [1, number]}}, "metrics": {"m": number}})
    assert (result.outputs, result.metrics["m"]) == ({"a": {"b": [1, None]}}, None)
    assert result.provenance_info["not_finite"] == {
        "outputs.a.b[1]": str(float(number)),
        "metrics.m": str(float(number)),
    }


def test_s7_an_evaluation_that_is_no_number_is_null_with_a_flag(tmp_path: Path) -> None:
    result = ran(tmp_path, lambda: "done", evaluators={"score": lambda output: (math.nan, output)[0]})
    assert result.evaluator_outputs[0]["metric_value"] is None
    assert "evaluator_outputs[0].metric_value" in result.provenance_info["not_finite"]


def test_s7_objects_without_a_form_are_text_with_a_flag(tmp_path: Path) -> None:
    class Odd:
        @override
        def __str__(self) -> str:
            return "odd one"

    result = ran(tmp_path, lambda: {"output": {"it": Odd()}})
    assert result.outputs == {"it": "odd one"}
    assert "Odd" in result.provenance_info["as_text"]["outputs.it"]


def test_s7_events_and_traces_are_read_back(tmp_path: Path) -> None:
    seen = Observation("2026-01-02T03:00:00+00:00", "e1", "looked", "s", "me", "tool_call", {"n": np.int64(2)})
    given = AgentExecution({"x": 1}, {"cost_usd": 0.5}, [seen], ["trace"], {"model_name": "m"})
    result = ran(tmp_path, lambda: given)
    (event,) = result.observations
    assert (event.text, event.meta_json, result.trace_refs, result.cost) == ("looked", {"n": 2}, ["trace"], 0.5)
    assert result.provenance_info["model_name"] == "m"


def test_s7_what_an_agent_changes_afterwards_changes_no_result(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"steps": []}

    def agent() -> dict[str, Any]:
        shared["steps"].append(len(shared["steps"]))
        return {"output": shared}

    made = Study.build("shared", agents={"a": agent}, problems=["one", "two"], replicates=2, output_dir=tmp_path)
    results = made.run(progress=False)
    assert sorted(len(each.outputs["steps"]) for each in results) == [1, 2, 3, 4]
    assert list(made.results()) == list(results)


def test_s7_failed_and_skipped_runs_are_read_back(tmp_path: Path) -> None:
    def agent() -> None:
        raise RuntimeError("no")

    made = Study.build("failed", agents={"a": agent}, problems=["one", "two"], output_dir=tmp_path)
    results = made.run(fail_fast=True, progress=False)
    assert sorted(each.status for each in results) == ["failed", "skipped"]
    assert list(made.results()) == list(results)


WORDS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner) | st.tuples(inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_s7_whatever_is_settled_is_read_back_equal(value: object) -> None:
    found = settled({"value": value})[0]["value"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert settled({"value": found})[0]["value"] == found


def test_s7_text_that_no_file_holds_is_escaped_with_a_flag(tmp_path: Path) -> None:
    result = ran(tmp_path, lambda: "half \ud800")
    assert result.outputs == {"text": "half \\ud800"}
    assert "outputs.text" in result.provenance_info["as_text"]


def test_s7_an_error_that_no_file_holds_is_escaped(tmp_path: Path) -> None:
    def agent() -> None:
        raise ValueError("half \ud800")

    assert ran(tmp_path, agent).error_info == "ValueError: half \\ud800"
