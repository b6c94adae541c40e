"""What an event may hold: the API's catalogue (`events.json`) compiled into tables of checks.

The tables are built once per process; checking a value then costs one look-up and one call. The
catalogue is the sandbox's own copy, and a format text that is not known here stops the sandbox at
its start rather than loosening a check.

Stricter than the real API is known to be, so that mistakes show:

- An unknown payload key is refused; the real API is believed to drop it silently.
- Text of blanks only and empty arrays are `CANNOT_BE_BLANK`; the pages say only that empty values
  are left out.
- `cf_birthdate` must be `YYYY-MM-DD`, the only form the pages show.
- A URL of an e-commerce event needs http or https and a host; other addresses are free text.

Words for errors are those the portal lists; where none of them fits (a text instead of a number, a
number below its minimum) it is `INVALID`.
"""

import functools
import json
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final, TypedDict

from rdstation_events.api_facts import EVENT_FAMILY


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with an event; `path` starts at the event, as in `.payload.email`."""

    error_type: str
    message: str
    path: str = ""
    validation_rules: Mapping[str, object] | None = None

    def under(self, step: str) -> "Flaw":
        """Say where the flaw is, seen from one level further up."""
        return replace(self, path=step + self.path)


Check = Callable[[object], Sequence[Flaw]]
"""Takes a parsed JSON value; gives what is wrong with it, nothing when it is good."""

_TextTest = Callable[[str], Sequence[Flaw]]


class _Field(TypedDict):
    name: str
    type: str
    required: bool | str
    format: str | None
    max_items: int | None
    allowed_values: list[str] | None
    fields: "list[_Field] | None"


class _LegalBases(TypedDict):
    send: list[str]
    status: dict[str, list[str]]
    status_required_for: list[str]


class _Event(TypedDict):
    event_type: str
    endpoints: list[str]
    legal_bases: _LegalBases
    fields: list[_Field]


class Catalogue(TypedDict):
    """The part of `events.json` that the checks are made of."""

    endpoints: dict[str, object]
    events: list[_Event]


@functools.cache
def load_rules(*, batch_takes_ecommerce: bool = True) -> Mapping[str, Check]:
    """Read and compile the catalogue, once per process and variant."""
    text = Path(__file__).with_name("events.json").read_text(encoding="utf-8")
    catalogue: Catalogue = json.loads(text)
    if not batch_takes_ecommerce:
        for event in catalogue["events"]:
            if event["event_type"].startswith("ECOMMERCE_"):
                event["endpoints"].remove("batch")
    return compile_rules(catalogue)


def compile_rules(catalogue: Catalogue) -> Mapping[str, Check]:
    """Make one check of a whole event for each endpoint, under the catalogue's keys for them.

    Raises:
        ValueError: The catalogue states a rule that is not understood here.
    """
    # Removed types name no endpoint, so no check takes them.
    current = [event for event in catalogue["events"] if event["endpoints"]]
    payloads = {event["event_type"]: _payload(event) for event in current}

    def taken_by(endpoint: str) -> Check:
        taken = (e["event_type"] for e in current if endpoint in e["endpoints"])
        return _event({event_type: payloads[event_type] for event_type in taken})

    return {endpoint: taken_by(endpoint) for endpoint in catalogue["endpoints"]}


# Whole events


def _event(payloads: Mapping[str, Check]) -> Check:
    envelope = _object(
        {
            "event_type": _text(_one_of(payloads)),
            "event_family": _text(_one_of([EVENT_FAMILY])),
            "payload": _any_object,
        },
        required=("event_type", "event_family", "payload"),
        owner="the event",
    )

    def check(value: object) -> Sequence[Flaw]:
        flaws = envelope(value)
        if not isinstance(value, dict):
            return flaws
        event_type, payload = value.get("event_type"), value.get("payload")
        if isinstance(event_type, str) and event_type in payloads and isinstance(payload, dict):
            in_payload = payloads[event_type](payload)
            if in_payload:
                return [*flaws, *(flaw.under(".payload") for flaw in in_payload)]
        return flaws

    return check


def _payload(event: _Event) -> Check:
    fields = [field for field in event["fields"] if not field["name"].endswith("*")]
    custom = [field for field in event["fields"] if field["name"].endswith("*")]
    checks = {field["name"]: _field(field) for field in fields}
    if "legal_bases" in checks:
        checks["legal_bases"] = _array(
            _legal_basis(_legal_basis_shape(fields), event["legal_bases"]), what="objects"
        )
    shape = _object(
        checks,
        required=_required(fields),
        owner=event["event_type"],
        custom=_custom_field_key(custom[0]) if custom else None,
    )
    return _without_traffic_conflict(shape) if "traffic_source" in checks else shape


def _required(fields: Sequence[_Field]) -> tuple[str, ...]:
    """Name the fields that are always required.

    Raises:
        ValueError: A field is required on another condition than `_legal_basis` checks.
    """
    for field in fields:
        if field["required"] not in {True, False, "when category is communications"}:
            raise ValueError(f"events.json: {field['name']}: required {field['required']!r}")
    return tuple(field["name"] for field in fields if field["required"] is True)


# Fields


def _field(field: _Field) -> Check:
    kind, form = field["type"], field["format"]
    if kind not in _FORMATS or form not in _FORMATS[kind]:
        raise ValueError(f"events.json: {field['name']}: no check for {kind}, {form!r}")
    if kind == "string":
        options = field["allowed_values"]
        return _text(*_TEXT_FORMATS[form], *([_one_of(options)] if options else []))
    if kind in {"integer", "number"}:
        return _number(*_RANGES[form], whole=kind == "integer")
    if kind == "boolean":
        return _boolean
    if kind == "array<string>":
        return _text_array(field["max_items"])
    nested = field["fields"] or []
    checks = {item["name"]: _field(item) for item in nested}
    check_item = _object(checks, required=_required(nested), owner=field["name"])
    return _array(check_item, what="objects", max_items=field["max_items"])


def _object(
    checks: Mapping[str, Check],
    *,
    required: Sequence[str],
    owner: str,
    custom: re.Pattern[str] | None = None,
) -> Check:
    """Check a JSON object key by key; a key that is not in the table is a flaw."""
    needed = frozenset(required)

    def check_unlisted(key: str, value: object) -> Sequence[Flaw]:
        if custom is not None and custom.fullmatch(key):
            return _custom_field(value)
        if custom is not None and key.startswith("cf_"):
            rules = {"pattern": custom.pattern}
            return (
                Flaw("INVALID_FORMAT", "Not the name of a custom field.", validation_rules=rules),
            )
        return (Flaw("INVALID_OPTION", f"Not a field of {owner}."),)

    def check(value: object) -> Sequence[Flaw]:
        if not isinstance(value, dict):
            return _wrong_type(value, "INVALID", "Must be an object.")
        flaws: list[Flaw] = []
        for key, item in value.items():
            known = checks.get(key)
            found = known(item) if known is not None else check_unlisted(key, item)
            if found:
                flaws.extend(flaw.under(_step(key)) for flaw in found)
        if not needed <= value.keys():
            flaws.extend(_NULL.under(_step(name)) for name in required if name not in value)
        return flaws

    return check


def _step(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def _any_object(value: object) -> Sequence[Flaw]:
    return _GOOD if isinstance(value, dict) else _wrong_type(value, "INVALID", "Must be an object.")


def _array(
    check_item: Check,
    *,
    what: str,
    max_items: int | None = None,
    error_type: str = "INVALID",
) -> Check:
    most = sys.maxsize if max_items is None else max_items
    too_long = Flaw(
        "TOO_LONG", f"Must have at most {most} items.", validation_rules={"maximum": most}
    )

    def check(value: object) -> Sequence[Flaw]:
        if not isinstance(value, list):
            return _wrong_type(value, error_type, f"Must be an array of {what}.")
        if not value:
            return (_BLANK,)
        flaws = [too_long] if len(value) > most else []
        for index, item in enumerate(value):
            found = check_item(item)
            if found:
                flaws.extend(flaw.under(f"[{index}]") for flaw in found)
        return flaws

    return check


def _text_array(max_items: int | None) -> Check:
    return _array(_text(), what="strings", max_items=max_items, error_type="MUST_BE_STRING_ARRAY")


def _text(*tests: _TextTest) -> Check:
    def check(value: object) -> Sequence[Flaw]:
        if not isinstance(value, str):
            return _wrong_type(value, "MUST_BE_STRING", "Must be a string.")
        if not value or value.isspace():
            return (_BLANK,)
        for test in tests:
            flaws = test(value)
            if flaws:
                return flaws
        return _GOOD

    return check


def _number(minimum: float, maximum: float, *, whole: bool) -> Check:
    kinds = (int,) if whole else (int, float)
    name = "Must be an integer." if whole else "Must be a number."
    below = Flaw("INVALID", f"Must be at least {minimum}.", validation_rules={"minimum": minimum})
    above = Flaw(
        "MUST_BE_LESS_THAN_OR_EQUAL",
        f"Must be less than or equal to {maximum}.",
        validation_rules={"maximum": maximum},
    )

    def check(value: object) -> Sequence[Flaw]:
        # In Python true is an integer; in JSON it is not.
        if not isinstance(value, kinds) or isinstance(value, bool):
            return _wrong_type(value, "INVALID", name)
        if value < minimum:
            return (below,)
        return (above,) if value > maximum else _GOOD

    return check


def _boolean(value: object) -> Sequence[Flaw]:
    if isinstance(value, bool):
        return _GOOD
    return _wrong_type(value, "MUST_BE_BOOLEAN", "Must be a boolean.")


def _wrong_type(value: object, error_type: str, message: str) -> Sequence[Flaw]:
    return (_NULL,) if value is None else (Flaw(error_type, message),)


_GOOD: Final[Sequence[Flaw]] = ()
_NULL: Final = Flaw("CANNOT_BE_NULL", "Cannot be null.")
_BLANK: Final = Flaw("CANNOT_BE_BLANK", "Cannot be blank.")


# Texts


def _one_of(options: Iterable[str]) -> _TextTest:
    listed = list(options)
    legal = frozenset(listed)
    flaws = (
        Flaw(
            "INVALID_OPTION",
            "Must be one of the valid options.",
            validation_rules={"valid_options": listed},
        ),
    )
    return lambda text: _GOOD if text in legal else flaws


def _at_most(length: int) -> _TextTest:
    flaws = (
        Flaw(
            "TOO_LONG",
            f"Must have at most {length} characters.",
            validation_rules={"maximum": length},
        ),
    )
    return lambda text: _GOOD if len(text) <= length else flaws


def _matching(pattern: str, what: str) -> _TextTest:
    matches = re.compile(pattern).fullmatch
    flaws = (Flaw("INVALID_FORMAT", f"Must be {what}."),)
    return lambda text: _GOOD if matches(text) else flaws


def _real(parse: Callable[[str], object], length: int, what: str) -> _TextTest:
    """Test that the first `length` characters exist in the calendar, which a pattern cannot say."""
    flaws = (Flaw("INVALID_FORMAT", f"Must be {what}."),)

    def test(text: str) -> Sequence[Flaw]:
        try:
            parse(text[:length])
        except ValueError:
            return flaws
        return _GOOD

    return test


# The form of an address that browsers accept, and a dot in the domain.
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# No source says that the name before the `@` is ASCII, and real shops hold addresses with accents.
_EMAIL: Final = rf"[\w.!#$%&'*+/=?^`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})+"
_AUTHORITY_AND_REST: Final = r"://[^\s/?#<>\"]+[^\s<>\"]*"
_DATE: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_OFFSET: Final = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_DATE_TIME: Final = rf"{_DATE}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?{_OFFSET}"

_TEXT_FORMATS: Final[Mapping[str | None, Sequence[_TextTest]]] = {
    None: (),
    "non-empty": (),
    "phone": (),  # free text: "phones | free strings" in the notes on the API
    "ISO 4217, upper case": (),  # the catalogue lists the currencies
    # The length comes from community notes, which give it for both fields.
    "email": (_at_most(255), _matching(_EMAIL, "an e-mail address")),
    "url": (),  # the field tables say no more than String
    "http(s) url": (_matching("(?i:https?)" + _AUTHORITY_AND_REST, "an http or https URL"),),
    "digits": (_matching("[0-9]+", "digits only"),),
    "1-150 chars": (_at_most(150),),
    "1-255 chars": (_at_most(255),),
    "<= 255 chars (third-party)": (_at_most(255),),
    "YYYY-MM-DD (from the example only)": (
        _matching(_DATE, "a date, YYYY-MM-DD"),
        _real(date.fromisoformat, 10, "a date that exists"),
    ),
    "RFC 3339 date-time": (
        _matching(_DATE_TIME, "an RFC 3339 date-time"),
        _real(datetime.fromisoformat, 19, "a date and time that exist"),
    ),
}

# 1e999 is legal JSON and reads as infinity, which no amount is.
_LARGEST: Final = sys.float_info.max

_RANGES: Final[Mapping[str | None, tuple[float, float]]] = {
    ">= 0": (0, _LARGEST),
    ">= 1": (1, _LARGEST),
    "0-100": (0, 100),
    "float, >= 0": (0, _LARGEST),
    ">= 0, decimal units (not cents)": (0, _LARGEST),
}

_FORMATS: Final[Mapping[str, Container[str | None]]] = {
    "string": _TEXT_FORMATS,
    "integer": _RANGES,
    "number": _RANGES,
    "boolean": [None],
    "array<string>": [None],
    "array<object>": [None],
}
"""The types and formats that are checked; the catalogue may state no other."""


# Rules that look at more than one value


def _legal_basis_shape(fields: Sequence[_Field]) -> Check:
    nested = next(field["fields"] for field in fields if field["name"] == "legal_bases") or []
    checks = {field["name"]: _field(field) for field in nested}
    return _object(checks, required=_required(nested), owner="legal_bases")


def _legal_basis(shape: Check, rules: _LegalBases) -> Check:
    """Check one legal basis: which categories the type takes, and which status goes with each."""
    category_test = _one_of(rules["send"])
    status_tests = {category: _one_of(legal) for category, legal in rules["status"].items()}

    def check(value: object) -> Sequence[Flaw]:
        flaws = shape(value)
        if flaws or not isinstance(value, dict):
            return flaws
        category, status = value["category"], value.get("status")
        if refused := category_test(category):
            return [flaw.under(".category") for flaw in refused]
        if status is None:
            return [_NULL.under(".status")] if category in rules["status_required_for"] else _GOOD
        return [flaw.under(".status") for flaw in status_tests[category](status)]

    return check


def _without_traffic_conflict(shape: Check) -> Check:
    """Refuse `traffic_*` beside a `__trf.src` cookie, which already holds them."""
    others = ("traffic_medium", "traffic_campaign", "traffic_value")

    def check(value: object) -> Sequence[Flaw]:
        flaws = shape(value)
        if not isinstance(value, dict) or not _is_cookie(value.get("traffic_source")):
            return flaws
        conflict = Flaw("CONFLICTING_FIELD", "Must be empty when traffic_source is a cookie.")
        return [*flaws, *(conflict.under(_step(name)) for name in others if name in value)]

    return check


def _is_cookie(value: object) -> bool:
    """Tell a `__trf.src` cookie from a UTM source.

    It is a JSON object: as it is, percent-encoded, or in base64 (`eyJ` stands for `{"`), before
    which the vendor's script writes `encoded_`.
    """
    return isinstance(value, str) and value.startswith(("{", "%7B", "encoded_", "eyJ"))


def _custom_field_key(field: _Field) -> re.Pattern[str]:
    prefix = "key matches "
    if not (field["format"] or "").startswith(prefix):
        raise ValueError(f"events.json: {field['name']}: no pattern for its keys")
    return re.compile((field["format"] or "").removeprefix(prefix))


def _custom_field(value: object) -> Sequence[Flaw]:
    """Take what custom fields hold ("Campos personalizados"): text, integer, boolean, texts."""
    if isinstance(value, int):
        return _GOOD
    return _CUSTOM_ARRAY(value) if isinstance(value, list) else _CUSTOM_TEXT(value)


_CUSTOM_ARRAY: Final = _text_array(None)
_CUSTOM_TEXT: Final = _text()
