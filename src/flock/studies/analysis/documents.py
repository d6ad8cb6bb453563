"""Documents of headings, texts, lists, tables and figures, as Markdown and as HTML that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias
from urllib.parse import quote

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~&$!^])")
_LEADING: Final = re.compile(r"^(\d*)([-+=:.)])")
_LINK: Final = re.compile(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])")
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; } p, li { max-width: 46rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.7rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; } .number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { font-size: 0.9rem; color: #444; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } .wide { overflow: visible; } }
""".strip()
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, slots=True)
class Heading:
    """A section begins."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """Texts in a list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows; `numbers` names the columns that are set to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, as an SVG element, and what it shows."""

    svg: str
    caption: str


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Figure


def markdown(title: str, blocks: Sequence[Block], picture: str | None = None) -> str:
    """Give a document as Markdown whose figures are the file `picture`; left out without one."""
    parts = [f"# {_marked(title)}"]
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"## {_marked(block.text)}")
            case Paragraph():
                parts.append(_begun(block.text))
            case Bullets():
                parts.append("\n".join(f"- {_begun(each)}" for each in block.items))
            case Table():
                parts.append(_marked_table(block))
            case Figure():
                if picture is not None:
                    parts.append(f"![{_marked(block.caption)}]({quote(picture)})")
    return "\n\n".join(each for each in parts if each) + "\n"


def html(title: str, blocks: Sequence[Block]) -> str:
    """Give a document as one HTML page, which a browser can't make load anything."""
    body = "\n".join(_element(block) for block in blocks)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escaped(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{_escaped(title)}</h1>
{body}
</body>
</html>
"""


def plain(text: str) -> str:
    """Give a text on one line, without what files can't hold."""
    return "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.split()))


def _element(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{_escaped(block.text)}</h2>"
        case Paragraph():
            return f"<p>{_escaped(block.text)}</p>"
        case Bullets():
            return "\n".join(["<ul>", *(f"<li>{_escaped(each)}</li>" for each in block.items), "</ul>"])
        case Table():
            return _table(block)
        case Figure():
            return f"<figure>\n{block.svg.strip()}\n<figcaption>{_escaped(block.caption)}</figcaption>\n</figure>"


def _table(table: Table) -> str:
    kinds = [' class="number"' if name in table.numbers else "" for name in table.columns]
    heads = [f'<th scope="col"{kind}>{_escaped(name)}</th>' for name, kind in zip(table.columns, kinds, strict=True)]
    rows = [
        "<tr>" + "".join(f"<td{kind}>{_escaped(each)}</td>" for each, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in table.rows
    ]
    lines = [
        '<div class="wide"><table>',
        f"<caption>{_escaped(table.caption)}</caption>",
        f"<thead><tr>{''.join(heads)}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table></div>",
    ]
    return "\n".join(lines)


def _marked_table(table: Table) -> str:
    rules = ["---:" if name in table.numbers else "---" for name in table.columns]
    lines = [[_marked(each) for each in table.columns], rules, *([_marked(each) for each in row] for row in table.rows)]
    return "\n".join([f"{_begun(table.caption)}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _marked(text: str) -> str:
    """Give a text that Markdown shows as it is, within a line."""
    return _LINK.sub(r"\1\\", _SPECIAL.sub(r"\\\1", plain(text)))


def _begun(text: str) -> str:
    """Give a text that Markdown shows as it is at the begin of a line, where it could be taken for a list."""
    return _LEADING.sub(r"\1\\\2", _marked(text))


def _escaped(text: str) -> str:
    return escape(plain(text))
