"""The pictures of a report as inline SVG: a ring, a map of the tree and bars."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from math import pi
from typing import NamedTuple

from .model import CATEGORIES, SEVERITIES, FileReview, PackageReview, Summary
from .scoring import health

WIDTH = 1000.0
HEIGHT = 420.0
MIDDLE = 70


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def shrunk(self, by: float) -> "Box":
        """Give the same rectangle with a margin inside."""
        return Box(self.x + by, self.y + by, max(self.width - 2 * by, 0), max(self.height - 2 * by, 0))


def divide(sizes: Sequence[float], box: Box) -> list[Box]:
    """Cuts a box into boxes with areas in proportion to `sizes`, in their order, by halves along the longer side."""
    if len(sizes) <= 1:
        return [box] * len(sizes)
    total = sum(sizes)
    cut = _half(sizes)
    share = sum(sizes[:cut]) / total
    if box.width >= box.height:
        first = Box(box.x, box.y, box.width * share, box.height)
        rest = Box(box.x + first.width, box.y, box.width - first.width, box.height)
    else:
        first = Box(box.x, box.y, box.width, box.height * share)
        rest = Box(box.x, box.y + first.height, box.width, box.height - first.height)
    return [*divide(sizes[:cut], first), *divide(sizes[cut:], rest)]


def ring(summary: Summary) -> str:
    """Give the health as an arc with its grade inside."""
    round_trip = 2 * pi * 52
    return (
        f'<svg class="ring" viewBox="0 0 120 120" role="img" aria-label="health {summary.health} of 100">'
        '<circle cx="60" cy="60" r="52" class="track"/>'
        f'<circle cx="60" cy="60" r="52" class="arc" style="{_tone(summary.health, "stroke")}" '
        f'stroke-dasharray="{round_trip * summary.health / 100:.1f} {round_trip:.1f}" transform="rotate(-90 60 60)"/>'
        f'<text x="60" y="66" class="grade">{summary.grade}</text>'
        f'<text x="60" y="88" class="score">{summary.health} / 100</text></svg>'
    )


def tree_map(packages: Sequence[PackageReview]) -> str:
    """Every file as a box: its area shows its lines, its colour its health; a click leads to its findings."""
    ordered = sorted(packages, key=lambda package: (-_lines(package.files), package.name))
    boxes = divide([_lines(package.files) for package in ordered], Box(0, 0, WIDTH, HEIGHT))
    cells = "".join(_package_cells(package, box) for package, box in zip(ordered, boxes, strict=True))
    label = "map of the files by size and health"
    return f'<svg class="map" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{label}">{cells}</svg>'


def category_bars(packages: Sequence[PackageReview]) -> str:
    """How many findings there are of each category, by severity."""
    count = Counter(
        (finding.category, finding.severity)
        for package in packages
        for file in package.files
        for finding in file.findings
    )
    totals = {category: sum(count[category, severity] for severity in SEVERITIES) for category in CATEGORIES}
    scale = 640 / max(*totals.values(), 1)
    rows: list[str] = []
    for row, category in enumerate(CATEGORIES):
        x, y = 130.0, row * 34 + 4
        rows.append(f'<text x="118" y="{y + 17}" class="name">{category}</text>')
        for severity in SEVERITIES:
            width = count[category, severity] * scale
            if width:
                title = f"{count[category, severity]} {severity}"
                rows.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" class="{severity}">'
                    f"<title>{title}</title></rect>"
                )
            x += width
        rows.append(f'<text x="{x + 10:.1f}" y="{y + 17}" class="total">{totals[category]}</text>')
    height = len(CATEGORIES) * 34
    return f'<svg class="bars" viewBox="0 0 820 {height}" role="img" aria-label="findings">{"".join(rows)}</svg>'


def anchor(file: FileReview) -> str:
    """Give the id of a file on the page."""
    return "file-" + "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in file.path)


def _tone(score: int, what: str) -> str:
    """Rust up to 40, sand at 70, teal at 100: colour-blind readers see the difference too."""
    if score < MIDDLE:
        return f"{what}:color-mix(in oklab,var(--mid) {max(score - 40, 0) / 0.3:.0f}%,var(--bad))"
    return f"{what}:color-mix(in oklab,var(--good) {(score - MIDDLE) / 0.3:.0f}%,var(--mid))"


def _half(sizes: Sequence[float]) -> int:
    total, so_far = sum(sizes), 0.0
    for index, size in enumerate(sizes):
        so_far += size
        if so_far >= total / 2:
            return max(1, min(index + 1, len(sizes) - 1))
    return len(sizes) - 1


def _lines(files: Sequence[FileReview]) -> float:
    # A file without lines still deserves a place where one can point at it.
    return float(sum(max(file.lines, 5) for file in files))


def _package_cells(package: PackageReview, box: Box) -> str:
    inner = box.shrunk(2)
    head = 18.0 if inner.width > 70 and inner.height > 60 else 0.0  # noqa: PLR2004
    title = ""
    if head:
        text = _clipped(package.name, inner.width / 7)
        title = f'<text x="{inner.x + 3:.1f}" y="{inner.y + 13:.1f}" class="package">{escape(text)}</text>'
    files = sorted(package.files, key=lambda file: (-file.lines, file.path))
    area = Box(inner.x, inner.y + head, inner.width, inner.height - head)
    boxes = divide([_lines([file]) for file in files], area)
    return title + "".join(_cell(file, one.shrunk(0.75)) for file, one in zip(files, boxes, strict=True))


def _cell(file: FileReview, box: Box) -> str:
    score = health([file])
    title = escape(f"{file.path}: {file.lines:,} lines, {len(file.findings)} findings, health {score}")
    label = ""
    if box.width > 46 and box.height > 18:  # noqa: PLR2004
        name = _clipped(file.path.rpartition("/")[2], (box.width - 8) / 6.2)
        label = f'<text x="{box.x + 5:.1f}" y="{box.y + 14:.1f}" class="label">{escape(name)}</text>'
    return (
        f'<a href="#{anchor(file)}"><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="2" style="{_tone(score, "fill")}"><title>{title}</title></rect>{label}</a>'
    )


def _clipped(text: str, most: float) -> str:
    return text if len(text) <= most else text[: max(int(most) - 1, 1)] + "…"
