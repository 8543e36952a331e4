"""Our own tables, beside Optuna's in the same database.

They hold what Optuna has no place for: attempts, leases, checkpoints, and the hours a supervisor was at work. Rows are
tied to Optuna's by study name and trial number, without foreign keys into Optuna's tables, so that its own tools and
migrations never meet a constraint they do not know.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from vbot_campaign.errors import StorageError
from vbot_campaign.paths import is_inside as is_inside

SCHEMA_VERSION = 4
"""Of the newest of `vbot_campaign.study.migrations`."""


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps no time zone, so it is taken off and put back."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Store naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return aware UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


class InsideStudy(sa.types.TypeDecorator[str]):
    """The path of a file or folder inside a study's folder, with forward slashes.

    A database may come from elsewhere (a back-up, a colleague), so a path that leads out of the folder is never
    handed on.
    """

    impl = sa.String(255)
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the path.

        Raises:
            StorageError: It leads out of the study's folder.
        """
        if value is not None and not is_inside(value):
            raise StorageError(f"the database names {value!a}, which is outside of its study's folder.")
        return value


class JsonText(sa.types.TypeDecorator[Any]):
    """JSON as a text: PostgreSQL's own type refuses NaN, which a diverged training may report."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Store a text."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Return what it says."""
        return None if value is None else json.loads(value)


class PlainText(sa.types.TypeDecorator[str]):
    """A text without NUL, which PostgreSQL refuses and a crashed program may well have printed."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Store a replacement character in its place."""
        return None if value is None else value.replace("\0", "\ufffd")


# SQLite keeps what it has; on a server every value must be one that it takes.
JSON = sa.JSON().with_variant(JsonText(), "postgresql")
TEXT = sa.Text().with_variant(PlainText(), "postgresql")


class Base(DeclarativeBase):
    """Base of our tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, str: sa.String(255)}  # noqa: RUF012


class Schema(Base):
    """One row: the version of these tables."""

    __tablename__ = "campaign_schema"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class TrialRow(Base):
    """What is known of a trial beside its point and its reports."""

    __tablename__ = "campaign_trials"

    study: Mapped[str] = mapped_column(primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    folder: Mapped[str | None] = mapped_column(InsideStudy)
    """Relative to the study's folder, with forward slashes."""
    reason: Mapped[str] = mapped_column(TEXT, default="")
    prune_reason: Mapped[str | None] = mapped_column(TEXT)
    """Set when the pruner has spoken, before the worker is asked to stop: a crash in between loses no verdict."""
    env_steps: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    env_steps_per_s: Mapped[float | None]
    parts: Mapped[dict[str, Any] | None]
    evaluation: Mapped[dict[str, Any] | None]


class AttemptRow(Base):
    """One worker process on a trial."""

    __tablename__ = "campaign_attempts"

    study: Mapped[str] = mapped_column(primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    slot: Mapped[str]
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(TEXT)
    exit_code: Mapped[int | None] = mapped_column(sa.BigInteger)
    """Windows has some beyond 31 bits."""
    died: Mapped[bool] = mapped_column(default=False)
    """Ended without being asked and without a result: counts towards `max_attempts`."""
    first_env_step: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    last_env_step: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    memory_peak_mb: Mapped[float | None]


class LeaseRow(Base):
    """Who owns a study, and until when unless it says so again."""

    __tablename__ = "campaign_leases"

    study: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    pid_started: Mapped[float]
    since: Mapped[datetime]
    until: Mapped[datetime]
    slots: Mapped[list[str]]


class SupervisorRow(Base):
    """A supervisor at work on a study on a server; times are those of the server's clock."""

    __tablename__ = "campaign_supervisors"

    session: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Its `SessionRow`."""
    study: Mapped[str] = mapped_column(index=True)
    host: Mapped[str]
    pid: Mapped[int]
    pid_started: Mapped[float]
    since: Mapped[datetime]
    until: Mapped[datetime]
    slots: Mapped[list[str]]
    shared: Mapped[bool]
    """Whether others may be at work beside it."""


class ClaimRow(Base):
    """Whose an unfinished trial on a server is, and until when unless it says so again."""

    __tablename__ = "campaign_claims"

    study: Mapped[str] = mapped_column(primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """-1 is the right to make new trials."""
    session: Mapped[int | None]
    """`SupervisorRow` that has it; None when it is free."""
    fence: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Grows with every new owner: who comes back with an older one has lost it."""
    until: Mapped[datetime]


class SessionRow(Base):
    """One life of a supervisor, with the seconds it was at work as of its last beat."""

    __tablename__ = "campaign_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(index=True)
    host: Mapped[str]
    pid: Mapped[int]
    started: Mapped[datetime]
    seen: Mapped[datetime]
    seconds: Mapped[float] = mapped_column(default=0.0)


class CheckpointRow(Base):
    """One checkpoint file. `best_agent.pt` is replaced in place and keeps its row."""

    __tablename__ = "campaign_checkpoints"

    study: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(InsideStudy, primary_key=True)
    """Relative to the study's folder, with forward slashes."""
    trial: Mapped[int] = mapped_column(index=True)
    env_steps: Mapped[int] = mapped_column(sa.BigInteger)
    kind: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    score: Mapped[float | None]
    metrics: Mapped[dict[str, Any] | None]
    created: Mapped[datetime]
    verified: Mapped[datetime | None]
    deleted: Mapped[bool] = mapped_column(default=False)


class PlanRow(Base):
    """A campaign of several stages: its plan, and how far it has come."""

    __tablename__ = "campaign_plans"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    updated: Mapped[datetime]
    definition: Mapped[dict[str, Any]]
    state: Mapped[dict[str, Any]]


class SubmissionRow(Base):
    """A study or a plan that a service runs, ran or is to run."""

    __tablename__ = "campaign_queue"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    """``study`` or ``plan``."""
    definition: Mapped[dict[str, Any]]
    """As in a file, with all that it refers to resolved and all paths absolute."""
    priority: Mapped[int] = mapped_column(default=0)
    state: Mapped[str]
    """``queued``, ``running``, ``finished``, ``failed`` or ``cancelled``."""
    reason: Mapped[str] = mapped_column(TEXT, default="")
    wanted: Mapped[str] = mapped_column(default="")
    """What becomes of it when its supervisor has stopped: ``cancel``, ``requeue``, or nothing was asked."""
    submitted: Mapped[datetime]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    launched: Mapped[datetime | None]
    """When the process that runs it was started; None between two of them."""
    not_before: Mapped[datetime | None]
    """Until then it is not started again after a death."""
    deaths: Mapped[int] = mapped_column(default=0)
    """Processes in a row that died."""
    restarts: Mapped[int] = mapped_column(default=0)
    """How often a process was started again, over its whole life."""
    host: Mapped[str | None]
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    share: Mapped[list[str]]
    """GPUs and CPU cores that it was given; none where it has the whole machine."""

    __table_args__ = (
        # Two people who submit the same study at the same moment: one of them is told.
        sa.Index(
            "campaign_queue_open",
            "name",
            unique=True,
            sqlite_where=sa.text("state IN ('queued', 'running')"),
            postgresql_where=sa.text("state IN ('queued', 'running')"),
        ),
    )


def stored_version(connection: sa.Connection) -> int | None:
    """Return the version of the tables in a database; None where there are none, or their making was cut off."""
    if not sa.inspect(connection).has_table(Schema.__tablename__):
        return None
    return connection.scalar(sa.select(Schema.version))
