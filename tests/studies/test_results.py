"""S9 and S7: results are tables, comparisons, pictures, reports and files whose numbers are those of the runs."""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typing_extensions import override

from flock.studies import Factor, Level, RunResult, RunStatus, Study, StudyResults, ValidationError
from flock.studies.analysis.documents import Bullets, Paragraph, Table, html, markdown
from flock.studies.analysis.rounding import chance, said, with_interval

MODELS: Any = importlib.import_module("statsmodels.api")
PROPORTIONS: Any = importlib.import_module("statsmodels.stats.proportion")
PARQUET: Any = importlib.import_module("pyarrow.parquet")

# What agents score, by agent and problem, replicate after replicate.
SCORES = {
    "base": {"p1": [0.2, 0.4], "p2": [0.5, 0.6], "p3": [0.9, 0.7]},
    "best": {"p1": [0.5, 0.6], "p2": [0.9, 0.5], "p3": [1.0, 0.8]},
}
HITS = {
    "base": {"p1": [0, 0, 1, 0], "p2": [1, 1, 0, 1], "p3": [0, 0, 0, 0]},
    "best": {"p1": [1, 1, 1, 0], "p2": [1, 1, 1, 1], "p3": [0, 1, 0, 0]},
}
Scores = Mapping[str, Mapping[str, Sequence[float | None]]]


def scorer(scores: Mapping[str, Sequence[float | None]]) -> Callable[..., Any]:
    """Make an agent that answers what it is told to, and fails where it is told None."""

    def agent(run_spec: Any) -> dict[str, Any]:
        number: int = run_spec.replicate - 1
        score = scores[str(run_spec.problem_id)][number]
        if score is None:
            raise ValueError("no | <answer> & no *luck*")
        return {"output": {"answer": score}, "metrics": {"cost_usd": 0.25, "input_tokens": 3, "output_tokens": 4}}

    return agent


def answer(output: Any) -> Any:
    return output["answer"]


def ran(folder: Path, scores: Scores, **more: Any) -> StudyResults:
    """Run a study of agents with these scores."""
    first = next(iter(scores.values()))
    parts: dict[str, Any] = {
        "agents": {name: scorer(each) for name, each in scores.items()},
        "problems": {name: {"text": name} for name in first},
        "replicates": len(next(iter(first.values()))),
        "outcomes": ["score"],
        "evaluators": answer,
        "output_dir": folder,
    }
    return Study.build("oven", **parts | more).run(progress=False)


def shown(results: Any) -> str:
    """Give what a notebook shows."""
    return str(results._repr_html_())


def flat(scores: Mapping[str, Sequence[float | None]]) -> tuple[list[float], list[str]]:
    pairs = [(value, problem) for problem, values in scores.items() for value in values if value is not None]
    return [value for value, _ in pairs], [problem for _, problem in pairs]


def row_of(frame: pd.DataFrame, **where: Any) -> dict[str, Any]:
    found = [row for row in frame.to_dict("records") if all(row[name] == value for name, value in where.items())]
    assert len(found) == 1, found
    return {str(name): value for name, value in found[0].items()}


def clustered(values: Sequence[float], problems: Sequence[str]) -> Any:
    """Fit a mean with standard errors clustered by problem."""
    labels = np.unique(problems, return_inverse=True)[1]
    return MODELS.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": labels, "df_correction": True}, use_t=True
    )


# ---- the table of runs


def test_the_frame_has_a_row_per_run_with_all_that_it_was_measured_by(tmp_path: Path) -> None:
    results = ran(tmp_path, {"base": {"p1": [0.2, None]}}, factors={"heat": [1]}, blocks={"day": ["mon"]})
    frame = results.df()
    assert list(frame.columns[:10]) == [
        "run_id", "condition_id", "problem_id", "problem_family", "agent_id", "replicate", "seed", "status", "heat",
        "day",
    ]  # fmt: skip
    assert list(frame.columns[-4:]) == ["latency_s", "cost_usd", "tokens", "error_info"]
    first, second = frame.to_dict("records")
    assert (first["score"], first["cost_usd"], first["tokens"], first["status"]) == (0.2, 0.25, 7.0, "success")
    assert (first["heat"], first["day"], first["replicate"]) == (1, "mon", 1)
    assert first["seed"] == results.runs[0].run_spec.seed  # type: ignore[union-attr]
    assert second["error_info"] == "ValueError: no | <answer> & no *luck*"
    assert all(math.isnan(second[name]) for name in ("score", "cost_usd", "tokens", "primary_outcome"))
    assert second["latency_s"] > 0


def test_the_columns_of_a_frame_have_the_types_of_what_they_hold(tmp_path: Path) -> None:
    frame = ran(tmp_path, SCORES, factors={"m": [1, 2], "x": [0.5], "b": [True, False]}).df()
    kinds = {name: str(frame[name].dtype) for name in ("m", "x", "b", "seed", "replicate", "score", "tool_call_count")}
    assert kinds == {
        "m": "int64", "x": "float64", "b": "bool", "seed": "int64", "replicate": "int64", "score": "float64",
        "tool_call_count": "float64",
    }  # fmt: skip


def test_a_factor_that_is_called_as_a_column_of_a_summary_hides_neither(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [0, 1], "p2": [1, 1]}}, factors={"n": [10, 20], "k": ["x"]})
    summary = results.summary(by=["n", "k"])
    assert [(row["factor_n"], row["factor_k"], row["n"]) for row in summary.to_dict("records")] == [
        (10, "x", 4),
        (20, "x", 4),
    ]
    passes = results.pass_at_k(2, by="n")
    assert [(row["factor_n"], row["k"]) for row in passes.to_dict("records")] == [(10, 2), (20, 2)]
    assert r"factor\_n" in results.report()


def test_what_is_called_as_another_column_gets_a_prefix(tmp_path: Path) -> None:
    def agent() -> dict[str, Any]:
        return {"output": {}, "metrics": {"seed": 5, "tokens": 9, "heat": 2}}

    results = ran(
        tmp_path,
        {"base": {"p1": [1]}},
        agents={"base": agent},
        evaluators=None,
        factors={"status": ["x"], "heat": [1]},
        blocks={"replicate": ["y"]},
    )
    row = results.df().to_dict("records")[0]
    assert (row["factor_status"], row["status"], row["block_replicate"], row["replicate"]) == ("x", "success", "y", 1)
    assert (row["metric_seed"], row["tokens"], row["heat"], row["metric_heat"]) == (5.0, 9.0, 1, 2.0)


def test_levels_that_are_none_lists_or_truth_values_are_told_apart(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [1]}}, factors={"x": [None, True, 1, [1, 2], {"k": "ä"}]})
    assert results.df()["x"].tolist() == [None, True, 1, "[1,2]", '{"k":"\\u00e4"}']
    assert results.summary()["x"].tolist() == results.df()["x"].tolist()
    assert len(results.compare("score", baseline=[1, 2], by="x")) == 4
    assert ran(tmp_path / "two", {"a": {"p1": [1]}}, factors={"x": [None, 1]}).df()["x"].tolist() == [None, 1]
    assert results.compare("score", baseline=None, by="x")["what"].tolist() == [True, 1, "[1,2]", '{"k":"\\u00e4"}']


def calls_of_a_frame(few: StudyResults, count: int) -> int:
    """Count the calls that a frame of so many runs takes, which no other work on the machine changes."""
    spec, calls = few.plan.runs[0], [0]
    specs = [replace(spec, run_id=f"r{number}", replicate=number) for number in range(count)]
    runs = [replace(few.runs[0], run_id=each.run_id, run_spec=each) for each in specs]
    many = StudyResults(replace(few.plan, runs=specs), runs)

    def called(_: FrameType, event: str, __: object) -> None:
        calls[0] += event == "call"

    outer = sys.getprofile()
    sys.setprofile(called)
    try:
        rows = len(many.df())
    finally:
        sys.setprofile(outer)
    assert rows == count
    return calls[0]


def test_a_frame_takes_work_in_proportion_to_its_runs(tmp_path: Path) -> None:
    few = ran(tmp_path, {"base": {"p1": [1]}})
    few.df()  # pays for the imports
    once, twice = calls_of_a_frame(few, 1_000), calls_of_a_frame(few, 2_000)
    assert once < twice < 2 * once + 1_000
    assert once < 150 * 1_000


# ---- summaries


def test_a_summary_has_the_clustered_interval_where_problems_ran_several_times(tmp_path: Path) -> None:
    summary = ran(tmp_path, SCORES).summary()
    assert list(summary.columns) == ["agent_id", "outcome", "n", "failed", "mean", "low", "high", "se", "method"]
    for agent, scores in SCORES.items():
        row, fit = row_of(summary, agent_id=agent), clustered(*flat(scores))
        assert (row["n"], row["failed"], row["method"]) == (6, 0, "clustered t by problem")
        assert [row["mean"], row["se"]] == pytest.approx([fit.params[0], fit.bse[0]])
        half = stats.t.ppf(0.975, 2) * fit.bse[0]
        assert [row["low"], row["high"]] == pytest.approx([fit.params[0] - half, fit.params[0] + half])


def test_a_summary_of_one_run_per_problem_is_the_interval_of_student(tmp_path: Path) -> None:
    row = row_of(ran(tmp_path, {"base": {"p1": [0.2], "p2": [0.5], "p3": [0.9]}}).summary(confidence=0.9))
    low, high = stats.t.interval(0.9, 2, loc=np.mean([0.2, 0.5, 0.9]), scale=stats.sem([0.2, 0.5, 0.9]))
    assert [row["low"], row["high"]] == pytest.approx([low, high])
    assert row["method"] == "t"


def test_the_replicates_of_a_single_problem_are_not_clustered(tmp_path: Path) -> None:
    row = row_of(ran(tmp_path, {"base": {"p1": [0.2, 0.5, 0.9]}}).summary())
    assert (row["method"], row["se"]) == ("t", pytest.approx(stats.sem([0.2, 0.5, 0.9])))


def test_a_proportion_of_one_run_per_problem_has_the_interval_of_wilson(tmp_path: Path) -> None:
    row = row_of(ran(tmp_path, {"base": {f"p{n}": [float(n < 7)] for n in range(10)}}).summary())
    assert [row["low"], row["high"]] == pytest.approx(PROPORTIONS.proportion_confint(7, 10, method="wilson"))
    assert (row["mean"], row["method"]) == (0.7, "Wilson")


def test_a_proportion_of_several_runs_per_problem_is_clustered_within_zero_and_one(tmp_path: Path) -> None:
    row, fit = row_of(ran(tmp_path, HITS).summary(), agent_id="best"), clustered(*flat(HITS["best"]))
    assert (row["method"], row["se"]) == ("clustered t by problem", pytest.approx(fit.bse[0]))
    assert row["high"] == 1.0  # 0.67 + 4.3 * 0.22
    assert row["low"] == 0.0


def test_a_proportion_that_all_problems_agree_in_is_not_certain(tmp_path: Path) -> None:
    row = row_of(ran(tmp_path, {"base": {"p1": [1, 1], "p2": [1, 1], "p3": [1, 1]}}).summary())
    assert [row["low"], row["high"]] == pytest.approx(PROPORTIONS.proportion_confint(3, 3, method="wilson"))
    assert (row["n"], row["method"]) == (6, "Wilson over problems")


def test_an_outcome_is_a_proportion_only_if_it_is_one_in_all_groups(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [1], "p2": [1]}, "b": {"p1": [0.5], "p2": [1]}})
    assert results.summary()["method"].tolist() == ["t", "t"]
    assert results.summary(outcomes="tool_call_count")["method"].tolist() == ["t", "t"]  # none were made


def test_a_summary_counts_what_failed_and_leaves_it_out(tmp_path: Path) -> None:
    summary = ran(tmp_path, {"a": {"p1": [0.5], "p2": [None]}, "b": {"p1": [None], "p2": [None]}}).summary(
        outcomes=["score", "latency_s"]
    )
    row = row_of(summary, agent_id="a", outcome="score")
    assert (row["n"], row["failed"], row["mean"]) == (1, 1, 0.5)
    assert math.isnan(row["low"])
    row = row_of(summary, agent_id="b", outcome="score")
    assert (row["n"], row["failed"], row["method"]) == (0, 2, "")
    assert math.isnan(row["mean"])
    assert row_of(summary, agent_id="b", outcome="latency_s")["n"] == 0


def test_a_summary_is_by_agents_and_the_factors_that_vary_unless_told(tmp_path: Path) -> None:
    results = ran(tmp_path, SCORES, factors={"heat": [0, 1], "still": ["x"]})
    assert list(results.summary().columns[:3]) == ["agent_id", "heat", "outcome"]
    assert results.summary()[["agent_id", "heat"]].to_numpy().tolist() == [
        ["base", 0], ["base", 1], ["best", 0], ["best", 1],
    ]  # fmt: skip
    assert results.summary(by="heat")["n"].tolist() == [12, 12]
    assert results.summary(by=["problem_id", "still"])["n"].tolist() == [8, 8, 8]


def test_a_study_without_outcomes_is_summarized_by_its_primary_outcome_or_all_metrics(tmp_path: Path) -> None:
    named = ran(tmp_path / "a", {"base": {"p1": [0.5]}}, outcomes=[], evaluators={"score": answer})
    assert named.summary()["outcome"].tolist() == ["primary_outcome"]
    bare = ran(tmp_path / "b", {"base": {"p1": [0.5]}}, outcomes=[], evaluators=None)
    assert {"cost_usd", "input_tokens", "latency_s"} <= {*bare.summary()["outcome"]}


def test_an_outcome_may_be_a_column_of_another_name_or_an_output(tmp_path: Path) -> None:
    spec = {"name": "price", "column": "cost_usd", "primary": True}
    results = ran(tmp_path, {"base": {"p1": [0.5]}}, outcomes=[], evaluators=None)
    assert results.summary(outcomes="answer")["mean"].tolist() == [0.5]
    study = replace(results.plan.study, outcomes=(spec,))  # type: ignore[arg-type]
    named = StudyResults(replace(results.plan, study=study), results.runs)
    assert named.summary()["mean"].tolist() == [0.25]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda each: each.summary(outcomes="taste"), r"no outcome 'taste'; known outcomes: .*cost_usd"),
        (lambda each: each.summary(by="taste"), r"'taste'; known names: agent_id, .*heat"),
        (lambda each: each.summary(outcomes="answer"), r"'answer' is 'text' in run-\w+: only numbers"),
        (lambda each: each.compare("answer", baseline="base"), r"'answer' is 'text'"),
        (lambda each: each.compare("score", baseline="bass"), r"known agents: base, best; known conditions: cond-"),
        (lambda each: each.compare("score", baseline=7, by="heat"), r"no level 7 to compare with; known levels: 0, 1"),
        (lambda each: each.compare("score", baseline="base", by="oven"), r"known names: agent_id"),
        (lambda each: each.compare("score", baseline="base", correction="luck"), r"'luck': use 'bonferroni'"),
        (lambda each: each.compare("score", baseline="base", confidence=95), r"confidence is 95"),
        (lambda each: each.pass_at_k(1, "score"), r"pass@k needs an outcome that is 0 or 1"),
        (lambda each: each.pass_at_k(0, "hit"), r"k is 0: give 1 or more"),
        (lambda each: each.pass_at_k(3, "hit"), r"pass@3 needs 3 values .* none has more than 1: replicate more"),
        (lambda each: each.plot("answer"), r"'answer' is 'text' in run-\w+: only numbers and truth values"),
        (lambda each: each.plot(kind="pie"), r"kind is one of intervals, paired, scatter, not 'pie'"),
        (lambda each: each.plot(path="oven.gif"), r"a picture is a .png, .svg, .pdf file, not .gif"),
        (lambda each: each.report("oven.doc"), r"a report is a .html or .md file, not oven.doc"),
        (lambda each: each.export("xml"), r"no format 'xml'; known formats: csv, jsonl, sqlite, parquet"),
    ],
)
def test_names_that_nobody_knows_are_refused_with_those_that_are_known(
    tmp_path: Path, ask: Callable[[StudyResults], object], message: str
) -> None:
    def wordy() -> dict[str, Any]:
        return {"answer": "text"}

    results = ran(
        tmp_path,
        {"base": {"p1": [1]}, "best": {"p1": [1]}},
        agents={"base": wordy, "best": wordy},
        factors={"heat": [0, 1]},
        evaluators={"score": lambda: 0.5, "hit": lambda: True},
    )
    with pytest.raises(ValidationError, match=message):
        ask(results)


# ---- comparisons


def test_agents_are_compared_in_pairs_clustered_by_problem(tmp_path: Path) -> None:
    frame = ran(tmp_path, SCORES).compare("score", baseline="base")
    row = row_of(frame)
    base, problems = flat(SCORES["base"])
    best, _ = flat(SCORES["best"])
    fit = clustered(list(np.subtract(best, base)), problems)
    assert (row["what"], row["baseline"], row["n"]) == ("best", "base", 6)
    assert row["method"] == "clustered paired t by problem"
    assert [row["mean"], row["baseline_mean"]] == pytest.approx([np.mean(best), np.mean(base)])
    assert [row["difference"], row["p_value"]] == pytest.approx([fit.params[0], fit.pvalues[0]])
    assert [row["low"], row["high"]] == pytest.approx(list(fit.conf_int()[0]))
    assert (row["missing"], row["unpaired"], row["p_adjusted"]) == (0, 0, row["p_value"])


def test_single_runs_of_problems_are_compared_by_the_paired_t(tmp_path: Path) -> None:
    one, two = [0.2, 0.5, 0.9, 0.4], [0.5, 0.7, 0.8, 0.9]
    scores: Scores = {"a": {f"p{n}": [x] for n, x in enumerate(one)}, "b": {f"p{n}": [x] for n, x in enumerate(two)}}
    row, found = row_of(ran(tmp_path, scores).compare("score", baseline="a")), stats.ttest_rel(two, one)
    assert (row["method"], row["p_value"]) == ("paired t", pytest.approx(found.pvalue))
    assert [row["low"], row["high"]] == pytest.approx([*found.confidence_interval()])
    assert row["effect_name"].startswith("d_z")


def test_a_run_that_failed_takes_its_partner_with_it_and_is_counted(tmp_path: Path) -> None:
    scores: Scores = {"a": {"p1": [0.1], "p2": [None], "p3": [0.3]}, "b": {"p1": [0.2], "p2": [0.9], "p3": [0.7]}}
    row = row_of(ran(tmp_path, scores).compare("score", baseline="a"))
    assert (row["n"], row["missing"], row["unpaired"]) == (2, 1, 1)
    assert [row["mean"], row["baseline_mean"], row["difference"]] == pytest.approx([0.45, 0.2, 0.25])


def heated(run_spec: Any, condition: Any) -> dict[str, Any]:
    factors = condition.factor_assignments
    number = int(run_spec.problem_id[1:])
    return {"answer": number + run_spec.replicate / 4 + factors["heat"] * number + (factors["salt"] == "much") * 10}


def test_levels_of_a_factor_are_compared_where_all_else_is_the_same(tmp_path: Path) -> None:
    results = ran(
        tmp_path,
        {"a": {"p1": [1, 1], "p2": [1, 1]}},
        agents={"a": heated},
        factors={"heat": [0, 1, 2], "salt": ["none", "much"]},
    )
    frame = results.compare("score", baseline=0, by="heat", correction="bonferroni")
    assert frame["what"].tolist() == [1, 2]
    assert frame["n"].tolist() == [8, 8]  # 2 problems x 2 replicates x 2 levels of salt
    assert frame["difference"].tolist() == pytest.approx([1.5, 3.0])  # by 1 in p1 and 2 in p2, whatever the salt is
    assert frame["p_adjusted"].tolist() == pytest.approx([2 * each for each in frame["p_value"]])
    named = results.compare("score", baseline="0", by="heat", correction="bonferroni")
    pd.testing.assert_frame_equal(named, frame)


def test_conditions_are_compared_by_their_ids(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [1]}}, agents={"a": heated}, factors={"heat": [0, 1], "salt": ["none"]})
    first, second = (each.condition_id for each in results.plan.conditions)
    row = row_of(results.compare("score", baseline=first))
    assert (row["what"], row["difference"], row["n"]) == (second, 1.0, 1)


def test_agents_that_a_factor_names_are_compared_in_pairs(tmp_path: Path) -> None:
    results = ran(tmp_path, SCORES, factors={"agent": ["base", "best"]})
    by_factor = results.compare("score", baseline="base", by="agent")
    assert (by_factor["n"].tolist(), by_factor["unpaired"].tolist()) == ([6], [0])
    pd.testing.assert_frame_equal(results.compare("score", baseline="base"), by_factor)


def test_runs_without_partners_are_compared_by_the_means_of_their_problems(tmp_path: Path) -> None:
    def agent(run_spec: Any, condition: Any) -> dict[str, Any]:
        found = condition.factor_assignments
        return {"answer": found["kind"] * (1 + int(run_spec.problem_id[1:])) + found["x"]}

    rows = [{"kind": kind, "x": x + kind / 2} for kind in (0, 1) for x in (0.0, 1.0)]  # no x twice
    scores: Scores = {"a": {"p1": [1], "p2": [1], "p3": [1]}}
    row = row_of(ran(tmp_path, scores, agents={"a": agent}, design=rows).compare("score", baseline=0, by="kind"))
    assert (row["n"], row["method"], row["unpaired"]) == (3, "paired t of problem means", 0)
    assert row["difference"] == pytest.approx(3.5)  # the mean of 2, 3 and 4, and 0.5 of x
    assert row["p_value"] == pytest.approx(stats.ttest_1samp([2.5, 3.5, 4.5], 0).pvalue)


def test_families_of_problems_are_compared_unpaired(tmp_path: Path) -> None:
    easy, hard = [0.9, 0.8, 0.7], [0.5, 0.2, 0.4, 0.1]
    scores = {f"e{n}": [x] for n, x in enumerate(easy)} | {f"h{n}": [x] for n, x in enumerate(hard)}
    problems = {name: {"family": name[0], "brief": name} for name in scores}
    row = row_of(ran(tmp_path, {"a": scores}, problems=problems).compare("score", baseline="e", by="problem_family"))
    found = stats.ttest_ind(hard, easy, equal_var=False)
    assert (row["method"], row["n"], row["effect_name"]) == ("Welch t", 7, "Hedges' g")
    assert row["p_value"] == pytest.approx(found.pvalue)
    assert [row["low"], row["high"]] == pytest.approx([*found.confidence_interval()])


def test_families_with_replicates_are_clustered_by_problem(tmp_path: Path) -> None:
    scores = {"e1": [0.9, 0.8], "e2": [0.7, 0.5], "h1": [0.1, 0.2], "h2": [0.4, 0.3]}
    problems = {name: {"family": name[0], "brief": name} for name in scores}
    row = row_of(ran(tmp_path, {"a": scores}, problems=problems).compare("score", baseline="e", by="problem_family"))
    assert row["method"] == "clustered Welch t by problem"
    fits = [clustered([*scores[f"{side}1"], *scores[f"{side}2"]], ["1", "1", "2", "2"]) for side in "eh"]
    difference, se = fits[1].params[0] - fits[0].params[0], math.hypot(*(each.bse[0] for each in fits))
    df = se**4 / sum(each.bse[0] ** 4 for each in fits)
    assert row["high"] == pytest.approx(difference + stats.t.ppf(0.975, df) * se)


# ---- pass@k


def test_pass_at_k_is_the_mean_over_problems(tmp_path: Path) -> None:
    frame = ran(tmp_path, HITS).pass_at_k(2)
    row = row_of(frame, agent_id="base")
    each = [1 - math.comb(4 - c, 2) / math.comb(4, 2) for c in (1, 3, 0)]
    assert row["pass_at_k"] == pytest.approx(np.mean(each))
    assert (row["k"], row["problems"], row["left_out"], row["outcome"]) == (2, 3, 0, "score")
    assert row["se"] == pytest.approx(stats.sem(each))
    assert (row["low"], row["high"]) == (0.0, 1.0)


def test_problems_with_too_few_values_are_left_out_of_pass_at_k(tmp_path: Path) -> None:
    scores: Scores = {"a": {"p1": [1, 0], "p2": [1, None]}, "b": {"p1": [1, None], "p2": [None, 0]}}
    frame = ran(tmp_path, scores).pass_at_k(2)
    row = row_of(frame, agent_id="a")
    assert (row["problems"], row["left_out"], row["pass_at_k"]) == (1, 1, 1.0)
    row = row_of(frame, agent_id="b")
    assert (row["problems"], row["left_out"]) == (0, 2)
    assert math.isnan(row["pass_at_k"])


# ---- pictures


def error_bars(axes: Any) -> list[tuple[float, float, float]]:
    """Give the value and the bounds of each error bar across."""
    found: list[tuple[float, float, float]] = []
    for container in axes.containers:
        line, _, (bars,) = container.lines
        segment = [x for (x, _) in bars.get_segments()[0]] or [math.nan, math.nan]
        found.append((line.get_xdata()[0], *segment))
    return found


def test_the_plot_of_intervals_has_the_runs_and_the_numbers_of_the_summary(tmp_path: Path) -> None:
    results = ran(tmp_path, SCORES)
    (axes,) = results.plot().axes
    wanted = results.summary()[["mean", "low", "high"]].to_numpy().tolist()
    assert np.allclose(error_bars(axes), wanted)
    points = [each.get_offsets()[:, 0].tolist() for each in axes.collections if each.get_label() == "runs"]
    assert [sorted(each) for each in points] == [sorted(flat(scores)[0]) for scores in SCORES.values()]
    assert [each.get_text() for each in axes.get_yticklabels()] == ["base", "best"]
    assert axes.get_xlabel() == "score: runs, and mean with 95 % interval"


def test_an_interval_that_is_not_known_is_not_drawn(tmp_path: Path) -> None:
    (axes,) = ran(tmp_path, {"a": {"p1": [0.5]}}).plot().axes
    ((value, low, high),) = error_bars(axes)
    assert value == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_paired_plot_has_a_line_per_problem_through_its_means(tmp_path: Path) -> None:
    (axes,) = ran(tmp_path, SCORES).plot(kind="paired").axes
    lines = {each.get_gid(): list(each.get_ydata()) for each in axes.lines if each.get_gid()}
    assert lines == {
        "problem p1": pytest.approx([0.3, 0.55]),
        "problem p2": pytest.approx([0.55, 0.7]),
        "problem p3": pytest.approx([0.8, 0.9]),
    }
    assert [each.get_text() for each in axes.get_xticklabels()] == ["base", "best"]


def test_the_scatter_is_over_cost_or_a_numeric_factor(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5]}, "b": {"p1": [0.7]}}, factors={"heat": [1, 2]})
    figure = results.plot(kind="scatter")
    assert figure.axes[0].get_xlabel() == "cost [USD]"
    assert [each.get_text() for each in figure.legends[0].get_texts()] == ["a", "b"]
    assert figure.axes[0].collections[1].get_offsets().tolist() == [[0.25, 0.7], [0.25, 0.7]]
    (axes,) = results.plot(kind="scatter", by="heat").axes
    assert axes.get_xlabel() == "heat"
    assert axes.collections[0].get_offsets().tolist() == [[1, 0.5], [2, 0.5]]


def test_units_that_evaluations_say_are_on_the_axis(tmp_path: Path) -> None:
    def weighed(output: Any) -> dict[str, Any]:
        return {"metric_name": "weight", "value": output["answer"], "metric_unit": "kg"}

    results = ran(tmp_path, {"a": {"p1": [0.5]}}, outcomes=["weight"], evaluators=weighed)
    assert results.plot().axes[0].get_xlabel().startswith("weight [kg]")
    assert "| weight \\[kg\\] |" in results.report()


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_written_as_what_its_name_says_and_the_same_each_time(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    results = ran(tmp_path, SCORES)
    for name in ("one", "two"):
        results.plot(path=tmp_path / "pictures" / f"{name}.{suffix}")
    one, two = ((tmp_path / "pictures" / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one.startswith(magic)
    assert one == two
    assert sorted(each.name for each in (tmp_path / "pictures").iterdir()) == [f"one.{suffix}", f"two.{suffix}"]


def test_pictures_leave_the_global_state_of_matplotlib_alone(tmp_path: Path) -> None:
    code = (
        "import sys; import matplotlib as mpl; from flock.studies import Study\n"
        "def settings(): return {name: mpl.rcParams[name] for name in mpl.rcParams if name != 'backend'}\n"
        "study = Study.build('s', agents={'a': lambda: {'answer': 1}}, problems=['p'], outcomes=['x'],\n"
        f"    evaluators=lambda: 0.5, output_dir={str(tmp_path)!r})\n"
        "before = settings(); study.run(progress=False).report('r.html')\n"
        "print('matplotlib.pyplot' in sys.modules, settings() == before)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True"]


def test_names_in_any_script_and_with_signs_of_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    name = "_日本 $x$ <b>\u0007"
    results = ran(tmp_path, {name: {"p1": [0.5], "p2": [0.7]}, "b": {"p1": [0.1], "p2": [0.2]}})
    for kind in ("intervals", "paired", "scatter"):
        for suffix in ("svg", "png", "pdf"):
            results.plot(kind=kind, path=tmp_path / f"x.{suffix}")
    results.plot(path=tmp_path / "x.svg")
    assert ">_日本 $x$ &lt;b&gt;\ufffd</text>" in (tmp_path / "x.svg").read_text("utf-8")


# ---- reports


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and the text of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    @override
    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    @override
    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def references(page: Page) -> Iterator[str]:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name, value in attributes.items():
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                yield value or ""
            assert not name.startswith("on")
            assert all(each.startswith("#") for each in re.findall(r"url\(([^)]*)", value or ""))


def test_the_page_of_a_report_stands_alone_and_has_the_numbers(tmp_path: Path) -> None:
    results = ran(tmp_path, HITS, hypotheses=[{"hypothesis_id": "h1", "label": "Best", "statement": "best is best"}])
    text = results.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8") == text
    page = Page(text)
    assert all(each.startswith(("#", "data:")) for each in references(page))
    assert "@import" not in text
    assert "svg" in [tag for tag, _ in page.tags]
    assert [re.sub(r"<.*?>", "", each) for each in re.findall(r"<h2>.*?</h2>", text)] == [
        "What was asked", "How", "What came out", "What failed", "Cost and tokens",
    ]  # fmt: skip
    assert ["base", "score", "12", "0", "0.33", "0.00 to 1.00", "clustered t by problem"] in page.rows
    assert ["base", "score", "4", "3", "0", "0.67", "0.00 to 1.00"] in page.rows  # pass@4 of p1 and p2, not of p3
    assert ["best", "12", "3", "0.25", "36", "48"] in [row[:6] for row in page.rows]
    assert [row[:3] for row in page.rows if row[3:4] == ["0.33"]] == [["best", "base", "12"]]


def test_a_report_says_how_the_study_was_done(tmp_path: Path) -> None:
    text = ran(tmp_path, SCORES, seed=11, pair_by="problem", factors={"heat": [0, 1]}, title="Ovens").report()
    assert text.startswith("# Ovens\n")
    for part in (
        "full factorial: 2 conditions, 3 problems, 2 agents (base, best) and 2 replicates",
        "Factor heat: 0, 1.",
        "24 runs planned: 24 succeeded, 0 failed",
        "base seed 11; runs that agree on problem and the replicate share a seed (common random numbers)",
        "Liang and Zeger 1986",
        "Holm 1979",
        f"Python {sys.version.split()[0]}",
        f"pandas {pd.__version__}",
    ):
        assert part in text
    assert "Wilson" not in text  # nothing here is a proportion
    assert "Welch" not in text
    assert "common random numbers" not in ran(tmp_path / "own", SCORES).report()


def test_a_report_counts_what_failed_and_what_is_left_out(tmp_path: Path) -> None:
    text = ran(
        tmp_path, {"a": {"p1": [0.1, None], "p2": [0.3, None]}, "b": {"p1": [0.2, 0.4], "p2": [0.7, 0.1]}}
    ).report()
    assert "2 runs of 8 failed." in text
    assert r"| 2 | ValueError: no \| \<answer\> \& no \*luck\* |" in text
    assert "Left out of these comparisons: 2 runs without a value and 2 runs with a value but no partner" in text


def test_a_report_compares_with_the_level_that_is_marked_as_baseline(tmp_path: Path) -> None:
    heat = Factor("heat", "", levels=(Level("hot", 1), Level("cold", 0, metadata={"role": "baseline"})))
    salt = Factor("salt", "", levels=(Level("none", "none", metadata={"is_baseline": True}),))
    text = ran(tmp_path, {"a": {"p1": [1], "p2": [1]}}, agents={"a": heated}, factors=[heat, salt]).report()
    assert "score, compared by heat:" in text
    assert "| 1 | 0 | 2 | 1.5 |" in text
    assert text.count(", compared by") == 1  # there is one agent, and no other salt


def test_a_report_corrects_as_the_analysis_plan_lays_down(tmp_path: Path) -> None:
    plan = {"analysis_plan_id": "p", "hypothesis_ids": ["h"], "tests": ["t"], "multiple_comparison_policy": "bh"}
    claim = {"hypothesis_id": "h", "label": "H", "statement": "s"}
    scores: Scores = {name: {"p1": [n / 9], "p2": [n * n / 9], "p3": [0.3]} for n, name in enumerate("abc")}
    results = ran(tmp_path, scores, hypotheses=[claim], analysis_plans=[plan])
    assert "Benjamini and Hochberg 1995" in results.report()
    assert "Holm" not in results.report()


def test_a_report_in_markdown_has_its_figure_beside_it(tmp_path: Path) -> None:
    results = ran(tmp_path, SCORES)
    text = results.report(tmp_path / "my report.md")
    assert (tmp_path / "my report.md").read_text("utf-8") == text
    assert "](my%20report.svg)" in text
    assert (tmp_path / "my report.svg").read_text("utf-8").startswith("<svg")
    assert "![" not in results.report()


def test_what_users_write_is_text_in_a_page_and_in_markdown(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> [a](http://x.example) | *b*\n# c'
    results = ran(tmp_path, {evil: {"p1": [0.5]}, "b": {"p1": [0.2]}}, title=evil, description=evil)
    page = Page(results.report(tmp_path / "x.html"))
    assert list(references(page))  # the marks of the plot
    assert [evil.replace("\n", " ")] in [row[:1] for row in page.rows]
    text = results.report()
    assert not re.search(r"(?<!\\)[<\[*|]", text.split("\n")[0])
    assert "\n# c" not in text
    assert "http\\://x.example" in text


def test_a_text_that_looks_like_a_list_is_none_in_markdown() -> None:
    text = markdown("t", [Paragraph("1. no"), Paragraph("- no"), Bullets(["+ no"]), Paragraph("3 of 4")])
    assert text == "# t\n\n1\\. no\n\n\\- no\n\n- \\+ no\n\n3 of 4\n"


def test_a_table_keeps_its_columns_whatever_its_cells_hold() -> None:
    table = Table("c", ["a|b", "n"], [["x|y\nz", "-1"]], frozenset({"n"}))
    assert markdown("t", [table]).split("\n")[4:] == [r"| a\|b | n |", "| --- | ---: |", r"| x\|y z | -1 |", ""]
    assert Page(html("t", [table])).rows == [["a|b", "n"], ["x|y z", "-1"]]


def test_numbers_have_the_digits_that_their_interval_leaves() -> None:
    assert with_interval(0.12345, 0.1, 0.15) == ("0.123", "0.100 to 0.150")
    assert with_interval(1234.5, 1000.0, 1500.0) == ("1,234", "1,000 to 1,500")
    assert with_interval(-0.001, -1.0, 1.0) == ("0.0", "-1.0 to 1.0")
    assert with_interval(0.5, math.nan, math.nan) == ("0.5", "n/a")
    assert with_interval(0.5, 0.5, 0.5) == ("0.5", "0.5 to 0.5")
    assert [said(each) for each in (3, "x", None, True, math.nan, math.inf, 0.12345, 98765.4, -0.0)] == [
        "3", "x", "None", "True", "n/a", "inf", "0.123", "98,765", "0",
    ]  # fmt: skip
    assert [chance(each) for each in (0.0001, 0.04, math.nan)] == ["< 0.001", "0.040", "n/a"]


# ---- files and notebooks


def test_results_are_exported_in_each_format(tmp_path: Path) -> None:
    results = ran(tmp_path / "study", SCORES, factors={"x": [None, 1, "a"]})
    paths = results.export(("csv", "jsonl", "sqlite", "parquet"), folder=tmp_path / "out")
    assert {each.parent for each in paths.values()} == {tmp_path / "out"}
    assert sorted(paths) == sorted(each.name for each in (tmp_path / "out").iterdir())
    with paths["runs.csv"].open(encoding="utf-8", newline="") as file:
        assert [row["run_id"] for row in csv.DictReader(file)] == [each.run_id for each in results]
    lines = paths["runs.jsonl"].read_text("utf-8").splitlines()
    assert [RunResult.from_dict(json.loads(line)) for line in lines] == results.runs
    with closing(sqlite3.connect(paths["study.sqlite"])) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (36,)
    table = PARQUET.read_table(paths["runs.parquet"])
    assert table["score"].to_pylist() == results.df()["score"].tolist()
    assert [*dict.fromkeys(table["x"].to_pylist())] == [None, "1", '"a"']


def test_files_go_to_the_folder_of_the_study_and_only_those_that_are_asked_for(tmp_path: Path) -> None:
    results = ran(tmp_path, SCORES)
    assert results.export("jsonl") == {"runs.jsonl": tmp_path / "runs.jsonl"}
    assert not (tmp_path / "runs.parquet").exists()


def test_nothing_is_written_when_a_format_is_not_known(tmp_path: Path) -> None:
    results = ran(tmp_path / "study", SCORES)
    with pytest.raises(ValidationError, match="'xml'"):
        results.export(["jsonl", "xml"], folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_replaced_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ran(tmp_path, SCORES)
    old = results.export("parquet")["runs.parquet"].read_bytes()

    def torn(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError("full")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="full"):
        results.export("parquet")
    assert (tmp_path / "runs.parquet").read_bytes() == old
    assert not list(tmp_path.glob(".*.part"))


def test_a_notebook_shows_the_summary(tmp_path: Path) -> None:
    page = Page(shown(ran(tmp_path, {"<b>": {"p1": [0.5], "p2": [0.7]}})))
    assert page.rows[1][:5] == ["<b>", "score", "2", "0", "0.6"]


def test_a_notebook_shows_the_counts_where_there_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5, None]}})
    monkeypatch.setitem(sys.modules, "flock.studies.analysis.tables", None)
    text = shown(results)
    assert "1 failed, 1 success of 2 planned" in text
    assert "<table" not in text


@pytest.mark.parametrize(
    ("module", "ask", "extra"),
    [
        ("flock.studies.analysis.tables", lambda each: each.df(), "studies"),
        ("flock.studies.analysis.plots", lambda each: each.plot(), "studies"),
        ("pyarrow.parquet", lambda each: each.export("parquet"), "parquet"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, ask: Callable[[StudyResults], object], extra: str
) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5]}})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValidationError, match=rf"pip install 'flock-board\[{extra}\]'"):
        ask(results)


def test_importing_studies_loads_no_extra() -> None:
    code = "import sys, flock.studies; print({'numpy', 'pandas', 'scipy', 'matplotlib', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == "set()"


# ---- what is hardly there


def everything(results: StudyResults, folder: Path) -> str:
    """Ask for all there is, and give the report."""
    results.df()
    results.summary()
    results.compare("score", baseline="a")
    for kind in ("intervals", "paired", "scatter"):
        results.plot(kind=kind, path=folder / f"{kind}.png")
    results.export(("csv", "jsonl", "sqlite", "parquet"), folder=folder / "files")
    results.report(folder / "report.md")
    assert "<table" in shown(results)
    return results.report(folder / "report.html")


@pytest.mark.parametrize(
    "scores",
    [
        {"a": {"p1": [0.5]}},
        {"a": {"p1": [None]}, "b": {"p1": [None]}},
        {"a": {"p1": [0.5, 0.7], "p2": [0.1, 0.2]}, "b": {"p1": [None, None], "p2": [None, None]}},
        {"a": {"p1": [1, 1], "p2": [1, 1]}, "b": {"p1": [1, 1], "p2": [1, 1]}},
        {"a": {"p1": [True]}, "b": {"p1": [False]}},
    ],
)
def test_little_or_nothing_is_shown_as_such(tmp_path: Path, scores: Scores) -> None:
    text = everything(ran(tmp_path, scores), tmp_path)
    failed = sum(value is None for each in scores.values() for values in each.values() for value in values)
    assert ("No run failed." in text) == (failed == 0)


def test_results_without_any_run_are_empty_tables_and_a_report_that_says_so(tmp_path: Path) -> None:
    nothing = StudyResults(ran(tmp_path, {"a": {"p1": [0.5]}, "b": {"p1": [0.5]}}).plan, [])
    assert "2 runs planned: 0 succeeded, 0 failed, 0 were skipped, 2 have no result" in everything(nothing, tmp_path)
    assert nothing.df().empty
    assert nothing.summary()["n"].tolist() == [0, 0]
    assert row_of(nothing.compare("score", baseline="a"))["missing"] == 2


def test_results_of_texts_have_a_report_that_says_what_is_no_number(tmp_path: Path) -> None:
    def wordy() -> str:
        return "yes"

    results = ran(tmp_path, {"a": {"p1": [1]}}, agents={"a": wordy}, outcomes=["text"], evaluators=None)
    assert "not summarized: text." in results.report(tmp_path / "x.html")
    assert "text" not in results.df()
    with pytest.raises(ValidationError, match="no run has a number"):
        results.plot()


def test_many_conditions_are_shown_by_agent(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5]}, "b": {"p1": [0.5]}}, factors={"x": [*range(30)]})
    assert len(results.summary()) == 60
    assert len(results.plot().axes[0].get_yticklabels()) == 2
    assert "the summary is by agent" in results.report()


def test_results_are_a_sequence_of_runs(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5, None]}})
    assert (len(results), results[0], results[-1:], list(results)) == (
        2,
        results.runs[0],
        results.failures,
        results.runs,
    )
    assert results.failures[0].status is RunStatus.FAILED
    assert repr(results) == "<results of 'oven': 1 failed, 1 success of 2 planned>"


def test_a_run_of_another_study_is_refused(tmp_path: Path) -> None:
    results = ran(tmp_path, {"a": {"p1": [0.5]}})
    with pytest.raises(ValidationError, match="stranger is no run of study 'oven'"):
        StudyResults(results.plan, [RunResult("stranger", RunStatus.SUCCESS)]).df()
