"""What other programs may use: one job by every door, frames of every kind, schemas that agree, and true pages."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors
import polars as pl
import pyarrow as pa
import pytest

import rd_import as rd
from command_line import ROOT, SAMPLE_DATA
from conftest import Command
from rd_import import importer
from rd_import.frames import kept_frame
from rd_import.sandbox import Sandbox
from rdstation_events import CURRENT_TYPES, EVENT_TYPES
from rdstation_events.checks import failure_code
from rdstation_events.event_type import EventType
from rdstation_events.pandas_rows import DTYPES
from rig import orders, save
from test_event_schemas import failures, frame, good_row

TYPE = "ECOMMERCE_ORDER_PLACED"
ORDERS = orders(5)
TYPED = {"price": float, "total_items": int}


def pandas_orders() -> pd.DataFrame:
    return pd.DataFrame(ORDERS).astype(TYPED)


def bodies(exports: Any, **words: Any) -> list[bytes]:
    """What a job would send, event by event."""
    job = rd.Job(exports=exports, event_type=TYPE, **words)
    folder = importer.pipeline.prepare(job, importer.SystemClock())
    try:
        return [body for events in folder.bodies() for body in events["body"].to_list()]
    finally:
        folder.remove()


# --- the door


def test_the_public_names_are_those_that_are_named() -> None:
    assert sorted(rd.__all__) == rd.__all__ == dir(rd)
    for name in rd.__all__:
        assert getattr(rd, name).__module__.startswith("rd_import")
    with pytest.raises(AttributeError, match="no attribute 'pipe'"):
        _ = rd.pipe  # type: ignore[attr-defined]


def test_to_import_the_package_loads_nothing_heavy() -> None:
    """`rd-import --help` imports it too."""
    code = "import sys, rd_import; print([m for m in ('pandas', 'polars', 'pyarrow') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_both_packages_say_that_they_are_typed() -> None:
    for package in ("pipeline/rd_import", "schemas/rdstation_events"):
        assert (ROOT / package / "py.typed").exists()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert built["targets"]["wheel"]["packages"] == [
        "pipeline/rd_import",
        "schemas/rdstation_events",
    ]


def test_a_job_by_function_and_by_command_is_the_same(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """What the function sent, the command knows as sent, and the other way round."""
    file = save(tmp_path / "orders.csv", ORDERS)
    result = rd.run(rd.Job(exports=[str(file)], event_type=TYPE, audit_path=tmp_path / "a.parquet"))
    assert (result.exit_code, result.states) == (0, {"accepted": 5})
    again = rd_import(file, "--type", TYPE, "--json", "--audit", tmp_path / "b.parquet")
    assert again.json["states"] == {"already_accepted": 5}
    assert [one["states"] for one in rd.runs()] == [{"already_accepted": 5}, {"accepted": 5}]
    assert rd.check_ledger([tmp_path / "a.parquet"]) == []
    assert len(sandbox.events()) == 5


def test_an_open_question_sends_nothing_and_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    save(tmp_path / "a.csv", [one | {"price": "1.234"} for one in ORDERS])
    job = rd.Job(exports=tmp_path / "a.csv", event_type=TYPE, audit_path=tmp_path / "a.parquet")
    shown = rd.check(job)
    assert (shown.exit_code, len(shown.questions)) == (7, 1)
    result = rd.run(job)
    assert (result.exit_code, result.states) == (7, {"not_sent": 5})
    assert "price" in str(result.proof)
    assert sandbox.requests() == []


def test_a_watcher_may_refuse_before_anything_is_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    class Refusal(Exception):  # noqa: N818 -- it is what the person says
        pass

    class Person(rd.Watcher):
        def approves(self, shown: rd.Preview, account: rd.Account) -> None:  # noqa: ARG002
            raise Refusal

    job = rd.Job(exports=pandas_orders(), event_type=TYPE, audit_path=tmp_path / "a.parquet")
    with pytest.raises(Refusal):
        rd.run(job, watcher=Person())
    assert sandbox.requests() == []
    assert list(tmp_path.rglob("bodies.arrow")) == []


def test_what_waits_is_resumed_and_what_is_unknown_resolved(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rd.Job(exports=pandas_orders(), event_type=TYPE, audit_path=tmp_path / "a.parquet")
    monkeypatch.setenv("RD_IMPORT_TOKEN", "wrong")
    stopped = rd.run(job)
    assert (stopped.exit_code, stopped.states) == (4, {"not_sent": 5})
    monkeypatch.setenv("RD_IMPORT_TOKEN", sandbox.token)
    assert rd.resume(stopped.run_id).states == {"accepted": 5}
    with pytest.raises(rd.JobError, match="no such rows to decide"):
        rd.resolve(stopped.run_id, "left", why="looked")


def test_no_secret_is_in_a_repr() -> None:
    secrets = dict.fromkeys(("token", "client_secret", "api_key"), "secret")
    account = rd.Account(**secrets)
    job = rd.Job(
        exports="a.csv", event_type=TYPE, account=account, ledger="postgresql://a:secret-4@h/d"
    )
    assert "secret" not in repr(job)


# --- frames


FRAMES: dict[str, Callable[[], Any]] = {
    "pandas": pandas_orders,
    "pandas, nullable": lambda: pandas_orders().convert_dtypes(),
    "pandas, pyarrow": lambda: pandas_orders().convert_dtypes(dtype_backend="pyarrow"),
    "pandas, by order": lambda: pandas_orders().set_index("identifier"),
    "pandas, by two": lambda: pandas_orders().set_index(["email", "identifier"]),
    "pandas, filtered": lambda: pd.concat([pandas_orders()] * 2).iloc[5:],
    "pandas, categories": lambda: pandas_orders().astype({"currency": "category"}),
    "pandas, objects": lambda: pandas_orders().astype(object),
    "polars": lambda: pl.DataFrame(ORDERS).cast({"price": pl.Float64, "total_items": pl.Int8}),
    "polars, categories": lambda: pl.DataFrame(ORDERS).cast({"currency": pl.Categorical}),
    "arrow": lambda: pa.Table.from_pandas(pandas_orders()),
    "batch": lambda: pa.Table.from_pandas(pandas_orders()).to_batches()[0],
    "reader": lambda: pa.Table.from_pandas(pandas_orders()).to_reader(max_chunksize=2),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_sends_the_bytes_of_the_same_file(kind: str, tmp_path: Path) -> None:
    file = save(tmp_path / "orders.csv", ORDERS)
    assert bodies(FRAMES[kind]()) == bodies(str(file))


def test_frames_and_files_are_read_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    file = save(tmp_path / "b.csv", orders(2, first=6))
    together = bodies([pandas_orders(), str(file), pl.DataFrame(orders(1, first=8))])
    assert together == bodies(str(save(tmp_path / "all.csv", orders(8))))


def test_ids_that_pandas_made_floats_are_ids(tmp_path: Path) -> None:
    """One missing id, and pandas reads the whole column as floats: 1001.0 is 1001."""
    frame = pandas_orders()
    frame["identifier"] = [1001.0, 1002.0, np.nan, 1004.0, float(2**53 - 1)]
    shown = rd.check(rd.Job(exports=frame, event_type=TYPE))
    assert [(one.code, one.rows) for one in shown.problems] == [("REQUIRED", 1)]
    sent = b"".join(bodies(frame))
    ids = re.findall(rb'"identifier":"([^"]*)"', sent)
    assert ids == [b"1001", b"1002", b"1004", b"9007199254740991"]


@pytest.mark.parametrize("dtype", ["float64", "Float64", "float32", object])
def test_ids_that_lost_digits_as_floats_are_refused(dtype: Any, tmp_path: Path) -> None:
    """2**53 + 1 is 2**53 as a float: some other order's id. Whole numbers keep theirs."""
    lossy = [2.0**53, 2.0**53 + 2, -(2.0**60), 1e17, 2.0**70]
    frame = pandas_orders().assign(identifier=pd.Series(lossy).astype(dtype))
    shown = rd.check(rd.Job(exports=frame, event_type=TYPE))
    of_ids = [(one.code, one.rows) for one in shown.problems if one.column == "identifier"]
    assert of_ids == [("SPREADSHEET_DAMAGE", 5)]  # two of the ids are one as float32
    frame["identifier"] = pd.Series([2**53 + 1, 2**60 + 1, 1, 2, 3], dtype="Int64")
    assert b'"identifier":"9007199254740993"' in b"".join(bodies(frame))


def test_amounts_of_a_frame_are_never_taken_for_thousands(tmp_path: Path) -> None:
    """1.234 as text may be 1234; as a number it is what it is, whatever the text columns are said to be."""
    frame = pandas_orders().assign(price=[1.234, 2.345, 3.456, 4.567, 5.678])
    for words in ({}, {"decimal": ","}):
        assert b'"price":1.234' in bodies(frame, **words)[0]


def test_mixed_and_strange_columns_are_read_as_text(tmp_path: Path) -> None:
    frame = pandas_orders()
    frame["identifier"] = [1001, "A-1", 1002.0, 2**70, b"x".decode()]
    frame.columns = [*frame.columns[:-1], 7]  # type: ignore[assignment]
    sent = b"".join(bodies(frame, renames={"total_items": "7"}))
    ids = re.findall(rb'"identifier":"([^"]*)"', sent)
    assert ids == [b"1001", b"A-1", b"1002", b"1180591620717411303424", b"x"]


@pytest.mark.parametrize(
    "export",
    [
        {"email": ["a@example.com"]},
        object(),
        pd.Series(["a@example.com"]),
        pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    ],
)
def test_what_is_no_table_is_refused_with_a_sentence(export: object) -> None:
    with pytest.raises(rd.JobError, match="no table") as caught:
        rd.check(rd.Job(exports=[export], event_type=TYPE))
    assert caught.value.exit_code == 2


def test_an_interrupted_run_of_a_frame_is_found_again(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows are the same input, whoever holds them; other rows are not."""
    monkeypatch.setenv("RD_IMPORT_TOKEN", "wrong")
    first = rd.run(
        rd.Job(exports=pandas_orders(), event_type=TYPE, audit_path=tmp_path / "a.parquet")
    )
    monkeypatch.setenv("RD_IMPORT_TOKEN", sandbox.token)
    second = rd.run(
        rd.Job(exports=pandas_orders(), event_type=TYPE, audit_path=tmp_path / "b.parquet")
    )
    assert (second.states, second.run_id == first.run_id) == ({"accepted": 5}, False)


def test_the_copy_of_a_frame_is_private_and_goes(tmp_path: Path) -> None:
    import contextlib

    with contextlib.ExitStack() as spool:
        copy = kept_frame(pandas_orders(), "frame-1", spool)
        assert copy.stat().st_mode & 0o077 == 0
    assert not copy.exists()


# --- the audit


def test_an_audit_is_a_pandas_frame(tmp_path: Path, sandbox: Sandbox) -> None:
    wrong = [*ORDERS[:4], ORDERS[4] | {"email": "nobody"}]
    result = rd.run(
        rd.Job(exports=pd.DataFrame(wrong), event_type=TYPE, audit_path=tmp_path / "a.parquet")
    )
    audit = rd.read_audit(tmp_path / "a.parquet")
    assert audit["state"].value_counts().to_dict() == result.states
    assert audit["row_number"].tolist() == [1, 2, 3, 4, 5]
    assert audit["http_status"].dtype == "Int32"
    assert audit.attrs["rd_import.scope"].startswith("sandbox ")
    with pytest.raises(rd.ExportError, match="no audit"):
        rd.read_audit(SAMPLE_DATA / "orders.parquet")


# --- schemas


def in_pandas(table: pl.DataFrame, event_type: EventType) -> pd.DataFrame:
    columns = {}
    for name in table.columns:
        spec = event_type.field(name)
        kind = spec.kind if spec else "text"
        columns[name] = pd.Series(table[name].to_list(), dtype=DTYPES[kind])
    return pd.DataFrame(columns)


def pandas_failures(event_type: EventType, rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    try:
        event_type.pandas_schema([str(name) for name in rows.columns]).validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        found = zip(cases["index"], cases["column"], cases["check"], strict=True)
        return sorted((int(row), column, failure_code(check)) for row, column, check in found)
    return []


GIVEN = {"ECOMMERCE_SHIPMENT_DELIVERED": {"order_identifier": "1001"}}
"""What no sample has a column for."""


@pytest.mark.parametrize("event_type", CURRENT_TYPES)
def test_both_schemas_fail_on_the_same_cells_of_all_samples(
    event_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sample file is read as each type, so that plenty is wrong."""
    compared: list[int] = []
    validates = importer.pipeline.validate

    def compare(numbered: Any, of: EventType) -> Any:
        table = numbered.kept.table
        asked = of.polars_schema(table.columns)
        absent = [name for name in asked.columns if name not in table.columns]
        table = table.with_columns(
            pl.lit(None, dtype=asked.columns[name].dtype.type).alias(name) for name in absent
        ).select(name for name in (*table.columns, *absent) if of.field(name))
        wrong = failures(of, table)
        assert pandas_failures(of, in_pandas(table, of)) == wrong
        compared.append(len(wrong))
        return validates(numbered, of)

    monkeypatch.setattr(importer.pipeline, "validate", compare)
    for path in sorted([*SAMPLE_DATA.glob("*.csv"), *SAMPLE_DATA.glob("flaws/*.csv")]):
        job = rd.Job(exports=str(path), event_type=event_type, constants=GIVEN.get(event_type, {}))
        try:
            rd.check(job)
        except rd.RdImportError:
            continue  # no table of this type: a column is missing, or the file is damaged
    assert compared


@pytest.mark.parametrize("event_type", EVENT_TYPES.values(), ids=lambda one: one.name)
def test_both_schemas_fail_on_every_rule(event_type: EventType) -> None:
    """One row per rule that a field has, broken; and a good one."""
    wrong: dict[str, Any] = {"text": "x" * 300, "integer": -(10**6), "number": -1e9}
    rows = [good_row(event_type)]
    for spec in event_type.fields:
        broken = {spec.column: wrong.get(spec.kind)}
        if spec.kind in {"text", "integer", "number"} or spec.required:
            rows.append(good_row(event_type) | broken)
        if spec.required_with:
            rows.append(good_row(event_type) | {spec.column: None})
    table = frame(event_type, rows)
    found = failures(event_type, table)
    assert found
    assert pandas_failures(event_type, in_pandas(table, event_type)) == found


def test_a_pandas_schema_takes_the_types_that_pandas_gives() -> None:
    """Whole numbers in floats, objects, plain strings: what `read_csv` and `read_sql` make."""
    sales = pd.DataFrame(
        {
            "email": pd.Series(["ana@example.com", "nobody"], dtype=object),
            "funnel_name": "default",
            "value": [10, -1],
        }
    )
    assert pandas_failures(EVENT_TYPES["SALE"], sales) == [
        (1, "email", "INVALID_EMAIL"),
        (1, "value", "BELOW_MINIMUM"),
    ]
    with pytest.raises(pandera.errors.SchemaErrors):
        rd.schema("SALE").validate(sales, lazy=True)
    with pytest.raises(rd.JobError, match="SOLD"):
        rd.schema("SOLD")


# --- the page


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    for name in ("orders.csv", "orders.parquet"):
        (tmp_path / name).write_bytes((SAMPLE_DATA / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    with Sandbox() as server:
        monkeypatch.setenv("RD_IMPORT_BASE_URL", server.url)
        monkeypatch.setenv("RD_IMPORT_TOKEN", server.token)
        exec(compile(code, "docs/python.md", "exec"), {})  # noqa: S102 -- our own page
        assert len(server.events()) == len({str(one.event) for one in server.events()}) > 0
    shown = capsys.readouterr().out
    assert "(1, 'email', 'INVALID_EMAIL')" in shown


def test_each_function_of_the_page_stands_beside_a_command_that_exists(rd_import: Command) -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    pairs = re.findall(r"^\| `rd-import ([^`]+)` \| `rd\.(\w+)\(", text, flags=re.MULTILINE)
    assert len(pairs) == 8
    for words, function in pairs:
        assert function in rd.__all__
        command = words.split(" ")[:2] if words.startswith("ledger") else words.split(" ")[:1]
        if not command[0].endswith(".csv"):
            assert rd_import(*command, "--help").code == 0
