"""`import`, and `check`, which shows what it would do."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.options import (
    AUDIT,
    EXIT_CODES,
    SENDING,
    SHAPING,
    Manual,
    with_options,
)
from rd_import.commands.practice import in_sandbox
from rd_import.commands.screen import configure_logging, print_json, say, show
from rd_import.commands.watch import watcher_of
from rd_import.commands.words import account_of, answers_to, as_command, as_named, job_of, words_of
from rd_import.errors import AccountError
from rd_import.job import is_loopback
from rd_import.layout import Line, Look, laid_out

if TYPE_CHECKING:
    from rd_import.preview import Preview


@click.command("import", cls=Manual, epilog=EXIT_CODES)
@with_options(*SHAPING, *SENDING, AUDIT)
@click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="Send to a practice server inside this run."
)
def import_command(**given: Any) -> None:
    """Read, check and send FILE..., and write the audit. Shows a preview and asks before it sends."""
    configure_logging(verbose=given["verbose"])
    from rd_import.importer import run

    job = job_of(given)
    with contextlib.ExitStack() as stack:
        if given["in_sandbox"]:
            job = in_sandbox(job, given, stack)
        account = job.account or account_of(given)
        terminal = (
            None if given["yes"] else ask.open_terminal_if(needed=not is_loopback(account.base_url))
        )
        job = ask.with_type(job, terminal)
        given["event_type"] = job.event_type or None
        job = replace(job, account=account, words=words_of(import_command, given))
        result = run(job, watcher=watcher_of(given, terminal))
        show(result, given, again=partial(as_command, import_command, given))
    raise click.exceptions.Exit(result.exit_code)


@click.command(cls=Manual, epilog=EXIT_CODES)
@with_options(*SHAPING)
@click.option("--keep", is_flag=True, help="Leave the run folder, and name it; `resume` sends it.")
def check(**given: Any) -> None:
    """Show what would be sent, and send nothing. Needs no credentials."""
    configure_logging(verbose=given["verbose"])
    job = job_of(given)
    from rd_import import importer

    with contextlib.suppress(AccountError):  # it needs no credentials
        job = replace(job, account=account_of(given))
    job = ask.with_type(job, ask.open_terminal_if(needed=False))
    given["event_type"] = job.event_type or None
    job = replace(job, words=words_of(import_command, given))
    shown = importer.check(job, keep=given["keep"], watcher=watcher_of(given, None))
    if given["as_json"]:
        print_json(
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
            say(messages.say("say.no_rows"))
        kept = shown.run_folder if given["run_dir"] else shown.run_id
        answers = answers_to(shown, given)
        if shown.to_send and len(shown.questions) <= len(answers):
            send = (
                f"rd-import resume {as_named(kept, given)}"
                if given["keep"]
                else as_command(import_command, given, **answers)
            )
            text = messages.say("say.to_send", command=send)
            click.echo(laid_out([Line(text, style="title")], Look.of(sys.stdout)))
    if shown.run_folder:
        say(messages.say("say.run_folder", path=shown.run_folder))
    raise click.exceptions.Exit(shown.exit_code)


def _foreseen(shown: Preview) -> dict[str, int]:
    not_data = sum(export["not_data"] for export in shown.exports) + sum(shown.filtered.values())
    states = {"filtered": not_data, "invalid": shown.invalid_rows}
    states["not_sent"] = shown.rows - shown.invalid_rows - not_data
    return {state: rows for state, rows in states.items() if rows}
