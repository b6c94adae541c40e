"""Every text that a person reads, keyed. Facts go in by name; values are cut and shown in quotes or backticks."""

import functools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, cast

from rd_import.catalogue import fill, number, translate, translate_many
from rd_import.report_texts import REPORT
from rd_import.screen_texts import PROOFS, SCREENS, Text

ERRORS: Final[Mapping[str, tuple[Text, str]]] = {
    "no_exports": (
        "no file was named.",
        "name one: rd-import orders.csv --type ECOMMERCE_ORDER_PLACED",
    ),
    "no_such_command": (
        "there is neither a command nor a file `{given}`.",
        "did you mean this? rd-import {near}",
    ),
    "no_such_file": (
        "there is no file `{path}`.",
        "{meant}",
    ),
    "empty_folder": (
        "the folder `{path}` holds no file to import ({suffixes}).",
        "name the file itself",
    ),
    "file_of_zero_bytes": (
        "`{path}` is empty (0 bytes): the export did not finish or was cut off.",
        "export it again",
    ),
    "cannot_open": (
        "`{path}` cannot be read: {reason}.",
        "check the file's permissions and that the disk is there",
    ),
    "not_csv_or_parquet": (
        "`{path}` is {kind}, not CSV or Parquet.",
        "open it and save it as CSV or .xlsx, or export it as CSV, first",
    ),
    "binary_file": (
        "`{path}` is no text: it holds NUL bytes.",
        "export it as CSV or Parquet; if it is text, name its encoding: --encoding utf-16-le",
    ),
    "not_this_encoding": (
        "`{path}`, line {line}: byte {byte} is not {encoding} text.",
        "name the encoding; Brazilian and Spanish exports are often --encoding cp1252",
    ),
    "unclear_delimiter": (
        "`{path}` can be cut by {candidates} alike ({readings}); nothing was sent.",
        "say which: --delimiter ';'",
    ),
    "open_questions": ("{questions_listed}; nothing was sent.", "{answers}"),
    "needs_extra": (
        "`{what}` needs a part of rd-import that is not installed.",
        "pip install 'rd-import[{extra}]'",
    ),
    "too_many_rows_of_one": (
        "more than {most} rows have the same key, and so would be one event: that is no order.",
        "name the column that tells orders apart: --rename identifier=COLUMN, or --key COLUMN",
    ),
    "copy_too_large": (
        "`{path}` is larger than {most} GB: that is no export.",
        "split it, and import the parts one after the other",
    ),
    "no_room": (
        "`{path}` must be copied to `{folder}` before it is read; {free} MB are free there, and a copy must leave "
        "{kept} MB.",
        "free some, or name a folder on a larger disk: TMPDIR=/large/disk",
    ),
    "cannot_copy": (
        "`{path}` cannot be copied to `{folder}` before it is read: {reason}.",
        "name a folder with room that you can write to: TMPDIR=/large/disk",
    ),
    "second_file_too_large": (
        "`{path}` holds more than {most} MB of text; a second file is kept in memory as a whole.",
        "leave in it only the rows and columns that are looked up",
    ),
    "bomb": (
        "`{path}` unpacks to more than {ratio} times its size ({packed} bytes): that is no export.",
        "unpack it yourself if you trust it, and name the unpacked file",
    ),
    "too_many_columns": (
        "`{path}` has {columns:n} columns, more than {most:n}: that is no export.",
        "keep the columns that the events need",
    ),
    "header_too_long": (
        "`{path}`: no line ends within the first {most:n} bytes, so there is no header to read.",
        "a header is one line with the columns' names; export it as CSV again",
    ),
    "hardly_a_row": (
        "`{path}`, line {line}: {unreadable:n} of {rows:n} rows cannot be read.",
        "check that the header belongs to these rows, and name the delimiter if need be: --delimiter ';'",
    ),
    "open_quotes": (
        "`{path}`, line {line}: quotes are opened and never closed, again and again.",
        "export it again with a program that doubles the quotes inside cells",
    ),
    "too_many_sheet_rows": (
        "`{path}` claims more than {most:n} rows on a sheet, which no workbook can hold.",
        "save it as CSV",
    ),
    "cell_too_long": (
        "`{path}`: a cell is longer than {most:n} bytes.",
        "shorten it; an event holds far less",
    ),
    "too_many_strings": (
        "`{path}` holds more than {most:n} different texts, too many for a workbook.",
        "save it as CSV, which is read in little memory",
    ),
    "too_many_elements": (
        "`{path}` has a sheet with more than {most} elements and no row among them: that is no export.",
        "save it as CSV, which is read in little memory",
    ),
    "workbook_too_large": (
        "`{path}` takes more than {most} MB of memory to read as a workbook.",
        "save it as CSV, which is read in little memory",
    ),
    "damaged_archive": (
        "`{path}` is no whole {kind} file: {reason}.",
        "copy or export it again; if it is an Excel workbook, save it as CSV",
    ),
    "encrypted": ("`{path}` is protected by a password.", "save it without a password"),
    "empty_archive": (
        "`{path}` holds no file to import ({suffixes}), or far too many.",
        "unpack it and name the file itself",
    ),
    "rows_in_one_cell": (
        "`{path}` holds each row in one cell, such as `{first}`: the whole row stands in quotes, as a spreadsheet "
        "saves a file that it opened as one column.",
        "export it again; or take the outer quotes off each line, and halve the doubled ones",
    ),
    "no_header": (
        "`{path}` has no header: its first line names no column.",
        "add a line with the columns' names",
    ),
    "broken_parquet": (
        "`{path}` is no whole Parquet file: {reason}",
        "export it again; the file was cut off or damaged",
    ),
    "unknown_encoding": ("there is no encoding `{value}`.", "try utf-8, cp1252, latin-1 or utf-16"),
    "bad_delimiter": ("a delimiter is one character, not `{value}`.", "--delimiter ';'"),
    "bad_pair": ("`{option} {value}` is not of the form {form}.", "{example}"),
    "bad_threshold": (
        "`{value}` is neither a share (`10%`) nor a number of rows (`200`).",
        "--max-invalid 10%",
    ),
    "bad_max_body": (
        "a body of {value} bytes is not possible.",
        "--max-body takes 1000 to {limit}",
    ),
    "bad_timezone": ("there is no time zone `{value}`.", "use a name such as America/Sao_Paulo"),
    "no_type": (
        "no event type was named.",
        "add --type; what each type is: rd-import types",
    ),
    "no_type_of_preset": (
        "no event type was named; this is an export of the kind {preset}, which can feed {types}.",
        "add --type with one of them (rd-import types says what each is){or_type_by}",
    ),
    "unknown_type": ("there is no event type `{name}`.", "{meant}"),
    "removed_type": (
        "RD Station stopped taking {name} on {until}; its successor is {successor} ({how}).",
        "{command}",
    ),
    "no_such_column": (
        "{path} has no column `{column}`, which is to feed `{field}`; it has {columns}.",
        "use the column's name as it stands in the header",
    ),
    "mapping_unreadable": (
        "the mapping file `{path}` cannot be read: {reason}.",
        "name a mapping file, or one of the presets: rd-import map FILE --type TYPE writes one",
    ),
    "mapping_no_toml": (
        "{path}:{line}: this is no TOML: {reason}.",
        'write field = "Column"; texts stand in quotes',
    ),
    "mapping_unknown_key": (
        "{path}:{line}: there is no key `{key}` in a mapping file.",
        "{fields_hint}",
    ),
    "mapping_key_missing": (
        "{path}:{line}: `{key}` lacks the key `{missing}`.",
        "add it; docs/mapping.md shows the whole language",
    ),
    "mapping_wrong_kind": (
        "{path}:{line}: `{key}` is {given}, which is no {wanted_words}.",
        "docs/mapping.md shows how it is written",
    ),
    "mapping_no_option": (
        "{path}:{line}: `{key}` cannot be `{given}`.",
        "use one of: {options}",
    ),
    "mapping_no_type": (
        "{path}:{line}: `{key}`: there is no event type `{given}`.",
        "{fields_hint}",
    ),
    "mapping_two_types": (
        "{path}:{line}: the mapping says `type` and [type_by].",
        "leave one of them out",
    ),
    "mapping_one_origin": (
        "{path}:{line}: `{key}` must say where its text is from, once; it says {said_words}.",
        "use one of column, value, first_of, join, json",
    ),
    "mapping_top_only": (
        "{path}:{line}: `{key}` holds for the whole field, not for a part of it.",
        "put it beside first_of or join",
    ),
    "mapping_bad_pattern": (
        "{path}:{line}: `{key}` is no pattern that takes one part out: {reason}.",
        r"write one group in parentheses, in single quotes: '\(([0-9]+)\)$'",
    ),
    "type_twice": (
        "--type {given} contradicts what else tells the type: {said}.",
        "leave one of them out",
    ),
    "types_do_not_mix": (
        "{types} cannot come from one file: the rows of some form one event, each row of others is one.",
        "import the file once for each kind, with a [[filter]]",
    ),
    "no_suggestion": (
        "{path}: nothing is known of the column `{column}` that tells event types{known_words}.",
        "write a mapping file with [type_by]: rd-import map FILE",
    ),
    "files_differ": (
        "{files} are exports of different kinds.",
        "import them one by one",
    ),
    "no_common_column": (
        "`{path}` ({columns}) and {export} have no column in common.",
        "say in a mapping file which belong together: [[lookup]] with match = {{ THEIRS = OURS }}",
    ),
    "no_such_field": ("{event_type} has no field `{field}`.", "{fields_hint}"),
    "legal_base_not_taken": (
        "{event_type} does not take `{field}`: RD Station accepts only the legal basis `communications` on it.",
        "take the column out of the file; a consent that cannot be sent is not left out in silence",
    ),
    "missing_columns": (
        "{path} has no column for {missing_listed}, which {event_type} requires; it has {columns_listed}.",
        "{fixes}; or be asked for each, and keep the answers:\n  rd-import map {file} --type {event_type}",
    ),
    "several_lists": (
        "items can come from one nested column, not from {columns}.",
        "rename the parts of one only",
    ),
    "bad_base_url": ("`{url}` is no web address.", "--base-url https://api.rd.services"),
    "plain_http": (
        "`{url}` is plain http: the token would travel readable.",
        "use https; plain http is for this machine only (127.0.0.1)",
    ),
    "no_credentials": (
        "no RD Station credentials: nobody logged in, and `RD_IMPORT_TOKEN` is not set.",
        "rd-import login, or set it to the account's access token; to practise without an account: add --sandbox",
    ),
    "account_refused": (
        "RD Station refused the account: {proof}. {message}",
        "check that the token is valid and that the plan and product include this event; what was accepted is recorded",
    ),
    "needs_yes": (
        "there is no terminal to ask on before sending.",
        "look at `rd-import check` first, then add --yes",
    ),
    "too_few_rows": (
        (
            "{rows:n} row was read, fewer than the {least:n} that --min-rows asks for; nothing was sent.",
            "{rows:n} rows were read, fewer than the {least:n} that --min-rows asks for; nothing was sent.",
        ),
        "check the export",
    ),
    "too_many_invalid": (
        (
            "{invalid:n} of {rows:n} rows is invalid, more than {limit}; nothing was sent.",
            "{invalid:n} of {rows:n} rows are invalid, more than {limit}; nothing was sent.",
        ),
        "mend the causes above, or allow it: --max-invalid 100%",
    ),
    "past_events": (
        (
            "{events:n} event is more than {days:1n} days old; RD Station would date it now, and automations fire.",
            "{events:n} events are more than {days:1n} days old; RD Station would date them now, and automations fire.",
        ),
        "say what is meant: --past send, or --past skip to leave them out",
    ),
    "repeated_events": (
        (
            "{events:n} event has the identity of an event of another file; "
            "nothing tells new from repeated {event_type}.",
            "{events:n} events have the identity of events of another file; "
            "nothing tells new from repeated {event_type}.",
        ),
        "say what is meant: --repeats skip or --repeats send; better, name the columns of an id: --key COLUMN",
    ),
    "no_such_row": (
        "there is no row {row}; the file has {rows} rows.",
        "count data rows from 1, the header not counted; the audit names them as row_number",
    ),
    "ended_type": (
        "RD Station no longer takes {name}, so there is nothing to fill in.",
        "rd-import template {successor}",
    ),
    "mapping_exists": (
        "`{path}` exists already.",
        "name another place: --out FILE.toml",
    ),
    "cannot_write_mapping": (
        "the mapping file `{path}` cannot be written: {reason}.",
        "name another place: --out FILE.toml",
    ),
    "no_such_key": (
        "{path} has no column `{column}`, which --key names; it has {columns}.",
        "use the column's name as it stands in the header",
    ),
    "ledger_replaced": (
        "the ledger `{path}` was moved or replaced while this run was sending; the run stopped.",
        "put the earlier one back, or rebuild it: rd-import ledger add AUDIT…; then run the same command again",
    ),
    "run_folder_lost": (
        "the run folder `{path}` is gone or not whole.",
        "run the import again with the same file",
    ),
    "token_store_unreadable": (
        "the token store `{path}` cannot be read.",
        "authorise again and set RD_IMPORT_REFRESH_TOKEN",
    ),
    "token_ended": (
        "RD Station says that the access token has ended, and there is nothing to renew it with.",
        "set RD_IMPORT_CLIENT_ID, RD_IMPORT_CLIENT_SECRET and RD_IMPORT_REFRESH_TOKEN, or a new RD_IMPORT_TOKEN",
    ),
    "authorise_again": (
        "RD Station refused to renew the token (HTTP {status}).",
        "a person must authorise the app again",
    ),
    "no_new_token": (
        "RD Station gave no new access token ({reason}).",
        "run the same command again in a while",
    ),
    "ledger_not_named": (
        "in a container or CI job the ledger must be named: without it a later run would send everything again.",
        "name one on a disk that stays: --ledger PATH, or RD_IMPORT_LEDGER",
    ),
    "login_app": (
        "which app logs in? {missing} is not set.",
        "create an app in RD Station's app publisher with the callback address {callback}, "
        "then set RD_IMPORT_CLIENT_ID and RD_IMPORT_CLIENT_SECRET to its own",
    ),
    "login_no_code": ("no code was pasted.", "copy the code, or the whole address that holds it"),
    "login_other_state": (
        "that answer belongs to another login (its `state` differs).",
        "start again: rd-import login; never paste an address that somebody sent to you",
    ),
    "login_declined": (
        "RD Station was told not to allow it ({reason}).",
        "rd-import login asks again",
    ),
    "login_nobody": (
        "nobody came back from the browser within five minutes.",
        "start again: rd-import login; on a machine without a browser add --paste",
    ),
    "login_refused": (
        "RD Station did not take the code (HTTP {status}): it works once and only for a while.",
        "start again: rd-import login; check client id and secret if it happens again",
    ),
    "port_of_login_taken": (
        "port {port}, where the browser comes back to, is taken: {reason}.",
        "end the program that holds it, or add --paste",
    ),
    "account_mismatch": (
        "these credentials belong to `{bound}` in this ledger, not to `{scope}`.",
        "use the account's own label (--account), or its own credentials; a mix would hide what was sent before",
    ),
    "not_an_audit": (
        "`{path}` is no audit of rd-import.",
        "name a file that ends in .audit.parquet, or one beside it in .open",
    ),
    "no_such_run": (
        "there is no run `{run}` in the ledger `{path}`.",
        "rd-import status lists the runs",
    ),
    "nothing_to_resume": (
        "no run in the ledger `{path}` has anything left to send.",
        "rd-import status lists the runs",
    ),
    "bodies_gone": (
        "what run `{run}` would send is no longer on disk.",
        "run the import again with the same file",
    ),
    "other_account": (
        "run `{run}` belongs to `{scope}`, not to the account in use.",
        "set that account's credentials, --base-url and --account",
    ),
    "is_running": (
        "run `{run}` is being sent right now by another process.",
        "wait for it to end; rd-import status shows it",
    ),
    "nothing_to_resolve": (
        "run `{run}` has no such rows to decide about.",
        "the audit lists its unknown rows; --only takes ids or row numbers, one a line",
    ),
    "resolve_interrupted": (
        "run `{run}` was interrupted, so it is not settled yet which of its rows are in doubt.",
        "go on with it first: rd-import resume {run}",
    ),
    "resolve_how": (
        "a decision is missing.",
        "add one of --resend, --left, --confirmed, --withdraw, with --why TEXT",
    ),
    "bad_keep_days": (
        "`RD_IMPORT_KEEP_DAYS` is `{value}`, and not a number of days from 1 to {most}.",
        "set it to 30, or take it away",
    ),
    "mapping_too_long": (
        "{path} is longer than {most} bytes: that is no mapping.",
        "name the mapping file: --map FILE.toml",
    ),
    "mapping_too_deep": (
        "{path} nests tables too deeply: that is no mapping.",
        "name the mapping file: --map FILE.toml",
    ),
    "no_email": ("`{value}` is no e-mail address.", "rd-import forget ana@example.com"),
    "forget_while_running": (
        "run {run} is sending at this moment.",
        "wait until it has ended; then nobody is left out",
    ),
    "no_ledger": (
        "there is no ledger at `{path}`.",
        "name it with --ledger, or rebuild it: rd-import ledger add AUDIT…",
    ),
    "no_answer_to_probe": (
        "RD Station gave no usable answer ({reason}).",
        "try the probe again later",
    ),
    "unpaced": (
        "--rate 0 (unpaced) is for this machine only; RD Station counts every request.",
        "leave --rate out",
    ),
    "only_conversions": (
        "with an API key only CONVERSION can be sent, not {event_type}.",
        "set RD_IMPORT_TOKEN for the other types",
    ),
    "no_such_scenario": (
        "there is no scenario `{name}`.",
        "name one of: {known}, or the path of a TOML file",
    ),
    "bad_scenario": ("{reason}", "rd-import sandbox --scenario takes a name or a TOML file"),
    "audit_in_use": (
        "another run is writing the audit `{path}` right now.",
        "name another one with --audit, or wait for that run to end",
    ),
    "audit_exists": (
        "`{path}` exists already.",
        "another run's audit is never replaced: name another --audit",
    ),
    "cannot_write_audit": (
        "the audit `{path}` cannot be written: {reason}.",
        "name another place: --audit PATH",
    ),
    "cannot_write_report": (
        "the report `{path}` cannot be written: {reason}.",
        "free space or change the folder's permissions, then: rd-import report AUDIT",
    ),
    "cannot_write_folder": (
        "`{path}` cannot be written: {reason}.",
        "free space, change its permissions, or name another place: --run-dir DIR",
    ),
    "not_a_ledger": (
        "`{path}` is no ledger of rd-import.",
        "name the ledger's own file, or one that does not exist yet: --ledger PATH",
    ),
    "ledger_locked": (
        "the ledger `{path}` is locked by another program.",
        "wait for it to end and run the same command again; nothing was lost",
    ),
    "ledger_unusable": (
        "the ledger `{path}` cannot be used: {reason}.",
        "keep the file: it is the record of what was sent; restore it or make space, then run the same command again",
    ),
    "no_frame": (
        "{name} of the job's exports is no table: {reason}.",
        "give a path, a pandas or polars frame, an Arrow table or a reader of Arrow batches, with one row of names",
    ),
    "unknown_plan": ("there is no plan `{value}`.", "name one of: {known}"),
    "ledger_unreachable": (
        "the ledger `{path}` cannot be used: {reason}",
        "mend the address, the server, the role's rights or its password (PGPASSWORD, ~/.pgpass), then run the same "
        "command again; what was sent stands in the ledger",
    ),
    "bad_ledger_address": (
        "the ledger's address cannot be read.",
        "write it as postgresql://USER@HOST/DATABASE, the password apart in PGPASSWORD or ~/.pgpass",
    ),
    "ledger_of_other_database": (
        "a ledger can be a file or a PostgreSQL database, not `{scheme}://`.",
        "name a path, or an address such as postgresql://USER@HOST/DATABASE",
    ),
    "ledger_of_other_version": (
        "the ledger `{path}` is of schema version {version}, which this version does not read.",
        "install the version that wrote it, or a newer one",
    ),
    "port_taken": (
        "the sandbox cannot listen on port {port}: {reason}.",
        "choose another: --port 0 takes any free one",
    ),
}
"""Key → sentence and hint of each exception."""

PROBLEMS: Final[Mapping[str, tuple[str, str]]] = {
    "REQUIRED": ("`{field}` is empty; every {event_type} needs one", "fill it in"),
    "REQUIRED_WITH": (
        "`{field}` is empty, but the row has other cells of `{limit}`",
        "fill it in, or empty them all",
    ),
    "INVALID_EMAIL": ("`{field}` is no e-mail address", "correct it"),
    "INVALID_URL": ("`{field}` is no web address beginning with http:// or https://", "correct it"),
    "BELOW_MINIMUM": ("`{field}` is below {limit}", "correct it"),
    "ABOVE_MAXIMUM": ("`{field}` is above {limit}", "correct it"),
    "NOT_AN_OPTION": ("`{field}` is not one of: {limit}", "use one of these"),
    "TOO_LONG": ("`{field}` has more than {limit} characters", "shorten it"),
    "TOO_MANY_VALUES": ("`{field}` has more than {limit} values", "leave some out"),
    "NOT_A_NUMBER": (
        "`{field}` is no number, or none with this column's decimal mark",
        "write 1234.56, or say --decimal , for 1.234,56",
    ),
    "NOT_A_DURATION": (
        "`{field}` is no duration",
        "write seconds (58), 00:00:58 or 1m02s; 01:32 may be hours or minutes",
    ),
    "NOT_A_PHONE": (
        "`{field}` is no phone number",
        "write it with country and area code: +5511999998888",
    ),
    "SPREADSHEET_DAMAGE": (
        "a spreadsheet destroyed the value of `{field}`",
        "export again without opening the file in a spreadsheet, or format the column as text first",
    ),
    "NOT_AN_INTEGER": ("`{field}` is no whole number", "write it in digits"),
    "NOT_A_BOOLEAN": ("`{field}` is neither yes nor no", "write true or false"),
    "NOT_A_TIMESTAMP": (
        "`{field}` is no date and time",
        "write 2026-03-15T14:53:42-03:00 or 2026-03-15 14:53:42",
    ),
    "NOT_LEGAL_BASES": (
        "`{field}` is no JSON list of legal bases, one per category",
        "use the columns legal_bases.communications.type and .status",
    ),
    "LEGAL_BASE_NOT_TAKEN": (
        "{event_type} does not take `{field}`",
        "empty it: only `communications` can be sent here",
    ),
    "CONFLICTING_ROWS": (
        "`{field}` says something else than the order's first row ({place})",
        "make the rows of one order agree; where each holds a part of it, a mapping file adds them up: sum = true",
    ),
    "TOO_MANY_ITEMS": ("the order has {value} items; RD Station takes {limit}", "leave some out"),
    "EVENT_TOO_LARGE": (
        "the event alone has {value} bytes; a request holds {limit}",
        "shorten its texts or leave items out",
    ),
    "WRONG_NUMBER_OF_CELLS": (
        "the row has {value} cells; the header has {limit}",
        "put cells that hold the delimiter in quotes",
    ),
    "BAD_BYTES": (
        "the byte {value} in column `{field}` is not {limit} text",
        "save the file in one encoding, or name it: --encoding cp1252",
    ),
    "HOLDS_NUL": (
        "column `{field}` holds a NUL byte",
        "take it out; the program that wrote the file damaged the row",
    ),
    "RECORD_TOO_LONG": (
        "the row is longer than {limit} bytes, by column `{field}`",
        "shorten the cell, or close its quote",
    ),
    "BROKEN_JSON": (
        "the line is no JSON object, or one that is nested more than 64 deep",
        "write one object a line",
    ),
    "TOTALS_ROW": ("the row holds totals, no data", "nothing to do"),
    "REPEATED_HEADER": ("the row is the header once more", "nothing to do"),
    "SECOND_TABLE": ("another table begins before this row", "put it into a file of its own"),
    "TORN_EVENT": (
        "a row that cannot be read ({place}) may belong to `{field}` {value}, which must not go with an item missing",
        "mend that row",
    ),
    "BROKEN_QUOTES": (
        "the row's quotes do not pair up",
        'double each quote inside a cell: "5"" TV"',
    ),
    "CONTACT_CONFLICT": (
        "the same event was sent before for another contact",
        "check the id and the e-mail; use --key or another id if these are different events",
    ),
    "NO_EVENT_TYPE": (
        "`{value}` in `{field}` stands for no event type; the mapping names {limit}",
        'add it to the mapping\'s [type_by], or leave such rows out: other = "skip"',
    ),
    "NOT_LOOKED_UP": (
        "{limit} has no row for it, so `{field}` stays empty",
        "add the row to {limit}",
    ),
    "LOOKED_UP_TWICE": (
        "{limit} has several rows for it that differ, so `{field}` is not known",
        "leave one of them in {limit}",
    ),
    "FILTERED": ("left out by the rule: {limit}", "nothing to do"),
    "TOTAL_ITEMS_DIFFER": (
        "`total_items` is {value}, and the quantities make {limit}",
        "look whether an item is missing in the file; it goes as it is",
    ),
    "PRICE_DIFFERS": (
        "`price` is {value}, and the items with the freight make {limit}",
        "discounts, taxes and fees explain it, a missing item too; it goes as it is",
    ),
    "GARBLED_TEXT": (
        "`{field}` holds text that was damaged before it was exported, such as {value}",
        "export again as UTF-8, or mend it where it is kept; it goes as it is",
    ),
    "ROWS_WITHOUT_ITEMS": (
        "the event has {value} rows, and no column of the file feeds `line_items`: the further rows bring no item",
        "if the rows are items, say which columns are theirs: --rename line_items.product_title=COLUMN and so on",
    ),
    "ITEMS_CUT": (
        "the order has {value} items; {limit} of them are sent, as the mapping says",
        "nothing to do",
    ),
    "VALUES_CUT": (
        "`{field}` has more than {limit} values; the mapping says what becomes of them",
        "nothing to do",
    ),
    "SIBLING_INVALID": (
        "another row of the same event is invalid ({place}); an event goes whole or not at all",
        "mend that row",
    ),
}
"""Code of a flaw → sentence and hint."""

FORMATS: Final[Mapping[str, str]] = {
    "csv": "CSV",
    "parquet": "Parquet",
    "excel": "Excel",
    "jsonl": "JSON Lines",
}

FOREIGN: Final[Mapping[str, str]] = {
    "pdf": "a PDF document",
    "picture": "a picture",
    "rar": "a RAR archive",
    "7z": "a 7z archive",
    "database": "a database",
    "damaged": "damaged",
    "web page": "a web page (some shops give it the name .xls; an error page looks like this too)",
    "xml": "an XML document",
    "old workbook": "an old Excel workbook (.xls)",
}
"""What people pick by mistake."""

FINDINGS: Final[Mapping[str, Text]] = {
    "encoding": "encoding {value}",
    "delimiter": "delimiter {value!r}",
    "header": "header: {value}",
    "quoting": "cells are quoted by {value}",
    "line_ends": "lines end with {value}",
    "preamble": (
        "{lines:n} line before the header is passed over",
        "{lines:n} lines before the header are passed over",
    ),
    "decimal": "decimal mark of `{column}`: {value}",
    "dates": "dates of `{column}`: {value}",
    "timezone": "time zone of times that name none: {value}",
    "zone_of_column": "time zone of `{column}`: {value}",
    "phones": "phones without a country code are of {value}",
}
"""What a finding is about → what the preview says of it."""

EVIDENCE: Final[Mapping[str, Text]] = {
    "stated": "as you say",
    "kept": "as the mapping file keeps it",
    "contradicts": "the mapping file keeps {kept}, and the file says otherwise",
    "by_mark": "by the mark at its beginning",
    "by_nuls": "every other byte is NUL",
    "ascii_only": "only ASCII, which is the same in all of them",
    "utf8_valid": "every character proves it",
    "utf8_mostly": "most characters prove it; a few bytes are broken",
    "by_words": "the other readings make no words",
    "no_words": "no reading of the accents makes words for certain",
    "by_sep_line": "by its `sep=` line",
    "by_trial": (
        "{share} of the first {records:n} record has {cells} cells",
        "{share} of the first {records:n} records have {cells} cells",
    ),
    "one_column": "nothing cuts the lines, so there is one column",
    "few_agree": "it fits best, but not half of the records agree",
    "names_only": "the first line holds names and no data",
    "first_line_is_data": "the first line holds data; columns are `column 1`, `column 2`, …",
    "more_records_fit": "more records fit than with the usual quotes",
    "no_line_feed": "there is no line feed",
    "before_header": "far fewer cells than in the rest",
    "by_cells": (
        "{count:n} cell has this reading only: {examples}",
        "{count:n} cells have this reading only, such as {examples}",
    ),
    "one_reading_each": "both marks occur, and each cell has one reading only, such as {examples}",
    "both_marks": "both marks occur, and some cells fit both, such as {examples}",
    "thousands_or_decimals": (
        "{count:n} cell, {examples}, is thousands or decimals",
        "{count:n} cells such as {examples} are thousands or decimals",
    ),
    "day_above_12": (
        "{count:n} cell has a day above 12: {examples}",
        "{count:n} cells have a day above 12, such as {examples}",
    ),
    "both_orders": "both orders occur, such as {examples}",
    "no_day_above_12": (
        "{count:n} cell, {examples}, fits both orders",
        "{count:n} cells such as {examples} fit both orders",
    ),
    "one_year": (
        "{count:n} cell with one year: {examples}",
        "{count:n} cells have the same year at the end and many days before it, such as {examples}",
    ),
    "day_is_month": "day and month are the same in every cell, such as {examples}",
    "column_names_it": "its name says so",
    "file_names_no_zone": (
        "{unzoned:n} time of the file names none",
        "{unzoned:n} times of the file name none",
    ),
    "each_names_its_zone": "all times of the file name theirs",
    "no_country_code": ("{count:n} cell has none", "{count:n} cells have none"),
}
"""Why a finding is so."""

CONFIDENCE: Final[Mapping[str, str]] = {
    "stated": "stated", "certain": "certain", "likely": "likely", "assumed": "assumed", "open": "open",
}  # fmt: skip

HOW: Final[Mapping[str, str]] = {
    "preset": "known of this platform",
    "name": "its own name",
    "alias": "a known name for it",
    "lookup": "looked up",
}
"""Why a column feeds a field that nobody named."""

KINDS: Final[Mapping[str, str]] = {
    "text": "text",
    "texts": "list of texts",
    "flag": "true or false",
    "number": "number",
    "place": "whole number from 1",
    "length": "true, m:ss or h:mm",
    "words": "table of texts",
    "rule": "column's name or rule",
    "rules": "list of columns or rules",
    "table": "table",
    "tables": "list of tables, each under [[…]]",
}
"""What a key of a mapping file takes."""

STATES: Final[Mapping[str, str]] = {
    "accepted": "received, and given an id",
    "already_accepted": "sent earlier, not sent again",
    "changed": "sent earlier with other content, not sent",
    "filtered": "left out by a rule",
    "invalid": "invalid, not sent",
    "refused": "refused by RD Station",
    "unknown": "sent, but no usable answer came",
    "deferred": "held back by the contact's limit",
    "not_sent": "not sent",
}

ADVICE: Final[Mapping[str, str]] = {
    "CANNOT_BE_NULL": "RD Station needs a value there: fill it in",
    "CANNOT_BE_BLANK": "RD Station needs a value there: fill it in",
    "INVALID": "RD Station does not take the value: correct it",
    "INVALID_FORMAT": "RD Station does not take how the value is written: correct it",
    "INVALID_OPTION": "RD Station takes only certain values there: rd-import types TYPE lists them",
    "MUST_BE_VALID_OPTION": "RD Station takes only certain values there: rd-import types TYPE lists them",
    "MUST_BE_STRING": "RD Station wants a text there: look which column feeds the field",
    "MUST_BE_STRING_ARRAY": "RD Station wants a list of texts there: look which column feeds the field",
    "MUST_BE_BOOLEAN": "RD Station wants true or false there: look which column feeds the field",
    "MUST_BE_LESS_THAN_OR_EQUAL": "the number is greater than RD Station takes: correct it",
    "TOO_LONG": "it is longer than RD Station takes: shorten it",
    "TOO_SHORT": "it is shorter than RD Station takes: complete it",
    "CONFLICTING_FIELD": "two fields of the event exclude each other: empty one of them",
    "RESOURCE_NOT_FOUND": (
        "RD Station has no such contact: create it, for example by importing a CONVERSION of it, "
        "wait a few minutes, and import these rows again"
    ),
    "RATE_LIMIT": "RD Station takes only so many events of a contact a day; the audit says from when on it takes more",
}
"""Code of an error of the API → what it means and what to do; the API's own words stand beside it.

Source of the codes: the error shapes of "Eventos" and "Batch de Eventos", and the vendor's older pages.
"""

UNRESOLVABLE: Final[Mapping[str, str]] = {
    "not unknown": "it is not unknown",
    "in flight": "it is being sent right now",
    "already ordered": "its resending is ordered already",
    "closed by an earlier decision": "it was closed by an earlier decision",
    "accepted meanwhile": "it was accepted meanwhile",
}
"""Why a person's decision on an unknown event does not apply."""

VALUES: Final[Mapping[str, str]] = {"yes": "yes", "no": "no", "as written": "as written"}
"""Values of findings that are words; the others are facts of the file."""

WORDS: Final[Mapping[str, str]] = {
    "finding": "{what} ({confidence}: {why})",
    "finding_and_flag": "{what} ({confidence}: {why}; {flag} overrules)",
    "or": "or",
    "or_else": "{first}, else {rest}",
    "and_more": "{names} and {count} more",
    "rename_or_set": "--rename {name}=COLUMN (or --set {name}=VALUE)",
    "set_or_rename": "--set {name}={value} (or --rename {name}=COLUMN)",
    "say_which": "say which: {flags}",
    "did_you_mean": "did you mean `{name}`?",
    "types_are": "rd-import types lists them, and says what each is",
    "files_are": "check the name, and put quotes around one with spaces in it",
    "its_fields": "its fields are {names}",
    "earlier_line": "an earlier line",
    "nothing": "nothing",
    "or_flags": ", or let a column decide row by row: {flags}",
    "known_are": "; known are {names}",
}
"""Parts of sentences."""


SAID: Final[Mapping[str, Text]] = {**SCREENS, **REPORT}
"""What `say` says."""


def error(key: str, facts: Mapping[str, object]) -> tuple[str, str]:
    """Give an exception's sentence and hint."""
    what, hint = ERRORS[key]
    shown = {name: _shown(value) for name, value in facts.items()}
    shown |= _listings(facts)
    shown = {name: plain(one) if isinstance(one, str) else one for name, one in shown.items()}
    return _counted(what, shown), fill(translate(hint), shown)


CONTROL: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
"""What moves a cursor, begins an escape sequence or turns the direction of writing."""
JSON_CONTROL: Final = {code: f"\\u{code:04x}" for code in CONTROL if code > 126}
"""The same within JSON, which escapes the others itself."""


def plain(text: str) -> str:
    """Show terminal escapes and line breaks of a cell, a file's name or a server's text instead of obeying them."""
    return text.translate(CONTROL)


def say(key: str, /, count: float = 1, **facts: object) -> str:
    """Give a text of the screens; `count` chooses between its forms and is a fact itself.

    Facts are shown in one line, whatever is in them; a `hint` is a text of ours, whose own facts were.
    """
    text = SAID[key]
    chosen = translate(text) if isinstance(text, str) else translate_many(*text, int(count))
    shown = {
        name: plain(str(one)) if isinstance(one, str | PurePath) and name != "hint" else one
        for name, one in facts.items()
    }
    return fill(chosen, {"count": count, **shown})


def pattern(key: str) -> str:
    """Give a text with its places still open, for a script that fills them."""
    text = SAID[key]
    assert isinstance(text, str)  # scripts take no plurals
    return translate(text)


def with_hint(what: str, hint: str) -> str:
    """Join a sentence and what to do about it."""
    return f"{what}\n{say('hint', hint=hint)}" if hint else what


def without_hint(text: str) -> tuple[str, str]:
    """Take apart what `with_hint` joined."""
    what, _, hint = text.partition("\n" + say("hint", hint=""))
    return what, hint


def word(key: str) -> str:
    """Give a part of a sentence."""
    return translate(WORDS[key])


def proof(text: str) -> str:
    """Say in the language in use why a row is in its state; what is no sentence of ours is the server's own."""
    for template, pattern in _proof_patterns():
        if (found := pattern.fullmatch(text)) is not None:
            facts = found.groupdict().items()
            shown = {name: number(int(one)) if one.isdigit() else proof(one) for name, one in facts}
            return fill(translate(template), shown)
    return text


@functools.cache
def _proof_patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Turn each sentence of proof into a pattern that finds its facts."""
    return tuple(
        (
            template,
            re.compile(re.sub(r"\\\{([a-z]+)\\\}", r"(?P<\1>.+?)", re.escape(template))),
        )
        for template in PROOFS
    )


def fed_by(columns: str) -> str:
    """Name the columns that feed a field, the first that holds something."""
    first, separator, rest = columns.partition(", else ")
    if not separator:
        return columns
    return fill(translate(WORDS["or_else"]), {"first": first, "rest": fed_by(rest)})


def unresolvable(why: str) -> str:
    """Say why a person's decision does not apply."""
    return translate(UNRESOLVABLE[why])


def advice(code: str) -> str | None:
    """Explain an error of the API by its code; None where its own words are all that is known."""
    return translate(ADVICE[code]) if code in ADVICE else None


def place(path: str, row: int, line: int | None) -> str:
    """Name a row by its file and physical line, or by its number where a file has no lines."""
    name = file_name(path)
    return f"{name}:{line}" if line is not None else f"{name}, {say('report.row', row=row)}"


def file_name(path: str) -> str:
    """Give the last part of a path or address."""
    return path.replace("\\", "/").rpartition("/")[2]


def state(name: str) -> str:
    """Say what a state means."""
    return translate(STATES[name])


def form(name: str) -> str:
    """Name a kind of file."""
    return translate(FORMATS[name])


def how(name: str) -> str:
    """Say why a column feeds a field; empty where a person said it."""
    return translate(HOW[name]) if name in HOW else ""


def every_text() -> Iterator[tuple[str, Text]]:
    """Give each text of this module and of the screens with its place, in the order in which they stand."""
    for name in ("ERRORS", "PROBLEMS"):
        for key, pair in globals()[name].items():
            for text in pair:
                if not isinstance(text, str) or translatable(text):
                    yield f"{name}.{key}", text
    for name in (
        "FORMATS",
        "FOREIGN",
        "FINDINGS",
        "EVIDENCE",
        "CONFIDENCE",
        "HOW",
        "KINDS",
        "ADVICE",
        "STATES",
        "UNRESOLVABLE",
        "VALUES",
        "WORDS",
    ):
        for key, text in globals()[name].items():
            yield f"{name}.{key}", text
    yield from SAID.items()
    yield from (("PROOFS", text) for text in PROOFS)


def translatable(text: str) -> bool:
    """Tell whether a text has words; some hints are nothing but a command or a fact."""
    return bool(re.search(r"[a-z]{2}", re.sub(r"\{[^}]*\}|--?[a-z-]+", "", text)))


def problem(
    code: str,
    *,
    field: str | None,
    value: str | None,
    limit: str | None,
    event_type: str,
    place: str = "",
) -> tuple[str, str]:
    """Give the sentence and hint of a row's flaw."""
    what, hint = PROBLEMS[code]
    facts = {
        "field": field or "",
        "value": value or "",
        "limit": translate(limit or "") if code == "FILTERED" else limit or "",
        "event_type": event_type,
        "place": place,
    }
    return translate(what).format_map(facts), translate(hint).format_map(facts)


def finding(found: Mapping[str, Any]) -> str:
    """Say what was found out about a file, how far it can be trusted and why, and what overrules it."""
    what, why = _finding_parts(found)
    overruled = found["flag"] and found["confidence"] not in {"stated", "open"}
    text = WORDS["finding_and_flag"] if overruled else WORDS["finding"]
    facts = {
        "what": what,
        "why": why,
        "confidence": translate(CONFIDENCE[found["confidence"]]),
        "flag": found["flag"],
    }
    return fill(translate(text), facts)


def sure_findings(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what needs no evidence, a line for each reason: a person or a mapping file says so, or it is certain."""
    reasons: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = {}
    for found in findings:
        sure = found["confidence"] == "certain"
        why = CONFIDENCE["certain"] if sure else str(EVIDENCE[found["how"]])
        alike = reasons.setdefault(why, {})
        alike.setdefault((found["what"], found["value"]), []).append(found)
    for why, alike in reasons.items():
        said = []
        for same in alike.values():
            columns = "`, `".join(one["column"] or "" for one in same)
            said.append(_finding_parts({**same[0], "column": columns})[0])
        yield f"{translate(why)}: {'; '.join(said)}"


def question(found: Mapping[str, Any]) -> str:
    """Ask what only a person can answer: the readings, and the flag that chooses."""
    between = f" {translate(WORDS['or'])} "
    what, why = _finding_parts({**found, "value": between.join(found["readings"])})
    answers = between.join(f"{found['flag']} {one}" for one in found["readings"])
    return f"{what}? {why}: {answers}"


def _finding_parts(found: Mapping[str, Any]) -> tuple[str, str]:
    value = VALUES.get(found["value"])
    shown = found["value"] if value is None else translate(value)
    facts = {**found["facts"], "value": shown, "column": found["column"] or ""}
    what, why = FINDINGS[found["what"]], EVIDENCE[found["how"]]
    return _counted(what, facts), _counted(why, facts)


def _counted(text: Text, facts: Mapping[str, Any]) -> str:
    """Fill a text; of two forms the first number that it names chooses."""
    if isinstance(text, str):
        return fill(translate(text), facts)
    counted = {name: int(facts[name]) for name in re.findall(r"{(\w+):n}", text[1])}
    chosen = translate_many(*text, next(iter(counted.values())))
    return fill(chosen, {**facts, **counted})


def type_by_flag(column: str) -> str:
    """Write the flag that lets a column decide on the event types."""
    return f"--type-by {_shell(column)}"


def rename_flag(field: str, column: str) -> str:
    """Write the flag that lets a column feed a field."""
    return f"--rename {field}={_shell(column)}"


def listed(names: Iterable[object], most: int = 40) -> str:
    """Write names in backticks, cut after `most`."""
    shown = [f"`{name}`" for name in names]
    if len(shown) <= most:
        return ", ".join(shown)
    facts = {"names": ", ".join(shown[:most]), "count": number(len(shown) - most)}
    return fill(translate(WORDS["and_more"]), facts)


def _shown(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = " ".join(str(value).split()) if not isinstance(value, str) or "\n" in value else value
    return text if len(text) <= 2000 else text[:2000] + "…"


def _listings(facts: Mapping[str, object]) -> dict[str, str]:
    """Build the parts of sentences that list things."""
    made = {}
    missing, columns = facts.get("missing"), facts.get("columns")
    close = facts.get("close")
    if isinstance(missing, list) and isinstance(close, dict) and isinstance(columns, tuple):
        made["missing_listed"] = listed(missing)
        made["columns_listed"] = listed(columns)
        made["fixes"] = " ".join(_fix(name, close.get(name)) for name in missing)
        made["file"] = shlex.quote(str(facts["path"]))
    if "wanted" in facts:
        made["wanted_words"] = translate(KINDS[str(facts["wanted"])])
        made["given"] = f"`{facts['given']}`"[:80]
    if "type_by" in facts:
        columns_named = [type_by_flag(str(one)) for one in cast("list[str]", facts["type_by"])]
        either = fill(word("or_flags"), {"flags": ", ".join(columns_named)})
        made["or_type_by"] = either if columns_named else ""
    if "origins" in facts:
        made["said_words"] = str(facts["origins"]) or word("nothing")
    if "known" in facts:
        known = fill(word("known_are"), {"names": facts["known"]})
        made["known_words"] = known if facts["known"] else ""
    for name in ("preset", "how"):
        if isinstance(facts.get(name), str):
            made[name] = translate(str(facts[name]))
    questions = facts.get("questions")
    if isinstance(questions, list):
        made["questions_listed"] = "; ".join(question(one) for one in questions[:5])
        flags = dict.fromkeys(f"{one['flag']} {'|'.join(one['readings'])}" for one in questions)
        made["answers"] = fill(translate(WORDS["say_which"]), {"flags": " ".join(flags)})
    if "near" in facts:
        near = listed(cast("tuple[str, ...]", facts["near"]))
        meant = fill(translate(WORDS["did_you_mean"]), {"name": near.strip("`")}) if near else ""
        other = translate(WORDS["types_are" if "name" in facts else "files_are"])
        made["meant"] = f"{meant} {other}".lstrip()
    kind = facts.get("kind")
    if kind in FOREIGN:
        made["kind"] = translate(FOREIGN[str(kind)])
    fields = facts.get("fields")
    if isinstance(fields, list):
        made["fields_hint"] = (
            fill(translate(WORDS["did_you_mean"]), {"name": close})
            if isinstance(close, str)
            else fill(translate(WORDS["its_fields"]), {"names": listed(fields)})
        )
    return made


USUAL: Final[Mapping[str, str]] = {"currency": "BRL", "line_items.quantity": "1"}
"""Field → what most exports without a column for it hold: one currency, one of each product."""


def _fix(field: str, column: str | None) -> str:
    """Write the flag that feeds a required field."""
    if column:
        return f"--rename {field}={_shell(column)}"
    value = USUAL.get(field)
    key = "set_or_rename" if value else "rename_or_set"
    return fill(translate(WORDS[key]), {"name": field, "value": value})


def _shell(name: str) -> str:
    return f"'{name}'" if any(c in name for c in " ;&|()$\"'*?<>") else name
