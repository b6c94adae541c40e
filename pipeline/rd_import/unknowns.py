"""A person's decisions on unknown events: which there are, and what becomes of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from rd_import.key_line import Unresolvable
from rd_import.ledger import Decision, Ledger
from rd_import.run_folder import RunFolder
from rd_import.values import EVENT, ROW


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event that left and of which no usable answer came, as a person is shown it."""

    key: bytes = field(repr=False)
    sha: bytes = field(repr=False)
    row_number: int
    source_file: str
    identifier: str | None
    email: str | None  # None once nothing waited to be sent and people's data was removed
    event_type: str
    left_at: datetime | None  # when the request left; None where another run made it


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of decisions: how many hold, the keys to be sent again, and why others do not apply."""

    decided: int
    ordered: frozenset[bytes]
    refused: tuple[tuple[UnknownEvent, Unresolvable], ...]


def unknown_events(
    folder: RunFolder, ledger: Ledger, account: int, *, only: frozenset[str] | None, decided: bool
) -> list[UnknownEvent]:
    """Give a run's events in doubt, in input order.

    Args:
        folder: The run; without its bodies, events have no contact to show.
        ledger: Where their lines stand.
        account: Whose they are.
        only: Ids or row numbers to which the choice is limited.
        decided: Give those that a person has decided already instead of those still open.
    """
    return [
        event
        for event in _doubtful(folder, ledger, account, decided=decided)
        if only is None or event.identifier in only or str(event.row_number) in only
    ]


def decide_all(
    ledger: Ledger,
    account: int,
    decisions: Sequence[tuple[UnknownEvent, str, str]],
    *,
    by: str,
    now: datetime,
) -> Decided:
    """Apply decisions one by one, each compared with the line as it stands at that moment."""
    refused = []
    ordered: set[bytes] = set()
    for event, decision, why in decisions:
        reason = ledger.resolve(account, event.key, event.sha, Decision(decision, by, why), now=now)
        if reason is not None:
            refused.append((event, reason))
        elif decision == "resend":
            ordered.add(event.key)
    return Decided(len(decisions) - len(refused), frozenset(ordered), tuple(refused))


def _doubtful(
    folder: RunFolder, ledger: Ledger, account: int, *, decided: bool
) -> Iterator[UnknownEvent]:
    paths = [export["path"] for export in folder.facts["exports"]]
    left = {one.request: one.marked_at for one in ledger.requests_of(folder.run_id)}
    for events in _with_emails(folder):
        lines = ledger.lines(account, events["event_key"].to_list())
        chosen = [
            key
            for key, line in lines.items()
            if line.doubt and (line.resend is not None or line.held is not None) is decided
        ]
        here = events.filter(
            pl.col("event_key").is_in(pl.Series(chosen, dtype=pl.Binary).implode())
        )
        places = _places(folder, here[ROW])
        for row, key, sha, identifier, email, event_type in here.select(
            ROW, "event_key", "payload_sha256", "identifier", "email", "event_type"
        ).iter_rows():
            if lines[key].uuid_of(sha) is None:
                export, number = places[row]
                yield UnknownEvent(
                    key,
                    sha,
                    number,
                    paths[export],
                    identifier,
                    email,
                    event_type,
                    left.get(lines[key].doubt[-1].of),
                )


def _with_emails(folder: RunFolder) -> Iterator[pl.DataFrame]:
    if folder.has_bodies:
        return folder.bodies()
    return (
        events.with_columns(pl.lit(None, pl.String).alias("email")) for events in folder.planned()
    )


def _places(folder: RunFolder, rows: pl.Series) -> dict[int, tuple[int, int]]:
    if rows.is_empty():
        return {}
    found: dict[int, tuple[int, int]] = {}
    for placed in folder.placed_rows():
        hits = placed.filter(pl.col(ROW).is_in(rows.implode()) & pl.col(EVENT).is_not_null())
        found |= {
            row: (export, number)
            for row, export, number in hits.select(ROW, "export", "row_number").iter_rows()
        }
    return found
