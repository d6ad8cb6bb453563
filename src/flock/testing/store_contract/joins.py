"""Joins: a gate per key, inside a window of time or of artifacts."""
# ruff: noqa: D103, S101 - each rule is a sentence by its name, and asserts it

from __future__ import annotations

from flock.model.collect import Gather
from flock.testing.store_contract.bench import RUN, Bench, ids

TIMED = Gather(need=(1, 1), within=60.0, keyed=True)
COUNTED = Gather(need=(1, 1), last=2, keyed=True)


async def a_join_fires_per_key(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a1", slot=0, key="1")
    await bench.put(join, "b2", slot=1, key="2")
    assert await bench.fired("join") == []
    await bench.put(join, "b1", slot=1, key="1")
    await bench.put(join, "a2", slot=0, key="2")
    assert await bench.fired("join") == [["a1", "b1"], ["a2", "b2"]]


async def a_join_expires_at_the_end_of_its_window_and_says_so(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    answer = await bench.put(join, "a", slot=0, key="1")
    end = bench.clock.now() + 60.0
    assert answer.due == end
    (found,) = await bench.store.waiting(RUN)
    assert (found.reason, found.due, found.artifacts) == ("join", end, ("a",))
    assert list((await bench.wait(59.0)).expired) == []
    (gone,) = (await bench.wait(1.0)).expired
    assert (gone.agent, gone.run, ids(gone.records)) == ("join", RUN, ["a"])
    assert await bench.store.waiting(RUN) == []
    await bench.put(join, "b", slot=1, key="1")
    assert await bench.fired("join") == []


async def what_comes_too_late_does_not_meet_what_nobody_has_expired_yet(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a", slot=0, key="1")
    bench.clock.advance_to(bench.clock.now() + 60.0)
    answer = await bench.put(join, "b", slot=1, key="1")
    assert [ids(gone.records) for gone in answer.expired] == [["a"]]
    assert await bench.fired("join") == []
    assert answer.due is not None


async def each_artifact_of_a_join_has_its_own_window(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a1", slot=0, key="1")
    await bench.wait(40.0)
    await bench.put(join, "a2", slot=0, key="1")
    assert [ids(gone.records) for gone in (await bench.wait(20.0)).expired] == [["a1"]]
    await bench.put(join, "b", slot=1, key="1")
    assert await bench.fired("join") == [["a2", "b"]]


async def a_join_that_fired_expires_nothing(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a", slot=0, key="1")
    await bench.put(join, "b", slot=1, key="1")
    assert list((await bench.wait(60.0)).expired) == []


async def a_window_of_artifacts_counts_those_of_the_subscription(bench: Bench) -> None:
    join = bench.target("join", COUNTED)
    await bench.put(join, "a1", slot=0, key="1")
    await bench.put(join, "a2", slot=0, key="2")
    answer = await bench.put(join, "b1", slot=1, key="1")
    assert list(answer.expired) == []
    assert await bench.fired("join") == [["a1", "b1"]]
    await bench.put(join, "a3", slot=0, key="3")
    answer = await bench.put(join, "a4", slot=0, key="4")
    assert [ids(gone.records) for gone in answer.expired] == [["a2"]]
    await bench.put(join, "b2", slot=1, key="2")
    assert await bench.fired("join") == []


async def joins_of_two_runs_do_not_meet(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a", run="one", slot=0, key="1")
    await bench.put(join, "b", run="two", slot=1, key="1")
    assert await bench.fired("join") == []


async def windows_go_on_after_the_store_is_opened_again(bench: Bench) -> None:
    join = bench.target("join", TIMED)
    await bench.put(join, "a", slot=0, key="1")
    await bench.put(join, "c", slot=0, key="2")
    bench.clock.advance_to(bench.clock.now() + 30.0)
    opened = await bench.reopen()
    assert opened.due == bench.clock.now() + 30.0
    await bench.put(join, "b", slot=1, key="1")
    assert await bench.fired("join") == [["a", "b"]]
    assert [ids(gone.records) for gone in (await bench.wait(30.0)).expired] == [["c"]]
