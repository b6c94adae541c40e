"""The ledger on a real disk: what it says is durable, exclusive, private, or a sentence."""

import contextlib
import os
import random
import sqlite3
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest

from rd_import.errors import LedgerError
from rd_import.key_line import Fact, KeyLine, Lost, Policy, Unresolvable
from rd_import.ledger import Decision, Ledger, Mark
from rd_import.outcome import ApiError
from rd_import.values import PlannedEvent

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SCOPE = "https://api.rd.services default"


def event(number: int, content: int = 0) -> PlannedEvent:
    return PlannedEvent(
        number,
        key=number.to_bytes(32, "big"),
        sha=content.to_bytes(32, "big"),
        contact=b"c" * 32,
        body=b'{"n":%d}' % number,
    )


EVENTS = [event(number) for number in range(3)]
KEYS = [one.key for one in EVENTS]


def mark_of(request: str, *, run: str = "run", batch: int = 1) -> Mark:
    return Mark(request, 1, run, f"process of {run}", batch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def sqlite_ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        assert opened.account(SCOPE) == 1
        yield opened


@pytest.fixture
def ledger(place: Path | str) -> Iterator[Ledger]:
    with Ledger.open(place) as opened:
        assert opened.account(SCOPE) == 1
        yield opened


# --- durable --------------------------------------------------------------------------------------


def test_a_mark_is_on_disk_before_the_claim_returns(sqlite_ledger: Ledger, path: Path) -> None:
    """The body leaves after that: a process that dies then must be known to have sent."""
    sqlite_ledger.claim(mark_of("r1"), EVENTS, now=NOW)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT request, state FROM requests").fetchall() == [("r1", "sent")]
        held = other.execute("SELECT event_key, request FROM keys ORDER BY event_key").fetchall()
    assert held == [(key, "r1") for key in KEYS]


def test_every_commit_waits_for_the_disk(sqlite_ledger: Ledger) -> None:
    """`synchronous=FULL` (2): a power cut after the first byte must not take the mark back."""
    with sqlite_ledger.store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_outcomes_are_there_when_the_ledger_is_opened_again(place: Path | str) -> None:
    with Ledger.open(place) as before:
        account = before.account(SCOPE)
        mark = mark_of("r1")
        before.claim(mark, EVENTS, now=NOW)
        before.record_accepted(
            mark, EVENTS, ["u0", "u1", "u2"], batch_uuid="b", proof="200", now=LATER
        )
        facts = (before.ledger_id, before.secret)
    with Ledger.open(place) as after:
        assert (after.ledger_id, after.secret) == facts
        assert after.account(SCOPE) == after.known_account(SCOPE) == account
        lines = after.lines(account, KEYS)
        assert [lines[key].uuid_of(EVENTS[0].sha) for key in KEYS] == ["u0", "u1", "u2"]
        (request,) = after.requests_of("run")
        assert (request.state, request.outcome, request.batch_uuid) == ("answered", "accepted", "b")
        assert (request.marked_at, request.answered_at) == (NOW, LATER)


def test_what_a_process_left_as_sent_is_still_sent_for_the_next_one(place: Path | str) -> None:
    """Nobody takes it for free: the dead process's body may be on the wire."""
    with Ledger.open(place) as before:
        before.account(SCOPE)
        before.claim(mark_of("r1"), EVENTS, now=NOW)
    with Ledger.open(place) as after:
        claim = after.claim(mark_of("r2", run="another"), EVENTS, now=LATER)
        assert claim.won == ()
        assert claim.lost == dict.fromkeys(KEYS, Lost.SENT)


def test_the_database_says_what_each_answer_proved(ledger: Ledger) -> None:
    """One request with each outcome; the line of its key afterwards."""
    shas = [one.sha for one in EVENTS]

    def line_after(number: int, record: str) -> KeyLine:
        one, mark = event(number), mark_of(f"r{number}")
        ledger.claim(mark, [one], now=NOW)
        match record:
            case "released":
                ledger.record_released(
                    mark, [one], outcome="not accepted", proof="401", http_status=401, now=NOW
                )
            case "refused":
                wrong = {0: ApiError("INVALID", "no", "$[0]")}
                ledger.record_refused(mark, [one], wrong, proof="400", http_status=400, now=NOW)
            case "deferred":
                ledger.record_deferred(mark, [one], {0}, not_before=LATER, proof="429", now=NOW)
            case _:
                ledger.record_unknown(mark, proof="read timeout", http_status=None, now=NOW)
        return ledger.lines(1, [one.key])[one.key]

    assert line_after(10, "released").why == "released"
    assert line_after(11, "refused").why == "refused"
    deferred = line_after(12, "deferred")
    assert (deferred.why, deferred.not_before) == ("deferred", LATER)
    assert line_after(13, "unknown").doubt == (Fact(shas[0], "r13"),)


def test_the_events_that_were_not_named_are_released(ledger: Ledger) -> None:
    """400 names the second of three: the others go again at once."""
    mark = mark_of("r1")
    ledger.claim(mark, EVENTS, now=NOW)
    wrong = {1: ApiError("INVALID", "no", "$[1]")}
    ledger.record_refused(mark, EVENTS, wrong, proof="400 INVALID", http_status=400, now=NOW)
    lines = ledger.lines(1, KEYS)
    assert [lines[key].why for key in KEYS] == ["released", "refused", "released"]
    assert all(line.request is None for line in lines.values())


# --- exclusive ------------------------------------------------------------------------------------


def test_two_openers_never_win_the_same_key(place: Path | str) -> None:
    """Eight of them claim the same body at once, each beginning elsewhere."""
    events = [event(number) for number in range(60)]
    start = Barrier(8, timeout=20)

    def claim(opened: Ledger, number: int) -> list[int]:
        start.wait()
        body = [*events[number * 7 :], *events[: number * 7]]
        claim = opened.claim(mark_of(f"r{number}", run=f"run {number}"), body, now=NOW)
        return [one.ordinal for one in claim.won]

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        openers = [stack.enter_context(Ledger.open(place)) for _ in range(8)]
        openers[0].account(SCOPE)
        won = list(pool.map(claim, openers, range(8)))
        lines = openers[0].lines(1, [one.key for one in events])
    assert sorted(number for numbers in won for number in numbers) == list(range(60))
    for opener, numbers in enumerate(won):
        assert all(lines[event(number).key].request == f"r{opener}" for number in numbers)


def test_what_is_lost_is_cut_and_the_rest_goes_in_body_order(ledger: Ledger) -> None:
    """uuids go by position in the body that went (C13)."""
    ledger.claim(mark_of("r1"), [EVENTS[1]], now=NOW)
    claim = ledger.claim(mark_of("r2", run="another"), [EVENTS[2], EVENTS[1], EVENTS[0]], now=NOW)
    assert claim.won == (EVENTS[2], EVENTS[0])
    assert claim.lost == {KEYS[1]: Lost.SENT}
    (request,) = ledger.requests_of("another")
    assert request.ordinals == (2).to_bytes(4, "little") + (0).to_bytes(4, "little")
    assert request.body_bytes == len(b'[{"n":2},{"n":0}]')


def test_a_claim_sends_nothing_of_a_key_to_a_second_person(ledger: Ledger) -> None:
    """Two previews saw a free key; whatever the slower run may send, it is not this to another contact."""
    mark, slower = mark_of("r1"), Policy(send_changed=True, resend_unknown=True)
    ledger.claim(mark, EVENTS[:2], now=NOW)
    ledger.record_accepted(mark, EVENTS[:2], ["u0", "u1"], batch_uuid=None, proof="200", now=NOW)
    late = [replace(event(0, 1), contact=b"d" * 32), event(1, 1)]
    claim = ledger.claim(mark_of("r2", run="another"), late, now=NOW, policy=slower)
    assert claim.won == (late[1],)
    assert claim.lost == {KEYS[0]: Lost.CHANGED}


def test_a_claim_that_wins_nothing_writes_nothing(ledger: Ledger) -> None:
    ledger.claim(mark_of("r1"), EVENTS, now=NOW)
    ledger.claim(mark_of("r2", run="another"), EVENTS, now=NOW)
    assert list(ledger.requests_of("another")) == []


@pytest.mark.parametrize("content", [0, 1])
def test_a_key_that_stands_twice_in_a_body_is_won_once(ledger: Ledger, content: int) -> None:
    """Whatever went wrong before: one event, one send."""
    claim = ledger.claim(mark_of("r1"), [event(0), event(0, content)], now=NOW)
    assert claim.won == (event(0),)


def test_accounts_do_not_share_keys(ledger: Ledger) -> None:
    """The account is no part of the key: the same order may go to two accounts."""
    other = ledger.account("https://api.rd.services other")
    ledger.claim(mark_of("r1"), EVENTS, now=NOW)
    assert ledger.claim(Mark("r2", other, "run", "p", 1), EVENTS, now=NOW).won == tuple(EVENTS)


def test_many_openers_of_a_new_ledger_make_one(place: Path | str) -> None:
    """A scheduler starts its tasks at the same second."""
    start = Barrier(8, timeout=20)

    def identity(_: int) -> tuple[str, bytes]:
        start.wait()
        with Ledger.open(place) as opened:
            return opened.ledger_id, opened.secret

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(identity, range(8)))) == 1


def test_slots_of_two_openers_never_overlap(place: Path | str) -> None:
    """All runs of an account share its requests a minute."""
    interval = timedelta(seconds=0.5)
    with Ledger.open(place) as first, Ledger.open(place) as second, ThreadPoolExecutor(4) as pool:
        account = first.account(SCOPE)
        taken = pool.map(
            lambda number: (first, second)[number % 2].take_slot(
                account, now=NOW, interval_s=interval.total_seconds()
            ),
            range(40),
        )
        assert sorted(taken) == [NOW + number * interval for number in range(40)]


def test_a_slot_is_never_in_the_past(ledger: Ledger) -> None:
    """Slots that nobody took are gone: there is no burst after a pause."""
    ledger.take_slot(1, now=NOW, interval_s=1)
    assert ledger.take_slot(1, now=LATER, interval_s=1) == LATER
    assert ledger.take_slot(1, now=LATER, interval_s=1) == LATER + timedelta(seconds=1)


# --- decisions ------------------------------------------------------------------------------------


def test_an_order_cannot_be_withdrawn_while_its_request_is_under_way(ledger: Ledger) -> None:
    """The table: a key that is being sent takes no decision."""
    one = EVENTS[0]
    first, second = mark_of("r1"), mark_of("r2")
    ledger.claim(first, [one], now=NOW)
    ledger.record_unknown(first, proof="read timeout", http_status=None, now=NOW)
    resend = Decision("resend", "ana", "looked it up")
    assert ledger.resolve(1, one.key, one.sha, resend, now=NOW) is None
    assert ledger.claim(second, [one], now=NOW).won == (one,)
    withdraw = Decision("withdraw", "ana", "changed my mind")
    found = ledger.resolve(1, one.key, one.sha, withdraw, now=NOW)
    assert found is Unresolvable.IN_FLIGHT


# --- lists come back in order ---------------------------------------------------------------------


def test_requests_come_back_in_the_order_in_which_they_were_marked(ledger: Ledger) -> None:
    """Names are random, and a clock stands still or is set back."""
    moments = [NOW, NOW, NOW - timedelta(hours=1), NOW, NOW + timedelta(seconds=1)]
    for number, moment in enumerate(moments):
        mark = mark_of(f"r{9 - number}", batch=number)
        ledger.claim(mark, [event(number)], now=moment)
    assert [one.batch for one in ledger.requests_of("run")] == [0, 1, 2, 3, 4]


def test_refusals_come_back_by_request_and_position(ledger: Ledger) -> None:
    errors = {
        2: ApiError("INVALID", "não", "$[2].payload.email"),
        0: ApiError("TOO_LONG", "255", "$[0]"),
    }
    mark = mark_of("r1")
    ledger.claim(mark, EVENTS, now=NOW)
    ledger.record_refused(mark, EVENTS, errors, proof="400", http_status=400, now=NOW)
    assert ledger.refusals_of("run") == {("r1", at): one for at, one in errors.items()}
    assert [position for _, position in ledger.refusals_of("run")] == [0, 2]
    assert ledger.refusals_of("another run") == {}


def test_more_keys_than_one_question_takes_are_all_answered(ledger: Ledger) -> None:
    events = [event(number) for number in range(1_300)]
    ledger.claim(mark_of("r1"), events, now=NOW)
    lines = ledger.lines(1, [one.key for one in events] + [event(9_999).key])
    assert set(lines) == {one.key for one in events}


# --- private --------------------------------------------------------------------------------------


def test_keys_are_told_the_same_in_whatever_order_and_company_they_are_asked(
    ledger: Ledger,
) -> None:
    """What was sent side by side is read at one go where it is asked for in that order; one by one it cannot be."""
    known = [
        replace(event(number), key=(number << 200 | number).to_bytes(32, "big"))
        for number in range(1300)
    ]
    other = ledger.account("elsewhere")
    for at in range(0, len(known), 100):
        part, name = known[at : at + 100], f"r{at}"
        ledger.claim(mark_of(name), part, now=NOW)
        ledger.claim(replace(mark_of(f"other {at}"), account=other), part[::2], now=NOW)
        if at % 300 == 200:
            ledger.record_unknown(mark_of(name), proof="cut", http_status=None, now=NOW)
        elif at % 300 == 100:
            uuids = [f"{name} {one.ordinal}" for one in part]
            ledger.record_accepted(
                mark_of(name), part, uuids, batch_uuid=None, proof="200", now=NOW
            )
    dice = random.Random(1)
    strangers = [(number << 200 | 7).to_bytes(32, "big") for number in range(200)]
    in_order = [one.key for one in known]
    mixed = dice.sample([*in_order, *strangers], 1200)
    alone = {
        key: line for key in [*in_order, *strangers] for line in ledger.lines(1, [key]).values()
    }
    assert Counter(line.request is not None for line in alone.values()) == {True: 500, False: 800}
    for asked in (in_order, in_order[::-1], in_order[150:950], mixed, [*in_order, *in_order]):
        assert ledger.lines(1, asked) == {key: alone[key] for key in asked if key in alone}
        shas = pl.Series([bytes(32)] * len(asked), dtype=pl.Binary)
        uuids = [alone[key].uuid_of(bytes(32)) if key in alone else None for key in asked]
        assert ledger.settled(1, asked, shas).to_list() == uuids
        assert any(uuids)


def modes(folder: Path) -> dict[str, str]:
    return {one.name: oct(stat.S_IMODE(one.stat().st_mode)) for one in folder.iterdir()}


def test_only_its_owner_can_read_a_ledger(sqlite_ledger: Ledger, path: Path) -> None:
    """It holds the secret that contacts are hashed with; its journals hold the same."""
    sqlite_ledger.claim(mark_of("r1"), EVENTS, now=NOW)
    files = {name: mode for name, mode in modes(path.parent).items() if name.startswith("ledger")}
    assert set(files) == {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(files.values()) == {"0o600"}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_ledger_that_others_could_read_is_closed_to_them(path: Path) -> None:
    """A copy from a backup often has the mode of the copying program."""
    Ledger.open(path).close()
    path.chmod(0o644)
    Ledger.open(path).close()
    assert modes(path.parent)["ledger.db"] == "0o600"


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a#b.db", "a%20b.db", "razão.db", "a&b=c.db"])
def test_a_ledger_lies_where_it_was_asked_for(tmp_path: Path, name: str) -> None:
    """The path goes through an address, where some letters mean something else."""
    with Ledger.open(tmp_path / "state" / name) as opened:
        opened.account(SCOPE)
    with Ledger.open(tmp_path / "state" / name) as opened:
        assert opened.known_account(SCOPE) == 1
    assert [one.name for one in (tmp_path / "state").iterdir()] == [name]


# --- refused with a sentence ----------------------------------------------------------------------


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def sentence_of(path: Path) -> str:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    text = str(caught.value)
    assert str(path.parent) in text
    assert "\nhint: " in text
    assert caught.value.exit_code == 1
    return text


def test_a_folder_that_cannot_be_written_is_refused(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with without_privileges():
        assert "cannot be written" in sentence_of(open_folder / "ledger.db")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in sentence_of(tmp_path / "file" / "ledger.db")


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o400])
def test_a_ledger_that_cannot_be_written_is_refused(open_folder: Path, mode: int) -> None:
    """Another user's, or on a disk that was mounted to be read only."""
    path = open_folder / "ledger.db"
    Ledger.open(path).close()
    path.chmod(mode)
    open_folder.chmod(0o777)
    if os.geteuid() != 0:
        open_folder.chmod(0o555)
    with without_privileges():
        sentence_of(path)


def test_a_folder_in_its_place_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """`--ledger ~` must not close the home folder to everybody."""
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(LedgerError):
        Ledger.open(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"email,value\n" * 500)
    path.chmod(0o644)
    assert "no ledger" in sentence_of(path)
    assert path.read_bytes() == b"email,value\n" * 500
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "crm.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE customers (name)")
    sentence_of(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_a_ledger_of_a_newer_version_is_refused(path: Path) -> None:
    """An older program would read it wrong, and send again."""
    Ledger.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE meta SET value = '999' WHERE name = 'schema_version'")
    assert "schema version 999" in sentence_of(path)


def test_a_damaged_ledger_is_refused_before_anything_is_claimed(path: Path) -> None:
    """A page of it is gone: whatever it says of any key cannot be trusted."""
    with Ledger.open(path) as opened:
        opened.account(SCOPE)
        opened.claim(mark_of("r1"), [event(number) for number in range(2_000)], now=NOW)
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 4096)
    path.write_bytes(content)

    def claim() -> None:
        with Ledger.open(path) as opened:
            opened.account(SCOPE)
            opened.claim(mark_of("r2"), [event(number) for number in range(2_000)], now=NOW)

    with pytest.raises(LedgerError, match="keep the file") as caught:
        claim()
    assert str(path) in str(caught.value)


def test_a_ledger_that_is_cut_off_is_refused(path: Path) -> None:
    with Ledger.open(path) as opened:
        opened.account(SCOPE)
    path.write_bytes(path.read_bytes()[:5_000])
    assert "cannot be used" in sentence_of(path)


def test_a_locked_ledger_is_refused_and_says_so(sqlite_ledger: Ledger, path: Path) -> None:
    """Another program holds it for longer than we wait."""
    with sqlite_ledger.store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="is locked by another program"):
            sqlite_ledger.claim(mark_of("r1"), EVENTS, now=NOW)
        other.execute("ROLLBACK")
    assert sqlite_ledger.claim(mark_of("r1"), EVENTS, now=NOW).won == tuple(EVENTS)


def test_a_ledger_can_be_read_while_another_writes(sqlite_ledger: Ledger, path: Path) -> None:
    """`status` must work during a run."""
    sqlite_ledger.claim(mark_of("r1"), EVENTS, now=NOW)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert set(sqlite_ledger.lines(1, KEYS)) == set(KEYS)


def test_what_fails_half_way_leaves_nothing_half_written(ledger: Ledger) -> None:
    """A body whose answer names a key that the ledger lacks: none of it is recorded."""
    mark = mark_of("r1")
    ledger.claim(mark, EVENTS, now=NOW)
    with pytest.raises((KeyError, LedgerError)):
        ledger.record_released(
            mark, [*EVENTS, event(77)], outcome="x", proof="401", http_status=401, now=NOW
        )
    assert {line.request for line in ledger.lines(1, KEYS).values()} == {"r1"}
    (request,) = ledger.requests_of("run")
    assert request.state == "sent"


def test_a_person_who_was_erased_stays_out_by_their_keyed_hash(place: Path | str) -> None:
    """Whatever the case of the address; once more changes nothing."""
    with Ledger.open(place) as ledger:
        contact = ledger.contact_of(" Ana@Example.com ")
        assert contact == ledger.contact_of("ana@example.com")
        assert ledger.forgotten() == frozenset()
        for _ in range(2):
            assert ledger.forget(contact, "ana@example.com", now=NOW) == 0
            assert ledger.forgotten() == {contact}
