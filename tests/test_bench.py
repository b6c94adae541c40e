"""The bench runs, compares like with like, and the page shows its figures."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from command_line import ROOT

BENCH = ROOT / "bench"


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, found)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("shape", ["rows", "items", "shuffled", "wide", "carts", "invalid"])
def test_the_files_are_the_same_each_time(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = module("orders", monkeypatch)
    for name in "ab":
        orders.write(tmp_path / name, shape, 250)
    text = (tmp_path / "a").read_bytes()
    assert text == (tmp_path / "b").read_bytes()
    assert text.count(b"\n") == 251


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_contenders_make_the_same_events(tmp_path: Path) -> None:
    """A bench whose sides do different work measures nothing; it compares the bytes by itself."""
    results = tmp_path / "results.json"
    cases = ["orders-100k", "shuffled-1m", "invalid-1m", "parquet-1m"]
    words = [BENCH / "run.py", "--rows", "600", "--rounds", "1", "--port", "18765"]
    subprocess.run(
        [sys.executable, *words, "--results", results, "--cases", *cases],
        check=True,
        timeout=120,
    )
    found = json.loads(results.read_text())
    assert list(found) == cases
    sent = found["orders-100k"]["figures"]
    assert sent["rd-import"]["requests"] == 2
    assert sent["naive"]["bytes"] > sent["rd-import"]["bytes"] - 2
    assert found["shuffled-1m"]["figures"]["rd-import"]["requests"] == 1
    assert all(
        len(one["peak_mb"]) == 1 and one["peak_mb"][0] > 20
        for case in found.values()
        for one in case["figures"].values()
    )


def test_the_page_holds_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    page = module("page", monkeypatch)
    results = json.loads(page.RESULTS.read_text())
    text = page.PAGE.read_text("utf-8")
    assert page.page(text, results) == text
    assert page.CHART.read_text("utf-8") == page.chart(results)
