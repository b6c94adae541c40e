"""Every example of the API's pages goes from a flat file to the server and arrives as it was written there."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from rd_import.sandbox import Sandbox
from rdstation_events import REMOVED_TYPES

EXAMPLES = sorted((Path(__file__).parent / "api_examples").glob("*.json"))
CURRENT = [
    path
    for path in EXAMPLES
    if json.loads(path.read_text("utf-8"))["event_type"] not in REMOVED_TYPES
]
REMOVED = [path for path in EXAMPLES if path not in CURRENT]


def flat_rows(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write a payload in the one column form: one row, or one row per item, follow-up cells empty."""
    header = {
        name: cell(value)
        for name, value in payload.items()
        if name not in {"line_items", "legal_bases"}
    }
    for base in payload.get("legal_bases", []):
        for part in ("type", "status"):
            if part in base:
                header[f"legal_bases.{base['category']}.{part}"] = base[part]
    items = payload.get("line_items", [{}])
    for number, item in enumerate(items):
        kept = (
            header
            if number == 0
            else {name: header[name] for name in ("email", "identifier") if name in header}
        )
        yield kept | {f"line_items.{name}": cell(value) for name, value in item.items()}


def cell(value: Any) -> str:
    if isinstance(value, list):
        return ";".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_examples_are_all_there() -> None:
    assert (len(CURRENT), len(REMOVED)) == (34, 8)


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: path.stem)
def test_an_example_survives_the_round_trip(
    path: Path, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    example = json.loads(path.read_text("utf-8"))
    rows = list(flat_rows(example["payload"]))
    done = rd_import(
        write_csv(tmp_path / "rows.csv", rows), "--type", example["event_type"], "--json"
    )
    assert (done.code, done.json["states"]) == (0, {"accepted": len(rows)})
    [stored] = sandbox.events()
    assert stored.event == example
    assert {row["event_uuid"] for row in done.audit} == {stored.event_uuid}


@pytest.mark.parametrize("path", REMOVED, ids=lambda path: path.stem)
def test_a_removed_type_is_refused_and_its_successor_named(
    path: Path, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    example = json.loads(path.read_text("utf-8"))
    file = write_csv(tmp_path / "rows.csv", list(flat_rows(example["payload"])))
    done = rd_import(file, "--type", example["event_type"])
    assert done.code == 2
    assert REMOVED_TYPES[example["event_type"]] in done.err
    assert "2025-12-31" in done.err
    assert sandbox.requests() == []
    assert sorted(tmp_path.iterdir()) == [file]
