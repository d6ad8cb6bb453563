"""`flock study`: plans, runs, resumes and reports the experiment that a target declares."""

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, NoReturn, TextIO, cast

import typer
from rich.console import Console

from flock.cli import experiment, listing, standing
from flock.cli.errors import INTERRUPTED, USAGE, UsageError, answering
from flock.cli.streams import own_stdout, show_log
from flock.cli.target import load_study
from flock.model.errors import FlockError
from flock.studies.crew import Isolation
from flock.studies.record import reading
from flock.studies.results import StudyResults
from flock.studies.running import OnChange, StudyChangedError
from flock.studies.runs import RunSpec
from flock.studies.study import RunOptions, Study

_MOST: Final = 5  # kinds of errors shown
_FORMATS: Final = ("csv", "jsonl", "sqlite", "parquet")
_REPORTS: Final = (".html", ".md")
_EPILOG: Final = (
    "Exit status: 0 when all runs have succeeded, 1 when one failed or was skipped, 2 when the command or the study "
    "has to be changed, 130 after Ctrl-C."
)
_TARGET: Final = (
    "file.py, package.module, or one of these with :attribute: a Study or a function that returns one (study, if not "
    "given); or a study as .yaml or .json"
)

app = typer.Typer(
    name="study",
    help="Plan, run, resume and report experiments over agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Target = Annotated[str, typer.Argument(help=_TARGET)]
Bind = Annotated[
    str | None,
    typer.Option(
        metavar="TARGET", help="A module or file whose agents, problems and evaluators the study's names stand for."
    ),
]
OutputDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where its record and files are, not as declared.")]
Parallel = Annotated[int | None, typer.Option(min=1, metavar="N", help="So many runs at a time.")]
Where = Annotated[str, typer.Option("--isolation", metavar="task|thread|process", help="Where runs go on.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="A run that takes longer fails.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Begin no more runs after one has failed.")]
Changed = Annotated[
    str, typer.Option("--on-change", metavar="raise|rerun|reuse", help="What becomes of results of other agents.")
]
NoRetry = Annotated[bool, typer.Option("--no-retry-failed", help="Leave alone what has failed.")]
Sqlite = Annotated[bool, typer.Option("--sqlite", help="Write study.sqlite, too.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


class _Source(NamedTuple):
    """Which study is meant, as the command line names it."""

    target: str
    bind: str | None = None
    output_dir: Path | None = None

    def study(self) -> Study:
        found = load_study(self.target, self.bind)
        return found if self.output_dir is None else replace(found, output_dir=self.output_dir)

    def resuming(self) -> str:
        """Give the command that goes on with it."""
        bind = () if self.bind is None else ("--bind", self.bind)
        folder = () if self.output_dir is None else ("--output-dir", str(self.output_dir))
        return shlex.join(("flock", "study", "resume", self.target, *bind, *folder))


# ---- commands


@app.command("plan")
@answering()
def _plan(target: Target, *, bind: Bind = None, output_dir: OutputDir = None, as_json: Json = False) -> None:
    """Say what would run, in which order and at which cost, and what stands in the way.

    Exit status: 0, or 2 when the study can't run.
    """
    with own_stdout() if as_json else nullcontext() as out:
        plan = _Source(target, bind, output_dir).study().plan()
        if out is not None:
            _write(out, {"target": target} | experiment.plan_data(plan))
        elif plan.errors:
            raise UsageError(str(plan))
        else:
            listing.lines(listing.console(), str(plan).splitlines())
    raise typer.Exit(USAGE if plan.errors else 0)


@app.command("run", epilog=_EPILOG)
@answering()
def _run(
    target: Target,
    *,
    parallel: Parallel = None,
    isolation: Where = "task",
    timeout: Timeout = None,
    fail_fast: FailFast = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all anew; what was before does not count.")] = False,
    on_change: Changed = "raise",
    no_retry_failed: NoRetry = False,
    bind: Bind = None,
    output_dir: OutputDir = None,
    sqlite: Sqlite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run what is left to do: all but what has succeeded before. Each result is kept at once."""
    options = RunOptions(
        parallel=parallel, resume=not fresh, retry_failed=not no_retry_failed, fail_fast=fail_fast or None,
        isolation=cast("Isolation", isolation), timeout=timeout, on_change=cast("OnChange", on_change),
        progress=False if quiet or as_json else None, include_sqlite=sqlite,
    )  # fmt: skip
    _carry_out(_Source(target, bind, output_dir), options, as_json=as_json)


@app.command("resume", epilog=_EPILOG)
@answering()
def _resume(
    target: Target,
    *,
    parallel: Parallel = None,
    isolation: Where = "task",
    timeout: Timeout = None,
    fail_fast: FailFast = False,
    on_change: Changed = "raise",
    no_retry_failed: NoRetry = False,
    bind: Bind = None,
    output_dir: OutputDir = None,
    sqlite: Sqlite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a study that has run before; without a record of one, that is an error."""
    options = RunOptions(
        parallel=parallel, resume=True, retry_failed=not no_retry_failed, fail_fast=fail_fast or None,
        isolation=cast("Isolation", isolation), timeout=timeout, on_change=cast("OnChange", on_change),
        progress=False if quiet or as_json else None, include_sqlite=sqlite,
    )  # fmt: skip
    _carry_out(_Source(target, bind, output_dir), options, as_json=as_json, begun=True)


@app.command("status")
@answering()
def _status(
    target: Annotated[str, typer.Argument(metavar="TARGET|DIR", help=f"{_TARGET}; or a study's output directory.")],
    *,
    bind: Bind = None,
    output_dir: OutputDir = None,
    as_json: Json = False,
) -> None:
    """Say where a study stands, from its record, also while another process runs it."""
    with own_stdout() if as_json else nullcontext() as out:
        folder, specs = Path(target), dict[str, RunSpec]()
        known = folder.is_dir() and not (folder / "__init__.py").exists()
        if not known:
            study = _Source(target, bind, output_dir).study()
            folder, specs = study.directory, _specs(study)
        found = standing.look(folder, specs or None)
        if out is not None:
            _write(out, {"target": target} | standing.to_data(found))
        else:
            standing.show(listing.console(), found, specs)


@app.command("report")
@answering()
def _report(
    target: Target,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A file .html or .md, not standard output.")] = None,
    on_change: Changed = "raise",
    bind: Bind = None,
    output_dir: OutputDir = None,
) -> None:
    """Write the report of what has run."""
    if out is not None and out.suffix not in _REPORTS:
        raise UsageError(f"--out takes a file that ends in {' or '.join(_REPORTS)}, not {out}")
    with own_stdout() as mine:
        results = _read(_Source(target, bind, output_dir).study(), on_change)
        if out is None:
            mine.write(results.report().rstrip("\n") + "\n")
            return
        with _writing(out):
            results.report(out)
    sys.stderr.write(f"the report is in {out}\n")


@app.command("export")
@answering()
def _export(
    target: Target,
    *,
    form: Annotated[
        str, typer.Option("--format", metavar=",".join(_FORMATS), help="How to write them; several with commas.")
    ] = "csv",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to, not the study's directory.")] = None,
    on_change: Changed = "raise",
    bind: Bind = None,
    output_dir: OutputDir = None,
) -> None:
    """Write the tables of what has run, and print the paths."""
    formats = tuple(dict.fromkeys(each.strip() for each in form.split(",")))
    unknown = [each for each in formats if each not in _FORMATS]
    if unknown:
        raise UsageError(f"--format takes {', '.join(_FORMATS)}, not {unknown[0]!r}")
    with own_stdout() as mine:
        study = _Source(target, bind, output_dir).study()
        with _writing(out or study.directory):
            paths = _read(study, on_change).export(formats, folder=out)
        mine.writelines(f"{path}\n" for path in paths.values())


def _read(study: Study, on_change: str) -> StudyResults:
    try:
        return study.results(on_change=cast("OnChange", on_change))
    except StudyChangedError as error:
        raise UsageError(f"{error}\n(here: --on-change reuse, or --on-change rerun to leave them out)") from error


# ---- a run


def _carry_out(source: _Source, options: RunOptions, *, as_json: bool, begun: bool = False) -> NoReturn:
    """Run a study, say how that went, and exit."""
    with own_stdout() if as_json else nullcontext() as out:
        study = source.study()
        if begun:
            with reading(study.directory):
                pass
        show_log(Console(stderr=True))
        try:
            with _terminable():
                results = study.run(**options)
        except StudyChangedError as error:
            raise UsageError(f"{error}\n(here: --on-change rerun, --on-change reuse, or `run --fresh`)") from error
        except KeyboardInterrupt:
            _tell_interrupted(source, study, out)
            _leave_what_is_stuck()
            raise
        if out is not None:
            _write(out, {"target": source.target} | experiment.results_data(results))
        else:
            experiment.show_results(listing.console(), results)
    raise typer.Exit(experiment.status_of(results))


@contextmanager
def _terminable() -> Generator[None]:
    """Take SIGTERM for Ctrl-C, so that it, too, leaves files behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell_interrupted(source: _Source, study: Study, out: TextIO | None) -> None:
    try:
        found = standing.look(study.directory, _specs(study))
    except FlockError:  # it had not begun
        return
    if out is not None:
        data = {"end": "interrupted", "exit_status": INTERRUPTED, "resume": source.resuming()}
        _write(out, {"target": source.target} | data | standing.to_data(found))
        return
    console = listing.console()
    experiment.heading(console, f"interrupted: {found.ended} of {found.planned} runs have ended", "bold yellow")
    listing.lines(console, [f"files: {study.directory}", f"to go on: {source.resuming()}"])


def _leave_what_is_stuck() -> None:
    """End the process although a body that nobody can stop still runs in a thread, which can keep it alive."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def _specs(study: Study) -> dict[str, RunSpec]:
    return {each.run_id: each for each in study.plan().runs}


def _write(out: TextIO, data: Mapping[str, Any]) -> None:
    out.write(json.dumps(data) + "\n")
    out.flush()


@contextmanager
def _writing(path: Path) -> Generator[None]:
    """Say what can't be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
