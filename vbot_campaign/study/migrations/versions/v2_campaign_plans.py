"""Campaigns of several stages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vbot_campaign.study.tables import JSON

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "campaign_plans",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("updated", sa.DateTime, nullable=False),
        sa.Column("definition", JSON, nullable=False),
        sa.Column("state", JSON, nullable=False),
        if_not_exists=True,
    )
