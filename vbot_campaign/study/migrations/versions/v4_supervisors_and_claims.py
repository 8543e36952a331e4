"""Several supervisors at one study: who is at work, and whose each trial is. A file has them too, unused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vbot_campaign.study.tables import JSON

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None

_NAME = sa.String(255)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaign_supervisors",
        sa.Column("session", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("study", _NAME, nullable=False),
        sa.Column("host", _NAME, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("pid_started", sa.Double, nullable=False),
        sa.Column("since", sa.DateTime, nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
        sa.Column("slots", JSON, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_campaign_supervisors_study", "campaign_supervisors", ["study"], if_not_exists=True)
    op.create_table(
        "campaign_claims",
        sa.Column("study", _NAME, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("session", sa.Integer),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
        if_not_exists=True,
    )
