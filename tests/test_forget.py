"""`rd-import forget`: a person leaves ledger, run folders, audits and rejected files, and does not come back."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import Command
from rd_import.sandbox import Sandbox
from rig import TYPE, orders, save

ANA = "ana.souza@example.com"


def texts_of(folder: Path) -> bytes:
    """Everything that files hold, Arrow and Parquet unpacked, in lower case."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".arrow":
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                found.append(repr(reader.read_all().to_pylist()).encode())
        elif path.suffix == ".parquet":
            found.append(repr(pq.read_table(path).to_pylist()).encode())
            found.append(repr(pq.read_metadata(path).metadata).encode())
        elif path.is_file():
            found.append(path.read_bytes())
    return b"\n".join(found).lower()


@pytest.fixture
def imported(tmp_path: Path, rd_import: Command, sandbox: Sandbox) -> Path:
    """An import with one good and one flawed row of Ana's, and rows of others; gives the folder of its files."""
    rows = orders(3)
    rows += [
        {**orders(1)[0], "email": ANA, "identifier": "ANA-1"},
        {**orders(1)[0], "email": ANA.upper(), "identifier": "ANA-2", "price": "nothing"},
        {**orders(1)[0], "email": "zoe@example.com", "identifier": "ZOE-1", "price": "nothing"},
    ]
    work = tmp_path / "work"
    work.mkdir()
    path = save(tmp_path / "orders.csv", rows)
    done = rd_import(path, *TYPE, "--json", "--audit", work / "a.audit.parquet")
    assert done.json["states"] == {"accepted": 4, "invalid": 2}
    return work


def test_a_person_is_gone_from_every_file_that_the_ledger_knows_of(
    imported: Path, tmp_path: Path, rd_import: Command
) -> None:
    assert b"ana-1" in texts_of(imported)
    assert ANA.encode() in texts_of(imported)  # in the rejected file
    done = rd_import("forget", f" {ANA.title()} ", "--yes", "--json")
    assert done.code == 0
    assert done.json["ledger_lines"] == 1
    assert {"why": "rd_station", "place": ""} in done.json["unreachable"]
    assert {"why": "export", "place": str(tmp_path / "orders.csv")} in done.json["unreachable"]
    for folder in (imported, tmp_path / "state"):
        left = texts_of(folder)
        assert ANA.encode() not in left
        assert b"ana-1" not in left
    audit = pq.read_table(imported / "a.audit.parquet").to_pylist()
    assert [row["contact"] is None for row in audit[:4]] == [False, False, False, True]
    assert [row["state"] for row in audit] == ["accepted"] * 4 + ["invalid"] * 2
    assert (imported / "a.report.html").exists()
    rejected = (imported / "a.rejected.csv").read_text("utf-8")
    assert "zoe@example.com" in rejected
    assert rejected.count("\n") == 2
    for path in (imported / "a.rejected.csv", imported / "a.audit.parquet"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_person_who_was_erased_is_not_imported_again(
    imported: Path, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Neither the event that was sent nor a new one, whatever the case of the address; others are."""
    rd_import("forget", ANA, "--yes")
    before = len(sandbox.events())
    rows = [
        {**orders(1)[0], "email": ANA.upper(), "identifier": "ANA-1"},
        {**orders(1)[0], "email": ANA, "identifier": "ANA-9"},
        {**orders(1)[0], "email": "rui@example.com", "identifier": "RUI-1"},
    ]
    path = save(tmp_path / "more.csv", rows)
    preview = rd_import("check", path, *TYPE)
    assert "erased" in preview.out
    done = rd_import(path, *TYPE, "--json", "--audit", tmp_path / "b.parquet")
    assert done.json["states"] == {"accepted": 1, "filtered": 2}
    assert {row["proof"] for row in done.audit[:2]} == {
        "rd-import forget: this person was erased and gets nothing"
    }
    assert [row["contact"] for row in done.audit[:2]] == [None, None]
    assert [one.event["payload"]["email"] for one in sandbox.events()[before:]] == [
        "rui@example.com"
    ]


def test_a_run_that_waits_goes_on_without_the_person(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Their body is gone from the kept run, and nothing is sent in its place."""
    rows = [*orders(1), {**orders(1)[0], "email": ANA, "identifier": "ANA-1"}]
    rd_import(save(tmp_path / "orders.csv", orders(1)), *TYPE, "--audit", tmp_path / "a.parquet")
    kept = rd_import(
        "check", save(tmp_path / "later.csv", orders(2, 5) + rows[1:]), *TYPE, "--keep", "--json"
    )
    folder = tmp_path / "state" / "rd-import" / "runs" / kept.json["run_id"]
    assert ANA.encode() in texts_of(folder)
    assert rd_import("forget", ANA, "--yes").code == 0
    assert ANA.encode() not in texts_of(folder)
    before = len(sandbox.events())
    done = rd_import("resume", folder, "--yes", "--json", "--audit", tmp_path / "b.parquet")
    assert done.json["states"] == {"accepted": 2, "filtered": 1}
    assert len(sandbox.events()) == before + 2


def test_it_asks_first(
    imported: Path, tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    before = texts_of(imported)
    done = rd_import("forget", ANA)
    assert done.code == 130
    assert "cannot be undone" in done.err
    assert ANA not in done.err
    assert texts_of(imported) == before


def test_what_cannot_be_reached_is_named(
    imported: Path, tmp_path: Path, rd_import: Command
) -> None:
    """A moved audit, a lost run folder, and an audit whose contacts another ledger hashed."""
    moved = imported / "elsewhere.parquet"
    (imported / "a.audit.parquet").rename(moved)
    done = rd_import("forget", ANA, "--yes")
    assert str(imported / "a.audit.parquet") in done.err
    assert "RD Station itself" in done.err
    moved.rename(imported / "a.audit.parquet")
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (tmp_path / "state" / "rd-import" / name).unlink(missing_ok=True)
    path = save(tmp_path / "again.csv", orders(1, 90))
    rd_import(path, *TYPE, "--audit", imported / "a.audit.parquet")
    assert rd_import("forget", "no address", "--yes").code == 2


def test_an_empty_state_has_nothing_to_forget(rd_import: Command) -> None:
    done = rd_import("forget", ANA, "--yes")
    assert done.code == 2
    assert "ledger" in done.err


def test_run_folders_are_kept_no_longer_than_was_set(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a run whose rows still wait; only folders that are runs, and only old ones."""
    path = save(tmp_path / "orders.csv", orders(2))
    old = rd_import("check", path, *TYPE, "--keep", "--json").json["run_id"]
    young = rd_import("check", path, *TYPE, "--keep", "--json").json["run_id"]
    runs = tmp_path / "state" / "rd-import" / "runs"
    (runs / "mine").mkdir()
    (runs / "mine" / "run.json").write_text("{}", "utf-8")
    for name in (old, "mine"):
        os.utime(runs / name / "run.json", (0, 0))
    rd_import("check", path, *TYPE)
    assert (runs / old).is_dir()
    monkeypatch.setenv("RD_IMPORT_KEEP_DAYS", "30")
    rd_import("check", path, *TYPE)
    assert not (runs / old).exists()
    assert (runs / young).is_dir()
    assert (runs / "mine").is_dir()
    monkeypatch.setenv("RD_IMPORT_KEEP_DAYS", "for ever")
    assert rd_import("check", path, *TYPE).code == 2
