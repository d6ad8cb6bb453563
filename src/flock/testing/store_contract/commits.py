"""A commit is atomic, fenced and idempotent."""
# ruff: noqa: D103, PLR2004, S101 - each rule is a sentence by its name, and asserts it with the numbers of an example

from __future__ import annotations

import asyncio

from flock.model.errors import Backpressure, PublishError, Stale
from flock.model.ledger import Commit, Committed, Direct, Offer, Settle, State, Tick
from flock.model.visibility import PrivateVisibility
from flock.testing.store_contract.bench import MANY, RUN, Bench, Note, ids, inputs, turn


async def artifacts_get_sequences_in_the_order_given(bench: Bench) -> None:
    first = await bench.commit(more=[bench.note("a"), bench.note("b")])
    second = await bench.commit(more=[bench.note("c")])
    assert [(record.id, record.sequence) for record in first.records] == [("a", 1), ("b", 2)]
    assert [(record.id, record.sequence) for record in second.records] == [("c", 3)]
    assert await bench.board() == ["a", "b", "c"]


async def an_artifact_keeps_every_part_of_its_envelope(bench: Bench) -> None:
    await bench.commit(more=[bench.note("parent")])
    given = bench.note(
        "a", produced_by="writer", partition_key="p", tags=frozenset({"x", "y"}), parents=("parent",),
        visibility=PrivateVisibility(agents=frozenset({"reader"})), activation_id="act", trace_context="00-t", depth=3,
        slot=2,
    )  # fmt: skip
    await bench.commit(more=[given])
    (kept,) = await bench.store.get(["a"])
    assert kept.same_content(given)
    assert (kept.produced_by, kept.parents, kept.activation_id) == ("writer", ("parent",), "act")
    assert (kept.trace_context, kept.depth, kept.slot, kept.created) == ("00-t", 3, 2, given.created)
    assert kept.snapshot == Note(text="a")


async def the_same_artifact_again_gives_the_stored_one_and_makes_no_activation(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a")
    again = await bench.put(agent, "a")
    assert [(record.id, record.sequence) for record in again.records] == [("a", 1)]
    assert await bench.fired("agent") == [["a"]]


async def the_very_same_commit_again_changes_nothing(bench: Bench) -> None:
    commit = Commit(records=[record := bench.note("a")], offers=[Offer(bench.target("agent"), record)])
    first = await bench.store.commit(commit)
    before = await bench.everything(RUN)
    again = await bench.store.commit(commit)
    assert ids(again.records) == ids(first.records)
    assert await bench.everything(RUN) == before


async def a_repeat_beside_a_new_artifact_adds_only_the_new_one(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a")
    both = await bench.put(agent, "b", "a")
    assert [(record.id, record.sequence) for record in both.records] == [("b", 2), ("a", 1)]
    assert await bench.fired("agent") == [["a"], ["b"]]


async def the_answer_of_a_commit_whose_caller_is_cancelled_is_told(bench: Bench) -> None:
    told: list[Committed] = []
    bench.store.attend(lambda: None, told.append)
    agent, ran = bench.target("agent"), list[str]()
    for turns in range(8):
        record = bench.note(str(turns))
        commit = Commit(records=[record], offers=[Offer(agent, record)], limits={"agent": MANY})
        caller = asyncio.create_task(bench.store.commit(commit))
        for _ in range(turns):
            await turn()
        caller.cancel()
        await asyncio.wait({caller})
        heard = [] if caller.cancelled() else [caller.result()]
        await bench.commit(more=[bench.note(f"after {turns}")])  # what was asked for before is done now
        await turn()
        ran += [name for answer in (*heard, *told) for lease in answer.leases for name in inputs(lease)]
        told.clear()
    assert ran == [id for id in await bench.board() if not id.startswith("after")]


async def other_content_under_a_known_id_is_refused_and_changes_nothing(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a")
    other = bench.note("a", snapshot=Note(text="other"))
    async with bench.refused(PublishError):
        await bench.commit(Offer(agent, bench.note("new")), Offer(agent, other))


async def the_same_id_in_another_run_is_other_content(bench: Bench) -> None:
    await bench.commit(more=[bench.note("a")])
    async with bench.refused(PublishError):
        await bench.commit(more=[bench.note("a", run="elsewhere")])


async def two_artifacts_with_one_id_in_one_commit_are_refused(bench: Bench) -> None:
    async with bench.refused(PublishError):
        await bench.commit(more=[bench.note("a"), bench.note("a", snapshot=Note(text="other"))])


async def an_offer_without_stages_makes_one_activation(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    activation = lease.activation
    assert inputs(lease) == ["a"]
    assert (activation.agent, activation.subscription, activation.run) == ("agent", "agent/only", RUN)
    assert (activation.runs, activation.trigger, activation.is_batch) == ((RUN,), "artifact", False)


async def a_settlement_and_what_follows_are_one_step(bench: Bench) -> None:
    await bench.put(bench.target("first"), "a")
    lease = await bench.one("first")
    answer = await bench.settle(lease, more=[bench.note("b")])
    assert answer.quiet == [RUN]
    await bench.put(bench.target("first"), "c")
    lease = await bench.one("first")
    record = bench.note("d")
    answer = await bench.store.commit(
        Commit(records=[record], offers=[Offer(bench.target("next"), record)], lease=lease, settle=Settle("done"))
    )
    assert list(answer.quiet) == []
    assert await bench.store.work(RUN) == 1
    assert await bench.fired("next") == [["d"]]


async def a_commit_with_limits_leases_what_it_made_and_what_it_freed(bench: Bench) -> None:
    agent = bench.target("agent")
    first = await bench.put(agent, "a", "b", limits={"agent": 1})
    assert [inputs(lease) for lease in first.leases] == [["a"]]
    second = await bench.settle(first.leases[0], limits={"agent": 1})
    assert [inputs(lease) for lease in second.leases] == [["b"]]
    assert await bench.claim("agent") == []


async def a_commit_without_limits_leases_nothing(bench: Bench) -> None:
    answer = await bench.put(bench.target("agent"), "a")
    assert list(answer.leases) == []


async def a_settlement_sent_again_changes_nothing_and_gets_the_same_answer(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    target = bench.target("next")
    first = await bench.settle(lease, more=[bench.note("b")])
    before = await bench.everything(RUN)
    record = bench.note("b")
    again = await bench.store.commit(
        Commit(records=[record], offers=[Offer(target, record)], lease=lease, settle=Settle("done"))
    )
    assert [(each.id, each.sequence) for each in again.records] == [(each.id, each.sequence) for each in first.records]
    assert again.repeated
    assert await bench.everything(RUN) == before


async def another_settlement_of_an_attempt_is_stale(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    await bench.settle(lease, Settle("failed", 0.0, "late"))
    async with bench.refused(Stale):
        await bench.settle(lease, more=[bench.note("b")])
    async with bench.refused(Stale):
        await bench.settle(lease)


async def a_partial_commit_leaves_the_activation_running(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    record = bench.note("b", slot=0, activation_id=lease.activation.id)
    await bench.commit(Offer(bench.target("next"), record), lease=lease)
    assert await bench.fired("next") == [["b"]]
    assert (await bench.store.progress(RUN)).running == 2
    await bench.settle(lease)
    assert await bench.board() == ["a", "b"]


async def a_partial_commit_sent_again_changes_nothing(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    record = bench.note("b", slot=0)
    commit = Commit(records=[record], offers=[Offer(bench.target("next"), record)], lease=lease)
    await bench.store.commit(commit)
    before = await bench.everything(RUN)
    assert ids((await bench.store.commit(commit)).records) == ["b"]
    fresh = bench.note("b", slot=0)
    await bench.store.commit(Commit(records=[fresh], offers=[Offer(bench.target("next"), fresh)], lease=lease))
    assert await bench.everything(RUN) == before


async def an_output_slot_is_written_once_whatever_the_attempt(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    await bench.commit(lease=lease, more=[bench.note("first", slot=0, activation_id=lease.activation.id)])
    await bench.settle(lease, Settle("retry", 1.0))
    await bench.wait(1.0)
    lease = await bench.one("agent")
    record = bench.note("second", slot=0, activation_id=lease.activation.id)
    answer = await bench.store.commit(
        Commit(records=[record], offers=[Offer(bench.target("next"), record)], lease=lease)
    )
    assert ids(answer.records) == ["first"]
    assert await bench.fired("next") == []
    await bench.commit(lease=lease, more=[bench.note("third", slot=1, activation_id=lease.activation.id)])
    assert await bench.board() == ["a", "first", "third"]


async def slots_of_different_activations_do_not_meet(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    for number, lease in enumerate(await bench.claim("agent")):
        await bench.commit(lease=lease, more=[bench.note(f"out {number}", slot=0, activation_id=lease.activation.id)])
    assert await bench.board() == ["a", "b", "out 0", "out 1"]


async def a_stale_commit_changes_nothing_whatever_it_carries(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    await bench.store.release(lease)
    record = bench.note("b")
    tick = Tick(bench.target("timer"), RUN, 1, bench.clock.now())
    direct = Direct("d", bench.target("direct"), (record,), RUN)
    for settle in (None, Settle("done"), Settle("retry", 1.0)):
        async with bench.refused(Stale):
            await bench.commit(
                Offer(bench.target("next"), record), ticks=(tick,), direct=direct, lease=lease, settle=settle
            )


async def a_full_board_refuses_with_backpressure_until_there_is_room(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", max_pending=1)
    async with bench.refused(Backpressure):
        await bench.put(agent, "b", max_pending=1)
    await bench.put(agent, "c")
    await bench.put(agent, "d", max_pending=3)
    for lease in await bench.claim("agent"):
        await bench.settle(lease)
    await bench.put(agent, "e", max_pending=1)
    assert await bench.board() == ["a", "c", "d", "e"]


async def a_repeat_is_answered_even_by_a_full_board(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", max_pending=1)
    again = await bench.put(agent, "a", max_pending=1)
    assert ids(again.records) == ["a"]


async def a_direct_activation_has_just_the_given_inputs(bench: Bench) -> None:
    await bench.invoke("d", "agent", bench.note("a"), bench.note("b"))
    lease = await bench.one("agent")
    activation = lease.activation
    assert (activation.id, inputs(lease), activation.trigger) == ("d", ["a", "b"], "direct")
    assert (activation.run, activation.trace_context) == (RUN, "00-trace")


async def a_direct_activation_with_a_known_id_is_made_once(bench: Bench) -> None:
    await bench.invoke("d", "agent")
    await bench.invoke("d", "agent")
    await bench.settle(await bench.one("agent"))
    await bench.invoke("d", "agent")
    found = await bench.store.activation("d")
    assert found is not None
    assert found.state is State.DONE
    assert await bench.claim("agent") == []


async def a_direct_activation_counts_for_the_runs_of_its_inputs(bench: Bench) -> None:
    (there,) = (await bench.commit(more=[bench.note("a", run="there")])).records
    await bench.invoke("d", "agent", there, run="here")
    lease = await bench.one("agent")
    assert lease.activation.run == "here"
    assert set(lease.activation.runs) == {"here", "there"}
    assert [await bench.store.work(run) for run in ("here", "there", None)] == [1, 1, 1]
