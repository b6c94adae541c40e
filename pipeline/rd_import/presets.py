"""Presets: mappings for the exports of platforms, one TOML file each, recognised by the header.

Their form is that of a mapping file with the tables `[preset]` and `[[suggest]]` (docs/mapping.md).
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from rd_import.mapping_file import Preset, parse_preset
from rd_import.names import Names


@cache
def presets() -> tuple[Preset, ...]:
    """Read all presets, by the names of their files.

    Raises:
        JobError: One is not of the language; our mistake, which a test finds first.
    """
    folder = files("rd_import").joinpath("platforms")
    found = sorted((one for one in folder.iterdir() if one.name.endswith(".toml")), key=str)
    return tuple(parse_preset(one.read_text("utf-8"), one.name) for one in found)


def preset_named(name: str) -> Preset | None:
    """Give the preset of this name."""
    return next((one for one in presets() if one.id == name), None)


def fitting(columns: Sequence[str]) -> tuple[Preset, ...]:
    """Give all presets whose columns a header has and none of whose `not_with`."""
    names = Names(columns)
    return tuple(
        one
        for one in presets()
        if one.recognise
        and names.has(one.recognise)
        and not any(names.find(name) for name in one.not_with)
    )


def recognise(columns: Sequence[str]) -> Preset | None:
    """Find the preset of a header: the one that is told apart by most columns; none where two are alike."""
    found = fitting(columns)
    most = max((len(one.recognise) for one in found), default=0)
    best = [one for one in found if len(one.recognise) == most]
    return best[0] if len(best) == 1 else None
