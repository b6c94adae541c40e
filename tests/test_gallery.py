"""The gallery is true: every screen in it is what the command prints."""

import re

import pytest

from command_line import ROOT, tool
from rd_import.messages import ERRORS

PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")
SCREENS = re.findall(
    r"^### ([^\n]+)\n\n[^\n]*exit code (\d+):\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.mark.slow
def test_the_gallery_is_what_the_command_prints() -> None:
    """`make gallery` writes it again."""
    assert tool("gallery").written() == PAGE


@pytest.mark.parametrize(("title", "code", "screen"), SCREENS, ids=[one[0] for one in SCREENS])
def test_every_failure_says_what_to_do(title: str, code: str, screen: str) -> None:
    """What, where and why stand before it; what goes on to its end by itself needs no hint."""
    assert "internal error" not in screen
    if code != "0":
        assert "hint: " in screen
        assert re.search(r"rd-import|--[a-z]|mend|export|check|name|fill|use|take", screen)


def test_every_flawed_sample_is_in_the_gallery() -> None:
    flawed = {path.name for path in (ROOT / "sample_data" / "flaws").iterdir()}
    assert flawed <= {title for title, _, _ in SCREENS}


NOT_SHOWN = {
    "hardly_a_row",
    "open_quotes",
    "too_many_sheet_rows",
    "cell_too_long",
    "too_many_strings",
    "too_many_elements",
    "workbook_too_large",
    "copy_too_large",
    "cannot_copy",
    "no_room",
    "cannot_open",  # who runs the tests as root may open anything
}
"""What takes a huge file, or a full disk, to show; the page says so."""


def test_every_reading_fault_is_in_the_gallery() -> None:
    """A fault that nobody looked at is a fault that nobody can read."""
    raised = set()
    for name in ("sources", "tables", "csv_reader", "dialect", "read"):
        source = (ROOT / "pipeline" / "rd_import" / f"{name}.py").read_text("utf-8")
        raised |= set(re.findall(r"(?:ExportError|NothingSent)\(\s*\"(\w+)\"", source))
    assert len(raised) > 15
    hints = {key: re.split(r"\{|\(", ERRORS[key][1])[0] for key in raised - NOT_SHOWN}
    assert [key for key, hint in sorted(hints.items()) if hint not in PAGE] == []
