"""The figures of all rounds as a table, for terminals and for the docs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from figures import Figure, Round, Sample


@dataclass(slots=True)
class Results:
    """The samples of each case, one per round, or why a case has none."""

    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    failed: bool = False

    def rounds(self, cases: Sequence[str]) -> list[Round]:
        """Return the rounds in which all these cases were measured."""
        columns = [self.samples.get(case, []) for case in cases]
        return [dict(zip(cases, row, strict=True)) for row in zip(*columns, strict=False)]

    def excuse(self, cases: Sequence[str]) -> str:
        """Return why these cases have no figure, or an empty string."""
        return "; ".join(dict.fromkeys(self.missing[case] for case in cases if case in self.missing))


class Line(NamedTuple):
    """One line of the table."""

    workload: str = "workload"
    what: str = "what"
    baseline: str = "baseline"
    flock: str = "flock"
    figure: str = "figure"
    spread: str = "lowest to highest"
    target: str = "at most"
    mark: str = "target"


def line(figure: Figure, results: Results) -> Line:
    """Return medians over the rounds, the figure's extremes, and whether its median meets the target."""
    rounds = results.rounds(figure.cases)
    excuse = results.excuse(figure.cases)
    if excuse or not rounds:
        return Line(figure.name, figure.what, "", "", excuse or "not measured", "", "", "")
    values = [figure.of(samples) for samples in rounds]
    last = [samples[figure.cases[-1]] for samples in rounds]
    bounded = figure.target is not None
    return Line(
        figure.name,
        figure.what,
        f"{number(median(sample.baseline(figure.quantity) for sample in last))} {figure.unit}",
        f"{number(median(sample.measured[figure.quantity] for sample in last))} {figure.unit}",
        number(median(values)) + figure.sign,
        f"{number(min(values))} to {number(max(values))}",
        f"{figure.target:g}{figure.sign}" if bounded else "",
        ("met" if figure.target is not None and median(values) <= figure.target else "missed") if bounded else "",
    )


def number(value: float) -> str:
    """Return a number with as many digits as matter."""
    match abs(value):
        case size if size >= 1_000:  # noqa: PLR2004
            return f"{value:,.0f}"
        case size if size >= 10:  # noqa: PLR2004
            return f"{value:.1f}"
        case _:
            return f"{value:.2f}"


def aligned(lines: Sequence[Line]) -> str:
    """Return the lines in columns; what is said instead of figures takes the rest of its line."""
    rows = [Line(), *lines]
    full = [row for row in rows if row.baseline]
    widths = [max(len(row[i]) for row in (rows if i < 2 else full)) for i in range(len(Line()))]  # noqa: PLR2004
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table."""
    rows = [Line(), Line(*("---" for _ in Line())), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
