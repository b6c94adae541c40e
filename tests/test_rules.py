"""What a rule of a mapping makes of the cells of a file."""

import polars as pl
import pytest

from rd_import.feed import in_common, match_columns
from rd_import.mapping_file import Mapping, parse_mapping
from rd_import.match import match
from rd_import.rules import texts
from rd_import.values import ROW, ExportFacts, RowGroup
from rdstation_events import EVENT_TYPES

Cells = dict[str, list[str | None]]


def mapped(rule: str, cells: Cells) -> list[str | None]:
    """Apply a rule written as in a mapping file."""
    found = parse_mapping(f"[fields]\nname = {rule}\n", "x.toml").fields["name"]
    table = pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
    return texts(table, found).to_list()


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ('"A"', {"A": [" x ", "", None]}, ["x", None, None]),
        ('{ value = "BRL" }', {"A": ["x", None]}, ["BRL", "BRL"]),
        ('{ column = "A", default = "SP" }', {"A": ["RJ", " "]}, ["RJ", "SP"]),
        ('{ first_of = ["A", "B"] }', {"A": ["a", "", None], "B": ["b", "c", ""]}, ["a", "c", None]),
        ('{ join = ["A", "B"] }', {"A": ["Ana", "Ana", ""], "B": ["Souza", "", ""]}, ["Ana Souza", "Ana", None]),
        ('{ join = ["A", "B"], with = "T" }', {"A": ["2026-01-02"], "B": ["10:00"]}, ["2026-01-02T10:00"]),
        ('{ column = "A", strip_prefix = "#" }', {"A": ["#1001", "1001", "#"]}, ["1001", "1001", None]),
        (r"""{ column = "A", extract = '\(([^)]+)\)' }""", {"A": ["Ana (+5511)", "Ana"]}, ["+5511", None]),
        ('{ column = "A", values = { "Cartão" = "Card" } }', {"A": ["CARTAO", "pix"]}, ["Card", "pix"]),
        ('{ column = "A", values = { done = "yes" }, other = "no" }', {"A": ["done", "x", ""]}, ["yes", "no", None]),
        ('{ column = "A", split = "," }', {"A": ['pix, "visa;1"', ",", None]}, ['["pix", "visa;1"]', None, None]),
        ('{ column = "A", split = "/", values = { c = "Card" } }', {"A": ["c/pix"]}, ['["Card", "pix"]']),
        ('{ json = "A", path = "a.b" }', {"A": ['{"a":{"b":1.50}}', "no", '{"a":[]}']}, ["1.50", None, None]),
        ('{ json = "A", path = "0.name" }', {"A": ['[{"name":"x"}]']}, ["x"]),
        ('{ json = "A", path = "tags[]" }', {"A": ['{"tags":["a","b"]}']}, ['["a", "b"]']),
        ('{ column = "A", when = { B = "sim" } }', {"A": ["1", "2", "3"], "B": [" SIM", "não", ""]}, ["1", None, None]),
        ('{ first_of = [{ column = "A", when = { B = "x" } }, "B"] }', {"A": ["1", "2"], "B": ["x", "y"]}, ["1", "y"]),
        ('{ first_of = [{ join = ["A", "B"] }, { value = "?" }] }', {"A": ["1", ""], "B": ["2", ""]}, ["1 2", "?"]),
    ],
)  # fmt: skip
def test_a_rule_makes_this_text(rule: str, cells: Cells, expected: list[str | None]) -> None:
    assert mapped(rule, cells) == expected


ITEMS = ("email", "identifier", "currency", "price", "total_items")


def order_lines(mapping: str, extra: Cells) -> pl.DataFrame:
    cells: Cells = {name: ["a@x.com", "b@x.com"] for name in ITEMS} | extra
    said = parse_mapping(mapping, "x.toml")
    facts = ExportFacts("orders.csv", "csv", tuple(cells))
    event_type = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
    [matching] = in_common([match_columns(facts, [event_type], said, complete=False)])
    rows = pl.Series(ROW, [0, 1], dtype=pl.UInt32)
    return match(RowGroup(pl.DataFrame(cells).with_columns(rows)), matching).table


def test_numbered_columns_become_one_line_per_item() -> None:
    """A wide export holds the items side by side; an order without items stays one line."""
    table = order_lines(
        '[fields]\n"line_items.sku" = "Item {n} SKU"\n"line_items.quantity" = { value = "1" }\n',
        {"Item 1 SKU": ["A", ""], "Item 2 SKU": ["", ""], "Item 10 SKU": ["C", ""]},
    )
    assert table.select(ROW, "line_items.sku", "line_items.quantity").rows() == [
        (0, "A", "1"),
        (0, "C", "1"),
        (1, None, None),
    ]


def test_a_list_in_a_json_cell_becomes_one_line_per_item() -> None:
    table = order_lines(
        '[fields]\n"line_items.sku" = { json = "items", path = "lines[].sku" }\n'
        '"line_items.price" = { json = "items", path = "lines[].price.value" }\n',
        {
            "items": [
                '{"lines":[{"sku":"A","price":{"value":10.50}},{"sku":"B"}]}',
                "not json",
            ]
        },
    )
    assert table.select(ROW, "line_items.sku", "line_items.price").rows() == [
        (0, "A", "10.50"),
        (0, "B", None),
        (1, None, None),
    ]


def test_types_that_are_fed_otherwise_have_columns_of_their_own() -> None:
    facts = ExportFacts("deals.csv", "csv", ("email", "stage", "won", "made"))
    said = parse_mapping(
        '[fields]\nfunnel_name = { value = "default" }\n[fields_for.SALE]\nevent_timestamp = "won"\n'
        '[fields_for.OPPORTUNITY]\nevent_timestamp = "made"\n'
        '[type_by]\ncolumn = "stage"\nvalues = { Ganho = "SALE", Aberto = "OPPORTUNITY" }\n',
        "x.toml",
    )
    types = [EVENT_TYPES["SALE"], EVENT_TYPES["OPPORTUNITY"]]
    [matching] = in_common([match_columns(facts, types, said)])
    assert matching.view("SALE")["event_timestamp"] == "event_timestamp@SALE"
    assert matching.view("SALE")["email"] == "email"
    table = match(
        RowGroup(
            pl.DataFrame(
                {"email": ["a@x.com"], "stage": ["GANHO"], "won": ["1"], "made": ["2"]}
            ).with_columns(pl.Series(ROW, [0], dtype=pl.UInt32))
        ),
        matching,
    ).table
    assert table["#type"].to_list() == ["SALE"]
    assert table["event_timestamp@SALE"].to_list() == ["1"]
    assert table["event_timestamp@OPPORTUNITY"].to_list() == ["2"]


def test_an_empty_mapping_feeds_columns_that_bear_a_fields_name() -> None:
    facts = ExportFacts("deals.csv", "csv", ("email", "funnel_name"))
    matching = match_columns(facts, [EVENT_TYPES["SALE"]], Mapping())
    assert set(matching.how.values()) == {"name"}
