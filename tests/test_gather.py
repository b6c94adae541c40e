"""The rows of one order come together wherever they stand, and nothing is left on disk."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Command
from rd_import import gather as gather_module
from rd_import.gather import gather
from rd_import.values import EVENT, ROW, RowGroup, detached
from rig import orders, save

SCHEMA = {
    ROW: pl.UInt32,
    "identifier": pl.String,
    "email": pl.String,
    "line_items.sku": pl.String,
}
Line = tuple[int, str | None, str | None, str | None]


def groups_of(lines: list[Line], sizes: list[int]) -> Iterator[RowGroup]:
    """Cut lines into groups of these sizes, an empty one included, and one of the rest."""
    remaining = iter(lines)
    for size in (*sizes, len(lines)):
        part = list(itertools.islice(remaining, size))
        yield RowGroup(pl.DataFrame(part, schema=SCHEMA, orient="row"))


def gathered(lines: list[Line], sizes: list[int], scratch: Path) -> list[list[dict[str, Any]]]:
    groups = gather(groups_of(lines, sizes), by="identifier", scratch=scratch)
    return [group.table.to_dicts() for group in groups]


def expected(lines: list[Line]) -> list[dict[str, Any]]:
    """Say the promise plainly: events by first row, rows in file order, header cells filled."""
    orders: dict[object, list[Line]] = {}
    for line in lines:
        row, identifier = line[0], line[1]
        orders.setdefault(("row", row) if identifier is None else identifier, []).append(line)
    found = []
    for number, order in enumerate(orders.values()):
        first_email = next((email for _, _, email, _ in order if email is not None), None)
        for row, identifier, email, sku in order:
            found.append(
                {
                    ROW: row,
                    "identifier": identifier,
                    "email": email or first_email,
                    "line_items.sku": sku,
                    EVENT: number,
                }
            )
    return found


@st.composite
def shuffled_orders(draw: st.DrawFn) -> tuple[list[Line], list[int]]:
    cells = st.tuples(
        st.sampled_from(("1", "2", "3", "10", None)),
        st.sampled_from(("a@x.com", None)),
        st.sampled_from(("A", "B", None)),
    )
    drawn = draw(st.lists(cells, max_size=30))
    lines: list[Line] = [(row, *cell) for row, cell in enumerate(drawn)]
    return lines, draw(st.lists(st.integers(0, 6), max_size=8))


@pytest.mark.parametrize("in_memory", [0, 2, 200_000])
@given(shuffled_orders())
def test_whatever_the_shuffle_every_row_comes_out_once_in_whole_events(
    in_memory: int, case: tuple[list[Line], list[int]]
) -> None:
    """The same with all late rows on disk, some of them, and none."""
    lines, sizes = case
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(gather_module, "LINES_IN_MEMORY", in_memory)
        groups = gathered(lines, sizes, Path(folder))
        assert [line for group in groups for line in group] == expected(lines)
        events = [{line[EVENT] for line in group} for group in groups]
        assert sum(map(len, events)) == len(set().union(*events)), "an event is cut in two"
        assert list(Path(folder).iterdir()) == []


def test_follow_up_rows_inherit_what_the_first_filled_one_says_but_not_its_item(
    tmp_path: Path,
) -> None:
    """Shops fill the order's own columns in its first row only."""
    lines: list[Line] = [(0, "1", "a@x.com", "A"), (1, "1", None, "B"), (2, "1", None, None)]
    ((first, second, third),) = gathered(lines, [], tmp_path)
    assert (first["email"], second["email"], third["email"]) == ("a@x.com",) * 3
    assert (first["line_items.sku"], second["line_items.sku"], third["line_items.sku"]) == (
        "A",
        "B",
        None,
    )


def test_a_cell_that_says_something_else_is_kept_for_the_conflict_to_be_seen(
    tmp_path: Path,
) -> None:
    lines: list[Line] = [(0, "1", "a@x.com", "A"), (1, "1", "b@x.com", "B")]
    ((_, second),) = gathered(lines, [], tmp_path)
    assert second["email"] == "b@x.com"


def test_where_nothing_groups_each_row_is_an_event(tmp_path: Path) -> None:
    lines: list[Line] = [(0, "1", "a@x.com", None), (1, "1", None, None)]
    (group,) = gather(iter([*groups_of(lines, [2])][:1]), by=None, scratch=tmp_path)
    assert group.table.select(EVENT, "email").rows() == [(0, "a@x.com"), (1, None)]


def test_rows_of_one_order_may_stand_in_files_with_different_columns(tmp_path: Path) -> None:
    """Two months of the same shop: the second export has a column more, in another order."""
    january = pl.DataFrame([(0, "1", "a@x.com", "A")], schema=SCHEMA, orient="row")
    february = pl.DataFrame(
        {
            ROW: [1],
            "email": ["a@x.com"],
            "identifier": ["1"],
            "name": ["Ana"],
            "line_items.sku": ["B"],
        },
        schema_overrides={ROW: pl.UInt32},
    )
    groups = gather(
        iter([RowGroup(january), RowGroup(february)]), by="identifier", scratch=tmp_path
    )
    lines = [line for group in groups for line in group.table.to_dicts()]
    assert [(line[ROW], line[EVENT], line["line_items.sku"]) for line in lines] == [
        (0, 0, "A"),
        (1, 0, "B"),
    ]
    assert [line.get("name") for line in lines] == ["Ana", "Ana"]


@pytest.mark.parametrize("in_memory", [0, 200_000])
def test_a_run_that_stops_half_way_leaves_no_spill_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """The spilled rows are people's data; a full disk must not be made fuller."""
    monkeypatch.setattr(gather_module, "LINES_IN_MEMORY", in_memory)
    lines: list[Line] = [(row, str(row % 4), None, "A") for row in range(12)]
    groups = gather(groups_of(lines, [2, 2, 2, 2]), by="identifier", scratch=tmp_path)
    next(groups)
    groups.close()  # type: ignore[attr-defined]  # it is a generator
    assert list(tmp_path.iterdir()) == []


def test_more_rows_of_one_event_than_memory_should_hold_are_refused(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that is the same in every row was taken for the orders' id."""
    monkeypatch.setattr("rd_import.gather.MOST_ROWS", 10)
    words = ("--type", "ECOMMERCE_ORDER_PLACED", "--json")
    for rows, code in ((10, 0), (11, 2)):
        mixed = [*orders(5, first=50), *orders(rows, identifier="7", email="a@example.com")]
        done = rd_import("check", save(tmp_path / "a.csv", mixed[::-1]), *words)
        assert done.code == code, done
        assert code == 0 or "more than 10 rows have the same key" in done.err


def test_lines_that_are_kept_hold_nothing_of_the_table_they_were_cut_from() -> None:
    """One late line in each block of 3 MB would keep all blocks in memory."""
    table = pl.DataFrame(
        {"name": [f"a text too long to stand in a view {n}" for n in range(10_000)]}
    )
    kept = detached(table.filter(pl.col("name").str.ends_with(" 5")))
    assert kept.equals(table[[5]])
    held = kept.to_arrow(compat_level=pl.CompatLevel.newest())
    assert held.get_total_buffer_size() < 100
