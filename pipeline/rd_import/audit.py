"""Run folder + ledger -> the audit Parquet and the rejected rows. It can be made again at any time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rd_import import messages
from rd_import.audit_file import AUDIT_SCHEMA, SCHEMA_VERSION, STATES
from rd_import.errors import JobError
from rd_import.key_line import KeyLine
from rd_import.outcome import PERSONAL, ApiError
from rd_import.places import make_durable, new_file, put_in_place, temporary_of
from rd_import.plan import CONTACT_CONFLICT, Decisions
from rd_import.rejected import RejectedFiles
from rd_import.run_folder import RunFolder
from rd_import.values import EVENT, LEFT_OUT, NAMES_A_ROW, ROW

if TYPE_CHECKING:
    from rd_import.ledger import Ledger, RequestLine, Resolution

NAMES_OF_PEOPLE: Final = {
    "name",
    "email",
    "call_user_email",
    "twitter",
    "facebook",
    "linkedin",
    "company_address",
}
NO_ROW: Final = 2**32 - 1
FORGOTTEN: Final = "rd-import forget: this person was erased and gets nothing"


@dataclass(frozen=True, slots=True)
class Audit:
    """What stands in an audit: rows per state, and the files of rejected rows.

    Of the unknown rows, a person closed `resolved_rows`, and decided about `decided_rows`, which include
    those that are to be sent again.
    """

    states: dict[str, int]
    resolved_rows: int
    decided_rows: int
    rejected_paths: tuple[Path, ...]


def write_audit(
    folder: RunFolder,
    ledger: Ledger | None,
    account: int | None,
    path: Path,
    *,
    stopped: str | None,
) -> Audit:
    """Write every row's fate, and the rows that were rejected.

    Args:
        folder: The run.
        ledger: Where its outcomes stand; None where nothing could have been sent.
        account: Whose keys they are.
        path: The audit's place; written under a temporary name and renamed.
        stopped: Why rows are `not_sent`, in words.

    Raises:
        JobError: The audit cannot be written.
    """
    merge = _Merge(folder, ledger, account, stopped)
    temporary = temporary_of(path)
    rejected = RejectedFiles(folder, path)
    states: Counter[str] = Counter()
    resolved = decided = 0
    try:
        with (
            new_file(temporary) as file,
            pq.ParquetWriter(file, AUDIT_SCHEMA, compression="zstd") as writer,
        ):
            records = folder.records()
            for rows, flaws in folder.flawed_rows():
                table = merge.rows(rows, flaws)
                states.update(dict(table["state"].value_counts().iter_rows()))
                settled = table.filter(state="unknown")["resolved_as"].drop_nulls()
                resolved += int(settled.is_in(["left", "confirmed"]).sum())
                decided += len(settled)
                writer.write_table(table.to_arrow().cast(AUDIT_SCHEMA))
                rejected.add(table, rows["export"], next(records, None))
            if not folder.rows:
                writer.write_table(AUDIT_SCHEMA.empty_table())
            writer.add_key_value_metadata(merge.metadata())
            writer.close()
            make_durable(file, temporary)
        rejected_paths = rejected.close()
        put_in_place(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        rejected.discard()
        raise JobError(
            "cannot_write_audit", path=path, reason=error.strerror or str(error)
        ) from error
    return Audit(
        {state: states[state] for state in STATES if states[state]},
        resolved,
        decided,
        rejected_paths,
    )


class _Merge:
    """Joins what was read with what was recorded, group by group."""

    def __init__(
        self, folder: RunFolder, ledger: Ledger | None, account: int | None, stopped: str | None
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._account = account
        self._stopped = stopped or "the run ended before its turn"
        self._requests = list(ledger.requests_of(folder.run_id)) if ledger else []
        self._refusals = ledger.refusals_of(folder.run_id) if ledger else {}
        self._decisions = Decisions.from_facts(folder.facts["decisions"])
        self._weak = bool(folder.facts["weak_identity"])
        types = folder.facts["event_types"]
        self._only_type = types[0] if len(types) == 1 else None
        self._forgotten = ledger.forgotten() if ledger else frozenset()
        self._decided = bool(ledger and account and ledger.has_resolutions(account))
        self._paths = [export["path"] for export in folder.facts["exports"]]
        size = int(folder.facts["event_ordinals"])
        self._last = np.full(size, -1, dtype=np.int32)
        self._first = np.full(size, -1, dtype=np.int32)
        self._position = np.zeros(size, dtype=np.uint16)  # a body of 200 kB holds some 2,000
        self._attempts = np.zeros(size, dtype=np.uint16)
        for number, request in enumerate(self._requests):
            ordinals = np.frombuffer(request.ordinals, dtype="<u4")
            self._last[ordinals] = number
            self._first[ordinals] = np.where(
                self._first[ordinals] < 0, number, self._first[ordinals]
            )
            self._position[ordinals] = np.arange(len(ordinals))
            self._attempts[ordinals] += 1
        self._request_columns = _request_columns(self._requests)
        self._ranges = folder.event_ranges()
        self._first_bad = self._first_flaws()

    def metadata(self) -> dict[str, str]:
        """Give the run's facts and one entry per request, for the file's key-value metadata."""
        lines = [
            {
                "request": one.request,
                "batch": one.batch,
                "outcome": one.outcome or one.state,
                "http_status": one.http_status,
                "bytes": one.body_bytes,
                "events": len(one.ordinals) // 4,
                "sent_at": one.marked_at.isoformat(),
                "answered_at": one.answered_at and one.answered_at.isoformat(),
            }
            for one in self._requests
        ]
        return {
            "rd_import.schema_version": str(SCHEMA_VERSION),
            "rd_import.run": json.dumps(self._folder.facts, ensure_ascii=False, default=str),
            "rd_import.requests": json.dumps(lines),
            "rd_import.ledger_id": self._ledger.ledger_id if self._ledger else "",
            "rd_import.scope": self._ledger.scope(self._account)
            if self._ledger and self._account
            else "",
            "rd_import.assumption": "a refused request has accepted none of its events",
        }

    def rows(self, placed: pl.DataFrame, flaws: pl.DataFrame) -> pl.DataFrame:
        """Give the audit's lines of one group of rows, which have these flaws."""
        events = self._events(placed)
        problems = pl.DataFrame(
            self._problem_lines(placed, flaws), schema=_PROBLEM_SCHEMA, orient="row"
        )
        paths = pl.Series(self._paths, dtype=pl.String)
        table = (
            placed.join(events, on=EVENT, how="left", maintain_order="left")
            .join(problems, on=ROW, how="left", maintain_order="left")
            .with_columns(
                paths.gather(placed["export"]).alias("source_file"),
                pl.lit(self._folder.run_id).alias("run_id"),
                pl.coalesce("event_type", pl.lit(self._only_type)).alias("event_type"),
            )
        )
        chosen = []
        for name, kind in zip(AUDIT_SCHEMA.names, AUDIT_SCHEMA.types, strict=True):
            found = [pl.col(column) for column in (f"p_{name}", name) if column in table.columns]
            dtype = pl.Series(pa.array([], kind)).dtype
            chosen.append((pl.coalesce(found) if found else pl.lit(None)).cast(dtype).alias(name))
        return table.select(chosen)

    def _first_flaws(self) -> np.ndarray:
        """Give each event's first bad row: (event ordinals,) uint32, `NO_ROW` where it has none."""
        first = np.full(int(self._folder.facts["event_ordinals"]), NO_ROW, dtype=np.uint32)
        for placed, flaws in self._folder.flawed_rows():
            if flaws.is_empty():
                continue
            bad = flaws.filter(pl.col("fatal"))[ROW].unique()
            hit = placed.filter(pl.col(EVENT).is_not_null() & pl.col(ROW).is_in(bad.implode()))
            np.minimum.at(first, hit[EVENT].to_numpy(), hit[ROW].to_numpy())
        return first

    def _problem_lines(
        self, placed: pl.DataFrame, flaws: pl.DataFrame
    ) -> Iterator[tuple[Any, ...]]:
        """Give the reason of each invalid row: its own, or that of a sibling in the same event."""
        fatal = flaws.filter(pl.col("fatal")).unique(ROW, keep="first", maintain_order=True)
        siblings = self._siblings(placed, fatal)
        if fatal.is_empty() and siblings.is_empty():
            return
        places = {
            row: (self._paths[export], number, line)
            for row, export, number, line in placed.select(
                ROW, "export", "row_number", "line_number"
            ).iter_rows()
        }
        for row, code, field, value, limit in fatal.select(
            ROW, "code", "field", "value", "limit"
        ).iter_rows():
            place = self._place_of(int(limit), places) if code in NAMES_A_ROW else ""
            what, hint = messages.problem(
                code,
                field=field,
                value=value,
                limit=limit,
                event_type=self._folder.facts["event_type"],
                place=place,
            )
            yield (
                row,
                "filtered" if code in LEFT_OUT else "invalid",
                code,
                self._column_of(field),
                masked(field, value),
                what,
                hint,
                str(limit) if code == "FILTERED" else f"{code} before sending",
            )
        for row, sibling in siblings.iter_rows():
            what, hint = messages.problem(
                "SIBLING_INVALID",
                field=None,
                value=None,
                limit=None,
                event_type="",
                place=self._place_of(sibling, places),
            )
            yield (
                row,
                "invalid",
                "SIBLING_INVALID",
                None,
                None,
                what,
                hint,
                "SIBLING_INVALID before sending",
            )

    def _siblings(self, placed: pl.DataFrame, fatal: pl.DataFrame) -> pl.DataFrame:
        """Give the rows without a flaw whose event has one, each with the event's first bad row."""
        rows = placed.filter(pl.col(EVENT).is_not_null()).select(ROW, EVENT)
        bad = pl.Series("bad", self._first_bad[rows[EVENT].to_numpy()])
        rows = rows.select(ROW).with_columns(bad).filter(bad != NO_ROW)
        return rows.filter(~pl.col(ROW).is_in(fatal[ROW].implode()))

    def _place_of(self, row: int, places: Mapping[int, tuple[str, int, int | None]]) -> str:
        if row not in places:
            for placed in self._folder.placed_rows():
                hit = placed.filter(pl.col(ROW) == row)
                if hit.height:
                    export, number, line = hit.select("export", "row_number", "line_number").row(0)
                    places = {row: (self._paths[export], number, line)}
                    break
        return messages.place(*places[row])

    def _column_of(self, field: str | None) -> str | None:
        """Name the file's own column where the field has one."""
        return None if field is None else self._folder.facts["fields"].get(field, field)

    def _events(self, placed: pl.DataFrame) -> pl.DataFrame:
        """Give the lines of the events that some rows belong to."""
        found = [pl.DataFrame(schema=_EVENT_SCHEMA)]
        wanted = placed[EVENT].drop_nulls().unique()
        if wanted.is_empty():
            return found[0]
        numbers = wanted.to_numpy()
        low, high = numbers.min(), numbers.max()
        near = [
            at for at, (first, last) in enumerate(self._ranges) if first <= high and last >= low
        ]
        for planned in self._folder.planned_with_contacts(near):
            here = planned.filter(pl.col(EVENT).is_in(wanted.implode()))
            if (
                self._ledger is not None
                and self._account is not None
                and not self._decided
                and not self._forgotten
            ):
                keys = here["event_key"].to_list()
                uuids = self._ledger.settled(self._account, keys, here["payload_sha256"])
                settled = here.with_columns(uuids.alias("event_uuid")).filter(uuids.is_not_null())
                found.append(self._settled_lines(settled))
                here = here.filter(uuids.is_null())
            found.append(pl.DataFrame(self._event_lines(here), schema=_EVENT_SCHEMA, orient="row"))
        return pl.concat(found)

    def _settled_lines(self, events: pl.DataFrame) -> pl.DataFrame:
        """Give the lines of events that were accepted, and of which nothing else is known, all at once."""
        ordinals = events[EVENT].to_numpy()
        last, first = (
            pl.Series(numbers[ordinals]).replace(-1, None) for numbers in (self._last, self._first)
        )
        request = self._request_columns
        here = request["outcome"].gather(last).eq("accepted").fill_null(value=False)
        position = pl.Series(self._position[ordinals], dtype=pl.Int32)
        lines = events.with_columns(
            pl.col("event_key", "contact", "payload_sha256").bin.encode("hex"),
            pl.when(here)
            .then(pl.lit("accepted"))
            .otherwise(pl.lit("already_accepted"))
            .alias("state"),
            pl.when(here)
            .then(request["proof"].gather(last))
            .otherwise(pl.lit("accepted by an earlier request"))
            .alias("proof"),
            pl.when(here).then(request["event_batch_uuid"].gather(last)).alias("event_batch_uuid"),
            pl.when(last.is_not_null()).then(position).alias("batch_index"),
            pl.Series("attempts", self._attempts[ordinals], dtype=pl.Int32),
            request["first_sent_at"].gather(first),
            *(
                request[name].gather(last)
                for name in ("batch_number", "answered_at", "http_status")
            ),
        )
        nothing = [name for name in _EVENT_SCHEMA if name not in lines.columns]
        return (
            lines.with_columns(pl.lit(None).alias(name) for name in nothing)
            .select(list(_EVENT_SCHEMA))
            .cast(pl.Schema(_EVENT_SCHEMA))
        )

    def _event_lines(self, events: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
        lines, decided = self._known(events["event_key"].to_list())
        for ordinal, event_type, key, sha, identifier, timestamp, contact in events.select(
            EVENT,
            "event_type",
            "event_key",
            "payload_sha256",
            "identifier",
            "source_timestamp",
            "contact",
        ).iter_rows():
            fate = self._fate(ordinal, sha, lines.get(key, KeyLine()), contact, timestamp)
            resolved = self._resolved(decided.get(key))
            yield (
                ordinal,
                event_type,
                key.hex(),
                None if contact in self._forgotten else contact and contact.hex(),
                None if contact in self._forgotten else identifier,
                sha.hex(),
                timestamp,
                *fate,
                *resolved,
            )

    def _known(
        self, wanted: list[bytes]
    ) -> tuple[Mapping[bytes, KeyLine], Mapping[bytes, Resolution]]:
        if self._ledger is None or self._account is None:
            return {}, {}
        lines = self._ledger.lines(self._account, wanted)
        return lines, self._ledger.resolutions(self._account, list(lines)) if self._decided else {}

    @staticmethod
    def _resolved(decision: Resolution | None) -> tuple[Any, ...]:
        """Give a person's last decision on a key, unless it was withdrawn."""
        if decision is None or decision.decision == "withdraw":
            return None, None, None, None
        return decision.decision, decision.by, decision.at, decision.why

    def _fate(
        self,
        ordinal: int,
        sha: bytes,
        line: KeyLine,
        contact: bytes | None,
        timestamp: datetime | None,
    ) -> tuple[Any, ...]:
        """Give state, proof, uuid, request facts, error and times of one event."""
        last = self._requests[self._last[ordinal]] if self._last[ordinal] >= 0 else None
        first = self._requests[self._first[ordinal]] if last else None
        state, proof, error = self._state(ordinal, sha, line, contact, timestamp, last)
        what: str | None = error.message if error else None
        code = "RATE_LIMIT" if state == "deferred" else error.code if error else ""
        hint = messages.advice(code)
        if state == "invalid":
            what, hint = messages.problem(proof, field=None, value=None, limit=None, event_type="")
        return (
            state,
            f"{proof} before sending" if state == "invalid" else proof,
            line.uuid_of(sha),
            last.batch_uuid if last and state == "accepted" else None,
            last.batch if last else None,
            int(self._position[ordinal]) if last else None,
            int(self._attempts[ordinal]),
            first.marked_at if first else None,
            last.answered_at if last else None,
            last.http_status if last else None,
            error.code if error else proof if state == "invalid" else None,
            error.path if error else None,
            what,
            hint,
            line.not_before if state == "deferred" else None,
        )

    def _state(
        self,
        ordinal: int,
        sha: bytes,
        line: KeyLine,
        contact: bytes | None,
        timestamp: datetime | None,
        last: RequestLine | None,
    ) -> tuple[str, str, ApiError | None]:
        """Give an event's state, why it is in it, and RD Station's error, from what the ledger holds of its key."""
        last_proof = (last.proof if last else None) or ""
        if last is None and contact in self._forgotten:
            return "filtered", FORGOTTEN, None
        if line.uuid_of(sha) is not None:
            if last is not None and last.outcome == "accepted":
                return "accepted", last_proof, None
            return "already_accepted", "accepted by an earlier request", None
        if last is None:
            past = self._decisions.past_before
            if past is not None and timestamp is not None and timestamp < past:
                return "filtered", f"--past skip: older than {past:%Y-%m-%d %H:%M} UTC", None
            if line.is_bound and None not in {line.contact, contact} and line.contact != contact:
                return "invalid", CONTACT_CONFLICT, None
        if line.request is not None:
            return "unknown", f"run {self._run_of(line.request)} is sending it", None
        if line.doubt:
            other = (
                ""
                if any(fact.sha == sha for fact in line.doubt)
                else "; another content of the same key is in doubt"
            )
            return (
                "unknown",
                (last_proof or "an earlier request got no usable answer") + other,
                None,
            )
        if line.accepted:
            if self._decisions.repeats == "skip" and self._weak:
                return (
                    "already_accepted",
                    "--repeats skip: another file brought the same event",
                    None,
                )
            error = self._refusal(last, ordinal)
            return (
                ("refused", last_proof, error)
                if error
                else ("changed", "its key was accepted with other content", None)
            )
        if line.why == "refused" and last is not None:
            return "refused", last_proof, self._refusal(last, ordinal)
        if line.why == "deferred":
            return "deferred", last_proof or "the contact has had its share of events", None
        return "not_sent", last_proof or self._stopped, None

    def _refusal(self, last: RequestLine | None, ordinal: int) -> ApiError | None:
        return (
            None
            if last is None
            else self._refusals.get((last.request, int(self._position[ordinal])))
        )

    def _run_of(self, request: str) -> str:
        found = self._ledger.run_of(request) if self._ledger else None
        return found or "of another process"


def _request_columns(requests: Sequence[RequestLine]) -> pl.DataFrame:
    """Give what an audit says of each request of a run, in the order in which they were marked."""
    lines = [
        (
            one.outcome,
            one.proof or "",
            one.batch_uuid,
            one.batch,
            one.marked_at,
            one.answered_at,
            one.http_status,
        )
        for one in requests
    ]
    schema: dict[str, Any] = {
        "outcome": pl.String,
        "proof": pl.String,
        "event_batch_uuid": pl.String,
        "batch_number": pl.Int32,
        "first_sent_at": pl.Datetime("us", "UTC"),
        "answered_at": pl.Datetime("us", "UTC"),
        "http_status": pl.Int32,
    }
    return pl.DataFrame(lines, schema=schema, orient="row")


_EVENT_SCHEMA: Final[dict[str, Any]] = {
    EVENT: pl.UInt32,
    "event_type": pl.String,
    "event_key": pl.String,
    "contact": pl.String,
    "identifier": pl.String,
    "payload_sha256": pl.String,
    "source_timestamp": pl.Datetime("us", "UTC"),
    "state": pl.String,
    "proof": pl.String,
    "event_uuid": pl.String,
    "event_batch_uuid": pl.String,
    "batch_number": pl.Int32,
    "batch_index": pl.Int32,
    "attempts": pl.Int32,
    "first_sent_at": pl.Datetime("us", "UTC"),
    "answered_at": pl.Datetime("us", "UTC"),
    "http_status": pl.Int32,
    "error_code": pl.String,
    "error_column": pl.String,
    "error_message": pl.String,
    "hint": pl.String,
    "not_before": pl.Datetime("us", "UTC"),
    "resolved_as": pl.String,
    "resolved_by": pl.String,
    "resolved_at": pl.Datetime("us", "UTC"),
    "resolved_why": pl.String,
}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    ROW: pl.UInt32,
    "p_state": pl.String,
    "p_error_code": pl.String,
    "p_error_column": pl.String,
    "p_error_value": pl.String,
    "p_error_message": pl.String,
    "p_hint": pl.String,
    "p_proof": pl.String,
}


def masked(field: str | None, value: str | None) -> str | None:
    """Show enough of a wrong value to find it, and no person's data."""
    if value is None:
        return None
    if field is not None and field in NAMES_OF_PEOPLE:
        return re.sub(r"[^\W_]", "x", value[1:]).join((value[:1], ""))
    return PERSONAL.sub("[…]", value)
