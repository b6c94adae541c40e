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
from dataclasses import dataclass, field
from datetime import datetime
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
    body_bytes: int
    events: int
    """Events in the body, accepted or not; 0 where it was refused unread."""
    received_at: datetime
    """Aware, UTC."""
    errors: tuple[Mapping[str, object], ...] = ()
    """The first errors of the answer, as sent."""
    packed_uuids: bytes = field(default=b"", repr=False)
    """16 bytes each: the batch's own, then one per event. Empty unless accepted."""

    @property
    def event_batch_uuid(self) -> str | None:
        """The batch's uuid, or None where nothing was accepted."""
        return _uuid(self.packed_uuids, 0) if self.packed_uuids else None

    @property
    def event_uuids(self) -> tuple[str, ...]:
        """The uuids of the answer, in the order of the request."""
        return tuple(_uuid(self.packed_uuids, i) for i in range(1, len(self.packed_uuids) // 16))


@dataclass(frozen=True, slots=True)
class Stats:
    """How much arrived."""

    requests: int
    accepted_events: int
    refused_requests: int
    by_type: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Batch:
    request: StoredRequest
    body: bytes
    types: frozenset[str]

    def events(self) -> list[StoredEvent]:
        parsed = json.loads(self.body)
        events = parsed if isinstance(parsed, list) else [parsed]
        batch_uuid, received_at = _uuid(self.request.packed_uuids, 0), self.request.received_at
        return [
            StoredEvent(uuid, batch_uuid, index, event, received_at)
            for index, (uuid, event) in enumerate(
                zip(self.request.event_uuids, events, strict=True)
            )
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

    def accept(self, path: str, body: bytes, types: Sequence[str]) -> StoredRequest:
        """Keep a body whose events are all good, and give it its uuids."""
        packed, counted = self._entropy(16 * (len(types) + 1)), Counter(types)
        size, count = len(body), len(types)
        with self._lock:
            request = StoredRequest(path, 200, size, count, self._clock(), packed_uuids=packed)
            self._requests.append(request)
            self._batches.append(_Batch(request, body, frozenset(counted)))
            self._ends.append(self._count() + count)
            self._by_type.update(counted)
        return request

    def refuse(
        self,
        path: str,
        *,
        status: int,
        body_bytes: int,
        events: int,
        errors: Sequence[Mapping[str, object]],
    ) -> None:
        """Remember a request that was answered with an error."""
        kept = tuple(errors[:_ERRORS_KEPT])
        with self._lock:
            now = self._clock()
            self._requests.append(StoredRequest(path, status, body_bytes, events, now, kept))

    def clear(self) -> int:
        """Forget everything; gives the number of events forgotten."""
        with self._lock:
            count = self._count()
            self._forget()
        return count

    def stats(self) -> Stats:
        """Count what arrived."""
        with self._lock:
            return Stats(
                requests=len(self._requests),
                accepted_events=self._count(),
                refused_requests=len(self._requests) - len(self._batches),
                by_type=dict(self._by_type),
            )

    def requests(self) -> list[StoredRequest]:
        """Every POST, in the order answered."""
        with self._lock:
            return self._requests.copy()

    def events(self, offset: int = 0, limit: int | None = None) -> list[StoredEvent]:
        """Accepted events in the order of acceptance, `limit` of them from number `offset`."""
        with self._lock:
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


def _uuid(packed: bytes, index: int) -> str:
    """Write 16 random bytes as a version 4 uuid, several times faster than `uuid.UUID` does."""
    h = packed[16 * index : 16 * index + 16].hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
