"""Entry point: words on the command line -> a job. Heavy imports wait until a command needs them."""

from __future__ import annotations

import contextlib
import getpass
import inspect
import json
import logging
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
from click_default_group import DefaultGroup

from rd_import import messages
from rd_import.catalogue import LANGUAGES, language_of, speak, translate
from rd_import.errors import AccountError, JobError, RdImportError
from rd_import.job import Account, Job, Threshold, is_loopback
from rd_import.key_line import Policy
from rd_import.layout import Line, Look, laid_out
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rd_import.ledger_store import Store
    from rd_import.mapping_file import Mapping
    from rd_import.preview import Preview
    from rd_import.run_folder import RunFolder
    from rd_import.sandbox import Sandbox
    from rd_import.session import Session, Speed
    from rd_import.values import RunResult

JSON_VERSION = 1
CONTACTS_ASKED_TWICE = 1000
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
_LEDGER = click.option(
    "--ledger", "ledger_named", metavar="PATH|URL", help="Ledger: a file, or postgresql://…"
)
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
@click.option("--audit", "audit_path", type=_PathOption, help="Audit file.")
@click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="Send to a practice server inside this run."
)
def import_command(**given: Any) -> None:
    """Read, check and send FILE..., and write the audit. Shows a preview and asks before it sends."""
    _configure_logging(verbose=given["verbose"])
    job = _job(given)
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(_sandbox()) if given["in_sandbox"] else None
        code = _import(job, _account(given, sandbox), given, stack)
    _exit(code)


@cli.command(epilog=EXIT_CODES)
@_with(*_SHAPING)
@click.option("--keep", is_flag=True, help="Leave the run folder, and name it; `resume` sends it.")
def check(**given: Any) -> None:
    """Show what would be sent, and send nothing. Needs no credentials."""
    _configure_logging(verbose=given["verbose"])
    job = _job(given)
    from rd_import.pipeline import SystemClock, prepare, questions, stands
    from rd_import.terminal import preview_text

    clock = SystemClock()
    folder = prepare(job, clock)
    try:
        with contextlib.ExitStack() as stack:
            session = _known_session(given, stack)
            ledger, number = (session.ledger, session.number) if session else (None, None)
            stand = stands(job, folder, ledger, number, clock.now())
            shown = _preview(folder, ledger, number, stand, job, given)
        open_ones = questions(job, folder, stand)
        code = 7 if open_ones else 3 if shown.invalid_rows else 0
        if given["as_json"]:
            _print_json(
                run_id=folder.run_id,
                rows=shown.rows,
                events=shown.events,
                states=_foreseen(shown),
                requests=0,
                audit=None,
                exit_code=code,
                questions=[str(one) for one in open_ones],
                preview=shown.as_dict(),
            )
        else:
            click.echo(
                preview_text(
                    shown, destination=messages.say("preview.check"), look=Look.of(sys.stdout)
                )
            )
            for one in open_ones:
                _say(str(one))
            if not folder.rows:
                _say(messages.say("say.no_rows"))
            click.echo("")
            kept = folder.path if given["run_dir"] else folder.run_id
            send = f"rd-import resume {kept}" if given["keep"] else _as_command(given)
            click.echo(messages.say("say.to_send", command=send))
        if given["keep"]:
            _say(messages.say("say.run_folder", path=folder.path))
    finally:
        if not given["keep"]:
            folder.remove()
    _exit(code)


@cli.command(epilog=EXIT_CODES)
@click.argument("run", required=False)
@_with(*_SENDING, _LEDGER, *_ACCOUNT, *_SPEED, *_OUTPUT)
@click.option("--audit", "audit_path", type=_PathOption, help="Audit file.")
@click.option(
    "--on-unknown", type=click.Choice(["hold", "resend"]), default="hold", show_default=True
)
def resume(run: str | None, **given: Any) -> None:
    """Go on with RUN, or with the newest run that has rows left to send."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.pipeline import SystemClock, stands

    with contextlib.ExitStack() as stack:
        session = _session(_account(given, None), given, stack)
        folder, audit_path = _pending_run(session, run, given)
        job = _job_of(folder, given)
        _refuse_open_questions(job, folder, session)
        stand = stands(job, folder, session.ledger, session.number, SystemClock().now())
        total = stand.to_send(folder.events)
        code = _deliver(job, folder, audit_path, session, given, total=total)
    _exit(code)


@cli.command()
@_with(_LEDGER, *_OUTPUT)
def status(**given: Any) -> None:
    """List the runs of the ledger, and what each is waiting for."""
    from rd_import.ledger import Ledger
    from rd_import.ledger_rows import from_us
    from rd_import.terminal import status_text

    with contextlib.closing(_ledger_store(given)) as store:
        name, there = store.name, store.exists()
    if not there:
        _say(messages.say("status.no_ledger", path=name))
        if given["as_json"]:
            _print_json(runs=[])
        return
    with Ledger.open(store) as ledger:
        found = [
            {
                "run_id": run["run"],
                "event_type": run["event_type"],
                "account": run["scope"],
                "started_at": from_us(run["started_us"]),
                "finished_at": from_us(run["finished_us"]),
                "running": ledger.is_running(run["run"]),
                "states": json.loads(run["states"]) if run["states"] else None,
                "audit": run["audit_path"],
            }
            for run in ledger.runs()
        ]
    if given["as_json"]:
        _print_json(runs=found)
    else:
        click.echo(status_text(found, ledger=name))


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
    from rd_import.pipeline import SystemClock
    from rd_import.resolve import decide_all, unknown_events

    with contextlib.ExitStack() as stack:
        session = _session(_account(given, None), given, stack)
        folder, audit_path = _run_folder(session, run, needs_bodies=False)
        chosen = unknown_events(
            folder,
            session.ledger,
            session.number,
            only=_lines_of(only),
            decided=decision == "withdraw",
        )
        if not chosen:
            raise JobError("nothing_to_resolve", run=run)
        if decision is None:
            decisions = _ask_each(chosen, why)
        elif not why:
            raise JobError("resolve_how")
        else:
            decisions = [(event, decision, why) for event in chosen]
        now = SystemClock().now()
        done = decide_all(session.ledger, session.number, decisions, by=getpass.getuser(), now=now)
        for event, refused in done.refused:
            _say(
                messages.say(
                    "resolve.refused", row=event.row_number, why=messages.unresolvable(refused)
                )
            )
        _say(messages.say("resolve.done", count=done.decided, refused=len(done.refused)))
        job = _job_of(folder, given)
        if done.ordered and not folder.has_bodies:
            _say(messages.say("resolve.bodies_gone"))
        if done.ordered and folder.has_bodies:
            total = len(done.ordered)
            code = _deliver(job, folder, audit_path, session, given, only=done.ordered, total=total)
        else:
            code = _rewrite_audit(folder, audit_path, session, given)
    _exit(code)


@cli.group("ledger")
def ledger_group() -> None:
    """Rebuild the ledger from audits, or verify it."""


@ledger_group.command("add")
@click.argument(
    "audits",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="AUDIT...",
)
@_with(_LEDGER, *_OUTPUT)
def ledger_add(audits: tuple[Path, ...], **given: Any) -> None:
    """Take over what AUDIT... know: accepted events, and those in doubt. Open audits (.open) count as in doubt."""
    from rd_import.audit import keys_of_audit
    from rd_import.ledger import Ledger

    changed = {}
    with Ledger.open(_ledger_store(given)) as ledger:
        for path in audits:
            facts, known = keys_of_audit(path)
            changed[str(path)] = ledger.join(ledger.account(facts["rd_import.scope"]), known)
    if given["as_json"]:
        _print_json(audits=changed)
    for name, count in changed.items():
        _say(messages.say("ledger.taken", count=count, path=name))


@ledger_group.command("check")
@click.argument(
    "audits",
    nargs=-1,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="[AUDIT]...",
)
@_with(_LEDGER, *_OUTPUT)
def ledger_check(audits: tuple[Path, ...], **given: Any) -> None:
    """Verify that the ledger is whole and holds all that AUDIT... say was accepted; exit 1 with the differences."""
    from rd_import.ledger import Ledger
    from rd_import.ledger_check import differences

    with contextlib.closing(_ledger_store(given)) as store:
        if not store.exists():
            raise JobError("no_ledger", path=store.name)
    with Ledger.open(store) as ledger:
        found = differences(ledger, audits)
    if given["as_json"]:
        _print_json(differences=found, exit_code=1 if found else 0)
    for line in found[:20]:
        _say(line)
    _say(
        messages.say("ledger.differences", count=len(found))
        if found
        else messages.say("ledger.whole")
    )
    _exit(1 if found else 0)


@cli.command()
@click.argument("audit", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_with(*_OUTPUT)
def report(audit: Path, **given: Any) -> None:
    """Write the report of AUDIT, one HTML page, beside it."""
    from rd_import.report import write_report

    path = write_report(audit)
    if given["as_json"]:
        _print_json(report=str(path))
    else:
        click.echo(messages.say("result.report", path=path))


@cli.command()
@click.argument("email")
@_with(_LEDGER, *_ACCOUNT, *_OUTPUT)
def probe(email: str, **given: Any) -> None:
    """Find out on your own test contact EMAIL what the API's pages leave open, and remember it for the account."""
    _configure_logging(verbose=given["verbose"])
    from rd_import.probe import run_probe

    with contextlib.ExitStack() as stack:
        session = _session(_account(given, None), given, stack)
        terminal = _terminal()

        def ask(question: str) -> bool:
            click.echo(messages.say("ask.yes_or_no", question=question), nl=False, err=True)
            return _is_yes(terminal.readline())

        facts = run_probe(session.service, session.ledger, session.number, email, ask=ask, say=_say)
    if given["as_json"]:
        _print_json(**facts)


@cli.command()
@_LANG
@click.option("--port", type=int, default=8765, show_default=True, help="0 takes any free port.")
@click.option(
    "--scenario", help="Name or TOML file of how the server behaves, such as quota-then-recovers."
)
def sandbox(port: int, scenario: str | None) -> None:
    """Start a small, strict RD Station on this machine to practise on; Ctrl-C ends it."""
    from rd_import.sandbox import Sandbox, Scenario

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
    """Have the allocators of polars and pyarrow return memory at once; they read this when they are loaded.

    Measured on 100,000 rows: 322 MB become 279, for 0.2 s (docs/reading.md).
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def help_texts() -> Iterator[tuple[str, object, str, str]]:
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


_HELP = tuple(help_texts())


def _speak(words: list[str]) -> None:
    """Choose the language before the words are parsed, and put the help into it."""
    speak(language_of(words, os.environ))
    for _, carrier, attribute, text in _HELP:
        setattr(carrier, attribute, translate(text))


def main() -> None:
    """Run the command line; an error ends in a sentence and its exit code, never in a traceback."""
    _speak(sys.argv[1:])
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # until a command knows better: as Ctrl-C
    _give_memory_back()
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort as error:
        at_once = isinstance(error.__cause__, KeyboardInterrupt)
        _say(messages.say("say.stopped_at_once" if at_once else "say.stopped"))
        sys.exit(130)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except RdImportError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if "-v" in sys.argv or "--verbose" in sys.argv:
            raise
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
        policy=Policy(
            resend_unknown=given["on_unknown"] == "resend", send_changed=given["changed"] == "send"
        ),
        past=given["past"],
        repeats=given["repeats"],
        max_age_days=given["max_age"],
        **_stops(given),
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


def _job_of(folder: RunFolder, given: dict[str, Any]) -> Job:
    """Make the job of a run that is on disk: what shapes its events is settled, how it is sent is given anew."""
    asked = folder.facts["asked"]
    return Job(
        exports=tuple(export["path"] for export in folder.facts["exports"]),
        event_type=folder.facts["event_type"],
        policy=Policy(
            resend_unknown=given.get("on_unknown") == "resend", send_changed=asked["send_changed"]
        ),
        past=asked["past"],
        repeats=asked["repeats"],
        max_age_days=asked["max_age_days"],
        max_invalid=Threshold.parse(asked["max_invalid"]),
        min_rows=asked["min_rows"],
        **_stops(given),
    )


def _stops(given: dict[str, Any]) -> dict[str, Any]:
    if "max_unknown" not in given:
        return {}
    return {
        "max_unknown": given["max_unknown"],
        "max_refused": Threshold.parse(given["max_refused"]),
    }


def _pairs(words: tuple[str, ...], option: str, form: str, example: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise JobError("bad_pair", option=option, value=word, form=form, example=example)
        pairs[name.strip()] = value
    return pairs


def _named_ledger(given: dict[str, Any]) -> str | None:
    return given["ledger_named"] or os.environ.get("RD_IMPORT_LEDGER") or None


def _ledger_store(given: dict[str, Any]) -> Store:
    from rd_import.ledger_store import store_of
    from rd_import.session import default_ledger_path

    return store_of(_named_ledger(given) or default_ledger_path())


def _account(given: dict[str, Any], sandbox: Sandbox | None) -> Account:
    if sandbox is not None:
        return Account(token=sandbox.token, base_url=sandbox.url, label=given["label"] or "sandbox")
    return Account.from_env(base_url=given["base_url"], label=given["label"])


def _speed(given: dict[str, Any]) -> Speed:
    from rd_import.session import Speed

    return Speed.of(plan=given["plan"], rate=given["rate"])


@contextlib.contextmanager
def _sandbox() -> Iterator[Sandbox]:
    from rd_import.sandbox import Sandbox

    with Sandbox() as server:
        yield server


def _session(
    account: Account,
    given: dict[str, Any],
    stack: contextlib.ExitStack,
    own_ledger: Path | None = None,
) -> Session:
    from rd_import.session import Session

    named = own_ledger or _named_ledger(given)
    announce = (
        (lambda _: None) if own_ledger else _announce_ledger
    )  # a practice run has a ledger of its own
    opened = Session.open(
        account, named, timeout_s=given.get("timeout", 60.0), on_new_ledger=announce
    )
    return stack.enter_context(opened)


def _known_session(given: dict[str, Any], stack: contextlib.ExitStack) -> Session | None:
    """Open what a run would use, if ledger and credentials are there already; `check` makes none."""
    with contextlib.closing(_ledger_store(given)) as store:
        if not store.exists():
            return None
    try:
        account = _account(given, None)
    except AccountError:
        return None
    return _session(account, given, stack)


def _announce_ledger(name: str) -> None:
    what = messages.say("say.new_ledger", path=name)
    _say(messages.with_hint(what, messages.say("say.new_ledger_hint")))


# --- the main job ------------------------------------------------------------------------------------------------


def _import(job: Job, account: Account, given: dict[str, Any], stack: contextlib.ExitStack) -> int:
    from rd_import.audit import claim_audit_path, default_audit_path
    from rd_import.pipeline import (
        SystemClock,
        event_type_named,
        prepare,
        questions,
        refuse,
        stands,
        unfinished_run,
    )
    from rd_import.terminal import preview_text

    clock = SystemClock()
    started = clock.now()
    if job.said.event_type is not None:
        event_type_named(job.said.event_type, job.exports)
    practice = is_loopback(account.base_url)
    terminal = None if given["yes"] or practice else _terminal()
    _speed(given).pace(account)
    audit_path = given["audit_path"] or default_audit_path(job.exports[0], started)
    claim_audit_path(audit_path, named=given["audit_path"] is not None)
    folder = prepare(job, clock)
    types = folder.facts["event_types"]
    if account.uses_api_key and types != ["CONVERSION"]:
        folder.remove()
        raise JobError("only_conversions", event_type=folder.facts["event_type"])
    if given["in_sandbox"]:
        stack.callback(folder.remove)  # the server that it was sent to ends with this run
    own = folder.path / "ledger.db" if given["in_sandbox"] and not given["ledger_named"] else None
    unsent = stack.enter_context(_removed_unless_sent(folder))
    session = _session(account, given, stack, own)
    earlier = unfinished_run(job, folder, session.ledger, session.number)
    if earlier is not None:
        unsent.close()
        folder, audit_path = earlier[0], given["audit_path"] or earlier[1]
        _say(messages.say("say.going_on", run=folder.run_id))
    stand = stands(job, folder, session.ledger, session.number, clock.now())
    one_each = account.uses_api_key
    shown = _preview(folder, session.ledger, session.number, stand, job, given, one_each=one_each)
    if not given["as_json"]:
        click.echo(
            preview_text(
                shown,
                destination=account.base_url,
                label=account.label if session.trusted_label else None,
                look=Look.of(sys.stdout),
            )
        )
        click.echo("")
    if not folder.rows:
        _say(messages.say("say.no_rows"))
    open_ones = questions(job, folder, stand)
    for one in open_ones:
        warns = practice and one.key != "open_questions"
        _say(f"{one}\n{messages.say('say.practice')}" if warns else str(one))
    if practice:
        open_ones = [one for one in open_ones if one.key == "open_questions"]
    if open_ones:
        why = str(open_ones[0]).partition("\n")[0]
        result = refuse(folder, audit_path=audit_path, started=started, clock=clock, why=why)
        _show(result, given)
        return result.exit_code
    if terminal is not None and not _confirmed(terminal, shown, account):
        raise click.Abort
    unsent.pop_all()
    return _deliver(job, folder, audit_path, session, given, total=shown.to_send)


def _deliver(
    job: Job,
    folder: RunFolder,
    audit_path: Path,
    session: Session,
    given: dict[str, Any],
    *,
    total: int,
    only: frozenset[bytes] | None = None,
) -> int:
    from rd_import.pipeline import SystemClock, deliver
    from rd_import.progress import Progress, progress_on

    clock = SystemClock()
    session.service.ready()
    pace = _speed(given).pace(session.account)
    with (
        _until_asked_to_stop(session.exchange.wake) as stop_asked,
        progress_on(sys.stderr, Progress(total, pace.interval_s)) as on_progress,
    ):
        result = deliver(
            folder,
            job=job,
            audit_path=audit_path,
            ledger=session.ledger,
            account=session.number,
            exchange=session.exchange,
            clock=clock,
            pace=pace,
            started=clock.now(),
            stop_asked=stop_asked,
            on_progress=on_progress,
            only=only,
        )
    _show(result, given)
    return result.exit_code


def _removed_unless_sent(folder: RunFolder) -> contextlib.ExitStack:
    """Remove a run folder, which holds people's data, however the command ends, unless sending begins."""
    unsent = contextlib.ExitStack()
    unsent.callback(folder.remove)
    return unsent


def _refuse_open_questions(job: Job, folder: RunFolder, session: Session) -> None:
    """A preview that was kept and never sent is asked about like any other."""
    from rd_import.pipeline import SystemClock, questions, stands

    if folder.facts.get("decided") or is_loopback(session.account.base_url):
        return
    stand = stands(job, folder, session.ledger, session.number, SystemClock().now())
    for one in questions(job, folder, stand):
        raise one


def _rewrite_audit(
    folder: RunFolder, audit_path: Path, session: Session, given: dict[str, Any]
) -> int:
    from rd_import.pipeline import SystemClock, conclude
    from rd_import.send import Sending

    clock = SystemClock()
    result = conclude(
        folder,
        session.ledger,
        session.number,
        audit_path,
        Sending(),
        started=clock.now(),
        clock=clock,
    )
    _show(result, given)
    return result.exit_code


def _pending_run(
    session: Session, run: str | None, given: dict[str, Any]
) -> tuple[RunFolder, Path]:
    """Find the run to go on with: the named one, or the newest with rows left to send."""
    if run is not None:
        folder, audit_path = _run_folder(session, run)
        return folder, given["audit_path"] or audit_path
    for one in session.ledger.runs():
        states = json.loads(one["states"]) if one["states"] else {"not_sent": 1}
        mine = one["account"] == session.number and not session.ledger.is_running(one["run"])
        if mine and any(states.get(state) for state in ("not_sent", "deferred")):
            folder, audit_path = _run_folder(session, one["run"])
            return folder, given["audit_path"] or audit_path
    raise JobError("nothing_to_resume", path=session.ledger.store.name)


def _run_folder(session: Session, run: str, *, needs_bodies: bool = True) -> tuple[RunFolder, Path]:
    """Open a run's folder and name its audit; a kept preview that was never sent has no line in the ledger yet."""
    from rd_import.audit import default_audit_path
    from rd_import.pipeline import SystemClock
    from rd_import.run_folder import RunFolder, state_folder

    found = next((one for one in session.ledger.runs() if one["run"] == run), None)
    kept = Path(run) if Path(run).is_dir() else state_folder() / "runs" / run
    if found is None and not kept.is_dir():
        raise JobError("no_such_run", run=run, path=session.ledger.store.name)
    if found is None:
        folder = RunFolder.open(kept)
        return folder, default_audit_path(folder.facts["exports"][0]["path"], SystemClock().now())
    if found["account"] != session.number:
        raise JobError("other_account", run=run, scope=found["scope"])
    if session.ledger.is_running(run):
        raise JobError("is_running", run=run)
    folder = RunFolder.open(Path(found["folder"]))
    if needs_bodies and not folder.has_bodies:
        raise JobError("bodies_gone", run=run)
    return folder, Path(found["audit_path"])


def _preview(
    folder: RunFolder,
    ledger: Any,
    number: int | None,
    stand: Any,
    job: Job,
    given: dict[str, Any],
    *,
    one_each: bool = False,
) -> Preview:
    from rd_import.preview import preview

    per_minute = _speed(given).per_minute or 1e9
    return preview(
        folder,
        ledger,
        number,
        stand,
        max_body=job.max_body,
        per_minute=per_minute,
        one_each=one_each,
    )


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


def _confirmed(terminal: TextIO, shown: Preview, account: Account) -> bool:
    """Ask before sending; what reaches many contacts wants more than a key pressed by habit."""
    many = shown.contacts > CONTACTS_ASKED_TWICE
    question = messages.say(
        "ask.number" if many else "ask.send",
        count=shown.to_send,
        contacts=shown.contacts,
        destination=account.base_url,
    )
    click.echo(question, nl=False, err=True)
    answer = terminal.readline()
    return re.sub(r"[\s.,]", "", answer) == str(shown.contacts) if many else _is_yes(answer)


def _is_yes(answer: str) -> bool:
    return answer.strip().lower() in {"y", "yes", "s", "sim"}


def _ask_each(chosen: list[Any], why: str | None) -> list[tuple[Any, str, str]]:
    """Show each unknown event with its contact and the consequence of each decision, and ask."""
    from rd_import.terminal import unknown_event_text

    terminal = _terminal()
    words = {"r": "resend", "l": "left", "d": "left", "c": "confirmed"}  # d: deixar
    decisions = []
    for event in chosen:
        click.echo(unknown_event_text(event), err=True)
        click.echo(messages.say("resolve.ask"), nl=False, err=True)
        decision = words.get(terminal.readline().strip().lower()[:1])
        if decision is None:
            continue
        reason = why
        if not reason:
            click.echo(messages.say("resolve.why"), nl=False, err=True)
            reason = terminal.readline().strip() or messages.say("resolve.looked")
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
        click.echo(result_text(result, report=report, look=Look.of(sys.stdout)))
        return
    _print_json(
        run_id=result.run_id,
        rows=result.rows,
        events=result.events,
        states=result.states,
        requests=result.requests,
        audit=str(result.audit_path),
        rejected_file=[str(path) for path in result.rejected_paths],
        report=report and str(report),
        stopped_by=result.stopped_by,
        proof=result.proof,
        run_folder=str(result.run_folder),
        exit_code=result.exit_code,
    )


def _report_of(result: RunResult) -> Path | None:
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
    click.echo(
        json.dumps({"schema_version": JSON_VERSION, **facts}, ensure_ascii=False, default=str)
    )


def _as_command(given: dict[str, Any]) -> str:
    words = ["rd-import", *given["files"]]
    for option, value in (
        ("--type", given["event_type"]),
        ("--map", given["map_path"]),
        ("--type-by", given["type_by"]),
        ("--suppress", given["suppress"]),
    ):
        words += [option, str(value)] if value else []
    for option, values in (
        ("--lookup", given["lookup"]),
        ("--rename", given["rename"]),
        ("--set", given["constants"]),
        ("--key", given["key"]),
    ):
        words += [word for value in values for word in (option, value)]
    for option in ("encoding", "delimiter", "decimal", "dates", "timezone", "past", "repeats"):
        words += [f"--{option}", given[option]] if given[option] else []
    if given["header"] is not None:
        words.append("--header" if given["header"] else "--no-header")
    return shlex.join(words)


def _say(text: str) -> None:
    if text:
        lines = (Line(line) for line in text.splitlines())
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
