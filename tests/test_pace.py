"""Paced runs against a server that really counts: no 429, and hardly slower than the quota allows. Simulated time."""

import json
import random
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from rd_import.ledger import Ledger
from rd_import.outcome import Observation
from rd_import.pace import Pace
from rd_import.sandbox.limits import Quota
from rd_import.sandbox.switches import Behaviour
from rd_import.send import Rules, Sender, Sending
from simulation import START, event

MINUTE: Final = timedelta(minutes=1)
STUCK_S: Final = 60


@dataclass
class Time:
    """Simulated time for several threads: one runs, and when all wait, time jumps to the earliest who wakes."""

    threads: int
    moment: datetime = START
    _wakes: dict[int, datetime] = field(default_factory=dict)
    _turn: int | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def now(self) -> datetime:
        return self.moment

    def sleep_until(self, who: int, moment: datetime) -> None:
        with self._changed:
            self._wakes[who] = max(moment, self.moment)
            self._pass_on()
            assert self._changed.wait_for(lambda: self._turn == who, STUCK_S), (
                "the simulation is stuck"
            )
            self._turn = None
            del self._wakes[who]

    def leave(self) -> None:
        with self._changed:
            self.threads -= 1
            self._pass_on()

    def _pass_on(self) -> None:
        if self._turn is None and self.threads and len(self._wakes) == self.threads:
            self._turn = min(self._wakes, key=lambda who: (self._wakes[who], who))
            self.moment = max(self.moment, self._wakes[self._turn])
            self._changed.notify_all()


@dataclass
class Server:
    """The sandbox's quota, and when it was asked."""

    behaviour: Behaviour
    quota: Quota
    arrivals: list[datetime] = field(default_factory=list)
    refused: int = 0

    def take(self, now: datetime) -> Observation:
        self.arrivals.append(now)
        wait = self.quota.take(self.behaviour)
        if wait is not None:
            self.refused += 1
            body = b'{"message": "API rate limit exceeded"}'
            return Observation(429, {"retry-after-quotas": str(wait)}, body, 100)
        uuid = f"u{len(self.arrivals)}"
        return Observation(200, {}, json.dumps({"event_uuid": uuid}).encode(), 100)


@dataclass
class Line:
    """An `Exchange` of one process: each request takes its time there, and each answer its time back."""

    who: int
    time: Time
    server: Server
    there: Callable[[], float]
    back: Callable[[], float]
    max_events: int | None = 1
    starts: list[datetime] = field(default_factory=list)
    _going: list[tuple[datetime, int]] = field(default_factory=list)
    _coming: list[tuple[datetime, int, Observation]] = field(default_factory=list)

    def start(self, events: Sequence[bytes]) -> int:
        assert len(events) == 1
        self.starts.append(self.time.now())
        handle = len(self.starts)
        self._going.append((self.time.now() + timedelta(seconds=self.there()), handle))
        return handle

    def wait(self, seconds: float) -> list[tuple[int, Observation]]:
        until = self.time.now() + timedelta(seconds=seconds)
        while True:
            moments = [one[0] for one in self._going] + [one[0] for one in self._coming]
            self.time.sleep_until(self.who, min([until, *moments]))
            now = self.time.now()
            for one in [one for one in sorted(self._going) if one[0] <= now]:
                self._going.remove(one)
                answered = now + timedelta(seconds=self.back())
                self._coming.append((answered, one[1], self.server.take(now)))
            due = [one for one in self._coming if one[0] <= now]
            self._coming = [one for one in self._coming if one[0] > now]
            if due or now >= until:
                return [(handle, seen) for _, handle, seen in due]

    def renew(self, stale: int) -> None:
        raise AssertionError(stale)


def send(  # one parameter for each thing that a world is made of
    place: Path | str,
    *,
    per_minute: int,
    window: str,
    requests: Sequence[int],
    seed: int,
    slowest: float,
) -> tuple[Server, list[Line], list[Sending], timedelta]:
    """Let one process per entry of `requests` send that many, all of one account, through one ledger."""
    dice = random.Random(seed)
    time = Time(len(requests))
    behaviour = Behaviour(requests_per_minute=per_minute, quota_window=window)
    server = Server(behaviour, Quota(time.now))
    with Ledger.open(place) as ledger:
        account = ledger.account("paced")
    lines: list[Line] = []
    done: list[Sending] = []
    failures: list[BaseException] = []

    def live(line: Line, first: int, number: int, seed: int) -> None:
        try:
            with Ledger.open(place) as ledger:
                time.sleep_until(line.who, START)
                sender = Sender(
                    ledger=ledger,
                    exchange=line,
                    account=account,
                    run=f"run {line.who}",
                    process=f"process {line.who}",
                    clock=time,
                    pace=Pace.per_minute(per_minute),
                    max_body=1_000,
                    rules=Rules(),
                    dice=random.Random(seed),
                )
                done.append(sender.send(event(one) for one in range(first, first + number)))
        except BaseException as error:  # noqa: BLE001 -- shown by the test's own thread
            failures.append(error)
        finally:
            time.leave()

    threads = []
    for who, number in enumerate(requests):
        line = Line(
            who,
            time,
            server,
            there=lambda: dice.uniform(0.01, slowest / 2),
            back=lambda: dice.uniform(0.01, slowest / 2),
        )
        lines.append(line)
        words: tuple[Any, ...] = (line, sum(requests[:who]), number, seed + who)
        threads.append(threading.Thread(target=live, args=words, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_S)
        assert not thread.is_alive()
    assert failures == []
    return server, lines, done, time.now() - START


def most_in_a_minute(moments: Sequence[datetime]) -> int:
    ordered = sorted(moments)
    return max(bisect_left(ordered, one + MINUTE) - at for at, one in enumerate(ordered))


@pytest.mark.parametrize("window", ["sliding", "fixed"])
@pytest.mark.parametrize(
    ("per_minute", "requests", "slowest"), [(120, 300, 0.4), (120, 300, 0.9), (500, 900, 0.4)]
)
def test_a_paced_run_meets_no_429_and_takes_hardly_longer_than_the_quota_demands(
    per_minute: int, requests: int, slowest: float, window: str, tmp_path: Path
) -> None:
    server, [line], [sending], took = send(
        tmp_path / "ledger.db",
        per_minute=per_minute,
        window=window,
        requests=[requests],
        seed=per_minute,
        slowest=slowest,
    )
    assert sending.accepted_events == requests
    assert server.refused == 0
    assert len(server.arrivals) == requests
    assert most_in_a_minute(line.starts) <= per_minute
    least = (requests - 1) * MINUTE / per_minute
    assert least <= took <= least * 1.02


@pytest.mark.parametrize("window", ["sliding", "fixed"])
@pytest.mark.parametrize(("processes", "slowest"), [(2, 0.4), (2, 0.9), (3, 0.9)])
def test_processes_of_one_account_share_its_quota(
    processes: int, slowest: float, window: str, place: Path | str
) -> None:
    each = 330 // processes
    server, lines, done, took = send(
        place,
        per_minute=120,
        window=window,
        requests=[each] * processes,
        seed=processes,
        slowest=slowest,
    )
    assert [sending.accepted_events for sending in done] == [each] * processes
    assert server.refused == 0
    assert most_in_a_minute([one for line in lines for one in line.starts]) <= 120
    assert all(len(line.starts) == each for line in lines)
    least = (each * processes - 1) * MINUTE / 120
    assert least <= took <= least * 1.02
