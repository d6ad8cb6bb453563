"""What every test shares: one hypothesis profile, repeatable where nobody watches."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

CHAOS = Path(__file__).parent / "chaos"

settings.register_profile("flock", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("flock")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests that kill processes."""
    for item in items:
        if CHAOS in item.path.parents:
            item.add_marker(pytest.mark.chaos)
