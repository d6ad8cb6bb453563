"""Surviving a crash: the program kills itself half-way, and its second start carries on where the first one was.

The board is a file. The third photo takes the whole process with it, by SIGKILL, the first time that it is developed.
Starting the same program again is all that it takes: what was acknowledged is there, what was done is not done again,
what was begun is begun again, and what was collected still waits. The first command does both starts; the others are
the same by hand:

    python examples/survive.py
    python examples/survive.py holiday.db; python examples/survive.py holiday.db
    flock run examples/survive.py --publish '{"type": "Photo", "number": 1}' --drain
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from flock import BatchSpec, Context, Flock


class Photo(BaseModel):
    """What was taken."""

    number: int


class Print(BaseModel):
    """What was developed."""

    number: int


class Album(BaseModel):
    """All that belongs together."""

    numbers: list[int]


class Story(BaseModel):
    """What each start of the program printed, and how it ended."""

    first: Sequence[str]
    first_status: int
    second: Sequence[str]
    second_status: int


PHOTOS = 5
DEADLY = 3

flock = Flock(name="survive")


@flock.agent("darkroom").consumes(Photo).max_concurrency(1)
async def develop(photo: Photo, ctx: Context) -> Print:
    """Develop one photo after the other; `ctx.attempt` counts the times that this one was begun."""
    print(f"developing photo {photo.number}, attempt {ctx.attempt}", flush=True)
    if photo.number == DEADLY and ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # no clean-up, no farewell: as when the power fails
    return Print(number=photo.number)


@flock.agent("binder").consumes(Print, batch=BatchSpec(size=PHOTOS))
async def bind(prints: list[Print]) -> Album:
    """Bind an album when all prints are there, from whichever start of the program they are."""
    return Album(numbers=sorted(each.number for each in prints))


async def work(board: str) -> None:
    """Publish the photos and wait; with `id=` a second start publishes nothing twice."""
    flock.use_store(f"sqlite:///{board}")
    numbers = range(1, PHOTOS + 1)
    async with flock:
        await flock.publish_many([Photo(number=n) for n in numbers], id=[f"photo-{n}" for n in numbers])
        await flock.run_until_idle()
        for album in await flock.store.get_by_type(Album):
            print(f"an album of {album.numbers}")


def start(board: Path) -> subprocess.CompletedProcess[str]:
    """Start this program on a board in a process of its own, and wait until it ends, one way or the other."""
    words = [sys.executable, str(Path(__file__).resolve()), str(board)]
    return subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=False)  # noqa: S603 - this very program


def main() -> Story:
    """Return the Story: the first start is killed over photo 3, the second one begins with it and binds the album."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (start(Path(folder, "holiday.db")) for _ in range(2))
    story = Story(
        first=first.stdout.splitlines(), first_status=first.returncode,
        second=second.stdout.splitlines(), second_status=second.returncode,
    )  # fmt: skip
    print(f"the first start ended with status {story.first_status}:", *story.first, sep="\n  ")
    print(f"the second one with {story.second_status}:", *story.second, sep="\n  ")
    return story


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(work(sys.argv[1]))
    else:
        main()
