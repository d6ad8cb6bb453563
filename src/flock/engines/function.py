"""Function agents: a function's annotations become subscriptions, outputs and a way to call it."""

from __future__ import annotations

import functools
import inspect
import itertools
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Union, cast, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import override

from flock.core.agent import Consumes, Draft
from flock.core.ambient import Acting, current
from flock.model.artifact import Artifact
from flock.model.context import Context
from flock.model.errors import ConfigurationError, FlockError
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup, group_types
from flock.ports import AgentInfo, Engine

Model = type[BaseModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """How one parameter is filled. `types` are the alternatives, or the members of each tuple of a list."""

    name: str
    kind: typing.Literal["context", "inputs", "model", "list", "tuples"]
    types: tuple[Model, ...] = ()
    optional: bool = False
    keyword: bool = False


class FunctionEngine(Engine):
    """Calls a function: on the loop if it is asynchronous, else in a worker thread."""

    def __init__(self, fn: Callable[..., Any], parameters: tuple[Parameter, ...]) -> None:
        """Decide once how to call it."""
        self.name = name_of(fn)
        self._fn = fn
        self._parameters = parameters
        self._on_loop = is_async(fn)
        self._streams = is_stream(fn)
        kinds = tuple(p.kind for p in parameters)
        one = kinds == ("model",) and not parameters[0].optional and not parameters[0].keyword
        self._one_model = one and not self._streams
        self._types = parameters[0].types if parameters else ()

    @override
    async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> Any:
        """Fill the parameters and call."""
        if self._one_model and len(inputs.artifacts) == 1:
            payload = inputs.artifacts[0].payload
            if self._on_loop and isinstance(payload, self._types):
                return await self._fn(payload)
        args, kwargs = self._fill(ctx, inputs)
        if self._streams:
            return self._fn(*args, **kwargs)
        if self._on_loop:
            return await self._fn(*args, **kwargs)
        result = await _in_thread(functools.partial(self._fn, *args, **kwargs))
        return await result if inspect.isawaitable(result) else result

    def _fill(self, ctx: Context, inputs: EvalInputs) -> tuple[list[Any], dict[str, Any]]:
        left = list(inputs.artifacts)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._parameters:
            match parameter.kind:
                case "context":
                    value: Any = ctx
                case "inputs":
                    value = inputs
                case "model":
                    value = self._next(parameter, left)
                case "list":
                    value = [a.payload for a in left if isinstance(a.payload, parameter.types)]
                    left = [a for a in left if not isinstance(a.payload, parameter.types)]
                case _:
                    value = [tuple([artifact.payload for artifact in group]) for group in inputs.groups]
                    left = []
            if parameter.keyword:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return args, kwargs

    def _next(self, parameter: Parameter, left: list[Artifact]) -> BaseModel | None:
        for index, artifact in enumerate(left):
            payload: BaseModel = artifact.payload
            if isinstance(payload, parameter.types):
                del left[index]
                return payload
        if parameter.optional:
            return None
        wanted = " | ".join(kind.__name__ for kind in parameter.types)
        message = f"{self.name}() has no input for its parameter {parameter.name!r} ({wanted})"
        raise FlockError(message)


async def _in_thread(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the function gives
    ambient = current.get()
    if not isinstance(ambient, Acting):
        message = "a function agent runs inside an activation"
        raise FlockError(message)

    def whole() -> Any:  # noqa: ANN401
        result = call()
        return list(result) if inspect.isgenerator(result) else result

    return await ambient.desk.threads.run(whole, ambient)


def declare(draft: Draft) -> None:
    """Complete a draft from its function's annotations; what the builder declared itself comes first.

    Raises ConfigurationError when the annotations can't be a contract.
    """
    fn = draft.function
    if fn is None:
        return
    hints = _hints(fn, draft.namespace)
    returns = hints.pop("return", _MISSING)
    parameters = tuple(_parameters(draft.name, fn, hints))
    draft.streams = is_stream(fn)
    draft.engines = (FunctionEngine(fn, parameters),)
    draft.description = draft.description or (inspect.getdoc(fn) or "").partition("\n")[0]
    if not draft.consumes:
        draft.consumes = _consumes(draft, parameters)
    for spec in draft.consumes:
        _check_fit(draft, spec, parameters)
    if draft.consumes:
        _check_lists(draft, parameters)
    if draft.outputs:
        _check_returns(draft, returns)
    elif returns is not _MISSING:
        group = _output(draft.name, returns)
        if group is not None:
            draft.outputs.append(group)


_MISSING = object()


def name_of(fn: Any) -> str:  # noqa: ANN401 - any callable
    """Give a function's name, through partials and callable objects."""
    inner = cast("object", fn.func) if isinstance(fn, functools.partial) else fn
    return str(getattr(inner, "__name__", type(inner).__name__))


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
    for parameter in signature.parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            message = f"agent {agent!r}: {name_of(fn)}() can't take *args or **kwargs"
            raise ConfigurationError(message)
        keyword = parameter.kind is parameter.KEYWORD_ONLY
        if parameter.name in hints:
            found = _parameter(parameter.name, hints[parameter.name], keyword=keyword)
            if found is not None:
                yield found
            elif parameter.default is parameter.empty:
                message = (
                    f"agent {agent!r}: parameter {parameter.name!r} of {name_of(fn)}() is a {hints[parameter.name]!r}; "
                    "parameters are models, A | B, list[A], list[tuple[A, B]], Context or EvalInputs"
                )
                raise ConfigurationError(message)
        elif parameter.default is parameter.empty:
            yield Parameter(name=parameter.name, kind="inputs", keyword=keyword)


def _parameter(name: str, hint: Any, *, keyword: bool) -> Parameter | None:  # noqa: ANN401 - an annotation
    if hint is Context:
        return Parameter(name=name, kind="context", keyword=keyword)
    if hint is EvalInputs:
        return Parameter(name=name, kind="inputs", keyword=keyword)
    models, optional = _alternatives(hint)
    if models:
        return Parameter(name=name, kind="model", types=models, optional=optional, keyword=keyword)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        if get_origin(inner) is tuple and _models(get_args(inner)):
            return Parameter(name=name, kind="tuples", types=_models(get_args(inner)), keyword=keyword)
        models, _ = _alternatives(inner)
        if models:
            return Parameter(name=name, kind="list", types=models, keyword=keyword)
    return None


def _alternatives(hint: Any) -> tuple[tuple[Model, ...], bool]:  # noqa: ANN401 - an annotation
    """Give the models of `A`, `A | B` and `A | None`, and whether None is among them; nothing for other hints."""
    members = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    optional = type(None) in members
    return _models(member for member in members if member is not type(None)), optional


def _models(members: Iterable[Any]) -> tuple[Model, ...]:
    found = tuple(members)
    return found if found and all(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in found) else ()


def _consumes(draft: Draft, parameters: tuple[Parameter, ...]) -> list[Consumes]:
    """Derive subscriptions: models are AND, unions are OR."""
    lists = [p for p in parameters if p.kind in {"list", "tuples"}]
    if lists and not draft.schedule:
        message = f"agent {draft.name!r}: a list parameter needs consumes(...) with a batch or a count"
        raise ConfigurationError(message)
    wanted = [p.types for p in parameters if p.kind == "model" and not (p.optional and draft.schedule)]
    if not wanted:
        return []
    return [Consumes(types=combination) for combination in itertools.product(*wanted)]


def _check_fit(draft: Draft, spec: Consumes, parameters: tuple[Parameter, ...]) -> None:
    """Refuse a subscription that can never fill the parameters."""
    left = list(spec.types)
    for parameter in parameters:
        if parameter.kind != "model" or parameter.optional:
            continue
        fits = [kind for kind in left if any(_related(kind, wanted) for wanted in parameter.types)]
        if not fits:
            raise _unfillable(draft, spec, parameter)
        left.remove(fits[0])
    single = [p for p in parameters if p.kind == "model"]
    if spec.batch is not None and single:
        message = f"agent {draft.name!r}: a batch needs a parameter {single[0].name}: list[...], not a single model"
        raise ConfigurationError(message)


def _check_lists(draft: Draft, parameters: tuple[Parameter, ...]) -> None:
    """Refuse a list that no subscription ever puts anything into."""
    for parameter in parameters:
        if parameter.kind in {"list", "tuples"} and not any(_fills(spec, parameter) for spec in draft.consumes):
            raise _unfillable(draft, draft.consumes[0], parameter)


def _fills(spec: Consumes, parameter: Parameter) -> bool:
    if parameter.kind == "list":
        return any(_related(kind, wanted) for kind in spec.types for wanted in parameter.types)
    group = [kind for kind in dict.fromkeys(spec.types) for _ in range(spec.types.count(kind))]
    return spec.batch is not None and len(group) == len(parameter.types) and all(map(_related, group, parameter.types))


def _related(one: Model, other: Model) -> bool:
    return issubclass(one, other) or issubclass(other, one)


def _unfillable(draft: Draft, spec: Consumes, parameter: Parameter) -> ConfigurationError:
    batch = "" if spec.batch is None else ", batch=..."
    names = ", ".join(kind.__name__ for kind in spec.types) + batch
    return ConfigurationError(
        f"agent {draft.name!r}: consumes({names}) can never fill the parameter {parameter.name!r}"
    )


def _check_returns(draft: Draft, hint: Any) -> None:  # noqa: ANN401 - an annotation
    """Refuse a function that returns what its publishes(...) can never cover; open annotations are left alone."""
    returned, declared = _alternatives(hint)[0], group_types(draft.outputs)
    if not returned or any(issubclass(a, b) or issubclass(b, a) for a in returned for b in declared):
        return
    gives, takes = (", ".join(kind.__name__ for kind in kinds) for kinds in (returned, declared))
    message = f"agent {draft.name!r} returns {gives}, but publishes({takes}) does not cover it"
    raise ConfigurationError(message)


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
