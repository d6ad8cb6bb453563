"""Types that change while what they once were stands on a board: versions, upgrades, and what can't be read."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, create_model, field_validator

from flock import Artifact, ConfigurationError, EvalInputs, Flock, flock_type
from flock.model.artifact import Record
from flock.model.payload import Declaration, Unreadable, declaration, private_copy, type_name
from flock.stores.codec import decode, encode

NAME = "shop.Order"


class Known:
    """Knows classes by the names that a test gives them."""

    def __init__(self, **classes: type[BaseModel]) -> None:
        self.classes = {name.replace("_", "."): cls for name, cls in classes.items()}

    def find(self, name: str) -> type[BaseModel] | None:
        return self.classes.get(name)


def read(cls: type[BaseModel], stored: str, version: int = 1) -> BaseModel:
    return decode(NAME, version, stored, Known(shop_Order=cls))


def unread(cls: type[BaseModel], stored: str, version: int = 1) -> str:
    """Give the reason; what was stored has to be there as it was."""
    found = read(cls, stored, version)
    assert isinstance(found, Unreadable)
    assert (found.type, found.version, found.content) == (NAME, version, stored)
    return found.reason


def upgrade(data: dict[str, Any], version: int) -> dict[str, Any]:
    """Know all that orders have been."""
    if version == 1:
        data = {"item": data["article"], "count": data.get("count", 1)}
    return data | {"since": version}


class Order(BaseModel):
    item: str
    count: int = 1


@flock_type("shop.Order", version=3, upgrade=upgrade)
class NewOrder(BaseModel):
    item: str
    count: int = 1
    since: int = 3


def test_the_same_version_is_read_without_an_upgrade() -> None:
    text, version = encode(NewOrder(item="pen", since=9))
    assert version == 3
    assert read(NewOrder, text, version) == NewOrder(item="pen", since=9)


@pytest.mark.parametrize(("version", "stored"), [(1, '{"article": "pen"}'), (2, '{"item": "pen", "count": 1}')])
def test_an_older_version_is_upgraded_then_validated(version: int, stored: str) -> None:
    assert read(NewOrder, stored, version) == NewOrder(item="pen", since=version)


def test_without_an_upgrade_validation_decides_what_of_an_older_version_can_be_read() -> None:
    newer = flock_type(version=2)(create_model("Newer", __base__=Order))
    assert read(newer, '{"item": "pen", "colour": "red"}') == newer(item="pen")
    assert unread(newer, '{"article": "pen"}') == "item: Field required"


def test_a_newer_version_is_not_guessed() -> None:
    assert "written by a newer version: 4, while the class here has 3" in unread(NewOrder, '{"item": "pen"}', 4)
    assert "newer version: 2, while the class here has 1" in unread(Order, '{"item": "pen"}', 2)


def test_a_class_that_the_program_does_not_have_leaves_the_payload_as_it_was_stored() -> None:
    found = decode("gone:Class", 7, '{"a": 1}', Known())
    assert found == Unreadable(
        type="gone:Class", version=7, content='{"a": 1}', reason="no class 'gone:Class' is known here"
    )


def forgets(data: dict[str, Any], version: int) -> None:
    data["item"] = version


def turns_into_a_list(data: dict[str, Any], version: int) -> list[Any]:
    return [data, version]


def raises(data: dict[str, Any], version: int) -> dict[str, Any]:
    raise LookupError(f"{version} of {len(data)}")


def changes_nothing(data: dict[str, Any], version: int) -> dict[str, Any]:
    return data


def gives_what_json_has_not(data: dict[str, Any], version: int) -> dict[str, Any]:
    return data | {"item": object(), "count": version}


@pytest.mark.parametrize(
    ("upgrading", "reason"),
    [
        (forgets, "TypeError: upgrade gave no dict but NoneType"),
        (turns_into_a_list, "TypeError: upgrade gave no dict but list"),
        (raises, "LookupError: 1 of 1"),
        (gives_what_json_has_not, "Unable to serialize unknown type"),
        (changes_nothing, "item: Field required"),
    ],
)
def test_an_upgrade_that_fails_says_why(upgrading: Callable[[Any, int], Any], reason: str) -> None:
    cls = flock_type(version=2, upgrade=upgrading)(create_model("Failing", __base__=Order))
    assert reason in unread(cls, '{"article": "pen"}')


@pytest.mark.parametrize("stored", ["", "{", "[]", "null", '{"item": 5}', '{"count": 2}'])
def test_what_does_not_validate_says_why_without_telling_values(stored: str) -> None:
    reason = unread(Order, stored)
    assert reason
    assert "5" not in reason
    assert unread(NewOrder, stored)


class Turning(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def turn(cls, value: str) -> str:
        return {"good": "bad"}[value]


def test_a_validator_that_raises_anything_is_a_reason_too() -> None:
    assert unread(Turning, '{"text": "other"}') == "KeyError: 'other'"


def dated(data: dict[str, Any], version: int) -> dict[str, Any]:
    """Give values of Python as well as of JSON."""
    return {"day": dt.date(2026, 1, version), "raw": "YQ==", "real": data["real"], "numbers": data["numbers"]}


@flock_type(version=2, upgrade=dated)
class Dated(BaseModel):
    model_config = ConfigDict(
        strict=True, ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )

    day: dt.date
    raw: bytes
    real: float
    numbers: set[int]


def test_what_an_upgrade_gives_is_validated_as_json_is() -> None:
    found = read(Dated, '{"real": -Infinity, "numbers": [1]}')
    assert found == Dated(day=dt.date(2026, 1, 1), raw=b"a", real=float("-inf"), numbers={1})


@flock_type(version=2, upgrade=lambda data, version: [*data, version])
class Numbers(RootModel[list[int]]):
    pass


def test_what_is_no_object_can_be_upgraded_too() -> None:
    assert read(Numbers, "[5]") == Numbers([5, 1])


# What `@flock_type` declares.


def test_names_versions_and_upgrades_are_declared_apart_or_together() -> None:
    assert declaration(NewOrder) == Declaration("shop.Order", 3, upgrade)
    assert declaration(Dated) == Declaration(None, 2, dated)
    assert declaration(flock_type("a")(create_model("A"))) == Declaration("a", 1, None)
    assert declaration(flock_type(version=1)(create_model("A"))) == Declaration()
    assert declaration(Order) == Declaration()


def test_a_name_that_is_declared_late_counts_from_then_on() -> None:
    late = create_model("Late", __module__=__name__)
    assert type_name(late) == f"{__name__}:Late"
    flock_type("late")(late)
    assert type_name(late) == "late"


def test_subclasses_inherit_nothing_of_it() -> None:
    class Sub(NewOrder):
        pass

    assert declaration(Sub) == Declaration()
    assert type_name(Sub).endswith("Sub")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "takes a name"),
        ({"name": None, "version": None}, "takes a name"),
        ({"version": 0}, "whole number from 1"),
        ({"version": True}, "whole number from 1"),
        ({"version": "2"}, "whole number from 1"),
        ({"name": "a", "version": 2.0}, "whole number from 1"),
        ({"version": 2, "upgrade": 5}, "a function of data and version"),
        ({"name": "a", "upgrade": upgrade}, "version= of 2 or more"),
        ({"version": 1, "upgrade": upgrade}, "version= of 2 or more"),
    ],
)
def test_what_can_never_work_is_refused_where_it_is_declared(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"@flock_type.*{words}"):
        flock_type(**arguments)


# What could not be read, in a program.

LOST = Unreadable(type="gone:Class", version=7, content='{"a": [1, 2]}', reason="no class is known")


def test_what_could_not_be_read_is_shared_and_unchangeable() -> None:
    assert private_copy(LOST) is LOST
    with pytest.raises(ValidationError):
        setattr(LOST, "content", "{}")  # noqa: B010 - type checkers know that it can't


def test_what_could_not_be_read_goes_on_as_it_was_stored() -> None:
    def sent(content: str) -> Any:
        lost = LOST.model_copy(update={"content": content})
        record = Record(id="a", type="gone:Class", snapshot=lost, run="r", created=0.0)
        return json.loads(Artifact.of(record).to_json())

    assert sent('{"a": [1, 2]}')["payload"] == {"a": [1, 2]}
    assert sent('{"a": [1, 2]}')["type"] == "gone:Class"
    assert sent('{"a"')["payload"] == '{"a"'


async def test_what_could_not_be_read_is_replayed_to_nobody_who_does_not_name_it() -> None:
    seen: list[tuple[str, BaseModel]] = []

    def sees(name: str) -> Callable[[EvalInputs], None]:
        return lambda inputs: seen.extend((name, artifact.payload) for artifact in inputs.artifacts)

    async with Flock() as flock:
        await flock.publish_many([LOST, Order(item="pen")])
        flock.agent("any").consumes(BaseModel, replay=True).calls(sees("any"))
        flock.agent("lost").consumes(Unreadable, replay=True).calls(sees("lost"))
        assert (await flock.run_until_idle()).failures == ()
    assert sorted(seen, key=str) == [("any", Order(item="pen")), ("lost", LOST)]
