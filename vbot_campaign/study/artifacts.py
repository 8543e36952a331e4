"""A trial's files as Optuna's artifacts, which optuna-dashboard shows beside the trial.

All studies share one store, ``runs/artifacts/``, as Optuna's `FileSystemArtifactStore` reads it. What lies in a trial's
folder is linked into it and not copied, where the file system can. An artifact's id follows from study, trial and file
name, so whatever was cut off is done again and nothing is there twice.

An artifact is listed in the trial's own row while that can still be written, which is before the trial is told. For a
trial that has ended before, it is listed with the study, where optuna-dashboard looks too.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.storage import CampaignStorage

LOG_TAIL_BYTES = 64 << 10
"""The end of ``worker.log`` that is kept, in whole lines."""

_TEXT = "text/plain"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "vbot-campaign")
_TRIAL_KEY = "artifacts:"
_STUDY_KEY = "dashboard:artifacts:"


@dataclass(frozen=True)
class _Artifact:
    """A file of a trial's folder that is shown."""

    name: str
    source: Path
    mimetype: str


def artifact_id(study: str, trial: int, name: str) -> str:
    """Return the id of a trial's artifact, which is also the name of its file in the store."""
    return str(uuid.uuid5(_NAMESPACE, f"{study}/{trial}/{name}"))


def upload_artifacts(storage: CampaignStorage, runs: CampaignPaths, study: str, trial: int, folder: TrialPaths) -> None:
    """Put a trial's files into the store and list them; what is there and listed stays as it is.

    Args:
        storage: The database, to write to.
        runs: The runs folder.
        study: The study.
        trial: Trial number; no worker is at it any more.
        folder: The trial's folder.

    Raises:
        OSError: The store cannot be written.
    """
    found = list(_found(folder))
    for artifact in found:
        _store(runs.artifacts / artifact_id(study, trial, artifact.name), artifact, folder)
    study_id = storage.optuna.get_study_id_from_name(study)
    row = storage.optuna.get_trial(storage.optuna.get_trial_id_from_study_id_trial_number(study_id, trial))
    listed = storage.optuna.get_study_system_attrs(study_id) if row.state.is_finished() else {}
    for artifact in found:
        _list(storage, study_id, row, listed, artifact_id(study, trial, artifact.name), artifact)


def remove_artifact(runs: CampaignPaths, study: str, trial: int, name: str) -> None:
    """Take a file out of the store, so that the disk gets its space back; it stays listed."""
    (runs.artifacts / artifact_id(study, trial, name)).unlink(missing_ok=True)


def of_copied_trials(key: str, trial_ids: dict[int, int]) -> str:
    """Return the name of a study's attribute in a database where its trials have other ids.

    optuna-dashboard keeps trials' notes, and artifacts of trials that had ended, with the study, under their ids.

    Args:
        key: Name of a study's system attribute.
        trial_ids: New id by old id.
    """
    head, *rest = key.split(":")
    position = 1 if rest[:1] == ["artifacts"] else 0
    if head == "dashboard" and len(rest) > position + 1 and rest[position].isdigit():
        rest[position] = str(trial_ids.get(int(rest[position]), rest[position]))
    return ":".join([head, *rest])


def _found(folder: TrialPaths) -> Iterator[_Artifact]:
    kinds = {
        folder.best_checkpoint: "application/octet-stream",
        folder.path_plot: "image/png",
        folder.rollout: "image/gif",
        folder.spec: "application/json",
        folder.log: _TEXT,
    }
    for source, mimetype in kinds.items():
        if source.is_file():
            yield _Artifact(source.name, source, mimetype)


def _store(target: Path, artifact: _Artifact, folder: TrialPaths) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if artifact.source == folder.log:
        if not target.exists():
            fs.write_text(target, _tail(folder.log))
    elif not _is_stored(target, artifact.source):
        _link(artifact.source, target)


def _is_stored(target: Path, source: Path) -> bool:
    try:
        there, wanted = target.stat(), source.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, wanted) or (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _link(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, part)
    part.replace(target)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES)
        file.seek(start)
        text = file.read().decode("utf-8", "replace")
    return text.partition("\n")[2] if start > 0 else text


def _list(
    storage: CampaignStorage, study_id: int, row: FrozenTrial, listed: dict[str, object], name: str, artifact: _Artifact
) -> None:
    record = {"artifact_id": name, "filename": artifact.name, "mimetype": artifact.mimetype, "encoding": None}
    if f"{_TRIAL_KEY}{name}" in row.system_attrs:
        return
    if not row.state.is_finished():
        storage.optuna.set_trial_system_attr(row._trial_id, f"{_TRIAL_KEY}{name}", json.dumps(record))
        return
    key = f"{_STUDY_KEY}{row._trial_id}:{name}"
    if key not in listed:
        storage.optuna.set_study_system_attr(study_id, key, json.dumps(record))
