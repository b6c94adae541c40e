"""Inputs that are tables already: Parquet, Excel and JSON Lines -> groups of rows as text.

Their cells are written as a CSV of the same data would hold them, so that every later stage sees
one kind of row.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.datatypes import DataTypeClass

from rd_import.dialect import distinct_names, unique_names
from rd_import.errors import ExportError, JobError
from rd_import.values import PROBLEM_SCHEMA, ROW, RowGroup, SourceGroup

ROWS_PER_GROUP: Final = 8192  # wide Parquet rows weigh several kB once they are text
MAX_JSON_LINE: Final = 4 << 20
MAX_JSON_COLUMNS: Final = 10_000
MAX_ROWS_PER_BYTE: Final = 1000  # of a Parquet file; run lengths of nulls take almost no room
MAX_GROWTH: Final = 2000  # bytes that a Parquet file says it unpacks to, per byte of it
BOMB_BYTES: Final = 1 << 30
BOMB_ROWS: Final = 10_000_000
EXACT: Final = 10**15  # a spreadsheet keeps fifteen digits of a number

_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError)
_Problem = tuple[int, str, str | None, str | None, str, bool]


# --- Parquet --------------------------------------------------------------------------------------
# ---------------


def parquet_columns(path: Path, shown: str) -> dict[str, bool]:
    """Name the columns of a Parquet file, and tell of each whether it holds numbers.

    Raises:
        ExportError: It is damaged, encrypted, or says that it unpacks to more than it can hold.
    """
    try:
        with pq.ParquetFile(path) as file:
            _refuse_parquet_bomb(file.metadata, path, shown)
            return dict(_columns(file.schema_arrow))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(shown, error) from error


def parquet_groups(path: Path, shown: str) -> Iterator[SourceGroup]:
    """Read a Parquet file group by group.

    Raises:
        ExportError: It is damaged.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False, memory_map=False) as file:
            row, told = 0, file.metadata.num_rows
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, use_threads=False):
                batch.validate(full=True)  # polars trusts its input, down to the UTF-8
                typed = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([_readable(batch)])))
                table = typed.select(_as_text(typed.schema))
                yield group_of(
                    table,
                    row,
                    csv_records(
                        typed.select(_text(pl.col(n), t).alias(n) for n, t in typed.schema.items())
                    ),
                )
                row += table.height
                if row > told:
                    raise ExportError(
                        "broken_parquet",
                        path=shown,
                        reason=f"it holds more than the {told} rows it tells of",
                    )
    except (*_UNREADABLE, pl.exceptions.PanicException) as error:
        raise _broken(shown, error) from error


def _broken(shown: str, error: BaseException) -> ExportError:
    reason = _first_line(error)
    if "encrypt" in reason.lower():
        return ExportError("encrypted", path=shown)
    return ExportError("broken_parquet", path=shown, reason=reason)


def _refuse_parquet_bomb(metadata: pq.FileMetaData, path: Path, shown: str) -> None:
    size = path.stat().st_size
    unpacked = sum(
        metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)
    )
    too_many = metadata.num_rows > BOMB_ROWS and metadata.num_rows > MAX_ROWS_PER_BYTE * size
    if too_many or (unpacked > BOMB_BYTES and unpacked > MAX_GROWTH * size):
        raise ExportError("bomb", path=shown, packed=size, unpacked=unpacked, ratio=MAX_GROWTH)


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn types that polars lacks into ones that it has, and names that it cannot hold."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_decimal256(field.type):
            texts = [None if one is None else f"{one:f}" for one in batch.column(place).to_pylist()]
            batch = batch.set_column(place, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_map(field.type):
            inner = pa.list_(
                pa.struct([("key", field.type.key_type), ("value", field.type.item_type)])
            )
            batch = batch.set_column(place, field.name, batch.column(place).cast(inner))
    return batch.rename_columns(distinct_names(batch.schema.names))


def _columns(schema: pa.Schema) -> Iterator[tuple[str, bool]]:
    """Name columns as they can be matched: `items.sku` for a list of structs or a struct."""
    for column, named in zip(schema, distinct_names(schema.names), strict=True):
        kind = (
            column.type.value_type
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
            else column.type
        )
        if pa.types.is_struct(kind):
            yield from ((f"{named}.{part.name}", _is_number(part.type)) for part in kind)
        else:
            yield named, _is_number(column.type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


# --- Excel ----------------------------------------------------------------------------------------
# ---------------


def excel_rows(path: Path, shown: str) -> Iterator[tuple[int, list[str | None]]]:
    """Give the filled rows of a workbook's first filled sheet, with their numbers in it.

    Raises:
        JobError: The reader of workbooks is not installed.
        ExportError: The workbook is damaged or encrypted.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise JobError("needs_extra", what=shown, extra="excel") from error
    try:
        with (
            path.open("rb") as file,
            closing(load_workbook(file, read_only=True, data_only=True)) as book,
        ):
            for sheet in book.worksheets:
                rows = enumerate(sheet.iter_rows(values_only=True), start=1)
                texts = ((number, [excel_text(cell) for cell in row]) for number, row in rows)
                filled = ((number, row) for number, row in texts if any(row))
                first = next(filled, None)
                if first is not None:
                    yield from itertools.chain([first], filled)
                    return
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        SyntaxError,
    ) as error:
        raise ExportError(
            "damaged_archive", path=shown, kind="Excel", reason=_first_line(error)
        ) from error


def excel_text(cell: object) -> str | None:
    """Write a cell as text; a number beyond fifteen digits has lost some, and shows it."""
    if cell is None or isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell.total_seconds()).removesuffix(".0")
    if isinstance(cell, int | float):
        if abs(cell) >= EXACT:
            return f"{cell:.4E}"
        return str(int(cell)) if cell == int(cell) else repr(cell)
    return str(cell)


# --- JSON Lines
# --------------------------------------------------------------------------------------------------


class JsonLines:
    """The columns of a JSON Lines file, found in a first pass, and its rows, read in a second.

    Numbers keep their digits: they are text before they could become floats. An object's members
    become columns `address.city`; a list of objects stays one, for the items of an order.
    """

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._shown = shown
        self.columns: dict[str, dict[str, None] | None] = {}
        for _, raw in _json_lines(stream):
            found = _json_object(raw)
            for name, value in (found or {}).items():
                if isinstance(value, list):
                    parts = self.columns.setdefault(name, {})
                    if parts is not None:
                        parts.update(dict.fromkeys(part for one in value for part in one))
                else:
                    self.columns[name] = None
            if len(self.columns) > MAX_JSON_COLUMNS:
                raise ExportError(
                    "not_csv_or_parquet",
                    path=shown,
                    kind=f"JSON with more than {MAX_JSON_COLUMNS} columns",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Name the columns as they can be matched."""
        return tuple(
            full
            for name, parts in self.columns.items()
            for full in ([f"{name}.{part}" for part in parts] if parts else [name])
        )

    @property
    def header_record(self) -> bytes:
        """Give the header that the file of rejected rows has."""
        return header_record(self.columns)

    def groups(self, stream: BinaryIO) -> Iterator[SourceGroup]:
        """Read the rows."""
        row = 0
        for chunk in _batched(_json_lines(stream), ROWS_PER_GROUP):
            objects = [(line, raw, _json_object(raw)) for line, raw in chunk]
            table = self._table([one or {} for _, _, one in objects])
            problems: list[_Problem] = [
                (number, "BROKEN_JSON", None, raw[:80].decode("utf-8", "replace"), "", True)
                for number, (_, raw, one) in enumerate(objects)
                if one is None
            ]
            flat = table.select(_text(pl.col(n), t).alias(n) for n, t in table.schema.items())
            group = group_of(
                table, row, csv_records(flat), [line for line, _, _ in objects], problems
            )
            row += table.height
            yield group

    def _table(self, objects: list[dict[str, Any]]) -> pl.DataFrame:
        return pl.DataFrame(
            [
                pl.Series(
                    name, [one.get(name) for one in objects], dtype=_json_type(parts), strict=False
                )
                for name, parts in self.columns.items()
            ]
        )


def _json_type(parts: dict[str, None] | None) -> pl.DataType:
    if not parts:
        return pl.String()
    return pl.List(pl.Struct(dict.fromkeys(parts, pl.String())))


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give the filled lines; of one beyond the limit, only its beginning, which is no JSON then."""
    line, fresh = 0, True
    while raw := stream.readline(MAX_JSON_LINE):
        if fresh:
            line += 1
            if raw.strip():
                yield line, raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
        fresh = raw.endswith(b"\n")


def _json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a line as a flat object of texts and lists of objects; None where it is none."""
    try:
        found = json.loads(raw, parse_int=str, parse_float=str, parse_constant=str)
        if b"\\u" in raw:
            json.dumps(found, ensure_ascii=False).encode()  # half a character is none
        return dict(_flat(found, "")) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None


def _flat(found: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for given, value in found.items():
        name = f"{ROW} (2)" if given == ROW and not prefix else given
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield (
                f"{prefix}{name}",
                [{part: _json_text(cell) for part, cell in one.items()} for one in value],
            )
        else:
            yield f"{prefix}{name}", _json_text(value)


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _batched(items: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


# --- all of them
# -------------------------------------------------------------------------------------------------


def group_of(
    table: pl.DataFrame,
    before: int,
    records: pa.Array,
    lines: list[int] | None = None,
    problems: list[_Problem] | None = None,
) -> SourceGroup:
    """Join rows, of which `before` others stand earlier in the file, with what is kept of them."""
    return SourceGroup(
        export=0,
        rows=RowGroup(table),
        row_numbers=pa.array(np.arange(before + 1, before + table.height + 1)),
        line_numbers=pa.array(lines, type=pa.int64())
        if lines is not None
        else pa.nulls(table.height, pa.int64()),
        records=records,
        problems=pl.DataFrame(problems or [], schema=PROBLEM_SCHEMA, orient="row"),
    )


def rows_as_groups(
    rows: Iterable[tuple[int, list[str | None]]], columns: tuple[str, ...]
) -> Iterator[SourceGroup]:
    """Group a workbook's rows; one longer than the header is flawed."""
    width, before = len(columns), 0
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, ROWS_PER_GROUP)):
        problems: list[_Problem] = [
            (number, "WRONG_NUMBER_OF_CELLS", None, str(len(cells)), str(width), True)
            for number, (_, cells) in enumerate(batch)
            if any(cells[width:])
        ]
        table = pl.DataFrame(
            [(cells + [None] * width)[:width] for _, cells in batch],
            schema=dict.fromkeys(columns, pl.String),
            orient="row",
        )
        yield group_of(table, before, csv_records(table), [line for line, _ in batch], problems)
        before += len(batch)


def header_record(names: Iterable[str]) -> bytes:
    """Write a header for the file of rejected rows."""
    cells = list(names)
    record: bytes = (
        csv_records(pl.DataFrame([cells], schema=unique_names(cells), orient="row"))[0].as_py()
        if cells
        else b""
    )
    return record


def csv_records(table: pl.DataFrame) -> pa.Array:
    """Write rows as CSV records, for the file of rejected rows."""
    cells = [
        pl.when(pl.col(name).str.contains(r'[",\r\n]'))
        .then(
            pl.concat_str(
                pl.lit('"'), pl.col(name).str.replace_all('"', '""', literal=True), pl.lit('"')
            )
        )
        .otherwise(pl.col(name).fill_null(""))
        for name in table.columns
    ]
    line = pl.concat_str(pl.concat_str(cells, separator=","), pl.lit("\n")).cast(pl.Binary)
    return table.select(line.alias("record"))["record"].to_arrow().cast(pa.large_binary())


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _as_text(schema: pl.Schema) -> Iterator[pl.Expr]:
    """Write typed columns as the text that a CSV of the same data would hold."""
    for name, dtype in schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Struct):
            for part in dtype.fields:
                yield _text(column.struct.field(part.name), _known(part.dtype)).alias(
                    f"{name}.{part.name}"
                )
        elif isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
            element = pl.element()
            yield column.list.eval(
                pl.struct(
                    _text(element.struct.field(part.name), _known(part.dtype)).alias(part.name)
                    for part in dtype.inner.fields
                )
            )
        else:
            yield _text(column, dtype).alias(name)


def _known(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    """Give a type as a value: polars' own types allow its class too, which files never hold."""
    return dtype() if isinstance(dtype, DataTypeClass) else dtype


def _float_texts(texts: pl.Series, exact: int) -> pl.Series:
    """Write `1e-7` in full, and with an exponent what may have lost digits: as an id it is refused then."""
    odd = texts.filter(texts.str.contains(r"e-|^-?[0-9]{8}")).unique().to_list()
    if not odd:
        return texts
    written = [
        f"{number:E}" if abs(number := Decimal(one)) >= exact else f"{number:f}" for one in odd
    ]
    return texts.replace(odd, written)


def _decoded(cells: pl.Series) -> pl.Series:
    """Read bytes as text; what is none is empty, and costs nothing else."""
    return pl.Series(cells.name, [_utf8(cell) for cell in cells.to_list()], dtype=pl.String)


def _utf8(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def _text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        encoded = pl.struct(column.alias("v")).struct.json_encode()
        return pl.when(column.is_not_null()).then(encoded.str.slice(5).str.head(-1))
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone:
            return column.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
        return column.dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    if isinstance(dtype, pl.Duration):
        return (column.dt.total_milliseconds() / 1000).cast(pl.String).str.replace(r"\.0$", "")
    if dtype.is_float():
        texts = column.fill_nan(None).cast(pl.String).str.replace(r"\.0$", "")
        exact = 2**24 if dtype == pl.Float32 else 2**53  # from there on, whole numbers are skipped
        return texts.map_batches(partial(_float_texts, exact=exact), return_dtype=pl.String)
    if isinstance(dtype, pl.Binary):
        return column.map_batches(_decoded, return_dtype=pl.String)
    return column.cast(pl.String)
