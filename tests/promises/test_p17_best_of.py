"""P17: best-of-N keeps the survivors."""

from __future__ import annotations

import asyncio
import math

import pytest
from pydantic import BaseModel

from flock import (
    AgentFailedError,
    ConfigurationError,
    Context,
    EvalResult,
    Event,
    Flock,
)


class Topic(BaseModel):
    words: list[str] = []


class Draft(BaseModel):
    author: int
    score: float = 0.0


def scored(result: EvalResult) -> float:
    (artifact,) = result.artifacts
    draft: Draft = artifact.payload
    return draft.score


async def winner(flock: Flock) -> int:
    await flock.publish(Topic())
    (await flock.run_until_idle()).raise_for_failures()
    (draft,) = await flock.store.get_by_type(Draft)
    return draft.author


async def test_p17_the_highest_score_wins_and_only_its_output_is_published() -> None:
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            return Draft(author=ctx.candidate, score=[1.0, 3.0, 2.0][ctx.candidate])

        flock.agent("writer").consumes(Topic).best_of(3, score=scored).calls(write)
        assert await winner(flock) == 1


async def test_p17_candidates_run_side_by_side() -> None:
    together = asyncio.Barrier(4)
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            await together.wait()
            return Draft(author=ctx.candidate)

        flock.agent("writer").consumes(Topic).best_of(4).calls(write)
        assert await winner(flock) == 0


async def test_p17_a_tie_goes_to_the_lowest_index_whoever_ends_first() -> None:
    ended = asyncio.Event()
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            if ctx.candidate == 2:
                ended.set()
            else:
                await ended.wait()
            return Draft(author=ctx.candidate, score=5.0 if ctx.candidate else 1.0)

        flock.agent("writer").consumes(Topic).best_of(3, score=scored).calls(write)
        assert await winner(flock) == 1


async def test_p17_without_a_score_the_first_index_wins_whoever_ends_first() -> None:
    ended = asyncio.Event()
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            if ctx.candidate:
                ended.set()
            else:
                await ended.wait()
            return Draft(author=ctx.candidate)

        flock.agent("writer").consumes(Topic).best_of(3).calls(write)
        assert await winner(flock) == 0


async def test_p17_a_failing_candidate_is_out_of_the_race_and_told() -> None:
    events: list[Event] = []
    async with Flock(observers=[events.append]) as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            if ctx.candidate != 2:
                raise ValueError(ctx.candidate)
            return Draft(author=ctx.candidate)

        flock.agent("writer").consumes(Topic).best_of(3).calls(write)
        assert await winner(flock) == 2
        assert [event.reason for event in events if event.kind == "error"] == ["candidate 0", "candidate 1"]


async def test_p17_it_fails_when_no_candidate_is_left() -> None:
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            raise ValueError(f"no idea {ctx.candidate}")

        flock.agent("writer").consumes(Topic).best_of(2).calls(write)
        await flock.publish(Topic())
        report = await flock.run_until_idle()

        (failure,) = report.failures
        assert (failure.error_type, failure.message) == ("ValueError", "no idea 0")
        assert "all 2 candidates of 'writer' failed" in failure.traceback


@pytest.mark.parametrize("bad", [math.nan, "high", None])
async def test_p17_a_candidate_whose_score_is_no_number_is_out_of_the_race(bad: object) -> None:
    def judge(result: EvalResult) -> float:
        return bad if scored(result) > 1 else 1.0  # type: ignore[return-value]

    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            return Draft(author=ctx.candidate, score=[2.0, 1.0][ctx.candidate])

        flock.agent("writer").consumes(Topic).best_of(2, score=judge).calls(write)
        assert await winner(flock) == 1


async def test_p17_a_raising_score_fails_only_its_candidate() -> None:
    def judge(result: EvalResult) -> float:
        if scored(result) > 1:
            raise RuntimeError("too good")
        return 1.0

    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            return Draft(author=ctx.candidate, score=[2.0, 1.0][ctx.candidate])

        flock.agent("writer").consumes(Topic).best_of(2, score=judge).calls(write)
        assert await winner(flock) == 1


async def test_p17_a_candidate_that_returns_what_is_no_output_is_out_of_the_race() -> None:
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> object:
            return Draft(author=1) if ctx.candidate else 42

        flock.agent("writer").consumes(Topic).publishes(Draft).best_of(2).calls(write)
        assert await winner(flock) == 1


async def test_p17_a_candidate_that_breaks_the_declaration_is_out_of_the_race() -> None:
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> object:
            return Draft(author=1) if ctx.candidate else Topic()

        flock.agent("writer").consumes(Topic).publishes(Draft).best_of(2).calls(write)
        assert await winner(flock) == 1


async def test_p17_each_candidate_has_inputs_and_state_of_its_own() -> None:
    seen: list[tuple[list[str], dict[str, int]]] = []
    together = asyncio.Barrier(3)
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            topic.words.append(f"by {ctx.candidate}")
            ctx.state["candidate"] = ctx.candidate
            await together.wait()
            seen.append((topic.words, dict(ctx.state)))
            return Draft(author=ctx.candidate)

        flock.agent("writer").consumes(Topic).best_of(3).calls(write)
        await winner(flock)
        assert sorted(seen, key=lambda each: each[1]["candidate"]) == [
            (["by 0"], {"candidate": 0}),
            (["by 1"], {"candidate": 1}),
            (["by 2"], {"candidate": 2}),
        ]


async def test_p17_cancelling_the_run_cancels_every_candidate() -> None:
    together, cancelled = asyncio.Barrier(3), list[int]()
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft:
            try:
                await together.wait()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ctx.candidate)
                raise
            return Draft(author=ctx.candidate)

        flock.agent("writer").consumes(Topic).best_of(2).calls(write)
        await flock.publish(Topic(), correlation_id="doomed")
        await together.wait()
        await flock.cancel("doomed")
        assert sorted(cancelled) == [0, 1]


async def test_p17_a_candidate_without_outputs_takes_part() -> None:
    async with Flock() as flock:

        async def write(topic: Topic, ctx: Context) -> Draft | None:
            return Draft(author=1) if ctx.candidate else None

        flock.agent("writer").consumes(Topic).best_of(2, score=lambda result: len(result.artifacts)).calls(write)
        assert await winner(flock) == 1


async def test_p17_an_invoked_agent_raises_what_its_last_candidate_left() -> None:
    async with Flock() as flock:

        async def write(topic: Topic) -> Draft:
            raise KeyError("ink")

        flock.agent("writer").consumes(Topic).best_of(2).calls(write)
        with pytest.raises(KeyError, match="ink"):
            await flock.invoke("writer", Topic())


async def test_p17_asking_a_writer_without_survivors_raises_the_failure() -> None:
    async with Flock() as flock:

        async def write(topic: Topic) -> Draft:
            raise KeyError("ink")

        flock.agent("writer").consumes(Topic).best_of(2).calls(write)
        with pytest.raises(AgentFailedError, match="KeyError"):
            await flock.ask(Topic(), returns=Draft)


@pytest.mark.parametrize("n", [0, -1, True, 1.5])
def test_p17_a_count_of_candidates_that_can_never_work_is_refused(n: float) -> None:
    with pytest.raises(ConfigurationError, match="best_of"):
        Flock().agent("writer").best_of(n)  # type: ignore[arg-type]


def test_p17_a_score_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="score"):
        Flock().agent("writer").best_of(2, score=3)  # type: ignore[arg-type]
