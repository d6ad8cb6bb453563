"""What the tests of the promises share: a started board on each kind of store, and time that jumps."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flock import Flock
from flock.ports import Store
from flock.stores.sqlite.store import SQLiteStore
from flock.stores.url import open_store as url_opened
from flock.testing import FakeClock


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each kind of store; one that is marked `memory` is about that store alone."""
    alone = next(metafunc.definition.iter_markers("memory"), None)
    kinds = ["memory", *([] if alone else [pytest.param("sqlite", marks=pytest.mark.again)])]
    metafunc.parametrize("kind_of_store", kinds, indirect=True)


@pytest.fixture(autouse=True)
def kind_of_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a Flock keeps its board when the test does not say."""
    kind = str(request.param)
    if kind == "sqlite":
        made = 0

        def open_store(url: str) -> Store:
            nonlocal made
            made += 1
            if url != "memory://":
                return url_opened(url)
            return SQLiteStore(tmp_path / f"board {made}.db", synchronous="normal")

        monkeypatch.setattr("flock.orchestrator.open_store", open_store)
    return kind


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def flock(clock: FakeClock) -> AsyncIterator[Flock]:
    async with Flock(clock=clock) as board:
        yield board
