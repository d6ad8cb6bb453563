"""Every error that Flock raises on purpose."""

from collections.abc import Sequence

_SHOWN = 3  # failures that a message spells out


class FlockError(Exception):
    """Base of every error that Flock raises on purpose."""


class ConfigurationError(FlockError, ValueError):
    """Raised when a declaration can never work; the message says what to change."""


class PublishError(FlockError, ValueError):
    """Raised when something can't be published; nothing was stored."""


class OutputError(FlockError, ValueError):
    """Raised when an engine's outputs break the agent's declaration."""


class VisibilityError(FlockError, PermissionError):
    """Raised when an identity asks for an artifact that it may not see."""


class LimitExceeded(FlockError, RuntimeError):  # noqa: N818 - the field says "limit exceeded"
    """Raised when an activation is beyond `max_depth` or `max_activations`."""


class ObstructedError(FlockError, RuntimeError):
    """Raised when the store knows why an activation can't run: an input can't be loaded, or it killed its process."""


class StoreError(FlockError):
    """Raised when a store could not do what was asked; memory and disk are as before."""


class Stale(StoreError):  # noqa: N818 - the name of the fence's answer in the store port
    """Raised when a lease is no longer valid: another settled or took the activation."""


class Backpressure(StoreError):  # noqa: N818 - a signal to wait, not a failure
    """Raised by a commit when too many activations are open; try again when some have ended."""


class RunCancelledError(StoreError):
    """Raised by a commit into a run that was cancelled."""


class ClosedError(FlockError, RuntimeError):
    """Raised when a Flock is used after its shutdown: it is closed."""


class SyncInLoopError(FlockError, RuntimeError):
    """Raised when a blocking call would block the event loop that it needs."""


class BlockingCallWarning(RuntimeWarning):
    """Tells that a blocking call makes the event loop around it stand still."""


class WaitError(FlockError, RuntimeError):
    """Raised when waiting could never end: nothing is left to wait for, or it waits for itself."""


class AgentFailedError(FlockError, RuntimeError):
    """Raised for failures of agents that the caller waited for; `failures` holds them."""

    def __init__(self, failures: Sequence[object]) -> None:
        """Keep the failures and summarise the first ones."""
        self.failures = tuple(failures)
        shown = "; ".join(map(str, self.failures[:_SHOWN]))
        more = f" (and {len(self.failures) - _SHOWN} more)" if len(self.failures) > _SHOWN else ""
        super().__init__(f"{shown}{more}")
