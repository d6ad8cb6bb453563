"""Batches: by size, by time, flushed."""
# ruff: noqa: D103, S101 - each rule is a sentence by its name, and asserts it

from __future__ import annotations

from flock.declaring.conditions import When
from flock.model.collect import Batch, Gather, Hold
from flock.model.ledger import Offer
from flock.testing.store_contract.bench import RUN, Bench, Mark, ids, inputs

THREE = Batch(size=3)
TIMED = Batch(timeout=60.0)
EITHER = Batch(size=3, timeout=60.0)


async def a_batch_fires_at_its_size(bench: Bench) -> None:
    batch = bench.target("batch", THREE, batches=True)
    await bench.put(batch, "a", "b")
    assert await bench.fired("batch") == []
    await bench.put(batch, "c", "d")
    lease = await bench.one("batch")
    assert inputs(lease) == ["a", "b", "c"]
    assert lease.activation.is_batch
    assert [ids(group) for group in lease.activation.groups] == [["a"], ["b"], ["c"]]


async def a_batch_by_size_alone_is_no_work(bench: Bench) -> None:
    answer = await bench.put(bench.target("batch", THREE, batches=True), "a")
    assert (answer.due, await bench.store.work(RUN)) == (None, 0)
    (found,) = await bench.store.waiting(RUN)
    assert (found.reason, found.artifacts, found.due) == ("batch", ("a",), None)


async def a_timed_batch_fires_when_the_first_has_waited_long_enough(bench: Bench) -> None:
    batch = bench.target("batch", TIMED, batches=True)
    answer = await bench.put(batch, "a")
    end = bench.clock.now() + 60.0
    assert answer.due == end
    await bench.wait(30.0)
    await bench.put(batch, "b")
    assert list((await bench.wait(29.0, {"batch": 1})).leases) == []
    (lease,) = (await bench.wait(1.0, {"batch": 1})).leases
    assert inputs(lease) == ["a", "b"]


async def a_timed_batch_is_work_until_what_it_fired_has_ended(bench: Bench) -> None:
    batch = bench.target("batch", EITHER, batches=True)
    await bench.put(batch, "a")
    assert await bench.store.work(RUN) > 0
    assert await bench.store.work() > 0
    assert (await bench.store.progress(RUN)).timed > 0
    answer = await bench.wait(60.0)
    assert list(answer.quiet) == []
    progress = await bench.store.progress(RUN)
    assert (progress.timed, progress.ready) == (0, 1)
    assert list((await bench.settle(await bench.one("batch"))).quiet) == [RUN]
    assert await bench.store.work() == 0


async def size_or_time_whichever_comes_first(bench: Bench) -> None:
    batch = bench.target("batch", EITHER, batches=True)
    await bench.put(batch, "a", "b", "c")
    await bench.wait(30.0)
    await bench.put(batch, "d")
    assert await bench.fired("batch") == [["a", "b", "c"]]
    await bench.wait(59.0)
    assert await bench.fired("batch") == []
    await bench.wait(1.0)
    assert await bench.fired("batch") == [["d"]]


async def what_comes_after_the_deadline_opens_the_next_batch(bench: Bench) -> None:
    batch = bench.target("batch", TIMED, batches=True)
    await bench.put(batch, "a")
    bench.clock.advance_to(bench.clock.now() + 60.0)
    answer = await bench.put(batch, "b")
    assert await bench.fired("batch") == [["a"]]
    assert answer.due is not None
    await bench.wait(60.0)
    assert await bench.fired("batch") == [["b"]]


async def a_flush_fires_partial_batches_and_leaves_gates_alone(bench: Bench) -> None:
    await bench.put(bench.target("sized", THREE, batches=True), "a")
    await bench.put(bench.target("timed", TIMED, batches=True), "b")
    await bench.put(bench.target("gate", Gather(need=(1, 1))), "c")
    answer = await bench.store.flush(None, {"sized": 1, "timed": 1, "gate": 1})
    assert [inputs(lease) for lease in answer.leases] == [["a"], ["b"]]
    assert [found.reason for found in await bench.store.waiting() if found.reason != "running"] == ["gate"]


async def a_flush_of_a_run_leaves_others_alone(bench: Bench) -> None:
    batch = bench.target("batch", THREE, batches=True)
    await bench.put(batch, "a", run="one")
    await bench.put(batch, "b", run="two")
    await bench.store.flush("two", {})
    assert await bench.fired("batch") == [["b"]]


async def a_flush_of_a_run_fires_what_it_put_into_a_board_wide_batch(bench: Bench) -> None:
    batch = bench.target("batch", THREE, batches=True, board_wide=True)
    await bench.put(batch, "a", run="one")
    await bench.store.flush("two", {})
    assert await bench.fired("batch") == []
    await bench.store.flush("one", {})
    assert await bench.fired("batch") == [["a"]]


async def a_batch_of_a_gate_hands_on_groups_in_firing_order(bench: Bench) -> None:
    both = bench.target("both", Gather(need=(1, 1)), Batch(size=2), batches=True)
    await bench.put(both, "b1", "b2", slot=1)
    await bench.put(both, "a1", "a2", slot=0)
    lease = await bench.one("both")
    assert inputs(lease) == ["a1", "b1", "a2", "b2"]
    assert [ids(group) for group in lease.activation.groups] == [["a1", "b1"], ["a2", "b2"]]


async def a_batch_of_one_gate_is_still_a_batch(bench: Bench) -> None:
    both = bench.target("both", Gather(need=(1, 1)), TIMED, batches=True)
    await bench.put(both, "a", slot=0)
    assert await bench.store.work(RUN) == 0
    await bench.put(both, "b", slot=1)
    assert await bench.store.work(RUN) > 0
    await bench.wait(60.0)
    lease = await bench.one("both")
    assert [ids(group) for group in lease.activation.groups] == [["a", "b"]]


async def a_batch_may_stand_before_a_condition(bench: Bench) -> None:
    held = bench.target("held", Batch(size=2), Hold(condition=When.exists(Mark)), batches=True)
    await bench.put(held, "a", "b", "c", "d")
    assert await bench.fired("held") == []
    await bench.commit(Offer(held, bench.note("m", kind=Mark), -1))
    assert await bench.fired("held") == [["a", "b"], ["c", "d"]]


async def a_batch_is_there_after_the_store_is_opened_again(bench: Bench) -> None:
    await bench.put(bench.target("batch", TIMED, batches=True), "a")
    opened = await bench.reopen()
    assert opened.due == bench.clock.now() + 60.0
    assert await bench.store.work(RUN) > 0
    await bench.wait(60.0)
    assert await bench.fired("batch") == [["a"]]
