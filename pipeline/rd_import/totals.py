"""Totals of an order that do not match its items: a warning with the numbers, never a correction. Pure."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW

CENT: Final = 0.01
ITEM: Final = "line_items."
HALF: Final = 0.005  # below it, floats of the same amount differ by their noise


def differing_totals(table: pl.DataFrame) -> pl.DataFrame:
    """Name the orders whose `total_items` or `price` is not what their items make.

    Discounts, taxes and fees explain a `price`; that is for a person to judge. Orders with an item that lacks its
    price or quantity are passed over.

    Args:
        table: Typed rows of whole events.

    Returns:
        One problem per such order and total, at its first row, in `PROBLEM_SCHEMA`; none is fatal.
    """
    names = set(table.columns)
    found = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    if not any(name.startswith(ITEM) for name in names):
        found.append(_idle_rows(table))
    alone = not (table[EVENT] == table[EVENT].shift()).any()  # rows of an event stand side by side
    if {"line_items.quantity", "total_items"} <= names:
        quantity = pl.col("line_items.quantity")
        found += _differing(
            table, "TOTAL_ITEMS_DIFFER", "total_items", quantity, pl.lit(0), alone=alone
        )
    if {"line_items.quantity", "line_items.price", "price"} <= names:
        amount = pl.col("line_items.quantity") * pl.col("line_items.price")
        extra = pl.col("shipping_price").fill_null(0.0) if "shipping_price" in names else pl.lit(0)
        found += _differing(table, "PRICE_DIFFERS", "price", amount, extra, alone=alone)
    return pl.concat(found)


def _idle_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Name the events of several rows of which no column is an item's: those after the first bring nothing.

    They may hold items that nobody mapped, and `price` may be that of one.
    """
    first = table.select(
        ROW,
        pl.len().over(EVENT).alias("rows"),
        pl.col(EVENT).ne_missing(pl.col(EVENT).shift()).alias("first"),
    ).filter((pl.col("rows") > 1) & pl.col("first"))
    return first.select(
        pl.col(ROW),
        pl.lit("ROWS_WITHOUT_ITEMS").alias("code"),
        pl.lit(None, dtype=pl.String).alias("field"),
        pl.col("rows").cast(pl.String).alias("value"),
        pl.lit(None, dtype=pl.String).alias("limit"),
        pl.lit(value=False).alias("fatal"),
    )


def _differing(
    table: pl.DataFrame,
    code: str,
    name: str,
    part: pl.Expr,
    extra: pl.Expr,
    *,
    alone: bool,
) -> Iterator[pl.DataFrame]:
    """Compare a total with its parts; `alone`: each row is an event, and there is nothing to add up."""
    made = (part if alone else part.sum().over(EVENT)) + extra
    complete = part.is_not_null() if alone else part.is_not_null().all().over(EVENT)
    if table.schema[name].is_float():
        made = made.round(2)
    differs = complete & ((pl.col(name) - made).abs() > CENT - HALF)
    is_first = pl.col(EVENT).ne_missing(pl.col(EVENT).shift())
    staged = table.select(
        ROW, pl.col(name).alias("stated"), made.alias("made"), (differs & is_first).alias("hit")
    ).filter("hit")
    yield staged.select(
        pl.col(ROW),
        pl.lit(code).alias("code"),
        pl.lit(name).alias("field"),
        pl.col("stated").cast(pl.String).alias("value"),
        pl.col("made").cast(pl.String).alias("limit"),
        pl.lit(value=False).alias("fatal"),
    )
