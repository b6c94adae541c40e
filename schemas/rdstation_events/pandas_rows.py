"""The schema of an event type for pandas, made of the one for polars: same columns, same rules, same codes.

Each rule is the polars expression of `checks`, run over the pandas column, so that the two cannot disagree.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pandera.pandas as pa
import polars as pl

from rdstation_events.checks import rules
from rdstation_events.field_spec import FieldSpec, Kind

if TYPE_CHECKING:
    import pandera.polars

DTYPES: Final[dict[Kind, Any]] = {
    "text": "str",
    "integer": "Int64",
    "number": "float64",
    "boolean": "boolean",
    "timestamp": pd.DatetimeTZDtype("us", "UTC"),
    "list": "object",
}


class PandasRows(pa.DataFrameSchema):
    """Rows of an export as a pandas frame. Cells are coerced to the type of their column first.

    Validate with `lazy=True`: each bad cell is one failure case, with its row's `index`, and `failure_code` translates
    its `check`.
    """

    def validate(self, check_obj: pd.DataFrame, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Validate a frame; what one cell needs of others is looked up in the whole of it."""
        bound = pa.DataFrameSchema(
            {name: _bound(column, check_obj) for name, column in self.columns.items()},
            name=self.name,
        )
        checked: pd.DataFrame = bound.validate(check_obj, *args, **kwargs)
        return checked


def pandas_schema(schema: "pandera.polars.DataFrameSchema") -> PandasRows:
    """Make the pandas schema of a polars one."""
    columns = {}
    for name, column in schema.columns.items():
        spec: FieldSpec = column.metadata["spec"]
        columns[name] = pa.Column(
            DTYPES[spec.kind],
            checks=_checks(spec, column.dtype.type),
            nullable=column.nullable,
            required=column.required,
            coerce=True,
            description=column.description,
            metadata=column.metadata,
        )
    return PandasRows(columns, name=schema.name)


def _checks(spec: "FieldSpec", dtype: pl.DataType) -> list[pa.Check]:
    earlier: list[pl.Expr] = []
    checks = []
    for code, is_fine in rules(spec):
        only_here = pl.any_horizontal(is_fine, *(~one for one in earlier))
        checks.append(pa.Check(_runs(only_here, spec.column, dtype), name=code))
        earlier.append(is_fine)
    return checks


def _runs(
    is_fine: pl.Expr, column: str, dtype: pl.DataType
) -> "Callable[[pd.Series[Any]], pd.Series[bool]]":
    def run(cells: "pd.Series[Any]") -> "pd.Series[bool]":
        values = [None if _is_missing(cell) else cell for cell in cells]
        table = pl.DataFrame([pl.Series(column, values, dtype=dtype, strict=False)])
        fine = table.select(is_fine.fill_null(value=True)).to_series()
        return pd.Series(fine.to_list(), index=cells.index, dtype=bool)

    return run


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT


def _bound(column: pa.Column, frame: pd.DataFrame) -> pa.Column:
    """Add the rule that a cell is filled where others of its object are."""
    spec: FieldSpec = column.metadata["spec"]
    if spec.required_with is None:
        return column
    owner = f"{spec.required_with}."
    others = [name for name in frame if str(name).startswith(owner) and name != spec.column]
    is_needed = frame[others].notna().any(axis=1)

    def run(cells: "pd.Series[Any]") -> "pd.Series[bool]":
        return cells.notna() | ~is_needed

    check = pa.Check(run, name="REQUIRED_WITH", ignore_na=False)
    return pa.Column(
        column.dtype,
        checks=[*column.checks, check],
        nullable=column.nullable,
        required=column.required,
        coerce=True,
        name=spec.column,
        metadata=column.metadata,
    )
