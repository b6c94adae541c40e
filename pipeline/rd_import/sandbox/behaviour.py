"""What the API answers to a request. No sockets, no files, no clock: those are the server's.

`answer` reads in the order in which a request is judged: path, credentials, content type, size,
JSON, events. What the pages leave open is decided here, and marked with "Assumed".
"""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn

from rd_import.sandbox.rules import Check, Flaw
from rd_import.sandbox.store import Store, StoredRequest
from rdstation_events.api_facts import (
    BASE_URL,
    BATCH_PATH,
    CONVERSIONS_PATH,
    MAX_BODY_BYTES,
    SINGLE_PATH,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What came over the wire."""

    method: str
    path: str
    """Without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Empty where it was longer than the limit, and thrown away."""
    body_bytes: int
    length_error: HTTPStatus | None = None
    """Why the length of the body is not known."""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """What a sandbox knows."""

    instance: str
    token: str
    api_key: str
    rules: Mapping[str, Check]
    """One check of an event for each endpoint."""
    store: Store


class _RefusedError(Exception):
    """A request that the API does not take; `errors` is the value of that name in the answer."""

    def __init__(
        self,
        status: HTTPStatus,
        errors: Mapping[str, object] | Sequence[Mapping[str, object]],
        *,
        headers: Mapping[str, str] | None = None,
        events: int = 0,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors
        self.headers = headers or {}
        self.events = events


def answer(request: Request, state: State) -> Response:
    """Judge a POST, remember it, and say what RD Station would.

    Assumed: a batch with one bad event is refused whole, every bad event is named by its index,
    and nothing of it is accepted.
    """
    try:
        endpoint = _endpoint(request)
        _check_credentials(request, state, endpoint)
        _check_content_type(request)
        _check_size(request)
        events = _read_events(request.body, endpoint)
        _check_events(events, state.rules[endpoint], endpoint)
    except _RefusedError as refusal:
        _remember(refusal, request, state)
        return json_response(refusal.status, {"errors": refusal.errors}, refusal.headers)
    types = [event["event_type"] for event in events if isinstance(event, dict)]
    return _receipt(state.store.accept(request.path, request.body, types), endpoint)


def _remember(refusal: _RefusedError, request: Request, state: State) -> None:
    state.store.refuse(
        request.path,
        status=refusal.status,
        body_bytes=request.body_bytes,
        events=refusal.events,
        errors=[refusal.errors] if isinstance(refusal.errors, Mapping) else refusal.errors,
    )


def _receipt(kept: StoredRequest, endpoint: str) -> Response:
    uuids = [{"event_uuid": uuid} for uuid in kept.event_uuids]
    if endpoint == "batch":
        return json_response(200, {"event_batch_uuid": kept.event_batch_uuid, "events": uuids})
    return json_response(200, uuids[0])


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a JSON value."""
    named = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), named)


def error_response(status: HTTPStatus, error_type: str, message: str) -> Response:
    """Answer with the one error of a whole request."""
    return json_response(status, {"errors": {"error_type": error_type, "error_message": message}})


def has_token(request: Request, state: State) -> bool:
    """Tell whether the request carries the Bearer token of this sandbox."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _same(token.strip(), state.token)


# The steps of `answer`; each raises _RefusedError or lets the request pass.

_ENDPOINTS: Final = {
    SINGLE_PATH: "single",
    BATCH_PATH: "batch",
    CONVERSIONS_PATH: "conversions-api-key",
}
"""Path to the endpoint's key in the catalogue."""

_EXPIRED: Final = (
    f'Bearer realm="{BASE_URL}/", error="expired_token", '
    'error_description="The access token expired"'
)
"""The header that the portal shows for 401; the body is the same for a wrong token."""


def _refuse(
    status: HTTPStatus, error_type: str, message: str, headers: Mapping[str, str] | None = None
) -> NoReturn:
    error = {"error_type": error_type, "error_message": message}
    raise _RefusedError(status, error, headers=headers)


def _endpoint(request: Request) -> str:
    try:
        return _ENDPOINTS[request.path]
    except KeyError:
        _refuse(HTTPStatus.NOT_FOUND, "RESOURCE_NOT_FOUND", "No such endpoint.")


def _check_credentials(request: Request, state: State, endpoint: str) -> None:
    if endpoint == "conversions-api-key":
        if not _same(request.query.get("api_key", ""), state.api_key):
            _refuse(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "Invalid API key.")
    elif not has_token(request, state):
        headers = {"WWW-Authenticate": _EXPIRED}
        _refuse(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "Invalid token.", headers)


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


_JSON_TYPE: Final = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)


def _check_content_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "identity")
    if not _JSON_TYPE.fullmatch(content_type):
        message = "Content-Type must be application/json."
    elif encoding.lower() != "identity":
        message = "Content-Encoding is not supported."  # Assumed: no page mentions compression.
    else:
        return
    _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)


def _check_size(request: Request) -> None:
    if request.length_error is HTTPStatus.LENGTH_REQUIRED:
        _refuse(request.length_error, "LENGTH_REQUIRED", "Content-Length is required.")
    if request.length_error is not None:
        _refuse(request.length_error, "BAD_REQUEST", "Content-Length is not a length.")
    if request.body_bytes > MAX_BODY_BYTES:
        # Assumed: the pages state the limit, not the answer.
        message = f"The body has {request.body_bytes} bytes; the limit is {MAX_BODY_BYTES}."
        _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)


def _read_events(body: bytes, endpoint: str) -> list[object]:
    """Parse a body into its events, whatever they may be: `_check_events` sees to that."""
    try:
        value = parse(body)
    except (ValueError, RecursionError) as error:
        _refuse(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", f"The body is not valid JSON: {error}")
    if endpoint != "batch":
        return [value]
    if not isinstance(value, list):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, [_error(_NOT_AN_ARRAY, "$")])
    if not value:
        # Assumed: nothing is said of an empty batch.
        raise _RefusedError(HTTPStatus.BAD_REQUEST, [_error(_EMPTY, "$")])
    return value


_NOT_AN_ARRAY: Final = Flaw("INVALID", "Must be an array of events.")
_EMPTY: Final = Flaw("CANNOT_BE_BLANK", "Cannot be blank.")


def _check_events(events: Sequence[object], check: Check, endpoint: str) -> None:
    errors = [
        _error(flaw, f"$[{index}]{flaw.path}" if endpoint == "batch" else _single_path(flaw.path))
        for index, event in enumerate(events)
        for flaw in check(event)
    ]
    if errors:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, errors, events=len(events))


def _single_path(path: str) -> str:
    """Write a path as the single endpoint does: `$.body.event_type`, but `$.payload.email`.

    The first is the supplied document's, the second was seen on the live service; a client must
    read both.
    """
    return f"${path}" if path.startswith((".payload.", ".payload[")) else f"$.body{path}"


def _error(flaw: Flaw, path: str) -> dict[str, object]:
    error: dict[str, object] = {"error_type": flaw.error_type, "error_message": flaw.message}
    if flaw.validation_rules is not None:
        error["validation_rules"] = flaw.validation_rules
    return {**error, "path": path}


# JSON, strictly


def parse(body: bytes) -> object:
    """Parse UTF-8 JSON, refusing what parsers disagree about.

    Raises:
        ValueError: Not UTF-8, not JSON, a name twice in one object, NaN or Infinity, or half of a
            surrogate pair.
        RecursionError: Nested too deeply.
    """
    text = body.decode("utf-8")
    value: object = _DECODER.decode(text)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # fails on half a pair
    return value


_SURROGATE: Final = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
