"""Designs that are written down: rows in memory or in a file, matched to factors and blocks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from flock.studies.design.factors import Block, Factor, stable_value, value_key
from flock.studies.design.layouts import Assignment, Row
from flock.studies.design.reading import mapping_of
from flock.studies.stable import ValidationError, to_jsonable

_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?)")
_TEXT = frozenset({"str", "string", "text"})  # types whose cells stay as they are


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they were written; in a file of `text` every cell is text."""

    rows: Sequence[Mapping[str, Any]]
    place: str = "the matrix"
    text: bool = False


def read_table(path: Path) -> Table:
    """Read a .csv or .json file; raises ValidationError for one that is no table."""
    try:
        match path.suffix.lower():
            case ".csv":
                return Table(_read_csv(path), str(path), text=True)
            case ".json":
                return Table(_read_json(path), str(path))
            case _:
                raise ValidationError(f"{path} is neither .csv nor .json")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValidationError(f"{path} can't be read: {error}") from error


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = [each.strip() for each in next(reader, list[str]())]
        if len(set(header)) != len(header):
            raise ValidationError(f"{path} names a column twice: {', '.join(header)}")
        lines = [line for line in reader if line]
    for number, line in enumerate(lines, 1):
        if len(line) > len(header):
            raise ValidationError(f"{path}, row {number}: there are {len(line)} cells for {len(header)} columns")
    return [dict(zip(header, line, strict=False)) for line in lines]


def _read_json(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not _is_list(rows):
        raise ValidationError(f"{path} holds no list of rows")
    return [mapping_of(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def _is_list(rows: object) -> TypeGuard[list[object]]:
    return isinstance(rows, list)


def rows_of(table: Table, factors: Sequence[Factor], blocks: Sequence[Block]) -> list[Row]:
    """Give a design's rows; raises ValidationError that names row (from 1) and column of what does not fit."""
    if not table.rows:
        raise ValidationError(f"{table.place} has no rows")
    return [_row(table, index, factors, blocks) for index in range(len(table.rows))]


def _row(table: Table, index: int, factors: Sequence[Factor], blocks: Sequence[Block]) -> Row:
    cells, place = table.rows[index], f"{table.place}, row {index + 1}"
    parts: list[Factor | Block] = [*factors, *blocks]
    names = [each.name for each in parts]
    if unknown := next((str(name) for name in cells if name not in names), None):
        raise ValidationError(f"{place}, column {unknown!r}: no factor or block has this name: {', '.join(names)}")
    given: Assignment = {}
    for part in parts:
        at = f"{place}, column {part.name!r}"
        if levels := _levels(part):
            if part.name not in cells:
                raise ValidationError(f"{at} is missing: {', '.join(name for name, _ in levels)}")
            given[part.name] = _level(cells[part.name], levels, at, text=table.text)
        elif isinstance(part, Factor):
            given[part.name] = _free(cells.get(part.name), part, at, text=table.text)
    assigned = {each.name: given[each.name] for each in factors}
    return Row(assigned, {each.name: given[each.name] for each in blocks}, {"matrix_row": index})


def _levels(part: Factor | Block) -> list[tuple[str, Any]]:
    if isinstance(part, Factor):
        return [(each.name, each.value) for each in part.levels]
    return [(str(each), each) for each in part.levels]


def _level(cell: object, levels: Sequence[tuple[str, Any]], place: str, *, text: bool) -> object:
    """Give the value that a cell stands for: one that equals it, or else one of a level with that name."""
    keys = _keys(cell) if text and isinstance(cell, str) else {value_key(cell)}
    for _, value in levels:
        if value_key(value) in keys or (text and _written(value) == cell):
            return value
    for name, value in levels:
        if isinstance(cell, str) and name in {cell, cell.strip()}:
            return value
    raise ValidationError(f"{place} is {cell!r}, which is no level: {', '.join(name for name, _ in levels)}")


def _written(value: object) -> str:
    return str(to_jsonable(value))


def _keys(cell: str) -> set[str]:
    """Give the keys of the values that a text may mean: itself, a number, or true and false."""
    trimmed = cell.strip()
    words = {"true": True, "false": False}.get(trimmed.lower())
    return {value_key(each) for each in (cell, trimmed, _number(trimmed), words) if each is not None}


def _free(cell: object, factor: Factor, place: str, *, text: bool) -> object:
    """Give what a factor without levels gets: the cell, as a number if that is what its text looks like."""
    if cell is None or (text and cell == ""):
        return factor.default
    if text and isinstance(cell, str) and factor.dtype not in _TEXT:
        number = _number(cell.strip())
        return cell if number is None else number
    return stable_value(cell, place)


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("+-").isdigit() else float(text)
