"""S4: what can't work is an error before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flock import Flock
from flock.studies import (
    Constraint,
    Factor,
    Hypothesis,
    Level,
    RunBudget,
    Study,
    ValidationError,
    build_design,
    dry_run_validate,
    resolve_problem,
    run_study,
    validate_study,
)


def never(problem: Any) -> None:
    raise AssertionError("nothing may run")


def made(folder: Path, **more: Any) -> Study:
    given: dict[str, Any] = {"agents": {"never": never}, "problems": ["one", "two"], "output_dir": folder}
    return Study.build("refused", **given | more)


def test_s4_a_budget_below_the_plan_names_both_numbers(tmp_path: Path) -> None:
    study = made(tmp_path, replicates=3, max_runs=5)
    with pytest.raises(ValidationError, match=r"^6 runs are planned, and max_runs is 5: plan fewer or raise it$"):
        study.run()
    assert dry_run_validate(study, conditions=build_design(study)) == ([str(study.plan().errors[0])], 6)
    assert made(tmp_path, replicates=3, max_runs=6).plan().errors == []


@pytest.mark.parametrize("parallel", [0, -1, 1.5, True])
def test_s4_parallelism_below_one_is_refused(tmp_path: Path, parallel: Any) -> None:
    with pytest.raises(ValidationError, match="parallelism is a whole number of at least 1, not"):
        made(tmp_path).run(parallel=parallel)
    with pytest.raises(ValidationError, match="parallelism is a whole number of at least 1, not"):
        run_study(made(tmp_path), parallelism=parallel)
    with pytest.raises(ValidationError, match=r"RunBudget\.parallelism is a whole number of at least 1, not"):
        RunBudget(parallelism=parallel)


@pytest.mark.parametrize("replicates", [0, -2, 1.5, "3"])
def test_s4_replicates_below_one_are_refused(tmp_path: Path, replicates: Any) -> None:
    with pytest.raises(ValidationError, match=r"RunBudget\.replicates is a whole number of at least 1, not"):
        made(tmp_path, replicates=replicates)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_s4_a_timeout_that_is_no_time_is_refused(tmp_path: Path, timeout: float) -> None:
    with pytest.raises(ValidationError, match="timeout takes seconds above zero, not"):
        made(tmp_path).run(timeout=timeout)


def test_s4_no_admissible_condition_is_refused_with_the_reasons(tmp_path: Path) -> None:
    study = made(tmp_path, factors={"n": [1, 2]}, constraints=["n > 2"])
    with pytest.raises(ValidationError, match=r"^no condition is admissible: c1: n > 2$"):
        study.run()
    with pytest.raises(ValidationError, match="no condition is admissible"):
        run_study(made(tmp_path), conditions=[])
    assert dry_run_validate(made(tmp_path), conditions=[]).errors == ["no condition is admissible: there is none"]


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "a name that a constraint has": ({"constraints": ["temprature < 1"]}, "temprature"),
    "a name to pair by": ({"pair_by": "subject"}, "pair_by names subject, which is none of problem"),
    "an agent by name": ({"agents": {"other": "nobody"}}, r"there is no agent 'nobody'; known agents: none"),
    "an agent in a module": ({"agents": {"other": "json:nothing"}}, r"agent 'json:nothing' can't be imported"),
    "an agent of a factor": (
        {"factors": {"agent": ["never", "someone"]}},
        "there is no agent 'someone'; known agents: never; module:attribute names any other",
    ),
    "a problem of a factor": (
        {"factors": {"problem": ["p1", "p9"]}},
        "there is no problem 'p9'; known problems: p1, p2",
    ),
    "a parameter of an agent": (
        {"agents": {"odd": lambda budget, seed: (budget, seed)}},
        "takes budget, which no run offers; it offers problem_packet, problem, brief, run_spec, condition, seed",
    ),
    "a parameter of an evaluator": (
        {"evaluators": lambda output, truth, key: (output, truth, key)},
        "takes truth, key, which no run offers; it offers .*output",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
def test_s4_unknown_names_are_refused(tmp_path: Path, what: str) -> None:
    more, message = UNKNOWN[what]
    study = made(tmp_path, **more)
    with pytest.raises(ValidationError, match=message):
        study.run()
    assert study.plan().errors
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def test_s4_all_errors_are_told_at_once(tmp_path: Path) -> None:
    study = made(tmp_path, agents={"a": "nobody"}, pair_by="subject", max_runs=1)
    with pytest.raises(ValidationError) as told:
        study.run()
    assert len(str(told.value).splitlines()) == len(study.plan().errors) == 3
    assert str(study.plan()).startswith("the study can't run:\n- ")


@pytest.mark.parametrize("level", [object(), float("nan"), float("inf"), print, {"deep": [object()]}])
def test_s4_levels_without_a_stable_form_are_refused(tmp_path: Path, level: Any) -> None:
    with pytest.raises(ValidationError, match=r"(text|numbers|equals no level)"):
        made(tmp_path, factors={"n": [1, level]})


def test_s4_a_factor_that_differs_in_no_level_is_refused() -> None:
    with pytest.raises(ValidationError, match="n"):
        Factor("n", "", levels=(Level("a", 1), Level("b", 1)))


TYPO: dict[str, Any] = {"paralel": 3}
GIVEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a Flock instead of a function that makes one": (
        lambda path: made(path, agents={"board": Flock()}).run(),
        "agent 'board' is a Flock: give a function that makes one, since each run gets its own",
    ),
    "an agent that can't be called": (
        lambda path: made(path, agents={"three": 3}).run(),
        "agent 'three' is a int: give a function, or an object with run",
    ),
    "several agents of one name": (
        lambda path: made(path, agents=[never, never]),
        r"several of the same name \(never, never\): give a mapping of names",
    ),
    "one text for problems": (lambda path: made(path, problems="one"), "problems= takes a list of problems, not"),
    "a number for a problem": (lambda path: made(path, problems=[3]), "problem 'p1' is a int: give a ProblemPacket"),
    "two problems of one id": (
        lambda path: made(path, problems=[{"id": "x", "n": 1}, {"id": "x", "n": 2}]),
        "problem 'x' is there twice: give each an id of its own",
    ),
    "no problem at all": (lambda path: made(path, problems=[]).run(), "the study has no problems: give problems="),
    "one text for outcomes": (lambda path: made(path, outcomes="speed"), r"outcomes= takes a list, as \['speed'\]"),
    "one text for tags": (lambda path: made(path, tags="nice"), r"Study\.tags takes a list, not the text 'nice'"),
    "no name": (lambda _: Study(" "), r"Study\.study_id is empty"),
    "a constraint that is no expression": (lambda path: made(path, constraints=["n >"]), "n >"),
    "a text for levels": (
        lambda path: made(path, factors={"model": "large"}),
        r"the levels of factor 'model' are 'large': give a list, \['large'\]",
    ),
    "a number for levels": (
        lambda path: made(path, factors={"heat": 0.7}),
        r"the levels of factor 'heat' are 0.7: give a list, \[0.7\]",
    ),
    "a field that no study has": (
        lambda path: made(path, replicate=3),
        r"a study has no 'replicate': did you mean replicates\?",
    ),
    "an option that no run has": (
        lambda path: made(path).run(**TYPO),
        r"a run of a study has no 'paralel': did you mean parallel\?",
    ),
    "an unknown design": (lambda path: made(path, design="taguchi"), "taguchi"),
    "agents that other processes can't find": (
        lambda path: made(path, agents={"here": lambda seed: seed}).run(isolation="process"),
        "isolation='process' needs agent 'here' at the top of a module",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", GIVEN)
def test_s4_what_can_not_work_is_refused_with_what_to_do(tmp_path: Path, what: str) -> None:
    act, message = GIVEN[what]
    with pytest.raises(ValidationError, match=message):
        act(tmp_path)


def test_s4_a_typo_is_told_once(tmp_path: Path) -> None:
    study = made(tmp_path, factors={"temperature": [0, 1]}, constraints=["temprature < 1"])
    said = "constraint 'temprature < 1' names temprature; known names: temperature, blocks, factors"
    assert study.plan().errors == [said]


def test_s4_a_dry_run_runs_nothing_and_says_what_a_run_would(tmp_path: Path) -> None:
    assert run_study(made(tmp_path), dry_run=True) == []
    assert not tmp_path.exists() or not list(tmp_path.iterdir())
    with pytest.raises(ValidationError, match="there is no agent"):
        run_study(made(tmp_path, agents={"a": "nobody"}), dry_run=True)


def test_s4_a_dry_run_of_a_definition_knows_no_agents_and_counts(tmp_path: Path) -> None:
    study = Study("plain", problem_ids=("p1",), agent_specs=("a", "b"), run_budget=RunBudget(replicates=3))
    assert dry_run_validate(study, conditions=build_design(study)) == ([], 6)
    nothing = Study("plain")
    errors, planned = dry_run_validate(nothing, conditions=build_design(nothing))
    assert (planned, errors) == (
        0,
        ["the study has no problems: give problems=, problem_ids, or a factor named problem_id"],
    )


def test_s4_parts_that_do_not_fit_together_are_named() -> None:
    study = Study(
        "parts",
        factors=(Factor("n", "", levels=(Level("one", 1),)), Factor("n", "", levels=(Level("two", 2),))),
        constraints=(Constraint("c", "", expression="m > 1"),),
        hypotheses=(Hypothesis("h", "label", "statement", dependent_vars=("speed",)),),
        problem_ids=("p", "p"),
        agent_specs=("a", "a"),
    )
    said = "\n".join(validate_study(study))
    for part in (
        "factor or block 'n' is there twice",
        "problem 'p' is",
        "agent 'a' is",
        "names m; known names: n",
        "speed",
    ):
        assert part in said


def test_s4_an_unknown_problem_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="there is no problem 'x'; known problems: a, b"):
        resolve_problem("x", registry={"b": "text", "a": "text"})


def test_an_outcome_that_nothing_measures_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def agent() -> dict[str, Any]:
        return {"output": {"answer": 1}, "metrics": {"speed": 2}}

    study = made(tmp_path, agents={"a": agent}, outcomes=["sped", "speed"])
    assert study.run(progress=False).unmeasured == ["sped"]
    (said,) = [each.getMessage() for each in caplog.records if each.name == "flock"]
    assert said.startswith("study 'refused': no run has a value of sped; what runs have: speed, ")
    caplog.clear()
    study.run(progress=False)  # which has nothing to do
    assert [each for each in caplog.records if each.name == "flock"] == []


def test_options_of_a_design_may_stand_beside_its_kind(tmp_path: Path) -> None:
    factors = {name: [0, 1] for name in "abcd"}
    study = made(tmp_path, factors=factors, design={"kind": "fractional", "resolution": "IV"})
    assert study.design_spec.options == {"resolution": "IV"}
    assert len(study.plan().conditions) == 8
