"""The order of the stages, which only this module knows.

Exports are read, their columns matched, rows gathered into events, typed, validated, mapped, encoded and kept in the
run folder; the preview is computed from it. What it holds is packed, sent, and audited.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from rd_import.cells import DEFAULT_ZONE, CellFormat, type_cells
from rd_import.choose import choose
from rd_import.encode import encode, identity_text
from rd_import.errors import JobError, LedgerError, NothingSent
from rd_import.export import Export
from rd_import.follow import Watched
from rd_import.gather import gather
from rd_import.job import Job
from rd_import.lookup import look_up
from rd_import.mapping import map_rows
from rd_import.mapping_file import Preset, Rule
from rd_import.mapping_text import mapping_text
from rd_import.match import Fed, Matching, match, missing_fields
from rd_import.overlap import ahead
from rd_import.places import place_of
from rd_import.plan import (
    LOWEST_CONTACT_LIMIT,
    Decisions,
    Standing,
    heavy_contacts,
    input_of,
    number_on,
    standing,
    unsent,
)
from rd_import.presets import fitting
from rd_import.read import read
from rd_import.run_folder import FolderWriter, RunFolder
from rd_import.settle import Plan, planned
from rd_import.survey import Survey
from rd_import.torn import TornRows
from rd_import.totals import differing_totals
from rd_import.validate import validate
from rd_import.values import (
    EVENT,
    GROUP,
    KEY,
    LEFT_OUT,
    ROW,
    EncodedGroup,
    EventGroup,
    RowGroup,
    RunResult,
    Sifted,
    SourceGroup,
)
from rdstation_events import EVENT_TYPES, api_facts
from rdstation_events.event_type import EventType

if TYPE_CHECKING:  # the second half's modules are loaded when it begins: `check` needs none of them
    from rd_import.audit import Audit
    from rd_import.exchange import Exchange
    from rd_import.ledger import Ledger
    from rd_import.pace import Pace
    from rd_import.send import Clock, Sending

PENDING: Final = ("unknown", "deferred", "not_sent")


def prepare(job: Job, clock: Clock, *, watched: Watched | None = None) -> RunFolder:
    """First half: everything up to the preview. Touches no network.

    Args:
        job: What is asked for.
        clock: Names the run.
        watched: A row whose cells are remembered on their way.

    Returns:
        The run folder, complete. Where anything goes wrong, none is left behind.

    Raises:
        JobError: The command cannot be done as asked.
        ExportError: A file cannot be read.
        LedgerError: The run folder cannot be written.
    """
    with ExitStack() as spool:
        return _prepare(job, clock, spool, watched)


def _prepare(job: Job, clock: Clock, spool: ExitStack, watched: Watched | None) -> RunFolder:
    _check_zone(job)
    plan = planned(job, spool)
    folder = RunFolder.create(job.run_dir, clock.now())
    try:
        counts = _Counts()
        survey = _Surveys(plan, job)
        with folder.writer() as writer:
            rows = survey.matched(ahead(read(plan.exports)), writer, watched)
            groups = gather(rows, by=plan.by, scratch=folder.path, own=plan.own)
            made = ahead(_events(groups, plan, survey, writer, counts, watched))
            for problems, parts in made:
                writer.keep_problems(problems)
                _keep_events(parts, plan, writer, job)
            writer.finish()
        folder.save_facts(_facts(job, plan, survey, writer, counts, clock.now()))
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
    plan: Plan,
    survey: _Surveys,
    writer: FolderWriter,
    counts: _Counts,
    watched: Watched | None,
) -> Iterator[tuple[pl.DataFrame, list[tuple[EventType, pl.DataFrame, Sifted[EventGroup]]]]]:
    """Type, number, validate and map groups of whole events, type by type; with the problems known before."""
    said = plan.said
    for group in groups:
        chosen = choose(group, plan.choice)
        counts.add_ordinals(group)
        parts = []
        for event_type, rows in chosen.rows:
            if rows.table.is_empty():
                continue
            typed = type_cells(
                rows,
                event_type,
                survey.formats(event_type.name),
                lists_over_limit=said.lists_over_limit or "refuse",
            )
            known = chosen.problems
            if known.height:
                known = known.filter(pl.col(ROW).is_in(rows.table[ROW].implode()))
            torn = survey.torn.flaws(rows.table)
            differing = differing_totals(typed.kept.table)
            typed = Sifted(typed.kept, pl.concat([known, typed.problems, torn, differing]))
            if watched is not None:
                watched.see(event_type, rows, typed.kept, plan.matchings[0])
            identity = _counted_identity(typed.kept, event_type, plan)
            numbered = replace(typed, kept=writer.number(typed.kept, identity))
            valid = validate(numbered, event_type)
            counts.add_legal_bases(valid.kept)
            limit = said.items_over_limit or "refuse"
            parts.append((event_type, known, map_rows(valid, event_type, items_over_limit=limit)))
        yield chosen.problems, parts


def _keep_events(
    parts: list[tuple[EventType, pl.DataFrame, Sifted[EventGroup]]],
    plan: Plan,
    writer: FolderWriter,
    job: Job,
) -> None:
    """Encode a group of events, type by type, and write them down in order."""
    kept = []
    for event_type, known, events in parts:
        encoded = encode(events, event_type, namespace=plan.said.namespace, max_body=job.max_body)
        problems = encoded.problems
        if known.height:
            problems = problems.join(known, on=[ROW, "code"], how="anti")
        writer.keep_problems(problems)
        kept.append(encoded.kept.table)
    if len(kept) == 1:
        writer.keep_events(EncodedGroup(kept[0]))
    elif kept:
        writer.keep_events(EncodedGroup(pl.concat(kept).sort(EVENT, maintain_order=True)))


def column_of_an_event(job: Job) -> str | None:
    """Name the file's column whose equal values must be read together: rows of one event, or of equal identities.

    None where no single column tells.

    Raises:
        JobError: What is said does not fit the files.
    """
    with ExitStack() as spool:
        plan = planned(job, spool)
        together = _Surveys(plan, job).id_column(0)
        if together is None and plan.by is None:
            [first, *_] = [*plan.matchings[0].key, "email"]
            fed = plan.matchings[0].fed[plan.event_types[0].name]
            named = next((one.rule.name for one in fed if one.field == first), None)
            together = named or (first if first in plan.matchings[0].key else None)
        return together


def explain(job: Job, row: int, clock: Clock) -> tuple[RunFolder, Watched]:
    """Follow one row through the first half.

    Returns:
        The run folder, which the caller removes, and the row.

    Raises:
        JobError: The file has no such row.
    """
    watched = Watched(row)
    folder = prepare(job, clock, watched=watched)
    if not 1 <= row <= folder.rows:
        folder.remove()
        raise JobError("no_such_row", row=row, rows=folder.rows)
    return folder, watched


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed mapping: its text, required fields that nothing feeds, fields with a column that may be meant.

    `columns` are the file's.
    """

    text: str
    missing: tuple[str, ...]
    proposed: Map[str, str]
    columns: tuple[str, ...]


def draft(job: Job, folder: Path) -> Draft:
    """Propose a mapping file from a real export, missing fields and all.

    Args:
        job: The export, and what the user says about it.
        folder: Where the mapping file will stand.

    Raises:
        JobError: What is said does not fit the file.
    """
    with ExitStack() as spool:
        plan = planned(job, spool, complete=False)
        survey = _Surveys(plan, job)
        for _ in survey.looked_at(read(plan.exports)):
            pass
        matching = plan.matchings[0]
        missing = dict.fromkeys(
            name for one in plan.event_types for name in missing_fields(one, matching)
        )
        proposed = {
            name: column
            for name, column in matching.proposed.items()
            if not any(name in matching.view(one.name) for one in plan.event_types)
        }
        text = _mapping_text(plan, survey, folder)
        return Draft(text, tuple(missing), proposed, tuple(plan.exports[0].facts.columns))


def _mapping_text(plan: Plan, survey: _Surveys, folder: Path) -> str:
    preset = plan.presets[0]
    said = plan.said.over(preset.mapping) if preset is not None else plan.said
    lookups = tuple(replace(one, file=_seen_from(folder, one.file)) for one in said.lookups)
    return mapping_text(
        plan.exports[0].facts.path,
        plan.event_types,
        plan.matchings[0],
        replace(said, lookups=lookups),
        survey.findings(0),
        preset.suggestions if preset is not None else (),
    )


def _seen_from(folder: Path, file: str) -> str:
    """Name a file as a mapping in this folder would: by its name alone where it stands beside it."""
    path = Path(file).resolve()
    return path.name if path.parent == folder.resolve() else str(path)


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
            NothingSent(
                "repeated_events", events=stands.repeats, event_type=folder.facts["event_type"]
            )
        )
    return open_ones


def stands(
    job: Job, folder: RunFolder, ledger: Ledger | None, account: int | None, now: datetime
) -> Standing:
    """Look at a run's events as the ledger stands."""
    max_age = timedelta(days=job.max_age_days)
    return standing(folder, ledger, account, now=now, policy=job.policy, max_age=max_age)


def unfinished_run(
    folder: RunFolder, ledger: Ledger, account: int
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
            return earlier, place_of(run["audit_path"])
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
    stands: Standing | None = None,
    only: frozenset[bytes] | None = None,
) -> RunResult:
    """Second half: send exactly what the preview showed, and account for every row. Safe to repeat.

    With `stands`, how the preview found the events; with `only`, the keys to which a person's order to resend is
    limited.

    Raises:
        JobError: The audit cannot be written; then nothing was sent, or the ledger holds what was.
        LedgerError: The ledger or the run folder cannot be used.
    """
    from rd_import.audit import write_open_audit
    from rd_import.send import Rules, Sender

    now = clock.now()
    if _is_written_by_another(audit_path, folder, ledger):
        raise JobError("audit_in_use", path=audit_path)
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
        folder=folder.path.absolute(),
        audit_path=audit_path.absolute(),  # who goes on may stand elsewhere
        now=now,
    )
    facts = ledger.facts(account)
    event_types = [EVENT_TYPES[name] for name in folder.facts["event_types"]]
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
            creates_contacts=any(one.creates_contact for one in event_types),
            needs_contacts=any(one.needs_contact for one in event_types),
            ecommerce=any(one.family == "ecommerce" for one in event_types),
            max_per_contact=api_facts.EVENTS_PER_CONTACT_AND_DAY,
            heavy_contacts=heavy_contacts(folder, facts.max_per_contact or LOWEST_CONTACT_LIMIT),
        ),
        stop_asked=stop_asked,
        on_progress=on_progress,
    )
    # Events of a weak identity may have other keys since the preview.
    known = stands.accepted if stands is not None and not folder.facts["weak_identity"] else ()
    events = unsent(folder, ledger, account, now=now, policy=job.policy, accepted=known)
    sending = sender.send(event for event in events if only is None or event.key in only)
    result = conclude(folder, ledger, account, audit_path, sending, started=started, clock=clock)
    ledger.end_process(process)
    return result


def _is_written_by_another(audit_path: Path, folder: RunFolder, ledger: Ledger) -> bool:
    """Tell whether a live run names the same audit: the two would take each other's open audit away."""
    return any(
        run["audit_path"] == str(audit_path.absolute())
        and run["run"] != folder.run_id
        and run["finished_us"] is None
        and ledger.is_running(run["run"])
        for run in ledger.runs()
    )


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


def exit_code_of(states: Map[str, int], stopped_by: str | None, *, held: int = 0) -> int:
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

    def add_ordinals(self, group: RowGroup) -> None:
        highest = group.table[EVENT].max()
        if isinstance(highest, int):
            self.event_ordinals = max(self.event_ordinals, highest + 1)

    def add_legal_bases(self, valid: RowGroup) -> None:
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

    def __init__(self, plan: Plan, job: Job) -> None:
        said = job.said.file
        stated = {"decimal": job.decimal, "dates": job.dates, "timezone": said.timezone}
        kept = {"decimal": job.mapping.file.decimal, "dates": job.mapping.file.dates}
        self._plan = plan
        self.torn = TornRows(plan.by)
        self._surveys = [
            {
                one.name: Survey(
                    one,
                    stated,
                    matching.rules(one.name),
                    _numeric(export, matching.fed[one.name]),
                    kept,
                )
                for one in plan.event_types
            }
            for export, matching in zip(plan.exports, plan.matchings, strict=True)
        ]
        self._formats: dict[str, list[tuple[int, CellFormat]]] = {}

    def matched(
        self,
        groups: Iterable[SourceGroup],
        writer: FolderWriter,
        watched: Watched | None = None,
    ) -> Iterator[RowGroup]:
        """Keep each row as it was read, and give it on under the schema's names."""
        for group in groups:
            kept = writer.keep_source(group)
            if watched is not None and group.export == 0:
                watched.read(kept.table)
            yield from self.looked_at([replace(group, rows=kept)])

    def looked_at(self, groups: Iterable[SourceGroup]) -> Iterator[RowGroup]:
        """Match rows and look at how they are written."""
        for group in groups:
            matching = self._plan.matchings[group.export]
            source = RowGroup(look_up(group.rows.table, self._plan.lookups[group.export]))
            rows = match(source, matching)
            for name, survey in self._surveys[group.export].items():
                view = matching.view(name)
                survey.add(
                    rows.table.select(pl.col(column).alias(one) for one, column in view.items())
                )
            self._look_for_torn(group, rows)
            yield rows

    def _look_for_torn(self, group: SourceGroup, rows: RowGroup) -> None:
        dialect = self._plan.exports[group.export].dialect
        codec, delimiter = (dialect.working_codec, dialect.delimiter) if dialect else ("utf-8", ",")
        self.torn.add(group, rows.table, self.id_column(group.export), codec, delimiter)

    def id_column(self, export: int) -> str | None:
        """Name the file's column that holds the ids of events, where it is one column."""
        matching = self._plan.matchings[export]
        if matching.group_by:
            return matching.group_by[0] if len(matching.group_by) == 1 else None
        fed = matching.fed[self._plan.event_types[0].name]
        return next((one.rule.name for one in fed if one.column == self._plan.by), None)

    def formats(self, event_type: str) -> list[tuple[int, CellFormat]]:
        """Give each file's format with its first row, once all rows were read."""
        if event_type not in self._formats:
            exports = self._plan.exports
            firsts = accumulate((one.rows for one in exports[:-1]), initial=0)
            self._formats[event_type] = [
                (first, surveys[event_type].format())
                for first, surveys in zip(firsts, self._surveys, strict=True)
            ]
        return self._formats[event_type]

    def findings(self, number: int) -> list[dict[str, Any]]:
        """Give what was found out about one file, its columns included; once where types share a column."""
        export, matching = self._plan.exports[number], self._plan.matchings[number]
        found = [asdict(one) for one in export.findings]
        for name, survey in self._surveys[number].items():
            words = {one.field: one.words for one in matching.fed[name]}
            for one in survey.findings():
                named = asdict(one) | {"column": words.get(str(one.column), one.column)}
                if named not in found:
                    found.append(named)
        return found


def _numeric(export: Export, fed: Iterable[Fed]) -> frozenset[str]:
    """Name the fields whose cells were numbers in the file already, and are taken as they are."""
    return frozenset(
        one.field
        for one in fed
        if one.rule.name in export.facts.numeric and one.rule == Rule(one.rule.column)
    )


def _counted_identity(rows: RowGroup, event_type: EventType, plan: Plan) -> pl.Expr | None:
    """Equal identities are counted where each row is an event or the user named a key; else they are one event."""
    keyed = any(name.startswith(KEY) for name in rows.table.columns)
    if event_type.grouped_by and not keyed and plan.by != GROUP:
        return None
    identity = identity_text(event_type, rows.table.columns)
    return identity if len(plan.event_types) == 1 else pl.lit(event_type.name) + identity


def _check_zone(job: Job) -> None:
    try:
        ZoneInfo(job.said.file.timezone or DEFAULT_ZONE)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JobError("bad_timezone", value=job.said.file.timezone) from error


def _recognised(export: Export, preset: Preset | None) -> dict[str, object]:
    """Name what a header was recognised as, or the presets that it fits alike."""
    if preset is not None:
        return {"recognised": preset.name, "alike": []}
    return {"recognised": None, "alike": [one.id for one in fitting(export.facts.columns)]}


def _facts(
    job: Job,
    plan: Plan,
    survey: _Surveys,
    writer: FolderWriter,
    counts: _Counts,
    now: datetime,
) -> dict[str, Any]:
    matchings = plan.matchings
    return {
        "format": 1,
        "run_id": writer.folder.run_id,
        "prepared_at": now.isoformat(),
        "event_type": ", ".join(one.name for one in plan.event_types),
        "event_types": [one.name for one in plan.event_types],
        "namespace": plan.said.namespace,
        "exports": [
            _export_facts(one)
            | {"findings": survey.findings(i), "preset": matchings[i].preset}
            | _recognised(one, plan.presets[i])
            for i, one in enumerate(plan.exports)
        ],
        "rows": writer.rows,
        "events": writer.events,
        "event_ordinals": counts.event_ordinals,
        "invalid_rows": 0,
        "fields": {name: column for one in matchings for name, column in one.fields.items()},
        "constants": {name: value for one in matchings for name, value in one.constants.items()},
        "how": {name: how for one in matchings for name, how in one.how.items()},
        "proposed": {name: column for one in matchings for name, column in one.proposed.items()},
        "derived": sorted({name for one in matchings for name in one.derivable}),
        "unmatched": list(dict.fromkeys(name for one in matchings for name in one.unmatched)),
        "suggested": _suggestions(plan),
        "mapping": _mapping_text(plan, survey, Path(plan.exports[0].facts.path).parent),
        "legal_bases": dict(counts.legal_bases),
        "mapping_sha256": _mapping_digest(job, plan),
        "weak_identity": any(_is_weak(one, matchings) for one in plan.event_types),
        "dated": any("event_timestamp" in {*one.fields, *one.constants} for one in matchings),
        "decisions": Decisions().to_facts(),
        "asked": {
            "past": job.past,
            "repeats": job.repeats,
            "max_age_days": job.max_age_days,
            "max_invalid": str(job.max_invalid),
            "min_rows": job.min_rows,
            "send_changed": job.policy.send_changed,
            "words": list(job.words),
        },
    }


def _suggestions(plan: Plan) -> dict[str, Map[str, str]]:
    """Give the columns whose words tell event types, with those words, where the user has not said it."""
    if plan.said.type_by is not None:
        return {}
    return {
        one.column: one.values or {}
        for preset in plan.presets
        if preset is not None
        for one in preset.suggestions
    }


def _mapping_digest(job: Job, plan: Plan) -> str:
    """Name what decides which events a file gives, so that an interrupted run is found again only by its like."""
    decisive = [
        [repr(one) for one in plan.matchings],
        [
            sorted(one.lines.hash_rows(seed=1).to_list()) if one.lines.height else []
            for of_export in plan.lookups
            for one in of_export
        ],
        [repr(plan.said), plan.choice.keep, sorted(plan.choice.suppressed), job.max_body],
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _is_weak(event_type: EventType, matchings: Sequence[Matching]) -> bool:
    """Tell whether a new event and a repeated one cannot be told apart: no id, no key, no time."""
    if not event_type.weak_identity:
        return False
    times = {
        name
        for name in event_type.identity
        if (spec := event_type.field(name)) and spec.kind == "timestamp"
    }
    return any(
        not one.key and not times.intersection(one.view(event_type.name)) for one in matchings
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
    bad_events = np.zeros(int(folder.facts["event_ordinals"]), dtype=bool)
    alone = 0  # rows that belong to no event, being unreadable
    for placed, flaws in folder.flawed_rows():
        fatal = flaws.filter(pl.col("fatal") & ~pl.col("code").is_in(LEFT_OUT))[ROW]
        if len(fatal):
            events = placed.filter(pl.col(ROW).is_in(fatal.implode()))[EVENT]
            alone += events.null_count()
            bad_events[events.drop_nulls().to_numpy()] = True
    if not bad_events.any():
        return alone
    return alone + sum(
        int(bad_events[placed[EVENT].drop_nulls().to_numpy()].sum())
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
        decided_rows=audit.decided_rows,
    )
