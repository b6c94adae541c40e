"""How sending goes, while it goes: a bar on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

from rd_import.messages import proof, say
from rd_import.terminal import duration

if TYPE_CHECKING:
    from rd_import.send import Sending

EVERY_S: Final = 60.0
BAR_COLUMNS: Final = 20


@dataclass(slots=True)
class Progress:
    """What can honestly be said of the rest.

    Args:
        total: Events that are to be sent.
        interval_s: Seconds between two requests that the pace allows; 0 where nothing is counted.
        clock: Seconds on a clock that never goes back.
    """

    total: int
    interval_s: float
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def rest_s(self, sending: Sending) -> float | None:
        """Estimate the seconds that are left: no sooner than the limit allows, nor than the pace so far.

        None before the first answer: then nothing is known of either.
        """
        left = self.total - sending.decided_events
        if not sending.decided_events or not sending.requests:
            return None
        by_pace = (self.clock() - self._began) / sending.decided_events * left
        requests = left * sending.requests / sending.decided_events
        return max(requests * self.interval_s, by_pace)

    def line(self, sending: Sending) -> str:
        """Say how far it is, how fast it goes, and how long it takes."""
        elapsed = self.clock() - self._began
        rate = sending.requests * 60 / max(elapsed, 1.0)
        said = say(
            "progress.line", count=self.total, done=sending.decided_events, rate=min(rate, 99_999)
        )
        rest = self.rest_s(sending)
        return said if rest is None else say("progress.rest", line=said, time=duration(rest))

    def states(self, sending: Sending) -> str:
        """Count what became of the events so far."""
        parts = [say("progress.accepted", count=sending.accepted_events)]
        if sending.refused_events:
            parts.append(say("progress.refused", count=sending.refused_events))
        if sending.unknown_requests:
            parts.append(say("progress.unknown", count=sending.unknown_requests))
        return ", ".join(parts)

    def wait(self, sending: Sending) -> str:
        """Say what is waited for, on the person's own clock; empty where nothing is."""
        if sending.wait is None:
            return ""
        until, why = sending.wait
        return say("progress.waits", time=f"{until.astimezone():%H:%M:%S}", why=proof(why))


@contextlib.contextmanager
def progress_on(stream: TextIO, progress: Progress) -> Iterator[Callable[[Sending], None]]:
    """Show progress on a stream, and give what is to be told of each step."""
    if not stream.isatty():
        yield _once_a_minute(stream, progress)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield lambda sending: live.update(_picture(progress, sending))


def _picture(progress: Progress, sending: Sending) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = ProgressBar(total=progress.total, completed=sending.decided_events, width=BAR_COLUMNS)
    row = Table.grid(padding=(0, 1))
    row.add_row(bar, Text(progress.line(sending)))
    lines = (progress.states(sending), progress.wait(sending))
    return Group(row, *(Text(line) for line in lines if line))


def _once_a_minute(stream: TextIO, progress: Progress) -> Callable[[Sending], None]:
    last, waited = progress.clock(), ""

    def tell(sending: Sending) -> None:
        nonlocal last, waited
        wait = progress.wait(sending)
        if wait and wait != waited:
            print(wait, file=stream, flush=True)
        waited = wait
        if progress.clock() - last < EVERY_S:
            return
        last = progress.clock()
        print(f"{progress.line(sending)}; {progress.states(sending)}", file=stream, flush=True)

    return tell
