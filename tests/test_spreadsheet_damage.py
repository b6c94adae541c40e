"""What spreadsheets and people do to values, and what comes of each."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command, Outcome
from rd_import.cells import (
    PLAIN_EMAIL,
    CellFormat,
    durations,
    e164,
    emails,
    is_email,
    numbers,
    phones,
    place,
    timestamps,
    type_cells,
)
from rd_import.sandbox import Sandbox
from rd_import.values import EVENT, ROW, RowGroup
from rdstation_events import EVENT_TYPES
from test_main_job import TYPE, orders, save

DESTROYED = ["5,52E+12", "5.52E+12", "#N/A", "#N/D", "#REF!", "#VALOR!", "########"]


def typed(cells: list[str | None], read: Any) -> list[Any]:
    found: list[Any] = read(pl.Series("c", cells, dtype=pl.String)).to_list()
    return found


def damage_in(done: Outcome) -> list[Any]:
    """What the preview says, but for sums of items that differ from the order's."""
    problems = done.json["preview"]["problems"]
    return [one for one in problems if one["code"] not in {"PRICE_DIFFERS", "TOTAL_ITEMS_DIFFER"}]


@pytest.mark.parametrize("value", DESTROYED)
@pytest.mark.parametrize("field", ["identifier", "currency", "line_items.price"])
def test_in_a_needed_field_damage_makes_the_row_invalid(
    field: str, value: str, tmp_path: Path, rd_import: Command
) -> None:
    if field == "currency" and value.startswith("5"):
        return  # a currency is no number; it is refused as no option
    item = {
        "line_items.sku": "A",
        "line_items.product_title": "A",
        "line_items.price": "1.50",
        "line_items.quantity": "1",
    }
    done = rd_import(
        "check", save(tmp_path / "a.csv", orders(item | {field: value}), ";"), *TYPE, "--json"
    )
    [problem] = damage_in(done)
    assert (problem["code"], problem["column"], problem["fatal"]) == (
        "SPREADSHEET_DAMAGE",
        field,
        True,
    )
    assert done.json["events"] == 0


@pytest.mark.parametrize("value", DESTROYED)
@pytest.mark.parametrize("field", ["mobile_phone", "shipping_price", "line_items.sku"])
def test_in_an_optional_field_damage_is_left_out_with_a_warning(
    field: str, value: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    item = {
        "line_items.product_id": "A",
        "line_items.product_title": "A",
        "line_items.price": "1.50",
        "line_items.quantity": "1",
    }
    path = save(tmp_path / "a.csv", orders(item | {field: value}), ";")
    [problem] = damage_in(rd_import("check", path, *TYPE, "--json"))
    assert (problem["code"], problem["column"], problem["fatal"]) == (
        "SPREADSHEET_DAMAGE",
        field,
        False,
    )
    assert rd_import(path, *TYPE, "--json").json["states"] == {"accepted": 1}
    payload = sandbox.events()[0].event["payload"]
    assert field not in payload
    assert "sku" not in payload["line_items"][0]


def test_a_date_that_became_a_number_is_damage(tmp_path: Path, rd_import: Command) -> None:
    done = rd_import(
        "check",
        save(tmp_path / "a.csv", orders({"event_timestamp": "46138,5"}), ";"),
        *TYPE,
        "--json",
    )
    [problem] = done.json["preview"]["problems"]
    assert (problem["code"], problem["fatal"]) == ("SPREADSHEET_DAMAGE", False)


def test_free_text_may_look_like_a_number(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "a.csv", orders({"name": "1E+02"})), *TYPE)
    assert sandbox.events()[0].event["payload"]["name"] == "1E+02"


def test_ids_keep_their_zeros_and_nineteen_digits(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    ids = ["000123", "1234567890123456789", "1.0", "#36579383673135"]
    rd_import(save(tmp_path / "a.csv", orders(*({"identifier": one} for one in ids))), *TYPE)
    assert [one.event["payload"]["identifier"] for one in sandbox.events()] == ids


@pytest.mark.parametrize("cell", ['="000123"', '"=""000123"""'], ids=["bare", "quoted"])
def test_a_text_written_for_a_spreadsheet_is_that_text(
    cell: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Programs write `="000123"` so that a spreadsheet keeps the zeros: the order's id is 000123."""
    path = tmp_path / "a.csv"
    path.write_text(
        f"identifier,email,currency,price,total_items\n{cell},ana@example.com,BRL,10.00,1\n",
        "utf-8",
    )
    rd_import(path, *TYPE)
    assert [one.event["payload"]["identifier"] for one in sandbox.events()] == ["000123"]


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("R$ 1.234,56", ",", 1234.56),
        ("R$1.093,18", ",", 1093.18),
        ("1.234.567,8", ",", 1234567.8),
        ("-R$ 10,00", ",", -10.0),
        ("R$ -10,00", ",", -10.0),
        ("(1.234,50)", ",", -1234.5),
        ("12,50-", ",", -12.5),
        ("'-12,50", ",", -12.5),
        ("US$ 1,258.54", ".", 1258.54),
        ("$1,258.54", ".", 1258.54),
        ("1 234,56 €", ",", 1234.56),
        ("1\u00a0234,56", ",", 1234.56),
        ("199.90", ",", None),
        ("1.23.4", ",", None),
        ("1,2345.6", ".", None),
        ("12%", ".", None),
        ("1e5", ".", None),
        ("", ".", None),
        ("dez", ",", None),
    ],
)
def test_money(cell: str, decimal: str, value: float | None) -> None:
    assert typed([cell], lambda series: numbers(series, CellFormat(decimal=decimal))) == [value]


@given(
    st.decimals(min_value=-(10**11), max_value=10**11, places=2),
    st.sampled_from([",", "."]),
    st.sampled_from(["", "R$ ", "US$", "€ "]),
)
def test_money_survives_being_written_and_read(amount: Decimal, mark: str, currency: str) -> None:
    text = f"{abs(amount):,.2f}"
    if mark == ",":
        text = text.translate(str.maketrans(",.", ".,"))
    cell = ("-" if amount < 0 else "") + currency + text
    assert typed([cell], lambda series: numbers(series, CellFormat(decimal=mark))) == [
        float(amount)
    ]


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1)))
def test_a_date_survives_being_written_and_read(moment: Any) -> None:
    moment = moment.replace(microsecond=0)
    forms = {"dmy": "%d/%m/%Y %H:%M:%S", "mdy": "%m/%d/%Y %I:%M:%S %p", "ymd": "%Y-%m-%dT%H:%M:%S"}
    for order, form in forms.items():
        for zone, shift in (("Z", 0), ("-0300", 3), ("+05:30", -5.5)):
            read = CellFormat(dates=order)
            [found] = typed(
                [moment.strftime(form) + zone], lambda series, read=read: timestamps(series, read)
            )
            assert (found.replace(tzinfo=None) - moment).total_seconds() == shift * 3600


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("58", 58),
        ("00:00:58", 58),
        ("1m02s", 62),
        ("1h02m03s", 3723),
        ("2 min", 120),
        ("01:32", None),
        ("1:02:75", None),
        ("x", None),
    ],
)
def test_durations(cell: str, seconds: int | None) -> None:
    """`01:32` may be hours or minutes, so it is none."""
    assert typed([cell], lambda series: durations(series, CellFormat())) == [seconds]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("(11) 99936-8273", "+5511999368273"),
        ("11999368273", "+5511999368273"),
        ("+55 11 3333-4444", "+551133334444"),
        ("5511999368273", "+5511999368273"),
        ("+54 11 2073-7081", "+541120737081"),
        ("+1-348-560-8943", "+13485608943"),
        ("+55", None),
        ("99936-8273", None),
        ("client1", None),
        ("15555555555", None),
    ],
)
def test_phones_are_written_as_e164_or_not_at_all(cell: str, number: str | None) -> None:
    assert phones(pl.Series("p", [cell]), keep_unknown=False).to_list() == [number]


@given(
    st.from_regex(
        r"\A(?:\+?55 ?)?\(?[1-9][1-9]\)? ?(?:9[6-9]|3[2-6])\d{2,3}-?\d{4}\Z", fullmatch=True
    )
)
def test_the_pattern_for_brazilian_phones_agrees_with_the_library(cell: str) -> None:
    found = phones(pl.Series("p", [cell]), keep_unknown=False).to_list()
    assert found == [e164(cell)]


@given(st.from_regex(PLAIN_EMAIL.replace("$", r"\Z").replace("^", r"\A"), fullmatch=True))
def test_the_pattern_for_plain_e_mails_lets_through_only_what_the_library_does(text: str) -> None:
    if len(text) < 60:
        assert is_email(text)


def test_e_mails_are_checked_and_never_corrected() -> None:
    cells = [
        "ana@gmial.com",
        "Ana@Example.COM",
        "josé@exemplo.com.br",
        "x@exa_mple.com",
        "a..b@example.com",
        "ana",
        None,
    ]
    assert emails(pl.Series("e", cells), keep_wrong=False).to_list() == [
        *cells[:3],
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("cell", "what", "code"),
    [
        ("Brasil", "country", "BR"),
        ("brazil", "country", "BR"),
        ("Alemanha", "country", "DE"),
        ("Estados Unidos", "country", "US"),
        ("pt", "country", "PT"),
        ("Nárnia", "country", "Nárnia"),
        ("São Paulo", "state", "SP"),
        ("Parana", "state", "PR"),
        ("Gran Buenos Aires", "state", "Gran Buenos Aires"),
    ],
)
def test_places_are_written_by_their_codes_where_they_have_one(
    cell: str, what: str, code: str
) -> None:
    assert place(cell, what) == code


@pytest.mark.parametrize(
    ("cell", "value"),
    [("sim", True), ("Não", False), ("TRUE", True), ("0", False), ("1", True), ("talvez", None)],
)
def test_booleans(cell: str, value: bool | None) -> None:
    table = pl.DataFrame(
        {ROW: [0], EVENT: [0], "available_for_mailing": [cell]},
        schema_overrides={ROW: pl.UInt32, EVENT: pl.UInt32},
    )
    done = type_cells(RowGroup(table), EVENT_TYPES["CONVERSION"], CellFormat())
    assert done.kept.table["available_for_mailing"].to_list() == [value]


# --- rows that cannot be read ---

ITEM = {
    "line_items.sku": "A",
    "line_items.product_title": "A",
    "line_items.price": "1.50",
    "line_items.quantity": "1",
}


def test_an_order_never_goes_with_an_item_missing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """The broken row names order 1001 and so may belong to it; 1002 is not touched."""
    path = save(
        tmp_path / "a.csv",
        orders(ITEM, ITEM | {"identifier": "1001"}, ITEM | {"identifier": "1002"}),
    )
    lines = path.read_text("utf-8").splitlines()
    path.write_text(
        "\n".join([lines[0], lines[1], lines[2] + ",too,many", lines[3]]) + "\n", "utf-8"
    )
    done = rd_import(path, *TYPE, "--json", "--max-invalid", "100%")
    assert [(row["state"], row["error_code"]) for row in done.audit] == [
        ("invalid", "TORN_EVENT"),
        ("invalid", "WRONG_NUMBER_OF_CELLS"),
        ("accepted", None),
    ]
    assert "a.csv:3" in done.audit[0]["error_message"]


def test_a_broken_row_between_two_rows_of_one_order_belongs_to_it(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(
        tmp_path / "a.csv", orders(ITEM, ITEM | {"identifier": "1001"}, {"identifier": "1002"})
    )
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[0], lines[1], "?,?", lines[2], lines[3]]) + "\n", "utf-8")
    done = rd_import(path, *TYPE, "--json", "--max-invalid", "100%")
    assert [row["state"] for row in done.audit] == ["invalid", "invalid", "invalid", "accepted"]


@pytest.mark.parametrize(
    ("cell", "code", "column"),
    [
        (b"Jo\xe3o", "BAD_BYTES", "name"),
        (b"Jo\x00o", "HOLDS_NUL", "name"),
        (b'5" TV "x', None, None),
        (b'"5" TV"', "BROKEN_QUOTES", None),
        (b"a,b", "WRONG_NUMBER_OF_CELLS", None),
        (b"a" * 5_000_000, "RECORD_TOO_LONG", "name"),
        (b'"' + b"a" * 10_000_000 + b'"', "RECORD_TOO_LONG", "name"),
        (b'"never closed', "BROKEN_QUOTES", None),
    ],
    ids=[
        "byte",
        "nul",
        "bare quote in text",
        "quote in quotes",
        "long row",
        "long cell",
        "very long cell",
        "open quote",
    ],
)
def test_a_broken_row_costs_itself_and_no_other(
    cell: bytes,
    code: str | None,
    column: str | None,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
) -> None:
    rows = [
        b"email,identifier,currency,price,total_items,name\n",
        "ana@example.com,1,BRL,10.00,1,Ção\n".encode(),
        b"b@example.com,2,BRL,10.00,1," + cell + b"\n",
        *(b"c%d@example.com,%d,BRL,10.00,1,C\n" % (n, n) for n in range(3, 40)),
    ]
    path = tmp_path / "a.csv"
    path.write_bytes(b"".join(rows))
    done = rd_import(path, *TYPE, "--json")
    assert done.json["states"] == ({"accepted": 38, "invalid": 1} if code else {"accepted": 39})
    if code:
        [bad] = [row for row in done.audit if row["state"] == "invalid"]
        assert (bad["line_number"], bad["error_code"], bad["error_column"]) == (3, code, column)
