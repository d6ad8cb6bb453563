"""Fingerprints of agents: equal while their code is, in every process and on every version of Python."""

from __future__ import annotations

import dis
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from types import CodeType, FunctionType, MethodType
from typing import Any

from pydantic import BaseModel

from flock.app import Flock
from flock.studies.stable import digest, stable_json_dumps

_LENGTH = 16
_Constant = None | bool | int | float | complex | str | bytes | Enum


def fingerprint(value: object) -> str:
    """Say in short what an agent or evaluator is.

    That is its source, that of its module's functions which it names, and the constants it sees by closure, default,
    global and attribute. What may change while it runs, as lists and what it assigns, is left out.
    """
    return digest(stable_json_dumps(_Reader().parts(value)))[:_LENGTH]


class _Reader:
    """Reads code, each function and class once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def parts(self, value: object) -> Any:  # noqa: ANN401 - JSON
        match value:
            case None | bool() | int() | float() | str() | complex() | bytes() | Enum():
                return repr(value)
            case tuple() | frozenset():
                members = [self.parts(each) for each in _members(value)]
                return sorted(members, key=stable_json_dumps) if isinstance(value, frozenset) else members
            case FunctionType() | MethodType() | type() | functools.partial() | CodeType():
                return self._code(value)
            case BaseModel():
                return [type(value).__qualname__, value.model_dump(mode="json")]
            case _ if callable(value) or (callable(getattr(value, "run", None)) and not isinstance(value, Flock)):
                return [self.parts(type(value)), self._constants(getattr(value, "__dict__", {}))]
            case _:
                return type(value).__qualname__

    def _code(self, value: Any) -> Any:  # noqa: ANN401 - of several kinds, and JSON
        if id(value) in self._seen:
            return value.__qualname__ if hasattr(value, "__qualname__") else "seen"
        self._seen.add(id(value))
        match value:
            case functools.partial():
                return [self.parts(value.func), self.parts(value.args), self._constants(value.keywords)]
            case MethodType():
                return [self.parts(value.__func__), self.parts(value.__self__)]
            case FunctionType():
                return self._function(value)
            case CodeType():
                return [value.co_code.hex(), list(value.co_names), self.parts(value.co_consts)]
            case _:
                return _source(value) or f"{value.__module__}.{value.__qualname__}"

    def _function(self, fn: FunctionType) -> Any:  # noqa: ANN401 - JSON
        written = getattr(fn, "__wrapped__", None)
        code = fn.__code__
        return {
            "source": _source(fn) or self.parts(code),
            "wrapped": self.parts(written) if callable(written) else None,
            "defaults": [self.parts(fn.__defaults__), self._constants(fn.__kwdefaults__ or {})],
            "closure": self._constants(dict(_cells(fn))),
            "globals": self._constants(dict(_globals(fn))),
        }

    def _constants(self, names: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.parts(value) for name, value in names.items()}


def _source(value: Any) -> str | None:  # noqa: ANN401 - a function or a class
    """Give its source without the indentation; None where there is none, as of what was typed into `python`."""
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return None


def _cells(fn: FunctionType) -> Iterator[tuple[str, object]]:
    """Give what a function closes over and does not itself assign."""
    assigned = _assigned(fn.__code__)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        if name in assigned:
            continue
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _globals(fn: FunctionType) -> Iterator[tuple[str, object]]:
    """Give what a function and those inside it name of its module: constants, functions and classes defined there."""
    for code in _codes(fn.__code__):
        assigned = _assigned(code)
        for name in code.co_names:
            value = fn.__globals__.get(name)
            here = getattr(value, "__module__", None) == fn.__module__ and isinstance(value, FunctionType | type)
            if (
                name not in assigned
                and (here or isinstance(value, _Constant) or _is_tuple(value))
                and value is not None
            ):
                yield name, value


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _assigned(code: CodeType) -> set[str]:
    """Give the outer names that a function assigns."""
    return {each.argval for each in dis.get_instructions(code) if each.opname in {"STORE_DEREF", "STORE_GLOBAL"}}


def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, _Constant) or _is_tuple(each) for each in _members(value))


def _members(value: Any) -> Iterator[Any]:  # noqa: ANN401 - of a tuple or set
    yield from value
