"""Plays a module's `play` on a board, and dies on the way as often as told: each time in a forked child.

python lives.py scenario sqlite:///board.db                           plays it and prints what it gives, as JSON
python lives.py scenario sqlite:///board.db --die before:12 after:3   dies twice before that
python lives.py burst sqlite:///board-{}.db --apart --die before:12 after:3     the same on a board for each death
"""

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Protocol

from killing import Point, Watch


class Journal:
    """A file of the ids whose publishing was acknowledged: what is named there must be on the board for good."""

    def __init__(self, path: Path | None) -> None:
        """Take the path; without one nothing is kept."""
        self.path = path

    def add(self, id: str) -> None:
        """Note one; when this returns the kernel has it, and a kill of this process does not take it away."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{id}\n")

    def read(self) -> Iterable[str]:
        """Give all that were noted, also by earlier lives."""
        return () if self.path is None or not self.path.exists() else self.path.read_text(encoding="utf-8").split()


class Play(Protocol):
    """What a module has to have."""

    def play(self, url: str, journal: Journal) -> Coroutine[Any, Any, Any]:
        """Live on a board until all is done; gives what is worth knowing, as JSON data."""
        ...


def die(play: Play, url: str, journal: Journal, point: Point) -> bool:
    """Live in a child of this process, which has no threads yet, until a point; False when the child lived on."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Watch(point).install()
            asyncio.run(play.play(url, journal))
            status = 0
        except BaseException:  # noqa: BLE001 - the child ends here whatever happens
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, -signal.SIGKILL, -signal.SIGALRM}:
        raise SystemExit(f"a life that should end at {point} ended with status {code}")
    return code != 0


def main() -> None:
    """Die as often as told, then live to the end and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("module")
    parser.add_argument("url")
    parser.add_argument("--die", nargs="*", type=Point.read, default=[], metavar="KIND:NUMBER")
    parser.add_argument("--apart", action="store_true", help="each death on the board with its number")
    parser.add_argument("--journal", type=Path)
    words = parser.parse_args()
    play: Any = importlib.import_module(words.module)
    deaths, last = 0, len(words.die)
    for number, point in enumerate(words.die):
        deaths += die(play, *_place(words, number), point)
    watch = Watch(None)
    watch.install()
    answer = asyncio.run(play.play(*_place(words, last)))
    counts = {"statements": watch.statements, "commits": watch.commits, "deaths": deaths}
    print(json.dumps({"answer": answer, **counts}))


def _place(words: argparse.Namespace, number: int) -> tuple[str, Journal]:
    """Give the board and the journal of a life."""
    part = str(number) if words.apart else ""
    journal = words.journal
    return words.url.replace("{}", part), Journal(
        None if journal is None else journal.with_name(journal.name.replace("{}", part))
    )


if __name__ == "__main__":
    main()
