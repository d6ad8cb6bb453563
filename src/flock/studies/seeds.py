"""Chance that can be repeated: seeds that never change, and the global generators while one run is alone."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flock.studies.stable import ValidationError, digest, stable_json_dumps

_LARGEST = 2**31 - 1
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class SeedPolicy:
    """Where the seeds of runs come from: equal for equal names, on every machine and in every version."""

    base_seed: int = 0
    strategy: str = "condition_replicate"
    per_run_offset: int = 9973

    def __post_init__(self) -> None:
        """Refuse what is no whole number."""
        for name in ("base_seed", "per_run_offset"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValidationError(f"SeedPolicy.{name} is a whole number, not {value!r}")

    def derive_seed(self, study_id: str, condition_id: str, replicate: int, salt: str = "") -> int:
        """Give a seed from 0 up to 2**31 - 2, out of the SHA-256 of all that it depends on."""
        names = {
            "base_seed": self.base_seed,
            "strategy": self.strategy,
            "per_run_offset": self.per_run_offset,
            "study_id": study_id,
            "condition_id": condition_id,
            "replicate": replicate,
            "salt": salt,
        }
        return seed_of(stable_json_dumps(names))


def seed_of(text: str) -> int:
    """Give the seed that a text stands for."""
    return int(digest(text)[:_DIGITS], 16) % _LARGEST


@contextmanager
def reproducible_seed(seed: int) -> Generator[None]:
    """Seed the generators of `random`, and of numpy where it is loaded, and give them their old state back at the end.

    They belong to the whole process: while others run beside the body, use the `rng` that a run is given instead.
    """
    before = global_state()
    try:
        seed_globally(seed)
        yield
    finally:
        _restore(before)


def _restore(before: tuple[Any, Any]) -> None:
    random.setstate(before[0])
    if (numpy_random := _numpy_random()) is not None:
        if before[1] is None:  # it was loaded in between
            numpy_random.seed()
        else:
            numpy_random.set_state(before[1])


class Share:
    """The part that a study has in the chance of its process: whether it is `alone`, and may seed it for each run."""

    def __init__(self, *, alone: bool) -> None:
        """Want to be alone, or not."""
        self.alone = alone

    @contextmanager
    def held(self) -> Generator[None]:
        """Have it during the body. With two studies at once none is alone; the last that ends gives the state back."""
        with _lock:
            if not _shares:
                _before.append(global_state())
            _shares.append(self)
            if len(_shares) > 1:
                for each in _shares:
                    each.alone = False
        try:
            yield
        finally:
            with _lock:
                _shares.remove(self)
                if not _shares:
                    _restore(_before.pop())


_lock = threading.Lock()
_shares: list[Share] = []
_before: list[tuple[Any, Any]] = []  # the state from before the first study, while there are any


def seed_globally(seed: int) -> None:
    """Seed the generators that all of the process shares."""
    random.seed(seed)
    if (numpy_random := _numpy_random()) is not None:
        numpy_random.seed(seed % 2**32)


class Watch:
    """Notices that somebody draws from the global generators."""

    def __init__(self) -> None:
        """Look."""
        self._last = global_state()

    def touched(self) -> bool:
        """Look again, and say whether somebody has drawn since the last look."""
        before, self._last = self._last, global_state()
        return not same_state(before, self._last)


def global_state() -> tuple[Any, Any]:
    """Give the state of the generators that all of the process shares."""
    numpy_random = _numpy_random()
    return random.getstate(), None if numpy_random is None else numpy_random.get_state()


def same_state(before: tuple[Any, Any], after: tuple[Any, Any]) -> bool:
    """Say whether nobody drew from the global generators in between."""
    if before[0] != after[0]:
        return False
    if before[1] is None or after[1] is None:  # numpy was loaded in between, which seeds it
        return True
    return bool(before[1][2:] == after[1][2:] and (before[1][1] == after[1][1]).all())


def _numpy_random() -> Any:  # noqa: ANN401 - a library that need not be there
    """Give numpy's module of chance if anybody has loaded it."""
    return getattr(sys.modules.get("numpy"), "random", None)
