"""Kills a program all over its life, restarts it, and compares how its board ends: `make chaos`.

    python tests/chaos/sweep.py --kills 500
    python tests/chaos/sweep.py --repeat before:12 after:3      one history again, as a bad one is reported

The first deaths of the histories lie evenly before and after every commit, at statements between them and at moments
of time; later ones follow soon after the restart. In every eighth history four processes share the board.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from killing import Kind, Point

import flock

HERE = Path(__file__).resolve().parent
PATIENCE = 120  # seconds that one process may take
SCENARIO = "scenario"
SHARED = 8  # every so many histories four processes share the board
TOGETHER = 4
SOON = 4  # later deaths come within this part of a life
SHOWN = 5  # differences that a report spells out
WORDS = {"before": "before a commit", "after": "after one", "statement": "at a statement", "at": "at a moment"}

History = Sequence[Sequence[Point]]  # the deaths of each process


class Ran(NamedTuple):
    """What a process printed when it had lived to the end."""

    answer: Any
    statements: int
    commits: int
    deaths: int


class Outcome(NamedTuple):
    """What came of a history."""

    history: History
    deaths: int
    problems: Sequence[str]


class DeadlyError(Exception):
    """Raised when a process ended otherwise than it should."""


def start(module: str, url: str, *words: str) -> subprocess.Popen[str]:
    """Start a play on a board, in a process of its own where warnings are errors; the words are those of `lives`."""
    source = str(Path(str(flock.__file__)).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])}
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "error", str(HERE / "lives.py"), module, url, *words],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip


def result(process: subprocess.Popen[str]) -> Ran:
    """Give what a process printed; raises DeadlyError when it did not end well."""
    try:
        printed, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, said = process.communicate()
        raise DeadlyError(f"it hangs: {said}") from None
    if process.returncode:
        raise DeadlyError(f"status {process.returncode}: {said}")
    return Ran(**json.loads(printed))


class Sweep:
    """Plays histories in a folder and compares their endings with one that nothing interrupted."""

    def __init__(self, folder: Path) -> None:
        """Play the scenario once on a memory store, and once on SQLite to see how many kill points there are."""
        self._folder = folder
        self._numbers = itertools.count()
        self.reference = result(start(SCENARIO, "memory://"))
        self.plain = result(start(SCENARIO, url_of(folder / "plain.db", "normal")))
        problems = [*self.reference.answer["problems"], *self._wrong(self.plain)]
        if problems:
            raise DeadlyError("\n".join(problems))

    def histories(self, kills: int, seed: int = 1) -> Iterator[History]:
        """Give histories for so many kills, and more of them for the points that turn out to lie beyond the end."""
        chance = random.Random(seed)  # noqa: S311 - repeatable
        firsts = spread(-(-kills // 3), {kind: self._reach(kind) for kind in get_args(Kind)})
        chance.shuffle(firsts)
        for number in itertools.count():
            first = firsts[number] if number < len(firsts) else self._soon(chance)
            deaths = [first, self._soon(chance), self._soon(chance)]
            shared = number % SHARED == SHARED - 1
            yield [[first], *[[self._soon(chance)] for _ in range(TOGETHER - 1)]] if shared else [deaths]

    def _reach(self, kind: Kind) -> int:
        reach: dict[Kind, int] = {"statement": self.plain.statements, "at": 600}
        return reach.get(kind, self.plain.commits)

    def _soon(self, chance: random.Random) -> Point:
        kind = chance.choice(cast("Sequence[Kind]", get_args(Kind)))
        return Point(kind, chance.randint(1, max(1, self._reach(kind) // SOON)))

    def play(self, history: History) -> Outcome:
        """Play one history to its end; the folder of a bad one is kept."""
        folder = self._folder / f"history-{next(self._numbers)}"
        folder.mkdir()
        try:
            outcome = self._play(folder, history)
        except DeadlyError as error:
            outcome = Outcome(history, 0, [str(error)])
        if not outcome.problems:
            shutil.rmtree(folder)
        return outcome

    def _play(self, folder: Path, history: History) -> Outcome:
        board = folder / "board.db"
        url = url_of(board, "full" if history[0][0].number % 2 else "normal")
        together = [
            start(SCENARIO, url, "--journal", str(folder / f"journal-{number}"), "--die", *map(str, deaths))
            for number, deaths in enumerate(history)
        ]
        try:
            ran = [result(each) for each in together]
        finally:
            for each in together:
                each.kill()
                each.communicate()
        last = ran[0] if len(ran) == 1 else result(start(SCENARIO, url))
        return Outcome(history, sum(each.deaths for each in ran), [*self._wrong(last), *damage(board)])

    def _wrong(self, ran: Ran) -> Sequence[str]:
        """Name what may never be, and what differs from the reference."""
        ending, reference = ran.answer, self.reference.answer
        there, expected = Counter[str](ending["artifacts"]), Counter[str](reference["artifacts"])
        told = [f"missing: {each}" for each in (expected - there).elements()][:SHOWN]
        told += [f"too much: {each}" for each in (there - expected).elements()][:SHOWN]
        told += [] if ending["waiting"] == reference["waiting"] else [f"waiting: {ending['waiting']}"]
        return [*ending["problems"], *told]

    def run(self, kills: int, jobs: int, tell: Callable[[Sequence[Outcome]], None]) -> Sequence[Outcome]:
        """Play histories until so many kills have been done, some at a time; tells after each."""
        outcomes: list[Outcome] = []
        histories = self.histories(kills)
        with ThreadPoolExecutor(jobs) as pool:
            playing: set[Future[Outcome]] = set()
            while True:
                enough = killed(outcomes) >= kills or len(outcomes) >= kills
                while not enough and len(playing) < jobs:
                    playing.add(pool.submit(self.play, next(histories)))
                if not playing:
                    return outcomes
                done, playing = wait(playing, return_when=FIRST_COMPLETED)
                outcomes += [each.result() for each in done]
                tell(outcomes)


def url_of(board: Path, synchronous: str) -> str:
    """Name a board where three deaths of one activation are no proof against it."""
    return f"sqlite:///{board.resolve()}?synchronous={synchronous}&poison={10 * TOGETHER}"


def spread(count: int, reach: dict[Kind, int]) -> list[Point]:
    """Give so many points, two thirds of them around commits, each kind evenly over its reach."""
    shares: dict[Kind, float] = {"before": 1 / 3, "after": 1 / 3, "statement": 2 / 9, "at": 1 / 9}
    points: list[Point] = []
    for kind, share in shares.items():
        wanted = max(1, round(count * share))
        points += [Point(kind, 1 + step * (reach[kind] - 1) // max(1, wanted - 1)) for step in range(wanted)]
    return points


def damage(board: Path) -> Sequence[str]:
    """Give what SQLite itself finds wrong with a file."""
    with closing(sqlite3.connect(board)) as connection:
        told = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        told += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    return [each for each in told if each != "ok"]


def killed(outcomes: Iterable[Outcome]) -> int:
    """Count the kills."""
    return sum(each.deaths for each in outcomes)


def bad(outcomes: Iterable[Outcome]) -> Sequence[str]:
    """Tell of the histories that ended badly, with how to repeat them."""
    return [f"{repeat(each.history)}\n  " + "\n  ".join(each.problems) for each in outcomes if each.problems]


def repeat(history: History) -> str:
    """Give the command that plays a history again."""
    words = " , ".join(" ".join(map(str, deaths)) for deaths in history)
    return f"python tests/chaos/sweep.py --repeat {words}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say it all in one line."""
    shared, wrong = sum(len(each.history) > 1 for each in outcomes), sum(bool(each.problems) for each in outcomes)
    kinds = Counter(deaths[0].kind for each in outcomes for deaths in each.history if deaths)
    swept = ", ".join(f"{count} first {WORDS[kind]}" for kind, count in kinds.items())
    verdict = f"{wrong} ended badly" if wrong else "every board ended as without a crash"
    return f"{killed(outcomes)} kills in {len(outcomes)} histories ({shared} of four processes; {swept}): {verdict}"


def histories_from(words: Iterable[str]) -> History:
    """Read what `repeat` writes."""
    return [[Point.read(word) for word in part.split()] for part in " ".join(words).split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, and tell how it went; the exit status is 0 when every board ended as it should."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--repeat", nargs="+", metavar="KIND:NUMBER", help="one history; a comma between processes")
    words = parser.parse_args(arguments)

    def tell(outcomes: Sequence[Outcome]) -> None:
        if sys.stdout.isatty():
            wrong = sum(bool(each.problems) for each in outcomes)
            print(f"\r{killed(outcomes)} of {words.kills} kills, {wrong} bad endings", end="", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="flock-chaos-"))
    sweep = Sweep(folder)
    plain = sweep.plain
    print(
        f"one life: {plain.commits} commits, {plain.statements} statements, {len(plain.answer['artifacts'])} artifacts"
    )
    outcomes = [sweep.play(histories_from(words.repeat))] if words.repeat else sweep.run(words.kills, words.jobs, tell)
    wrong = bad(outcomes)
    print(*([""] if sys.stdout.isatty() else []), *wrong, summary(outcomes), sep="\n")
    if wrong:
        print(f"their boards are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
