"""What the tests of the promises share: a started board on each kind of store, and time that jumps."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flock import Flock, app
from flock.ports import Store
from flock.stores.sqlite.store import SQLiteStore
from flock.testing import FakeClock


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each kind of store; one that is marked `memory` is about that store alone."""
    alone = next(metafunc.definition.iter_markers("memory"), None)
    metafunc.parametrize("kind_of_store", ["memory"] if alone else ["memory", "sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def kind_of_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a Flock keeps its board when the test does not say."""
    kind = str(request.param)
    if kind == "sqlite":
        memory, made = app.open_store, 0

        def open_store(url: str) -> Store:
            nonlocal made
            made += 1
            if url != "memory://":
                return memory(url)
            return SQLiteStore(tmp_path / f"board {made}.db", synchronous="normal")

        monkeypatch.setattr(app, "open_store", open_store)
    return kind


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def flock(clock: FakeClock) -> AsyncIterator[Flock]:
    async with Flock(clock=clock) as board:
        yield board
