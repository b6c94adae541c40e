"""Runs that were begun, found again: to go on with, to decide about, or because the same input comes once more."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rd_import.errors import JobError, LedgerError
from rd_import.job import Delivery, Job, Threshold
from rd_import.places import place_of
from rd_import.plan import input_of
from rd_import.run_folder import RunFolder, state_folder

if TYPE_CHECKING:  # a session brings database and HTTP
    from rd_import.ledger import Ledger
    from rd_import.session import Session


def pending_run(session: Session, run_id: str | None, *, now: datetime) -> tuple[RunFolder, Path]:
    """Find the run to go on with and its audit: the named one, or the newest with rows left to send.

    Raises:
        JobError: There is none.
    """
    if run_id is not None:
        return find_run(session, run_id, now=now)
    for one in session.ledger.runs():
        states = json.loads(one["states"]) if one["states"] else {"not_sent": 1}
        mine = one["account"] == session.number and not session.ledger.is_running(one["run"])
        if mine and any(states.get(state) for state in ("not_sent", "deferred")):
            return find_run(session, one["run"], now=now)
    raise JobError("nothing_to_resume", path=session.ledger.store.name)


def find_run(
    session: Session, run_id: str, *, now: datetime, needs_bodies: bool = True
) -> tuple[RunFolder, Path]:
    """Open a run's folder and name its audit; a kept preview that was never sent has no line in the ledger yet.

    Raises:
        JobError: There is no such run, it is of another account, is being sent, or its bodies are gone.
    """
    from rd_import.audit_file import default_audit_path

    found = next((one for one in session.ledger.runs() if one["run"] == run_id), None)
    kept = Path(run_id) if Path(run_id).is_dir() else state_folder() / "runs" / run_id
    if found is None and not kept.is_dir():
        raise JobError("no_such_run", run=run_id, path=session.ledger.store.name)
    if found is None:
        folder = RunFolder.open(kept)
        first = folder.facts["exports"][0]["path"]
        return folder, default_audit_path(first, now)
    if found["account"] != session.number:
        raise JobError("other_account", run=run_id, scope=found["scope"])
    if session.ledger.is_running(run_id):
        raise JobError("is_running", run=run_id)
    folder = RunFolder.open(Path(found["folder"]))
    if needs_bodies and not folder.has_bodies:
        raise JobError("bodies_gone", run=run_id)
    return folder, place_of(found["audit_path"])


def was_interrupted(session: Session, run_id: str) -> bool:
    """Tell whether a run has no audit yet."""
    return any(one["run"] == run_id and not one["states"] for one in session.ledger.runs())


def job_of_run(folder: RunFolder, how: Delivery) -> Job:
    """Make the job of a run that is on disk: what shapes its events is settled, how it is sent is said anew."""
    asked = folder.facts["asked"]
    return Job(
        exports=tuple(export["path"] for export in folder.facts["exports"]),
        event_type=folder.facts["event_type"],
        policy=replace(how.policy, send_changed=asked["send_changed"]),
        past=asked["past"],
        repeats=asked["repeats"],
        max_age_days=asked["max_age_days"],
        max_invalid=Threshold.parse(asked["max_invalid"]),
        min_rows=asked["min_rows"],
        **{one.name: getattr(how, one.name) for one in fields(Delivery) if one.name != "policy"},
    )


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
