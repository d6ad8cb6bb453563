"""The smallest flock: one agent that answers one artifact.

A function becomes an agent by its annotations: it fires on every Name that appears on the board and publishes the
Greeting that it returns. The first command greets the world, the second one whom you name:

    python examples/hello.py
    flock run examples/hello.py --publish '{"type": "Name", "name": "Ada"}'
"""

from pydantic import BaseModel

from flock import Flock


class Name(BaseModel):
    """Whom to greet."""

    name: str


class Greeting(BaseModel):
    """What to say."""

    text: str


flock = Flock()


@flock.agent
async def greet(name: Name) -> Greeting:
    """Greet by name."""
    return Greeting(text=f"Hello, {name.name}!")


def main() -> Greeting:
    """Greet the world and return the Greeting."""
    (artifact,) = flock.run(greet, Name(name="world"))
    greeting: Greeting = artifact.payload
    print(greeting.text)
    print(f"(made by {artifact.produced_by!r}, number {artifact.sequence} on the board)")
    return greeting


if __name__ == "__main__":
    main()
