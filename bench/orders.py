"""Write made-up exports, the same bytes each time.

    python bench/orders.py 100_000 orders.csv
    python bench/orders.py 1_000_000 items.parquet --shape shuffled

Shapes: `rows` (an order a row), `items` (rows of an order side by side), `shuffled` (rows of an
order up to 200,000 rows apart), `wide` (40 more columns), `carts` (20 items an order), `invalid`
(one row in five has a flaw).
"""

import argparse
import csv
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

SHAPES = ("rows", "items", "shuffled", "wide", "carts", "invalid")
COLUMNS = (
    "order_id", "email", "name", "phone", "currency", "total", "shipping", "total_items",
    "payment_method", "product_id", "sku", "product_name", "unit_price", "quantity", "created_at",
)  # fmt: skip
FIELDS = {
    "identifier": "order_id",
    "mobile_phone": "phone",
    "price": "total",
    "shipping_price": "shipping",
    "payment_methods": "payment_method",
    "line_items.product_id": "product_id",
    "line_items.product_title": "product_name",
    "line_items.sku": "sku",
    "line_items.price": "unit_price",
    "line_items.quantity": "quantity",
}
"""Field of the event <- column, where the names differ; what every contender sends."""

FIRST = ["Ana", "João", "José", "Conceição", "Luís", "Márcia", "Antônio", "Zé", "Íris", "Flávio"]
LAST = ["Silva", "Gonçalves", "Araújo", "Brandão", "Sá", "Corrêa", "Nóbrega"]
PAYMENT = ("Credit Card", "Pix", "Boleto")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FAR = 200_000  # rows of one order stand up to so far apart
Row = list[str | int]


def rows_of(shape: str, rows: int) -> Iterator[Row]:
    """Give so many rows of a shape."""
    pick = random.Random(7)  # noqa: S311 -- the same file each time
    order, written = 0, 0
    pool: list[Row] = []
    while written < rows:
        for row in _order(shape, order, rows, pick):
            if written < rows:
                pool.append(row)
                written += 1
        order += 1
        if shape != "shuffled":
            yield from pool
            pool.clear()
        elif len(pool) >= FAR or written >= rows:
            pick.shuffle(pool)
            yield from pool
            pool.clear()


def _order(shape: str, order: int, rows: int, pick: random.Random) -> list[Row]:
    count = {"items": 3, "shuffled": 3, "carts": 20}.get(shape, 1)
    items = [
        (pick.randrange(5000), pick.randrange(1000, 60000), pick.randrange(1, 4))
        for _ in range(count)
    ]
    shipping = pick.choice((0, 1490, 2290))
    total = shipping + sum(price * quantity for _, price, quantity in items)
    head: Row = [
        f"ORD-{order:08d}",
        f"cliente{pick.randrange(rows)}@exemplo.com.br",
        f"{pick.choice(FIRST)} {pick.choice(LAST)}",
        f"+55119{pick.randrange(60_000_000, 100_000_000):08d}",
        "BRL",
        f"{total / 100:.2f}",
        f"{shipping / 100:.2f}",
        sum(quantity for *_, quantity in items),
        pick.choice(PAYMENT),
    ]
    if shape == "invalid" and order % 5 == 0:
        head[1 if order % 2 else 5] = ("", "sem e-mail", "R$ ?")[order % 3]
    wide = [f"nota {number} do pedido {order}" for number in range(40 if shape == "wide" else 0)]
    made = (BEGIN + timedelta(seconds=order * 7)).isoformat()
    rows: list[Row] = []
    for one, price, quantity in items:
        item: Row = [f"P{one:05d}", f"SKU-{one:05d}", f"Camiseta nº {one % 500}"]
        rows.append([*head, *item, f"{price / 100:.2f}", quantity, made, *wide])
    return rows


def write(path: Path, shape: str, rows: int) -> None:
    """Write an export, as Parquet if the name ends so."""
    extra = [f"nota_{number}" for number in range(40 if shape == "wide" else 0)]
    if path.suffix == ".parquet":
        import polars as pl

        csv_path = path.with_suffix(".csv")
        write(csv_path, shape, rows)
        pl.scan_csv(csv_path, infer_schema=False).sink_parquet(path)
        csv_path.unlink()
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *extra])
        writer.writerows(rows_of(shape, rows))


if __name__ == "__main__":
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("rows", type=lambda text: int(text.replace("_", "")))
    words.add_argument("path", type=Path)
    words.add_argument("--shape", choices=SHAPES, default="rows")
    asked = words.parse_args()
    write(asked.path, asked.shape, asked.rows)
