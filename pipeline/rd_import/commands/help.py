"""The commands together, and what `--help` says of them, in the language in use."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import cast

import click
from click_default_group import DefaultGroup

from rd_import import messages
from rd_import.catalogue import translate
from rd_import.commands.account import login, logout, probe
from rd_import.commands.guide import explain, template, types_command
from rd_import.commands.importing import check, import_command
from rd_import.commands.ledger import forget, ledger_group
from rd_import.commands.mapping import map_command
from rd_import.commands.options import EXIT_CODES, LANG
from rd_import.commands.practice import sandbox
from rd_import.commands.runs import report, resolve, resume, status


@click.group(
    cls=cast("type[click.Group]", DefaultGroup),
    default="import",
    default_if_no_args=False,
    epilog=EXIT_CODES,
    commands=[
        import_command,
        check,
        resume,
        status,
        resolve,
        types_command,
        template,
        map_command,
        explain,
        ledger_group,
        report,
        forget,
        probe,
        login,
        logout,
        sandbox,
    ],
)
@click.version_option(package_name="rd-import")
@LANG
def cli() -> None:
    """Send CSV and Parquet exports to RD Station Marketing as events; account for every row, send none twice.

    \b
      rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED
      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox
    """  # noqa: D301 -- \b is click's mark for lines that must not be wrapped


EXAMPLES: dict[str, tuple[str, ...]] = {
    "import": (
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED",
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox",
        "rd-import orders.csv --type ECOMMERCE_ORDER_PLACED --rename identifier=Name --set currency=BRL",
        "rd-import 'calls/*.csv' --type CALL_FINISHED --past skip --yes --json",
    ),
    "check": (
        "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED",
        "rd-import check orders.csv --type ECOMMERCE_ORDER_PLACED --keep",
    ),
    "resume": ("rd-import resume", "rd-import resume 2026-03-05-k4pq7r --yes"),
    "status": ("rd-import status", "rd-import status --json"),
    "resolve": (
        "rd-import resolve 2026-03-05-k4pq7r",
        'rd-import resolve 2026-03-05-k4pq7r --confirmed --only ids.txt --why "seen in RD Station"',
    ),
    "types": ("rd-import types", "rd-import types CALL_FINISHED"),
    "template": ("rd-import template CALL_FINISHED",),
    "map": ("rd-import map orders.csv --type ECOMMERCE_ORDER_PLACED",),
    "explain": ("rd-import explain orders.csv 5 --type ECOMMERCE_ORDER_PLACED",),
    "ledger add": ("rd-import ledger add orders.20260305T140000000000Z.audit.parquet",),
    "ledger check": ("rd-import ledger check *.audit.parquet",),
    "report": ("rd-import report orders.audit.parquet --lang pt-BR",),
    "forget": ("rd-import forget ana@example.com",),
    "probe": ("rd-import probe test@example.com",),
    "login": ("rd-import login", "rd-import login --paste"),
    "logout": ("rd-import logout --account loja-sp",),
    "sandbox": ("rd-import sandbox", "rd-import sandbox --scenario quota-then-recovers"),
}
"""Command → what one may type; shown by its `--help`, the same in every language."""


def _help_texts() -> Iterator[tuple[str, object, str, str]]:
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


HELP_TEXTS = tuple(_help_texts())


def translate_help() -> None:
    """Put the help of every command into the language in use."""
    for _, carrier, attribute, text in HELP_TEXTS:
        setattr(carrier, attribute, translate(text))
    with_codes = {id(carrier) for _, carrier, attribute, _ in HELP_TEXTS if attribute == "epilog"}
    for path, command in _commands(cli, "rd-import"):
        lines = EXAMPLES.get(path.removeprefix("rd-import "), ())
        if lines:
            shown = "\n".join(("\b", messages.say("help.examples"), *(f"  {one}" for one in lines)))
            codes = translate(inspect.cleandoc(EXIT_CODES)) if id(command) in with_codes else ""
            command.epilog = f"{shown}\n\n{codes}".rstrip()
