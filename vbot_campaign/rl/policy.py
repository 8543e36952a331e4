"""The networks: a Gaussian policy and a value function with separate trunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from vbot_campaign.rl.linear import Linear

LOG_STD_RANGE = (-20.0, 2.0)

_LOG_2PI = math.log(2.0 * math.pi)


class ActorCritic(nn.Module):
    """Gaussian policy with a state-independent deviation, and a value function.

    Parameter names and their order are those of the checkpoints in the field: ``log_std_parameter``, ``policy_net``,
    ``value_net``, ``mean_layer``, ``value_layer``. ELU between the layers of a trunk and none after its last one.
    Actions are neither squashed nor clipped.

    Args:
        observation_size: Numbers per (normalized) observation.
        action_size: Numbers per action.
        policy_hidden_layer_sizes: Widths of the policy's trunk, at least one.
        value_hidden_layer_sizes: Widths of the value function's trunk, at least one.
        initial_log_std: Logarithm of the action noise at the start, the same for all actions.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        policy_hidden_layer_sizes: Sequence[int],
        value_hidden_layer_sizes: Sequence[int],
        initial_log_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.observation_size = observation_size
        self.action_size = action_size
        self.log_std_parameter = nn.Parameter(torch.full((action_size,), float(initial_log_std)))
        self.policy_net = _trunk(observation_size, policy_hidden_layer_sizes)
        self.value_net = _trunk(observation_size, value_hidden_layer_sizes)
        self.mean_layer = Linear(policy_hidden_layer_sizes[-1], action_size)
        self.value_layer = Linear(value_hidden_layer_sizes[-1], 1)

    @property
    def log_std(self) -> torch.Tensor:
        """Logarithm of the action noise within its limits, (action_size,)."""
        return self.log_std_parameter.clamp(*LOG_STD_RANGE)

    def mean(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the mean actions, (batch, action_size), for observations (batch, observation_size)."""
        actions: torch.Tensor = self.mean_layer(self.policy_net(observations))
        return actions

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the values in normalized units, (batch,), for observations (batch, observation_size)."""
        values: torch.Tensor = self.value_layer(self.value_net(observations))
        return values.squeeze(-1)

    def act(self, observations: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample actions.

        Args:
            observations: Normalized observations, (batch, observation_size).
            noise: Standard normal numbers, (batch, action_size).

        Returns:
            Actions (batch, action_size) and their log-probabilities (batch,).
        """
        log_std = self.log_std
        actions = torch.addcmul(self.mean(observations), log_std.exp(), noise)
        return actions, _log_density(noise, log_std)

    def log_prob(self, mean: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of actions, summed over their components.

        Args:
            mean: Mean actions, (batch, action_size).
            actions: Taken actions, (batch, action_size).

        Returns:
            (batch,).
        """
        log_std = self.log_std
        return _log_density((actions - mean) * torch.exp(-log_std), log_std)

    def entropy(self) -> torch.Tensor:
        """Return the policy's entropy, summed over action components, ()."""
        return self.log_std.sum() + 0.5 * self.action_size * (1.0 + _LOG_2PI)

    def std(self) -> torch.Tensor:
        """Return the mean action noise over action components, ()."""
        return self.log_std.exp().mean()


def _log_density(z: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    # Sum over components of log N(mean + std z; mean, std).
    return -0.5 * z.square().sum(-1) - (log_std.sum() + 0.5 * z.shape[-1] * _LOG_2PI)


def _trunk(input_size: int, sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise([input_size, *sizes]):
        # In place: ELU's gradient needs only its output, and memory traffic is what an update on a CPU waits for.
        layers += [Linear(size_in, size_out), nn.ELU(inplace=True)]
    return nn.Sequential(*layers[:-1])
