"""Streaming: an agent publishes while it still works, and readers see each line as it is committed.

An async generator is an agent whose yields reach the board at once. The translator fires on each of them while the
poet still writes, and `flock.stream(...)` gives both as they come; a slow reader holds nobody up.

    python examples/streaming.py
    flock run examples/streaming.py --publish '{"type": "Theme", "word": "rain"}'
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from pydantic import BaseModel

from flock import Flock


class Theme(BaseModel):
    """What the poem is about."""

    word: str


class Line(BaseModel):
    """A line of the poem."""

    number: int
    text: str


class Loud(BaseModel):
    """The same line, louder."""

    number: int
    text: str


flock = Flock()


@flock.agent
async def poet(theme: Theme) -> AsyncIterator[Line]:
    """Write line after line; each is on the board before the next one is begun."""
    for number, pattern in enumerate(["{} in the morning,", "{} at night,", "and still no {} in my cup."], 1):
        yield Line(number=number, text=pattern.format(theme.word))
        await asyncio.sleep(0.02)  # a poet has to think


@flock.agent
async def reader(line: Line) -> Loud:
    """Read a line aloud."""
    return Loud(number=line.number, text=line.text.upper())


async def listen(word: str) -> Sequence[str]:
    """Collect who published what, in the order of the board."""
    seen: list[str] = []
    async with flock:
        stream = flock.stream(Line, Loud)  # what is committed from here on
        await flock.publish(Theme(word=word))
        async for artifact in stream:
            print(f"{artifact.produced_by:>6}: {artifact.payload.text}")
            seen.append(f"{artifact.produced_by} {artifact.payload.number}")
            if seen[-1] == "reader 3":
                break
    return seen


def main() -> Sequence[str]:
    """Return who published which line: the reader is never more than a line behind the poet."""
    return asyncio.run(listen("Rain"))


if __name__ == "__main__":
    main()
