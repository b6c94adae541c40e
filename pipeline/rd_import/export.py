"""One input file on its way through `read`: what is known of it, and where its bytes are."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from rd_import.dialect import Dialect
from rd_import.tables import JsonLines
from rd_import.values import ExportFacts, Finding


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of an input are.

    Args:
        path: A local file; for stdin and object stores a private copy, which is removed at the end.
        name: The input as the user named it.
        member: The file's name inside a zip archive.
        layers: Compressions to undo, outermost first: `gzip`, `zstd`, `xz`, `bzip2`, `zip`.
    """

    path: Path
    name: str
    member: str | None = None
    layers: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Name the input to a person."""
        return f"{self.name}/{self.member}" if self.member else self.name


@dataclass(slots=True)
class Export:
    """One input: its facts, known before the first row, and its checksum, known after the last.

    `blank_lines` counts lines that are no rows: empty ones and lines of bare delimiters. `not_data`
    counts rows that hold no data: totals and repeated headers. `second_table` is set where another
    table begins.
    """

    path: Path
    facts: ExportFacts
    dialect: Dialect | None = None
    rows: int = 0
    blank_lines: int = 0
    not_data: int = 0
    second_table: bool = False
    source: Source | None = None
    json_lines: JsonLines | None = None
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256, repr=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Say what was found out about the file itself; its columns come later."""
        return self.dialect.findings if self.dialect is not None else ()
