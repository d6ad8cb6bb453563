"""How `flock board` shows what is on a board: tables and trees to read, or JSON."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from typing_extensions import override

from flock.board.ports import Fate, Retention, StoreInfo
from flock.model.artifact import Artifact
from flock.model.context import Lineage, Why
from flock.model.evaluation import Failure
from flock.model.events import RunStatus
from flock.model.ledger import Activation, Consumption
from flock.model.payload import Unreadable

_WIDTH = 200  # characters of a payload
_WIDEST = 100_000
_GUIDES = "dim"


class Whole(NamedTuple):
    """One artifact, and what became of it."""

    artifact: Artifact
    fates: Sequence[Fate]
    consumptions: Sequence[Consumption]


def write(data: Mapping[str, object]) -> None:
    """Print one JSON document on one line."""
    typer.echo(json.dumps(data))


class _Output(Console):
    """Leaves it to the command what becomes of a pipe that is closed: rich would exit with 1."""

    @override
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles the error


def console() -> Console:
    """Give standard output: as wide as its terminal, and as wide as anything where there is none."""
    found = _Output(highlight=False)
    return found if found.is_terminal else _Output(highlight=False, width=_WIDEST)


def lines(console: Console, texts: Iterable[str]) -> None:
    """Print lines as they are."""
    for text in texts:
        console.print(Text(text), soft_wrap=True)


# ---- as data


def artifact_data(artifact: Artifact) -> dict[str, Any]:
    """Give an artifact as JSON data."""
    data: dict[str, Any] = json.loads(artifact.to_json())
    return data


def whole_data(whole: Whole) -> dict[str, Any]:
    """Give an artifact and what became of it as JSON data."""
    return {
        "artifact": artifact_data(whole.artifact),
        "fates": [each._asdict() for each in whole.fates],
        "consumptions": [each._asdict() for each in whole.consumptions],
    }


def step_data(step: Why) -> dict[str, Any]:
    """Give one step of a chain as JSON data."""
    made_by = None if step.made_by is None else step.made_by._asdict()
    return {
        "artifact": artifact_data(step.artifact), "made_by": made_by, "inputs": [each.id for each in step.inputs]
    }  # fmt: skip


def failure_data(failed: Activation) -> dict[str, Any]:
    """Give a failed activation as JSON data."""
    parts = {key: getattr(failed, key) for key in ("agent", "subscription", "run", "attempt", "error")}
    return {"activation": failed.id, **parts, "inputs": [record.id for record in failed.inputs]}


# ---- to read


def artifacts(console: Console, found: Sequence[Artifact]) -> None:
    """Print a table of artifacts."""
    rows = [
        (str(each.sequence), each.type, each.produced_by, each.correlation_id, _when(each), _payload(each))
        for each in found
    ]
    _table(console, ("#", "type", "by", "run", "made (UTC)", "payload"), rows)


def whole(console: Console, whole: Whole) -> None:
    """Print an artifact with all parts of its envelope, and what became of it."""
    data = artifact_data(whole.artifact)
    payload = data.pop("payload")
    for name, value in data.items():
        if value not in (None, []):
            _print(
                console, Text.assemble((f"{name}: ", "bold"), value if isinstance(value, str) else json.dumps(value))
            )
    _print(console, Text("payload:", style="bold"))
    lines(console, _pretty(whole.artifact, payload))
    taken = {(each.agent, each.activation): each for each in whole.consumptions}
    ends = [f"{each.agent}: input of activation {each.activation}, {each.state}" for each in taken.values()]
    ends += [
        f"{each.subscription}: {each.state}{_at(each.at)}{f': {each.detail}' if each.detail else ''}"
        for each in whole.fates
        if each.state != "consumed"
    ]
    if ends:
        _print(console, Text("what became of it:", style="bold"))
        lines(console, [f"  {each}" for each in ends])


def lineage(console: Console, found: Lineage) -> None:
    """Print two trees: what an artifact came from, and what came of it."""
    own = found.artifact
    known = {each.id: each for each in (own, *found.ancestors)}
    children: dict[str, list[Artifact]] = {}
    for each in found.descendants:
        for parent in each.parents:
            children.setdefault(parent, []).append(each)

    def up(artifact: Artifact) -> Sequence[Artifact]:
        return [known[key] for key in artifact.parents if key in known]

    def down(artifact: Artifact) -> Sequence[Artifact]:
        return children.get(artifact.id, [])

    lines(console, [_label(own)])
    for title, edges in (("made from", up), ("led to", down)):
        if edges(own):
            console.print(_tree(title, own, edges, _label))


def why(console: Console, steps: Sequence[Why]) -> None:
    """Print the chain of activations that led to the first step's artifact."""
    by_id = {step.artifact.id: step for step in steps}

    def label(artifact: Artifact) -> str:
        made_by = by_id[artifact.id].made_by if artifact.id in by_id else None
        if made_by is None:
            return _label(artifact)
        tries = f", attempt {made_by.attempt}" if made_by.attempt > 1 else ""
        via = f" of {made_by.subscription}" if made_by.subscription else ""
        return f"{_label(artifact)}\nactivation {made_by.activation}{via}: {made_by.state}{tries}"

    def inputs(artifact: Artifact) -> Sequence[Artifact]:
        return by_id[artifact.id].inputs if artifact.id in by_id else ()

    console.print(_tree(label(steps[0].artifact), steps[0].artifact, inputs, label))


def runs(console: Console, found: Sequence[tuple[str, RunStatus]]) -> None:
    """Print a table of runs; open is what is ready, running or delayed."""
    heads = ("state", "artifacts", "open", "waiting", "succeeded", "failed", "cancelled", "run")
    rows = [
        (
            each.state, each.artifacts, each.ready + each.running + each.delayed, each.waiting, each.succeeded,
            each.failed, each.cancelled, name,
        )
        for name, each in found
    ]  # fmt: skip
    _table(console, heads, [tuple(map(str, row)) for row in rows])


def failures(console: Console, found: Sequence[Activation]) -> None:
    """Print a table of failed activations."""
    rows = [(each.id, each.agent, each.run, str(each.attempt), _one_line(each.error or "")) for each in found]
    _table(console, ("activation", "agent", "run", "attempts", "error"), rows)


def info(console: Console, found: StoreInfo) -> None:
    """Print counts and sizes."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found._asdict().items():
        table.add_row(name, _size(value) if name in {"size", "free"} else str(value))
    console.print(table)


def retention(chosen: Retention) -> str:
    """Say in words what may go."""
    parts = [
        f"of type {' or '.join(sorted(chosen.types))}" if chosen.types else "",
        f"older than {_moment(chosen.before)} UTC" if chosen.before is not None else "",
        f"in finished runs but the newest {chosen.keep_runs}" if chosen.keep_runs is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _tree(
    title: str, root: Artifact, edges: Callable[[Artifact], Sequence[Artifact]], label: Callable[[Artifact], str]
) -> Tree:
    """Make a tree along edges; what is met again is named and not followed again."""
    tree = Tree(_line(title), guide_style=_GUIDES)
    met: set[str] = {root.id}
    open_ends = [(tree, root)]
    while open_ends:
        branch, at = open_ends.pop()
        for each in edges(at):
            if each.id in met:
                branch.add(Text(f"see #{each.sequence}", style=_GUIDES))
            else:
                met.add(each.id)
                open_ends.append((branch.add(_line(label(each))), each))
    return tree


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose last column gives way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head != heads[-1])
    for row in rows:
        table.add_row(*map(_line, row))
    console.print(table)


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _label(artifact: Artifact) -> str:
    return f"#{artifact.sequence} {artifact.type} by {artifact.produced_by}: {_payload(artifact)}"


def _payload(artifact: Artifact) -> str:
    kept = artifact.record.snapshot
    if isinstance(kept, Failure):
        text = _one_line(str(kept))
    else:
        text = _reason(artifact) or json.dumps(artifact_data(artifact)["payload"], ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _pretty(artifact: Artifact, payload: object) -> Sequence[str]:
    return [_reason(artifact) or json.dumps(payload, indent=2, ensure_ascii=False)]


def _reason(artifact: Artifact) -> str:
    """Say why there is no payload, if there is none."""
    kept = artifact.record.snapshot
    return f"({kept.reason})" if isinstance(kept, Unreadable) and not kept.content else ""


def _when(artifact: Artifact) -> str:
    return _moment(artifact.record.created)


def _at(at: float | None) -> str:
    return "" if at is None else f" at {_moment(at)} UTC"


def _moment(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _size(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:  # noqa: PLR2004 - bytes in a KiB, and so on
            break
        size, unit = size / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _one_line(text: str) -> str:
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())
