"""Spark in earnest: a local cluster of two executors gives the bytes that one machine gives, and sends them once."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

import rd_import as rd
from command_line import ROOT
from rd_import import importer
from rd_import.sandbox import Sandbox

pytestmark = pytest.mark.spark

SCRIPT = ROOT / "examples" / "spark" / "import_orders.py"
ROWS = 100_000
TYPE = "ECOMMERCE_ORDER_PLACED"


def lake(rows: int) -> pl.DataFrame:
    """Orders of one to four items whose rows lie far apart, in mixed letters; every 1,000th is flawed."""
    number = pl.int_range(rows, dtype=pl.Int64)
    order = number * 7919 % (rows * 2 // 5)
    return pl.select(order=order, number=number).select(
        pl.format("c{}@Example.com", pl.col("order") % 5_000).alias("email"),
        pl.format("N-{}", "order").alias("identifier"),
        pl.when(pl.col("order") % 1_000 == 7)
        .then(pl.lit("XYZ"))
        .otherwise(pl.lit("BRL"))
        .alias("currency"),
        (pl.col("order") % 977 + 0.25).alias("price"),
        pl.lit(3).alias("total_items"),
        pl.format("P-{}", "number").alias("line_items.product_id"),
        pl.format("Camiseta nº {}", "number").alias("line_items.product_title"),
        (pl.col("number") % 311 + 0.5).alias("line_items.price"),
        (pl.col("number") % 3 + 1).alias("line_items.quantity"),
    )


def submit(*words: object, folder: Path, **env: str) -> None:
    """Run the script as `spark-submit` does, on a master and two workers in processes of their own."""
    settings = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.executor.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
    }
    options = [word for name, one in settings.items() for word in ("--conf", f"{name}={one}")]
    path = os.pathsep.join([*sys.path[:0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [Path(sys.executable).parent / "spark-submit", *options, SCRIPT, *map(str, words)],
        env=os.environ
        | {
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(folder / "spark"),
            "SPARK_WORKER_DIR": str(folder / "work"),
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "ignore",
        }
        | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


def test_a_cluster_prepares_what_one_machine_prepares_and_sends_it_once(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are the same and so are the keys: what the cluster sent, the machine takes for sent."""
    rows = lake(ROWS)
    (tmp_path / "orders").mkdir()
    for part in range(4):  # as a lake holds it: several files, in order
        rows.slice(part * ROWS // 4, ROWS // 4).write_parquet(tmp_path / f"orders/{part}.parquet")
    rows.write_parquet(tmp_path / "orders.parquet")
    job = rd.Job(
        exports=str(tmp_path / "orders.parquet"),
        event_type=TYPE,
        ledger=postgres,
        audit_path=tmp_path / "audit.parquet",
    )
    folder = importer.pipeline.prepare(job, importer.SystemClock())
    wanted = [one for events in folder.bodies() for one in events.to_dicts()]
    flawed = pl.concat(folder.problems()).filter(pl.col("fatal"))
    folder.remove()
    assert len(wanted) == 40_000 - 40

    with Sandbox() as server:
        monkeypatch.setenv("RD_IMPORT_BASE_URL", server.url)
        monkeypatch.setenv("RD_IMPORT_TOKEN", server.token)
        submit(tmp_path / "orders", TYPE, tmp_path / "out", postgres, folder=tmp_path)

        found = pq.read_table(tmp_path / "out" / "bodies").to_pylist()
        for name in ("event_key", "payload_sha256", "body"):
            assert sorted(one[name] for one in found) == sorted(one[name] for one in wanted)
        bodies = {one["event_key"]: one["body"] for one in wanted}
        assert {one["event_key"]: one["body"] for one in found} == bodies
        rejected = pq.read_table(tmp_path / "out" / "rejections").to_pylist()
        assert Counter(one["code"] for one in rejected) == Counter(flawed["code"].to_list())
        assert {one["value"] for one in rejected} == {"XYZ"}
        assert len({one["position"] for one in rejected}) == len(rejected) == flawed.height

        sent = pq.read_table(tmp_path / "out" / "sent").to_pylist()
        assert Counter(one["state"] for one in sent) == {"accepted": len(wanted)}
        stored = [one.event_uuid for one in server.events()]
        assert sorted(one["event_uuid"] for one in sent) == sorted(stored)
        assert len(stored) == len(wanted)
        states = rd.run(job).states
        assert states == {
            "already_accepted": ROWS - states["invalid"],
            "invalid": states["invalid"],
        }
        assert len(server.events()) == len(wanted)
