"""What the API answers to a request. No sockets, no files, no faults: those come around it.

`judge` reads in the order in which a request is judged: path, quota, credentials, content type,
size, JSON, events. What the pages leave open is a switch of `Behaviour`, or marked with "Assumed".
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn

from rd_import.sandbox.limits import ContactLimiter, Contacts, Excess, Quota
from rd_import.sandbox.rules import Check, Flaw, load_rules
from rd_import.sandbox.store import Accepted, Store, batch_uuid_of, uuids_of
from rd_import.sandbox.switches import Behaviour
from rd_import.sandbox.tokens import Tokens, same
from rdstation_events.api_facts import BASE_URL, BATCH_PATH, CONVERSIONS_PATH, SINGLE_PATH


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
    api_key: str
    behaviour: Behaviour
    tokens: Tokens
    quota: Quota
    limiter: ContactLimiter
    contacts: Contacts
    store: Store


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an undisturbed server makes of a request; nothing is kept yet."""

    response: Response
    events: int = 0
    """In the body; 0 where it was refused unread."""
    errors: Sequence[Mapping[str, object]] = ()
    accepted: Accepted | None = None


class RefusedError(Exception):
    """A request that the API does not take, or not all of it.

    Args:
        status: Of the answer.
        errors: What is wrong, for those who look at the sandbox.
        answer: The JSON of the answer; without it, `errors` under that name.
        headers: Of the answer.
        events: In the body; 0 where it was refused unread.
    """

    def __init__(
        self,
        status: HTTPStatus,
        errors: Mapping[str, object] | Sequence[Mapping[str, object]],
        *,
        answer: object = None,
        headers: Mapping[str, str] | None = None,
        events: int = 0,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.errors = [errors] if isinstance(errors, Mapping) else errors
        self.answer = {"errors": errors} if answer is None else answer
        self.headers = headers or {}
        self.events = events

    def verdict(self, accepted: Accepted | None = None) -> Verdict:
        """Say it as an answer."""
        response = json_response(self.status, self.answer, self.headers)
        return Verdict(response, self.events, self.errors, accepted)


def judge(request: Request, state: State) -> Verdict:
    """Judge a POST to an event endpoint, or to nowhere; what is used up of limits is counted."""
    try:
        endpoint = _endpoint(request)
        _check_quota(state)
        _check_credentials(request, state, endpoint)
        check_content_type(request)
        _check_size(request, state.behaviour)
        events = _read_events(request.body, endpoint)
        good, refusal = _sift(events, endpoint, state)
    except RefusedError as error:
        return error.verdict()
    if refusal is None or refusal.status is HTTPStatus.OK:
        accepted = _accept(events, good, request, state)
        errors = refusal.errors if refusal else ()
        return Verdict(_receipt(accepted, endpoint), len(events), errors, accepted)
    return refusal.verdict(_accept(events, good, request, state) if good else None)


def is_event_path(path: str) -> bool:
    """Tell whether events may be posted there."""
    return path in _ENDPOINTS


def _accept(
    events: Sequence[object], good: Sequence[int], request: Request, state: State
) -> Accepted:
    types = [event["event_type"] for index in good if isinstance(event := events[index], dict)]
    if state.behaviour.unknown_contact != "accepted":
        for index in good:
            if _type_of(events[index]) == "CONVERSION":
                state.contacts.add(_contact_of(events[index]))
    packed = state.store.draw_uuids(len(good))
    indexes = None if len(good) == len(events) else tuple(good)
    return Accepted(request.body, types, packed, indexes)


def _receipt(accepted: Accepted, endpoint: str) -> Response:
    packed = accepted.packed_uuids
    uuids = [{"event_uuid": uuid} for uuid in uuids_of(packed)]
    if endpoint == "batch":
        return json_response(200, {"event_batch_uuid": batch_uuid_of(packed), "events": uuids})
    return json_response(200, uuids[0])


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a JSON value."""
    named = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), named)


def error_response(status: HTTPStatus, error_type: str, message: str) -> Response:
    """Answer with the one error of a whole request."""
    return json_response(status, {"errors": {"error_type": error_type, "error_message": message}})


def has_token(request: Request, state: State) -> bool:
    """Tell whether the request carries a Bearer token of this sandbox; not a use of it."""
    return state.tokens.is_ours(_bearer(request))


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# The steps of `judge`; each raises RefusedError or lets the request pass.

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
    raise RefusedError(status, error, headers=headers)


def _endpoint(request: Request) -> str:
    try:
        return _ENDPOINTS[request.path]
    except KeyError:
        _refuse(HTTPStatus.NOT_FOUND, "RESOURCE_NOT_FOUND", "No such endpoint.")


def _check_quota(state: State) -> None:
    behaviour = state.behaviour
    room_in = state.quota.take(behaviour)
    if room_in is None:
        return
    told = room_in if behaviour.retry_after_s is None else behaviour.retry_after_s
    message = "API rate limit exceeded"
    headers = {
        "ratelimit-limit-quotas": str(behaviour.requests_per_minute),
        "retry-after-quotas": str(told),
    }
    if behaviour.retry_after_s is not None:
        headers["Retry-After"] = str(told)
    raise RefusedError(
        HTTPStatus.TOO_MANY_REQUESTS,
        {"error_type": "RATE_LIMIT", "error_message": message},
        answer={"message": message},
        headers=headers,
    )


def _check_credentials(request: Request, state: State, endpoint: str) -> None:
    if endpoint == "conversions-api-key":
        if not same(request.query.get("api_key", ""), state.api_key):
            _refuse(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "Invalid API key.")
    elif not state.tokens.use(_bearer(request), state.behaviour):
        headers = {"WWW-Authenticate": _EXPIRED}
        _refuse(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "Invalid token.", headers)


_JSON_TYPE: Final = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)


def check_content_type(request: Request) -> None:
    """Refuse a body that is not called plain JSON in UTF-8."""
    content_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "identity")
    if not _JSON_TYPE.fullmatch(content_type):
        message = "Content-Type must be application/json."
    elif encoding.lower() != "identity":
        message = "Content-Encoding is not supported."  # Assumed: no page mentions compression.
    else:
        return
    _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)


def _check_size(request: Request, behaviour: Behaviour) -> None:
    if request.length_error is HTTPStatus.LENGTH_REQUIRED:
        _refuse(request.length_error, "LENGTH_REQUIRED", "Content-Length is required.")
    if request.length_error is not None:
        _refuse(request.length_error, "BAD_REQUEST", "Content-Length is not a length.")
    limit = behaviour.max_body_bytes
    if request.body_bytes > limit:
        # Assumed: the pages state the limit, not the answer.
        message = f"The body has {request.body_bytes} bytes; the limit is {limit}."
        _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)


def _read_events(body: bytes, endpoint: str) -> list[object]:
    """Parse a body into its events, whatever they may be: `_sift` sees to that."""
    try:
        value = parse(body)
    except ValueError as error:
        _refuse(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", f"The body is not valid JSON: {error}")
    if endpoint != "batch":
        return [value]
    if not isinstance(value, list):
        raise RefusedError(HTTPStatus.BAD_REQUEST, [_error(_NOT_AN_ARRAY, "$")])
    if not value:
        # Assumed: nothing is said of an empty batch.
        raise RefusedError(HTTPStatus.BAD_REQUEST, [_error(_EMPTY, "$")])
    return value


_NOT_AN_ARRAY: Final = Flaw("INVALID", "Must be an array of events.")
_EMPTY: Final = Flaw("CANNOT_BE_BLANK", "Cannot be blank.")


# Which events are taken


@dataclass(frozen=True, slots=True)
class _Stop:
    """Events that are not taken, and the answer that this means for all of the body."""

    indexes: Collection[int]
    refusal: RefusedError
    is_partial: bool
    """Whether the other events are taken all the same."""


def _sift(
    events: Sequence[object], endpoint: str, state: State
) -> tuple[Sequence[int], RefusedError | None]:
    """Find the events to keep, and the answer where it is not that all is well.

    Raises:
        RefusedError: Nothing is to be kept.
    """
    good: Sequence[int] = range(len(events))
    refusal: RefusedError | None = None
    for step in (_find_bad_events, _find_unknown_contacts, _find_excess):
        stop = step(events, good, endpoint, state)
        if stop is None:
            continue
        if not stop.is_partial:
            raise stop.refusal
        refusal = refusal or stop.refusal
        good = [index for index in good if index not in stop.indexes]
    return good, refusal


def _find_bad_events(
    events: Sequence[object], good: Sequence[int], endpoint: str, state: State
) -> _Stop | None:
    check = _check_of(endpoint, state.behaviour)
    bad = {index: flaws for index in good if (flaws := check(events[index]))}
    if not bad:
        return None
    refusal = _refusal_of(bad, len(events), endpoint, state.behaviour)
    partial = endpoint == "batch" and state.behaviour.bad_event.startswith("partial")
    return _Stop(bad, refusal, partial)


def _check_of(endpoint: str, behaviour: Behaviour) -> Check:
    check = load_rules(batch_takes_ecommerce=not behaviour.batch_refuses_ecommerce)[endpoint]
    refused = {contact.strip().lower() for contact in behaviour.refused_contacts}
    if not refused:
        return check
    return lambda event: check(event) or ([_POISON] if _contact_of(event) in refused else [])


_POISON: Final = Flaw("INVALID", "email is invalid.", ".payload.email")


def _refusal_of(
    bad: Mapping[int, Sequence[Flaw]], events: int, endpoint: str, behaviour: Behaviour
) -> RefusedError:
    """Word the answer to bad events; its JSON takes the shape that was asked for."""
    is_indexed = endpoint == "batch" and not behaviour.bad_event.endswith("no-index")
    prefix = behaviour.index_path.removesuffix("[3]")
    errors = [
        _error(flaw, f"{prefix}[{index}]{flaw.path}" if is_indexed else _single_path(flaw.path))
        for index, flaws in bad.items()
        for flaw in flaws
    ]
    if endpoint == "batch" and not is_indexed:
        errors = errors[:1]  # Assumed: who does not count the events stops at the first error.
    status = HTTPStatus(behaviour.bad_event_status)
    if endpoint == "batch" and behaviour.bad_event == "partial-200":
        status = HTTPStatus.OK
    answer = _SHAPES[behaviour.error_shape](errors)
    return RefusedError(status, errors, answer=answer, events=events)


def _by_field(errors: Sequence[Mapping[str, object]]) -> dict[str, list[dict[str, object]]]:
    """Put errors under the name of the field; where they stand takes the place of their path."""
    named: dict[str, list[dict[str, object]]] = {}
    for error in errors:
        plain = {name: value for name, value in error.items() if name != "path"}
        named.setdefault(_WORD.findall(str(error["path"]))[-1], []).append(plain)
    return named


_WORD: Final = re.compile(r"\w+")

_SHAPES: Final[Mapping[str, Callable[[Sequence[Mapping[str, object]]], object]]] = {
    "list": lambda errors: {"errors": errors},
    "bare-list": lambda errors: errors,
    "object": lambda errors: {"errors": errors[0]},
    "field": lambda errors: {"errors": _by_field(errors)},
    "language": lambda errors: {
        "errors": {name: {"pt-BR": own} for name, own in _by_field(errors).items()}
    },
}


def _find_unknown_contacts(
    events: Sequence[object], good: Sequence[int], endpoint: str, state: State
) -> _Stop | None:
    behaviour = state.behaviour
    if behaviour.unknown_contact == "accepted":
        return None
    unknown = {
        index
        for index in good
        if _type_of(events[index]) in _QUALIFICATIONS
        and not state.contacts.is_known(_contact_of(events[index]), behaviour)
    }
    if not unknown:
        return None
    error = {"error_type": "RESOURCE_NOT_FOUND", "error_message": "Lead not found."}
    refusal = RefusedError(HTTPStatus.NOT_FOUND, error, events=len(events))
    partial = endpoint == "batch" and behaviour.bad_event.startswith("partial")
    return _Stop(unknown, refusal, partial)


_QUALIFICATIONS: Final = {"OPPORTUNITY", "SALE", "OPPORTUNITY_LOST"}
"""They need a contact that is there already; all others make one, or do not say."""


def _find_excess(
    events: Sequence[object], good: Sequence[int], _: str, state: State
) -> _Stop | None:
    if state.behaviour.contact_limit is None:
        return None
    contacts = [_contact_of(events[index]) for index in good]
    excess = state.limiter.take(contacts, state.behaviour)
    if excess is None:
        return None
    stopped = {good[position] for position in excess.stopped}
    refusal = _limiter_refusal(excess, len(events), state.behaviour)
    return _Stop(stopped, refusal, state.behaviour.contact_limit_partial)


def _limiter_refusal(excess: Excess, events: int, behaviour: Behaviour) -> RefusedError:
    opaque = hashlib.sha256(excess.contact.encode()).hexdigest()[:16]
    key = excess.contact if behaviour.contact_limit_names_contact else opaque
    text = f"'lead_limiter' rate limit exceeded for 86400 second(s) period for key {key}"
    return RefusedError(
        HTTPStatus.TOO_MANY_REQUESTS,
        {"error_type": "RATE_LIMIT", "error_message": text},
        answer={
            "error": text,
            "max": behaviour.contact_limit,
            "usage": excess.usage,
            "remaining_time": excess.remaining_s,
        },
        events=events,
    )


def _type_of(event: object) -> object:
    return event.get("event_type") if isinstance(event, dict) else None


def _contact_of(event: object) -> str:
    """Give an event's contact as the API tells contacts apart; empty where it names none."""
    payload = event.get("payload") if isinstance(event, dict) else None
    email = payload.get("email") if isinstance(payload, dict) else None
    return email.strip().lower() if isinstance(email, str) else ""


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
        ValueError: Not UTF-8, not JSON, nested too deeply, a name twice in one object, NaN or
            Infinity, or half of a surrogate pair.
    """
    text = body.decode("utf-8")
    _refuse_depth(body)
    value: object = _DECODER.decode(text)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # fails on half a pair
    return value


def _refuse_depth(body: bytes) -> None:
    """Refuse what nests deeper than any event, however many brackets are never closed."""
    plain = re.sub(rb"\\.", b"", body, flags=re.DOTALL) if b"\\" in body else body
    brackets = b"".join(plain.translate(_ALIKE, _NO_BRACKETS).split(b'"')[::2])
    for _ in range(_DEEPEST):  # each round takes the innermost pairs away
        brackets = brackets.replace(b"[]", b"")
    if len(brackets) > _DEEPEST or b"[]" in brackets:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")


_DEEPEST: Final = (
    64  # assumed: the pages name no limit; a batch of orders with items has six levels
)
_ALIKE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b'"[]{}'))
_SURROGATE: Final = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
