"""One POST from its headers to what goes over the wire: the API's verdict, and what befalls it."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Final

from rd_import.sandbox.auth import TOKEN_PATH, judge_token_request
from rd_import.sandbox.behaviour import (
    Request,
    Response,
    State,
    Verdict,
    is_event_path,
    json_response,
    judge,
)
from rd_import.sandbox.switches import Behaviour, Fault


class Faults:
    """Counts the POSTs to the event endpoints, and says which fault strikes which."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._first: datetime | None = None

    def strike(self, path: str, behaviour: Behaviour) -> Fault | None:
        """Count a POST by its path; give the fault that strikes it."""
        if not is_event_path(path):
            return None
        with self._lock:
            self._number += 1
            now = self._clock()
            self._first = self._first or now
            number, second = self._number, (now - self._first).total_seconds()
        return next((fault for fault in behaviour.faults if fault.strikes(number, second)), None)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What goes over the wire."""

    response: Response | None
    """None: the connection is closed without an answer."""
    wait_s: float = 0
    """Before anything goes."""
    is_cut: bool = False
    """Half of the body goes, then the connection is closed."""


def exchange(request: Request, state: State, fault: Fault | None = None) -> Delivery:
    """Judge a POST, remember it, and say what its sender gets to see of that."""
    latency_s = state.behaviour.latency_ms / 1000
    if fault is None:
        is_auth = request.path == TOKEN_PATH
        verdict = judge_token_request(request, state) if is_auth else judge(request, state)
        _remember(request, state, verdict, verdict.response.status)
        return Delivery(verdict.response, latency_s)
    if fault.is_registered:
        verdict = judge(request, state)
    else:
        state.quota.take(state.behaviour)  # the gateway counts it, whoever breaks down behind it
        verdict = Verdict(Response(0, b""))
    delivery = _disturbed(fault, verdict)
    status = delivery.response.status if delivery.response else 0
    _remember(request, state, verdict, status, fault)
    return replace(delivery, wait_s=delivery.wait_s + latency_s)


def remember_reset(path: str, body_bytes: int, state: State) -> None:
    """Remember a POST whose connection was reset before its body was read."""
    state.store.remember(path, status=0, body_bytes=body_bytes, events=0, fault="reset-early")


def _remember(
    request: Request, state: State, verdict: Verdict, status: int, fault: Fault | None = None
) -> None:
    is_late = fault is not None and fault.kind == "late"
    state.store.remember(
        request.path,
        status=status,
        body_bytes=request.body_bytes,
        events=verdict.events,
        errors=verdict.errors,
        accepted=verdict.accepted,
        fault=fault.kind if fault else "",
        late_s=fault.seconds or 0 if fault and is_late else None,
    )


def _disturbed(fault: Fault, verdict: Verdict) -> Delivery:
    match fault.kind:
        case "drop-before" | "drop-after" | "reset-early":
            return Delivery(None)
        case "truncate":
            return Delivery(verdict.response, is_cut=True)
        case "slow":
            return Delivery(verdict.response, fault.seconds or 0)
        case _:
            return Delivery(_changed(fault, verdict.response))


def _changed(fault: Fault, response: Response) -> Response:
    is_good = response.status == HTTPStatus.OK
    match fault.kind:
        case "redirect":
            return Response(fault.status or HTTPStatus.FOUND, b"", {"Location": "/moved"})
        case "status" | "late":
            return _broken(
                fault, fault.status or HTTPStatus.GATEWAY_TIMEOUT, is_page=bool(fault.html)
            )
        case "not-json" if is_good or not fault.is_registered:
            return _broken(fault, HTTPStatus.OK, is_page=True)
        case "wrong-count" | "empty-uuid" if is_good:
            return _with_last_uuid(response, None if fault.kind == "wrong-count" else "")
        case _:
            return response


def _with_last_uuid(response: Response, uuid: str | None) -> Response:
    """Change the last uuid of a 200, or, for None, leave it out."""
    answer = json.loads(response.body)
    if "events" in answer:
        answer["events"][-1:] = [] if uuid is None else [{"event_uuid": uuid}]
    else:
        answer = {} if uuid is None else {"event_uuid": uuid}
    return json_response(response.status, answer, response.headers)


_PAGE: Final = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"


def _broken(fault: Fault, status: int, *, is_page: bool) -> Response:
    """Write the answer of a server, or of something before it, that is not well."""
    headers = {}
    if fault.retry_after is not None:
        name = "retry-after-quotas" if fault.quota_headers else "Retry-After"
        headers[name] = f"{fault.retry_after:g}"
    if fault.body is None and not is_page:
        return json_response(status, _api_error(status), headers)
    page = _PAGE.format(f"{status} {_phrase(status)}".strip())
    text = page if fault.body is None else fault.body
    kind = "application/json" if text.lstrip().startswith(("{", "[")) else "text/html"
    return Response(status, text.encode(), {"Content-Type": f"{kind}; charset=utf-8", **headers})


def _api_error(status: int) -> Mapping[str, object]:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return {"message": "API rate limit exceeded"}
    if status == HTTPStatus.NOT_FOUND:
        error_type, message = "RESOURCE_NOT_FOUND", "Lead not found."
    else:
        error_type, message = _phrase(status).upper().replace(" ", "_"), f"{_phrase(status)}."
    return {"errors": {"error_type": error_type, "error_message": message}}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
