"""What alembic runs to migrate: over the connection that it is given, inside of its transaction."""

from __future__ import annotations

from alembic import context

from vbot_campaign.study.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
