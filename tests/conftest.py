"""What several tests share: one seed for hypothesis, a private state folder, the command, and the sandbox."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandera.pandas  # noqa: F401 -- with pandas, before a command hides it: there is one pandera in a process
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

from postgres_server import PostgresServer
from rd_import.cli import main
from rd_import.sandbox import Sandbox

settings.register_profile(
    "rd_import", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("rd_import")

REAL_EXPORTS = Path(__file__).parents[2] / "shared" / "data" / "real"
"""Exports of real shops, which may not be redistributed and so stand beside the project, where there are any."""


NEEDS = {"airflow": "airflow", "spark": "pyspark", "s3": "moto"}
"""Packages of tests that run in an environment of their own, which `make test-all` sets up."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of what is not there; the report says how many that are."""
    absent_marks = [mark for mark, package in NEEDS.items() if find_spec(package) is None]
    if not REAL_EXPORTS.is_dir():
        absent_marks.append("real")
    absent = [item for item in items if any(map(item.get_closest_marker, absent_marks))]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The audit's lines, one per input row."""
        rows: list[dict[str, Any]] = pq.read_table(self.json["audit"]).to_pylist()
        return rows


Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test's ledger and run folders apart, and no account of the machine in reach."""
    for name in (
        "TOKEN",
        "BASE_URL",
        "LEDGER",
        "ACCOUNT",
        "REFRESH_TOKEN",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "API_KEY",
    ):
        monkeypatch.delenv(f"RD_IMPORT_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for name in ("CI", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("rd_import.session.CONTAINER_MARKS", ())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The address of a new database."""
    return postgres_server.database()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new ledger is to stand: a file, then a PostgreSQL database."""
    if request.param == "sqlite":
        return tmp_path / "state" / "ledger.db"
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
def rd_import(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process, as the console script does."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rd-import", *map(str, words)])
        # The command hides pandas from its process; the next test may need it.
        monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Outcome(int(ended.value.code or 0), shown.out, shown.err)

    return run


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running sandbox that the environment points to."""
    with Sandbox() as server:
        monkeypatch.setenv("RD_IMPORT_BASE_URL", server.url)
        monkeypatch.setenv("RD_IMPORT_TOKEN", server.token)
        yield server
