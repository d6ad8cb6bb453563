"""Visibility: five agents subscribe to the same type, and each artifact says who of them may see it.

Visibility is part of the artifact and enforced wherever it is read: in matching, in an agent's own reads of the board
and in direct calls. What is made from a secret stays as secret as that, unless the declaration says otherwise.

    python examples/visibility.py
    flock run examples/visibility.py --publish '{"type": "News", "text": "It rains."}'
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pydantic import BaseModel

from flock import (
    AfterVisibility,
    Context,
    Flock,
    LabelledVisibility,
    PrivateVisibility,
    TenantVisibility,
    Until,
    Visibility,
)


class News(BaseModel):
    """Something to know."""

    text: str


class Note(BaseModel):
    """That somebody has learned something."""

    who: str
    text: str


async def read(news: News, ctx: Context) -> Note:
    """Note what was seen, and by whom."""
    return Note(who=ctx.agent.name, text=news.text)


flock = Flock()
flock.agent("editor").labels("staff", "cleared").consumes(News).calls(read)
flock.agent("intern").labels("staff").consumes(News).calls(read)
flock.agent("lawyer").tenant("acme").consumes(News).calls(read)
flock.agent("rival").tenant("globex").consumes(News).calls(read)
flock.agent("public").consumes(News).calls(read)

NEWS: Mapping[str, Visibility | None] = {
    "It rains.": None,  # public
    "The intern gets a raise.": PrivateVisibility(agents={"editor", "intern"}),
    "The source is a minister.": LabelledVisibility(required_labels={"cleared"}),
    "Acme buys Globex.": TenantVisibility(tenant_id="acme"),
    "The embargo is over.": AfterVisibility(ttl=timedelta(milliseconds=50)),
}


async def spread() -> Mapping[str, Sequence[str]]:
    """Publish all news and collect who has seen what."""
    async with flock:
        for text, visibility in NEWS.items():
            await flock.publish(News(text=text), visibility=visibility)
        await flock.run_until_idle()
        known = {note.text for note in await flock.store.get_by_type(Note)}
        print(f"Known at once: {len(known)} of {len(NEWS)}, the last one waits for its time.")
        await flock.run_until(Until.any_field(Note, "text", "The embargo is over.".__eq__) & Until.idle())
        notes = await flock.store.get_by_type(Note)  # the operator's view: everything
    return {text: sorted(note.who for note in notes if note.text == text) for text in NEWS}


def main() -> Mapping[str, Sequence[str]]:
    """Return who has seen which news: all five only what is public, or was under an embargo that is over."""
    seen = asyncio.run(spread())
    for text, readers in seen.items():
        print(f"{text:<26} {', '.join(readers)}")
    return seen


if __name__ == "__main__":
    main()
