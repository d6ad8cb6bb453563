"""Reading: what was committed can be found, counted and followed."""
# ruff: noqa: D103, PLR2004, S101 - each rule is a sentence by its name, and asserts it with the numbers of an example

from __future__ import annotations

from typing import Any

from flock.model.evaluation import Failure
from flock.model.ledger import Query
from flock.model.payload import type_name
from flock.testing.store_contract.bench import RUN, Bench, Mark, Note, ids


async def get_gives_what_exists_in_the_order_asked(bench: Bench) -> None:
    await bench.commit(more=[bench.note("a"), bench.note("b"), bench.note("c")])
    assert ids(await bench.store.get(["c", "unknown", "a"])) == ["c", "a"]
    assert await bench.store.get([]) == []


async def progress_names_the_newest_failure_of_the_board(bench: Bench) -> None:
    await bench.commit(more=[bench.note("a")])
    assert (await bench.store.progress()).newest_failure == 0
    failure = Failure(agent="agent", error_type="ValueError", message="no")
    await bench.commit(more=[bench.note("b", snapshot=failure), bench.note("c")])
    for run in (None, RUN, "other"):
        assert (await bench.store.progress(run)).newest_failure == 2


async def a_query_filters_by_each_part_and_by_all(bench: Bench) -> None:
    await _fill(bench)
    assert await _ask(bench) == ["a", "b", "c", "d"]
    assert await _ask(bench, types=frozenset({type_name(Mark)})) == ["c", "d"]
    assert await _ask(bench, types=frozenset({type_name(Mark), type_name(Note)})) == ["a", "b", "c", "d"]
    assert await _ask(bench, types=frozenset({"unknown"})) == []
    assert await _ask(bench, run="two") == ["b", "d"]
    assert await _ask(bench, tags=frozenset({"x"})) == ["a", "c"]
    assert await _ask(bench, tags=frozenset({"x", "y"})) == ["c"]
    assert await _ask(bench, produced_by="writer") == ["c"]
    assert await _ask(bench, activation="act") == ["d"]
    assert await _ask(bench, run=RUN, types=frozenset({type_name(Mark)}), tags=frozenset({"y"})) == ["c"]


async def a_query_is_bounded_by_sequences_and_pages(bench: Bench) -> None:
    await _fill(bench)
    assert await _ask(bench, since=1) == ["b", "c", "d"]
    assert await _ask(bench, until=2) == ["a", "b"]
    assert await _ask(bench, since=1, until=3) == ["b", "c"]
    assert await _ask(bench, limit=2) == ["a", "b"]
    assert await _ask(bench, limit=2, offset=1) == ["b", "c"]
    assert await _ask(bench, offset=3) == ["d"]
    assert await _ask(bench, limit=0) == []
    assert await _ask(bench, run="two", limit=1, offset=1) == ["d"]


async def a_follower_misses_nothing(bench: Bench) -> None:
    await bench.commit(more=[bench.note(f"n{number}") for number in range(5)])
    seen: list[str] = []
    cursor = 0
    while page := await bench.store.follow(cursor, 2):
        assert len(page) <= 2
        seen += ids(page)
        cursor = page[-1].sequence
        if len(seen) == 2:
            await bench.commit(more=[bench.note("late")])
    assert seen == ["n0", "n1", "n2", "n3", "n4", "late"]


async def children_name_their_parents(bench: Bench) -> None:
    await bench.commit(more=[bench.note("a"), bench.note("b")])
    await bench.commit(more=[bench.note("c", parents=("a", "b")), bench.note("d", parents=("c",))])
    await bench.commit(more=[bench.note("e", parents=("a",))])
    assert ids(await bench.store.children(["a"])) == ["c", "e"]
    assert ids(await bench.store.children(["a", "b"])) == ["c", "e"]
    assert ids(await bench.store.children(["d", "unknown"])) == []


async def consumptions_name_every_activation_of_an_input(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    (running,) = await bench.store.consumptions("a")
    assert (running.artifact, running.agent, running.activation) == ("a", "agent", lease.activation.id)
    assert running.state == "running"
    await bench.settle(lease)
    (known,) = await bench.store.get(["a"])
    await bench.invoke("again", "other", known)
    found = await bench.store.consumptions("a")
    assert sorted((each.agent, each.state) for each in found) == [("agent", "done"), ("other", "ready")]
    assert list(await bench.store.consumptions("unknown")) == []


async def runs_are_named_oldest_first(bench: Bench) -> None:
    await bench.tick("clock", 1, run="a")  # which is no artifact
    for run in ("b", "a", "b", "c"):
        await bench.commit(more=[bench.note(f"{run} {bench.clock.new_id()}", run=run)])
    assert list(await bench.store.runs()) == ["b", "a", "c"]


async def progress_is_one_snapshot_of_a_run_and_of_the_board(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", "b", "c")
    await bench.put(agent, "d", run="two")
    first, second = await bench.claim("agent", most=2)
    await bench.settle(first)
    mine, all_of_it = await bench.store.progress(RUN), await bench.store.progress()
    assert (mine.succeeded, mine.running, mine.ready, mine.artifacts) == (1, 1, 1, 3)
    assert (all_of_it.succeeded, all_of_it.running, all_of_it.ready, all_of_it.artifacts) == (1, 1, 2, 4)
    assert (mine.work, await bench.store.work(RUN)) == (2, 2)
    assert (all_of_it.work, await bench.store.work()) == (3, 3)
    assert all_of_it.sequence == 4
    await bench.store.release(second)
    assert (await bench.store.progress(RUN)).ready == 2


async def an_unknown_run_is_unknown(bench: Bench) -> None:
    progress = await bench.store.progress("unknown")
    assert (progress.known, progress.work, await bench.store.work("unknown")) == (False, 0, 0)
    assert list(await bench.store.waiting("unknown")) == []
    await bench.commit(more=[bench.note("a")])
    assert (await bench.store.progress(RUN)).known


async def what_waits_is_told_with_its_reason(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    lease, *_ = await bench.claim("agent", most=1)
    found = {each.reason: each.artifacts for each in await bench.store.waiting(RUN)}
    assert found == {"running": ("a",), "ready": ("b",)}
    await bench.store.release(lease)
    assert [each.reason for each in await bench.store.waiting(RUN)] == ["ready", "ready"]


async def the_board_is_there_after_the_store_is_opened_again(bench: Bench) -> None:
    await _fill(bench)
    before = await bench.everything(RUN, "two")
    await bench.reopen()
    await bench.reopen()
    assert await bench.everything(RUN, "two") == before
    assert (await bench.commit(more=[bench.note("e")])).records[0].sequence == 5


async def _fill(bench: Bench) -> None:
    await bench.commit(
        more=[
            bench.note("a", tags=frozenset({"x"})),
            bench.note("b", run="two"),
            bench.note("c", kind=Mark, tags=frozenset({"x", "y"}), produced_by="writer"),
            bench.note("d", kind=Mark, run="two", activation_id="act"),
        ]
    )


async def _ask(bench: Bench, **filters: Any) -> list[str]:  # noqa: ANN401 - the fields of a Query
    return ids(await bench.store.query(Query(**filters)))
