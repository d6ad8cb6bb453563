"""Models that JSON is sure to keep: known by their schema and by what they hold, so that nothing has to be read back.

Fields of text, whole numbers, finite numbers and truth values, which may be None, and lists of all but numbers that
may be infinite; nothing else about the class that pydantic takes note of: no constraint, alias, validator, serializer
or setting, which could each make what is read differ from what was written.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

_LEAVES: Final[Mapping[str, type]] = {"int": int, "str": str, "float": float, "bool": bool}
_OF_MODEL: Final = {"type", "cls", "schema", "custom_init", "root_model", "config", "ref", "metadata", "frozen"}
_OF_FIELDS: Final = {"type", "fields", "model_name", "computed_fields"}
_OF_FIELD: Final = {"type", "schema", "metadata"}
_OF_CONFIG: Final = {"title", "frozen"}
_OF_DEFAULT: Final = {"type", "schema", "default", "default_factory", "default_factory_takes_data"}
_LONGEST: Final = 4_000  # characters: shorter text has no number of more digits than Python reads
_Check = tuple[str, frozenset[type] | None]  # a field, and what its list may hold; None: it is a number


class _Field(NamedTuple):
    """What a field may hold, and what its list may."""

    kinds: frozenset[type]
    items: frozenset[type] = frozenset()


def is_kept(snapshot: BaseModel, text: str) -> bool:
    """Say whether a model is read back from its JSON text as it is; False where that is not sure."""
    values = snapshot.__dict__
    checks = _checks(type(snapshot), tuple(values), tuple(map(type, values.values())))
    if checks is None or len(text) > _LONGEST:
        return False
    for name, items in checks:
        value = values[name]
        if not (math.isfinite(value) if items is None else items.issuperset(map(type, value))):
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _checks(cls: type[BaseModel], names: Sequence[str], kinds: Sequence[type]) -> Sequence[_Check] | None:
    """Give what is left to look at in values of these kinds; None when some of them do not fit."""
    fields = _fields(cls)
    if fields is None or fields.keys() != set(names):
        return None
    checks: list[_Check] = []
    for name, kind in zip(names, kinds, strict=True):
        if kind not in fields[name].kinds:
            return None
        if kind is float or kind is list:
            checks.append((name, None if kind is float else fields[name].items))
    return checks


@functools.lru_cache(maxsize=4096)
def _fields(cls: type[BaseModel]) -> Mapping[str, _Field] | None:
    """Give the fields of a class that is plain in all that its schema says."""
    schema: Any = cls.__pydantic_core_schema__
    inner: Any = schema.get("schema")
    if (
        schema.keys() - _OF_MODEL
        or schema["type"] != "model"
        or schema.get("custom_init")
        or schema.get("root_model")
        or schema.get("config", {}).keys() - _OF_CONFIG
        or inner.keys() - _OF_FIELDS
        or inner["type"] != "model-fields"
        or inner.get("computed_fields")
    ):
        return None
    found = {name: _field(field) for name, field in inner["fields"].items()}
    fields = {name: field for name, field in found.items() if field is not None}
    return fields if len(fields) == len(found) else None


def _field(field: Mapping[str, Any]) -> _Field | None:
    schema = field["schema"]
    if schema["type"] == "default" and not schema.keys() - _OF_DEFAULT:
        schema = schema["schema"]
    if field.keys() - _OF_FIELD:
        return None
    if schema.keys() == {"type", "items_schema"} and schema["type"] == "list":
        items = _leaf(schema["items_schema"])
        return None if not items or float in items else _Field(frozenset({list}), items)
    kinds = _leaf(schema)
    return _Field(kinds) if kinds else None


def _leaf(schema: Mapping[str, Any]) -> frozenset[type]:
    """Give the classes of a plain value; none when it may be anything else."""
    if schema.keys() == {"type", "schema"} and schema["type"] == "nullable":
        inner = _leaf(schema["schema"])
        return inner and inner | {type(None)}
    kind = _LEAVES.get(schema["type"]) if schema.keys() == {"type"} else None
    return frozenset() if kind is None else frozenset({kind})
