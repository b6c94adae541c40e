"""Names under which a field's column is known.

Those that exports and programs use stand in `aliases.toml`, in three languages; those of the removed types' columns
come from the schemas, so that files shaped for them feed the successor.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rd_import.names import folded
from rdstation_events import EVENT_TYPES, REMOVED_TYPES


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which names mean which field.

    Args:
        fields: Name as `names.folded` writes it → the fields that it was met for.
        ambiguous: Names that mean one field here and another one there: proposed, never mapped unasked.
    """

    fields: Mapping[str, tuple[str, ...]]
    ambiguous: frozenset[str]


@cache
def aliases() -> Aliases:
    """Give all names that are known."""
    found = tomllib.loads(files("rd_import").joinpath("aliases.toml").read_text("utf-8"))
    fields: dict[str, tuple[str, ...]] = {}
    for field, names in found["names"].items():
        for name in names:
            fields[name] = (*fields.get(name, ()), field)
    for old in REMOVED_TYPES:
        removal = EVENT_TYPES[old].removed
        for field, column in removal.renames.items() if removal is not None else ():
            name = folded(column)
            fields[name] = tuple(dict.fromkeys((*fields.get(name, ()), field)))
    return Aliases(fields, frozenset(found["ambiguous"]))
