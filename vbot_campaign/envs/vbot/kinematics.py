"""Geometry of the base: orientation, heading, ground contact. All angles in radians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vbot_campaign.envs.vbot.model import BASE_BOXES, CONTACT_MARGIN

DISC_RADIUS = 12.5
"""Metres; beyond it there is nothing to stand on."""


@dataclass(frozen=True)
class BaseState:
    """What observation, reward and termination need to know of the robots, float32."""

    position: torch.Tensor
    """World frame, (num_envs, 3), m."""
    linear_velocity: torch.Tensor
    """World axes, (num_envs, 3), m/s."""
    angular_velocity: torch.Tensor
    """Body axes, (num_envs, 3), rad/s."""
    up: torch.Tensor
    """World z axis in body axes, (num_envs, 3); gravity's direction is its negative."""
    yaw: torch.Tensor
    """Heading of the body's x axis, (num_envs,)."""
    joint_angles: torch.Tensor
    """(num_envs, 12)."""
    joint_velocities: torch.Tensor
    """(num_envs, 12), rad/s."""

    @classmethod
    def from_engine(cls, positions: torch.Tensor, velocities: torch.Tensor) -> BaseState:
        """Read the state of `PhysicsEngine.positions` and `PhysicsEngine.velocities` once, as a copy."""
        q = positions.float()
        v = velocities.float()
        w, x, y, z = q[:, 3], q[:, 4], q[:, 5], q[:, 6]
        up = torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=1)
        yaw = torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return cls(q[:, :3], v[:, :3], v[:, 3:6], up, yaw, q[:, 7:], v[:, 6:])


def wrap(angle: torch.Tensor) -> torch.Tensor:
    """Bring an angle into [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class GroundContact:
    """Contact of the eight base boxes with the disc, from geometry alone: the same in every engine.

    A box touches the flat disc when its lowest corner is closer than the contact margin and it is above the disc.
    Its lowest corner lies below its centre by the sum of its half-sizes times the vertical parts of its axes.
    """

    def __init__(self, device: torch.device) -> None:
        self._centres = torch.tensor([centre for centre, _ in BASE_BOXES], device=device).T.contiguous()
        self._half_sizes = torch.tensor([half for _, half in BASE_BOXES], device=device).T.contiguous()

    def __call__(self, base: BaseState) -> torch.Tensor:
        """Return which robots touch the ground with their base, bool (num_envs,)."""
        lowest = base.up @ self._centres - base.up.abs() @ self._half_sizes
        height = base.position[:, 2] + lowest.amin(dim=1)
        on_disc = base.position[:, :2].square().sum(dim=1) < DISC_RADIUS**2
        return (height < CONTACT_MARGIN) & on_disc
