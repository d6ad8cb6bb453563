"""Artifacts: what stores keep (`Record`) and what people hold (`Artifact`)."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from typing_extensions import override

from flock.model.errors import PublishError
from flock.model.payload import loaded_type, private_copy, type_name
from flock.model.visibility import (
    PUBLIC,
    AfterVisibility,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    TenantVisibility,
    Visibility,
)

M = TypeVar("M", bound=BaseModel)
Model = type[BaseModel]  # the name `type` is taken inside Artifact
EXTERNAL = "external"


@dataclass(slots=True, eq=False, kw_only=True)
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
    tags: frozenset[str] = frozenset()
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

    def same_content(self, other: Record) -> bool:
        """Say whether both would be the same artifact to a reader (P4)."""
        return (
            self.type == other.type
            and self.snapshot == other.snapshot
            and self.tags == other.tags
            and self.visibility == other.visibility
            and self.partition_key == other.partition_key
            and self.run == other.run
        )


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
            message = f"an artifact's payload is a pydantic model, not {type(payload).__name__}"
            raise PublishError(message)
        if visibility is not None and not isinstance(visibility, Visibility):
            message = f"visibility= takes a Visibility, not {visibility!r}"
            raise PublishError(message)
        self._payload: BaseModel | None = None
        self._record = Record(
            id=id or "",
            type=type_name(type(payload)),
            snapshot=snapshot(payload),
            run=correlation_id or "",
            created=0.0,
            produced_by=produced_by,
            tags=frozenset(tags),
            visibility=UNSET if visibility is None else visibility,
            partition_key=partition_key,
        )

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
        record = Record(id="", type=type_name(type(payload)), snapshot=payload, run="", created=0.0, visibility=UNSET)
        record.produced_by = produced_by
        view = cls.of(record)
        view._payload = payload
        return view

    @property
    def payload(self) -> Any:  # noqa: ANN401 - the type is known only at run time
        """The validated model; this artifact's own copy."""
        payload = self._payload
        if payload is None:
            payload = self._payload = private_copy(self._record.snapshot)
        return payload

    @property
    def record(self) -> Record:
        """What the store keeps; for stores and the core."""
        return self._record

    @property
    def id(self) -> str:
        """Unique on every board; given by the caller or random."""
        return self._record.id

    @property
    def sequence(self) -> int:
        """The position on its board, from 1; 0 before it is committed."""
        return self._record.sequence

    @property
    def type(self) -> str:
        """The stable name of the payload's type."""
        return self._record.type

    @property
    def produced_by(self) -> str:
        """`"external"` or the agent's name."""
        return self._record.produced_by

    @property
    def correlation_id(self) -> str:
        """The run it belongs to."""
        return self._record.run

    @property
    def partition_key(self) -> str | None:
        """A key of the user's, inherited when all inputs agree."""
        return self._record.partition_key

    @property
    def tags(self) -> frozenset[str]:
        """Words to select by."""
        return self._record.tags

    @property
    def visibility(self) -> Visibility:
        """Who may see it."""
        found = self._record.visibility
        return PUBLIC if found is UNSET else found

    @property
    def created_at(self) -> dt.datetime:
        """When it was made; aware, UTC."""
        return dt.datetime.fromtimestamp(self._record.created, dt.UTC)

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the artifacts that it was made from."""
        return self._record.parents

    @property
    def activation_id(self) -> str | None:
        """The activation that made it."""
        return self._record.activation_id

    @property
    def trace_context(self) -> str | None:
        """The W3C traceparent of the span that published it."""
        return self._record.trace_context

    @property
    def depth(self) -> int:
        """One more than the deepest parent's; 0 for what came from outside."""
        return self._record.depth

    def to_json(self) -> str:
        """Give the artifact as JSON text; `from_json` reads it back."""
        record = self._record
        return json.dumps({
            "id": record.id, "sequence": record.sequence, "type": record.type,
            "payload": record.snapshot.model_dump(mode="json", by_alias=True, round_trip=True),
            "produced_by": record.produced_by, "correlation_id": record.run, "partition_key": record.partition_key,
            "tags": sorted(record.tags), "visibility": visibility_to_dict(self.visibility),
            "created_at": self.created_at.isoformat(), "parents": list(record.parents),
            "activation_id": record.activation_id, "trace_context": record.trace_context, "depth": record.depth,
            "slot": record.slot,
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str, payload_type: Model | None = None) -> Artifact:
        """Read what `to_json` wrote; without `payload_type` the class must be in a module that is loaded.

        Nothing is imported by name. Raises PublishError when the class can't be found.
        """
        data = json.loads(text)
        payload_type = payload_type or loaded_type(data["type"])
        return cls.of(
            Record(
                id=data["id"],
                type=data["type"],
                snapshot=payload_type.model_validate_json(json.dumps(data["payload"])),
                run=data["correlation_id"],
                created=dt.datetime.fromisoformat(data["created_at"]).timestamp(),
                produced_by=data["produced_by"],
                partition_key=data["partition_key"],
                tags=frozenset(data["tags"]),
                visibility=visibility_from_dict(data["visibility"]),
                parents=tuple(data["parents"]),
                activation_id=data["activation_id"],
                trace_context=data["trace_context"],
                depth=data["depth"],
                slot=data["slot"],
                sequence=data["sequence"],
            )
        )

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


class _Unset(PublicVisibility):
    """The mark of an artifact whose maker left the visibility to the declaration and the inputs."""

    __slots__ = ()


UNSET = _Unset()
_new = Artifact.__new__


def snapshot(payload: M) -> M:
    """Give the board's private copy of a payload; raises PublishError when it can't be copied."""
    try:
        return private_copy(payload)
    except Exception as error:
        raise PublishError(f"{type(payload).__name__} can't be copied, so it can't be published: {error}") from error


_KINDS: dict[str, type[Visibility]] = {
    "public": PublicVisibility,
    "private": PrivateVisibility,
    "labelled": LabelledVisibility,
    "tenant": TenantVisibility,
    "after": AfterVisibility,
}


def visibility_to_dict(visibility: Visibility) -> dict[str, Any]:
    """Give a visibility as plain JSON data."""
    match visibility:
        case PrivateVisibility(agents=agents):
            return {"kind": "private", "agents": sorted(agents)}
        case LabelledVisibility(required_labels=labels):
            return {"kind": "labelled", "required_labels": sorted(labels)}
        case TenantVisibility(tenant_id=tenant):
            return {"kind": "tenant", "tenant_id": tenant}
        case AfterVisibility(ttl=ttl, then=then):
            return {"kind": "after", "ttl": ttl.total_seconds(), "then": visibility_to_dict(then)}
        case PublicVisibility():
            return {"kind": "public"}
        case _:
            message = f"{type(visibility).__name__} has no JSON form: use one of the five kinds of visibility"
            raise PublishError(message)


def visibility_from_dict(data: dict[str, Any]) -> Visibility:
    """Read what `visibility_to_dict` wrote."""
    fields = {name: value for name, value in data.items() if name != "kind"}
    match data["kind"]:
        case "public":
            return PUBLIC
        case "private":
            return PrivateVisibility(agents=frozenset(fields["agents"]))
        case "labelled":
            return LabelledVisibility(required_labels=frozenset(fields["required_labels"]))
        case "tenant":
            return TenantVisibility(tenant_id=fields["tenant_id"])
        case "after":
            then = visibility_from_dict(fields["then"])
            return AfterVisibility(ttl=dt.timedelta(seconds=fields["ttl"]), then=then)
        case other:
            message = f"unknown kind of visibility {other!r}"
            raise PublishError(message)
