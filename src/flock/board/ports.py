"""What stores are asked for beyond a Flock's work: to take in a copy of another board, and to keep what has been."""

# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, cast, runtime_checkable

from flock.board.image import Image
from flock.model.errors import StoreError
from flock.model.ledger import Activation
from flock.ports import Clock, Store, Types

FateState = Literal["waiting", "delayed", "consumed", "expired", "withdrawn"]


class Fate(NamedTuple):
    """What became of an artifact that a subscription matched; `at` (UTC seconds) is when, or when it will be due."""

    subscription: str
    agent: str
    state: FateState
    at: float | None = None
    detail: str = ""


class Retention(NamedTuple):
    """What may go: artifacts made before a time (UTC seconds), of finished runs beyond the newest few, of some types.

    Each part that is given narrows the choice. What waits or runs stays in any case.
    """

    before: float | None = None
    keep_runs: int | None = None
    types: frozenset[str] = frozenset()


class Pruned(NamedTuple):
    """How much went."""

    artifacts: int
    activations: int
    runs: int


class StoreInfo(NamedTuple):
    """What a store holds and how large it is; sizes in bytes, `free` is what a vacuum would give back."""

    url: str
    schema: int
    artifacts: int
    activations: int
    open: int
    waiting: int
    failed: int
    runs: int
    size: int
    free: int
    sequence: int
    workers: int


class RestorableStore(Store, Protocol):
    """A store that can go on where another one stood."""

    async def restore(self, image: Image) -> None:
        """Become the board that an image shows; raises StoreError, and changes nothing, unless it is empty."""


@runtime_checkable
class KeepingStore(RestorableStore, Protocol):
    """A store that keeps what has been, and can be looked after."""

    async def look(self, clock: Clock, types: Types) -> None:
        """Open for reads alone, beside whoever works on the board; raises StoreError when nothing is there."""

    async def failures(self, run: str | None = None) -> Sequence[Activation]:
        """Give the activations that have failed, oldest first."""

    async def retry(self, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Make failed activations (None: all) ready again, with all their attempts; gives the ids of those that are."""

    def image(self, at: int | None = None) -> Image:
        """Show the board as of a sequence (None: now), read as it is iterated, from any thread, all of one moment.

        Iterating raises StoreError where what was pruned is missing.
        """

    async def fates(self, id: str) -> Sequence[Fate]:
        """Say what became of an artifact with each subscription that it was offered to."""

    async def prune(self, retention: Retention) -> Pruned:
        """Remove what may go; what waits or runs stays, and of what is gone the lineage can still be read."""

    async def vacuum(self) -> None:
        """Give the space of what was removed back."""

    async def info(self) -> StoreInfo:
        """Count and measure."""


def restorable(store: Store) -> RestorableStore:
    """Give a store that takes in images; raises StoreError for one that does not."""
    if callable(getattr(store, "restore", None)):
        return cast("RestorableStore", store)
    raise StoreError(f"{type(store).__name__} can't take in the copy of a board: it has no restore(image)")


def keeping(store: Store) -> KeepingStore:
    """Give a store that keeps what has been; raises StoreError for one that does not."""
    if isinstance(store, KeepingStore):
        return store
    raise StoreError(f"{type(store).__name__} keeps no history: use a store that does, as in 'sqlite:///board.db'")
