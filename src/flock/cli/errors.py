"""What the command says when it can't do what was asked, and its exit status then."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from flock.model.errors import FlockError

USAGE, INTERRUPTED = 2, 130


class UsageError(Exception):
    """Raised when the command line, or what it names, has to be changed; the message says how."""


@contextmanager
def complaints() -> Generator[None]:
    """Say in plain words what has to be changed, and exit with 2."""
    try:
        yield
    except (UsageError, FlockError) as error:
        sys.stderr.write(f"flock: {error}\n")
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
