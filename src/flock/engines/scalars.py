"""One plain value for one shape: readable texts, numbers and times inside their bounds."""

import base64
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final
from uuid import UUID

from pydantic.json_schema import JsonSchemaValue

from flock.engines.dice import Dice
from flock.engines.patterns import text_matching

_DAY_ZERO: Final = date(2024, 1, 1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = Fraction(1, 10**6)
_DAY: Final = 86_400
_YEAR: Final = 365
_WHOLE_FLOATS: Final = 2.0**53
_FRACTIONS: Final = tuple(Fraction(1, 10**places) for places in (2, 4, 8, 16, 32, 64))
_CLOCK: Final = (Fraction(60), Fraction(1), _TICK)
_FORMATS: Final = {
    "binary": "{slug}-{tag}",
    "color": "#00{tag}",
    "directory-path": ".",
    "email": "{slug}.{tag}@example.com",
    "hostname": "{slug}-{tag}.example.com",
    "idn-email": "{slug}.{tag}@example.com",
    "ipv4": "192.0.2.{byte}",
    "ipv4interface": "192.0.2.{byte}/24",
    "ipv4network": "192.0.2.0/24",
    "ipv6": "2001:db8::{tag}",
    "ipv6interface": "2001:db8::{tag}/64",
    "ipv6network": "2001:db8::/64",
    "ipvanyaddress": "192.0.2.{byte}",
    "ipvanyinterface": "192.0.2.{byte}/24",
    "ipvanynetwork": "192.0.2.0/24",
    "name-email": "{slug} <{slug}.{tag}@example.com>",
    "path": "{slug}-{tag}",
    "regex": "{slug}",
    "uri": "https://{slug}.example.com/{tag}",
    "zoneinfo": "UTC",
}


class UnmakeableError(ValueError):
    """Raised when no value is known that fits; the message says why."""


def scalar(shape: JsonSchemaValue, label: str, dice: Dice) -> object:
    """Return a value of a shape that contains no other; texts begin with the label."""
    kind = shape.get("type", "string")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        raise UnmakeableError(str(shape.get("reason", f"type {kind!r} is unknown")))
    return make(shape, label, dice)


def _null(_shape: JsonSchemaValue, _label: str, _dice: Dice) -> None:
    return None


def _boolean(_shape: JsonSchemaValue, _label: str, dice: Dice) -> bool:
    return dice.below(2) == 1


def _integer(shape: JsonSchemaValue, _label: str, dice: Dice) -> int:
    step = Fraction(shape.get("multipleOf", 1))
    return int(_on_grid(shape, dice, steps=[step], usual=(step, 100 * step)))


def _number(shape: JsonSchemaValue, _label: str, dice: Dice) -> float:
    if "multipleOf" in shape:
        step = _exact(shape["multipleOf"])
        return float(_on_grid(shape, dice, steps=[step], usual=(step, 100 * step)))
    largest = max((abs(float(shape[key])) for key in _LOWER | _UPPER if _is_bound(shape.get(key))), default=0.0)
    finest = Fraction(math.ulp(largest))
    steps = [max(step, finest) for step in _FRACTIONS]
    return float(_on_grid(shape, dice, steps=steps, usual=(steps[0], max(Fraction(100), 100 * steps[0]))))


def _decimal(shape: JsonSchemaValue, _label: str, dice: Dice) -> Decimal:
    digits: int | None = shape["digits"]
    places: int | None = shape["places"]
    shown = min(2 if places is None else places, digits or 2)
    steps = [Fraction(1, 10**shown)]
    if digits is None and places is None:
        steps = list(_FRACTIONS)
    if "multipleOf" in shape:
        steps = [shape["multipleOf"]]
    limit = None if digits is None else Fraction(10 ** (digits - shown))
    value = _on_grid(shape, dice, steps=steps, usual=(steps[0], max(100 * steps[0], Fraction(100))), limit=limit)
    return Decimal(value.numerator) / Decimal(value.denominator)


def _date(shape: JsonSchemaValue, _label: str, dice: Dice) -> date:
    within = {"minimum": 1, "maximum": date.max.toordinal(), **shape}
    zero = _DAY_ZERO.toordinal()
    return date.fromordinal(int(_on_grid(within, dice, steps=[Fraction(1)], usual=(zero, zero + _YEAR))))


def _datetime(shape: JsonSchemaValue, _label: str, dice: Dice) -> datetime:
    zero = (_DAY_ZERO.toordinal() - _EPOCH.toordinal()) * _DAY
    moment = _EPOCH + _span(_on_grid(shape, dice, steps=_CLOCK, usual=(zero, zero + _YEAR * _DAY)))
    return moment if shape["aware"] else moment.replace(tzinfo=None)


def _time(shape: JsonSchemaValue, _label: str, dice: Dice) -> time:
    within = {"minimum": 0, "maximum": _DAY - _TICK, **shape}
    moment = _EPOCH + _span(_on_grid(within, dice, steps=_CLOCK, usual=(0, _DAY - 1)))
    return moment.timetz() if shape["aware"] else moment.time()


def _timedelta(shape: JsonSchemaValue, _label: str, dice: Dice) -> timedelta:
    return _span(_on_grid(shape, dice, steps=_CLOCK, usual=(60, 6_000)))


def _url(shape: JsonSchemaValue, label: str, dice: Dice) -> str:
    schemes: list[str] = shape["schemes"]
    return f"{'https' if 'https' in schemes else schemes[0]}://example.com/{_slug(label)}-{dice.tag()}"


def _text(shape: JsonSchemaValue, label: str, dice: Dice) -> str:
    shortest, longest = shape.get("minLength", 0), shape.get("maxLength")
    if "pattern" in shape:
        text = text_matching(shape["pattern"], dice, shortest=shortest, longest=longest)
        if text is None:
            raise UnmakeableError(f"no text is known that matches {shape['pattern']!r} within its length")
        return text
    style = str(shape.get("format", ""))
    if style.startswith("uuid"):
        return str(_uuid(style, dice))
    if style.startswith("base64"):
        return base64.urlsafe_b64encode(f"{_slug(label)}-{dice.tag()}".encode()).decode()
    if style in _FORMATS:
        label, tag = _slug(label), _FORMATS[style]
        return _sized(tag.format(slug=label, tag=dice.tag(), byte=1 + dice.below(254)), shortest, None)
    tag = dice.tag()
    if longest is not None and longest < len(label) + 5:
        label = label[: max(0, longest - 5)].strip()
    return _sized(f"{label} {tag}".strip(), shortest, longest)


def _sized(text: str, shortest: int, longest: int | None) -> str:
    """Fill up without white space at the end, which a model may strip."""
    filled = text + text[-1] * (shortest - len(text))
    return filled if longest is None else filled[:longest]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "value"


def _uuid(style: str, dice: Dice) -> UUID:
    version = int(style[4:] or 4)
    plain = UUID(int=dice.below(1 << 128), version=4).int
    return UUID(int=plain & ~(0xF << 76) | version << 76)


def _span(seconds: Fraction) -> timedelta:
    return timedelta(microseconds=int(seconds / _TICK))


_MAKERS: Final[dict[str, Callable[[JsonSchemaValue, str, Dice], object]]] = {
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "decimal": _decimal,
    "integer": _integer,
    "null": _null,
    "number": _number,
    "string": _text,
    "time": _time,
    "timedelta": _timedelta,
    "url": _url,
}
_LOWER: Final = {"minimum", "exclusiveMinimum"}
_UPPER: Final = {"maximum", "exclusiveMaximum"}


def _on_grid(
    shape: JsonSchemaValue,
    dice: Dice,
    *,
    steps: Sequence[Fraction],
    usual: tuple[Fraction | int, Fraction | int],
    limit: Fraction | None = None,
) -> Fraction:
    """Throw a multiple of the first step that has one within the bounds and, if it can be, the usual range.

    `limit` bounds the absolute value, exclusively.
    """
    for step in steps:
        low, high = _edges(shape, step, limit)
        start, stop = math.ceil(usual[0] / step), math.floor(usual[1] / step)
        first, last = max(low, start), min(high, stop)
        if first > last:
            beyond = low > stop
            first = low if beyond else max(low, high - stop + start)
            last = min(high, low + stop - start) if beyond else high
        if first <= last:
            return step * (int(first) + dice.below(int(last) - int(first) + 1))
    raise UnmakeableError("no value lies within its bounds")


def _edges(shape: JsonSchemaValue, step: Fraction, limit: Fraction | None) -> tuple[float, float]:
    bounds = {key: _exact(shape[key]) / step for key in _LOWER | _UPPER if _is_bound(shape.get(key))}
    lows: list[float] = [-math.inf] if limit is None else [math.floor(-limit / step) + 1]
    highs: list[float] = [math.inf] if limit is None else [math.ceil(limit / step) - 1]
    for key, bound in bounds.items():
        match key:
            case "minimum":
                lows.append(math.ceil(bound))
            case "exclusiveMinimum":
                lows.append(math.floor(bound) + 1)
            case "maximum":
                highs.append(math.floor(bound))
            case _:
                highs.append(math.ceil(bound) - 1)
    return max(lows), min(highs)


def _is_bound(value: float | Fraction | None) -> bool:
    return value is not None and math.isfinite(value)


def _exact(value: float | Fraction) -> Fraction:
    """Read a float as it is written, 0.3 as 3/10, up to where floats are whole."""
    if isinstance(value, float) and abs(value) < _WHOLE_FLOATS:
        return Fraction(str(value))
    return Fraction(value)
