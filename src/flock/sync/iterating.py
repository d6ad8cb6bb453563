"""Iterating, without `await`, over what lives on another event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from flock.model.errors import FlockError, SyncInLoopError
from flock.sync.crossing import Loop, running_loop

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """What is iterated over with `await`, and closed before its end."""

    def __anext__(self) -> Awaitable[T_co]:
        """Give the next item."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Give no more."""
        ...


class Way(Protocol):
    """Leads to the loop on which a source lives."""

    loop: Loop | None

    def call(self, async_fn: Callable[[], Awaitable[T]], /) -> T:
        """Block until an async function has run there."""
        ...


class BlockingIterator(Generic[T]):
    """Iterates over what lives on a home loop; `close` it, or let it go, to close that too."""

    def __init__(self, way: Way, source: Source[T]) -> None:
        """Iterate on that loop."""
        self._way = way
        self._source: Source[T] | None = source

    def __iter__(self) -> BlockingIterator[T]:
        """Iterate."""
        return self

    def __next__(self) -> T:
        """Block until there is another item."""
        if self._source is None:
            raise StopIteration
        try:
            return self._way.call(self._source.__anext__)
        except StopAsyncIteration:
            self._source = None
            raise StopIteration from None
        except SyncInLoopError:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the source; once."""
        source, self._source = self._source, None
        if source is None:
            return
        running = running_loop()
        if running is not None and running is self._way.loop:  # let go there, as garbage
            _ = running.create_task(_close(source))
        else:
            self._way.call(source.aclose)

    def __del__(self) -> None:
        """Close the source of what was left early."""
        with suppress(FlockError):  # its loop has ended, and it too
            self.close()


async def _close(source: Source[Any]) -> None:
    await source.aclose()
