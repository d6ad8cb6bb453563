"""Standard output for the command's own words, and where Flock's log goes."""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.logging import RichHandler

_STDOUT, _STDERR = 1, 2


@contextmanager
def own_stdout() -> Generator[TextIO]:
    """Give standard output, and lead what anybody else prints meanwhile, child processes too, to standard error."""
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="backslashreplace") as mine:
            yield mine
    finally:
        sys.stdout.flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def show_log(console: Console) -> None:
    """Print Flock's warnings and errors, unless the target has set up logging itself."""
    logger = logging.getLogger("flock")
    if logger.handlers or logging.getLogger().handlers:
        return
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_time=False, show_path=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
