"""One stage makes a group while the next works on the one before; nothing else changes."""

import threading
from collections.abc import Iterator

import pytest

from rd_import.overlap import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []


def test_one_item_is_made_ahead_and_no_more() -> None:
    """Memory is two groups, however slow the caller is."""
    made: list[int] = []
    seen = threading.Event()

    def items() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            if number == 1:
                seen.set()
            yield number

    working = ahead(items())
    assert next(working) == 0
    assert seen.wait(10), "the second is made while the caller has the first"
    assert made == [0, 1]
    assert next(working) == 1
    working.close()
    assert len(made) <= 3


def test_an_error_is_raised_where_it_happened() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    working = ahead(items())
    assert next(working) == 1
    with pytest.raises(ValueError, match="the second"):
        next(working)


def test_a_caller_that_stops_early_closes_what_makes_the_items() -> None:
    """Files of a stage are closed in any case."""
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.set()

    working = ahead(items())
    assert next(working) == 0
    working.close()
    assert closed.is_set()
    assert not any(thread.name == "rd-import ahead" for thread in threading.enumerate())
