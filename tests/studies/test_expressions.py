"""S4: a rule over factors and blocks is true, false, or refused in words that name it; it can do nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock.studies.design.expressions import evaluate, names_in
from flock.studies.stable import ValidationError

NAMES: dict[str, Any] = {
    "temperature": 0.7,
    "model": "small",
    "tools": ["search", "code"],
    "config": {"size": 3},
    "none": None,
    "day": 2,
    "factors": {"temperature": 0.7, "model": "small", "my factor": 1},
    "blocks": {"day": 2},
}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("temperature > 0.5", True),
        ("  temperature > 0.5\n", True),
        ("0 <= temperature < 0.5", False),
        ("0 < temperature < 1 < day", True),
        ("model == 'small' and day == 2", True),
        ("model == 'large' or day != 2", False),
        ("not (model in ['large', 'huge'])", True),
        ("model not in ('small',)", False),
        ("model in {'small', 'large'}", True),
        ("factors.temperature == factors['temperature'] == temperature", True),
        ("factors['my factor'] == 1", True),
        ("blocks.day == 2", True),
        ("config.size == config['size'] == 3", True),
        ("{'small': 1, 'large': 2}[model] == 1", True),
        ("tools[0] == 'search' and tools[-1] == 'code' and (1, 2)[1] == 2", True),
        ("model[0] == 's'", True),
        ("none is None and model is not None", True),
        ("-day + 5 * 2 - 7 // 2 == 5 and 7 % 4 == 3 and 1 / 2 == +0.5", True),
        ("model + '!' == 'small!' and [1] + [2] == [1, 2]", True),
        ("len(tools) == 2 and abs(-1) == 1 and min(1, 2) == 1 and max([1, 2]) == 2", True),
        ("int('3') == 3 and float('0.5') == 0.5 and str(day) == '2' and bool(day)", True),
        ("(1 if model == 'small' else 1 / 0) == 1", True),
        ("True", True),
        ("day == 1 and 1 / 0 > 1", False),
        ("day == 2 or nobody", True),
    ],
)
def test_a_rule_says_what_python_says(expression: str, holds: bool) -> None:  # noqa: FBT001 - a row of the table
    assert evaluate(expression, NAMES) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "model.__class__",
        "().__class__.__bases__[0].__subclasses__() == []",
        "factors.__class__ == 1",
        "factors.keys() == []",
        "''.join(tools) == ''",
        "f'{model.__class__}' == ''",
        "(lambda: True)()",
        "[each for each in tools] == []",
        "{each for each in tools} == set()",
        "all(each for each in tools)",
        "(found := True)",
        "__import__('os').system('true') == 0",
        "open('/etc/passwd') == 1",
        "eval('1') == 1",
        "getattr(model, 'upper') == 1",
        "len.__call__(tools) == 2",
        "len(obj=tools) == 2",
        "max(*tools) == 1",
        "max == max",
        "{**factors} == {}",
        "[*tools] == []",
        "tools[0:1] == []",
        "10**10**10 > 1",
        "'a' * 10**9 == ''",
        "'a' * 1000000000 == ''",
        "[0] * 1000000000 == []",
        "1000000000 * (0,) == ()",
        "'%1000000000d' % 1 == ''",
        "model + 1 == 2",
        "1 << 100000000000 > 1",
        "~day == 1",
        "day is 2",
        "b'a' == 'a'",
        "1j == 1",
        "... == 1",
        "await day",
        "(yield)",
        "import os",
        "day = 2",
        "day == 2; day == 2",
    ],
)
def test_nothing_gets_out_of_a_rule(expression: str) -> None:
    with pytest.raises(ValidationError) as told:
        evaluate(expression, NAMES)
    assert repr(expression) in str(told.value)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("temprature > 1", "no 'temprature', only temperature, model"),
        ("factors.temprature > 1", "no 'temprature', only temperature, model, my factor"),
        ("blocks['week'] == 1", "no 'week', only day"),
        ("1 / (day - 2) > 1", "ZeroDivisionError"),
        ("model > 1", "TypeError"),
        ("tools[2] == 1", "IndexError"),
        ("tools['a'] == 1", "'a'] is no member of a list"),
        ("model.upper == 1", "model.upper is an attribute of a str"),
        ("{[]: 1} == {}", "TypeError"),
        ("int(model) == 1", "ValueError"),
        ("1e308 * 10 > 1 and 2.0 // 0 > 1", "ZeroDivisionError"),
        ("temperature", "gives 0.7: compare it with something"),
        ("model and day", "gives 2"),
        ("", "can't be read"),
        ("day ==", "can't be read"),
        ("day\0 == 2", "can't be read"),
        ("day is model", "use `==`"),
        ("sum(tools) == 1", "only len, int, float, str, bool, abs, min, max"),
        ("2 ** day == 4", "Pow"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(expression: str, words: str) -> None:
    with pytest.raises(ValidationError) as told:
        evaluate(expression, NAMES)
    assert repr(expression) in str(told.value)
    assert words in str(told.value)


def test_there_may_be_no_names_at_all() -> None:
    with pytest.raises(ValidationError, match="only nothing"):
        evaluate("a", {})


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 300 + "1" + ")" * 300,
        "[" * 150 + "]" * 150,
        "-" * 1900 + "1",
        "not " * 400 + "day",
        " + ".join(["day"] * 200),
        "day == 1 or " * 400 + "day == 2",
        "1" * 5000,
    ],
)
def test_what_is_long_or_deep_is_refused_before_it_runs(expression: str) -> None:
    with pytest.raises(ValidationError) as told:
        evaluate(expression, NAMES)
    assert len(str(told.value)) < 500


def test_a_long_list_of_alternatives_is_not_deep() -> None:
    assert evaluate(" or ".join(f"day == {each}" for each in range(100)), NAMES)


def test_and_and_or_stop_as_soon_as_they_can() -> None:
    assert evaluate("(day or 1 / 0) == 2", NAMES)
    assert evaluate("(none and 1 / 0) is None", NAMES)
    with pytest.raises(ValidationError):
        evaluate("day and 1 / 0", NAMES)


def test_the_names_of_a_rule_are_known_before_it_runs() -> None:
    expression = "len(a) > 1 and factors.b == blocks['c'] or config.size in [d, factors[a]] and e is not None"
    assert names_in(expression) == {"a", "b", "c", "d", "e", "config", "factors", "blocks"}
    assert names_in("len == len(x)") == {"len", "x"}
    assert names_in("1 < 2") == set()


@pytest.mark.parametrize("expression", ["a >", "lambda: a", "a.b()", "", "x" * 3000])
def test_names_of_what_is_no_rule_are_refused(expression: str) -> None:
    with pytest.raises(ValidationError):
        names_in(expression)


@given(st.text(max_size=40))
def test_no_text_does_anything_else_than_be_a_rule_or_be_refused(text: str) -> None:
    try:
        found = evaluate(text, NAMES)
    except ValidationError as error:
        assert "the expression" in str(error)  # noqa: PT017 - either outcome is fine
    else:
        assert isinstance(found, bool)


numbers = st.integers(-5, 5) | st.floats(-5, 5).map(lambda each: round(each, 2))


@given(numbers, numbers, numbers, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), st.sampled_from("+-*"))
def test_numbers_compare_as_they_do_in_python(a: float, b: float, c: float, compare: str, combine: str) -> None:
    expression = f"a {combine} b {compare} c"
    expected = eval(expression, {"a": a, "b": b, "c": c})  # noqa: S307 - what it is compared with
    assert evaluate(expression, {"a": a, "b": b, "c": c}) is expected


def test_values_that_equal_nothing_are_just_that() -> None:
    assert not evaluate("x == x", {"x": math.nan})
