"""P3: any model is a type of the board, under a stable name, without registration."""

import json
import subprocess
import sys
import textwrap
import types
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, RootModel, create_model

from flock import (
    AfterVisibility,
    Artifact,
    ConfigurationError,
    Flock,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    PublishError,
    TenantVisibility,
    Visibility,
    flock_type,
)

T = TypeVar("T")


class Report(BaseModel):
    title: str = ""


class SpecialReport(Report):
    grade: int = 0


class Box(BaseModel, Generic[T]):
    content: T


class Names(RootModel[list[str]]):
    pass


class Shelf:
    class Report(BaseModel):
        pages: int = 0


@flock_type("billing.Invoice")
class Invoice(BaseModel):
    total: int = 0


class Reminder(Invoice):
    pass


async def reads(flock: Flock, *kinds: type[BaseModel]) -> None:
    """Let an agent for each type be there."""

    async def nothing(inputs: Any = None) -> None: ...

    for kind in kinds:
        flock.agent(f"reader of {kind.__module__}:{kind.__qualname__}").consumes(kind).calls(nothing)
    await flock.ready()


async def test_p03_any_model_is_published_and_consumed_without_registration(flock: Flock) -> None:
    class Local(BaseModel):
        number: int

    seen: list[BaseModel] = []

    @flock.agent("look")
    async def look(it: Local) -> Names:
        seen.append(it)
        return Names(["a"])

    @flock.agent("count").consumes(Names)
    async def count(names: Names) -> Box[int]:
        return Box[int](content=len(names.root))

    await flock.publish(Local(number=1))
    await flock.publish(create_model("Made", number=(int, 2))())
    await flock.run_until_idle()
    assert seen == [Local(number=1)]
    assert await flock.store.get_by_type(Box[int]) == [Box[int](content=1)]
    assert [artifact.type.rpartition(":")[2].rpartition(".")[2] for artifact in await flock.store.list()] == [
        "Local", "Made", "Names", "Box[int]",
    ]  # fmt: skip


async def test_p03_the_type_name_is_module_and_qualified_name(flock: Flock) -> None:
    assert (await flock.publish(Report())).type == f"{__name__}:Report"
    assert (await flock.publish(Shelf.Report())).type == f"{__name__}:Shelf.Report"


async def test_p03_a_declared_name_is_the_type_name(flock: Flock) -> None:
    await reads(flock, Invoice)
    artifact = await flock.publish(Invoice(total=3))
    assert artifact.type == "billing.Invoice"
    assert (await flock.publish({"type": "billing.Invoice", "total": 3})).payload == Invoice(total=3)
    assert await flock.store.get_by_type(Invoice) == [Invoice(total=3)] * 2


async def test_p03_a_declared_name_is_not_inherited(flock: Flock) -> None:
    assert (await flock.publish(Reminder())).type == f"{__name__}:Reminder"
    assert (await flock.publish(Invoice())).type == "billing.Invoice"


@pytest.mark.parametrize("name", ["", " padded ", None, 3])
def test_p03_a_declared_name_must_be_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="flock_type"):
        flock_type(name)


@pytest.mark.parametrize("target", [int, object(), test_p03_a_declared_name_must_be_a_name])
def test_p03_only_models_can_have_a_declared_name(target: Any) -> None:
    with pytest.raises(ConfigurationError, match="pydantic models"):
        flock_type("x")(target)


async def test_p03_a_subclass_never_disturbs_its_parent(flock: Flock) -> None:
    await reads(flock, Report)
    before = await flock.publish({"type": "Report", "title": "a"})
    await reads(flock, SpecialReport)
    await flock.publish(SpecialReport(title="b", grade=1))
    after = await flock.publish({"type": "Report", "title": "c"})
    assert type(before.payload) is type(after.payload) is Report
    assert before.type == after.type
    assert (await flock.publish({"type": "SpecialReport", "grade": 2})).payload == SpecialReport(grade=2)
    assert [type(each) for each in await flock.store.get_by_type(Report)] == [
        Report, SpecialReport, Report, SpecialReport,
    ]  # fmt: skip
    assert [type(each) for each in await flock.store.get_by_type(SpecialReport)] == [SpecialReport, SpecialReport]


async def test_p03_a_subclass_of_a_consumed_type_matches_and_stays_itself(flock: Flock) -> None:
    seen: list[Report] = []

    @flock.agent
    async def look(report: Report) -> None:
        seen.append(report)

    await flock.publish(SpecialReport(grade=3))
    await flock.run_until_idle()
    assert seen == [SpecialReport(grade=3)]


async def test_p03_a_parent_does_not_match_where_a_subclass_is_consumed(flock: Flock) -> None:
    @flock.agent
    async def look(report: SpecialReport) -> None:
        raise AssertionError

    await flock.publish(Report())
    assert (await flock.run_until_idle()).failures == ()


async def test_p03_an_ambiguous_simple_name_is_an_error_that_lists_the_candidates(flock: Flock) -> None:
    await reads(flock, Report, Shelf.Report)
    with pytest.raises(PublishError, match="ambiguous") as caught:
        await flock.publish({"type": "Report"})
    assert f"{__name__}:Report" in str(caught.value)
    assert f"{__name__}:Shelf.Report" in str(caught.value)
    assert await flock.store.list() == []
    full = await flock.publish({"type": f"{__name__}:Report", "title": "a"})
    assert type(full.payload) is Report
    assert type((await flock.publish({"type": "Shelf.Report"})).payload) is Shelf.Report


async def test_p03_reads_by_an_ambiguous_simple_name_raise_too(flock: Flock) -> None:
    await reads(flock, Report, Shelf.Report)
    with pytest.raises(PublishError, match="ambiguous"):
        await flock.store.query("Report")


async def test_p03_an_unknown_name_is_an_error_that_lists_the_known_types(flock: Flock) -> None:
    await reads(flock, Report, Invoice)
    with pytest.raises(PublishError, match="unknown type 'Nothing'") as caught:
        await flock.publish({"type": "Nothing"})
    assert "billing.Invoice" in str(caught.value)
    assert f"{__name__}:Report" in str(caught.value)


async def test_p03_types_that_were_only_published_are_known_from_then_on(flock: Flock) -> None:
    await flock.publish(Report(title="a"))
    assert (await flock.publish({"type": "Report", "title": "b"})).payload == Report(title="b")


async def test_p03_types_that_agents_publish_are_known(flock: Flock) -> None:
    @flock.agent
    async def make(report: Report) -> Invoice | None: ...

    assert (await flock.publish({"type": "Invoice"})).payload == Invoice()


async def test_p03_an_artifact_goes_through_json_under_its_stable_name(flock: Flock) -> None:
    artifact = await flock.publish(SpecialReport(title="a", grade=1), tags=["x"])
    assert Artifact.from_json(artifact.to_json()) == artifact
    invoice = await flock.publish(Invoice(total=2))
    assert Artifact.from_json(invoice.to_json(), Invoice) == invoice


async def test_p03_reading_json_of_a_class_that_is_not_loaded_is_a_clear_error(flock: Flock) -> None:
    class Local(BaseModel):
        pass

    artifact = await flock.publish(Local())
    with pytest.raises(PublishError, match="payload_type="):
        Artifact.from_json(artifact.to_json())


@pytest.mark.parametrize(
    "visibility",
    [
        PrivateVisibility(agents={"b", "a"}),
        LabelledVisibility(required_labels={"north", "audit"}),
        TenantVisibility(tenant_id="north"),
        AfterVisibility(ttl=timedelta(hours=1), then=AfterVisibility(ttl=timedelta(seconds=1.5))),
        PublicVisibility(),
        None,
    ],
)
def test_p03_every_kind_of_visibility_goes_through_json(visibility: Visibility | None) -> None:
    artifact = Artifact(Invoice(total=2), tags={"z", "a"}, visibility=visibility)
    text = artifact.to_json()
    again = Artifact.from_json(text, Invoice)
    assert (again.visibility, again.tags) == (artifact.visibility, artifact.tags)
    assert again.to_json() == text


class OwnVisibility(PublicVisibility):
    pass


def test_p03_a_kind_of_visibility_of_ones_own_has_no_json_form() -> None:
    with pytest.raises(PublishError, match="OwnVisibility has no JSON form"):
        Artifact(Invoice(), visibility=OwnVisibility()).to_json()


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("visibility", {"kind": "secret"}, "unknown kind of visibility"),
        ("visibility", None, "unknown kind of visibility"),
        ("visibility", {"kind": "after", "ttl": "1 h", "then": {"kind": "public"}}, "ttl="),
        ("visibility", {"kind": "private"}, "agents"),
        ("visibility", {"kind": "labelled", "required_labels": [1]}, "required_labels="),
        ("sequence", "first", "sequence"),
        ("tags", 5, "tags"),
        ("created_at", "soon", "soon"),
        ("payload", {"total": "much"}, "total"),
    ],
)
def test_p03_reading_what_is_no_artifact_is_a_clear_error(part: str, value: Any, words: str) -> None:
    data = json.loads(Artifact(Invoice(total=2)).to_json()) | {part: value}
    with pytest.raises(PublishError, match=words):
        Artifact.from_json(json.dumps(data), Invoice)


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", "{"])
def test_p03_reading_other_text_is_a_clear_error(text: str) -> None:
    with pytest.raises(PublishError, match="no artifact as to_json writes it"):
        Artifact.from_json(text, Invoice)


SCRIPT = """
    from flock import Flock, run_sync
    from pydantic import BaseModel

    class Thing(BaseModel):
        pass

    async def main():
        async with Flock() as flock:
            print((await flock.publish(Thing())).type)

    if __name__ == "__main__":
        run_sync(main)
"""


def test_p03_the_main_module_counts_as_its_files_stem(tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(textwrap.dedent(SCRIPT))
    as_script = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)  # noqa: S603
    imported = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import shop, flock; flock.run_sync(shop.main)"
    as_module = subprocess.run(  # noqa: S603
        [sys.executable, "-c", imported], capture_output=True, text=True, check=True
    )
    assert as_script.stdout.strip() == as_module.stdout.strip() == "shop:Thing"


async def test_p03_of_two_classes_with_one_full_name_the_newer_counts(flock: Flock) -> None:
    def define(extra: int) -> type[BaseModel]:
        return create_model("Cell", __module__=types.__name__, number=(int, extra))

    old, new = define(1), define(2)
    await flock.publish(old())
    await flock.publish(new())
    assert (await flock.publish({"type": "Cell"})).payload == new()
