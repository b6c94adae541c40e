"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from rd_import.catalogue import LANGUAGES, translate
from rdstation_events import CURRENT_TYPES

EXIT_CODES = """\b
Exit codes, the first that applies:
  2  cannot be done as asked (wrong usage, missing or unusable file)
  1  could not finish (internal, disk, ledger, outage)
  130  stopped by a person, or declined at the question
  4  account refused (credentials, plan, permission)
  7  nothing sent: too many invalid rows, or a question only you can answer
  5  some rows are `unknown`
  3  some rows are `invalid`, `refused` or `changed`; the rest went
  6  some rows are `deferred` or `not_sent`; run again
  0  done
"""

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "What is sent": (
        "--type", "--map", "--type-by", "--lookup", "--suppress", "--rename", "--set", "--key",
    ),
    "How the file is read (found out where it is not said)": (
        "--encoding", "--delimiter", "--header", "--decimal", "--dates", "--timezone",
    ),
    "What only you can decide": ("--past", "--max-age", "--repeats", "--changed", "--on-unknown"),
    "When it stops": ("--max-invalid", "--min-rows", "--max-refused", "--max-unknown", "--timeout"),
    "Where to, and how fast": (
        "--sandbox", "--account", "--base-url", "--plan", "--rate", "--max-body",
    ),
    "What is kept": ("--audit", "--ledger", "--run-dir", "--keep", "--out"),
    "Questions and output": ("--yes", "--json", "--verbose", "--lang", "--help"),
}  # fmt: skip
"""Heading → the options that stand below it in a long `--help`."""


class Manual(click.Command):
    """A command with many options, which its `--help` shows in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options below their headings; what has none of its own comes first."""
        shown: dict[str, list[tuple[str, str]]] = {"Options": []}
        shown |= {heading: [] for heading in SECTIONS}
        for one in self.get_params(ctx):
            if (
                not isinstance(one, click.Argument)
                and (record := one.get_help_record(ctx)) is not None
            ):
                names = {*one.opts, *one.secondary_opts}
                at = (heading for heading, options in SECTIONS.items() if names & {*options})
                shown[next(at, "Options")].append(record)
        for heading, records in shown.items():
            if records:
                with formatter.section(translate(heading)):
                    formatter.write_dl(records)


def complete_type(
    ctx: click.Context,  # noqa: ARG001 -- click's signature
    param: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Complete the name of an event type."""
    return [CompletionItem(name) for name in CURRENT_TYPES if name.startswith(incomplete.upper())]


def complete_file(
    ctx: click.Context,  # noqa: ARG001 -- click's signature
    param: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Leave it to the shell to complete a file's name."""
    return [CompletionItem(incomplete, type="file")]


PORT = click.IntRange(0, 65535)

LEDGER = click.option("--ledger", metavar="PATH|URL", help="Ledger: a file, or postgresql://…")

ACCOUNT = [
    click.option("--account", "label", metavar="NAME", help="Name of the account in the ledger."),
    click.option(
        "--base-url", metavar="URL", help="Address of the API; plain http for this machine only."
    ),
]

SPEED = [
    click.option(
        "--plan",
        type=click.Choice(["light", "basic", "pro", "advanced"]),
        help="The account's plan.",
    ),
    click.option(
        "--rate",
        metavar="N",
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

ON_UNKNOWN = click.option(
    "--on-unknown",
    type=click.Choice(["hold", "resend"]),
    default="hold",
    show_default=True,
    help="Events that may be registered: leave them, or send again (at least once).",
)
SHAPING = [
    click.argument("files", nargs=-1, metavar="FILE...", shell_complete=complete_file),
    click.option(
        "--type",
        "event_type",
        metavar="TYPE",
        shell_complete=complete_type,
        help="Event type, such as ECOMMERCE_ORDER_PLACED.",
    ),
    click.option(
        "--map",
        "map_path",
        metavar="FILE.toml",
        shell_complete=complete_file,
        help="Mapping file, or the name of a preset.",
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
        metavar="FILE",
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
    click.option("--encoding", metavar="NAME", help="Encoding of the CSV, such as cp1252."),
    click.option("--delimiter", metavar="CHAR", help="Character between cells, such as ';'."),
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
    click.option(
        "--timezone",
        metavar="ZONE",
        help="Zone of times that name none.  [default: America/Sao_Paulo]",
    ),
    click.option(
        "--max-body",
        metavar="BYTES",
        type=int,
        default=200_000,
        show_default=True,
        help="Largest request body, bytes.",
    ),
    click.option(
        "--max-invalid",
        metavar="PCT|ROWS",
        default="50%",
        show_default=True,
        help="More invalid rows: nothing is sent.",
    ),
    click.option(
        "--min-rows",
        metavar="N",
        type=int,
        default=0,
        show_default=True,
        help="Fewer rows: nothing is sent.",
    ),
    click.option(
        "--max-age",
        metavar="DAYS",
        type=click.FloatRange(min=0),
        default=7,
        show_default=True,
        help="Events older than this are asked about: --past.",
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
    ON_UNKNOWN,
    click.option(
        "--run-dir",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where run folders go.",
    ),
    LEDGER,
    *ACCOUNT,
    *SPEED,
    *OUTPUT,
]

AUDIT = click.option("--audit", "audit_path", metavar="PATH|URL", help="Audit file.")
SENDING = [
    click.option(
        "--max-refused",
        metavar="PCT|N",
        default="1%",
        show_default=True,
        help="More refused events: the run stops.",
    ),
    click.option(
        "--max-unknown",
        metavar="N",
        type=int,
        default=10,
        show_default=True,
        help="Requests without an answer: stop.",
    ),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0.1),
        default=60,
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
