"""What a rule of a mapping makes of rows: the text of a field, and one line per item. Pure."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import polars as pl

from rd_import.errors import JobError
from rd_import.mapping_file import NUMBERED, Rule
from rd_import.names import folded
from rd_import.nesting import read_json

ITEM: Final = "line_items."
ARRAY: Final = "[]"
REPEATED: Final = f" ({NUMBERED})"
"""What stands behind the name of a column that the header repeats, from the second on."""
ITEM_CELL: Final = "#item "
"""Cells of items that were taken apart stand under this mark and the column's name until `match` names them."""


def with_parts(rule: Rule, exchanged: Callable[[Rule], Rule | None]) -> Rule | None:
    """Exchange the parts of a rule; those for which there is nothing are left out, and with all of them the rule."""
    first_of = tuple(new for one in rule.first_of if (new := exchanged(one)) is not None)
    join = tuple(new for one in rule.join if (new := exchanged(one)) is not None)
    if (rule.first_of and not first_of) or (rule.join and not join):
        return None
    return replace(rule, first_of=first_of, join=join)


def columns_of(rule: Rule, columns: Sequence[str]) -> Iterator[str]:
    """Name the file's columns that a rule reads, the numbered ones one by one."""
    for name in rule.columns:
        if NUMBERED in name:
            yield from (column_of(name, n) for n in numbers_of(name, columns))
        else:
            yield name


def numbers_of(template: str, columns: Sequence[str]) -> list[int]:
    """Give the numbers for which a file has a column such as `Product Item {n} SKU`."""
    before, _, after = template.partition(NUMBERED)
    pattern = re.compile(re.escape(before) + r"([0-9]{1,3})" + re.escape(after))
    numbers = {int(found[1]) for one in columns if (found := pattern.fullmatch(one))}
    if template.endswith(REPEATED) and column_of(template, 1) in columns:
        numbers.add(1)
    return sorted(numbers)


def column_of(template: str, number: int) -> str:
    """Name the column of a number; where a header repeats a name, the first bears it alone."""
    if number == 1 and template.endswith(REPEATED):
        return template.removesuffix(REPEATED)
    return template.replace(NUMBERED, str(number))


def is_plain(rule: Rule) -> bool:
    """Tell whether a rule takes a column's text as it is."""
    return rule == Rule(
        column=rule.column, scale=rule.scale, per=rule.per, sum=rule.sum, duration=rule.duration
    )


def trimmed(column: str) -> pl.Expr:
    """Take blanks and tabs off the ends of a cell; other marks are its own. A cell of nothing else is empty."""
    return _bare(pl.col(column))


def _bare(cell: pl.Expr) -> pl.Expr:
    return pl.when(cell.str.strip_chars() != "").then(cell.str.strip_chars(" \t\r\n"))


def texts(table: pl.DataFrame, rule: Rule) -> pl.Series:
    """Give the text that a rule makes of each row: the origin, then each step in the order of `Rule`.

    Args:
        table: Rows under the file's own names.
        rule: With the file's own names.
    """
    cells = _origin(table, rule)
    steps = pl.col(cells.name)
    if rule.strip_prefix is not None:
        steps = steps.str.strip_prefix(rule.strip_prefix)
    if rule.extract is not None:
        steps = steps.str.extract(rule.extract, 1)
    cells = cells.to_frame().select(_bare(steps).alias("text"))["text"]
    if rule.split is not None:
        cells = _split(cells, rule)
    elif rule.values:
        cells = _translated(cells, rule)
    cells = cells.fill_null(rule.default) if rule.default is not None else cells
    return _where(table, cells, rule.when) if rule.when else cells


def _where(table: pl.DataFrame, cells: pl.Series, when: Mapping[str, str]) -> pl.Series:
    """Empty the cells of rows that do not have these words, case and accents aside."""
    for column, word in when.items():
        there = table.select(trimmed(column).alias("text"))["text"]
        same = [
            one
            for one in there.unique().to_list()
            if one is not None and folded(one) == folded(word)
        ]
        cells = pl.DataFrame([cells.alias("cell"), there]).select(
            pl.when(pl.col("text").is_in(same)).then("cell").alias("text")
        )["text"]
    return cells


def _origin(table: pl.DataFrame, rule: Rule) -> pl.Series:
    if rule.value is not None:
        return pl.Series("text", [rule.value]).new_from_index(0, table.height)
    if rule.first_of:
        inner = [texts(table, one).alias(str(n)) for n, one in enumerate(rule.first_of)]
        return pl.DataFrame(inner).select(pl.coalesce(pl.all()).alias("text"))["text"]
    if rule.join:
        inner = [texts(table, one).alias(str(n)) for n, one in enumerate(rule.join)]
        joined = pl.concat_str(pl.all(), separator=rule.between, ignore_nulls=True)
        return pl.DataFrame(inner).select(_bare(joined).alias("text"))["text"]
    cells = table.select(trimmed(str(rule.column)).alias("text"))["text"]
    if rule.path is None:
        return cells
    parts = {one: _text_at(one, rule.path) for one in cells.unique().to_list() if one is not None}
    return replaced(cells, parts)


def replaced(cells: pl.Series, parts: Mapping[str, str | None]) -> pl.Series:
    """Exchange texts for others."""
    if not parts:
        return cells
    return cells.replace_strict(
        list(parts), list(parts.values()), default=None, return_dtype=pl.String
    )


def _translated(cells: pl.Series, rule: Rule) -> pl.Series:
    words = {folded(word): to for word, to in rule.values.items()}
    parts = {
        one: _word(one, words, rule.other) for one in cells.unique().to_list() if one is not None
    }
    return replaced(cells, parts)


def _word(text: str, words: Mapping[str, str], other: str | None) -> str:
    return words.get(folded(text), text if other is None else other)


def _split(cells: pl.Series, rule: Rule) -> pl.Series:
    """Write a list as `cells` reads it: a JSON array, each text translated."""
    words = {folded(word): to for word, to in rule.values.items()}
    parts = {}
    for one in cells.unique().to_list():
        if one is not None:
            found = [part.strip().strip('"').strip() for part in one.split(str(rule.split))]
            kept = [_word(part, words, rule.other) for part in found if part]
            parts[one] = json.dumps(kept, ensure_ascii=False) if kept else None
    return replaced(cells, parts)


# --- several items in one row ---------------------------------------------------------------------


def one_line_per_item(table: pl.DataFrame, fed: Mapping[str, Rule]) -> pl.DataFrame:
    """Spread what holds several items: nested columns, JSON lists, numbered columns.

    Args:
        table: Rows under the file's own names.
        fed: Column after `match` → rule.

    Returns:
        One line per item; cells that were taken apart stand under `ITEM_CELL` and the column's name.

    Raises:
        JobError: The items are to come from two places.
    """
    columns = [name for rule in fed.values() for name in rule.columns]
    for name in _lists_of_structs(table, columns):
        parts = table.schema[name]
        assert isinstance(parts, pl.List)
        assert isinstance(parts.inner, pl.Struct)
        # An empty list is a row without items, not no row.
        table = table.explode(name, empty_as_null=True, keep_nulls=True).with_columns(
            pl.col(name).struct.field(part.name).alias(f"{name}.{part.name}")
            for part in parts.inner.fields
        )
    items = {column: rule for column, rule in fed.items() if column.startswith(ITEM)}
    table = _json_items(table, {c: r for c, r in items.items() if r.path is not None})
    numbered = {c: r for c, r in items.items() if any(NUMBERED in one for one in r.columns)}
    return _numbered_items(table, items, numbered) if numbered else table


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


def _json_items(table: pl.DataFrame, rules: Mapping[str, Rule]) -> pl.DataFrame:
    """Take a JSON list apart: one line per element; a JSON object is a list of one."""
    if not rules:
        return table
    sources = {str(rule.column) for rule in rules.values()}
    if len(sources) > 1:
        raise JobError("several_lists", columns=sorted(sources))
    cells = table.select(trimmed(sources.pop()).alias("text"))["text"]
    paths = {column: str(rule.path) for column, rule in rules.items()}
    read = {
        one: [
            {column: _text_of(_at(element, rest)) for column, rest in _rests(paths).items()}
            for element in _elements(_json(one), next(iter(paths.values())))
        ]
        for one in cells.unique().to_list()
        if one is not None
    }
    part = pl.Struct(dict.fromkeys(paths, pl.String))
    lists = pl.Series(
        "#items", [read.get(one) if one else None for one in cells], dtype=pl.List(part)
    )
    spread = table.with_columns(lists).explode("#items", empty_as_null=True, keep_nulls=True)
    found = [
        texts(
            spread.with_columns(pl.col("#items").struct.field(column).alias("#part")),
            replace(rule, column="#part", path=None),
        ).alias(f"{ITEM_CELL}{column}")
        for column, rule in rules.items()
    ]
    return spread.drop("#items").with_columns(found)


def _rests(paths: Mapping[str, str]) -> dict[str, str]:
    """Give each path from the list's elements on."""
    return {
        column: path.partition(ARRAY)[2].lstrip(".") if ARRAY in path else path
        for column, path in paths.items()
    }


def _elements(found: Any, path: str) -> list[Any]:
    """Give the items of a JSON value: the list at the path, or the value itself."""
    if ARRAY in path:
        found = _at(found, path.partition(ARRAY)[0])
    if isinstance(found, list):
        return found
    return [] if found is None else [found]


def _at(found: Any, path: str) -> Any:
    """Follow a path of names and list positions; None where it leads nowhere."""
    for name in filter(None, path.split(".")):
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found.get(name)
        else:
            return None
    return found


def _text_at(cell: str, path: str) -> str | None:
    """Give a part of a JSON cell as text."""
    if ARRAY in path:
        before, _, after = path.partition(ARRAY)
        inner = [
            _text_of(_at(one, after.lstrip("."))) for one in _elements(_at(_json(cell), before), "")
        ]
        return json.dumps([one for one in inner if one], ensure_ascii=False) if any(inner) else None
    return _text_of(_at(_json(cell), path))


def _json(cell: str) -> Any:
    try:
        found = read_json(cell, parse_float=str, parse_int=str)
        json.dumps(found, ensure_ascii=False).encode()  # half a character is none
    except ValueError:
        return None
    return found


def _text_of(found: Any) -> str | None:
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, bool):
        return "true" if found else "false"
    return json.dumps(found, ensure_ascii=False)


def _numbered_items(
    table: pl.DataFrame, items: Mapping[str, Rule], numbered: Mapping[str, Rule]
) -> pl.DataFrame:
    """Give one line per number for which the row has a filled column; a row without items stays one line."""
    numbers = sorted(
        {
            n
            for rule in numbered.values()
            for name in rule.columns
            for n in numbers_of(name, table.columns)
        }
    )
    here = pl.int_range(table.height, dtype=pl.UInt32, eager=True).alias("#line")
    lines = []
    for number in numbers:
        cells = [
            texts(table, known).alias(f"{ITEM_CELL}{column}")
            for column, rule in numbered.items()
            if (known := _of_number(rule, number, table.columns)) is not None
        ]
        lines.append(pl.DataFrame([here, *cells]).with_columns(pl.lit(number).alias("#n")))
    found = pl.concat(lines, how="diagonal")
    filled = pl.any_horizontal(
        pl.col(name).is_not_null() for name in found.columns if name.startswith(ITEM_CELL)
    )
    spread = table.with_columns(here).join(
        found.filter(filled).sort("#line", "#n", maintain_order=True),
        on="#line",
        how="left",
        maintain_order="left_right",
    )
    others = {column: rule for column, rule in items.items() if column not in numbered}
    is_item = pl.col("#n").is_not_null()
    constant = [
        pl.when(is_item).then(pl.lit(rule.value)).alias(f"{ITEM_CELL}{column}")
        for column, rule in others.items()
        if rule.is_constant
    ]
    return spread.with_columns(constant)


def _of_number(rule: Rule, number: int, columns: Sequence[str]) -> Rule | None:
    """Give the rule for one number; None where the file has no such column."""
    if rule.column is not None:
        name = column_of(rule.column, number)
        return replace(rule, column=name) if name in columns else None
    return with_parts(rule, lambda one: _of_number(one, number, columns))
