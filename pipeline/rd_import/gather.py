"""Bring the rows of one order together wherever they stand in the input, with bounded memory.

All rows are read before the first one goes on: only then is known how dates and amounts are
written. In memory are one 64-bit hash and one ordinal per row; the rows themselves wait in a spill
file. Events keep the order of their first row, and each group that comes out holds whole events.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from rd_import.errors import ExportError
from rd_import.values import EVENT, LOOKUP, ROW, RowGroup, detached

LINES_IN_MEMORY: Final = 20_000  # lines far from their event's first row; beyond, they wait on disk
LINES_PER_BUCKET: Final = 25_000  # some 10 MB once they are columns again
MOST_BUCKETS: Final = 300  # files open at once; systems allow a process 1,024
MOST_ROWS: Final = (
    100_000  # of one event, which stand in memory together; RD Station takes 20 items
)
HOME: Final = "#home"  # the group in which a line's event begins
ITEM: Final = "line_items."


def gather(
    groups: Iterator[RowGroup],
    *,
    by: str | None,
    scratch: Path,
    own: Collection[str] | None = frozenset(),
) -> Iterator[RowGroup]:
    """Give each row its event, and events whole.

    Args:
        groups: Rows under the schema's names, in file order.
        by: Column whose equal values make one event; None where each row is an event. Rows without
            a value are events of their own.
        scratch: Folder for the spill files, which are removed at the end.
        own: Columns that each row has for itself, items aside; None where all are.

    Yields:
        The rows with `#event`, sorted by event and row; empty cells of follow-up rows, items aside,
        hold what the event's first filled one says.

    Raises:
        ExportError: One event has more rows than any order.
    """
    spill = _Spill(scratch)
    late: _Late | None = None
    try:
        if by is None:
            for position in range(sum(spill.keep(group.table) for group in groups)):
                yield RowGroup(spill.table(position).with_columns(pl.col(ROW).alias(EVENT)))
            return
        hashes = [spill.add(group.table, by) for group in groups]
        if not hashes:
            return
        events, homes = _number(hashes)
        late = _Late(scratch, _late_lines(events, homes))
        for position, lines in enumerate(events):
            strays = homes[lines] != position
            if strays.any():
                table = spill.table(position).with_columns(
                    pl.Series(EVENT, lines), pl.Series(HOME, homes[lines])
                )
                late.add(table.filter(strays))
        for position, lines in enumerate(events):
            table = spill.table(position).with_columns(pl.Series(EVENT, lines))
            away = homes[lines] != position
            if away.any():
                table = table.filter(~away)
            late_ones = late.take(position)
            if late_ones or not _ascends(table[EVENT].to_numpy()):
                table = pl.concat([table, *late_ones]).sort(EVENT, ROW, maintain_order=True)
            if table.height:
                yield RowGroup(table if own is None else _inherit(table, own))
    finally:
        spill.remove()
        if late is not None:
            late.remove()


def _number(hashes: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Number events by first occurrence.

    Returns:
        The event ordinal of each line, per group; and the group in which each event begins.
    """
    sizes = [len(part) for part in hashes]
    every = np.concatenate(hashes)
    hashes.clear()
    if not len(every):
        return [np.zeros(0, dtype=np.uint32) for _ in sizes], np.zeros(0, dtype=np.uint32)
    order = np.argsort(every, kind="stable").astype(np.uint32)  # equals side by side, in file order
    every = every[order]
    if (every[MOST_ROWS:] == every[:-MOST_ROWS]).any():
        raise ExportError("too_many_rows_of_one", most=MOST_ROWS)
    begins = np.ones(len(every), dtype=bool)
    begins[1:] = every[1:] != every[:-1]
    del every
    first = order[begins]
    is_first = np.zeros(len(order), dtype=bool)
    is_first[first] = True
    nth = np.cumsum(is_first, dtype=np.uint32)
    rank = nth[first] - np.uint32(1)
    ends = np.cumsum(sizes)
    begun = np.append(nth, 0)[ends - 1]  # events up to each group's end; index -1 is the 0
    homes = np.repeat(np.arange(len(sizes), dtype=np.uint32), np.diff(begun, prepend=0))
    del first, nth
    place = np.cumsum(begins, dtype=np.uint32)
    place -= 1
    events = np.empty(len(order), dtype=np.uint32)
    events[order] = rank[place]
    return np.split(events, ends[:-1]), homes


def _ascends(ordinals: np.ndarray) -> bool:
    return bool((ordinals[1:] >= ordinals[:-1]).all())


def _inherit(table: pl.DataFrame, own: Collection[str]) -> pl.DataFrame:
    """Fill empty cells of an event's header from its first filled one; items are each row's own."""
    if table[EVENT].n_unique() == table.height:
        return table
    header = [
        name
        for name in table.columns
        if name not in {ROW, EVENT, *own} and not name.startswith((ITEM, LOOKUP))
    ]
    return table.with_columns(
        pl.coalesce(pl.col(name), pl.col(name).drop_nulls().first().over(EVENT)) for name in header
    )


class _Spill:
    """Groups of rows on disk, readable by position."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._paths: list[Path] = []
        self._places: list[tuple[int, int]] = []  # of each group: its file, and its place in it
        self._columns: dict[str, pl.DataType] = {}
        self._schema: pa.Schema | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._open = -1
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._source: pa.NativeFile | None = None

    def keep(self, table: pl.DataFrame) -> int:
        """Write one group down; gives 1, so that they can be counted."""
        data = table.to_arrow()
        if self._writer is None or data.schema != self._schema:
            self._begin(data.schema)
            for name, dtype in table.schema.items():
                if self._columns.get(name, pl.Null()) == pl.Null():
                    self._columns[name] = dtype
        assert self._writer is not None
        last = len(self._paths) - 1
        before = self._places[-1] if self._places else (-1, -1)
        self._places.append((last, before[1] + 1 if before[0] == last else 0))
        self._writer.write_batch(
            data.combine_chunks().to_batches()[0] if data.num_rows else _empty(data.schema)
        )
        return 1

    def add(self, table: pl.DataFrame, by: str) -> np.ndarray:
        self.keep(table)
        key = (
            pl.when(pl.col(by).is_null())
            .then(pl.col(ROW).hash(seed=1))
            .otherwise(pl.col(by).hash(seed=2))
        )
        return table.select(key.alias("hash"))["hash"].to_numpy()

    def table(self, position: int) -> pl.DataFrame:
        """Read one group, with the columns of all of them: files may have different ones."""
        file, place = self._places[position]
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is None or self._open != file:
            if self._source is not None:
                self._source.close()
            # Mapped pages would count as this process's memory.
            self._source = pa.OSFile(str(self._paths[file]))
            self._reader, self._open = pa.ipc.open_file(self._source), file
        table = pl.DataFrame(pl.from_arrow(self._reader.get_batch(place)))
        if list(table.schema.items()) == list(self._columns.items()):
            return table
        return table.select(
            (pl.col(name) if name in table.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in self._columns.items()
        )

    def remove(self) -> None:
        try:
            if self._source is not None:
                self._source.close()
            if self._writer is not None:
                self._writer.close()
        finally:
            for path in self._paths:
                path.unlink(missing_ok=True)

    def _begin(self, schema: pa.Schema) -> None:
        """Begin another file: one holds groups of the same columns only."""
        if self._writer is not None:
            self._writer.close()
        self._paths.append(self._scratch / f"rows-{len(self._paths)}.spill")
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writer = pa.ipc.new_file(str(self._paths[-1]), schema, options=options)
        self._schema = schema


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _late_lines(events: list[np.ndarray], homes: np.ndarray) -> np.ndarray:
    """Count, for each group, the lines of its events that stand in later groups."""
    counts = np.zeros(len(events), dtype=np.int64)
    for position, lines in enumerate(events):
        home = homes[lines]
        counts += np.bincount(home[home != position], minlength=len(events))
    return counts


class _Late:
    """Lines that stand in another group than the one in which their event begins.

    They wait in one file per bucket, a bucket being some neighbouring groups: few enough files to
    be open at once, and each small enough to be read as a whole when the first of its groups comes
    up.
    """

    def __init__(self, scratch: Path, counts: np.ndarray) -> None:
        self._scratch = scratch
        self._bucket_of = np.cumsum(counts) // max(
            LINES_PER_BUCKET, int(counts.sum()) // MOST_BUCKETS
        )
        self._pending: list[pl.DataFrame] = []
        self._files: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        self._open: tuple[int, pl.DataFrame] | None = None

    def add(self, table: pl.DataFrame) -> None:
        """Keep lines, each with the group that it belongs to."""
        self._pending.append(detached(table))
        if sum(one.height for one in self._pending) > LINES_IN_MEMORY:
            self._flush()

    def take(self, home: int) -> list[pl.DataFrame]:
        """Give the lines of one group; groups are asked for in order."""
        self._flush()
        bucket = int(self._bucket_of[home])
        if bucket in self._files:
            self._files.pop(bucket).close()
            path = self._path(bucket)
            with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
                self._open = (
                    bucket,
                    pl.DataFrame(pl.from_arrow(reader.read_all())).sort(HOME, maintain_order=True),
                )
            path.unlink()
        if self._open is None or self._open[0] != bucket:
            return []
        lines = self._open[1]
        first, last = (lines[HOME].search_sorted(home, side=side) for side in ("left", "right"))
        return [lines.slice(first, last - first).drop(HOME)] if last > first else []

    def remove(self) -> None:
        """Remove what is left on disk."""
        for bucket, writer in self._files.items():
            writer.close()
            self._path(bucket).unlink(missing_ok=True)
        self._files.clear()

    def _path(self, bucket: int) -> Path:
        return self._scratch / f"late-{bucket}.spill"

    def _flush(self) -> None:
        if not self._pending:
            return
        lines = pl.concat(self._pending)
        self._pending.clear()
        lines = lines.with_columns(pl.Series("#bucket", self._bucket_of[lines[HOME].to_numpy()]))
        for (bucket,), part in lines.partition_by(
            "#bucket", as_dict=True, include_key=False
        ).items():
            data = part.to_arrow().combine_chunks()
            if bucket not in self._files:
                options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
                self._files[bucket] = pa.ipc.new_file(
                    str(self._path(bucket)), data.schema, options=options
                )
            for batch in data.to_batches():
                self._files[bucket].write_batch(batch)
