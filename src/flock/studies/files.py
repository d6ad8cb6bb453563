"""Files that are never torn: written beside their place and moved there; and files that lock."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

if sys.platform != "win32":
    import fcntl


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


def take_lock(file: BinaryIO) -> bool:
    """Lock an open file for as long as it is open; False while another has it.

    It is a lock of this opening, which reading the file elsewhere in the process does not undo, as POSIX locks are.
    """
    try:
        if sys.platform == "win32":
            msvcrt: Any = import_module("msvcrt")
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
