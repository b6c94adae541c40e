"""Gathered rows -> the rows of each event type, without those that a rule leaves out. Pure.

Rules look at whole events: an order's follow-up rows have inherited the cells that decide.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import polars as pl

from rd_import.mapping_file import Filter
from rd_import.matching import Matching
from rd_import.names import folded
from rd_import.values import EVENT, FILTER, KEY, LOOKUP, PROBLEM_SCHEMA, ROW, TYPE, RowGroup
from rdstation_events.event_type import EventType

SUPPRESSED: Final = "--suppress"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows by event type, under the schema's names, and why others are none; `problems` has `PROBLEM_SCHEMA`."""

    rows: tuple[tuple[EventType, RowGroup], ...]
    problems: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Choice:
    """What leaves rows out, and what tells their type.

    Args:
        event_types: The types of the run.
        matchings: How each file's columns became fields; alike in what they name.
        keep: `first` or `last` row of each event, where only one counts.
        suppressed: E-mails in lower case that get nothing.
        taken: For each second file, the fields that it feeds, and its name.
    """

    event_types: tuple[EventType, ...]
    matchings: tuple[Matching, ...]
    keep: str | None = None
    suppressed: Collection[str] = frozenset()
    taken: Sequence[tuple[tuple[str, ...], str]] = field(default_factory=tuple)


def choose(group: RowGroup, choice: Choice) -> Chosen:
    """Leave out what rules name, and part the rest by event type.

    Args:
        group: Whole events, text cells, as `gather` gives them.
        choice: The rules.
    """
    table = group.table
    problems = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    for rule, hits in _left_out(choice):
        hit = hits(table)
        problems.append(_problem(table.filter(hit), "FILTERED", None, None, rule))
        table = table.filter(~hit)
    if TYPE in table.columns:
        table, found = _typed(table, choice.matchings[0])
        problems += found
    parts = []
    for event_type in choice.event_types:
        here = table.filter(pl.col(TYPE) == event_type.name) if TYPE in table.columns else table
        rows = _view(here, event_type, choice)
        problems += _not_looked_up(here, rows, event_type, choice)
        parts.append((event_type, RowGroup(rows)))
    return Chosen(tuple(parts), pl.concat(problems))


def _left_out(choice: Choice) -> Iterator[tuple[str, Callable[[pl.DataFrame], pl.Series]]]:
    """Give each rule with what tells its rows; a rule sees what the ones before it left."""
    for place, rule in enumerate(choice.matchings[0].filters):
        yield rule.name, partial(_filtered, rule=rule, name=f"{FILTER} {place}")
    if choice.keep is not None:
        yield f"group.keep = {choice.keep}", partial(_not_kept, last=choice.keep == "last")
    if choice.suppressed:
        yield SUPPRESSED, partial(_suppressed, choice=choice)


def _filtered(table: pl.DataFrame, *, rule: Filter, name: str) -> pl.Series:
    return _hit(table[name], rule)


def _not_kept(table: pl.DataFrame, *, last: bool) -> pl.Series:
    number = pl.col(ROW).rank("ordinal", descending=last).over(EVENT)
    return table.select(number > 1).to_series()


def _hit(cells: pl.Series, rule: Filter) -> pl.Series:
    keep, drop = ({folded(word) for word in words} for words in (rule.keep, rule.drop))
    words = {one: folded(one or "") for one in cells.unique().to_list()}
    goes = {one: (bool(keep) and word not in keep) or word in drop for one, word in words.items()}
    empty = goes.pop(None, False)
    if not goes:
        return pl.Series([empty]).new_from_index(0, cells.len())
    found = cells.replace_strict(
        list(goes), list(goes.values()), default=empty, return_dtype=pl.Boolean
    )
    return found.fill_null(value=empty)


def _suppressed(table: pl.DataFrame, *, choice: Choice) -> pl.Series:
    columns = dict.fromkeys(
        one.column
        for matching in choice.matchings
        for of_type in matching.fed.values()
        for one in of_type
        if one.field == "email"
    )
    known = list(choice.suppressed)
    return table.select(
        pl.any_horizontal(
            pl.col(name).str.to_lowercase().is_in(known).fill_null(value=False) for name in columns
        )
    ).to_series()


def _typed(table: pl.DataFrame, matching: Matching) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Set aside rows of no known type, and those whose event's first row is of another."""
    type_by = matching.type_by
    assert type_by is not None
    unknown = table.select(pl.col(TYPE).is_null() | pl.col(TYPE).str.starts_with("?")).to_series()
    cells = pl.col(TYPE).str.strip_prefix("?")
    problems = []
    if type_by.skip_others:
        rule = pl.concat_str(pl.lit(f"type_by: {type_by.column} = "), cells.fill_null("(empty)"))
        problems.append(
            table.filter(unknown).select(
                pl.col(ROW),
                pl.lit("FILTERED").alias("code"),
                pl.lit(None, dtype=pl.String).alias("field"),
                pl.lit(None, dtype=pl.String).alias("value"),
                rule.alias("limit"),
                pl.lit(value=True).alias("fatal"),
            )
        )
    else:
        named = ", ".join(type_by.values or {})
        problems.append(
            _problem(table.filter(unknown), "NO_EVENT_TYPE", type_by.column, cells, named)
        )
    table = table.filter(~unknown)
    other = table.select(pl.col(TYPE) != pl.col(TYPE).first().over(EVENT)).to_series()
    torn = table.filter(other)[EVENT].unique()
    if torn.len():
        mixed = table.select(pl.col(EVENT).is_in(torn.implode())).to_series()
        first = pl.col(ROW).first().over(EVENT).cast(pl.String)
        problems.append(
            table.filter(mixed).select(
                pl.col(ROW),
                pl.lit("CONFLICTING_ROWS").alias("code"),
                pl.lit(type_by.column).alias("field"),
                pl.col(TYPE).alias("value"),
                first.alias("limit"),
                pl.lit(value=True).alias("fatal"),
            )
        )
        table = table.filter(~mixed)
    return table, problems


def _view(table: pl.DataFrame, event_type: EventType, choice: Choice) -> pl.DataFrame:
    """Give the columns of one type under the names of its fields."""
    columns: dict[str, str] = {}
    for matching in choice.matchings:
        columns |= matching.view(event_type.name)
    ours = [n for n in table.columns if n in {ROW, EVENT} or n.startswith(KEY)]
    return table.select(
        *ours,
        *(
            pl.col(column).alias(name)
            for name, column in columns.items()
            if column in table.columns
        ),
    )


def _not_looked_up(
    table: pl.DataFrame, rows: pl.DataFrame, event_type: EventType, choice: Choice
) -> Iterator[pl.DataFrame]:
    """Say which rows a second file has nothing for, or several: fatal where the event needs what is lacking."""
    for place, (fields, name) in enumerate(choice.taken):
        column = f"{LOOKUP} {place}"
        here = [one for one in fields if one in rows.columns]
        if column not in table.columns or not here:
            continue
        needed = [
            one
            for one in here
            if (spec := event_type.field(one)) and (spec.required or spec.identity)
        ]
        chosen = (needed or here)[0]
        lacking = table[column].is_not_null() & rows[chosen].is_null()
        found = table.filter(lacking)
        code = (
            pl.when(pl.col(column).str.starts_with("0"))
            .then(pl.lit("NOT_LOOKED_UP"))
            .otherwise(pl.lit("LOOKED_UP_TWICE"))
        )
        yield found.select(
            pl.col(ROW),
            code.alias("code"),
            pl.lit(chosen).alias("field"),
            pl.col(column).str.slice(1, 80).alias("value"),
            pl.lit(name).alias("limit"),
            pl.lit(value=bool(needed)).alias("fatal"),
        )


def _problem(
    table: pl.DataFrame, code: str, name: str | None, value: pl.Expr | None, limit: str
) -> pl.DataFrame:
    return table.select(
        pl.col(ROW),
        pl.lit(code).alias("code"),
        pl.lit(name, dtype=pl.String).alias("field"),
        (value if value is not None else pl.lit(None, dtype=pl.String)).alias("value"),
        pl.lit(limit).alias("limit"),
        pl.lit(value=True).alias("fatal"),
    )
