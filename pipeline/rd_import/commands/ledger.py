"""What the ledger knows: `ledger add`, `ledger check`, `forget`."""

from __future__ import annotations

from typing import Any

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.options import LEDGER, OUTPUT, with_options
from rd_import.commands.screen import configure_logging, print_json, say


class _Audit(click.Path):
    """An audit that is there, on this machine or at an address."""

    def __init__(self) -> None:
        super().__init__(path_type=str, exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if "://" in value else str(super().convert(value, param, ctx))


@click.group("ledger")
def ledger_group() -> None:
    """Rebuild the ledger from audits, or verify it."""


@ledger_group.command("add", short_help="Take over what audits know.")
@click.argument("audits", nargs=-1, required=True, type=_Audit(), metavar="AUDIT...")
@with_options(LEDGER, *OUTPUT)
def ledger_add(audits: tuple[str, ...], **given: Any) -> None:
    """Take over what AUDIT... know: accepted events, and those in doubt. Open audits (.open) count as in doubt."""
    from rd_import.bookkeeping import add_audits

    changed = add_audits(audits, ledger=given["ledger"])
    if given["as_json"]:
        print_json(audits=changed)
    for name, count in changed.items():
        say(messages.say("ledger.taken", count=count, path=name))


@ledger_group.command("check", short_help="Verify that the ledger is whole.")
@click.argument("audits", nargs=-1, type=_Audit(), metavar="[AUDIT]...")
@with_options(LEDGER, *OUTPUT)
def ledger_check(audits: tuple[str, ...], **given: Any) -> None:
    """Verify that the ledger is whole and holds all that AUDIT... say was accepted; exit 1 with the differences."""
    from rd_import.bookkeeping import check_ledger

    found = check_ledger(audits, ledger=given["ledger"])
    if given["as_json"]:
        print_json(differences=found, exit_code=1 if found else 0)
    for line in found[:20]:
        say(line)
    if not found:
        say(messages.say("ledger.whole"))
        return
    say(
        messages.with_hint(
            messages.say("ledger.differences", count=len(found)), messages.say("check.next")
        )
    )
    raise click.exceptions.Exit(1)


@click.command()
@click.argument("email", metavar="EMAIL")
@click.option("--yes", is_flag=True, help="Erase without asking.")
@with_options(LEDGER, *OUTPUT)
def forget(email: str, *, yes: bool, **given: Any) -> None:
    """Erase a person from what this machine keeps, name what it cannot reach, and send them nothing again."""
    configure_logging(verbose=given["verbose"])
    from rd_import.bookkeeping import forget as forget_person

    if not yes:
        terminal = ask.open_terminal()
        if not ask.is_yes(ask.answer_to(terminal, messages.say("forget.ask"))):
            say(messages.say("forget.declined"))
            raise click.exceptions.Exit(130)
    done = forget_person(email, ledger=given["ledger"])
    if given["as_json"]:
        print_json(
            ledger_lines=done.ledger_lines,
            erased=done.erased,
            unreachable=[{"why": why, "place": place} for why, place in done.unreachable],
        )
        return
    say(messages.say("forget.ledger", count=done.ledger_lines))
    for place, rows in done.erased.items():
        say(messages.say("forget.erased", count=rows, place=place))
    say(messages.say("forget.left"))
    for why, place in done.unreachable:
        say(f"  {messages.say(f'forget.{why}', place=place)}")
    say(f"  {messages.say('forget.copies')}")
