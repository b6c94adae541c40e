"""Runs the installed command as a person would, its state in a folder of the test, and loads the makefile's scripts."""

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
SAMPLE_DATA = ROOT / "sample_data"


def command_path() -> str:
    """Give the place of the installed command."""
    command = shutil.which("rd-import", path=sysconfig.get_path("scripts"))
    assert command is not None, "install the project first: make dev"
    return command


def rd_import(
    *words: str, cwd: Path, state: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `rd-import` without a terminal; nothing of the person's own environment reaches it."""
    with start(*words, cwd=cwd, env=environment(state, env or {})) as process:
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def environment(state: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Give an environment that holds nothing of the person's own but these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RD_IMPORT_")}
    return {
        **kept,
        "XDG_STATE_HOME": str(state),
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
        **env,
    }


def start(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `rd-import` as a process of its own, without a terminal, in the environment of the test."""
    return subprocess.Popen(
        [command_path(), *words],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def tool(name: str) -> ModuleType:
    """Load one of the scripts in `tools/`."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
