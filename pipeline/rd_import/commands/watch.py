"""A run as a person follows it: what is shown on the way, what is asked, and how it is stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.mapping import keep_decisions
from rd_import.commands.screen import say
from rd_import.layout import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rd_import.job import Account
    from rd_import.preview import Preview
    from rd_import.send import Sending
    from rd_import.session import Session
    from rd_import.watcher import Watcher


def watcher_of(given: dict[str, Any], terminal: TextIO | None) -> Watcher:
    """Make who shows a run to a person, and asks on the terminal if there is one."""
    from rd_import.progress import Progress, progress_on
    from rd_import.terminal import destination_of, preview_text
    from rd_import.watcher import Watcher

    class Person(Watcher):
        def says(self, text: str) -> None:
            say(text)

        def begins_ledger(self, name: str) -> None:
            if not given.get("in_sandbox"):  # a practice run has a ledger of its own
                what = messages.say("say.new_ledger", path=name)
                say(messages.with_hint(what, messages.say("say.new_ledger_hint")))

        def sees(self, shown: Preview, session: Session | None, *, sends: bool) -> None:
            given["shown"] = shown
            if given["as_json"]:
                return
            destination = messages.say("preview.check")
            label = None
            if sends and session is not None:
                destination = destination_of(session.account)
                label = session.account.label if session.trusted_label else None
            look = Look.of(sys.stdout)
            click.echo(preview_text(shown, destination=destination, label=label, look=look))
            click.echo("")

        def approves(self, shown: Preview, account: Account) -> None:
            if terminal is None:
                return
            if not ask.confirmed(terminal, shown, account):
                raise click.Abort
            keep_decisions(terminal, shown, given)

        @contextlib.contextmanager
        def accompanies(
            self, events: int, interval_s: float, wake: Callable[[], None]
        ) -> Iterator[tuple[Callable[[], bool], Callable[[Sending], None]]]:
            with (
                _until_asked_to_stop(wake) as stop_asked,
                progress_on(sys.stderr, Progress(events, interval_s)) as on_progress,
            ):
                yield stop_asked, on_progress

    return Person()


@contextlib.contextmanager
def _until_asked_to_stop(wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop after what is in flight; the second ends at once."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        wake()
        say(messages.say("say.stopping"))

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
