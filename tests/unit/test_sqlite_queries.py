"""Queries of a board in a file read no more of it than they have to."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import BaseModel

from flock import Flock
from flock.core.roster import Catalog
from flock.model.ledger import Query
from flock.model.payload import type_name
from flock.stores.sqlite.reading import Reading

MANY = 4_000
FEW = 3


class Leaf(BaseModel):
    number: int


class Blossom(BaseModel):
    number: int


async def tree(path: Path) -> None:
    """Grow many leaves in one run, and a few leaves and blossoms in two others."""
    async with Flock(store=f"sqlite:///{path}?synchronous=normal") as flock:
        await flock.publish_many([Leaf(number=i) for i in range(MANY)], correlation_id="summer")
        await flock.publish_many([Blossom(number=i) for i in range(FEW)], correlation_id="summer")
        await flock.publish_many([Leaf(number=i) for i in range(FEW)], correlation_id="autumn")
        await flock.publish_many([Blossom(number=i) for i in range(FEW)], correlation_id="autumn")


LEAF, BLOSSOM = type_name(Leaf), type_name(Blossom)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(types=frozenset({LEAF}), run="autumn"), FEW),
        (Query(types=frozenset({BLOSSOM}), run="summer"), FEW),
        (Query(types=frozenset({BLOSSOM, "Bud"}), run="summer"), FEW),
        (Query(types=frozenset({LEAF, BLOSSOM}), run="autumn"), 2 * FEW),
        (Query(run="summer", activation="none"), 0),
        (Query(types=frozenset({LEAF}), run="summer", until=FEW), FEW),
        (Query(types=frozenset({LEAF}), run="summer", limit=FEW), FEW),
        (Query(types=frozenset({LEAF}), run="winter"), 0),
    ],
)
async def test_a_query_by_several_things_looks_through_the_fewest_rows(
    tmp_path: Path, query: Query, found: int
) -> None:
    await tree(tmp_path / "board.db")
    steps: list[None] = []
    with closing(sqlite3.connect(tmp_path / "board.db")) as db:
        reading = Reading(db, Catalog(), {})
        db.set_progress_handler(lambda: steps.append(None), 1_000)  # instructions of SQLite
        assert len(reading.query(query)) == found
    assert len(steps) < 12  # a look through the many takes more than 20
