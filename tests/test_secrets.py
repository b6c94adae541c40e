"""Tokens stay where tokens belong, and people's data where the person looks who has the export."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import rd_import as installed
from conftest import Command
from rd_import.sandbox import Sandbox
from rig import TYPE, save

FORMULA = "=cmd|' /C calc'!A0"
WORD = "pw-5f1e9c"  # of the database
PEOPLE = ("ana.planted", "5511987651234", "Rua Planted", "Souza Planted")
"""What stands in cells: an address, a phone, a street and a name, each unlike anything of ours."""


def planted_rows() -> list[dict[str, str]]:
    good = {
        "email": "ana.planted@example.com",
        "identifier": "A-1",
        "currency": "BRL",
        "price": "10.00",
        "total_items": "1",
        "name": "Souza Planted",
        "mobile_phone": "+5511987651234",
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


@pytest.mark.slow
def test_no_secret_and_no_person_stands_where_they_do_not_belong(tmp_path: Path) -> None:
    """Every command, as talkative as it can be; its screen, its files, and the file system's view of who reads them."""
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    path = save(work / "orders.csv", planted_rows())
    leads = work / "leads.csv"
    leads.write_text("email,conversion_identifier\nana.planted@example.com,form-1\n", "utf-8")
    with Sandbox() as server:
        token = {"RD_IMPORT_BASE_URL": server.url, "RD_IMPORT_TOKEN": server.token}
        renewing = {
            "RD_IMPORT_BASE_URL": server.url,
            "RD_IMPORT_CLIENT_ID": server.client_id,
            "RD_IMPORT_CLIENT_SECRET": server.client_secret,
            "RD_IMPORT_REFRESH_TOKEN": server.refresh_token,
        }
        key = {"RD_IMPORT_BASE_URL": server.url, "RD_IMPORT_API_KEY": server.api_key}
        database = {**token, "RD_IMPORT_LEDGER": f"postgresql://me:{WORD}@127.0.0.1:9/none"}
        secrets = [
            server.token,
            server.refresh_token,
            server.client_secret,
            server.api_key,
            WORD,
        ]
        order, audit = (str(path), *TYPE), str(work / "a.audit.parquet")
        runs = [
            (("check", *order, "-v", "--json"), token),
            ((*order, "-v", "--json", "--audit", audit), token),
            ((*order, "-v", "--json", "--audit", str(work / "b.audit.parquet")), renewing),
            ((str(leads), "--type", "CONVERSION", "-v", "--json"), key),
            (("check", *order, "-v", "--keep", "--json"), token),
            (("resume", "-v", "--json"), token),
            (("resume", "none", "-v", "--json"), token),
            (("resolve", "none", "--left", "--why", "x", "-v", "--json"), token),
            (("status", "-v", "--json"), token),
            (("status", "-v", "--json"), database),
            ((*order, "-v", "--json"), database),
            (("ledger", "check", audit, "-v", "--json"), token),
            (("ledger", "add", audit, "-v", "--json"), token),
            (("types", "CONVERSION"), token),
            (("template", "CONVERSION"), token),
            (("map", *order, "-v"), token),
            (("probe", "me@example.com", "-v"), token),
            (("forget", "rui@example.com", "--yes", "-v", "--json"), token),
            (("explain", str(path), "1", *TYPE, "-v"), token),
            (("sandbox", "--port", "-1"), token),
        ]
        said: dict[tuple[str, ...], str] = {}
        for words, env in runs:
            done = installed(*words, cwd=work, state=state, env=env)
            said[words] = done.stdout
            assert done.returncode in {0, 1, 2, 3, 4, 5, 6, 7}, f"{words}: {done.stderr}"
            assert "Traceback" not in done.stderr, words
            for secret in secrets:
                assert secret not in done.stdout + done.stderr, words
            for person in PEOPLE:
                assert person not in done.stderr, words
                assert words[0] == "explain" or person not in done.stdout, words
        assert '"accepted": 1' in said[runs[1][0]]
        assert '"accepted": 1' in said[runs[3][0]]
    for file, text in [*contents(work), *contents(state)]:
        keeps_tokens = file.name == "tokens.json"
        for secret in secrets:
            assert keeps_tokens or secret.encode() not in text, file
        inputs = file in {path, leads}
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
