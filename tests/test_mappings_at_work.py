"""Mappings through the real command: what arrives at the sandbox, and what stands in the audit."""

import csv
import io
from pathlib import Path

import pytest

from conftest import Command
from rd_import.sandbox import Sandbox


def write(path: Path, text: str) -> Path:
    path.write_text(text.strip().replace("\n    ", "\n") + "\n", encoding="utf-8")
    return path


def payloads(sandbox: Sandbox) -> list[dict[str, object]]:
    return [one.event["payload"] for one in sandbox.events()]


DEALS = """
deal,stage,amount,created,closed,mail
1,Ganho,100,2026-01-02,2026-01-09,ana@example.com
2,perdido,200,2026-01-03,2026-01-10,bia@example.com
3,Aberto,,2026-01-04,,caio@example.com
4,Arquivado,,2026-01-05,,davi@example.com
"""
DEALS_MAPPING = """
key = ["deal"]
source = "crm"
[fields]
email = "mail"
funnel_name = { value = "default" }
value = "amount"
event_timestamp = "closed"
[fields_for.OPPORTUNITY]
event_timestamp = "created"
[type_by]
column = "stage"
values = { ganho = "SALE", Perdido = "OPPORTUNITY_LOST", aberto = "OPPORTUNITY" }
"""


def test_one_file_feeds_several_types(tmp_path: Path, rd_import: Command, sandbox: Sandbox) -> None:
    """A column's word decides on the type; a word that the mapping does not name makes the row invalid."""
    deals, mapping = write(tmp_path / "deals.csv", DEALS), write(tmp_path / "m.toml", DEALS_MAPPING)
    done = rd_import(deals, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 3, "invalid": 1}
    assert [one.event["event_type"] for one in sandbox.events()] == [
        "SALE",
        "OPPORTUNITY_LOST",
        "OPPORTUNITY",
    ]
    assert payloads(sandbox)[0] == {
        "email": "ana@example.com",
        "funnel_name": "default",
        "value": 100.0,
    }
    assert [row["event_type"] for row in done.audit] == [
        "SALE",
        "OPPORTUNITY_LOST",
        "OPPORTUNITY",
        None,
    ]
    [bad] = [row for row in done.audit if row["state"] == "invalid"]
    assert (bad["error_code"], bad["error_column"]) == ("NO_EVENT_TYPE", "stage")
    assert "Arquivado" in bad["error_message"]
    again = rd_import(deals, "--map", mapping, "--json")
    assert again.json["states"] == {"already_accepted": 3, "invalid": 1}


def test_other_words_may_be_left_out(tmp_path: Path, rd_import: Command, sandbox: Sandbox) -> None:
    deals = write(tmp_path / "deals.csv", DEALS)
    mapping = write(tmp_path / "m.toml", DEALS_MAPPING + 'other = "skip"\n')
    done = rd_import(deals, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 3, "filtered": 1}
    assert "type_by: stage = Arquivado" in {row["proof"] for row in done.audit}


ORDERS = """
id,status,mail,total,sku,title,qty,each
1,paid,ana@example.com,30.00,A,Camiseta,1,10.00
1,,,,B,Meia,2,10.00
2,pending,bia@example.com,5.00,A,Camiseta,1,5.00
3,paid,caio@example.com,5.00,A,Camiseta,1,5.00
"""
ORDERS_MAPPING = """
type = "ECOMMERCE_ORDER_PAID"
[fields]
identifier = "id"
email = "mail"
price = "total"
currency = { value = "BRL" }
"line_items.sku" = "sku"
"line_items.product_title" = "title"
"line_items.quantity" = "qty"
"line_items.price" = "each"
[[filter]]
name = "only paid orders"
column = "status"
keep = ["paid"]
"""


def test_a_filter_leaves_whole_orders_out_and_names_itself(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """An order's follow-up rows have an empty status; they go with their order all the same."""
    orders = write(tmp_path / "orders.csv", ORDERS)
    mapping = write(tmp_path / "m.toml", ORDERS_MAPPING)
    done = rd_import(orders, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 3, "filtered": 1}
    assert [one["identifier"] for one in payloads(sandbox)] == ["1", "3"]
    assert len(payloads(sandbox)[0]["line_items"]) == 2  # type: ignore[arg-type]
    assert [row["proof"] for row in done.audit if row["state"] == "filtered"] == [
        "only paid orders"
    ]


def test_people_on_the_suppression_list_get_nothing(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    orders = write(tmp_path / "orders.csv", ORDERS)
    mapping = write(tmp_path / "m.toml", ORDERS_MAPPING)
    gone = write(tmp_path / "gone.txt", "ANA@example.com")
    done = rd_import(orders, "--map", mapping, "--suppress", gone, "--json")
    assert [one["identifier"] for one in payloads(sandbox)] == ["3"]
    rules = [row["proof"] for row in done.audit if row["state"] == "filtered"]
    assert rules == ["--suppress", "--suppress", "only paid orders"]


CALLS = """
number,start,state
(11) 98888-7777,2026-01-02 10:00:00,answered
+55 11 97777-6666,2026-01-02 11:00:00,answered
11966665555,2026-01-02 12:00:00,answered
11955554444,2026-01-02 13:00:00,answered
"""
CONTACTS = """
Telefone,E-mail,Nome
+5511988887777,ana@example.com,Ana
11977776666,bia@example.com,Bia
11966665555,caio@example.com,Caio
11966665555,outro@example.com,Outro
"""
CALLS_MAPPING = """
type = "CALL_FINISHED"
[fields]
call_from_number = "number"
call_started_at = "start"
call_status = "state"
[[lookup]]
file = "contacts.csv"
match = { Telefone = "number" }
take = { email = "E-mail", name = "Nome" }
"""


def test_a_second_file_brings_what_the_export_lacks(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Calls have phones, contacts have phone and e-mail; a phone is found however it is written."""
    calls = write(tmp_path / "calls.csv", CALLS)
    write(tmp_path / "contacts.csv", CONTACTS)
    mapping = write(tmp_path / "m.toml", CALLS_MAPPING)
    done = rd_import(calls, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 2, "invalid": 2}
    assert [(one["email"], one["name"]) for one in payloads(sandbox)] == [
        ("ana@example.com", "Ana"),
        ("bia@example.com", "Bia"),
    ]
    wrong = [row for row in done.audit if row["state"] == "invalid"]
    assert [row["error_code"] for row in wrong] == ["LOOKED_UP_TWICE", "NOT_LOOKED_UP"]
    assert "contacts.csv has several rows" in wrong[0]["error_message"]
    assert "contacts.csv has no row" in wrong[1]["error_message"]


def test_a_second_file_is_joined_by_the_column_that_both_have(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    deals = write(tmp_path / "deals.csv", "account,funnel_name\nAcme,default\nOther,default")
    write(tmp_path / "accounts.csv", "Account,E-mail,Cargo\nacme,ana@example.com,CEO")
    done = rd_import(deals, "--type", "SALE", "--lookup", tmp_path / "accounts.csv", "--json")
    assert done.json["states"] == {"accepted": 1, "invalid": 1}
    assert payloads(sandbox) == [{"email": "ana@example.com", "funnel_name": "default"}]


def test_a_second_file_that_memory_cannot_hold_is_refused(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    deals = write(tmp_path / "deals.csv", "email,funnel_name\nana@example.com,default")
    rows = (f"{number},{'a' * 50}" for number in range(25_000))
    write(tmp_path / "large.csv", "funnel_name,E-mail\n" + "\n".join(rows))
    monkeypatch.setattr("rd_import.settle.MAX_SECOND_FILE", 1 << 20)
    for option in ("--lookup", "--suppress"):
        done = rd_import("check", deals, "--type", "SALE", option, tmp_path / "large.csv")
        assert done.code == 2
        assert "holds more than 1 MB of text" in done.err


@pytest.mark.parametrize(
    ("content", "code"), [("Account,E-mail\n", 0), ("", 2), ("Firma,Ort\nA,B\n", 2)]
)
def test_a_second_file_that_is_of_no_use_is_a_sentence(
    content: str, code: int, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Without rows it has nobody; empty, or without a common column, it is refused."""
    deals = write(tmp_path / "deals.csv", "account,funnel_name\nAcme,default")
    second = tmp_path / "accounts.csv"
    second.write_text(content, encoding="utf-8")
    words = ("--type", "SALE", "--lookup", second, "--max-invalid", "100%")
    done = rd_import(deals, *words, "--json")
    assert done.code == (3 if code == 0 else code)
    if code == 0:
        assert [row["error_code"] for row in done.audit] == ["NOT_LOOKED_UP"]


def test_mended_rows_go_with_the_same_mapping(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """The file of rejected rows holds the input's own cells, so the mapping fits it; exactly those events go."""
    orders = write(
        tmp_path / "orders.csv", ORDERS.replace("ana@", "ana").replace("Meia", '"Meia, azul"')
    )
    mapping = write(tmp_path / "m.toml", ORDERS_MAPPING)
    done = rd_import(orders, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 1, "filtered": 1, "invalid": 2}
    [rejected] = done.json["rejected_file"]
    text = Path(rejected).read_text(encoding="utf-8")
    assert '\n1,,,,B,"Meia, azul",2,10.00,"INVALID_EMAIL"' in text
    mended = tmp_path / "mended.csv"
    mended.write_text(text.replace("anaexample.com", "ana@example.com"), encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rejected_code"] for row in rows] == ["INVALID_EMAIL"] * 2
    again = rd_import(mended, "--map", mapping, "--json")
    assert again.json["states"] == {"accepted": 2}
    assert [one["identifier"] for one in payloads(sandbox)] == ["3", "1"]


@pytest.mark.parametrize(
    ("choice", "items", "states"),
    [
        ("refuse", None, {"invalid": 21}),
        ("first_20", 20, {"accepted": 21}),
        ("omit", 0, {"accepted": 21}),
    ],
)
def test_what_becomes_of_too_many_items_is_the_mappings_choice(
    choice: str,
    items: int | None,
    states: dict[str, int],
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
) -> None:
    items_columns = ("sku", "product_title", "price", "quantity")
    head = ",".join(
        ["identifier,email,price,currency", *(f"line_items.{one}" for one in items_columns)]
    )
    rows = [f"1,ana@example.com,210,BRL,S{n},T{n},10,1" for n in range(21)]
    orders = write(tmp_path / "orders.csv", "\n".join([head, *rows]))
    mapping = write(
        tmp_path / "m.toml",
        f'type = "ECOMMERCE_ORDER_PAID"\n[group]\nitems_over_limit = "{choice}"',
    )
    done = rd_import(orders, "--map", mapping, "--max-invalid", "100%", "--json")
    assert done.json["states"] == states
    sent = [len(one.get("line_items", [])) for one in payloads(sandbox)]  # type: ignore[arg-type]
    assert sent == ([] if items is None else [items])


def test_amounts_are_scaled_divided_and_added_up(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    orders = write(
        tmp_path / "orders.csv",
        "id,mail,cents,sku,title,qty\n1,ana@example.com,1250,A,Um,2\n1,,750,B,Dois,3",
    )
    mapping = write(
        tmp_path / "m.toml",
        """
type = "ECOMMERCE_ORDER_PAID"
[fields]
identifier = "id"
email = "mail"
currency = { value = "BRL" }
price = { column = "cents", scale = 0.01, sum = true }
"line_items.sku" = "sku"
"line_items.product_title" = "title"
"line_items.quantity" = "qty"
"line_items.price" = { column = "cents", scale = 0.01, per = "line_items.quantity" }
""",
    )
    done = rd_import(orders, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 2}
    [order] = payloads(sandbox)
    assert (order["price"], order["total_items"]) == (20.0, 5)
    assert [one["price"] for one in order["line_items"]] == [6.25, 2.5]  # type: ignore[attr-defined]


def test_only_the_last_version_of_a_row_counts(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    versions = write(
        tmp_path / "deals.csv",
        "id,email,funnel_name,reason\n1,ana@example.com,default,old\n"
        "2,bia@example.com,default,x\n1,ana@example.com,default,",
    )
    mapping = write(
        tmp_path / "m.toml",
        'type = "OPPORTUNITY_LOST"\nkey = ["id"]\n[group]\nby = ["id"]\nkeep = "last"',
    )
    done = rd_import(versions, "--map", mapping, "--json")
    assert done.json["states"] == {"accepted": 2, "filtered": 1}
    assert [one.get("reason") for one in payloads(sandbox)] == [None, "x"]


def test_two_shops_with_the_same_ids_are_kept_apart(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    orders = write(tmp_path / "orders.csv", ORDERS)
    for shop in ("sp", "rj"):
        mapping = write(tmp_path / "m.toml", f'source = "{shop}"\n{ORDERS_MAPPING.strip()}')
        done = rd_import(orders, "--map", mapping, "--json")
        assert done.json["states"]["accepted"] == 3
    assert len(sandbox.events()) == 4


def test_a_type_that_contradicts_the_mapping_is_refused(tmp_path: Path, rd_import: Command) -> None:
    mapping = write(tmp_path / "m.toml", 'type = "SALE"')
    done = rd_import("check", tmp_path / "x.csv", "--map", mapping, "--type", "OPPORTUNITY")
    assert done.code == 2
    assert "--type OPPORTUNITY contradicts what else tells the type: SALE" in done.err
    words = ("--type", "SALE", "--type-by", "stage")
    assert "contradicts what else tells the type: stage" in rd_import("check", "x.csv", *words).err


def test_totals_that_do_not_match_the_items_are_named_with_the_numbers(
    tmp_path: Path, rd_import: Command
) -> None:
    """The order goes as it is: a discount explains it, or an item that the export left out."""
    orders = write(tmp_path / "orders.csv", ORDERS.replace("30.00", "27.50"))
    mapping = write(tmp_path / "m.toml", ORDERS_MAPPING)
    found = rd_import("check", orders, "--map", mapping, "--json").json["preview"]["problems"]
    assert [(one["code"], one["rows"], one["fatal"]) for one in found] == [
        ("PRICE_DIFFERS", 1, False)
    ]
    assert found[0]["message"] == "`price` is 27.5, and the items with the freight make 30.0"
    shown = rd_import("check", orders, "--map", mapping).out
    assert "Worth a look; it goes as it is" in shown


def test_a_key_of_the_mapping_takes_the_place_of_the_types_own_identity(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """An unreadable time of a call is then left out like any optional field, and the call goes."""
    head = "email,id,call_from_number,call_status,call_started_at"
    rows = ["ana@example.com,1,1133334444,done,2022-02-30 10:00:00"]
    calls = write(tmp_path / "calls.csv", "\n".join([head, *rows]))
    assert rd_import("check", calls, "--type", "CALL_FINISHED", "--json").json["states"] == {
        "invalid": 1
    }
    done = rd_import(calls, "--type", "CALL_FINISHED", "--key", "id", "--json")
    assert done.json["states"] == {"accepted": 1}
    assert "call_started_at" not in payloads(sandbox)[0]


@pytest.mark.parametrize("choice", ["refuse", "first", "omit"])
def test_what_becomes_of_too_many_payment_methods_is_the_mappings_choice(
    choice: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """RD Station takes five."""
    orders = write(
        tmp_path / "orders.csv",
        ORDERS.replace("mail,", "mail,paid,").replace(".com,", ".com,a/b/c/d/e/f,"),
    )
    orders.write_text(orders.read_text("utf-8").replace("1,,,,", "1,,,,,"), "utf-8")
    mapping = write(
        tmp_path / "m.toml",
        ORDERS_MAPPING.replace(
            "[fields]", '[fields]\npayment_methods = { column = "paid", split = "/" }'
        )
        + f'[group]\nlists_over_limit = "{choice}"',
    )
    done = rd_import(orders, "--map", mapping, "--max-invalid", "100%", "--json")
    sent = [one.get("payment_methods") for one in payloads(sandbox)]
    assert sent == {"refuse": [], "first": [list("abcde")] * 2, "omit": [None] * 2}[choice]
    assert done.json["states"]["invalid" if choice == "refuse" else "accepted"] == 3


def test_orders_in_the_form_of_a_removed_type_are_sent_as_its_successor(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """One item a row: the rows of an order are gathered; what the old form lacked is named and given."""
    rows = write(
        tmp_path / "old.csv",
        "email,cf_order_id,cf_order_product_id,cf_order_product_sku\nana@example.com,7,P1,S1\nana@example.com,7,P2,S2",
    )
    refused = rd_import("check", rows, "--type", "ORDER_PLACED_ITEM")
    assert refused.code == 2
    assert "ECOMMERCE_ORDER_PLACED" in refused.err
    lacking = ("currency=BRL", "price=30", "total_items=2", "line_items.product_title=Produto",
               "line_items.price=15", "line_items.quantity=1")  # fmt: skip
    words = [word for one in lacking for word in ("--set", one)]
    done = rd_import(rows, "--type", "ECOMMERCE_ORDER_PLACED", *words, "--json")
    assert done.json["states"] == {"accepted": 2}
    [order] = payloads(sandbox)
    assert order["identifier"] == "7"
    assert [one["product_id"] for one in order["line_items"]] == ["P1", "P2"]  # type: ignore[attr-defined]


def test_rows_of_one_order_that_bring_no_item_are_named(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Nothing in the file says what the second row is for, so a person should look before it goes."""
    path = tmp_path / "orders.csv"
    path.write_text(
        "identifier,email,currency,price,total_items,lote\n"
        "1,ana@example.com,BRL,10.00,1,a\n1,ana@example.com,BRL,10.00,1,b\n2,bia@example.com,BRL,5.00,1,c\n",
        "utf-8",
    )
    shown = rd_import("check", path, "--type", "ECOMMERCE_ORDER_PAID", "--json").json["preview"]
    [cause] = shown["problems"]
    assert (cause["code"], cause["rows"], cause["fatal"]) == ("ROWS_WITHOUT_ITEMS", 1, False)
    assert shown["events"] == 2
