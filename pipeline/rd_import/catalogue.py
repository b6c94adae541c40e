"""The language that a person reads: chosen once, then every text, number and date goes through here.

English is the source. Another language is a gettext catalogue, `locale/<language>/LC_MESSAGES/rd_import.po`, read as
it stands and only when that language is chosen, so that nothing has to be compiled and English waits
for nothing.
"""

import gettext as _gettext
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

LANGUAGES: Final = ("en", "pt-BR")
CLICK_MODULES: Final = (
    "core",
    "decorators",
    "exceptions",
    "formatting",
    "parser",
    "shell_completion",
    "termui",
    "types",
)


@dataclass(slots=True)
class _Spoken:
    """The language in use, and its texts by their English: one form, or one for each plural."""

    language: str = "en"
    texts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


_SPOKEN: Final = _Spoken()


def catalogue_path(language: str) -> Path:
    """Name the file that holds a language's texts."""
    folder = Path(__file__).parent / "locale" / language.replace("-", "_")
    return folder / "LC_MESSAGES" / "rd_import.po"


def language_of(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Choose a language: `--lang` among the words, else the locale, else English.

    The words are looked through before they are parsed, because what is wrong with them must be said in that language.
    """
    named = _option(words, "--lang")
    if named is not None:
        return next((one for one in LANGUAGES if one.lower() == named.lower()), "en")
    locale = next(
        (environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), ""
    )
    return "pt-BR" if (locale or _locale_of_windows()).lower().startswith("pt") else "en"


def _option(words: Sequence[str], name: str) -> str | None:
    for at, word in enumerate(words):
        if word == "--":
            return None
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and at + 1 < len(words):
            return words[at + 1]
    return None


def _locale_of_windows() -> str:
    """Give the locale of the person's Windows, whose programs see no LANG; nothing elsewhere."""
    if sys.platform != "win32":
        return ""
    import ctypes
    import locale

    number = ctypes.windll.kernel32.GetUserDefaultUILanguage()
    return locale.windows_locale.get(number, "")


def speak(language: str) -> None:
    """Use a language from now on, for our texts and for those of click.

    Args:
        language: One of `LANGUAGES`.
    """
    _SPOKEN.language = language
    _SPOKEN.texts = {} if language == "en" else _read(catalogue_path(language))
    _teach_click()


def language() -> str:
    """Give the language in use."""
    return _SPOKEN.language


def _read(path: Path) -> dict[str, str | Sequence[str]]:
    """Read a catalogue as Babel writes it; Babel itself would take longer to load than the help to show."""
    found: dict[str, str | Sequence[str]] = {}
    for entry in path.read_text("utf-8").split("\n\n"):
        parts: dict[str, str] = {}
        name = ""
        for line in entry.splitlines():
            if line.startswith("#"):
                continue
            word, _, quoted = line.partition('"')
            name = word.strip() or name
            parts[name] = parts.get(name, "") + json.loads(f'"{quoted}', strict=False)
        if "msgid_plural" in parts:
            found[parts["msgid"]] = (parts["msgstr[0]"], parts["msgstr[1]"])
        elif parts.get("msgid"):
            found[parts["msgid"]] = parts["msgstr"]
    return found


def _teach_click() -> None:
    """Have click ask this catalogue: it looks its texts up with gettext, in names that each of its modules holds."""
    spoken = _SPOKEN.language != "en"
    for name in CLICK_MODULES:
        module = sys.modules.get(f"click.{name}")
        for word, ours, theirs in (
            ("_", translate, _gettext.gettext),
            ("ngettext", translate_many, _gettext.ngettext),
        ):
            if hasattr(module, word):
                setattr(module, word, ours if spoken else theirs)


def translate(text: str) -> str:
    """Give a text in the language in use; a text that it lacks stays English."""
    found = _SPOKEN.texts.get(text, text)
    return found if isinstance(found, str) else found[0]


def translate_many(one: str, many: str, count: int) -> str:
    """Give the form for a count in the language in use."""
    if _SPOKEN.language == "en":
        return one if count == 1 else many
    found = _SPOKEN.texts.get(one, (one, many))
    if isinstance(found, str):
        return found
    return found[0 if count in {0, 1} else 1]  # the plural rule of Brazilian Portuguese: n > 1


def number(value: float, *, decimals: int = 0) -> str:
    """Write a number as the language does: 12,345.6 or 12.345,6; trailing zeros are left out."""
    from babel.numbers import format_decimal

    pattern = "#,##0" + ("." + "#" * decimals if decimals else "")
    return format_decimal(value, format=pattern, locale=_SPOKEN.language.replace("-", "_"))


def moment(value: datetime, form: str = "medium") -> str:
    """Write a date and time as the language does, in the zone that it carries."""
    from babel.dates import format_datetime

    locale = _SPOKEN.language.replace("-", "_")
    return format_datetime(value, form, tzinfo=value.tzinfo, locale=locale)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that `{name:n}` writes as the language does, and `{name}` plainly."""

    value: float

    def __format__(self, spec: str) -> str:
        if spec.endswith("n"):
            return number(self.value, decimals=int(spec[:-1] or 0))
        return format(self.value, spec)


@dataclass(frozen=True, slots=True)
class _Moment:
    """A date and time: `{name:medium}` in the form of the language, `{name:local-medium}` by this machine's clock."""

    value: datetime

    def __format__(self, spec: str) -> str:
        if spec.startswith("local-"):
            here = self.value.astimezone()
            return f"{moment(here, spec.removeprefix('local-'))} {_zone_of(here)}"
        return moment(self.value, spec or "medium")


def _zone_of(value: datetime) -> str:
    """Name a zone by what it is ahead of UTC, which everybody can compare."""
    offset = f"{value:%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"


def fill(text: str, facts: Mapping[str, Any]) -> str:
    """Put facts into a text: `{count:n}` and `{when:short}` in the form of the language, `{path}` as it is."""
    return text.format_map({name: _wrapped(value) for name, value in facts.items()})


def _wrapped(value: Any) -> Any:
    if isinstance(value, datetime):
        return _Moment(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _Number(value)
    return value
