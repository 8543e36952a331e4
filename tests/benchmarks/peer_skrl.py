"""skrl's `SequentialTrainer` and `PPO` on our environment."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium.spaces import Box
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import Wrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from torch import nn

from tests.benchmarks.timed_env import TimedEnv
from vbot_campaign.spec.training import PpoSettings
from vbot_campaign.worker.trainers.skrl_ppo import skrl_settings


def train_skrl(env: TimedEnv, settings: PpoSettings, iterations: int, device: torch.device) -> None:
    """Train with skrl's own loop, without its writer."""
    wrapped = SkrlEnv(env, device)
    agent = PPO(
        models={
            "policy": Policy(wrapped, settings).to(device),
            "value": Value(wrapped, settings).to(device),
        },
        memory=RandomMemory(memory_size=settings.rollouts, num_envs=env.num_envs, device=device),
        observation_space=wrapped.observation_space,
        action_space=wrapped.action_space,
        device=device,
        cfg=skrl_settings(settings, env.observation_size, iterations=iterations, device=device),
    )
    loop = {"timesteps": iterations * settings.rollouts, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=wrapped, agents=agent, cfg={**loop, "close_environment_at_exit": False}).train()


class SkrlEnv(Wrapper):
    """Our environment as skrl knows them; tensors on the trainer's device."""

    state_space = None
    num_agents = 1

    def __init__(self, env: TimedEnv, device: torch.device) -> None:
        super().__init__(env)
        self._device = device

    @property
    def observation_space(self) -> Box:
        return _box(self._env.observation_size)

    @property
    def action_space(self) -> Box:
        return _box(self._env.action_size)

    def reset(self) -> tuple[torch.Tensor, dict[str, Any]]:
        return self._env.reset().to(self._device), {}

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Any]:
        result = self._env.step(actions.to(self._env.device))
        columns = (result.rewards, result.terminated, result.truncated)
        rewards, terminated, truncated = (column.unsqueeze(-1).to(self._device) for column in columns)
        return result.observations.to(self._device), rewards, terminated, truncated, {}

    def state(self) -> None:
        return None

    def render(self) -> None:
        return None

    def close(self) -> None:
        return None


class Policy(GaussianMixin, Model):
    def __init__(self, env: SkrlEnv, settings: PpoSettings) -> None:
        _init_model(self, env)
        GaussianMixin.__init__(self)
        actions = env.action_space.shape[0]
        self.net = _mlp(env.observation_space.shape[0], settings.policy_hidden_layer_sizes, actions)
        self.log_std_parameter = nn.Parameter(torch.full((actions,), settings.initial_log_std))

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {"log_std": self.log_std_parameter}


class Value(DeterministicMixin, Model):
    def __init__(self, env: SkrlEnv, settings: PpoSettings) -> None:
        _init_model(self, env)
        DeterministicMixin.__init__(self)
        self.net = _mlp(env.observation_space.shape[0], settings.value_hidden_layer_sizes, 1)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


def _init_model(model: Model, env: SkrlEnv) -> None:
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    Model.__init__(model, **spaces, device=env.device)


def _box(size: int) -> Box:
    return Box(-math.inf, math.inf, (size,))


def _mlp(size: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ELU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
