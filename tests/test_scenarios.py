"""Every scenario that comes with the sandbox, played against the real command: what must come of it, comes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import Command, Outcome
from rd_import.sandbox import Sandbox, Scenario
from rig import FakeTime, Row, point_at, registered, save, sized, statuses, time_passes

__all__ = ["time_passes"]

PROBED = tuple(name for name in Scenario.names() if "after_probe" in Scenario.load(name).expect)
TESTER = "tester@example.com"


def rows_of(job: Mapping[str, Any], event_type: str) -> list[Row]:
    """Write the events that a scenario's `[job]` asks for; each bears its number."""
    bad = set(job.get("bad_events", ()))
    rows = []
    for number in range(1, job["events"] + 1):
        contact = (number - 1) // job.get("events_per_contact", 1)
        email = job["bad_contact"] if number in bad else f"c{contact:06}@example.com"
        if event_type == "CONVERSION":
            rows.append({"email": email, "conversion_identifier": f"{number:06}"})
        else:
            fixed = {"currency": "BRL", "price": "349.90", "total_items": "1"}
            rows.append({"email": email, "identifier": f"{number:06}", **fixed})
    return rows


def play(scenario: Scenario, folder: Path, rd_import: Command) -> Outcome:
    event_type = scenario.job.get("event_type", "CONVERSION")
    rows = rows_of(scenario.job, event_type)
    rows, options = sized(rows, scenario.job.get("events_per_request"), event_type)
    file = save(folder / "job.csv", rows)
    words = [
        str(file),
        "--type",
        event_type,
        "--json",
        "--ledger",
        str(folder / "ledger.db"),
        *options,
    ]
    if "timeout_s" in scenario.job:
        words += ["--timeout", str(scenario.job["timeout_s"])]
    return rd_import(*words, "--audit", folder / "job.audit.parquet")


def failures(expect: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Name every expectation that what was seen does not meet."""
    wanted = {
        name: value for name, value in expect.items() if name not in {"states", "after_probe"}
    }
    wanted |= {f"states.{state}": value for state, value in expect["states"].items()}
    wanted |= {name: 0 for name in seen if name.startswith("states.") and name not in wanted}
    found = []
    for name, value in wanted.items():
        low, high = value if isinstance(value, list) else (value, value)
        if not low <= seen.get(name, 0) <= high:
            found.append(f"{name} is {seen.get(name, 0)}, not {low} to {high}")
    return found


def seen_of(
    done: Outcome, server: Sandbox, clock: FakeTime, *, events: int, posts: int
) -> dict[str, Any]:
    """Put what came of a run under the names of `[expect]`; what was there before it does not count."""
    copies = registered(server, since=events)
    return {
        **{f"states.{state}": rows for state, rows in done.json["states"].items()},
        "registered": copies.total(),
        "duplicates": copies.total() - len(copies),
        "requests": len(server.requests()) - posts,
        "answered_429": statuses(server)[429],
        "refreshes": server.refreshes,
        "exit_code": done.code,
        "duration_s": clock.passed_s,
    }


@pytest.mark.parametrize("name", Scenario.names())
def test_a_scenario_ends_as_it_says(
    name: str,
    tmp_path: Path,
    rd_import: Command,
    time_passes: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = Scenario.load(name)
    with Sandbox(behaviour=scenario.behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch, renews=True)
        done = play(scenario, tmp_path, rd_import)
        seen = seen_of(done, server, time_passes, events=0, posts=0)
        time_passes.advance(120)  # what the server registers late is registered by now
        copies = registered(server)
        seen |= {"registered": copies.total(), "duplicates": copies.total() - len(copies)}
        assert failures(scenario.expect, seen) == []
        assert sum(done.json["states"].values()) == done.json["rows"] == scenario.job["events"]
        assert done.json["requests"] == seen["requests"] - server.refreshes


@pytest.mark.parametrize("name", PROBED)
def test_a_scenario_ends_as_it_says_once_the_account_was_probed(
    name: str,
    tmp_path: Path,
    rd_import: Command,
    time_passes: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = Scenario.load(name)
    with Sandbox(behaviour=scenario.behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch, renews=True)
        monkeypatch.setattr("rd_import.commands.ask.open_terminal", lambda: Person(server))
        probed = rd_import("probe", TESTER, "--ledger", tmp_path / "ledger.db", "--json")
        assert probed.code == 0
        events, posts = len(server.events()), len(server.requests())
        done = play(scenario, tmp_path, rd_import)
        seen = seen_of(done, server, time_passes, events=events, posts=posts)
        assert failures(scenario.expect["after_probe"], seen) == []


class Person:
    """Looks the test contact up in the sandbox, and answers what is true."""

    def __init__(self, server: Sandbox) -> None:
        self._server = server

    def readline(self) -> str:
        contacts = {one.event["payload"]["email"] for one in self._server.events()}  # type: ignore[index]
        return "y\n" if TESTER in contacts else "n\n"


def test_the_audit_names_what_was_assumed_of_an_account_that_nobody_probed(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine events stand twice there, and only because of the assumption that the audit writes down."""
    scenario = Scenario.load("partial-acceptance")
    with Sandbox(behaviour=scenario.behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch)
        done = play(scenario, tmp_path, rd_import)
        twice = [number for number, count in registered(server).items() if count > 1]
    assert twice == [21, 22, 24, 25, 26, 27, 28, 29, 30]
    metadata = pq.read_metadata(done.json["audit"]).metadata
    assert b"a refused request has accepted none" in metadata[b"rd_import.assumption"]
