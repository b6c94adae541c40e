"""Real processes, killed right before every durable or outward system call of a three-batch run, then started again.

strace kills: it is attached to a child that has its imports behind it and waits (`victim`), so only the run's own calls
count. The kill comes on entering call number N, so that it is the first one not done. strace counts for each call and
each thread of its own; with `--max-unknown 1` one thread makes all requests, one after another, so that each of its
calls has a number of its own. The main thread's only `sendto` asks whether the server is a sandbox; those of the
requests are counted from `deliver` on.

What was written before `fdatasync` outlives the process all the same, so a missing mark or a doubt forgotten shows at
`pwrite64` (the outcome is not yet written) and at `recvfrom` (the body has left, nobody read the answer).
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import pytest

from rd_import.ledger import Ledger
from rd_import.ledger_check import differences
from rd_import.sandbox import Sandbox
from victim import TYPE, Promise, Victim, Zygote, save_orders

pytestmark = pytest.mark.strace

ORDERS: Final = 14  # three bodies of at most 1,000 bytes
WORDS: Final = ("orders.csv", *TYPE, "--json", "--max-body", 1000, "--max-unknown", 1)
FIRST_HALF: Final = "start"
SECOND_HALF: Final = "rd_import.pipeline:deliver"
CALLS_AT_MOST: Final = 400
PATIENCE_S: Final = 30
STRACE: Final = shutil.which("strace")


@dataclass(frozen=True)
class Calls:
    """System calls to be killed at, those numbered `first`, `first + step`, … of what comes after `hold`.

    `least` kills must come about, else something is not as this test takes it to be.
    """

    name: str
    hold: str
    least: int
    first: int = 1
    step: int = 1

    def __str__(self) -> str:
        part = f" {self.first} of {self.step}" if self.step > 1 else ""
        return f"{self.name}{part} from {self.hold.rpartition(':')[2]}"


# The parts of a name run side by side where several workers share the suite.
EVERY: Final = (
    Calls("fsync", FIRST_HALF, 4),
    Calls("fdatasync", FIRST_HALF, 15),
    Calls("sendto", FIRST_HALF, 1),
    Calls("sendto", SECOND_HALF, 6),
    Calls("recvfrom", SECOND_HALF, 3),
    Calls("/^rename", FIRST_HALF, 4),
    Calls("/^unlink", FIRST_HALF, 5),
    *(Calls("write", FIRST_HALF, 10, part, 2) for part in (1, 2)),
    *(Calls("pwrite64", FIRST_HALF, 20, part, 4) for part in (1, 2, 3, 4)),
)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    assert STRACE, "these tests need strace: apt-get install strace"
    with Zygote() as process:
        yield process


def start(
    zygote: Zygote, folder: Path, sandbox: Sandbox, *words: object, hold: str | None = None
) -> Victim:
    env = {"RD_IMPORT_BASE_URL": sandbox.url, "RD_IMPORT_TOKEN": sandbox.token}
    return zygote.run(*words, folder=folder, env=env, hold=hold)


def killed_at(victim: Victim, name: str, number: int) -> bool:
    """Let a held process go on, and kill it on entering that call; False where it ended before."""
    assert victim.held(), victim.text()
    words = ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}"]
    words += ["-e", f"inject={name}:signal=KILL:when={number}", "-p", str(victim.pid)]
    strace = subprocess.Popen([STRACE or "strace", *words], stderr=subprocess.PIPE, text=True)
    try:
        ends = time.monotonic() + PATIENCE_S
        while "TracerPid:\t0" in Path(f"/proc/{victim.pid}/status").read_text():
            if strace.poll() is not None or time.monotonic() > ends:
                strace.kill()
                raise AssertionError(f"strace did not attach: {strace.communicate()[1]}")
            time.sleep(0.001)
        victim.release()
        code = victim.end()
        strace.communicate(timeout=PATIENCE_S)
    finally:
        strace.kill()
        strace.communicate()
    assert code in {-9, 0}, victim.text()
    return code == -9


def judge(promise: Promise, audit: Path, sandbox: Sandbox) -> None:
    rows = pq.read_table(audit).to_pylist()
    stored = [(str(one.event["payload"]["identifier"]), one.event_uuid) for one in sandbox.events()]  # type: ignore[index]
    promise.judge(rows, stored, ORDERS)
    with Ledger.open(promise.ledger) as ledger:
        assert differences(ledger, [audit]) == []


@pytest.mark.parametrize("calls", EVERY, ids=str)
def test_killed_at_every_call_nothing_is_lost_and_nothing_is_sent_twice(
    calls: Calls, zygote: Zygote, tmp_path: Path
) -> None:
    kills = 0
    for number in range(calls.first, CALLS_AT_MOST, calls.step):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_orders(folder / "orders.csv", ORDERS)
        promise = Promise(folder)
        words = (*WORDS, "--audit", "audit.parquet")
        with Sandbox() as sandbox:
            victim = start(zygote, folder, sandbox, *words, hold=calls.hold)
            killed = killed_at(victim, calls.name, number)
            if killed:
                kills += 1
                assert promise.note_kill() <= 1
                for path in folder.glob("audit.parquet*"):
                    if path.suffix != ".tmp":
                        pq.read_table(path)  # what stands under its own name is whole
                again = start(zygote, folder, sandbox, *words)
                assert again.end() in {0, 5}, again.text()
            else:
                assert len(sandbox.requests()) == 3
            judge(promise, folder / "audit.parquet", sandbox)
        if not killed:
            assert kills >= calls.least
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("name", ["write", "/^rename", "/^unlink", "fdatasync"])
def test_a_kept_preview_goes_on_wherever_its_sending_was_killed(
    name: str, zygote: Zygote, tmp_path: Path
) -> None:
    for number in range(1, CALLS_AT_MOST):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_orders(folder / "orders.csv", ORDERS)
        promise = Promise(folder)
        with Sandbox() as sandbox:
            check = start(zygote, folder, sandbox, "check", "--keep", *WORDS[:-2])
            assert check.end() == 0, check.text()
            [run] = [path.name for path in (folder / "state" / "rd-import" / "runs").iterdir()]
            words = ("resume", run, "--json", "--audit", "audit.parquet")
            victim = start(zygote, folder, sandbox, *words, hold=SECOND_HALF)
            killed = killed_at(victim, name, number)
            if killed:
                promise.note_kill()
                again = start(zygote, folder, sandbox, *words)
                # 2: it had come to its end, and what it would send is gone.
                assert again.end() in {0, 2, 5}, again.text()
            if (folder / "audit.parquet").exists():
                judge(promise, folder / "audit.parquet", sandbox)
            else:
                raise AssertionError(again.text())
        if not killed:
            return
    raise AssertionError("it never came to its end")
