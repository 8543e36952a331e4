"""The 54 numbers that the policy sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vbot_campaign.envs.vbot.kinematics import BaseState, wrap
from vbot_campaign.envs.vbot.model import DEFAULT_POSE

OBSERVATION_SIZE = 54
GOAL_RADIUS = 0.5
"""Planar distance below which the target counts as reached, m."""
_HEADING_DEAD_BAND = math.radians(8.0)
_STOP_READY_YAW_RATE = 0.05


@dataclass(frozen=True)
class Goal:
    """Where the target is, seen from the robots. Float32 but for `reached`."""

    offset: torch.Tensor
    """Target minus position in world axes, (num_envs, 2), m."""
    distance: torch.Tensor
    """Planar, (num_envs,), m."""
    bearing: torch.Tensor
    """Direction of the target in world axes, (num_envs,), rad."""
    heading_error: torch.Tensor
    """Bearing minus yaw, wrapped, (num_envs,), rad."""
    reached: torch.Tensor
    """Bool, (num_envs,)."""

    @classmethod
    def seen_from(cls, base: BaseState, targets: torch.Tensor) -> Goal:
        """Compute the goal for targets of shape (num_envs, 2)."""
        offset = targets - base.position[:, :2]
        distance = offset.square().sum(dim=1).sqrt()
        bearing = torch.atan2(offset[:, 1], offset[:, 0])
        return cls(offset, distance, bearing, wrap(bearing - base.yaw), distance < GOAL_RADIUS)


class Observer:
    """Builds observations. Scales are those that published policies of the task were trained with."""

    def __init__(self, position_scale: float, device: torch.device) -> None:
        self._position_scale = position_scale
        self._default_pose = torch.tensor(DEFAULT_POSE, device=device)

    def __call__(
        self, base: BaseState, goal: Goal, filtered_actions: torch.Tensor, target_yaw: torch.Tensor
    ) -> torch.Tensor:
        """Return observations, float32 (num_envs, 54)."""
        moving = (~goal.reached).float().unsqueeze(1)
        turn = goal.heading_error.clamp(-1.0, 1.0) * (goal.heading_error.abs() >= _HEADING_DEAD_BAND)
        stop_ready = goal.reached & (base.angular_velocity[:, 2].abs() < _STOP_READY_YAW_RATE)
        return torch.cat(
            (
                base.linear_velocity * 2.0,
                base.angular_velocity * 0.25,
                -base.up,
                base.joint_angles - self._default_pose,
                base.joint_velocities * 0.05,
                filtered_actions,
                goal.offset.clamp(-1.0, 1.0) * (2.0 * moving),
                turn.unsqueeze(1) * (0.25 * moving),
                goal.offset / self._position_scale,
                (wrap(target_yaw - base.yaw) / math.pi).unsqueeze(1),
                (goal.distance / self._position_scale).clamp(0.0, 1.0).unsqueeze(1),
                goal.reached.float().unsqueeze(1),
                stop_ready.float().unsqueeze(1),
            ),
            dim=1,
        )
