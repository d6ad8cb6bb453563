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
from typing_extensions import override

from flock import (
    AfterVisibility,
    Artifact,
    ConfigurationError,
    Flock,
    LabelledVisibility,
    OutputError,
    PrivateVisibility,
    PublicVisibility,
    PublishError,
    TenantVisibility,
    Visibility,
    flock_type,
)
from flock.core.roster import Catalog
from flock.model.ledger import Committed
from flock.model.payload import Unreadable, find_loaded, type_name
from flock.ports import Clock, Types
from flock.stores.codec import decode, encode
from flock.stores.memory import MemoryStore

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


@pytest.mark.memory
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


def test_p03_the_name_of_a_generic_does_not_depend_on_where_it_was_written_first() -> None:
    here = "from boxes import Box; from flock.model.payload import type_name\n"
    inside = "def box(): return Box[int]\nprint(type_name(box()))"
    boxes = (
        f"import sys, types; boxes = sys.modules['boxes'] = types.ModuleType('boxes')\nexec({BOXES!r}, vars(boxes))\n"
    )
    for written in ("print(type_name(Box[int]))", inside):
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", f"{boxes}{here}{written}"], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == "boxes:Box[int]"


async def test_p03_a_declared_name_is_the_type_name(flock: Flock) -> None:
    await reads(flock, Invoice)
    artifact = await flock.publish(Invoice(total=3))
    assert artifact.type == "billing.Invoice"
    assert (await flock.publish({"type": "billing.Invoice", "total": 3})).payload == Invoice(total=3)
    assert await flock.store.get_by_type(Invoice) == [Invoice(total=3)] * 2


async def test_p03_a_declared_name_is_not_inherited(flock: Flock) -> None:
    assert (await flock.publish(Reminder())).type == f"{__name__}:Reminder"
    assert (await flock.publish(Invoice())).type == "billing.Invoice"


@pytest.mark.parametrize("name", ["", " padded ", None, 3, Report])
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


@pytest.mark.memory
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


@pytest.mark.parametrize("spelling", ["shop:Thing", "shop:Shelf.Thing"])
def test_p03_a_class_of_the_script_is_found_by_the_scripts_name(tmp_path: Path, spelling: str) -> None:
    script = tmp_path / "shop.py"
    script.write_text(textwrap.dedent(FINDING))
    ran = subprocess.run(  # noqa: S603
        [sys.executable, str(script), spelling], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == f"{spelling} True"


FINDING = """
    import sys
    from flock.core.roster import Catalog
    from flock.model.payload import type_name
    from pydantic import BaseModel

    class Thing(BaseModel):
        pass

    class Shelf:
        class Thing(BaseModel):
            pass

    found = Catalog().find(sys.argv[1])
    print(type_name(found), found in (Thing, Shelf.Thing))
"""


def test_p03_finding_a_class_imports_nothing() -> None:
    lazy = types.ModuleType("lazy_shop")
    asked: list[str] = []
    vars(lazy)["__getattr__"] = asked.append
    sys.modules["lazy_shop"] = lazy
    before = set(sys.modules)
    try:
        assert [Catalog().find(f"{module}:Thing.Part") for module in ("lazy_shop", "this", "wsgiref.util")] == [
            None
        ] * 3
    finally:
        del sys.modules["lazy_shop"]
    assert asked == []
    assert set(sys.modules) == before - {"lazy_shop"}


def test_p03_a_class_with_a_declared_name_is_found_once_it_is_known() -> None:
    catalog = Catalog()
    assert catalog.find("billing.Invoice") is None
    catalog.know(Invoice)
    assert catalog.find("billing.Invoice") is Invoice
    assert catalog.find(f"{__name__}:Invoice") is None


class Curious(MemoryStore):
    """Keeps the types that it was opened with."""

    types: Types

    @override
    async def open(self, clock: Clock, types: Types) -> Committed:
        self.types = types
        return await super().open(clock, types)


async def test_p03_what_stores_find_is_what_was_declared_published_or_asked_for() -> None:
    names = [f"known.{number}" for number in range(5)]
    consumed, made, published, got, asked = (flock_type(name)(create_model(name)) for name in names)
    store = Curious()
    async with Flock(store=store) as flock:
        await flock.ready()
        assert [store.types.find(name) for name in names] == [None] * 5

        async def nothing(inputs: Any = None) -> None: ...

        flock.agent("reader").consumes(consumed).publishes(made).calls(nothing)
        await flock.publish(published())
        await flock.store.get_by_type(got)
        await flock.store.query(asked)
        assert [store.types.find(name) for name in names] == [consumed, made, published, got, asked]


# What a store that keeps refuses: no other process would find the class.


class Found:
    """Knows one class, whatever it is asked for."""

    def __init__(self, cls: type[BaseModel]) -> None:
        self.cls = cls

    def find(self, name: str) -> type[BaseModel] | None:  # noqa: ARG002 - of the port
        return self.cls


def test_p03_a_local_class_is_not_kept_unless_it_has_a_name() -> None:
    class Local(BaseModel):
        pass

    class LocalBox(BaseModel, Generic[T]):
        content: T

    @flock_type("tests.Named")
    class Named(BaseModel):
        pass

    for payload in (Local(), Box[Local](content=Local()), Box[list[Local]](content=[]), LocalBox[int](content=1)):
        with pytest.raises(PublishError, match=r"inside a function.*@flock_type\(\"") as caught:
            encode(payload)
        assert type(payload).__name__ in str(caught.value)
    assert decode("tests.Named", 1, encode(Named()).payload, Found(Named)) == Named()
    assert encode(flock_type("tests.LocalBox")(LocalBox[int])(content=1)).payload == '{"content":1}'


def test_p03_classes_of_modules_are_kept_without_a_name() -> None:
    for payload in (Report(), Shelf.Report(), Box[int](content=1), Box[Report](content=Report()), Names(["a"])):
        assert decode("", 1, encode(payload).payload, Found(type(payload))) == payload


BOXES = """
from typing import Generic, TypeVar
from pydantic import BaseModel

T = TypeVar("T")

class Box(BaseModel, Generic[T]):
    content: T
"""
NOTEBOOK = """
from boxes import Box
from flock import PublishError, flock_type
from flock.stores.codec import encode
from pydantic import BaseModel

class Cell(BaseModel):
    pass

def inside():
    return Box[dict[str, Cell]](content={"a": Cell()})

for payload in (Cell(), Box[Cell](content=Cell()), inside(), Box[int](content=1)):
    try:
        print(encode(payload))
    except PublishError as error:
        print(error)
print(encode(flock_type("cells.Cell")(Cell)()).payload)
"""


def test_p03_a_class_of_a_notebook_is_not_kept_unless_it_has_a_name(tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    script.write_text(NOTEBOOK)
    (tmp_path / "boxes.py").write_text(BOXES)
    typed, saved = (
        subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True, cwd=tmp_path).stdout  # noqa: S603
        for args in (["-c", NOTEBOOK], [str(script)])
    )
    assert typed.count(": Cell is defined in a notebook or at a prompt") == 3
    assert '@flock_type("Cell")' in typed
    assert typed.endswith("\nEncoded(payload='{\"content\":1}', version=1)\n{}\n")
    assert saved.startswith("Encoded(payload='{}', version=1)\nEncoded(payload='{\"content\":{}}', version=1)\n")


def test_p03_default_names_are_found_also_where_a_version_is_declared() -> None:
    assert type_name(Versioned) == f"{__name__}:Versioned"
    assert find_loaded(f"{__name__}:Versioned") is Versioned
    assert Catalog().find(f"{__name__}:Versioned") is Versioned


@flock_type(version=2)
class Versioned(BaseModel):
    pass


async def test_p03_what_could_not_be_read_fires_only_who_names_it(flock: Flock) -> None:
    seen: dict[str, list[Any]] = {"any": [], "unreadable": []}

    @flock.agent("any").consumes(BaseModel)
    async def any_(it: BaseModel) -> None:
        seen["any"].append(it)

    @flock.agent("unreadable")
    async def unreadable(it: Unreadable) -> None:
        seen["unreadable"].append(it)

    payload = Unreadable(type="a:B", version=1, content="{}", reason="test")
    await flock.publish(payload)
    await flock.publish(Report())
    assert (await flock.run_until_idle()).failures == ()
    assert seen == {"any": [Report()], "unreadable": [payload]}


async def test_p03_a_class_that_was_defined_again_is_told_from_the_one_that_agents_know(flock: Flock) -> None:
    def define() -> type[BaseModel]:
        return create_model("Cell", __module__=types.__name__, number=(int, 1))

    old, new = define(), define()
    flock.agent("reader").consumes(old).calls(lambda cell: None if cell == old() else new())
    with pytest.raises(PublishError, match="Cell was defined again, and reader consumes the class from before"):
        await flock.publish(new())
    flock.agent("maker").publishes(old).calls(new)
    with pytest.raises(OutputError, match="declared: Cell from before it was defined again"):
        await flock.invoke("maker")
    flock.remove_agent("reader")
    assert (await flock.publish(new())).payload == new()


async def test_p03_of_two_classes_with_one_full_name_the_newer_counts(flock: Flock) -> None:
    def define(extra: int) -> type[BaseModel]:
        return create_model("Cell", __module__=types.__name__, number=(int, extra))

    old, new = define(1), define(2)
    await flock.publish(old())
    await flock.publish(new())
    assert (await flock.publish({"type": "Cell"})).payload == new()
