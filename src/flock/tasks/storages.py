"""Where the results of steps are kept, so that another process can go on: files, or a Flock's board."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from flock.model.payload import flock_type


class Storage(Protocol):
    """Keeps texts by key. Either method may be a coroutine function; a `put` is done wholly or not at all."""

    def get(self, key: str) -> Any:  # noqa: ANN401 - text or None, or an awaitable of it
        """Give the text that was put last, None when there is none."""
        ...

    def put(self, key: str, text: str) -> Any:  # noqa: ANN401 - nothing, or an awaitable
        """Keep a text in place of the one before."""
        ...


class FileStorage:
    """Keeps each text in a file of a directory. A file is replaced when the new one is wholly on the disk."""

    def __init__(self, directory: str | Path) -> None:
        """Make the directory when there is something to keep."""
        self._directory = Path(directory)

    def _path(self, key: str) -> Path:
        return self._directory.joinpath(*key.replace(".", "%2E").split("/")).with_suffix(".json")

    def get(self, key: str) -> str | None:
        """Give the text that was put last."""
        try:
            return self._path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def put(self, key: str, text: str) -> None:
        """Keep a text."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync(path.parent)


def _sync(directory: Path) -> None:
    """Have the disk know a directory's new name, where that can be asked for."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(directory, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@flock_type("flock.StepResult")
class StepResult(BaseModel):
    """What a step gave, on a board."""

    key: str
    text: str


class Board(Protocol):
    """The part of a Flock that keeps results."""

    @property
    def store(self) -> Any:  # noqa: ANN401 - what is asked for artifacts
        """The board as its operator has it."""
        ...

    def ready(self) -> Awaitable[object]:
        """Open the board."""
        ...

    def publish(self, obj: Any, /, *, correlation_id: str, tags: Sequence[str]) -> Awaitable[object]:  # noqa: ANN401 - see Flock
        """Put something on the board."""
        ...


class BoardStorage:
    """Keeps each text as an artifact of a Flock, `flock.StepResult`, in a run named after the workflow."""

    def __init__(self, flock: Board) -> None:
        """Keep them on its board: give it a store that keeps, as `Flock(store="sqlite:///board.db")`."""
        self._flock = flock

    async def get(self, key: str) -> str | None:
        """Give the text that was put last."""
        await self._flock.ready()
        run = key.partition("/")[0]
        found = await self._flock.store.query(StepResult, correlation_id=run, tags=[key])
        return None if not found else str(found[-1].payload.text)

    async def put(self, key: str, text: str) -> None:
        """Keep a text."""
        run = key.partition("/")[0]
        await self._flock.publish(StepResult(key=key, text=text), correlation_id=run, tags=[key])
