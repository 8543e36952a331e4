"""Several engines at once: each steps its share of the robots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vbot_campaign.envs.physics.engine import PhysicsEngine


@dataclass(frozen=True)
class _Part:
    engine: PhysicsEngine
    first: int
    end: int

    @property
    def robots(self) -> slice:
        return slice(self.first, self.end)


class MixedEngine:
    """`PhysicsEngine` made of others: the first robots belong to the first engine, the last ones to the last.

    A policy that is trained in two simulators cannot live on a peculiarity of one, such as how its contacts answer a
    leg that trembles at the control frequency. Exactness is that of the engines: what one drops in `state_dict`, this
    drops.

    Args:
        name: Of the mixture, such as ``mujoco+motrixsim``.
        makers: Make one engine each, given its number of robots.
        num_envs: Robots in all; the first engines take one more where they cannot be shared evenly, and an engine
            without a robot is not made.
    """

    def __init__(self, name: str, makers: Sequence[Callable[[int], PhysicsEngine]], *, num_envs: int) -> None:
        self._name = name
        self.num_envs = num_envs
        self._parts = tuple(_share(makers, num_envs))
        self.positions = torch.cat([part.engine.positions for part in self._parts])
        self.velocities = torch.cat([part.engine.velocities for part in self._parts])

    def step(self, torques: torch.Tensor) -> None:
        """See `PhysicsEngine.step`."""
        for part in self._parts:
            # What the task wrote into the views since the last step is the state of this one.
            part.engine.positions.copy_(self.positions[part.robots])
            part.engine.velocities.copy_(self.velocities[part.robots])
            part.engine.step(torques[part.robots])
        self._pull()

    def reset(self, indices: torch.Tensor, positions: torch.Tensor, velocities: torch.Tensor) -> None:
        """See `PhysicsEngine.reset`."""
        for part, mine in self._split(indices):
            part.engine.reset(indices[mine] - part.first, positions[mine], velocities[mine])
        self.positions[indices] = positions
        self.velocities[indices] = velocities

    def masses(self) -> torch.Tensor:
        """See `PhysicsEngine.masses`."""
        return torch.cat([part.engine.masses() for part in self._parts])

    def set_properties(self, indices: torch.Tensor, *, base_mass: torch.Tensor, friction: torch.Tensor) -> None:
        """See `PhysicsEngine.set_properties`."""
        for part, mine in self._split(indices):
            part.engine.set_properties(indices[mine] - part.first, base_mass=base_mass[mine], friction=friction[mine])

    def state_dict(self) -> dict[str, Any]:
        """See `PhysicsEngine.state_dict`."""
        parts = [part.engine.state_dict() for part in self._parts]
        state = {"positions": self.positions.clone(), "velocities": self.velocities.clone()}
        return {"engine": self._name, "parts": parts, **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `PhysicsEngine.load_state_dict`."""
        for part, part_state in zip(self._parts, state["parts"], strict=True):
            part.engine.load_state_dict(part_state)
        self.positions.copy_(state["positions"])
        self.velocities.copy_(state["velocities"])

    def _pull(self) -> None:
        for part in self._parts:
            self.positions[part.robots] = part.engine.positions
            self.velocities[part.robots] = part.engine.velocities

    def _split(self, indices: torch.Tensor) -> Iterator[tuple[_Part, torch.Tensor]]:
        for part in self._parts:
            mine = (indices >= part.first) & (indices < part.end)
            if mine.any():
                yield part, mine


def _share(makers: Sequence[Callable[[int], PhysicsEngine]], num_envs: int) -> Iterator[_Part]:
    first = 0
    for index, make in enumerate(makers):
        count = num_envs // len(makers) + (index < num_envs % len(makers))
        if count > 0:
            yield _Part(make(count), first, first + count)
        first += count
