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
ASTERISK = """
type = "CALL_FINISHED"
key = ["column 17"]
[fields]
call_from_number = "column 2"
call_started_at = "column 9"
call_duration = "column 13"
call_status = "column 14"
[[lookup]]
file = "people.csv"
match = { extension = "column 2" }
take = { email = "email" }
"""
TWILIO = """
type = "CALL_FINISHED"
key = ["id"]
[fields]
call_from_number = "from"
call_started_at = "start_time"
call_duration = "duration"
call_status = "status"
[[lookup]]
file = "people.csv"
match = { Telefone = "from_formatted" }
take = { email = "E-mail" }
"""
SPOTIFY = """
type = "MEDIA_PLAYBACK_STOPPED"
[fields]
media_type = { value = "Audio" }
media_identifier = { join = ["artistName", "trackName"], with = " - " }
media_user_interaction_duration = { column = "msPlayed", scale = 0.001 }
media_user_interaction_date_timestamp = "endTime"
"""
SNOWPLOW = """
[fields]
media_type = { value = "Video" }
media_identifier = "label"
event_timestamp = "root_tstamp"
[type_by]
column = "type"
values = { play = "MEDIA_PLAYBACK_STARTED", pause = "MEDIA_PLAYBACK_STOPPED", ended = "MEDIA_PLAYBACK_STOPPED" }
other = "skip"
"""
SALESFORCE = """
key = ["id"]
[fields]
funnel_name = { value = "default" }
value = "amount"
event_timestamp = "close_date"
[type_by]
column = "is_won"
values = { true = "SALE", false = "OPPORTUNITY" }
"""
INTERCOM = """
type = "CHAT_STARTED"
key = ["id"]
[fields]
chat_subject = { first_of = ["source_subject", "source_body"] }
cf_chat_status = "state"
event_timestamp = "created_at"
[group]
by = ["id"]
keep = "last"
"""
TRANSCRIPTS = """
type = "CHAT_FINISHED"
[fields]
chat_subject = "CATEGORY"
cf_chat_status = { value = "finished" }
cf_chat_transcript_message = "TRANSCRIPT"
event_timestamp = "DATE_CREATED"
"""
KLAVIYO = """
type = "CONVERSION"
key = ["ID"]
[fields]
conversion_identifier = "TYPE"
event_timestamp = "DATETIME"
[[lookup]]
file = "people.csv"
match = { ID = "PERSON_ID" }
take = { email = "EMAIL" }
"""
NESTED = """
type = "ECOMMERCE_ORDER_PLACED"
[fields]
identifier = "order_id"
currency = { value = "BRL" }
price = "total"
"line_items.sku" = "items.sku"
"line_items.product_title" = "items.name"
"line_items.quantity" = "items.quantity"
"line_items.price" = "items.price"
"""
CONVERSIONS = ("--type", "CONVERSION", "--rename", "conversion_identifier=Identificador")


def people(path: Path, export: str, column: str, name: str = "", mail: str = "email") -> Path:
    """Write a second file: a fictional e-mail for each value of a column of the export."""
    table = pl.read_csv(REAL_EXPORTS / export, infer_schema=False)
    values = table[column].unique(maintain_order=True).drop_nulls().to_list()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([name or column, mail])
        writer.writerows([one, f"pessoa{n}@example.com"] for n, one in enumerate(values))
    return path


@pytest.mark.parametrize(
    ("export", "words", "mapping", "looked_up", "events", "invalid"),
    [
        ("ecommerce/shopify_orders_brl.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 24}, 9),
        ("ecommerce/shopify_orders_excel_semicolon.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 3}, 0),
        ("ecommerce/tiendanube_ventas_latin1.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 37}, 0),
        ("ecommerce/woocommerce_orders_bom.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        (
            "ecommerce/woocommerce_orders_bom.csv", ("--type-by", "status"), "", None,
            {"ECOMMERCE_ORDER_PLACED": 6, "ECOMMERCE_ORDER_PAID": 15, "ECOMMERCE_ORDER_FULFILLED": 29}, 0,
        ),
        ("encodings/woo_utf16le_bom_tab.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        ("encodings/woo_cp1252_sep_line_brl.csv", PLACED, "", None, {"ECOMMERCE_ORDER_PLACED": 50}, 0),
        ("carts/shopify_checkouts_export.csv", (*CART, *SHOP_URL), "", None, {CART[1]: 0}, 28),
        ("carts/nuvemshop_carrinhos_latin1.csv", (*CART, *SHOP_URL), "", None, {CART[1]: 1}, 1),
        ("carts/shopify_api_abandoned_checkout.csv", (*CART, "--set", "total_items=1"), "", None, {CART[1]: 3}, 0),
        ("calls/twilio_calls.csv", (), TWILIO, ("from_formatted", "Telefone", "E-mail"), {"CALL_FINISHED": 9}, 0),
        (
            "media/spotify_streaming_history_bom.csv", (), SPOTIFY, ("artistName", "", "email"),
            {"MEDIA_PLAYBACK_STOPPED": 1000}, 0,
        ),
        (
            "media/snowplow_media_events_a.csv", (), SNOWPLOW, ("root_id", "", "email"),
            {"MEDIA_PLAYBACK_STARTED": 122, "MEDIA_PLAYBACK_STOPPED": 91}, 0,
        ),
        (
            "crm/sales_pipeline_a.csv", ("--type-by", "deal_stage"), "", ("opportunity_id", "", "email"),
            {"SALE": 1641, "OPPORTUNITY_LOST": 857, "OPPORTUNITY": 502}, 0,
        ),
        ("crm/salesforce_opportunity.csv", (), SALESFORCE, ("id", "", "email"), {"SALE": 5, "OPPORTUNITY": 5}, 0),
        ("chat/intercom_conversation_history.csv", (), INTERCOM, ("id", "", "email"), {"CHAT_STARTED": 2}, 0),
        (
            "chat/support_call_transcripts_a.csv", (), TRANSCRIPTS, ("TRANSCRIPT", "", "email"),
            {"CHAT_FINISHED": 100}, 0,
        ),
        ("conversions/klaviyo_event_bom.csv", (), KLAVIYO, ("PERSON_ID", "ID", "EMAIL"), {"CONVERSION": 3}, 0),
        ("parquet/orders_brl_nested.parquet", (), NESTED, None, {"ECOMMERCE_ORDER_PLACED": 24}, 9),
        ("parquet/conversions_date_only.parquet", CONVERSIONS, "", None, {"CONVERSION": 17}, 3),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value and "\n" not in value else "",
)  # fmt: skip
def test_a_real_export_gives_its_events_with_one_command(
    export: str,
    words: tuple[str, ...],
    mapping: str,
    looked_up: tuple[str, str, str] | None,
    events: dict[str, int],
    invalid: int,
    tmp_path: Path,
    rd_import: Command,
) -> None:
    """At most a second file and two flags; where the export names nobody, the second file is made up."""
    given = [*words]
    if mapping:
        (tmp_path / "mapping.toml").write_text(mapping, encoding="utf-8")
        given += ["--map", str(tmp_path / "mapping.toml")]
    if looked_up is not None:
        column, name, mail = looked_up
        second = people(tmp_path / "people.csv", export, column, name, mail)
        given += [] if "[[lookup]]" in mapping else ["--lookup", str(second)]
    shown = rd_import("check", REAL_EXPORTS / export, *given, "--json").json["preview"]
    assert shown["event_types"] == events
    assert shown["invalid_rows"] == invalid


def test_calls_without_a_header_are_named_by_position(tmp_path: Path, rd_import: Command) -> None:
    """This export of a telephone exchange has no header and extensions in place of numbers."""
    (tmp_path / "mapping.toml").write_text(ASTERISK, encoding="utf-8")
    (tmp_path / "people.csv").write_text(
        "extension,email\nclient1,ana@example.com\nclient2,bia@example.com\n", encoding="utf-8"
    )
    export = REAL_EXPORTS / "calls/asterisk_Master_noheader.csv"
    shown = rd_import("check", export, "--map", tmp_path / "mapping.toml", "--json").json["preview"]
    assert shown["event_types"] == {"CALL_FINISHED": 14}
    assert shown["invalid_rows"] == 0


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
