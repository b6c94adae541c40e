"""Text cells -> typed cells, column by column. Pure.

A cell that cannot be read as its field's type is never guessed: where the event needs the field, the row is invalid;
where the field is optional, it is left out, with a warning.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl
from rdstation_events.checks import EMAIL, URL
from rdstation_events.event_type import EventType, FieldSpec

from rd_import.match import LEGAL_BASES_CELL
from rd_import.values import EVENT, PROBLEM_SCHEMA, ROW, RowGroup, Sifted

TRUE: Final = ("true", "1", "sim", "s", "yes", "y", "verdadeiro", "v")
FALSE: Final = ("false", "0", "não", "nao", "n", "no", "falso", "f")
LARGEST: Final = 2.0**53  # beyond, a JSON number loses digits
SHOWN_CHARACTERS: Final = 80
TIMESTAMP: Final = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<time>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?"
    r"\s*(?<zone>[Zz]|UTC|[+-]\d{2}:?\d{2})?)?$"
)
LEGAL_BASE = ("type", "status")


@dataclass(frozen=True, slots=True)
class CellFormat:
    """How this input writes amounts and times: decimal mark, and the IANA zone of times that name none."""

    decimal: str = "."
    timezone: str = "America/Sao_Paulo"


def type_cells(group: RowGroup, event_type: EventType, cells: CellFormat) -> Sifted[RowGroup]:
    """Read each column as its field's type and derive what is derivable.

    Args:
        group: Whole events, text cells under the schema's names.
        event_type: Whose fields the columns are.
        cells: How numbers and times are written.

    Returns:
        All rows, typed, unreadable cells null; and a problem for each unreadable cell.
    """
    table, problems = _legal_bases(group.table)
    for spec in event_type.fields:
        if spec.column in table.columns:
            typed, flaws = _column(table, spec, cells)
            problems.append(flaws)
            table = table.with_columns(typed)
    problems += _categories_not_taken(table, event_type)
    return Sifted(RowGroup(_derive(table, event_type)), pl.concat(problems))


def _column(table: pl.DataFrame, spec: FieldSpec, cells: CellFormat) -> tuple[pl.Series, pl.DataFrame]:
    column = pl.col(spec.column)
    if spec.kind == "number":
        code, value = "NOT_A_NUMBER", _number(column, cells.decimal)
    elif spec.kind == "integer":
        code, value = "NOT_AN_INTEGER", _integer(column, cells.decimal)
    elif spec.kind == "boolean":
        code, value = "NOT_A_BOOLEAN", _boolean(column)
    elif spec.kind == "timestamp":
        code, value = "NOT_A_TIMESTAMP", _timestamp(column, cells.timezone)
    elif spec.kind == "list":
        return _list(table[spec.column]), pl.DataFrame(schema=PROBLEM_SCHEMA)
    elif spec.format == "http-url" and not needed(spec):
        code, value = "INVALID_URL", _where_it_matches(column, URL)
    elif spec.format == "email" and not needed(spec):
        code, value = "INVALID_EMAIL", _where_it_matches(column, EMAIL)
    else:
        return table[spec.column], pl.DataFrame(schema=PROBLEM_SCHEMA)
    typed = table.select(value.alias(spec.column))[spec.column]
    return typed, flaws(
        table.filter(typed.is_null() & table[spec.column].is_not_null()),
        code=code,
        field=spec.column,
        limit=None,
        fatal=needed(spec),
    )


def needed(spec: FieldSpec) -> bool:
    """Tell whether an event cannot go without this field where the row has a cell for it."""
    return spec.required or spec.identity or spec.required_with is not None


def flaws(table: pl.DataFrame, *, code: str, field: str, limit: str | None, fatal: bool) -> pl.DataFrame:
    """Write one problem per line of `table`, showing the cell of `field`."""
    return table.select(
        pl.col(ROW),
        pl.lit(code).alias("code"),
        pl.lit(field).alias("field"),
        pl.col(field).cast(pl.String).str.head(SHOWN_CHARACTERS).alias("value"),
        pl.lit(limit, dtype=pl.String).alias("limit"),
        pl.lit(fatal).alias("fatal"),
    )


def _plain(column: pl.Expr, decimal: str) -> pl.Expr:
    if decimal == ",":
        return column.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return column


def _number(column: pl.Expr, decimal: str) -> pl.Expr:
    plain = _plain(column, decimal)
    value = plain.cast(pl.Float64, strict=False)
    good = plain.str.contains(r"^[+-]?(?:\d+\.?\d*|\.\d+)$") & (value.abs() < LARGEST)
    return pl.when(good).then(value)


def _integer(column: pl.Expr, decimal: str) -> pl.Expr:
    plain = _plain(column, decimal)
    digits = plain.str.extract(r"^([+-]?\d+)(?:\.0*)?$")
    value = digits.cast(pl.Int64, strict=False)
    return pl.when(value.abs() < int(LARGEST)).then(value)


def _boolean(column: pl.Expr) -> pl.Expr:
    word = column.str.to_lowercase()
    return pl.when(word.is_in(TRUE)).then(pl.lit(True)).when(word.is_in(FALSE)).then(pl.lit(False))  # noqa: FBT003


def _where_it_matches(column: pl.Expr, pattern: str) -> pl.Expr:
    return pl.when(column.str.contains(pattern)).then(column)


def _timestamp(column: pl.Expr, timezone: str) -> pl.Expr:
    parts = column.str.extract_groups(TIMESTAMP)
    time = parts.struct.field("time").fill_null("00:00")
    second = parts.struct.field("second").fill_null("00")
    fraction = parts.struct.field("fraction").fill_null("0").str.pad_end(6, "0").str.head(6)
    naive = (parts.struct.field("date") + " " + time + ":" + second).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    ) + pl.duration(microseconds=fraction.cast(pl.Int64))
    zone = parts.struct.field("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    hours = zone.str.extract(r"^[+-](\d{2})").cast(pl.Int64)
    minutes = zone.str.extract(r"(\d{2})$").cast(pl.Int64)
    offset = (sign * (hours * 60 + minutes)).fill_null(0)
    absolute = (naive - pl.duration(minutes=offset)).dt.replace_time_zone("UTC")
    local = naive.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    return pl.when(zone.is_not_null()).then(absolute).otherwise(local)


def _list(column: pl.Series) -> pl.Series:
    """Split by `;`, or read a JSON array; empty parts are left out, an empty list is null."""
    frame = column.to_frame("cell")
    split = pl.col("cell").str.split(";").list.eval(pl.element().str.strip_chars())
    parts = frame.select(split.alias("cell"))["cell"]
    json_cells = column.str.starts_with("[").fill_null(value=False)
    if json_cells.any():
        read = [_json_texts(cell) if is_json else None for cell, is_json in zip(column, json_cells, strict=True)]
        arrays = pl.Series("cell", read, dtype=pl.List(pl.String))
        parts = frame.select(pl.coalesce(pl.lit(arrays), pl.lit(parts)).alias("cell"))["cell"]
    filled = pl.col("cell").list.eval(pl.element().filter(pl.element() != ""))
    kept = pl.when(filled.list.len() > 0).then(filled).alias(column.name)
    return parts.to_frame("cell").select(kept)[column.name]


def _json_texts(cell: str) -> list[str] | None:
    try:
        values = json.loads(cell)
    except ValueError:
        return None
    if not isinstance(values, list):
        return None
    return [value.strip() if isinstance(value, str) else json.dumps(value) for value in values if value is not None]


def _legal_bases(table: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Spread a JSON cell of legal bases over the columns of their one column form."""
    problems = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    if LEGAL_BASES_CELL not in table.columns:
        return table, problems
    cells = table[LEGAL_BASES_CELL]
    read = {cell: _read_legal_bases(cell) for cell in cells.unique().to_list() if cell is not None}
    bad = [cell for cell, bases in read.items() if bases is None]
    problems.append(
        flaws(
            table.filter(cells.is_in(bad)), code="NOT_LEGAL_BASES", field=LEGAL_BASES_CELL, limit=None, fatal=True
        )
    )
    names = sorted({name for bases in read.values() for name in bases or {}})
    spread = [
        pl.Series(name, [(read.get(cell) or {}).get(name) if cell else None for cell in cells], dtype=pl.String)
        for name in names
    ]
    return table.drop(LEGAL_BASES_CELL).with_columns(spread), problems


def _categories_not_taken(table: pl.DataFrame, event_type: EventType) -> Iterator[pl.DataFrame]:
    """Refuse rows whose legal basis the event type cannot carry: consent is not left out in silence."""
    for name in table.columns:
        if name.startswith("legal_bases.") and event_type.field(name) is None:
            yield flaws(
                table.filter(pl.col(name).is_not_null()),
                code="LEGAL_BASE_NOT_TAKEN",
                field=name,
                limit=event_type.name,
                fatal=True,
            )


def _read_legal_bases(cell: str) -> dict[str, str] | None:
    try:
        bases = json.loads(cell)
    except ValueError:
        return None
    if not isinstance(bases, list) or not all(isinstance(base, dict) for base in bases):
        return None
    categories = [base.get("category") for base in bases]
    if len(set(map(str, categories))) < len(bases) or not all(isinstance(name, str) for name in categories):
        return None
    return dict(_parts_of(bases))


def _parts_of(bases: list[dict[str, object]]) -> Iterator[tuple[str, str]]:
    for base in bases:
        for part in LEGAL_BASE:
            if base.get(part) is not None:
                yield f"legal_bases.{base['category']}.{part}", str(base[part])


def _derive(table: pl.DataFrame, event_type: EventType) -> pl.DataFrame:
    """Fill `total_items` and `line_items.product_id` where they are empty; nothing else is derived."""
    if event_type.field("line_items.quantity") is None:
        return table
    if "line_items.quantity" in table.columns:
        quantity = pl.col("line_items.quantity")
        total = pl.when(quantity.is_not_null().any().over(EVENT)).then(quantity.sum().over(EVENT))
        known = [pl.col("total_items")] if "total_items" in table.columns else []
        table = table.with_columns(pl.coalesce(*known, total).alias("total_items"))
    sources = ("line_items.product_id", "line_items.sku", "line_items.product_title")
    there = [pl.col(name) for name in sources if name in table.columns]
    if there:
        table = table.with_columns(pl.coalesce(there).alias("line_items.product_id"))
    return table
