"""How far a workflow has come, on a terminal."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Self

from typing_extensions import override

from flock.model.errors import ConfigurationError
from flock.tasks.status import TypeStatus
from flock.tasks.task import Task


class Progress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more."""

    def begin(self, task: Task) -> None:
        """Show that a task runs."""

    def end(self, task: Task) -> None:
        """Show that a task has ended."""


class Bar(Progress):
    """A bar with what runs and how much of it is done, on standard error."""

    def __init__(self, tasks: Sequence[Task], rich: Any) -> None:  # noqa: ANN401 - a library that need not be there
        """Begin with what has completed already."""
        columns = (rich.SpinnerColumn(), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeElapsedColumn())
        console: Any = importlib.import_module("rich.console").Console(file=sys.stderr)
        self._bar: Any = rich.Progress(*columns, rich.TextColumn("{task.description}"), console=console)
        self._running: dict[int, str] = {}
        self._failed = 0
        self._id: Any = self._bar.add_task("", total=len(tasks), completed=_count(tasks, TypeStatus.COMPLETED))

    @override
    def __enter__(self) -> Self:
        """Begin to show."""
        self._bar.start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        """Show no more."""
        self._bar.stop()

    @override
    def begin(self, task: Task) -> None:
        """Show that a task runs."""
        self._running[task.task_id] = task.name
        self._show(0)

    @override
    def end(self, task: Task) -> None:
        """Show that a task has ended."""
        self._running.pop(task.task_id, None)
        self._failed += task.status is not TypeStatus.COMPLETED
        self._show(1)

    def _show(self, ended: int) -> None:
        failed = [f"{self._failed} failed"] if self._failed else []
        self._bar.update(self._id, advance=ended, description=", ".join([*failed, *self._running.values()]))


def progress_of(tasks: Sequence[Task], *, wanted: bool) -> Progress:
    """Give what shows how far these have come; raises ConfigurationError when what it takes is not installed."""
    if not wanted:
        return Progress()
    try:
        rich = importlib.import_module("rich.progress")
    except ImportError as error:
        raise ConfigurationError("progress=True needs rich: pip install 'flock-board[cli]'") from error
    return Bar(tasks, rich)


def _count(tasks: Sequence[Task], status: TypeStatus) -> int:
    return sum(task.status is status for task in tasks)
