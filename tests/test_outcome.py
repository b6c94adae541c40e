"""What an answer proves: the table that the product's promise rests on."""

import json
import math
import time
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rd_import.outcome import (
    Accepted,
    ApiError,
    ContactLimit,
    NotAccepted,
    Observation,
    Receipt,
    Refused,
    Remedy,
    Undecided,
    Unknown,
    judge,
    scrub,
)

BODY_BYTES = 500


def answer_of(
    status: int | None,
    answer: object = b"",
    *,
    events: int = 5,
    asked: int = BODY_BYTES,
    **headers: str,
) -> tuple[Observation, int]:
    """Give an observation and the events of its body; header names are written with underscores."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Observation(status, named, body, asked, "" if status else "reset"), events


def seen(status: int | None, answer: object = b"", **facts: Any) -> Receipt:
    return judge(*answer_of(status, answer, **facts))


def error(path: str = "", code: str = "INVALID_OPTION", text: str = "wrong") -> dict[str, str]:
    return {"error_type": code, "error_message": text} | ({"path": path} if path else {})


def uuids(*given: object) -> dict[str, object]:
    return {"event_batch_uuid": "b-1", "events": [{"event_uuid": one} for one in given]}


# --- the outcome table ----------------------------------------------------------------------------

NOT_FOUND = {"errors": error("", "RESOURCE_NOT_FOUND", "Lead not found.")}
LEAD_LIMITER = {
    "error": "'lead_limiter' rate limit exceeded for 86400 second(s) for key ana@example.com",
    "max": 24,
    "usage": 55,
    "remaining_time": 20745,
}
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"

TABLE: list[tuple[str, tuple[Observation, int], type[Receipt], Remedy | None]] = [
    ("no answer, no byte asked for", answer_of(None, asked=0), NotAccepted, Remedy.RETRY),
    ("no answer, one byte asked for", answer_of(None, asked=1), Unknown, None),
    ("no answer, all asked for", answer_of(None), Unknown, None),
    ("200 with all uuids", answer_of(200, uuids(*"abcde")), Accepted, None),
    ("200 of a single event", answer_of(200, {"event_uuid": "a"}, events=1), Accepted, None),
    ("200 with a uuid too few", answer_of(200, uuids(*"abcd")), Unknown, None),
    ("200 with a uuid too many", answer_of(200, uuids(*"abcdef")), Unknown, None),
    ("200 with an empty uuid", answer_of(200, uuids(*"abcd", "")), Unknown, None),
    ("200 with a blank uuid", answer_of(200, uuids(*"abcd", " ")), Unknown, None),
    ("200 with a null uuid", answer_of(200, uuids(*"abcd", None)), Unknown, None),
    ("200 with a number as uuid", answer_of(200, uuids(*"abcd", 5)), Unknown, None),
    (
        "200 with a stray entry",
        answer_of(200, {"events": [{"event_uuid": "a"}, "b"]}, events=2),
        Unknown,
        None,
    ),
    ("200 without uuids", answer_of(200, {"events": []}), Unknown, None),
    (
        "200 with events of another kind",
        answer_of(200, {"events": {"event_uuid": "a"}}),
        Unknown,
        None,
    ),
    ("200 with one uuid for five", answer_of(200, {"event_uuid": "a"}), Unknown, None),
    ("200 cut off", answer_of(200, json.dumps(uuids(*"abcde")).encode()[:-3]), Unknown, None),
    ("200 empty", answer_of(200), Unknown, None),
    ("200 HTML", answer_of(200, HTML), Unknown, None),
    ("200 with a list", answer_of(200, [{"event_uuid": "a"}] * 5), Unknown, None),
    ("200 with errors", answer_of(200, {"errors": [error("$[0]")]}), Unknown, None),
    ("400 naming an index", answer_of(400, [error("$[3].payload")]), Refused, None),
    ("422 naming an index", answer_of(422, [error("$[3].payload")]), Refused, None),
    ("400 of one event", answer_of(400, [error("$.payload")], events=1), Refused, None),
    ("422 of one event", answer_of(422, b"", events=1), Refused, None),
    ("404 of one event", answer_of(404, NOT_FOUND, events=1), Refused, None),
    ("400 without an index", answer_of(400, [error("$.payload")]), Undecided, None),
    ("400 naming an index out of range", answer_of(400, [error("$[5].payload")]), Undecided, None),
    ("400 empty", answer_of(400), Undecided, None),
    ("400 HTML", answer_of(400, HTML), Undecided, None),
    ("422 without an index", answer_of(422, {"message": "unprocessable"}), Undecided, None),
    ("404 without an index", answer_of(404, NOT_FOUND), Undecided, None),
    ("404 naming an index", answer_of(404, [error("$[1]", "RESOURCE_NOT_FOUND")]), Refused, None),
    ("409", answer_of(409), Undecided, None),
    ("409 of one event", answer_of(409, events=1), Refused, None),
    (
        "400 BAD_REQUEST",
        answer_of(400, {"errors": error("", "BAD_REQUEST")}),
        NotAccepted,
        Remedy.STOP,
    ),
    ("401", answer_of(401, {"errors": error("", "UNAUTHORIZED")}), NotAccepted, Remedy.REFRESH),
    (
        "401 as community code met it",
        answer_of(401, {"error": "invalid_token"}),
        NotAccepted,
        Remedy.REFRESH,
    ),
    ("401 empty", answer_of(401), NotAccepted, Remedy.REFRESH),
    ("403", answer_of(403), NotAccepted, Remedy.STOP),
    ("403 HTML", answer_of(403, HTML), NotAccepted, Remedy.STOP),
    ("404 HTML", answer_of(404, HTML), NotAccepted, Remedy.STOP),
    ("404 empty", answer_of(404), NotAccepted, Remedy.STOP),
    ("404 of a gateway", answer_of(404, {"message": "no Route matched"}), NotAccepted, Remedy.STOP),
    (
        "415",
        answer_of(415, {"errors": error("", "UNSUPPORTED_MEDIA_TYPE")}),
        NotAccepted,
        Remedy.STOP,
    ),
    ("301", answer_of(301, location="https://elsewhere"), NotAccepted, Remedy.STOP),
    ("302", answer_of(302), NotAccepted, Remedy.STOP),
    ("307", answer_of(307), NotAccepted, Remedy.STOP),
    ("308", answer_of(308), NotAccepted, Remedy.STOP),
    ("413", answer_of(413), NotAccepted, Remedy.HALVE),
    ("413 HTML", answer_of(413, HTML), NotAccepted, Remedy.HALVE),
    (
        "429 account",
        answer_of(429, {"message": "API rate limit exceeded"}),
        NotAccepted,
        Remedy.RETRY,
    ),
    ("429 empty", answer_of(429), NotAccepted, Remedy.RETRY),
    ("429 lead_limiter", answer_of(429, LEAD_LIMITER), ContactLimit, None),
    ("503 Retry-After", answer_of(503, retry_after="7"), NotAccepted, Remedy.RETRY),
    ("503 quota", answer_of(503, ratelimit_limit_quotas="120"), NotAccepted, Remedy.RETRY),
    ("503 quota wait", answer_of(503, retry_after_quotas="7"), NotAccepted, Remedy.RETRY),
    ("503", answer_of(503), Unknown, None),
    ("503 HTML", answer_of(503, HTML), Unknown, None),
    ("408", answer_of(408), Unknown, None),
    ("500", answer_of(500, {"errors": [error("$[3]")]}), Unknown, None),
    ("502", answer_of(502, HTML), Unknown, None),
    ("504", answer_of(504), Unknown, None),
    ("500 Retry-After", answer_of(500, retry_after="7"), Unknown, None),
    ("201", answer_of(201, uuids(*"abcde")), Unknown, None),
    ("202", answer_of(202), Unknown, None),
    ("204", answer_of(204), Unknown, None),
    ("100", answer_of(100), Unknown, None),
]


@pytest.mark.parametrize(
    ("answer", "kind", "remedy"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_outcome_table(
    answer: tuple[Observation, int], kind: type[Receipt], remedy: Remedy | None
) -> None:
    """Each line of the design's table, and the edges between its lines."""
    receipt = judge(*answer)
    assert type(receipt) is kind, receipt
    assert getattr(receipt, "remedy", None) is remedy
    assert receipt.proof


def test_uuids_go_by_position() -> None:
    receipt = seen(200, uuids("u0", "u1"), events=2)
    assert receipt == Accepted(("u0", "u1"), "b-1", "200 with 2 of 2 uuids")


def test_an_event_sent_alone_has_a_uuid_but_no_batch() -> None:
    assert seen(200, {"event_uuid": "u"}, events=1) == Accepted(
        ("u",), None, "200 with 1 of 1 uuids"
    )


def test_the_proof_of_an_unknown_says_how_far_the_request_came() -> None:
    assert seen(None, asked=300) == Unknown("reset after 300 bytes of the body were asked for")
    assert seen(200, uuids("a"), events=2) == Unknown("200 with 1 of 2 uuids")


# --- error shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["$[3]", "$[3].x", "$[3].payload.email", "$.body[3].x", "$.body[3]"]
)
@pytest.mark.parametrize(
    "shape", [lambda one: [one], lambda one: {"errors": [one]}, lambda one: {"errors": one}]
)
def test_an_index_is_read_from_every_shape_of_path(path: str, shape: Any) -> None:
    receipt = seen(400, shape(error(path)))
    assert receipt == Refused({3: ApiError("INVALID_OPTION", "wrong", path)}, "400 INVALID_OPTION")


@pytest.mark.parametrize(
    "path",
    [
        "$.event_type",
        "$.body.event_type",
        "$.payload[3]",
        "$.body.payload.tags[3]",
        "[3]",
        "x$[3]",
        "$[-1]",
        "$[]",
        "$[3",
        "$[1e0]",
        "$[99999999999999999999]",
    ],
)
def test_other_paths_name_no_event(path: str) -> None:
    assert isinstance(seen(400, [error(path)]), Undecided)


def test_all_named_events_are_refused_each_with_its_first_error() -> None:
    answer = [
        error("$[4].a", "A"),
        error("$[0].b", "B"),
        error("$[4].c", "C"),
        error("$[9].d", "D"),
    ]
    receipt = seen(400, answer)
    assert isinstance(receipt, Refused)
    assert {at: one.code for at, one in receipt.errors.items()} == {0: "B", 4: "A"}


def test_an_index_counts_also_for_one_event() -> None:
    receipt = seen(400, [error("$[0].payload.email")], events=1)
    assert isinstance(receipt, Refused)
    assert receipt.errors[0].path == "$[0].payload.email"


@pytest.mark.parametrize(
    ("answer", "code", "message", "path"),
    [
        (
            {"errors": {"error_type": "UNAUTHORIZED", "error_message": "Invalid token."}},
            "UNAUTHORIZED",
            "Invalid token.",
            "",
        ),
        (
            {
                "errors": [
                    {
                        "error_type": "INVALID_OPTION",
                        "error_message": "Must be one of the valid options.",
                        "validation_rules": {"valid_options": ["CONVERSION"]},
                        "path": "$.body.event_type",
                    }
                ]
            },
            "INVALID_OPTION",
            "Must be one of the valid options.",
            "$.body.event_type",
        ),
        (
            {"errors": {"email": [error("", "CANNOT_BE_NULL", "email cannot be null.")]}},
            "CANNOT_BE_NULL",
            "email cannot be null.",
            "email",
        ),
        (
            {"errors": {"label": {"pt-BR": [error("", "CANNOT_BE_BLANK", "cannot be blank")]}}},
            "CANNOT_BE_BLANK",
            "cannot be blank",
            "label.pt-BR",
        ),
        ([error("$.event_type")], "INVALID_OPTION", "wrong", "$.event_type"),
        ({"message": "no more"}, "ERROR", "no more", ""),
        ({"error": "invalid_token"}, "ERROR", "invalid_token", ""),
        (HTML, "HTTP_400", "<html><body><h1>502 Bad Gateway</h1></body></html>", ""),
        (b"", "HTTP_400", "", ""),
        (b'{"errors": [{"error_type": "CUT', "HTTP_400", '{"errors": [{"error_type": "CUT', ""),
        (b"\xff\xfe\x00", "HTTP_400", "\ufffd\ufffd\x00", ""),
    ],
)
def test_every_error_shape_of_the_api_is_understood(
    answer: object, code: str, message: str, path: str
) -> None:
    """The shapes of the API notes, §7, and what stands in their place when a proxy answers."""
    receipt = seen(400, answer)
    assert isinstance(receipt, Undecided)
    assert receipt.error == ApiError(code, message, path)


# --- waits ----------------------------------------------------------------------------------------


def test_the_contacts_limit_is_learnt_with_its_wait() -> None:
    receipt = seen(429, LEAD_LIMITER)
    assert isinstance(receipt, ContactLimit)
    assert (receipt.maximum, receipt.wait_s) == (24, 20745.0)
    assert "ana@example.com" in receipt.text, "the contact is the one that the text names"
    assert "ana@example.com" not in receipt.proof


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 60.0),
        ({"retry_after": "20"}, 20.0),
        ({"retry_after_quotas": "37"}, 37.0),
        ({"retry_after_quotas": "37", "retry_after": "5"}, 37.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60.0),
        ({"retry_after": "soon"}, 60.0),
        ({"retry_after": "-5"}, 60.0),
        ({"ratelimit_limit_quotas": "120"}, 60.0),
    ],
)
def test_an_account_limit_waits_as_long_as_it_is_told(
    headers: dict[str, str], wait_s: float
) -> None:
    receipt = seen(429, {"message": "API rate limit exceeded"}, **headers)
    assert isinstance(receipt, NotAccepted)
    assert receipt.wait_s == wait_s


@pytest.mark.parametrize(
    "remaining", [b"1e999", b"NaN", b"-5", b"-Infinity", b"9" * 400, b"1e30", b"true"]
)
def test_a_wait_that_nobody_can_wait_is_still_a_number_of_seconds(remaining: bytes) -> None:
    """`not_before` is computed from it before the answer is recorded: it must not raise there."""
    receipt = seen(429, b'{"error": "lead_limiter", "remaining_time": ' + remaining + b"}")
    assert isinstance(receipt, ContactLimit)
    assert math.isfinite(receipt.wait_s)
    assert 0 <= receipt.wait_s < 1e9


@pytest.mark.parametrize("maximum", [True, "24", -1, 2.5, None])
def test_a_maximum_that_is_no_count_is_not_learnt(maximum: object) -> None:
    receipt = seen(429, LEAD_LIMITER | {"max": maximum})
    assert isinstance(receipt, ContactLimit)
    assert receipt.maximum is None


@pytest.mark.parametrize("header", ["9" * 400, "1" + "0" * 30])
def test_a_retry_after_without_end_is_still_a_number_of_seconds(header: str) -> None:
    receipt = seen(429, {"message": "API rate limit exceeded"}, retry_after=header)
    assert isinstance(receipt, NotAccepted)
    assert receipt.wait_s is not None
    assert math.isfinite(receipt.wait_s)


# --- laws -----------------------------------------------------------------------------------------

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                (
                    "errors",
                    "error_type",
                    "error_message",
                    "path",
                    "events",
                    "event_uuid",
                    "message",
                    "error",
                    "max",
                    "remaining_time",
                    "event_batch_uuid",
                    "email",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
bodies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())
header_values = st.text(max_size=12) | st.sampled_from(("0", "5", "1e9", "9" * 400))
observations = st.builds(
    Observation,
    status=st.none() | st.integers(100, 599) | st.sampled_from((200, 400, 404, 429, 503)),
    headers=st.dictionaries(
        st.sampled_from(("retry-after", "retry-after-quotas", "ratelimit-limit-quotas")),
        header_values,
    ),
    body=bodies,
    asked_bytes=st.integers(0, 200_000),
    failure=st.text(max_size=20),
)


@given(observations, st.integers(1, 6))
def test_whatever_comes_back_has_one_outcome(observation: Observation, events: int) -> None:
    """An exception here would lose an answer before it is recorded."""
    receipt = judge(observation, events)
    if isinstance(receipt, Accepted):
        listed = json.loads(observation.body)
        entries = listed["events"] if isinstance(listed.get("events"), list) else [listed]
        assert observation.status == 200
        assert list(receipt.event_uuids) == [entry["event_uuid"] for entry in entries]
        assert len(receipt.event_uuids) == events
        assert all(uuid.strip() for uuid in receipt.event_uuids)
    if isinstance(receipt, Refused):
        assert receipt.errors
        assert all(0 <= at < events for at in receipt.errors)
    if isinstance(receipt, Undecided):
        assert events > 1
    if observation.status is None:
        released = observation.asked_bytes == 0
        assert isinstance(receipt, NotAccepted if released else Unknown)


def texts_of(value: object) -> list[str]:
    """Give every text in a receipt."""
    if isinstance(value, str):
        return [value]
    if is_dataclass(value):
        return [text for one in fields(value) for text in texts_of(getattr(value, one.name))]
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts_of(one)]
    if isinstance(value, tuple):
        return [text for one in value for text in texts_of(one)]
    return []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            b'[{"error_type": "\\ud800", "error_message": "\\ud800", "path": "$[0]\\ud800"}]',
        ),
        (400, b'{"message": "\\ud800"}'),
        (429, b'{"error": "lead_limiter \\ud800"}'),
        (200, b'{"event_batch_uuid": "\\ud800", "events": [{"event_uuid": "\\ud800"}]}'),
    ],
)
def test_every_text_of_a_receipt_can_be_written_down(status: int, body: bytes) -> None:
    """JSON can hold half a character, a database cannot: recording the answer must not fail."""
    for text in texts_of(seen(status, body, events=1)):
        text.encode("utf-8")


@pytest.mark.parametrize("unit", [b"a", b"1", b"1-", b"@", b"a@", b"[", b'{"errors":'])
@pytest.mark.parametrize("status", [200, 502, 400])
def test_a_large_answer_is_judged_at_once(unit: bytes, status: int) -> None:
    """While it is judged nothing is recorded: a proxy's page must not take minutes."""
    started = time.perf_counter()
    seen(status, unit * (40_000 // len(unit)))
    assert time.perf_counter() - started < 1


# --- personal data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "personal",
    [
        "ana@example.com",
        "ana.souza+loja@sub.exemplo.com.br",
        "joão@exemplo.com.br",
        "ana%40example.com",
        "+5511912345678",
        "5511912345678",
        "(11) 91234-5678",
        "11 91234-5678",
        "+55 11 91234-5678",
        "11.91234.5678",
        "+55 (11) 9 1234 5678",
        "11\u00a091234\u20115678",
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "lead {} is unknown", '{{"email":"{}"}}', "<b>{}</b>", "key={}, next"]
)
def test_a_servers_text_is_kept_without_emails_and_phones(personal: str, around: str) -> None:
    """Stored texts stay for ever; a person's address must not."""
    kept = scrub(around.format(personal))
    assert "[…]" in kept
    for part in ("ana", "joão", "souza", "example", "exemplo", "1234", "5678"):
        assert part not in kept


def test_a_text_that_names_nobody_stays_as_it_is() -> None:
    assert scrub("Must be one of 10 valid options.") == "Must be one of 10 valid options."


def test_a_text_is_flattened_and_cut() -> None:
    assert scrub("a\n\tb") == "a b"
    assert len(scrub("x " * 1000)) == 300


def test_no_email_is_half_kept_where_the_text_is_cut() -> None:
    assert "ana" not in scrub("x" * 295 + " ana@example.com")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, None])
def test_no_receipt_but_that_of_a_contacts_limit_names_a_person(status: int | None) -> None:
    text = "lead ana@example.com, phone +5511912345678"
    for answer in ({"errors": error("", "X", text)}, {"message": text}, text.encode()):
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        receipt = judge(Observation(status, {}, body, 0, text), 2)
        assert not any("ana@" in one or "91234" in one for one in texts_of(receipt))
