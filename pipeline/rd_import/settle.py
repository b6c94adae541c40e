"""What is settled before the first row is read: the files, the event types, and what feeds each field.

Headers are looked at, presets recognised, second files loaded; what does not fit is refused here.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import polars.selectors as cs

from rd_import.cells import DEFAULT_ZONE
from rd_import.choose import Choice
from rd_import.errors import ExportError, JobError, NothingSent
from rd_import.export import Export
from rd_import.feed import in_common, match_columns
from rd_import.job import Job
from rd_import.lookup import LookupTable, lookup_table
from rd_import.mapping_file import Mapping, Preset, TypeBy
from rd_import.matching import Matching
from rd_import.names import Names, folded, near_types
from rd_import.presets import recognise
from rd_import.read import find_exports, read
from rd_import.values import GROUP, Finding
from rdstation_events import CURRENT_TYPES, EVENT_TYPES, REMOVED_TYPES
from rdstation_events.event_type import EventType

MAX_SECOND_FILE: Final = 256 << 20  # bytes of text; seven million lines of an address and an id


@dataclass(frozen=True, slots=True)
class Plan:
    """What is settled before the first row is read.

    Args:
        exports: The files.
        event_types: The types that their rows can be of.
        said: What the user says about them.
        presets: What each header was recognised as.
        matchings: How each file's columns become fields.
        lookups: For each file, the second files that are joined to it.
        choice: What leaves rows out and tells their type.
    """

    exports: tuple[Export, ...]
    event_types: tuple[EventType, ...]
    said: Mapping
    presets: tuple[Preset | None, ...]
    matchings: tuple[Matching, ...]
    lookups: tuple[tuple[LookupTable, ...], ...]
    choice: Choice

    @property
    def by(self) -> str | None:
        """Name the column after `match` whose equal values make one event; None where each row is one."""
        if self.matchings[0].group_by:
            return GROUP
        first = self.event_types[0]
        return first.grouped_by and self.matchings[0].view(first.name).get(first.grouped_by)

    @property
    def own(self) -> frozenset[str] | None:
        """Name the columns that each row has for itself, items aside; None where all are."""
        if self.choice.keep is not None:
            return None
        return frozenset(
            one.column
            for matching in self.matchings
            for of_type in matching.fed.values()
            for one in of_type
            if one.rule.sum
        )

    def id_column(self, export: int) -> str | None:
        """Name a file's column that holds the ids of events, where it is one column."""
        matching = self.matchings[export]
        if matching.group_by:
            return matching.group_by[0] if len(matching.group_by) == 1 else None
        fed = matching.fed[self.event_types[0].name]
        return next((one.rule.name for one in fed if one.column == self.by), None)


def column_of_an_event(job: Job) -> str | None:
    """Name the file's column whose equal values must be read together: rows of one event, or of equal identities.

    None where no single column tells.

    Raises:
        JobError: What is said does not fit the files.
    """
    with ExitStack() as spool:
        plan = planned(job, spool)
        together = plan.id_column(0)
        if together is None and plan.by is None:
            [first, *_] = [*plan.matchings[0].key, "email"]
            fed = plan.matchings[0].fed[plan.event_types[0].name]
            named = next((one.rule.name for one in fed if one.field == first), None)
            together = named or (first if first in plan.matchings[0].key else None)
        return together


def stated(job: Job) -> Job:
    """Give the job with what the user says about reading the files, by flags or by the mapping."""
    said = job.said.file
    return replace(job, encoding=said.encoding, delimiter=said.delimiter, header=said.header)


def planned(job: Job, spool: ExitStack, *, complete: bool = True) -> Plan:
    """Look at the files and settle what feeds which field.

    Args:
        job: What is asked for.
        spool: Closes what must stay open until the reading ends.
        complete: Refuse files that lack a required field.

    Raises:
        JobError: What is said does not fit the files.
        NothingSent: A file contradicts what the mapping keeps about it.
    """
    said = job.said
    _refuse_unknown_zone(said.file.timezone)
    _refuse_contradictions(job, spool)
    exports = find_exports(stated(job), spool)
    presets = tuple(recognise(one.facts.columns) for one in exports)
    event_types = event_types_of(job, presets)
    lookups, matchings = [], []
    for export, preset in zip(exports, presets, strict=True):
        tables = tuple(
            lookup_table(one, _table_of(one.file, spool), export.facts, event_types, place)
            for place, one in enumerate(said.lookups)
        )
        of_export = said
        if said.type_by is not None and said.type_by.values is None:
            [suggested] = _suggested(said.type_by, [preset], job)
            of_export = replace(said, type_by=suggested)
        lookups.append(tables)
        matchings.append(
            match_columns(
                export.facts,
                event_types,
                of_export,
                preset=preset,
                looked_up=[added for table in tables for added in table.adds],
                complete=complete,
            )
        )
    if len({(one.filters, bool(one.group_by)) for one in matchings}) > 1:
        raise JobError("files_differ", files=", ".join(one.facts.path for one in exports))
    common = in_common(matchings)
    base = next((one.mapping for one in presets if one is not None), Mapping())
    taken = [(tuple(one.field for one in table.adds), table.name) for table in lookups[0]]
    choice = Choice(event_types, common, said.keep or base.keep, _suppressed(job, spool), taken)
    return Plan(exports, event_types, said, presets, common, tuple(lookups), choice)


def _refuse_unknown_zone(zone: str | None) -> None:
    try:
        ZoneInfo(zone or DEFAULT_ZONE)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: `America` is a folder
        raise JobError("bad_timezone", value=zone) from error


def _refuse_contradictions(job: Job, spool: ExitStack) -> None:
    """Refuse a CSV whose encoding, delimiter or header is certainly not what the mapping keeps.

    Raises:
        NothingSent: Both readings are shown.
    """
    kept = job.mapping.file
    files = [one for one in job.exports if isinstance(one, str) and one != "-"]
    if len(files) < len(job.exports) or (kept.encoding, kept.delimiter) == (None, None):
        return  # what is no file is read once
    try:
        exports = find_exports(replace(job, encoding=None, delimiter=None, header=None), spool)
    except (ExportError, NothingSent):
        return  # nothing is certain about it, and what is kept tells how to read it
    for export in exports:
        for found in export.findings:
            value = (
                getattr(kept, found.what, None) if found.what in {"encoding", "delimiter"} else None
            )
            by_flag = getattr(job, found.what, None)
            if value is not None and by_flag is None and _contradicts(found, value):
                both = replace(
                    found,
                    confidence="open",
                    how="contradicts",
                    readings=(value, found.value),
                    facts={**found.facts, "kept": value},
                )
                raise NothingSent("open_questions", questions=[asdict(both)])


def _contradicts(found: Finding, kept: str) -> bool:
    if found.how in {"ascii_only", "one_column"} or found.confidence not in {"certain", "likely"}:
        return False
    if found.what == "encoding":
        return found.confidence == "certain" and _codec(found.value) != _codec(kept)
    return found.value != kept


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name.removesuffix("-sig")
    except LookupError:
        return name


def _table_of(path: str, spool: ExitStack) -> pl.DataFrame:
    """Read a second file whole, as text; nested columns are left out.

    Raises:
        ExportError: It cannot be read, or takes too much memory.
    """
    exports = find_exports(Job(exports=(path,)), spool)
    empty = pl.DataFrame(schema=dict.fromkeys(exports[0].facts.columns, pl.String))
    groups, size = [], 0
    for one in read(exports):
        groups.append(one.rows.table.select(cs.string()))
        size += int(groups[-1].estimated_size())
        if size > MAX_SECOND_FILE:
            raise ExportError("second_file_too_large", path=path, most=MAX_SECOND_FILE >> 20)
    return pl.concat(groups, how="diagonal") if groups else empty


def _suppressed(job: Job, spool: ExitStack) -> frozenset[str]:
    """Read the e-mails that get nothing: one a line, or the column `email` of a table.

    Raises:
        JobError: The file has several columns, and none of them is `email`.
    """
    if job.suppress is None:
        return frozenset()
    [export] = find_exports(Job(exports=(str(job.suppress),)), spool)
    table = _table_of(str(job.suppress), spool)
    columns = export.facts.columns
    column = Names(columns).find("email") or Names(columns).find("e-mail")
    if column is None and len(columns) > 1:
        raise JobError("no_such_key", path=job.suppress, column="email", columns=", ".join(columns))
    cells = [*table[column or columns[0]], *([] if column else columns)]
    return frozenset(one.strip().lower() for one in cells if one and "@" in one)


def event_types_of(job: Job, presets: Sequence[Preset | None]) -> tuple[EventType, ...]:
    """Look up the types that a job's rows can be of: the one that is named, or those that a column decides on.

    Raises:
        JobError: There is no such type, RD Station stopped taking it, or nothing names any.
    """
    said = job.said
    if said.type_by is not None:
        names = [
            name
            for one in (
                [said.type_by] if said.type_by.values else _suggested(said.type_by, presets, job)
            )
            for name in (one.values or {}).values()
        ]
    elif said.event_type is not None:
        names = [said.event_type]
    else:
        raise no_type(presets)
    found = [event_type_named(name, job.names) for name in dict.fromkeys(names)]
    if len({one.grouped_by for one in found}) > 1:
        raise JobError("types_do_not_mix", types=", ".join(one.name for one in found))
    return tuple(found)


def no_type(presets: Sequence[Preset | None]) -> JobError:
    """Say that the type is missing: those that the exports can feed, and the columns that tell it row by row."""
    known = [one for one in presets if one is not None]
    feeds = list(dict.fromkeys(name for one in known for name in one.feeds))
    columns = [one.column for preset in known for one in preset.suggestions]
    if not known:
        return JobError("no_type")
    return JobError(
        "no_type_of_preset", preset=known[0].name, types=", ".join(feeds), type_by=columns
    )


def _suggested(type_by: TypeBy, presets: Sequence[Preset | None], job: Job) -> Iterator[TypeBy]:
    """Give what the exports' presets suggest for a column that the user names without values.

    Raises:
        JobError: One of them suggests nothing for it.
    """
    for path, preset in zip(job.names, presets, strict=False):
        suggestions = preset.suggestions if preset is not None else ()
        found = next(
            (one for one in suggestions if folded(one.column) == folded(type_by.column)), None
        )
        if found is None:
            known = ", ".join(f"`{one.column}`" for one in suggestions)
            raise JobError("no_suggestion", path=path, column=type_by.column, known=known)
        yield found


def event_type_named(name: str, exports: Iterable[str]) -> EventType:
    """Look a type up.

    Raises:
        JobError: There is no such type, or RD Station stopped taking it.
    """
    if name in REMOVED_TYPES:
        raise removed_type(name, exports)
    if name not in CURRENT_TYPES:
        raise JobError("unknown_type", name=name, near=near_types(name))
    return EVENT_TYPES[name]


def removed_type(name: str, exports: Iterable[str]) -> JobError:
    """Explain that a type has ended, with the command that sends its successor."""
    old = EVENT_TYPES[name]
    removal = old.removed
    assert removal is not None
    flags = [f"--rename {field}={column}" for field, column in removal.renames.items()]
    flags += [f"--set {field}=VALUE" for field in removal.still_needed]
    command = f"rd-import {' '.join(exports)} --type {removal.successor} {' '.join(flags)}"
    return JobError(
        "removed_type",
        name=name,
        until=removal.accepted_until,
        successor=removal.successor,
        how=removal.how,
        command=command,
    )


def feasible_types(job: Job) -> list[str]:
    """Name the types that the first file's header can feed: as its preset says, else those that lack nothing."""
    with ExitStack() as spool:
        [export, *_] = find_exports(stated(job), spool)
        preset = recognise(export.facts.columns)
        if preset is not None:
            return list(preset.feeds)
        found = {}
        for name in CURRENT_TYPES:
            try:
                matching = match_columns(export.facts, [EVENT_TYPES[name]], job.said)
            except JobError:
                continue
            found[name] = len(matching.fields)
        return sorted(found, key=lambda name: -found[name])
