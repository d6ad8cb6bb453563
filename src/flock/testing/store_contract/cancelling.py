"""Cancelling: a run ends for good, others go on."""
# ruff: noqa: D103, PLR2004, S101 - each rule is a sentence by its name, and asserts it with the numbers of an example

from __future__ import annotations

from flock.model.collect import Batch, Gather
from flock.model.errors import RunCancelledError, Stale
from flock.model.ledger import Offer, Settle, State
from flock.testing.store_contract.bench import RUN, Bench, ids

PAIR = Gather(need=(1, 1))


async def a_cancelled_run_has_no_open_activation(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", "b", "c")
    running, delayed = await bench.claim("agent", most=2)
    await bench.settle(delayed, Settle("retry", 10.0))
    gone = await bench.store.cancel(run=RUN)
    assert list(gone.running) == [running.activation.id]
    assert len(gone.ended) == 3
    assert list(gone.committed.quiet) == [RUN]
    progress = await bench.store.progress(RUN)
    assert (progress.work, progress.cancelled, progress.was_cancelled) == (0, 3, True)
    await bench.wait(10.0)
    assert await bench.claim("agent") == []
    async with bench.refused(Stale):
        await bench.settle(running, more=[bench.note("late")])


async def a_cancelled_activation_makes_room_for_others(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", run="one")
    await bench.claim("agent", limit=1)
    await bench.put(agent, "b", run="two")
    assert await bench.claim("agent", limit=1) == []
    await bench.store.cancel(run="one")
    assert len(await bench.claim("agent", limit=1)) == 1


async def what_a_cancelled_run_holds_is_withdrawn(bench: Bench) -> None:
    await bench.put(bench.target("gate", PAIR), "a")
    await bench.put(bench.target("batch", Batch(timeout=60.0), batches=True), "b")
    await bench.commit(Offer(bench.target("later"), bench.note("c"), not_before=bench.clock.now() + 60.0))
    gone = await bench.store.cancel(run=RUN)
    assert sorted(ids(gone.records)) == ["a", "b", "c"]
    assert list(gone.committed.quiet) == [RUN]
    assert await bench.store.waiting(RUN) == []
    assert await bench.store.work() == 0
    await bench.wait(60.0)
    assert await bench.claim("gate", "batch", "later") == []


async def other_runs_go_on(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.put(gate, "a", run="one", slot=0)
    await bench.put(gate, "b", run="two", slot=0)
    await bench.put(bench.target("agent"), "c", run="two")
    await bench.store.cancel(run="one")
    await bench.put(gate, "d", run="two", slot=1)
    assert sorted(await bench.fired("gate", "agent")) == [["b", "d"], ["c"]]
    assert (await bench.store.progress("two")).was_cancelled is False


async def a_board_wide_gate_loses_only_what_the_run_put_in(bench: Bench) -> None:
    gate = bench.target("gate", PAIR, board_wide=True)
    await bench.put(gate, "a", run="one", slot=0)
    await bench.put(gate, "b", run="two", slot=0)
    gone = await bench.store.cancel(run="one")
    assert ids(gone.records) == ["a"]
    await bench.put(gate, "c", run="three", slot=1)
    assert await bench.fired("gate") == [["b", "c"]]


async def nothing_more_is_published_into_a_cancelled_run(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.store.cancel(run=RUN)
    async with bench.refused(RunCancelledError):
        await bench.put(bench.target("agent"), "b")
    async with bench.refused(RunCancelledError, RUN, "other"):
        await bench.commit(more=[bench.note("c", run="other"), bench.note("d")])
    async with bench.refused(RunCancelledError):
        await bench.invoke("d", "agent")


async def a_run_may_be_cancelled_before_it_begins(bench: Bench) -> None:
    gone = await bench.store.cancel(run="new")
    assert (list(gone.ended), list(gone.records)) == ([], [])
    async with bench.refused(RunCancelledError, "new"):
        await bench.put(bench.target("agent"), "a", run="new")


async def cancelling_twice_changes_nothing_more(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.store.cancel(run=RUN)
    before = await bench.everything(RUN)
    gone = await bench.store.cancel(run=RUN)
    assert (list(gone.running), list(gone.ended), list(gone.records)) == ([], [], [])
    assert await bench.everything(RUN) == before


async def one_activation_can_be_cancelled_alone(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    first, second = await bench.claim("agent")
    gone = await bench.store.cancel(activation=first.activation.id)
    assert list(gone.running) == [first.activation.id]
    assert list(gone.committed.quiet) == []
    found = await bench.store.activation(first.activation.id)
    assert found is not None
    assert found.state is State.CANCELLED
    async with bench.refused(Stale):
        await bench.settle(first)
    await bench.settle(second)
    await bench.put(bench.target("agent"), "c")
    assert await bench.fired("agent") == [["c"]]


async def cancelling_what_is_not_open_does_nothing(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    await bench.settle(lease)
    before = await bench.everything(RUN)
    gone = await bench.store.cancel(activation=lease.activation.id)
    await bench.store.cancel(activation="unknown")
    assert (list(gone.running), list(gone.ended)) == ([], [])
    assert await bench.everything(RUN) == before


async def a_run_stays_cancelled_after_the_store_is_opened_again(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.store.cancel(run=RUN)
    await bench.reopen()
    assert await bench.claim("agent") == []
    async with bench.refused(RunCancelledError):
        await bench.put(bench.target("agent"), "b")
