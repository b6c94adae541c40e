"""Exports of real shops: the sandbox holds exactly the number of events that is in each."""

from pathlib import Path

import pytest

from conftest import REAL_EXPORTS, Command
from rd_import.sandbox import Sandbox

pytestmark = pytest.mark.real

ORDER = ("--type", "ECOMMERCE_ORDER_PLACED")
WOOCOMMERCE = {
    "email": "billing_email",
    "identifier": "order_number",
    "currency": "order_currency",
    "price": "order_total",
    "shipping_price": "shipping_total",
    "payment_methods": "payment_method_title",
    "line_items.sku": "sku",
    "line_items.product_title": "product_name",
    "line_items.quantity": "quantity",
    "line_items.price": "item_total",
    "event_timestamp": "order_date",
}
SHOPIFY = {
    "email": "Email",
    "identifier": "Name",
    "currency": "Currency",
    "price": "Total",
    "payment_methods": "Payment Method",
    "line_items.sku": "Lineitem sku",
    "line_items.product_title": "Lineitem name",
    "line_items.quantity": "Lineitem quantity",
    "line_items.price": "Lineitem price",
    "event_timestamp": "Created at",
}
TIENDANUBE = {
    "email": "Email",
    "identifier": "Número de orden",
    "currency": "Moneda",
    "price": "Total",
    "line_items.sku": "SKU",
    "line_items.product_title": "Nombre del producto",
    "line_items.quantity": "Cantidad del producto",
    "line_items.price": "Precio del producto",
}
CONVERSIONS = {
    "email": "E-mail",
    "name": "Nome",
    "conversion_identifier": "Identificador",
    "event_timestamp": "Data da conversão",
    "cf_cpf": "CPF",
}
NESTED = {
    "identifier": "order_id",
    "price": "total",
    "payment_methods": "payment_method",
    "line_items.sku": "items.sku",
    "line_items.product_title": "items.name",
    "line_items.quantity": "items.quantity",
    "line_items.price": "items.price",
    "event_timestamp": "created_at",
}


def renames(fields: dict[str, str]) -> list[str]:
    return [word for field, column in fields.items() for word in ("--rename", f"{field}={column}")]


@pytest.mark.parametrize(
    ("file", "words", "events", "items", "states"),
    [
        (
            "ecommerce/woocommerce_orders_bom.csv",
            [*ORDER, *renames(WOOCOMMERCE)],
            50,
            101,
            {"accepted": 101},
        ),
        (
            "ecommerce/shopify_orders_brl.csv",
            [*ORDER, *renames(SHOPIFY)],
            24,
            24,
            {"accepted": 24, "invalid": 9},
        ),
        (
            "ecommerce/tiendanube_ventas_latin1.csv",
            [*ORDER, *renames(TIENDANUBE), "--encoding", "latin-1"],
            37,
            44,
            {"accepted": 44},
        ),
        (
            "parquet/conversions_date_only.parquet",
            ["--type", "CONVERSION", *renames(CONVERSIONS)],
            17,
            0,
            {"accepted": 17, "invalid": 3},
        ),
        (
            "parquet/orders_brl_nested.parquet",
            [*ORDER, *renames(NESTED), "--set", "currency=BRL"],
            24,
            24,
            {"accepted": 24, "invalid": 9},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_sandbox_holds_exactly_the_events_of_the_export(
    file: str,
    words: list[str],
    events: int,
    items: int,
    states: dict[str, int],
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
) -> None:
    done = rd_import(REAL_EXPORTS / file, *words, "--json", "--audit", tmp_path / "audit.parquet")
    assert done.json["states"] == states
    stored = sandbox.events()
    assert len(stored) == events
    assert sum(len(one.event["payload"].get("line_items", [])) for one in stored) == items
    assert {row["event_uuid"] for row in done.audit} - {None} == {one.event_uuid for one in stored}
    for row in done.audit:
        if row["state"] == "invalid":
            assert row["error_code"] == "REQUIRED"
            assert row["error_column"] in {"Email", "E-mail", "email"}
            assert row["error_message"]
            assert row["row_number"] > 0
            assert (row["line_number"] is None) == file.endswith(".parquet")


def test_a_line_number_is_the_physical_line_of_the_row(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """The note attributes of this export hold 15 to 20 line breaks a row."""
    path = REAL_EXPORTS / "ecommerce/shopify_orders_brl.csv"
    done = rd_import(
        path, *ORDER, *renames(SHOPIFY), "--json", "--audit", tmp_path / "audit.parquet"
    )
    lines = path.read_bytes().split(b"\n")
    numbers = {row["identifier"]: row["line_number"] for row in done.audit if row["identifier"]}
    assert len(numbers) == 24
    assert all(lines[line - 1].startswith(f"{name},".encode()) for name, line in numbers.items())
    assert len(sandbox.events()) == 24
