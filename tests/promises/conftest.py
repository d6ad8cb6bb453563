"""What the tests of the promises share: a board that is started and shut down, and time that jumps."""

from collections.abc import AsyncIterator

import pytest

from flock import Flock
from flock.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def flock(clock: FakeClock) -> AsyncIterator[Flock]:
    async with Flock(clock=clock) as board:
        yield board
