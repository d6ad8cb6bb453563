"""The results of a study: tables, comparisons, pictures and files."""

from __future__ import annotations

import importlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, Literal, overload

from typing_extensions import override

from flock.studies.analysis.measurements import PASS_AT_K, SUMMARY, Measurements
from flock.studies.files import replace_bytes, replace_text
from flock.studies.plan import Plan
from flock.studies.running import export
from flock.studies.runs import RunResult, RunStatus, known_outcomes, outcome_of
from flock.studies.stable import ValidationError

logger = logging.getLogger("flock")
_LOOKED_AT: Final = 20  # results, to say what there is
FORMATS: Final = ("csv", "jsonl", "sqlite", "parquet")


class StudyResults(Sequence[RunResult]):
    """The results of the planned runs that have one, in the order of the plan.

    Tables are pandas DataFrames and pictures matplotlib Figures; both need the extra `studies`. Statistics take the
    values of runs that succeeded. Where a group has several runs per problem, and several problems, its standard
    errors are clustered by problem, and `method` says so.
    """

    def __init__(self, plan: Plan, runs: Sequence[RunResult]) -> None:
        """Hold results of a plan."""
        self.plan = plan
        self._runs = runs

    @override
    def __len__(self) -> int:
        """Count them."""
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RunResult]: ...

    @override
    def __getitem__(self, index: int | slice) -> RunResult | Sequence[RunResult]:
        """Give one by position, or several."""
        return self._runs[index]

    @override
    def __iter__(self) -> Iterator[RunResult]:
        """Give each."""
        return iter(self._runs)

    @property
    def runs(self) -> list[RunResult]:
        """The results as a list."""
        return list(self._runs)

    @property
    def unmeasured(self) -> list[str]:
        """The outcomes of the study that no run which succeeded has a value of."""
        good = [each for each in self._runs if each.status is RunStatus.SUCCESS]
        names = [each.name for each in self.plan.study.outcomes] if good else []
        return [name for name in names if all(outcome_of(each, name) is None for each in good)]

    def warn(self) -> None:
        """Log a warning of outcomes that nothing has measured."""
        if missing := self.unmeasured:
            known = ", ".join(known_outcomes(self._runs[:_LOOKED_AT])) or "none"
            logger.warning(
                "study %r: no run has a value of %s; what runs have: %s",
                self.plan.study.study_id, ", ".join(missing), known,
            )  # fmt: skip

    @property
    def failures(self) -> list[RunResult]:
        """The runs that failed."""
        return [each for each in self.runs if each.status is RunStatus.FAILED]

    # ---- tables

    def df(self) -> Any:  # noqa: ANN401 - a DataFrame
        """Give a DataFrame with a row per run: what ran, its factors and blocks, and all numbers it was measured by.

        Numbers are floats, nan where a run has none. Levels that are lists or mappings are their JSON. A factor or
        metric that is called as another column is `factor_<name>` or `metric_<name>`, a block `block_<name>`.
        """
        return _loaded("flock.studies.analysis.tables").runs_frame(self._measured())

    def summary(
        self,
        by: str | Sequence[str] | None = None,
        outcomes: str | Sequence[str] | None = None,
        confidence: float = 0.95,
    ) -> Any:  # noqa: ANN401 - a DataFrame
        """Give a DataFrame with a row per group and outcome: n, failed, mean, low, high, se and method.

        `by` takes names of columns, and is agents and the factors that vary unless given. An outcome that is 0 or 1 in
        all runs has Wilson's interval, others Student's t. Raises ValidationError for unknown names and no numbers.
        """
        tables, measured = _loaded("flock.studies.analysis.tables"), self._measured()
        names = measured.by(by)
        rows = tables.summary_rows(measured, names, measured.outcomes(outcomes), confidence)
        return tables.frame_of(rows, [*names, *SUMMARY])

    def compare(
        self,
        outcome: str,
        *,
        baseline: Any,  # noqa: ANN401 - a name, or the level of a factor
        by: str | None = None,
        correction: Literal["bonferroni", "holm", "bh", "none"] = "holm",
        confidence: float = 0.95,
    ) -> Any:  # noqa: ANN401 - a DataFrame
        """Give a DataFrame with a row for each that is compared with the baseline.

        `baseline` is an agent, a condition, or a level of what `by` names. Pairs are runs that agree on problem,
        replicate and all else; where there are none, the means of the problems that both have; and without two such
        problems the runs are compared unpaired. `missing` counts runs of both sides without a value, `unpaired` those
        with one but no partner. Raises ValidationError for unknown names and outcomes that are no numbers.
        """
        comparisons = _loaded("flock.studies.analysis.comparisons")
        rows = comparisons.comparison_rows(
            self._measured(), outcome, baseline=baseline, by=by, correction=correction, confidence=confidence
        )
        return _loaded("flock.studies.analysis.tables").frame_of(rows, comparisons.COLUMNS)

    def pass_at_k(
        self, k: int, outcome: str | None = None, by: str | Sequence[str] | None = None, confidence: float = 0.95
    ) -> Any:  # noqa: ANN401 - a DataFrame
        """Give a DataFrame with a row per group: pass@k over problems, out of their replicates.

        Problems with fewer than k values are left out and counted. Raises ValidationError when none has as many, and
        for an outcome that is not 0 or 1.
        """
        tables, measured = _loaded("flock.studies.analysis.tables"), self._measured()
        names = measured.by(by)
        rows = tables.pass_at_k_rows(measured, k, measured.primary(outcome), names, confidence)
        return tables.frame_of(rows, [*names, *PASS_AT_K])

    # ---- pictures and reports

    def plot(
        self,
        outcome: str | None = None,
        by: str | Sequence[str] | None = None,
        kind: Literal["intervals", "paired", "scatter"] = "intervals",
        path: str | Path | None = None,
        confidence: float = 0.95,
    ) -> Any:  # noqa: ANN401 - a Figure
        """Give a Figure of an outcome, the primary one unless given, and write it to a .png, .svg or .pdf file.

        "intervals" has the runs and the mean of each group, "paired" a line per problem, "scatter" the runs over a
        numeric factor in `by`, or else over what they cost. Raises ValidationError.
        """
        plots = _loaded("flock.studies.analysis.plots")
        figure = plots.figure_of(self._measured(), outcome, by, kind=kind, confidence=confidence)
        if path is not None:
            replace_bytes(Path(path), plots.image_of(figure, Path(path).suffix.lower().lstrip(".")))
        return figure

    def report(self, path: str | Path | None = None) -> str:
        """Give a report, and write it to a .html file, or to a .md file with its figure beside it as .svg.

        It is Markdown without a path. Raises ValidationError for any other kind of file.
        """
        target = None if path is None else Path(path)
        suffix = ".md" if target is None else target.suffix.lower()
        if suffix not in {".html", ".md"}:
            raise ValidationError(f"a report is a .html or .md file, not {path}")
        report = _loaded("flock.studies.analysis.report")
        if target is None:
            return str(report.markdown_of(self._measured())[0])
        if suffix == ".html":
            text: str = report.html_of(self._measured())
        else:
            picture = target.with_suffix(".svg")
            text, svg = report.markdown_of(self._measured(), picture.name)
            if svg is not None:
                replace_text(picture, svg)
        replace_text(target, text)
        return text

    # ---- files

    def export(self, formats: str | Sequence[str] = ("csv",), folder: str | Path | None = None) -> dict[str, Path]:
        """Write files to a folder, the study's own unless given, and give their paths by name.

        "csv" is the files that each run of the study writes, "sqlite" these and their tables in `study.sqlite`,
        "jsonl" all of each result in `runs.jsonl`, "parquet" what `df` gives in `runs.parquet`, which needs the extra
        `parquet`. Raises ValidationError for other formats.
        """
        several = [formats] if isinstance(formats, str) else list(formats)
        for name in several:
            if name not in FORMATS:
                raise ValidationError(f"there is no format {name!r}; known formats: {', '.join(FORMATS)}")
        target = self.plan.study.directory if folder is None else Path(folder)
        parquet = self._parquet() if "parquet" in several else None
        found: dict[str, Path] = {}
        if {"csv", "sqlite"} & set(several):
            results = {each.run_id: each for each in self.runs}
            found |= export(self.plan, results, include_sqlite="sqlite" in several, folder=target)
        if "jsonl" in several:
            lines = [json.dumps(each.to_dict(), ensure_ascii=False, allow_nan=False) for each in self.runs]
            found["runs.jsonl"] = replace_text(target / "runs.jsonl", "".join(f"{line}\n" for line in lines))
        if parquet is not None:
            found["runs.parquet"] = replace_bytes(target / "runs.parquet", parquet)
        return found

    def _parquet(self) -> bytes:
        _loaded("pyarrow.parquet", extra="parquet")
        data: bytes = _loaded("flock.studies.analysis.tables").parquet_of(self.df())
        return data

    def _measured(self) -> Measurements:
        return Measurements(self.plan, self.runs)

    # ---- what is shown of them

    @override
    def __repr__(self) -> str:
        """Say how many ended how."""
        counts = Counter(each.status.value for each in self.runs)
        said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "nothing has run"
        return f"<results of {self.plan.study.study_id!r}: {said} of {len(self.plan.runs)} planned>"

    def _repr_html_(self) -> str:
        """Give the summary for a notebook, which must show something."""
        counts = f"<p>{escape(repr(self))}</p>"
        try:
            return f"{counts}\n{self.summary().to_html(index=False, border=0, na_rep='')}"
        except Exception:  # noqa: BLE001 - whatever stands in the way of a table, the counts are there
            return counts


def _loaded(module: str, extra: str = "studies") -> Any:  # noqa: ANN401 - a module that needs what may not be there
    """Load a module that needs an extra; raises ValidationError without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValidationError(f"this needs {error.name or extra}: pip install 'flock-board[{extra}]'") from error
