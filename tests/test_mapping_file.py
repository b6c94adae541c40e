"""Mapping files: the language, its errors with line and key, and the schema for editors."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from command_line import ROOT, tool
from rd_import.claims import takes
from rd_import.errors import JobError
from rd_import.mapping_file import (
    Filter,
    Lookup,
    Mapping,
    Rule,
    TypeBy,
    parse_mapping,
    parse_preset,
    read_mapping,
)
from rd_import.mapping_language import LANGUAGE, PRESET, RULE
from rdstation_events import EVENT_TYPES

WHOLE = """
source = "loja-sp"
key    = ["Order ID"]
omit   = ["mobile_phone"]

[file]
encoding = "cp1252"
delimiter = ";"
decimal = ","
dates = "dmy"
timezone = "America/Sao_Paulo"

[fields]
email           = "Email"
identifier      = { column = "Name", strip_prefix = "#" }
currency        = { value = "BRL" }
name            = { join = ["First Name", "Last Name"], with = " " }
payment_methods = { column = "Payment", split = ",", values = { "Cartão de crédito" = "Credit Card" } }
"line_items.product_id" = { first_of = ["Lineitem sku", { json = "product", path = "sku" }] }
state           = { column = "Estado", occurrence = 2, default = "SP" }

[fields_for.SALE]
event_timestamp = "Won at"

[group]
by = ["Name"]
items_over_limit = "first_20"

[type_by]
column = "Deal Stage"
values = { Won = "SALE", Lost = "OPPORTUNITY_LOST" }
other = "skip"

[[filter]]
name = "only paid orders"
column = "Financial Status"
keep = ["paid"]

[[lookup]]
file  = "contacts.csv"
match = { Telefone = "from" }
take  = { email = "E-mail", name = "Nome" }
"""


def test_every_part_of_the_language_becomes_a_value() -> None:
    found = parse_mapping(WHOLE, "shop.toml", folder=Path("/files"))
    assert found.event_type is None
    assert parse_mapping('type = "sale"', "x.toml").event_type == "SALE"
    assert (found.namespace, found.key, found.omit) == ("loja-sp", ("Order ID",), ("mobile_phone",))
    assert (found.file.encoding, found.file.decimal, found.file.header) == ("cp1252", ",", None)
    assert found.fields["email"] == Rule(column="Email")
    assert found.fields["identifier"] == Rule(column="Name", strip_prefix="#")
    assert found.fields["currency"] == Rule(value="BRL")
    assert found.fields["name"].join == (Rule(column="First Name"), Rule(column="Last Name"))
    assert found.fields["payment_methods"].values == {"Cartão de crédito": "Credit Card"}
    assert found.fields["line_items.product_id"].first_of[1] == Rule(column="product", path="sku")
    assert found.fields["state"].name == "Estado (2)"
    assert found.rules("SALE")["event_timestamp"] == Rule(column="Won at")
    assert "event_timestamp" not in found.rules("OPPORTUNITY")
    assert (found.group_by, found.items_over_limit) == (("Name",), "first_20")
    assert found.type_by == TypeBy(
        "Deal Stage", {"Won": "SALE", "Lost": "OPPORTUNITY_LOST"}, skip_others=True
    )
    assert found.filters == (Filter("only paid orders", "Financial Status", keep=("paid",)),)
    assert found.lookups == (
        Lookup(
            str(Path("/files/contacts.csv")),
            {"Telefone": "from"},
            {"email": "E-mail", "name": "Nome"},
        ),
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('type = "SALE"\n\n[feilds]\nemail = "E"\n', 3, ["`feilds`", "did you mean `fields`?"]),
        ('[fields]\nemail = { colum = "E" }\n', 2, ["`fields.email.colum`", "`column`"]),
        ('[fields]\nemail = { column = "E", value = "x" }\n', 2, ["`column`, `value`"]),
        ('[fields]\nname = "N"\nemail = 3\n', 3, ["`fields.email`", "`3`", "column's name or rule"]),
        ('[file]\n\ndates = "ddmmyy"\n', 3, ["`file.dates`", "dmy, mdy, ymd"]),
        ('[[filter]]\nname="a"\ncolumn="A"\n[[filter]]\nname="b"\n', 4, ["`filter[2]`", "`column`"]),
        ('[[lookup]]\nfile = "a.csv"\n\ntakes = { email = "E" }\n', 4, ["`lookup[1].takes`", "`take`"]),
        ('[fields]\nname = { join = ["A", { column = "B", scale = 2 }] }\n', 2, ["name.join[2].scale`"]),
        ("[fields]\nidentifier = { column = 'A', extract = '(' }\n", 2, ["`fields.identifier.extract`", "pattern"]),
        ("[fields]\nidentifier = { column = 'A', extract = '(?<=a)(b)' }\n", 2, ["identifier.extract`", "pattern"]),
        ("[fields]\nidentifier = { column = 'A', extract = 'x' }\n", 2, ["no group"]),
        ('[fields]\n"line_items.sku" = { json = "a" }\n', 2, ["lacks the key `path`"]),
        ('[fields]\nemail = "E\n', 2, ["no TOML"]),
        ('type = "SALES"\n', 1, ["no event type `SALES`", "did you mean `SALE`?"]),
        ("[fields_for.SALES]\nname = 'N'\n", 1, ["no event type `SALES`"]),
        ('[type_by]\ncolumn = "A"\nvalues = { a = "SALE", b = "LOST" }\n', 3, ["`type_by.values.b`", "`LOST`"]),
        ('type = "SALE"\n[type_by]\ncolumn = "A"\nvalues = { a = "SALE" }\n', 1, ["`type` and [type_by]"]),
        ("[fields]\nstate = { column = 'E', occurrence = 0 }\n", 2, ["whole number from 1"]),
        ("[fields]\nemail = { value = true }\n", 2, ["`True`, which is no text"]),
    ],
)  # fmt: skip
def test_an_error_names_line_and_key(text: str, line: int, words: list[str]) -> None:
    """A mapping file is written by hand: the mistake must be found at a glance."""
    with pytest.raises(JobError) as caught:
        parse_mapping(text, "shop.toml")
    said = str(caught.value)
    assert f"shop.toml:{line}:" in said
    assert [word for word in words if word not in said] == []
    assert caught.value.exit_code == 2


def test_the_line_of_a_key_is_found_within_a_value_of_several_lines() -> None:
    text = '[fields]\nname = { first_of = [\n    { column = "A" },\n    { colum = "B" },\n] }\n'
    with pytest.raises(JobError, match=r"x\.toml:4:.*`fields\.name\.first_of\[2\]\.colum`"):
        parse_mapping(text, "x.toml")


def test_a_mapping_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"gone\.toml. cannot be read"):
        read_mapping(tmp_path / "gone.toml")


def test_what_is_laid_over_a_mapping_wins_field_by_field() -> None:
    """Flags are laid over the mapping file, and that over the preset."""
    below = Mapping(
        event_type="SALE",
        fields={"email": Rule(column="A"), "value": Rule(column="V")},
        fields_for={"SALE": {"event_timestamp": Rule(column="Won"), "value": Rule(column="W")}},
    )
    above = Mapping(fields={"email": Rule(column="B"), "value": Rule(column="X")})
    merged = above.over(below)
    assert merged.event_type == "SALE"
    assert merged.rules("SALE") == {
        "email": Rule(column="B"),
        "value": Rule(column="X"),
        "event_timestamp": Rule(column="Won"),
    }


def test_the_schema_for_editors_is_the_language() -> None:
    """Editors must not allow what the reader refuses; `make schema` writes the file again."""
    shipped = files("rd_import").joinpath("mapping.schema.json").read_text(encoding="utf-8")
    assert shipped == tool("mapping_schema").written()
    assert set(json.loads(shipped)["properties"]) == set(LANGUAGE.keys)


def test_the_examples_of_the_page_are_of_the_language() -> None:
    """What the page shows can be pasted; each field is one of the type's."""
    page = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(toml(?: preset)?)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for language, text in blocks:
        if language == "toml preset":
            preset = parse_preset(text, "shop.toml")
            mapping, types = preset.mapping, preset.feeds
        else:
            mapping = parse_mapping(text, "shop.toml")
            named = mapping.type_by.values if mapping.type_by else None
            types = tuple((named or {}).values()) or (str(mapping.event_type),)
        known = [EVENT_TYPES[name] for name in types]
        assert [one for one in mapping.fields if not any(takes(t, one) for t in known)] == []


def test_the_page_names_every_key() -> None:
    page = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
    assert [name for name in (*RULE, *LANGUAGE.keys, *PRESET.keys) if name not in page] == []


def test_a_preset_must_say_where_it_is_from() -> None:
    with pytest.raises(JobError, match=r"p\.toml:1: `preset` lacks the key `source`"):
        parse_preset(
            '[preset]\nname = "Shop"\nfeeds = ["SALE"]\ntrust = "real file"\n[fields]\n', "p.toml"
        )
