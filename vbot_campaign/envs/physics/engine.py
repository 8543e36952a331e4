"""The protocol that every physics engine keeps."""

from __future__ import annotations

from typing import Any, Protocol

import torch

CONTROL_DT_S = 0.01
"""Seconds between two actions: 100 Hz, in every engine."""


class PhysicsEngine(Protocol):
    """Many copies of one robot, each in its own world.

    ``positions`` and ``velocities`` are live views of the engine's state: they change with every step, and a write to
    them is the state of the next step. Positions are (x, y, z, qw, qx, qy, qz, 12 joint angles); velocities are
    linear velocity of the base frame's origin in world axes, angular velocity in body axes, 12 joint velocities.
    """

    num_envs: int
    positions: torch.Tensor
    """Float64, (num_envs, 19); metres, unit quaternion, radians."""
    velocities: torch.Tensor
    """Float64, (num_envs, 18); m/s, rad/s, rad/s."""

    def step(self, torques: torch.Tensor) -> None:
        """Advance one control step of 10 ms with constant joint torques, (num_envs, 12) in Nm."""
        ...

    def reset(self, indices: torch.Tensor, positions: torch.Tensor, velocities: torch.Tensor) -> None:
        """Put some robots into a new state and forget everything else about them.

        Args:
            indices: Int64, (n,), ascending.
            positions: Float64, (n, 19).
            velocities: Float64, (n, 18).
        """
        ...

    def masses(self) -> torch.Tensor:
        """Return the mass of each robot, float64 (num_envs,), kg."""
        ...

    def set_properties(self, indices: torch.Tensor, *, base_mass: torch.Tensor, friction: torch.Tensor) -> None:
        """Give some robots another base and another ground; the base's inertia scales with its mass.

        Call before `reset` of the same robots.

        Args:
            indices: Int64, (n,), ascending.
            base_mass: Float64, (n,): mass of the base as a multiple of the model's.
            friction: Float64, (n,): sliding friction between robot and disc; the model's is 1.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, so that continuing from it is exact.

        An engine that cannot show its solver's warm start drops it here, so that the engine that goes on and the one
        that loads the state start from the same nothing.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a `state_dict` of an engine with as many robots."""
        ...
