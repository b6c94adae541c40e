"""Entry point: words on the command line -> a job. Heavy imports wait until a command needs them."""

from __future__ import annotations

import contextlib
import getpass
import importlib.abc
import inspect
import json
import logging
import os
import re
import shlex
import signal
import sys
import traceback
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
from click_default_group import DefaultGroup

from rd_import import messages
from rd_import.catalogue import LANGUAGES, language_of, speak, translate
from rd_import.errors import AccountError, JobError, RdImportError
from rd_import.job import Account, Delivery, Job, Threshold, is_loopback
from rd_import.key_line import Policy
from rd_import.layout import Line, Look, laid_out
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rd_import.importer import Watcher
    from rd_import.mapping_file import Mapping
    from rd_import.pipeline import Draft
    from rd_import.preview import Preview
    from rd_import.report import Report
    from rd_import.send import Sending
    from rd_import.session import Session
    from rd_import.values import RunResult

JSON_VERSION = 1
CONTACTS_ASKED_TWICE = 1000
NOT_REPEATED = {"yes", "as_json", "verbose", "audit_path"}
"""What belongs to one run, and into no command that is proposed."""
LOG = logging.getLogger("rd_import")

EXIT_CODES = """\b
Exit codes, the first that applies:
  2  cannot be done as asked (wrong usage, missing or unusable file)
  1  could not finish (internal, disk, ledger, outage)
  130  stopped by a person, or declined at the question
  4  account refused (credentials, plan, permission)
  7  nothing sent: too many invalid rows, or a question only a person can answer
  5  some rows are `unknown`
  3  some rows are `invalid`, `refused` or `changed`; the rest went
  6  some rows are `deferred` or `not_sent`; run again
  0  done
"""


_PathOption = click.Path(path_type=Path, dir_okay=False)
_PORT = click.IntRange(0, 65535)


class _Audit(click.Path):
    """An audit that is there, on this machine or at an address."""

    def __init__(self) -> None:
        super().__init__(path_type=str, exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if "://" in value else str(super().convert(value, param, ctx))


_LEDGER = click.option("--ledger", metavar="PATH|URL", help="Ledger: a file, or postgresql://…")
_ACCOUNT = [
    click.option("--account", "label", help="Name of the account in the ledger."),
    click.option("--base-url", help="Address of the API; plain http for this machine only."),
]
_SPEED = [
    click.option(
        "--plan",
        type=click.Choice(["light", "basic", "pro", "advanced"]),
        help="The account's plan.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(min=0),
        help="Requests a minute; 0 = unpaced, this machine only.",
    ),
]
_LANG = click.option(
    "--lang",
    type=click.Choice(LANGUAGES, case_sensitive=False),
    metavar="|".join(LANGUAGES),
    expose_value=False,
    help="Language.  [default: the locale's]",
)
_OUTPUT = [
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines."),
    click.option("-v", "--verbose", is_flag=True, help="Log each request; never contact data."),
    _LANG,
]


@click.group(
    cls=cast("type[click.Group]", DefaultGroup),
    default="import",
    default_if_no_args=False,
    epilog=EXIT_CODES,
)
@click.version_option(package_name="rd-import")
@_LANG
def cli() -> None:
    """Send CSV and Parquet exports to RD Station Marketing as events; account for every row, send none twice.

    \b
      rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox
    """  # noqa: D301 -- \b is click's mark for lines that must not be wrapped


_SEND_OR_SKIP = click.Choice(["send", "skip"])
_SHAPING = [
    click.argument("files", nargs=-1, metavar="FILE..."),
    click.option(
        "--type", "event_type", metavar="TYPE", help="Event type, such as ECOMMERCE_ORDER_PLACED."
    ),
    click.option(
        "--map", "map_path", metavar="FILE.toml", help="Mapping file, or the name of a preset."
    ),
    click.option(
        "--type-by", metavar="COLUMN", help="Column that tells each row's type, as suggested."
    ),
    click.option(
        "--lookup",
        multiple=True,
        metavar="FILE",
        help="Second file with what the export lacks, joined by the columns that both have.",
    ),
    click.option(
        "--suppress",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="E-mails that get nothing: one a line, or a column `email`.",
    ),
    click.option(
        "--rename", multiple=True, metavar="FIELD=COLUMN", help="Take a field from this column."
    ),
    click.option(
        "--set", "constants", multiple=True, metavar="FIELD=VALUE", help="One value for every row."
    ),
    click.option(
        "--key",
        multiple=True,
        metavar="COLUMN",
        help="Column that makes an event unique; repeat for more.",
    ),
    click.option("--encoding", help="Encoding of the CSV, such as cp1252."),
    click.option("--delimiter", help="Character between cells, such as ';'."),
    click.option(
        "--header/--no-header",
        "header",
        default=None,
        help="Whether the CSV's first line names columns.",
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark of amounts."),
    click.option(
        "--dates",
        type=click.Choice(["dmy", "mdy", "ymd"]),
        help="Order of day and month in 01/02/2026.",
    ),
    click.option("--timezone", help="Zone of times that name none.  [default: America/Sao_Paulo]"),
    click.option(
        "--max-body",
        type=int,
        default=200_000,
        show_default=True,
        help="Largest request body, bytes.",
    ),
    click.option(
        "--max-invalid",
        default="50%",
        show_default=True,
        help="More invalid rows: nothing is sent.",
    ),
    click.option(
        "--min-rows", type=int, default=0, show_default=True, help="Fewer rows: nothing is sent."
    ),
    click.option(
        "--max-age",
        type=click.FloatRange(min=0),
        default=7.0,
        show_default=True,
        help="Days; older: --past.",
    ),
    click.option(
        "--past",
        type=_SEND_OR_SKIP,
        help="Events older than --max-age: RD Station dates them today.",
    ),
    click.option(
        "--repeats", type=_SEND_OR_SKIP, help="Events without id or time that another file brought."
    ),
    click.option(
        "--changed",
        type=_SEND_OR_SKIP,
        default="skip",
        show_default=True,
        help="Known keys, new content.",
    ),
    click.option(
        "--on-unknown",
        type=click.Choice(["hold", "resend"]),
        default="hold",
        show_default=True,
        help="Events that may be registered: leave them, or send again (at least once).",
    ),
    click.option(
        "--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where run folders go."
    ),
    _LEDGER,
    *_ACCOUNT,
    *_SPEED,
    *_OUTPUT,
]
_SENDING = [
    click.option(
        "--max-refused", default="1%", show_default=True, help="More refused events: the run stops."
    ),
    click.option(
        "--max-unknown",
        type=int,
        default=10,
        show_default=True,
        help="Requests without an answer: stop.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.1),
        default=60.0,
        show_default=True,
        help="Seconds to answer.",
    ),
    click.option("--yes", is_flag=True, help="Send without asking."),
]


def _with(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Add options to a command, in order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@cli.command("import", epilog=EXIT_CODES)
@_with(*_SHAPING, *_SENDING)
@click.option("--audit", "audit_path", metavar="PATH|URL", help="Audit file.")
@click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="Send to a practice server inside this run."
)
def import_command(**given: Any) -> None:
    """Read, check and send FILE..., and write the audit. Shows a preview and asks before it sends."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.importer import run

    job = _job(given)
    with contextlib.ExitStack() as stack:
        if given["in_sandbox"]:
            job = _in_sandbox(job, given, stack)
        account = job.account or _account(given)
        terminal = None if given["yes"] else _terminal_if(needed=not is_loopback(account.base_url))
        job = _with_type_asked(job, terminal)
        given["event_type"] = job.event_type or None
        result = run(replace(job, account=account), watcher=_watcher(given, terminal))
        _show(result, given)
    _exit(result.exit_code)


@cli.command(epilog=EXIT_CODES)
@_with(*_SHAPING)
@click.option("--keep", is_flag=True, help="Leave the run folder, and name it; `resume` sends it.")
def check(**given: Any) -> None:
    """Show what would be sent, and send nothing. Needs no credentials."""
    _configure_logging(verbose=given["verbose"])
    job = _job(given)
    from rd_import import importer

    with contextlib.suppress(AccountError):  # it needs no credentials
        job = replace(job, account=_account(given))
    job = _with_type_asked(job, _terminal_if(needed=False))
    given["event_type"] = job.event_type or None
    shown = importer.check(job, keep=given["keep"], watcher=_watcher(given, None))
    if given["as_json"]:
        _print_json(
            run_id=shown.run_id,
            rows=shown.rows,
            events=shown.events,
            states=_foreseen(shown),
            requests=0,
            audit=None,
            exit_code=shown.exit_code,
            questions=shown.questions,
            preview=shown.as_dict(),
        )
    else:
        if not shown.rows:
            _say(messages.say("say.no_rows"))
        kept = shown.run_folder if given["run_dir"] else shown.run_id
        for question, events in (("past", shown.past), ("repeats", shown.repeats)):
            if events and not given[question]:
                given[question] = "skip"  # the answer that cannot reach anybody by mistake
        send = f"rd-import resume {_as_named(kept, given)}" if given["keep"] else _as_command(given)
        text = messages.say("say.to_send", command=send)
        click.echo(laid_out([Line(text, style="title")], Look.of(sys.stdout)))
    if shown.run_folder:
        _say(messages.say("say.run_folder", path=shown.run_folder))
    _exit(shown.exit_code)


@cli.command(epilog=EXIT_CODES)
@click.argument("run", required=False)
@_with(*_SENDING, _LEDGER, *_ACCOUNT, *_SPEED, *_OUTPUT)
@click.option("--audit", "audit_path", metavar="PATH|URL", help="Audit file.")
@click.option(
    "--on-unknown", type=click.Choice(["hold", "resend"]), default="hold", show_default=True
)
def resume(run: str | None, **given: Any) -> None:
    """Go on with RUN, or with the newest run that has rows left to send."""
    _configure_logging(verbose=given["verbose"])
    from rd_import import importer

    result = importer.resume(run, how=_delivery(given), watcher=_watcher(given, None))
    _show(result, given)
    _exit(result.exit_code)


@cli.command()
@_with(_LEDGER, *_OUTPUT)
def status(**given: Any) -> None:
    """List the runs of the ledger, and what each is waiting for."""
    from rd_import.importer import ledger_store, runs
    from rd_import.terminal import status_text

    with contextlib.closing(ledger_store(given["ledger"])) as store:
        name, there = store.name, store.exists()
    found = runs(given["ledger"])
    if not there:
        _say(messages.say("status.no_ledger", path=name))
    if given["as_json"]:
        _print_json(runs=found)
    elif there:
        click.echo(status_text(found, ledger=name, look=Look.of(sys.stdout)))


@cli.command(epilog=EXIT_CODES)
@click.argument("run")
@click.option(
    "--resend",
    "decision",
    flag_value="resend",
    help="Send these once more; they may then be there twice.",
)
@click.option(
    "--left", "decision", flag_value="left", help="Leave them; no import sends them again."
)
@click.option(
    "--confirmed",
    "decision",
    flag_value="confirmed",
    help="They are there; no import sends them again.",
)
@click.option(
    "--withdraw", "decision", flag_value="withdraw", help="Take back a decision not yet used."
)
@click.option(
    "--only",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="One id or row number a line.",
)
@click.option("--why", help="Why, for the record.")
@_with(*_SENDING, _LEDGER, *_ACCOUNT, *_SPEED, *_OUTPUT)
def resolve(
    run: str, decision: str | None, only: Path | None, why: str | None, **given: Any
) -> None:
    """Decide about the unknown rows of RUN: events that left, and of which no usable answer came.

    Without a decision among the options, each row is shown with its contact, and asked about.
    """
    _configure_logging(verbose=given["verbose"])
    from rd_import import importer

    result = importer.resolve(
        run,
        decision or "",
        why=why or "",
        only=_lines_of(only),
        ask=None if decision else lambda chosen: _ask_each(chosen, why),
        how=_delivery(given),
        watcher=_watcher(given, None),
    )
    _show(result, given)
    _exit(result.exit_code)


@cli.command("types")
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
def types_command(event_type: str | None, *, as_json: bool) -> None:
    """List the event types, or show all fields of TYPE."""
    from rd_import.guide import type_data, type_named, type_text, types_data, types_text

    if event_type is None:
        if as_json:
            _print_json(types=types_data())
        else:
            click.echo(types_text())
        return
    found = type_named(event_type)
    if as_json:
        _print_json(**type_data(found))
    else:
        click.echo(type_text(found))


@cli.command()
@click.argument("event_type", metavar="TYPE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
def template(event_type: str, *, as_json: bool) -> None:
    """Print a CSV with the columns of TYPE and one row of examples."""
    from rd_import.guide import template_csv, type_named

    found = type_named(event_type)
    text = template_csv(found)
    if as_json:
        example = {spec.column: spec.example for spec in found.fields}
        _print_json(event_type=found.name, columns=list(example), example=example)
    else:
        click.echo(text, nl=False)


@cli.command("map", epilog=EXIT_CODES)
@_with(*_SHAPING)
@click.option(
    "--out", type=_PathOption, help="Mapping file to write.  [default: FILE's name, .toml]"
)
def map_command(**given: Any) -> None:
    """Propose a mapping file from a real export, and write it; asks on a terminal what is not certain."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.pipeline import draft

    job = _job(given)
    out = given["out"] or _mapping_path(given["files"])
    if out.exists():
        raise JobError("mapping_exists", path=out)
    asks = sys.stdin is not None and sys.stdin.isatty() and not given["as_json"]
    if asks and job.said.event_type is None and job.said.type_by is None:
        job = _with_type_asked(job, sys.stdin)
    found = draft(job, out.parent)
    if asks and (found.missing or found.proposed):
        found = draft(_with_answers(job, found, sys.stdin), out.parent)
    _write_mapping(out, found.text)
    if given["as_json"]:
        missing, proposed = list(found.missing), dict(found.proposed)
        _print_json(mapping=str(out), missing=missing, proposed=proposed)
        return
    _say(messages.say("map.written", path=out))
    for name in found.missing:
        _say(messages.say("map.missing", fields=name))
    command = shlex.join(["rd-import", "check", *given["files"], "--map", str(out)])
    text = messages.say("map.next", command=command)
    click.echo(laid_out([Line(text, style="title")], Look.of(sys.stderr)), err=True)


@cli.command(epilog=EXIT_CODES)
@_with(*_SHAPING)
@click.argument("row", type=click.IntRange(min=1))
def explain(row: int, **given: Any) -> None:
    """Show where the values of data row ROW of FILE go, and what became of its event."""
    _configure_logging(verbose=given["verbose"])
    from rd_import import importer
    from rd_import.guide import explanation_text

    job = _job(given)
    with contextlib.suppress(AccountError):  # it needs no credentials
        job = replace(job, account=_account(given))
    found = importer.explain(job, row, watcher=_watcher(given, None))
    if given["as_json"]:
        _print_json(**found)
    else:
        click.echo(explanation_text(found))


@cli.group("ledger")
def ledger_group() -> None:
    """Rebuild the ledger from audits, or verify it."""


@ledger_group.command("add")
@click.argument("audits", nargs=-1, required=True, type=_Audit(), metavar="AUDIT...")
@_with(_LEDGER, *_OUTPUT)
def ledger_add(audits: tuple[str, ...], **given: Any) -> None:
    """Take over what AUDIT... know: accepted events, and those in doubt. Open audits (.open) count as in doubt."""
    from rd_import.importer import add_audits

    changed = add_audits(audits, ledger=given["ledger"])
    if given["as_json"]:
        _print_json(audits=changed)
    for name, count in changed.items():
        _say(messages.say("ledger.taken", count=count, path=name))


@ledger_group.command("check")
@click.argument("audits", nargs=-1, type=_Audit(), metavar="[AUDIT]...")
@_with(_LEDGER, *_OUTPUT)
def ledger_check(audits: tuple[str, ...], **given: Any) -> None:
    """Verify that the ledger is whole and holds all that AUDIT... say was accepted; exit 1 with the differences."""
    from rd_import.importer import check_ledger

    found = check_ledger(audits, ledger=given["ledger"])
    if given["as_json"]:
        _print_json(differences=found, exit_code=1 if found else 0)
    for line in found[:20]:
        _say(line)
    if not found:
        _say(messages.say("ledger.whole"))
        return
    _say(
        messages.with_hint(
            messages.say("ledger.differences", count=len(found)), messages.say("check.next")
        )
    )
    _exit(1)


@cli.command()
@click.argument("audit", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_with(*_OUTPUT)
def report(audit: Path, **given: Any) -> None:
    """Write the report of AUDIT, one HTML page, beside it."""
    from rd_import.report import write_report

    path = write_report(audit).path
    if given["as_json"]:
        _print_json(report=str(path))
    else:
        click.echo(messages.say("result.report", path=path))


@cli.command()
@click.argument("email")
@click.option("--yes", is_flag=True, help="Erase without asking.")
@_with(_LEDGER, *_OUTPUT)
def forget(email: str, *, yes: bool, **given: Any) -> None:
    """Erase a person from what this machine keeps, name what it cannot reach, and send them nothing again."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.importer import forget as forget_person

    if not yes:
        terminal = _terminal()
        if not _is_yes(_answer(terminal, messages.say("forget.ask"))):
            raise click.Abort
    done = forget_person(email, ledger=given["ledger"])
    if given["as_json"]:
        _print_json(
            ledger_lines=done.ledger_lines,
            erased=done.erased,
            unreachable=[{"why": why, "place": place} for why, place in done.unreachable],
        )
        return
    _say(messages.say("forget.ledger", count=done.ledger_lines))
    for place, rows in done.erased.items():
        _say(messages.say("forget.erased", count=rows, place=place))
    _say(messages.say("forget.left"))
    for why, place in done.unreachable:
        _say(f"  {messages.say(f'forget.{why}', place=place)}")
    _say(f"  {messages.say('forget.copies')}")


@cli.command()
@click.argument("email")
@_with(_LEDGER, *_ACCOUNT, *_OUTPUT)
def probe(email: str, **given: Any) -> None:
    """Find out on your own test contact EMAIL what the API's pages leave open, and remember it for the account."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.importer import open_session
    from rd_import.probe import run_probe

    with open_session(_delivery(given), _watcher(given, None)) as session:
        terminal = _terminal()

        def ask(question: str) -> bool:
            return _agrees(terminal, question)

        facts = run_probe(session.service, session.ledger, session.number, email, ask=ask, say=_say)
    if given["as_json"]:
        _print_json(**facts)


@cli.command()
@_with(*_ACCOUNT, *_OUTPUT)
@click.option("--paste", is_flag=True, help="Paste the code; for machines without a browser.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--port",
    type=_PORT,
    default=8766,
    show_default=True,
    metavar="INTEGER",
    help="Of the app's callback address.",
)
def login(*, paste: bool, no_browser: bool, port: int, **given: Any) -> None:
    """Allow rd-import to send to an account: in the browser, once; the tokens stay on this machine.

    The app's client id and secret come from RD_IMPORT_CLIENT_ID and RD_IMPORT_CLIENT_SECRET; the secret is asked for
    where it is not set. The app's callback address must be http://localhost:8766/callback.
    """
    from rd_import.auth import FileStore, keep_login, token_store
    from rd_import.login import CALLBACK_PATH, Callback, Errand
    from rd_import.run_folder import tokens_path

    client_id = os.environ.get("RD_IMPORT_CLIENT_ID", "").strip()
    address = f"http://localhost:{port}{CALLBACK_PATH}"
    if not client_id:
        raise JobError("login_app", missing="RD_IMPORT_CLIENT_ID", callback=address)
    secret = os.environ.get("RD_IMPORT_CLIENT_SECRET", "").strip() or getpass.getpass(
        messages.say("login.secret")
    )
    empty = Account.unproven(base_url=given["base_url"], label=given["label"])
    account = replace(empty, client_id=client_id, client_secret=secret)
    listening = None if paste else Callback(port)
    callback = listening.address if listening else address
    errand = Errand(account.base_url, client_id, callback)
    _say(messages.say("login.open", address=errand.address))
    if listening is not None:
        if not no_browser:
            webbrowser.open(errand.address)
        _say(messages.say("login.waiting", callback=callback))
        code = listening.wait(errand)
    else:
        pasted = _answer(_terminal(), messages.say("login.paste"))
        code = errand.code_of(pasted, pasted=True)
    store = token_store(tokens_path(), warn=False)
    keep_login(store, account, code)
    place = messages.say("login.keyring")
    if isinstance(store, FileStore):
        place = str(tokens_path())
        _say(messages.say("login.in_file", path=place))
    if given["as_json"]:
        _print_json(account=account.label, base_url=account.base_url)
    else:
        click.echo(messages.say("login.done", label=account.label, place=place))


@cli.command()
@_with(*_ACCOUNT, *_OUTPUT)
def logout(**given: Any) -> None:
    """Forget the tokens of an account on this machine."""
    from rd_import.auth import forget_login, token_store
    from rd_import.run_folder import tokens_path

    account = Account.unproven(base_url=given["base_url"], label=given["label"])
    forgotten = forget_login(token_store(tokens_path(), warn=False), account)
    if given["as_json"]:
        _print_json(account=account.label, forgotten=forgotten)
        return
    click.echo(messages.say("login.out" if forgotten else "login.nobody", label=account.label))
    if forgotten:
        _say(messages.say("login.out_note"))


@cli.command()
@_LANG
@click.option(
    "--port",
    type=_PORT,
    default=8765,
    show_default=True,
    metavar="INTEGER",
    help="0 takes any free port.",
)
@click.option(
    "--scenario", help="Name or TOML file of how the server behaves, such as quota-then-recovers."
)
def sandbox(port: int, scenario: str | None) -> None:
    """Start a small, strict RD Station on this machine to practise on; Ctrl-C ends it."""
    from rd_import.sandbox import Sandbox, Scenario

    if scenario and re.fullmatch("[a-z0-9-]+", scenario) and scenario not in Scenario.names():
        raise JobError("no_such_scenario", name=scenario, known=", ".join(Scenario.names()))
    try:
        behaviour = Scenario.load(scenario).behaviour if scenario else None
        server = Sandbox(port=port, behaviour=behaviour)
    except ValueError as error:
        raise JobError("bad_scenario", reason=error) from error
    except OSError as error:
        raise JobError("port_taken", port=port, reason=error.strerror or str(error)) from error
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: server.stop())
    click.echo(f"export RD_IMPORT_BASE_URL={server.url}")
    click.echo(f"export RD_IMPORT_TOKEN={server.token}")
    _say(messages.say("sandbox.listens", url=server.url))
    sys.stdout.flush()
    server.serve_forever()


def _give_memory_back() -> None:
    """Have the allocators of polars and pyarrow return memory soon; they read this when they are loaded.

    Pages that go back at once rather than after half a second cost 2 s or more of CPU on a million rows.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:500,muzzy_decay_ms:0")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform == "linux":
        import ctypes

        # glibc raises its thresholds by what it sees, and each thread keeps a heap: the blocks of a stage would stay.
        with contextlib.suppress(AttributeError):  # another libc has no such call
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-8, 1)  # M_ARENA_MAX: one heap for all threads
            mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD: larger blocks go back at once


class _NoPandas(importlib.abc.MetaPathFinder):
    """Has pandas look absent: pandera without it loads in half the time and 40 MB less, and no command uses it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def _help_texts() -> Iterator[tuple[str, object, str, str]]:
    """Give each text of `--help`: its command, what carries it, in which attribute, and the English."""
    for path, command in _commands(cli, "rd-import"):
        for attribute in ("help", "epilog"):
            if text := getattr(command, attribute):
                yield path, command, attribute, inspect.cleandoc(text)
        for one in command.params:
            if text := getattr(one, "help", None):
                yield path, one, "help", text


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, f"{path} {name}")


HELP_TEXTS = tuple(_help_texts())


EXAMPLES: dict[str, tuple[str, ...]] = {
    "import": (
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED",
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox",
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --rename identifier=Name --set currency=BRL",
        "rd-import 'calls/*.csv' --type CALL_FINISHED --past skip --yes --json",
    ),
    "check": (
        "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED",
        "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED --keep",
    ),
    "resume": ("rd-import resume", "rd-import resume 2026-03-05-k4pq7r --yes"),
    "status": ("rd-import status", "rd-import status --json"),
    "resolve": (
        "rd-import resolve 2026-03-05-k4pq7r",
        'rd-import resolve 2026-03-05-k4pq7r --confirmed --only ids.txt --why "seen in RD Station"',
    ),
    "types": ("rd-import types", "rd-import types CALL_FINISHED"),
    "template": ("rd-import template CALL_FINISHED",),
    "map": ("rd-import map orders.csv --type ECOMMERCE_ORDER_PLACED",),
    "explain": ("rd-import explain orders.csv 5 --type ECOMMERCE_ORDER_PLACED",),
    "ledger add": ("rd-import ledger add orders.20260305T140000000000Z.audit.parquet",),
    "ledger check": ("rd-import ledger check *.audit.parquet",),
    "report": ("rd-import report orders.audit.parquet --lang pt-BR",),
    "forget": ("rd-import forget ana@example.com",),
    "probe": ("rd-import probe test@example.com",),
    "login": ("rd-import login", "rd-import login --paste"),
    "logout": ("rd-import logout --account loja-sp",),
    "sandbox": ("rd-import sandbox", "rd-import sandbox --scenario quota-then-recovers"),
}
"""Command → what one may type; shown by its `--help`, the same in every language."""


def _speak(words: list[str]) -> None:
    """Choose the language before the words are parsed, and put the help into it."""
    speak(language_of(words, os.environ))
    for _, carrier, attribute, text in HELP_TEXTS:
        setattr(carrier, attribute, translate(text))
    with_codes = {id(carrier) for _, carrier, attribute, _ in HELP_TEXTS if attribute == "epilog"}
    for path, command in _commands(cli, "rd-import"):
        lines = EXAMPLES.get(path.removeprefix("rd-import "), ())
        if lines:
            shown = "\n".join(("\b", messages.say("help.examples"), *(f"  {one}" for one in lines)))
            codes = translate(inspect.cleandoc(EXIT_CODES)) if id(command) in with_codes else ""
            command.epilog = f"{shown}\n\n{codes}".rstrip()


def main() -> None:
    """Run the command line; an error ends in a sentence and its exit code, never in a traceback."""
    os.umask(0o077)  # whatever is written, libraries' files included, is its owner's alone
    _speak(sys.argv[1:])
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # until a command knows better: as Ctrl-C
    # Stages overlap in threads of ours; one less of polars' took 8 % off the time on two cores.
    os.environ.setdefault("POLARS_MAX_THREADS", str(max((os.cpu_count() or 2) - 1, 1)))
    _give_memory_back()
    sys.meta_path.insert(0, _NoPandas())
    try:
        code = cli.main(prog_name="rd-import", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort as error:
        at_once = isinstance(error.__cause__, KeyboardInterrupt)
        _say(messages.say("say.stopped_at_once" if at_once else "say.stopped"))
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = messages.say(
            "say.usage_hint", command=context.command_path if context else "rd-import"
        )
        _fail(messages.with_hint(error.format_message(), hint), 2)
    except RdImportError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 -- the last resort of the command line
        if "-v" in sys.argv or "--verbose" in sys.argv:
            _say("".join(traceback.format_tb(error.__traceback__)))  # the message may quote a cell
        what = messages.say("say.internal", kind=type(error).__name__)
        _fail(messages.with_hint(what, messages.say("say.internal_hint")), 1)


# --- from words to values ----------------------------------------------------------------------------------------


def _job(given: dict[str, Any]) -> Job:
    if not given["files"]:
        raise JobError("no_exports")
    asked = (given["event_type"] or "").upper()
    if asked and asked not in {*CURRENT_TYPES, *REMOVED_TYPES}:
        raise JobError("unknown_type", name=given["event_type"], types=", ".join(CURRENT_TYPES))
    mapping = _mapping(given["map_path"])
    by_column = given["type_by"] or (mapping.type_by and mapping.type_by.column)
    if asked and by_column:
        raise JobError("type_twice", given=asked, said=by_column)
    if asked and mapping.event_type not in {None, asked}:
        raise JobError("type_twice", given=asked, said=mapping.event_type)
    delimiter = given["delimiter"]
    return Job(
        exports=tuple(given["files"]),
        event_type=asked,
        mapping=mapping,
        type_by=given["type_by"],
        lookups=given["lookup"],
        suppress=given["suppress"],
        renames=_pairs(
            given["rename"], "--rename", "FIELD=COLUMN", "--rename identifier=order_number"
        ),
        constants=_pairs(given["constants"], "--set", "FIELD=VALUE", "--set currency=BRL"),
        encoding=given["encoding"],
        delimiter="\t" if delimiter in {"\\t", "tab"} else delimiter,
        header=given["header"],
        decimal=given["decimal"],
        dates=given["dates"],
        timezone=given["timezone"],
        run_dir=given["run_dir"],
        max_body=given["max_body"],
        max_invalid=Threshold.parse(given["max_invalid"]),
        min_rows=given["min_rows"],
        key=given["key"],
        past=given["past"],
        repeats=given["repeats"],
        max_age_days=given["max_age"],
        **_how(given),
    )


def _mapping(named: str | None) -> Mapping:
    """Read a mapping file, or take the preset of that name."""
    from rd_import.mapping_file import Mapping, read_mapping
    from rd_import.presets import preset_named

    if named is None:
        return Mapping()
    path = Path(named)
    preset = None if path.exists() else preset_named(named)
    return preset.mapping if preset is not None else read_mapping(path)


def _pairs(words: tuple[str, ...], option: str, form: str, example: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise JobError("bad_pair", option=option, value=word, form=form, example=example)
        pairs[name.strip()] = value
    return pairs


def _account(given: dict[str, Any]) -> Account:
    """Give the account of the environment, else the one that somebody logged in to."""
    try:
        return Account.from_env(base_url=given["base_url"], label=given["label"])
    except AccountError as error:
        if error.key != "no_credentials":
            raise
        from rd_import.auth import login_of, token_store
        from rd_import.run_folder import tokens_path

        account = Account.unproven(base_url=given["base_url"], label=given["label"])
        kept = login_of(token_store(tokens_path(), warn=False), account)
        if kept is None:
            raise
        return kept


def _delivery(given: dict[str, Any]) -> Delivery:
    return Delivery(account=_account(given), **_how(given))


def _how(given: dict[str, Any]) -> dict[str, Any]:
    """Give the fields of `Delivery` but the account, which `check` does without."""
    policy = Policy(
        resend_unknown=given.get("on_unknown") == "resend",
        send_changed=given.get("changed") == "send",
    )
    how = {
        "ledger": given["ledger"],
        "audit_path": given.get("audit_path"),
        "policy": policy,
        "plan": given.get("plan"),
        "rate": given.get("rate"),
    }
    if "max_unknown" in given:
        how["max_unknown"] = given["max_unknown"]
        how["max_refused"] = Threshold.parse(given["max_refused"])
        how["timeout_s"] = given["timeout"]
    return how


def _in_sandbox(job: Job, given: dict[str, Any], stack: contextlib.ExitStack) -> Job:
    """Start a practice server, and keep ledger and run folder only as long as it runs."""
    from tempfile import TemporaryDirectory

    from rd_import.sandbox import Sandbox

    folder = Path(stack.enter_context(TemporaryDirectory(prefix="rd-import-")))
    server = stack.enter_context(Sandbox())
    account = Account(token=server.token, base_url=server.url, label=given["label"] or "sandbox")
    return replace(
        job,
        account=account,
        ledger=job.ledger or folder / "ledger.db",
        run_dir=job.run_dir or folder / "runs",
    )


# --- the main job ------------------------------------------------------------------------------------------------


def _watcher(given: dict[str, Any], terminal: TextIO | None) -> Watcher:
    """Make who shows a run to a person, and asks on the terminal if there is one."""
    from rd_import.importer import Watcher
    from rd_import.progress import Progress, progress_on
    from rd_import.terminal import destination_of, preview_text

    class Person(Watcher):
        def says(self, text: str) -> None:
            _say(text)

        def begins_ledger(self, name: str) -> None:
            if not given.get("in_sandbox"):  # a practice run has a ledger of its own
                what = messages.say("say.new_ledger", path=name)
                _say(messages.with_hint(what, messages.say("say.new_ledger_hint")))

        def sees(self, shown: Preview, session: Session | None, *, sends: bool) -> None:
            if given["as_json"]:
                return
            destination = messages.say("preview.check")
            label = None
            if sends and session is not None:
                destination = destination_of(session.account.base_url)
                label = session.account.label if session.trusted_label else None
            look = Look.of(sys.stdout)
            click.echo(preview_text(shown, destination=destination, label=label, look=look))
            click.echo("")

        def approves(self, shown: Preview, account: Account) -> None:
            if terminal is None:
                return
            if not _confirmed(terminal, shown, account):
                raise click.Abort
            _keep_decisions(terminal, shown, given)

        @contextlib.contextmanager
        def accompanies(
            self, events: int, interval_s: float, wake: Callable[[], None]
        ) -> Iterator[tuple[Callable[[], bool], Callable[[Sending], None]]]:
            with (
                _until_asked_to_stop(wake) as stop_asked,
                progress_on(sys.stderr, Progress(events, interval_s)) as on_progress,
            ):
                yield stop_asked, on_progress

    return Person()


def _foreseen(shown: Preview) -> dict[str, int]:
    not_data = sum(export["not_data"] for export in shown.exports) + sum(shown.filtered.values())
    states = {"filtered": not_data, "invalid": shown.invalid_rows}
    states["not_sent"] = shown.rows - shown.invalid_rows - not_data
    return {state: rows for state, rows in states.items() if rows}


# --- asking ------------------------------------------------------------------------------------------------------


def _terminal() -> TextIO:
    """Open the person's terminal, also when stdin is a pipe.

    Raises:
        JobError: There is none.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        return sys.stdin
    try:
        return Path("CON" if os.name == "nt" else "/dev/tty").open(encoding="utf-8")
    except OSError as error:
        raise JobError("needs_yes") from error


def _terminal_if(*, needed: bool) -> TextIO | None:
    """Open the person's terminal; where it is not needed, only if it is what the command reads from anyway.

    Raises:
        JobError: It is needed, and there is none.
    """
    if needed:
        return _terminal()
    return sys.stdin if sys.stdin is not None and sys.stdin.isatty() else None


def _confirmed(terminal: TextIO, shown: Preview, account: Account) -> bool:
    """Ask before sending; what reaches many contacts wants more than a key pressed by habit."""
    from rd_import.terminal import destination_of, reminder_text

    click.echo(reminder_text(shown, look=Look.of(sys.stderr)), err=True)
    many = shown.contacts > CONTACTS_ASKED_TWICE
    question = messages.say(
        "ask.number" if many else "ask.send",
        count=shown.to_send,
        contacts=shown.contacts,
        destination=destination_of(account.base_url),
    )
    answer = _answer(terminal, question)
    return re.sub(r"[\s.,]", "", answer) == str(shown.contacts) if many else _is_yes(answer)


def _keep_decisions(terminal: TextIO, shown: Preview, given: dict[str, Any]) -> None:
    """Offer to write what a confirmed preview decided into a mapping file, where there is none yet."""
    path = _mapping_path(given["files"])
    if given["map_path"] or "-" in given["files"] or path.exists():
        return
    if _agrees(terminal, messages.say("map.ask_keep", path=path)):
        _write_mapping(path, shown.mapping)
        _say(messages.say("map.written", path=path))


def _mapping_path(files: Sequence[str]) -> Path:
    """Name the mapping file of an export: beside it, with its name."""
    first = Path(files[0])
    return (first if first.exists() else Path(first.name)).with_suffix(".toml")


def _write_mapping(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError("cannot_write_mapping", path=path, reason=reason) from error


def _with_type_asked(job: Job, terminal: TextIO | None) -> Job:
    """Let the person choose among the types that the file's header can feed, if nothing tells the type."""
    if terminal is None or job.said.event_type or job.said.type_by or "-" in job.exports:
        return job
    from rd_import.guide import type_named
    from rd_import.settle import feasible_types

    known = feasible_types(job)
    if not known:
        return job
    for number, name in enumerate(known, start=1):
        line = Line(f"{name:<28} {translate(type_named(name).summary)}", f"{number:>3} ")
        click.echo(laid_out([line], Look.of(sys.stderr)), err=True)
    answer = _answer(terminal, messages.say("map.ask_type")).strip()
    picked = answer.isdigit() and 0 < int(answer) <= len(known)
    return replace(job, event_type=known[int(answer) - 1] if picked else answer.upper())


def _with_answers(job: Job, found: Draft, terminal: TextIO) -> Job:
    """Ask about columns that may be meant, and about required fields that nothing feeds."""
    renames, constants = dict(job.renames), dict(job.constants)
    renames |= {
        name: column
        for name, column in found.proposed.items()
        if _agrees(terminal, messages.say("map.ask_proposed", column=column, field=name))
    }
    for name in found.missing:
        if name in renames:
            continue
        answer = _answer(terminal, messages.say("map.ask_missing", field=name)).strip()
        if answer.startswith("="):
            constants[name] = answer[1:].strip()
        elif answer:
            renames[name] = answer
    return replace(job, renames=renames, constants=constants)


def _answer(terminal: TextIO, question: str) -> str:
    """Ask on the terminal, and give what was typed."""
    lines = (Line(line) for line in question.rstrip().split("\n"))
    click.echo(f"{laid_out(lines, Look.of(sys.stderr))} ", nl=False, err=True)
    return terminal.readline()


def _agrees(terminal: TextIO, question: str) -> bool:
    return _is_yes(_answer(terminal, messages.say("ask.yes_or_no", question=question)))


def _is_yes(answer: str) -> bool:
    return answer.strip().lower() in {"y", "yes", "s", "sim"}


def _ask_each(chosen: Sequence[Any], why: str | None) -> list[tuple[Any, str, str]]:
    """Show each unknown event with its contact and the consequence of each decision, and ask."""
    from rd_import.terminal import unknown_event_text, unknown_events_text

    terminal, look = _terminal(), Look.of(sys.stderr)
    click.echo(unknown_events_text(chosen, look=look), err=True)
    words = {"r": "resend", "l": "left", "d": "left", "c": "confirmed"}  # d: deixar
    decisions = []
    for at, event in enumerate(chosen, start=1):
        click.echo(unknown_event_text(event, at, len(chosen), look=look), err=True)
        decision = words.get(_answer(terminal, messages.say("resolve.ask")).strip().lower()[:1])
        if decision is None:
            continue
        reason = why
        if not reason:
            given = _answer(terminal, messages.say("resolve.why")).strip()
            reason = given or messages.say("resolve.looked")
        decisions.append((event, decision, reason))
    return decisions


def _lines_of(only: Path | None) -> frozenset[str] | None:
    if only is None:
        return None
    return frozenset(line.strip() for line in only.read_text("utf-8").splitlines() if line.strip())


@contextlib.contextmanager
def _until_asked_to_stop(wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop after what is in flight; the second ends at once."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        wake()
        _say(messages.say("say.stopping"))

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


# --- what people and machines see --------------------------------------------------------------------------------


def _show(result: RunResult, given: dict[str, Any]) -> None:
    from rd_import.terminal import result_text

    report = _report_of(result)
    if not given["as_json"]:
        command = None
        if "files" in given:
            command = lambda path: _as_command(given, files=(str(path),))  # noqa: E731
        run = _as_named(result.run_id, given)
        look = Look.of(sys.stdout)
        click.echo(result_text(result, report=report, run=run, command=command, look=look))
        if given.get("in_sandbox"):
            send = _as_command(given, in_sandbox=False)
            practised = messages.say("hint", hint=messages.say("result.practised", command=send))
            click.echo(laid_out([Line(practised, style="title")], look))
        return
    _print_json(**result.as_dict() | {"report": report and str(report.path)})


def _report_of(result: RunResult) -> Report | None:
    """Write the report of a run; that it cannot be written does not undo the run."""
    from rd_import.report import write_report

    if result.audit_path is None:
        return None
    try:
        return write_report(result.audit_path)
    except RdImportError as error:
        _say(str(error))
        return None


def _print_json(**facts: object) -> None:
    """Print JSON in which nothing moves a cursor, should a person look at it."""
    given = {"schema_version": JSON_VERSION, **facts}
    click.echo(json.dumps(given, ensure_ascii=False, default=str).translate(messages.JSON_CONTROL))


def _as_command(given: dict[str, Any], **changed: object) -> str:
    """Write the words of an import as it was asked for, with these parameters changed."""
    asked = {**given, **changed}
    words = ["rd-import", *asked["files"]]
    context = click.Context(import_command)
    for one in import_command.params:
        value = asked.get(one.name or "")
        left_out = one.name in NOT_REPEATED or value in (None, (), one.get_default(context))
        if left_out or not isinstance(one, click.Option):
            continue
        option = next(word for word in one.opts if word.startswith("--"))
        if isinstance(value, bool):
            words += [option] if value else one.secondary_opts
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)


def _as_named(run: object, given: dict[str, Any]) -> str:
    """Write a run as the next command must name it: with the ledger and the account that this one was given."""
    words = [str(run)]
    for option, name in (
        ("--ledger", "ledger"),
        ("--account", "label"),
        ("--base-url", "base_url"),
    ):
        words += [option, str(given[name])] if given[name] else []
    return shlex.join(words)


def _say(text: str) -> None:
    if text:
        lines = (Line(messages.plain(line)) for line in text.splitlines())
        click.echo(laid_out(lines, Look.of(sys.stderr)), err=True)


def _fail(text: str, code: int) -> None:
    _say(f"rd-import: {text}")
    if "--json" in sys.argv:
        what, hint = messages.without_hint(text)
        _print_json(error=what, hint=hint, exit_code=code)
    sys.exit(code)


def _exit(code: int) -> None:
    raise click.exceptions.Exit(code)


def _configure_logging(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if verbose else logging.WARNING)
