"""Requests that wait for their answers, several at once, while one thread decides."""

import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from rd_import.outcome import Observation
from rd_import.service import Service


class Exchange(Protocol):
    """Starts requests and gives their answers as they come."""

    max_events: int | None
    """Events of one request, where the route takes fewer than fit."""

    def start(self, events: Sequence[bytes]) -> int:
        """Send events in one request; give a handle for its answer."""
        ...

    def wait(self, seconds: float) -> list[tuple[int, Observation]]:
        """Give the answers that are there, waiting at most so long for the first."""
        ...

    def renew(self, stale: int) -> bool:
        """Get a new access token, unless somebody did since generation `stale`; tell whether RD Station was asked."""
        ...


class ThreadedExchange:
    """Waits in daemon threads, made as they are needed: the end of the program never waits for an answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.max_events = service.max_events
        self._orders: queue.SimpleQueue[tuple[int, Sequence[bytes], float] | None] = (
            queue.SimpleQueue()
        )
        self._answers: queue.SimpleQueue[tuple[int, Observation] | None] = queue.SimpleQueue()
        self._threads = 0
        self._waiting = 0
        self._handles = 0

    def start(self, events: Sequence[bytes]) -> int:
        """Send events in one request; give a handle for its answer."""
        self._handles += 1
        self._waiting += 1
        if self._waiting > self._threads:
            self._threads += 1
            threading.Thread(
                target=self._work, daemon=True, name=f"rd-import {self._threads}"
            ).start()
        self._orders.put((self._handles, events, time.time()))
        return self._handles

    def wait(self, seconds: float) -> list[tuple[int, Observation]]:
        """Give the answers that are there, waiting at most so long for the first."""
        found = []
        try:
            found.append(self._answers.get(timeout=max(seconds, 0.001)))
            while True:
                found.append(self._answers.get_nowait())
        except queue.Empty:
            pass
        answers = [answer for answer in found if answer is not None]
        self._waiting -= len(answers)
        return answers

    def wake(self) -> None:
        """End a wait at once; a signal handler may call this at any moment."""
        self._answers.put(None)

    def renew(self, stale: int) -> bool:
        """Get a new access token, unless somebody did since generation `stale`; tell whether RD Station was asked."""
        return self._service.renew(stale)

    def close(self) -> None:
        """Let the threads end."""
        for _ in range(self._threads):
            self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            handle, events, marked_at = order
            self._answers.put((handle, self._service.post(events, marked_at)))
