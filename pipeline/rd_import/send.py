"""Batches -> receipts: claim, POST, record, then decide. Nothing outside this module writes outcomes.

Every POST is a claim and a request of its own, and its answer is recorded before anything else is done.
"""

import logging
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, assert_never

from rd_import.ledger import Ledger, Mark
from rd_import.outcome import (
    Accepted,
    ApiError,
    ContactLimit,
    NotAccepted,
    Observation,
    Refused,
    Remedy,
    Undecided,
    Unknown,
    judge,
)
from rd_import.pack import body_of, pack
from rd_import.service import Service
from rd_import.values import Batch, PlannedEvent

LOG = logging.getLogger("rd_import")
MAX_ATTEMPTS: Final = 8  # of one batch that was proven not accepted
MAX_WAIT_S: Final = 300.0  # of one batch, all its waits together
UNKNOWNS_IN_A_ROW: Final = 3
DEFER_AT_LEAST: Final = timedelta(minutes=1)
DEFER_AT_MOST: Final = timedelta(days=1)
SMALLEST_BODY: Final = 1_000


class Clock(Protocol):
    """Time and rest, given from outside so that tests need neither."""

    def now(self) -> datetime:
        """Give the time, aware and in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two requests of an account; 0 leaves requests unpaced."""

    interval_s: float = 0.0

    @classmethod
    def per_minute(cls, requests: float) -> "Pace":
        """Stay at 99 % of an allowance, so that clocks that differ do not cost a 429."""
        return cls(60.0 / (requests * 0.99))


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: batches without a usable answer, and events that RD Station refuses."""

    max_unknown: int = 10
    max_refused_share: float = 0.01
    max_refused_least: int = 20


@dataclass(slots=True)
class Sending:
    """How sending went: requests made, why it stopped early, and in which words."""

    requests: int = 0
    stopped_by: str | None = None  # outage, refused, account, service, person
    error: ApiError | None = None
    proof: str | None = None
    accepted_events: int = 0
    decided_events: int = 0
    refused_events: int = 0
    unknown_batches: int = 0
    unknowns_in_a_row: int = 0
    refusals_in_a_row: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Task:
    """Events that are still to be sent together; `number` is that of their batch."""

    number: int
    events: Sequence[PlannedEvent]
    attempts: int = 0
    waited_s: float = 0.0


class Sender:
    """Sends one run's batches, one request at a time."""

    def __init__(  # noqa: PLR0913 -- what sending touches, all by name
        self,
        *,
        ledger: Ledger,
        service: Service,
        account: int,
        run: str,
        clock: Clock,
        pace: Pace,
        max_body: int,
        limits: Limits | None = None,
        stop_asked: Callable[[], bool] = lambda: False,
        on_progress: Callable[[Sending], None] = lambda _: None,
        dice: random.Random | None = None,
    ) -> None:
        self._ledger = ledger
        self._service = service
        self._account = account
        self._run = run
        self._process = secrets.token_hex(8)
        self._clock = clock
        self._pace = pace
        self._max_body = max_body
        self._limits = limits or Limits()
        self._stop_asked = stop_asked
        self._on_progress = on_progress
        self._dice = dice or random.Random()  # noqa: S311 -- jitter, no secret
        self.sending = Sending()

    def send(self, batches: Iterator[Batch]) -> Sending:
        """Send batches in order until all are decided or something stops the run."""
        for batch in batches:
            waiting = deque(self._tasks(batch))
            while waiting and self.sending.stopped_by is None:
                if self._stop_asked():
                    self.sending.stopped_by = "person"
                    break
                waiting.extendleft(reversed(self._once(waiting.popleft())))
                self._on_progress(self.sending)
            if self.sending.stopped_by is not None:
                break
        return self.sending

    def _tasks(self, batch: Batch) -> list[_Task]:
        """Cut a batch that was packed before the account was found to take less."""
        if sum(len(event.body) + 1 for event in batch.events) + 1 <= self._max_body:
            return [_Task(batch.number, batch.events)]
        return [_Task(batch.number, part.events) for part in self._fitting(batch.events)]

    def _once(self, task: _Task) -> list[_Task]:
        """Make one request of a task's events; give what is left to send."""
        self._wait_for_slot()
        mark = Mark(secrets.token_hex(12), self._account, self._run, self._process, task.number)
        claim = self._ledger.claim(mark, task.events, now=self._clock.now())
        if not claim.won:
            return []
        self.sending.requests += 1
        seen = self._service.post(body_of(claim.won))
        return self._record(mark, _Task(task.number, claim.won, task.attempts, task.waited_s), seen)

    def _wait_for_slot(self) -> None:
        if self._pace.interval_s:
            now = self._clock.now()
            slot = self._ledger.take_slot(self._account, now=now, interval_s=self._pace.interval_s)
            if slot > now:
                self._clock.sleep((slot - now).total_seconds())

    def _record(self, mark: Mark, task: _Task, seen: Observation) -> list[_Task]:
        events, now = task.events, self._clock.now()
        receipt = judge(seen, len(events))
        LOG.info("batch.%s number=%d events=%d proof=%r", type(receipt).__name__.lower(), task.number, len(events), receipt.proof)
        match receipt:
            case Accepted():
                self._ledger.record_accepted(
                    mark, events, receipt.event_uuids, batch_uuid=receipt.batch_uuid, proof=receipt.proof, now=now
                )
                self._note_accepted(len(events))
                return []
            case Refused():
                self._ledger.record_refused(
                    mark, events, receipt.errors, proof=receipt.proof, http_status=seen.status, now=now
                )
                self._note_refused(receipt.errors)
                return self._rest(task, [e for at, e in enumerate(events) if at not in receipt.errors])
            case Undecided():
                self._release(mark, task, "undecided", receipt.proof, seen)
                return self._halves(task)
            case ContactLimit():
                if len({event.contact for event in events}) > 1:
                    self._release(mark, task, "contact limit", receipt.proof, seen)
                    return self._halves(task)
                wait = max(DEFER_AT_LEAST, min(DEFER_AT_MOST, timedelta(seconds=receipt.wait_s)))
                self._ledger.record_deferred(mark, events, not_before=now + wait, proof=receipt.proof, now=now)
                return []
            case NotAccepted():
                self._release(mark, task, "not accepted", receipt.proof, seen)
                return self._remedied(task, receipt)
            case Unknown():
                self._ledger.record_unknown(mark, proof=receipt.proof, http_status=seen.status, now=now)
                self._note_unknown(receipt.proof)
                return []
            case _:
                assert_never(receipt)

    def _release(self, mark: Mark, task: _Task, outcome: str, proof: str, seen: Observation) -> None:
        self._ledger.record_released(
            mark, task.events, outcome=outcome, proof=proof, http_status=seen.status, now=self._clock.now()
        )

    def _rest(self, task: _Task, events: list[PlannedEvent]) -> list[_Task]:
        return [_Task(task.number, events)] if events else []

    def _halves(self, task: _Task) -> list[_Task]:
        middle = len(task.events) // 2
        return [_Task(task.number, task.events[:middle]), _Task(task.number, task.events[middle:])]

    def _remedied(self, task: _Task, receipt: NotAccepted) -> list[_Task]:
        match receipt.remedy:
            case Remedy.HALVE if len(task.events) > 1 and self._max_body > SMALLEST_BODY:
                size = sum(len(event.body) + 1 for event in task.events) + 1
                self._max_body = max(SMALLEST_BODY, size // 2 + 1)
                self._ledger.learn_max_body(self._account, self._max_body)
                return [_Task(task.number, part.events) for part in self._fitting(task.events)]
            case Remedy.RETRY if task.attempts + 1 < MAX_ATTEMPTS:
                wait = self._backoff(task.attempts, receipt.wait_s)
                if task.waited_s + wait <= MAX_WAIT_S:
                    self._clock.sleep(wait)
                    return [_Task(task.number, task.events, task.attempts + 1, task.waited_s + wait)]
                self._stop("outage", receipt.error, receipt.proof)
            case Remedy.RETRY:
                self._stop("outage", receipt.error, receipt.proof)
            case Remedy.HALVE | Remedy.REFRESH | Remedy.STOP:
                account = receipt.remedy is Remedy.REFRESH or receipt.proof.startswith("403")
                self._stop("account" if account else "service", receipt.error, receipt.proof)
            case _:
                assert_never(receipt.remedy)
        return []

    def _fitting(self, events: Sequence[PlannedEvent]) -> Iterator[Batch]:
        largest = max(len(event.body) for event in events) + 2
        return pack(events, max_bytes=max(self._max_body, largest))

    def _backoff(self, attempts: int, asked_s: float | None) -> float:
        if asked_s is not None:
            return asked_s
        return float(self._dice.uniform(0.5, 1.0) * min(60.0, 2.0**attempts))

    def _stop(self, cause: str, error: ApiError | None, proof: str) -> None:
        self.sending.stopped_by, self.sending.error, self.sending.proof = cause, error, proof

    def _note_accepted(self, events: int) -> None:
        self.sending.accepted_events += events
        self.sending.decided_events += events
        self.sending.unknowns_in_a_row = 0
        self.sending.refusals_in_a_row.clear()

    def _note_refused(self, errors: Mapping[int, ApiError]) -> None:
        self.sending.refused_events += len(errors)
        self.sending.decided_events += len(errors)
        first = next(iter(errors.values()))
        self.sending.refusals_in_a_row.append((first.code, first.path.partition("].")[2] or first.path))
        last = self.sending.refusals_in_a_row[-3:]
        allowed = max(self._limits.max_refused_least, self._limits.max_refused_share * self.sending.decided_events)
        if (len(last) == 3 and len(set(last)) == 1) or self.sending.refused_events > allowed:  # noqa: PLR2004
            self._stop("refused", first, "RD Station refuses event after event")

    def _note_unknown(self, proof: str) -> None:
        self.sending.unknown_batches += 1
        self.sending.unknowns_in_a_row += 1
        if (
            self.sending.unknowns_in_a_row >= UNKNOWNS_IN_A_ROW
            or self.sending.unknown_batches >= self._limits.max_unknown
        ):
            self._stop("outage", None, proof)
