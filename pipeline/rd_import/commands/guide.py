"""What to read before an import: `types`, `template`, and one row explained."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import Any

import click

from rd_import.commands.options import (
    EXIT_CODES,
    JSON,
    SHAPING,
    Manual,
    complete_type,
    with_options,
)
from rd_import.commands.screen import configure_logging, print_json
from rd_import.commands.watch import watcher_of
from rd_import.commands.words import account_of, job_of
from rd_import.errors import AccountError
from rd_import.layout import Look


@click.command("types")
@click.argument("event_type", metavar="[TYPE]", required=False, shell_complete=complete_type)
@JSON
def types_command(event_type: str | None, *, as_json: bool) -> None:
    """List the event types, or show all fields of TYPE."""
    from rd_import.guide import type_data, type_named, type_text, types_data, types_text

    if event_type is None:
        if as_json:
            print_json(types=types_data())
        else:
            click.echo(types_text(look=Look.of(sys.stdout)))
        return
    found = type_named(event_type)
    if as_json:
        print_json(**type_data(found))
    else:
        click.echo(type_text(found, look=Look.of(sys.stdout)))


@click.command()
@click.argument("event_type", metavar="TYPE", shell_complete=complete_type)
@JSON
def template(event_type: str, *, as_json: bool) -> None:
    """Print a CSV with the columns of TYPE and one row of examples."""
    from rd_import.guide import template_csv, type_named

    found = type_named(event_type)
    text = template_csv(found)
    if as_json:
        example = {spec.column: spec.example for spec in found.fields}
        print_json(event_type=found.name, columns=list(example), example=example)
    else:
        click.echo(text, nl=False)


@click.command(cls=Manual, epilog=EXIT_CODES)
@with_options(*SHAPING)
@click.argument("row", metavar="ROW", type=click.IntRange(min=1))
def explain(row: int, **given: Any) -> None:
    """Show where the values of data row ROW of FILE go, and what became of its event."""
    configure_logging(verbose=given["verbose"])
    from rd_import import importer
    from rd_import.guide import explanation_text

    job = job_of(given)
    with contextlib.suppress(AccountError):  # it needs no credentials
        job = replace(job, account=account_of(given))
    found = importer.explain(job, row, watcher=watcher_of(given, None))
    if given["as_json"]:
        print_json(**found)
    else:
        click.echo(explanation_text(found, look=Look.of(sys.stdout)))
