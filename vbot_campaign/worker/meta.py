"""What really ran: versions, commit, device, seeds and the resolved configuration."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import vbot_campaign
from vbot_campaign import fs
from vbot_campaign.events import utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.spec.training import CommandTrainer, TrialSpec

META_SCHEMA = 1
_PACKAGES = ("torch", "mujoco", "numpy", "tensorboard")
_OF_AN_ATTEMPT = ("attempt", "resumed_from_env_step", "started_at", "host", "device", "num_envs", "versions", "git")
"""What is kept of an earlier attempt, whose file the next one replaces."""


def write_experiment_meta(paths: TrialPaths, spec: TrialSpec, *, resumed_from: int) -> None:
    """Write ``experiment_meta.json``; of the attempts before this one it keeps where and with what they ran.

    Args:
        paths: The trial's folder.
        spec: What is trained.
        resumed_from: Env step that this attempt continues after; 0 for a start from scratch.
    """
    earlier = [entry for entry in _earlier_attempts(paths.meta) if entry.get("attempt") != spec.attempt]
    fs.write_json(paths.meta, {**experiment_meta(spec, resumed_from=resumed_from), "earlier_attempts": earlier})


def _earlier_attempts(path: Path) -> list[dict[str, Any]]:
    try:
        before = fs.read_json(path)
        own = {name: before[name] for name in _OF_AN_ATTEMPT}
        return [*before.get("earlier_attempts", []), own]
    except (OSError, ValueError, KeyError, TypeError):  # none before this one, or a file that somebody damaged
        return []


def experiment_meta(spec: TrialSpec, *, resumed_from: int) -> dict[str, Any]:
    """Return the content of ``experiment_meta.json``, without the attempts before this one."""
    training = spec.training
    declaration = get_environment(training.environment)
    return {
        "schema_version": META_SCHEMA,
        "study": spec.study,
        "trial": spec.trial,
        "run_tag": spec.run_tag,
        "attempt": spec.attempt,
        "resumed_from_env_step": resumed_from,
        "started_at": utc_now(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": _device_name(spec.device),
        "slot": spec.slot,
        "threads": spec.threads.model_dump(),
        "versions": {
            "vbot_campaign": vbot_campaign.__version__,
            "python": sys.version.split()[0],
            **{name: metadata.version(name) for name in _packages(training.trainer)},
        },
        "git": _git_state(),
        "env_name": training.environment,
        "physics": training.physics,
        "trainer": trainer_words(training.trainer),
        "seed": training.seed,
        "evaluation_seed": training.evaluation.seed,
        "num_envs": training.num_envs,
        "env_steps": training.env_steps,
        "rl_overrides": training.ppo.model_dump(mode="json"),
        "reward_scales": declaration.resolve_rewards(training.reward),
        "env_overrides": declaration.resolve_settings(training.env),
        "objective": training.objective.model_dump(mode="json"),
        "parameters": spec.parameters,
        "warm_start": str(spec.warm_start) if spec.warm_start else None,
    }


def _packages(trainer: str | CommandTrainer) -> list[str]:
    return [*_PACKAGES, *(["skrl"] if trainer == "skrl" else [])]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu"


def _git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the program's own checkout, or None when it is installed without one."""
    folder = Path(vbot_campaign.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    if commit is None or tracked is None:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}


def _git(folder: Path, *arguments: str) -> str | None:
    # Without the option, `status` writes the index: a worker that is killed then leaves its lock behind, and the user's
    # next commit is refused.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
