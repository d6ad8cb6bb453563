"""Chance that depends on a seed alone."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")


class Dice:
    """Throws that follow from the seed: the same in every process and with every hash seed."""

    def __init__(self, seed: str) -> None:
        self._state = seed.encode(errors="surrogatepass")

    def below(self, limit: int) -> int:
        """Throw a number from 0 to below the limit."""
        self._state = hashlib.sha256(self._state).digest()
        return int.from_bytes(self._state) % limit

    def pick(self, options: Sequence[Option]) -> Option:
        """Throw one of the options."""
        return options[self.below(len(options))]

    def tag(self) -> str:
        """Throw four hexadecimal digits."""
        return f"{self.below(0x10000):04x}"
