"""What kind of CSV this is: encoding, line ends, delimiter, quoting, and where the header stands.

Every decision is a `Finding`, which the preview shows and a flag overrules. Decided is by trial on
the file's first records: under the right dialect they all have as many cells as the header, and no
quote stands in a wrong place.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from rd_import.encodings import Encoding, find_encoding
from rd_import.errors import ExportError, JobError, NothingSent
from rd_import.values import ROW, Finding

DELIMITERS: Final = (",", ";", "\t", "|")
RARE_DELIMITERS: Final = (
    "^",
    "~",
    ":",
    "\x1f",
    "\x01",
    " ",
)  # tried only where none of the usual ones cuts anything
RARE_CELLS: Final = 4  # and believed only where every record has at least so many cells
TRIED_RECORDS: Final = 200
MOST_PREAMBLE: Final = 30  # lines before the header
CONSISTENT: Final = 0.5  # at least this share of records has the same number of cells
WIDEST_TITLE: Final = 2  # cells of a line such as `Loja;Minha Loja`
TITLE_COST: Final = (
    0.04  # of a line passed over: a delimiter that cuts the first line too is likelier
)
SAME: Final = 0.03  # scores this close are a tie
SEP_LINE: Final = re.compile(r'"?sep=([\x01-!#-\x7f])"?\s*', re.IGNORECASE)
DATA_SHARE: Final = 0.5  # of the first line's cells: from here on it is no header
LONGEST_DATUM: Final = (
    320  # characters of a number, date or address; patterns take long on longer ones
)
LOOKAHEAD: Final = 4  # lines that broken quotes may make a trial read again, per line of the head
_LONE_CR: Final = re.compile(r"\r(?!\n)")  # which Python's csv refuses outside of quotes
_ESCAPED: Final = re.compile(r'(?<!\\)((?:\\\\)*)\\"')
_NUMBER: Final = re.compile(r"[+-]?[\d.,]*\d[\d.,]*")
_DATED: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\S+@\S+\.\w+|https?://\S+")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read the bytes of one CSV file.

    Args:
        encoding: Python codec.
        bom: Bytes to leave out at the start.
        delimiter: One ASCII character between cells.
        quote: Character around cells that hold the delimiter, a quote or a line break.
        escape: Character before a quote inside a cell, where quotes are not doubled.
        space_after: A blank after each delimiter belongs to it.
        line_end: LF (also where lines end with CR LF) or CR.
        start: Bytes before the header (or the first row), after the mark, in the working encoding:
            a `sep=` line and a preamble.
        start_line: Physical line on which it begins, from 1.
        has_header: False: the first record is a row.
        cells: How many cells the header, or where there is none most records, have; with the header those that all
            rows have behind its last name and none fills.
        settled: False where only ASCII was seen, so that the first other byte decides on the
            encoding.
        blank_before: How many of the lines before it are blank or bare delimiters.
        findings: Why all that.
    """

    encoding: str
    bom: bytes
    delimiter: str
    quote: str = '"'
    escape: str | None = None
    space_after: bool = False
    line_end: str = "\n"
    start: int = 0
    start_line: int = 1
    has_header: bool = True
    cells: int = 0
    settled: bool = True
    blank_before: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def ascii_compatible(self) -> bool:
        """Tell whether delimiters, quotes and line ends are the same single bytes as in ASCII."""
        return codecs.encode(',;\t|"\r\n', self.encoding) == b',;\t|"\r\n'

    @property
    def working_codec(self) -> str:
        """Name the encoding of the bytes that are cut into records."""
        return self.encoding if self.ascii_compatible else "utf-8"

    @property
    def plain(self) -> bool:
        """Tell whether polars reads this dialect as faithfully as Python's csv."""
        return self.escape is None and not self.space_after


def find_dialect(
    head: bytes,
    path: str,
    *,
    encoding: str | None,
    delimiter: str | None,
    header: bool | None = None,
    whole: bool = True,
) -> Dialect:
    """Tell a file's dialect from its first bytes; what the user says wins.

    Args:
        head: The file's first bytes, at least its header record.
        path: For messages.
        encoding: What the user says, if anything.
        delimiter: What the user says, if anything.
        header: What the user says, if anything.
        whole: The head is the whole file, so its last record is complete.

    Raises:
        JobError: The named encoding does not exist, or the delimiter is no single byte.
        ExportError: The file is no text.
        NothingSent: Two delimiters cut the header alike: only a person can say which is meant.
    """
    if delimiter is not None and (
        len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0'
    ):
        raise JobError("bad_delimiter", value=delimiter)
    known = find_encoding(head, path, stated=encoding)
    text = _decode_head(head[len(known.bom) :], known.codec, path)
    ascii_safe = Dialect(known.codec, known.bom, ",").ascii_compatible
    end = "\r" if "\r" in text and "\n" not in text else "\n"
    sep = SEP_LINE.fullmatch(text.split(end, 1)[0])
    skipped = len(text.split(end, 1)[0]) + 1 if sep else 0
    body = text[skipped:]
    trial, delimiter_finding = _best_trial(
        body, end, path, delimiter or (sep[1] if sep else None), by_sep=sep is not None, whole=whole
    )
    if delimiter:
        delimiter_finding = Finding("delimiter", delimiter, "stated", "stated", "--delimiter")
    first, has_header, header_finding = _header(trial, header)
    before = skipped + (trial.records[first].offset if first < len(trial.records) else 0)
    return Dialect(
        known.codec,
        known.bom,
        trial.delimiter,
        trial.style.quote,
        trial.style.escape,
        trial.style.space_after,
        end,
        len(text[:before].encode(known.codec if ascii_safe else "utf-8", "surrogateescape")),
        text[:before].count(end) + 1,
        has_header,
        trial.records[first].width + _bare_tail(trial.records[first:], trial.width)
        if has_header and trial.records
        else trial.width,
        known.settled,
        sum(
            not line.strip(trial.delimiter + "\r") for line in text[skipped:before].split(end)[:-1]
        ),
        _all_findings(
            known, delimiter_finding, header_finding, trial, end, text[:before].count(end)
        ),
    )


def header_cells(record: str, delimiter: str, dialect: Dialect | None = None) -> list[str]:
    """Split a header record into its names, made unique: a second `Estado` becomes `Estado (2)`."""
    style = (
        _Style() if dialect is None else _Style(dialect.quote, dialect.escape, dialect.space_after)
    )
    cells = next(style.reader([_LONE_CR.sub(" ", record)], delimiter, strict=False), [])
    return unique_names(cells)


def unique_names(cells: Sequence[str]) -> list[str]:
    """Name columns: trimmed, the nameless by their position, repeated names with a number."""
    return distinct_names(
        [cell.strip() or f"column {position}" for position, cell in enumerate(cells, start=1)]
    )


def distinct_names(given: Sequence[str]) -> list[str]:
    """Number repeated names, and one that is ours, passing over numbers that are names already."""
    used, names = {ROW}, list[str]()
    taken, numbers = set(given), dict[str, int]()
    for name in given:
        new, number = name, numbers.get(name, 1)
        while new in used or (number > 1 and new in taken):
            number += 1
            new = f"{name} ({number})"
        numbers[name] = number
        used.add(new)
        names.append(new)
    return names


def doubled(line: str) -> str:
    """Double the quotes that a backslash escapes, as CSV wants them.

    Before anything else it is a character, which Python's csv would drop.
    """
    return _ESCAPED.sub(r'\1""', line)


def header_place(rows: Sequence[Sequence[str]], stated: bool | None) -> tuple[int, bool]:
    """Find the header among the first rows of a table: its place, and whether that row is one."""
    records = tuple(_Record(0, tuple(row)) for row in rows)
    width = max((one.width for one in records), default=0)
    place, there, _ = _header(_Trial(",", _Style(), records, width, 1.0), stated)
    return place, there


# --- trials ---------------------------------------------------------------------------------------
# ---------------


@dataclass(frozen=True, slots=True)
class _Style:
    """How cells are quoted."""

    quote: str = '"'
    escape: str | None = None
    space_after: bool = False

    def reader(
        self, lines: Iterable[str], delimiter: str, *, strict: bool = True
    ) -> Iterator[list[str]]:
        return csv.reader(
            map(doubled, lines) if self.escape else lines,
            delimiter=delimiter,
            quotechar=self.quote,
            skipinitialspace=self.space_after,
            strict=strict,
        )


STYLES: Final = (
    _Style(),
    _Style(space_after=True),
    _Style(escape="\\"),
    _Style(escape="\\", space_after=True),
    _Style(quote="'"),
)
"""The usual one first: another must read more records well to be believed."""


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of the head; `width` is 0 where its quotes do not pair up."""

    offset: int
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.cells)

    @property
    def filled(self) -> int:
        return sum(bool(cell.strip()) for cell in self.cells)


@dataclass(frozen=True, slots=True)
class _Trial:
    """The head as one dialect cuts it; `score` is the share of records with `width` cells."""

    delimiter: str
    style: _Style
    records: tuple[_Record, ...]
    width: int
    score: float


def _best_trial(
    text: str, end: str, path: str, stated: str | None, *, by_sep: bool, whole: bool
) -> tuple[_Trial, Finding]:
    if stated:
        trial = _try(text, end, stated, whole=whole)
        return trial, Finding(
            "delimiter", stated, "certain", "by_sep_line" if by_sep else "stated", "--delimiter"
        )
    trials = [_try(text, end, mark, whole=whole) for mark in DELIMITERS]
    good = [one for one in trials if one.width > 1 and one.score >= CONSISTENT]
    if not good:
        rare = (_try(text, end, mark, whole=whole) for mark in RARE_DELIMITERS)
        good = [
            one
            for one in rare
            if one.width >= RARE_CELLS and one.score == 1.0 and len(one.records) > 1
        ][:1]
    if not good:
        most = max(trials, key=lambda one: (one.width > 1, one.score * (one.width > 1)))
        how = "one_column" if most.width <= 1 else "few_agree"
        return most, Finding(
            "delimiter",
            most.delimiter,
            "assumed" if most.width <= 1 else "likely",
            how,
            "--delimiter",
        )
    good.sort(key=lambda one: (round(one.score / SAME), one.width), reverse=True)
    best = good[0]
    rivals = [one for one in good[1:] if best.score - one.score < SAME and one.width == best.width]
    if rivals:
        raise NothingSent(
            "unclear_delimiter",
            path=path,
            candidates=" and ".join(repr(one.delimiter) for one in (best, *rivals)),
            readings="; ".join(
                f"{one.delimiter!r} gives " + ", ".join(f"`{c}`" for c in one.records[0].cells[:6])
                for one in (best, *rivals)
            ),
        )
    facts = {
        "share": f"{best.score:.0%}",
        "records": str(len(best.records)),
        "cells": str(best.width),
    }
    confidence = "certain" if best.score == 1.0 and len(good) == 1 else "likely"
    return best, Finding(
        "delimiter", best.delimiter, confidence, "by_trial", "--delimiter", facts=facts
    )


def _try(text: str, end: str, delimiter: str, *, whole: bool) -> _Trial:
    """Cut the head by a delimiter, in the quoting style that fits best."""
    best: _Trial | None = None
    for style in STYLES:
        if not _worth_trying(style, text, delimiter):
            continue
        found = _records(text, end, delimiter, style, whole=whole)
        records = tuple(islice(found, TRIED_RECORDS))
        trial = _scored(delimiter, style, records)
        if best is None or trial.score > best.score + 1e-9:
            best = trial
    assert best is not None
    return best


def _worth_trying(style: _Style, text: str, delimiter: str) -> bool:
    mark = re.escape(delimiter)
    if style.escape and '\\"' not in text:
        return False
    if style.space_after and not re.search(rf'{mark} +"', text):
        return False
    return (
        style.quote != "'"
        or re.search(rf"(?:{mark}|^)'[^'\n\r]*'(?={mark}|$|\r)", text, re.MULTILINE) is not None
    )


def _records(
    text: str, end: str, delimiter: str, style: _Style, *, whole: bool
) -> Iterator[_Record]:
    """Cut the head into records; one with broken quotes has no cells and takes one line."""
    lines = [line + "\n" for line in text.split(end)]
    if not whole or lines[-1] == "\n":
        lines.pop()  # cut off, or nothing behind the last line end
    at, offset, again = 0, 0, 0
    while at < len(lines) and again <= LOOKAHEAD * len(lines):
        cells, taken = _next_record(lines, at, delimiter, style)
        if cells is None:
            again += taken
            if not whole and at + taken == len(lines):
                return  # a cell that goes on where the head is cut off
            taken = 1
        if cells is None or any(cell.strip() for cell in cells):
            bare = not style.space_after and any(cell.startswith(' "') for cell in cells or ())
            yield _Record(offset, () if bare else tuple(cells or ()))
        offset += sum(map(len, lines[at : at + taken]))
        at += taken


def _next_record(
    lines: Sequence[str], at: int, delimiter: str, style: _Style
) -> tuple[list[str] | None, int]:
    """Give a record's cells, None where its quotes are broken, and how many lines it takes."""
    taken = 0

    def rest() -> Iterator[str]:
        nonlocal taken
        while at + taken < len(lines):
            taken += 1
            yield _LONE_CR.sub(" ", lines[at + taken - 1])

    try:
        return next(style.reader(rest(), delimiter)), taken
    except csv.Error:
        return None, taken


def _scored(delimiter: str, style: _Style, records: tuple[_Record, ...]) -> _Trial:
    widths = Counter(one.width for one in records if one.width > 1)
    if not widths:
        return _Trial(delimiter, style, records, min(1, len(records)), 0.0)
    first = records[0].width
    width = max(widths, key=lambda one: (widths[one], one == first, one))
    lone = _title_lines(records, width)
    agreeing = sum(one.width == width for one in records[lone:])
    agreeing += bool(_bare_tail(records[lone:], width))
    return _Trial(
        delimiter,
        style,
        records,
        width,
        agreeing / max(len(records) - lone, 1) - TITLE_COST * min(lone, 5),
    )


def _title_lines(records: Sequence[_Record], width: int) -> int:
    """Count the lines before the header: those with far fewer filled cells than the rest."""
    most = max((one.filled for one in records[:50] if one.width == width), default=0)
    for number, one in enumerate(records[:MOST_PREAMBLE]):
        few = one.filled * 2 <= most or not one.cells
        if not few and not _is_title(one, records[number + 1 : number + 2], most):
            return _narrower_header(records[:number]) if _data_share(one) >= DATA_SHARE else number
    return 0


def _bare_tail(records: Sequence[_Record], width: int) -> int:
    """Count the delimiters that end every row and not the header before them: nothing stands behind them."""
    names = records[0].width if records else 0
    rows = [one for one in records[1:] if one.cells]
    if not 0 < names < width or not rows:
        return 0
    bare = all(one.width == width and not any(one.cells[names:]) for one in rows)
    return width - names if bare else 0


def _narrower_header(before: Sequence[_Record]) -> int:
    """Find a header that has fewer names than the rows below it have cells, which is their flaw."""
    names = [
        i for i, one in enumerate(before) if one.filled > WIDEST_TITLE and not _data_share(one)
    ]
    return names[-1] if names else len(before)


def _is_title(record: _Record, following: Sequence[_Record], most: int) -> bool:
    """Tell a title of one or two cells, above a line of more names, from a header."""
    narrow = record.filled <= WIDEST_TITLE < most
    return narrow and any(one.filled > record.filled and _data_share(one) == 0 for one in following)


def _data_share(record: _Record) -> float:
    """Give the share of cells that look like data; 1 where one is a date or an address."""
    cells = [cell.strip() for cell in record.cells if cell.strip()]
    short = [cell for cell in cells if len(cell) <= LONGEST_DATUM]
    if any(_DATED.fullmatch(cell) for cell in short):
        return 1.0
    return sum(_NUMBER.fullmatch(cell) is not None for cell in short) / max(len(cells), 1)


def _header(trial: _Trial, stated: bool | None) -> tuple[int, bool, Finding]:
    first = _title_lines(trial.records, trial.width)
    if stated is not None:
        found = Finding(
            "header", "yes" if stated else "no", "stated", "stated", _header_flag(there=stated)
        )
        return first, stated, found
    share = _data_share(trial.records[first]) if first < len(trial.records) else 0.0
    there = share < DATA_SHARE
    how = "names_only" if there else "first_line_is_data"
    return (
        first,
        there,
        Finding("header", "yes" if there else "no", "likely", how, _header_flag(there=there)),
    )


def _header_flag(*, there: bool) -> str:
    return "--no-header" if there else "--header"


def _all_findings(
    known: Encoding, delimiter: Finding, header: Finding, trial: _Trial, end: str, before: int
) -> tuple[Finding, ...]:
    found = [known.finding, delimiter, header]
    if trial.style != _Style():
        style = trial.style
        value = (
            style.quote
            + (f" escaped by {style.escape}" if style.escape else "")
            + (" after a blank" if style.space_after else "")
        )
        found.append(Finding("quoting", value, "likely", "more_records_fit", ""))
    if end == "\r":
        found.append(Finding("line_ends", "CR", "certain", "no_line_feed", ""))
    if before:
        found.append(
            Finding(
                "preamble", str(before), "likely", "before_header", "", facts={"lines": str(before)}
            )
        )
    return tuple(found)


def _decode_head(head: bytes, codec: str, path: str) -> str:
    """Decode what of the head is whole; a byte of another encoding is a row's flaw, later."""
    decoder = codecs.getincrementaldecoder(codec)(
        "surrogateescape" if codec != "utf-7" else "replace"
    )
    try:
        return decoder.decode(head)
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise ExportError(
            "not_this_encoding",
            path=path,
            encoding=codec,
            line=line,
            byte=f"0x{head[error.start]:02x}",
        ) from error
