"""How far a study has come: a bar on a terminal or in a notebook, lines elsewhere, nothing when told."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from contextlib import suppress
from html import escape
from typing import Any, Final, Self

from typing_extensions import override

from flock.studies.moments import now
from flock.studies.runs import RunStatus
from flock.sync.crossing import in_notebook

_EVERY: Final = 10.0  # seconds between two lines


class Progress:
    """Counts what ends, and shows nothing."""

    def __init__(self, name: str, total: int, before: int, failed: int) -> None:
        """Begin with what had ended before."""
        self.name, self.total, self.before = name, total, before
        self.counts = Counter({RunStatus.SUCCESS: before - failed, RunStatus.FAILED: failed})
        self.started = now()

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more."""

    def add(self, status: RunStatus) -> None:
        """Count a run that has ended."""
        self.counts[status] += 1

    @property
    def ended(self) -> int:
        """How many have ended, before and now."""
        return self.counts.total()

    def line(self) -> str:
        """Say it: counts, rate and time left."""
        took, done = max(now() - self.started, 1e-9), self.ended - self.before
        rate = done / took
        parts = [f"{self.ended}/{self.total} runs"]
        parts += [f"{self.counts[status]} {status.value}" for status in _SHOWN]
        parts += [f"{rate:.1f}/s"]
        if done and self.ended < self.total:
            parts.append(f"{_clock((self.total - self.ended) / rate)} left")
        return ", ".join(parts)


class Lines(Progress):
    """A line at the begin, one every ten seconds and one at the end, on standard error."""

    @override
    def __enter__(self) -> Self:
        """Say what there is to do."""
        self._shown = self.started
        self._write(f"{self.total - self.before} of {self.total} runs to do")
        return self

    @override
    def __exit__(self, *_: object) -> None:
        """Say what was done."""
        self._say()

    @override
    def add(self, status: RunStatus) -> None:
        """Count a run that has ended."""
        super().add(status)
        if now() - self._shown >= _EVERY:
            self._shown = now()
            self._say()

    def _say(self) -> None:
        self._write(self.line())

    def _write(self, said: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # nobody reads standard error, or it is closed or not there
            sys.stderr.write(f"{self.name}: {said}\n")
            sys.stderr.flush()


class Cell(Progress):
    """A bar with the counts, the rate and the time left below a notebook's cell, by what every kernel can show."""

    @override
    def __enter__(self) -> Self:
        """Begin to show."""
        self._refreshed = self.started
        show: Any = importlib.import_module("IPython.display").display
        self._shown: Any = show(self._mimes(), raw=True, display_id=True)
        return self

    @override
    def __exit__(self, *_: object) -> None:
        """Show the last state."""
        self._shown.update(self._mimes(), raw=True)

    @override
    def add(self, status: RunStatus) -> None:
        """Count a run that has ended."""
        super().add(status)
        if now() - self._refreshed >= _REFRESH:
            self._refreshed = now()
            self._shown.update(self._mimes(), raw=True)

    def _mimes(self) -> dict[str, str]:
        said = f"{self.name}: {self.line()}"
        bar = f'<progress value="{self.ended}" max="{self.total}"></progress>'
        return {"text/plain": said, "text/html": f"{bar} {escape(said)}"}


class Bar(Progress):
    """A bar with the counts, the rate and the time left, on standard error."""

    def __init__(self, name: str, total: int, before: int, failed: int, rich: Any) -> None:  # noqa: ANN401 - need not be there
        """Begin with what had ended before."""
        super().__init__(name, total, before, failed)
        console: Any = importlib.import_module("rich.console").Console(file=sys.stderr)
        columns = (rich.TextColumn(name), rich.BarColumn(), rich.TextColumn("{task.description}"))
        self._bar: Any = rich.Progress(*columns, console=console, refresh_per_second=8)
        self._task: Any = self._bar.add_task(self.line(), total=total, completed=before)
        self._refreshed = 0.0

    @override
    def __enter__(self) -> Self:
        """Begin to show."""
        self._bar.start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        """Show the last state, and no more."""
        self._bar.update(self._task, completed=self.ended, description=self.line())
        self._bar.stop()

    @override
    def add(self, status: RunStatus) -> None:
        """Count a run that has ended."""
        super().add(status)
        if now() - self._refreshed >= _REFRESH:
            self._refreshed = now()
            self._bar.update(self._task, completed=self.ended, description=self.line())


_SHOWN: Final = (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.SKIPPED)
_REFRESH: Final = 0.1  # seconds between two looks of a bar at the counts


def progress_of(name: str, total: int, before: int, failed: int, *, wanted: bool | None) -> Progress:
    """Give what shows the progress: nothing for False; for None lines only where somebody looks at them."""
    if wanted is False:
        return Progress(name, total, before, failed)
    if in_notebook():
        return Cell(name, total, before, failed)
    if not getattr(sys.stderr, "isatty", bool)():
        return Lines(name, total, before, failed)
    try:
        return Bar(name, total, before, failed, importlib.import_module("rich.progress"))
    except ImportError:
        return Lines(name, total, before, failed)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
