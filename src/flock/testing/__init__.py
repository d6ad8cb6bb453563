"""Testing flocks: fake time, scripted engines, a recorder, and the contract that every store keeps.

The fixtures `flock_clock`, `make_flock` and `flock_spans` come with the package: pytest finds them by itself.
"""

from flock.testing.clock import FakeClock
from flock.testing.engine import Call, ScriptedEngine, ScriptError
from flock.testing.recorder import Recorder

__all__ = ["Call", "FakeClock", "Recorder", "ScriptError", "ScriptedEngine"]
