"""Gates and conditions: offers wait until everything needed is there."""
# ruff: noqa: D103, S101 - each rule is a sentence by its name, and asserts it

from __future__ import annotations

from flock.declaring.conditions import When
from flock.model.collect import Gather, Hold
from flock.model.ledger import Commit, Offer
from flock.testing.store_contract.bench import RUN, Bench, Mark, inputs

PAIR = Gather(need=(1, 1))


async def a_gate_fires_when_every_slot_has_what_it_needs(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.put(gate, "b", slot=1)
    assert await bench.claim("gate") == []
    await bench.put(gate, "a", slot=0)
    lease = await bench.one("gate")
    assert inputs(lease) == ["a", "b"]
    assert (lease.activation.is_batch, lease.activation.groups) == (False, ())


async def a_gate_may_need_several_of_a_slot(bench: Bench) -> None:
    gate = bench.target("gate", Gather(need=(2, 1)))
    await bench.put(gate, "a", slot=0)
    await bench.put(gate, "b", slot=1)
    assert await bench.fired("gate") == []
    await bench.put(gate, "c", slot=0)
    assert await bench.fired("gate") == [["a", "c", "b"]]


async def a_surplus_waits_for_the_next_completion_first_in_first_out(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.put(gate, "a1", "a2", "a3", slot=0)
    await bench.put(gate, "b1", "b2", slot=1)
    assert await bench.fired("gate") == [["a1", "b1"], ["a2", "b2"]]
    await bench.put(gate, "b3", slot=1)
    assert await bench.fired("gate") == [["a3", "b3"]]


async def one_commit_may_complete_a_gate_several_times(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    offers = [Offer(gate, bench.note(name), slot) for name, slot in (("a", 0), ("b", 1), ("c", 1), ("d", 0))]
    await bench.commit(*offers)
    assert await bench.fired("gate") == [["a", "b"], ["d", "c"]]


async def an_incomplete_gate_is_no_work_but_waits(bench: Bench) -> None:
    await bench.put(bench.target("gate", PAIR), "a")
    assert await bench.store.work(RUN) == 0
    assert (await bench.store.progress(RUN)).collecting == 1
    (found,) = await bench.store.waiting(RUN)
    assert (found.reason, found.agent, found.run, found.artifacts) == ("gate", "gate", RUN, ("a",))


async def a_gate_collects_within_a_run(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.put(gate, "a", run="one", slot=0)
    await bench.put(gate, "b", run="two", slot=1)
    assert await bench.fired("gate") == []
    await bench.put(gate, "c", run="one", slot=1)
    assert await bench.fired("gate") == [["a", "c"]]


async def a_board_wide_gate_crosses_runs_and_counts_for_each(bench: Bench) -> None:
    gate = bench.target("gate", PAIR, board_wide=True)
    await bench.put(gate, "a", run="one", slot=0)
    await bench.put(gate, "b", run="two", slot=1)
    assert [await bench.store.work(run) for run in ("one", "two", None)] == [1, 1, 1]
    lease = await bench.one("gate")
    assert (lease.activation.run, lease.activation.runs) == ("two", ("two", "one"))
    answer = await bench.settle(lease)
    assert set(answer.quiet) == {"one", "two"}
    assert [(await bench.store.progress(run)).succeeded for run in ("one", "two", None)] == [1, 1, 1]


async def the_run_of_a_board_wide_firing_is_that_of_its_latest_input(bench: Bench) -> None:
    gate = bench.target("gate", PAIR, board_wide=True)
    await bench.put(gate, "b", run="one", slot=1)
    await bench.put(gate, "a", run="two", slot=0)
    lease = await bench.one("gate")
    assert (inputs(lease), lease.activation.run) == (["a", "b"], "two")


async def two_subscriptions_collect_on_their_own(bench: Bench) -> None:
    left, right = bench.target("left", PAIR), bench.target("right", PAIR)
    shared = bench.note("a")
    await bench.commit(Offer(left, shared, 0), Offer(right, shared, 0))
    await bench.put(right, "b", slot=1)
    assert await bench.fired("left", "right") == [["a", "b"]]


async def what_a_gate_holds_is_there_after_the_store_is_opened_again(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.put(gate, "a", slot=0)
    await bench.reopen()
    await bench.put(gate, "b", slot=1)
    assert await bench.fired("gate") == [["a", "b"]]


async def a_condition_holds_inputs_back_and_then_fires_each_by_itself(bench: Bench) -> None:
    held = bench.target("held", Hold(condition=When.count(Mark).at_least(2)))
    await bench.put(held, "a", "b")
    assert (await bench.store.work(RUN), len(await bench.store.waiting(RUN))) == (0, 1)
    await bench.commit(Offer(held, bench.note("m1", kind=Mark), -1))
    assert await bench.fired("held") == []
    await bench.commit(Offer(held, bench.note("m2", kind=Mark), -1))
    assert await bench.fired("held") == [["a"], ["b"]]
    await bench.put(held, "c")
    assert await bench.fired("held") == [["c"]]


async def a_condition_counts_what_came_before_the_inputs(bench: Bench) -> None:
    held = bench.target("held", Hold(condition=When.exists(Mark)))
    await bench.commit(Offer(held, bench.note("m", kind=Mark), -1))
    await bench.put(held, "a")
    assert await bench.fired("held") == [["a"]]


async def a_condition_counts_within_a_run(bench: Bench) -> None:
    held = bench.target("held", Hold(condition=When.exists(Mark)))
    await bench.put(held, "a")
    await bench.commit(Offer(held, bench.note("m", kind=Mark, run="other"), -1))
    assert await bench.fired("held") == []


async def a_gate_may_stand_before_a_condition(bench: Bench) -> None:
    both = bench.target("both", PAIR, Hold(condition=When.exists(Mark)))
    await bench.put(both, "a", slot=0)
    await bench.put(both, "b", slot=1)
    assert await bench.fired("both") == []
    await bench.commit(Offer(both, bench.note("m", kind=Mark), -1))
    assert await bench.fired("both") == [["a", "b"]]


async def an_offer_for_later_counts_from_its_time_on(bench: Bench) -> None:
    agent = bench.target("agent")
    when = bench.clock.now() + 30.0
    answer = await bench.commit(Offer(agent, bench.note("a"), not_before=when))
    assert answer.due == when
    assert (await bench.store.work(RUN), await bench.board()) == (0, ["a"])
    (found,) = await bench.store.waiting(RUN)
    assert (found.reason, found.due, found.artifacts) == ("after", when, ("a",))
    await bench.wait(29.0)
    assert await bench.claim("agent") == []
    assert [inputs(lease) for lease in (await bench.wait(1.0, {"agent": 1})).leases] == [["a"]]


async def an_offer_for_later_enters_a_gate_at_its_time(bench: Bench) -> None:
    gate = bench.target("gate", PAIR)
    await bench.commit(Offer(gate, bench.note("a"), 0, not_before=bench.clock.now() + 30.0))
    await bench.put(gate, "b", slot=1)
    assert await bench.fired("gate") == []
    await bench.wait(30.0)
    assert await bench.fired("gate") == [["a", "b"]]


async def a_replayed_offer_counts_once(bench: Bench) -> None:
    agent, gate = bench.target("agent"), bench.target("gate", PAIR)
    (known,) = (await bench.commit(more=[bench.note("a")])).records
    replayed = [Offer(agent, known, replayed=True), Offer(gate, known, replayed=True)]
    for _ in range(2):
        await bench.store.commit(_only_offers(replayed))
    assert await bench.fired("agent") == [["a"]]
    await bench.put(gate, "b", "c", slot=1)
    assert await bench.fired("gate") == [["a", "b"]]


async def a_replay_leaves_out_what_the_subscription_has_had(bench: Bench) -> None:
    agent, gate = bench.target("agent"), bench.target("gate", PAIR)
    done = (await bench.put(agent, "done")).records[0]
    await bench.settle(await bench.one("agent"))
    ready = (await bench.put(agent, "ready")).records[0]
    held = (await bench.put(gate, "held")).records[0]
    replayed = [Offer(agent, done, replayed=True), Offer(agent, ready, replayed=True), Offer(gate, held, replayed=True)]
    await bench.store.commit(_only_offers(replayed))
    assert await bench.fired("agent") == [["ready"]]
    await bench.put(gate, "x", "y", slot=1)
    assert await bench.fired("gate") == [["held", "x"]]


def _only_offers(offers: list[Offer]) -> Commit:
    return Commit(offers=offers)
