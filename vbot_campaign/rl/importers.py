"""Takes over policies that other programs trained: checked, converted, written in our layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError, StudyNotFoundError, did_you_mean
from vbot_campaign.events import utc_now
from vbot_campaign.paths import StudyPaths
from vbot_campaign.rl import checkpoint, layouts
from vbot_campaign.rl.checkpoint import LoadedPolicy
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.starting_policy import StartingPolicy


@dataclass(frozen=True)
class Imported:
    """A policy that was taken over."""

    path: Path
    """The file in our layout."""
    program: str
    """Which program wrote the source: ``skrl``, ``rsl_rl`` or ``vbot_campaign``."""
    policy_hidden_layer_sizes: tuple[int, ...]
    value_hidden_layer_sizes: tuple[int, ...]
    sha256: str
    bytes: int


def load_for(path: Path, environment: str) -> LoadedPolicy:
    """Read a policy of any importable form and check that it fits an environment.

    Raises:
        CheckpointNotFoundError: No such file.
        CheckpointCorruptError: Truncated, altered, or of no known layout.
        CheckpointError: Its sizes are not the environment's, or a number in it is not finite.
    """
    loaded = checkpoint.load_policy(path)
    declaration = get_environment(environment)
    sizes = (loaded.policy.observation_size, loaded.policy.action_size)
    wanted = (declaration.observation_size, declaration.action_size)
    if sizes != wanted:
        raise CheckpointError(
            f"checkpoint {path}: its policy maps {sizes[0]} observations to {sizes[1]} actions, "
            f"{environment} has {wanted[0]} and {wanted[1]}. Use the environment it was trained for."
        )
    _check_finite(path, loaded)
    return loaded


def starting_policy(path: Path, environment: str) -> StartingPolicy:
    """Read what a training that starts from a file must know of it.

    Raises:
        CheckpointError: As `load_for`.
    """
    found, size = (fs.sha256(path), path.stat().st_size) if path.is_file() else ("", 0)
    loaded = load_for(path, environment)
    return StartingPolicy(str(path.absolute()), found, size, loaded.env_steps, *_layer_sizes(loaded))


def _check_finite(path: Path, loaded: LoadedPolicy) -> None:
    normalizer = loaded.observation_normalizer
    tensors = {
        **loaded.policy.state_dict(),
        "the normalizer's mean": normalizer.running_mean,
        "the normalizer's variance": normalizer.running_variance,
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"checkpoint {path}: {name} is not finite. Use one from before training diverged.")


def import_checkpoint(source: Path, target: Path, environment: str) -> Imported:
    """Convert a checkpoint to our layout.

    Networks and normalizers are taken over; the optimizer is not, because a training that starts from them begins
    with a new one anyway.

    Args:
        source: A file of skrl 1.4, skrl 2, rsl_rl 5 or this program.
        target: Where to write. Nothing is overwritten.
        environment: Environment that the policy must fit.

    Raises:
        CheckpointError: The source cannot be used, or the target is there already.
    """
    if target.exists():
        raise CheckpointError(f"{target} is there already; nothing was written. Choose another name.")
    loaded = load_for(source, environment)
    content = checkpoint.load(source)
    # Read once more without conversion: only the original content says which program wrote it.
    program = layouts.program_of(torch.load(source, map_location="cpu", weights_only=True))
    kept = ("policy", "value", "state_preprocessor", "value_preprocessor")
    state = {name: content[name] for name in kept if name in content}
    origin = {"file": source.name, "program": program, "sha256": fs.sha256(source)}
    own = content.get("vbot_campaign", {})
    record = checkpoint.save(target, {**state, "vbot_campaign": own}, {"kind": "policy", "imported": origin})
    return Imported(target, program, *_layer_sizes(loaded), record.sha256, record.bytes)


def import_into_study(source: Path, study: StudyPaths, environment: str) -> Imported:
    """Convert a checkpoint into ``runs/<study>/imported/`` and note it in that folder's log.

    Raises:
        StudyNotFoundError: There is no such study's folder.
        CheckpointError: The source cannot be used, or one of its name was imported before.
    """
    if not study.root.is_dir():
        names = sorted(path.name for path in study.root.parent.glob("*/") if path.is_dir())
        raise StudyNotFoundError(
            f"--study {study.root.name}: no folder {study.root}.{did_you_mean(study.root.name, names)} "
            "Start the study first, or use --out."
        )
    imported = import_checkpoint(source, study.imported(source.stem), environment)
    line = {
        "file": imported.path.name,
        "source": str(source.absolute()),
        "program": imported.program,
        "sha256": imported.sha256,
        "bytes": imported.bytes,
        "kind": "imported",
        "time": utc_now(),
    }
    fs.append_line(study.import_log, line, sync=True)
    return imported


def _layer_sizes(loaded: LoadedPolicy) -> tuple[tuple[int, ...], tuple[int, ...]]:
    trunks = (loaded.policy.policy_net, loaded.policy.value_net)
    policy, value = (tuple(m.out_features for m in trunk if isinstance(m, torch.nn.Linear)) for trunk in trunks)
    return policy, value


def describe(imported: Imported) -> str:
    """Say what was imported and how to go on with it."""
    policy, value = (
        str(list(sizes)).replace(" ", "")
        for sizes in (imported.policy_hidden_layer_sizes, imported.value_hidden_layer_sizes)
    )
    return (
        f"{imported.path}: a policy of {imported.program}, {imported.bytes / 1e6:.1f} MB\n"
        f"  play it:        vbot-campaign play {imported.path} --video play.gif\n"
        f"  evaluate it:    vbot-campaign evaluate {imported.path}\n"
        f"  start from it:  vbot-campaign train --checkpoint {imported.path} "
        f"--set 'ppo.policy_hidden_layer_sizes={policy}' --set 'ppo.value_hidden_layer_sizes={value}'"
    )
