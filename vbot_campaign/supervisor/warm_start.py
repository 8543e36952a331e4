"""The policy that a study's trials start from: found and checked once, copied into the study's folder, kept there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from vbot_campaign import fs
from vbot_campaign.errors import (
    CampaignError,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    StudyError,
    StudyNotFoundError,
    did_you_mean,
)
from vbot_campaign.paths import CampaignPaths, StudyPaths
from vbot_campaign.spec.resolve import prior_point, resolve_training
from vbot_campaign.spec.starting_policy import StartingPolicy
from vbot_campaign.spec.study import StudySpec, WarmStart
from vbot_campaign.study.snapshot import CheckpointView, StudySnapshot, TrialState, TrialView, WarmStartView
from vbot_campaign.study.study import is_stored, load_snapshot, study_names

READER_COMMAND = (sys.executable, "-m", "vbot_campaign.worker.starting_policy")
"""Reads a policy with torch, in a process of its own."""
READER_TIMEOUT_S = 300.0

_USABLE = (TrialState.COMPLETE, TrialState.PRUNED)


def find_warm_start(paths: CampaignPaths, spec: StudySpec, folder: Path) -> WarmStartView | None:
    """Find and check the policy that a new study's trials start from; nothing is written.

    Args:
        paths: The runs folder.
        spec: The study.
        folder: Folder of the study file, which a relative path starts from.

    Raises:
        StudyError: The study that is named does not exist, or has no policy to start from.
        CheckpointError: The file is missing or damaged, or its policy is none for this study.
    """
    start = spec.warm_start
    if start is None:
        return None
    if start.study is not None:
        found = _of_study(paths, start.study, start)
        name = f"warm_start {_named(start)}"
    else:
        found = WarmStartView("", 0, None, str(folder / str(start.checkpoint)))
        name = f"warm_start.checkpoint {start.checkpoint}"
    policy = _read(Path(found.source), spec.environment, name)
    if found.sha256 and found.sha256 != policy.sha256:
        raise CheckpointCorruptError(
            f"{name}: {policy.path} was altered: its SHA-256 is {policy.sha256[:12]}…, that study's database says "
            f"{found.sha256[:12]}…. Run `vbot-campaign verify {start.study}`, or name another trial."
        )
    _check_layers(policy, spec, name)
    return WarmStartView(
        policy.sha256, policy.bytes, policy.env_steps, policy.path, found.study, found.trial, found.score
    )


def warm_start_problem(paths: CampaignPaths, spec: StudySpec, folder: Path) -> str | None:
    """Say why a study could not be started just now for want of its policy, or return None."""
    if is_stored(paths, spec.study):
        return None
    try:
        find_warm_start(paths, spec, folder)
    except CampaignError as error:
        return f"The study cannot be started yet. {error}"
    return None


def _named(start: WarmStart) -> str:
    return f"study '{start.study}'" + ("" if start.trial is None else f", trial {start.trial}")


def _of_study(paths: CampaignPaths, name: str, start: WarmStart) -> WarmStartView:
    names = study_names(paths)
    if name not in names:
        known = ", ".join(names) or "none yet"
        raise StudyNotFoundError(
            f"warm_start.study: no study '{name}' in {paths.database_name}.{did_you_mean(name, names)} Known studies: "
            f"{known}. Run that study first, or name a file: warm_start: {{checkpoint: PATH}}."
        )
    snapshot = load_snapshot(paths, name)
    trial = _best(snapshot) if start.trial is None else _numbered(snapshot, start.trial)
    checkpoint = policy_of(trial, start.take)
    if checkpoint is None:
        raise StudyError(
            f"warm_start: trial {trial.number} of study '{name}' has no policy on disk; name another trial."
        )
    source = (paths.study(name).root / checkpoint.path).absolute()
    return WarmStartView(
        checkpoint.sha256, checkpoint.bytes, checkpoint.env_steps, str(source), name, trial.number, trial.score
    )


def _best(snapshot: StudySnapshot) -> TrialView:
    if snapshot.best is None:
        name = snapshot.spec.study
        raise StudyError(
            f"warm_start.study: study '{name}' has no complete trial yet (it is {snapshot.state}), so no best policy. "
            f"Go on with `vbot-campaign resume {name}`, or name a file: warm_start: {{checkpoint: PATH}}."
        )
    return snapshot.best


def _numbered(snapshot: StudySnapshot, number: int) -> TrialView:
    name = snapshot.spec.study
    usable = [trial.number for trial in snapshot.trials if trial.state in _USABLE]
    valid = f"Complete or pruned trials: {', '.join(map(str, usable)) or 'none'}."
    if number >= len(snapshot.trials):
        raise StudyError(f"warm_start.trial: study '{name}' has no trial {number}. {valid}")
    trial = snapshot.trials[number]
    if trial.state not in _USABLE:
        raise StudyError(f"warm_start.trial: trial {number} of study '{name}' is {trial.state.value}. {valid}")
    return trial


def policy_of(trial: TrialView, take: Literal["best", "last"]) -> CheckpointView | None:
    """Return the best checkpoint of a trial, or the one at its end; the newest of any kind where it has none such."""
    kind = "best" if take == "best" else "resume"
    wanted = [checkpoint for checkpoint in trial.checkpoints if checkpoint.kind == kind]
    return max(wanted or trial.checkpoints, key=lambda checkpoint: checkpoint.env_steps, default=None)


def _read(path: Path, environment: str, name: str) -> StartingPolicy:
    """Read a policy in a process that may load torch, and check that it fits the environment."""
    if not path.exists():
        raise CheckpointNotFoundError(f"{name}: no file {path}. Give a .pt file or a run's folder.")
    done = subprocess.run(
        [*READER_COMMAND, str(path), environment], capture_output=True, text=True, timeout=READER_TIMEOUT_S
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise CheckpointError(f"{name}: {path} could not be read (exit code {done.returncode}): {last}") from None
    if "error" in answer:
        raise CheckpointError(f"{name}: {answer['error']}")
    return StartingPolicy.from_dict(answer)


def _check_layers(policy: StartingPolicy, spec: StudySpec, name: str) -> None:
    load = spec.warm_start.load if spec.warm_start is not None else ()
    misfit = policy.misfit(resolve_training(spec, prior_point(spec)).ppo, load)
    if misfit is not None:
        setting, found, wanted = misfit
        raise CheckpointError(
            f"{name}: its {setting} are {found}, the study's are {wanted}. "
            f"Write under fixed: ppo: {{{setting}: {found}}}, or start from another policy."
        )


def copy_warm_start(study: StudyPaths, start: WarmStartView) -> None:
    """Copy the policy that was found into the study's folder, whole or not at all.

    Raises:
        CheckpointError: The source changed since it was checked.
    """
    with Path(start.source).open("rb") as source, fs.replacing(study.warm_start) as target:
        shutil.copyfileobj(source, target)
    if fs.sha256(study.warm_start) != start.sha256:
        study.warm_start.unlink()
        raise CheckpointError(
            f"warm_start: {start.source} changed while it was copied; something writes it. Try again."
        )


def check_copy(study: StudyPaths, start: WarmStartView | None) -> None:
    """Check that the study's copy is what it was when the study was created.

    Raises:
        CheckpointNotFoundError: It is gone.
        CheckpointCorruptError: It was altered.
    """
    if start is None:
        return
    path = study.warm_start
    advice = f"Put the file with SHA-256 {start.sha256} back there (it was copied from {start.source})."
    if not path.is_file():
        raise CheckpointNotFoundError(f"{path}, which every trial of this study starts from, is gone. {advice}")
    found = fs.sha256(path)
    if found != start.sha256:
        raise CheckpointCorruptError(
            f"{path}, which every trial of this study starts from, was altered: its SHA-256 is {found}. {advice}"
        )
