"""What flows between the stages: groups of rows and events, never an object per row.

Frames are polars frames (Arrow columns). Columns whose name begins with `#` are ours and travel with the rows:

| column | type | what |
|---|---|---|
| `#row` | UInt32 | ordinal of the input row over all exports, from 0 |
| `#event` | UInt32 | ordinal of the event that the row belongs to, in order of first occurrence |
| `#occurrence` | UInt32 | how many earlier events of this input have the same identity, plus 1 |
| `#key 0`, … | String | columns that the user named as the event's key, in that order |
| `#group` | String | what is equal for rows of one event, where the mapping names other columns than the type |
| `#type` | String | event type of the row, where there are several; `?` and the cell where none is known |
| `#filter 0`, … | String | cells that decide whether the row is left out |
| `#lookup 0`, … | String | `0` and the key where a second file has none, `2` and the key where it has several |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import polars as pl
import pyarrow as pa

ROW = "#row"
EVENT = "#event"
OCCURRENCE = "#occurrence"
KEY = "#key"
GROUP = "#group"
TYPE = "#type"
FILTER = "#filter"
LOOKUP = "#lookup"
LEGAL_BASES_CELL = "legal_bases"
"""Column that holds all legal bases of a row as JSON, as the API writes them."""
OF_TYPE = "@"
"""Between field and event type in the name of a column that feeds the field for that type only."""

T_co = TypeVar("T_co", covariant=True)

PROBLEM_SCHEMA = pl.Schema(
    {
        ROW: pl.UInt32,  # the row that is wrong
        "code": pl.String,  # stable word, a key of messages.PROBLEMS
        "field": pl.String,  # field of the event type, or null where the whole row is meant
        "value": pl.String,  # what stood in the cell, cut at 80 characters
        "limit": pl.String,  # the rule's own figure: a minimum, a list of options, another row
        "fatal": pl.Boolean,  # False: the field is left out and the row still goes
    }
)
"""One line per flaw of a row. `Sifted.problems` has this schema."""

MAX_RECORD_BYTES: Final = 4 << 20
"""Twenty times the largest event; a longer CSV record is a quote that was never closed."""

KEPT_OF_TOO_LONG: Final = 1 << 16
"""Of a record beyond the limit, so many bytes are kept to show."""

NOT_DATA: Final = frozenset({"TOTALS_ROW", "REPEATED_HEADER"})
"""Codes of rows that were read and hold no data."""

LEFT_OUT: Final = frozenset({*NOT_DATA, "FILTERED"})
"""Codes of rows that are `filtered`, not invalid: no data, or left out by a rule, which their `limit` names."""

REMARKS: Final = frozenset(
    {"TOTAL_ITEMS_DIFFER", "PRICE_DIFFERS", "ROWS_WITHOUT_ITEMS", "GARBLED_TEXT"}
)
"""Codes of what is worth a look and changes nothing."""

REASON_COLUMNS: Final = ("rejected_code", "rejected_column", "rejected_reason", "rejected_hint")
"""What a file of rejected rows has beside the input's own columns."""

NAMES_A_ROW: Final = frozenset({"CONFLICTING_ROWS", "TORN_EVENT"})
"""Codes of problems whose `limit` is the `#row` of another row, which the message names by its place."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about an input, and how far it can be trusted.

    Args:
        what: What it is about, a key of `messages.FINDINGS`: `encoding`, `delimiter`, `decimal`, `dates`, …
        value: The reading that was chosen, as its flag takes it.
        confidence: `stated` by the user, `certain` (proved), `likely` (all evidence points there), `assumed` (there is
            no evidence, and the documented default holds), or `open`: the readings fit alike and differ in meaning.
        how: Why, a key of `messages.EVIDENCE`.
        flag: The flag that overrules it; empty where none can.
        column: The one column that it is about, if it is not about the file.
        readings: Where it is open, what the person can choose from.
        facts: What the explanation names: counts, examples.
    """

    what: str
    value: str
    confidence: str
    how: str
    flag: str
    column: str | None = None
    readings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What is known of one input before its first row.

    `columns` are the header's names, made unique; `file_format` is `csv`, `parquet`, `excel` or `jsonl`; `numeric`
    names the columns that hold numbers rather than text.
    """

    path: str
    file_format: str
    columns: tuple[str, ...]
    encoding: str | None = None
    delimiter: str | None = None
    header_record: bytes = b""
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows in file order.

    `table` has (n,) lines: `#row` and columns of text (after `read` under the file's names, after `match` under
    the schema's), or typed columns after `cells`. A row with a list of items has one line per item after `match`.
    """

    table: pl.DataFrame


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """Rows as `read` found them, with what `source.arrow` keeps of each.

    All arrays have (n,) entries in file order; `rows.table` too. `problems` names the rows that could not be read;
    their cells are null.
    """

    export: int
    rows: RowGroup
    row_numbers: pa.Array  # int64, 1-based data row in its file
    line_numbers: pa.Array  # int64, physical line of the record's start; null for Parquet
    records: pa.Array  # large_binary, the record's own bytes; null for Parquet
    problems: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Sifted(Generic[T_co]):
    """What passed a stage, and why the rest did not; `problems` has `PROBLEM_SCHEMA`."""

    kept: T_co
    problems: pl.DataFrame


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of one type, one line each.

    `payloads` has one column per payload field in the API's order; `facts` has the same (n,) lines: `#row` (first
    row), `#event`, `#occurrence`, the identity columns and `event_timestamp` where it is known.
    """

    event_type: str
    payloads: pl.DataFrame
    facts: pl.DataFrame


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """Events as they go over the wire: `table` has the schema `ENCODED_SCHEMA`, (n,) lines."""

    table: pl.DataFrame


ENCODED_SCHEMA = pl.Schema(
    {  # type: ignore[arg-type]  # a mix of types and instances, which polars takes
        EVENT: pl.UInt32,
        ROW: pl.UInt32,  # first row of the event
        "event_type": pl.String,
        "event_key": pl.Binary,  # 32 bytes, sha256 over type, namespace, identity and occurrence
        "occurrence": pl.UInt32,
        "identity": pl.String,  # canonical; kept beside the bodies, since it may hold an e-mail
        "email": pl.String,  # trimmed, lower case: for the contact's keyed hash, never written to ledger or audit
        "identifier": pl.String,  # the shop's own id of the event, where it has one
        "source_timestamp": pl.Datetime("us", "UTC"),
        "payload_sha256": pl.Binary,  # 32 bytes
        "body": pl.Binary,  # one JSON object in UTF-8
    }
)


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """One event on its way into a request body."""

    ordinal: int
    key: bytes
    sha: bytes
    contact: bytes
    body: bytes = field(repr=False)
    refused_before: bool = False  # RD Station refused this very content in an earlier run


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that go in one request if all can be claimed; `number` counts from 1 within a run."""

    number: int
    events: Sequence[PlannedEvent]
    apart: bool = False  # events that were refused before; the fuse does not count them


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `states` counts rows and sums to `rows`; `proof` says what stopped it early.

    Of those that are `unknown`, a person decided about `decided_rows`.
    """

    run_id: str
    rows: int
    events: int
    states: dict[str, int]
    requests: int
    audit_path: Path | None
    rejected_paths: tuple[Path, ...]
    run_folder: Path
    exit_code: int
    stopped_by: str | None
    proof: str | None
    started_at: datetime
    finished_at: datetime
    decided_rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, as `--json` prints them; no row is among them."""
        return {
            "run_id": self.run_id,
            "rows": self.rows,
            "events": self.events,
            "states": dict(self.states),
            "requests": self.requests,
            "audit": str(self.audit_path),
            "rejected_file": [str(path) for path in self.rejected_paths],
            "report": None,
            "stopped_by": self.stopped_by,
            "proof": self.proof,
            "run_folder": str(self.run_folder),
            "exit_code": self.exit_code,
        }


def detached(table: pl.DataFrame) -> pl.DataFrame:
    """Copy lines that are to be kept: those that polars cuts out of a table hold all of the table's text in memory."""
    return pl.DataFrame(pl.from_arrow(table.to_arrow()), schema=table.schema)
