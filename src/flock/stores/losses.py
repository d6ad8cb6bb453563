"""What a payload would lose by being written and read again, and what to do about it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import functools
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

from pydantic import BaseModel

# Values that compare by what they are: no other way of looking at two that are equal finds more. Moments do not: two of
# one zone that are an hour apart may be equal.
_PLAIN: Final = frozenset({
    str, int, float, bool, bytes, type(None), uuid.UUID, dt.date, dt.time, dt.timedelta,
})  # fmt: skip
_SEQUENCES: Final = (list, tuple, deque)
_MISSING: Final = object()
_Pairs = Iterable[tuple[object, object, object]]


class Loss(NamedTuple):
    """A part of a payload that would be read back as something else."""

    path: tuple[object, ...]
    given: object
    read: object
    excluded: bool = False


def loss_of(given: Any, read: Any) -> Loss | None:  # noqa: ANN401 - payload fields can hold anything
    """Find the first part of a payload that differs from what was read back; None when all is there.

    Private attributes, cached properties and the record of which fields were set are no content.
    """
    kind = cast("Any", type(given))
    if kind in _PLAIN and _equal(given, read):
        return None
    pairs_of = _shape(kind)
    pairs = None if pairs_of is None or type(read) is not kind else pairs_of(given, read)
    if pairs is None:
        return None if _equal(given, read) or _alike(given, read) else Loss((), given, read)
    for name, mine, theirs in pairs:
        loss = loss_of(mine, theirs)
        if loss is not None:
            return loss._replace(path=(name, *loss.path), excluded=loss.excluded or _is_excluded(given, name))
    return None


@functools.lru_cache(maxsize=4096)
def _shape(kind: type) -> Callable[[Any, Any], _Pairs | None] | None:
    """Give what pairs the parts of two values of one class that differ or may hide a difference; None: it has none."""
    for base, pairs_of in _SHAPES.items():
        if issubclass(kind, base):
            return pairs_of
    return _attributes if dataclasses.is_dataclass(kind) else None


def _fields(given: BaseModel, read: BaseModel) -> _Pairs:
    mine, theirs = given.__dict__, read.__dict__
    extras, others = given.__pydantic_extra__ or {}, read.__pydantic_extra__ or {}
    pairs: list[tuple[object, object, object]] = []
    doubtful = _doubtful(tuple(mine), tuple(map(type, mine.values())))
    if not (all(_is_plain_list(mine[name]) for name in doubtful) and _equal(mine, theirs)):
        for name in type(given).model_fields:
            value, other = mine.get(name, _MISSING), theirs.get(name, _MISSING)
            if type(value) not in _PLAIN or not _equal(value, other):
                pairs.append((name, value, other))
    return [*pairs, ("", extras, others)] if extras or others else pairs


@functools.lru_cache(maxsize=4096)
def _doubtful(names: tuple[str, ...], kinds: tuple[type, ...]) -> list[str]:
    """Give the names of those values that == is not enough for."""
    return [name for name, kind in zip(names, kinds, strict=True) if kind not in _PLAIN]


def _is_plain_list(value: Any) -> bool:  # noqa: ANN401 - see loss_of
    return type(value) is list and _PLAIN.issuperset(map(type, cast("list[object]", value)))


def _entries(given: dict[object, object], read: dict[object, object]) -> _Pairs | None:
    if given.keys() != read.keys():
        return None
    if _PLAIN.issuperset(map(type, given.values())) and _equal(given, read):
        return ()
    return [(key, given[key], read[key]) for key in given]


def _items(given: Sequence[object], read: Sequence[object]) -> _Pairs | None:
    if len(given) != len(read):
        return None
    if _PLAIN.issuperset(map(type, given)) and _equal(given, read):
        return ()
    return zip(range(len(given)), given, read, strict=True)


def _attributes(given: Any, read: Any) -> _Pairs:  # noqa: ANN401 - any dataclass
    names = [field.name for field in dataclasses.fields(given)]
    return [(name, getattr(given, name, _MISSING), getattr(read, name, _MISSING)) for name in names]


_SHAPES: Final[dict[type, Callable[[Any, Any], _Pairs | None]]] = {
    BaseModel: _fields, dict: _entries, **dict.fromkeys(_SEQUENCES, _items),
}  # fmt: skip
_WHOLE: Final = (type, dict, *_SEQUENCES)  # on these == has the last word


def _equal(given: Any, read: Any) -> bool:  # noqa: ANN401 - see loss_of
    """Compare two values as a whole: NaN is NaN, and one moment is the same in each time zone."""
    match given, read:
        case float() | decimal.Decimal(), float() | decimal.Decimal() if _is_nan(given) or _is_nan(read):
            return _is_nan(given) and _is_nan(read)
        case dt.datetime(tzinfo=dt.tzinfo()), dt.datetime(tzinfo=dt.tzinfo()):
            # In the hour that a zone repeats, == denies that any other zone has the same moment.
            return given.replace(tzinfo=None) - read.replace(tzinfo=None) == _offset(given) - _offset(read)
        case _:
            pass
    try:
        return bool(given == read)
    except Exception:  # noqa: BLE001 - the guard of `__eq__`, which of arrays tells no truth
        return False


def _is_nan(value: float | decimal.Decimal) -> bool:
    return value.is_nan() if isinstance(value, decimal.Decimal) else math.isnan(value)


def _offset(moment: dt.datetime) -> dt.timedelta:
    return moment.utcoffset() or dt.timedelta(0)


def _alike(given: Any, read: Any) -> bool:  # noqa: ANN401 - see loss_of
    """Compare two unequal objects of one class by their members, or by what a copy would be made from."""
    if type(given) is not type(read) or type(given) in _PLAIN or isinstance(given, _WHOLE):
        return False
    if isinstance(given, (set, frozenset)):
        mine, theirs = cast("frozenset[object]", given), cast("frozenset[object]", read)
        return len(mine) == len(theirs) and all(any(loss_of(a, b) is None for b in theirs) for a in mine)
    try:
        return loss_of(given.__reduce_ex__(4), read.__reduce_ex__(4)) is None
    except Exception:  # noqa: BLE001 - the guard of `__reduce_ex__`
        return False


def loss_at(payload: BaseModel, place: tuple[int | str, ...]) -> Loss:
    """Give the part that can't be read back at all, from where pydantic says that it is."""
    value, excluded = cast("object", payload), False
    for name in place:
        excluded = excluded or _is_excluded(value, name)
        value = _part(value, name)
    return Loss(place, value, value, excluded)


def _part(owner: object, name: int | str) -> object:
    try:
        return cast("Any", owner if isinstance(owner, (dict, *_SEQUENCES)) else owner.__dict__)[name]
    except (AttributeError, LookupError, TypeError):  # the name of a choice within a union, or an alias
        return None


def _is_excluded(owner: object, name: object) -> bool:
    field = type(owner).model_fields.get(str(name)) if isinstance(owner, BaseModel) else None
    return field is not None and bool(field.exclude)


def advice(loss: Loss) -> str:
    """Say which field would lose what, never the value itself, and what to do about it."""
    field = repr(".".join(filter(None, map(str, loss.path)))) if loss.path else "it"
    kind, other = type(loss.given), type(loss.read)
    if loss.excluded:
        return f"{field} has exclude=True and would be lost. Publish it with its default, or drop exclude=True"
    if loss.given is _MISSING:
        return f"{field} has no value. Give it one"
    if hasattr(loss.given, "get_secret_value"):
        return f"{field} is a secret, so asterisks would be written. Publish a key that it can be looked up by"
    if isinstance(loss.given, float) and not math.isfinite(loss.given):
        return f'{field} is no finite number. Set ConfigDict(ser_json_inf_nan="strings") on its model'
    if kind is other:
        return f"{field} would be read back with another value. {_FOR_SAME.get(kind, _INVERSE)}"
    if issubclass(kind, other):
        return f"{field} holds a {kind.__name__} and would be read back as a mere {other.__name__}. {_UNION}"
    return f"{field} holds a {kind.__name__} and would be read back as {other.__name__}. {_EXACT}"


FOR_BYTES: Final = 'Set ConfigDict(ser_json_bytes="base64", val_json_bytes="base64") on its model'
_INVERSE: Final = "Let what writes it as JSON and what validates it be each other's inverse"
_FOR_SAME: Final[dict[type, str]] = {bytes: FOR_BYTES, dict: "Annotate the type of its keys: JSON has text only"}
_UNION: Final = "Annotate it as the union of the classes that it may hold, best with a discriminator"
_EXACT: Final = "Annotate it with the type that it holds: Any, and unions of types that look alike in JSON, don't tell"
