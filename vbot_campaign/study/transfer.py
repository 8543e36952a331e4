"""Carries the rows of one study from one database to another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb import models

from vbot_campaign.errors import StorageError
from vbot_campaign.study.artifacts import of_copied_trials
from vbot_campaign.study.attributes import DEFINITION, STATUS
from vbot_campaign.study.storage import CampaignStorage
from vbot_campaign.study.tables import AttemptRow, CheckpointRow, LeaseRow, SessionRow, TrialRow

CARRIED: tuple[Any, ...] = (TrialRow, AttemptRow, CheckpointRow, SessionRow)
"""Our tables whose rows belong to a study for good; nobody takes a lease along."""
_OF_STUDY = (models.StudyDirectionModel, models.StudyUserAttributeModel, models.StudySystemAttributeModel)
_OF_TRIAL = (
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
)
_Row = dict[str, Any]


def is_there(storage: CampaignStorage, name: str) -> bool:
    """Tell whether a database has a study with its definition; one whose making was cut off has none."""
    study_id = _study_id(storage, name)
    return study_id is not None and DEFINITION in storage.rdb.get_study_user_attrs(study_id)


def copy_study(
    source: CampaignStorage, target: CampaignStorage, name: str, *, when: datetime | None = None, reason: str = ""
) -> None:
    """Copy a study with its trials, attempts, checkpoints and hours, in one transaction; nobody owns the copy.

    Rows are copied as they are, table by table: through Optuna's own calls a study of some hundred trials takes
    minutes. Both databases were opened, so both have the very tables that this version of Optuna knows.

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
    with source.engine.connect() as reader, target.engine.begin() as writer:
        (study,) = _rows(reader, models.StudyModel, source_id)
        study_id = writer.scalars(sa.insert(models.StudyModel).returning(models.StudyModel.study_id), [study]).one()
        trial_ids = _copy_trials(reader, writer, source_id, study_id)
        for table in _OF_STUDY:
            rows = [{**row, "study_id": study_id} for row in _rows(reader, table, source_id)]
            _insert(writer, table, [_adapted(row, trial_ids, when, reason) for row in rows])
        for table in CARRIED:
            _insert(writer, table, [_ended(row, when, reason) for row in _own_rows(reader, table, name)])


def delete_study(storage: CampaignStorage, name: str) -> None:
    """Remove a study from both halves of a database, the definition first; nothing happens where there is none."""
    study_id = _study_id(storage, name)
    if study_id is not None:
        storage.rdb.delete_study(study_id)
    with storage.session() as session:
        for table in (*CARRIED, LeaseRow):
            session.execute(sa.delete(table).where(table.study == name))


def _study_id(storage: CampaignStorage, name: str) -> int | None:
    try:
        return storage.rdb.get_study_id_from_name(name)
    except KeyError:
        return None


def _copy_trials(reader: sa.Connection, writer: sa.Connection, source_id: int, study_id: int) -> dict[int, int]:
    """Copy the trials of a study; return their new ids by the old ones."""
    trials = models.TrialModel
    old = list(reader.scalars(sa.select(trials.trial_id).where(trials.study_id == source_id).order_by(trials.trial_id)))
    rows = [{**row, "study_id": study_id} for row in _rows(reader, trials, source_id)]
    if not rows:
        return {}
    insert = sa.insert(trials).returning(trials.trial_id, sort_by_parameter_order=True)
    trial_ids = dict(zip(old, writer.scalars(insert, rows), strict=True))
    for table in _OF_TRIAL:
        of_study = table.trial_id.in_(sa.select(trials.trial_id).where(trials.study_id == source_id))
        found = _selected(reader, table, of_study)
        _insert(writer, table, [{**row, "trial_id": trial_ids[row["trial_id"]]} for row in found])
    return trial_ids


def _adapted(row: _Row, trial_ids: Mapping[int, int], when: datetime | None, reason: str) -> _Row:
    """Return an attribute of a study as it is where its trials have other ids, and where nobody runs it."""
    if "key" not in row:
        return row
    if when is not None and row["key"] == STATUS and json.loads(row["value_json"])["state"] == "running":
        return {**row, "value_json": json.dumps({"state": "stopped", "reason": reason})}
    return {**row, "key": of_copied_trials(row["key"], dict(trial_ids))}


def _ended(row: _Row, when: datetime | None, reason: str) -> _Row:
    is_open = "first_env_step" in row and row["ended"] is None
    return {**row, "ended": when, "reason": reason} if is_open and when is not None else row


def _rows(reader: sa.Connection, table: Any, study_id: int) -> Iterator[_Row]:
    return _selected(reader, table, table.study_id == study_id)


def _own_rows(reader: sa.Connection, table: Any, name: str) -> Iterator[_Row]:
    return _selected(reader, table, table.study == name)


def _selected(reader: sa.Connection, table: Any, where: Any) -> Iterator[_Row]:
    """Yield rows by column, in the order of their keys, without a number that the database gave them."""
    columns = table.__table__
    given = columns.autoincrement_column
    for row in reader.execute(sa.select(columns).where(where).order_by(*columns.primary_key)).mappings():
        yield {column.name: row[column] for column in columns.columns if column is not given}


def _insert(writer: sa.Connection, table: Any, rows: list[_Row]) -> None:
    if rows:
        writer.execute(sa.insert(table.__table__), rows)


def values_of(row: Any) -> dict[str, Any]:
    """Return a row of one of our tables by column, without a number that the database gave it."""
    return {column.name: getattr(row, column.name) for column in row.__table__.columns if column.name != "id"}
