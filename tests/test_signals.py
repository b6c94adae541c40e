"""A person or a scheduler stops the command: what is in flight is finished, recorded, and in the audit."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from command_line import start
from conftest import Command
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rig import broken_promises, job, registered

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def interrupts_reach_processes() -> Iterator[None]:
    """In the background of a script SIGINT is ignored, by the tests and by what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_until(true: Callable[[], object], *, within_s: float = 20) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.005)


def answered(server: Sandbox, requests: int) -> Callable[[], bool]:
    return lambda: len(server.requests()) >= requests


def stop_when(
    ready: Callable[[], object], words: list[str], *signals: signal.Signals
) -> tuple[int, str, str, float]:
    """Run the command, send it signals once it is so far; give its code, its words, and how long it took to end."""
    process = start(*words)
    try:
        wait_until(ready)
        told = time.monotonic()
        for at, one in enumerate(signals):
            if at:
                time.sleep(0.2)  # two signals at once are one
            process.send_signal(one)
        out, err = process.communicate(timeout=40)
    finally:
        process.kill()
    assert "Traceback" not in err
    return process.returncode, out, err, time.monotonic() - told


@pytest.mark.parametrize("asked", BOTH)
def test_a_signal_lets_what_is_in_flight_finish_and_writes_the_audit(
    asked: signal.Signals, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(latency_ms=400)
    audit = tmp_path / "a.parquet"
    words = [*job(tmp_path / "a.csv", 500, 5), "--audit", str(audit)]
    code, out, err, took_s = stop_when(answered(sandbox, 1), words, asked)
    assert code == 130
    assert "once more to stop at once" in err
    assert took_s < 5
    states = json.loads(out)["states"]
    assert states.keys() == {"accepted", "not_sent"}
    assert sum(states.values()) == 500
    assert json.loads(out)["stopped_by"] == "person"
    assert len(registered(sandbox)) == states["accepted"] <= 5 + 16 * 5
    assert broken_promises(sandbox, [audit]) == []
    assert not audit.with_name("a.parquet.open").exists()
    [run] = rd_import("status", "--json").json["runs"]
    assert not run["running"]
    sandbox.behaviour = Behaviour()
    done = rd_import("resume", "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 500})
    assert registered(sandbox) == dict.fromkeys(range(1, 501), 1)


@pytest.mark.parametrize("asked", BOTH)
def test_a_second_signal_stops_at_once_and_loses_nothing(
    asked: signal.Signals, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    slow = tuple(range(2, 40))
    sandbox.behaviour = Behaviour(faults=(Fault("slow", at=slow, seconds=20),))
    audit = tmp_path / "a.parquet"
    words = [*job(tmp_path / "a.csv", 200, 5), "--audit", str(audit)]
    code, _, err, took_s = stop_when(lambda: len(sandbox.events()) > 5, words, asked, asked)
    assert code == 130
    assert took_s < 3
    assert "the ledger holds what was sent" in err
    assert audit.with_name("a.parquet.open").exists()
    sandbox.behaviour = Behaviour()
    again = rd_import(*words)
    assert "going on with run" in again.err
    assert again.code == 5
    assert again.json["states"].keys() == {"accepted", "unknown"}
    assert sum(again.json["states"].values()) == 200
    assert 5 <= again.json["states"]["unknown"] <= 16 * 5
    assert registered(sandbox) == dict.fromkeys(range(1, 201), 1)
    assert broken_promises(sandbox, [audit]) == []


def test_a_signal_ends_a_wait_for_the_quota(tmp_path: Path, sandbox: Sandbox) -> None:
    """Nothing is in flight then: there is nothing to wait for."""
    fault = Fault("status", status=429, retry_after=50, from_request=2)
    sandbox.behaviour = Behaviour(faults=(fault,))
    words = [*job(tmp_path / "a.csv", 30, 5), "--audit", str(tmp_path / "a.parquet")]
    answer = answered(sandbox, 2)

    def asleep() -> bool:
        time.sleep(0.3 if answer() else 0)  # from the answer to the wait is a moment
        return answer()

    code, out, _, took_s = stop_when(asleep, words, signal.SIGTERM)
    assert code == 130
    assert took_s < 5
    assert json.loads(out)["states"] == {"accepted": 5, "not_sent": 25}


def test_what_does_not_answer_in_time_after_a_signal_is_unknown(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 55 seconds of the promise are one here."""
    monkeypatch.setattr("rd_import.send.FINISH_WITHIN", timedelta(seconds=1))
    sandbox.behaviour = Behaviour(faults=(Fault("slow", from_request=2, seconds=40),))
    audit = tmp_path / "a.parquet"
    told: list[float] = []

    def ask() -> None:
        wait_until(lambda: len(sandbox.events()) > 5)
        told.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    done = rd_import(*job(tmp_path / "a.csv", 200, 5), "--audit", audit)
    asking.join()
    assert done.code == 130
    assert time.monotonic() - told[0] < 6
    assert done.json["states"].keys() == {"accepted", "unknown", "not_sent"}
    assert done.json["states"]["accepted"] == 5
    assert broken_promises(sandbox, [audit]) == []
    unknown = [row for row in pq.read_table(audit).to_pylist() if row["state"] == "unknown"]
    assert {row["proof"] for row in unknown} == {"no answer before the run was stopped"}


def test_a_killed_process_loses_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(latency_ms=300)
    audit = tmp_path / "a.parquet"
    words = [*job(tmp_path / "a.csv", 200, 5), "--audit", str(audit)]
    code, _, _, _ = stop_when(answered(sandbox, 1), words, signal.SIGKILL)
    assert code == -signal.SIGKILL
    sandbox.behaviour = Behaviour()
    again = rd_import(*words)
    assert "going on with run" in again.err
    assert again.json["states"].keys() <= {"accepted", "unknown"}
    wait_until(lambda: len(registered(sandbox)) == 200)
    assert registered(sandbox) == dict.fromkeys(range(1, 201), 1)
    assert broken_promises(sandbox, [audit]) == []


@pytest.mark.parametrize("asked", BOTH)
def test_a_signal_while_the_file_is_read_leaves_nothing_behind(
    asked: signal.Signals, tmp_path: Path, sandbox: Sandbox
) -> None:
    """People's data would stay in a run folder that nobody knows of."""
    words = [*job(tmp_path / "a.csv", 200_000), "--audit", str(tmp_path / "a.parquet")]
    runs = tmp_path / "state" / "rd-import" / "runs"
    reading = lambda: list(runs.glob("*/source.arrow"))  # noqa: E731
    code, _, _, took_s = stop_when(reading, words, asked)
    assert code == 130
    assert took_s < 10
    assert list(runs.iterdir()) == []
    assert sandbox.requests() == []
