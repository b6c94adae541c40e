"""Which columns claim which fields of one event type: by what is said, by a field's own name, by a known alias. Pure.

What is less than certain is proposed, and never mapped.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from rd_import.aliases import aliases
from rd_import.errors import JobError
from rd_import.mapping_file import NUMBERED, Rule
from rd_import.matching import Fed
from rd_import.messages import listed
from rd_import.names import Names, folded
from rd_import.rules import columns_of, numbers_of, with_parts
from rd_import.values import LEGAL_BASES_CELL, ExportFacts
from rdstation_events.event_type import EventType

SAID, PRESET, NAME, ALIAS, LOOKUP = "said", "preset", "name", "alias", "lookup"
ITEM: Final = "line_items."
OR_OF_AN_ITEM: Final[Mapping[str, str]] = {
    "price": "line_items.price",
    "name": "line_items.product_title",
}
"""Field of the event → what a column of its name holds in a file with one row per item, as likely as not."""
TITLES: Final = frozenset({"name", "line_items.product_title", "line_items.variant_title"})
"""Fields that a column such as `Item #` does not feed: it holds numbers."""
NEEDED: Final = frozenset({"line_items.product_title", "line_items.price", "line_items.quantity"})
_DIGITS: Final = re.compile(r"[0-9]{1,3}")


class Claims:
    """Collects what feeds the fields of one type: who says it first wins."""

    def __init__(
        self, facts: ExportFacts, names: Names, event_type: EventType, *, omit: Sequence[str]
    ) -> None:
        self._facts = facts
        self._names = names
        self._type = event_type
        self._omit = frozenset(omit)
        self.rules: dict[str, Fed] = {}
        self.proposed: dict[str, str] = {}

    def add(self, rules: Mapping[str, Rule], how: str, *, strict: bool) -> None:
        """Take rules over; those of a preset hold as far as the file has their columns."""
        for name, rule in rules.items():
            if not takes(self._type, name):
                continue  # of another type of the same mapping
            found = _with_own_names(rule, self._names, self._facts, name, strict=strict)
            if found is not None:
                self.give(name, found, how)

    def give(self, name: str, rule: Rule, how: str, words: str | None = None) -> None:
        """Let a rule feed a field that nothing feeds yet."""
        if name not in self.rules and name not in self._omit and takes(self._type, name):
            self.rules[name] = Fed(name, rule, how, name, words or str(rule))

    def by_name(self) -> None:
        """Take columns that bear a field's own name; where case or marks differ, those that mean nothing else."""
        ambiguous = aliases().ambiguous
        for column in self._facts.columns:
            if column in OR_OF_AN_ITEM and self._may_be_an_items(column, column):
                self.proposed |= {column: column, OR_OF_AN_ITEM[column]: column}
            elif takes(self._type, column):
                self.give(column, Rule(column=column), NAME)
        for name in self._wanted():
            same = self._names.find(name)
            if same is None:
                continue
            if folded(name) in ambiguous or self._may_be_an_items(name, same):
                self.proposed[name] = same
            else:
                self.give(name, Rule(column=same), NAME)

    def _may_be_an_items(self, name: str, column: str) -> bool:
        """Tell whether a column of an event's field would hold the same of an item: `price` beside sku and quantity."""
        part = OR_OF_AN_ITEM.get(name)
        if part is None or not takes(self._type, part):
            return False
        others = [one for one in self._facts.columns if one != column]
        fed = self.rules.get(part)
        if fed is not None and column not in columns_of(fed.rule, self._facts.columns):
            return False  # another column holds it of the items
        of_items = {field for one in others for field in self._of_an_item(one)}
        return bool(of_items or fed) and part not in of_items

    def _of_an_item(self, column: str) -> tuple[str, ...]:
        """Name the fields that a column can feed, where all of them are an item's."""
        name = folded(column)
        fields = (column,) if takes(self._type, column) else aliases().fields.get(name, ())
        of_items = all(one.startswith(ITEM) for one in fields)
        return fields if of_items and name not in aliases().ambiguous else ()

    def by_alias(self) -> None:
        """Take columns of known names, where name and field mean only each other; propose the others.

        A weaker name counts only for a field that no better one claims.
        """
        known = aliases()
        taken = {
            name
            for one in self.rules.values()
            for name in columns_of(one.rule, self._facts.columns)
        }
        wanted = set(self._wanted())
        claims = self._numbered_items()
        if claims:
            wanted = {name for name in wanted if not name.startswith(ITEM)}
        for column in self._facts.columns:
            name = folded(column)
            if column in taken or self._names.find(name) != column:
                continue
            fields = [one for one in known.fields.get(name, ()) if one in wanted]
            if "#" in column:
                fields = [one for one in fields if one not in TITLES]
            if f"{column} (2)" in self._facts.columns and any(
                one.startswith(ITEM) for one in fields
            ):
                self.proposed |= dict.fromkeys(fields, column)  # the first of several items
            elif name in known.amounts and self._may_be_an_items("price", column):
                self.proposed |= {"price": column, OR_OF_AN_ITEM["price"]: column}
            elif len(fields) == 1 and name not in known.ambiguous:
                claims.setdefault(fields[0], []).append(column)
            else:
                self.proposed |= {one: column for one in fields if one not in self.proposed}
        for one, all_columns in claims.items():
            named = [folded(column.replace(NUMBERED, " ")) for column in all_columns]
            ranks = [known.rank[name] + (name in known.amounts) for name in named]
            columns = [
                column
                for column, rank in zip(all_columns, ranks, strict=True)
                if rank == min(ranks)
            ]
            day = [column for column in columns if folded(column) in known.days]
            hour = [name for name in self._facts.columns if folded(name) in known.hours]
            if len(day) == len(hour) == 1 and {*columns} <= {*day, *hour}:
                parts = (Rule(column=day[0]), Rule(column=hour[0]))
                self.give(one, Rule(join=parts), ALIAS)
            elif len(columns) == 1:
                self.give(one, Rule(column=columns[0]), ALIAS)
            else:
                self.proposed[one] = columns[0]
        self._leave_a_lone_quantity()

    def _leave_a_lone_quantity(self) -> None:
        """Propose a quantity as the order's where no other column is an item's."""
        of_items = [one for name, one in self.rules.items() if name.startswith(ITEM)]
        if [(one.field, one.how) for one in of_items] == [("line_items.quantity", ALIAS)]:
            column = str(self.rules.pop("line_items.quantity").rule.column)
            self.proposed |= {"total_items": column, "line_items.quantity": column}

    def _numbered_items(self) -> dict[str, list[str]]:
        """Give field → template of columns such as `Item 1 SKU` and `Item 2 SKU`, where they have all that items need.

        Nothing is given where anything else feeds items already: one list of items has one origin.
        """
        known, claims = aliases(), dict[str, list[str]]()
        if any(one.startswith(ITEM) for one in self.rules):
            return claims
        for column in self._facts.columns:
            template, count = _DIGITS.subn(NUMBERED, column)
            name = folded(template.replace(NUMBERED, " "))
            fields = known.fields.get(name, ())
            if count != 1 or len(fields) != 1 or name in known.ambiguous:
                continue
            [one] = fields
            if one.startswith(ITEM) and takes(self._type, one) and one not in self._omit:
                claims[one] = list(dict.fromkeys((*claims.get(one, ()), template)))
        return claims if claims.keys() >= NEEDED else {}

    def _wanted(self) -> list[str]:
        """Name the fields that nothing feeds yet."""
        return [
            spec.column
            for spec in self._type.fields
            if spec.column not in self.rules
            and spec.column not in self._omit
            and not spec.column.startswith("legal_bases.")
        ]

    def in_order(self) -> Iterator[Fed]:
        """Give the rules in the order of the payload."""
        known = [spec.column for spec in self._type.fields]
        known += [LEGAL_BASES_CELL] if self._type.legal_base_categories else []
        known += [name for name in self.rules if name not in known]
        return (self.rules[name] for name in known if name in self.rules)


def certain_names(columns: Sequence[str], event_type: EventType) -> dict[str, str]:
    """Give field → column for columns that bear a field's own name, or one that means only this field."""
    rules = Claims(ExportFacts("", "csv", tuple(columns)), Names(columns), event_type, omit=())
    rules.by_name()
    rules.by_alias()
    found = {one.field: str(one.rule.column) for one in rules.in_order()}
    return {field: column for field, column in found.items() if column in columns}


def takes(event_type: EventType, name: str) -> bool:
    """Tell whether a type has a field, custom fields and the JSON column of legal bases included."""
    if name == LEGAL_BASES_CELL:
        return bool(event_type.legal_base_categories)
    return event_type.takes(name)


def _with_own_names(
    rule: Rule, names: Names, facts: ExportFacts, name: str, *, strict: bool
) -> Rule | None:
    """Give the rule with the file's own names of columns.

    Of a preset's alternatives those are left out that the file has not, and nothing is left if it has none.
    """

    def own(column: str) -> str | None:
        numbered = NUMBERED in column and numbers_of(column, facts.columns)
        found = column if numbered else names.find(column)
        if found is None and strict:
            raise JobError(
                "no_such_column",
                path=facts.path,
                column=column,
                field=name,
                columns=listed(facts.columns),
            )
        return found

    when = {found: word for column, word in rule.when.items() if (found := own(column)) is not None}
    if len(when) < len(rule.when):
        return None
    rule = replace(rule, when=when)
    if rule.column is not None:
        found = own(rule.name or "")
        return None if found is None else replace(rule, column=found, occurrence=1)
    return with_parts(rule, lambda one: _with_own_names(one, names, facts, name, strict=strict))
