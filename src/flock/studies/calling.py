"""Calls by parameter name: agents and evaluators take what they name."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

from typing_extensions import override

from flock.engines.function import is_async
from flock.studies.design.factors import Condition
from flock.studies.problems import ProblemPacket
from flock.studies.runs import RunSpec
from flock.studies.stable import ValidationError

_Kinds = inspect.Parameter


class Offer(Mapping[str, Any]):
    """What a run gives by name; each value is made when it is asked for, and once."""

    def __init__(self, spec: RunSpec, condition: Condition, packet: ProblemPacket, output: Any = None) -> None:  # noqa: ANN401
        """Offer one run; `output` is what its agent gave, for evaluators."""
        self.spec, self.output = spec, output
        self._given = condition, packet
        self._made: dict[str, Any] = {}

    @cached_property
    def condition(self) -> Condition:
        """The condition: a copy, so that no run changes it for another."""
        return deepcopy(self._given[0])

    @cached_property
    def packet(self) -> ProblemPacket:
        """The problem: a copy, so that no run changes it for another; what can't be copied is shared."""
        packet = self._given[1]
        try:
            return replace(packet, payload=deepcopy(packet.payload), metadata=deepcopy(packet.metadata))
        except Exception:  # noqa: BLE001 - the guard of what a problem holds: locks, connections
            return packet

    @override
    def __getitem__(self, name: str) -> Any:
        """Give what has a name; raises KeyError."""
        if name not in self._made:
            self._made[name] = _makers[name](self)
        return self._made[name]

    @override
    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(_OFFERED["agent"])

    @override
    def __len__(self) -> int:
        """Count the names."""
        return len(_OFFERED["agent"])


def _prompt(offer: Offer) -> Any:  # noqa: ANN401 - an object, or a text
    problem = offer.packet.problem
    return offer.packet.brief if problem is offer.packet else problem


def _dependencies(offer: Offer) -> dict[str, Any]:
    names = ("problem_packet", "problem", "run_spec", "condition", "seed")
    return {name: offer[name] for name in names}


def _numpy_generator(offer: Offer) -> Any:  # noqa: ANN401 - of a library that need not be there
    return import_module("numpy.random").default_rng(offer.spec.seed)


_makers: dict[str, Callable[[Offer], Any]] = {
    "problem_packet": lambda offer: offer.packet,
    "problem": lambda offer: offer.packet.problem,
    "brief": lambda offer: offer.packet.brief,
    "run_spec": lambda offer: offer.spec,
    "condition": lambda offer: offer.condition,
    "seed": lambda offer: offer.spec.seed,
    "rng": lambda offer: random.Random(offer.spec.seed),  # noqa: S311 - to be repeated, not to be secret
    "np_rng": _numpy_generator,
    "prompt": _prompt,
    "input": _prompt,
    "request_id": lambda offer: offer.spec.run_id,
    "dependencies": _dependencies,
}
_OUTPUTS: Final = ("output", "outputs", "run_output")  # all that the agent gave, for evaluators alone
_makers |= dict.fromkeys(_OUTPUTS, lambda offer: offer.output)
_OFFERED: Final = {"agent": tuple(name for name in _makers if name not in _OUTPUTS), "evaluator": tuple(_makers)}
_BUILDERS: Final = ("c", "cond", "_condition", "_")  # the parameter of functions that make an agent per condition

Role = Literal["agent", "evaluator"]


class Plan(NamedTuple):
    """How a function is called: names by position, names by keyword, and required parameters that nobody offers.

    `awaits` says that calling it does not block, since it is a coroutine function.
    """

    by_position: tuple[str, ...]
    by_keyword: tuple[str, ...]
    unknown: tuple[str, ...]
    awaits: bool = False


def call_agent(fn: Callable[..., Any], offer: Offer) -> Any:  # noqa: ANN401 - whatever it returns
    """Call an agent, or what makes one; raises ValidationError for parameters that nothing is offered for."""
    plan = check_callable(fn, "agent")
    values: list[Any] = [offer[name] for name in plan.by_position]
    if plan.unknown:
        values += [offer.condition] if len(plan.unknown) == 1 else [offer.packet, offer.spec.seed]
    return fn(*values, **{name: offer[name] for name in plan.by_keyword})


def call_evaluator(fn: Callable[..., Any], offer: Offer, answer: Any) -> Any:  # noqa: ANN401 - whatever it returns
    """Call an evaluator: `output` is all that the agent gave, one parameter of another name gets the answer in it."""
    plan = check_callable(fn, "evaluator")
    values = [offer[name] for name in plan.by_position] + [answer for _ in plan.unknown]
    return fn(*values, **{name: offer[name] for name in plan.by_keyword})


def check_callable(fn: Callable[..., Any], role: Role) -> Plan:
    """Say how a function is called; raises ValidationError for what can't be called with what a study offers.

    One parameter of another name is what an evaluator measures. An agent may have two, for the packet and the seed,
    and a function that makes an agent for a condition one.
    """
    plan = _known_plan(fn, role)
    if not plan.unknown or (role == "evaluator" and len(plan.unknown) == 1):
        return plan
    lone = role == "agent" and not plan.by_position and not plan.by_keyword
    if lone and (len(plan.unknown) == 2 or (len(plan.unknown) == 1 and plan.unknown[0] in _BUILDERS)):  # noqa: PLR2004
        return plan
    names, known = ", ".join(plan.unknown), ", ".join(_OFFERED[role])
    raise ValidationError(f"{role} {name_of(fn)} takes {names}, which no run offers; it offers {known}")


_plans: WeakKeyDictionary[Any, dict[object, Plan]] = WeakKeyDictionary()  # which keeps no agent alive


def _known_plan(fn: Callable[..., Any], role: Role) -> Plan:
    key, kind = (fn.__func__, ("method", role)) if isinstance(fn, MethodType) else (fn, ("function", role))
    if not isinstance(key, FunctionType | type):
        return _plan(fn, role)
    known = _plans.setdefault(key, {})
    if kind not in known:
        known[kind] = _plan(fn, role)
    return known[kind]


def _plan(fn: Callable[..., Any], role: Role) -> Plan:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a function of C, which has no signature
        return Plan((), (), ("problem_packet", "seed") if role == "agent" else ("answer",))
    offered = _OFFERED[role]
    by_position: list[str] = []
    by_keyword: list[str] = []
    unknown: list[str] = []
    for each in parameters:
        if each.kind is _Kinds.VAR_POSITIONAL:
            continue
        if each.kind is _Kinds.VAR_KEYWORD:
            by_keyword += [name for name in offered if name != "np_rng" and name not in {*by_position, *by_keyword}]
        elif each.name in offered:
            (by_position if each.kind is _Kinds.POSITIONAL_ONLY else by_keyword).append(each.name)
        elif each.default is _Kinds.empty:
            unknown.append(each.name)
    return Plan(tuple(by_position), tuple(by_keyword), tuple(unknown), is_async(fn))


def name_of(fn: Callable[..., Any]) -> str:
    """Give what a function or object is called."""
    return getattr(fn, "__qualname__", type(fn).__name__)
