"""Flaws wait on disk and come back in input order, however many there are and wherever they were found."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rd_import import run_folder
from rd_import.run_folder import PLACES_SCHEMA, RunFolder
from rd_import.values import PROBLEM_SCHEMA, ROW

ROWS = 40
NOW = datetime(2026, 3, 1, tzinfo=UTC)

groups_of_flaws = st.lists(st.lists(st.integers(0, ROWS - 1), max_size=9), max_size=12)


def flaws(rows: list[int], group: int) -> pl.DataFrame:
    lines = [(row, "REQUIRED", f"{group}.{at}", None, None, True) for at, row in enumerate(rows)]
    return pl.DataFrame(lines, schema=PROBLEM_SCHEMA, orient="row")


@given(found=groups_of_flaws, sizes=st.lists(st.integers(1, 15), min_size=1, max_size=9))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flaws_come_back_row_by_row(
    found: list[list[int]], sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one row they keep the order in which they were found: the first is the one that an audit names."""
    monkeypatch.setattr(run_folder, "FLAWS_IN_MEMORY", 5)
    monkeypatch.setattr(run_folder, "ROWS_SORTED", 7)
    folder = RunFolder.create(tmp_path, NOW)
    with folder.writer() as writer:
        for first in range(0, ROWS, sizes[0]):
            numbers = pa.array(range(first, min(first + sizes[0], ROWS)), pa.int64())
            export = pa.array([0] * len(numbers), pa.uint16())
            writer.write("places", pa.table([export, numbers, numbers], schema=PLACES_SCHEMA))
        writer.rows = ROWS
        for group, rows in enumerate(found):
            writer.keep_problems(flaws(rows, group))
        writer.finish()
    wanted = sorted(
        ((row, f"{group}.{at}") for group, rows in enumerate(found) for at, row in enumerate(rows)),
        key=lambda one: one[0],
    )
    got = [pair for batch in folder.problems() for pair in batch.select(ROW, "field").rows()]
    assert got == wanted
    beside = []
    for placed, here in folder.flawed_rows():
        assert set(here[ROW]) <= set(placed[ROW])
        beside += here.select(ROW, "field").rows()
    assert beside == wanted
