"""Going on after an interruption, deciding on what is unknown, and files that come again with more or other rows."""

import functools
import json
import os
import pty
import select
import shutil
import subprocess
import sysconfig
import time
import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import Command, Outcome
from rd_import.errors import LedgerError
from rd_import.ledger import Ledger
from rd_import.ledger_rows import Mark
from rd_import.run_folder import RunFolder
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rd_import.send import Rules
from rd_import.values import PlannedEvent
from rig import (
    TYPE,
    FakeTime,
    broken_promises,
    job,
    orders,
    registered,
    save,
    time_passes,
)

__all__ = ["time_passes"]

CONVERSION = ("--type", "CONVERSION")


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the second request is the second batch, and a fault meets the rows that the test speaks of."""
    monkeypatch.setattr("rd_import.send.Rules", functools.partial(Rules, workers=1))


def dropped(*at: int) -> Behaviour:
    """Answers to these requests never come; their events are registered."""
    return Behaviour(faults=(Fault("drop-after", at=at),))


def ledger_of(folder: Path) -> Path:
    return next((folder / "state").rglob("ledger.db"))


def crash_at(monkeypatch: pytest.MonkeyPatch, request: int) -> None:
    """Let this process end, as by a failing disk, where it would record the answer of request number so and so."""
    record, seen = Ledger.record_accepted, []

    def fail(ledger: Ledger, *words: Any, **options: Any) -> None:
        seen.append(1)
        if len(seen) == request:
            monkeypatch.setattr(Ledger, "record_accepted", record)
            raise LedgerError(
                "ledger_unusable", path=ledger.store.name, reason="a test's disk failed"
            )
        record(ledger, *words, **options)

    monkeypatch.setattr(Ledger, "record_accepted", fail)


def unknowns(
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    *,
    count: int = 20,
    lost: Sequence[int] = (2,),
) -> Outcome:
    """Import orders, five to a request, of which the answers to some requests get lost."""
    sandbox.behaviour = dropped(*lost)
    done = rd_import(*job(tmp_path / "orders.csv", count, 5), "--audit", tmp_path / "a.parquet")
    sandbox.behaviour = Behaviour()
    assert (done.code, done.json["states"]["unknown"]) == (5, 5 * len(lost))
    return done


def numbers(audit: str, state: str) -> list[int]:
    rows = pq.read_table(audit).to_pylist()
    return [int(row["identifier"]) for row in rows if row["state"] == state]


# --- the same command again


def test_the_same_command_goes_on_with_the_interrupted_run_and_says_so(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = job(tmp_path / "orders.csv", 40, 5)
    crash_at(monkeypatch, 3)
    ended = rd_import(*words, "--audit", tmp_path / "first.parquet")
    assert ended.code == 1
    assert "a test's disk failed" in ended.err
    assert not (tmp_path / "first.parquet").exists()
    assert (tmp_path / "first.parquet.open").exists()
    shown = rd_import("status", "--json").json["runs"]
    assert [(one["states"], one["running"]) for one in shown] == [(None, False)]

    again = rd_import(*words)
    assert f"going on with run {shown[0]['run_id']}" in again.err
    assert again.json["run_id"] == shown[0]["run_id"]
    assert again.json["audit"] == str(tmp_path / "first.parquet")
    assert again.code == 5
    assert again.json["states"]["accepted"] + again.json["states"]["unknown"] == 40
    assert 5 <= again.json["states"]["unknown"] <= 40
    assert registered(sandbox) == dict.fromkeys(range(1, 41), 1)
    assert broken_promises(sandbox, [tmp_path / "first.parquet"]) == []
    assert not (tmp_path / "first.parquet.open").exists()
    assert len(rd_import("status", "--json").json["runs"]) == 1


def test_a_run_can_be_gone_on_with_from_another_folder(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    begun.mkdir()
    elsewhere.mkdir()
    save(begun / "orders.csv", orders(40))
    monkeypatch.chdir(begun)
    crash_at(monkeypatch, 3)
    relative = ("--audit", "a.parquet", "--run-dir", "run", "--max-body", "1306")
    assert rd_import("orders.csv", *TYPE, "--json", *relative).code == 1
    monkeypatch.chdir(elsewhere)
    assert rd_import("resume", "--json").code == 5
    assert (begun / "a.parquet").exists()
    assert not list(elsewhere.iterdir())
    assert broken_promises(sandbox, [begun / "a.parquet"]) == []


def test_two_runs_at_once_do_not_write_one_audit(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "is_running", lambda *_: True)
    audit = ("--audit", tmp_path / "a.parquet")
    crash_at(monkeypatch, 2)
    assert rd_import(*job(tmp_path / "a.csv", 20, 5), *audit).code == 1
    other = save(tmp_path / "b.csv", orders(20, first=101))
    second = rd_import(other, *TYPE, *audit)
    assert (second.code, "--audit" in second.err) == (2, True)
    assert set(registered(sandbox)) <= set(range(1, 21))
    assert (tmp_path / "a.parquet.open").exists()


def test_another_file_of_the_same_name_does_not_go_on_with_the_old_run(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = job(tmp_path / "orders.csv", 10, 5)
    crash_at(monkeypatch, 2)
    assert rd_import(*words, "--audit", tmp_path / "first.parquet").code == 1
    words = job(tmp_path / "orders.csv", 12, 5)
    again = rd_import(*words, "--audit", tmp_path / "second.parquet")
    assert "going on" not in again.err
    assert again.json["states"] == {"accepted": 2, "already_accepted": 5, "unknown": 5}
    assert registered(sandbox) == dict.fromkeys(range(1, 13), 1)


def test_resume_without_a_run_takes_the_newest_that_has_rows_left(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = rd_import("resume")
    assert nothing.code == 2
    assert "rd-import status" in nothing.err
    first = rd_import(*job(tmp_path / "done.csv", 3), "--audit", tmp_path / "done.parquet")
    crash_at(monkeypatch, 2)
    rd_import(*job(tmp_path / "cut.csv", 20, 5, first=100), "--audit", tmp_path / "cut.parquet")
    rd_import(*job(tmp_path / "later.csv", 3, first=200), "--audit", tmp_path / "later.parquet")
    went_on = rd_import("resume", "--json")
    assert went_on.json["audit"] == str(tmp_path / "cut.parquet")
    assert went_on.json["run_id"] != first.json["run_id"]
    assert went_on.json["states"]["accepted"] + went_on.json["states"]["unknown"] == 20
    assert registered(sandbox).total() == 26
    assert rd_import("resume").code == 2


def test_resume_of_a_named_run(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(monkeypatch, 2)
    rd_import(*job(tmp_path / "cut.csv", 10, 5), "--audit", tmp_path / "cut.parquet")
    [run] = rd_import("status", "--json").json["runs"]
    done = rd_import("resume", run["run_id"], "--json")
    assert done.json["states"] == {"accepted": 5, "unknown": 5}
    unknown = rd_import("resume", "2020-01-01-nobody")
    assert unknown.code == 2
    assert "2020-01-01-nobody" in unknown.err
    assert registered(sandbox) == dict.fromkeys(range(1, 11), 1)


def test_after_an_outage_resume_sends_the_rest(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(faults=(Fault("status", status=502, from_request=1),))
    words = job(tmp_path / "orders.csv", 100, 5)
    down = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert (down.code, down.json["stopped_by"]) == (1, "outage")
    assert down.json["states"] == {"unknown": 15, "not_sent": 85}
    sandbox.behaviour = Behaviour()
    up = rd_import("resume", down.json["run_id"], "--json")
    assert (up.code, up.json["states"]) == (5, {"accepted": 85, "unknown": 15})
    assert registered(sandbox) == dict.fromkeys(range(16, 101), 1)
    text = rd_import("status").out
    assert "85 accepted" in text
    assert "15 rows may be registered or not" in text
    assert f"rd-import resolve {down.json['run_id']}" in text


def test_status_of_a_place_without_a_ledger_makes_none(tmp_path: Path, rd_import: Command) -> None:
    done = rd_import("status", "--json", "--ledger", tmp_path / "none.db")
    assert (done.code, done.json["runs"]) == (0, [])
    assert not (tmp_path / "none.db").exists()


# --- a person decides


def test_what_a_person_left_or_confirmed_is_never_sent_by_an_import(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox, lost=(2, 3)).json["run_id"]
    rd_import(
        "resolve", run, "--left", "--only", listed(tmp_path, *range(6, 11)), "--why", "no idea"
    )
    done = rd_import("resolve", run, "--confirmed", "--why", "seen there", "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 10, "unknown": 10})
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["resolved_as"] for row in rows[5:10]} == {"left"}
    assert {(row["resolved_as"], row["resolved_why"]) for row in rows[10:15]} == {
        ("confirmed", "seen there")
    }
    assert all(row["resolved_by"] and row["resolved_at"] for row in rows[5:15])
    for more in ((), ("--on-unknown", "resend"), ("--changed", "send")):
        again = rd_import(
            *job(tmp_path / "orders.csv", 20, 5), "--audit", tmp_path / "b.parquet", *more
        )
        assert (again.code, again.json["requests"]) == (0, 0)
        assert again.json["states"] == {"already_accepted": 10, "unknown": 10}
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1)


def listed(folder: Path, *ids: int, encoding: str = "utf-8") -> Path:
    path = folder / "only.txt"
    path.write_text("".join(f"{one:06}\n" for one in ids), encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_list_of_what_a_person_decides_on_may_come_from_a_spreadsheet(
    encoding: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox, lost=(2,)).json["run_id"]
    some = listed(tmp_path, 6, 7, encoding=encoding)
    done = rd_import("resolve", run, "--left", "--only", some, "--why", "no idea")
    assert done.code == 5, done.err
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["row_number"] for row in rows if row["resolved_as"] == "left"] == [6, 7]


def test_a_list_that_is_no_text_is_refused(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox, lost=(2,)).json["run_id"]
    done = rd_import("resolve", run, "--left", "--only", tmp_path / "a.parquet", "--why", "no idea")
    assert done.code == 2
    assert "a.parquet" in done.err
    assert "is no text" in done.err


def test_resend_sends_exactly_once_and_the_audit_shows_who_ordered_it(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    done = rd_import(
        "resolve", run, "--resend", "--only", listed(tmp_path, 6, 8), "--why", "not there", "--json"
    )
    assert (done.code, done.json["states"]) == (5, {"accepted": 17, "unknown": 3})
    ordered = dict.fromkeys(range(1, 21), 1) | {6: 2, 8: 2}
    assert registered(sandbox) == ordered
    for words in (("resume", run), job(tmp_path / "orders.csv", 20, 5)):
        rd_import(*words, "--json", "--audit", tmp_path / "a.parquet")
        assert registered(sandbox) == ordered
    assert broken_promises(sandbox, [tmp_path / "a.parquet"], copies=ordered) == []
    rd_import("resume", run, "--audit", tmp_path / "a.parquet")
    rows = {
        int(row["identifier"]): row for row in pq.read_table(tmp_path / "a.parquet").to_pylist()
    }
    for number in (6, 8):
        assert rows[number]["event_uuid"]
        assert (rows[number]["resolved_as"], rows[number]["resolved_why"]) == (
            "resend",
            "not there",
        )
        assert rows[number]["resolved_by"]
        assert rows[number]["resolved_at"]
    assert rows[7]["resolved_as"] is None


def test_an_order_to_resend_is_used_up_by_an_answer_that_is_lost_again(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    sandbox.behaviour = dropped(5)
    lost = rd_import("resolve", run, "--resend", "--why", "not there", "--json")
    assert (lost.code, lost.json["states"]) == (5, {"accepted": 15, "unknown": 5})
    rd_import(*job(tmp_path / "orders.csv", 20, 5), "--audit", tmp_path / "b.parquet")
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1) | dict.fromkeys(range(6, 11), 2)


def test_an_order_to_resend_survives_an_answer_that_proves_nothing_was_taken(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, time_passes: FakeTime
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    sandbox.behaviour = Behaviour(faults=(Fault("status", status=429, retry_after=3, at=(5,)),))
    done = rd_import("resolve", run, "--resend", "--why", "not there", "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 20})
    assert registered(sandbox)[6] == 2
    assert time_passes.passed_s >= 3


def test_a_refused_resend_leaves_the_older_doubt(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    contacts = tuple(f"c{number:06}@example.com" for number in range(6, 11))
    sandbox.behaviour = Behaviour(refused_contacts=contacts)
    done = rd_import("resolve", run, "--resend", "--why", "not there", "--json")
    assert (done.code, done.json["states"]) == (5, {"accepted": 15, "unknown": 5})
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1)


def test_a_decision_not_yet_used_can_be_withdrawn(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    left = rd_import("resolve", run, "--left", "--why", "no idea", "--json")
    assert left.code == 0
    taken_back = rd_import("resolve", run, "--withdraw", "--why", "an idea after all", "--json")
    assert (taken_back.code, taken_back.json["states"]["unknown"]) == (5, 5)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["resolved_as"] for row in rows} == {None}
    assert rd_import("resolve", run, "--resend", "--why", "not there", "--json").code == 5
    again = rd_import(*job(tmp_path / "a.csv", 20, 5))
    assert (again.code, again.json["states"]) == (0, {"already_accepted": 15, "accepted": 5})
    assert [registered(sandbox)[number] for number in (5, 6, 10, 11)] == [1, 2, 2, 1]


def test_once_a_person_has_closed_all_that_was_unknown_nobody_s_data_is_kept(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    done = unknowns(tmp_path, rd_import, sandbox)
    folder = Path(done.json["run_folder"])
    contents = (folder / "bodies.arrow", folder / "source.arrow")
    assert all(path.exists() for path in contents)
    rd_import("resolve", done.json["run_id"], "--left", "--why", "no idea")
    assert not any(path.exists() for path in contents)


def test_a_decision_needs_its_reason_and_only_what_is_unknown_can_be_decided(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    assert rd_import("resolve", run, "--resend").code == 2
    accepted = rd_import(
        "resolve", run, "--resend", "--only", listed(tmp_path, 1, 20), "--why", "again", "--json"
    )
    assert accepted.code == 2
    assert "no such rows" in accepted.err
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1)


def test_a_late_acceptance_beats_the_decision_of_a_person_who_looked_before(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was taken for dead records its 200 while the person still looks at the screen."""
    done = unknowns(tmp_path, rd_import, sandbox)
    number = next(one for one in sandbox.requests() if one.fault == "drop-after")

    def late_answer() -> str:
        folder = RunFolder.open(Path(done.json["run_folder"]))
        with Ledger.open(ledger_of(tmp_path)) as ledger:
            [lost] = [one for one in ledger.requests_of(folder.run_id) if one.state == "unknown"]
            events = planned(folder, lost.ordinals)
            mark = Mark(lost.request, account_of(ledger), folder.run_id, "zombie", lost.batch)
            ledger.record_accepted(
                mark, events, number.event_uuids, batch_uuid=None, proof="late", now=lost.marked_at
            )
        return "a person"

    monkeypatch.setattr("getpass.getuser", late_answer)
    resolved = rd_import("resolve", done.json["run_id"], "--resend", "--why", "not there", "--json")
    assert "accepted meanwhile" in resolved.err
    assert (resolved.code, resolved.json["states"].get("unknown")) == (0, None)
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1)
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


def account_of(ledger: Ledger) -> int:
    return int(ledger.runs()[0]["account"])


def planned(folder: RunFolder, ordinals: bytes) -> list[PlannedEvent]:
    wanted = [int.from_bytes(ordinals[at : at + 4], "little") for at in range(0, len(ordinals), 4)]
    by_ordinal = {
        ordinal: PlannedEvent(ordinal, key, sha, b"", body)
        for bodies in folder.bodies()
        for ordinal, key, sha, body in bodies.select(
            "#event", "event_key", "payload_sha256", "body"
        ).iter_rows()
    }
    return [by_ordinal[one] for one in wanted]


# --- row by row, on a terminal


class Terminal:
    """The command on a pseudo-terminal of its own."""

    def __init__(self, *words: object) -> None:
        command = shutil.which("rd-import", path=sysconfig.get_path("scripts"))
        assert command is not None
        self._shown = ""
        self._mine, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [command, *map(str, words)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
            encoding="utf-8",
        )
        os.close(theirs)

    def expect(self, text: str, *, within_s: float = 30) -> None:
        """Wait until a text stands on the screen, and forget what stands before it."""
        ends = time.monotonic() + within_s
        while text not in self._shown:
            left = ends - time.monotonic()
            assert left > 0, self._shown
            if select.select([self._mine], [], [], left)[0]:
                self._shown += os.read(self._mine, 1 << 16).decode()
        self._shown = self._shown.partition(text)[2]

    def answer(self, text: str) -> None:
        os.write(self._mine, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        out, _ = self._process.communicate(timeout=30)
        os.close(self._mine)
        return self._process.returncode, out


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_row_by_row_each_contact_is_shown_with_what_each_decision_means(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    run = unknowns(tmp_path, rd_import, sandbox).json["run_id"]
    terminal = Terminal("resolve", run, "--json")
    terminal.expect("automations fire twice")
    for number, keys in ((6, "r"), (7, "l"), (8, "c"), (9, ""), (10, "")):
        terminal.expect(f"row {number} of")
        terminal.expect(f"c{number:06}@example.com")
        terminal.expect("Enter to skip")
        terminal.answer(keys)
        if keys:
            terminal.expect("why?")
            terminal.answer(f"because of {keys}")
    terminal.expect("3 decided")
    code, out = terminal.end()
    assert code == 5
    assert json.loads(out)["states"] == {"accepted": 16, "unknown": 4}
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1) | {6: 2}
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [(row["resolved_as"], row["resolved_why"]) for row in rows[6:10]] == [
        ("left", "because of l"),
        ("confirmed", "because of c"),
        (None, None),
        (None, None),
    ]


# --- at least once, on request


def test_on_unknown_resend_sends_again_what_an_earlier_run_left_unknown(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    unknowns(tmp_path, rd_import, sandbox)
    words = job(tmp_path / "orders.csv", 20, 5)
    done = rd_import(*words, "--on-unknown", "resend", "--audit", tmp_path / "b.parquet")
    assert done.code == 0
    assert done.json["states"] == {"accepted": 5, "already_accepted": 15}
    twice = dict.fromkeys(range(1, 21), 1) | dict.fromkeys(range(6, 11), 2)
    assert registered(sandbox) == twice
    again = rd_import(*words, "--on-unknown", "resend", "--audit", tmp_path / "c.parquet")
    assert (again.json["requests"], again.json["states"]) == (0, {"already_accepted": 20})


def test_on_unknown_resend_sends_a_key_once_a_run(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """The answer to the second sending is lost too: not a third one in the same run."""
    unknowns(tmp_path, rd_import, sandbox)
    sandbox.behaviour = dropped(5)
    words = job(tmp_path / "orders.csv", 20, 5)
    done = rd_import(*words, "--on-unknown", "resend", "--audit", tmp_path / "b.parquet")
    assert (done.code, done.json["states"]) == (5, {"already_accepted": 15, "unknown": 5})
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1) | dict.fromkeys(range(6, 11), 2)


def test_on_unknown_resend_tries_again_what_was_proven_not_accepted(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, time_passes: FakeTime
) -> None:
    """A 429 took nothing: what it was to be resent for is still to be done, in this run."""
    unknowns(tmp_path, rd_import, sandbox)
    sandbox.behaviour = Behaviour(faults=(Fault("status", status=429, retry_after=3, at=(5,)),))
    words = job(tmp_path / "orders.csv", 20, 5)
    done = rd_import(*words, "--on-unknown", "resend", "--audit", tmp_path / "b.parquet")
    assert (done.code, done.json["states"]) == (0, {"accepted": 5, "already_accepted": 15})
    assert time_passes.passed_s >= 3


# --- a kept preview


def test_a_kept_preview_is_what_resume_sends(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = job(tmp_path / "orders.csv", 10, 5)
    kept = rd_import("check", *words, "--keep")
    assert (kept.code, kept.json["states"]) == (0, {"not_sent": 10})
    assert sandbox.requests() == []
    save(tmp_path / "orders.csv", orders(10, first=50))  # the file changes; the preview does not
    done = rd_import("resume", kept.json["run_id"], "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 10})
    assert done.json["run_id"] == kept.json["run_id"]
    assert registered(sandbox) == dict.fromkeys(range(1, 11), 1)


@pytest.mark.usefixtures("sandbox")
def test_a_kept_preview_in_a_folder_of_ones_own_can_be_sent_too(
    tmp_path: Path, rd_import: Command
) -> None:
    words = job(tmp_path / "orders.csv", 10, 5)
    kept = rd_import("check", *words, "--keep", "--run-dir", tmp_path / "runs")
    assert (tmp_path / "runs" / kept.json["run_id"]).is_dir()
    done = rd_import("resume", tmp_path / "runs" / kept.json["run_id"], "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 10})


def test_a_kept_preview_remembers_how_its_questions_were_answered(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """What was approved is what goes: events that the preview leaves out are not sent by `resume`."""
    file = save(tmp_path / "c.csv", dated("2020-01-01 10:00:00", "2020-01-02 10:00:00"))
    kept = rd_import("check", file, *CONVERSION, "--past", "skip", "--keep", "--json")
    assert kept.json["questions"] == []
    done = rd_import("resume", kept.json["run_id"], "--json")
    assert (done.code, done.json["states"]) == (0, {"filtered": 2})
    assert sandbox.requests() == []


def test_a_preview_without_keep_leaves_no_run_to_resume(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    checked = rd_import("check", *job(tmp_path / "orders.csv", 3))
    assert rd_import("resume", checked.json["run_id"]).code == 2
    assert sandbox.requests() == []


# --- files that come again


def test_a_mended_file_sends_what_was_refused_and_what_was_invalid(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(refused_contacts=("c000002@example.com",))
    rows = orders(4)
    rows[2]["email"] = "nobody"
    first = rd_import(save(tmp_path / "a.csv", rows), *TYPE, "--json")
    assert first.json["states"] == {"accepted": 2, "refused": 1, "invalid": 1}
    rows[1]["email"], rows[2]["email"] = "c2b@example.com", "c000003@example.com"
    done = rd_import(save(tmp_path / "b.csv", rows), *TYPE, "--json")
    assert registered(sandbox) == dict.fromkeys(range(1, 5), 1)
    assert (done.code, done.json["states"]) == (0, {"accepted": 2, "already_accepted": 2})


def test_what_was_refused_goes_again_unchanged_and_apart(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(refused_contacts=("c000002@example.com",))
    words = job(tmp_path / "orders.csv", 4)
    assert rd_import(*words, "--audit", tmp_path / "a.parquet").json["states"]["refused"] == 1
    sandbox.behaviour = Behaviour()
    done = rd_import(*words, "--audit", tmp_path / "b.parquet")
    assert (done.json["states"], done.json["requests"]) == (
        {"accepted": 1, "already_accepted": 3},
        1,
    )


def more_orders(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*orders(3, first=11), *rows]


def other_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"internal note": "x", "channel": "app"} for row in rows]


def other_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [dict(reversed(row.items())) for row in reversed(rows)]


def other_numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"price": "10.00", "total_items": "1"} for row in rows]


@pytest.mark.parametrize("again", [more_orders, other_columns, other_order, other_numbers])
def test_the_same_shop_exported_again_sends_only_what_is_new(
    again: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
) -> None:
    rows = orders(10, price="10")
    rd_import(save(tmp_path / "monday.csv", rows), *TYPE)
    later = again(rows)
    done = rd_import(save(tmp_path / "tuesday.csv", later, ";"), *TYPE, "--json")
    new = len(later) - 10
    assert done.code == 0
    assert done.json["states"] == ({"accepted": new} if new else {}) | {"already_accepted": 10}
    assert done.json["requests"] == (1 if new else 0)
    assert set(registered(sandbox).values()) == {1}


def test_a_decimal_comma_is_the_same_amount(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", orders(3, price="1234.50")), *TYPE)
    file = save(tmp_path / "b.csv", orders(3, price="1.234,50"), ";")
    done = rd_import(file, *TYPE, "--decimal", ",", "--json")
    assert (done.json["states"], done.json["requests"]) == ({"already_accepted": 3}, 0)
    assert registered(sandbox).total() == 3


# --- changed


def test_changed_content_is_sent_on_request_only_and_forgets_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    old = save(tmp_path / "old.csv", orders(2, price="10"))
    new = save(tmp_path / "new.csv", [*orders(1, price="11"), *orders(1, first=2, price="10")])
    rd_import(old, *TYPE)
    held = rd_import(new, *TYPE, "--json", "--audit", tmp_path / "b.parquet")
    assert (held.code, held.json["states"]) == (3, {"already_accepted": 1, "changed": 1})
    assert held.json["requests"] == 0
    sent = rd_import(new, *TYPE, "--json", "--changed", "send", "--audit", tmp_path / "c.parquet")
    assert (sent.code, sent.json["states"]) == (0, {"accepted": 1, "already_accepted": 1})
    assert registered(sandbox) == {1: 2, 2: 1}
    for file in (old, new):
        words = (file, *TYPE, "--json", "--changed", "send", "--audit", tmp_path / "d.parquet")
        assert rd_import(*words).json["states"] == {"already_accepted": 2}
    assert registered(sandbox) == {1: 2, 2: 1}


# --- past


def dated(*moments: str, first: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "email": f"c{first + at}@example.com",
            "conversion_identifier": f"{first + at:06}",
            "event_timestamp": moment,
        }
        for at, moment in enumerate(moments)
    ]


def test_old_events_are_a_question_that_only_a_person_can_answer(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime
) -> None:
    now = time_passes.now()
    moments = [f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (1, 6, 8, 900)]
    file = save(tmp_path / "c.csv", dated(*moments))
    asked = rd_import("check", file, *CONVERSION, "--json")
    assert asked.code == 7
    [question] = asked.json["questions"]
    assert "2 events are more than 7" in question
    assert "--past send" in question
    for answered in (("--past", "send"), ("--past", "skip"), ("--max-age", "1000")):
        done = rd_import("check", file, *CONVERSION, "--json", *answered)
        assert (done.code, done.json["questions"]) == (0, [])
    literal = rd_import("check", file, *CONVERSION).out.splitlines()[-1]
    assert literal.endswith("--type CONVERSION --past skip"), literal


def test_old_events_to_the_real_service_end_unattended_with_nothing_sent(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is nobody's; the run ends before it asks for it."""
    monkeypatch.setenv("RD_IMPORT_TOKEN", "a-token")
    file = save(tmp_path / "c.csv", dated("2020-01-01 10:00:00"))
    done = rd_import(file, *CONVERSION, "--yes", "--json", "--base-url", "https://rd.invalid")
    assert (done.code, done.json["states"]) == (7, {"not_sent": 1})
    assert "--past" in done.err


@pytest.mark.parametrize(
    ("answer", "states"), [("send", {"accepted": 3}), ("skip", {"accepted": 1, "filtered": 2})]
)
def test_old_events_are_sent_or_left_out_as_was_said(
    answer: str, states: dict[str, int], tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(
        tmp_path / "c.csv", dated("2020-01-01 10:00:00", "2999-01-01", "2020-01-02 10:00:00")
    )
    done = rd_import(file, *CONVERSION, "--past", answer, "--json")
    assert (done.code, done.json["states"]) == (0, states)
    assert registered(sandbox).total() == states["accepted"]
    left_out = [row for row in done.audit if row["state"] == "filtered"]
    assert all("--past skip" in row["proof"] for row in left_out)


# --- repeats, keys, contacts


def leads(*emails: str) -> list[dict[str, Any]]:
    return [{"email": email, "conversion_identifier": "000001"} for email in emails]


def test_events_without_id_or_time_that_another_file_brought_are_a_question(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", leads("a@example.com", "b@example.com")), *CONVERSION)
    other = save(tmp_path / "b.csv", leads("c@example.com", "b@example.com"))
    asked = rd_import("check", other, *CONVERSION, "--json")
    assert asked.code == 7
    [question] = asked.json["questions"]
    assert "1 event has the identity" in question
    assert "--repeats skip" in question
    assert len(sandbox.events()) == 2


def test_the_same_file_again_is_no_question(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "a.csv", leads("a@example.com", "a@example.com"))
    rd_import(file, *CONVERSION, "--audit", tmp_path / "a.parquet")
    assert len(sandbox.events()) == 2  # twice in one file is two conversions
    assert rd_import("check", file, *CONVERSION, "--json").json["questions"] == []
    again = rd_import(file, *CONVERSION, "--json", "--audit", tmp_path / "b.parquet")
    assert again.json["states"] == {"already_accepted": 2}


def test_repeats_are_skipped_as_was_said(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", leads("a@example.com", "b@example.com")), *CONVERSION)
    other = save(tmp_path / "b.csv", leads("c@example.com", "b@example.com"))
    done = rd_import(other, *CONVERSION, "--repeats", "skip", "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 1, "already_accepted": 1})
    assert len(sandbox.events()) == 3


def test_repeats_are_sent_as_was_said_each_once(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", leads("a@example.com", "b@example.com")), *CONVERSION)
    other = save(tmp_path / "b.csv", leads("c@example.com", "b@example.com"))
    for number, states in enumerate(({"accepted": 2}, {"already_accepted": 2})):
        audit = tmp_path / f"{number}.parquet"
        done = rd_import(other, *CONVERSION, "--repeats", "send", "--json", "--audit", audit)
        assert (done.code, done.json["states"]) == (0, states)
        assert len(sandbox.events()) == 4
    third = save(tmp_path / "c.csv", leads("b@example.com", "b@example.com"))
    done = rd_import(third, *CONVERSION, "--repeats", "send", "--json")
    assert done.json["states"] == {"accepted": 2}
    assert len(sandbox.events()) == 6


def test_columns_named_as_the_key_tell_events_apart(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rows = [row | {"lead id": str(at)} for at, row in enumerate(leads(*["a@example.com"] * 3))]
    words = (*CONVERSION, "--key", "lead id", "--json")
    rd_import(save(tmp_path / "a.csv", rows[:2]), *words)
    checked = rd_import("check", save(tmp_path / "b.csv", rows[::-1]), *words)
    assert checked.json["questions"] == []
    done = rd_import(tmp_path / "b.csv", *words)
    assert (done.code, done.json["states"]) == (0, {"accepted": 1, "already_accepted": 2})
    assert len(sandbox.events()) == 3
    assert all("lead id" not in one.event["payload"] for one in sandbox.events())  # type: ignore[operator]
    unknown_key = (tmp_path / "b.csv", *CONVERSION, "--key", "nothing")
    wrong = rd_import(*unknown_key, "--audit", tmp_path / "wrong.parquet")
    assert wrong.code == 2
    assert "`nothing`" in wrong.err


def test_a_known_order_with_another_contact_is_a_conflict(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", orders(2)), *TYPE)
    rows = orders(3)
    rows[1]["email"] = "somebody.else@example.com"
    for changed in ("skip", "send"):
        audit = tmp_path / f"{changed}.parquet"
        words = (save(tmp_path / "b.csv", rows), *TYPE, "--json", "--changed", changed)
        done = rd_import(*words, "--audit", audit)
        assert done.code == 3
        row = done.audit[1]
        assert (row["state"], row["error_code"]) == ("invalid", "CONTACT_CONFLICT")
        assert "another contact" in row["error_message"]
        assert "somebody.else" not in str(done.audit)
    assert registered(sandbox) == dict.fromkeys((1, 2, 3), 1)


def test_after_a_sleep_between_mark_and_first_byte_nothing_leaves_by_the_old_mark(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine sleeps an hour right after the second claim: others may have decided on its events since."""
    real, asked = time.time, iter(range(10**6))

    def after_a_sleep() -> float:
        return real() + (3600 if next(asked) == 1 else 0)

    monkeypatch.setattr("rd_import.service.time", types.SimpleNamespace(time=after_a_sleep))
    audit = tmp_path / "a.parquet"
    done = rd_import(*job(tmp_path / "a.csv", 15, 5), "--audit", audit)
    assert (done.code, done.json["states"]) == (0, {"accepted": 15})
    assert registered(sandbox) == dict.fromkeys(range(1, 16), 1)
    requests = json.loads(pq.read_metadata(audit).metadata[b"rd_import.requests"])
    assert [one["outcome"] for one in requests].count("not accepted") == 1


def test_the_same_content_under_another_key_is_reported_before_it_is_sent(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """With another --key every event is new to the ledger, though RD Station has it already."""
    words = job(tmp_path / "a.csv", 20, 5)
    assert rd_import(*words).code == 0
    assert rd_import("check", *words).json["preview"]["same_content"] == 0
    shown = rd_import("check", *words, "--key", "email").json["preview"]
    assert (shown["same_content"], shown["twins"], shown["already_accepted"]) == (20, 0, 0)
    seen = rd_import("check", tmp_path / "a.csv", *TYPE, "--key", "email").out
    assert "20 events have the very content of others sent before under another key" in seen
    assert registered(sandbox) == dict.fromkeys(range(1, 21), 1)


def test_the_same_content_twice_in_one_file_is_reported_before_it_is_sent(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rows = [("ana@example.com", "newsletter")] * 3 + [("rui@example.com", "newsletter")]
    file = tmp_path / "c.csv"
    lines = ["email,conversion_identifier", *(",".join(row) for row in rows)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    done = rd_import("check", file, *CONVERSION, "--json")
    assert (done.json["preview"]["twins"], done.json["events"]) == (2, 4)
    assert "2 events have the very content of others in this input" in (
        rd_import("check", file, *CONVERSION).out
    )
