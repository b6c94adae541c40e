"""The language of mapping files: each key declared once, and the flaws of a text found.

`LANGUAGE` declares every key: the reader checks a file by it, and the JSON Schema for editors (`mapping.schema.json`)
is written from it by `make schema`.
"""

import difflib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from rd_import.errors import JobError
from rd_import.nesting import TooDeepError, refuse_depth
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

ASSIGNMENT: Final = r"""((?:"[^"]*"|'[^']*'|[\w.-]+)(?:\s*\.\s*(?:"[^"]*"|[\w-]+))*)\s*="""

Kind = Literal[
    "text", "texts", "flag", "number", "place", "length", "words", "rule", "rules", "table", "any",
    "tables",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the language.

    Args:
        kind: What its value is: `text`, `texts` (a list), `flag`, `number`, `place` (1, 2, …), `length` (true, or one
            of the options), `words` (text → text),
            `rule` (a column's name, or a table that says how a field is fed), `rules` (a list of those), `table` with
            `keys`, `any` (free names, each value being an `of`), `tables` (a list of tables with `keys`).
        about: What it means, one sentence, for editors and for people.
        options: The texts that are allowed, where not all are.
        keys: Keys of a table.
        of: What the values of free names are.
        needs: Keys that the table must have.
    """

    kind: Kind
    about: str
    options: tuple[str, ...] = ()
    keys: Mapping[str, "Key"] = field(default_factory=dict)
    of: "Key | None" = None
    needs: tuple[str, ...] = ()


RULE: Final[Mapping[str, Key]] = {
    "column": Key("text", "The column that the text is from; {n} in it numbers items."),
    "occurrence": Key("place", "Which of several columns of that name, from 1."),
    "value": Key("text", "The same text in every row."),
    "first_of": Key("rules", "Columns or rules of which the first filled one counts."),
    "join": Key("rules", "Columns or rules whose texts are put together."),
    "with": Key("text", "What stands between joined texts; a blank where nothing is said."),
    "json": Key("text", "A column that holds JSON, of which `path` takes a part."),
    "path": Key("text", "The part: names joined by points; [] stands for each element of a list."),
    "strip_prefix": Key("text", "A beginning to take off, such as #."),
    "extract": Key("text", "A regular expression; the text becomes what its first group matches."),
    "values": Key("words", "The file's word → the word to send; case and accents do not matter."),
    "other": Key("text", "What becomes of filled cells that `values` does not name."),
    "split": Key("text", "What separates the texts of a list in one cell."),
    "default": Key("text", "What stands in for an empty cell."),
    "scale": Key("number", "What to multiply a number by."),
    "per": Key("text", "A field to divide a number by, such as line_items.quantity."),
    "sum": Key("flag", "The number is added up over the rows of one event."),
    "when": Key("words", "Column → word: rows with other words have nothing from this rule."),
    "duration": Key(
        "length", "A length of time; `m:ss` or `h:mm` says what 01:32 means.", ("m:ss", "h:mm")
    ),
}  # fmt: skip
"""How one field is fed."""

ONE_OF: Final = ("column", "value", "first_of", "join", "json")
TOP_ONLY: Final = ("scale", "per", "sum", "duration", "split")

TOGETHER: Final = {
    "with": "join", "occurrence": "column", "json": "path", "path": "json", "other": "values",
}  # fmt: skip
"""Keys that mean something beside another key only."""

A_RULE: Final = Key("rule", "A column's name, or a table that says how the field is fed.")
_TYPE_VALUES: Final[Mapping[str, Key]] = {
    "column": Key("text", "The column that decides."),
    "values": Key("words", "The column's word → event type; case and accents do not matter."),
    "other": Key(
        "text", "Rows with another word are left out; without it they are invalid.", ("skip",)
    ),
}  # fmt: skip
LANGUAGE: Final = Key(
    "table",
    "A mapping file of rd-import: which columns of an export feed which fields of an event.",
    keys={
        "type": Key("text", "The event type, such as ECOMMERCE_ORDER_PLACED."),
        "source": Key("text", "Keeps apart the events of two shops whose ids could meet."),
        "key": Key("texts", "Columns that make an event unique; they need not be sent."),
        "omit": Key("texts", "Fields to leave out although a column could feed them."),
        "file": Key(
            "table",
            "What was decided about the file; one that contradicts it is refused.",
            keys={
                "encoding": Key("text", "The CSV's encoding, such as cp1252."),
                "delimiter": Key("text", "The character between cells."),
                "header": Key("flag", "Whether the first line names the columns."),
                "decimal": Key("text", "The decimal mark of amounts.", (".", ",")),
                "dates": Key("text", "Order of day and month.", ("dmy", "mdy", "ymd")),
                "timezone": Key("text", "The zone of times that name none."),
            },
        ),
        "fields": Key("any", "Field of the event → what feeds it.", of=A_RULE),
        "fields_for": Key(
            "any",
            "Event type → fields that are fed otherwise for that type.",
            of=Key("any", "Field → what feeds it.", of=A_RULE),
        ),
        "group": Key(
            "table",
            "Which rows are one event.",
            keys={
                "by": Key("texts", "Columns whose equal values make one event."),
                "keep": Key(
                    "text", "Of the rows of one event, only this one counts.", ("first", "last")
                ),
                "items_over_limit": Key(
                    "text",
                    "What becomes of an event with more than 20 items.",
                    ("refuse", "first_20", "omit"),
                ),
                "lists_over_limit": Key(
                    "text",
                    "What becomes of more than 5 payment methods or 10 categories.",
                    ("refuse", "first", "omit"),
                ),
            },
        ),
        "type_by": Key(
            "table",
            "One file with several event types: a column's value decides.",
            keys=_TYPE_VALUES,
            needs=("column", "values"),
        ),
        "filter": Key(
            "tables",
            "Rows to leave out, each with the name of the rule.",
            keys={
                "name": Key("text", "How the audit names the rule."),
                "column": Key("text", "The column that decides."),
                "keep": Key("texts", "Rows with these words stay; case and accents do not matter."),
                "drop": Key("texts", "Rows with these words go."),
            },
            needs=("name", "column"),
        ),
        "lookup": Key(
            "tables",
            "What the export lacks, from a second file.",
            keys={
                "file": Key("text", "The second file, beside the mapping file or named in full."),
                "match": Key("words", "Its column → the export's column with the same value."),
                "take": Key("words", "Field → its column."),
            },
            needs=("file",),
        ),
    },
)
"""The whole language of mapping files."""

PRESET: Final = replace(
    LANGUAGE,
    about="A preset: a mapping for the export of a platform, recognised by its header.",
    keys={
        "preset": Key(
            "table",
            "What the preset is for.",
            keys={
                "name": Key("text", "The platform and its export, as a person knows it."),
                "recognise": Key("texts", "Columns that together tell the export apart."),
                "not_with": Key("texts", "Columns that rule it out."),
                "feeds": Key("texts", "The event types that it can feed."),
                "source": Key("text", "Where its header and columns are from."),
                "trust": Key(
                    "text",
                    "What kind of source that is.",
                    ("real file", "sample file", "official doc", "code that reads it"),
                ),
            },
            needs=("name", "feeds", "source", "trust"),
        ),
        "suggest": Key(
            "tables",
            "A column's values that tell event types; shown, and used only when asked for.",
            keys=_TYPE_VALUES,
            needs=("column", "values"),
        ),
        **{name: key for name, key in LANGUAGE.keys.items() if name not in {"type", "lookup"}},
    },
    needs=("preset", "fields"),
)
"""A preset is a mapping file with two tables more, and without a type of its own."""


TYPES: Final = (*CURRENT_TYPES, *REMOVED_TYPES)
_TEXTS: Final = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*""", re.DOTALL
)
"""Texts and comments of TOML, whose brackets are none."""

_Flaw = tuple[tuple[str | int, ...], str, dict[str, object]]

# --- checking -------------------------------------------------------------------------------------


def checked(text: str, name: str, language: Key) -> dict[str, Any]:
    """Read the text of a mapping file or preset as plain values.

    Raises:
        JobError: It is no TOML or not of the language; line and key are named.
    """
    try:
        refuse_depth(_TEXTS.sub("", text))
        found = tomllib.loads(text)
    except TooDeepError as error:
        raise JobError("mapping_too_deep", path=name) from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        reason = str(error).partition(" (at ")[0]
        raise JobError("mapping_no_toml", path=name, line=line, reason=reason) from error
    for path, problem, facts in itertools.chain(_flaws(found, language, ()), _type_flaws(found)):
        raise JobError(problem, path=name, line=line_of(text, path), key=_shown(path), **facts)
    return found


def _type_flaws(found: Mapping[str, Any]) -> Iterator[_Flaw]:
    """Find names of event types that there are not, and a type said twice."""
    if "type" in found and "type_by" in found:
        yield ("type",), "mapping_two_types", {}
    named: list[tuple[tuple[str | int, ...], str]] = []
    named += [(("type",), found["type"])] if "type" in found else []
    named += [(("fields_for", one), one) for one in found.get("fields_for", {})]
    deciding: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = []
    deciding += [(("type_by",), found["type_by"])] if "type_by" in found else []
    deciding += [(("suggest", n), one) for n, one in enumerate(found.get("suggest", ()))]
    for path, table in deciding:
        named += [((*path, "values", word), one) for word, one in table["values"].items()]
    for path, name in named:
        if name.upper() not in TYPES:
            close = difflib.get_close_matches(name.upper(), TYPES, n=1, cutoff=0.6)
            facts: dict[str, object] = {
                "given": name,
                "close": close[0] if close else None,
                "fields": list(CURRENT_TYPES),
            }
            yield path, "mapping_no_type", facts


def _shown(path: Sequence[str | int]) -> str:
    words = [f"[{one + 1}]" if isinstance(one, int) else one for one in path]
    return ".".join(words).replace(".[", "[")


def _flaws(value: Any, key: Key, path: tuple[str | int, ...]) -> Iterator[_Flaw]:
    """Find what is not of the language, the first flaw of the file first as far as tables tell."""
    if key.kind == "rule":
        yield from _rule_flaws(value, path, top=True)
    elif key.kind == "rules":
        yield from _list_flaws(value, path)
    elif key.kind == "tables":
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            yield path, "mapping_wrong_kind", {"wanted": "tables", "given": value}
            return
        for number, one in enumerate(value):
            yield from _table_flaws(one, key, (*path, number))
    elif key.kind == "table":
        yield from _table_flaws(value, key, path)
    elif key.kind == "any":
        if not isinstance(value, dict):
            yield path, "mapping_wrong_kind", {"wanted": "table", "given": value}
            return
        assert key.of is not None
        for name, one in value.items():
            yield from _flaws(one, key.of, (*path, name))
    else:
        yield from _plain_flaws(value, key, path)


def _table_flaws(value: Any, key: Key, path: tuple[str | int, ...]) -> Iterator[_Flaw]:
    if not isinstance(value, dict):
        yield path, "mapping_wrong_kind", {"wanted": "table", "given": value}
        return
    for name, one in value.items():
        if name not in key.keys:
            yield (*path, name), "mapping_unknown_key", _near(name, key.keys)
        else:
            yield from _flaws(one, key.keys[name], (*path, name))
    for name in key.needs:
        if name not in value:
            yield path, "mapping_key_missing", {"missing": name}


def _near(name: str, known: Mapping[str, Key]) -> dict[str, object]:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return {"close": close[0] if close else None, "fields": list(known)}


def _list_flaws(value: Any, path: tuple[str | int, ...]) -> Iterator[_Flaw]:
    if not isinstance(value, list) or not value:
        yield path, "mapping_wrong_kind", {"wanted": "rules", "given": value}
        return
    for number, one in enumerate(value):
        yield from _rule_flaws(one, (*path, number), top=False)


def _rule_flaws(value: Any, path: tuple[str | int, ...], *, top: bool) -> Iterator[_Flaw]:
    if isinstance(value, str) and value:
        return
    if not isinstance(value, dict):
        yield path, "mapping_wrong_kind", {"wanted": "rule", "given": value}
        return
    yield from _table_flaws(value, Key("table", "", keys=RULE), path)
    said = [name for name in ONE_OF if name in value]
    if len(said) != 1:
        yield path, "mapping_one_origin", {"origins": ", ".join(f"`{name}`" for name in said)}
    for name, other in TOGETHER.items():
        if name in value and other not in value:
            yield (*path, name), "mapping_key_missing", {"missing": other}
    for name in TOP_ONLY:
        if name in value and not top:
            yield (*path, name), "mapping_top_only", {}
    if isinstance(value.get("extract"), str):
        yield from _pattern_flaws(value["extract"], (*path, "extract"))


def _pattern_flaws(pattern: str, path: tuple[str | int, ...]) -> Iterator[_Flaw]:
    """Try a pattern with the engine that will apply it, which knows no look-around."""
    import polars as pl

    try:
        pl.select(pl.lit("").str.extract(pattern, 1))
        groups = re.compile(pattern).groups
    except (pl.exceptions.ComputeError, re.error) as error:
        reason = " ".join(str(error).split())
        yield path, "mapping_bad_pattern", {"reason": reason[:120]}
        return
    if groups < 1:
        yield path, "mapping_bad_pattern", {"reason": "it has no group in parentheses"}


_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    "text": (str,), "flag": (bool,), "number": (int, float), "place": (int,), "length": (str,),
}  # fmt: skip


def _plain_flaws(value: Any, key: Key, path: tuple[str | int, ...]) -> Iterator[_Flaw]:
    good = {
        "texts": lambda: isinstance(value, list) and all(isinstance(one, str) for one in value),
        "words": lambda: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    }.get(key.kind, lambda: isinstance(value, _PLAIN[key.kind]))()  # fmt: skip
    if isinstance(value, bool) and key.kind != "flag":
        good = False
    if key.kind == "length" and value is True:
        return
    if key.kind == "place" and good:
        good = value >= 1
    if not good:
        yield path, "mapping_wrong_kind", {"wanted": key.kind, "given": value}
    elif key.options and value not in key.options:
        yield path, "mapping_no_option", {"given": value, "options": ", ".join(key.options)}


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Find the line of a key in the text of a TOML file; of the table around it where it has none."""
    place, best, seen = list[str | int](), 1, 0
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if found := re.match(r"(\[\[?)\s*([^\[\]]+?)\s*\]", stripped):
            place = [*_dotted(found[2])]
            if found[1] == "[[":
                counts[tuple(place)] = counts.get(tuple(place), -1) + 1
                place.append(counts[tuple(place)])
            here = place
        elif found := re.match(ASSIGNMENT, stripped):
            here = [*place, *_dotted(found[1])]
        else:
            continue
        depth = len(here)
        if list(path[:depth]) == here and depth > seen:
            best, seen = number, depth
            best = _inside(text, number, path[depth:])
    return best


def _inside(text: str, first: int, rest: Sequence[str | int]) -> int:
    """Find the line of a key within a value of several lines."""
    wanted = next((one for one in reversed(rest) if isinstance(one, str)), None)
    if wanted is None:
        return first
    lines = text.splitlines()
    for number in range(first, len(lines) + 1):
        if number > first and re.match(r"\s*(\[|[\w\"'.-]+\s*=\s*[^=])", lines[number - 1]):
            break
        if re.search(rf"""["']?{re.escape(wanted)}["']?\s*=""", lines[number - 1]):
            return number
    return first


def _dotted(name: str) -> Iterator[str]:
    for quoted, single, bare in re.findall(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)", name):
        yield quoted or single or bare
