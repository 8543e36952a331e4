"""A training without a study: the same worker on a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError, CheckpointNotFoundError, FolderBusyError, SpecError, did_you_mean
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.spec.training import ThreadSettings, TrainingSpec, TrialSpec


def prepare_threads(threads: int) -> None:
    """Set the environment variables that thread pools read when their library is loaded.

    Call before torch is imported. Passive waiting, because torch's pool and the physics pool take turns on the same
    cores: a spinning pool takes the other one's time.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(name: str) -> str:
    """Return the device for ``auto``, or check a given one.

    Raises:
        SpecError: No such device on this machine.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    valid = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in valid:
        raise SpecError(f"--device {name}: not on this machine.{did_you_mean(name, valid)} Valid: {', '.join(valid)}.")
    return name


def new_run(
    paths: CampaignPaths,
    training: TrainingSpec,
    *,
    device: str,
    threads: int,
    warm_start: Path | None = None,
    run_tag: str = "",
) -> TrialPaths:
    """Make the folder of a new training and return it.

    Args:
        paths: The runs folder.
        training: What to train.
        device: ``cpu`` or ``cuda:0``.
        threads: Threads of torch and of the physics engine, which take turns.
        warm_start: Checkpoint, of any importable form, or run's folder to take networks and normalizers from.
        run_tag: What people call it.

    Raises:
        CheckpointError: The checkpoint is missing, damaged or has networks of other sizes; nothing was made.
    """
    start = None if warm_start is None else _warm_start_file(warm_start, training)
    run = paths.single_run(training.environment)
    spec = TrialSpec(
        training=training,
        device=device,
        slot=device,
        threads=ThreadSettings(torch=threads, physics=threads),
        warm_start=start,
        run_tag=run_tag,
    )
    fs.write_json(run.spec, spec.model_dump(mode="json"))
    return run


def next_attempt(folder: Path) -> TrialPaths:
    """Prepare a stopped or killed training for its next attempt and return its folder.

    Raises:
        SpecError: The folder holds no training.
        FolderBusyError: A process trains it just now.
    """
    run = TrialPaths(folder)
    if not run.spec.is_file():
        raise SpecError(
            f"--resume {folder}: no trial.json there. Give the folder of a run, such as runs/<env>/<time>_PPO."
        )
    if fs.is_locked(run.lock):
        raise FolderBusyError(f"--resume {folder}: a process trains this run just now. Wait for it, or stop it first.")
    spec = read_trial_spec(run.spec)
    fs.write_json(run.spec, spec.model_copy(update={"attempt": spec.attempt + 1}).model_dump(mode="json"))
    run.stop_request.unlink(missing_ok=True)
    return run


def _warm_start_file(path: Path, training: TrainingSpec) -> Path:
    from vbot_campaign.rl.importers import starting_policy
    from vbot_campaign.worker.evaluation import find_checkpoint

    if not path.exists():
        raise CheckpointNotFoundError(f"--checkpoint {path}: no such file. Give a .pt file or a run's folder.")
    policy = starting_policy(find_checkpoint(path), training.environment)
    if (misfit := policy.misfit(training.ppo)) is not None:
        setting, found, wanted = misfit
        raise CheckpointError(
            f"--checkpoint {path}: its {setting} are {found}, ppo.{setting} is {wanted}. "
            f"Add --set 'ppo.{setting}={found}'."
        )
    return Path(policy.path)
