"""Rows of the ledger's tables <-> values: what each transaction reads and writes. No decision is made here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from rd_import.key_line import Fact, KeyLine
from rd_import.ledger_schema import KEY_HEAD, fresh_contacts, keys, refusals, requests
from rd_import.outcome import ApiError
from rd_import.values import PlannedEvent

LOOKUP_KEYS: Final = 500  # keys of one SELECT; SQLite takes at least 999 parameters


@dataclass(frozen=True, slots=True)
class Mark:
    """Who sends a request: written durably before its first byte leaves. `process` is one start of the program."""

    request: str
    account: int
    run: str
    process: str
    batch: int


def to_us(moment: datetime) -> int:
    """Give a moment as microseconds since 1970, UTC."""
    return round(moment.timestamp() * 1_000_000)


def from_us(us: int | None) -> datetime | None:
    """Give the moment of microseconds since 1970, UTC."""
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC)


def insert_into(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Begin an INSERT that can say what happens to a line that is there already; both databases spell it alike."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def request_values(
    mark: Mark, won: Sequence[PlannedEvent], now: datetime, body_bytes: int
) -> dict[str, Any]:
    """Give the columns of a request that is about to leave."""
    return {
        "request": mark.request,
        "account": mark.account,
        "run": mark.run,
        "process": mark.process,
        "batch": mark.batch,
        "state": "sent",
        "body_bytes": body_bytes,
        "event_keys": b"".join(one.key for one in won),
        "ordinals": b"".join(one.ordinal.to_bytes(4, "little") for one in won),
        "contents": b"".join(one.sha[:8] for one in won),
        "marked_us": to_us(now),
    }


def close_request(
    connection: sa.Connection,
    request: str,
    outcome: str,
    proof: str,
    http_status: int | None,
    now: datetime,
    *,
    batch_uuid: str | None = None,
    state: str = "answered",
) -> None:
    """Write what a request came to; one that was given up stays so unless it turns out accepted."""
    # A request that was given up stays so, whatever comes late, unless it turns out to be accepted.
    given_up = requests.c.state == "unknown" if outcome != "accepted" else sa.false()
    connection.execute(
        sa.update(requests)
        .where(requests.c.request == request, sa.not_(given_up))
        .values(
            state=state,
            outcome=outcome,
            proof=proof,
            http_status=http_status,
            batch_uuid=batch_uuid,
            answered_us=to_us(now),
        )
    )


def write_refusals(connection: sa.Connection, request: str, errors: Mapping[int, ApiError]) -> None:
    """Write the errors of a request by position in its body."""
    connection.execute(
        sa.insert(refusals),
        [
            {
                "request": request,
                "position": at,
                "code": error.code,
                "path": error.path,
                "message": error.message,
            }
            for at, error in errors.items()
        ],
    )


def note_fresh(
    connection: sa.Connection,
    account: int,
    events: Sequence[PlannedEvent],
    now: datetime,
    until: datetime,
) -> None:
    """Write which contacts were created just now, and forget those of earlier."""
    connection.execute(
        sa.delete(fresh_contacts).where(
            fresh_contacts.c.account == account, fresh_contacts.c.until_us <= to_us(now)
        )
    )
    insert = insert_into(connection, fresh_contacts)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["account", "contact"], set_={"until_us": insert.excluded.until_us}
        ),
        [
            {"account": account, "contact": contact, "until_us": to_us(until)}
            for contact in sorted({one.contact for one in events})
        ],
    )


LINE_COLUMNS = (
    keys.c.event_key,
    keys.c.request,
    keys.c.sent_sha,
    keys.c.accepted,
    keys.c.doubt,
    keys.c.resend_sha,
    keys.c.held,
    keys.c.why,
    keys.c.not_before_us,
    keys.c.contact,
    keys.c.refused_sha,
)
_HEAD: Final = sa.literal_column(KEY_HEAD, sa.LargeBinary)
_OF_KEY: Final = (
    keys.c.account == sa.bindparam("of"),
    sa.func.substr(sa.bindparam("key", type_=keys.c.event_key.type), 1, 8) == _HEAD,
    keys.c.event_key == sa.bindparam("key"),
)
_UPDATE_LINE = (
    sa.update(keys)
    .where(*_OF_KEY)
    .values(
        {
            name: sa.bindparam(name)
            for name in (
                "request",
                "sent_sha",
                "accepted",
                "doubt",
                "resend_sha",
                "held",
                "why",
                "not_before_us",
                "refused_sha",
                "contact",
            )
        }
    )
)
_SELECT_PLACE = sa.select(keys.c.line).where(*_OF_KEY)
INSERT_CLAIMED = sa.insert(keys).values(
    account=sa.bindparam("of"),
    event_key=sa.bindparam("key"),
    request=sa.bindparam("by"),
    sent_sha=sa.bindparam("sha"),
    why="new",
    contact=sa.bindparam("whose"),
    run=sa.bindparam("in_run"),
    claimed_us=sa.bindparam("at"),
)
_ACCEPT_PLAIN = (
    sa.update(keys)
    .where(
        *_OF_KEY,
        keys.c.request == sa.bindparam("by"),
        keys.c.accepted.is_(None),
        keys.c.doubt.is_(None),
    )
    .values(request=None, sent_sha=None, accepted=sa.bindparam("fact"))
)


def read_lines(
    connection: sa.Connection, account: int, wanted: Sequence[bytes]
) -> dict[bytes, KeyLine]:
    """Look keys up; unknown ones are absent from the answer."""
    found: dict[bytes, KeyLine] = {}
    for line in _looked_up(connection, account, wanted, _select_lines):
        found[line[0]] = line_of(line[1:])
    return found


def read_settled(
    connection: sa.Connection, account: int, wanted: Sequence[bytes]
) -> dict[bytes, str]:
    """Give the `accepted` column of keys of which nothing else is known: no request, doubt, order or decision."""
    return dict(map(tuple, _looked_up(connection, account, wanted, _select_settled)))


def _looked_up(
    connection: sa.Connection,
    account: int,
    wanted: Sequence[bytes],
    select: Callable[[int], sa.Select[Any]],
) -> Iterator[Any]:
    """Read lines where they are likely to be, then find the others by the index, in its order."""
    asked = set(wanted)
    rest = set(wanted)
    for part in in_parts(wanted) if len(wanted) >= LOOKUP_KEYS else ():
        # What was sent in the order of this input lies in it: a fifth of the time of finding each.
        first = {"of": account, "key": part[0]}
        line = _executed(connection, _SELECT_PLACE, [first]).scalar()
        if line is not None:
            near = {"of": account, "first": line, "last": line + len(part) - 1}
            for row in _executed(connection, select(0), [near]).fetchall():
                if row[0] in asked:
                    rest.discard(row[0])
                    yield row
    for part in in_parts(sorted(rest)):
        size = next(size for size in _PART_SIZES if size >= len(part))
        filled = [*part, *[part[-1]] * (size - len(part))]  # a key asked for twice is found once
        heads = dict(zip(_HEAD_NAMES, (key[:8] for key in filled), strict=False))
        rows = _executed(connection, select(size), [{"of": account} | heads]).fetchall()
        yield from (row for row in rows if row[0] in asked)


_PART_SIZES: Final = (1, 16, LOOKUP_KEYS)
_HEAD_NAMES: Final = tuple(f"head{at}" for at in range(LOOKUP_KEYS))


def _among(size: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Give the condition that a line is of one of so many keys, or, for 0, in a range of lines."""
    if not size:
        kind = keys.c.line.type
        first, last = sa.bindparam("first", type_=kind), sa.bindparam("last", type_=kind)
        return keys.c.account == sa.bindparam("of"), keys.c.line.between(first, last)
    names = [sa.bindparam(name, type_=keys.c.event_key.type) for name in _HEAD_NAMES[:size]]
    return keys.c.account == sa.bindparam("of"), _HEAD.in_(names)


@cache
def _select_lines(size: int) -> sa.Select[Any]:
    return sa.select(*LINE_COLUMNS).where(*_among(size))


@cache
def _select_settled(size: int) -> sa.Select[Any]:
    return sa.select(keys.c.event_key, keys.c.accepted).where(
        *_among(size),
        keys.c.accepted.is_not(None),
        *(
            column.is_(None)
            for column in (keys.c.request, keys.c.doubt, keys.c.resend_sha, keys.c.held)
        ),
    )


def _executed(
    connection: sa.Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]
) -> sa.CursorResult[Any]:
    """Execute a statement once per row.

    It is written out once for each database and then handed to the driver as it is: what SQLAlchemy does anew for each
    row and each execution took longer than the database (docs/performance.md).
    """
    text, order, constants = _written(statement, connection.dialect.name, connection.dialect)
    if order is None:
        parameters: list[Any] = [{**constants, **row} for row in rows]
    else:
        fixed = [constants.get(name) for name in order]
        parameters = [tuple(map(row.get, order, fixed)) for row in rows]
    return connection.exec_driver_sql(text, parameters if len(rows) > 1 else parameters[0])


_WRITTEN: dict[tuple[int, str], tuple[str, Sequence[str] | None, Mapping[str, Any]]] = {}


def _written(
    statement: sa.Executable, name: str, dialect: sa.Dialect
) -> tuple[str, Sequence[str] | None, Mapping[str, Any]]:
    """Give a statement's text, the order of its parameters where they go by place, and those it fixes itself."""
    known = _WRITTEN.get((id(statement), name))
    if known is None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        known = (str(compiled), compiled.positiontup, compiled.params)
        _WRITTEN[id(statement), name] = known
    return known


def line_of(columns: Sequence[Any]) -> KeyLine:
    """Make a line of its columns, in the order of `LINE_COLUMNS` without the key."""
    request, sent_sha, accepted, doubt, resend, held, why, not_before, contact, refused = columns
    return KeyLine(
        request,
        sent_sha,
        facts_of(accepted),
        facts_of(doubt),
        resend,
        held,
        why,
        from_us(not_before),
        contact,
        refused,
    )


def insert_claimed(
    connection: sa.Connection, mark: Mark, events: Sequence[PlannedEvent], now: datetime
) -> None:
    """Write the lines of keys that were never seen, as `KeyLine().claimed` would have them."""
    rows = [
        {
            "of": mark.account,
            "key": one.key,
            "by": mark.request,
            "sha": one.sha,
            "whose": one.contact,
            "in_run": mark.run,
            "at": to_us(now),
        }
        for one in events
    ]
    if rows:
        _executed(connection, INSERT_CLAIMED, rows)


def accept_plain(
    connection: sa.Connection, mark: Mark, pairs: Sequence[tuple[PlannedEvent, str]]
) -> bool:
    """Accept keys that hold nothing but this request, as `KeyLine.was_accepted` would; False if some hold more.

    The keys that it did take are left as `was_accepted` leaves them, so that doing it again for all changes nothing.
    """
    rows = [
        {
            "of": mark.account,
            "key": one.key,
            "by": mark.request,
            "fact": f"{one.sha.hex()} {uuid}",
        }
        for one, uuid in sorted(pairs, key=lambda pair: pair[0].key)
    ]
    return _executed(connection, _ACCEPT_PLAIN, rows).rowcount == len(rows)


def write_lines(
    connection: sa.Connection, account: int, lines: Sequence[tuple[bytes, KeyLine]]
) -> None:
    """Write lines in key order, so that two writers can never wait for each other in a circle."""
    rows = [
        {
            "of": account,
            "key": key,
            "request": line.request,
            "sent_sha": line.sent_sha,
            "accepted": text_of(line.accepted),
            "doubt": text_of(line.doubt),
            "resend_sha": line.resend,
            "held": line.held,
            "why": line.why,
            "not_before_us": None if line.not_before is None else to_us(line.not_before),
            "refused_sha": line.refused,
            "contact": line.contact,
        }
        for key, line in sorted(lines, key=lambda pair: pair[0])
    ]
    if rows:
        _executed(connection, _UPDATE_LINE, rows)


def facts_of(text: str | None) -> tuple[Fact, ...]:
    """Read the contents of one column: a line each."""
    if text is None:
        return ()
    return tuple(Fact(bytes.fromhex(line[:64]), line[65:]) for line in text.split("\n"))


def text_of(facts: Sequence[Fact]) -> str | None:
    """Write contents as one column holds them."""
    return "\n".join(f"{fact.sha.hex()} {fact.of}" for fact in facts) or None


def among(wanted: Sequence[bytes]) -> sa.ColumnElement[bool]:
    """Give the condition that a line is of one of these keys, which the index finds."""
    return sa.and_(_HEAD.in_([key[:8] for key in wanted]), keys.c.event_key.in_(wanted))


def split_keys(joined: bytes) -> list[bytes]:
    """Cut keys of 32 bytes that stand one after the other."""
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


def in_parts(wanted: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a list of keys into parts of one look-up each."""
    return (wanted[start : start + LOOKUP_KEYS] for start in range(0, len(wanted), LOOKUP_KEYS))


def in_batches(
    pairs: Iterable[tuple[bytes, KeyLine]], size: int
) -> Iterator[list[tuple[bytes, KeyLine]]]:
    """Cut a stream of lines into parts of so many."""
    part: list[tuple[bytes, KeyLine]] = []
    for pair in pairs:
        part.append(pair)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def moment_of(moment: datetime | None) -> datetime:
    """Give a moment that is known to be there."""
    assert moment is not None
    return moment
