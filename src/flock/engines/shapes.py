"""What a model wants, as its JSON schema plus what that leaves out: bounds of dates, key types, digits, zones."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema
from typing_extensions import override

_FAR_AHEAD: Final = date(2100, 1, 1)
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Shapes(GenerateJsonSchema):
    """The JSON schema of a model in a dialect that keeps every constraint, as numbers where it is ordered.

    Types of its own: "decimal", "date" (days), "datetime" and "time" and "timedelta" (seconds), "dict", "url" and
    "unsupported".
    """

    @override
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        step = schema.get("multiple_of")
        return {
            "type": "decimal",
            "digits": schema.get("max_digits"),
            "places": schema.get("decimal_places"),
            **_bounds(schema, Fraction),
            **({} if step is None else {"multipleOf": Fraction(step)}),
        }

    @override
    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        ahead = {"minimum": _FAR_AHEAD.toordinal()} if schema.get("now_op") == "future" else {}
        return {"type": "date", **ahead, **_bounds(schema, date.toordinal)}

    @override
    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        ahead = {"minimum": _seconds_of_day(_FAR_AHEAD)} if schema.get("now_op") == "future" else {}
        return {"type": "datetime", "aware": _aware(schema, default=True), **ahead, **_bounds(schema, _timestamp)}

    @override
    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {"type": "time", "aware": _aware(schema, default=False), **_bounds(schema, _since_midnight)}

    @override
    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "timedelta", **_bounds(schema, _seconds)}

    @override
    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return {
            "type": "dict",
            "keys": self.generate_inner(schema.get("keys_schema", core_schema.str_schema())),
            "values": self.generate_inner(schema.get("values_schema", core_schema.any_schema())),
            "minItems": schema.get("min_length", 0),
            "maxItems": schema.get("max_length"),
        }

    @override
    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return {"enum": schema["members"]}

    @override
    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return {"const": schema["expected"][0]} if len(schema["expected"]) == 1 else {"enum": schema["expected"]}

    @override
    def url_schema(self, schema: core_schema.UrlSchema) -> JsonSchemaValue:
        return {"type": "url", "schemes": schema.get("allowed_schemes") or ["https"]}

    @override
    def multi_host_url_schema(self, schema: core_schema.MultiHostUrlSchema) -> JsonSchemaValue:
        return {"type": "url", "schemes": schema.get("allowed_schemes") or ["https"]}

    @override
    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        return {"const": "1+2j"}

    @override
    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:
        return {"type": "unsupported", "reason": f"it must be an instance of {schema['cls'].__name__}"}

    @override
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {"type": "unsupported", "reason": error_info}

    @override
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Stay silent: what the schema leaves out is checked by validating the example."""


def _bounds(schema: Mapping[str, Any], measure: Callable[[Any], Fraction | int]) -> JsonSchemaValue:
    return {name: measure(schema[key]) for key, name in _BOUNDS.items() if schema.get(key) is not None}


def _aware(schema: Mapping[str, Any], *, default: bool) -> bool:
    if "tz_constraint" in schema:
        return bool(schema["tz_constraint"] != "naive")
    bounds: list[datetime | time] = [schema[key] for key in _BOUNDS if schema.get(key) is not None]
    return bounds[0].tzinfo is not None if bounds else default


def _timestamp(moment: datetime) -> Fraction:
    return _seconds((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH)


def _seconds_of_day(day: date) -> Fraction:
    return _timestamp(datetime.combine(day, time(), UTC))


def _since_midnight(moment: time) -> Fraction:
    return _seconds(datetime.combine(_EPOCH, moment, UTC) - _EPOCH)


def _seconds(span: timedelta) -> Fraction:
    return Fraction(span // timedelta(microseconds=1), 10**6)
