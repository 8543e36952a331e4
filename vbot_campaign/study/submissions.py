"""The queue of studies and plans that a service runs.

Every change names the state that it starts from, so that of two processes that want to change the same submission (a
person who cancels it, the service that starts it) one is told that it came too late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import sqlalchemy as sa

from vbot_campaign.errors import StudyError, StudyNotFoundError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.storage import CampaignStorage, open_storage, storage_errors
from vbot_campaign.study.tables import SubmissionRow

Kind = Literal["study", "plan"]
Wanted = Literal["", "cancel", "requeue"]


class QueueState(StrEnum):
    """Where a submission stands."""

    QUEUED = "queued"
    """Waits for its turn."""
    RUNNING = "running"
    """Has a place: its supervisor is at work, or is started again soon."""
    FINISHED = "finished"
    """Ran to its end, or to the end of its budget."""
    FAILED = "failed"
    """Could not be run, or stopped because something is wrong."""
    CANCELLED = "cancelled"
    """A person took it out of the queue, or stopped it."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be run, or is being run."""
        return self in (QueueState.QUEUED, QueueState.RUNNING)


@dataclass(frozen=True)
class Submission:
    """One study or plan in the queue."""

    id: int
    name: str
    kind: Kind
    definition: dict[str, Any]
    """As in a file, with all that it refers to resolved and all paths absolute."""
    priority: int
    state: QueueState
    reason: str
    wanted: Wanted
    """What becomes of it when its supervisor has stopped; empty where nothing was asked."""
    submitted: datetime
    started: datetime | None
    ended: datetime | None
    launched: datetime | None
    """When the process that runs it was started; None between two of them."""
    not_before: datetime | None
    deaths: int
    """Processes in a row that died."""
    restarts: int
    """How often a process was started again, over its whole life."""
    owner: Owner | None
    """The process that runs it, or ran it last."""
    share: tuple[str, ...]
    """GPUs and CPU cores that it was given; none where it has the whole machine."""

    @property
    def turn(self) -> tuple[bool, int, int]:
        """Its turn among the queued ones, the lowest first: what was begun, then by priority, then by age."""
        return self.started is None, -self.priority, self.id


class Submissions:
    """The queue in an open database. May be used from several threads.

    Args:
        storage: The database. It may be of an earlier version where it is only read: then nothing is in the queue.
    """

    def __init__(self, storage: CampaignStorage) -> None:
        self._storage = storage
        self._has_table = False

    def all(self) -> list[Submission]:
        """Return everything that was ever submitted, the oldest first.

        Raises:
            StorageError: The database cannot be read.
        """
        return self._select()

    def open(self) -> list[Submission]:
        """Return what runs, and what is queued in its order.

        Raises:
            StorageError: The database cannot be read.
        """
        found = self._select(SubmissionRow.state.in_((QueueState.QUEUED, QueueState.RUNNING)))
        return sorted(found, key=lambda one: (one.state is not QueueState.RUNNING, one.turn))

    def _select(self, *where: sa.ColumnElement[bool]) -> list[Submission]:
        with storage_errors(self._storage.url):
            # A database of an earlier version is not brought up to date by looking at it.
            self._has_table = self._has_table or sa.inspect(self._storage.engine).has_table(SubmissionRow.__tablename__)
            if not self._has_table:
                return []
            with self._storage.session() as session:
                rows = session.scalars(sa.select(SubmissionRow).where(*where).order_by(SubmissionRow.id))
                return [_submission(row) for row in rows]

    def find_open(self, name: str) -> Submission:
        """Return what runs or is queued under a name.

        Raises:
            StudyNotFoundError: Nothing is; the message has what is in the queue.
        """
        found = {one.name: one for one in self.open()}
        if name not in found:
            known = ", ".join(found) or "nothing"
            raise StudyNotFoundError(
                f"'{name}': not in the queue.{did_you_mean(name, found)} In it: {known}. See: vbot-campaign queue"
            )
        return found[name]

    def add(self, name: str, kind: Kind, definition: Mapping[str, Any], *, priority: int) -> Submission:
        """Put a study or plan into the queue.

        Raises:
            StudyError: One of that name is in it already.
        """
        row = SubmissionRow(
            name=name,
            kind=kind,
            definition=dict(definition),
            priority=priority,
            state=QueueState.QUEUED,
            reason="",
            wanted="",
            submitted=datetime.now(UTC),
            deaths=0,
            restarts=0,
            share=[],
        )
        with storage_errors(self._storage.url):
            try:
                with self._storage.session() as session:
                    session.add(row)
                    session.flush()
                    return _submission(row)
            except sa.exc.IntegrityError:
                pass
        there = self.find_open(name)
        raise StudyError(
            f"'{name}': is in the queue already ({there.state}). Wait for it, or take it out: "
            f"vbot-campaign cancel {name}"
        )

    def change(self, one: Submission, *, only: Collection[sa.ColumnElement[bool]] = (), **values: Any) -> bool:
        """Set columns of a submission that is still in the state in which it was read.

        Args:
            one: The submission.
            only: Further conditions.
            **values: Columns of `SubmissionRow`.

        Returns:
            False when its state has changed in between, and nothing was set.

        Raises:
            StorageError: The database cannot be written.
        """
        where = (SubmissionRow.id == one.id, SubmissionRow.state == one.state, *only)
        with storage_errors(self._storage.url), self._storage.session() as session:
            done = session.execute(sa.update(SubmissionRow).where(*where).values(**values))
            return bool(getattr(done, "rowcount", 0))

    def claim(self, one: Submission, share: Collection[str], *, again: bool) -> bool:
        """Take a submission in order to start its process, unless it was cancelled in between.

        Args:
            one: The submission, queued or between two processes.
            share: GPUs and CPU cores for it.
            again: A process has run it before.
        """
        now = datetime.now(UTC)
        return self.change(
            one,
            only=(SubmissionRow.wanted != "cancel",),
            state=QueueState.RUNNING,
            reason="",
            wanted="",
            started=one.started or now,
            launched=now,
            not_before=None,
            restarts=one.restarts + (1 if again else 0),
            host=Owner.here().host,
            pid=None,
            pid_started=None,
            share=list(share),
        )

    def end(self, one: Submission, state: QueueState, reason: str) -> bool:
        """Take a submission out of the queue for good."""
        return self.change(one, state=state, reason=reason, wanted="", ended=datetime.now(UTC), not_before=None)

    def requeue(self, one: Submission, reason: str) -> bool:
        """Put one that has stopped back at the head of the queue."""
        return self.change(
            one, state=QueueState.QUEUED, reason=reason, wanted="", launched=None, not_before=None, pid=None
        )


@contextlib.contextmanager
def opened(paths: CampaignPaths, *, read_only: bool = False) -> Iterator[Submissions]:
    """Open the database for the block and yield its queue.

    Raises:
        StorageError: The database cannot be used.
    """
    storage = open_storage(paths, read_only=read_only)
    try:
        yield Submissions(storage)
    finally:
        storage.close()


def read_submissions(paths: CampaignPaths) -> list[Submission]:
    """Return everything that was ever submitted, the oldest first; nothing where there is no database."""
    if not paths.has_database:
        return []
    try:
        with opened(paths, read_only=True) as queue:
            return queue.all()
    except StudyNotFoundError:  # a server that nothing was stored on yet
        return []


def _submission(row: SubmissionRow) -> Submission:
    owner = None
    if row.host is not None and row.pid is not None and row.pid_started is not None:
        owner = Owner(row.host, row.pid, row.pid_started)
    kind: Kind = "plan" if row.kind == "plan" else "study"
    wanted: Wanted = "cancel" if row.wanted == "cancel" else "requeue" if row.wanted == "requeue" else ""
    return Submission(
        id=row.id,
        name=row.name,
        kind=kind,
        definition=row.definition,
        priority=row.priority,
        state=QueueState(row.state),
        reason=row.reason,
        wanted=wanted,
        submitted=row.submitted,
        started=row.started,
        ended=row.ended,
        launched=row.launched,
        not_before=row.not_before,
        deaths=row.deaths,
        restarts=row.restarts,
        owner=owner,
        share=tuple(row.share),
    )
