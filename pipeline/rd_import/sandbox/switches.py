"""How a sandbox behaves where the API's pages leave it open, and what goes wrong on the way.

`Behaviour()` is the strict reading; every other behaviour is a switch away from it. The keys of a
scenario file are the names of these fields.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

from rd_import.sandbox.page_texts import Said, ScenarioError
from rdstation_events.api_facts import MAX_BODY_BYTES

LARGEST_BODY: Final = 16 * 1024 * 1024
"""A longer body is not read at all: the client may see a reset instead of the 413."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and the POSTs it strikes.

    POSTs are counted from 1, over the three event endpoints, in the order in which their headers
    arrive; whatever they are answered, they count. Exactly one of `at`, `every`, `from_request`,
    `from_second` and `share` chooses them; of several faults the first that chooses a POST strikes.

    What each kind does:

    - `drop-before`: read the body, register nothing, close without an answer.
    - `drop-after`: register, then close without an answer.
    - `reset-early`: reset the connection before the body is read.
    - `truncate`: register, send half of the answer, close.
    - `status`: answer `status`; nothing is registered unless `registers`.
    - `wrong-count`: register, answer 200 with one uuid too few.
    - `empty-uuid`: register, answer 200 with an empty last uuid.
    - `not-json`: answer 200 with a page; registered unless `registers` is false, which is what a
      hotel's login page does.
    - `redirect`: register nothing, answer 302 (or `status`) to another path of this server.
    - `slow`: register at once, answer after `seconds`.
    - `late`: answer 504 (or `status`) at once, register `seconds` later, by the sandbox's clock.

    Where a kind registers, a request that would be refused is refused all the same: nothing of it
    is registered, and the kinds that change a 200 leave its answer alone.

    Args:
        kind: What goes wrong.
        at: The numbers of the POSTs.
        every: Every so manieth POST.
        from_request: This POST and those after it, `for_requests` of them or all.
        for_requests: How many, with `from_request`.
        from_second: POSTs from this second after the first POST on, for `for_seconds` or for ever.
        for_seconds: How long, with `from_second`.
        share: This share of all POSTs, from 0 to 1, drawn by number and `seed`: the same each time.
        seed: Another seed strikes others, with `share`.
        status: Of the answer.
        registers: Whether the events are registered although the answer does not say so.
        html: Answer with a page, as gateways do, instead of the API's JSON.
        body: Answer with exactly this text; the way to any other shape of error, or none.
        retry_after: Seconds to tell in `Retry-After`.
        quota_headers: Tell them in the gateway's `retry-after-quotas` instead.
        seconds: How long, for `slow` and `late`.
    """

    kind: str
    at: tuple[int, ...] | None = None
    every: int | None = None
    from_request: int | None = None
    for_requests: int | None = None
    from_second: float | None = None
    for_seconds: float | None = None
    share: float | None = None
    seed: int | None = None
    status: int | None = None
    registers: bool | None = None
    html: bool | None = None
    body: str | None = None
    retry_after: float | None = None
    quota_headers: bool | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_values(self, _FAULT_RULES)
        given = {field.name for field in fields(self) if getattr(self, field.name) is not None}
        if len(given & _CHOOSERS) != 1:
            raise ScenarioError("one_chooser", names=_names(_CHOOSERS))
        for name, needed in _FAULT_NEEDS.items():
            if name in given and needed not in given:
                raise ScenarioError("goes_with", name=name, needed=needed)
        strange = given - _CHOOSERS - _FAULT_NEEDS.keys() - {"kind"} - _KEYS_OF_KIND[self.kind]
        if strange:
            raise ScenarioError("takes_no", kind=self.kind, names=_names(strange))
        if self.kind == "status" and self.status is None:
            raise ScenarioError("needs_status")

    @property
    def is_registered(self) -> bool:
        """Whether good events are kept although something goes wrong."""
        default = self.kind not in {"drop-before", "reset-early", "status", "redirect"}
        return default if self.registers is None else self.registers

    def strikes(self, number: int, second: float) -> bool:
        """Tell whether the POST of this number, so many seconds after the first, is struck."""
        if self.at is not None:
            return number in self.at
        if self.every is not None:
            return number % self.every == 0
        if self.share is not None:
            return random.Random(f"{self.seed or 0} {number}").random() < self.share  # noqa: S311 -- no secret
        if self.from_request is not None:
            return _is_within(number, self.from_request, self.for_requests)
        return _is_within(second, self.from_second or 0, self.for_seconds)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read one `[[server.fault]]`.

        Raises:
            ScenarioError: A key or a value is not known here.
        """
        _check_keys(table, {field.name for field in fields(cls)})
        if "kind" not in table:
            raise ScenarioError("kind_missing", wants=_FAULT_RULES["kind"].wants)
        given = dict(table)
        if isinstance(given.get("at"), list):
            given["at"] = tuple(given["at"])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a sandbox behaves; as it stands, the strict reading of the API's pages.

    Args:
        bad_event: What one bad event does to its batch. `index`: all of it is refused and every bad
            event named by its index. `no-index`: all of it is refused, and the one error does not
            say for which. `partial` and `partial-no-index`: the same answers, but the good events
            are registered, without a uuid for them. `partial-200`: the good ones are registered,
            and a 200 has uuids for them only.
        bad_event_status: Of the answer to a bad event, 400 or 422.
        error_shape: Of the errors for bad events, five that the pages know: `list`, `bare-list`
            (nothing around it), `object` (the first error only), `field` and `language` (under the
            field's name, without paths).
        index_path: How an index is written, `$[3]` or `$.body[3]`.
        refused_contacts: Addresses whose events are bad here, though no page says why: what passes
            every check before it is sent, and is refused.
        batch_refuses_ecommerce: The batch endpoint does not know the e-commerce types.
        unknown_contact: What happens to qualification events for a contact that no conversion made
            here: `accepted` as the pages have it, or `not-found`, a 404 for the whole body. Where
            `bad_event` is one of the partial ones, the other events are registered.
        contact_ready_s: With `not-found`: how long a new contact is not found yet.
        requests_per_minute: The account's quota; a POST to an event endpoint above it is answered
            429 by the gateway. Whatever a POST is answered it counts, unless it is that 429.
        quota_window: `sliding`: no 60 seconds hold more than the quota, which is the strictest.
            `fixed`: the count begins again with each minute of the clock.
        retry_after_s: What the 429 tells to wait, in `Retry-After` and `retry-after-quotas`, be it
            true or not; without it the second alone, and the truth.
        contact_limit: Events of one contact in 24 hours from its first; above it the body is
            answered 429 by the lead limiter. What is refused does not count.
        contact_limit_counts: `event`, or `request`: a body counts once for each contact in it.
        contact_limit_names_contact: Whether the limiter's text names the contact, or an opaque key.
        contact_limit_partial: The limiter's 429 refuses only what is too much; the other events of
            the body are registered.
        max_body_bytes: A longer body is answered 413.
        token_lives_requests: How many POSTs a token is good for.
        token_seconds: How long a token is good.
        refresh_rotates: A refresh gives a new refresh token and ends the old one.
        latency_ms: Before every answer to a POST.
        faults: What goes wrong; in a scenario, `[[server.fault]]`.
    """

    bad_event: str = "index"
    bad_event_status: int = 400
    error_shape: str = "list"
    index_path: str = "$[3]"
    refused_contacts: tuple[str, ...] = ()
    batch_refuses_ecommerce: bool = False
    unknown_contact: str = "accepted"
    contact_ready_s: float = 0
    requests_per_minute: int | None = None
    quota_window: str = "sliding"
    retry_after_s: int | None = None
    contact_limit: int | None = None
    contact_limit_counts: str = "event"
    contact_limit_names_contact: bool = True
    contact_limit_partial: bool = False
    max_body_bytes: int = MAX_BODY_BYTES
    token_lives_requests: int | None = None
    token_seconds: float | None = None
    refresh_rotates: bool = False
    latency_ms: float = 0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        _check_values(self, _BEHAVIOUR_RULES)
        changed = {
            field.name for field in fields(self) if getattr(self, field.name) != field.default
        }
        for name, needed in _BEHAVIOUR_NEEDS.items():
            if name in changed and needed not in changed:
                raise ScenarioError("goes_with", name=name, needed=needed)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read the `[server]` table of a scenario.

        Raises:
            ScenarioError: A key or a value is not known here.
        """
        _check_keys(table, {field.name for field in fields(cls)} - {"faults"} | {"fault"})
        given = {name: value for name, value in table.items() if name != "fault"}
        if isinstance(given.get("refused_contacts"), list):
            given["refused_contacts"] = tuple(given["refused_contacts"])
        return cls(**given, faults=_read_faults(table.get("fault", [])))


def _read_faults(tables: object) -> tuple[Fault, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ScenarioError("written_as")
    faults = []
    for number, table in enumerate(tables, start=1):
        try:
            faults.append(Fault.from_table(table))
        except ValueError as error:
            raise ScenarioError("fault_number", number=number, fault=error) from None
    return tuple(faults)


def _is_within(value: float, first: float, length: float | None) -> bool:
    return first <= value < first + (math.inf if length is None else length)


# What the fields may hold


class _Rule(NamedTuple):
    wants: Said
    """As in "must be …"."""
    holds: Callable[[Any], bool]


def _check_keys(table: Mapping[str, Any], known: set[str]) -> None:
    for name in table:
        if name not in known:
            raise ScenarioError("not_known", name=name, names=_names(known))


def _check_values(owner: Behaviour | Fault, rules: Mapping[str, _Rule]) -> None:
    for field in fields(owner):
        value, rule = getattr(owner, field.name), rules[field.name]
        if not (value is None and field.default is None) and not rule.holds(value):
            raise ScenarioError("must_be", name=field.name, wants=rule.wants, value=repr(value))


def _names(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _one_of(*options: str | int) -> _Rule:
    wants = Said("one_of", names=", ".join(map(str, options)))
    return _Rule(wants, lambda value: type(value) in {str, int} and value in options)


def _whole(low: int, high: float = math.inf) -> _Rule:
    wants = Said("whole_from" if high == math.inf else "whole_between", low=low, high=high)
    return _Rule(wants, lambda value: type(value) is int and low <= value <= high)


def _number(low: float, high: float = math.inf) -> _Rule:
    wants = Said("number_from" if high == math.inf else "number_between", low=low, high=high)
    return _Rule(
        wants,
        lambda value: type(value) in {int, float} and math.isfinite(value) and low <= value <= high,
    )


def _all(key: str, holds: Callable[[Any], bool]) -> _Rule:
    return _Rule(Said(key), lambda value: isinstance(value, tuple) and all(map(holds, value)))


_YES_OR_NO: Final = _Rule(Said("yes_or_no"), lambda value: isinstance(value, bool))
_TEXT: Final = _Rule(Said("text"), lambda value: isinstance(value, str))

_BEHAVIOUR_RULES: Final[Mapping[str, _Rule]] = {
    "bad_event": _one_of("index", "no-index", "partial", "partial-no-index", "partial-200"),
    "bad_event_status": _one_of(400, 422),
    "error_shape": _one_of("list", "bare-list", "object", "field", "language"),
    "index_path": _one_of("$[3]", "$.body[3]"),
    "refused_contacts": _all("texts", _TEXT.holds),
    "batch_refuses_ecommerce": _YES_OR_NO,
    "unknown_contact": _one_of("accepted", "not-found"),
    "contact_ready_s": _number(0),
    "requests_per_minute": _whole(1),
    "quota_window": _one_of("sliding", "fixed"),
    "retry_after_s": _whole(0),
    "contact_limit": _whole(1),
    "contact_limit_counts": _one_of("event", "request"),
    "contact_limit_names_contact": _YES_OR_NO,
    "contact_limit_partial": _YES_OR_NO,
    "max_body_bytes": _whole(1, LARGEST_BODY),
    "token_lives_requests": _whole(1),
    "token_seconds": _number(0),
    "refresh_rotates": _YES_OR_NO,
    "latency_ms": _number(0),
    "faults": _all("faults", lambda value: isinstance(value, Fault)),
}

_BEHAVIOUR_NEEDS: Final = {
    "contact_ready_s": "unknown_contact",
    "quota_window": "requests_per_minute",
    "retry_after_s": "requests_per_minute",
    "contact_limit_counts": "contact_limit",
    "contact_limit_names_contact": "contact_limit",
    "contact_limit_partial": "contact_limit",
}

_KEYS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "drop-before": frozenset(),
    "drop-after": frozenset(),
    "reset-early": frozenset(),
    "truncate": frozenset(),
    "status": frozenset({"status", "registers", "html", "body", "retry_after", "quota_headers"}),
    "wrong-count": frozenset(),
    "empty-uuid": frozenset(),
    "not-json": frozenset({"registers", "body"}),
    "redirect": frozenset({"status"}),
    "slow": frozenset({"seconds"}),
    "late": frozenset({"status", "seconds", "html", "body"}),
}

_CHOOSERS: Final = frozenset({"at", "every", "from_request", "from_second", "share"})

_FAULT_NEEDS: Final = {
    "for_requests": "from_request",
    "for_seconds": "from_second",
    "seed": "share",
    "quota_headers": "retry_after",
}

_FAULT_RULES: Final[Mapping[str, _Rule]] = {
    "kind": _one_of(*_KEYS_OF_KIND),
    "at": _all("wholes", _whole(1).holds),
    "every": _whole(1),
    "from_request": _whole(1),
    "for_requests": _whole(1),
    "from_second": _number(0),
    "for_seconds": _number(0),
    "share": _number(0, 1),
    "seed": _whole(0),
    "status": _whole(300, 599),
    "registers": _YES_OR_NO,
    "html": _YES_OR_NO,
    "body": _TEXT,
    "retry_after": _number(0),
    "quota_headers": _YES_OR_NO,
    "seconds": _number(0),
}
