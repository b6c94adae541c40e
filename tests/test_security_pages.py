"""The pages on security and privacy name tests, commands and settings that there are."""

import re

import pytest

from command_line import ROOT
from rd_import.commands.help import cli

SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")


def test_every_threat_has_a_test_and_every_test_that_is_named_exists() -> None:
    threats = SECURITY.partition("## Threats")[2].partition("\n## ")[0]
    rows = [line for line in threats.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what")]
    assert len(rows) > 10
    for row in rows:
        cell = row.rsplit("|", 2)[1]
        files = re.split(r"`(test_\w+\.py)`: ", cell)[1:]
        assert files, row
        for file, named in zip(files[::2], files[1::2], strict=True):
            text = (ROOT / "tests" / file).read_text("utf-8")
            names = re.findall(r"`(test_\w+)`", named)
            assert names, row
            for name in names:
                assert f"def {name}(" in text, name


@pytest.mark.parametrize("page", ["docs/privacy.md", "docs/privacidade.md", "SECURITY.md"])
def test_a_page_names_what_there_is(page: str) -> None:
    """Files that are linked, commands, and settings of the environment."""
    text = (ROOT / page).read_text("utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link
    for command in re.findall(r"(?:`|\$ )rd-import ([a-z]+)\b", text):
        assert command in cli.commands, command
    code = "".join(one.read_text("utf-8") for one in (ROOT / "pipeline").rglob("*.py"))
    for setting in re.findall(r"RD_IMPORT_\w+", text):
        assert setting in code or f'read("{setting.removeprefix("RD_IMPORT_")}")' in code


def test_both_privacy_pages_say_as_much() -> None:
    english, portuguese = (
        (ROOT / "docs" / name).read_text("utf-8") for name in ("privacy.md", "privacidade.md")
    )
    for mark in ("\n| ", "\n## "):
        assert english.count(mark) == portuguese.count(mark)
