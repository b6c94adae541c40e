"""Which decimal mark, date order and zone each column uses: by the whole column, or asked. Pure.

A cell such as `1.234` or `01/02/2026` has two meanings. What the other cells of its column leave
open is no guess of ours: the finding is `open`, and the run waits for the flag.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from rd_import.cells import DEFAULT_ZONE, DURATIONS, CellFormat, bare_amount
from rd_import.mapping_file import Rule
from rd_import.values import Finding
from rd_import.written_dates import TIMESTAMP, usual, zone_named_by
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec

OUTWEIGHED: Final = 20  # one cell against so many is that cell's own flaw
POINT: Final = "point"
COMMA: Final = "comma"
EITHER: Final = "either"
EXAMPLES: Final = 2
MANY_DAYS: Final = 5  # of a month, beside one year: not so many years beside one day
PLAIN: Final = r"^[0-9]+(?:\.[0-9]{1,2})?$"
YEAR_FIRST: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}|$)"
ZONED: Final = r":[0-9.,]+\s*(?:[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_ONE_READING: Final = (  # M is the decimal mark, G the other one
    r"^(?:[0-9]{1,3}(?:G[0-9]{3})+M[0-9]*|[0-9]{1,3}(?:G[0-9]{3}){2,}"  # both marks, or two groups
    r"|[0-9]*M(?:[0-9]{1,2}|[0-9]{4,})"  # other than three digits behind the mark
    r"|(?:0[0-9]*|[0-9]{4,})?M[0-9]{3})$"  # digits before it that are no group
)
_FORMS: Final[Mapping[str, str]] = {
    POINT: _ONE_READING.replace("M", r"\.").replace("G", ","),
    COMMA: _ONE_READING.replace("M", ",").replace("G", r"\."),
    EITHER: r"^[1-9][0-9]{0,2}[.,][0-9]{3}$",
}


@dataclass(slots=True)
class Survey:
    """What the columns of one file say. Counts only; a few cells are kept as examples.

    Args:
        event_type: Whose fields the columns are.
        stated: What the user says: `decimal`, `dates` and `timezone`, each None where nothing.
        rules: What the mapping says about fields.
        numeric: Fields that were numbers in the file, so that their text has a decimal point whatever anybody says.
        kept: What an earlier preview of such a file decided: it answers what is open, and what the cells certainly
            contradict is asked.
    """

    event_type: EventType
    stated: Mapping[str, str | None]
    rules: Mapping[str, Rule] = field(default_factory=dict)
    numeric: frozenset[str] = frozenset()
    kept: Mapping[str, str | None] = field(default_factory=dict)
    _counts: dict[str, Counter[str]] = field(default_factory=dict)
    _examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _ends: dict[str, tuple[set[int], set[int]]] = field(default_factory=dict)

    def add(self, table: pl.DataFrame) -> None:
        """Look at some rows of the file, under the schema's names."""
        for spec in self.event_type.fields:
            if spec.column not in table.columns:
                continue
            if spec.kind == "timestamp":
                self._add_dates(spec.column, table)
            elif spec.kind in {"number", "integer"}:
                if spec.column not in self.numeric:
                    self._add_amounts(spec.column, table)
            elif spec.format == "phone":
                cells = pl.col(spec.column)
                self._count(
                    spec.column,
                    "phones",
                    table.select(cells.is_not_null() & ~cells.str.starts_with("+")),
                )

    def format(self) -> CellFormat:
        """Give the format in which the file's cells are to be read."""
        base = CellFormat(
            self.stated["decimal"] or ".",
            self.stated["timezone"] or DEFAULT_ZONE,
            self.stated["dates"] or "ymd",
        )
        columns: dict[str, CellFormat] = {
            name: replace(base, decimal=".") for name in self.numeric if base.decimal != "."
        }
        for found in self.findings():
            if (
                found.column is not None
                and found.what in {"decimal", "dates"}
                and found.value != getattr(base, found.what)
            ):
                known = columns.get(found.column, base)
                columns[found.column] = (
                    replace(known, decimal=found.value)
                    if found.what == "decimal"
                    else replace(known, dates=found.value)
                )
        for name, zone in self._named_zones().items():
            columns[name] = replace(columns.get(name, base), timezone=zone)
        for name, rule in self.rules.items():
            if rule.is_computed:
                columns[name] = replace(
                    columns.get(name, base),
                    scale=rule.scale or 1,
                    duration=rule.duration,
                    per=rule.per,
                    sum=rule.sum,
                )
        return replace(base, columns=columns)

    def findings(self) -> tuple[Finding, ...]:
        """Say what was found, one finding per column where the columns differ."""
        found: list[Finding] = []
        for spec in self.event_type.fields:
            counts = self._counts.get(spec.column)
            if counts is None:
                continue
            if spec.kind == "timestamp":
                found += self._of_dates(spec.column, counts)
            elif spec.kind in {"number", "integer"}:
                found += self._of_amounts(spec, counts)
        zones = self._named_zones()
        named = (
            Finding("zone_of_column", zone, "certain", "column_names_it", "", self._source(name))
            for name, zone in zones.items()
        )
        return (*map(self._as_kept, found), *self._zone(zones), *named, *self._phones())

    def _as_kept(self, found: Finding) -> Finding:
        kept = self.kept.get(found.what)
        if kept is None or found.confidence == "stated":
            return found
        if found.confidence == "open":
            return replace(found, value=kept, confidence="stated", how="kept", readings=())
        if found.value == kept or found.how in {"one_reading_each", "day_is_month"}:
            return found
        return replace(
            found,
            confidence="open",
            how="contradicts",
            readings=(kept, found.value),
            facts={**found.facts, "kept": kept},
        )

    # --- amounts ---

    def _add_amounts(self, column: str, table: pl.DataFrame) -> None:
        cells = pl.col(column)
        if table[column].str.contains(PLAIN).all():  # as most programs write them
            points = table.select(cells.str.contains(".", literal=True))
            if points.to_series().any():
                self._count(column, POINT, points, table)
            return
        if not table[column].str.contains(r"[.,]").any():
            return
        bare = table.select(bare_amount(pl.col(column)).alias(column))
        for form, pattern in _FORMS.items():
            self._count(column, form, bare.select(pl.col(column).str.contains(pattern)), table)

    def _of_amounts(self, spec: FieldSpec, counts: Counter[str]) -> Iterator[Finding]:
        column = spec.column
        point, comma, either = counts[POINT], counts[COMMA], counts[EITHER]
        if self.stated["decimal"]:
            yield Finding(
                "decimal", self.stated["decimal"], "stated", "stated", "--decimal", column
            )
        elif point and comma and min(point, comma) * OUTWEIGHED > max(point, comma):
            if either:
                yield self._open(
                    "decimal", column, ".", (".", ","), "both_marks", (POINT, COMMA, EITHER)
                )
            else:
                yield Finding(
                    "decimal",
                    "each",
                    "likely",
                    "one_reading_each",
                    "--decimal",
                    column,
                    facts=self._facts(column, (POINT, COMMA)),
                )
        elif point or comma:
            form = POINT if point > comma else COMMA
            confidence = "certain" if not min(point, comma) else "likely"
            value = "." if form == POINT else ","
            yield Finding(
                "decimal",
                value,
                confidence,
                "by_cells",
                "--decimal",
                column,
                facts=self._facts(column, (form,)),
            )
        elif either and column not in DURATIONS:
            yield self._open("decimal", column, ".", (".", ","), "thousands_or_decimals", (EITHER,))

    # --- dates ---

    def _add_dates(self, column: str, table: pl.DataFrame) -> None:
        filled = table.filter(pl.col(column).is_not_null()).select(column)
        if filled[column].str.contains(YEAR_FIRST).all():
            zoned = filled.select(pl.col(column).str.contains(ZONED))
            self._count(column, "zoned", zoned)
            self._count(column, "unzoned", zoned.select(~pl.all()))
            return
        written = usual(filled[column])
        parts = written.to_frame().select(
            pl.col(column).str.extract_groups(TIMESTAMP).struct.unnest()
        )
        if parts.is_empty():
            return
        a, b, c = (pl.col(name).cast(pl.Int64, strict=False) for name in ("a", "b", "c"))
        day_or_month = (pl.col("a").str.len_chars() <= 2) & pl.col("a").is_not_null()
        short_year = day_or_month & (pl.col("c").str.len_chars() <= 2)
        ends = parts.select(a, c).filter(parts.select(short_year).to_series()).drop_nulls()
        known = self._ends.setdefault(column, (set(), set()))
        for numbers, name in zip(known, ("a", "c"), strict=True):
            numbers.update(ends[name].unique().to_list())
        for name, holds in {
            "dmy": day_or_month & (a > 12) & (b <= 12) & ~short_year,
            "mdy": day_or_month & (b > 12) & (a <= 12),
            "both": day_or_month & (a <= 12) & (b <= 12) & ((a != b) | short_year),
            "same": day_or_month & (a <= 12) & (a == b) & ~short_year,
            "short": short_year & (a > 12) & (b <= 12) & (c <= 31),
            "short_dmy": short_year & (a > 12) & (b <= 12) & (c > 31),
            "zoned": pl.col("zone").is_not_null(),
            "unzoned": pl.col("a").is_not_null() & pl.col("zone").is_null(),
        }.items():
            self._count(column, name, parts.select(holds), filled)

    def _of_dates(self, column: str, counts: Counter[str]) -> Iterator[Finding]:
        dmy, mdy = counts["dmy"] + counts["short_dmy"], counts["mdy"]
        unclear = counts["both"] + counts["short"]
        if self.stated["dates"]:
            yield Finding("dates", self.stated["dates"], "stated", "stated", "--dates", column)
        elif dmy and mdy and min(dmy, mdy) * OUTWEIGHED > max(dmy, mdy):
            yield self._open("dates", column, "dmy", ("dmy", "mdy"), "both_orders", ("dmy", "mdy"))
        elif dmy or mdy:
            order = "dmy" if dmy > mdy else "mdy"
            confidence = "certain" if not min(dmy, mdy) else "likely"
            yield Finding(
                "dates",
                order,
                confidence,
                "day_above_12",
                "--dates",
                column,
                facts=self._facts(column, (order, "short_dmy")),
            )
        elif counts["short"] and self._one_year(column):
            yield Finding(
                "dates",
                "dmy",
                "likely",
                "one_year",
                "--dates",
                column,
                facts=self._facts(column, ("short", "both")),
            )
        elif unclear:
            readings = ("dmy", "ymd") if counts["short"] else ("dmy", "mdy")
            yield self._open("dates", column, "dmy", readings, "no_day_above_12", ("both", "short"))
        elif counts["same"]:
            yield Finding(
                "dates",
                "dmy",
                "certain",
                "day_is_month",
                "--dates",
                column,
                facts=self._facts(column, ("same",)),
            )

    def _one_year(self, column: str) -> bool:
        """Tell whether the last part of `13/03/26` is the year: one or two of them, beside many days.

        With the year in front, it would be many years of which each has the same day of a month.
        """
        first, last = self._ends[column]
        return len(first) >= MANY_DAYS and max(last) - min(last) <= 1

    # --- zone and phones, of the file ---

    def _named_zones(self) -> dict[str, str]:
        """Give the zones that columns such as `Created (UTC)` name, by field; they hold for times that name none."""
        found: dict[str, str] = {}
        for name, counts in self._counts.items():
            rule = self.rules.get(name)
            zones = {zone_named_by(one) for one in rule.columns} if rule is not None else set()
            zone = zones.pop() if len(zones) == 1 else None
            if counts["unzoned"] and zone is not None:
                found[name] = zone
        return found

    def _source(self, name: str) -> str:
        return self.rules[name].columns[0]

    def _zone(self, named: Collection[str]) -> Iterator[Finding]:
        zoned = sum(counts["zoned"] for counts in self._counts.values())
        unzoned = sum(
            counts["unzoned"] for name, counts in self._counts.items() if name not in named
        )
        if named and not unzoned:
            return
        if not unzoned and not zoned:
            return
        facts = {"zoned": str(zoned), "unzoned": str(unzoned)}
        if self.stated["timezone"]:
            yield Finding(
                "timezone", self.stated["timezone"], "stated", "stated", "--timezone", facts=facts
            )
        elif unzoned:
            yield Finding(
                "timezone", DEFAULT_ZONE, "assumed", "file_names_no_zone", "--timezone", facts=facts
            )
        else:
            yield Finding(
                "timezone", "as written", "certain", "each_names_its_zone", "", facts=facts
            )

    def _phones(self) -> Iterator[Finding]:
        national = sum(counts["phones"] for counts in self._counts.values())
        if national:
            yield Finding(
                "phones", "BR", "assumed", "no_country_code", "", facts={"count": str(national)}
            )

    # --- counting ---

    def _count(
        self, column: str, name: str, holds: pl.DataFrame, cells: pl.DataFrame | None = None
    ) -> None:
        hits = holds.to_series().fill_null(value=False)
        number = int(hits.sum())
        counts = self._counts.setdefault(column, Counter())
        if not number:
            return
        counts[name] += number
        known = self._examples.setdefault((column, name), [])
        if cells is not None and len(known) < EXAMPLES:
            known += cells[column].filter(hits).head(EXAMPLES - len(known)).to_list()

    def _facts(self, column: str, names: tuple[str, ...]) -> dict[str, str]:
        counts = self._counts[column]
        examples = [one for name in names for one in self._examples.get((column, name), [])]
        return {
            "count": str(sum(counts[name] for name in names)),
            "examples": ", ".join(f"`{one[:30]}`" for one in list(dict.fromkeys(examples))[:3]),
        }

    def _open(
        self,
        what: str,
        column: str,
        value: str,
        readings: tuple[str, ...],
        how: str,
        names: tuple[str, ...],
    ) -> Finding:
        return Finding(
            what, value, "open", how, f"--{what}", column, readings, self._facts(column, names)
        )
