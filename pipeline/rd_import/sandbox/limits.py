"""What the server counts: the account's requests, a contact's events, who is a contact at all.

Each class may be used from many threads, and counts by the clock it is given.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rd_import.sandbox.switches import Behaviour

MINUTE: Final = 60
DAY: Final = 86_400

_Clock = Callable[[], datetime]


class Quota:
    """Counts the POSTs of the account, limited or not: the page shows them in any case."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: deque[float] = deque()

    def take(self, behaviour: Behaviour) -> int | None:
        """Count a POST; where the quota is used up, give the seconds until it has room again."""
        with self._lock:
            now, opened = self._roll(behaviour)
            limit = behaviour.requests_per_minute
            if limit is None or len(self._times) < limit:
                self._times.append(now)
                return None
            frees = opened if behaviour.quota_window == "fixed" else self._times[-limit]
            return max(1, math.ceil(frees + MINUTE - now))

    def used(self, behaviour: Behaviour) -> int:
        """Count the POSTs of the window that is open now."""
        with self._lock:
            self._roll(behaviour)
            return len(self._times)

    def _roll(self, behaviour: Behaviour) -> tuple[float, float]:
        """Forget the POSTs before the window; gives now, and when the window opened."""
        now = self._clock().timestamp()
        fixed = behaviour.quota_window == "fixed"
        opened = now - now % MINUTE if fixed else now - MINUTE
        while self._times and (self._times[0] < opened or (self._times[0] == opened and not fixed)):
            self._times.popleft()
        return now, opened


@dataclass(frozen=True, slots=True)
class Excess:
    """What is too much for a contact."""

    contact: str
    """The first of those that have too much."""
    usage: int
    remaining_s: int
    stopped: frozenset[int]
    """Positions of the events that are too many."""


class ContactLimiter:
    """Counts each contact's events within the 24 hours from its first."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}  # contact: its start, its count

    def take(self, contacts: Sequence[str], behaviour: Behaviour) -> Excess | None:
        """Count the events of one body, each given by its contact.

        Where they are too many nothing is counted, or, where the limiter is partial, what fits.
        """
        limit = behaviour.contact_limit
        if limit is None:
            return None
        counts_events = behaviour.contact_limit_counts == "event"
        wanted = Counter(contacts if counts_events else set(contacts))
        with self._lock:
            now = self._clock().timestamp()
            used = {contact: self._used(contact, now) for contact in wanted}
            over = [one for one in dict.fromkeys(contacts) if used[one] + wanted[one] > limit]
            room = {contact: limit - used[contact] for contact in over}
            if not over or behaviour.contact_limit_partial:
                self._count(wanted, room, now)
            if not over:
                return None
            first = over[0]
            ends = self._windows[first][0] + DAY if first in self._windows else now + DAY
        usage, remaining = used[first] + wanted[first], max(1, math.ceil(ends - now))
        return Excess(first, usage, remaining, _too_many(contacts, room))

    def _used(self, contact: str, now: float) -> int:
        start, count = self._windows.get(contact, (now, 0))
        if now - start >= DAY:
            del self._windows[contact]
            return 0
        return count

    def _count(self, wanted: Counter[str], room: dict[str, int], now: float) -> None:
        for contact, number in wanted.items():
            start, count = self._windows.get(contact, (now, 0))
            fitting = min(number, room.get(contact, number))
            if fitting > 0:
                self._windows[contact] = start, count + fitting


def _too_many(contacts: Sequence[str], room: dict[str, int]) -> frozenset[int]:
    """Find the events beyond a contact's room; contacts that have none too many are not in it."""
    left, stopped = dict(room), set()
    for position, contact in enumerate(contacts):
        if contact in left:
            left[contact] -= 1
            if left[contact] < 0:
                stopped.add(position)
    return frozenset(stopped)


class Contacts:
    """Knows who became a contact, and when."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._made: dict[str, float] = {}  # single look-ups and insertions, so no lock is needed

    def add(self, contact: str) -> None:
        """Make a contact, unless there is one."""
        self._made.setdefault(contact, self._clock().timestamp())

    def is_known(self, contact: str, behaviour: Behaviour) -> bool:
        """Tell whether qualification events find the contact."""
        made = self._made.get(contact)
        if made is None:
            return False
        return self._clock().timestamp() - made >= behaviour.contact_ready_s
