"""Valid rows -> events: one payload per event, the rows of an order becoming its `line_items`. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from rd_import.cells import SHOWN_CHARACTERS
from rd_import.validate import sift
from rd_import.values import (
    EVENT,
    KEY,
    OCCURRENCE,
    PROBLEM_SCHEMA,
    ROW,
    EventGroup,
    RowGroup,
    Sifted,
)
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec

ITEMS: Final = "line_items"
LEGAL_BASES: Final = "legal_bases"
CATEGORIES: Final = ("data_processing", "communications")  # the order of the vendor's examples


def map_rows(
    rows: Sifted[RowGroup], event_type: EventType, *, items_over_limit: str = "refuse"
) -> Sifted[EventGroup]:
    """Make one event of each `#event`.

    Args:
        rows: Valid, typed rows of whole events, sorted by event.
        event_type: Whose payload is built.
        items_over_limit: What becomes of an event with more items than the API takes: `refuse` it, send the
            `first_20`, or `omit` them all.

    Returns:
        The events, and all problems: those given, and those of events whose rows contradict each other or that
        have more items than the API takes.
    """
    sifted = rows
    if rows.kept.table[EVENT].n_unique() < rows.kept.table.height:
        table = rows.kept.table
        too_many = _too_many_items(table, event_type)
        if items_over_limit != "refuse" and too_many.height:
            most = (event_type.max_line_items or 0) if items_over_limit == "first_20" else 0
            table = _without_items(table, too_many, most)
            too_many = too_many.with_columns(
                pl.lit("ITEMS_CUT").alias("code"),
                pl.lit(str(most)).alias("limit"),
                pl.lit(value=False).alias("fatal"),
            )
        found = pl.concat([rows.problems, _conflicts(table), too_many])
        sifted = sift(table, found)
    return Sifted(_events(sifted.kept.table, event_type), sifted.problems)


def map_row(cells: dict[str, Any], event_type: EventType) -> dict[str, Any]:
    """Map the typed cells of one event of one row: the plain definition, which the vectorised one must equal."""
    payload: dict[str, Any] = {}
    item: dict[str, Any] = {}
    bases: dict[str, dict[str, Any]] = {}
    for spec in event_type.fields:
        value = cells.get(spec.column)
        if value is None or not spec.sent:
            continue
        value = _wire_value(value, spec)
        if spec.column.startswith(f"{ITEMS}."):
            item[spec.column.removeprefix(f"{ITEMS}.")] = value
        elif spec.column.startswith(f"{LEGAL_BASES}."):
            _, category, part = spec.column.split(".")
            bases.setdefault(category, {"category": category})[part] = value
        else:
            payload[spec.column] = value
    custom = {
        name: value
        for name, value in cells.items()
        if value is not None and _is_extra(name, event_type)
    }
    payload |= custom
    if item:
        payload[ITEMS] = [item]
    if bases:
        payload[LEGAL_BASES] = [bases[category] for category in CATEGORIES if category in bases]
    return payload


def paths_of(payload: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Give each value of an event of one row: its path in the JSON, its field, and the value."""
    for name, value in payload.items():
        if name == ITEMS:
            for part, cell in value[0].items():
                yield f"payload.{ITEMS}[].{part}", f"{ITEMS}.{part}", cell
        elif name == LEGAL_BASES:
            for base in value:
                for part, cell in base.items():
                    if part != "category":
                        field = f"{LEGAL_BASES}.{base['category']}.{part}"
                        yield f"payload.{LEGAL_BASES}[].{part}", field, cell
        else:
            yield f"payload.{name}", name, value


def _wire_value(value: Any, spec: FieldSpec) -> Any:
    if spec.kind == "timestamp":
        text = value.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
        return f"{text}Z"
    return str(value) if spec.as_text else value


def _conflicts(table: pl.DataFrame) -> pl.DataFrame:
    """Name the rows whose header says something else than the event's first row."""
    found = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    for name in _header(table):
        first = pl.col(name).first().over(EVENT)
        found.append(
            table.select(ROW, EVENT, name, pl.col(ROW).first().over(EVENT).alias("first"))
            .filter(table.select(pl.col(name).ne_missing(first))[name])
            .select(
                pl.col(ROW),
                pl.lit("CONFLICTING_ROWS").alias("code"),
                pl.lit(name).alias("field"),
                _shown(name, table.schema[name]).alias("value"),
                pl.col("first").cast(pl.String).alias("limit"),
                pl.lit(value=True).alias("fatal"),
            )
        )
    return pl.concat(found)


def _shown(name: str, dtype: pl.DataType) -> pl.Expr:
    text = (
        pl.col(name).list.join(";") if isinstance(dtype, pl.List) else pl.col(name).cast(pl.String)
    )
    return text.str.head(SHOWN_CHARACTERS)


def _header(table: pl.DataFrame) -> list[str]:
    ours = {
        ROW,
        EVENT,
        OCCURRENCE,
        "event_timestamp",
    }  # the source's own date may differ from row to row
    return [n for n in table.columns if n not in ours and not n.startswith((f"{ITEMS}.", KEY))]


def _too_many_items(table: pl.DataFrame, event_type: EventType) -> pl.DataFrame:
    items = [pl.col(name).is_not_null() for name in table.columns if name.startswith(f"{ITEMS}.")]
    if not items or event_type.max_line_items is None:
        return pl.DataFrame(schema=PROBLEM_SCHEMA)
    is_item = pl.any_horizontal(items)
    return (
        table.with_columns(
            is_item.cast(pl.Int32).cum_sum().over(EVENT).alias("place"),
            is_item.sum().over(EVENT).alias("items"),
        )
        .filter(pl.col("place") == event_type.max_line_items + 1)
        .unique(EVENT, keep="first", maintain_order=True)
        .select(
            pl.col(ROW),
            pl.lit("TOO_MANY_ITEMS").alias("code"),
            pl.lit(ITEMS).alias("field"),
            pl.col("items").cast(pl.String).alias("value"),
            pl.lit(str(event_type.max_line_items)).alias("limit"),
            pl.lit(value=True).alias("fatal"),
        )
    )


def _without_items(table: pl.DataFrame, too_many: pl.DataFrame, most: int) -> pl.DataFrame:
    """Empty the items beyond so many of events that have too many."""
    names = [name for name in table.columns if name.startswith(f"{ITEMS}.")]
    events = table.filter(pl.col(ROW).is_in(too_many[ROW].implode()))[EVENT].unique()
    is_item = pl.any_horizontal(pl.col(name).is_not_null() for name in names)
    place = is_item.cast(pl.Int32).cum_sum().over(EVENT)
    goes = pl.col(EVENT).is_in(events.implode()) & (place > most)
    return table.with_columns(pl.when(~goes).then(pl.col(name)).alias(name) for name in names)


def _events(table: pl.DataFrame, event_type: EventType) -> EventGroup:
    table = table.with_columns(*_items(table, event_type), *_bases(table, event_type))
    if table[EVENT].n_unique() < table.height:
        table = table.group_by(EVENT, maintain_order=True).agg(
            pl.exclude(ITEMS).first(),
            *(
                [pl.col(ITEMS).filter(pl.col(ITEMS).is_not_null())]
                if ITEMS in table.columns
                else []
            ),
        )
    elif ITEMS in table.columns:
        table = table.with_columns(
            pl.when(pl.col(ITEMS).is_not_null()).then(pl.concat_list(ITEMS)).alias(ITEMS)
        )
    if ITEMS in table.columns:
        table = table.with_columns(
            pl.when(pl.col(ITEMS).list.len() > 0).then(pl.col(ITEMS)).alias(ITEMS)
        )
    facts = [ROW, EVENT, OCCURRENCE, *event_type.identity, "event_timestamp", "identifier"]
    facts += [name for name in table.columns if name.startswith(KEY)]
    payload = [
        _wire(spec).alias(spec.column)
        for spec in event_type.fields
        if spec.sent and "." not in spec.column and spec.column in table.columns
    ]
    payload += [pl.col(name) for name in table.columns if _is_extra(name, event_type)]
    payload += [pl.col(name) for name in (ITEMS, LEGAL_BASES) if name in table.columns]
    return EventGroup(
        event_type.name,
        table.select(payload),
        table.select(name for name in dict.fromkeys(facts) if name in table.columns),
    )


def _is_extra(name: str, event_type: EventType) -> bool:
    return (
        event_type.takes_custom_fields and name.startswith("cf_") and event_type.field(name) is None
    )


def _items(table: pl.DataFrame, event_type: EventType) -> list[pl.Expr]:
    specs = [
        s
        for s in event_type.fields
        if s.column.startswith(f"{ITEMS}.") and s.column in table.columns
    ]
    if not specs:
        return []
    filled = pl.any_horizontal(pl.col(spec.column).is_not_null() for spec in specs)
    item = pl.struct(_wire(spec).alias(spec.column.removeprefix(f"{ITEMS}.")) for spec in specs)
    return [pl.when(filled).then(item).alias(ITEMS)]


def _bases(table: pl.DataFrame, event_type: EventType) -> list[pl.Expr]:
    found = []
    for category in CATEGORIES:
        name = f"{LEGAL_BASES}.{category}"
        if category not in event_type.legal_base_categories or f"{name}.type" not in table.columns:
            continue
        status = (
            pl.col(f"{name}.status")
            if f"{name}.status" in table.columns
            else pl.lit(None, dtype=pl.String)
        )
        base = pl.struct(
            pl.lit(category).alias("category"),
            pl.col(f"{name}.type").alias("type"),
            status.alias("status"),
        )
        found.append(pl.when(pl.col(f"{name}.type").is_not_null()).then(base))
    if not found:
        return []
    bases = pl.concat_list(found).list.drop_nulls()
    return [pl.when(bases.list.len() > 0).then(bases).alias(LEGAL_BASES)]


def _wire(spec: FieldSpec) -> pl.Expr:
    """Give a field as the API wants to read it."""
    column = pl.col(spec.column)
    if spec.kind == "timestamp":
        seconds = column.dt.strftime("%Y-%m-%dT%H:%M:%S")
        fraction = column.dt.microsecond().cast(pl.String).str.zfill(6).str.strip_chars_end("0")
        return pl.when(fraction == "").then(seconds + "Z").otherwise(seconds + "." + fraction + "Z")
    return column.cast(pl.String) if spec.as_text else column
