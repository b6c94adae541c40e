"""Files -> groups of rows whose cells are the file's own text.

What an input is stands in its first bytes, never in its name. This module looks at each input once
to know its columns, then reads them one after the other: CSV by `csv_reader`, Parquet, Excel and
JSON Lines by `tables`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO, Final

import polars as pl

from rd_import.csv_reader import csv_groups
from rd_import.dialect import (
    DELIMITERS,
    Dialect,
    find_dialect,
    header_cells,
    header_place,
    unique_names,
)
from rd_import.errors import ExportError
from rd_import.export import Export, Source
from rd_import.job import Job
from rd_import.sources import HEAD_BYTES, find_sources, head_of, open_source, seekable
from rd_import.tables import (
    JsonLines,
    excel_rows,
    header_record,
    parquet_columns,
    parquet_groups,
    refuse_columns,
    rows_as_groups,
)
from rd_import.values import PROBLEM_SCHEMA, ROW, ExportFacts, RowGroup, SourceGroup

TOTALS: Final = (
    "total", "totals", "grand total", "total geral", "totais", "subtotal", "sub-total", "soma",
    "suma", "total general", "totales",
)  # fmt: skip
TOTAL_BEGINS: Final = r"(?i)^\s*(?:tota|grand|sub-?tot|som|sum)"  # what all of them begin with
EXCEL_TRIED: Final = 50  # rows among which the header of a workbook is looked for


def find_exports(job: Job, spool: ExitStack | None = None) -> tuple[Export, ...]:
    """Name every file of a job and look at its header.

    Args:
        job: What to read, and what the user says about it.
        spool: Closes what must stay until the reading ends: the copies of stdin and of objects in a
            store.

    Raises:
        ExportError: An input is missing, unreadable, empty, or no table.
        NothingSent: A question is open without which not even the columns are known.
    """
    keep = spool if spool is not None else ExitStack()
    return tuple(_narrow(_look(source, job, keep)) for source in find_sources(job.exports, keep))


def read(exports: Sequence[Export]) -> Iterator[SourceGroup]:
    """Read files one after the other, rows in file order, `#row` counting from 0 over all of them.

    Raises:
        ExportError: A file is not what its head promised: another encoding, cut off, or unreadable.
    """
    first_row = 0
    for number, export in enumerate(exports):
        for found in _groups(export):
            group = _marked(found, export)
            height = group.rows.table.height
            table = group.rows.table.with_columns(
                pl.int_range(first_row, first_row + height, dtype=pl.UInt32).alias(ROW)
            )
            problems = group.problems.with_columns((pl.col(ROW) + first_row).cast(pl.UInt32))
            first_row += height
            export.rows += height
            yield replace(group, export=number, rows=RowGroup(table), problems=problems)


# --- what an input is
# --------------------------------------------------------------------------------------------


def _look(source: Source, job: Job, spool: ExitStack) -> Export:
    head = head_of(source)
    if not head:
        raise ExportError("file_of_zero_bytes", path=source.shown)
    if head.startswith(b"PAR1"):
        return _look_parquet(_plain(source, spool))
    if head.startswith(b"PK\x03\x04"):
        return _look_excel(_plain(source, spool), job)
    if _is_json(head):
        return _look_json(source, one_list=_is_json_list(head))
    return _look_csv(source, head, job)


def _narrow(export: Export) -> Export:
    refuse_columns(export.facts.path, len(export.facts.columns))
    return export


def _plain(source: Source, spool: ExitStack) -> Source:
    """Give a source whose file is the table itself, for readers that jump within it."""
    return replace(source, path=seekable(source, spool), layers=(), member=None, name=source.shown)


def _is_json(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (text.startswith(b"{") and text[1:].lstrip()[:1] in {b'"', b"}"}) or _is_json_list(text)


def _is_json_list(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(b"[") and text[1:].lstrip()[:1] == b"{"


def _look_csv(source: Source, head: bytes, job: Job) -> Export:
    whole = len(head) < HEAD_BYTES
    if not whole and not any(end in head for end in (b"\n", b"\r")):
        raise ExportError("header_too_long", path=source.shown, most=HEAD_BYTES)
    dialect = find_dialect(
        head if whole else _whole_characters(head),
        source.shown,
        encoding=job.encoding,
        delimiter=job.delimiter,
        header=job.header,
        whole=whole,
    )
    if not dialect.cells:
        raise ExportError("no_header", path=source.shown)
    record = _header_record(source, dialect) if dialect.has_header else b""
    if dialect.has_header:
        text = record.decode(dialect.working_codec, "replace").rstrip("\r\n")
        columns = header_cells(text, dialect.delimiter, dialect)
        tail = dialect.delimiter * (dialect.cells - len(columns))
        if tail:
            columns = header_cells(text + tail, dialect.delimiter, dialect)
            names = record.rstrip(b"\r\n")
            record = names + tail.encode() + record[len(names) :]
    else:
        columns = unique_names([""] * dialect.cells)
    quoted = record.startswith(dialect.quote.encode())
    if quoted and len(columns) == 1 and any(columns[0].count(one) > 1 for one in DELIMITERS):
        raise ExportError("rows_in_one_cell", path=source.shown, first=columns[0])
    facts = ExportFacts(
        source.shown, "csv", tuple(columns), dialect.encoding, dialect.delimiter, record
    )
    return Export(source.path, facts, dialect, blank_lines=dialect.blank_before, source=source)


def _whole_characters(head: bytes) -> bytes:
    """Cut a head after its last line break, so that no character is split."""
    for end in (b"\n", b"\r"):
        cut = head.rfind(end)
        if cut >= 0:
            return head[: cut + 1] if b"\0" not in head else head[: len(head) // 4 * 4]
    return head[: len(head) // 4 * 4]


def _header_record(source: Source, dialect: Dialect) -> bytes:
    """Give the header's own bytes, in the working encoding."""
    facts = ExportFacts(source.shown, "csv", tuple(unique_names([""] * dialect.cells)))
    probe = Export(source.path, facts, replace(dialect, has_header=False, settled=True))
    with open_source(source) as stream:
        first = next(csv_groups(probe, stream), None)
    record: bytes = first.records[0].as_py() if first is not None else b""
    return record


def _look_parquet(source: Source) -> Export:
    columns = parquet_columns(source.path, source.shown)
    numeric = frozenset(name for name, is_number in columns.items() if is_number)
    facts = ExportFacts(
        source.shown,
        "parquet",
        tuple(columns),
        header_record=header_record(columns),
        numeric=numeric,
    )
    return Export(source.path, facts, source=source)


def _look_excel(source: Source, job: Job) -> Export:
    first, columns, _ = _excel_header(source, job)
    if not columns:
        raise ExportError("no_header", path=source.shown)
    has_header = first >= 0
    facts = ExportFacts(
        source.shown, "excel", columns, header_record=header_record(columns) if has_header else b""
    )
    return Export(source.path, facts, source=source)


def _excel_header(source: Source, job: Job | None) -> tuple[int, tuple[str, ...], bool]:
    """Find the header among a workbook's first filled rows: its place, and the names."""
    rows = excel_rows(source.path, source.shown)
    tried = [
        [cell or "" for cell in row]
        for _, row in (one for one, _ in zip(rows, range(EXCEL_TRIED), strict=False))
    ]
    if not tried:
        raise ExportError("file_of_zero_bytes", path=source.shown)
    place, there = header_place(tried, job.header if job else None)
    width = max((number + 1 for row in tried for number, cell in enumerate(row) if cell), default=0)
    if not there:
        return -1 - place, tuple(unique_names([""] * width)), False
    filled = max(number + 1 for number, cell in enumerate(tried[place]) if cell)
    return place, tuple(unique_names(tried[place][:filled])), True


def _look_json(source: Source, *, one_list: bool) -> Export:
    with open_source(source) as stream:
        lines = JsonLines(stream, source.shown, one_list=one_list)
    if not lines.names:
        raise ExportError("no_header", path=source.shown)
    facts = ExportFacts(source.shown, "jsonl", lines.names, "utf-8", None, lines.header_record)
    export = Export(source.path, facts, source=source)
    export.json_lines = lines
    return export


# --- rows -----------------------------------------------------------------------------------------
# ---------------


def _groups(export: Export) -> Iterator[SourceGroup]:
    source = export.source
    assert source is not None
    hashed_on_the_way = export.facts.file_format == "csv" and not source.layers
    try:
        if not hashed_on_the_way:
            with export.path.open("rb") as raw:
                export.digest = hashlib.file_digest(raw, "sha256")
        if export.facts.file_format == "parquet":
            yield from parquet_groups(export.path, source.shown)
        elif export.facts.file_format == "excel":
            yield from _excel_groups(export, source)
        elif export.json_lines is not None:
            with open_source(source) as stream:
                yield from export.json_lines.groups(stream)
        else:
            with open_source(source) as stream:
                yield from csv_groups(
                    export, _Hashed(stream, export) if hashed_on_the_way else stream
                )
    except OSError as error:
        raise ExportError(
            "cannot_open", path=source.shown, reason=error.strerror or str(error)
        ) from error


class _Hashed:
    """A stream whose bytes go into the checksum as they are read."""

    def __init__(self, stream: BinaryIO, export: Export) -> None:
        self._stream = stream
        self._export = export

    def read(self, size: int) -> bytes:
        """Read up to so many bytes."""
        data = self._stream.read(size)
        self._export.digest.update(data)
        return data


def _excel_groups(export: Export, source: Source) -> Iterator[SourceGroup]:
    first, columns, there = (
        _excel_header(source, None)
        if export.facts.header_record
        else (0, export.facts.columns, False)
    )
    rows = excel_rows(source.path, source.shown)
    for _ in range(first + 1 if there else 0):
        next(rows, None)
    yield from rows_as_groups(rows, columns)


def _marked(group: SourceGroup, export: Export) -> SourceGroup:
    """Set aside totals, the header once more, and what follows a second table's header."""
    if export.facts.file_format not in {"csv", "excel"}:
        return group
    table = group.rows.table
    columns = export.facts.columns
    if export.second_table:
        return replace(
            group, problems=_problems(range(table.height), "SECOND_TABLE", group.problems)
        )
    first = pl.coalesce(pl.col(columns[:2]))
    suspects = table.select(
        first.str.contains(TOTAL_BEGINS).alias("total"),
        (pl.col(columns[0]).str.strip_chars() == export.facts.columns[0]).alias("header"),
    )
    totals = [
        i
        for i in suspects["total"].arg_true().to_list()
        if next(filter(None, table.row(i)[:2])).strip().rstrip(":").lower() in TOTALS
    ]
    repeated = [
        i
        for i in (suspects["header"].arg_true().to_list() if export.facts.header_record else [])
        if _says_header(table.row(i), columns)
    ]
    if not totals and not repeated:
        return group
    again, second = _repeats(group, export, repeated)
    problems = _problems(
        (i for i in totals if i not in again and i < second), "TOTALS_ROW", group.problems
    )
    problems = _problems(again, "REPEATED_HEADER", problems)
    if second < table.height:
        export.second_table = True
        problems = _problems(range(second, table.height), "SECOND_TABLE", problems)
    export.not_data += len(again) + sum(i < second for i in totals)
    return replace(group, problems=problems)


def _says_header(cells: tuple[str | None, ...], columns: tuple[str, ...]) -> bool:
    """Tell whether a row's cells are the columns' names."""
    return tuple(unique_names([cell or "" for cell in cells])) == columns


def _repeats(group: SourceGroup, export: Export, repeated: list[int]) -> tuple[list[int], int]:
    """Tell the header once more from the header of a second table.

    It is the same one right below itself, or byte for byte, as in files that were put together. A
    line with one cell above such a header is its title.

    Returns:
        The rows that repeat the header, and the row at which another program's table begins.
    """
    header = export.facts.header_record.rstrip(b"\r\n")
    again: list[int] = []
    for row in repeated:
        at_top = export.rows == 0 and row == len(again)
        if at_top or group.records[row].as_py().rstrip(b"\r\n") == header:
            has_title = row > 0 and sum(
                cell is not None for cell in group.rows.table.row(row - 1)
            ) == 1 < len(header)
            again += [row - 1, row] if has_title and group.rows.table.width > 1 else [row]
        else:
            return again, row
    return again, group.rows.table.height


def _problems(
    rows: "Iterator[int] | Sequence[int] | range", code: str, known: pl.DataFrame
) -> pl.DataFrame:
    flawed = set(known[ROW].to_list())
    new = [(row, code, None, None, None, True) for row in rows if row not in flawed]
    return (
        pl.concat([known, pl.DataFrame(new, schema=PROBLEM_SCHEMA, orient="row")]) if new else known
    )
