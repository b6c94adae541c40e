"""Batches -> receipts: claim, POST, record, then decide. Nothing outside this module writes outcomes.

Every POST is a claim and a request of its own, and its answer is recorded before anything else is done. One thread
decides; requests wait for their answers in others (`exchange`).
"""

import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol, assert_never

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_random_exponential

from rd_import.errors import AccountError, ServiceError
from rd_import.exchange import Exchange
from rd_import.key_line import KeyLine, Lost, Policy
from rd_import.ledger import Ledger
from rd_import.ledger_rows import Mark
from rd_import.outcome import (
    Accepted,
    ApiError,
    ContactLimit,
    NotAccepted,
    Observation,
    Receipt,
    Refused,
    Remedy,
    Undecided,
    Unknown,
    judge,
)
from rd_import.pace import Pace
from rd_import.pack import pack
from rd_import.values import Batch, PlannedEvent
from rdstation_events.api_facts import MAX_BODY_BYTES

LOG = logging.getLogger("rd_import")
MAX_ATTEMPTS: Final = 8  # of one batch that was proven not accepted
MAX_WAIT: Final = timedelta(minutes=5)  # of one batch, all its waits together
UNKNOWNS_IN_A_ROW: Final = 3
DEFER_AT_LEAST: Final = timedelta(minutes=1)
DEFER_AT_MOST: Final = timedelta(days=1)
SMALLEST_BODY: Final = 1_000  # bytes
FINISH_WITHIN: Final = timedelta(seconds=55)  # what is in flight when a person stops the run
LOOK_AGAIN_FOR: Final = timedelta(seconds=60)  # at keys that another run is sending
LOOK_AGAIN_EVERY: Final = timedelta(seconds=1)
BEAT_EVERY: Final = timedelta(seconds=20)
FRESH_FOR: Final = timedelta(
    minutes=5
)  # a contact that was just created is not usable at once (the vendor: minutes)
BACKOFF: Final = wait_random_exponential(multiplier=1, min=0.2, max=60)
WAITING_TASKS: Final = (
    64  # batches in memory that wait for their time; the others wait in the run folder
)


class Clock(Protocol):
    """Time, given from outside so that tests need not wait."""

    def now(self) -> datetime:
        """Give the time, aware and in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How far a run may go.

    Args:
        policy: What may be sent beyond what is free.
        max_unknown: Batches without a usable answer in 24 hours, over all runs of the account.
        refused_allowed: Tells, of events refused and decided, whether more refusals than these stop the run.
        workers: Requests that may wait for their answers at once.
        creates_contacts: The events create contacts, which others must leave alone for some minutes.
        needs_contacts: The events are not processed for a contact that was created just now.
        ecommerce: The events are of e-commerce, which some accounts take only one by one.
        max_per_contact: Events of one contact in 24 hours, where no 429 taught another figure.
        heavy_contacts: Contacts that have more events in this run than that.
    """

    policy: Policy = Policy()  # noqa: RUF009 -- frozen
    max_unknown: int = 10
    refused_allowed: Callable[[int, int], bool] = lambda refused, decided: (
        refused <= max(20, decided // 100)
    )
    workers: int = 16
    creates_contacts: bool = False
    needs_contacts: bool = False
    ecommerce: bool = False
    max_per_contact: int = 120
    heavy_contacts: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Sending:
    """How sending goes: requests made, events decided, and why it stopped early."""

    requests: int = 0
    accepted_events: int = 0
    decided_events: int = 0
    refused_events: int = 0
    unknown_requests: int = 0
    stopped_by: str | None = None  # outage, refused, account, service, person
    error: ApiError | None = None
    proof: str | None = None
    wait: tuple[datetime, str] | None = None  # until when the last answer has it wait, and why


@dataclass(frozen=True, slots=True)
class _Task:
    """Events that are to go together; `number` is that of their batch."""

    number: int
    events: Sequence[PlannedEvent]
    attempts: int = 0
    waited: timedelta = timedelta()
    renewed: bool = False
    ready_at: datetime | None = None
    apart: bool = False  # refused by an earlier run with the same content: not counted by the fuse


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request that waits for its answer."""

    mark: Mark
    task: _Task
    contacts: frozenset[bytes]


@dataclass(slots=True)
class _Later:
    """Events that another run is sending; they are looked at again until `until`."""

    task: _Task
    until: datetime
    next_look: datetime


class Sender:
    """Sends one run's events. Make a new one for each run."""

    def __init__(  # noqa: PLR0913 -- what sending touches, all by name
        self,
        *,
        ledger: Ledger,
        exchange: Exchange,
        account: int,
        run: str,
        process: str,
        clock: Clock,
        pace: Pace,
        max_body: int,
        rules: Rules | None = None,
        stop_asked: Callable[[], bool] = lambda: False,
        on_progress: Callable[[Sending], None] = lambda _: None,
        dice: random.Random | None = None,
    ) -> None:
        self._ledger = ledger
        self._exchange = exchange
        self._account = account
        self._run = run
        self._clock = clock
        self._pace = pace
        self._max_body = max_body
        self._rules = rules or Rules()
        self._stop_asked = stop_asked
        self._on_progress = on_progress
        self._dice = dice or random.SystemRandom()
        self._process = process
        self._queue: deque[_Task] = deque()
        self._flights: dict[int, _Flight] = {}
        self._later: list[_Later] = []
        self._batches: Iterator[Batch] = iter(())
        self._resent: set[bytes] = set()
        self._signatures: list[tuple[str, str]] = []
        self._slot: datetime | None = None
        self._hold_until: datetime | None = None
        self._stop_by: datetime | None = None
        self._beaten: datetime | None = None
        self._width = 1
        self._open_unknowns = 0
        self._per_contact: dict[bytes, int] = {}
        self._limited: set[bytes] = set()
        self.sending = Sending()

    def send(self, events: Iterable[PlannedEvent]) -> Sending:
        """Send events in order until all are decided or something stops the run.

        Raises:
            LedgerError: The ledger cannot be used; what is in flight stays marked as sent.
        """
        for sending in self.steps(events):
            self._on_progress(sending)
        return self.sending

    def steps(self, events: Iterable[PlannedEvent]) -> Iterator[Sending]:
        """Do what `send` does, one turn at a time."""
        now = self._clock.now()
        self._beaten = now
        self._ledger.reap(
            self._account, now=now, by_heartbeat=not self._rules.policy.resend_unknown
        )
        self._batches = self._packed(iter(events))
        self._open_unknowns = self._ledger.open_unknowns(self._account, now=now)
        if self._open_unknowns >= self._rules.max_unknown:
            self._stop(
                "outage",
                None,
                f"{self._open_unknowns} requests of the last 24 hours have no usable answer yet",
            )
        while self._step():
            yield self.sending

    # --- one turn of the loop

    def _step(self) -> bool:
        """Start what may start, then wait for an answer or for time to pass; False when all is done."""
        if self._stop_asked() and self.sending.stopped_by is None:
            self._stop("person", None, "a person stopped the run")
        wake = self._fill()
        now = self._clock.now()
        if not self._flights and (self.sending.stopped_by is not None or wake is None):
            return False
        if self._stop_by is not None and now >= self._stop_by:
            self._abandon(now)
            return False
        moments = [
            moment for moment in (wake, self._stop_by, now + BEAT_EVERY) if moment is not None
        ]
        for handle, seen in self._exchange.wait(max(0.0, (min(moments) - now).total_seconds())):
            flight = self._flights.pop(handle, None)
            if flight is not None:
                self._queue.extendleft(reversed(self._record(flight.mark, flight.task, seen)))
        self._beat()
        return True

    def _fill(self) -> datetime | None:
        """Start requests while they may; give the moment to look again, or None if nothing is left to start."""
        while self.sending.stopped_by is None:
            task, wake = self._next_task()
            if task is None:
                return wake
            if len(self._flights) >= self._allowed_width() or self._contacts_in_flight(task):
                self._queue.appendleft(task)
                return self._clock.now() + BEAT_EVERY
            moment = self._slot_moment()
            if moment is not None:
                self._queue.appendleft(task)
                return moment
            if self._start(task):
                self._slot = None
        return None

    def _next_task(self) -> tuple[_Task | None, datetime | None]:
        """Give a task that may go now, or the moment when one may."""
        now = self._clock.now()
        if self._hold_until is not None and now < self._hold_until:
            return None, self._hold_until
        while True:
            for _ in range(len(self._queue)):
                task = self._queue.popleft()
                if task.ready_at is None or task.ready_at <= now:
                    return task, None
                self._queue.append(task)
            wakes = [task.ready_at for task in self._queue if task.ready_at is not None]
            if (
                len(self._queue) < WAITING_TASKS
                and (batch := next(self._batches, None)) is not None
            ):
                self._queue.extend(self._tasks(batch))
                continue
            if not self._flights:
                known = len(self._queue)
                wakes += self._look_again(now)
                if len(self._queue) > known:
                    continue
            return None, min(wakes, default=now + BEAT_EVERY if self._flights else None)

    def _allowed_width(self) -> int:
        """The first request goes alone, so does each after an unknown; never more than may still be lost."""
        return max(
            1, min(self._width, self._rules.workers, self._rules.max_unknown - self._open_unknowns)
        )

    def _contacts_in_flight(self, task: _Task) -> bool:
        mine = {event.contact for event in task.events}
        return any(not mine.isdisjoint(flight.contacts) for flight in self._flights.values())

    def _slot_moment(self) -> datetime | None:
        """Give the moment of this process's reserved slot while that lies ahead."""
        if not self._pace.interval_s:
            return None
        now = self._clock.now()
        if self._slot is not None and now - self._slot > timedelta(seconds=self._pace.interval_s):
            self._slot = None  # unused for too long: used now, it would crowd the next one
        if self._slot is None:
            self._slot = self._ledger.take_slot(
                self._account, now=now, interval_s=self._pace.interval_s
            )
        return self._slot if self._slot > now else None

    def _start(self, task: _Task) -> bool:
        """Claim a task's events and send what was won; False if nothing was."""
        now = self._clock.now()
        mark = Mark(
            f"{self._dice.getrandbits(96):024x}",
            self._account,
            self._run,
            self._process,
            task.number,
        )
        events = self._within_contact_limits(task)
        if not events:
            return False
        claim = self._ledger.claim(
            mark, events, now=now, policy=self._rules.policy, once=self._resent
        )
        self._note_lost(task, claim.lost, now)
        if not claim.won:
            return False
        self._resent |= claim.doubtful
        self.sending.requests += 1
        self.sending.wait = None
        handle = self._exchange.start([event.body for event in claim.won])
        contacts = frozenset(event.contact for event in claim.won)
        self._flights[handle] = _Flight(mark, replace(task, events=claim.won), contacts)
        return True

    def _abandon(self, now: datetime) -> None:
        """A person stopped the run and some answers did not come in time: their fate is unknown."""
        for flight in self._flights.values():
            self._ledger.record_unknown(
                flight.mark, proof="no answer before the run was stopped", http_status=None, now=now
            )
        self._flights.clear()

    def _beat(self) -> None:
        now = self._clock.now()
        if self._beaten is None or now - self._beaten >= BEAT_EVERY:
            self._ledger.beat(self._process, now=now)
            self._beaten = now

    # --- what goes

    def _packed(self, events: Iterator[PlannedEvent]) -> Iterator[Batch]:
        """Pack lazily: after a tripped fuse the first body holds one event; some accounts take no more than one."""
        facts = self._ledger.facts(self._account)
        number = 0
        if facts.tripped:
            for event in events:
                number += 1
                yield Batch(number, [event])
                break
        alone = self._rules.ecommerce and facts.ecommerce_in_batch is False
        if facts.partial or alone or self._exchange.max_events == 1:
            yield from (Batch(number + at, [event]) for at, event in enumerate(events, start=1))
            return
        apart: list[PlannedEvent] = []
        for batch in pack(
            _without_refused(events, apart), max_bytes=self._max_body, largest=MAX_BODY_BYTES
        ):
            number += 1
            yield Batch(number, batch.events)
        for batch in pack(apart, max_bytes=self._max_body, largest=MAX_BODY_BYTES):
            number += 1
            yield Batch(number, batch.events, apart=True)

    def _tasks(self, batch: Batch) -> Iterator[_Task]:
        """Cut a batch by what was learnt since it was packed, and hold back what must wait."""
        ready, fresh = self._without_fresh_contacts(batch.events)
        for moment, events in fresh.items():
            yield _Task(batch.number, events, ready_at=moment, apart=batch.apart)
        if sum(len(event.body) + 1 for event in ready) + 1 > self._max_body and len(ready) > 1:
            yield from (
                _Task(batch.number, part.events, apart=batch.apart) for part in self._fitting(ready)
            )
        elif ready:
            yield _Task(batch.number, ready, apart=batch.apart)

    def _within_contact_limits(self, task: _Task) -> Sequence[PlannedEvent]:
        """Defer the events of a contact beyond what the account takes a day."""
        heavy = [event for event in task.events if event.contact in self._rules.heavy_contacts]
        if not heavy:
            return task.events
        now = self._clock.now()
        limit = self._ledger.facts(self._account).max_per_contact or self._rules.max_per_contact
        over: set[int] = set()
        planned: dict[bytes, int] = {}
        if not self._per_contact:
            self._per_contact = self._ledger.contact_events(
                self._account, self._rules.heavy_contacts, since=now - DEFER_AT_MOST
            )
        for event in heavy:
            planned[event.contact] = planned.get(event.contact, 0) + 1
            if self._per_contact[event.contact] + planned[event.contact] > limit:
                over.add(event.ordinal)
        mark = Mark("held back", self._account, self._run, self._process, task.number)
        held = [event for event in heavy if event.ordinal in over]
        if held:
            self._ledger.hold_back(mark, held, not_before=now + DEFER_AT_MOST, now=now)
        return [event for event in task.events if event.ordinal not in over]

    def _without_fresh_contacts(
        self, events: Sequence[PlannedEvent]
    ) -> tuple[Sequence[PlannedEvent], dict[datetime, list[PlannedEvent]]]:
        """Set aside events of contacts that were created too recently to be used."""
        later: dict[datetime, list[PlannedEvent]] = {}
        if not self._rules.needs_contacts:
            return events, later
        until = self._ledger.fresh_until(
            self._account, {event.contact for event in events}, now=self._clock.now()
        )
        for event in events:
            if event.contact in until:
                later.setdefault(until[event.contact], []).append(event)
        return [event for event in events if event.contact not in until], later

    def _fitting(self, events: Sequence[PlannedEvent]) -> Iterator[Batch]:
        return pack(events, max_bytes=self._max_body, largest=MAX_BODY_BYTES)

    def _note_lost(self, task: _Task, lost: Mapping[bytes, Lost], now: datetime) -> None:
        """Keep in mind the events that another run is sending."""
        waiting = [event for event in task.events if lost.get(event.key) is Lost.SENT]
        if waiting:
            kept = replace(task, events=waiting, ready_at=None)
            self._later.append(_Later(kept, now + LOOK_AGAIN_FOR, now + LOOK_AGAIN_EVERY))

    def _look_again(self, now: datetime) -> list[datetime]:
        """Try again what another run was sending; its row is `unknown` after a minute."""
        if not self._later:
            return []
        self._ledger.reap(
            self._account, now=now, by_heartbeat=not self._rules.policy.resend_unknown
        )
        wakes = []
        for one in list(self._later):
            if now < one.next_look:
                wakes.append(one.next_look)
                continue
            lines = self._ledger.lines(self._account, [event.key for event in one.task.events])
            free = [
                event
                for event in one.task.events
                if lines.get(event.key, KeyLine()).request is None
            ]
            busy = [
                event
                for event in one.task.events
                if lines.get(event.key, KeyLine()).request is not None
            ]
            if free:
                self._queue.append(replace(one.task, events=free))
            if busy and now < one.until:
                one.task, one.next_look = replace(one.task, events=busy), now + LOOK_AGAIN_EVERY
                wakes.append(one.next_look)
            else:
                self._later.remove(one)
        return wakes

    # --- what came back

    def _record(self, mark: Mark, task: _Task, seen: Observation) -> list[_Task]:
        """Record what an answer proves, before anything else; give what is left to send."""
        receipt = judge(seen, len(task.events))
        if (
            isinstance(receipt, Refused | Undecided | ContactLimit)
            and self._ledger.facts(self._account).partial
        ):
            receipt = self._in_partial_account(receipt, len(task.events))
        left = self._recorded(mark, task, seen, receipt)
        LOG.info(
            "batch.%s number=%d events=%d attempt=%d proof=%r",
            type(receipt).__name__.lower(),
            task.number,
            len(task.events),
            task.attempts + 1,
            receipt.proof,
        )
        return left

    @staticmethod
    def _in_partial_account(receipt: Refused | Undecided | ContactLimit, events: int) -> Receipt:
        """Where a refused body may have accepted some of its events, only a body of one proves anything."""
        return (
            receipt
            if events == 1
            else Unknown(f"{receipt.proof}, but this account accepts bodies in part")
        )

    def _recorded(
        self, mark: Mark, task: _Task, seen: Observation, receipt: Receipt
    ) -> list[_Task]:
        now = self._clock.now()
        match receipt:
            case Accepted():
                self._ledger.record_accepted(
                    mark,
                    task.events,
                    receipt.event_uuids,
                    batch_uuid=receipt.batch_uuid,
                    proof=receipt.proof,
                    now=now,
                    fresh_for=FRESH_FOR if self._rules.creates_contacts else None,
                )
                self._note_contacts(task.events)
                self._note_accepted(len(task.events))
                return []
            case Refused():
                self._ledger.record_refused(
                    mark,
                    task.events,
                    receipt.errors,
                    proof=receipt.proof,
                    http_status=seen.status,
                    now=now,
                )
                if not task.apart:
                    self._note_refused(
                        receipt.errors, isolated=len(receipt.errors) == len(task.events)
                    )
                rest = [event for at, event in enumerate(task.events) if at not in receipt.errors]
                return [_Task(task.number, rest, apart=task.apart)] if rest else []
            case Undecided():
                self._release(mark, task, "undecided", receipt.proof, seen)
                return _halves(task)
            case ContactLimit():
                return self._contact_limited(mark, task, seen, receipt)
            case NotAccepted():
                self._release(mark, task, "not accepted", receipt.proof, seen)
                return self._remedied(task, seen, receipt)
            case Unknown():
                self._ledger.record_unknown(
                    mark, proof=receipt.proof, http_status=seen.status, now=now
                )
                self._note_contacts(task.events)
                self._note_unknown(receipt.proof)
                return []
            case _:
                assert_never(receipt)

    def _release(
        self, mark: Mark, task: _Task, outcome: str, proof: str, seen: Observation
    ) -> None:
        self._ledger.record_released(
            mark,
            task.events,
            outcome=outcome,
            proof=proof,
            http_status=seen.status,
            now=self._clock.now(),
        )
        self._resent -= {event.key for event in task.events}  # nothing was sent again after all

    def _contact_limited(
        self, mark: Mark, task: _Task, seen: Observation, receipt: ContactLimit
    ) -> list[_Task]:
        """Defer the events of the contact that the answer names, or that is the only one; else bisect."""
        contacts = {event.contact for event in task.events}
        if len(contacts) > 1:
            contacts = {
                event.contact
                for event in task.events
                if _email_of(event.body) in receipt.text.lower()
            }
        if len(contacts) != 1:
            self._release(mark, task, "contact limit", receipt.proof, seen)
            return _halves(task)
        now = self._clock.now()
        wait = max(DEFER_AT_LEAST, min(DEFER_AT_MOST, timedelta(seconds=receipt.wait_s)))
        (contact,) = contacts
        mine = [at for at, event in enumerate(task.events) if event.contact == contact]
        held = set(mine[self._still_allowed(contact, receipt.maximum, len(mine)) :])
        self._ledger.record_deferred(
            mark, task.events, held, not_before=now + wait, proof=receipt.proof, now=now
        )
        if receipt.maximum is not None:
            self._ledger.learn(self._account, max_per_contact=receipt.maximum)
        rest = [event for at, event in enumerate(task.events) if at not in held]
        return [_Task(task.number, rest, apart=task.apart)] if rest else []

    def _still_allowed(self, contact: bytes, maximum: int | None, count: int) -> int:
        """Give how many events of a contact may still go under a limit just learnt; none at the second answer."""
        if maximum is None or contact in self._limited:
            return 0
        self._limited.add(contact)
        since = self._clock.now() - DEFER_AT_MOST
        gone = self._ledger.contact_events(self._account, [contact], since=since)
        return max(0, min(maximum - gone[contact], count - 1))

    def _remedied(self, task: _Task, seen: Observation, receipt: NotAccepted) -> list[_Task]:
        match receipt.remedy:
            case Remedy.HALVE if len(task.events) > 1 and self._max_body > SMALLEST_BODY:
                size = sum(len(event.body) + 1 for event in task.events) + 1
                self._max_body = max(SMALLEST_BODY, size // 2 + 1)
                self._ledger.learn(self._account, max_body=self._max_body)
                return [
                    _Task(task.number, part.events, apart=task.apart)
                    for part in self._fitting(task.events)
                ]
            case Remedy.RETRY:
                return self._retried(task, receipt)
            case Remedy.REFRESH if not task.renewed:
                return self._renewed(task, seen, receipt)
            case Remedy.HALVE | Remedy.REFRESH | Remedy.STOP:
                account = receipt.remedy is Remedy.REFRESH or seen.status == 403
                self._stop("account" if account else "service", receipt.error, receipt.proof)
                return []
            case _:
                assert_never(receipt.remedy)

    def _retried(self, task: _Task, receipt: NotAccepted) -> list[_Task]:
        wait = timedelta(
            seconds=receipt.wait_s if receipt.wait_s is not None else _backoff(task.attempts + 1)
        )
        if task.attempts + 1 >= MAX_ATTEMPTS or task.waited + wait > MAX_WAIT:
            self._stop("outage", receipt.error, receipt.proof)
            return []
        ready = self._clock.now() + wait
        if receipt.wait_s is not None:  # the server speaks of the account, not of this body
            self._hold_until = max(ready, self._hold_until or ready)
            self._ledger.hold_slots(self._account, ready)
        self.sending.wait = (ready, receipt.proof)
        LOG.info(
            "batch.waits number=%d wait_s=%.1f proof=%r",
            task.number,
            wait.total_seconds(),
            receipt.proof,
        )
        return [
            replace(task, attempts=task.attempts + 1, waited=task.waited + wait, ready_at=ready)
        ]

    def _renewed(self, task: _Task, seen: Observation, receipt: NotAccepted) -> list[_Task]:
        """Renew the token once, however many requests found it ended, and send once more."""
        try:
            asked = self._exchange.renew(seen.generation)
        except AccountError:
            self._stop("account", receipt.error, receipt.proof)
            return []
        except ServiceError as error:
            self._stop("outage", receipt.error, str(error).partition("\n")[0])
            return []
        return [replace(task, renewed=asked)]

    def _note_contacts(self, events: Sequence[PlannedEvent]) -> None:
        """Count what may be registered of contacts that come near their limit."""
        for event in events:
            if event.contact in self._per_contact:
                self._per_contact[event.contact] += 1

    # --- the fuse

    def _note_accepted(self, events: int) -> None:
        self.sending.accepted_events += events
        self.sending.decided_events += events
        self._signatures.clear()
        self._width = self._rules.workers

    def _note_refused(self, errors: Mapping[int, ApiError], *, isolated: bool) -> None:
        self.sending.refused_events += len(errors)
        self.sending.decided_events += len(errors)
        first = next(iter(errors.values()))
        if isolated:
            self._signatures.append((first.code, first.path.partition("].")[2] or first.path))
        alike = len(self._signatures) >= 3 and len(set(self._signatures[-3:])) == 1
        if alike or not self._rules.refused_allowed(
            self.sending.refused_events, self.sending.decided_events
        ):
            self._stop("refused", first, "RD Station refuses event after event")

    def _note_unknown(self, proof: str) -> None:
        self.sending.unknown_requests += 1
        self._width = 1
        self._open_unknowns += 1
        in_a_row = self._ledger.facts(self._account).unknowns_in_a_row
        if in_a_row >= UNKNOWNS_IN_A_ROW or self._open_unknowns >= self._rules.max_unknown:
            self._ledger.learn(self._account, tripped=True)
            self._stop("outage", None, proof)

    def _stop(self, cause: str, error: ApiError | None, proof: str) -> None:
        if self.sending.stopped_by is None:
            self.sending.stopped_by, self.sending.error, self.sending.proof = cause, error, proof
            self._stop_by = self._clock.now() + FINISH_WITHIN if cause == "person" else None


def _without_refused(
    events: Iterable[PlannedEvent], apart: list[PlannedEvent]
) -> Iterator[PlannedEvent]:
    """Give events, those aside that were refused before with the same content."""
    for event in events:
        if event.refused_before:
            apart.append(event)
        else:
            yield event


def _halves(task: _Task) -> list[_Task]:
    middle = len(task.events) // 2
    return [
        _Task(task.number, half, apart=task.apart)
        for half in (task.events[:middle], task.events[middle:])
    ]


def _backoff(attempt: int) -> float:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    return float(BACKOFF(state))


def _email_of(body: bytes) -> str:
    """Give the e-mail of an encoded event; looked at only where an answer names a contact."""
    return str(json.loads(body)["payload"]["email"]).lower()
