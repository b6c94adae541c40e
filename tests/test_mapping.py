"""Valid rows become payloads; the rows of an order become its items."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from generated import Cells, sifted
from rd_import.mapping import map_row, map_rows
from rd_import.values import EVENT, ROW
from rdstation_events import EVENT_TYPES
from rdstation_events.event_type import EventType

PAID = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
CANCELLED = EVENT_TYPES["ECOMMERCE_ORDER_CANCELLED"]
CONVERSION = EVENT_TYPES["CONVERSION"]
CALL = EVENT_TYPES["CALL_FINISHED"]

Problem = tuple[int, str, str, str | None, str | None, bool]


def item(sku: str, quantity: int = 1) -> Cells:
    return {
        "line_items.product_id": sku,
        "line_items.product_title": f"Produto {sku}",
        "line_items.price": 5.0,
        "line_items.quantity": quantity,
    }


def order(identifier: str = "1", **cells: Any) -> Cells:
    return {
        "email": "ana@example.com",
        "identifier": identifier,
        "currency": "BRL",
        "price": 10.0,
        "total_items": 2,
        **cells,
    }


def mapped(
    event_type: EventType, rows: Sequence[Cells], events: Sequence[int]
) -> tuple[list[dict[str, Any]], list[Problem], pl.DataFrame]:
    after = map_rows(sifted(event_type, rows, events), event_type)
    assert after.kept.payloads.height == after.kept.facts.height
    return after.kept.payloads.to_dicts(), after.problems.rows(), after.kept.facts


# --- the plain definition -------------------------------------------------------------------------


def test_a_row_maps_to_the_payload_of_the_vendors_example() -> None:
    cells: Cells = {
        "email": "ana@example.com",
        "conversion_identifier": "loja",
        "tags": ["a", "b"],
        "available_for_mailing": True,
        "cf_shoe_size": "38",
        "legal_bases.communications.type": "consent",
        "legal_bases.communications.status": "granted",
        "legal_bases.data_processing.type": "legitimate_interest",
        "legal_bases.data_processing.status": None,
        "name": None,
        "event_timestamp": datetime(2026, 3, 15, tzinfo=UTC),
    }
    assert map_row(cells, CONVERSION) == {
        "email": "ana@example.com",
        "conversion_identifier": "loja",
        "tags": ["a", "b"],
        "available_for_mailing": True,
        "cf_shoe_size": "38",
        "legal_bases": [
            {"category": "data_processing", "type": "legitimate_interest"},
            {"category": "communications", "type": "consent", "status": "granted"},
        ],
    }


def test_a_duration_goes_as_text_and_a_time_as_rfc_3339() -> None:
    """The API wants `"58"`, and `2019-03-15T15:00:00.05Z` in the field table's example."""
    cells = {
        "email": "ana@example.com",
        "call_duration": 58,
        "call_started_at": datetime(2019, 3, 15, 15, 0, 0, 50_000, tzinfo=UTC),
    }
    assert map_row(cells, CALL) == {
        "email": "ana@example.com",
        "call_duration": "58",
        "call_started_at": "2019-03-15T15:00:00.05Z",
    }


def test_an_item_of_one_row_is_a_list_of_one() -> None:
    payload = map_row(order() | item("A"), PAID)
    assert payload["line_items"] == [
        {"product_id": "A", "product_title": "Produto A", "price": 5.0, "quantity": 1}
    ]


def test_a_custom_field_of_another_type_is_not_sent() -> None:
    assert map_row({"email": "ana@example.com", "cf_x": "1"}, CANCELLED) == {
        "email": "ana@example.com"
    }


# --- several rows of one event --------------------------------------------------------------------


def test_rows_of_one_order_become_its_items_in_file_order() -> None:
    rows = [order() | item("A"), order() | item("B", 3), order("2") | item("C")]
    payloads, problems, facts = mapped(PAID, rows, [0, 0, 1])
    assert problems == []
    assert [payload["identifier"] for payload in payloads] == ["1", "2"]
    assert [[one["product_id"] for one in p["line_items"]] for p in payloads] == [["A", "B"], ["C"]]
    assert payloads[0]["line_items"][1]["quantity"] == 3
    assert facts.select(ROW, EVENT).rows() == [(0, 0), (2, 1)]


def test_a_row_without_an_item_adds_none() -> None:
    """Shops write a row for the order itself, or for its freight."""
    none = dict.fromkeys(item("A"))
    payloads, _, _ = mapped(PAID, [order() | none, order() | item("A")], [0, 0])
    assert [one["product_id"] for one in payloads[0]["line_items"]] == ["A"]
    payloads, _, _ = mapped(PAID, [order() | none, order("2") | item("B")], [0, 1])
    assert payloads[0]["line_items"] is None


def test_equal_rows_of_an_event_without_items_are_one_event() -> None:
    row: Cells = {"email": "ana@example.com", "identifier": "1", "cancel_reason": "fraud"}
    payloads, problems, _ = mapped(CANCELLED, [row, row], [0, 0])
    assert payloads == [row]
    assert problems == []


def test_the_sources_own_date_may_differ_from_row_to_row() -> None:
    """It is never sent; the event's is that of its first row."""
    first, second = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    rows = [
        order(event_timestamp=first) | item("A"),
        order(event_timestamp=second) | item("B"),
    ]
    _, problems, facts = mapped(PAID, rows, [0, 0])
    assert problems == []
    assert facts["event_timestamp"].to_list() == [first]


def test_rows_that_contradict_each_other_take_the_event_and_name_its_first_row() -> None:
    rows = [
        order("9") | item("Z"),
        order() | item("A"),
        order() | item("B"),
        order(price=11.0) | item("C"),
    ]
    payloads, problems, _ = mapped(PAID, rows, [0, 1, 1, 1])
    assert [payload["identifier"] for payload in payloads] == ["9"]
    assert problems == [(3, "CONFLICTING_ROWS", "price", "11.0", "1", True)]


def test_each_field_that_contradicts_is_named() -> None:
    rows = [
        order(payment_methods=["pix"], name="Ana") | item("A"),
        order(payment_methods=["pix", "card"], name="Rui") | item("B"),
    ]
    payloads, problems, _ = mapped(PAID, rows, [0, 0])
    assert payloads == []
    assert sorted(problems) == [
        (1, "CONFLICTING_ROWS", "name", "Rui", "0", True),
        (1, "CONFLICTING_ROWS", "payment_methods", "pix;card", "0", True),
    ]


def test_a_cell_that_one_row_has_and_another_lacks_is_a_contradiction_here() -> None:
    """`gather` has let follow-up rows inherit before; what still differs, differs."""
    _, problems, _ = mapped(PAID, [order(name="Ana"), order(name=None)], [0, 0])
    assert problems == [(1, "CONFLICTING_ROWS", "name", None, "0", True)]


def test_twenty_items_pass() -> None:
    rows = [order() | item(f"P{number}") for number in range(20)]
    payloads, problems, _ = mapped(PAID, rows, [0] * 20)
    assert problems == []
    assert len(payloads[0]["line_items"]) == 20


@pytest.mark.parametrize("items", [21, 25])
def test_twenty_one_items_are_too_many(items: int) -> None:
    """The first row too many is named, with how many there are; none is left out in silence."""
    rows = [order() | item(f"P{number}") for number in range(items)]
    rows.append(order("2") | item("A"))
    payloads, problems, _ = mapped(PAID, rows, [0] * items + [1])
    assert [payload["identifier"] for payload in payloads] == ["2"]
    assert problems == [(20, "TOO_MANY_ITEMS", "line_items", str(items), "20", True)]


def test_rows_without_an_item_do_not_count_as_items() -> None:
    none = dict.fromkeys(item("A"))
    rows = [order() | none, *(order() | item(f"P{number}") for number in range(20)), order() | none]
    _, problems, _ = mapped(PAID, rows, [0] * 22)
    assert problems == []


def test_no_event_is_left_of_rows_that_are_all_wrong() -> None:
    payloads, problems, facts = mapped(PAID, [order(price=1.0), order(price=2.0)], [0, 0])
    assert payloads == []
    assert facts.is_empty()
    assert len(problems) == 1
