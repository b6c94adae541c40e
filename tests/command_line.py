"""Runs the installed command as a person would, with its state in a folder of the test."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

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
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RD_IMPORT_")}
    return subprocess.run(
        [command_path(), *words],
        cwd=cwd,
        env={
            **kept,
            "XDG_STATE_HOME": str(state),
            "PYTHONUTF8": "1",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "100",
            **(env or {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def start(*words: str) -> subprocess.Popen[str]:
    """Start `rd-import` as a process of its own, in the environment of the test."""
    command = shutil.which("rd-import", path=sysconfig.get_path("scripts"))
    assert command is not None, "install the project first: make dev"
    return subprocess.Popen(
        [command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
