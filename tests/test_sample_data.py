"""The tables of sample_data/README.md are true: each file is run through the real command."""

import json
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from command_line import SAMPLE_DATA, rd_import


@dataclass(frozen=True)
class Line:
    """One line of a table: a file and what becomes of it."""

    file: str
    event_type: str
    exit_code: int
    states: dict[str, int]
    words: list[str]


def _lines() -> list[Line]:
    found = []
    for line in (SAMPLE_DATA / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[2].isdigit():
            states = {state: int(rows) for rows, state in re.findall(r"(\d+) ([a-z_]+)", cells[3])}
            words = re.findall(r"`([^`]+)`", cells[4])
            found.append(Line(cells[0], cells[1], int(cells[2]), states, words))
    return found


LINES = _lines()


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.file)
def test_a_sample_ends_as_its_table_says(line: Line, tmp_path: Path) -> None:
    """What a newcomer tries first must behave as written, and a refused file must leave nothing."""
    out, state = tmp_path / "out", tmp_path / "state"
    out.mkdir()
    audit = out / "sample.audit.parquet"

    run = rd_import(
        str(SAMPLE_DATA / line.file),
        *("--type", line.event_type, "--audit", str(audit), "--sandbox", "--json"),
        cwd=tmp_path,
        state=state,
    )

    assert "Traceback" not in run.stderr
    assert run.returncode == line.exit_code, run.stderr
    said = json.loads(run.stdout)
    assert said["exit_code"] == line.exit_code
    left = sorted(path.name for path in out.iterdir())
    if line.exit_code == 2:
        assert left == []
        assert list(state.glob("rd-import/runs/*")) == []
        assert all(word in run.stderr for word in line.words), run.stderr
        return
    assert said["states"] == line.states
    rejected = ["sample.rejected.csv"] if "invalid" in line.states else []
    assert left == ["sample.audit.parquet", *rejected, "sample.report.html"]
    rows = pl.read_parquet(audit)
    assert dict(rows["state"].value_counts().iter_rows()) == line.states
    assert rows.filter(pl.col("state") == "accepted")["event_uuid"].null_count() == 0
    if line.file.startswith("flaws/") or rejected:
        reasons = {*rows["error_code"], *rows["error_column"]}
        assert [w for w in line.words if w not in reasons and w not in run.stderr] == []


def test_every_sample_stands_in_a_table() -> None:
    """A file that no line names would be tested by nobody."""
    files = {
        path.relative_to(SAMPLE_DATA).as_posix()
        for path in SAMPLE_DATA.rglob("*")
        if path.suffix in {".csv", ".parquet"}
    }
    assert files == {line.file for line in LINES}


def test_the_parquet_sample_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(SAMPLE_DATA / "make_parquet.py"))
    assert_frame_equal(script["orders"](), pl.read_parquet(SAMPLE_DATA / "orders.parquet"))
