"""Carries the rows of one study from one database to another."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vbot_campaign.errors import StorageError
from vbot_campaign.study.artifacts import of_copied_trials
from vbot_campaign.study.attributes import DEFINITION, STATUS
from vbot_campaign.study.storage import CampaignStorage
from vbot_campaign.study.tables import AttemptRow, CheckpointRow, LeaseRow, SessionRow, TrialRow

_CARRIED: tuple[Any, ...] = (TrialRow, AttemptRow, CheckpointRow, SessionRow)


def is_there(storage: CampaignStorage, name: str) -> bool:
    """Tell whether a database has a study with its definition; one whose making was cut off has none."""
    study_id = _study_id(storage, name)
    return study_id is not None and DEFINITION in storage.rdb.get_study_user_attrs(study_id)


def copy_study(
    source: CampaignStorage, target: CampaignStorage, name: str, *, when: datetime | None = None, reason: str = ""
) -> None:
    """Copy a study with its trials, attempts, checkpoints and hours; nobody owns the copy.

    The definition is written last, so a copy that was cut off counts as no study and is made again from its beginning.

    Args:
        source: Where it is.
        target: Where to; it must not be there.
        name: The study.
        when: The time at which open attempts have ended; None leaves them, and a running study, as they are.
        reason: Why they have, and why a running study is stopped.

    Raises:
        StorageError: It is not in the source.
    """
    source_id = _study_id(source, name)
    if source_id is None:
        raise StorageError(f"{source.url}: holds no study '{name}'.")
    delete_study(target, name)
    target_id = target.rdb.create_new_study(source.rdb.get_study_directions(source_id), name)
    trials = source.rdb.get_all_trials(source_id)
    trial_ids = {trial._trial_id: target.rdb.create_new_trial(target_id, trial) for trial in trials}
    for key, value in source.rdb.get_study_system_attrs(source_id).items():
        target.rdb.set_study_system_attr(target_id, of_copied_trials(key, trial_ids), value)
    _copy_rows(source, target, name, when, reason)
    attrs = source.rdb.get_study_user_attrs(source_id)
    if when is not None and attrs.get(STATUS, {}).get("state") == "running":
        attrs[STATUS] = {"state": "stopped", "reason": reason}
    for key in sorted(attrs, key=lambda key: key == DEFINITION):
        target.rdb.set_study_user_attr(target_id, key, attrs[key])


def delete_study(storage: CampaignStorage, name: str) -> None:
    """Remove a study from both halves of a database, the definition first; nothing happens where there is none."""
    study_id = _study_id(storage, name)
    if study_id is not None:
        storage.rdb.delete_study(study_id)
    with storage.session() as session:
        for table in (*_CARRIED, LeaseRow):
            session.execute(sa.delete(table).where(table.study == name))


def _study_id(storage: CampaignStorage, name: str) -> int | None:
    try:
        return storage.rdb.get_study_id_from_name(name)
    except KeyError:
        return None


def _copy_rows(source: CampaignStorage, target: CampaignStorage, name: str, when: datetime | None, reason: str) -> None:
    with source.session() as reader, target.session() as writer:
        for table in _CARRIED:
            for row in reader.scalars(sa.select(table).where(table.study == name)):
                columns = [column.name for column in table.__table__.columns]
                values = {column: getattr(row, column) for column in columns if column != "id"}
                if when is not None and table is AttemptRow and values["ended"] is None:
                    values |= {"ended": when, "reason": reason}
                writer.add(table(**values))
