"""Inputs that are tables already: Parquet, Excel and JSON -> groups of rows as text.

Their cells are written as a CSV of the same data would hold them, so that every later stage sees
one kind of row.
"""

import codecs
import contextlib
import io
import itertools
import json
import mmap
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, TypeVar, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from polars.datatypes import DataTypeClass

from rd_import.dialect import distinct_names, unique_names
from rd_import.errors import ExportError, JobError
from rd_import.nesting import TooDeepError, read_json
from rd_import.parquet_footer import Chunk, chunks_of
from rd_import.values import (
    KEPT_OF_TOO_LONG,
    MAX_RECORD_BYTES,
    PROBLEM_SCHEMA,
    ROW,
    RowGroup,
    SourceGroup,
)

ROWS_PER_GROUP: Final = 8192  # wide Parquet rows weigh several kB once they are text
CELLS_PER_GROUP: Final = 1 << 20  # so wide tables come in groups of fewer rows
BYTES_PER_GROUP: Final = 16 << 20  # of text, however little room it takes in a Parquet file
MAX_COLUMNS: Final = 10_000  # Excel has 16,384, real exports a few hundred
MAX_ROWS_PER_BYTE: Final = 10  # of a Parquet file; equal rows take almost no room
MAX_GROWTH: Final = 200  # bytes that a Parquet file says it unpacks to, per byte of it
MAX_TEXT_GROWTH: Final = 2000  # bytes of text per byte of it, repeated texts included
BOMB_BYTES: Final = 256 << 20
BOMB_TEXT: Final = 256 << 20
BOMB_ROWS: Final = 10_000_000  # so many are taken however alike they are; they are read in batches
BOMB_ITEMS: Final = 1_000_000  # of lists: those of one row stand in memory together
LIGHT_ROW: Final = 500  # bytes; rows that are as light as this on average are many, not large
MAX_SHEET_ROWS: Final = 1 << 20  # Excel's own
MAX_APART: Final = (
    1_000_000  # marks of a sheet without a row among them; a row of 16,384 cells has 100,000
)
MAX_SHARED_STRINGS: Final = 2_000_000  # different texts of a workbook, all held in memory
MAX_BOOK_MEMORY: Final = 512 << 20  # that reading a workbook may add to this process
MEMORY_LOOKED_AT: Final = 1 << 20  # bytes of a workbook between two looks at the memory
BLANKS: Final = re.compile(r"[ \t\r\n]*")
JSON_READ: Final = 1 << 16  # characters of one JSON list that are read at a time
EXACT: Final = 10**15  # a spreadsheet keeps fifteen digits of a number

_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError)
_NO_BOOK: Final = (
    OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, SyntaxError, ArithmeticError, RuntimeError,
    AssertionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What openpyxl ends in over a damaged workbook."""
_ENTRY: Final = re.compile(rb"<(?:\w+:)?(?:(?P<row>row)|si)(?=[ >/])")
_STRAY: Final = re.compile(
    rb"(?:</(?:\w+:)?(?:row|si)|<(?:\w+:)?(?:row|si)(?: [^<>]*+(?<=/)|/))>\s*+<(?!(?:\w+:)?(?:row|si)[ >/])[\w:]+[ >/]"
)
"""An element that stands behind a row or shared text and is none; its whole name, should a block end within it."""
_T = TypeVar("_T")
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
            refuse_columns(shown, file.metadata.num_columns)
            _refuse_parquet_bomb(file.metadata, chunks_of(path), path, shown)
            return dict(_columns(file.schema_arrow))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(shown, error) from error


def parquet_groups(path: Path, shown: str) -> Iterator[SourceGroup]:
    """Read a Parquet file group by group.

    Raises:
        ExportError: It is damaged, or a text repeated in it makes it a bomb.
    """
    size, row, texts = path.stat().st_size, 0, 0
    try:
        with pq.ParquetFile(path) as file:
            metadata, schema = file.metadata, _plain_schema(file.schema_arrow)
            chunks = chunks_of(path)
            repeated, most = _repeated_texts(chunks), _rows_at_once(metadata, chunks)
        with pq.ParquetFile(
            path, metadata=metadata, read_dictionary=repeated, pre_buffer=False, memory_map=False
        ) as file:
            # pyarrow cannot join the dictionaries of two row groups inside a list.
            batches = (
                file.iter_batches(batch_size=most, row_groups=[number], use_threads=False)
                for number in range(metadata.num_row_groups)
            )
            for batch in itertools.chain.from_iterable(batches):
                texts += _text_bytes(batch)
                light = texts <= LIGHT_ROW * (row + batch.num_rows)
                if texts > BOMB_TEXT and texts > MAX_TEXT_GROWTH * size and not light:
                    raise ExportError(
                        "bomb", path=shown, packed=size, unpacked=texts, ratio=MAX_TEXT_GROWTH
                    )
                for part in _in_parts(batch):
                    plain = pa.RecordBatch.from_arrays(
                        [
                            column.cast(field.type)
                            for column, field in zip(part, schema, strict=True)
                        ],
                        schema=schema,
                    )
                    group = _parquet_group(plain, row)
                    row += group.rows.table.height
                    yield group
                if row > metadata.num_rows:
                    raise ExportError(
                        "broken_parquet",
                        path=shown,
                        reason=f"it holds more than the {metadata.num_rows} rows it tells of",
                    )
    except (*_UNREADABLE, KeyError, pl.exceptions.PanicException) as error:
        raise _broken(shown, error) from error


def _parquet_group(batch: pa.RecordBatch, row: int) -> SourceGroup:
    batch.validate(full=True)  # polars trusts its input, down to the UTF-8
    typed = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([_readable(batch)])))
    table = typed.select(_as_text(typed.schema))
    records = csv_records(
        typed.select(_text(pl.col(n), t).alias(n) for n, t in typed.schema.items())
    )
    return group_of(table, row, records)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Give the schema without dictionaries and views, which only say how texts are kept, and without what polars lacks.

    Raises:
        ValueError: A type holds text that is none; polars would end over it.
    """
    return pa.schema(
        [
            field
            if pa.types.is_decimal256(field.type)
            else field.with_type(_plain_type(field.type))
            for field in schema
        ]
    )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp(kind.unit, kind.tz)  # whose zone is decoded so
    if pa.types.is_decimal256(kind):
        return pa.decimal128(38, kind.scale)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    return kind


def _repeated_texts(chunks: list[Chunk]) -> list[str]:
    """Name the leaves whose texts may stand in the file once and in the table a million times."""
    return list(
        dict.fromkeys(
            chunk.path
            for chunk in chunks
            if chunk.holds_texts
            and chunk.has_dictionary
            and ".key_value." not in chunk.path  # of maps, which pyarrow reads plainly
        )
    )


def _rows_at_once(metadata: pq.FileMetaData, chunks: list[Chunk]) -> int:
    """Give how many rows can be held whatever is in them, as far as the file's directory tells."""
    most = rows_per_group(metadata.num_columns)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        each = group.total_byte_size // max(group.num_rows, 1)
        most = min(most, BYTES_PER_GROUP // max(each, 1))
    for chunk in chunks:
        if chunk.shares_prefixes:  # each text may repeat all of the one before
            most = min(most, BYTES_PER_GROUP // max(chunk.unpacked, 1))
    fixed = sum(metadata.schema.column(number).length for number in range(metadata.num_columns))
    return int(max(1, min(most, BYTES_PER_GROUP // max(fixed, 1))))


def _in_parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Halve a batch until its texts, each written out, can be held."""
    if batch.num_rows < 2 or _text_bytes(batch) <= BYTES_PER_GROUP:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _in_parts(batch.slice(0, half))
    yield from _in_parts(batch.slice(half))


def _text_bytes(batch: pa.RecordBatch) -> int:
    """Count the bytes of a batch once every repeated text is written out."""
    return sum(_written_out(column) for column in batch)


def _written_out(column: pa.Array) -> int:
    if pa.types.is_dictionary(column.type):
        if not (
            pa.types.is_string(column.type.value_type) or pa.types.is_binary(column.type.value_type)
        ):
            return int(column.nbytes)
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
    if pa.types.is_struct(column.type):
        return sum(_written_out(part) for part in column.flatten())
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _written_out(column.flatten())
    return int(column.nbytes)


def _broken(shown: str, error: BaseException) -> ExportError:
    reason = _first_line(error)
    if "encrypt" in reason.lower():
        return ExportError("encrypted", path=shown)
    return ExportError("broken_parquet", path=shown, reason=reason)


def _refuse_parquet_bomb(
    metadata: pq.FileMetaData, chunks: list[Chunk], path: Path, shown: str
) -> None:
    size = path.stat().st_size
    groups = [
        metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)
    ]
    rows, unpacked = metadata.num_rows, sum(groups)
    items = max((chunk.values for chunk in chunks), default=0)
    many = rows > BOMB_ROWS or items > max(rows, BOMB_ITEMS)
    too_many = many and max(rows, items) > MAX_ROWS_PER_BYTE * size
    light = unpacked <= LIGHT_ROW * rows and max(groups, default=0) <= BOMB_BYTES
    if too_many or (unpacked > BOMB_BYTES and unpacked > MAX_GROWTH * size and not light):
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
        import defusedxml  # noqa: F401 -- with it, openpyxl refuses entities that expand
        from openpyxl.reader.excel import ExcelReader
    except ImportError as error:
        raise JobError("needs_extra", what=shown, extra="excel") from error
    try:
        with path.open("rb") as file, _MeteredArchive(file, shown) as archive:
            reader = ExcelReader(file, read_only=True, data_only=True, keep_links=False)
            reader.archive = archive
            reader.read()
            for sheet in reader.wb.worksheets:
                rows = enumerate(sheet.iter_rows(values_only=True), start=1)
                texts = (
                    (_sheet_row(n, shown), [excel_text(cell) for cell in row]) for n, row in rows
                )
                filled = ((number, row) for number, row in texts if any(row))
                first = next(filled, None)
                if first is not None:
                    yield from itertools.chain([first], filled)
                    return
    except _NO_BOOK as error:
        raise ExportError(
            "damaged_archive", path=shown, kind="Excel", reason=_first_line(error)
        ) from error


def _sheet_row(number: int, shown: str) -> int:
    """Refuse a sheet that claims rows beyond Excel's last one: the gap would be filled with empty rows."""
    if number > MAX_SHEET_ROWS:
        raise ExportError("too_many_sheet_rows", path=shown, most=MAX_SHEET_ROWS)
    return number


class _MeteredArchive(zipfile.ZipFile):
    """A workbook's parts, whose reading ends once it takes too much memory.

    What openpyxl keeps of a part cannot be told from its size: empty elements weigh twenty times their
    text, repeated strings as much as different ones.
    """

    def __init__(self, file: BinaryIO, shown: str) -> None:
        super().__init__(file)
        self._shown = shown
        self._before = memory_in_use()

    def open(self, *args: Any, **options: Any) -> IO[bytes]:
        """Open a part to be read, once its marks are counted, which takes little time beside parsing them."""
        with super().open(*args, **options) as part:
            _refuse_marks(part, self._shown)
        return cast("IO[bytes]", _MeteredPart(super().open(*args, **options), self.look))

    def look(self) -> None:
        """Compare the memory that this process takes with what it took before."""
        if memory_in_use() - self._before > MAX_BOOK_MEMORY:
            raise ExportError("workbook_too_large", path=self._shown, most=MAX_BOOK_MEMORY >> 20)


def _refuse_marks(part: IO[bytes], shown: str) -> None:
    """Refuse a part of which no workbook has so many rows, texts or other elements, or so long a text.

    Rows and shared texts stand one right after the other; openpyxl keeps what is between them until the part ends.
    """
    rows = strings = text = apart = (
        0  # apart: marks since the last entry; text: bytes since the last mark
    )
    strays = False
    while data := part.read(MEMORY_LOOKED_AT):
        mark, last = data.rfind(b"<"), -1
        text = text + len(data) if mark < 0 else len(data) - mark
        for entry in _ENTRY.finditer(data):
            last = entry.start()
            if entry.lastgroup == "row":
                rows += 1
            else:
                strings += 1
        strays = strays or _STRAY.search(data) is not None
        known = strays or last < 0  # behind a stray, nothing is believed to end what is kept
        apart = apart + data.count(b"<") if known else data.count(b"<", last)
        if rows > MAX_SHEET_ROWS:
            raise ExportError("too_many_sheet_rows", path=shown, most=MAX_SHEET_ROWS)
        if strings > MAX_SHARED_STRINGS:
            raise ExportError("too_many_strings", path=shown, most=MAX_SHARED_STRINGS)
        if text > MAX_RECORD_BYTES:
            raise ExportError("cell_too_long", path=shown, most=MAX_RECORD_BYTES)
        if apart > MAX_APART:
            raise ExportError("too_many_elements", path=shown, most=MAX_APART)


class _MeteredPart(io.RawIOBase):
    """One part of a workbook."""

    def __init__(self, part: IO[bytes], look: Callable[[], None]) -> None:
        self._part = part
        self._look = look
        self._until_look = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes, looking at the memory now and then."""
        data = self._part.read(size)
        self._until_look -= len(data)
        if self._until_look < 0:
            self._look()
            self._until_look = MEMORY_LOOKED_AT
        return data

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def close(self) -> None:
        """Close the part."""
        self._part.close()
        super().close()


def memory_in_use() -> int:
    """Give the bytes of memory that this process takes; 0 where the system does not tell (Windows)."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * mmap.PAGESIZE
    try:
        import resource
    except ImportError:
        return 0
    return int(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )  # macOS: bytes, and the most so far


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

    Args:
        stream: For the first pass.
        shown: How errors name the file.
        one_list: The file is one JSON list of such objects.

    Raises:
        ExportError: There are too many columns, or the list is not whole.
    """

    def __init__(self, stream: BinaryIO, shown: str, *, one_list: bool = False) -> None:
        self._shown = shown
        self._one_list = one_list
        self.columns: dict[str, dict[str, None] | None] = {}
        width = 0
        for _, raw in self._objects(stream):
            found = _json_object(raw)
            for name, value in (found or {}).items():
                known = self.columns.get(name, {})
                if isinstance(value, list) and known is not None:
                    parts = dict.fromkeys(part for one in value for part in one)
                    if name not in self.columns or not parts.keys() <= known.keys():
                        width += len(parts.keys() - known.keys())
                        self.columns[name] = known | parts
                elif name not in self.columns or known is not None:
                    width += 1
                    self.columns[name] = None
            refuse_columns(shown, width)

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
        row, lines, width = 0, self._objects(stream), len(self.names)
        while chunk := _light(
            lines, lambda one: itertools.chain([one[1]], itertools.repeat(b"", width))
        ):
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

    def _objects(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        return _listed_objects(stream, self._shown) if self._one_list else _json_lines(stream)

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
    while raw := stream.readline(MAX_RECORD_BYTES):
        if fresh:
            line += 1
            if raw.strip():
                yield line, raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
        fresh = raw.endswith(b"\n")


def _listed_objects(stream: BinaryIO, shown: str) -> Iterator[tuple[int, bytes]]:
    """Give the elements of one JSON list, each as it is written, with the line that it begins in.

    Raises:
        ExportError: The list is not whole: what follows a flaw could not be told apart.
    """
    try:
        yield from _elements(codecs.getreader("utf-8-sig")(stream))
    except ValueError as error:
        raise ExportError(
            "damaged_archive", path=shown, kind="JSON", reason=_first_line(error)
        ) from error


def _elements(reader: codecs.StreamReader) -> Iterator[tuple[int, bytes]]:
    decoder, text, place, line, separator = json.JSONDecoder(), "", 0, 1, "["
    while True:
        text, place, line = _next_mark(reader, text, place, line)
        if text[place] == "]" and separator == ",":
            break
        if text[place] != separator:
            raise ValueError(f"line {line} has {text[place]!r} where {separator!r} belongs")
        separator = ","
        text, place, line = _next_mark(reader, text, place + 1, line)
        while (end := _end_of(decoder, text, place)) is None:
            more = reader.read(max(JSON_READ, len(text)))
            if not more or len(text) - place > MAX_RECORD_BYTES:
                raise ValueError(f"the element of line {line} does not end")
            text, place = text[place:] + more, 0
        # Line breaks stand between tokens only: within a text JSON escapes them.
        yield line, text[place:end].replace("\r", " ").replace("\n", " ").encode()
        line += text.count("\n", place, end)
        place = end
    text = text[place + 1 :]
    while not text.strip(" \t\r\n"):
        if not (text := reader.read(JSON_READ)):
            return
    raise ValueError(f"more stands behind the list, which ends in line {line}")


def _next_mark(
    reader: codecs.StreamReader, text: str, place: int, line: int
) -> tuple[str, int, int]:
    """Skip blanks, and read on where the text ends."""
    while True:
        blank = BLANKS.match(text, place)
        assert blank is not None
        line += text.count("\n", place, blank.end())
        if blank.end() < len(text):
            return text, blank.end(), line
        text, place = reader.read(JSON_READ), 0
        if not text:
            raise ValueError("the list does not end")


def _end_of(decoder: json.JSONDecoder, text: str, place: int) -> int | None:
    """Give where an object ends; None where it does not end in this text."""
    if text[place] != "{":
        raise ValueError(f"{text[place : place + 20]!r} is no object")
    try:
        return decoder.raw_decode(text, place)[1]
    except json.JSONDecodeError:
        return None
    except RecursionError as error:
        raise TooDeepError from error


def _json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a line as a flat object of texts and lists of objects; None where it is none."""
    try:
        found = read_json(raw, parse_int=str, parse_float=str, parse_constant=str)
        if b"\\u" in raw:
            json.dumps(found, ensure_ascii=False).encode()  # half a character is none
        return dict(_flat(found, "")) if isinstance(found, dict) else None
    except ValueError:
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
    long = pc.greater(pc.binary_length(records), MAX_RECORD_BYTES)
    if pc.any(long).as_py():
        flawed = pl.Series(long.to_pylist())
        records = pc.if_else(long, pc.binary_slice(records, 0, KEPT_OF_TOO_LONG), records)
        problems = (problems or []) + [
            (number, "RECORD_TOO_LONG", _longest(table, number), "", str(MAX_RECORD_BYTES), True)
            for number in flawed.arg_true()
        ]
        table = table.select(pl.when(~flawed).then(pl.all()))
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


def _longest(table: pl.DataFrame, row: int) -> str | None:
    """Name the column of a row's longest text."""
    lengths = table[row].select(pl.col(pl.String).str.len_bytes().fill_null(0))
    return max(lengths.columns, key=lambda name: int(lengths[name][0]), default=None)


def rows_as_groups(
    rows: Iterable[tuple[int, list[str | None]]], columns: tuple[str, ...]
) -> Iterator[SourceGroup]:
    """Group a workbook's rows; one longer than the header is flawed."""
    width, before = len(columns), 0
    iterator = iter(rows)
    while batch := _light(iterator, lambda one: one[1]):
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


def rows_per_group(columns: int) -> int:
    """Give how many rows to hold at once: the fewer the more columns they have."""
    return max(1, min(ROWS_PER_GROUP, CELLS_PER_GROUP // max(columns, 1)))


def _light(rows: Iterator[_T], cells: Callable[[_T], Iterable[str | bytes | None]]) -> list[_T]:
    """Take rows until they are as many, or weigh as much, as a group may."""
    taken: list[_T] = []
    count = size = 0
    while len(taken) < ROWS_PER_GROUP and count < CELLS_PER_GROUP and size < BYTES_PER_GROUP:
        one = next(rows, None)
        if one is None:
            break
        taken.append(one)
        lengths = [len(cell) if cell else 0 for cell in cells(one)]
        count, size = count + len(lengths), size + sum(lengths)
    return taken


def refuse_columns(path: str, columns: int) -> None:
    """Refuse a table that is far wider than any export.

    Raises:
        ExportError: It has too many columns.
    """
    if columns > MAX_COLUMNS:
        raise ExportError("too_many_columns", path=path, columns=columns, most=MAX_COLUMNS)


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
