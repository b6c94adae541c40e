"""Typed rows as `cells` gives them, made up for any event type."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl
from hypothesis import strategies as st

from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW, RowGroup, Sifted
from rdstation_events import CURRENT_TYPES, EVENT_TYPES
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec

Cells = dict[str, Any]

DTYPES: Final[Mapping[str, pl.DataType]] = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
    "list": pl.List(pl.String()),
}
CURRENT: Final = [EVENT_TYPES[name] for name in CURRENT_TYPES]
AWKWARD: Final = (
    ',"x":null',
    '{"a":null,"b":null}',
    '","name":null,"',
    'a,","b":null',
    'quote " and backslash \\',
    "\\",
    ",",
    "null",
    "line\nbreak\r\nand\ttab",
    "control \x00\x01\x1f\x7f",
    "separators \u2028 \u2029",
    "ação 😀 <b>&</b>",
)

texts = st.one_of(st.sampled_from(AWKWARD), st.text(min_size=1, max_size=12))
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def empty_problems() -> pl.DataFrame:
    return pl.DataFrame(schema=PROBLEM_SCHEMA)


def frame_of(event_type: EventType, rows: Sequence[Cells], events: Sequence[int]) -> pl.DataFrame:
    """Put typed rows in the frame that `cells` would give; `events` has one ordinal per row."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [
        pl.Series(name, [row.get(name) for row in rows], dtype=_dtype(event_type, name))
        for name in names
    ]
    ours = [
        pl.Series(ROW, range(len(rows)), dtype=pl.UInt32),
        pl.Series(EVENT, events, dtype=pl.UInt32),
    ]
    return pl.DataFrame([*ours, *columns])


def sifted(event_type: EventType, rows: Sequence[Cells], events: Sequence[int]) -> Sifted[RowGroup]:
    return Sifted(RowGroup(frame_of(event_type, rows, events)), empty_problems())


@st.composite
def valid_rows(draw: st.DrawFn, event_type: EventType) -> Cells:
    """Draw the cells of one valid row; some columns are null, some are not there."""
    objects = {spec.required_with for spec in event_type.fields} - {None}
    given_objects = {name for name in sorted(map(str, objects)) if draw(st.booleans())}
    cells: Cells = {}
    for spec in event_type.fields:
        owner = spec.column.rpartition(".")[0]
        if owner and owner not in given_objects:
            cells[spec.column] = None
        elif spec.required or spec.required_with is not None or draw(st.booleans()):
            cells[spec.column] = draw(values_of(spec))
        elif draw(st.booleans()):
            cells[spec.column] = None
    if event_type.takes_custom_fields:
        names = draw(st.lists(st.sampled_from(("cf_a", "cf_b_2", "cf_null")), unique=True))
        cells |= {name: draw(st.none() | texts) for name in names}
    return cells


def values_of(spec: FieldSpec) -> st.SearchStrategy[Any]:
    least = 0 if spec.minimum is None else int(spec.minimum)
    most = 2**53 - 1 if spec.maximum is None else int(spec.maximum)
    by_kind: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(least, most),
        "number": st.floats(least, 1e15),
        "boolean": st.booleans(),
        "timestamp": moments,
        "list": st.lists(texts, min_size=1, max_size=3),
    }
    by_format = {
        "email": ("ana@example.com", "João.Silva@Exemplo.com.br"),
        "http-url": ("https://example.com/a?b=1&c=2", "http://example.com"),
    }
    if spec.kind != "text":
        return by_kind[spec.kind]
    closed = spec.options or by_format.get(spec.format or "")
    return st.sampled_from(closed) if closed else texts


def _dtype(event_type: EventType, name: str) -> pl.DataType:
    spec = event_type.field(name)
    return pl.String() if spec is None else DTYPES[spec.kind]
