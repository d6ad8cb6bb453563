"""The shape of the code base: sizes, the facade, and what `import flock` does and does not do."""

import ast
import io
import json
import pathlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from typing import Any

import pytest

import flock

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "flock"
MODULES = sorted(PACKAGE.rglob("*.py"))
SINGLE = [PACKAGE / name for name in ("app.py", "home.py", "orchestrator.py", "ports.py")]
CORE = [*SINGLE, *PACKAGE.glob("model/*.py"), *PACKAGE.glob("core/*.py")]

# Of code: no blank lines, comments or docstrings. What is declared, called, looked at and measured stands around it.
CORE_LINES = 3500
FACADE = [
    "AfterVisibility",
    "AgentComponent",
    "AgentFailedError",
    "Artifact",
    "Backpressure",
    "BatchSpec",
    "BlockingCallWarning",
    "ClosedError",
    "ConfigurationError",
    "Context",
    "Engine",
    "EngineComponent",
    "EvalInputs",
    "EvalResult",
    "Event",
    "Failure",
    "FanOut",
    "Flock",
    "FlockError",
    "JoinSpec",
    "LabelledVisibility",
    "LimitExceeded",
    "ObstructedError",
    "OrchestratorComponent",
    "OutputError",
    "OutputGroup",
    "PrivateVisibility",
    "PublicVisibility",
    "PublishError",
    "RunCancelledError",
    "RunReport",
    "RunStatus",
    "ScheduleSpec",
    "Stale",
    "StoreError",
    "SyncInLoopError",
    "TenantVisibility",
    "Until",
    "Visibility",
    "VisibilityError",
    "WaitError",
    "Waiting",
    "When",
    "agent",
    "flock_type",
    "run_sync",
]

VENDORS = {
    "bandit", "click", "dspy", "fastapi", "google.protobuf", "httpx", "hypothesis", "openai", "opentelemetry.exporter",
    "opentelemetry.sdk", "psycopg", "pydantic_ai", "pytest", "radon", "requests", "sqlite3", "starlette", "typer",
}  # fmt: skip
STUDIES = {"matplotlib", "numpy", "pandas", "pyDOE3", "pyarrow", "rich", "scipy", "yaml"}  # the extra and its like

CLOCKWORK = {
    "asyncio.sleep", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "loop.call_at", "loop.call_later",
    "loop.time",
}  # fmt: skip

IMPORT_FLOCK = """
import json, logging, os, signal, sys, threading, warnings
def world():
    return {
        "environment": dict(os.environ),
        "filters": len(warnings.filters),
        "handlers": [str(h) for h in logging.root.handlers],
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
        "interrupt": str(signal.getsignal(signal.SIGINT)),
        "level": logging.root.level,
        "threads": threading.active_count(),
    }
import asyncio, opentelemetry.metrics, opentelemetry.trace, pydantic
before = world()
import flock
ours = {n: l for n, l in logging.root.manager.loggerDict.items() if n.startswith("flock")}
loggers = [n for n, l in ours.items() if getattr(l, "handlers", [])]
print(json.dumps({"before": before, "after": world(), "modules": sorted(sys.modules), "loggers": loggers}))
"""


def name_of(path: pathlib.Path) -> str:
    """Give a path as readers know it."""
    return path.relative_to(ROOT).as_posix()


def lines_of(path: pathlib.Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def code_lines_of(path: pathlib.Path) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            case _:
                pass
    return len(lines)


def dotted_names(path: pathlib.Path) -> Iterator[str]:
    """Give every `a.b` that a module's code names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                yield f"{owner}.{attribute}"
            case _:
                pass


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    """What a new process with warnings as errors finds after `import flock`."""
    process = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-I", "-W", "error", "-c", IMPORT_FLOCK], capture_output=True, text=True, check=False, env={}
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    found: dict[str, Any] = json.loads(process.stdout)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_in_the_head(path: pathlib.Path) -> None:
    assert lines_of(path) <= 400


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_a_drawer_for_odds_and_ends(path: pathlib.Path) -> None:
    assert path.stem not in {"base", "common", "helpers", "manager", "misc", "util", "utils"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_type_error_is_silenced(path: pathlib.Path) -> None:
    assert "type: ignore" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [p for p in MODULES if p != PACKAGE / "core" / "clock.py"], ids=name_of)
def test_only_the_clock_waits_for_time(path: pathlib.Path) -> None:
    assert not CLOCKWORK.intersection(dotted_names(path))


def test_the_core_does_not_grow() -> None:
    assert sum(code_lines_of(path) for path in CORE) <= CORE_LINES


def test_the_facade_is_sorted_and_exact() -> None:
    assert flock.__all__ == sorted(flock.__all__)
    assert set(flock.__all__) == set(FACADE)


def test_every_name_of_the_facade_is_there_and_no_other() -> None:
    submodules = {path.stem for path in PACKAGE.iterdir()}
    public = {name for name in vars(flock) if name.isidentifier() and not name.startswith("_")}
    assert public - submodules == set(flock.__all__)


def test_the_facade_does_nothing_but_import() -> None:
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    kinds = {type(node) for node in body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}


def test_importing_flock_loads_no_vendor(imported: dict[str, Any]) -> None:
    loaded: set[str] = set(imported["modules"])
    assert loaded & (VENDORS | STUDIES) == set()


def test_importing_the_studies_loads_none_of_the_libraries_that_their_extra_brings() -> None:
    code = "import json, sys, flock.studies; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert {name.partition(".")[0] for name in json.loads(found.stdout)} & STUDIES == set()


def test_importing_flock_loads_no_edge_of_its_own(imported: dict[str, Any]) -> None:
    edges = {f"flock.{name}" for name in ("cli", "studies", "tasks", "testing", "tracing", "web")}
    assert set(imported["modules"]) & edges == set()


def test_importing_flock_changes_nothing_in_the_process(imported: dict[str, Any]) -> None:
    assert imported["after"] == imported["before"]
    assert imported["loggers"] == []
    assert imported["after"]["threads"] == 1


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    docs = ROOT / "docs"
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))
    assert sorted(re.findall(r'"([^"]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))) == pages


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
