"""Function agents: a function's annotations become subscriptions, outputs and a way to call it."""

from __future__ import annotations

import functools
import inspect
import itertools
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import override

from flock.core.agent import Agent, Subscription
from flock.declaring.builder import AgentBuilder, name_of
from flock.engines.threads import Threads
from flock.model.artifact import Artifact
from flock.model.context import Context
from flock.model.errors import ConfigurationError, FlockError
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup, group_types
from flock.model.ledger import Activation
from flock.model.payload import copier, private_copy
from flock.ports import AgentInfo, Engine

Model = type[BaseModel]


class Parameter(NamedTuple):
    """How one parameter is filled. `types` are the alternatives, or the members of each tuple of a list."""

    name: str
    kind: typing.Literal["context", "inputs", "model", "list", "tuples"]
    types: tuple[Model, ...] = ()
    optional: bool = False
    keyword: bool = False


class FunctionEngine(Engine):
    """Calls a function: on the loop if it is asynchronous, else in a worker thread."""

    def __init__(self, fn: Callable[..., Any], parameters: tuple[Parameter, ...], threads: Threads) -> None:
        """Decide once how to call it."""
        self.name = name_of(fn)
        self._fn = fn
        self._threads = threads
        self._parameters = parameters
        self._on_loop = is_async(fn)
        self._streams = is_stream(fn)
        kinds = [parameter.kind for parameter in parameters]
        self._models, self._tuples = "model" in kinds or "list" in kinds, "tuples" in kinds
        alone = kinds == ["model"] and self._on_loop and not (parameters[0].optional or parameters[0].keyword)
        self._only = parameters[0].types if alone else ()
        looks_around = self._streams or "context" in kinds or "inputs" in kinds
        self.shortcut = None if looks_around else self._with_copies  # see `flock.core.ambient.Desk`

    @override
    async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> Any:
        """Fill the parameters and call; gives the stream of an async generator function."""
        payloads = [artifact.payload for artifact in inputs.artifacts if self._models]
        groups = [tuple([artifact.payload for artifact in group]) for group in inputs.groups if self._tuples]
        called = self._call(payloads, groups, ctx, inputs)
        return called if self._streams else await called

    def _with_copies(self, activation: Activation) -> Awaitable[Any]:
        """Call with copies of the inputs' payloads."""
        inputs = activation.inputs
        called: Awaitable[Any]
        if len(inputs) == 1 and isinstance(inputs[0].snapshot, self._only):
            called = self._fn(copier(type(inputs[0].snapshot))(inputs[0].snapshot))
            return called
        payloads = [private_copy(record.snapshot) for record in inputs if self._models]
        groups = [tuple([private_copy(each.snapshot) for each in group]) for group in activation.groups if self._tuples]
        called = self._call(payloads, groups)
        return called

    def _call(
        self,
        payloads: list[BaseModel],
        groups: list[tuple[BaseModel, ...]],
        ctx: Context | None = None,
        inputs: EvalInputs | None = None,
    ) -> Any:  # noqa: ANN401 - an awaitable or a stream
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._parameters:
            match parameter.kind:
                case "context":
                    value: Any = ctx
                case "inputs":
                    value = inputs
                case "model":
                    value = self._next(parameter, payloads)
                case "list":
                    value = [payload for payload in payloads if isinstance(payload, parameter.types)]
                    payloads = [payload for payload in payloads if not isinstance(payload, parameter.types)]
                case _:
                    value, payloads = groups, []
            if parameter.keyword:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        call = functools.partial(self._fn, *args, **kwargs)
        return call() if self._on_loop or self._streams else self._in_thread(call)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the function gives
        result = await self._threads.run(lambda: _whole(call()))
        return await result if inspect.isawaitable(result) else result

    def _next(self, parameter: Parameter, left: list[BaseModel]) -> BaseModel | None:
        for index, payload in enumerate(left):
            if isinstance(payload, parameter.types):
                del left[index]
                return payload
        if parameter.optional:
            return None
        wanted = " | ".join(kind.__name__ for kind in parameter.types)
        raise FlockError(f"{self.name}() has no input for its parameter {parameter.name!r} ({wanted})")


def _whole(result: Any) -> Any:  # noqa: ANN401 - what the function gives
    """Run a generator to its end where its function ran."""
    return list(result) if inspect.isgenerator(result) else result


def declare(builder: AgentBuilder, fn: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Complete a declaration from its function's annotations, once; what the builder declared itself comes first.

    Raises ConfigurationError when the annotations can't be a contract.
    """
    if builder.parameters is not None:
        return builder.parameters
    declared = builder.declared
    hints = _hints(fn, builder.names)
    returns = hints.pop("return", _MISSING)
    parameters = tuple(_parameters(declared.name, fn, hints))
    subscriptions = declared.subscriptions or _subscriptions(declared, parameters)
    for each in subscriptions:
        _check_fit(declared, each, parameters)
    if subscriptions:
        _check_lists(declared, subscriptions, parameters)
    outputs = declared.outputs
    if outputs:
        _check_returns(declared, returns)
    elif returns is not _MISSING:
        group = _output(declared.name, returns)
        outputs = () if group is None else (group,)
    description = declared.description or (inspect.getdoc(fn) or "").partition("\n")[0]
    builder.declared = replace(
        declared, description=description, subscriptions=subscriptions, outputs=outputs, streams=is_stream(fn)
    )
    builder.parameters, builder.names = parameters, {}
    return parameters


_MISSING = object()


def is_async(fn: Callable[..., Any]) -> bool:
    """Say whether a callable runs on the loop: coroutine functions, partials of them, objects with async __call__."""
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in _callables(fn))


def is_stream(fn: Callable[..., Any]) -> bool:
    """Say whether a callable is an async generator function."""
    return any(inspect.isasyncgenfunction(each) for each in _callables(fn))


def _callables(fn: Callable[..., Any]) -> Iterator[Any]:
    yield fn
    inner = fn.func if isinstance(fn, functools.partial) else fn
    yield inner
    yield getattr(inner, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is there


def _hints(fn: Callable[..., Any], namespace: dict[str, Any]) -> dict[str, Any]:
    inner = fn.func if isinstance(fn, functools.partial) else fn
    target: Any = inner if inspect.isroutine(inner) else type(inner).__call__
    scope = {**namespace, **_closed_over(target)} if inspect.isfunction(target) else namespace
    try:
        return typing.get_type_hints(target, localns=scope)
    except NameError as error:
        message = f"agent function {name_of(fn)!r}: {error}: its annotations must name types that are in scope"
        raise ConfigurationError(message) from error


def _closed_over(fn: types.FunctionType) -> dict[str, Any]:
    """Give the variables of enclosing functions; those without a value so far are left out."""
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells if cell != _EMPTY}


_EMPTY = types.CellType()


def _parameters(agent: str, fn: Callable[..., Any], hints: dict[str, Any]) -> Iterator[Parameter]:
    signature = inspect.signature(fn)
    untyped = [p for p in signature.parameters.values() if p.name not in hints and p.default is p.empty]
    if len(untyped) > 1:
        message = f"agent {agent!r}: annotate the parameters of {name_of(fn)}(); only one may be untyped (EvalInputs)"
        raise ConfigurationError(message)
    skipped = False
    for parameter in signature.parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise ConfigurationError(f"agent {agent!r}: {name_of(fn)}() can't take *args or **kwargs")
        found = _filled(agent, fn, parameter, hints)
        if found is None:
            skipped = True
        elif skipped and parameter.kind is parameter.POSITIONAL_ONLY:
            message = (
                f"agent {agent!r}: parameter {parameter.name!r} of {name_of(fn)}() comes after one that is left alone"
            )
            raise ConfigurationError(f"{message}, so it can't be positional-only")
        else:  # past one that keeps its default only names tell which is which
            yield found._replace(keyword=skipped or parameter.kind is parameter.KEYWORD_ONLY)


def _filled(
    agent: str, fn: Callable[..., Any], parameter: inspect.Parameter, hints: dict[str, Any]
) -> Parameter | None:
    """Say how a parameter is filled; None when it keeps its default."""
    name, optional = parameter.name, parameter.default is not parameter.empty
    if name not in hints:
        return None if optional else Parameter(name=name, kind="inputs")
    found = _parameter(name, hints[name])
    if found is None and not optional:
        raise ConfigurationError(
            f"agent {agent!r}: parameter {name!r} of {name_of(fn)}() is a {hints[name]!r}; "
            "parameters are models, A | B, list[A], list[tuple[A, B]], Context or EvalInputs"
        )
    return found


def _parameter(name: str, hint: Any) -> Parameter | None:  # noqa: ANN401 - an annotation
    if hint is Context:
        return Parameter(name=name, kind="context")
    if hint is EvalInputs:
        return Parameter(name=name, kind="inputs")
    models, optional = _alternatives(hint)
    if models:
        return Parameter(name=name, kind="model", types=models, optional=optional)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        if get_origin(inner) is tuple and _models(get_args(inner)):
            return Parameter(name=name, kind="tuples", types=_models(get_args(inner)))
        models, _ = _alternatives(inner)
        if models:
            return Parameter(name=name, kind="list", types=models)
    return None


def _alternatives(hint: Any) -> tuple[tuple[Model, ...], bool]:  # noqa: ANN401 - an annotation
    """Give the models of `A`, `A | B` and `A | None`, and whether None is among them; nothing for other hints."""
    members = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    optional = type(None) in members
    return _models(member for member in members if member is not type(None)), optional


def _models(members: Iterable[Any]) -> tuple[Model, ...]:
    found = tuple(members)
    return found if found and all(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in found) else ()


def _subscriptions(declared: Agent, parameters: tuple[Parameter, ...]) -> tuple[Subscription, ...]:
    """Derive subscriptions: models are AND, unions are OR."""
    lists = [p for p in parameters if p.kind in {"list", "tuples"}]
    if lists and not declared.schedule:
        message = f"agent {declared.name!r}: a list parameter needs consumes(...) with a batch or a count"
        raise ConfigurationError(message)
    wanted = [p.types for p in parameters if p.kind == "model" and not (p.optional and declared.schedule)]
    return tuple(map(Subscription.to, itertools.product(*wanted))) if wanted else ()


def _check_fit(declared: Agent, to: Subscription, parameters: tuple[Parameter, ...]) -> None:
    """Refuse a subscription that can never fill the parameters."""
    left = _group(to)
    for parameter in parameters:
        if parameter.kind != "model" or parameter.optional:
            continue
        fits = [kind for kind in left if any(_related(kind, wanted) for wanted in parameter.types)]
        if not fits:
            raise _unfillable(declared, to, parameter)
        left.remove(fits[0])
    single = [p for p in parameters if p.kind == "model"]
    if to.batch is not None and single:
        message = f"agent {declared.name!r}: a batch needs a parameter {single[0].name}: list[...], not a single model"
        raise ConfigurationError(message)


def _check_lists(declared: Agent, subscriptions: tuple[Subscription, ...], parameters: tuple[Parameter, ...]) -> None:
    """Refuse a list that no subscription ever puts anything into."""
    for parameter in parameters:
        if parameter.kind in {"list", "tuples"} and not any(_fills(each, parameter) for each in subscriptions):
            raise _unfillable(declared, subscriptions[0], parameter)


def _fills(to: Subscription, parameter: Parameter) -> bool:
    if parameter.kind == "list":
        return any(_related(kind, wanted) for kind in to.types for wanted in parameter.types)
    group = _group(to)
    return to.batch is not None and len(group) == len(parameter.types) and all(map(_related, group, parameter.types))


def _group(to: Subscription) -> list[Model]:
    """Give the types of what one firing brings, in its order."""
    return [kind for kind, count in zip(to.types, to.counts, strict=True) for _ in range(count)]


def _related(one: Model, other: Model) -> bool:
    return issubclass(one, other) or issubclass(other, one)


def _unfillable(declared: Agent, to: Subscription, parameter: Parameter) -> ConfigurationError:
    batch = "" if to.batch is None else ", batch=..."
    names = ", ".join(kind.__name__ for kind in _group(to)) + batch
    return ConfigurationError(
        f"agent {declared.name!r}: consumes({names}) can never fill the parameter {parameter.name!r}"
    )


def _check_returns(agent: Agent, hint: Any) -> None:  # noqa: ANN401 - an annotation
    """Refuse a function that returns what its publishes(...) can never cover; open annotations are left alone."""
    returned, declared = _alternatives(hint)[0], group_types(agent.outputs)
    if not returned or any(issubclass(a, b) or issubclass(b, a) for a in returned for b in declared):
        return
    gives, takes = (", ".join(kind.__name__ for kind in kinds) for kinds in (returned, declared))
    raise ConfigurationError(f"agent {agent.name!r} returns {gives}, but publishes({takes}) does not cover it")


def _output(agent: str, hint: Any) -> OutputGroup | None:  # noqa: ANN401 - an annotation
    """Give the output group that a return annotation declares; None when it leaves the types open."""
    if hint in {EvalResult, Artifact, BaseModel, Any}:
        return None
    if hint is None or hint is type(None):
        return OutputGroup()
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Awaitable, Coroutine}:
        return _output(agent, args[-1])
    if origin in {AsyncGenerator, AsyncIterator, list, set, frozenset, Iterable, Iterator, typing.Sequence}:
        return _output(agent, args[0])
    if origin is not None and getattr(origin, "__name__", "") in {"AsyncIterable", "Generator", "Sequence"}:
        return _output(agent, args[0])
    if origin is tuple:
        members = [member for member in args if member is not Ellipsis]
        models = tuple(itertools.chain.from_iterable(_alternatives(member)[0] for member in members))
    else:
        models, _ = _alternatives(hint)
    if not models or (Artifact in args):
        message = (
            f"agent {agent!r} returns {hint!r}; it should return a model, A | None, list[A], tuple[A, B], an async "
            "generator of models, EvalResult or None"
        )
        raise ConfigurationError(message)
    return OutputGroup(types=models)
