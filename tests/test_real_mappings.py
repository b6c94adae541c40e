"""Every real export gives the events that are in it, with one command: the counts of its index."""

import csv
import re
from pathlib import Path

import polars as pl
import pytest

from conftest import REAL_EXPORTS, Command

pytestmark = pytest.mark.real

PLACED = ("--type", "ECOMMERCE_ORDER_PLACED")
CART = ("--type", "ECOMMERCE_CART_ABANDONED")
SHOP_URL = ("--set", "checkout_url=https://loja.example.com/carrinho")
KLAVIYO = """
type = "CONVERSION"
[[lookup]]
file = "people.csv"
match = { ID = "PERSON_ID" }
take = { email = "EMAIL" }
"""
CALLS = ("--type", "CALL_FINISHED")
TRANSCRIPTS = (
    "--type", "CHAT_FINISHED", "--rename", "chat_subject=CATEGORY", "--set", "cf_chat_status=finished",
)  # fmt: skip
CONVERSIONS = ("--type", "CONVERSION", "--rename", "conversion_identifier=Identificador")


def people(path: Path, export: str, column: str) -> Path:
    """Write a second file: a fictional e-mail for each value of a column of the export."""
    place = re.fullmatch(r"column (\d+)", column)  # of a file without a header
    table = pl.read_csv(REAL_EXPORTS / export, infer_schema=False, has_header=place is None)
    cells = table.to_series(int(place[1]) - 1) if place else table[column]
    values = cells.unique(maintain_order=True).drop_nulls().to_list()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column, "email"])
        writer.writerows([one, f"pessoa{n}@example.com"] for n, one in enumerate(values))
    return path


@pytest.mark.parametrize(
    ("export", "words", "looked_up", "events", "invalid"),
    [
        ("ecommerce/shopify_orders_brl.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 24}, 9),
        ("ecommerce/shopify_orders_excel_semicolon.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 3}, 0),
        ("ecommerce/tiendanube_ventas_latin1.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 37}, 0),
        ("ecommerce/woocommerce_orders_bom.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        (
            "ecommerce/woocommerce_orders_bom.csv", ("--type-by", "status"), None,
            {"ECOMMERCE_ORDER_PLACED": 6, "ECOMMERCE_ORDER_PAID": 15, "ECOMMERCE_ORDER_FULFILLED": 29}, 0,
        ),
        ("encodings/woo_utf16le_bom_tab.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        ("encodings/woo_cp1252_sep_line_brl.csv", PLACED, None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        ("carts/shopify_checkouts_export.csv", (*CART, *SHOP_URL), None, {CART[1]: 0}, 28),
        ("carts/nuvemshop_carrinhos_latin1.csv", (*CART, *SHOP_URL), None, {CART[1]: 1}, 1),
        ("carts/shopify_api_abandoned_checkout.csv", (*CART, "--set", "total_items=1"), None, {CART[1]: 3}, 0),
        ("calls/twilio_calls.csv", CALLS, "from_formatted", {"CALL_FINISHED": 9}, 0),
        ("calls/asterisk_Master_noheader.csv", (*CALLS, "--map", "asterisk_cdr_custom"), "column 2", {CALLS[1]: 14}, 0),
        (
            "media/spotify_streaming_history_bom.csv", ("--type", "MEDIA_PLAYBACK_STOPPED"), "artistName",
            {"MEDIA_PLAYBACK_STOPPED": 1000}, 0,
        ),
        (
            "media/snowplow_media_events_a.csv", ("--type-by", "type", "--set", "media_type=Video"), "root_id",
            {"MEDIA_PLAYBACK_STARTED": 122, "MEDIA_PLAYBACK_STOPPED": 91}, 0,
        ),
        (
            "crm/sales_pipeline_a.csv", ("--type-by", "deal_stage"), "opportunity_id",
            {"SALE": 1641, "OPPORTUNITY_LOST": 857, "OPPORTUNITY": 502}, 0,
        ),
        ("crm/salesforce_opportunity.csv", ("--type-by", "is_won"), "id", {"SALE": 5}, 0),
        ("chat/intercom_conversation_history.csv", ("--type", "CHAT_STARTED"), "id", {"CHAT_STARTED": 2}, 0),
        (
            "chat/support_call_transcripts_a.csv", TRANSCRIPTS, "TRANSCRIPT", {"CHAT_FINISHED": 100}, 0,
        ),
        ("conversions/klaviyo_event_bom.csv", ("--type", "CONVERSION"), "PERSON_ID", {"CONVERSION": 3}, 0),
        ("parquet/orders_brl_nested.parquet", (*PLACED, "--set", "currency=BRL"), None, {PLACED[1]: 24}, 9),
        ("parquet/conversions_date_only.parquet", CONVERSIONS, None, {"CONVERSION": 17}, 3),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)  # fmt: skip
def test_a_real_export_gives_its_events_with_one_command(
    export: str,
    words: tuple[str, ...],
    looked_up: str | None,
    events: dict[str, int],
    invalid: int,
    tmp_path: Path,
    rd_import: Command,
) -> None:
    """At most a second file and two flags; where the export names nobody, the second file is made up."""
    given = [*words]
    if looked_up is not None:
        given += ["--lookup", str(people(tmp_path / "people.csv", export, looked_up))]
    shown = rd_import("check", REAL_EXPORTS / export, *given, "--json").json["preview"]
    assert shown["event_types"] == events
    assert shown["invalid_rows"] == invalid


def test_a_person_that_the_second_file_lacks_is_the_reason(
    tmp_path: Path, rd_import: Command
) -> None:
    """The persons of this export have ids of another form, so no row joins: each says so, and none is guessed."""
    person = REAL_EXPORTS / "conversions/klaviyo_person.csv"
    (tmp_path / "mapping.toml").write_text(
        KLAVIYO.replace("people.csv", str(person)), encoding="utf-8"
    )
    export = REAL_EXPORTS / "conversions/klaviyo_event_bom.csv"
    done = rd_import("check", export, "--map", tmp_path / "mapping.toml", "--json").json["preview"]
    assert done["events"] == 0
    [cause] = done["problems"]
    assert (cause["code"], cause["rows"]) == ("NOT_LOOKED_UP", 3)


def test_an_export_without_id_and_amount_is_refused_with_the_flags_that_supply_them(
    rd_import: Command,
) -> None:
    """Two orders whose items are JSON: nothing in the file says which order, when, or for how much."""
    done = rd_import("check", REAL_EXPORTS / "ecommerce/magento2_orders_json_cell.csv", *PLACED)
    assert done.code == 2
    assert "--rename identifier=COLUMN" in done.err


def test_checkouts_in_pounds_are_invalid_every_one(rd_import: Command) -> None:
    """Pounds are no currency of RD Station: 22 checkouts in 28 rows, and no wrong currency is made up for them."""
    export = REAL_EXPORTS / "carts/shopify_checkouts_export.csv"
    done = rd_import("check", export, *CART, *SHOP_URL, "--json").json
    [cause] = [one for one in done["preview"]["problems"] if one["fatal"]]
    assert (cause["code"], cause["column"], cause["rows"]) == ("NOT_AN_OPTION", "Currency", 28)
    assert done["events"] == 0
    assert pl.read_csv(export, infer_schema=False)["Name"].n_unique() == 22


def test_the_screens_lead_from_an_unknown_file_to_a_correct_preview(rd_import: Command) -> None:
    """A person who knows nothing follows the hints: first a type, then what becomes of old events."""
    export = REAL_EXPORTS / "ecommerce/shopify_orders_excel_semicolon.csv"
    first = rd_import("check", export)
    assert first.code == 2
    types = re.findall(r"ECOMMERCE_[A-Z_]+", first.err)
    assert "Shopify orders" in first.err
    second = rd_import("check", export, "--type", types[0])
    assert second.code == 7
    flags = re.findall(r"--past (?:send|skip)", second.err)
    third = rd_import("check", export, "--type", types[0], *flags[0].split(), "--json")
    assert third.code == 0
    assert third.json["events"] == 3
    assert third.json["preview"]["proposed"] == {}
