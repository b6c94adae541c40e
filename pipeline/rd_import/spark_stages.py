"""Spark: the first half of an import on a cluster, its second half through few paced senders.

`prepare` runs the very stages that one machine runs, on each partition, after rows of one event were brought together.
`send` hands the bodies to a few tasks, which share ledger and pace of the account.

A script for `spark-submit` is `examples/spark/import_orders.py`.
"""

import hmac
import itertools
import json
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from rd_import import pipeline
from rd_import.errors import NothingSent
from rd_import.importer import SystemClock, open_session
from rd_import.job import Delivery, Job
from rd_import.key_line import KeyLine, Lost
from rd_import.ledger import Ledger
from rd_import.pace import Speed
from rd_import.plan import Decisions, hinders
from rd_import.send import Rules, Sender
from rd_import.settle import column_of_an_event
from rd_import.values import ROW, PlannedEvent
from rd_import.watcher import SILENT
from rdstation_events import EVENT_TYPES
from rdstation_events.event_type import EventType

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

POSITION: Final = "rd_import_position"
FILE: Final = "rd_import_file"
PREPARED: Final = pa.schema(
    [
        ("kind", pa.string()),  # event, rejection, finding
        ("event_type", pa.string()),
        ("event_key", pa.binary()),
        ("payload_sha256", pa.binary()),
        ("email", pa.string()),
        ("source_timestamp", pa.timestamp("us", tz="UTC")),
        ("body", pa.binary()),
        ("position", pa.int64()),  # of the row in the frame, as Spark counts; of rejections
        ("code", pa.string()),
        ("field", pa.string()),
        ("value", pa.string()),
        ("finding", pa.string()),  # what was found out about a column, as JSON
    ]
)
SENT: Final = pa.schema(
    [
        ("event_key", pa.binary()),
        ("state", pa.string()),
        ("event_uuid", pa.string()),
        ("stopped_by", pa.string()),
    ]
)
BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a frame came to. Spark computes it when it is first needed, so persist `table` before it is used twice."""

    table: "DataFrame"
    event_type: str

    @property
    def bodies(self) -> "DataFrame":
        """Give the events: `event_key`, `payload_sha256`, `email`, `source_timestamp` and `body`, the JSON."""
        events = self.table.where("kind = 'event'")
        return events.select("event_key", "payload_sha256", "email", "source_timestamp", "body")

    @property
    def rejections(self) -> "DataFrame":
        """Give the flaws of rows that do not go: `position`, `code`, `field` and `value`."""
        return self.table.where("kind = 'rejection'").select("position", "code", "field", "value")

    def refuse_doubts(self) -> None:
        """Make sure that all partitions read amounts and dates alike.

        Raises:
            NothingSent: What a cell means is open, or partitions see it differently: name `decimal` or `dates`.
        """
        found = [json.loads(row.finding) for row in self.table.where("kind = 'finding'").collect()]
        values: dict[tuple[str, str], set[str]] = {}
        for one in found:
            values.setdefault((one["what"], one["column"]), set()).add(one["value"])
        doubtful = [
            one
            for one in found
            if one["confidence"] == "open" or len(values[one["what"], one["column"]]) > 1
        ]
        if doubtful:
            raise NothingSent("open_questions", questions=doubtful[:1])


def prepare(df: "DataFrame", event_type: str, **words: Any) -> Prepared:
    """Match, validate, map and encode a frame on the cluster.

    Args:
        df: Rows of an export; text columns, or typed ones as in Parquet.
        event_type: Their event type.
        words: What `Job` takes besides: `mapping`, `renames`, `constants`, `decimal`, `dates`, `timezone`, `key`.

    Raises:
        JobError: The type or a column that is named does not exist.
    """
    from pyspark.sql import functions as f

    job = Job(exports="-", event_type=event_type, **words)
    together = _column_of_an_event(df, job)
    # Spark numbers the largest file's rows first, so the file's name comes before the number.
    numbered = df.withColumn(FILE, f.input_file_name()).withColumn(
        POSITION, f.monotonically_increasing_id()
    )
    if together is None:
        placed = numbered.repartition(1)
    else:  # equal ids in other letters are one id still
        placed = numbered.repartition(f.lower(f.trim(f.col(f"`{together}`").cast("string"))))
    ordered = placed.sortWithinPartitions(FILE, POSITION).drop(FILE)  # items stay in order
    # Spark reads a dot in a column's name as a step into a structure, so names travel apart.
    plain = ordered.toDF(*[f"c{place}" for place in range(len(ordered.columns))])
    table = plain.mapInArrow(_preparing(job, tuple(ordered.columns)), _ddl(PREPARED))
    return Prepared(table, event_type)


def send(prepared: Prepared, delivery: Delivery, *, senders: int = 2) -> "DataFrame":
    """Send bodies through a few tasks; give each event's key, state and uuid.

    The tasks share the account's slots and claims in the ledger, which must be PostgreSQL where the cluster has more
    than one machine. More senders do not send faster than the account may.

    Args:
        prepared: What `prepare` gave.
        delivery: Account, ledger and pace; credentials travel to the workers with it.
        senders: Tasks that send.

    Raises:
        NothingSent: What a cell means is open.
    """
    prepared.refuse_doubts()
    run = f"spark-{secrets.token_hex(8)}"
    # A repartition, not a coalesce, which would have so few tasks prepare as well.
    bodies = prepared.bodies.repartition(senders, "email")
    return bodies.mapInArrow(_sending(delivery, prepared.event_type, run), _ddl(SENT))


# --- on the workers


def _preparing(
    job: Job, names: tuple[str, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        named = (batch.rename_columns(list(names)) for batch in batches)
        first = next(named, None)
        if first is None:
            return
        with tempfile.TemporaryDirectory(prefix="rd-import-") as name:
            yield from _prepared(job, first, named, Path(name))

    return run


def _prepared(
    job: Job, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch], place: Path
) -> Iterator[pa.RecordBatch]:
    """Run the first half on one partition, and give what stands in its run folder."""
    positions: list[pa.Array] = []
    columns = [name for name in first.schema.names if name != POSITION]

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in itertools.chain([first], rest):
            positions.append(batch.column(POSITION))
            yield batch.select(columns)

    reader = pa.RecordBatchReader.from_batches(first.select(columns).schema, rows())
    folder = pipeline.prepare(replace(job, exports=reader, run_dir=place), SystemClock())
    for events in folder.bodies():
        names = ("event_type", "event_key", "payload_sha256", "email", "source_timestamp", "body")
        known = [one for one in names if one in events.columns]
        yield from _batches("event", events.select(known), job)
    at = pa.chunked_array(positions, pa.int64()).to_numpy()
    for flaws in folder.problems():
        fatal = flaws.filter(pl.col("fatal"))
        where = pl.Series("position", at[fatal[ROW].to_numpy()], dtype=pl.Int64)
        yield from _batches(
            "rejection", fatal.select("code", "field", "value").with_columns(where), job
        )
    findings = [
        json.dumps(one)
        for export in folder.facts["exports"]
        for one in export["findings"]
        if one["column"] is not None
    ]
    yield from _batches(
        "finding", pl.DataFrame({"finding": findings}, schema={"finding": pl.String}), job
    )


def _batches(kind: str, table: pl.DataFrame, job: Job) -> Iterator[pa.RecordBatch]:
    """Give rows in the schema of what is prepared, absent columns as nulls."""
    known = {name: table[name].to_arrow() for name in table.columns}
    known["kind"] = pa.array([kind] * table.height, pa.string())
    if kind == "event" and "event_type" not in known:
        known["event_type"] = pa.array([job.event_type] * table.height, pa.string())
    columns = [
        known[one.name].cast(one.type) if one.name in known else pa.nulls(table.height, one.type)
        for one in PREPARED
    ]
    yield from pa.Table.from_arrays(columns, schema=PREPARED).to_batches(max_chunksize=BATCH)


def _sending(
    delivery: Delivery, event_type: str, run: str
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def start(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = list(batches)
        if not mine:
            return
        table = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(mine).cast(BODIES)))
        with open_session(delivery, SILENT) as session:
            yield from _sent(delivery, EVENT_TYPES[event_type], run, session, table)

    return start


BODIES: Final = pa.schema(
    [
        PREPARED.field(one)
        for one in ("event_key", "payload_sha256", "email", "source_timestamp", "body")
    ]
)


def _sent(
    delivery: Delivery, event_type: EventType, run: str, session: Any, table: pl.DataFrame
) -> Iterator[pa.RecordBatch]:
    clock = SystemClock()
    ledger, account = session.ledger, session.number
    process = secrets.token_hex(8)
    mine = f"{run}-{process[:4]}"  # a run has one live process
    ledger.start_process(process, mine, now=clock.now())
    sender = Sender(
        ledger=ledger,
        exchange=session.exchange,
        account=account,
        run=mine,
        process=process,
        clock=clock,
        pace=Speed.of(plan=delivery.plan, rate=delivery.rate).pace(session.account),
        max_body=ledger.facts(account).max_body or Job(exports="-").max_body,
        rules=Rules(
            policy=delivery.policy,
            max_unknown=delivery.max_unknown,
            refused_allowed=delivery.max_refused_allows,
            creates_contacts=event_type.creates_contact,
            needs_contacts=event_type.needs_contact,
            ecommerce=event_type.family == "ecommerce",
        ),
    )
    sending = sender.send(_planned(table, ledger, account, delivery))
    ledger.end_process(process)
    for start in range(0, table.height, BATCH):
        part = table.slice(start, BATCH)
        lines = ledger.lines(account, part["event_key"].to_list())
        states = [
            (key, *_state(lines.get(key, KeyLine()), sha), sending.stopped_by)
            for key, sha in part.select("event_key", "payload_sha256").iter_rows()
        ]
        arrays = [
            pa.array(list(one), field.type)
            for one, field in zip(zip(*states, strict=True), SENT, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=SENT)


def _planned(
    table: pl.DataFrame, ledger: Ledger, account: int, delivery: Delivery
) -> Iterator[PlannedEvent]:
    """Give the events that may go, as the ledger stands."""
    for start in range(0, table.height, BATCH):
        part = table.slice(start, BATCH)
        lines = ledger.lines(account, part["event_key"].to_list())
        now = SystemClock().now()
        for place, (key, sha, email, moment, body) in enumerate(part.iter_rows()):
            contact = hmac.digest(ledger.secret, email.encode(), "sha256")
            reason = hinders(
                lines.get(key),
                sha,
                contact,
                moment,
                now=now,
                policy=delivery.policy,
                decisions=Decisions(),
            )
            if reason in {None, Lost.SENT}:
                yield PlannedEvent(start + place, key, sha, contact, body)


def _state(line: KeyLine, sha: bytes) -> tuple[str, str | None]:
    uuid = line.uuid_of(sha)
    if uuid is not None:
        return "accepted", uuid
    if line.request is not None or line.doubt:
        return "unknown", None
    if line.accepted:
        return "changed", None
    return (line.why if line.why in {"refused", "deferred"} else "not_sent"), None


# --- on the driver


def _column_of_an_event(df: "DataFrame", job: Job) -> str | None:
    """Name the column whose equal values must meet in one partition."""
    empty = pa.table({name: pa.array([], pa.string()) for name in df.columns})
    return column_of_an_event(replace(job, exports=empty))


def _ddl(schema: pa.Schema) -> str:
    kinds = {pa.string(): "string", pa.binary(): "binary", pa.int64(): "bigint"}
    return ", ".join(f"{one.name} {kinds.get(one.type, 'timestamp')}" for one in schema)
