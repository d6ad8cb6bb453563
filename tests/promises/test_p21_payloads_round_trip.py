"""P21: what a store that keeps has acknowledged can be read back as it was; what could not is refused, with what to do.

This is the codec alone; no store is here.
"""

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import re
import tempfile
import types
import uuid
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypedDict, override

from flock import (
    AfterVisibility,
    Failure,
    Flock,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    PublishError,
    StoreError,
    TenantVisibility,
    Visibility,
)
from flock.model.payload import private_copy, type_name
from flock.model.visibility import PUBLIC
from flock.stores.codec import decode, encode, visibility_from, visibility_text
from flock.stores.sqlite.store import SQLiteStore

pytestmark = pytest.mark.memory  # the codec, and a file of its own

T = TypeVar("T")
BERLIN = ZoneInfo("Europe/Berlin")
NUMBERS = ConfigDict(ser_json_inf_nan="strings")
NAN = float("nan")


class Only:
    """Knows one class."""

    def __init__(self, cls: type[BaseModel]) -> None:
        self.cls = cls

    def find(self, name: str) -> type[BaseModel] | None:
        return self.cls if name == type_name(self.cls) else None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Rank(enum.IntEnum):
    LOW = 1


class Size(enum.StrEnum):
    SMALL = "small"


class Animal(BaseModel):
    name: str = ""


class Cat(Animal):
    kind: Literal["cat"] = "cat"


class Dog(Animal):
    kind: Literal["dog"] = "dog"


class Twin(BaseModel):
    name: str = ""


class Counted(BaseModel):
    """With what is no content: a private attribute that never equals another, and a cached property."""

    number: int = 0
    _mark: object = PrivateAttr(default_factory=object)

    @functools.cached_property
    def square(self) -> object:
        return object()


@dataclasses.dataclass
class Point:
    x: float
    note: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: float


@checked_dataclass
class Zoo:
    animals: list[Animal]


class Options(TypedDict):
    level: int
    since: NotRequired[dt.date]


class Pair(NamedTuple):
    number: int
    animal: Animal


class Opaque:
    """Any class of the user's, without an equality of its own."""

    def __init__(self, value: int) -> None:
        self.value = value


class Special(Opaque):
    pass


AnOpaque = Annotated[
    Opaque,
    PlainSerializer(lambda it: it.value, return_type=int),
    PlainValidator(lambda it: it if isinstance(it, Opaque) else Opaque(it)),
]


class Rich(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")

    text: str
    number: int
    real: float
    flag: bool | None
    raw: bytes
    amount: decimal.Decimal
    moment: dt.datetime
    day: dt.date
    time: dt.time
    span: dt.timedelta
    key: uuid.UUID
    colour: Colour
    rank: Rank
    path: pathlib.PurePosixPath
    numbers: set[int]
    words: frozenset[str]
    pair: tuple[int, str]
    many: tuple[float, ...]
    table: dict[str, list[float | None]]
    by_day: dict[dt.date, Colour]
    nested: Animal
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    either: int | str | list[Cat]
    anything: Any


def one_of(*kinds: type[Animal]) -> st.SearchStrategy[Animal]:
    return st.sampled_from(kinds).flatmap(lambda kind: st.builds(kind, name=st.text()))


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# == denies that two zones have the same moment in an hour that one repeats: that has a test of its own.
fixed_zones = st.integers(-12 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
rich = st.builds(
    Rich,
    text=st.text(),
    real=st.floats(allow_nan=False),
    raw=st.binary(),
    amount=st.decimals(allow_nan=False, allow_infinity=False),
    moment=st.datetimes(timezones=st.none() | fixed_zones),
    words=st.frozensets(st.text()),
    pair=st.tuples(st.integers(), st.text()),
    many=st.lists(st.floats(allow_nan=False)).map(tuple),
    table=st.dictionaries(st.text(), st.lists(st.none() | st.floats(allow_nan=False), max_size=3), max_size=3),
    path=st.sampled_from(["a", "/b/c", "."]).map(pathlib.PurePosixPath),
    nested=one_of(Animal),
    pet=one_of(Cat, Dog),
    either=st.integers() | st.text() | st.lists(one_of(Cat), max_size=2),
    anything=json_data,
)


def model_of(annotation: Any, config: ConfigDict | None = None, default: Any = ...) -> Callable[..., BaseModel]:
    """Make a class with one field, `x`, in this module."""
    made: type[BaseModel] = create_model("Made", __config__=config, __module__=__name__, x=(annotation, default))
    return made


def kept(payload: BaseModel) -> BaseModel:
    """Write and read a payload."""
    text, version = encode(payload)
    cls = type(payload)
    again = decode(type_name(cls), version, text, Only(cls))
    assert type(again) is cls, again
    return again


def refusal(payload: BaseModel) -> str:
    with pytest.raises(PublishError) as caught:
        encode(payload)
    return str(caught.value)


@given(rich)
def test_p21_whatever_a_rich_model_holds_is_read_back(payload: Rich) -> None:
    again = kept(payload)
    assert again == payload
    assert [type(value) for value in vars(again).values()] == [type(value) for value in vars(payload).values()]
    assert kept(private_copy(again)) == payload


@given(payload=rich)
@settings(max_examples=10)
def test_p21_whatever_a_rich_model_holds_is_read_back_from_a_file(payload: Rich) -> None:
    async def there_and_back(path: Path) -> Sequence[Rich]:
        async with Flock(store=SQLiteStore(path, synchronous="normal")) as flock:
            await flock.publish(payload)
        async with Flock(store=SQLiteStore(path, synchronous="normal")) as flock:
            return await flock.store.get_by_type(Rich)

    with tempfile.TemporaryDirectory() as folder:
        assert asyncio.run(there_and_back(Path(folder) / "board.db")) == [payload]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (re.Pattern, re.compile("a+")),
        (AnyUrl, AnyUrl("https://example.org/a?b=c")),
        (complex, 1 + 2j),
        (int, 10**400),
        (str, "\0 \u2028 \U0001f600"),
        (dt.timedelta, dt.timedelta.max),
        (dt.timedelta, dt.timedelta(microseconds=-1)),
        (Annotated[decimal.Decimal, Field(allow_inf_nan=True)], decimal.Decimal("Infinity")),
        (bool | int, 1),
        (int | float, 1.0),
        (dt.datetime | str, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
        (uuid.UUID | str, uuid.UUID(int=5)),
        (Cat | Dog, Dog(name="rex")),
        (dict[int, dict[Colour, bool]], {1: {Colour.RED: True}}),
        (list[Options], [Options(level=1, since=dt.date(2026, 1, 2)), Options(level=2)]),
        (Pair, Pair(1, Animal(name="a"))),
        (Point, Point(1.5)),
        (Zoo, Zoo([Animal(name="a")])),
        (set[Pair] | frozenset[Rank], frozenset({Rank.LOW})),
        (collections.deque[Animal], collections.deque([Animal(name="a")])),
        (collections.defaultdict[str, list[int]], collections.defaultdict(list[int], {"a": [1]})),
        (collections.Counter[str], collections.Counter("aab")),
        (Json[list[int]], "[1, 2]"),
        (Any, {"a": [1, None, "b", {"c": 1.5}]}),
    ],
)
def test_p21_a_field_of_any_kind_is_read_back(annotation: Any, value: Any) -> None:
    payload = model_of(annotation)(x=value)
    again = kept(payload)
    assert again == payload
    assert type(vars(again)["x"]) is type(vars(payload)["x"])


class Spelled(BaseModel):
    one: int = Field(1, alias="One")
    two: int = Field(2, validation_alias="in", serialization_alias="out")
    three: int = Field(3, validation_alias=AliasPath("list", 0))
    four: int = Field(4, validation_alias=AliasChoices("vier", "quatre"))
    kind: Annotated[Cat | Dog, Field(discriminator="kind", alias="Pet")] = Cat()


class SpelledByName(Spelled):
    model_config = ConfigDict(serialize_by_alias=False, validate_by_name=True, validate_by_alias=False)


@pytest.mark.skipif("by_name" not in signature(BaseModel.model_validate_json).parameters, reason="pydantic before 2.11")
@pytest.mark.parametrize("name", ["one", "two", "three", "four"])
@pytest.mark.parametrize("cls", [Spelled, SpelledByName])
def test_p21_aliases_of_every_kind_lose_nothing(cls: type[Spelled], name: str) -> None:
    payload = cls.model_validate({}).model_copy(update={name: 17, "kind": Dog()})
    assert kept(payload) == payload
    outer = model_of(types.GenericAlias(list, cls))(x=[payload])
    assert kept(outer) == outer


def test_p21_what_is_written_has_the_aliases_where_these_can_be_read() -> None:
    aliased = create_model("Aliased", __module__=__name__, one=(int, Field(alias="One")))
    assert encode(aliased(One=1)) == ('{"One":1}', 1)


@pytest.mark.parametrize("config", [NUMBERS, ConfigDict(ser_json_inf_nan="constants")], ids=["strings", "constants"])
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, NAN),
        (list[float], [NAN, float("-inf")]),
        (dict[str, float], {"a": NAN}),
        (Slotted, Slotted(NAN)),
        (set[float], {NAN}),
        (tuple[float, int], (NAN, 1)),
    ],
)
def test_p21_no_number_and_infinity_survive_where_the_class_writes_them(
    config: ConfigDict, annotation: Any, value: Any
) -> None:
    payload = model_of(annotation, config)(x=value)
    assert repr(kept(payload)) == repr(payload)


@pytest.mark.parametrize("number", ["NaN", "sNaN"])
def test_p21_a_decimal_that_is_no_number_survives(number: str) -> None:
    payload = model_of(Annotated[decimal.Decimal, Field(allow_inf_nan=True)])(x=decimal.Decimal(number))
    assert repr(kept(payload)) == repr(payload)


@given(st.datetimes(dt.datetime(1973, 1, 1), timezones=st.timezones(), allow_imaginary=True))  # noqa: DTZ001 - st wants it
@example(dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN))
@example(dt.datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=BERLIN))
@example(dt.datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN))
@example(dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5))))
@example(dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=5))))
def test_p21_a_moment_is_the_same_also_in_the_hours_that_a_zone_repeats_or_skips(moment: dt.datetime) -> None:
    (again,) = vars(kept(model_of(dt.datetime)(x=moment))).values()
    assert (again.replace(tzinfo=None), again.utcoffset()) == (moment.replace(tzinfo=None), moment.utcoffset())


def test_p21_private_attributes_and_cached_properties_are_no_content() -> None:
    payload = Counted(number=3)
    assert payload.square is payload.square
    assert vars(kept(payload)) == {"number": 3}
    for annotation, value in [(list[Counted], [payload]), (dict[str, Counted], {"a": payload})]:
        assert encode(model_of(annotation)(x=value)).payload.count('"number":3') == 1


def test_p21_fields_beyond_the_declared_are_read_back() -> None:
    class_ = create_model("Open", __config__=ConfigDict(extra="allow"), __module__=__name__)
    payload = class_(a=1, b=[{"c": None}])
    assert kept(payload) == payload
    assert refusal(class_(a=dt.date(2026, 1, 2))).startswith("Open can't be kept: 'a' holds a date and would be")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    moment: dt.datetime = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    raw: bytes = b"a"
    key: uuid.UUID = uuid.UUID(int=1)
    pair: tuple[int, ...] = (1, 2)
    numbers: frozenset[int] = frozenset({1})
    colour: Colour = Colour.RED
    amount: decimal.Decimal = decimal.Decimal("1.50")
    path: pathlib.PurePosixPath = pathlib.PurePosixPath("a")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def first(self) -> int:
        return self.pair[0]


class Box(BaseModel, Generic[T]):
    content: T


class Table(RootModel[dict[str, list[dt.date]]]):
    pass


class Angled(BaseModel):
    """Writes itself as something that is no object."""

    number: int

    @model_serializer
    def write(self) -> str:
        return f"<{self.number}>"

    @model_validator(mode="before")
    @classmethod
    def parse(cls, data: Any) -> Any:
        return {"number": int(data[1:-1])} if isinstance(data, str) else data


class Positional(BaseModel):
    number: int

    def __init__(self, number: int) -> None:
        super().__init__(number=number)


@pytest.mark.parametrize(
    "payload",
    [
        Strict(),
        Box[Animal](content=Animal(name="a")),
        Box[int | None](content=None),
        Table({"a": [dt.date(2026, 1, 2)]}),
        Angled(number=3),
        Positional(3),
        Failure(agent="a", error_type="E", message="m", inputs=("b", "c")),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_p21_a_model_of_any_kind_is_read_back(payload: BaseModel) -> None:
    assert kept(payload) == payload


def test_p21_objects_without_equality_are_compared_by_what_they_hold() -> None:
    made = model_of(AnOpaque, ConfigDict(arbitrary_types_allowed=True))
    (again,) = vars(kept(made(x=Opaque(3)))).values()
    assert again.value == 3
    assert "'x' holds a Special and would be read back as a mere Opaque" in refusal(made(x=Special(3)))
    several = model_of(frozenset[AnOpaque], ConfigDict(arbitrary_types_allowed=True))
    assert encode(several(x=frozenset({Opaque(3)}))).payload == '{"x":[3]}'
    assert "'x' would be read back with another value" in refusal(several(x=frozenset({Opaque(3), Special(3)})))


def test_p21_a_default_that_equals_what_its_annotation_says_is_fine() -> None:
    assert encode(model_of(float, default=0)()).payload == '{"x":0.0}'
    assert encode(model_of(str, default=Size.SMALL)()).payload == '{"x":"small"}'
    assert encode(model_of(int | Rank)(x=Rank.LOW)).payload == '{"x":1}'


# What would be lost, and what the refusal says.


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Animal, Cat(), "'x' holds a Cat and would be read back as a mere Animal. Annotate it as the union"),
        (SerializeAsAny[Animal], Cat(), "'x' holds a Cat"),
        (list[Animal], [Animal(), Dog()], "'x.1' holds a Dog"),
        (Zoo, Zoo([Dog()]), "'x.animals.0' holds a Dog"),
        (Animal | Twin, Twin(), "'x' holds a Twin and would be read back as Animal"),
        (SecretStr, SecretStr("hush"), "'x' is a secret"),
        (dict[str, list[SecretStr]], {"a": [SecretStr("hush")]}, "'x.a.0' is a secret"),
        (float, NAN, 'ser_json_inf_nan="strings"'),
        (float | None, float("inf"), 'ser_json_inf_nan="strings"'),
        (Any, [1.0, NAN], "'x.1' is no finite number"),
        (bytes, b"\xff", "val_json_bytes"),
        (str, "\ud800", "surrogates not allowed"),
        (Any, dt.date(2026, 1, 2), "'x' holds a date and would be read back as str. Annotate it with the type"),
        (Any, (1, 2), "'x' holds a tuple and would be read back as list"),
        (Any, {1: 2}, "Annotate the type of its keys"),
        (Any, Pair(1, Animal()), "'x' holds a Pair"),
        (Any, object(), "Unable to serialize unknown type"),
        (dt.datetime | str, "2026-01-02T00:00:00", "'x' holds a str and would be read back as datetime"),
        (set[int] | list[int], {1}, "'x' holds a set and would be read back as list"),
        (dict[tuple[int, int], int], {(1, 2): 3}, "x.1,2"),
        (Point, Point(1.5, note=dt.date(2026, 1, 2)), "'x.note' holds a date"),
    ],
)
def test_p21_what_would_be_lost_is_refused_with_what_to_do(annotation: Any, value: Any, words: str) -> None:
    told = refusal(model_of(annotation)(x=value))
    assert words in told
    assert told.startswith("Made can't be kept")
    assert "hush" not in told


def test_p21_bytes_that_are_written_in_one_way_and_read_in_another_are_refused() -> None:
    assert "val_json_bytes" in refusal(model_of(bytes, ConfigDict(ser_json_bytes="base64"))(x=b"ab"))


class Hidden(BaseModel):
    token: str = Field(default="none", exclude=True)


class HiddenAndNeeded(BaseModel):
    token: str = Field(exclude=True)


def test_p21_an_excluded_field_is_refused_unless_it_has_its_default() -> None:
    assert kept(Hidden()) == Hidden()
    assert "'token' has exclude=True" in refusal(Hidden(token="hush"))  # noqa: S106 - no password
    assert "'token' has exclude=True" in refusal(HiddenAndNeeded(token="hush"))  # noqa: S106
    assert "'x.0.token' has exclude=True" in refusal(model_of(list[Hidden])(x=[Hidden(token="hush")]))  # noqa: S106


class Rounded(BaseModel):
    real: float

    @field_serializer("real")
    def rounded(self, value: float) -> int:
        return round(value)


class Growing(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def grow(cls, value: str) -> str:
        return f"{value}+"


class Turning(BaseModel):
    """Its validator raises what is no ValueError."""

    text: str

    @field_validator("text")
    @classmethod
    def turn(cls, value: str) -> str:
        return {"good": "bad"}[value]


class Named(BaseModel):
    """Equal to every other of its name."""

    name: str
    secret: SecretStr = SecretStr("")

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


def test_p21_serializers_and_validators_that_are_not_inverse_are_refused() -> None:
    assert kept(Rounded(real=2.0)) == Rounded(real=2.0)
    assert "'real' would be read back with another value" in refusal(Rounded(real=2.5))
    assert "'text' would be read back with another value" in refusal(Growing(text="a"))
    assert "its JSON can't be read back: KeyError" in refusal(Turning(text="good"))


def test_p21_an_equality_of_the_users_hides_no_loss() -> None:
    named = Named(name="a", secret=SecretStr("hush"))
    assert "'secret' is a secret" in refusal(named)
    assert "'x.0.secret' is a secret" in refusal(model_of(list[Named])(x=[named]))
    assert kept(Named(name="a")) == Named(name="a")


def test_p21_what_was_assigned_without_validation_is_refused_where_it_does_not_fit() -> None:
    payload = Animal()
    payload.name = b"raw"  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
    assert "'name' holds a bytes and would be read back as str" in refusal(payload)
    unfit: dict[str, Any] = {"content": "many"}
    assert "content: Input should be a valid integer" in refusal(Box[int].model_construct(**unfit))
    assert "'name' has no value" in refusal(_without_name())


def _without_name() -> Animal:
    payload = Animal()
    del payload.name
    return payload


def test_p21_a_cycle_and_what_nests_too_deeply_are_refused() -> None:
    ring = model_of(Any)(x=None)
    vars(ring)["x"] = [ring]
    assert "Circular reference" in refusal(ring)
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]
    assert refusal(model_of(Any)(x=nested)).startswith("Made can't be kept")


def test_p21_a_validator_that_gives_another_class_is_refused() -> None:
    class_ = Swapping(number=1)
    class_.number = 7
    assert "it holds a Swapping and would be read back as Animal" in refusal(class_)


class Swapping(BaseModel):
    number: int

    @model_validator(mode="wrap")
    @classmethod
    def swap(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        return Animal() if data == {"number": 7} else handler(data)


# Visibilities.


@pytest.mark.parametrize(
    "visibility",
    [
        PublicVisibility(),
        PrivateVisibility(agents={"b", "a"}),
        LabelledVisibility(required_labels=set()),
        TenantVisibility(tenant_id="north"),
        AfterVisibility(ttl=dt.timedelta(seconds=1.5), then=AfterVisibility(ttl=dt.timedelta(days=1))),
    ],
)
def test_p21_every_kind_of_visibility_is_read_back(visibility: Visibility) -> None:
    text = visibility_text(visibility)
    assert visibility_from(text) == visibility
    assert (text is None) == isinstance(visibility, PublicVisibility)
    assert visibility_text(visibility_from(text)) == text


def test_p21_public_is_the_one_public() -> None:
    assert visibility_from(visibility_text(PublicVisibility())) is PUBLIC


class OwnVisibility(PublicVisibility):
    pass


class Unhashable(PublicVisibility):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("own", [OwnVisibility(), Unhashable()], ids=lambda own: type(own).__name__)
def test_p21_a_kind_of_visibility_of_ones_own_is_refused(own: Visibility) -> None:
    with pytest.raises(PublishError, match="has no JSON form"):
        visibility_text(own)
    with pytest.raises(PublishError, match="has no JSON form"):
        visibility_text(AfterVisibility(ttl=dt.timedelta(1), then=own))


@pytest.mark.parametrize("text", ["", "5", "{}", '{"kind":"secret"}', '{"kind":"private","agents":"a"}', '{"kind":[]}'])
def test_p21_text_that_is_no_visibility_never_becomes_public(text: str) -> None:
    with pytest.raises(StoreError, match="no visibility"):
        visibility_from(text)
