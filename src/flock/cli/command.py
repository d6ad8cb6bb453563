"""The command line: `flock run`, `flock check`, `flock graph`, `flock board` and `flock study`."""

import asyncio
import json
import os
import sys
from contextlib import nullcontext, suppress
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, NoReturn, TextIO

import typer
from rich.console import Console
from rich.text import Text

from flock.app import Flock
from flock.cli import board, inputs, progress, report, session, study
from flock.cli.errors import INTERRUPTED, UsageError, complaints
from flock.cli.streams import own_stdout, show_log
from flock.cli.target import load
from flock.topology import Finding

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_EPILOG = (
    "Exit status: 0 when the run is idle and nothing failed, 1 when something failed, 2 when the command or the target "
    "has to be changed, 3 when the time was over before the run was idle, 130 after Ctrl-C."
)


class Format(StrEnum):
    """How a graph is written."""

    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


Target = Annotated[
    str,
    typer.Argument(
        help="file.py, package.module, or one of these with :attribute: a Flock or a function that returns one "
        "(flock, if not given)"
    ),
]

app = typer.Typer(
    name="flock",
    help="Run, check and draw agents that work together over a shared board.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(board.app)
app.add_typer(study.app)


def main() -> None:
    """Run the command that the arguments name."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # whatever payloads hold, an old terminal shows something
    app(prog_name="flock")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - how typer calls back
    if wanted:
        try:
            found = version("flock-board")
        except PackageNotFoundError:
            found = "of a source tree that is not installed"
        typer.echo(f"flock {found}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run, check and draw agents that work together over a shared board."""


@app.command(epilog=_EPILOG)
def run(
    target: Target,
    *,
    publish: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON|@FILE|-", help="An object with a 'type', or a list of them; may be repeated."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep the board there, not where declared, and go on with what is on it."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop waiting after so long.")] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Fire partial batches once nothing else is left to do.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON report and nothing else.")] = False,
) -> None:
    """Publish objects, wait until no work is left, and say how it went.

    With nothing to publish and agents that have schedules it goes on until the last of these has fired, the timeout
    or Ctrl-C.
    """
    with complaints():
        if timeout is not None and not timeout >= 0:
            raise UsageError(f"--timeout takes seconds of zero or more, not {timeout}")
        objects = inputs.read(publish or ())
        request = session.Request(objects=objects, timeout=timeout, drain=drain)
        with own_stdout() if as_json else nullcontext() as out:
            flock = load(target)
            if store is not None:
                flock.use_store(store)
            outcome = _played(flock, request)
            _tell(target, outcome, out)
            if outcome.stuck:
                _leave(report.status_of(outcome))
    raise typer.Exit(report.status_of(outcome))


def _played(flock: Flock, request: session.Request) -> session.Outcome:
    """Run the session on a loop of its own, with progress where a terminal shows it."""
    console = Console(stderr=True)
    show_log(console)
    shown = progress.shown(flock, console, prints=sys.stdout.isatty()) if console.is_terminal else session.silence()

    def at_once() -> NoReturn:
        with suppress(RuntimeError):  # a signal came in the middle of a write to the same stream
            console.show_cursor()
            console.print("stopped at once", style="yellow")
        _leave(INTERRUPTED)

    runner = asyncio.Runner()
    try:
        outcome = runner.run(session.run(flock, request, shown, at_once))
    except KeyboardInterrupt:
        at_once()
    except BaseException:
        runner.close()
        raise
    if not outcome.stuck:
        runner.close()
    return outcome


def _tell(target: str, outcome: session.Outcome, out: TextIO | None) -> None:
    if out is not None:
        out.write(report.to_json(target, outcome) + "\n")
        out.flush()
        return
    report.show(Console(), outcome)
    sys.stdout.flush()


def _leave(status: int) -> NoReturn:
    """End the process although a body of an agent still runs, which would keep the loop from closing."""
    with suppress(RuntimeError):  # a signal came in the middle of a write to the same stream
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


@app.command()
def check(
    target: Target, *, as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False
) -> None:
    """Say what can't work, what is probably a mistake, and where the flow begins and ends.

    Exit status: 0 unless something can't work (1).
    """
    with complaints(), own_stdout() if as_json else nullcontext() as out:
        findings = load(target).check()
        if out is None:
            _list(findings)
        else:
            out.write(json.dumps({"target": target, "findings": [each.to_dict() for each in findings]}) + "\n")
    raise typer.Exit(1 if any(each.level == "error" for each in findings) else 0)


def _list(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        console.print(Text.assemble((finding.level, _STYLES[finding.level]), f": {finding.message}"), soft_wrap=True)
    counts = {level: sum(each.level == level for each in findings) for level in _STYLES}
    console.print(f"{counts['error']} errors, {counts['warning']} warnings, {counts['info']} remarks", highlight=False)


@app.command()
def graph(
    target: Target,
    *,
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.MERMAID,
) -> None:
    """Draw how agents and types hang together."""
    with complaints(), own_stdout() as out:
        drawn = load(target).graph()
        match form:
            case Format.MERMAID:
                out.write(drawn.mermaid())
            case Format.DOT:
                out.write(drawn.dot())
            case Format.JSON:
                out.write(drawn.json() + "\n")


__all__ = ["app", "main"]
