"""The bytes of one CSV file -> groups of rows whose cells are the file's own text.

A file is cut into records by the parity of its quotes, on whole blocks of bytes at once: that gives
each record's bytes and physical line, and proves that the quotes are well formed. Only then is a
block given to polars, which reads such a block faithfully. A block whose quotes are not well
formed, or whose dialect polars does not know, is read record by record with Python's csv in strict
mode, so that a broken record costs one row and not its neighbours; the next block is tried the fast
way again.
"""

import codecs
import csv
import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from rd_import.dialect import Dialect, doubled
from rd_import.encodings import narrow_encoding
from rd_import.errors import ExportError
from rd_import.export import Export
from rd_import.values import (
    KEPT_OF_TOO_LONG,
    MAX_RECORD_BYTES,
    PROBLEM_SCHEMA,
    RowGroup,
    SourceGroup,
)

BLOCK_BYTES: Final = 3 << 20
"""Some 12,000 rows of an ordinary order export: at half of it, `check` takes a fifth longer; at twice, 50 MB more."""

MAX_UNREADABLE: Final = 100_000
"""Rows that may be unreadable even if they are nearly all: each is kept in memory with its reason."""

NEARLY_ALL: Final = 0.9
FREE_LOOKAHEAD: Final = 64 << 20
"""Bytes behind open quotes that may be read again, whatever the file's size; and `LOOKAHEAD` times the bytes read."""

LOOKAHEAD: Final = 4
LINE_COSTS: Final = 100  # bytes whose reading takes as long as beginning a line
CR: Final = 13
HIDDEN_CR: Final = "\udfff"  # no decoded text holds it
FORMULA: Final = b'="'
FORMULA_TEXT: Final = r'^="([^"]*)"$'
"""What programs write so that a spreadsheet keeps a text as it is, such as the zeros of `="00012"`."""


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Give up to so many bytes; none at the end."""


_Problem = tuple[int, str, str | None, str, str, bool]


def csv_groups(export: Export, stream: Readable) -> Iterator[SourceGroup]:
    """Read one file to its end.

    Args:
        export: Its facts; `blank_lines`, `digest` and, where only its first other byte than ASCII
            tells the encoding, `dialect` are brought up to date on the way.
        stream: Its bytes, decompressed.

    Raises:
        ExportError: It is not text in its encoding as a whole.
    """
    dialect = export.dialect
    assert dialect is not None
    csv.field_size_limit(2 * MAX_RECORD_BYTES)
    reading = _Reading(export, header_pending=dialect.has_header)
    chunks = _settled(_working_chunks(stream, dialect, str(export.path)), export)
    rest, line = b"", dialect.start_line
    while True:
        chunk = next(chunks, b"")
        data, last = rest + chunk, not chunk
        if not data:
            return
        used = yield from reading.groups(data, line, last=last)
        if not used and not last and len(data) > MAX_RECORD_BYTES:
            yield reading.too_long(data, line)
            data, used = _to_line_end(data, chunks, reading.end)
        line += data[:used].count(reading.end)
        rest = data[used:]


def _to_line_end(data: bytes, chunks: Iterator[bytes], end: bytes) -> tuple[bytes, int]:
    """Pass over the rest of a physical line that is too long, keeping none of it."""
    while end not in data:
        data = next(chunks, b"")
        if not data:
            return b"", 0
    return data, data.index(end) + 1


def _working_chunks(stream: Readable, dialect: Dialect, path: str) -> Iterator[bytes]:
    """Give the bytes from the header on, in an encoding whose delimiters are single bytes."""
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    mark, skip, line = len(dialect.bom), dialect.start, 1
    while True:
        chunk = stream.read(BLOCK_BYTES)
        last = not chunk
        chunk, mark = chunk[mark:], 0
        if not dialect.ascii_compatible:
            try:
                chunk = decoder.decode(chunk, final=last).encode()
            except UnicodeError as error:
                at = error.object[error.start] if isinstance(error, UnicodeDecodeError) else 0
                raise ExportError(
                    "not_this_encoding",
                    path=path,
                    encoding=dialect.encoding,
                    line=line + _line_ends_before(error, dialect.encoding),
                    byte=f"0x{at:02x}",
                ) from error
            line += chunk.count(b"\n")
        if skip:
            chunk, skip = chunk[skip:], max(skip - len(chunk), 0)
        if chunk:
            yield chunk
        if last:
            return


def _line_ends_before(error: UnicodeError, codec: str) -> int:
    if not isinstance(error, UnicodeDecodeError):
        return 0
    return error.object[: error.start].decode(codec, "replace").count("\n")


def _settled(chunks: Iterator[bytes], export: Export) -> Iterator[bytes]:
    """Decide on the encoding at the first byte that is not ASCII, however late it stands."""
    for chunk in chunks:
        dialect = export.dialect
        if dialect is not None and not dialect.settled and not chunk.isascii():
            found = narrow_encoding(chunk[: chunk.rfind(b"\n") + 1] or chunk)
            others = tuple(one for one in dialect.findings if one.what != "encoding")
            export.dialect = replace(
                dialect, encoding=found.codec, settled=True, findings=(found.finding, *others)
            )
        yield chunk


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


@dataclass(slots=True)
class _Reading:
    """One file on its way: `header_pending` until its header was passed."""

    export: Export
    header_pending: bool
    unreadable: int = 0
    again: int = 0  # bytes read behind quotes that were never closed, to be read again
    allowed: int = FREE_LOOKAHEAD

    @property
    def dialect(self) -> Dialect:
        dialect = self.export.dialect
        assert dialect is not None
        return dialect

    @property
    def end(self) -> bytes:
        return self.dialect.line_end.encode()

    @property
    def width(self) -> int:
        return len(self.export.facts.columns)

    def groups(self, data: bytes, line: int, *, last: bool) -> Generator[SourceGroup, None, int]:
        """Read the whole records at the beginning of `data`; returns how many bytes they take.

        Raises:
            ExportError: Open quotes without end make it read the same lines over and over, or hardly a row has as
                many cells as the header.
        """
        block, used = _cut(data, line, self.dialect, last=last) if self.dialect.plain else (None, 0)
        if block is None:
            return (yield from self._record_by_record(data, line, last=last))
        keep = np.flatnonzero(~block.blank)
        if self.header_pending and len(keep):
            keep, self.header_pending = keep[1:], False
        self.export.blank_lines += int(block.blank.sum())
        if len(keep):
            yield self._group_of_block(block, keep)
        return used

    def too_long(self, data: bytes, line: int) -> SourceGroup:
        """Set a record aside that no event could hold."""
        return self._group_of_records(
            [[None] * self.width], [(line, data[:KEPT_OF_TOO_LONG])], [self._overlong(0, data)]
        )

    # --- whole blocks ---

    def _group_of_block(self, block: _Block, keep: np.ndarray) -> SourceGroup:
        counts = block.cells[keep]
        flawed = {
            int(i): self._wrong_count(int(i), int(counts[i]))
            for i in np.flatnonzero(counts != self.width)
        }
        flawed |= self._unreadable(block, keep)
        good = np.ones(len(keep), dtype=bool)
        good[list(flawed)] = False
        # One record after the other only where some are left out between others.
        side_by_side = len(keep) and int(keep[-1] - keep[0]) + 1 == len(keep)
        starts = block.starts[keep[0] : keep[-1] + 2] if side_by_side else None
        data = (
            block.data[starts[0] : starts[-1]]
            if starts is not None and not flawed
            else b"".join(self._ended(block.record(i)) for i in keep[good].tolist())
        )
        table = _texts(self._parse(data), formulas=FORMULA in data)
        if flawed:
            table = _spread(table, good)
        records = (
            _binary(block.data, starts)
            if starts is not None
            else pa.array([block.record(int(i)) for i in keep], type=pa.large_binary())
        )
        return self._group(table, records, block.lines[keep], [flawed[i] for i in sorted(flawed)])

    def _unreadable(self, block: _Block, keep: np.ndarray) -> dict[int, _Problem]:
        """Name records that hold NULs, bytes of another encoding, or more than any event can."""
        found: dict[int, _Problem] = {}
        for i in np.flatnonzero(np.diff(block.starts)[keep] > MAX_RECORD_BYTES).tolist():
            found[i] = self._overlong(i, block.record(int(keep[i])))
        codec = self.dialect.working_codec
        if b"\0" not in block.data and _decodes(block.data, codec):
            return found
        for i, at in enumerate(keep.tolist()):
            record = block.record(at)
            if i not in found and (b"\0" in record or not _decodes(record, codec)):
                found[i] = self._bad_bytes(i, record)
        return found

    def _parse(self, data: bytes) -> pl.DataFrame:
        schema = dict.fromkeys(self.export.facts.columns, pl.String)
        if not data:
            return pl.DataFrame(schema=schema)
        dialect = self.dialect
        if dialect.working_codec not in {"utf-8", "ascii"}:
            data = data.decode(dialect.working_codec).encode()
        if data.startswith(codecs.BOM_UTF8):
            data = codecs.BOM_UTF8 + data  # polars drops one; the file's own was dropped already
        return pl.read_csv(
            io.BytesIO(data),
            has_header=False,
            separator=dialect.delimiter,
            quote_char=dialect.quote,
            eol_char=dialect.line_end,
            schema=schema,
            infer_schema=False,
        )

    # --- one record after the other ---

    def _record_by_record(
        self, data: bytes, line: int, *, last: bool
    ) -> Generator[SourceGroup, None, int]:
        """Read `data` with Python's csv, strictly; what it refuses is an invalid row."""
        lines = data.split(self.end)
        lines = [one + self.end for one in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        rows: list[list[str | None]] = []
        places: list[tuple[int, bytes]] = []
        problems: list[_Problem] = []
        at = 0
        while at < len(lines):
            cells, taken, reason = self._next_record(lines, at)
            open_end = at + taken == len(lines) and (reason or not lines[-1].endswith(self.end))
            size = sum(map(len, lines[at : at + taken]))
            if open_end and not last and size <= MAX_RECORD_BYTES:
                break  # it goes on in the next block
            if open_end and not last and taken == 1 and not lines[at].endswith(self.end):
                break  # one line beyond the limit: `too_long`, where nothing stands before it
            if reason:
                self._look_ahead(line, size + LINE_COSTS * taken)
                taken = 1  # an open quote swallows what follows; only its own line is lost
            self.allowed += LOOKAHEAD * (sum(map(len, lines[at : at + taken])) + LINE_COSTS * taken)
            record = b"".join(lines[at : at + taken])
            quoted = self.dialect.quote.encode() in record  # `"",""` is a row, as for `_cut`
            if cells is not None and not any(cells) and not quoted:
                self.export.blank_lines += 1
            elif self.header_pending:
                self.header_pending = False
            else:
                problem = self._flaw(len(rows), cells, record, reason)
                problems += [problem] if problem else []
                rows.append(
                    [None] * self.width
                    if problem or cells is None
                    else [cell or None for cell in cells]
                )
                places.append((line, record))
            line += taken
            at += taken
        if rows:
            yield self._group_of_records(rows, places, problems)
        return sum(map(len, lines[:at]))

    def _look_ahead(self, line: int, cost: int) -> None:
        self.again += cost
        if self.again > self.allowed:
            raise ExportError("open_quotes", path=self.export.facts.path, line=line)

    def _next_record(self, lines: list[bytes], at: int) -> tuple[list[str] | None, int, str]:
        """Give a record's cells, how many lines it takes, and what is wrong with its quotes."""
        dialect, taken = self.dialect, 0

        def decoded() -> Iterator[str]:
            nonlocal taken
            while at + taken < len(lines):
                raw = lines[at + taken]
                taken += 1
                text = (raw[:-1] + b"\n" if raw[-1:] == b"\r" else raw).decode(
                    dialect.working_codec, "surrogateescape"
                )
                text = _hide_lone_cr(text)
                yield doubled(text) if dialect.escape else text

        reader = csv.reader(
            decoded(),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            skipinitialspace=dialect.space_after,
            strict=True,
        )
        try:
            return [cell.replace(HIDDEN_CR, "\r") for cell in next(reader)], taken, ""
        except csv.Error as error:
            return None, taken, str(error)

    def _flaw(
        self, row: int, cells: list[str] | None, record: bytes, reason: str
    ) -> _Problem | None:
        if cells is None:
            return (row, "BROKEN_QUOTES", None, reason, "", True)
        if len(record) > MAX_RECORD_BYTES:
            return self._overlong(row, record)
        if len(cells) != self.width:
            return self._wrong_count(row, len(cells))
        if b"\0" in record or not _decodes(record, self.dialect.working_codec):
            return self._bad_bytes(row, record)
        if self.dialect.quote == "'" and b'""' in record:
            return (
                row,
                "BROKEN_QUOTES",
                None,
                'a doubled " between single quotes: one or two are meant',
                "",
                True,
            )
        return None

    def _group_of_records(
        self,
        rows: list[list[str | None]],
        places: list[tuple[int, bytes]],
        problems: list[_Problem],
    ) -> SourceGroup:
        table = pl.DataFrame(
            rows, schema=dict.fromkeys(self.export.facts.columns, pl.String), orient="row"
        )
        return self._group(
            _texts(table, formulas=any(FORMULA in record for _, record in places)),
            pa.array([record for _, record in places], type=pa.large_binary()),
            np.array([line for line, _ in places], dtype=np.int64),
            problems,
        )

    # --- both ---

    def _group(
        self, table: pl.DataFrame, records: pa.Array, lines: np.ndarray, problems: list[_Problem]
    ) -> SourceGroup:
        first = self.export.rows + 1
        self.unreadable += len(problems)
        rows = self.export.rows + table.height
        if self.unreadable > max(MAX_UNREADABLE, NEARLY_ALL * rows):
            raise ExportError(
                "hardly_a_row",
                path=self.export.facts.path,
                unreadable=self.unreadable,
                rows=rows,
                line=int(lines[problems[0][0]]),
            )
        return SourceGroup(
            export=0,
            rows=RowGroup(table),
            row_numbers=pa.array(np.arange(first, first + table.height)),
            line_numbers=pa.array(lines),
            records=records,
            problems=pl.DataFrame(problems, schema=PROBLEM_SCHEMA, orient="row"),
        )

    def _ended(self, record: bytes) -> bytes:
        return record if record.endswith(self.end) else record + self.end

    def _wrong_count(self, row: int, cells: int) -> _Problem:
        return (row, "WRONG_NUMBER_OF_CELLS", None, str(cells), str(self.width), True)

    def _overlong(self, row: int, record: bytes) -> _Problem:
        return (
            row,
            "RECORD_TOO_LONG",
            self._column_at(record[:MAX_RECORD_BYTES]),
            "",
            str(MAX_RECORD_BYTES),
            True,
        )

    def _bad_bytes(self, row: int, record: bytes) -> _Problem:
        """Name the first byte of a record that is no character, and its column."""
        at = record.find(b"\0")
        if at >= 0:
            return (row, "HOLDS_NUL", self._column_at(record[:at]), "", "", True)
        try:
            record.decode(self.dialect.working_codec)
        except UnicodeDecodeError as error:
            at = error.start
        return (
            row,
            "BAD_BYTES",
            self._column_at(record[:at]),
            f"0x{record[at]:02x}",
            self.dialect.encoding,
            True,
        )

    def _column_at(self, before: bytes) -> str | None:
        """Name the column in which a record's first bytes end."""
        text = before.decode("latin-1").replace("\r", " ")
        cells = next(
            csv.reader([text], delimiter=self.dialect.delimiter, quotechar=self.dialect.quote), [""]
        )
        columns = self.export.facts.columns
        return columns[len(cells) - 1] if 0 < len(cells) <= len(columns) else None


def _texts(table: pl.DataFrame, *, formulas: bool) -> pl.DataFrame:
    """Take the texts out of cells such as `="00012"`, where there are any."""
    return table.with_columns(pl.all().str.replace(FORMULA_TEXT, "$1")) if formulas else table


def _hide_lone_cr(line: str) -> str:
    """Keep Python's csv from ending a record at a CR within the line, which is text like other."""
    if line.find("\r", 0, -2) < 0:
        return line
    end = next((end for end in ("\r\n", "\n") if line.endswith(end)), "")
    return line.removesuffix(end).replace("\r", HIDDEN_CR) + end


def _decodes(data: bytes, codec: str) -> bool:
    try:
        codecs.decode(data, codec)
    except UnicodeDecodeError:
        return False
    return True


def _cut(data: bytes, line: int, dialect: Dialect, *, last: bool) -> tuple[_Block | None, int]:
    """Cut bytes that begin with a record into records; None where a quote is in a wrong place.

    Returns the block and how many bytes it takes; the rest is the start of a record that goes on.
    """
    delimiter, end = ord(dialect.delimiter), ord(dialect.line_end)
    buffer = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(buffer == end)
    quotes = np.flatnonzero(buffer == ord(dialect.quote))
    marks = np.flatnonzero(buffer == delimiter)
    # Whether a position is inside quotes: an odd number of quotes stands before it.
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] if len(quotes) else newlines
    used = int(ends[-1]) + 1 if len(ends) else 0
    if last and used < len(data):
        if len(quotes) % 2:
            return None, 0
        ends, used = np.append(ends, len(data) - 1), len(data)
    if used == 0:
        beyond = (
            len(data) > MAX_RECORD_BYTES and len(newlines) > 0
        )  # a quote was opened and never closed
        return None if beyond else _empty_block(), 0
    if len(quotes):
        quotes = quotes[: np.searchsorted(quotes, used)]
        if not _well_formed(buffer, quotes, used, delimiter, end):
            return None, 0
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    starts = np.concatenate(([0], ends + 1))
    lines = line + np.searchsorted(newlines, starts[:-1])
    cells = np.diff(np.searchsorted(marks, starts)) + 1
    lengths = np.diff(starts)
    ended = buffer[ends] == end
    content = lengths - ended
    crlf = (content > 0) & ended & (buffer[np.maximum(ends - 1, 0)] == CR) & (end != CR)
    blank = content - crlf == cells - 1
    return _Block(data[:used], starts, lines, cells, blank), used


def _empty_block() -> _Block:
    none = np.zeros(0, dtype=np.int64)
    return _Block(b"", np.zeros(1, dtype=np.int64), none, none, none.astype(bool))


def _well_formed(
    buffer: np.ndarray, quotes: np.ndarray, used: int, delimiter: int, end: int
) -> bool:
    """Tell whether every quote opens a cell, closes one, or is one of a doubled pair inside."""
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    quote = buffer[quotes[0]] if len(quotes) else 0
    before = buffer[np.maximum(opening - 1, 0)]
    good_open = (opening == 0) | (before == delimiter) | (before == end) | (before == quote)
    after = buffer[np.minimum(closing + 1, used - 1)]
    good_close = (
        (closing == used - 1)
        | (after == delimiter)
        | (after == end)
        | ((after == CR) & (buffer[np.minimum(closing + 2, used - 1)] == end))
        | (after == quote)
    )
    return bool(good_open.all() and good_close.all())


def _binary(data: bytes, offsets: np.ndarray) -> pa.Array:
    """Wrap a block's bytes as one binary value per record, without copying."""
    return pa.Array.from_buffers(
        pa.large_binary(),
        len(offsets) - 1,
        [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)],
    )


def _spread(table: pl.DataFrame, good: np.ndarray) -> pl.DataFrame:
    """Put empty lines where rows could not be read, so that lines and rows stay aligned."""
    position = np.where(good, np.cumsum(good) - 1, -1)
    index = pl.Series(position).replace(-1, None)
    return table.select(pl.all().gather(index)) if table.height else table.clear(len(good))
