"""What only a person can decide before a run is sent, and how it was decided."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rd_import.errors import NothingSent
from rd_import.job import Job
from rd_import.plan import Decisions, Standing, number_on, standing
from rd_import.run_folder import RunFolder

if TYPE_CHECKING:  # the second half's modules are loaded when it begins: `check` needs none of them
    from rd_import.ledger import Ledger


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
