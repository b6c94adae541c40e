"""Second files: what an export lacks, joined to its rows. Pure once a table is read.

A key is compared without case and surrounding blanks; columns of phones as phones, so that `(11) 98888-7777` finds
`+5511988887777`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

import polars as pl

from rd_import.cells import phones
from rd_import.claims import certain_names
from rd_import.errors import JobError
from rd_import.mapping_file import Lookup
from rd_import.matching import LookedUp
from rd_import.names import Names
from rd_import.values import LOOKUP, ExportFacts
from rdstation_events.event_type import EventType

PHONE_LIKE: Final = r"^\+?[0-9 ().-]{8,20}$"
MOSTLY: Final = 0.8
BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A second file, ready to be joined.

    Args:
        name: The file's own name.
        ours: Columns of the export that are looked up.
        as_phones: Which of them are compared as phones.
        adds: What it adds to each row.
        lines: One line per key: `key`, the columns of `adds`, and `several` where the file disagrees with itself.
    """

    name: str
    ours: tuple[str, ...]
    as_phones: tuple[bool, ...]
    adds: tuple[LookedUp, ...]
    lines: pl.DataFrame


def lookup_table(
    lookup: Lookup,
    table: pl.DataFrame,
    facts: ExportFacts,
    event_types: Sequence[EventType],
    place: int,
) -> LookupTable:
    """Make a second file ready for one export.

    Args:
        lookup: What the user says about it.
        table: Its rows, text under its own names.
        facts: The export.
        event_types: Whose fields it may feed, where the user does not say.
        place: Its number among the second files.

    Raises:
        JobError: A column is not there, or nothing tells which columns belong together.
    """
    theirs, ours = Names(table.columns), Names(facts.columns)
    pairs = _pairs(lookup, theirs, ours, facts, event_types)
    take = _take(lookup, theirs, [one for one, _ in pairs], event_types)
    as_phones = tuple(_is_phone(table[one]) for one, _ in pairs)
    name = PurePath(lookup.file).name
    adds = tuple(
        LookedUp(field, f"#take {place} {field}", f"{column} ({name})", bool(lookup.take))
        for field, column in take.items()
    )
    taken = [pl.col(column).alias(f"#take {place} {field}") for field, column in take.items()]
    key = _key(table, [one for one, _ in pairs], as_phones)
    lines = table.with_columns(key.alias("key")).filter(pl.col("key").is_not_null())
    lines = lines.select("key", *(_filled(one) for one in taken)).unique(maintain_order=True)
    lines = lines.group_by("key", maintain_order=True).agg(
        pl.exclude("key").first(), (pl.len() > 1).alias("several")
    )
    return LookupTable(name, tuple(one for _, one in pairs), as_phones, adds, lines)


def look_up(table: pl.DataFrame, lookups: Sequence[LookupTable]) -> pl.DataFrame:
    """Add what second files hold to the rows of an export; `#lookup` says where that is nothing, or several."""
    for place, one in enumerate(lookups):
        key = _key(table, one.ours, one.as_phones)
        names = [added.column for added in one.adds]
        joined = table.with_columns(key.alias("#key of lookup")).join(
            one.lines.rename({"key": "#key of lookup"}),
            on="#key of lookup",
            how="left",
            maintain_order="left",
        )
        asked = pl.col("#key of lookup")
        shown = asked.str.replace_all(BETWEEN, ", ", literal=True)
        several = pl.col("several")
        why = (
            pl.when(asked.is_null() | (several == False))  # noqa: E712 -- an expression
            .then(None)
            .when(several.is_null())
            .then(pl.lit("0") + shown)
            .otherwise(pl.lit("2") + shown)
        )
        table = joined.with_columns(
            why.alias(f"{LOOKUP} {place}"),
            *(pl.when(~several).then(pl.col(n)).alias(n) for n in names),
        ).drop("#key of lookup", "several")
    return table


def _pairs(
    lookup: Lookup,
    theirs: Names,
    ours: Names,
    facts: ExportFacts,
    event_types: Sequence[EventType],
) -> list[tuple[str, str]]:
    if lookup.match:
        return [
            (_column(theirs, one, lookup.file), _column(ours, other, facts.path))
            for one, other in lookup.match.items()
        ]
    found = [(one, other) for one in theirs.columns if (other := ours.find(one)) is not None]
    if not found:
        raise JobError(
            "no_common_column",
            path=lookup.file,
            columns=", ".join(theirs.columns),
            export=facts.path,
        )
    feeding = {one for each in event_types for one in certain_names(theirs.columns, each).values()}
    ids = [(one, other) for one, other in found if one not in feeding]
    return ids or found


def _take(
    lookup: Lookup, theirs: Names, keys: Sequence[str], event_types: Sequence[EventType]
) -> dict[str, str]:
    if lookup.take:
        return {field: _column(theirs, one, lookup.file) for field, one in lookup.take.items()}
    free = [one for one in theirs.columns if one not in keys]
    return {
        field: column
        for event_type in event_types
        for field, column in certain_names(free, event_type).items()
    }


def _column(names: Names, name: str, path: str) -> str:
    found = names.find(name)
    if found is None:
        raise JobError(
            "no_such_key",
            path=path,
            column=name,
            columns=", ".join(f"`{n}`" for n in names.columns),
        )
    return found


def _is_phone(cells: pl.Series) -> bool:
    filled = cells.drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    return bool(filled.len()) and filled.str.contains(PHONE_LIKE).sum() >= MOSTLY * filled.len()


def _filled(cell: pl.Expr) -> pl.Expr:
    return pl.when(cell.str.contains(r"\S")).then(cell.str.strip_chars())


def _key(table: pl.DataFrame, columns: Sequence[str], as_phones: Sequence[bool]) -> pl.Series:
    """Write what is compared as one text; null where a part is empty."""
    parts = []
    for number, (column, is_phone) in enumerate(zip(columns, as_phones, strict=True)):
        cells = table.select(_filled(pl.col(column)).alias(str(number)))[str(number)]
        parts.append(phones(cells, keep_unknown=True) if is_phone else cells.str.to_lowercase())
    joined = pl.concat_str(pl.all(), separator=BETWEEN, ignore_nulls=False)
    return pl.DataFrame(parts).select(joined.alias("key"))["key"]
