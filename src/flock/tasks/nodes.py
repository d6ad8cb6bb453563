"""Results as JSON that gives back the same: JSON values, pydantic models and contexts, in lists and dicts.

Text, numbers, truth values, None and lists are themselves; `{"dict": ...}` is a dict, `{"model": name, "of": data}` a
pydantic model and `{"context": node, ...}` a Context. Reading makes instances of classes that are loaded, no others.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from flock.model.errors import StoreError
from flock.model.payload import find_loaded, type_name
from flock.tasks.context import Context, is_context

Node = Any  # what JSON can say


def to_node(value: object) -> Node:
    """Give a result as what JSON can say; raises StoreError for one that this does not give back."""
    if value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    if _is_list(value):
        return [to_node(item) for item in value]
    if _is_dict(value):
        return {"dict": {key: to_node(item) for key, item in value.items()}}
    if isinstance(value, BaseModel):
        return _model(value)
    if is_context(value):
        of = {"task": value.task_id, "workflow": value.workflow_id, "made": value.made}
        return {"context": to_node(value.storage), **of}
    raise StoreError(
        f"a result of type {type(value).__name__} can't be kept: give text, finite numbers, None, lists, dicts with "
        "text keys, or pydantic models"
    )


def from_node(node: Node) -> Any:  # noqa: ANN401 - whatever was written
    """Give a result back; raises StoreError when its class is not loaded or refuses what was written."""
    match node:
        case [*items]:
            return [from_node(item) for item in items]
        case {"dict": items} if _is_dict(items):
            return {key: from_node(item) for key, item in items.items()}
        case {"model": str() as name, "of": data}:
            return _read(name, data)
        case {"context": storage, "task": task, "workflow": workflow, "made": made}:
            return Context(from_node(storage), task, workflow, made)
        case _:
            return node


def _is_list(value: object) -> TypeGuard[list[object]]:
    return type(value) is list


def _is_dict(value: object) -> TypeGuard[dict[str, object]]:
    return type(value) is dict and all(type(key) is str for key in cast("dict[object, object]", value))


def _model(value: BaseModel) -> Node:
    name = type_name(type(value))
    data = from_json(to_json(value, by_alias=True))
    if _read(name, data) != value:
        raise StoreError(f"a result of type {type(value).__name__} can't be kept: its JSON reads back as another value")
    return {"model": name, "of": data}


def _read(name: str, data: Node) -> BaseModel:
    cls = find_loaded(name)
    if cls is None:
        raise StoreError(f"a result of type {name} can't be read: no such class is loaded under that name")
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise StoreError(f"a result of type {name} can't be read back: {error}") from error
