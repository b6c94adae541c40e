"""The main job from the outside: a file and a command go in; events, an audit and an exit code come out."""

import csv
import os
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import Command
from rd_import.audit_file import AUDIT_SCHEMA
from rd_import.sandbox import Sandbox

ORDER = {
    "email": "ana.souza@example.com",
    "identifier": "1001",
    "currency": "BRL",
    "price": "349.90",
    "total_items": "1",
}
TYPE = ("--type", "ECOMMERCE_ORDER_PLACED")


def orders(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """One order per change, each with an id of its own."""
    return [
        ORDER | {"identifier": str(1001 + number)} | change for number, change in enumerate(changes)
    ]


def save(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_each_row_ends_in_one_state_and_each_event_has_the_uuid_the_server_gave(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders({}, {"email": ""}, {"currency": "GBP"}, {}))
    done = rd_import(file, *TYPE, "--json")
    assert done.code == 3
    assert done.json["states"] == {"accepted": 2, "invalid": 2}
    uuids = {one.event["payload"]["identifier"]: one.event_uuid for one in sandbox.events()}
    assert [(row["state"], row["event_uuid"]) for row in done.audit] == [
        ("accepted", uuids["1001"]),
        ("invalid", None),
        ("invalid", None),
        ("accepted", uuids["1004"]),
    ]
    assert [row["line_number"] for row in done.audit] == [2, 3, 4, 5]
    assert done.audit[2]["error_column"] == "currency"
    assert "BRL" in done.audit[2]["error_message"]


def test_a_second_run_of_the_same_file_sends_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders({}, {}, {}))
    first = rd_import(file, *TYPE, "--json", "--audit", tmp_path / "first.parquet")
    again = rd_import(file, *TYPE, "--json", "--audit", tmp_path / "again.parquet")
    assert again.code == 0
    assert (again.json["requests"], again.json["states"]) == (0, {"already_accepted": 3})
    assert [row["event_uuid"] for row in again.audit] == [row["event_uuid"] for row in first.audit]
    assert len(sandbox.events()) == 3


def test_a_mended_file_sends_only_what_was_mended(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rd_import(save(tmp_path / "orders.csv", orders({}, {"email": "ana"})), *TYPE)
    done = rd_import(save(tmp_path / "mended.csv", orders({}, {})), *TYPE, "--json")
    assert done.json["states"] == {"accepted": 1, "already_accepted": 1}
    assert [one.event["payload"]["identifier"] for one in sandbox.events()] == ["1001", "1002"]


def test_the_rejected_file_holds_the_rows_as_they_were_and_can_be_imported_again(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = tmp_path / "orders.csv"
    file.write_bytes(
        "email;identifier;currency;price;total_items;name\r\n"
        'a@example.com;1;BRL;10.00;1;"Zé ""da"" Silva"\r\n'
        ' ;2;BRL;20.00;1;"João; o outro"\r\n'.encode("cp1252")
    )
    done = rd_import(file, *TYPE, "--encoding", "cp1252", "--json")
    [rejected] = map(Path, done.json["rejected_file"])
    lines = rejected.read_bytes().split(b"\r\n")
    assert lines[0].startswith(b"email;identifier;currency;price;total_items;name;")
    assert lines[1].startswith(' ;2;BRL;20.00;1;"João; o outro";"REQUIRED";'.encode("cp1252"))
    assert lines[2:] == [b""]
    rejected.write_bytes(rejected.read_bytes().replace(b"\r\n ;2;", b"\r\nb@example.com;2;"))
    mended = rd_import(rejected, *TYPE, "--encoding", "cp1252", "--json")
    assert mended.json["states"] == {"accepted": 1}
    assert [one.event["payload"]["name"] for one in sandbox.events()] == [
        'Zé "da" Silva',
        "João; o outro",
    ]


def test_rows_of_one_order_become_one_event(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    item = {
        "line_items.product_id": "P-1",
        "line_items.product_title": "Camiseta",
        "line_items.price": "79.90",
    }
    rows = [
        ORDER | {"total_items": ""} | item | {"line_items.quantity": "1"},
        {"identifier": "1001"}
        | item
        | {"line_items.product_id": "P-2", "line_items.quantity": "2"},
    ]
    done = rd_import(save(tmp_path / "orders.csv", rows), *TYPE, "--json")
    assert done.json["states"] == {"accepted": 2}
    [stored] = sandbox.events()
    assert [one["product_id"] for one in stored.event["payload"]["line_items"]] == ["P-1", "P-2"]
    assert stored.event["payload"]["total_items"] == 3
    assert {row["event_uuid"] for row in done.audit} == {stored.event_uuid}


def test_an_order_goes_only_if_all_its_rows_are_valid(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    item = {
        "line_items.product_id": "P-1",
        "line_items.product_title": "Camiseta",
        "line_items.price": "79.90",
    }
    rows = [
        ORDER | item | {"line_items.quantity": "1"},
        ORDER | item | {"line_items.quantity": "none"},
    ]
    done = rd_import(
        save(tmp_path / "orders.csv", [*rows, *orders({"identifier": "2"})]), *TYPE, "--json"
    )
    assert [(row["state"], row["error_code"]) for row in done.audit] == [
        ("invalid", "SIBLING_INVALID"),
        ("invalid", "NOT_AN_INTEGER"),
        ("accepted", None),
    ]
    assert "orders.csv:3" in done.audit[0]["error_message"]
    assert len(sandbox.events()) == 1


@pytest.mark.parametrize(("items", "state"), [(20, "accepted"), (21, "invalid")])
def test_an_order_has_at_most_twenty_items(
    items: int, state: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    item = {
        "line_items.product_title": "Camiseta",
        "line_items.price": "1",
        "line_items.quantity": "1",
    }
    rows = [ORDER | item | {"line_items.product_id": f"P-{number}"} for number in range(items)]
    done = rd_import(save(tmp_path / "orders.csv", rows), *TYPE, "--json", "--max-invalid", "100%")
    assert done.json["states"] == {state: items}
    assert len(sandbox.events()) == (1 if state == "accepted" else 0)
    if state == "invalid":
        assert done.audit[20]["error_code"] == "TOO_MANY_ITEMS"
        assert "21 items" in done.audit[20]["error_message"]


def test_the_audit_has_its_documented_schema_and_is_private(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    done = rd_import(save(tmp_path / "orders.csv", orders({}, {"email": ""})), *TYPE, "--json")
    path = Path(done.json["audit"])
    assert pq.read_schema(path).remove_metadata().equals(AUDIT_SCHEMA)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ledger = next((tmp_path / "state").rglob("ledger.db"))
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    row = done.audit[0]
    assert len(row["event_key"]) == len(row["payload_sha256"]) == len(row["contact"]) == 64
    assert row["proof"] == "200 with 1 of 1 uuids"
    assert (row["batch_number"], row["batch_index"], row["attempts"]) == (1, 0, 1)
    assert row["run_id"] == done.json["run_id"]
    assert len(sandbox.events()) == 1


def test_contact_data_stays_out_of_audit_ledger_and_log(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(
        tmp_path / "orders.csv", orders({"name": "Planted Person"}, {"email": "planted person@"})
    )
    done = rd_import(file, *TYPE, "--json", "-v")
    ledger = next((tmp_path / "state").rglob("ledger.db"))
    for text in (
        Path(done.json["audit"]).read_bytes(),
        str(done.audit).encode(),
        ledger.read_bytes(),
        done.err.encode(),
        done.out.encode(),
    ):
        assert b"ana.souza" not in text
        assert b"Planted" not in text
        assert b"planted" not in text
        assert sandbox.token.encode() not in text


def test_columns_are_renamed_and_constants_set(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rows = [{"Cliente": "ana@example.com", "Pedido": "7", "Total": "10", "Itens": "1"}]
    words = [
        "--rename",
        "email=Cliente",
        "--rename",
        "identifier=Pedido",
        "--rename",
        "price=Total",
    ]
    words += ["--rename", "total_items=Itens", "--set", "currency=BRL"]
    done = rd_import(save(tmp_path / "orders.csv", rows, ";"), *TYPE, *words)
    assert done.code == 0
    assert sandbox.events()[0].event["payload"] == {
        "email": "ana@example.com",
        "identifier": "7",
        "currency": "BRL",
        "price": 10.0,
        "total_items": 1,
    }


def test_check_sends_nothing_and_leaves_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders({}, {"email": ""}))
    done = rd_import("check", file, *TYPE)
    assert done.code == 3
    assert "1 event will be sent" in done.out
    assert "orders.csv:3" in done.out
    assert sandbox.requests() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_check_as_json_says_what_would_happen(tmp_path: Path, rd_import: Command) -> None:
    file = save(tmp_path / "orders.csv", orders({}, {"email": ""}))
    done = rd_import("check", file, *TYPE, "--json")
    assert done.json["states"] == {"invalid": 1, "not_sent": 1}
    assert done.json["preview"]["requests"] == 1
    assert "ana.souza" not in done.out


def test_without_a_terminal_sending_needs_yes(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong send reaches real people, so nobody sends by accident; nothing is read before."""
    monkeypatch.setenv("RD_IMPORT_TOKEN", "a-token")
    monkeypatch.setattr("pathlib.Path.open", _no_terminal)
    done = rd_import(save(tmp_path / "orders.csv", orders({})), *TYPE)
    assert done.code == 2
    assert "--yes" in done.err
    assert not list(tmp_path.glob("*.parquet"))


def _no_terminal(path: Path, *words: object, **options: object) -> object:
    if str(path) == "/dev/tty":
        raise OSError(6, "No such device or address")
    return open(path, *words, **options)  # type: ignore[call-overload]  # noqa: PTH123 -- Path.open is replaced


def test_without_credentials_the_way_to_them_is_named(tmp_path: Path, rd_import: Command) -> None:
    done = rd_import(save(tmp_path / "orders.csv", orders({})), *TYPE, "--yes")
    assert done.code == 4
    assert "RD_IMPORT_TOKEN" in done.err
    assert "--sandbox" in done.err


def test_a_wrong_token_stops_the_run_and_loses_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "orders.csv", orders({}, {}))
    monkeypatch.setenv("RD_IMPORT_TOKEN", "wrong")
    refused = rd_import(file, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert (refused.code, refused.json["states"]) == (4, {"not_sent": 2})
    assert refused.audit[0]["proof"] == "401 UNAUTHORIZED"
    monkeypatch.setenv("RD_IMPORT_TOKEN", sandbox.token)
    done = rd_import(file, *TYPE, "--json", "--audit", tmp_path / "b.parquet")
    assert (done.code, done.json["states"]) == (0, {"accepted": 2})


def test_too_many_invalid_rows_stop_a_run_to_the_real_service(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the practice server it would only warn; nothing here reaches an address: the run stops before."""
    monkeypatch.setenv("RD_IMPORT_TOKEN", "a-token")
    file = save(tmp_path / "orders.csv", orders({}, {"email": ""}, {"email": ""}))
    done = rd_import(file, *TYPE, "--yes", "--json")
    assert done.code == 7
    assert done.json["states"] == {"invalid": 2, "not_sent": 1}
    assert "--max-invalid" in done.err


def test_several_files_are_one_run(tmp_path: Path, rd_import: Command, sandbox: Sandbox) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    save(folder / "a.csv", orders({}))
    pq.write_table(pa.Table.from_pylist(orders({"identifier": "2"})), folder / "b.parquet")
    done = rd_import(folder, *TYPE, "--json", "--audit", tmp_path / "audit.parquet")
    assert done.json["states"] == {"accepted": 2}
    assert [Path(row["source_file"]).name for row in done.audit] == ["a.csv", "b.parquet"]
    assert len(sandbox.requests()) == 1


def _bad_inputs(folder: Path) -> dict[str, tuple[Path, int, str]]:
    """Name → file, exit code, and what the sentence must name."""
    folder.mkdir()
    good = save(folder / "good.csv", orders({})).read_bytes()
    whole = pa.Table.from_pylist(orders({}) * 50)
    pq.write_table(whole, folder / "whole.parquet")
    made = {
        "zero_bytes.csv": (b"", 2, "0 bytes"),
        "binary.csv": (bytes(range(256)) * 20, 2, "NUL"),
        "workbook.csv": (b"PK\x03\x04" + bytes(60), 2, "Excel"),
        "truncated.parquet": ((folder / "whole.parquet").read_bytes()[:900], 2, "whole Parquet"),
        "no_email.csv": (good.replace(b"email", b"emails"), 2, "--rename email=emails"),
    }
    found = {}
    for name, (content, code, named) in made.items():
        (folder / name).write_bytes(content)
        found[name] = (folder / name, code, named)
    (folder / "empty_folder").mkdir()
    found["empty_folder"] = (folder / "empty_folder", 2, "no file to import")
    found["missing"] = (folder / "missing.csv", 2, "no file")
    return found


@pytest.mark.parametrize(
    "name",
    [
        "zero_bytes.csv",
        "binary.csv",
        "workbook.csv",
        "truncated.parquet",
        "no_email.csv",
        "empty_folder",
        "missing",
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing_behind(
    name: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path, code, named = _bad_inputs(tmp_path / "in")[name]
    before = sorted(tmp_path.rglob("*"))
    done = rd_import(path, *TYPE)
    assert done.code == code
    assert named in done.err
    assert "hint:" in done.err
    assert path.name in done.err
    left = [one for one in sorted(tmp_path.rglob("*")) if one not in before and one.is_file()]
    assert left == []
    assert sandbox.requests() == []


def test_a_file_of_a_header_alone_is_done_with_a_warning(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("email,identifier,currency,price,total_items\n", "utf-8")
    done = rd_import(file, *TYPE, "--json")
    assert (done.code, done.json["rows"], done.json["states"]) == (0, 0, {})
    assert "no rows" in done.err
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("order_paid", "did you mean `ECOMMERCE_ORDER_PAID`? "), ("EATEN", "hint: ")],
)
def test_an_unknown_type_says_where_they_are_listed(
    tmp_path: Path, rd_import: Command, name: str, meant: str
) -> None:
    done = rd_import(save(tmp_path / "orders.csv", orders({})), "--type", name, "--sandbox")
    assert done.code == 2
    assert f"{meant}rd-import types lists them, and says what each is" in done.err


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("stauts", "did you mean this? rd-import status"),
        ("pedidos", "did you mean `{folder}/pedidos novembro.csv`?"),
        ("nothing-like-it.csv", "check the name, and put quotes around one with spaces in it"),
    ],
)
def test_what_is_no_file_is_asked_after(
    tmp_path: Path, rd_import: Command, word: str, meant: str
) -> None:
    save(tmp_path / "pedidos novembro.csv", orders({}))
    given = word if word == "stauts" else tmp_path / word
    done = rd_import(given, "--type", "ECOMMERCE_ORDER_PLACED", "--sandbox")
    assert done.code == 2
    assert meant.format(folder=tmp_path) in done.err


def test_an_unreadable_file_is_a_sentence(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the system's refusal is played back where the tests run as root."""
    file = save(tmp_path / "orders.csv", orders({}))
    file.chmod(0)
    if os.access(file, os.R_OK):
        real_open = Path.open

        def refuse(path: Path, *words: Any, **options: Any) -> Any:
            if path == file:
                raise PermissionError(13, "Permission denied")
            return real_open(path, *words, **options)

        monkeypatch.setattr(Path, "open", refuse)
    done = rd_import(file, *TYPE)
    assert done.code == 2
    assert "Permission denied" in done.err
    assert sandbox.requests() == []


def test_an_audit_that_cannot_be_written_stops_before_anything_is_sent(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders({}))
    done = rd_import(file, *TYPE, "--audit", tmp_path / "no" / "such" / "folder" / "audit.parquet")
    assert done.code == 2
    assert "audit" in done.err
    assert sandbox.requests() == []


@pytest.mark.slow
def test_a_hundred_thousand_rows_go_in_one_command_and_none_is_lost(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    rows = (f"cliente{n % 60_000}@example.com,{n},BRL,{n % 900}.90,1\n" for n in range(100_000))
    file = tmp_path / "orders.csv"
    with file.open("w", encoding="utf-8") as out:
        out.write("email,identifier,currency,price,total_items\n")
        out.writelines(rows)
    done = rd_import(file, *TYPE, "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 100_000})
    audit = pq.read_table(done.json["audit"], columns=["identifier", "event_uuid"]).to_pydict()
    given = {one.event["payload"]["identifier"]: one.event_uuid for one in sandbox.events()}
    assert dict(zip(audit["identifier"], audit["event_uuid"], strict=True)) == given
    assert len(set(given.values())) == 100_000
    assert all(one.body_bytes <= 200_000 for one in sandbox.requests())
