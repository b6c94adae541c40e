"""Real processes of the command, cheap to start and good to kill, and what must hold whenever they were killed.

Imports cost a second, so one process does them once and forks a child for each run. This file is that process when it
is run as a program, and its remote control when a test imports it.

Whoever is to be killed stays a zombie until it is waited for, so that its number never means another process.
"""

import csv
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect
from typing import Any, Final, Self

import psycopg

LIFETIME_S: Final = 60
"""A child ends itself after this time, whatever became of the test."""
ANSWER_S: Final = 90
"""How long the test waits for the forking process."""
HEAVY: Final = (
    "rd_import.audit",
    "rd_import.cli",
    "rd_import.ledger",
    "rd_import.ledger_check",
    "rd_import.pipeline",
    "rd_import.preview",
    "rd_import.session",
    "rd_import.terminal",
)
TYPE: Final = ("--type", "ECOMMERCE_ORDER_PLACED")
WORKERS: Final = 16
"""Requests that a run may have in flight."""


# --- the remote control


@dataclass(frozen=True)
class Victim:
    """One run of the command as a process of its own."""

    pid: int
    output: Path
    zygote: "Zygote"

    def release(self) -> None:
        """Let it go on from where it is held."""
        self.zygote.ask(op="release", pid=self.pid)

    def held(self) -> bool:
        """Wait until it is where it is to be held; False if it ended before."""
        return bool(self.zygote.ask(op="held", pid=self.pid)["held"])

    def kill(self) -> None:
        """End it at once; nothing happens to one that has ended."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end; tell whether it has ended. It can still be killed."""
        return bool(self.zygote.ask(op="look", pid=self.pid, seconds=seconds)["ended"])

    def end(self) -> int:
        """Wait for its end and give its exit code, negative if a signal ended it."""
        code = int(self.zygote.ask(op="wait", pid=self.pid)["code"])
        assert code != -signal.SIGALRM, f"it hung:\n{self.text()}"
        return code

    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")


class Zygote:
    """The process that has imported everything, and forks."""

    def __init__(self) -> None:
        self._runs = 0
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("RD_IMPORT_")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One thread: a pool must not begin before the fork, and a machine has more to do.
            env=kept | {"POLARS_MAX_THREADS": "1", "PYTHONUTF8": "1", "COLUMNS": "100"},
            text=True,
        )
        assert self._read()["ready"]

    def run(
        self, *words: object, folder: Path, env: dict[str, str], hold: str | None = None
    ) -> Victim:
        """Start the command in a folder.

        Args:
            words: The command line.
            folder: Where it runs; its output goes to a file there.
            env: What is added to the environment.
            hold: `start`, or a function as in `module:name`, before which the process stops until `release`.
        """
        self._runs += 1
        output = folder / f"output {self._runs}.txt"
        answer = self.ask(
            op="run",
            argv=[str(word) for word in words],
            cwd=str(folder),
            env=env | {"XDG_STATE_HOME": str(folder / "state")},
            output=str(output),
            hold=hold,
        )
        return Victim(int(answer["pid"]), output, self)

    def ask(self, **order: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends when nobody speaks to it any more, and its children with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        assert ready, "the forking process does not answer"
        line = self._process.stdout.readline()
        assert line, "the forking process is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer


# --- what must hold


def save_orders(path: Path, orders: int, *, padding: int = 0) -> Path:
    """Write orders, each of a contact of its own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["email", "identifier", "currency", "price", "total_items", "name"])
        for number in range(orders):
            mail = f"cliente{number}@example.com"
            writer.writerow([mail, f"{number}", "BRL", "10.90", "1", "x" * (1 + padding)])
    return path


@dataclass
class Promise:
    """Follows one file through many lives of the command, and judges how it came out."""

    folder: Path
    in_flight: set[str] = field(
        default_factory=set
    )  # identifiers that a killed process was sending
    kills: int = 0
    address: str | None = None  # of a ledger in PostgreSQL

    @property
    def ledger(self) -> Path | str:
        return self.address or self._file

    @property
    def _file(self) -> Path:
        return self.folder / "state" / "rd-import" / "ledger.db"

    def note_kill(self) -> int:
        """Look at what the process that was just killed was sending; give the number of requests.

        The ledger is copied first: who opens it cleans up, and that is for the next process to do.
        """
        self.kills += 1
        held = self._held_in_postgres() if self.address else self._held_in_file()
        assert len(held) <= WORKERS
        self.in_flight |= {
            keys[at : at + 32].hex() for keys in held for at in range(0, len(keys), 32)
        }
        return len(held)

    def _held_in_file(self) -> list[bytes]:
        with self._copy() as copy:
            if copy is None:
                return []
            with closing(connect(copy)) as ledger:
                tables = {name for (name,) in ledger.execute("SELECT name FROM sqlite_master")}
                if "requests" not in tables:
                    return []
                sent = ledger.execute("SELECT event_keys FROM requests WHERE state = 'sent'")
                return [bytes(keys) for (keys,) in sent]

    def _held_in_postgres(self) -> list[bytes]:
        assert self.address is not None
        with psycopg.connect(self.address) as ledger:
            [(there,)] = ledger.execute("SELECT to_regclass('rd_import.requests')").fetchall()
            if there is None:
                return []
            sent = ledger.execute("SELECT event_keys FROM rd_import.requests WHERE state = 'sent'")
            return [bytes(keys) for (keys,) in sent]

    @contextmanager
    def _copy(self) -> Iterator[Path | None]:
        there = self.folder / "copy"
        there.mkdir()
        try:
            for name in ("ledger.db", "ledger.db-wal"):
                with suppress(FileNotFoundError):
                    shutil.copy(self._file.with_name(name), there / name)
            yield there / "ledger.db" if (there / "ledger.db").exists() else None
        finally:
            shutil.rmtree(there)

    def judge(self, rows: list[dict[str, Any]], stored: list[tuple[str, str]], orders: int) -> None:
        """Compare the last audit with the server: nothing twice, nothing lost, doubt only about what was in flight.

        Args:
            rows: The audit's lines.
            stored: Identifier and uuid of each event on the server.
            orders: In the file.
        """
        copies = Counter(identifier for identifier, _ in stored)
        assert [one for one, number in copies.items() if number > 1] == []
        assert [row["identifier"] for row in rows] == [str(number) for number in range(orders)]
        states = Counter(row["state"] for row in rows)
        assert set(states) <= {"accepted", "already_accepted", "unknown"}, states
        given = dict(stored)
        for row in rows:
            if row["state"] == "unknown":
                assert row["event_uuid"] is None
            else:
                assert given[row["identifier"]] == row["event_uuid"]
        unknown = {row["event_key"] for row in rows if row["state"] == "unknown"}
        assert unknown <= self.in_flight


# --- the forking process


class _Child:
    """A run as the forking process knows it."""

    def __init__(self, pid: int, from_child: int, to_child: int) -> None:
        self.pid = pid
        self.from_child = from_child
        self.to_child = to_child

    def close(self) -> None:
        os.close(self.from_child)
        os.close(self.to_child)


def serve() -> None:
    """Fork for each order until nobody gives any more; then end what still runs."""
    for name in HEAVY:
        importlib.import_module(name)
    children: dict[int, _Child] = {}
    _say(ready=True)
    # Unbuffered: what a buffer holds would be there twice after a fork.
    for line in iter(lambda: _read_line(0), b""):
        order = json.loads(line)
        match order["op"]:
            case "run":
                child = _fork(order, children)
                children[child.pid] = child
                _say(pid=child.pid)
            case "held":
                _say(held=os.read(children[order["pid"]].from_child, 1) == b"h")
            case "release":
                with suppress(BrokenPipeError):
                    os.write(children[order["pid"]].to_child, b"g")
                _say()
            case "look":
                # The end closes its side of the pipe; it stays a zombie until `wait`.
                watched = [children[order["pid"]].from_child]
                _say(ended=bool(select.select(watched, [], [], order["seconds"])[0]))
            case "wait":
                child = children.pop(order["pid"])
                _, status = os.waitpid(child.pid, 0)
                child.close()
                _say(code=os.waitstatus_to_exitcode(status))
            case strange:
                raise ValueError(strange)
    for child in children.values():
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line


def _say(**answer: object) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _fork(order: dict[str, Any], others: dict[int, _Child]) -> _Child:
    from_child, says = os.pipe()
    hears, to_child = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of any other thread; here these are the allocators' own, which know of forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(says)
        os.close(hears)
        return _Child(pid, from_child, to_child)
    try:
        for other in others.values():
            other.close()
        os.close(from_child)
        os.close(to_child)
        _live(order, says, hears)
    except BaseException:  # noqa: BLE001 -- a child must never go on as its parent
        sys.excepthook(*sys.exc_info())
    os._exit(99)


def _live(order: dict[str, Any], says: int, hears: int) -> None:
    """Be the command."""
    signal.alarm(LIFETIME_S)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(output, output + 1)
    os.close(nothing)
    os.chdir(order["cwd"])
    os.environ.update(order["env"])
    sys.argv = ["rd-import", *order["argv"]]
    with suppress(OSError, AttributeError):  # Linux: anybody may trace this process
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    if order["hold"] is not None:
        _hold(order["hold"], says, hears)
    from rd_import.cli import main

    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _hold(place: str, says: int, hears: int) -> None:
    """Stop here, or before a function is called for the first time, until told to go on."""

    def stop() -> None:
        os.write(says, b"h")
        os.read(hears, 1)

    if place == "start":
        stop()
        return
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name)

    def held(*words: object, **options: object) -> object:
        setattr(module, name, function)
        stop()
        return function(*words, **options)

    setattr(module, name, held)


if __name__ == "__main__":
    serve()
