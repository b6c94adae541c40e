"""How one file's columns become fields, as it was decided. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rd_import.mapping_file import Filter, Rule, TypeBy
from rdstation_events.event_type import EventType


@dataclass(frozen=True, slots=True)
class Fed:
    """How one field is fed.

    Args:
        field: Field of the event type.
        rule: With the file's own names of columns.
        how: Why: `said` by the user, `preset`, `name`, `alias`, or `lookup`.
        column: The name that it has after `match`: the field's, marked with the type where types differ.
        words: What feeds it, for a person.
    """

    field: str
    rule: Rule
    how: str
    column: str
    words: str


@dataclass(frozen=True, slots=True)
class Matching:
    """How one file's columns become fields.

    Args:
        fed: Event type → what feeds its fields, in the schema's order; custom fields last.
        unmatched: Columns that feed no field.
        proposed: Field → column that may be meant, and is not mapped.
        derivable: Required fields that no column feeds but that `cells` derives.
        key: Columns that make an event unique in place of the type's identity; they need not be sent.
        group_by: Columns whose equal values make one event in place of the type's own.
        filters: Rows to leave out.
        type_by: What decides on the type of each row, where there are several.
        preset: The id of the preset that the header was recognised as.
    """

    fed: Mapping[str, tuple[Fed, ...]]
    unmatched: tuple[str, ...]
    proposed: Mapping[str, str]
    derivable: tuple[str, ...]
    key: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    type_by: TypeBy | None = None
    preset: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Give field → its columns in words; constants are no columns."""
        return {one.field: one.words for one in self._all() if not one.rule.is_constant}

    @property
    def constants(self) -> dict[str, str]:
        """Give field → the value of every row."""
        return {one.field: str(one.rule.value) for one in self._all() if one.rule.is_constant}

    @property
    def how(self) -> dict[str, str]:
        """Give field → why it is fed so."""
        return {one.field: one.how for one in self._all()}

    def view(self, event_type: str) -> dict[str, str]:
        """Give field → column after `match`, of one event type."""
        return {one.field: one.column for one in self.fed[event_type]}

    def rules(self, event_type: str) -> dict[str, Rule]:
        """Give field → rule of one event type."""
        return {one.field: one.rule for one in self.fed[event_type]}

    def missing(self, event_type: EventType) -> list[str]:
        """Name the fields of a type that nothing feeds: the required ones, and what items need if there are any."""
        given = {*self.view(event_type.name), *self.derivable}
        owners = {name.partition(".")[0] for name in given if name.startswith("line_items.")}
        return [
            spec.column
            for spec in event_type.fields
            if (spec.required or spec.required_with in owners) and spec.column not in given
        ]

    def _all(self) -> Iterator[Fed]:
        seen = set()
        for of_type in self.fed.values():
            for one in of_type:
                if one.field not in seen:
                    seen.add(one.field)
                    yield one


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A column that a second file adds.

    Args:
        field: The field that it feeds.
        column: Its name in the rows.
        words: Which column of which file it is.
        asked: The mapping says so; else it feeds the field only where the export itself does not.
    """

    field: str
    column: str
    words: str
    asked: bool
