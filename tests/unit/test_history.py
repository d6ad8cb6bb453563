"""Why an artifact exists, why an agent did not have it, and the upkeep of stores that keep."""

import datetime as dt
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    Artifact,
    BatchSpec,
    ConfigurationError,
    Context,
    EvalInputs,
    Failure,
    Flock,
    JoinSpec,
    PrivateVisibility,
    StoreError,
    VisibilityError,
    When,
)
from flock.board.ports import Pruned, Retention
from flock.board.why import WhyNot
from flock.model.ledger import Activation, State
from flock.stores.memory import MemoryStore
from flock.stores.sqlite.store import SQLiteStore
from flock.testing import FakeClock


class Order(BaseModel):
    number: int = 1


class Urgent(Order):
    pass


class Paid(BaseModel):
    number: int = 1


class Parcel(BaseModel):
    orders: int = 1


async def ignore(inputs: EvalInputs) -> None:
    return


class Watched(SQLiteStore):
    """Notes what is to be pruned."""

    retention: Retention | None = None

    @override
    async def prune(self, retention: Retention) -> Pruned:
        self.retention = retention
        return await super().prune(retention)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(autojump=False)


@pytest.fixture(params=[False, True], ids=["memory", "sqlite"])
def keeps(request: pytest.FixtureRequest) -> bool:
    """Say whether the board is one that is kept."""
    return bool(request.param)


@pytest.fixture
async def flock(keeps: bool, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Flock]:  # noqa: FBT001 - a fixture
    async with Flock(clock=clock, store=f"sqlite:///{tmp_path}/board.db" if keeps else "memory://") as board:
        yield board


async def answer(flock: Flock, artifact: Artifact | str, agent: Any) -> WhyNot:
    """Give the only answer of an agent with one subscription."""
    (found,) = await flock.store.why_not(artifact, agent)
    return found


# ---- why


async def test_what_came_from_outside_was_made_by_nobody(flock: Flock) -> None:
    order = await flock.publish(Order())
    assert await flock.store.why(order) == (order, None, ())


async def test_why_names_the_activation_and_its_inputs_in_the_order_it_had_them(flock: Flock) -> None:
    tries: list[str] = []

    @(flock.agent("pack").consumes(Order, Paid, name="both").retry(2, delay=0))
    async def pack(order: Order, paid: Paid, ctx: Context) -> Parcel:
        tries.append(ctx.activation_id)
        if len(tries) == 1:
            raise ConnectionError("busy")
        return Parcel()

    paid = await flock.publish(Paid())
    order = await flock.publish(Order())
    await flock.run_until_idle()
    (parcel,) = await flock.store.query(Parcel)
    why = await flock.store.why(parcel.id)
    assert why.artifact == parcel
    assert why.made_by == (tries[0], "pack", "pack/both", 2, "done")
    assert why.inputs == (order, paid)


async def test_a_failure_says_which_attempt_made_it(flock: Flock) -> None:
    @(flock.agent("pack").consumes(Order).retry(3, delay=0))
    async def pack(order: Order) -> Parcel:
        raise ConnectionError("busy")

    order = await flock.publish(Order())
    await flock.run_until_idle()
    (failure,) = await flock.store.query(Failure)
    why = await flock.store.why(failure)
    assert why.made_by is not None
    assert (why.made_by.agent, why.made_by.attempt, why.made_by.state) == ("pack", 3, "failed")
    assert why.inputs == (order,)


async def test_a_stream_is_explained_while_it_runs(flock: Flock) -> None:
    seen: list[str] = []

    @flock.agent("pack")
    async def pack(order: Order, ctx: Context) -> Any:
        parcel = await flock.publish(Parcel())
        made_by = (await flock.store.why(parcel)).made_by
        assert made_by is not None
        seen.append(made_by.state)

    await flock.publish(Order())
    await flock.run_until_idle()
    assert seen == ["running"]


async def test_an_activation_that_the_store_has_forgotten_still_has_its_agent(clock: FakeClock) -> None:
    class Forgetful(MemoryStore):
        @override
        async def activation(self, id: str) -> Activation | None:
            found = await super().activation(id)
            return None if found is None or found.state is State.DONE else found

    async with Flock(clock=clock, store=Forgetful()) as flock:

        @flock.agent
        async def pack(order: Order) -> Parcel:
            return Parcel()

        order = await flock.publish(Order())
        await flock.run_until_idle()
        (parcel,) = await flock.store.query(Parcel)
        assert await flock.store.why(parcel) == (parcel, (parcel.activation_id, "pack", "", 0, "forgotten"), (order,))


async def test_why_of_what_is_not_on_the_board_is_an_error(flock: Flock) -> None:
    with pytest.raises(VisibilityError, match="no artifact 'nothing'"):
        await flock.store.why("nothing")


# ---- why not: what the store knows


async def test_what_was_consumed_names_its_activation(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        return Parcel()

    order = await flock.publish(Order())
    await flock.run_until_idle()
    (parcel,) = await flock.store.query(Parcel)
    found = await answer(flock, order, "pack")
    assert found.subscription.startswith("pack/")
    assert (found.verdict, found.activation) == ("consumed", parcel.activation_id)
    assert found.reason == f"activation {parcel.activation_id} is done"


async def test_what_an_agent_failed_on_was_consumed(flock: Flock) -> None:
    @flock.agent
    async def pack(order: Order) -> Parcel:
        raise ValueError("too large")

    order = await flock.publish(Order())
    await flock.run_until_idle()
    found = await answer(flock, order, pack)
    assert (found.verdict, found.reason.partition(" is ")[2]) == ("consumed", "failed: ValueError: too large")


async def test_what_waits_says_for_what_and_until_when(flock: Flock, clock: FakeClock) -> None:
    join = JoinSpec(by=lambda it: it.number, within=timedelta(minutes=1))
    later = When.exists(Parcel)
    flock.agent("gate").consumes(Order, Paid).calls(ignore)
    flock.agent("join").consumes(Order, Paid, join=join).calls(ignore)
    flock.agent("batch").consumes(Order, batch=BatchSpec(size=3, timeout=30)).calls(ignore)
    flock.agent("when").consumes(Order, when=later).calls(ignore)
    order = await flock.publish(Order())
    await flock.publish(Order(number=2))
    found = {name: await answer(flock, order, name) for name in ("gate", "join", "batch", "when")}
    assert {each.verdict for each in found.values()} == {"waiting"}
    reasons = {name: each.reason.split(", until ")[0] for name, each in found.items()}
    assert reasons == {
        "gate": "gate: holds 2 of 1 Order, 0 of 1 Paid",
        "join": "join: holds 1 of 1 Order, 0 of 1 Paid",
        "batch": "batch: holds 2 of 3",
        "when": "when: holds 2 until its condition is true",
    }
    dues = {name: each.due and round(each.due - order.record.created) for name, each in found.items()}
    assert dues == {"gate": None, "join": 60, "batch": 30, "when": None}
    until = dt.datetime.fromtimestamp(found["batch"].due or 0, dt.UTC).isoformat(sep=" ", timespec="seconds")
    assert found["batch"].reason.endswith(f", until {until}")
    await flock.run_until_idle(drain=True)


async def test_each_subscription_has_its_own_answer(flock: Flock) -> None:
    (
        flock.agent("pack")
        .consumes(Order, name="each")
        .consumes(Order, batch=BatchSpec(size=2), name="pairs")
        .consumes(Order, batch=BatchSpec(size=3), name="threes", where=lambda order: order.number > 1)
        .consumes(Paid, name="paid")
        .calls(ignore)
    )
    order = await flock.publish(Order())
    await flock.publish(Order(number=2))  # waits where the other was refused
    await flock.publish(Order(number=3), correlation_id="another")
    await flock.run_until_idle()
    answers = {each.subscription: each.verdict for each in await flock.store.why_not(order.id, "pack")}
    assert answers == {
        "pack/each": "consumed", "pack/pairs": "consumed", "pack/threes": "refused", "pack/paid": "refused"
    }  # fmt: skip


async def test_what_nobody_may_see_yet_is_delayed_until_it_is_due(flock: Flock, clock: FakeClock) -> None:
    flock.agent("pack").consumes(Order).calls(ignore)
    order = await flock.publish(Order(), visibility=AfterVisibility(ttl=timedelta(hours=1)))
    found = await answer(flock, order, "pack")
    assert (found.verdict, found.due) == ("delayed", order.record.due)
    assert found.reason.startswith("nobody may see it before ")
    await clock.advance(3600)
    await flock.run_until_idle()
    assert (await answer(flock, order, "pack")).verdict == "consumed"


async def test_what_was_let_go_says_how_if_the_store_keeps_that(flock: Flock, clock: FakeClock, *, keeps: bool) -> None:
    join = JoinSpec(by=lambda it: it.number, within=timedelta(seconds=5))
    flock.agent("join").consumes(Order, Paid, join=join).calls(ignore)
    flock.agent("gate").consumes(Order, Paid).calls(ignore)
    order = await flock.publish(Order(), correlation_id="one")
    await clock.advance(6)
    await flock.cancel("one")
    expired, withdrawn = await answer(flock, order, "join"), await answer(flock, order, "gate")
    if keeps:
        assert (expired.verdict, withdrawn.verdict) == ("expired", "withdrawn")
        assert order.record.created + 5 <= (expired.due or 0) <= clock.now()
        at = dt.datetime.fromtimestamp(expired.due or 0, dt.UTC).isoformat(sep=" ", timespec="seconds")
        assert expired.reason == f"given up at the end of its window, {at}"
        assert withdrawn.reason.startswith("its run was cancelled, ")
    else:
        assert (expired.verdict, withdrawn.verdict) == ("gone", "gone")


async def test_a_pair_that_waits_in_a_batch_has_not_been_consumed(flock: Flock, *, keeps: bool) -> None:
    join = JoinSpec(by=lambda it: it.number, within=timedelta(hours=1))
    flock.agent("pairs").consumes(Order, Paid, join=join, batch=BatchSpec(size=2), scope="board").calls(ignore)
    orders = [await flock.publish(Order(number=number), correlation_id=str(number)) for number in range(3)]
    for number in range(3):
        await flock.publish(Paid(number=number), correlation_id=str(number))
    await flock.run_until_idle()
    assert [(await answer(flock, each, "pairs")).verdict for each in orders] == ["consumed", "consumed", "waiting"]
    await flock.cancel("2")
    last = "withdrawn" if keeps else "gone"
    assert [(await answer(flock, each, "pairs")).verdict for each in orders] == ["consumed", "consumed", last]


async def test_what_was_there_before_the_agent_was_missed_unless_it_is_replayed(flock: Flock) -> None:
    order = await flock.publish(Order())
    flock.agent("late").consumes(Order).calls(ignore)
    flock.agent("replay").consumes(Order, replay=True).calls(ignore)
    await flock.run_until_idle()
    found = await answer(flock, order, "late")
    assert (found.verdict, found.reason) == ("missed", "it was there before the agent, which has replay=False")
    assert (await answer(flock, order, "replay")).verdict == "consumed"


async def test_what_a_process_without_the_agent_published_was_missed(clock: FakeClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/board.db"
    async with Flock(clock=clock, store=url) as flock, Flock(clock=clock, store=url) as other:
        flock.agent("pack").consumes(Order, replay=True).calls(ignore)
        await flock.ready()
        order = await other.publish(Order())
        found = await answer(flock, order.id, "pack")
    assert (found.verdict, found.reason) == ("missed", "a process that does not have this agent has published it")


async def test_what_was_handed_to_an_agent_was_consumed_by_it(flock: Flock) -> None:
    @(flock.agent("pack").consumes(Order, mode="direct", name="direct").consumes(Order, name="order").consumes(Urgent))
    async def pack(order: Order) -> None:
        return

    await flock.invoke("pack", Order())
    (order,) = await flock.store.query(Order)
    direct, normal, other = await flock.store.why_not(order, "pack")
    assert (direct.verdict, normal.verdict, other.verdict) == ("consumed", "consumed", "refused")
    assert normal.reason == f"handed to it directly: activation {normal.activation} is done"


# ---- why not: what matching says


def is_large(order: Order) -> bool:
    return order.number > 10


def fails(order: Order) -> bool:
    raise KeyError("weight")


class Picky:
    predicates = (is_large, fails)  # its own affair

    def __call__(self, order: Order) -> bool:
        return order.number > 10


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"where": is_large}, "its predicate is_large said no"),
        ({"where": [lambda _: True, is_large, fails]}, "its predicate is_large said no"),
        ({"where": Picky()}, "its predicate Picky said no"),
        ({"where": [lambda _: True, fails]}, "its predicate fails raised KeyError: 'weight'"),
        ({"tags": {"new", "large"}}, "it lacks the tags large"),
        ({"from_agents": ["shop", "desk"]}, "it comes from external, not from desk or shop"),
        ({"mode": "direct"}, 'mode="direct": it runs only when it is invoked'),
    ],
    ids=["named", "several", "object", "raised", "tags", "from_agents", "direct"],
)
async def test_what_was_refused_says_by_what(flock: Flock, conditions: dict[str, Any], reason: str) -> None:
    flock.agent("pack").consumes(Order, **conditions).calls(ignore)
    order = await flock.publish(Order(), tags={"new"})
    await flock.run_until_idle()
    assert (await answer(flock, order, "pack"))[1:] == ("refused", reason, None, None)


async def test_a_lambda_is_named_by_where_it_stands(flock: Flock) -> None:
    flock.agent("pack").consumes(Order, where=lambda order: order.number > 1).calls(ignore)
    order = await flock.publish(Order())
    reason = (await answer(flock, order, "pack")).reason
    assert reason.startswith("its predicate in test_history.py, line ")
    assert reason.endswith(", said no")


async def test_a_key_that_raises_is_told_apart_from_a_predicate(flock: Flock) -> None:
    def weight(order: Order) -> str:
        raise KeyError("weight")

    join = JoinSpec(by=weight, within=timedelta(minutes=1))
    flock.agent("pair").consumes(Order, Paid, join=join, where=[lambda _: True]).calls(ignore)
    order = await flock.publish(Order())
    await flock.run_until_idle()
    reason = (await answer(flock, order, "pair")).reason
    assert reason == "the key of its join, weight, raised KeyError: 'weight'"


async def test_a_type_that_is_not_consumed_is_named(flock: Flock) -> None:
    flock.agent("pack").consumes(Order, Paid).calls(ignore)
    flock.agent("any").consumes(BaseModel, name="any").calls(ignore)
    parcel = await flock.publish(Parcel())
    await flock.run_until_idle()
    assert (await answer(flock, parcel, "pack")).reason == f"it takes Order and Paid, not {parcel.type}"
    assert (await answer(flock, parcel, "any")).verdict == "consumed"
    urgent = await flock.publish(Urgent())
    assert (await answer(flock, urgent, "pack")).verdict == "waiting"
    flock.agent("count").consumes(Order, when=When.exists(Parcel)).calls(ignore)  # Parcels are counted, not consumed
    assert (await answer(flock, parcel, "count")).reason == f"it takes Order, not {parcel.type}"


async def test_a_failure_reaches_only_those_that_name_it(flock: Flock) -> None:
    flock.agent("any").consumes(BaseModel).calls(ignore)

    @flock.agent
    async def pack(order: Order) -> None:
        raise ValueError("no")

    await flock.publish(Order())
    await flock.run_until_idle()
    (failure,) = await flock.store.query(Failure)
    reason = (await answer(flock, failure, "any")).reason
    assert reason == f"it takes BaseModel, not {failure.type}: a Failure goes only to those that name it"


async def test_an_agent_is_not_told_of_its_own_outputs(flock: Flock) -> None:
    @flock.agent
    async def echo(order: Order) -> Order | None:
        return Order()

    await flock.publish(Order())
    await flock.run_until_idle()
    _, second = await flock.store.query(Order)
    assert (await answer(flock, second, echo)).reason == "echo made it itself, and prevent_self_trigger is on"


async def test_what_an_agent_may_not_see_is_said_to_the_operator(flock: Flock) -> None:
    flock.agent("pack").consumes(Order).calls(ignore)
    order = await flock.publish(Order(), visibility=PrivateVisibility(agents=frozenset({"boss"})))
    assert (await answer(flock, order, "pack")).reason.startswith("pack may not see it: PrivateVisibility(")


async def test_an_unknown_artifact_or_agent_is_an_error(flock: Flock) -> None:
    order = await flock.publish(Order())
    with pytest.raises(ConfigurationError, match="no agent named 'pack'"):
        await flock.store.why_not(order, "pack")
    flock.agent("pack").consumes(Order).calls(ignore)  # not started yet
    assert (await answer(flock, order, "pack")).verdict == "missed"
    with pytest.raises(VisibilityError, match="no artifact 'nothing'"):
        await flock.store.why_not("nothing", "pack")


async def test_only_an_artifact_or_its_id_can_be_asked_about(flock: Flock) -> None:
    order = await flock.publish(Order())
    flock.agent("pack").consumes(Order).calls(ignore)
    asked: Any = order.sequence
    for question in (flock.store.why(asked), flock.store.lineage(asked), flock.store.why_not(asked, "pack")):
        with pytest.raises(ConfigurationError, match="an artifact or its id, not 1"):
            await question


async def test_a_board_is_read_as_of_a_sequence_or_an_artifact_that_has_it_and_of_nothing_else(flock: Flock) -> None:
    first = await flock.publish(Order())
    await flock.publish(Order())
    assert list(await flock.store.query(as_of=first)) == [first]
    odd: Any
    for odd in ("x", 1.0, True, -1):
        for name in ("as_of", "since", "until"):
            with pytest.raises(ConfigurationError, match=f"{name}={odd!r} is no sequence of a board: give a whole"):
                await flock.store.query(**{name: odd})


# ---- upkeep


async def test_a_store_that_keeps_nothing_names_one_that_does() -> None:
    flock = Flock()
    for call in (
        flock.store.failures, flock.store.vacuum, flock.store.info, lambda: flock.store.prune(keep_runs=1),
        lambda: flock.retry(all=True),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=r"MemoryStore keeps no history: use .*sqlite:///board\.db"):
            await call()
    await flock.shutdown()


async def test_failed_activations_are_listed_and_run_again_when_asked(clock: FakeClock, tmp_path: Path) -> None:
    async with Flock(clock=clock, store=f"sqlite:///{tmp_path}/board.db") as flock:
        broken = True

        @(flock.agent("pack").consumes(Order).retry(2, delay=0))
        async def pack(order: Order, ctx: Context) -> Parcel:
            if broken:
                raise ConnectionError("down")
            return Parcel(orders=ctx.attempt)

        await flock.publish(Order(), correlation_id="one")
        await flock.publish(Order(), correlation_id="two")
        assert (await flock.run_until_idle()).failed == 2
        failed = sorted(await flock.store.failures(), key=lambda each: each.run)
        assert [(each.agent, each.run, each.attempt) for each in failed] == [("pack", "one", 2), ("pack", "two", 2)]
        assert [each.run for each in await flock.store.failures("two")] == ["two"]

        broken = False
        assert await flock.retry(failed[1].id) == [failed[1].id]
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        (parcel,) = await flock.store.query(Parcel)
        assert (parcel.correlation_id, parcel.activation_id, parcel.payload.orders) == ("two", failed[1].id, 1)
        assert await flock.retry(all=True) == [failed[0].id]
        await flock.run_until_idle()
        assert len(await flock.store.query(Parcel)) == 2


@pytest.mark.parametrize(("ids", "every"), [((), False), (("a",), True)])
async def test_retry_wants_ids_or_all(flock: Flock, ids: tuple[str, ...], every: bool) -> None:  # noqa: FBT001
    with pytest.raises(ConfigurationError, match="ids of failed activations, or all=True"):
        await flock.retry(*ids, all=every)


async def test_prune_takes_ages_times_runs_and_types(clock: FakeClock, tmp_path: Path) -> None:
    store = Watched(tmp_path / "board.db")
    async with Flock(clock=clock, store=store) as flock:
        flock.agent("pack").consumes(Order).calls(ignore)
        await flock.publish(Order())
        await flock.run_until_idle()
        assert await flock.store.prune(before=timedelta(days=1)) == Pruned(0, 0, 0)
        assert store.retention == Retention(before=clock.now() - 86_400)
        await flock.store.prune(before=dt.datetime.fromtimestamp(60, dt.UTC), keep_runs=2, types=[Paid])
        paid = f"{Paid.__module__}:Paid"
        assert store.retention == Retention(60.0, 2, frozenset({paid}))
        with pytest.raises(ConfigurationError, match="what may go"):
            await flock.store.prune()
        with pytest.raises(ConfigurationError, match="an aware datetime"):
            await flock.store.prune(before=dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
        with pytest.raises(ConfigurationError, match="an age of zero or more, not -1 day"):
            await flock.store.prune(before=timedelta(days=-1))
        with pytest.raises(ConfigurationError, match="how many runs to keep, 0 or more, not -1"):
            await flock.store.prune(keep_runs=-1)
        assert (await flock.store.info()).artifacts == 1
        assert (await flock.store.prune(types="Order")).artifacts == 1
        await flock.store.vacuum()
        info = await flock.store.info()
        assert (info.artifacts, info.free) == (0, 0)


async def test_an_agent_can_ask_why_but_not_why_not(flock: Flock) -> None:
    seen: list[Any] = []

    async def pack(order: Order) -> Parcel:
        return Parcel()

    hidden = PrivateVisibility(agents=frozenset({"pack"}))

    @flock.agent
    async def send(parcel: Parcel, ctx: Context) -> None:
        seen.append(await ctx.board.why(ctx.artifacts[0]))
        seen.append([name for name in ("why_not", "failures", "prune", "info") if hasattr(ctx.board, name)])

    sealed = PrivateVisibility(agents=frozenset({"send"}))
    flock.agent("pack").consumes(Order).publishes(Parcel, visibility=sealed).calls(pack)
    await flock.publish(Order(), visibility=hidden)
    await flock.run_until_idle()
    why, more = seen
    assert (why.made_by.agent, why.made_by.state) == ("pack", "done")
    assert why.inputs == ()
    assert more == []


async def test_a_flock_on_a_board_that_was_kept_counts_from_its_own_start(clock: FakeClock, tmp_path: Path) -> None:
    def shop(*, works: bool) -> Flock:
        flock = Flock(clock=clock, store=f"sqlite:///{tmp_path}/board.db")

        @flock.agent
        async def pack(order: Order) -> Parcel:
            if not works:
                raise ConnectionError("down")
            return Parcel()

        return flock

    async with shop(works=False) as flock:
        await flock.publish_many([Order(), Order()])
        assert (await flock.run_until_idle()).failed == 2
        first, _ = await flock.store.failures()
    async with shop(works=True) as flock:
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed, report.failures) == (0, 0, ())
        await flock.retry(first.id)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed, report.failures) == (2, 0, ())
