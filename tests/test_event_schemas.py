"""Event types are compared with a copy of the API's field catalogue, their checks with rows."""

import json
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pandera.errors
import pandera.polars
import polars as pl
import pytest

import rdstation_events
from rdstation_events import CURRENT_TYPES, EVENT_TYPES, REMOVED_TYPES
from rdstation_events.checks import EMAIL, URL, failure_code
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec

CATALOGUE = {
    entry["event_type"]: entry
    for entry in json.loads(
        Path(__file__).with_name("api_catalogue.json").read_text(encoding="utf-8")
    )["events"]
}
ECOMMERCE = [name for name in CURRENT_TYPES if name.startswith("ECOMMERCE_")]
QUALIFICATION = ["OPPORTUNITY", "SALE", "OPPORTUNITY_LOST"]
every_type = pytest.mark.parametrize("name", list(CATALOGUE))

Row = dict[str, Any]
Failure = tuple[int | None, str, str]

DTYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
    "list": pl.List(pl.String()),
}


def listed_fields(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Flatten a catalogue entry to columns, as exports name them."""
    columns: dict[str, dict[str, Any]] = {}
    for field in entry["fields"]:
        if field.get("pattern"):
            continue
        if field["name"] == "line_items":
            columns |= {f"line_items.{part['name']}": part for part in field["fields"]}
        elif field["name"] == "legal_bases":
            category, *parts = field["fields"]
            for value in category["allowed_values"]:
                columns |= {f"legal_bases.{value}.{part['name']}": part for part in parts}
        else:
            columns[field["name"]] = field
    return columns


def read_limits(field: Mapping[str, Any]) -> dict[str, int | None]:
    """Read the catalogue's `format` texts: `>= 0`, `0-100`, `1-150 chars`, `<= 255 chars`."""
    text = field["format"] or ""
    limits: dict[str, int | None] = dict.fromkeys(("minimum", "maximum", "max_length"))
    if chars := re.search(r"(\d+) chars", text):
        limits["max_length"] = int(chars[1])
    elif between := re.fullmatch(r"(\d+)-(\d+)", text):
        limits |= {"minimum": int(between[1]), "maximum": int(between[2])}
    elif least := re.search(r">= (\d+)", text):
        limits["minimum"] = int(least[1])
    elif text == "digits":
        limits["minimum"] = 0
    if field["name"] == "email":
        limits["max_length"] = 255  # the reference's "Formats and limits", third-party
    return limits | {"max_items": field["max_items"]}


def read_kind(field: Mapping[str, Any]) -> str:
    by_format = {"RFC 3339 date-time": "timestamp", "digits": "integer"}
    by_type = {"string": "text", "array<string>": "list"}
    return by_format.get(field["format"]) or by_type.get(field["type"], field["type"])


def read_example(field: Mapping[str, Any]) -> str:
    example = field["example"]
    if isinstance(example, list):
        return ";".join(example)
    return json.dumps(example) if isinstance(example, bool) else str(example)


def cell(spec: FieldSpec) -> Any:
    """Type a field's example as a cell."""
    match spec.kind:
        case "integer":
            return int(spec.example)
        case "number":
            return float(spec.example)
        case "boolean":
            return spec.example == "true"
        case "timestamp":
            return datetime.fromisoformat(spec.example)
        case "list":
            return spec.example.split(";")
        case _:
            return spec.example


def good_row(event_type: EventType) -> Row:
    return {spec.column: cell(spec) for spec in event_type.fields}


def frame(event_type: EventType, rows: Sequence[Row]) -> pl.DataFrame:
    columns = {name for row in rows for name in row}
    schema = {s.column: DTYPES[s.kind] for s in event_type.fields if s.column in columns}
    return pl.DataFrame(rows, schema=schema)


def failures(event_type: EventType, rows: pl.DataFrame) -> list[Failure]:
    """Validate as the pipeline does and list (row, column, code); whole rows, looked at one by one, agree."""
    found = _failures(event_type, rows)
    flawed = {row for row, _, _ in found}
    if whole := event_type.whole_rows_schema(rows.schema):
        assert flawed == {row for row in range(rows.height) if not passes(whole, rows[row])}
        assert passes(whole, rows) == (not found)
    else:
        assert None in flawed
    return found


def passes(schema: pandera.polars.DataFrameSchema, rows: pl.DataFrame) -> bool:
    """Tell whether a schema has nothing to say."""
    try:
        schema.validate(rows)
    except pandera.errors.SchemaError:
        return False
    return True


def _failures(event_type: EventType, rows: pl.DataFrame) -> list[Failure]:
    try:
        event_type.polars_schema(rows.columns).validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases.select("index", "column", "check").rows()
        return sorted((row, column, failure_code(check)) for row, column, check in cases)
    return []


# The catalogue, both ways


def test_the_registry_has_every_type_of_the_catalogue_and_no_other() -> None:
    removed = [name for name, entry in CATALOGUE.items() if entry["deprecated"]]
    assert list(EVENT_TYPES) == list(CATALOGUE)
    assert list(REMOVED_TYPES) == removed
    assert [*CURRENT_TYPES, *REMOVED_TYPES] == list(CATALOGUE)
    assert {name: event_type.name for name, event_type in EVENT_TYPES.items()} == {
        name: name for name in CATALOGUE
    }


def test_every_event_type_in_the_package_is_registered() -> None:
    """A new type is an entry in a file and its line in the registry; forgetting that shows."""
    found = {
        value.name
        for module in pkgutil.iter_modules(rdstation_events.__path__)
        for value in vars(import_module(f"rdstation_events.{module.name}")).values()
        if isinstance(value, EventType)
    }
    assert found == set(EVENT_TYPES)


@every_type
def test_the_columns_are_those_of_the_catalogue(name: str) -> None:
    """None is missing, none is extra but the source's own date, which is never sent."""
    specs = EVENT_TYPES[name].fields
    assert {spec.column for spec in specs if spec.sent} == set(listed_fields(CATALOGUE[name]))
    assert [spec.column for spec in specs if not spec.sent] == ["event_timestamp"]


@every_type
def test_each_field_says_what_the_catalogue_says(name: str) -> None:
    entry = CATALOGUE[name]
    specs = {spec.column: spec for spec in EVENT_TYPES[name].fields}
    for column, field in listed_fields(entry).items():
        spec = specs[column]
        said = {
            "kind": spec.kind,
            "as_text": spec.as_text,
            "format": spec.format,
            "options": list(spec.options),
            "suggested": list(spec.suggested),
            "example": spec.example,
            "trust": spec.trust,
            "minimum": spec.minimum,
            "maximum": spec.maximum,
            "max_length": spec.max_length,
            "max_items": spec.max_items,
        }
        options = field["allowed_values"] or []
        if column.endswith("data_processing.status"):
            options = entry["legal_bases"]["status"]["data_processing"]
        format_word = (field["format"] or "").replace("http(s) url", "http-url")
        assert said == {
            "kind": read_kind(field),
            "as_text": field["format"] == "digits",
            "format": format_word if format_word in {"email", "phone", "url", "http-url"} else None,
            "options": options,
            "suggested": field.get("suggested_values") or [],
            "example": read_example(field),
            "trust": field["trust"],
            **read_limits(field),
        }, column


@every_type
def test_each_field_is_required_where_the_catalogue_requires_it(name: str) -> None:
    """Parts of an object are required with the object, since the object itself is optional."""
    specs = {spec.column: spec for spec in EVENT_TYPES[name].fields}
    for column, field in listed_fields(CATALOGUE[name]).items():
        owner = column.rpartition(".")[0]
        needed = field["required"] is True or (
            field["required"] == "when category is communications"
            and owner == "legal_bases.communications"
        )
        expected = (needed and not owner, owner if needed and owner else None)
        assert (specs[column].required, specs[column].required_with) == expected, column


@every_type
def test_inferred_fields_are_marked_as_such(name: str) -> None:
    specs = {spec.column: spec for spec in EVENT_TYPES[name].fields}
    for column, field in listed_fields(CATALOGUE[name]).items():
        if not column.startswith("legal_bases."):  # the catalogue marks them by trust alone
            assert specs[column].inferred is bool(field.get("inferred")), column
    assert EVENT_TYPES[name].inferred is (
        name in {"ECOMMERCE_ORDER_PLACED", "ECOMMERCE_ORDER_REFUNDED"}
    )


@every_type
def test_each_type_says_what_the_catalogue_says(name: str) -> None:
    event_type, entry = EVENT_TYPES[name], CATALOGUE[name]
    line_items = [f["max_items"] for f in entry["fields"] if f["name"] == "line_items"]
    assert event_type.family == entry["family"]
    assert event_type.summary == entry["summary"]
    assert event_type.creates_contact is bool(entry["creates_contact"])
    assert event_type.takes_custom_fields is bool(entry["allows_custom_fields"])
    assert event_type.account_requirement == entry["account_requirement"]
    assert event_type.max_line_items == (line_items[0] if line_items else None)
    assert set(event_type.legal_base_categories) == set(entry["legal_bases"]["send"])


@every_type
def test_every_field_has_a_meaning_an_example_and_a_source(name: str) -> None:
    for spec in EVENT_TYPES[name].fields:
        assert all((spec.description, spec.example, spec.source)), spec


# What the tables do not say


@pytest.mark.parametrize(
    ("names", "categories"),
    [
        (ECOMMERCE, ("communications",)),
        (QUALIFICATION, ()),
        (
            [
                "CONVERSION",
                "CHAT_STARTED",
                "CHAT_FINISHED",
                "CALL_FINISHED",
                "MEDIA_PLAYBACK_STARTED",
                "MEDIA_PLAYBACK_STOPPED",
                *REMOVED_TYPES,
            ],
            ("data_processing", "communications"),
        ),
    ],
)
def test_data_processing_is_a_legal_base_only_where_a_field_table_says_so(
    names: list[str], categories: tuple[str, ...]
) -> None:
    for name in names:
        assert EVENT_TYPES[name].legal_base_categories == categories, name


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (ECOMMERCE, ("identifier",)),
        (
            ["CALL_FINISHED"],
            ("email", "call_started_at", "call_from_number", "call_record"),
        ),
        (["MEDIA_PLAYBACK_STARTED"], ("email", "media_identifier", "event_timestamp")),
        (
            ["MEDIA_PLAYBACK_STOPPED"],
            (
                "email",
                "media_identifier",
                "media_user_interaction_date_timestamp",
                "event_timestamp",
            ),
        ),
        (["CONVERSION"], ("email", "conversion_identifier", "event_timestamp")),
        (["CHAT_STARTED", "CHAT_FINISHED"], ("email", "chat_subject", "event_timestamp")),
        (QUALIFICATION, ("email", "funnel_name", "event_timestamp")),
        (["ORDER_PLACED", "ORDER_PLACED_ITEM"], ("cf_order_id",)),
        (["CART_ABANDONED", "CART_ABANDONED_ITEM"], ("cf_cart_id",)),
    ],
)
def test_what_makes_an_event_unique(names: list[str], columns: tuple[str, ...]) -> None:
    for name in names:
        assert EVENT_TYPES[name].identity == columns, name


def test_only_types_with_an_id_of_their_own_have_a_strong_identity() -> None:
    strong = [name for name, t in EVENT_TYPES.items() if not t.weak_identity]
    assert strong == [*ECOMMERCE, *REMOVED_TYPES]


def test_rows_of_one_order_form_one_event() -> None:
    assert [name for name, t in EVENT_TYPES.items() if t.grouped_by] == ECOMMERCE
    assert {EVENT_TYPES[name].grouped_by for name in ECOMMERCE} == {"identifier"}


def test_qualification_events_need_a_contact() -> None:
    assert [name for name, t in EVENT_TYPES.items() if t.needs_contact] == QUALIFICATION


@every_type
def test_a_payload_begins_with_the_email(name: str) -> None:
    """The encoder begins an object with a key whose value is never null."""
    assert EVENT_TYPES[name].fields[0].column == "email"
    assert EVENT_TYPES[name].fields[0].required


@every_type
def test_parts_of_an_object_stand_together(name: str) -> None:
    columns = [spec.column for spec in EVENT_TYPES[name].fields]
    for owner in ("line_items.", "legal_bases."):
        places = [place for place, column in enumerate(columns) if column.startswith(owner)]
        assert places == list(range(min(places, default=0), max(places, default=-1) + 1))


def test_an_item_begins_with_its_id_and_a_legal_base_with_its_type() -> None:
    columns = [spec.column for spec in EVENT_TYPES["ECOMMERCE_ORDER_PAID"].fields]
    assert [column for column in columns if "." in column] == [
        "line_items.product_id",
        "line_items.product_title",
        "line_items.price",
        "line_items.quantity",
        "line_items.product_url",
        "line_items.variant_id",
        "line_items.variant_title",
        "line_items.sku",
        "line_items.image_url",
        "line_items.categories",
        "legal_bases.communications.type",
        "legal_bases.communications.status",
    ]


@pytest.mark.parametrize(
    ("name", "successor", "renames", "still_needed"),
    [
        (
            "ORDER_PLACED",
            "ECOMMERCE_ORDER_PLACED",
            {
                "identifier": "cf_order_id",
                "total_items": "cf_order_total_items",
                "price": "cf_order_payment_amount",
                "payment_methods": "cf_order_payment_method",
            },
            {"currency"},
        ),
        (
            "ORDER_PLACED_ITEM",
            "ECOMMERCE_ORDER_PLACED",
            {
                "identifier": "cf_order_id",
                "line_items.product_id": "cf_order_product_id",
                "line_items.sku": "cf_order_product_sku",
            },
            {"currency", "price", "total_items"}
            | {"line_items.product_title", "line_items.price", "line_items.quantity"},
        ),
        (
            "CART_ABANDONED",
            "ECOMMERCE_CART_ABANDONED",
            {"identifier": "cf_cart_id", "total_items": "cf_cart_total_items"},
            {"checkout_url", "currency", "price"},
        ),
        (
            "CART_ABANDONED_ITEM",
            "ECOMMERCE_CART_ABANDONED",
            {
                "identifier": "cf_cart_id",
                "line_items.product_id": "cf_cart_product_id",
                "line_items.sku": "cf_cart_product_sku",
            },
            {"checkout_url", "currency", "price", "total_items"}
            | {"line_items.product_title", "line_items.price", "line_items.quantity"},
        ),
    ],
)
def test_a_removed_type_knows_the_way_to_its_successor(
    name: str, successor: str, renames: dict[str, str], still_needed: set[str]
) -> None:
    removal = EVENT_TYPES[name].removed
    deprecation = CATALOGUE[name]["deprecation"]
    assert removal is not None
    assert removal.accepted_until == deprecation["accepted_until"]
    assert removal.successor == deprecation["replacement"] == REMOVED_TYPES[name] == successor
    assert removal.renames == renames
    assert set(removal.still_needed) == still_needed
    for new, old in renames.items():
        assert EVENT_TYPES[successor].field(new), new
        assert EVENT_TYPES[name].field(old), old


def test_current_types_are_not_removed() -> None:
    assert [name for name in CURRENT_TYPES if EVENT_TYPES[name].removed] == []


def test_custom_fields_belong_to_conversions_only() -> None:
    conversion, chat = EVENT_TYPES["CONVERSION"], EVENT_TYPES["CHAT_STARTED"]
    assert conversion.takes("cf_segmento")
    assert not conversion.takes("cf_Segmento")
    assert not conversion.takes("segmento")
    assert not chat.takes("cf_segmento")
    assert chat.takes("cf_chat_type")


# Validation


@every_type
def test_a_row_of_examples_is_valid(name: str) -> None:
    event_type = EVENT_TYPES[name]
    assert failures(event_type, frame(event_type, [good_row(event_type)])) == []


@every_type
def test_a_row_of_required_fields_is_valid(name: str) -> None:
    """Optional columns may be absent, and where they are present their cells may be empty."""
    event_type = EVENT_TYPES[name]
    row = {spec.column: cell(spec) for spec in event_type.fields if spec.required}
    empty = {spec.column: None for spec in event_type.fields if not spec.required}
    assert failures(event_type, frame(event_type, [row])) == []
    assert failures(event_type, frame(event_type, [row | empty])) == []


@every_type
def test_no_rows_are_valid_rows(name: str) -> None:
    event_type = EVENT_TYPES[name]
    assert failures(event_type, frame(event_type, [good_row(event_type)]).clear()) == []


def bad_cells(spec: FieldSpec) -> list[tuple[Any, str]]:
    """List flaws that a cell of the field can have, each with its code."""
    nan_code = "REQUIRED" if spec.required else "NOT_A_NUMBER"
    flaws = [
        (spec.required, None, "REQUIRED"),
        (spec.required_with, None, "REQUIRED_WITH"),
        (spec.format == "email", "ana.souza@", "INVALID_EMAIL"),
        (spec.format == "http-url", "loja.example.com", "INVALID_URL"),
        (spec.options, "nonsense", "NOT_AN_OPTION"),
        (spec.kind == "number", float("inf"), "NOT_A_NUMBER"),
        (spec.kind == "number", float("-inf"), "NOT_A_NUMBER"),
        (spec.kind == "number", float("nan"), nan_code),
        (spec.minimum is not None, (spec.minimum or 0) - 1, "BELOW_MINIMUM"),
        (spec.maximum is not None, (spec.maximum or 0) + 1, "ABOVE_MAXIMUM"),
        (spec.max_length, "x" * ((spec.max_length or 0) + 1), "TOO_LONG"),
        (spec.max_items, ["x"] * ((spec.max_items or 0) + 1), "TOO_MANY_VALUES"),
    ]
    return [(value, code) for applies, value, code in flaws if applies]


@every_type
def test_every_flaw_is_found_in_its_row_once(name: str) -> None:
    """Each flaw of each field in a row of its own, good rows and empty cells between them."""
    event_type = EVENT_TYPES[name]
    good = good_row(event_type)
    sparse = {spec.column: good[spec.column] for spec in event_type.fields if spec.required}
    rows: list[Row] = []
    expected: list[Failure] = []
    for spec in event_type.fields:
        for value, code in bad_cells(spec):
            rows += [good, dict.fromkeys(good) | sparse, good | {spec.column: value}]
            expected.append((len(rows) - 1, spec.column, code))
    assert failures(event_type, frame(event_type, rows)) == sorted(expected)


def test_rows_with_several_flaws_report_each_of_them() -> None:
    event_type = EVENT_TYPES["ECOMMERCE_ORDER_PLACED"]
    good = good_row(event_type)
    rows = [
        good,
        good | {"email": None, "currency": "REAL", "line_items.quantity": 0},
        good | {"email": "ana", "price": -0.01, "line_items.product_id": None},
        good,
        good
        | {"payment_methods": ["x"] * 6, "line_items.product_id": None}
        | {"line_items.price": None, "legal_bases.communications.status": None},
    ]
    assert failures(event_type, frame(event_type, rows)) == [
        (1, "currency", "NOT_AN_OPTION"),
        (1, "email", "REQUIRED"),
        (1, "line_items.quantity", "BELOW_MINIMUM"),
        (2, "email", "INVALID_EMAIL"),
        (2, "line_items.product_id", "REQUIRED_WITH"),
        (2, "price", "BELOW_MINIMUM"),
        (4, "legal_bases.communications.status", "REQUIRED_WITH"),
        (4, "line_items.price", "REQUIRED_WITH"),
        (4, "line_items.product_id", "REQUIRED_WITH"),
        (4, "payment_methods", "TOO_MANY_VALUES"),
    ]


def test_a_cell_with_two_flaws_is_reported_once() -> None:
    """An e-mail that is no e-mail and too long is one rejection, not two."""
    event_type = EVENT_TYPES["OPPORTUNITY"]
    rows = frame(event_type, [{"email": "x" * 300, "funnel_name": "default"}])
    assert failures(event_type, rows) == [(0, "email", "TOO_LONG")]


def test_limits_are_legal_values() -> None:
    event_type = EVENT_TYPES["ECOMMERCE_CART_ABANDONED"]
    good = good_row(event_type)
    rows = [
        good | {"price": 0.0, "total_items": 1, "line_items.price": 0.0},
        good | {"email": "a" * 243 + "@example.com", "line_items.product_id": "é" * 150},
        good | {"line_items.categories": ["x"] * 10, "line_items.product_title": "ç" * 255},
    ]
    assert failures(event_type, frame(event_type, rows)) == []


def test_a_file_without_items_needs_none() -> None:
    event_type = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
    row = {"email": "ana@example.com", "identifier": "7", "currency": "BRL"}
    rows = frame(event_type, [row | {"price": 1.5, "total_items": 1}])
    needed = ("email", "identifier", "currency", "price", "total_items")
    assert event_type.needed(rows.columns) == needed
    assert failures(event_type, rows) == []


def test_a_file_with_some_item_columns_needs_the_others() -> None:
    """What is missing altogether is reported once, by column; added as nulls, row by row."""
    event_type = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
    whole = good_row(event_type)
    row = {name: cell for name, cell in whole.items() if not name.startswith("line_items.")}
    rows = frame(event_type, [row | {"line_items.sku": "S"}, row | {"line_items.sku": None}])
    missing = [name for name in event_type.needed(rows.columns) if name not in rows.columns]
    assert missing == [
        "line_items.product_id",
        "line_items.product_title",
        "line_items.price",
        "line_items.quantity",
    ]
    assert {(row, code) for row, _, code in failures(event_type, rows)} == {(None, "REQUIRED")}
    nulls = {spec.column: DTYPES[spec.kind] for spec in event_type.fields}
    filled = rows.with_columns(pl.lit(None, nulls[name]).alias(name) for name in missing)
    assert failures(event_type, filled) == sorted((0, name, "REQUIRED_WITH") for name in missing)


def test_a_missing_required_column_is_named() -> None:
    event_type = EVENT_TYPES["SALE"]
    rows = frame(event_type, [{"email": "ana@example.com"}])
    with pytest.raises(pandera.errors.SchemaErrors) as caught:
        event_type.polars_schema(rows.columns).validate(rows, lazy=True)
    case = caught.value.failure_cases.row(0, named=True)
    assert (case["failure_case"], failure_code(case["check"])) == ("funnel_name", "REQUIRED")


def test_a_column_of_another_type_is_the_callers_mistake() -> None:
    event_type = EVENT_TYPES["OPPORTUNITY"]
    rows = pl.DataFrame({"email": ["ana@example.com"], "funnel_name": [1]})
    assert failures(event_type, rows) == [(None, "funnel_name", "WRONG_TYPE")]


def test_unknown_checks_have_no_code() -> None:
    with pytest.raises(ValueError, match="some_check"):
        failure_code("some_check")


def test_the_models_check_rows_by_themselves() -> None:
    """`CallRows.validate(frame)` needs nothing of ours around it."""
    event_type = EVENT_TYPES["CALL_FINISHED"]
    rows = frame(event_type, [good_row(event_type) | {"call_duration": -4}])
    with pytest.raises(pandera.errors.SchemaErrors, match="BELOW_MINIMUM"):
        event_type.rows.validate(rows, lazy=True)


def test_columns_that_are_not_named_are_not_checked() -> None:
    event_type = EVENT_TYPES["SALE"]
    row: Row = {"email": "ana@example.com", "funnel_name": "default", "value": -1.0}
    rows = frame(event_type, [row])
    event_type.polars_schema(["email"]).validate(rows, lazy=True)
    assert failures(event_type, rows) == [(0, "value", "BELOW_MINIMUM")]


def test_timestamps_are_moments_in_utc() -> None:
    spec = EVENT_TYPES["CALL_FINISHED"].field("call_started_at")
    assert spec is not None
    assert spec.kind == "timestamp"
    schema = EVENT_TYPES["CALL_FINISHED"].polars_schema()
    assert schema.columns["call_started_at"].dtype.type == pl.Datetime("us", "UTC")
    assert cell(spec) == datetime(2026, 3, 15, 14, 53, 42, 928_000, UTC)


# Patterns


@pytest.mark.parametrize(
    ("address", "is_legal"),
    [
        ("ana.souza@example.com", True),
        ("ana+loja_1@sub.example.com.br", True),
        ("o'neil-x/y=z@ex-ample.museum", True),
        ("josé@exemplo.com", True),
        ("ana@exemplo-ação.com.br", True),
        ("用户@例子.公司", True),
        ("ana@xn--e1afmkfd.xn--p1ai", True),
        ("1@2.co", True),
        ("ana", False),
        ("@example.com", False),
        ("ana@", False),
        ("ana@example", False),
        ("ana@example.c", False),
        ("ana@example.123", False),
        ("ana@@example.com", False),
        ("ana@b@example.com", False),
        ("ana souza@example.com", False),
        ("ana@exa mple.com", False),
        (".ana@example.com", False),
        ("ana.@example.com", False),
        ("ana..souza@example.com", False),
        ("ana@.example.com", False),
        ("ana@example..com", False),
        ("ana@example.com.", False),
        ("ana@-example.com", False),
        ("ana@example-.com", False),
        ("ana@exam_ple.com", False),
        ("ana,souza@example.com", False),
        ("ana@example.com;bia@example.com", False),
        ("Ana <ana@example.com>", False),
        ("mailto:ana@example.com", False),
        ("ana@example.com\u200b", False),
        ("\ufeffana@example.com", False),
        ("ana\u00a0@example.com", False),
        ("ana\x00@example.com", False),
        ("ana@[127.0.0.1]", False),
    ],
)
def test_an_email_address(address: str, *, is_legal: bool) -> None:
    """The pattern means the same to polars, which validates, and to Python."""
    assert (re.fullmatch(EMAIL, address) is not None) is is_legal
    assert pl.Series([address]).str.contains(EMAIL).to_list() == [is_legal]


@pytest.mark.parametrize(
    ("address", "is_legal"),
    [
        ("https://loja.example.com/p/1?a=b#c", True),
        ("http://localhost", True),
        ("loja.example.com", False),
        ("ftp://loja.example.com", False),
        ("https://", False),
        ("https://loja example.com", False),
    ],
)
def test_a_url(address: str, *, is_legal: bool) -> None:
    assert (re.fullmatch(URL, address) is not None) is is_legal
    assert pl.Series([address]).str.contains(URL).to_list() == [is_legal]


# The package


def test_importing_the_package_imports_neither_pandera_nor_polars() -> None:
    """`--help` and shell completion need the names of the types within 0.2 s."""
    code = (
        "import sys, rdstation_events, rdstation_events.api_facts\n"
        "names = rdstation_events.CURRENT_TYPES, rdstation_events.REMOVED_TYPES\n"
        "print([name for name in ('pandera', 'polars', 'pandas') if name in sys.modules])\n"
        "from rdstation_events import EVENT_TYPES\n"
        "print(len(EVENT_TYPES), 'pandera' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[]", "21 True"]


def test_the_package_has_no_other_lazy_names() -> None:
    with pytest.raises(AttributeError, match="EVENT_TIPES"):
        rdstation_events.__getattr__("EVENT_TIPES")


@every_type
def test_event_types_travel_between_processes(name: str) -> None:
    """Stages run in workers, which get their event type pickled."""
    assert pickle.loads(pickle.dumps(EVENT_TYPES[name])) == EVENT_TYPES[name]  # noqa: S301
