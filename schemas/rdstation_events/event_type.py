"""What an event type is, and the vocabulary that a schema file is written in.

A schema file declares the rows of an export as a pandera model (`EventRows`), one `field(...)` per
column, and wraps it in an `EventType`. The model is the only declaration: the checks, the order of
the payload, the identity of the event and the documentation are all read from its `FieldSpec`s.

Rows come typed: text as String, amounts as Float64, whole numbers as Int64, `Timestamp`,
`TextList`. An empty cell is null (an empty list too), and one row is one event, or one item of an
order.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, cast

import pandera.polars as pa
import polars as pl

from rdstation_events.api_facts import MAX_LINE_ITEMS
from rdstation_events.checks import checks_of, whole_row
from rdstation_events.field_spec import FieldSpec, Format, Kind, Trust

if TYPE_CHECKING:
    from rdstation_events.pandas_rows import PandasRows

Timestamp = Annotated[pl.Datetime, "us", "UTC"]
TextList = Annotated[pl.List, pl.String()]

CUSTOM_FIELD: Final = r"^cf_[a-z0-9_]+$"
"""Columns of the account's custom fields. Source: "Campos personalizados", `api_identifier`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the columns of a model are from, unless a column says otherwise."""

    source: str
    trust: Trust
    inferred: bool = False


def field(  # noqa: PLR0913  one word per fact, all by name
    description: str,
    *,
    example: str,
    column: str | None = None,
    format: Format | None = None,  # noqa: A002  the word of JSON Schema
    nullable: bool = False,
    required_with: str | None = None,
    identity: bool = False,
    sent: bool = True,
    as_text: bool = False,
    ge: float | None = None,
    le: float | None = None,
    max_length: int | None = None,
    max_items: int | None = None,
    options: tuple[str, ...] = (),
    suggested: tuple[str, ...] = (),
    source: str = "",
) -> Any:
    """Declare a column of an `EventRows` model: a pandera Field that holds its `FieldSpec`.

    The arguments are those of `FieldSpec`, with pandera's words for the limits and for optional
    columns.

    Args:
        description: What the field means, one sentence.
        example: A cell as an export would hold it.
        column: The column's name where it is no Python name; the attribute's name otherwise.
        format: See `FieldSpec`.
        nullable: Events may lack it.
        required_with: See `FieldSpec`; such a column is nullable.
        identity: See `FieldSpec`.
        sent: See `FieldSpec`.
        as_text: See `FieldSpec`.
        ge: Smallest legal number.
        le: Largest legal number.
        max_length: See `FieldSpec`.
        max_items: See `FieldSpec`.
        options: See `FieldSpec`.
        suggested: See `FieldSpec`.
        source: The page, where it is not the one of the whole model.
    """
    optional = nullable or required_with is not None
    spec = FieldSpec(
        column="",  # this and what follows it here is completed by EventRows, which knows
        kind="text",  # the attribute, its type and the model's origin
        trust="seed",
        inferred=False,
        source=source,
        format=format,
        required=not optional,
        required_with=required_with,
        identity=identity,
        sent=sent,
        as_text=as_text,
        minimum=ge,
        maximum=le,
        max_length=max_length,
        max_items=max_items,
        options=options,
        suggested=suggested,
        description=description,
        example=example,
    )
    return pa.Field(
        nullable=optional, alias=column, description=description, metadata={"spec": spec}
    )


class EventRows(pa.DataFrameModel):
    """Rows of an export: the base of every model. Validates typed polars frames by itself.

    Optional columns may be absent, other columns pass. `FieldSpec`s stand in the columns'
    `metadata["spec"]`.
    """

    _origin: ClassVar[Origin]

    @classmethod
    def build_schema_(cls, **kwargs: Any) -> pa.DataFrameSchema:
        """Complete each FieldSpec, derive its checks, and put the columns in payload order."""
        schema = super().build_schema_(**kwargs)
        for name, column in schema.columns.items():
            spec = cls._complete(column.metadata["spec"], name, column.dtype.type)
            column.metadata = {"spec": spec}
            column.required = spec.required
            column.checks = checks_of(spec)
        in_order = sorted(schema.columns.items(), key=lambda item: _place(_spec(item[1])))
        schema.columns = dict(in_order)
        return schema

    @classmethod
    def _complete(cls, spec: FieldSpec, column: str, dtype: pl.DataType) -> FieldSpec:
        return dataclasses.replace(
            spec,
            column=column,
            kind=_KINDS[dtype.base_type()],
            source=spec.source or cls._origin.source,
            trust=cls._origin.trust,
            inferred=cls._origin.inferred and spec.sent,
        )


_KINDS: Final[Mapping[type[pl.DataType], Kind]] = {
    pl.String: "text",
    pl.Int64: "integer",
    pl.Float64: "number",
    pl.Boolean: "boolean",
    pl.Datetime: "timestamp",
    pl.List: "list",
}


def _spec(column: pa.Column) -> FieldSpec:
    return cast("FieldSpec", column.metadata["spec"])


def _place(spec: FieldSpec) -> int:
    """Order a payload: who and what first, lists of objects last, what is not sent at the end.

    The e-mail is first because it is never null, so that an encoder can always begin with its key.
    """
    if not spec.sent:
        return 6
    if spec.column.startswith("legal_bases."):
        return 5
    if spec.column.startswith("line_items."):
        return 4
    if spec.column == "email":
        return 0
    return 1 if spec.identity else 2 if spec.required else 3


@dataclass(frozen=True, slots=True)
class Removal:
    """The end of an event type and the way to its successor.

    Attributes:
        accepted_until: Last day, ISO 8601.
        successor: The type to send instead.
        how: What becomes of the data, one sentence.
        renames: Column of the successor -> column of the removed type that it takes the place of.
            Columns of one name stay.
        still_needed: Columns that the successor needs and the removed type lacks.
    """

    accepted_until: str
    successor: str
    how: str
    renames: Mapping[str, str] = dataclasses.field(hash=False)
    still_needed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """An event type of RD Station Marketing.

    Attributes:
        name: `event_type` in the API.
        family: Groups types that share columns: conversion, qualification, chat, call, media,
            ecommerce, ecommerce-legacy.
        summary: What happened, one sentence.
        rows: The pandera model of its rows.
        creates_contact: An unknown e-mail becomes a contact; false also where no page says so.
        takes_custom_fields: Columns like `CUSTOM_FIELD` are sent too; false also where no page says
            so.
        needs_contact: Not processed for an unknown e-mail.
        grouped_by: Rows with the same value here form one event.
        weak_identity: The event has no id of its own; a mapping's `key` may give it one.
        account_requirement: The product and plan that the account needs.
        removed: Set on types that RD Station no longer accepts.
        notes: What else there is to know.
    """

    name: str
    family: str
    summary: str
    rows: type[EventRows]
    creates_contact: bool = False
    takes_custom_fields: bool = False
    needs_contact: bool = False
    grouped_by: str | None = None
    weak_identity: bool = True
    account_requirement: str | None = None
    removed: Removal | None = None
    notes: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """All columns, in payload order; the e-mail first, what is never sent last."""
        return tuple(_spec(column) for column in self.rows.to_schema().columns.values())

    def field(self, column: str) -> FieldSpec | None:
        """Look a column up by its name in exports."""
        found = self.rows.to_schema().columns.get(column)
        return None if found is None else _spec(found)

    def takes(self, column: str) -> bool:
        """Tell whether a column is one of the type's: declared, or a custom field it takes."""
        if self.field(column) is not None:
            return True
        return self.takes_custom_fields and re.fullmatch(CUSTOM_FIELD, column) is not None

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that make an event unique, in order."""
        return tuple(spec.column for spec in self.fields if spec.identity)

    @property
    def inferred(self) -> bool:
        """The type's fields were carried over from a similar type; no page lists them."""
        return any(spec.inferred for spec in self.fields)

    @property
    def legal_base_categories(self) -> tuple[str, ...]:
        """The categories of `legal_bases` that may be sent."""
        parts = [spec.column.split(".") for spec in self.fields]
        return tuple(dict.fromkeys(part[1] for part in parts if part[0] == "legal_bases"))

    @property
    def max_line_items(self) -> int | None:
        """Most items of one event, None where the type has none."""
        has_items = any(spec.column.startswith("line_items.") for spec in self.fields)
        return MAX_LINE_ITEMS if has_items else None

    def needed(self, columns: Collection[str]) -> tuple[str, ...]:
        """Name the columns that a file with these must have: required, or required with them."""
        return tuple(
            spec.column
            for spec in self.fields
            if spec.required
            or (
                spec.required_with is not None
                and any(column.startswith(f"{spec.required_with}.") for column in columns)
            )
        )

    def polars_schema(self, columns: Collection[str] | None = None) -> pa.DataFrameSchema:
        """Build the schema for frames with these columns, and those that they need (`needed`).

        Validate eager frames with `lazy=True`: each bad cell is one failure case, with its row's
        `index`, and `failure_code` translates its `check`. A needed column that the frame lacks
        fails as a whole; add it as nulls to have its rows named.

        Args:
            columns: Columns to check, in any order; those that the type lacks are ignored. None for
                all.
        """
        schema = self.rows.to_schema()
        if columns is None:
            return schema
        needed = self.needed(columns)
        kept = {
            name: pa.Column(
                column.dtype,
                checks=column.checks,
                nullable=column.nullable,
                required=name in needed,
                description=column.description,
                metadata=column.metadata,
            )
            for name, column in schema.columns.items()
            if name in needed or name in columns
        }
        return pa.DataFrameSchema(kept, name=schema.name)

    def whole_rows_schema(self, schema: Mapping[str, pl.DataType]) -> pa.DataFrameSchema | None:
        """Build the schema that passes the frames of this `schema` which `polars_schema` passes.

        All rules are one check of a row, which takes a fifth of the time and does not tell the cell.

        Returns:
            None where a column that is needed is missing, or of another type than its field.
        """
        full = self.polars_schema(schema).columns
        if any(
            name not in schema or column.dtype.type != schema[name] for name, column in full.items()
        ):
            return None
        return pa.DataFrameSchema(checks=whole_row(map(_spec, full.values()), list(schema)))

    def pandas_schema(self, columns: Collection[str] | None = None) -> "PandasRows":
        """Build the schema for pandas frames; the rules and codes are those of `polars_schema`."""
        from rdstation_events.pandas_rows import pandas_schema

        return pandas_schema(self.polars_schema(columns))
