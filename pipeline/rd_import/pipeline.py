"""The order of the stages, which only this module knows.

Exports are read, their columns matched, rows gathered into events, typed, validated, mapped, encoded and kept in the
run folder; the preview is computed from it. What it holds is packed, sent, and audited.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rd_import.cells import type_cells
from rd_import.choose import choose
from rd_import.encode import encode, identity_text
from rd_import.errors import JobError, LedgerError
from rd_import.facts import Counts, invalid_rows, run_facts
from rd_import.follow import Watched
from rd_import.gather import gather
from rd_import.job import Job
from rd_import.learn import Learnt
from rd_import.mapping import map_rows
from rd_import.overlap import ahead
from rd_import.plan import (
    LOWEST_CONTACT_LIMIT,
    Standing,
    heavy_contacts,
    input_of,
    unsent,
)
from rd_import.questions import decide
from rd_import.read import read
from rd_import.run_folder import FolderWriter, RunFolder
from rd_import.settle import Plan, planned
from rd_import.totals import differing_totals
from rd_import.validate import validate
from rd_import.values import (
    EVENT,
    GROUP,
    KEY,
    ROW,
    EncodedGroup,
    EventGroup,
    RowGroup,
    RunResult,
    Sifted,
)
from rdstation_events import EVENT_TYPES, api_facts
from rdstation_events.event_type import EventType

if TYPE_CHECKING:  # the second half's modules are loaded when it begins: `check` needs none of them
    from rd_import.exchange import Exchange
    from rd_import.ledger import Ledger
    from rd_import.pace import Pace
    from rd_import.send import Clock, Sending


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
    plan = planned(job, spool)
    folder = RunFolder.create(job.run_dir, clock.now())
    try:
        counts = Counts()
        learnt = Learnt(plan, job)
        with folder.writer() as writer:
            rows = learnt.matched(ahead(read(plan.exports)), writer, watched)
            groups = gather(rows, by=plan.by, scratch=folder.path, own=plan.own)
            made = ahead(_events(groups, plan, learnt, writer, counts, watched))
            for problems, parts in made:
                writer.keep_problems(problems)
                _keep_events(parts, plan, writer, job)
            writer.finish()
        folder.save_facts(run_facts(job, plan, learnt, writer, counts, clock.now()))
    except OSError as error:
        folder.remove()
        raise LedgerError(
            "cannot_write_folder", path=folder.path, reason=error.strerror or str(error)
        ) from error
    except BaseException:
        folder.remove()
        raise
    folder.facts["invalid_rows"] = invalid_rows(folder)
    folder.save_facts(folder.facts)
    return folder


def _events(
    groups: Iterator[RowGroup],
    plan: Plan,
    learnt: Learnt,
    writer: FolderWriter,
    counts: Counts,
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
                learnt.formats(event_type.name),
                lists_over_limit=said.lists_over_limit or "refuse",
            )
            known = chosen.problems
            if known.height:
                known = known.filter(pl.col(ROW).is_in(rows.table[ROW].implode()))
            torn = learnt.torn.flaws(rows.table)
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
    from rd_import.audit_file import write_open_audit
    from rd_import.conclude import conclude
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


def _counted_identity(rows: RowGroup, event_type: EventType, plan: Plan) -> pl.Expr | None:
    """Equal identities are counted where each row is an event or the user named a key; else they are one event."""
    keyed = any(name.startswith(KEY) for name in rows.table.columns)
    if event_type.grouped_by and not keyed and plan.by != GROUP:
        return None
    identity = identity_text(event_type, rows.table.columns)
    return identity if len(plan.event_types) == 1 else pl.lit(event_type.name) + identity
