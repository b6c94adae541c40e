"""The mapping file of an export: proposed by `map`, or kept of a preview that was confirmed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.options import EXIT_CODES, SHAPING, Manual, with_options
from rd_import.commands.screen import configure_logging, print_json, say
from rd_import.commands.words import job_of
from rd_import.errors import JobError
from rd_import.layout import Line, Look, laid_out

if TYPE_CHECKING:
    from rd_import.preview import Preview


@click.command("map", cls=Manual, epilog=EXIT_CODES)
@with_options(*SHAPING)
@click.option(
    "--out",
    metavar="FILE.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Mapping file to write.  [default: FILE's name, .toml]",
)
def map_command(**given: Any) -> None:
    """Propose a mapping file from a real export, and write it; asks on a terminal what is not certain."""
    configure_logging(verbose=given["verbose"])
    from rd_import.draft import draft

    job = job_of(given)
    out = given["out"] or _mapping_path(given["files"])
    if out.exists():
        raise JobError("mapping_exists", path=out)
    asks = sys.stdin is not None and sys.stdin.isatty() and not given["as_json"]
    if asks and job.said.event_type is None and job.said.type_by is None:
        job = ask.with_type(job, sys.stdin)
    found = draft(job, out.parent)
    if asks and (found.missing or found.proposed):
        found = draft(ask.with_answers(job, found, sys.stdin), out.parent)
    _write_mapping(out, found.text)
    if given["as_json"]:
        missing, proposed = list(found.missing), dict(found.proposed)
        print_json(mapping=str(out), missing=missing, proposed=proposed)
        return
    say(messages.say("map.written", path=out))
    for name in found.missing:
        say(messages.say("map.missing", fields=name))
    command = shlex.join(["rd-import", "check", *given["files"], "--map", str(out)])
    text = messages.say("map.next", command=command)
    click.echo(laid_out([Line(text, style="title")], Look.of(sys.stderr)), err=True)


def keep_decisions(terminal: TextIO, shown: Preview, given: dict[str, Any]) -> None:
    """Offer to write what a confirmed preview decided into a mapping file, where there is none yet."""
    path = _mapping_path(given["files"])
    passing = "-" in given["files"] or path.stem.endswith(".rejected") or not shown.to_send
    if given["map_path"] or passing or path.exists():
        return
    if ask.agrees(terminal, messages.say("map.ask_keep", path=path)):
        _write_mapping(path, shown.mapping)
        say(messages.say("map.kept", path=path, map=shlex.quote(str(path))))


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
