"""The memory store keeps the contract of stores."""

import pytest

from flock.stores.memory import MemoryStore
from flock.testing import store_contract


@pytest.mark.parametrize("rule", store_contract.RULES, ids=store_contract.title)
async def test_the_memory_store_keeps_the_contract(rule: store_contract.Rule) -> None:
    await store_contract.check(rule, MemoryStore)
