"""The sandbox refuses what the API's pages refuse, and keeps what it accepted."""

import _thread
import ast
import copy
import http.client
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from rd_import import sandbox as sandbox_package
from rd_import.sandbox import Sandbox
from rd_import.sandbox.rules import compile_rules

BATCH, SINGLE, CONVERSIONS = (
    "/platform/events/batch",
    "/platform/events",
    "/platform/conversions",
)
INSTANCE_HEADER = "X-RD-Sandbox-Instance"
PACKAGE = Path(sandbox_package.__file__).parent
CATALOGUE = json.loads((PACKAGE / "events.json").read_text(encoding="utf-8"))
EXAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "api_examples").glob("*.json"))
}
REMOVED_TYPES = {"ORDER_PLACED", "ORDER_PLACED_ITEM", "CART_ABANDONED", "CART_ABANDONED_ITEM"}
REMOVED = [name for name, event in EXAMPLES.items() if event["event_type"] in REMOVED_TYPES]
CURRENT = [name for name in EXAMPLES if name not in REMOVED]
CURRENT_TYPES = [
    "CONVERSION",
    "OPPORTUNITY",
    "SALE",
    "OPPORTUNITY_LOST",
    "CHAT_STARTED",
    "CHAT_FINISHED",
    "CALL_FINISHED",
    "MEDIA_PLAYBACK_STARTED",
    "MEDIA_PLAYBACK_STOPPED",
    "ECOMMERCE_CHECKOUT_STARTED",
    "ECOMMERCE_CART_ABANDONED",
    "ECOMMERCE_ORDER_PLACED",
    "ECOMMERCE_ORDER_PAID",
    "ECOMMERCE_ORDER_FULFILLED",
    "ECOMMERCE_SHIPMENT_DELIVERED",
    "ECOMMERCE_ORDER_CANCELLED",
    "ECOMMERCE_ORDER_REFUNDED",
]
GOOD = EXAMPLES["conversion.minimal"]


class Client:
    """A client of one sandbox, with its token and one connection."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers = {
            "Authorization": f"Bearer {sandbox.token}",
            "Content-Type": "application/json",
        }

    def post(self, path: str, body: Any, **headers: str | None) -> requests.Response:
        """POST a value, or bytes as they are; a header set to None is left out."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        merged = {k: v for k, v in {**self.headers, **named}.items() if v is not None}
        return self.session.post(self.sandbox.url + path, data=data, headers=merged, timeout=10)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(self.sandbox.url + path, headers=headers, timeout=10)


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def shared(shared_sandbox: Sandbox) -> Iterator[Client]:
    """A client of a sandbox that other tests use too: for tests that only look at answers."""
    client = Client(shared_sandbox)
    with client.session:
        yield client


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    client = Client(sandbox)
    with client.session:
        yield client


def sized(length: int) -> bytes:
    """Make a batch of one good event whose body has exactly so many bytes."""
    event = copy.deepcopy(GOOD)
    event["payload"]["name"] = "n"
    event["payload"]["name"] = "n" * (length - len(json.dumps([event])) + 1)
    return json.dumps([event]).encode()


def conversion(email: str, **fields: Any) -> dict[str, Any]:
    payload = {"conversion_identifier": "loja", "email": email, **fields}
    return {"event_type": "CONVERSION", "event_family": "CDP", "payload": payload}


# What is accepted


@pytest.mark.parametrize("name", CURRENT)
def test_an_example_of_a_current_type_is_accepted_in_a_batch(shared: Client, name: str) -> None:
    answer = shared.post(BATCH, [EXAMPLES[name]])
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"event_batch_uuid", "events"}
    assert [set(event) for event in answer.json()["events"]] == [{"event_uuid"}]


@pytest.mark.parametrize("name", CURRENT)
def test_an_example_of_a_current_type_is_accepted_singly(shared: Client, name: str) -> None:
    answer = shared.post(SINGLE, EXAMPLES[name])
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"event_uuid"}


@pytest.mark.parametrize("name", REMOVED)
def test_an_example_of_a_removed_type_is_refused(shared: Client, name: str) -> None:
    """They were accepted until 2025-12-31; the answer names the types that are left."""
    answer = shared.post(SINGLE, EXAMPLES[name])
    assert answer.status_code == 400
    assert answer.json() == {
        "errors": [
            {
                "error_type": "INVALID_OPTION",
                "error_message": "Must be one of the valid options.",
                "validation_rules": {"valid_options": CURRENT_TYPES},
                "path": "$.body.event_type",
            }
        ]
    }


def test_there_are_two_examples_of_each_of_the_21_types() -> None:
    assert (len(CURRENT), len(REMOVED)) == (34, 8)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("conversion.minimal", "cf_lojas", ["Centro", "Norte"]),
        ("conversion.minimal", "cf_filhos", 2),
        ("conversion.minimal", "cf_vip", False),
        ("conversion.minimal", "traffic_source", "encoded_eyJmaXJzdF9zZXNzaW9uIjp7fX0="),
        ("conversion.minimal", "conversion_identifier", "x" * 255),
        ("conversion.minimal", "website", "HTTPS://loja.example.com/á?q=1#topo"),
        ("call_finished.minimal", "call_started_at", "2019-03-15T15:00:00.05-03:00"),
        ("call_finished.minimal", "call_phone_type", "comercial"),
        ("sale.minimal", "value", 0),
        ("media_playback_stopped.minimal", "media_user_interaction_percentage", 100),
        ("ecommerce_order_paid.minimal", "total_items", 0),
        ("ecommerce_order_paid.minimal", "price", 0.0),
        (
            "chat_started.minimal",
            "legal_bases",
            [
                {"category": "data_processing", "type": "consent"},
                {"category": "data_processing", "type": "vital_interest", "status": "granted"},
                {"category": "communications", "type": "consent", "status": "declined"},
            ],
        ),
    ],
)
def test_a_value_at_the_edge_of_what_is_legal_is_accepted(
    shared: Client, name: str, field: str, value: Any
) -> None:
    event = copy.deepcopy(EXAMPLES[name])
    event["payload"][field] = value
    answer = shared.post(BATCH, [event])
    assert answer.status_code == 200, answer.text


def test_uuids_come_in_the_order_of_the_request(sandbox: Sandbox, client: Client) -> None:
    sent = [conversion(f"c{number}@example.com") for number in range(300)]
    answer = client.post(BATCH, sent).json()
    kept = sandbox.events()
    assert [event.event for event in kept] == sent
    assert [event.event_uuid for event in kept] == [e["event_uuid"] for e in answer["events"]]
    assert [event.event_batch_index for event in kept] == list(range(300))
    assert {event.event_batch_uuid for event in kept} == {answer["event_batch_uuid"]}
    assert len({event.event_uuid for event in kept} | {answer["event_batch_uuid"]}) == 301


def test_a_single_event_is_a_batch_of_one(sandbox: Sandbox, client: Client) -> None:
    uuids = [client.post(SINGLE, GOOD).json()["event_uuid"] for _ in range(2)]
    first, second = sandbox.events()
    assert [first.event_uuid, second.event_uuid] == uuids
    assert (first.event_batch_index, second.event_batch_index) == (0, 0)
    assert first.event_batch_uuid != second.event_batch_uuid


def test_the_arrival_time_is_aware_and_in_utc(sandbox: Sandbox, client: Client) -> None:
    client.post(SINGLE, GOOD)
    assert sandbox.events()[0].received_at.tzinfo is UTC


def test_eight_threads_lose_nothing(sandbox: Sandbox, client: Client) -> None:
    def send(thread: int) -> list[str]:
        own = Client(sandbox)
        with own.session:
            answers = [
                own.post(BATCH, [conversion(f"t{thread}-{n}-{i}@example.com") for i in range(5)])
                for n in range(20)
            ]
        return [event["event_uuid"] for answer in answers for event in answer.json()["events"]]

    with ThreadPoolExecutor(8) as pool:
        answered = [uuid for uuids in pool.map(send, range(8)) for uuid in uuids]
    kept = sandbox.events()
    assert sorted(event.event_uuid for event in kept) == sorted(answered)
    assert len({event.event["payload"]["email"] for event in kept}) == 800  # type: ignore[index]
    assert client.get("/stats").json()["accepted_events"] == 800
    indexes = [event.event_batch_index for event in kept]
    assert indexes == [0, 1, 2, 3, 4] * 160  # no batch stands inside another


# What is refused: fields

DELETED = object()
ITEM = {"product_id": "P-1", "product_title": "Camiseta", "price": 79.9, "quantity": 1}
PROCESSING_DECLINED = {"category": "data_processing", "type": "consent", "status": "declined"}

# Example: the one place that is changed, its new value, the error that the answer gives for it.
BROKEN: dict[str, list[tuple[str, Any, str]]] = {
    "sale.minimal": [
        (".event_type", DELETED, "CANNOT_BE_NULL"),
        (".event_type", None, "CANNOT_BE_NULL"),
        (".event_type", "", "CANNOT_BE_BLANK"),
        (".event_type", 7, "MUST_BE_STRING"),
        (".event_type", ["SALE"], "MUST_BE_STRING"),
        (".event_type", "sale", "INVALID_OPTION"),
        (".event_family", DELETED, "CANNOT_BE_NULL"),
        (".event_family", "cdp", "INVALID_OPTION"),
        (".payload", DELETED, "CANNOT_BE_NULL"),
        (".payload", None, "CANNOT_BE_NULL"),
        (".payload", [], "INVALID"),
        (".event_timestamp", "2026-01-01T00:00:00Z", "INVALID_OPTION"),
        (".payload.email", DELETED, "CANNOT_BE_NULL"),
        (".payload.email", None, "CANNOT_BE_NULL"),
        (".payload.email", "", "CANNOT_BE_BLANK"),
        (".payload.email", " \t", "CANNOT_BE_BLANK"),
        (".payload.email", "ana", "INVALID_FORMAT"),
        (".payload.email", "ana@localhost", "INVALID_FORMAT"),
        (".payload.email", "ana@example.com\n", "INVALID_FORMAT"),
        (".payload.email", "Ana <ana@example.com>", "INVALID_FORMAT"),
        (".payload.email", "a" * 250 + "@b.com", "TOO_LONG"),
        (".payload.funnel_name", DELETED, "CANNOT_BE_NULL"),
        (".payload.value", "200", "INVALID"),
        (".payload.value", True, "INVALID"),
        (".payload.value", -0.01, "INVALID"),
        (".payload.reason", "caro", "INVALID_OPTION"),
        (".payload.cf_loja", "Centro", "INVALID_OPTION"),
        (".payload.legal_bases", [], "INVALID_OPTION"),
    ],
    "conversion.full": [
        (".payload.conversion_identifier", "x" * 256, "TOO_LONG"),
        (".payload.available_for_mailing", "true", "MUST_BE_BOOLEAN"),
        (".payload.available_for_mailing", 1, "MUST_BE_BOOLEAN"),
        (".payload.tags", "vip", "MUST_BE_STRING_ARRAY"),
        (".payload.tags", [], "CANNOT_BE_BLANK"),
        (".payload.tags[1]", "", "CANNOT_BE_BLANK"),
        (".payload.tags[0]", 3, "MUST_BE_STRING"),
        (".payload.cf_Loja", "Centro", "INVALID_FORMAT"),
        (".payload.cf_loja", 1.5, "MUST_BE_STRING"),
        (".payload.cf_loja", None, "CANNOT_BE_NULL"),
        (".payload.legal_bases", [], "CANNOT_BE_BLANK"),
        (".payload.legal_bases[0]", "communications", "INVALID"),
        (".payload.legal_bases[0].category", "marketing", "INVALID_OPTION"),
        (".payload.legal_bases[0].type", "consentimento", "INVALID_OPTION"),
        (".payload.legal_bases[0].type", DELETED, "CANNOT_BE_NULL"),
        (".payload.legal_bases[0].status", DELETED, "CANNOT_BE_NULL"),
        (".payload.legal_bases[0].status", "maybe", "INVALID_OPTION"),
        (".payload.legal_bases[0].since", "2020", "INVALID_OPTION"),
    ],
    "chat_started.minimal": [
        (".payload.cf_loja", "Centro", "INVALID_OPTION"),
        (".payload.cf_birthdate", "10/06/1980", "INVALID_FORMAT"),
        (".payload.cf_birthdate", "1980-02-30", "INVALID_FORMAT"),
    ],
    "call_finished.minimal": [
        (".payload.call_duration", 58, "MUST_BE_STRING"),
        (".payload.call_duration", "58s", "INVALID_FORMAT"),
        (".payload.call_duration", "٥٨", "INVALID_FORMAT"),
        (".payload.call_type", "inbound", "INVALID_OPTION"),
        (".payload.call_started_at", "2026-03-15 14:53:42Z", "INVALID_FORMAT"),
        (".payload.call_started_at", "2026-03-15T14:53:42", "INVALID_FORMAT"),
        (".payload.call_started_at", "2026-03-15T14:53:42+24:00", "INVALID_FORMAT"),
        (".payload.call_started_at", "2026-02-30T14:53:42Z", "INVALID_FORMAT"),
    ],
    "media_playback_started.minimal": [
        (".payload.media_finished", True, "INVALID_OPTION"),
    ],
    "media_playback_stopped.minimal": [
        (".payload.media_duration", 58.0, "INVALID"),
        (".payload.media_duration", -1, "INVALID"),
        (".payload.media_user_interaction_percentage", 101, "MUST_BE_LESS_THAN_OR_EQUAL"),
    ],
    "ecommerce_checkout_started.minimal": [
        (".payload.checkout_url", "ftp://loja.example.com/c", "INVALID_FORMAT"),
        (".payload.checkout_url", DELETED, "CANNOT_BE_NULL"),
        (".payload.total_items", 0, "INVALID"),
    ],
    "ecommerce_order_placed.full": [
        (".payload.currency", "brl", "INVALID_OPTION"),
        (".payload.currency", DELETED, "CANNOT_BE_NULL"),
        (".payload.identifier", 10234, "MUST_BE_STRING"),
        (".payload.payment_methods", ["pix"] * 6, "TOO_LONG"),
        (".payload.line_items", [ITEM] * 21, "TOO_LONG"),
        (".payload.line_items", ITEM, "INVALID"),
        (".payload.line_items[0]", "P-1", "INVALID"),
        (".payload.line_items[0].product_id", "x" * 151, "TOO_LONG"),
        (".payload.line_items[0].product_title", "x" * 256, "TOO_LONG"),
        (".payload.line_items[0].categories", ["c"] * 11, "TOO_LONG"),
        (".payload.line_items[0].color", "azul", "INVALID_OPTION"),
        (".payload.line_items[1].quantity", 0, "INVALID"),
        (".payload.line_items[1].price", DELETED, "CANNOT_BE_NULL"),
        (".payload.legal_bases[0].category", "data_processing", "INVALID_OPTION"),
    ],
    "ecommerce_order_cancelled.full": [
        (".payload.cancel_reason", "changed mind", "INVALID_OPTION"),
    ],
    "ecommerce_order_refunded.minimal": [
        (".payload.price", 10, "INVALID_OPTION"),
    ],
    "ecommerce_shipment_delivered.minimal": [
        (".payload.order_identifier", DELETED, "CANNOT_BE_NULL"),
    ],
}


def changed(event: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Copy an event with one place, `.payload.tags[1]`, changed or DELETED."""
    copied = copy.deepcopy(event)
    *steps, last = (int(index) if index else name for name, index in STEP.findall(place))
    parent: Any = copied
    for step in steps:
        parent = parent[step]
    if value is DELETED:
        del parent[last]
    else:
        parent[last] = value
    return copied


STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def errors_of(answer: requests.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.text
    return [(error["error_type"], error["path"]) for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("name", "place", "value", "error_type"),
    [(name, *case) for name, cases in BROKEN.items() for case in cases],
)
def test_one_broken_place_is_refused_with_its_error_and_path(
    shared: Client, name: str, place: str, value: Any, error_type: str
) -> None:
    broken = changed(EXAMPLES[name], place, value)
    assert errors_of(shared.post(BATCH, [GOOD, broken])) == [(error_type, f"$[1]{place}")]


@pytest.mark.parametrize("event_type", CURRENT_TYPES)
def test_every_field_of_every_type_is_checked(shared: Client, event_type: str) -> None:
    """No field takes null, and an object, which no field is, is of the wrong type everywhere."""
    fields = next(e["fields"] for e in CATALOGUE["events"] if e["event_type"] == event_type)
    places = list(places_of(fields, ".payload"))
    full = next(EXAMPLES[n] for n in CURRENT if EXAMPLES[n]["event_type"] == event_type)
    for place in places:
        null, wrong = changed(full, place, None), changed(full, place, {})
        answer = shared.post(BATCH, [null, wrong])
        first, second = errors_of(answer)
        assert first == ("CANNOT_BE_NULL", f"$[0]{place}")
        assert second[1] == f"$[1]{place}"


def places_of(fields: list[dict[str, Any]], parent: str) -> Iterator[str]:
    for field in fields:
        if field["fields"]:
            yield from places_of(field["fields"], f"{parent}.{field['name']}[0]")
        yield f"{parent}.{field['name'].replace('*', 'segmento')}"


@pytest.mark.parametrize("event_type", CURRENT_TYPES)
def test_every_required_field_of_every_type_is_required(shared: Client, event_type: str) -> None:
    fields = next(e["fields"] for e in CATALOGUE["events"] if e["event_type"] == event_type)
    empty = {"event_type": event_type, "event_family": "CDP", "payload": {}}
    assert errors_of(shared.post(BATCH, [empty])) == [
        ("CANNOT_BE_NULL", f"$[0].payload.{field['name']}") for field in fields if field["required"]
    ]


def test_a_declined_data_processing_is_refused(shared: Client) -> None:
    event = conversion("ana@example.com", legal_bases=[PROCESSING_DECLINED])
    assert errors_of(shared.post(BATCH, [event])) == [
        ("INVALID_OPTION", "$[0].payload.legal_bases[0].status")
    ]


@pytest.mark.parametrize(
    "cookie", ['{"first_session":{}}', "encoded_eyJmaXJzdCI6e319", "eyJmIjp7fX0="]
)
def test_a_traffic_cookie_goes_with_no_other_traffic_field(shared: Client, cookie: str) -> None:
    event = conversion("ana@example.com", traffic_source=cookie, traffic_value="ovo")
    assert errors_of(shared.post(BATCH, [event])) == [
        ("CONFLICTING_FIELD", "$[0].payload.traffic_value")
    ]


def test_a_key_that_is_no_name_is_quoted_in_the_path(shared: Client) -> None:
    event = conversion("ana@example.com", **{"no meu": "1"})
    assert errors_of(shared.post(BATCH, [event])) == [("INVALID_OPTION", '$[0].payload["no meu"]')]
    assert errors_of(shared.post(SINGLE, event)) == [("INVALID_OPTION", '$.payload["no meu"]')]


def test_the_single_endpoint_writes_both_documented_forms_of_path(shared: Client) -> None:
    broken = {"event_type": "SALE", "event_family": "X", "payload": {"email": "ana"}}
    assert errors_of(shared.post(SINGLE, broken)) == [
        ("INVALID_OPTION", "$.body.event_family"),
        ("INVALID_FORMAT", "$.payload.email"),
        ("CANNOT_BE_NULL", "$.payload.funnel_name"),
    ]


def test_a_batch_with_bad_events_is_refused_whole_and_names_them_all(
    sandbox: Sandbox, client: Client
) -> None:
    bad = conversion("ana")
    answer = client.post(BATCH, [GOOD, bad, GOOD, bad, "event", None])
    assert errors_of(answer) == [
        ("INVALID_FORMAT", "$[1].payload.email"),
        ("INVALID_FORMAT", "$[3].payload.email"),
        ("INVALID", "$[4]"),
        ("CANNOT_BE_NULL", "$[5]"),
    ]
    assert sandbox.events() == []


@pytest.mark.parametrize(("path", "body"), [(BATCH, GOOD), (BATCH, []), (SINGLE, [GOOD])])
def test_a_body_of_the_wrong_shape_is_refused(shared: Client, path: str, body: Any) -> None:
    assert shared.post(path, body).status_code == 400


def test_a_catalogue_with_an_unknown_rule_is_not_used() -> None:
    """A format that nobody checks would let bad events through, without a word."""
    catalogue = copy.deepcopy(CATALOGUE)
    catalogue["events"][0]["fields"][0]["format"] = "even number of letters"
    with pytest.raises(ValueError, match="conversion_identifier: no check for string, 'even"):
        compile_rules(catalogue)


# What is refused: requests


@pytest.mark.parametrize("path", [BATCH, SINGLE])
@pytest.mark.parametrize(
    "credentials", [None, "Bearer wrong", "Bearer", "Basic {token}", "{token}"]
)
def test_a_request_without_the_token_is_unauthorized(
    shared: Client, path: str, credentials: str | None
) -> None:
    given = credentials and credentials.format(token=shared.sandbox.token)
    answer = shared.post(path, [GOOD], Authorization=given)
    assert answer.status_code == 401
    assert answer.json() == {
        "errors": {"error_type": "UNAUTHORIZED", "error_message": "Invalid token."}
    }
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="https://api.rd.services/", error="expired_token", '
        'error_description="The access token expired"'
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": None},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/jsonp"},
        {"Content_Type": "application/json; charset=iso-8859-1"},
        {"Content_Encoding": "gzip"},
    ],
)
def test_a_body_that_is_not_called_plain_json_is_refused(
    shared: Client, headers: dict[str, str | None]
) -> None:
    answer = shared.post(BATCH, [GOOD], **headers)
    assert answer.status_code == 415
    assert answer.json()["errors"]["error_type"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=UTF-8"])
def test_json_in_utf_8_is_taken_however_it_is_spelt(shared: Client, content_type: str) -> None:
    assert shared.post(BATCH, [GOOD], Content_Type=content_type).status_code == 200


def test_the_body_limit_is_200000_bytes_exactly(sandbox: Sandbox, client: Client) -> None:
    assert client.post(BATCH, sized(200_000)).status_code == 200
    answer = client.post(BATCH, sized(200_001))
    assert answer.status_code == 413
    assert answer.json()["errors"]["error_type"] == "PAYLOAD_TOO_LARGE"
    assert len(sandbox.events()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[] []",
        b"[NaN]",
        b"[-Infinity]",
        b'[{"payload": {}, "payload": {}}]',
        b'["\xe3"]',
        b"\xef\xbb\xbf[]",
        "[]".encode("utf-16"),
        b'["\\ud83d"]',
        b"[" * 150_000,
        b"[" + b"9" * 5000 + b"]",
    ],
)
def test_a_body_that_is_not_strictly_json_is_a_bad_request(shared: Client, body: bytes) -> None:
    answer = shared.post(BATCH, body)
    assert answer.status_code == 400
    assert answer.json()["errors"]["error_type"] == "BAD_REQUEST"


def test_a_number_beyond_all_numbers_is_no_amount(shared: Client) -> None:
    body = json.dumps([EXAMPLES["sale.full"]]).replace("200.0", "1e999").encode()
    assert errors_of(shared.post(BATCH, body)) == [
        ("MUST_BE_LESS_THAN_OR_EQUAL", "$[0].payload.value")
    ]


@pytest.mark.parametrize("path", ["/", "/platform/event", "/platform/events/", "/events"])
def test_an_unknown_path_is_not_found(shared: Client, path: str) -> None:
    answer = shared.post(path, [GOOD])
    assert answer.status_code == 404
    assert answer.json()["errors"]["error_type"] == "RESOURCE_NOT_FOUND"


def test_a_request_is_judged_in_order_path_token_type_size_json_fields(shared: Client) -> None:
    """Each request has the flaws of all later ones too."""
    wrong: dict[str, str | None] = {"Authorization": None, "Content_Type": "text/plain"}
    too_big = b"{" * 200_001
    assert shared.post("/nowhere", too_big, **wrong).status_code == 404
    assert shared.post(BATCH, too_big, **wrong).status_code == 401
    assert shared.post(BATCH, too_big, Content_Type="text/plain").status_code == 415
    assert shared.post(BATCH, too_big).status_code == 413


# The conversions endpoint


def test_a_conversion_is_taken_with_the_api_key(sandbox: Sandbox, client: Client) -> None:
    answer = client.post(f"{CONVERSIONS}?api_key={sandbox.api_key}", GOOD, Authorization=None)
    assert answer.status_code == 200
    assert [event.event_uuid for event in sandbox.events()] == [answer.json()["event_uuid"]]


def test_the_api_key_takes_nothing_but_conversions(shared: Client) -> None:
    path = f"{CONVERSIONS}?api_key={shared.sandbox.api_key}"
    answer = shared.post(path, EXAMPLES["sale.minimal"])
    assert errors_of(answer) == [("INVALID_OPTION", "$.body.event_type")]
    rules = answer.json()["errors"][0]["validation_rules"]
    assert rules == {"valid_options": ["CONVERSION"]}


@pytest.mark.parametrize("query", ["", "?api_key=", "?api_key=wrong"])
def test_a_wrong_api_key_is_unauthorized_even_with_a_token(shared: Client, query: str) -> None:
    assert shared.post(CONVERSIONS + query, GOOD).status_code == 401


def test_the_api_key_is_remembered_nowhere(
    sandbox: Sandbox, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    client.post(f"{CONVERSIONS}?api_key={sandbox.api_key}", GOOD)
    assert sandbox.requests()[0].path == CONVERSIONS
    assert sandbox.api_key not in client.get("/requests").text + client.get("/").text
    assert capfd.readouterr() == ("", "")


# The connection


def test_one_connection_serves_good_and_bad_requests_alike(sandbox: Sandbox) -> None:
    """A refused body is read all the same, else its bytes would pass for the next request."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    headers = {"Authorization": f"Bearer {sandbox.token}", "Content-Type": "application/json"}
    good = json.dumps([GOOD]).encode()
    sockets, statuses = [], []
    for path, body, given in [
        (BATCH, good, headers),
        (BATCH, b"x" * 1_000_000, headers),
        (BATCH, good, {}),
        ("/nowhere", good, headers),
        (BATCH, b"[", headers),
        (BATCH, good, headers),
    ]:
        connection.request("POST", path, body, given)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        sockets.append(connection.sock)
    connection.close()
    assert statuses == [200, 413, 401, 404, 400, 200]
    assert all(used is sockets[0] for used in sockets)


def exchange(sandbox: Sandbox, *parts: bytes) -> bytes:
    """Send bytes as they are, and read until the server closes the connection."""
    parsed = urlsplit(sandbox.url)
    with socket.create_connection((parsed.hostname, parsed.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(sandbox: Sandbox, *lines: str) -> bytes:
    known = [
        f"POST {BATCH} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {sandbox.token}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*known, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Transfer-Encoding: chunked"], 411),
        ([], 411),
        (["Content-Length: +2"], 400),
        (["Content-Length: two"], 400),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: 17000000"], 413),
    ],
)
def test_a_body_of_unusable_length_is_refused_and_the_connection_closed(
    sandbox: Sandbox, lines: list[str], status: int
) -> None:
    answer = exchange(sandbox, head(sandbox, *lines))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in answer
    assert sandbox.requests()[0].status == status


def test_a_body_cut_off_half_way_is_not_answered_and_not_kept(sandbox: Sandbox) -> None:
    body = json.dumps([GOOD]).encode()
    length = f"Content-Length: {len(body) + 1}"
    assert exchange(sandbox, head(sandbox, length), body) == b""
    assert sandbox.events() == []


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(sandbox: Sandbox) -> None:
    body = json.dumps([GOOD]).encode()
    parsed = urlsplit(sandbox.url)
    with socket.create_connection((parsed.hostname, parsed.port), timeout=10) as connection:
        lines = f"Content-Length: {len(body)}", "Expect: 100-continue"
        connection.sendall(head(sandbox, *lines))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_every_answer_names_the_instance(shared: Client) -> None:
    answers = [
        shared.post(BATCH, [GOOD]),
        shared.post(BATCH, []),
        shared.post("/nowhere", {}),
        shared.get("/"),
        shared.get("/nowhere"),
        shared.get("/events", Host="evil.example"),
        shared.session.put(shared.sandbox.url, timeout=10),
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 404, 200, 404, 403, 501]
    assert {a.headers[INSTANCE_HEADER] for a in answers} == {shared.sandbox.instance}


# Looking at it


def test_every_post_is_remembered(sandbox: Sandbox, client: Client) -> None:
    answer = client.post(BATCH, [GOOD, GOOD]).json()
    client.post(BATCH, [GOOD, conversion("ana"), GOOD])
    client.post(SINGLE, GOOD, Authorization=None)
    accepted, refused, unauthorized = sandbox.requests()
    assert (accepted.path, accepted.status, accepted.events) == (BATCH, 200, 2)
    assert accepted.body_bytes == len(json.dumps([GOOD, GOOD]))
    assert accepted.event_batch_uuid == answer["event_batch_uuid"]
    assert list(accepted.event_uuids) == [event["event_uuid"] for event in answer["events"]]
    assert (refused.status, refused.events, refused.event_uuids) == (400, 3, ())
    assert refused.errors[0]["path"] == "$[1].payload.email"
    assert (unauthorized.path, unauthorized.status, unauthorized.events) == (SINGLE, 401, 0)
    listed = client.get("/requests").json()
    assert [request["status"] for request in listed] == [200, 400, 401]
    assert listed[0]["event_uuids"] == list(accepted.event_uuids)


def test_stats_count_what_arrived(sandbox: Sandbox, client: Client) -> None:
    client.post(BATCH, [GOOD, EXAMPLES["sale.minimal"], GOOD])
    client.post(SINGLE, {})
    assert client.get("/stats").json() == {
        "instance": sandbox.instance,
        "requests": 2,
        "accepted_events": 3,
        "refused_requests": 1,
        "by_type": {"CONVERSION": 2, "SALE": 1},
    }


def test_events_are_read_in_pages_across_batches(sandbox: Sandbox, client: Client) -> None:
    for start in (0, 3, 6):
        client.post(BATCH, [conversion(f"c{start + n}@example.com") for n in range(3)])
    everything = client.get("/events").json()
    assert (everything["instance"], everything["count"]) == (sandbox.instance, 9)
    first = everything["events"][0]
    assert set(first) == {
        "event_uuid",
        "event_batch_uuid",
        "event_batch_index",
        "received_at",
        "event",
    }
    assert first["event"] == conversion("c0@example.com")
    for offset, limit in [(0, 9), (2, 1), (2, 5), (3, 3), (8, 4), (9, 1), (0, 0), (20, 5)]:
        page = client.get(f"/events?offset={offset}&limit={limit}").json()["events"]
        assert page == everything["events"][offset : offset + limit]


@pytest.mark.parametrize("query", ["offset=-1", "limit=all", "limit="])
def test_a_page_that_cannot_be_counted_is_refused(shared: Client, query: str) -> None:
    assert shared.get(f"/events?{query}").status_code == 400


def test_deleting_needs_the_token_and_forgets_everything(sandbox: Sandbox, client: Client) -> None:
    client.post(SINGLE, GOOD)
    url = sandbox.url + "/events"
    assert client.session.delete(url, timeout=10).status_code == 401
    assert len(sandbox.events()) == 1
    answer = client.session.delete(url, headers=client.headers, timeout=10)
    assert answer.json() == {"instance": sandbox.instance, "cleared": 1}
    assert (sandbox.events(), sandbox.requests()) == ([], [])


@pytest.mark.parametrize("path", ["/", "/events", "/requests", "/stats"])
def test_a_request_addressed_to_another_name_is_forbidden(shared: Client, path: str) -> None:
    """A site in a browser can make its own name point here, and would read along."""
    port = urlsplit(shared.sandbox.url).port
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        assert shared.get(path, Host=name).status_code == 403
    for name in ("localhost", f"LOCALHOST:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert shared.get(path, Host=name).status_code == 200


def test_the_page_shows_events_as_text_and_runs_nothing(client: Client) -> None:
    attack = "<script>alert(1)</script>"
    client.post(BATCH, [conversion("ana@example.com", name=attack)])
    client.post(BATCH, [conversion("ana@example.com", **{attack: "1"})])
    page = client.get("/?contact=%22%3E%3Cscript%3E&type=%3Cscript%3E")
    shown = client.get("/")
    assert "<script" not in page.text + shown.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = (PACKAGE / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=|@import|url\(", page)


def test_the_page_filters_by_type_and_contact(client: Client) -> None:
    client.post(BATCH, [conversion("ana@example.com"), conversion("rui+novo@example.com")])
    client.post(SINGLE, EXAMPLES["sale.minimal"])
    assert addresses(client.get("/").text) == [
        "ana.souza@example.com",
        "rui+novo@example.com",
        "ana@example.com",
    ]
    assert addresses(client.get("/?type=SALE").text) == ["ana.souza@example.com"]
    assert addresses(client.get("/?contact=RUI%2Bnovo").text) == ["rui+novo@example.com"]
    assert addresses(client.get("/?type=SALE&contact=rui").text) == []


def test_a_contact_is_found_however_its_sender_escaped_it(client: Client) -> None:
    body = json.dumps([conversion("ana@example.com")]).replace("ana", "\\u0061na").encode()
    client.post(BATCH, body)
    assert addresses(client.get("/?contact=ana@").text) == ["ana@example.com"]


def addresses(page: str) -> list[str]:
    return re.findall(r'<td role="cell">([^<]*@[^<]*)</td>', page)


def test_the_page_shows_the_newest_200(client: Client) -> None:
    client.post(BATCH, [conversion(f"c{n}@example.com") for n in range(250)])
    shown = addresses(client.get("/").text)
    assert (len(shown), shown[0], shown[-1]) == (200, "c249@example.com", "c50@example.com")


def test_the_page_says_what_was_refused_and_why(client: Client) -> None:
    client.post(BATCH, [conversion("ana")])
    page = client.get("/").text
    assert "$[0].payload.email" in page
    assert "INVALID_FORMAT" in page


# The sandbox itself


def test_two_sandboxes_share_nothing(sandbox: Sandbox, client: Client) -> None:
    with Sandbox() as other:
        assert other.url != sandbox.url
        assert other.token != sandbox.token
        assert other.instance != sandbox.instance
        client.post(SINGLE, GOOD)
        assert other.events() == []


def test_the_token_may_be_chosen() -> None:
    with Sandbox(token="mine") as sandbox:  # noqa: S106
        client = Client(sandbox)
        with client.session:
            assert sandbox.token == "mine"  # noqa: S105
            assert client.post(SINGLE, GOOD).status_code == 200


def test_a_stopped_sandbox_lets_go_of_its_connections_and_its_port() -> None:
    sandbox = Sandbox()
    sandbox.start()
    client = Client(sandbox)
    with client.session:
        client.post(SINGLE, GOOD)
        sandbox.stop()
        sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            client.post(SINGLE, GOOD)
    assert len(sandbox.events()) == 1
    with Sandbox(port=urlsplit(sandbox.url).port or 0) as successor:
        assert successor.url == sandbox.url


def test_a_sandbox_that_never_served_can_be_stopped() -> None:
    Sandbox().stop()


def test_a_signal_handler_may_stop_the_sandbox_it_interrupts() -> None:
    sandbox = Sandbox()
    before = signal.signal(signal.SIGINT, lambda *_: sandbox.stop())
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    try:
        sandbox.serve_forever()  # would never return if stop waited for it
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_the_access_log_names_the_path_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="rd_import")
    with Sandbox(access_log=True) as sandbox:
        client = Client(sandbox)
        with client.session:
            client.post(f"{CONVERSIONS}?api_key={sandbox.api_key}", GOOD)
    assert "method=POST path=/platform/conversions status=200" in caplog.text
    assert sandbox.api_key not in caplog.text


def test_the_sandbox_shares_no_code_with_the_importer() -> None:
    """A server that validated with our code would agree with our mistakes."""
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert (
                    name.split(".")[0] in sys.stdlib_module_names
                    or name.startswith("rd_import.sandbox.")
                    or name in {"rdstation_events.api_facts", "rd_import.catalogue"}
                ), f"{path.name} imports {name}"
