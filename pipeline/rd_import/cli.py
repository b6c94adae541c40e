"""Entry point: words on the command line -> a job. Heavy imports wait until a command needs them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click_default_group import DefaultGroup
from rdstation_events import CURRENT_TYPES

from rd_import.errors import JobError, RdImportError
from rd_import.job import Account, Job, Threshold

if TYPE_CHECKING:
    from rd_import.ledger import Ledger
    from rd_import.preview import Preview
    from rd_import.run_folder import RunFolder
    from rd_import.sandbox import Sandbox
    from rd_import.send import Pace, Sending
    from rd_import.values import RunResult

JSON_VERSION = 1
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


@click.group(cls=DefaultGroup, default="import", default_if_no_args=False, epilog=EXIT_CODES)
@click.version_option(package_name="rd-import")
def cli() -> None:
    """Send CSV and Parquet exports to RD Station Marketing as events; account for every row, send none twice.

    \b
      rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox
    """  # noqa: D301 -- \b is click's mark for lines that must not be wrapped


def _shaping_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide what would be sent."""
    options = [
        click.argument("files", nargs=-1, metavar="FILE..."),
        click.option("--type", "event_type", metavar="TYPE", help="Event type, such as ECOMMERCE_ORDER_PLACED."),
        click.option("--rename", multiple=True, metavar="FIELD=COLUMN", help="Take a field from this column."),
        click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="One value for every row."),
        click.option("--encoding", help="Encoding of the CSV, such as cp1252."),
        click.option("--delimiter", help="Character between cells, such as ';'."),
        click.option("--header/--no-header", "header", default=None, help="Whether the CSV's first line names columns."),
        click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark of amounts."),
        click.option("--dates", type=click.Choice(["dmy", "mdy", "ymd"]), help="Order of day and month in 01/02/2026."),
        click.option("--timezone", help="Zone of times that name none.  [default: America/Sao_Paulo]"),
        click.option("--max-body", type=int, default=200_000, show_default=True, help="Largest request body, bytes."),
        click.option("--max-invalid", default="50%", show_default=True, help="More invalid rows: nothing is sent."),
        click.option("--min-rows", type=int, default=0, show_default=True, help="Fewer rows: nothing is sent."),
        click.option("--ledger", "ledger_path", type=click.Path(path_type=Path, dir_okay=False), help="Ledger file."),
        click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where run folders go."),
        click.option("--account", "label", help="Name of the account in the ledger."),
        click.option("--base-url", help="Address of the API; plain http for this machine only."),
        click.option("--plan", type=click.Choice(["light", "basic", "pro", "advanced"]), help="The account's plan."),
        click.option("--rate", type=click.FloatRange(min=0), help="Requests a minute; 0 = unpaced, this machine only."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines."),
        click.option("-v", "--verbose", is_flag=True, help="Log each request; never contact data."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command("import", epilog=EXIT_CODES)
@_shaping_options
@click.option("--audit", "audit_path", type=click.Path(path_type=Path, dir_okay=False), help="Audit file.")
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds for an answer.")
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Send to a practice server inside this run.")
@click.option("--yes", is_flag=True, help="Send without asking.")
def import_command(**given: Any) -> None:  # noqa: ANN401 -- click's parameters
    """Read, check and send FILE..., and write the audit. Shows a preview and asks before it sends."""
    _configure_logging(verbose=given["verbose"])
    job = _job(given)
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(_sandbox()) if given["in_sandbox"] else None
        account = _account(given, sandbox)
        result = _import(job, account, given, stack)
    _exit(result.exit_code)


@cli.command(epilog=EXIT_CODES)
@_shaping_options
@click.option("--keep", is_flag=True, help="Leave the run folder, and name it.")
def check(**given: Any) -> None:  # noqa: ANN401 -- click's parameters
    """Show what would be sent, and send nothing. Needs no credentials."""
    _configure_logging(verbose=given["verbose"])
    job = _job(given)
    from rd_import.pipeline import SystemClock, ensure_sendable, prepare  # noqa: PLC0415
    from rd_import.terminal import preview_text  # noqa: PLC0415

    folder = prepare(job, SystemClock())
    try:
        with contextlib.ExitStack() as stack:
            ledger, number = _known_ledger(job, given, stack)
            shown = _preview(folder, ledger, number, job, given)
        code = 3 if shown.invalid_rows else 0
        reason = ""
        try:
            ensure_sendable(job, folder)
        except RdImportError as error:
            code, reason = error.exit_code, str(error)
        if given["as_json"]:
            not_data = sum(export["not_data"] for export in shown.exports)
            states = {"filtered": not_data, "invalid": shown.invalid_rows}
            states["not_sent"] = shown.rows - shown.invalid_rows - not_data
            states = {state: rows for state, rows in states.items() if rows}
            _print_json(
                run_id=folder.run_id,
                rows=shown.rows,
                events=shown.events,
                states=states,
                requests=0,
                audit=None,
                exit_code=code,
                preview=shown.as_dict(),
            )
        else:
            click.echo(preview_text(shown, destination="RD Station (nothing is sent by `check`)"))
            _say(reason)
            if not folder.rows:
                _say("the file has a header and no rows.")
            click.echo("")
            click.echo(f"to send it: {_as_command(given)}")
        if given["keep"]:
            _say(f"run folder: {folder.path}")
    finally:
        if not given["keep"]:
            folder.remove()
    _exit(code)


@cli.command()
@click.option("--port", type=int, default=8765, show_default=True, help="0 takes any free port.")
def sandbox(port: int) -> None:
    """Start a small, strict RD Station on this machine to practise on; Ctrl-C ends it."""
    from rd_import.sandbox import Sandbox  # noqa: PLC0415

    try:
        server = Sandbox(port=port)
    except OSError as error:
        raise JobError("port_taken", port=port, reason=error.strerror or str(error)) from error
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: server.stop())
    click.echo(f"export RD_IMPORT_BASE_URL={server.url}")
    click.echo(f"export RD_IMPORT_TOKEN={server.token}")
    _say(f"the sandbox listens; what arrives is shown at {server.url}/ (Ctrl-C ends it)")
    sys.stdout.flush()
    server.serve_forever()


def _give_memory_back() -> None:
    """Have the allocators of polars and pyarrow return memory at once; they read this when they are loaded.

    Measured on 100,000 rows: 322 MB become 279, for 0.2 s (docs/reading.md).
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def main() -> None:
    """Run the command line; an error ends in a sentence and its exit code, never in a traceback."""
    _give_memory_back()
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        _say("stopped; nothing more is sent.")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except RdImportError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _say("stopped at once; the ledger holds what was sent.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a person reads this
        if "-v" in sys.argv or "--verbose" in sys.argv:
            raise
        _fail(f"an internal error ({type(error).__name__}); the ledger holds what was sent.\nhint: add -v for its place in the code", 1)


# --- from words to values ----------------------------------------------------------------------------------------


def _job(given: dict[str, Any]) -> Job:
    if not given["files"]:
        raise JobError("no_exports")
    if not given["event_type"]:
        raise JobError("no_type", types=", ".join(CURRENT_TYPES))
    delimiter = given["delimiter"]
    job = Job(
        exports=tuple(given["files"]),
        event_type=given["event_type"],
        renames=_pairs(given["rename"], "--rename", "FIELD=COLUMN", "--rename identifier=order_number"),
        constants=_pairs(given["constants"], "--set", "FIELD=VALUE", "--set currency=BRL"),
        encoding=given["encoding"],
        delimiter="\t" if delimiter in {"\\t", "tab"} else delimiter,
        header=given["header"],
        decimal=given["decimal"],
        dates=given["dates"],
        timezone=given["timezone"],
        audit_path=given.get("audit_path"),
        ledger_path=_ledger_path(given),
        run_dir=given["run_dir"],
        max_body=given["max_body"],
        max_invalid=Threshold.parse(given["max_invalid"]),
        min_rows=given["min_rows"],
    )
    _refuse_unknown_type(job)
    return job


def _refuse_unknown_type(job: Job) -> None:
    from rdstation_events import REMOVED_TYPES  # noqa: PLC0415

    if job.event_type.upper() not in {*CURRENT_TYPES, *REMOVED_TYPES}:
        raise JobError("unknown_type", name=job.event_type, types=", ".join(CURRENT_TYPES))


def _pairs(words: tuple[str, ...], option: str, form: str, example: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise JobError("bad_pair", option=option, value=word, form=form, example=example)
        pairs[name.strip()] = value
    return pairs


def _ledger_path(given: dict[str, Any]) -> Path | None:
    named = given["ledger_path"] or os.environ.get("RD_IMPORT_LEDGER")
    return Path(named) if named else None


def _account(given: dict[str, Any], sandbox: Sandbox | None) -> Account:
    if sandbox is not None:
        return Account(token=sandbox.token, base_url=sandbox.url, label=given["label"] or "sandbox")
    return Account.from_env(base_url=given["base_url"], label=given["label"])


@contextlib.contextmanager
def _sandbox() -> Iterator[Sandbox]:
    from rd_import.sandbox import Sandbox  # noqa: PLC0415

    with Sandbox() as server:
        yield server


def _per_minute(given: dict[str, Any]) -> float:
    from rdstation_events import api_facts  # noqa: PLC0415

    return float(given["rate"] or api_facts.REQUESTS_PER_MINUTE[given["plan"] or "basic"])


def _pace(given: dict[str, Any], account: Account) -> Pace:
    from rd_import.job import is_loopback  # noqa: PLC0415
    from rd_import.send import Pace  # noqa: PLC0415

    if is_loopback(account.base_url) and not given["rate"]:
        return Pace()
    if given["rate"] == 0:
        raise click.UsageError("--rate 0 (unpaced) is for this machine only; RD Station counts every request.")
    return Pace.per_minute(_per_minute(given))


# --- the main job ------------------------------------------------------------------------------------------------


def _import(job: Job, account: Account, given: dict[str, Any], stack: contextlib.ExitStack) -> RunResult:
    from rd_import.job import is_loopback  # noqa: PLC0415
    from rd_import.pipeline import (  # noqa: PLC0415
        SystemClock,
        deliver,
        ensure_answered,
        ensure_sendable,
        event_type_of,
        prepare,
        refuse,
    )
    from rd_import.service import RdStation, scope_of  # noqa: PLC0415
    from rd_import.terminal import preview_text  # noqa: PLC0415

    clock = SystemClock()
    started = clock.now()
    event_type_of(job)
    ask = None if given["yes"] or is_loopback(account.base_url) else _terminal()
    folder = prepare(job, clock)
    service = RdStation(account, timeout_s=given["timeout"])
    stack.callback(service.close)
    scope = scope_of(account, service.instance())
    ledger = stack.enter_context(_open_ledger(job, given, folder))
    number = ledger.account(scope)
    shown = _preview(folder, ledger, number, job, given)
    if not given["as_json"]:
        click.echo(preview_text(shown, destination=account.base_url))
        click.echo("")
    if not folder.rows:
        _say("the file has a header and no rows; there is nothing to send.")
    try:
        ensure_answered(folder)
    except RdImportError:
        folder.remove()
        raise
    try:
        ensure_sendable(job, folder)
    except RdImportError as error:
        if not is_loopback(account.base_url):
            result = refuse(folder, job=job, started=started, clock=clock, why=str(error).partition("\n")[0])
            _show(result, given)
            _say(str(error))
            return result
        _say(str(error).replace("; nothing was sent", "; sent all the same, this is a practice server"))
    if ask is not None and not _confirmed(ask, shown, account):
        folder.remove()
        raise click.Abort
    with _until_asked_to_stop() as stop_asked, _progress(shown, given) as on_progress:
        result = deliver(
            folder,
            job=job,
            ledger=ledger,
            account=number,
            service=service,
            clock=clock,
            pace=_pace(given, account),
            started=started,
            stop_asked=stop_asked,
            on_progress=on_progress,
        )
    _show(result, given)
    return result


def _open_ledger(job: Job, given: dict[str, Any], folder: RunFolder) -> Ledger:
    from rd_import.ledger import Ledger  # noqa: PLC0415
    from rd_import.run_folder import state_folder  # noqa: PLC0415

    if job.ledger_path is None and given["in_sandbox"]:
        return Ledger.open(folder.path / "ledger.db")
    path = job.ledger_path or state_folder() / "ledger.db"
    if not path.exists():
        _say(f"a new ledger begins at {path}: nothing sent before it is known here")
    return Ledger.open(path)


def _known_ledger(job: Job, given: dict[str, Any], stack: contextlib.ExitStack) -> tuple[Ledger | None, int | None]:
    """Open the ledger that a run would use, if it and the account are there already; `check` makes none."""
    from rd_import.run_folder import state_folder  # noqa: PLC0415

    path = job.ledger_path or state_folder() / "ledger.db"
    if not path.exists() or not os.environ.get("RD_IMPORT_TOKEN"):
        return None, None
    from rd_import.ledger import Ledger  # noqa: PLC0415
    from rd_import.service import RdStation, scope_of  # noqa: PLC0415

    account = Account.from_env(base_url=given["base_url"], label=given["label"])
    service = RdStation(account)
    stack.callback(service.close)
    ledger = stack.enter_context(Ledger.open(path))
    number = ledger.known_account(scope_of(account, service.instance()))
    return (ledger, number) if number is not None else (None, None)


def _preview(folder: RunFolder, ledger: Ledger | None, number: int | None, job: Job, given: dict[str, Any]) -> Preview:
    from rd_import.preview import preview  # noqa: PLC0415

    return preview(folder, ledger, number, max_body=job.max_body, per_minute=_per_minute(given))


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
    click.echo(f"Send {shown.events:,} events to {account.base_url}? This cannot be undone. [y/N] ", nl=False, err=True)
    return terminal.readline().strip().lower() in {"y", "yes", "s", "sim"}


@contextlib.contextmanager
def _until_asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop after what is in flight; the second ends at once."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        _say("stopping after the request in flight; once more to stop at once")

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def _progress(shown: Preview, given: dict[str, Any]) -> Iterator[Callable[[Sending], None]]:
    if given["as_json"] or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sending", total=shown.requests)
        yield lambda sending: bar.update(task, completed=sending.requests)


# --- what people and machines see --------------------------------------------------------------------------------


def _show(result: RunResult, given: dict[str, Any]) -> None:
    from rd_import.terminal import result_text  # noqa: PLC0415

    if not given["as_json"]:
        click.echo(result_text(result))
        return
    _print_json(
        run_id=result.run_id,
        rows=result.rows,
        events=result.events,
        states=result.states,
        requests=result.requests,
        audit=str(result.audit_path),
        rejected_file=[str(path) for path in result.rejected_paths],
        report=None,
        stopped_by=result.stopped_by,
        run_folder=str(result.run_folder),
        exit_code=result.exit_code,
    )


def _print_json(**facts: object) -> None:
    click.echo(json.dumps({"schema_version": JSON_VERSION, **facts}, ensure_ascii=False, default=str))


def _as_command(given: dict[str, Any]) -> str:
    import shlex  # noqa: PLC0415

    words = ["rd-import", *given["files"], "--type", given["event_type"]]
    for option, values in (("--rename", given["rename"]), ("--set", given["constants"])):
        words += [word for value in values for word in (option, value)]
    for option in ("encoding", "delimiter", "decimal", "dates", "timezone"):
        words += [f"--{option}", given[option]] if given[option] else []
    if given["header"] is not None:
        words.append("--header" if given["header"] else "--no-header")
    return shlex.join(words)


def _say(text: str) -> None:
    if text:
        click.echo(text, err=True)


def _fail(text: str, code: int) -> None:
    _say(f"rd-import: {text}")
    if "--json" in sys.argv:
        what, _, hint = text.partition("\nhint: ")
        _print_json(error=what, hint=hint, exit_code=code)
    sys.exit(code)


def _exit(code: int) -> None:
    raise click.exceptions.Exit(code)


def _configure_logging(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if verbose else logging.WARNING)


