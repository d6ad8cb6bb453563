"""Studies as text, and the files that other programs read."""

from __future__ import annotations

import csv
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from scenes import study

from flock.studies import (
    AnalysisPlan,
    Block,
    Constraint,
    DesignKind,
    DesignSpec,
    Factor,
    Hypothesis,
    Level,
    OutcomeSpec,
    RunBudget,
    SeedPolicy,
    Study,
    ValidationError,
    export_canonical_artifacts,
    load_study,
    run_study,
)

RUNS = (
    "study_id,condition_id,run_id,problem_id,problem_family,agent_id,agent_kind,pattern_name,model_name,seed,replicate,"
    "status,start_time,end_time,latency_s,input_tokens,output_tokens,cost_usd,primary_outcome,trace_path,manifest_path,"
    "error_info"
)
EVALUATIONS = "run_id,evaluator_id,metric_name,metric_value,metric_unit,aggregation_level,notes_json"


def whole() -> Study:
    """Give a study that says everything."""
    return Study(
        "whole",
        "A whole study",
        "with \u00fcmlauts\nand lines",
        authors=("A", "B"),
        rationale="why not",
        tags=("t",),
        hypotheses=(Hypothesis("h1", "label", "statement", independent_vars=("model",), dependent_vars=("accuracy",)),),
        factors=(
            Factor("model", "which", levels=(Level("a", "a", metadata={"is_baseline": True}), Level("b", "b"))),
            Factor("temperature", "how hot", levels=(Level("low", 0.1), Level("high", 0.9)), dtype="float"),
        ),
        blocks=(Block("day", ("mon", "tue")),),
        constraints=(Constraint("c1", "no hot b", expression="not (model == 'b' and temperature > 0.5)"),),
        design_spec=DesignSpec(DesignKind.CONSTRAINED_FACTORIAL, options={"x": 1}),
        outcomes=(OutcomeSpec("accuracy", "runs", "accuracy", "mean", primary=True), OutcomeSpec("speed")),
        analysis_plans=(AnalysisPlan("plan", ("h1",), ("t-test",), outcomes=("accuracy",)),),
        run_budget=RunBudget(3, 100, 2, fail_fast=True),
        seed_policy=SeedPolicy(7, "mine", 3),
        output_dir=Path("some") / "where",
        provenance_metadata={"by": "hand"},
        notes="note",
        problem_ids=("p1", "p2"),
        agent_specs=("json:dumps",),
        pair_by=("problem",),
    )


def test_a_study_is_the_same_after_a_dictionary_yaml_and_json(tmp_path: Path) -> None:
    made = whole()
    assert Study.from_dict(made.to_dict()) == made
    assert load_study(made.to_yaml(tmp_path / "study.yaml")) == made
    assert load_study(made.to_json(tmp_path / "study.json")) == made
    assert (made.primary_outcomes, made.secondary_outcomes) == (("accuracy",), ("speed",))
    assert made.to_dict()["schema_version"] == "0.2.0"
    assert json.loads(json.dumps(made.to_dict())) == made.to_dict()


def test_a_file_of_an_older_program_is_read_though_it_says_less(tmp_path: Path) -> None:
    path = tmp_path / "study.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "study_id": "old",
                "title": "Old",
                "outcomes": [{"name": "m", "source_table": "runs", "column": "m", "aggregation": "mean"}],
                "primary_outcomes": ["m"],
                "factors": [{"name": "f", "levels": [{"name": "one", "value": 1}]}],
                "output_dir": None,
            }
        )
    )
    found = load_study(path)
    assert found.primary_outcomes == ("m",)
    assert found.directory == Path("artifacts") / "old"
    assert found.factors[0].iter_values() == (1,)


BROKEN = {
    "study.toml": ("", r"ends in .toml: a study is a .yaml, .yml or .json file"),
    "list.yaml": ("- a", "holds no study: its top level is no mapping"),
    "empty.yaml": ("", "holds no study: its top level is no mapping"),
    "nameless.yaml": ("title: x", "this is no study: it has no study_id"),
    "typo.yaml": ("study_id: x\nfactor: []", r"a study has no 'factor': did you mean factors\?"),
    "short.yaml": ("study_id: x\ndesign: lhs", r"a study has no 'design': did you mean design_spec\?"),
    "torn.json": ('{"study_id": ', "is no JSON"),
    "torn.yaml": ("a: [", "is no YAML"),
    "latin.yaml": ("study_id: \udcfc", "is no text in UTF-8"),
    "budget.yaml": ("study_id: x\nrun_budget: {replicas: 3}", "replicas"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_study_is_told(tmp_path: Path, name: str) -> None:
    text, message = BROKEN[name]
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValidationError, match=message):
        load_study(tmp_path / name)
    with pytest.raises(ValidationError, match="can't be read: No such file"):
        load_study(tmp_path / f"no-{name}" if "toml" not in name else tmp_path / "no.yaml")


def test_without_its_library_yaml_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ValidationError, match=r"need PyYAML: pip install 'flock-board\[studies\]'"):
        whole().to_yaml(tmp_path / "study.yaml")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a study of 8 runs leaves, of which one failed."""

    def agent(problem: dict[str, Any], condition: Any) -> dict[str, Any]:
        if problem["n"] == 2 and condition.factor_assignments == {"temperature": 0.7, "model": "b"}:
            raise RuntimeError("no, \u00fc\n")
        return {"output": {"answer": problem["n"]}, "metrics": {"speed": 2.5, "input_tokens": 3}}

    made = study(
        tmp_path, agents={"agent": agent}, problems=[{"id": "p1", "n": 1}, {"id": "p2", "n": 2}], replicates=1,
        outcomes=["error", "speed"], blocks={"day": ["mon"]}, constraints=["temperature < 0.5 or model == 'b'"],
    )  # fmt: skip
    assert len(made.run(progress=False)) == 6
    return tmp_path


def test_runs_have_these_columns_and_values(folder: Path) -> None:
    assert (folder / "runs.csv").read_text().splitlines()[0] == RUNS
    found = rows(folder / "runs.csv")
    assert [row["status"] for row in found].count("failed") == 1
    first = found[0]
    assert (first["problem_id"], first["agent_id"], first["primary_outcome"], first["input_tokens"]) == (
        "p1",
        "agent",
        "0.0",
        "3.0",
    )
    assert float(first["latency_s"]) > 0
    (failed,) = [row for row in found if row["status"] == "failed"]
    assert failed["error_info"] == "RuntimeError: no, \u00fc\n"


def test_conditions_have_a_column_per_factor_and_block(folder: Path) -> None:
    assert (folder / "conditions.csv").read_text().splitlines()[0] == (
        "study_id,condition_id,admissible,constraint_messages,assignment_meta_json,temperature,model,block_day"
    )
    found = rows(folder / "conditions.csv")
    assert [row["admissible"] for row in found] == ["True", "True", "False", "True"]
    assert json.loads(found[2]["constraint_messages"]) == ["c1: temperature < 0.5 or model == 'b'"]


def test_events_and_evaluations_have_these_columns(folder: Path) -> None:
    header = (folder / "events.csv").read_text().splitlines()[0]
    assert header.startswith("timestamp,record_id,text,session_id,actor_id,event_type,meta_json,run_id")
    assert [row["event_type"] for row in rows(folder / "events.csv")].count("run_failed") == 1
    assert (folder / "evaluations.csv").read_text().splitlines()[0] == EVALUATIONS
    found = {(row["evaluator_id"], row["metric_name"], row["metric_value"]) for row in rows(folder / "evaluations.csv")}
    assert found == {("error", "error", "0.0"), ("agent", "speed", "2.5")}


def test_truth_is_a_number_for_readers_of_numbers(tmp_path: Path) -> None:
    Study.build(
        "truth", agents={"a": lambda: {"answer": 1}}, problems=["one"], outcomes=["right"],
        evaluators=lambda output: {"right": output["answer"] == 1, "half": 0.5}, output_dir=tmp_path,
    ).run(progress=False)  # fmt: skip
    assert [row["metric_value"] for row in rows(tmp_path / "evaluations.csv")] == ["1", "0.5"]
    assert rows(tmp_path / "runs.csv")[0]["primary_outcome"] == "1"


def test_the_manifest_says_what_there_is(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status_counts"] == {"failed": 1, "success": 5}
    assert (manifest["run_count"], manifest["study_id"], manifest["schema_version"]) == (6, "pizza", "0.2.0")
    assert manifest["provenance"]["python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert load_study(folder / "study.yaml").study_id == "pizza"


def test_hypotheses_and_plans_have_files_of_their_own(tmp_path: Path) -> None:
    paths = export_canonical_artifacts(study=whole(), conditions=[], run_results=[], output_dir=tmp_path)
    assert json.loads(paths["hypotheses.json"].read_text())[0]["hypothesis_id"] == "h1"
    assert json.loads(paths["analysis_plan.json"].read_text())[0]["tests"] == ["t-test"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="design-research-analysis needs Python 3.12")
def test_the_published_reader_accepts_what_a_study_leaves(tmp_path: Path) -> None:
    reader: Any = import_module("design_research_analysis")  # which is not there on every Python
    made = study(tmp_path, agents={"guess": "scenes:guess", "still": "scenes:guess"})
    run_study(made, show_progress=False, include_sqlite=True)
    report = reader.validate_experiment_events(tmp_path)
    assert (report.is_valid, report.n_rows, report.errors, report.warnings) == (True, 200, (), ())
    artifacts = reader.load_experiment_artifacts(tmp_path)
    assert len(artifacts["runs.csv"]) == 200
    compared = reader.compare_condition_pairs_from_artifacts(tmp_path, metric="error", condition_column="temperature")
    (pair,) = compared.comparisons
    assert {pair.left_condition, pair.right_condition} == {"0", "0.7"}
    assert (pair.n_left, pair.n_right) == (100, 100)
    assert len(compared.comparisons) == 1
    by_agent = reader.compare_condition_pairs_from_artifacts(
        tmp_path, metric="primary_outcome", condition_column="agent_id"
    )
    assert len(by_agent.comparisons) == 1
