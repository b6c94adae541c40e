"""Rows of one order are brought together wherever they stand, also where they wait on disk."""

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rd_import import gather as stage
from rd_import.gather import gather
from rd_import.values import EVENT, ROW, RowGroup

HASHES = st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=8)


@given(HASHES)
def test_events_are_numbered_by_their_first_row(groups: list[list[int]]) -> None:
    seen: dict[int, int] = {}
    homes: list[int] = []
    expected = []
    for number, group in enumerate(groups):
        homes += [number for key in dict.fromkeys(group) if key not in seen]
        expected.append([seen.setdefault(key, len(seen)) for key in group])
    events, begun = stage._number([np.array(group, dtype=np.uint64) for group in groups])
    assert [one.tolist() for one in events] == expected
    assert begun.tolist() == homes


@pytest.mark.parametrize("in_memory", [5, 100_000])
def test_shuffled_rows_come_together_whole_and_leave_no_file(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LINES_IN_MEMORY", in_memory)
    monkeypatch.setattr(stage, "LINES_PER_BUCKET", 20)
    keys = [f"order {number // 3}" for number in range(600)]
    random.Random(1).shuffle(keys)  # noqa: S311 -- the same order each time
    rows = pl.DataFrame(
        {
            ROW: range(600),
            "identifier": keys,
            "line_items.sku": [str(number) for number in range(600)],
        },
        schema_overrides={ROW: pl.UInt32},
    )
    groups = (RowGroup(rows.slice(first, 40)) for first in range(0, 600, 40))
    found = [group.table for group in gather(groups, by="identifier", scratch=tmp_path)]
    together = pl.concat(found)
    assert sorted(together[ROW].to_list()) == list(range(600))
    assert together[EVENT].to_list() == sorted(together[EVENT].to_list())
    firsts = together.unique(EVENT, keep="first", maintain_order=True)
    assert firsts["identifier"].to_list() == list(dict.fromkeys(keys))
    assert all(
        table.group_by(EVENT).len()["len"].to_list() == [3] * table[EVENT].n_unique()
        for table in found
    )
    assert list(tmp_path.iterdir()) == []
