"""Files made to exhaust whoever reads them end in a refusal, in little memory and bounded work."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import resource
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import REAL_EXPORTS, Command
from rig import TYPE

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="how much memory a program took is asked of Linux",
)
HEAD = b"email,identifier,currency,price,total_items\n"
MB = 1 << 20
MOST_MEMORY = 1 << 30
MOST_WORK_EACH_S = 10  # of processor time
MOST_WORK_S = 150  # for all files of one child, one that never ends included
FULL = {"email": "a@b.com", "identifier": "1", "currency": "BRL", "price": "1", "total_items": "1"}

MEMORY = """
import re
def most_memory():  # of this program alone; getrusage counts that of the process which started it too
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
"""
CHILD = (
    MEMORY
    + """
import json, sys, time
from rd_import.cli import main
for path in sys.argv[1:]:
    worked = time.process_time()
    argv, sys.argv = sys.argv, ["rd-import", "check", path, "--type", "ECOMMERCE_ORDER_PLACED", "--json"]
    try:
        main()
    except SystemExit as ended:
        print(json.dumps(["ENDED", path, ended.code, most_memory(), time.process_time() - worked]))
    sys.argv = argv
"""
)
READER = (
    MEMORY
    + """
import sys
from contextlib import suppress
from rd_import.errors import ExportError
from rd_import.job import Job
from rd_import.read import find_exports, read
rows = 0
for path in sys.argv[1:]:
    with suppress(ExportError):
        for group in read(find_exports(Job(exports=(path,)))): rows += group.rows.table.height
print(rows, most_memory())
"""
)


def check(paths: list[Path], state: Path) -> dict[str, tuple[int, str]]:
    """Check files one after the other in one process, which is ended should it work or grow without end.

    Gives each file's exit code and what was said of it; the memory is asserted here.
    """

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_WORK_S, MOST_WORK_S))
        resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))

    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)],
        env={
            **os.environ,
            "XDG_STATE_HOME": str(state),
            "TMPDIR": str(state.parent),
            "PYTHONUTF8": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )
    ended: dict[str, tuple[int, str]] = {}
    said = ""
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if isinstance(found, dict):
            said = f"{found.get('error', '')} {found.get('preview', {}).get('problems', '')}"
            continue
        _, path, code, memory, worked_s = found
        assert memory < MOST_MEMORY, f"{path} took {memory >> 20} MB"
        assert worked_s < MOST_WORK_EACH_S, f"{path} took {worked_s:.0f} s of work"
        ended[Path(path).name] = (code, said)
        said = ""
    assert len(ended) == len(paths), (
        f"{paths[len(ended)]} ended the process: {done.returncode} {done.stderr[-500:]}"
    )
    return ended


def refused(made: dict[Path, str], state: Path) -> list[str]:
    """Name the files that were not refused with the sentence that belongs to them."""
    ended = check(list(made), state)
    return [
        f"{path.name}: {ended[path.name]}"
        for path, why in made.items()
        if ended[path.name][0] != 2 or why not in ended[path.name][1]
    ]


# --- archives and compressed files


def _zip(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return packed.getvalue()


def _sharing(members: int) -> bytes:
    """An archive whose members all share the bytes of one that is harmless by itself."""
    raw = _zip(("f000.csv", HEAD + b"a@b.com,1,BRL,1,1\n" * 1_000_000))
    directory, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entries = raw[directory:end] * members
    return (
        raw[:directory]
        + entries
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, members, members, len(entries), directory, 0)
    )


def _zstd_window(log: int) -> bytes:
    """A frame that asks for a window of 2^log bytes to be held."""
    block = HEAD * 100
    return (
        b"\x28\xb5\x2f\xfd\x00"
        + bytes([(log - 10) << 3])
        + struct.pack("<I", len(block) << 3 | 1)[:3]
        + block
    )


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.slow
def test_a_bomb_of_any_packing_is_refused(tmp_path: Path) -> None:
    large = HEAD + b"a,1,BRL,1,1\n" * (80 * MB // 12)
    block = b"a" * MB  # of which packed copies one after the other are one whole file
    files: dict[str, tuple[bytes, str]] = {
        "gzip": (gzip.compress(large), "unpacks to more than"),
        "gzip_twice": (gzip.compress(gzip.compress(large)), "unpacks to more than"),
        "bz2": (bz2.compress(HEAD) + bz2.compress(block) * 80, "unpacks to more than"),
        "xz": (lzma.compress(HEAD) + lzma.compress(block) * 600, "unpacks to more than"),
        "zstd": (_zstd(large), "unpacks to more than"),
        "zip": (_zip(("a.csv", large)), "unpacks to more than"),
        "gzip_in_zip": (_zip(("a.csv.gz", gzip.compress(large))), "unpacks to more than"),
        "three_in_zip": (_zip(*((f"{n}.csv", HEAD + b"a" * (60 * MB)) for n in range(3))), "unpacks to more than"),
        "sharing_zip": (_sharing(900), "unpacks to more than"),
        "zip_in_zip": (_zip(("a.zip", _zip(("a.csv", large)))), "is no whole Excel file"),
        "crowded_zip": (_zip(*((f"{n}.csv", HEAD) for n in range(1001))), "far too many"),
        "zstd_window": (_zstd_window(31), "is no whole zstd file"),
        "packed_as_a_workbook": (_zip(("xl/workbook.xml", large)), "unpacks to more than"),
    }  # fmt: skip
    made = {}
    for name, (data, why) in files.items():
        (tmp_path / name).write_bytes(data)
        made[tmp_path / name] = why
    assert refused(made, tmp_path / "state") == []


# --- text


def test_text_without_end_is_refused_or_set_aside(tmp_path: Path) -> None:
    """Cells, lines, columns and quotes without end cost what the rest of the file costs."""
    names = b",".join(b'{"%d":1}' % n for n in range(11_000))
    files: dict[str, tuple[bytes, str]] = {
        "long_header.csv": (b"a" * (20 * MB), "no line ends within"),
        "many_columns.csv": (b",".join(b"c%d" % n for n in range(400_000)) + b"\n1,2\n", "no line ends within"),
        "narrow_columns.csv": (b",".join([b"a"] * 30_000) + b"\n1,2\n", "that is no export"),
        "one_open_quote.csv": (HEAD + b'"' + b"a\n" * (4 * MB), "quotes are opened"),
        "every_quote_open.csv": (HEAD + b'a","b\n' * 170_000, "quotes are opened"),
        "hardly_a_row.csv": (HEAD + b"a\n" * 300_000, "rows cannot be read"),
        "nuls.csv": (HEAD + bytes(5 * MB), "no text"),
        "like_an_address.csv": (b"@" * 60_000 + b",b\n1,2\n", "has no column"),
        "like_a_number.csv": (b"1" * 60_000 + b"x,b\n1,2\n", "has no column"),
        "deep.jsonl": (b'{"email":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "no header"),
        "wide.jsonl": (b"".join(b'{"k%d":1}\n' % n for n in range(20_000)), "that is no export"),
        "wide_list.jsonl": (b'{"l":[' + names + b"]}\n", "that is no export"),
    }  # fmt: skip
    made = {}
    for name, (data, why) in files.items():
        (tmp_path / name).write_bytes(data)
        made[tmp_path / name] = why
    assert refused(made, tmp_path / "state") == []
    aside = {
        "long_cell.csv": HEAD + b"a" * (30 * MB),
        "many_cells.csv": HEAD + b"x," * (3 * MB) + b"\n",
    }
    for name, data in aside.items():
        (tmp_path / name).write_bytes(data + b"\na@b.com,1,BRL,1,1\n")
    ended = check([tmp_path / name for name in aside], tmp_path / "state")
    assert {code for code, _ in ended.values()} == {3}
    assert "longer than" in ended["long_cell.csv"][1]


# --- Parquet


def _whole(**columns: Any) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({**{name: pa.array([text] * rows) for name, text in FULL.items()}, **columns})


def _repeated(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))


def _fixed(rows: int) -> pa.Table:
    return _whole(x=pa.array([b"a" * (6 * MB)] * rows, pa.binary(6 * MB)))


PARQUET: dict[str, tuple[Callable[[], pa.Table], dict[str, Any], str]] = {
    "a long text repeated": (lambda: _whole(x=_repeated("a" * MB, 20_000)), {}, "unpacks"),
    "a text repeated": (lambda: _whole(x=_repeated("a" * 100_000, 20_000)), {}, "unpacks"),
    "repeated in a list": (
        lambda: _whole(i=pa.array([[{"sku": "a" * MB}]]).take(pa.array([0] * 500))), {}, "unpacks",
    ),
    "pages": (lambda: _whole(x=["a" * MB] * 300), {"use_dictionary": False}, "unpacks"),
    "prefixes": (
        lambda: _whole(x=["a" * MB + str(n) for n in range(300)]),
        {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}}, "unpacks",
    ),
    "rows": (lambda: pa.table({name: _repeated(text, 11_000_000) for name, text in FULL.items()}), {}, "unpacks"),
    "plain rows": (
        lambda: pa.table({name: pa.array(["a" * 60] * 1_000_000) for name in FULL}),
        {"use_dictionary": False, "row_group_size": 1_000_000}, "unpacks",
    ),
    "items": (lambda: _whole(x=pa.array([[0] * 20_000_000], pa.list_(pa.int8()))), {}, "unpacks"),
    "columns": (lambda: pa.table({f"c{n}": ["x"] for n in range(11_000)}), {}, "that is no export"),
}  # fmt: skip


def test_a_parquet_bomb_is_refused(tmp_path: Path) -> None:
    """What a file unpacks to stands neither in its size nor in its directory where texts are shared."""
    made = {}
    for name, (table, options, why) in PARQUET.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table(), path, **{"compression": "zstd", **options})
        assert path.stat().st_size < 3 * MB
        made[path] = why
    directory = tmp_path / "directory.parquet"
    directory.write_bytes(b"PAR1" + bytes(1000) + struct.pack("<I", 0x7FFFFFFF) + b"PAR1")
    made[directory] = "is no whole Parquet file"
    kind = pa.int32()
    for _ in range(500):
        kind = pa.list_(kind)
    pq.write_table(pa.table({"x": pa.nulls(1, kind)}), tmp_path / "deep.parquet")
    made[tmp_path / "deep.parquet"] = "nested"
    assert refused(made, tmp_path / "state") == []


@pytest.mark.parametrize("plain", [True, False])
def test_a_parquet_file_of_a_million_equal_rows_is_read(tmp_path: Path, plain: bool) -> None:
    """Equal rows take almost no room, so the file's size says nothing; they are read in batches all the same."""
    rows = 1_200_000
    columns = {name: _repeated(text * 20, rows) for name, text in FULL.items()}
    if plain:
        columns = {name: column.cast(pa.string()) for name, column in columns.items()}
    path = tmp_path / "a.parquet"
    how = {"compression": "zstd", "use_dictionary": not plain, "row_group_size": 100_000}
    pq.write_table(pa.table(columns), path, **how)
    assert path.stat().st_size < rows // 5
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] == str(rows)
    assert int(done.stdout.split()[1]) < MOST_MEMORY


def test_a_row_longer_than_any_event_is_set_aside(tmp_path: Path) -> None:
    """Of a Parquet file too, and its neighbours go on."""
    pq.write_table(
        pa.concat_tables([_fixed(2), _whole(x=pa.array([None], pa.binary(6 * MB)))]),
        tmp_path / "a.parquet",
    )
    ended = check([tmp_path / "a.parquet"], tmp_path / "state")
    assert ended["a.parquet"][0] in {3, 7}
    assert "longer than" in ended["a.parquet"][1]


@pytest.mark.real
def test_the_bombs_of_apache_s_collection_are_read_or_refused_in_little_memory(
    tmp_path: Path,
) -> None:
    """Under names that match, so that every page of them is asked for."""
    made = []
    for path in sorted((REAL_EXPORTS / "parquet" / "apache_bad").glob("*.parquet")):
        made.append(tmp_path / path.name)
        made[-1].write_bytes(path.read_bytes())
    assert made
    assert {code for code, _ in check(made, tmp_path / "state").values()} == {2}
    done = subprocess.run(
        [sys.executable, "-c", READER, *map(str, made)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[1]) < MOST_MEMORY


# --- workbooks


NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{KIND}.worksheet+xml"/>'
    f'<Override PartName="/xl/sharedStrings.xml" ContentType="{KIND}.sharedStrings+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook {NAMESPACE} xmlns:r="{OFFICE}">'
    '<sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{OFFICE}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
}


def _row(number: int, *cells: str) -> str:
    texts = "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in cells)
    return f'<row r="{number}">{texts}</row>'


def _book(path: Path, rows: str, *, before: str = "", strings: str = "") -> Path:
    """A workbook of these rows, with noise beside it so that it does not unpack to too many times its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in PARTS.items():
            book.writestr(name, part)
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f"{before}<worksheet {NAMESPACE}><sheetData>{rows}</sheetData></worksheet>",
        )
        book.writestr("xl/sharedStrings.xml", f"<sst {NAMESPACE}>{strings}</sst>")
        book.writestr(zipfile.ZipInfo("noise"), os.urandom(MB))
    return path


@pytest.mark.slow
def test_a_workbook_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    head = _row(1, *FULL)
    laughs = (
        '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(8))
        + "]>"
    )
    outside = '<!DOCTYPE q [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    made = {
        _book(tmp_path / "elements.xlsx", head + "<a/>" * 8_000_000): "no row among them",
        _book(tmp_path / "memory.xlsx", head + ("<row/>" + "<a/>" * 99_999) * 80): "no row among them",
        _book(tmp_path / "entities.xlsx", head + _row(2, "&i;"), before=laughs): "is no whole Excel file",
        _book(tmp_path / "outside.xlsx", head + _row(2, "&a;"), before=outside): "is no whole Excel file",
        _book(tmp_path / "cell.xlsx", head + _row(2, "a" * (20 * MB))): "a cell is longer than",
        _book(tmp_path / "rows.xlsx", head + "<row/>" * 1_200_000): "rows on a sheet",
        _book(tmp_path / "row.xlsx", head + _row(99_999_999_999, "x")): "rows on a sheet",
        _book(tmp_path / "strings.xlsx", head, strings="<si><t>ab</t></si>" * 2_100_000): "different texts",
    }  # fmt: skip
    assert refused(made, tmp_path / "state") == []
    wide = _book(
        tmp_path / "wide.xlsx",
        head + "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(2, 900)),
    )
    assert check([wide], tmp_path / "state")["wide.xlsx"][0] == 7


def test_a_workbook_that_memory_cannot_hold_is_refused(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much openpyxl keeps of a text cannot be told from the file, so the process itself is watched."""
    pytest.importorskip("openpyxl")
    monkeypatch.setattr("rd_import.tables.MAX_BOOK_MEMORY", 4 << 20)
    texts = "".join(f"<si><t>{number:>60}</t></si>" for number in range(200_000))
    done = rd_import("check", _book(tmp_path / "a.xlsx", _row(1, *FULL), strings=texts), *TYPE)
    assert done.code == 2
    assert "4 MB of memory" in done.err


@pytest.mark.parametrize("prefix", ["", "x:"])
@pytest.mark.parametrize("block", [61, 1 << 20])
def test_rows_of_any_writer_are_told_from_what_is_none(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch, prefix: str, block: int
) -> None:
    """`<x:row>` is a row too, wherever the blocks end in which it is looked for; comments are no elements."""
    pytest.importorskip("openpyxl")
    monkeypatch.setattr("rd_import.tables.MAX_APART", 1000)
    monkeypatch.setattr("rd_import.tables.MEMORY_LOOKED_AT", block)
    full = FULL | {"email": "a@b.co"}
    head, row = (_row(0, *cells).replace(' r="0"', "") for cells in (FULL, full.values()))
    sheet = f"{head}{f'<!-- one -->{row}' * 200}"
    path = _book(tmp_path / "a.xlsx", "")
    with zipfile.ZipFile(path, "a") as book, warnings.catch_warnings(action="ignore"):
        text = f"<worksheet><sheetData>{sheet}</sheetData></worksheet>"
        text = re.sub(r"<(/?)(\w)", rf"<\1{prefix}\2", text)
        named = NAMESPACE.replace("xmlns", f"xmlns:{prefix[:-1]}") if prefix else NAMESPACE
        book.writestr(
            "xl/worksheets/sheet1.xml", text.replace("worksheet", f"worksheet {named}", 1)
        )
    done = rd_import("check", path, *TYPE, "--json")
    assert done.code == 0, done
    assert done.json["rows"] == 200
