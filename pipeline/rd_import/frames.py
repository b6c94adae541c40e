"""Frames that a program holds -> private Parquet files, which are read like any other.

pandas and polars frames, Arrow tables, and readers of batches, which pass once and in little memory. A pandas index is
data where it has a name, and a row count where it has none.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rd_import.errors import JobError
from rd_import.tables import excel_text

if TYPE_CHECKING:
    import pandas as pd

_REFUSED = (pa.ArrowException, TypeError, ValueError, OverflowError)


def kept_frame(frame: Any, name: str, spool: ExitStack) -> Path:
    """Write a frame to a file that only its owner can read and that ends with `spool`.

    Raises:
        JobError: It is no frame, or one that cannot be taken for a table.
    """
    try:
        schema, batches = _batches(frame, name)
        with NamedTemporaryFile(prefix="rd-import-", suffix=".parquet", delete=False) as file:
            path = Path(file.name)
            spool.callback(lambda: path.unlink(missing_ok=True))
            # Without the schema's metadata: the same rows give the same bytes, whoever made them.
            with pq.ParquetWriter(file, schema.remove_metadata(), compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata(None))
    except _REFUSED as error:
        raise JobError("no_frame", name=name, reason=f"{error}".partition("\n")[0][:200]) from error
    return path


def _batches(frame: Any, name: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns"):
        frame = _from_pandas(frame, name)
    if isinstance(frame, pl.DataFrame):
        frame = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if not hasattr(frame, "__arrow_c_stream__"):
        kind = type(frame)
        raise JobError("no_frame", name=name, reason=f"it is a {kind.__module__}.{kind.__name__}")
    reader = pa.RecordBatchReader.from_stream(frame)
    return reader.schema, iter(reader)


def _from_pandas(frame: "pd.DataFrame", name: str) -> pa.Table:
    """Take columns by place, since names may repeat; levels of the index that have a name come first."""
    if frame.columns.nlevels > 1:
        raise JobError("no_frame", name=name, reason="its columns have several levels of names")
    index = [
        (level, frame.index.get_level_values(place).to_series())
        for place, level in enumerate(frame.index.names)
        if level is not None
    ]
    columns = [(label, frame.iloc[:, place]) for place, label in enumerate(frame.columns)]
    labels = [str(label) for label, _ in (*index, *columns)]
    return pa.Table.from_arrays([_cells(cells) for _, cells in (*index, *columns)], names=labels)


def _cells(column: "pd.Series[Any]") -> pa.Array | pa.ChunkedArray:
    """Take a column as its type says; one that mixes types, as text."""
    try:
        return pa.array(column, from_pandas=True)
    except _REFUSED:
        missing = column.isna()
        texts = [None if gone else _text(cell) for cell, gone in zip(column, missing, strict=True)]
        return pa.array(texts, pa.string())


def _text(cell: object) -> str | None:
    """Write a cell as text; whole numbers of Python have all their digits, whatever their size."""
    is_whole = isinstance(cell, int) and not isinstance(cell, bool)
    return str(cell) if is_whole else excel_text(cell)
