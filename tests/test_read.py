"""Files become rows of the file's own text, at the right line, whatever stands in the cells."""

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command
from rd_import import csv_reader
from rd_import.dialect import header_cells
from rd_import.errors import ExportError, NothingSent
from rd_import.job import Job
from rd_import.read import find_exports, read
from rd_import.values import ROW

Row = tuple[str | None, ...]
BLOCKS = (7, 16, 64, 8 << 20)
QUOTINGS: Sequence[Literal[0, 1]] = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)


@dataclass(frozen=True)
class Found:
    """What reading gave: one entry per row, and each problem as (row, code)."""

    columns: tuple[str, ...]
    rows: list[Row]
    numbers: list[int]
    lines: list[int]
    records: list[bytes]
    problems: list[tuple[int, str]]
    blank_lines: int


def read_file(path: Path, **options: Any) -> Found:
    exports = find_exports(Job(exports=(str(path),), event_type="CONVERSION", **options))
    rows: list[Row] = []
    numbers, lines, records = [], [], []
    problems: list[tuple[int, str]] = []
    for group in read(exports):
        table = group.rows.table
        assert table[ROW].to_list() == list(range(len(rows), len(rows) + table.height))
        rows += [tuple(cell or None for cell in row) for row in table.drop(ROW).rows()]
        numbers += group.row_numbers.to_pylist()
        lines += group.line_numbers.to_pylist()
        records += group.records.to_pylist()
        problems += group.problems.select(ROW, "code").rows()
    assert exports[0].rows == len(rows)
    return Found(
        exports[0].facts.columns, rows, numbers, lines, records, problems, exports[0].blank_lines
    )


def read_bytes(data: bytes, *, block: int = 8 << 20, **options: Any) -> Found:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(csv_reader, "BLOCK_BYTES", block)
        path = Path(folder, "export.csv")
        path.write_bytes(data)
        return read_file(path, **options)


# --- CSV: any table, any dialect, any size of block -----------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table as a program writes it: `data` is the whole file, `records` its rows' own bytes."""

    rows: list[Row]
    data: bytes
    records: list[bytes]
    lines: list[int]
    blank_lines: int
    delimiter: str
    first_row: int  # offset of the first row, or of the end


cells = st.text(
    st.sampled_from(("a", "Z", "0", " ", '"', "'", ",", ";", "\t", "|", "\n", "ç", "€", "😀")),
    max_size=6,
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Draw a table with an id in its first column, and blank lines anywhere."""
    delimiter = draw(st.sampled_from((",", ";", "\t", "|")))
    end = draw(st.sampled_from(("\n", "\r\n")))
    quoting = draw(st.sampled_from(QUOTINGS))
    width = draw(st.integers(1, 4))
    header = ("alpha", "beta", "gamma", "delta")[:width]
    rows = draw(st.lists(st.tuples(*[cells] * width), max_size=8))
    rows = [(f"{number}{row[0]}", *row[1:]) for number, row in enumerate(rows)]
    blanks = [
        draw(st.lists(st.sampled_from(("", delimiter * (width - 1))), max_size=2))
        for _ in range(len(rows) + 2)
    ]
    parts = list[bytes]()
    for row in (header, *rows):
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end).writerow(row)
        parts.append(buffer.getvalue().encode())
    lines, data, first_row = list[int](), b"", 0
    for blank, part in zip(blanks, parts, strict=False):
        data += "".join(line + end for line in blank).encode()
        lines.append(data.count(b"\n") + 1)
        data += part
        first_row = first_row or len(data)
    data += "".join(line + end for line in blanks[-1]).encode()
    if draw(st.booleans()) and not blanks[-1] and parts[1:]:
        data = data.removesuffix(end.encode())
        parts[-1] = parts[-1].removesuffix(end.encode())
    return Table(
        rows=[tuple(cell or None for cell in row) for row in rows],
        data=data,
        records=parts[1:],
        lines=lines[1:],
        blank_lines=sum(map(len, blanks)),
        delimiter=delimiter,
        first_row=first_row,
    )


@pytest.mark.parametrize("block", BLOCKS)
@given(tables())
def test_every_table_is_read_as_it_was_written_whatever_the_block_size(
    block: int, table: Table
) -> None:
    """A file is cut into blocks anywhere: inside a cell, a quote, a line end or a character."""
    found = read_bytes(table.data, block=block, delimiter=table.delimiter)
    assert found.rows == table.rows
    assert found.lines == table.lines
    assert found.records == table.records
    assert found.numbers == list(range(1, len(table.rows) + 1))
    assert found.problems == []
    assert found.blank_lines == table.blank_lines


@pytest.mark.parametrize("block", [16, 8 << 20])
@given(tables())
def test_a_broken_row_changes_nothing_for_the_rows_after_it(block: int, table: Table) -> None:
    """From a broken row on, another reader takes over: it must say the same."""
    broken = b'"x"y\n'
    data = table.data[: table.first_row] + broken + table.data[table.first_row :]
    found = read_bytes(data, block=block, delimiter=table.delimiter)
    assert found.rows[1:] == table.rows
    assert found.lines[1:] == [line + 1 for line in table.lines]
    assert found.records == [broken, *table.records]
    assert found.problems == [(0, "BROKEN_QUOTES")]
    assert found.blank_lines == table.blank_lines


# --- CSV: lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_line_number_is_that_of_the_records_first_line(end: bytes, block: int) -> None:
    """Line breaks inside cells count, as they do in an editor."""
    lines = (b"id,note", b'1,"two', b'lines"', b"2,x", b'3,"', b"", b'three"', b"4,y")
    found = read_bytes(end.join(lines) + end, block=block)
    assert found.lines == [2, 4, 5, 8]
    mark = end.decode()
    assert [row[1] for row in found.rows] == [f"two{mark}lines", "x", f"{mark}{mark}three", "y"]


def test_blank_lines_and_lines_of_bare_delimiters_are_no_rows_but_counted() -> None:
    found = read_bytes(b"\n,\nid,note\n\n1,x\n,\r\n2,y\n\n")
    assert found.rows == [("1", "x"), ("2", "y")]
    assert found.lines == [5, 7]
    assert found.numbers == [1, 2]
    assert found.blank_lines == 5


@pytest.mark.parametrize("before", [b"", b'0,"x"y\n'])
def test_a_line_of_quoted_empty_cells_is_treated_alike_by_both_readers(before: bytes) -> None:
    """`"",""` must not be a row before the first broken quote of a file and none after it."""
    found = read_bytes(b"id,note\n" + before + b'"",""\n1,x\n')
    rows_of_it = [
        line
        for line, record in zip(found.lines, found.records, strict=True)
        if record == b'"",""\n'
    ]
    alone = read_bytes(b'id,note\n"",""\n1,x\n')
    assert len(rows_of_it) == len(alone.rows) - 1
    assert found.blank_lines == alone.blank_lines


# --- CSV: header ----------------------------------------------------------------------------------


def test_header_names_are_made_unique() -> None:
    found = read_bytes(b"Estado,,Estado,Estado\nSP,x,RJ,MG\n")
    assert found.columns == ("Estado", "column 2", "Estado (2)", "Estado (3)")
    assert found.rows == [("SP", "x", "RJ", "MG")]


@given(st.lists(st.sampled_from(("a", "a (2)", "a (3)", "", "column 1", "column 2")), min_size=1))
def test_header_names_are_always_unique(names: list[str]) -> None:
    """Two columns of one name would be one, and the cells of the other lost."""
    made = header_cells(",".join(f'"{name}"' for name in names), ",")
    assert len(made) == len(names)
    assert len(set(made)) == len(names)


def test_a_second_name_that_is_taken_already_still_gets_its_own() -> None:
    found = read_bytes(b"a,a (2),a\n1,2,3\n")
    assert len(set(found.columns)) == 3
    assert found.rows == [("1", "2", "3")]


@pytest.mark.parametrize("rest", [b"1;2\n", b'1;"x"y\n'], ids=["whole", "broken"])
def test_a_header_with_a_line_break_is_one_header(rest: bytes) -> None:
    """Spreadsheets break long headings; a broken row further down changes nothing about that."""
    found = read_bytes(b'"first\nname";note\n' + rest)
    assert found.columns == ("first\nname", "note")
    assert found.lines == [3]


@pytest.mark.parametrize("rest", [b"1,2\n", b'1,"x"y\n'], ids=["whole", "broken"])
def test_bare_delimiters_before_the_header_are_not_the_header(rest: bytes) -> None:
    found = read_bytes(b",\nid,note\n" + rest)
    assert found.columns == ("id", "note")
    assert found.lines == [3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen_in_the_header(delimiter: str) -> None:
    text = delimiter.join(("id", '"a,b;c|d"', "note")) + "\n" + delimiter.join("123") + "\n"
    assert read_bytes(text.encode()).rows == [("1", "2", "3")]


def test_a_file_whose_lines_are_all_blank_has_no_header() -> None:
    with pytest.raises(ExportError, match="no header"):
        read_bytes(b"\n\n\n")


def test_rows_that_stand_in_one_cell_each_are_refused_with_what_to_do(
    tmp_path: Path, rd_import: Command
) -> None:
    """A spreadsheet opened the file as one column and saved it: no column is found, and the reason is said."""
    path = tmp_path / "sales.csv"
    path.write_text('"email;funnel_name;value"\n"a@example.com;""default"";1"\n', "utf-8")
    done = rd_import("check", path, "--type", "SALE")
    assert done.code == 2
    assert "the whole row stands in quotes" in done.err


def test_a_header_without_rows_is_no_error() -> None:
    assert read_bytes(b"id,note\n").rows == []


@pytest.mark.parametrize("data", [b"id,note\r1,x\r2,y\r", b"id,note\r1,x"])
def test_lines_that_end_as_on_an_old_mac_are_read_or_refused_with_a_sentence(data: bytes) -> None:
    try:
        found = read_bytes(data)
    except ExportError:
        return
    assert found.rows[0] == ("1", "x")


# --- CSV: encodings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin-1"),
        ("utf-16", None),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", None),
    ],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_text_is_read_in_its_encoding(encoding: str, named: str | None, block: int) -> None:
    """Marks and names decide; the mark is no part of the first column's name."""
    data = 'código,observação\r\n1,"São ""Paulo""\r\nñ"\r\n2,ü\r\n'.encode(encoding)
    found = read_bytes(data, block=block, encoding=named)
    assert found.columns == ("código", "observação")
    assert found.rows == [("1", 'São "Paulo"\r\nñ'), ("2", "ü")]
    assert found.lines == [2, 4]


def test_records_keep_the_files_own_encoding() -> None:
    """The file of rejected rows is opened with the program that the export came from."""
    found = read_bytes("id,nota\n1,ação\n".encode("cp1252"), encoding="cp1252")
    assert found.records == [b"1,a\xe7\xe3o\n"]


@pytest.mark.parametrize("broken", [b"", b'0,"x"y\n'], ids=["by blocks", "record by record"])
@pytest.mark.parametrize("rows", [2, 40_000], ids=["in the head", "further down"])
def test_a_byte_of_another_encoding_is_named_with_its_line(rows: int, broken: bytes) -> None:
    """cp1252 named as UTF-8 is the commonest mistake; a guess would spoil names for ever."""
    data = b"id,note\n" + broken + b"1,x\n" * rows + b"2,S\xe3o\n" + b"3,x\n"
    found = read_bytes(data, encoding="utf-8")
    row = rows + len(broken[:1])
    assert (row, "BAD_BYTES") in found.problems
    assert len(found.problems) == 1 + len(broken[:1])
    assert found.lines[row] == 2 + row
    assert found.rows[row] == (None, None)
    assert found.rows[row + 1] == ("3", "x")


@pytest.mark.parametrize("rows", [2, 40_000], ids=["in the head", "further down"])
def test_where_no_encoding_is_named_words_tell_it(rows: int) -> None:
    """The first byte that is not ASCII decides, however late it stands."""
    found = read_bytes(b"id,note\n" + b"1,x\n" * rows + b"2,S\xe3o\n" + b"3,x\n")
    assert found.rows[rows] == ("2", "São")
    assert found.problems == []


@pytest.mark.parametrize("rows", [2, 40_000], ids=["in the head", "further down"])
def test_a_broken_pair_in_utf_16_is_named_with_its_line(rows: int) -> None:
    text = "id,note\n" + "1,x\n" * rows
    data = b"\xff\xfe" + text.encode("utf-16-le") + b"2\0,\0\x00\xd8x\0\n\0"
    with pytest.raises(ExportError, match=f"line {rows + 2}: .* is not utf-16-le text"):
        read_bytes(data)


def test_text_that_is_cut_off_within_a_character_is_refused() -> None:
    with pytest.raises(ExportError, match=r"line 2: .* is not utf-16-le text"):
        read_bytes("\ufeffid,note\n1,x".encode("utf-16-le") + b"\n")


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "hex", "zip"])
def test_what_is_no_text_encoding_is_refused(encoding: str) -> None:
    """Python knows codecs that are none for text; they must not end in a traceback."""
    with pytest.raises(Exception, match=f"no encoding `{encoding}`") as caught:
        read_bytes(b"id,note\n1,x\n", encoding=encoding)
    assert getattr(caught.value, "exit_code", None) == 2


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "§"])
def test_what_cannot_delimit_is_refused(delimiter: str) -> None:
    with pytest.raises(Exception, match="delimiter") as caught:
        read_bytes(b"id,note\n1,x\n", delimiter=delimiter)
    assert getattr(caught.value, "exit_code", None) == 2


def test_a_mark_inside_the_file_is_part_of_its_cell() -> None:
    """Files that were joined with `cat` carry a mark in the middle: it stays, like other text."""
    data = "id,note\n\ufeff1,x\n2,y\n".encode()
    expected = [("\ufeff1", "x"), ("2", "y")]
    assert [read_bytes(data, block=block).rows for block in BLOCKS] == [expected] * len(BLOCKS)


# --- CSV: broken rows -----------------------------------------------------------------------------

GOOD_BEFORE, GOOD_AFTER = b'1,"a\nb",x\n', b'3,"c ""d""",z\n'


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b"2,b\n", "WRONG_NUMBER_OF_CELLS"),
        (b"2,b,c,d\n", "WRONG_NUMBER_OF_CELLS"),
        (b'2,"b,c"\n', "WRONG_NUMBER_OF_CELLS"),
        (b"2\n", "WRONG_NUMBER_OF_CELLS"),
        (b'2,"b"c,y\n', "BROKEN_QUOTES"),
        (b'2,"b" ,y\n', "BROKEN_QUOTES"),
        (b'2,b,"y\n', "BROKEN_QUOTES"),
        (b'2,"b,y\n', "BROKEN_QUOTES"),
        (b'2,"b"\ry,c\n', "BROKEN_QUOTES"),
    ],
)
def test_a_broken_row_is_invalid_at_its_line_and_its_neighbours_are_whole(
    record: bytes, code: str, block: int
) -> None:
    found = read_bytes(b"id,note,more\n" + GOOD_BEFORE + record + GOOD_AFTER, block=block)
    assert found.rows == [("1", "a\nb", "x"), (None, None, None), ("3", 'c "d"', "z")]
    assert found.lines == [2, 4, 4 + record.count(b"\n")]
    assert found.records == [GOOD_BEFORE, record, GOOD_AFTER]
    assert found.problems == [(1, code)]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_broken_row_over_two_lines_is_two_broken_rows(block: int) -> None:
    """Where its quotes are broken nobody knows where it ends, so each line is one row."""
    broken = (b'2,"b\n', b'c"d,y\n')
    data = b"id,note,more\n" + GOOD_BEFORE + b"".join(broken) + GOOD_AFTER
    found = read_bytes(data, block=block)
    nothing = (None, None, None)
    assert found.rows == [("1", "a\nb", "x"), nothing, nothing, ("3", 'c "d"', "z")]
    assert found.lines == [2, 4, 5, 6]
    assert found.records == [GOOD_BEFORE, *broken, GOOD_AFTER]
    assert found.problems == [(1, "BROKEN_QUOTES"), (2, "WRONG_NUMBER_OF_CELLS")]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_quote_that_is_never_closed_costs_its_own_row_only(block: int) -> None:
    """With no other quote after it, it would take the rest of the file."""
    data = b'id,note,more\n1,a,x\n2,"b,y\n3,c,z\n4,d,z\n'
    found = read_bytes(data, block=block)
    assert found.rows == [("1", "a", "x"), (None, None, None), ("3", "c", "z"), ("4", "d", "z")]
    assert found.lines == [2, 3, 4, 5]
    assert found.problems == [(1, "BROKEN_QUOTES")]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_quote_in_the_middle_of_a_cell_costs_no_other_row(block: int) -> None:
    """Inches: two such rows pair their quotes, and everything between looks quoted."""
    data = b'id,note,more\n1,5" TV,x\n2,b,y\n3,6" TV,z\n4,"d",z\n'
    found = read_bytes(data, block=block)
    assert found.lines == [2, 3, 4, 5]
    assert found.rows[1] == ("2", "b", "y")
    assert found.rows[3] == ("4", "d", "z")
    for at, cell in ((0, '5" TV'), (2, '6" TV')):
        assert found.rows[at][1] == cell or (at, "BROKEN_QUOTES") in found.problems


@pytest.mark.parametrize("block", BLOCKS)
def test_a_lone_carriage_return_is_treated_alike_by_both_readers(block: int) -> None:
    rows = b"1,a\rb,x\n2,c,y\n"
    alone = read_bytes(b"id,note,more\n" + rows, block=block)
    after = read_bytes(b'id,note,more\n"x"y\n' + rows, block=block)
    assert after.rows[1:] == alone.rows
    assert len(after.problems) == len(alone.problems) + 1


def test_a_long_cell_is_whole_also_after_a_broken_row() -> None:
    """Chat transcripts are long; Python's csv stops at 131,072 characters unless told otherwise."""
    long = "z" * 150_000
    found = read_bytes(b'id,note\n0,"x"y\n1,"' + long.encode() + b'"\n')
    assert found.rows[1] == ("1", long)


# --- which files ----------------------------------------------------------------------------------


def test_rows_are_counted_over_all_files_and_numbered_in_each(tmp_path: Path) -> None:
    for name, text in (("b.csv", "id\n1\n2\n"), ("a.csv", "id\n3\n")):
        (tmp_path / name).write_text(text)
    exports = find_exports(Job(exports=(str(tmp_path),), event_type="CONVERSION"))
    groups = list(read(exports))
    assert [Path(export.facts.path).name for export in exports] == ["a.csv", "b.csv"]
    assert [(group.export, group.row_numbers.to_pylist()) for group in groups] == [
        (0, [1]),
        (1, [1, 2]),
    ]
    assert [group.rows.table[ROW].to_list() for group in groups] == [[0], [1, 2]]


def test_our_own_outputs_in_a_folder_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("id\n1\n")
    (tmp_path / "orders.rejected.csv").write_text("id\n1\n")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "orders.2026.audit.parquet")
    exports = find_exports(Job(exports=(str(tmp_path),), event_type="CONVERSION"))
    assert [Path(export.facts.path).name for export in exports] == ["orders.csv"]


def test_a_pattern_names_its_files_in_order(tmp_path: Path) -> None:
    for name in ("2.csv", "10.csv", "1.csv"):
        (tmp_path / name).write_text("id\n1\n")
    exports = find_exports(Job(exports=(str(tmp_path / "*.csv"),), event_type="CONVERSION"))
    assert [Path(export.facts.path).name for export in exports] == ["1.csv", "10.csv", "2.csv"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty \\(0 bytes\\)"),
        (b"PK\x03\x04xxxx", "no whole zip file"),
        (b"\x1f\x8bxxxx", "no whole gzip file"),
        (b"id,\x00no\x00\x00te\x01\n", "no text: it holds NUL bytes"),
        (b"PAR1 and nothing more", "no whole Parquet file"),
    ],
)
def test_what_is_no_export_is_refused_with_what_it_is(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=sentence):
        read_file(path)


def test_a_file_that_two_delimiters_cut_alike_waits_for_a_person() -> None:
    with pytest.raises(NothingSent, match="can be cut by ',' and ';' alike"):
        read_bytes(b"a;b,c\n1;2,3\n")
    assert read_bytes(b"a;b,c\n1;2,3\n", delimiter=";").rows == [("1", "2,3")]


def test_a_nul_costs_its_own_row_only() -> None:
    found = read_bytes(b"id,note\n1,x\n2,\x00y\n3,z\n")
    assert found.rows == [("1", "x"), (None, None), ("3", "z")]
    assert found.problems == [(1, "HOLDS_NUL")]


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no file `.*orders\.csv`"):
        read_file(tmp_path / "orders.csv")


def test_a_folder_without_exports_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(ExportError, match="holds no file to import"):
        read_file(tmp_path)


# --- Parquet --------------------------------------------------------------------------------------


def parquet(tmp_path: Path, columns: dict[str, pa.Array], **options: Any) -> Path:
    path = tmp_path / "export.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


NOON = datetime(2026, 3, 15, 12, 0, 0, 50_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([1, None, -5], pa.int64(), ["1", None, "-5"]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        ([2**63 - 1], pa.int64(), ["9223372036854775807"]),
        ([79.9, 200.0, 0.00001, 1234567.0], pa.float64(), ["79.9", "200", "0.00001", "1234567"]),
        ([1e-7, 1e-10], pa.float64(), ["0.0000001", "0.0000000001"]),
        ([float("nan")], pa.float64(), [None]),
        ([79.9], pa.float32(), ["79.9"]),
        ([Decimal("12.50"), Decimal("-0.01")], pa.decimal128(12, 2), ["12.50", "-0.01"]),
        ([Decimal("12.50")], pa.decimal256(50, 2), ["12.50"]),
        ([True, False, None], pa.bool_(), ["true", "false", None]),
        ([date(2026, 3, 15)], pa.date32(), ["2026-03-15"]),
        ([date(2026, 3, 15)], pa.date64(), ["2026-03-15"]),
        ([NOON], pa.timestamp("us", "UTC"), ["2026-03-15T12:00:00.050Z"]),
        ([NOON], pa.timestamp("ns", "America/Sao_Paulo"), ["2026-03-15T12:00:00.050Z"]),
        ([NOON], pa.timestamp("ms", "-03:00"), ["2026-03-15T12:00:00.050Z"]),
        ([NOON.replace(tzinfo=None)], pa.timestamp("ms"), ["2026-03-15 12:00:00.050"]),
        ([datetime(2026, 3, 15, 12)], pa.timestamp("s"), ["2026-03-15 12:00:00"]),
        (["007", "", None], pa.large_string(), ["007", None, None]),
        (["x", None], pa.string_view(), ["x", None]),
        (["x", "y", "x", None], pa.dictionary(pa.int32(), pa.string()), ["x", "y", "x", None]),
        ([b"a\xc3\xa7"], pa.binary(), ["aç"]),
        ([['a"b', "c;d"], [], None], pa.list_(pa.string()), ['["a\\"b","c;d"]', "[]", None]),
        ([[1, 2]], pa.large_list(pa.int64()), ["[1,2]"]),
        ([[Decimal("1.50")]], pa.list_(pa.decimal256(50, 2)), ['["1.50"]']),
        ([[Decimal("1.50")]], pa.list_(pa.decimal256(50, 2), 1), ['["1.50"]']),
        (
            [[("a", Decimal("1.50"))]],
            pa.map_(pa.string(), pa.decimal256(50, 2)),
            [[{"key": "a", "value": "1.50"}]],  # items of an order may come so
        ),
        ([None, None], pa.null(), [None, None]),
    ],
    ids=str,
)
def test_a_typed_column_comes_as_the_text_that_a_csv_would_hold(
    tmp_path: Path, values: list[Any], kind: pa.DataType, texts: list[Any]
) -> None:
    found = read_file(parquet(tmp_path, {"a": pa.array(values, kind)}))
    assert [row[0] for row in found.rows] == texts


def test_a_struct_becomes_a_column_per_part(tmp_path: Path) -> None:
    structs = pa.array([{"city": "SP", "zip": 1310100}, None])
    found = read_file(parquet(tmp_path, {"id": pa.array([1, 2]), "address": structs}))
    assert found.columns == ("id", "address.city", "address.zip")
    assert found.rows == [("1", "SP", "1310100"), ("2", None, None)]


@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_a_list_of_structs_keeps_its_items_with_texts_in_them(tmp_path: Path, make: Any) -> None:
    """`match` makes one line of each item."""
    kind = make(pa.struct([("sku", pa.string()), ("price", pa.float64())]))
    items = pa.array([[{"sku": "A", "price": 1.5}, {"sku": "B", "price": 2.0}], [], None], kind)
    path = parquet(tmp_path, {"items": items})
    found = read_file(path)
    assert found.columns == ("items.sku", "items.price")
    (group,) = read(find_exports(Job(exports=(str(path),), event_type="CONVERSION")))
    assert group.rows.table["items"].to_list() == [
        [{"sku": "A", "price": "1.5"}, {"sku": "B", "price": "2"}],
        [],
        None,
    ]


@pytest.mark.parametrize("others", [[b"\xff\xfe"], [b"ok", b"\xff"]])
def test_bytes_that_are_no_text_do_not_cost_the_file(tmp_path: Path, others: list[bytes]) -> None:
    """A checksum or picture column that feeds no field says nothing against the rest."""
    ids = [str(number) for number in range(len(others))]
    found = read_file(parquet(tmp_path, {"id": pa.array(ids), "raw": pa.array(others)}))
    assert [row[0] for row in found.rows] == ids


def test_a_map_column_does_not_cost_the_file(tmp_path: Path) -> None:
    maps = pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))
    found = read_file(parquet(tmp_path, {"id": pa.array(["1"]), "attributes": maps}))
    assert found.rows[0][0] == "1"


@pytest.mark.parametrize("rows", [0, 1, 32_768, 32_769, 70_000])
def test_every_row_of_a_parquet_file_is_counted(tmp_path: Path, rows: int) -> None:
    column = pa.array([str(number) for number in range(rows)], pa.string())
    found = read_file(parquet(tmp_path, {"id": column}, row_group_size=20_000))
    assert [row[0] for row in found.rows] == column.to_pylist()
    assert found.numbers == list(range(1, rows + 1))
    assert found.lines == [None] * rows


def test_the_records_of_a_parquet_file_are_csv(tmp_path: Path) -> None:
    """Rejected rows of a Parquet file go into a CSV file, which must hold the same cells."""
    texts = ['plain "quoted"', "a,b\nc", "", "ção"]
    found = read_file(parquet(tmp_path, {"id": pa.array([1, 2, 3, 4]), "t": pa.array(texts)}))
    written = list(csv.reader(io.StringIO(b"".join(found.records).decode(), newline="")))
    assert written == [[str(number), text] for number, text in enumerate(texts, start=1)]


def damaged(whole: bytes) -> Sequence[tuple[str, bytes]]:
    return (
        ("cut in half", whole[: len(whole) // 2]),
        ("without its footer", whole[:-8]),
        ("with a hole", whole[:200] + bytes(400) + whole[600:]),
    )


@pytest.mark.parametrize("at", range(3), ids=["cut in half", "without its footer", "with a hole"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, at: int) -> None:
    ids = [f"order {number * 7919 % 4001}" for number in range(4000)]
    path = parquet(tmp_path, {"id": pa.array(ids)})
    _, content = damaged(path.read_bytes())[at]
    path.write_bytes(content)
    with pytest.raises(ExportError, match="no whole Parquet file"):
        read_file(path)


def test_a_column_with_our_own_name_keeps_its_cells(tmp_path: Path) -> None:
    """`#row` is what we call the row's ordinal; a file may call its order number so."""
    found = read_file(parquet(tmp_path, {"#row": pa.array(["z"]), "id": pa.array(["1"])}))
    assert found.columns == ("#row (2)", "id")
    assert found.rows == [("z", "1")]
    assert read_bytes(b"#row,id\nz,1\n").rows == [("z", "1")]


def test_a_json_line_with_half_a_character_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text('{"#row":"z","id":"1"}\n{"id":"\\ud800"}\n{"id":"3"}\n')
    found = read_file(path)
    assert found.rows == [("z", "1"), (None, None), (None, "3")]
    assert found.problems == [(1, "BROKEN_JSON")]


def test_frames_hold_text_only(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"a": pa.array([1]), "b": pa.array([True]), "c": pa.array(["x"])})
    (group,) = read(find_exports(Job(exports=(str(path),), event_type="CONVERSION")))
    assert set(group.rows.table.drop(ROW).dtypes) == {pl.String}
