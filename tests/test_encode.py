"""The bytes of an event are its payload's plain definition, and its key is what makes it unique."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generated import AWKWARD, CURRENT, Cells, sifted, valid_rows
from rd_import.encode import encode, identity_text
from rd_import.key_line import key_of as plain_key
from rd_import.mapping import map_row, map_rows
from rd_import.run_folder import RunFolder
from rd_import.values import ENCODED_SCHEMA, EVENT, OCCURRENCE, ROW, RowGroup, Sifted
from rdstation_events import EVENT_TYPES
from rdstation_events.event_type import EventType

PAID = EVENT_TYPES["ECOMMERCE_ORDER_PAID"]
CANCELLED = EVENT_TYPES["ECOMMERCE_ORDER_CANCELLED"]
CONVERSION = EVENT_TYPES["CONVERSION"]
CALL = EVENT_TYPES["CALL_FINISHED"]
MOMENT = datetime(2026, 3, 15, 14, 53, 42, 928_000, tzinfo=UTC)


def encoded(
    event_type: EventType,
    rows: Sequence[Cells],
    *,
    namespace: str = "",
    max_body: int = 200_000,
    occurrences: Sequence[int] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Map and encode rows, one event each; give the events and the problems."""
    before = sifted(event_type, rows, range(len(rows)))
    if occurrences is not None:
        counted = pl.Series(OCCURRENCE, occurrences, dtype=pl.UInt32)
        before = Sifted(RowGroup(before.kept.table.with_columns(counted)), before.problems)
    after = encode(map_rows(before, event_type), event_type, namespace=namespace, max_body=max_body)
    assert after.kept.table.schema == ENCODED_SCHEMA
    return after.kept.table, after.problems


def key_of(event_type: EventType, cells: Cells, **options: Any) -> str:
    table, _ = encoded(event_type, [cells], **options)
    key = table["event_key"][0]
    assert isinstance(key, bytes)
    return key.hex()


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", CURRENT, ids=lambda one: one.name)
@given(st.data())
@settings(max_examples=30)
def test_a_body_is_the_json_of_the_plain_definition(
    event_type: EventType, data: st.DataObject
) -> None:
    """`explain` and these tests read `map_row`; what is sent is made column by column."""
    rows = data.draw(st.lists(valid_rows(event_type), min_size=1, max_size=4))
    table, problems = encoded(event_type, rows)
    assert problems.is_empty()
    for row, body, sha in zip(rows, table["body"], table["payload_sha256"], strict=True):
        sent = json.loads(body)
        payload = map_row(row, event_type)
        assert sent == {
            "event_type": event_type.name,
            "event_family": "CDP",
            "payload": payload,
        }
        custom = [name for name in payload if event_type.field(name) is None and "cf_" in name]
        fixed = [name for name in payload if name not in custom]
        assert [name for name in sent["payload"] if name not in custom] == fixed, "the API's order"
        assert hashlib.sha256(body).digest() == sha


@pytest.mark.parametrize("text", AWKWARD)
def test_no_text_is_mistaken_for_a_key_without_value(text: str) -> None:
    """Nulls are cut out of the written JSON, which must never cut into what a person wrote."""
    row: Cells = {
        "email": "ana@example.com",
        "conversion_identifier": text,
        "name": text,
        "city": None,
        "tags": [text, text],
        "cf_note": text,
        "cf_none": None,
    }
    table, _ = encoded(CONVERSION, [row])
    assert json.loads(table["body"][0])["payload"] == {
        "email": "ana@example.com",
        "conversion_identifier": text,
        "name": text,
        "tags": [text, text],
        "cf_note": text,
    }


def test_a_body_is_written_out() -> None:
    """The bytes of the vendor's call example: compact, UTF-8 as it is, no key without value."""
    row: Cells = {
        "email": "ana@example.com",
        "call_started_at": MOMENT,
        "call_from_number": "+5511900000000",
        "call_status": "não atendida",
        "call_duration": 58,
        "call_carrier": None,
        "event_timestamp": MOMENT,
    }
    table, _ = encoded(CALL, [row])
    assert table["body"].to_list() == [
        (
            '{"event_type":"CALL_FINISHED","event_family":"CDP","payload":{'
            '"email":"ana@example.com","call_started_at":"2026-03-15T14:53:42.928Z",'
            '"call_from_number":"+5511900000000","call_status":"não atendida",'
            '"call_duration":"58"}}'
        ).encode()
    ]
    assert table["source_timestamp"].to_list() == [MOMENT]


def test_facts_stand_beside_the_body() -> None:
    rows: list[Cells] = [
        {"email": "Ana@Example.com", "identifier": "1"},
        {"email": "rui@example.com", "identifier": "2"},
    ]
    table, _ = encoded(CANCELLED, rows)
    assert table.select(EVENT, ROW, "event_type", "email", "identifier").rows() == [
        (0, 0, "ECOMMERCE_ORDER_CANCELLED", "ana@example.com", "1"),
        (1, 1, "ECOMMERCE_ORDER_CANCELLED", "rui@example.com", "2"),
    ]
    assert table["source_timestamp"].to_list() == [None, None]


def test_no_events_are_encoded_to_none() -> None:
    before = sifted(CANCELLED, [{"email": "ana@example.com", "identifier": "1"}], [0])
    none = Sifted(RowGroup(before.kept.table.clear()), before.problems)
    after = encode(map_rows(none, CANCELLED), CANCELLED, namespace="", max_body=200_000)
    assert after.kept.table.is_empty()
    assert after.problems.is_empty()


# --- too large ------------------------------------------------------------------------------------


def test_an_event_that_fills_a_request_alone_passes_and_one_byte_more_is_set_aside() -> None:
    """A request of 200,000 bytes has two brackets: 199,998 are left for the event."""
    row: Cells = {"email": "ana@example.com", "identifier": "1"}
    table, _ = encoded(CANCELLED, [row | {"name": ""}])
    room = 199_998 - len(table["body"][0])
    rows = [row | {"name": "x" * room}, row | {"name": "x" * (room + 1)}, row]
    table, problems = encoded(CANCELLED, rows)
    assert table[ROW].to_list() == [0, 2]
    assert len(table["body"][0]) == 199_998
    assert problems.rows() == [(1, "EVENT_TOO_LARGE", None, "199999", "199998", True)]


def test_size_is_measured_in_bytes() -> None:
    row: Cells = {"email": "ana@example.com", "identifier": "1", "name": "ç" * 600}
    table, problems = encoded(CANCELLED, [row], max_body=1000)
    assert table.is_empty()
    assert problems["code"].to_list() == ["EVENT_TOO_LARGE"]


# --- keys -----------------------------------------------------------------------------------------

SALE_ROW: Cells = {"email": "ana@example.com", "funnel_name": "default", "value": 200.0}
SALE = EVENT_TYPES["SALE"]


def test_a_key_is_a_checksum_that_every_machine_and_version_makes_alike() -> None:
    """Audits of years ago rebuild a ledger: these bytes may never change."""
    row: Cells = {"email": "Ana@Example.com", "identifier": 'A"1', "event_timestamp": MOMENT}
    plain = '["ECOMMERCE_ORDER_CANCELLED","loja-sp",["A\\"1"],1]'
    key = key_of(CANCELLED, row, namespace="loja-sp")
    assert key == hashlib.sha256(plain.encode()).hexdigest()
    assert key == "bb20a9d0d188e65d562d2e07d259e9fbc3135f01d3527b2212d7a5c7445d9cd1"


def test_the_identity_of_a_call_is_written_with_nulls_and_utc_microseconds() -> None:
    row: Cells = {
        "email": "Ana@Example.com",
        "call_started_at": MOMENT,
        "call_from_number": "+5511900000000",
        "call_status": "ok",
    }
    identity = '["ana@example.com","2026-03-15T14:53:42.928000Z","+5511900000000",null]'
    plain = f'["CALL_FINISHED","",{identity},1]'
    assert key_of(CALL, row) == hashlib.sha256(plain.encode()).hexdigest()


@given(st.permutations(list(SALE_ROW)), st.sampled_from((200.0, 200, 7.5, None)))
def test_a_key_does_not_depend_on_columns_order_or_on_what_is_no_identity(
    order: list[str], value: float | None
) -> None:
    """A shop's export changes its columns; its orders stay the same orders."""
    row = {name: SALE_ROW[name] for name in order} | {"value": value}
    assert key_of(SALE, row) == key_of(SALE, SALE_ROW)


@pytest.mark.parametrize(
    "change",
    [
        {"email": "ANA@Example.COM"},
        {"email": "ana@example.com", "event_timestamp": None},
        {"value": None},
    ],
)
def test_a_key_is_the_same_for(change: Cells) -> None:
    assert key_of(SALE, SALE_ROW | change) == key_of(SALE, SALE_ROW)


@pytest.mark.parametrize(
    "change",
    [
        {"email": "rui@example.com"},
        {"funnel_name": "Default"},
        {"event_timestamp": MOMENT},
    ],
)
def test_another_identity_is_another_key(change: Cells) -> None:
    assert key_of(SALE, SALE_ROW | change) != key_of(SALE, SALE_ROW)


def test_an_added_column_changes_the_content_but_not_the_key() -> None:
    row: Cells = {"email": "ana@example.com", "identifier": "1"}
    plain, _ = encoded(CANCELLED, [row])
    more, _ = encoded(CANCELLED, [row | {"name": "Ana"}])
    assert plain["event_key"].equals(more["event_key"])
    assert not plain["payload_sha256"].equals(more["payload_sha256"])


def test_other_types_namespaces_and_occurrences_are_other_keys() -> None:
    row: Cells = {"email": "ana@example.com", "identifier": "1"}
    refunded = EVENT_TYPES["ECOMMERCE_ORDER_REFUNDED"]
    keys = [
        key_of(CANCELLED, row),
        key_of(refunded, row),
        key_of(CANCELLED, row, namespace="loja-sp"),
        key_of(CANCELLED, row, namespace="loja-rj"),
        key_of(CANCELLED, row, occurrences=[2]),
    ]
    assert len(set(keys)) == len(keys)


def test_the_first_occurrence_has_the_key_of_an_event_that_is_alone() -> None:
    """So that the same event in another file is known again."""
    assert key_of(SALE, SALE_ROW, occurrences=[1]) == key_of(SALE, SALE_ROW)


@given(
    st.lists(
        st.tuples(st.text(max_size=4), st.text(max_size=4)), unique=True, min_size=2, max_size=6
    )
)
def test_different_identities_never_share_a_key(identities: list[tuple[str, str]]) -> None:
    """Cells that run into each other (`a,b` + `c`, `a` + `b,c`) stay apart."""
    rows: list[Cells] = [
        {"email": "ana@example.com", "funnel_name": funnel, "reason": reason}
        for funnel, reason in identities
    ]
    calls: list[Cells] = [
        {
            "email": "ana@example.com",
            "call_from_number": number,
            "call_status": "ok",
            "call_record": record,
        }
        for number, record in identities
    ]
    table, _ = encoded(CALL, calls)
    assert table["event_key"].n_unique() == len(identities)
    lost, _ = encoded(EVENT_TYPES["OPPORTUNITY_LOST"], rows)
    assert lost["event_key"].n_unique() == len({funnel for funnel, _ in identities})


def test_rows_whose_identity_is_the_same_in_canonical_form_are_counted_as_equals(
    tmp_path: Path,
) -> None:
    """`Ana@` and `ana@` are one contact: the second event needs a key of its own."""
    rows: list[Cells] = [SALE_ROW, SALE_ROW | {"email": "Ana@Example.COM"}]
    before = sifted(SALE, rows, [0, 1])
    with RunFolder.create(tmp_path, MOMENT).writer() as writer:
        identity = identity_text(SALE, before.kept.table.columns)
        counted = writer.number(before.kept, identity)
    after = encode(
        map_rows(Sifted(counted, before.problems), SALE), SALE, namespace="", max_body=200_000
    )
    assert after.kept.table["event_key"].n_unique() == 2


@pytest.mark.parametrize("event_type", CURRENT, ids=lambda one: one.name)
@given(st.data(), st.text(max_size=5))
@settings(max_examples=10)
def test_keys_are_those_of_the_plain_definition(
    event_type: EventType, data: st.DataObject, namespace: str
) -> None:
    """Audits rebuild a ledger by `key_of`; what is sent is keyed column by column."""
    rows = data.draw(st.lists(valid_rows(event_type), min_size=1, max_size=4))
    occurrences = data.draw(st.lists(st.integers(1, 9), min_size=len(rows), max_size=len(rows)))
    table, _ = encoded(event_type, rows, namespace=namespace, occurrences=occurrences)
    assert table["event_key"].to_list() == [
        plain_key(event_type.name, namespace, identity, number)
        for identity, number in zip(table["identity"], occurrences, strict=True)
    ]


@pytest.mark.parametrize("event_type", CURRENT, ids=lambda one: one.name)
@given(st.data())
@settings(max_examples=10)
def test_the_bytes_of_an_event_do_not_hang_on_its_neighbours(
    event_type: EventType, data: st.DataObject
) -> None:
    """Columns without a null take a shorter way than those with one."""
    drawn = data.draw(st.lists(valid_rows(event_type), min_size=1, max_size=4))
    columns = dict.fromkeys(name for row in drawn for name in row)  # of one file, in one order
    rows = [{name: row.get(name) for name in columns} for row in drawn]
    together, _ = encoded(event_type, rows)
    alone = [encoded(event_type, [row])[0]["body"][0] for row in rows]
    assert together["body"].to_list() == alone
