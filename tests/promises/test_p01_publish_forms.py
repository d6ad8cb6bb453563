"""P1: what publish takes, what its keyword arguments do to each form, and that publish_many is one commit."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    Artifact,
    EvalInputs,
    Flock,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    PublishError,
    TenantVisibility,
)
from flock.model.ledger import Commit, Committed
from flock.stores.memory import MemoryStore


class Order(BaseModel):
    item: str
    count: int = 1


class Boxed(BaseModel):
    """A model with a field that is named like the nested form."""

    payload: dict[str, int]
    note: str = ""


class Unrelated(BaseModel):
    text: str


class CountingStore(MemoryStore):
    """Remembers how many artifacts each commit brought."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []

    @override
    async def commit(self, commit: Commit) -> Committed:
        self.commits.append(len(commit.records))
        return await super().commit(commit)


FORMS: dict[str, Callable[[], Any]] = {
    "model": lambda: Order(item="pen", count=2),
    "flat dict": lambda: {"type": "Order", "item": "pen", "count": 2},
    "nested dict": lambda: {"type": "Order", "payload": {"item": "pen", "count": 2}},
    "artifact": lambda: Artifact(Order(item="pen", count=2)),
}


def knows(flock: Flock, *types: type[BaseModel]) -> None:
    """Make types known, as agents that declare them do."""

    async def nothing(inputs: EvalInputs) -> None:
        return None

    for kind in types:
        flock.agent(f"reader of {kind.__module__}:{kind.__qualname__}").consumes(kind).calls(nothing)


@pytest.mark.parametrize("form", FORMS)
async def test_p01_every_form_becomes_the_same_artifact(flock: Flock, form: str) -> None:
    knows(flock, Order)
    artifact = await flock.publish(FORMS[form]())
    assert artifact.payload == Order(item="pen", count=2)
    assert type(artifact.payload) is Order
    assert artifact.type == f"{__name__}:Order"
    assert artifact.produced_by == "external"
    assert artifact.sequence == 1
    assert artifact.parents == ()
    assert artifact.depth == 0
    assert artifact.created_at.utcoffset() == timedelta(0)
    assert await flock.store.get(artifact.id) == artifact


@pytest.mark.parametrize("form", FORMS)
async def test_p01_the_keyword_arguments_apply_to_every_form(flock: Flock, form: str) -> None:
    knows(flock, Order)
    artifact = await flock.publish(
        FORMS[form](),
        id="order-1",
        correlation_id="run-1",
        partition_key="eu",
        tags={"urgent"},
        visibility=PrivateVisibility(agents=frozenset({"clerk"})),
    )
    stored = await flock.store.get("order-1")
    assert stored is not None
    for each in (artifact, stored):
        assert each.id == "order-1"
        assert each.correlation_id == "run-1"
        assert each.partition_key == "eu"
        assert each.tags == {"urgent"}
        assert each.visibility == PrivateVisibility(agents=frozenset({"clerk"}))


async def test_p01_an_artifacts_own_envelope_counts_where_the_caller_says_nothing(flock: Flock) -> None:
    draft = Artifact(
        Order(item="pen"),
        id="mine",
        correlation_id="run-9",
        partition_key="eu",
        tags=["urgent"],
        visibility=TenantVisibility(tenant_id="acme"),
    )
    artifact = await flock.publish(draft)
    assert (artifact.id, artifact.correlation_id, artifact.partition_key) == ("mine", "run-9", "eu")
    assert artifact.tags == {"urgent"}
    assert artifact.visibility == TenantVisibility(tenant_id="acme")


async def test_p01_the_callers_keywords_win_over_the_artifacts_envelope(flock: Flock) -> None:
    draft = Artifact(
        Order(item="pen"), id="mine", correlation_id="run-9", partition_key="eu", tags=["urgent"],
        visibility=TenantVisibility(tenant_id="acme"),
    )  # fmt: skip
    artifact = await flock.publish(
        draft, id="yours", correlation_id="run-2", partition_key="us", tags=["calm"], visibility=PublicVisibility()
    )
    assert (artifact.id, artifact.correlation_id, artifact.partition_key) == ("yours", "run-2", "us")
    assert artifact.tags == {"calm"}
    assert artifact.visibility == PublicVisibility()


async def test_p01_one_word_is_one_tag(flock: Flock) -> None:
    assert (await flock.publish(Order(item="pen"), tags="urgent")).tags == {"urgent"}


async def test_p01_a_dict_with_more_than_type_and_payload_is_flat(flock: Flock) -> None:
    knows(flock, Boxed)
    flat = await flock.publish({"type": "Boxed", "payload": {"a": 1}, "note": "flat"})
    assert flat.payload == Boxed(payload={"a": 1}, note="flat")
    nested = await flock.publish({"type": "Boxed", "payload": {"payload": {"a": 1}}})
    assert nested.payload == Boxed(payload={"a": 1})


async def test_p01_a_dict_may_name_the_stable_type(flock: Flock) -> None:
    knows(flock, Order)
    artifact = await flock.publish({"type": f"{__name__}:Order", "item": "pen"})
    assert artifact.payload == Order(item="pen")


@pytest.mark.parametrize(
    "several",
    [
        pytest.param([Order(item="pen")], id="list"),
        pytest.param((Order(item="pen"),), id="tuple"),
        pytest.param([], id="empty list"),
        pytest.param({"pen"}, id="set"),
    ],
)
async def test_p01_a_list_raises_and_names_publish_many(flock: Flock, several: Any) -> None:
    with pytest.raises(PublishError, match="publish_many"):
        await flock.publish(several)
    assert await flock.store.list() == []


@pytest.mark.parametrize("odd", [None, 3, "Order", Order, object(), b"{}", iter([])], ids=repr)
async def test_p01_anything_else_raises_and_says_what_publish_takes(flock: Flock, odd: Any) -> None:
    with pytest.raises(PublishError, match="pydantic model, a dict with 'type', or an Artifact"):
        await flock.publish(odd)
    assert await flock.store.list() == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param({"type": "Order", "count": 1}, "item", id="field missing"),
        pytest.param({"type": "Order", "item": "pen", "count": "many"}, "count", id="wrong type of a field"),
        pytest.param({"type": "Order", "payload": None}, "Order", id="no payload"),
        pytest.param({"type": "Order", "payload": {}}, "item", id="empty payload"),
        pytest.param({"type": "Ordre", "item": "pen"}, "unknown type 'Ordre'; known types: .*:Order", id="unknown"),
        pytest.param({"type": None, "item": "pen"}, "unknown type None", id="type is None"),
        pytest.param({"type": ["Order"], "item": "pen"}, "unknown type", id="type is a list"),
        pytest.param({"type": Order, "item": "pen"}, "unknown type", id="type is a class"),
        pytest.param({"item": "pen"}, "needs a 'type'", id="no type"),
        pytest.param({}, "needs a 'type'", id="empty"),
    ],
)
async def test_p01_an_invalid_dict_stores_nothing_and_says_why(flock: Flock, data: Any, words: str) -> None:
    knows(flock, Order)
    with pytest.raises(PublishError, match=words):
        await flock.publish(data)
    assert await flock.store.list() == []


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param({"visibility": "public"}, id="visibility is a word"),
        pytest.param({"tags": [1]}, id="tag is a number"),
        pytest.param({"correlation_id": 7}, id="run is a number"),
        pytest.param({"partition_key": 7}, id="key is a number"),
        pytest.param({"id": 7}, id="id is a number"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
async def test_p01_an_envelope_of_the_wrong_types_stores_nothing(
    flock: Flock, form: str, envelope: dict[str, Any]
) -> None:
    knows(flock, Order)
    with pytest.raises(PublishError, match=next(iter(envelope))):
        await flock.publish(FORMS[form](), **envelope)
    assert await flock.store.list() == []


def test_p01_an_artifact_holds_a_pydantic_model_or_raises() -> None:
    odd: Any = {"item": "pen"}
    with pytest.raises(PublishError, match="pydantic model"):
        Artifact(odd)


async def test_p01_publish_many_takes_all_forms_in_one_commit() -> None:
    store = CountingStore()
    async with Flock(store=store) as flock:
        knows(flock, Order)
        await flock.ready()
        store.commits.clear()
        artifacts = await flock.publish_many(form() for form in FORMS.values())
        assert store.commits[0] == len(FORMS)
        assert [artifact.payload for artifact in artifacts] == [Order(item="pen", count=2)] * len(FORMS)
        assert [artifact.sequence for artifact in artifacts] == [1, 2, 3, 4]
        await flock.run_until_idle()


async def test_p01_publish_manys_keyword_arguments_apply_to_all_and_ids_one_by_one(flock: Flock) -> None:
    artifacts = await flock.publish_many(
        [Order(item="pen"), Artifact(Order(item="ink"), tags=["blue"])],
        id=["first", "second"],
        correlation_id="run-1",
        partition_key="eu",
        tags=["urgent"],
        visibility=LabelledVisibility(required_labels=frozenset({"staff"})),
    )
    assert [artifact.id for artifact in artifacts] == ["first", "second"]
    for artifact in artifacts:
        assert (artifact.correlation_id, artifact.partition_key) == ("run-1", "eu")
        assert artifact.tags == {"urgent"}
        assert artifact.visibility == LabelledVisibility(required_labels=frozenset({"staff"}))


GOOD = {"type": "Order", "item": "pen"}


@pytest.mark.parametrize(
    "several",
    [
        pytest.param([GOOD, {"type": "Order"}, GOOD], id="invalid payload"),
        pytest.param([GOOD, {"type": "Ordre"}], id="unknown type"),
        pytest.param([GOOD, [GOOD]], id="list inside"),
        pytest.param([GOOD, None], id="None inside"),
    ],
)
async def test_p01_publish_many_is_all_or_nothing(flock: Flock, several: Any) -> None:
    knows(flock, Order)
    with pytest.raises(PublishError):
        await flock.publish_many(several)
    assert await flock.store.list() == []
    assert (await flock.run_until_idle()).succeeded == 0


async def test_p01_publish_many_of_a_taken_id_with_other_content_stores_none(flock: Flock) -> None:
    await flock.publish(Order(item="pen"), id="taken")
    with pytest.raises(PublishError, match="taken"):
        await flock.publish_many([Order(item="ink"), Order(item="cap")], id=["free", "taken"])
    assert [artifact.id for artifact in await flock.store.list()] == ["taken"]


@pytest.mark.parametrize("ids", [["one"], ["one", "two", "three"], "ab"])
async def test_p01_publish_many_needs_one_id_per_object(flock: Flock, ids: Any) -> None:
    with pytest.raises(PublishError, match="one id per object"):
        await flock.publish_many([Order(item="pen"), Order(item="ink")], id=ids)
    assert await flock.store.list() == []


async def test_p01_publish_many_of_nothing_is_nothing(flock: Flock) -> None:
    assert await flock.publish_many([]) == []


async def test_p01_a_delayed_artifact_is_returned_at_once(flock: Flock) -> None:
    artifact = await flock.publish(Order(item="pen"), visibility=AfterVisibility(ttl=timedelta(days=1)))
    assert artifact.sequence == 1
    assert await flock.store.get(artifact.id) == artifact
