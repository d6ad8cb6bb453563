"""Studies that the tests run: agents at the top of a module, where other processes find them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from flock.studies import Condition, RunResult, Study

FACTORS = {"temperature": [0, 0.7], "model": ["a", "b"]}
PROBLEMS = [{"id": f"p{number}", "n": number} for number in range(1, 6)]
TIMES = ("latency_s",)


def guess(problem: dict[str, Any], rng: random.Random, condition: Condition) -> dict[str, Any]:
    """Answer by the chance that it is given."""
    spread = condition.factor_assignments["temperature"]
    return {"output": {"answer": problem["n"] + spread * rng.gauss(0, 1)}, "metrics": {"draws": rng.randrange(100)}}


async def ponder(problem: dict[str, Any], np_rng: Any, seed: int) -> dict[str, Any]:
    """Answer by numpy's chance, and let others go first."""
    await asyncio.sleep(0)
    return {"answer": problem["n"] + float(np_rng.normal()), "seed": seed}


def error(output: dict[str, Any], problem: dict[str, Any]) -> float:
    """Measure how far off an answer is."""
    return float(abs(output["answer"] - problem["n"]))


def study(folder: Path, **more: Any) -> Study:
    """Give 200 runs: 4 conditions, 5 problems, 2 agents, 5 replicates."""
    given: dict[str, Any] = {
        "agents": {"guess": guess, "ponder": ponder},
        "problems": PROBLEMS,
        "factors": FACTORS,
        "replicates": 5,
        "seed": 7,
        "outcomes": ["error"],
        "evaluators": error,
        "output_dir": folder,
    }
    return Study.build("pizza", **given | more)


def what(result: RunResult) -> dict[str, Any]:
    """Give all of a result but when and how long it ran."""
    parts = result.to_dict()
    for name in ("started_at", "ended_at", "latency"):
        del parts[name]
    for name in TIMES:
        parts["metrics"].pop(name, None)
    for each in parts["observations"]:
        del each["timestamp"]
    return parts
