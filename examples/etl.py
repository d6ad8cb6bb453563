"""Extract, transform, load: measures every Python file of a folder and puts the figures into a database.

    python examples/etl.py src --out build/etl

Each file is one task. What a task gave is kept in files beside the database, with what it was given: the second time,
only files that have changed are measured again, and after a crash only those that had not been measured yet.
"""

import argparse
import ast
import asyncio
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flock.tasks import Config, Context, FileStorage, Task, Workflow, action


class Source(BaseModel):
    """A file, and which state of it."""

    path: str
    sha256: str


class Figures(BaseModel):
    """What a file consists of."""

    path: str
    lines: int
    functions: int
    classes: int
    longest: int  # lines of its longest function


def extract(folder: Path) -> list[Source]:
    """Find the files."""
    found = sorted(folder.rglob("*.py"))
    return [Source(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest()) for path in found]


@action(retry=3, retry_delay=0.1, backoff=True, retry_on=OSError, timeout=30)
def measure(initial_context: Context[Source]) -> Figures:
    """Read one file; a function that blocks runs in a thread."""
    path = initial_context.storage.path
    text = Path(path).read_text(encoding="utf-8")
    tree = list(ast.walk(ast.parse(text)))
    functions = [node for node in tree if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    longest = max([(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions], default=0)
    classes = sum(isinstance(node, ast.ClassDef) for node in tree)
    return Figures(path=path, lines=text.count("\n"), functions=len(functions), classes=classes, longest=longest)


def load(database: Path, figures: list[Figures]) -> None:
    """Replace the table in one transaction."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(database) as db:
        db.execute("DROP TABLE IF EXISTS figures")
        db.execute("CREATE TABLE figures (path TEXT PRIMARY KEY, lines INT, functions INT, classes INT, longest INT)")
        rows = [(each.path, each.lines, each.functions, each.classes, each.longest) for each in figures]
        db.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", rows)
    db.close()


async def run(folder: Path, out: Path) -> tuple[list[Task], list[Figures]]:
    """Measure what is new, and load all of it; a file that can't be measured stops no other."""
    workflow = Workflow(Config(storage=FileStorage(out / "results")), workflow_id="figures")
    for source in extract(folder):
        workflow.task.add(measure, initial_context=source)
    options: dict[str, Any] = {"resume": True, "on_input_change": "reset", "keep_going": True, "progress": True}
    tasks = await workflow.astart("async_parallel", max_concurrency=8, **options)
    figures = [task.current_context.storage for task in tasks if task.status == "Completed"]
    await asyncio.to_thread(load, out / "figures.db", figures)
    return tasks, figures


def main() -> None:
    """Measure a folder and say what was found."""
    parser = argparse.ArgumentParser(description="Measure every Python file of a folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("src"))
    parser.add_argument("--out", type=Path, default=Path("build/etl"))
    arguments = parser.parse_args()
    tasks, figures = asyncio.run(run(arguments.folder, arguments.out))
    for task in tasks:
        if task.errors:
            print(f"{task.initial_context.storage.path}: {task.errors[-1].type}: {task.errors[-1].message}")
    print(f"{len(figures)} files with {sum(each.lines for each in figures):,} lines")
    for each in sorted(figures, key=lambda each: -each.longest)[:3]:
        print(f"{each.longest:4} lines in the longest function of {each.path}")
    print(f"all of it: {arguments.out / 'figures.db'}")


if __name__ == "__main__":
    main()
