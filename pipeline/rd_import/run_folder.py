"""The run on disk: what was read, what would be sent, and everything that the audit needs later.

| file | one line per | holds |
|---|---|---|
| `source.arrow` | input row | the record's own bytes |
| `rows.arrow` | input row | export, row and line number, its event; same batches as `source.arrow` |
| `problems.arrow` | flaw | `values.PROBLEM_SCHEMA`, sorted by row |
| `events.arrow` | event | key, payload checksum, identifier, the source's own time, the body's size |
| `bodies.arrow` | event | the JSON object and the e-mail; same batches as `events.arrow` |
| `contacts.arrow` | event | the contact as a keyed hash; same batches as `events.arrow` |
| `run.json` | run | input checksums, mapping, counts |

The folder is private (0700, files 0600). `forget_contents` removes records and bodies once nothing waits to be sent.
"""

import contextlib
import hmac
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import platformdirs
import polars as pl
import pyarrow as pa

from rd_import.errors import LedgerError
from rd_import.values import (
    EVENT,
    OCCURRENCE,
    PROBLEM_SCHEMA,
    ROW,
    EncodedGroup,
    RowGroup,
    SourceGroup,
    detached,
)

PLACES_SCHEMA: Final = pa.schema(
    [("export", pa.uint16()), ("row_number", pa.int64()), ("line_number", pa.int64())]
)
NO_BODY: Final = b"{}"  # of an event whose person was erased
ERASED: Final = "[erased]"
NO_EVENT: Final = 2**32 - 1  # while the first half runs; null once it is written
BODY_COLUMNS: Final = ("body", "email", "identity")
SIZE: Final = "body_bytes"
COMPRESSION: Final = {"source": "lz4", "bodies": "zstd"}
FLAWS_IN_MEMORY: Final = 20_000  # lines; beyond, they wait on disk until they are sorted
ROWS_SORTED: Final = 100_000  # rows whose flaws are sorted at a time
SWEPT_AFTER_S: Final = 86_400
RUN_NAME: Final = re.compile(r"\d{4}-\d{2}-\d{2}-[a-z2-9]{6}")
ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # no letters that are mistaken for digits


def new_run_id(now: datetime) -> str:
    """Name a run: its day and six random characters."""
    return f"{now:%Y-%m-%d}-{''.join(secrets.choice(ALPHABET) for _ in range(6))}"


def state_folder() -> Path:
    """Give the folder where this person's runs and ledger live."""
    return platformdirs.user_state_path("rd-import")


def default_ledger_path() -> Path:
    """Give the ledger of this person on this machine."""
    return state_folder() / "ledger.db"


def tokens_path() -> Path:
    """Name the file of tokens, for machines that have no keyring."""
    return state_folder() / "tokens.json"


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner can read.

    Raises:
        LedgerError: It cannot be created or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe-{secrets.token_hex(8)}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise LedgerError(
            "cannot_write_folder", path=path, reason=error.strerror or str(error)
        ) from error
    return path


def _sweep(base: Path, now: datetime) -> None:
    """Remove what killed first halves left behind a day ago or longer: it holds people's data and nobody's run."""
    if not base.is_dir():
        return
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            old = now.timestamp() - folder.stat().st_mtime > SWEPT_AFTER_S
            if (
                old
                and folder.is_dir()
                and RUN_NAME.fullmatch(folder.name)
                and not (folder / "run.json").exists()
            ):
                shutil.rmtree(folder)


def remove_runs_before(base: Path, before: datetime) -> None:
    """Remove the run folders that were last written before a moment, whatever of them still waits."""
    if not base.is_dir():
        return
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            written = (folder / "run.json").stat().st_mtime
            if RUN_NAME.fullmatch(folder.name) and written < before.timestamp():
                shutil.rmtree(folder)


class RunFolder:
    """One run's folder, written once by the first half and read by the second.

    Args:
        path: The folder.
        run_id: Its name in ledger and audit.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        self.facts: dict[str, Any] = {}

    @classmethod
    def create(cls, parent: Path | None, now: datetime) -> Self:
        """Make a new, empty folder.

        Raises:
            LedgerError: The place cannot be written.
        """
        run_id = new_run_id(now)
        base = parent if parent is not None else state_folder() / "runs"
        _sweep(base, now)
        return cls(private_folder(private_folder(base) / run_id), run_id)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder that an earlier run left.

        Raises:
            LedgerError: It is gone or not whole.
        """
        try:
            facts = json.loads((path / "run.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise LedgerError("run_folder_lost", path=path) from error
        folder = cls(path, facts["run_id"])
        folder.facts = facts
        return folder

    @property
    def has_bodies(self) -> bool:
        """Tell whether the folder still holds what would be sent."""
        return not self.events or (self.path / "bodies.arrow").exists()

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return int(self.facts["rows"])

    @property
    def events(self) -> int:
        """How many events would be sent."""
        return int(self.facts["events"])

    def writer(self) -> "FolderWriter":
        """Start the first half."""
        return FolderWriter(self)

    def save_facts(self, facts: dict[str, Any]) -> None:
        """Write `run.json`, the last thing that the first half does."""
        self.facts = facts
        target = self.path / "run.json"
        temporary = target.with_suffix(".tmp")
        with private_file(temporary) as file:
            file.write(json.dumps(facts, indent=1, ensure_ascii=False, default=str).encode())
        temporary.replace(target)

    def records(self) -> Iterator[pl.Series]:
        """Give each row's own bytes, in input order and the batches of `placed_rows`."""
        return (batch["record"] for batch in self._batches("source"))

    def placed_rows(self) -> Iterator[pl.DataFrame]:
        """Give `#row`, `#event` (null where the row could not be read), export, row and line number."""
        return self._batches("rows")

    def places(self) -> Iterator[pl.DataFrame]:
        """Give export, row and line number while the first half runs; `placed_rows` takes their place."""
        return self._batches("places")

    def problems(self) -> Iterator[pl.DataFrame]:
        """Give every flaw, sorted by row, in batches of which no two have flaws of the same row."""
        return self._batches("problems")

    def flawed_rows(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Give `placed_rows`, each batch with the flaws of its rows."""
        batches = self._batches("problems")
        waiting = pl.DataFrame(schema=PROBLEM_SCHEMA)
        for placed in self.placed_rows():
            last = placed[ROW][-1]
            while (waiting.is_empty() or waiting[ROW][-1] < last) and (
                more := next(batches, None)
            ) is not None:
                waiting = pl.concat([waiting, more])
            here = waiting[ROW].search_sorted(last, side="right")
            yield placed, waiting.head(here)
            waiting = waiting.slice(here)

    def planned(self) -> Iterator[pl.DataFrame]:
        """Give events without their bodies, in order of first occurrence."""
        return self._batches("events")

    def bodies(self, wanted: Collection[int] | None = None) -> Iterator[pl.DataFrame]:
        """Give events with their bodies and e-mails, in order of first occurrence: `wanted` batches, or all."""
        events, bodies = self._batches("events", wanted), self._batches("bodies", wanted)
        for event, body in zip(events, bodies, strict=True):
            yield event.hstack(body)

    def addressed(self) -> Iterator[pl.DataFrame]:
        """Give events with their e-mails and the sizes of their bodies, which are not read."""
        emails = self._batches("bodies", columns=("email",))
        for event, email in zip(self._batches("events"), emails, strict=True):
            yield event.hstack(email)

    def planned_with_contacts(
        self, wanted: Collection[int] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Give events with their contacts' keyed hashes (null before `keep_contacts`): `wanted` batches, or all."""
        events = self._batches("events", wanted)
        if not (self.path / "contacts.arrow").exists():
            nobody = pl.lit(None, dtype=pl.Binary).alias("contact")
            yield from (one.with_columns(nobody) for one in events)
            return
        for event, contact in zip(events, self._batches("contacts", wanted), strict=True):
            yield event.hstack(contact)

    def event_ranges(self) -> list[tuple[int, int]]:
        """Give the first and the last event of each batch of `planned`; they ascend."""
        return [
            (int(batch[EVENT][0]), int(batch[EVENT][-1]))
            for batch in self._batches("events", columns=(EVENT,))
        ]

    def identities(self) -> Iterator[pl.Series]:
        """Give each event's identity in canonical form, in the batches of `planned`."""
        return (batch["identity"] for batch in self._batches("bodies"))

    def replace_keys(self, keys: list[list[bytes]]) -> None:
        """Write other event keys, in the batches of `planned`."""
        with FolderWriter(self) as writer:
            for events, new in zip(self.planned(), keys, strict=True):
                writer.write(
                    "events.new",
                    events.with_columns(pl.Series("event_key", new, dtype=pl.Binary)).to_arrow(),
                )
        (self.path / "events.new.arrow").replace(self.path / "events.arrow")

    def keep_contacts(self, secret: bytes) -> None:
        """Write each event's contact as a hash keyed with the ledger's secret: the same person, not their address."""
        if (self.path / "contacts.arrow").exists():
            return
        with FolderWriter(self) as writer:
            for bodies in self._batches("bodies"):
                known = {
                    mail: hmac.digest(secret, mail.encode(), "sha256")
                    for mail in bodies["email"].unique()
                }
                hashes = pl.Series(
                    "contact", [known[mail] for mail in bodies["email"]], dtype=pl.Binary
                )
                writer.write("contacts.new", hashes.to_frame().to_arrow())
        if (self.path / "contacts.new.arrow").exists():
            (self.path / "contacts.new.arrow").replace(self.path / "contacts.arrow")

    def forget_contents(self, masked: Callable[[str | None, str | None], str | None]) -> None:
        """Remove what is people's data once nothing waits to be sent: records and bodies; wrong cells are masked."""
        if (self.path / "problems.arrow").exists():
            with FolderWriter(self) as writer:
                for problems in self.problems():
                    values = [
                        masked(field, value)
                        for field, value in zip(problems["field"], problems["value"], strict=True)
                    ]
                    shown = problems.with_columns(pl.Series("value", values, dtype=pl.String))
                    writer.write("problems.new", shown.to_arrow())
            (self.path / "problems.new.arrow").replace(self.path / "problems.arrow")
        for name in ("source", "bodies"):
            (self.path / f"{name}.arrow").unlink(missing_ok=True)

    def forget_person(self, email: str, contact: bytes) -> int:
        """Erase a person: their rows' bytes and wrong cells, their events' bodies and identifiers.

        Their keyed hash stays with their events, which are not sent by it.

        Args:
            email: In lower case.
            contact: Its hash, keyed with the ledger's secret.

        Returns:
            How many rows were theirs.
        """
        events, rows = set[int](), set[int]()
        for planned in self.planned_with_contacts():
            events |= set(planned.filter(pl.col("contact") == contact)[EVENT])
        if (self.path / "bodies.arrow").exists():
            for bodies in self.bodies():
                events |= set(bodies.filter(pl.col("email") == email)[EVENT])
        records = self.records()
        for placed in self.placed_rows():
            theirs = placed.filter(pl.col(EVENT).is_in(list(events)))[ROW]
            kept = next(records, None)
            if kept is not None:
                said = pl.Series([email.encode() in one.lower() for one in kept], dtype=pl.Boolean)
                rows |= set(placed.filter(said)[ROW])
            rows |= set(theirs)
        if not rows and not events:
            return 0
        mine, ours = pl.col(EVENT).is_in(list(events)), pl.col(ROW).is_in(list(rows))
        numbers = [placed[ROW] for placed in self.placed_rows()]
        ordinals = [planned[EVENT] for planned in self.planned()]
        self._rewrite("source", numbers, ours, record=b"")
        self._rewrite("bodies", ordinals, mine, body=NO_BODY, email="", identity="")
        self._rewrite("events", ordinals, mine, identifier=None)
        problems = [problems[ROW] for problems in self._batches("problems")]
        self._rewrite("problems", problems, ours, value=None)
        text = json.dumps(self.facts, ensure_ascii=False)
        self.save_facts(json.loads(re.sub(re.escape(email), ERASED, text, flags=re.IGNORECASE)))
        return len(rows)

    def _rewrite(self, name: str, marks: list[pl.Series], hit: pl.Expr, **values: Any) -> None:
        """Write other values into the lines of a file that are hit, which `marks` numbers batch by batch."""
        if not (self.path / f"{name}.arrow").exists():
            return
        with FolderWriter(self) as writer:
            for batch, mark in zip(self._batches(name), marks, strict=True):
                chosen = mark.to_frame().select(hit).to_series()
                new = batch.with_columns(
                    pl.when(chosen)
                    .then(pl.lit(value, dtype=batch.schema[column]))
                    .otherwise(pl.col(column))
                    .alias(column)
                    for column, value in values.items()
                )
                writer.write(f"{name}.new", new.select(batch.columns).to_arrow())
        (self.path / f"{name}.new.arrow").replace(self.path / f"{name}.arrow")

    def remove(self) -> None:
        """Remove the whole folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def flaws(self, wanted: Collection[int]) -> Iterator[pl.DataFrame]:
        """Give flaws as they were found, while the first half runs: the batches with these numbers."""
        return self._batches("flaws", wanted)

    def _batches(
        self, name: str, wanted: Collection[int] | None = None, columns: Collection[str] = ()
    ) -> Iterator[pl.DataFrame]:
        """Read a file's batches: those `wanted`, or all; of these `columns`, or of all."""
        path = self.path / f"{name}.arrow"
        if not path.exists():
            return
        with pa.OSFile(str(path)) as file:
            with pa.ipc.open_file(file) as reader:
                fields = [reader.schema.get_field_index(one) for one in columns]
            options = pa.ipc.IpcReadOptions(included_fields=fields or None)
            reader = pa.ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches) if wanted is None else sorted(wanted):
                yield pl.DataFrame(pl.from_arrow(reader.get_batch(number)))


def private_file(path: Path) -> Any:
    """Make a new file that only its owner can read; what had this name goes, be it another's file or a link."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync_folder(path: Path) -> None:
    """Make a rename in a folder durable, where the system has a way to."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass
class FolderWriter:
    """Writes a run folder group by group; nothing is readable before `close`."""

    folder: RunFolder
    rows: int = 0
    events: int = 0
    _files: dict[str, tuple[Any, pa.ipc.RecordBatchFileWriter]] = field(default_factory=dict)
    _numbered: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _problems: list[pl.DataFrame] = field(default_factory=list)
    _flawed: list[tuple[int, int]] = field(
        default_factory=list
    )  # first and last row of each batch of `flaws.arrow`
    _seen: "_Occurrences" = field(default_factory=lambda: _Occurrences())  # noqa: PLW0108 -- the class stands below

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self._files):
            self._close(name)

    def keep_source(self, group: SourceGroup) -> RowGroup:
        """Write down rows as they were read; give on those that could be read."""
        table = group.rows.table
        export = pa.array(np.full(table.height, group.export, np.uint16))
        self.write(
            "places",
            pa.table([export, group.row_numbers, group.line_numbers], schema=PLACES_SCHEMA),
        )
        self.write("source", pa.table({"record": group.records}))
        self.rows += table.height
        if group.problems.is_empty():
            return group.rows
        self.keep_problems(group.problems)
        return RowGroup(table.filter(~pl.col(ROW).is_in(group.problems[ROW].implode())))

    def number(self, group: RowGroup, identity: pl.Expr | None) -> RowGroup:
        """Remember which row belongs to which event, and count events of equal identity, invalid ones included.

        Args:
            group: Typed rows of whole events.
            identity: Canonical identity, or None where equal identities are one event already.
        """
        table = group.table
        self._numbered.append((table[ROW].to_numpy(), table[EVENT].to_numpy()))
        if identity is None:
            return group
        once = table.unique(EVENT, keep="first", maintain_order=True)
        hashes = once.select(identity.hash(seed=3).alias("hash"))["hash"].to_numpy()
        numbers = once.select(EVENT).with_columns(pl.Series(OCCURRENCE, self._seen.number(hashes)))
        return RowGroup(table.join(numbers, on=EVENT, how="left", maintain_order="left"))

    def keep_problems(self, problems: pl.DataFrame) -> None:
        """Write down flaws."""
        if problems.height:
            self._problems.append(detached(problems))
            if sum(one.height for one in self._problems) > FLAWS_IN_MEMORY:
                self._write_flaws()

    def _write_flaws(self) -> None:
        if self._problems:
            problems = pl.concat(self._problems, rechunk=True)
            self._problems.clear()
            rows = problems[ROW].to_numpy()
            self._flawed.append((int(rows.min()), int(rows.max())))
            self.write("flaws", problems.to_arrow())

    def keep_events(self, group: EncodedGroup) -> None:
        """Write down what would be sent."""
        if group.table.is_empty():
            return
        sized = group.table.with_columns(pl.col("body").bin.size().alias(SIZE))
        self.write("events", sized.drop(BODY_COLUMNS).to_arrow())
        self.write("bodies", group.table.select(BODY_COLUMNS).to_arrow())
        self.events += group.table.height

    def finish(self) -> None:
        """Write the row-to-event table and the problems in input order."""
        event_of = np.full(self.rows, NO_EVENT, dtype=np.uint32)
        for rows, events in self._numbered:
            event_of[rows] = events
        self._numbered.clear()
        self._close("places")
        first = 0
        for places in self.folder.places():
            ordinals = pl.Series(EVENT, event_of[first : first + places.height])
            numbers = pl.int_range(first, first + places.height, dtype=pl.UInt32, eager=True).alias(
                ROW
            )
            placed = places.with_columns(
                numbers, pl.when(ordinals != NO_EVENT).then(ordinals).alias(EVENT)
            )
            self.write("rows", placed.to_arrow())
            first += places.height
        (self.folder.path / "places.arrow").unlink(missing_ok=True)
        self._sort_flaws()

    def _sort_flaws(self) -> None:
        """Write the flaws in input order, some rows after the other."""
        self._write_flaws()
        self._close("flaws")
        for first in range(0, self.rows, ROWS_SORTED) if self._flawed else ():
            last = first + ROWS_SORTED - 1
            here = {
                at for at, (low, high) in enumerate(self._flawed) if low <= last and high >= first
            }
            parts = [
                batch.filter(pl.col(ROW).is_between(first, last))
                for batch in self.folder.flaws(here)
            ]
            if any(part.height for part in parts):
                problems = pl.concat(parts, rechunk=True).sort(ROW, maintain_order=True)
                self.write("problems", problems.to_arrow())
        (self.folder.path / "flaws.arrow").unlink(missing_ok=True)

    def _close(self, name: str) -> None:
        if name in self._files:
            file, writer = self._files.pop(name)
            try:
                writer.close()
            finally:
                file.close()

    def write(self, name: str, data: pa.Table) -> None:
        """Append one batch to a file of the folder."""
        if name not in self._files:
            file = private_file(self.folder.path / f"{name}.arrow")
            options = pa.ipc.IpcWriteOptions(compression=COMPRESSION.get(name))
            self._files[name] = (file, pa.ipc.new_file(file, data.schema, options=options))
        for batch in data.combine_chunks().to_batches():
            self._files[name][1].write_batch(batch)


class _Occurrences:
    """Counts equal identities over the whole input: sorted 64-bit hashes with their counts, 12 bytes an event."""

    def __init__(self) -> None:
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._counts = np.zeros(0, dtype=np.uint32)

    def number(self, hashes: np.ndarray) -> np.ndarray:
        """Give each event its number among equals so far, from 1."""
        unique, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        within = np.empty(len(hashes), dtype=np.uint32)
        within[order] = np.arange(len(hashes)) - starts[inverse[order]]
        place = np.searchsorted(self._hashes, unique)
        known = place < len(self._hashes)
        known[known] = self._hashes[place[known]] == unique[known]
        before = np.zeros(len(unique), dtype=np.uint32)
        before[known] = self._counts[place[known]]
        self._counts[place[known]] += counts[known].astype(np.uint32)
        new = ~known
        self._hashes = np.insert(self._hashes, place[new], unique[new])
        self._counts = np.insert(self._counts, place[new], counts[new].astype(np.uint32))
        return (within + before[inverse] + 1).astype(np.uint32)
