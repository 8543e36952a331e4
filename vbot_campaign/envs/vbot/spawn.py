"""Where targets and robots appear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vbot_campaign.envs.vbot.model import DEFAULT_POSE, NUM_JOINTS, SPAWN_HEIGHT
from vbot_campaign.errors import SpecError

_MAX_ROUNDS = 1000


@dataclass(frozen=True)
class SpawnSettings:
    """Distances in metres; see the environment's declaration."""

    inner_radius: float
    outer_radius: float
    target_radius: float
    platform_radius: float
    reset_pose: str


@dataclass(frozen=True)
class Spawn:
    """New episodes for some robots."""

    positions: torch.Tensor
    """Float64, (n, 19), as `PhysicsEngine.positions`."""
    targets: torch.Tensor
    """Float32, (n, 2), m."""
    target_yaw: torch.Tensor
    """Float32, (n,), rad."""


class Spawner:
    """Draws targets uniformly in a disc and robots uniformly by area in a ring around them.

    A pair whose robot would stand outside the platform is drawn again, so the ring's density stays uniform.
    """

    def __init__(self, settings: SpawnSettings, generator: torch.Generator) -> None:
        if settings.inner_radius >= settings.platform_radius + settings.target_radius:
            raise SpecError(
                f"env.spawn_inner_radius: {settings.inner_radius} m from a target within {settings.target_radius} m of "
                f"the centre is never on the platform of {settings.platform_radius} m. Choose a smaller radius."
            )
        self._settings = settings
        self._generator = generator

    def draw(self, count: int) -> Spawn:
        """Return ``count`` new episodes."""
        targets, points = self._pairs(count)
        for _ in range(_MAX_ROUNDS):
            outside = (points.square().sum(dim=1) > self._settings.platform_radius**2).nonzero().flatten()
            if len(outside) == 0:
                break
            targets[outside], points[outside] = self._pairs(len(outside))
        else:
            raise SpecError(
                f"env.spawn_inner_radius: no place on the platform in {_MAX_ROUNDS} tries; choose a smaller one."
            )
        target_yaw = (self._uniform(count) * 2 - 1) * math.pi
        if self._settings.target_radius == 0:
            target_yaw = torch.zeros_like(target_yaw)
        return Spawn(self._states(points, self._uniform(count) * 2 * math.pi), targets, target_yaw)

    def _pairs(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        s = self._settings
        targets = self._ring(count, 0.0, s.target_radius)
        return targets, targets + self._ring(count, s.inner_radius, s.outer_radius)

    def _ring(self, count: int, inner: float, outer: float) -> torch.Tensor:
        # Area grows with the square of the radius, so a uniform draw of the square is uniform by area.
        radius = (inner**2 + self._uniform(count) * (outer**2 - inner**2)).sqrt()
        angle = self._uniform(count) * 2 * math.pi
        return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)

    def _states(self, points: torch.Tensor, yaw: torch.Tensor) -> torch.Tensor:
        pose = DEFAULT_POSE if self._settings.reset_pose == "default" else (0.0,) * NUM_JOINTS
        states = torch.zeros(len(points), 7 + NUM_JOINTS, dtype=torch.float64)
        states[:, :2] = points
        states[:, 2] = SPAWN_HEIGHT[self._settings.reset_pose]
        states[:, 3] = (yaw / 2).cos()
        states[:, 6] = (yaw / 2).sin()
        states[:, 7:] = torch.tensor(pose, dtype=torch.float64)
        return states

    def _uniform(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._generator)
