"""Checkpoint contents of other programs, brought to the layout of ours (`rl.checkpoint`).

skrl 1.4 and 2.x   ``policy``, ``value``, ``state_preprocessor`` (2.x: ``observation_preprocessor``),
                   ``value_preprocessor``. Both names of a compiled model are read. The value network lies either in
                   ``policy`` too (one model, stored twice) or in ``value`` alone.
rsl_rl 5           ``actor_state_dict`` and ``critic_state_dict``, each with ``mlp.*``, ``obs_normalizer.*`` and, for
                   the actor, ``distribution.std_param`` or ``distribution.log_std_param``.

What rsl_rl does differently is carried over exactly, so that the policy acts as it did there:

* It has an ELU between its last hidden layer and its output layer; our heads follow the trunk directly. So its output
  layer becomes the last layer of the trunk, and the head is the identity.
* It divides by ``std + 0.01``; ours by ``sqrt(variance) + 1e-8``. The variance is chosen to divide by the same.
* It does not clip normalized observations; the normalizer's limit is infinite.
* Its critic may have a normalizer of its own, which is folded into the critic's first layer, and predicts returns in
  their natural units; ours predicts normalized ones (`_value_units`).

The kind of activation is in no file of either program; ELU, the one of this task's configurations, is assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from vbot_campaign.errors import CheckpointCorruptError, CheckpointError
from vbot_campaign.rl.normalization import EPSILON

COMPILED_PREFIX = "_orig_mod."
RSL_RL_EPSILON = 1e-2

_SETTLED_COUNT = 1e9
# Samples that an absent normalizer counts as having seen, so that a training that goes on from it leaves it as it is.

Tensors = dict[str, torch.Tensor]


def program_of(content: dict[str, Any]) -> str:
    """Return which program wrote a checkpoint: ``vbot_campaign``, ``skrl`` or ``rsl_rl``."""
    if "actor_state_dict" in content:
        return "rsl_rl"
    return "vbot_campaign" if "vbot_campaign" in content else "skrl"


def to_own_layout(source: str, content: Any) -> dict[str, Any]:
    """Return a checkpoint's content in our layout.

    Args:
        source: What to call the file in messages.
        content: What ``torch.load(weights_only=True)`` returned.

    Raises:
        CheckpointCorruptError: It is no checkpoint of a known layout.
        CheckpointError: It is one of a version that is not read.
    """
    if isinstance(content, dict) and "model_state_dict" in content:
        raise CheckpointError(
            f"checkpoint {source} is of rsl_rl before version 5 ('model_state_dict'); 'actor_state_dict' is read. "
            "Save it again with rsl_rl 5."
        )
    if isinstance(content, dict) and isinstance(content.get("actor_state_dict"), dict):
        return _from_rsl_rl(source, content)
    if not isinstance(content, dict) or not isinstance(content.get("policy"), dict):
        raise CheckpointCorruptError(f"{source} is not a checkpoint: it has no 'policy' and no 'actor_state_dict'.")
    return _from_skrl(source, content)


def _from_skrl(source: str, content: dict[str, Any]) -> dict[str, Any]:
    known = dict(content)
    if "observation_preprocessor" in known:
        known["state_preprocessor"] = known.pop("observation_preprocessor")
    if "state_preprocessor" not in known:
        raise CheckpointCorruptError(
            f"checkpoint {source} has no observation normalizer ('state_preprocessor' or 'observation_preprocessor'); "
            "a policy cannot act without the one it was trained with."
        )
    policy, value = _uncompiled(known["policy"]), known.get("value")
    if isinstance(value, dict) and not any(name.startswith("value_net.") for name in policy):
        policy = {
            **policy,
            **{n: t for n, t in _uncompiled(value).items() if n.startswith(("value_net.", "value_lay"))},
        }
    return {**known, "policy": policy, "value": policy}


def _uncompiled(weights: dict[str, Any]) -> Tensors:
    return {str(name).removeprefix(COMPILED_PREFIX): tensor for name, tensor in weights.items()}


@dataclass(frozen=True)
class _Network:
    """A network of rsl_rl: linear layers with ELU between them, and what its input is normalized with."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """Weight (out, in) and bias (out,) of each."""
    mean: torch.Tensor
    divisor: torch.Tensor
    count: float
    others: Tensors
    """Tensors of other names."""

    def output(self, normalized: torch.Tensor) -> torch.Tensor:
        for weight, bias in self.layers[:-1]:
            normalized = torch.nn.functional.elu(normalized @ weight.T + bias)
        weight, bias = self.layers[-1]
        return normalized @ weight.T + bias


def _from_rsl_rl(source: str, content: dict[str, Any]) -> dict[str, Any]:
    try:
        actor, critic = (_network(content[f"{name}_state_dict"]) for name in ("actor", "critic"))
        log_std = _log_std(actor)
        critic = _seen_through(actor, critic)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointCorruptError(
            f"checkpoint {source} holds no rsl_rl policy of the known layout: {_words(error)}. "
            "Read are an actor and a critic of linear layers ('mlp.*') with a state-independent deviation."
        ) from None
    value_mean, value_deviation = _value_units(critic)
    weights = {
        "log_std_parameter": log_std,
        **_trunk("policy_net", actor),
        **_trunk("value_net", critic),
        "mean_layer.weight": torch.eye(len(log_std)),
        "mean_layer.bias": torch.zeros(len(log_std)),
        "value_layer.weight": (1.0 / value_deviation).reshape(1, 1),
        "value_layer.bias": (-value_mean / value_deviation).reshape(1),
    }
    return {
        "policy": weights,
        "value": weights,
        "state_preprocessor": _statistics(actor.mean, actor.divisor, actor.count),
        "value_preprocessor": _statistics(value_mean.reshape(1), value_deviation.reshape(1), actor.count),
    }


def _words(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _network(state: dict[str, Any]) -> _Network:
    left = _uncompiled(state)
    numbers = sorted(int(name.split(".")[1]) for name in left if re.fullmatch(r"mlp\.\d+\.weight", name))
    if not numbers or numbers != list(range(0, 2 * len(numbers), 2)):
        raise ValueError(f"its linear layers have the numbers {numbers}, expected 0, 2, 4, …")
    layers = [(left.pop(f"mlp.{n}.weight").float(), left.pop(f"mlp.{n}.bias").float()) for n in numbers]
    for (before, _), (after, _) in pairwise(layers):
        if before.shape[0] != after.shape[1]:
            raise ValueError(f"a layer of {before.shape[0]} numbers is followed by one for {after.shape[1]}")
    size = layers[0][0].shape[1]
    if "obs_normalizer._mean" not in left:
        return _Network(layers, torch.zeros(size), torch.ones(size), _SETTLED_COUNT, left)
    mean = left.pop("obs_normalizer._mean").reshape(size).float()
    divisor = left.pop("obs_normalizer._std").reshape(size).float() + RSL_RL_EPSILON
    left.pop("obs_normalizer._var", None)
    return _Network(layers, mean, divisor, float(left.pop("obs_normalizer.count")), left)


def _log_std(actor: _Network) -> torch.Tensor:
    others = dict(actor.others)
    std, log_std = others.pop("distribution.std_param", None), others.pop("distribution.log_std_param", None)
    if others:
        raise ValueError(f"unknown {', '.join(sorted(others))}")
    if log_std is None and std is not None:
        log_std = std.float().log()
    if log_std is None:
        raise ValueError("the actor has neither distribution.std_param nor distribution.log_std_param")
    actions = actor.layers[-1][0].shape[0]
    if log_std.shape != (actions,):
        raise ValueError(f"{actions} actions with deviations of shape {tuple(log_std.shape)}")
    return log_std.float()


def _seen_through(actor: _Network, critic: _Network) -> _Network:
    """Return the critic for observations that the actor's normalizer has scaled.

    With the actor's z = (x - a) / s, the critic's input (x - b) / t is z * s / t + (a - b) / t: another first layer.
    """
    if critic.others:
        raise ValueError(f"unknown {', '.join(sorted(critic.others))} in the critic")
    if critic.layers[-1][0].shape[0] != 1 or critic.mean.shape != actor.mean.shape:
        raise ValueError(
            f"a critic that maps {len(critic.mean)} observations to {critic.layers[-1][0].shape[0]} numbers, "
            f"beside an actor for {len(actor.mean)}"
        )
    weight, bias = critic.layers[0]
    scale, shift = actor.divisor / critic.divisor, (actor.mean - critic.mean) / critic.divisor
    first = (weight * scale, bias + weight @ shift)
    return _Network([first, *critic.layers[1:]], actor.mean, actor.divisor, actor.count, {})


def _value_units(critic: _Network) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of the critic's values over typical observations, each ().

    A training that goes on from the file learns normalized values. The file does not say how large returns were; the
    critic does, over observations drawn from the statistics of its normalizer.
    """
    typical = torch.randn(1024, len(critic.mean), generator=torch.Generator().manual_seed(0))
    values = critic.output(typical)
    return values.mean(), values.std().clamp_min(1e-3)


def _trunk(name: str, network: _Network) -> Tensors:
    weights = {f"{name}.{2 * i}.weight": weight for i, (weight, _) in enumerate(network.layers)}
    return {**weights, **{f"{name}.{2 * i}.bias": bias for i, (_, bias) in enumerate(network.layers)}}


def _statistics(mean: torch.Tensor, divisor: torch.Tensor, count: float) -> Tensors:
    return {
        "running_mean": mean.double(),
        "running_variance": (divisor.double() - EPSILON).square(),
        "current_count": torch.tensor(count, dtype=torch.float64),
        "limit": torch.tensor(torch.inf, dtype=torch.float64),
    }
