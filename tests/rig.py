"""What tests of the promise share: jobs as files, time that passes when nobody waits, and the promise itself."""

import csv
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

from rd_import.exchange import ThreadedExchange
from rd_import.outcome import Observation
from rd_import.sandbox import Sandbox

START: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
TYPE: Final = ("--type", "ECOMMERCE_ORDER_PLACED")
SMALLEST_MAX_BODY: Final = 1_000

Row = dict[str, Any]


class FakeTime:
    """The time of importer and sandbox alike: it passes only where the importer would sleep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moment = START

    def now(self) -> datetime:
        with self._lock:
            return self._moment

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._moment += timedelta(seconds=max(0.0, seconds))

    @property
    def passed_s(self) -> float:
        return (self.now() - START).total_seconds()


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Let the importer's clock jump where it would only sleep; answers under way are waited for really."""
    clock = FakeTime()
    wait_really = ThreadedExchange.wait

    def wait(exchange: ThreadedExchange, seconds: float) -> list[tuple[int, Observation]]:
        if exchange._waiting == 0:
            clock.advance(seconds)
            return []
        return wait_really(exchange, seconds)

    monkeypatch.setattr(ThreadedExchange, "wait", wait)
    monkeypatch.setattr("rd_import.importer.SystemClock", lambda: clock)
    return clock


def point_at(server: Sandbox, monkeypatch: pytest.MonkeyPatch, *, renews: bool = False) -> None:
    """Set the environment that names a sandbox, and what renews its token if asked for."""
    monkeypatch.setenv("RD_IMPORT_BASE_URL", server.url)
    monkeypatch.setenv("RD_IMPORT_TOKEN", server.token)
    if renews:
        monkeypatch.setenv("RD_IMPORT_CLIENT_ID", server.client_id)
        monkeypatch.setenv("RD_IMPORT_CLIENT_SECRET", server.client_secret)
        monkeypatch.setenv("RD_IMPORT_REFRESH_TOKEN", server.refresh_token)


# --- jobs


def save(path: Path, rows: Sequence[Row], delimiter: str = ",") -> Path:
    """Write a CSV of these rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def orders(count: int, first: int = 1, **changes: Any) -> list[Row]:
    """Orders `first`, `first` + 1, … of a contact each."""
    fixed = {"currency": "BRL", "price": "349.90", "total_items": "1"}
    return [
        {"email": f"c{number:06}@example.com", "identifier": f"{number:06}", **fixed, **changes}
        for number in range(first, first + count)
    ]


def sized(
    rows: Sequence[Row], per_request: int | None, event_type: str
) -> tuple[list[Row], list[str]]:
    """Make all events of these rows as long as each other; give also the option that so many fit."""
    length = max(260, SMALLEST_MAX_BODY // (per_request or SMALLEST_MAX_BODY))
    pad = "cf_pad" if event_type == "CONVERSION" else "name"
    made = []
    for row in rows:
        event = {"event_type": event_type, "event_family": "CDP", "payload": row | {pad: ""}}
        short = len(json.dumps(event, separators=(",", ":"))) - 4 * ("price" in row)
        made.append(row | {pad: "x" * (length - short)})
    if per_request is None:
        return made, []
    return made, ["--max-body", str(per_request * (length + 1) + 1)]


def job(path: Path, count: int, per_request: int | None = None, **changes: Any) -> list[str]:
    """Write a file of orders, so many to a request; give the words of its import."""
    rows, options = sized(orders(count, **changes), per_request, TYPE[1])
    return [str(save(path, rows)), *TYPE, "--json", *options]


# --- the promise


def number_of(event: Mapping[str, Any]) -> int:
    """Give the number that an order or conversion of ours bears."""
    payload = event["payload"]
    return int(payload.get("identifier") or payload["conversion_identifier"])


def registered(server: Sandbox, *, since: int = 0) -> Counter[int]:
    """Count how often each event of ours stands on the server."""
    return Counter(number_of(one.event) for one in server.events()[since:])


def broken_promises(
    server: Sandbox, audits: Iterable[Path], *, copies: Mapping[int, int] | None = None
) -> list[str]:
    """Name what the promise forbids, over the newest audit that knows each row's event.

    What is accepted stands there, and what stands there is accepted or unknown; uuids belong to their
    events; nothing stands twice, unless `copies` allows.
    """
    states: dict[int, str] = {}
    uuids: dict[int, str] = {}
    for path in audits:
        for row in pq.read_table(path).to_pylist():
            number = int(row["identifier"] or row["row_number"])
            states[number] = row["state"]
            if row["event_uuid"]:
                uuids[number] = row["event_uuid"]
    found = []
    by_uuid = {one.event_uuid: number_of(one.event) for one in server.events()}
    for number, uuid in uuids.items():
        if by_uuid.get(uuid) != number:
            found.append(f"{number} has the uuid of {by_uuid.get(uuid)}")
    for number, count in registered(server).items():
        if count > (copies or {}).get(number, 1):
            found.append(f"{number} stands on the server {count} times")
        if number not in uuids and states.get(number) != "unknown":
            found.append(f"{number} stands on the server and is {states.get(number)}")
    for number, state in states.items():
        if state in {"accepted", "already_accepted"} and number not in uuids:
            found.append(f"{number} is {state} without a uuid")
    return found


def statuses(server: Sandbox) -> Counter[int]:
    """Count requests by the status that they were answered."""
    return Counter(one.status for one in server.requests())
