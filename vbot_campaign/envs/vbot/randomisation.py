"""Noise and domain randomisation: robots that differ, slip, are pushed and see badly."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S, PhysicsEngine
from vbot_campaign.envs.vbot.model import NUM_JOINTS, TORQUE_LIMITS
from vbot_campaign.envs.vbot.observation import OBSERVATION_SIZE

_NOISE = ((3, 0.1 * 2.0), (3, 0.2 * 0.25), (3, 0.05), (NUM_JOINTS, 0.03), (NUM_JOINTS, 1.5 * 0.05))
"""Numbers of the observation and their noise at level 1: linear velocity 0.1 m/s, gyro 0.2 rad/s, gravity 0.05,
joint angles 0.03 rad, joint velocities 1.5 rad/s, each times its factor in the observation."""
_OTHER_STREAM = 0x5EED_0F_0DD5


class Randomisation(Protocol):
    """What may differ between robots and episodes. One that is off returns what it is given."""

    def restart(self, indices: torch.Tensor) -> None:
        """Draw new properties for robots whose episode begins, (n,) int64; call before the engine resets them."""
        ...

    def begin_step(self, steps: torch.Tensor) -> None:
        """Push the robots whose turn it is; ``steps``, (num_envs,) int64, counts what their episodes have done."""
        ...

    def torques(self, commanded: torch.Tensor) -> torch.Tensor:
        """Return what the motors make of commanded torques, (num_envs, 12) Nm."""
        ...

    def sense(self, observations: torch.Tensor) -> torch.Tensor:
        """Return observations of all robots with this step's noise, (num_envs, 54)."""
        ...

    def sense_some(self, observations: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return observations of some robots with this step's noise, (n, 54)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on; what the engine keeps is in the engine's state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`."""
        ...

    def load_generator(self, state: dict[str, Any]) -> None:
        """Go on with the random numbers of a `state_dict` of another number of robots."""
        ...


def make_randomisation(settings: dict[str, Any], engine: PhysicsEngine, *, seed: int) -> Randomisation:
    """Return what the environment's settings ask for.

    Args:
        settings: Every declared setting.
        engine: Whose robots it changes.
        seed: The environment's seed. Spawns and targets do not depend on whether something is randomised.
    """
    shares = ("noise_level", "randomise_mass", "randomise_friction", "randomise_strength", "push_velocity")
    if not any(settings[name] for name in shares):
        return NoRandomisation()
    return EpisodeRandomisation(settings, engine, seed=seed)


class NoRandomisation:
    """`Randomisation` that is off."""

    def restart(self, indices: torch.Tensor) -> None:
        """See `Randomisation.restart`."""

    def begin_step(self, steps: torch.Tensor) -> None:
        """See `Randomisation.begin_step`."""

    def torques(self, commanded: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.torques`."""
        return commanded

    def sense(self, observations: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.sense`."""
        return observations

    def sense_some(self, observations: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.sense_some`."""
        return observations

    def state_dict(self) -> dict[str, Any]:
        """See `Randomisation.state_dict`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Randomisation.load_state_dict`."""

    def load_generator(self, state: dict[str, Any]) -> None:
        """See `Randomisation.load_generator`."""


class EpisodeRandomisation:
    """`Randomisation` that draws mass, friction and strength uniformly for each episode, and noise for each step."""

    def __init__(self, settings: dict[str, Any], engine: PhysicsEngine, *, seed: int) -> None:
        self._engine = engine
        self._mass = settings["randomise_mass"]
        self._friction = settings["randomise_friction"]
        self._strength_share = settings["randomise_strength"]
        self._push_velocity = settings["push_velocity"]
        self._push_steps = round(settings["push_interval_seconds"] / CONTROL_DT_S)
        scales = torch.cat([torch.full((count,), size) for count, size in _NOISE])
        self._noise_scales = settings["noise_level"] * scales
        self._limits = torch.tensor(TORQUE_LIMITS)
        self._generator = torch.Generator().manual_seed(seed ^ _OTHER_STREAM)
        num_envs = engine.num_envs
        self._strength = torch.ones(num_envs, 1)
        self._push_phase = torch.zeros(num_envs, dtype=torch.int64)
        self._noise = torch.zeros(num_envs, OBSERVATION_SIZE)

    def restart(self, indices: torch.Tensor) -> None:
        """See `Randomisation.restart`."""
        count = len(indices)
        if self._mass or self._friction:
            mass, friction = self._around_one(self._mass, count), self._around_one(self._friction, count)
            self._engine.set_properties(indices, base_mass=mass.double(), friction=friction.double())
        self._strength[indices] = self._around_one(self._strength_share, count).unsqueeze(1)
        self._push_phase[indices] = torch.randint(self._push_steps, (count,), generator=self._generator)
        self._noise[indices] = self._draw_noise(count)

    def begin_step(self, steps: torch.Tensor) -> None:
        """See `Randomisation.begin_step`. A push adds a horizontal velocity of any direction, up to the setting."""
        self._noise = self._draw_noise(len(self._noise))
        if not self._push_velocity:
            return
        pushed = ((steps + self._push_phase) % self._push_steps == self._push_steps - 1).nonzero().flatten()
        angle = self._uniform(len(pushed)) * (2 * torch.pi)
        speed = self._uniform(len(pushed)) * self._push_velocity
        self._engine.velocities[pushed, :2] += torch.stack((speed * angle.cos(), speed * angle.sin()), dim=1).double()

    def torques(self, commanded: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.torques`. A strong motor is still held by its limit."""
        return (self._strength * commanded).clamp(-self._limits, self._limits)

    def sense(self, observations: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.sense`."""
        return observations + self._noise

    def sense_some(self, observations: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """See `Randomisation.sense_some`."""
        return observations + self._noise[indices]

    def state_dict(self) -> dict[str, Any]:
        """See `Randomisation.state_dict`."""
        return {
            "generator": self._generator.get_state(),
            "strength": self._strength.clone(),
            "push_phase": self._push_phase.clone(),
            "noise": self._noise.clone(),
        }

    def load_generator(self, state: dict[str, Any]) -> None:
        """See `Randomisation.load_generator`."""
        self._generator.set_state(state["generator"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Randomisation.load_state_dict`."""
        self.load_generator(state)
        self._strength = state["strength"].clone()
        self._push_phase = state["push_phase"].clone()
        self._noise = state["noise"].clone()

    def _draw_noise(self, count: int) -> torch.Tensor:
        noise = torch.zeros(count, OBSERVATION_SIZE)
        if self._noise_scales.any():
            scales = self._noise_scales
            noise[:, : len(scales)] = (2 * torch.rand(count, len(scales), generator=self._generator) - 1) * scales
        return noise

    def _around_one(self, share: float, count: int) -> torch.Tensor:
        return 1.0 + share * (2 * self._uniform(count) - 1)

    def _uniform(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._generator)
