"""Trials, attempts, leases, hours and checkpoints.

Whatever is there already stays: the making of a database may have been cut off.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vbot_campaign.study.tables import JSON

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.String(255)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaign_schema",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        if_not_exists=True,
    )
    op.create_table(
        "campaign_trials",
        sa.Column("study", _NAME, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("folder", _NAME),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("prune_reason", sa.Text),
        sa.Column("env_steps", sa.BigInteger, nullable=False),
        sa.Column("env_steps_per_s", sa.Double),
        sa.Column("parts", JSON),
        sa.Column("evaluation", JSON),
        if_not_exists=True,
    )
    _attempts()
    op.create_table(
        "campaign_leases",
        sa.Column("study", _NAME, primary_key=True),
        sa.Column("host", _NAME, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("pid_started", sa.Double, nullable=False),
        sa.Column("since", sa.DateTime, nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
        sa.Column("slots", JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "campaign_sessions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study", _NAME, nullable=False),
        sa.Column("host", _NAME, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.DateTime, nullable=False),
        sa.Column("seen", sa.DateTime, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_campaign_sessions_study", "campaign_sessions", ["study"], if_not_exists=True)
    _checkpoints()


def _attempts() -> None:
    op.create_table(
        "campaign_attempts",
        sa.Column("study", _NAME, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("token", _NAME, nullable=False),
        sa.Column("host", _NAME, nullable=False),
        sa.Column("pid", sa.Integer),
        sa.Column("pid_started", sa.Double),
        sa.Column("slot", _NAME, nullable=False),
        sa.Column("started", sa.DateTime, nullable=False),
        sa.Column("ended", sa.DateTime),
        sa.Column("reason", sa.Text),
        sa.Column("exit_code", sa.BigInteger),
        sa.Column("died", sa.Boolean, nullable=False),
        sa.Column("first_env_step", sa.BigInteger, nullable=False),
        sa.Column("last_env_step", sa.BigInteger, nullable=False),
        sa.Column("memory_peak_mb", sa.Double),
        if_not_exists=True,
    )


def _checkpoints() -> None:
    op.create_table(
        "campaign_checkpoints",
        sa.Column("study", _NAME, primary_key=True),
        sa.Column("path", _NAME, primary_key=True),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("env_steps", sa.BigInteger, nullable=False),
        sa.Column("kind", _NAME, nullable=False),
        sa.Column("sha256", _NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("metrics", JSON),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("verified", sa.DateTime),
        sa.Column("deleted", sa.Boolean, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_campaign_checkpoints_trial", "campaign_checkpoints", ["trial"], if_not_exists=True)
