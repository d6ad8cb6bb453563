"""`flock board`: looks at a board that is kept, and after it. The program that wrote it is not needed."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, TextIO

import typer

from flock.board.ports import Pruned, Retention, StoreInfo
from flock.cli import listing
from flock.cli.errors import UsageError, answering
from flock.cli.kept import Choice, Kept, changed, looked, time_of
from flock.model.artifact import Artifact
from flock.model.context import Lineage, Why
from flock.model.events import RunStatus
from flock.model.ledger import Activation

app = typer.Typer(name="board", no_args_is_help=True, pretty_exceptions_enable=False)

_NAMES = ("list", "show", "lineage", "why", "runs", "failures", "retry", "export", "info", "prune")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="An artifact's id, or its position on the board.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type; may be repeated.")]
Run = Annotated[str | None, typer.Option(help="Only this run.")]
Agent = Annotated[str | None, typer.Option(help='Only what this agent made, or "external".')]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag; may be repeated.")]
Since = Annotated[int, typer.Option(metavar="POSITION", min=0, help="Only what came after this position.")]


@app.callback(invoke_without_command=True)
@answering()
def _board(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the board is kept, as in sqlite:///board.db")],
) -> None:
    """Look at a board that is kept, and after it.

    Looking disturbs no flock that works on the board, and does not need its program.
    """
    context.obj = url
    if context.invoked_subcommand is None:
        raise UsageError(f"say what to do with the board, after its URL: {', '.join(_NAMES)}")


@app.command("--help", hidden=True)
def _help(context: typer.Context) -> None:
    """Show the help that stands before the URL after it as well."""
    if context.parent is not None:
        typer.echo(context.parent.get_help())


@app.command("list")
@answering()
def _list(
    context: typer.Context,
    *,
    types: Types = None,
    run: Run = None,
    agent: Agent = None,
    tags: Tags = None,
    since: Since = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List artifacts in board order."""
    choice = Choice(types or (), run, agent, tags or (), since)

    async def read(kept: Kept) -> tuple[Sequence[Artifact], Sequence[str]]:
        query = await kept.query(choice)
        found = [Artifact.of(record) for record in await kept.store.query(query._replace(limit=limit + 1))]
        return found, () if found else await kept.unknown(run, agent)

    found, odd = asyncio.run(looked(context.obj, read))
    shown, after = found[:limit], found[limit - 1].sequence if len(found) > limit else None
    if as_json:
        listing.write({"artifacts": list(map(listing.artifact_data, shown)), "more_since": after})
        return
    listing.artifacts(listing.console(), shown)
    _note(odd)
    if after is not None:
        sys.stderr.write(f"more: --since {after}, or a higher --limit\n")


@app.command("show")
@answering()
def _show(context: typer.Context, id: Id, *, as_json: Json = False) -> None:
    """Print one artifact whole, and what became of it with each subscription."""

    async def read(kept: Kept) -> listing.Whole:
        found = await kept.find(id)
        return listing.Whole(found, await kept.store.fates(found.id), await kept.store.consumptions(found.id))

    whole = asyncio.run(looked(context.obj, read))
    if as_json:
        listing.write(listing.whole_data(whole))
    else:
        listing.whole(listing.console(), whole)


@app.command("lineage")
@answering()
def _lineage(context: typer.Context, id: Id, *, as_json: Json = False) -> None:
    """Draw what an artifact came from, and what came of it."""

    async def read(kept: Kept) -> Lineage:
        return await kept.reads.lineage(await kept.find(id))

    found = asyncio.run(looked(context.obj, read))
    if as_json:
        ancestors, descendants = (list(map(listing.artifact_data, each)) for each in found[1:])
        whole = {"artifact": listing.artifact_data(found.artifact), "ancestors": ancestors, "descendants": descendants}
        listing.write(whole)
    else:
        listing.lineage(listing.console(), found)


@app.command("why")
@answering()
def _why(context: typer.Context, id: Id, *, as_json: Json = False) -> None:
    """Tell which activations led to an artifact, the last one first."""

    async def read(kept: Kept) -> Sequence[Why]:
        found = await kept.reads.lineage(await kept.find(id))
        return [await kept.reads.why(each) for each in (found.artifact, *reversed(found.ancestors))]

    steps = asyncio.run(looked(context.obj, read))
    if as_json:
        listing.write({"steps": list(map(listing.step_data, steps))})
    else:
        listing.why(listing.console(), steps)


@app.command("runs")
@answering()
def _runs(context: typer.Context, *, as_json: Json = False) -> None:
    """List the runs, oldest first, and where they stand."""

    async def read(kept: Kept) -> Sequence[tuple[str, RunStatus]]:
        return [(name, await kept.run(name)) for name in await kept.store.runs()]

    found = asyncio.run(looked(context.obj, read))
    if as_json:
        listing.write({"runs": [{"run": name} | status._asdict() for name, status in found]})
    else:
        listing.runs(listing.console(), found)


@app.command("failures")
@answering()
def _failures(context: typer.Context, *, run: Run = None, as_json: Json = False) -> None:
    """List the activations that have failed, oldest first; `retry` takes their ids."""

    async def read(kept: Kept) -> tuple[Sequence[Activation], Sequence[str]]:
        return await kept.store.failures(run), await kept.unknown(run)

    found, odd = asyncio.run(looked(context.obj, read))
    if as_json:
        listing.write({"failures": list(map(listing.failure_data, found))})
    else:
        listing.failures(listing.console(), found)
        _note(odd)


@app.command("retry")
@answering()
def _retry(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Failed activations.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that have failed.")] = False,
    as_json: Json = False,
) -> None:
    """Make failed activations ready again, with all their attempts; a flock on this board then runs them."""
    if every == bool(ids):
        raise UsageError("retry takes ids of failed activations, or --all")

    async def check(kept: Kept) -> None:
        failed = {each.id for each in await kept.store.failures()}
        odd = [each for each in ids or () if each not in failed]
        if odd:
            raise UsageError(f"no failed activation is named {' or '.join(odd)}: `failures` lists those that are")

    async def change(kept: Kept) -> Sequence[str]:
        return await kept.store.retry(None if every else ids)

    asyncio.run(looked(context.obj, check))
    again = asyncio.run(changed(context.obj, change))
    if as_json:
        listing.write({"retried": list(again)})
    else:
        listing.lines(listing.console(), [f"ready again: {each}" for each in again] or ["nothing has failed"])


@app.command("export")
@answering()
def _export(
    context: typer.Context,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file, not standard output.")] = None,
    types: Types = None,
    run: Run = None,
    agent: Agent = None,
    tags: Tags = None,
    since: Since = 0,
) -> None:
    """Write artifacts in board order as lines of JSON, as `Artifact.from_json` reads them."""
    choice = Choice(types or (), run, agent, tags or (), since)

    async def copy(kept: Kept, file: TextIO) -> int:
        count = 0
        async with aclosing(kept.pages(await kept.query(choice))) as found:
            async for each in found:
                count += file.write(each.to_json() + "\n") > 0
        return count

    async def export(kept: Kept) -> None:
        if output is None:
            await copy(kept, sys.stdout)
            return
        try:
            with output.open("w", encoding="utf-8") as file:
                count = await copy(kept, file)
        except OSError as error:
            raise UsageError(f"{output} can't be written: {error.strerror}") from error
        sys.stderr.write(f"{count} artifacts in {output}\n")

    asyncio.run(looked(context.obj, export))


@app.command("info")
@answering()
def _info(context: typer.Context, *, as_json: Json = False) -> None:
    """Count what the board holds, and say how large it is."""

    async def read(kept: Kept) -> StoreInfo:
        return await kept.store.info()

    found = asyncio.run(looked(context.obj, read))
    if as_json:
        listing.write(found._asdict())
    else:
        listing.info(listing.console(), found)


@app.command("prune")
@answering()
def _prune(
    context: typer.Context,
    *,
    before: Annotated[
        str | None, typer.Option(metavar="AGE|TIME", help="Made so long ago (90m, 12h, 30d, 2w) or before an ISO time.")
    ] = None,
    keep_runs: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="In finished runs beyond the newest so many.")
    ] = None,
    types: Types = None,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Give the space back as well; alone it removes nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove artifacts for good; each option narrows the choice.

    What waits or runs stays. Of what is gone the lineage can still be read.
    """
    anything = before is not None or keep_runs is not None or bool(types)
    if not anything and not vacuum:
        raise UsageError("prune needs to know what may go: give --before, --keep-runs or --type")
    end = None if before is None else time_of(before)

    async def choose(kept: Kept) -> Retention:
        return Retention(end, keep_runs, await kept.type_names(types or ()))

    chosen = asyncio.run(looked(context.obj, choose))
    if anything and not yes:
        _ask(f"Remove for good what is {listing.retention(chosen)}?")

    async def change(kept: Kept) -> Pruned:
        pruned = await kept.store.prune(chosen) if anything else Pruned(0, 0, 0)
        if vacuum:
            await kept.store.vacuum()
        return pruned

    pruned = asyncio.run(changed(context.obj, change))
    if as_json:
        listing.write(pruned._asdict())
    else:
        counts = [f"{count} {name}" for name, count in pruned._asdict().items()]
        listing.lines(listing.console(), [f"removed: {', '.join(counts)}"])


def _note(texts: Sequence[str]) -> None:
    """Say what may be a mistake, beside what was asked for."""
    sys.stderr.writelines(f"{text}\n" for text in texts)


def _ask(question: str) -> None:
    """Go on only if somebody says so."""
    if not sys.stdin.isatty():
        raise UsageError("prune removes for good, and there is no terminal to ask on: add --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        sys.stderr.write("nothing was removed\n")
        raise typer.Exit(1)
