"""Who sees a run on its way: a person at the command line, a task of a scheduler, or nobody."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rd_import.job import Account
from rd_import.preview import Preview

if TYPE_CHECKING:  # `check` without a ledger needs neither a database nor HTTP
    from rd_import.send import Sending
    from rd_import.session import Session

LOG = logging.getLogger("rd_import")


class Watcher:
    """Sees a run on its way. This one is silent and lets everything pass."""

    def says(self, text: str) -> None:
        """Hear a sentence about the run; contact data is never in it."""
        LOG.info(text)

    def begins_ledger(self, name: str) -> None:
        """Hear that a new ledger begins: nothing sent before is known in it."""
        LOG.info("a new ledger begins at %s", name)

    def sees(self, shown: Preview, session: Session | None, *, sends: bool) -> None:
        """See the preview, of what account and ledger it is, and whether it comes before sending."""

    def approves(self, shown: Preview, account: Account) -> None:
        """Let the run begin to send, or raise what ends it."""

    @contextlib.contextmanager
    def accompanies(
        self, events: int, interval_s: float, wake: Callable[[], None]
    ) -> Iterator[tuple[Callable[[], bool], Callable[[Sending], None]]]:
        """Be there while a run sends.

        Args:
            events: How many may go.
            interval_s: Seconds between requests, as the account's pace has it.
            wake: Has the wish to stop asked for at once.

        Yields:
            What tells whether to stop after what is in flight, and what is told of the progress.
        """
        del events, interval_s, wake
        yield (lambda: False), (lambda _: None)


SILENT = Watcher()
