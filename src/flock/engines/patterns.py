"""Texts that match a regular expression, for the simple ones that declarations use."""

import re
import string
from collections.abc import Callable

from flock.engines.dice import Dice

_Writer = Callable[[Dice, int], str]
"""Writes one text for a part of a pattern; open-ended repeats write up to so many more than they must."""

_WORDS = string.ascii_lowercase + string.digits
_PRINTABLE = _WORDS + string.ascii_uppercase + string.punctuation + " "
_CLASSES = {"d": string.digits, "w": _WORDS, "s": " ", "D": string.ascii_lowercase, "W": "-", "S": _WORDS}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_BOUNDARIES = "AzZbB"
_GROUP = re.compile(r"\((?:\?(?::|P?<\w+>))?(?!\?)")
_FLAGS = re.compile(r"\(\?[aimsux]+\)")
_REPEAT = re.compile(r"(?:([*+?])|\{(\d+)(,?)(\d*)\})[?+]?", re.ASCII)
_SET_OPERATIONS = ("[", "--", "&&", "~~", "||")
_TRIES = 60


def text_matching(pattern: str, dice: Dice, *, shortest: int = 0, longest: int | None = None) -> str | None:
    """Return a text that matches and has the length, or None where the pattern is beyond us.

    Understood are literals, classes, escapes, groups, alternatives, repeats and anchors.
    """
    try:
        write = _Pattern(pattern).whole()
        matcher = re.compile(pattern)
    except (ValueError, IndexError, re.error):
        return None
    for spare in range(_TRIES):
        text = write(dice, spare + shortest * (spare % 2))
        if shortest <= len(text) and (longest is None or len(text) <= longest) and matcher.search(text):
            return text
    return None


class _Pattern:
    """Reads a pattern from left to right; raises ValueError or IndexError at what it does not know."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def whole(self) -> _Writer:
        writer = self._alternatives()
        if self._at < len(self._pattern):
            raise ValueError(self._pattern)
        return writer

    def _alternatives(self) -> _Writer:
        options = [self._sequence()]
        while self._skip("|"):
            options.append(self._sequence())
        return lambda dice, spare: dice.pick(options)(dice, spare)

    def _sequence(self) -> _Writer:
        parts: list[_Writer] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return lambda dice, spare: "".join(part(dice, spare) for part in parts)

    def _repeated(self, part: _Writer) -> _Writer:
        found = _REPEAT.match(self._pattern, self._at)
        if found is None:
            return part
        self._at = found.end()
        sign, least, comma, most = found.groups()
        low = int(least) if least else int(sign == "+")
        high = 1 if sign == "?" else int(most) if most else low if least and not comma else None

        def write(dice: Dice, spare: int) -> str:
            limit = low + spare if high is None else min(high, low + spare)
            return "".join(part(dice, spare) for _ in range(low + dice.below(limit - low + 1)))

        return write

    def _atom(self) -> _Writer:
        if flags := _FLAGS.match(self._pattern, self._at):
            self._at = flags.end()
            return _one_of([""])
        if group := _GROUP.match(self._pattern, self._at):
            self._at = group.end()
            writer = self._alternatives()
            self._expect(")")
            return writer
        match self._next():
            case "[":
                return _one_of(self._class())
            case "\\":
                return _one_of(self._escape(boundaries=True))
            case ".":
                return _one_of(_WORDS)
            case "^" | "$":
                return _one_of([""])
            case "*" | "+" | "?" | "(" | "{":
                raise ValueError(self._pattern)
            case literal:
                return _one_of(literal)

    def _class(self) -> list[str]:
        negated = self._skip("^")
        named: list[str] = []
        while not named or not self._skip("]"):
            named.extend(self._member())
        if not negated:
            # Printable ones first: a class may range over all of Unicode.
            return [sign for sign in named if sign in _PRINTABLE] or named
        return [sign for sign in _PRINTABLE if sign not in named]

    def _member(self) -> list[str]:
        if self._pattern.startswith(_SET_OPERATIONS, self._at):
            raise ValueError(self._pattern)
        first = self._next()
        if first == "\\":
            signs = self._escape(boundaries=False)
            if len(signs) > 1:
                return signs
            first = signs[0]
        if self._pattern[self._at] != "-" or self._pattern[self._at + 1] == "]":
            return [first]
        self._at += 1
        last = self._next()
        if last == "\\":
            last = self._escape(boundaries=False)[0]
        return [chr(code) for code in range(ord(first), ord(last) + 1)]

    def _escape(self, *, boundaries: bool) -> list[str]:
        sign = self._next()
        if sign in _CLASSES:
            return list(_CLASSES[sign])
        if sign in _CONTROLS:
            return [_CONTROLS[sign]]
        if boundaries and sign in _BOUNDARIES:
            return [""]
        if sign.isalnum():
            raise ValueError(self._pattern)
        return [sign]

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _skip(self, sign: str) -> bool:
        found = self._pattern.startswith(sign, self._at)
        self._at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._skip(sign):
            raise ValueError(self._pattern)


def _one_of(options: str | list[str]) -> _Writer:
    return lambda dice, _spare: dice.pick(options)
