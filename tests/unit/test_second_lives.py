"""Programs that come back to their board after something changed: a class, a name, what was pruned or tried again."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from flock import BatchSpec, Failure, Flock, PublishError, flock_type
from flock.model.payload import type_name


@flock_type("shop.Item")
class Item(BaseModel):
    item: str


@flock_type("shop.Item")
class Renamed(BaseModel):
    name: str


class Part(BaseModel):
    number: int


def board(path: Path) -> Flock:
    return Flock(store=f"sqlite:///{path}/board.db?synchronous=normal")


@pytest.mark.parametrize("drain", [False, True])
async def test_a_batch_with_what_can_not_be_loaded_fails_as_a_whole(tmp_path: Path, *, drain: bool) -> None:
    got: list[str] = []

    async def old(items: list[Item]) -> None:
        got.extend(each.item for each in items)

    async def new(items: list[Renamed]) -> None:
        got.extend(each.name for each in items)

    batch = BatchSpec(size=3, timeout=timedelta(hours=1)) if drain else BatchSpec(size=3)
    async with board(tmp_path) as flock:
        flock.agent("pack").consumes(Item, batch=batch, name="threes").calls(old)
        await flock.publish_many([Item(item="pen"), Item(item="ink")])
    async with board(tmp_path) as flock:
        flock.agent("pack").consumes(Renamed, batch=batch, name="threes").calls(new)
        if not drain:
            await flock.publish(Renamed(name="cup"))
        report = await flock.run_until_idle(drain=drain, timeout=10)
        assert (report.succeeded, report.failed, got) == (0, 1, [])
        (failure,) = await flock.store.query(Failure)
        assert "can't be loaded: name: Field required" in failure.payload.message
    async with board(tmp_path) as flock:  # a program that can read them
        flock.agent("pack").consumes(Item, batch=batch, name="threes").calls(old)
        if not drain:
            return
        assert await flock.retry(all=True)
        await flock.run_until_idle(timeout=10)
        assert got == ["pen", "ink"]


async def test_a_subscription_is_known_by_the_stable_names_of_its_types() -> None:
    """So the same file keeps what waits whether it is run as a script, which makes it `__main__`, or by the command."""
    there = type("Part", (BaseModel,), {"__module__": "elsewhere", "__annotations__": {"number": int}})
    moved: type[BaseModel] = flock_type(type_name(Part))(there)
    ids: list[str] = []
    classes: list[type[BaseModel]] = [Part, moved, there]
    for cls in classes:
        async with Flock() as flock:
            flock.agent("pack").consumes(cls, batch=BatchSpec(size=2)).calls(lambda _: None)
            await flock.publish(cls.model_validate({"number": 1}))
            ids += [each.subscription for each in (await flock.run_until_idle()).waiting]
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_what_was_pruned_is_known_when_it_is_published_again(tmp_path: Path) -> None:
    async with board(tmp_path) as flock:
        await flock.publish(Part(number=1), id="p1", tags={"urgent"})
        await flock.publish(Item(item="pen"))
        await flock.store.prune(types=[Part])
        again = await flock.publish(Part(number=1), id="p1", tags={"urgent"})
        assert again.sequence == 1
        with pytest.raises(PublishError, match="other content"):
            await flock.publish(Item(item="pen"), id="p1")
        assert [type(each.payload) for each in await flock.store.list()] == [Item]


async def test_a_run_whose_failures_were_made_good_has_succeeded(tmp_path: Path) -> None:
    ready: list[bool] = []

    async def pack(part: Part) -> None:
        if not ready:
            raise ValueError("not yet")

    async with board(tmp_path) as flock:
        flock.agent("pack").consumes(Part).calls(pack)
        await flock.publish(Part(number=1), correlation_id="one")
        await flock.run_until_idle()
        assert (await flock.status("one")).state == "failed"
        ready.append(True)
        await flock.retry(all=True)
        await flock.run_until_idle()
        status = await flock.status("one")
        assert (status.state, status.succeeded, status.failed) == ("succeeded", 1, 0)


async def test_a_predicate_that_raised_leaves_a_run_failed() -> None:
    def choose(part: Part) -> bool:
        raise ValueError("no")

    async with Flock() as flock:
        flock.agent("pack").consumes(Part, where=choose).calls(lambda _: None)
        await flock.publish(Part(number=1), correlation_id="one")
        await flock.run_until_idle()
        assert (await flock.status("one")).state == "failed"
