"""The questions asked at the terminal."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from rd_import import messages
from rd_import.catalogue import translate
from rd_import.commands.screen import say
from rd_import.errors import JobError
from rd_import.job import Account, Job
from rd_import.layout import Line, Look, laid_out
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rd_import.draft import Draft
    from rd_import.preview import Preview

CONTACTS_ASKED_TWICE = 1000


def open_terminal() -> TextIO:
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


def open_terminal_if(*, needed: bool) -> TextIO | None:
    """Open the person's terminal; where it is not needed, only if it is what the command reads from anyway.

    Raises:
        JobError: It is needed, and there is none.
    """
    if needed:
        return open_terminal()
    return sys.stdin if sys.stdin is not None and sys.stdin.isatty() else None


def answer_to(terminal: TextIO, question: str) -> str:
    """Ask on the terminal, and give what was typed."""
    lines = (Line(line) for line in question.rstrip().split("\n"))
    click.echo(f"{laid_out(lines, Look.of(sys.stderr))} ", nl=False, err=True)
    return terminal.readline()


def agrees(terminal: TextIO, question: str) -> bool:
    """Ask a question that yes or no answers."""
    return is_yes(answer_to(terminal, messages.say("ask.yes_or_no", question=question)))


def is_yes(typed: str) -> bool:
    """Tell whether what was typed means yes, in any of the languages."""
    return typed.strip().lower() in {"y", "yes", "s", "sim"}


def with_type(job: Job, terminal: TextIO | None) -> Job:
    """Let the person choose among the types that the file's header can feed, if nothing tells the type."""
    if terminal is None or job.said.event_type or job.said.type_by or "-" in job.exports:
        return job
    from rd_import.guide import type_named
    from rd_import.settle import feasible_types

    known = feasible_types(job) or list(CURRENT_TYPES)
    for number, name in enumerate(known, start=1):
        line = Line(translate(type_named(name).summary), f"{number:>3} {name:<28} ")
        click.echo(laid_out([line], Look.of(sys.stderr)), err=True)
    while answer := answer_to(terminal, messages.say("map.ask_type")).strip():
        if answer.isdigit() and 0 < int(answer) <= len(known):
            return replace(job, event_type=known[int(answer) - 1])
        if answer.upper() in {*CURRENT_TYPES, *REMOVED_TYPES}:
            return replace(job, event_type=answer.upper())
        say(messages.say("ask.no_such_type", answer=answer, count=len(known)))
    return job


def with_answers(job: Job, found: Draft, terminal: TextIO) -> Job:
    """Ask about columns that may be meant, and about required fields that nothing feeds."""
    renames, constants = dict(job.renames), dict(job.constants)
    renames |= {
        name: column
        for name, column in found.proposed.items()
        if agrees(terminal, messages.say("map.ask_proposed", column=column, field=name))
    }
    open_ones = [name for name in found.missing if name not in renames]
    if open_ones:
        say(messages.say("map.columns", columns=messages.listed(found.columns)))
    columns = {column.strip().casefold(): column for column in found.columns}
    for name in open_ones:
        say(_meaning(job.said.event_type, name))
        while answer := answer_to(terminal, messages.say("map.ask_missing", field=name)).strip():
            if answer.startswith("="):
                constants[name] = answer[1:].strip()
                break
            if answer.casefold() in columns:
                renames[name] = columns[answer.casefold()]
                break
            say(messages.say("map.no_such_column", column=answer))
    return replace(job, renames=renames, constants=constants)


def _meaning(event_type: str | None, field: str) -> str:
    """Say what a field is, with an example; empty where the type is not the same for all rows."""
    from rd_import.guide import type_named

    spec = type_named(event_type).field(field) if event_type else None
    if spec is None:
        return ""
    example = messages.say("types.example", example=spec.example)
    return f"{field}: {translate(spec.description)} {example}"


def confirmed(terminal: TextIO, shown: Preview, account: Account) -> bool:
    """Ask before sending; what reaches many contacts wants more than a key pressed by habit."""
    if not shown.to_send:
        return True
    from rd_import.terminal import destination_of, reminder_text

    click.echo(reminder_text(shown, look=Look.of(sys.stderr)), err=True)
    many = shown.contacts > CONTACTS_ASKED_TWICE
    question = messages.say(
        "ask.number" if many else "ask.send",
        count=shown.to_send,
        contacts=shown.contacts,
        destination=destination_of(account),
    )
    answer = answer_to(terminal, question)
    return re.sub(r"[\s.,]", "", answer) == str(shown.contacts) if many else is_yes(answer)


def decisions(chosen: Sequence[Any], why: str | None) -> list[tuple[Any, str, str]]:
    """Show each unknown event with its contact and the consequence of each decision, and ask."""
    from rd_import.terminal import unknown_event_text, unknown_events_text

    terminal, look = open_terminal(), Look.of(sys.stderr)
    click.echo(unknown_events_text(chosen, look=look), err=True)
    words = {"r": "resend", "l": "left", "d": "left", "c": "confirmed"}  # d: deixar
    decisions = []
    for at, event in enumerate(chosen, start=1):
        click.echo(unknown_event_text(event, at, len(chosen), look=look), err=True)
        while answer := answer_to(terminal, messages.say("resolve.ask")).strip().lower():
            if answer[0] in words:
                break
            say(messages.say("resolve.ask_again", answer=answer))
        if not answer:
            continue
        decision = words[answer[0]]
        reason = why
        if not reason:
            given = answer_to(terminal, messages.say("resolve.why")).strip()
            reason = given or messages.say("resolve.looked")
        decisions.append((event, decision, reason))
    return decisions
