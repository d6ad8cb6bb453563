"""What `--publish` names: JSON text, a file of JSON or JSON lines, or standard input."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from flock.cli.errors import UsageError

Json: TypeAlias = "str | float | bool | list[Json] | dict[str, Json] | None"
_WIDTH = 40  # characters shown of a wrong value


def read(options: Sequence[str]) -> list[Mapping[str, Json]]:
    """Give the objects to publish, in the order given; raises UsageError that says where something is wrong."""
    if options.count("-") > 1:
        raise UsageError("--publish - reads standard input, which can be read only once")
    found: list[Mapping[str, Json]] = []
    for number, option in enumerate(options, 1):
        name, text = _text(option, number)
        found += _objects(name, text)
    return found


def _text(option: str, number: int) -> tuple[str, str]:
    if option == "-":
        return "standard input", _decoded("standard input", sys.stdin.buffer.read())
    if not option.startswith("@"):
        return f"--publish {number}", option
    path = Path(option[1:])
    try:
        return str(path), _decoded(str(path), path.read_bytes())
    except OSError as error:
        raise UsageError(f"--publish @{path}: {error.strerror}") from error


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text: byte {error.start + 1} can't be read") from error


def _objects(name: str, text: str) -> Iterator[Mapping[str, Json]]:
    """Read one object, a list of objects, or one object per line."""
    if not text.strip():
        raise UsageError(f"{name} is empty: give a JSON object with a 'type', or a list of them")
    for place, value in _values(name, text):
        if not isinstance(value, list):
            yield _object(place, value)
            continue
        for number, each in enumerate(value, 1):
            yield _object(f"{place}, item {number}", each)


def _object(place: str, value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise UsageError(f"{place}: {_shown(value)} is no JSON object: give an object with a 'type'")
    return value


def _values(name: str, text: str) -> Iterator[tuple[str, Json]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) == 1 or not _is_whole(lines[0][1]):
        yield name, _value(name, text, 1)
        return
    for number, line in lines:
        yield f"{name}, line {number}", _value(name, line, number)


def _is_whole(line: str) -> bool:
    """Say whether a first line is a value of its own, so that the text is JSON lines."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _value(name: str, text: str, line: int) -> Json:
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1} column {error.colno}"
        near = text[max(0, error.pos - 15) : error.pos + 15].strip()
        raise UsageError(f"{name}: bad JSON at {place}: {error.msg} (near {near!r})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: bad JSON: {error}") from error
    return value


def _shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
