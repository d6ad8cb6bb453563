"""P15: a raising agent fails its activation, never the board."""

from __future__ import annotations

import logging

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import AgentFailedError, Event, Failure, Flock, OutputError, PrivateVisibility, PublicVisibility, Until
from flock.model.ledger import Commit, Committed
from flock.stores.memory import MemoryStore


class Order(BaseModel):
    item: str = "soap"


class Parcel(BaseModel):
    item: str = "soap"


class OutOfPaper(Exception):  # noqa: N818 - named by the domain
    pass


class CommitLog(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []

    @override
    async def commit(self, commit: Commit) -> Committed:
        self.commits.append(commit)
        return await super().commit(commit)


def refuse(order: Order) -> None:
    message = f"can't pack {order.item}"
    raise OutOfPaper(message)


async def test_p15_a_raising_agent_leaves_a_failure_that_says_what_happened() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        order = await flock.publish(Order())
        report = await flock.run_until_idle()

        (artifact,) = await flock.store.query(Failure)
        failure = artifact.payload
        assert (failure.agent, failure.error_type, failure.message) == ("packer", "OutOfPaper", "can't pack soap")
        assert (failure.inputs, failure.attempts) == ((order.id,), 1)
        assert failure.activation_id == artifact.activation_id
        assert "in refuse" in failure.traceback
        assert (artifact.parents, artifact.produced_by, artifact.correlation_id) == (
            (order.id,),
            "packer",
            order.correlation_id,
        )
        assert report.idle
        assert (report.succeeded, report.failed) == (0, 1)
        assert report.failures == (failure,)


async def test_p15_the_failure_is_in_the_commit_that_closes_the_activation() -> None:
    store = CommitLog()
    async with Flock(store=store) as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        await flock.publish(Order())
        await flock.run_until_idle()

    (settling,) = [commit for commit in store.commits if commit.settle is not None]
    assert settling.settle is not None
    assert settling.settle.outcome == "failed"
    assert [type(record.snapshot) for record in settling.records] == [Failure]


async def test_p15_the_board_and_other_agents_go_on() -> None:
    async with Flock() as flock:
        flock.agent("raises").consumes(Order).calls(refuse)

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel(item=order.item)

        await flock.publish(Order(item="a"))
        await flock.run_until_idle()
        await flock.publish(Order(item="b"))
        report = await flock.run_until_idle()

        assert (report.succeeded, report.failed) == (1, 1)
        assert [parcel.item for parcel in await flock.store.get_by_type(Parcel)] == ["a", "b"]


async def test_p15_outputs_made_before_the_error_are_not_published() -> None:
    async with Flock() as flock:

        async def half(order: Order) -> list[Parcel]:
            return [Parcel(item="one"), Order()]  # type: ignore[list-item]

        flock.agent("half").consumes(Order).publishes(Parcel).calls(half)
        await flock.publish(Order())
        report = await flock.run_until_idle()

        assert [failure.error_type for failure in report.failures] == [OutputError.__name__]
        assert await flock.store.get_by_type(Parcel) == []


async def test_p15_agents_that_name_failure_get_it() -> None:
    heard: list[str] = []
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)

        @flock.agent
        async def nurse(failure: Failure) -> None:
            heard.append(failure.message)

        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert heard == ["can't pack soap"]
        assert (report.succeeded, report.failed) == (1, 1)


async def test_p15_a_failure_never_matches_a_base_class() -> None:
    heard: list[str] = []
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)

        @flock.agent
        async def everything(anything: BaseModel) -> None:
            heard.append(type(anything).__name__)

        await flock.publish(Order())
        await flock.run_until_idle()
        assert heard == ["Order"]
        assert await flock.run_until(Until.artifact_count(BaseModel).exactly(1))


async def test_p15_a_raising_failure_handler_makes_no_new_failure_but_an_event_and_an_error_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[Event] = []
    async with Flock(observers=[events.append]) as flock:
        flock.agent("packer").consumes(Order).calls(refuse)

        @flock.agent
        async def nurse(failure: Failure) -> None:
            raise OutOfPaper(failure.message)

        await flock.publish(Order())
        with caplog.at_level(logging.ERROR, logger="flock"):
            report = await flock.run_until_idle()

        assert [failure.agent for failure in report.failures] == ["packer"]
        assert report.failed == 2
        assert [event.agent for event in events if event.kind == "failed"] == ["packer", "nurse"]
        said = [record.getMessage() for record in caplog.records if record.name == "flock"]
        assert said == ["nurse raised while it handled a Failure"]


async def test_p15_a_failure_inherits_the_visibility_of_its_inputs() -> None:
    heard: list[str] = []
    secret = PrivateVisibility(agents=frozenset({"packer", "trusted"}))
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        for name in ("trusted", "stranger"):
            flock.agent(name).consumes(Failure).calls(lambda _, name=name: heard.append(name))
        await flock.publish(Order(), visibility=secret)
        await flock.run_until_idle()

        (failure,) = await flock.store.query(Failure)
        assert failure.visibility == secret
        assert heard == ["trusted"]


async def test_p15_where_the_visibilities_of_inputs_differ_no_agent_sees_the_failure() -> None:
    heard: list[str] = []
    async with Flock() as flock:
        flock.agent("packer").consumes(Order, Parcel).calls(lambda _: 1 / 0)
        flock.agent("nurse").consumes(Failure).calls(lambda _: heard.append("nurse"))
        await flock.publish(Order(), visibility=PrivateVisibility(agents=frozenset({"packer", "nurse"})))
        await flock.publish(Parcel(), visibility=PrivateVisibility(agents=frozenset({"packer"})))
        report = await flock.run_until_idle()

        assert [failure.error_type for failure in report.failures] == ["ZeroDivisionError"]
        (failure,) = await flock.store.query(Failure)
        assert failure.visibility != PublicVisibility()
        assert heard == []


async def test_p15_a_failure_that_no_agent_consumes_is_logged_once_at_error(caplog: pytest.LogCaptureFixture) -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        with caplog.at_level(logging.ERROR, logger="flock"):
            await flock.publish(Order())
            await flock.run_until_idle()
        said = [record.getMessage() for record in caplog.records if record.name == "flock"]
        assert said == ["packer: OutOfPaper: can't pack soap"]


async def test_p15_a_failure_that_an_agent_consumes_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        flock.agent("nurse").consumes(Failure).calls(lambda _: None)
        with caplog.at_level(logging.ERROR, logger="flock"):
            await flock.publish(Order())
            await flock.run_until_idle()
        assert not [record for record in caplog.records if record.name == "flock"]


async def test_p15_a_report_raises_its_failures_when_asked() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        (await flock.run_until_idle()).raise_for_failures()
        await flock.publish(Order())
        report = await flock.run_until_idle()
        with pytest.raises(AgentFailedError, match="packer: OutOfPaper: can't pack soap") as raised:
            report.raise_for_failures()
        assert raised.value.failures == report.failures
        assert (await flock.run_until_idle()).failures == ()  # told once: the next report starts from here


async def test_p15_the_run_of_a_failed_activation_has_failed() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(refuse)
        order = await flock.publish(Order())
        await flock.run_until_idle()
        status = await flock.status(order.correlation_id)
        assert (status.state, status.failed, status.artifacts) == ("failed", 1, 2)
