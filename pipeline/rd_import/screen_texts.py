"""The texts of the screens, keyed: a sentence, or its forms for one and for many (`count` decides)."""

from collections.abc import Mapping
from typing import Final

Text = str | tuple[str, str]

SCREENS: Final[Mapping[str, Text]] = {
    # The catalogue, mapping files, one row explained
    "types.removed": "ended; its successor is {successor}",
    "types.required": "required",
    "types.with": "required with {fields}",
    "types.not_sent": "not sent",
    "types.example": "Example: {example}",
    "types.next": "the fields of one: rd-import types TYPE; an empty file to fill: rd-import template TYPE",
    "map.head": "How {path} becomes events. To use it: --map and this file's name.",
    "map.page": "docs/mapping.md shows the whole language.",
    "map.key": 'key = ["…"]: name the column of an id, if there is one; new and repeated events are told apart by it',
    "map.proposed": "may be meant; not certain",
    "map.required": "required, and nothing feeds it",
    "map.unmatched": "not used: {columns}",
    "map.optional": "{event_type} could also have: {fields}",
    "map.suggest": "Or let a column decide on the type, row by row: then leave out `type` above.",
    "map.written": "written: {path}",
    "map.kept": "written: {path}; for the next file like this one: --map {map}",
    "map.columns": "The columns of the file: {columns}",
    "map.no_such_column": "there is no column `{column}`; name one of the file's, or write =VALUE",
    "map.next": "to look at what it would send:\n{command}",
    "map.missing": "{fields}: required, and nothing feeds it; complete the file before you use it",
    "map.ask_missing": "No column feeds {field}, which is required. Its column, =VALUE, or Enter to leave it open: ",
    "map.ask_proposed": "May `{column}` feed {field}?",
    "map.ask_keep": "Keep these decisions in {path}, for the next file like this one?",
    "map.other_types": "Others, for which the file seems to lack something:",
    "map.ask_type": "Which event type? A number, or its name: ",
    "explain.row": "{place}: an event of the type {event_type}",
    "explain.from": "from {rule}",
    "explain.constant": "the same in every row",
    "explain.derived": "what is derived",
    "explain.empty": "empty in this row",
    "explain.body": "The event:",
    "explain.accepted": "RD Station accepted it: event_uuid {uuid}",
    "explain.doubt": "It left once, and no usable answer came: it may or may not be registered.",
    "explain.refused": "RD Station refused it: {message} ({column}, {code})",
    "explain.changed": "It was accepted earlier with other content: event_uuid {uuid}",
    "explain.known": "It was not sent yet.",
    "explain.not_looked_up": "Whether it was sent was not looked up: no ledger yet, or no account named.",
    "explain.not_sent": "It is not sent.",
    # The preview
    "forget.ask": (
        "Erase this person from the ledger, run folders, audits and rejected files that this ledger knows of? "
        "It cannot be undone. [y/N] "
    ),
    "forget.declined": "stopped; nothing is erased.",
    "forget.ledger": (
        "{count:n} line of the ledger named the person, who gets nothing any more",
        "{count:n} lines of the ledger named the person, who gets nothing any more",
    ),
    "forget.erased": ("{count:n} row erased: {place}", "{count:n} rows erased: {place}"),
    "forget.left": "not reached, so look there yourself:",
    "forget.rd_station": "RD Station itself: erase the contact there",
    "forget.export": "an export that was read: {place}",
    "forget.run_folder": "a run folder that is not on this machine or not whole: {place}",
    "forget.audit_gone": "an audit that was moved or deleted: {place}",
    "forget.audit_remote": "an audit in an object store: {place}",
    "forget.audit_unreadable": "an audit that cannot be read: {place}",
    "forget.other_ledger": (
        "an audit of another ledger, searched for the address alone, since its contacts are hashed with another "
        "secret: {place}"
    ),
    "forget.copies": "copies, backups, mapping files, suppression lists and a sandbox's store",
    "preview.title": "{event_type} to {destination}",
    "preview.practice": "the practice server ({url})",
    "preview.rd_station": "RD Station ({url}), account `{label}`",
    "preview.check": "RD Station (nothing is sent by `check`)",
    "preview.label": (
        "account `{label}`: the token does not tell whose it is, so be sure that it is of the account you mean"
    ),
    "preview.file": ("{path}: {count:n} row ({form})", "{path}: {count:n} rows ({form})"),
    "preview.blank": (
        "{form}, {count:n} blank line passed over",
        "{form}, {count:n} blank lines passed over",
    ),
    "preview.attention": "Know before you send",
    "preview.only_you": "only you can say, and nothing is sent before: {question}",
    "preview.events": (
        "event will be sent, to {contacts}",
        "events will be sent, to {contacts}",
    ),
    "preview.nothing": "there is nothing to send",
    "preview.contacts": ("{count:n} contact in this file", "{count:n} contacts in this file"),
    "preview.in_events": ("row, in {events}", "rows, in {events}"),
    "preview.of_events": ("{count:n} event", "{count:n} events"),
    "preview.invalid": (
        "row that will not go; why stands below",
        "rows that will not go; why stands below",
    ),
    "preview.rows": ("row in all", "rows in all"),
    "preview.not_data": (
        "row holds no data (totals, the header once more)",
        "rows hold no data (totals, the header once more)",
    ),
    "preview.not_looked_up": (
        "it was not looked up which events were sent earlier (no ledger yet, or no account named)"
    ),
    "preview.of_type": "of them {event_type}",
    "preview.filtered": (
        "row left out by the rule: {rule}",
        "rows left out by the rule: {rule}",
    ),
    "preview.already": (
        "of the events was sent earlier and will not be sent again",
        "of the events were sent earlier and will not be sent again",
    ),
    "preview.changed": (
        "of the events was sent with other content and will not be sent again",
        "of the events were sent with other content and will not be sent again",
    ),
    "preview.doubt": (
        "of the events may be registered already and will not be sent again",
        "of the events may be registered already and will not be sent again",
    ),
    "preview.forgotten": (
        "of the events is of a person who was erased and will not be sent",
        "of the events are of people who were erased and will not be sent",
    ),
    "preview.held": (
        "of the events was closed by a person and will not be sent",
        "of the events were closed by a person and will not be sent",
    ),
    "preview.deferred": (
        "of the events waits for its contact's limit",
        "of the events wait for their contact's limit",
    ),
    "preview.sent": (
        "of the events is being sent by another run right now",
        "of the events are being sent by another run right now",
    ),
    "preview.repeats": (
        "{count:n} of the events has the identity of an event of another file: new, or the same once more?",
        "{count:n} of the events have the identity of events of another file: new, or the same once more?",
    ),
    "preview.past": (
        "{count:n} event is more than {days:1n} days old; say --past send or --past skip",
        "{count:n} events are more than {days:1n} days old; say --past send or --past skip",
    ),
    "preview.past_send": (
        "{count:n} event is more than {days:1n} days old and goes all the same (--past send)",
        "{count:n} events are more than {days:1n} days old and go all the same (--past send)",
    ),
    "preview.past_skip": (
        "{count:n} event is more than {days:1n} days old and is left out (--past skip)",
        "{count:n} events are more than {days:1n} days old and are left out (--past skip)",
    ),
    "preview.undated": "no date is mapped, so how old the events are is unknown",
    "preview.some_undated": (
        "{count:n} event has no date, or none that can be read: how old it is, is unknown",
        "{count:n} events have no date, or none that can be read: how old they are is unknown",
    ),
    "preview.consent_granted": (
        "{count:n} event switches consent ON: legal basis {category}, {status}",
        "{count:n} events switch consent ON: legal basis {category}, {status}",
    ),
    "preview.consent_declined": (
        "{count:n} event switches consent OFF: legal basis {category}, {status}",
        "{count:n} events switch consent OFF: legal basis {category}, {status}",
    ),
    "preview.consent_other": (
        "{count:n} event sets the legal basis {category} to {status}",
        "{count:n} events set the legal basis {category} to {status}",
    ),
    "preview.crowded": (
        "{count:n} contact has more than {limit:n} events here; RD Station may take only so many a day, "
        "and the rest waits",
        "{count:n} contacts have more than {limit:n} events here; RD Station may take only so many a day, "
        "and the rest waits",
    ),
    "preview.same_content": (
        "{count:n} event has the very content of one sent before under another key "
        "(another `key`, `source` or date?)",
        "{count:n} events have the very content of others sent before under another key "
        "(another `key`, `source` or date?)",
    ),
    "preview.twins": (
        "{count:n} event has the very content of another one in this input",
        "{count:n} events have the very content of others in this input",
    ),
    "preview.requests": (
        "request ({size:1n} kB), {time} at the account's limit",
        "requests ({size:1n} kB), {time} at the account's limit",
    ),
    "time.seconds": "less than a minute",
    "time.minutes": ("about {count:n} minute", "about {count:n} minutes"),
    "time.hours": ("about {count:1n} hour", "about {count:1n} hours"),
    "preview.one_each": "with an API key each event is a request of its own",
    "preview.now": (
        "RD Station dates every event on arrival: automations fire now, whatever the date in the file"
    ),
    "preview.files": "What was found in the files",
    "preview.recognised": "recognised as: {name} (--rename and --map overrule)",
    "preview.alike": (
        "the header fits {count:n} preset ({names}): --map takes it",
        "the header fits {count:n} presets alike ({names}), so none was used: --map takes one of them",
    ),
    "preview.same": "under their own names: {names}",
    "preview.by_preset": "known of this platform:",
    "preview.by_alias": "known under other names:",
    "preview.by_lookup": "looked up:",
    "preview.custom": "passed through as custom fields: {columns}",
    "preview.columns": "Columns",
    "preview.constant": '{field} = "{value}" in every row',
    "preview.total_items": "{field} is derived (sum of quantities)",
    "preview.product_id": "{field} is derived (the sku, else the title)",
    "preview.proposed": "{field} may be {column}: not certain, so not used; {flag} says so",
    "preview.suggested": "{column} may tell the event types row by row ({words}); {flag} says so",
    "preview.unmatched": "not used: {columns}",
    "preview.consent_unused": (
        "may say who allowed to be contacted, and is not used, so nobody is left out and no consent changes: {columns}"
    ),
    "preview.fatal": "Why rows will not go",
    "preview.left_out": "Left out of events that go",
    "preview.remarks": "Worth a look; it goes as it is",
    "preview.payloads": ("The first event", "The first {count:n} events"),
    "preview.no_feed": "no column feeds it: --rename {field}=COLUMN (or --set {field}=VALUE)",
    "preview.cause_alone": ("{count:n} row: {what}", "{count:n} rows: {what}"),
    "preview.cause": ("{count:n} row, {what}", "{count:n} rows, {what}"),
    "preview.column": "column `{column}`: {what}",
    "preview.first": "first: {places}",
    "preview.places": "at {places}",
    "preview.more_causes": (
        "and {count:n} more cause; the audit names every row",
        "and {count:n} more causes; the audit names every row",
    ),
    "hint": "hint: {hint}",
    "help.examples": "Examples:",
    # The question, and what is said around it
    "ask.send": (
        "Send {count:n} event to {destination}? This cannot be undone. [y/N] ",
        "Send {count:n} events to {destination}? This cannot be undone. [y/N] ",
    ),
    "ask.number": (
        "Send {count:n} event to {contacts:n} contacts at {destination}? This cannot be undone.\n"
        "Type the number of contacts ({contacts}) to send; anything else stops: ",
        "Send {count:n} events to {contacts:n} contacts at {destination}? This cannot be undone.\n"
        "Type the number of contacts ({contacts}) to send; anything else stops: ",
    ),
    "ask.no_such_type": (
        "`{answer}` is none of them; type the number in front of it, or Enter to stop",
        "`{answer}` is none of them; type a number from 1 to {count:n}, or Enter to stop",
    ),
    "ask.yes_or_no": "{question} [y/N] ",
    "say.to_send": "to send it:\n{command}",
    "say.run_folder": "run folder: {path}",
    "say.no_rows": "the file has a header and no rows; there is nothing to send.",
    "say.usage_hint": "rd-import --help lists the commands, {command} --help its options",
    "say.practice": "this is a practice server, so it is sent all the same",
    "say.going_on": "going on with run {run}, which was interrupted",
    "say.new_ledger": "a new ledger, the memory of what was sent, begins at {path}: it knows of nothing sent before",
    "say.new_ledger_hint": "the first time this is right; if you sent from elsewhere: rd-import ledger add AUDIT…",
    "say.stopping": "stopping after the requests in flight; once more to stop at once",
    "say.stopped_at_once": "stopped at once; the ledger holds what was sent.",
    "say.stopped": "stopped; nothing is sent.",
    "say.internal": "an internal error ({kind}); the ledger holds what was sent.",
    "say.internal_hint": "add -v for its place in the code",
    "progress.line": (
        "{done:n} of {count:n} event, {rate:n} requests/min",
        "{done:n} of {count:n} events, {rate:n} requests/min",
    ),
    "progress.waits": "trying again at {time}: {why}",
    "progress.rest": "{line}, {time} left",
    "progress.accepted": ("{count:n} accepted", "{count:n} accepted"),
    "progress.refused": ("{count:n} refused", "{count:n} refused"),
    "progress.unknown": (
        "{count:n} request without an answer",
        "{count:n} requests without an answer",
    ),
    # The closing screen
    "result.rows": ("row in all, {requests}", "rows in all, {requests}"),
    "result.decided": (
        "of the unknown was decided about by a person",
        "of the unknown were decided about by a person",
    ),
    "result.requests": ("{count:n} request", "{count:n} requests"),
    "result.cause": (
        "{count:n} row {state}: {what} (first: {place})",
        "{count:n} rows {state}: {what} (first: {place})",
    ),
    "result.audit": "audit: {path}",
    "result.rejected": "rejected rows: {path}",
    "result.report": "report: {path}",
    "result.stopped": "the run stopped: {proof}",
    "result.account": (
        "check that the token is valid and that plan and permission include this event, then:\nrd-import resume {run}"
    ),
    "result.token": (
        "RD Station does not know the token, or it has ended: copy it into RD_IMPORT_TOKEN again, or log in with "
        "rd-import login; then:\nrd-import resume {run}"
    ),
    "result.outage": "RD Station gave no usable answer; when it is back:\nrd-import resume {run}",
    "result.no_connection": (
        "nothing left this machine: look at its network, and at the address in --base-url or RD_IMPORT_BASE_URL, "
        "then:\nrd-import resume {run}"
    ),
    "result.no_tls": (
        "nothing left this machine: look at its clock, and at what replaces certificates on the way "
        "(a company's proxy, an antivirus), then:\nrd-import resume {run}"
    ),
    "result.no_proxy": (
        "nothing left this machine: look at the proxy that HTTPS_PROXY names, then:\nrd-import resume {run}"
    ),
    "result.question_by": (
        "answer what is asked above; this answer leaves out what might go by mistake:\n{command}"
    ),
    "result.question": "answer what is asked above, with the option that it names, in the same command",
    "result.refused": (
        "RD Station refused event after event; see the report, mend the cause, then:\nrd-import resume {run}"
    ),
    "result.service": (
        "the address or request was not accepted; check --base-url, then:\nrd-import resume {run}"
    ),
    "result.person": "stopped as asked; to go on:\nrd-import resume {run}",
    "result.unknown": (
        "unknown rows may or may not be registered, and are never sent again by themselves; "
        "look the contacts up in RD Station, then:\nrd-import resolve {run}"
    ),
    "result.mend": "mend the rows in {file} and import that file; exactly those events go",
    "result.mend_by": "mend the rows in {file}, then send exactly those events:\n{command}",
    "result.practice": "Practice: nothing of this reached RD Station.",
    "result.practised": "to send it to RD Station, log in (rd-import login), then:\n{command}",
    "result.rest": "to send the rest:\nrd-import resume {run}",
    "result.deferred": "the rest may go after `not_before` in the audit:\nrd-import resume {run}",
    # status
    "status.ledger": "ledger: {path}",
    "status.no_ledger": "there is no ledger at {path} yet: nothing was sent from here.",
    "status.empty": "nothing was sent from here yet",
    "status.run": "{run}  {started:local-short}  {event_type}",
    "status.account": "{run}  {started:local-short}  {event_type}  {account}",
    "status.running": "is being sent right now",
    "status.interrupted": (
        "was interrupted: what left is recorded, and nothing of it goes twice; to go on:\nrd-import resume {run}"
    ),
    "status.rest": (
        "{count:n} row was not sent; to send it:\nrd-import resume {run}",
        "{count:n} rows were not sent; to send them:\nrd-import resume {run}",
    ),
    "status.deferred": (
        "{count:n} row waits for its contact's limit; later:\nrd-import resume {run}",
        "{count:n} rows wait for their contacts' limit; later:\nrd-import resume {run}",
    ),
    "status.unknown": (
        "{count:n} row may be registered or not, for no usable answer came; look the contact up in RD Station, "
        "then:\nrd-import resolve {run}",
        "{count:n} rows may be registered or not, for no usable answer came; look the contacts up in RD Station, "
        "then:\nrd-import resolve {run}",
    ),
    # resolve
    "resolve.intro": (
        "{count:n} event left this machine, and no usable answer came: it may be registered or not. "
        "Look its contact up in RD Station: is the event on the timeline?",
        "{count:n} events left this machine, and no usable answer came: each may be registered or not. "
        "Look the contacts up in RD Station: is the event on the timeline?",
    ),
    "resolve.event": "{number:n} of {count:n}: row {row} of {path}: {who}",
    "resolve.left_at": "{event_type}; it left on {when:local-medium}, and RD Station would show it at that time",
    "resolve.no_contact": "its contact is no longer kept here",
    "resolve.resend": (
        "r  not there: send it once more; if it was registered after all, the contact has it twice "
        "and automations fire twice"
    ),
    "resolve.confirmed": "c  it is there: confirmed, and no import sends it again",
    "resolve.left": "l  cannot be told: leave it unknown, and no import sends it again",
    "resolve.ask": "r, c, l, or Enter to skip: ",
    "resolve.ask_again": "`{answer}` is none of them",
    "resolve.why": "why? ",
    "resolve.looked": "looked at on the terminal",
    "resolve.refused": "row {row}: {why}; left as it is",
    "resolve.done": ("{count:n} decided", "{count:n} decided"),
    "resolve.bodies_gone": (
        "what they hold is no longer kept here: import the same file again ({files}), and they go once"
    ),
    # ledger
    "ledger.taken": ("{path}: {count:n} key taken over", "{path}: {count:n} keys taken over"),
    "ledger.differences": ("{count:n} difference", "{count:n} differences"),
    "ledger.whole": "the ledger is whole, and the audits agree with it",
    "check.damaged": "the file is damaged: {what}",
    "check.not_recorded": "not recorded",
    "check.held": "event {key}… is held by request {request}, which is {state}",
    "check.twice": "event {key}… stands in the ledger more than once",
    "check.without_keys": (
        "request {request} is marked as sent without {count:n} of its events",
        "request {request} is marked as sent without {count:n} of its events",
    ),
    "check.no_account": "{audit}: the ledger does not know the account {scope}",
    "check.not_known": "{audit}: event {key}… was accepted as {uuid}, which the ledger does not know",
    "check.other_uuid": "{audit}: event {key}… has another uuid in the ledger",
    "check.no_doubt": "{audit}: event {key}… was left in doubt, which the ledger does not know",
    "check.next": (
        "keep the ledger and the audits as they are; what audits know and the ledger does not is taken over by: "
        "rd-import ledger add AUDIT…"
    ),
    # probe
    "probe.ask": "In RD Station, does the contact {email} show the conversion “{name}” (wait a minute)?",
    "probe.accepted_whole": (
        "the batch with a bad event was accepted whole: this account does not check e-mails."
    ),
    "probe.partial": "a refused batch may accept some of its events: each event will go alone",
    "probe.not_partial": "a refused batch accepts none of its events",
    "probe.in_batch": "e-commerce events go in batches",
    "probe.not_in_batch": "e-commerce events were refused in a batch (plan, product, or route)",
    # login
    "login.open": "Open this address in the browser, and allow the app there:\n\n  {address}\n",
    "login.waiting": "waiting for the browser to come back to {callback} (Ctrl-C stops)",
    "login.paste": "Paste the address that the browser ended at, or the code in it: ",
    "login.secret": "Client secret of the app (it is not shown): ",
    "login.close": "rd-import is allowed. You can close this page and go back to the terminal.",
    "login.not_ours": "This address does not belong to the login that is under way.",
    "login.done": "logged in as account `{label}`; tokens are kept in {place}",
    "login.keyring": "this system's keyring",
    "login.in_file": (
        "this machine has no keyring, so the tokens stand in a file that only you can read: {path}"
    ),
    "login.out": "logged out of account `{label}` on this machine",
    "login.out_note": "the app stays allowed in RD Station until it is taken out there",
    "login.nobody": "nobody was logged in as account `{label}`",
    # sandbox
    "sandbox.listens": (
        "the sandbox listens (Ctrl-C ends it): put these two lines into another terminal, and import there; "
        "what arrives is shown at {url}/"
    ),
}
"""Key → what a screen says."""

PROOFS: Final = (
    "{proof}, but this account accepts bodies in part",
    "{proof}; another content of the same key is in doubt",
    "no byte asked for: {why}",
    "{why} after {bytes} bytes of the body were asked for",
    "200 with {uuids} of {events} uuids",
    "200 whose body is not the JSON that the API promises",
    "no answer in time",
    "no connection in time",
    "the TLS connection could not be trusted",
    "the proxy refused",
    "the connection failed or broke",
    "the answer broke off",
    "the answer stopped",
    "the machine slept before the request began",
    "its process ended before the answer",
    "no answer before the run was stopped",
    "an earlier request got no usable answer",
    "accepted by an earlier request",
    "its key was accepted with other content",
    "the contact has had its share of events",
    "run {run} is sending it",
    "--repeats skip: another file brought the same event",
    "--past skip: older than {date} UTC",
    "a person stopped the run",
    "the run ended before its turn",
    "RD Station refuses event after event",
    "{code} before sending",
)
"""Why a row is in its state, as the audit holds it in English for every reader; shown in the person's language."""
