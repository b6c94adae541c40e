"""The order of the stages, which only this module knows.

Exports are read, their columns matched, rows gathered into events, typed, validated, mapped, encoded and kept in the
run folder; the preview is computed from it. What it holds is packed, sent, and audited.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from rd_import.cells import DEFAULT_ZONE, CellFormat, type_cells
from rd_import.encode import encode, identity_text
from rd_import.errors import JobError, LedgerError, NothingSent
from rd_import.export import Export
from rd_import.gather import gather
from rd_import.job import Job
from rd_import.mapping import map_rows
from rd_import.match import Matching, match, match_columns
from rd_import.overlap import ahead
from rd_import.plan import (
    Decisions,
    Standing,
    heavy_contacts,
    input_of,
    number_on,
    standing,
    unsent,
)
from rd_import.read import find_exports, read
from rd_import.run_folder import FolderWriter, RunFolder
from rd_import.survey import Survey
from rd_import.torn import TornRows
from rd_import.validate import validate
from rd_import.values import (
    EVENT,
    KEY,
    NOT_DATA,
    EventGroup,
    RowGroup,
    RunResult,
    Sifted,
    SourceGroup,
)
from rdstation_events import CURRENT_TYPES, EVENT_TYPES, REMOVED_TYPES, api_facts
from rdstation_events.event_type import EventType

if TYPE_CHECKING:  # the second half's modules are loaded when it begins: `check` needs none of them
    from rd_import.audit import Audit
    from rd_import.exchange import Exchange
    from rd_import.ledger import Ledger
    from rd_import.send import Clock, Pace, Sending

LOWEST_CONTACT_LIMIT: Final = (
    24  # events a day and contact: the smallest figure that any source gives
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
    assert removal is not None
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
        match_columns(
            one.facts, event_type, renames=job.renames, constants=job.constants, key=job.key
        )
        for one in exports
    ]
    folder = RunFolder.create(job.run_dir, clock.now())
    try:
        counts = _Counts()
        survey = _Surveys(exports, matchings, event_type, job)
        with folder.writer() as writer:
            rows = survey.matched(ahead(read(exports)), writer)
            groups = gather(rows, by=event_type.grouped_by, scratch=folder.path)
            for events in ahead(_events(groups, event_type, survey, writer, counts)):
                encoded = encode(events, event_type, namespace="", max_body=job.max_body)
                writer.keep_problems(encoded.problems)
                writer.keep_events(encoded.kept)
            writer.finish()
        folder.save_facts(_facts(job, event_type, survey, writer, counts, clock.now()))
    except OSError as error:
        folder.remove()
        raise LedgerError(
            "cannot_write_folder", path=folder.path, reason=error.strerror or str(error)
        ) from error
    except BaseException:
        folder.remove()
        raise
    folder.facts["invalid_rows"] = _invalid_rows(folder)
    folder.save_facts(folder.facts)
    return folder


def _events(
    groups: Iterator[RowGroup],
    event_type: EventType,
    survey: _Surveys,
    writer: FolderWriter,
    counts: _Counts,
) -> Iterator[Sifted[EventGroup]]:
    """Type, number, validate and map whole events."""
    for group in groups:
        typed = type_cells(group, event_type, survey.formats())
        typed = Sifted(typed.kept, pl.concat([typed.problems, survey.torn.flaws(group.table)]))
        numbered = replace(
            typed, kept=writer.number(typed.kept, _counted_identity(typed.kept, event_type))
        )
        valid = validate(numbered, event_type)
        counts.add(group, valid.kept)
        yield map_rows(valid, event_type)


def questions(job: Job, folder: RunFolder, stands: Standing) -> list[NothingSent]:
    """Name what only a person can decide before a run is sent; empty where nothing is open."""
    open_ones = []
    ambiguous = [
        one
        for export in folder.facts["exports"]
        for one in export["findings"]
        if one["confidence"] == "open"
    ]
    if ambiguous:
        open_ones.append(NothingSent("open_questions", questions=ambiguous))
    if folder.rows < job.min_rows:
        open_ones.append(NothingSent("too_few_rows", rows=folder.rows, least=job.min_rows))
    invalid = folder.facts["invalid_rows"]
    if job.max_invalid.exceeded(invalid, folder.rows):
        open_ones.append(
            NothingSent(
                "too_many_invalid", invalid=invalid, rows=folder.rows, limit=job.max_invalid
            )
        )
    if stands.past and job.past is None:
        open_ones.append(NothingSent("past_events", events=stands.past, days=job.max_age_days))
    if stands.repeats and job.repeats is None:
        open_ones.append(
            NothingSent("repeated_events", events=stands.repeats, event_type=job.event_type)
        )
    return open_ones


def stands(
    job: Job, folder: RunFolder, ledger: Ledger | None, account: int | None, now: datetime
) -> Standing:
    """Look at a run's events as the ledger stands."""
    max_age = timedelta(days=job.max_age_days)
    return standing(folder, ledger, account, now=now, policy=job.policy, max_age=max_age)


def unfinished_run(
    job: Job, folder: RunFolder, ledger: Ledger, account: int
) -> tuple[RunFolder, Path] | None:
    """Find an interrupted run of the same input, type and mapping that no process works on, and its audit."""
    for run in ledger.runs():
        same = run["account"] == account and run["input_sha256"] == input_of(folder)
        if (
            not same
            or run["finished_us"] is not None
            or run["event_type"] != folder.facts["event_type"]
        ):
            continue
        try:
            earlier = RunFolder.open(Path(run["folder"]))
        except LedgerError:
            continue
        whole = (
            earlier.has_bodies and earlier.facts["mapping_sha256"] == folder.facts["mapping_sha256"]
        )
        if whole and not ledger.is_running(run["run"]):
            return earlier, job.audit_path or Path(run["audit_path"])
    return None


def decide(job: Job, folder: RunFolder, ledger: Ledger, account: int, now: datetime) -> None:
    """Write down how the open questions of a run were answered; sending and audit hold to it."""
    if folder.facts.get("decided"):
        return
    past_before = now - timedelta(days=job.max_age_days) if job.past == "skip" else None
    if job.repeats == "send" and folder.facts["weak_identity"]:
        number_on(folder, ledger, account)
    folder.facts["decisions"] = Decisions(past_before, job.repeats).to_facts()
    folder.facts["decided"] = True
    folder.save_facts(folder.facts)


def deliver(  # noqa: PLR0913 -- what delivery touches, all by name
    folder: RunFolder,
    *,
    job: Job,
    audit_path: Path,
    ledger: Ledger,
    account: int,
    exchange: Exchange,
    clock: Clock,
    pace: Pace,
    started: datetime,
    stop_asked: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Sending], None] = lambda _: None,
    only: frozenset[bytes] | None = None,
) -> RunResult:
    """Second half: send exactly what the preview showed, and account for every row. Safe to repeat.

    With `only`, the keys to which a person's order to resend is limited.

    Raises:
        JobError: The audit cannot be written; then nothing was sent, or the ledger holds what was.
        LedgerError: The ledger or the run folder cannot be used.
    """
    from rd_import.audit import write_open_audit
    from rd_import.send import Rules, Sender

    now = clock.now()
    try:
        folder.keep_contacts(ledger.secret)
        decide(job, folder, ledger, account, now)
    except OSError as error:
        raise LedgerError(
            "cannot_write_folder", path=folder.path, reason=error.strerror or str(error)
        ) from error
    process = secrets.token_hex(8)
    if not ledger.start_process(process, folder.run_id, now=now):
        raise JobError("is_running", run=folder.run_id)
    write_open_audit(folder, ledger, account, audit_path)
    ledger.begin_run(
        folder.run_id,
        account=account,
        event_type=folder.facts["event_type"],
        input_sha256=input_of(folder),
        folder=folder.path,
        audit_path=audit_path,
        now=now,
    )
    facts = ledger.facts(account)
    event_type = EVENT_TYPES[folder.facts["event_type"]]
    sender = Sender(
        ledger=ledger,
        exchange=exchange,
        account=account,
        run=folder.run_id,
        process=process,
        clock=clock,
        pace=pace,
        max_body=min(job.max_body, facts.max_body or job.max_body),
        rules=Rules(
            policy=job.policy,
            max_unknown=job.max_unknown,
            refused_allowed=job.max_refused_allows,
            creates_contacts=event_type.creates_contact,
            needs_contacts=event_type.needs_contact,
            ecommerce=event_type.family == "ecommerce",
            max_per_contact=api_facts.EVENTS_PER_CONTACT_AND_DAY,
            heavy_contacts=heavy_contacts(folder, facts.max_per_contact or LOWEST_CONTACT_LIMIT),
        ),
        stop_asked=stop_asked,
        on_progress=on_progress,
    )
    events = unsent(folder, ledger, account, now=now, policy=job.policy)
    sending = sender.send(event for event in events if only is None or event.key in only)
    result = conclude(folder, ledger, account, audit_path, sending, started=started, clock=clock)
    ledger.end_process(process)
    return result


def conclude(
    folder: RunFolder,
    ledger: Ledger,
    account: int,
    audit_path: Path,
    sending: Sending,
    *,
    started: datetime,
    clock: Clock,
) -> RunResult:
    """Write the audit of a run as the ledger stands, and forget people's data that nobody needs any more."""
    from rd_import.audit import masked, open_audit_path, write_audit

    audit = write_audit(folder, ledger, account, audit_path, stopped=sending.proof)
    if sum(audit.states.get(state, 0) for state in PENDING) == audit.resolved_rows:
        folder.forget_contents(masked)
    ledger.finish_run(folder.run_id, states=audit.states, now=clock.now())
    open_audit_path(audit_path).unlink(missing_ok=True)
    return _result(folder, audit, audit_path, sending, started=started, finished=clock.now())


def refuse(
    folder: RunFolder, *, audit_path: Path, started: datetime, clock: Clock, why: str
) -> RunResult:
    """Write the audit of a run of which nothing may be sent."""
    from rd_import.audit import write_audit
    from rd_import.send import Sending

    sending = Sending(stopped_by="question", proof=why)
    audit = write_audit(folder, None, None, audit_path, stopped=why)
    return _result(folder, audit, audit_path, sending, started=started, finished=clock.now())


def exit_code_of(states: Mapping[str, int], stopped_by: str | None, *, held: int = 0) -> int:
    """Give a finished run's exit code: the first of the documented ones that applies.

    Args:
        states: Rows by state.
        stopped_by: Why sending ended early.
        held: Unknown rows that a person has decided to leave as they are.
    """
    by_cause = {"outage": 1, "refused": 1, "service": 1, "person": 130, "account": 4, "question": 7}
    if stopped_by is not None:
        return by_cause[stopped_by]
    if states.get("unknown", 0) > held:
        return 5
    if any(states.get(state) for state in ("invalid", "refused", "changed")):
        return 3
    return 6 if any(states.get(state) for state in ("deferred", "not_sent")) else 0


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Give the time, aware and in UTC."""
        return datetime.now(UTC)


# --- the first half's parts --------------------------------------------------------------------------------------


class _Counts:
    """What the first half learns on its way, for `run.json`."""

    def __init__(self) -> None:
        self.event_ordinals = 0
        self.legal_bases: Counter[str] = Counter()

    def add(self, group: RowGroup, valid: RowGroup) -> None:
        highest = group.table[EVENT].max()
        if isinstance(highest, int):
            self.event_ordinals = max(self.event_ordinals, highest + 1)
        bases = [
            name
            for name in valid.table.columns
            if name.startswith("legal_bases.") and name.endswith(".type")
        ]
        if bases:
            once = valid.table.unique(EVENT, keep="first")
            for name in bases:
                status = f"{name.removesuffix('type')}status"
                given = once.filter(pl.col(name).is_not_null())
                statuses = (
                    given[status].fill_null("granted")
                    if status in given.columns
                    else ["granted"] * given.height
                )
                self.legal_bases.update(f"{name.split('.')[1]} {one}" for one in statuses)


class _Surveys:
    """Matches rows on their way and learns how each file writes its dates and amounts."""

    def __init__(
        self,
        exports: tuple[Export, ...],
        matchings: list[Matching],
        event_type: EventType,
        job: Job,
    ) -> None:
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
            self._formats = [
                (first, survey.format())
                for first, survey in zip(firsts, self._surveys, strict=True)
            ]
        return self._formats

    def findings(self, number: int) -> list[dict[str, Any]]:
        """Give what was found out about one file, its columns included."""
        export, matching = self.exports[number], self.matchings[number]
        found = [asdict(one) for one in (*export.findings, *self._surveys[number].findings())]
        return [
            one | {"column": matching.fields.get(one["column"], one["column"])} for one in found
        ]


def _counted_identity(rows: RowGroup, event_type: EventType) -> pl.Expr | None:
    """Equal identities are counted where each row is an event or the user named a key; else they are one event."""
    keyed = any(name.startswith(KEY) for name in rows.table.columns)
    if event_type.grouped_by and not keyed:
        return None
    return identity_text(event_type, rows.table.columns)


def _check_zone(job: Job) -> None:
    try:
        ZoneInfo(job.timezone or DEFAULT_ZONE)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JobError("bad_timezone", value=job.timezone) from error


def _facts(
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
        "exports": [
            _export_facts(one) | {"findings": survey.findings(i)}
            for i, one in enumerate(survey.exports)
        ],
        "rows": writer.rows,
        "events": writer.events,
        "event_ordinals": counts.event_ordinals,
        "invalid_rows": 0,
        "fields": {name: column for one in matchings for name, column in one.fields.items()},
        "constants": dict(job.constants),
        "derived": sorted({name for one in matchings for name in one.derivable}),
        "unmatched": list(dict.fromkeys(name for one in matchings for name in one.unmatched)),
        "legal_bases": dict(counts.legal_bases),
        "mapping_sha256": _mapping_digest(job, matchings),
        "weak_identity": _is_weak(event_type, matchings),
        "dated": any("event_timestamp" in {*one.fields, *one.constants} for one in matchings),
        "decisions": Decisions().to_facts(),
        "asked": {
            "past": job.past,
            "repeats": job.repeats,
            "max_age_days": job.max_age_days,
            "max_invalid": str(job.max_invalid),
            "min_rows": job.min_rows,
            "send_changed": job.policy.send_changed,
        },
    }


def _mapping_digest(job: Job, matchings: list[Matching]) -> str:
    """Name what decides which events a file gives, so that an interrupted run is found again only by its like."""
    decisive = [
        [[sorted(one.fields.items()), sorted(one.constants.items()), one.key] for one in matchings],
        [
            job.encoding,
            job.delimiter,
            job.header,
            job.decimal,
            job.dates,
            job.timezone,
            job.max_body,
        ],
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _is_weak(event_type: EventType, matchings: list[Matching]) -> bool:
    """Tell whether a new event and a repeated one cannot be told apart: no id, no key, no time."""
    if not event_type.weak_identity:
        return False
    times = {
        name
        for name in event_type.identity
        if (spec := event_type.field(name)) and spec.kind == "timestamp"
    }
    return any(
        not one.key and not times.intersection({*one.fields, *one.constants}) for one in matchings
    )


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
    bad_rows = (
        folder.problems().filter(pl.col("fatal") & ~pl.col("code").is_in(NOT_DATA))["#row"].unique()
    )
    if bad_rows.is_empty():
        return 0
    hits = (
        placed.filter(pl.col("#row").is_in(bad_rows.implode()))[EVENT].drop_nulls()
        for placed in folder.placed_rows()
    )
    events = pl.concat([pl.Series(EVENT, [], dtype=pl.UInt32), *hits]).unique()
    return sum(
        placed.filter(
            pl.col("#row").is_in(bad_rows.implode()) | pl.col(EVENT).is_in(events.implode())
        ).height
        for placed in folder.placed_rows()
    )


# --- the second half's parts -------------------------------------------------------------------------------------


def _result(
    folder: RunFolder,
    audit: Audit,
    audit_path: Path,
    sending: Sending,
    *,
    started: datetime,
    finished: datetime,
) -> RunResult:
    return RunResult(
        run_id=folder.run_id,
        rows=folder.rows,
        events=folder.events,
        states=audit.states,
        requests=sending.requests,
        audit_path=audit_path,
        rejected_paths=audit.rejected_paths,
        run_folder=folder.path,
        exit_code=exit_code_of(audit.states, sending.stopped_by, held=audit.resolved_rows),
        stopped_by=sending.stopped_by,
        proof=sending.proof,
        started_at=started,
        finished_at=finished,
    )
