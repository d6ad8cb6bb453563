"""The memory store's replays: an artifact that is offered again counts once per subscription."""

from __future__ import annotations

from flock.model.ledger import Offer
from flock.stores.memory.activations import Activations
from flock.stores.memory.collectors import Collectors
from flock.stores.memory.runs import Runs
from flock.stores.memory.timeline import Timeline


class Replays:
    """Knows which subscription has had which artifact, as soon as something is replayed."""

    def __init__(self, runs: Runs, activations: Activations, collectors: Collectors, timeline: Timeline) -> None:
        """Look at what is there when the time comes."""
        self._runs = runs
        self._activations = activations
        self._collectors = collectors
        self._timeline = timeline
        self._marks: set[tuple[str, str]] = set()  # subscription, artifact

    def remember(self) -> None:
        """Note what every subscription has had up to now."""
        marks = self._marks
        marks.update(self._activations.archive.inputs())
        for activation in self._activations.open.values():
            marks.update((activation.subscription, record.id) for record in activation.inputs)
        for collector in self._collectors:
            marks.update((collector.target.subscription, record.id) for record in collector.records())
        marks.update((offer.target.subscription, offer.record.id) for _, offer in self._timeline.offers(None))

    def had(self, offer: Offer) -> bool:
        """Say whether an offer is to be left out, which it is the next time."""
        mark = (offer.target.subscription, offer.record.id)
        if offer.record.run in self._runs.cancelled or mark in self._marks:
            return True
        self._marks.add(mark)
        return False
