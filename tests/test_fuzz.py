"""A short run of every fuzz target with a fixed seed; `make fuzz` runs them for an hour."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from command_line import ROOT

INPUTS = {"reader": 150, "mapping": 1500, "answers": 3000, "audit": 150, "sandbox": 200}


@pytest.fixture(scope="module")
def fuzzing(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The script, whose findings go to a folder of the test."""
    spec = importlib.util.spec_from_file_location("fuzz_run", ROOT / "fuzz" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", INPUTS)
def test_mutated_inputs_are_read_or_refused(
    target: str, fuzzing: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those that broke a promise once stand among the seeds, and are tried first; no library falls over them aloud."""
    regressions = ROOT / "fuzz" / "regressions" / target
    assert len(list(fuzzing.own_seeds(target))) > len(list(regressions.glob("*")))
    assert fuzzing.fuzz(target, seed=20, inputs=INPUTS[target]) == INPUTS[target]
    assert "panicked" not in capfd.readouterr().err


def test_a_broken_promise_is_found_and_kept(
    fuzzing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that cannot fail would prove nothing."""

    def falls_over(data: bytes) -> None:
        if b"\0" in data:
            raise IndexError

    monkeypatch.setattr(fuzzing, "HERE", tmp_path)
    monkeypatch.setitem(fuzzing.TARGETS, "answers", lambda: falls_over)
    monkeypatch.setattr(fuzzing, "own_seeds", lambda _: [b"{}", b"[1, 2]"])
    with pytest.raises(fuzzing.Broken, match="IndexError"):
        fuzzing.fuzz("answers", seed=1, inputs=100_000)
    [kept] = [p for p in (tmp_path / "findings" / "answers").iterdir() if "way" not in p.name]
    assert b"\0" in kept.read_bytes()
