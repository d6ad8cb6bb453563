"""Does best-of-N pay? A study of twelve knapsacks, packed by a single hasty attempt, the best of 4 and the best of 16.

An attempt misjudges what each item is worth for its weight and packs in that order, so that most attempts fall short of
the best packing. That one is computed exactly, to measure them by. Each run makes a Flock of its own. Runs that differ
in nothing but the number of candidates share their seed, and with it their first candidates. What has succeeded is not
run again: the second time, the results of the first are shown.

    python examples/best_of_n_study.py
    flock study run examples/best_of_n_study.py --parallel 4
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flock import Context, EvalResult, Flock
from flock.studies import (
    AnalysisPlan,
    Condition,
    Factor,
    Hypothesis,
    HypothesisDirection,
    Level,
    OutcomeSpec,
    Study,
)

# A name, how much weight it takes, and the weight and value of each item.
KNAPSACKS = """
ararat   153 55:46 46:54 22:18 37:45 21:18 33:28 16:18 20:15 23:18 34:46
blanc    137 26:30 17:23 31:36 58:47 46:48 9:10 44:43 43:55 35:35 11:14
cervino  193 34:40 48:44 21:28 38:47 40:34 41:37 8:6 45:45 17:21 22:29 52:40
denali   123 58:75 15:16 33:32 41:38 17:19 14:13 28:37 14:17 27:21 47:41
elbrus   185 50:44 46:50 16:19 56:58 54:63 40:34 35:46 55:55 20:24 9:10 22:18
fuji     162 38:31 33:28 10:8 15:16 53:64 17:23 10:11 16:14 54:55 34:30
genepi   161 27:22 33:34 13:10 33:36 26:32 56:44 41:44 25:30 14:13 9:11 59:53
hekla    170 8:9 10:8 23:17 59:68 52:70 23:19 37:43 25:25 30:27 21:27 59:55
irazu    206 43:54 57:59 40:51 20:17 40:41 47:58 14:14 17:14 59:76 48:37 33:44 49:58 49:41
jungfrau 180 29:26 18:23 32:35 52:48 25:25 54:65 8:10 50:67 9:9 17:23 54:51 24:27 47:52
kenia    231 10:10 44:33 37:46 25:29 18:14 39:37 23:30 55:74 10:10 16:18 32:32 51:46 19:22 50:48
logan    261 13:14 24:19 17:20 38:51 55:54 57:43 39:48 54:69 42:45 14:12 43:50 54:49 59:66 13:16
"""


class Item(BaseModel):
    """Something to pack."""

    weight: int
    value: int


class Knapsack(BaseModel):
    """A problem: the most valuable items are to be packed that `capacity` carries."""

    id: str
    capacity: int
    items: list[Item]


class Packing(BaseModel):
    """An answer: the positions of the items that are packed, and what they are worth."""

    packed: list[int]
    value: int


def parse(line: str) -> Knapsack:
    """Read one line of KNAPSACKS."""
    name, capacity, *items = line.split()
    pairs = [each.split(":") for each in items]
    return Knapsack(
        id=name, capacity=int(capacity), items=[Item(weight=int(weight), value=int(value)) for weight, value in pairs]
    )


# ---- the agent


def attempt(knapsack: Knapsack, chance: random.Random) -> Packing:
    """Pack what still fits, in the order of value per weight as a hasty look judges it."""
    worth = [item.value / item.weight * chance.uniform(0.6, 1.4) for item in knapsack.items]
    packed: list[int] = []
    room = knapsack.capacity
    for position in sorted(range(len(worth)), key=worth.__getitem__, reverse=True):
        if knapsack.items[position].weight <= room:
            packed.append(position)
            room -= knapsack.items[position].weight
    return Packing(packed=sorted(packed), value=sum(knapsack.items[position].value for position in packed))


def value(result: EvalResult) -> float:
    """Score a candidate by what it says it is worth."""
    return float(result.artifacts[0].payload.value)


def make_flock(condition: Condition, seed: int) -> Flock:
    """Make the Flock of one run, whose chance is that of the run's seed."""
    flock = Flock(name="packers")

    @flock.agent("packer").consumes(Knapsack).best_of(condition.factor_assignments["candidates"], score=value)
    async def pack(knapsack: Knapsack, ctx: Context) -> Packing:
        return attempt(knapsack, random.Random(f"{seed}:{ctx.candidate}"))  # noqa: S311 - to be repeated, not to be secret

    return flock


# ---- what it is measured by


def optimum(knapsack: Knapsack) -> int:
    """Give the value of the best packing, by dynamic programming (Bellman 1957)."""
    best = [0] * (knapsack.capacity + 1)  # by the weight that may be used
    for item in knapsack.items:
        for weight in range(knapsack.capacity, item.weight - 1, -1):
            best[weight] = max(best[weight], best[weight - item.weight] + item.value)
    return best[-1]


def measure(output: dict[str, Any], problem: Knapsack) -> dict[str, float]:
    """Measure a packing by its items, whatever it says of itself; one that is too heavy is worth nothing."""
    packing = Packing.model_validate(output)
    packed = [item for position, item in enumerate(problem.items) if position in packing.packed]
    fits = sum(item.weight for item in packed) <= problem.capacity
    worth = sum(item.value for item in packed) if fits else 0
    best = optimum(problem)
    return {"quality": worth / best, "solved": float(worth == best)}


# ---- the study

study = Study.build(
    "best-of-n",
    title="Best of N against a single attempt",
    description="How close to the best packing of a knapsack do the best of N hasty attempts come?",
    agents={"packer": make_flock},
    problems=[parse(line) for line in KNAPSACKS.split("\n") if line],
    factors=[
        Factor(
            "candidates",
            "how many attempts there are, of which the best counts",
            levels=(Level("single", 1, metadata={"role": "baseline"}), Level("best of 4", 4), Level("best of 16", 16)),
        )
    ],
    evaluators={"packing": measure},
    outcomes=[
        OutcomeSpec("quality", primary=True, description="value of the packing, as a part of the best one's"),
        OutcomeSpec("solved", description="1 for a packing that is as good as the best one, else 0"),
    ],
    hypotheses=[
        Hypothesis(
            "H1",
            "More candidates, better packings",
            "The best of 4, and of 16, is worth more than a single attempt.",
            independent_vars=("candidates",),
            dependent_vars=("quality", "solved"),
            direction=HypothesisDirection.GREATER,
            minimum_effect_of_interest=0.01,
            notes="The minimum effect is in units of quality.",
        )
    ],
    analysis_plans=[
        AnalysisPlan(
            "A1",
            hypothesis_ids=("H1",),
            tests=("paired t-test, clustered by problem",),
            outcomes=("quality", "solved"),
            multiple_comparison_policy="holm",
        )
    ],
    replicates=5,
    pair_by="problem",
    seed=2026,
    output_dir=Path("build", "best-of-n"),
)


def main(folder: Path | None = None) -> dict[int, dict[str, float]]:
    """Run what is left to do, write `report.html` beside the study's files, and return the mean outcomes.

    By the number of candidates, as {1: {"quality": 0.9..., "solved": 0.1...}, 4: ..., 16: ...}: the more of them, the
    more of both.
    """
    here = study if folder is None else replace(study, output_dir=folder)
    results = here.run()
    report = here.directory / "report.html"
    results.report(report)
    summary = results.summary(by="candidates")
    print(_shown(summary[["candidates", "outcome", "n", "failed", "mean", "low", "high"]]))
    compared = results.compare("quality", baseline=1, by="candidates")
    print(_shown(compared[["what", "baseline", "difference", "low", "high", "p_adjusted"]]))
    print(f"The report is in {report}")
    found: dict[int, dict[str, float]] = {}
    for row in summary.to_dict("records"):
        found.setdefault(int(row["candidates"]), {})[row["outcome"]] = float(row["mean"])
    return found


def _shown(frame: Any) -> str:  # noqa: ANN401 - a DataFrame
    text: str = frame.to_string(index=False, float_format="{:.4f}".format)
    return f"{text}\n"


if __name__ == "__main__":
    main()
