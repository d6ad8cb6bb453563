"""Two agents without a line of code: the "test" engine makes what they publish, from the schema alone.

`Flock("test")` gives every agent an engine that invents valid outputs, the same ones each time. So the types, the
subscriptions and the flow can be tried before there is a prompt or a key; a model's name in place of "test" is all
that changes later. The chef turns an Idea into a Recipe, the baker a Recipe into a Pizza, and neither knows the other:

    python examples/pizza.py
    flock run examples/pizza.py --publish '{"type": "Idea", "wish": "something with figs"}'
"""

import asyncio

from pydantic import BaseModel, Field

from flock import Flock


class Idea(BaseModel):
    """What somebody would like to eat."""

    wish: str


class Recipe(BaseModel):
    """How to make it."""

    title: str
    ingredients: list[str] = Field(min_length=2, max_length=5)
    oven: int = Field(ge=200, le=450, description="degrees Celsius")


class Pizza(BaseModel):
    """What comes out of the oven."""

    name: str
    slices: int = Field(ge=4, le=12)
    vegetarian: bool


flock = Flock("test")
flock.agent("chef").description("Writes recipes.").consumes(Idea).publishes(Recipe)
flock.agent("baker").description("Bakes what a recipe says.").consumes(Recipe).publishes(Pizza)


async def order(wish: str) -> Pizza:
    """Publish an Idea and wait for the Pizza that comes of it."""
    async with flock:
        pizza = await flock.ask(Idea(wish=wish), returns=Pizza)
        for artifact in await flock.store.list():
            print(f"{artifact.produced_by:>8} published {artifact.payload!r}")
    return pizza


def main() -> Pizza:
    """Return the Pizza that was made from the Idea, by way of a Recipe."""
    pizza = asyncio.run(order("something with figs"))
    print(f"Dinner is served in {pizza.slices} slices.")
    return pizza


if __name__ == "__main__":
    main()
