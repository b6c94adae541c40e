"""Names of columns and types: which mean the same, whatever their accents, case and separators. Pure."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rdstation_events import CURRENT_TYPES

BROKEN: Final = ("Ã", "Â", "â€")
"""What UTF-8 looks like once it was read as cp1252."""


def folded(name: str) -> str:
    """Write a name without case, accents and marks, so that equal meanings are equal texts.

    `Número_do pedido`, `NUMERO DO PEDIDO` and the mojibake `NÃºmero do pedido` are one name. A name of marks only
    stays what it is.
    """
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", _mended(name)) if not unicodedata.combining(c)
    ).casefold()
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    return " ".join(words) or name.strip()


def is_utf8_read_as_cp1252(text: str) -> bool:
    """Tell whether a text is made of the bytes of another one: `JoÃ£o`, which was `João`."""
    return _mended(text) != text


def _mended(text: str) -> str:
    """Undo UTF-8 that was read as cp1252, which leaves its five unused bytes as they are."""
    if not any(mark in text for mark in BROKEN):
        return text
    try:
        return b"".join(
            one.encode("latin-1" if "\x80" <= one <= "\x9f" else "cp1252") for one in text
        ).decode("utf-8")
    except ValueError:
        return text


class Names:
    """The columns of one file, found by name.

    Args:
        columns: The header's names, made unique.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        counts = Counter(map(folded, columns))
        self._exact = frozenset(columns)
        self._folded = {folded(one): one for one in columns if counts[folded(one)] == 1}

    def find(self, name: str) -> str | None:
        """Give the column of exactly this name, else the only one that means the same."""
        return name if name in self._exact else self._folded.get(folded(name))

    def has(self, names: Iterable[str]) -> bool:
        """Tell whether all these columns are there."""
        return all(self.find(name) is not None for name in names)


def near_types(name: str) -> tuple[str, ...]:
    """Name an event type that may have been meant."""
    wanted = name.upper()
    within = [one for one in CURRENT_TYPES if wanted in one] if len(wanted) > 3 else []
    return tuple((within or difflib.get_close_matches(wanted, CURRENT_TYPES, n=1, cutoff=0.7))[:1])
