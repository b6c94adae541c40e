"""Airflow in earnest: its own database, `dag.test()`, the example DAGs, and tasks that are killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from command_line import ROOT
from rd_import.sandbox import Behaviour, Sandbox
from rig import broken_promises, orders, registered, save

pytestmark = pytest.mark.airflow

RUN = ROOT / "tests" / "dags" / "run.py"
ENDINGS = ROOT / "tests" / "dags" / "endings.py"
EXAMPLES = ROOT / "examples" / "airflow"
DATE = "2026-11-20T03:00:00"


def connection(server: Sandbox | str, token: str = "", **extra: str) -> str:
    where = server if isinstance(server, str) else server.url
    password = token or (server.token if isinstance(server, Sandbox) else "x")
    return json.dumps(
        {"conn_type": "rdstation", "host": where, "password": password, "extra": extra}
    )


class Airflow:
    """One home with its database; each DAG run is a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PYTHONWARNINGS": "ignore",
        }
        self._popen("init", cwd=home).communicate(timeout=120)

    def start(self, dags: Path, dag: str, folder: Path, **env: str) -> subprocess.Popen[str]:
        known = {
            "XDG_STATE_HOME": str(folder / "state"),
            "AIRFLOW_VAR_EXPORTS": str(folder),
        }
        known["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags.parent)
        return self._popen(str(dags), dag, DATE, cwd=folder, **known, **env)

    def _popen(self, *words: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(RUN), *words],
            cwd=cwd,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def ended(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=240)
    results = [line for line in out.splitlines() if line.startswith("RESULT ")]
    assert results, out[-5000:]
    return json.loads(results[0].removeprefix("RESULT ")) | {"log": out}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.fixture
def ledger(postgres: str) -> str:
    return postgres


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def test_an_agencys_accounts_are_imported_by_mapped_tasks(
    airflow: Airflow, ledger: str, server: Sandbox, tmp_path: Path
) -> None:
    """Three accounts with a connection each, one ledger; counts in XCom, audits as links, an asset event each."""
    for number in range(3):
        save(tmp_path / f"{number}.csv", orders(20, first=1 + 20 * number))
    accounts = [
        {"conn_id": f"rd_{number}", "files": str(tmp_path / f"{number}.csv")} for number in range(3)
    ]
    env = {
        f"AIRFLOW_CONN_RD_{number}": connection(server, account=f"shop {number}")
        for number in range(3)
    }
    done = ended(
        airflow.start(
            EXAMPLES / "agency.py",
            "agency_orders_to_rd_station",
            tmp_path,
            AIRFLOW_CONN_RD_LEDGER=ledger,
            AIRFLOW_VAR_RD_ACCOUNTS=json.dumps(accounts),
            **env,
        )
    )
    assert done["state"] == "success", done["log"][-5000:]
    assert done["xcoms"]["total -1 return_value"] == 60
    assert registered(server) == Counter(range(1, 61))
    for number in range(3):
        given = done["xcoms"][f"import {number} return_value"]
        assert (given["rows"], given["states"], given["exit_code"]) == (20, {"accepted": 20}, 0)
        link = done["xcoms"][f"import {number} _link_AuditLink"]
        assert link == Path(given["audit"]).as_uri()
        assert pq.read_table(given["audit"]).num_rows == 20
        report = done["xcoms"][f"import {number} _link_ReportLink"]
        assert report == Path(given["report"]).as_uri()
        assert "20" in Path(given["report"]).read_text("utf-8")
    assert [one["states"] for one in done["assets"]] == [{"accepted": 20}] * 3
    assert "@example.com" not in json.dumps(done["xcoms"])
    assert server.token not in done["log"]


def test_a_task_that_is_killed_is_retried_and_nothing_is_sent_twice(
    airflow: Airflow, ledger: str, tmp_path: Path
) -> None:
    """SIGKILL while requests are in flight; the retry goes on with the same run, and doubts what was in flight."""
    save(tmp_path / "orders-2026-11-20.csv", [one | {"name": "x" * 900} for one in orders(3_000)])
    with Sandbox(behaviour=Behaviour(latency_ms=400)) as server:
        env = {
            "AIRFLOW_CONN_RDSTATION_DEFAULT": connection(server),
            "AIRFLOW_CONN_RD_LEDGER": ledger,
        }
        dag = (EXAMPLES / "nightly_export.py", "nightly_orders_to_rd_station", tmp_path)
        victim = airflow.start(*dag, **env)
        while len(server.events()) < 400:
            assert victim.poll() is None, victim.communicate()[0][-5000:]
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        before = set(tmp_path.glob("state/rd-import/airflow/*/*/import/-1/*"))
        again = ended(airflow.start(*dag, **env))
        assert "going on with run" in again["log"]
        assert set(tmp_path.glob("state/rd-import/airflow/*/*/import/-1/*")) == before
        audits = list(tmp_path.glob("*.audit.parquet"))
        assert len(audits) == 1
        assert broken_promises(server, audits) == []
        assert max(registered(server).values()) == 1
        states = Counter(pq.read_table(audits[0])["state"].to_pylist())
        assert sum(states.values()) == 3_000
        assert set(states) <= {"accepted", "already_accepted", "unknown"}
        assert again["state"] == ("failed" if states["unknown"] else "success")


def test_each_ending_is_a_failure_a_retry_or_a_success(
    airflow: Airflow, ledger: str, server: Sandbox, tmp_path: Path
) -> None:
    """What a retry cannot mend fails at once; an outage is tried again; `fail_on` decides about rows."""
    save(tmp_path / "orders.csv", orders(5))
    save(tmp_path / "ambiguous.csv", orders(5, price="1.234"))
    with Sandbox(behaviour=Behaviour(refused_contacts=("c000002@example.com",))) as poison:
        done = ended(
            airflow.start(
                ENDINGS,
                "endings",
                tmp_path,
                AIRFLOW_CONN_RD_LEDGER=ledger,
                AIRFLOW_CONN_RDSTATION_DEFAULT=connection(server),
                AIRFLOW_CONN_RD_FORBIDDEN=connection(server, "wrong"),
                AIRFLOW_CONN_RD_POISON=connection(poison),
                AIRFLOW_CONN_RD_NOWHERE=connection("http://127.0.0.1:9"),
            )
        )
    assert done["tasks"] == {
        "unusable -1": ["failed", 1],
        "forbidden -1": ["failed", 1],
        "asks -1": ["failed", 1],
        "refused -1": ["failed", 1],
        "tolerated -1": ["success", 1],
        "unreachable -1": ["failed", 2],
    }
    tolerated = done["xcoms"]["tolerated -1 return_value"]
    states = tolerated["states"]  # which of the two tasks of that account comes first is open
    assert states.pop("refused") == 1
    assert states in ({"accepted": 4}, {"already_accepted": 4})
    assert tolerated["exit_code"] == 3
    link = done["xcoms"]["tolerated -1 _link_RejectedLink"]
    assert "c000002@example.com" in Path(link.removeprefix("file://")).read_text("utf-8")


def test_rows_that_wait_for_a_contacts_limit_wait_in_the_triggerer(
    airflow: Airflow, ledger: str, tmp_path: Path
) -> None:
    """Five events of one contact, of which three may go now: the task defers, goes on with its run, and ends."""
    rows = [one | {"email": "ana@example.com"} for one in orders(5)]
    save(tmp_path / "limited.csv", rows)
    behaviour = Behaviour(contact_limit=3)
    with Sandbox(behaviour=behaviour) as server:
        waiting = airflow.start(
            ENDINGS,
            "waits",
            tmp_path,
            AIRFLOW_CONN_RD_LEDGER=ledger,
            AIRFLOW_CONN_RDSTATION_DEFAULT=connection(server),
        )
        while len(server.events()) < 3:
            assert waiting.poll() is None, waiting.communicate()[0][-5000:]
        server.behaviour = Behaviour()  # its 24 hours are over
        done = ended(waiting)
        assert done["state"] == "success", done["log"][-5000:]
        assert registered(server) == Counter(range(1, 6))
    assert done["xcoms"]["import -1 return_value"]["states"] == {"accepted": 5}
    assert done["log"].count("going on with run") >= 1


def test_airflow_knows_the_provider(airflow: Airflow) -> None:
    """The entry point is found, the connection's form has its fields, and secrets are hidden in it."""
    code = """
import json
from airflow.providers_manager import ProvidersManager
known = ProvidersManager()
assert "rd-import" in known.providers
hook = known.hooks["rdstation"]
assert hook.hook_class_name == "rd_import.airflow_provider.RdStationHook", hook
from rd_import.airflow_provider import RdStationHook
print("RESULT", json.dumps({"ok": True, "links": sorted(known.extra_links_class_names)}))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=airflow.env,
        cwd=airflow.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RESULT" in shown.stdout, shown.stderr
    assert "rd_import.airflow_provider.AuditLink" in shown.stdout


def test_a_connection_can_be_tested(airflow: Airflow, server: Sandbox) -> None:
    """A refresh token is used and the new one kept; a token alone is not asked about."""
    code = "from rd_import.airflow_provider import RdStationHook as H\n"
    code += "import sys; print('RESULT', H(sys.argv[1]).test_connection())"
    renewable = json.dumps(
        {
            "conn_type": "rdstation",
            "host": server.url,
            "login": server.client_id,
            "extra": {
                "client_secret": server.client_secret,
                "refresh_token": server.refresh_token,
            },
        }
    )
    env = {
        "AIRFLOW_CONN_RENEWABLE": renewable,
        "AIRFLOW_CONN_PLAIN": connection(server),
        "AIRFLOW_CONN_EMPTY": json.dumps({"conn_type": "rdstation", "host": server.url}),
        "XDG_STATE_HOME": str(airflow.home / "state"),
    }
    answers = {
        name: subprocess.run(
            [sys.executable, "-c", code, name],
            env=airflow.env | env,
            cwd=airflow.home,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for name in ("renewable", "plain", "empty")
    }
    assert "(True, 'RD Station renewed the token')" in answers["renewable"]
    assert "(True, 'there is a token" in answers["plain"]
    assert "(False," in answers["empty"]
