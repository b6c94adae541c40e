"""An event goes only if all its rows are valid, and every flaw is named once."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generated import CURRENT, Cells, frame_of, sifted, valid_rows
from rd_import.validate import sift, validate
from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW, RowGroup, Sifted
from rdstation_events import EVENT_TYPES
from rdstation_events.event_type import EventType

PAID = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
SALE = EVENT_TYPES["SALE"]
CALL = EVENT_TYPES["CALL_FINISHED"]
CONVERSION = EVENT_TYPES["CONVERSION"]

GOOD_ORDER: Cells = {
    "email": "ana@example.com",
    "identifier": "1",
    "currency": "BRL",
    "price": 10.0,
    "total_items": 1,
    "line_items.product_id": "P",
    "line_items.product_title": "Camiseta",
    "line_items.price": 10.0,
    "line_items.quantity": 1,
}


def found(
    event_type: EventType,
    rows: Sequence[Cells],
    events: Sequence[int] | None = None,
    known: Sequence[tuple[Any, ...]] = (),
) -> tuple[list[int], list[tuple[int, str, str, str | None, str | None]]]:
    """Validate rows; give those kept and the problems that are new."""
    table = frame_of(event_type, rows, events or range(len(rows)))
    before = pl.DataFrame(known, schema=PROBLEM_SCHEMA, orient="row")
    after = validate(Sifted(RowGroup(table), before), event_type)
    assert after.problems.schema == PROBLEM_SCHEMA
    assert after.problems.head(before.height).equals(before), "problems of typing are kept"
    new = after.problems.slice(before.height)
    assert new["fatal"].all()
    return after.kept.table[ROW].to_list(), new.select(
        ROW, "code", "field", "value", "limit"
    ).rows()


@pytest.mark.parametrize("event_type", CURRENT, ids=lambda one: one.name)
@given(st.data())
@settings(max_examples=10)
def test_valid_rows_pass_untouched(event_type: EventType, data: st.DataObject) -> None:
    rows = data.draw(st.lists(valid_rows(event_type), min_size=1, max_size=3))
    given_rows = sifted(event_type, rows, range(len(rows)))
    after = validate(given_rows, event_type)
    assert after.problems.is_empty(), after.problems.to_dicts()
    assert after.kept.table.equals(given_rows.kept.table)


bad_cells = st.sampled_from(
    (
        {},
        {},
        {"email": "no e-mail"},
        {"price": -1.0},
        {"currency": "GBP"},
        {"line_items.quantity": 0},
        {"identifier": None},
    )
)


@given(st.lists(st.tuples(st.integers(0, 4), bad_cells), min_size=1, max_size=12))
def test_kept_and_rejected_rows_add_up_to_the_input(drawn: list[tuple[int, Cells]]) -> None:
    """No row disappears between the stages, and no sibling of a bad row goes."""
    events = sorted(event for event, _ in drawn)
    rows = [GOOD_ORDER | bad for _, bad in drawn]
    table = frame_of(PAID, rows, events)
    after = validate(Sifted(RowGroup(table), pl.DataFrame(schema=PROBLEM_SCHEMA)), PAID)
    bad_rows = {row for row, (_, bad) in enumerate(drawn) if bad}
    bad_events = {events[row] for row in bad_rows}
    assert set(after.problems[ROW].to_list()) == bad_rows
    assert after.kept.table[ROW].to_list() == [
        row for row, event in enumerate(events) if event not in bad_events
    ]


def test_a_bad_sibling_takes_the_event() -> None:
    """Half an order at RD Station would be a wrong order."""
    rows = [GOOD_ORDER, GOOD_ORDER | {"line_items.price": -1.0}, GOOD_ORDER | {"identifier": "2"}]
    kept, problems = found(PAID, rows, [0, 0, 1])
    assert kept == [2]
    assert problems == [(1, "BELOW_MINIMUM", "line_items.price", "-1.0", "0")]


def test_all_flaws_of_all_rows_are_named_at_once() -> None:
    """Mending a file one flaw a run is nobody's idea of help."""
    rows = [
        GOOD_ORDER | {"email": None, "currency": "GBP"},
        GOOD_ORDER | {"price": -2.5, "line_items.product_id": "x" * 151},
    ]
    _, problems = found(PAID, rows)
    assert sorted(problems) == [
        (0, "NOT_AN_OPTION", "currency", "GBP", "ARS, BRL, CAD, CLP, COP, EUR, MXN, PEN, USD, UYU"),
        (0, "REQUIRED", "email", None, None),
        (1, "BELOW_MINIMUM", "price", "-2.5", "0"),
        (1, "TOO_LONG", "line_items.product_id", "x" * 80, "150"),
    ]


@pytest.mark.parametrize(
    ("event_type", "cells", "problem"),
    [
        (SALE, {"email": "ana"}, ("INVALID_EMAIL", "email", "ana", None)),
        (SALE, {"funnel_name": None}, ("REQUIRED", "funnel_name", None, None)),
        (SALE, {"value": -0.5}, ("BELOW_MINIMUM", "value", "-0.5", "0")),
        (
            PAID,
            {"payment_methods": list("abcdef")},
            ("TOO_MANY_VALUES", "payment_methods", '["a", "b", "c", "d", "e", "f"]', "5"),
        ),
        (
            PAID,
            {"line_items.product_title": None},
            ("REQUIRED_WITH", "line_items.product_title", None, "line_items"),
        ),
        (
            CONVERSION,
            {"legal_bases.communications.status": "granted"},
            (
                "REQUIRED_WITH",
                "legal_bases.communications.type",
                None,
                "legal_bases.communications",
            ),
        ),
        (
            CONVERSION,
            {
                "legal_bases.data_processing.type": "consent",
                "legal_bases.data_processing.status": "declined",
            },
            ("NOT_AN_OPTION", "legal_bases.data_processing.status", "declined", "granted"),
        ),
    ],
)
def test_a_problem_names_field_value_and_rule(
    event_type: EventType, cells: Cells, problem: tuple[str, str, str | None, str | None]
) -> None:
    good: Cells = {"email": "ana@example.com"}
    good |= {
        spec.column: "x" for spec in event_type.fields if spec.required and spec.kind == "text"
    }
    good["email"] = "ana@example.com"
    row = (GOOD_ORDER if event_type is PAID else good) | cells
    kept, problems = found(event_type, [row])
    assert kept == []
    assert len(problems) == 1
    assert problems[0][:3] == (0, *problem[:2])
    assert problems[0][4] == problem[3]
    if "payment_methods" not in cells:  # how a list is shown is pandera's word
        assert problems[0][3] == problem[2]


def test_a_required_column_that_the_file_lacks_is_missing_in_every_row() -> None:
    rows = [{"email": "ana@example.com"}, {"email": "rui@example.com"}]
    _, problems = found(SALE, rows)
    assert problems == [
        (0, "REQUIRED", "funnel_name", None, None),
        (1, "REQUIRED", "funnel_name", None, None),
    ]


def test_a_cell_that_could_not_be_typed_is_not_also_reported_as_missing() -> None:
    """`price` holds "abc": it is no number, but it is not empty."""
    known = (0, "NOT_A_NUMBER", "price", "abc", None, True)
    kept, problems = found(PAID, [GOOD_ORDER | {"price": None}, GOOD_ORDER], known=[known])
    assert kept == [1]
    assert problems == []


def test_a_warning_does_not_take_the_row() -> None:
    known = (0, "NOT_A_NUMBER", "value", "abc", None, False)
    row = {"email": "ana@example.com", "funnel_name": "default", "value": None}
    assert found(SALE, [row], known=[known]) == ([0], [])


def test_a_warning_of_one_row_hides_no_flaw_of_another() -> None:
    known = (0, "NOT_AN_INTEGER", "call_duration", "abc", None, False)
    row: Cells = {"email": "ana@example.com", "call_from_number": "1", "call_status": "ok"}
    rows = [row | {"call_duration": None}, row | {"call_duration": -4}]
    _, problems = found(CALL, rows, known=[known])
    assert problems == [(1, "BELOW_MINIMUM", "call_duration", "-4", "0")]


def test_a_flaw_of_a_row_that_could_not_be_read_takes_no_other() -> None:
    """Such rows never reach the frame; their problems pass through."""
    table = frame_of(PAID, [GOOD_ORDER], [0]).with_columns(pl.lit(7, pl.UInt32).alias(ROW))
    problems = pl.DataFrame(
        [(3, "BROKEN_QUOTES", None, "", "", True)], schema=PROBLEM_SCHEMA, orient="row"
    )
    assert sift(table, problems).kept.table[[ROW, EVENT]].rows() == [(7, 0)]
