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

    def state_dict(self) -> dict[str, Any]:
        """See `PhysicsEngine.state_dict`."""
        return {
            "engine": "mujoco",
            "state": torch.from_numpy(self._batch.state.copy()),
            "warning": torch.from_numpy(np.asarray(self._batch.warning).copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `PhysicsEngine.load_state_dict`."""
        self._batch.state[:] = state["state"].numpy()
        self._batch.warning[:] = state["warning"].numpy()


def _silence_log() -> None:
    # An unstable robot ends its episode, which is all that anyone needs to know of it. By default MuJoCo would write a
    # line each time, and a MUJOCO_LOG.TXT into the working folder.
    config = mujoco.MjLogConfig.get()
    config.logto_file = config.logto_console = False
    mujoco.MjLogConfig.set(config)
