"""Run folder -> what a person should know before anything is sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rd_import import messages
from rd_import.plan import LOWEST_CONTACT_LIMIT, Standing
from rd_import.run_folder import SIZE, RunFolder
from rd_import.values import LEFT_OUT, NAMES_A_ROW, REMARKS, ROW

if TYPE_CHECKING:
    from rd_import.ledger import Ledger

EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """Rows with one flaw in one column. `places` names up to three of them; `fatal` rows do not go."""

    code: str
    column: str | None
    rows: int
    fatal: bool
    message: str
    hint: str
    places: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would send, computed from its folder; sending reads the same folder."""

    rows: int
    events: int
    event_type: str
    invalid_rows: int
    already_accepted: int | None  # None: there is no ledger to look in
    requests: int
    bytes: int
    minutes: float
    exports: tuple[Mapping[str, Any], ...]
    fields: Mapping[str, str]
    constants: Mapping[str, str]
    derived: tuple[str, ...]
    unmatched: tuple[str, ...]
    how: Mapping[str, str]
    proposed: Mapping[str, str]
    suggested: Mapping[str, Mapping[str, str]]
    mapping: str
    event_types: Mapping[str, int]
    filtered: Mapping[str, int]
    contacts: int
    legal_bases: Mapping[str, int]
    problems: tuple[Cause, ...]
    payloads: tuple[str, ...] = field(repr=False)  # people's data
    past: int
    repeats: int
    same_content: int
    twins: int
    reasons: Mapping[str, int]
    dated: bool
    undated: int  # events without a date that could be read, although one is mapped
    one_each: bool
    to_send: int  # events that nothing holds back as the ledger stands
    crowded: int  # contacts with more events here than `contact_limit`
    contact_limit: int  # in 24 hours: what a 429 taught, else the lowest that was seen
    asked_past: str | None
    max_age_days: float
    run_id: str
    run_folder: Path | None = None  # where it was kept
    questions: tuple[str, ...] = ()  # what only a person can decide; nothing goes before

    @property
    def exit_code(self) -> int:
        """Give what `check` ends with: 0, 3 (some rows are invalid) or 7 (nothing would be sent)."""
        return 7 if self.questions else 3 if self.invalid_rows else 0

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for `--json`; payloads stay out, they are people's data."""
        plain = asdict(self)
        for name in ("payloads", "run_id", "run_folder", "questions"):
            plain.pop(name)
        for problem in plain["problems"]:
            problem.pop("values")
        return plain


def preview(
    folder: RunFolder,
    ledger: Ledger | None,
    account: int | None,
    stands: Standing,
    *,
    max_body: int,
    per_minute: float,
    one_each: bool = False,
) -> Preview:
    """Sum a run up.

    Args:
        folder: What the first half wrote.
        ledger: Where earlier runs are recorded, if there is a ledger yet.
        account: Whose record counts.
        stands: How the events stand in the ledger.
        max_body: Largest request body in bytes.
        per_minute: Requests that the account may make a minute.
        one_each: Each event is a request of its own, as with an API key.
    """
    facts = folder.facts
    known, packing = 0, _Packing(max_body, one_each=one_each)
    emails: list[np.ndarray] = []
    learnt = ledger.facts(account).max_per_contact if ledger and account else None
    payloads: list[str] = []
    for events in folder.bodies():
        payloads += payload_lines(events["body"].head(EXAMPLES - len(payloads)).to_list())
        if len(payloads) == EXAMPLES:
            break
    for at, events in enumerate(folder.addressed()):
        emails.append(events["email"].hash().to_numpy())
        lengths = events[SIZE]
        if stands.accepted:
            accepted = np.unpackbits(stands.accepted[at], count=events.height).astype(bool)
            known += int(accepted.sum())
            lengths = lengths.filter(~accepted)
        packing.add(lengths.to_numpy())
    contacts, crowded = _contacts(emails, learnt or LOWEST_CONTACT_LIMIT)
    return Preview(
        rows=folder.rows,
        events=folder.events,
        event_type=facts["event_type"],
        invalid_rows=facts["invalid_rows"],
        already_accepted=known if ledger else None,
        requests=packing.requests,
        bytes=packing.bytes,
        minutes=round(packing.requests / per_minute, 1),
        exports=tuple(facts["exports"]),
        fields=facts["fields"],
        constants=facts["constants"],
        derived=tuple(facts["derived"]),
        unmatched=tuple(facts["unmatched"]),
        how=facts["how"],
        proposed=facts["proposed"],
        suggested=facts["suggested"],
        mapping=facts["mapping"],
        event_types=_by_type(folder),
        filtered=_filtered(folder),
        contacts=contacts,
        legal_bases=facts["legal_bases"],
        problems=tuple(_causes(folder)),
        payloads=tuple(payloads),
        past=stands.past,
        repeats=stands.repeats,
        same_content=stands.same_content,
        twins=stands.twins,
        reasons=stands.reasons,
        dated=facts["dated"],
        undated=_undated(folder) if facts["dated"] else 0,
        one_each=one_each,
        to_send=stands.to_send(folder.events, past=facts["asked"]["past"] != "skip"),
        crowded=crowded,
        contact_limit=learnt or LOWEST_CONTACT_LIMIT,
        asked_past=facts["asked"]["past"],
        max_age_days=facts["asked"]["max_age_days"],
        run_id=folder.run_id,
    )


class _Packing:
    """Counts the bodies that `pack` would fill, without the events: next-fit on their lengths, group by group."""

    def __init__(self, max_body: int, *, one_each: bool) -> None:
        self.requests = 0
        self.bytes = 0
        self._max_body = max_body
        self._one_each = one_each
        self._size = (
            max_body  # of the body that is being filled: full, so that the first event opens one
        )

    def add(self, lengths: np.ndarray) -> None:
        """Take the next events, by the bytes of each."""
        taken = lengths.astype(np.int64) + 1  # each ends with a comma or the closing bracket
        self.bytes += int(taken.sum())
        if self._one_each:
            self.requests += len(taken)
            self.bytes += len(taken)
            return
        ends = np.cumsum(taken)
        at, before = 0, 0
        while True:
            fit = int(np.searchsorted(ends, before + self._max_body - self._size, side="right"))
            if fit > at:
                self._size += int(ends[fit - 1]) - before
                at, before = fit, int(ends[fit - 1])
            if at == len(ends):
                return
            self.requests, self.bytes = self.requests + 1, self.bytes + 1
            self._size = 1 + int(taken[at])  # an event that is larger alone goes all the same
            at, before = at + 1, int(ends[at])


def _by_type(folder: RunFolder) -> dict[str, int]:
    """Count the events of each type."""
    found = dict.fromkeys(folder.facts["event_types"], 0)
    for events in folder.planned():
        for name, count in events["event_type"].value_counts().iter_rows():
            found[name] += count
    return found


def _undated(folder: RunFolder) -> int:
    """Count the events of which nobody can say how old they are."""
    return sum(events["source_timestamp"].null_count() for events in folder.planned())


def _filtered(folder: RunFolder) -> dict[str, int]:
    """Count the rows that each rule leaves out."""
    found: Counter[str] = Counter()
    for problems in folder.problems():
        hit = problems.filter(pl.col("code") == "FILTERED")
        found.update(dict(hit.group_by("limit", maintain_order=True).len().iter_rows()))
    return dict(found)


def _contacts(hashes: list[np.ndarray], limit: int) -> tuple[int, int]:
    """Count contacts, and those with more events than the limit, in the memory of two copies of their hashes."""
    if not hashes:
        return 0, 0
    every = np.concatenate(hashes)
    hashes.clear()
    every.sort()
    starts = np.flatnonzero(np.append(True, every[1:] != every[:-1]))
    events = np.diff(np.append(starts, len(every)))
    return len(starts), int(np.count_nonzero(events > limit))


def _causes(folder: RunFolder) -> list[Cause]:
    own_limit = pl.col("code").is_in(
        [
            *NAMES_A_ROW,
            "TOO_MANY_ITEMS",
            "EVENT_TOO_LARGE",
            "WRONG_NUMBER_OF_CELLS",
            "ITEMS_CUT",
            *REMARKS,
        ]
    )
    same = ("code", "field", "rule", "fatal")
    parts = [
        problems.filter(~pl.col("code").is_in(LEFT_OUT))
        .with_columns(pl.when(~own_limit).then(pl.col("limit")).alias("rule"))
        .group_by(same, maintain_order=True)
        .agg(
            pl.col(ROW).n_unique().alias("rows"),
            pl.col(ROW).unique(maintain_order=True).head(EXAMPLES).alias("first"),
            pl.col("value").drop_nulls().unique(maintain_order=True).head(EXAMPLES).alias("values"),
            pl.col("value").first().alias("value"),
            pl.col("limit").first().alias("limit"),
        )
        for problems in folder.problems()
    ]
    if not any(part.height for part in parts):
        return []
    listed = {
        name: pl.col(name).explode(empty_as_null=False).unique(maintain_order=True).head(EXAMPLES)
        for name in ("first", "values")
    }
    causes = (
        pl.concat(parts)
        .group_by(same, maintain_order=True)
        .agg(pl.col("rows").sum(), *listed.values(), pl.col("value", "limit").first())
    )
    wanted = {row for rows in causes["first"] for row in rows}
    wanted |= set(
        causes.filter(pl.col("code").is_in(NAMES_A_ROW))["limit"].cast(pl.Int64).to_list()
    )
    places = _places(folder, wanted)
    fed = {name for part in ("fields", "constants", "derived") for name in folder.facts[part]}
    found = []
    for line in causes.sort("fatal", "rows", descending=True, maintain_order=True).iter_rows(
        named=True
    ):
        place = places.get(int(line["limit"]), "") if line["code"] in NAMES_A_ROW else ""
        what, hint = messages.problem(
            line["code"],
            field=line["field"],
            value=line["value"],
            limit=line["limit"],
            event_type=folder.facts["event_type"],
            place=place or messages.word("earlier_line"),
        )
        if line["code"] == "REQUIRED_WITH" and line["field"] not in fed:
            hint = messages.say("preview.no_feed", field=line["field"])
        found.append(
            Cause(
                line["code"],
                folder.facts["fields"].get(line["field"], line["field"]),
                line["rows"],
                line["fatal"],
                what,
                hint,
                tuple(places[row] for row in line["first"]),
                tuple(line["values"]),
            )
        )
    return found


def _places(folder: RunFolder, wanted: set[int]) -> dict[int, str]:
    """Name rows by file and physical line, or by row where a file has no lines."""
    names = [export["path"] for export in folder.facts["exports"]]
    found: dict[int, str] = {}
    rows = pl.Series(sorted(wanted), dtype=pl.UInt32)
    for placed in folder.placed_rows():
        hits = placed.filter(pl.col(ROW).is_in(rows.implode()))
        for row, export, number, line in hits.select(
            ROW, "export", "row_number", "line_number"
        ).iter_rows():
            found[row] = messages.place(names[export], number, line)
        if len(found) == len(wanted):
            break
    return found


def payload_lines(bodies: list[bytes]) -> list[str]:
    """Pretty-print the first payloads."""
    return [json.dumps(json.loads(body), ensure_ascii=False, indent=2) for body in bodies]
