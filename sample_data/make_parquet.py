"""Write orders.parquet: the orders of orders_items.csv, one row each, with a list of items."""

from pathlib import Path

import polars as pl

HERE = Path(__file__).parent
ITEM = "line_items."


def orders() -> pl.DataFrame:
    """Give one line per order: its first row's cells, and `line_items` as a list of structs."""
    rows = pl.read_csv(HERE / "orders_items.csv", schema_overrides={"identifier": pl.String})
    items = [name for name in rows.columns if name.startswith(ITEM)]
    order = [name for name in rows.columns if name not in {"identifier", *items}]
    parts = [pl.col(name).alias(name.removeprefix(ITEM)) for name in items]
    return (
        rows.group_by("identifier", maintain_order=True)
        .agg(pl.col(order).first(), pl.struct(parts).alias("line_items"))
        .with_columns(
            pl.col("event_timestamp").str.to_datetime(time_unit="us", time_zone="UTC"),
            pl.col("payment_methods").str.split(";"),
        )
    )


if __name__ == "__main__":
    orders().write_parquet(HERE / "orders.parquet")
