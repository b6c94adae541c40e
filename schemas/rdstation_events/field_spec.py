"""One column of an export, as its schema declares it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean", "timestamp", "list"]
Format = Literal["email", "phone", "url", "http-url"]
Trust = Literal["seed", "official", "third-party"]


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One column of an export and the payload field that it becomes.

    Attributes:
        column: The name in exports: `price`, `line_items.sku`, `legal_bases.communications.type`,
            `tags`.
        kind: The type of a cell; `list` is a list of text.
        format: What the text is; `email` and `http-url` are checked, `phone` and `url` are free text.
        required: Every event needs it.
        required_with: `line_items`: needed in each row where any other `line_items.*` cell is
            filled.
        identity: Part of what makes the event unique.
        sent: False for `event_timestamp` alone.
        as_text: A whole number that the API wants as a JSON string.
        minimum: Smallest legal number.
        maximum: Largest legal number.
        max_length: Most characters of a text.
        max_items: Most texts in one cell of a list.
        options: The closed list of legal texts, empty if any will do.
        suggested: Texts that the documentation names without closing the list.
        description: What the field means, one sentence.
        example: A cell as an export would hold it; `;` separates the texts of a list.
        source: The page that the field is from.
        trust: What kind of page that is.
        inferred: Carried over from a similar event; no page states it.
    """

    column: str
    kind: Kind
    format: Format | None
    required: bool
    required_with: str | None
    identity: bool
    sent: bool
    as_text: bool
    minimum: float | None
    maximum: float | None
    max_length: int | None
    max_items: int | None
    options: tuple[str, ...]
    suggested: tuple[str, ...]
    description: str
    example: str
    source: str
    trust: Trust
    inferred: bool
