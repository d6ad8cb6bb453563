"""Finding and reading the Python files of a tree."""

import fnmatch
import io
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .model import PlannedFile, ReviewPlan, ReviewRequest, SourceFile

SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})
LARGEST = 1_000_000


def plan_review(request: ReviewRequest, *, review: str) -> ReviewPlan:
    """List what a request asks for, in a stable order; raises FileNotFoundError for a path that is not there."""
    start = Path(request.path).resolve(strict=True)
    notices: list[str] = []
    if start.is_file():
        root, files = start.parent, [start]
    else:
        root, files = start, sorted(_python_files(start, notices))
    paths = [file.relative_to(root) for file in files]
    return ReviewPlan(
        review=review,
        root=str(root),
        out=request.out,
        files=tuple(_planned(path, root.name) for path in paths if not _excluded(path, request.exclude)),
        notices=tuple(notices),
    )


def read_files(plan: ReviewPlan) -> list[SourceFile]:
    """Read every planned file."""
    return [read_file(plan, planned) for planned in plan.files]


def read_file(plan: ReviewPlan, planned: PlannedFile) -> SourceFile:
    """Read one file; a file that cannot be read or decoded comes back empty, with the reason."""
    try:
        text, problem = _decode(Path(plan.root, planned.path)), ""
    except (OSError, UnicodeError, SyntaxError, ValueError) as error:
        text, problem = "", str(error)
    return SourceFile(
        review=plan.review,
        path=planned.path,
        root=plan.root,
        package=planned.package,
        expected=len(plan.files),
        text=text,
        problem=problem,
    )


def _python_files(start: Path, notices: list[str]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        notices.append(f"a directory could not be read: {error}")

    for folder, folders, names in os.walk(start, onerror=unreadable):
        folders[:] = [name for name in folders if _wanted(Path(folder, name))]
        yield from (Path(folder, name) for name in names if name.endswith((".py", ".pyi")))


def _wanted(folder: Path) -> bool:
    name = folder.name
    return name not in SKIPPED and not name.startswith(".") and not (folder / "pyvenv.cfg").exists()


def _excluded(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(path.as_posix(), pattern) for pattern in patterns)


def _planned(path: Path, root_name: str) -> PlannedFile:
    package = ".".join(path.parent.parts) or root_name or "."
    return PlannedFile(path=_printable(path), package=package)


def _printable(path: Path) -> str:
    # A name that is not UTF-8 arrives with surrogates, which no report can hold.
    return path.as_posix().encode("utf-8", "replace").decode()


def _decode(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        message = f"larger than {LARGEST:,} bytes"
        raise ValueError(message)
    raw = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return io.TextIOWrapper(io.BytesIO(raw), encoding).read()
