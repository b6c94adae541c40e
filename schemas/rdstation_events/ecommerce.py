"""The eight e-commerce types: rows of a checkout, cart, order or shipment, one item of it per row.

"Eventos" has no field table for them. Six are described by the vendor's n8n node;
ECOMMERCE_ORDER_PLACED and ECOMMERCE_ORDER_REFUNDED have no official description and follow a
third-party node and their neighbours here.
"""

from typing import Any, ClassVar, Final

from rdstation_events.api_facts import MAX_CATEGORIES, MAX_PAYMENT_METHODS
from rdstation_events.contacts import NO_CUSTOM_FIELDS_NOTE, CommunicationsRows, PhoneRows
from rdstation_events.event_type import EventRows, EventType, Origin, TextList, field

OFFICIAL_NODE: Final = Origin(
    source="the vendor's n8n node (ResultadosDigitais/n8n-nodes-rdsm 0.0.3)", trust="official"
)

CURRENCIES: Final = ("ARS", "BRL", "CAD", "CLP", "COP", "EUR", "MXN", "PEN", "USD", "UYU")

MAX_PRODUCT_ID: Final = 150
MAX_PRODUCT_TITLE: Final = 255


def _like(event_type: str) -> Origin:
    return Origin(
        source="a third-party n8n node (@progtechbr/n8n-nodes-rdsme 0.1.6); "
        f"the rest by analogy with {event_type} in the vendor's node",
        trust="third-party",
        inferred=True,
    )


def _identifier(of: str) -> Any:
    return field(f"Identifier of the {of}.", example="10234", identity=True)


def _total_items(*, ge: int) -> Any:
    return field("Number of items.", example="2", ge=ge)


class EcommerceRows(CommunicationsRows, PhoneRows):
    """What all e-commerce rows have: an identifier, of the order unless a model says otherwise."""

    _origin: ClassVar[Origin] = OFFICIAL_NODE

    identifier: str = _identifier("order")


class LineItemRows(EcommerceRows):
    """One product per row; RD Station does not check them against the product catalogue."""

    line_items_product_id: str = field(
        "Product identifier.",
        example="P-1",
        column="line_items.product_id",
        required_with="line_items",
        max_length=MAX_PRODUCT_ID,
    )
    line_items_product_title: str = field(
        "Product name.",
        example="Camiseta",
        column="line_items.product_title",
        required_with="line_items",
        max_length=MAX_PRODUCT_TITLE,
    )
    line_items_price: float = field(
        "Unit price.",
        example="79.9",
        column="line_items.price",
        required_with="line_items",
        ge=0,
    )
    line_items_quantity: int = field(
        "Units.",
        example="1",
        column="line_items.quantity",
        required_with="line_items",
        ge=1,
    )
    line_items_product_url: str = field(
        "Product page.",
        example="https://loja.example.com/p/1",
        column="line_items.product_url",
        format="http-url",
        nullable=True,
    )
    line_items_variant_id: str = field(
        "Variant identifier.", example="P-1-M", column="line_items.variant_id", nullable=True
    )
    line_items_variant_title: str = field(
        "Variant name.", example="M / Azul", column="line_items.variant_title", nullable=True
    )
    line_items_sku: str = field(
        "Stock keeping unit.", example="CAM-AZ-M", column="line_items.sku", nullable=True
    )
    line_items_image_url: str = field(
        "Product picture.",
        example="https://loja.example.com/p/1.jpg",
        column="line_items.image_url",
        format="http-url",
        nullable=True,
    )
    line_items_categories: TextList = field(
        "Product categories.",
        example="Vestuário;Camisetas",
        column="line_items.categories",
        nullable=True,
        max_items=MAX_CATEGORIES,
    )


class PricedRows(LineItemRows):
    """What was bought, for how much. Amounts are in units of the currency, not in cents."""

    currency: str = field("Currency of the prices.", example="BRL", options=CURRENCIES)
    price: float = field("Total amount.", example="349.9", ge=0)
    total_items: int = _total_items(ge=0)


class CheckoutRows(PricedRows):
    """A checkout, one item per row."""

    identifier: str = _identifier("checkout")
    total_items: int = _total_items(ge=1)
    checkout_url: str = field(
        "Where the shopper can resume the checkout.",
        example="https://loja.example.com/checkout/abc",
        format="http-url",
    )


class CartRows(CheckoutRows):
    """An abandoned cart, one item per row."""

    identifier: str = _identifier("cart")


class OrderRows(PricedRows):
    """An order, one item per row."""

    shipping_price: float = field("Freight amount.", example="19.9", nullable=True, ge=0)
    shipping_city: str = field("Destination city.", example="São Paulo", nullable=True)
    shipping_state: str = field("Destination state.", example="SP", nullable=True)
    shipping_country: str = field("Destination country.", example="BR", nullable=True)
    order_url: str = field(
        "Order page.",
        example="https://loja.example.com/pedidos/10234",
        format="http-url",
        nullable=True,
    )
    payment_methods: TextList = field(
        "Payment methods used, free text.",
        example="pix",
        nullable=True,
        max_items=MAX_PAYMENT_METHODS,
    )


class OrderPlacedRows(OrderRows):
    """An order before its payment, one item per row."""

    _origin: ClassVar[Origin] = _like("ECOMMERCE_ORDER_PAID")


class FulfilledRows(EcommerceRows):
    """A shipment on its way, one per row."""

    identifier: str = _identifier("shipment")
    order_identifier: str = field(
        "Identifier of the order that was shipped.", example="10234", nullable=True
    )
    tracking_company: str = field("Carrier.", example="Correios", nullable=True)
    tracking_code: str = field("Tracking code.", example="BR123456789BR", nullable=True)
    tracking_url: str = field(
        "Tracking page.",
        example="https://rastreio.example.com/BR123456789BR",
        format="http-url",
        nullable=True,
    )


class DeliveredRows(EcommerceRows):
    """A shipment that arrived, one per row."""

    identifier: str = _identifier("shipment")
    order_identifier: str = field(
        "Identifier of the order the shipment belongs to.", example="10234"
    )


class CancelledRows(EcommerceRows):
    """A cancelled order per row."""

    cancel_reason: str = field(
        "Why it was cancelled.",
        example="customer",
        nullable=True,
        options=("customer", "declined", "fraud", "inventory", "other"),
    )


class RefundedRows(EcommerceRows):
    """A refunded order per row. Whether amount or reason exist is unknown, so none is sent."""

    _origin: ClassVar[Origin] = _like("ECOMMERCE_ORDER_CANCELLED")


def _ecommerce(name: str, summary: str, rows: type[EventRows], *notes: str) -> EventType:
    return EventType(
        name=name,
        family="ecommerce",
        summary=summary,
        rows=rows,
        grouped_by="identifier",
        weak_identity=False,
        account_requirement="RD Station Marketing para Ecommerce on the Pro or Advanced plan",
        notes=(
            "No field carries the date of the order, cart or shipment.",
            NO_CUSTOM_FIELDS_NOTE,
            "Legal bases: for communications only; data_processing is refused.",
            *notes,
        ),
    )


ECOMMERCE_CHECKOUT_STARTED = _ecommerce(
    "ECOMMERCE_CHECKOUT_STARTED", "A shopper began the checkout.", CheckoutRows
)
ECOMMERCE_CART_ABANDONED = _ecommerce(
    "ECOMMERCE_CART_ABANDONED",
    "A cart was left after a period of inactivity.",
    CartRows,
    "Community notes name cart_id, cart_total and products; the vendor's node contradicts them.",
)
ECOMMERCE_ORDER_PLACED = _ecommerce(
    "ECOMMERCE_ORDER_PLACED",
    "An order was placed (before payment).",
    OrderPlacedRows,
    "No official page lists its fields; they are those of ECOMMERCE_ORDER_PAID.",
)
ECOMMERCE_ORDER_PAID = _ecommerce(
    "ECOMMERCE_ORDER_PAID", "Payment of an order was confirmed.", OrderRows
)
ECOMMERCE_ORDER_FULFILLED = _ecommerce(
    "ECOMMERCE_ORDER_FULFILLED", "An order was shipped, wholly or in part.", FulfilledRows
)
ECOMMERCE_SHIPMENT_DELIVERED = _ecommerce(
    "ECOMMERCE_SHIPMENT_DELIVERED", "A shipment reached the customer.", DeliveredRows
)
ECOMMERCE_ORDER_CANCELLED = _ecommerce(
    "ECOMMERCE_ORDER_CANCELLED",
    "An order was cancelled by the customer or the shop.",
    CancelledRows,
)
ECOMMERCE_ORDER_REFUNDED = _ecommerce(
    "ECOMMERCE_ORDER_REFUNDED",
    "An order was refunded, wholly or in part.",
    RefundedRows,
    "No page lists its own fields; an amount, a currency or a reason is not sent.",
)
