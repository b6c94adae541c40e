"""Bring each catalogue up to date: one entry per text, in the order of the texts; `make catalogue` runs it.

A new text comes in with an empty translation, which the tests refuse; a text that is gone goes out. There are no line
references and no dates, so that two changes of the catalogue merge like two changes of code.
"""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from rd_import.catalogue import CLICK_MODULES, LANGUAGES, catalogue_path
from rd_import.commands.help import HELP_TEXTS, other_help_texts
from rd_import.messages import every_text
from rd_import.presets import presets
from rd_import.sandbox.page_texts import PAGE, SCENARIO
from rdstation_events import EVENT_TYPES

HEADER = r"""# {language} texts of rd-import. `make catalogue` adds and removes entries; write msgstr by hand.
msgid ""
msgstr ""
"Language: {language}\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\n"

"""


def texts() -> Iterator[tuple[str, str | tuple[str, str]]]:
    """Give every text that needs a translation, with the place that it is from."""
    yield from every_text()
    yield from (("sandbox page", text) for text in PAGE.values())
    yield from (("scenario", text) for text in SCENARIO.values())
    for one in EVENT_TYPES.values():
        kinds_and_words = ((spec.kind, spec.description) for spec in one.fields)
        removed = (one.removed.how,) if one.removed else ()
        for text in (one.summary, *one.notes, *removed, *chain(*kinds_and_words)):
            yield f"event type {one.name}", text
    for preset in presets():
        for text in (preset.name, *(rule.name for rule in preset.mapping.filters)):
            yield f"preset {preset.id}", text
    for path, _, _, text in HELP_TEXTS:
        yield f"help of {path}", text
    yield from (("help", text) for text in other_help_texts())
    yield from click_texts()


def click_texts() -> Iterator[tuple[str, str | tuple[str, str]]]:
    """Give the texts of click, the library that reads the command line."""
    wanted = {f"{name}.py" for name in CLICK_MODULES}
    found = extract_from_dir(Path(click.__file__).parent)
    for file, _, text, *_ in sorted(found, key=lambda one: (one[0], one[1])):
        if file in wanted:
            yield f"click {file}", text if isinstance(text, str) else (text[0], text[1])


def updated(language: str) -> str:
    """Give the catalogue of a language as it should stand, with the translations that there are."""
    locale, path = language.replace("-", "_"), catalogue_path(language)
    known = Catalog(locale=locale)
    if path.exists():
        known = read_po(io.BytesIO(path.read_bytes()), locale=locale)
    made = Catalog(locale=locale)
    for place, text in texts():
        one = text if isinstance(text, str) else text[0]
        before = known.get(one)
        string = before.string if before is not None and before.id == text else ""
        kept = made.get(one)
        places = [*kept.auto_comments, place] if kept is not None else [place]
        made.add(text, string, auto_comments=list(dict.fromkeys(places))[:3])
    file = io.BytesIO()
    write_po(file, made, width=0, omit_header=True, no_location=True)
    return HEADER.format(language=locale) + file.getvalue().decode()


def main() -> None:
    """Write every catalogue again."""
    for language in LANGUAGES[1:]:
        path = catalogue_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(updated(language), encoding="utf-8")


if __name__ == "__main__":
    main()
