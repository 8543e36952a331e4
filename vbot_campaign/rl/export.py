"""Writes policies in the forms of other programs: skrl, TorchScript, ONNX. Each with a manifest.

TorchScript and ONNX files map raw observations, (n, 54) float32, to mean actions, (n, 12): the normalizer is inside.
What comes after (filter, PD controller, torque limits) is in the manifest, `manifest.json`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vbot_campaign import __version__, fs
from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot import model
from vbot_campaign.errors import CheckpointError, SpecError, did_you_mean
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.checkpoint import LoadedPolicy
from vbot_campaign.rl.importers import load_for
from vbot_campaign.rl.normalization import EPSILON, LIMIT
from vbot_campaign.spec.environments import get_environment

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
OPSET = 18

OBSERVATION_LAYOUT: tuple[tuple[str, int, str], ...] = (
    ("base linear velocity, world axes, m/s", 3, "2"),
    ("base angular velocity, body axes, rad/s", 3, "0.25"),
    ("direction of gravity, body axes", 3, "1"),
    ("joint angles minus default pose, rad", 12, "1"),
    ("joint velocities, rad/s", 12, "0.05"),
    ("filtered action of the last step, 0 at the start", 12, "1"),
    ("target minus position, world axes, each clipped to 1 m; 0 inside the goal", 2, "2"),
    ("bearing of the target minus yaw, clipped to 1 rad; 0 below 8 degrees and inside the goal", 1, "0.25"),
    ("target minus position, world axes, m", 2, "1 / position_scale"),
    ("target yaw minus yaw, wrapped, rad", 1, "1 / pi"),
    ("planar distance, m, clipped to 0..1 after scaling", 1, "1 / position_scale"),
    ("1 inside the goal (0.5 m), else 0", 1, "1"),
    ("1 inside the goal and turning slower than 0.05 rad/s, else 0", 1, "1"),
)
"""Meaning, count and factor of the numbers that a policy sees, in their order."""


class DeployedPolicy(nn.Module):
    """Normalizer and policy in one module of plain torch layers: raw observations in, mean actions out.

    The layers are `torch.nn.Linear`, because the oneDNN kernel of `rl.linear` is nothing that another runtime knows.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, loaded: LoadedPolicy) -> None:
        super().__init__()
        normalizer = loaded.observation_normalizer
        deviation = normalizer.running_variance.float().sqrt() + EPSILON
        self.register_buffer("mean", normalizer.running_mean.float().clone())
        self.register_buffer("deviation", deviation)
        self.limit = normalizer.limit
        modules = [*loaded.policy.policy_net, loaded.policy.mean_layer]
        self.network = nn.Sequential(*(_plain(module) for module in modules))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return mean actions, (n, action_size), for raw observations (n, observation_size), float32."""
        inputs = (observations - self.mean) / self.deviation
        if math.isfinite(self.limit):
            inputs = inputs.clamp(-self.limit, self.limit)
        actions: torch.Tensor = self.network(inputs)
        return actions


def _plain(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Linear):
        return nn.ELU()
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(module.in_features, module.out_features)
    layer.load_state_dict(module.state_dict())
    return layer


def export_policy(path: Path, form: str, folder: Path, environment: str) -> tuple[Path, Path]:
    """Write a checkpoint's policy in another form, and its manifest.

    Args:
        path: A checkpoint of any importable form.
        form: ``skrl``, ``torchscript`` or ``onnx``.
        folder: Where to write; made if missing.
        environment: Environment that the policy must fit.

    Returns:
        The policy's file and the manifest.

    Raises:
        SpecError: No such form, or its extra is not installed.
        CheckpointError: The checkpoint cannot be used, or the form cannot hold it.
    """
    if form not in _WRITERS:
        raise SpecError(f"--format {form}: no such form.{did_you_mean(form, _WRITERS)} Valid: {', '.join(_WRITERS)}.")
    loaded = load_for(path, environment)
    name, write = _WRITERS[form]
    folder.mkdir(parents=True, exist_ok=True)
    write(path, loaded, folder / name)
    values = manifest(path, loaded, environment)
    fs.write_json(folder / MANIFEST, {"schema": MANIFEST_SCHEMA, "file": name, "format": form, **values})
    return folder / name, folder / MANIFEST


def _write_skrl(path: Path, loaded: LoadedPolicy, target: Path) -> None:
    if loaded.observation_normalizer.limit != LIMIT:
        raise CheckpointError(
            f"checkpoint {path}: its normalizer does not clip, skrl's clips at {LIMIT:g}; the policy would act "
            "differently. Use --format torchscript or onnx."
        )
    content = checkpoint.load(path)
    names = ("policy", "value", "state_preprocessor", "value_preprocessor")
    state = {name: content[name] for name in names if name in content}
    with fs.replacing(target) as file:
        # Under both names: skrl 1.4 reads `state_preprocessor`, skrl 2 `observation_preprocessor`.
        torch.save({**state, "observation_preprocessor": state["state_preprocessor"]}, file)


def _write_torchscript(path: Path, loaded: LoadedPolicy, target: Path) -> None:
    with warnings.catch_warnings(), fs.replacing(target) as file:
        # torch advises torch.export instead, whose files need the same version of torch and do not load in C++.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(DeployedPolicy(loaded).eval(), _example(loaded))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, file)


def _write_onnx(path: Path, loaded: LoadedPolicy, target: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise SpecError("--format onnx: onnx and onnxscript are not installed. Run: pip install 'vbot-campaign[onnx]'")
    with _quiet():
        program = torch.onnx.export(
            DeployedPolicy(loaded).eval(),
            (_example(loaded),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["observations"],
            output_names=["actions"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            verbose=False,
        )
    assert program is not None  # noqa: S101 - what the exporter returns without a file name
    with fs.replacing(target) as file:
        file.write(program.model_proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter tells of operators of packages that are not installed, none of which is in these networks.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _example(loaded: LoadedPolicy) -> torch.Tensor:
    return torch.zeros(2, loaded.policy.observation_size)


_WRITERS: dict[str, tuple[str, Callable[[Path, LoadedPolicy, Path], None]]] = {
    "skrl": ("agent.pt", _write_skrl),
    "torchscript": ("policy.torchscript.pt", _write_torchscript),
    "onnx": ("policy.onnx", _write_onnx),
}


def manifest(path: Path, loaded: LoadedPolicy, environment: str) -> dict[str, Any]:
    """Return all that a robot's program must know besides the networks, as plain JSON values."""
    settings = get_environment(environment).resolve_settings((loaded.training or {}).get("env", {}))
    return {
        "checkpoint": {"file": path.name, "sha256": fs.sha256(path), "env_steps": loaded.env_steps},
        "written_by": f"vbot-campaign {__version__}",
        "environment": environment,
        "control_dt_s": CONTROL_DT_S,
        "observation": {
            "size": loaded.policy.observation_size,
            "position_scale": settings["position_scale"],
            "position_scale_known": loaded.training is not None,
            "parts": _observation_parts(),
        },
        "normalizer": _normalizer(loaded),
        "action": _action_path(loaded),
    }


def _observation_parts() -> list[dict[str, Any]]:
    parts, start = [], 0
    for meaning, count, factor in OBSERVATION_LAYOUT:
        parts.append({"first": start, "last": start + count - 1, "meaning": meaning, "factor": factor})
        start += count
    return parts


def _normalizer(loaded: LoadedPolicy) -> dict[str, Any]:
    normalizer = loaded.observation_normalizer
    return {
        "formula": "clip((x - mean) / (sqrt(variance) + epsilon), -clip, clip); no clipping where clip is null",
        "epsilon": EPSILON,
        "clip": normalizer.limit if math.isfinite(normalizer.limit) else None,
        "mean": normalizer.running_mean.tolist(),
        "variance": normalizer.running_variance.tolist(),
    }


def _action_path(loaded: LoadedPolicy) -> dict[str, Any]:
    return {
        "size": loaded.policy.action_size,
        "clipped": False,
        "joints": [f"{leg}_{joint}" for leg in model.LEGS for joint in model.JOINTS],
        "filter": model.ACTION_FILTER,
        "scale": model.ACTION_SCALE,
        "kp": model.STIFFNESS,
        "kd": model.DAMPING,
        "torque_limits": list(model.TORQUE_LIMITS),
        "default_pose": list(model.DEFAULT_POSE),
        "log_std": loaded.policy.log_std.tolist(),
        "formula": "filtered = filter * action + (1 - filter) * filtered; "
        "torque = clip(kp * (default_pose + scale * filtered - angle) - kd * velocity, -torque_limit, torque_limit)",
    }
