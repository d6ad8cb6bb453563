"""S4: claims and plans that say nothing, or name what is not there, are refused or reported."""

from __future__ import annotations

from typing import Any

import pytest

from flock.studies.design.hypotheses import (
    AnalysisPlan,
    Contrast,
    Hypothesis,
    HypothesisDirection,
    HypothesisKind,
    Mediator,
    Moderator,
    OutcomeSpec,
    unknown_references,
)
from flock.studies.stable import ValidationError, to_jsonable

CLAIM = Hypothesis(
    "h1",
    "Heat",
    "Hot models score higher",
    HypothesisKind.MODERATION,
    ("temperature",),
    ("score",),
    (Moderator("model", ("a", "b")),),
    (Mediator("tokens", "how much was said"),),
    Contrast("hot - cold", "hot", "cold"),
    HypothesisDirection.GREATER,
    0.2,
    "standardized",
)
PLAN = AnalysisPlan("p1", ("h1",), ("welch_t",), ("score",), filters={"status": "success"}, plots=("box",))


def test_an_outcome_is_the_column_of_its_name_unless_told() -> None:
    outcome = OutcomeSpec("score")
    assert (outcome.source_table, outcome.column, outcome.aggregation) == ("runs", "score", "mean")
    assert OutcomeSpec("score", "evaluations", "metric_value", "median").column == "metric_value"


@pytest.mark.parametrize("noun", [CLAIM, PLAN, OutcomeSpec("score", primary=True), Moderator("a"), Mediator("b")])
def test_every_noun_comes_back_from_its_json(noun: Any) -> None:
    assert type(noun).from_dict(to_jsonable(noun)) == noun
    assert type(noun).from_dict(noun) is noun


def test_parts_in_a_file_become_nouns() -> None:
    claim = Hypothesis.from_dict(
        {
            "hypothesis_id": "h",
            "label": "l",
            "statement": "s",
            "kind": "equivalence",
            "independent_vars": "temperature",
            "dependent_vars": ["score"],
            "contrast": {"left": "a", "right": "b"},
        }
    )
    assert claim.kind is HypothesisKind.EQUIVALENCE
    assert claim.independent_vars == ("temperature",)
    assert claim.dependent_vars == ("score",)
    assert claim.contrast == Contrast("contrast", "a", "b")
    assert Contrast.from_dict(Contrast("c", "a", "b")) == Contrast("c", "a", "b")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: OutcomeSpec(""), "OutcomeSpec.name"),
        (lambda: OutcomeSpec("a", ""), "OutcomeSpec.source_table"),
        (lambda: OutcomeSpec("a", aggregation=" "), "OutcomeSpec.aggregation"),
        (lambda: Hypothesis("", "l", "s"), "Hypothesis.hypothesis_id"),
        (lambda: Hypothesis("h", "", "s"), "the label of hypothesis 'h'"),
        (lambda: Hypothesis("h", "l", ""), "the statement of hypothesis 'h'"),
        (lambda: Hypothesis("h", "l", "s", "claim"), "one of effect, moderation"),  # type: ignore[arg-type]
        (lambda: Hypothesis("h", "l", "s", direction="up"), "one of greater, less"),  # type: ignore[arg-type]
        (lambda: Hypothesis("h", "l", "s", independent_vars=(1,)), "independent_vars"),  # type: ignore[arg-type]
        (lambda: Hypothesis("h", "l", "s", minimum_effect_of_interest=float("nan")), "a finite number or None"),
        (lambda: Moderator(""), "Moderator.name"),
        (lambda: Mediator(""), "Mediator.name"),
        (lambda: Contrast("c", "", "b"), "Contrast.left"),
        (lambda: AnalysisPlan("", ("h",), ("t",)), "AnalysisPlan.analysis_plan_id"),
        (lambda: AnalysisPlan("p", (), ("t",)), "analysis plan 'p' has no hypothesis_ids"),
        (lambda: AnalysisPlan("p", ("h",), ()), "analysis plan 'p' has no tests"),
        (lambda: AnalysisPlan("p", ("h",), ("t",), filters=[1]), "the filters of analysis plan 'p'"),  # type: ignore[arg-type]
    ],
)
def test_what_says_nothing_is_refused(build: Any, words: str) -> None:
    with pytest.raises(ValidationError) as told:
        build()
    assert words in str(told.value)


def test_names_that_stand_for_nothing_are_reported() -> None:
    claims = [
        CLAIM,
        Hypothesis("h2", "l", "s", independent_vars=("agent", "problem", "heat"), dependent_vars=("cost",)),
    ]
    plans = [PLAN, AnalysisPlan("p2", ("h2", "h3"), ("t",), ("cost", "score"))]
    assert unknown_references(claims, plans, factors=["temperature"], outcomes=["score"]) == [
        "hypothesis 'h2' names an unknown independent variable 'heat'; known: agent, problem, temperature",
        "hypothesis 'h2' names an unknown dependent variable 'cost'; known: score",
        "analysis plan 'p2' names an unknown hypothesis 'h3'; known: h1, h2",
        "analysis plan 'p2' names an unknown outcome 'cost'; known: score",
    ]
    assert unknown_references([], [PLAN], factors=[], outcomes=[])[0].endswith("known: none")
    assert unknown_references([CLAIM], [PLAN], factors=["temperature"], outcomes=["score"]) == []
