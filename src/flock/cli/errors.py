"""What the command says when it can't do what was asked, and its exit status then."""

import os
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


@contextmanager
def answering() -> Generator[None]:
    """Complain as above, and exit quietly with 0 when whoever reads standard output has enough."""
    with complaints():
        try:
            yield
            sys.stdout.flush()
        except BrokenPipeError:
            _stop_printing()
            raise typer.Exit from None


def _stop_printing() -> None:
    """Lead standard output nowhere, so that what is left of it disturbs nobody at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
