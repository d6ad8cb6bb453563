"""Examples are valid, readable and the same everywhere; what can't be made says so."""

import enum
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    UUID1,
    UUID5,
    AliasChoices,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    FilePath,
    FutureDate,
    FutureDatetime,
    HttpUrl,
    Json,
    NaiveDatetime,
    PastDate,
    PostgresDsn,
    RootModel,
    SecretStr,
    StringConstraints,
    Tag,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from flock.engines.dice import Dice
from flock.engines.example_values import Examples, example
from flock.engines.patterns import text_matching
from flock.model.errors import ConfigurationError

T = TypeVar("T")
SEEDS = [str(number) for number in range(20)]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Planet(enum.Enum):
    EARTH = (5.97e24, 6.37e6)
    MARS = (6.4e23, 3.4e6)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    name: str


class Circle(BaseModel):
    colour: Literal[Colour.RED] = Colour.RED


class Square(BaseModel):
    colour: Literal[Colour.BLUE] = Colour.BLUE


class Node(BaseModel):
    label: str
    children: list["Node"]
    following: "Node | None"
    by_name: dict[str, "Node"]


class Number(BaseModel):
    value: float


class Sum(BaseModel):
    left: "Sum | Number"
    right: "Sum | Number"


class Endless(BaseModel):
    following: "Endless"


class Pair(NamedTuple):
    first: int
    second: str = "second"


class Options(TypedDict, total=False):
    verbose: bool


@dataclass
class Point:
    x: float
    y: float | None


class Box(BaseModel, Generic[T]):
    content: T


class Tags(RootModel[list[str]]):
    pass


class Opaque:
    pass


def of(annotation: object, seed: str = "", /, **field: object) -> Any:
    """Return an example of one required field with that annotation."""
    options: dict[str, Any] = field
    fields: dict[str, Any] = {"full_name": (annotation, Field(**options))}
    model: type[BaseModel] = create_model("Sample", **fields)
    return dict(example(model, seed=seed))["full_name"]


# Readable and repeatable


def test_texts_carry_the_name_of_their_field() -> None:
    assert re.fullmatch(r"full name [0-9a-f]{4}", of(str))
    assert all(re.fullmatch(r"full name [0-9a-f]{4}", item) for item in of(list[str]))
    assert example(RootModel[str]).root.startswith("RootModel[str] ")


def test_the_seed_decides() -> None:
    assert of(str, "one") == of(str, "one")
    assert of(str, "one") != of(str, "two")
    assert len({of(int, seed) for seed in SEEDS}) > 5
    assert {of(Colour, seed) for seed in SEEDS} == set(Colour)
    assert {type(of(Cat | Dog, seed)) for seed in SEEDS} == {Cat, Dog}


def test_a_compiled_model_makes_the_same_examples() -> None:
    examples = Examples(Node)
    assert [examples.make(seed=seed) for seed in SEEDS] == [example(Node, seed=seed) for seed in SEEDS]


def test_every_process_makes_the_same_example() -> None:
    script = (
        "from pydantic import BaseModel\n"
        "from flock.engines.example_values import example\n"
        "class Order(BaseModel):\n    name: str\n    tags: set[str]\n    sizes: dict[str, float]\n    kind: int | str\n"
        "order = example(Order, seed='7')\n"
        "print(order.name, sorted(order.tags), order.sizes, order.kind)"
    )
    outputs = {
        subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "name " in outputs.pop()


# Kinds of values


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str, str),
        (int, int),
        (float, float),
        (bool, bool),
        (bytes, bytes),
        (complex, complex),
        (None, type(None)),
        (Any, str),
        (object, str),
        (date, date),
        (datetime, datetime),
        (time, time),
        (timedelta, timedelta),
        (Decimal, Decimal),
        (UUID, UUID),
        (UUID1, UUID),
        (UUID5, UUID),
        (Path, Path),
        (IPv4Address, IPv4Address),
        (IPv6Network, IPv6Network),
        (AnyUrl, AnyUrl),
        (HttpUrl, HttpUrl),
        (PostgresDsn, PostgresDsn),
        (SecretStr, SecretStr),
        (ByteSize, int),
        (Base64Bytes, bytes),
        (re.Pattern[str], re.Pattern),
        (Json[list[int]], list),
        (list[int], list),
        (list, list),
        (dict, dict),
        (set[int], set),
        (frozenset[str], frozenset),
        (deque[int], deque),
        (tuple[int, str], tuple),
        (tuple[int, ...], tuple),
        (tuple[()], tuple),
        (Sequence[int], list),
        (Mapping[str, int], dict),
        (dict[int, date], dict),
        (dict[UUID, list[Cat]], dict),
        (dict[Colour, int], dict),
        (Colour, Colour),
        (Planet, Planet),
        (Level, Level),
        (Literal[Colour.RED], Colour),
        (Literal[Colour.RED, Colour.BLUE], Colour),
        (Literal[b"x", 1, True] | None, object),
        (str | None, str),
        (None | int, int),
        (int | str, int | str),
        (Cat, Cat),
        (Point, Point),
        (Options, dict),
        (Pair, Pair),
        (Tags, Tags),
        (Box[int], Box),
        (Sum, Sum),
    ],
    ids=str,
)
def test_a_value_of_every_kind_is_made(annotation: object, kind: type) -> None:
    for seed in SEEDS[:5]:
        assert isinstance(of(annotation, seed), kind)


def test_collections_are_not_empty() -> None:
    assert len(of(list[int])) == 2
    assert len(of(dict[str, int])) == 2
    assert len(of(set[str])) == 2
    assert of(tuple[()]) == ()


def test_moments_are_aware_unless_they_must_be_naive() -> None:
    assert of(datetime).tzinfo is not None
    assert of(AwareDatetime).tzinfo is not None
    assert of(NaiveDatetime).tzinfo is None
    assert of(time).tzinfo is None
    assert of(time, ge=time(9, tzinfo=UTC)).tzinfo is not None
    assert of(datetime, gt=datetime(2030, 1, 1)).tzinfo is None  # noqa: DTZ001 - a naive bound
    assert of(datetime, gt=datetime(2030, 1, 1, tzinfo=UTC)) > datetime(2030, 1, 1, tzinfo=UTC)


def test_past_and_future_are_kept() -> None:
    assert of(FutureDate) > date(2099, 12, 31)
    assert of(FutureDatetime) > datetime(2099, 12, 31, tzinfo=UTC)
    assert of(PastDate) < date(2025, 1, 2)


def test_the_branches_of_a_discriminated_union_are_all_made() -> None:
    pets = Annotated[Cat | Dog, Field(discriminator="kind")]
    assert {type(of(pets, seed)) for seed in SEEDS} == {Cat, Dog}
    shapes = Annotated[Circle | Square, Field(discriminator="colour")]
    assert {type(of(shapes, seed)) for seed in SEEDS} == {Circle, Square}
    kinds = Annotated[
        Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")],
        Discriminator(lambda value: "cat" if "lives" in value else "dog"),
    ]
    assert {type(of(kinds, seed)) for seed in SEEDS} == {Cat, Dog}


def test_recursion_ends() -> None:
    node = example(Node)
    assert node.children
    assert len(node.model_dump_json()) < 5_000
    assert len(example(Sum).model_dump_json()) < 5_000


def test_aliases_are_understood() -> None:
    class Aliased(BaseModel):
        first: str = Field(alias="firstName")
        second: int = Field(validation_alias=AliasChoices("second_choice", "other"))
        inner: "list[Aliased]" = Field(alias="innerOnes")

    made = example(Aliased)
    assert made.first.startswith("firstName ")
    assert isinstance(made.second, int)


def test_strict_and_frozen_models_that_forbid_extras_are_made() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

        at: datetime
        id: UUID
        price: Decimal
        colours: set[Colour]
        point: tuple[int, float]
        raw: bytes

    for seed in SEEDS:
        assert example(Strict, seed=seed).at.tzinfo is not None


def test_named_tuples_keep_their_defaults() -> None:
    assert of(Pair).second == "second"


# Constraints


CONSTRAINED: list[tuple[Any, dict[str, Any]]] = [
    (int, {"ge": 5, "le": 5}),
    (int, {"gt": 5, "lt": 7}),
    (int, {"lt": -1000}),
    (int, {"ge": 10**20}),
    (int, {"gt": 100, "multiple_of": 7}),
    (int, {"lt": 0, "multiple_of": 7}),
    (float, {"gt": 0, "lt": 1e-9}),
    (float, {"ge": 0, "le": 1}),
    (float, {"gt": 0.3, "lt": 0.31}),
    (float, {"gt": 1e17}),
    (float, {"le": -1e300}),
    (float, {"multiple_of": 0.1}),
    (float, {"ge": 3, "multiple_of": 2.5}),
    (float, {"ge": -float("inf"), "allow_inf_nan": False}),
    (Decimal, {"max_digits": 3, "decimal_places": 2}),
    (Decimal, {"max_digits": 2, "decimal_places": 2}),
    (Decimal, {"max_digits": 1}),
    (Decimal, {"decimal_places": 0}),
    (Decimal, {"decimal_places": 5}),
    (Decimal, {"gt": 0, "lt": Decimal("0.0001")}),
    (Decimal, {"ge": Decimal("3.1"), "multiple_of": Decimal("0.25")}),
    (Decimal, {"lt": 0, "max_digits": 4, "decimal_places": 1}),
    (str, {"max_length": 0}),
    (str, {"max_length": 3}),
    (str, {"max_length": 8}),
    (str, {"min_length": 40, "max_length": 41}),
    (Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)], {"min_length": 30}),
    (str, {"pattern": r"^[A-Z]{2}-\d{4}$"}),
    (str, {"pattern": r"^[a-z]+$", "min_length": 20}),
    (str, {"pattern": r"^\w+@\w+\.(com|org)$", "max_length": 12}),
    (bytes, {"min_length": 30, "max_length": 30}),
    (date, {"lt": date(1990, 1, 1)}),
    (date, {"ge": date.max}),
    (date, {"ge": date(2024, 2, 3), "le": date(2024, 2, 3)}),
    (datetime, {"gt": datetime(2030, 1, 1, tzinfo=UTC), "lt": datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC)}),
    (time, {"ge": time(23, 59, 59)}),
    (time, {"gt": time(9), "lt": time(9, 0, 0, 10)}),
    (timedelta, {"gt": timedelta(days=3)}),
    (timedelta, {"lt": timedelta(0)}),
    (list[int], {"min_length": 5}),
    (list[int], {"max_length": 0}),
    (set[int], {"min_length": 20}),
    (set[bool], {"min_length": 2}),
    (frozenset[Literal["a", "b", "c"]], {"min_length": 3}),
    (dict[str, int], {"min_length": 4, "max_length": 4}),
    (tuple[int, ...], {"min_length": 3}),
    (int | None, {"ge": 1000}),
]


@pytest.mark.parametrize(("annotation", "constraints"), CONSTRAINED, ids=str)
def test_constraints_are_kept(annotation: object, constraints: dict[str, Any]) -> None:
    for seed in SEEDS[:8]:
        of(annotation, seed, **constraints)  # valid, as the model has checked it


@given(low=st.floats(allow_nan=False, allow_infinity=False), span=st.floats(min_value=1e-3, max_value=1e6))
def test_a_number_lies_between_its_bounds(low: float, span: float) -> None:
    high = low + span
    if low < high and abs(low) < 1e12:
        assert low < of(float, gt=low, lt=high) < high


@given(low=st.integers(), span=st.integers(min_value=0, max_value=1000), step=st.integers(min_value=1, max_value=50))
def test_a_whole_number_lies_on_its_steps(low: int, span: int, step: int) -> None:
    high = low + span + step
    value = of(int, ge=low, le=high, multiple_of=step)
    assert low <= value <= high
    assert value % step == 0


def test_small_bounds_do_not_make_all_values_equal() -> None:
    assert len({of(float, seed, ge=0, le=1) for seed in SEEDS}) > 5


# Declared values


def test_defaults_are_kept() -> None:
    class WithDefaults(BaseModel):
        name: str = "as it is"
        items: list[int] = Field(default_factory=lambda: [1], examples=[[2]])
        opaque: Callable[[], int] = int
        needed: int

    made = example(WithDefaults)
    assert (made.name, made.items, made.opaque) == ("as it is", [1], int)
    assert made.model_fields_set == {"needed"}


def test_examples_come_first() -> None:
    assert of(str, examples=["Ada"]) == "Ada"
    assert {of(str, seed, examples=["Ada", "Grace"]) for seed in SEEDS} == {"Ada", "Grace"}
    assert of(date, examples=[date(2020, 2, 2)]) == date(2020, 2, 2)
    assert of(Cat, examples=[{"lives": 9}]) == Cat(lives=9)
    assert {of(list[Annotated[str, Field(examples=["x"])]], seed)[0] for seed in SEEDS} == {"x"}


def test_examples_of_a_model_come_first() -> None:
    class Shown(BaseModel):
        model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada", "age": 36}]})

        name: str
        age: int

    assert example(Shown) == Shown(name="Ada", age=36)


def test_examples_that_do_not_validate_are_passed_over() -> None:
    for seed in SEEDS:
        assert of(int, seed, examples=["bad", 7, 3], ge=5) == 7
        assert of(str, seed, examples=[1]).startswith("full name ")
        assert len(of(list[str], seed, examples=["bad"])) == 2
    nested = of(list[Annotated[int, Field(examples=["bad"])] | Cat], examples=[["worse"]])
    assert len(nested) == 2


def test_a_bad_example_does_not_spoil_a_good_one() -> None:
    class Mixed(BaseModel):
        good: str = Field(examples=["Ada"])
        bad: int = Field(examples=["many"])

    assert example(Mixed).good == "Ada"


def test_examples_that_do_not_fit_together_are_dropped() -> None:
    class Span(BaseModel):
        start: int = Field(examples=[500])
        end: int = Field(ge=200, examples=[400])

        @model_validator(mode="after")
        def ordered(self) -> "Span":
            if self.start > self.end:
                raise ValueError("start after end")
            return self

    assert example(Span).start < 200


def test_an_example_stands_in_for_what_can_not_be_made() -> None:
    class Loud(BaseModel):
        word: str = Field(examples=["LOUD"])

        @field_validator("word")
        @classmethod
        def is_loud(cls, word: str) -> str:
            if not word.isupper():
                raise ValueError("not loud enough")
            return word

    assert example(Loud).word == "LOUD"


# What can't be made


def test_what_can_not_be_made_names_its_place_and_a_way_out() -> None:
    class Quiet(BaseModel):
        word: str

        @field_validator("word")
        @classmethod
        def is_loud(cls, word: str) -> str:
            if not word.isupper():
                raise ValueError("not loud enough")
            return word

    class Choir(BaseModel):
        voices: list[Quiet]

    with pytest.raises(ConfigurationError) as raised:
        example(Choir)
    message = str(raised.value)
    assert message.startswith("Choir.voices[0].word: no example value can be made (Value error, not loud enough, got")
    assert message.endswith("give the field a default or Field(examples=[...]), or the agent an engine")


@pytest.mark.parametrize(
    ("annotation", "constraints", "reason"),
    [
        (int, {"gt": 5, "lt": 6}, r"Sample\.full_name.*no value lies within its bounds"),
        (set[bool], {"min_length": 3}, r"only 2 different values"),
        (dict[bool, int], {"min_length": 3}, r"only 2 different values"),
        (dict[tuple[int, int], int], {}, r"no such keys"),
        (str, {"pattern": r"\p{Greek}+"}, r"no text is known"),
        (Endless, {}, r"Sample\.full_name.*every Endless needs another one"),
        (FilePath, {}, r"Sample\.full_name.*does not point to a file"),
        (Callable[[], int] | Endless, {}, r"Sample\.full_name"),
        (Callable[[], int], {}, r"Sample\.full_name"),
    ],
)
def test_impossible_fields_are_refused(annotation: object, constraints: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        of(annotation, **constraints)


def test_an_unknown_class_is_refused_unless_another_branch_will_do() -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        held: Opaque | None

    class Needy(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        held: Opaque

    assert example(Holder).held is None
    with pytest.raises(ConfigurationError, match=r"Needy\.held.*an instance of Opaque"):
        example(Needy)


def test_an_incomplete_model_is_refused() -> None:
    class Incomplete(BaseModel):
        missing: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"Incomplete.*not fully defined"):
        example(Incomplete)


# Any model


leaves = st.sampled_from(
    [str, int, float, bool, bytes, date, datetime, time, timedelta, Decimal, UUID, Path, Colour, Cat, Node, Literal[3]]
)
keys = st.sampled_from([str, int, UUID, date, Colour])
annotations: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: kind | None),
        st.tuples(inner, inner).map(lambda kinds: kinds[0] | kinds[1]),
        st.tuples(inner, inner).map(lambda kinds: tuple[kinds[0], kinds[1]]),  # type: ignore[valid-type]
        st.tuples(keys, inner).map(lambda kinds: dict[kinds[0], kinds[1]]),  # type: ignore[valid-type]
    ),
    max_leaves=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(fields=st.lists(annotations, min_size=1, max_size=4), seed=st.text(max_size=5))
def test_any_model_has_an_example_that_survives_json(fields: list[Any], seed: str) -> None:
    kwargs: dict[str, Any] = {f"field_{index}": (annotation, ...) for index, annotation in enumerate(fields)}
    model: type[BaseModel] = create_model("Anything", **kwargs)
    made = example(model, seed=seed)
    assert made.model_dump_json() == example(model, seed=seed).model_dump_json()
    assert model.model_validate_json(made.model_dump_json()) is not None


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "^$",
        "abc",
        r"^[A-Z][a-z]*$",
        r"^\d{3}-\d{2,4}-\d{1,}$",
        r"^(red|green|blue)$",
        r"^(?:a|b)+c?$",
        r"^(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])$",
        r"^[^a-z]{3}$",
        r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
        r"^[]x]$",
        r"^[a\-z\]]+$",
        r"^[-a]+$",
        r"(?i)^hello$",
        r"^\s\S\D\W\t$",
        r"^.{5}$",
        r"\bword\b",
        r"^#[0-9a-fA-F]{6}$",
        r"^a{0}b*?$",
        "^[à-ÿ]{2}$",
        r"^[\--\/]$",
    ],
)
def test_texts_match_their_pattern(pattern: str) -> None:
    for seed in SEEDS:
        text = text_matching(pattern, Dice(seed))
        assert text is not None
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    "pattern", [r"(?=a)b", r"\1(a)", "(a", "a)", "[a", "*a", "a\\", r"\p{L}", "{2}", "[z-a]", "[[]", "[a-z&&b]", "a|*"]
)
def test_patterns_beyond_us_give_nothing(pattern: str) -> None:
    assert text_matching(pattern, Dice("")) is None


def test_a_length_that_the_pattern_excludes_gives_nothing() -> None:
    assert text_matching("^a{3}$", Dice(""), shortest=4) is None
    assert text_matching("^a{3}$", Dice(""), longest=2) is None


@given(st.text(alphabet="ab1^$.|*+?(){}[]-,\\dw:<&~", max_size=12))
def test_whatever_a_pattern_says_its_text_matches_or_is_not_made(pattern: str) -> None:
    text = text_matching(pattern, Dice(""))
    assert text is None or re.search(pattern, text)
