"""P8: inputs come in the declared type order, then by sequence, in every process and with every hash seed."""

import itertools
import os
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from pydantic import BaseModel

from flock import AfterVisibility, BatchSpec, Context, EvalInputs, Flock, JoinSpec
from flock.testing import FakeClock


class A(BaseModel):
    n: int = 0
    key: int = 0


class B(BaseModel):
    n: int = 0
    key: int = 0


class C(BaseModel):
    n: int = 0
    key: int = 0


class SpecialA(A):
    pass


def by_key(it: A | B | C) -> int:
    return it.key


def names(inputs: EvalInputs) -> list[str]:
    return [f"{type(artifact.payload).__name__}{artifact.payload.n}" for artifact in inputs.artifacts]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")), ids="".join)
@pytest.mark.parametrize("joined", [False, True], ids=["gate", "join"])
async def test_p08_inputs_come_in_declared_order_however_they_arrive(
    flock: Flock, order: tuple[str, ...], *, joined: bool
) -> None:
    fired: list[list[str]] = []
    join = JoinSpec(by=by_key, within=timedelta(hours=1)) if joined else None

    @flock.agent("see").consumes(C, A, B, join=join)
    async def see(inputs: EvalInputs) -> None:
        fired.append(names(inputs))

    for letter in order:
        await flock.publish({"a": A(), "b": B(), "c": C()}[letter])
    await flock.run_until_idle()
    assert fired == [["C0", "A0", "B0"]]


async def test_p08_within_a_type_inputs_come_by_sequence(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("see").consumes(B, A, B, A, A)
    async def see(inputs: EvalInputs) -> None:
        fired.append(names(inputs))

    await flock.publish_many([A(n=1), B(n=2), A(n=3), A(n=4), B(n=5)])
    await flock.run_until_idle()
    assert fired == [["B2", "B5", "A1", "A3", "A4"]]


async def test_p08_the_time_of_becoming_visible_does_not_change_the_order(clock: FakeClock) -> None:
    fired: list[list[str]] = []
    async with Flock(clock=clock) as flock:

        @flock.agent("see").consumes(A, A, A)
        async def see(inputs: EvalInputs) -> None:
            fired.append(names(inputs))

        await flock.publish(A(n=1), visibility=AfterVisibility(ttl=timedelta(seconds=9)))
        await flock.publish_many([A(n=2), A(n=3)])
        await clock.advance(10)
        await flock.run_until_idle()
    assert fired == [["A1", "A2", "A3"]]


async def test_p08_a_subclass_takes_the_place_of_the_declared_type(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("see").consumes(A, B)
    async def see(inputs: EvalInputs) -> None:
        fired.append(names(inputs))

    await flock.publish(B(n=1))
    await flock.publish(SpecialA(n=2))
    await flock.run_until_idle()
    assert fired == [["SpecialA2", "B1"]]


async def test_p08_a_subclass_that_is_declared_itself_goes_to_its_own_place(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("see").consumes(A, SpecialA)
    async def see(inputs: EvalInputs) -> None:
        fired.append(names(inputs))

    await flock.publish(SpecialA(n=1))
    await flock.publish(A(n=2))
    await flock.run_until_idle()
    assert fired == [["A2", "SpecialA1"]]


async def test_p08_function_parameters_may_stand_in_any_order(flock: Flock) -> None:
    seen: list[tuple[int, int]] = []

    @flock.agent("see").consumes(B, A)
    async def see(ctx: Context, a: A, *, b: B) -> None:
        seen.append((a.n, b.n))

    await flock.publish_many([A(n=1), B(n=2)])
    await flock.run_until_idle()
    assert seen == [(1, 2)]


async def test_p08_a_batch_comes_by_sequence(flock: Flock) -> None:
    fired: list[list[str]] = []

    @flock.agent("see").consumes(A, batch=BatchSpec(size=3))
    async def see(inputs: EvalInputs) -> None:
        fired.append(names(inputs))

    await flock.publish_many([A(n=1), SpecialA(n=2), A(n=3)])
    await flock.run_until_idle()
    assert fired == [["A1", "SpecialA2", "A3"]]


async def test_p08_a_batch_of_joins_keeps_each_group_in_order_and_groups_as_they_fired(flock: Flock) -> None:
    fired: list[list[str]] = []
    groups: list[list[str]] = []

    join = JoinSpec(by=by_key, within=timedelta(hours=1))

    @flock.agent("see").consumes(B, A, join=join, batch=BatchSpec(size=2))
    async def see(inputs: EvalInputs, ctx: Context) -> None:
        assert ctx.is_batch
        fired.append(names(inputs))
        groups.extend([f"{type(each.payload).__name__}{each.payload.n}" for each in group] for group in inputs.groups)

    await flock.publish_many([A(n=1, key=1), A(n=2, key=2), B(n=3, key=2), B(n=4, key=1)])
    await flock.run_until_idle()
    assert fired == [["B3", "A2", "B4", "A1"]]
    assert groups == [["B3", "A2"], ["B4", "A1"]]


async def test_p08_a_batch_of_gates_gives_its_groups_as_tuples(flock: Flock) -> None:
    pairs: list[list[tuple[int, int]]] = []

    @flock.agent("see").consumes(B, A, batch=BatchSpec(size=2))
    async def see(found: list[tuple[B, A]]) -> None:
        pairs.append([(b.n, a.n) for b, a in found])

    await flock.publish_many([A(n=1), A(n=2), B(n=3), B(n=4)])
    await flock.run_until_idle()
    assert pairs == [[(3, 1), (4, 2)]]


async def test_p08_without_a_batch_there_are_no_groups(flock: Flock) -> None:
    groups: list[int] = []

    @flock.agent("see").consumes(A, B)
    async def see(inputs: EvalInputs) -> None:
        groups.append(len(inputs.groups))

    await flock.publish_many([A(), B()])
    await flock.run_until_idle()
    assert groups == [0]


async def test_p08_agents_that_one_artifact_fires_start_as_they_were_registered(flock: Flock) -> None:
    started: list[str] = []
    for name in ("zoe", "adam", "mia"):

        @flock.agent(name).consumes(A)
        async def see(inputs: EvalInputs, name: str = name) -> None:
            started.append(name)

    await flock.publish(A())
    await flock.run_until_idle()
    assert started == ["zoe", "adam", "mia"]


PROGRAM = """
    from datetime import timedelta
    from pydantic import BaseModel
    from flock import BatchSpec, EvalInputs, Flock, JoinSpec, run_sync
    from flock.testing import FakeClock

    kinds = [type(name, (BaseModel,), {"__annotations__": {"n": int}, "__module__": "m"}) for name in "ABCDEFGH"]

    async def main():
        async with Flock(clock=FakeClock()) as flock:
            async def see(inputs: EvalInputs):
                print([type(a.payload).__name__ + str(a.payload.n) for a in inputs.artifacts])
            flock.agent("gate").consumes(*kinds).calls(see)
            join = JoinSpec(by=lambda it: str(it.n), within=timedelta(hours=1))
            flock.agent("join").consumes(*kinds[:3], join=join, batch=BatchSpec(size=2)).calls(see)
            flock.agent("tagged").consumes(kinds[7], kinds[0], tags={"x", "y", "z"}).calls(see)
            for n in (1, 2):
                await flock.publish_many([kind(n=n) for kind in reversed(kinds)], tags={"z", "x", "y", "w"})
            await flock.run_until_idle()
            print([(a.id, a.type, sorted(a.tags)) for a in await flock.store.list()])
            print(sorted(s.id for s in flock.get_agent("join").subscriptions))
            print([a.id for a in await flock.store.query(set(kinds))])

    run_sync(main)
"""


@pytest.mark.memory
def test_p08_the_order_is_the_same_with_every_hash_seed() -> None:
    program = textwrap.dedent(PROGRAM)
    outputs = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2", "42")
    }  # fmt: skip
    (output,) = outputs
    assert "['A1', 'B1', 'C1', 'D1', 'E1', 'F1', 'G1', 'H1']" in output
    assert "['A1', 'B1', 'C1', 'A2', 'B2', 'C2']" in output
    assert "['H1', 'A1']" in output
