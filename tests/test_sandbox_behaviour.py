"""Each switch and each fault of the sandbox does what its description says, over real HTTP."""

import contextlib
import copy
import http.client
import inspect
import json
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from rd_import.sandbox import Behaviour, Fault, Sandbox, Scenario
from rd_import.sandbox.switches import _BEHAVIOUR_RULES, _FAULT_RULES

BATCH, SINGLE, TOKEN = "/platform/events/batch", "/platform/events", "/auth/token"
LOST = requests.ConnectionError, requests.exceptions.ChunkedEncodingError
EXAMPLES = Path(__file__).parent / "api_examples"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Bench:
    """A sandbox, its clock, what it slept, and a client of it."""

    def __init__(self, sandbox: Sandbox, clock: Clock, slept: list[float]) -> None:
        self.sandbox, self.clock, self.slept = sandbox, clock, slept
        self.token = sandbox.token
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, *events: Any) -> requests.Response:
        """POST a batch."""
        return self.send(BATCH, list(events))

    def send(self, path: str, body: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return self.session.post(
            self.sandbox.url + path,
            data=json.dumps(body),
            headers=headers,
            timeout=10,
            allow_redirects=False,
        )

    def get(self, path: str) -> Any:
        return self.session.get(self.sandbox.url + path, timeout=10).json()

    def statuses(self, *requests_of_events: list[Any]) -> list[int]:
        return [self.post(*events).status_code for events in requests_of_events]

    def contacts(self) -> list[str]:
        """Addresses of what is registered, which GET /events says too."""
        kept = [event.event for event in self.sandbox.events()]
        assert [event["event"] for event in self.get("/events")["events"]] == kept
        return [event["payload"]["email"].partition("@")[0] for event in kept]  # type: ignore[index]


@contextlib.contextmanager
def served(**switches: Any) -> Iterator[Bench]:
    clock, slept = Clock(), list[float]()
    behaviour = Behaviour(**switches)
    with Sandbox(behaviour=behaviour, clock=clock, sleep=slept.append) as sandbox:
        bench = Bench(sandbox, clock, slept)
        with bench.session:
            yield bench


@contextlib.contextmanager
def faulty(kind: str, **keys: Any) -> Iterator[Bench]:
    """Serve with one fault, which strikes the second POST unless told otherwise."""
    chosen = keys if keys.keys() & {"at", "every"} else {"at": (2,), **keys}
    with served(faults=(Fault(kind, **chosen),)) as bench:
        yield bench


def event(name: str, event_type: str = "CONVERSION") -> dict[str, Any]:
    key = "conversion_identifier" if event_type == "CONVERSION" else "funnel_name"
    payload = {key: "default", "email": f"{name}@example.com"}
    return {"event_type": event_type, "event_family": "CDP", "payload": payload}


def sale(name: str) -> dict[str, Any]:
    return event(name, "SALE")


BAD = copy.deepcopy(event("bad"))
BAD["payload"]["email"] = "bad"
ORDER = json.loads((EXAMPLES / "ecommerce_order_placed.minimal.json").read_text(encoding="utf-8"))


# One bad event


def test_one_bad_event_refuses_all_and_is_named() -> None:
    with served() as bench:
        answer = bench.post(event("a"), BAD, event("b"), BAD)
        assert answer.status_code == 400
        assert [error["path"] for error in answer.json()["errors"]] == [
            "$[1].payload.email",
            "$[3].payload.email",
        ]
        assert bench.contacts() == []


def test_one_bad_event_refuses_all_and_is_not_named() -> None:
    with served(bad_event="no-index") as bench:
        answer = bench.post(event("a"), BAD, event("b"), BAD)
        assert answer.status_code == 400
        assert [error["path"] for error in answer.json()["errors"]] == ["$.payload.email"]
        assert bench.contacts() == []


@pytest.mark.parametrize(
    ("mode", "paths"),
    [("partial", ["$[1].payload.email"]), ("partial-no-index", ["$.payload.email"])],
)
def test_the_good_events_are_registered_and_nobody_is_told(mode: str, paths: list[str]) -> None:
    with served(bad_event=mode) as bench:
        answer = bench.post(event("a"), BAD, event("b"))
        assert answer.status_code == 400
        assert [error["path"] for error in answer.json()["errors"]] == paths
        assert "uuid" not in answer.text
        assert bench.contacts() == ["a", "b"]
        assert [kept.event_batch_index for kept in bench.sandbox.events()] == [0, 2]
        assert len(bench.sandbox.requests()[0].event_uuids) == 2


def test_a_200_may_be_partial_too() -> None:
    with served(bad_event="partial-200") as bench:
        answer = bench.post(event("a"), BAD, event("b"))
        assert answer.status_code == 200
        uuids = [one["event_uuid"] for one in answer.json()["events"]]
        assert uuids == [kept.event_uuid for kept in bench.sandbox.events()]
        assert bench.contacts() == ["a", "b"]
        assert bench.post(BAD).json()["events"] == []
        assert bench.send(SINGLE, BAD).status_code == 400


def test_a_bad_event_may_be_a_422() -> None:
    with served(bad_event_status=422) as bench:
        assert bench.post(BAD).status_code == 422


EMAIL = {"error_type": "CANNOT_BE_NULL", "error_message": "Cannot be null."}


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        ("list", {"errors": [{**EMAIL, "path": "$.body[0].payload.email"}]}),
        ("bare-list", [{**EMAIL, "path": "$.body[0].payload.email"}]),
        ("object", {"errors": {**EMAIL, "path": "$.body[0].payload.email"}}),
        ("field", {"errors": {"email": [EMAIL]}}),
        ("language", {"errors": {"email": {"pt-BR": [EMAIL]}}}),
    ],
)
def test_errors_come_in_each_shape_of_the_pages(shape: str, answer: Any) -> None:
    nameless = event("a")
    del nameless["payload"]["email"]
    with served(error_shape=shape, index_path="$.body[3]") as bench:
        assert bench.post(nameless).json() == answer


def test_a_contact_may_be_refused_for_no_reason_that_is_known() -> None:
    with served(refused_contacts=("Poison@example.com",)) as bench:
        answer = bench.post(event("a"), event("poison"))
        assert answer.json()["errors"] == [
            {
                "error_type": "INVALID",
                "error_message": "email is invalid.",
                "path": "$[1].payload.email",
            }
        ]
        assert bench.send(SINGLE, event("poison")).status_code == 400
        assert bench.post(event("a")).status_code == 200


def test_the_batch_endpoint_may_not_know_the_ecommerce_types() -> None:
    with served(batch_refuses_ecommerce=True) as bench:
        answer = bench.post(event("a"), ORDER)
        [error] = answer.json()["errors"]
        assert (error["error_type"], error["path"]) == ("INVALID_OPTION", "$[1].event_type")
        assert "SALE" in error["validation_rules"]["valid_options"]
        assert ORDER["event_type"] not in error["validation_rules"]["valid_options"]
        assert bench.send(SINGLE, ORDER).status_code == 200
    with served() as bench:
        assert bench.post(ORDER).status_code == 200


# Contacts that are not there


def test_a_sale_of_an_unknown_contact_is_not_found_until_it_is_ready() -> None:
    with served(unknown_contact="not-found", contact_ready_s=120) as bench:
        answer = bench.post(event("a"), sale("b"))
        assert answer.status_code == 404
        assert answer.json() == {
            "errors": {"error_type": "RESOURCE_NOT_FOUND", "error_message": "Lead not found."}
        }
        assert bench.contacts() == []
        assert bench.post(event("b")).status_code == 200
        assert bench.post(sale("b")).status_code == 404
        bench.clock.move(120)
        assert bench.post(sale("B")).status_code == 200


def test_a_partial_server_registers_what_is_found() -> None:
    with served(unknown_contact="not-found", bad_event="partial") as bench:
        assert bench.post(event("a"), sale("b")).status_code == 404
        assert bench.contacts() == ["a"]


# The account's quota


def test_a_request_above_the_quota_is_told_when_there_is_room() -> None:
    with served(requests_per_minute=2) as bench:
        assert bench.statuses([event("a")]) == [200]
        bench.clock.move(20)
        assert bench.statuses([event("b")], [event("c")]) == [200, 429]
        answer = bench.post(event("c"))
        assert answer.json() == {"message": "API rate limit exceeded"}
        assert answer.headers["ratelimit-limit-quotas"] == "2"
        assert answer.headers["retry-after-quotas"] == "40"
        assert "Retry-After" not in answer.headers
        bench.clock.move(39.5)
        assert bench.statuses([event("c")]) == [429]
        bench.clock.move(0.5)
        assert bench.statuses([event("c")], [event("d")]) == [200, 429]
        assert bench.contacts() == ["a", "b", "c"]


def test_a_fixed_window_begins_again_with_each_minute() -> None:
    with served(requests_per_minute=2, quota_window="fixed") as bench:
        bench.clock.move(50)
        assert bench.statuses([event("a")], [event("b")]) == [200, 200]
        assert bench.post(event("c")).headers["retry-after-quotas"] == "10"
        bench.clock.move(10)
        assert bench.statuses([event("c")], [event("d")], [event("e")]) == [200, 200, 429]


def test_the_wait_that_is_told_may_be_too_short() -> None:
    with served(requests_per_minute=1, retry_after_s=5) as bench:
        bench.post(event("a"))
        headers = bench.post(event("b")).headers
        assert (headers["Retry-After"], headers["retry-after-quotas"]) == ("5", "5")
        bench.clock.move(5)
        assert bench.post(event("b")).status_code == 429


def test_refused_requests_count_and_other_pages_do_not() -> None:
    with served(requests_per_minute=2) as bench:
        assert bench.post(BAD).status_code == 400
        bench.get("/stats")
        bench.send(TOKEN, {})
        bench.send("/nowhere", {})
        bench.token = "wrong"  # noqa: S105
        assert [bench.post(event("a")).status_code for _ in range(2)] == [401, 429]


def test_stats_and_the_page_show_the_rate() -> None:
    with served(requests_per_minute=2) as bench:
        bench.statuses(*[[event("a")]] * 3)
        stats = bench.get("/stats")
        assert stats["requests_per_minute"] == 2
        assert stats["requests_in_window"] == 2
        assert stats["answered_429"] == 1
        assert stats["by_status"] == {"200": 2, "429": 1}
        page = bench.session.get(bench.sandbox.url, timeout=10).text
        assert "<strong>2 of 2</strong>requests this minute" in page
        assert "API rate limit exceeded" in page
        bench.clock.move(60)
        assert bench.get("/stats")["requests_in_window"] == 0


# The contact's limit


def test_a_contact_takes_so_many_events_in_a_day() -> None:
    with served(contact_limit=3) as bench:
        assert bench.statuses([event("a"), event("a")], [event("b")]) == [200, 200]
        bench.clock.move(3600)
        answer = bench.post(event("c"), event("A"), event("a"))
        assert answer.status_code == 429
        assert answer.json() == {
            "error": "'lead_limiter' rate limit exceeded for 86400 second(s) period "
            "for key a@example.com",
            "max": 3,
            "usage": 4,
            "remaining_time": 82800,
        }
        assert "retry-after-quotas" not in answer.headers
        assert bench.contacts() == ["a", "a", "b"]
        assert bench.statuses([event("c"), event("a")], [event("a")]) == [200, 429]
        bench.clock.move(82800)
        assert bench.statuses([event("a")] * 3) == [200]


def test_a_body_may_count_once_for_a_contact() -> None:
    with served(contact_limit=2, contact_limit_counts="request") as bench:
        assert bench.statuses([event("a")] * 5, [event("a")] * 5, [event("a")]) == [200, 200, 429]
        assert len(bench.sandbox.events()) == 10


def test_a_body_with_too_many_events_of_a_new_contact_is_told_a_day() -> None:
    with served(contact_limit=2) as bench:
        answer = bench.post(*[event("a")] * 3).json()
        assert (answer["usage"], answer["remaining_time"]) == (3, 86400)


def test_the_limiter_may_hide_the_contact() -> None:
    with served(contact_limit=1, contact_limit_names_contact=False) as bench:
        bench.post(event("a"))
        answer = bench.post(event("a")).json()
        assert answer["error"].startswith("'lead_limiter' rate limit exceeded for 86400 second(s)")
        assert "example.com" not in answer["error"]


def test_a_partial_limiter_registers_what_fits() -> None:
    with served(contact_limit=2, contact_limit_partial=True) as bench:
        names = ["a", "b", "a", "a", "c"]
        assert bench.post(*map(event, names)).status_code == 429
        assert bench.contacts() == ["a", "b", "a", "c"]
        assert bench.statuses([event("a")], [event("b")]) == [429, 200]


# Size


def test_the_body_limit_may_be_smaller_or_larger() -> None:
    body = [event("a")]
    size = len(json.dumps(body))
    with served(max_body_bytes=size) as bench:
        assert bench.statuses(body, [event("aa")]) == [200, 413]
    with served(max_body_bytes=400_000) as bench:
        assert bench.statuses([event("a")] * 2500) == [200]


# Tokens


def renewal(bench: Bench, **changed: str) -> dict[str, str]:
    sandbox = bench.sandbox
    given = {
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "refresh_token": sandbox.refresh_token,
    }
    return {**given, **changed}


def test_a_token_is_good_for_so_many_requests() -> None:
    with served(token_lives_requests=2) as bench:
        assert bench.statuses(*[[event("a")]] * 2) == [200, 200]
        answer = bench.post(event("a"))
        assert answer.status_code == 401
        assert answer.json()["errors"]["error_type"] == "UNAUTHORIZED"
        assert 'error="expired_token"' in answer.headers["WWW-Authenticate"]
        renewed = bench.send(f"{TOKEN}?token_by=code", renewal(bench)).json()
        assert renewed == {
            "access_token": renewed["access_token"],
            "expires_in": 86400,
            "refresh_token": bench.sandbox.refresh_token,
        }
        bench.token = renewed["access_token"]
        assert bench.statuses(*[[event("a")]] * 3) == [200, 200, 401]
        assert bench.sandbox.refreshes == 1
        assert bench.get("/stats")["token_refreshes"] == 1


def test_a_token_is_good_for_so_long() -> None:
    with served(token_seconds=60) as bench:
        bench.clock.move(59)
        assert bench.statuses([event("a")]) == [200]
        bench.clock.move(1)
        assert bench.statuses([event("a")]) == [401]
        renewed = bench.send(TOKEN, renewal(bench)).json()
        assert renewed["expires_in"] == 60
        bench.token = renewed["access_token"]
        assert bench.statuses([event("a")]) == [200]


@pytest.mark.parametrize("rotates", [False, True])
def test_a_refresh_token_may_be_good_only_once(rotates: bool) -> None:
    with served(refresh_rotates=rotates) as bench:
        first = renewal(bench)
        answer = bench.send(TOKEN, first).json()
        assert (answer["refresh_token"] != first["refresh_token"]) is rotates
        assert answer["refresh_token"] == bench.sandbox.refresh_token
        again = bench.send(TOKEN, first)
        assert again.status_code == (401 if rotates else 200)
        if rotates:
            assert again.json()["errors"]["error_type"] == "INVALID_REFRESH_TOKEN"
        assert bench.send(TOKEN, renewal(bench)).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "error_type"),
    [
        ({"client_id": "other"}, 401, "ACCESS_DENIED"),
        ({"client_secret": "other"}, 401, "ACCESS_DENIED"),
        ({"refresh_token": "other"}, 401, "INVALID_REFRESH_TOKEN"),
        ({"refresh_token": ""}, 401, "INVALID_REFRESH_TOKEN"),
        ({"code": "used"}, 401, "EXPIRED_CODE_GRANT"),
    ],
)
def test_wrong_credentials_bring_no_token(
    changed: dict[str, str], status: int, error_type: str
) -> None:
    with served() as bench:
        answer = bench.send(TOKEN, renewal(bench, **changed))
        assert answer.status_code == status
        assert answer.json()["errors"]["error_type"] == error_type


def test_a_request_for_a_token_is_a_json_object_and_its_secrets_are_kept_nowhere() -> None:
    with served() as bench:
        assert bench.send(TOKEN, []).status_code == 400
        form = bench.session.post(bench.sandbox.url + TOKEN, data=renewal(bench), timeout=10)
        assert form.status_code == 415
        given = renewal(bench)
        answer = bench.send(TOKEN, given).json()
        [*_, kept] = bench.sandbox.requests()
        assert (kept.path, kept.status) == (TOKEN, 200)
        shown = bench.session.get(bench.sandbox.url + "/requests", timeout=10).text
        assert not [
            secret for secret in [*given.values(), *answer.values()] if str(secret) in shown
        ]


# Faults: what they do


@pytest.mark.parametrize(
    ("kind", "registered"),
    [
        ("drop-before", ["a", "c"]),
        ("drop-after", ["a", "b", "c"]),
        ("reset-early", ["a", "c"]),
        ("truncate", ["a", "b", "c"]),
    ],
)
def test_an_answer_that_never_comes(kind: str, registered: list[str]) -> None:
    """The request before and the one after it go through, and the truth is known here."""
    with faulty(kind) as bench:
        assert bench.post(event("a")).status_code == 200
        with pytest.raises(LOST):
            bench.post(event("b"))
        assert bench.post(event("c")).status_code == 200
        assert bench.contacts() == registered
        struck = bench.sandbox.requests()[1]
        assert struck.fault == kind
        assert struck.status == (200 if kind == "truncate" else 0)
        assert struck.event_uuids == tuple(kept.event_uuid for kept in bench.sandbox.events()[1:-1])
        assert bench.get("/stats")["by_fault"] == {kind: 1}
        assert f"fault: {kind}" in bench.session.get(bench.sandbox.url, timeout=10).text


def test_an_early_reset_does_not_wait_for_the_body() -> None:
    with faulty("reset-early", at=(1,)) as bench:
        connection = http.client.HTTPConnection(urlsplit(bench.sandbox.url).netloc, timeout=10)
        connection.putrequest("POST", BATCH)
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        with pytest.raises(ConnectionResetError) as raised:
            connection.getresponse()
        connection.close()
        assert raised.type is ConnectionResetError  # and not its kind for a closed connection
        assert bench.sandbox.requests()[0].body_bytes == 1000


def test_a_cut_answer_promises_more_than_it_holds() -> None:
    with faulty("truncate", at=(1,)) as bench:
        answer = bench.session.post(
            bench.sandbox.url + BATCH,
            json=[event("a")],
            headers={"Authorization": f"Bearer {bench.token}"},
            stream=True,
            timeout=10,
        )
        assert answer.status_code == 200
        promised = int(answer.headers["Content-Length"])
        with pytest.raises(LOST):
            assert len(answer.content) < promised


@pytest.mark.parametrize("status", [403, 404, 408, 500, 502, 503, 504])
@pytest.mark.parametrize("registers", [False, True])
def test_a_status_says_nothing_of_what_is_registered(status: int, registers: bool) -> None:
    with faulty("status", status=status, registers=registers, html=True) as bench:
        assert bench.statuses([event("a")], [event("b")]) == [200, status]
        assert bench.contacts() == (["a", "b"] if registers else ["a"])
        assert bench.sandbox.requests()[1].status == status


def test_a_status_comes_as_json_as_a_page_or_as_told() -> None:
    with faulty("status", status=403, at=(1,)) as bench:
        assert bench.post(event("a")).json() == {
            "errors": {"error_type": "FORBIDDEN", "error_message": "Forbidden."}
        }
    with faulty("status", status=404, at=(1,)) as bench:
        assert bench.post(event("a")).json()["errors"]["error_message"] == "Lead not found."
    with faulty("status", status=429, retry_after=7, quota_headers=True, at=(1,)) as bench:
        answer = bench.post(event("a"))
        assert answer.json() == {"message": "API rate limit exceeded"}
        assert answer.headers["retry-after-quotas"] == "7"
        assert "Retry-After" not in answer.headers
    with faulty("status", status=503, html=True, retry_after=20, at=(1,)) as bench:
        answer = bench.post(event("a"))
        assert answer.headers["Retry-After"] == "20"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "503 Service Unavailable" in answer.text
    told = '{"error": "invalid_token"}'
    with faulty("status", status=401, body=told, at=(1,)) as bench:
        assert bench.post(event("a")).json() == {"error": "invalid_token"}
    with faulty("status", status=502, body="", at=(1,)) as bench:
        assert bench.post(event("a")).content == b""
    with faulty("status", status=599, at=(1,)) as bench:
        assert bench.post(event("a")).status_code == 599


def test_a_200_may_have_a_uuid_too_few_or_an_empty_one() -> None:
    with faulty("wrong-count", every=1) as bench:
        assert len(bench.post(event("a"), event("b")).json()["events"]) == 1
        assert bench.send(SINGLE, event("c")).json() == {}
        assert bench.contacts() == ["a", "b", "c"]
        assert bench.post(BAD).status_code == 400
    with faulty("empty-uuid", every=1) as bench:
        first, last = bench.post(event("a"), event("b")).json()["events"]
        assert first["event_uuid"] == bench.sandbox.events()[0].event_uuid
        assert last == {"event_uuid": ""}
        assert bench.send(SINGLE, event("c")).json() == {"event_uuid": ""}
        assert bench.contacts() == ["a", "b", "c"]


def test_a_200_may_be_a_page() -> None:
    with faulty("not-json", every=1) as bench:
        answer = bench.post(event("a"))
        assert (answer.status_code, answer.text[:6]) == (200, "<html>")
        assert bench.post(BAD).status_code == 400
        assert bench.contacts() == ["a"]
    with faulty("not-json", every=1, registers=False) as bench:
        assert bench.post(event("a")).text[:6] == "<html>"
        assert bench.contacts() == []


def test_a_redirect_leads_nowhere_else() -> None:
    with faulty("redirect", every=1) as bench:
        answer = bench.post(event("a"))
        assert (answer.status_code, answer.headers["Location"]) == (302, "/moved")
        assert bench.contacts() == []
    with faulty("redirect", status=307, every=1) as bench:
        assert bench.post(event("a")).status_code == 307


def test_a_slow_answer_is_registered_at_once_and_comes_later() -> None:
    with faulty("slow", seconds=90) as bench:
        assert bench.statuses([event("a")], [event("b")], [event("c")]) == [200, 200, 200]
        assert bench.slept == [90]
        assert bench.contacts() == ["a", "b", "c"]


def test_a_slow_answer_does_not_outlive_the_sandbox() -> None:
    """Its sender still gets it: the sandbox answers what it was asked."""
    behaviour = Behaviour(faults=(Fault("slow", every=1, seconds=3600),))
    with Sandbox(behaviour=behaviour) as sandbox:
        body = json.dumps([event("a")])
        connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
        headers = {"Authorization": f"Bearer {sandbox.token}", "Content-Type": "application/json"}
        connection.request("POST", BATCH, body, headers)
        give_up = time.monotonic() + 10
        while not sandbox.events():
            assert time.monotonic() < give_up
    assert connection.getresponse().status == 200
    connection.close()


def test_events_may_be_registered_long_after_the_answer() -> None:
    with faulty("late", seconds=30) as bench:
        assert bench.statuses([event("a")], [event("b")], [event("c")]) == [200, 504, 200]
        assert bench.contacts() == ["a", "c"]
        assert bench.sandbox.requests()[1].event_uuids == ()
        bench.clock.move(30)
        assert bench.contacts() == ["a", "c", "b"]
        late = bench.sandbox.events()[2]
        assert late.received_at == bench.clock.now
        assert bench.sandbox.requests()[1].event_uuids == (late.event_uuid,)
        assert bench.get("/stats")["accepted_events"] == 3


def test_what_is_late_is_registered_when_the_sandbox_stops() -> None:
    with faulty("late", seconds=30, every=1) as bench:
        assert bench.statuses([event("a")], [BAD]) == [504, 504]
    assert len(bench.sandbox.events()) == 1


def test_a_bad_event_is_not_registered_by_a_fault_either() -> None:
    with faulty("drop-after", every=1) as bench:
        with pytest.raises(LOST):
            bench.post(event("a"), BAD)
        assert bench.contacts() == []


def test_latency_comes_before_every_answer() -> None:
    with served(latency_ms=250, faults=(Fault("slow", at=(2,), seconds=1),)) as bench:
        bench.statuses([event("a")], [event("b")], [BAD])
        assert bench.slept == [0.25, 1.25, 0.25]


# Faults: whom they strike


@pytest.mark.parametrize(
    ("chosen", "struck"),
    [
        ({"at": (3, 7)}, [3, 7]),
        ({"every": 4}, [4, 8]),
        ({"from_request": 9}, [9, 10]),
        ({"from_request": 2, "for_requests": 3}, [2, 3, 4]),
        ({"share": 0.0}, []),
        ({"share": 1}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ({"share": 0.3, "seed": 7}, [6, 10]),
        ({"from_second": 0}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ({"from_second": 40, "for_seconds": 30}, [5, 6, 7]),
    ],
)
def test_a_fault_strikes_those_it_chooses(chosen: dict[str, Any], struck: list[int]) -> None:
    fault = Fault("drop-after", **chosen)
    hit = [number for number in range(1, 11) if fault.strikes(number, (number - 1) * 10)]
    assert hit == struck


def test_a_share_of_many_is_about_that_share() -> None:
    fault = Fault("drop-after", share=0.1, seed=1)
    assert 900 <= sum(fault.strikes(number, 0) for number in range(1, 10_001)) <= 1100


def test_faults_are_counted_over_the_event_endpoints_alone_and_the_first_one_strikes() -> None:
    first = Fault("status", at=(2,), status=502)
    second = Fault("status", every=2, status=503)
    with served(faults=(first, second)) as bench:
        bench.send(TOKEN, {})
        bench.send("/nowhere", {})
        assert bench.statuses(*[[event("a")]] * 4) == [200, 502, 200, 503]


def test_an_outage_may_last_so_long_from_the_first_request_on() -> None:
    outage = Fault("status", from_second=60, for_seconds=600, status=502)
    with served(faults=(outage,)) as bench:
        bench.clock.move(1000)
        seen = []
        for wait in (0, 60, 599, 1):
            bench.clock.move(wait)
            seen += bench.statuses([event("a")])
        assert seen == [200, 502, 502, 200]


def test_the_gateway_counts_what_breaks_down_behind_it() -> None:
    fault = Fault("drop-before", at=(1,))
    with served(faults=(fault,), requests_per_minute=1) as bench:
        with pytest.raises(LOST):
            bench.post(event("a"))
        assert bench.statuses([event("a")]) == [429]


def test_a_sandbox_may_change_its_mind() -> None:
    with faulty("status", status=502, every=1) as bench:
        assert bench.statuses([event("a")]) == [502]
        bench.sandbox.behaviour = Behaviour()
        assert bench.statuses([event("a")]) == [200]


# What is not understood is refused


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"bad_event": "some"}, "bad_event must be one of index, no-index, partial, "),
        ({"bad_event_status": 401}, "bad_event_status must be one of 400, 422, not 401"),
        ({"refresh_rotates": 1}, "refresh_rotates must be true or false, not 1"),
        ({"requests_per_minute": 0}, "requests_per_minute must be a whole number from 1, not 0"),
        ({"requests_per_minute": True}, "requests_per_minute must be a whole number"),
        ({"max_body_bytes": None}, "max_body_bytes must be a whole number from 1 to 16777216"),
        ({"latency_ms": float("nan")}, "latency_ms must be a number from 0, not nan"),
        ({"refused_contacts": "a@b.c"}, "refused_contacts must be a list of texts, not 'a@b.c'"),
        ({"retry_after_s": 5}, "retry_after_s goes with requests_per_minute"),
        ({"contact_limit_partial": True}, "contact_limit_partial goes with contact_limit"),
    ],
)
def test_a_switch_has_no_other_positions(switches: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Behaviour(**switches)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "flood", "at": (1,)}, "kind must be one of drop-before, drop-after, "),
        ({"kind": "slow"}, "exactly one of at, every, from_request, from_second, share"),
        ({"kind": "slow", "at": (1,), "every": 2}, "exactly one of"),
        ({"kind": "slow", "at": (0,)}, r"at must be a list of whole numbers from 1, not \(0,\)"),
        ({"kind": "slow", "at": (1,), "status": 500}, "of kind 'slow' takes no status"),
        ({"kind": "status", "at": (1,)}, "of kind 'status' needs a status"),
        ({"kind": "late", "at": (1,), "for_requests": 2}, "for_requests goes with from_request"),
        ({"kind": "late", "share": 1.5}, "share must be a number from 0 to 1, not 1.5"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**keys)


def test_every_switch_is_checked_and_described() -> None:
    for owner, rules in ((Behaviour, _BEHAVIOUR_RULES), (Fault, _FAULT_RULES)):
        names = [field.name for field in fields(owner)]
        assert list(rules) == names
        described = inspect.cleandoc(owner.__doc__ or "").partition("Args:")[2]
        assert [name for name in names if f"\n    {name}: " not in described] == []


# Scenarios

NAMES = (
    "batch-refuses-ecommerce",
    "contact-limit",
    "dropped-answers",
    "gateway-503",
    "late-registration",
    "outage-of-502",
    "partial-acceptance",
    "poison-event",
    "poison-event-without-index",
    "quota-then-recovers",
    "slow-answers",
    "small-bodies",
    "token-expires",
    "wrong-uuid-count",
)


def test_the_scenarios_are_these() -> None:
    assert Scenario.names() == NAMES


STATES = {"accepted", "refused", "unknown", "deferred", "not_sent"}
EXPECTED = {
    *("states", "registered", "requests", "answered_429", "refreshes", "duration_s"),
    *("duplicates", "exit_code"),
}
WANTED = {"events", "events_per_request", "events_per_contact", "event_type"}
WANTED |= {"bad_contact", "bad_events", "timeout_s"}


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_says_what_must_happen_and_adds_up(name: str) -> None:
    scenario = Scenario.load(name)
    assert scenario.name == name
    assert len(scenario.text.splitlines()) >= 2
    assert scenario.behaviour != Behaviour()
    assert scenario.job.keys() <= WANTED
    after_probe = scenario.expect.get("after_probe")
    outcomes = [scenario.expect, after_probe] if after_probe else [scenario.expect]
    for expect in outcomes:
        assert expect.keys() - {"after_probe"} <= EXPECTED
        assert expect.keys() >= {"states", "registered", "requests", "duplicates", "exit_code"}
        assert expect["states"].keys() <= STATES
        ranges = [
            value
            for value in [*expect.values(), *expect["states"].values()]
            if isinstance(value, list)
        ]
        assert all(low <= high for low, high in ranges)
        least = sum(low for low, _ in expect["states"].values())
        most = sum(high for _, high in expect["states"].values())
        assert least <= scenario.job["events"] <= most


def test_a_scenario_is_read_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "# Two lines\n# of comment.\n\n[server]\nmax_body_bytes = 10\n"
        '[[server.fault]]\nkind = "slow"\nat = [3, 7]\nseconds = 1\n[job]\nanything = 1\n',
        encoding="utf-8",
    )
    for given in (path, str(path)):
        scenario = Scenario.load(given)
        assert (scenario.name, scenario.text) == ("mine", "Two lines\nof comment.")
        assert scenario.behaviour == Behaviour(
            max_body_bytes=10, faults=(Fault("slow", at=(3, 7), seconds=1),)
        )
        assert (scenario.job, scenario.expect) == ({"anything": 1}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server = 5", "server must be a table"),
        ("[servr]", r"\[servr\] is not known; known are server, job, expect"),
        ("[server", "is not TOML: "),
        ("[server]\nquota = 5", r"\[server\] quota is not known; known are bad_event, "),
        ("[server]\nfaults = []", r"\[server\] faults is not known; "),
        ("[server]\nbad_event = 'x'", r"\[server\] bad_event must be one of index, .*, not 'x'"),
        ("[server]\nfault = 1", r"\[server\] fault must be written as \[\[server.fault\]\]"),
        ("[[server.fault]]\nat = [1]", r"\[server\] fault number 1: kind is missing; it must be "),
        (
            "[[server.fault]]\nkind = 'slow'\nat = [1]\n[[server.fault]]\nkind = 'slow'\nwhen = 1",
            r"\[server\] fault number 2: when is not known; known are at, body, ",
        ),
        (
            "[[server.fault]]\nkind = 'slow'\nat = 1",
            "fault number 1: at must be a list of whole numbers from 1, not 1",
        ),
    ],
)
def test_what_a_file_must_not_hold_is_said_with_its_name(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"mine.toml.*{message}"):
        Scenario.load(path)


def test_a_scenario_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no scenario 'quota'; there are batch-refuses-ecommerce,"):
        Scenario.load("quota")
    with pytest.raises(ValueError, match=r"none\.toml: No such file"):
        Scenario.load(tmp_path / "none.toml")
