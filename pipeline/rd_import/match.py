"""Source columns -> the schema's columns. Pure: what the header says is decided once, then applied to each group."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from rd_import.errors import JobError
from rd_import.values import KEY, ROW, ExportFacts, RowGroup
from rdstation_events.event_type import CUSTOM_FIELD, EventType

LEGAL_BASES_CELL = "legal_bases"
"""A column that holds all legal bases of a row as JSON, as the API writes them."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How one file's columns become fields.

    Args:
        fields: Field → column of the file, in the schema's order; custom fields last.
        constants: Field → the value of every row.
        unmatched: Columns that feed no field.
        derivable: Required fields that no column feeds but that `cells` derives.
        key: Columns that make an event unique in place of the type's identity; they need not be sent.
    """

    fields: Mapping[str, str]
    constants: Mapping[str, str]
    unmatched: tuple[str, ...]
    derivable: tuple[str, ...]
    key: tuple[str, ...] = ()


DERIVED: Mapping[str, tuple[str, ...]] = {
    "total_items": ("line_items.quantity",),
    "line_items.product_id": ("line_items.sku", "line_items.product_title"),
}
"""Field → the fields that it can be derived from, the first that is there. Nothing else is derived."""


def match_columns(
    facts: ExportFacts,
    event_type: EventType,
    *,
    renames: Mapping[str, str],
    constants: Mapping[str, str],
    key: Sequence[str] = (),
) -> Matching:
    """Decide which column feeds which field: what the user says, then columns that bear a field's own name.

    Raises:
        JobError: A rename or constant names a field or column that does not exist, or a required field has no source.
    """
    for name in (*renames, *constants):
        _check_field(name, event_type)
    for name, column in renames.items():
        if column not in facts.columns:
            raise JobError(
                "no_such_column",
                path=facts.path,
                column=column,
                field=name,
                columns=_listed(facts.columns),
            )
    for column in key:
        if column not in facts.columns:
            raise JobError(
                "no_such_key", path=facts.path, column=column, columns=_listed(facts.columns)
            )
    known = [spec.column for spec in event_type.fields]
    if event_type.legal_base_categories:
        known.append(LEGAL_BASES_CELL)
    if event_type.takes_custom_fields:
        known += [c for c in (*facts.columns, *renames) if _is_custom(c) and c not in known]
    _refuse_unsendable_legal_bases(facts, event_type, renames)
    fields = {
        name: renames.get(name, name)
        for name in known
        if name not in constants and (name in renames or name in facts.columns)
    }
    given = {*fields, *constants}
    derivable = tuple(
        name
        for name, sources in DERIVED.items()
        if name not in given and given.intersection(sources)
    )
    missing = [
        spec.column
        for spec in event_type.fields
        if spec.required and spec.column not in given and spec.column not in derivable
    ]
    if missing:
        raise JobError(
            "missing_columns",
            path=facts.path,
            event_type=event_type.name,
            missing=missing,
            columns=facts.columns,
            close={name: _closest(name, facts.columns) for name in missing},
        )
    used = {*fields.values(), *key}
    unmatched = tuple(column for column in facts.columns if column not in used)
    return Matching(fields, dict(constants), unmatched, derivable, tuple(key))


def match(group: RowGroup, matching: Matching) -> RowGroup:
    """Give rows under the schema's names; cells are trimmed, empty ones null.

    A list of structs (`items.sku`) becomes one line per item, `#row` repeated.
    """
    table = group.table
    for name in _lists_of_structs(table, list(matching.fields.values())):
        parts = table.schema[name]
        assert isinstance(parts, pl.List)
        assert isinstance(parts.inner, pl.Struct)
        # An empty list is a row without items, not no row.
        table = table.explode(name, empty_as_null=True, keep_nulls=True).with_columns(
            pl.col(name).struct.field(part.name).alias(f"{name}.{part.name}")
            for part in parts.inner.fields
        )
    columns = [pl.col(ROW)]
    columns += [_trimmed(column).alias(name) for name, column in matching.fields.items()]
    columns += [pl.lit(value).alias(name) for name, value in matching.constants.items()]
    columns += [
        pl.col(column).str.strip_chars().replace("", None).alias(f"{KEY} {place}")
        for place, column in enumerate(matching.key)
    ]
    return RowGroup(table.select(columns))


def _trimmed(column: str) -> pl.Expr:
    """Take blanks and tabs off the ends of a cell; other marks are its own. A cell of nothing else is empty."""
    cell = pl.col(column)
    return pl.when(cell.str.strip_chars() != "").then(cell.str.strip_chars(" \t\r\n"))


def _lists_of_structs(table: pl.DataFrame, wanted: Sequence[str]) -> list[str]:
    """Name the list-of-struct columns that the mapping takes parts of."""
    found = [
        name
        for name, dtype in table.schema.items()
        if isinstance(dtype, pl.List)
        and isinstance(dtype.inner, pl.Struct)
        and any(column.startswith(f"{name}.") for column in wanted)
    ]
    if len(found) > 1:
        raise JobError("several_lists", columns=found)
    return found


def _is_custom(name: str) -> bool:
    return re.fullmatch(CUSTOM_FIELD, name) is not None


def _check_field(name: str, event_type: EventType) -> None:
    if event_type.field(name) is not None or (event_type.takes_custom_fields and _is_custom(name)):
        return
    if name == LEGAL_BASES_CELL and event_type.legal_base_categories:
        return
    if name.startswith("legal_bases."):
        raise JobError("legal_base_not_taken", field=name, event_type=event_type.name)
    fields = [spec.column for spec in event_type.fields]
    raise JobError(
        "no_such_field",
        field=name,
        event_type=event_type.name,
        close=_closest(name, fields),
        fields=fields,
    )


def _refuse_unsendable_legal_bases(
    facts: ExportFacts, event_type: EventType, renames: Mapping[str, str]
) -> None:
    """Refuse a legal basis of a category that the type does not take: consent is not left out in silence."""
    if not event_type.legal_base_categories:
        return
    for column in facts.columns:
        if (
            column.startswith("legal_bases.")
            and event_type.field(column) is None
            and column not in renames.values()
        ):
            raise JobError("legal_base_not_taken", field=column, event_type=event_type.name)


def _closest(name: str, candidates: Sequence[str]) -> str | None:
    """Suggest a column only where its name says so: spelled alike, or the last word of the field's."""
    by_folded = {c.casefold().replace(" ", "_"): c for c in candidates}
    wanted = name.rpartition(".")[2].casefold()
    near = difflib.get_close_matches(wanted, by_folded, n=1, cutoff=0.85)
    last_word = next((folded for folded in by_folded if wanted.endswith(f"_{folded}")), None)
    return by_folded[near[0]] if near else by_folded[last_word] if last_word else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
