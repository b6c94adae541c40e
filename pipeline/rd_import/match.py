"""Source columns -> the schema's columns, as a matching says. Pure."""

from collections.abc import Sequence

import polars as pl

from rd_import.mapping_file import TypeBy
from rd_import.matching import Matching
from rd_import.names import folded
from rd_import.rules import ITEM_CELL, is_plain, one_line_per_item, replaced, texts, trimmed
from rd_import.values import FILTER, GROUP, KEY, ROW, TYPE, RowGroup


def match(group: RowGroup, matching: Matching) -> RowGroup:
    """Give rows under the schema's names; cells are trimmed, empty ones null.

    Several items in one row (a list of structs such as `items.sku`, a JSON list, numbered columns) become one line
    per item, `#row` repeated.
    """
    fed = {one.column: one for of_type in matching.fed.values() for one in of_type}
    table = one_line_per_item(group.table, {column: one.rule for column, one in fed.items()})
    plain = [pl.col(ROW)]
    made: list[pl.Series] = []
    for column, one in fed.items():
        place = f"{ITEM_CELL}{column}"
        if place in table.columns:
            plain.append(pl.col(place).alias(column))
        elif is_plain(one.rule):
            plain.append(trimmed(str(one.rule.column)).alias(column))
        else:
            made.append(texts(table, one.rule).alias(column))
    plain += [
        pl.col(column).str.strip_chars().replace("", None).alias(f"{KEY} {place}")
        for place, column in enumerate(matching.key)
    ]
    plain += [pl.col(name) for name in table.columns if name.startswith("#lookup")]
    plain += [
        trimmed(one.column).alias(f"{FILTER} {place}") for place, one in enumerate(matching.filters)
    ]
    if matching.type_by is not None:
        made.append(_types(table, matching.type_by))
    if matching.group_by:
        made.append(_joined(table, matching.group_by))
    return RowGroup(table.select(plain).with_columns(made))


def _types(table: pl.DataFrame, type_by: TypeBy) -> pl.Series:
    """Give each row's event type; `?` and the cell where the mapping names none, null where the cell is empty."""
    words = {folded(word): event_type for word, event_type in (type_by.values or {}).items()}
    cells = table.select(trimmed(type_by.column).alias(TYPE))[TYPE]
    parts: dict[str, str | None] = {
        one: words.get(folded(one), f"?{one}")
        for one in cells.unique().to_list()
        if one is not None
    }
    return replaced(cells, parts)


def _joined(table: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Give the text that is equal for rows of one event; none where all its columns are empty."""
    if len(columns) == 1:
        return table.select(trimmed(columns[0]).alias(GROUP))[GROUP]
    parts = pl.concat_list(trimmed(one) for one in columns)
    text = pl.struct(parts.alias("v")).struct.json_encode()
    filled = pl.any_horizontal(trimmed(one).is_not_null() for one in columns)
    return table.select(pl.when(filled).then(text).alias(GROUP))[GROUP]
