"""What an environment remembers of its current episode: all of it, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from vbot_campaign.envs.vbot.model import NUM_JOINTS


@dataclass
class EpisodeMemory:
    """One row per environment. Tensors are (num_envs,) unless said otherwise."""

    steps: torch.Tensor
    """Int64: control steps done."""
    counted: torch.Tensor
    """Bool: the episode began with a full clock."""
    target: torch.Tensor
    """Float32, (num_envs, 2), m."""
    target_yaw: torch.Tensor
    """Float32, rad."""
    filtered_action: torch.Tensor
    """Float32, (num_envs, 12)."""
    joint_velocity: torch.Tensor
    """Float32, (num_envs, 12): of the step before, rad/s."""
    initial_distance: torch.Tensor
    """Float32, m."""
    previous_distance: torch.Tensor
    """Float32, m."""
    ever_reached: torch.Tensor
    """Bool."""
    arrival_step: torch.Tensor
    """Int64: steps done before the first step inside the goal; only meaningful where `ever_reached`."""
    fence_entered: torch.Tensor
    """Bool."""
    stopped_steps: torch.Tensor
    """Int64: consecutive steps inside the goal and slow."""
    reward: torch.Tensor
    """Float32: sum so far."""

    @classmethod
    def empty(cls, num_envs: int) -> EpisodeMemory:
        """Return memory of episodes that have not begun."""
        whole = torch.zeros(num_envs, dtype=torch.int64)
        flag = torch.zeros(num_envs, dtype=torch.bool)
        number = torch.zeros(num_envs)
        joints = torch.zeros(num_envs, NUM_JOINTS)
        return cls(
            steps=whole.clone(),
            counted=flag.clone(),
            target=torch.zeros(num_envs, 2),
            target_yaw=number.clone(),
            filtered_action=joints.clone(),
            joint_velocity=joints.clone(),
            initial_distance=number.clone(),
            previous_distance=number.clone(),
            ever_reached=flag.clone(),
            arrival_step=whole.clone(),
            fence_entered=flag.clone(),
            stopped_steps=whole.clone(),
            reward=number.clone(),
        )

    def restart(
        self, indices: torch.Tensor, targets: torch.Tensor, target_yaw: torch.Tensor, distances: torch.Tensor
    ) -> None:
        """Forget everything about some episodes and begin new ones.

        Args:
            indices: Int64, (n,).
            targets: Float32, (n, 2), m.
            target_yaw: Float32, (n,), rad.
            distances: Float32, (n,): from spawn point to target, m.
        """
        for entry in fields(self):
            # A step keeps references of these tensors in its results, so they are replaced and not written into.
            fresh = getattr(self, entry.name).clone()
            fresh[indices] = 0
            setattr(self, entry.name, fresh)
        self.counted[indices] = True
        self.target[indices] = targets
        self.target_yaw[indices] = target_yaw
        self.initial_distance[indices] = distances
        self.previous_distance[indices] = distances

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies of all rows."""
        return {entry.name: getattr(self, entry.name).clone() for entry in fields(self)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over all rows of a `state_dict`."""
        for entry in fields(self):
            setattr(self, entry.name, state[entry.name].clone())
