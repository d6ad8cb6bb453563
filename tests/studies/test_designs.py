"""S4: a design is what its name promises, the same in every process, or refused in words that say what to change."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock.studies.design.designs import (
    DesignKind,
    DesignSpec,
    build_design,
    design_balance_report,
    materialize_conditions,
)
from flock.studies.design.factors import Block, Condition, Constraint, ConstraintSeverity, Factor, Level
from flock.studies.design.generators import generator_for
from flock.studies.design.layouts import balanced_sequences
from flock.studies.seeds import SeedPolicy
from flock.studies.stable import ValidationError, hash_identifier, to_jsonable

TEMPERATURE = Factor("temperature", "", levels=(Level("cold", 0.0), Level("hot", 0.7)))
MODEL = Factor("model", "", levels=(Level("a", "a"), Level("b", "b")))
DAY = Block("day", ("mon", "tue", "wed"))
PROGRAM = """
import json, sys
from flock.studies.design.designs import build_design, DesignSpec
sys.path.insert(0, sys.argv[1])
import test_designs as t
specs = json.loads(sys.argv[2])
print(json.dumps([[c.condition_id for c in build_design(t.study_of(), DesignSpec.from_dict(s))] for s in specs]))
"""


@dataclass
class Study:
    """What a design is made for."""

    factors: Sequence[Factor] = ()
    blocks: Sequence[Block] = ()
    constraints: Sequence[Constraint] = ()
    design_spec: DesignSpec = field(default_factory=DesignSpec)
    seed_policy: SeedPolicy = field(default_factory=lambda: SeedPolicy(7))


def numbered(name: str, *values: Any) -> Factor:
    return Factor(name, "", levels=tuple(Level(str(each), each) for each in values))


def study_of() -> Study:
    """A study that every kind of design can be made for."""
    return Study([numbered("x", 1, 2), numbered("y", 0.5, 1.5), numbered("z", "p", "q")], [Block("day", (1, 2))])


def build(*factors: Factor, blocks: Sequence[Block] = (), seed: int = 7, **spec: Any) -> list[Condition]:
    return build_design(Study(factors, blocks, seed_policy=SeedPolicy(seed)), DesignSpec(**spec))


def assigned(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    return [each.factor_assignments | each.block_assignments for each in conditions]


def column(conditions: Sequence[Condition], name: str) -> list[Any]:
    return [each[name] for each in assigned(conditions)]


def ids(conditions: Sequence[Condition]) -> list[str]:
    return [each.condition_id for each in conditions]


def test_the_id_of_a_condition_is_the_hash_of_what_it_assigns() -> None:
    (known,) = build(Factor("temperature", "", default=0.7), Factor("model", "", default="a"))
    assert known.condition_id == "cond-c7ebf147b522"
    assert known.metadata == {
        "fingerprint": '{"blocks":{},"factors":{"model":"a","temperature":0.7}}',
        "design_kind": "full_factorial",
    }


@pytest.mark.parametrize("kind", [each for each in DesignKind if each is not DesignKind.LATIN_HYPERCUBE])
def test_every_design_gives_equal_assignments_the_same_id(kind: DesignKind) -> None:
    matrix = ({"row": 1, "col": 1, "t": 1}, {"row": 2, "col": 1, "t": 2})
    options = {"row_factor": "row", "column_factor": "col", "treatment_factor": "t"}
    factors = [numbered(name, 1, 2) for name in ("row", "col", "t")]
    found = build(*factors, kind=kind, options=options, matrix=matrix)
    for each in found:
        expected = {"factors": each.factor_assignments, "blocks": each.block_assignments}
        assert each.condition_id == hash_identifier("cond", expected)
        assert each.metadata["design_kind"] == kind.value
    assert len(set(ids(found))) == len(found) > 1


@pytest.mark.parametrize("kind", [*DesignKind])
def test_a_repeated_assignment_has_an_id_of_its_own(kind: DesignKind) -> None:
    matrix = ({"row": 1, "col": 1, "t": 1}, {"row": 2, "col": 1, "t": 2})
    options = {"row_factor": "row", "column_factor": "col", "treatment_factor": "t"}
    factors = [numbered(name, 1, 2) for name in ("row", "col", "t")]
    spec: dict[str, Any] = {"kind": kind, "options": options, "matrix": matrix, "n_samples": 4}
    once, thrice = build(*factors, **spec), build(*factors, **spec, replicates=3)
    assert len(thrice) == 3 * len(once)
    assert len(set(ids(thrice))) == len(thrice)
    assert set(ids(once)) < set(ids(thrice))
    last = max(thrice, key=lambda each: each.metadata.get("repeat", 1))
    payload = {"factors": last.factor_assignments, "blocks": last.block_assignments, "repeat": 3}
    assert last.condition_id == hash_identifier("cond", payload)


def test_no_factor_gives_one_condition_that_assigns_nothing() -> None:
    for kind in ("full", "constrained", "randomized_block", "repeated_measures", "lhs", "frac2"):
        (only,) = build(kind=kind)
        assert (only.factor_assignments, only.block_assignments) == ({}, {})


def test_a_full_factorial_has_every_combination_once_with_blocks_innermost() -> None:
    found = build(TEMPERATURE, MODEL, blocks=[DAY])
    expected = itertools.product((0.0, 0.7), "ab", ("mon", "tue", "wed"))
    assert [tuple(each.values()) for each in assigned(found)] == list(expected)


@given(st.lists(st.integers(1, 4), max_size=3), st.lists(st.integers(1, 3), max_size=2), st.integers(0, 99))
def test_order_is_all_that_randomizing_and_counterbalancing_change(
    sizes: list[int], blocks: list[int], seed: int
) -> None:
    factors = [numbered(f"f{place}", *range(size)) for place, size in enumerate(sizes)]
    surroundings = [Block(f"b{place}", tuple(range(size))) for place, size in enumerate(blocks)]
    plain = materialize_conditions(factors, surroundings)
    assert len(set(ids(plain))) == len(plain) == math.prod([*sizes, *blocks])
    orders: list[dict[str, Any]] = [{"randomize": True}, {"counterbalance": True}]
    for options in (*orders, orders[0] | orders[1]):
        other = materialize_conditions(factors, surroundings, seed=seed, **options)
        assert sorted(ids(other)) == sorted(ids(plain))
        assert other == build(*factors, blocks=surroundings, seed=seed, **options)


def test_conditions_are_made_of_a_study_or_of_its_parts() -> None:
    study = Study([TEMPERATURE], [DAY], [Constraint("c", "", "temperature > 0")])
    assert materialize_conditions(study) == materialize_conditions(study.factors, study.blocks, study.constraints)
    assert materialize_conditions(study) == build_design(study)


def test_the_study_has_the_design_unless_another_is_given() -> None:
    study = Study([TEMPERATURE, MODEL], design_spec=DesignSpec(replicates=2))
    assert len(build_design(study)) == 8
    assert len(build_design(study, {"kind": "full"})) == 4


def test_violated_constraints_are_told_and_errors_rule_out() -> None:
    constraints = [
        Constraint("cool", "a is never hot", "not (model == 'a' and temperature > 0.5)"),
        Constraint("taste", "b is better", "factors.model == 'b'", severity=ConstraintSeverity.WARNING),
    ]
    found = build_design(Study([TEMPERATURE, MODEL], constraints=constraints), {"kind": "constrained"})
    told = {(each.factor_assignments["temperature"], each.factor_assignments["model"]): each for each in found}
    assert not told[0.7, "a"].admissible
    assert told[0.7, "a"].constraint_messages == ["cool: a is never hot", "taste: b is better"]
    assert told[0.0, "a"].admissible
    assert told[0.0, "a"].constraint_messages == ["taste: b is better"]
    assert told[0.7, "b"].admissible
    assert told[0.7, "b"].constraint_messages == []


def test_levels_that_say_so_are_compared_with_a_baseline() -> None:
    factor = Factor(
        "model",
        "",
        levels=(
            Level("a", "a", "Small", {"role": "baseline"}),
            Level("b", "b", metadata={"is_baseline": False}),
            Level("c", "c"),
        ),
    )
    other = Factor("t", "", levels=(Level("0", 0, metadata={"is_baseline": True}),))
    small, large, plain = build(factor, other)
    axis = {"value": "a", "level_name": "a", "label": "Small", "role": "baseline", "is_baseline": True}
    assert small.metadata["condition_label"] == "Small | 0"
    assert small.metadata["comparison_axes"]["model"] == axis
    assert small.metadata["comparison_baseline"] == {"is_baseline_condition": True, "axes": ["model", "t"]}
    assert large.metadata["comparison_axes"]["model"]["role"] == "treatment"
    assert large.metadata["comparison_baseline"] == {"is_baseline_condition": False, "axes": ["t"]}
    assert list(plain.metadata["comparison_axes"]) == ["t"]
    assert "comparison_axes" not in build(MODEL)[0].metadata


def test_a_randomized_block_has_every_treatment_in_every_block_in_an_order_of_its_own() -> None:
    treatments = numbered("t", *range(6))
    found = build(treatments, blocks=[DAY], kind="randomized_block")
    orders = [[each["t"] for each in group] for _, group in itertools.groupby(assigned(found), lambda row: row["day"])]
    assert [sorted(order) for order in orders] == [list(range(6))] * 3
    assert len({tuple(order) for order in orders}) == 3
    assert ids(found) == ids(build(treatments, blocks=[DAY], kind="randomized_block"))
    assert ids(found) != ids(build(treatments, blocks=[DAY], kind="randomized_block", seed=8))


def test_a_key_keeps_what_is_shuffled_within_its_groups() -> None:
    spec: dict[str, Any] = {"randomize": True, "block_randomization_key": "day"}
    found = build(numbered("t", *range(5)), blocks=[DAY], **spec)
    assert [day for day, _ in itertools.groupby(column(found, "day"))] == ["mon", "tue", "wed"]


@pytest.mark.parametrize("count", range(1, 10))
def test_balanced_sequences_put_each_treatment_before_each_other_equally_often(count: int) -> None:
    orders = balanced_sequences(count)
    assert len(orders) == (count if count % 2 == 0 or count == 1 else 2 * count)
    assert all(sorted(order) == list(range(count)) for order in orders)
    for place in range(count):
        assert set(Counter(order[place] for order in orders).values()) == {len(orders) // count}
    pairs = Counter(pair for order in orders for pair in itertools.pairwise(order))
    if count > 1:
        assert set(pairs) == set(itertools.permutations(range(count), 2))
        assert set(pairs.values()) == {len(orders) // count}


@pytest.mark.parametrize("randomize", [False, True])
def test_repeated_measures_give_every_subject_every_treatment_in_a_balanced_order(randomize: Any) -> None:
    subjects = Block("subject", tuple(range(8)))
    found = build(numbered("t", *"abcd"), blocks=[subjects], kind="repeated_measures", randomize=randomize)
    orders = [list(group) for _, group in itertools.groupby(found, lambda each: each.block_assignments["subject"])]
    assert len(orders) == 8
    assert all([each.metadata["within_subject_order"] for each in order] == [0, 1, 2, 3] for order in orders)
    pairs = Counter(pair for order in orders for pair in itertools.pairwise(column(order, "t")))
    assert set(pairs.values()) == {2}
    assert len(pairs) == 12


def test_repeated_measures_without_blocks_are_of_one_subject() -> None:
    found = build(numbered("t", *"abc"), kind="repeated_measures")
    assert sorted(column(found, "t")) == ["a", "b", "c"]
    assert [each.metadata["within_subject_order"] for each in found] == [0, 1, 2]


SQUARE = {"row_factor": "row", "column_factor": "col", "treatment_factor": "t"}


@given(st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_a_latin_square_has_each_treatment_once_per_row_and_column(size: int, randomize: bool, seed: int) -> None:  # noqa: FBT001
    factors = [numbered(name, *range(size)) for name in ("row", "col", "t")]
    found = build(*factors, kind="latin", options=SQUARE, randomize=randomize, seed=seed)
    cells = {(each["row"], each["col"]): each["t"] for each in assigned(found)}
    assert len(cells) == len(found) == size**2
    everything = set(range(size))
    for line in range(size):
        assert {cells[line, other] for other in everything} == everything
        assert {cells[other, line] for other in everything} == everything
    assert [each.metadata["latin_square_row"] for each in found][-1] == size - 1


def test_the_seed_decides_which_latin_square_it_is() -> None:
    factors = [numbered(name, *range(5)) for name in ("row", "col", "t")]
    squares = [
        tuple(column(build(*factors, kind="latin", options=SQUARE, randomize=True, seed=seed), "t"))
        for seed in range(5)
    ]
    assert len(set(squares)) == 5


def test_rows_and_columns_of_a_latin_square_may_be_blocks_and_the_rest_stays() -> None:
    blocks = [Block("row", (1, 2)), Block("col", ("x", "y")), Block("site", ("north", "south"))]
    found = build(numbered("t", "a", "b"), Factor("k", "", default=3), blocks=blocks, kind="latin", options=SQUARE)
    assert len(found) == 8
    assert found[0].factor_assignments == {"t": "a", "k": 3}
    assert found[0].block_assignments == {"row": 1, "col": "x", "site": "north"}
    reverse = build(numbered("t", "a", "b"), blocks=blocks[:2], kind="latin", options=SQUARE, counterbalance=True)
    assert column(reverse, "row") == [1, 2, 2, 1]


NUMBERS = [numbered("x", 0, 10), numbered("y", -1.5, 0.0, 2.5)]


@given(st.integers(1, 40), st.integers(-5, 99))
def test_a_latin_hypercube_has_one_sample_in_each_stratum(samples: int, seed: int) -> None:
    found = build(*NUMBERS, kind="lhs", n_samples=samples, seed=seed)
    for name, low, high in (("x", 0, 10), ("y", -1.5, 2.5)):
        strata = [math.floor((value - low) / (high - low) * samples) for value in column(found, name)]
        assert sorted(strata) == list(range(samples))
    assert all(float(f"{value:.12g}") == value for each in assigned(found) for value in each.values())


def test_an_orthogonal_hypercube_has_one_sample_in_each_pair_of_coarse_strata() -> None:
    found = build(*NUMBERS, kind="lhs", n_samples=25, options={"strength": 2, "bounds": {"x": [0, 1], "y": (0, 1)}})
    cells = Counter((int(each["x"] * 5), int(each["y"] * 5)) for each in assigned(found))
    assert len(cells) == 25


def test_whole_numbers_and_categories_have_equal_shares_of_a_hypercube() -> None:
    whole = Factor("n", "", levels=(Level("few", 1), Level("many", 4)), dtype="int")
    fixed = [Factor("k", "", default="k"), numbered("one", 5)]
    found = build(whole, numbered("m", "a", "b", "c"), *fixed, kind="lhs", n_samples=12)
    assert Counter(column(found, "n")) == {1: 3, 2: 3, 3: 3, 4: 3}
    assert {type(each) for each in column(found, "n")} == {int}
    assert Counter(column(found, "m")) == {"a": 4, "b": 4, "c": 4}
    assert set(column(found, "k")) == {"k"}
    assert set(column(found, "one")) == {5}
    assert len(build(*fixed, kind="lhs", n_samples=3)) == 3


def test_a_hypercube_depends_on_its_seed_alone() -> None:
    spec: dict[str, Any] = {"kind": "lhs", "n_samples": 9}
    assert ids(build(*NUMBERS, **spec)) == ids(build(*NUMBERS, kind="lhs", options={"n_samples": 9}))
    assert ids(build(*NUMBERS, **spec)) != ids(build(*NUMBERS, **spec, seed=8))


def signs(found: Sequence[Condition], factors: Sequence[Factor]) -> list[tuple[int, ...]]:
    """Runs as -1 and 1 per factor."""
    return [tuple(1 if row[f.name] == f.levels[1].value else -1 for f in factors) for row in assigned(found)]


def resolution(runs: Sequence[tuple[int, ...]]) -> float:
    """The shortest product of columns that never changes, by trying them all."""
    width = len(runs[0])
    for length in range(1, width + 1):
        for columns in itertools.combinations(range(width), length):
            if abs(sum(math.prod(run[each] for each in columns) for run in runs)) == len(runs):
                return length
    return math.inf


@pytest.mark.parametrize(
    ("count", "wanted", "runs"),
    [
        # what textbooks (Box, Hunter and Hunter 2005, table 6.22) have
        *[(4, "III", 8), (5, "III", 8), (6, 3, 8), (7, "III", 8), (9, "III", 16), (10, "III", 16), (11, "3", 16)],
        *[(4, "IV", 8), (6, "iv", 16), (7, 4, 16), (8, "IV", 16), (9, "IV", 32), (10, "IV", 32), (11, "IV", 32)],
        *[(5, "V", 16), (6, "V", 32), (7, 5, 64), (8, "V", 64), (9, "V", 128), (10, "V", 128), (11, "V", 128)],
        *[(6, "VI", 32), (7, "VII", 64), (9, "VI", 128), (8, "VIII", 128)],
        # all combinations: as less is not enough, or has fewer than eight runs
        *[(1, "III", 2), (2, "III", 4), (3, "III", 8), (3, "IV", 8), (4, "V", 16), (5, "full", 32)],
    ],
)
def test_a_fraction_has_the_textbook_runs_and_resolution(count: int, wanted: Any, runs: int) -> None:
    factors = [numbered(f"f{each:02}", "low", "high") for each in range(count)]
    found = build(*factors, kind="frac2", options={"resolution": wanted})
    rows = signs(found, factors)
    romans: dict[str, Any] = {"III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8}
    least = romans.get(str(wanted).upper(), wanted)
    assert len(set(rows)) == len(rows) == runs
    assert resolution(rows) >= (math.inf if wanted == "full" else int(least))
    for one, other in itertools.combinations(range(count), 2):
        assert sum(row[one] * row[other] for row in rows) == 0
    assert all(sum(row[each] for row in rows) == 0 for each in range(count))


def test_a_fraction_of_many_factors_is_still_of_the_fewest_runs() -> None:
    assert [generator_for(count, "III").count(" ") + 1 for count in (15, 31)] == [15, 31]
    basics = [sum(len(word) == 1 for word in generator_for(*each).split()) for each in ((15, 3), (31, 3), (16, 4))]
    assert basics == [4, 5, 5]
    assert sum(len(word) == 1 for word in generator_for(23, "VII").split()) == 11  # Golay's code


def test_the_default_fraction_is_of_resolution_three() -> None:
    factors = [numbered(f"f{each}", 0, 1) for each in range(6)]
    assert len(build(*factors, kind="frac2")) == 8


def test_a_fraction_can_be_given_by_its_generator() -> None:
    factors = [numbered(name, 0, 1) for name in "abc"]
    found = build(*factors, Factor("k", "", default=3), kind="fractional", options={"generator": "a b  -ab"})
    rows = signs(found, factors)
    assert sorted(rows) == [(-1, -1, -1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)]
    assert set(column(found, "k")) == {3}


def test_centre_points_are_in_the_middle_of_numbers_and_at_the_first_of_others() -> None:
    half = Factor("half", "", levels=(Level("a", 1), Level("b", 4)), dtype="int")
    factors = [numbered("x", 0, 10), numbered("y", 0, 0.5, 1), numbered("w", 1, 2), numbered("m", "a", "b"), half]
    found = build(*factors, kind="full", center_points=2)
    first, second = found[-2:]
    assert first.factor_assignments == {"x": 5, "y": 0.5, "w": 1.5, "m": "a", "half": 2}
    assert type(first.factor_assignments["x"]) is int
    assert first.condition_id != second.condition_id
    assert first.metadata["fingerprint"] == second.metadata["fingerprint"]
    assert len(found) == 2 * 3 * 2 * 2 * 2 + 2
    sampled = build(numbered("x", 0, 10), kind="lhs", n_samples=3, center_points=1, options={"bounds": {"x": [2, 4]}})
    assert column(sampled, "x")[-1] == 3


def test_a_centre_point_that_is_a_level_is_a_repeat_of_it() -> None:
    found = build(numbered("x", 0, 5, 10), center_points=1)
    assert found[-1].metadata["repeat"] == 2
    assert repr(column(found, "x")) == "[0, 5, 10, 5]"


def test_a_matrix_in_memory_is_matched_by_value_or_name() -> None:
    rows = [{"temperature": "hot", "model": "a", "day": "tue"}, {"model": "b", "temperature": 0, "day": "mon"}]
    found = build(TEMPERATURE, MODEL, blocks=[DAY], kind="matrix", matrix=rows)
    assert [each.factor_assignments for each in found] == [
        {"temperature": 0.7, "model": "a"},
        {"temperature": 0.0, "model": "b"},
    ]
    assert column(found, "day") == ["tue", "mon"]
    assert [each.metadata["matrix_row"] for each in found] == [0, 1]


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_cells_of_a_file_are_matched_to_levels_and_numbers_are_read(tmp_path: Path) -> None:
    factors = [
        TEMPERATURE,
        Factor("flag", "", levels=(Level("on", value=True), Level("off", value=False))),
        numbered("n", 1, 2),
        Factor("none", "", levels=(Level("None", None), Level("empty", ""))),
        Factor("free", "", default=0),
        Factor("text", "", default="x", dtype="str"),
    ]
    header = "\ufefftemperature, flag,n,none,free,text\n"
    lines = "hot,true,1,None,1e-3,007\n0.70,off,2.0, ,-12,\ncold,TRUE, 1 ,,a b,1\n\n"
    found = build(*factors, kind="custom", matrix_path=written(tmp_path, "m.csv", header + lines))
    assert [tuple(each.factor_assignments.values()) for each in found] == [
        (0.7, True, 1, None, 0.001, "007"),
        (0.7, False, 2, "", -12, "x"),
        (0.0, True, 1, "", "a b", "1"),
    ]
    assert [type(each) for each in column(found, "free")] == [float, int, str]


def test_json_rows_are_matched_as_those_in_memory(tmp_path: Path) -> None:
    pair = Factor("pair", "", levels=(Level("p", (1, 2)), Level("q", (3, 4))))
    rows = [{"pair": [1, 2], "free": "5"}, {"pair": "q"}]
    path = written(tmp_path, "m.json", json.dumps(rows))
    found = build(pair, Factor("free", "", default=0), kind="custom", options={"matrix_path": path})
    assert [each.factor_assignments for each in found] == [{"pair": (1, 2), "free": "5"}, {"pair": (3, 4), "free": 0}]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", "temperature,heat\nhot,1\n", "m.csv, row 1, column 'heat': no factor or block has this name"),
        ("m.csv", "model\na\n", "m.csv, row 1, column 'temperature' is missing: cold, hot"),
        ("m.csv", "temperature,model\nhot,a\nhot\n", "row 2, column 'model' is missing: a, b"),
        ("m.csv", "temperature,model\nhot,a\nwarm,a\n", "row 2, column 'temperature' is 'warm', which is no level"),
        ("m.csv", "temperature,model\nhot,a,b\n", "row 1: there are 3 cells for 2 columns"),
        ("m.csv", "temperature,temperature\nhot,hot\n", "names a column twice"),
        ("m.csv", "temperature,model\n", "has no rows"),
        ("m.csv", "", "has no rows"),
        ("m.csv", 'temperature,model\n"hot', "can't be read"),
        ("m.json", "[1]", "m.json, row 1 is a mapping"),
        ("m.json", "{}", "holds no list of rows"),
        ("m.json", "[", "can't be read"),
        ("m.json", '[{"temperature": true, "model": "a"}]', "row 1, column 'temperature' is True, which is no level"),
        ("m.txt", "", "neither .csv nor .json"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_row_and_column(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(ValidationError) as told:
        build(TEMPERATURE, MODEL, kind="custom", matrix_path=written(tmp_path, name, text))
    assert words in str(told.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"nothing.csv can't be read"):
        build(TEMPERATURE, kind="custom", matrix_path=str(tmp_path / "nothing.csv"))
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError, match=r"m.csv can't be read"):
        build(TEMPERATURE, kind="custom", matrix_path=str(tmp_path / "m.csv"))


NOTHING = Factor("m", "", levels=(Level("None", None),))
X3 = numbered("x", 1, 2, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DesignSpec(kind="square"), "DesignSpec.kind is one of full_factorial"),  # type: ignore[arg-type]
        (lambda: DesignSpec(replicates=0), "DesignSpec.replicates is a whole number of at least 1"),
        (lambda: DesignSpec(n_samples=0), "DesignSpec.n_samples is a whole number of at least 1"),
        (lambda: DesignSpec(center_points=-1), "DesignSpec.center_points is a whole number of at least 0"),
        (lambda: DesignSpec(options=[1]), "DesignSpec.options is a mapping"),  # type: ignore[arg-type]
        (lambda: DesignSpec(matrix=(1,)), "row 1 of the matrix is a mapping"),  # type: ignore[arg-type]
        (lambda: DesignSpec(matrix=({},), matrix_path="m.csv"), "not both"),
        (lambda: DesignSpec.from_dict({"sort": 1}), "a DesignSpec has no sort"),
        (lambda: build(X3, numbered("x", 1)), "several factors or blocks are named x"),
        (lambda: build(X3, blocks=[Block("x", (1,))]), "are named x: give each its own name"),
        (lambda: build(X3, kind="lhs", options={"n_samples": "many"}), "n_samples of a Latin hypercube"),
        (lambda: build(X3, kind="lhs", n_samples=5, options={"strength": 2}), "no Latin hypercube of 5 points"),
        (lambda: build(X3, kind="lhs", n_samples=5, options={"bounds": [1]}), 'options["bounds"] is a mapping'),
        (lambda: build(X3, kind="lhs", n_samples=5, options={"bounds": {"y": [0, 1]}}), "'y', which is no factor: x"),
        (lambda: build(X3, kind="lhs", n_samples=5, options={"bounds": {"x": 1}}), "[lowest, highest], not 1"),
        (lambda: build(X3, kind="lhs", n_samples=5, options={"bounds": {"x": [1, 1]}}), "the lower first"),
        (
            lambda: build(
                Factor("n", "", default=1, dtype="int"), kind="lhs", n_samples=5, options={"bounds": {"n": [0.2, 0.8]}}
            ),
            "no whole number from 0.2 to 0.8",
        ),
        (lambda: build(X3, kind="frac2"), "factor 'x' has 3 levels: a two-level fraction needs two"),
        (lambda: build(MODEL, kind="frac2", options={"resolution": "II"}), "a resolution is one of III, IV"),
        (lambda: build(MODEL, kind="frac2", options={"generator": "a b"}), "one word for each of 1 factors"),
        (lambda: build(MODEL, kind="frac2", options={"generator": "z"}), "the generator 'z' makes no design"),
        (lambda: generator_for(40, 9), "take more than 65536 runs"),
        (lambda: build(X3, kind="latin"), 'options["row_factor"] of a Latin square is the name of a factor'),
        (
            lambda: build(*(numbered(name, *name) for name in ("row", "col", "t")), kind="latin", options=SQUARE),
            "equally many levels, not row, col, t",
        ),
        (
            lambda: build(X3, kind="latin", options=dict.fromkeys(SQUARE, "x")),
            "equally many levels, not x, x, x",
        ),
        (
            lambda: build(
                X3, *(numbered(each, 1, 2) for each in ("row", "col", "t")), kind="latin", options=SQUARE
            ),
            "a Latin square has no place for x",
        ),
        (lambda: build(X3, kind="latin", center_points=1), "a latin_square has no centre points"),
        (lambda: build(X3, kind="custom", matrix=({"x": 1},), center_points=1), "a custom_matrix has no centre points"),
        (lambda: build(X3, kind="custom"), "give matrix or matrix_path"),
        (lambda: build(X3, kind="custom", matrix=()), "the matrix has no rows"),
        (lambda: build(X3, kind="custom", matrix=({"x": 9},)), "the matrix, row 1, column 'x' is 9, which is no level"),
        (lambda: build(X3, blocks=[DAY], kind="custom", matrix=({"x": 1},)), "column 'day' is missing: mon, tue, wed"),
        (lambda: build(NOTHING, kind="custom", matrix=({},)), "the matrix, row 1, column 'm' is missing: None"),
        (lambda: build(X3, block_randomization_key="week"), "block_randomization_key is the name of a factor or block"),
    ],
)  # fmt: skip
def test_a_design_that_can_not_be_made_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValidationError) as told:
        make()
    assert words in str(told.value)


def test_a_constraint_on_an_unknown_name_is_refused_before_anything_is_made() -> None:
    study = Study([MODEL], [DAY], [Constraint("c", "", "model == 'a' or heat > 1 or factors.size")])
    with pytest.raises(ValidationError, match=r"names heat, size; known names: model, day, blocks, factors"):
        build_design(study)
    study.constraints = [Constraint("c", "", "factors.model == blocks['day'] or len(day) > 1")]
    assert len(build_design(study)) == 6


def test_a_hypercube_has_ten_points_per_factor_unless_told() -> None:
    assert len(build(*NUMBERS, kind="lhs")) == 10 * len(NUMBERS)


def test_kinds_have_short_names() -> None:
    names = {
        "full": "full_factorial",
        "factorial": "full_factorial",
        "constrained": "constrained_factorial",
        "lhs": "latin_hypercube",
        "frac2": "fractional_factorial_2level",
        "Fractional": "fractional_factorial_2level",
        "latin": "latin_square",
        "matrix": "custom_matrix",
        "custom": "custom_matrix",
        "randomized-block": "randomized_block",
        "repeated measures": "repeated_measures",
    }
    assert {name: DesignSpec(name).kind.value for name in names} == names  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec",
    [
        DesignSpec(),
        DesignSpec(DesignKind.CUSTOM_MATRIX, 2, randomize=True, options={"a": [1]}, matrix=({"x": 1}, {"x": 2})),
    ],
)
def test_a_design_comes_back_from_its_json(spec: DesignSpec) -> None:
    assert DesignSpec.from_dict(to_jsonable(spec)) == spec
    assert DesignSpec.from_dict(spec) is spec


def test_fields_of_a_design_may_be_among_its_options() -> None:
    options = {"n_samples": 5, "center_points": 1, "block_randomization_key": "day"}
    spec = DesignSpec.from_dict({"kind": "lhs", "options": options})
    assert (spec.n_samples, spec.center_points, spec.block_randomization_key) == (5, 1, "day")


SPECS: list[Mapping[str, Any]] = [
    {"kind": "full", "randomize": True, "counterbalance": True},
    {"kind": "randomized_block"},
    {"kind": "repeated_measures", "randomize": True},
    {"kind": "latin", "randomize": True, "options": dict(zip(SQUARE, "xyz", strict=True))},
    {"kind": "lhs", "n_samples": 5, "center_points": 2, "randomize": True},
    {"kind": "frac2", "replicates": 2, "randomize": True, "block_randomization_key": "day"},
    {"kind": "custom", "matrix": [{"x": 1, "y": 0.5, "z": "p", "day": 1}] * 2},
]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_designs_are_the_same_in_every_process(hash_seed: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), json.dumps(SPECS)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=50)  # noqa: S603
    assert json.loads(ended.stdout) == [ids(build_design(study_of(), spec)) for spec in SPECS]


def test_designs_load_no_numbers_library_before_one_is_asked_for() -> None:
    program = (
        "import sys\nfrom flock.studies.design import designs\n"
        "assert not {'numpy', 'scipy', 'pyDOE3', 'flock.studies.design.matrices'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)  # noqa: S603


def test_what_is_missing_for_a_design_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "flock.studies.design.matrices":
            raise ImportError("No module named 'scipy'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ValidationError, match=r"pip install 'flock-board\[studies\]'"):
        build(MODEL, kind="frac2")


def test_the_balance_of_a_design_is_counted_by_column() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": [1]}, {"a": 1.0, "b": [2]}, {"a": 2, "b": [1], "c": "x"}, {"a": 1}]
    assert design_balance_report(rows) == {
        "a": {"n_levels": 2.0, "max_to_min_ratio": 3.0},
        "b": {"n_levels": 3.0, "max_to_min_ratio": 2.0},
        "c": {"n_levels": 2.0, "max_to_min_ratio": 3.0},
    }
    assert design_balance_report(assigned(build(TEMPERATURE, MODEL)))["model"]["max_to_min_ratio"] == 1.0
    assert design_balance_report([]) == {}
