"""Runs the installed command on a terminal of 80 columns, as a person sees it."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from command_line import command_path

COLUMNS, ROWS = 80, 60


@dataclass(frozen=True)
class Screen:
    """What stood on the terminal in the end, line by line, and how the command ended."""

    code: int
    raw: str

    @property
    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)
        return [
            line.rstrip().rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")
        ]

    @property
    def text(self) -> str:
        """All in one line, so that a sentence is found wherever it was wrapped."""
        return " ".join(" ".join(self.lines).split())


def on_a_terminal(
    *words: str, cwd: Path, state: Path, env: Mapping[str, str] | None = None, answer: str = ""
) -> Screen:
    """Run `rd-import` with a terminal as its own, and type an answer into it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RD_IMPORT_") and name not in {"COLUMNS", "LINES", "NO_COLOR", "CI"}
    }
    own = {"XDG_STATE_HOME": str(state), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    with subprocess.Popen(
        [command_path(), *words],
        cwd=cwd,
        env={**kept, **own, **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as running:
        os.close(theirs)
        os.write(ours, answer.encode())
        found = b""
        with contextlib.suppress(OSError):  # the terminal is gone with the last process on it
            while part := os.read(ours, 65536):
                found += part
        code = running.wait(timeout=60)
    os.close(ours)
    return Screen(code, found.decode("utf-8", "replace"))
