"""The ledger's tables, their version, and the way from each older version to this one."""

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

SCHEMA_VERSION: Final = 5
IN_FLIGHT: Final = sa.text("state = 'sent'")
KEY_HEAD: Final = "substr(event_key, 1, 8)"
"""What lines are found by, as the index spells it; two keys may share it, so the key itself is compared too."""

metadata = sa.MetaData()
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account", sa.Integer, primary_key=True),
    sa.Column(
        "scope", sa.Text, nullable=False, unique=True
    ),  # endpoint and label, or a sandbox's instance
    sa.Column(
        "next_slot_us", sa.BigInteger, nullable=False, server_default="0"
    ),  # when the next request may go
    sa.Column("max_body", sa.Integer),  # learnt from a 413, bytes
    sa.Column("max_per_contact", sa.Integer),  # learnt from a 429, events a day
    sa.Column(
        "partial", sa.Boolean
    ),  # settled by `probe`: a refused body may have accepted some of its events
    sa.Column("ecommerce_in_batch", sa.Boolean),  # settled by `probe`
    sa.Column("unknowns_in_a_row", sa.Integer, nullable=False, server_default="0"),
    sa.Column("tripped", sa.Boolean, nullable=False, server_default=sa.false()),
)
credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("credential", sa.LargeBinary, primary_key=True),  # keyed hash
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # claims, refresh
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
    sa.Column("folder", sa.Text),
    sa.Column("states", sa.Text),  # rows by state when the audit was written, as JSON
)
processes = sa.Table(
    "processes",
    metadata,
    sa.Column("process", sa.Text, primary_key=True),  # one start of the program, random
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("heartbeat_us", sa.BigInteger, nullable=False),
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
    sa.Column(
        "ordinals", sa.LargeBinary, nullable=False
    ),  # the run's event ordinals, 4 bytes each, in body order
    sa.Column(
        "contents", sa.LargeBinary
    ),  # first 8 bytes of each payload's checksum, in body order; null before version 3
    sa.Column("marked_us", sa.BigInteger, nullable=False),
    sa.Column("answered_us", sa.BigInteger),
    sa.Index("requests_by_run", "run", "marked_us"),
    sa.Index("requests_in_flight", "account", sqlite_where=IN_FLIGHT, postgresql_where=IN_FLIGHT),
)
# In SQLite every table has such a column already.
ROW_NUMBER: Final = sa.DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE requests ADD COLUMN rowid bigint GENERATED ALWAYS AS IDENTITY"
)
sa.event.listen(requests, "after_create", ROW_NUMBER.execute_if(dialect="postgresql"))
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
    # Lines of one request lie side by side; only the index, a tenth in size, is written at random places.
    sa.Column("line", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("account", sa.Integer, nullable=False),
    sa.Column("event_key", sa.LargeBinary, nullable=False),
    sa.Column("request", sa.Text),  # live request that holds the key
    sa.Column("sent_sha", sa.LargeBinary),  # content that it carries
    sa.Column("accepted", sa.Text),  # a line `sha uuid` per accepted content
    sa.Column("doubt", sa.Text),  # a line `sha request` per content in doubt
    sa.Column("resend_sha", sa.LargeBinary),  # content that a person ordered to be sent again
    sa.Column("held", sa.Text),  # left or confirmed
    sa.Column("why", sa.Text, nullable=False),  # new, released, refused, deferred
    sa.Column("not_before_us", sa.BigInteger),
    sa.Column("contact", sa.LargeBinary),  # keyed hash
    sa.Column("refused_sha", sa.LargeBinary),  # content that RD Station refused last
    sa.Column("run", sa.Text),  # that claimed the key first
    sa.Column("claimed_us", sa.BigInteger),  # when
    sa.Index("keys_by_head", sa.text(KEY_HEAD)),
)
resolutions = sa.Table(
    "resolutions",
    metadata,
    sa.Column("resolution", sa.Integer, primary_key=True),
    sa.Column("account", sa.Integer, nullable=False),
    sa.Column("event_key", sa.LargeBinary, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("decided_us", sa.BigInteger, nullable=False),
    sa.Index("resolutions_by_key", "account", "event_key"),
)
fresh_contacts = sa.Table(
    "fresh_contacts",
    metadata,
    sa.Column("account", sa.Integer, primary_key=True),
    sa.Column("contact", sa.LargeBinary, primary_key=True),
    sa.Column("until_us", sa.BigInteger, nullable=False),  # when qualification events for it may go
    sqlite_with_rowid=False,
)


forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("contact", sa.LargeBinary, primary_key=True),  # keyed hash of a person who was erased
    sa.Column("forgotten_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _to_version_2(connection: sa.Connection) -> None:
    """Add what runs share: decisions, processes, credentials, fuse, and where each key came from."""
    metadata.create_all(connection)  # the tables that are new
    for column in (
        accounts.c.partial,
        accounts.c.ecommerce_in_batch,
        accounts.c.unknowns_in_a_row,
        accounts.c.tripped,
        runs.c.folder,
        runs.c.states,
        keys.c.refused_sha,
        keys.c.run,
        keys.c.claimed_us,
    ):
        made = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {made}"))


def _to_version_3(connection: sa.Connection) -> None:
    """Add what tells that a content went under another key."""
    kind = requests.c.contents.type.compile(connection.dialect)
    connection.execute(sa.text(f"ALTER TABLE requests ADD COLUMN contents {kind}"))


def _to_version_4(connection: sa.Connection) -> None:
    """Add who was erased and gets nothing any more."""
    forgotten.create(connection, checkfirst=True)


def _to_version_5(connection: sa.Connection) -> None:
    """Put the lines of keys in the order of their claims instead of the keys' own."""
    columns = ", ".join(column.name for column in keys.c if column is not keys.c.line)
    connection.execute(sa.text("ALTER TABLE keys RENAME TO keys_by_key"))
    keys.create(connection)
    connection.execute(
        sa.text(
            f"INSERT INTO keys ({columns}) SELECT {columns} FROM keys_by_key"  # noqa: S608 -- our own names
            " ORDER BY claimed_us, request"
        )
    )
    connection.execute(sa.text("DROP TABLE keys_by_key"))


MIGRATIONS: Final[Mapping[int, Callable[[sa.Connection], None]]] = {
    1: _to_version_2,
    2: _to_version_3,
    3: _to_version_4,
    4: _to_version_5,
}
"""Version → what makes the next one of it, within the transaction that opens the ledger."""


def version_of(connection: sa.Connection) -> int | None:
    """Give the schema version of a ledger; None where there is none."""
    if not sa.inspect(connection).has_table("meta"):
        return None
    if "value" not in {column["name"] for column in sa.inspect(connection).get_columns("meta")}:
        return None
    found = connection.execute(
        sa.select(meta.c.value).where(meta.c.name == "schema_version")
    ).scalar()
    return int(found or 0)


def migrate(connection: sa.Connection, version: int) -> None:
    """Bring a ledger's tables up to date."""
    for step in range(version, SCHEMA_VERSION):
        MIGRATIONS[step](connection)
    if version < SCHEMA_VERSION:
        connection.execute(
            sa.update(meta).where(meta.c.name == "schema_version").values(value=str(SCHEMA_VERSION))
        )
