"""Fixtures for pytest, there as soon as Flock is installed."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from flock.app import Flock
from flock.testing.clock import FakeClock
from flock.tracing import Tracing, setup

pytest.register_assert_rewrite("flock.testing.store_contract")


class MakeFlock(Protocol):
    """Makes a Flock on the fake clock, with the parameters of `Flock`."""

    def __call__(self, model: str | None = None, **options: Any) -> Flock:  # noqa: ANN401 - see Flock
        """Make one that is shut down when the test is over."""
        ...


@pytest.fixture
def flock_clock() -> FakeClock:
    """Fake time: it jumps to the next deadline when nothing can run."""
    return FakeClock()


@pytest.fixture
def make_flock(request: pytest.FixtureRequest, flock_clock: FakeClock) -> MakeFlock:
    """Make Flocks on fake time; each is shut down at the end of the test, whatever it still had to do."""

    def make(model: str | None = None, **options: Any) -> Flock:  # noqa: ANN401 - see Flock
        options.setdefault("clock", flock_clock)
        made = Flock(model, **options)
        # Registered on the test and only now, this runs before a plugin closes the loop that the test ran on.
        request.node.addfinalizer(_shutdown(made))
        return made

    return make


@pytest.fixture
def flock_spans() -> Iterator[Tracing]:
    """Tracing in memory for one test: `flock_spans.spans` are the finished ones."""
    with setup(memory=True) as tracing:
        yield tracing


def _shutdown(made: Flock) -> Callable[[], None]:
    try:
        home: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        home = None

    def finish() -> None:
        loop = asyncio.new_event_loop() if home is None or home.is_closed() else home
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the memory store is left with", RuntimeWarning)
                loop.run_until_complete(made.shutdown(grace=0.0))
        finally:
            if loop is not home:
                loop.close()

    return finish
