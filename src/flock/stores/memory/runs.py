"""The memory store's runs: what is open in each, how it ended, and which finished ones are kept."""

from __future__ import annotations

from collections.abc import Collection

from flock.model.ledger import Outcome


class Run:
    """What is counted of one run, or of the whole board."""

    __slots__ = ("ended", "open", "ordinals", "timed")

    def __init__(self) -> None:
        """Start at zero."""
        self.open = 0  # activations
        self.timed = 0  # items in batches with a timeout
        self.ended: dict[Outcome, int] = {"done": 0, "failed": 0, "cancelled": 0, "skipped": 0}  # activations
        self.ordinals: dict[str, int] = {}  # by agent


class Runs:
    """The runs by name, and the board, which counts each activation once however many runs contributed to it."""

    def __init__(self, keep: int | None) -> None:
        """Keep all runs, or of the finished ones the newest few."""
        self.keep = keep
        self.board = Run()
        self.cancelled: set[str] = set()
        self._by_name: dict[str, Run] = {}
        self._finished: dict[str, None] = {}

    def __contains__(self, name: object) -> bool:
        """Say whether a run has ever had something to count."""
        return name in self._by_name

    def __bool__(self) -> bool:
        """Say whether any run has had something to count."""
        return bool(self._by_name)

    def of(self, name: str | None) -> Run:
        """Give the counts of a run, zeros for one that is not known; the board's for None."""
        return self.board if name is None else self._by_name.get(name) or Run()

    def add(self, name: str) -> Run:
        """Give a run, which is known from now on."""
        run = self._by_name.get(name)
        if run is None:
            run = self._by_name[name] = Run()
        return run

    def start(self, names: tuple[str, ...], agent: str) -> int:
        """Count an activation that these runs contributed to; gives which of its agent it is in the first run."""
        self.board.open += 1
        runs = self._by_name
        for name in names:
            run = runs.get(name)
            if run is None:
                run = runs[name] = Run()
            run.open += 1
        if self._finished:
            for name in names:
                self._finished.pop(name, None)
        ordinals = runs[names[0]].ordinals
        ordinals[agent] = ordinal = ordinals.get(agent, 0) + 1
        return ordinal

    def end(self, names: tuple[str, ...], outcome: Outcome) -> bool:
        """Count an activation that has ended; says whether any of its runs has no other left."""
        board, last = self.board, False
        board.open -= 1
        board.ended[outcome] += 1
        for name in names:
            run = self._by_name[name]
            run.ended[outcome] += 1
            run.open = left = run.open - 1
            last = last or not left
        return last

    def hold(self, name: str, change: int) -> None:
        """Count what a run has in batches with a timeout."""
        self.add(name).timed += change
        self.board.timed += change

    def is_quiet(self, name: str) -> bool:
        """Say whether no work is left in a run; if so, its agents are counted anew, and it is the newest to finish."""
        run = self._by_name[name]
        if run.open or run.timed:
            return False
        run.ordinals.clear()
        if self.keep is not None:
            self._finished[name] = None
        return True

    def forget(self, busy: Collection[str]) -> list[str]:
        """Forget the oldest finished runs that are too many and not busy; gives their names."""
        surplus = list(self._finished)[: max(0, len(self._finished) - (self.keep or 0))]
        gone = [name for name in surplus if name not in busy]
        for name in gone:
            del self._finished[name], self._by_name[name]
            self.cancelled.discard(name)
        return gone
