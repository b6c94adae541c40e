"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rd_import.catalogue import LANGUAGES

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

PORT = click.IntRange(0, 65535)

LEDGER = click.option("--ledger", metavar="PATH|URL", help="Ledger: a file, or postgresql://…")

ACCOUNT = [
    click.option("--account", "label", help="Name of the account in the ledger."),
    click.option("--base-url", help="Address of the API; plain http for this machine only."),
]

SPEED = [
    click.option(
        "--plan",
        type=click.Choice(["light", "basic", "pro", "advanced"]),
        help="The account's plan.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(min=0),
        help="Requests a minute; 0 = unpaced, this machine only.",
    ),
]

LANG = click.option(
    "--lang",
    type=click.Choice(LANGUAGES, case_sensitive=False),
    metavar="|".join(LANGUAGES),
    expose_value=False,
    help="Language.  [default: the locale's]",
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
OUTPUT = [
    JSON,
    click.option("-v", "--verbose", is_flag=True, help="Log each request; never contact data."),
    LANG,
]

_SEND_OR_SKIP = click.Choice(["send", "skip"])

SHAPING = [
    click.argument("files", nargs=-1, metavar="FILE..."),
    click.option(
        "--type", "event_type", metavar="TYPE", help="Event type, such as ECOMMERCE_ORDER_PLACED."
    ),
    click.option(
        "--map", "map_path", metavar="FILE.toml", help="Mapping file, or the name of a preset."
    ),
    click.option(
        "--type-by", metavar="COLUMN", help="Column that tells each row's type, as suggested."
    ),
    click.option(
        "--lookup",
        multiple=True,
        metavar="FILE",
        help="Second file with what the export lacks, joined by the columns that both have.",
    ),
    click.option(
        "--suppress",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="E-mails that get nothing: one a line, or a column `email`.",
    ),
    click.option(
        "--rename", multiple=True, metavar="FIELD=COLUMN", help="Take a field from this column."
    ),
    click.option(
        "--set", "constants", multiple=True, metavar="FIELD=VALUE", help="One value for every row."
    ),
    click.option(
        "--key",
        multiple=True,
        metavar="COLUMN",
        help="Column that makes an event unique; repeat for more.",
    ),
    click.option("--encoding", help="Encoding of the CSV, such as cp1252."),
    click.option("--delimiter", help="Character between cells, such as ';'."),
    click.option(
        "--header/--no-header",
        "header",
        default=None,
        help="Whether the CSV's first line names columns.",
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark of amounts."),
    click.option(
        "--dates",
        type=click.Choice(["dmy", "mdy", "ymd"]),
        help="Order of day and month in 01/02/2026.",
    ),
    click.option("--timezone", help="Zone of times that name none.  [default: America/Sao_Paulo]"),
    click.option(
        "--max-body",
        type=int,
        default=200_000,
        show_default=True,
        help="Largest request body, bytes.",
    ),
    click.option(
        "--max-invalid",
        default="50%",
        show_default=True,
        help="More invalid rows: nothing is sent.",
    ),
    click.option(
        "--min-rows", type=int, default=0, show_default=True, help="Fewer rows: nothing is sent."
    ),
    click.option(
        "--max-age",
        type=click.FloatRange(min=0),
        default=7.0,
        show_default=True,
        help="Days; older: --past.",
    ),
    click.option(
        "--past",
        type=_SEND_OR_SKIP,
        help="Events older than --max-age: RD Station dates them today.",
    ),
    click.option(
        "--repeats", type=_SEND_OR_SKIP, help="Events without id or time that another file brought."
    ),
    click.option(
        "--changed",
        type=_SEND_OR_SKIP,
        default="skip",
        show_default=True,
        help="Known keys, new content.",
    ),
    click.option(
        "--on-unknown",
        type=click.Choice(["hold", "resend"]),
        default="hold",
        show_default=True,
        help="Events that may be registered: leave them, or send again (at least once).",
    ),
    click.option(
        "--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where run folders go."
    ),
    LEDGER,
    *ACCOUNT,
    *SPEED,
    *OUTPUT,
]

AUDIT = click.option("--audit", "audit_path", metavar="PATH|URL", help="Audit file.")
SENDING = [
    click.option(
        "--max-refused", default="1%", show_default=True, help="More refused events: the run stops."
    ),
    click.option(
        "--max-unknown",
        type=int,
        default=10,
        show_default=True,
        help="Requests without an answer: stop.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.1),
        default=60.0,
        show_default=True,
        help="Seconds to answer.",
    ),
    click.option("--yes", is_flag=True, help="Send without asking."),
]


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Add options to a command, in order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
