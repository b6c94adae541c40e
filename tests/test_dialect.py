"""What is found out about a file, how sure it is, and what is asked instead of guessed."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conftest import Command
from rd_import.dialect import Dialect, find_dialect
from rd_import.errors import ExportError, NothingSent
from rd_import.job import Job
from rd_import.read import find_exports, read
from rd_import.sandbox import Sandbox
from test_main_job import TYPE, orders, save

PORTUGUESE = """nome;cidade
José Conceição;São João del-Rei
Anaïs Müller;Ribeirão Preto
Ângela Araújo;Mossoró
"""


def found(text: bytes, **flags: Any) -> Dialect:
    return find_dialect(
        text,
        "x.csv",
        encoding=flags.pop("encoding", None),
        delimiter=flags.pop("delimiter", None),
        **flags,
    )


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "cp1252", "mac-roman", "cp850", "utf-16", "utf-16-le", "utf-16-be"],
)
def test_the_encoding_of_portuguese_text_is_found(encoding: str) -> None:
    dialect = found(PORTUGUESE.encode(encoding))
    codec = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    assert dialect.encoding == codec
    assert dialect.findings[0].confidence in {"certain", "likely"}


def test_latin_1_is_read_as_cp1252_which_holds_it() -> None:
    assert found(PORTUGUESE.encode("latin-1")).encoding == "cp1252"


def test_accents_that_make_no_words_are_asked_about() -> None:
    finding = found("nome\nΛεωνιδας\n".encode("iso-8859-7")).findings[0]
    assert (finding.confidence, finding.flag) == ("open", "--encoding")
    assert len(finding.readings) > 1


def test_the_first_accent_may_stand_far_behind_the_head(tmp_path: Path) -> None:
    """The head is ASCII, which says nothing about the encoding."""
    path = tmp_path / "late.csv"
    path.write_bytes(
        b"name,city\n" + b"Ana,Recife\n" * 20_000 + "João,São Paulo\n".encode("cp1252")
    )
    [export] = find_exports(Job(exports=(str(path),), event_type="SALE"))
    *_, last = read([export])
    assert last.rows.table.row(-1)[:2] == ("João", "São Paulo")
    assert export.dialect is not None
    assert export.dialect.encoding == "cp1252"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_under_which_all_records_agree(delimiter: str) -> None:
    text = delimiter.join(["nome", "preço", "notas"]) + "\n"
    text += "".join(
        delimiter.join([f"Loja {i}", f'"{i},50"', '"a, b; c|d"']) + "\n" for i in range(5)
    )
    dialect = found(text.encode())
    assert (dialect.delimiter, dialect.cells) == (delimiter, 3)


def test_a_delimiter_that_is_a_tie_is_asked_about() -> None:
    with pytest.raises(NothingSent) as asked:
        found(b"a,b;c\n1,2;3\n")
    assert "--delimiter" in str(asked.value)
    assert "`a`, `b;c`" in str(asked.value)
    assert "`a,b`, `c`" in str(asked.value)
    assert asked.value.exit_code == 7


def test_a_sep_line_names_the_delimiter_and_is_no_row(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(tmp_path / "orders.csv", orders({}, {}), ";")
    path.write_bytes(b"sep=;\r\n" + path.read_bytes())
    done = rd_import(path, *TYPE, "--json")
    assert done.json["states"] == {"accepted": 2}
    assert [row["line_number"] for row in done.audit] == [3, 4]


def test_lines_before_the_header_are_passed_over_and_totals_are_no_orders(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(tmp_path / "orders.csv", orders({}, {}), ";")
    path.write_bytes(
        b"Relatorio de pedidos;;;;\nPeriodo: 01/2026;;;;\n;;;;\n"
        + path.read_bytes()
        + b"Total;;;699,80;2\n"
    )
    done = rd_import(path, *TYPE, "--json")
    assert done.json["states"] == {"accepted": 2, "filtered": 1}
    assert [(row["line_number"], row["state"], row["error_code"]) for row in done.audit] == [
        (5, "accepted", None),
        (6, "accepted", None),
        (7, "filtered", "TOTALS_ROW"),
    ]


def test_files_put_together_repeat_their_header(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(tmp_path / "orders.csv", orders({}))
    path.write_bytes(
        path.read_bytes() + save(tmp_path / "b.csv", orders({"identifier": "2"})).read_bytes()
    )
    done = rd_import(path, *TYPE, "--json")
    assert done.json["states"] == {"accepted": 2, "filtered": 1}


def test_a_second_table_in_the_file_is_not_mixed_with_the_first(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Its header is in another program's hand: what follows may be the same orders again."""
    path = save(tmp_path / "orders.csv", orders({}, {}, {}))
    path.write_bytes(
        path.read_bytes()
        + b'"email","identifier","currency","price","total_items"\r\na@example.com,9,BRL,1,1\r\n'
    )
    done = rd_import(path, *TYPE, "--json")
    assert [
        (row["line_number"], row["state"]) for row in done.audit if row["state"] != "accepted"
    ] == [
        (5, "invalid"),
        (6, "invalid"),
    ]


def test_without_a_header_columns_are_named_by_their_place(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"ana@example.com,1,BRL,10.00,1\nzoe@example,2,BRL,20.00,1\n")
    fields = ["email", "identifier", "currency", "price", "total_items"]
    words = [
        w for i, name in enumerate(fields, start=1) for w in ("--rename", f"{name}=column {i}")
    ]
    done = rd_import(path, *TYPE, *words, "--json")
    assert done.json["states"] == {"accepted": 1, "invalid": 1}
    [rejected] = map(Path, done.json["rejected_file"])
    rejected.write_bytes(rejected.read_bytes().replace(b"zoe@example,", b"zoe@example.com,"))
    assert rd_import(rejected, *TYPE, *words, "--no-header", "--json").json["states"] == {
        "accepted": 1
    }


def test_a_flag_overrules_the_header_that_was_found() -> None:
    text = b"ana,1\nbeto,2\n"
    assert found(text).has_header is False
    assert found(text, header=True).has_header is True
    assert found(b"nome,numero\nana,1\n").has_header is True
    assert found(b"nome,numero\nana,1\n", header=False).has_header is False


def test_a_binary_file_is_no_text() -> None:
    with pytest.raises(ExportError, match="NUL"):
        found(bytes(range(256)) * 4)


# --- dates, amounts ---


def checked(rd_import: Command, path: Path, *words: str) -> Any:
    return rd_import("check", path, *TYPE, "--json", *words)


@pytest.mark.parametrize(
    ("dates", "readings"),
    [
        (["01/02/2026", "03/04/2026"], "dmy|mdy"),
        (["13/02/2026", "02/13/2026"], "dmy|mdy"),
        (["13/02/12", "14/02/12"], "dmy|ymd"),
    ],
)
def test_dates_that_fit_two_orders_are_asked_about(
    dates: list[str], readings: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(tmp_path / "orders.csv", orders(*({"event_timestamp": one} for one in dates)))
    done = checked(rd_import, path)
    assert done.code == 7
    asked = rd_import("check", path, *TYPE)
    assert "only you can say" in asked.out
    assert f"--dates {readings}" in asked.err
    sent = rd_import(path, *TYPE, "--audit", tmp_path / "a.parquet")
    assert sent.code == 7
    assert "--dates" in sent.err
    assert sandbox.requests() == []
    fates = pq.read_table(tmp_path / "a.parquet")["state"].to_pylist()
    assert set(fates) <= {"not_sent", "invalid"}  # each row has its fate, and none went


def test_one_day_above_twelve_decides_the_column(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(
        tmp_path / "orders.csv",
        orders({"event_timestamp": "01/02/2026 10:00"}, {"event_timestamp": "13/02/2026"}),
    )
    done = rd_import(path, *TYPE, "--json")
    assert [row["source_timestamp"].isoformat() for row in done.audit] == [
        "2026-02-01T13:00:00+00:00",
        "2026-02-13T03:00:00+00:00",
    ]


@pytest.mark.parametrize(("flag", "month"), [("dmy", 2), ("mdy", 1)])
def test_the_flag_answers_the_question(
    flag: str, month: int, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(tmp_path / "orders.csv", orders({"event_timestamp": "01/02/2026"}))
    done = rd_import(path, *TYPE, "--json", "--dates", flag)
    assert done.audit[0]["source_timestamp"].month == month


def test_a_year_of_two_digits_shows_by_the_many_days_before_it(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """`13/03/26` fits two orders; a file full of them would be one day in each of many years."""
    days = (f"{day}/03/26 às 10:00" for day in range(13, 19))
    path = save(tmp_path / "orders.csv", orders(*({"event_timestamp": one} for one in days)))
    done = rd_import(path, *TYPE, "--json", "--past", "send")
    assert [row["source_timestamp"].date().isoformat() for row in done.audit] == [
        f"2026-03-{day}" for day in range(13, 19)
    ]


def test_events_without_a_readable_date_are_counted(tmp_path: Path, rd_import: Command) -> None:
    """A spreadsheet made numbers of the dates: nobody can say how old these orders are, and the preview says so."""
    dates = ("46138", "ontem", "2026-11-20")
    path = save(tmp_path / "orders.csv", orders(*({"event_timestamp": one} for one in dates)))
    shown = checked(rd_import, path, "--past", "send").json["preview"]
    assert shown["undated"] == 2
    assert "2 events have no date" in rd_import("check", path, *TYPE, "--past", "send").out


def test_the_same_day_either_way_is_no_question(tmp_path: Path, rd_import: Command) -> None:
    path = save(tmp_path / "orders.csv", orders({"event_timestamp": "09/09/2026"}))
    assert checked(rd_import, path, "--past", "send").code == 0


def test_a_lone_1_234_is_asked_about_and_the_column_decides_it(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    alone = checked(rd_import, save(tmp_path / "a.csv", orders({"price": "1.234"})))
    assert alone.code == 7
    with_another = save(tmp_path / "b.csv", orders({"price": "1.234"}, {"price": "0,99"}), ";")
    assert rd_import(with_another, *TYPE, "--json").json["states"] == {"accepted": 2}
    assert [one.event["payload"]["price"] for one in sandbox.events()] == [1234.0, 0.99]


def test_each_column_has_its_own_decimal_mark(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = save(
        tmp_path / "a.csv", orders({"price": "R$ 1.234,56", "shipping_price": "19.90"}), ";"
    )
    assert rd_import(path, *TYPE, "--json").json["states"] == {"accepted": 1}
    payload = sandbox.events()[0].event["payload"]
    assert (payload["price"], payload["shipping_price"]) == (1234.56, 19.9)


def test_a_stated_mark_never_turns_199_90_into_19990(tmp_path: Path, rd_import: Command) -> None:
    path = save(tmp_path / "a.csv", orders({"price": "199.90"}), ";")
    done = checked(rd_import, path, "--decimal", ",")
    assert [one["code"] for one in done.json["preview"]["problems"]] == ["NOT_A_NUMBER"]


def test_the_zone_of_times_that_name_none_is_said(tmp_path: Path, rd_import: Command) -> None:
    path = save(tmp_path / "a.csv", orders({"event_timestamp": "2026-03-15 10:00"}))
    [export] = checked(rd_import, path).json["preview"]["exports"]
    [zone] = [one for one in export["findings"] if one["what"] == "timezone"]
    assert (zone["value"], zone["confidence"], zone["flag"]) == (
        "America/Sao_Paulo",
        "assumed",
        "--timezone",
    )


@pytest.mark.parametrize("zone", ["Bad/Zone", "America", "../UTC"])
@pytest.mark.parametrize("command", ["check", "map"])
def test_a_zone_that_is_none_is_refused_and_kept_in_no_mapping(
    command: str, zone: str, tmp_path: Path, rd_import: Command
) -> None:
    """`America` is a folder of the time zone database."""
    path = save(tmp_path / "a.csv", orders({}))
    done = rd_import(command, path, *TYPE, "--timezone", zone)
    assert done.code == 2
    assert f"there is no time zone `{zone}`" in done.err
    assert not path.with_suffix(".toml").exists()


# --- properties ---

LETTERS = "abc ÁçãõÊü'\"“”€,;|\t\n0123456789.-/@#=" + "\\"
CELLS = st.text(alphabet=st.sampled_from(LETTERS), max_size=12)
ENCODINGS = ["utf-8", "utf-8-sig", "cp1252", "mac-roman", "utf-16", "utf-16-le", "utf-16-be"]


@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_table_that_python_writes_is_read_back_identical(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    encoding: str,
    end: str,
    quoting: int,
) -> None:
    """Told encoding and delimiter, of which a few random characters tell nothing."""
    rows = [row for row in rows if any(row)]
    assume(rows)
    if end == "\r":  # a lone \r as line end and \n within cells would be a mix
        rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
        assume(all(any(row) for row in rows))
    header = ["nome", "cidade", "notas"]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([header, *rows])
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    codec = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    job = Job(
        exports=(str(path),), event_type="SALE", encoding=codec, delimiter=delimiter, header=True
    )
    groups = list(read(find_exports(job)))
    assert sum(group.problems.height for group in groups) == 0
    got = [
        [cell or "" for cell in row[:3]] for group in groups for row in group.rows.table.iter_rows()
    ]
    assert got == rows
    lines = [line for group in groups for line in group.line_numbers.to_pylist()]
    expected, at = [], 2
    for row in rows:
        expected.append(at)
        at += 1 + sum(cell.count("\n") for cell in row)
    assert lines == expected


@given(
    names=st.lists(
        st.sampled_from(["João", "Conceição", "Ana", "Luís", "Mônica", "Zé"]),
        min_size=8,
        max_size=30,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_an_ordinary_table_is_read_back_identical_without_a_word(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    delimiter: str,
    encoding: str,
    end: str,
) -> None:
    assume(any(not name.isascii() for name in names))
    rows = [
        [name, f"{number}@example.com", "rua, casa; fundos"] for number, name in enumerate(names)
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(
        [["nome", "email", "endereço"], *rows]
    )
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    [export] = find_exports(Job(exports=(str(path),), event_type="SALE"))
    got = [list(row[:3]) for group in read([export]) for row in group.rows.table.iter_rows()]
    assert got == rows
    assert export.facts.columns == ("nome", "email", "endereço")


def test_a_header_with_a_lone_carriage_return_is_read(tmp_path: Path) -> None:
    """Found by mutating real files: Python's csv refuses it outside of quotes."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"na\rme,city\nAna,Recife\n")
    [export] = find_exports(Job(exports=(str(path),), event_type="SALE", header=True))
    assert export.facts.columns == ("na me", "city")
    assert [group.rows.table.row(0)[:2] for group in read([export])] == [("Ana", "Recife")]


def test_a_header_stays_one_where_all_rows_have_more_cells() -> None:
    """Free text that holds the delimiter, unquoted: the rows are flawed, not the header."""
    text = b"email,id,note\n" + b"a@example.com,1,a, b, c, d, e, f\n" * 20
    assert (found(text).has_header, found(text).cells, found(text).start_line) == (True, 3, 1)


def test_rows_that_end_with_a_bare_delimiter_are_whole(tmp_path: Path, rd_import: Command) -> None:
    """Some programs end each row with a delimiter and not the header: nothing is lost behind it."""
    path = tmp_path / "sales.csv"
    path.write_text(
        "email;funnel_name;value\na@example.com;default;1,50;\nb@example;default;2,50;\n", "utf-8"
    )
    words = ("--type", "SALE", "--json")
    shown = rd_import("check", path, *words).json["preview"]
    assert (shown["rows"], shown["events"], shown["invalid_rows"]) == (2, 1, 1)


def test_a_row_with_something_behind_the_last_name_is_a_flaw() -> None:
    text = b"email;id\na@example.com;1;\nb@example.com;2;3\n"
    assert found(text).cells == 2


@pytest.mark.parametrize(
    ("column", "hour"),
    [
        ("datetime (UTC)", 10),
        ("Start GMT", 10),
        ("Start (GMT-03:00)", 13),
        ("Start (UTC+2)", 8),
        ("outcome", 13),
    ],
)
def test_a_column_that_names_its_zone_is_read_in_it(
    column: str, hour: int, tmp_path: Path, rd_import: Command
) -> None:
    """Calls of a telephone system stand in UTC, and the header says so: three hours lie between the readings."""
    path = tmp_path / "calls.csv"
    path.write_text(
        f"email,from,status,{column}\nana@example.com,101,answered,2026-11-20 10:00:00\n", "utf-8"
    )
    words = ("--type", "CALL_FINISHED", "--rename", f"call_started_at={column}", "--past", "send")
    shown = rd_import("check", path, *words).out
    assert f'"call_started_at": "2026-11-20T{hour:02}:00:00Z"' in shown
    kept = rd_import("check", path, *words, "--timezone", "Asia/Tokyo").out
    assert (f'"call_started_at": "2026-11-20T{hour:02}:00:00Z"' in kept) == (column != "outcome")


def test_a_time_beside_its_date_is_part_of_it(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Without it every order of a day would be of midnight, and every call begin then."""
    path = tmp_path / "calls.csv"
    path.write_text(
        "email;from;status;Data da chamada;Hora\nana@example.com;101;ok;20/11/2026;10:22:05\n",
        "utf-8",
    )
    words = ("--type", "CALL_FINISHED", "--past", "send", "--json")
    rd_import(path, *words)
    [one] = sandbox.events()
    assert one.event["payload"]["call_started_at"] == "2026-11-20T13:22:05Z"
