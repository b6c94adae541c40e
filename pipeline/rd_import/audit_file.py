"""An audit as a file: its columns, its place, and what is read from it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rd_import.errors import ExportError, JobError
from rd_import.key_line import Fact, KeyLine
from rd_import.outcome import is_uuid
from rd_import.places import make_durable, new_file, place_of, put_in_place, temporary_of
from rd_import.run_folder import ERASED, RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from rd_import.ledger import Ledger

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
