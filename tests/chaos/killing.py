"""Kill points: a process counts what it asks of SQLite and kills itself at an exact place.

Nothing here knows the store. Statements are counted by SQLite's own trace as they begin; a commit is one that begins
with COMMIT, whoever wrote it and by whichever call.
"""

import os
import signal
import sqlite3
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast, get_args

from typing_extensions import override

T = TypeVar("T")
Kind = Literal["statement", "before", "after", "at"]
_COMMITS = ("COMMIT", "END")


class Point(NamedTuple):
    """Where to die: as the n-th statement begins, `before` or `after` the n-th commit, or `at` so many milliseconds."""

    kind: Kind
    number: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `kind:number`; raises ValueError."""
        kind, _, number = text.partition(":")
        if kind not in get_args(Kind):
            raise ValueError(f"no kind of kill point: {kind!r}")
        return cls(cast("Kind", kind), int(number))

    @override
    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


class Watch:
    """Counts statements and commits of all connections that this process opens, and dies where it is told to."""

    def __init__(self, point: Point | None, die: Callable[[], None] | None = None) -> None:
        """Take the point (None: only count); `die` is SIGKILL on oneself."""
        self.statements = 0
        self.commits = 0
        self._point = point
        self._die = die or kill_oneself

    def install(self) -> None:
        """Watch from now on: replaces `sqlite3.connect`, or starts the timer."""
        if self._point is not None and self._point.kind == "at":
            signal.setitimer(signal.ITIMER_REAL, self._point.number / 1000)  # nobody handles it: it ends the process
        setattr(sqlite3, "connect", watched(self))  # noqa: B010 - it has overloads that no wrapper repeats

    def asked(self, sql: str) -> None:
        """Hear what a connection is asked to do, before it does it; what this raises it raises."""

    def begins(self, sql: str) -> bool:
        """Count a statement that SQLite begins; True for a commit."""
        self.statements += 1
        self._reach("statement", self.statements)
        if not sql.lstrip().upper().startswith(_COMMITS):
            return False
        self.commits += 1
        self._reach("before", self.commits)
        return True

    def committed(self) -> None:
        """Hear that the last commit is done, while nobody has been told yet."""
        self._reach("after", self.commits)

    def _reach(self, kind: Kind, number: int) -> None:
        if self._point is not None and self._point == (kind, number):
            self._die()


def kill_oneself() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


class Connection(sqlite3.Connection):
    """A connection that tells its watch what it does."""

    watch: Watch
    is_committing = False

    def begins(self, sql: str) -> None:
        """Hear from SQLite that a statement begins."""
        if self.watch.begins(sql):
            self.is_committing = True

    def told(self, answer: T) -> T:
        """Pass an answer on, after telling of the commit that was behind it."""
        if self.is_committing:
            self.is_committing = False
            self.watch.committed()
        return answer

    @override
    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or Cursor)

    @override
    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.watch.asked(args[0])
        return self.told(super().execute(*args))

    @override
    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self.watch.asked(args[0])
        return super().executemany(*args)

    @override
    def executescript(self, *args: Any) -> sqlite3.Cursor:
        return self.told(super().executescript(*args))

    @override
    def commit(self) -> None:
        super().commit()
        self.told(None)

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False]:
        return self.told(super().__exit__(kind, error, trace))


class Cursor(sqlite3.Cursor):
    """A cursor of such a connection."""

    @override
    def execute(self, *args: Any) -> Self:
        return cast("Connection", self.connection).told(super().execute(*args))

    @override
    def executescript(self, *args: Any) -> sqlite3.Cursor:
        return cast("Connection", self.connection).told(super().executescript(*args))


def watched(watch: Watch) -> Callable[..., sqlite3.Connection]:
    """Give a `sqlite3.connect` whose connections tell a watch what they do."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect_watched(*args: Any, **options: Any) -> sqlite3.Connection:
        if ".coverage" in str(args[0]):  # what measures this process keeps its data in SQLite, too
            return connect(*args, **options)
        wanted = options.pop("factory", sqlite3.Connection)
        own = Connection if wanted is sqlite3.Connection else type(wanted.__name__, (Connection, wanted), {})
        connection = connect(*args, factory=own, **options)
        if isinstance(connection, Connection):
            connection.watch = watch
            connection.set_trace_callback(connection.begins)
        return connection

    return connect_watched
