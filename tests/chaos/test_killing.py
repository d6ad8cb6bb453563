"""The kill points themselves: exact, and counted whatever way a program commits."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import Point, Watch, watched
from sweep import histories_from, repeat, spread

WRITER = """
import sqlite3, sys
from killing import Point, Watch
Watch(Point.read(sys.argv[2])).install()
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("CREATE TABLE t (n INTEGER)")
for number in range(1, 4):
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    connection.execute("COMMIT")
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    ("point", "rows", "told"),
    [("before:2", 1, 1), ("after:2", 2, 1), ("statement:6", 1, 1), ("statement:4", 0, 0), ("before:4", 3, 3)],
)
def test_a_process_dies_just_before_or_just_after_the_commit_that_is_named(
    point: str, rows: int, told: int, tmp_path: Path
) -> None:
    process = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", WRITER, str(tmp_path / "t.db"), point], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert process.returncode == (0 if point == "before:4" else -9), process.stderr
    assert process.stdout.split() == [str(number) for number in range(1, told + 1)]
    connection = sqlite3.connect(tmp_path / "t.db")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows,)
    connection.close()


class Survivor:
    """Counts how often it should have died."""

    def __init__(self) -> None:
        self.deaths = 0

    def die(self) -> None:
        self.deaths += 1


def by_execute(connection: sqlite3.Connection) -> None:
    connection.execute("commit")


def by_cursor(connection: sqlite3.Connection) -> None:
    connection.cursor().execute(" COMMIT;")


def by_method(connection: sqlite3.Connection) -> None:
    connection.commit()


def by_script(connection: sqlite3.Connection) -> None:
    connection.cursor().executescript("SELECT 1")  # commits what is pending


def by_context(connection: sqlite3.Connection) -> None:
    with connection:
        pass


@pytest.fixture
def survivor() -> Survivor:
    return Survivor()


@pytest.fixture
def connection(survivor: Survivor) -> Iterator[tuple[sqlite3.Connection, Watch]]:
    watch = Watch(Point("after", 1), survivor.die)
    connection = watched(watch)(":memory:", isolation_level=None)
    yield connection, watch
    connection.close()


@pytest.mark.parametrize("commit", [by_execute, by_cursor, by_method, by_script, by_context])
def test_a_commit_is_seen_by_whichever_call_it_comes(
    commit: Callable[[sqlite3.Connection], None], connection: tuple[sqlite3.Connection, Watch], survivor: Survivor
) -> None:
    database, watch = connection
    database.execute("CREATE TABLE t (n INTEGER)")
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO t VALUES (1)")
    assert (watch.commits, survivor.deaths) == (0, 0)
    commit(database)
    assert (watch.commits, survivor.deaths) == (1, 1)
    database.execute("SELECT 1")
    assert survivor.deaths == 1


def test_the_points_of_a_sweep_reach_from_the_first_commit_to_the_last() -> None:
    points = spread(90, {"before": 40, "after": 40, "statement": 1000, "at": 500})
    assert len(points) == 90
    assert {point.number for point in points if point.kind == "before"} >= {1, 40}
    assert {point.number for point in points if point.kind == "statement"} >= {1, 1000}


def test_what_a_report_says_repeats_the_history() -> None:
    history = [[Point("before", 3), Point("at", 50)], [Point("after", 9)]]
    assert histories_from(repeat(history).split("--repeat ")[1].split()) == history
