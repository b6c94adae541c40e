"""Names under which a field's column is known.

Those that exports and programs use stand in `aliases.toml`, in three languages; those of the removed types' columns
come from the schemas, so that files shaped for them feed the successor.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from rd_import.names import folded
from rdstation_events import EVENT_TYPES, REMOVED_TYPES


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which names mean which field.

    Args:
        fields: Name as `names.folded` writes it → the fields that it was met for.
        ambiguous: Names that mean one field here and another one there: proposed, never mapped unasked.
        amounts: Names that do not say of what the amount is: the order's, or an item's where the file has items.
        hours: Names of a time of day whose date stands in a column of its own.
        days: Names of such dates.
        rank: How good a name is, 0 the best: a column feeds a field only where no other has a better name for it.
    """

    fields: Mapping[str, tuple[str, ...]]
    ambiguous: frozenset[str]
    amounts: frozenset[str]
    hours: frozenset[str]
    days: frozenset[str]
    rank: Mapping[str, int]


@cache
def aliases() -> Aliases:
    """Give all names that are known."""
    found = tomllib.loads(files("rd_import").joinpath("aliases.toml").read_text("utf-8"))
    fields: dict[str, tuple[str, ...]] = {}
    rank: dict[str, int] = {}
    tiers = (
        (found["names"], _removed_names()),
        (found["weaker"], _put_together(found["people"]), _put_together(found["items"])),
        (found["weakest"],),
    )
    for tier, tables in enumerate(tiers):
        for names in tables:
            _add(fields, names)
        rank |= dict.fromkeys(fields.keys() - rank.keys(), tier)
    ambiguous, amounts, hours, days = (
        frozenset[str](found[name]) for name in ("ambiguous", "amounts", "hours", "days")
    )
    return Aliases(fields, ambiguous, amounts, hours, days, rank)


def _removed_names() -> dict[str, list[str]]:
    """Give field → the columns of the removed types that became it."""
    found: dict[str, list[str]] = {}
    for old in REMOVED_TYPES:
        removal = EVENT_TYPES[old].removed
        for field, column in removal.renames.items() if removal is not None else ():
            found.setdefault(field, []).append(folded(column))
    return found


def _put_together(parts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give field → names in each form with each word."""
    forms: Mapping[str, list[str]] = parts["forms"]
    return {
        field: [form.replace("{of}", word) for form in ways for word in parts["words"]]
        for field, ways in forms.items()
    }


def _add(fields: dict[str, tuple[str, ...]], names: Mapping[str, Iterable[str]]) -> None:
    for field, known in names.items():
        for name in known:
            fields[name] = tuple(dict.fromkeys((*fields.get(name, ()), field)))
