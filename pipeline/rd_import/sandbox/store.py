"""What arrived, in the order it was accepted.

A million events must fit, so a request's body is kept as the bytes that came and parsed when
somebody looks, and its uuids as 16 bytes each.
"""

import json
import re
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One accepted event; an event sent singly is a batch of one."""

    event_uuid: str
    event_batch_uuid: str
    event_batch_index: int
    event: dict[str, object]
    """The event as received."""
    received_at: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One POST and its answer."""

    path: str
    """Without the query, which may hold an API key."""
    status: int
    """Of the answer; 0 where there was none."""
    body_bytes: int
    events: int
    """Events in the body, accepted or not; 0 where it was refused unread."""
    received_at: datetime
    """Aware, UTC."""
    errors: tuple[Mapping[str, object], ...] = ()
    """The first errors of the answer, as sent."""
    packed_uuids: bytes = field(default=b"", repr=False)
    """16 bytes each: the batch's own, then one per event. Empty unless accepted."""
    fault: str = ""
    """The kind of fault that struck it."""

    @property
    def event_batch_uuid(self) -> str | None:
        """The batch's uuid, or None where nothing was accepted."""
        return batch_uuid_of(self.packed_uuids) if self.packed_uuids else None

    @property
    def event_uuids(self) -> tuple[str, ...]:
        """The uuids of the events accepted, told or not, in the order of the request."""
        return uuids_of(self.packed_uuids)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The events of one body that are kept."""

    body: bytes
    types: Sequence[str]
    """Of the events kept."""
    packed_uuids: bytes
    """16 bytes each: the batch's own, then one per event kept."""
    indexes: Sequence[int] | None = None
    """Their positions in the body; None where all are kept."""


@dataclass(frozen=True, slots=True)
class _Late:
    """Events that are kept from a later moment on."""

    due: datetime
    number: int
    """Of the request, in the order answered."""
    accepted: Accepted


@dataclass(frozen=True, slots=True)
class Stats:
    """How much arrived."""

    requests: int
    accepted_events: int
    refused_requests: int
    """Answered with anything but 200, or not at all."""
    by_type: Mapping[str, int]
    by_status: Mapping[int, int]
    """Requests; 0 stands for no answer."""
    by_fault: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Batch:
    body: bytes
    types: frozenset[str]
    packed_uuids: bytes
    indexes: Sequence[int] | None
    received_at: datetime

    def events(self) -> list[StoredEvent]:
        parsed = json.loads(self.body)
        events = parsed if isinstance(parsed, list) else [parsed]
        indexes = range(len(events)) if self.indexes is None else self.indexes
        batch_uuid, uuids = batch_uuid_of(self.packed_uuids), uuids_of(self.packed_uuids)
        return [
            StoredEvent(uuid, batch_uuid, index, events[index], self.received_at)
            for uuid, index in zip(uuids, indexes, strict=True)
        ]

    def may_hold(self, event_type: str, contact: str) -> bool:
        """Tell without parsing whether a search can be answered from here."""
        if event_type and event_type not in self.types:
            return False
        # Bytes tell only where the address is written as itself: plain, and nothing escaped.
        if not _PLAIN.fullmatch(contact) or b"\\u" in self.body:
            return True
        return contact.encode() in self.body.lower()


class Store:
    """The memory of a sandbox; safe to use from many threads."""

    def __init__(self, *, clock: Callable[[], datetime], entropy: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._requests: list[StoredRequest] = []
        self._batches: list[_Batch] = []
        self._ends: list[int] = []  # events in the batches up to and including this one
        self._by_type: Counter[str] = Counter()
        self._by_status: Counter[int] = Counter()
        self._by_fault: Counter[str] = Counter()
        self._late: list[_Late] = []

    def draw_uuids(self, events: int) -> bytes:
        """Give a batch of so many events its uuids: 16 bytes each, its own first."""
        return self._entropy(16 * (events + 1))

    def remember(
        self,
        path: str,
        *,
        status: int,
        body_bytes: int,
        events: int,
        errors: Sequence[Mapping[str, object]] = (),
        accepted: Accepted | None = None,
        fault: str = "",
        late_s: float | None = None,
    ) -> None:
        """Keep a request, how it was answered, and what of it was accepted.

        Args:
            path: Without the query.
            status: Of the answer; 0 where there is none.
            body_bytes: As received.
            events: In the body.
            errors: Of the answer.
            accepted: The events to keep, whatever the answer says of them.
            fault: The kind of fault that struck it.
            late_s: Keep the events only so many seconds from now.
        """
        with self._lock:
            self._settle()
            now = self._clock()
            kept, packed = tuple(errors[:_ERRORS_KEPT]), b""
            if accepted is not None and late_s is None:
                packed = self._keep(accepted, now)
            elif accepted is not None:
                due = now + timedelta(seconds=late_s or 0)
                self._late.append(_Late(due, len(self._requests), accepted))
            self._requests.append(
                StoredRequest(path, status, body_bytes, events, now, kept, packed, fault)
            )
            self._by_status[status] += 1
            self._by_fault.update([fault] if fault else [])

    def _keep(self, accepted: Accepted, now: datetime) -> bytes:
        counted, packed = Counter(accepted.types), accepted.packed_uuids
        types = frozenset(counted)
        self._batches.append(_Batch(accepted.body, types, packed, accepted.indexes, now))
        self._ends.append(self._count() + len(accepted.types))
        self._by_type.update(counted)
        return packed

    def settle(self) -> None:
        """Keep now what is still to come late."""
        with self._lock:
            self._settle(everything=True)

    def _settle(self, *, everything: bool = False) -> None:
        """Keep the late events that are due; every look and every request begins with it."""
        if not self._late:
            return
        now = self._clock()
        due = [late for late in self._late if everything or late.due <= now]
        self._late = [late for late in self._late if not (everything or late.due <= now)]
        for late in sorted(due, key=lambda late: late.due):
            packed = self._keep(late.accepted, min(late.due, now))
            kept = self._requests[late.number]
            self._requests[late.number] = replace(kept, packed_uuids=packed)

    def clear(self) -> int:
        """Forget everything; gives the number of events forgotten."""
        with self._lock:
            self._settle()
            count = self._count()
            self._forget()
        return count

    def stats(self) -> Stats:
        """Count what arrived."""
        with self._lock:
            self._settle()
            return Stats(
                requests=len(self._requests),
                accepted_events=self._count(),
                refused_requests=len(self._requests) - self._by_status[200],
                by_type=dict(self._by_type),
                by_status=dict(self._by_status),
                by_fault=dict(self._by_fault),
            )

    def requests(self) -> list[StoredRequest]:
        """Every POST, in the order answered."""
        with self._lock:
            self._settle()
            return self._requests.copy()

    def events(self, offset: int = 0, limit: int | None = None) -> list[StoredEvent]:
        """Accepted events in the order of acceptance, `limit` of them from number `offset`."""
        with self._lock:
            self._settle()
            batches, ends = self._batches.copy(), self._ends.copy()
        total = ends[-1] if ends else 0
        stop = total if limit is None else min(offset + limit, total)
        if offset >= stop:
            return []
        first, last = bisect_right(ends, offset), bisect_right(ends, stop - 1)
        found = [event for batch in batches[first : last + 1] for event in batch.events()]
        skipped = ends[first - 1] if first else 0
        return found[offset - skipped : stop - skipped]

    def newest(self, *, event_type: str = "", contact: str = "") -> Iterator[StoredEvent]:
        """Events from the newest on: of one type, of contacts whose address holds a text.

        An empty text stands for any.
        """
        wanted = contact.strip().lower()
        with self._lock:
            self._settle()
            batches = self._batches.copy()
        for batch in reversed(batches):
            if batch.may_hold(event_type, wanted):
                for stored in reversed(batch.events()):
                    if _is_wanted(stored.event, event_type, wanted):
                        yield stored

    def _count(self) -> int:
        return self._ends[-1] if self._ends else 0


_ERRORS_KEPT: Final = 20
"""Errors remembered of a refused request: enough to see the cause, whatever its size."""

_PLAIN: Final = re.compile(r"[a-z0-9@._+-]*")


def _is_wanted(event: Mapping[str, object], event_type: str, contact: str) -> bool:
    if event_type and event["event_type"] != event_type:
        return False
    return contact in contact_of(event).lower()


def contact_of(event: Mapping[str, object]) -> str:
    """The address of the event's contact."""
    payload = event["payload"]
    return str(payload["email"]) if isinstance(payload, dict) else ""


def uuids_of(packed: bytes) -> tuple[str, ...]:
    """Write the uuids of a batch's events."""
    return tuple(_uuid(packed, index) for index in range(1, len(packed) // 16))


def batch_uuid_of(packed: bytes) -> str:
    """Write the uuid of the batch itself."""
    return _uuid(packed, 0)


def _uuid(packed: bytes, index: int) -> str:
    """Write 16 random bytes as a version 4 uuid, several times faster than `uuid.UUID` does."""
    h = packed[16 * index : 16 * index + 16].hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
