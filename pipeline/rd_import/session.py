"""What a command that sends needs open at once: account, ledger, connection, and how fast it may go."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from rd_import.auth import Credentials, TokenStore, identity_of, token_store
from rd_import.errors import JobError
from rd_import.exchange import ThreadedExchange
from rd_import.job import Account, is_loopback
from rd_import.ledger import Ledger
from rd_import.ledger_store import store_of
from rd_import.run_folder import default_ledger_path, tokens_path
from rd_import.service import RdStation, scope_of

CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""What Docker and Podman leave in the root of their containers."""


def is_passing_machine() -> bool:
    """Tell whether this is a container or a CI job, whose disk may be gone after the run."""
    if os.environ.get("CI") or os.environ.get("KUBERNETES_SERVICE_HOST"):
        return True
    return any(mark.exists() for mark in CONTAINER_MARKS)


@dataclass(frozen=True, slots=True)
class Session:
    """An account that can be sent to, and the ledger that remembers it."""

    account: Account
    ledger: Ledger
    number: int
    scope: str
    service: RdStation
    exchange: ThreadedExchange
    trusted_label: bool  # nothing ties the label to the credentials but the person's word

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        account: Account,
        ledger_named: Path | str | None,
        *,
        timeout_s: float = 60.0,
        tokens: TokenStore | None = None,
        on_new_ledger: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Self]:
        """Open ledger and connection, and make sure that label and credentials go together.

        Renewed tokens go to `tokens`, by default to the keyring or a private file.
        Without `ledger_named`, a path or an address, the ledger is this person's own on this machine.

        Raises:
            JobError: The label belongs to other credentials, or the credentials to another label; or no ledger is
                named where this machine's own may be gone after the run.
            LedgerError: The ledger cannot be used.
        """
        if ledger_named is None:
            if not is_loopback(account.base_url) and is_passing_machine():
                raise JobError("ledger_not_named")
            ledger_named = default_ledger_path()
        store = store_of(ledger_named)
        store_path = tokens_path()
        credentials = Credentials(
            account,
            store=lambda: tokens or token_store(store_path),
            lock=store_path.with_suffix(".lock"),
        )
        with contextlib.ExitStack() as stack:
            service = RdStation(account, credentials, timeout_s=timeout_s)
            stack.callback(service.close)
            scope = scope_of(account, service.instance())
            stack.callback(store.close)
            if not store.exists():
                on_new_ledger(store.name)
            ledger = stack.enter_context(Ledger.open(store))
            credentials.on_renewed = lambda refresh: _bind_renewed(ledger, scope, account, refresh)
            identity = None if is_loopback(account.base_url) else identity_of(account)
            trusted = identity is None and not is_loopback(account.base_url)
            if identity is not None:
                trusted = ledger.is_new_lineage(scope, kind=identity[0], credential=identity[1])
                bound = ledger.bind(scope, kind=identity[0], credential=identity[1])
                if bound is not None:
                    raise JobError("account_mismatch", bound=bound, scope=scope)
            exchange = ThreadedExchange(service)
            stack.callback(exchange.close)
            yield cls(account, ledger, ledger.account(scope), scope, service, exchange, trusted)


def _bind_renewed(ledger: Ledger, scope: str, account: Account, refresh: str) -> None:
    """A rotated refresh token belongs to the same account as the one before."""
    identity = identity_of(replace(account, token="", refresh_token=refresh))
    if identity is not None and not is_loopback(account.base_url):
        ledger.bind(scope, kind=identity[0], credential=identity[1])
