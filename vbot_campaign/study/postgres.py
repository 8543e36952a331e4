"""The database on a PostgreSQL server. The driver is loaded only where one is used."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from vbot_campaign.errors import StudyNotFoundError
from vbot_campaign.storage_url import masked, with_driver
from vbot_campaign.study import tables

LOCK_TIMEOUT_S = 30
IDLE_S = 30
_MAKING = 0x76626F74  # a lock of the whole database; the number only has to be the same everywhere
# A link that was cut says nothing: without these the kernel would wait a quarter of an hour for an answer.
_CONNECT = {
    "application_name": "vbot-campaign",
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_ADVICE = (
    (r"No module named 'psycopg'|no pq wrapper", "Install the driver: pip install 'psycopg[binary]>=3.2'"),
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        "User or password is wrong; libpq also takes the password from ~/.pgpass or $PGPASSWORD.",
    ),
    (r"database .* does not exist", "Make it on the server: createdb {database}"),
    (
        r"refused|timed? ?out|timeout expired|resolve|translate host|Name or service|No route|unreachable|closed the "
        r"connection|No such file",
        "Is the server running, are host and port right, and does it let this machine in (listen_addresses, "
        "pg_hba.conf)?",
    ),
    (r"pg_hba\.conf", "The server does not let this machine or user in; its pg_hba.conf says whom it does."),
    (
        r"permission denied",
        "The user may not do that; the owner of the database can: GRANT ALL ON SCHEMA public TO USER.",
    ),
    (r"too many|remaining connection slots", "The server has no connection left; raise its max_connections."),
    (r"lock timeout", f"Another program has been making or changing the tables for {LOCK_TIMEOUT_S} s; try again."),
    (
        r"no longer compatible with the table schema",
        "Another version of Optuna made its tables; install that one, or a newer one.",
    ),
)


class PostgresServer:
    """A database on a server, and what is special about one.

    Args:
        url: Its address, with or without the driver.
    """

    file = None

    def __init__(self, url: str) -> None:
        self.url = with_driver(url)
        self.name = masked(url)

    @contextlib.contextmanager
    def opening(self, *, read_only: bool) -> Iterator[None]:
        """Surround the opening of the database; only one process at a time may make or change its tables.

        Raises:
            StudyNotFoundError: Read-only, and it has no tables of ours yet.
        """
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, **self.engine_options(read_only=read_only))
        try:
            with engine.connect() as connection:
                if read_only:
                    self._expect_tables(connection)
                else:
                    connection.execute(sa.text(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'"))
                    connection.execute(sa.select(sa.func.pg_advisory_lock(_MAKING)))
                    connection.commit()
                yield
        finally:
            engine.dispose()

    def engine_options(self, *, read_only: bool) -> dict[str, Any]:
        """Return how SQLAlchemy is to connect."""
        chosen = sa.make_url(self.url).query
        # A program that was frozen in the middle of a write would keep what it locked.
        known = _CONNECT if read_only else {**_CONNECT, "options": f"-c idle_in_transaction_session_timeout={IDLE_S}s"}
        options: dict[str, Any] = {"connect_args": {name: value for name, value in known.items() if name not in chosen}}
        if read_only:
            options["execution_options"] = {"postgresql_readonly": True}
        return options

    def advice(self, text: str) -> str:
        """Return what to do about one of the driver's errors."""
        for pattern, advice in _ADVICE:
            if re.search(pattern, text):
                return advice.format(database=urlsplit(self.url).path.strip("/") or "NAME")
        return "Look into the server's log; --storage, $VBOT_CAMPAIGN_STORAGE or the settings file names the server."

    def _expect_tables(self, connection: sa.Connection) -> None:
        if not sa.inspect(connection).has_table(tables.Schema.__tablename__):
            raise StudyNotFoundError(f"{self.name}: no studies there yet. Start one with `vbot-campaign run FILE`.")


@contextlib.contextmanager
def one_instant(engine: sa.Engine) -> Iterator[None]:
    """Show all transactions of the block, on whatever connection, the database as it is at its beginning."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as keeper:
        snapshot = keeper.scalar(sa.select(sa.func.pg_export_snapshot()))

        def look_back(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")

        sa.event.listen(engine, "begin", look_back)
        try:
            yield
        finally:
            sa.event.remove(engine, "begin", look_back)
