"""Text cells become typed ones; what cannot be read is never guessed."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rd_import.cells import CellFormat, type_cells
from rd_import.values import EVENT, ROW, RowGroup
from rdstation_events import EVENT_TYPES

ZONES = ("America/Sao_Paulo", "America/New_York", "Europe/Lisbon", "Asia/Kolkata", "UTC")
Problem = tuple[int, str, str, str | None, bool]


def typed(
    name: str,
    columns: Mapping[str, Sequence[str | None]],
    *,
    decimal: str = ".",
    zone: str = "America/Sao_Paulo",
    events: Sequence[int] | None = None,
) -> tuple[pl.DataFrame, list[Problem]]:
    """Type cells of an event type; each row is an event of its own unless `events` differs."""
    height = len(next(iter(columns.values())))
    table = pl.DataFrame(
        {
            ROW: pl.Series(range(height), dtype=pl.UInt32),
            EVENT: pl.Series(events or range(height), dtype=pl.UInt32),
            **{column: pl.Series(cells, dtype=pl.String) for column, cells in columns.items()},
        }
    )
    found = type_cells(RowGroup(table), EVENT_TYPES[name], CellFormat(decimal, zone))
    return found.kept.table, found.problems.select(ROW, "code", "field", "value", "fatal").rows()


def one(name: str, column: str, cell: str | None, **options: Any) -> Any:
    """Type one cell and give its value, or its problem's code."""
    table, problems = typed(name, {column: [cell]}, **options)
    assert table.height == 1
    if problems:
        assert table[column].to_list() == [None]
        return problems[0][1]
    return table[column][0]


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("79.9", ".", 79.9),
        ("200", ".", 200.0),
        ("+.5", ".", 0.5),
        ("-3", ".", -3.0),
        ("5.", ".", 5.0),
        ("0079.90", ".", 79.9),
        ("79,9", ",", 79.9),
        ("1.234,56", ",", 1234.56),
        ("1.234.567,8", ",", 1234567.8),
        ("1.234", ",", 1234.0),
        ("1234,56", ",", 1234.56),
        ("1,234.56", ".", 1234.56),
        ("1,234,567", ".", 1234567.0),
        ("R$ 10", ".", 10.0),
        ("R$ -1.234,50", ",", -1234.5),
        ("(5,00)", ",", -5.0),
        ("5-", ".", -5.0),
    ],
)
def test_an_amount_is_read_by_the_inputs_decimal_mark(
    cell: str, decimal: str, value: float
) -> None:
    """The other mark may group thousands, as `Job.decimal` says."""
    assert one("SALE", "value", cell, decimal=decimal) == value


@pytest.mark.parametrize(
    ("cell", "decimal"),
    [
        ("79,9", "."),
        ("1.234,56", "."),
        ("79.9", ","),
        ("12.50", ","),
        ("1,234.56", ","),
        ("1.23.4,5", ","),
        ("1.2345", ","),
        (".5", ","),
        ("1,2,3", ","),
        ("1,2.3", "."),
        ("(5", "."),
        ("(-5)", "."),
        ("-R$ -5", "."),
        ("-5-", "."),
        ("10 %", "."),
        ("NaN", "."),
        ("inf", "."),
        ("0x10", "."),
        ("١٢", "."),
        ("--1", "."),
        ("9007199254740993", "."),
    ],
)
def test_an_amount_that_is_written_otherwise_is_not_guessed(cell: str, decimal: str) -> None:
    """12.50 read with a decimal comma would be sent as 1250."""
    assert one("SALE", "value", cell, decimal=decimal) == "NOT_A_NUMBER"


@pytest.mark.parametrize("cell", ["5,52E+12", "1e3", "#N/A", "########", "#VALOR!"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_what_a_spreadsheet_destroyed_is_named_as_that(cell: str, decimal: str) -> None:
    """The digits are gone: no other reading of the cell brings them back."""
    assert one("SALE", "value", cell, decimal=decimal) == "SPREADSHEET_DAMAGE"
    assert one("ECOMMERCE_ORDER_PAID", "total_items", cell, decimal=decimal) == (
        "SPREADSHEET_DAMAGE"
    )


@given(st.decimals(min_value=-(10**11), max_value=10**11, places=2))
def test_any_amount_is_read_from_both_ways_of_writing_it(amount: Any) -> None:
    english = f"{amount:,.2f}"
    brazilian = english.translate(str.maketrans(",.", ".,"))
    plain = f"{amount:.2f}"
    for cell, decimal in ((plain, "."), (brazilian, ","), (plain.replace(".", ","), ",")):
        assert one("SALE", "value", cell, decimal=decimal) == float(amount)


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("58", ".", 58),
        ("007", ".", 7),
        ("-3", ".", -3),
        ("58.0", ".", 58),
        ("58,00", ",", 58),
        ("1.000", ",", 1000),
        ("9007199254740991", ".", 2**53 - 1),
    ],
)
def test_a_whole_number_is_read(cell: str, decimal: str, value: int) -> None:
    """Spreadsheets and pandas write whole numbers with a fraction of zeros."""
    assert one("MEDIA_PLAYBACK_STARTED", "media_duration", cell, decimal=decimal) == value
    assert one("ECOMMERCE_ORDER_PAID", "total_items", cell, decimal=decimal) == value


@pytest.mark.parametrize(
    ("cell", "decimal"),
    [
        ("58.5", "."),
        ("58,5", ","),
        ("10.5", ","),
        ("10.0", ","),
        ("1.5", ","),
        ("--1", "."),
        ("12.50", ","),
        ("9007199254740993", "."),
        ("99999999999999999999", "."),
    ],
)
def test_what_is_no_whole_number_is_not_guessed(cell: str, decimal: str) -> None:
    found = one("ECOMMERCE_ORDER_PAID", "total_items", cell, decimal=decimal)
    assert found == "NOT_AN_INTEGER"
    found = one("MEDIA_PLAYBACK_STARTED", "media_duration", cell, decimal=decimal)
    assert found == "NOT_A_DURATION"


@pytest.mark.parametrize("cell", ["00:01:32", "1m32s", "1 min 32 s", "92"])
def test_a_duration_is_read_in_seconds(cell: str) -> None:
    assert one("MEDIA_PLAYBACK_STARTED", "media_duration", cell) == 92
    if cell != "92":
        assert one("ECOMMERCE_ORDER_PAID", "total_items", cell) == "NOT_AN_INTEGER"


@pytest.mark.parametrize("cell", ["01:32", "1:2:3:4", "00:01:60", "32", "s"])
def test_a_duration_with_two_meanings_is_not_guessed(cell: str) -> None:
    """`01:32` may be hours or minutes; a plain number is seconds."""
    expected = 32 if cell == "32" else "NOT_A_DURATION"
    assert one("MEDIA_PLAYBACK_STARTED", "media_duration", cell) == expected


# --- booleans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["true", "TRUE", "1", "Sim", "s", "yes", "Y", "Verdadeiro", "V"])
def test_words_for_yes(cell: str) -> None:
    assert one("CONVERSION", "available_for_mailing", cell) is True


@pytest.mark.parametrize("cell", ["false", "0", "Não", "NÃO", "nao", "n", "No", "FALSO", "f"])
def test_words_for_no(cell: str) -> None:
    assert one("CONVERSION", "available_for_mailing", cell) is False


@pytest.mark.parametrize("cell", ["maybe", "2", "-", "truee", "sim não"])
def test_other_words_are_neither(cell: str) -> None:
    assert one("CONVERSION", "available_for_mailing", cell) == "NOT_A_BOOLEAN"


# --- times ----------------------------------------------------------------------------------------

fractions = st.text("0123456789", max_size=9)
wall_times = st.datetimes(datetime(1985, 1, 1), datetime(2035, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0)
)


def written(wall: datetime, separator: str, fraction: str) -> tuple[str, timedelta]:
    """Write a wall time and tell what its fraction of a second is, cut at microseconds."""
    text = wall.strftime(f"%Y-%m-%d{separator}%H:%M:%S")
    part = timedelta(microseconds=int(fraction.ljust(6, "0")[:6]))
    return (f"{text}.{fraction}" if fraction else text), part


@given(
    wall_times,
    st.sampled_from(("T", " ")),
    fractions,
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from(("{h}:{m}", "{h}{m}", " {h}:{m}")),
)
def test_a_time_with_an_offset_is_that_instant(
    wall: datetime, separator: str, fraction: str, offset: int, form: str
) -> None:
    text, part = written(wall, separator, fraction)
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    cell = text + form.format(h=f"{sign}{hours:02}", m=f"{minutes:02}")
    instant = wall.replace(tzinfo=timezone(timedelta(minutes=offset))) + part
    assert one("CALL_FINISHED", "call_started_at", cell) == instant


@given(wall_times, fractions, st.sampled_from(("Z", " UTC", "UTC", "z")))
def test_a_time_in_utc_is_that_instant(wall: datetime, fraction: str, zone: str) -> None:
    text, part = written(wall, "T", fraction)
    assert one("CALL_FINISHED", "call_started_at", text + zone) == wall.replace(tzinfo=UTC) + part


@given(wall_times, fractions, st.sampled_from(ZONES))
def test_a_time_without_a_zone_is_local(wall: datetime, fraction: str, zone: str) -> None:
    """Python's own calendar is the judge; a wall time that never was is not guessed."""
    text, part = written(wall, " ", fraction)
    instant = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    existed = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall
    found = one("CALL_FINISHED", "call_started_at", text, zone=zone)
    assert found == (instant + part if existed else "NOT_A_TIMESTAMP")


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        ("2026-03-15", datetime(2026, 3, 15, 3, tzinfo=UTC)),
        ("2026-3-5", datetime(2026, 3, 5, 3, tzinfo=UTC)),
        ("2026-03-15T14:53", datetime(2026, 3, 15, 17, 53, tzinfo=UTC)),
        ("2026-03-15 14:53:42,5", datetime(2026, 3, 15, 17, 53, 42, 500_000, tzinfo=UTC)),
        ("2019-03-15T15:00:00.05Z", datetime(2019, 3, 15, 15, 0, 0, 50_000, tzinfo=UTC)),
        ("2018-01-15 12:00:00", datetime(2018, 1, 15, 14, tzinfo=UTC)),  # summer time
        ("2018-02-17 23:30:00", datetime(2018, 2, 18, 1, 30, tzinfo=UTC)),  # the first of two
        ("12 de março de 2026 14:05 hs.", datetime(2026, 3, 12, 17, 5, tzinfo=UTC)),
        ("quinta-feira, 12 de novembro de 2026", datetime(2026, 11, 12, 3, tzinfo=UTC)),
        ("5 de set. de 2026 às 14h05", datetime(2026, 9, 5, 17, 5, tzinfo=UTC)),
        ("Nov 12, 2026, 10:22:01 PM", datetime(2026, 11, 13, 1, 22, 1, tzinfo=UTC)),
        ("Jul-25-26", datetime(2026, 7, 25, 3, tzinfo=UTC)),
        ("25-dic-2026 13:00:00", datetime(2026, 12, 25, 16, tzinfo=UTC)),
        ("Sat, 14 Mar 2026 14:00:00 +0000", datetime(2026, 3, 14, 14, tzinfo=UTC)),
        (
            "Sat Mar 14 2026 14:00:00 GMT-0300 (Brasilia Standard Time)",
            datetime(2026, 3, 14, 17, tzinfo=UTC),
        ),
        ("2026-03-14T14:00:00-03:00[America/Sao_Paulo]", datetime(2026, 3, 14, 17, tzinfo=UTC)),
        ("2026-03-14 10:00:00 BRT", datetime(2026, 3, 14, 13, tzinfo=UTC)),
        ("2026-11-20 10:00:00 PST", datetime(2026, 11, 20, 18, tzinfo=UTC)),
        (
            "2026-03-14 00:00:00 10:22:05",
            datetime(2026, 3, 14, 13, 22, 5, tzinfo=UTC),
        ),  # of a workbook
        ("2026-03-14 10:22:05 10:22", datetime(2026, 3, 14, 13, 22, 5, tzinfo=UTC)),
        ("1773586422", datetime(2026, 3, 15, 14, 53, 42, tzinfo=UTC)),
        ("1773586422123", datetime(2026, 3, 15, 14, 53, 42, 123_000, tzinfo=UTC)),
        ("20260315", datetime(2026, 3, 15, 3, tzinfo=UTC)),
        ("20260315142233", datetime(2026, 3, 15, 17, 22, 33, tzinfo=UTC)),
    ],
)
def test_times_as_exports_write_them(cell: str, instant: datetime) -> None:
    assert one("CALL_FINISHED", "call_started_at", cell) == instant


@pytest.mark.parametrize("day", ["2018-11-04", "2017-10-15", "2016-10-16"])
def test_a_day_whose_midnight_never_was_begins_at_one(day: str) -> None:
    """Brazil's summer time began at midnight; a bare date still is that day, not malformed."""
    assert one("CALL_FINISHED", "call_started_at", day) == datetime.fromisoformat(
        f"{day}T01:00:00-02:00"
    )


@pytest.mark.parametrize(
    "cell",
    [
        "15/03/2026",
        "2026-02-30",
        "2026-13-01",
        "2026-03-15T25:00",
        "2026-03-15T10:60",
        "2026-03-15T10",
        "2026-03-15T10:00:00.Z",
        "2026-03-15T10:00:00.1234567890Z",
        "2026-03-15T10:00:00+24:00",
        "2026-03-15T10:00:00-03:60",
        "2026-03-15 10:00:00 +24:00",
        "2026-03-15 10:00 -0360",
        "2026-03-15T10:00:00+99:99",
        "2026-03-15T10:00:00 XYZ",
        "2026-03-15T10:00:00 BRT+1",
        "31 de fevereiro de 2026",
        "5 de brumário de 2026",
        "março de 2026",
        "0011987654",
        "20261301",
        "2026-03-14 10:22 11:22",
        "2018-11-04 00:30:00",
        "9999-12-31T23:59:59-03:00",
        "9999-12-31 23:59:59 -03:00",
        "9999-12-31 23:59:59",
    ],
)
def test_what_is_no_time_is_not_guessed(cell: str) -> None:
    assert one("CALL_FINISHED", "call_started_at", cell) == "NOT_A_TIMESTAMP"


def test_a_date_that_a_spreadsheet_turned_into_a_number_is_damage() -> None:
    assert one("CALL_FINISHED", "call_started_at", "46096.62") == "SPREADSHEET_DAMAGE"


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("a;b", ["a", "b"]),
        (" a ; b c ;", ["a", "b c"]),
        ("a,b", ["a,b"]),
        (";;", None),
        ('["a","b;c"]', ["a", "b;c"]),
        ('[" a ",""," "]', ["a"]),
        ("[1,true,null]", ["1", "true"]),
        ("[]", None),
        ("[vip];novo", ["[vip]", "novo"]),
        ('["\\u00e7"]', ["ç"]),
    ],
)
def test_a_list_is_split_by_semicolons_or_is_a_json_array(
    cell: str, texts: list[str] | None
) -> None:
    table, problems = typed("CONVERSION", {"tags": [cell]})
    assert table["tags"].to_list() == [texts]
    assert problems == []


def test_both_ways_of_writing_a_list_may_stand_in_one_column() -> None:
    table, _ = typed("CONVERSION", {"tags": ["a;b", None, '["c;d"]', "e"]})
    assert table["tags"].to_list() == [["a", "b"], None, ["c;d"], ["e"]]


@pytest.mark.parametrize("cell", ['["\\ud800"]', "[" * 100_000])
def test_a_cell_that_json_cannot_hold_does_not_stop_the_run(cell: str) -> None:
    """Half a surrogate pair, or brackets without an end: one row's flaw is never a traceback."""
    table, _ = typed("CONVERSION", {"tags": [cell, "a"]})
    assert table["tags"].to_list()[1] == ["a"]


# --- legal bases ----------------------------------------------------------------------------------

CONSENT = {"category": "communications", "type": "consent", "status": "granted"}
CONTRACT = {"category": "data_processing", "type": "pre_existent_contract"}
COMMUNICATIONS = "legal_bases.communications"
DATA_PROCESSING = "legal_bases.data_processing"


def test_a_json_cell_spreads_over_the_columns_of_legal_bases() -> None:
    cells = [json.dumps([CONTRACT, CONSENT]), None, "[]"]
    table, problems = typed("CONVERSION", {"legal_bases": cells})
    assert "legal_bases" not in table.columns
    assert table.select(
        f"{COMMUNICATIONS}.type", f"{COMMUNICATIONS}.status", f"{DATA_PROCESSING}.type"
    ).rows() == [
        ("consent", "granted", "pre_existent_contract"),
        (None, None, None),
        (None, None, None),
    ]
    assert problems == []


@pytest.mark.parametrize(
    "cell",
    [
        "yes",
        "{}",
        "null",
        "[1]",
        json.dumps(CONSENT),
        json.dumps([CONSENT, CONSENT]),
        '[{"type":"consent","status":"granted"}]',
        '[{"category":1,"type":"consent"}]',
        '[{"category":"communications"}]',
        '[{"category":"communications","type":null,"status":null}]',
        '[{"category":"communications","type":"\\ud800"}]',
        "[" * 100_000,
    ],
    ids=lambda cell: cell[:40],
)
def test_a_cell_that_is_no_list_of_legal_bases_takes_its_row(cell: str) -> None:
    """Consent is not left out in silence, so the event does not go without it."""
    _, problems = typed("CONVERSION", {"legal_bases": [None, cell]})
    assert problems == [(1, "NOT_LEGAL_BASES", "legal_bases", cell[:80], True)]


@pytest.mark.parametrize(
    ("name", "category"),
    [("CONVERSION", "profiling"), ("ECOMMERCE_ORDER_CANCELLED", "data_processing")],
)
def test_a_category_that_cannot_be_sent_takes_its_row(name: str, category: str) -> None:
    cell = json.dumps([{"category": category, "type": "consent"}])
    _, problems = typed(name, {"legal_bases": [cell, None]})
    column = f"legal_bases.{category}.type"
    assert problems == [(0, "LEGAL_BASE_NOT_TAKEN", column, "consent", True)]


def test_a_basis_in_its_own_columns_is_not_lost_where_a_json_column_stands_beside() -> None:
    """Row 0 has its consent in columns only, row 1 in JSON only."""
    table, problems = typed(
        "CONVERSION",
        {
            "legal_bases": [None, json.dumps([CONSENT])],
            f"{COMMUNICATIONS}.type": ["legitimate_interest", None],
            f"{COMMUNICATIONS}.status": ["declined", None],
        },
    )
    assert problems == []
    assert table.select(f"{COMMUNICATIONS}.type", f"{COMMUNICATIONS}.status").rows() == [
        ("legitimate_interest", "declined"),
        ("consent", "granted"),
    ]


@pytest.mark.parametrize(
    ("type_", "status", "codes"),
    [
        ("consent", "granted", []),
        ("consent", "declined", ["NOT_LEGAL_BASES"]),
        ("consent", None, ["NOT_LEGAL_BASES"]),
        (None, "granted", ["NOT_LEGAL_BASES"]),
        (None, None, []),
    ],
)
def test_a_basis_that_columns_and_json_tell_differently_takes_its_row(
    type_: str | None, status: str | None, codes: list[str]
) -> None:
    columns: dict[str, list[str | None]] = {
        "legal_bases": [json.dumps([CONSENT])],
        f"{COMMUNICATIONS}.type": [type_],
        f"{COMMUNICATIONS}.status": [status],
    }
    table, problems = typed("CONVERSION", columns)
    assert [code for _, code, *_ in problems] == codes
    if not codes:
        assert table[f"{COMMUNICATIONS}.type"].to_list() == ["consent"]
        assert table[f"{COMMUNICATIONS}.status"].to_list() == ["granted"]


# --- malformed cells ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "column", "code"),
    [
        ("SALE", "value", "NOT_A_NUMBER"),
        ("CALL_FINISHED", "call_duration", "NOT_A_DURATION"),
        ("CALL_FINISHED", "call_user_email", "INVALID_EMAIL"),
        ("ECOMMERCE_ORDER_FULFILLED", "tracking_url", "INVALID_URL"),
        ("MEDIA_PLAYBACK_STOPPED", "media_finished", "NOT_A_BOOLEAN"),
        ("MEDIA_PLAYBACK_STOPPED", "media_published_date_timestamp", "NOT_A_TIMESTAMP"),
        ("CALL_FINISHED", "event_timestamp", "NOT_A_TIMESTAMP"),
    ],
)
def test_in_an_optional_field_a_malformed_cell_is_left_out_with_a_warning(
    name: str, column: str, code: str
) -> None:
    table, problems = typed(name, {column: ["5,52E+", None]})
    assert table[column].to_list() == [None, None]
    assert problems == [(0, code, column, "5,52E+", False)]


@pytest.mark.parametrize(
    ("name", "column", "code"),
    [
        ("ECOMMERCE_ORDER_PAID", "price", "NOT_A_NUMBER"),
        ("ECOMMERCE_ORDER_PAID", "total_items", "NOT_AN_INTEGER"),
        ("ECOMMERCE_ORDER_PAID", "line_items.price", "NOT_A_NUMBER"),
        ("ECOMMERCE_ORDER_PAID", "line_items.quantity", "NOT_AN_INTEGER"),
        ("CALL_FINISHED", "call_started_at", "NOT_A_TIMESTAMP"),
        ("SALE", "event_timestamp", "NOT_A_TIMESTAMP"),
    ],
)
def test_in_a_required_or_identity_field_a_malformed_cell_takes_its_row(
    name: str, column: str, code: str
) -> None:
    """Without it the event would be another event, or none."""
    _, problems = typed(name, {column: ["5,52E+", None]})
    assert problems == [(0, code, column, "5,52E+", True)]
    _, problems = typed(name, {column: ["5,52E+12", None]})
    assert problems == [(0, "SPREADSHEET_DAMAGE", column, "5,52E+12", True)]


def test_a_long_cell_is_shown_cut() -> None:
    _, ((_, _, _, value, _),) = typed("SALE", {"value": ["x" * 500]})
    assert value == "x" * 80


# --- derived fields -------------------------------------------------------------------------------


def test_the_number_of_items_is_the_sum_of_an_orders_quantities() -> None:
    table, _ = typed(
        "ECOMMERCE_ORDER_PAID",
        {"line_items.quantity": ["2", "3", "1", None]},
        events=[0, 0, 1, 2],
    )
    assert table["total_items"].to_list() == [5, 5, 1, None]


def test_a_number_of_items_that_is_there_is_not_derived() -> None:
    table, _ = typed(
        "ECOMMERCE_ORDER_PAID",
        {"line_items.quantity": ["2", "3"], "total_items": ["9", None]},
    )
    assert table["total_items"].to_list() == [9, 3]


def test_an_items_id_is_its_sku_else_its_title() -> None:
    table, _ = typed(
        "ECOMMERCE_ORDER_PAID",
        {
            "line_items.product_id": ["P", None, None, None],
            "line_items.sku": ["S", "S", None, None],
            "line_items.product_title": ["T", "T", "T", None],
        },
    )
    assert table["line_items.product_id"].to_list() == ["P", "S", "T", None]


CELLS: Mapping[str, Sequence[str]] = {
    "price": ("1", "12.90", "-3.5", "9007199254740993", "1.234"),
    "total_items": ("0", "12", "-7", "99999999999999999999"),
    "payment_methods": ("Pix", "Credit Card", "x\u00a0y", "10x"),
    "email": ("ana@example.com", "a.b+c@loja.com.br"),
    "mobile_phone": ("+5511987654321", "+551133334444"),
}
OTHERS = (
    "#N/A", "1,5", "5,52E+12", "a;b", '["a"]', "11 98765-4321", "Ana@Exämple.com", "no e-mail", "-", "\u00a0x",
)  # fmt: skip


@given(
    st.sampled_from(sorted(CELLS)).flatmap(
        lambda column: st.tuples(
            st.just(column), st.lists(st.none() | st.sampled_from(CELLS[column]), min_size=1)
        )
    ),
    st.sampled_from(OTHERS),
)
def test_what_a_cell_means_does_not_hang_on_its_neighbours(
    column: tuple[str, list[str | None]], other: str
) -> None:
    """A column of nothing but plain cells is read at once, any other by patterns: both read a cell alike."""
    name, cells = column
    alone, flaws = typed("ECOMMERCE_ORDER_PLACED", {name: cells})
    beside, more = typed("ECOMMERCE_ORDER_PLACED", {name: [*cells, other]})
    assert beside[name].head(len(cells)).to_list() == alone[name].to_list()
    assert [flaw for flaw in more if flaw[0] < len(cells)] == flaws


@pytest.mark.parametrize(
    ("duration", "cell", "seconds"),
    [
        ("m:ss", "01:32", 92),
        ("h:mm", "01:32", 5520),
        ("m:ss", "00:01:32", 92),
        (None, "01:32", None),
    ],
)
def test_a_length_of_two_parts_is_read_as_the_mapping_says(
    duration: str | None, cell: str, seconds: int | None
) -> None:
    """`01:32` may be hours or minutes; without a word on it, it is neither."""
    table = pl.DataFrame({ROW: [0], EVENT: [0], "call_duration": [cell]}).cast(
        {ROW: pl.UInt32, EVENT: pl.UInt32}
    )
    form = CellFormat(columns={"call_duration": CellFormat(duration=duration)})
    typed = type_cells(RowGroup(table), EVENT_TYPES["CALL_FINISHED"], form)
    assert typed.kept.table["call_duration"].to_list() == [seconds]


def test_a_legal_word_is_read_in_any_case() -> None:
    table = pl.DataFrame({ROW: [0, 1], EVENT: [0, 1], "call_type": ["INBOUND", "internal"]}).cast(
        {ROW: pl.UInt32, EVENT: pl.UInt32}
    )
    typed = type_cells(RowGroup(table), EVENT_TYPES["CALL_FINISHED"], CellFormat())
    assert typed.kept.table["call_type"].to_list() == ["Inbound", "internal"]


@pytest.mark.parametrize(
    ("name", "garbled"),
    [
        ("JoÃ£o", True),
        ("d'Ã\x81vila", True),
        ("Dâ€™Ávila", False),  # half of it is right, so nobody can say
        ("Donâ€™t", True),
        ("Jo\ufffdo", True),
        ("João", False),
        ("MAÇÃ – VERDE", False),
        ("“AMANHÃ”", False),
        ("IRMÃ", False),
    ],
)
def test_a_text_that_lost_its_accents_before_is_named_and_goes_as_it_is(
    name: str, garbled: bool
) -> None:
    table, problems = typed("ECOMMERCE_ORDER_PAID", {"name": [name]})
    assert table["name"].to_list() == [name]
    assert [(code, fatal) for _, code, _, _, fatal in problems] == [
        ("GARBLED_TEXT", False)
    ] * garbled


@pytest.mark.parametrize(
    ("name", "column", "cell", "word"),
    [
        ("ECOMMERCE_ORDER_PAID", "currency", "R$", "BRL"),
        ("ECOMMERCE_ORDER_PAID", "currency", "Real", "BRL"),
        ("ECOMMERCE_ORDER_PAID", "currency", "US$", "USD"),
        ("ECOMMERCE_ORDER_PAID", "currency", "$", "$"),  # of a dozen countries
        ("CALL_FINISHED", "call_type", "Saída", "Outbound"),
        ("CALL_FINISHED", "call_type", "interna", "interna"),
    ],
)
def test_a_word_that_can_only_mean_one_legal_word_is_read_as_it(
    name: str, column: str, cell: str, word: str
) -> None:
    assert one(name, column, cell) == word


def test_marks_that_nobody_sees_are_taken_off_an_e_mail() -> None:
    assert one("SALE", "email", "\ufeffana@example.com\u00a0") == "ana@example.com"
    assert (
        one("SALE", "email", "ana\u00a0@example.com") == "ana\u00a0@example.com"
    )  # the schema names it
