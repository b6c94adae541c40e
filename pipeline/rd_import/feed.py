"""Header -> what feeds each field: what is said, recognised, named alike or known by an alias. Pure.

A field is fed, in this order, by what the user says (flags, then the mapping file), by the preset that the header is
recognised as, by a column of the field's own name, and by a column of a known alias. What is less than certain is
proposed and never mapped.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rd_import.aliases import aliases
from rd_import.errors import JobError
from rd_import.mapping_file import NUMBERED, Filter, Preset, Rule
from rd_import.mapping_file import Mapping as Said
from rd_import.matching import Fed, Matching
from rd_import.names import Names, folded
from rd_import.rules import columns_of, numbers_of, with_parts
from rd_import.values import LEGAL_BASES_CELL, OF_TYPE, ExportFacts
from rdstation_events.event_type import EventType

SAID, PRESET, NAME, ALIAS, LOOKUP = "said", "preset", "name", "alias", "lookup"
CLOSE: Final = 0.85  # of difflib: spelled alike
ITEM: Final = "line_items."
OR_OF_AN_ITEM: Final[Mapping[str, str]] = {
    "price": "line_items.price",
    "name": "line_items.product_title",
}
"""Field of the event → what a column of its name holds in a file with one row per item, as likely as not."""
TITLES: Final = frozenset({"name", "line_items.product_title", "line_items.variant_title"})
"""Fields that a column such as `Item #` does not feed: it holds numbers."""
DERIVED: Mapping[str, tuple[str, ...]] = {
    "total_items": ("line_items.quantity",),
    "line_items.product_id": ("line_items.sku", "line_items.product_title"),
}
"""Field → the fields that it can be derived from, the first that is there. Nothing else is derived."""


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A column that a second file adds.

    Args:
        field: The field that it feeds.
        column: Its name in the rows.
        words: Which column of which file it is.
        asked: The mapping says so; else it feeds the field only where the export itself does not.
    """

    field: str
    column: str
    words: str
    asked: bool


def match_columns(
    facts: ExportFacts,
    event_types: Sequence[EventType],
    said: Said,
    *,
    preset: Preset | None = None,
    looked_up: Sequence[LookedUp] = (),
    complete: bool = True,
) -> Matching:
    """Decide which column feeds which field of which type.

    Args:
        facts: The file, its header above all.
        event_types: The types that its rows can be of.
        said: What the user says.
        preset: What the header was recognised as.
        looked_up: What second files add to each row.
        complete: Refuse a file that lacks a required field.

    Raises:
        JobError: A field or column that was named does not exist, or a required field has no source.
    """
    names = Names(facts.columns)
    base = preset.mapping if preset is not None else Said()
    _check_fields(said, event_types)
    filters = _known_filters(said, base, names, facts)
    fed: dict[str, tuple[Fed, ...]] = {}
    proposed: dict[str, str] = {}
    for event_type in event_types:
        of_preset = preset is not None and event_type.name in preset.feeds
        rules = _Rules(
            facts, names, event_type, omit=(*said.omit, *(base.omit if of_preset else ()))
        )
        rules.add(said.rules(event_type.name), SAID, strict=True)
        for one in looked_up:
            if one.asked:
                rules.give(one.field, Rule(column=one.column), LOOKUP, one.words)
        if of_preset:
            rules.add(base.rules(event_type.name), PRESET, strict=False)
        rules.by_name()
        rules.by_alias()
        for one in looked_up:
            rules.give(one.field, Rule(column=one.column), LOOKUP, one.words)
        proposed |= {
            name: column for name, column in rules.proposed.items() if name not in rules.rules
        }
        fed[event_type.name] = tuple(rules.in_order())
    for event_type in event_types:
        _refuse_unsendable_legal_bases(facts, event_type, fed[event_type.name])
    derivable = _derivable(fed)
    key = _columns(names, facts, said.key, base.key)
    group_by = _columns(names, facts, said.group_by, base.group_by)
    type_by = said.type_by and replace(
        said.type_by, column=_column(names, facts, said.type_by.column)
    )
    used = {
        name
        for of_type in fed.values()
        for one in of_type
        for name in columns_of(one.rule, facts.columns)
    }
    used |= {
        *key,
        *group_by,
        *(one.column for one in filters),
        *([type_by.column] if type_by else []),
    }
    matching = Matching(
        fed=fed,
        unmatched=tuple(column for column in facts.columns if column not in used),
        proposed={name: column for name, column in proposed.items() if column not in used},
        derivable=derivable,
        key=key,
        group_by=group_by,
        filters=filters,
        type_by=type_by,
        preset=preset.id if preset is not None else None,
    )
    if complete:
        _refuse_missing(facts, event_types, matching)
    return matching


class _Rules:
    """Collects what feeds the fields of one type: who says it first wins."""

    def __init__(
        self, facts: ExportFacts, names: Names, event_type: EventType, *, omit: Sequence[str]
    ) -> None:
        self._facts = facts
        self._names = names
        self._type = event_type
        self._omit = frozenset(omit)
        self.rules: dict[str, Fed] = {}
        self.proposed: dict[str, str] = {}

    def add(self, rules: Mapping[str, Rule], how: str, *, strict: bool) -> None:
        """Take rules over; those of a preset hold as far as the file has their columns."""
        for name, rule in rules.items():
            if not takes(self._type, name):
                continue  # of another type of the same mapping
            found = _with_own_names(rule, self._names, self._facts, name, strict=strict)
            if found is not None:
                self.give(name, found, how)

    def give(self, name: str, rule: Rule, how: str, words: str | None = None) -> None:
        """Let a rule feed a field that nothing feeds yet."""
        if name not in self.rules and name not in self._omit and takes(self._type, name):
            self.rules[name] = Fed(name, rule, how, name, words or str(rule))

    def by_name(self) -> None:
        """Take columns that bear a field's own name; where case or marks differ, those that mean nothing else."""
        ambiguous = aliases().ambiguous
        for column in self._facts.columns:
            if self._may_be_an_items(column):
                self.proposed |= {column: column, OR_OF_AN_ITEM[column]: column}
            elif takes(self._type, column):
                self.give(column, Rule(column=column), NAME)
        for name in self._wanted():
            same = self._names.find(name)
            if same is None:
                continue
            if folded(name) in ambiguous or self._may_be_an_items(name):
                self.proposed[name] = same
            else:
                self.give(name, Rule(column=same), NAME)

    def _may_be_an_items(self, name: str) -> bool:
        """Tell whether a column of an event's field would hold the same of an item: `price` beside sku and quantity."""
        part = OR_OF_AN_ITEM.get(name)
        column = self._names.find(name)
        if part is None or column is None or not takes(self._type, part):
            return False
        others = [one for one in self._facts.columns if one != column]
        fed = self.rules.get(part)
        if fed is not None and column not in columns_of(fed.rule, self._facts.columns):
            return False  # another column holds it of the items
        of_items = {field for one in others for field in self._of_an_item(one)}
        return bool(of_items or fed) and part not in of_items

    def _of_an_item(self, column: str) -> tuple[str, ...]:
        """Name the fields that a column can feed, where all of them are an item's."""
        name = folded(column)
        fields = (column,) if takes(self._type, column) else aliases().fields.get(name, ())
        of_items = all(one.startswith(ITEM) for one in fields)
        return fields if of_items and name not in aliases().ambiguous else ()

    def by_alias(self) -> None:
        """Take columns of known names, where name and field mean only each other; propose the others.

        A weaker name counts only for a field that no better one claims.
        """
        known = aliases()
        taken = {
            name
            for one in self.rules.values()
            for name in columns_of(one.rule, self._facts.columns)
        }
        wanted = set(self._wanted())
        claims: dict[str, list[str]] = {}
        for column in self._facts.columns:
            name = folded(column)
            if column in taken or self._names.find(name) != column:
                continue
            fields = [one for one in known.fields.get(name, ()) if one in wanted]
            if "#" in column:
                fields = [one for one in fields if one not in TITLES]
            if len(fields) == 1 and name not in known.ambiguous:
                claims.setdefault(fields[0], []).append(column)
            else:
                self.proposed |= {one: column for one in fields if one not in self.proposed}
        for one, all_columns in claims.items():
            best = min(known.rank[folded(column)] for column in all_columns)
            columns = [column for column in all_columns if known.rank[folded(column)] == best]
            if len(columns) == 1:
                self.give(one, Rule(column=columns[0]), ALIAS)
            else:
                self.proposed[one] = columns[0]

    def _wanted(self) -> list[str]:
        """Name the fields that nothing feeds yet."""
        return [
            spec.column
            for spec in self._type.fields
            if spec.column not in self.rules
            and spec.column not in self._omit
            and not spec.column.startswith("legal_bases.")
        ]

    def in_order(self) -> Iterator[Fed]:
        """Give the rules in the order of the payload."""
        known = [spec.column for spec in self._type.fields]
        known += [LEGAL_BASES_CELL] if self._type.legal_base_categories else []
        known += [name for name in self.rules if name not in known]
        return (self.rules[name] for name in known if name in self.rules)


def certain_names(columns: Sequence[str], event_type: EventType) -> dict[str, str]:
    """Give field → column for columns that bear a field's own name, or one that means only this field."""
    rules = _Rules(ExportFacts("", "csv", tuple(columns)), Names(columns), event_type, omit=())
    rules.by_name()
    rules.by_alias()
    return {one.field: str(one.rule.column) for one in rules.in_order()}


def takes(event_type: EventType, name: str) -> bool:
    """Tell whether a type has a field, custom fields and the JSON column of legal bases included."""
    if name == LEGAL_BASES_CELL:
        return bool(event_type.legal_base_categories)
    return event_type.takes(name)


def in_common(matchings: Sequence[Matching]) -> tuple[Matching, ...]:
    """Name columns after `match`: by the field where all types are fed alike, else by field and type.

    What is alike in all files is one column; so it is named alike in all of them.
    """
    differ = {
        name
        for one in matchings
        for name in one.fields | one.constants
        if len(
            {repr(fed.rule) for of_type in one.fed.values() for fed in of_type if fed.field == name}
        )
        > 1
    }
    return tuple(
        replace(
            one,
            fed={
                event_type: tuple(
                    replace(fed, column=f"{fed.field}{OF_TYPE}{event_type}")
                    if fed.field in differ
                    else fed
                    for fed in of_type
                )
                for event_type, of_type in one.fed.items()
            },
        )
        for one in matchings
    )


def _with_own_names(
    rule: Rule, names: Names, facts: ExportFacts, name: str, *, strict: bool
) -> Rule | None:
    """Give the rule with the file's own names of columns.

    Of a preset's alternatives those are left out that the file has not, and nothing is left if it has none.
    """

    def own(column: str) -> str | None:
        numbered = NUMBERED in column and numbers_of(column, facts.columns)
        found = column if numbered else names.find(column)
        if found is None and strict:
            raise JobError(
                "no_such_column",
                path=facts.path,
                column=column,
                field=name,
                columns=_listed(facts.columns),
            )
        return found

    when = {found: word for column, word in rule.when.items() if (found := own(column)) is not None}
    if len(when) < len(rule.when):
        return None
    rule = replace(rule, when=when)
    if rule.column is not None:
        found = own(rule.name or "")
        return None if found is None else replace(rule, column=found, occurrence=1)
    return with_parts(rule, lambda one: _with_own_names(one, names, facts, name, strict=strict))


def _known_filters(said: Said, base: Said, names: Names, facts: ExportFacts) -> tuple[Filter, ...]:
    if said.filters:
        return tuple(replace(one, column=_column(names, facts, one.column)) for one in said.filters)
    return tuple(
        replace(one, column=found)
        for one in base.filters
        if (found := names.find(one.column)) is not None
    )


def _columns(
    names: Names, facts: ExportFacts, said: Sequence[str], of_preset: Sequence[str]
) -> tuple[str, ...]:
    """Give the file's own names of what the user says, else of what a preset says and the file has."""
    if said:
        return tuple(_column(names, facts, one) for one in said)
    found = tuple(names.find(one) for one in of_preset)
    return tuple(one for one in found if one) if all(found) else ()


def _column(names: Names, facts: ExportFacts, name: str) -> str:
    found = names.find(name)
    if found is None:
        raise JobError("no_such_key", path=facts.path, column=name, columns=_listed(facts.columns))
    return found


def _derivable(fed: Mapping[str, Sequence[Fed]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for of_type in fed.values():
        given = {one.field for one in of_type}
        found |= {
            name: None
            for name, sources in DERIVED.items()
            if name not in given and given.intersection(sources)
        }
    return tuple(found)


def _refuse_missing(
    facts: ExportFacts, event_types: Sequence[EventType], matching: Matching
) -> None:
    for event_type in event_types:
        missing = matching.missing(event_type)
        if missing:
            close = {
                name: matching.proposed.get(name) or _closest(name, matching.unmatched)
                for name in missing
            }
            raise JobError(
                "missing_columns",
                path=facts.path,
                event_type=event_type.name,
                missing=missing,
                columns=facts.columns,
                close=close,
            )


def _check_fields(said: Said, event_types: Sequence[EventType]) -> None:
    """Refuse names of fields that no type has, or not the one that they are said for."""
    by_name = {one.name: one for one in event_types}
    for name in (*said.fields, *said.omit):
        if not any(takes(one, name) for one in event_types):
            raise _no_such_field(name, event_types[0])
    for event_type, rules in said.fields_for.items():
        if event_type not in by_name:
            continue  # a mapping may serve several types, and this run sends one of them
        for name in rules:
            if not takes(by_name[event_type], name):
                raise _no_such_field(name, by_name[event_type])


def _no_such_field(name: str, event_type: EventType) -> JobError:
    if name.startswith("legal_bases."):
        return JobError("legal_base_not_taken", field=name, event_type=event_type.name)
    fields = [spec.column for spec in event_type.fields]
    return JobError(
        "no_such_field",
        field=name,
        event_type=event_type.name,
        close=_closest(name, fields),
        fields=fields,
    )


def _refuse_unsendable_legal_bases(
    facts: ExportFacts, event_type: EventType, fed: Sequence[Fed]
) -> None:
    """Refuse a legal basis of a category that the type does not take: consent is not left out in silence."""
    if not event_type.legal_base_categories:
        return
    used = {name for one in fed for name in one.rule.columns}
    for column in facts.columns:
        if (
            column.startswith("legal_bases.")
            and event_type.field(column) is None
            and column not in used
        ):
            raise JobError("legal_base_not_taken", field=column, event_type=event_type.name)


def _closest(name: str, candidates: Sequence[str]) -> str | None:
    """Suggest a column only where its name says so: spelled alike, or the last word of the field's."""
    by_folded = {c.casefold().replace(" ", "_"): c for c in candidates}
    wanted = name.rpartition(".")[2].casefold()
    near = difflib.get_close_matches(wanted, by_folded, n=1, cutoff=CLOSE)
    last_word = next((one for one in by_folded if wanted.endswith(f"_{one}")), None)
    return by_folded[near[0]] if near else by_folded[last_word] if last_word else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
