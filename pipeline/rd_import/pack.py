"""Encoded events -> batches: arithmetic on lengths. Pure."""

from collections.abc import Iterable, Iterator

from rd_import.values import Batch, PlannedEvent


def pack(
    events: Iterable[PlannedEvent], *, max_bytes: int, largest: int | None = None
) -> Iterator[Batch]:
    """Fill request bodies with events, in order, as full as the limit allows.

    A body is `[` + events joined by `,` + `]`, so n events of lengths l_i take sum(l_i) + n + 1 bytes. No event is
    split, dropped or reordered; batches are numbered from 1.

    Args:
        events: JSON objects in UTF-8, in input order.
        max_bytes: Largest allowed body, in bytes.
        largest: Where `max_bytes` was learnt and may be lower than the true limit: an event that does not fit goes
            alone in a body of up to this size.

    Raises:
        ValueError: An event does not fit alone; `encode` sets those aside, so this is our mistake.

    Source: "Batch de Eventos": body limit 0,2Mb, read as 200,000 bytes.
    """
    number, size, waiting = 1, 1, list[PlannedEvent]()
    for event in events:
        length = len(event.body) + 1
        if length + 1 > (largest or max_bytes):
            raise ValueError(
                f"event {event.ordinal} takes {length - 1} bytes; {max_bytes} fit in a body"
            )
        if waiting and size + length > max_bytes:
            yield Batch(number, waiting)
            number, size, waiting = number + 1, 1, []
        waiting.append(event)
        size += length
    if waiting:
        yield Batch(number, waiting)


def body_of(events: Iterable[bytes]) -> bytes:
    """Join encoded events into the request body that `pack` measured."""
    return b"[" + b",".join(events) + b"]"
