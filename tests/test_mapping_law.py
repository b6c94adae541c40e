"""A law: what a mapping makes of an export, undone, is the export. Tables and mappings are made up."""

import csv
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Command
from rd_import.sandbox import Sandbox

LETTERS = "abcçdeéfgãhiíjklmnoópqrstuúvxyzABCÇ0123456789-"
words = st.text(LETTERS, min_size=1, max_size=8).filter(lambda text: text.strip("-") == text)
cents = st.integers(0, 9_999_999)
numbers = itertools.count(1)


@dataclass(frozen=True)
class Order:
    """What an order says, as its event will: amounts in cents."""

    first: str
    last: str
    price: int
    methods: tuple[str, ...]
    items: tuple[tuple[str, int, int], ...]  # sku, price, quantity


items = st.tuples(words, cents, st.integers(1, 99))
orders = st.builds(
    Order,
    words,
    words,
    cents,
    st.lists(words, min_size=1, max_size=3, unique=True).map(tuple),
    st.lists(items, min_size=1, max_size=4).map(tuple),
)


@dataclass(frozen=True)
class Form:
    """How an export writes orders; each field of it is one of a few ways that exports have."""

    identifier: str  # plain, prefixed
    name: str  # plain, joined, second
    price: str  # point, comma, scaled
    methods: str  # split, json, translated
    items: str  # rows, numbered, json


forms = st.builds(
    Form,
    st.sampled_from(("plain", "prefixed")),
    st.sampled_from(("plain", "joined", "second")),
    st.sampled_from(("point", "comma", "scaled")),
    st.sampled_from(("split", "json", "translated")),
    st.sampled_from(("rows", "numbered", "json")),
)
RULES = {
    ("identifier", "plain"): '"Order Nr"',
    ("identifier", "prefixed"): '{ column = "Order Nr", strip_prefix = "#" }',
    ("name", "plain"): '"Who"',
    ("name", "joined"): '{ join = ["Who", "Of"], with = " " }',
    ("name", "second"): '{ first_of = ["Nobody", "Who"] }',
    ("price", "point"): '"Sum"',
    ("price", "comma"): '"Sum"',
    ("price", "scaled"): '{ column = "Sum", scale = 0.01 }',
    ("methods", "split"): '{ column = "Paid by", split = "|" }',
    ("methods", "json"): '{ json = "Paid by", path = "ways[]" }',
    (
        "methods",
        "translated",
    ): '{ column = "Paid by", split = "|", values = { PIX = "pix by bank" } }',
}
ITEMS = {
    "rows": ('"Art"', '"Each"', '"Count"'),
    "numbered": ('"Art {n}"', '"Each {n}"', '"Count {n}"'),
    "json": tuple(
        f'{{ json = "Lines", path = "lines[].{one}" }}' for one in ("art", "each", "count")
    ),
}


def mapping_of(form: Form) -> str:
    art, each, count = ITEMS[form.items]
    decimal = {"comma": ",", "point": ".", "scaled": "."}[form.price]
    return "\n".join(
        [
            'type = "ECOMMERCE_ORDER_PAID"',
            "[file]",
            f'decimal = "{decimal}"',
            "[fields]",
            'email = "Mail"',
            'currency = { value = "BRL" }',
            *(
                f"{field} = {RULES[part, getattr(form, part)]}"
                for field, part in (
                    ("identifier", "identifier"),
                    ("name", "name"),
                    ("price", "price"),
                    ("payment_methods", "methods"),
                )
            ),
            f'"line_items.sku" = {art}',
            f'"line_items.product_title" = {art}',
            f'"line_items.price" = {each}',
            f'"line_items.quantity" = {count}',
        ]
    )


def amount(value: int, form: Form) -> str:
    mark = "," if form.price == "comma" else "."
    return f"{value // 100}{mark}{value % 100:02}"


def rows_of(number: int, order: Order, form: Form) -> list[dict[str, str]]:
    """Write an order as the export does: what the mapping undoes."""
    methods = ["PIX", *order.methods] if form.methods == "translated" else list(order.methods)
    head = {
        "Order Nr": f"#{number}" if form.identifier == "prefixed" else str(number),
        "Mail": f"pessoa{number}@example.com",
        "Who": order.first if form.name == "joined" else f"{order.first} {order.last}",
        "Of": order.last,
        "Nobody": "",
        "Sum": str(order.price) if form.price == "scaled" else amount(order.price, form),
        "Paid by": json.dumps({"ways": methods}) if form.methods == "json" else "|".join(methods),
    }
    cells = [(sku, amount(price, form), str(count)) for sku, price, count in order.items]
    if form.items == "numbered":
        names = [
            (f"{name} {n}", cell)
            for n, item in enumerate(cells, start=1)
            for name, cell in zip(("Art", "Each", "Count"), item, strict=True)
        ]
        return [head | dict(names)]
    if form.items == "json":
        lines = [dict(zip(("art", "each", "count"), item, strict=True)) for item in cells]
        return [head | {"Lines": json.dumps({"lines": lines}, ensure_ascii=False)}]
    first, *others = [dict(zip(("Art", "Each", "Count"), item, strict=True)) for item in cells]
    return [head | first, *({"Order Nr": head["Order Nr"]} | one for one in others)]


def undone(payload: dict[str, Any], form: Form) -> Order:
    """Read an order back from its event."""
    methods = payload["payment_methods"]
    if form.methods == "translated":
        assert methods[0] == "pix by bank"
        methods = methods[1:]
    return Order(
        *payload["name"].split(" "),
        price=round(payload["price"] * 100),
        methods=tuple(methods),
        items=tuple(
            (one["sku"], round(one["price"] * 100), one["quantity"])
            for one in payload["line_items"]
        ),
    )


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(given_orders=st.lists(orders, min_size=1, max_size=5), form=forms, shuffled=st.randoms())
def test_what_a_mapping_made_undone_is_what_the_export_said(
    given_orders: list[Order],
    form: Form,
    shuffled: Any,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
) -> None:
    numbered = {next(numbers): order for order in given_orders}
    rows = [row for number, order in numbered.items() for row in rows_of(number, order, form)]
    if form.items != "rows":  # the order of an order's own rows is the order of its items
        shuffled.shuffle(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    run = tmp_path / str(max(numbered))
    run.mkdir()
    with (run / "orders.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=";", restval="")
        writer.writeheader()
        writer.writerows(rows)
    (run / "mapping.toml").write_text(mapping_of(form), encoding="utf-8")
    before = len(sandbox.events())

    done = rd_import(run / "orders.csv", "--map", run / "mapping.toml", "--json")

    assert set(done.json["states"]) == {"accepted"}, done.err
    arrived = [one.event["payload"] for one in sandbox.events()[before:]]
    assert {int(one["identifier"]): undone(one, form) for one in arrived} == numbered
