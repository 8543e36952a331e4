"""Copies studies and campaigns from one database to another, in either direction between files and servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial

from vbot_campaign.errors import SpecError, StorageError, StudyBusyError, StudyError, StudyNotFoundError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.storage_url import checked_storage_url
from vbot_campaign.study import transfer
from vbot_campaign.study.artifacts import of_copied_trials
from vbot_campaign.study.attributes import DEFINITION
from vbot_campaign.study.postgres import one_instant
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.storage import CampaignStorage, open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.study.tables import PlanRow


@dataclass(frozen=True)
class Copied:
    """What was copied, and found to be the same afterwards."""

    source: str
    """Without password."""
    target: str
    studies: dict[str, int]
    """Trials by name."""
    campaigns: tuple[str, ...]


def copy_studies(source: str, target: str, names: Sequence[str] | None = None) -> Copied:
    """Copy studies whole: Optuna's half, attempts, hours, checkpoints, alerts; and campaigns.

    What is at the target already is never touched. The files of trials are not copied.

    Args:
        source: A runs folder, an SQLite file, or the address of a database on a server.
        target: The same; it is made where it is missing.
        names: The studies; None for all, with all campaigns.

    Raises:
        SpecError: A place that cannot be one, or twice the same.
        StudyNotFoundError: No such database, or no study of that name in it.
        StudyBusyError: A study is running.
        StudyError: The target has one of that name.
        StorageError: A database cannot be used, or the copy is not what was copied; it is removed again.
    """
    addresses = _address(source, "FROM"), _address(target, "TO")
    if addresses[0] == addresses[1]:
        raise SpecError(f"TO: is where the studies are already ({target}); name another place.")
    with _opened(addresses[0], read_only=True) as reader, contextlib.ExitStack() as stack:
        if reader.is_server:
            stack.enter_context(one_instant(reader.engine))
        chosen = _chosen(reader, names)
        plans = [] if names else _plans(reader)
        for name in chosen:
            _refuse_running(reader, name)
        writer = stack.enter_context(_opened(addresses[1], read_only=False))
        _refuse_existing(writer, chosen, [plan.name for plan in plans])
        studies = {name: _copy(reader, writer, name) for name in chosen}
        _copy_plans(writer, plans)
        return Copied(reader.url, writer.url, studies, tuple(plan.name for plan in plans))


@contextlib.contextmanager
def _opened(url: str, *, read_only: bool) -> Iterator[CampaignStorage]:
    storage = open_storage(url, read_only=read_only)
    try:
        with storage_errors(storage.url):
            yield storage
    finally:
        storage.close()


def _address(place: str, what: str) -> str:
    if "://" in place:
        return checked_storage_url(place, what)
    path = Path(place)
    if not path.name:
        path = path.absolute()
    if path.is_file() or (path.suffix == ".db" and not path.is_dir()):
        return f"sqlite:///{path.resolve().as_posix()}"
    return CampaignPaths(path.resolve()).database_url


def _chosen(reader: CampaignStorage, names: Sequence[str] | None) -> list[str]:
    studies = {study.study_name: study._study_id for study in reader.rdb.get_all_studies()}
    there = sorted(name for name, id_ in studies.items() if DEFINITION in reader.rdb.get_study_user_attrs(id_))
    for name in names or ():
        if name not in there:
            known = ", ".join(there) or "none"
            raise StudyNotFoundError(
                f"study '{name}': not found in {reader.url}.{did_you_mean(name, there)} It has: {known}."
            )
    return there if names is None else list(dict.fromkeys(names))


def _refuse_running(reader: CampaignStorage, name: str) -> None:
    snapshot = CampaignStudy.open(reader, name).snapshot()
    if snapshot.supervisor is not None or any(trial.state is TrialState.RUNNING for trial in snapshot.trials):
        raise StudyBusyError(
            f"study '{name}': is running; nothing was copied. End it with `vbot-campaign stop {name}` first."
        )


def _refuse_existing(writer: CampaignStorage, studies: Sequence[str], plans: Sequence[str]) -> None:
    there = {study.study_name for study in writer.rdb.get_all_studies()}
    if taken := [name for name in studies if name in there]:
        raise StudyError(f"study '{taken[0]}': is in {writer.url} already; nothing was copied.")
    with writer.session() as session:
        found = session.scalars(sa.select(PlanRow.name).where(PlanRow.name.in_(plans))).first()
    if found is not None:
        raise StudyError(f"campaign '{found}': is in {writer.url} already; nothing was copied. Name studies: --study.")


def _copy(reader: CampaignStorage, writer: CampaignStorage, name: str) -> int:
    try:
        transfer.copy_study(reader, writer, name)
        if found := _differences(reader, writer, name):
            raise StorageError(
                f"study '{name}': its copy in {writer.url} differs: {found[0]}. It was removed again; is somebody "
                "writing to the study?"
            )
    except BaseException:
        transfer.delete_study(writer, name)
        raise
    return len(reader.rdb.get_all_trials(reader.rdb.get_study_id_from_name(name)))


# --- comparing ------------------------------------------------------------------------------------------------------


def _differences(reader: CampaignStorage, writer: CampaignStorage, name: str) -> list[str]:
    """Return where a copy is not what was copied, each by its name; nothing where it is."""
    one, other = _facts(reader, name), _facts(writer, name)
    # The ids of trials are in the names of what the dashboard keeps with the study.
    ids = dict(zip(_trial_ids(reader, name), _trial_ids(writer, name), strict=False))
    one = {key if head != "system" else f"system:{of_copied_trials(tail, ids)}": value
           for key, value in one.items() for head, _, tail in [key.partition(":")]}  # fmt: skip
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


def _facts(storage: CampaignStorage, name: str) -> dict[str, str]:
    """Return everything that is stored of a study, by name, as text: so that even NaN equals NaN."""
    study_id = storage.rdb.get_study_id_from_name(name)
    facts = {"directions": repr(storage.rdb.get_study_directions(study_id))}
    facts |= {f"user:{key}": repr(value) for key, value in storage.rdb.get_study_user_attrs(study_id).items()}
    facts |= {f"system:{key}": repr(value) for key, value in storage.rdb.get_study_system_attrs(study_id).items()}
    for trial in storage.rdb.get_all_trials(study_id):
        facts |= {f"trial {trial.number} {key}": value for key, value in _trial_facts(trial).items()}
    with storage.session() as session:
        for table in transfer.CARRIED:
            rows = session.scalars(sa.select(table).where(table.study == name).order_by(*table.__table__.primary_key))
            for index, row in enumerate(rows):
                facts[f"{table.__tablename__} {index}"] = repr(transfer.values_of(row))
    return facts


def _trial_facts(trial: FrozenTrial) -> dict[str, str]:
    return {key: _text(value) for key, value in vars(trial).items() if key not in ("_trial_id", "trial_id")}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return repr(sorted((str(key), _text(item)) for key, item in value.items()))
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def _trial_ids(storage: CampaignStorage, name: str) -> list[int]:
    return [trial._trial_id for trial in storage.rdb.get_all_trials(storage.rdb.get_study_id_from_name(name))]


# --- campaigns ------------------------------------------------------------------------------------------------------


def _plans(storage: CampaignStorage) -> list[PlanRow]:
    if not sa.inspect(storage.engine).has_table(PlanRow.__tablename__):
        return []  # a database of an earlier version is not brought up to date by looking at it
    with storage.session() as session:
        return list(session.scalars(sa.select(PlanRow).order_by(PlanRow.name)))


def _copy_plans(writer: CampaignStorage, plans: Sequence[PlanRow]) -> None:
    wanted = [transfer.values_of(plan) for plan in plans]
    with writer.session() as session:
        session.add_all([PlanRow(**values) for values in wanted])
    stored = {plan.name: transfer.values_of(plan) for plan in _plans(writer)}
    for values in wanted:
        if repr(stored[values["name"]]) != repr(values):
            raise StorageError(f"campaign '{values['name']}': its copy in {writer.url} differs from what was copied.")
