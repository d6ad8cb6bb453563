"""Numbers as people read them: with as many digits as their uncertainty leaves."""

from __future__ import annotations

import math
from typing import Final

_NONE: Final = "n/a"
_THOUSAND: Final = 1000
_LEAST: Final = 0.001  # a p-value below is only said to be below


def said(value: object) -> str:
    """Give a value of a table: three digits of fractions, n/a for nan, all else as it is."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return _NONE
    return f"{value:,.0f}" if _THOUSAND <= abs(value) < math.inf else _unsigned(f"{value:.3g}")


def with_interval(value: float, low: float, high: float) -> tuple[str, str]:
    """Give a value and its interval, with two digits of what it may be off by."""
    width = high - low
    if math.isnan(width):
        return said(value), _NONE
    if not 0 < width < math.inf:
        return said(value), f"{said(low)} to {said(high)}"
    decimals = max(0, 1 - math.floor(math.log10(width / 2)))
    one, two, three = (_unsigned(f"{each:,.{decimals}f}") for each in (value, low, high))
    return one, f"{two} to {three}"


def chance(p_value: float) -> str:
    """Give a p-value with three decimals."""
    if math.isnan(p_value):
        return _NONE
    return f"< {_LEAST}" if p_value < _LEAST else f"{p_value:.3f}"


def count(number: int, noun: str) -> str:
    """Give so many of something."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _unsigned(text: str) -> str:
    """Give a number without the sign of a zero."""
    return text.lstrip("-") if not any(each in "123456789i" for each in text) else text
