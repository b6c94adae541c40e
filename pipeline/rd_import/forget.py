"""A person erased from what this machine keeps of them, and what it cannot reach."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rd_import.audit_file import NO_AUDIT, forget_in_audit, open_audit_path
from rd_import.errors import JobError, LedgerError, RdImportError
from rd_import.ledger import Ledger
from rd_import.nesting import read_json
from rd_import.places import make_durable, new_file, put_in_place, temporary_of
from rd_import.rejected import rejected_files_of
from rd_import.report import report_path, write_report
from rd_import.run_folder import RunFolder, state_folder

MOST_LINES = 50  # of one record; a quote that was opened and never closed must not take the rest of the file along


@dataclass(slots=True)
class Forgotten:
    """What was erased, and what still may hold the person.

    Args:
        ledger_lines: Lines of the ledger that named them.
        erased: File or folder → rows that were theirs.
        unreachable: Why and where something may be left: part of a key of the screens, and a place.
    """

    ledger_lines: int = 0
    erased: dict[str, int] = field(default_factory=dict)
    unreachable: list[tuple[str, str]] = field(default_factory=list)


def forget(ledger: Ledger, email: str, *, now: datetime) -> Forgotten:
    """Erase a person from the ledger and from the run folders, audits and rejected files that it knows of.

    Their keyed hash stays in the ledger alone, so that no import sends them anything again.

    Raises:
        JobError: This is no e-mail, or a run is sending at this moment.
        LedgerError: The ledger cannot be written.
    """
    mail = email.strip().lower()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", mail):
        raise JobError("no_email", value=email)
    runs = ledger.runs()
    for run in runs:
        if ledger.is_running(run["run"]):
            raise JobError("forget_while_running", run=run["run"])
    contact = ledger.contact_of(mail)
    done = Forgotten(ledger.forget(contact, mail, now=now))
    exports: dict[str, None] = {}
    known = {Path(run["folder"]) for run in runs if run["folder"]}
    kept = state_folder() / "runs"
    known |= {one for one in kept.iterdir() if one.is_dir()} if kept.is_dir() else set()
    for path in sorted(known):
        exports |= dict.fromkeys(_in_folder(path, ledger, mail, contact, done))
    for audit in sorted({str(run["audit_path"]) for run in runs}):
        if "://" in audit:
            done.unreachable.append(("audit_remote", audit))
        else:
            _in_audit(Path(audit), ledger, mail, contact, done)
    done.unreachable += [("export", one) for one in exports if Path(one).exists()]
    done.unreachable.append(("rd_station", ""))
    return done


def _in_folder(
    path: Path, ledger: Ledger, mail: str, contact: bytes, done: Forgotten
) -> Iterator[str]:
    """Erase the person from a run folder; give the exports that it read."""
    try:
        folder = RunFolder.open(path)
        if folder.has_bodies:
            folder.keep_contacts(ledger.secret)
        rows = folder.forget_person(mail, contact)
    except (LedgerError, OSError, pa.ArrowException):
        if path.exists() or path.parent != state_folder() / "runs":
            done.unreachable.append(("run_folder", str(path)))
        return
    if rows:
        done.erased[str(path)] = rows
    yield from (str(one["path"]) for one in folder.facts["exports"])


def _in_audit(path: Path, ledger: Ledger, mail: str, contact: bytes, done: Forgotten) -> None:
    if not path.exists():
        if not open_audit_path(path).exists():
            done.unreachable.append(("audit_gone", str(path)))
        return
    try:
        facts = pq.read_metadata(path).metadata or {}
        mine = facts.get(b"rd_import.ledger_id", b"").decode() in {"", ledger.ledger_id}
        rows = forget_in_audit(path, contact, mail)
        if rows:
            done.erased[str(path)] = rows
            if report_path(path).exists():
                write_report(path)
                done.erased[str(report_path(path))] = rows
        if not mine:
            done.unreachable.append(("other_ledger", str(path)))
        run: dict[str, Any] = _run_of(facts)
        exports = run.get("exports", [])
        for export, rejected in zip(exports, rejected_files_of(path, len(exports)), strict=True):
            if rejected.exists() and (rows := _in_rejected(rejected, export, mail)):
                done.erased[str(rejected)] = rows
    except (*NO_AUDIT, RdImportError):
        done.unreachable.append(("audit_unreadable", str(path)))


def _run_of(facts: dict[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = read_json(facts.get(b"rd_import.run", b"{}"))
    return found


def _in_rejected(path: Path, export: dict[str, Any], mail: str) -> int:
    """Take out the rows that name the person, byte for byte as they stand; the others stay."""
    codec = export.get("encoding") or "utf-8"
    text = path.read_bytes().decode(codec, "surrogateescape")
    kept, gone = [], 0
    for record in _records(text):
        if mail in record.lower():
            gone += 1
        else:
            kept.append(record)
    if gone:
        temporary = temporary_of(path)
        with new_file(temporary) as file:
            file.write("".join(kept).encode(codec, "surrogateescape"))
            make_durable(file, temporary)
        put_in_place(temporary, path)
    return gone


def _records(text: str) -> Iterator[str]:
    """Cut a CSV after each line end outside of quotes."""
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        quotes, end = 0, at
        while end < len(lines) and end - at < MOST_LINES:
            quotes += lines[end].count('"')
            end += 1
            if quotes % 2 == 0:
                break
        end = end if quotes % 2 == 0 else at + 1
        yield "".join(lines[at:end])
        at = end
