"""The counterexamples that shaped the delivery protocol, each as a story on the real ledger and sender.

A story tells what went wrong, as a list; it is empty while the rule holds, and is not when the rule is taken out. The
numbers are those of the design's list.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from conftest import Command
from rd_import import audit, send
from rd_import.errors import LedgerError
from rd_import.importer import SystemClock
from rd_import.key_line import Fact, KeyLine, Lost, Policy
from rd_import.ledger import Claim, Decision, Ledger
from rd_import.ledger_rows import Mark, write_lines
from rd_import.ledger_store import SqliteStore
from rd_import.plan import unsent
from rd_import.run_folder import RunFolder
from rd_import.sandbox import Sandbox
from rd_import.send import Sending
from rd_import.values import PlannedEvent
from simulation import Clock, Crash, Server, World, event, run_to_end, state_of
from test_main_job import TYPE, orders, save

Rule = Callable[[pytest.MonkeyPatch], None]


@dataclass
class Stage:
    """One account with its ledger, and processes that come and go."""

    ledger: Ledger
    world: World
    names: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def process(
        self, events: list[PlannedEvent], fates: tuple[str | None, ...] = (), **options: Any
    ) -> Any:
        """Make a process whose requests meet these fates, one after the other, and then none."""
        number = next(self.names)
        return self.world.process(
            self.ledger,
            events,
            run=f"run {number}",
            dice=random.Random(number),
            fate=lambda at: fates[at - 1] if at <= len(fates) else None,
            **options,
        )

    def in_flight(self, events: list[PlannedEvent], *, days: float = 0.004) -> Any:
        """Make a process whose answers take long: after one step its request is on its way."""
        steps, sender, network = self.process(events)
        network.delay = lambda: days * 24 * 3600
        return steps, sender, network

    def run(self, events: list[PlannedEvent], *fates: str | None, **options: Any) -> Sending:
        """Let a process run to its end, or to its crash."""
        steps, sender, network = self.process(events, fates, **options)
        try:
            run_to_end(steps)
        except Crash:
            network.lose_everything()
            self.ledger.end_process(sender._process)
        self.world.clock.advance(400)
        network.arrive()
        return sender.sending  # type: ignore[no-any-return]

    def line(self, one: PlannedEvent) -> KeyLine:
        return self.ledger.lines(self.world.account, [one.key]).get(one.key, KeyLine())

    def state(self, one: PlannedEvent) -> str:
        return state_of(self.line(one), one)

    def decide(self, one: PlannedEvent, decision: str) -> object:
        self.world.orders[one.body] += decision == "resend"
        now = self.world.clock.now()
        refused = self.ledger.resolve(
            self.world.account, one.key, one.sha, Decision(decision, "me", "looked"), now=now
        )
        if refused is not None:
            self.world.orders[one.body] -= decision == "resend"
        return refused

    def wrong(self, *events: PlannedEvent) -> list[str]:
        return self.world.violations(self.ledger, events)


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Iterator[Stage]:
    with Ledger.open(place) as ledger:
        yield Stage(ledger, World(tmp_path, ledger.account("here"), Clock(), Server()))


E0, E1, E2 = event(0), event(1), event(2)
MENDED = event(0, 2)


def crash_at(place: str, number: int = 1) -> Callable[[str], bool]:
    """Crash the `number`th time that a process comes to a place."""
    left = [number]

    def crash(here: str) -> bool:
        left[0] -= here == place
        return here == place and left[0] == 0

    return crash


def c1_a_refused_key_can_be_claimed_again(stage: Stage) -> list[str]:
    stage.world.server.bad = {E0.body}
    stage.run([E0, E1])
    stage.run([MENDED])
    return [] if stage.state(MENDED) == "accepted" else ["the mended event never goes"]


def without_reclaim(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = KeyLine.may_claim

    def once(line: KeyLine, sha: bytes, now: datetime, policy: Policy) -> Lost | None:
        return claims(line, sha, now, policy) if line.why == "new" else Lost.CHANGED

    monkeypatch.setattr(KeyLine, "may_claim", once)


def c2_two_processes_look_and_only_one_sends(stage: Stage) -> list[str]:
    a, _, _ = stage.in_flight([E0, E1])
    b, _, _ = stage.process([E1, E0])
    next(a)
    run_to_end(b)
    run_to_end(a)
    return stage.wrong(E0, E1)


def without_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyLine, "may_claim", lambda *_: None)


def c3_a_paused_process_is_declared_dead(stage: Stage) -> list[str]:
    a, _, _ = stage.in_flight([E0])
    next(a)
    stage.world.clock.advance(130)
    stage.run([E0])
    run_to_end(a)
    return stage.wrong(E0)


def c4_a_dead_processs_body_is_still_on_the_wire(stage: Stage) -> list[str]:
    stage.run([E0], crash=crash_at("after the body left"))
    stage.run([E0])
    return stage.wrong(E0)


def reaping_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyLine, "was_lost", KeyLine.was_released)


def c5_the_body_left_and_only_the_mark_tells(stage: Stage) -> list[str]:
    stage.run([E0], crash=crash_at("after the body left"))
    stage.world.clock.advance(60)
    stage.process([])[2].arrive()
    return stage.wrong(E0)


def without_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "claim", lambda _, __, events, **___: Claim(tuple(events), {}))


def c6_what_waits_for_its_slot_holds_no_key(stage: Stage) -> list[str]:
    """Were keys claimed early, the other run would find them held, and this one would send on a claim long gone."""
    a, sender, _ = stage.process([E0])
    sender._pace = send.Pace(10.0)
    stage.ledger.hold_slots(stage.world.account, stage.world.clock.now() + timedelta(seconds=100))
    next(a)
    held = ["held while it waits"] if stage.line(E0).request else []
    stage.run([E0])
    run_to_end(a)
    return held + stage.wrong(E0)


def c7_a_mended_content_of_an_unknown_key_can_be_ordered(stage: Stage) -> list[str]:
    stage.run([E0], "lost before")
    stage.run([MENDED])
    stage.decide(MENDED, "resend")
    stage.run([MENDED])
    return [] if stage.state(MENDED) == "accepted" else ["the mended content is stuck"]


def only_the_doubtful_content(monkeypatch: pytest.MonkeyPatch) -> None:
    decides = KeyLine.unresolvable

    def only(line: KeyLine, sha: bytes) -> object:
        return (
            decides(line, sha)
            if any(fact.sha == sha for fact in line.doubt)
            else "not the doubtful content"
        )

    monkeypatch.setattr(KeyLine, "unresolvable", only)


def c8_a_contact_limit_on_a_resend_clears_no_doubt(stage: Stage) -> list[str]:
    stage.run([E0], "lost after")
    stage.world.server.limited = {E0.body}
    stage.world.orders[E0.body] += 1
    stage.run([E0], policy=Policy(resend_unknown=True))
    return stage.wrong(E0)


def deferring_clears_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    defers = KeyLine.was_deferred
    monkeypatch.setattr(
        KeyLine, "was_deferred", lambda line, *words: replace(defers(line, *words), doubt=())
    )


def c9_no_byte_of_an_ordered_resend_clears_no_doubt(stage: Stage) -> list[str]:
    stage.run([E0], "lost after")
    stage.decide(E0, "resend")
    stage.run([E0], *["no byte"] * 9)
    return stage.wrong(E0)


def releasing_clears_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    releases = KeyLine.was_released
    monkeypatch.setattr(
        KeyLine, "was_released", lambda line, *words: replace(releases(line, *words), doubt=())
    )


def c10_what_a_person_left_is_not_sent_by_the_next_import(stage: Stage) -> list[str]:
    stage.run([E0], crash=crash_at("before the answer is recorded"))
    stage.run([])
    stage.ledger.reap(stage.world.account, now=stage.world.clock.now())
    stage.decide(E0, "left")
    stage.run([E0])
    stage.run([E0], policy=Policy(resend_unknown=True))
    return stage.wrong(E0)


def left_is_claimable(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = KeyLine.may_claim

    def claim(line: KeyLine, sha: bytes, now: datetime, policy: Policy) -> Lost | None:
        return None if line.held else claims(line, sha, now, policy)

    monkeypatch.setattr(KeyLine, "may_claim", claim)


def c11_a_decision_from_a_stale_screen_does_not_hold(stage: Stage) -> list[str]:
    a, _, _ = stage.in_flight([E0])
    next(a)
    stage.world.clock.advance(130)
    stage.ledger.reap(stage.world.account, now=stage.world.clock.now())
    assert stage.state(E0) == "unknown"  # what the person sees
    run_to_end(a)  # the late 200 is recorded meanwhile
    stage.decide(E0, "resend")
    stage.world.orders.clear()  # had the person known, nothing would have been ordered
    stage.run([E0])
    return stage.wrong(E0)


def deciding_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(
        ledger: Ledger, account: int, key: bytes, sha: bytes, _: Decision, *, now: datetime
    ) -> None:
        del now
        with ledger._writing() as connection:
            write_lines(
                connection, account, [(key, KeyLine(doubt=(Fact(sha, "stale"),), resend=sha))]
            )

    monkeypatch.setattr(Ledger, "resolve", write)


def c12_a_retry_is_a_claim_of_its_own(stage: Stage) -> list[str]:
    a, _, _ = stage.process([E0], ("429 account",))
    next(a)
    while stage.line(E0).why != "released":
        next(a)
    stage.run([E0])  # while the first waits as it was told
    run_to_end(a)
    return stage.wrong(E0)


def c13_uuids_go_by_position_in_the_body_that_went(stage: Stage) -> list[str]:
    a, _, _ = stage.process([E0, E1])
    b, _, _ = stage.in_flight([E0])
    next(b)  # key 0 is held, and so cut from the planned body
    next(a)
    return stage.wrong(E0, E1)


def uuids_by_planned_position(monkeypatch: pytest.MonkeyPatch) -> None:
    claims, records, planned = Ledger.claim, Ledger.record_accepted, dict[str, list[PlannedEvent]]()

    def claim(ledger: Ledger, mark: Any, events: Any, **options: Any) -> Claim:
        planned[mark.request] = list(events)
        return claims(ledger, mark, events, **options)

    def record(ledger: Ledger, mark: Any, events: Any, uuids: Any, **options: Any) -> None:
        records(ledger, mark, planned[mark.request][: len(events)], uuids, **options)

    monkeypatch.setattr(Ledger, "claim", claim)
    monkeypatch.setattr(Ledger, "record_accepted", record)


def c14_sending_a_changed_content_forgets_none(stage: Stage) -> list[str]:
    stage.run([E0])
    stage.world.server.bad = {MENDED.body}
    stage.run([MENDED], policy=Policy(send_changed=True))
    stage.run([E0])
    return stage.wrong(E0, MENDED)


def claiming_forgets_what_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = KeyLine.claimed
    monkeypatch.setattr(
        KeyLine, "claimed", lambda line, *words: replace(claims(line, *words), accepted=())
    )


def c15_what_is_deferred_can_be_claimed_later(stage: Stage) -> list[str]:
    stage.world.server.limited = {E0.body}
    stage.run([E0])
    stage.world.server.limited = set()
    stage.world.clock.advance(7 * 24 * 3600)
    stage.run([E0])
    return [] if stage.state(E0) == "accepted" else ["nobody can ever send it"]


def deferring_keeps_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyLine, "was_deferred", lambda line, *_: line)


def c16_a_frozen_process_does_not_hold_its_keys_for_ever(stage: Stage) -> list[str]:
    a, _, _ = stage.in_flight([E0], days=30)
    next(a)
    stage.world.clock.advance(7 * 24 * 3600)
    stage.run([E0])
    return [] if stage.decide(E0, "resend") is None else ["no person can decide, for ever"]


def nobody_reaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "reap", lambda *_, **__: 0)


def only_surely_dead_processes_are_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    reaps = Ledger.reap
    monkeypatch.setattr(
        Ledger,
        "reap",
        lambda ledger, account, *, now, **_: reaps(ledger, account, now=now, by_heartbeat=False),
    )


def c20_a_process_stops_when_its_ledger_is_replaced(stage: Stage) -> list[str]:
    a, _, network = stage.process([E0, E1], body=130)
    next(a)
    _put_a_copy_in_its_place(stage.ledger.store)
    try:
        run_to_end(a)
    except LedgerError:
        return []
    return [f"{network.started} requests were made, the last ones written into the void"]


def _put_a_copy_in_its_place(store: Any) -> None:
    """A backup is restored while somebody sends."""
    if isinstance(store, SqliteStore):
        store.path.rename(store.path.with_suffix(".lost"))
        store.path.write_bytes(store.path.with_suffix(".lost").read_bytes())
        return
    with store._engine.begin() as connection:
        tables = sa.inspect(connection).get_table_names("rd_import")
        connection.execute(sa.text("ALTER SCHEMA rd_import RENAME TO lost"))
        connection.execute(sa.text("CREATE SCHEMA rd_import"))
        for table in tables:
            connection.execute(
                sa.text(f"CREATE TABLE rd_import.{table} (LIKE lost.{table} INCLUDING ALL)")
            )
        for table in set(tables) - {"requests"}:
            connection.execute(
                sa.text(f"INSERT INTO rd_import.{table} SELECT * FROM lost.{table}")  # noqa: S608
            )


def replaced_ledgers_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "_refuse_if_replaced", lambda *_: None)


def c22_where_a_refusal_is_partial_bodies_hold_one_event(stage: Stage) -> list[str]:
    stage.world.server.partial, stage.world.server.bad = True, {E0.body}
    stage.ledger.learn(stage.world.account, partial=True)
    stage.run([E0, E1, E2])
    return stage.wrong(E0, E1, E2)


def the_account_is_taken_for_atomic(monkeypatch: pytest.MonkeyPatch) -> None:
    learns = Ledger.learn
    monkeypatch.setattr(
        Ledger,
        "learn",
        lambda ledger, account, **facts: learns(ledger, account, **facts | {"partial": None}),
    )


def f1_a_scheduler_that_starts_again_pays_one_event_each_time(stage: Stage) -> list[str]:
    events = [event(number) for number in range(30)]
    for _ in range(5):
        steps, _, _ = stage.process(events, ("502 after",) * 99, body=300, workers=4)
        run_to_end(steps)
    lost = sum(stage.state(one) == "unknown" for one in events)
    return [] if lost <= 3 * 2 + 4 else [f"{lost} events are unknown"]


def the_trip_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    knows = Ledger.facts
    monkeypatch.setattr(Ledger, "facts", lambda *words: replace(knows(*words), tripped=False))


def f2_an_outage_that_comes_and_goes_is_bounded_in_all(stage: Stage) -> list[str]:
    events = [event(number) for number in range(60)]
    fates = ("lost after", "lost after", None) * 99
    for _ in range(3):
        run_to_end(stage.process(events, fates, body=130, workers=1)[0])
    lost = sum(stage.state(one) == "unknown" for one in events)
    return [] if lost <= 10 else [f"{lost} events are unknown"]


def there_is_no_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "open_unknowns", lambda *_, **__: -1_000_000)


@pytest.mark.parametrize(
    ("story", "take_out"),
    [
        (c1_a_refused_key_can_be_claimed_again, without_reclaim),
        (c2_two_processes_look_and_only_one_sends, without_a_condition),
        (c3_a_paused_process_is_declared_dead, reaping_frees),
        (c4_a_dead_processs_body_is_still_on_the_wire, reaping_frees),
        (c5_the_body_left_and_only_the_mark_tells, without_a_mark),
        (c6_what_waits_for_its_slot_holds_no_key, without_a_condition),
        (c7_a_mended_content_of_an_unknown_key_can_be_ordered, only_the_doubtful_content),
        (c8_a_contact_limit_on_a_resend_clears_no_doubt, deferring_clears_doubt),
        (c9_no_byte_of_an_ordered_resend_clears_no_doubt, releasing_clears_doubt),
        (c10_what_a_person_left_is_not_sent_by_the_next_import, left_is_claimable),
        (c11_a_decision_from_a_stale_screen_does_not_hold, deciding_without_looking),
        (c12_a_retry_is_a_claim_of_its_own, without_a_condition),
        (c13_uuids_go_by_position_in_the_body_that_went, uuids_by_planned_position),
        (c14_sending_a_changed_content_forgets_none, claiming_forgets_what_was_accepted),
        (c15_what_is_deferred_can_be_claimed_later, deferring_keeps_the_claim),
        (c16_a_frozen_process_does_not_hold_its_keys_for_ever, nobody_reaps),
        (c16_a_frozen_process_does_not_hold_its_keys_for_ever, only_surely_dead_processes_are_reaped),
        (c20_a_process_stops_when_its_ledger_is_replaced, replaced_ledgers_are_not_noticed),
        (c22_where_a_refusal_is_partial_bodies_hold_one_event, the_account_is_taken_for_atomic),
        (f1_a_scheduler_that_starts_again_pays_one_event_each_time, the_trip_is_forgotten),
        (f2_an_outage_that_comes_and_goes_is_bounded_in_all, there_is_no_total),
    ],
    ids=[
        "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C12", "C13", "C14", "C15", "C16",
        "C17", "C20", "C22", "F1", "F2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("rule", ["holds", "is taken out"])
def test_a_counterexample_happens_only_without_its_rule(
    story: Callable[[Stage], list[str]],
    take_out: Rule,
    rule: str,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if rule == "is taken out":
        take_out(monkeypatch)
        assert story(stage) != []
    else:
        assert story(stage) == []


# --- the ledger lost, and what stands in an audit ------------------------------------------------------------------


def _dies_after_the_body_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from rd_import.service import RdStation

    class DyingExchange:
        max_events = None

        def __init__(self, service: RdStation) -> None:
            self._service = service

        def start(self, events: list[bytes]) -> int:
            self._service.post(events, time.time())
            raise Crash

        def wake(self) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("rd_import.session.ThreadedExchange", DyingExchange)


def _import_that_dies(rd_import: Command, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    with monkeypatch.context() as patch:
        _dies_after_the_body_left(patch)
        with pytest.raises(Crash):
            rd_import(*words)


def _lose_the_ledger(tmp_path: Path) -> None:
    for path in (tmp_path / "state").rglob("ledger.db*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("rule", ["holds", "is taken out"])
def test_c18_an_open_audit_stands_before_the_first_byte(
    rule: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies, the ledger is lost: the open audit beside the file tells what may have been sent."""
    if rule == "is taken out":
        monkeypatch.setattr("rd_import.audit_file.write_open_audit", lambda *_: None)
    file = save(tmp_path / "orders.csv", orders({}, {}))
    _import_that_dies(rd_import, monkeypatch, file, *TYPE)
    _lose_the_ledger(tmp_path)
    audits = sorted(tmp_path.glob("*.open"))
    if audits:
        rd_import("ledger", "add", *audits)
    again = rd_import(file, *TYPE, "--json")
    if rule == "holds":
        assert (again.code, again.json["states"]) == (5, {"unknown": 2})
        assert len(sandbox.events()) == 2
    else:
        assert len(sandbox.events()) == 4


@pytest.mark.parametrize("rule", ["holds", "is taken out"])
def test_c19_going_on_reopens_the_audit(
    rule: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first audit says `not_sent`; the run goes on, dies, the ledger is lost: that audit is not to be believed."""
    file = save(tmp_path / "orders.csv", orders({}, {}))
    monkeypatch.setenv("RD_IMPORT_TOKEN", "wrong")
    stopped = rd_import(file, *TYPE, "--json")
    assert stopped.json["states"] == {"not_sent": 2}
    monkeypatch.setenv("RD_IMPORT_TOKEN", sandbox.token)
    if rule == "is taken out":
        monkeypatch.setattr("rd_import.audit_file.write_open_audit", lambda *_: None)
    _import_that_dies(rd_import, monkeypatch, "resume")
    _lose_the_ledger(tmp_path)
    added = rd_import("ledger", "add", *sorted(tmp_path.glob("*.audit.parquet*")))
    assert added.code == 0, (added, sorted(tmp_path.iterdir()))
    again = rd_import(file, *TYPE, "--json", "--audit", tmp_path / "again.parquet")
    assert again.json["states"] == ({"unknown": 2} if rule == "holds" else {"accepted": 2})
    assert len(sandbox.events()) == (2 if rule == "holds" else 4)


@pytest.mark.parametrize("rule", ["holds", "is taken out"])
def test_c21_what_another_run_is_sending_is_unknown_and_not_unsent(
    rule: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run's body is out; saying `not_sent` would be a lie as soon as it arrives."""
    monkeypatch.setattr(send, "LOOK_AGAIN_FOR", timedelta())
    if rule == "is taken out":
        decides = audit._Merge._state

        def blind(merge: Any, ordinal: int, sha: bytes, line: KeyLine, *words: Any) -> Any:
            return decides(merge, ordinal, sha, replace(line, request=None), *words)

        monkeypatch.setattr(audit._Merge, "_state", blind)
    file = save(tmp_path / "orders.csv", orders({}))
    ledger_path = tmp_path / "ledger.db"
    with Ledger.open(ledger_path) as other:
        now = SystemClock().now()
        other.start_process("another", "run A", now=now)
        taken = rd_import("check", file, *TYPE, "--json", "--keep")
        folder = RunFolder.open(tmp_path / "state" / "rd-import" / "runs" / taken.json["run_id"])
        folder.keep_contacts(other.secret)
        account = other.account(f"sandbox {sandbox.instance}")
        [planned] = unsent(folder, other, account, now=now, policy=Policy())
        other.claim(Mark("request A", account, "run A", "another", 1), [planned], now=now)
        done = rd_import(file, *TYPE, "--json", "--ledger", ledger_path)
        assert done.json["states"] == ({"unknown": 1} if rule == "holds" else {"not_sent": 1})
        assert sandbox.requests() == []
        if rule == "holds":
            assert done.audit[0]["proof"] == "run run A is sending it"
