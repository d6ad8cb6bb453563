"""Payloads and visibilities as text, for stores that keep.

A payload is kept as the JSON that pydantic writes. What is written is read again at once, and compared, unless its
class is as plain as JSON. So validators run once more when a payload is published, and whenever it is read.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from flock.model.errors import PublishError, StoreError
from flock.model.payload import Unreadable, declaration
from flock.model.visibility import PUBLIC, Visibility, from_plain, to_plain
from flock.ports import Types
from flock.stores.losses import FOR_BYTES, advice, loss_at, loss_of
from flock.stores.plain import is_kept

# From pydantic 2.11 on, a class whose aliases differ for reading and writing can be kept by its fields' names.
_NAMES_TOO: Final[dict[str, Any]] = (
    {"by_alias": True, "by_name": True}
    if "by_name" in inspect.signature(BaseModel.model_validate_json).parameters
    else {}
)


_PRUNED: Final = "it was pruned: only its place in the lineage is kept"


class Encoded(NamedTuple):
    """A payload as a store keeps it: JSON text, and the version of the class that wrote it."""

    payload: str
    version: int


def encode(snapshot: BaseModel) -> Encoded:
    """Give a payload as text that reads back as the same; raises PublishError, with what to do, where it would not."""
    cls = type(snapshot)
    _check_name(cls)
    try:
        text = _write(snapshot, by_alias=True)
    except PublishError as error:
        text = _write_by_names(snapshot, error)
    return Encoded(text, declaration(cls).version)


@functools.lru_cache(maxsize=4096)
def _check_name(cls: type[BaseModel]) -> None:
    """Refuse a class that another process could not find again (P3)."""
    if declaration(cls).name is not None:
        return
    for part in _classes(cls):
        where = _passing(part)
        if where is not None:
            raise PublishError(
                f"{cls.__name__} can't be kept: {part.__name__} is defined {where}, where another process does not "
                f'find it. Define it in a module, or name it: @flock_type("{cls.__name__}")'
            )


def _classes(annotation: Any) -> Iterator[type]:  # noqa: ANN401 - what may stand between the brackets of a generic
    """Give the classes that the name of a type is made of."""
    generic: dict[str, Any] = getattr(annotation, "__pydantic_generic_metadata__", {})
    origin = generic.get("origin")
    inner = get_args(annotation) if origin is None else (origin, *generic["args"])
    for each in inner:
        yield from _classes(each)
    if not inner and isinstance(annotation, type):
        yield annotation


def _passing(cls: type) -> str | None:
    """Say where a class is defined, if it is gone with its process."""
    if "<locals>" in cls.__qualname__:
        return "inside a function"
    if cls.__module__ == "__main__" and not getattr(sys.modules.get("__main__"), "__file__", None):
        return "in a notebook or at a prompt"
    return None


def _write(snapshot: BaseModel, *, by_alias: bool) -> str:
    """Give the text of a payload if it reads back as the same; raises PublishError."""
    cls = type(snapshot)
    try:
        text = cls.__pydantic_serializer__.to_json(
            snapshot, by_alias=by_alias, round_trip=True, warnings=False
        ).decode()
    except Exception as error:
        hint = f". {FOR_BYTES}" if "invalid utf-8 sequence" in str(error) else ""
        raise PublishError(f"{cls.__name__} can't be kept: {error}{hint}") from error
    if is_kept(snapshot, text):
        return text
    try:
        loss = loss_of(snapshot, cls.__pydantic_validator__.validate_json(text, **_NAMES_TOO))
    except ValidationError as error:
        hint = advice(loss_at(snapshot, _details(error)[0]["loc"]))
        raise PublishError(f"{cls.__name__} can't be kept ({_said(error)}): {hint}") from error
    except Exception as error:
        raise PublishError(f"{cls.__name__} can't be kept: its JSON can't be read back: {_said(error)}") from error
    if loss is not None:
        raise PublishError(f"{cls.__name__} can't be kept: {advice(loss)}")
    return text


def _write_by_names(snapshot: BaseModel, refusal: PublishError) -> str:
    """Try again with the names of fields in place of aliases; raises the first refusal when that is no better."""
    try:
        return _write(snapshot, by_alias=False)
    except PublishError:
        raise refusal from refusal.__cause__


def decode(name: str, version: int, payload: str, types: Types) -> BaseModel:
    """Give a payload back; one that this program can't read is given as `Unreadable`, which says why."""
    cls = types.find(name)
    if cls is None:
        return Unreadable(type=name, version=version, content=payload, reason=f"no class {name!r} is known here")
    try:
        return _read(cls, version, payload)
    except Exception as error:  # noqa: BLE001 - the guard of validators and of `upgrade`: each becomes a reason
        return Unreadable(type=name, version=version, content=payload, reason=_said(error))


def pruned(name: str, version: int) -> Unreadable:
    """Stand for a payload that was let go: the one that has no content, which JSON always has."""
    return Unreadable(type=name, version=version, content="", reason=_PRUNED)


def is_pruned(snapshot: BaseModel) -> bool:
    """Say whether this stands for a payload that was let go."""
    return isinstance(snapshot, Unreadable) and not snapshot.content


def _read(cls: type[BaseModel], version: int, payload: str) -> BaseModel:
    own = declaration(cls)
    if version > own.version:
        raise ValueError(f"written by a newer version: {version}, while the class here has {own.version}")
    if version < own.version and own.upgrade is not None:
        data = own.upgrade(from_json(payload), version)
        if not isinstance(data, dict) and not issubclass(cls, RootModel):
            raise TypeError(f"upgrade gave no dict but {type(data).__name__}")
        payload = to_json(data).decode()
    read: BaseModel = cls.__pydantic_validator__.validate_json(payload, **_NAMES_TOO)
    return read


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _said(error: Exception) -> str:
    """Say what is wrong, without the values: these may be private."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in _details(error))
    return f"{type(error).__name__}: {error}"


def visibility_text(visibility: Visibility) -> str | None:
    """Give a visibility as text, None for public; raises PublishError for a kind of the user's own."""
    if visibility is PUBLIC:
        return None
    try:
        return _visibility_text(visibility)
    except TypeError:  # it can't be hashed, which each of the five can
        return json.dumps(to_plain(visibility), default=to_plain)


def visibility_from(text: str | None) -> Visibility:
    """Read what `visibility_text` gave; raises StoreError for any other text, so that nothing becomes public."""
    return PUBLIC if text is None else _visibility_from(text)


@functools.lru_cache(maxsize=4096, typed=True)
def _visibility_text(visibility: Visibility) -> str | None:
    data = to_plain(visibility)
    return None if data == {"kind": "public"} else json.dumps(data, default=to_plain)


@functools.lru_cache(maxsize=4096)
def _visibility_from(text: str) -> Visibility:
    try:
        return from_plain(json.loads(text))
    except (TypeError, ValueError) as error:
        raise StoreError(f"this is no visibility as stores keep it: {error}") from error
