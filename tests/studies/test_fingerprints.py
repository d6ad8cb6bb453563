"""Fingerprints: equal for equal agents in every process, others for others."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flock.studies.fingerprints import fingerprint

PROMPT = "think"
LIMITS = (1, 2)
count = 0


def helper(text: str) -> str:
    return text.upper()


def agent(brief: str) -> str:
    return helper(brief) + PROMPT + str(LIMITS)


def recursive(n: int) -> int:
    return recursive(n - 1) if n else 0


def counting() -> int:
    global count  # noqa: PLW0603 - what is tested
    count += 1
    return count


class Worker:
    style = "short"

    def __init__(self, prompt: str, seen: list[str]) -> None:
        self.prompt, self.seen = prompt, seen

    def run(self, brief: str) -> str:
        return self.prompt + brief


def closing(prompt: Any, more: Any = None) -> Callable[[], Any]:
    def inner() -> Any:
        return prompt, more

    return inner


def nested(prompt: str) -> Callable[[], list[str]]:
    def inner() -> list[str]:
        return [prompt + PROMPT for _ in range(2)]

    return inner


SAME: list[tuple[Any, Any]] = [
    (agent, agent),
    (closing("a"), closing("a")),
    (closing(["a"]), closing(["b"])),  # may change while it runs
    (Worker("a", []), Worker("a", ["seen"])),
    (Worker("a", []).run, Worker("a", []).run),
    (functools.partial(agent, brief="a"), functools.partial(agent, brief="a")),
    (closing(frozenset({"a", "b", "c"})), closing(frozenset({"c", "b", "a"}))),
    (nested("a"), nested("a")),
]
OTHER: list[tuple[Any, Any]] = [
    (agent, helper),
    (closing("a"), closing("b")),
    (closing(1), closing(1.0)),
    (closing(("a", ("b",))), closing(("a", ("c",)))),
    (Worker("a", []), Worker("b", [])),
    (Worker, agent),
    (functools.partial(agent, brief="a"), functools.partial(agent, brief="b")),
    (closing(agent), closing(helper)),
]


@pytest.mark.parametrize(("one", "two"), SAME, ids=range(len(SAME)))
def test_equal_agents_have_equal_fingerprints(one: Any, two: Any) -> None:
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize(("one", "two"), OTHER, ids=range(len(OTHER)))
def test_other_agents_have_other_fingerprints(one: Any, two: Any) -> None:
    assert fingerprint(one) != fingerprint(two)


@pytest.mark.parametrize(("name", "value"), [("PROMPT", "think hard"), ("LIMITS", (1, 3)), ("helper", str.lower)])
def test_what_an_agent_names_of_its_module_counts(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(agent)
    monkeypatch.setitem(globals(), name, value)
    assert fingerprint(agent) != before


def test_what_functions_inside_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(nested("a"))
    monkeypatch.setitem(globals(), "PROMPT", "think hard")
    assert fingerprint(nested("a")) != before


def test_what_an_agent_assigns_itself_does_not_count() -> None:
    before = fingerprint(counting)
    counting()
    assert fingerprint(counting) == before

    state = 0

    def inner() -> int:
        nonlocal state
        state += 1
        return state

    first = fingerprint(inner)
    inner()
    assert fingerprint(inner) == first


def test_a_function_that_calls_itself_has_one() -> None:
    assert fingerprint(recursive) == fingerprint(recursive)


CODE = """
from flock.studies.fingerprints import fingerprint
def helper(a): return {"x", "y", "z"}
def agent(a, b=("p", "q"), *, c=frozenset({"u", "v", "w"})): return helper(a)
print(fingerprint(agent), end="")
"""


def in_process(hash_seed: str, code: str = CODE) -> str:
    return subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed}
    ).stdout


def test_an_agent_without_source_has_the_same_in_every_process() -> None:
    assert in_process("1") == in_process("2") == in_process("3")
    assert in_process("1") != in_process("1", CODE.replace('"z"', '"y2"'))
    assert in_process("1") != in_process("1", CODE.replace('"q"', '"r"'))
