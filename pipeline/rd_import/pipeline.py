"""The order of the stages, which only this module knows.

Exports are read, their columns matched, rows gathered into events, typed, validated, mapped, encoded and kept in the
run folder; the preview is computed from it. What it holds is packed, sent, and audited.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
from rdstation_events import CURRENT_TYPES, EVENT_TYPES, REMOVED_TYPES
from rdstation_events.event_type import EventType

from rd_import.audit import claim_audit_path, default_audit_path, write_audit
from rd_import.cells import DEFAULT_ZONE, CellFormat, type_cells
from rd_import.encode import encode
from rd_import.errors import JobError, LedgerError, NothingSent
from rd_import.gather import gather
from rd_import.job import Job
from rd_import.ledger import Ledger
from rd_import.mapping import map_rows
from rd_import.match import Matching, match, match_columns
from rd_import.pack import pack
from rd_import.preview import payload_lines
from rd_import.export import Export
from rd_import.read import find_exports, read
from rd_import.run_folder import FolderWriter, RunFolder
from rd_import.send import Clock, Pace, Sender, Sending
from rd_import.service import Service
from rd_import.survey import Survey
from rd_import.torn import TornRows
from rd_import.validate import validate
from rd_import.values import (
    EVENT,
    NOT_DATA,
    EncodedGroup,
    PlannedEvent,
    RowGroup,
    RunResult,
    Sifted,
    SourceGroup,
)

PENDING: Final = ("unknown", "deferred", "not_sent")


def event_type_of(job: Job) -> EventType:
    """Look the job's event type up.

    Raises:
        JobError: There is no such type, or RD Station stopped taking it.
    """
    name = job.event_type.upper()
    if name in REMOVED_TYPES:
        raise removed_type(name, job.exports)
    if name not in CURRENT_TYPES:
        raise JobError("unknown_type", name=job.event_type, types=", ".join(CURRENT_TYPES))
    return EVENT_TYPES[name]


def removed_type(name: str, exports: Iterable[str]) -> JobError:
    """Explain that a type has ended, with the command that sends its successor."""
    old = EVENT_TYPES[name]
    removal = old.removed
    assert removal is not None  # noqa: S101 -- REMOVED_TYPES are the types that have one
    flags = [f"--rename {field}={column}" for field, column in removal.renames.items()]
    flags += [f"--set {field}=VALUE" for field in removal.still_needed]
    command = f"rd-import {' '.join(exports)} --type {removal.successor} {' '.join(flags)}"
    return JobError(
        "removed_type",
        name=name,
        until=removal.accepted_until,
        successor=removal.successor,
        how=removal.how,
        command=command,
    )


def prepare(job: Job, clock: Clock) -> RunFolder:
    """First half: everything up to the preview. Touches no network.

    Returns:
        The run folder, complete. Where anything goes wrong, none is left behind.

    Raises:
        JobError: The command cannot be done as asked.
        ExportError: A file cannot be read.
        LedgerError: The run folder cannot be written.
    """
    with ExitStack() as spool:
        return _prepare(job, clock, spool)


def _prepare(job: Job, clock: Clock, spool: ExitStack) -> RunFolder:
    event_type = event_type_of(job)
    _check_zone(job)
    exports = find_exports(job, spool)
    matchings = [
        match_columns(one.facts, event_type, renames=job.renames, constants=job.constants) for one in exports
    ]
    folder = RunFolder.create(job.run_dir, clock.now())
    try:
        counts = _Counts()
        survey = _Surveys(exports, matchings, event_type, job)
        with folder.writer() as writer:
            rows = survey.matched(read(exports), writer)
            for group in gather(rows, by=event_type.grouped_by, scratch=folder.path):
                typed = type_cells(group, event_type, survey.formats())
                typed = Sifted(typed.kept, pl.concat([typed.problems, survey.torn.flaws(group.table)]))
                numbered = replace(typed, kept=writer.number(typed.kept, _counted_identity(event_type)))
                valid = validate(numbered, event_type)
                events = map_rows(valid, event_type)
                encoded = encode(events, event_type, namespace="", max_body=job.max_body)
                writer.keep_problems(encoded.problems)
                writer.keep_events(encoded.kept)
                counts.add(group, encoded, valid.kept)
            writer.finish()
        folder.save_facts(_facts(job, event_type, survey, writer, counts, clock.now()))
    except OSError as error:
        folder.remove()
        raise LedgerError("cannot_write_folder", path=folder.path, reason=error.strerror or str(error)) from error
    except BaseException:
        folder.remove()
        raise
    folder.facts["invalid_rows"] = _invalid_rows(folder)
    folder.save_facts(folder.facts)
    return folder


def ensure_answered(folder: RunFolder) -> None:
    """Refuse to send what has two meanings.

    Raises:
        NothingSent: A finding is open; its flag answers it.
    """
    questions = [one for export in folder.facts["exports"] for one in export["findings"] if one["confidence"] == "open"]
    if questions:
        raise NothingSent("open_questions", questions=questions)


def ensure_sendable(job: Job, folder: RunFolder) -> None:
    """Refuse to send what only a person can have meant.

    Raises:
        NothingSent: A question is open, or there are too few rows, or too many of them invalid.
    """
    ensure_answered(folder)
    if folder.rows < job.min_rows:
        raise NothingSent("too_few_rows", rows=folder.rows, least=job.min_rows)
    invalid = folder.facts["invalid_rows"]
    if job.max_invalid.exceeded(invalid, folder.rows):
        raise NothingSent("too_many_invalid", invalid=invalid, rows=folder.rows, limit=job.max_invalid)


def deliver(  # noqa: PLR0913 -- what delivery touches, all by name
    folder: RunFolder,
    *,
    job: Job,
    ledger: Ledger,
    account: int,
    service: Service,
    clock: Clock,
    pace: Pace,
    started: datetime,
    stop_asked: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Sending], None] = lambda _: None,
) -> RunResult:
    """Second half: send exactly what the preview showed, and account for every row. Safe to repeat.

    Raises:
        JobError: The audit cannot be written; then nothing was sent, or the ledger holds what was.
        LedgerError: The ledger cannot be used.
        AccountError: RD Station refuses the account; the audit stands.
    """
    audit_path = job.audit_path or default_audit_path(job.exports[0], started)
    claim_audit_path(audit_path, named=job.audit_path is not None)
    folder.keep_contacts(ledger.secret)
    ledger.begin_run(
        folder.run_id,
        account=account,
        event_type=folder.facts["event_type"],
        input_sha256=" ".join(export["sha256"] for export in folder.facts["exports"]),
        audit_path=audit_path,
        now=clock.now(),
    )
    sender = Sender(
        ledger=ledger,
        service=service,
        account=account,
        run=folder.run_id,
        clock=clock,
        pace=pace,
        max_body=min(job.max_body, ledger.learnt_max_body(account) or job.max_body),
        stop_asked=stop_asked,
        on_progress=on_progress,
    )
    sending = sender.send(pack(_unsent(folder, ledger, account), max_bytes=job.max_body))
    result = _conclude(folder, ledger, account, audit_path, sending, started=started, clock=clock)
    ledger.finish_run(folder.run_id, clock.now())
    if not any(result.states.get(state) for state in PENDING):
        folder.forget_contents()
    return result


def refuse(folder: RunFolder, *, job: Job, started: datetime, clock: Clock, why: str) -> RunResult:
    """Write the audit of a run of which nothing may be sent."""
    audit_path = job.audit_path or default_audit_path(job.exports[0], started)
    claim_audit_path(audit_path, named=job.audit_path is not None)
    sending = Sending(stopped_by="invalid", proof=why)
    return _conclude(folder, None, None, audit_path, sending, started=started, clock=clock)


def exit_code_of(states: Mapping[str, int], stopped_by: str | None) -> int:
    """Give a finished run's exit code: the first of the documented ones that applies."""
    by_cause = {"outage": 1, "refused": 1, "service": 1, "person": 130, "account": 4, "invalid": 7}
    if stopped_by is not None:
        return by_cause[stopped_by]
    if states.get("unknown"):
        return 5
    if any(states.get(state) for state in ("invalid", "refused", "changed")):
        return 3
    return 6 if any(states.get(state) for state in ("deferred", "not_sent")) else 0


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Give the time, aware and in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


# --- the first half's parts --------------------------------------------------------------------------------------


class _Counts:
    """What the first half learns on its way, for `run.json`."""

    def __init__(self) -> None:
        self.event_ordinals = 0
        self.payloads: list[bytes] = []
        self.legal_bases: Counter[str] = Counter()

    def add(self, group: RowGroup, encoded: Sifted[EncodedGroup], valid: RowGroup) -> None:
        highest = group.table[EVENT].max()
        if isinstance(highest, int):
            self.event_ordinals = max(self.event_ordinals, highest + 1)
        if len(self.payloads) < 3:  # noqa: PLR2004 -- the preview shows three
            self.payloads += encoded.kept.table["body"].head(3 - len(self.payloads)).to_list()
        once = valid.table.unique(EVENT, keep="first")
        for name in valid.table.columns:
            if name.startswith("legal_bases.") and name.endswith(".type"):
                status = f"{name.removesuffix('type')}status"
                given = once.filter(pl.col(name).is_not_null())
                statuses = given[status].fill_null("granted") if status in given.columns else ["granted"] * given.height
                self.legal_bases.update(f"{name.split('.')[1]} {one}" for one in statuses)


class _Surveys:
    """Matches rows on their way and learns how each file writes its dates and amounts."""

    def __init__(self, exports: tuple[Export, ...], matchings: list[Matching], event_type: EventType, job: Job) -> None:
        self.exports = exports
        self.matchings = matchings
        self.torn = TornRows(event_type.grouped_by)
        stated = {"decimal": job.decimal, "dates": job.dates, "timezone": job.timezone}
        self._surveys = [Survey(event_type, stated) for _ in exports]
        self._formats: list[tuple[int, CellFormat]] | None = None

    def matched(self, groups: Iterable[SourceGroup], writer: FolderWriter) -> Iterator[RowGroup]:
        for group in groups:
            rows = match(writer.keep_source(group), self.matchings[group.export])
            self._surveys[group.export].add(rows.table)
            self._look_for_torn(group, rows)
            yield rows

    def _look_for_torn(self, group: SourceGroup, rows: RowGroup) -> None:
        dialect = self.exports[group.export].dialect
        codec, delimiter = (dialect.working_codec, dialect.delimiter) if dialect else ("utf-8", ",")
        column = self.matchings[group.export].fields.get(self.torn.by or "")
        self.torn.add(group, rows.table, column, codec, delimiter)

    def formats(self) -> list[tuple[int, CellFormat]]:
        """Give each file's format with its first row, once all rows were read."""
        if self._formats is None:
            firsts = accumulate((one.rows for one in self.exports[:-1]), initial=0)
            self._formats = [(first, survey.format()) for first, survey in zip(firsts, self._surveys, strict=True)]
        return self._formats

    def findings(self, number: int) -> list[dict[str, Any]]:
        """Give what was found out about one file, its columns included."""
        export, matching = self.exports[number], self.matchings[number]
        found = [asdict(one) for one in (*export.findings, *self._surveys[number].findings())]
        return [one | {"column": matching.fields.get(one["column"], one["column"])} for one in found]


def _counted_identity(event_type: EventType) -> tuple[str, ...]:
    """Equal identities are counted where each row is an event; grouped rows of one identity are one event."""
    return () if event_type.grouped_by else event_type.identity


def _check_zone(job: Job) -> None:
    try:
        ZoneInfo(job.timezone or DEFAULT_ZONE)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JobError("bad_timezone", value=job.timezone) from error


def _facts(  # noqa: PLR0913 -- everything that the second half and the audit need to know
    job: Job,
    event_type: EventType,
    survey: _Surveys,
    writer: FolderWriter,
    counts: _Counts,
    now: datetime,
) -> dict[str, Any]:
    matchings = survey.matchings
    return {
        "format": 1,
        "run_id": writer.folder.run_id,
        "prepared_at": now.isoformat(),
        "event_type": event_type.name,
        "exports": [_export_facts(one) | {"findings": survey.findings(i)} for i, one in enumerate(survey.exports)],
        "rows": writer.rows,
        "events": writer.events,
        "event_ordinals": counts.event_ordinals,
        "invalid_rows": 0,
        "fields": {name: column for one in matchings for name, column in one.fields.items()},
        "constants": dict(job.constants),
        "derived": sorted({name for one in matchings for name in one.derivable}),
        "unmatched": list(dict.fromkeys(name for one in matchings for name in one.unmatched)),
        "legal_bases": dict(counts.legal_bases),
        "first_payloads": payload_lines(counts.payloads),
    }


def _export_facts(export: Export) -> dict[str, Any]:
    dialect = export.dialect
    return {
        "path": export.facts.path,
        "format": export.facts.file_format,
        "sha256": export.digest.hexdigest(),
        "rows": export.rows,
        "blank_lines": export.blank_lines,
        "not_data": export.not_data,
        "encoding": dialect.encoding if dialect else export.facts.encoding,
        "delimiter": export.facts.delimiter,
        "columns": len(export.facts.columns),
        "bom": dialect.bom.hex() if dialect else "",
        "record_encoding": dialect.working_codec if dialect else "utf-8",
        "header_record": export.facts.header_record.decode("latin-1"),
    }


def _invalid_rows(folder: RunFolder) -> int:
    """Count the rows that will not go: flawed ones and their siblings."""
    bad_rows = folder.problems().filter(pl.col("fatal") & ~pl.col("code").is_in(NOT_DATA))["#row"].unique()
    if bad_rows.is_empty():
        return 0
    hits = (placed.filter(pl.col("#row").is_in(bad_rows.implode()))[EVENT].drop_nulls() for placed in folder.placed_rows())
    events = pl.concat([pl.Series(EVENT, [], dtype=pl.UInt32), *hits]).unique()
    return sum(
        placed.filter(pl.col("#row").is_in(bad_rows.implode()) | pl.col(EVENT).is_in(events.implode())).height
        for placed in folder.placed_rows()
    )


# --- the second half's parts -------------------------------------------------------------------------------------


def _unsent(folder: RunFolder, ledger: Ledger, account: int) -> Iterator[PlannedEvent]:
    """Give the events that the ledger does not hold as settled, so that they cost no request."""
    for bodies, contacts in zip(folder.bodies(), folder.planned_with_contacts(), strict=True):
        lines = ledger.lines(account, bodies["event_key"].to_list())
        for ordinal, key, sha, body, contact in zip(
            bodies[EVENT],
            bodies["event_key"],
            bodies["payload_sha256"],
            bodies["body"],
            contacts["contact"],
            strict=True,
        ):
            if key not in lines or lines[key].uuid_of(sha) is None:
                yield PlannedEvent(ordinal, key, sha, contact, body)


def _conclude(  # noqa: PLR0913 -- joins everything that a run is
    folder: RunFolder,
    ledger: Ledger | None,
    account: int | None,
    audit_path: Path,
    sending: Sending,
    *,
    started: datetime,
    clock: Clock,
) -> RunResult:
    audit = write_audit(folder, ledger, account, audit_path, stopped=sending.proof)
    return RunResult(
        run_id=folder.run_id,
        rows=folder.rows,
        events=folder.events,
        states=audit.states,
        requests=sending.requests,
        audit_path=audit_path,
        rejected_paths=audit.rejected_paths,
        run_folder=folder.path,
        exit_code=exit_code_of(audit.states, sending.stopped_by),
        stopped_by=sending.stopped_by,
        started_at=started,
        finished_at=clock.now(),
    )

