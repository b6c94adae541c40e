"""A simulated world for the real sender and the real ledger: clock, network and server, all driven by one seed.

The ledger is the project's own, on disk; the sender is the project's own. The network loses, delays and repeats nothing
by itself: what happens to each request is drawn from the dice, or given by a script.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rd_import.key_line import KeyLine, Policy
from rd_import.ledger import Claim, Ledger
from rd_import.outcome import Observation
from rd_import.pace import Pace
from rd_import.plan import Decisions, hinders
from rd_import.send import Rules, Sender, Sending
from rd_import.values import PlannedEvent

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAULTS = (
    "no byte",
    "lost before",
    "lost after",
    "late",
    "truncated",
    "500 before",
    "502 after",
    "503 retry",
    "429 account",
    "401",
    "413",
    "wrong count",
)


class Crash(BaseException):
    """The process ends here, at once."""


@dataclass
class Clock:
    """Simulated time."""

    moment: datetime = START

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=max(0.0, seconds))


def event(number: int, content: int = 1, contact: str | None = None) -> PlannedEvent:
    """Event `number` with a content; equal numbers have equal keys."""
    payload = {
        "email": contact or f"c{number}@example.com",
        "identifier": f"e{number}",
        "value": content,
    }
    body = json.dumps({"event_type": "SALE", "event_family": "CDP", "payload": payload}).encode()
    return PlannedEvent(
        ordinal=number,
        key=hashlib.sha256(f"e{number}".encode()).digest(),
        sha=hashlib.sha256(body).digest(),
        contact=hashlib.sha256(payload["email"].encode()).digest(),
        body=body,
    )


@dataclass
class Server:
    """RD Station as the design assumes it: registers whole bodies or nothing, unless it is told to be partial."""

    bad: set[bytes] = field(default_factory=set)  # bodies that it refuses
    limited: set[bytes] = field(default_factory=set)  # contacts' bodies beyond their limit
    names_index: bool = True
    partial: bool = False
    copies: Counter[bytes] = field(default_factory=Counter)
    uuids: dict[str, bytes] = field(default_factory=dict)

    def take(self, events: Sequence[bytes]) -> Observation:
        """Answer a body that arrived."""
        size = sum(map(len, events))
        refused = [at for at, body in enumerate(events) if body in self.bad]
        limited = [at for at, body in enumerate(events) if body in self.limited]
        if refused:
            if self.partial:
                self.register([body for at, body in enumerate(events) if at not in refused])
            path = [f"$[{at}].payload" if self.names_index else "" for at in refused]
            errors = [
                {"error_type": "INVALID", "error_message": "bad", "path": one} for one in path
            ]
            return Observation(400, {}, json.dumps({"errors": errors}).encode(), size)
        if limited:
            error = {
                "error": "'lead_limiter' rate limit exceeded",
                "max": 1,
                "usage": 2,
                "remaining_time": 600,
            }
            return Observation(429, {}, json.dumps(error).encode(), size)
        return Observation(200, {}, self.register(events), size)

    def register(self, events: Sequence[bytes]) -> bytes:
        """Store events and give the answer that names them."""
        given = []
        for body in events:
            self.copies[body] += 1
            uuid = f"u{len(self.uuids) + 1}"
            self.uuids[uuid] = body
            given.append({"event_uuid": uuid})
        return json.dumps({"event_batch_uuid": "b", "events": given}).encode()


@dataclass
class Network:
    """An `Exchange` whose requests meet what `fate` says; late bodies arrive when time has passed.

    `fate(number)` gives None for a sound request, or one of FAULTS. A crash is raised where `crash` says so.
    """

    clock: Clock
    server: Server
    fate: Callable[[int], str | None]
    crash: Callable[[str], bool] = lambda _: False
    delay: Callable[[], float] = lambda: 0.1
    late: list[tuple[datetime, Sequence[bytes]]] = field(default_factory=list)
    max_events: int | None = None
    renewable: bool = True
    started: int = 0
    _pending: list[tuple[datetime, int, Sequence[bytes], str | None]] = field(default_factory=list)

    def start(self, events: Sequence[bytes]) -> int:
        if self.crash("before the first byte"):
            raise Crash
        self.started += 1
        fate = self.fate(self.started)
        self._pending.append(
            (self.clock.now() + timedelta(seconds=self.delay()), self.started, events, fate)
        )
        if self.crash("after the body left"):
            raise Crash
        return self.started

    def wait(self, seconds: float) -> list[tuple[int, Observation]]:
        end = self.clock.now() + timedelta(seconds=seconds)
        due = sorted(one for one in self._pending if one[0] <= end)
        self.clock.moment = max(self.clock.moment, due[0][0] if due else end)
        self.arrive()
        if not due:
            return []
        self._pending.remove(due[0])
        _, handle, events, fate = due[0]
        seen = self._answer(events, fate)
        if self.crash("before the answer is recorded"):
            raise Crash
        return [(handle, seen)]

    def renew(self, stale: int) -> bool:
        assert self.renewable
        assert stale == 0
        return True

    def lose_everything(self) -> None:
        """The process is gone; bodies that it sent may still arrive."""
        for _, _, events, fate in self._pending:
            self._leave(events, fate)
        self._pending.clear()

    def arrive(self) -> None:
        """Let bodies arrive whose time has come, though nobody waits for them any more."""
        for one in [one for one in self.late if one[0] <= self.clock.now()]:
            self.late.remove(one)
            self.server.take(one[1])

    def _leave(self, events: Sequence[bytes], fate: str | None) -> None:
        if fate not in {"no byte", "lost before"}:
            self.late.append((self.clock.now() + timedelta(seconds=30), events))

    def _answer(self, events: Sequence[bytes], fate: str | None) -> Observation:
        size = sum(map(len, events))
        match fate:
            case None:
                return self.server.take(events)
            case "no byte":
                return Observation(None, asked_bytes=0, failure="the connection failed")
            case "lost before":
                return Observation(None, asked_bytes=size, failure="no answer in time")
            case "lost after":
                self.server.take(events)
                return Observation(None, asked_bytes=size, failure="no answer in time")
            case "late":
                self.late.append((self.clock.now() + timedelta(seconds=300), events))
                return Observation(504, {}, b"<html>gateway timeout</html>", size)
            case "truncated":
                seen = self.server.take(events)
                return Observation(seen.status, {}, seen.body[: len(seen.body) // 2], size)
            case "500 before":
                return Observation(500, {}, b"", size)
            case "502 after":
                self.server.take(events)
                return Observation(502, {}, b"<html></html>", size)
            case "503 retry":
                return Observation(503, {"retry-after": "2"}, b"", size)
            case "429 account":
                body = b'{"message": "API rate limit exceeded"}'
                return Observation(429, {"retry-after-quotas": "5"}, body, size)
            case "401":
                body = (
                    b'{"errors": {"error_type": "UNAUTHORIZED", "error_message": "Invalid token."}}'
                )
                return Observation(401, {}, body, size)
            case "413":
                return Observation(413, {}, b"", size)
            case "wrong count":
                self.server.take(events)
                return Observation(200, {}, b'{"events": [{"event_uuid": ""}]}', size)
        raise AssertionError(fate)


@dataclass
class World:
    """One account, its ledger, server and time; processes come and go."""

    ledger_path: "object"
    account: int
    clock: Clock
    server: Server
    late: list[tuple[datetime, Sequence[bytes]]] = field(default_factory=list)
    orders: Counter[bytes] = field(default_factory=Counter)

    def process(
        self,
        ledger: Ledger,
        events: Iterable[PlannedEvent],
        *,
        run: str,
        dice: random.Random,
        fate: Callable[[int], str | None] = lambda _: None,
        crash: Callable[[str], bool] = lambda _: False,
        policy: Policy | None = None,
        body: int = 400,
        workers: int = 4,
        stop_asked: Callable[[], bool] = lambda: False,
    ) -> tuple[Iterator[Sending], Sender, Network]:
        """Make a process that sends events; `next` on its steps lets it go on."""
        policy = policy or Policy()
        watched = _Watched(ledger, self) if policy.resend_unknown else ledger
        network = Network(self.clock, self.server, fate, crash, late=self.late)
        network.delay = lambda: dice.uniform(0.05, 2.0)
        sender = Sender(
            ledger=watched,  # type: ignore[arg-type] -- it is the ledger, looked at
            exchange=network,
            account=self.account,
            run=run,
            process=(process := f"{dice.getrandbits(64):016x}"),
            clock=self.clock,
            pace=Pace(),
            max_body=body,
            rules=Rules(policy=policy, workers=workers, refused_allowed=lambda *_: True),
            stop_asked=stop_asked,
            dice=dice,
        )
        planned = self.to_send(ledger, events, policy)

        def life() -> Iterator[Sending]:
            assert ledger.start_process(process, run, now=self.clock.now())
            yield from sender.steps(planned)
            ledger.end_process(process)

        return life(), sender, network

    def to_send(
        self, ledger: Ledger, events: Iterable[PlannedEvent], policy: Policy
    ) -> list[PlannedEvent]:
        """Look up what may go, as a run does before it plans its requests."""
        events = list(events)
        lines = ledger.lines(self.account, [one.key for one in events])
        return [
            one
            for one in events
            if hinders(
                lines.get(one.key),
                one.sha,
                one.contact,
                None,
                now=self.clock.now(),
                policy=policy,
                decisions=Decisions(),
            )
            in {None, "sent"}
        ]

    def violations(self, ledger: Ledger, events: Iterable[PlannedEvent]) -> list[str]:
        """Name what the promise forbids, as it stands right now."""
        found = []
        by_body = {one.body: one for one in events}
        lines = ledger.lines(self.account, [one.key for one in by_body.values()])
        for body, one in by_body.items():
            line = lines.get(one.key, KeyLine())
            copies = self.server.copies[body]
            uuid = line.uuid_of(one.sha)
            in_doubt = any(fact.sha == one.sha for fact in line.doubt) or line.sent_sha == one.sha
            if uuid is not None and not copies:
                found.append(f"e{one.ordinal} is accepted, and the server has it not")
            if uuid is not None and self.server.uuids.get(uuid) != body:
                found.append(f"e{one.ordinal} has the uuid of another event")
            if copies and uuid is None and not in_doubt:
                found.append(
                    f"e{one.ordinal} stands on the server, and the ledger knows nothing of it"
                )
            if copies > 1 + self.orders[body]:
                found.append(f"e{one.ordinal} stands on the server {copies} times")
        return found


class _Watched:
    """A ledger that tells the world when a doubtful content is sent again, as `--on-unknown resend` ordered."""

    def __init__(self, ledger: Ledger, world: World) -> None:
        self._ledger = ledger
        self._world = world

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def claim(self, *words: object, **options: object) -> Claim:
        claim: Claim = self._ledger.claim(*words, **options)  # type: ignore[arg-type]
        for one in claim.won:
            self._world.orders[one.body] += one.key in claim.doubtful
        return claim


def run_to_end(steps: Iterator[Sending]) -> None:
    """Let a process go on until it ends."""
    for _ in steps:
        pass


def state_of(line: KeyLine, one: PlannedEvent) -> str:
    """Give an event's state, each exactly one."""
    if line.uuid_of(one.sha) is not None:
        return "accepted"
    if line.request is not None or line.doubt:
        return "unknown"
    if line.accepted:
        return "changed"
    return {"refused": "refused", "deferred": "deferred"}.get(line.why, "not_sent")
