"""A matching -> the text of a mapping file, with what is not certain and what is missing as comments. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rd_import.mapping_file import FileFacts, Filter, Lookup, Rule, TypeBy
from rd_import.mapping_file import Mapping as Said
from rd_import.matching import Matching
from rd_import.messages import how, say
from rdstation_events.event_type import EventType

FACTS: Final = ("encoding", "delimiter", "decimal", "dates", "timezone")
SURE: Final = {"certain", "likely", "stated"}
WIDTH: Final = 44  # of a line before its comment


def mapping_text(
    path: str,
    event_types: Sequence[EventType],
    matching: Matching,
    said: Said,
    findings: Sequence[Mapping[str, Any]],
    suggestions: Sequence[TypeBy] = (),
) -> str:
    """Write a mapping file that says what a preview showed.

    Args:
        path: The export.
        event_types: What its rows are sent as.
        matching: How its columns become fields.
        said: What the user says beyond that.
        findings: What was found out about the file.
        suggestions: Columns whose words tell event types; written as comments.
    """
    lines = [f"# {say('map.head', path=path)}", f"# {say('map.page')}", ""]
    if matching.type_by is None:
        lines.append(f'type = "{event_types[0].name}"')
    if said.namespace:
        lines.append(f"source = {_text(said.namespace)}")
    if matching.key:
        lines.append(f"key = {_texts(matching.key)}")
    elif any(one.weak_identity for one in event_types):
        lines.append(f"# {say('map.key')}")
    if said.omit:
        lines.append(f"omit = {_texts(said.omit)}")
    lines += _file_lines(said.file, findings)
    lines += _field_lines(event_types, matching)
    lines += _group_lines(matching, said)
    if matching.type_by is not None:
        lines += ["", *_type_by_lines(matching.type_by)]
    else:
        for one in suggestions:
            lines += ["", f"# {say('map.suggest')}", *(f"# {line}" for line in _type_by_lines(one))]
    for rule in matching.filters:
        lines += ["", *_filter_lines(rule)]
    for each in said.lookups:
        lines += ["", *_lookup_lines(each)]
    return "\n".join(lines) + "\n"


def _file_lines(stated: FileFacts, findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Keep what was decided about the file; a mark or order that differs from column to column is found each time."""
    known: dict[str, str] = {}
    for name in FACTS:
        found = {
            one["value"] for one in findings if one["what"] == name and one["confidence"] in SURE
        }
        value = getattr(stated, name) or (found.pop() if len(found) == 1 else None)
        if value in {None, "each", "as written", "ascii"}:
            continue
        known[name] = _text("\t" if value in {"\\t", "tab"} else str(value))
    if stated.header is not None:
        known["header"] = "true" if stated.header else "false"
    if known:
        yield from ["", "[file]", *(f"{name} = {value}" for name, value in known.items())]


def _field_lines(event_types: Sequence[EventType], matching: Matching) -> Iterator[str]:
    first: dict[str, Rule] = {}
    yield from ["", "[fields]"]
    for event_type in event_types:
        for one in matching.fed[event_type.name]:
            if one.field not in first:
                first[one.field] = one.rule
                if not one.how.startswith("lookup"):
                    yield _commented(f"{_key(one.field)} = {rule_text(one.rule)}", how(one.how))
    for name, column in matching.proposed.items():
        if name not in first:
            yield _commented(f"# {_key(name)} = {_text(column)}", say("map.proposed"))
    for event_type in event_types:
        yield from _unfed_lines(event_type, matching, first)
    if matching.unmatched:
        yield f"# {say('map.unmatched', columns=', '.join(matching.unmatched))}"
    for event_type in event_types:
        other = [one for one in matching.fed[event_type.name] if one.rule != first[one.field]]
        if other:
            yield from ["", f"[fields_for.{event_type.name}]"]
            yield from (f"{_key(one.field)} = {rule_text(one.rule)}" for one in other)


def _unfed_lines(
    event_type: EventType, matching: Matching, fed: Mapping[str, Rule]
) -> Iterator[str]:
    """Name what the type needs and nothing feeds, and what it could have besides."""
    free = [spec for spec in event_type.fields if spec.column not in fed]
    missing = set(matching.missing(event_type))
    for spec in free:
        if spec.column in missing:
            yield _commented(
                f'# {_key(spec.column)} = {{ value = "{spec.example}" }}', say("map.required")
            )
    others = [
        spec.column
        for spec in free
        if not spec.required and spec.column not in {*matching.proposed, *missing}
    ]
    if others:
        yield f"# {say('map.optional', event_type=event_type.name, fields=', '.join(others))}"


def _group_lines(matching: Matching, said: Said) -> Iterator[str]:
    known = {
        "by": _texts(matching.group_by) if matching.group_by else None,
        **{
            name: _text(value) if (value := getattr(said, name)) else None
            for name in ("keep", "items_over_limit", "lists_over_limit")
        },
    }
    if any(known.values()):
        yield from ["", "[group]", *(f"{name} = {value}" for name, value in known.items() if value)]


def _type_by_lines(type_by: TypeBy) -> Iterator[str]:
    words = ", ".join(f"{_key(word)} = {_text(to)}" for word, to in (type_by.values or {}).items())
    yield from ["[type_by]", f"column = {_text(type_by.column)}", f"values = {{ {words} }}"]
    if type_by.skip_others:
        yield 'other = "skip"'


def _filter_lines(rule: Filter) -> Iterator[str]:
    yield from ["[[filter]]", f"name = {_text(rule.name)}", f"column = {_text(rule.column)}"]
    if rule.keep:
        yield f"keep = {_texts(rule.keep)}"
    if rule.drop:
        yield f"drop = {_texts(rule.drop)}"


def _lookup_lines(lookup: Lookup) -> Iterator[str]:
    yield from ["[[lookup]]", f"file = {_text(lookup.file)}"]
    for name in ("match", "take"):
        pairs = getattr(lookup, name)
        if pairs:
            words = ", ".join(f"{_key(one)} = {_text(other)}" for one, other in pairs.items())
            yield f"{name} = {{ {words} }}"


def rule_text(rule: Rule) -> str:
    """Write a rule as a mapping file holds it."""
    if rule == Rule(column=rule.column) and rule.column is not None:
        return _text(rule.column)
    parts = []
    if rule.column is not None:
        parts.append(f"{'column' if rule.path is None else 'json'} = {_text(rule.column)}")
    if rule.occurrence > 1:
        parts.append(f"occurrence = {rule.occurrence}")
    for name in ("first_of", "join"):
        inner = ", ".join(rule_text(one) for one in getattr(rule, name))
        parts += [f"{name} = [{inner}]"] if inner else []
    if rule.join and rule.between != " ":
        parts.append(f"with = {_text(rule.between)}")
    for name in ("value", "path", "strip_prefix", "extract"):
        parts += _said(name, getattr(rule, name))
    if rule.values:
        words = ", ".join(f"{_key(word)} = {_text(to)}" for word, to in rule.values.items())
        parts.append(f"values = {{ {words} }}")
    for name in ("other", "split", "default", "per", "duration"):
        parts += _said(name, getattr(rule, name))
    parts += [f"scale = {rule.scale!r}"] if rule.scale else []
    parts += ["sum = true"] if rule.sum else []
    if rule.when:
        words = ", ".join(f"{_key(name)} = {_text(word)}" for name, word in rule.when.items())
        parts.append(f"when = {{ {words} }}")
    return f"{{ {', '.join(parts)} }}"


def _said(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{name} = {_text(value)}"]


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _commented(line: str, comment: str) -> str:
    return f"{line:<{WIDTH}} # {comment}" if comment else line
