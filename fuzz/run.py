"""Feed a part of rd-import mutated inputs, and stop at the first that breaks a promise about hostile input.

    python fuzz/run.py --target reader --seconds 3600 --corpus ../exports

Seeds are small inputs of our own, `fuzz/regressions/TARGET`, and what `--corpus` holds. An input that breaks a promise
is kept in `fuzz/findings`, as is the one under way, so that a crash of the whole process leaves it too. A finding that
is mended moves to `fuzz/regressions`, which the tests replay.
"""

import argparse
import contextlib
import faulthandler
import gzip
import hashlib
import io
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl import Workbook

from rd_import.audit_file import AUDIT_SCHEMA, keys_of_audit, read_audit
from rd_import.errors import RdImportError
from rd_import.job import Job
from rd_import.mapping_file import parse_mapping
from rd_import.outcome import PERSONAL, Accepted, Observation, Refused, judge
from rd_import.read import find_exports, read
from rd_import.report import write_report
from rd_import.sandbox import Sandbox
from rd_import.tables import memory_in_use

HERE: Final = Path(__file__).parent
MOST_SECONDS: Final = 60  # of one input, so that a hang is told from a slow machine
MOST_GROWTH: Final = 1 << 30  # bytes of memory that all inputs together may leave behind
LARGEST_SEED: Final = 1 << 17
TOKENS: Final = (
    b'"', b'""', b",", b";", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"sep=;\n", b"=1+1",
    b"'", b"\\", b'\\"', b"{", b"}", b"[", b"]", b":", b"null", b"1e999", b"NaN", b"-0", b"9" * 40, b"\\ud800", b"%40",
    b"a@b.c", b"@" * 50, b"\x1b[2J", b"\xc3\x28", b"\xe2\x80\xae", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"BZh",
    b"\x28\xb5\x2f\xfd", b"email", b"Total", b"01/02/2026", b"1.234,56", b"a" * 300, b",," * 100, b"(" * 100,
)  # fmt: skip


class Broken(Exception):  # noqa: N818 -- a promise that was broken
    """An input made a target do what it must never do."""


class Target(Protocol):
    """One part that takes bytes from strangers."""

    def __call__(self, data: bytes) -> None:
        """Take an input; raise unless it is read or refused as promised."""


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """Change a seed in one to eight places: bits, cuts, repeats, tokens, and pieces of another seed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((1, 2, 4, 16, 256))
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
            case 3:
                data[at:at] = chance.choice(TOKENS)
            case 4:
                other = chance.choice(seeds)
                start = chance.randrange(len(other) + 1)
                data[at : at + length] = other[start : start + length]
            case 5:
                data[at : at + 4] = chance.choice(
                    (0, 1, 0x7F, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
                ).to_bytes(4, "little")
            case _:
                del data[at:]
    return bytes(data)


# --- targets


def reader(data: bytes) -> None:
    """Any file is read or refused; each row read has its bytes, its number and as many cells as the header."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as spool:
        path = Path(folder) / "input.csv"
        path.write_bytes(data)
        with contextlib.suppress(RdImportError):
            exports = find_exports(Job(exports=(str(path),)), spool)
            for group in read(exports):
                rows = group.rows.table.height
                if (
                    not rows
                    == len(group.records)
                    == len(group.row_numbers)
                    == len(group.line_numbers)
                ):
                    raise Broken("rows and what is kept of them are not as many")


def mapping(data: bytes) -> None:
    """Any text is a mapping, or refused with its line."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(RdImportError):
        parse_mapping(text, "mapping.toml")


def answers(data: bytes) -> None:
    """Whatever a server answers, only as many uuids as events accept, and no address is kept."""
    chance = random.Random(data)
    status = chance.choice(
        (None, 200, 200, 302, 400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
    )
    events = chance.choice((1, 2, 3))
    given = {"retry-after": data[:20].decode("latin-1")} if chance.random() < 0.3 else {}
    receipt = judge(Observation(status, given, data, asked_bytes=len(data), failure=""), events)
    match receipt:
        case Accepted(event_uuids=uuids) if status != 200 or len(uuids) != events or not all(uuids):
            raise Broken(f"accepted with {len(uuids)} uuids of {events}")
        case Refused(errors=errors) if not all(0 <= place < events for place in errors):
            raise Broken("refused an event that was not sent")
    kept = repr(receipt)
    kept.encode()
    if not isinstance(receipt, Accepted) and re.search(
        r"[\w.]+@[\w.]+\.\w+", PERSONAL.sub("", kept)
    ):
        raise Broken("an address is kept")


def audit(data: bytes) -> None:
    """An audit that was damaged or forged is taken over, read and reported, or refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.audit.parquet"
        path.write_bytes(data)
        with contextlib.suppress(RdImportError):
            write_report(path)
        with contextlib.suppress(RdImportError):
            read_audit(path)
        with contextlib.suppress(RdImportError):
            _, known = keys_of_audit(path)
            for key, line in known:
                if len(key) != 32 or any(
                    len(fact.sha) != 32 for fact in (*line.accepted, *line.doubt)
                ):
                    raise Broken("a key or checksum that is none")


class SandboxTarget:
    """Whatever a client sends, the server answers the next one."""

    def __init__(self) -> None:
        self._server = Sandbox()
        self._server.__enter__()
        self._port = int(self._server.url.rsplit(":", 1)[1])

    def __call__(self, data: bytes) -> None:
        """Send bytes, then ask for something harmless."""
        first = self._asked(data)
        if b" 500 " in first.partition(b"\r\n")[0]:
            raise Broken("the server failed by itself")
        if not self._asked(
            b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        ).startswith(b"HTTP/1.1 200"):
            raise Broken("the server does not answer any more")

    def _asked(self, data: bytes) -> bytes:
        parts = []
        client = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        with client, contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "reader": lambda: reader,
    "mapping": lambda: mapping,
    "answers": lambda: answers,
    "audit": lambda: audit,
    "sandbox": SandboxTarget,
}


# --- seeds


def own_seeds(target: str) -> Iterator[bytes]:
    """Give small inputs of each shape that a target knows, and those that broke it once."""
    yield from (one.read_bytes() for one in sorted((HERE / "regressions" / target).glob("*")))
    csv = b'email,identifier,price\nana@example.com,1,10.00\n"z,oe"@example.com,2,"1.234,56"\n\nTotal,,3\n'
    match target:
        case "reader":
            yield from (
                csv,
                csv.replace(b",", b";"),
                csv.decode().encode("utf-16"),
                gzip.compress(csv),
            )
            yield b'{"email":"a@b.c","items":[{"sku":"1"}]}\n{"email":null,"x":{"y":[1,2]}}\n'
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a.csv", csv)
            yield packed.getvalue()
            book, packed = Workbook(write_only=True), io.BytesIO()
            sheet = book.create_sheet()
            for row in (
                ("email", "price", "at"),
                ("a@b.c", 1.5, date(2026, 3, 1)),
                ("ç", None, True),
            ):
                sheet.append(row)
            book.save(packed)
            yield packed.getvalue()
            table = pa.table(
                {
                    "email": ["a@b.c", None],
                    "items": [[{"sku": "1"}], []],
                    "at": [datetime.now(UTC)] * 2,
                }
            )
            yield _parquet(table)
        case "mapping":
            for path in sorted(
                (HERE.parent / "pipeline" / "rd_import" / "platforms").glob("*.toml")
            ):
                yield path.read_bytes()
            yield b'type = "CONVERSION"\n[fields]\nemail = { first_of = ["a", "b"] }\n[[filter]]\nname = "x"\n'
        case "answers":
            folder = HERE.parent / "tests" / "api_examples"
            yield from (path.read_bytes() for path in sorted(folder.glob("*.json")))
            yield json.dumps({"events": [{"event_uuid": "u"}], "event_batch_uuid": "b"}).encode()
            yield json.dumps(
                {"errors": [{"error_type": "X", "error_message": "a@b.co", "path": "$[0]"}]}
            ).encode()
            yield json.dumps({"error": "lead_limiter", "max": 24, "remaining_time": 5}).encode()
        case "audit":
            key, sha = "ab" * 32, "cd" * 32
            row = {"state": "accepted", "event_key": key, "payload_sha256": sha, "event_uuid": "u",
                   "source_file": "a.csv", "row_number": 1, "line_number": 2, "run_id": "r"}  # fmt: skip
            table = pa.Table.from_pylist(
                [row, {**row, "event_uuid": None, "state": "unknown"}], AUDIT_SCHEMA
            )
            export = {"path": "a.csv", "file_format": "csv", "rows": 2}
            run = {"run_id": "r", "event_type": "CONVERSION", "exports": [export]}
            run |= {"started_at": datetime.now(UTC).isoformat(), "rows": 2, "events": 2}
            facts = {"rd_import.scope": "loopback default", "rd_import.run": json.dumps(run)}
            yield _parquet(table.replace_schema_metadata(facts))
        case "sandbox":
            body = (
                b'[{"event_type":"CONVERSION","event_family":"CDP","payload":{"email":"a@b.co"}}]'
            )
            for path in (
                b"/platform/events/batch",
                b"/platform/events",
                b"/auth/token",
                b"/platform/conversions?api_key=x",
            ):
                head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % path
                yield head + b"Authorization: Bearer x\r\nContent-Length: %d\r\n\r\n%b" % (
                    len(body),
                    body,
                )
                yield head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[{}]\n\r\n0\r\n\r\n"
            yield b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def corpus_seeds(folder: Path) -> Iterator[bytes]:
    """Give the beginnings of a folder's files; a Parquet file or archive only as a whole."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            data = file.read(LARGEST_SEED + 1)
        if len(data) <= LARGEST_SEED:
            yield data
        elif not data.startswith((b"PAR1", b"PK", b"\x1f\x8b")):
            yield data[: LARGEST_SEED // 8]


# --- the loop


def fuzz(
    target: str,
    *,
    seed: int,
    seconds: float = float("inf"),
    inputs: int = sys.maxsize,
    corpus: Path | None = None,
) -> int:
    """Run until time or inputs are used up; give how many inputs were tried.

    Raises:
        Broken: An input broke a promise; it stands in `fuzz/findings`.
    """
    chance = random.Random(seed)
    seeds = list(own_seeds(target))
    if corpus is not None:
        seeds += corpus_seeds(corpus)
    run = TARGETS[target]()
    for data in seeds:
        attempt(run, target, data)
    before, end, tried = memory_in_use(), time.monotonic() + seconds, 0
    while tried < inputs and time.monotonic() < end:
        data = mutated(seeds, chance)
        attempt(run, target, data)
        tried += 1
        if memory_in_use() - before > MOST_GROWTH:
            keep(target, data)
            raise Broken(
                f"{target}: memory grew by more than {MOST_GROWTH >> 20} MB over {tried} inputs"
            )
    return tried


def attempt(run: Target, target: str, data: bytes) -> None:
    """Try one input; whatever it breaks, it is kept."""
    under_way = keep(target, data, "under-way")
    try:
        with limited(MOST_SECONDS):
            run(data)
    except BaseException as error:
        kept = keep(target, data)
        raise Broken(f"{target}: {kept}: {''.join(traceback.format_exception(error))}") from error
    under_way.unlink()


def keep(target: str, data: bytes, name: str | None = None) -> Path:
    """Write an input down."""
    folder = HERE / "findings" / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{name}-{os.getpid()}" if name else hashlib.sha256(data).hexdigest()[:16])
    path.write_bytes(data)
    return path


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """End what hangs: with an exception where Python still runs, else with the place in which it hangs."""

    def late(_: int, __: FrameType | None) -> None:
        raise Broken(f"no end after {seconds} s")

    faulthandler.dump_traceback_later(4 * seconds, exit=True)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Fuzz one target for a while, and say how it ended."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--target", choices=TARGETS, required=True)
    words.add_argument("--seconds", type=float, default=60)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--corpus", type=Path)
    given = words.parse_args()
    try:
        tried = fuzz(given.target, seed=given.seed, seconds=given.seconds, corpus=given.corpus)
    except Broken as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    print(
        f"{given.target}: {tried} inputs in {given.seconds:g} s, seed {given.seed}: none broke a promise"
    )


if __name__ == "__main__":
    main()
