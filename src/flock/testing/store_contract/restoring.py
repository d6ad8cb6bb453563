"""Restoring: an empty store becomes the board that an image shows."""
# ruff: noqa: D103, PLR2004, S101 - each rule is a sentence by its name, and asserts it with the numbers of an example

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flock.board.image import (
    ActivationImage,
    CollectorImage,
    HeldImage,
    Moment,
    OfferImage,
    Piece,
    RunImage,
    TimerImage,
)
from flock.board.ports import restorable
from flock.declaring.conditions import When
from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold
from flock.model.errors import RunCancelledError, StoreError
from flock.model.ledger import Offer, State, TimerState
from flock.model.payload import Unreadable, type_name
from flock.testing.store_contract.bench import RUN, Bench, Note, ids, inputs

AGENT = "agent"
PLACE = f"{AGENT}/only", AGENT, RUN


async def a_restored_board_has_the_artifacts_of_the_image_at_their_places(bench: Bench) -> None:
    a, b = _at(2, bench.note("a", tags=frozenset({"x"}))), _at(3, bench.note("b", parents=("a",)))
    b.snapshot = Unreadable(type=b.type, version=1, content='{"text":"b"}', reason="nobody has read it yet")
    await restorable(bench.store).restore([[Moment(5, bench.clock.now())], [a, b]])
    found = await bench.store.follow(0, 9)
    assert [(each.id, each.sequence, each.tags, each.snapshot) for each in found] == [
        ("a", 2, {"x"}, Note(text="a")),
        ("b", 3, frozenset(), Note(text="b")),
    ]
    assert ids(await bench.store.children(["a"])) == ["b"]
    progress = await bench.store.progress()
    assert (progress.sequence, progress.artifacts) == (5, 2)
    (new,) = (await bench.commit(more=[bench.note("c")])).records
    assert new.sequence == 6


async def of_what_was_pruned_a_restored_board_has_the_lineage_alone(bench: Bench) -> None:
    gone = Unreadable(type=type_name(Note), version=1, content="", reason="pruned")
    a, b = _at(1, bench.note("a", snapshot=gone)), _at(2, bench.note("b", parents=("a",)))
    await restorable(bench.store).restore([[Moment(2, bench.clock.now())], [a, b]])
    assert await bench.board() == ["b"]
    assert ids(await bench.store.get(["a", "b"])) == ["a", "b"]
    assert ids(await bench.store.children(["a"])) == ["b"]
    assert (await bench.store.progress(RUN)).artifacts == 1


async def activations_stand_where_the_image_has_them(bench: Bench) -> None:
    due = bench.clock.now() + 60.0
    await _restore(
        bench,
        _activation(1, [1]),
        _activation(2, [2], state="delayed", attempt=2, due=due, error="no"),
        _activation(3, [1], state="failed", attempt=3, error="never", ended=3),
    )
    failed = await bench.store.activation("first-3")
    assert failed is not None
    assert (failed.state, failed.attempt, failed.error, ids(failed.inputs)) == (State.FAILED, 3, "never", ["a"])
    assert [each.activation for each in await bench.store.consumptions("b")] == ["first-2"]
    progress = await bench.store.progress(RUN)
    assert (progress.ready, progress.delayed, progress.failed) == (1, 1, 1)
    lease = await bench.one(AGENT)
    assert (inputs(lease), lease.attempt, lease.activation.id) == (["a"], 1, "first-1")
    (late,) = (await bench.wait(60.0, {AGENT: 2})).leases
    assert (inputs(late), late.attempt) == (["b"], 3)
    await bench.settle(lease)
    assert list((await bench.settle(late)).quiet) == [RUN]


async def the_next_attempt_finds_what_an_earlier_one_has_put_down(bench: Bench) -> None:
    early = _at(4, bench.note("early", activation_id="first-1", slot=0))
    await _restore(bench, _activation(1, [1]), more=[early])
    lease = await bench.one(AGENT)
    outputs = [bench.note(f"late {slot}", activation_id="first-1", slot=slot) for slot in range(2)]
    answer = await bench.settle(lease, more=outputs)
    assert ids(answer.records) == ["early", "late 1"]
    assert await bench.board() == ["a", "b", "c", "early", "late 1"]


async def collectors_go_on_with_what_they_held(bench: Bench) -> None:
    gate = bench.target(AGENT, Gather(need=(2, 1)))
    await _restore(bench, CollectorImage(1, *PLACE, 2), _held(bench, 1, 1), _held(bench, 2, 2))
    (waits,) = await bench.store.waiting(RUN)
    assert (waits.agent, waits.subscription, waits.artifacts) == (AGENT, gate.subscription, ("a", "b"))
    await bench.put(gate, "d", slot=1)
    assert await bench.fired(AGENT) == [["a", "b", "d"]]
    assert [each.reason for each in await bench.store.waiting()] == ["running"]


async def windows_and_timed_batches_end_when_they_would_have(bench: Bench) -> None:
    batch = bench.target(AGENT, Batch(timeout=60.0), batches=True)
    came = _held(bench, 1, 1, timed=True)
    bench.clock.advance_to(bench.clock.now() + 30.0)
    await _restore(bench, CollectorImage(1, *PLACE, 1, 0.0), came)
    bench.store.declare([batch])
    assert await bench.store.work(RUN) == 1
    assert list((await bench.wait(29.0, {AGENT: 1})).leases) == []
    (lease,) = (await bench.wait(1.0, {AGENT: 1})).leases
    assert inputs(lease) == ["a"]


async def what_waits_for_a_subscription_that_nobody_has_is_told_and_kept(bench: Bench) -> None:
    late = OfferImage(bench.clock.now() + 9.0, *PLACE[:2], 2, RUN, 0, "")
    await _restore(bench, CollectorImage(1, *PLACE, 1, 0.0), _held(bench, 1, 1), late)
    assert sorted((each.reason, each.artifacts) for each in await bench.store.waiting()) == [
        ("after", ("b",)),
        ("gate", ("a",)),
    ]
    await bench.wait(10.0)
    assert len(await bench.store.waiting()) == 2
    bench.target(AGENT, Batch(size=2), batches=True)
    await bench.wait(0.0)
    assert await bench.fired(AGENT) == [["a", "b"]]


async def counters_stand_where_they_stood(bench: Bench) -> None:
    hold = bench.target(AGENT, Hold(When.count(Note).at_least(3)))
    await _restore(bench, CollectorImage(1, *PLACE, 1, None, (2,)), _held(bench, 1, 1))
    assert await bench.fired(AGENT) == []
    await bench.commit(Offer(hold, bench.note("d"), -1))
    assert await bench.fired(AGENT) == [["a"]]


async def schedules_and_cancelled_runs_are_restored(bench: Bench) -> None:
    await _restore(bench, RunImage("gone", 0, 0.0, 2), TimerImage(AGENT, 1, 1, 5.0, 0), TimerImage(AGENT, 2, 4, 8.0, 1))
    assert await bench.store.timers() == {AGENT: TimerState(4, 8.0, 1)}
    async with bench.refused(RunCancelledError, "gone"):
        await bench.commit(more=[bench.note("d", run="gone")])


async def only_an_empty_store_is_restored(bench: Bench) -> None:
    await bench.commit(more=[bench.note("d")])
    async with bench.refused(StoreError):
        await _restore(bench)


async def a_store_stays_empty_when_an_image_breaks_off(bench: Bench) -> None:
    def broken() -> Iterator[Sequence[Piece]]:
        yield from _image(bench)
        raise StoreError("the disk is gone")

    async with bench.refused(StoreError):
        await restorable(bench.store).restore(broken())
    await _restore(bench)
    assert await bench.board() == ["a", "b", "c"]


def _at(sequence: int, record: Record) -> Record:
    record.sequence = sequence
    return record


def _image(bench: Bench, *pieces: Piece, more: Sequence[Record] = ()) -> list[Sequence[Piece]]:
    """Give an image of a board with three notes, and more."""
    notes = [_at(sequence, bench.note(id)) for sequence, id in enumerate("abc", 1)]
    return [[Moment(3 + len(more), bench.clock.now())], [*notes, *more], [RunImage(RUN, 0, 0.0)], pieces]


async def _restore(bench: Bench, *pieces: Piece, more: Sequence[Record] = ()) -> None:
    await restorable(bench.store).restore(_image(bench, *pieces, more=more))


def _activation(number: int, parts: Sequence[int], **state: Any) -> ActivationImage:  # noqa: ANN401 - its other fields
    return ActivationImage(
        number, f"first-{number:x}", AGENT, f"{AGENT}/only", RUN, (RUN,), 0, "artifact", parts, number, 1, **state
    )


def _held(bench: Bench, position: int, sequence: int, *, timed: bool = False) -> HeldImage:
    now = bench.clock.now()
    return HeldImage(1, 0, "", 0, position, now, sequence, ((sequence,),), (RUN,), timed, sequence)
