"""What became of artifacts, and why they exist: the answers to those who look back."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flock.model.artifact import Artifact
from flock.model.ledger import FateState

Verdict = Literal[FateState, "refused", "missed", "gone"]


class Maker(NamedTuple):
    """The activation that made an artifact; one that the store has forgotten is `"forgotten"` in state."""

    activation: str
    agent: str
    subscription: str = ""
    attempt: int = 0
    state: str = "forgotten"


class Why(NamedTuple):
    """Why an artifact exists: what made it (None: it came from outside) of which inputs, in the order it had them."""

    artifact: Artifact
    made_by: Maker | None
    inputs: tuple[Artifact, ...]


class WhyNot(NamedTuple):
    """What became of an artifact with one subscription of an agent, and the reason in plain words.

    `consumed` names the `activation`: that is a yes. `refused` never matched; `missed` came before the agent, or from a
    process without it; `expired` and `withdrawn` were let go, `gone` as well, but the store keeps no record of how.
    `due` (UTC seconds) is when the wait ends or has ended.
    """

    subscription: str
    verdict: Verdict
    reason: str
    activation: str | None = None
    due: float | None = None
