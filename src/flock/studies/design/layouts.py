"""In which order and pairing treatments meet blocks: crossing, shuffling, balanced sequences and squares."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flock.studies.design.factors import Block, Factor
from flock.studies.stable import stable_json_dumps

Assignment = dict[str, Any]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a design: what factors and blocks are, and what its metadata says of its place."""

    factors: Assignment
    blocks: Assignment
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])


def chance_of(seed: int | None) -> random.Random:
    """Give a generator that draws the same for the same seed; None is 0, so that designs can be repeated."""
    return random.Random(seed or 0)  # noqa: S311 - orders, no secrets


def combinations(choices: Mapping[str, Sequence[Any]]) -> list[Assignment]:
    """Give every combination of values, the last name varying fastest; of no names, the empty one."""
    return [dict(zip(choices, each, strict=True)) for each in itertools.product(*choices.values())]


def every_treatment(factors: Iterable[Factor]) -> list[Assignment]:
    """Give the full factorial of these factors."""
    return combinations({each.name: each.iter_values() for each in factors})


def every_block(blocks: Iterable[Block]) -> list[Assignment]:
    """Give every combination of block levels."""
    return combinations({each.name: each.levels for each in blocks})


def crossed(treatments: Iterable[Assignment], surroundings: Sequence[Assignment]) -> list[Row]:
    """Give every treatment in every surroundings, block by block for one treatment after the other."""
    return [Row(treatment, block) for treatment in treatments for block in surroundings]


def interleaved(items: Sequence[_Item]) -> list[_Item]:
    """Give every second item forwards and the others backwards, so that early and late ones face each other."""
    return [*items[::2], *reversed(items[1::2])]


def shuffled(rows: Iterable[Row], seed: int | None, by: Callable[[Row], object] = lambda _: None) -> list[Row]:
    """Give the rows of one group after the other, each group in an order of its own that the seed decides."""
    chance = chance_of(seed)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(stable_json_dumps(by(row)), []).append(row)
    for group in groups.values():
        chance.shuffle(group)
    return [row for group in groups.values() for row in group]


def balanced_sequences(count: int) -> list[list[int]]:
    """Give orders of so many treatments in which each comes at each place, and right before each other, equally often.

    As many orders as treatments when these are even, else twice as many. Williams 1949.
    """
    first = [(place + 1) // 2 if place % 2 else (count - place // 2) % count for place in range(count)]
    square = [[(each + shift) % count for each in first] for shift in range(count)]
    return square if count % 2 == 0 or count == 1 else [*square, *(order[::-1] for order in square)]


def repeated(
    treatments: Sequence[Assignment], subjects: Sequence[Assignment], chance: random.Random | None
) -> list[Row]:
    """Give every treatment to every subject, in balanced sequences that subjects take in turn.

    With a generator of chance, it decides which treatment and which subject has which place in them.
    """
    treatments, orders = list(treatments), balanced_sequences(len(treatments))
    if chance is not None:
        chance.shuffle(treatments)
        chance.shuffle(orders)
    return [
        Row(treatments[index], subject, {"within_subject_order": place})
        for subject, order in zip(subjects, itertools.cycle(orders), strict=False)
        for place, index in enumerate(order)
    ]


def latin_square(size: int, chance: random.Random | None) -> list[list[int]]:
    """Give a square with each of so many symbols once per row and column: the cyclic one, or one that chance permutes.

    Fisher and Yates 1934: rows, columns and symbols are permuted.
    """
    rows, columns, symbols = (list(range(size)) for _ in range(3))
    if chance is not None:
        for each in (rows, columns, symbols):
            chance.shuffle(each)
    return [[symbols[(row + column) % size] for column in columns] for row in rows]
