"""S4: factors, blocks and constraints that can never work are refused as they are built, in words that help."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock import ConfigurationError
from flock.studies.design.factors import (
    Block,
    Condition,
    Constraint,
    ConstraintSeverity,
    Factor,
    FactorKind,
    Level,
    load_callable,
    value_key,
)
from flock.studies.stable import ValidationError, to_jsonable


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


def hot_and_small(factors: dict[str, Any], blocks: dict[str, Any]) -> bool:
    return bool(factors["temperature"] > blocks["limit"])


def numpys(factors: dict[str, Any], blocks: dict[str, Any]) -> object:
    return np.bool_(0)


def odd(factors: dict[str, Any], blocks: dict[str, Any]) -> object:
    return "yes"


def fails(factors: dict[str, Any], blocks: dict[str, Any]) -> bool:
    raise KeyError("nothing")


HERE = __name__


@pytest.fixture(autouse=True)
def found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module is found under its own name, as those of users are."""
    module = type(pytest)(HERE)
    module.__dict__.update(globals())
    monkeypatch.setitem(__import__("sys").modules, HERE, module)


def test_a_level_is_labelled_by_its_name_unless_it_has_a_label() -> None:
    assert Level("low", 0.1).label == "low"
    assert Level("low", 0.1, "Low").label == "Low"


def test_plain_values_become_levels_named_by_their_text() -> None:
    factor = Factor("temperature", "", levels=(0, 0.7, None, ""))  # type: ignore[arg-type]
    assert [each.name for each in factor.levels] == ["0", "0.7", "None", "''"]
    assert factor.iter_values() == (0, 0.7, None, "")


def test_a_factor_without_levels_stays_at_its_default() -> None:
    assert Factor("top_p", "", default=0.9).iter_values() == (0.9,)


def test_words_become_members_of_the_closed_sets() -> None:
    assert Factor("a", "", "nuisance", default=1).kind is FactorKind.NUISANCE  # type: ignore[arg-type]
    assert Constraint("c", "", "True", severity="warning").severity is ConstraintSeverity.WARNING  # type: ignore[arg-type]


def test_values_of_numpy_become_plain_and_tuples_stay_tuples() -> None:
    levels = (np.float64(0.5), np.int64(2), (1, "a"), (np.int8(1), {"x": np.float32(2)}), np.str_("a"), [np.int8(7)])
    values = Factor("a", "", levels=levels).iter_values()  # type: ignore[arg-type]
    assert values == (0.5, 2, (1, "a"), (1, {"x": 2.0}), "a", [7])
    assert [type(each) for each in values] == [float, int, tuple, tuple, str, list]
    assert [type(each) for each in values[3]] == [int, dict]
    assert type(values[3][1]["x"]) is float
    assert Factor("a", "", levels=np.arange(2)).iter_values() == (0, 1)  # type: ignore[arg-type]
    assert Block("day", (np.int64(1), 2)).levels == (1, 2)
    assert type(Factor("a", "", default=np.float64(1)).default) is float


def test_values_with_a_stable_form_stay_what_they_are() -> None:
    values = (Size.SMALL, PurePosixPath("a/b"), (1, (2, 3)), {"k": [1]})
    assert Factor("a", "", levels=values).iter_values() == values  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Level(" ", 1), "Level.name is a text that is not empty"),
        (lambda: Level("a", object()), "is a object, whose text may differ"),
        (lambda: Level("a", math.nan), "equals no level"),
        (lambda: Level("a", 1, metadata=[1]), "is a mapping"),  # type: ignore[arg-type]
        (lambda: Factor("", "", default=1), "Factor.name"),
        (lambda: Factor("a", ""), "factor 'a' has no levels: give it levels, or a default"),
        (lambda: Factor("a", "", levels=(Level("x", 1), Level("x", 2))), "level names of factor 'a' are not distinct"),
        (lambda: Factor("a", "", levels=(Level("x", 1), Level("y", 1))), "level values of factor 'a' are not distinct"),
        (lambda: Factor("a", "", levels=(Level("x", 1), Level("y", 1.0))), "1.0 is there twice"),
        (lambda: Factor("a", "", levels="ab"), "a list or tuple in their order, not 'ab'"),  # type: ignore[arg-type]
        (lambda: Factor("a", "", levels={1, 2}), "in their order, not {1, 2}"),  # type: ignore[arg-type]
        (lambda: Factor("a", "", levels=(lambda: 1,)), "is a function"),  # type: ignore[arg-type]
        (lambda: Factor("a", "", default=object()), "the default of factor 'a'"),
        (lambda: Factor("a", "", "manipulation", default=1), "one of manipulated, measured, blocked, nuisance"),  # type: ignore[arg-type]
        (lambda: Block(" ", (1,)), "Block.name"),
        (lambda: Block("day", ()), "block 'day' has no levels"),
        (lambda: Block("day", (1, 1)), "levels of block 'day' are not distinct"),
        (lambda: Block("day", "ab"), "the levels of block 'day' are a list or tuple"),  # type: ignore[arg-type]
        (lambda: Constraint("", "", "True"), "Constraint.constraint_id"),
        (lambda: Constraint("c", ""), "constraint 'c' has no rule: give it an expression or a callable_ref"),
        (lambda: Constraint("c", "", "a >"), "the expression 'a >' can't be read"),
        (lambda: Constraint("c", "", " "), "the expression of constraint 'c'"),
        (lambda: Constraint("c", "", "[x for x in a] == a"), "ListComp"),
        (
            lambda: Constraint("c", "", callable_ref="module.function"),
            "'package.module:function', not by 'module.function'",
        ),
        (lambda: Constraint("c", "", callable_ref=hot_and_small), "package.module:function"),  # type: ignore[arg-type]
        (lambda: Constraint("c", "", "True", severity="fatal"), "one of error, warning, not 'fatal'"),  # type: ignore[arg-type]
        (lambda: Condition("", {}, {}), "Condition.condition_id"),
        (lambda: Level.from_dict({"name": "a"}), "this Level lacks value"),
        (lambda: Level.from_dict({"name": "a", "value": 1, "colour": 1}), "a Level has no colour; it has name, value"),
        (lambda: Factor.from_dict({"name": "a", "level": [1]}), "a Factor has no level; it has"),
        (lambda: Block.from_dict(3), "a Block is a mapping, not a int"),  # type: ignore[arg-type]
    ],
)
def test_what_can_never_work_is_refused_as_it_is_built(build: Any, words: str) -> None:
    with pytest.raises(ValidationError) as told:
        build()
    assert words in str(told.value)


def test_that_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigurationError):
        Factor("a", "")


def test_true_and_one_are_different_values() -> None:
    assert Factor("a", "", levels=(True, 1)).iter_values() == (True, 1)  # type: ignore[arg-type]
    assert value_key(1) == value_key(1.0) != value_key(value=True)


def test_an_expression_knows_factors_and_blocks_by_name_and_as_mappings() -> None:
    rule = Constraint("c", "", "temperature == factors.temperature and day == blocks['day'] and day < temperature")
    assert rule.evaluate({"temperature": 3}, {"day": 2})
    assert not rule.evaluate({"temperature": 1}, {"day": 2})
    assert Constraint("c", "", "factors['factors'] == 1").evaluate({"factors": 1}, {})


def test_a_function_is_called_with_both_mappings() -> None:
    rule = Constraint("c", "", callable_ref=f"{HERE}:hot_and_small")
    assert rule.evaluate({"temperature": 3}, {"limit": 2})
    assert not rule.evaluate({"temperature": 1}, {"limit": 2})
    assert not Constraint("c", "", callable_ref=f"{HERE}:numpys").evaluate({}, {})


@pytest.mark.parametrize(
    ("expression", "temperature", "holds"), [("True", 3, True), ("True", 1, False), ("False", 3, False)]
)
def test_of_an_expression_and_a_function_both_must_hold(expression: str, temperature: int, holds: Any) -> None:
    rule = Constraint("c", "", expression, f"{HERE}:hot_and_small")
    assert rule.evaluate({"temperature": temperature}, {"limit": 2}) is holds


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (f"{HERE}:odd", "gave 'yes', not true or false"),
        (f"{HERE}:fails", "raised KeyError: 'nothing'"),
        (f"{HERE}:nothing", "can't be loaded"),
        (f"{HERE}:HERE", "is a str, not a function"),
        ("no_such_module_of_ours:x", "can't be loaded"),
    ],
)
def test_a_function_that_can_not_judge_is_named(reference: str, words: str) -> None:
    with pytest.raises(ValidationError) as told:
        Constraint("c", "", callable_ref=reference).evaluate({}, {})
    assert reference in str(told.value)
    assert words in str(told.value)


def test_a_method_of_a_class_is_a_function_too() -> None:
    assert load_callable("collections:Counter.fromkeys") is not None


NOUNS = [
    Level("low", 0.1, "Low", {"role": "baseline"}),
    Factor(
        "temperature", "How wild", FactorKind.BLOCKED, (Level("low", 0.1), Level("high", 1)), "float", 0.1, {"a": 1}
    ),
    Factor("model", "", levels=("a", {"deep": [1]}, True, None)),  # type: ignore[arg-type]
    Factor("named", "", levels=({"name": "x"},)),  # type: ignore[arg-type]
    Block("day", (1, "two"), {"x": 1}),
    Constraint("c", "no", "a > 1", None, ConstraintSeverity.WARNING),
    Constraint("c", "no", None, "a.b:c"),
    Condition("cond-1", {"a": 1}, {"day": 2}, {"x": 1}, admissible=False, constraint_messages=["no"]),
]


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_comes_back_from_its_json(noun: Any) -> None:
    assert type(noun).from_dict(to_jsonable(noun)) == noun
    assert type(noun).from_dict(noun) is noun


def test_levels_in_a_file_may_be_plain_values() -> None:
    factor = Factor.from_dict({"name": "a", "levels": [1, {"name": "two", "value": 2}, {"x": 3}]})
    assert factor.iter_values() == (1, 2, {"x": 3})
    assert [each.name for each in factor.levels] == ["1", "two", "{'x': 3}"]
    assert factor.description == ""


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.lists(plain | st.lists(plain), min_size=1, max_size=5, unique_by=value_key))
def test_any_plain_values_are_levels_that_come_back(values: list[Any]) -> None:
    levels = tuple(Level(str(index), value) for index, value in enumerate(values))
    factor = Factor("a", "", levels=levels)
    assert factor.iter_values() == tuple(values)
    assert Factor.from_dict(to_jsonable(factor)) == factor
