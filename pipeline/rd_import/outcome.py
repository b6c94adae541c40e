"""What an answer, or the lack of one, proves. Pure: the table that the product's promise rests on.

Proof decides, not the exception's name: whether a byte of the body was asked for tells what may have left.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from rd_import.nesting import read_json

INDEX: Final = re.compile(r"^\$(?:\.body)?\[(\d+)\]")
QUOTA_HEADERS: Final = ("retry-after-quotas", "ratelimit-limit-quotas")
TEXT_CHARACTERS: Final = 300
SCRUBBED_CHARACTERS: Final = 1_000
LONGEST_WAIT_S: Final = 86_400.0
LARGEST_LIMIT: Final = 1_000_000  # events a day; a larger figure is no limit
PERSONAL: Final = re.compile(
    r"[^\s\"'<>,;:=]+(?:@|%40)[^\s\"'<>,;:=]+"  # e-mails, also as they stand in an address
    r"|\+?\d(?:[\s().\u00ad\u2010-\u2015\u2212-]*\d){7,}"  # phones, whatever their hyphens
)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one POST.

    Args:
        status: HTTP status, or None if no whole answer came.
        headers: Of the answer, names in lower case.
        body: Of the answer.
        asked_bytes: How many bytes of the request body were asked for.
        failure: What went wrong, in words, where there is no answer.
        generation: Which access token it was sent with, counted from 0.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked_bytes: int = 0
    failure: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class ApiError:
    """One error of an answer, with e-mails and phones removed from its text."""

    code: str
    message: str
    path: str = ""


class Remedy(StrEnum):
    """What to do about a request that was not accepted."""

    RETRY = "retry"  # wait, claim again, send again
    HALVE = "halve"  # the body is too large for this account
    REFRESH = "refresh"  # the token ended
    STOP = "stop"  # nobody but a person can help


@dataclass(frozen=True, slots=True)
class Accepted:
    """One non-empty uuid per event, in the order of the body."""

    event_uuids: tuple[str, ...]
    batch_uuid: str | None
    proof: str


@dataclass(frozen=True, slots=True)
class Refused:
    """RD Station names the events it refuses by position; the others are not accepted and may go again."""

    errors: Mapping[int, ApiError]
    proof: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """Something in the body was refused, and the answer does not say which event: bisect."""

    error: ApiError
    proof: str


@dataclass(frozen=True, slots=True)
class ContactLimit:
    """A contact of the body has had its share of events."""

    maximum: int | None
    wait_s: float
    text: str
    proof: str


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """This request is proven not accepted, and no event of it is to blame. `wait_s` is what the server asked for."""

    remedy: Remedy
    error: ApiError
    proof: str
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The body, or part of it, left, and nothing tells whether it was registered."""

    proof: str


Receipt = Accepted | Refused | Undecided | ContactLimit | NotAccepted | Unknown


def judge(seen: Observation, events: int) -> Receipt:
    """Decide what one POST proves about its events.

    Args:
        seen: What was observed.
        events: How many events the body held.

    Source: the outcome table of the design, which stands on the API's error pages and the vendor's Ruby client.
    """
    if seen.status is None:
        if seen.asked_bytes == 0:
            error = ApiError("NOT_SENT", scrub(seen.failure))
            return NotAccepted(Remedy.RETRY, error, f"no byte asked for: {scrub(seen.failure)}")
        return Unknown(
            f"{scrub(seen.failure)} after {seen.asked_bytes} bytes of the body were asked for"
        )
    answer = _parsed(seen.body)
    if seen.status == 200:
        return _accepted(answer, events)
    error = first_error(seen)
    proof = f"{seen.status} {error.code}".strip()
    if seen.status in {400, 422}:
        return _refused(answer, error, proof, events)
    if seen.status == 404:
        if not is_rd_error(answer):
            return NotAccepted(Remedy.STOP, error, proof)
        return _refused(answer, error, proof, events)
    if seen.status == 401:
        return NotAccepted(Remedy.REFRESH, error, proof)
    if seen.status == 413:
        return NotAccepted(Remedy.HALVE, error, proof)
    if seen.status == 429:
        return _limited(answer, seen, error, proof)
    if seen.status == 503 and retry_after(seen.headers) is not None:
        return NotAccepted(Remedy.RETRY, error, proof, retry_after(seen.headers))
    if seen.status in {403, 415} or 300 <= seen.status < 400:
        return NotAccepted(Remedy.STOP, error, proof)
    if 400 <= seen.status < 500 and seen.status != 408:
        return _refused(answer, error, proof, events)
    return Unknown(f"{seen.status} after {seen.asked_bytes} bytes of the body were asked for")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds that the server asks to wait, or a minute where only the gateway's quota headers came."""
    for name in ("retry-after-quotas", "retry-after"):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", value):
            return _wait(float(value))
    return 60.0 if any(name in headers for name in (*QUOTA_HEADERS, "retry-after")) else None


def is_rd_error(answer: Any) -> bool:
    """Tell RD Station's own error from that of a proxy or a wrong address."""
    return next(_errors(answer), None) is not None


def first_error(seen: Observation) -> ApiError:
    """Give the first error of an answer in any of the API's shapes, or its scrubbed text."""
    answer = _parsed(seen.body)
    for error in _errors(answer):
        return error
    if isinstance(answer, dict) and ("message" in answer or "error" in answer):
        text = str(answer.get("message") or answer.get("error"))
        return ApiError("RATE_LIMIT" if seen.status == 429 else "ERROR", scrub(text))
    return ApiError(
        f"HTTP_{seen.status}" if seen.status else "", scrub(seen.body.decode("utf-8", "replace"))
    )


def scrub(text: str) -> str:
    """Remove e-mails and phones from a server's text, flatten it and cut it."""
    # Cut first: the patterns take time that grows with the square of a long word.
    return PERSONAL.sub("[…]", " ".join(_storable(text[:SCRUBBED_CHARACTERS]).split()))[
        :TEXT_CHARACTERS
    ]


def is_uuid(text: str) -> bool:
    """Tell whether a text can be what names an event: one word of some length, which the ledger keeps on one line."""
    return re.fullmatch(r"\S{1,200}", text) is not None and _storable(text) == text


def _accepted(answer: Any, events: int) -> Accepted | Unknown:
    if isinstance(answer, dict):
        listed = answer.get("events")
        entries = listed if isinstance(listed, list) else [answer] if "event_uuid" in answer else []
        uuids = [entry.get("event_uuid") if isinstance(entry, dict) else None for entry in entries]
        good = [uuid for uuid in uuids if isinstance(uuid, str) and is_uuid(uuid)]
        if len(good) == len(uuids) == events:
            batch = answer.get("event_batch_uuid")
            return Accepted(
                tuple(good),
                _storable(batch) if isinstance(batch, str) else None,
                f"200 with {events} of {events} uuids",
            )
        return Unknown(f"200 with {len(good)} of {events} uuids")
    return Unknown("200 whose body is not the JSON that the API promises")


def _refused(answer: Any, error: ApiError, proof: str, events: int) -> Receipt:
    named: dict[int, ApiError] = {}
    for one in _errors(answer):
        found = INDEX.match(one.path)
        if found and int(found[1]) < events:
            named.setdefault(int(found[1]), one)
    if named:
        return Refused(named, proof)
    if error.code == "BAD_REQUEST":
        return NotAccepted(Remedy.STOP, error, proof)
    return Refused({0: error}, proof) if events == 1 else Undecided(error, proof)


def _limited(
    answer: Any, seen: Observation, error: ApiError, proof: str
) -> ContactLimit | NotAccepted:
    if isinstance(answer, dict) and "lead_limiter" in str(answer.get("error", "")):
        maximum = answer.get("max")
        learnt = maximum if type(maximum) is int and 0 < maximum <= LARGEST_LIMIT else None
        return ContactLimit(
            learnt, _wait(answer.get("remaining_time")), _storable(str(answer["error"])), proof
        )
    return NotAccepted(Remedy.RETRY, error, proof, retry_after(seen.headers) or 60.0)


def _wait(seconds: object) -> float:
    """Give a wait in seconds between none and a day; a minute where the server's figure makes no sense."""
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 <= seconds < LONGEST_WAIT_S * 1000
    ):
        return 60.0
    return min(float(seconds), LONGEST_WAIT_S)


def _storable(text: str) -> str:
    """Replace what no UTF-8 text can hold: half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _parsed(body: bytes) -> Any:
    try:
        return read_json(body)
    except ValueError:
        return None


def _errors(answer: Any) -> Iterator[ApiError]:
    """Walk the API's error shapes: an object, a list, or lists under field and language names."""
    node = answer.get("errors") if isinstance(answer, dict) else answer
    waiting = [(node, "")]
    while waiting:
        node, path = waiting.pop(0)
        if isinstance(node, list):
            waiting[:0] = [(one, path) for one in node]
        elif isinstance(node, dict) and "error_type" in node:
            yield ApiError(
                _storable(str(node["error_type"]))[:100],
                scrub(str(node.get("error_message", ""))),
                _storable(str(node.get("path", path)))[:200],
            )
        elif isinstance(node, dict):
            waiting[:0] = [(one, f"{path}.{name}".strip(".")) for name, one in node.items()]
