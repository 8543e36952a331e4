"""Campaigns in the database: the plan of each, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from vbot_campaign.errors import StudyNotFoundError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.storage import CampaignStorage, open_storage, storage_errors
from vbot_campaign.study.tables import PlanRow


@dataclass(frozen=True)
class PlanRecord:
    """One campaign as it is stored."""

    name: str
    definition: dict[str, Any]
    """The plan as plain values, see `vbot_campaign.spec.loading.plan_definition`."""
    state: dict[str, Any]
    created: datetime
    updated: datetime


def create_plan(paths: CampaignPaths, name: str, definition: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Store a new campaign; one that is there already stays as it is."""
    storage = open_storage(paths)
    try:
        now = datetime.now(UTC)
        with storage_errors(storage.url), storage.session() as session:
            if session.get(PlanRow, name) is None:
                row = PlanRow(name=name, created=now, updated=now, definition=dict(definition), state=dict(state))
                session.add(row)
    finally:
        storage.close()


def update_plan(
    paths: CampaignPaths,
    name: str,
    *,
    definition: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Replace what is stored of a campaign, in one transaction.

    Args:
        paths: The runs folder.
        name: The campaign.
        definition: Its plan; None leaves it.
        state: How far it has come; None leaves it.
    """
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url), storage.session() as session:
            row = session.get_one(PlanRow, name)
            row.updated = datetime.now(UTC)
            row.definition = row.definition if definition is None else dict(definition)
            row.state = row.state if state is None else dict(state)
    finally:
        storage.close()


def load_plan_record(paths: CampaignPaths, name: str) -> PlanRecord:
    """Return a campaign by name, without changing anything.

    Raises:
        StudyNotFoundError: There is none of that name; the message has the nearest ones.
        StorageError: The database cannot be read.
    """
    records = _read(paths)
    if name not in records:
        known = ", ".join(records) or "none yet"
        raise StudyNotFoundError(
            f"campaign '{name}': not found.{did_you_mean(name, records)} Known campaigns: {known}. "
            "Start one with `vbot-campaign campaign run PLAN.yaml`."
        )
    return records[name]


def plan_names(paths: CampaignPaths) -> list[str]:
    """Return the names of all campaigns, sorted; none when there is no database."""
    return list(_read(paths))


def _read(paths: CampaignPaths) -> dict[str, PlanRecord]:
    if not paths.has_database:
        return {}
    try:
        storage = open_storage(paths, read_only=True)
    except StudyNotFoundError:  # a server that nothing was stored on yet
        return {}
    try:
        with storage_errors(storage.url):
            return {record.name: record for record in _records(storage)}
    finally:
        storage.close()


def _records(storage: CampaignStorage) -> list[PlanRecord]:
    # A database of an earlier version is not brought up to date by looking at it.
    if not sa.inspect(storage.engine).has_table(PlanRow.__tablename__):
        return []
    with storage.session() as session:
        rows = session.scalars(sa.select(PlanRow).order_by(PlanRow.name))
        return [PlanRecord(row.name, row.definition, row.state, row.created, row.updated) for row in rows]
