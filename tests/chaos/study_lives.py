"""Studies that are killed again and again: forks run one, die at a random moment, and the next goes on.

`study_lives.py FOLDER --kills N --seed S` prints one JSON line: how many were killed, and what was broken. This process
stays single-threaded, so that it can fork; each fork runs the study in threads of its own and writes to a file what an
agent begins and to another what was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

from flock.studies import RunSpec, RunStatus, Study, load_checkpointed_run_results

RUNS = 40
WAIT = 0.002  # seconds that a run waits
LIFE = 0.35  # seconds within which a life is killed
WAYS = (("task", 1), ("task", 8), ("thread", 4))


def log(path: Path, line: str) -> None:
    """Append a line at once, as a whole."""
    with path.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def lines(path: Path) -> list[str]:
    """Give the whole lines of a file."""
    text = path.read_text("utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].split()


def study(folder: Path) -> Study:
    """Give a study whose agent says that it begins."""

    async def agent(run_spec: RunSpec, rng: random.Random) -> dict[str, Any]:
        log(folder / "begun", run_spec.run_id)
        await asyncio.sleep(WAIT)
        return {"answer": rng.random()}

    return Study.build(
        "killed", agents={"agent": agent}, problems=["a", "b"], replicates=RUNS // 2, output_dir=folder / "out"
    )


async def live(folder: Path, isolation: Any, parallel: int) -> None:
    """Run what is left of the study and say of each result that it was acknowledged."""
    async with aclosing(study(folder).astream(parallel=parallel, isolation=isolation, progress=False)) as results:
        async for result in results:
            log(folder / "acknowledged", result.run_id)


def fork(folder: Path, way: tuple[str, int]) -> int:
    """Begin a life and give its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(live(folder, *way))
            status = 0
        finally:
            os._exit(status)
    return child


def survive(folder: Path, way: tuple[str, int], chance: random.Random) -> tuple[int, list[str]]:
    """Kill a study until a life ends by itself; gives how often, and what was broken on the way."""
    never = threading.Event()
    kills, broken, status = 0, list[str](), signal.SIGKILL.value
    life = LIFE
    while status == signal.SIGKILL:
        done, before = set(lines(folder / "acknowledged")), len(lines(folder / "begun"))
        child = fork(folder, way)
        never.wait(chance.uniform(0, life))
        life *= 1.01  # on a slow machine none would get to its end
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += status == signal.SIGKILL
        again = done & set(lines(folder / "begun")[before:])
        if again:
            broken.append(f"ran again after it was acknowledged: {sorted(again)}")
    results = load_checkpointed_run_results(folder / "out")
    if status != 0:
        broken.append(f"the last life ended with {status}")
    lost = set(lines(folder / "acknowledged")) - results.keys()
    if lost or len(results) != RUNS or any(each.status is not RunStatus.SUCCESS for each in results.values()):
        broken.append(f"{len(results)} results, lost: {sorted(lost)}")
    broken += [f"left behind: {each.name}" for each in (folder / "out").glob(".*.part")]
    return kills, broken


def main() -> None:
    """Kill so often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 - where to kill
    kills, studies, broken = 0, 0, list[str]()
    while kills < given.kills:
        folder = given.folder / f"study-{studies}"
        folder.mkdir(parents=True)
        killed, found = survive(folder, WAYS[studies % len(WAYS)], chance)
        kills, studies = kills + killed, studies + 1
        broken += [f"study {studies - 1}: {each}" for each in found]
    sys.stdout.write(json.dumps({"kills": kills, "studies": studies, "broken": broken}) + "\n")


if __name__ == "__main__":
    main()
