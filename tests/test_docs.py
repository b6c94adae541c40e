"""The pages are true: their commands run, their picture is real, their links lead somewhere."""

import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from command_line import ROOT, SAMPLE_DATA, rd_import
from rd_import.commands.options import EXIT_CODES
from rd_import.sandbox import Sandbox

READMES = ("README.md", "README.pt-BR.md")
GUIDES = ("docs/guide.md", "docs/guia.md")
PAGES = (
    *READMES,
    *GUIDES,
    "CONTRIBUTING.md",
    "sample_data/README.md",
    "docs/architecture.md",
    "docs/mapping.md",
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = dict(re.findall(r"^([a-z-]+):.*## (.+)$", MAKEFILE, flags=re.MULTILINE))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    found = blocks(page, "console") + blocks(page, "bash")
    return [line for block in found for line in block.splitlines() if line.strip()]


def headings(page: str) -> int:
    return len(re.findall(r"^#+ ", text_of(page), flags=re.MULTILINE))


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_of_a_guide_run(page: str, tmp_path: Path) -> None:
    """What a newcomer pastes must work as it stands; here the sandbox stands in for RD Station."""
    folder = tmp_path / "work"
    shutil.copytree(SAMPLE_DATA, folder)
    with Sandbox() as server:
        env = {"RD_IMPORT_BASE_URL": server.url, "RD_IMPORT_TOKEN": server.token}
        ran = 0
        for line in commands(page):
            words = shlex.split(line)
            if words[0] != "rd-import":
                continue
            done = rd_import(*words[1:], cwd=folder, state=tmp_path / "state", env=env)
            assert done.returncode in {0, 3}, f"{line}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            ran += 1
        assert ran == 3
        assert len(server.events()) == 12


@pytest.mark.parametrize("page", [*READMES, *GUIDES, "CONTRIBUTING.md"])
def test_the_other_commands_of_a_page_exist(page: str) -> None:
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in TARGETS
        elif words[0] == "export":
            assert words[1].partition("=")[0] == "RD_IMPORT_TOKEN"
        else:
            assert words[0] in {"rd-import", ".", ".venv/bin/pytest"}, line


@pytest.mark.parametrize("page", GUIDES)
def test_the_picture_is_the_end_of_a_real_run(page: str, tmp_path: Path) -> None:
    """The picture is what `make demo` prints last."""
    shutil.copytree(SAMPLE_DATA, tmp_path / "sample_data")
    (tmp_path / "demo-output").mkdir()
    [command] = re.findall(r"\$\(BIN\)/rd-import (sample_data/.*) \|\|", MAKEFILE)

    done = rd_import(*shlex.split(command), cwd=tmp_path, state=tmp_path / "state")

    assert done.returncode == 3
    [picture] = blocks(page, "text")
    assert done.stdout.endswith(f"\n{picture}")


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_has_the_exit_codes_of_the_help(page: str) -> None:
    rows = re.findall(r"^\| (\d+) \|", text_of(page), flags=re.MULTILINE)
    assert rows == re.findall(r"^  (\d+)  ", EXIT_CODES, flags=re.MULTILINE)


@pytest.mark.parametrize("pages", [READMES, GUIDES])
def test_a_page_says_the_same_in_both_languages(pages: tuple[str, str]) -> None:
    """Parts and commands correspond, but for the placeholder of the token."""
    english, portuguese = pages
    assert headings(english) == headings(portuguese)
    without_token = [
        [line for line in commands(page) if not line.startswith("export")] for page in pages
    ]
    assert without_token[0] == without_token[1]
    assert blocks(english, "text") == blocks(portuguese, "text")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text_of(page))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not ((ROOT / page).parent / link).exists()] == []


CONTRACTS = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
LAYERS = {one["containers"][0]: one["layers"] for one in CONTRACTS if one["type"] == "layers"}


def test_the_architecture_page_names_every_module_in_the_order_of_the_layers() -> None:
    """Lower lines never import higher ones."""
    package = ROOT / "pipeline" / "rd_import"
    found = [*package.glob("*.py"), *package.glob("commands/*.py")]
    modules = {path.relative_to(package).as_posix() for path in found if path.stem != "__init__"}
    page = text_of("docs/architecture.md")
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(modules)
    heights: dict[str, tuple[int, int]] = {}
    for height, line in enumerate(LAYERS["rd_import"]):
        heights |= {f"{name}.py": (height, len(modules)) for name in line.split(" | ")}
        if "commands" in line:
            for inner, names in enumerate(LAYERS["rd_import.commands"]):
                heights |= {f"commands/{name}.py": (height, inner) for name in names.split(" | ")}
    assert listed == sorted(listed, key=heights.__getitem__)


def test_the_architecture_page_names_what_is_pure() -> None:
    [pure] = [one["source_modules"] for one in CONTRACTS if one["name"].startswith("Pure")]
    [sentence] = re.findall("^(.+) are pure:", text_of("docs/architecture.md"), flags=re.MULTILINE)
    assert [f"rd_import.{name}" for name in re.findall(r"`(\w+)`", sentence)] == pure


def test_make_lists_every_target() -> None:
    """A target without its words would not be found."""
    [declared] = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)
    assert set(TARGETS) == set(declared.split())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_file_has_hashes_and_names_no_address(lock: str) -> None:
    """Where packages come from is the machine's business."""
    text = text_of(lock)
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", ""), flags=re.MULTILINE)
    pins = re.findall(r"^\S+==\S+", text, flags=re.MULTILINE)
    assert len(pins) > 10
    assert all("--hash=" in entry for entry in re.split(r"\n(?=\S)", text.strip()))


def test_every_dependency_is_locked() -> None:
    """`pip install --require-hashes` installs nothing that the lock does not name."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    names = [re.split(r"[^\w.-]", line)[0].lower() for line in project["dependencies"]]
    locked = re.findall(r"^([\w.-]+)==", text_of("requirements.lock"), flags=re.MULTILINE)
    assert set(names) <= set(locked)


def test_both_lock_files_pin_the_same_versions() -> None:
    """`make dev` after `make demo` must not exchange what the demo ran with."""
    runtime, dev = (
        set(re.findall(r"^\S+==\S+(?: ; .+)? \\$", text_of(lock), flags=re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= dev


@pytest.mark.skipif(os.name == "nt", reason="a POSIX mode")
def test_the_ci_script_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_examples_end_as_their_page_says(tmp_path: Path) -> None:
    """Each command runs in a copy of the folder, and prints every line that the page shows below it."""
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "docs" / "examples", folder)
    page = text_of("docs/examples/README.md")
    steps = re.findall(
        r"^```console\n(.+?)\n```\n+```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL
    )
    assert len(steps) == page.count("```console") > 6
    for command, shown in steps:
        words = shlex.split(command)
        assert words[0] == "rd-import"
        done = rd_import(*words[1:], cwd=folder, state=tmp_path / "state")
        printed = re.sub(r"[ ]+", " ", done.stdout + done.stderr)
        assert "Traceback" not in printed
        assert [line for line in shown.splitlines() if line not in printed] == [], command
