"""Policies as other programs write them: skrl 2 and rsl_rl by their own code, skrl 1.4 by its keys."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import torch
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from tensordict import TensorDict
from torch import nn

OBSERVATIONS, ACTIONS = 54, 12
OBSERVATION_SPACE = gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATIONS,))
ACTION_SPACE = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))


def trunk(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ELU()]
    return nn.Sequential(*layers[:-1])


class SharedModel(GaussianMixin, DeterministicMixin, Model):
    """The task's model in the field: policy and value function in one, under two roles."""

    def __init__(self, policy_sizes: tuple[int, ...] = (256, 128, 64), value_sizes: tuple[int, ...] = (64, 32)) -> None:
        Model.__init__(self, observation_space=OBSERVATION_SPACE, action_space=ACTION_SPACE, device="cpu")
        GaussianMixin.__init__(self, role="policy")
        DeterministicMixin.__init__(self, role="value")
        self.policy_net = trunk(OBSERVATIONS, *policy_sizes)
        self.mean_layer = nn.Linear(policy_sizes[-1], ACTIONS)
        self.log_std_parameter = nn.Parameter(torch.full((ACTIONS,), -0.5))
        self.value_net = trunk(OBSERVATIONS, *value_sizes)
        self.value_layer = nn.Linear(value_sizes[-1], 1)

    def act(self, inputs: dict[str, Any], *, role: str = "") -> Any:
        mixin = GaussianMixin if role == "policy" else DeterministicMixin
        return mixin.act(self, inputs, role=role)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        if role == "policy":
            return self.mean_layer(self.policy_net(inputs["observations"])), {"log_std": self.log_std_parameter}
        return self.value_layer(self.value_net(inputs["observations"])), {}


def skrl_agent(model: SharedModel) -> PPO:
    """Return skrl's PPO on a model, with normalizers that have seen something."""
    settings = PPO_CFG(
        observation_preprocessor=RunningStandardScaler,
        observation_preprocessor_kwargs={"size": OBSERVATION_SPACE, "device": "cpu"},
        value_preprocessor=RunningStandardScaler,
        value_preprocessor_kwargs={"size": 1, "device": "cpu"},
    )
    agent = PPO(
        models={"policy": model, "value": model},
        memory=RandomMemory(memory_size=4, num_envs=2, device="cpu"),
        observation_space=OBSERVATION_SPACE,
        state_space=None,
        action_space=ACTION_SPACE,
        device="cpu",
        cfg=settings,
    )
    agent.init()
    agent._observation_preprocessor(torch.randn(4096, OBSERVATIONS) * 0.3 + 0.2, train=True)
    agent._value_preprocessor(torch.randn(4096, 1) * 20 + 5, train=True)
    return agent


def skrl_actions(agent: PPO, observations: torch.Tensor) -> torch.Tensor:
    """Return skrl's own mean actions."""
    with torch.no_grad():
        inputs = {"observations": agent._observation_preprocessor(observations)}
        return agent.policy.compute(inputs, role="policy")[0]


def skrl_14(model: SharedModel, agent: PPO, *, prefix: str = "_orig_mod.", separate: bool = False) -> dict[str, Any]:
    """Return a checkpoint as skrl 1.4 writes it: older names, a compiled model, everything twice or in two halves."""
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    value = {name: tensor for name, tensor in weights.items() if "value_" in name}
    policy = {name: tensor for name, tensor in weights.items() if name not in value}
    return {
        "policy": policy if separate else weights,
        "value": value if separate else weights,
        "optimizer": torch.optim.Adam(model.parameters()).state_dict(),
        "state_preprocessor": agent._observation_preprocessor.state_dict(),
        "value_preprocessor": agent._value_preprocessor.state_dict(),
    }


class RslPair:
    """Actor and critic of rsl_rl, with its own classes."""

    def __init__(self, *, normalized: bool = True, std_type: str = "scalar", actions: int = ACTIONS) -> None:
        from rsl_rl.models import MLPModel

        self.actor = MLPModel(
            example(2),
            {"actor": ["policy"]},
            "actor",
            actions,
            hidden_dims=[64, 32],
            obs_normalization=normalized,
            distribution_cfg={"class_name": "GaussianDistribution", "init_std": 0.7, "std_type": std_type},
        )
        self.critic = MLPModel(
            example(2), {"critic": ["policy"]}, "critic", 1, hidden_dims=[48, 32], obs_normalization=normalized
        )
        if normalized:
            self.actor.obs_normalizer.update(torch.randn(4096, OBSERVATIONS) * 0.3 + 0.2)
            self.critic.obs_normalizer.update(torch.randn(4096, OBSERVATIONS) * 0.5 - 0.1)

    def save(self, path: Path) -> Path:
        """Write ``model_*.pt`` with the keys of its runner."""
        content = {
            "actor_state_dict": self.actor.state_dict(),
            "critic_state_dict": self.critic.state_dict(),
            "optimizer_state_dict": torch.optim.Adam(self.actor.parameters()).state_dict(),
            "iter": 1500,
            "infos": None,
        }
        torch.save(content, path)
        return path

    def actions(self, observations: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.actor(group(observations))

    def values(self, observations: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.critic(group(observations)).squeeze(-1)


def group(observations: torch.Tensor) -> TensorDict:
    return TensorDict({"policy": observations}, batch_size=[len(observations)])


def example(count: int) -> TensorDict:
    return group(torch.zeros(count, OBSERVATIONS))
