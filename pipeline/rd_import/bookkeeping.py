"""What is done with a ledger besides sending: runs listed, audits taken over, the ledger verified, a person erased."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rd_import.errors import JobError
from rd_import.importer import SystemClock, ledger_store
from rd_import.places import place_of

if TYPE_CHECKING:  # `check` without a ledger needs neither a database nor HTTP
    from rd_import.forget import Forgotten
    from rd_import.ledger import Ledger


def runs(ledger: Path | str | None = None) -> list[dict[str, Any]]:
    """Give every run of a ledger, the newest first; none where there is no ledger yet.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    from rd_import.ledger import Ledger
    from rd_import.ledger_rows import from_us

    store = ledger_store(ledger)
    with contextlib.closing(store):
        if not store.exists():
            return []
    with Ledger.open(store) as opened:
        return [
            {
                "run_id": one["run"],
                "event_type": one["event_type"],
                "account": one["scope"],
                "started_at": from_us(one["started_us"]),
                "finished_at": from_us(one["finished_us"]),
                "running": opened.is_running(one["run"]),
                "states": json.loads(one["states"]) if one["states"] else None,
                "audit": one["audit_path"],
                "undecided": _undecided(one["states"], one["audit_path"]),
            }
            for one in opened.runs()
        ]


def _undecided(states: str | None, audit: str) -> int:
    """Count a run's unknown rows about which nobody decided yet; all of them where its audit is gone."""
    from rd_import.audit_file import undecided_rows

    unknown = int(json.loads(states).get("unknown", 0)) if states else 0
    found = undecided_rows(place_of(audit)) if unknown else 0
    return unknown if found is None else found


def add_audits(audits: Sequence[Path | str], *, ledger: Path | str | None = None) -> dict[str, int]:
    """Have a ledger take over what audits know, open ones too; give the number of keys by audit.

    Raises:
        ExportError: One is no audit.
        LedgerError: The ledger cannot be used.
    """
    from rd_import.audit_file import keys_of_audit
    from rd_import.ledger import Ledger

    with Ledger.open(ledger_store(ledger)) as opened:
        changed = {}
        for path in map(place_of, audits):
            facts, known = keys_of_audit(path)
            changed[str(path)] = opened.join(opened.account(facts["rd_import.scope"]), known)
        return changed


def check_ledger(
    audits: Sequence[Path | str] = (), *, ledger: Path | str | None = None
) -> list[str]:
    """Name what contradicts itself in a ledger, and what audits hold that it does not.

    Raises:
        JobError: There is no ledger.
        LedgerError: It cannot be used.
    """
    from rd_import.ledger_check import differences

    with _known_ledger(ledger) as opened:
        return differences(opened, [place_of(one) for one in audits])


def forget(email: str, *, ledger: Path | str | None = None) -> Forgotten:
    """Erase a person from the ledger and the files that it knows of, and import nothing of theirs again.

    Raises:
        JobError: There is no ledger, the address is none, or a run is sending.
        LedgerError: The ledger cannot be used.
    """
    from rd_import.forget import forget as forget_person

    with _known_ledger(ledger) as opened:
        return forget_person(opened, email, now=SystemClock().now())


def _known_ledger(named: Path | str | None) -> Ledger:
    """Open a ledger that is there, making none.

    Raises:
        JobError: There is no ledger.
        LedgerError: It cannot be used.
    """
    from rd_import.ledger import Ledger

    store = ledger_store(named)
    with contextlib.closing(store):
        if not store.exists():
            raise JobError("no_ledger", path=store.name)
    return Ledger.open(store)
