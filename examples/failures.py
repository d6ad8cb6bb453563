"""Failures and retries: a flaky service is tried again, and what fails for good is an artifact like any other.

`.retry(3)` gives an agent three attempts with growing pauses; `ctx.idempotency_key` is the same in each of them. After
the last one a Failure is published, which any agent may consume to clean up, to apologise or to try another way. A
failing agent never stops the board.

    python examples/failures.py
    flock run examples/failures.py --publish '{"type": "Letter", "to": "Atlantis"}'
"""

import asyncio

from pydantic import BaseModel

from flock import Context, Failure, Flock


class Letter(BaseModel):
    """What is to be delivered."""

    to: str


class Receipt(BaseModel):
    """That it was delivered."""

    to: str
    attempts: int


class Apology(BaseModel):
    """That it was not, and why."""

    text: str


class Outcome(BaseModel):
    """What became of all letters."""

    receipts: list[Receipt]
    apologies: list[Apology]


BRIDGE_OPENS = 3  # at this attempt

flock = Flock()


@flock.agent("postman").consumes(Letter).retry(3, delay=0.02, on=ConnectionError).timeout(1)
async def deliver(letter: Letter, ctx: Context) -> Receipt:
    """Deliver a letter: the bridge may be closed, and some addresses do not exist."""
    if letter.to == "Atlantis":
        raise LookupError("there is no such place")  # no ConnectionError: not tried again
    if ctx.attempt < BRIDGE_OPENS:
        print(f"attempt {ctx.attempt} for {letter.to}: the bridge is closed")
        raise ConnectionError("the bridge is closed")
    return Receipt(to=letter.to, attempts=ctx.attempt)


@flock.agent("counter").consumes(Failure, where=lambda failure: failure.agent == "postman")
async def apologise(failure: Failure) -> Apology:
    """Apologise for what could not be delivered."""
    return Apology(text=f"We are sorry: {failure.message} ({failure.error_type}, attempts: {failure.attempts})")


async def send() -> Outcome:
    """Send two letters and wait for what becomes of them."""
    async with flock:
        await flock.publish_many([Letter(to="Venice"), Letter(to="Atlantis")])
        report = await flock.run_until_idle()
        print(f"{report.succeeded} activations succeeded, {report.failed} failed")
        receipts, apologies = await flock.store.get_by_type(Receipt), await flock.store.get_by_type(Apology)
    return Outcome(receipts=list(receipts), apologies=list(apologies))


def main() -> Outcome:
    """Return a Receipt after three attempts for Venice, and an Apology after one for Atlantis."""
    outcome = asyncio.run(send())
    for each in (*outcome.receipts, *outcome.apologies):
        print(each)
    return outcome


if __name__ == "__main__":
    main()
