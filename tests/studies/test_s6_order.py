"""S6: ids and seeds never change, the order is the seed's, and pairs share their chance."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import guess, study

from flock.studies import (
    Condition,
    RunBudget,
    RunSpec,
    SeedPolicy,
    Study,
    ValidationError,
    build_design,
    hash_identifier,
    stable_json_dumps,
)
from flock.studies.plan import planned_runs


def test_known_ids_and_seeds_are_those_of_existing_studies() -> None:
    names = {"study_id": "pizza", "condition_id": "cond-1", "replicate": 2, "agent_id": "base", "problem_id": "p1"}
    assert hash_identifier("run", names) == "run-695d9599980a"
    assert SeedPolicy(base_seed=7).derive_seed("pizza", "cond-1", 2, "base:p1") == 1132350910
    assert SeedPolicy().derive_seed("s", "c", 1) == 117486572
    assert hash_identifier("cond", {"factors": {"temperature": 0.7, "model": "a"}, "blocks": {}}) == "cond-c7ebf147b522"


def test_a_plan_has_these_ids_and_seeds() -> None:
    made = Study(
        "pizza",
        problem_ids=("p1",),
        agent_specs=("base",),
        run_budget=RunBudget(2),
        seed_policy=SeedPolicy(base_seed=7),
    )
    first, second = planned_runs(made, [Condition("cond-1", {}, {})])
    assert (second.run_id, second.seed, second.replicate) == ("run-695d9599980a", 1132350910, 2)
    assert first.replicate == 1


@given(
    st.text(min_size=1).filter(str.strip), st.text(min_size=1), st.text(min_size=1), st.text(), st.integers(-9, 10**12)
)  # fmt: skip
def test_a_plan_has_the_ids_and_seeds_of_the_functions_whatever_names_there_are(
    study_id: str, agent: str, problem: str, strategy: str, base: int
) -> None:
    policy = SeedPolicy(base, strategy)
    made = Study(study_id, problem_ids=(problem,), agent_specs=(agent,), seed_policy=policy)
    (run,) = planned_runs(made, build_design(made))
    names: dict[str, Any] = {"study_id": study_id, "condition_id": run.condition_id, "replicate": 1}
    assert run.run_id == hash_identifier("run", {**names, "agent_id": agent, "problem_id": problem})
    assert run.seed == policy.derive_seed(**names, salt=f"{agent}:{problem}")


def test_stable_json_is_sorted_tight_and_ascii() -> None:
    assert stable_json_dumps({"b": [1, 2.5, None], "a": {"ü": True}}) == '{"a":{"\\u00fc":true},"b":[1,2.5,null]}'


@pytest.mark.parametrize("seed", ["0", "7"])
def test_ids_and_orders_are_the_same_in_every_process(seed: str) -> None:
    code = (
        "from flock.studies import *\n"
        "f = {'f': ['u', 'v', frozenset({'k', 'l'})]}\n"
        "s = Study.build('x', agents={'a': 'json:dumps'}, problems=['p', 'q'], factors=f)\n"
        "print(s.plan().order, [c.condition_id for c in s.plan().conditions])"
    )
    said = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
    ).stdout
    made = Study.build(
        "x", agents={"a": "json:dumps"}, problems=["p", "q"], factors={"f": ["u", "v", frozenset({"k", "l"})]}
    )
    plan = made.plan()
    assert said == f"{plan.order} {[each.condition_id for each in plan.conditions]}\n"


def ran(folder: Path, seed: int) -> list[str]:
    order: list[str] = []

    def agent(request_id: str) -> str:
        order.append(request_id)
        return "done"

    made = study(folder, agents={"agent": agent}, evaluators=None, seed=seed)
    made.run(progress=False)
    assert order == made.plan().order
    return order


def test_s6_runs_start_in_an_order_that_the_seed_draws(tmp_path: Path) -> None:
    orders = [ran(tmp_path / str(number), seed) for number, seed in enumerate((1, 1, 2))]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [each.run_id for each in study(tmp_path, agents={"agent": guess}).plan().runs]


def seeds(pair_by: Any, key: Any, **more: Any) -> tuple[int, int]:
    """Give how many seeds there are, and how many values of a key."""
    plan = study(Path("nowhere"), pair_by=pair_by, **more).plan()
    found: dict[Any, set[int]] = defaultdict(set)
    conditions = {each.condition_id: each for each in plan.conditions}
    for run in plan.runs:
        found[key(run, conditions[run.condition_id])].add(run.seed)
    assert all(len(each) == 1 for each in found.values())
    return len({seed for each in found.values() for seed in each}), len(found)


def test_s6_pairs_share_their_seed_across_conditions_and_agents() -> None:
    assert seeds("problem", lambda run, _: (run.problem_id, run.replicate)) == (25, 25)


def test_s6_pairs_by_several_names_share_their_seed_across_all_else() -> None:
    def key(run: RunSpec, condition: Condition) -> Any:
        return run.problem_id, condition.factor_assignments["model"], run.replicate

    assert seeds(["problem", "model"], key) == (50, 50)


def test_s6_without_pairs_every_run_has_a_seed_of_its_own() -> None:
    assert seeds((), lambda run, _: run.run_id) == (200, 200)


def test_s6_paired_runs_draw_the_same_numbers(tmp_path: Path) -> None:
    def agent(rng: random.Random) -> dict[str, Any]:
        return {"answer": rng.random()}

    agents = {"a": agent, "b": agent}
    made = Study.build("pairs", agents=agents, problems=["p", "q"], pair_by="problem", output_dir=tmp_path)
    answers: dict[str, set[float]] = defaultdict(set)
    for each in made.run(progress=False):
        assert each.run_spec is not None
        answers[each.run_spec.problem_id].add(each.outputs["answer"])
    assert {len(each) for each in answers.values()} == {1}
    assert len(set.union(*answers.values())) == 2


@pytest.mark.parametrize("field", ["base_seed", "per_run_offset"])
def test_a_seed_is_a_whole_number(field: str) -> None:
    with pytest.raises(ValidationError, match=f"SeedPolicy.{field} is a whole number, not 1.5"):
        SeedPolicy(**{field: 1.5})  # type: ignore[arg-type]
