"""The queue of studies and plans that a service runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vbot_campaign.study.tables import JSON

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None

_NAME = sa.String(255)


def upgrade() -> None:
    """Make the table, and the index that keeps a study from being queued twice."""
    op.create_table(
        "campaign_queue",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("kind", _NAME, nullable=False),
        sa.Column("definition", JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", _NAME, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("wanted", _NAME, nullable=False),
        sa.Column("submitted", sa.DateTime, nullable=False),
        sa.Column("started", sa.DateTime),
        sa.Column("ended", sa.DateTime),
        sa.Column("launched", sa.DateTime),
        sa.Column("not_before", sa.DateTime),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("host", _NAME),
        sa.Column("pid", sa.Integer),
        sa.Column("pid_started", sa.Double),
        sa.Column("share", JSON, nullable=False),
        if_not_exists=True,
    )
    is_open = sa.text("state IN ('queued', 'running')")
    op.create_index(
        "campaign_queue_open",
        "campaign_queue",
        ["name"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
        if_not_exists=True,
    )
