"""Physics engines behind one small protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vbot_campaign.envs.physics.engine import PhysicsEngine
from vbot_campaign.envs.physics.mixed_engine import MixedEngine
from vbot_campaign.envs.physics.mujoco_engine import MujocoEngine
from vbot_campaign.errors import SpecError, did_you_mean

__all__ = ["MujocoEngine", "PhysicsEngine", "make_engine"]


def make_engine(name: str, *, num_envs: int, threads: int, substeps: int, collision: str) -> PhysicsEngine:
    """Return a physics engine by name.

    Args:
        name: ``mujoco``, ``motrixsim``, or ``mujoco+motrixsim`` for half of the robots in each.
        num_envs: Number of robots, each in its own world.
        threads: Threads that step them. Results do not depend on it.
        substeps: Physics steps in one control step of 10 ms.
        collision: ``fast`` (feet and base) or ``full`` (thighs and calves too).

    Raises:
        SpecError: No engine has that name.
        PhysicsUnavailableError: The engine's package is not installed.
    """
    if name not in _ENGINES:
        valid = ", ".join(sorted(_ENGINES))
        raise SpecError(
            f"physics: '{name}' is not an engine of this task.{did_you_mean(name, _ENGINES)} Valid: {valid}."
        )
    return _ENGINES[name](num_envs=num_envs, threads=threads, substeps=substeps, collision=collision)


def _motrixsim(**options: Any) -> PhysicsEngine:
    from vbot_campaign.envs.physics.motrixsim_engine import MotrixsimEngine

    return MotrixsimEngine(**options)


def _both(*, num_envs: int, **options: Any) -> PhysicsEngine:
    names = ("mujoco", "motrixsim")
    makers = [lambda count, name=name: _ENGINES[name](num_envs=count, **options) for name in names]
    return MixedEngine("+".join(names), makers, num_envs=num_envs)


_ENGINES: dict[str, Callable[..., PhysicsEngine]] = {
    "motrixsim": _motrixsim,
    "mujoco": MujocoEngine,
    "mujoco+motrixsim": _both,
}
