"""Files that are never torn: written beside their place and moved there."""

from __future__ import annotations

from pathlib import Path


def replace_text(path: Path, text: str) -> Path:
    """Write a file so that whoever reads it finds all of the old text or all of the new one, after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_text(text, "utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def part_of(path: Path) -> Path:
    """Give where to write what becomes a file once it is whole."""
    return path.with_name(f".{path.name}.part")
