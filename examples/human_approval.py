"""Human approval as artifacts: a request is published, and the flow goes on when somebody publishes the answer.

No agent waits for the human. The cashier needs an Expense *and* its Approval; until the Approval comes, the Expense
waits on the board, for minutes or for days. Who answers is a matter of who publishes: small expenses are
approved by a rule, large ones by a person who reads the ApprovalRequest in a mail, a chat or a web page.

    python examples/human_approval.py
    flock run examples/human_approval.py --publish '[{"type": "Expense", "id": "e1", "what": "crane", "euros": 900},
        {"type": "Approval", "id": "e1", "granted": true, "by": "you"}]'
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel

from flock import Flock, JoinSpec


class Step(BaseModel):
    """Something that belongs to an expense."""

    id: str


class Expense(Step):
    """What somebody wants to buy."""

    what: str
    euros: int


class ApprovalRequest(Step):
    """The question to a person."""

    question: str


class Approval(Step):
    """The answer, by a rule or by a person."""

    granted: bool
    by: str


class Decision(Step):
    """How it ended."""

    text: str


SMALL = 100  # euros

flock = Flock()


@flock.agent
async def clerk(expense: Expense) -> Approval | ApprovalRequest:
    """Approve what is small; ask about the rest."""
    if expense.euros <= SMALL:
        return Approval(id=expense.id, granted=True, by="the rule")
    return ApprovalRequest(id=expense.id, question=f"{expense.euros} euros for a {expense.what}?")


@flock.agent("cashier").consumes(Expense, Approval, join=JoinSpec(by=lambda step: step.id, within=timedelta(days=30)))
async def pay(expense: Expense, approval: Approval) -> Decision:
    """Pay, or say no."""
    verb = "paid" if approval.granted else "refused"
    return Decision(id=expense.id, text=f"{verb} {expense.euros} euros for a {expense.what}, says {approval.by}")


async def spend() -> Sequence[Decision]:
    """Publish expenses, let the board come to rest, then answer what was asked."""
    async with flock:
        expenses = {"pencil": 2, "crane": 900, "castle": 250_000}
        await flock.publish_many([Expense(id=what, what=what, euros=euros) for what, euros in expenses.items()])
        report = await flock.run_until_idle()
        print(f"{len(report.waiting)} expenses wait for an answer:")
        for request in await flock.store.query(ApprovalRequest):
            granted = "crane" in request.payload.question  # a person would think about it for longer
            print(f"  {request.payload.question} {'yes' if granted else 'no'}")
            answer = Approval(id=request.payload.id, granted=granted, by="Ada")
            await flock.publish(answer, correlation_id=request.correlation_id)  # the run that asked goes on
        await flock.run_until_idle()
        return await flock.store.get_by_type(Decision)


def main() -> Sequence[Decision]:
    """Return three Decisions: the pencil's by the rule, then the crane's and the castle's by a person."""
    decisions = asyncio.run(spend())
    for decision in decisions:
        print(decision.text)
    return decisions


if __name__ == "__main__":
    main()
