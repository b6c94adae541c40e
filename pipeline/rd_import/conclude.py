"""How a run ends: its audit, its result, and what the command exits with."""

from collections.abc import Mapping as Map
from datetime import datetime
from pathlib import Path
from typing import Final

from rd_import.audit import Audit, masked, write_audit
from rd_import.audit_file import open_audit_path
from rd_import.ledger import Ledger
from rd_import.run_folder import RunFolder
from rd_import.send import Clock, Sending
from rd_import.values import RunResult

PENDING: Final = ("unknown", "deferred", "not_sent")


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
    sending = Sending(stopped_by="question", proof=why)
    audit = write_audit(folder, None, None, audit_path, stopped=why)
    return _result(folder, audit, audit_path, sending, started=started, finished=clock.now())


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
        exit_code=_exit_code(audit.states, sending.stopped_by, held=audit.resolved_rows),
        stopped_by=sending.stopped_by,
        proof=sending.proof,
        started_at=started,
        finished_at=finished,
        decided_rows=audit.decided_rows,
    )


def _exit_code(states: Map[str, int], stopped_by: str | None, *, held: int = 0) -> int:
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
