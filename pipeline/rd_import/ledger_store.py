"""Where a ledger's tables stand: a SQLite file, or a PostgreSQL database that several machines share.

Each store answers alike to what the ledger needs of a database: transactions in which a writer looks and writes while
nobody else writes to the same account, readings of one moment, and who of the processes that send is still alive.

| | SQLite | PostgreSQL |
|---|---|---|
| a writer excludes others | `BEGIN IMMEDIATE`, the whole file | an advisory lock of the account, until the commit |
| a mark survives a power cut | WAL, `synchronous=FULL` | `synchronous_commit` at least `on` |
| a process is alive | it holds a lock file | its connection holds an advisory lock |
| private | mode 0600 | the schema `rd_import` belongs to the role that made it |
"""

import contextlib
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import filelock
import sqlalchemy as sa
from sqlalchemy import event
from tenacity import Retrying, retry_if_exception_message, stop_after_delay, wait_random

from rd_import.errors import JobError, LedgerError
from rd_import.ledger_schema import version_of
from rd_import.run_folder import private_folder

WAIT_S: Final = 30  # for another writer
POSTGRES_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
POSTGRES_SCHEMA: Final = "rd_import"  # of its own, since `accounts` and `keys` are common names
WRITERS: Final = (
    0x72645F69  # "rd_i": first half of the advisory locks of writers, second the account
)
LOCK_NOT_AVAILABLE: Final = "55P03"


class Store(Protocol):
    """A database that can hold a ledger."""

    name: str
    """How it is named to people: the path, or the address without its password."""

    def exists(self) -> bool:
        """Tell whether a ledger was made here."""

    def open(self) -> None:
        """Connect, once.

        Raises:
            LedgerError: It cannot be reached or written, or holds something else.
        """

    def close(self) -> None:
        """Close every connection, and with them every sign of life."""

    def reading(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Look at one moment of the ledger."""

    def writing(
        self, account: int | None = None
    ) -> contextlib.AbstractContextManager[sa.Connection]:
        """Write in one durable transaction; nobody else writes to the account meanwhile.

        Without an account: nobody else writes to what belongs to none.
        """

    def identity(self, connection: sa.Connection) -> object:
        """Give what changes where another database, or a copy of this one, takes its place."""

    def damage(self, connection: sa.Connection) -> Iterator[str]:
        """Name what the database itself finds damaged."""

    def show_life(self, process: str) -> None:
        """Have everybody see that a process of this machine is alive, as long as it is."""

    def keep_life(self, process: str) -> None:
        """Show it again where a broken connection took the sign away."""

    def end_life(self, process: str) -> None:
        """Take the sign back."""

    def is_dead(self, process: str) -> bool:
        """Tell whether a process shows no life."""


def store_of(named: str | Path) -> Store:
    """Take a path, or an address such as `postgresql://user@host/database`.

    Raises:
        JobError: The address is none, of another database, or its driver is not installed.
    """
    if isinstance(named, str) and "://" in named:
        return PostgresStore(named)
    return SqliteStore(Path(named))


class SqliteStore:
    """A file, for the processes of one machine; never on a network file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._engine: sa.Engine | None = None
        self._locks: dict[str, filelock.FileLock] = {}

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self.path.exists()

    def open(self) -> None:
        """Connect to the file, which is made if there is none, and close it to other people.

        Raises:
            LedgerError: It is no database, or cannot be written.
        """
        self._refuse_what_is_no_ledger()
        private_folder(self.path.parent)
        with self._clear_errors():
            if not self.path.exists():
                self.path.touch(mode=0o600)
        url = sa.URL.create("sqlite", database=str(self.path))
        self._engine = sa.create_engine(
            url, connect_args={"timeout": WAIT_S, "isolation_level": None}
        )
        event.listen(self._engine, "connect", _prepare_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)
        with self._clear_errors():
            with self._engine.begin() as connection:
                if version_of(connection) is None and sa.inspect(connection).get_table_names():
                    raise LedgerError("not_a_ledger", path=self.path)
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                self.path.chmod(0o600)

    def close(self) -> None:
        """Close every connection and give back every lock."""
        for lock in self._locks.values():
            lock.release()
        if self._engine is not None:
            self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Look at one moment of the ledger."""
        assert self._engine is not None
        with (
            self._clear_errors(),
            self._engine.connect().execution_options(reads=True) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def writing(self, account: int | None = None) -> Iterator[sa.Connection]:  # noqa: ARG002 -- the file has one writer
        """Write in one durable transaction, alone."""
        assert self._engine is not None
        with self._clear_errors(), self._engine.begin() as connection:
            yield connection

    def identity(self, connection: sa.Connection) -> object:  # noqa: ARG002 -- an open file stays, whatever its path leads to
        """Give the number of the file that the path leads to now."""
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def damage(self, connection: sa.Connection) -> Iterator[str]:
        """Name damaged pages."""
        for (line,) in connection.execute(sa.text("PRAGMA integrity_check")):
            if line != "ok":
                yield str(line)

    def show_life(self, process: str) -> None:
        """Hold the process's lock file."""
        private_folder(self._lock_path(process).parent)
        lock = filelock.FileLock(self._lock_path(process), mode=0o600)
        lock.acquire(timeout=0)
        self._locks[process] = lock

    def keep_life(self, process: str) -> None:
        """Do nothing: a lock file is held as long as the process lives."""

    def end_life(self, process: str) -> None:
        """Give the lock file back."""
        lock = self._locks.pop(process, None)
        if lock is not None:
            lock.release()
            self._lock_path(process).unlink(missing_ok=True)

    def is_dead(self, process: str) -> bool:
        """Tell whether nobody holds the process's lock file."""
        if process in self._locks:
            return False
        path = self._lock_path(process)
        if not path.exists():
            return True
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        lock.release()
        return True

    def _lock_path(self, process: str) -> Path:
        return self.path.with_name(self.path.name + ".locks") / f"{process}.lock"

    def _refuse_what_is_no_ledger(self) -> None:
        """Look before anything is touched: a person may name a folder or another program's file by mistake."""
        with self._clear_errors():
            if self.path.is_dir():
                raise LedgerError("not_a_ledger", path=self.path)
            if self.path.exists():
                with self.path.open("rb") as file:
                    head = file.read(16)
                if head and head != b"SQLite format 3\0":
                    raise LedgerError("not_a_ledger", path=self.path)

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            reason = str(error.orig).strip()
            key = "ledger_locked" if "locked" in reason else "ledger_unusable"
            raise LedgerError(key, path=self.path, reason=reason) from error
        except OSError as error:
            raise LedgerError(
                "ledger_unusable", path=self.path, reason=error.strerror or str(error)
            ) from error


class PostgresStore:
    """A database that several machines share. Their clocks must agree to within a second, as NTP keeps them.

    A pooler between them and the server must pool sessions, not transactions: advisory locks belong to a session.
    """

    def __init__(self, address: str) -> None:
        self._url = _postgres_url(address)
        self.name = sa.URL.create(
            "postgresql",
            username=self._url.username,
            host=self._url.host,
            port=self._url.port,
            database=self._url.database,
        ).render_as_string()
        self._engine: sa.Engine | None = None
        self._alive: sa.Connection | None = None
        self._shown: set[str] = set()

    def exists(self) -> bool:
        """Tell whether the database holds a ledger."""
        with self._clear_errors(), self._connected().connect() as connection:
            query = sa.select(sa.func.to_regclass(f"{POSTGRES_SCHEMA}.meta").is_not(None))
            return bool(connection.execute(query).scalar())

    def open(self) -> None:
        """Connect, and make the schema if there is none.

        Raises:
            LedgerError: The server cannot be reached, or refuses the role.
        """
        self._connected()
        with self.writing() as connection:
            query = sa.select(sa.func.to_regnamespace(POSTGRES_SCHEMA).is_not(None))
            if not connection.execute(query).scalar():
                connection.execute(sa.schema.CreateSchema(POSTGRES_SCHEMA))

    def close(self) -> None:
        """Give the signs of life back and close every connection.

        The server sees a closed connection a moment later; until then a process that ended in order would seem alive.
        """
        with contextlib.suppress(LedgerError):
            for process in sorted(self._shown):
                self.end_life(process)
        if self._alive is not None:
            self._alive.close()
        if self._engine is not None:
            self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Look at one moment of the ledger."""
        with (
            self._clear_errors(),
            self._connected()
            .connect()
            .execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            ) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def writing(self, account: int | None = None) -> Iterator[sa.Connection]:
        """Write in one durable transaction, alone in the account: what follows the lock sees all that is committed."""
        with self._clear_errors(), self._connected().begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS, account or 0)))
            yield connection

    def identity(self, connection: sa.Connection) -> object:
        """Give the number of a table; tables that were restored from a dump have others."""
        return connection.execute(sa.text("SELECT to_regclass('meta')::oid")).scalar()

    def damage(self, connection: sa.Connection) -> Iterator[str]:  # noqa: ARG002 -- the server's own business
        """Name nothing: the server checks its pages itself."""
        yield from ()

    def show_life(self, process: str) -> None:
        """Hold an advisory lock of the process on a connection that does nothing else."""
        with self._clear_errors():
            if self._alive is None:
                engine = self._connected()
                self._alive = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._alive.execute(sa.select(sa.func.pg_advisory_lock(_number_of(process))))
        self._shown.add(process)

    def keep_life(self, process: str) -> None:
        """Connect again where the connection broke; until then others may have taken the process for dead."""
        if self._alive is None or process not in self._shown:
            return
        try:
            self._alive.execute(sa.select(1))
        except sa.exc.DBAPIError:
            self._alive = None
            for one in sorted(self._shown):
                self.show_life(one)

    def end_life(self, process: str) -> None:
        """Give the process's lock back."""
        if self._alive is None or process not in self._shown:
            return
        self._shown.discard(process)
        with self._clear_errors():
            self._alive.execute(sa.select(sa.func.pg_advisory_unlock(_number_of(process))))

    def is_dead(self, process: str) -> bool:
        """Tell whether no connection holds the process's lock; asking takes none."""
        number = _number_of(process) % 2**64
        query = sa.text(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid::bigint = :high AND objid::bigint = :low"
        )
        halves = {"high": number >> 32, "low": number & 0xFFFFFFFF}
        with self.reading() as connection:
            return connection.execute(query, halves).scalar() is None

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            patience = {
                "connect_timeout": 10,
                "keepalives_idle": 30,
                "tcp_user_timeout": 60_000,
                "application_name": "rd-import",
            }
            wanted = {name: one for name, one in patience.items() if name not in self._url.query}
            self._engine = sa.create_engine(
                self._url, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=wanted
            )
            event.listen(self._engine, "connect", _prepare_postgres)
        return self._engine

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            locked = getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE
            key = "ledger_locked" if locked else "ledger_unreachable"
            reason = " ".join(str(error.orig).split())
            if self._url.password:
                reason = reason.replace(str(self._url.password), "***")
            raise LedgerError(key, path=self.name, reason=reason) from error


def _postgres_url(address: str) -> sa.URL:
    """Read an address; what is wrong with it is said without showing it, since it may hold a password."""
    try:
        url = sa.make_url(address)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise JobError("bad_ledger_address") from error
    if url.drivername not in POSTGRES_SCHEMES:
        raise JobError("ledger_of_other_database", scheme=url.drivername)
    if "@" in (
        url.host or ""
    ):  # an unescaped one in the password: the rest would be shown as the host
        raise JobError("bad_ledger_address")
    password = url.query.get("password")
    if {"sslpassword", "oauth_client_secret"} & url.query.keys():  # no place in libpq masks them
        raise JobError("bad_ledger_address")
    if password is not None:
        url = url.set(password=str(password)).difference_update_query(["password"])
    try:
        import psycopg  # noqa: F401 -- SQLAlchemy's driver
    except ImportError as error:
        raise JobError("needs_extra", what=f"{url.drivername}://", extra="postgres") from error
    return url.set(drivername="postgresql+psycopg")


def _number_of(process: str) -> int:
    """Give the advisory lock of a process: 64 bits, signed."""
    digest = hashlib.sha256(process.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # SQLite does not wait by itself for another process that switches the same new file to WAL.
    patient = Retrying(
        retry=retry_if_exception_message(match=".*locked"),
        stop=stop_after_delay(10),
        wait=wait_random(0.01, 0.1),
        reraise=True,
    )
    with contextlib.closing(connection.cursor()) as cursor:
        patient(cursor.execute, "PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        # Keys are random, so a request touches a page for each: copying them back after every 80 MB instead of every
        # 4 MB writes a page once that was changed many times, and 16 MB hold the pages above the leaves.
        cursor.execute("PRAGMA wal_autocheckpoint=20000")
        cursor.execute("PRAGMA cache_size=-16000")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once: a claim looks and writes, and nobody may write in between.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _prepare_postgres(connection: Any, _record: object) -> None:
    settings = {
        "search_path": POSTGRES_SCHEMA,
        "lock_timeout": f"{WAIT_S}s",
        # The server notices within a minute that a machine is gone, and frees what it held.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
    connection.commit()
