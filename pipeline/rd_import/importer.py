"""The whole job, as every entry point runs it: command line, Python, Airflow and Spark.

A `Watcher` sees what a person should see on the way, and may refuse; without one nothing is shown and nothing asked,
and what only a person can decide ends the run with exit code 7.
"""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rd_import import messages, pipeline
from rd_import.begun import find_run, job_of_run, pending_run, unfinished_run, was_interrupted
from rd_import.errors import AccountError, JobError
from rd_import.follow import Watched, explanation
from rd_import.job import Account, Delivery, Job, is_loopback
from rd_import.pace import Speed
from rd_import.places import place_of
from rd_import.preview import Preview, preview
from rd_import.questions import questions, stands
from rd_import.run_folder import RunFolder, default_ledger_path, remove_runs_before, state_folder
from rd_import.settle import event_type_named
from rd_import.watcher import SILENT, Watcher

if TYPE_CHECKING:  # `check` without a ledger needs neither a database nor HTTP
    from rd_import.ledger_store import Store
    from rd_import.plan import Standing
    from rd_import.session import Session
    from rd_import.unknowns import UnknownEvent
    from rd_import.values import RunResult

Asker = Callable[["Sequence[UnknownEvent]"], "Sequence[tuple[UnknownEvent, str, str]]"]
"""Gives an event, its decision and the reason, for each that is decided."""

MOST_DAYS = 3650


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Give the time, aware and in UTC."""
        return datetime.now(UTC)


def run(job: Job, *, watcher: Watcher = SILENT) -> RunResult:
    """Do a whole job: read, check, send, and write the audit. It goes on with an interrupted run of the same input.

    Args:
        job: What to do; its account is read from the environment (`Account.from_env`) where it names none.
        watcher: Who sees it.

    Returns:
        How it ended; `exit_code` has the meaning that the command line documents. 7: nothing was sent, and `proof`
        says which question is open.

    Raises:
        JobError: It cannot be done as asked.
        ExportError: An input cannot be read.
        AccountError: There are no credentials, or RD Station refuses them before anything is sent.
        LedgerError: Ledger or run folder cannot be used.
    """
    from rd_import.audit_file import claim_audit_path, default_audit_path
    from rd_import.conclude import refuse

    clock = SystemClock()
    started = clock.now()
    if job.said.event_type is not None:
        event_type_named(job.said.event_type, job.names)
    account = job.account or Account.from_env()
    practice = is_loopback(account.base_url)
    _speed(job).pace(account)
    named = place_of(job.audit_path) if job.audit_path else None
    audit_path = named or default_audit_path(job.names[0], started)
    claim_audit_path(audit_path, named=named is not None)
    with contextlib.ExitStack() as stack:
        _keep_no_longer(job, clock.now())
        folder = pipeline.prepare(job, clock)
        unsent = stack.enter_context(_removed_unless_sent(folder))
        if account.uses_api_key and folder.facts["event_types"] != ["CONVERSION"]:
            raise JobError("only_conversions", event_type=folder.facts["event_type"])
        session = stack.enter_context(open_session(replace(job, account=account), watcher))
        earlier = unfinished_run(folder, session.ledger, session.number)
        if earlier is not None:
            unsent.close()
            folder, audit_path = earlier[0], named or earlier[1]
            watcher.says(messages.say("say.going_on", run=folder.run_id))
        stand = stands(job, folder, session.ledger, session.number, clock.now())
        shown = _preview(job, folder, session, stand)
        watcher.sees(shown, session, sends=True)
        if not folder.rows:
            watcher.says(messages.say("say.no_rows"))
        open_ones = questions(job, folder, stand)
        for one in open_ones:
            warns = practice and one.key != "open_questions"
            watcher.says(f"{one}\n{messages.say('say.practice')}" if warns else str(one))
        if practice:
            open_ones = [one for one in open_ones if one.key == "open_questions"]
        if open_ones:
            why = str(open_ones[0]).partition("\n")[0]
            return refuse(folder, audit_path=audit_path, started=started, clock=clock, why=why)
        watcher.approves(shown, account)
        unsent.pop_all()
        return _send(job, folder, audit_path, session, watcher, events=shown.to_send, stands=stand)


def check(job: Job, *, keep: bool = False, watcher: Watcher = SILENT) -> Preview:
    """Compute the preview of a job and send nothing. Needs no credentials and creates no ledger.

    Args:
        job: What would be done.
        keep: Leave the run folder, which the preview then names; `resume` sends it.
        watcher: Who sees it.

    Returns:
        The preview; `exit_code` is 0, 3 (some rows are invalid) or 7 (`questions` are open: nothing would be sent).

    Raises:
        JobError: It cannot be done as asked.
        ExportError: An input cannot be read.
        LedgerError: A ledger that is there cannot be used.
    """
    clock = SystemClock()
    _keep_no_longer(job, clock.now())
    folder = pipeline.prepare(job, clock)
    with contextlib.ExitStack() as unless_kept:
        unless_kept.callback(folder.remove)
        with contextlib.ExitStack() as stack:
            session = _known_session(job, stack, watcher)
            ledger, number = (session.ledger, session.number) if session else (None, None)
            stand = stands(job, folder, ledger, number, clock.now())
            open_ones = questions(job, folder, stand)
            shown = replace(
                _preview(job, folder, session, stand),
                questions=tuple(str(one) for one in open_ones),
                run_folder=folder.path if keep else None,
            )
        watcher.sees(shown, session, sends=False)
        for question in shown.questions:
            watcher.says(question)
        if keep:
            unless_kept.pop_all()
    return shown


def explain(job: Job, row: int, *, watcher: Watcher = SILENT) -> dict[str, Any]:
    """Follow a data row of a job's first file: its cells, the rules, the event, and what became of it.

    Args:
        job: What would be done.
        row: Its number among the data rows, from 1.
        watcher: Who sees it.

    Raises:
        JobError: It cannot be done as asked, or there is no such row.
    """
    watched = Watched(row)
    folder = pipeline.prepare(job, SystemClock(), watched=watched)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.remove)
        if not 1 <= row <= folder.rows:
            raise JobError("no_such_row", row=row, rows=folder.rows)
        session = _known_session(job, stack, watcher)
        ledger, number = (session.ledger, session.number) if session else (None, None)
        return explanation(folder, watched, ledger, number)


def resume(
    run_id: str | None = None, *, how: Delivery | None = None, watcher: Watcher = SILENT
) -> RunResult:
    """Go on with a run, or with the newest that has rows left to send. What shapes its events is settled.

    Raises:
        JobError: There is no such run, another process sends it, or what it would send is gone.
        NothingSent: It was never sent, and a question about it is open.
    """
    how = how or Delivery()
    with open_session(how, watcher) as session:
        folder, audit_path = pending_run(session, run_id, now=SystemClock().now())
        job = job_of_run(folder, how)
        _refuse_open_questions(job, folder, session)
        if how.audit_path:
            audit_path = place_of(how.audit_path)
        now = SystemClock().now()
        stand = stands(job, folder, session.ledger, session.number, now)
        events = stand.to_send(folder.events)
        return _send(job, folder, audit_path, session, watcher, events=events, stands=stand)


def resolve(
    run_id: str,
    decision: str,
    *,
    why: str,
    only: Collection[str] | None = None,
    by: str | None = None,
    ask: Asker | None = None,
    how: Delivery | None = None,
    watcher: Watcher = SILENT,
) -> RunResult:
    """Decide about a run's unknown events: `resend`, `left`, `confirmed`, or `withdraw` an unused decision.

    `resend` sends at once. `left` and `confirmed` keep an event from every later import.

    Args:
        run_id: The run.
        decision: One of the four.
        why: For the record.
        only: Ids or row numbers; None for all.
        by: Who decides; by default the user of this process.
        ask: Decides event by event in place of `decision` and `why`.
        how: How to send, and where the ledger is.
        watcher: Who sees it.

    Raises:
        JobError: There is no such run, nothing to decide, or no reason is given.
    """
    from rd_import.conclude import conclude
    from rd_import.send import Sending
    from rd_import.unknowns import decide_all, unknown_events

    how = how or Delivery()
    with open_session(how, watcher) as session:
        folder, audit_path = find_run(session, run_id, now=SystemClock().now(), needs_bodies=False)
        withdraws = decision == "withdraw"
        ids = None if only is None else frozenset(only)
        chosen = unknown_events(folder, session.ledger, session.number, only=ids, decided=withdraws)
        if not chosen and was_interrupted(session, run_id):
            raise JobError("resolve_interrupted", run=run_id)
        if not chosen:
            raise JobError("nothing_to_resolve", run=run_id)
        if ask is None and not why:
            raise JobError("resolve_how")
        decisions = ask(chosen) if ask else [(event, decision, why) for event in chosen]
        clock = SystemClock()
        who = by or getpass.getuser()
        done = decide_all(session.ledger, session.number, decisions, by=who, now=clock.now())
        for event, refused in done.refused:
            why_not = messages.unresolvable(refused)
            watcher.says(messages.say("resolve.refused", row=event.row_number, why=why_not))
        watcher.says(messages.say("resolve.done", count=done.decided))
        if done.ordered and not folder.has_bodies:
            files = messages.listed(one["path"] for one in folder.facts["exports"])
            watcher.says(messages.say("resolve.bodies_gone", files=files))
        if done.ordered and folder.has_bodies:
            job = job_of_run(folder, how)
            return _send(
                job,
                folder,
                audit_path,
                session,
                watcher,
                events=len(done.ordered),
                only=done.ordered,
            )
        return conclude(
            folder,
            session.ledger,
            session.number,
            audit_path,
            Sending(),
            started=clock.now(),
            clock=clock,
        )


# --- what the entry points share


def named_ledger(ledger: Path | str | None) -> Path | str | None:
    """Give the path or address of the ledger that was named, here or in the environment."""
    return ledger or os.environ.get("RD_IMPORT_LEDGER") or None


def ledger_store(ledger: Path | str | None) -> Store:
    """Give the place of a ledger, by default this person's own."""
    from rd_import.ledger_store import store_of

    return store_of(named_ledger(ledger) or default_ledger_path())


def _keep_no_longer(job: Job, now: datetime) -> None:
    """Remove run folders that are older than this person wants to keep people's data.

    Raises:
        JobError: `RD_IMPORT_KEEP_DAYS` is no number of days.
    """
    days = os.environ.get("RD_IMPORT_KEEP_DAYS", "").strip()
    if not days:
        return
    if not days.isdecimal() or not 1 <= int(days) <= MOST_DAYS:
        raise JobError("bad_keep_days", value=days, most=MOST_DAYS)
    remove_runs_before(job.run_dir or state_folder() / "runs", now - timedelta(days=int(days)))


def _send(
    job: Job,
    folder: RunFolder,
    audit_path: Path,
    session: Session,
    watcher: Watcher,
    *,
    events: int,
    stands: Standing | None = None,
    only: frozenset[bytes] | None = None,
) -> RunResult:
    """Send what a run folder holds, or `only` these keys of it, and write the audit."""
    clock = SystemClock()
    session.service.ready()
    pace = _speed(job).pace(session.account)
    with watcher.accompanies(events, pace.interval_s, session.exchange.wake) as (
        stop_asked,
        on_progress,
    ):
        return pipeline.deliver(
            folder,
            job=job,
            audit_path=audit_path,
            ledger=session.ledger,
            account=session.number,
            exchange=session.exchange,
            clock=clock,
            pace=pace,
            started=clock.now(),
            stop_asked=stop_asked,
            on_progress=on_progress,
            stands=stands,
            only=only,
        )


def _speed(how: Delivery) -> Speed:
    return Speed.of(plan=how.plan, rate=how.rate)


@contextlib.contextmanager
def open_session(how: Delivery, watcher: Watcher) -> Iterator[Session]:
    """Open account, ledger and connection.

    Raises:
        AccountError: There are no credentials.
        JobError: Account and credentials do not go together, or no ledger is named where it must be.
        LedgerError: The ledger cannot be used.
    """
    from rd_import.session import Session

    with Session.open(
        how.account or Account.from_env(),
        named_ledger(how.ledger),
        timeout_s=how.timeout_s,
        tokens=how.tokens,
        on_new_ledger=watcher.begins_ledger,
    ) as session:
        yield session


def _known_session(job: Job, stack: contextlib.ExitStack, watcher: Watcher) -> Session | None:
    """Open what a run would use, if ledger and credentials are there already; `check` makes none."""
    if named_ledger(job.ledger) is None and not default_ledger_path().exists():
        return None
    with contextlib.closing(ledger_store(job.ledger)) as store:
        if not store.exists():
            return None
    try:
        return stack.enter_context(open_session(job, watcher))
    except AccountError as error:
        if error.key == "no_credentials":
            return None
        raise


def _preview(job: Job, folder: RunFolder, session: Session | None, stand: Any) -> Preview:
    return preview(
        folder,
        session.ledger if session else None,
        session.number if session else None,
        stand,
        max_body=job.max_body,
        per_minute=_speed(job).per_minute or 1e9,
        one_each=session.account.uses_api_key if session else False,
    )


def _removed_unless_sent(folder: RunFolder) -> contextlib.ExitStack:
    """Remove a run folder, which holds people's data, however the job ends, unless sending begins."""
    unsent = contextlib.ExitStack()
    unsent.callback(folder.remove)
    return unsent


def _refuse_open_questions(job: Job, folder: RunFolder, session: Session) -> None:
    """A preview that was kept and never sent is asked about like any other."""
    if folder.facts.get("decided") or is_loopback(session.account.base_url):
        return
    now = SystemClock().now()
    stand = stands(job, folder, session.ledger, session.number, now)
    for one in questions(job, folder, stand):
        raise one
