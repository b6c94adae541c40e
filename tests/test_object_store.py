"""Inputs and audits in object stores: a real S3 server, and a web server."""

import functools
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

import rd_import as rd
from conftest import Command
from rd_import.sandbox import Behaviour, Sandbox
from rig import orders, save

pytestmark = pytest.mark.s3

TYPE = ("--type", "ECOMMERCE_ORDER_PLACED")
BUCKET = "exports"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket on an S3 server of this machine."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir(BUCKET)
    yield files
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def names(store: Any) -> list[str]:
    store.invalidate_cache()
    return sorted(name.rpartition("/")[2] for name in store.find(BUCKET))


def test_an_import_from_a_bucket_to_a_bucket(
    store: Any, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Two files by pattern, the audit and the rejected rows beside them; all that was open or temporary is gone."""
    for number in range(2):
        rows = orders(3, first=1 + 3 * number)
        rows[0] |= {"email": "nobody"}
        store.put(str(save(tmp_path / f"{number}.csv", rows)), f"{BUCKET}/in/{number}.csv")
    audit = f"s3://{BUCKET}/out/orders.audit.parquet"
    done = rd_import(f"s3://{BUCKET}/in/*.csv", *TYPE, "--json", "--audit", audit)
    assert done.code == 3, done
    assert done.json["states"] == {"accepted": 4, "invalid": 2}
    assert done.json["audit"] == audit
    assert names(store) == [
        "0.csv",
        "1.csv",
        "orders.1.rejected.csv",
        "orders.2.rejected.csv",
        "orders.audit.parquet",
        "orders.report.html",
    ]
    read = rd.read_audit(audit)
    assert set(read["source_file"]) == {f"s3://{BUCKET}/in/{number}.csv" for number in range(2)}
    assert read["state"].value_counts().to_dict() == {"accepted": 4, "invalid": 2}
    rejected = store.cat(done.json["rejected_file"][0].removeprefix("s3://")).decode()
    assert "nobody" in rejected
    assert list(tmp_path.glob("*.parquet*")) == []


def test_no_secret_and_no_person_stands_in_a_bucket(
    store: Any,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As talkative as it can be; of a person, the bucket holds the rejected rows alone."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-planted")
    rows = orders(2, email="ana.planted@example.com", name="Souza Planted")
    rows[1] |= {"price": "nothing"}
    store.put(str(save(tmp_path / "a.csv", rows)), f"{BUCKET}/in/a.csv")
    audit = f"s3://{BUCKET}/out/a.audit.parquet"
    for words in (
        (f"s3://{BUCKET}/in/a.csv", *TYPE, "--json", "-v", "--audit", audit),
        (f"s3://{BUCKET}/in/none.csv", *TYPE, "--json", "-v", "--audit", audit),
        ("check", "s3://nowhere/in/a.csv", *TYPE, "--json", "-v"),
        ("ledger", "check", audit, "--json", "-v"),
        ("ledger", "add", audit, "--json", "-v"),
    ):
        done = rd_import(*words)
        for secret in ("key-planted", sandbox.token, "ana.planted", "Souza"):
            assert secret not in done.out + done.err, (words, done)
    store.invalidate_cache()
    kept = store.find(f"{BUCKET}/out")
    assert len(kept) == 3
    for path in kept:
        text = store.cat(path)
        if text.startswith(b"PAR1"):
            facts = pq.read_metadata(io.BytesIO(text)).metadata
            text = repr((pq.read_table(io.BytesIO(text)).to_pylist(), facts)).encode()
        assert b"key-planted" not in text, path
        assert sandbox.token.encode() not in text, path
        assert (b"planted" in text) == path.endswith(".rejected.csv"), path


def test_an_audit_in_a_bucket_rebuilds_a_ledger(
    store: Any, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders(3))
    audit = f"s3://{BUCKET}/orders.audit.parquet"
    rd_import(file, *TYPE, "--json", "--audit", audit)
    other = ("--ledger", tmp_path / "other.db")
    assert rd_import("ledger", "add", audit, *other).code == 0
    again = rd_import(file, *TYPE, "--json", *other, "--audit", tmp_path / "b.parquet")
    assert again.json["states"] == {"already_accepted": 3}
    assert rd_import("ledger", "check", audit, *other).code == 0


def test_an_open_audit_stands_in_the_bucket_while_a_run_sends(
    store: Any, tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of this machine: what may have been sent is known from the bucket."""
    file = save(tmp_path / "orders.csv", orders(3))
    seen: list[list[str]] = []
    with Sandbox(behaviour=Behaviour(latency_ms=1)) as server:
        monkeypatch.setenv("RD_IMPORT_BASE_URL", server.url)
        monkeypatch.setenv("RD_IMPORT_TOKEN", server.token)
        from rd_import.service import RdStation

        posts = RdStation.post

        def post(service: RdStation, *words: Any) -> Any:
            seen.append(names(store))
            return posts(service, *words)

        monkeypatch.setattr(RdStation, "post", post)
        done = rd_import(file, *TYPE, "--json", "--audit", f"s3://{BUCKET}/a.parquet")
    assert done.code == 0
    assert seen == [["a.parquet.open"]]
    assert names(store) == ["a.parquet", "a.report.html"]


def test_a_bucket_that_is_not_there_stops_the_run_before_anything_is_sent(
    store: Any, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    file = save(tmp_path / "orders.csv", orders(3))
    done = rd_import(file, *TYPE, "--json", "--audit", "s3://nowhere/a.parquet")
    assert done.code == 2
    assert "s3://nowhere/a.parquet" in done.err
    assert rd_import("s3://nowhere/a.csv", *TYPE).code == 2
    assert sandbox.requests() == []


def test_a_file_of_a_web_server_is_read(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    save(tmp_path / "orders.csv", orders(3))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/orders.csv"
        audit = tmp_path / "a.parquet"
        done = rd_import(address, *TYPE, "--json", "--audit", audit)
        server.shutdown()
    assert done.code == 0, done
    assert done.json["states"] == {"accepted": 3}
