"""Builders of small VBot environments."""

from __future__ import annotations

from typing import Any

import torch

from vbot_campaign.envs.registry import make_env
from vbot_campaign.envs.vbot.task import VbotNavigation

ENVIRONMENT = "vbot_navigation_section001"


def make_vbot(
    num_envs: int = 4, *, training: bool = False, seed: int = 0, threads: int = 1, **settings: Any
) -> VbotNavigation:
    """Make an environment with settings that differ from the defaults."""
    weights = settings.pop("weights", {})
    physics = settings.pop("physics", "mujoco")
    return make_env(
        ENVIRONMENT,
        physics=physics,
        settings=settings,
        weights=weights,
        num_envs=num_envs,
        seed=seed,
        threads=threads,
        training=training,
    )


def place(
    env: VbotNavigation,
    *,
    position: tuple[float, float, float] = (0.0, 0.0, 0.262),
    yaw: float = 0.0,
    target: tuple[float, float] = (3.0, 0.0),
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0),
    spin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Put every robot of an environment into the same hand-made state, in its default pose."""
    turn = torch.tensor(yaw / 2, dtype=torch.float64)
    env.engine.positions[:, :3] = torch.tensor(position, dtype=torch.float64)
    env.engine.positions[:, 3:7] = torch.stack((turn.cos(), turn * 0, turn * 0, turn.sin()))
    env.engine.velocities[:, :3] = torch.tensor(velocity, dtype=torch.float64)
    env.engine.velocities[:, 3:6] = torch.tensor(spin, dtype=torch.float64)
    memory = env._memory
    memory.target[:] = torch.tensor(target)
    memory.target_yaw[:] = 0.0
    distance = (memory.target - torch.tensor(position[:2])).square().sum(dim=1).sqrt()
    memory.initial_distance[:] = distance
    memory.previous_distance[:] = distance
