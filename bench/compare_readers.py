"""Run the torture files through rd-import and its alternatives, and print the score as a table.

    PYTHONPATH=tests python bench/compare_readers.py    # needs duckdb: pip install duckdb

Each reader is told to keep cells as text and, where the file has none, that there is no header;
nothing else.
"""

import csv
import io
import warnings
from collections import Counter
from collections.abc import Callable

import pandas as pd
import polars as pl

from torture import ROOT, Case, Reading, cases, ours, score


def by_rd_import(case: Case) -> Reading:
    """Read with rd-import."""
    return ours(case)[0]


def by_pandas(case: Case) -> Reading:
    """Read with pandas."""
    header = None if case.header is False else 0
    table = pd.read_csv(ROOT / case.file, dtype=str, keep_default_na=False, header=header)
    return [list(row) for row in table.itertuples(index=False)]


def by_polars(case: Case) -> Reading:
    """Read with polars."""
    table = pl.read_csv(ROOT / case.file, infer_schema=False, has_header=case.header is not False)
    return [[cell or "" for cell in row] for row in table.iter_rows()]


def by_duckdb(case: Case) -> Reading:
    """Read with duckdb, which looks for the dialect by itself."""
    import duckdb

    header = f", header = {case.header is not False}"
    found = duckdb.sql(
        f"from read_csv('{ROOT / case.file}', all_varchar = true{header})"
    ).fetchall()
    return [[cell or "" for cell in row] for row in found]


def by_csv(case: Case) -> Reading:
    """Read with Python's csv and its sniffer."""
    text = (ROOT / case.file).read_bytes().decode(case.encoding or "utf-8")
    try:
        dialect = csv.Sniffer().sniff(text[:65536])
    except csv.Error:
        dialect = csv.excel
    rows: Reading = [row for row in csv.reader(io.StringIO(text, newline=""), dialect) if row]
    return rows if case.header is False else rows[1:]


READERS: dict[str, Callable[[Case], Reading]] = {
    "rd-import": by_rd_import,
    "pandas": by_pandas,
    "polars": by_polars,
    "duckdb": by_duckdb,
    "csv": by_csv,
}


def main() -> None:
    """Print one line per file, and the sums."""
    warnings.simplefilter("ignore")
    sums: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    print("| file | " + " | ".join(READERS) + " |")
    print("|---|" + "---|" * len(READERS))
    for case in cases():
        scores = {name: score(read, case) for name, read in READERS.items()}
        for name, one in scores.items():
            sums[name][one] += 1
        print(f"| {case.file} | " + " | ".join(scores.values()) + " |")
    for verdict in ("exact", "refused", "WRONG"):
        print(
            f"| **{verdict}** | "
            + " | ".join(f"**{sums[name][verdict]}**" for name in READERS)
            + " |"
        )


if __name__ == "__main__":
    main()
