"""The `flock` command, and `python -m flock`."""

import sys
from collections.abc import Callable

command: Callable[[], None] | None
try:
    from flock.cli.command import main as command
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in {"rich", "typer"}:
        raise
    command = None


def main() -> None:
    """Run the command, or say what it needs."""
    if command is None:
        sys.exit('the flock command needs the "cli" extra: pip install "flock-board[cli]"')
    command()


if __name__ == "__main__":
    main()
