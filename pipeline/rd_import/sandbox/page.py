"""What a person, or a test, may look at: the page and its JSON counterparts.

Looking needs no token, so a page on the web must not be able to look: a request that was not
addressed to this machine by name is refused, which is what stops DNS rebinding.
"""

import functools
import json
import re
import secrets
from collections.abc import Callable, Mapping
from html import escape
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlencode

from rd_import.catalogue import fill, language, number, translate
from rd_import.sandbox.behaviour import (
    Request,
    Response,
    State,
    error_response,
    has_token,
    json_response,
)
from rd_import.sandbox.page_texts import PAGE
from rd_import.sandbox.store import Stats, StoredEvent, StoredRequest, contact_of
from rd_import.sandbox.switches import Behaviour
from rd_import.sandbox.tokens import same


def look(request: Request, state: State) -> Response:
    """Answer a GET or a DELETE."""
    if not _OWN_NAME.fullmatch(request.headers.get("host", "")):
        message = "Only requests addressed to this machine are answered here."
        return error_response(HTTPStatus.FORBIDDEN, "FORBIDDEN", message)
    view = _VIEWS.get((request.method, request.path))
    if view is None:
        return error_response(HTTPStatus.NOT_FOUND, "RESOURCE_NOT_FOUND", "No such page.")
    return view(request, state)


_OWN_NAME: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?", re.IGNORECASE)


# JSON


def _events(request: Request, state: State) -> Response:
    offset, limit = request.query.get("offset", "0"), request.query.get("limit", "1000")
    if not (_COUNT.fullmatch(offset) and _COUNT.fullmatch(limit)):
        message = "offset and limit are whole numbers from 0."
        return error_response(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", message)
    events = [
        {
            "event_uuid": stored.event_uuid,
            "event_batch_uuid": stored.event_batch_uuid,
            "event_batch_index": stored.event_batch_index,
            "received_at": stored.received_at.isoformat(),
            "event": stored.event,
        }
        for stored in state.store.events(int(offset), int(limit))
    ]
    count = state.store.stats().accepted_events
    return _private({"instance": state.instance, "count": count, "events": events})


_COUNT: Final = re.compile("[0-9]{1,15}")


def _requests(_: Request, state: State) -> Response:
    return _private(
        [
            {
                "path": stored.path,
                "status": stored.status,
                "body_bytes": stored.body_bytes,
                "events": stored.events,
                "fault": stored.fault or None,
                "received_at": stored.received_at.isoformat(),
                "event_batch_uuid": stored.event_batch_uuid,
                "event_uuids": stored.event_uuids,
                "errors": stored.errors,
            }
            for stored in state.store.requests()
        ]
    )


def _stats(_: Request, state: State) -> Response:
    stats = state.store.stats()
    shown: dict[str, object] = {
        "instance": state.instance,
        "requests": stats.requests,
        "accepted_events": stats.accepted_events,
        "refused_requests": stats.refused_requests,
        "by_type": stats.by_type,
    }
    if state.behaviour != Behaviour():
        shown |= _behaviour_stats(stats, state)
    return _private(shown)


def _behaviour_stats(stats: Stats, state: State) -> dict[str, object]:
    """Count what only a sandbox that is told how to behave has to tell."""
    return {
        "requests_per_minute": state.behaviour.requests_per_minute,
        "requests_in_window": state.quota.used(state.behaviour),
        "answered_429": stats.by_status.get(HTTPStatus.TOO_MANY_REQUESTS, 0),
        "by_status": {str(status): count for status, count in stats.by_status.items()},
        "by_fault": stats.by_fault,
        "token_refreshes": state.tokens.refreshes,
    }


def _clear(request: Request, state: State) -> Response:
    if not has_token(request, state):
        return error_response(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "Invalid token.")
    return _private({"instance": state.instance, "cleared": state.store.clear()})


def _private(value: object) -> Response:
    return json_response(HTTPStatus.OK, value, _PRIVATE)


_PRIVATE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


# The page

_EVENTS_SHOWN: Final = 200
_REFUSALS_SHOWN: Final = 50


def _page(request: Request, state: State) -> Response:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        **_PRIVATE,
    }
    html = _render(request.query, state, nonce)
    return Response(HTTPStatus.OK, html.encode(), headers)


def _render(query: Mapping[str, str], state: State, nonce: str) -> str:
    event_type, contact = query.get("type", "").strip(), query.get("contact", "").strip()
    newest = state.store.newest(event_type=event_type, contact=contact)
    shown = list(islice(newest, _EVENTS_SHOWN))
    refused = [
        kept for kept in state.store.requests() if kept.status != HTTPStatus.OK or kept.fault
    ]
    stats = state.store.stats()
    texts = {f"t_{key}": escape(_say(key)) for key, text in PAGE.items() if "{" not in text}
    instance = f"<code>{escape(state.instance)}</code>"
    limited = stats.by_status.get(HTTPStatus.TOO_MANY_REQUESTS, 0)
    return _template().substitute(
        texts,
        lang=language(),
        nonce=nonce,
        t_instance=escape(_say("instance", instance="\0")).replace("\0", instance),
        accepted=number(stats.accepted_events),
        requests=number(stats.requests),
        refused=number(stats.refused_requests),
        rate=_rate(state),
        limited=number(limited),
        refused_alarm=" bad" if stats.refused_requests else "",
        limited_alarm=" bad" if limited else "",
        types=_type_rows(stats),
        options=_type_options(stats, event_type),
        contact=escape(contact),
        shown=_shown(len(shown), is_filtered=bool(event_type or contact)),
        events="".join(map(_event_row, shown)) or _empty_row(4, _say("no_events")),
        refusals="".join(map(_refusal_row, refused[: -_REFUSALS_SHOWN - 1 : -1]))
        or _empty_row(4, _say("no_refusals")),
    )


def _say(key: str, **facts: object) -> str:
    return fill(translate(PAGE[key]), facts)


@functools.cache
def _template() -> Template:
    return Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _rate(state: State) -> str:
    used, limit = state.quota.used(state.behaviour), state.behaviour.requests_per_minute
    return number(used) if limit is None else _say("rate_of", used=used, limit=limit)


def _shown(count: int, *, is_filtered: bool) -> str:
    if count == _EVENTS_SHOWN:
        return _say("shown_newest", count=count)
    return _say("shown_found" if is_filtered else "shown_all", count=count)


def _type_rows(stats: Stats) -> str:
    rows = (
        f'<tr><td><a href="?{escape(urlencode({"type": name}))}">{escape(name)}</a></td>'
        f'<td class="number">{number(count)}</td></tr>'
        for name, count in sorted(stats.by_type.items(), key=lambda item: (-item[1], item[0]))
    )
    return "".join(rows) or _empty_row(2, _say("nothing_yet"))


def _type_options(stats: Stats, chosen: str) -> str:
    names = sorted({*stats.by_type, chosen} - {""})
    return "".join(
        f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>" for name in names
    )


def _event_row(stored: StoredEvent) -> str:
    event = escape(json.dumps(stored.event, ensure_ascii=False, indent=2))
    return (
        f'<tr role="row"><td role="cell">{stored.received_at:%H:%M:%S}</td>'
        f'<td role="cell">{escape(str(stored.event["event_type"]))}</td>'
        f'<td role="cell">{escape(contact_of(stored.event))}</td>'
        f'<td role="cell"><details><summary><code>{stored.event_uuid}</code></summary>'
        f"<p>{escape(_say('place', index=stored.event_batch_index))} "
        f"<code>{stored.event_batch_uuid}</code></p><pre>{event}</pre></details></td></tr>"
    )


def _refusal_row(stored: StoredRequest) -> str:
    reasons = "".join(f"<li>{_reason(error)}</li>" for error in stored.errors)
    if stored.fault:
        reasons += f"<li>{escape(_say('fault', fault=stored.fault))}</li>"
    status = stored.status or escape(_say("no_answer"))
    label = escape(_say("events"))
    return (
        f'<tr role="row"><td role="cell">{stored.received_at:%H:%M:%S}</td>'
        f'<td role="cell"><strong>{status}</strong> <code>{escape(stored.path)}</code></td>'
        f'<td role="cell" class="number" data-label="{label}">{number(stored.events)}</td>'
        f'<td role="cell"><ul>{reasons}</ul></td></tr>'
    )


def _reason(error: Mapping[str, object]) -> str:
    path = f"<code>{escape(str(error['path']))}</code> " if "path" in error else ""
    kind, message = escape(str(error["error_type"])), escape(str(error["error_message"]))
    return f"{path}<strong>{kind}</strong> {message}"


def _empty_row(columns: int, text: str) -> str:
    return f'<tr role="row"><td role="cell" class="empty" colspan="{columns}">{text}</td></tr>'


# The page where a person allows an app


_CALLBACK: Final = re.compile(
    r"http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?/[^?#]*", re.IGNORECASE
)


def _dialog(request: Request, state: State) -> Response:
    """Ask to allow an app, as RD Station does; only addresses of this machine are led back to."""
    asked = {name: request.query.get(name, "") for name in ("client_id", "redirect_uri", "state")}
    if not same(asked["client_id"], state.tokens.client_id):
        message = "No app has this client_id."
        return error_response(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", message)
    if not _CALLBACK.fullmatch(asked["redirect_uri"]):
        message = "redirect_uri must be an address of this machine."
        return error_response(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", message)
    back = asked["redirect_uri"]
    allow = f"{back}?{urlencode({'code': state.tokens.grant(), 'state': asked['state']})}"
    decline = f"{back}?{urlencode({'error': 'access_denied', 'state': asked['state']})}"
    html = (
        f'<!doctype html><html lang="{language()}"><meta charset="utf-8">'
        f"<title>RD Station sandbox</title><h1>{escape(_say('allow_title'))}</h1>"
        f"<p>{escape(_say('allow_about'))}</p>"
        f'<p><a id="allow" href="{escape(allow)}">{escape(_say("allow"))}</a> '
        f'<a id="decline" href="{escape(decline)}">{escape(_say("decline"))}</a></p></html>'
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        **_PRIVATE,
    }
    return Response(HTTPStatus.OK, html.encode(), headers)


_View = Callable[[Request, State], Response]

_VIEWS: Final[Mapping[tuple[str, str], _View]] = {
    ("GET", "/"): _page,
    ("GET", "/auth/dialog"): _dialog,
    ("GET", "/events"): _events,
    ("GET", "/requests"): _requests,
    ("GET", "/stats"): _stats,
    ("DELETE", "/events"): _clear,
}
