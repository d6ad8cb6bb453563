"""The SQLite store keeps the contract of stores, and finds everything again after it was closed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flock.ports import Store
from flock.stores.sqlite.store import SQLiteStore
from flock.testing import store_contract


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Store]:
    return lambda: SQLiteStore(tmp_path / "board.db", synchronous="normal")


@pytest.mark.parametrize("rule", store_contract.RULES, ids=store_contract.title)
async def test_the_sqlite_store_keeps_the_contract(rule: store_contract.Rule, make: Callable[[], Store]) -> None:
    await store_contract.check(rule, make, again=lambda _: make())
