"""Rows that were rejected, as they stood in their file, with the reasons beside them: to be mended and imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from rd_import.places import make_durable, new_file, put_in_place, temporary_of
from rd_import.run_folder import RunFolder
from rd_import.values import REASON_COLUMNS

REJECTED: Final = {"invalid", "refused"}


def rejected_files_of(path: Path, inputs: int) -> Iterator[Path]:
    """Name the files of rejected rows that may stand beside an audit of so many inputs."""
    base = path.with_name(path.name.removesuffix(".parquet").removesuffix(".audit"))
    for number in range(inputs):
        name = (
            f"{base.name}.rejected.csv" if inputs == 1 else f"{base.name}.{number + 1}.rejected.csv"
        )
        yield base.with_name(name)


class RejectedFiles:
    """One file per input with all rows of every rejected event: their own bytes, plus reason columns."""

    def __init__(self, folder: RunFolder, audit: Path) -> None:
        self._exports = folder.facts["exports"]
        self._paths = list(rejected_files_of(audit, len(self._exports)))
        self._files: dict[int, tuple[Path, Any]] = {}

    def add(self, table: pl.DataFrame, exports: pl.Series, records: pl.Series | None) -> None:
        """Write the rejected ones among these lines of the audit; `records` are the rows' bytes, if they are kept."""
        if records is None:
            return
        chosen = table.select(
            "state", "error_code", "error_column", "error_message", "hint"
        ).with_columns(exports.alias("export"), records.alias("record"))
        chosen = chosen.filter(pl.col("state").is_in(REJECTED))
        for state, code, column, message, hint, export, record in chosen.iter_rows():
            del state
            if record:  # none is left of a person who was erased
                self._write(export, record, (code, column, message, hint))

    def close(self) -> tuple[Path, ...]:
        """Give each file its name, now that it is whole."""
        for path, file in self._files.values():
            make_durable(file, temporary_of(path))
            file.close()
            put_in_place(temporary_of(path), path)
        return tuple(path for path, _ in self._files.values())

    def discard(self) -> None:
        """Leave nothing half-written behind."""
        for path, file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
            temporary_of(path).unlink(missing_ok=True)

    def _write(self, export: int, record: bytes, reasons: tuple[str | None, ...]) -> None:
        facts = self._exports[export]
        if export not in self._files:
            path = self._paths[export]
            file = new_file(temporary_of(path))
            file.write(bytes.fromhex(facts.get("bom") or ""))
            self._files[export] = (path, file)
            if facts["header_record"]:
                self._write(export, facts["header_record"].encode("latin-1"), REASON_COLUMNS)
        encoding, delimiter = facts.get("encoding") or "utf-8", facts.get("delimiter") or ","
        end = b"\r\n" if record.endswith(b"\r\n") else b"\n"
        ours = "".join(
            delimiter + '"' + harmless(" ".join((reason or "").split())).replace('"', '""') + '"'
            for reason in reasons
        )
        line = record.rstrip(b"\r\n") + ours.encode(facts["record_encoding"], "replace") + end
        if facts["record_encoding"] != encoding:
            line = line.decode(facts["record_encoding"]).encode(encoding)
        self._files[export][1].write(line)


def harmless(text: str) -> str:
    """Keep a spreadsheet from running a text of ours, which may quote the file, as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
