"""Which events an unreadable row may belong to, so that none goes with an item missing. Pure.

A row with too few cells or broken quotes is no event's for certain. It is held against every event
whose id stands in one of its cells, and against the event of the rows right before and after it,
where those are of one event.
"""

import contextlib
import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl

from rd_import.values import NOT_DATA, PROBLEM_SCHEMA, ROW, SourceGroup

LONGEST_KEY: Final = 200
MOST_CELLS: Final = 2000


@dataclass(slots=True)
class TornRows:
    """Remembers ids that stand in unreadable rows.

    Args:
        by: The field whose equal values make one event; None where each row is an event, and
            nothing can be torn.
    """

    by: str | None
    rows: dict[str, int] = field(default_factory=dict)
    _suspects: dict[str, int] = field(default_factory=dict)
    _last: tuple[str | None, int | None] = (None, None)

    def add(
        self,
        group: SourceGroup,
        readable: pl.DataFrame,
        column: str | None,
        codec: str,
        delimiter: str,
    ) -> None:
        """Look at some rows in file order.

        Args:
            group: The rows as they were read.
            readable: Those that could be read, under the schema's names.
            column: The file's column that holds the ids.
            codec: What the records' bytes are encoded in.
            delimiter: What stands between their cells.
        """
        if self.by is None or self.by not in readable.columns:
            return
        data_rows = group.problems.filter(~pl.col("code").is_in(NOT_DATA))[ROW]
        self._neighbours(readable, data_rows.to_list())
        if data_rows.is_empty():
            return
        places = pl.concat(
            [group.rows.table[ROW], group.problems[ROW]]
        )  # unreadable ones are left out
        first = int(cast("int", places.min()))
        columns = [name for name in group.rows.table.columns if name != ROW]
        place = columns.index(column) if column in columns else 0
        for row in data_rows.to_list():
            text = group.records[row - first].as_py().decode(codec, "replace")
            for cell in _near(text, delimiter, place, len(columns)):
                self._suspects.setdefault(cell, row)

    def flaws(self, table: pl.DataFrame) -> pl.DataFrame:
        """Write a problem for the first row of each event that may lack an unreadable row."""
        if self.by is None or not self.known or self.by not in table.columns:
            return pl.DataFrame(schema=PROBLEM_SCHEMA)
        hit = table.filter(pl.col(self.by).is_in(list(self.known))).unique(
            self.by, keep="first", maintain_order=True
        )
        return hit.select(
            pl.col(ROW),
            pl.lit("TORN_EVENT").alias("code"),
            pl.lit(self.by).alias("field"),
            pl.col(self.by).cast(pl.String).alias("value"),
            pl.col(self.by)
            .replace_strict(self.known, return_dtype=pl.UInt32)
            .cast(pl.String)
            .alias("limit"),
            pl.lit(value=True).alias("fatal"),
        )

    @property
    def known(self) -> Mapping[str, int]:
        """Give id → the unreadable row."""
        return {**self._suspects, **self.rows}

    def _neighbours(self, readable: pl.DataFrame, torn: list[int]) -> None:
        """Hold an unreadable row against the event that stands on both sides of it."""
        before, first = self._last  # the id before, and the first unreadable row since
        if torn or first is not None:
            keys = dict(zip(readable[ROW].to_list(), readable[str(self.by)].to_list(), strict=True))
            for row in sorted({*keys, *torn}):
                if row not in keys:
                    first = row if first is None else first
                    continue
                if first is not None and before is not None and keys[row] == before:
                    self.rows.setdefault(before, first)
                before, first = keys[row], None
        elif readable.height:
            before = readable[str(self.by)][-1]
        self._last = (before, first)


def _near(text: str, delimiter: str, place: int, width: int) -> set[str]:
    """Give what may stand in one column, as far aside as there are cells too few or many."""
    ways = [text.strip().split(delimiter)]
    with contextlib.suppress(csv.Error):
        ways.append(next(csv.reader([text], delimiter=delimiter), []))
    cells: set[str] = set()
    for cut in ways:
        aside = abs(len(cut) - width)
        near = cut[max(place - aside, 0) : place + aside + 1][:MOST_CELLS]
        cells |= {cell.strip().strip("\"'").strip() for cell in near}
    return {cell for cell in cells if cell and len(cell) <= LONGEST_KEY}
