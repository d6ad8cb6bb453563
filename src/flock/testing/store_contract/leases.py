"""A lease fences an attempt: claim, release, retry, defer, recovery."""
# ruff: noqa: D103, S101 - each rule is a sentence by its name, and asserts it

from __future__ import annotations

from flock.model.errors import Stale
from flock.model.ledger import Offer, Outcome, Settle, State
from flock.testing.store_contract.bench import RUN, Bench, inputs


async def a_claimed_activation_is_nobody_elses(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    assert (lease.attempt, inputs(lease)) == (1, ["a"])
    assert await bench.claim("agent") == []
    assert (await bench.store.progress(RUN)).running == 1


async def the_highest_priority_comes_first_then_the_oldest(bench: Bench) -> None:
    low, high = bench.target("agent"), bench.target("agent", priority=5)
    await bench.put(low, "a", "b")
    await bench.put(high, "c", "d")
    assert await bench.fired("agent") == [["c"], ["d"], ["a"], ["b"]]


async def priority_decides_between_agents_when_not_all_are_asked_for(bench: Bench) -> None:
    await bench.put(bench.target("low"), "a", "b")
    await bench.put(bench.target("high", priority=5), "c")
    await bench.put(bench.target("low"), "d")
    taken = await bench.claim("low", "high", most=2)
    assert [inputs(lease) for lease in taken] == [["c"], ["a"]]
    assert [lease.attempt for lease in await bench.claim("low", "high")] == [1, 1]


async def a_free_place_goes_to_the_highest_priority_then_to_the_oldest(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    await bench.put(bench.target("agent", priority=5), "c")
    order: list[str] = []
    for _ in range(3):
        (lease,) = await bench.claim("agent", limit=1)
        order += inputs(lease)
        await bench.settle(lease)
    assert order == ["c", "a", "b"]


async def no_agent_runs_more_than_its_limit(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b", "c")
    first = await bench.claim("agent", limit=2)
    assert [inputs(lease) for lease in first] == [["a"], ["b"]]
    assert await bench.claim("agent", limit=2) == []
    await bench.settle(first[1])
    assert [inputs(lease) for lease in await bench.claim("agent", limit=2)] == [["c"]]


async def only_the_named_agents_are_claimed(bench: Bench) -> None:
    await bench.put(bench.target("one"), "a")
    await bench.put(bench.target("other"), "b")
    assert await bench.fired("other", "unknown") == [["b"]]
    assert await bench.claim() == []


async def the_epoch_rises_at_claim_and_release(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    first = await bench.one("agent")
    await bench.store.release(first)
    released = await bench.store.activation(first.activation.id)
    assert released is not None
    between = released.epoch
    second = await bench.one("agent")
    assert second.epoch > between > first.epoch
    for lease_is_stale in (None, Settle("done"), Settle("failed")):
        async with bench.refused(Stale):
            await bench.commit(lease=first, settle=lease_is_stale, more=[bench.note("b")])
    await bench.settle(second)


async def a_released_attempt_is_not_counted(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.store.release(await bench.one("agent"))
    progress = await bench.store.progress(RUN)
    assert (progress.ready, progress.running) == (1, 0)
    assert (await bench.one("agent")).attempt == 1


async def releasing_what_is_no_longer_held_changes_nothing(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    first, second = await bench.claim("agent")
    await bench.store.release(first)
    await bench.settle(second)
    held = await bench.one("agent")
    before = await bench.everything(RUN)
    await bench.store.release(first)
    await bench.store.release(second)
    assert await bench.everything(RUN) == before
    await bench.settle(held)


async def a_retry_is_ready_again_after_its_delay(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    answer = await bench.settle(lease, Settle("retry", 10.0, "stumbled"))
    assert answer.due == bench.clock.now() + 10.0
    assert list(answer.quiet) == []
    assert (await bench.store.progress(RUN)).delayed == 1
    early = await bench.wait(9.0, {"agent": 1})
    assert list(early.leases) == []
    assert early.due == bench.clock.now() + 1.0
    (again,) = (await bench.wait(1.0, {"agent": 1})).leases
    assert (again.attempt, again.activation.id) == (2, lease.activation.id)
    async with bench.refused(Stale):
        await bench.settle(lease, more=[bench.note("b")])


async def a_retry_may_come_with_artifacts(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.settle(await bench.one("agent"), Settle("retry", 1.0), more=[bench.note("b")])
    assert await bench.board() == ["a", "b"]


async def a_deferred_attempt_is_not_counted(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.settle(await bench.one("agent"), Settle("defer", 1.0))
    assert await bench.store.work(RUN) == 1
    await bench.wait(1.0)
    lease = await bench.one("agent")
    assert (lease.attempt, lease.activation.deferrals) == (1, 1)


async def a_delayed_activation_frees_its_agents_place(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a", "b")
    (first,) = await bench.claim("agent", limit=1)
    await bench.settle(first, Settle("retry", 10.0))
    assert [inputs(lease) for lease in await bench.claim("agent", limit=1)] == [["b"]]


async def each_outcome_ends_in_its_state(bench: Bench) -> None:
    outcomes: dict[Outcome, State] = {
        "done": State.DONE, "failed": State.FAILED, "cancelled": State.CANCELLED, "skipped": State.CANCELLED
    }  # fmt: skip
    for number, (outcome, state) in enumerate(outcomes.items(), 1):
        await bench.put(bench.target("agent"), outcome)
        lease = await bench.one("agent")
        answer = await bench.settle(lease, Settle(outcome, 0.0, "why"))
        found = await bench.store.activation(lease.activation.id)
        assert found is not None
        assert (found.state, found.error) == (state, "why")
        assert list(answer.quiet) == [RUN]
        progress = await bench.store.progress(RUN)
        assert progress.succeeded + progress.failed + progress.cancelled == number
    progress = await bench.store.progress(RUN)
    assert (progress.succeeded, progress.failed, progress.cancelled) == (1, 1, 2)


async def an_open_activation_tells_where_it_stands(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    lease = await bench.one("agent")
    key = lease.activation.id
    running = await bench.store.activation(key)
    assert running is not None
    assert (running.state, running.epoch, running.attempt) == (State.RUNNING, lease.epoch, 1)
    await bench.settle(lease, Settle("retry", 5.0))
    delayed = await bench.store.activation(key)
    assert delayed is not None
    assert (delayed.state, delayed.due) == (State.DELAYED, bench.clock.now() + 5.0)
    assert await bench.store.activation("unknown") is None


async def activations_of_an_agent_are_counted_until_its_run_is_idle(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", "b")
    first, second = await bench.claim("agent")
    assert [first.activation.ordinal, second.activation.ordinal] == [1, 2]
    await bench.settle(first)
    await bench.settle(second)
    await bench.put(agent, "c")
    assert (await bench.one("agent")).activation.ordinal == 1


async def what_ran_when_the_store_closed_runs_again_and_nothing_else_has_changed(bench: Bench) -> None:
    agent = bench.target("agent")
    await bench.put(agent, "a", "b", "c")
    done, held, late = await bench.claim("agent")
    await bench.settle(done, more=[bench.note("out")])
    await bench.settle(late, Settle("retry", 10.0))
    opened = await bench.reopen()
    assert opened.due == bench.clock.now() + 10.0
    assert await bench.board() == ["a", "b", "c", "out"]
    again = await bench.one("agent")
    assert inputs(again) == ["b"]
    async with bench.refused(Stale):
        await bench.settle(held, more=[bench.note("x")])
    await bench.settle(again)
    await bench.wait(10.0)
    assert await bench.fired("agent") == [["c"]]


async def one_step_leases_the_most_urgent_first_whoever_it_is_for(bench: Bench) -> None:
    await bench.put(bench.target("urgent", priority=5), "u1", "u2")
    (first,) = await bench.claim("urgent", limit=1)
    offer = Offer(bench.target("calm"), bench.note("c"))
    answer = await bench.commit(offer, lease=first, settle=Settle("done"), limits={"urgent": 1, "calm": 1})
    assert [inputs(lease) for lease in answer.leases] == [["u2"], ["c"]]
