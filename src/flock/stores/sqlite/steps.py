"""The steps of the store: each reads and writes inside one transaction and is wholly done or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from flock.model.artifact import Record
from flock.model.errors import Backpressure, RunCancelledError, Stale
from flock.model.evaluation import FAILURE
from flock.model.ledger import Commit, Committed, Expired, Lease, Offer, Target, Withdrawn
from flock.ports import Clock, Types
from flock.stores.activating import LEFT_BY
from flock.stores.codec import Encoded
from flock.stores.collecting import Changes
from flock.stores.repeats import check_repeat
from flock.stores.sqlite.activations import Activations
from flock.stores.sqlite.collectors import Shelves
from flock.stores.sqlite.counting import Counting
from flock.stores.sqlite.later import WritingConnection
from flock.stores.sqlite.records import Records, new_artifact
from flock.stores.sqlite.statements import SQL

_MOST = 500  # entries of one kind that a tick takes at once


class Steps:
    """What changes the board. Every refusal comes before the first write.

    What is new is mostly new indeed: only a step that came upon something known is done again `careful`.
    """

    def __init__(self, db: WritingConnection, clock: Clock, types: Types, poison: int) -> None:
        """Work on one connection, which is inside a transaction whenever a step is called."""
        self.db = db
        self._clock = clock
        self.now = 0.0  # when the transaction began
        self.counting = Counting(db)
        self.records = Records(db, types)
        self.activations = Activations(db, self.records, self.counting, clock.new_id, poison)
        self.shelves = Shelves(db, self.records, self.counting)
        self.careful = False
        self._any_withdrawn = False
        self._some_unserved = False
        self._numbered: list[Record] = []  # in this transaction
        self.targets: dict[str, Target] = {}

    def load(self) -> None:
        """Read anew what is remembered between steps: another process wrote, or a step failed."""
        self.counting.load()
        self.activations.load()
        self.shelves.forget()
        self.records.forget()
        (self._any_withdrawn,) = self.db.execute(SQL["any_withdrawn"]).fetchone()
        self.db.executemany(SQL["declare"], [(subscription,) for subscription in self.targets])
        self._some_unserved = self.db.execute(SQL["agents_waited_for"]).fetchone() is not None

    def begin(self) -> None:
        """Start a transaction."""
        self.now = self.shelves.now = self._clock.now()
        self._numbered.clear()

    def refresh(self) -> None:
        """Read anew what a step has changed behind the back of what is remembered."""
        self.save()
        self.load()

    def save(self) -> None:
        """End a transaction: write the counts."""
        self.records.tidy()
        self.counting.save(self.now)

    def undo(self) -> None:
        """Take back what a transaction that failed has told records, and what it would have written."""
        self.db.forget()
        for record in self._numbered:
            record.sequence = 0
        self._numbered.clear()

    # ---- the one step

    def commit(self, commit: Commit, encoded: Sequence[Encoded]) -> Committed:
        """Check everything first, then write."""
        lease = commit.lease
        fence = None if lease is None else self.activations.fence(lease)
        if lease is not None and fence is None:
            return self._repeated(lease, commit)
        stored = self._admit(commit)
        result = Committed(stored)
        before = self.counting.sequence
        self._append(stored, encoded, None if lease is None else lease.activation.id)
        dues: list[float] = []
        if commit.offers or commit.ticks or commit.direct is not None:
            self._start(commit, before, result, dues)
        self.counting.at = self.counting.sequence
        if lease is not None and fence is not None and commit.settle is not None:
            last, due = self.activations.settle(lease, commit.settle, fence, self.now)
            if due is not None:
                dues.append(due)
            if last or self._some_unserved:
                self._note_quiet(lease.activation.runs, result)
        return self._finish(result, commit.limits, dues)

    def _start(self, commit: Commit, before: int, result: Committed, dues: list[float]) -> None:
        """Start what the records since a sequence match and what else was asked for; adds when any of it is due."""
        changes, direct = Changes(), commit.direct
        self._place(commit.offers, before, changes, dues)
        result.skipped = [tick for tick in commit.ticks if not self.activations.start_tick(tick)]
        if direct is not None:
            inputs = {record.id: record for record in self.records.by_id([r.id for r in direct.records])}
            self.activations.start_direct(direct, tuple([inputs.get(record.id, record) for record in direct.records]))
        self._apply(changes, result)

    def _admit(self, commit: Commit) -> Sequence[Record]:
        """Give the records to be, older ones in place of repeats; raises when the commit can't be done."""
        if commit.max_pending is not None:
            self._check_room(commit, commit.max_pending)
        if self._any_withdrawn:
            self._check_runs(commit)
        lease, records = commit.lease, commit.records
        again = lease is not None and lease.epoch > 1
        if not (self.careful or again):
            return records
        first = {record.id: record for record in reversed(records)}
        olders = {record.id: record for record in self.records.by_id([record.id for record in records])}
        stored: list[Record] = []
        for record in records:
            older = olders.get(record.id) or first[record.id]
            if older is not record:
                check_repeat(record, older)
            in_slot = self._in_slot(lease, record) if again and older is record else None
            stored.append(in_slot or older)
        return stored

    def _check_room(self, commit: Commit, most: int) -> None:
        pending = self.counting.board.open
        if pending >= most and not (commit.records and all(self._is_known(record.id) for record in commit.records)):
            raise Backpressure(f"{pending} activations are open")

    def _is_known(self, id: str) -> bool:
        return self.db.execute(SQL["artifact_sequence"], (id,)).fetchone() is not None

    def _in_slot(self, lease: Lease | None, record: Record) -> Record | None:
        """Give what an earlier attempt of a stream has put into this slot."""
        if lease is None or record.slot is None:
            return None
        rows = self.db.execute(SQL["artifact_in_slot"], (lease.activation.id, record.slot)).fetchall()
        found = self.records.of(rows)
        return found[0] if found else None

    def _check_runs(self, commit: Commit) -> None:
        direct = [] if commit.direct is None else [commit.direct.run]
        for run in [*[record.run for record in commit.records], *direct]:
            if self.counting.look(run).withdrawn is not None:
                raise RunCancelledError(f"run {run!r} was cancelled")

    def _repeated(self, lease: Lease, commit: Commit) -> Committed:
        """Give the answer that a commit had, when it was done before; raises Stale for a lease that was lost."""
        epoch, state = self.activations.state_after(lease)
        settle = commit.settle
        if settle is not None and epoch == lease.epoch and state in LEFT_BY[settle.outcome]:
            stored = self.records.by_id([record.id for record in commit.records])
            if len(stored) == len(commit.records):
                return Committed(stored, repeated=True)
        raise Stale(f"activation {lease.activation.id} is no longer this worker's: nothing was written")

    def _append(self, stored: Sequence[Record], encoded: Sequence[Encoded], maker: str | None) -> None:
        """Write the records that are new, and give them the next sequences; `maker` is the activation that ends."""
        now, later = self.now, self.db.later
        for record, text in zip(stored, encoded, strict=True):
            if record.sequence:
                continue
            record.sequence = sequence = self.counting.add(record.run, now)
            self.records.known[sequence] = record
            self._numbered.append(record)
            if record.type == FAILURE:
                self.counting.newest_failure = sequence
            statement, row = new_artifact(record, text)
            later(statement).append(row)
            if record.parents and (maker is None or record.activation_id != maker):
                later("add_parent").extend([(parent, sequence) for parent in record.parents])

    def _place(self, offers: Sequence[Offer], before: int, changes: Changes, dues: list[float]) -> None:
        """Start, collect or hold back what the records since a sequence match; adds when any of it is due."""
        now, counting = self.now, self.counting
        counting.at = before
        for offer in offers:
            record = offer.record
            if self._had(offer) if offer.replayed else record.sequence <= before:
                continue  # a repeat: the first record with this id made the offers
            counting.at = max(counting.at, record.sequence)
            if offer.not_before and offer.not_before > now:
                self._delay(offer)
                dues.append(offer.not_before)
            elif offer.target.stages:
                due = self._collect(offer, now, changes)
                if due is not None:
                    dues.append(due)
            else:
                self.activations.start(offer.target, (record,))
        counting.at = counting.sequence

    def _had(self, offer: Offer) -> bool:
        """Say whether a subscription has had an artifact, or may not have it any more."""
        if self._any_withdrawn and self.counting.look(offer.record.run).withdrawn is not None:
            return True
        parts = {"artifact": offer.record.sequence, "subscription": offer.target.subscription}
        return bool(self.db.execute(SQL["had"], parts).fetchone()[0])

    def _learn(self, target: Target) -> None:
        """Know a subscription, so that a tick can do what it has due."""
        if self.targets.get(target.subscription) is not target:
            self.targets[target.subscription] = target
            self.db.execute(SQL["declare"], (target.subscription,))

    def _delay(self, offer: Offer) -> None:
        target, record = offer.target, offer.record
        self._learn(target)
        self.db.execute(
            SQL["delay_offer"],
            (
                offer.not_before, target.subscription, target.agent, record.sequence, record.run, offer.slot, offer.key,
                self.counting.at,
            ),
        )  # fmt: skip

    # ---- collecting

    def _collect(self, offer: Offer, now: float, changes: Changes) -> float | None:
        self._learn(offer.target)
        collector = self.shelves.of(offer)
        due = collector.offer(offer, now, changes)
        if due is not None and (collector.due is None or due < collector.due):
            collector.due = due
        return due

    def _apply(self, changes: Changes, result: Committed) -> None:
        """Start what collectors completed; count and tell what they let go."""
        self.shelves.save()
        for target, groups, at in changes.fired:
            self.counting.at = at
            inputs = [record for group in groups for record in group]
            if target.batches and all(len(group) == 1 for group in groups):
                inputs.sort(key=_sequence)
            self.activations.start(target, tuple(inputs), groups if target.batches else ())
        self.counting.at = self.counting.sequence
        for name, change in changes.timed:
            self.counting.hold(name, change)
        freed = {name for name, change in changes.timed if change < 0}
        if freed:
            self._note_quiet(sorted(freed), result)
        if not changes.expired:
            return
        gone = [Expired(target.agent, record.run, (record,), reason) for target, record, reason in changes.expired]
        result.expired = [*result.expired, *gone]

    # ---- what becomes due

    def tick(self, limits: Mapping[str, int]) -> Committed:
        """Make due what is due, the earliest first."""
        now, result = self.now, Committed()
        while ripe := self._ripe(now):
            ripe.sort(key=_first)
            changes = Changes()
            for _, act in ripe:
                act(now, changes)
            self._apply(changes, result)
        return self._finish(result, limits, [], look=True)

    def _ripe(self, now: float) -> list[tuple[float, Callable[[float, Changes], None]]]:
        """Give what is due, with what is to be done about it."""
        ripe: list[tuple[float, Callable[[float, Changes], None]]] = []
        delayed, offers, collectors = (
            self.db.execute(SQL[name], (now, _MOST)).fetchall()
            for name in ("delayed_activations", "delayed_offers", "collectors_due")
        )
        for number, due, agent in delayed:
            ripe.append((due, self._waking(number, agent)))
        for number, due, subscription, sequence, slot, key in offers:
            (record,) = self.records.by_sequence([sequence])
            ripe.append((due, self._offering(number, Offer(self.targets[subscription], record, slot, key))))
        for number, subscription, scope, position, due in collectors:
            ripe.append((due, self._expiring(number, self.targets[subscription], (scope, position, due))))
        return ripe

    def _waking(self, number: int, agent: str) -> Callable[[float, Changes], None]:
        return lambda _now, _changes: self.activations.wake(number, agent)

    def _offering(self, number: int, offer: Offer) -> Callable[[float, Changes], None]:
        def act(now: float, changes: Changes) -> None:
            self.db.execute(SQL["end_delayed"], (self.counting.at, "offered", number))
            if offer.target.stages:
                _ = self._collect(offer, now, changes)
            else:
                self.activations.start(offer.target, (offer.record,))

        return act

    def _expiring(
        self, number: int, target: Target, place: tuple[str, int, float | None]
    ) -> Callable[[float, Changes], None]:
        def act(now: float, changes: Changes) -> None:
            collector = self.shelves.at(number, target, place)
            collector.due = collector.expire(now, changes)

        return act

    def flush(self, run: str | None, limits: Mapping[str, int]) -> Committed:
        """Fire partial batches."""
        now, changes, result = self.now, Changes(), Committed()
        for number, subscription, *place in self.db.execute(SQL["collectors_holding"], {"run": run}).fetchall():
            scope, position, due = place
            self.shelves.at(number, self.targets[subscription], (scope, position, due)).flush(now, changes)
        self._apply(changes, result)
        return self._finish(result, limits, [], look=True)

    # ---- leases

    def claim(self, limits: Mapping[str, int], most: int) -> Sequence[Lease]:
        """Lease what is ready."""
        return self.activations.claim(limits, most)

    def release(self, lease: Lease) -> Committed:
        """Make an activation ready again."""
        self.activations.give_back(lease)
        return self._finish(Committed(), None, [], look=True)

    def cancel(self, run: str | None, activation: str | None) -> Withdrawn:
        """End a run, or one activation."""
        mine = self.activations.open(run=run, id=activation)
        if run is not None:
            mine = [each for each in mine if each.run == run]
        running = tuple([each.id for each in mine if each.state.value == "running"])
        result = Committed()
        gone: list[Record] = []
        if run is not None:
            gone = self._withdraw(run, result)
        self.activations.cancel(mine)
        names = dict.fromkeys([name for each in mine for name in each.runs] + ([] if run is None else [run]))
        self._note_quiet(names, result)
        self._finish(result, None, [], look=True)
        return Withdrawn(running, tuple([each.id for each in mine]), tuple(gone), result)

    def _withdraw(self, run: str, result: Committed) -> list[Record]:
        """Refuse a run from now on; gives what it had in collectors, and what was held back."""
        self.counting.touch(run).withdrawn = self.counting.at
        self._any_withdrawn = True
        changes = Changes()
        gone = self.shelves.withdraw(run, changes)
        for number, sequence in self.db.execute(SQL["delayed_of_run"], (run,)).fetchall():
            self.db.execute(SQL["end_delayed"], (self.counting.at, "withdrawn", number))
            gone += self.records.by_sequence([sequence])
        self._apply(changes, result)
        return gone

    def retry(self, ids: Sequence[str] | None) -> list[str]:
        """Make failed activations ready again."""
        rows = self.db.execute(SQL["failures"], (None, None)).fetchall()
        failed = [self.records.activation(row) for row in rows if ids is None or row[1] in ids]
        for each in failed:
            self.activations.retry(each)
        self._finish(Committed(), None, [])
        return [each.id for each in failed]

    # ---- the end of each

    def _finish(
        self, result: Committed, limits: Mapping[str, int] | None, dues: Iterable[float], *, look: bool = False
    ) -> Committed:
        """Lease what became ready, write the counts, and say when the store next wants `tick`."""
        result.leases = self.activations.settle_down(limits)
        result.due = self.next_due() if look else min(dues, default=None)
        return result

    def next_due(self) -> float | None:
        """Say when something of what this program has is next due."""
        due: float | None = self.db.execute(SQL["next_due"]).fetchone()[0]
        return due

    def _note_quiet(self, names: Iterable[str], result: Committed) -> None:
        """Tell which of these runs have no work left, or perhaps none that any process can do."""
        now, perhaps = self.now, self._some_unserved
        quiet = [name for name in names if name not in result.quiet and (self.counting.is_quiet(name, now) or perhaps)]
        result.quiet = [*result.quiet, *quiet]


def _sequence(record: Record) -> int:
    return record.sequence


def _first(ripe: tuple[float, object]) -> float:
    return ripe[0]
