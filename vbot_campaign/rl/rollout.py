"""What one rollout leaves behind, and the returns computed from it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


class RolloutStorage:
    """Preallocated tensors of one rollout, step by environment.

    Args:
        rollouts: Steps in every environment.
        num_envs: Environments.
        observation_size: Numbers per observation.
        action_size: Numbers per action.
        device: Where the tensors live.
    """

    def __init__(
        self, rollouts: int, num_envs: int, observation_size: int, action_size: int, device: torch.device
    ) -> None:
        shape = (rollouts, num_envs)
        self.observations = torch.zeros(*shape, observation_size, device=device)
        """As the environment gave them, (rollouts, num_envs, observation_size)."""
        self.actions = torch.zeros(*shape, action_size, device=device)
        """(rollouts, num_envs, action_size)."""
        self.log_probs = torch.zeros(shape, device=device)
        """Of the actions under the policy that took them, (rollouts, num_envs)."""
        self.values = torch.zeros(shape, device=device)
        """Predicted before the step, in reward units, (rollouts, num_envs)."""
        self.rewards = torch.zeros(shape, device=device)
        """Scaled, and bootstrapped where an episode was cut, (rollouts, num_envs)."""
        self.ended = torch.zeros(shape, dtype=torch.bool, device=device)
        """Whether an episode ended with the step, for whatever reason, (rollouts, num_envs)."""


@dataclass(frozen=True)
class Batch:
    """Transitions to learn from: a whole rollout, or a mini-batch of it. All contiguous."""

    observations: torch.Tensor
    """Normalized, (batch, observation_size)."""
    actions: torch.Tensor
    """(batch, action_size)."""
    log_probs: torch.Tensor
    """Of the actions under the policy that took them, (batch,)."""
    values: torch.Tensor
    """Predicted before the step, in normalized units, (batch,)."""
    returns: torch.Tensor
    """In normalized units, (batch,)."""
    advantages: torch.Tensor
    """Normalized over the rollout, (batch,)."""

    def __len__(self) -> int:
        return self.advantages.shape[0]

    def select(self, indices: torch.Tensor) -> Batch:
        """Return a copy of the transitions ``indices``, (n,)."""
        return Batch(*(getattr(self, field.name).index_select(0, indices) for field in fields(self)))


def compute_gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    ended: torch.Tensor,
    last_values: torch.Tensor,
    *,
    discount_factor: float,
    lambda_param: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate advantages (generalized advantage estimation, arXiv 1506.02438).

    Args:
        rewards: (rollouts, num_envs); an episode cut by the clock has the discounted value of its last state in its
            last reward already.
        values: Value of the state before each step, (rollouts, num_envs).
        ended: Bool, (rollouts, num_envs): nothing after this step counts for it.
        last_values: Value of the state after the last step, (num_envs,).
        discount_factor: Gamma.
        lambda_param: Lambda.

    Returns:
        Returns and advantages (not normalized), each (rollouts, num_envs).
    """
    going_on = (~ended).to(rewards.dtype) * discount_factor
    advantages = torch.empty_like(rewards)
    next_values, advantage = last_values, torch.zeros_like(last_values)
    for step in reversed(range(rewards.shape[0])):
        # A_t = r_t + gamma V_{t+1} - V_t + gamma lambda A_{t+1}, the future dropped where the episode ended.
        advantage = rewards[step] - values[step] + going_on[step] * (next_values + lambda_param * advantage)
        advantages[step] = advantage
        next_values = values[step]
    return advantages + values, advantages


def normalize_advantages(advantages: torch.Tensor) -> torch.Tensor:
    """Return the advantages with mean 0 and deviation 1 over the whole batch."""
    deviation, mean = torch.std_mean(advantages)
    return (advantages - mean) / (deviation + 1e-8)
