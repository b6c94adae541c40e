"""The ledger through the command: rebuilt, verified, brought up to date, lost under way, or of no use."""

import contextlib
import errno
import functools
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rd_import.run_folder
from conftest import Command, Outcome
from rd_import.exchange import ThreadedExchange
from rd_import.ledger import Ledger
from rd_import.ledger_schema import SCHEMA_VERSION
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rd_import.send import Rules
from rig import broken_promises, job, orders, registered, save

# --- rebuilt from audits


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the second request is the second batch, and a fault meets the rows that the test speaks of."""
    monkeypatch.setattr("rd_import.send.Rules", functools.partial(Rules, workers=1))


def test_a_lost_ledger_is_rebuilt_from_audits_and_nothing_goes_twice(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = job(tmp_path / "a.csv", 30, 5)
    rd_import(*words, "--ledger", tmp_path / "lost.db", "--audit", tmp_path / "a.parquet")
    more = job(tmp_path / "b.csv", 30, 5, first=21)
    rd_import(*more, "--ledger", tmp_path / "lost.db", "--audit", tmp_path / "b.parquet")
    new = ("--ledger", tmp_path / "new.db")
    added = rd_import(
        "ledger", "add", tmp_path / "a.parquet", tmp_path / "b.parquet", *new, "--json"
    )
    assert added.code == 0
    assert added.json["audits"] == {
        str(tmp_path / "a.parquet"): 30,
        str(tmp_path / "b.parquet"): 20,
    }
    again = rd_import(*words, *new, "--audit", tmp_path / "c.parquet")
    assert (again.code, again.json["requests"]) == (0, 0)
    assert again.json["states"] == {"already_accepted": 30}
    assert broken_promises(sandbox, [tmp_path / f"{name}.parquet" for name in "abc"]) == []
    assert registered(sandbox) == dict.fromkeys(range(1, 51), 1)
    assert rd_import(*more, *new, "--audit", tmp_path / "d.parquet").json["requests"] == 0
    twice = rd_import("ledger", "add", tmp_path / "a.parquet", *new, "--json")
    assert twice.json["audits"] == {str(tmp_path / "a.parquet"): 0}


def test_a_rebuilt_ledger_keeps_what_was_unknown_and_frees_what_was_refused(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(
        refused_contacts=("c000001@example.com",), faults=(Fault("drop-after", at=(4,)),)
    )
    words = job(tmp_path / "a.csv", 15, 5)
    first = rd_import(*words, "--ledger", tmp_path / "lost.db", "--audit", tmp_path / "a.parquet")
    assert first.json["states"] == {"accepted": 9, "refused": 1, "unknown": 5}
    sandbox.behaviour = Behaviour()
    new = ("--ledger", tmp_path / "new.db")
    rd_import("ledger", "add", tmp_path / "a.parquet", *new)
    again = rd_import(*words, *new, "--audit", tmp_path / "b.parquet")
    assert again.json["states"] == {"accepted": 1, "already_accepted": 9, "unknown": 5}
    assert set(registered(sandbox).values()) == {1}


def crash_at(monkeypatch: pytest.MonkeyPatch, request: int, error: BaseException) -> None:
    """Let the process end where it would record the answer of request number so and so."""
    record, seen = Ledger.record_accepted, []

    def fail(ledger: Ledger, *words: Any, **options: Any) -> None:
        seen.append(1)
        if len(seen) == request:
            monkeypatch.setattr(Ledger, "record_accepted", record)
            raise error
        record(ledger, *words, **options)

    monkeypatch.setattr(Ledger, "record_accepted", fail)


def test_an_open_audit_puts_all_its_keys_in_doubt(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine ended in the middle and its disk is lost; only what stood beside the audit is left."""
    words = job(tmp_path / "a.csv", 30, 5)
    crash_at(monkeypatch, 3, KeyboardInterrupt())
    ended = rd_import(*words, "--ledger", tmp_path / "lost.db", "--audit", tmp_path / "a.parquet")
    assert ended.code == 130
    sent = registered(sandbox)
    assert sent
    shutil.rmtree(tmp_path / "state")
    new = ("--ledger", tmp_path / "new.db")
    added = rd_import("ledger", "add", tmp_path / "a.parquet.open", *new, "--json")
    assert added.json["audits"] == {str(tmp_path / "a.parquet.open"): 30}
    again = rd_import(*words, *new, "--audit", tmp_path / "b.parquet")
    assert (again.code, again.json["requests"]) == (5, 0)
    assert again.json["states"] == {"unknown": 30}
    assert registered(sandbox) == sent


@pytest.mark.usefixtures("sandbox")
def test_what_a_final_audit_accepted_beats_the_doubt_of_an_open_one(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = job(tmp_path / "a.csv", 10, 5)
    crash_at(monkeypatch, 2, KeyboardInterrupt())
    lost = ("--ledger", tmp_path / "lost.db")
    rd_import(*words, *lost, "--audit", tmp_path / "a.parquet")
    shutil.copy(tmp_path / "a.parquet.open", tmp_path / "kept.open")
    rd_import(*words, *lost)
    new = ("--ledger", tmp_path / "new.db")
    for order in ("kept.open", "a.parquet"), ("a.parquet", "kept.open"):
        (tmp_path / "new.db").unlink(missing_ok=True)
        rd_import("ledger", "add", *(tmp_path / name for name in order), *new)
        again = rd_import(*words, *new, "--audit", tmp_path / f"{order[0]}.again")
        assert again.json["states"] == {"already_accepted": 5, "unknown": 5}
        assert again.json["requests"] == 0


def test_what_is_no_audit_is_not_added(tmp_path: Path, rd_import: Command) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no parquet at all")
    for name in ("other.parquet", "text.parquet"):
        done = rd_import("ledger", "add", tmp_path / name, "--ledger", tmp_path / "new.db")
        assert done.code == 2
        assert "no audit of rd-import" in done.err


# --- verified


def test_ledger_check_agrees_with_the_audits_or_names_what_is_missing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(faults=(Fault("drop-after", at=(2,)),))
    named = ("--ledger", tmp_path / "one.db")
    rd_import(*job(tmp_path / "a.csv", 15, 5), *named, "--audit", tmp_path / "a.parquet")
    rd_import(*job(tmp_path / "b.csv", 3, first=50), *named, "--audit", tmp_path / "b.parquet")
    whole = rd_import("ledger", "check", tmp_path / "a.parquet", tmp_path / "b.parquet", *named)
    assert whole.code == 0
    assert "whole" in whole.err
    other = ("--ledger", tmp_path / "other.db")
    assert rd_import("ledger", "check", *other).code == 2
    rd_import("ledger", "add", tmp_path / "b.parquet", *other)
    lacking = rd_import("ledger", "check", tmp_path / "a.parquet", *other, "--json")
    assert lacking.code == 1
    assert len(lacking.json["differences"]) == 15
    assert "a.parquet" in lacking.err
    assert rd_import("ledger", "check", tmp_path / "b.parquet", *other).code == 0
    rd_import("ledger", "add", tmp_path / "a.parquet", *other)
    assert rd_import("ledger", "check", tmp_path / "a.parquet", *other).code == 0


@pytest.mark.usefixtures("sandbox")
def test_ledger_check_names_an_account_that_the_ledger_never_saw(
    tmp_path: Path, rd_import: Command
) -> None:
    rd_import(*job(tmp_path / "a.csv", 3), "--audit", tmp_path / "a.parquet")
    with Ledger.open(tmp_path / "other.db"):
        pass
    words = ("ledger", "check", tmp_path / "a.parquet", "--ledger", tmp_path / "other.db")
    done = rd_import(*words, "--json")
    assert done.code == 1
    assert "does not know the account" in done.json["differences"][0]


@pytest.mark.usefixtures("sandbox")
def test_ledger_check_names_an_event_that_stands_there_twice(
    tmp_path: Path, rd_import: Command
) -> None:
    """No constraint of the database forbids it; only writers that take turns do."""
    named = ("--ledger", tmp_path / "one.db")
    rd_import(*job(tmp_path / "a.csv", 3), *named, "--audit", tmp_path / "a.parquet")
    with contextlib.closing(sqlite3.connect(tmp_path / "one.db")) as database, database:
        of_line = "SELECT account, event_key, why FROM keys LIMIT 1"
        database.execute(f"INSERT INTO keys (account, event_key, why) {of_line}")
    done = rd_import("ledger", "check", *named, "--json")
    assert done.code == 1
    assert "more than once" in done.json["differences"][0]


# --- older and newer versions

VERSION_1: Final = """
CREATE TABLE meta (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE accounts (account INTEGER NOT NULL, scope TEXT NOT NULL, next_slot_us BIGINT NOT NULL,
    max_body INTEGER, max_per_contact INTEGER, PRIMARY KEY (account), UNIQUE (scope));
CREATE TABLE runs (run TEXT NOT NULL, account INTEGER NOT NULL, event_type TEXT NOT NULL,
    input_sha256 TEXT NOT NULL, audit_path TEXT NOT NULL, started_us BIGINT NOT NULL, finished_us BIGINT,
    PRIMARY KEY (run));
CREATE TABLE requests (request TEXT NOT NULL, account INTEGER NOT NULL, run TEXT NOT NULL, process TEXT NOT NULL,
    batch INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT, proof TEXT, http_status INTEGER, batch_uuid TEXT,
    body_bytes INTEGER NOT NULL, event_keys BLOB NOT NULL, ordinals BLOB NOT NULL, marked_us BIGINT NOT NULL,
    answered_us BIGINT, PRIMARY KEY (request));
CREATE INDEX requests_in_flight ON requests (account) WHERE state = 'sent';
CREATE INDEX requests_by_run ON requests (run, marked_us);
CREATE TABLE refusals (request TEXT NOT NULL, position INTEGER NOT NULL, code TEXT NOT NULL, path TEXT NOT NULL,
    message TEXT NOT NULL, PRIMARY KEY (request, position));
CREATE TABLE keys (account INTEGER NOT NULL, event_key BLOB NOT NULL, request TEXT, sent_sha BLOB, accepted TEXT,
    doubt TEXT, resend_sha BLOB, resend_by TEXT, resend_why TEXT, held TEXT, why TEXT NOT NULL, not_before_us BIGINT,
    contact BLOB, PRIMARY KEY (account, event_key)) WITHOUT ROWID;
"""
"""The tables as version 1 made them."""


def version_1(path: Path, audit: Path) -> None:
    """Make a ledger of version 1: rows 1 and 2 accepted, 3 in doubt, 4 left as sent by a process that is gone."""
    rows = pq.read_table(audit).to_pylist()
    keys = [bytes.fromhex(row["event_key"]) for row in rows]
    shas = [row["payload_sha256"] for row in rows]
    scope = pq.read_metadata(audit).metadata[b"rd_import.scope"].decode()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(VERSION_1)
        facts = {"schema_version": "1", "ledger_id": "1" * 32, "secret": "2" * 64}
        database.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
        database.execute(
            "INSERT INTO accounts (account, scope, next_slot_us, max_body) VALUES (1, ?, 0, 50000)",
            (scope,),
        )
        run = (
            "2025-01-01-oldone",
            1,
            "ECOMMERCE_ORDER_PLACED",
            "00",
            "old.parquet",
            1_700_000_000_000_000,
        )
        database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, NULL)", run)
        for request, state, own in (
            ("r1", "answered", keys[:2]),
            ("r2", "unknown", keys[2:3]),
            ("r3", "sent", keys[3:4]),
        ):
            database.execute(
                "INSERT INTO requests (request, account, run, process, batch, state, body_bytes, event_keys, ordinals,"
                " marked_us) VALUES (?, 1, ?, 'p', 1, ?, 9, ?, ?, 1700000000000000)",
                (request, run[0], state, b"".join(own), bytes(4 * len(own))),
            )
        insert = (
            "INSERT INTO keys (account, event_key, request, sent_sha, accepted, doubt, why)"
            " VALUES (1, ?, ?, ?, ?, ?, 'new')"
        )
        database.execute(insert, (keys[0], None, None, f"{shas[0]} uuid-one", None))
        database.execute(
            insert, (keys[1], None, None, f"{'0' * 64} older\n{shas[1]} uuid-two", None)
        )
        database.execute(insert, (keys[2], None, None, None, f"{shas[2]} r2"))
        database.execute(insert, (keys[3], "r3", bytes.fromhex(shas[3]), None, None))


def test_a_ledger_of_version_1_is_brought_up_to_date_and_its_keys_count(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = job(tmp_path / "a.csv", 6)
    rd_import(*words, "--ledger", tmp_path / "now.db", "--audit", tmp_path / "now.parquet")
    version_1(tmp_path / "old.db", tmp_path / "now.parquet")
    old = ("--ledger", tmp_path / "old.db")
    checked = rd_import("ledger", "check", *old)
    assert checked.code == 0
    done = rd_import(*words, *old, "--audit", tmp_path / "a.parquet")
    assert done.code == 5, done.err
    assert done.json["states"] == {"accepted": 2, "already_accepted": 2, "unknown": 2}
    assert [row["event_uuid"] for row in done.audit[:4]] == ["uuid-one", "uuid-two", None, None]
    assert registered(sandbox) == dict.fromkeys((1, 2, 3, 4), 1) | {5: 2, 6: 2}  # two other ledgers
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as database:
        [(version,)] = database.execute("SELECT value FROM meta WHERE name = 'schema_version'")
    assert version == str(SCHEMA_VERSION)
    assert len(rd_import("status", *old, "--json").json["runs"]) == 2
    left = rd_import("resolve", done.json["run_id"], "--left", "--why", "old", *old, "--json")
    assert left.code == 0


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = tmp_path / "new.db"
    with Ledger.open(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    for words in (job(tmp_path / "a.csv", 3), ["status"], ["ledger", "check"]):
        done = rd_import(*words, "--ledger", path)
        assert done.code == 1
        assert "version 99" in done.err
        assert "newer" in done.err
    assert sandbox.requests() == []


# --- lost under way


def in_the_middle(monkeypatch: pytest.MonkeyPatch, request: int, act: Callable[[], None]) -> None:
    """Do something right after a request was started."""
    start, count = ThreadedExchange.start, []

    def started(exchange: ThreadedExchange, events: Any) -> int:
        handle = start(exchange, events)
        count.append(1)
        if len(count) == request:
            act()
        return handle

    monkeypatch.setattr(ThreadedExchange, "start", started)


def removed(path: Path) -> None:
    for one in path.parent.glob(f"{path.name}*"):
        if one.is_file():
            one.unlink()


def replaced(path: Path) -> None:
    removed(path)
    with Ledger.open(path):
        pass


def renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


@pytest.mark.skipif(os.name == "nt", reason="Windows does not let go of an open file")
@pytest.mark.parametrize("loss", [removed, replaced, renamed])
def test_a_ledger_lost_under_way_stops_the_run_and_nothing_goes_twice(
    loss: Callable[[Path], None],
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "here.db"
    words = [
        *job(tmp_path / "a.csv", 60, 5),
        "--ledger",
        str(path),
        "--audit",
        tmp_path / "a.parquet",
    ]
    in_the_middle(monkeypatch, 2, lambda: loss(path))
    ended = rd_import(*words)
    assert ended.code == 1
    assert "moved or replaced" in ended.err
    assert "ledger add" in ended.err
    sent = registered(sandbox)
    assert 5 <= len(sent) <= 10
    assert (tmp_path / "a.parquet.open").exists()
    assert not (tmp_path / "a.parquet").exists()

    removed(path)
    shutil.copy(tmp_path / "a.parquet.open", tmp_path / "kept.open")
    rd_import("ledger", "add", tmp_path / "kept.open", "--ledger", path)
    again = rd_import(*words)
    assert again.code == 5
    assert again.json["states"] == {"unknown": 60}
    assert sent <= registered(sandbox)  # what was in flight may still have arrived
    assert set(registered(sandbox).values()) == {1}


# --- cannot be used


def test_a_damaged_ledger_is_a_sentence_and_is_kept(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = tmp_path / "a.db"
    words = [*job(tmp_path / "a.csv", 40, 5), "--ledger", str(path)]
    rd_import(*words, "--audit", tmp_path / "a.parquet")
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    before = len(sandbox.requests())
    done = rd_import(*words, "--audit", tmp_path / "b.parquet")
    assert done.code == 1
    assert "cannot be used" in done.err
    assert path.read_bytes() == content
    assert len(sandbox.requests()) == before
    assert not (tmp_path / "b.parquet").exists()
    checked = rd_import("ledger", "check", "--ledger", path)
    assert checked.code == 1


def test_what_is_no_ledger_is_a_sentence(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    (tmp_path / "notes.db").write_text("dear diary " * 500, "utf-8")
    done = rd_import(*job(tmp_path / "a.csv", 3), "--ledger", tmp_path / "notes.db")
    assert done.code == 1
    assert "notes.db" in done.err
    assert (tmp_path / "notes.db").read_text("utf-8") == "dear diary " * 500
    assert sandbox.requests() == []


def test_a_locked_ledger_is_a_sentence_and_nothing_is_sent(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    words = [*job(tmp_path / "a.csv", 3), "--ledger", str(path), "--audit", tmp_path / "a.parquet"]
    with Ledger.open(path):
        pass
    at_once = sqlite3.connect
    monkeypatch.setattr(
        sqlite3.dbapi2,
        "connect",
        lambda *given, **options: at_once(*given, **options | {"timeout": 0.1}),
    )
    with contextlib.closing(at_once(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = rd_import(*words)
    assert done.code == 1
    assert "locked by another program" in done.err
    assert sandbox.requests() == []
    assert rd_import(*words).json["states"] == {"accepted": 3}


def test_a_ledger_that_gets_locked_under_way_leaves_no_event_in_the_dark(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    words = [
        *job(tmp_path / "a.csv", 30, 5),
        "--ledger",
        str(path),
        "--audit",
        tmp_path / "a.parquet",
    ]
    with Ledger.open(path):
        pass
    at_once = sqlite3.connect
    monkeypatch.setattr(
        sqlite3.dbapi2,
        "connect",
        lambda *given, **options: at_once(*given, **options | {"timeout": 0.1}),
    )
    with contextlib.closing(at_once(path, isolation_level=None)) as other:
        in_the_middle(monkeypatch, 2, lambda: void(other.execute("BEGIN IMMEDIATE")))
        ended = rd_import(*words)
    assert ended.code == 1
    assert "locked" in ended.err
    again = rd_import(*words)
    assert registered(sandbox) == dict.fromkeys(range(1, 31), 1)
    assert again.json["states"].keys() <= {"accepted", "unknown", "already_accepted"}
    assert again.json["states"].get("unknown", 0) <= 10
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


def void(_: object) -> None:
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, where this machine lets us make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", place],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    umount = shutil.which("umount")
    assert umount is not None
    subprocess.run([umount, "-l", place], check=True)


def fill(disk: Path, *, leave: int = 0) -> None:
    """Use up what is free on a disk, but for so many bytes."""
    free = os.statvfs(disk)
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))


def remount(disk: Path, how: str) -> None:
    mount = shutil.which("mount")
    assert mount is not None
    subprocess.run([mount, "-o", f"remount,{how}", disk], check=True)


def test_a_ledger_on_a_read_only_disk_is_a_sentence(
    small_disk: Path, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = small_disk / "a.db"
    words = [*job(tmp_path / "a.csv", 3), "--ledger", str(path)]
    rd_import(*words, "--audit", tmp_path / "a.parquet")
    remount(small_disk, "ro")
    done = rd_import(*job(tmp_path / "b.csv", 3, first=10), "--ledger", path)
    assert done.code == 1
    assert str(small_disk) in done.err
    assert "hint:" in done.err
    assert len(sandbox.requests()) == 1
    remount(small_disk, "rw")
    again = rd_import(*words, "--audit", tmp_path / "b.parquet")
    assert (again.code, again.json["states"]) == (0, {"already_accepted": 3})


def test_a_ledger_whose_disk_is_full_stops_the_run_and_nothing_goes_twice(
    small_disk: Path,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = small_disk / "a.db"
    words = [
        *job(tmp_path / "a.csv", 400, 5),
        "--ledger",
        str(path),
        "--audit",
        tmp_path / "a.parquet",
    ]
    in_the_middle(monkeypatch, 5, lambda: fill(small_disk))
    ended = rd_import(*words)
    assert ended.code == 1
    assert "full" in ended.err
    assert "restore it or make space" in ended.err
    sent = registered(sandbox)
    assert len(sent) < 400
    (small_disk / "ballast").unlink()
    remount(small_disk, "size=8m")
    again = rd_import(*words)
    assert registered(sandbox) == dict.fromkeys(range(1, 401), 1)
    assert again.json["states"].get("unknown", 0) <= 16 * 5
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


class FullDisk:
    """A file whose disk is full after so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self._room = room

    def write(self, data: Any) -> int:
        self._room -= len(bytes(data))
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def full_for(monkeypatch: pytest.MonkeyPatch, name: str, room: int = 0) -> None:
    """Let the disk be full where a private file of this name, or the ending of one, is written."""
    real = rd_import.run_folder.private_file

    def private_file(path: Path) -> Any:
        file = real(path)
        return FullDisk(file, room) if path.name.endswith(name) else file

    monkeypatch.setattr(rd_import.run_folder, "private_file", private_file)
    monkeypatch.setattr("rd_import.places.private_file", private_file)


def assert_a_sentence(done: Outcome) -> None:
    assert done.code in {1, 2}
    assert "No space left" in done.err
    assert "hint:" in done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize(
    "name", ["source.arrow", "bodies.arrow", "events.arrow", "rows.arrow", "run.tmp"]
)
@pytest.mark.parametrize("room", [0, 100])
def test_a_disk_that_is_full_for_the_run_folder_leaves_none_and_sends_nothing(
    name: str,
    room: int,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = job(tmp_path / "a.csv", 10, 5)
    with monkeypatch.context() as patched:
        full_for(patched, name, room)
        assert_a_sentence(rd_import(*words, "--audit", tmp_path / "a.parquet"))
    assert sandbox.requests() == []
    assert not (tmp_path / "a.parquet").exists()
    runs = tmp_path / "state" / "rd-import" / "runs"
    assert list(runs.iterdir()) == []
    assert rd_import(*words, "--audit", tmp_path / "a.parquet").json["states"] == {"accepted": 10}


@pytest.mark.parametrize("name", ["contacts.new.arrow", "parquet.open.tmp"])
def test_a_disk_that_is_full_before_the_first_request_sends_nothing(
    name: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*job(tmp_path / "a.csv", 10, 5), "--audit", tmp_path / "a.parquet"]
    with monkeypatch.context() as patched:
        full_for(patched, name)
        assert_a_sentence(rd_import(*words))
    assert sandbox.requests() == []
    assert not list(tmp_path.glob("*.tmp"))
    assert rd_import(*words).json["states"] == {"accepted": 10}
    assert registered(sandbox) == dict.fromkeys(range(1, 11), 1)


@pytest.mark.parametrize(
    ("name", "room"), [("a.parquet.tmp", 0), ("a.parquet.tmp", 300), (".rejected.csv.tmp", 0)]
)
def test_a_disk_that_is_full_for_the_audit_loses_nothing(
    name: str,
    room: int,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = orders(10)
    rows[3]["email"] = "nobody"
    file = save(tmp_path / "a.csv", rows)
    words = (file, "--type", "ECOMMERCE_ORDER_PLACED", "--json", "--audit", tmp_path / "a.parquet")
    with monkeypatch.context() as patched:
        full_for(patched, name, room)
        done = rd_import(*words)
    assert_a_sentence(done)
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob("*rejected*")), "half a file of rejected rows"
    again = rd_import(*words)
    assert (again.code, again.json["requests"]) == (3, 0)
    assert again.json["states"].keys() <= {"accepted", "already_accepted", "invalid"}
    assert again.json["states"]["invalid"] == 1
    assert registered(sandbox).total() == 9
    [rejected] = tmp_path.glob("*rejected.csv")
    assert len(rejected.read_text("utf-8").splitlines()) == 2


def test_a_full_disk_keeps_the_audit_that_stood_there(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*job(tmp_path / "a.csv", 10, 5), "--audit", tmp_path / "a.parquet"]
    rd_import(*words)
    before = (tmp_path / "a.parquet").read_bytes()
    with monkeypatch.context() as patched:
        full_for(patched, "a.parquet.tmp", 300)
        assert rd_import(*words).code in {1, 2}
    assert (tmp_path / "a.parquet").read_bytes() == before
    assert len(sandbox.requests()) == 2


def test_many_commands_may_look_at_a_ledger_at_once(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(*job(tmp_path / "a.csv", 10, 5), "--ledger", tmp_path / "a.db")
    found: list[int] = []

    def look() -> None:
        with Ledger.open(tmp_path / "a.db") as ledger:
            found.append(len(list(ledger.faults())) + len(ledger.runs()))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8
    assert len(sandbox.requests()) == 2
