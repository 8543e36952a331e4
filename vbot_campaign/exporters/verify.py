"""Compares a study's database, mirrors and disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.events import Result
from vbot_campaign.exporters import plain_yaml, trial_config
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import CheckpointView, StudySnapshot, TrialState, TrialView
from vbot_campaign.study.training import trial_training

VOLATILE = frozenset({"elapsed_hours"})
"""Keys of a mirror that follow the clock and not the database."""

SETTLING = timedelta(seconds=10)
"""Age at which an ended trial must have reached the mirrors; they follow the database within three seconds."""

_MAY_DIFFER = {"num_envs"}
"""Part of a training that a later attempt may change: it is halved when memory runs out."""

MAX_PER_MIRROR = 5
"""Differences listed for one mirror; an old file would otherwise fill the screen."""


@dataclass(frozen=True)
class Difference:
    """One thing that database, mirrors and disk do not agree on."""

    kind: str
    """``unfinished``, ``trial``, ``metrics``, ``checkpoint`` or ``mirror``."""
    path: str
    """The file or folder, relative to the study's folder."""
    message: str
    """What is wrong, in words."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def verify(paths: CampaignPaths, name: str) -> list[Difference]:
    """Return every difference between a study's database, mirrors and disk.

    Raises:
        StudyNotFoundError: No study has that name.
    """
    return verify_snapshot(paths, load_snapshot(paths, name))


def verify_snapshot(paths: CampaignPaths, snapshot: StudySnapshot) -> list[Difference]:
    """Return every difference between a snapshot, the mirrors and the disk.

    Every checkpoint is read in full. While a supervisor lives, database and files are a moment apart, so only trials
    that ended `SETTLING` ago are looked at. Of a study on a server, trials whose files another machine has are not.
    """
    study = paths.study(snapshot.spec.study)
    live = snapshot.supervisor is not None or fs.is_locked(study.supervisor_lock)
    settled = {trial.number for trial in snapshot.trials if not live or _is_settled(trial)}
    here = [_as_here(study, trial) if paths.storage is not None else trial for trial in snapshot.trials]
    differences = [
        d
        for trial in here
        if trial is not None and trial.number in settled
        for d in _check_trial(study, snapshot.spec, trial)
    ]
    differences += _check_warm_start(study, snapshot)
    return [*differences, *_check_mirrors(paths, snapshot, settled if live else None)]


def _as_here(study: StudyPaths, trial: TrialView) -> TrialView | None:
    """Return a trial of several machines with the files that are this one's; None where it was another's last."""
    if trial.folder is None or (study.root / trial.folder).is_dir():
        own = tuple(c for c in trial.checkpoints if trial.folder and c.path.startswith(f"{trial.folder}/"))
        return replace(trial, checkpoints=own)
    last = trial.attempts[-1].host if trial.attempts else socket.gethostname()
    return trial if last == socket.gethostname() else None


def _is_settled(trial: TrialView) -> bool:
    return trial.state.is_finished and trial.ended is not None and trial.ended < datetime.now(UTC) - SETTLING


def render_differences(name: str, differences: list[Difference]) -> str:
    """Return the report of `verify`: one line per difference and what to do about each kind."""
    if not differences:
        return f"{name}: database, mirrors and disk agree."
    count = len(differences)
    lines = [f"{name}: {count} difference{'s' if count > 1 else ''}.", *(f"  {d}" for d in differences)]
    kinds = {difference.kind for difference in differences}
    if "mirror" in kinds:
        lines.append(f"Mirrors are made again by: vbot-campaign export {name}")
    if "unfinished" in kinds:
        lines.append(f"Unfinished trials are continued by: vbot-campaign resume {name}")
    return "\n".join(lines)


def _check_warm_start(study: StudyPaths, snapshot: StudySnapshot) -> Iterator[Difference]:
    start, path = snapshot.warm_start, study.warm_start
    if start is None:
        return
    name = path.relative_to(study.root).as_posix()
    if not path.is_file():
        yield Difference("checkpoint", name, "the policy that every trial starts from is missing")
    elif (found := fs.sha256(path)) != start.sha256:
        text = f"its sha256 is {found[:12]}…, the database says {start.sha256[:12]}…; every trial starts from this file"
        yield Difference("checkpoint", name, text)


def _check_trial(study: StudyPaths, spec: StudySpec, trial: TrialView) -> Iterator[Difference]:
    where = trial.folder or f"trial {trial.number}"
    if not trial.state.is_finished and any(attempt.ended is None for attempt in trial.attempts):
        yield Difference("unfinished", where, "an attempt is open in the database, but no supervisor lives")
    if trial.folder is None:
        return
    folder = TrialPaths(study.root / trial.folder)
    if not folder.root.is_dir():
        yield Difference("trial", where, f"the folder of trial {trial.number} is missing")
        return
    yield from _check_documents(study, spec, trial, folder)
    yield from _check_metrics(f"{where}/{folder.metrics.name}", folder, trial)
    for checkpoint in trial.checkpoints:
        yield from _check_checkpoint(study, checkpoint)
    yield from _unlisted_checkpoints(study, folder)


def _check_documents(study: StudyPaths, spec: StudySpec, trial: TrialView, folder: TrialPaths) -> Iterator[Difference]:
    name = f"{trial.folder}/{folder.spec.name}"
    try:
        given = trial_config.trial_spec(study, trial)
    except ValueError as error:
        yield Difference("trial", name, f"cannot be read: {_first_line(error)}")
        given = None
    if given is not None:
        yield from (Difference("trial", name, message) for message in _compare_given(spec, trial, given))
    name = f"{trial.folder}/{folder.result.name}"
    try:
        result = Result.read(folder.result)
    except (ValueError, KeyError, TypeError) as error:
        yield Difference("trial", name, f"cannot be read: {_first_line(error)}")
        return
    if trial.state is TrialState.COMPLETE and result is not None and result.score != trial.score:
        yield Difference("trial", name, f"score is {result.score}, the database has {trial.score}")


def _compare_given(spec: StudySpec, trial: TrialView, given: TrialSpec) -> Iterator[str]:
    try:
        wanted = _definition(spec, trial)
    except SpecError as error:
        yield f"the database's parameters cannot be trained: {error}"
        return
    yield from _compare(wanted, _of_worker(given), "")


def _definition(spec: StudySpec, trial: TrialView) -> Any:
    """Return what a trial should be trained with, according to the database."""
    training = trial_training(spec, trial).model_dump(mode="json", exclude=_MAY_DIFFER)
    return plain_yaml.plain({"parameters": trial.parameters, "training": training})


def _of_worker(given: TrialSpec) -> Any:
    """Return what a trial's last worker was told, in the same form."""
    training = given.training.model_dump(mode="json", exclude=_MAY_DIFFER)
    return plain_yaml.plain({"parameters": given.parameters, "training": training})


def _check_metrics(name: str, folder: TrialPaths, trial: TrialView) -> Iterator[Difference]:
    progress = [line for line in fs.read_lines(folder.metrics) if line.get("kind") == "progress"]
    for key in ("iteration", "env_steps"):
        values = [line.get(key, 0) for line in progress]
        wrong = next(((earlier, later) for earlier, later in pairwise(values) if later <= earlier), None)
        if wrong:
            yield Difference("metrics", name, f"{key} {wrong[1]} follows {wrong[0]}; it must grow from line to line")
    reached = progress[-1]["env_steps"] if progress else 0
    if reached < trial.env_steps:
        yield Difference("metrics", name, f"ends at env step {reached}, the database has {trial.env_steps}")


def _check_checkpoint(study: StudyPaths, checkpoint: CheckpointView) -> Iterator[Difference]:
    path = study.root / checkpoint.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        yield Difference("checkpoint", checkpoint.path, "the file is missing")
        return
    if size != checkpoint.bytes:
        yield Difference("checkpoint", checkpoint.path, f"is {size} bytes long, the database has {checkpoint.bytes}")
    elif (digest := fs.sha256(path)) != checkpoint.sha256:
        yield Difference(
            "checkpoint", checkpoint.path, f"its sha256 is {digest[:12]}…, the database has {checkpoint.sha256[:12]}…"
        )


def _unlisted_checkpoints(study: StudyPaths, folder: TrialPaths) -> Iterator[Difference]:
    listed = {line.get("file"): not line.get("deleted", False) for line in fs.read_lines(folder.checkpoint_log)}
    for path in sorted(folder.checkpoints.glob("*.pt")):
        if not listed.get(path.name, False):
            name = path.relative_to(study.root).as_posix()
            yield Difference("checkpoint", name, f"no line of {folder.checkpoint_log.name} names this file")


def _check_mirrors(paths: CampaignPaths, snapshot: StudySnapshot, settled: set[int] | None) -> Iterator[Difference]:
    study = paths.study(snapshot.spec.study)
    per_trial = {path(t.number): t.number for t in snapshot.trials for path in (study.config, study.experiment)}
    for path, text in MirrorExporter(paths, snapshot.spec.study).render(snapshot).items():
        if settled is not None and path in per_trial and per_trial[path] not in settled:
            continue
        only = None if path in per_trial else settled
        yield from _limited(path.relative_to(study.root).as_posix(), list(_check_mirror(path, text, only)))
    for folder in (study.config(0).parent, study.experiment(0).parent):
        for path in sorted(set(folder.glob("*.yaml")) - set(per_trial) if settled is None else ()):
            yield Difference("mirror", path.relative_to(study.root).as_posix(), "no trial has this number")


def _limited(name: str, messages: list[str]) -> Iterator[Difference]:
    for message in messages[:MAX_PER_MIRROR]:
        yield Difference("mirror", name, message)
    if len(messages) > MAX_PER_MIRROR:
        yield Difference("mirror", name, f"… and {len(messages) - MAX_PER_MIRROR} more")


def _check_mirror(path: Path, text: str, only: set[int] | None) -> Iterator[str]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield "the file is missing"
        return
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield f"is not valid YAML: {_first_line(error)}"
        return
    wanted = yaml.safe_load(text)
    if only is not None:
        wanted, found = _rows_of(wanted, only), _rows_of(found, only)
    yield from _compare(wanted, found, "")


def _rows_of(content: Any, trials: set[int]) -> Any:
    """Return what a mirror says about some trials: the part that stays as it is under a live supervisor."""
    if not isinstance(content, dict):
        return content
    rows = [row for value in content.values() if isinstance(value, list) for row in value if isinstance(row, dict)]
    return {"trials": [row for row in rows if row.get("trial") in trials]}


def _compare(wanted: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            name = f"{where}.{key}" if where else str(key)
            if key in VOLATILE:
                continue
            if key not in found:
                yield f"{name} is missing"
            elif key not in wanted:
                yield f"{name} is not in the database"
            else:
                yield from _compare(wanted[key], found[key], name)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{where} has {len(found)} entries, the database {len(wanted)}"
        for position, (left, right) in enumerate(zip(wanted, found, strict=False)):
            yield from _compare(left, right, f"{where}[{position}]")
    elif wanted != found:
        yield f"{where or 'the file'} is {found!r}, the database has {wanted!r}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
