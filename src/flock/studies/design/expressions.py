"""Rules over factors and blocks, as text that can do nothing else than compare values."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, singledispatch
from typing import Any, TypeGuard

from flock.studies.stable import ValidationError

MAPPINGS = frozenset({"factors", "blocks"})  # names that every rule may use beside those of factors and blocks
_LONGEST = 2000  # characters
_DEEPEST = 60  # nodes inside each other

_Names = Mapping[str, object]
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each for each in (len, int, float, str, bool, abs, min, max)
}
_OF: Any = operator  # its functions take anything, which their types do not say
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _OF.add,
    ast.Sub: _OF.sub,
    ast.Mult: _OF.mul,
    ast.Div: _OF.truediv,
    ast.FloorDiv: _OF.floordiv,
    ast.Mod: _OF.mod,
    ast.Not: _OF.not_,
    ast.UAdd: _OF.pos,
    ast.USub: _OF.neg,
    ast.Eq: _OF.eq,
    ast.NotEq: _OF.ne,
    ast.Lt: _OF.lt,
    ast.LtE: _OF.le,
    ast.Gt: _OF.gt,
    ast.GtE: _OF.ge,
    ast.In: lambda *pair: _OF.contains(*reversed(pair)),
    ast.NotIn: lambda *pair: not _OF.contains(*reversed(pair)),
    ast.Is: _OF.is_,
    ast.IsNot: _OF.is_not,
}
_VALUES: tuple[type[ast.AST], ...] = (
    *(ast.Constant, ast.Name, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Subscript, ast.Attribute),
    *(ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.Call),
)
_ALLOWED = (*_VALUES, ast.Load, ast.And, ast.Or, *_OPERATORS)


def evaluate(expression: str, names: Mapping[str, object]) -> bool:
    """Say whether a rule holds of these values; raises ValidationError that names the rule for whatever is not that."""
    tree = _parse(expression)
    try:
        found = _value(tree, names)
    except Exception as error:
        raise ValidationError(f"{_rule(expression)} fails: {type(error).__name__}: {error}") from error
    if not isinstance(found, bool):
        raise ValidationError(
            f"{_rule(expression)} gives {found!r}: compare it with something, a rule is true or false"
        )
    return found


def names_in(expression: str) -> set[str]:
    """Give the names that a rule uses, also those after `factors.` and `blocks.`; raises ValidationError.

    `factors` and `blocks` are among them where they are used; the functions that a rule may call are not.
    """
    nodes = list(ast.walk(_parse(expression)))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    return {name for node in nodes if node not in functions and (name := _name_at(node)) is not None}


def _name_at(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=of), attr=name) if of in MAPPINGS:
            return name
        case ast.Subscript(value=ast.Name(id=of), slice=ast.Constant(value=str() as name)) if of in MAPPINGS:
            return name
        case _:
            return None


@lru_cache(maxsize=256)
def _parse(expression: str) -> ast.expr:
    if len(expression) > _LONGEST:
        raise ValidationError(f"{_rule(expression)} has more than {_LONGEST} characters: make several rules of it")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValidationError(f"{_rule(expression)} can't be read: {error}") from error
    level: Sequence[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        for node in level:
            _allow(node, expression)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise ValidationError(f"{_rule(expression)} is nested too deeply: make several rules of it")
    return tree


def _allow(node: ast.AST, expression: str) -> None:
    """Raise ValidationError for what a rule can't hold."""
    match node:
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            return
        case ast.Call():
            raise ValidationError(f"{_rule(expression)} calls what it may not: only {', '.join(_FUNCTIONS)}")
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return
        case ast.Compare(ops=operators) if any(isinstance(each, ast.Is | ast.IsNot) for each in operators):
            if not all(_is_none(each) for each in node.comparators):
                raise ValidationError(f"{_rule(expression)} uses `is` with something else than None: use `==`")
        case ast.Dict(keys=keys) if None in keys:
            raise ValidationError(f"{_rule(expression)} has `**`, which a rule can't have")
        case _ if not isinstance(node, _ALLOWED) or isinstance(node, ast.Constant):
            raise ValidationError(f"{_rule(expression)} has a {type(node).__name__}, which a rule can't have")
        case _:
            return


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _rule(expression: str) -> str:
    shown = expression if len(expression) <= _LONGEST // 10 else f"{expression[: _LONGEST // 10]}..."
    return f"the expression {shown!r}"


@singledispatch
def _value(node: ast.AST, names: _Names) -> object:  # noqa: ARG001 - the kinds of nodes have their own
    raise TypeError(f"a {type(node).__name__} has no value")


@_value.register
def _(node: ast.Constant, names: _Names) -> object:  # noqa: ARG001
    return node.value


@_value.register
def _(node: ast.Name, names: _Names) -> object:
    return _look_up(names, node.id)


@_value.register
def _(node: ast.List, names: _Names) -> object:
    return _values(node.elts, names)


@_value.register
def _(node: ast.Tuple, names: _Names) -> object:
    return tuple(_values(node.elts, names))


@_value.register
def _(node: ast.Set, names: _Names) -> object:
    return set(_values(node.elts, names))


@_value.register
def _(node: ast.Dict, names: _Names) -> object:
    keys = [key for key in node.keys if key is not None]
    return dict(zip(_values(keys, names), _values(node.values, names), strict=True))


@_value.register
def _(node: ast.Attribute, names: _Names) -> object:
    of = _value(node.value, names)
    if not _is_mapping(of):
        raise TypeError(f"{ast.unparse(node)} is an attribute of a {type(of).__name__}, not of factors or blocks")
    return _look_up(of, node.attr)


@_value.register
def _(node: ast.Subscript, names: _Names) -> object:
    of, key = _values([node.value, node.slice], names)
    if _is_mapping(of):
        return _look_up(of, key)
    if isinstance(key, int) and _is_sequence(of):
        return of[key]
    raise TypeError(f"{ast.unparse(node)} is no member of a {type(of).__name__}")


@_value.register
def _(node: ast.BoolOp, names: _Names) -> object:
    found: object = None
    for each in node.values:
        found = _value(each, names)
        if bool(found) is isinstance(node.op, ast.Or):
            break
    return found


@_value.register
def _(node: ast.UnaryOp, names: _Names) -> object:
    return _OPERATORS[type(node.op)](_value(node.operand, names))


@_value.register
def _(node: ast.BinOp, names: _Names) -> object:
    left, right = _values([node.left, node.right], names)
    joins = isinstance(node.op, ast.Add) and type(left) is type(right) and _is_sequence(left)
    if not joins and not (_is_number(left) and _is_number(right)):
        raise TypeError(f"{ast.unparse(node)} needs two numbers")  # `%` and `*` of a text can be huge
    return _OPERATORS[type(node.op)](left, right)


@_value.register
def _(node: ast.Compare, names: _Names) -> object:
    left = _value(node.left, names)
    for kind, each in zip(node.ops, node.comparators, strict=True):
        right = _value(each, names)
        if not _OPERATORS[type(kind)](left, right):
            return False
        left = right
    return True


@_value.register
def _(node: ast.IfExp, names: _Names) -> object:
    return _value(node.body if _value(node.test, names) else node.orelse, names)


@_value.register
def _(node: ast.Call, names: _Names) -> object:
    function = _FUNCTIONS[ast.unparse(node.func)]
    return function(*_values(node.args, names))


def _values(nodes: Iterable[ast.expr], names: _Names) -> list[object]:
    return [_value(each, names) for each in nodes]


def _look_up(names: Mapping[Any, object], name: object) -> object:
    if name not in names:
        raise NameError(f"there is no {name!r}, only {', '.join(str(each) for each in names) or 'nothing'}")
    return names[name]


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, object]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, str | list | tuple)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float)
