"""What a person sees on the terminal: preview, result and question, built as text."""

from collections.abc import Iterator
from pathlib import Path

from rd_import import messages
from rd_import.preview import Cause, Preview
from rd_import.values import RunResult

CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))}
MOST_CAUSES = 12


def plain(text: str) -> str:
    """Show terminal escapes and line breaks of a cell instead of obeying them."""
    return text.translate(CONTROL)


def preview_text(preview: Preview, *, destination: str) -> str:
    """Write the preview, the most important first."""
    return "\n".join(_preview_lines(preview, destination))


def result_text(result: RunResult) -> str:
    """Write the closing screen: counts that sum, why a run stopped, and what to do next."""
    return "\n".join(_result_lines(result))


def _preview_lines(preview: Preview, destination: str) -> Iterator[str]:
    yield f"{preview.event_type} to {destination}"
    for export in preview.exports:
        form = messages.FORMATS[export["format"]]
        blank = f", {export['blank_lines']:,} blank lines passed over" if export["blank_lines"] else ""
        yield f"  {plain(export['path'])}: {export['rows']:,} rows ({form}{blank})"
        for found in export["findings"]:
            yield f"    {plain(messages.finding(found))}"
        if export["not_data"]:
            yield f"    {export['not_data']:,} rows hold no data (totals, the header once more) and are left out"
    questions = [found for export in preview.exports for found in export["findings"] if found["confidence"] == "open"]
    if questions:
        yield ""
        yield "Only you can say; nothing is sent before"
        for found in questions:
            yield f"  {plain(messages.question(found))}"
    yield ""
    yield f"  {preview.events:>9,} events would be sent, of {preview.contacts:,} contacts"
    yield f"  {preview.invalid_rows:>9,} rows will not go"
    if preview.already_accepted is None:
        yield "  not looked up: which events were sent earlier (no ledger yet, or no account named)"
    elif preview.already_accepted:
        yield f"  {preview.already_accepted:>9,} of the events were sent earlier and will not be sent again"
    yield f"  {preview.requests:>9,} requests, {preview.bytes / 1e6:,.1f} MB, about {preview.minutes:g} min at the account's limit"
    for legal_base, events in preview.legal_bases.items():
        yield f"  {events:>9,} events set the legal basis {legal_base}"
    yield "  RD Station dates every event on arrival: automations fire now, whatever the date in the file."
    yield ""
    yield "Columns"
    for field, column in preview.fields.items():
        yield f"  {field} = {plain(column)}" if field != column else f"  {field}"
    for field, value in preview.constants.items():
        yield f'  {field} = "{plain(value)}" in every row'
    for field in preview.derived:
        yield f"  {field} is derived ({'sum of quantities' if field == 'total_items' else 'the sku, else the title'})"
    if preview.unmatched:
        yield f"  not used: {plain(messages.listed(preview.unmatched, most=20))}"
    for fatal, title in ((True, "Why rows will not go"), (False, "Left out of events that go")):
        causes = [cause for cause in preview.problems if cause.fatal is fatal]
        if causes:
            yield ""
            yield title
        for cause in causes[:MOST_CAUSES]:
            yield from _cause_lines(cause)
        if len(causes) > MOST_CAUSES:
            yield f"  and {len(causes) - MOST_CAUSES} more causes; the audit names every row"
    if preview.payloads:
        yield ""
        yield "The first event" if len(preview.payloads) == 1 else f"The first {len(preview.payloads)} events"
        for payload in preview.payloads:
            yield "\n".join(f"  {plain(line)}" for line in payload.splitlines())


def _cause_lines(cause: Cause) -> Iterator[str]:
    column = f"column `{plain(cause.column)}`: " if cause.column else ""
    shown = ", ".join(f'"{plain(value)}"' for value in cause.values)
    yield f"  {cause.rows:,} rows, {column}{plain(cause.message)}{f' ({shown})' if shown else ''}"
    yield f"    first: {plain(', '.join(cause.places))}"
    yield f"    hint: {plain(cause.hint)}"


def _result_lines(result: RunResult) -> Iterator[str]:
    for state, rows in result.states.items():
        yield f"  {rows:>9,} {state:<16} {messages.STATES[state]}"
    yield f"  {result.rows:>9,} rows in all, {result.requests:,} requests"
    yield ""
    yield f"audit: {result.audit_path}"
    for path in result.rejected_paths:
        yield f"rejected rows: {path}"
    for line in _next_steps(result):
        yield f"hint: {line}"


def _next_steps(result: RunResult) -> Iterator[str]:
    if result.stopped_by == "outage":
        yield "RD Station gave no usable answer, so the run stopped; run the same command again, it goes on where it stopped"
    if result.stopped_by == "refused":
        yield "RD Station refused event after event, so the run stopped; see error_message in the audit, mend the cause, run again"
    if result.stopped_by == "service":
        yield "the address or request was not accepted; check --base-url, then run the same command again"
    if result.stopped_by == "person":
        yield "stopped as asked; run the same command again to go on"
    if result.states.get("unknown"):
        yield "unknown rows may or may not be registered; they are never sent again by themselves; look the contacts up in RD Station"
    for path in result.rejected_paths:
        yield f"mend the rows in {Path(path).name} and import that file; exactly those events go"
    if result.states.get("not_sent") and result.stopped_by is None:
        yield "run the same command again to send the rest"
