"""A function that makes a Flock is an agent: the problem is published, what comes of it is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from pydantic import BaseModel

from flock import Flock
from flock.studies import Condition, Problem, RunStatus, Study
from flock.studies.usage import Tally
from flock.telemetry import adapter


class Sum(BaseModel):
    id: str
    terms: list[int]


class Draft(BaseModel):
    total: int


class Answer(BaseModel):
    answer: int
    offset: int = 0


def make(condition: Condition) -> Flock:
    """Make a Flock of two agents, one for sums and one for drafts."""
    flock = Flock(name="adders")
    offset = condition.factor_assignments.get("offset", 0)

    @flock.agent
    async def add(sum_: Sum) -> Draft:
        await asyncio.sleep(0)
        return Draft(total=sum(sum_.terms))

    @flock.agent
    def finish(draft: Draft) -> Answer:
        return Answer(answer=draft.total + offset, offset=offset)

    return flock


def right(output: dict[str, Any], problem: Sum) -> bool:
    """Say whether an answer is the sum."""
    return bool(output["answer"] == sum(problem.terms))


def made(folder: Path, agent: Any = make, **more: Any) -> Study:
    given: dict[str, Any] = {
        "agents": {"board": agent},
        "problems": [Sum(id="small", terms=[1, 2]), Sum(id="big", terms=[30, 40])],
        "factors": {"offset": [0, 1]},
        "outcomes": ["right"],
        "evaluators": right,
        "output_dir": folder,
    }
    return Study.build("boards", **given | more)


@pytest.mark.parametrize(("parallel", "isolation"), [(1, "task"), (3, "task"), (2, "thread"), (2, "process")])
def test_every_run_has_a_flock_of_its_own(tmp_path: Path, parallel: int, isolation: Any) -> None:
    results = made(tmp_path).run(parallel=parallel, isolation=isolation, progress=False)
    assert [each.error_info for each in results] == [None] * 4
    answers = [(each.outputs["answer"], each.metrics["primary_outcome"]) for each in results]
    assert answers == [(3, True), (70, True), (4, False), (71, False)]
    first = results[0]
    assert [(each["produced_by"], each["payload"]) for each in first.outputs["artifacts"]] == [
        ("add", {"total": 3}), ("finish", {"answer": 3, "offset": 0}),
    ]  # fmt: skip
    assert [(each.actor_id, each.event_type) for each in first.observations] == [
        ("add", "artifact"),
        ("finish", "artifact"),
    ]
    assert (first.metrics["activations"], first.metrics["artifacts"]) == (2, 2)
    assert first.provenance_info["agent_kind"] == "flock"


async def test_flocks_live_on_the_event_loop_of_the_caller(tmp_path: Path) -> None:
    loops: set[asyncio.AbstractEventLoop] = set()

    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        async def solve(sum_: Sum) -> Answer:
            loops.add(asyncio.get_running_loop())
            return Answer(answer=sum(sum_.terms))

        return flock

    results = await made(tmp_path, factory).arun(parallel=2, progress=False)
    assert {each.status for each in results} == {RunStatus.SUCCESS}
    assert loops == {asyncio.get_running_loop()}


def test_a_failing_agent_of_a_flock_fails_the_run(tmp_path: Path) -> None:
    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        def solve(sum_: Sum) -> Answer:
            raise ValueError(f"can't add {sum_.terms}")

        return flock

    results = made(tmp_path, factory, factors=()).run(progress=False)
    assert results[0].error_info is not None
    assert results[0].error_info.startswith("AgentFailedError: ")
    assert "ValueError: can't add [1, 2]" in results[0].error_info


def test_problems_that_are_no_models_are_published_as_problems(tmp_path: Path) -> None:
    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        def solve(problem: Problem) -> Answer:
            return Answer(answer=problem.payload["n"] if problem.payload else len(problem.brief))

        return flock

    problems = [{"n": 5}, "four"]
    results = made(tmp_path, factory, problems=problems, factors=(), evaluators=None).run(progress=False)
    assert [each.outputs["answer"] for each in results] == [5, 4]


def test_a_flock_on_which_nobody_takes_the_problem_fails_its_run(tmp_path: Path) -> None:
    results = made(tmp_path, Flock, factors=(), evaluators=None).run(progress=False)
    said = "ValidationError: no agent on <Flock 'default' with 0 agents> consumes Sum, so nothing ran"
    assert [each.error_info for each in results] == [said] * 2


def test_an_agent_that_publishes_nothing_gives_no_artifacts(tmp_path: Path) -> None:
    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        def look(sum_: Sum) -> None:
            del sum_

        return flock

    results = made(tmp_path, factory, factors=(), evaluators=None).run(progress=False)
    assert [each.outputs for each in results] == [{"artifacts": []}] * 2


def test_flocks_side_by_side_draw_nothing_from_global_chance(tmp_path: Path) -> None:
    results = made(tmp_path).run(parallel=3, progress=False)
    assert [each.provenance_info.get("global_random") for each in results] == [None] * 4


def test_a_flock_that_takes_too_long_fails_its_run(tmp_path: Path) -> None:
    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        async def solve(sum_: Sum) -> Answer:
            await asyncio.Event().wait()
            return Answer(answer=0)

        return flock

    results = made(tmp_path, factory, factors=()).run(parallel=2, timeout=0.3, progress=False)
    assert [each.status_reason for each in results] == ["timeout"] * 2


@pytest.fixture
def silent() -> Iterator[None]:
    """Nobody listens to spans before and after."""
    adapter.refresh()
    assert not adapter.enabled()
    yield
    assert not adapter.enabled()


def asks(tokens: int) -> Any:
    """Make Flocks whose agent tells of a call to a model as instrumented clients do."""

    def factory() -> Flock:
        flock = Flock()

        @flock.agent
        async def solve(sum_: Sum) -> Answer:
            with trace.get_tracer("client").start_as_current_span("invoke_agent helper") as outer:
                outer.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 10**6})
                with trace.get_tracer("client").start_as_current_span("chat") as span:
                    await asyncio.sleep(0)
                    span.set_attributes(
                        {
                            "gen_ai.operation.name": "chat",
                            "gen_ai.response.model": "small-1",
                            "gen_ai.usage.input_tokens": tokens * len(sum_.terms),
                            "gen_ai.usage.output_tokens": 7,
                            "gen_ai.usage.cost": 0.5,
                        }
                    )
            return Answer(answer=sum(sum_.terms))

        return flock

    return factory


@pytest.mark.usefixtures("silent")
def test_tokens_cost_and_model_come_from_the_spans_of_each_run(tmp_path: Path) -> None:
    problems = [Sum(id="two", terms=[1, 2]), Sum(id="three", terms=[1, 2, 3])]
    results = made(tmp_path, asks(10), problems=problems, factors=()).run(parallel=2, progress=False)
    assert [(each.metrics["input_tokens"], each.metrics["output_tokens"], each.cost) for each in results] == [
        (20, 7, 0.5), (30, 7, 0.5),
    ]  # fmt: skip
    assert {each.provenance_info["model_name"] for each in results} == {"small-1"}
    assert len(set(results[0].trace_refs + results[1].trace_refs)) == 2
    assert "small-1" in (tmp_path / "manifest.json").read_text()
    assert made(tmp_path, asks(10), problems=problems, factors=()).plan().estimated_cost == 1.0


def test_a_tally_counts_older_names_and_no_sums() -> None:
    tally = Tally()
    tally.add({"gen_ai.usage.prompt_tokens": 3, "gen_ai.usage.completion_tokens": 4, "gen_ai.request.model": "m"})
    tally.add({"gen_ai.operation.name": "invoke_workflow", "gen_ai.usage.input_tokens": 100})
    tally.add({"operation.cost": 0.25, "gen_ai.request.model": "n"})
    tally.add({"other": 1})
    assert tally.metrics() == {"input_tokens": 3, "output_tokens": 4, "cost_usd": 0.25}
    assert list(tally.models) == ["m", "n"]
    assert Tally().metrics() == {}
