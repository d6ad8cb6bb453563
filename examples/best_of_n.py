"""Best of N: four candidates answer the same question at once, and the one with the highest score is published.

Each candidate gets its own copy of the inputs and its own `ctx.candidate`; with a language model the candidates differ
by themselves. One of them fails here, which only takes it out of the race. Nothing but the winner reaches the board.

    python examples/best_of_n.py
    flock run examples/best_of_n.py --publish '{"type": "Product", "name": "Moonlamp", "virtue": "light"}'
"""

import asyncio

from pydantic import BaseModel

from flock import Context, EvalResult, Flock


class Product(BaseModel):
    """What is to be praised."""

    name: str
    virtue: str


class Slogan(BaseModel):
    """How to praise it."""

    text: str


PATTERNS = (
    "Discover the incomparable {virtue} that only the all-new {name} can bring into your daily life.",
    "{name}: pure {virtue}.",
    "{name} by {designer}.",  # nobody knows the designer: this candidate raises KeyError
    "Why not try {virtue}?",
)


async def write(product: Product, ctx: Context) -> Slogan:
    """Write the slogan of one candidate."""
    return Slogan(text=PATTERNS[ctx.candidate].format(name=product.name, virtue=product.virtue))


def catchiness(result: EvalResult) -> float:
    """Score a candidate: short is good, and the name has to be in it."""
    (slogan,) = (artifact.payload.text for artifact in result.artifacts)
    return (100 if "Moonlamp" in slogan else 0) - len(slogan)


flock = Flock()
flock.agent("copywriter").consumes(Product).best_of(len(PATTERNS), score=catchiness).calls(write)


async def compete() -> Slogan:
    """Ask for a slogan, and show who was out of the race."""
    events = flock.events()
    async with flock:
        slogan = await flock.ask(Product(name="Moonlamp", virtue="light"), returns=Slogan)
    async for event in events:  # they end with the shutdown
        if event.kind == "error":
            print(f"{event.reason} is out: {event.error!r}")
    return slogan


def main() -> Slogan:
    """Return the Slogan with the highest score, that of candidate 1."""
    slogan = asyncio.run(compete())
    print(f"The winner of {len(PATTERNS)}: {slogan.text}")
    return slogan


if __name__ == "__main__":
    main()
