"""Our own analysers: each looks at the syntax tree of one file for one kind of thing."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from .model import FileFindings, Finding, SourceFile
from .pitfalls import pitfalls
from .rules import ALIASES, found
from .syntax import comments, parse

Analyse = Callable[[SourceFile], Iterable[Finding]]
Function = ast.FunctionDef | ast.AsyncFunctionDef

LONG_FUNCTION = 60
LONG_FILE = 1_000
DEEPEST = 4
MOST_PARAMETERS = 6
MOST_NAMES = 5

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
_MARKER = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b:?\s*(.*)")
_NOQA = re.compile(r"#\s*noqa\b(?::\s*(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)


def analyse(name: str, source: SourceFile) -> FileFindings:
    """Run one analyser on one file, obeying `noqa` comments."""
    findings = tuple(ANALYSERS[name](source))
    silenced = _silenced(source.text) if findings else {}
    kept = (one for one in findings if one.rule not in silenced.get(one.line, ()))
    return FileFindings(review=source.review, path=source.path, analyser=name, findings=tuple(kept))


def broken(source: SourceFile) -> Iterator[Finding]:
    """Files that cannot be read or parsed."""
    parsed = parse(source.text)
    if source.problem:
        yield found("unreadable", 1, f"could not be read: {source.problem}", "broken")
    elif parsed.error:
        yield found("syntax-error", parsed.line, f"does not parse: {parsed.error}", "broken")


def structure(source: SourceFile) -> Iterator[Finding]:
    """Functions and files that are too long, too deep or want too much."""
    lines = len(source.text.splitlines())
    if lines > LONG_FILE:
        yield found("long-file", 1, f"{lines:,} lines in one file", "structure")
    for function in _functions(parse(source.text).tree):
        yield from _shape(function)


def docstrings(source: SourceFile) -> Iterator[Finding]:
    """Public names without a docstring, as one finding per file; tests speak by their names."""
    tree = parse(source.text).tree
    if source.path.endswith(".pyi") or re.search(r"(^|/)(tests?/|test_|conftest)", source.path) or not tree.body:
        return
    missing = [node for node in _public(tree) if ast.get_docstring(node, clean=False) is None]
    if missing:
        names = [getattr(node, "name", "the module") for node in missing]
        shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        line = getattr(missing[0], "lineno", 1)
        yield found("missing-docstrings", line, f"no docstring: {shown} ({len(names)} in all)", "docstrings")


def imports(source: SourceFile) -> Iterator[Finding]:
    """Find imported names that the file never uses."""
    if source.path.endswith(("__init__.py", ".pyi")):
        return
    tree = parse(source.text).tree
    used = _used_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if _bound(node, alias) not in used and alias.name != alias.asname:
                    yield found("unused-import", alias.lineno, f"`{alias.name}` is imported but not used", "imports")


def markers(source: SourceFile) -> Iterator[Finding]:
    """Comments that say that something is unfinished."""
    for line, comment in comments(source.text):
        if match := _MARKER.match(comment):
            yield found("unfinished", line, f"{match[1]}: {match[2] or 'no explanation'}", "markers")


ANALYSERS: Mapping[str, Analyse] = {
    "broken": broken,
    "structure": structure,
    "pitfalls": pitfalls,
    "docstrings": docstrings,
    "imports": imports,
    "markers": markers,
}


def _silenced(text: str) -> dict[int, frozenset[str]]:
    every = frozenset(ALIASES.values())
    silenced: dict[int, frozenset[str]] = {}
    for line, comment in comments(text):
        if match := _NOQA.search(comment):
            codes = re.split(r"[,\s]+", match["codes"]) if match["codes"] else []
            silenced[line] = frozenset(ALIASES.get(code.upper(), "") for code in codes) if codes else every
    return silenced


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _shape(function: Function) -> Iterator[Finding]:
    name, line = function.name, function.lineno
    length = (function.end_lineno or line) - line + 1
    if length > LONG_FUNCTION:
        yield found("long-function", line, f"`{name}` has {length} lines", "structure")
    depth = max(map(_depth, function.body))
    if depth > DEEPEST:
        yield found("deep-nesting", line, f"`{name}` nests {depth} blocks", "structure")
    wanted = [one.arg for one in (*function.args.posonlyargs, *function.args.args) if one.arg not in {"self", "cls"}]
    if len(wanted) > MOST_PARAMETERS:
        yield found("many-parameters", line, f"`{name}` takes {len(wanted)} positional parameters", "structure")


def _depth(node: ast.AST) -> int:
    """Give the nesting of blocks below a node; `elif` does not nest, and a function starts anew."""
    if isinstance(node, Function | ast.Lambda | ast.ClassDef):
        return 0
    inner = [_depth(child) for child in ast.iter_child_nodes(node) if not _is_elif(node, child)]
    chained = [_depth(child) for child in ast.iter_child_nodes(node) if _is_elif(node, child)]
    return max([max(inner, default=0) + isinstance(node, _BLOCKS), *chained])


def _is_elif(parent: ast.AST, child: ast.AST) -> bool:
    return isinstance(parent, ast.If) and isinstance(child, ast.If) and parent.orelse == [child]


def _public(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | Function]:
    yield tree
    inside: list[ast.Module | ast.ClassDef] = [tree]
    while inside:
        for node in inside.pop(0).body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_") and not _explained(node):
                yield node
                if isinstance(node, ast.ClassDef):
                    inside.append(node)


def _explained(node: ast.ClassDef | Function) -> bool:
    """Say whether a docstring would repeat what stands elsewhere."""
    decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
    return not decorators.isdisjoint({"overload", "override", "setter", "deleter"})


def _bound(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """Give the name that an import binds; `*` and `__future__` bind none."""
    if alias.name == "*" or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
        return ""
    return alias.asname or alias.name.partition(".")[0]


def _used_names(tree: ast.Module) -> set[str]:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {""}
    # Names may be used inside strings too: in `__all__` and in annotations.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= 200:  # noqa: PLR2004
            used.update(re.findall(r"[^\W\d]\w*", node.value))
    return used
