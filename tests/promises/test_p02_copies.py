"""P2: artifacts are immutable: whoever changes what they hold changes nothing for anybody else."""

import enum
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator
from typing_extensions import override

from flock import Artifact, Context, Engine, EvalInputs, EvalResult, Flock, OutputGroup, PublishError, flock_type
from flock.model.payload import copier
from flock.ports import AgentInfo


class Item(BaseModel):
    name: str


class Basket(BaseModel):
    items: list[Item]
    notes: dict[str, list[str]] = {}
    colours: set[str] = set()


class Seen(BaseModel):
    by: str
    items: list[Item]


class Stamp(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    number: int = 0


class Colour(enum.Enum):
    RED = 1


class Page(BaseModel):
    """Frozen, and of immutable values all the way down."""

    model_config = ConfigDict(frozen=True)

    words: tuple[str, ...]
    marks: frozenset[int] = frozenset()
    stamp: Stamp | None = None
    colour: Colour = Colour.RED
    pairs: tuple[tuple[str, Stamp], ...] = ()


class Folder(BaseModel):
    """Frozen, but its values can change."""

    model_config = ConfigDict(frozen=True)

    pages: list[str]
    boxes: tuple[list[str], ...] = ()


@dataclass
class Wheel:
    spokes: list[int] = field(default_factory=lambda: [1])


class Cart(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    wheel: Wheel = Wheel()
    queue: deque[int] = deque([1])
    raw: bytearray = bytearray(b"1")
    _hidden: list[int] = PrivateAttr(default_factory=lambda: [1])

    def hidden(self) -> list[int]:
        return self._hidden


class Lock(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    lock: Any


class Price(BaseModel):
    cents: int

    @field_validator("cents")
    @classmethod
    def positive(cls, cents: int) -> int:
        if cents < 0:
            raise ValueError("below zero")
        return cents


def basket() -> Basket:
    return Basket(items=[Item(name="pen")], notes={"gift": ["yes"]}, colours={"red"})


def spoil(it: Basket) -> None:
    """Change all that can be changed."""
    it.items[0].name = "spoiled"
    it.items.append(Item(name="more"))
    it.notes["gift"].append("spoiled")
    it.notes["new"] = []
    it.colours.add("spoiled")


async def only(flock: Flock) -> Basket:
    (found,) = await flock.store.get_by_type(Basket)
    return found


async def test_p02_changing_the_published_object_changes_nothing_on_the_board(flock: Flock) -> None:
    mine = basket()
    artifact = await flock.publish(mine)
    spoil(mine)
    assert artifact.payload == basket()
    assert await only(flock) == basket()


async def test_p02_changing_the_object_right_after_publish_does_not_reach_the_agents(flock: Flock) -> None:
    seen: list[Basket] = []

    @flock.agent
    async def look(it: Basket) -> None:
        seen.append(it)

    mine = basket()
    await flock.publish(mine)
    spoil(mine)
    await flock.run_until_idle()
    assert seen == [basket()]


async def test_p02_changing_the_object_inside_an_artifact_changes_nothing(flock: Flock) -> None:
    mine = basket()
    draft = Artifact(mine)
    spoil(mine)
    artifact = await flock.publish(draft)
    spoil(draft.payload)
    spoil(artifact.payload)
    assert await only(flock) == basket()


async def test_p02_changing_a_published_dict_changes_nothing(flock: Flock) -> None:
    @flock.agent
    async def look(it: Basket) -> None: ...

    data: dict[str, Any] = {"type": "Basket", **basket().model_dump()}
    await flock.publish(data)
    data["items"].clear()
    data["notes"]["gift"].clear()
    assert await only(flock) == basket()


READS: dict[str, Callable[[Flock, Artifact], Awaitable[Basket]]] = {}


def read(function: Callable[[Flock, Artifact], Awaitable[Basket]]) -> None:
    READS[function.__name__] = function


@read
async def get(flock: Flock, it: Artifact) -> Basket:
    found = await flock.store.get(it.id)
    assert found is not None
    payload: Basket = found.payload
    return payload


@read
async def get_by_type(flock: Flock, it: Artifact) -> Basket:
    return (await flock.store.get_by_type(Basket))[0]


@read
async def query(flock: Flock, it: Artifact) -> Basket:
    payload: Basket = (await flock.store.query(Basket))[0].payload
    return payload


@read
async def stream(flock: Flock, it: Artifact) -> Basket:
    async for artifact in flock.stream(Basket, since=0):
        payload: Basket = artifact.payload
        return payload
    raise AssertionError


@read
async def lineage(flock: Flock, it: Artifact) -> Basket:
    payload: Basket = (await flock.store.lineage(it.id)).artifact.payload
    return payload


@read
async def publish_again(flock: Flock, it: Artifact) -> Basket:
    payload: Basket = (await flock.publish(basket(), id=it.id)).payload
    return payload


@pytest.mark.parametrize("way", READS)
async def test_p02_changing_what_was_read_changes_nothing(flock: Flock, way: str) -> None:
    artifact = await flock.publish(basket())
    for _ in range(2):
        found = await READS[way](flock, artifact)
        assert found == basket()
        spoil(found)
    spoil(artifact.payload)
    assert await only(flock) == basket()


async def test_p02_changing_an_input_changes_neither_the_board_nor_another_agents_view(flock: Flock) -> None:
    seen: dict[str, Basket] = {}

    for name in ("first", "second", "third"):

        @flock.agent(name).consumes(Basket)
        async def change(it: Basket, ctx: Context, name: str = name) -> None:
            seen[name] = it.model_copy(deep=True)
            spoil(it)

    await flock.publish(basket())
    await flock.run_until_idle()
    assert seen == dict.fromkeys(("first", "second", "third"), basket())
    assert await only(flock) == basket()


async def test_p02_one_attempt_has_one_copy_that_inputs_and_context_share(flock: Flock) -> None:
    same: list[bool] = []

    @flock.agent("look").consumes(Basket)
    async def look(inputs: EvalInputs, ctx: Context) -> None:
        same.append(inputs.first_as(Basket) is ctx.artifacts[0].payload)

    await flock.publish(basket())
    await flock.run_until_idle()
    assert same == [True]


async def test_p02_each_attempt_gets_its_own_copy(flock: Flock) -> None:
    seen: list[Basket] = []

    @flock.agent("flaky").consumes(Basket).retry(3, delay=0)
    async def flaky(it: Basket) -> None:
        seen.append(it.model_copy(deep=True))
        spoil(it)
        if len(seen) < 3:
            raise RuntimeError("again")

    await flock.publish(basket())
    await flock.run_until_idle()
    assert seen == [basket()] * 3


async def test_p02_each_candidate_gets_its_own_copy(flock: Flock) -> None:
    seen: list[Basket] = []

    @flock.agent("chooser").consumes(Basket).best_of(3, score=lambda _: 1.0)
    async def chooser(it: Basket, ctx: Context) -> Seen:
        seen.append(it.model_copy(deep=True))
        spoil(it)
        assert ctx.artifacts[0].payload == it
        return Seen(by="chooser", items=it.items)

    await flock.publish(basket())
    await flock.run_until_idle()
    assert seen == [basket()] * 3


async def test_p02_changing_an_output_after_it_was_returned_changes_nothing(flock: Flock) -> None:
    kept: list[Seen] = []

    @flock.agent
    async def make(it: Basket) -> Seen:
        kept.append(Seen(by="make", items=[Item(name="pen")]))
        return kept[0]

    outputs = await flock.invoke(make, basket())
    kept[0].items.clear()
    outputs[0].payload.items.clear()
    assert await flock.store.get_by_type(Seen) == [Seen(by="make", items=[Item(name="pen")])]


async def test_p02_an_output_that_shares_parts_with_its_input_is_a_copy(flock: Flock) -> None:
    @flock.agent
    async def make(it: Basket) -> Seen:
        return Seen(by="make", items=it.items)

    @flock.agent
    async def change(it: Seen) -> None:
        it.items[0].name = "spoiled"

    await flock.publish(basket())
    await flock.run_until_idle()
    assert await only(flock) == basket()
    assert await flock.store.get_by_type(Seen) == [Seen(by="make", items=[Item(name="pen")])]


async def test_p02_what_ask_and_invoke_return_is_the_callers_own(flock: Flock) -> None:
    @flock.agent
    async def make(it: Item) -> Basket:
        return basket()

    answer = await flock.ask(Item(name="pen"), Basket)
    spoil(answer)
    assert await only(flock) == basket()
    (output,) = await flock.invoke(make, Item(name="ink"))
    spoil(output.payload)
    assert await flock.store.get_by_type(Basket) == [basket()] * 2


async def test_p02_what_one_engine_keeps_of_a_result_does_not_change_the_next_engines_inputs(flock: Flock) -> None:
    seen: list[Basket] = []

    class First(Engine):
        @override
        async def evaluate(
            self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup
        ) -> EvalResult:
            mine = basket()
            result = EvalResult.from_object(mine, agent=agent)
            spoil(mine)
            return result

    class Second(Engine):
        @override
        async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> None:
            seen.extend(inputs.all_as(Basket))

    flock.agent("chain").consumes(Item).with_engines(First(), Second())
    await flock.publish(Item(name="pen"))
    await flock.run_until_idle()
    assert seen == [basket()]


@pytest.mark.memory
async def test_p02_extras_private_attributes_and_foreign_objects_are_copied_too(flock: Flock) -> None:
    cart = Cart.model_validate({"extra": [1]})
    artifact = await flock.publish(cart)

    def change(it: Cart) -> None:
        it.wheel.spokes.append(2)
        it.queue.append(2)
        it.raw.extend(b"2")
        it.hidden().append(2)
        (it.model_extra or {})["extra"].append(2)

    change(cart)
    change(artifact.payload)
    (found,) = await flock.store.get_by_type(Cart)
    assert found.wheel.spokes == [1]
    assert found.queue == deque([1])
    assert found.raw == b"1"
    assert found.hidden() == [1]
    assert found.model_extra == {"extra": [1]}


async def test_p02_a_copy_remembers_which_fields_were_set(flock: Flock) -> None:
    artifact = await flock.publish(Basket(items=[]))
    assert artifact.payload.model_fields_set == {"items"}
    assert artifact.payload.model_dump(exclude_unset=True) == {"items": []}


@pytest.mark.memory
@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(Stamp(text="ok"), id="atoms"),
        pytest.param(Page(words=("a", "b")), id="tuple"),
        pytest.param(Page(words=(), marks=frozenset({1}), stamp=Stamp(text="x")), id="frozenset and frozen model"),
        pytest.param(Page(words=(), pairs=(("a", Stamp(text="x")),)), id="nested tuples"),
    ],
)
async def test_p02_frozen_models_of_immutable_fields_are_shared(flock: Flock, shared: BaseModel) -> None:
    artifact = await flock.publish(shared)
    again = await flock.store.get(artifact.id)
    assert again is not None
    assert artifact.payload is shared
    assert again.payload is shared


async def test_p02_frozen_models_with_a_value_that_can_change_are_copied(flock: Flock) -> None:
    folder = Folder(pages=["one"], boxes=(["a"],))
    artifact = await flock.publish(folder)
    folder.pages.append("two")
    folder.boxes[0].append("b")
    artifact.payload.pages.append("three")
    artifact.payload.boxes[0].append("c")
    assert await flock.store.get_by_type(Folder) == [Folder(pages=["one"], boxes=(["a"],))]


async def test_p02_a_model_that_is_not_frozen_is_never_shared(flock: Flock) -> None:
    item = Item(name="pen")
    artifact = await flock.publish(item)
    assert artifact.payload is not item
    item.name = "spoiled"
    artifact.payload.name = "spoiled"
    assert await flock.store.get_by_type(Item) == [Item(name="pen")]


@pytest.mark.memory
async def test_p02_instances_are_not_validated_again_and_dicts_are(flock: Flock) -> None:
    @flock.agent
    async def look(it: Price) -> None: ...

    odd = Price.model_construct(cents=-1)
    assert (await flock.publish(odd)).payload.cents == -1
    with pytest.raises(PublishError, match="below zero"):
        await flock.publish({"type": "Price", "cents": -1})


async def test_p02_predicates_keys_and_scores_see_the_snapshot_itself(flock: Flock) -> None:
    seen: list[Basket] = []

    def remember(it: Basket) -> bool:
        seen.append(it)
        return True

    @flock.agent("one").consumes(Basket, where=remember)
    async def one(it: Basket) -> None: ...

    @flock.agent("two").consumes(Basket, where=[remember, remember])
    async def two(it: Basket) -> None: ...

    artifact = await flock.publish(basket())
    await flock.run_until_idle()
    assert len({id(each) for each in seen}) == 1
    assert seen[0] is artifact.record.snapshot


def test_p02_the_copier_of_a_type_is_made_once() -> None:
    assert copier(Basket) is copier(Basket)


async def test_p02_the_copiers_of_an_agents_types_are_made_before_its_first_artifact(flock: Flock) -> None:
    @flock_type("copies.Asked")
    class Asked(BaseModel):
        text: str

    @flock_type("copies.Told")
    class Told(BaseModel):
        text: str

    async def tell(asked: Asked) -> Told:
        return Told(text=asked.text)

    flock.agent("teller").consumes(Asked).publishes(Told).calls(tell)
    await flock.ready()
    made = copier.cache_info().misses
    await flock.publish(Asked(text="?"))
    await flock.run_until_idle()
    assert await flock.store.get_by_type(Told)
    assert copier.cache_info().misses == made


async def test_p02_artifacts_without_tags_share_one_empty_set(flock: Flock) -> None:
    plain, listed = await flock.publish(basket()), await flock.publish(basket(), tags=[])
    assert plain.tags is listed.tags is Artifact(basket(), tags=set()).tags
    assert (await flock.publish(basket(), tags="")).tags == {""}


async def test_p02_a_payload_that_cannot_be_copied_is_a_publish_error_and_stores_nothing(flock: Flock) -> None:
    with pytest.raises(PublishError, match="Lock can't be copied"):
        await flock.publish(Lock(lock=threading.Lock()))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PublishError, match="can't be copied"):
        await flock.publish(Lock(lock=loop))
    assert await flock.store.list() == []


@pytest.mark.parametrize("part", ["id", "payload", "tags", "visibility", "sequence", "correlation_id", "new"])
async def test_p02_no_part_of_an_artifact_can_be_set(flock: Flock, part: str) -> None:
    artifact = await flock.publish(Item(name="pen"), tags=["urgent"])
    with pytest.raises(AttributeError):
        setattr(artifact, part, "other")
    assert isinstance(artifact.tags, frozenset)
    assert isinstance(artifact.parents, tuple)


@pytest.mark.memory
async def test_p02_what_a_copy_says_to_be_set_is_its_own(flock: Flock) -> None:
    class Plain(BaseModel):
        text: str = ""

    await flock.publish(Plain(text="a"))
    (first,) = await flock.store.get_by_type(Plain)
    first.model_fields_set.clear()
    (second,) = await flock.store.get_by_type(Plain)
    assert second.model_fields_set == {"text"}
