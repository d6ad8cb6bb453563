"""Artifacts: what stores keep (`Record`) and what people hold (`Artifact`)."""

from __future__ import annotations

import datetime as dt
import functools
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter
from typing_extensions import override

from flock.model.errors import PublishError
from flock.model.payload import Unreadable, copier, loaded_type, private_copy, type_name
from flock.model.visibility import PUBLIC, Identity, PublicVisibility, Visibility, from_plain, to_plain

M = TypeVar("M", bound=BaseModel)
Model = type[BaseModel]  # the name `type` is taken inside Artifact
EXTERNAL = "external"
UNTAGGED: Final[frozenset[str]] = frozenset()  # shared: each call makes one, which the garbage collector visits


class _Unset(PublicVisibility):
    """The mark of an artifact whose maker left the visibility to the declaration and the inputs."""

    __slots__ = ()


UNSET = _Unset()


@dataclass(slots=True, eq=False)
class Record:
    """One artifact as a store keeps it: the envelope and the private snapshot of its payload.

    Nobody changes a record but the store, which sets `sequence` (0 until then) when it commits. `created` is in
    UTC seconds; `slot` is the output slot within the activation that made it; nobody sees it before `due`.
    """

    id: str
    type: str
    snapshot: BaseModel
    run: str
    created: float
    produced_by: str = EXTERNAL
    partition_key: str | None = None
    tags: frozenset[str] = UNTAGGED
    visibility: Visibility = PUBLIC
    parents: tuple[str, ...] = ()
    activation_id: str | None = None
    trace_context: str | None = None
    depth: int = 0
    slot: int | None = None
    sequence: int = 0

    @property
    def due(self) -> float:
        """The time from which anybody may see it."""
        return self.visibility.due(self.created)

    def seen_by(self, identity: Identity, now: float) -> bool:
        """Say whether an identity may see it at this time (UTC seconds)."""
        return self.visibility is PUBLIC or (self.due <= now and self.visibility.allows(identity))

    def same_content(self, other: Record) -> bool:
        """Say whether both would be the same artifact to a reader (P4)."""
        return _content(self) == _content(other)


def part(path: str) -> Any:  # noqa: ANN401 - the attribute's annotation says
    """Make a read-only attribute of a part of what an object holds; its annotation gives the type."""
    return property(attrgetter(path))


class Artifact:
    """One immutable, typed value of the board, or one on its way there.

    `payload` is your own copy, made when you first ask for it: changing it changes nothing on the board. Build one
    yourself, `Artifact(model, tags={"urgent"})`, to publish or return a payload together with parts of its envelope.
    """

    __slots__ = ("_payload", "_record")

    def __init__(
        self,
        payload: BaseModel,
        *,
        id: str | None = None,
        tags: frozenset[str] | set[str] | list[str] | tuple[str, ...] = (),
        visibility: Visibility | None = None,
        partition_key: str | None = None,
        correlation_id: str | None = None,
        produced_by: str = EXTERNAL,
    ) -> None:
        """Take a snapshot of the payload; raises PublishError when it is no pydantic model."""
        if not isinstance(payload, BaseModel):
            raise PublishError(f"an artifact's payload is a pydantic model, not {type(payload).__name__}")
        if visibility is not None and not isinstance(visibility, Visibility):
            raise PublishError(f"visibility= takes a Visibility, not {visibility!r}")
        self._payload: BaseModel | None = None
        self._record = Record(
            id=id or "", type=type_name(type(payload)), snapshot=snapshot(payload), run=correlation_id or "",
            created=0.0, produced_by=produced_by, partition_key=partition_key, tags=frozenset(tags) or UNTAGGED,
            visibility=UNSET if visibility is None else visibility,
        )  # fmt: skip

    @classmethod
    def of(cls, record: Record) -> Artifact:
        """Give a view of a record with a payload copy of its own."""
        view = _new(cls)
        view._record = record  # noqa: SLF001 - its own
        view._payload = None  # noqa: SLF001
        return view

    @classmethod
    def around(cls, payload: BaseModel, produced_by: str) -> Artifact:
        """Give a view of a model that is no copy: for scores, which look and change nothing."""
        name = type_name(type(payload))
        view = cls.of(Record("", name, payload, run="", created=0.0, produced_by=produced_by, visibility=UNSET))
        view._payload = payload  # noqa: SLF001
        return view

    record: Final[Record] = part("_record")
    """What the store keeps; for stores and the core."""
    id: Final[str] = part("_record.id")
    """Unique on every board; given by the caller or random."""
    sequence: Final[int] = part("_record.sequence")
    """The position on its board, from 1; 0 before it is committed."""
    type: Final[str] = part("_record.type")
    """The stable name of the payload's type."""
    produced_by: Final[str] = part("_record.produced_by")
    """`"external"` or the agent's name."""
    correlation_id: Final[str] = part("_record.run")
    """The run it belongs to."""
    partition_key: Final[str | None] = part("_record.partition_key")
    """A key of the user's, inherited when all inputs agree."""
    tags: Final[frozenset[str]] = part("_record.tags")
    """Words to select by."""
    parents: Final[tuple[str, ...]] = part("_record.parents")
    """Ids of the artifacts that it was made from."""
    activation_id: Final[str | None] = part("_record.activation_id")
    """The activation that made it."""
    trace_context: Final[str | None] = part("_record.trace_context")
    """The W3C traceparent of the span that published it."""
    depth: Final[int] = part("_record.depth")
    """One more than the deepest parent's; 0 for what came from outside."""

    @property
    def payload(self) -> Any:  # noqa: ANN401 - the type is known only at run time
        """The validated model; this artifact's own copy."""
        payload = self._payload
        if payload is None:
            payload = self._payload = private_copy(self._record.snapshot)
        return payload

    @property
    def visibility(self) -> Visibility:
        """Who may see it."""
        found = self._record.visibility
        return PUBLIC if found is UNSET else found

    @property
    def created_at(self) -> dt.datetime:
        """When it was made; aware, UTC."""
        return dt.datetime.fromtimestamp(self._record.created, dt.UTC)

    def to_json(self) -> str:
        """Give the artifact as JSON text; `from_json` reads it back."""
        record = self._record
        parts = {_JSON_NAMES.get(name, name): getattr(record, name) for name in Record.__slots__}
        parts |= {
            "payload": _plain(record.snapshot),
            "created_at": self.created_at.isoformat(),
            "visibility": self.visibility,
        }
        return json.dumps(parts, default=to_plain)

    @classmethod
    def from_json(cls, text: str, payload_type: Model | None = None) -> Artifact:
        """Read what `to_json` wrote; without `payload_type` the class must be in a module that is loaded.

        Nothing is imported by name. Raises PublishError when the class can't be found, and for any other text.
        """
        try:
            data = json.loads(text)
            parts = {name: data[_JSON_NAMES.get(name, name)] for name in Record.__slots__}
            kind = payload_type or loaded_type(data["type"])
            parts["snapshot"] = kind.model_validate_json(json.dumps(data["payload"]))
            parts["created"] = dt.datetime.fromisoformat(data["created_at"]).timestamp()
            parts["visibility"] = from_plain(data["visibility"])
            return cls.of(_checker().validate_python(parts))
        except PublishError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError(f"this is no artifact as to_json writes it: {error!r}") from error

    @override
    def __eq__(self, other: object) -> bool:
        """Artifacts are equal when they have the same id and content."""
        if not isinstance(other, Artifact):
            return NotImplemented
        return self.id == other.id and self._record.same_content(other._record)

    @override
    def __hash__(self) -> int:
        """Hash the id."""
        return hash(self._record.id)

    @override
    def __repr__(self) -> str:
        """Show what identifies it; payloads may be private."""
        record = self._record
        return f"<Artifact {record.type} #{record.sequence} {record.id} by {record.produced_by} in run {record.run}>"


def _plain(payload: BaseModel) -> Any:  # noqa: ANN401 - what JSON holds
    """Give a payload as JSON data; one that could not be read as it was stored."""
    if isinstance(payload, Unreadable):
        try:
            return json.loads(payload.content)
        except ValueError:  # which may be why
            return payload.content
    return payload.model_dump(mode="json", by_alias=True, round_trip=True)


_new = Artifact.__new__
_content = attrgetter("type", "snapshot", "tags", "visibility", "partition_key", "run")
_JSON_NAMES = {"snapshot": "payload", "run": "correlation_id", "created": "created_at"}  # the others are a record's


def snapshot(payload: M) -> M:
    """Give the board's private copy of a payload; raises PublishError when it can't be copied."""
    try:
        copy: M = copier(type(payload))(payload)
    except Exception as error:
        raise PublishError(f"{type(payload).__name__} can't be copied, so it can't be published: {error}") from error
    return copy


@functools.cache
def _checker() -> TypeAdapter[Record]:
    """Give what checks the parts of a record; made when first needed."""
    return TypeAdapter(Record)
