"""Dates as people and programs write them -> the forms that are read column by column. Pure.

Only what has one meaning is rewritten: month names, seconds since 1970, digits without marks, words between day and
hour, zones by their names. Which of two numbers is the day is not decided here.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import polars as pl

from rd_import.names import folded

ZONE: Final = r"(?<zone>[Zz]|UTC|GMT|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
TIMESTAMP: Final = (
    r"^(?<a>[0-9]{4}|[0-9]{1,2})[-/.](?<b>[0-9]{1,2})[-/.](?<c>[0-9]{4}|[0-9]{1,2})"
    r"(?:(?:[Tt]|,?\s+)(?<hour>[0-9]{1,2})[:h](?<minute>[0-9]{2})(?::(?<second>[0-9]{2})(?:[.,](?<fraction>[0-9]{1,9}))?)?"
    rf"\s*(?<half>[AaPp]\.?[Mm]\.?)?\s*{ZONE}?)?$"
)
"""What a column of times is read by; the groups a, b and c are the date in the order of the file."""

ZONES: Final = {
    "est": "-05:00", "edt": "-04:00", "cst": "-06:00", "cdt": "-05:00", "mst": "-07:00", "mdt": "-06:00",
    "pst": "-08:00", "pdt": "-07:00", "brt": "-03:00", "brst": "-02:00", "z": "Z", "utc": "Z", "gmt": "Z",
}  # fmt: skip
"""Zones by name: those of RFC 5322, section 4.3, and Brasília's, which the tz database had until 2017."""

LONGEST: Final = 80  # characters; a date with its weekday, zone and zone's name has some 60
_DAY: Final = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th|º|°)?"
_MONTH: Final = r"(?P<month>[^\W\d_]{3,10})\.?"
_YEAR: Final = r"(?P<year>[0-9]{4}|[0-9]{2})"
_GAP: Final = r"(?:\s*[-/.,]\s*|\s+(?:de\s+|del\s+|of\s+)?)"
_NAMED: Final = (
    rf"{_DAY}{_GAP}{_MONTH}{_GAP}{_YEAR}",
    rf"{_MONTH}{_GAP}{_DAY}{_GAP}{_YEAR}",
    rf"(?P<year>[0-9]{{4}}){_GAP}{_MONTH}{_GAP}{_DAY}",
)
_DIGITS: Final = (
    r"(?P<year>(?:19|20)[0-9]{2})(?P<month>0[1-9]|1[0-2])(?P<day>[0-2][0-9]|3[01])",  # 20260315
)
_NUMBERS: Final = (r"(?P<date>[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4})",)
_CLOCK: Final = (
    r"(?P<hour>[0-9]{1,2})[:h.](?P<minute>[0-9]{2})(?:[:m.](?P<second>[0-9]{2})s?)?(?P<fraction>[.,][0-9]{1,9})?"
    r"(?:\s*(?P<half>[AaPp])\.?\s?[Mm]\.?|\s*(?:hs?|hrs?|horas|min)\b\.?)?"
)
_BARE_CLOCK: Final = (
    r"(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})?(?P<fraction>\.[0-9]{1,9})?"
)
_WHERE: Final = (
    r"(?:\s*(?:UTC|GMT)?\s*(?P<offset>[+-][0-9]{1,2}(?::?[0-9]{2})?)|\s*\(?(?P<zone>[A-Za-z]{1,4})\)?)?"
    r"(?:\s*\[[\w/+-]+\]|\s*\([^()]*\))?"  # the zone's name behind its offset
)
_BETWEEN: Final = r"(?:\s*[,|@T]\s*|\s+[-–—]\s+|\s+)(?:(?:às|as|á|à|at|a\s+las|a\s+la)\s+)?"
_WEEKDAY: Final = r"(?:[^\W\d_]{3,9}(?:-feira)?\.?(?:\s*,\s*|\s+))?"
_FORMS: Final = tuple(
    re.compile(rf"{_WEEKDAY}{date}(?:{between}{clock}{_WHERE})?", re.IGNORECASE)
    for dates, between, clock in (
        (_NAMED, _BETWEEN, _CLOCK),
        (_NUMBERS, _BETWEEN, _CLOCK),
        (_DIGITS, r"[T\s]?", _BARE_CLOCK),
        (_DIGITS, r"[T\s]", _CLOCK),
    )
    for date in dates
)
_ZONE_IN_NAME: Final = re.compile(
    r"(?<![a-z])(?:utc|gmt)\s*([+-](?:1[0-4]|0?[0-9]))?(?::?00)?(?![a-z0-9:])", re.IGNORECASE
)
_TWO_CLOCKS: Final = re.compile(
    r"(\S+)[ T]([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)\s+([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)"
)
_EPOCH: Final = {10: 1, 13: 1_000, 16: 1_000_000}
"""Digits of a moment from 2001 to 2065 → its units in a second."""


def usual(cells: pl.Series) -> pl.Series:
    """Rewrite the cells that are dates in another form than `TIMESTAMP`; all others stay as they are."""
    odd = cells.filter(cells.is_not_null() & ~cells.str.contains(TIMESTAMP)).unique().to_list()
    found = {one: plain for one in odd if (plain := _plain(one)) is not None}
    return cells.replace(list(found), list(found.values())) if found else cells


def zone_named_by(column: str) -> str | None:
    """Give the zone that a column's name tells, such as `Created (UTC)` or `start_gmt`; None where it tells none."""
    found = _ZONE_IN_NAME.search(column)
    if found is None:
        return None
    hours = int(found[1] or 0)
    return "UTC" if not hours else f"Etc/GMT{-hours:+d}"


def _plain(cell: str) -> str | None:
    if len(cell) > LONGEST:
        return None
    digits, _, fraction = cell.partition(".")
    if len(digits) in _EPOCH and digits.isascii() and digits.isdigit() and digits[0] in "12":
        return _moment(digits, fraction)
    if twice := _TWO_CLOCKS.fullmatch(cell):
        cell = _of_one_clock(*twice.groups())
    for form in _FORMS:
        if found := form.fullmatch(cell):
            return _rewritten(found.groupdict())
    return None


def _of_one_clock(date: str, first: str, second: str) -> str:
    """Write a date and its time from columns of their own, where that of the date holds a time too.

    Workbooks hold each date with midnight; two other times contradict each other, unless they are the same.
    """
    if not first.strip("0:"):
        return f"{date} {second}"
    shorter, longer = sorted((first, second), key=len)
    return f"{date} {longer}" if longer.startswith(shorter) else f"{date} {first} {second}"


def _moment(digits: str, fraction: str) -> str | None:
    """Give a moment that is told in seconds, or thousandths or millionths of one, since 1970."""
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        return None
    micros = int(digits) * (1_000_000 // _EPOCH[len(digits)])
    if len(digits) == min(_EPOCH) and fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _rewritten(parts: dict[str, str | None]) -> str | None:
    date = parts.get("date")
    if date is None:
        year, month, day = (str(parts[name]) for name in ("year", "month", "day"))
        number = month if month.isdigit() else _months().get(folded(month))
        if number is None:
            return None
        date = f"{year if len(year) == len('2026') else '20' + year}-{number:0>2}-{day:0>2}"
    if parts["hour"] is None:
        return date
    named = parts.get("zone")
    zone = _offset(parts["offset"]) or (ZONES.get(named.casefold()) if named else "")
    if zone is None:
        return None
    clock = f"{parts['hour']}:{parts['minute']}:{parts['second'] or '00'}"
    half = f" {half}M" if (half := parts.get("half")) else ""
    return f"{date} {clock}{(parts['fraction'] or '').replace(',', '.')}{half}{zone}"


def _offset(written: str | None) -> str:
    """Write `-3`, `-03`, `-0300` and `-03:00` as the last of them."""
    if not written:
        return ""
    digits = written[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > len("03") else (digits, "00")
    return f"{written[0]}{hours:0>2}:{minutes}"


@cache
def _months() -> dict[str, str]:
    """Give the numbers of the months by their names, long and short, in three languages."""
    from babel import Locale

    found: dict[str, str] = {}
    for language in ("pt_BR", "en", "es"):
        for names in Locale.parse(language).months["format"].values():
            found |= {folded(name): str(number) for number, name in names.items() if len(name) > 1}
    short = {name[:3]: number for name, number in found.items()}
    return found | short
