"""Run folder + ledger -> the audit Parquet and the rejected rows. It can be made again at any time."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
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
from rd_import.errors import ExportError, JobError
from rd_import.key_line import Fact, KeyLine
from rd_import.outcome import PERSONAL, ApiError, is_uuid
from rd_import.places import make_durable, new_file, place_of, put_in_place, temporary_of
from rd_import.plan import CONTACT_CONFLICT, Decisions
from rd_import.run_folder import ERASED, RunFolder
from rd_import.values import EVENT, LEFT_OUT, NAMES_A_ROW, REASON_COLUMNS, ROW

if TYPE_CHECKING:
    import pandas as pd

    from rd_import.ledger import Ledger, RequestLine, Resolution

SCHEMA_VERSION: Final = 1
STATES: Final = (
    "accepted",
    "already_accepted",
    "changed",
    "filtered",
    "invalid",
    "refused",
    "unknown",
    "deferred",
    "not_sent",
)
_TIME: Final = pa.timestamp("us", tz="UTC")
AUDIT_SCHEMA: Final = pa.schema(
    [
        ("source_file", pa.string()),
        ("row_number", pa.int64()),  # 1-based data row in its file
        ("line_number", pa.int64()),  # physical line of the row's first byte; null for Parquet
        ("state", pa.string()),
        ("proof", pa.string()),  # why it is in that state
        ("event_type", pa.string()),
        ("event_key", pa.string()),  # hex
        ("contact", pa.string()),  # keyed hash, hex
        ("identifier", pa.string()),
        ("event_uuid", pa.string()),
        ("event_batch_uuid", pa.string()),
        ("batch_number", pa.int32()),
        ("batch_index", pa.int32()),  # 0-based position in the request body that was sent
        ("payload_sha256", pa.string()),  # hex
        ("attempts", pa.int32()),  # requests of this run that carried the event
        ("source_timestamp", _TIME),
        ("first_sent_at", _TIME),
        ("answered_at", _TIME),
        ("http_status", pa.int32()),
        ("error_code", pa.string()),
        ("error_column", pa.string()),
        ("error_value", pa.string()),  # masked
        ("error_message", pa.string()),
        ("hint", pa.string()),
        ("not_before", _TIME),
        ("resolved_as", pa.string()),
        ("resolved_by", pa.string()),
        ("resolved_at", _TIME),
        ("resolved_why", pa.string()),
        ("run_id", pa.string()),
    ]
)
"""One line per input row, in input order. Columns are added at the end, never removed or renamed."""

PERSONAL_COLUMNS: Final = ("identifier", "error_value", "error_message", "resolved_why")
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
REJECTED: Final = {"invalid", "refused"}


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


SHA_BYTES: Final = 32
NO_AUDIT: Final = (
    pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError,
)  # fmt: skip
"""What reading an audit that is none, is damaged or was forged may end in."""


def undecided_rows(path: Path) -> int | None:
    """Count the unknown rows of an audit about which nobody decided yet; None where it cannot be read."""
    try:
        with path.open("rb") as source:
            table = pq.read_table(source, columns=["state", "resolved_as"])
    except NO_AUDIT:
        return None
    open_ones = (pl.col("state") == "unknown") & pl.col("resolved_as").is_null()
    return pl.DataFrame(pl.from_arrow(table)).filter(open_ones).height


def claim_audit_path(path: Path, *, named: bool) -> None:
    """Make sure that an audit can be written before anything is sent.

    Raises:
        JobError: Its folder cannot be written, or another audit stands there and was not named.
    """
    probe = temporary_of(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not named:
            raise JobError("audit_exists", path=path)
        new_file(probe).close()
        probe.unlink()
    except OSError as error:
        raise JobError(
            "cannot_write_audit", path=path, reason=error.strerror or str(error)
        ) from error


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
    rejected = _RejectedFiles(folder, path)
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


def harmless(text: str) -> str:
    """Keep a spreadsheet from running a text of ours, which may quote the file, as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def forget_in_audit(path: Path, contact: bytes, email: str) -> int:
    """Erase a person from an audit: their keyed hash, and every text beside it that may name them.

    Args:
        path: The audit.
        contact: Their hash, keyed with the secret of the ledger that the audit belongs to.
        email: In lower case.

    Returns:
        How many rows were theirs.

    Raises:
        OSError: It cannot be read or written.
        pa.ArrowException: It is no whole Parquet file.
    """
    erased = 0
    temporary = temporary_of(path)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as old, new_file(temporary) as file:
            with pq.ParquetWriter(
                file, old.schema_arrow.remove_metadata(), compression="zstd"
            ) as new:
                for batch in old.iter_batches():
                    batch.validate(full=True)  # polars trusts its input, down to the UTF-8
                    table = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                    texts = [name for name in PERSONAL_COLUMNS if name in table.columns]
                    named = [
                        pl.col(one).str.to_lowercase().str.contains(email, literal=True)
                        for one in texts
                    ]
                    hit = table.select(
                        pl.any_horizontal(pl.col("contact") == contact.hex(), *named).fill_null(
                            value=False
                        )
                    ).to_series()
                    erased += int(hit.sum())
                    table = table.with_columns(
                        pl.when(~hit).then(pl.col(name)).alias(name) for name in ("contact", *texts)
                    )
                    new.write_table(table.to_arrow().cast(old.schema_arrow.remove_metadata()))
                given = old.metadata.metadata or {}
                facts = {
                    k.decode(): v.decode() for k, v in given.items() if k.startswith(b"rd_import.")
                }
                new.add_key_value_metadata(
                    {
                        k: re.sub(re.escape(email), ERASED, v, flags=re.IGNORECASE)
                        for k, v in facts.items()
                    }
                )
            make_durable(file, temporary)
        if erased:
            put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return erased


def rejected_files_of(path: Path, inputs: int) -> Iterator[Path]:
    """Name the files of rejected rows that may stand beside an audit of so many inputs."""
    base = path.with_name(path.name.removesuffix(".parquet").removesuffix(".audit"))
    for number in range(inputs):
        name = (
            f"{base.name}.rejected.csv" if inputs == 1 else f"{base.name}.{number + 1}.rejected.csv"
        )
        yield base.with_name(name)


class _RejectedFiles:
    """One file per input with all rows of every rejected event: their own bytes, plus reason columns."""

    def __init__(self, folder: RunFolder, audit: Path) -> None:
        self._exports = folder.facts["exports"]
        self._paths = list(rejected_files_of(audit, len(self._exports)))
        self._files: dict[int, tuple[Path, Any]] = {}

    def add(self, table: pl.DataFrame, exports: pl.Series, records: pl.Series | None) -> None:
        if records is None:
            return
        chosen = table.select(
            "state", "error_code", "error_column", "error_message", "hint"
        ).with_columns(exports.alias("export"), records.alias("record"))
        chosen = chosen.filter(pl.col("state").is_in(REJECTED))
        for state, code, column, message, hint, export, record in chosen.iter_rows():
            del state
            if record:  # none is left of a person who was erased
                self._write(export, record, (code, column, message, hint))

    def close(self) -> tuple[Path, ...]:
        """Give each file its name, now that it is whole."""
        for path, file in self._files.values():
            make_durable(file, temporary_of(path))
            file.close()
            put_in_place(temporary_of(path), path)
        return tuple(path for path, _ in self._files.values())

    def discard(self) -> None:
        """Leave nothing half-written behind."""
        for path, file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
            temporary_of(path).unlink(missing_ok=True)

    def _write(self, export: int, record: bytes, reasons: tuple[str | None, ...]) -> None:
        facts = self._exports[export]
        if export not in self._files:
            path = self._paths[export]
            file = new_file(temporary_of(path))
            file.write(bytes.fromhex(facts.get("bom") or ""))
            self._files[export] = (path, file)
            if facts["header_record"]:
                self._write(export, facts["header_record"].encode("latin-1"), REASON_COLUMNS)
        encoding, delimiter = facts.get("encoding") or "utf-8", facts.get("delimiter") or ","
        end = b"\r\n" if record.endswith(b"\r\n") else b"\n"
        ours = "".join(
            delimiter + '"' + harmless(" ".join((reason or "").split())).replace('"', '""') + '"'
            for reason in reasons
        )
        line = record.rstrip(b"\r\n") + ours.encode(facts["record_encoding"], "replace") + end
        if facts["record_encoding"] != encoding:
            line = line.decode(facts["record_encoding"]).encode(encoding)
        self._files[export][1].write(line)


OPEN_SCHEMA: Final = pa.schema(
    [
        ("event_key", pa.string()),
        ("payload_sha256", pa.string()),
        ("event_type", pa.string()),
        ("state", pa.string()),
    ]
)


def open_audit_path(path: Path) -> Path:
    """Name the open audit that stands beside an audit while its run sends."""
    return path.with_name(path.name + ".open")


def write_open_audit(folder: RunFolder, ledger: Ledger, account: int, path: Path) -> None:
    """Write every key of a run durably beside its audit, before the first byte leaves.

    Should the ledger be lost while the run sends, `ledger add` puts each of these keys in doubt.

    Raises:
        JobError: The place cannot be written.
    """
    target = open_audit_path(path)
    temporary = temporary_of(target)
    facts = {
        "rd_import.schema_version": str(SCHEMA_VERSION),
        "rd_import.ledger_id": ledger.ledger_id,
        "rd_import.scope": ledger.scope(account),
        "rd_import.run": json.dumps({"run_id": folder.run_id}),
    }
    try:
        with new_file(temporary) as file:
            with pq.ParquetWriter(
                file, OPEN_SCHEMA.with_metadata(facts), compression="zstd"
            ) as writer:
                for events in folder.planned():
                    table = events.select(
                        pl.col("event_key").bin.encode("hex"),
                        pl.col("payload_sha256").bin.encode("hex"),
                        "event_type",
                        pl.lit("open").alias("state"),
                    )
                    writer.write_table(table.to_arrow().cast(OPEN_SCHEMA))
            make_durable(file, temporary)
        put_in_place(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(
            "cannot_write_audit", path=target, reason=error.strerror or str(error)
        ) from error


def read_audit(path: Path | str) -> pd.DataFrame:
    """Read an audit as a pandas frame: one row per input row, and the facts of the run in `attrs`.

    Raises:
        ExportError: It is no audit of ours.
    """
    import pandas as pd

    whole = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}  # they may be null
    try:
        with place_of(path).open("rb") as opened, pq.ParquetFile(opened) as file:
            table, facts = file.read(), file.metadata.metadata or {}
        frame: pd.DataFrame = table.to_pandas(types_mapper=whole.get)
        frame.attrs = {
            k.decode(): v.decode() for k, v in facts.items() if k.startswith(b"rd_import.")
        }
    except NO_AUDIT as error:
        raise ExportError("not_an_audit", path=path) from error
    if not {"source_file", "row_number", "state", "run_id"} <= set(table.schema.names):
        raise ExportError("not_an_audit", path=path)
    return frame


def keys_of_audit(path: Path) -> tuple[dict[str, str], Iterator[tuple[bytes, KeyLine]]]:
    """Read what an audit, finished or open, knew of each key, for `ledger add`.

    Returns:
        The file's facts, and a line per key: accepted with its uuid, in doubt, or free.

    Raises:
        ExportError: It is no audit of ours.
    """
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            metadata = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items()}
    except NO_AUDIT as error:
        raise ExportError("not_an_audit", path=path) from error
    if "rd_import.scope" not in metadata:
        raise ExportError("not_an_audit", path=path)
    return metadata, _audit_keys(path)


def _audit_keys(path: Path) -> Iterator[tuple[bytes, KeyLine]]:
    wanted = ["event_key", "payload_sha256", "state", "event_uuid"]
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            columns = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    if row["event_key"] is not None:
                        yield from _known_of(row, f"audit {path.name}")
    except NO_AUDIT as error:
        raise ExportError("not_an_audit", path=path) from error


def _known_of(row: Mapping[str, str], run: str) -> Iterator[tuple[bytes, KeyLine]]:
    """Give what a row of an audit tells of its key.

    Raises:
        ValueError: Key, checksum or uuid is none.
    """
    key, sha = bytes.fromhex(row["event_key"]), bytes.fromhex(row["payload_sha256"])
    uuid = row.get("event_uuid")
    if len(key) != SHA_BYTES or len(sha) != SHA_BYTES or (uuid and not is_uuid(uuid)):
        raise ValueError
    if uuid:
        yield key, KeyLine(accepted=(Fact(sha, uuid),))
    elif row["state"] in {"open", "unknown"}:
        yield key, KeyLine(doubt=(Fact(sha, run),))


def default_audit_path(first_export: str, started: datetime) -> Path:
    """Name the audit beside the first local input; mended rows of an earlier run go on under the export's own name."""
    source = Path(first_export)
    parent = source.parent if source.exists() and source.is_file() else Path()
    stem = re.sub(r"\.\d{8}T\d{12}Z(-\d+)?(\.\d+)?\.rejected$", "", source.stem)
    name = f"{stem}.{started:%Y%m%dT%H%M%S%fZ}"
    names = (name if again == 0 else f"{name}-{again + 1}" for again in itertools.count())
    return next(
        path
        for one in names
        if not (path := parent / f"{one}.audit.parquet").exists()
        and not open_audit_path(path).exists()
    )
