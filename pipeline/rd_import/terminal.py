"""What a person sees on the terminal: preview, result and question, built as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rd_import import messages
from rd_import.catalogue import number
from rd_import.messages import say
from rd_import.preview import Cause, Preview
from rd_import.resolve import UnknownEvent
from rd_import.values import RunResult

CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))}
MOST_CAUSES = 12
REASONS = {"changed", "doubt", "held", "deferred", "sent"}
"""Why events stay behind, each a text of the preview."""


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
    yield say("preview.title", event_type=preview.event_type, destination=destination)
    yield from _file_lines(preview)
    if label is not None:
        yield f"  {say('preview.label', label=plain(label))}"
    yield ""
    yield from _sum_lines(preview)
    yield from _column_lines(preview)
    for fatal, title in ((True, "preview.fatal"), (False, "preview.left_out")):
        yield from _causes_lines([one for one in preview.problems if one.fatal is fatal], title)
    if preview.payloads:
        yield ""
        yield say("preview.payloads", count=len(preview.payloads))
        for payload in preview.payloads:
            yield "\n".join(f"  {plain(line)}" for line in payload.splitlines())


def _file_lines(preview: Preview) -> Iterator[str]:
    """What was found in each file, and what only the person can say."""
    for export in preview.exports:
        form = messages.form(export["format"])
        if export["blank_lines"]:
            form = say("preview.blank", count=export["blank_lines"], form=form)
        path = plain(export["path"])
        yield f"  {say('preview.file', count=export['rows'], path=path, form=form)}"
        for found in export["findings"]:
            yield f"    {plain(messages.finding(found))}"
        if export["not_data"]:
            yield f"    {say('preview.not_data', count=export['not_data'])}"
    findings = [found for export in preview.exports for found in export["findings"]]
    questions = [found for found in findings if found["confidence"] == "open"]
    if questions:
        yield ""
        yield say("preview.questions")
    for found in questions:
        yield f"  {plain(messages.question(found))}"


def _sum_lines(preview: Preview) -> Iterator[str]:
    """How much would go, why the rest would not, and what that costs."""
    yield from _count_lines(preview)
    if preview.already_accepted is None:
        yield f"  {say('preview.not_looked_up')}"
    elif preview.already_accepted:
        yield _amount("preview.already", preview.already_accepted)
    for reason, count in preview.reasons.items():
        if reason in REASONS:
            yield _amount(f"preview.{reason}", count)
    if preview.repeats:
        yield _amount("preview.repeats", preview.repeats)
    if preview.same_content:
        yield _amount("preview.same_content", preview.same_content)
    if preview.twins:
        yield _amount("preview.twins", preview.twins)
    if preview.past:
        yield _amount("preview.past", preview.past)
    elif not preview.dated:
        yield f"  {say('preview.undated')}"
    size, minutes = preview.bytes / 1000, preview.minutes
    yield _amount("preview.requests", preview.requests, size=size, minutes=minutes)
    if preview.one_each:
        yield f"  {say('preview.one_each')}"
    for legal_base, events in preview.legal_bases.items():
        yield _amount("preview.legal_base", events, legal_base=legal_base)
    yield f"  {say('preview.now')}"


def _count_lines(preview: Preview) -> Iterator[str]:
    """How many events of which type, and how many rows are left."""
    yield _amount("preview.events", preview.events, contacts=preview.contacts)
    if len(preview.event_types) > 1:
        for name, count in preview.event_types.items():
            yield _amount("preview.of_type", count, event_type=name)
    yield _amount("preview.invalid", preview.invalid_rows)
    for rule, count in preview.filtered.items():
        yield _amount("preview.filtered", count, rule=plain(rule))


def _amount(key: str, count: int, **facts: object) -> str:
    return f"  {number(count):>9} {say(key, count=count, **facts)}"


def _column_lines(preview: Preview) -> Iterator[str]:
    yield ""
    yield say("preview.columns")
    for field, column in preview.fields.items():
        how = messages.how(preview.how[field]) if field != column else ""
        fed = f"{field} = {plain(column)}" if field != column else field
        yield f"  {fed} ({how})" if how else f"  {fed}"
    for field, value in preview.constants.items():
        yield f"  {say('preview.constant', field=field, value=plain(value))}"
    for field in preview.derived:
        source = "preview.total_items" if field == "total_items" else "preview.product_id"
        yield f"  {say(source, field=field)}"
    for field, column in preview.proposed.items():
        flag = plain(messages.rename_flag(field, column))
        yield f"  {say('preview.proposed', field=field, column=plain(column), flag=flag)}"
    for column, values in preview.suggested.items():
        words = ", ".join(f"{plain(word)} = {event_type}" for word, event_type in values.items())
        flag = plain(messages.type_by_flag(column))
        yield f"  {say('preview.suggested', column=plain(column), words=words, flag=flag)}"
    if preview.unmatched:
        columns = plain(messages.listed(preview.unmatched, most=20))
        yield f"  {say('preview.unmatched', columns=columns)}"


def _causes_lines(causes: list[Cause], title: str) -> Iterator[str]:
    if causes:
        yield ""
        yield say(title)
    for cause in causes[:MOST_CAUSES]:
        yield from _cause_lines(cause)
    if len(causes) > MOST_CAUSES:
        yield f"  {say('preview.more_causes', count=len(causes) - MOST_CAUSES)}"


def _cause_lines(cause: Cause) -> Iterator[str]:
    what = plain(cause.message)
    if cause.column:
        what = say("preview.column", column=plain(cause.column), what=what)
    shown = ", ".join(f'"{plain(value)}"' for value in cause.values)
    yield f"  {say('preview.cause', count=cause.rows, what=what)}{f' ({shown})' if shown else ''}"
    yield f"    {say('preview.first', places=plain(', '.join(cause.places)))}"
    yield f"    {say('hint', hint=plain(cause.hint))}"


def _result_lines(result: RunResult) -> Iterator[str]:
    for state, rows in result.states.items():
        yield f"  {number(rows):>9} {state:<16} {messages.state(state)}"
    requests = say("result.requests", count=result.requests)
    yield _amount("result.rows", result.rows, requests=requests)
    yield ""
    yield say("result.audit", path=result.audit_path)
    for path in result.rejected_paths:
        yield say("result.rejected", path=path)
    for line in _next_steps(result):
        yield say("hint", hint=line)


def _next_steps(result: RunResult) -> Iterator[str]:
    run = result.run_id
    if result.stopped_by is not None and result.proof:
        yield say("result.stopped", proof=plain(result.proof))
    if result.stopped_by in {"account", "outage", "refused", "service", "person"}:
        yield say(f"result.{result.stopped_by}", run=run)
    if result.states.get("unknown"):
        yield say("result.unknown", run=run)
    for path in result.rejected_paths:
        yield say("result.mend", file=Path(path).name)
    if result.states.get("not_sent") and result.stopped_by is None:
        yield say("result.rest", run=run)
    elif result.states.get("deferred"):
        yield say("result.deferred", run=run)


def status_text(found: list[dict[str, Any]], *, ledger: str) -> str:
    """Write the runs of a ledger, the newest first, each with the command that goes on."""
    lines = [say("status.ledger", path=ledger)]
    for run in found:
        states = ", ".join(
            f"{number(rows)} {state}" for state, rows in (run["states"] or {}).items()
        )
        stand = say("status.running") if run["running"] else states or say("status.interrupted")
        lines.append(
            say(
                "status.run",
                run=run["run_id"],
                started=run["started_at"],
                event_type=run["event_type"],
                stand=stand,
            )
        )
        lines.append(f"  {say('result.audit', path=run['audit'])}")
        waiting = not run["running"] and (
            run["states"] is None
            or any(run["states"].get(state) for state in ("not_sent", "deferred"))
        )
        if waiting:
            lines.append(f"  {say('hint', hint='rd-import resume ' + run['run_id'])}")
        if run["states"] and run["states"].get("unknown"):
            lines.append(f"  {say('hint', hint='rd-import resolve ' + run['run_id'])}")
    return "\n".join(lines)


def unknown_event_text(event: UnknownEvent) -> str:
    """Write one unknown event with its contact, and what each decision means."""
    contact = event.email or say("resolve.no_contact")
    who = f"{plain(contact)}, {plain(event.identifier)}" if event.identifier else plain(contact)
    title = say(
        "resolve.event",
        event_type=event.event_type,
        row=event.row_number,
        path=plain(event.source_file),
        who=who,
    )
    texts = ("resolve.what", "resolve.resend", "resolve.left", "resolve.confirmed")
    return "\n".join(["", title, *(f"  {say(key)}" for key in texts)])
