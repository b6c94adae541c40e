"""Runs that were begun: `status`, `resume`, `resolve`, `report`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.options import (
    ACCOUNT,
    AUDIT,
    EXIT_CODES,
    LEDGER,
    ON_UNKNOWN,
    OUTPUT,
    SENDING,
    SPEED,
    Manual,
    with_options,
)
from rd_import.commands.screen import configure_logging, print_json, say, show
from rd_import.commands.watch import watcher_of
from rd_import.commands.words import delivery_of
from rd_import.layout import Look


@click.command()
@with_options(LEDGER, *OUTPUT)
def status(**given: Any) -> None:
    """List the runs of the ledger, and what each is waiting for."""
    from rd_import.bookkeeping import runs
    from rd_import.importer import ledger_store
    from rd_import.terminal import status_text

    with contextlib.closing(ledger_store(given["ledger"])) as store:
        name, there = store.name, store.exists()
    found = runs(given["ledger"])
    if not there:
        say(messages.say("status.no_ledger", path=name))
    if given["as_json"]:
        print_json(runs=found)
    elif there:
        click.echo(status_text(found, ledger=name, look=Look.of(sys.stdout)))


@click.command(cls=Manual, epilog=EXIT_CODES)
@click.argument("run", metavar="[RUN]", required=False)
@with_options(*SENDING, LEDGER, *ACCOUNT, *SPEED, *OUTPUT, AUDIT)
@ON_UNKNOWN
def resume(run: str | None, **given: Any) -> None:
    """Go on with RUN, or with the newest run that has rows left to send."""
    configure_logging(verbose=given["verbose"])
    from rd_import import importer

    result = importer.resume(run, how=delivery_of(given), watcher=watcher_of(given, None))
    show(result, given)
    raise click.exceptions.Exit(result.exit_code)


@click.command(cls=Manual, epilog=EXIT_CODES)
@click.argument("run", metavar="RUN")
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
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="One id or row number a line.",
)
@click.option("--why", metavar="TEXT", help="Why, for the record.")
@with_options(*SENDING, LEDGER, *ACCOUNT, *SPEED, *OUTPUT)
def resolve(
    run: str, decision: str | None, only: Path | None, why: str | None, **given: Any
) -> None:
    """Decide about the unknown rows of RUN: events that left, and of which no usable answer came.

    Without a decision among the options, each row is shown with its contact, and asked about.
    """
    configure_logging(verbose=given["verbose"])
    from rd_import import importer

    result = importer.resolve(
        run,
        decision or "",
        why=why or "",
        only=_lines_of(only),
        ask=None if decision else lambda chosen: ask.decisions(chosen, why),
        how=delivery_of(given),
        watcher=watcher_of(given, None),
    )
    show(result, given)
    raise click.exceptions.Exit(result.exit_code)


def _lines_of(only: Path | None) -> frozenset[str] | None:
    if only is None:
        return None
    from rd_import.encodings import find_encoding

    data = only.read_bytes()
    text = data.decode(find_encoding(data, str(only), stated=None).codec, "replace")
    lines = (line.strip(" \t\ufeff") for line in text.splitlines())
    return frozenset(line for line in lines if line)


@click.command()
@click.argument(
    "audit", metavar="AUDIT", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@with_options(*OUTPUT)
def report(audit: Path, **given: Any) -> None:
    """Write the report of AUDIT, one HTML page, beside it."""
    from rd_import.report import write_report

    path = write_report(audit).path
    if given["as_json"]:
        print_json(report=str(path))
    else:
        click.echo(messages.say("result.report", path=path))
