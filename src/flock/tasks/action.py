"""Steps: functions and classes, with how often they are tried and how long they may take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from typing_extensions import override

from flock.core.agent import RetryPolicy
from flock.model.errors import ConfigurationError
from flock.tasks.policy import Backoff, Policy, policy_of

P = ParamSpec("P")
R = TypeVar("R")
INJECTED: Final = ("initial_context", "previous_context", "task")
_MOST: Final = 60.0  # seconds between two tries


class Options(NamedTuple):
    """What `@action` was given."""

    retry: object
    timeout: float | None
    retry_delay: float
    backoff: bool
    jitter: bool
    max_delay: float
    retry_on: type[Exception] | Sequence[type[Exception]]
    retry_timeouts: bool


class Action(Generic[P, R]):
    """A step: call it as what it was made of, or add it to a workflow.

    `injected` names which of `initial_context`, `previous_context` and `task` it takes; `methods` are the steps of a
    class, in the order in which they were written.
    """

    def __init__(self, fn: Callable[P, R], policy: Policy, options: Options) -> None:
        """Wrap a function or class; raises ConfigurationError for one that has parameters which nobody fills."""
        functools.update_wrapper(self, fn, updated=())
        self.func = fn
        self.policy = policy
        self.options = options
        self.timeout = options.timeout
        self.is_async = inspect.iscoroutinefunction(fn)  # what else gives an awaitable runs in a thread up to that
        self.methods = _methods(fn) if isinstance(fn, type) else ()
        if isinstance(fn, type) and not self.methods:
            raise ConfigurationError(f"class {fn.__name__} has no step: mark each method that is to run with @action")
        if isinstance(fn, type) and self.timeout is not None:
            raise ConfigurationError(f"timeout= belongs to the methods of class {fn.__name__}, one by one")
        self._injected: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The name of the function or class."""
        return getattr(self.func, "__name__", None) or type(self.func).__name__

    @property
    def injected(self) -> tuple[str, ...]:
        """Which arguments it takes."""
        if self._injected is None:
            self._injected = _injected(self.func, self.name)
            for name in self.methods:
                method = inspect.getattr_static(self.func, name)
                if not isinstance(method, (staticmethod, classmethod)):
                    _injected(functools.partial(step_of(method).func, None), f"{self.name}.{name}")
        return self._injected

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what this was made of, once."""
        return self.func(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Action[..., Any]:
        """Give the step of an instance."""
        if instance is None or isinstance(self.func, functools.partial) or not hasattr(self.func, "__get__"):
            return self
        bound: Callable[..., Any] = self.func.__get__(instance, owner)
        return Action(bound, self.policy, self.options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the options, as they were given
        """Give one of the options."""
        if name in Options._fields:
            return getattr(self.options, name)
        raise AttributeError(f"a step has no {name!r}")

    @override
    def __repr__(self) -> str:
        return f"<step {self.name}>"


@overload
def action(fn: Callable[P, R], /) -> Action[P, R]: ...


@overload
def action(
    *,
    retry: int | object = ...,
    timeout: float | None = ...,
    retry_delay: float = ...,
    backoff: bool = ...,
    jitter: bool = ...,
    max_delay: float = ...,
    retry_on: type[Exception] | Sequence[type[Exception]] = ...,
    retry_timeouts: bool = ...,
) -> Callable[[Callable[P, R]], Action[P, R]]: ...


def action(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    retry: int | object = 1,
    timeout: float | None = None,
    retry_delay: float = 1.0,
    backoff: bool = False,
    jitter: bool = False,
    max_delay: float = _MOST,
    retry_on: type[Exception] | Sequence[type[Exception]] = Exception,
    retry_timeouts: bool = True,
) -> Action[..., Any] | Callable[[Callable[..., Any]], Action[..., Any]]:
    """Make a step of a function, a coroutine function or a class.

    `retry` is the number of tries, or a policy object of tenacity or stamina; `timeout` the seconds that each may take
    (None or 0: any). A pause of `retry_delay` seconds lies between two tries; `backoff` doubles it each time up to
    `max_delay`, `jitter` takes half of it or more by chance. Errors of the kinds `retry_on` are tried again, and
    timeouts unless `retry_timeouts` says no. Raises ConfigurationError.
    """
    options = Options(retry, timeout or None, retry_delay, backoff, jitter, max_delay, retry_on, retry_timeouts)
    policy = _policy(options)
    if fn is not None:
        return step_of(fn, policy, options)
    return functools.partial(step_of, policy=policy, options=options)


def step_of(fn: object, policy: Policy | None = None, options: Options | None = None) -> Action[..., Any]:
    """Give a step of what can be called; raises ConfigurationError for anything else."""
    if isinstance(fn, Action):
        step = cast("Action[..., Any]", fn)
        return step if policy is None or options is None else Action(step.func, policy, options)
    if not callable(fn):
        raise ConfigurationError(f"a step is a function or a class, not {fn!r}")
    if policy is None or options is None:
        return action(fn)
    return Action(fn, policy, options)


def _policy(options: Options) -> Policy:
    retry, on = options.retry, options.retry_on
    for name in ("retry_delay", "max_delay", "timeout"):
        value: object = getattr(options, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
            raise ConfigurationError(f"{name}= takes seconds, not {value!r}")
    if not isinstance(retry, int) or isinstance(retry, bool):
        policy = policy_of(retry)
        if policy is None:
            raise ConfigurationError(f"retry= takes a number of tries or a policy of tenacity's, not {retry!r}")
        return policy
    kinds = (on,) if isinstance(on, type) else tuple(on)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise ConfigurationError(f"retry_on= takes kinds of Exception, not {on!r}")
    tries = RetryPolicy(
        attempts=max(1, retry),
        delay=options.retry_delay,
        max_delay=options.max_delay,
        backoff=2.0 if options.backoff else 1.0,
        jitter=options.jitter,
        on=kinds,
    )
    return Backoff(tries, timeouts=options.retry_timeouts)


def _methods(cls: type) -> tuple[str, ...]:
    """Name the steps of a class: those of its bases first, each where it was written first."""
    names: dict[str, None] = {}
    for each in reversed(cls.__mro__):
        names.update((name, None) for name, value in vars(each).items() if _is_step(value))
    return tuple(names)


def _is_step(value: object) -> bool:
    return isinstance(getattr(value, "__func__", value), Action)  # of a staticmethod or classmethod


def _injected(fn: Callable[..., object], name: str) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not say
        return ()
    taken: list[str] = []
    given = fn.keywords if isinstance(fn, functools.partial) else {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            return tuple([each for each in INJECTED if each not in given])
        if parameter.name in given:
            continue
        if parameter.name in INJECTED and parameter.kind is not parameter.POSITIONAL_ONLY:
            taken.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            raise ConfigurationError(
                f"step {name!r} takes {parameter.name!r}, which nobody fills: steps take {', '.join(INJECTED)}, and "
                "whatever has a default"
            )
    return tuple(taken)
