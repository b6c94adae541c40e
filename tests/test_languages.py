"""Every text exists in both languages, and the person's language is found and used."""

import ast
import io
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

from command_line import ROOT, SAMPLE_DATA, command_path, rd_import, tool
from rd_import import catalogue, messages
from rd_import.catalogue import (
    LANGUAGES,
    catalogue_path,
    language_of,
    moment,
    number,
    speak,
    translate,
)
from rd_import.cli import main
from rd_import.commands.help import HELP_TEXTS
from rd_import.errors import JobError

ORDERS = SAMPLE_DATA / "orders.csv"


COUNT = {("count", ":n"), ("nargs", ":"), ("len_value", ":")}
"""What the form for one may say in a word."""


def entries(language: str) -> list[Message]:
    found = read_po(io.BytesIO(catalogue_path(language).read_bytes()), locale="pt_BR")
    return [one for one in found if one.id]


def forms(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


def placeholders(text: str) -> set[tuple[str, str]]:
    """Give the names that a text takes, and how each is written."""
    if "%(" in text:
        return {(name, "%") for name in ("prog", "version") if f"%({name})" in text}
    return {
        (name, f"{conversion or ''}:{spec}")
        for _, name, spec, conversion in string.Formatter().parse(text)
        if name is not None
    }


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_catalogue_holds_every_text_and_no_other(language: str) -> None:
    """`make catalogue` adds what is missing and takes out what is gone; then msgstr is to be written by hand."""
    assert catalogue_path(language).read_text("utf-8") == tool("catalogue").updated(language)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_the_program_reads_what_babel_wrote(language: str) -> None:
    """Its own reader is quicker; it must not read anything else."""
    speak(language)
    try:
        read = {one: translate(one) for one in (forms(entry.id)[0] for entry in entries(language))}
    finally:
        speak("en")
    assert read == {forms(one.id)[0]: forms(one.string)[0] for one in entries(language)}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_no_text_is_untranslated(language: str) -> None:
    assert [one.id for one in entries(language) if not all(forms(one.string))] == []
    assert [one.id for one in entries(language) if one.fuzzy] == []


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_translation_takes_the_same_facts(language: str) -> None:
    """Each name occurs, written the same way; the form for one may leave the count out."""
    different = []
    for one in entries(language):
        for english, other in zip(forms(one.id), forms(one.string), strict=True):
            if placeholders(english) - COUNT != placeholders(other) - COUNT:
                different.append(one.id)
        if placeholders(forms(one.id)[-1]) != placeholders(forms(one.string)[-1]):
            different.append(one.id)
    assert different == []


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_translation_names_the_same_options(language: str) -> None:
    """What a person is told to type must be the same in every language."""
    for one in entries(language):
        words = [
            {
                word.strip("`'\"(),;.:")
                for word in text.split()
                if word.strip("`('").startswith("--")
            }
            for text in (*forms(one.id), *forms(one.string))
        ]
        assert words[0] == words[-1], one.id


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        ([], {}, "en"),
        ([], {"LANG": "pt_BR.UTF-8"}, "pt-BR"),
        ([], {"LANG": "pt_PT.UTF-8"}, "pt-BR"),
        ([], {"LANG": "pt_BR.UTF-8", "LC_ALL": "C"}, "en"),
        ([], {"LANG": "en_US.UTF-8", "LC_MESSAGES": "pt_BR"}, "pt-BR"),
        ([], {"LANG": "", "LC_ALL": ""}, "en"),
        (["x.csv", "--lang", "en"], {"LANG": "pt_BR.UTF-8"}, "en"),
        (["--lang=pt-br"], {"LANG": "C"}, "pt-BR"),
        (["--", "--lang", "pt-BR"], {}, "en"),
        (["--lang", "tlh"], {"LANG": "pt_BR"}, "en"),
    ],
)
def test_the_language_is_what_was_asked_for_else_the_locale(
    words: list[str], environ: dict[str, str], expected: str
) -> None:
    assert language_of(words, environ) == expected


def test_numbers_dates_and_plurals_follow_the_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    when = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
    assert (number(1234567), number(1234.56, decimals=1)) == ("1,234,567", "1,234.6")
    assert moment(when, "short").replace("\u202f", " ") == "3/5/26, 2:30 PM"
    speak("pt-BR")
    try:
        assert (number(1234567), number(1234.56, decimals=1)) == ("1.234.567", "1.234,6")
        assert moment(when, "short") == "05/03/2026 14:30"
        assert messages.say("result.requests", count=0) == "0 requisição"
        assert messages.say("result.requests", count=1200) == "1.200 requisições"
        assert str(JobError("no_such_run", run="r", path="l")).startswith("não existe a execução")
        assert "\ndica: " in str(JobError("no_such_run", run="r", path="l"))
    finally:
        speak("en")
    assert messages.say("result.requests", count=1) == "1 request"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--help",), ["Uso: rd-import [OPÇÕES]", "Códigos de saída", "Enviar:", "Opções:"]),
        (("import", "--help"), ["Tira um campo desta coluna.", "[padrão: 50%]"]),
        (("check", "--nonsense"), ["Não existe a opção '--nonsense'."]),
        (("status", "--lang", "tlh"), ["'tlh' is not one of"]),
        (("check", "--max-body", "x", "f.csv"), ["'x' não é um integer válido."]),
        (("check", "none.csv", "--type", "SALE"), ["não existe o arquivo `none.csv`.\ndica: "]),
    ],
)
def test_the_whole_command_line_speaks_portuguese(
    tmp_path: Path, words: tuple[str, ...], said: list[str]
) -> None:
    """Help, click's own errors and ours."""
    done = rd_import(*words, cwd=tmp_path, state=tmp_path, env={"LC_ALL": "pt_BR.UTF-8"})
    shown = " ".join((done.stdout + done.stderr).split())
    for text in said:
        assert " ".join(text.split()) in shown


def test_a_run_in_portuguese_leaves_reasons_in_portuguese(tmp_path: Path) -> None:
    """The rejected rows are mended by the person who ran it."""
    (tmp_path / "orders.csv").write_bytes(ORDERS.read_bytes())
    words = ("orders.csv", "--type", "ECOMMERCE_ORDER_PLACED", "--sandbox", "--lang", "pt-BR")

    done = rd_import(*words, "--audit", "a.audit.parquet", cwd=tmp_path, state=tmp_path)

    assert done.returncode == 3
    assert "linhas rejeitadas: a.rejected.csv" in done.stdout
    assert "use um destes" in (tmp_path / "a.rejected.csv").read_text("utf-8")


PACKAGE = ROOT / "pipeline" / "rd_import"
PRINTING = ["cli.py", "terminal.py", "probe.py"]
PRINTING += sorted(f"commands/{path.name}" for path in (PACKAGE / "commands").glob("*.py"))


@pytest.mark.parametrize("module", PRINTING)
def test_no_text_stands_where_it_is_printed(module: str) -> None:
    """A sentence in the code that prints it would be English for everyone; it belongs into `screen_texts.py`."""
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    printed = [
        word.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call | ast.Yield | ast.JoinedStr)
        if not (isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "option")
        for word in ast.walk(call)
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    ]
    apart = {
        "not an address",
        *(text for _, _, _, text in HELP_TEXTS),
    }  # a bad event of the probe
    sentences = [text for text in printed if re.search(r"[a-z]{2,} [a-z]{2,},? [a-z]{2,}", text)]
    assert [text for text in sentences if text not in apart] == []


ENGLISH = re.compile(
    r"\b(the|of|and|is|are|not|with|from|to|in|it|has|have|was|no|row|rows|event|events|else|each|yes)\b"
)


def marked(path: Path) -> dict[str, str | tuple[str, ...]]:
    """Read a catalogue, and keep of each translation its facts alone."""

    def facts(text: str) -> str:
        parts = string.Formatter().parse("" if "%(" in text else text)
        return "·" + "·".join(f"{{{name}:{spec}}}" for _, name, spec, _ in parts if name)

    read = catalogue._read(path)
    return {
        key: facts(one) if isinstance(one, str) else tuple(map(facts, one))
        for key, one in read.items()
    }


@pytest.mark.parametrize(
    "words",
    [
        ("types",),
        ("types", "ORDER_PLACED"),
        ("types", "CONVERSION"),
        ("check", "removed_type.csv", "--type", "ORDER_PLACED"),
        ("check", "shopify.csv"),
        ("check", "shopify.csv", "--type", "ECOMMERCE_ORDER_PLACED"),
        ("explain", "shopify.csv", "1", "--type", "ECOMMERCE_ORDER_PLACED"),
        ("shopify.csv", "--type", "ECOMMERCE_ORDER_PLACED", "--sandbox", "--audit", "a.parquet"),
        ("ledger", "check"),
        ("status",),
    ],
    ids=" ".join,
)
def test_what_is_printed_beside_facts_is_from_the_catalogue(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With every translated sentence taken out, no English is left but the words of file and API."""
    flaw = (SAMPLE_DATA / "flaws" / "removed_type.csv").read_bytes()
    (tmp_path / "removed_type.csv").write_bytes(flaw)
    (tmp_path / "shopify.csv").write_text(
        "Name,Email,Financial Status,Total,Currency,Lineitem quantity,Lineitem name,Lineitem price,"
        "Outstanding Balance,Payment References,Billing Name,Shipping Name,Phone,Billing Phone\n"
        "#1,ana@example.com,paid,10.00,BRL,1,Camisa,9.00,0,x,Ana,,,5E+12\n"
        "#2,wrong,paid,10.00,BRL,1,Camisa,10.00,0,x,,Bia,,\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["rd-import", *words, "--lang", "pt-BR"])
    monkeypatch.setattr(catalogue._SPOKEN, "texts", {})
    told = marked(catalogue_path("pt-BR"))
    monkeypatch.setattr(catalogue, "_read", lambda _: told)
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        speak("en")
    said = capsys.readouterr()
    shown = (said.out + said.err).replace(str(tmp_path), "")
    lines = re.sub(r'"[^"\n]*"|--[a-z-]+', "", shown).splitlines()
    assert "·" in "".join(lines)
    assert [line for line in lines if ENGLISH.search(line)] == []


def test_every_command_has_an_example_that_can_be_typed() -> None:
    from rd_import.commands.help import EXAMPLES, cli

    commands = {
        name if path is cli else f"ledger {name}": command
        for path in (cli, cli.commands["ledger"])
        for name, command in path.commands.items()  # type: ignore[attr-defined]
        if name != "ledger"
    }
    assert set(EXAMPLES) == set(commands)
    for path, lines in EXAMPLES.items():
        for line in lines.values():
            words = shlex.split(line.partition(" > ")[0])[1:]
            own = path.split()
            words = words[len(own) :] if words[: len(own)] == own else words
            commands[path].make_context(path, words, resilient_parsing=True)


def test_the_help_of_a_command_shows_its_examples(tmp_path: Path) -> None:
    env = {"LC_ALL": "pt_BR.UTF-8"}
    shown = rd_import("import", "--help", cwd=tmp_path, state=tmp_path, env=env).stdout
    first = (
        "Ver, ser perguntado e enviar:\n      rd-import orders.csv --type ECOMMERCE_ORDER_PLACED\n"
    )
    assert f"Exemplos:\n    {first}" in shown
    assert shown.index("Exemplos:") < shown.index("Códigos de saída")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_help_is_whole_and_of_one_language(lang: str) -> None:
    """Nothing is cut off, and what a person puts in is named in the person's language."""
    from rd_import.commands.help import cli, translate_help

    commands = {**cli.commands, **cli.commands["ledger"].commands}  # type: ignore[attr-defined]
    speak(lang)
    translate_help()
    try:
        helps = {
            name: command.get_help(click.Context(command, info_name=name, max_content_width=80))
            for name, command in commands.items()
        }
        helps["all"] = cli.get_help(click.Context(cli, info_name="rd-import"))
    finally:
        speak("en")
        translate_help()
    for name, text in helps.items():
        assert not re.search(r"[a-zç]\.\.\.", text), name
        assert not re.search(r"\b(INTEGER|FLOAT|DIRECTORY|RANGE)\b", text), name
        long = [line for line in text.splitlines() if len(line) > 80]
        assert [one for one in long if not one.lstrip().startswith("rd-import ")] == [], name
    if lang == "pt-BR":
        english = re.compile(r"\b(OPTIONS|ARGS|FILE|TYPE|COLUMN|FIELD|AUDIT|RUN|ROW|DAYS|NAME)\b")
        assert [name for name, text in helps.items() if english.search(text)] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="the completion of bash")
def test_bash_completes_commands_options_types_and_files(tmp_path: Path) -> None:
    """As the guide says: the function that the command writes runs in a real bash."""
    script = """
    eval "$(_RD_IMPORT_COMPLETE=bash_source rd-import)"
    for line in "rd-import sta" "rd-import orders.csv --type-" "rd-import check --type call_f" "rd-import ord"; do
        COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
        compopt() { echo "files"; }
        _rd_import_completion rd-import; echo "${COMPREPLY[@]}"
    done
    """
    folder = Path(command_path()).parent
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["status", "--type-by", "CALL_FINISHED", "files"], done.stderr


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        (
            "the connection failed or broke after 4086 bytes of the body were asked for",
            "a conexão falhou ou caiu depois de entregues 4.086 bytes do corpo",
        ),
        ("200 with 3 of 4 uuids", "200 com 3 de 4 uuids"),
        (
            "no byte asked for: no connection in time",
            "nada saiu desta máquina: sem conexão a tempo",
        ),
        ("Email is invalid.", "Email is invalid."),
        ("429 RATE_LIMIT", "429 RATE_LIMIT"),
    ],
)
def test_what_the_audit_proves_is_said_in_the_language_of_the_reader(
    english: str, portuguese: str
) -> None:
    """What RD Station itself said stays as it was."""
    assert messages.proof(english) == english.replace("4086", "4,086")
    speak("pt-BR")
    try:
        assert messages.proof(english) == portuguese
    finally:
        speak("en")
