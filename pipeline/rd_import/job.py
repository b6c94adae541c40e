"""What the user asks for, complete and valid once constructed."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from rd_import.errors import AccountError, JobError
from rd_import.key_line import Policy
from rd_import.mapping_file import FileFacts, Lookup, Rule, TypeBy
from rd_import.mapping_file import Mapping as Said
from rdstation_events import api_facts

REFUSED_AT_LEAST = 20
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Tell whether an address stays on this machine."""
    return urlsplit(url).hostname in LOOPBACK


@dataclass(frozen=True, slots=True)
class Account:
    """Where events go and with which right. No secret appears in a `repr`.

    Args:
        token: Access token; it lives 24 hours.
        client_id: The app's id, for renewing the token.
        client_secret: The app's secret.
        refresh_token: Seed of the tokens that RD Station gives out later.
        api_key: Key of `/platform/conversions`, used only where there is no token.
        base_url: Address of the API.
        label: The account's name in the ledger.

    Raises:
        JobError: Plain http to another machine: a token would travel readable.
    """

    token: str = field(default="", repr=False)
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    base_url: str = api_facts.BASE_URL
    label: str = "default"

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise JobError("bad_base_url", url=self.base_url)
        if parts.scheme == "http" and not is_loopback(self.base_url):
            raise JobError("plain_http", url=self.base_url)

    @property
    def uses_api_key(self) -> bool:
        """Tell whether events go one by one to the API-key route: only where no token can be had."""
        return bool(self.api_key) and not self.token and not self.refresh_token

    @classmethod
    def from_env(cls, *, base_url: str | None = None, label: str | None = None) -> Self:
        """Read the `RD_IMPORT_…` variables; arguments win.

        Raises:
            AccountError: Neither a token nor what makes one, nor an API key, is set.
        """
        account = replace(
            cls.unproven(base_url=base_url, label=label),
            token=_variable("TOKEN"),
            client_id=_variable("CLIENT_ID"),
            client_secret=_variable("CLIENT_SECRET"),
            refresh_token=_variable("REFRESH_TOKEN"),
            api_key=_variable("API_KEY"),
        )
        renewable = account.refresh_token and account.client_id and account.client_secret
        if not (account.token or renewable or account.api_key):
            raise AccountError("no_credentials")
        return account

    @classmethod
    def unproven(cls, *, base_url: str | None = None, label: str | None = None) -> Self:
        """Name an account, its credentials left open; arguments win over the environment."""
        return cls(
            base_url=(base_url or _variable("BASE_URL") or api_facts.BASE_URL).rstrip("/"),
            label=label or _variable("ACCOUNT") or "default",
        )


def _variable(name: str) -> str:
    return os.environ.get(f"RD_IMPORT_{name}", "").strip()


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit given as a share (`10%`) or a number of rows (`200`)."""

    share: float | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `10%` or `200`.

        Raises:
            JobError: Neither form.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
        if match is None:
            raise JobError("bad_threshold", value=text)
        if match[2]:
            return cls(share=float(match[1]) / 100)
        return cls(count=int(float(match[1])))

    def exceeded(self, part: int, whole: int) -> bool:
        """Tell whether `part` of `whole` is more than is allowed."""
        if self.share is not None:
            return whole > 0 and part > self.share * whole
        return self.count is not None and part > self.count

    def __str__(self) -> str:
        return f"{self.share * 100:g}%" if self.share is not None else str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How events are sent, whatever they are.

    Args:
        account: Where to; None stands for the one that the environment names (`Account.from_env`).
        ledger: Path, or address such as `postgresql://…`; None stands for `RD_IMPORT_LEDGER`, else the one in the
            user's state folder.
        tokens: Where renewed tokens are kept (`auth.TokenStore`); None stands for the keyring or a private file.
        audit_path: Where the audit goes; None stands for `<stem>.<UTC start>.audit.parquet`.
        policy: What may be sent beyond what is free: contents in doubt, changed contents.
        plan: The account's plan, which says how many requests a minute it may make; None stands for `basic`.
        rate: Requests a minute, in place of the plan's; 0 is unpaced, for this machine only.
        timeout_s: Seconds to wait for an answer.
        max_unknown: Requests without a usable answer in 24 hours that stop a run.
        max_refused: More events refused than this, of those decided, stop a run.
    """

    account: Account | None = None
    ledger: Path | str | None = field(default=None, repr=False)  # an address may hold a password
    tokens: Any = field(default=None, repr=False)
    audit_path: Path | str | None = None
    policy: Policy = field(default_factory=Policy)
    plan: str | None = None
    rate: float | None = None
    timeout_s: float = 60.0
    max_unknown: int = 10
    max_refused: Threshold = Threshold(share=0.01)

    def __post_init__(self) -> None:
        if self.plan is not None and self.plan not in api_facts.REQUESTS_PER_MINUTE:
            raise JobError(
                "unknown_plan", value=self.plan, known=", ".join(api_facts.REQUESTS_PER_MINUTE)
            )

    def max_refused_allows(self, refused: int, decided: int) -> bool:
        """Tell whether a run may go on after so many refusals; a share allows twenty at least."""
        if self.max_refused.share is not None and refused <= REFUSED_AT_LEAST:
            return True
        return not self.max_refused.exceeded(refused, decided)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Delivery):
    """One import, as asked for; `Delivery` says how it is sent.

    Args:
        exports: Files, folders, glob patterns and addresses; pandas and polars frames, Arrow tables and readers. In
            the order in which their rows count.
        event_type: One of `rdstation_events.CURRENT_TYPES`; empty where the mapping says it.
        mapping: A mapping file's content; what stands beside it in the job wins.
        type_by: A column that tells each row's type, as the export's preset suggests.
        lookups: Second files, joined by the columns that they share with the export.
        suppress: A file of e-mails that get nothing.
        renames: Field of the event type → column of the file.
        constants: Field of the event type → the value of every row.
        encoding: Python codec of the CSV files, where it cannot be told from the file.
        delimiter: One character between cells, where it cannot be told from the header.
        header: The CSV files have a header, or none (columns are `column 1`, …); None where their first line tells.
        decimal: Decimal mark of amounts, `.` or `,`; the other one may group thousands. None where the columns tell.
        dates: Order of day and month in dates such as 01/02/2026: `dmy`, `mdy` or `ymd`. None where the columns tell.
        timezone: IANA zone of times that name none; None stands for America/Sao_Paulo, and the preview says so.
        run_dir: Where the run folder goes; None stands for the user's state folder.
        max_body: Largest request body in bytes.
        max_invalid: More invalid rows than this, and nothing is sent.
        min_rows: Fewer rows than this, and nothing is sent.
        key: Columns that make an event unique in place of the type's identity; they need not be sent.
        past: `send` or `skip` events older than `max_age_days`; None leaves the question open.
        repeats: `send` or `skip` events of a weak identity that another file brought; None leaves it open.
        max_age_days: Age from which an event is of the past.
        words: The options of the command line that asked for it, kept so that later screens can name the command that
            imports mended rows.
    """

    exports: Sequence[Any]
    event_type: str = ""
    mapping: Said = field(default_factory=Said)
    type_by: str | None = None
    lookups: tuple[str, ...] = ()
    suppress: Path | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    dates: str | None = None
    timezone: str | None = None
    run_dir: Path | None = None
    max_body: int = api_facts.MAX_BODY_BYTES
    max_invalid: Threshold = Threshold(share=0.5)
    min_rows: int = 0
    key: tuple[str, ...] = ()
    past: str | None = None
    repeats: str | None = None
    max_age_days: float = 7
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Delivery.__post_init__(self)
        object.__setattr__(self, "exports", _several(self.exports))
        if not self.exports:
            raise JobError("no_exports")
        if self.max_body > api_facts.MAX_BODY_BYTES or self.max_body < 1000:
            raise JobError("bad_max_body", value=self.max_body, limit=api_facts.MAX_BODY_BYTES)
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise JobError("bad_delimiter", value=self.delimiter)

    @property
    def names(self) -> tuple[str, ...]:
        """Name the exports to a person."""
        return tuple(name_of(one, place) for place, one in enumerate(self.exports))

    @property
    def said(self) -> Said:
        """Give all that the user says about the export as one mapping."""
        rules = {name: Rule(column=column) for name, column in self.renames.items()}
        rules |= {name: Rule(value=value) for name, value in self.constants.items()}
        stated = FileFacts(
            self.encoding, self.delimiter, self.header, self.decimal, self.dates, self.timezone
        )
        return Said(
            event_type=self.event_type.upper() or None,
            key=self.key,
            file=stated,
            fields=rules,
            type_by=TypeBy(self.type_by) if self.type_by else None,
            lookups=tuple(Lookup(one) for one in self.lookups),
        ).over(self.mapping)


def _several(exports: Any) -> tuple[Any, ...]:
    """Take one export for a list of one: a text, a path, or a frame."""
    return tuple(exports) if isinstance(exports, list | tuple) else (exports,)


def name_of(export: Any, place: int) -> str:
    """Name an export to a person: a path or address as it is, a frame by its place among them."""
    return str(export) if isinstance(export, str | Path) else f"frame-{place + 1}"
