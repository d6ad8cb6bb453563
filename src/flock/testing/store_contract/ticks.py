"""Schedules: each iteration once, no pile-up."""
# ruff: noqa: D103, PLR2004, S101 - each rule is a sentence by its name, and asserts it with the numbers of an example

from __future__ import annotations

from flock.model.ledger import TimerState
from flock.testing.store_contract.bench import RUN, Bench, inputs


async def a_tick_makes_an_activation_without_inputs(bench: Bench) -> None:
    now = bench.clock.now()
    await bench.tick("agent", 1)
    lease = await bench.one("agent")
    activation = lease.activation
    assert (inputs(lease), activation.trigger, activation.run) == ([], "timer", RUN)
    assert (activation.iteration, activation.fire_time) == (1, now)
    assert await bench.store.timers() == {"agent": TimerState(1, now, 0)}


async def each_iteration_fires_once(bench: Bench) -> None:
    await bench.tick("agent", 1)
    await bench.settle(await bench.one("agent"))
    before = await bench.everything(RUN)
    answer = await bench.tick("agent", 1)
    assert list(answer.skipped) == []
    assert await bench.everything(RUN) == before


async def a_tick_that_finds_its_predecessor_open_is_skipped_and_counted(bench: Bench) -> None:
    await bench.tick("agent", 1)
    answer = await bench.tick("agent", 2)
    assert [tick.iteration for tick in answer.skipped] == [2]
    lease = await bench.one("agent")
    await bench.tick("agent", 3)
    assert lease.activation.iteration == 1
    assert (await bench.store.timers())["agent"].skipped == 2
    await bench.settle(lease)
    answer = await bench.tick("agent", 4)
    assert list(answer.skipped) == []
    assert (await bench.one("agent")).activation.iteration == 4


async def other_activations_of_an_agent_skip_no_tick(bench: Bench) -> None:
    await bench.put(bench.target("agent"), "a")
    await bench.tick("agent", 1)
    await bench.tick("other", 1)
    assert await bench.fired("agent", "other") == [["a"], [], []]


async def schedules_stand_where_they_stood_after_the_store_is_opened_again(bench: Bench) -> None:
    await bench.tick("agent", 1)
    before = dict(await bench.store.timers())
    await bench.reopen()
    assert await bench.store.timers() == before
    await bench.tick("agent", 1)
    assert len(await bench.claim("agent")) == 1
