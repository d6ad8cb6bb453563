"""The results of a study as tables: its runs, what came out by groups, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from flock.studies.analysis.measurements import AFTER, BEFORE, Measurements, Row, number_of
from flock.studies.analysis.statistics import Estimate, mean, mean_pass_at_k, proportion
from flock.studies.runs import RunStatus
from flock.studies.stable import ValidationError, stable_json_dumps

CLUSTERED: Final = "by problem"  # what a method's name ends in whose clusters are problems


def runs_frame(measured: Measurements) -> pd.DataFrame:
    """Give a row per run that has a result; numbers are floats, nan where a run has none."""
    rows = [row for row in measured.rows if row.result is not None]
    columns: dict[str, Iterable[Any]] = {name: [_before(row, name) for row in rows] for name in BEFORE}
    columns |= {name: [row.keys.get(name) for row in rows] for name in measured.factors.values()}
    columns |= {name: [row.keys.get(name) for row in rows] for name in measured.blocks.values()}
    for name in measured.numeric:
        if name not in AFTER:
            column = f"metric_{name}" if name in columns else name
            columns[column] = _floats(measured, measured.raw(name))
    for name in ("latency_s", "cost_usd", "tokens"):
        columns[name] = _floats(measured, [_after(row, name, value) for row, value in _rows(measured, name)])
    columns["error_info"] = [row.result and row.result.error_info for row in rows]
    return pd.DataFrame({name: _series(values) for name, values in columns.items()})


def summary_rows(
    measured: Measurements, by: Sequence[str], outcomes: Sequence[str], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Give a row per group and outcome, see `SUMMARY`."""
    groups = measured.groups(by)
    found: list[dict[str, Any]] = []
    for outcome in outcomes:
        numbers = measured.numbers(outcome)
        binary = measured.is_proportion(outcome)
        for group in groups:
            places = [place for place in group.places if numbers[place] is not None]
            estimate = estimate_of(
                [numbers[place] or 0.0 for place in places],
                [measured.rows[place].spec.problem_id for place in places],
                binary=binary,
                confidence=confidence,
            )
            failed = sum(measured.rows[place].failed for place in group.places)
            found.append({**group.levels, "outcome": outcome, "n": len(places), "failed": failed} | said_of(estimate))
    return found


def pass_at_k_rows(
    measured: Measurements, k: int, outcome: str, by: Sequence[str], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Give a row per group, see `PASS_AT_K`; problems with fewer than k values are left out and counted."""
    numbers = measured.numbers(outcome)
    if not measured.is_proportion(outcome):
        raise ValidationError(f"pass@k needs an outcome that is 0 or 1 in every run, and {outcome!r} has other values")
    several = [(group, counts_of(measured, numbers, group.places)) for group in measured.groups(by)]
    most = max((n for _, counts in several for n, _ in counts.values()), default=0)
    if most and isinstance(k, int) and k > most:
        raise ValidationError(f"pass@{k} needs {k} values of a problem, and none has more than {most}: replicate more")
    found: list[dict[str, Any]] = []
    for group, counts in several:
        enough = [each for each in counts.values() if each[0] >= k]
        estimate = _bounded(mean_pass_at_k(enough, k, confidence=confidence), len(enough)) if enough else _NOTHING
        said = said_of(estimate)
        said = {"pass_at_k": said.pop("mean"), **said}
        told = {"outcome": outcome, "k": k, "problems": len(enough), "left_out": len(counts) - len(enough)}
        found.append({**group.levels, **told, **said})
    return found


def counts_of(
    measured: Measurements, numbers: Sequence[float | None], places: Iterable[int]
) -> dict[str, tuple[int, int]]:
    """Give how many values each problem has, and how many of them are 1."""
    found: dict[str, tuple[int, int]] = {}
    for place in places:
        problem, number = measured.rows[place].spec.problem_id, numbers[place]
        n, c = found.get(problem, (0, 0))
        found[problem] = (n, c) if number is None else (n + 1, c + (number == 1))
    return found


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Give rows as a DataFrame with these columns, also when there are none."""
    return pd.DataFrame({name: _series([row[name] for row in rows]) for name in columns})


def parquet_of(frame: pd.DataFrame) -> bytes:
    """Give a DataFrame as Parquet, with columns of several types as JSON texts."""
    plain = {str(name): _uniform(frame[name]) for name in frame.columns}
    return bytes_of(pd.DataFrame(plain).to_parquet(None, engine="pyarrow", index=False))


def bytes_of(value: object) -> bytes:
    """Give bytes as what they are: what writes to no path returns them."""
    return value if isinstance(value, bytes) else b""


def is_clustered(problems: Sequence[str]) -> bool:
    """Say whether values have to be clustered: several of a problem, and several problems."""
    return 1 < len(set(problems)) < len(problems)


def estimate_of(values: Sequence[float], problems: Sequence[str], *, binary: bool, confidence: float) -> Estimate:
    """Estimate a mean, or a proportion, of values with a problem each; all nan without values."""
    if not values:
        return _NOTHING
    if is_clustered(problems):
        found = mean(values, clusters=problems, confidence=confidence)
        found = replace(found, method=f"{found.method} {CLUSTERED}")
        return _bounded(found, len(set(problems))) if binary else found
    return (
        proportion(round(sum(values)), len(values), confidence=confidence)
        if binary
        else mean(values, confidence=confidence)
    )


_NOTHING: Final = Estimate(
    value=math.nan, low=math.nan, high=math.nan, n=0, se=math.nan, confidence=math.nan, method=""
)


def said_of(estimate: Estimate) -> dict[str, Any]:
    """Give the columns of an estimate."""
    names = ("value", "low", "high", "se", "method")
    return {"mean" if name == "value" else name: getattr(estimate, name) for name in names}


def _bounded(estimate: Estimate, problems: int) -> Estimate:
    """Keep the interval of a proportion within 0 and 1.

    Where all problems agree, their spread says nothing: Wilson's interval takes each problem for one value when all
    values are the same, else each run.
    """
    if estimate.se == 0 and estimate.value in {0.0, 1.0}:
        hits = problems if estimate.value else 0
        found = proportion(hits, problems, confidence=estimate.confidence)
        return replace(found, n=estimate.n, method="Wilson over problems")
    if estimate.se == 0:
        return proportion(round(estimate.value * estimate.n), estimate.n, confidence=estimate.confidence)
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _before(row: Row, name: str) -> object:
    match name:
        case "run_id":
            return row.spec.run_id
        case "seed":
            return row.spec.seed
        case "status":
            return (RunStatus.PENDING if row.result is None else row.result.status).value
        case _:
            return row.keys[name]


def _rows(measured: Measurements, name: str) -> Iterable[tuple[Row, object]]:
    return zip(measured.rows, measured.raw(name), strict=True)


def _after(row: Row, name: str, value: object) -> object:
    """Give what a run took; a run that failed may have cost what nobody counted."""
    result = row.result
    if result is None or value is not None or name == "tokens":
        return value
    took = result.latency if name == "latency_s" else result.cost
    return took if took or row.succeeded else None


def _floats(measured: Measurements, values: Sequence[object]) -> list[float]:
    found = [number_of(value) for row, value in zip(measured.rows, values, strict=True) if row.result is not None]
    return [math.nan if value is None else value for value in found]


def _series(values: Iterable[Any]) -> pd.Series[Any]:
    """Give a column; None among its values stays None, since it may well be a level."""
    several = list(values)
    return pd.Series(several, dtype=object) if any(value is None for value in several) else pd.Series(several)


def _uniform(column: pd.Series[Any]) -> pd.Series[Any]:
    values: list[Any] = column.tolist()
    kinds: set[type] = {type(value) for value in values if value is not None}
    if column.dtype != object or len(kinds) <= 1:
        return column
    return pd.Series([None if value is None else stable_json_dumps(value) for value in values], dtype=object)
