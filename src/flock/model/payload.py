"""Payloads: stable names and versions for their types, and private copies."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import enum
import fractions
import functools
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from flock.model.errors import ConfigurationError, PublishError

M = TypeVar("M", bound=BaseModel)

_ATOMS: Final = frozenset({
    str, int, float, bool, bytes, complex, type(None), type(...), range, decimal.Decimal, fractions.Fraction, uuid.UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, pathlib.PurePosixPath, pathlib.PosixPath,
    pathlib.PureWindowsPath, pathlib.WindowsPath,
})  # fmt: skip
_DECLARED: Final = "__flock_type__"
_SLOTS: Final = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_SETTERS: Final = [vars(BaseModel)[slot].__set__ for slot in _SLOTS]  # past what models do when they are assigned to
_new: Final = object.__new__
_EMPTY: Final[dict[str, object]] = {}


class Declaration(NamedTuple):
    """What `@flock_type` says of a class: its name (None: the default one), its version, and how to read older ones."""

    name: str | None = None
    version: int = 1
    upgrade: Callable[[Any, int], Any] | None = None


_UNDECLARED: Final = Declaration()


class Unreadable(BaseModel):
    """Stands for a payload that a store has but this program can't read: as it was stored, and why."""

    model_config = ConfigDict(frozen=True, defer_build=True)  # a store builds it, not the import

    type: str
    version: int
    content: str
    reason: str


def flock_type(
    name: str | None = None, *, version: int | None = None, upgrade: Callable[[Any, int], Any] | None = None
) -> Callable[[type[M]], type[M]]:
    """Give a model a name that survives moves and renames, a version (1 until then), or both; not its subclasses.

    `upgrade(data, version)` turns the stored JSON data of an older version into that of this one.
    """
    _check_declaration(name, version, upgrade)
    declared = Declaration(name, version or 1, upgrade)

    def declare(cls: type[M]) -> type[M]:
        if not isinstance(cls, type) or not issubclass(cls, BaseModel):
            raise ConfigurationError(f"@flock_type marks pydantic models; {cls!r} is none")
        setattr(cls, _DECLARED, declared)
        type_name.cache_clear()
        return cls

    return declare


def _check_declaration(name: object, version: object, upgrade: object) -> None:
    if (name, version, upgrade) == (None, None, None):
        raise ConfigurationError('@flock_type takes a name, as in @flock_type("billing.Invoice"), or version=')
    if name is not None and (not isinstance(name, str) or not name or name != name.strip()):
        raise ConfigurationError(f'@flock_type takes a name, as in @flock_type("billing.Invoice"), not {name!r}')
    if version is not None and (type(version) is not int or version < 1):
        raise ConfigurationError(f"@flock_type(version=...) takes a whole number from 1, not {version!r}")
    if upgrade is not None and not callable(upgrade):
        raise ConfigurationError(f"@flock_type(upgrade=...) takes a function of data and version, not {upgrade!r}")
    if upgrade is not None and version in (None, 1):
        raise ConfigurationError("@flock_type(upgrade=...) needs version= of 2 or more: nothing is older than 1")


def declaration(cls: type[BaseModel]) -> Declaration:
    """Give what a class declares itself; nothing is inherited."""
    found: Declaration = cls.__dict__.get(_DECLARED, _UNDECLARED)
    return found


@functools.lru_cache(maxsize=4096)
def type_name(cls: type[BaseModel]) -> str:
    """Give the stable name of a payload type: what was declared, else `module:QualName`."""
    declared = declaration(cls).name
    if declared is not None:
        return declared
    generic: dict[str, Any] = getattr(cls, "__pydantic_generic_metadata__", _EMPTY)
    module = str((generic.get("origin") or cls).__module__)  # that of Box[int] is where this was first written
    if module == "__main__":
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        module = pathlib.Path(file).stem if file else module
    return f"{module}:{cls.__qualname__}"


def members(value: object) -> list[object]:
    """Give the members of a built-in collection; anything else is its own only member."""
    return list(cast("Iterable[object]", value)) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def find_loaded(name: str) -> type[BaseModel] | None:
    """Find a model by its stable name `module:QualName` among the modules that are loaded; imports nothing."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module) or sys.modules.get("__main__")  # which may be the script of that name
    for part in path.split("."):
        found = getattr(found, "__dict__", _EMPTY).get(part)  # past a module's __getattr__, which may import
    return found if isinstance(found, type) and issubclass(found, BaseModel) and type_name(found) == name else None


def loaded_type(name: str) -> type[BaseModel]:
    """Find a model as `find_loaded` does; raises PublishError when it is not there."""
    found = find_loaded(name)
    if found is None:
        raise PublishError(f"the class of {name!r} is not loaded under that name: pass it as payload_type=")
    return found


def private_copy(model: M) -> M:
    """Give a copy of a model that shares nothing mutable with it."""
    copy: M = copier(type(model))(model)
    return copy


def copy_value(value: Any) -> Any:  # noqa: ANN401 - payload fields can hold anything
    """Give a value that shares nothing mutable with this one."""
    given: object = value
    kind = type(given)
    if kind in _ATOMS:
        return value
    if kind is list:
        return value[:] if _ATOMS.issuperset(map(type, value)) else [copy_value(item) for item in value]
    if kind is dict:
        return {copy_value(key): copy_value(item) for key, item in value.items()}
    if kind is tuple:
        return tuple([copy_value(item) for item in value])
    if kind is set or kind is frozenset:
        return frozenset([copy_value(v) for v in value]) if kind is frozenset else {copy_value(v) for v in value}
    if isinstance(value, BaseModel):
        return private_copy(value)
    return value if isinstance(value, enum.Enum) else copy.deepcopy(value)


def _plain_copier(cls: type[BaseModel]) -> Callable[[BaseModel], BaseModel]:
    """Make the copier of a model without extras and private attributes; what users of pydantic mostly write.

    It is the hottest code of all: two calls per activation. Setters are looked up once. The snapshots of a type in
    which every field is set share the set that says so; a copy of a snapshot, which somebody may change, has its own.
    """
    set_dict, set_fields, set_extra, set_private = _SETTERS
    every = set(cls.model_fields)
    count = len(every)

    def copy(model: BaseModel) -> BaseModel:
        values = model.__dict__.copy()
        for name, value in values.items():
            if type(value) not in _ATOMS:
                values[name] = copy_value(value)
        twin = _new(cls)
        set_dict(twin, values)
        given = model.__pydantic_fields_set__
        set_fields(twin, every if len(given) == count and given is not every else given.copy())
        set_extra(twin, None)
        set_private(twin, None)
        return twin

    return copy


def _full_copier(cls: type[BaseModel]) -> Callable[[BaseModel], BaseModel]:
    """Make the copier of a model with extras or private attributes."""
    plain = _plain_copier(cls)
    _, set_fields, set_extra, set_private = _SETTERS

    def copy(model: BaseModel) -> BaseModel:
        twin = plain(model)
        set_fields(twin, model.__pydantic_fields_set__.copy())
        set_extra(twin, copy_value(model.__pydantic_extra__))
        set_private(twin, copy_value(model.__pydantic_private__))
        return twin

    return copy


def _frozen_copier(cls: type[BaseModel]) -> Callable[[BaseModel], BaseModel]:
    """Make the copier of a frozen model: one whose values can't change either is shared."""
    plain = _plain_copier(cls)
    return lambda model: model if all(map(_unchanging, model.__dict__.values())) else plain(model)


def _unchanging(value: object) -> bool:
    kind = type(value)
    if kind in _ATOMS or isinstance(value, enum.Enum):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_unchanging, members(value)))
    return isinstance(value, BaseModel) and bool(value.model_config.get("frozen")) and private_copy(value) is value


@functools.lru_cache(maxsize=4096)
def copier(cls: type[BaseModel]) -> Callable[[Any], Any]:
    """Give the function that copies instances of this model, made once per type.

    Values are judged by what they are, not by their annotation: pydantic does not check assignments by default.
    """
    if cls.__deepcopy__ is not BaseModel.__deepcopy__:
        return copy.deepcopy
    if cls.model_config.get("extra") == "allow" or cls.__private_attributes__:
        return _full_copier(cls)
    return _frozen_copier(cls) if cls.model_config.get("frozen") else _plain_copier(cls)
