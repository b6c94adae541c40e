"""What every script sends, so that only the machinery differs: the plainest mapping of an order."""

LIMIT = 200_000  # bytes of a body
URL_PATH = "/platform/events/batch"


def item_of(row):
    """Map a row to one item."""
    return {
        "product_id": row["product_id"],
        "product_title": row["product_name"],
        "sku": row["sku"],
        "price": float(row["unit_price"]),
        "quantity": int(row["quantity"]),
    }


def event_of(row, items=None):
    """Map an order's first row, and its items, to an event."""
    return {
        "event_type": "ECOMMERCE_ORDER_PLACED",
        "event_family": "CDP",
        "payload": {
            "email": row["email"],
            "name": row["name"],
            "mobile_phone": row["phone"],
            "identifier": row["order_id"],
            "currency": row["currency"],
            "price": float(row["total"]),
            "total_items": int(row["total_items"]),
            "shipping_price": float(row["shipping"]),
            "payment_methods": [row["payment_method"]],
            "line_items": items or [item_of(row)],
        },
    }


def sendable(row):
    """Tell whether a row can be mapped at all: asked only of the files that are made with flaws."""
    try:
        has_total = float(row["total"]) >= 0  # an empty cell is NaN to pandas
    except ValueError:
        return False
    return has_total and isinstance(row["email"], str) and "@" in row["email"]


def events_of(rows, *, grouped=False, flawed=False):
    """Map rows; `grouped` brings the rows of an order together, wherever they stand."""
    if not grouped:
        yield from map(event_of, filter(sendable, rows) if flawed else rows)
        return
    orders = {}
    for row in rows:
        orders.setdefault(row["order_id"], []).append(row)
    for order in orders.values():
        yield event_of(order[0], [item_of(row) for row in order])


def bodies_of(encoded):
    """Fill bodies up to the limit."""
    waiting, size = [], 1
    for event in encoded:
        if waiting and size + len(event) + 1 > LIMIT:
            yield b"[" + b",".join(waiting) + b"]"
            waiting, size = [], 1
        waiting.append(event)
        size += len(event) + 1
    if waiting:
        yield b"[" + b",".join(waiting) + b"]"
