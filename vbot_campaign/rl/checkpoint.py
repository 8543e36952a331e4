"""Checkpoint files: written whole or not at all, readable without running code, laid out like skrl's.

Top level, as in the field's own files: ``policy`` and ``value`` (the same networks; their tensors are stored once),
``optimizer``, ``state_preprocessor`` and ``value_preprocessor`` (``running_mean``, ``running_variance``,
``current_count``). Under ``vbot_campaign`` lies what those files lack:

``schema``      version of this layout
``kind``        ``resume``: training can continue exactly; ``policy``: small, to evaluate or to start from
``counters``    ``iteration``, ``env_steps``
``schedule``    position of the learning rate schedule
``generators``  states of the random generators (``resume`` only)
``env``         state of environment and physics (``resume`` only)

and whatever the writer adds, such as ``settings`` (the training's `TrainingSpec` as plain JSON values).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError
from vbot_campaign.rl import layouts
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.out_of_memory import is_out_of_memory
from vbot_campaign.rl.policy import ActorCritic

CHECKPOINT_SCHEMA = 1

_RESUME_ONLY = ("generators", "env", "started", "observations")
_RESUMABLE = (*_RESUME_ONLY, "counters", "schedule", "score")


@dataclass(frozen=True)
class CheckpointRecord:
    """What identifies a written checkpoint."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy with all it needs to act."""

    policy: ActorCritic
    observation_normalizer: RunningNormalizer
    """Frozen."""
    training: dict[str, Any] | None
    """Settings it was trained with, as plain values; None in files of other programs."""
    env_steps: int | None
    """Transitions it was trained for; None in files of other programs."""


def save(path: Path, learner_state: dict[str, Any], extra: dict[str, Any]) -> CheckpointRecord:
    """Write a checkpoint atomically.

    Args:
        path: The final name; an older file of that name is replaced.
        learner_state: `Learner.state_dict`.
        extra: Plain values to store under ``vbot_campaign``. ``kind`` is ``resume`` unless given; with ``policy``,
            everything that only a continued training needs is left out.
    """
    own = {**learner_state["vbot_campaign"], "schema": CHECKPOINT_SCHEMA, "kind": "resume", **extra}
    if own["kind"] == "policy":
        own = {key: value for key, value in own.items() if key not in _RESUME_ONLY}
    # Serialized in memory first: the hash is then that of the bytes meant, not of what the disk made of them.
    buffer = io.BytesIO()
    torch.save({**learner_state, "vbot_campaign": own}, buffer)
    content = buffer.getbuffer()
    with fs.replacing(path) as file:
        file.write(content)
    return CheckpointRecord(hashlib.sha256(content).hexdigest(), len(content))


def load(path: Path, sha256: str | None = None, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this program, of skrl or of rsl_rl.

    Nothing in the file is executed. Files of other programs are brought to the layout above (`rl.layouts`).

    Args:
        path: The file.
        sha256: What its hash must be.
        device: Where its tensors go.

    Returns:
        The content, ready for `Learner.load_state_dict` or `Learner.warm_start`.

    Raises:
        CheckpointNotFoundError: No such file.
        CheckpointCorruptError: Truncated, altered, or no checkpoint at all.
        CheckpointError: Written by a newer version of this program.
    """
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise CheckpointCorruptError(
            f"checkpoint {path} was altered: its SHA-256 is {found[:12]}…, recorded is {sha256[:12]}…. "
            "Use an older checkpoint of the same folder."
        )
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as error:  # whatever the bytes make the unpickler do
        if sha256 is not None and is_out_of_memory(error):
            raise  # the bytes are those that were written: nothing is wrong with the file
        raise CheckpointCorruptError(
            f"checkpoint {path} cannot be read ({len(content)} bytes; {_first_sentence(error)}). "
            "It is truncated or no checkpoint; use an older one of the same folder."
        ) from None
    return _in_own_layout(path, checkpoint)


def missing_parts(state: dict[str, Any]) -> list[str]:
    """Return what a loaded checkpoint lacks for a worker to continue from it; nothing in a sound resume point."""
    top = [name for name in ("policy", "optimizer", "state_preprocessor") if name not in state]
    own = state.get("vbot_campaign")
    return top + [name for name in _RESUMABLE if not isinstance(own, dict) or name not in own]


def load_policy(path: Path, *, device: torch.device | str = "cpu") -> LoadedPolicy:
    """Read a policy, of this program, skrl or rsl_rl, with networks of the sizes found in the file.

    Raises:
        CheckpointNotFoundError: No such file.
        CheckpointCorruptError: Truncated, altered, or without a policy of the known layout.
        CheckpointError: Written by a newer version of this program.
    """
    checkpoint = load(path, device=device)
    own = checkpoint.get("vbot_campaign", {})
    try:
        policy = _policy_of(checkpoint["policy"]).to(device)
        normalizer = RunningNormalizer(policy.observation_size, device, frozen=True)
        normalizer.load_state_dict(checkpoint["state_preprocessor"])
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise CheckpointCorruptError(f"checkpoint {path} holds no policy of the known layout: {error}") from None
    env_steps = own.get("counters", {}).get("env_steps")
    return LoadedPolicy(policy.eval(), normalizer, own.get("settings"), env_steps)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        near = sorted(item.name for item in path.parent.glob("*.pt")) if path.parent.is_dir() else []
        there = f"Its folder has: {', '.join(near)}." if near else "Its folder has none."
        raise CheckpointNotFoundError(f"no checkpoint at {path}. {there}") from None


def _first_sentence(error: Exception) -> str:
    # torch goes on with advice on how to run the code in a file; nobody should follow it here.
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def _in_own_layout(path: Path, content: Any) -> dict[str, Any]:
    known = layouts.to_own_layout(str(path), content)
    schema = known.get("vbot_campaign", {}).get("schema", CHECKPOINT_SCHEMA)
    if schema > CHECKPOINT_SCHEMA:
        raise CheckpointError(
            f"checkpoint {path} has layout {schema}, this program knows {CHECKPOINT_SCHEMA}. Update vbot-campaign."
        )
    return known


def _policy_of(weights: dict[str, torch.Tensor]) -> ActorCritic:
    policy_sizes, value_sizes = _layer_sizes(weights, "policy_net"), _layer_sizes(weights, "value_net")
    action_size = weights["log_std_parameter"].shape[0]
    # Initial weights are drawn from torch's global generator and replaced at once: leave it as it was.
    with torch.random.fork_rng(devices=[]):
        policy = ActorCritic(policy_sizes[0], action_size, policy_sizes[1:], value_sizes[1:])
    policy.load_state_dict(weights)
    return policy


def _layer_sizes(weights: dict[str, torch.Tensor], trunk: str) -> list[int]:
    # Input size first, then the widths; the trunk's linear layers have even numbers.
    sizes = [weights[f"{trunk}.0.weight"].shape[1]]
    while (name := f"{trunk}.{2 * len(sizes) - 2}.weight") in weights:
        sizes.append(weights[name].shape[0])
    return sizes
