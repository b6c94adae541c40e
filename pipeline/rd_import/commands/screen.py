"""What people and machines see of a command: sentences, JSON, the closing screen, the log."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from rd_import import messages
from rd_import.commands.words import answers_to, as_named, mend_command
from rd_import.errors import RdImportError
from rd_import.layout import Line, Look, laid_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rd_import.report import Report
    from rd_import.values import RunResult

JSON_VERSION = 1
LOG = logging.getLogger("rd_import")


def say(text: str) -> None:
    """Print a sentence to a person, apart from what a program reads."""
    if text:
        lines = (Line(messages.plain(line)) for line in text.splitlines())
        click.echo(laid_out(lines, Look.of(sys.stderr)), err=True)


def print_json(**facts: object) -> None:
    """Print JSON in which nothing moves a cursor, should a person look at it."""
    given = {"schema_version": JSON_VERSION, **facts}
    click.echo(json.dumps(given, ensure_ascii=False, default=str).translate(messages.JSON_CONTROL))


def show(
    result: RunResult, given: dict[str, Any], *, again: Callable[..., str] | None = None
) -> None:
    """Print how a run ended.

    Args:
        result: How.
        given: The words of the command.
        again: Writes the command of an import with some of its words changed.
    """
    from rd_import.terminal import result_text

    report = _report_of(result)
    if not given["as_json"]:
        look = Look.of(sys.stdout)
        practice = bool(again and given["in_sandbox"])
        if practice:
            title = Line(messages.say("result.practice"), style="title")
            click.echo(laid_out([title, Line()], look))
        answers = answers_to(given["shown"], given) if again and given.get("shown") else {}
        text = result_text(
            result,
            report=report,
            run=as_named(result.run_id, given),
            command=_mending(result, given, again),
            answered=again(**answers) if again and answers else None,
            look=look,
        )
        click.echo(text)
        if again and practice:
            send = again(in_sandbox=False, **answers)
            practised = messages.say("hint", hint=messages.say("result.practised", command=send))
            click.echo(laid_out([Line(practised, style="title")], look))
        return
    print_json(**result.as_dict() | {"report": report and str(report.path)})


def _mending(
    result: RunResult, given: dict[str, Any], again: Callable[..., str] | None
) -> Callable[[Path], str] | None:
    """Give what writes the command that imports mended rows; None where the run was not asked for in words."""
    if again is not None:
        return lambda path: again(files=(str(path),))
    if not result.rejected_paths:
        return None
    from rd_import.run_folder import RunFolder

    try:
        words = RunFolder.open(result.run_folder).facts["asked"].get("words")
    except RdImportError:
        return None
    return words and (lambda path: mend_command(path, words, given))


def _report_of(result: RunResult) -> Report | None:
    """Write the report of a run; that it cannot be written does not undo the run."""
    from rd_import.report import write_report

    if result.audit_path is None:
        return None
    try:
        return write_report(result.audit_path)
    except RdImportError as error:
        say(str(error))
        return None


def configure_logging(*, verbose: bool) -> None:
    """Write warnings to stderr; with `verbose`, what each request came to as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if verbose else logging.WARNING)
