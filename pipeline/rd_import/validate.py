"""pandera runs here, and only here: typed rows -> the rows of good events, and a problem per broken rule."""

from collections.abc import Iterator
from functools import cache

import polars as pl
from pandera.errors import SchemaError, SchemaErrors
from pandera.polars import DataFrameSchema

from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW, RowGroup, Sifted
from rdstation_events.checks import failure_code
from rdstation_events.event_type import EventType


def validate(typed: Sifted[RowGroup], event_type: EventType) -> Sifted[RowGroup]:
    """Check typed rows by their event type's schema, all rules at once.

    Args:
        typed: Whole events with typed cells, and the problems found in typing them.
        event_type: Whose schema holds.

    Returns:
        The rows of events without a fatal problem, and all problems, those of typing included. A cell that could
        not be typed is not reported a second time as missing.
    """
    table = typed.kept.table
    problems = pl.concat([typed.problems, *_failures(table, typed.problems, event_type)])
    return sift(table, problems)


def sift(table: pl.DataFrame, problems: pl.DataFrame) -> Sifted[RowGroup]:
    """Keep the rows of events of which no row has a fatal problem: an event goes whole or not at all."""
    bad_rows = problems.filter(pl.col("fatal"))[ROW].unique()
    if bad_rows.is_empty():
        return Sifted(RowGroup(table), problems)
    bad_events = table.filter(pl.col(ROW).is_in(bad_rows.implode()))[EVENT].unique()
    return Sifted(RowGroup(table.filter(~pl.col(EVENT).is_in(bad_events.implode()))), problems)


def _failures(
    table: pl.DataFrame, known: pl.DataFrame, event_type: EventType
) -> Iterator[pl.DataFrame]:
    schema, whole = _schemas(event_type, tuple(table.schema.items()))
    if whole is not None:
        try:
            whole.validate(table)
        except SchemaError:
            pass
        else:
            return
    absent = [name for name in schema.columns if name not in table.columns]
    checked = table.with_columns(
        pl.lit(None, dtype=schema.columns[name].dtype.type).alias(name) for name in absent
    )
    try:
        schema.validate(checked, lazy=True)
    except SchemaErrors as errors:
        yield _problems(errors.failure_cases, table, known, event_type)


@cache
def _schemas(
    event_type: EventType, columns: tuple[tuple[str, pl.DataType], ...]
) -> tuple[DataFrameSchema, DataFrameSchema | None]:
    """Keep the schemas of a file's columns: making them takes longer than validating a small group.

    The first names each bad cell. The second, where there is one, tells of most groups in less time that there is none.
    """
    names = [name for name, _ in columns]
    return event_type.polars_schema(names), event_type.whole_rows_schema(dict(columns))


def _problems(
    cases: pl.DataFrame, table: pl.DataFrame, known: pl.DataFrame, event_type: EventType
) -> pl.DataFrame:
    unplaced = cases.filter(pl.col("index").is_null())
    if unplaced.height:
        raise TypeError(
            f"a schema failure without a row: {unplaced.to_dicts()}"
        )  # our mistake, never the file's
    codes = {check: failure_code(check) for check in cases["check"].unique().to_list()}
    limits = {
        (check, column): _limit(codes[check], column, event_type)
        for check, column in cases.select("check", "column").unique().iter_rows()
    }
    found = pl.DataFrame(
        {
            ROW: table[ROW].gather(cases["index"].cast(pl.UInt32)),
            "code": cases["check"].replace_strict(codes, return_dtype=pl.String),
            "field": cases["column"],
            "value": pl.select(
                pl.when(cases["failure_case"] != "null").then(cases["failure_case"].str.head(80))
            ).to_series(),
            "limit": pl.Series(
                [limits[pair] for pair in zip(cases["check"], cases["column"], strict=True)],
                dtype=pl.String,
            ),
            "fatal": pl.repeat(value=True, n=cases.height, eager=True),
        }
    ).cast(PROBLEM_SCHEMA)
    return found.join(known.select(ROW, "field"), on=[ROW, "field"], how="anti").unique(
        maintain_order=True
    )


def _limit(code: str, column: str, event_type: EventType) -> str | None:
    spec = event_type.field(column)
    if spec is None:
        return None
    figures = {
        "BELOW_MINIMUM": spec.minimum,
        "ABOVE_MAXIMUM": spec.maximum,
        "TOO_LONG": spec.max_length,
        "TOO_MANY_VALUES": spec.max_items,
        "REQUIRED_WITH": spec.required_with,
    }
    if code == "NOT_AN_OPTION":
        return ", ".join(spec.options)
    figure = figures.get(code)
    return (
        None
        if figure is None
        else f"{figure:g}"
        if isinstance(figure, int | float)
        else str(figure)
    )
