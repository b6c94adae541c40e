"""Scenario files: one behaviour of the server each, told in TOML, for tests and for people.

The comment on top says what must happen and why. `[server]` holds the switches of `Behaviour`,
with `[[server.fault]]` for what goes wrong; `[job]` says what to send, and `[expect]` what must
come of it, for the tests. Both are free in their keys; a range is written `[low, high]`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from rd_import.sandbox.page_texts import ScenarioError
from rd_import.sandbox.switches import Behaviour

_FOLDER: Final = Path(__file__).with_name("scenarios")
_TABLES: Final = ("server", "job", "expect")
_NAME: Final = re.compile("[a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a server behaves, and what a sender must make of it."""

    name: str
    text: str
    """The comment on top: what must happen, and why."""
    behaviour: Behaviour
    job: Mapping[str, Any]
    expect: Mapping[str, Any]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The scenarios that come with the sandbox."""
        return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read one of the scenarios that come with the sandbox, by its name, or a file.

        Raises:
            ScenarioError: There is no such scenario, or its file holds what is not known.
        """
        path = _find(str(name_or_path))
        try:
            text = path.read_text(encoding="utf-8")
            tables = tomllib.loads(text)
        except OSError as error:
            raise ScenarioError("unreadable", path=path, reason=error.strerror or error) from None
        except (ValueError, RecursionError) as error:
            raise ScenarioError("no_toml", path=path, reason=error) from None
        return cls._from_tables(path, text, tables)

    @classmethod
    def _from_tables(cls, path: Path, text: str, tables: Mapping[str, Any]) -> Self:
        for key, value in tables.items():
            if key not in _TABLES:
                raise ScenarioError("no_table_known", path=path, key=key, names=", ".join(_TABLES))
            if not isinstance(value, dict):
                raise ScenarioError("must_be_table", path=path, key=key)
        try:
            behaviour = Behaviour.from_table(tables.get("server", {}))
        except ValueError as error:
            raise ScenarioError("server", path=path, fault=error) from None
        job, expect = tables.get("job", {}), tables.get("expect", {})
        return cls(path.stem, _comment(text), behaviour, job, expect)


def _find(name_or_path: str) -> Path:
    if not _NAME.fullmatch(name_or_path):
        return Path(name_or_path)
    if name_or_path not in Scenario.names():
        names = ", ".join(Scenario.names())
        raise ScenarioError("no_scenario", name=repr(name_or_path), names=names)
    return _FOLDER / f"{name_or_path}.toml"


def _comment(text: str) -> str:
    """Read the comment on top, without its marks."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines)
