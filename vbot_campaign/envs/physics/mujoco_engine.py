"""MuJoCo's batch of simulations on a pool of threads."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import batch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.model import load_model


class MujocoEngine:
    """`PhysicsEngine` on `mujoco.batch.Batch`; bit-identical at any number of threads.

    Nothing but the integration state is read, so no derived quantity is computed a second time
    (``mjSTAGE_NONE``) and the state is never one substep old.
    """

    def __init__(self, *, num_envs: int, threads: int, substeps: int, collision: str) -> None:
        _silence_log()
        model = load_model(collision)
        model.opt.timestep = CONTROL_DT_S / substeps
        self.num_envs = num_envs
        self._substeps = substeps
        self._model = model
        self._base = model.body("base").id
        self._properties: dict[str, torch.Tensor] | None = None
        self._batch = batch.Batch(model, nsim=num_envs, nthread=threads)
        self._torques: np.ndarray = self._batch.bind("ctrl")
        self.positions = torch.from_numpy(self._batch.bind("qpos"))
        self.velocities = torch.from_numpy(self._batch.bind("qvel"))
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def step(self, torques: torch.Tensor) -> None:
        """See `PhysicsEngine.step`."""
        self._torques[:] = torques.numpy()
        self._batch.step(nstep=self._substeps, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def reset(self, indices: torch.Tensor, positions: torch.Tensor, velocities: torch.Tensor) -> None:
        """See `PhysicsEngine.reset`."""
        self._batch.reset(ids=indices.numpy(), stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.positions[indices] = positions
        self.velocities[indices] = velocities

    def masses(self) -> torch.Tensor:
        """See `PhysicsEngine.masses`."""
        per_robot = self._batch.expanded("body_mass")
        mass = np.tile(self._model.body_mass, (self.num_envs, 1)) if per_robot is None else per_robot
        return torch.from_numpy(mass.sum(axis=1))

    def set_properties(self, indices: torch.Tensor, *, base_mass: torch.Tensor, friction: torch.Tensor) -> None:
        """See `PhysicsEngine.set_properties`."""
        if self._properties is None:
            ones = torch.ones(self.num_envs, dtype=torch.float64)
            self._properties = {"base_mass": ones.clone(), "friction": ones.clone()}
        self._properties["base_mass"][indices] = base_mass
        self._properties["friction"][indices] = friction
        ids, base, model = indices.numpy(), self._base, self._model
        scale = base_mass.numpy()
        self._batch.expand("body_mass")[ids, base] = model.body_mass[base] * scale
        self._batch.expand("body_inertia")[ids, base] = model.body_inertia[base] * scale[:, None]
        self._batch.expand("geom_friction")[ids, :, 0] = geom_friction(model, friction.numpy())
        self._batch.set_const(ids)

    def state_dict(self) -> dict[str, Any]:
        """See `PhysicsEngine.state_dict`."""
        state = {
            "engine": "mujoco",
            "state": torch.from_numpy(self._batch.state.copy()),
            "warning": torch.from_numpy(np.asarray(self._batch.warning).copy()),
        }
        if self._properties is not None:
            state["properties"] = {name: values.clone() for name, values in self._properties.items()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `PhysicsEngine.load_state_dict`."""
        if "properties" in state:
            self.set_properties(torch.arange(self.num_envs), **state["properties"])
        self._batch.state[:] = state["state"].numpy()
        self._batch.warning[:] = state["warning"].numpy()


def geom_friction(model: mujoco.MjModel, friction: np.ndarray) -> np.ndarray:
    """Return the sliding friction of each geom, (n, ngeom), for n coefficients between robot and disc.

    A contact takes the larger of two coefficients, so the disc has the wanted one and the robot's must not be above.
    """
    disc = model.geom("C_Cylinder01").id
    per_geom: np.ndarray = np.minimum(model.geom_friction[:, 0], friction[:, None])
    per_geom[:, disc] = friction
    return per_geom


def _silence_log() -> None:
    # An unstable robot ends its episode, which is all that anyone needs to know of it. By default MuJoCo would write a
    # line each time, and a MUJOCO_LOG.TXT into the working folder.
    config = mujoco.MjLogConfig.get()
    config.logto_file = config.logto_console = False
    mujoco.MjLogConfig.set(config)
