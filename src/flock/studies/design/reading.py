"""Parts of a study as they are written: mappings of fields, words of closed sets, lists of names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeGuard, TypeVar

from flock.studies.stable import ValidationError

_Word = TypeVar("_Word", bound=StrEnum)


def fields_in(noun: type[Any], data: object) -> dict[str, Any]:
    """Give a noun's fields out of a mapping; raises ValidationError for one that it has not, or must have."""
    known = fields(noun)
    if not _is_mapping(data):
        raise ValidationError(f"a {noun.__name__} is a mapping, not a {type(data).__name__}")
    found: dict[str, Any] = dict(data)
    if unknown := [str(key) for key in found if key not in {each.name for each in known}]:
        names = ", ".join(each.name for each in known)
        raise ValidationError(f"a {noun.__name__} has no {', '.join(unknown)}; it has {names}")
    needed = [each.name for each in known if each.default is MISSING and each.default_factory is MISSING]
    if missing := [name for name in needed if name not in found]:
        raise ValidationError(f"this {noun.__name__} lacks {', '.join(missing)}: {found!r}")
    return found


def filled(value: object, place: str) -> str:
    """Give a text that says something; raises ValidationError."""
    if not isinstance(value, str) or not value.strip():
        raise ValidationError(f"{place} is a text that is not empty, not {value!r}")
    return value


def word_of(words: type[_Word], value: object, place: str) -> _Word:
    """Give the member of a closed set that a text names; raises ValidationError that names them all."""
    try:
        return words(str(value))
    except ValueError as error:
        raise ValidationError(f"{place} is one of {', '.join(words)}, not {value!r}") from error


def names_of(value: object, place: str) -> tuple[str, ...]:
    """Give names as a tuple, a single one too; raises ValidationError for what is no name."""
    several: list[object] = [*value] if _is_list(value) else [value]
    return tuple(filled(each, f"each of {place}") for each in several)


def mapping_of(value: object, place: str) -> dict[str, Any]:
    """Give a mapping as a dict of its own; raises ValidationError for what is none."""
    if not _is_mapping(value):
        raise ValidationError(f"{place} is a mapping, not {value!r}")
    return dict(value)


def whole(value: object, place: str, *, least: int) -> int:
    """Give a whole number of at least this; raises ValidationError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValidationError(f"{place} is a whole number of at least {least}, not {value!r}")
    return value


def is_number(value: object) -> bool:
    """Say whether this is a finite number, which truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, list | tuple)


def refuse_unknown(
    given: Iterable[str], known: Iterable[str], what: str, meant: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Raise ValidationError for names that there are not, with what may have been meant."""
    names = sorted(known)
    for name in given:
        if name not in names:
            near = meant.get(name) or next(iter(get_close_matches(str(name), names, 1)), None)
            said = f"did you mean {near}?" if near else f"it has {', '.join(names)}"
            raise ValidationError(f"{what} has no {name!r}: {said}")
