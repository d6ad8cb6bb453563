"""The spine: everything that reaches the board goes validate -> match -> commit -> dispatch, here."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from flock.core.ambient import acting, current, here
from flock.core.clock import pause
from flock.core.match import Rejection, match
from flock.core.roster import Roster
from flock.core.signals import Signals, ignore
from flock.model.artifact import EXTERNAL, UNSET, Artifact, Record, snapshot
from flock.model.errors import (
    Backpressure,
    ClosedError,
    OutputError,
    PublishError,
    RunCancelledError,
    Stale,
    StoreError,
)
from flock.model.evaluation import FAILURE, Failure
from flock.model.ledger import Activation, Commit, Committed, Direct, Lease, Offer, depth_after
from flock.model.payload import type_name
from flock.model.visibility import PUBLIC, PrivateVisibility, Visibility, meet
from flock.ports import Clock, Store, Telemetry

logger = logging.getLogger("flock")
_AGAIN = (0.05, 0.2, 1.0)  # seconds between the tries of a settlement that a store refused


class Spine:
    """Publishes into one store, and hands on what a commit sets free."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        roster: Roster,
        signals: Signals,
        metrics: Telemetry,
        default_run: str,
        max_pending: int | None,
    ) -> None:
        """Meet the parts; `on_leases`, `on_due`, `on_quiet` and `on_published` are set by who wants to know."""
        self.clock = clock
        self.roster = roster
        self.signals = signals
        self.metrics = metrics
        self.default_run = default_run
        self.max_pending = max_pending
        self.last_sequence = 0
        self.unclaimed = False  # something is ready that nobody has claimed
        self.closed = False
        self.store = store
        self.on_leases: Callable[[Sequence[Lease]], None] = ignore
        self.on_due: Callable[[float | None], None] = ignore
        self.on_quiet: Callable[[], None] = signals.quiet.wake
        self.on_unclaimed: Callable[[], None] = ignore
        self.on_published: Callable[[Sequence[Record]], Any] | None = None

    # ---- validate

    def record(
        self,
        obj: object,
        id: str | None = None,
        correlation_id: str | None = None,
        partition_key: str | None = None,
        tags: frozenset[str] = frozenset(),
        visibility: Visibility | None = None,
    ) -> Record:
        """Validate and wrap one object in the caller's run; raises PublishError and stores nothing."""
        if id or correlation_id or partition_key or tags or visibility:
            words = {"id": id, "correlation_id": correlation_id, "partition_key": partition_key}
            _check_envelope([*words.items(), *[("tags", tag) for tag in tags]], visibility)
        ambient = current.get()
        if ambient is not None and ambient.board is not self:
            ambient = here(self)
        run = self.default_run if ambient is None else ambient.run
        payload, draft = (snapshot(obj), None) if isinstance(obj, BaseModel) else self._payload(obj)
        record = Record(  # by position, which takes a third of the time
            id or self.clock.new_id(), type_name(type(payload)), payload, correlation_id or run, self.clock.now(),
            EXTERNAL, partition_key, tags, visibility or PUBLIC, (), None, self.metrics.traceparent(),
        )  # fmt: skip
        if draft is not None:
            record.id, record.run = id or draft.id or record.id, correlation_id or draft.run or run
            record.tags, record.partition_key = tags or draft.tags, partition_key or draft.partition_key
            record.produced_by = draft.produced_by
            if draft.sequence:
                record.parents, record.depth, record.activation_id = draft.parents, draft.depth, draft.activation_id
            if visibility is None and draft.visibility is not UNSET:
                record.visibility = visibility = draft.visibility
        actor = None if ambient is None else acting(self)
        if actor is not None:
            inputs = _descend(record, actor.lease.activation)
            if visibility is None:
                record.visibility = meet(frozenset([parent.visibility for parent in inputs]))
        return record

    def _payload(self, obj: object) -> tuple[BaseModel, Record | None]:
        """Give the private snapshot of what is no model, and the envelope that an Artifact brings along."""
        if isinstance(obj, Artifact):
            return obj.record.snapshot, obj.record
        if isinstance(obj, Mapping):
            return self.roster.types.load(cast("Mapping[str, object]", obj)), None
        if isinstance(obj, (list, tuple, set, frozenset)):
            raise PublishError("publish takes one object: use publish_many([...]) for several in one commit")
        kind = type(obj).__name__
        raise PublishError(f"publish takes a pydantic model, a dict with 'type', or an Artifact, not {kind}")

    def failure(
        self, error: BaseException, agent: str, inputs: Sequence[Record], of: Activation | None, attempts: int = 0
    ) -> Record:
        """Wrap the error of an activation, or of matching one artifact, as an artifact.

        It inherits its inputs' visibility; nobody sees it where these differ.
        """
        try:
            visibility = meet(frozenset([record.visibility for record in inputs]))
        except OutputError:
            visibility = PrivateVisibility(agents=frozenset())
        ids, activation = tuple([record.id for record in inputs]), None if of is None else of.id
        payload = Failure(
            agent=agent, error_type=type(error).__name__, message=said(error), activation_id=activation, inputs=ids,
            attempts=attempts, traceback="".join(traceback.format_exception(error)),
        )  # fmt: skip
        return Record(
            id=self.clock.new_id(), type=FAILURE, snapshot=payload, run=inputs[0].run if of is None else of.run,
            created=self.clock.now(), produced_by=agent, visibility=visibility, parents=ids, activation_id=activation,
            trace_context=self.metrics.traceparent(), depth=depth_after(inputs),
        )  # fmt: skip

    # ---- match

    def route(self, records: list[Record], *, without: str | None = None) -> list[Offer]:
        """Match records; a predicate that raises adds a Failure to them. `without` leaves one agent out."""
        offers: list[Offer] = []
        rejections: list[Rejection] = []
        routes = self.roster.routes
        for record in records:
            cls = type(record.snapshot)
            found = routes.get(cls) or self.roster.route(cls)
            if found.entries:
                match(found, record, offers, rejections)
        if without is not None:
            offers = [offer for offer in offers if offer.target.agent != without]
        if rejections:
            self.reject(rejections, records, offers)
        return offers

    def reject(self, rejections: list[Rejection], records: list[Record], offers: list[Offer]) -> None:
        """Tell predicates and keys that raised; each adds a Failure to the records, with its offers."""
        failures: list[Record] = []
        for entry, record, error in rejections:
            agent = entry.target.agent
            logger.error("a predicate or key of %s raised on %s", agent, record.id, exc_info=error)
            self.signals.dropped(
                "dropped", "predicate raised", agent=agent, run=record.run, artifacts=(record.id,), error=error
            )
            if record.type != FAILURE:
                failures.append(self.failure(error, agent, (record,), None))
        records += failures
        if failures:
            offers += self.route(failures)

    # ---- commit and dispatch

    async def publish(
        self, records: list[Record], *, without: str | None = None, direct: Direct | None = None
    ) -> Sequence[Record]:
        """Commit what came from outside or from inside a running agent; gives it as stored when it is durable."""
        asked = len(records)
        offers = self.route(records, without=without)
        if len(records) > asked:  # what was rejected: a repeat (P4) had its Failure when it first came
            known = {record.id for record in await self.store.get([record.id for record in records[:asked]])}
            records[asked:] = [failure for failure in records[asked:] if known.isdisjoint(failure.parents)]
            offers = [offer for offer in offers if offer.record in records]
        commit = Commit(records, offers, (), direct, None, None, self.roster.limits)
        try:
            committed = await (self.store.commit(commit) if self.max_pending is None else self._when_room(commit))
        except RunCancelledError as error:
            raise PublishError(str(error)) from error
        self.dispatch(committed)  # were the caller cancelled before, the store would tell of what it did (`attend`)
        if self.on_published is not None:
            await self.on_published(committed.records)
        return committed.records[:asked]

    async def _when_room(self, commit: Commit) -> Committed:
        commit.max_pending = self.max_pending if acting(self) is None else None
        while True:
            room = self.signals.room.wait()  # before the store says that there is none
            try:
                return await self.store.commit(commit)
            except Backpressure:
                await room
                if self.closed:
                    raise ClosedError("the Flock was closed before there was room to publish") from None

    async def settle(self, commit: Commit) -> Committed:
        """Commit for an activation; a store that stumbles is asked again, as the same commit changes nothing twice."""
        delays = iter(_AGAIN)
        while True:
            try:
                committed = await self.store.commit(commit)
            except (Stale, RunCancelledError):
                raise
            except StoreError as error:
                delay = next(delays, None)
                if delay is None:
                    raise
                self.signals.hook_failed("store.commit", error)
                await pause(self.clock, delay)
            else:
                self.dispatch(committed)
                return committed

    def leave(self) -> None:
        """Leave what is ready to the next use, or to the lifecycle a little later, unless the loop is ending."""
        self.unclaimed = True
        self.on_unclaimed()

    def dispatch(self, committed: Committed) -> None:
        """Hand on what a step of the store set free: leases, deadlines, news."""
        if committed.leases:
            self.on_leases(committed.leases)
        if committed.due is not None:
            self.on_due(committed.due)
        if committed.expired:
            self._tell_expired(committed)
        records = committed.records
        if records and not committed.repeated:
            self.last_sequence = max(self.last_sequence, records[-1].sequence)
            if self.signals.changed.waiters:
                self.signals.changed.wake()
            if self.signals.listened or self.metrics.metering():
                self._tell_published(records)
        if committed.quiet or committed.repeated:  # the answer that told of quiet may be the one that was lost
            self.on_quiet()

    def _tell_published(self, records: Sequence[Record]) -> None:
        self.metrics.count("published", len(records))
        for record in records:
            self.signals.emit(
                "published", run=record.run, agent=record.produced_by, activation=record.activation_id,
                artifacts=(record.id,), reason=record.type,
            )  # fmt: skip

    def _tell_expired(self, committed: Committed) -> None:
        for agent, run, records, reason in committed.expired:
            ids = tuple([record.id for record in records])
            logger.warning("%s: %s gave up %s of run %s", reason, agent, ", ".join(ids), run)
            self.signals.dropped("expired", reason, agent=agent, run=run, artifacts=ids)
        self.signals.changed.wake()


def said(error: BaseException) -> str:
    """Give what an error says, also when it can't say it."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the guard of the user's `__str__`
        return "its message can't be read: __str__ raised"


def unheard(record: Record, offers: Sequence[Offer]) -> None:
    """Log a Failure that no agent consumes, once."""
    if not any(offer.record is record for offer in offers):
        logger.error("%s", record.snapshot, extra={"artifact": record.id, "run": record.run})


def _descend(record: Record, activation: Activation) -> Sequence[Record]:
    """Make a record one that an activation published; gives the activation's inputs."""
    record.produced_by = activation.agent
    record.parents = tuple([parent.id for parent in activation.inputs])
    record.activation_id = activation.id
    record.depth = activation.depth
    return activation.inputs


def _check_envelope(words: Iterable[tuple[str, object]], visibility: object) -> None:
    for name, word in words:
        if word is not None and not isinstance(word, str):
            raise PublishError(f"{name}= takes text, not {word!r}")
    if visibility is not None and not isinstance(visibility, Visibility):
        raise PublishError(f"visibility= takes a Visibility, not {visibility!r}")
