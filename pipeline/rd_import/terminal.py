"""What a person sees on the terminal: preview, result and question, built as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rd_import import messages
from rd_import.preview import Cause, Preview
from rd_import.resolve import UnknownEvent
from rd_import.values import RunResult

CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))}
MOST_CAUSES = 12
REASONS = {
    "changed": "were sent with other content and will not be sent again",
    "doubt": "may be registered already and will not be sent again",
    "held": "were closed by a person and will not be sent",
    "deferred": "wait for their contact's limit",
    "sent": "are being sent by another run right now",
}


def plain(text: str) -> str:
    """Show terminal escapes and line breaks of a cell instead of obeying them."""
    return text.translate(CONTROL)


def preview_text(preview: Preview, *, destination: str, label: str | None = None) -> str:
    """Write the preview, the most important first; `label` is named where nothing else tells the account."""
    return "\n".join(_preview_lines(preview, destination, label))


def result_text(result: RunResult) -> str:
    """Write the closing screen: counts that sum, why a run stopped, and what to do next."""
    return "\n".join(_result_lines(result))


def _preview_lines(preview: Preview, destination: str, label: str | None) -> Iterator[str]:
    yield f"{preview.event_type} to {destination}"
    yield from _file_lines(preview)
    if label is not None:
        yield f"  account `{plain(label)}`: nothing ties these credentials to it, so this name is taken on trust"
    yield ""
    yield from _sum_lines(preview)
    yield from _column_lines(preview)
    for fatal, title in ((True, "Why rows will not go"), (False, "Left out of events that go")):
        yield from _causes_lines([one for one in preview.problems if one.fatal is fatal], title)
    if preview.payloads:
        yield ""
        count = len(preview.payloads)
        yield "The first event" if count == 1 else f"The first {count} events"
        for payload in preview.payloads:
            yield "\n".join(f"  {plain(line)}" for line in payload.splitlines())


def _file_lines(preview: Preview) -> Iterator[str]:
    """What was found in each file, and what only the person can say."""
    for export in preview.exports:
        form = messages.FORMATS[export["format"]]
        blank = (
            f", {export['blank_lines']:,} blank lines passed over" if export["blank_lines"] else ""
        )
        yield f"  {plain(export['path'])}: {export['rows']:,} rows ({form}{blank})"
        for found in export["findings"]:
            yield f"    {plain(messages.finding(found))}"
        if export["not_data"]:
            yield f"    {export['not_data']:,} rows hold no data (totals, the header once more) and are left out"
    findings = [found for export in preview.exports for found in export["findings"]]
    questions = [found for found in findings if found["confidence"] == "open"]
    if questions:
        yield ""
        yield "Only you can say; nothing is sent before"
    for found in questions:
        yield f"  {plain(messages.question(found))}"


def _sum_lines(preview: Preview) -> Iterator[str]:
    """How much would go, why the rest would not, and what that costs."""
    yield f"  {preview.events:>9,} {_events(preview.events)} would be sent, of {preview.contacts:,} contacts"
    yield f"  {preview.invalid_rows:>9,} {_rows(preview.invalid_rows)} will not go"
    if preview.already_accepted is None:
        yield "  not looked up: which events were sent earlier (no ledger yet, or no account named)"
    elif preview.already_accepted:
        yield f"  {preview.already_accepted:>9,} of the events were sent earlier and will not be sent again"
    for reason, count in preview.reasons.items():
        if reason in REASONS:
            yield f"  {count:>9,} of the events {REASONS[reason]}"
    if preview.repeats:
        yield f"  {preview.repeats:>9,} of the events have the identity of events of another file"
    if preview.same_content:
        yield (
            f"  {preview.same_content:>9,} {_events(preview.same_content)} with the very content of one that was"
            " sent before under another key: was `key`, `source` or a date changed?"
        )
    if preview.twins:
        yield f"  {preview.twins:>9,} {_events(preview.twins)} with the very content of another one in this file"
    if preview.past:
        yield f"  {preview.past:>9,} {_events(preview.past)} older than --max-age"
    elif not preview.dated:
        yield "  no date is mapped, so the age of the events is unknown"
    requests = "request" if preview.requests == 1 else "requests"
    size, minutes = f"{preview.bytes / 1000:,.1f} kB", f"{preview.minutes:g} min"
    yield f"  {preview.requests:>9,} {requests}, {size}, about {minutes} at the account's limit"
    if preview.one_each:
        yield "  with an API key each event is a request of its own"
    for legal_base, events in preview.legal_bases.items():
        yield f"  {events:>9,} {_events(events)} with the legal basis {legal_base}"
    yield "  RD Station dates every event on arrival: automations fire now, whatever the date in the file."


def _column_lines(preview: Preview) -> Iterator[str]:
    yield ""
    yield "Columns"
    for field, column in preview.fields.items():
        yield f"  {field} = {plain(column)}" if field != column else f"  {field}"
    for field, value in preview.constants.items():
        yield f'  {field} = "{plain(value)}" in every row'
    for field in preview.derived:
        source = "sum of quantities" if field == "total_items" else "the sku, else the title"
        yield f"  {field} is derived ({source})"
    if preview.unmatched:
        yield f"  not used: {plain(messages.listed(preview.unmatched, most=20))}"


def _causes_lines(causes: list[Cause], title: str) -> Iterator[str]:
    if causes:
        yield ""
        yield title
    for cause in causes[:MOST_CAUSES]:
        yield from _cause_lines(cause)
    if len(causes) > MOST_CAUSES:
        yield f"  and {len(causes) - MOST_CAUSES} more causes; the audit names every row"


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _events(count: int) -> str:
    return "event" if count == 1 else "events"


def _cause_lines(cause: Cause) -> Iterator[str]:
    column = f"column `{plain(cause.column)}`: " if cause.column else ""
    shown = ", ".join(f'"{plain(value)}"' for value in cause.values)
    yield f"  {cause.rows:,} {_rows(cause.rows)}, {column}{plain(cause.message)}{f' ({shown})' if shown else ''}"
    yield f"    first: {plain(', '.join(cause.places))}"
    yield f"    hint: {plain(cause.hint)}"


def _result_lines(result: RunResult) -> Iterator[str]:
    for state, rows in result.states.items():
        yield f"  {rows:>9,} {state:<16} {messages.STATES[state]}"
    requests = "request" if result.requests == 1 else "requests"
    yield f"  {result.rows:>9,} {_rows(result.rows)} in all, {result.requests:,} {requests}"
    yield ""
    yield f"audit: {result.audit_path}"
    for path in result.rejected_paths:
        yield f"rejected rows: {path}"
    for line in _next_steps(result):
        yield f"hint: {line}"


def _next_steps(result: RunResult) -> Iterator[str]:
    if result.stopped_by is not None and result.proof:
        yield f"the run stopped: {plain(result.proof)}"
    if result.stopped_by == "account":
        yield "check that the token is valid and that plan and permission include this event, then run it again"
    if result.stopped_by == "outage":
        yield f"RD Station gave no usable answer; when it is back: rd-import resume {result.run_id}"
    if result.stopped_by == "refused":
        yield "RD Station refused event after event; see error_message in the audit, mend the cause, run it again"
    if result.stopped_by == "service":
        yield "the address or request was not accepted; check --base-url, then run the same command again"
    if result.stopped_by == "person":
        yield f"stopped as asked; to go on: rd-import resume {result.run_id}"
    if result.states.get("unknown"):
        yield (
            "unknown rows may or may not be registered, and are never sent again by themselves; "
            f"look the contacts up in RD Station, then: rd-import resolve {result.run_id}"
        )
    for path in result.rejected_paths:
        yield f"mend the rows in {Path(path).name} and import that file; exactly those events go"
    if result.states.get("not_sent") and result.stopped_by is None:
        yield f"to send the rest: rd-import resume {result.run_id}"
    elif result.states.get("deferred"):
        yield f"the rest may go after `not_before` in the audit: rd-import resume {result.run_id}"


def status_text(found: list[dict[str, Any]], *, ledger: str) -> str:
    """Write the runs of a ledger, the newest first, each with the command that goes on."""
    lines = [f"ledger: {ledger}"]
    for run in found:
        states = ", ".join(f"{rows:,} {state}" for state, rows in (run["states"] or {}).items())
        stand = "is running" if run["running"] else states or "was interrupted"
        lines.append(
            f"{run['run_id']}  {run['started_at']:%Y-%m-%d %H:%M} UTC  {run['event_type']}  {stand}"
        )
        lines.append(f"  audit: {run['audit']}")
        waiting = not run["running"] and (
            run["states"] is None
            or any(run["states"].get(state) for state in ("not_sent", "deferred"))
        )
        if waiting:
            lines.append(f"  hint: rd-import resume {run['run_id']}")
        if run["states"] and run["states"].get("unknown"):
            lines.append(f"  hint: rd-import resolve {run['run_id']}")
    return "\n".join(lines)


def unknown_event_text(event: UnknownEvent) -> str:
    """Write one unknown event with its contact, and what each decision means."""
    contact = event.email or "its contact is no longer kept here"
    who = f"{plain(contact)}, {plain(event.identifier)}" if event.identifier else plain(contact)
    return (
        f"\n{event.event_type}, row {event.row_number} of {plain(event.source_file)}: {who}\n"
        "  It left, and no usable answer came. Look the contact up in RD Station.\n"
        "  resend: it goes once more; if it was registered, the contact has it twice and automations fire twice.\n"
        "  leave: it stays unknown, and no import sends it again.\n"
        "  confirmed: you saw it there, and no import sends it again."
    )
