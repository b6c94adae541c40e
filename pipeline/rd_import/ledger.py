"""The durable memory: one line per event key, one per request, per account what runs must share.

Every claim is durable before the first byte of its request leaves, every outcome before anything else is done.
SQLite in WAL mode with `synchronous=FULL`; never on a network file system. What a transition means is decided by
`key_line`; this module only makes it atomic and durable.
"""

import contextlib
import hmac
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import polars as pl
import sqlalchemy as sa

from rd_import.errors import LedgerError
from rd_import.key_line import KeyLine, Lost, Policy, Unresolvable
from rd_import.ledger_rows import (
    INSERT_CLAIMED,
    LOOKUP_KEYS,
    Mark,
    accept_plain,
    among,
    close_request,
    from_us,
    in_batches,
    in_parts,
    insert_claimed,
    insert_into,
    moment_of,
    note_fresh,
    read_lines,
    read_settled,
    request_values,
    split_keys,
    to_us,
    write_lines,
    write_refusals,
)
from rd_import.ledger_schema import (
    KEY_HEAD,
    SCHEMA_VERSION,
    accounts,
    credentials,
    forgotten,
    fresh_contacts,
    keys,
    meta,
    metadata,
    migrate,
    processes,
    refusals,
    requests,
    resolutions,
    runs,
    version_of,
)
from rd_import.ledger_store import Store, store_of
from rd_import.messages import say
from rd_import.outcome import ApiError
from rd_import.run_folder import ERASED
from rd_import.values import PlannedEvent

PROCESS_ENDED: Final = "its process ended before the answer"
HEARTBEAT_DEAD: Final = timedelta(
    seconds=120
)  # a process silent for longer may be declared dead by anybody
FUSE_WINDOW: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim won, in body order, and why the other keys were lost. `doubtful` keys were in doubt before."""

    won: tuple[PlannedEvent, ...]
    lost: Mapping[bytes, Lost]
    doubtful: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request of a run, as recorded."""

    request: str
    run: str
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


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What was learnt of an account, and how its fuse stands.

    Args:
        max_body: Bytes of a body that was not answered 413, if a smaller limit was learnt.
        max_per_contact: Events of a contact in 24 hours, if a 429 taught it.
        partial: Whether a refused body may have accepted some of its events; None: nobody has asked.
        ecommerce_in_batch: Whether a batch takes e-commerce events; None: nobody has asked.
        unknowns_in_a_row: Requests without a usable answer since the last accepted one.
        tripped: The fuse stopped the last run: the next one begins with one event.
    """

    max_body: int | None = None
    max_per_contact: int | None = None
    partial: bool | None = None
    ecommerce_in_batch: bool | None = None
    unknowns_in_a_row: int = 0
    tripped: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision on an unknown key: `resend`, `left`, `confirmed` or `withdraw`."""

    decision: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """A logged decision."""

    event_key: bytes
    decision: str
    by: str
    why: str
    at: datetime


class Ledger:
    """An open ledger. Use `Ledger.open`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reading, self._writing = store.reading, store.writing
        with self._reading() as connection:
            facts = {row.name: row.value for row in connection.execute(sa.select(meta))}
            self._identity = store.identity(connection)
        self.ledger_id = facts["ledger_id"]
        self.secret = bytes.fromhex(facts["secret"])

    @classmethod
    def open(cls, named: str | Path | Store) -> Self:
        """Open a ledger by path or address, making a new one where there is none and bringing an older one up to date.

        Raises:
            JobError: It is an address, and none of a database that can hold a ledger.
            LedgerError: It is no ledger, damaged, locked, of a newer version, or cannot be reached or written.
        """
        store = store_of(named) if isinstance(named, str | Path) else named
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(store.close)
            store.open()
            with store.writing() as connection:
                version = version_of(connection)
                if version is None:
                    metadata.create_all(connection)
                    _write_facts(connection)
                elif version > SCHEMA_VERSION:
                    raise LedgerError("ledger_of_other_version", path=store.name, version=version)
                else:
                    migrate(connection, version)
            ledger = cls(store)
            unless_opened.pop_all()
        return ledger

    def close(self) -> None:
        """Close every connection and give back every lock."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- accounts

    def account(self, scope: str) -> int:
        """Give the number of an account, from now on known."""
        with self._writing() as connection:
            connection.execute(
                insert_into(connection, accounts)
                .values(scope=scope, next_slot_us=0)
                .on_conflict_do_nothing()
            )
            return int(
                connection.execute(
                    sa.select(accounts.c.account).where(accounts.c.scope == scope)
                ).scalar_one()
            )

    def known_account(self, scope: str) -> int | None:
        """Give the number of an account that was used before."""
        with self._reading() as connection:
            return connection.execute(
                sa.select(accounts.c.account).where(accounts.c.scope == scope)
            ).scalar()

    def scope(self, account: int) -> str:
        """Give the scope of an account."""
        with self._reading() as connection:
            return str(
                connection.execute(
                    sa.select(accounts.c.scope).where(accounts.c.account == account)
                ).scalar_one()
            )

    def bind(self, scope: str, *, kind: str, credential: str) -> str | None:
        """Bind a credential to a scope, or tell to which other one it belongs.

        Args:
            scope: Endpoint and account label.
            kind: `claims` of a token that names its account, of which a scope has one; or `refresh` token.
            credential: What identifies it; only a keyed hash is kept.

        Returns:
            None where they go together; else the scope that the credential is bound to, or the given one if that
            is bound to the claims of another account.
        """
        mark = hmac.digest(self.secret, f"{kind} {credential}".encode(), "sha256")
        c = credentials.c
        with self._writing() as connection:
            bound = connection.execute(sa.select(c.scope).where(c.credential == mark)).scalar()
            if bound is not None:
                return None if bound == scope else str(bound)
            if kind == "claims":
                query = sa.select(c.scope).where(c.scope == scope, c.kind == kind)
                if connection.execute(query.limit(1)).scalar() is not None:
                    return scope
            connection.execute(
                sa.insert(credentials).values(credential=mark, scope=scope, kind=kind)
            )
        return None

    def is_new_lineage(self, scope: str, *, kind: str, credential: str) -> bool:
        """Tell whether a scope that is bound to refresh tokens has never seen this one: a person authorised anew."""
        mark = hmac.digest(self.secret, f"{kind} {credential}".encode(), "sha256")
        c = credentials.c
        with self._reading() as connection:
            known = connection.execute(
                sa.select(c.credential).where(c.scope == scope, c.kind == "refresh")
            ).scalars()
            marks = {bytes(one) for one in known}
        return kind == "refresh" and bool(marks) and mark not in marks

    def facts(self, account: int) -> AccountFacts:
        """Give what was learnt of an account."""
        with self._reading() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.account == account)).one()
        return AccountFacts(
            row.max_body,
            row.max_per_contact,
            None if row.partial is None else bool(row.partial),
            None if row.ecommerce_in_batch is None else bool(row.ecommerce_in_batch),
            row.unknowns_in_a_row,
            bool(row.tripped),
        )

    def learn(self, account: int, **learnt: int | bool | None) -> None:
        """Remember facts of an account, by the names of `AccountFacts`."""
        with self._writing(account) as connection:
            connection.execute(
                sa.update(accounts).where(accounts.c.account == account).values(**learnt)
            )

    def take_slot(self, account: int, *, now: datetime, interval_s: float) -> datetime:
        """Reserve the account's next free moment, shared by every run on this ledger, and give it."""
        with self._writing(account) as connection:
            query = sa.select(accounts.c.next_slot_us).where(accounts.c.account == account)
            slot = max(to_us(now), int(connection.execute(query).scalar_one()))
            later = slot + round(interval_s * 1_000_000)
            connection.execute(
                sa.update(accounts).where(accounts.c.account == account).values(next_slot_us=later)
            )
        return moment_of(from_us(slot))

    def hold_slots(self, account: int, until: datetime) -> None:
        """Give out no slot before then: the account's quota is used up."""
        with self._writing(account) as connection:
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.account == account, accounts.c.next_slot_us < to_us(until))
                .values(next_slot_us=to_us(until))
            )

    # --- runs and processes

    def begin_run(
        self,
        run: str,
        *,
        account: int,
        event_type: str,
        input_sha256: str,
        folder: Path,
        audit_path: Path,
        now: datetime,
    ) -> None:
        """Write down that a run starts to send, or goes on."""
        with self._writing() as connection:
            values = {
                "run": run,
                "account": account,
                "event_type": event_type,
                "input_sha256": input_sha256,
                "folder": str(folder),
                "audit_path": str(audit_path),
                "started_us": to_us(now),
            }
            connection.execute(
                insert_into(connection, runs)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["run"],
                    set_={"finished_us": None, "audit_path": str(audit_path)},
                )
            )

    def finish_run(self, run: str, *, states: Mapping[str, int], now: datetime) -> None:
        """Write down that a run's audit stands."""
        with self._writing() as connection:
            connection.execute(
                sa.update(runs)
                .where(runs.c.run == run)
                .values(finished_us=to_us(now), states=json.dumps(states))
            )

    def runs(self) -> list[dict[str, Any]]:
        """Give every run, the newest first, with its account's scope."""
        query = (
            sa.select(runs, accounts.c.scope)
            .join(accounts, accounts.c.account == runs.c.account)
            .order_by(runs.c.started_us.desc())
        )
        with self._reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 -- SQLAlchemy's public name

    def start_process(self, process: str, run: str, *, now: datetime) -> bool:
        """Enter a process and hold its lock: while it is held, nobody takes the process for dead.

        Returns:
            False, with nothing entered, where a live process is at work on the run already.
        """
        self.store.show_life(process)
        with self._writing() as connection:
            query = sa.select(processes.c.process).where(processes.c.run == run)
            others = connection.execute(query).scalars().all()
            alone = all(self.store.is_dead(other) for other in others)
            if alone:
                connection.execute(
                    sa.insert(processes).values(process=process, run=run, heartbeat_us=to_us(now))
                )
        if not alone:
            self.store.end_life(process)
        return alone

    def beat(self, process: str, *, now: datetime) -> None:
        """Say that a process is alive."""
        self.store.keep_life(process)
        with self._writing() as connection:
            connection.execute(
                sa.update(processes)
                .where(processes.c.process == process)
                .values(heartbeat_us=to_us(now))
            )

    def end_process(self, process: str) -> None:
        """Take a process out; its requests, if any are still marked as sent, are for others to reap."""
        with self._writing() as connection:
            connection.execute(sa.delete(processes).where(processes.c.process == process))
        self.store.end_life(process)

    def is_running(self, run: str) -> bool:
        """Tell whether a live process is sending a run."""
        with self._reading() as connection:
            found = (
                connection.execute(sa.select(processes.c.process).where(processes.c.run == run))
                .scalars()
                .all()
            )
        return any(not self.store.is_dead(process) for process in found)

    def reap(self, account: int, *, now: datetime, by_heartbeat: bool = True) -> int:
        """Put in doubt what dead processes were sending; give how many requests.

        A process is dead when its lock is gone, or, with `by_heartbeat`, after 120 seconds of silence. No certainty
        is needed: reaping only creates doubt, and a late 200 removes it.
        """
        query = (
            sa.select(requests.c.request, requests.c.process, processes.c.heartbeat_us)
            .outerjoin(processes, processes.c.process == requests.c.process)
            .where(requests.c.account == account, requests.c.state == "sent")
        )
        with self._reading() as connection:
            candidates = list(connection.execute(query))
        reaped = 0
        for request, process, heartbeat_us in candidates:
            silent = heartbeat_us is None or to_us(now) - heartbeat_us > HEARTBEAT_DEAD / timedelta(
                microseconds=1
            )
            if not (self.store.is_dead(process) or (by_heartbeat and silent)):
                continue
            with self._writing(account) as connection:
                if self._doubt(connection, account, request):
                    close_request(
                        connection, request, "unknown", PROCESS_ENDED, None, now, state="unknown"
                    )
                    reaped += 1
        return reaped

    # --- keys

    def lines(self, account: int, wanted: Sequence[bytes]) -> dict[bytes, KeyLine]:
        """Look keys up; unknown ones are absent from the answer."""
        with self._reading() as connection:
            return read_lines(connection, account, wanted)

    def settled(self, account: int, wanted: Sequence[bytes], shas: pl.Series) -> pl.Series:
        """Give the uuid of each key that was accepted with this content alone, and of which nothing else is known.

        Args:
            account: Whose keys they are.
            wanted: (n,) keys.
            shas: (n,) contents, 32 bytes each.

        Returns:
            (n,) uuids, null for every other key: `lines` tells of those.
        """
        with self._reading() as connection:
            known = read_settled(connection, account, wanted)
        texts = pl.Series("fact", [known.get(key) for key in wanted], dtype=pl.String)
        one = shas.bin.encode("hex") + " "
        return pl.DataFrame([texts, one.alias("sha")]).select(
            pl.when(
                pl.col("fact").str.starts_with(pl.col("sha"))
                & ~pl.col("fact").str.contains("\n", literal=True)
            )
            .then(pl.col("fact").str.slice(65))
            .alias("uuid")
        )["uuid"]

    def claim(
        self,
        mark: Mark,
        events: Sequence[PlannedEvent],
        *,
        now: datetime,
        policy: Policy | None = None,
        once: Collection[bytes] = (),
        body_bytes: int | None = None,
    ) -> Claim:
        """Mark a request as sent and take its keys, in one durable transaction.

        Keys that may not go are cut; where none is left, nothing is written.

        Args:
            mark: Who sends.
            events: What is to go, in body order.
            now: The time.
            policy: What may go beyond what is free.
            once: Keys that this run has resent already; their doubt is not resent a second time.
            body_bytes: Size of the body, where it is not the batch's.

        Raises:
            LedgerError: The ledger was replaced under the process.
        """
        policy = policy or Policy()
        cautious = Policy(resend_unknown=False, send_changed=policy.send_changed)
        with self._writing(mark.account) as connection:
            self._refuse_if_replaced(connection)
            lines = read_lines(connection, mark.account, [one.key for one in events])
            won: list[PlannedEvent] = []
            lost: dict[bytes, Lost] = {}
            taken: set[bytes] = set()
            for one in events:
                line = lines.get(one.key)
                reason = (
                    line.may_claim(one.sha, now, cautious if one.key in once else policy)
                    if line
                    else None
                )
                if reason is None and line and line.is_of_another(one.contact):
                    reason = Lost.CHANGED  # by a run that was faster; the preview saw nothing of it
                if one.key in taken:
                    reason = Lost.SENT  # twice in one body: the first carries the key
                if reason is None:
                    won.append(one)
                    taken.add(one.key)
                else:
                    lost.setdefault(one.key, reason)
            if won:
                size = body_bytes or sum(len(one.body) + 1 for one in won) + 1
                connection.execute(sa.insert(requests).values(request_values(mark, won, now, size)))
                insert_claimed(connection, mark, [one for one in won if one.key not in lines], now)
                known = [
                    (one.key, lines[one.key].claimed(mark.request, one.sha, one.contact))
                    for one in won
                    if one.key in lines
                ]
                write_lines(connection, mark.account, known)
        doubtful = frozenset(one.key for one in won if one.key in lines and lines[one.key].doubt)
        return Claim(tuple(won), lost, doubtful)

    def record_accepted(
        self,
        mark: Mark,
        events: Sequence[PlannedEvent],
        uuids: Sequence[str],
        *,
        batch_uuid: str | None,
        proof: str,
        now: datetime,
        fresh_for: timedelta | None = None,
    ) -> None:
        """Record one uuid per event, in body order; with `fresh_for`, their contacts as created just now."""
        with self._writing(mark.account) as connection:
            pairs = list(zip(events, uuids, strict=True))
            if not accept_plain(connection, mark, pairs):
                lines = read_lines(connection, mark.account, [one.key for one in events])
                after = [
                    (one.key, lines[one.key].was_accepted(mark.request, one.sha, uuid))
                    for one, uuid in pairs
                ]
                write_lines(connection, mark.account, after)
            close_request(
                connection, mark.request, "accepted", proof, 200, now, batch_uuid=batch_uuid
            )
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.account == mark.account)
                .values(unknowns_in_a_row=0, tripped=False)
            )
            if fresh_for is not None:
                note_fresh(connection, mark.account, events, now, now + fresh_for)

    def record_released(
        self,
        mark: Mark,
        events: Sequence[PlannedEvent],
        *,
        outcome: str,
        proof: str,
        http_status: int | None,
        now: datetime,
    ) -> None:
        """Record that none of a request's events was accepted; they may be claimed again."""
        with self._writing(mark.account) as connection:
            self._change(connection, mark, events, lambda line, _: line.was_released(mark.request))
            close_request(connection, mark.request, outcome, proof, http_status, now)

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

        def after(line: KeyLine, position: int) -> KeyLine:
            return (
                line.was_refused(mark.request)
                if position in errors
                else line.was_released(mark.request)
            )

        with self._writing(mark.account) as connection:
            self._change(connection, mark, events, after)
            write_refusals(connection, mark.request, errors)
            close_request(connection, mark.request, "refused", proof, http_status, now)

    def record_deferred(
        self,
        mark: Mark,
        events: Sequence[PlannedEvent],
        deferred: Collection[int],
        *,
        not_before: datetime,
        proof: str,
        now: datetime,
    ) -> None:
        """Record that a contact's limit holds back the events at these positions; the others are released."""

        def after(line: KeyLine, position: int) -> KeyLine:
            if position in deferred:
                return line.was_deferred(mark.request, not_before)
            return line.was_released(mark.request)

        with self._writing(mark.account) as connection:
            self._change(connection, mark, events, after)
            close_request(connection, mark.request, "deferred", proof, 429, now)

    def record_unknown(
        self, mark: Mark, *, proof: str, http_status: int | None, now: datetime
    ) -> None:
        """Record that nothing tells whether a request was registered: its keys are in doubt."""
        with self._writing(mark.account) as connection:
            self._doubt(connection, mark.account, mark.request)
            close_request(
                connection, mark.request, "unknown", proof, http_status, now, state="unknown"
            )
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.account == mark.account)
                .values(unknowns_in_a_row=accounts.c.unknowns_in_a_row + 1)
            )

    def hold_back(
        self, mark: Mark, events: Sequence[PlannedEvent], *, not_before: datetime, now: datetime
    ) -> None:
        """Defer events that were not sent, because their contact has had its share."""
        with self._writing(mark.account) as connection:
            lines = read_lines(connection, mark.account, [one.key for one in events])
            new = {one.key: one for one in events if one.key not in lines}
            insert_claimed(connection, mark, list(new.values()), now)
            claimed = {one.key: KeyLine().claimed(mark.request, one.sha) for one in events} | lines
            held = [
                (key, line.was_held_back(mark.request, not_before)) for key, line in claimed.items()
            ]
            write_lines(connection, mark.account, held)

    def resolve(
        self, account: int, key: bytes, sha: bytes, decision: Decision, *, now: datetime
    ) -> Unresolvable | None:
        """Apply a person's decision to one key, comparing and swapping its line; tell why it does not apply."""
        with self._writing(account) as connection:
            line = read_lines(connection, account, [key]).get(key, KeyLine())
            if decision.decision == "withdraw":
                refused = line.unwithdrawable()
                after = line.was_withdrawn()
            else:
                refused = line.unresolvable(sha)
                after = (
                    line.was_ordered(sha)
                    if decision.decision == "resend"
                    else line.was_held(decision.decision)
                )
            if refused is not None:
                return refused
            write_lines(connection, account, [(key, after)])
            connection.execute(
                sa.insert(resolutions).values(
                    account=account,
                    event_key=key,
                    decision=decision.decision,
                    decided_by=decision.by,
                    why=decision.why,
                    decided_us=to_us(now),
                )
            )
        return None

    def has_resolutions(self, account: int) -> bool:
        """Tell whether a person ever decided about a key of an account."""
        query = sa.select(resolutions.c.resolution).where(resolutions.c.account == account).limit(1)
        with self._reading() as connection:
            return connection.execute(query).scalar() is not None

    def resolutions(self, account: int, wanted: Sequence[bytes]) -> dict[bytes, Resolution]:
        """Give the last decision on each key that had one."""
        found: dict[bytes, Resolution] = {}
        with self._reading() as connection:
            for part in in_parts(wanted):
                query = (
                    sa.select(resolutions)
                    .where(resolutions.c.account == account, resolutions.c.event_key.in_(part))
                    .order_by(resolutions.c.decided_us)
                )
                for row in connection.execute(query):
                    found[row.event_key] = Resolution(
                        row.event_key,
                        row.decision,
                        row.decided_by,
                        row.why,
                        moment_of(from_us(row.decided_us)),
                    )
        return found

    def join(self, account: int, known: Iterable[tuple[bytes, KeyLine]]) -> int:
        """Take over what an audit knew; give how many lines changed. Attempts and orders stay as they are."""
        changed = 0
        with self._writing(account) as connection:
            for part in in_batches(known, LOOKUP_KEYS):
                lines = read_lines(connection, account, [key for key, _ in part])
                after = {key: lines.get(key, KeyLine()).joined(other) for key, other in part}
                moved = {key: line for key, line in after.items() if line != lines.get(key)}
                nothing = {
                    "of": account,
                    "by": None,
                    "sha": None,
                    "whose": None,
                    "in_run": None,
                    "at": None,
                }
                new = [nothing | {"key": key} for key in sorted(moved) if key not in lines]
                if new:
                    connection.execute(INSERT_CLAIMED, new)
                write_lines(connection, account, list(moved.items()))
                changed += len(moved)
        return changed

    # --- questions

    def open_unknowns(self, account: int, *, now: datetime) -> int:
        """Count the requests of the last 24 hours whose fate is still open: neither accepted since nor resolved."""
        since = to_us(now - FUSE_WINDOW)
        with self._reading() as connection:
            query = sa.select(requests.c.request, requests.c.event_keys).where(
                requests.c.account == account,
                requests.c.state == "unknown",
                requests.c.answered_us >= since,
                requests.c.proof != PROCESS_ENDED,
            )
            found = 0
            for request, held in list(connection.execute(query)):
                lines = read_lines(connection, account, split_keys(held))
                found += any(
                    fact.of == request and line.held is None and line.resend is None
                    for line in lines.values()
                    for fact in line.doubt
                )
        return found

    def contact_events(
        self, account: int, contacts: Collection[bytes], *, since: datetime
    ) -> dict[bytes, int]:
        """Count the events of each of these contacts that were accepted or left in doubt since then."""
        found = dict.fromkeys(contacts, 0)
        with self._reading() as connection:
            for part in in_parts(sorted(contacts)):  # each part reads all lines once
                query = (
                    sa.select(keys.c.contact, sa.func.count())
                    .where(
                        keys.c.account == account,
                        keys.c.contact.in_(part),
                        keys.c.claimed_us >= to_us(since),
                        sa.or_(keys.c.accepted.is_not(None), keys.c.doubt.is_not(None)),
                    )
                    .group_by(keys.c.contact)
                )
                found |= {bytes(contact): count for contact, count in connection.execute(query)}
        return found

    def contact_of(self, email: str) -> bytes:
        """Give the keyed hash that stands for a person."""
        return hmac.digest(self.secret, email.strip().lower().encode(), "sha256")

    def forget(self, contact: bytes, email: str, *, now: datetime) -> int:
        """Erase a person from the ledger, and keep their keyed hash alone, so that they get nothing any more.

        The lines of their events stay without it: they keep the events from being sent again.

        Returns:
            How many lines named them.
        """
        with self._writing() as connection:
            connection.execute(
                insert_into(connection, forgotten)
                .values(contact=contact, forgotten_us=to_us(now))
                .on_conflict_do_nothing()
            )
            lines = connection.execute(
                sa.update(keys).where(keys.c.contact == contact).values(contact=None)
            ).rowcount
            connection.execute(sa.delete(fresh_contacts).where(fresh_contacts.c.contact == contact))
            connection.execute(
                sa.update(resolutions)
                .where(resolutions.c.why.icontains(email, autoescape=True))
                .values(why=ERASED)
            )
            return int(lines)

    def forgotten(self) -> frozenset[bytes]:
        """Give the keyed hashes of those who were erased."""
        with self._reading() as connection:
            found = connection.execute(sa.select(forgotten.c.contact)).scalars()
            return frozenset(bytes(one) for one in found)

    def fresh_until(
        self, account: int, contacts: Collection[bytes], *, now: datetime
    ) -> dict[bytes, datetime]:
        """Tell which contacts were created too recently to be used, and until when."""
        found: dict[bytes, datetime] = {}
        with self._reading() as connection:
            for part in in_parts(sorted(contacts)):
                query = sa.select(fresh_contacts.c.contact, fresh_contacts.c.until_us).where(
                    fresh_contacts.c.account == account,
                    fresh_contacts.c.contact.in_(part),
                    fresh_contacts.c.until_us > to_us(now),
                )
                found |= {
                    contact: moment_of(from_us(until))
                    for contact, until in connection.execute(query)
                }
        return found

    def inputs_of(self, account: int, wanted: Sequence[bytes]) -> dict[bytes, str]:
        """Give, of each accepted key, the checksum of the input that it came from, where that is known."""
        found: dict[bytes, str] = {}
        with self._reading() as connection:
            for part in in_parts(wanted):
                query = (
                    sa.select(keys.c.event_key, runs.c.input_sha256)
                    .join(runs, runs.c.run == keys.c.run)
                    .where(
                        keys.c.account == account,
                        among(part),
                        keys.c.accepted.is_not(None),
                    )
                )
                found |= {row.event_key: row.input_sha256 for row in connection.execute(query)}
        return found

    def contents(self, account: int) -> Iterator[bytes]:
        """Give the contents that are, or may be, registered: per request the first 8 bytes of each checksum.

        Those of a ledger rebuilt from audits are not known.
        """
        query = sa.select(requests.c.contents).where(
            requests.c.account == account,
            requests.c.contents.is_not(None),
            sa.or_(requests.c.state != "answered", requests.c.outcome == "accepted"),
        )
        with self._reading() as connection:
            yield from connection.execute(query.execution_options(yield_per=500)).scalars()

    def run_of(self, request: str) -> str | None:
        """Give the run of a request."""
        with self._reading() as connection:
            return connection.execute(
                sa.select(requests.c.run).where(requests.c.request == request)
            ).scalar()

    def requests_of(self, run: str) -> Iterator[RequestLine]:
        """Give a run's requests in the order in which they were marked."""
        # The keys of a million events would be 32 MB, of which the audit needs none.
        wanted = [column for column in requests.c if column.name not in {"event_keys", "contents"}]
        query = sa.select(*wanted).where(requests.c.run == run).order_by(sa.text("requests.rowid"))
        with self._reading() as connection:
            for row in connection.execute(query):
                yield RequestLine(
                    row.request,
                    row.run,
                    row.batch,
                    row.state,
                    row.outcome,
                    row.proof,
                    row.http_status,
                    row.batch_uuid,
                    row.body_bytes,
                    row.ordinals,
                    moment_of(from_us(row.marked_us)),
                    from_us(row.answered_us),
                )

    def refusals_of(self, run: str) -> dict[tuple[str, int], ApiError]:
        """Give the errors of a run by request and position in its body."""
        query = (
            sa.select(refusals)
            .join(requests, requests.c.request == refusals.c.request)
            .where(requests.c.run == run)
            .order_by(refusals.c.request, refusals.c.position)
        )
        with self._reading() as connection:
            return {
                (row.request, row.position): ApiError(row.code, row.message, row.path)
                for row in connection.execute(query)
            }

    def refusal_of(self, account: int, key: bytes) -> ApiError | None:
        """Give RD Station's newest error about a key, if it ever refused it."""
        query = (
            sa.select(refusals, requests.c.event_keys)
            .join(requests, requests.c.request == refusals.c.request)
            .where(requests.c.account == account)
            .order_by(requests.c.marked_us.desc())
        )
        with self._reading() as connection:
            for row in connection.execute(query):
                if row.event_keys[32 * row.position :][:32] == key:
                    return ApiError(row.code, row.message, row.path)
        return None

    def faults(self) -> Iterator[str]:
        """Name what contradicts itself: damaged pages, keys of closed requests or told twice, requests without keys."""
        with self._reading() as connection:
            for line in self.store.damage(connection):
                yield say("check.damaged", what=line)
            held = (
                sa.select(keys.c.event_key, keys.c.request, requests.c.state)
                .outerjoin(requests, requests.c.request == keys.c.request)
                .where(keys.c.request.is_not(None))
            )
            for key, request, state in connection.execute(held):
                if state != "sent":
                    name = state or say("check.not_recorded")
                    yield say("check.held", key=key.hex()[:16], request=request, state=name)
            twice = (
                sa.select(keys.c.event_key)
                .group_by(keys.c.account, sa.literal_column(KEY_HEAD), keys.c.event_key)
                .having(sa.func.count() > 1)
            )
            for key in connection.execute(twice).scalars():
                yield say("check.twice", key=key.hex()[:16])
            sent = sa.select(requests).where(requests.c.state == "sent")
            for row in list(connection.execute(sent)):
                wanted = split_keys(row.event_keys)
                lines = read_lines(connection, row.account, wanted)
                lacking = [
                    key for key in wanted if key not in lines or lines[key].request != row.request
                ]
                if lacking:
                    yield say("check.without_keys", request=row.request, count=len(lacking))

    # --- within a transaction

    def _change(
        self,
        connection: sa.Connection,
        mark: Mark,
        events: Sequence[PlannedEvent],
        after: Callable[[KeyLine, int], KeyLine],
    ) -> None:
        lines = read_lines(connection, mark.account, [one.key for one in events])
        changed = [
            (one.key, after(lines[one.key], position)) for position, one in enumerate(events)
        ]
        write_lines(connection, mark.account, changed)

    def _doubt(self, connection: sa.Connection, account: int, request: str) -> bool:
        """Put a request's keys in doubt; False where it was closed meanwhile."""
        row = connection.execute(
            sa.select(requests.c.event_keys, requests.c.state).where(requests.c.request == request)
        ).one()
        if row.state != "sent":
            return False
        wanted = split_keys(row.event_keys)
        lines = read_lines(connection, account, wanted)
        write_lines(connection, account, [(key, lines[key].was_lost(request)) for key in wanted])
        return True

    def _refuse_if_replaced(self, connection: sa.Connection) -> None:
        """A process goes on only in the ledger that it opened: in another one it would write into the void."""
        query = sa.select(meta.c.value).where(meta.c.name == "ledger_id")
        same = self.store.identity(connection) == self._identity
        if not same or connection.execute(query).scalar() != self.ledger_id:
            raise LedgerError("ledger_replaced", path=self.store.name)


def _write_facts(connection: sa.Connection) -> None:
    facts = {
        "schema_version": str(SCHEMA_VERSION),
        "ledger_id": secrets.token_hex(16),
        "secret": secrets.token_hex(32),
    }
    connection.execute(
        insert_into(connection, meta).on_conflict_do_nothing(),
        [{"name": name, "value": value} for name, value in facts.items()],
    )
