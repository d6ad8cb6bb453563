"""Agents and evaluators are called by parameter name; what they give is brought into one form."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from flock.studies import (
    AgentExecution,
    Condition,
    Observation,
    ObservationLevel,
    ProblemPacket,
    RunSpec,
    RunStatus,
    Study,
    ValidationError,
    compose_metrics,
    evaluate_problem,
    execute_agent,
    resolve_problem,
)

SPEC = RunSpec("run-1", "study", "cond-1", "p1", 1, 42, "agent", "p1", {"agent_id": "agent"})
CONDITION = Condition("cond-1", {"temperature": 0.7}, {})
PACKET = ProblemPacket("p1", "sums", "What is 1 + 1?", {"answer": 2})


class Task(BaseModel):
    id: str
    n: int


def execute(agent: Any, packet: ProblemPacket = PACKET, **bindings: Any) -> AgentExecution:
    return execute_agent(
        agent_spec_ref=agent, run_spec=SPEC, condition=CONDITION, problem_packet=packet, agent_bindings=bindings
    )


NAMES: dict[str, Any] = {
    "problem_packet": PACKET,
    "problem": PACKET,
    "brief": "What is 1 + 1?",
    "run_spec": SPEC,
    "condition": CONDITION,
    "seed": 42,
    "prompt": "What is 1 + 1?",
    "input": "What is 1 + 1?",
    "request_id": "run-1",
}


def test_an_agent_gets_what_it_names() -> None:
    got: dict[str, Any] = {}

    def agent(  # noqa: PLR0917 - all that there are
        problem_packet: Any, problem: Any, brief: Any, run_spec: Any, condition: Any, seed: Any, prompt: Any,
        input: Any, request_id: Any, rng: Any, np_rng: Any, dependencies: Any, mine: int = 3,  # noqa: A002 - its name
    ) -> None:  # fmt: skip
        got.update(locals())

    execute(agent)
    assert {name: got[name] for name in NAMES} == NAMES
    assert got["mine"] == 3
    assert got["rng"].random() == random.Random(42).random()  # noqa: S311 - what is tested
    assert got["np_rng"].integers(10**9) == np.random.default_rng(42).integers(10**9)
    assert got["dependencies"] == {
        name: NAMES[name] for name in ("problem_packet", "problem", "run_spec", "condition", "seed")
    }


def test_an_agent_with_keywords_gets_all_but_numpy() -> None:
    got: dict[str, Any] = {}

    def agent(problem: Any, /, *_: Any, **names: Any) -> None:
        got.update(names, problem=problem)

    execute(agent)
    assert got.keys() == {*NAMES, "rng", "dependencies"}


def test_parameters_of_other_names_get_the_packet_and_the_seed() -> None:
    assert execute(lambda packet, number: {"output": [packet.problem_id, number]}).output["answer"] == ["p1", 42]


def test_a_model_and_plain_data_are_given_as_they_are() -> None:
    def agent(problem: Any, prompt: Any) -> dict[str, Any]:
        return {"same": problem is prompt, "n": problem.n if isinstance(problem, Task) else problem["n"]}

    for given in (Task(id="t", n=3), {"id": "t", "n": 3}):
        packet = resolve_problem(given)
        assert packet.problem_id == "t"
        assert execute(agent, packet).output == {"same": True, "n": 3}


async def awaited(seed: int) -> dict[str, Any]:
    return {"answer": seed}


class Runner:
    def __init__(self, condition: Condition) -> None:
        self.temperature = condition.factor_assignments["temperature"]

    def run(self, prompt: str) -> str:
        return f"{prompt} at {self.temperature}"


class Caller:
    async def __call__(self, brief: str) -> str:
        return brief


def made_for(condition: Condition) -> Any:
    def agent(seed: int) -> dict[str, Any]:
        return {"answer": (condition.factor_assignments["temperature"], seed)}

    return agent


@pytest.mark.parametrize(
    ("agent", "output"),
    [
        (awaited, {"answer": 42}),
        (Runner, {"text": "What is 1 + 1? at 0.7"}),
        (Runner(CONDITION), {"text": "What is 1 + 1? at 0.7"}),
        (Caller(), {"text": "What is 1 + 1?"}),
        (made_for, {"answer": (0.7, 42)}),
        (lambda c: lambda: {"answer": c.condition_id}, {"answer": "cond-1"}),
        (functools.partial(lambda seed, more: {"answer": seed + more}, more=1), {"answer": 43}),
        ("json:dumps", None),
        (lambda: lambda: lambda: lambda: lambda: 1, None),
    ],
)
def test_agents_come_in_many_forms(agent: Any, output: Any) -> None:
    if output is None:
        with pytest.raises(ValidationError, match=r"(no run offers|it never answers)"):
            execute(agent)
    else:
        assert execute(agent).output == output


def test_an_agent_is_found_by_the_name_of_its_binding() -> None:
    assert execute("mine", mine=awaited).output == {"answer": 42}
    with pytest.raises(ValidationError, match="there is no agent 'other'; known agents: mine"):
        execute("other", mine=awaited)


@dataclass
class Point:
    x: int


EVENT = Observation("2026-01-02T00:00:00+00:00", "e", "seen", "s", "me", "step")
ANSWERS: list[tuple[Any, dict[str, Any]]] = [
    ("text", {"text": "text"}),
    (None, {}),
    (3, {"answer": 3, "text": "3"}),
    ({"answer": 3}, {"answer": 3}),
    ({"output": {"answer": 3}, "metrics": {"m": 1}}, {"answer": 3}),
    ({"outputs": "text"}, {"text": "text"}),
    ({"text": "said", "metrics": {}}, {"text": "said"}),
    (Task(id="t", n=1), {"id": "t", "n": 1}),
    (Point(2), {"x": 2}),
    ({"output": Point(2)}, {"x": 2}),
    (AgentExecution({"answer": 1}), {"answer": 1}),
    (AgentExecution({"answer": 1}, events=[EVENT]), {"answer": 1}),
]


@pytest.mark.parametrize(("raw", "output"), ANSWERS)
def test_answers_come_in_many_forms(raw: Any, output: dict[str, Any]) -> None:
    assert execute(lambda: raw).output == output


def test_all_parts_of_an_answer_are_kept(tmp_path: Path) -> None:
    def agent() -> dict[str, Any]:
        return {
            "output": "done",
            "metrics": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.25, "quality": 3},
            "events": [{"event_type": "tool_call", "text": "looked", "tool_name": "web", "level": "tool-call"}, EVENT],
            "metadata": {"model_name": "m", "trace_path": "trace.json", "odd": {"a": 1}},
        }

    (result,) = Study.build("parts", agents={"a": agent}, problems=["one"], output_dir=tmp_path).run(progress=False)
    assert result.outputs == {"text": "done"}
    assert (result.cost, result.trace_refs) == (0.25, ["trace.json"])
    assert {
        "input_tokens": 10,
        "output_tokens": 5,
        "quality": 3,
        "tool_call_count": 1,
    }.items() <= result.metrics.items()
    first, second = result.observations
    assert (first.tool_name, first.level, first.run_id) == ("web", ObservationLevel.TOOL_CALL, result.run_id)
    assert second == EVENT
    assert result.provenance_info["model_name"] == "m"
    assert result.provenance_info["metadata"] == {"odd": {"a": 1}}


def test_an_answer_without_events_is_one_event() -> None:
    (event,) = execute(lambda: "hello").events
    assert (event.text, event.event_type, event.actor_id, event.session_id) == (
        "hello",
        "assistant_output",
        "agent",
        "run-1",
    )


def test_an_event_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="an event is a int: give a mapping or an Observation"):
        execute(lambda: {"events": [3]})


def right(output: dict[str, Any], problem: ProblemPacket) -> dict[str, Any]:
    return {"right": output["answer"] == problem.payload["answer"], "note": "text"}


ROWS = [{"metric_name": "m", "value": 1}, 2, {"a": 3, "b": 4}]
EVALUATORS: list[tuple[Any, list[tuple[str, Any]]]] = [
    (lambda output: output["answer"] == 2, [("score", True)]),
    (lambda answer: answer * 10, [("score", 20)]),
    (right, [("right", True)]),
    (lambda: ROWS, [("m", 1), ("score", 2), ("a", 3), ("b", 4)]),
    (lambda: Point(5), [("x", 5)]),
    (lambda: None, []),
]


@pytest.mark.parametrize(("evaluator", "found"), EVALUATORS)
def test_evaluators_measure_an_output(evaluator: Any, found: list[tuple[str, Any]]) -> None:
    packet = ProblemPacket("p1", payload={"answer": 2}, evaluator=evaluator)
    rows = evaluate_problem(packet, {"answer": 2})
    assert [(row["metric_name"], row["metric_value"]) for row in rows] == found
    assert all(row["aggregation_level"] == "run" for row in rows)


def test_an_evaluator_may_be_awaited() -> None:
    async def evaluator(output: dict[str, Any]) -> float:
        return float(output["answer"])

    (row,) = evaluate_problem(ProblemPacket("p1", evaluator=evaluator), {"answer": 2})
    assert row["metric_value"] == 2.0
    assert evaluate_problem(PACKET, {"answer": 2}) == []


def test_a_study_measures_by_its_evaluators_and_the_problems_own(tmp_path: Path) -> None:
    problems: list[Any] = [{"problem_id": "p1", "payload": {"n": 2}, "evaluator": lambda output: output["answer"] == 2}]

    async def closeness(output: dict[str, Any], problem: Any, rng: random.Random) -> float:
        return rng.random() * 0 + float(output["answer"] / problem.payload["n"])

    made = Study.build(
        "measured", agents={"a": lambda: {"answer": 2}}, problems=problems, outcomes=["right"],
        evaluators={"close": closeness}, output_dir=tmp_path,
    )  # fmt: skip
    for parallel in (1, 2):
        (result,) = made.run(parallel=parallel, resume=False, progress=False)
        assert result.status is RunStatus.SUCCESS, result.error_info
        assert [(row["evaluator_id"], row["metric_name"]) for row in result.evaluator_outputs] == [
            ("problem_evaluator", "right"), ("close", "close"),
        ]  # fmt: skip
        assert result.metrics["primary_outcome"] is True


def test_the_primary_outcome_is_what_the_study_or_the_agent_says() -> None:
    rows = [{"metric_name": "first", "metric_value": 1}, {"metric_name": "main", "metric_value": 2}]

    def primary(agent_metrics: dict[str, Any], **more: Any) -> Any:
        return compose_metrics(
            agent_metrics=agent_metrics, evaluation_rows=rows, observations=[], latency_s=1.0, cost_usd=0.0, **more
        ).get("primary_outcome")

    assert primary({}) == 1
    assert primary({}, primary="main") == 2
    assert primary({"main": 3}, primary="main") == 3
    assert primary({"primary_outcome": 4}, primary="main") == 4


def test_metrics_count_what_happened() -> None:
    events = [EVENT, Observation("t", "r", "", "s", "other", "tool_call")]
    found = compose_metrics(
        agent_metrics={"input_tokens": 3}, evaluation_rows=[], observations=events, latency_s=0.5, cost_usd=0.1
    )
    assert found == {
        "input_tokens": 3.0, "output_tokens": 0.0, "tool_call_count": 1, "step_event_count": 2, "unique_actor_count": 2,
        "latency_s": 0.5, "cost_usd": 0.1,
    }  # fmt: skip
