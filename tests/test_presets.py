"""Each preset is proved on its header and on made rows: it is recognised, and these events come out."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import tool
from conftest import REAL_EXPORTS, Command
from rd_import.claims import takes
from rd_import.feed import match_columns
from rd_import.job import Job
from rd_import.mapping_file import Mapping, Rule
from rd_import.names import folded
from rd_import.presets import Preset, fitting, presets, recognise
from rd_import.read import find_exports
from rdstation_events import CURRENT_TYPES, EVENT_TYPES

MADE = Path(__file__).parent / "presets"
ALL = presets()


def made(preset: Preset) -> Path:
    """Give the file with the platform's header and made rows."""
    [path] = [one for one in MADE.glob(f"{preset.id}.*") if one.name != f"{preset.id}.json"]
    return path


def expected(preset: Preset) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MADE / f"{preset.id}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_the_made_rows_of_a_preset_become_these_events(
    preset: Preset, tmp_path: Path, rd_import: Command
) -> None:
    """Header and rows as the platform writes them; a preset without a header of its own is named by --map."""
    case = expected(preset)
    file = made(preset)
    words = [str(MADE / one) if (MADE / one).is_file() else one for one in case["words"]]
    done = rd_import("check", file, *words, "--json", "--keep", "--run-dir", tmp_path)
    assert "preview" in done.json, done.err
    [export] = done.json["preview"]["exports"]
    assert export["preset"] == (preset.id if preset.recognise else None)
    assert _events(tmp_path) == case["events"]
    assert done.json["preview"]["invalid_rows"] == case.get("invalid_rows", 0)


def _events(runs: Path) -> list[dict[str, Any]]:
    """Give what would be sent, event type and payload; and the source's own time, which is never sent."""
    from rd_import.run_folder import RunFolder

    [folder] = [RunFolder.open(one) for one in runs.iterdir()]
    found = []
    for part in folder.bodies():
        for body, happened in zip(part["body"], part["source_timestamp"], strict=True):
            event = json.loads(body)
            when = {"event_timestamp": f"{happened:%Y-%m-%dT%H:%M:%SZ}"} if happened else {}
            found.append({"event_type": event["event_type"], **event["payload"], **when})
    return found


def header(preset: Preset) -> list[str]:
    """Give the platform's header, as the made file has it."""
    [export] = find_exports(Job(exports=(str(made(preset)),)))
    return list(export.facts.columns)


def mojibake(name: str) -> str:
    """Read UTF-8 as cp1252, as a spreadsheet does with a file that has no mark; as far as that code page goes."""
    try:
        return name.encode().decode("cp1252")
    except ValueError:
        return name


@pytest.mark.parametrize("preset", [one for one in ALL if one.recognise], ids=lambda one: one.id)
def test_a_header_is_of_its_own_preset_and_of_no_other(preset: Preset) -> None:
    """Whatever the case and order of its columns, and with columns that a plugin or a person added."""
    columns = header(preset)
    assert fitting(columns) == (preset,)
    assert recognise([one.upper() for one in reversed(columns)]) is preset
    assert recognise(["Observações internas", *columns, "Minha coluna"]) is preset
    assert recognise([mojibake(one) for one in columns]) is preset


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_names_fields_that_its_types_have(preset: Preset) -> None:
    types = [EVENT_TYPES[name] for name in preset.feeds]
    assert set(preset.feeds) <= set(CURRENT_TYPES)
    assert [one for one in preset.mapping.fields if not any(takes(t, one) for t in types)] == []
    for name, rules in preset.mapping.fields_for.items():
        assert name in preset.feeds
        assert [one for one in rules if not takes(EVENT_TYPES[name], one)] == []
    for suggestion in preset.suggestions:
        assert set((suggestion.values or {}).values()) <= set(preset.feeds)


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_decides_no_consent(preset: Preset) -> None:
    """Who may be written to is never inferred from a platform."""
    rules: dict[str, Rule] = dict(preset.mapping.fields)
    for one in preset.mapping.fields_for.values():
        rules |= one
    assert [one for one in rules if one.startswith("legal_bases")] == []
    assert "available_for_mailing" not in rules


def test_every_made_file_belongs_to_a_preset() -> None:
    expectations = {path.stem for path in MADE.glob("*.json")}
    assert {one for one in expectations if not one.endswith(".export")} == {one.id for one in ALL}


BY_NAME = {"google_forms_en", "google_forms_pt", "typeform", "woo_webtoffee_wide"}
"""Their exports have columns that nobody knows before: questions, or what a shop chose."""


@pytest.mark.parametrize(
    "preset",
    [one for one in ALL if one.recognise and one.id not in BY_NAME],
    ids=lambda one: one.id,
)
def test_a_preset_leaves_no_column_of_its_platform_to_names(preset: Preset) -> None:
    """A name that means something elsewhere feeds nothing here unless the preset says so."""
    [export] = find_exports(Job(exports=(str(made(preset)),)))
    for name in preset.feeds:
        matching = match_columns(
            export.facts, [EVENT_TYPES[name]], Mapping(), preset=preset, complete=False
        )
        assert {one.field for one in matching.fed[name] if one.how != "preset"} == set()


def test_an_older_export_with_fewer_columns_is_recognised_too() -> None:
    [nuvemshop] = [one for one in ALL if one.id == "nuvemshop_vendas"]
    assert recognise(header(nuvemshop)[:45]) is nuvemshop


def test_a_header_that_no_preset_knows_is_none() -> None:
    assert recognise(["email", "identifier", "price"]) is None
    assert (
        recognise(["NAME", "financial_status", "LINEITEM QUANTITY", "Outstanding balance"]) is None
    )


def test_a_header_that_fits_two_presets_alike_is_shown_and_not_decided(
    tmp_path: Path, rd_import: Command
) -> None:
    both = ["bling_pedidos", "tiny_ecommerce_sales"]
    columns = [name for one in ALL if one.id in both for name in one.recognise]
    assert recognise(columns) is None
    path = tmp_path / "both.csv"
    cells = ",".join("x" for _ in columns)
    path.write_text(f"email,identifier,{','.join(columns)}\nana@example.com,1,{cells}\n", "utf-8")
    done = rd_import("check", path, "--type", "ECOMMERCE_ORDER_REFUNDED")
    assert "fits 2 presets alike (bling_pedidos, tiny_ecommerce_sales)" in done.err + done.out


def test_a_header_is_recognised_whatever_its_case() -> None:
    header = [
        "NAME",
        "financial_status",
        "LINEITEM QUANTITY",
        "Outstanding balance",
        "payment references",
    ]
    found = recognise(header)
    assert found is not None
    assert found.id == "shopify_orders"


def test_the_page_of_presets_is_written_from_them() -> None:
    """docs/presets.md: `python tools/presets_page.py` writes it."""
    presets_page = tool("presets_page")
    assert presets_page.PAGE.read_text(encoding="utf-8") == presets_page.page()


def gathered() -> dict[str, dict[str, Any]]:
    """Give what was gathered about exports, with its sources: export → facts."""
    text = (REAL_EXPORTS.parents[1] / "presets" / "presets.json").read_text(encoding="utf-8")
    return {one["id"]: one for one in json.loads(text)["presets"]}


@pytest.mark.real
def test_every_gathered_export_is_a_preset_or_listed_as_left_out() -> None:
    left_out = "".join(tool("presets_page").LEFT_OUT)
    known = {one.id for one in ALL} | {"shopify_orders_excel"}  # one preset for both
    assert [name for name in gathered() if name not in known and f"`{name}`" not in left_out] == []
    assert known - gathered().keys() == set()


@pytest.mark.real
@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_suggests_no_word_that_no_source_shows(preset: Preset) -> None:
    """Words from memory are none: a file held them, or the vendor lists them."""
    facts = gathered()[preset.id]["status_columns"]
    for suggestion in preset.suggestions:
        column = facts[suggestion.column]
        shown = {folded(word.partition(" (")[0]) for word in column["seen"]}
        shown |= {folded(word) for word in column.get("documented", ())}
        assert {folded(word) for word in suggestion.values or {}} <= shown
        for word, event_type in (suggestion.values or {}).items():
            proposed = {folded(one): to for one, to in column["suggest"].items()}
            assert proposed[folded(word)].startswith(event_type)


@pytest.mark.real
@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_names_no_column_that_no_source_shows(preset: Preset) -> None:
    """Columns by their place, in files without a header, aside."""
    facts = gathered()[preset.id]
    shown = {folded(name) for name in facts["header"]}
    said = json.dumps(facts, ensure_ascii=False)
    mapping = preset.mapping
    rules = [*mapping.fields.values()]
    rules += [rule for one in mapping.fields_for.values() for rule in one.values()]
    columns = {name for rule in rules for name in rule.columns}
    columns |= {*preset.recognise, *mapping.key, *(one.column for one in mapping.filters)}
    columns |= {one.column for one in preset.suggestions}
    unknown = [
        name
        for name in columns
        if folded(name.replace("{n}", "1").removesuffix(" (2)")) not in shown
        and not name.startswith("column ")
        and name not in said
    ]
    assert unknown == []


ORDER = ("--type", "ECOMMERCE_ORDER_PLACED")
ONE_ITEM = ("--type", "ECOMMERCE_CART_ABANDONED", "--set", "total_items=1")
LISTENER = ("--type", "MEDIA_PLAYBACK_STOPPED", "--set", "email=ana@example.com")
CART = ("--type", "ECOMMERCE_CART_ABANDONED", "--set", "checkout_url=https://loja.example.com/c")


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "preset", "words", "events", "invalid_rows"),
    [
        ("ecommerce/shopify_orders_brl.csv", "shopify_orders", ORDER, 24, 9),
        ("ecommerce/shopify_orders_excel_semicolon.csv", "shopify_orders", ORDER, 3, 0),
        ("ecommerce/tiendanube_ventas_latin1.csv", "tiendanube_ventas", (*ORDER, "--encoding", "latin-1"), 37, 0),
        ("ecommerce/woocommerce_orders_bom.csv", "woo_webtoffee_item_rows", ("--type-by", "status"), 50, 0),
        ("encodings/woo_utf16le_bom_tab.csv", "woo_webtoffee_item_rows", ("--type-by", "status"), 50, 0),
        ("encodings/woo_cp1252_sep_line_brl.csv", "woo_webtoffee_item_rows", ("--type-by", "status"), 50, 0),
        ("carts/shopify_checkouts_export.csv", "shopify_checkouts", CART, 0, 28),
        ("carts/nuvemshop_carrinhos_latin1.csv", "nuvemshop_carrinhos", (*CART, "--encoding", "latin-1"), 1, 1),
        ("carts/shopify_api_abandoned_checkout.csv", "shopify_connector_abandoned", ONE_ITEM, 3, 0),
        ("media/spotify_streaming_history_bom.csv", "spotify_account_history", LISTENER, 1000, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_real_export_becomes_its_events_without_naming_a_column(
    file: str,
    preset: str,
    words: tuple[str, ...],
    events: int,
    invalid_rows: int,
    tmp_path: Path,
    rd_import: Command,
) -> None:
    done = rd_import(
        "check", REAL_EXPORTS / file, *words, "--json", "--keep", "--run-dir", tmp_path
    )
    assert "preview" in done.json, done.err
    assert [one["preset"] for one in done.json["preview"]["exports"]] == [preset]
    assert (len(_events(tmp_path)), done.json["preview"]["invalid_rows"]) == (events, invalid_rows)


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("calls/twilio_calls.csv", "twilio_connector_calls"),
        ("chat/intercom_conversation_history.csv", "intercom_connector_conversations"),
        ("conversions/klaviyo_event_bom.csv", "klaviyo_connector_events"),
        ("crm/sales_pipeline_a.csv", "crm_pipeline_simple"),
        ("crm/salesforce_opportunity.csv", "salesforce_connector_opportunity"),
        ("media/snowplow_media_events_a.csv", "snowplow_media"),
        ("chat/support_call_transcripts_a.csv", None),
        ("conversions/klaviyo_person.csv", None),
        ("ecommerce/magento2_orders_json_cell.csv", None),
    ],
)
def test_a_real_export_is_recognised(file: str, preset: str | None) -> None:
    [export] = find_exports(Job(exports=(str(REAL_EXPORTS / file),)))
    found = recognise(export.facts.columns)
    assert (found.id if found else None) == preset
