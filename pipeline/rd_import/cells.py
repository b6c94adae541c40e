"""Text cells -> typed cells, column by column. Pure.

A cell that cannot be read as its field's type is never guessed: where the event needs the field,
the row is invalid; where the field is optional, it is left out, with a warning.
"""

import json
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Final

import polars as pl

from rd_import.names import is_utf8_read_as_cp1252
from rd_import.nesting import read_json
from rd_import.values import EVENT, KEY, LEGAL_BASES_CELL, PROBLEM_SCHEMA, ROW, RowGroup, Sifted
from rd_import.written_dates import TIMESTAMP, usual
from rdstation_events.checks import EMAIL, URL
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec

DEFAULT_ZONE: Final = "America/Sao_Paulo"
HOME: Final = "BR"  # the country of phones that name none
TRUE: Final = ("true", "1", "sim", "s", "yes", "y", "verdadeiro", "v")
FALSE: Final = ("false", "0", "não", "nao", "n", "no", "falso", "f")
DECIMALS: Final = 6  # of computed amounts: more than any currency has, fewer than a float's noise
LARGEST: Final = 2.0**53  # beyond, a JSON number loses digits
SHOWN_CHARACTERS: Final = 80
RFC_3339: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
CURRENCY: Final = r"(?:[A-Z]{0,3}\$|[€£¥]|BRL|USD|EUR|ARS|MXN|CLP|COP|PEN|UYU|CAD)"
PLAIN_DIGITS: Final = r"^-?[0-9]+$"
PLAIN_POINT: Final = r"^-?[0-9]+(?:\.[0-9]+)?$"
AMOUNT: Final = (
    rf"^'?\(?\s*[-+−]?\s*(?:{CURRENCY}\s*)?[-+−]?\s*"
    rf"(?<digits>[0-9.,][0-9.,\s']*?)\s*{CURRENCY}?\s*-?\)?$"
)
ONE_SIGN: Final = r"^(?:[^()+−-]*[+−-]?[^()+−-]*|\([^()+−-]*\))$"  # `--1` and `(5` are no amounts
NEGATIVE: Final = rf"^'?(?:\(.*\)|\s*(?:{CURRENCY}\s*)?[-−].*|.*[0-9]\s*-)$"
GROUPED: Final = r"^(?:[0-9]{1,3}(?:G[0-9]{3})+(?:D[0-9]*)?|[0-9]+(?:D[0-9]*)?|D[0-9]+)$"
CLOCK: Final = r"^(?<h>[0-9]{1,4}):(?<m>[0-5][0-9]):(?<s>[0-5][0-9])$"
TWO_PARTS: Final[Mapping[str, str]] = {
    "m:ss": r"^(?<m>[0-9]{1,4}):(?<s>[0-5][0-9])(?<h>)$",
    "h:mm": r"^(?<h>[0-9]{1,4}):(?<m>[0-5][0-9])(?<s>)$",
}
UNIT: Final = r"[0-9]\s*(?:[hms]|min)"
UNITS: Final = (
    r"^(?:(?<h>[0-9]+)\s*h(?:oras?|ours?)?)?"
    r"\s*(?:(?<m>[0-9]+)\s*m(?:in(?:utos?|utes?)?)?)?"
    r"\s*(?:(?<s>[0-9]+)\s*s(?:eg(?:undos?)?|ec(?:onds?)?)?)?$"
)
PLAIN_EMAIL: Final = (
    r"^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+){0,5}"
    r"@(?:[A-Za-z0-9]{1,40}(?:-[A-Za-z0-9]{1,10})?\.){1,4}"
    r"(?:com|net|org|br|ar|mx|co|io|es|pt|us|edu|gov)$"
)
"""E-mails on which email-validator has nothing to say; it is shown each of the others."""
AREA: Final = "(?:[14689][1-9]|2[12478]|3[1-578]|5[1345]|7[134579])"
BRAZILIAN: Final = rf"^(?:\+?55)?({AREA}(?:9[6-9][0-9]{{7}}|3[2-6][0-9]{{6}}))$"
INTERNATIONAL: Final = r"^(\+55[1-9]{2}9?[0-9]{8})$"
LOST_CHARACTER: Final = "\ufffd"
INVISIBLE: Final = "\u00a0\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
MAYBE_GARBLED: Final = rf"[ÂÃâ][^\x00-\x7f]|{LOST_CHARACTER}"
DAMAGE: Final = (
    r"^(?:#{3,}|#(?:N/[AD]|REF!|VALUE!|VALOR!|DIV/0!|NAME\?|NOME\?|NULL!|NULO!|NUM!|N[ÚU]M!))$"
)
SEVERAL: Final = r"^[\[#0-9+-]|;|^\s|\s$"
"""A cell of a list that holds more than one text, blanks at an end, or perhaps what a spreadsheet made of it."""
LOST_DIGITS: Final = r"^[+-]?[0-9](?:[.,][0-9]+)?[eE]\+?[0-9]{1,3}$"
DATE_AS_NUMBER: Final = r"^[2-7][0-9]{4}(?:[.,][0-9]+)?$"  # days since 1900: 1954 to 2119
DURATIONS: Final = frozenset(
    {"call_duration", "media_duration", "media_user_interaction_duration"}
)  # seconds
PLACES: Final[Mapping[str, str]] = {"shipping_country": "country", "shipping_state": "state"}
ID_COLUMNS: Final = frozenset({"sku", "tracking_code"})
STATES: Final[Mapping[str, str]] = {
    "acre": "AC", "alagoas": "AL", "amapa": "AP", "amazonas": "AM", "bahia": "BA", "ceara": "CE",
    "distrito federal": "DF", "espirito santo": "ES", "goias": "GO", "maranhao": "MA",
    "mato grosso": "MT", "mato grosso do sul": "MS", "minas gerais": "MG", "para": "PA",
    "paraiba": "PB", "parana": "PR",
    "pernambuco": "PE", "piaui": "PI", "rio de janeiro": "RJ", "rio grande do norte": "RN",
    "rio grande do sul": "RS", "rondonia": "RO", "roraima": "RR", "santa catarina": "SC",
    "sao paulo": "SP", "sergipe": "SE", "tocantins": "TO",
}  # fmt: skip
SAME_WORD: Final[Mapping[str, str]] = {
    "r$": "BRL", "real": "BRL", "reais": "BRL", "us$": "USD", "€": "EUR", "euro": "EUR", "euros": "EUR",
    "incoming": "Inbound", "entrada": "Inbound", "recebida": "Inbound",
    "outgoing": "Outbound", "saida": "Outbound", "efetuada": "Outbound",
}  # fmt: skip
"""Word as `folded` writes it → the only legal word that it can mean."""
LEGAL_BASE = ("type", "status")


@dataclass(frozen=True, slots=True)
class CellFormat:
    """How an input writes amounts and times.

    Args:
        decimal: Decimal mark, `.` or `,`; `each` where every cell has only one reading.
        timezone: IANA zone of times that name none.
        dates: Order of day and month where the year is not first: `dmy`, `mdy` or `ymd`.
        scale: What a number is multiplied by.
        duration: What a length of two parts means, `m:ss` or `h:mm`; None leaves it unreadable.
        per: The field that a number is divided by.
        sum: The number is added up over the rows of an event.
        columns: Fields that are written otherwise.
    """

    decimal: str = "."
    timezone: str = DEFAULT_ZONE
    dates: str = "ymd"
    scale: float = 1
    duration: str | None = None
    per: str | None = None
    sum: bool = False
    columns: Mapping[str, "CellFormat"] = field(default_factory=dict)

    def of(self, column: str) -> "CellFormat":
        """Give the format of one field's cells."""
        return self.columns.get(column, self)


Formats = CellFormat | Sequence[tuple[int, CellFormat]]
"""One format for all rows, or each file's format with its first `#row`, in order."""


def type_cells(
    group: RowGroup, event_type: EventType, cells: Formats, *, lists_over_limit: str = "refuse"
) -> Sifted[RowGroup]:
    """Read each column as its field's type and derive what is derivable.

    Args:
        group: Whole events, text cells under the schema's names.
        event_type: Whose fields the columns are.
        cells: How numbers and times are written.
        lists_over_limit: What becomes of lists that are too long: `refuse` leaves that to the schema, `first` keeps
            as many as are allowed, `omit` leaves the field out.

    Returns:
        All rows, typed, unreadable cells null; and a problem for each unreadable cell.
    """
    formats = [(0, cells)] if isinstance(cells, CellFormat) else list(cells)
    table, problems = _legal_bases(group.table)
    keyed = any(name.startswith(KEY) for name in table.columns)
    specs = [
        # Where the mapping names a key, the type's own identity is none, and an optional field is one like others.
        replace(spec, identity=spec.identity and not keyed)
        for spec in event_type.fields
        if spec.column in table.columns
    ]
    plain = {
        spec.column: typed
        for spec in specs
        if (typed := _plain_column(table[spec.column], spec, formats)) is not None
    }
    table = table.with_columns(plain.values())
    table, damaged = _without_damage(table, specs, known=plain)
    problems += damaged
    for spec in specs:
        if spec.column not in plain:
            typed, flaws = _column(table, spec, formats)
            problems.append(flaws)
            table = table.with_columns(typed)
    problems += _categories_not_taken(table, event_type)
    if lists_over_limit != "refuse":
        table, cut = _cut_lists(table, event_type, keep=lists_over_limit == "first")
        problems += cut
    table = _computed(table, formats)
    return Sifted(RowGroup(_derive(table, event_type)), pl.concat(problems))


def _plain_column(
    cells: pl.Series, spec: FieldSpec, formats: Sequence[tuple[int, CellFormat]]
) -> pl.Series | None:
    """Read a column of which every cell is in the plainest form of its field; None where one is not.

    Such a cell holds no damage and no flaw, and needs none of the patterns for what people write.
    """
    ways = [form.of(spec.column) for _, form in formats]
    if (
        cells.dtype != pl.String
        or spec.column in DURATIONS
        or spec.kind in {"boolean", "timestamp"}
        or any(form.scale != 1 for form in ways)
    ):
        return None
    if spec.kind in {"number", "integer"}:
        points = all(form.decimal == "." for form in ways)
        whole = spec.kind == "integer" or not points
        if not cells.str.contains(PLAIN_DIGITS if whole else PLAIN_POINT).all():
            return None
        typed = cells.cast(pl.Int64 if spec.kind == "integer" else pl.Float64, strict=False)
        fits = typed.null_count() == cells.null_count() and (typed.abs() < LARGEST).all()
        return typed if fits else None
    if spec.kind == "list":
        return _list_of_one(cells)
    pattern = {"email": PLAIN_EMAIL, "phone": INTERNATIONAL}.get(spec.format or "")
    return cells if pattern and cells.str.contains(pattern).all() else None


def _list_of_one(cells: pl.Series) -> pl.Series | None:
    """Give lists of one text, None where a cell may hold several."""
    if cells.str.contains(SEVERAL).any():
        return None
    cell = pl.col(cells.name)
    return cells.to_frame().select(
        pl.when(cell.is_not_null()).then(pl.concat_list(cell)).alias(cells.name)
    )[cells.name]


def _cut_lists(
    table: pl.DataFrame, event_type: EventType, *, keep: bool
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    problems = []
    for spec in event_type.fields:
        if spec.max_items is None or spec.column not in table.columns:
            continue
        column = pl.col(spec.column)
        too_many = column.list.len() > spec.max_items
        found = table.filter(too_many).with_columns(column.list.join(";"))
        limit = str(spec.max_items)
        problems.append(
            flaws(found, code="VALUES_CUT", field=spec.column, limit=limit, fatal=False)
        )
        cut = column.list.head(spec.max_items) if keep else pl.lit(None)
        table = table.with_columns(pl.when(too_many).then(cut).otherwise(column).alias(spec.column))
    return table, problems


def _computed(table: pl.DataFrame, formats: Sequence[tuple[int, CellFormat]]) -> pl.DataFrame:
    """Divide and add up what the mapping says."""
    written = {name: one for _, form in formats for name, one in form.columns.items()}
    for name, form in written.items():
        if form.per is not None and {name, form.per} <= set(table.columns):
            other = pl.col(form.per)
            table = table.with_columns(
                (pl.col(name) / pl.when(other > 0).then(other)).round(DECIMALS).alias(name)
            )
        if form.sum and name in table.columns:
            total = pl.col(name).sum().over(EVENT)
            if table.schema[name] == pl.Float64:
                total = total.round(DECIMALS)
            there = pl.col(name).is_not_null().any().over(EVENT)
            table = table.with_columns(pl.when(there).then(total).alias(name))
    return table


def _without_damage(
    table: pl.DataFrame, specs: Sequence[FieldSpec], *, known: Collection[str]
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Take out what a spreadsheet destroyed: `5,52E+12`, `#N/A`, `########`, 46138 for a date.

    Columns that are `known` to hold none are passed over.
    """
    problems: list[pl.DataFrame] = []
    by_name = {spec.column: spec for spec in specs}
    for name, dtype in table.schema.items():
        if dtype != pl.String or name.startswith("#") or name in known:
            continue
        spec = by_name.get(name)
        broken = table[name].str.contains(damage_of(spec)).fill_null(value=False)
        if not broken.any():
            continue
        fatal = spec is not None and needed(spec)
        problems.append(
            flaws(
                table.filter(broken), code="SPREADSHEET_DAMAGE", field=name, limit=None, fatal=fatal
            )
        )
        table = table.with_columns(pl.when(~broken).then(pl.col(name)).alias(name))
    return table, problems


def damage_of(spec: FieldSpec | None) -> str:
    """Give the pattern of cells that a spreadsheet destroyed.

    Free text may hold `1E+02`; an id or a phone may not.
    """
    if spec is not None and spec.kind == "timestamp":
        return f"{DAMAGE}|{LOST_DIGITS}|{DATE_AS_NUMBER}"
    if (
        spec is not None
        and spec.kind == "text"
        and not spec.identity
        and spec.format != "phone"
        and not _is_id(spec.column)
    ):
        return DAMAGE
    return f"{DAMAGE}|{LOST_DIGITS}"


def _is_id(column: str) -> bool:
    return column.rpartition(".")[2] in ID_COLUMNS or column.endswith(("_id", "identifier"))


def _column(
    table: pl.DataFrame, spec: FieldSpec, formats: Sequence[tuple[int, CellFormat]]
) -> tuple[pl.Series, pl.DataFrame]:
    column = pl.col(spec.column)
    cells = table[spec.column]
    if spec.kind == "number":
        code, typed = "NOT_A_NUMBER", _per_file(table, spec, formats, numbers)
    elif spec.column in DURATIONS:
        code, typed = "NOT_A_DURATION", _per_file(table, spec, formats, durations)
    elif spec.kind == "integer":
        code, typed = "NOT_AN_INTEGER", _per_file(table, spec, formats, integers)
    elif spec.kind == "boolean":
        code, typed = (
            "NOT_A_BOOLEAN",
            table.select(_boolean(column).alias(spec.column))[spec.column],
        )
    elif spec.kind == "timestamp":
        code, typed = "NOT_A_TIMESTAMP", _per_file(table, spec, formats, timestamps)
    elif spec.kind == "list":
        return _list(cells), pl.DataFrame(schema=PROBLEM_SCHEMA)
    elif spec.format == "http-url" and not needed(spec):
        code, typed = (
            "INVALID_URL",
            table.select(_where_it_matches(column, URL).alias(spec.column))[spec.column],
        )
    elif spec.format == "email":
        code, typed = "INVALID_EMAIL", emails(cells, keep_wrong=needed(spec))
    elif spec.format == "phone":
        code, typed = "NOT_A_PHONE", phones(cells, keep_unknown=needed(spec))
    elif spec.options:
        return _options(cells, spec.options), pl.DataFrame(schema=PROBLEM_SCHEMA)
    elif spec.column in PLACES:
        return places(cells, PLACES[spec.column]), pl.DataFrame(schema=PROBLEM_SCHEMA)
    else:
        return cells, _garbled(table, spec.column)
    return typed, flaws(
        table.filter(typed.is_null() & cells.is_not_null()),
        code=code,
        field=spec.column,
        limit=None,
        fatal=needed(spec),
    )


def _garbled(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Name texts that lost their accents before they were exported: `JoÃ£o`, `Jo�o`."""
    cells = table[name]
    odd = cells.filter(cells.str.contains(MAYBE_GARBLED)).unique().to_list()
    found = [one for one in odd if LOST_CHARACTER in one or is_utf8_read_as_cp1252(one)]
    return flaws(
        table.filter(cells.is_in(found)) if found else table.clear(),
        code="GARBLED_TEXT",
        field=name,
        limit=None,
        fatal=False,
    )


def _per_file(
    table: pl.DataFrame,
    spec: FieldSpec,
    formats: Sequence[tuple[int, CellFormat]],
    read: Callable[[pl.Series, CellFormat], pl.Series],
) -> pl.Series:
    """Read a column in the format of the file that each row is from."""
    ways = [(first, form.of(spec.column)) for first, form in formats]
    typed = read(table[spec.column], ways[0][1])
    for (_, before), (first, form) in pairwise(ways):
        if form != before:
            typed = read(table[spec.column], form).zip_with(table[ROW] >= first, typed)
    return typed


def needed(spec: FieldSpec) -> bool:
    """Tell whether an event cannot go without this field where the row has a cell for it."""
    return spec.required or spec.identity or spec.required_with is not None


def flaws(
    table: pl.DataFrame, *, code: str, field: str, limit: str | None, fatal: bool
) -> pl.DataFrame:
    """Write one problem per line of `table`, showing the cell of `field`."""
    if table.is_empty():  # nearly always; a selection of nothing took a twelfth of reading a file
        return pl.DataFrame(schema=PROBLEM_SCHEMA)
    return table.select(
        pl.col(ROW),
        pl.lit(code).alias("code"),
        pl.lit(field).alias("field"),
        pl.col(field).cast(pl.String).str.head(SHOWN_CHARACTERS).alias("value"),
        pl.lit(limit, dtype=pl.String).alias("limit"),
        pl.lit(fatal).alias("fatal"),
    )


def numbers(cells: pl.Series, form: CellFormat) -> pl.Series:
    """Read amounts: currency sign, grouped thousands, a sign before or behind; others are null."""
    value = _plain_text(cells, form.decimal).cast(pl.Float64, strict=False)
    if form.scale != 1:
        value = (value * form.scale).round(DECIMALS)
    return value.to_frame().select(
        pl.when(pl.col(cells.name).abs() < LARGEST).then(pl.col(cells.name))
    )[cells.name]


def integers(cells: pl.Series, form: CellFormat) -> pl.Series:
    """Read whole numbers; `2,0` and `2.00` are whole, and scaled ones are rounded."""
    if form.scale != 1:
        return numbers(cells, form).round().cast(pl.Int64)
    whole = (
        _plain_text(cells, form.decimal)
        .str.extract(r"^(-?[0-9]+)(?:\.0*)?$")
        .cast(pl.Int64, strict=False)
    )
    return whole.to_frame().select(
        pl.when(pl.col(cells.name).abs() < int(LARGEST)).then(pl.col(cells.name))
    )[cells.name]


def _plain_text(cells: pl.Series, decimal: str) -> pl.Series:
    """Write amounts with a decimal point, no groups and no currency; others are null."""
    if cells.str.contains(PLAIN_POINT if decimal == "." else PLAIN_DIGITS).all():
        return cells  # as most programs write them
    name = pl.col(cells.name)
    staged = cells.to_frame().select(
        name, bare_amount(name).alias("bare"), name.str.contains(NEGATIVE).alias("negative")
    )
    plain = digits(pl.col("bare"), decimal)
    return staged.select(
        pl.when("negative").then(pl.lit("-") + plain).otherwise(plain).alias(cells.name)
    )[cells.name]


def bare_amount(column: pl.Expr) -> pl.Expr:
    """Give an amount without currency, sign and blanks; other text stays as it is."""
    bare = column.str.replace(AMOUNT, "${digits}").str.strip_chars()
    return pl.when(column.str.contains(ONE_SIGN)).then(bare).otherwise(column)


def digits(bare: pl.Expr, decimal: str) -> pl.Expr:
    """Write an amount with a decimal point and no groups; null where it is not of that form."""
    if decimal == "each":
        return pl.coalesce(digits(bare, "."), digits(bare, ","))
    mark, groups = (",", ".") if decimal == "," else (".", ",")
    form = GROUPED.replace("G", rf"[{groups}\s']").replace("D", rf"\{mark}")
    plain = bare.str.replace_all(rf"[{groups}\s']", "")
    return pl.when(bare.str.contains(form)).then(plain.str.replace(mark, ".", literal=True))


def durations(cells: pl.Series, form: CellFormat) -> pl.Series:
    """Read seconds: `58`, `00:00:58`, `1m02s`. `01:32` may be hours or minutes, so it is none."""
    whole = integers(cells, form)
    if whole.null_count() == cells.null_count():
        return whole
    column = pl.col(cells.name)
    clock = _seconds(column.str.extract_groups(CLOCK))
    if form.duration is not None:
        clock = pl.coalesce(clock, _seconds(column.str.extract_groups(TWO_PARTS[form.duration])))
    units = pl.when(column.str.contains(UNIT)).then(
        _seconds(column.str.to_lowercase().str.extract_groups(UNITS))
    )
    return cells.to_frame().select(pl.coalesce(pl.lit(whole), clock, units).alias(cells.name))[
        cells.name
    ]


def _seconds(parts: pl.Expr) -> pl.Expr:
    fields = [parts.struct.field(name).cast(pl.Int64, strict=False) for name in ("h", "m", "s")]
    total = fields[0].fill_null(0) * 3600 + fields[1].fill_null(0) * 60 + fields[2].fill_null(0)
    return pl.when(pl.any_horizontal(one.is_not_null() for one in fields)).then(total)


def _boolean(column: pl.Expr) -> pl.Expr:
    word = column.str.to_lowercase()
    return pl.when(word.is_in(TRUE)).then(pl.lit(True)).when(word.is_in(FALSE)).then(pl.lit(False))


def _options(cells: pl.Series, options: Sequence[str]) -> pl.Series:
    """Write a legal word as the API spells it, whatever its case, or a word that can only mean it.

    Others are left for the schema to name.
    """
    by_word = {word: one for word, one in SAME_WORD.items() if one in options}
    by_word |= {one.casefold(): one for one in options}
    known = {
        one: by_word[folded(one)]
        for one in cells.unique().to_list()
        if one is not None and folded(one) in by_word and one not in options
    }
    return cells.replace(list(known), list(known.values())) if known else cells


def _where_it_matches(column: pl.Expr, pattern: str) -> pl.Expr:
    return pl.when(column.str.contains(pattern)).then(column)


def timestamps(cells: pl.Series, form: CellFormat) -> pl.Series:
    """Read instants: the year first, or in the file's order; local times by the file's zone."""
    if cells.null_count() < len(cells) and cells.str.contains(RFC_3339).all():
        return _sendable(
            cells.str.to_datetime(
                "%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us"
            ).dt.convert_time_zone("UTC")
        )
    parts = cells.to_frame().select(
        pl.lit(usual(cells)).str.extract_groups(TIMESTAMP).struct.unnest()
    )
    staged = parts.with_columns(
        *_date(form.dates), _clock().alias("clock"), _offset().alias("offset")
    )
    naive = pl.concat_str("date", "clock").str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    )
    fraction = pl.col("fraction").fill_null("0").str.pad_end(6, "0").str.head(6).cast(pl.Int64)
    staged = staged.with_columns((naive + pl.duration(microseconds=fraction)).alias("naive"))
    absolute = (pl.col("naive") - pl.duration(minutes="offset")).dt.replace_time_zone("UTC")
    local = _local(pl.col("naive"), form.timezone)
    # Summer time may begin at midnight: a date alone is that day all the same.
    first = _local(pl.col("naive") + pl.duration(hours=1), form.timezone)
    local = pl.coalesce(local, pl.when(pl.col("hour").is_null()).then(first))
    zoned = pl.col("zone").is_not_null()
    return _sendable(
        staged.select(
            pl.when(zoned)
            .then(absolute)
            .otherwise(local.dt.convert_time_zone("UTC"))
            .alias(cells.name)
        )[cells.name]
    )


def _local(naive: pl.Expr, zone: str) -> pl.Expr:
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")


def _sendable(instants: pl.Series) -> pl.Series:
    """Leave out instants whose year in UTC has no four digits."""
    name = pl.col(instants.name)
    return instants.to_frame().select(pl.when(name.dt.year().is_between(1, 9999)).then(name))[
        instants.name
    ]


def _date(order: str) -> Iterator[pl.Expr]:
    """Write the date's parts as `YYYY-MM-DD`, null where they are of another length."""
    by_order = {"dmy": "cba", "mdy": "cab", "ymd": "abc"}
    year_first = pl.col("a").str.len_chars() == 4
    year, month, day = (
        pl.when(year_first).then(pl.col(first)).otherwise(pl.col(other))
        for first, other in zip("abc", by_order[order], strict=True)
    )
    year = pl.when(year.str.len_chars() == 2).then(pl.lit("20") + year).otherwise(year)
    good = (month.str.len_chars() <= 2) & (day.str.len_chars() <= 2) & (year.str.len_chars() == 4)
    written = pl.concat_str(year, pl.lit("-"), month.str.zfill(2), pl.lit("-"), day.str.zfill(2))
    yield pl.when(good).then(written).alias("date")


def _clock() -> pl.Expr:
    """Write a time of day as ` HH:MM:SS`, midnight where none is told; others are null."""
    hour = pl.col("hour").cast(pl.Int64, strict=False)
    half = pl.col("half").str.to_lowercase().str.head(1)
    of_twelve = hour % 12 + pl.when(half == "p").then(12).otherwise(0)
    hour = pl.when(half.is_null()).then(hour).when((hour >= 1) & (hour <= 12)).then(of_twelve)
    hours = hour.cast(pl.String).str.zfill(2)
    text = pl.concat_str(
        pl.lit(" "), hours, pl.lit(":"), "minute", pl.lit(":"), pl.col("second").fill_null("00")
    )
    return pl.when(pl.col("hour").is_null()).then(pl.lit(" 00:00:00")).otherwise(text)


def _offset() -> pl.Expr:
    """Give a zone's minutes east of Greenwich."""
    zone = pl.col("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    hours = zone.str.extract(r"^[+-]([0-9]{2})").cast(pl.Int64)
    minutes = zone.str.extract(r"^[+-][0-9]{2}:?([0-9]{2})$").cast(pl.Int64).fill_null(0)
    return (sign * (hours * 60 + minutes)).fill_null(0)


def emails(cells: pl.Series, *, keep_wrong: bool) -> pl.Series:
    """Check e-mails, correcting none: the plain ones by a pattern, others by email-validator.

    Marks that nobody sees are taken off the ends: people copy them along with an address.

    Args:
        cells: Trimmed text.
        keep_wrong: Leave wrong ones for the schema to name, which knows the consequence.
    """
    cells = cells.str.strip_chars(INVISIBLE)
    odd = (
        cells.filter(cells.is_not_null() & ~cells.str.contains(PLAIN_EMAIL))
        .unique()
        .to_frame("odd")
    )
    odd = odd.with_columns(pl.col("odd").str.contains(EMAIL).alias("formed"))
    wrong = [text for text, formed in odd.iter_rows() if formed and not is_email(text)]
    if not keep_wrong:
        wrong += odd.filter(~pl.col("formed"))["odd"].to_list()
    return cells.replace(wrong, [None] * len(wrong)) if wrong else cells


def is_email(text: str) -> bool:
    """Ask email-validator, which looks nothing up on the network."""
    from email_validator import EmailNotValidError, validate_email

    try:
        validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return False
    return True


def phones(cells: pl.Series, *, keep_unknown: bool) -> pl.Series:
    """Write phones as E.164: Brazilian ones by a pattern, each other one by `phonenumbers`.

    Args:
        cells: Trimmed text.
        keep_unknown: Leave what is no public number as it is: an extension names a line too.
    """
    known = cells.to_frame("phone").select(_brazilian(pl.col("phone")).alias("phone"))["phone"]
    others = cells.filter(known.is_null() & cells.is_not_null()).unique().to_list()
    found = {one: e164(one) or (one if keep_unknown else None) for one in others}
    if not found:
        return known.alias(cells.name)
    rest = cells.replace_strict(
        list(found), list(found.values()), default=None, return_dtype=pl.String
    )
    return pl.DataFrame({"known": known, "rest": rest}).select(
        pl.coalesce("known", "rest").alias(cells.name)
    )[cells.name]


def _brazilian(column: pl.Expr) -> pl.Expr:
    """Write the usual forms, mobile and landline with area code, as `phonenumbers` would."""
    bare = pl.when(column.str.contains(r"^\+?[0-9\s().-]+$")).then(
        column.str.replace_all(r"[\s().-]", "")
    )
    return pl.coalesce(bare.str.extract(INTERNATIONAL), pl.lit("+55") + bare.str.extract(BRAZILIAN))


def e164(text: str) -> str | None:
    """Give a number's international form.

    With a country code it must be possible, without one it must be a valid Brazilian number.
    """
    import phonenumbers

    try:
        found = phonenumbers.parse(text, HOME)
    except phonenumbers.NumberParseException:
        return None
    abroad = text.lstrip().startswith("+") and phonenumbers.is_possible_number(found)
    if not abroad and not phonenumbers.is_valid_number(found):
        return None
    return str(phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164))


def places(cells: pl.Series, what: str) -> pl.Series:
    """Write countries and Brazilian states by their two letters; others stay as they are."""
    names = {one: place(one, what) for one in cells.unique().to_list() if one is not None}
    changed = {one: code for one, code in names.items() if code != one}
    return cells.replace(list(changed), list(changed.values())) if changed else cells


def place(text: str, what: str) -> str:
    """Give the code of a country or state that is known by this name."""
    known = STATES if what == "state" else countries()
    return known.get(folded(text), text)


@cache
def countries() -> Mapping[str, str]:
    """Give the codes of countries by their names in three languages, and by themselves."""
    from babel import Locale

    found: dict[str, str] = {}
    for language in ("es", "en", "pt_BR"):
        territories = Locale.parse(language).territories
        found |= {
            folded(name): code
            for code, name in territories.items()
            if len(code) == len("BR") and code.isalpha()
        }
    return (
        found | {code.casefold(): code for code in found.values()} | {"brazil": "BR", "bra": "BR"}
    )


def folded(text: str) -> str:
    """Write a name without case and accents."""
    return "".join(
        c
        for c in unicodedata.normalize("NFKD", text.casefold().strip())
        if not unicodedata.combining(c)
    )


def _list(column: pl.Series) -> pl.Series:
    """Split by `;`, or read a JSON array; empty parts are left out, an empty list is null."""
    frame = column.to_frame("cell")
    split = pl.col("cell").str.split(";").list.eval(pl.element().str.strip_chars())
    parts = frame.select(split.alias("cell"))["cell"]
    json_cells = column.str.starts_with("[").fill_null(value=False)
    if json_cells.any():
        read = [
            _json_texts(cell) if is_json else None
            for cell, is_json in zip(column, json_cells, strict=True)
        ]
        arrays = pl.Series("cell", read, dtype=pl.List(pl.String))
        parts = frame.select(pl.coalesce(pl.lit(arrays), pl.lit(parts)).alias("cell"))["cell"]
    filled = pl.col("cell").list.eval(pl.element().filter(pl.element() != ""))
    kept = pl.when(filled.list.len() > 0).then(filled).alias(column.name)
    return parts.to_frame("cell").select(kept)[column.name]


def _json_texts(cell: str) -> list[str] | None:
    values = _json(cell)
    if not isinstance(values, list):
        return None
    return [
        value.strip() if isinstance(value, str) else json.dumps(value)
        for value in values
        if value is not None
    ]


def _json(cell: str) -> object:
    """Read JSON; None for what is none, is nested too deeply, or holds half a character."""
    try:
        found: object = read_json(cell)
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError:
        return None
    return found


def _legal_bases(table: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Spread a JSON cell of legal bases over the columns of their one column form.

    A basis that stands in columns of its own stays; one that the JSON cell contradicts is neither.
    """
    problems = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    if LEGAL_BASES_CELL not in table.columns:
        return table, problems
    cells = table[LEGAL_BASES_CELL]
    read = {cell: _read_legal_bases(cell) for cell in cells.unique().to_list() if cell is not None}
    texts = cells.to_list()
    bad = [cell is not None and read[cell] is None for cell in texts]
    names = sorted({name for bases in read.values() for name in bases or {}})
    categories = {name.rpartition(".")[0] for name in names}
    names = sorted({f"{category}.{part}" for category in categories for part in LEGAL_BASE})
    spread: dict[str, list[str | None]] = {
        name: [(read[cell] or {}).get(name) if cell else None for cell in texts] for name in names
    }
    for category in categories:
        parts = [f"{category}.{part}" for part in LEGAL_BASE]
        own = [table[name].to_list() for name in parts if name in table.columns]
        for row, stands in enumerate(zip(*own, strict=True)):
            if not any(cell is not None for cell in stands):
                continue
            told = [spread[name][row] for name in parts]
            for name in parts:
                spread[name][row] = table[name][row] if name in table.columns else None
            if any(told) and told != [spread[name][row] for name in parts]:
                bad[row] = True
    problems.append(
        flaws(
            table.filter(pl.Series(bad, dtype=pl.Boolean)),
            code="NOT_LEGAL_BASES",
            field=LEGAL_BASES_CELL,
            limit=None,
            fatal=True,
        )
    )
    columns = [pl.Series(name, found, dtype=pl.String) for name, found in spread.items()]
    return table.drop(LEGAL_BASES_CELL).with_columns(columns), problems


def _categories_not_taken(table: pl.DataFrame, event_type: EventType) -> Iterator[pl.DataFrame]:
    """Refuse rows whose legal basis the type cannot carry: consent is not lost in silence."""
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
    bases = _json(cell)
    if not isinstance(bases, list) or not all(isinstance(base, dict) for base in bases):
        return None
    categories = [base.get("category") for base in bases]
    if len(set(map(str, categories))) < len(bases) or not all(
        isinstance(name, str) for name in categories
    ):
        return None
    if not all(isinstance(base.get("type"), str) and base["type"].strip() for base in bases):
        return None  # a category alone says nothing, and consent is not dropped in silence
    return dict(_parts_of(bases))


def _parts_of(bases: list[dict[str, object]]) -> Iterator[tuple[str, str]]:
    for base in bases:
        for part in LEGAL_BASE:
            if base.get(part) is not None:
                yield f"legal_bases.{base['category']}.{part}", str(base[part])


def _derive(table: pl.DataFrame, event_type: EventType) -> pl.DataFrame:
    """Fill empty `total_items` and `line_items.product_id`; nothing else is derived."""
    if event_type.field("line_items.quantity") is None:
        return table
    if "line_items.quantity" in table.columns and _lacks(table, "total_items"):
        quantity = pl.col("line_items.quantity")
        total = pl.when(quantity.is_not_null().any().over(EVENT)).then(quantity.sum().over(EVENT))
        known = [pl.col("total_items")] if "total_items" in table.columns else []
        table = table.with_columns(pl.coalesce(*known, total).alias("total_items"))
    sources = ("line_items.product_id", "line_items.sku", "line_items.product_title")
    there = [pl.col(name) for name in sources if name in table.columns]
    if there and _lacks(table, "line_items.product_id"):
        table = table.with_columns(pl.coalesce(there).alias("line_items.product_id"))
    return table


def _lacks(table: pl.DataFrame, name: str) -> bool:
    return name not in table.columns or table[name].null_count() > 0
