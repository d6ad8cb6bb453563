"""Constructs that work today and hurt tomorrow."""

import ast
from collections.abc import Iterator

from .model import Finding, SourceFile
from .rules import found
from .syntax import parse

_MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})


def pitfalls(source: SourceFile) -> Iterator[Finding]:
    """Mutable defaults, excepts that catch too much, asserts that never fail, sleeps that block the loop."""
    for node in ast.walk(parse(source.text).tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _defaults(node.args)
                yield from _sleeps(node)
            case ast.ExceptHandler():
                yield from _handler(node)
            case ast.Assert(test=ast.Tuple(elts=[_, *_])):
                yield _found("assert-on-tuple", node, "an assert on a tuple never fails")
            case ast.Compare():
                yield from _comparison(node)
            case ast.Try() | ast.TryStar():
                yield from _returns(node)
            case _:
                pass


def _defaults(arguments: ast.arguments) -> Iterator[Finding]:
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None and _mutable(default):
            message = f"all calls share the default `{ast.unparse(default)}`"
            yield _found("mutable-default", default, message)


def _mutable(node: ast.expr) -> bool:
    match node:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _MUTABLE_CALLS
        case _:
            return False


def _sleeps(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[Finding]:
    if not isinstance(function, ast.AsyncFunctionDef):
        return
    for node in _own(function):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                yield _found("blocking-sleep", node, f"`time.sleep` in `{function.name}` stops the whole event loop")
            case _:
                pass


def _handler(handler: ast.ExceptHandler) -> Iterator[Finding]:
    names = _caught(handler.type)
    broad = not names or not names.isdisjoint({"Exception", "BaseException"})
    if handler.type is None:
        yield _found("bare-except", handler, "a bare `except` catches cancellation and exit too")
    elif broad and not any(isinstance(node, ast.Raise) for node in ast.walk(handler)):
        yield _found("broad-except", handler, f"`except {ast.unparse(handler.type)}` without raising again")
    if broad and all(isinstance(node, ast.Pass) or _is_ellipsis(node) for node in handler.body):
        yield _found("silenced-error", handler, "every error disappears here without a trace")


def _caught(node: ast.expr | None) -> set[str]:
    if node is None:
        return set()
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return {ast.unparse(name) for name in names}


def _is_ellipsis(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def _comparison(node: ast.Compare) -> Iterator[Finding]:
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.Eq | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
            yield _found("none-comparison", right, "compare with None by `is`")


def _returns(node: ast.Try | ast.TryStar) -> Iterator[Finding]:
    for statement in node.finalbody:
        for inner in (statement, *_own(statement)):
            if isinstance(inner, ast.Return):
                yield _found("return-in-finally", inner, "a return in `finally` swallows the exception")


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Give what is below a node without the functions inside it, which run at another time."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own(child)


def _found(rule: str, node: ast.expr | ast.stmt | ast.ExceptHandler, message: str) -> Finding:
    return found(rule, node.lineno, message, "pitfalls")
