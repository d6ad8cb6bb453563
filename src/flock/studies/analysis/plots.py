"""Pictures of a study's results, in colours that everyone can tell apart and shapes that print keeps."""

from __future__ import annotations

import io
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, Literal, get_args

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flock.studies.analysis.measurements import AGENT, Group, Measurements, cell, number_of
from flock.studies.analysis.tables import summary_rows
from flock.studies.stable import ValidationError

Kind = Literal["intervals", "paired", "scatter"]
FORMATS: Final = ("png", "svg", "pdf")

# Okabe and Ito 2008, "Color Universal Design"; its yellow is too light for white paper.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_GREY: Final = "#777777"
_WIDTH: Final = 6.4  # inches
_TALLEST: Final = 40.0
_MANY: Final = 2000  # points that a vector file need not have one by one
_LONGEST: Final = 40  # characters of a label
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_STEPS: Final = (("cost_usd", "cost"), ("tokens", "tokens"), ("latency_s", "latency"))
_MPL: Final[Any] = mpl  # its types leave open what most of its functions take
_CLEAN: Final[dict[str, Any]] = {"Date": None, "Creator": None, "Format": None, "Type": None}


def figure_of(
    measured: Measurements,
    outcome: str | None = None,
    by: str | Sequence[str] | None = None,
    *,
    kind: Kind = "intervals",
    confidence: float = 0.95,
) -> Any:  # noqa: ANN401 - a Figure, see `_MPL`
    """Draw one outcome; raises ValidationError for unknown names.

    "intervals" has the mean of each group with its interval over the runs, "paired" a line per problem through its
    means, "scatter" each run over a numeric factor that `by` names, or else over its cost, tokens or latency.
    """
    if kind not in get_args(Kind):
        raise ValidationError(f"kind is one of {', '.join(get_args(Kind))}, not {kind!r}")
    name = measured.primary(outcome)
    numbers = measured.numbers(name)
    groups = measured.groups([AGENT] if by is None and kind == "scatter" else measured.readable(by))
    figure: Any = Figure(figsize=(_WIDTH, _height(kind, len(groups))), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    match kind:
        case "intervals":
            _intervals(axes, measured, groups, name, numbers, confidence)
        case "paired":
            _paired(axes, measured, groups, name, numbers, confidence)
        case "scatter":
            _scatter(axes, measured, groups, name, numbers)
    return figure


def image_of(figure: Any, suffix: str) -> bytes:  # noqa: ANN401 - a Figure
    """Give a figure as a file of this kind, the same bytes for the same figure; raises ValidationError for others."""
    if suffix not in FORMATS:
        raise ValidationError(f"a picture is a .{', .'.join(FORMATS)} file, not .{suffix}")
    file = io.BytesIO()
    metadata = {"svg": _CLEAN, "pdf": {"CreationDate": None}, "png": None}[suffix]
    with warnings.catch_warnings(), _MPL.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flock"}):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # of names in scripts that the font does not have
        figure.savefig(file, format=suffix, dpi=200, metadata=metadata)
    return file.getvalue()


def svg_of(figure: Any) -> str:  # noqa: ANN401 - a Figure
    """Give a figure as an SVG element, to stand in a page."""
    text = image_of(figure, "svg").decode()
    return text[text.index("<svg") :]


def _height(kind: Kind, groups: int) -> float:
    return min(1.2 + 0.42 * max(groups, 2), _TALLEST) if kind == "intervals" else 4.4


def _intervals(
    axes: Any,  # noqa: ANN401 - see `_MPL`
    measured: Measurements,
    groups: Sequence[Group],
    name: str,
    numbers: Sequence[float | None],
    confidence: float,
) -> None:
    many = sum(number is not None for number in numbers) > _MANY
    for place, (group, row) in enumerate(zip(groups, _summary(measured, groups, name, confidence), strict=True)):
        colour, marker = _look(groups, group)
        values = _values(group, numbers)
        heights = [place + _spread(index) for index in range(len(values))]
        axes.scatter(values, heights, s=12, color=colour, alpha=0.4, linewidths=0, rasterized=many, label="runs")
        around = [[_reach(row["mean"], row["low"])], [_reach(row["mean"], row["high"])]]
        axes.errorbar(
            [row["mean"]], [place], xerr=around, fmt=marker, color=colour, markeredgecolor="white", markersize=8,
            capsize=4, linewidth=2, label="mean",
        )  # fmt: skip
    _ticks(axes.set_yticks, groups)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(
        f"{_labelled(measured, name)}: runs, and mean with {100 * confidence:g} % interval", parse_math=False
    )
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _paired(
    axes: Any,  # noqa: ANN401 - see `_MPL`
    measured: Measurements,
    groups: Sequence[Group],
    name: str,
    numbers: Sequence[float | None],
    confidence: float,
) -> None:
    lines: defaultdict[str, list[float]] = defaultdict(lambda: [math.nan] * len(groups))
    for place, group in enumerate(groups):
        for problem, values in _by_problem(measured, group, numbers).items():
            lines[problem][place] = fmean(values)
    for problem, line in lines.items():
        axes.plot(range(len(groups)), line, color=_GREY, alpha=0.5, linewidth=1, marker=".", gid=f"problem {problem}")
    for place, (group, row) in enumerate(zip(groups, _summary(measured, groups, name, confidence), strict=True)):
        colour, marker = _look(groups, group)
        around = [[_reach(row["mean"], row["low"])], [_reach(row["mean"], row["high"])]]
        axes.errorbar(
            [place], [row["mean"]], yerr=around, fmt=marker, color=colour, markeredgecolor="white", markersize=9,
            capsize=4, linewidth=2, zorder=3, label="mean",
        )  # fmt: skip
    steep = {"rotation": 30, "ha": "right"} if len(groups) > 3 else {}  # noqa: PLR2004 - labels that fit side by side
    _ticks(axes.set_xticks, groups, **steep)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    said = f"a line per problem, and mean with {100 * confidence:g} % interval"
    axes.set_ylabel(_labelled(measured, name), parse_math=False)
    axes.set_xlabel(said)


def _scatter(
    axes: Any,  # noqa: ANN401 - see `_MPL`
    measured: Measurements,
    groups: Sequence[Group],
    name: str,
    numbers: Sequence[float | None],
) -> None:
    across, label, groups = _across(measured, groups)
    many = len(numbers) > _MANY
    for place, group in enumerate(groups):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        points = [(x, y) for at in group.places if (x := across[at]) is not None and (y := numbers[at]) is not None]
        axes.scatter(
            [x for x, _ in points], [y for _, y in points], s=26, marker=marker, color=colour, alpha=0.6, linewidths=0,
            rasterized=many, label=_label(group),
        )  # fmt: skip
    axes.set_xlabel(label, parse_math=False)
    axes.set_ylabel(_labelled(measured, name), parse_math=False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(groups) > 1:
        legend = axes.figure.legend(
            axes.collections, [_label(each) for each in groups], loc="outside upper left", ncols=3, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _across(measured: Measurements, groups: Sequence[Group]) -> tuple[list[float | None], str, list[Group]]:
    """Give what a scatter is drawn over, by row, its label, and the groups that are left to tell apart."""
    names = list(groups[0].levels) if groups else []
    for name in names:
        levels = measured.levels(name).values()
        if name in measured.factors.values() and all(_is_measure(level) for level in levels):
            rest = [each for each in names if each != name] or [AGENT]
            return [number_of(row.keys.get(name)) for row in measured.rows], name, measured.groups(rest)
    for name, word in _STEPS:
        values = [number_of(value) if row.succeeded else None for row, value in _raw(measured, name)]
        if any(values):
            return values, _labelled(measured, name, word), list(groups)
    return [None for _ in measured.rows], "cost", list(groups)


def _raw(measured: Measurements, name: str) -> list[tuple[Any, object]]:
    return list(zip(measured.rows, measured.raw(name), strict=True))


def _is_measure(level: object) -> bool:
    return isinstance(level, int | float) and not isinstance(level, bool)


def _summary(
    measured: Measurements, groups: Sequence[Group], name: str, confidence: float
) -> list[Mapping[str, Any]]:  # fmt: skip
    return [*summary_rows(measured, list(groups[0].levels) if groups else [AGENT], [name], confidence)]


def _values(group: Group, numbers: Sequence[float | None]) -> list[float]:
    return [number for place in group.places if (number := numbers[place]) is not None]


def _by_problem(measured: Measurements, group: Group, numbers: Sequence[float | None]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for place in group.places:
        if (number := numbers[place]) is not None:
            found[measured.rows[place].spec.problem_id].append(number)
    return found


def _spread(index: int) -> float:
    """Give a height for a point that hardly any other near it has, always the same."""
    return ((index + 1) * _GOLDEN % 1 - 0.5) * 0.5


def _reach(value: float, bound: float) -> float:
    """Give how far a bound is from a value; nan for one that is not known, which draws nothing."""
    return abs(bound - value)


def _look(groups: Sequence[Group], group: Group) -> tuple[str, str]:
    """Give the colour and the marker of a group: those of its agent, or of whatever it is grouped by first."""
    firsts = list(dict.fromkeys(str(next(iter(each.levels.values()), "")) for each in groups))
    place = firsts.index(str(next(iter(group.levels.values()), "")))
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _ticks(put: Callable[..., Any], groups: Sequence[Group], **more: Any) -> None:  # noqa: ANN401 - properties of text
    put(range(len(groups)), labels=[_label(each) for each in groups], parse_math=False, **more)


def _label(group: Group) -> str:
    """Name a group: the agent as it is, all else with what it is a level of."""
    several = list(group.levels.items())
    said = [str(level) if name == AGENT else f"{name} = {cell(level)}" for name, level in several]
    return _clean(", ".join(said))


def _labelled(measured: Measurements, name: str, word: str | None = None) -> str:
    unit = measured.unit(name)
    return _clean(f"{word or name} [{unit}]" if unit else word or name)


def _clean(text: str) -> str:
    """Give a text that fits a label and any file."""
    plain = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
