"""The statements of the store, read from their `.sql` file."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

_FOLDER: Final = resources.files("flock.stores.sqlite") / "sql"
_BLOCK: Final = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.DOTALL | re.MULTILINE)

SQL: Final = {name: text.strip() for name, text in _BLOCK.findall((_FOLDER / "queries.sql").read_text("utf-8"))}
"""Text by name."""


def migrations() -> list[tuple[int, str]]:
    """Give the numbered steps from an empty file to the present schema."""
    scripts = sorted((each for each in _FOLDER.iterdir() if each.name[0].isdigit()), key=lambda each: each.name)
    return [(int(each.name.partition("_")[0]), each.read_text("utf-8")) for each in scripts]
