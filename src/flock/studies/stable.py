"""Text and ids that never change: between processes, machines and versions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from typing import Any, TypeGuard
from uuid import UUID

from pydantic import BaseModel

from flock.model.errors import ConfigurationError

_WORDS = (PurePath, date, datetime, time, timedelta, Decimal, UUID)  # their `str` says all there is to say
DIGITS = 12  # of ids
quoted = encode_basestring_ascii  # a text as stable JSON has it


class ValidationError(ConfigurationError):
    """Raised when a study, or a part of one, can't work; the message says what to change."""


def to_jsonable(value: object) -> Any:  # noqa: ANN401 - JSON
    """Give what JSON holds of a value: enums by value, numpy values as numbers and lists, sets in order, else text."""
    match value:
        case Enum():
            return value.value
        case None | bool() | str():
            return value
        case int() | float():
            return value if type(value) in {int, float} else _plain_number(value)
        case Mapping():
            return {str(key): to_jsonable(item) for key, item in entries(value)}
        case list() | tuple():
            return [to_jsonable(item) for item in members(value)]
        case set() | frozenset():
            return sorted((to_jsonable(item) for item in members(value)), key=stable_json_dumps)
        case _:
            return _object(value)


def _object(value: Any) -> Any:  # noqa: ANN401 - anything, and JSON
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_jsonable(getattr(value, each.name)) for each in fields(value)}
    return to_jsonable(value.tolist()) if is_numpy(value) else str(value)


def stable_json_dumps(value: object) -> str:
    """Give one text for equal values: keys sorted, separators `,` and `:`, ASCII only."""
    return json.dumps(to_jsonable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def hash_identifier(prefix: str, payload: Mapping[str, Any], *, length: int = DIGITS) -> str:
    """Give `prefix-` and the first hexadecimal digits of the SHA-256 of a mapping's stable JSON."""
    return f"{prefix}-{digest(stable_json_dumps(payload))[:length]}"


def digest(text: str) -> str:
    """Give the SHA-256 of a text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def unstable(value: object, place: str = "value") -> Iterator[str]:
    """Say where a value has no stable form: what differs between processes, or is not equal to itself."""
    match value:
        case None | bool() | str() | int() | Enum() | BaseModel():
            return
        case float():
            if not math.isfinite(value):
                yield f"{place} is {value}, which equals no level"
        case _ if is_numpy(value):
            yield from unstable(value.tolist(), place)
        case _ if (parts := _parts(value)) is not None:
            for name, item in parts:
                yield from unstable(item, f"{place}{name}")
        case _ if not isinstance(value, _WORDS):
            yield f"{place} is a {type(value).__name__}, whose text may differ: use text, numbers, lists or mappings"
        case _:
            return


def _parts(value: object) -> list[tuple[str, object]] | None:
    """Give what a value is made of, with where that is in it; None for what has no parts."""
    match value:
        case Mapping():
            return [(f"[{key!r}]", item) for key, item in entries(value)]
        case list() | tuple() | set() | frozenset():
            return [(f"[{index}]", item) for index, item in enumerate(members(value))]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return [(f".{each.name}", getattr(value, each.name)) for each in fields(value)]
        case _:
            return None


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Say whether this is a mapping, whatever is in it."""
    return isinstance(value, Mapping)


def is_numpy(value: object) -> TypeGuard[Any]:
    """Say whether this is a numpy array or scalar, without loading numpy."""
    return type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist")


def _plain_number(value: float) -> int | float:
    return value.tolist() if is_numpy(value) else int(value) if isinstance(value, int) else float(value)


def entries(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - of any mapping
    """Give what is in a mapping."""
    yield from value.items()


def members(value: Any) -> Iterator[Any]:  # noqa: ANN401 - of any collection
    """Give what is in a collection."""
    yield from value
