"""S1: serial, parallel and resumed runs give equal results, and global chance is given back."""

from __future__ import annotations

import random
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import guess, study, what

from flock.studies import RunResult, RunStatus, SerialRunner, Study, reproducible_seed


def found(results: Any) -> dict[str, dict[str, Any]]:
    return {each.run_id: what(each) for each in results}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What 200 of 200 runs give one after the other."""
    results = study(tmp_path_factory.mktemp("serial")).run(parallel=1, progress=False)
    assert [each.status for each in results] == [RunStatus.SUCCESS] * 200
    return found(results)


@pytest.mark.parametrize("isolation", ["task", "thread", "process"])
def test_s1_200_of_200_parallel_runs_equal_the_serial_ones(
    tmp_path: Path, serial: dict[str, dict[str, Any]], isolation: Any
) -> None:
    results = study(tmp_path).run(parallel=4, isolation=isolation, progress=False)
    assert found(results) == serial


async def test_s1_200_of_200_runs_on_an_event_loop_equal_the_serial_ones(
    tmp_path: Path, serial: dict[str, dict[str, Any]]
) -> None:
    assert found(await study(tmp_path).arun(parallel=8, progress=False)) == serial


async def test_s1_a_study_left_in_the_middle_and_resumed_equals_the_serial_one(
    tmp_path: Path, serial: dict[str, dict[str, Any]]
) -> None:
    first = []
    async with aclosing(study(tmp_path).astream(parallel=3, progress=False)) as stream:
        async for result in stream:
            first.append(result)
            if len(first) == 77:
                break
    rest = await study(tmp_path).arun(parallel=2, progress=False)
    assert len(rest) == 200
    assert found(rest) == serial
    assert found(first).items() <= serial.items()


def test_s1_the_order_of_results_is_the_plan_and_not_the_order_of_their_ends(tmp_path: Path) -> None:
    made = study(tmp_path)
    assert [each.run_id for each in made.run(parallel=4, progress=False)] == [each.run_id for each in made.plan().runs]


def drawing() -> dict[str, Any]:
    return {"answer": random.random() + float(np.random.random())}  # noqa: S311, NPY002, TID251 - what is tested


def of(folder: Path, agent: Any, **more: Any) -> Study:
    return Study.build("draws", agents={"agent": agent}, problems=["one", "two"], output_dir=folder, **more)


def test_s1_one_at_a_time_the_global_generators_are_seeded_for_each_run(tmp_path: Path) -> None:
    once = of(tmp_path / "a", drawing, replicates=3).run(parallel=1, progress=False)
    again = of(tmp_path / "b", drawing, replicates=3).run(parallel=1, progress=False)
    assert found(once) == found(again)
    assert len({each.outputs["answer"] for each in once}) == 6
    assert all("global_random" not in each.provenance_info for each in once)


def test_s1_in_processes_of_their_own_the_global_generators_are_seeded_too(tmp_path: Path) -> None:
    alone = of(tmp_path / "a", drawing).run(parallel=1, progress=False)
    apart = of(tmp_path / "b", drawing).run(parallel=2, isolation="process", progress=False)
    assert found(alone) == found(apart)


def test_s1_global_chance_goes_on_after_a_study_as_if_there_had_been_none(tmp_path: Path) -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 - what is tested
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    of(tmp_path, drawing).run(parallel=1, progress=False)
    assert (random.getstate(), str(np.random.get_state())) == before  # noqa: NPY002


def test_s1_global_chance_is_given_back_when_an_agent_raises(tmp_path: Path) -> None:
    def raises() -> None:
        random.random()  # noqa: S311, TID251 - what is tested
        raise RuntimeError("no")

    before = random.getstate()
    of(tmp_path, raises).run(parallel=1, progress=False)
    assert random.getstate() == before


def test_s1_a_parallel_run_that_draws_from_global_chance_is_marked(tmp_path: Path) -> None:
    results = of(tmp_path, drawing).run(parallel=2, progress=False)
    assert all("use rng" in each.provenance_info["global_random"] for each in results)


def test_s1_a_run_that_drew_and_ends_after_others_is_marked(tmp_path: Path) -> None:
    drew, others = threading.Event(), threading.Semaphore(0)

    def agent(problem: Any) -> str:
        if problem.problem_id == "p1":
            random.random()  # noqa: S311, TID251 - what is tested
            drew.set()
            for _ in range(5):
                assert others.acquire(timeout=10)
            threading.Event().wait(0.3)  # until those are kept
        else:
            assert drew.wait(10)
            others.release()
        return "done"

    problems = [f"problem {number}" for number in range(6)]
    results = Study.build("late", agents={"a": agent}, problems=problems, output_dir=tmp_path).run(
        parallel=6, progress=False
    )
    assert "global_random" in results[0].provenance_info


def test_s1_parallel_runs_that_draw_from_their_own_rng_are_not_marked(tmp_path: Path) -> None:
    results = study(tmp_path, agents={"guess": guess}).run(parallel=4, progress=False)
    assert not [each for each in results if "global_random" in each.provenance_info]


def test_reproducible_seed_repeats_and_gives_back() -> None:
    before = random.getstate()
    drawn: list[float] = []
    for _ in range(2):
        with reproducible_seed(5):
            drawn += [random.random(), float(np.random.random())]  # noqa: S311, NPY002, TID251 - what is tested
    assert drawn[:2] == drawn[2:]
    assert random.getstate() == before


def test_a_serial_runner_runs_specs_as_the_study_does(tmp_path: Path, serial: dict[str, dict[str, Any]]) -> None:
    plan = study(tmp_path, evaluators=None).plan()
    results: list[RunResult] = SerialRunner().run(
        run_specs=plan.runs[:10],
        condition_by_id={each.condition_id: each for each in plan.conditions},
        agent_bindings=plan.bindings.agents,
        problem_registry=plan.bindings.problems,
    )
    assert [each.outputs for each in results] == [serial[each.run_id]["outputs"] for each in plan.runs[:10]]
