"""What a person sees on the terminal: preview, result and question, built as text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rd_import import messages
from rd_import.catalogue import number, translate
from rd_import.job import is_loopback
from rd_import.layout import Line, Look, Style, laid_out
from rd_import.messages import plain, say
from rd_import.names import folded
from rd_import.values import REASON_COLUMNS, REMARKS, RunResult

if TYPE_CHECKING:
    from rd_import.job import Account
    from rd_import.preview import Cause, Preview
    from rd_import.report import Cause as Refusal
    from rd_import.report import Report
    from rd_import.unknowns import UnknownEvent

MOST_CAUSES = 12
MOST_ANSWERS = 5
ASKED_FOR = {None, "person", "question"}
"""Ends that were no accident: what there is to say of them was said when they came."""
NOTHING_LEFT: Final = "no byte asked for: "
NOT_CONNECTED: Final[Mapping[str, str]] = {
    "the TLS connection could not be trusted": "no_tls",
    "the proxy refused": "no_proxy",
}
"""Why no byte left → the text that says what to do; any other reason is the network or the address."""
CONSENT: Final = re.compile(
    r"\baceita\b|accepts? marketing|consent|\bopt ?in\b|newsletter|\blgpd\b|unsubscri|descadastr"
)
"""How columns are called that say who allowed to be contacted, folded; met in exports of shops and mailers."""
REASONS = {"changed", "doubt", "held", "deferred", "sent", "forgotten"}
"""Why events stay behind, each a text of the preview."""
STATE_STYLES: Final[Mapping[str, Style]] = {
    "accepted": "good",
    "changed": "warning",
    "invalid": "bad",
    "refused": "bad",
    "unknown": "bad",
    "deferred": "warning",
    "not_sent": "warning",
}


def preview_text(
    preview: Preview, *, destination: str, label: str | None = None, look: Look | None = None
) -> str:
    """Write the preview, the most important first; `label` is named where nothing else tells the account."""
    return laid_out(_preview_lines(preview, destination, label), look or Look())


def reminder_text(preview: Preview, *, look: Look) -> str:
    """Write once more what must not be overlooked, for the preview may have left the screen."""
    warnings = (Line(text, "  ! ", "warning") for text in _warnings(preview, None))
    return laid_out((Line(say("preview.attention"), style="warning"), *warnings, Line()), look)


def destination_of(account: Account) -> str:
    """Say where events go."""
    key = "preview.practice" if is_loopback(account.base_url) else "preview.rd_station"
    return say(key, url=account.base_url, label=account.label)


def result_text(
    result: RunResult,
    *,
    report: Report | None = None,
    run: str = "",
    command: Callable[[Path], str] | None = None,
    answered: str | None = None,
    look: Look | None = None,
) -> str:
    """Write the closing screen: counts that sum, why a run stopped, and what to do next.

    Args:
        result: How the run ended.
        report: What was written of it.
        run: How the next command names the run.
        command: Gives the command that imports mended rows; None where the job's own words are not known.
        answered: The same command with what was open answered, so that it reaches nobody by mistake.
        look: How the stream shows lines.
    """
    lines = _result_lines(result, report, run or result.run_id, command, answered)
    return laid_out(lines, look or Look())


def _preview_lines(preview: Preview, destination: str, label: str | None) -> Iterator[Line]:
    title = say("preview.title", event_type=preview.event_type, destination=destination)
    yield Line(title, style="title")
    yield Line()
    yield from _sum_lines(preview)
    warnings = list(_warnings(preview, label))
    if warnings:
        yield Line()
        yield Line(say("preview.attention"), style="warning")
    for text in warnings:
        yield Line(text, "  ! ", "warning")
    for heading in ("preview.fatal", "preview.left_out", "preview.remarks"):
        causes = [one for one in preview.problems if _heading_of(one) == heading]
        yield from _causes_lines(causes, heading)
    yield from _file_lines(preview)
    yield from _column_lines(preview)
    if preview.payloads:
        yield Line()
        yield Line(say("preview.payloads", count=len(preview.payloads)), style="title")
        for payload in preview.payloads:
            for line in payload.splitlines():
                indent = len(line) - len(line.lstrip())
                yield Line(plain(line.lstrip()), " " * (indent + 2))


def _sum_lines(preview: Preview) -> Iterator[Line]:
    """How much would go, what stays behind, and what that costs."""
    contacts = say("preview.contacts", count=preview.contacts)
    if preview.to_send:
        yield _amount("preview.events", preview.to_send, contacts=contacts)
    else:
        yield Line(say("preview.nothing"), "  ", "warning")
    if len(preview.event_types) > 1:
        for name, count in preview.event_types.items():
            yield _amount("preview.of_type", count, event_type=name)
    if preview.already_accepted:
        yield _amount("preview.already", preview.already_accepted)
    for reason, count in preview.reasons.items():
        if reason in REASONS:
            yield _amount(f"preview.{reason}", count)
    if preview.to_send:
        size = preview.bytes / 1000
        time = duration(preview.minutes * 60)
        yield _amount("preview.requests", preview.requests, size=size, time=time)
    yield from _row_lines(preview)


def _row_lines(preview: Preview) -> Iterator[Line]:
    """What became of the rows, as a sum; nothing where each row is an event that goes."""
    no_data = sum(export["not_data"] for export in preview.exports)
    in_events = preview.rows - preview.invalid_rows - sum(preview.filtered.values()) - no_data
    if in_events == preview.rows == preview.events == preview.to_send:
        return
    yield Line()
    events = say("preview.of_events", count=preview.events)
    yield _amount("preview.in_events", in_events, events=events)
    if preview.invalid_rows:
        yield _amount("preview.invalid", preview.invalid_rows)
    for rule, count in preview.filtered.items():
        yield _amount("preview.filtered", count, rule=plain(translate(rule)))
    if no_data:
        yield _amount("preview.not_data", no_data)
    if in_events != preview.rows:
        yield _amount("preview.rows", preview.rows)


def _warnings(preview: Preview, label: str | None) -> Iterator[str]:
    """What must not be overlooked, the gravest first."""
    findings = [found for export in preview.exports for found in export["findings"]]
    for found in findings:
        if found["confidence"] == "open":
            yield say("preview.only_you", question=plain(messages.question(found)))
    if preview.to_send:
        yield say("preview.now")
    yield from _ages(preview)
    yield from _consent(preview)
    if preview.repeats:
        yield say("preview.repeats", count=preview.repeats)
    if preview.same_content:
        yield say("preview.same_content", count=preview.same_content)
    if preview.twins:
        yield say("preview.twins", count=preview.twins)
    if preview.crowded:
        yield say("preview.crowded", count=preview.crowded, limit=preview.contact_limit)
    if preview.one_each:
        yield say("preview.one_each")
    if preview.already_accepted is None:
        yield say("preview.not_looked_up")
    if label is not None:
        yield say("preview.label", label=plain(label))


def _consent(preview: Preview) -> Iterator[str]:
    for legal_base, events in preview.legal_bases.items():
        category, _, status = legal_base.partition(" ")
        known = status if status in {"granted", "declined"} else "other"
        yield say(f"preview.consent_{known}", count=events, category=category, status=plain(status))


def _ages(preview: Preview) -> Iterator[str]:
    """Say how many events are old, and of how many that is unknown."""
    if preview.past:
        chosen = f"preview.past_{preview.asked_past}" if preview.asked_past else "preview.past"
        yield say(chosen, count=preview.past, days=preview.max_age_days)
    elif not preview.dated:
        yield say("preview.undated")
    if preview.undated:
        yield say("preview.some_undated", count=preview.undated)


def _file_lines(preview: Preview) -> Iterator[Line]:
    """What was found in each file."""
    yield Line()
    yield Line(say("preview.files"), style="title")
    for export in preview.exports:
        form = messages.form(export["format"])
        if export["blank_lines"]:
            form = say("preview.blank", count=export["blank_lines"], form=form)
        path = plain(export["path"])
        yield Line(say("preview.file", count=export["rows"], path=path, form=form), "  ")
        if export["recognised"] is not None:
            name = translate(export["recognised"])
            yield Line(say("preview.recognised", name=name), "    ")
        elif export["alike"]:
            names = ", ".join(export["alike"])
            yield Line(say("preview.alike", count=len(export["alike"]), names=names), "    ")
        found_out = export["findings"]
        for found in found_out:
            if found["confidence"] in {"likely", "assumed"}:
                yield Line(plain(messages.finding(found)), "    ", "soft")
        sure = [found for found in found_out if found["confidence"] in {"stated", "certain"}]
        for text in messages.sure_findings(sure):
            yield Line(plain(text), "    ", "soft")


def _column_lines(preview: Preview) -> Iterator[Line]:
    yield Line()
    yield Line(say("preview.columns"), style="title")
    same = [field for field, column in preview.fields.items() if field == column]
    for heading in (None, "preset", "alias", "lookup"):
        fed = [
            f"{field} = {plain(messages.fed_by(column))}"
            for field, column in preview.fields.items()
            if field != column and heading == _heading_of_field(preview.how[field])
        ]
        if fed and heading:
            yield Line(say(f"preview.by_{heading}"), "  ")
        yield from (Line(text, "    " if heading else "  ") for text in fed)
    for field, value in preview.constants.items():
        yield Line(say("preview.constant", field=field, value=plain(value)), "  ")
    for field in preview.derived:
        source = "preview.total_items" if field == "total_items" else "preview.product_id"
        yield Line(say(source, field=field), "  ")
    for field, column in preview.proposed.items():
        flag = plain(messages.rename_flag(field, column))
        yield Line(say("preview.proposed", field=field, column=plain(column), flag=flag), "  ")
    if same:
        names = ", ".join(plain(name) for name in same)
        yield Line(say("preview.same", names=names), "  ")
    custom = [field for field in preview.fields if field.startswith("cf_")]
    if custom:
        columns = plain(messages.listed(custom, most=20))
        yield Line(say("preview.custom", columns=columns), "  ")
    for column, values in preview.suggested.items():
        words = ", ".join(f"{plain(word)} = {event_type}" for word, event_type in values.items())
        flag = plain(messages.type_by_flag(column))
        shown = say("preview.suggested", column=plain(column), words=words, flag=flag)
        yield Line(shown, "  ")
    unmatched = [name for name in preview.unmatched if name not in REASON_COLUMNS]
    if unmatched:
        columns = plain(messages.listed(unmatched, most=20))
        yield Line(say("preview.unmatched", columns=columns), "  ")
    asked = [name for name in unmatched if CONSENT.search(folded(name))]
    if asked:
        columns = plain(messages.listed(asked))
        yield Line(say("preview.consent_unused", columns=columns), "  ", "warning")


def _heading_of_field(how: str) -> str | None:
    return how if how in {"preset", "alias", "lookup"} else None


def _amount(key: str, count: int, style: Style = "plain", **facts: object) -> Line:
    return Line(say(key, count=count, **facts), f"  {number(count):>9} ", style)


def duration(seconds: float) -> str:
    """Write how long something takes, in the unit that a person would use."""
    if seconds < 60:
        return say("time.seconds")
    if seconds < 5400:
        return say("time.minutes", count=math.ceil(seconds / 60))
    return say("time.hours", count=round(seconds / 3600, 1))


def _heading_of(cause: Cause) -> str:
    if cause.code in REMARKS:
        return "preview.remarks"
    return "preview.fatal" if cause.fatal else "preview.left_out"


def _causes_lines(causes: list[Cause], heading: str) -> Iterator[Line]:
    if causes:
        yield Line()
        yield Line(say(heading), style="title")
    for cause in causes[:MOST_CAUSES]:
        yield from _cause_lines(cause)
    if len(causes) > MOST_CAUSES:
        yield Line(say("preview.more_causes", count=len(causes) - MOST_CAUSES), "  ")


def _cause_lines(cause: Cause) -> Iterator[Line]:
    what = plain(cause.message)
    key = "preview.cause_alone"
    if cause.column and f"`{cause.column}`" not in what:
        key = "preview.cause"
        what = say("preview.column", column=plain(messages.fed_by(cause.column)), what=what)
    values = ", ".join(f'"{plain(value)}"' for value in cause.values if value)
    text = say(key, count=cause.rows, what=what)
    yield Line(f"{text} ({values})" if values else text, "  ", "bad" if cause.fatal else "plain")
    key = "preview.first" if cause.rows > len(cause.places) else "preview.places"
    yield Line(say(key, places=plain(_places(cause.places))), "    ")
    yield Line(say("hint", hint=plain(cause.hint)), "    ")


def _places(places: Sequence[str]) -> str:
    """Name places, the file once where all are lines of one."""
    parts = [place.rpartition(":") for place in places]
    if len({file for file, _, _ in parts}) > 1 or not all(line.isdigit() for _, _, line in parts):
        return ", ".join(places)
    return f"{parts[0][0]}:{', '.join(line for _, _, line in parts)}"


def _result_lines(
    result: RunResult,
    report: Report | None,
    run: str,
    command: Callable[[Path], str] | None,
    answered: str | None,
) -> Iterator[Line]:
    for state, rows in result.states.items():
        text = f"{state:<16} {messages.state(state)}"
        yield Line(text, f"  {number(rows):>9} ", STATE_STYLES.get(state, "plain"))
    if result.decided_rows:
        yield _amount("result.decided", result.decided_rows)
    requests = say("result.requests", count=result.requests)
    in_events = result.rows - sum(result.states.get(one, 0) for one in ("invalid", "filtered"))
    if result.events < in_events:
        requests = f"{say('preview.of_events', count=result.events)}, {requests}"
    yield _amount("result.rows", result.rows, requests=requests)
    yield Line()
    if report is not None:
        yield from _answer_lines(report.causes)
    yield Line(say("result.audit", path=result.audit_path))
    for path in result.rejected_paths:
        yield Line(say("result.rejected", path=path))
    if report is not None:
        yield Line(say("result.report", path=report.path))
    if result.stopped_by not in ASKED_FOR and result.proof:
        yield Line(say("result.stopped", proof=plain(messages.proof(result.proof))), style="bad")
    for line in _next_steps(result, run, command, answered):
        yield Line(say("hint", hint=line), style="title")


def _answer_lines(causes: Sequence[Refusal]) -> Iterator[Line]:
    """Say what RD Station said, or failed to say, of the rows that it did not take."""
    answered = [one for one in causes if one.state in {"refused", "unknown", "deferred"}]
    for cause in answered[:MOST_ANSWERS]:
        place = plain(cause.first[0])
        what = plain(cause.what)
        yield Line(
            say("result.cause", count=cause.rows, state=cause.state, what=what, place=place), "  "
        )
        if cause.hint:
            yield Line(say("hint", hint=plain(cause.hint)), "    ")
    if answered:
        yield Line()


def _next_steps(
    result: RunResult, run: str, command: Callable[[Path], str] | None, answered: str | None
) -> Iterator[str]:
    rest = result.states.get("not_sent") or result.states.get("deferred")
    if result.stopped_by is not None and rest:
        before, nothing_left, why = (result.proof or "").partition(NOTHING_LEFT)
        no_way = nothing_left and not before and result.stopped_by == "outage"
        end = NOT_CONNECTED.get(why, "no_connection") if no_way else result.stopped_by
        if end == "account" and (result.proof or "").startswith("401"):
            end = "token"
        if end == "question" and answered:
            yield say("result.question_by", command=answered)
        else:
            yield say(f"result.{end}", run=run)
    if result.states.get("unknown", 0) > result.decided_rows:
        yield say("result.unknown", run=run)
    for path in result.rejected_paths:
        if command is None:
            yield say("result.mend", file=path.name)
        else:
            yield say("result.mend_by", file=path.name, command=command(path))
    if result.states.get("not_sent") and result.stopped_by is None:
        yield say("result.rest", run=run)
    elif result.states.get("deferred"):
        yield say("result.deferred", run=run)


def status_text(
    found: Sequence[Mapping[str, Any]], *, ledger: str, look: Look | None = None
) -> str:
    """Write the runs of a ledger, the newest first, each with what it waits for and the command that goes on."""
    return laid_out(_status_lines(found, ledger), look or Look())


def _status_lines(found: Sequence[Mapping[str, Any]], ledger: str) -> Iterator[Line]:
    yield Line(say("status.ledger", path=ledger))
    if not found:
        yield Line(say("status.empty"))
    accounts = {run["account"] for run in found}
    for run in found:
        name = "status.run" if len(accounts) == 1 else "status.account"
        facts = {key: run[key] for key in ("event_type", "account")}
        yield Line()
        yield Line(say(name, run=run["run_id"], started=run["started_at"], **facts), style="title")
        for state, rows in (run["states"] or {}).items():
            text = f"{state:<16} {messages.state(state)}"
            yield Line(text, f"  {number(rows):>9} ", STATE_STYLES.get(state, "plain"))
        yield Line(say("result.audit", path=run["audit"]), "  ")
        for text in _waits(run):
            yield Line(text, "  ! ", "warning")


def _waits(run: Mapping[str, Any]) -> Iterator[str]:
    """Say what a run waits for."""
    if run["running"]:
        yield say("status.running")
    elif run["states"] is None:
        yield say("status.interrupted", run=run["run_id"])
    else:
        rest = {**run["states"], "unknown": run["undecided"]}
        for state, key in (("not_sent", "rest"), ("deferred", "deferred"), ("unknown", "unknown")):
            if rest.get(state):
                yield say(f"status.{key}", count=rest[state], run=run["run_id"])


def unknown_events_text(events: Sequence[UnknownEvent], *, look: Look) -> str:
    """Write what happened to unknown events and what each decision means, before they are asked about."""
    lines = [Line(say("resolve.intro", count=len(events)), style="title")]
    for key in ("resolve.resend", "resolve.confirmed", "resolve.left"):
        mark, _, meaning = say(key).partition("  ")
        lines.append(Line(meaning, f"  {mark}  "))
    return laid_out(lines, look)


def unknown_event_text(event: UnknownEvent, at: int, count: int, *, look: Look) -> str:
    """Write one unknown event with its contact."""
    return laid_out(_unknown_lines(event, at, count), look)


def _unknown_lines(event: UnknownEvent, at: int, count: int) -> Iterator[Line]:
    contact = event.email or say("resolve.no_contact")
    who = f"{plain(contact)}, {plain(event.identifier)}" if event.identifier else plain(contact)
    path = plain(messages.file_name(event.source_file))
    place = {"row": event.row_number, "path": path}
    yield Line()
    yield Line(say("resolve.event", number=at, count=count, who=who, **place), style="title")
    left = event.event_type
    if event.left_at is not None:
        left = say("resolve.left_at", event_type=event.event_type, when=event.left_at)
    yield Line(left, "  ")
