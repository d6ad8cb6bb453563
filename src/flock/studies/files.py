"""Files that are never torn: written beside their place and moved there."""

from __future__ import annotations

from pathlib import Path


def replace_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8 as `replace_bytes` does."""
    return replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> Path:
    """Write a file so that whoever reads it finds all of the old content or all of the new one, after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def part_of(path: Path) -> Path:
    """Give where to write what becomes a file once it is whole."""
    return path.with_name(f".{path.name}.part")
