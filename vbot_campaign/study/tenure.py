"""Who is at work on a study, and which of its trials are whose.

A study in a file has one supervisor, and all trials are its own. On a server there may be several, on any machines.
Each has a lease that it renews, and claims the trials that it works at, in transactions of the database alone: a claim
is taken with ``FOR UPDATE SKIP LOCKED`` when it is free or its lease has run out by the server's clock, and with every
new owner its fence grows. Everything that a supervisor writes begins, in the same transaction, with a look at the
claim, which stays locked until the end: nobody can take a trial over between look and write, and who has lost one
writes nothing.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from vbot_campaign.errors import StudyBusyError, TrialLostError
from vbot_campaign.study.lease import Lease
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.patience import patient
from vbot_campaign.study.storage import CampaignStorage
from vbot_campaign.study.tables import ClaimRow, LeaseRow, SessionRow, SupervisorRow

MAKING = -1
"""The right to make new trials, claimed like a trial."""
_LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Claim:
    """A trial that was taken."""

    trial: int
    seen: datetime
    """Until when whoever had it before was known to live."""


class Tenure(ABC):
    """The supervisors of one study."""

    def __init__(self, storage: CampaignStorage, study: str) -> None:
        self._storage = storage
        self._study = study
        self.patience = storage.patience

    @abstractmethod
    def leases(self) -> list[Lease]:
        """Return the last lease of each supervisor, held or not."""

    @abstractmethod
    def begin(self, owner: Owner, slots: Collection[str], lease_s: float, *, shared: bool) -> int:
        """Take a lease and start counting hours; return the number of the session.

        Raises:
            StudyBusyError: Others are at work, and not both sides share.
        """

    @abstractmethod
    def beat(self, session_id: int, seconds: float, lease_s: float) -> frozenset[int] | None:
        """Renew the lease and add to the hours; return the trials that are still its own, None for all.

        Raises:
            TrialLostError: Another supervisor has the whole study.
        """

    @abstractmethod
    def end(self, session_id: int) -> None:
        """Give the lease back, and every trial."""

    def hours_used(self) -> float:
        """Return the hours that supervisors were at work on the study."""
        query = sa.select(sa.func.sum(SessionRow.seconds)).where(SessionRow.study == self._study)
        with self._storage.session() as session:
            return (session.scalar(query) or 0.0) / 3600.0

    @abstractmethod
    def know(self, unfinished: Collection[int]) -> None:
        """Let unfinished trials be taken that nobody ever claimed."""

    @abstractmethod
    def take(self, lease_s: float, trial: int | None = None) -> Claim | None:
        """Take the first trial that is free, or this one; return None where there is none, or another has it."""

    @abstractmethod
    def release(self, trial: int, *, ended: bool = False) -> None:
        """Let others take a trial; or nobody any more, because it has ended."""

    @abstractmethod
    def holding(self, trial: int | None) -> AbstractContextManager[None]:
        """Let a block write to a trial, or to the study, as long as it is still this supervisor's.

        Raises:
            TrialLostError: Another has it; the write that found out was not made.
        """

    @abstractmethod
    def making(self, lease_s: float) -> AbstractContextManager[bool]:
        """Let a block make a trial, if True; else another supervisor is just doing so."""

    def _count_from_now(self, session: Session, owner: Owner, now: datetime) -> int:
        row = SessionRow(study=self._study, host=owner.host, pid=owner.pid, started=now, seen=now)
        session.add(row)
        session.flush()
        return row.id

    @staticmethod
    def _add_seconds(session: Session, session_id: int, seconds: float) -> None:
        row = session.get_one(SessionRow, session_id)
        row.seen, row.seconds = datetime.now(UTC), seconds


class SoleTenure(Tenure):
    """The one supervisor of a study in a file."""

    def leases(self) -> list[Lease]:
        """See `Tenure.leases`."""
        with self._storage.session() as session:
            row = session.get(LeaseRow, self._study)
            return [] if row is None else [_lease(row)]

    def begin(self, owner: Owner, slots: Collection[str], lease_s: float, *, shared: bool) -> int:
        """See `Tenure.begin`. Who is refused is known from the study's lock before."""
        now = datetime.now(UTC)
        until = now + timedelta(seconds=lease_s)
        with self._storage.session() as session:
            session.merge(LeaseRow(study=self._study, since=now, until=until, slots=list(slots), **vars(owner)))
            return self._count_from_now(session, owner, now)

    def beat(self, session_id: int, seconds: float, lease_s: float) -> frozenset[int] | None:
        """See `Tenure.beat`."""
        with self._storage.session() as session:
            self._add_seconds(session, session_id, seconds)
            lease = session.get_one(LeaseRow, self._study)
            lease.until = datetime.now(UTC) + timedelta(seconds=lease_s)
        return None

    def end(self, session_id: int) -> None:
        """See `Tenure.end`."""
        with self._storage.session() as session:
            session.execute(sa.delete(LeaseRow).where(LeaseRow.study == self._study))

    def know(self, unfinished: Collection[int]) -> None:
        """See `Tenure.know`; here, all trials are known to be its own."""

    def take(self, lease_s: float, trial: int | None = None) -> Claim | None:
        """See `Tenure.take`."""
        return None if trial is None else Claim(trial, datetime.now(UTC))

    def release(self, trial: int, *, ended: bool = False) -> None:
        """See `Tenure.release`; there is nobody else."""

    def holding(self, trial: int | None) -> AbstractContextManager[None]:
        """See `Tenure.holding`."""
        return contextlib.nullcontext()

    def making(self, lease_s: float) -> AbstractContextManager[bool]:
        """See `Tenure.making`."""
        return contextlib.nullcontext(True)


class ServerTenure(Tenure):
    """The supervisors of a study on a server, one of which may be this process."""

    def __init__(self, storage: CampaignStorage, study: str) -> None:
        super().__init__(storage, study)
        self._session_id: int | None = None
        self._fences: dict[int, int] = {}
        self._is_new = False
        """Whether the database has the tables for it; one of an earlier version is not changed by looking at it."""
        self._held: list[int | None] = []
        """What is written to, the innermost block last; no check is made outside of any."""

    @patient
    def leases(self) -> list[Lease]:
        """See `Tenure.leases`."""
        self._is_new = self._is_new or sa.inspect(self._storage.engine).has_table(SupervisorRow.__tablename__)
        if not self._is_new:
            return []
        query = sa.select(SupervisorRow).where(SupervisorRow.study == self._study).order_by(SupervisorRow.session)
        with self._storage.session() as session:
            # By the clock of this machine, which is that of whoever asks whether a lease is held.
            ahead = datetime.now(UTC) - session.scalars(sa.select(_now())).one().replace(tzinfo=UTC)
            leases = [_lease(row, shared=row.shared) for row in session.scalars(query)]
        return [replace(lease, until=lease.until + ahead) for lease in leases]

    @patient
    def hours_used(self) -> float:
        """Return the hours that any supervisor was at work: two at the same time count once."""
        query = sa.select(SessionRow.started, SessionRow.seconds).where(SessionRow.study == self._study)
        with self._storage.session() as session:
            spans = sorted((started, started + timedelta(seconds=s)) for started, s in session.execute(query))
        return sum((end - start).total_seconds() for start, end in _joined(spans)) / 3600.0

    def begin(self, owner: Owner, slots: Collection[str], lease_s: float, *, shared: bool) -> int:
        """See `Tenure.begin`."""
        with self._storage.session() as session:
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(self._study))))
            self._bury(session)
            others = sa.select(SupervisorRow).where(SupervisorRow.study == self._study)
            for other in session.scalars(others.where(SupervisorRow.until > _now())):
                if not (shared and other.shared):
                    raise StudyBusyError(f"study '{self._study}': the supervisor with pid {other.pid} on {other.host} "
                                         "was quicker.")  # fmt: skip
            if not shared:  # those that are left have lost their leases, and with them the study
                session.execute(sa.delete(SupervisorRow).where(SupervisorRow.study == self._study))
                session.execute(sa.update(ClaimRow).where(ClaimRow.study == self._study).values(session=None))
            self._session_id = self._count_from_now(session, owner, datetime.now(UTC))
            known = {"session": self._session_id, "study": self._study, "slots": list(slots), "shared": shared}
            times = {"since": _now(), "until": _now(lease_s)}
            session.execute(sa.insert(SupervisorRow).values(**known, **times, **vars(owner)))
            self._insert(session, [MAKING])
        sa.event.listen(self._storage.engine, "begin", self._check)
        return self._session_id

    @patient
    def beat(self, session_id: int, seconds: float, lease_s: float) -> frozenset[int] | None:
        """See `Tenure.beat`. A lease that ran out and that nobody minded goes on."""
        until = _now(lease_s)
        with self._storage.session() as session:
            self._add_seconds(session, session_id, seconds)
            mine = sa.update(SupervisorRow).where(SupervisorRow.session == session_id).values(until=until)
            if session.execute(mine.returning(SupervisorRow.session)).first() is None:
                raise TrialLostError(None)
            own = (ClaimRow.study == self._study, ClaimRow.session == session_id)
            kept = session.scalars(sa.update(ClaimRow).where(*own).values(until=until).returning(ClaimRow.trial))
            return frozenset(kept)

    def end(self, session_id: int) -> None:
        """See `Tenure.end`."""
        with contextlib.suppress(sa.exc.InvalidRequestError):
            sa.event.remove(self._storage.engine, "begin", self._check)
        with self._storage.session() as session:
            own = (ClaimRow.study == self._study, ClaimRow.session == session_id)
            session.execute(sa.update(ClaimRow).where(*own).values(session=None))
            session.execute(sa.delete(SupervisorRow).where(SupervisorRow.session == session_id))
        self._session_id = None
        self._fences.clear()

    @patient
    def know(self, unfinished: Collection[int]) -> None:
        """See `Tenure.know`."""
        if unfinished:
            with self._storage.session() as session:
                self._insert(session, unfinished)

    @patient
    def take(self, lease_s: float, trial: int | None = None) -> Claim | None:
        """See `Tenure.take`."""
        which = ClaimRow.trial >= 0 if trial is None else ClaimRow.trial == trial
        is_free = sa.or_(ClaimRow.session.is_(None), ClaimRow.until < _now(), ClaimRow.session == self._session_id)
        free = sa.select(ClaimRow).where(ClaimRow.study == self._study, which, is_free).order_by(ClaimRow.trial)
        if trial is None:
            free = free.where(ClaimRow.session.is_distinct_from(self._session_id))
        with self._storage.session() as session:
            row = session.scalars(free.limit(1).with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            claim = Claim(row.trial, row.until)
            row.session, row.fence = self._session_id, row.fence + 1
            row.until = _now(lease_s)
            fence = row.fence
        self._fences[claim.trial] = fence
        return claim

    @patient
    def release(self, trial: int, *, ended: bool = False) -> None:
        """See `Tenure.release`."""
        self._fences.pop(trial, None)
        own = (ClaimRow.study == self._study, ClaimRow.trial == trial, ClaimRow.session == self._session_id)
        with self._storage.session() as session:
            session.execute(
                sa.delete(ClaimRow).where(*own) if ended else sa.update(ClaimRow).where(*own).values(session=None)
            )

    @contextlib.contextmanager
    def holding(self, trial: int | None) -> Iterator[None]:
        """See `Tenure.holding`."""
        self._held.append(trial)
        try:
            yield
        finally:
            self._held.pop()

    @contextlib.contextmanager
    def making(self, lease_s: float) -> Iterator[bool]:
        """See `Tenure.making`."""
        if self.take(lease_s, MAKING) is None:
            yield False
            return
        try:
            with self.holding(MAKING):
                yield True
        finally:
            self.release(MAKING)

    def _insert(self, session: Session, trials: Collection[int]) -> None:
        rows = [{"study": self._study, "trial": trial, "fence": 0, "until": _LONG_AGO} for trial in trials]
        session.execute(insert(ClaimRow).values(rows).on_conflict_do_nothing())

    def _bury(self, session: Session) -> None:
        """End the leases of supervisors of this machine whose process has gone; nobody need wait for them."""
        for row in session.scalars(sa.select(SupervisorRow).where(SupervisorRow.study == self._study)):
            owner = Owner(row.host, row.pid, row.pid_started)
            if owner.is_local and not owner.is_alive():
                session.execute(sa.update(ClaimRow).where(ClaimRow.session == row.session).values(session=None))
                session.delete(row)

    def _check(self, connection: sa.Connection) -> None:
        """Begin a transaction with a look at what it may write to."""
        if not self._held:
            return
        trial = self._held[-1]
        fence = None if trial is None else self._fences.get(trial)
        values = {"study": self._study, "trial": trial, "session": self._session_id, "fence": fence}
        # Without a fence: of the study, or of a trial that has ended and is nobody's any more.
        query = _IS_MEMBER if fence is None else _IS_OWNER
        if connection.exec_driver_sql(query, values).first() is None:
            raise TrialLostError(trial)


_IS_OWNER = (
    "SELECT 1 FROM campaign_claims WHERE study = %(study)s AND trial = %(trial)s AND session = %(session)s "
    "AND fence = %(fence)s FOR SHARE"
)
_IS_MEMBER = (
    "SELECT 1 FROM campaign_supervisors WHERE session = %(session)s AND NOT EXISTS (SELECT 1 FROM campaign_claims "
    "WHERE study = %(study)s AND trial = %(trial)s AND session <> %(session)s) FOR SHARE"
)


def tenure_of(storage: CampaignStorage, study: str) -> Tenure:
    """Return who is at work on a study, and how that is known."""
    return ServerTenure(storage, study) if storage.is_server else SoleTenure(storage, study)


def _now(plus_s: float = 0.0) -> Any:
    """Return the server's clock, or so many seconds later, in SQL: the clocks of the machines may differ."""
    now = sa.func.clock_timestamp(type_=sa.DateTime(timezone=True))
    return sa.func.timezone("UTC", now + sa.literal(timedelta(seconds=plus_s), sa.Interval), type_=sa.DateTime)


def _lease(row: Any, *, shared: bool = False) -> Lease:
    return Lease(Owner(row.host, row.pid, row.pid_started), row.since, row.until, tuple(row.slots), shared)


def _joined(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Join spans that overlap; they are sorted by their beginnings."""
    joined: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
