"""Design matrices that need numpy, scipy and pyDOE3: the one module that imports them, loaded when such a design is."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from scipy.stats import qmc

from flock.studies.stable import ValidationError

_PYDOE: Any = importlib.import_module("pyDOE3")  # says nothing of its types


def latin_hypercube(samples: int, dimensions: int, *, seed: int, strength: int = 1) -> list[list[float]]:
    """Give points in the unit cube, one in each of as many equal parts of each dimension as there are points.

    McKay, Beckman and Conover 1979; strength 2 is of orthogonal arrays (Owen 1992, Tang 1993) and needs the square of a
    prime of points, and at most one dimension more than that prime. Raises ValidationError.
    """
    chance = np.random.default_rng(seed % 2**64)
    try:
        points = qmc.LatinHypercube(d=dimensions, strength=strength, seed=chance).random(samples)
    except ValueError as error:
        raise ValidationError(f"no Latin hypercube of {samples} points and strength {strength!r}: {error}") from error
    return [[float(each) for each in point] for point in points]


def two_level(generator: str) -> list[list[int]]:
    """Give the runs of a two-level design, -1 or 1 per factor, for a generator as "a b c -abc"; raises ValidationError.

    Box and Hunter 1961.
    """
    try:
        runs = _PYDOE.fracfact(generator).tolist()
    except (ValueError, IndexError) as error:
        raise ValidationError(f"the generator {generator!r} makes no design: {error}") from error
    return [[round(each) for each in run] for run in runs]
