"""Payloads: stable names for their types, and private copies."""

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
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic import BaseModel

from flock.model.errors import ConfigurationError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

M = TypeVar("M", bound=BaseModel)

_ATOMS: Final = frozenset({
    str, int, float, bool, bytes, complex, type(None), type(...), range, decimal.Decimal, fractions.Fraction, uuid.UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, pathlib.PurePosixPath, pathlib.PosixPath,
    pathlib.PureWindowsPath, pathlib.WindowsPath,
})  # fmt: skip
_DECLARED: Final = "__flock_type__"
_new: Final = object.__new__
_set: Final = object.__setattr__


def flock_type(name: str) -> Callable[[type[M]], type[M]]:
    """Give a model a name of its own, stable over moves and renames of the class."""
    if not isinstance(name, str) or not name or name != name.strip():
        message = f'@flock_type takes a name, as in @flock_type("billing.Invoice"), not {name!r}'
        raise ConfigurationError(message)

    def declare(cls: type[M]) -> type[M]:
        if not isinstance(cls, type) or not issubclass(cls, BaseModel):
            message = f"@flock_type marks pydantic models; {cls!r} is none"
            raise ConfigurationError(message)
        setattr(cls, _DECLARED, name)
        type_name.cache_clear()
        return cls

    return declare


@functools.lru_cache(maxsize=4096)
def type_name(cls: type[BaseModel]) -> str:
    """Give the stable name of a payload type: what was declared, else `module:QualName`."""
    declared = cls.__dict__.get(_DECLARED)
    if declared is not None:
        return str(declared)
    module = cls.__module__
    if module == "__main__":
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        module = pathlib.Path(file).stem if file else module
    return f"{module}:{cls.__qualname__}"


def members(value: object) -> list[object]:
    """Give the members of a built-in collection; anything else is its own only member."""
    return list(cast("Iterable[object]", value)) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def loaded_type(name: str) -> type[BaseModel]:
    """Find a model by its stable name among the modules that are loaded; raises PublishError when it is not there."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return found
    message = f"the class of {name!r} is not loaded under that name: pass it as payload_type="
    raise PublishError(message)


def copy_value(value: Any) -> Any:  # noqa: ANN401 - payload fields can hold anything
    """Give a value that shares nothing mutable with this one."""
    kind = cast("type[object]", type(value))
    if kind in _ATOMS:
        return value
    if kind is list:
        return [item if type(item) in _ATOMS else copy_value(item) for item in value]
    if kind is dict:
        return {copy_value(key): copy_value(item) for key, item in value.items()}
    if kind is tuple:
        return tuple([copy_value(item) for item in value])
    if kind is set or kind is frozenset:
        return frozenset([copy_value(v) for v in value]) if kind is frozenset else {copy_value(v) for v in value}
    if isinstance(value, BaseModel):
        return copier(type(value))(value)
    return value if isinstance(value, enum.Enum) else copy.deepcopy(value)


def _copy_plain(model: BaseModel) -> BaseModel:
    """Copy a model without extras and private attributes; what users of pydantic mostly write."""
    twin = _new(type(model))
    values = model.__dict__.copy()
    for name, value in values.items():
        if type(value) not in _ATOMS:
            values[name] = copy_value(value)
    _set(twin, "__dict__", values)
    _set(twin, "__pydantic_fields_set__", model.__pydantic_fields_set__.copy())
    _set(twin, "__pydantic_extra__", None)
    _set(twin, "__pydantic_private__", None)
    return twin


def _copy_full(model: BaseModel) -> BaseModel:
    twin = _copy_plain(model)
    _set(twin, "__pydantic_extra__", copy_value(model.__pydantic_extra__))
    _set(twin, "__pydantic_private__", copy_value(model.__pydantic_private__))
    return twin


def _copy_frozen(model: BaseModel) -> BaseModel:
    """Share a frozen model whose values can't change; copy it when one can."""
    if all(type(value) in _ATOMS or _unchanging(value) for value in model.__dict__.values()):
        return model
    return _copy_plain(model)


def _unchanging(value: object) -> bool:
    kind = type(value)
    if kind in _ATOMS or isinstance(value, enum.Enum):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_unchanging, members(value)))
    return isinstance(value, BaseModel) and copier(type(value)) is _copy_frozen and _copy_frozen(value) is value


@functools.lru_cache(maxsize=4096)
def all_fields(cls: type[BaseModel]) -> set[str]:
    """Give the set of a model's field names, always the same object."""
    return set(cls.model_fields)


@functools.lru_cache(maxsize=4096)
def copier(cls: type[BaseModel]) -> Callable[[Any], Any]:
    """Give the function that copies instances of this model, chosen once per type.

    Values are judged by what they are, not by their annotation: pydantic does not check assignments by default.
    """
    if cls.__deepcopy__ is not BaseModel.__deepcopy__:
        return copy.deepcopy
    if cls.model_config.get("extra") == "allow" or cls.__private_attributes__:
        return _copy_full
    return _copy_frozen if cls.model_config.get("frozen") else _copy_plain
