"""The state table, model-checked on the code that implements it: every interleaving within the bounds.

The ledger's line is the project's own `KeyLine`; processes, network, server and the person are the model's. Breadth
first, so that the first violation found has a shortest trace. Bounds: one key, two contents, two processes that may be
started again, crash, be paused and wake; bodies that arrive after everybody gave up on them; a person who orders,
closes and withdraws at any time.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from rd_import.key_line import Fact, KeyLine, Policy
from simulation import START

CONTENTS = (b"content 1", b"content 2")
LATER = START + timedelta(days=1)


@dataclass(frozen=True)
class Flight:
    """A request on its way: its id, its content, and whether its process still waits for the answer."""

    request: str
    content: int
    alive: bool = True


@dataclass(frozen=True)
class State:
    """One moment of the model's world."""

    line: KeyLine = KeyLine()
    copies: tuple[int, int] = (0, 0)
    orders: tuple[int, int] = (0, 0)
    flights: tuple[Flight | None, Flight | None] = (None, None)
    wire: tuple[int, ...] = ()
    requests: int = 0
    faults: int = 2
    crashes: int = 1
    decisions: int = 3
    due: bool = False
    limited: bool = False


@dataclass(frozen=True)
class Model:
    """What a world is like: the content that each process sends, those refused, and what runs may do."""

    files: tuple[int, int] = (0, 1)
    refused: frozenset[int] = frozenset()
    limiter: bool = False
    policy: Policy = Policy()
    most_requests: int = 4

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        now = LATER if state.due else START
        if not state.due and state.line.not_before is not None:
            yield "time passes", replace(state, due=True)
        for at, content in enumerate(state.wire):
            rest = state.wire[:at] + state.wire[at + 1 :]
            yield (
                f"late body of {content} arrives",
                self._stored(replace(state, wire=rest), content),
            )
        for process, flight in enumerate(state.flights):
            if flight is None:
                yield from self._claims(state, process, now)
            else:
                yield from self._answers(state, process, flight)
        held = next(
            (f for f in state.flights if f is not None and f.request == state.line.request), None
        )
        if held is not None or state.line.request is not None:
            yield "reaped", replace(state, line=state.line.was_lost(state.line.request or ""))
        yield from self._person(state)

    def _claims(self, state: State, process: int, now: Any) -> Iterator[tuple[str, State]]:
        content = self.files[process]
        if state.requests == self.most_requests:
            return
        if state.line.may_claim(CONTENTS[content], now, self.policy) is not None:
            return
        request = f"r{state.requests}"
        orders = state.orders
        if self.policy.resend_unknown and state.line.doubt and state.line.resend is None:
            orders = added(
                orders, content
            )  # at-least-once was asked for: a resend that was ordered
        line = state.line.claimed(request, CONTENTS[content])
        flights = put(state.flights, process, Flight(request, content))
        yield (
            f"{process} claims {content}",
            replace(state, line=line, flights=flights, requests=state.requests + 1, orders=orders),
        )

    def _answers(self, state: State, process: int, flight: Flight) -> Iterator[tuple[str, State]]:
        sha, content = CONTENTS[flight.content], flight.content
        gone = replace(state, flights=put(state.flights, process, None))
        if content in self.refused:
            yield f"{process}: 400", replace(gone, line=state.line.was_refused(flight.request))
        elif self.limiter and not state.limited:
            line = state.line.was_deferred(flight.request, LATER - timedelta(hours=1))
            yield f"{process}: 429 of the contact", replace(gone, line=line, limited=True)
        else:
            line = state.line.was_accepted(flight.request, sha, f"uuid of {flight.request}")
            yield f"{process}: 200", self._stored(replace(gone, line=line), content)
        if state.faults:
            fewer = replace(gone, faults=state.faults - 1)
            lost = state.line.was_lost(flight.request)
            yield (
                f"{process}: no usable answer",
                replace(fewer, line=lost, wire=(*state.wire, content)),
            )
            released = state.line.was_released(flight.request)
            yield f"{process}: proof that it was not accepted", replace(fewer, line=released)
        if state.crashes:
            yield (
                f"{process} crashes",
                replace(gone, crashes=state.crashes - 1, wire=(*state.wire, content)),
            )

    def _person(self, state: State) -> Iterator[tuple[str, State]]:
        if not state.decisions:
            return
        fewer = replace(state, decisions=state.decisions - 1)
        for content in sorted(set(self.files)):
            if state.line.unresolvable(CONTENTS[content]) is None:
                ordered = state.line.was_ordered(CONTENTS[content])
                yield (
                    f"resend {content}",
                    replace(fewer, line=ordered, orders=added(state.orders, content)),
                )
                yield "left", replace(fewer, line=state.line.was_held("left"))
        if state.line.unwithdrawable() is None:
            orders = state.orders
            if state.line.resend is not None:
                orders = added(orders, CONTENTS.index(state.line.resend), -1)
            yield "withdraw", replace(fewer, line=state.line.was_withdrawn(), orders=orders)

    def _stored(self, state: State, content: int) -> State:
        return (
            state
            if content in self.refused
            else replace(state, copies=added(state.copies, content))
        )


def added(counts: tuple[int, int], at: int, by: int = 1) -> tuple[int, int]:
    return (counts[0] + by, counts[1]) if at == 0 else (counts[0], counts[1] + by)


def put(flights: tuple[Flight | None, Flight | None], at: int, flight: Flight | None) -> Any:
    return (flight, flights[1]) if at == 0 else (flights[0], flight)


def violation(state: State) -> str | None:
    """Name what the promise forbids in a state."""
    for content, sha in enumerate(CONTENTS):
        uuid, copies = state.line.uuid_of(sha), state.copies[content]
        if copies > 1 + state.orders[content]:
            return f"content {content} stands there {copies} times"
        if uuid is not None and not copies:
            return f"content {content} is accepted and not there"
        known = uuid is not None or any(fact.sha == sha for fact in state.line.doubt)
        if copies and not known and state.line.sent_sha != sha:
            return f"content {content} is there and nobody knows"
    return None


def explore(model: Model) -> tuple[int, list[str]]:
    """Visit every state; give how many there are, and the shortest trace to a violation, if there is one."""
    start = State()
    came: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if violation(state) is not None:
            trace = [violation(state) or ""]
            while (step := came[state]) is not None:
                state, label = step
                trace.append(label)
            return len(came), trace[::-1]
        for label, after in model.steps(state):
            if after not in came:
                came[after] = (state, label)
                waiting.append(after)
    return len(came), []


WORLDS = {
    "two contents": Model(),
    "one content": Model(files=(0, 0)),
    "refused and mended": Model(refused=frozenset({0})),
    "limiter": Model(files=(0, 0), limiter=True),
    "at least once": Model(files=(0, 0), policy=Policy(resend_unknown=True)),
    "at least once, limited": Model(files=(0, 0), policy=Policy(resend_unknown=True), limiter=True),
    "changed": Model(policy=Policy(send_changed=True)),
}


@pytest.mark.parametrize("world", WORLDS)
def test_the_state_table_holds_in_every_interleaving(world: str) -> None:
    states, trace = explore(WORLDS[world])
    assert trace == []
    assert states > 1_000


def _frees(line: KeyLine, request: str) -> KeyLine:
    return line.was_released(request)


def _withdraws_anything(line: KeyLine) -> KeyLine:
    return replace(line, resend=None, held=None, doubt=())


def _forgets(line: KeyLine, request: str, sha: bytes) -> KeyLine:
    return replace(line, request=request, sent_sha=sha, accepted=())


@pytest.mark.parametrize(
    ("world", "method", "mutant"),
    [
        ("one content", "was_lost", _frees),
        ("one content", "may_claim", lambda *_: None),
        ("one content", "was_withdrawn", _withdraws_anything),
        ("changed", "claimed", _forgets),
        (
            "at least once, limited",
            "was_deferred",
            lambda line, *_: replace(line, request=None, sent_sha=None, doubt=()),
        ),
    ],
    ids=[
        "reaper frees",
        "no condition",
        "withdraw clears doubt",
        "accepted forgotten",
        "proof clears doubt",
    ],
)
def test_the_model_finds_what_a_missing_rule_allows(
    world: str, method: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyLine, method, mutant)
    _, trace = explore(WORLDS[world])
    assert trace != []


def test_from_every_state_the_key_can_come_to_an_end() -> None:
    """No luck, no fault and no paused process is needed: each content can still be accepted, or be closed."""
    model = Model(most_requests=6)
    bounded = State(faults=1, crashes=1, decisions=2)
    states = {bounded}
    waiting, back = deque([bounded]), dict[State, list[State]]()
    while waiting:
        state = waiting.popleft()
        for label, after in model.steps(state):
            sound = "no usable" not in label and "crashes" not in label
            if sound:
                back.setdefault(after, []).append(state)
            if after not in states:
                states.add(after)
                waiting.append(after)
    good = [
        s
        for s in states
        if any(s.line.uuid_of(sha) for sha in CONTENTS) or s.line.held or s.line.doubt
    ]
    reached, spread = set(good), deque(good)
    while spread:
        for before in back.get(spread.popleft(), ()):
            if before not in reached:
                reached.add(before)
                spread.append(before)
    stuck = [s for s in states - reached if s.requests < model.most_requests]
    assert stuck == []


def test_a_fact_is_never_forgotten() -> None:
    """Accepted stays accepted, whatever comes after."""
    line = KeyLine().claimed("r", CONTENTS[0]).was_accepted("r", CONTENTS[0], "u")
    for after in (
        line.claimed("q", CONTENTS[1]).was_lost("q"),
        line.claimed("q", CONTENTS[1]).was_refused("q"),
        line.was_withdrawn(),
        line.joined(KeyLine(doubt=(Fact(CONTENTS[0], "audit"),))),
    ):
        assert after.uuid_of(CONTENTS[0]) == "u"
