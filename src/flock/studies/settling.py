"""What agents give, as JSON that is read back equal: what JSON lacks is replaced and noted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from flock.studies.stable import entries, is_numpy, members, stable_json_dumps

_BITS: Final = 10_000  # of a whole number; readers of JSON refuse more than some 4,000 digits
_SURROGATE: Final = "\\ud"  # how half a character begins in JSON, and a character of two halves
_TEXTS: Final = (date, datetime, time, timedelta, Decimal, PurePath, UUID)


class Settler:
    """Makes JSON of values; says where NaN and infinity became None, and where the text of an object was taken."""

    def __init__(self) -> None:
        """Have replaced nothing."""
        self.not_finite: dict[str, str] = {}
        self.as_text: dict[str, str] = {}

    def settle(self, value: object, place: str) -> Any:  # noqa: ANN401 - JSON
        """Give a value as JSON, a copy; `place` is its name in the notes."""
        match value:
            case None | bool():
                return value
            case Enum():
                return self.settle(value.value, place)
            case int() if not is_numpy(value):
                return self._whole(int(value), place)
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

    def _whole(self, value: int, place: str) -> int | str:
        if value.bit_length() <= _BITS:
            return value
        self.as_text[place] = "number that no file holds"
        return hex(value)

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
            return {_key(key): self.settle(item, f"{place}.{key}") for key, item in entries(value)}
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


def settled(parts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give named values as JSON, copies of them, and what was replaced on the way."""
    quick = _copied(parts)
    if quick is not None:
        return quick, {}
    settler = Settler()
    return {name: settler.settle(value, name) for name, value in parts.items()}, settler.notes()


def _key(key: object) -> str:
    """Give a key as JSON has it."""
    return json.dumps(key) if key is None or isinstance(key, bool) else str(key)


def is_json(parts: Mapping[str, Any]) -> bool:
    """Say whether named values are JSON as they are."""
    return _copied(parts) == parts


def _copied(parts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Copy what is JSON, which is nearly all that agents give, by way of its text; None for anything else."""
    try:
        text = json.dumps(parts, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    found: dict[str, Any] = json.loads(text)
    return None if _SURROGATE in text else found
