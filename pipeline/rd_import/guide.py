"""What a person looks up before an import: the event types, an empty file to fill, and where one row's values go."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Literal

from rd_import.catalogue import translate
from rd_import.errors import JobError
from rd_import.layout import Line, Look, laid_out
from rd_import.messages import advice, plain, say
from rd_import.names import near_types
from rdstation_events import EVENT_TYPES, REMOVED_TYPES
from rdstation_events.event_type import EventType
from rdstation_events.field_spec import FieldSpec


def type_named(name: str) -> EventType:
    """Look an event type up, removed ones too.

    Raises:
        JobError: There is none of this name.
    """
    found = EVENT_TYPES.get(name.upper())
    if found is None:
        raise JobError("unknown_type", name=name, near=near_types(name))
    return found


def schema(event_type: str, frames: Literal["pandas", "polars"] = "pandas") -> Any:
    """Give the pandera schema of an event type's rows, for frames of pandas or polars.

    Both fail on the same cells of the same frame; `rdstation_events.checks.failure_code` names the reason.

    Raises:
        JobError: There is no such type.
    """
    from rd_import.settle import event_type_named

    found = event_type_named(event_type.upper(), ())
    return found.pandas_schema() if frames == "pandas" else found.polars_schema()


def types_data() -> list[dict[str, Any]]:
    """Give the catalogue: each type with what it is and what it needs."""
    return [
        {
            "event_type": one.name,
            "summary": one.summary,
            "family": one.family,
            "required": [spec.column for spec in one.fields if spec.required],
            "removed": name in REMOVED_TYPES,
            "successor": REMOVED_TYPES.get(name),
        }
        for name, one in EVENT_TYPES.items()
    ]


def type_data(event_type: EventType) -> dict[str, Any]:
    """Give all that is known of a type."""
    return {
        "event_type": event_type.name,
        "summary": event_type.summary,
        "family": event_type.family,
        "grouped_by": event_type.grouped_by,
        "identity": list(event_type.identity),
        "custom_fields": event_type.takes_custom_fields,
        "needs_contact": event_type.needs_contact,
        "account_requirement": event_type.account_requirement,
        "notes": list(event_type.notes),
        "successor": event_type.removed.successor if event_type.removed else None,
        "fields": [_field_data(spec) for spec in event_type.fields],
    }


def _field_data(spec: FieldSpec) -> dict[str, Any]:
    return {
        "field": spec.column,
        "kind": spec.kind,
        "required": spec.required,
        "required_with": spec.required_with,
        "sent": spec.sent,
        "options": list(spec.options),
        "description": spec.description,
        "example": spec.example,
        "source": spec.source,
        "trust": spec.trust,
    }


def types_text(*, look: Look | None = None) -> str:
    """Write the catalogue, a line per type."""
    known = types_data()
    lines = [
        Line(translate(one["summary"]), f"{one['event_type']:<28} ")
        for one in known
        if not one["removed"]
    ]
    lines += [
        Line(say("types.removed", successor=one["successor"]), f"{one['event_type']:<28} ", "soft")
        for one in known
        if one["removed"]
    ]
    lines += [Line(), Line(say("types.next"))]
    return laid_out(lines, look or Look())


def type_text(event_type: EventType, *, look: Look | None = None) -> str:
    """Write a type: its fields, each with what it is, and what else there is to know."""
    return laid_out(_type_lines(event_type), look or Look())


def _type_lines(event_type: EventType) -> Iterator[Line]:
    yield Line(f"{event_type.name}: {translate(event_type.summary)}", style="title")
    for spec in event_type.fields:
        need = "types.required" if spec.required else "types.with" if spec.required_with else ""
        words = [say(need, fields=spec.required_with or "")] if need else []
        words += [] if spec.sent else [say("types.not_sent")]
        words += [" | ".join(spec.options)] if spec.options else []
        example = say("types.example", example=spec.example)
        yield Line(f"{spec.column}  ({', '.join([translate(spec.kind), *words])})", "  ")
        yield Line(f"{translate(spec.description)} {example}", "      ")
    for note in event_type.notes:
        yield Line(translate(note), "  ")


def template_csv(event_type: EventType) -> str:
    """Write a CSV with the type's columns and a row of examples.

    Raises:
        JobError: The type has ended, so there is nothing to fill in.
    """
    if event_type.removed is not None:
        raise JobError("ended_type", name=event_type.name, successor=event_type.removed.successor)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(spec.column for spec in event_type.fields)
    writer.writerow(spec.example for spec in event_type.fields)
    return file.getvalue()


def explanation_text(found: dict[str, Any], *, look: Look | None = None) -> str:
    """Write where a row's values go: cells, rules, the JSON, and what became of it."""
    lines = (plain(line) for line in _explanation_lines(found))
    indented = ((line.lstrip(" "), line) for line in lines)
    return laid_out(
        (Line(text, " " * (len(line) - len(text))) for text, line in indented), look or Look()
    )


def _explanation_lines(found: dict[str, Any]) -> Iterator[str]:
    yield say("explain.row", place=found["place"], event_type=found["event_type"] or "?")
    for one in found["fields"]:
        cells = ", ".join(f"{name} = {_quoted(cell)}" for name, cell in one["cells"].items())
        rule = f"{one['rule']} ({one['how']})" if one["how"] else one["rule"]
        yield f"  {one['path']} = {json.dumps(one['value'], ensure_ascii=False)}"
        yield f"      {say('explain.from', rule=rule)}{f': {cells}' if cells else ''}"
    for problem in found["problems"]:
        yield f"  {problem['message']}"
        yield f"      {say('hint', hint=problem['hint'])}"
    if found["body"] is not None:
        yield say("explain.body")
        yield from (
            f"  {line}"
            for line in json.dumps(found["body"], ensure_ascii=False, indent=2).splitlines()
        )
    answer = {"event_uuid": "", "message": "?", "column": "?", "code": "?"} | found["answer"]
    facts: dict[str, Any] = {name: plain(answer[name]) for name in ("message", "column", "code")}
    yield say(f"explain.{answer['state']}", uuid=answer["event_uuid"], **facts)
    if hint := advice(answer["code"]):
        yield f"  {say('hint', hint=hint)}"


def _quoted(cell: str | None) -> str:
    return json.dumps(cell, ensure_ascii=False) if cell is not None else say("explain.empty")
