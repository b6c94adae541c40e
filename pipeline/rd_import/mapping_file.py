"""Mapping files: what feeds each field, in TOML and without code, read into one frozen value.

Flags such as `--rename` become the same value (`Mapping.over`), so there is one way from what a person says to what is
done. The language itself is declared in `mapping_language`.
"""

from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rd_import.errors import JobError
from rd_import.mapping_language import LANGUAGE, PRESET, checked

MAX_BYTES: Final = 1 << 20  # a mapping of every field of every type is a hundredth of it
NUMBERED: Final = "{n}"
"""Stands in a column's name for the number of an item: `Product Item {n} SKU`."""


# --- the values -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """How one field is fed: one of `column`, `value`, `first_of`, `join`; then what is done to the text, in order.

    `path` takes a part of the column's JSON. `values` and `other` translate, `default` fills what is empty. `scale`,
    `per`, `sum` and `duration` hold for numbers once they are read. `when` leaves rows out that have other words.
    """

    column: str | None = None
    occurrence: int = 1
    value: str | None = None
    first_of: tuple["Rule", ...] = ()
    join: tuple["Rule", ...] = ()
    between: str = " "
    path: str | None = None
    strip_prefix: str | None = None
    extract: str | None = None
    values: Map[str, str] = field(default_factory=dict)
    other: str | None = None
    split: str | None = None
    default: str | None = None
    scale: float | None = None
    per: str | None = None
    sum: bool = False
    duration: str | None = None
    when: Map[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """Name the column, counted where several have that name."""
        if self.column is None or self.occurrence == 1:
            return self.column
        return f"{self.column} ({self.occurrence})"

    @property
    def is_constant(self) -> bool:
        """Tell whether the text is the same in every row."""
        return self.value is not None and not self.when

    @property
    def is_computed(self) -> bool:
        """Tell whether something is done to the number once it is read."""
        return bool(self.scale or self.duration or self.per or self.sum)

    @property
    def columns(self) -> tuple[str, ...]:
        """Name all columns that the rule reads; `{n}` stays as it is."""
        inner = [name for one in (*self.first_of, *self.join) for name in one.columns]
        return tuple(dict.fromkeys([*([self.name] if self.name else []), *inner, *self.when]))

    def __str__(self) -> str:
        """Say in words what feeds the field."""
        if self.when:
            where = ", ".join(f"{column} = {word}" for column, word in self.when.items())
            return f"{replace(self, when={})} ({where})"
        if self.value is not None:
            return f'"{self.value}"'
        if self.first_of:
            return ", else ".join(dict.fromkeys(map(str, self.first_of)))
        if self.join:
            return " + ".join(dict.fromkeys(map(str, self.join)))
        return f"{self.name}.{self.path}" if self.path else str(self.name)


@dataclass(frozen=True, slots=True)
class TypeBy:
    """Which event type a row is of, by a column's value; None as `values` stands for what a preset suggests."""

    column: str
    values: Map[str, str] | None = None
    skip_others: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows to leave out: those without a word of `keep`, where there are any, and those with one of `drop`."""

    name: str
    column: str
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A second file. Empty `match` and `take`: columns that both files have, and those that bear a field's name."""

    file: str
    match: Map[str, str] = field(default_factory=dict)
    take: Map[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was decided about a file; None where nothing was."""

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    dates: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a person, or a preset, says about an export.

    Args:
        event_type: The one type of all its rows.
        namespace: Keeps apart the keys of two shops whose ids could meet.
        key: Columns that make an event unique.
        omit: Fields to leave out.
        file: Kept decisions.
        fields: Field → rule.
        fields_for: Event type → field → rule, where it differs.
        group_by: Columns whose equal values make one event.
        keep: `first` or `last` row of such a group, where only one counts.
        items_over_limit: `refuse`, `first_20` or `omit`.
        lists_over_limit: `refuse`, `first` or `omit`.
        type_by: What decides on the type of each row.
        filters: Rows to leave out.
        lookups: Second files.
    """

    event_type: str | None = None
    namespace: str = ""
    key: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    file: FileFacts = FileFacts()
    fields: Map[str, Rule] = field(default_factory=dict)
    fields_for: Map[str, Map[str, Rule]] = field(default_factory=dict)
    group_by: tuple[str, ...] = ()
    keep: str | None = None
    items_over_limit: str | None = None
    lists_over_limit: str | None = None
    type_by: TypeBy | None = None
    filters: tuple[Filter, ...] = ()
    lookups: tuple[Lookup, ...] = ()

    def rules(self, event_type: str) -> dict[str, Rule]:
        """Give the rules of one event type."""
        return {**self.fields, **self.fields_for.get(event_type, {})}

    def over(self, below: "Mapping") -> "Mapping":
        """Lay this mapping over another: what it says holds, what it leaves open the other one says."""
        types = dict.fromkeys([*below.fields_for, *self.fields_for])
        return Mapping(
            event_type=self.event_type or below.event_type,
            namespace=self.namespace or below.namespace,
            key=self.key or below.key,
            omit=tuple(dict.fromkeys([*below.omit, *self.omit])),
            file=FileFacts(
                *(
                    mine if mine is not None else theirs
                    for mine, theirs in zip(_facts(self.file), _facts(below.file), strict=True)
                )
            ),
            fields={**below.fields, **self.fields},
            fields_for={
                name: {
                    **{
                        one: rule
                        for one, rule in below.fields_for.get(name, {}).items()
                        if one not in self.fields
                    },
                    **self.fields_for.get(name, {}),
                }
                for name in types
            },
            group_by=self.group_by or below.group_by,
            keep=self.keep or below.keep,
            items_over_limit=self.items_over_limit or below.items_over_limit,
            lists_over_limit=self.lists_over_limit or below.lists_over_limit,
            type_by=self.type_by or below.type_by,
            filters=self.filters or below.filters,
            lookups=self.lookups + below.lookups,
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """A mapping for one platform's export.

    Args:
        id: The name of its file.
        name: The platform and its export, as a person knows it.
        recognise: Columns that together tell the export apart; empty where nothing in a header does.
        not_with: Columns that rule it out.
        feeds: The event types that it can feed.
        mapping: What feeds the fields.
        suggestions: Columns whose values tell event types; used only when a person asks for it.
    """

    id: str
    name: str
    recognise: tuple[str, ...]
    not_with: tuple[str, ...]
    feeds: tuple[str, ...]
    mapping: Mapping
    suggestions: tuple[TypeBy, ...] = ()


def _facts(facts: FileFacts) -> tuple[Any, ...]:
    return tuple(getattr(facts, name) for name in FileFacts.__slots__)


# --- reading --------------------------------------------------------------------------------------


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        JobError: It cannot be read, or is not of the language; line and key are named.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise JobError("mapping_too_long", path=path, most=MAX_BYTES)
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise JobError("mapping_unreadable", path=path, reason=reason) from error
    return parse_mapping(text, str(path), folder=path.parent)


def parse_mapping(text: str, name: str, *, folder: Path | None = None) -> Mapping:
    """Read a mapping from its text.

    Args:
        text: The TOML.
        name: How errors name the file.
        folder: Where second files are looked for.

    Raises:
        JobError: It is not of the language; line and key are named.
    """
    return _mapping(checked(text, name, LANGUAGE), folder)


def parse_preset(text: str, name: str) -> Preset:
    """Read a preset from its text; its id is `name` without `.toml`.

    Raises:
        JobError: It is not of the language; line and key are named.
    """
    found = checked(text, name, PRESET)
    about = found["preset"]
    return Preset(
        id=name.removesuffix(".toml"),
        name=about["name"],
        recognise=tuple(about.get("recognise", ())),
        not_with=tuple(about.get("not_with", ())),
        feeds=tuple(about["feeds"]),
        mapping=_mapping(found, None),
        suggestions=tuple(_type_by(one) for one in found.get("suggest", ())),
    )


# --- building -------------------------------------------------------------------------------------


def _mapping(found: Map[str, Any], folder: Path | None) -> Mapping:
    group = found.get("group", {})
    return Mapping(
        event_type=found["type"].upper() if "type" in found else None,
        namespace=found.get("source", ""),
        key=tuple(found.get("key", ())),
        omit=tuple(found.get("omit", ())),
        file=FileFacts(**found.get("file", {})),
        fields=_rules(found.get("fields", {})),
        fields_for={name.upper(): _rules(one) for name, one in found.get("fields_for", {}).items()},
        group_by=tuple(group.get("by", ())),
        keep=group.get("keep"),
        items_over_limit=group.get("items_over_limit"),
        lists_over_limit=group.get("lists_over_limit"),
        type_by=_type_by(found["type_by"]) if "type_by" in found else None,
        filters=tuple(
            Filter(
                one["name"], one["column"], tuple(one.get("keep", ())), tuple(one.get("drop", ()))
            )
            for one in found.get("filter", ())
        ),
        lookups=tuple(
            Lookup(
                str(folder / one["file"]) if folder is not None else one["file"],
                one.get("match", {}),
                one.get("take", {}),
            )
            for one in found.get("lookup", ())
        ),
    )


def _rules(found: Map[str, Any]) -> dict[str, Rule]:
    return {name: rule_of(one) for name, one in found.items()}


def rule_of(found: str | Map[str, Any]) -> Rule:
    """Build a rule from what stands in a file: a column's name, or a table."""
    if isinstance(found, str):
        return Rule(column=found)
    given = dict(found)
    if "json" in given:
        given["column"] = given.pop("json")
    if "with" in given:
        given["between"] = given.pop("with")
    if given.get("duration") is True:
        del given["duration"]  # the fields of lengths read 00:01:32, 92 and 1m32s by themselves
    for name in ("first_of", "join"):
        if name in given:
            given[name] = tuple(rule_of(one) for one in given[name])
    return Rule(**given)


def _type_by(found: Map[str, Any]) -> TypeBy:
    values = {word: event_type.upper() for word, event_type in found["values"].items()}
    return TypeBy(found["column"], values, skip_others=found.get("other") == "skip")
