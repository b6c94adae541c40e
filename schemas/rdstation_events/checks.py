"""The checks of a cell, read from its FieldSpec, and the codes of what they find.

Checks are polars expressions over whole columns. A null cell passes them all but `REQUIRED_WITH`;
that a required cell is filled is pandera's own check. A bad cell fails one check only, the first
that applies.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, get_args

import pandera.polars as pa
import polars as pl

from rdstation_events.field_spec import FieldSpec

_LABEL: Final = r"[^\W_]+(?:-+[^\W_]+)*"
_ATOM: Final = r"""[^\s@.,;:<>()\[\]\\"\x00-\x1f\x7f\u200b-\u200f\u2060\ufeff]+"""
EMAIL: Final = rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?:[^\W\d_]{{2,}}|xn--{_LABEL})$"
"""One `@`, no spaces or invisible characters, dots in their place, a domain with a dot, any script.

Means the same to polars and to `re.fullmatch`. Quoted names and IP addresses do not pass.
"""

URL: Final = r"^https?://[^\s]+$"
"""Source: the vendor's n8n node, which asks for `http://` or `https://`."""

FailureCode = Literal[
    "REQUIRED",
    "REQUIRED_WITH",
    "INVALID_EMAIL",
    "INVALID_URL",
    "NOT_A_NUMBER",
    "BELOW_MINIMUM",
    "ABOVE_MAXIMUM",
    "NOT_AN_OPTION",
    "TOO_LONG",
    "TOO_MANY_VALUES",
    "WRONG_TYPE",
]
"""Why a cell is invalid; stable, stands in audits. `WRONG_TYPE` is the caller's mistake."""

_CODES: Final[Mapping[str, FailureCode]] = {
    "not_nullable": "REQUIRED",
    "column_in_dataframe": "REQUIRED",
    **{code: code for code in get_args(FailureCode)},
}
"""By name of the check: pandera's own, and ours, which are named after their codes."""


def failure_code(check: str) -> FailureCode:
    """Give the code of a `check` in pandera's failure cases.

    Where the check is `column_in_dataframe` the whole column is missing: its name is the failure
    case, and there is no row.

    Raises:
        ValueError: No check of ours is called that.
    """
    code = "WRONG_TYPE" if check.startswith(("dtype(", "coerce_dtype(")) else _CODES.get(check)
    if code is None:
        raise ValueError(f"unknown check `{check}`")
    return code


def checks_of(spec: FieldSpec) -> list[pa.Check]:
    """Derive the checks of a column, for pandera to run."""
    found = rules(spec)
    checks = [
        _check(code, pl.any_horizontal(is_fine, *(~earlier for _, earlier in found[:place])))
        for place, (code, is_fine) in enumerate(found)
    ]
    if spec.required_with is not None:
        checks.append(_required_with(spec.column, spec.required_with))
    return checks


def rules(spec: FieldSpec) -> list[tuple[FailureCode, pl.Expr]]:
    """List what must be true of a cell; null where there is nothing to say."""
    cell = pl.col(spec.column)
    found: list[tuple[FailureCode, pl.Expr]] = []
    if spec.max_length is not None:
        found.append(("TOO_LONG", cell.str.len_chars() <= spec.max_length))
    if spec.format == "email":
        found.append(("INVALID_EMAIL", cell.str.contains(EMAIL)))
    if spec.format == "http-url":
        found.append(("INVALID_URL", cell.str.contains(URL)))
    if spec.options:
        found.append(("NOT_AN_OPTION", cell.is_in(spec.options)))
    if spec.kind == "number":
        # JSON has neither infinity nor NaN. In a required column pandera takes NaN for empty.
        is_number = ~cell.is_infinite() if spec.required else cell.is_finite()
        found.append(("NOT_A_NUMBER", is_number))
    if spec.minimum is not None:
        found.append(("BELOW_MINIMUM", cell >= spec.minimum))
    if spec.maximum is not None:
        found.append(("ABOVE_MAXIMUM", cell <= spec.maximum))
    if spec.max_items is not None:
        found.append(("TOO_MANY_VALUES", cell.list.len() <= spec.max_items))
    return found


def _check(code: FailureCode, is_fine: pl.Expr) -> pa.Check:
    def run(data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(is_fine)

    return pa.Check(run, name=code)


def _required_with(column: str, owner: str) -> pa.Check:
    """Require the cell in rows where another cell of its object is filled."""

    def run(data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(_beside(column, owner, data.lazyframe.collect_schema()))

    code: FailureCode = "REQUIRED_WITH"
    return pa.Check(run, name=code)


def _beside(column: str, owner: str, columns: Iterable[str]) -> pl.Expr:
    others = [
        pl.col(name).is_not_null()
        for name in columns
        if name.startswith(f"{owner}.") and name != column
    ]
    is_needed = pl.any_horizontal(pl.lit(value=False), *others)
    return pl.col(column).is_not_null() | ~is_needed


def whole_row(specs: Iterable[FieldSpec], columns: Collection[str]) -> pa.Check:
    """Join all rules of these fields, in a frame with these columns, to one check of a row."""
    fine: list[pl.Expr] = []
    for spec in specs:
        fine += [is_fine.fill_null(value=True) for _, is_fine in rules(spec)]
        if spec.required:
            fine.append(pl.col(spec.column).is_not_null())
        if spec.required and spec.kind == "number":
            fine.append(pl.col(spec.column).is_not_nan())
        if spec.required_with is not None:
            fine.append(_beside(spec.column, spec.required_with, columns))
    return pa.Check(lambda data: data.lazyframe.select(pl.all_horizontal(fine)), name="ROW")
