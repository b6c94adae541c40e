"""Write docs/gallery.md: the screen of each documented failure, by running it; `make gallery` does.

Each screen is what the command printed, from its closing counts or its error on. Run ids and ports, which differ from
run to run, are written RUN and PORT; the pauses between attempts are cut short.
"""

import contextlib
import gzip
import io
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from rd_import.cli import main
from rd_import.sandbox import Behaviour, Fault, Sandbox

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_data"
PAGE = ROOT / "docs" / "gallery.md"
FLAWED_LINES = (4, 10)
"""Of orders.csv, counted from 0; they are no part of what the server answers."""
ORDERS = ("orders.csv", "--type", "ECOMMERCE_ORDER_PLACED")
TO = ("--audit", "out.audit.parquet")

TOP = (
    "# Gallery of failures\n\n"
    "What a person sees when something goes wrong: what happened, where, why, and what to do "
    "next. `make gallery` writes this page by running each case, against the practice server "
    "(with `orders.csv` of sample_data less its two flawed rows) or on a file of "
    "[sample_data/flaws](../sample_data/README.md), and a test compares it. `RUN` stands for "
    "a run's id. Limits that only a huge file meets (more memory, rows or different texts than a workbook may have, "
    "a hundred thousand rows of which hardly one can be read) are left out. The same screens exist in "
    "Brazilian Portuguese: `--lang pt-BR`.\n"
)


@dataclass(frozen=True)
class Case:
    """One failure: how the server behaves, and the command; `{token}` and the like are filled in."""

    title: str
    words: tuple[str, ...] = (*ORDERS, *TO)
    behaviour: Behaviour = field(default_factory=Behaviour)
    env: tuple[tuple[str, str], ...] = ()
    why: str = ""
    makes: Callable[[Path], object] | None = None  # the file, where no sample is it


CONTACTS = tuple(
    line.split(",")[1] for line in (SAMPLES / "orders.csv").read_text("utf-8").splitlines()[1:]
)


def _holds(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def _zip(name: str, members: dict[str, str], *, locked: bool = False) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w") as file:
            for member, text in members.items():
                file.writestr(zipfile.ZipInfo(member), text)
        if locked:  # the mark of a password, in both of the places that a member has
            data = bytearray((folder / name).read_bytes())
            data[6] |= 1
            data[data.index(b"PK\x01\x02") + 8] |= 1
            (folder / name).write_bytes(data)

    return make


def _read(title: str, name: str, made: str | bytes | Callable[[Path], object], *more: str) -> Case:
    makes = made if callable(made) else _holds(name, made)
    return Case(title, (name, *ORDERS[1:], *more, *TO), makes=makes)


HEADER = "identifier,email,currency,price,total_items\n"
ROW = "{n},cliente{n}@example.com,BRL,189.90,1\n"
GOOD = HEADER + "".join(ROW.format(n=n) for n in range(1, 4))
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def _struck(kind: str, **how: object) -> Behaviour:
    return Behaviour(faults=(Fault(kind, at=(1,), **how),))  # type: ignore[arg-type]


ANSWERS = (
    Case(
        "The answer never came",
        behaviour=_struck("drop-after"),
        why="The connection closed after the body had left.",
    ),
    Case(
        "The answer took too long", (*ORDERS, *TO, "--timeout", "0.3"), _struck("slow", seconds=2)
    ),
    Case("500: the server failed", behaviour=_struck("status", status=500)),
    Case("502: a page of the gateway", behaviour=_struck("status", status=502, html=True)),
    Case("504: the gateway gave up", behaviour=_struck("status", status=504, html=True)),
    Case("200 that breaks off", behaviour=_struck("truncate")),
    Case("200 with one id too few", behaviour=_struck("wrong-count")),
    Case("200 with a page instead of ids", behaviour=_struck("not-json")),
    Case(
        "400 that names the bad event",
        behaviour=Behaviour(refused_contacts=("ana.ribeiro@example.com",)),
        why="The others go in the next request.",
    ),
    Case(
        "400 that does not name it",
        behaviour=Behaviour(refused_contacts=("ana.ribeiro@example.com",), bad_event="no-index"),
        why="The batch is halved until the bad event stands alone.",
    ),
    Case("401: a token that RD Station does not know", env=(("RD_IMPORT_TOKEN", "wrong"),)),
    Case("403: the plan does not include it", behaviour=_struck("status", status=403)),
    Case("404: not RD Station's address", behaviour=_struck("status", status=404, html=True)),
    Case(
        "415: the request itself is not taken", behaviour=_struck("status", status=415, html=True)
    ),
    Case("A redirect, which is not followed", behaviour=_struck("redirect")),
    Case(
        "422 for the bad event",
        behaviour=Behaviour(refused_contacts=("ana.ribeiro@example.com",), bad_event_status=422),
        why="As 400: the others go in the next request.",
    ),
    Case(
        "404: no such contact",
        ("sales.csv", "--type", "SALE", *TO),
        Behaviour(unknown_contact="not-found"),
        why="The batch is halved until each event that is not found stands alone.",
    ),
    Case(
        "Event after event is refused",
        (*ORDERS, *TO, "--max-refused", "2"),
        Behaviour(refused_contacts=CONTACTS),
        why="Something about all of them is wrong, so the run stops before it asks for each.",
    ),
    Case("The connection is reset", behaviour=_struck("reset-early")),
    Case("408: the server waited too long", behaviour=_struck("status", status=408)),
    Case("503 without a time to wait", behaviour=_struck("status", status=503, html=True)),
    Case(
        "No answer, three times in a row",
        (*ORDERS, *TO, "--max-body", "1000"),
        Behaviour(faults=(Fault("drop-after", from_request=1),)),
        why="The run stops, so that an outage leaves few rows in doubt.",
    ),
    Case(
        "413: the body is too long",
        behaviour=Behaviour(max_body_bytes=2000),
        why="Bodies are halved and the limit is remembered; everything goes.",
    ),
    Case(
        "429: a contact has had its share",
        ("repeated.csv", *ORDERS[1:], *TO),
        Behaviour(contact_limit=2),
    ),
    Case(
        "429: the account's quota is used up",
        behaviour=_struck("status", status=429, retry_after=1),
        why="Sending pauses for as long as told, and goes on; everything goes.",
    ),
    Case(
        "503 with a time to wait",
        behaviour=_struck("status", status=503, retry_after=1),
        why="Proven not accepted, so it goes again; everything goes.",
    ),
)
CONNECTION = (
    Case(
        "Nobody listens at the address",
        env=(("RD_IMPORT_BASE_URL", "http://127.0.0.1:1"),),
        why="Nothing left this machine, so nothing is in doubt.",
    ),
    Case(
        "The name is not known",
        (*ORDERS, *TO, "--ledger", "ledger.db", "--plan", "advanced", "--yes"),
        env=(("RD_IMPORT_BASE_URL", "https://rd.invalid"),),
    ),
    Case(
        "The certificate is not to be trusted",
        env=(("RD_IMPORT_BASE_URL", "https://localhost:{tls}"),),
        why="Somebody may be between this machine and RD Station; the token does not leave.",
    ),
    Case(
        "The proxy does not let it through",
        (*ORDERS, *TO, "--ledger", "ledger.db", "--plan", "advanced", "--yes"),
        env=(
            ("RD_IMPORT_BASE_URL", "https://rd.invalid"),
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ),
    ),
)
READING = (
    _read("A web page with the name of a workbook", "orders.xls", "<html><body>Sign in</body>"),
    _read(
        "Each row in one cell",
        "orders.csv",
        '"identifier,email,price"\n"LV-1,ana.ribeiro@example.com,189.90"\n',
    ),
    _read("A PDF", "orders.csv", b"%PDF-1.7\n" + bytes(64)),
    _read("An old Excel workbook", "orders.xls", OLD_OFFICE + bytes(600)),
    _read(
        "A workbook with a password",
        "orders.xlsx",
        OLD_OFFICE + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
    ),
    _read("A damaged workbook", "orders.xlsx", b"PK\x03\x04" + bytes(60)),
    _read(
        "A compressed file that was cut off",
        "orders.csv.gz",
        gzip.compress(GOOD.encode() * 9, mtime=0)[:40],
    ),
    _read(
        "An archive with a password",
        "orders.zip",
        _zip("orders.zip", {"orders.csv": GOOD}, locked=True),
    ),
    _read(
        "An archive without a file to import",
        "orders.zip",
        _zip("orders.zip", {"readme.md": "no data", "logo.svg": "<svg/>"}),
    ),
    _read(
        "A file that unpacks to far too much",
        "orders.csv.gz",
        gzip.compress(HEADER.encode() + (b"x" * (1 << 20) + b"\n") * 70, 1, mtime=0),
    ),
    _read(
        "A folder without a file to import", "exports", lambda folder: (folder / "exports").mkdir()
    ),
    _read("No line of names", "orders.jsonl", "{}\n"),
    _read("A header that never ends", "orders.csv", "a" * 70_000),
    _read("Far too many columns", "orders.csv", ",".join(f"c{n}" for n in range(10_001)) + "\n"),
    _read(
        "Not the encoding that was named",
        "orders.csv",
        GOOD.encode() + b"4,caf\xe9@example.com,BRL,1,1\n",
        "--encoding",
        "utf-8",
    ),
    _read(
        "A whole file of another encoding",
        "orders.csv",
        GOOD.encode() + b"4,caf\xe9@example.com,BRL,1,1\n",
        "--encoding",
        "utf-8-sig",
    ),
    _read("An encoding that does not exist", "orders.csv", GOOD, "--encoding", "klingon"),
    _read("A delimiter of two characters", "orders.csv", GOOD, "--delimiter", ";;"),
    _read(
        "Two delimiters that fit alike",
        "orders.csv",
        "id,mail;total\n1,a@example.com;5\n2,b@example.com;6\n",
    ),
    _read(
        "A line that is no JSON",
        "orders.jsonl",
        '{"identifier": "1", "email": "a@example.com", "currency": "BRL", "price": 5, "total_items": 1}\n'
        '{"identifier": \n',
    ),
    _read("A NUL byte in a row", "orders.csv", GOOD + "4,d\x00@example.com,BRL,1,1\n"),
    _read(
        "The header once more, and totals",
        "orders.csv",
        GOOD + HEADER + ROW.format(n=4) + "Total,,,759.60,4\n",
    ),
    _read(
        "What a spreadsheet destroyed",
        "orders.csv",
        "identifier,email,currency,price,total_items,mobile_phone\n5.52E+12,a@example.com,BRL,5,1,\n2,b@example.com,BRL,5,1,5.51E+12\n",
    ),
    _read(
        "A date that is none",
        "orders.csv",
        "identifier,email,currency,price,total_items,event_timestamp\n1,a@example.com,BRL,5,1,yesterday\n",
    ),
    _read(
        "An order that cannot be read whole",
        "orders.csv",
        'identifier,email,currency,price,total_items,line_items.title\n1,a@example.com,BRL,5,2,Camisa\n1,"b"c,BRL,5,2,Meia\n2,b@example.com,BRL,5,1,Meia\n',
    ),
    _read(
        "Amounts that can be read in two ways",
        "orders.csv",
        HEADER + "1,a@example.com,BRL,1.234,1\n2,b@example.com,BRL,5.678,1\n",
    ),
    _read(
        "Dates that can be read in two ways",
        "orders.csv",
        "identifier,email,currency,price,total_items,event_timestamp\n1,a@example.com,BRL,5,1,01/02/2026\n",
    ),
)
COMMANDS = (
    Case("No file of that name", ("none.csv", *ORDERS[1:])),
    Case("An event type that does not exist", ("orders.csv", "--type", "ORDERS")),
    Case("A mistyped option", ("orders.csv", "--tpye", "SALE")),
    Case("A report of what is no audit", ("report", "orders.csv")),
    Case("Nothing to go on with", ("resume",)),
    Case("A run that nobody knows", ("resolve", "2026-01-01-aaaaaa")),
)


def flaws() -> Iterator[Case]:
    """Give a case for each flawed sample, as sample_data/README.md lists them."""
    for line in (SAMPLES / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[2].isdigit() and cells[0].startswith("flaws/"):
            yield Case(cells[0].removeprefix("flaws/"), (cells[0], "--type", cells[1], *TO))


@contextlib.contextmanager
def untrusted() -> Iterator[int]:
    """Listen with a certificate that nobody vouches for; give the port."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        key, certificate = Path(name, "key.pem"), Path(name, "certificate.pem")
        subprocess.run(  # noqa: S603 -- nothing of it comes from outside
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",  # noqa: S607
             "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
            capture_output=True, check=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def greet() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def screen_of(case: Case) -> tuple[int, str]:
    """Run a case in a folder and a state of its own; give its exit code and what it printed."""
    shown = io.StringIO()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(Sandbox(behaviour=case.behaviour))
        needs_tls = any("{tls}" in value for _, value in case.env)
        tls = stack.enter_context(untrusted()) if needs_tls else None
        folder = Path(name)
        shutil.copytree(SAMPLES, folder / "work")
        lines = (SAMPLES / "orders.csv").read_text("utf-8").splitlines()
        clean = [line for at, line in enumerate(lines) if at not in FLAWED_LINES]
        (folder / "work" / "orders.csv").write_text("\n".join(clean) + "\n", "utf-8")
        repeated = [lines[0], *(lines[1].replace("LV-20871", f"LV-{n}") for n in range(5))]
        (folder / "work" / "repeated.csv").write_text("\n".join(repeated) + "\n", "utf-8")
        if case.makes is not None:
            case.makes(folder / "work")
        env = {
            "RD_IMPORT_BASE_URL": server.url,
            "RD_IMPORT_TOKEN": server.token,
            "XDG_STATE_HOME": str(folder / "state"),
            "LC_ALL": "C.UTF-8",
            **{name: value.format(tls=tls) for name, value in case.env},
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RD_IMPORT_")}
        try:
            os.chdir(folder / "work")
            with (
                mock.patch.dict(os.environ, {**kept, **env}, clear=True),
                mock.patch.object(sys, "argv", ["rd-import", *case.words]),
                mock.patch.object(sys, "stdin", io.StringIO()),
                mock.patch("rd_import.send._backoff", return_value=0.01),
                contextlib.redirect_stdout(shown),
                contextlib.redirect_stderr(shown),
            ):
                main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os.chdir(before)
        text = shown.getvalue().replace(str(folder), "…")
    return code, _same_every_time(text)


def _same_every_time(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d-[a-z0-9]{6}\b", "RUN", text)
    text = re.sub(r"\(\d{6} bytes\)", "(BYTES bytes)", text)  # as the machine's zlib packs
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT", text)
    text = re.sub(r"ledger `?\S*/state/", "ledger `…/", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def cut(text: str) -> str:
    """Leave out what is no part of the failure: the new ledger, and the preview but for its causes."""
    parts = []
    causes = re.search(
        r"^(Why rows will not go|Left out of events that go)\n(  .*\n)+", text, re.MULTILINE
    )
    if causes:
        parts.append(causes.group(0).rstrip())
    closing = re.search(r"^ +[\d,]+ [a-z_]+ {2,}.*\Z", text, re.MULTILINE | re.DOTALL)
    said = re.findall(r"^rd-import: .*\Z", text, re.MULTILINE | re.DOTALL)
    asked = re.findall(
        r"^(?:.*(?:; nothing was sent\.|nothing to send\.))\n(?:hint: .*\n)?(?:this is a practice.*\n)?",
        text,
        re.MULTILINE,
    )
    parts += [one.rstrip() for one in asked if one.rstrip() not in "".join(said)]
    if closing:
        parts.append(closing.group(0).rstrip())
    elif said:
        parts.append(said[-1].rstrip())
    return "\n\n".join(parts)


def written() -> str:
    """Give the page."""
    parts = [TOP]
    for title, cases in (
        ("What RD Station may answer, or not", ANSWERS),
        ("When there is no connection", CONNECTION),
        ("What a file may be", READING),
        ("What a row may hold", tuple(flaws())),
        ("What a command may lack", COMMANDS),
    ):
        parts.append(f"## {title}\n")
        for case in cases:
            code, text = screen_of(case)
            why = f"{case.why} " if case.why else ""
            parts.append(f"### {case.title}\n")
            command = shlex.join(["rd-import", *case.words])
            parts.append(f"{why}`{command}` ends with exit code {code}:\n")
            parts.append(f"```text\n{cut(text)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
