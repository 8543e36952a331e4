"""Brings our own tables to the version that this program knows, with alembic, one step per version.

Optuna migrates its tables in the same way and keeps its version in ``alembic_version``; ours is in
``campaign_revision``, so neither ever meets the other's. ``campaign_schema`` has the same number for programs that read
the database without alembic, and has it alone where an earlier version of this program made the tables.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext

from vbot_campaign.study import tables

VERSION_TABLE = "campaign_revision"


def bring_up_to_date(engine: sa.Engine) -> None:
    """Make the tables that are missing and change those of an earlier version, all in one transaction.

    Only for one process at a time.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Python's driver begins a transaction at the first row that is written, and a table is none.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        stored = tables.stored_version(connection)
        config = _config(connection)
        if stored is not None and _revision(connection) != str(stored):
            command.stamp(config, str(stored))
        command.upgrade(config, "head")
        connection.execute(sa.delete(tables.Schema))
        connection.execute(sa.insert(tables.Schema).values(version=tables.SCHEMA_VERSION))
        connection.commit()


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _config(connection: sa.Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
