"""Write docs/presets.md from the presets themselves: which exports are known, what they feed, what they still need.

Run it after a preset is added or changed; a test compares the page with what this writes.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from rd_import.feed import DERIVED
from rd_import.mapping_file import Preset
from rd_import.presets import presets
from rdstation_events import EVENT_TYPES

PAGE: Final = Path(__file__).parents[1] / "docs" / "presets.md"
FAMILIES: Final = {
    "ECOMMERCE_ORDER": "Orders and sales",
    "ECOMMERCE": "Carts",
    "OPPORTUNITY": "Sales pipelines",
    "CALL": "Calls",
    "CHAT": "Chats",
    "MEDIA": "Media and webinars",
    "CONVERSION": "Contacts, leads and forms",
}
LEFT_OUT: Final = {
    "Magento order table with JSON cells (`magento2_json_cell`)": "no order number, no date and no amount in it: "
    "nothing tells one order from another",
    "Mercado Livre Vendas (`mercado_livre_vendas`)": "the money of a package stands in a row of its own above its "
    "items, which have other numbers; dates name months in Portuguese; there is never an e-mail",
    "Pagar.me Transações (`pagarme_cobrancas`)": "only the first columns are known, and neither amount nor e-mail is "
    "among them",
    "PrestaShop orders list (`prestashop_orders_list`)": "no e-mail, no items, no currency; names of columns follow "
    "the language of the panel: export the orders in another way",
    "WooCommerce Analytics, Orders (`woo_analytics_orders`)": "no e-mail, no items but a text, and of amounts only N. "
    "Revenue: take an order export plugin, of which four are known",
}
ABOUT: Final = (
    "<!-- Written by tools/presets_page.py; change the presets, not this page. -->\n\n"
    "# Presets\n\n"
    "Exports that are recognised by their header. The preview says which preset it was and which field each column "
    "feeds; `--rename` and a mapping file overrule it. How a preset is written: "
    "[mapping files](mapping.md#presets).\n\n"
    "- **Feeds**: the event types that rows of the export can be. You choose one with `--type`, or let a column decide "
    "row by row with `--type-by`.\n"
    "- **Suggested**: columns for `--type-by`. Only words that a file, the vendor or a program that reads the export "
    "shows are suggested; rows with other words are shown as invalid, or left out where the preset says so.\n"
    "- **Still needed**: required fields for which the export has no column: `--set FIELD=VALUE`, "
    "`--rename FIELD=COLUMN`, or a second file with `--lookup`.\n"
    "- No preset sets a legal basis, marks anybody as available for mailing, or makes up the name of a conversion.\n"
)


def page() -> str:
    """Give the page's text."""
    known = presets()
    folder = files("rd_import").joinpath("platforms")
    facts = {
        one.id: tomllib.loads(folder.joinpath(f"{one.id}.toml").read_text("utf-8"))["preset"]
        for one in known
    }
    lines = [ABOUT]
    for family in dict.fromkeys(FAMILIES.values()):
        rows = sorted((one for one in known if _family(one) == family), key=lambda one: one.name)
        lines += [f"## {family}", "", *_table(rows, facts), ""]
    lines += [
        "## Left out",
        "",
        "Exports whose header is known and that are no presets:",
        "",
        *(f"- **{name}**: {why}." for name, why in LEFT_OUT.items()),
    ]
    return "\n".join(lines) + "\n"


def _family(preset: Preset) -> str:
    return next(name for begins, name in FAMILIES.items() if preset.feeds[0].startswith(begins))


def _table(rows: list[Preset], facts: dict[str, Any]) -> Iterator[str]:
    yield "| export | file | feeds | suggested | still needed | source |"
    yield "|---|---|---|---|---|---|"
    for one in rows:
        source = facts[one.id]
        cells = (
            one.name,
            f"[`{one.id}`](../pipeline/rd_import/platforms/{one.id}.toml)",
            ", ".join(name.removeprefix("ECOMMERCE_") for name in one.feeds),
            ", ".join(f"`{suggestion.column}`" for suggestion in one.suggestions),
            ", ".join(f"`{name}`" for name in needed(one)),
            f"{source['trust']}: {source['source']}",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def needed(preset: Preset) -> list[str]:
    """Name the required fields of a preset's types that neither it nor a derivation feeds."""
    found: dict[str, None] = {}
    for name in preset.feeds:
        fed = {*preset.mapping.rules(name)}
        fed |= {field for field, sources in DERIVED.items() if fed.intersection(sources)}
        found |= {
            spec.column: None
            for spec in EVENT_TYPES[name].fields
            if spec.required and spec.column not in fed
        }
    return list(found)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
