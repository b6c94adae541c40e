"""Bring the rows of one order together wherever they stand in the input, with bounded memory.

All rows are read before the first one goes on: only then is known how dates and amounts are written. In memory are one 64-bit hash and one ordinal per row; the rows themselves wait in a spill file. Events keep the order
of their first row, and each group that comes out holds whole events.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from rd_import.values import EVENT, ROW, RowGroup

LATE_LINES_IN_MEMORY: Final = 200_000  # lines far from their event's first row; beyond, they wait on disk
ITEM: Final = "line_items."


def gather(groups: Iterator[RowGroup], *, by: str | None, scratch: Path) -> Iterator[RowGroup]:
    """Give each row its event, and events whole.

    Args:
        groups: Rows under the schema's names, in file order.
        by: Column whose equal values make one event; None where each row is an event. Rows without a value are
            events of their own.
        scratch: Folder for the spill files, which are removed at the end.

    Yields:
        The rows with `#event`, sorted by event and row; empty cells of follow-up rows, items aside, hold what the
        event's first filled one says.
    """
    spill = _Spill(scratch)
    try:
        if by is None:
            for position in range(sum(spill.keep(group.table) for group in groups)):
                yield RowGroup(spill.table(position).with_columns(pl.col(ROW).alias(EVENT)))
            return
        hashes = [spill.add(group.table, by) for group in groups]
        if not hashes:
            return
        events, homes = _number(hashes)
        late = _Late(scratch)
        for position, lines in enumerate(events):
            strays = homes[lines] != position
            if strays.any():
                table = spill.table(position).with_columns(pl.Series(EVENT, lines))
                late.add(table.filter(strays), homes[lines[strays]])
        for position, lines in enumerate(events):
            table = spill.table(position).with_columns(pl.Series(EVENT, lines))
            at_home = table.filter(homes[lines] == position)
            together = pl.concat([at_home, *late.take(position)]).sort(EVENT, ROW, maintain_order=True)
            if together.height:
                yield RowGroup(_inherit(together))
    finally:
        spill.remove()


def _number(hashes: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Number events by first occurrence.

    Returns:
        The event ordinal of each line, per group; and the group in which each event begins.
    """
    sizes = [len(part) for part in hashes]
    every = np.concatenate(hashes)
    hashes.clear()
    order = np.argsort(every, kind="stable")  # equal hashes side by side, each in file order
    every = every[order]
    begins = np.concatenate(([True], every[1:] != every[:-1]))
    del every
    first = order[begins].astype(np.uint32)
    by_first = np.argsort(first)
    rank = np.empty(len(first), dtype=np.uint32)
    rank[by_first] = np.arange(len(first), dtype=np.uint32)
    homes = np.searchsorted(np.cumsum(sizes), first[by_first], side="right").astype(np.uint32)
    del by_first, first
    events = np.empty(len(order), dtype=np.uint32)
    events[order] = rank[np.cumsum(begins, dtype=np.uint32) - 1]
    return np.split(events, np.cumsum(sizes)[:-1]), homes


def _inherit(table: pl.DataFrame) -> pl.DataFrame:
    """Fill empty cells of an event's header from its first filled one; items are each row's own."""
    if table[EVENT].n_unique() == table.height:
        return table
    header = [name for name in table.columns if name not in {ROW, EVENT} and not name.startswith(ITEM)]
    return table.with_columns(
        pl.coalesce(pl.col(name), pl.col(name).drop_nulls().first().over(EVENT)) for name in header
    )


class _Spill:
    """Groups of rows on disk, readable by position."""

    def __init__(self, scratch: Path) -> None:
        self._path = scratch / "rows.spill"
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._source: pa.NativeFile | None = None

    def keep(self, table: pl.DataFrame) -> int:
        """Write one group down; gives 1, so that they can be counted."""
        data = table.to_arrow()
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_file(self._path, data.schema, options=options)
        self._writer.write_batch(data.combine_chunks().to_batches()[0] if data.num_rows else _empty(data.schema))
        return 1

    def add(self, table: pl.DataFrame, by: str) -> np.ndarray:
        self.keep(table)
        key = pl.when(pl.col(by).is_null()).then(pl.col(ROW).hash(seed=1)).otherwise(pl.col(by).hash(seed=2))
        return table.select(key.alias("hash"))["hash"].to_numpy()

    def table(self, position: int) -> pl.DataFrame:
        if self._reader is None:
            assert self._writer is not None  # noqa: S101 -- read only after at least one group was added
            self._writer.close()
            self._source = pa.OSFile(str(self._path))  # mapped pages would count as this process's memory
            self._reader = pa.ipc.open_file(self._source)
        return pl.DataFrame(pl.from_arrow(self._reader.get_batch(position)))

    def remove(self) -> None:
        if self._source is not None:
            self._source.close()
        elif self._writer is not None:
            self._writer.close()
        self._path.unlink(missing_ok=True)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


class _Late:
    """Lines that stand in another group than the one in which their event begins."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._waiting: dict[int, list[pl.DataFrame]] = defaultdict(list)
        self._lines = 0
        self._files: dict[int, list[Path]] = defaultdict(list)

    def add(self, table: pl.DataFrame, homes: np.ndarray) -> None:
        for home in np.unique(homes):
            self._waiting[int(home)].append(table.filter(homes == home))
        self._lines += table.height
        if self._lines > LATE_LINES_IN_MEMORY:
            self._to_disk()

    def take(self, home: int) -> list[pl.DataFrame]:
        found = []
        for path in self._files.pop(home, ()):
            found.append(pl.read_ipc(path, memory_map=False))
            path.unlink()
        return found + self._waiting.pop(home, [])

    def _to_disk(self) -> None:
        for home, frames in self._waiting.items():
            path = self._scratch / f"late-{home}-{len(self._files[home])}.spill"
            pl.concat(frames).write_ipc(path, compression="lz4")
            self._files[home].append(path)
        self._waiting.clear()
        self._lines = 0
