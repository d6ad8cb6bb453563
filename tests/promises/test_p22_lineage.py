"""P22: every artifact knows its parents, lineage answers why it exists, and a board can be read as of any sequence."""

from typing import Any

import pytest
from pydantic import BaseModel

from flock import (
    AgentFailedError,
    BatchSpec,
    Context,
    Failure,
    Flock,
    JoinSpec,
    PrivateVisibility,
    StoreError,
    VisibilityError,
)
from flock.testing import FakeClock


class Request(BaseModel):
    name: str = ""


class Draft(BaseModel):
    name: str = ""


class Review(BaseModel):
    name: str = ""


class Book(BaseModel):
    name: str = ""


def publishing_house(flock: Flock) -> None:
    """One request becomes two drafts, each gets a review, and both pairs become one book."""

    @flock.agent
    async def write(request: Request) -> list[Draft]:
        return [Draft(name="a"), Draft(name="b")]

    @flock.agent("read").consumes(Draft).max_concurrency(1)
    async def read(draft: Draft) -> Review:
        return Review(name=draft.name)

    join = JoinSpec(by=lambda it: it.name, within=9)

    @flock.agent("bind").consumes(Draft, Review, join=join, batch=BatchSpec(size=2))
    async def bind(pairs: list[tuple[Draft, Review]]) -> Book:
        return Book(name="+".join(draft.name for draft, _ in pairs))


async def test_p22_parents_are_the_inputs_of_the_activation(flock: Flock) -> None:
    publishing_house(flock)
    request = await flock.publish(Request())
    await flock.run_until_idle()
    drafts, reviews = await flock.store.query(Draft), await flock.store.query(Review)
    (book,) = await flock.store.query(Book)
    assert request.parents == ()
    assert [draft.parents for draft in drafts] == [(request.id,)] * 2
    assert [review.parents for review in reviews] == [(draft.id,) for draft in drafts]
    assert book.parents == (drafts[0].id, reviews[0].id, drafts[1].id, reviews[1].id)


async def test_p22_depth_is_one_more_than_the_deepest_parents(flock: Flock) -> None:
    publishing_house(flock)
    await flock.publish(Request())
    await flock.run_until_idle()
    depths = {artifact.payload.__class__.__name__: artifact.depth for artifact in await flock.store.list()}
    assert depths == {"Request": 0, "Draft": 1, "Review": 2, "Book": 3}


async def test_p22_lineage_looks_up_and_down_in_board_order_without_the_artifact_itself(flock: Flock) -> None:
    publishing_house(flock)
    request = await flock.publish(Request())
    await flock.publish(Request(name="another"), correlation_id="another")
    await flock.run_until_idle()
    draft_a, draft_b = [each for each in await flock.store.query(Draft) if each.correlation_id == "default"]
    review_a, review_b = [each for each in await flock.store.query(Review) if each.correlation_id == "default"]
    (book,) = [each for each in await flock.store.query(Book) if each.correlation_id == "default"]

    whole = await flock.store.lineage(request)
    assert whole.artifact == request
    assert whole.ancestors == ()
    assert set(whole.descendants) == {draft_a, draft_b, review_a, review_b, book}
    assert [each.sequence for each in whole.descendants] == sorted(each.sequence for each in whole.descendants)

    middle = await flock.store.lineage(draft_a.id)
    assert middle.ancestors == (request,)
    assert middle.descendants == (review_a, book)

    end = await flock.store.lineage(book)
    assert set(end.ancestors) == {request, draft_a, draft_b, review_a, review_b}
    assert [each.sequence for each in end.ancestors] == sorted(each.sequence for each in end.ancestors)
    assert end.descendants == ()


async def test_p22_what_an_agent_publishes_while_it_runs_has_parents_too(flock: Flock) -> None:
    @flock.agent
    async def write(request: Request, ctx: Context) -> None:
        await flock.publish(Draft(name=ctx.activation_id))

    request = await flock.publish(Request())
    await flock.run_until_idle()
    (draft,) = await flock.store.query(Draft)
    assert draft.parents == (request.id,)
    assert draft.produced_by == "write"
    assert draft.activation_id == draft.payload.name
    assert (await flock.store.lineage(request)).descendants == (draft,)


async def test_p22_a_failure_says_what_it_came_from(flock: Flock) -> None:
    @flock.agent
    async def write(request: Request) -> None:
        raise RuntimeError("no ink")

    request = await flock.publish(Request())
    await flock.run_until_idle()
    (failure,) = await flock.store.query(Failure)
    assert failure.parents == (request.id,)
    assert (await flock.store.lineage(failure)).ancestors == (request,)


async def test_p22_outputs_of_a_direct_invocation_name_its_inputs(flock: Flock) -> None:
    @flock.agent
    async def write(request: Request) -> Draft:
        return Draft()

    request = await flock.publish(Request())
    (draft,) = await flock.invoke(write, request)
    assert draft.parents == (request.id,)
    (other,) = await flock.invoke(write, Request(name="new"))
    assert [each.payload.name for each in (await flock.store.lineage(other)).ancestors] == ["new"]


async def test_p22_an_engine_that_hands_an_input_on_makes_a_child_of_it(flock: Flock) -> None:
    @flock.agent("echo").consumes(Request)
    async def echo(request: Request, ctx: Context) -> Request:
        return request

    request = await flock.publish(Request())
    await flock.run_until_idle()
    first, second = await flock.store.query(Request)
    assert first == request
    assert second.parents == (request.id,)


async def test_p22_consumptions_say_which_activations_had_it(flock: Flock) -> None:
    publishing_house(flock)
    request = await flock.publish(Request())
    await flock.run_until_idle()
    draft, _ = await flock.store.query(Draft)
    (book,) = await flock.store.query(Book)
    assert [each.agent for each in await flock.store.consumptions(request)] == ["write"]
    found = {each.agent: each for each in await flock.store.consumptions(draft.id)}
    assert set(found) == {"read", "bind"}
    assert found["bind"].activation == book.activation_id
    assert {each.state for each in found.values()} == {"done"}
    assert await flock.store.consumptions(book) == []


async def test_p22_why_names_the_activation_and_its_inputs_at_every_step(flock: Flock) -> None:
    publishing_house(flock)
    request = await flock.publish(Request())
    await flock.run_until_idle()
    (book,) = await flock.store.query(Book)
    for artifact in await flock.store.list():
        why = await flock.store.why(artifact)
        assert why.artifact == artifact
        assert tuple(each.id for each in why.inputs) == artifact.parents
        made_by = why.made_by
        if artifact == request:
            assert made_by is None
        else:
            assert made_by is not None
            assert (made_by.activation, made_by.agent) == (artifact.activation_id, artifact.produced_by)
            assert (made_by.attempt, made_by.state) == (1, "done")
    (answer,) = await flock.store.why_not(request, "bind")
    assert (answer.verdict, answer.activation) == ("refused", None)
    (answer,) = await flock.store.why_not((await flock.store.why(book)).inputs[0], "bind")
    assert (answer.verdict, answer.activation) == ("consumed", book.activation_id)


async def test_p22_lineage_of_what_is_not_on_the_board_is_an_error(flock: Flock) -> None:
    with pytest.raises(VisibilityError, match="nothing"):
        await flock.store.lineage("nothing")
    assert list(await flock.store.consumptions("nothing")) == []


async def test_p22_an_agent_sees_only_its_part_of_a_lineage(flock: Flock) -> None:
    seen: list[list[str]] = []

    @flock.agent("write").consumes(Request).publishes(Draft, visibility=PrivateVisibility(agents=frozenset({"read"})))
    async def write(request: Request) -> Draft:
        return Draft()

    @flock.agent("look").consumes(Review)
    async def look(review: Review, ctx: Context) -> None:
        found = await ctx.board.lineage(ctx.artifacts[0])
        seen.append([type(each.payload).__name__ for each in found.ancestors])
        seen.append([type(each.payload).__name__ for each in (await ctx.board.why(ctx.artifacts[0])).inputs])
        with pytest.raises(VisibilityError):
            await ctx.board.why(ctx.artifacts[0].parents[0])

    @flock.agent("read").consumes(Draft).publishes(Review, visibility=PrivateVisibility(agents=frozenset({"look"})))
    async def read(draft: Draft) -> Review:
        return Review()

    await flock.publish(Request())
    await flock.run_until_idle()
    assert seen == [["Request"], []]


async def test_p22_a_board_can_be_read_as_of_any_sequence(flock: Flock) -> None:
    publishing_house(flock)
    await flock.publish(Request())
    await flock.run_until_idle()
    everything = list(await flock.store.list())
    assert [artifact.sequence for artifact in everything] == list(range(1, len(everything) + 1))
    for sequence in range(len(everything) + 2):
        assert list(await flock.store.query(as_of=sequence)) == everything[:sequence]
        drafts = [each for each in everything[:sequence] if isinstance(each.payload, Draft)]
        assert list(await flock.store.query(Draft, as_of=sequence)) == drafts


async def test_p22_reading_as_of_a_sequence_does_not_change_when_the_board_goes_on(flock: Flock) -> None:
    await flock.publish_many([Request(name="a"), Request(name="b")])
    before = await flock.store.query(as_of=2)
    await flock.publish_many([Request(name="c"), Draft()])
    assert await flock.store.query(as_of=2) == before
    assert [each.payload.name for each in await flock.store.query(since=2, as_of=3)] == ["c"]


async def test_p22_a_board_that_is_kept_can_be_replayed_to_any_sequence(flock: Flock, kind_of_store: str) -> None:
    publishing_house(flock)
    await flock.publish(Request())
    await flock.run_until_idle()
    if kind_of_store == "memory":
        with pytest.raises(StoreError, match="keeps no history"):
            await flock.store.replay(until=1)
        return
    everything = list(await flock.store.list())
    for sequence in range(len(everything) + 1):
        past = await flock.store.replay(until=sequence)
        assert list(await past.list()) == everything[:sequence]
        for artifact in everything[:sequence]:
            why, now = await past.why(artifact), await flock.store.why(artifact)
            assert why.inputs == now.inputs
            assert (why.made_by is None) == (now.made_by is None)
            made_by = why.made_by
            assert made_by is None or made_by.activation == artifact.activation_id


async def test_p22_queries_combine_their_filters_in_board_order(flock: Flock) -> None:
    @flock.agent("write").consumes(Request, where=lambda it: it.name == "write").publishes(Draft, tags=["new"])
    async def write(request: Request) -> Draft:
        return Draft(name=request.name)

    await flock.publish(Request(name="x"), correlation_id="two", tags=["a"])
    await flock.publish(Request(name="write"), correlation_id="one", tags=["a", "b"])
    await flock.run_until_idle()
    store = flock.store

    async def names(**filters: Any) -> list[str]:
        found = await store.query(**filters)
        return [f"{type(each.payload).__name__} {each.payload.name}" for each in found]

    assert await names() == ["Request x", "Request write", "Draft write"]
    assert await names(correlation_id="one") == ["Request write", "Draft write"]
    assert await names(tags=["a"]) == ["Request x", "Request write"]
    assert await names(tags={"a", "b"}) == ["Request write"]
    assert await names(tags="new") == ["Draft write"]
    assert await names(produced_by="write") == ["Draft write"]
    assert await names(produced_by="external", correlation_id="two") == ["Request x"]
    assert await names(types=[Request, Draft], since=1, until=2) == ["Request write"]
    assert await names(types="Draft") == ["Draft write"]
    assert await names(limit=1) == ["Request x"]
    assert await names(limit=1, offset=1) == ["Request write"]
    assert await names(offset=2) == ["Draft write"]
    assert await names(types=Book) == []


async def test_p22_a_forgotten_run_leaves_the_rest_readable(clock: FakeClock) -> None:
    async with Flock(store="memory://?keep_runs=1", clock=clock) as flock:
        for run in ("one", "two", "three"):
            await flock.publish(Request(name=run), correlation_id=run)
            await flock.run_until_idle()
        assert [each.payload.name for each in await flock.store.list()] == ["three"]
        assert [each.sequence for each in await flock.store.query(as_of=3)] == [3]


async def test_p22_an_asker_finds_in_the_failure_where_it_came_from(flock: Flock) -> None:
    @flock.agent
    async def write(request: Request) -> Draft:
        raise RuntimeError("no ink")

    with pytest.raises(AgentFailedError) as caught:
        await flock.ask(Request(), Draft)
    (failure,) = caught.value.failures
    assert isinstance(failure, Failure)
    assert await flock.store.get(failure.inputs[0]) is not None
