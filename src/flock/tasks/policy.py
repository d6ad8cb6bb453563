"""When a step is tried again: Flock's own policy, which agents have too, or one of tenacity or stamina."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, NamedTuple, Protocol

from flock.core.agent import RetryPolicy
from flock.model.errors import ConfigurationError, FlockError

_OF_TENACITY = ("retry", "stop", "wait")


class StepTimeoutError(FlockError, TimeoutError):
    """A step took longer than its `timeout`."""


class Failed(NamedTuple):
    """What is known of a step that has failed so often.

    `elapsed` and `paused` are the seconds since its first try, and those of its pauses; `chance` is from 0 up to 1.
    """

    attempt: int
    error: Exception
    elapsed: float
    paused: float
    chance: float


class Policy(Protocol):
    """Decides what comes after a failure."""

    def pause_after(self, failed: Failed) -> float | None:
        """Give the seconds until the next try, None for no other."""
        ...


class Backoff:
    """Flock's own policy; a step's own timeout is tried again as `timeouts` says, whatever else is."""

    __slots__ = ("_policy", "_timeouts")

    def __init__(self, policy: RetryPolicy, *, timeouts: bool) -> None:
        """Follow a policy."""
        self._policy = policy
        self._timeouts = timeouts

    def pause_after(self, failed: Failed) -> float | None:
        """Give the seconds until the next try, None for no other."""
        policy, error = self._policy, failed.error
        if isinstance(error, StepTimeoutError):
            again = self._timeouts and failed.attempt < policy.attempts
        else:
            again = policy.again(failed.attempt, error)
        return policy.pause(failed.attempt, failed.chance) if again else None


class Tenacity:
    """The policy of a `tenacity.Retrying` or `AsyncRetrying`: its `retry`, `stop` and `wait` are asked."""

    __slots__ = ("_retrying",)

    def __init__(self, retrying: Any) -> None:  # noqa: ANN401 - of a library that need not be there
        """Ask this."""
        self._retrying = retrying

    def pause_after(self, failed: Failed) -> float | None:
        """Give the seconds until the next try, None for no other."""
        library: Any = importlib.import_module("tenacity")
        state = library.RetryCallState(self._retrying, None, (), {})
        error = failed.error
        state.attempt_number = failed.attempt
        state.set_exception((type(error), error, error.__traceback__))
        state.start_time = state.outcome_timestamp - failed.elapsed
        state.idle_for = failed.paused
        if not _now(self._retrying.retry(state)):
            return None
        state.upcoming_sleep = float(_now(self._retrying.wait(state)))
        return None if _now(self._retrying.stop(state)) else state.upcoming_sleep


def _now(answer: Any) -> Any:  # noqa: ANN401 - of a library that need not be there
    if not inspect.iscoroutine(answer):
        return answer
    answer.close()
    raise ConfigurationError("the predicates of a policy of tenacity's are asked without await: give plain functions")


def policy_of(retry: object) -> Policy | None:
    """Give the policy of another library's object; None for what is none. Raises ConfigurationError."""
    library = type(retry).__module__.partition(".")[0]
    if library == "stamina":
        return Tenacity(_tenacity_of(retry))
    return Tenacity(retry) if all(callable(getattr(retry, name, None)) for name in _OF_TENACITY) else None


def _tenacity_of(given: Any) -> object:  # noqa: ANN401 - of a library that need not be there
    """Give what a retry context or a bound caller of stamina's is made of."""
    tenacity: Any = importlib.import_module("tenacity")
    stamina: Any = importlib.import_module("stamina")
    caller = getattr(given, "_caller", None)
    if caller is not None:
        given = stamina.retry_context(getattr(given, "_on", Exception), **getattr(caller, "_context_kws", {}))
    parts: dict[str, Any] | None = getattr(given, "_t_kw", None)
    if parts is None:
        raise ConfigurationError(
            "retry= takes stamina.retry_context(on=...) or stamina.RetryingCaller(...).on(...), which say on what to "
            f"try again; {given!r} does not"
        )
    return tenacity.Retrying(**parts)
