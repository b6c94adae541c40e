"""Run rd-import and what else people use side by side, and write the table and the chart.

    python bench/run.py                        # all cases but 10m: docs/performance.md is written
    python bench/run.py --cases orders-100k check-1m --rounds 5 --results /tmp/one.json
    python bench/run.py --cases 10m --rounds 1 # half an hour and 15 GB

Contenders take turns, round after round, so that a machine that is busy slows all of them alike:
only the ratios mean anything. Seconds are wall time of the whole process, CPU seconds those of its
process tree; peak memory is the tree's resident set, sampled, and never below the highest mark of
one process. What the cases print (requests, bytes, events) is compared before a time counts.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orders

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
RD_IMPORT = ("-c", "from rd_import.cli import main; main()")
RENAMES = tuple(
    word for name, column in orders.FIELDS.items() for word in ("--rename", f"{name}={column}")
)
TYPE = ("--type", "ECOMMERCE_ORDER_PLACED", *RENAMES, "--past", "send", "--json")
NEEDS = {"dlt": "dlt", "singer-sdk": "singer_sdk", "csv + orjson": "orjson"}


@dataclass(frozen=True)
class Case:
    """One comparison: a file, and who takes it. `contenders` beside rd-import, the first is the measure."""

    name: str
    what: str
    rows: int
    shape: str = "rows"
    contenders: tuple[str, ...] = ("itertuples",)
    sends: bool = False
    suffix: str = ".csv"
    latency_ms: float = 0
    rate: int | None = None
    again: bool = False  # all was sent before
    way: tuple[str, ...] = ()  # words for the scripts
    by_default: bool = True


MILLION = 1_000_000
SENDERS = ("naive", "csv + orjson", "dlt", "singer-sdk")
CASES = {
    case.name: case
    for case in (
        Case("orders-100k", "send 100k orders, a row each", 100_000, contenders=SENDERS, sends=True),
        Case("check-100k", "check 100k orders, a row each", 100_000),
        Case("check-1m", "check 1M orders, a row each", MILLION,
             contenders=("itertuples", "csv + orjson")),
        Case("items-1m", "check 1M item rows, three an order", MILLION, "items", way=("grouped",)),
        Case("shuffled-1m", "check 1M item rows, shuffled", MILLION, "shuffled", way=("grouped",)),
        Case("wide-1m", "check 1M rows with 40 more columns", MILLION, "wide"),
        Case("carts-1m", "check 1M item rows, 20 an order", MILLION, "carts", way=("grouped",)),
        Case("parquet-1m", "check 1M orders in Parquet", MILLION, suffix=".parquet"),
        Case("invalid-1m", "check 1M rows, a fifth invalid", MILLION, "invalid", way=("flawed",)),
        Case("rerun-1m", "import 1M orders that were all sent before", MILLION, sends=True,
             again=True, contenders=("check",)),
        Case("latency-100k", "send 100k orders, 100 ms an answer", 100_000, sends=True,
             latency_ms=100, contenders=("naive",)),
        Case("paced-20k", "send 20k orders at 100 requests a minute", 20_000, sends=True, rate=100,
             contenders=()),
        Case("10m", "check 10M orders, a row each", 10 * MILLION, by_default=False),
        Case("10m-shuffled", "check 10M item rows, shuffled", 10 * MILLION, "shuffled",
             way=("grouped",), by_default=False, contenders=()),
        Case("10m-invalid", "check 10M rows, a fifth invalid", 10 * MILLION, "invalid",
             by_default=False, contenders=()),
    )
}  # fmt: skip


@dataclass
class Figures:
    """What one contender took in one case: an entry per round."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    requests: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Bench:
    """Where a bench works: `python` has rd-import and, to be measured too, what it is compared with."""

    folder: Path
    python: Path
    port: int = 8765

    def export(self, case: Case) -> Path:
        """Give the case's file, made once."""
        path = self.folder / f"{case.shape}-{case.rows}{case.suffix}"
        if not path.exists():
            orders.write(path, case.shape, case.rows)
        return path

    def url(self, path: str) -> str:
        """Give an address of the sink."""
        return f"http://127.0.0.1:{self.port}{path}"

    def command(self, case: Case, contender: str, work: Path) -> list[str]:
        """Give the words that start a contender; `work` is a folder of its own."""
        export, batch = str(self.export(case)), self.url("/platform/events/batch")
        python = str(self.python)
        ours = [python, *RD_IMPORT]
        commands: dict[str, list[str]] = {
            "check": [*ours, "check", export, *TYPE, "--run-dir", str(work)],
            "itertuples": [python, str(PEERS / "itertuples.py"), export, *case.way],
            "naive": [python, str(PEERS / "naive.py"), export, batch, str(work / "a.parquet")],
            "csv + orjson": [python, str(PEERS / "csv_orjson.py"), export, *case.way]
            + ([batch] if case.sends else []),
            "dlt": [python, str(PEERS / "dlt_destination.py"), export, batch, str(work)],
            "singer-sdk": [python, str(PEERS / "singer_sink.py"), export, batch],
        }
        if contender != "rd-import":
            return commands[contender]
        if not case.sends:
            return commands["check"]
        ledger = self.folder / "ledger.db" if case.again else work / "ledger.db"
        return (
            [*ours, "import", export, *TYPE, "--run-dir", str(work), "--yes"]
            + ["--base-url", self.url(""), "--ledger", str(ledger)]
            + ["--audit", str(work / "audit.parquet")]
            + (["--rate", str(case.rate)] if case.rate else [])
        )


def run(words: Sequence[str], output: Path) -> tuple[float, float, float]:
    """Run a command to its end; gives wall seconds, CPU seconds and peak MB of its process tree.

    Raises:
        RuntimeError: It failed.
    """
    env = os.environ | {"RD_IMPORT_TOKEN": "bench"}
    with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=out, stderr=err, env=env)
        watch = _Watch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 3}:
        raise RuntimeError(f"{words}: {output.with_suffix('.err').read_text()[-2000:]}")
    return took, usage.ru_utime + usage.ru_stime, max(watch.peak_mb, usage.ru_maxrss / 1024)


class _Watch(threading.Thread):
    """Samples what a process and those it starts hold in memory together (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            pages = 0
            for pid in self._tree(self._pid):
                try:
                    pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue
            self.peak_mb = max(self.peak_mb, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def _tree(self, pid: int) -> Iterator[int]:
        yield pid
        try:
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        for child in below:
            yield from self._tree(int(child))


@contextmanager
def sink(bench: Bench, latency_ms: float) -> Iterator[None]:
    """Have a sink listen."""
    words = [sys.executable, str(HERE / "sink.py"), "--port", str(bench.port)]
    process = subprocess.Popen([*words, "--latency-ms", str(latency_ms)])
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(bench.url("/stats")).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def ask(bench: Bench, path: str, *, post: bool = False) -> dict[str, int]:
    """Ask the sink."""
    request = urllib.request.Request(bench.url(path), data=b"" if post else None)
    with urllib.request.urlopen(request) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def measure(bench: Bench, case: Case, rounds: int) -> dict[str, Figures]:
    """Let the contenders of a case take turns."""
    names = ["rd-import", *(name for name in case.contenders if available(bench, name))]
    figures = {name: Figures() for name in names}
    with sink(bench, case.latency_ms):
        if case.again:
            _round(bench, case, "rd-import", Figures(), expected=case.rows)
        for number in range(rounds):
            for name in names:
                expected = 0 if case.again else case.rows
                _round(bench, case, name, figures[name], expected=expected)
                last = figures[name].seconds[-1]
                print(f"{case.name} {number + 1}/{rounds} {name}: {last:.2f} s", file=sys.stderr)
    _compare(case, figures)
    return figures


def _round(bench: Bench, case: Case, name: str, figures: Figures, *, expected: int) -> None:
    work = bench.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    if case.sends:
        ask(bench, "/clear", post=True)
    took, cpu, peak = run(bench.command(case, name, work), bench.folder / "out.json")
    figures.seconds.append(took)
    figures.cpu_s.append(cpu)
    figures.peak_mb.append(peak)
    if case.sends and name != "check":
        seen = ask(bench, "/stats")
        figures.requests, figures.bytes = seen.get("requests", 0), seen.get("bytes", 0)
        if seen["unique"] != expected:
            raise RuntimeError(f"{case.name}: {name} sent {seen} of {case.rows}")
    else:
        said = json.loads((bench.folder / "out.json").read_text())
        said = said.get("preview", said)
        figures.requests, figures.bytes = said["requests"], said["bytes"]


def _compare(case: Case, figures: dict[str, Figures]) -> None:
    """Make sure that the contenders of `check` made the same events: as many bytes, but for numbers.

    A script writes 189.9 and 190.0; rd-import writes the shortest digits too, so sizes agree to 0.1 %.
    """
    ours = figures["rd-import"].bytes or 0
    for name, one in figures.items():
        alike = name in {"itertuples", "csv + orjson"}
        if alike and abs((one.bytes or 0) - ours) > ours / 1000:
            raise RuntimeError(f"{case.name}: {name} made {one.bytes} bytes, rd-import {ours}")


def available(bench: Bench, name: str) -> bool:
    """Tell whether a contender is installed."""
    module = NEEDS.get(name, "pandas")
    found = subprocess.run(
        [str(bench.python), "-c", f"import {module}"], capture_output=True, check=False
    )
    return name == "check" or found.returncode == 0


def machine() -> str:
    """Describe the machine in a few words."""
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Measure what is asked for, and write the page."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--cases", nargs="*", choices=CASES, metavar="CASE", help=", ".join(CASES))
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--rows", type=int, help="another number of rows: to try the bench itself")
    words.add_argument("--python", type=Path, default=Path(sys.executable))
    words.add_argument("--folder", type=Path, help="for the files; default: a temporary one")
    words.add_argument("--port", type=int, default=8765)
    words.add_argument("--results", type=Path, default=HERE / "results.json")
    asked = words.parse_args()
    known = json.loads(asked.results.read_text()) if asked.results.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        bench = Bench(folder, asked.python, asked.port)
        for name in asked.cases or [one.name for one in CASES.values() if one.by_default]:
            case = CASES[name]
            if asked.rows:
                case = Case(**(asdict(case) | {"rows": asked.rows}))
            (folder / "ledger.db").unlink(missing_ok=True)
            figures = measure(bench, case, asked.rounds)
            known[name] = {
                "what": case.what,
                "rows": case.rows,
                "rate": case.rate,
                "machine": machine(),
                "figures": {one: asdict(found) for one, found in figures.items()},
            }
            asked.results.write_text(json.dumps(known, indent=1) + "\n")
    for name, entry in known.items():
        median = {one: statistics.median(f["seconds"]) for one, f in entry["figures"].items()}
        print(name, {one: round(seconds, 2) for one, seconds in median.items()})


if __name__ == "__main__":
    main()
