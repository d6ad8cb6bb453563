"""The memory store keeps the contract of stores, and forgets finished runs when it is told to."""

from functools import partial

import pytest
from typing_extensions import override

from flock.model.collect import Gather
from flock.model.errors import StoreError
from flock.model.ledger import Commit, Committed
from flock.stores.memory import MemoryStore
from flock.testing import FakeClock, store_contract
from flock.testing.store_contract import Bench


@pytest.mark.parametrize("rule", store_contract.RULES, ids=store_contract.title)
async def test_the_memory_store_keeps_the_contract(rule: store_contract.Rule) -> None:
    await store_contract.check(rule, MemoryStore)


@pytest.mark.parametrize("rule", store_contract.RULES, ids=store_contract.title)
async def test_a_forgetful_store_keeps_the_contract_for_what_it_keeps(rule: store_contract.Rule) -> None:
    await store_contract.check(rule, partial(MemoryStore, keep_runs=100))


async def test_a_broken_rule_is_told_and_the_store_is_closed() -> None:
    class Broken(MemoryStore):
        @override
        async def commit(self, commit: Commit) -> Committed:
            answer = await super().commit(commit)
            if commit.max_pending is not None:
                raise StoreError("too late")
            return answer

    async def refuses(bench: Bench) -> None:
        async with bench.refused():
            await bench.put(bench.target("agent"), "a", max_pending=1)

    async def accepts(bench: Bench) -> None:
        async with bench.refused():
            await bench.put(bench.target("agent"), "a")

    with pytest.raises(AssertionError, match="changed the board"):
        await store_contract.check(refuses, Broken)
    with pytest.raises(AssertionError, match="was to be raised"):
        await store_contract.check(accepts, Broken)


async def test_a_store_of_one_run_forgets_the_older_of_two_finished() -> None:
    bench = await forgetful(1)
    await finish(bench, "one")
    await finish(bench, "two")
    assert await bench.board() == ["two"]
    assert [(await bench.store.progress(run)).known for run in ("one", "two")] == [False, True]
    assert list(await bench.store.consumptions("one")) == []


async def test_a_forgotten_run_still_counts_for_the_board() -> None:
    bench = await forgetful(0)
    await finish(bench, "one")
    await finish(bench, "two")
    assert await bench.board() == []
    assert (await bench.store.progress()).succeeded == 2


async def test_a_finished_run_that_goes_on_is_kept_until_it_is_finished_again() -> None:
    bench = await forgetful(1)
    await finish(bench, "one")
    await bench.put(bench.target("agent"), "more", run="one")
    await finish(bench, "two")
    await finish(bench, "three")
    assert await bench.board() == ["one", "more", "three"]
    await bench.settle(await bench.one("agent"))
    assert await bench.board() == ["one", "more"]


async def test_a_run_with_something_in_a_gate_is_kept() -> None:
    bench = await forgetful(0)
    await bench.put(bench.target("gate", Gather(need=(1, 1))), "a", run="one")
    await finish(bench, "two")
    assert await bench.board() == ["a"]


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(StoreError, match="not open"):
        await Bench(MemoryStore(), FakeClock()).put(Bench(MemoryStore(), FakeClock()).target("agent"), "a")


async def forgetful(keep: int) -> Bench:
    bench = Bench(MemoryStore(keep_runs=keep), FakeClock())
    await bench.open()
    return bench


async def finish(bench: Bench, run: str) -> None:
    """Publish one artifact in a run and have it consumed."""
    await bench.put(bench.target(f"agent of {run}"), run, run=run)
    await bench.settle(await bench.one(f"agent of {run}"))
