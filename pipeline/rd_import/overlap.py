"""Stages side by side: one makes the next group while the other works on the last."""

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Make each item in a thread of its own while the caller works on the one before.

    One item at most is made ahead, so two exist at a time. Order is kept. What `items` raises is raised here, at its
    place; where the caller stops early, `items` is closed in its thread.
    """
    work = _Work(items)
    work.thread.start()
    try:
        while work.made():
            yield work.take()
    finally:
        work.stop()


class _Work(Generic[T]):
    def __init__(self, items: Iterator[T]) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True, name="rd-import ahead")
        self._items = items
        self._place: list[T] = []  # the item that is ready
        self._error: BaseException | None = None
        self._wanted = threading.Semaphore(1)
        self._ready = threading.Semaphore(0)
        self._stopped = False

    def made(self) -> bool:
        """Wait for the next item; False after the last."""
        self._ready.acquire()
        if self._error is not None:
            raise self._error
        return bool(self._place)

    def take(self) -> T:
        """Give the item that is ready, and have the next one made."""
        item = self._place.pop()
        self._wanted.release()
        return item

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped = True
        self._wanted.release()
        self.thread.join()

    def _run(self) -> None:
        try:
            while not self._is_stopped():
                self._place.append(next(self._items))
                self._ready.release()
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 -- the caller's thread raises it again
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            self._ready.release()

    def _is_stopped(self) -> bool:
        self._wanted.acquire()
        return self._stopped
