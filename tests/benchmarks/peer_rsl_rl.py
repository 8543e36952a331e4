"""rsl_rl's `OnPolicyRunner` on our environment."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from tests.benchmarks.timed_env import TimedEnv
from vbot_campaign.spec.training import PpoSettings


def train_rsl_rl(env: TimedEnv, settings: PpoSettings, iterations: int, device: torch.device) -> None:
    """Train with rsl_rl's own loop, without its writer."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
        runner = OnPolicyRunner(RslEnv(env, device), _settings(settings), log_dir=None, device=str(device))
        runner.learn(iterations)


class RslEnv(VecEnv):
    """Our environment as rsl_rl knows them; tensors on the trainer's device."""

    def __init__(self, env: TimedEnv, device: torch.device) -> None:
        self.num_envs = env.num_envs
        self.num_actions = env.action_size
        self.max_episode_length = env.max_steps
        self.episode_length_buf = torch.zeros(env.num_envs, dtype=torch.long, device=device)
        self.device = device
        self.cfg: dict[str, Any] = {}
        self._env = env
        self._observations = env.reset()

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": self._observations.to(self.device)}, batch_size=[self.num_envs])

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        result = self._env.step(actions.to(self._env.device))
        self._observations = result.observations
        ended = (result.terminated | result.truncated).to(self.device)
        extras = {"time_outs": result.truncated.to(self.device)}
        return self.get_observations(), result.rewards.to(self.device), ended, extras


def _settings(settings: PpoSettings) -> dict[str, Any]:
    network = {"class_name": "MLPModel", "activation": "elu", "obs_normalization": True}
    noise = {
        "class_name": "GaussianDistribution",
        "std_type": "log",
        "init_std": math.exp(settings.initial_log_std),
    }
    return {
        "num_steps_per_env": settings.rollouts,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "hidden_dims": list(settings.policy_hidden_layer_sizes), "distribution_cfg": noise},
        "critic": {**network, "hidden_dims": list(settings.value_hidden_layer_sizes)},
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": settings.learning_epochs,
            "num_mini_batches": settings.mini_batches,
            "clip_param": settings.ratio_clip,
            "gamma": settings.discount_factor,
            "lam": settings.lambda_param,
            "value_loss_coef": settings.value_loss_scale,
            "entropy_coef": settings.entropy_loss_scale,
            "learning_rate": settings.learning_rate,
            "max_grad_norm": settings.grad_norm_clip,
            "use_clipped_value_loss": settings.clip_predicted_values,
            "schedule": "fixed",
        },
    }
