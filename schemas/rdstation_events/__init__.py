"""Every event type of RD Station Marketing: its columns, its checks, and where each fact is from.

`EVENT_TYPES` maps a name (`"CALL_FINISHED"`) to its `EventType`. It imports pandera when it is
first touched, which takes more than a second; the names alone (`CURRENT_TYPES`, `REMOVED_TYPES`)
and `api_facts` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rdstation_events.event_type import EventType

    EVENT_TYPES: Mapping[str, EventType]

__all__ = ["CURRENT_TYPES", "EVENT_TYPES", "REMOVED_TYPES"]

_MODULES: Final = {
    "CONVERSION": "conversions",
    "OPPORTUNITY": "opportunities",
    "SALE": "opportunities",
    "OPPORTUNITY_LOST": "opportunities",
    "CHAT_STARTED": "chats",
    "CHAT_FINISHED": "chats",
    "CALL_FINISHED": "calls",
    "MEDIA_PLAYBACK_STARTED": "media",
    "MEDIA_PLAYBACK_STOPPED": "media",
    "ECOMMERCE_CHECKOUT_STARTED": "ecommerce",
    "ECOMMERCE_CART_ABANDONED": "ecommerce",
    "ECOMMERCE_ORDER_PLACED": "ecommerce",
    "ECOMMERCE_ORDER_PAID": "ecommerce",
    "ECOMMERCE_ORDER_FULFILLED": "ecommerce",
    "ECOMMERCE_SHIPMENT_DELIVERED": "ecommerce",
    "ECOMMERCE_ORDER_CANCELLED": "ecommerce",
    "ECOMMERCE_ORDER_REFUNDED": "ecommerce",
    "ORDER_PLACED": "removed",
    "ORDER_PLACED_ITEM": "removed",
    "CART_ABANDONED": "removed",
    "CART_ABANDONED_ITEM": "removed",
}
"""The registry: the module that holds the `EventType` of each name, under that name."""

REMOVED_TYPES: Final = {
    "ORDER_PLACED": "ECOMMERCE_ORDER_PLACED",
    "ORDER_PLACED_ITEM": "ECOMMERCE_ORDER_PLACED",
    "CART_ABANDONED": "ECOMMERCE_CART_ABANDONED",
    "CART_ABANDONED_ITEM": "ECOMMERCE_CART_ABANDONED",
}
"""Types that are no longer accepted, each with its successor, read off the names.

Source: "Batch de Eventos" for the end of the old types; the portal's migration guide was not
available.
"""

CURRENT_TYPES: Final = tuple(name for name in _MODULES if name not in REMOVED_TYPES)
"""The types that RD Station accepts today. Source: "Batch de Eventos"."""


def __getattr__(name: str) -> "Mapping[str, EventType]":
    """Build `EVENT_TYPES` on its first use and keep it."""
    if name != "EVENT_TYPES":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    event_types: dict[str, EventType] = {
        event_type: getattr(import_module(f"{__name__}.{module}"), event_type)
        for event_type, module in _MODULES.items()
    }
    globals()["EVENT_TYPES"] = event_types
    return event_types
