"""Header -> what feeds each field: what is said, recognised, named alike or known by an alias. Pure.

A field is fed, in this order, by what the user says (flags, then the mapping file), by the preset that the header is
recognised as, by a column of the field's own name, and by a column of a known alias. What is less than certain is
proposed and never mapped.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from rd_import.claims import LOOKUP, PRESET, SAID, Claims, takes
from rd_import.errors import JobError
from rd_import.mapping_file import Filter, Preset, Rule
from rd_import.mapping_file import Mapping as Said
from rd_import.matching import Fed, LookedUp, Matching
from rd_import.messages import listed
from rd_import.names import Names, folded
from rd_import.rules import columns_of
from rd_import.values import OF_TYPE, ExportFacts
from rdstation_events.event_type import EventType

CLOSE: Final = 0.85  # of difflib: spelled alike
MENTIONS_E_MAIL: Final = re.compile(r"\b(?:e ?mail|correo)\b")
TOO_COMMON: Final = frozenset({"items", "name"})  # last words of `total_items` and `funnel_name`
DERIVED: Mapping[str, tuple[str, ...]] = {
    "total_items": ("line_items.quantity",),
    "line_items.product_id": ("line_items.sku", "line_items.product_title"),
}
"""Field → the fields that it can be derived from, the first that is there. Nothing else is derived."""


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
        feeds = preset is not None and event_type.name in preset.feeds
        of_preset = base if feeds else Said()
        claims = Claims(facts, names, event_type, omit=(*said.omit, *of_preset.omit))
        claims.add(said.rules(event_type.name), SAID, strict=True)
        for one in looked_up:
            if one.asked:
                claims.give(one.field, Rule(column=one.column), LOOKUP, one.words)
        claims.add(of_preset.rules(event_type.name), PRESET, strict=False)
        claims.by_name()
        claims.by_alias()
        for one in looked_up:
            claims.give(one.field, Rule(column=one.column), LOOKUP, one.words)
        proposed |= {
            name: column for name, column in claims.proposed.items() if name not in claims.rules
        }
        fed[event_type.name] = tuple(claims.in_order())
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
        raise JobError("no_such_key", path=facts.path, column=name, columns=listed(facts.columns))
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
    """Suggest a column only where its name says so: spelled alike, the last word of the field's, or the only e-mail."""
    by_folded = {c.casefold().replace(" ", "_"): c for c in candidates}
    wanted = name.rpartition(".")[2].casefold()
    near = difflib.get_close_matches(wanted, by_folded, n=1, cutoff=CLOSE)
    if near:
        return by_folded[near[0]]
    if name == "email":
        mentions = [c for c in candidates if MENTIONS_E_MAIL.search(folded(c))]
        return mentions[0] if len(mentions) == 1 else None
    last_word = next(
        (one for one in by_folded if wanted.endswith(f"_{one}") and one not in TOO_COMMON), None
    )
    return by_folded[last_word] if last_word else None
