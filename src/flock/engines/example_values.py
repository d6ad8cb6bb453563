"""Valid, readable and repeatable instances of any model, made from what it declares."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, PydanticUserError, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import to_json

from flock.engines.dice import Dice
from flock.engines.scalars import UnmakeableError, scalar
from flock.engines.shapes import Shapes
from flock.model.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]
"""Where a value stands: the model's name, then fields and indices."""

_DEPTH: Final = 3
"""Models nested as deep as this get the smallest values that are valid."""

_FEW: Final = 2
_TRIES: Final = 20
_REF: Final = "#/$defs/"
_REMEDY: Final = "give the field a default or Field(examples=[...]), or the agent an engine"


def example(model: type[Model], *, seed: str = "") -> Model:
    """Return a valid instance, the same in every process for one model and seed.

    A field with a default keeps it, others take one of their `examples` that validates, else a made-up value.
    Raises ConfigurationError, with the field's path, where nothing valid is found.
    """
    return Examples(model).make(seed=seed)


class Examples(Generic[Model]):
    """Makes instances of one model, whose declaration it reads once."""

    def __init__(self, model: type[Model]) -> None:
        """Raises ConfigurationError for a model that is not complete."""
        self._model = model
        try:
            self._shape = model.model_json_schema(schema_generator=Shapes)
        except PydanticUserError as error:
            raise _refusal((model.__name__,), error.message) from error
        self._definitions: dict[str, JsonSchemaValue] = self._shape.get("$defs", {})
        self._heights = _measure(self._definitions)

    def make(self, *, seed: str = "") -> Model:
        """Return a valid instance, as `example` does."""
        name = self._model.__name__
        rejected: set[tuple[Path, int]] = set()
        while True:
            author = _Author(self._definitions, self._heights, seed, rejected)
            draft = author.write(self._shape, (name,), 0)
            try:
                return self._model.model_validate_json(to_json(draft))
            except ValidationError as error:
                # JSON can't say some members of enums; strict models read nothing else.
                with suppress(ValidationError):
                    return self._model.model_validate(draft)
                blamed = _blamed(author.used, error)
                if not blamed:
                    first = error.errors(include_url=False)[0]
                    raise _refusal((name, *first["loc"]), f"{first['msg']}, got {first['input']!r}") from error
                rejected |= blamed


class _Author:
    """Writes one draft as plain data and remembers which examples it used."""

    def __init__(
        self,
        definitions: Mapping[str, JsonSchemaValue],
        heights: Mapping[str, float],
        seed: str,
        rejected: set[tuple[Path, int]],
    ) -> None:
        self.used: dict[Path, int] = {}
        self._definitions = definitions
        self._heights = heights
        self._seed = seed
        self._rejected = rejected
        self._containers = {"object": self._object, "array": self._array, "dict": self._dict}

    def write(self, shape: JsonSchemaValue, path: Path, depth: int) -> object:
        """Write a value of the shape; `depth` counts the models around it."""
        given: list[object] = shape.get("examples") or []
        if choices := [index for index in range(len(given)) if (path, index) not in self._rejected]:
            self.used[path] = self._dice(path).pick(choices)
            return given[self.used[path]]
        match shape:
            case {"$ref": str(ref)}:
                return self._model(ref.removeprefix(_REF), path, depth)
            case {"const": value}:
                return value
            case {"enum": [*options]}:
                return self._dice(path).pick(options)
            case {"anyOf": [*branches]} | {"oneOf": [*branches]}:
                return self._union(branches, path, depth)
            case {"contentSchema": content}:
                return to_json(self.write(content, path, depth)).decode()
            case {"type": "object" | "array" | "dict" as kind}:
                return self._containers[kind](shape, path, depth)
            case _:
                return self._scalar(shape, path)

    def _dice(self, path: Path) -> Dice:
        return Dice("\0".join([self._seed, *(repr(step) for step in path)]))

    def _scalar(self, shape: JsonSchemaValue, path: Path) -> object:
        label = next(step for step in reversed(path) if isinstance(step, str))
        try:
            return scalar(shape, label.replace("_", " "), self._dice(path))
        except UnmakeableError as error:
            raise _refusal(path, str(error)) from error

    def _model(self, name: str, path: Path, depth: int) -> object:
        if math.isinf(self._heights[name]):
            raise _refusal(path, f"every {name} needs another one")
        return self.write(self._definitions[name], path, depth + 1)

    def _union(self, branches: list[JsonSchemaValue], path: Path, depth: int) -> object:
        start = self._dice(path).below(len(branches))
        order = branches[start:] + branches[:start]
        order.sort(key=lambda branch: self._rank(branch, depth))
        refusals: list[ConfigurationError] = []
        for branch in order:
            try:
                return self.write(branch, path, depth)
            except ConfigurationError as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _object(self, shape: JsonSchemaValue, path: Path, depth: int) -> object:
        required: list[str] = shape.get("required", [])
        fields: dict[str, object] = {}
        for name, field in shape.get("properties", {}).items():
            if name in required:
                fields[name] = self.write(field, (*path, name), depth)
            elif "default" in field and ("const" in field or "enum" in field):
                # It may be the tag of a union, which pydantic wants to read.
                fields[name] = field.get("const", field["default"])
        return fields

    def _array(self, shape: JsonSchemaValue, path: Path, depth: int) -> object:
        head: list[JsonSchemaValue] = shape.get("prefixItems", [])
        values = [
            item["default"] if "default" in item else self.write(item, (*path, index), depth)
            for index, item in enumerate(head)
        ]
        if len(values) == shape.get("maxItems"):
            return values
        items = shape.get("items", {})
        count = self._count(shape, [items], depth)
        unique = shape.get("uniqueItems", False)
        distinct: dict[object, object] = {}
        for index in range(len(values), len(values) + count * (_TRIES if unique else 1)):
            value = self.write(items, (*path, index), depth)
            distinct.setdefault(to_json(value) if unique else index, value)
            if len(values) + len(distinct) >= count:
                break
        self._check_count(shape, len(values) + len(distinct), path)
        return [*values, *distinct.values()]

    def _dict(self, shape: JsonSchemaValue, path: Path, depth: int) -> object:
        count = self._count(shape, [shape["keys"], shape["values"]], depth)
        pairs: dict[object, object] = {}
        for index in range(count * _TRIES):
            key = self.write(shape["keys"], (*path, index, "key"), depth)
            if isinstance(key, list | dict):
                raise _refusal(path, "JSON has no such keys")
            pairs.setdefault(key, self.write(shape["values"], (*path, index), depth))
            if len(pairs) >= count:
                break
        self._check_count(shape, len(pairs), path)
        return pairs

    def _rank(self, branch: JsonSchemaValue, depth: int) -> tuple[float, bool]:
        height = _height(branch, self._heights)
        return (height if depth >= _DEPTH or math.isinf(height) else 0, branch.get("type") == "null")

    def _count(self, shape: JsonSchemaValue, parts: list[JsonSchemaValue], depth: int) -> int:
        height = max(_height(part, self._heights) for part in parts)
        usual = 0 if math.isinf(height) or (height and depth >= _DEPTH) else _FEW if depth < _FEW else 1
        least: int = shape.get("minItems", 0)
        most: int | None = shape.get("maxItems")
        count = max(usual, least)
        return count if most is None else min(count, most)

    def _check_count(self, shape: JsonSchemaValue, count: int, path: Path) -> None:
        if count < shape.get("minItems", 0):
            raise _refusal(path, f"only {count} different values are known")


def _measure(definitions: Mapping[str, JsonSchemaValue]) -> dict[str, float]:
    """Answer how deep the smallest value of each definition nests; infinity where it has no end."""
    heights = dict.fromkeys(definitions, math.inf)
    for _ in definitions:
        heights = {name: 1 + _height(shape, heights) for name, shape in definitions.items()}
    return heights


def _height(shape: JsonSchemaValue, heights: Mapping[str, float]) -> float:
    def highest(shapes: Iterable[JsonSchemaValue]) -> float:
        return max((_height(inner, heights) for inner in shapes), default=0)

    match shape:
        case {"examples": [_, *_]}:
            return 0
        case {"$ref": str(ref)}:
            return heights[ref.removeprefix(_REF)]
        case {"anyOf": [*branches]} | {"oneOf": [*branches]}:
            return min(_height(branch, heights) for branch in branches)
        case {"type": "object", "required": [*required], "properties": properties}:
            return highest(properties[name] for name in required)
        case {"type": "array" | "dict", "minItems": int(least)} if least > 0:
            inner = [shape[key] for key in ("items", "keys", "values") if key in shape]
            return highest([*shape.get("prefixItems", []), *inner])
        case _:
            return 0


def _blamed(used: Mapping[Path, int], error: ValidationError) -> set[tuple[Path, int]]:
    """Answer which examples the errors lie in; all, if they lie in none."""
    places = [details["loc"] for details in error.errors(include_url=False)]
    within = {(path, index) for path, index in used.items() if any(_contains(path[1:], place) for place in places)}
    return within or set(used.items())


def _contains(path: Path, place: Path) -> bool:
    # pydantic's places also name the branches of unions.
    steps = iter(place)
    return all(step in steps for step in path)


def _refusal(path: Path, reason: str) -> ConfigurationError:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return ConfigurationError(f"{place}: no example value can be made ({reason}): {_REMEDY}")
