"""Looking after a file: what became of artifacts, what may go, and how large it all is."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Final, cast

from flock.board.ports import Fate, FateState, Pruned, Retention, StoreInfo
from flock.stores.sqlite.counting import Counting
from flock.stores.sqlite.files import SCHEMA
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.steps import Steps

_SOME: Final = 500  # artifacts that one step removes
_RUNS: Final = 50  # runs that one step removes


def prune_some(steps: Steps, retention: Retention, since: int) -> tuple[int, Pruned]:
    """Take the payloads of some artifacts after a sequence; gives the last one's sequence, 0 when that was all."""
    db, counting = steps.db, steps.counting
    types = json.dumps(sorted(retention.types)) if retention.types else None
    wanted = {
        "since": since, "before": retention.before, "keep": retention.keep_runs, "types": types, "most": _SOME,
    }  # fmt: skip
    rows: list[tuple[int, str]] = db.execute(SQL["prunable"], wanted).fetchall()
    gone = [(sequence,) for sequence, _ in rows]
    _limit_past(steps, "horizon_of_artifacts", {"gone": json.dumps([sequence for sequence, _ in rows])})
    for name in ("strip_artifact", "forget_held", "forget_delayed"):
        db.executemany(SQL[name], gone)
    for _, run in rows:
        counting.remove(run)
    return (rows[-1][0] if rows else 0), Pruned(len(rows), 0, 0)


def prune_runs(steps: Steps, after: str) -> tuple[str, Pruned]:
    """Remove some runs, after one by name, of which nothing is left but a lineage that leads nowhere else."""
    db = steps.db
    found: list[tuple[str]] = db.execute(SQL["empty_runs"], (after, _RUNS)).fetchall()
    alone = [run for run in found if _stands_alone(db, *run)]
    activations = 0
    for run in alone:
        _limit_past(steps, "horizon_of_run", run)
        for name in ("forget_inputs", "forget_aliases", "forget_retried"):
            db.execute(SQL[name], run)
        activations += db.execute(SQL["forget_activations"], run).rowcount
        for name in ("forget_parents", "forget_artifacts", "forget_collectors", "forget_run"):
            db.execute(SQL[name], run)
    db.execute(SQL["forget_shelves"])
    steps.refresh()
    return (found[-1][0] if found else ""), Pruned(0, activations, len(alone))


def _limit_past(steps: Steps, name: str, parameters: Any) -> None:  # noqa: ANN401 - as sqlite3 takes them
    """Know that the past can't be had any more from before what goes had come to its end."""
    (until,) = steps.db.execute(SQL[name], parameters).fetchone()
    steps.counting.horizon = max(steps.counting.horizon, until or 0)


def _stands_alone(db: sqlite3.Connection, run: str) -> bool:
    """Say whether no artifact of a run comes from another run, or has led to one there."""
    if any(db.execute(SQL[name], {"run": run}).fetchone()[0] for name in ("is_mixed", "related_elsewhere")):
        return False
    made = [id for id, _ in db.execute(SQL["activations_of_run"], (run,))]
    if any(db.execute(SQL["made_elsewhere"], (id, run)).fetchone()[0] for id in made):
        return False
    return {id for (id,) in db.execute(SQL["makers_of_run"], (run,))} <= set(made)


def vacuum(steps: Steps) -> None:
    """Give free pages back to the file system; outside a transaction."""
    steps.db.execute("VACUUM")
    steps.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fates(db: sqlite3.Connection, id: str) -> list[Fate]:
    """Say what became of an artifact with each subscription that it was offered to; the last word of each counts."""
    found = db.execute(SQL["artifact_sequence"], (id,)).fetchone()
    told: dict[str, Fate] = {}
    rows = db.execute(SQL["fates"], {"artifact": found[0]}) if found else ()
    for subscription, agent, state, at in rows:
        told.setdefault(subscription, Fate(subscription, agent, cast("FateState", state), at))
    return list(told.values())


def measure(db: sqlite3.Connection, path: Path) -> StoreInfo:
    """Count and measure."""
    counting = Counting(db)
    counting.load()
    board = counting.board
    runs, workers, failed = db.execute(SQL["sizes"]).fetchone()
    (held,) = db.execute(SQL["count_held"], {"run": None}).fetchone()
    (delayed,) = db.execute(SQL["count_delayed"], (None, None)).fetchone()
    pages, page, free = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size", "freelist_count")
    )
    log = path.with_name(f"{path.name}-wal")
    return StoreInfo(
        url=f"sqlite:///{path}",
        schema=SCHEMA,
        artifacts=board.artifacts,
        activations=board.open + board.done + board.failed + board.cancelled,
        open=board.open,
        waiting=held + delayed,
        failed=failed,
        runs=runs,
        size=pages * page + (log.stat().st_size if log.exists() else 0),
        free=free * page,
        sequence=counting.sequence,
        workers=workers,
    )
