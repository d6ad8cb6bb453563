"""Generators of two-level fractional factorials: the fewest runs for a resolution."""

from __future__ import annotations

import string

from flock.studies.stable import ValidationError

_ROMAN = {"III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10}
_LEAST = 3  # a resolution below confounds main effects; also the fewest basic factors, for eight runs
_MOST = 16  # basic factors, for 65536 runs


def generator_for(factors: int, resolution: object) -> str:
    """Give a generator as "a b c abc" of at least this resolution ("IV", 4 or "full") in the fewest runs found.

    Of as many runs it takes the highest resolution, and never fewer than eight runs where the factors allow that. All
    combinations are run when less can't have the resolution. Box and Hunter 1961 for the designs; the columns are taken
    greedily, which gives lexicographic codes (Conway and Sloane 1986). pyDOE3 has a function for this too, but what it
    gives for resolution V and more has only IV from 7 factors on. Raises ValidationError.
    """
    least = _resolution(resolution)
    for basic in range(min(factors, _LEAST), min(factors - 1, _MOST) + 1):
        best: list[int] | None = None
        for wanted in range(least, basic + 2):  # a word has at most one letter more than there are basic factors
            columns = _columns(factors, basic, wanted)
            if columns is None:
                break
            best = columns
        if best is not None:
            return " ".join(_word(each) for each in best)
    if factors > _MOST:
        raise ValidationError(f"{factors} factors at resolution {resolution!r} take more than {2**_MOST} runs")
    return " ".join(_word(1 << each) for each in range(factors))


def _resolution(given: object) -> int:
    text = str(given).strip().upper()
    if text == "FULL":
        return _MOST + 2  # more than any fraction has
    found = int(text) if text.isascii() and text.isdigit() else _ROMAN.get(text, 0)
    if found < _LEAST:
        raise ValidationError(f"a resolution is one of {', '.join(_ROMAN)}, their numbers, or 'full', not {given!r}")
    return found


def _columns(factors: int, basic: int, resolution: int) -> list[int] | None:
    """Give a bit set of basic factors per factor, of which no fewer than `resolution` cancel out, or None."""
    sums: list[set[int]] = [{0}, *(set[int]() for _ in range(resolution - 2))]  # of so many columns
    columns: list[int] = []
    basics = [1 << each for each in range(basic)]
    for column in (*basics, *range(1, 1 << basic)):
        if len(columns) == factors:
            break
        if any(column in each for each in sums):
            continue
        columns.append(column)
        for count in range(resolution - 2, 0, -1):
            sums[count] |= {column ^ each for each in sums[count - 1]}
    return columns if len(columns) == factors else None


def _word(column: int) -> str:
    return "".join(letter for place, letter in enumerate(string.ascii_lowercase) if column >> place & 1)
