"""Totals of an order that do not match its items: a warning with the numbers, never a correction. Pure."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW

CENT: Final = 0.01
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
    if {"line_items.quantity", "total_items"} <= names:
        made = pl.col("line_items.quantity").sum().over(EVENT)
        complete = pl.col("line_items.quantity").is_not_null().all().over(EVENT)
        found += _differing(table, "TOTAL_ITEMS_DIFFER", "total_items", made, complete)
    if {"line_items.quantity", "line_items.price", "price"} <= names:
        amount = pl.col("line_items.quantity") * pl.col("line_items.price")
        made = amount.sum().over(EVENT)
        if "shipping_price" in names:
            made += pl.col("shipping_price").fill_null(0.0)
        complete = amount.is_not_null().all().over(EVENT)
        found += _differing(table, "PRICE_DIFFERS", "price", made.round(2), complete)
    return pl.concat(found)


def _differing(
    table: pl.DataFrame, code: str, name: str, made: pl.Expr, complete: pl.Expr
) -> Iterator[pl.DataFrame]:
    differs = complete & ((pl.col(name) - made).abs() > CENT - HALF)
    is_first = pl.col(ROW) == pl.col(ROW).first().over(EVENT)
    yield (
        table.select(
            ROW, EVENT, pl.col(name).alias("stated"), made.alias("made"), differs.alias("hit")
        )
        .filter(table.select(is_first).to_series() & pl.col("hit"))
        .unique(EVENT, keep="first", maintain_order=True)
        .select(
            pl.col(ROW),
            pl.lit(code).alias("code"),
            pl.lit(name).alias("field"),
            pl.col("stated").cast(pl.String).alias("value"),
            pl.col("made").cast(pl.String).alias("limit"),
            pl.lit(value=False).alias("fatal"),
        )
    )
