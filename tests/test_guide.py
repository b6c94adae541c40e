"""What a person looks up before an import: types, templates, a proposed mapping, one row explained."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Command
from rd_import.mapping_file import parse_mapping, read_mapping
from rd_import.mapping_text import rule_text
from rd_import.sandbox import Behaviour, Sandbox
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

SHOP = """Order Nr,E-mail,Amount,Moeda,Situação,Produto,SKU,Qtd,Unit
1,ana@example.com,"1.250,00",BRL,pago,Camiseta,A,2,"625,00"
2,bia@example.com,"99,90",BRL,pago,Meia,B,1,"99,90"
"""
NEEDS = ("--rename", "identifier=Order Nr", "--rename", "price=Amount")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.csv"
    path.write_text(SHOP, encoding="utf-8")
    return path


def test_the_catalogue_names_every_type(rd_import: Command) -> None:
    listed = rd_import("types")
    assert listed.code == 0
    assert [name for name in (*CURRENT_TYPES, *REMOVED_TYPES) if name not in listed.out] == []
    data = rd_import("types", "--json").json["types"]
    assert {one["event_type"] for one in data} == {*CURRENT_TYPES, *REMOVED_TYPES}
    assert [one["successor"] for one in data if one["event_type"] == "CART_ABANDONED"] == [
        "ECOMMERCE_CART_ABANDONED"
    ]


def test_a_type_is_shown_with_all_its_fields(rd_import: Command) -> None:
    shown = rd_import("types", "sale").out
    assert "value  (number)" in shown
    assert "event_timestamp  (timestamp, not sent)" in shown
    data = rd_import("types", "SALE", "--json").json
    assert [one["field"] for one in data["fields"] if one["required"]] == ["email", "funnel_name"]
    assert rd_import("types", "SALES").code == 2


@pytest.mark.parametrize("event_type", CURRENT_TYPES)
def test_a_template_can_be_imported_as_it_stands(
    event_type: str, tmp_path: Path, rd_import: Command
) -> None:
    """Its columns are the type's and its examples are legal, so that filling it in is all there is to do."""
    file = tmp_path / "empty.csv"
    file.write_text(rd_import("template", event_type).out, encoding="utf-8")
    done = rd_import("check", file, "--type", event_type, "--past", "send", "--json")
    assert done.json["states"] == {"not_sent": 1}, done.out
    assert done.json["preview"]["unmatched"] == []


def test_there_is_no_template_of_a_type_that_has_ended(rd_import: Command) -> None:
    done = rd_import("template", "ORDER_PLACED")
    assert done.code == 2
    assert "rd-import template ECOMMERCE_ORDER_PLACED" in done.err


def test_a_mapping_is_proposed_from_a_real_export(shop: Path, rd_import: Command) -> None:
    """What is certain is written, what is not is a comment, and what is missing is named."""
    done = rd_import("map", shop, "--type", "ECOMMERCE_ORDER_PAID", "--json")
    assert done.json["missing"] == ["identifier", "price", "line_items.price"]
    assert done.json["proposed"] == {"price": "Amount", "line_items.price": "Amount"}
    text = (shop.parent / "shop.toml").read_text(encoding="utf-8")
    said = parse_mapping(text, "shop.toml")
    assert said.fields["email"].column == "E-mail"
    assert said.fields["line_items.quantity"].column == "Qtd"
    assert "price" not in said.fields
    assert '# price = "Amount"' in text
    assert (said.file.encoding, said.file.delimiter) == ("utf-8", ",")
    assert rd_import("map", shop, "--type", "ECOMMERCE_ORDER_PAID").code == 2  # never written over


def test_a_proposed_mapping_sends_what_the_flags_would(
    shop: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = ("--type", "ECOMMERCE_ORDER_PAID", *NEEDS, "--rename", "line_items.price=Unit")
    rd_import("map", shop, *words)
    by_flags = rd_import("check", shop, *words, "--json").json["preview"]
    done = rd_import(shop, "--map", shop.with_suffix(".toml"), "--json")
    assert done.json["states"] == {"accepted": 2}
    assert by_flags["bytes"] > 0
    assert [one.event["payload"]["price"] for one in sandbox.events()] == [1250.0, 99.9]
    again = rd_import(shop, *words, "--json")
    assert again.json["states"] == {"already_accepted": 2}


def test_a_proposed_mapping_names_its_second_file(tmp_path: Path, rd_import: Command) -> None:
    """The mapping stands beside the export, and finds the second file there or where it was."""
    (tmp_path / "deals.csv").write_text("account,funnel_name\nAcme,default\n", encoding="utf-8")
    (tmp_path / "people").mkdir()
    for second in (tmp_path / "accounts.csv", tmp_path / "people" / "accounts.csv"):
        second.write_text("account,email\nacme,ana@example.com\n", encoding="utf-8")
        (tmp_path / "deals.toml").unlink(missing_ok=True)
        words = ("--type", "SALE", "--lookup", second)
        assert rd_import("map", tmp_path / "deals.csv", *words, "--json").json["missing"] == []
        done = rd_import(
            "check", tmp_path / "deals.csv", "--map", tmp_path / "deals.toml", "--json"
        )
        assert done.json["events"] == 1


def test_on_a_terminal_the_mapping_asks_what_is_not_certain(shop: Path, tmp_path: Path) -> None:
    """The person chooses the type, says yes to a column that may be meant, and names one that is missing."""
    leader, follower = pty.openpty()
    words = ["-c", "from rd_import.cli import main; main()", "map", str(shop), "--type"]
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        [sys.executable, *words, "ECOMMERCE_ORDER_PAID"],
        stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
    )  # fmt: skip
    os.write(leader, b"n\ny\nOrder Nr\nUnit\n")
    _, err = process.communicate(timeout=60)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 0
    assert "May `Amount` feed price?" in err.decode()
    said = read_mapping(shop.with_suffix(".toml"))
    assert said.fields["price"].column == "Amount"
    assert said.fields["identifier"].column == "Order Nr"
    assert said.fields["line_items.price"].column == "Unit"


def test_what_a_mapping_keeps_answers_what_a_file_leaves_open(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Ten days of June fit both orders; the mapping that was kept says which it is."""
    mapping = tmp_path / "sales.toml"
    mapping.write_text('type = "SALE"\n[file]\ndates = "dmy"\n', encoding="utf-8")
    file = tmp_path / "sales.csv"
    file.write_text(
        "email,funnel_name,event_timestamp\nana@example.com,default,01/06/2026\n", "utf-8"
    )
    asked = rd_import("check", file, "--type", "SALE", "--json")
    assert asked.json["exit_code"] == 7
    done = rd_import(file, "--map", mapping, "--past", "send", "--json")
    assert done.json["states"] == {"accepted": 1}
    assert done.audit[0]["source_timestamp"].isoformat() == "2026-06-01T03:00:00+00:00"


@pytest.mark.parametrize(
    ("kept", "content", "readings"),
    [
        ('dates = "dmy"', "ana@example.com,default,06/25/2026,1", ("dmy", "mdy")),
        ('decimal = ","', 'ana@example.com,default,2026-06-25,"1,250.75"', (",", ".")),
        ('delimiter = ";"', "ana@example.com,default,2026-06-25,1", (";", ",")),
        ('encoding = "cp1252"', "josé@example.com,padrão é ã,2026-06-25,1", ("cp1252", "utf-8")),
    ],
)
def test_a_file_that_contradicts_what_was_kept_is_refused_with_both_readings(
    kept: str, content: str, readings: tuple[str, str], tmp_path: Path, rd_import: Command
) -> None:
    mapping = tmp_path / "sales.toml"
    mapping.write_text(f'type = "SALE"\n[file]\n{kept}\n', encoding="utf-8")
    file = tmp_path / "sales.csv"
    file.write_text(f"email,funnel_name,event_timestamp,value\n{content}\n", encoding="utf-8")
    done = rd_import("check", file, "--map", mapping)
    assert done.code == 7
    said = done.out + done.err
    assert "the mapping file keeps" in said
    assert all(one in said for one in readings)


def test_a_row_is_explained_from_cell_to_answer(
    shop: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = (shop, "--type", "ECOMMERCE_ORDER_PAID", *NEEDS, "--rename", "line_items.price=Unit")
    before = rd_import("explain", words[0], "2", *words[1:], "--json").json
    price = next(one for one in before["fields"] if one["field"] == "price")
    assert price["cells"] == {"Amount": "99,90"}
    assert price["path"] == "payload.price"
    assert price["value"] == 99.9
    assert before["body"]["payload"]["identifier"] == "2"
    rd_import(*words)
    after = rd_import("explain", words[0], "2", *words[1:], "--json").json
    uuids = [one.event_uuid for one in sandbox.events()]
    assert after["answer"] == {"state": "accepted", "event_uuid": uuids[1]}
    assert after["body"] == sandbox.events()[1].event
    shown = rd_import("explain", words[0], "2", *words[1:]).out
    assert 'from Amount: Amount = "99,90"' in shown
    assert uuids[1] in shown


def test_an_explained_row_that_was_refused_says_why_in_the_service_s_own_words(
    shop: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = (shop, "--type", "ECOMMERCE_ORDER_PAID", *NEEDS, "--rename", "line_items.price=Unit")
    sandbox.behaviour = Behaviour(refused_contacts=("bia@example.com",))
    refused = rd_import(*words, "--json", "--audit", shop.with_name("a.parquet")).audit[1]
    assert refused["state"] == "refused"
    answer = rd_import("explain", words[0], "2", *words[1:], "--json").json["answer"]
    assert answer == {
        "state": "refused",
        "code": refused["error_code"],
        "column": refused["error_column"],
        "message": refused["error_message"],
    }
    assert refused["error_message"] in rd_import("explain", words[0], "2", *words[1:]).out


def test_every_value_of_an_explained_row_stands_in_the_event(
    shop: Path, rd_import: Command
) -> None:
    """The plain definition, row by row, equals what the columns made of all rows at once."""
    words = ("--type", "ECOMMERCE_ORDER_PAID", *NEEDS, "--rename", "line_items.price=Unit")
    found = rd_import("explain", shop, "1", *words, "--json").json
    [item] = found["body"]["payload"]["line_items"]
    flat = {**found["body"]["payload"], **{f"line_items.{name}": one for name, one in item.items()}}
    del flat["line_items"]
    assert {one["field"]: one["value"] for one in found["fields"]} == flat


def test_a_bad_row_is_explained_by_what_is_wrong(tmp_path: Path, rd_import: Command) -> None:
    file = tmp_path / "sales.csv"
    file.write_text("email,funnel_name\nana,default\n", encoding="utf-8")
    done = rd_import("explain", file, "1", "--type", "SALE")
    assert done.code == 0
    assert "`email` is no e-mail address" in done.out
    assert "It is not sent." in done.out
    assert rd_import("explain", file, "2", "--type", "SALE").code == 2


@pytest.mark.parametrize(
    "text",
    [
        '"A"',
        '{ column = "A", occurrence = 2, strip_prefix = "#", default = "x" }',
        '{ first_of = ["A", { json = "B", path = "c.d" }] }',
        '{ join = ["A", "B"], with = "" }',
        '{ value = "x", when = { "a b" = "c" } }',
        '{ column = "A \\"b\\"", values = { "ç ã" = "x", ok = "y" }, other = "z", split = ";" }',
        '{ column = "A", per = "line_items.quantity", duration = "m:ss", scale = 0.01, sum = true }',
    ],
)
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    rule = parse_mapping(f"[fields]\nx = {text}\n", "x.toml").fields["x"]
    written = rule_text(rule)
    assert parse_mapping(f"[fields]\nx = {written}\n", "x.toml").fields["x"] == rule
    assert json.dumps(written)
