"""Models that JSON is sure to keep are kept without reading them back: none of them may lose anything (P21)."""

import enum
import math
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import override

from flock import PublishError
from flock.stores import codec
from flock.stores.losses import loss_of
from flock.stores.plain import is_kept

T = TypeVar("T")


class Plain(BaseModel):
    number: int
    text: str = ""
    price: float | None = None
    flags: list[bool] = Field(default_factory=list[bool])
    names: list[str | None] = []


def is_plain(model: BaseModel) -> bool:
    """Say whether a model is kept without being read back."""
    return is_kept(model, type(model).__pydantic_serializer__.to_json(model, round_trip=True, warnings=False).decode())


# ---- what it says is so

LEAVES = {
    int: st.integers(),
    str: st.text(),
    float: st.floats(),
    bool: st.booleans(),
    int | None: st.none() | st.integers(),
    str | None: st.none() | st.text(),
    float | None: st.none() | st.floats(),
    list[int]: st.lists(st.integers()),
    list[str]: st.lists(st.text()),
    list[float]: st.lists(st.floats()),
    list[bool | None]: st.lists(st.none() | st.booleans()),
    Any: st.none(),
}
ODD = st.sampled_from(
    [None, True, 1, 1.5, math.nan, math.inf, "1", "", [], [1], ["a", None], [1.5], (1,), {"a": 1}, b"x"]
)


def construct(cls: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """Make an instance that holds these values, whether they fit or not."""
    made = cls.model_construct()
    vars(made).clear()
    vars(made).update(values)
    return made


@st.composite
def models(draw: st.DrawFn) -> BaseModel:
    """Draw a class and an instance, whose values mostly fit."""
    annotations = draw(st.lists(st.sampled_from(list(LEAVES)), min_size=1, max_size=4))
    fields: dict[str, Any] = {f"f{i}": (annotation, ...) for i, annotation in enumerate(annotations)}
    values = {f"f{i}": draw(LEAVES[annotation] | ODD) for i, annotation in enumerate(annotations)}
    return construct(create_model("Drawn", **fields), values)


@given(models())
def test_what_is_called_kept_is_read_back_as_it_was(model: BaseModel) -> None:
    text = type(model).__pydantic_serializer__.to_json(model, round_trip=True, warnings=False).decode()
    if is_kept(model, text):
        assert loss_of(model, type(model).model_validate_json(text)) is None


@given(models())
def test_what_is_kept_is_the_same_whether_it_is_read_back_or_not(model: BaseModel) -> None:
    try:
        written: str | None = codec.encode(model).payload
    except PublishError:
        written = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "is_kept", lambda *_: False)
        try:
            assert codec.encode(model).payload == written
        except PublishError:
            assert written is None


def test_a_plain_model_is_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "loss_of", None)
    assert codec.encode(Plain(number=1, names=["a", None], price=0.1)).version == 1


@pytest.mark.parametrize(
    "values",
    [
        {"number": True},
        {"number": 1.0},
        {"number": "1"},
        {"price": 1},
        {"price": math.nan},
        {"price": math.inf},
        {"text": type("Text", (str,), {})("a")},
        {"flags": (True,)},
        {"flags": [1]},
        {"names": type("Names", (list,), {})(["a"])},
        {"names": ["a", 1]},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_value_of_another_kind_is_read_back(values: dict[str, Any]) -> None:
    model = Plain(number=1)
    assert is_plain(model)
    assert not is_kept(construct(Plain, vars(model) | values), "{}")


def test_what_may_hold_a_number_of_more_digits_than_python_reads_is_read_back() -> None:
    model = Plain(number=1, text="y" * 5_000)
    assert not is_plain(model)
    assert codec.encode(model).payload.count("y") == 5_000
    with pytest.raises(PublishError, match="number"):
        codec.encode(construct(Plain, vars(model) | {"number": 10**5_000}))


def test_a_value_that_is_missing_is_read_back() -> None:
    assert not is_kept(construct(Plain, {"number": 1}), "{}")


# ---- classes that could lose something


def _double(value: int) -> int:
    return 2 * value


class Configured(BaseModel):
    model_config = ConfigDict(str_to_lower=True)
    text: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    text: str


class Validated(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def double(cls, number: int) -> int:
        return 2 * number


class WhollyValidated(BaseModel):
    number: int

    @model_validator(mode="after")
    def double(self) -> "WhollyValidated":
        self.number *= 2
        return self


class Serialized(BaseModel):
    number: int

    @field_serializer("number")
    def double(self, number: int) -> int:
        return 2 * number


class WhollySerialized(BaseModel):
    number: int

    @model_serializer
    def nothing(self) -> dict[str, int]:
        return {}


class Computed(BaseModel):
    number: int

    @computed_field
    def more(self) -> int:
        return self.number + 1


class Prepared(BaseModel):
    number: int

    @override
    def model_post_init(self, context: Any, /) -> None:
        self.number += 1


class Made(BaseModel):
    number: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.number += 1


class Secretive(BaseModel):
    number: int
    _hidden: int = PrivateAttr(0)


class Box(BaseModel, Generic[T]):
    content: T


class Root(RootModel[int]):
    pass


class Colour(enum.StrEnum):
    RED = "red"


OTHERS: dict[str, Callable[[], BaseModel]] = {
    "setting": lambda: Configured(text="a"),
    "extra": lambda: Open(text="a"),
    "validator": lambda: Validated(number=1),
    "model validator": lambda: WhollyValidated(number=1),
    "serializer": lambda: Serialized(number=1),
    "model serializer": lambda: WhollySerialized(number=1),
    "computed": lambda: Computed(number=1),
    "post init": lambda: Prepared(number=1),
    "init": lambda: Made(number=1),
    "private": lambda: Secretive(number=1),
    "root": lambda: Root(1),
    "generic of anything": lambda: Box[Any](content=1),
}
ANNOTATIONS: dict[str, tuple[Any, Any]] = {
    "any": (Any, 1),
    "constraint": (Annotated[int, Field(gt=0)], 1),
    "length": (Annotated[str, Field(max_length=3)], "a"),
    "list length": (Annotated[list[int], Field(max_length=3)], [1]),
    "alias": (Annotated[int, Field(alias="other")], 1),
    "serialization alias": (Annotated[int, Field(serialization_alias="other")], 1),
    "excluded": (Annotated[int, Field(exclude=True)], 1),
    "strict": (Annotated[int, Field(strict=True)], 1),
    "validator": (Annotated[int, AfterValidator(_double)], 1),
    "serializer": (Annotated[int, PlainSerializer(_double)], 1),
    "union": (int | str, 1),
    "literal": (Literal["a"], "a"),
    "enum": (Colour, Colour.RED),
    "secret": (SecretStr, SecretStr("a")),
    "numbers": (list[float], [1.0]),
    "lists": (list[list[int]], [[1]]),
    "dict": (dict[str, int], {"a": 1}),
    "tuple": (tuple[int, ...], (1,)),
    "model": (Plain, Plain(number=1)),
    "bytes": (bytes, b"a"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_class_that_does_more_than_hold_plain_values_is_read_back(kind: str) -> None:
    assert not is_plain(OTHERS[kind]())


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_a_field_that_is_more_than_a_plain_value_is_read_back(kind: str) -> None:
    annotation, value = ANNOTATIONS[kind]
    assert not is_plain(create_model("Other", field=(annotation, ...)).model_construct(field=value))
