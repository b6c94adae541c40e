"""Ask a real account, with one's own test contact, what the API's pages leave open, and remember it.

Each question is one request or two, all of them for the one contact that the person named.
"""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from rd_import import messages
from rd_import.errors import AccountError, ServiceError
from rd_import.ledger import Ledger
from rd_import.outcome import Accepted, ContactLimit, NotAccepted, Refused, Undecided, judge
from rd_import.service import Service


def run_probe(
    service: Service,
    ledger: Ledger,
    account: int,
    email: str,
    *,
    ask: Callable[[str], bool],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Send a batch with one good and one bad event, and see what of it is registered.

    Args:
        service: The account's connection.
        ledger: Where the answers are remembered.
        account: Whose they are.
        email: A contact of the person's own, made for tests.
        ask: Puts a yes-or-no question to the person, who can look the contact up.
        say: Tells the person something.

    Returns:
        `names_index`: whether a refusal names the bad event; `partial`: whether a refused batch may have accepted
        the good one; `ecommerce_in_batch`: whether a batch takes e-commerce events.

    Raises:
        AccountError: The account is refused.
        ServiceError: There is no usable answer.
    """
    name = f"rd-import probe {secrets.token_hex(3)}"
    good = _event("CONVERSION", {"email": email, "conversion_identifier": name})
    bad = _event("CONVERSION", {"email": "not an address", "conversion_identifier": name})
    names_index = False
    match _answer(service, [good, bad]):
        case Accepted():
            say(messages.say("probe.accepted_whole"))
            partial = False
        case Refused(errors=errors):
            names_index = 1 in errors
            partial = ask(messages.say("probe.ask", email=email, name=name))
        case _:
            partial = ask(messages.say("probe.ask", email=email, name=name))
    ledger.learn(account, partial=partial)
    order = {"email": email, "identifier": name, "currency": "BRL", "price": 1.0, "total_items": 1}
    both = [
        _event("ECOMMERCE_ORDER_PLACED", order),
        _event("ECOMMERCE_ORDER_PLACED", order | {"identifier": name + " 2"}),
    ]
    takes_orders = isinstance(_answer(service, both), Accepted)
    ledger.learn(account, ecommerce_in_batch=takes_orders)
    say(messages.say("probe.partial" if partial else "probe.not_partial"))
    say(messages.say("probe.in_batch" if takes_orders else "probe.not_in_batch"))
    return {"names_index": names_index, "partial": partial, "ecommerce_in_batch": takes_orders}


def _event(event_type: str, payload: dict[str, Any]) -> bytes:
    return json.dumps(
        {"event_type": event_type, "event_family": "CDP", "payload": payload}
    ).encode()


def _answer(service: Service, events: list[bytes]) -> Any:
    seen = service.post(events, time.time())
    if seen.status is None or seen.status >= 500:
        raise ServiceError("no_answer_to_probe", reason=seen.failure or f"HTTP {seen.status}")
    receipt = judge(seen, len(events))
    if isinstance(receipt, NotAccepted) and seen.status in {401, 403}:
        raise AccountError("account_refused", proof=receipt.proof, message=receipt.error.message)
    nothing_said = isinstance(receipt, Undecided) and receipt.error.code.startswith("HTTP_")
    if nothing_said or isinstance(receipt, NotAccepted | ContactLimit):
        raise ServiceError("no_answer_to_probe", reason=receipt.proof)
    return receipt
