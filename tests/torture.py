"""The torture files with their right readings, and how well a reader does on them.

A reader is asked for a file's data rows. `exact`: the right rows. `refused`: an error, or the rows
that it cannot read named as such, everything else right. `WRONG`: other data without a word, which
is what an importer must never do.
"""

import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rd_import.errors import RdImportError
from rd_import.job import Job
from rd_import.read import find_exports, read

ROOT = Path(__file__).parents[2] / "shared" / "data" / "real" / "csv_torture"

Row = list[str]
Reading = list[Row | None]  # None: a row that the reader names as unreadable


@dataclass(frozen=True)
class Case:
    """One file; `refused` are physical lines not to be read, `None` in `rows` stands for them."""

    file: str
    rows: Reading
    refused: tuple[int, ...] = ()
    header: bool | None = None
    encoding: str | None = None


def told(path: Path, encoding: str = "utf-8-sig", delimiter: str = ",") -> Reading:
    """Read a file with Python's csv, told everything; blank lines are no rows."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    if data.startswith(b"\xfd7zXZ"):
        data = lzma.decompress(data)
    rows = csv.reader(io.StringIO(data.decode(encoding), newline=""), delimiter=delimiter)
    return [row for row in rows if any(row)][1:]


def cases() -> Iterator[Case]:
    yield from _spectrum()
    yield from _test_data()
    yield from _csvlint()
    yield from _frictionless()
    yield from _pollock()
    yield from _survey()
    for name in ("foods1.csv", "foods3.csv"):
        yield Case(f"polars/{name}", told(ROOT / "polars" / name))
    yield Case("polars/gzipped.csv.gz", [["1", "a", "1.0"], None, ["3", "c", "3.0"]], (4,))


def _spectrum() -> Iterator[Case]:
    for path in sorted((ROOT / "csv-spectrum").glob("*.csv")):
        expected = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
        yield Case(f"csv-spectrum/{path.name}", [list(row.values()) for row in expected])


def _test_data() -> Iterator[Case]:
    """Those not named `header` or `bad-header` have none; blank lines are no rows."""
    broken = {"bad-header-more-fields": (2,), "bad-quotes-with-unescaped-quote": (2,)}
    for path in sorted((ROOT / "csv-test-data").glob("*.csv")):
        if path.stem == "bad-header-wrong-header":
            continue  # it is well formed; that it lacks the columns is said one stage later
        truth = path.with_suffix(".expected.json")
        rows: Reading = json.loads(truth.read_text("utf-8")) if truth.exists() else [None]
        has_header = path.stem.startswith(("header", "bad"))
        kept = [row for row in rows if row is None or any(row)]
        yield Case(f"csv-test-data/{path.name}", kept, broken.get(path.stem, ()), header=has_header)


def _csvlint() -> Iterator[Case]:
    teaspoon: Reading = [["Biff", "Baff", "Boff"], ["Qux", "Teaspoon", "Doge"]]
    for name in ("cr-line-endings", "lf-line-endings", "inconsistent-line-endings-unquoted"):
        yield Case(f"csvlint/{name}.csv", teaspoon)
    for name in ("valid", "white space in filename"):
        yield Case(f"csvlint/{name}.csv", [["1", "2", "3"], ["3", "2", "1"]])
    path = ROOT / "csvlint/invalid-byte-sequence.csv"
    yield Case("csvlint/invalid-byte-sequence.csv", told(path, "cp1252"))


def _frictionless() -> Iterator[Case]:
    def case(name: str, encoding: str = "utf-8-sig", delimiter: str = ",") -> Case:
        return Case(f"frictionless/{name}", told(ROOT / "frictionless" / name, encoding, delimiter))

    for name in (
        "blank-cells.csv",
        "blank-rows-multiple.csv",
        "bom.csv",
        "duplicate-headers.csv",
        "implicit-gz.csv",
    ):
        yield case(name)
    for name in ("issue-493.csv", "leading-zeros.csv", "table.csv.gz", "table.csv.xz"):
        yield case(name)
    for name in ("accent.csv", "delimiter.csv", "issue-1105-timezone.csv", "vix.csv"):
        yield case(name, delimiter=";")
    yield case("table-with-accents.csv", "cp1252", ";")
    yield Case(
        "frictionless/escaping.csv",
        [["1", "Test line 1"], ["2", 'Test " line 2'], ["3", 'Test " line 3']],
    )
    yield Case("frictionless/skip-blank-at-the-end.csv", [None, ["1", "2"]], (2,))
    greek = told(ROOT / "frictionless/table-infer-iso-8859-7.csv", "iso-8859-7")
    yield Case("frictionless/table-infer-iso-8859-7.csv", greek, encoding="iso-8859-7")
    yield Case(
        "frictionless/without-headers-extra.csv", [["1", "english"], ["2", "中国人"], None], (3,)
    )


def _pollock() -> Iterator[Case]:
    first_only = tuple(range(85, 168))
    quote_lines = _apostrophes()
    lines = {
        "file_multitable_less": first_only,
        "file_multitable_same": first_only,
        "file_quotation_char_0x27": quote_lines,
        "row_extra_quote42_col7": (43,),
        "row_extra_quote4_col8": (5,),
        "row_field_delimiter_15_0x20": (16,),
        "row_field_delimiter_71_0x20": (72,),
        "row_less_sep_row16_col4": (17,),
        "row_less_sep_row51_col7": (52,),
        "row_more_sep_row18_col7": (19,),
        "row_more_sep_row31_col3": (32,),
    }
    for path in sorted((ROOT / "pollock").glob("*.csv")):
        if path.stem == "file_no_payload":
            continue
        rows = told(ROOT / "pollock/clean" / path.name)
        yield Case(f"pollock/{path.name}", rows, lines.get(path.stem, ()))


def _apostrophes() -> tuple[int, ...]:
    """Name lines with an apostrophe or a doubled mark within single quotes: two readings."""
    lines = (ROOT / "pollock/file_quotation_char_0x27.csv").read_text("ascii").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            row = next(csv.reader([line], quotechar="'", strict=True))
        except csv.Error:
            row = []
        if len(row) != 9 or '""' in line:
            found.append(number)
    return tuple(found)


def _survey() -> Iterator[Case]:
    for name in (
        "GPC_DCLG_December_2015_for_Publication",
        "dwp-cmg-spend-1214",
        "over25k-transparency",
    ):
        yield Case(f"pollock_survey/{name}.csv", told(ROOT / f"pollock_survey/{name}.csv"))
    name = "pollock_survey/20170320-ePC_Data-Travel-Stationery.csv"
    rows = [
        row
        for row in told(ROOT / name)
        if not row[0].startswith(("Row Labels", "Grand Total", "Summary"))
    ]
    yield Case(name, rows)


# --- readers --------------------------------------------------------------------------------------
# ---------------


def ours(case: Case) -> tuple[Reading, list[int]]:
    """Read with rd-import: rows as text, None where one is set aside, and those lines."""
    job = Job(
        exports=(str(ROOT / case.file),),
        event_type="CONVERSION",
        encoding=case.encoding,
        header=case.header,
    )
    rows: Reading = []
    lines: list[int] = []
    with ExitStack() as spool:
        for group in read(find_exports(job, spool)):
            codes = dict(group.problems.select("#row", "code").iter_rows())
            for row, line in zip(
                group.rows.table.iter_rows(named=True), group.line_numbers.to_pylist(), strict=True
            ):
                code = codes.get(row.pop("#row"))
                if code in {"TOTALS_ROW", "REPEATED_HEADER"}:
                    continue
                if code is not None:
                    lines.append(line)
                rows.append(None if code is not None else [cell or "" for cell in row.values()])
    return rows, lines


def score(read_file: Callable[[Case], Reading], case: Case) -> str:
    """Say how a reader does on one file."""
    try:
        rows = read_file(case)
    except Exception:  # noqa: BLE001 -- any error is a refusal
        return "refused"
    if rows == case.rows:
        return "exact" if None not in rows else "refused"
    good = [row for row in rows if row is not None]
    expected = [row for row in case.rows if row is not None]
    if None in rows and _is_part(good, expected):
        return "refused"
    return "WRONG"


def _is_part(some: list[Row], every: list[Row]) -> bool:
    """Tell whether rows are some of the right ones, in order."""
    rest = iter(every)
    return all(any(row == other for other in rest) for row in some)


def score_ours(case: Case) -> str:
    """Say how rd-import does on one file."""

    def rows(one: Case) -> Reading:
        try:
            return ours(one)[0]
        except RdImportError as error:
            raise ValueError(str(error)) from error

    return score(rows, case)
