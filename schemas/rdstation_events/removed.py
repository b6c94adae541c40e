"""The four types that ended in 2025: readable, never sent, each with the way to its successor.

Source: the older e-commerce pages of "Eventos" for the columns, "Batch de Eventos" for the end. The
portal's
migration guide was not available: what replaces what is read off the names.
"""

from collections.abc import Mapping
from typing import Any

from rdstation_events import REMOVED_TYPES
from rdstation_events.api_facts import REMOVED_TYPES_ACCEPTED_UNTIL
from rdstation_events.contacts import LegalBaseRows, NamedRows
from rdstation_events.ecommerce import ECOMMERCE_CART_ABANDONED, ECOMMERCE_ORDER_PLACED
from rdstation_events.event_type import EventRows, EventType, Removal, field


def _product_id() -> Any:
    return field("Product identifier.", example="P-1")


def _product_sku() -> Any:
    return field("Product SKU.", example="CAM-AZ-M")


class OldOrderItemBase(LegalBaseRows, NamedRows):
    """What the two order types share."""

    cf_order_id: str = field("Order identifier.", example="10234", identity=True)


class OldOrderRows(OldOrderItemBase):
    """One order per row. Source: "Evento de Fechamento de Pedido"."""

    cf_order_total_items: int = field("Number of items in the order.", example="2")
    cf_order_status: str = field("Order status when the event fired.", example="pending_payment")
    cf_order_payment_method: str = field(
        "Payment method.",
        example="Credit Card",
        options=("Credit Card", "Debit Card", "Invoice", "Others"),
    )
    cf_order_payment_amount: float = field("Order total.", example="40.2")


class OldOrderItemRows(OldOrderItemBase):
    """One item per row. Source: "Evento de Fechamento de Pedido com um Item específico"."""

    cf_order_product_id: str = _product_id()
    cf_order_product_sku: str = _product_sku()


class OldCartBase(LegalBaseRows, NamedRows):
    """What the two cart types share."""

    cf_cart_id: str = field("Cart identifier.", example="cart-77", identity=True)


class OldCartRows(OldCartBase):
    """One cart per row. Source: "Evento de Abandono de Carrinho"."""

    cf_cart_total_items: int = field("Number of items in the cart.", example="2")
    cf_cart_status: str = field("Cart status when the event fired.", example="in_progress")


class OldCartItemRows(OldCartBase):
    """One item of a cart per row. Source: "Evento de Abandono de um Item do Carrinho"."""

    cf_cart_product_id: str = _product_id()
    cf_cart_product_sku: str = _product_sku()


def _removed(
    name: str,
    summary: str,
    rows: type[EventRows],
    *,
    successor: EventType,
    how: str,
    renames: Mapping[str, str],
) -> EventType:
    there = {"email", *renames}
    return EventType(
        name=name,
        family="ecommerce-legacy",
        summary=summary,
        rows=rows,
        weak_identity=False,
        removed=Removal(
            accepted_until=REMOVED_TYPES_ACCEPTED_UNTIL,
            successor=REMOVED_TYPES[name],
            how=how,
            renames=renames,
            still_needed=tuple(c for c in successor.needed(there) if c not in there),
        ),
        notes=(
            "Past its end date: refused here, never sent.",
            "Its cf_order_* and cf_cart_* keys are reserved; no custom field can bear those names.",
            "Legal bases: its successor takes them for communications only.",
        ),
    )


ORDER_PLACED = _removed(
    "ORDER_PLACED",
    "Order placed (removed).",
    OldOrderRows,
    successor=ECOMMERCE_ORDER_PLACED,
    how="identifier, total_items, price and payment_methods replace the cf_ fields; "
    "currency is new and required",
    renames={
        "identifier": "cf_order_id",
        "total_items": "cf_order_total_items",
        "price": "cf_order_payment_amount",
        "payment_methods": "cf_order_payment_method",
    },
)
ORDER_PLACED_ITEM = _removed(
    "ORDER_PLACED_ITEM",
    "One item of a placed order (removed).",
    OldOrderItemRows,
    successor=ECOMMERCE_ORDER_PLACED,
    how="items move into line_items of the order event; "
    "currency, price, total_items and each item's title, price and quantity are new and required",
    renames={
        "identifier": "cf_order_id",
        "line_items.product_id": "cf_order_product_id",
        "line_items.sku": "cf_order_product_sku",
    },
)
CART_ABANDONED = _removed(
    "CART_ABANDONED",
    "Cart abandoned (removed).",
    OldCartRows,
    successor=ECOMMERCE_CART_ABANDONED,
    how="identifier and total_items replace the cf_ fields; "
    "checkout_url, currency and price are new and required",
    renames={"identifier": "cf_cart_id", "total_items": "cf_cart_total_items"},
)
CART_ABANDONED_ITEM = _removed(
    "CART_ABANDONED_ITEM",
    "One item of an abandoned cart (removed).",
    OldCartItemRows,
    successor=ECOMMERCE_CART_ABANDONED,
    how="items move into line_items of the cart event; checkout_url, currency, price, total_items "
    "and each item's title, price and quantity are new and required",
    renames={
        "identifier": "cf_cart_id",
        "line_items.product_id": "cf_cart_product_id",
        "line_items.sku": "cf_cart_product_sku",
    },
)
