"""What may be named as input: any place, compression and table; what breaks the reading."""

import bz2
import errno
import gzip
import io
import json
import lzma
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import REAL_EXPORTS, Command
from rd_import.sandbox import Sandbox
from test_main_job import ORDER, TYPE, orders, save

CONTENT = (
    b"email,identifier,currency,price,total_items\n"
    b"ana@example.com,1,BRL,10.00,1\nzoe@example.com,2,BRL,20.00,1\n"
)


def _zipped(data: bytes, name: str = "orders.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return packed.getvalue()


def _zstd(data: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(data)
    return bytes(packed.getvalue())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zip": _zipped, "zst": _zstd,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("named", [True, False], ids=["with suffix", "without"])
def test_a_compressed_file_is_known_by_its_content(
    suffix: str, named: bool, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = tmp_path / (f"orders.csv.{suffix}" if named else "orders.csv")
    path.write_bytes(PACKERS[suffix](CONTENT))
    done = rd_import(path, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 2}
    assert [row["line_number"] for row in done.audit] == [2, 3]


def test_every_table_of_an_archive_is_read(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    path = tmp_path / "exports.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", CONTENT)
        archive.writestr(
            "b.csv.gz",
            gzip.compress(CONTENT.replace(b",1,BRL", b",3,BRL").replace(b",2,BRL", b",4,BRL")),
        )
        archive.writestr("__MACOSX/a.csv", b"\x00\x05")
        archive.writestr("read me.pdf", b"%PDF")
    done = rd_import(path, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 4}
    assert [Path(row["source_file"]).name for row in done.audit] == [
        "a.csv",
        "a.csv",
        "b.csv.gz",
        "b.csv.gz",
    ]


@pytest.mark.parametrize("packer", PACKERS)
def test_a_file_that_was_cut_off_is_refused(
    packer: str, tmp_path: Path, rd_import: Command
) -> None:
    """What is missing cannot be known, so nothing of it is sent."""
    rows = b"".join(b"z%d@example.com,%d,BRL,20.00,1\n" % (i, i * i) for i in range(9000))
    whole = PACKERS[packer](CONTENT + rows)
    path = tmp_path / "orders.csv"
    path.write_bytes(whole[: len(whole) // 2])
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "is no whole" in done.err
    assert list(tmp_path.glob("**/*.arrow")) == []


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_is_refused_before_it_grows(packer: str, tmp_path: Path, rd_import: Command) -> None:
    path = tmp_path / "bomb.csv"
    path.write_bytes(PACKERS[packer](CONTENT + b"a" * (100 << 20)))
    began = time.monotonic()
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "unpacks to more than" in done.err
    assert time.monotonic() - began < 10


def test_an_archive_with_a_password_is_refused(tmp_path: Path, rd_import: Command) -> None:
    packed = bytearray(_zipped(CONTENT))
    packed[6] |= 1  # the flag in the local header and in the directory
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "locked.zip"
    path.write_bytes(packed)
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "password" in done.err


def test_a_workbook_with_a_password_is_refused(tmp_path: Path, rd_import: Command) -> None:
    path = tmp_path / "orders.xlsx"
    path.write_bytes(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(2000)
        + "EncryptedPackage".encode("utf-16-le")
        + bytes(500)
    )
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "password" in done.err


def test_stdin_is_read_once_and_leaves_no_copy(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(CONTENT))))
    done = rd_import("-", *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 2}
    assert done.audit[0]["source_file"] == "stdin"
    assert list(tmp_path.glob("rd-import-*")) == []


class WithoutEnd(io.RawIOBase):
    """A pipe from which ever more comes; counts what was taken."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any) -> int:
        self.taken += len(place)
        assert self.taken < 100 << 20, "it is read without end"
        place[:] = b"a" * len(place)
        return len(place)


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("rd_import.sources.MAX_COPY", 3 << 20, "larger than"),
        ("rd_import.sources.KEPT_FREE", 1 << 60, "a copy must leave"),
        ("tempfile.tempdir", "/proc/none", "cannot be copied to `/proc/none`"),
    ],
)
@pytest.mark.parametrize("place", ["-", "memory://bucket/large.csv"])
def test_a_copy_without_end_or_without_room_is_refused(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch,
    limit: str, value: object, why: str, place: str,
) -> None:  # fmt: skip
    """What comes from elsewhere is copied first: at most so much of it, and the disk stays usable."""
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://bucket/large.csv", "wb") as file:
        file.write(CONTENT + b"a" * (4 << 20))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(limit, value)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(WithoutEnd())))
    done = rd_import("check", place, *TYPE)
    assert done.code == 2
    assert why in done.err
    assert list(tmp_path.glob("rd-import-*")) == []


def test_a_pipe_that_cannot_be_read_is_refused(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed one, and one that breaks."""

    class Breaks(WithoutEnd):
        def readinto(self, _: Any) -> int:
            raise OSError(errno.EIO, "the line is broken")

    for given in (None, io.TextIOWrapper(io.BufferedReader(Breaks()))):
        monkeypatch.setattr(sys, "stdin", given)
        done = rd_import("check", "-", *TYPE)
        assert done.code == 2
        assert "`stdin` cannot be read" in done.err


def test_an_object_of_a_store_is_read_by_its_address(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://bucket/orders.csv", "wb") as file:
        file.write(CONTENT)
    done = rd_import(
        "memory://bucket/orders.csv", *TYPE, "--json", "--audit", tmp_path / "a.parquet"
    )
    assert done.json["states"] == {"accepted": 2}
    assert done.audit[0]["source_file"] == "memory://bucket/orders.csv"
    missing = rd_import("check", "memory://bucket/none.csv", *TYPE)
    assert missing.code == 2
    assert "cannot be read" in missing.err


def test_a_folder_and_a_pattern_name_files_in_order(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, packer in enumerate(("gz", "xz"), start=1):
        content = (
            CONTENT.replace(b"\nana", b"\nana")
            .replace(b",1,BRL", b",%d1,BRL" % number)
            .replace(b",2,BRL", b",%d2,BRL" % number)
        )
        (folder / f"orders-{number}.csv.{packer}").write_bytes(PACKERS[packer](content))
    (folder / "notes.md").write_text("not data", "utf-8")
    by_folder = rd_import(folder, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert [row["identifier"] for row in by_folder.audit] == ["11", "12", "21", "22"]
    by_pattern = rd_import(folder / "*.csv.*", *TYPE, "--json", "--audit", tmp_path / "b.parquet")
    assert by_pattern.json["states"] == {"already_accepted": 4}


def test_a_workbook_is_read_with_ids_and_dates_as_they_are(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """A number shown as 5,52E+12 is whole in the file; a text keeps its zeros."""
    openpyxl = pytest.importorskip("openpyxl")
    from datetime import datetime

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Pedidos da loja"])
    sheet.append(
        [
            "email",
            "identifier",
            "currency",
            "price",
            "total_items",
            "mobile_phone",
            "event_timestamp",
        ]
    )
    sheet.append(
        ["ana@example.com", "00123", "BRL", 1234.5, 1, 5511999368273, datetime(2026, 3, 15, 14, 53)]
    )
    sheet.append(["zoe@example.com", 2, "BRL", 20, 1, "#N/A", None])
    sheet.append(["Total", None, None, 1254.5])
    book.save(tmp_path / "orders.csv")  # the wrong extension matters to nobody
    done = rd_import(tmp_path / "orders.csv", *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 2, "filtered": 1}
    first, second = (one.event["payload"] for one in sandbox.events())
    assert (first["identifier"], first["price"], first["mobile_phone"]) == (
        "00123",
        1234.5,
        "+5511999368273",
    )
    assert second["identifier"] == "2"
    assert "mobile_phone" not in second
    assert done.audit[0]["source_timestamp"].isoformat() == "2026-03-15T17:53:00+00:00"


def test_json_lines_keep_digits_and_items(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    lines = [
        {**ORDER, "identifier": 1234567890123456789, "price": 10.10, "total_items": None,
         "line_items": [{"sku": "0012", "product_title": "A", "price": 1, "quantity": 2},
                        {"sku": "B", "product_title": "B", "price": 2, "quantity": 1}]},
        {**ORDER, "identifier": "007"},
    ]  # fmt: skip
    path = tmp_path / "orders.jsonl"
    path.write_text(
        "\n".join([json.dumps(lines[0]), "{broken", "", json.dumps(lines[1])]) + "\n", "utf-8"
    )
    done = rd_import(path, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 2, "invalid": 1}
    assert [(row["line_number"], row["error_code"]) for row in done.audit] == [
        (1, None),
        (2, "BROKEN_JSON"),
        (4, None),
    ]
    first, second = (one.event["payload"] for one in sandbox.events())
    assert first["identifier"] == "1234567890123456789"
    assert [item["sku"] for item in first["line_items"]] == ["0012", "B"]
    assert second["identifier"] == "007"


def test_one_json_list_is_read_as_its_objects(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Written over several lines, and longer than what is read at a time."""
    orders = [
        {**ORDER, "identifier": str(number), "name": f"Ana ]}},{{ \u2028 {'ã' * 5000}"}
        for number in range(40)
    ]
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(orders, indent=2, ensure_ascii=False), "utf-8-sig")
    done = rd_import(path, *TYPE, "--json", "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 40}
    assert [one.event["payload"]["name"] for one in sandbox.events()] == [
        one["name"] for one in orders
    ]
    lines = path.read_text("utf-8-sig").split("\n")
    assert [lines[row["line_number"] - 1] for row in done.audit] == ["  {"] * 40


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"email": "a"}, {"email": "b"', "does not end"),
        ('[{"email": "a"}', "does not end"),
        ('[{"email": "a"}\n{"email": "b"}]', "line 2 has '{' where ',' belongs"),
        ('[{"email": "a"}, 7]', "'7]' is no object"),
        ('[{"email": "a"}] x', "more stands behind the list"),
        ('[{"email": ' + "[" * 200_000, "no whole JSON file"),
    ],
)
def test_a_json_list_that_is_not_whole_is_refused(
    text: str, reason: str, tmp_path: Path, rd_import: Command
) -> None:
    """What stands behind the flaw cannot be told apart, so nothing of it goes."""
    path = tmp_path / "orders.json"
    path.write_text(text, "utf-8")
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert reason in done.err


def test_parquet_keeps_digits_zones_and_nested_items(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    table = pa.table(
        {
            "email": pa.array(["ana@example.com"]).dictionary_encode(),
            "identifier": pa.array([1234567890123456789], pa.uint64()),
            "currency": pa.array(["BRL"], pa.large_string()),
            "price": pa.array([Decimal("1234.50")], pa.decimal128(12, 2)),
            "total_items": pa.array([1], pa.int8()),
            "event_timestamp": pa.array(
                [1_773_597_180_000_000_000], pa.timestamp("ns", "America/Sao_Paulo")
            ),
            "line_items": [[{"sku": "0012", "product_title": "A", "price": 1.5, "quantity": 1}]],
        }
    )
    pq.write_table(table, tmp_path / "orders.parquet", use_deprecated_int96_timestamps=False)
    done = rd_import(
        tmp_path / "orders.parquet", *TYPE, "--json", "--audit", tmp_path / "a.parquet"
    )
    assert done.json["states"] == {"accepted": 1}
    [stored] = sandbox.events()
    assert stored.event["payload"]["identifier"] == "1234567890123456789"
    assert stored.event["payload"]["price"] == 1234.5
    assert done.audit[0]["source_timestamp"].isoformat() == "2026-03-15T17:53:00+00:00"


def test_a_picture_or_document_is_named_as_such(tmp_path: Path, rd_import: Command) -> None:
    for name, content in {
        "a PDF document": b"%PDF-1.7",
        "a picture": b"\x89PNG\r\n",
        "a 7z archive": b"7z\xbc\xaf\x27\x1c",
        "an old Excel workbook": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a web page": b"\xef\xbb\xbf\r\n<HTML><table><tr><td>Pedido</td><td>E-mail</td></tr>",
        "an XML document": b'<?xml version="1.0"?><Workbook>',
    }.items():
        (tmp_path / "orders.csv").write_bytes(content + bytes(100))
        done = rd_import("check", tmp_path / "orders.csv", *TYPE)
        assert (done.code, name in done.err) == (2, True)


def test_a_parquet_file_of_a_billion_nulls_is_refused(tmp_path: Path, rd_import: Command) -> None:
    """Run lengths make it a few kilobytes."""
    path = tmp_path / "nulls.parquet"
    with pq.ParquetWriter(path, pa.schema([("email", pa.string())])) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"email": pa.nulls(1_000_000, pa.string())}))
    done = rd_import("check", path, *TYPE, "--set", "identifier=1")
    assert done.code == 2


REFUSED = {"ARROW-GH-41317.parquet", "ARROW-GH-47662.parquet", "ARROW-RS-GH-6229-LEVELS.parquet"}


def _parquet_files() -> list[str]:
    found = (REAL_EXPORTS / "parquet").rglob("*.parquet")
    return sorted(path.relative_to(REAL_EXPORTS / "parquet").as_posix() for path in found)


@pytest.mark.real
@pytest.mark.parametrize("name", _parquet_files())
def test_parquet_files_of_other_projects_give_their_rows_or_a_clean_error(name: str) -> None:
    """In a process of its own, since a damaged file must not take the reader down."""
    expected = json.loads((REAL_EXPORTS / "parquet/expected_rows.json").read_text("utf-8"))[name]
    code = (
        "import sys\nfrom rd_import.errors import ExportError\nfrom rd_import.job import Job\n"
        "from rd_import.read import find_exports, read\n"
        "try:\n    found = find_exports(Job(exports=(sys.argv[1],), event_type='SALE'))\n"
        "    print(sum(group.rows.table.height for group in read(found)))\n"
        "except ExportError as error:\n    print('refused', error)\n"
    )
    path = REAL_EXPORTS / "parquet" / name
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    if expected["pyarrow"].startswith("error"):
        assert done.stdout.startswith("refused")
        assert Path(name).name in REFUSED
    else:
        assert done.stdout.split() == [expected["pyarrow"].split()[0]]


def test_one_run_takes_files_of_different_forms(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Each file has its own marks: a comma in one, a point in the other."""
    a = save(
        tmp_path / "a.csv",
        orders({"price": "1.234,56", "event_timestamp": "26/04/2026 10:00"}),
        ";",
    )
    b = save(
        tmp_path / "b.csv",
        orders({"identifier": "2", "price": "1,234.56", "event_timestamp": "04/26/2026 10:00"}),
    )
    done = rd_import(a, b, *TYPE, "--json", "--audit", tmp_path / "audit.parquet")
    assert done.json["states"] == {"accepted": 2}
    assert [one.event["payload"]["price"] for one in sandbox.events()] == [1234.56, 1234.56]
    assert {row["source_timestamp"].isoformat() for row in done.audit} == {
        "2026-04-26T13:00:00+00:00"
    }


def test_a_parquet_file_with_broken_names_is_refused(tmp_path: Path, rd_import: Command) -> None:
    """Found by mutating real files: polars panics over a name that is no UTF-8."""
    path = tmp_path / "names.parquet"
    pq.write_table(pa.table({"email": ["a@example.com"], "identifier": ["1"]}), path)
    path.write_bytes(path.read_bytes().replace(b"identifier", b"identifi\xe4r"))
    done = rd_import("check", path, *TYPE)
    assert done.code == 2
    assert "is no whole Parquet file" in done.err
