"""Every real export gives its exact number of events or refusals, told only the names."""

from pathlib import Path
from typing import Any

import pytest

from conftest import REAL_EXPORTS, Command
from rd_import.job import Job
from rd_import.read import find_exports, read
from rd_import.sandbox import Sandbox
from test_real_exports import ORDER, SHOPIFY, TIENDANUBE, WOOCOMMERCE, renames

pytestmark = pytest.mark.real

SHOPIFY_CART = {name: column for name, column in SHOPIFY.items() if name != "payment_methods"}
CART = ("--type", "ECOMMERCE_CART_ABANDONED", "--set", "checkout_url=https://loja.example.com/c")
SOMEBODY = ("--set", "email=ana@example.com")
NUVEMSHOP = {
    "email": "E-mail",
    "identifier": "ID do carrinho",
    "price": "Total do carrinho",
    "line_items.sku": "Variante / SKU",
    "line_items.product_title": "Nome do produto",
    "line_items.quantity": "Quantidade",
    "line_items.price": "Preço unitário",
    "mobile_phone": "Telefone",
    "event_timestamp": "Data de criação",
}
SHOPIFY_API = {"email": "email", "identifier": "id", "price": "total_price", "currency": "currency"}
ASTERISK = {
    "call_from_number": "column 2",
    "call_status": "column 14",
    "call_duration": "column 12",
    "call_started_at": "column 9",
    "call_record": "column 17",
}
TWILIO = {
    "call_from_number": "from",
    "call_status": "status",
    "call_duration": "duration",
    "call_record": "id",
}
SPOTIFY = {"media_identifier": "trackName", "event_timestamp": "endTime"}
TRANSCRIPTS = {
    "chat_subject": "CATEGORY",
    "cf_chat_transcript_message": "TRANSCRIPT",
    "event_timestamp": "DATE_CREATED",
}


@pytest.mark.parametrize(
    ("file", "words", "events", "items", "states"),
    [
        (
            "ecommerce/tiendanube_ventas_latin1.csv",
            [*ORDER, *renames(TIENDANUBE)],
            37,
            44,
            {"accepted": 44},
        ),
        (
            "ecommerce/shopify_orders_excel_semicolon.csv",
            [*ORDER, *renames(SHOPIFY | {"mobile_phone": "Billing Phone"})],
            3,
            3,
            {"accepted": 3},
        ),
        (
            "encodings/woo_utf16le_bom_tab.csv",
            [*ORDER, *renames(WOOCOMMERCE)],
            50,
            101,
            {"accepted": 101},
        ),
        (
            "encodings/woo_cp1252_sep_line_brl.csv",
            [*ORDER, *renames(WOOCOMMERCE)],
            50,
            101,
            {"accepted": 101},
        ),
        (
            "carts/shopify_checkouts_export.csv",
            [*CART, *renames(SHOPIFY_CART)],
            0,
            0,
            {"invalid": 28},
        ),
        (
            "carts/nuvemshop_carrinhos_latin1.csv",
            [*CART, *renames(NUVEMSHOP), "--set", "currency=BRL"],
            1,
            2,
            {"accepted": 2, "invalid": 1},
        ),
        (
            "carts/shopify_api_abandoned_checkout.csv",
            [*CART, *renames(SHOPIFY_API), "--set", "total_items=1"],
            3,
            0,
            {"accepted": 3},
        ),
        (
            "calls/asterisk_Master_noheader.csv",
            ["--type", "CALL_FINISHED", *SOMEBODY, *renames(ASTERISK)],
            14,
            0,
            {"accepted": 14},
        ),
        (
            "calls/twilio_calls.csv",
            ["--type", "CALL_FINISHED", *SOMEBODY, *renames(TWILIO)],
            9,
            0,
            {"accepted": 9},
        ),
        (
            "media/spotify_streaming_history_bom.csv",
            [
                "--type",
                "MEDIA_PLAYBACK_STOPPED",
                *SOMEBODY,
                *renames(SPOTIFY),
                "--set",
                "media_type=Audio",
            ],
            1000,
            0,
            {"accepted": 1000},
        ),
        (
            "chat/support_call_transcripts_a.csv",
            [
                "--type",
                "CHAT_FINISHED",
                *SOMEBODY,
                *renames(TRANSCRIPTS),
                "--set",
                "cf_chat_status=closed",
            ],
            100,
            0,
            {"accepted": 100},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_export_gives_its_exact_number_of_events(
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
    found = dict(done.json["states"])
    deferred = found.pop("deferred", 0)  # one contact stands for many, and has 120 events a day
    if deferred:
        found["accepted"] += deferred
    assert found == states
    stored = sandbox.events()
    assert len(stored) + deferred == events
    assert sum(len(one.event["payload"].get("line_items", [])) for one in stored) == items


def test_the_carts_in_pounds_are_twenty_two_with_twenty_eight_items(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """As they are, all are invalid, since RD Station takes no GBP; they are read all the same."""
    words = renames({name: column for name, column in SHOPIFY_CART.items() if name != "currency"})
    path = REAL_EXPORTS / "carts/shopify_checkouts_export.csv"
    done = rd_import(
        path,
        *CART,
        *words,
        "--set",
        "currency=EUR",
        "--json",
        "--audit",
        tmp_path / "audit.parquet",
    )
    assert done.json["states"] == {"accepted": 28}
    assert len(sandbox.events()) == 22
    assert sum(len(one.event["payload"]["line_items"]) for one in sandbox.events()) == 28


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("ecommerce/magento2_orders_json_cell.csv", 2),  # no id, and its items are JSON in a cell
        ("media/snowplow_media_events_a.csv", 400),  # event types by a column's value
        ("crm/sales_pipeline_a.csv", 3000),  # three event types by a column's value
        ("crm/salesforce_opportunity.csv", 10),  # two event types, and rows to filter
        ("chat/intercom_conversation_history.csv", 9),  # versions to collapse, contacts to look up
        ("chat/intercom_conversation_contact.csv", 9),
        ("chat/intercom_contact_history.csv", 9),
        ("conversions/klaviyo_event_bom.csv", 3),  # persons to look up
        ("conversions/klaviyo_person.csv", 2),
    ],
)
def test_an_export_that_needs_a_mapping_gives_its_exact_number_of_rows(
    file: str, rows: int
) -> None:
    """What these need beyond --rename and --set is the mapping file's part."""
    groups = list(read(find_exports(Job(exports=(str(REAL_EXPORTS / file),), event_type="SALE"))))
    assert sum(group.rows.table.height for group in groups) == rows
    assert sum(group.problems.height for group in groups) == 0


def _sent(path: Path, tmp_path: Path, rd_import: Command, sandbox: Sandbox) -> list[dict[str, Any]]:
    """Import a file to the sandbox, and forget it again."""
    audit = tmp_path / f"{path.stem}.audit.parquet"
    before = len(sandbox.events())
    done = rd_import(
        path,
        *ORDER,
        *renames(WOOCOMMERCE),
        "--json",
        "--audit",
        audit,
        "--ledger",
        audit.with_suffix(".db"),
    )
    assert done.code == 0
    dates = {row["identifier"]: row["source_timestamp"] for row in done.audit if row["identifier"]}
    return [
        one.event["payload"] | {"date": dates[one.event["payload"]["identifier"]]}
        for one in sandbox.events()[before:]
    ]


def test_both_derived_encodings_equal_the_original(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """UTF-16 with tabs, and cp1252 with a `sep=` line, decimal commas and days first, hold the same
    orders.

    Their cities and names have got accents, which the original has not.
    """
    original = _sent(
        REAL_EXPORTS / "ecommerce/woocommerce_orders_bom.csv", tmp_path, rd_import, sandbox
    )
    utf16 = _sent(REAL_EXPORTS / "encodings/woo_utf16le_bom_tab.csv", tmp_path, rd_import, sandbox)
    cp1252 = _sent(
        REAL_EXPORTS / "encodings/woo_cp1252_sep_line_brl.csv", tmp_path, rd_import, sandbox
    )
    assert len(original) == 50
    assert utf16 == cp1252
    assert "São José do Rio Prêto" in {one["shipping_city"] for one in cp1252}
    unaccented = {"shipping_city": "", "name": ""}
    assert [one | unaccented for one in cp1252] == [one | unaccented for one in original]


def test_a_day_that_never_was_is_left_out_where_an_id_tells_the_calls_apart(
    rd_import: Command,
) -> None:
    """Twilio's sample holds a 30th of February."""
    words = (
        "--type",
        "CALL_FINISHED",
        *SOMEBODY,
        *renames(TWILIO),
        "--rename",
        "call_started_at=start_time",
    )
    done = rd_import("check", REAL_EXPORTS / "calls/twilio_calls.csv", *words, "--json")
    assert done.json["states"] == {"not_sent": 9}
    problems = [one for one in done.json["preview"]["problems"] if one["column"] == "start_time"]
    assert {(one["code"], *one["places"], one["fatal"]) for one in problems} == {
        ("NOT_A_TIMESTAMP", "twilio_calls.csv:5", False)
    }


def test_the_naughty_strings_come_back_byte_for_byte(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """In a name and a custom field; only blanks at a cell's ends are taken off."""
    text = (REAL_EXPORTS / "csv_torture/blns/blns.txt").read_text("utf-8")
    naughty = [line for line in text.split("\n") if line and not line.startswith("#")]
    path = tmp_path / "naughty.csv"
    quoted = ['"' + one.replace('"', '""') + '"' for one in naughty]
    rows = [f"n{number}@example.com,{cell},{cell}" for number, cell in enumerate(quoted)]
    path.write_text("email,name,cf_text\n" + "\n".join(rows) + "\n", "utf-8", newline="")
    words = ("--type", "CONVERSION", "--set", "conversion_identifier=x", "--json")
    done = rd_import(path, *words, "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": len(naughty)}
    names = [one.event["payload"].get("name") for one in sandbox.events()]
    assert names == [one.strip(" \t") if one.strip() else None for one in naughty]
    table = next(read(find_exports(Job(exports=(str(path),), event_type="CONVERSION")))).rows.table
    assert table["name"].to_list() == naughty
