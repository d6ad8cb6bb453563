"""What agents give, as JSON that is read back equal: what JSON lacks is replaced and noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

from pydantic import BaseModel

from flock.studies.stable import entries, is_numpy, members, stable_json_dumps

_TEXTS: Final = (date, datetime, time, timedelta, Decimal, PurePath, UUID)


class Settler:
    """Makes JSON of values; says where NaN and infinity became None, and where the text of an object was taken."""

    def __init__(self) -> None:
        """Have replaced nothing."""
        self.not_finite: dict[str, str] = {}
        self.as_text: dict[str, str] = {}

    def settle(self, value: object, place: str) -> Any:  # noqa: ANN401 - JSON
        """Give a value as JSON, a copy; `place` is its name in the notes."""
        try:
            return _copied(value)
        except _OddError:
            return self._settled(value, place)

    def _settled(self, value: object, place: str) -> Any:  # noqa: ANN401 - JSON
        match value:
            case None | bool():
                return value
            case Enum():
                return self.settle(value.value, place)
            case int() if not is_numpy(value):
                return int(value)
            case float():
                return self._number(float(value), place)
            case str():
                return self._words(str(value), place)
            case _:
                return self._object(value, place)

    def notes(self) -> dict[str, Any]:
        """Give what was replaced, for the provenance of a run."""
        found = {"not_finite": self.not_finite, "as_text": self.as_text}
        return {name: places for name, places in found.items() if places}

    def _words(self, value: str, place: str) -> str:
        found = readable(value)
        if found != value:
            self.as_text[place] = "text that no file holds"
        return found

    def _number(self, value: float, place: str) -> float | None:
        if isfinite(value):
            return value
        self.not_finite[place] = str(value)
        return None

    def _object(self, value: Any, place: str) -> Any:  # noqa: ANN401 - whatever was given, and JSON
        if isinstance(value, Mapping):
            return {str(key): self.settle(item, f"{place}.{key}") for key, item in entries(value)}
        if isinstance(value, list | tuple):
            return [self.settle(item, f"{place}[{index}]") for index, item in enumerate(members(value))]
        if isinstance(value, set | frozenset):
            return sorted((self.settle(item, place) for item in members(value)), key=stable_json_dumps)
        if is_numpy(value):
            return self.settle(value.tolist() if value.dtype.kind not in _TIMES else value.astype(str).tolist(), place)
        if isinstance(value, BaseModel):
            return self.settle(value.model_dump(), place)
        if is_dataclass(value) and not isinstance(value, type):
            return {each.name: self.settle(getattr(value, each.name), f"{place}.{each.name}") for each in fields(value)}
        return self._text(value, place)

    def _text(self, value: object, place: str) -> str:
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if not isinstance(value, _TEXTS):
            self.as_text[place] = type(value).__qualname__
        return str(value)


_TIMES: Final = "mM"  # the kinds of numpy's dates and durations


def readable(text: str) -> str:
    """Give a text as it can be written: halves of characters become escapes."""
    return text.encode(errors="backslashreplace").decode()


def is_json(value: object) -> bool:
    """Say whether a value is JSON as it is."""
    try:
        _copied(value)
    except _OddError:
        return False
    return True


class _OddError(Exception):
    """What is copied holds something that JSON lacks."""


def _copied(value: Any) -> Any:  # noqa: ANN401 - whatever was given, and JSON
    """Copy JSON: the quick way for what nearly every agent gives."""
    kind = cast("type[object]", type(value))
    if kind in _ATOMS:
        return value
    if kind is str:
        if value.isascii() or readable(value) == value:
            return value
        raise _OddError
    if kind is float:
        if isfinite(value):
            return value
    elif kind is dict:
        if all(type(key) is str for key in value):
            return {key: _copied(item) for key, item in value.items()}
    elif kind is list:
        return [_copied(item) for item in value]
    raise _OddError


_ATOMS: Final = frozenset({type(None), bool, int})
