"""Files -> groups of rows whose cells are the file's own text.

A CSV is cut into records by the parity of its quotes, on whole blocks of bytes at once: that gives each record's bytes
and physical line, and proves that the quotes are well formed. Only then is a block given to polars, which reads such a
block faithfully. From the first block whose quotes are not well formed, the rest of the file is read record by record
with Python's csv in strict mode, so that a broken record costs one row and not its neighbours.
"""

import codecs
import csv
import glob
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rd_import.dialect import BOMS, Dialect, find_dialect, header_cells
from rd_import.errors import ExportError
from rd_import.job import Job
from rd_import.values import PROBLEM_SCHEMA, ROW, ExportFacts, RowGroup, SourceGroup

BLOCK_BYTES: Final = 8 << 20  # some 35,000 rows of an ordinary order export
HEAD_BYTES: Final = 1 << 16
MAX_RECORD_BYTES: Final = 32 << 20  # a longer record is a quote that was never closed
ROWS_PER_GROUP: Final = 32_768
SUFFIXES: Final = (".csv", ".tsv", ".txt", ".parquet")
QUOTE, LF, CR = b'"\n\r'
MAGIC: Final = {  # first bytes of files that people rename or pick by mistake
    b"PK\x03\x04": "an Excel workbook or zip archive",
    b"\x1f\x8b": "gzip-compressed",
    b"\xfd7zXZ\x00": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}


@dataclass(slots=True)
class Export:
    """One input file: its facts, known before the first row, and its checksum, known after the last.

    `blank_lines` counts lines that are no rows: empty ones and lines of bare delimiters.
    """

    path: Path
    facts: ExportFacts
    dialect: Dialect | None = None
    rows: int = 0
    blank_lines: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256, repr=False)


def find_exports(job: Job) -> tuple[Export, ...]:
    """Name every file of a job and look at its header.

    Raises:
        ExportError: A path is missing, unreadable, empty, or no CSV or Parquet file.
    """
    return tuple(_look(path, job) for path in _paths(job.exports))


def read(exports: Sequence[Export]) -> Iterator[SourceGroup]:
    """Read files one after the other, rows in file order, `#row` counting from 0 over all of them.

    Raises:
        ExportError: A file is not what its head promised: another encoding, cut off, or unreadable.
    """
    first_row = 0
    for number, export in enumerate(exports):
        groups = _csv_groups(export) if export.dialect else _parquet_groups(export)
        for group in groups:
            height = group.rows.table.height
            table = group.rows.table.with_columns(
                pl.int_range(first_row, first_row + height, dtype=pl.UInt32).alias(ROW)
            )
            problems = group.problems.with_columns((pl.col(ROW) + first_row).cast(pl.UInt32))
            yield replace(group, export=number, rows=RowGroup(table), problems=problems)
            first_row += height
            export.rows += height


def _paths(exports: Iterable[str]) -> Iterator[Path]:
    for given in exports:
        path = Path(given)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
            found = [p for p in found if ".audit." not in p.name and not p.name.endswith(".rejected.csv")]
            if not found:
                raise ExportError("empty_folder", path=given, suffixes=", ".join(SUFFIXES))
            yield from found
        elif path.exists():
            yield path
        else:
            matches = sorted(Path(name) for name in glob.glob(given, recursive=True))
            if not matches:
                raise ExportError("no_such_file", path=given)
            yield from matches


def _look(path: Path, job: Job) -> Export:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ExportError("cannot_open", path=path, reason=error.strerror or str(error)) from error
    if not head:
        raise ExportError("file_of_zero_bytes", path=path)
    if head.startswith(b"PAR1"):
        return _look_parquet(path)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise ExportError("not_csv_or_parquet", path=path, kind=kind)
    dialect = find_dialect(_whole_lines(head), str(path), encoding=job.encoding, delimiter=job.delimiter)
    record = _header_record(path, dialect)
    text = record.decode(_working_codec(dialect)).rstrip("\r\n")
    columns = header_cells(text, dialect.delimiter)
    if not columns:
        raise ExportError("no_header", path=path)
    facts = ExportFacts(str(path), "csv", tuple(columns), dialect.encoding, dialect.delimiter, record)
    return Export(path, facts, dialect)


def _header_record(path: Path, dialect: Dialect) -> bytes:
    """Give the bytes of the first record that is not blank, or none."""
    with path.open("rb") as file:
        chunks = _utf8_or_ascii_compatible(file, dialect, hashlib.sha256())
        for block in _blocks(chunks, dialect):
            if isinstance(block, _Malformed):
                return next((line for line in _physical_lines(block.rest) if line.strip()), b"")
            filled = np.flatnonzero(~block.blank)
            if len(filled):
                return block.record(int(filled[0]))
    return b""


def _whole_lines(head: bytes) -> bytes:
    """Cut a head so that no multi-byte character is split, where the file goes on."""
    if len(head) < HEAD_BYTES:
        return head
    cut = head.rfind(b"\n")
    if any(head.startswith(bom) for bom, _ in BOMS[:2] + BOMS[3:]) or cut < 0:
        return head[: len(head) // 4 * 4]
    return head[: cut + 1]


# --- CSV ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole records: `starts` has one offset into `data` per record and one for the end."""

    data: bytes
    starts: np.ndarray
    lines: np.ndarray  # physical line of each record's first byte, from 1
    cells: np.ndarray  # cells of each record
    blank: np.ndarray  # True: an empty line or bare delimiters

    def record(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.starts[index + 1]]


@dataclass(frozen=True, slots=True)
class _Malformed:
    """The rest of a file from the first block whose quotes do not pair up."""

    rest: Iterator[bytes]
    line: int


def _working_codec(dialect: Dialect) -> str:
    return dialect.encoding if dialect.ascii_compatible else "utf-8"


def _utf8_or_ascii_compatible(file: BinaryIO, dialect: Dialect, digest: "hashlib._Hash") -> Iterator[bytes]:
    """Give a file's bytes, without its mark, in an encoding whose delimiters are single bytes."""
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    skip = len(dialect.bom)
    while True:
        chunk = file.read(BLOCK_BYTES)
        digest.update(chunk)
        last = not chunk
        chunk, skip = chunk[skip:], 0
        if not dialect.ascii_compatible:
            chunk = decoder.decode(chunk, final=last).encode()
        if chunk:
            yield chunk
        if last:
            return


def _csv_groups(export: Export) -> Iterator[SourceGroup]:
    dialect = export.dialect
    assert dialect is not None  # noqa: S101 -- `read` sends only CSV files here
    path = str(export.path)
    try:
        with export.path.open("rb") as file:
            chunks = _utf8_or_ascii_compatible(file, dialect, export.digest)
            header_pending = True
            for block in _blocks(chunks, dialect):
                if isinstance(block, _Malformed):
                    yield from _record_by_record(export, block, skip_header=header_pending)
                    return
                keep = np.flatnonzero(~block.blank)
                if header_pending and len(keep):
                    keep, header_pending = keep[1:], False
                export.blank_lines += int(block.blank.sum())
                if len(keep):
                    yield _group_of_block(export, block, keep)
    except UnicodeDecodeError as error:
        raise ExportError(
            "not_this_encoding", path=path, encoding=dialect.encoding, line="?", byte=f"0x{error.object[error.start]:02x}"
        ) from error
    except OSError as error:
        raise ExportError("cannot_open", path=path, reason=error.strerror or str(error)) from error


def _blocks(chunks: Iterator[bytes], dialect: Dialect) -> Iterator[_Block | _Malformed]:
    delimiter = ord(dialect.delimiter)
    rest, line = b"", 1
    while True:
        chunk = next(chunks, b"")
        data, last = rest + chunk, not chunk
        if not data:
            return
        block, used = _cut(data, line, delimiter, last=last)
        if block is None:
            yield _Malformed(_chain(data, chunks), line)
            return
        if used:
            yield block
        line += data[:used].count(b"\n")
        rest = data[used:]
        if last:
            return
        if len(rest) > MAX_RECORD_BYTES:
            yield _Malformed(_chain(rest, chunks), line)
            return


def _chain(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _cut(data: bytes, line: int, delimiter: int, *, last: bool) -> tuple[_Block | None, int]:
    """Cut bytes that begin with a record into records; None where a quote stands in the wrong place.

    Returns the block and how many bytes it takes; the rest is the start of a record that goes on.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(buffer == LF)
    quotes = np.flatnonzero(buffer == QUOTE)
    marks = np.flatnonzero(buffer == delimiter)
    # Whether a position is inside quotes: an odd number of quotes stands before it.
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] if len(quotes) else newlines
    used = int(ends[-1]) + 1 if len(ends) else 0
    if last and used < len(data):
        if len(quotes) % 2:
            return None, 0
        ends, used = np.append(ends, len(data) - 1), len(data)
    if used == 0 and not last:
        return _empty_block(), 0
    if len(quotes):
        quotes = quotes[: np.searchsorted(quotes, used)]
        if not _well_formed(buffer, quotes, used, delimiter):
            return None, 0
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    starts = np.concatenate(([0], ends + 1))
    lines = line + np.searchsorted(newlines, starts[:-1])
    cells = np.diff(np.searchsorted(marks, starts)) + 1
    lengths = np.diff(starts)
    content = lengths - (buffer[ends] == LF)
    crlf = (content > 0) & (buffer[ends] == LF) & (buffer[np.maximum(ends - 1, 0)] == CR)
    blank = content - crlf == cells - 1
    return _Block(data[:used], starts, lines, cells, blank), used


def _empty_block() -> _Block:
    none = np.zeros(0, dtype=np.int64)
    return _Block(b"", np.zeros(1, dtype=np.int64), none, none, none.astype(bool))


def _well_formed(buffer: np.ndarray, quotes: np.ndarray, used: int, delimiter: int) -> bool:
    """Tell whether every quote opens a cell, closes one, or is one of a doubled pair inside."""
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    before = buffer[np.maximum(opening - 1, 0)]
    good_open = (opening == 0) | (before == delimiter) | (before == LF) | (before == QUOTE)
    after = buffer[np.minimum(closing + 1, used - 1)]
    good_close = (closing == used - 1) | (after == delimiter) | (after == LF) | (after == CR) | (after == QUOTE)
    return bool(good_open.all() and good_close.all())


def _group_of_block(export: Export, block: _Block, keep: np.ndarray) -> SourceGroup:
    columns = export.facts.columns
    counts = block.cells[keep]
    good = counts == len(columns)
    if good.all() and len(keep) == len(block.starts) - 1:
        data = block.data
    else:
        data = b"".join(
            _ended(block.record(i)) for i, whole in zip(keep.tolist(), good.tolist(), strict=True) if whole
        )
    table = _parse(data, export)
    if not good.all():
        table = _spread(table, good)
    problems = [
        _problem(int(i), "WRONG_NUMBER_OF_CELLS", str(int(counts[i])), str(len(columns)))
        for i in np.flatnonzero(~good)
    ]
    offsets = block.starts if len(keep) == len(block.starts) - 1 else None
    return SourceGroup(
        export=0,
        rows=RowGroup(table),
        row_numbers=pa.array(np.arange(export.rows + 1, export.rows + len(keep) + 1)),
        line_numbers=pa.array(block.lines[keep]),
        records=_binary(block.data, offsets)
        if offsets is not None
        else pa.array([block.record(int(i)) for i in keep], type=pa.large_binary()),
        problems=pl.DataFrame(problems, schema=PROBLEM_SCHEMA, orient="row"),
    )


def _ended(record: bytes) -> bytes:
    return record if record.endswith(b"\n") else record + b"\n"


def _binary(data: bytes, offsets: np.ndarray) -> pa.Array:
    """Wrap a block's bytes as one binary value per record, without copying."""
    return pa.Array.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)]
    )


def _parse(data: bytes, export: Export) -> pl.DataFrame:
    schema = dict.fromkeys(export.facts.columns, pl.String)
    if not data:
        return pl.DataFrame(schema=schema)
    dialect = export.dialect
    assert dialect is not None  # noqa: S101 -- only CSV files are parsed
    codec = _working_codec(dialect)
    if codec in {"utf-8", "ascii"}:
        codecs.utf_8_decode(data, "strict", True)  # noqa: FBT003 -- so that a bad byte is named like in other codecs
    else:
        data = data.decode(codec).encode()
    return pl.read_csv(
        io.BytesIO(data), has_header=False, separator=dialect.delimiter, schema=schema, infer_schema=False
    )


def _spread(table: pl.DataFrame, good: np.ndarray) -> pl.DataFrame:
    """Put empty lines where rows could not be read, so that lines and rows stay aligned."""
    position = np.where(good, np.cumsum(good) - 1, -1)
    index = pl.Series(position).replace(-1, None)
    return table.select(pl.all().gather(index)) if table.height else table.clear(len(good))


def _problem(row: int, code: str, value: str, limit: str) -> tuple[int, str, None, str, str, bool]:
    return (row, code, None, value, limit, True)


def _record_by_record(export: Export, rest: _Malformed, *, skip_header: bool) -> Iterator[SourceGroup]:
    """Read the rest of a file with Python's csv, strictly; what it refuses is an invalid row at its line."""
    dialect = export.dialect
    assert dialect is not None  # noqa: S101 -- only CSV files are parsed
    lines = _Lines(rest.rest, rest.line, _working_codec(dialect))
    reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    width = len(export.facts.columns)
    rows: list[list[str | None]] = []
    places: list[tuple[int, bytes]] = []
    problems: list[tuple[int, str, None, str, str, bool]] = []
    while True:
        lines.begin_record()
        try:
            cells: list[str] | None = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            cells, reason = None, str(error)
            if lines.at_end and lines.taken > 1:  # an unclosed quote swallowed the rest: only its own line is lost
                lines.rewind_to_second()
        if cells is not None and not any(cells):
            export.blank_lines += 1
            continue
        if skip_header:
            skip_header = False
            continue
        if cells is None:
            problems.append(_problem(len(rows), "BROKEN_QUOTES", reason, ""))
        elif len(cells) != width:
            problems.append(_problem(len(rows), "WRONG_NUMBER_OF_CELLS", str(len(cells)), str(width)))
        good = cells is not None and len(cells) == width
        rows.append([cell or None for cell in cells] if good and cells else [None] * width)
        places.append((lines.first_line, lines.record()))
        if len(rows) == ROWS_PER_GROUP:
            yield _group_of_records(export, rows, places, problems)
            rows, places, problems = [], [], []
    if rows:
        yield _group_of_records(export, rows, places, problems)


class _Lines:
    """Physical lines for csv.reader, which remembers what one record took."""

    def __init__(self, chunks: Iterator[bytes], line: int, codec: str) -> None:
        self._source = _physical_lines(chunks)
        self._codec = codec
        self._pending: list[bytes] = []
        self._record: list[bytes] = []
        self._next_line = line
        self.first_line = line
        self.at_end = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = self._pending.pop() if self._pending else next(self._source, None)
        if raw is None:
            self.at_end = True
            raise StopIteration
        self._record.append(raw)
        self._next_line += 1
        return raw.decode(self._codec)

    @property
    def taken(self) -> int:
        return len(self._record)

    def begin_record(self) -> None:
        self._record = []
        self.first_line = self._next_line

    def record(self) -> bytes:
        return b"".join(self._record)

    def rewind_to_second(self) -> None:
        self._pending.extend(reversed(self._record[1:]))
        self._next_line = self.first_line + 1
        del self._record[1:]
        self.at_end = False


def _physical_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _group_of_records(
    export: Export,
    rows: list[list[str | None]],
    places: list[tuple[int, bytes]],
    problems: list[tuple[int, str, None, str, str, bool]],
) -> SourceGroup:
    table = pl.DataFrame(rows, schema=dict.fromkeys(export.facts.columns, pl.String), orient="row")
    return SourceGroup(
        export=0,
        rows=RowGroup(table),
        row_numbers=pa.array(range(export.rows + 1, export.rows + len(rows) + 1), type=pa.int64()),
        line_numbers=pa.array([line for line, _ in places], type=pa.int64()),
        records=pa.array([record for _, record in places], type=pa.large_binary()),
        problems=pl.DataFrame(problems, schema=PROBLEM_SCHEMA, orient="row"),
    )


# --- Parquet -----------------------------------------------------------------------------------------------------


def _look_parquet(path: Path) -> Export:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise ExportError("broken_parquet", path=path, reason=_first_line(error)) from error
    names = pl.DataFrame({name: [name] for name in schema.names}, schema=dict.fromkeys(schema.names, pl.String))
    header = _csv_records(names)[0].as_py() if schema.names else b""
    facts = ExportFacts(str(path), "parquet", tuple(_column_names(schema)), header_record=header)
    return Export(path, facts)


def _column_names(schema: pa.Schema) -> Iterator[str]:
    """Name columns as they can be matched: `items.sku` for a list of structs or a struct."""
    for column in schema:
        kind = column.type.value_type if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else column.type
        if pa.types.is_struct(kind):
            yield from (f"{column.name}.{part.name}" for part in kind)
        else:
            yield column.name


def _parquet_groups(export: Export) -> Iterator[SourceGroup]:
    try:
        with export.path.open("rb") as raw:
            export.digest = hashlib.file_digest(raw, "sha256")
        with pq.ParquetFile(export.path) as file:
            row = 0
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                typed = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                table = typed.select(_as_text(typed.schema))
                numbers = pa.array(range(row + 1, row + table.height + 1), type=pa.int64())
                row += table.height
                yield SourceGroup(
                    export=0,
                    rows=RowGroup(table),
                    row_numbers=numbers,
                    line_numbers=pa.nulls(table.height, pa.int64()),
                    records=_csv_records(typed.select(_text(pl.col(n), t).alias(n) for n, t in typed.schema.items())),
                    problems=pl.DataFrame(schema=PROBLEM_SCHEMA),
                )
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise ExportError("broken_parquet", path=export.path, reason=_first_line(error)) from error


def _csv_records(table: pl.DataFrame) -> pa.Array:
    """Write rows as CSV records, for the file of rejected rows."""
    cells = [
        pl.when(pl.col(name).str.contains(r'[",\r\n]'))
        .then(pl.concat_str(pl.lit('"'), pl.col(name).str.replace_all('"', '""', literal=True), pl.lit('"')))
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
                yield _text(column.struct.field(part.name), part.dtype).alias(f"{name}.{part.name}")
        elif isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
            element = pl.element()
            yield column.list.eval(
                pl.struct(
                    _text(element.struct.field(part.name), part.dtype).alias(part.name)
                    for part in dtype.inner.fields
                )
            )
        else:
            yield _text(column, dtype).alias(name)


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
        return column.fill_nan(None).cast(pl.String).str.replace(r"\.0$", "")
    if isinstance(dtype, pl.Binary):
        return column.cast(pl.String, strict=False)
    return column.cast(pl.String)
