"""How a study was done and its numbers were made, in words and with their sources."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from flock.studies.analysis.measurements import AGENT, FAMILY, PROBLEM, Measurements
from flock.studies.analysis.rounding import count
from flock.studies.analysis.statistics import Adjustment
from flock.studies.runs import RunStatus

_PACKAGES: Final = ("flock-board", "pydantic", "numpy", "scipy", "pandas", "matplotlib")
_SHOWN: Final = 12  # levels of a factor, or names, that a sentence lists
_ADJUSTED: Final[dict[str, str]] = {
    "holm": "by Holm's method (Holm 1979)",
    "bonferroni": "by Bonferroni's method (Dunn 1961)",
    "bh": "for the false discovery rate (Benjamini and Hochberg 1995)",
}

# What is said of a method whose name begins so.
_SOURCES: Final[dict[str, str]] = {
    "Wilson over problems": (
        "Where all problems agree, a proportion has Wilson's interval with each problem as one value."
    ),
    "Wilson": "Proportions of runs have Wilson's score interval (Wilson 1927).",
    "clustered t": (
        "Means and proportions of several runs per problem have Student's t interval with the cluster-robust standard "
        "error (Liang and Zeger 1986), clustered by problem as for evaluations in Miller 2024, with the correction CR1 "
        "and G - 1 degrees of freedom for G problems (Cameron and Miller 2015); bounds of proportions are kept within "
        "0 and 1."
    ),
    "t": "Means have Student's t interval (Student 1908).",
    "clustered paired t": (
        "Pairs of runs that agree in all but what is compared are compared by the mean of their differences with a "
        "t-test (Student 1908), whose standard error is clustered by problem (Liang and Zeger 1986; Miller 2024)."
    ),
    "paired t": (
        "Pairs that agree in all but what is compared are compared by the mean of their differences with a t-test "
        "(Student 1908)."
    ),
    "clustered Welch t": (
        "Runs without pairs are compared with Welch's t-test (Welch 1947; Satterthwaite 1946), with standard errors "
        "clustered by problem."
    ),
    "Welch t": "Runs without pairs are compared with Welch's t-test (Welch 1947; Satterthwaite 1946).",
}
_EFFECTS: Final = {
    "d_z": "The effect of pairs is Cohen's d_z (Cohen 1988) with the correction for small samples of Hedges 1981.",
    "Hedges": "The effect without pairs is Hedges' g (Hedges 1981).",
}


def design_paragraph(measured: Measurements) -> str:
    """Say what was run: design, conditions, problems, agents and replicates."""
    study, conditions = measured.plan.study, measured.plan.conditions
    ruled_out = sum(not each.admissible for each in conditions)
    agents, problems, families = (measured.levels(name) for name in (AGENT, PROBLEM, FAMILY))
    parts = [
        f"The design is {study.design_spec.kind.value.replace('_', ' ')}: "
        f"{count(len(conditions) - ruled_out, 'condition')}"
        + (f" ({ruled_out} more ruled out by constraints)" if ruled_out else "")
        + f", {count(len(problems), 'problem')}"
        + (f" of {len(families)} families" if len(families) > 1 else "")
        + f", {count(len(agents), 'agent')} ({_listed(agents.values())}) and "
        f"{count(study.run_budget.replicates, 'replicate')} of each combination."
    ]
    for what, columns in (("Factor", measured.factors), ("Block", measured.blocks)):
        parts += [f"{what} {name}: {_listed(measured.levels(column).values())}." for name, column in columns.items()]
    return " ".join(parts)


def runs_paragraph(measured: Measurements) -> str:
    """Say how the runs went, and where their chance came from."""
    study = measured.plan.study
    counts = Counter(each.result.status for each in measured.rows if each.result is not None)
    missing = len(measured.rows) - counts.total()
    shared = ", ".join(study.pair_by)
    seeds = (
        f"runs that agree on {shared} and the replicate share a seed (common random numbers)"
        if shared
        else "each run has a seed of its own"
    )
    return (
        f"{count(len(measured.rows), 'run')} planned: {counts[RunStatus.SUCCESS]} succeeded, "
        f"{counts[RunStatus.FAILED]} failed, {counts[RunStatus.SKIPPED]} were skipped"
        + (f", {missing} have no result" if missing else "")
        + f". They started in random order. All seeds come from the base seed {study.seed_policy.base_seed}; {seeds}. "
        "Runs without a value are left out of means and comparisons, and counted."
    )


def statistics_paragraph(
    methods: Iterable[str], effects: Iterable[str], *, passes: bool, correction: Adjustment | None
) -> str:
    """Say which statistics were used, with their sources; `correction` is None without comparisons."""
    used = list(dict.fromkeys(methods))
    names = dict.fromkeys(name for each in used if (name := _name(each)) is not None)
    found = [text for name, text in _SOURCES.items() if name in names]
    found += [text for name, text in _EFFECTS.items() if any(each.startswith(name) for each in effects)]
    if any("problem means" in each for each in used):
        found.append("Where no runs agree in all else, the means of the problems in common are the pairs.")
    if passes:
        found.append(
            "pass@k is the unbiased estimate of Chen et al. 2021, averaged over problems, with Student's t interval "
            "over problems."
        )
    if correction in _ADJUSTED:
        found.append(f"p-values are two-sided, and adjusted within each table's outcome {_ADJUSTED[correction]}.")
    elif correction is not None:
        found.append("p-values are two-sided and not adjusted for being many.")
    return " ".join(["Intervals have 95 % confidence.", *found]) if found else ""


def versions_paragraph(folder: Path) -> str:
    """Say with which versions the runs were made, as the manifest has it, and this report."""
    now = _versions({"python_version": platform.python_version(), "package_versions": _installed()})
    ran = _versions(_provenance(folder))
    return f"This report was made with {now}." + (f" The runs' files were made with {ran}." if ran else "")


def _name(method: str) -> str | None:
    """Give the longest name in `_SOURCES` that a method begins with."""
    found = [name for name in _SOURCES if method == name or method.startswith(f"{name} ")]
    return max(found, key=len, default=None)


def _listed(values: Iterable[object]) -> str:
    several = [str(each) for each in values]
    more = [f"{len(several) - _SHOWN} more"] if len(several) > _SHOWN else []
    return ", ".join([*several[:_SHOWN], *more]) or "none"


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _provenance(folder: Path) -> Any:  # noqa: ANN401 - JSON
    """Give what the manifest says of the programs that wrote it; nothing when there is none that can be read."""
    try:
        return json.loads((folder / "manifest.json").read_text("utf-8"))["provenance"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _versions(provenance: Any) -> str:  # noqa: ANN401 - JSON
    try:
        python, packages = provenance["python_version"], dict(provenance["package_versions"])
    except (LookupError, TypeError, ValueError):
        return ""
    several = [f"{name} {value}" for name, value in packages.items() if value != "not-installed"]
    return ", ".join([f"Python {python}", *several])
