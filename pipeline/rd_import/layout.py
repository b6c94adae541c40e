"""Lines of a screen -> text: wrapped and coloured where a person's terminal shows it, plain elsewhere."""

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

Style = Literal["plain", "title", "good", "warning", "bad", "soft"]
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "title": {"bold": True},
    "good": {"fg": "green"},
    "warning": {"fg": "yellow", "bold": True},
    "bad": {"fg": "red", "bold": True},
    "soft": {"dim": True},
}
NARROWEST: Final = 40
WIDEST: Final = 120  # longer lines are hard to read


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `lead` stands before the text and is as wide as what follows is set in.

    What stands in `text` on lines of its own are commands: they are never wrapped, so that they can be copied.
    """

    text: str = ""
    lead: str = ""
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Look:
    """How a stream shows lines: `width` in columns, None where nothing is to be wrapped."""

    width: int | None = None
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> "Look":
        """Look at a stream: a terminal has a width and, unless NO_COLOR or TERM=dumb say otherwise, colours."""
        if not stream.isatty():
            return cls()
        width = max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(width, not plain)


def laid_out(lines: Iterable[Line], look: Look) -> str:
    """Write lines for a stream that looks so."""
    return "\n".join(_shown(line, look) for line in lines)


def _shown(line: Line, look: Look) -> str:
    said, *commands = line.text.split("\n")
    text = line.lead + said
    if look.width is not None:
        text = textwrap.fill(
            said,
            width=look.width,
            initial_indent=line.lead,
            subsequent_indent=" " * len(line.lead),
            break_on_hyphens=False,
            break_long_words=False,  # a path or a command is to be copied whole
            replace_whitespace=False,
            drop_whitespace=bool(said.strip()),
        )
    text = "\n".join([text, *(f"{' ' * len(line.lead)}  {one}" for one in commands)])
    if not look.colour or line.style == "plain":
        return text
    import click

    return "\n".join(click.style(one, **_STYLES[line.style]) for one in text.split("\n"))
