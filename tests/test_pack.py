"""Bodies are as full as the limit allows and never fuller; every event goes once, in order."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rd_import.pack import body_of, pack
from rd_import.preview import _Packing
from rd_import.values import PlannedEvent

LIMIT = 200_000


def event(ordinal: int, body: bytes) -> PlannedEvent:
    mark = ordinal.to_bytes(32, "big")
    return PlannedEvent(ordinal, key=mark, sha=mark, contact=b"c" * 32, body=body)


def sized(*lengths: int) -> list[PlannedEvent]:
    """Give events of these many bytes: a JSON text of ASCII letters."""
    return [event(at, b'"' + b"x" * (length - 2) + b'"') for at, length in enumerate(lengths)]


json_bodies = st.dictionaries(
    st.sampled_from("abc"), st.text() | st.none(), min_size=1, max_size=3
).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
inputs = st.tuples(
    st.lists(json_bodies, max_size=40).map(lambda bodies: list(map(event, range(99), bodies))),
    st.integers(0, 120),
)


def limit_of(events: list[PlannedEvent], slack: int) -> int:
    return max((len(one.body) for one in events), default=0) + 2 + slack


@given(inputs)
def test_every_event_goes_once_and_in_order(case: tuple[list[PlannedEvent], int]) -> None:
    """The audit matches uuids to events by position: an event more, less or moved breaks it."""
    events, slack = case
    batches = list(pack(events, max_bytes=limit_of(events, slack)))
    assert [one for batch in batches for one in batch.events] == events
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    assert all(batch.events for batch in batches)


@given(inputs)
def test_a_body_is_never_larger_than_the_limit(case: tuple[list[PlannedEvent], int]) -> None:
    """The limit is on the request, so one byte too many puts every event in it at risk."""
    events, slack = case
    limit = limit_of(events, slack)
    assert all(
        len(body_of(one.body for one in batch.events)) <= limit
        for batch in pack(events, max_bytes=limit)
    )


@given(inputs)
def test_a_body_is_never_closed_while_the_next_event_fits(
    case: tuple[list[PlannedEvent], int],
) -> None:
    """Requests are what RD Station counts: next-fit wastes none that order allows to save."""
    events, slack = case
    limit = limit_of(events, slack)
    batches = list(pack(events, max_bytes=limit))
    for batch, following in itertools.pairwise(batches):
        assert len(body_of(one.body for one in [*batch.events, following.events[0]])) > limit


@given(inputs)
def test_a_body_is_a_json_array_of_its_events(case: tuple[list[PlannedEvent], int]) -> None:
    events, _ = case
    assert json.loads(body_of(one.body for one in events)) == [
        json.loads(one.body) for one in events
    ]


def test_a_body_of_exactly_the_limit_is_one_request() -> None:
    """[ + 99,998 + , + 99,999 + ] are 200,000 bytes."""
    events = sized(99_998, 99_999)
    (batch,) = pack(events, max_bytes=LIMIT)
    assert len(body_of(one.body for one in batch.events)) == LIMIT


def test_one_byte_more_than_the_limit_is_two_requests() -> None:
    events = sized(99_999, 99_999)
    assert [len(batch.events) for batch in pack(events, max_bytes=LIMIT)] == [1, 1]


def test_the_limit_counts_bytes_not_characters() -> None:
    """Two events of 99,000 characters each, every one of two bytes."""
    events = [event(at, json.dumps("ç" * 99_000, ensure_ascii=False).encode()) for at in range(2)]
    assert [len(batch.events) for batch in pack(events, max_bytes=LIMIT)] == [1, 1]


def test_an_event_that_fills_a_body_alone_passes() -> None:
    (batch,) = pack(sized(199_998), max_bytes=LIMIT)
    assert len(body_of(one.body for one in batch.events)) == LIMIT


def test_an_event_that_does_not_fit_alone_is_our_mistake() -> None:
    """`encode` sets such events aside, so one that arrives here must stop everything."""
    with pytest.raises(ValueError, match="199999 bytes"):
        list(pack(sized(199_999), max_bytes=LIMIT))


def test_no_events_are_no_requests() -> None:
    assert list(pack([], max_bytes=LIMIT)) == []


@given(
    st.lists(st.lists(st.integers(1, 60), max_size=20), max_size=6),
    st.integers(62, 120),
)
def test_the_preview_counts_the_bodies_that_pack_fills(groups: list[list[int]], limit: int) -> None:
    """It adds up lengths, group by group; what goes is what was shown."""
    packing = _Packing(limit, one_each=False)
    for lengths in groups:
        packing.add(np.array(lengths))
    lengths = [one for group in groups for one in group]
    events = [event(number, b"x" * one) for number, one in enumerate(lengths)]
    bodies = [
        body_of([one.body for one in batch.events]) for batch in pack(events, max_bytes=limit)
    ]
    assert packing.requests == len(bodies)
    assert packing.bytes == sum(map(len, bodies))


@pytest.mark.parametrize(
    ("smallest", "largest", "most"),
    [(350, 450, 1.01), (3_500, 4_500, 1.04)],
    ids=["ordinary orders", "events of 4 kB"],
)
def test_requests_are_hardly_more_than_the_bytes_need(
    smallest: int, largest: int, most: float
) -> None:
    """Requests are the clock of an account: what bodies leave empty is waited for."""
    lengths = np.random.default_rng(7).integers(
        smallest, largest, 100_000 if largest < 500 else 10_000
    )
    packing = _Packing(LIMIT, one_each=False)
    packing.add(lengths)
    assert packing.requests <= most * math.ceil(packing.bytes / LIMIT)
    events = sized(*lengths[:5_000].tolist())
    batches = list(pack(events, max_bytes=LIMIT))
    sent = sum(len(body_of(one.body for one in batch.events)) for batch in batches)
    assert len(batches) <= most * math.ceil(sent / LIMIT) + 1  # the last one is as full as it comes
