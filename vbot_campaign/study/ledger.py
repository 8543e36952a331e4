"""What happened to a study's trials, beside their scores: attempts, checkpoints, leases and hours.

Each method is one short transaction. Who writes to a trial owns it, see `vbot_campaign.study.tenure`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from vbot_campaign.errors import TrialLostError
from vbot_campaign.study.lease import Lease as Lease
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.patience import patient
from vbot_campaign.study.snapshot import AttemptView, CheckpointView
from vbot_campaign.study.storage import CampaignStorage
from vbot_campaign.study.tables import AttemptRow, CheckpointRow, TrialRow
from vbot_campaign.study.tenure import tenure_of


@dataclass
class TrialEntry:
    """Everything the ledger knows of one trial."""

    folder: str | None = None
    reason: str = ""
    prune_reason: str | None = None
    env_steps: int = 0
    env_steps_per_s: float | None = None
    parts: dict[str, float] | None = None
    evaluation: dict[str, float] | None = None
    attempts: list[AttemptView] = field(default_factory=list)
    checkpoints: list[CheckpointView] = field(default_factory=list)


class Ledger:
    """Reads and writes our own tables for one study."""

    def __init__(self, storage: CampaignStorage, study: str) -> None:
        self._storage = storage
        self._study = study
        self.patience = storage.patience
        self.tenure = tenure_of(storage, study)
        """Who is at work on the study."""

    @contextlib.contextmanager
    def _writing(self, trial: int) -> Iterator[Session]:
        with self.tenure.holding(trial), self._storage.session() as session:
            yield session

    # --- trials -------------------------------------------------------------------------------------------------

    @patient
    def update_trial(self, trial: int, **values: Any) -> None:
        """Set columns of a trial's row, which is made if missing.

        Args:
            trial: Trial number.
            **values: Columns of `TrialRow`.
        """
        with self._writing(trial) as session:
            row = _trial_row(session, self._study, trial)
            for name, value in values.items():
                setattr(row, name, value)

    @patient
    def entries(self, trials: Collection[int]) -> dict[int, TrialEntry]:
        """Return what is known of the given trials; one that is unknown has an empty entry.

        The cost grows with the number of trials asked for, not with the size of the study.
        """
        entries = {number: TrialEntry() for number in trials}
        with self._storage.session() as session:
            for row in self._rows(session, TrialRow, trials):
                entries[row.trial] = _entry(row)
            for attempt in self._rows(session, AttemptRow, trials, AttemptRow.number):
                entries[attempt.trial].attempts.append(_attempt_view(attempt))
            for checkpoint in self._rows(session, CheckpointRow, trials, CheckpointRow.env_steps, CheckpointRow.path):
                if not checkpoint.deleted:
                    entries[checkpoint.trial].checkpoints.append(_checkpoint_view(checkpoint))
        return entries

    def entry(self, trial: int) -> TrialEntry:
        """Return what is known of one trial."""
        return self.entries([trial])[trial]

    def _rows(self, session: Session, table: Any, trials: Collection[int], *order: Any) -> list[Any]:
        query = sa.select(table).where(table.study == self._study, table.trial.in_(trials)).order_by(*order)
        return list(session.scalars(query))

    # --- attempts -----------------------------------------------------------------------------------------------

    def open_attempt(self, trial: int, *, slot: str, first_env_step: int) -> AttemptView:
        """Record that an attempt is about to start, before its process exists.

        Returns:
            The attempt with its number (1 for the first) and a fresh token.
        """
        return self._open_attempt(trial, secrets.token_hex(8), slot, first_env_step)

    @patient
    def _open_attempt(self, trial: int, token: str, slot: str, first_env_step: int) -> AttemptView:
        with self._writing(trial) as session:
            if (row := session.scalar(sa.select(AttemptRow).where(AttemptRow.token == token))) is not None:
                return _attempt_view(row)  # it was made, and only the answer was lost
            _trial_row(session, self._study, trial)
            session.flush()
            last = sa.select(sa.func.max(AttemptRow.number)).where(*self._of(AttemptRow, trial))
            row = AttemptRow(
                study=self._study,
                trial=trial,
                number=(session.scalar(last) or 0) + 1,
                token=token,
                host=Owner.here().host,
                slot=slot,
                started=datetime.now(UTC),
                first_env_step=first_env_step,
                last_env_step=first_env_step,
            )
            session.add(row)
            session.flush()
            return _attempt_view(row)

    @patient
    def update_attempt(self, trial: int, number: int, **values: Any) -> None:
        """Set columns of an attempt's row.

        Args:
            trial: Trial number.
            number: Attempt number.
            **values: Columns of `AttemptRow`.
        """
        with self._writing(trial) as session:
            where = (*self._of(AttemptRow, trial), AttemptRow.number == number)
            session.execute(sa.update(AttemptRow).where(*where).values(**values))

    def close_attempt(
        self,
        trial: int,
        number: int,
        *,
        reason: str,
        exit_code: int | None,
        died: bool,
        memory_peak_mb: float | None = None,
        ended: datetime | None = None,
    ) -> None:
        """Record that an attempt ended.

        Args:
            trial: Trial number.
            number: Attempt number.
            reason: Why, in words.
            exit_code: Of the process; negative for a signal, None when nobody saw it end.
            died: It ended without being asked and without a result.
            memory_peak_mb: Most memory it had; None leaves what is recorded.
            ended: When, aware UTC; None for now.
        """
        values: dict[str, Any] = {"reason": reason, "exit_code": exit_code, "died": died}
        values["ended"] = ended or datetime.now(UTC)
        if memory_peak_mb is not None:
            values["memory_peak_mb"] = memory_peak_mb
        self.update_attempt(trial, number, **values)

    @patient
    def deaths(self, trial: int) -> int:
        """Return how many attempts of a trial died."""
        query = sa.select(sa.func.count()).select_from(AttemptRow).where(*self._of(AttemptRow, trial), AttemptRow.died)
        with self._storage.session() as session:
            return session.scalar(query) or 0

    def _of(self, table: Any, trial: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
        return table.study == self._study, table.trial == trial

    # --- checkpoints --------------------------------------------------------------------------------------------

    @patient
    def record_checkpoint(self, trial: int, path: str, line: Mapping[str, Any]) -> None:
        """Record a line of ``checkpoints.jsonl``. Recording it again changes nothing.

        Args:
            trial: Trial number.
            path: The file, relative to the study's folder.
            line: The line, see `vbot_campaign.events`; with ``deleted`` it says that the file was removed.
        """
        with self._writing(trial) as session:
            row = session.get(CheckpointRow, (self._study, path))
            if line.get("deleted"):
                if row is not None:
                    row.deleted = True
                return
            if row is not None and row.sha256 != line["sha256"]:
                row.verified = None
            verified = row.verified if row is not None else None
            session.merge(_checkpoint_row(self._study, trial, path, line, verified))

    @patient
    def mark_verified(self, path: str, when: datetime) -> None:
        """Record that a checkpoint's hash was found right."""
        where = (CheckpointRow.study == self._study, CheckpointRow.path == path)
        with self._storage.session() as session:
            session.execute(sa.update(CheckpointRow).where(*where).values(verified=when))

    # --- lease and hours ----------------------------------------------------------------------------------------

    def lease(self) -> Lease | None:
        """Return the last lease of the study, held or not; of several supervisors, one with the slots of all."""
        leases = self.tenure.leases()
        held = [lease for lease in leases if lease.is_held()]
        if not held:
            return leases[-1] if leases else None
        first = min(held, key=lambda lease: not lease.owner.is_local)
        slots = tuple(slot for lease in held for slot in lease.slots)
        return replace(first, slots=slots, shared=all(lease.shared for lease in held))

    def begin_session(self, owner: Owner, slots: Collection[str], lease_s: float, *, shared: bool = False) -> int:
        """Take the lease and start counting hours.

        Args:
            owner: The supervisor.
            slots: Where it runs workers.
            lease_s: How long the lease holds without a `beat`.
            shared: Let others be at work beside it; only on a server.

        Returns:
            Number of the session, for `beat`.

        Raises:
            StudyBusyError: On a server: others are at work, and not both sides share.
        """
        return self.tenure.begin(owner, slots, lease_s, shared=shared)

    def beat(self, session_id: int, seconds: float, lease_s: float) -> frozenset[int] | None:
        """Renew the lease and add to the hours.

        Args:
            session_id: From `begin_session`.
            seconds: Time at work in this session so far.
            lease_s: Until then, counted from now, the lease holds.

        Returns:
            The trials that are still its own; None for all.

        Raises:
            TrialLostError: Another supervisor has the whole study.
        """
        return self.tenure.beat(session_id, seconds, lease_s)

    def end_session(self, session_id: int, seconds: float) -> None:
        """Count the last seconds and give the lease back."""
        with contextlib.suppress(TrialLostError):
            self.beat(session_id, seconds, lease_s=0.0)
        self.tenure.end(session_id)

    def hours_used(self) -> float:
        """Return the hours that supervisors were at work on the study."""
        return self.tenure.hours_used()


def _trial_row(session: Session, study: str, trial: int) -> TrialRow:
    row = session.get(TrialRow, (study, trial))
    if row is None:
        row = TrialRow(study=study, trial=trial, reason="", env_steps=0)
        session.add(row)
    return row


def _entry(row: TrialRow) -> TrialEntry:
    names = ("folder", "reason", "prune_reason", "env_steps", "env_steps_per_s", "parts", "evaluation")
    return TrialEntry(**{name: getattr(row, name) for name in names})


def _attempt_view(row: AttemptRow) -> AttemptView:
    return AttemptView(**{name: getattr(row, name) for name in AttemptView.__dataclass_fields__})


def _checkpoint_view(row: CheckpointRow) -> CheckpointView:
    return CheckpointView(**{name: getattr(row, name) for name in CheckpointView.__dataclass_fields__})


def _checkpoint_row(
    study: str, trial: int, path: str, line: Mapping[str, Any], verified: datetime | None
) -> CheckpointRow:
    return CheckpointRow(
        study=study,
        trial=trial,
        path=path,
        env_steps=int(line["env_steps"]),
        kind=str(line["kind"]),
        sha256=str(line["sha256"]),
        bytes=int(line["bytes"]),
        score=line.get("score"),
        metrics=line.get("parts"),
        created=datetime.fromisoformat(line["time"]),
        verified=verified,
        deleted=False,
    )
