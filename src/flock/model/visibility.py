"""Who may see an artifact."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast

from typing_extensions import override

from flock.model.errors import ConfigurationError, OutputError, PublishError
from flock.model.payload import members


class Identity(NamedTuple):
    """The agent for whom the board is read or matched."""

    name: str
    labels: frozenset[str] = frozenset()
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Visibility:
    """Base of the five kinds of visibility."""

    def allows(self, identity: Identity) -> bool:
        """Say whether this identity may see the artifact once it is due."""
        raise NotImplementedError

    def due(self, created: float) -> float:
        """Give the time (UTC seconds) from which `allows` counts; nobody sees the artifact before."""
        return created


class PublicVisibility(Visibility):
    """Everybody sees it."""

    __slots__ = ()

    @override
    def allows(self, identity: Identity) -> bool:
        """Allow everybody."""
        return True


PUBLIC: Final = PublicVisibility()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateVisibility(Visibility):
    """Only the named agents see it."""

    agents: AbstractSet[str]

    def __post_init__(self) -> None:
        """Accept any iterable of names."""
        object.__setattr__(self, "agents", _names("agents", self.agents))

    @override
    def allows(self, identity: Identity) -> bool:
        """Allow the named agents."""
        return identity.name in self.agents


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledVisibility(Visibility):
    """Agents that carry all the required labels see it."""

    required_labels: AbstractSet[str]

    def __post_init__(self) -> None:
        """Accept any iterable of labels."""
        object.__setattr__(self, "required_labels", _names("required_labels", self.required_labels))

    @override
    def allows(self, identity: Identity) -> bool:
        """Allow agents with all labels."""
        return self.required_labels <= identity.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantVisibility(Visibility):
    """Agents of one tenant see it."""

    tenant_id: str

    @override
    def allows(self, identity: Identity) -> bool:
        """Allow the tenant's agents."""
        return identity.tenant == self.tenant_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterVisibility(Visibility):
    """Nobody sees it for `ttl` after its creation; from then on `then` decides."""

    ttl: timedelta
    then: Visibility = PUBLIC

    def __post_init__(self) -> None:
        """Refuse a negative delay, and what is no visibility to follow it."""
        if not isinstance(self.ttl, timedelta) or self.ttl < timedelta(0):
            raise ConfigurationError(f"AfterVisibility(ttl=...) takes a timedelta of zero or more, not {self.ttl!r}")
        if not isinstance(self.then, Visibility):
            raise ConfigurationError(f"AfterVisibility(then=...) takes a Visibility, not {self.then!r}")

    @override
    def allows(self, identity: Identity) -> bool:
        """Ask `then`."""
        return self.then.allows(identity)

    @override
    def due(self, created: float) -> float:
        """Add the delay, and that of a nested After."""
        return self.then.due(created + self.ttl.total_seconds())


def settled(visibility: Visibility) -> Visibility:
    """Give what is left of a visibility when its time has come."""
    while isinstance(visibility, AfterVisibility):
        visibility = visibility.then
    return visibility


def meet(visibilities: frozenset[Visibility]) -> Visibility:
    """Give the visibility of what was made from these inputs (P23).

    Raises OutputError when two that are not public differ: the declaration has to say who may see the result.
    """
    kinds = {settled(visibility) for visibility in visibilities} - {PUBLIC}
    if not kinds:
        return PUBLIC
    if len(kinds) > 1:
        shown = ", ".join(sorted(map(repr, kinds)))
        raise OutputError(f"inputs with different visibility meet ({shown}): declare publishes(..., visibility=...)")
    return kinds.pop()


def _names(field: str, value: object) -> frozenset[str]:
    names = members(value)
    if isinstance(value, str) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{field}= takes a set or list of names, not {value!r}")
    return frozenset(map(str, names))


_KINDS: Final[dict[str, type[Visibility]]] = {
    cls.__name__.removesuffix("Visibility").lower(): cls
    for cls in (PublicVisibility, PrivateVisibility, LabelledVisibility, TenantVisibility, AfterVisibility)
}


def to_plain(value: Any) -> Any:  # noqa: ANN401 - what the encoder of JSON does not know, and what it does
    """Give JSON data for a visibility or for a part of one; raises PublishError for a kind of the user's own."""
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    if isinstance(value, timedelta):
        return value.total_seconds()
    for kind, cls in _KINDS.items():
        if type(value) is cls:
            return {"kind": kind} | {field.name: getattr(value, field.name) for field in fields(cls)}
    raise PublishError(f"{type(value).__name__} has no JSON form: use one of the five kinds of visibility")


def from_plain(data: Any) -> Visibility:  # noqa: ANN401 - what JSON holds
    """Read JSON data of a visibility; raises PublishError when it is none."""
    match data:
        case {"kind": "after", "ttl": float() | int() as ttl, "then": then}:
            return AfterVisibility(ttl=timedelta(seconds=ttl), then=from_plain(then))
        case {"kind": kind} if kind in _KINDS:
            return _KINDS[kind](**{name: part for name, part in data.items() if name != "kind"})
        case _:
            raise PublishError(f"unknown kind of visibility {data!r}")
