"""The texts of the report, keyed as those of the screens."""

from collections.abc import Mapping
from typing import Final

REPORT: Final[Mapping[str, str | tuple[str, str]]] = {
    "report.title": "Import of {started:medium} UTC",
    "report.heading": "Import report",
    "report.skip": "Skip to the search",
    "report.all": (
        "The one row was received by {who}.",
        "All {count:n} rows were received by {who}.",
    ),
    "report.some": (
        "{good:n} of {count:n} rows was received by {who}.",
        "{good:n} of {count:n} rows were received by {who}.",
    ),
    "report.practice": "This was practice: a practice server answered, and nothing reached RD Station.",
    "report.rd_station": "RD Station",
    "report.practice_server": "the practice server",
    "report.none": "None of the {count:n} rows was sent or received.",
    "report.empty": "The file held no rows.",
    "report.doubt": (
        "Of {count:n} row nobody knows whether it arrived; see what to do about it below.",
        "Of {count:n} rows nobody knows whether they arrived; see what to do about them below.",
    ),
    "report.processing": (
        "Received means that RD Station gave each event an id. It does not report whether it processed them."
    ),
    "report.run": "Run",
    "report.type": "Event type",
    "report.account": "Account",
    "report.files": "Files",
    "report.file": ("{path}: {count:n} row", "{path}: {count:n} rows"),
    "report.time": "Time of sending (UTC)",
    "report.from_to": "{first:medium} to {last:medium}",
    "report.no_requests": "no request was made",
    "report.reconciliation": "Every row accounted for",
    "report.state": "State",
    "report.meaning": "Meaning",
    "report.rows": "Rows",
    "report.events": "Events",
    "report.sum": "Sum",
    "report.checks": "Checked sums",
    "report.check_rows": (
        "The rows of all states are {sum:n}; the files hold {count:n} row.",
        "The rows of all states are {sum:n}; the files hold {count:n} rows.",
    ),
    "report.check_uuids": (
        "RD Station gave {uuids:n} different ids for {count:n} event accepted in this run.",
        "RD Station gave {uuids:n} different ids for {count:n} events accepted in this run.",
    ),
    "report.check_requests": (
        "The accepted requests held {sum:n} events; the audit counts {count:n} accepted by them.",
        "The accepted requests held {sum:n} events; the audit counts {count:n} accepted by them.",
    ),
    "report.adds_up": "adds up",
    "report.differs": "does not add up: keep the ledger and the audit, and run rd-import ledger check",
    "report.causes": "Why rows were not received",
    "report.cause": "Cause",
    "report.fix": "What to do",
    "report.see_unknown": "decide about them",
    "report.see_rest": "send what is left",
    "report.first": "First rows",
    "report.column": "column {column}",
    "report.more_causes": (
        "{count:n} further cause is in the audit.",
        "{count:n} further causes are in the audit.",
    ),
    "report.rejected": "Rejected rows, to be mended and imported again:",
    "report.rejected_note": (
        "The file holds people's data and stands beside this page; it is not part of it. "
        "Exactly the mended events go."
    ),
    "report.unknown": "Rows whose answer never came",
    "report.unknown_what": (
        "These left this computer, and no usable answer came: they may be registered or not. "
        "They are never sent again by themselves, so that nobody gets two of them."
    ),
    "report.unknown_look": (
        "Look some of the contacts up in RD Station: is the event on their timeline? Their e-mails stand in these "
        "lines of your file; the command below shows them too."
    ),
    "report.unknown_decide": "Then decide, row by row or for all at once:",
    "report.unknown_resend": "not there: send once more",
    "report.unknown_confirmed": "there: close it",
    "report.unknown_left": "cannot be told: leave it",
    "report.unknown_closed": (
        "{count:n} of them was decided by a person already.",
        "{count:n} of them were decided by a person already.",
    ),
    "report.rest": "What is left to send",
    "report.rest_not_sent": (
        "{count:n} row was not sent; this sends it:",
        "{count:n} rows were not sent; this sends them:",
    ),
    "report.rest_deferred": (
        "{count:n} row waits for its contact's limit, until {when:medium} UTC at the earliest; then:",
        "{count:n} rows wait for their contacts' limit, until {when:medium} UTC at the earliest; then:",
    ),
    "report.rest_changed": (
        "{count:n} row was sent earlier with other content; if it is to go as it is now, import with:",
        "{count:n} rows were sent earlier with other content; if they are to go as they are now, import with:",
    ),
    "report.timeline": "Requests and limits",
    "report.timeline_text": (
        "{count:n} request, at most {most:n} in {span}; {limited:n} met a limit (429).",
        "{count:n} requests, at most {most:n} in {span}; {limited:n} met a limit (429).",
    ),
    "report.span_seconds": ("a second", "{count:n} seconds"),
    "report.span_minutes": ("a minute", "{count:n} minutes"),
    "report.span_hours": ("an hour", "{count:n} hours"),
    "report.time_column": "From",
    "report.requests": "Requests",
    "report.outcome_accepted": "accepted",
    "report.outcome_limited": "met a limit",
    "report.outcome_refused": "refused",
    "report.outcome_unknown": "no usable answer",
    "report.as_table": "The same as a table",
    "report.search": "Find a row",
    "report.search_label": "Order id, or row number",
    "report.search_button": "Find",
    "report.search_start": "Type an id or a row number.",
    "report.search_found": "{n} found.",
    "report.search_many": "More than {n} found; the first {n} are shown.",
    "report.search_none": "Nothing found.",
    "report.search_not_listed": (
        "Nothing found among the ids that this page holds. It may have been accepted, or not be in the file; "
        "the audit has every id."
    ),
    "report.search_all": "This page holds every id and every row number.",
    "report.search_some": (
        "This page holds every row number, and the ids of {count:n} row that was not accepted.",
        "This page holds every row number, and the ids of {count:n} rows that were not accepted.",
    ),
    "report.search_cut": (
        "This page holds the states of the first {rows:n} rows, and the ids of {count:n} of them; "
        "the audit has them all.",
        "This page holds the states of the first {rows:n} rows, and the ids of {count:n} of them; "
        "the audit has them all.",
    ),
    "report.row": "row {row}",
    "report.line": "line {line}",
    "report.contact": "contact",
    "report.by": "Written by rd-import from {audit}. Contacts appear only as keyed hashes.",
}
"""Key → what the report says."""
