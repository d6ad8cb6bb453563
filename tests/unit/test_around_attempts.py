"""What goes wrong around an attempt: errors that say nothing, hooks that are cancelled, odd parameters, repeats."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer
from typing_extensions import override

from flock import AgentComponent, Artifact, ConfigurationError, Context, Engine, EvalInputs, Flock
from flock.ports import AgentInfo
from flock.testing import FakeClock
from flock.tracing import setup


class Note(BaseModel):
    text: str = ""
    words: list[str] = []


class Reply(BaseModel):
    text: str = ""


async def rounds() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def flock() -> AsyncIterator[Flock]:
    async with Flock() as made:
        yield made


class Untold(Exception):  # noqa: N818 - an error of the scene
    @override
    def __str__(self) -> str:
        raise RuntimeError


async def test_an_error_that_cannot_say_what_it_is_fails_its_activation_like_any_other(flock: Flock) -> None:
    @flock.agent
    async def mute(note: Note) -> Reply:
        raise Untold

    await flock.publish(Note())
    report = await flock.run_until_idle(timeout=30)
    assert (report.idle, report.failed) == (True, 1)
    assert [failure.error_type for failure in report.failures] == ["Untold"]


class Cancelling(AgentComponent):
    """Awaits something that is cancelled, in one hook."""

    def __init__(self, hook: str) -> None:
        self._hook = hook

    async def _fail_in(self, hook: str) -> None:
        if hook == self._hook:
            raise asyncio.CancelledError

    @override
    async def on_post_publish(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> None:
        await self._fail_in("on_post_publish")

    @override
    async def on_terminate(self, agent: AgentInfo, ctx: Context) -> None:
        await self._fail_in("on_terminate")


@pytest.mark.parametrize("hook", ["on_post_publish", "on_terminate"])
async def test_a_late_hook_that_is_cancelled_keeps_no_answer_and_no_place(hook: str) -> None:
    async with Flock(max_pending=1) as flock:

        async def answer(note: Note) -> Reply:
            return Reply()

        flock.agent("answer").consumes(Note).publishes(Reply).calls(answer).with_utilities(Cancelling(hook))
        async with asyncio.timeout(5):
            assert len(await flock.invoke("answer", Note())) == 1
            for _ in range(3):
                await flock.publish(Note())
        assert (await flock.run_until_idle(timeout=30)).idle
        assert flock.scheduler.tasks == ()


async def test_a_parameter_that_keeps_its_default_moves_no_other_one(flock: Flock) -> None:
    got: list[tuple[Note, int, Reply]] = []

    @flock.agent
    async def both(note: Note, times: int = 3, reply: Reply = Reply(text="default")) -> None:  # noqa: B008 - the scene
        got.append((note, times, reply))

    await flock.publish_many([Note(text="a"), Reply(text="b")])
    await flock.run_until_idle()
    assert got == [(Note(text="a"), 3, Reply(text="b"))]


async def test_a_positional_only_parameter_after_one_that_keeps_its_default_is_refused(flock: Flock) -> None:
    async def odd(note: Note, times: int = 3, reply: Reply = Reply(), /) -> None:  # noqa: B008 - the scene
        ...

    with pytest.raises(ConfigurationError, match="positional-only"):
        flock.agent(odd)


async def test_cancelling_a_call_that_waits_makes_room_for_publishers() -> None:
    gate = asyncio.Event()
    async with Flock(max_pending=2) as flock:

        async def slow(note: Note) -> None:
            await gate.wait()

        flock.agent("slow").consumes(Note).calls(slow).max_concurrency(1)
        await flock.publish(Note())
        call = asyncio.create_task(flock.invoke("slow", Note()))
        await rounds()
        publisher = asyncio.create_task(flock.publish(Note()))
        await rounds()
        assert not publisher.done()
        call.cancel()
        async with asyncio.timeout(5):
            await publisher
        gate.set()
        assert (await flock.run_until_idle(timeout=30)).idle


async def test_a_stream_that_is_tried_again_tells_a_raising_predicate_once(flock_clock: FakeClock) -> None:
    tries: list[int] = []

    def refuses(reply: Reply) -> bool:
        raise ValueError

    async with Flock(clock=flock_clock) as flock:

        async def stream(note: Note) -> AsyncIterator[Reply]:
            tries.append(1)
            yield Reply(text="a")
            yield Reply(text="b")
            if len(tries) == 1:
                raise RuntimeError

        async def never(reply: Reply) -> None: ...

        flock.agent("stream").consumes(Note).publishes(Reply).calls(stream).retry(2)
        flock.agent("never").consumes(Reply, where=refuses).calls(never)
        await flock.publish(Note())
        report = await flock.run_until_idle(timeout=60)
        assert len(tries) == 2
        assert len(await flock.store.get_by_type(Reply)) == 2
        assert [failure.agent for failure in report.failures] == ["never", "never"]


async def test_candidates_do_not_share_what_a_context_provider_gave(flock: Flock) -> None:
    seen: list[list[str]] = []

    class Scribbler(Engine):
        @override
        async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: object) -> Reply:
            payload = inputs.state["context"][0].payload
            payload.words.append(str(ctx.candidate))
            seen.append(payload.words)
            return Reply()

    async def everything(ctx: Context) -> Sequence[Artifact]:
        return await ctx.board.query(Note)

    builder = flock.agent("scribbler").consumes(Note).publishes(Reply).with_engines(Scribbler())
    builder.best_of(3).with_context(everything)
    await flock.publish(Note())
    assert (await flock.run_until_idle()).succeeded == 1
    assert sorted(seen) == [["0"], ["1"], ["2"]]


def test_a_thread_of_a_closed_loop_that_has_returned_is_not_called_left_behind() -> None:
    begun, done = threading.Event(), threading.Event()
    flock = Flock()

    def work(note: Note) -> None:
        begun.set()
        done.wait(30)

    flock.agent("work").consumes(Note).calls(work)

    async def begin() -> None:
        await flock.publish(Note())
        await asyncio.sleep(0)
        assert begun.wait(30)

    async def end() -> None:
        assert (await flock.run_until_idle(timeout=30)).succeeded == 1
        await flock.shutdown()  # a warning would be an error here

    asyncio.run(begin())
    done.set()
    asyncio.run(asyncio.sleep(0.05))  # the thread returns
    asyncio.run(end())


async def test_what_a_thread_returns_too_late_is_closed_if_it_wants_to_be_awaited() -> None:
    go, returned = threading.Event(), list[Coroutine[Any, Any, None]]()

    def work(note: Note) -> Coroutine[Any, Any, None]:
        go.wait(30)
        returned.append(asyncio.sleep(0))
        return returned[0]

    async with Flock() as flock:
        flock.agent("work").consumes(Note).timeout(0.05).calls(work)
        await flock.publish(Note())
        assert (await flock.run_until_idle(timeout=30)).failed == 1
        go.set()
        async with asyncio.timeout(30):
            while not returned or inspect.getcoroutinestate(returned[0]) != inspect.CORO_CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_payloads_that_cannot_be_recorded_cost_the_recording_alone() -> None:
    class Shy(BaseModel):
        text: str = ""

        @model_serializer
        def refuse(self) -> str:
            raise RuntimeError

    with setup(memory=True, record_payloads=True):
        async with Flock() as flock:

            async def shy(note: Shy) -> Shy:
                return Shy()

            flock.agent("shy").consumes(Shy).publishes(Shy).calls(shy)
            async with asyncio.timeout(5):
                assert len(await flock.invoke("shy", Shy())) == 1
            report = await flock.run_until_idle(timeout=30)
            assert (report.idle, report.failed) == (True, 0)


async def test_an_invoked_agent_is_a_child_of_its_caller_also_with_inputs_of_another_trace() -> None:
    with setup(memory=True) as memory:
        async with Flock() as flock:

            async def reply(note: Note) -> Reply:
                return Reply()

            flock.agent("reply").consumes(Note, mode="direct").publishes(Reply).calls(reply)
            async with flock.traced_run("first"):
                note = await flock.publish(Note())
            async with flock.traced_run("second") as span:
                await flock.invoke("reply", note)
                wanted = span.get_span_context().trace_id
        found = [each for each in memory.spans if each.name == "invoke_agent reply"]
    assert [each.context.trace_id for each in found if each.context is not None] == [wanted]
