"""The durable memory: one line per event key, one per request, per account what must be shared between runs.

Every claim is durable before the first byte of its request leaves, every outcome before anything else is done.
SQLite in WAL mode with `synchronous=FULL`; never on a network file system. What a transition means is decided by
`key_line`; this module only makes it atomic and durable.
"""

import contextlib
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite

from rd_import.errors import LedgerError
from rd_import.key_line import Fact, KeyLine, Lost
from rd_import.outcome import ApiError
from rd_import.run_folder import private_folder
from rd_import.values import PlannedEvent

SCHEMA_VERSION: Final = 1
LOOKUP_KEYS: Final = 500  # keys of one SELECT; SQLite takes at least 999 parameters

metadata = sa.MetaData()
meta = sa.Table("meta", metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Text, nullable=False, unique=True),  # endpoint and label, or a sandbox's instance
    sa.Column("next_slot_us", sa.BigInteger, nullable=False, default=0),  # when the next request may go
    sa.Column("max_body", sa.Integer),  # learnt from a 413, bytes
    sa.Column("max_per_contact", sa.Integer),  # learnt from a 429, events a day
)
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("account", sa.Integer, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("input_sha256", sa.Text, nullable=False),
    sa.Column("audit_path", sa.Text, nullable=False),
    sa.Column("started_us", sa.BigInteger, nullable=False),
    sa.Column("finished_us", sa.BigInteger),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request", sa.Text, primary_key=True),
    sa.Column("account", sa.Integer, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("process", sa.Text, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # sent, answered, unknown
    sa.Column("outcome", sa.Text),
    sa.Column("proof", sa.Text),
    sa.Column("http_status", sa.Integer),
    sa.Column("batch_uuid", sa.Text),
    sa.Column("body_bytes", sa.Integer, nullable=False),
    sa.Column("event_keys", sa.LargeBinary, nullable=False),  # 32 bytes each, in body order
    sa.Column("ordinals", sa.LargeBinary, nullable=False),  # the run's event ordinals, 4 bytes each, in body order
    sa.Column("marked_us", sa.BigInteger, nullable=False),
    sa.Column("answered_us", sa.BigInteger),
    sa.Index("requests_by_run", "run", "marked_us"),
    sa.Index("requests_in_flight", "account", sqlite_where=sa.text("state = 'sent'")),
)
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("request", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("account", sa.Integer, primary_key=True),
    sa.Column("event_key", sa.LargeBinary, primary_key=True),
    sa.Column("request", sa.Text),
    sa.Column("sent_sha", sa.LargeBinary),
    sa.Column("accepted", sa.Text),  # a line `sha uuid` per accepted content
    sa.Column("doubt", sa.Text),  # a line `sha request` per content in doubt
    sa.Column("resend_sha", sa.LargeBinary),
    sa.Column("resend_by", sa.Text),
    sa.Column("resend_why", sa.Text),
    sa.Column("held", sa.Text),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("not_before_us", sa.BigInteger),
    sa.Column("contact", sa.LargeBinary),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Who sends a request: written durably before its first byte leaves."""

    request: str
    account: int
    run: str
    process: str
    batch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim won, in body order, and why the other keys were lost."""

    won: tuple[PlannedEvent, ...]
    lost: Mapping[bytes, Lost]


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request of a run, as recorded."""

    request: str
    batch: int
    state: str
    outcome: str | None
    proof: str | None
    http_status: int | None
    batch_uuid: str | None
    body_bytes: int
    ordinals: bytes
    marked_at: datetime
    answered_at: datetime | None


def to_us(moment: datetime) -> int:
    """Give a moment as microseconds since 1970, UTC."""
    return round(moment.timestamp() * 1_000_000)


def from_us(us: int | None) -> datetime | None:
    """Give the moment of microseconds since 1970, UTC."""
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC)


class Ledger:
    """An open ledger. Use `Ledger.open`."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._engine = engine
        self.path = path
        with self._reading() as connection:
            facts = dict(connection.execute(sa.select(meta.c.name, meta.c.value)).all())
        if int(facts.get("schema_version", 0)) != SCHEMA_VERSION:
            raise LedgerError("ledger_of_other_version", path=path, version=facts.get("schema_version"))
        self.ledger_id = facts["ledger_id"]
        self.secret = bytes.fromhex(facts["secret"])

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a ledger, making a new one where there is none.

        Raises:
            LedgerError: The file is no ledger, damaged, locked, or cannot be written.
        """
        private_folder(path.parent)
        new = not path.exists()
        if new:
            path.touch(mode=0o600)
        elif stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "isolation_level": None})
        event.listen(engine, "connect", _prepare_connection)
        event.listen(engine, "begin", _begin)
        with _clear_errors(path):
            with engine.begin() as connection:
                metadata.create_all(connection)
                _write_facts(connection)
            return cls(engine, path)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def account(self, scope: str) -> int:
        """Give the number of an account, from now on known."""
        with self._writing() as connection:
            connection.execute(sqlite.insert(accounts).values(scope=scope).on_conflict_do_nothing())
            return int(connection.execute(sa.select(accounts.c.account).where(accounts.c.scope == scope)).scalar_one())

    def known_account(self, scope: str) -> int | None:
        """Give the number of an account that was used before."""
        with self._reading() as connection:
            return connection.execute(sa.select(accounts.c.account).where(accounts.c.scope == scope)).scalar()

    def learnt_max_body(self, account: int) -> int | None:
        """Give the body size that this account was found to take."""
        with self._reading() as connection:
            query = sa.select(accounts.c.max_body).where(accounts.c.account == account)
            return connection.execute(query).scalar()

    def learn_max_body(self, account: int, max_body: int) -> None:
        """Remember that larger bodies were refused."""
        with self._writing() as connection:
            connection.execute(sa.update(accounts).where(accounts.c.account == account).values(max_body=max_body))

    def take_slot(self, account: int, *, now: datetime, interval_s: float) -> datetime:
        """Reserve the account's next free moment, shared by every run on this ledger, and give it."""
        with self._writing() as connection:
            query = sa.select(accounts.c.next_slot_us).where(accounts.c.account == account)
            slot = max(to_us(now), int(connection.execute(query).scalar_one()))
            later = slot + round(interval_s * 1_000_000)
            connection.execute(sa.update(accounts).where(accounts.c.account == account).values(next_slot_us=later))
        moment = from_us(slot)
        assert moment is not None  # noqa: S101 -- from_us gives None for None only
        return moment

    def begin_run(self, run: str, *, account: int, event_type: str, input_sha256: str, audit_path: Path, now: datetime) -> None:
        """Write down that a run starts to send."""
        with self._writing() as connection:
            connection.execute(
                sa.insert(runs).values(
                    run=run,
                    account=account,
                    event_type=event_type,
                    input_sha256=input_sha256,
                    audit_path=str(audit_path),
                    started_us=to_us(now),
                )
            )

    def finish_run(self, run: str, now: datetime) -> None:
        """Write down that a run's audit stands."""
        with self._writing() as connection:
            connection.execute(sa.update(runs).where(runs.c.run == run).values(finished_us=to_us(now)))

    def lines(self, account: int, wanted: Sequence[bytes]) -> dict[bytes, KeyLine]:
        """Look keys up; unknown ones are absent from the answer."""
        with self._reading() as connection:
            return _read_lines(connection, account, wanted)

    def claim(self, mark: Mark, events: Sequence[PlannedEvent], *, now: datetime, body_overhead: int = 1) -> Claim:
        """Mark a request as sent and take its keys, in one durable transaction.

        Keys that may not go are cut; where none is left, nothing is written.
        """
        with self._writing() as connection:
            lines = _read_lines(connection, mark.account, [one.key for one in events])
            won: list[PlannedEvent] = []
            lost: dict[bytes, Lost] = {}
            for one in events:
                reason = lines.get(one.key, KeyLine()).may_claim(one.sha, now)
                if reason is None:
                    won.append(one)
                else:
                    lost[one.key] = reason
            if won:
                connection.execute(sa.insert(requests).values(_request_values(mark, won, now, body_overhead)))
                new = [one for one in won if one.key not in lines]
                _insert_claimed(connection, mark, new)
                known = [(one.key, lines[one.key].claimed(mark.request, one.sha)) for one in won if one.key in lines]
                _write_lines(connection, mark.account, known)
        return Claim(tuple(won), lost)

    def record_accepted(
        self, mark: Mark, events: Sequence[PlannedEvent], uuids: Sequence[str], *, batch_uuid: str | None, proof: str, now: datetime
    ) -> None:
        """Record one uuid per event, in body order."""
        with self._writing() as connection:
            pairs = list(zip(events, uuids, strict=True))
            if not _accept_plain(connection, mark, pairs):
                lines = _read_lines(connection, mark.account, [one.key for one in events])
                after = [(one.key, lines[one.key].was_accepted(mark.request, one.sha, uuid)) for one, uuid in pairs]
                _write_lines(connection, mark.account, after)
            _close_request(connection, mark, "accepted", proof, 200, now, batch_uuid=batch_uuid)

    def record_released(
        self, mark: Mark, events: Sequence[PlannedEvent], *, outcome: str, proof: str, http_status: int | None, now: datetime
    ) -> None:
        """Record that none of a request's events was accepted; they may be claimed again."""
        with self._writing() as connection:
            lines = _read_lines(connection, mark.account, [one.key for one in events])
            after = [(one.key, lines[one.key].was_released(mark.request)) for one in events]
            _write_lines(connection, mark.account, after)
            _close_request(connection, mark, outcome, proof, http_status, now)

    def record_refused(
        self,
        mark: Mark,
        events: Sequence[PlannedEvent],
        errors: Mapping[int, ApiError],
        *,
        proof: str,
        http_status: int | None,
        now: datetime,
    ) -> None:
        """Record the events that RD Station named as refused; the others are released."""
        with self._writing() as connection:
            lines = _read_lines(connection, mark.account, [one.key for one in events])
            after = []
            for position, one in enumerate(events):
                line = lines[one.key]
                after.append(
                    (one.key, line.was_refused(mark.request) if position in errors else line.was_released(mark.request))
                )
            _write_lines(connection, mark.account, after)
            connection.execute(
                sa.insert(refusals),
                [
                    {"request": mark.request, "position": at, "code": error.code, "path": error.path, "message": error.message}
                    for at, error in errors.items()
                ],
            )
            _close_request(connection, mark, "refused", proof, http_status, now)

    def record_deferred(
        self, mark: Mark, events: Sequence[PlannedEvent], *, not_before: datetime, proof: str, now: datetime
    ) -> None:
        """Record that a contact's limit holds these events back until then."""
        with self._writing() as connection:
            lines = _read_lines(connection, mark.account, [one.key for one in events])
            after = [(one.key, lines[one.key].was_deferred(mark.request, not_before)) for one in events]
            _write_lines(connection, mark.account, after)
            _close_request(connection, mark, "deferred", proof, 429, now)

    def record_unknown(self, mark: Mark, *, proof: str, http_status: int | None, now: datetime) -> None:
        """Record that nothing tells whether a request was registered: its keys are in doubt."""
        with self._writing() as connection:
            self._doubt(connection, mark.account, mark.request)
            _close_request(connection, mark, "unknown", proof, http_status, now, state="unknown")

    def reap_run(self, run: str, account: int, *, process: str, now: datetime) -> int:
        """Put in doubt what an earlier, ended process of the same run was sending; give how many requests."""
        with self._writing() as connection:
            query = sa.select(requests.c.request, requests.c.batch).where(
                requests.c.run == run, requests.c.state == "sent", requests.c.process != process
            )
            dead = connection.execute(query).all()
            for request, batch in dead:
                self._doubt(connection, account, request)
                mark = Mark(request, account, run, process, batch)
                _close_request(connection, mark, "unknown", "its process ended before the answer", None, now, state="unknown")
        return len(dead)

    def requests_of(self, run: str) -> Iterator[RequestLine]:
        """Give a run's requests in the order in which they were marked."""
        query = sa.select(requests).where(requests.c.run == run).order_by(requests.c.marked_us, requests.c.request)
        with self._reading() as connection:
            for row in connection.execute(query):
                yield RequestLine(
                    row.request,
                    row.batch,
                    row.state,
                    row.outcome,
                    row.proof,
                    row.http_status,
                    row.batch_uuid,
                    row.body_bytes,
                    row.ordinals,
                    _known(from_us(row.marked_us)),
                    from_us(row.answered_us),
                )

    def refusals_of(self, run: str) -> dict[tuple[str, int], ApiError]:
        """Give the errors of a run by request and position in its body."""
        query = (
            sa.select(refusals).join(requests, requests.c.request == refusals.c.request).where(requests.c.run == run)
        )
        with self._reading() as connection:
            return {
                (row.request, row.position): ApiError(row.code, row.message, row.path)
                for row in connection.execute(query)
            }

    def _doubt(self, connection: sa.Connection, account: int, request: str) -> None:
        held = connection.execute(sa.select(requests.c.event_keys).where(requests.c.request == request)).scalar_one()
        wanted = [held[at : at + 32] for at in range(0, len(held), 32)]
        lines = _read_lines(connection, account, wanted)
        _write_lines(connection, account, [(key, lines[key].was_lost(request)) for key in wanted])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with _clear_errors(self.path), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _clear_errors(self.path), self._engine.connect().execution_options(reads=True) as connection:
            yield connection


def _prepare_connection(connection: Any, _record: object) -> None:  # noqa: ANN401 -- sqlite3.Connection
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A writer takes the lock at once: a claim looks and writes, and nobody may write in between.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _write_facts(connection: sa.Connection) -> None:
    facts = {
        "schema_version": str(SCHEMA_VERSION),
        "ledger_id": secrets.token_hex(16),
        "secret": secrets.token_hex(32),
    }
    connection.execute(
        sqlite.insert(meta).on_conflict_do_nothing(), [{"name": name, "value": value} for name, value in facts.items()]
    )


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sa.exc.DatabaseError as error:
        reason = str(error.orig).strip()
        key = "ledger_locked" if "locked" in reason else "ledger_unusable"
        raise LedgerError(key, path=path, reason=reason) from error
    except OSError as error:
        raise LedgerError("ledger_unusable", path=path, reason=error.strerror or str(error)) from error


def _request_values(mark: Mark, won: Sequence[PlannedEvent], now: datetime, overhead: int) -> dict[str, Any]:
    return {
        "request": mark.request,
        "account": mark.account,
        "run": mark.run,
        "process": mark.process,
        "batch": mark.batch,
        "state": "sent",
        "body_bytes": sum(len(one.body) + 1 for one in won) + overhead,
        "event_keys": b"".join(one.key for one in won),
        "ordinals": b"".join(one.ordinal.to_bytes(4, "little") for one in won),
        "marked_us": to_us(now),
    }


def _close_request(
    connection: sa.Connection,
    mark: Mark,
    outcome: str,
    proof: str,
    http_status: int | None,
    now: datetime,
    *,
    batch_uuid: str | None = None,
    state: str = "answered",
) -> None:
    connection.execute(
        sa.update(requests)
        .where(requests.c.request == mark.request)
        .values(
            state=state,
            outcome=outcome,
            proof=proof,
            http_status=http_status,
            batch_uuid=batch_uuid,
            answered_us=to_us(now),
        )
    )


_SELECT_LINES = sa.select(
    keys.c.event_key,
    keys.c.request,
    keys.c.sent_sha,
    keys.c.accepted,
    keys.c.doubt,
    keys.c.resend_sha,
    keys.c.held,
    keys.c.why,
    keys.c.not_before_us,
).where(keys.c.account == sa.bindparam("of"), keys.c.event_key.in_(sa.bindparam("wanted", expanding=True)))
_UPDATE_LINE = (
    sa.update(keys)
    .where(keys.c.account == sa.bindparam("of"), keys.c.event_key == sa.bindparam("key"))
    .values(
        {
            name: sa.bindparam(name)
            for name in ("request", "sent_sha", "accepted", "doubt", "resend_sha", "held", "why", "not_before_us")
        }
    )
)


def _read_lines(connection: sa.Connection, account: int, wanted: Sequence[bytes]) -> dict[bytes, KeyLine]:
    found: dict[bytes, KeyLine] = {}
    for start in range(0, len(wanted), LOOKUP_KEYS):
        part = wanted[start : start + LOOKUP_KEYS]
        for row in connection.execute(_SELECT_LINES, {"of": account, "wanted": part}):
            key, request, sent_sha, accepted, doubt, resend, held, why, not_before = row
            found[key] = KeyLine(
                request, sent_sha, _facts(accepted), _facts(doubt), resend, held, why, from_us(not_before)
            )
    return found


_INSERT_CLAIMED = sa.insert(keys).values(
    account=sa.bindparam("of"),
    event_key=sa.bindparam("key"),
    request=sa.bindparam("by"),
    sent_sha=sa.bindparam("sha"),
    why="new",
    contact=sa.bindparam("whose"),
)
_ACCEPT_PLAIN = (
    sa.update(keys)
    .where(
        keys.c.account == sa.bindparam("of"),
        keys.c.event_key == sa.bindparam("key"),
        keys.c.request == sa.bindparam("by"),
        keys.c.accepted.is_(None),
        keys.c.doubt.is_(None),
    )
    .values(request=None, sent_sha=None, accepted=sa.bindparam("fact"))
)


def _insert_claimed(connection: sa.Connection, mark: Mark, events: Sequence[PlannedEvent]) -> None:
    """Write the lines of keys that were never seen, as `KeyLine().claimed` would have them."""
    rows = [
        {"of": mark.account, "key": one.key, "by": mark.request, "sha": one.sha, "whose": one.contact}
        for one in sorted(events, key=lambda one: one.key)
    ]
    if rows:
        connection.execute(_INSERT_CLAIMED, rows)


def _accept_plain(connection: sa.Connection, mark: Mark, pairs: Sequence[tuple[PlannedEvent, str]]) -> bool:
    """Accept keys that hold nothing but this request, as `KeyLine.was_accepted` would; False if some hold more.

    The keys that it did take are left as `was_accepted` leaves them, so that doing it again for all changes nothing.
    """
    rows = [
        {"of": mark.account, "key": one.key, "by": mark.request, "fact": f"{one.sha.hex()} {uuid}"}
        for one, uuid in sorted(pairs, key=lambda pair: pair[0].key)
    ]
    return connection.execute(_ACCEPT_PLAIN, rows).rowcount == len(rows)


def _write_lines(connection: sa.Connection, account: int, lines: Sequence[tuple[bytes, KeyLine]]) -> None:
    """Write lines in key order, so that two writers can never wait for each other in a circle."""
    rows = [
        {
            "of": account,
            "key": key,
            "request": line.request,
            "sent_sha": line.sent_sha,
            "accepted": _text(line.accepted),
            "doubt": _text(line.doubt),
            "resend_sha": line.resend,
            "held": line.held,
            "why": line.why,
            "not_before_us": None if line.not_before is None else to_us(line.not_before),
        }
        for key, line in sorted(lines, key=lambda pair: pair[0])
    ]
    if rows:
        connection.execute(_UPDATE_LINE, rows)


def _facts(text: str | None) -> tuple[Fact, ...]:
    if text is None:
        return ()
    return tuple(Fact(bytes.fromhex(line[:64]), line[65:]) for line in text.split("\n"))


def _text(facts: Sequence[Fact]) -> str | None:
    return "\n".join(f"{fact.sha.hex()} {fact.of}" for fact in facts) or None


def _known(moment: datetime | None) -> datetime:
    assert moment is not None  # noqa: S101 -- the column is never null
    return moment
