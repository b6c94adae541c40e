"""The commands together, and what `--help` says of them, in the language in use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast

import click
from click.shell_completion import CompletionItem
from click_default_group import DefaultGroup

from rd_import import messages
from rd_import.catalogue import translate
from rd_import.commands.account import login, logout, probe
from rd_import.commands.guide import explain, template, types_command
from rd_import.commands.importing import check, import_command
from rd_import.commands.ledger import forget, ledger_group
from rd_import.commands.mapping import map_command
from rd_import.commands.options import EXIT_CODES, LANG, SECTIONS
from rd_import.commands.practice import sandbox
from rd_import.commands.runs import report, resolve, resume, status

COMMANDS: Final[Mapping[str, tuple[click.Command, ...]]] = {
    "Sending": (import_command, check, status, resume, resolve),
    "Getting a file ready": (types_command, template, map_command, explain),
    "What is kept": (report, ledger_group, forget),
    "Account": (login, logout, probe),
    "Practising": (sandbox,),
}
"""Heading → the commands that stand below it in `rd-import --help`."""

MORE = """\b
Environment; an option wins over it:
  RD_IMPORT_TOKEN    access token of the account, in place of rd-import login
  RD_IMPORT_ACCOUNT, RD_IMPORT_BASE_URL, RD_IMPORT_LEDGER
                     as --account, --base-url and --ledger
  RD_IMPORT_KEEP_DAYS
                     days until what was sent is removed from this machine

\b
To have the shell complete commands, options, event types and files (bash;
zsh_source and fish_source likewise):
  eval "$(_RD_IMPORT_COMPLETE=bash_source rd-import)"
"""


_FIRST_SENTENCE: Final = re.compile(r"\.(?=\s|$)|\n\n")


class _Commands(DefaultGroup):  # type: ignore[misc]  # it has no types
    """The commands in sections, each with its whole first sentence; an unknown word is a file for `import`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for heading, commands in COMMANDS.items():
            with formatter.section(translate(heading)):
                formatter.write_dl(
                    [
                        ((one.name or "").ljust(width), _FIRST_SENTENCE.split(one.help or "")[0])
                        for one in commands
                    ]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        return cast("list[CompletionItem]", found) or [CompletionItem(incomplete, type="file")]


@click.group(
    cls=cast("type[click.Group]", _Commands),
    default="import",
    default_if_no_args=False,
    epilog=f"{MORE}\n{EXIT_CODES}",
    commands=[one for commands in COMMANDS.values() for one in commands],
)
@click.version_option(package_name="rd-import")
@LANG
def cli() -> None:
    """Send CSV and Parquet exports to RD Station Marketing as events; account for every row, send none twice.

    \b
      rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox

    Where no command is named, `import` is meant.
    """  # noqa: D301 -- \b is click's mark for lines that must not be wrapped


EXAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    "import": {
        "Look, be asked, and send:": "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED",
        "Practise; nothing reaches RD Station:": "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox",
        "Say which column is meant, and what is the same in every row:": (
            "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --rename identifier=Name --set currency=BRL"
        ),
        "Every day from a scheduler, old calls left out:": (
            "rd-import 'calls/*.csv' --type CALL_FINISHED --past skip --yes --json"
        ),
    },
    "check": {
        "See what would go, and why rows would not:": "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED",
        "Keep what was shown, to send exactly that once it is approved:": (
            "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED --keep"
        ),
    },
    "resume": {
        "Go on with the newest run that has rows left:": "rd-import resume",
        "Go on with this one:": "rd-import resume 2026-03-05-k4pq7r",
    },
    "status": {
        "See what each run waits for:": "rd-import status",
        "The same for a program:": "rd-import status --json",
    },
    "resolve": {
        "Decide row by row:": "rd-import resolve 2026-03-05-k4pq7r",
        "Close those that you found in RD Station:": (
            'rd-import resolve 2026-03-05-k4pq7r --confirmed --only ids.txt --why "seen in RD Station"'
        ),
    },
    "types": {
        "List the types:": "rd-import types",
        "See the fields of one:": "rd-import types CALL_FINISHED",
    },
    "template": {"Begin an empty file:": "rd-import template CALL_FINISHED > calls.csv"},
    "map": {
        "Write orders.toml, and be asked what is not certain:": (
            "rd-import map orders.csv --type ECOMMERCE_ORDER_PLACED"
        ),
    },
    "explain": {
        "Follow the fifth row below the header:": "rd-import explain orders.csv 5 --type ECOMMERCE_ORDER_PLACED",
    },
    "ledger add": {
        "Take over what another machine sent:": "rd-import ledger add orders.20260305T140000000000Z.audit.parquet",
    },
    "ledger check": {
        "Compare the ledger with the audits of this folder:": "rd-import ledger check *.audit.parquet",
    },
    "report": {
        "Write the page again, in Portuguese:": "rd-import report orders.audit.parquet --lang pt-BR",
    },
    "forget": {"Answer a person's request for erasure:": "rd-import forget ana@example.com"},
    "probe": {"Ask with a contact of your own:": "rd-import probe test@example.com"},
    "login": {
        "In the browser of this machine:": "rd-import login",
        "Where there is no browser:": "rd-import login --paste",
    },
    "logout": {"Forget one account's tokens:": "rd-import logout --account loja-sp"},
    "sandbox": {
        "A server that answers as RD Station does:": "rd-import sandbox",
        "One that says for a while that the limit is reached:": (
            "rd-import sandbox --scenario quota-then-recovers"
        ),
    },
}
"""Command → what one may want, and how to type it; the commands are the same in every language."""


def _help_texts() -> Iterator[tuple[str, object, str, str]]:
    """Give each text of `--help`: its command, what carries it, in which attribute, and the English."""
    for path, command in _commands(cli, "rd-import"):
        for attribute in ("help", "short_help", "epilog", "options_metavar", "subcommand_metavar"):
            if text := getattr(command, attribute, None):
                yield path, command, attribute, inspect.cleandoc(text)
        for one in command.params:
            for attribute in ("help", "metavar"):
                if text := getattr(one, attribute, None):
                    yield path, one, attribute, text


def other_help_texts() -> Iterator[str]:
    """Give the texts of `--help` that no command carries: headings, and what examples are for."""
    yield from COMMANDS
    yield from SECTIONS
    for examples in EXAMPLES.values():
        yield from examples


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, f"{path} {name}")


HELP_TEXTS = tuple(_help_texts())


def translate_help() -> None:
    """Put the help of every command into the language in use."""
    for _, carrier, attribute, text in HELP_TEXTS:
        setattr(carrier, attribute, translate(text))
    with_codes = {id(carrier) for _, carrier, attribute, _ in HELP_TEXTS if attribute == "epilog"}
    for path, command in _commands(cli, "rd-import"):
        lines = [
            line
            for what, example in EXAMPLES.get(path.removeprefix("rd-import "), {}).items()
            for line in (f"  {translate(what)}", f"    {example}")
        ]
        if lines:
            shown = "\n".join(("\b", messages.say("help.examples"), *lines))
            codes = translate(inspect.cleandoc(EXIT_CODES)) if id(command) in with_codes else ""
            command.epilog = f"{shown}\n\n{codes}".rstrip()
