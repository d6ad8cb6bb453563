"""The contract of a store as rules that every store's tests run.

A rule is an async function of a `Bench`, which drives one store through the port alone. Run them all:

    @pytest.mark.parametrize("rule", store_contract.RULES, ids=store_contract.title)
    async def test_the_store_keeps_the_contract(rule):
        await store_contract.check(rule, MyStore)
"""

from flock.testing.store_contract.bench import Bench, Note
from flock.testing.store_contract.rules import RULES, Rule, check, title

__all__ = ["RULES", "Bench", "Note", "Rule", "check", "title"]
