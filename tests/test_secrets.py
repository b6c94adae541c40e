"""Tokens stay where tokens belong, and people's data where the person looks who has the export."""

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from command_line import environment, start
from conftest import Command
from rd_import.commands.help import cli
from rd_import.run_folder import private_file
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rig import TYPE, Row, orders, save, time_passes

__all__ = ["time_passes"]

FORMULA = "=cmd|' /C calc'!A0"
WORD = "pw-5f1e9c"  # of the database
EMAIL, PHONE = "ana.planted@example.com", "+5511987651234"
PEOPLE = ("ana.planted", "5511987651234", "Rua Planted", "Souza Planted")
"""What stands in cells: an address, a phone, a street and a name, each unlike anything of ours."""


class Ran(NamedTuple):
    """How a command ended, and what the process list showed of it."""

    code: int
    out: str
    err: str
    titles: set[bytes]


def planted_rows() -> list[Row]:
    good = {
        "email": EMAIL,
        "identifier": "A-1",
        "currency": "BRL",
        "price": "10.00",
        "total_items": "1",
        "name": "Souza Planted",
        "mobile_phone": PHONE,
        "address": "Rua Planted 1",
    }
    return [
        good,
        {**good, "identifier": "A-2", "price": "nothing"},
        {**good, "identifier": "A-3", "email": "ana.planted@"},
    ]


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file with what it holds, unpacked."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        text = path.read_bytes()
        if path.suffix == ".arrow":
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                text = repr(reader.read_all().to_pylist()).encode()
        elif text.startswith(b"PAR1"):
            facts = pq.read_metadata(path).metadata
            text = repr((pq.read_table(path).to_pylist(), facts)).encode()
        yield path, text


def tokens_in(state: Path) -> set[str]:
    """Give what stands in the token store now: tokens that a server gave on the way."""
    store = state / "rd-import" / "tokens.json"
    entries = json.loads(store.read_text("utf-8")) if store.exists() else {}
    return {
        text for entry in entries.values() for name, text in entry.items() if name != "client_id"
    } - {""}


def ran(words: Sequence[str], env: Mapping[str, str], work: Path, state: Path) -> Ran:
    """Run a command; whoever it waits for in the browser comes. Its titles are looked at while it runs."""
    titles: set[bytes] = set()
    with start(*words, cwd=work, env=environment(state, env)) as process:
        said: list[str] = []
        if words[0] == "login":
            assert process.stderr is not None
            while not (found := re.search(r"http://\S+/auth/dialog\S+", "".join(said))):
                said.append(process.stderr.readline())
            page = requests.get(found[0], timeout=10).text
            [allow] = re.findall(r'<a id="allow" href="([^"]+)"', page)
            titles |= titles_of(process.pid)
            assert requests.get(allow.replace("&amp;", "&"), timeout=10).status_code == 200
        while True:
            titles |= titles_of(process.pid)
            try:
                out, err = process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    return Ran(process.returncode, out, "".join(said) + err, titles)


def titles_of(process: int) -> set[bytes]:
    """What the process list shows of a process and those that it started."""
    titles = set()
    with contextlib.suppress(OSError):
        titles.add(Path(f"/proc/{process}/cmdline").read_bytes())
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text("ascii").split():
                titles |= titles_of(int(child))
    return titles


def commands_of(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Name each command, and tell whether it can be made talkative."""
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands_of(command, *path, name)
    else:
        yield path, any("--verbose" in option.opts for option in group.params)


@pytest.mark.slow
def test_no_secret_and_no_person_stands_where_they_do_not_belong(tmp_path: Path) -> None:
    """Every command, as talkative as it can be: its screen, its titles, its files, and who may read these."""
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    path = save(work / "orders.csv", planted_rows())
    kept = save(work / "kept.csv", [planted_rows()[0] | {"identifier": "A-9"}])
    ana = {"email": EMAIL, "name": "Souza Planted " * 30}
    lost = save(work / "lost.csv", [one | ana for one in orders(3)])
    leads = work / "leads.csv"
    leads.write_text(f"email,conversion_identifier\n{EMAIL},form-1\n", "utf-8")
    quoting = (
        f'{{"errors": [{{"error_message": "{EMAIL} {PHONE} is no contact", "path": "$[0]"}}]}}'
    )
    faults = (
        Fault("drop-after", at=(1,)),
        Fault("status", from_request=2, status=400, body=quoting),
    )
    with Sandbox() as server, Sandbox(behaviour=Behaviour(faults=faults)) as rude:
        token = {"RD_IMPORT_BASE_URL": server.url, "RD_IMPORT_TOKEN": server.token}
        app = {
            "RD_IMPORT_BASE_URL": server.url,
            "RD_IMPORT_CLIENT_ID": server.client_id,
            "RD_IMPORT_CLIENT_SECRET": server.client_secret,
        }
        renewing = {**app, "RD_IMPORT_REFRESH_TOKEN": server.refresh_token}
        key = {"RD_IMPORT_BASE_URL": server.url, "RD_IMPORT_API_KEY": server.api_key}
        database = {**token, "RD_IMPORT_LEDGER": f"postgresql://me:{WORD}@127.0.0.1:9/none"}
        loses = {"RD_IMPORT_BASE_URL": rude.url, "RD_IMPORT_TOKEN": rude.token}
        secrets = {server.token, server.client_secret, server.api_key, rude.token, WORD}
        order, audit = (str(path), *TYPE), str(work / "a.audit.parquet")
        in_doubt = str(work / "lost.audit.parquet")
        runs = [
            (("check", *order, "-v", "--json"), token),
            (("import", *order, "-v", "--json", "--audit", audit), token),
            ((*order, "-v", "--json", "--audit", str(work / "b.audit.parquet")), renewing),
            ((*order, "-v", "--json", "--sandbox", "--audit", str(work / "c.audit.parquet")), {}),
            ((str(leads), "--type", "CONVERSION", "-v", "--json"), key),
            ((str(lost), *TYPE, "-v", "--json", "--audit", in_doubt, "--max-body", "1000"), loses),
            (("resolve", "RUN", "--left", "--why", "x", "-v", "--json"), loses),
            (("check", str(kept), *TYPE, "-v", "--keep", "--json"), token),
            (("resume", "RUN", "-v", "--json"), token),
            (("resume", "none", "-v", "--json"), token),
            (("status", "-v"), token),
            ((*order, "-v", "--json"), database),
            (("ledger", "check", audit, "-v", "--json"), token),
            (("ledger", "add", audit, in_doubt, "-v", "--json"), token),
            (("report", in_doubt, "-v"), token),
            (("types", "CONVERSION"), token),
            (("template", "CONVERSION"), token),
            (("map", *order, "-v"), token),
            (("login", "-v", "--no-browser", "--port", "0"), app),
            ((*order, "-v", "--json"), {"RD_IMPORT_BASE_URL": server.url}),
            (("probe", "me@example.com", "-v"), token),
            (("forget", "rui@example.com", "--yes", "-v", "--json"), token),
            (("explain", str(path), "1", *TYPE, "-v"), token),
            (("logout", "-v"), {"RD_IMPORT_BASE_URL": server.url}),
            (("sandbox", "--port", "-1"), token),
        ]
        said: list[Ran] = []
        for given, env in runs:
            words = tuple(
                json.loads(said[-1].out)["run_id"] if word == "RUN" else word for word in given
            )
            done = ran(words, env, work, state)
            said.append(done)
            secrets |= tokens_in(state)
            assert done.code in {0, 2, 3, 4, 5, 6, 7} or env == database, (words, done)
            assert "Traceback" not in done.err, words
            for secret in secrets:
                assert secret not in done.out + done.err, words
                assert not any(secret.encode() in title for title in done.titles), words
            for person in PEOPLE:
                assert person not in done.err, words
                assert words[0] == "explain" or person not in done.out, words
        for accepts in (1, 4, 8):
            assert '"accepted": 1' in said[accepts].out
        assert '"refused": 2, "unknown": 1' in said[5].out
    ran_so = {words[:size] for words, _ in runs for size in (1, 2)}
    talked = {words[:size] for words, _ in runs for size in (1, 2) if "-v" in words}
    for command, talks in commands_of(cli):
        assert command in (talked if talks else ran_so), f"{command} is not among them"
    assert len(secrets) >= 8, "tokens of a renewal and of a login were not looked for"
    for file, text in [*contents(work), *contents(state)]:
        keeps_tokens = file.name == "tokens.json"
        for secret in secrets:
            assert keeps_tokens or secret.encode() not in text, file
        inputs = file in {path, leads, lost, kept}
        for_the_person = inputs or ".rejected" in file.name or "runs" in file.parts
        for person in PEOPLE:
            assert for_the_person or person.encode() not in text, file
        if not inputs:
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_no_secret_stands_in_the_title_of_a_process(tmp_path: Path) -> None:
    """What others on the machine can read of it while it runs."""
    env = {**os.environ, "RD_IMPORT_TOKEN": "token-planted", "RD_IMPORT_API_KEY": "key-planted"}
    env["XDG_STATE_HOME"] = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "from rd_import.cli import main; main()", "sandbox", "--port", "0"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
    assert b"sandbox" in title
    assert b"planted" not in title


@pytest.mark.usefixtures("time_passes")
def test_no_key_of_an_address_is_logged_where_nobody_answers(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries quote the whole address, and so the key, in what they raise."""
    monkeypatch.setenv("RD_IMPORT_API_KEY", "key-planted")
    monkeypatch.setenv("RD_IMPORT_BASE_URL", "http://127.0.0.1:9")
    leads = save(tmp_path / "a.csv", [{"email": EMAIL, "conversion_identifier": "form"}])
    done = rd_import(leads, "--type", "CONVERSION", "--json", "-v")
    assert done.json["states"] == {"not_sent": 1}
    assert "the connection failed" in done.err
    assert "planted" not in done.out + done.err


def test_a_traceback_names_places_and_quotes_nothing(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries quote cells in what they raise."""

    def fails(*_: object) -> None:
        message = "could not parse ana.planted@example.com"
        raise ValueError(message)

    monkeypatch.setattr("rd_import.pipeline.prepare", fails)
    done = rd_import("check", save(tmp_path / "a.csv", planted_rows()), *TYPE, "-v")
    assert done.code == 1
    assert "ValueError" in done.err
    assert "in fails" in done.err
    assert "planted" not in done.err


def test_control_characters_of_a_file_are_shown_and_not_obeyed(
    tmp_path: Path, rd_import: Command
) -> None:
    """A header that clears the screen, turns the writing or forges a line of ours."""
    hostile = "em\x1b[2Jail\u202e\x9b\x07"
    path = tmp_path / "a\x1b[31m.csv"
    path.write_text(f'{hostile},"identifier\nhint: send it"\n1,2\n', "utf-8")
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "\\x1b[2J" in done.err
    for bad in ("\x1b", "\u202e", "\x9b", "\x07", "\nhint: send it"):
        assert bad not in done.err + done.out


def test_no_name_or_cell_forges_a_line_of_any_screen(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of folders, files and accounts, and cells, with line breaks and escapes in all of them."""
    evil = "\nFORGED: send it\x1b[2J\x9b\u202e"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"state{evil}"))
    folder = tmp_path / f"in{evil}"
    folder.mkdir()
    path = save(folder / f"a{evil}.csv", [one | {"name": evil} for one in planted_rows()])
    audit = folder / f"a{evil}.audit.parquet"
    for words in (
        ("status",),
        ("check", path, *TYPE, "--keep"),
        ("check", path, *TYPE, "--json"),
        (path, *TYPE, "-v", "--audit", audit),
        (path, *TYPE, "--audit", folder / "b.parquet", "--json"),
        ("report", audit),
        ("map", path, *TYPE),
        ("explain", path, "1", *TYPE),
        ("explain", path, "2", *TYPE, "--json"),
        ("ledger", "add", audit),
        ("status",),
        ("logout", "--account", evil),
        ("check", f"s3://{evil}", *TYPE),
    ):
        done = rd_import(*words)
        assert done.code != 1, (words, done)
        for line in (done.out + done.err).split("\n"):
            assert not line.lstrip().startswith("FORGED"), (words, line)
            assert not set(line) & set("\x1b\x9b\u202e\r"), (words, line)


def test_our_own_columns_of_rejected_rows_are_no_formulas(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """The person's cells stay byte for byte, formulas included; what quotes a column's name is ours."""
    first, second, _ = (
        {name: cell for name, cell in row.items() if name != "price"} for row in planted_rows()
    )
    rows = [{FORMULA: "10.00", **first}, {FORMULA: "nothing", **second, "name": "=2+2"}]
    path = save(tmp_path / "a.csv", rows)
    done = rd_import(
        path,
        *TYPE,
        "--rename",
        f"price={FORMULA}",
        "--json",
        "--audit",
        tmp_path / "b.audit.parquet",
    )
    assert done.json["states"] == {"accepted": 1, "invalid": 1}
    text = (tmp_path / "b.rejected.csv").read_text("utf-8")
    assert ",=2+2," in text
    assert "\"'=cmd|" in text
    assert ',"=' not in text


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system has no way to refuse links")
def test_a_link_in_the_state_folder_is_not_followed(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Nor does another's file become one of ours."""
    other = tmp_path / "other"
    other.write_text("mine", "utf-8")
    audit = tmp_path / "a.audit.parquet"
    (tmp_path / "a.rejected.csv").symlink_to(other)
    done = rd_import(save(tmp_path / "a.csv", planted_rows()), *TYPE, "--json", "--audit", audit)
    assert done.code == 3
    assert other.read_text("utf-8") == "mine"
    assert not (tmp_path / "a.rejected.csv").is_symlink()
    state = tmp_path / "state" / "rd-import"
    (state / "ledger.db").unlink()
    (state / "ledger.db").symlink_to(other)
    refused = rd_import("status")
    assert refused.code == 1
    assert other.read_text("utf-8") == "mine"


@pytest.mark.parametrize("place", ["hardlink_to", "symlink_to"])
def test_a_file_that_another_put_there_is_not_written_into(tmp_path: Path, place: str) -> None:
    """Whoever may write to the folder cannot have our bytes in a file of theirs."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("mine", "utf-8")
    theirs.chmod(0o666)
    getattr(ours, place)(theirs)
    with private_file(ours) as file:
        file.write(b"private")
    assert theirs.read_text("utf-8") == "mine"
    assert ours.read_bytes() == b"private"
    assert os.name == "nt" or stat.S_IMODE(ours.lstat().st_mode) == 0o600
