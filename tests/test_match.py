"""What the header and the user say decides once which column feeds which field."""

import polars as pl
import pytest

from rd_import.errors import JobError
from rd_import.feed import match_columns
from rd_import.mapping_file import Mapping, Rule
from rd_import.match import match
from rd_import.matching import Matching
from rd_import.values import ROW, ExportFacts, RowGroup
from rdstation_events import EVENT_TYPES

SALE = ("email", "funnel_name", "value")
ITEM = tuple(f"line_items.{part}" for part in ("product_title", "price", "quantity"))


def matching_of(
    name: str,
    columns: tuple[str, ...],
    renames: dict[str, str] | None = None,
    constants: dict[str, str] | None = None,
) -> Matching:
    facts = ExportFacts("orders.csv", "csv", columns)
    rules = {one: Rule(column=column) for one, column in (renames or {}).items()}
    rules |= {one: Rule(value=value) for one, value in (constants or {}).items()}
    return match_columns(facts, [EVENT_TYPES[name]], Mapping(fields=rules))


def matched(matching: Matching, columns: dict[str, pl.Series | list[str | None]]) -> pl.DataFrame:
    table = pl.DataFrame(columns)
    rows = pl.int_range(table.height, dtype=pl.UInt32, eager=True).alias(ROW)
    return match(RowGroup(table.with_columns(rows)), matching).table


def test_a_column_with_a_fields_name_feeds_that_field() -> None:
    matching = matching_of("SALE", ("value", "email", "funnel_name", "Shop"))
    assert matching.fields == {"email": "email", "funnel_name": "funnel_name", "value": "value"}
    assert matching.unmatched == ("Shop",)


def test_a_rename_wins_over_a_column_of_the_fields_own_name() -> None:
    """The user knows the file; an `email` column may be the shop's own address."""
    matching = matching_of("SALE", (*SALE, "Customer e-mail"), {"email": "Customer e-mail"})
    assert matching.fields["email"] == "Customer e-mail"
    assert "email" in matching.unmatched


def test_one_column_may_feed_several_fields() -> None:
    renames = {"name": "Name", "identifier": "Name"}
    matching = matching_of("ECOMMERCE_ORDER_CANCELLED", ("email", "Name"), renames)
    assert matching.fields == {"email": "email", "identifier": "Name", "name": "Name"}
    assert matching.unmatched == ()


def test_a_constant_is_the_value_of_every_row() -> None:
    matching = matching_of("SALE", ("email",), constants={"funnel_name": "default"})
    table = matched(matching, {"email": ["a@x.com", "b@x.com"]})
    assert table["funnel_name"].to_list() == ["default", "default"]


def test_a_constant_takes_the_place_of_a_column() -> None:
    matching = matching_of("SALE", SALE, constants={"funnel_name": "default"})
    assert "funnel_name" not in matching.fields
    assert "funnel_name" in matching.unmatched


def test_cells_are_trimmed_and_empty_ones_are_null() -> None:
    table = matched(
        matching_of("SALE", SALE),
        {
            "email": [" a@x.com\t", "b@x.com"],
            "funnel_name": ["default", "  "],
            "value": ["1", ""],
        },
    )
    assert table.rows() == [(0, "a@x.com", "default", "1"), (1, "b@x.com", None, None)]


def test_fields_come_in_the_order_of_the_payload() -> None:
    """Whatever the file's order: the event's bytes must not depend on it."""
    matching = matching_of("SALE", ("value", "funnel_name", "event_timestamp", "email"))
    assert list(matching.fields) == ["email", "funnel_name", "value", "event_timestamp"]


def test_every_missing_column_is_named_at_once_with_what_is_near() -> None:
    with pytest.raises(JobError) as caught:
        matching_of("SALE", ("emails", "Etapas", "value"))
    text = str(caught.value)
    assert "`email`, `funnel_name`" in text
    assert "--rename email=emails" in text
    assert "`emails`, `Etapas`, `value`" in text
    assert caught.value.exit_code == 2


def test_a_rename_of_a_column_that_the_file_lacks_is_refused() -> None:
    with pytest.raises(JobError, match="no column `Mail`, which is to feed `email`"):
        matching_of("SALE", SALE, {"email": "Mail"})


@pytest.mark.parametrize(
    ("renames", "constants"), [({"funel_name": "value"}, {}), ({}, {"funel_name": "default"})]
)
def test_a_field_that_the_type_lacks_is_refused_with_the_one_that_was_meant(
    renames: dict[str, str], constants: dict[str, str]
) -> None:
    with pytest.raises(JobError) as caught:
        matching_of("SALE", SALE, renames, constants)
    assert "no field `funel_name`" in str(caught.value)
    assert "did you mean `funnel_name`?" in str(caught.value)


def test_custom_fields_reach_a_conversion_as_they_are() -> None:
    columns = ("email", "conversion_identifier", "cf_shoe_size", "cf_Shoe")
    matching = matching_of("CONVERSION", columns)
    assert matching.fields["cf_shoe_size"] == "cf_shoe_size"
    assert matching.unmatched == ("cf_Shoe",)


def test_a_custom_field_can_be_fed_by_any_column() -> None:
    columns = ("email", "conversion_identifier", "Shoe size")
    matching = matching_of("CONVERSION", columns, {"cf_shoe_size": "Shoe size"})
    assert matching.fields["cf_shoe_size"] == "Shoe size"


def test_no_other_type_takes_custom_fields() -> None:
    """RD Station drops them in silence, so they are not sent and the preview says so."""
    matching = matching_of("SALE", (*SALE, "cf_shoe_size"))
    assert matching.unmatched == ("cf_shoe_size",)
    with pytest.raises(JobError, match="no field `cf_shoe_size`"):
        matching_of("SALE", SALE, {"cf_shoe_size": "value"})


@pytest.mark.parametrize("category", ["data_processing", "profiling"])
def test_a_legal_basis_that_cannot_be_sent_stops_the_import(category: str) -> None:
    """Consent is not left out in silence."""
    columns = ("email", "identifier", f"legal_bases.{category}.type")
    with pytest.raises(JobError, match=f"does not take `legal_bases.{category}.type`"):
        matching_of("ECOMMERCE_ORDER_CANCELLED", columns)


def test_legal_bases_may_come_as_one_json_column() -> None:
    columns = ("email", "identifier", "legal_bases")
    matching = matching_of("ECOMMERCE_ORDER_CANCELLED", columns)
    assert matching.fields["legal_bases"] == "legal_bases"


def test_the_number_of_items_need_not_be_a_column_where_quantities_are() -> None:
    columns = ("email", "identifier", "currency", "price", *ITEM)
    assert "total_items" in matching_of("ECOMMERCE_ORDER_PAID", columns).derivable


def test_without_quantities_the_number_of_items_is_missing() -> None:
    with pytest.raises(JobError, match="no column for `total_items`"):
        matching_of("ECOMMERCE_ORDER_PAID", ("email", "identifier", "currency", "price"))


def test_a_nested_list_of_items_becomes_one_line_per_item() -> None:
    """The order's own cells are repeated, as a CSV with one row per item would hold them."""
    columns = ("email", "identifier", "currency", "price", "total_items", "items.sku", "items.n")
    renames = {"line_items.sku": "items.sku", "line_items.quantity": "items.n"}
    rest = {"line_items.product_title": "Item", "line_items.price": "9"}
    matching = matching_of("ECOMMERCE_ORDER_PAID", columns, renames, constants=rest)
    items = pl.Series(
        [[{"sku": "A", "n": "1"}, {"sku": " B ", "n": ""}], [], None],
        dtype=pl.List(pl.Struct({"sku": pl.String, "n": pl.String})),
    )
    table = matched(
        matching,
        {
            "email": ["a@x.com", "b@x.com", "c@x.com"],
            "identifier": ["1", "2", "3"],
            "currency": ["BRL"] * 3,
            "price": ["9"] * 3,
            "total_items": ["2", "0", "0"],
            "items": items,
        },
    )
    assert table.select(ROW, "email", "line_items.sku", "line_items.quantity").rows() == [
        (0, "a@x.com", "A", "1"),
        (0, "a@x.com", "B", None),
        (1, "b@x.com", None, None),
        (2, "c@x.com", None, None),
    ]


def test_items_cannot_come_from_two_nested_columns() -> None:
    columns = ("email", "identifier", "currency", "price", "total_items", "a.sku", "b.n")
    renames = {"line_items.sku": "a.sku", "line_items.quantity": "b.n"}
    rest = {"line_items.product_title": "Item", "line_items.price": "9"}
    matching = matching_of("ECOMMERCE_ORDER_PAID", columns, renames, constants=rest)
    nested: dict[str, pl.Series | list[str | None]] = {
        name: pl.Series([[{part: "1"}]], dtype=pl.List(pl.Struct({part: pl.String})))
        for name, part in (("a", "sku"), ("b", "n"))
    }
    cells: dict[str, pl.Series | list[str | None]] = {
        name: ["1"] for name in ("email", "identifier", "currency", "price", "total_items")
    }
    with pytest.raises(JobError, match="one nested column"):
        matched(matching, cells | nested)


@pytest.mark.parametrize("column", ["E-mail", "EMAIL", "e_mail", "Correo", "Endereço de e-mail"])
def test_a_known_name_of_a_field_feeds_it(column: str) -> None:
    """Accents, case and marks do not matter, and the preview says how each column was found."""
    matching = matching_of("SALE", (column, "funnel_name"))
    assert matching.fields["email"] == column
    assert matching.how["email"] in {"name", "alias"}


def test_a_name_that_was_read_in_the_wrong_encoding_is_still_known() -> None:
    column = "Endereço de e-mail".encode().decode("cp1252")
    assert matching_of("SALE", (column, "funnel_name")).fields["email"] == column


def test_a_name_that_means_several_fields_is_proposed_and_not_mapped() -> None:
    """Exports call the order's total `Amount`, and the price of an item too."""
    columns = ("email", "identifier", "currency", "total_items", "Amount")
    with pytest.raises(JobError) as caught:
        matching_of("ECOMMERCE_ORDER_PAID", columns)
    assert "--rename price=Amount" in str(caught.value)


def test_two_columns_for_one_field_are_proposed_and_not_mapped() -> None:
    matching = matching_of("SALE", ("email", "funnel_name", "Empresa", "Company", "Correo"))
    assert set(matching.fields) == {"email", "funnel_name"}
    with pytest.raises(JobError, match="--rename email=Correo"):
        matching_of("SALE", ("Correo", "E-mail do cliente", "funnel_name"))


@pytest.mark.parametrize(
    "column", ["Buyer Email", "buyer-email", "E-mail do comprador", "Contact e-mail"]
)
def test_the_e_mail_of_whoever_buys_is_known_by_the_words_it_is_put_together_of(
    column: str,
) -> None:
    assert matching_of("SALE", (column, "funnel_name")).fields["email"] == column


@pytest.mark.parametrize(
    "column", ["Seller email", "Agent e-mail", "Email status", "E-mail do afiliado"]
)
def test_the_e_mail_of_somebody_else_is_not_the_contacts(column: str) -> None:
    with pytest.raises(JobError, match="no column for `email`"):
        matching_of("SALE", (column, "funnel_name"))


def test_a_better_name_goes_before_a_weaker_one() -> None:
    """Many tables have an id of each row beside the number of the order, and it is the number that makes the order."""
    columns = ("email", "id", "Order number", "currency", "price", "total_items")
    assert matching_of("ECOMMERCE_ORDER_PAID", columns).fields["identifier"] == "Order number"
    alone = tuple(one for one in columns if one != "Order number")
    assert matching_of("ECOMMERCE_ORDER_PAID", alone).fields["identifier"] == "id"


def test_a_price_beside_items_is_theirs_and_not_the_orders() -> None:
    """Each row of such a file has the price of its item, and none of them is the total of an order of several."""
    columns = ("order_id", "email", "currency", "product_id", "product_name", "quantity", "price")
    with pytest.raises(JobError, match="no column for `price`,") as caught:
        matching_of("ECOMMERCE_ORDER_PAID", columns)
    assert "--rename price=COLUMN" in str(caught.value)
    with_total = matching_of("ECOMMERCE_ORDER_PAID", (*columns, "Order total"))
    assert with_total.fields["line_items.price"] == "price"
    assert with_total.fields["price"] == "Order total"
    with_unit = matching_of("ECOMMERCE_ORDER_PAID", (*columns, "Unit price"))
    assert (with_unit.fields["price"], with_unit.fields["line_items.price"]) == (
        "price",
        "Unit price",
    )


def test_a_total_goes_before_an_amount_that_does_not_say_of_what_it_is() -> None:
    columns = ("Pedido", "E-mail", "Moeda", "total_items", "Preço", "Valor", "Total")
    assert matching_of("ECOMMERCE_ORDER_PAID", columns).fields["price"] == "Total"


def test_a_quantity_without_items_is_proposed_as_the_orders() -> None:
    columns = ("Pedido", "E-mail", "Moeda", "Total", "Qtd")
    with pytest.raises(JobError, match="no column for `total_items`,") as caught:
        matching_of("ECOMMERCE_ORDER_PAID", columns)
    assert "--rename total_items=Qtd" in str(caught.value)


def test_an_amount_beside_items_that_does_not_say_whose_it_is_is_asked_about() -> None:
    columns = ("Pedido", "E-mail", "Moeda", "Produto", "Qtd", "Preço")
    with pytest.raises(JobError) as caught:
        matching_of("ECOMMERCE_ORDER_PAID", columns)
    assert "--rename price=Preço --rename line_items.price=Preço" in str(caught.value)
    alone = matching_of(
        "ECOMMERCE_ORDER_PAID", ("Pedido", "E-mail", "Moeda", "total_items", "Preço")
    )
    assert alone.fields["price"] == "Preço"


def test_items_without_what_every_item_needs_are_asked_about() -> None:
    columns = ("order_id", "email", "currency", "total", "total_items", "Produto")
    with pytest.raises(JobError, match=r"--set line_items\.quantity=1"):  # as courses are sold
        matching_of("ECOMMERCE_ORDER_PAID", columns)
    columns = ("order_id", "email", "currency", "total", "sku", "quantity")
    with pytest.raises(JobError, match=r"`line_items.product_title`, `line_items.price`,"):
        matching_of("ECOMMERCE_ORDER_PAID", columns)


def test_a_number_of_items_is_not_their_name() -> None:
    columns = (
        "order_id",
        "email",
        "currency",
        "total",
        "Item #",
        "Item name",
        "quantity",
        "unit price",
    )
    assert (
        matching_of("ECOMMERCE_ORDER_PAID", columns).fields["line_items.product_title"]
        == "Item name"
    )


NUMBERED = ("order_id", "email", "currency", "total")


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        (("Item 1 Nome", "Item 1 Qtd", "Item 1 Preço unitário"), "Item {n} Nome"),
        (("item1_name", "item1_quantity", "item1_unit_price"), "item{n}_name"),
        (("Produto 1", "Quantidade 1", "Preço unitário 1"), "Produto {n}"),
    ],
)
def test_items_in_numbered_columns_are_all_of_them(columns: tuple[str, ...], title: str) -> None:
    both = (*columns, *(one.replace("1", "2") for one in columns))
    matching = matching_of("ECOMMERCE_ORDER_PAID", (*NUMBERED, *both))
    assert matching.fields["line_items.product_title"] == title
    assert matching.unmatched == ()


def test_numbers_behind_other_names_make_no_items() -> None:
    columns = ("Endereço 1", "Endereço 2", "Quantidade 1", "Quantidade 2", "total_items")
    matching = matching_of("ECOMMERCE_ORDER_PAID", (*NUMBERED, *columns))
    assert set(matching.unmatched) == {*columns} - {"total_items"}


def test_a_header_that_repeats_itself_for_each_item_gives_all_of_them() -> None:
    once = ("Produto", "Qtd", "Preço unitário")
    columns = (*NUMBERED, *once, *(f"{one} (2)" for one in once))
    matching = matching_of("ECOMMERCE_ORDER_PAID", columns)
    assert matching.unmatched == ()
    cells: dict[str, pl.Series | list[str | None]] = {name: ["1"] for name in columns}
    table = matched(matching, cells | {"Produto": ["Camiseta"], "Produto (2)": ["Meia"]})
    assert table["line_items.product_title"].to_list() == ["Camiseta", "Meia"]


def test_the_first_of_several_columns_of_one_name_does_not_stand_for_all() -> None:
    columns = (*NUMBERED, "total_items", "Produto", "Preço unitário", "Qtd", "Qtd (2)")
    with pytest.raises(JobError, match=r"no column for `line_items\.quantity`"):
        matching_of("ECOMMERCE_ORDER_PAID", columns)


def test_a_question_that_asks_for_the_e_mail_is_suggested() -> None:
    with pytest.raises(JobError, match=r"--rename email='Qual é o seu e-mail\?'"):
        matching_of("SALE", ("Qual é o seu e-mail?", "Seu nome", "funnel_name"))
    with pytest.raises(JobError, match="--rename email=COLUMN"):
        matching_of("SALE", ("Seu e-mail", "E-mail do vendedor", "funnel_name"))


def test_a_field_that_is_left_out_is_fed_by_nothing() -> None:
    facts = ExportFacts("sales.csv", "csv", SALE)
    said = Mapping(omit=("value",))
    matching = match_columns(facts, [EVENT_TYPES["SALE"]], said)
    assert "value" not in matching.fields
    assert matching.unmatched == ("value",)


def test_files_shaped_for_a_removed_type_feed_its_successor() -> None:
    columns = ("email", "cf_order_id", "cf_order_total_items", "cf_order_payment_amount")
    matching = matching_of("ECOMMERCE_ORDER_PLACED", columns, constants={"currency": "BRL"})
    assert matching.fields == {
        "email": "email",
        "identifier": "cf_order_id",
        "price": "cf_order_payment_amount",
        "total_items": "cf_order_total_items",
    }
