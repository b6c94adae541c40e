"""The ledger in PostgreSQL: what its own kind of sharing, failing and hiding adds to the tests of every ledger."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from conftest import Command
from postgres_server import ESCAPED, PASSWORD, PostgresServer
from rd_import.errors import LedgerError
from rd_import.ledger import Ledger
from rd_import.ledger_schema import SCHEMA_VERSION
from rd_import.ledger_store import store_of
from rd_import.sandbox import Behaviour, Sandbox
from rig import broken_promises, job, orders, registered, save
from test_ledger import EVENTS, KEYS, SCOPE, mark_of

pytestmark = pytest.mark.postgres

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TYPE = ("--type", "ECOMMERCE_ORDER_PLACED")


def start(*words: object, folder: Path, machine: str, server: Sandbox) -> subprocess.Popen[str]:
    """Start the command as on another machine: with a state folder of its own."""
    command = shutil.which("rd-import", path=sysconfig.get_path("scripts"))
    assert command is not None
    env = os.environ | {
        "XDG_STATE_HOME": str(folder / machine),
        "RD_IMPORT_BASE_URL": server.url,
        "RD_IMPORT_TOKEN": server.token,
    }
    return subprocess.Popen(
        [command, *map(str, words), "--json"],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, Any]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out) if out else err


# --- durable and exclusive


def test_a_mark_is_committed_before_the_claim_returns(postgres: str) -> None:
    """The body leaves after that: a process that dies then must be known to have sent."""
    with Ledger.open(postgres) as ledger, psycopg.connect(postgres) as other:
        ledger.account(SCOPE)
        ledger.claim(mark_of("r1"), EVENTS, now=NOW)
        assert other.execute("SELECT request, state FROM rd_import.requests").fetchall() == [
            ("r1", "sent")
        ]
        held = other.execute("SELECT event_key, request FROM rd_import.keys ORDER BY event_key")
        assert held.fetchall() == [(key, "r1") for key in KEYS]


@pytest.mark.parametrize(
    ("given", "kept"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_every_commit_waits_for_the_disk_whatever_the_database_prefers(
    given: str, kept: str, postgres: str
) -> None:
    """A power cut after the first byte must not take the mark back; who asked for more keeps it."""
    name = postgres.rpartition("/")[2]
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET synchronous_commit = {given}")  # type: ignore[arg-type]
        other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")  # type: ignore[arg-type]
    with Ledger.open(postgres) as ledger:
        with ledger.store.writing() as connection:
            assert connection.execute(sa.text("SHOW synchronous_commit")).scalar() == kept
            level = connection.execute(sa.text("SHOW transaction_isolation")).scalar()
            assert (
                level == "read committed"
            )  # so that what follows the lock sees what was committed
        with ledger.store.reading() as connection:
            level = connection.execute(sa.text("SHOW transaction_isolation")).scalar()
            assert level == "repeatable read"


def test_a_writer_waits_for_another_of_its_account_and_for_no_other(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rd_import.ledger_store.WAIT_S", 0.05)
    with Ledger.open(postgres) as first, Ledger.open(postgres) as second:
        here, there = first.account(SCOPE), first.account("another")
        with first.store.writing(here):
            second.take_slot(there, now=NOW, interval_s=1)
            assert second.facts(here).max_body is None  # readers never wait
            with pytest.raises(LedgerError, match="is locked by another program"):
                second.take_slot(here, now=NOW, interval_s=1)
        assert second.take_slot(here, now=NOW, interval_s=1) == NOW


# --- who is alive


def test_a_process_is_dead_once_its_ledger_is_closed(postgres: str) -> None:
    """No machine can look at another's processes; the server sees its connections."""
    with Ledger.open(postgres) as here:
        with Ledger.open(postgres) as there:
            assert there.start_process("there", "run", now=NOW)
            assert here.is_running("run")
            assert not here.start_process("here", "run", now=NOW)
        assert not here.is_running("run")
        assert here.start_process("here", "run", now=NOW)


def test_a_process_whose_connection_broke_is_seen_alive_again_after_its_next_beat(
    postgres: str,
) -> None:
    with Ledger.open(postgres) as here, Ledger.open(postgres) as there:
        here.start_process("here", "run", now=NOW)
        with psycopg.connect(postgres, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert not there.is_running("run")
        here.beat("here", now=NOW)
        assert there.is_running("run")
        here.end_process("here")
        assert not there.is_running("run")


# --- versions


def test_a_ledger_of_an_older_version_is_brought_up_to_date(postgres: str) -> None:
    """As version 1 was: without decisions, processes, credentials and the fuse."""
    with Ledger.open(postgres) as before:
        account = before.account(SCOPE)
        before.claim(mark_of("r1"), EVENTS, now=NOW)
    with psycopg.connect(postgres) as other:
        other.execute("SET search_path TO rd_import")
        other.execute("DROP TABLE resolutions, processes, credentials")
        for column in ("partial", "ecommerce_in_batch", "unknowns_in_a_row", "tripped"):
            other.execute(f"ALTER TABLE accounts DROP COLUMN {column}")  # type: ignore[arg-type]
        other.execute("ALTER TABLE runs DROP COLUMN folder, DROP COLUMN states")
        other.execute("ALTER TABLE requests DROP COLUMN contents")
        other.execute("DROP TABLE forgotten")
        for column in ("refused_sha", "run", "claimed_us"):
            other.execute(f"ALTER TABLE keys DROP COLUMN {column}")  # type: ignore[arg-type]
        other.execute("DROP INDEX keys_by_head")
        other.execute("ALTER TABLE keys DROP COLUMN line, ADD PRIMARY KEY (account, event_key)")
        other.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    with Ledger.open(postgres) as after:
        assert after.facts(account).unknowns_in_a_row == 0
        assert not after.has_resolutions(account)
        assert after.lines(account, KEYS)[KEYS[0]].request == "r1"
        after.start_process("process", "run", now=NOW)
        with after.store.reading() as connection:
            version = connection.execute(sa.text("SELECT value FROM meta WHERE name LIKE 'sch%'"))
            assert version.scalar() == str(SCHEMA_VERSION)


def test_a_ledger_of_a_newer_version_is_refused(postgres: str) -> None:
    """An older program would read it wrong, and send again."""
    Ledger.open(postgres).close()
    with psycopg.connect(postgres) as other:
        other.execute("UPDATE rd_import.meta SET value = '999' WHERE name = 'schema_version'")
    with pytest.raises(LedgerError, match="schema version 999"):
        Ledger.open(postgres)


def test_other_programs_tables_of_the_same_names_stay_as_they_are(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute("CREATE TABLE accounts (customer text)")
        other.execute("CREATE TABLE meta (page text)")
        with Ledger.open(postgres) as ledger:
            ledger.account(SCOPE)
        for table in ("accounts", "meta"):
            found = other.execute(f"TABLE public.{table}").fetchall()  # type: ignore[arg-type]
            assert found == []


# --- several machines


def test_two_machines_share_an_accounts_rate_and_send_nothing_twice(
    postgres: str, tmp_path: Path
) -> None:
    """Their files overlap by half: one slot of the quota for each request, one copy of each event."""
    save(tmp_path / "a.csv", orders(60))
    save(tmp_path / "b.csv", orders(60, first=31))
    words = (*TYPE, "--ledger", postgres, "--max-body", "1000", "--rate", "1200")
    with Sandbox(behaviour=Behaviour(latency_ms=5)) as server:
        running = [
            start(f"{name}.csv", *words, folder=tmp_path, machine=name, server=server)
            for name in "ab"
        ]
        results = [ended(process) for process in running]
        assert [code for code, _ in results] == [0, 0], results
        audits = [tmp_path / result["audit"] for _, result in results]
        assert broken_promises(server, audits) == []
        assert registered(server) == Counter(range(1, 91))
        requests = len(server.requests())
        assert {one.status for one in server.requests()} == {200}
    with psycopg.connect(postgres) as other:
        took = "SELECT next_slot_us - (SELECT min(marked_us) FROM rd_import.requests)"
        [(slots_us,)] = other.execute(f"{took} FROM rd_import.accounts").fetchall()  # type: ignore[arg-type]
    assert slots_us >= (requests - 1) * 60_000_000 / 1200  # one slot each, whoever took it


def test_a_killed_machine_leaves_doubt_and_another_goes_on(postgres: str, tmp_path: Path) -> None:
    """Its connection breaks, so the other machine knows at once; the file is the same, its run folder is not there."""
    words = (*job(tmp_path / "orders.csv", 40, 4), "--ledger", postgres)
    with Sandbox(behaviour=Behaviour(latency_ms=300)) as server:
        victim = start(*words, folder=tmp_path, machine="a", server=server)
        while len(server.events()) < 8:
            assert victim.poll() is None
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        second = ("--audit", "second.parquet")
        code, result = ended(start(*words, *second, folder=tmp_path, machine="b", server=server))
        assert code in {0, 5}, result
        assert broken_promises(server, [tmp_path / "second.parquet"]) == []
        assert max(registered(server).values()) == 1
        assert result["states"].get("unknown", 0) <= 4 * 16
        assert sum(result["states"].values()) == 40
        assert "not_sent" not in result["states"]


def test_a_server_that_fails_stops_the_run_and_nothing_is_lost_or_sent_twice(
    tmp_path: Path,
) -> None:
    """The database goes away in the middle, as in a failover; afterwards the same command goes on."""
    with (
        PostgresServer() as database,
        Sandbox(behaviour=Behaviour(latency_ms=200)) as server,
    ):
        words = (*job(tmp_path / "orders.csv", 60, 2), "--ledger", database.database())
        running = start(*words, folder=tmp_path, machine="a", server=server)
        while len(server.events()) < 6:
            assert running.poll() is None
        database.stop()
        out, err = running.communicate(timeout=120)
        assert running.returncode == 1, (out, err)
        assert "cannot be used" in err
        assert "Traceback" not in err
        database.start()
        again = start(
            *words, "--audit", "again.parquet", folder=tmp_path, machine="a", server=server
        )
        code, result = ended(again)
        assert code in {0, 5}, result
        assert broken_promises(server, [tmp_path / "again.parquet"]) == []


# --- the commands


def test_every_command_takes_the_address(
    postgres: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders(3))
    option = ("--ledger", postgres)
    before = rd_import("status", *option)
    assert before.code == 0
    assert "there is no ledger" in before.err
    checked = rd_import("check", file, *TYPE, *option, "--json")
    assert checked.code == 0
    sent = rd_import(file, *TYPE, *option, "--json")
    assert (sent.code, sent.json["states"]) == (0, {"accepted": 3})
    assert "begins at postgresql://importer@" in sent.err
    assert rd_import(file, *TYPE, *option, "--json", "--audit", tmp_path / "b.parquet").json[
        "states"
    ] == {"already_accepted": 3}
    runs = rd_import("status", *option, "--json").json["runs"]
    assert [run["states"] for run in runs] == [{"already_accepted": 3}, {"accepted": 3}]
    assert rd_import("ledger", "check", sent.json["audit"], *option).code == 0
    assert not list((tmp_path / "state").rglob("ledger.db"))


def test_audits_rebuild_a_ledger_in_postgresql(
    postgres: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Moving from one machine's file to a shared database: `ledger add`, and nothing is sent again."""
    file = save(tmp_path / "orders.csv", orders(3))
    sent = rd_import(file, *TYPE, "--json")
    assert rd_import("ledger", "add", sent.json["audit"], "--ledger", postgres).code == 0
    again = rd_import(
        file, *TYPE, "--json", "--ledger", postgres, "--audit", tmp_path / "b.parquet"
    )
    assert again.json["states"] == {"already_accepted": 3}
    assert len(sandbox.events()) == 3


# --- passwords stay hidden


def everything_written(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


def test_no_file_and_no_output_holds_the_password(
    postgres: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders(2))
    outputs = [
        rd_import(file, *TYPE, "--ledger", postgres, "-v", "--json"),
        rd_import("status", "--ledger", postgres),
        rd_import("resume", "--ledger", postgres),
        rd_import("status", "--ledger", postgres.replace(ESCAPED, "wrong-secret")),
    ]
    assert [one.code for one in outputs] == [0, 0, 2, 1]
    for secret in (PASSWORD, ESCAPED, "wrong-secret"):
        assert not any(secret in one.out + one.err for one in outputs)
        assert not any(secret.encode() in held for held in everything_written(tmp_path))
    with Ledger.open(postgres) as ledger:
        assert PASSWORD not in repr(vars(ledger.store))
        assert ESCAPED not in repr(vars(ledger.store)) + ledger.store.name


def test_the_password_may_stand_in_the_environment(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with Ledger.open(postgres.replace(f":{ESCAPED}", "")) as ledger:
        assert ledger.store.exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql://ana:{}@host/db", "not `mysql://`"),
        ("postgresql://ana:{}@x@host/db", "cannot be read"),
        ("postgresql://host:{}/db", "cannot be read"),
        ("postgresql://ana@host/db?sslpassword={}", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(
    address: str, said: str, rd_import: Command
) -> None:
    ended = rd_import("status", "--ledger", address.format("secret"))
    assert ended.code == 2
    assert said in ended.err
    assert "secret" not in ended.err


def test_a_password_among_the_parameters_is_not_shown() -> None:
    address = "postgresql://ana@127.0.0.1:1/db?connect_timeout=1&password=secret"
    with contextlib.closing(store_of(address)) as store:
        assert "secret" not in store.name + repr(vars(store))
        with pytest.raises(LedgerError) as caught:
            store.exists()
    assert "secret" not in str(caught.value)


def test_without_its_driver_the_command_says_what_to_install(
    rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    ended = rd_import("status", "--ledger", "postgresql://ana@host/db")
    assert ended.code == 2
    assert "pip install 'rd-import[postgres]'" in ended.err
