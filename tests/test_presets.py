"""Each preset is proved on its header and on made rows: it is recognised, and these events come out."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from rd_import.job import Job
from rd_import.mapping_file import Rule
from rd_import.match import takes
from rd_import.presets import Preset, fitting, presets, recognise
from rd_import.read import find_exports
from rdstation_events import CURRENT_TYPES, EVENT_TYPES

MADE = Path(__file__).parent / "presets"
ALL = presets()


def made(preset: Preset) -> Path:
    """Give the file with the platform's header and made rows."""
    [path] = [one for one in MADE.glob(f"{preset.id}.*") if one.suffix != ".json"]
    return path


def expected(preset: Preset) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MADE / f"{preset.id}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_the_made_rows_of_a_preset_become_these_events(
    preset: Preset, tmp_path: Path, rd_import: Command
) -> None:
    """Header and rows as the platform writes them; a preset without a header of its own is named by --map."""
    case = expected(preset)
    file = made(preset)
    words = [str(MADE / one) if (MADE / one).is_file() else one for one in case["words"]]
    done = rd_import("check", file, *words, "--json", "--keep", "--run-dir", tmp_path)
    assert "preview" in done.json, done.err
    [export] = done.json["preview"]["exports"]
    assert export["preset"] == (preset.id if preset.recognise else None)
    assert _events(tmp_path) == case["events"]
    assert done.json["preview"]["invalid_rows"] == case.get("invalid_rows", 0)


def _events(runs: Path) -> list[dict[str, Any]]:
    """Give what would be sent, event type and payload; and the source's own time, which is never sent."""
    from rd_import.run_folder import RunFolder

    [folder] = [RunFolder.open(one) for one in runs.iterdir()]
    found = []
    for part in folder.bodies():
        for body, happened in zip(part["body"], part["source_timestamp"], strict=True):
            event = json.loads(body)
            when = {"event_timestamp": f"{happened:%Y-%m-%dT%H:%M:%SZ}"} if happened else {}
            found.append({"event_type": event["event_type"], **event["payload"], **when})
    return found


def header(preset: Preset) -> list[str]:
    """Give the platform's header, as the made file has it."""
    [export] = find_exports(Job(exports=(str(made(preset)),)))
    return list(export.facts.columns)


@pytest.mark.parametrize("preset", [one for one in ALL if one.recognise], ids=lambda one: one.id)
def test_a_header_is_of_its_own_preset_and_of_no_other(preset: Preset) -> None:
    """Whatever the case and order of its columns, and with columns that a plugin or a person added."""
    columns = header(preset)
    assert fitting(columns) == (preset,)
    assert recognise([one.upper() for one in reversed(columns)]) is preset
    assert recognise(["Observações internas", *columns, "Minha coluna"]) is preset


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_names_fields_that_its_types_have(preset: Preset) -> None:
    types = [EVENT_TYPES[name] for name in preset.feeds]
    assert set(preset.feeds) <= set(CURRENT_TYPES)
    assert [one for one in preset.mapping.fields if not any(takes(t, one) for t in types)] == []
    for name, rules in preset.mapping.fields_for.items():
        assert name in preset.feeds
        assert [one for one in rules if not takes(EVENT_TYPES[name], one)] == []
    for suggestion in preset.suggestions:
        assert set((suggestion.values or {}).values()) <= set(preset.feeds)


@pytest.mark.parametrize("preset", ALL, ids=lambda one: one.id)
def test_a_preset_decides_no_consent(preset: Preset) -> None:
    """Who may be written to is never inferred from a platform."""
    rules: dict[str, Rule] = dict(preset.mapping.fields)
    for one in preset.mapping.fields_for.values():
        rules |= one
    assert [one for one in rules if one.startswith("legal_bases")] == []
    assert "available_for_mailing" not in rules


def test_every_made_file_belongs_to_a_preset() -> None:
    assert {path.stem for path in MADE.glob("*.json")} == {one.id for one in ALL}


def test_a_header_that_no_preset_knows_is_none() -> None:
    assert recognise(["email", "identifier", "price"]) is None
    assert (
        recognise(["NAME", "financial_status", "LINEITEM QUANTITY", "Outstanding balance"]) is None
    )


def test_a_header_is_recognised_whatever_its_case() -> None:
    header = [
        "NAME",
        "financial_status",
        "LINEITEM QUANTITY",
        "Outstanding balance",
        "payment references",
    ]
    found = recognise(header)
    assert found is not None
    assert found.id == "shopify_orders"
