"""MotrixSim, the contest's own simulator, an optional package."""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.model import JOINTS, LEGS, NUM_JOINTS, model_xml
from vbot_campaign.spec.physics import require_engine

_GROUND = "C_Cylinder01"
# MotrixSim's quaternions are (x, y, z, w). Velocities of a floating base agree with the protocol: linear in world
# axes, angular in body axes.
_FROM_ENGINE = np.array([0, 1, 2, 6, 3, 4, 5, *range(7, 7 + NUM_JOINTS)])
_TO_ENGINE = np.argsort(_FROM_ENGINE)
_WILD_SPEED = 1e4
"""m/s or rad/s; beyond it a robot is not given to the engine, which would end the process."""


class MotrixsimEngine:
    """`PhysicsEngine` on `motrixsim.SceneModel`; bit-identical at any number of threads.

    It computes in float32. A robot whose state is not finite any more stays so until its reset.
    The solver keeps a warm start that can be neither read nor written nor cleared:

    * `reset` keeps it, which moves a robot's first contact by about 1e-7 m (rarely by a millimetre);
    * `state_dict` drops it by going on with fresh data, so continuing from a saved state is exact,
      while taking a state changes what comes after it by as much.

    The pool of threads belongs to the process: the first engine made in it decides how many there are.
    """

    def __init__(self, *, num_envs: int, threads: int, substeps: int, collision: str) -> None:
        self._motrixsim = _import()
        model = _load(self._motrixsim, motrixsim_xml(collision), threads)
        if model.joint_names != [f"{leg}_{joint}_joint" for leg in LEGS for joint in JOINTS]:
            raise RuntimeError(f"motrixsim orders the joints as {model.joint_names}")
        model.options.timestep = CONTROL_DT_S / substeps
        self.num_envs = num_envs
        self._model = model
        self._substeps = substeps
        self._base = model.get_link("base")
        self._solid = [geom for geom in model.geoms if geom.collision_group]
        self._properties: dict[str, torch.Tensor] | None = None
        self._data = self._motrixsim.SceneData(model, batch=[num_envs])
        self._inertia = self._base.get_inertia_override(self._data)[0]
        self.positions = torch.zeros(num_envs, 7 + NUM_JOINTS, dtype=torch.float64)
        self.velocities = torch.zeros(num_envs, 6 + NUM_JOINTS, dtype=torch.float64)
        self._pull()
        self._home = self.positions[0].numpy().copy()

    def step(self, torques: torch.Tensor) -> None:
        """See `PhysicsEngine.step`."""
        positions, velocities = self.positions.numpy(), self.velocities.numpy()
        # A NaN compares false with everything, so "not slower than the limit" catches it.
        lost = ~(np.abs(velocities) < _WILD_SPEED).all(axis=1) | ~np.isfinite(positions).all(axis=1)
        positions[lost], velocities[lost] = self._home, 0.0
        self._push()
        self._data.actuator_ctrls = np.where(lost[:, None], 0.0, torques.numpy()).astype(np.float32, order="C")
        self._model.step_n(self._data, self._substeps)
        self._pull()
        positions[lost] = velocities[lost] = np.nan

    def reset(self, indices: torch.Tensor, positions: torch.Tensor, velocities: torch.Tensor) -> None:
        """See `PhysicsEngine.reset`; the solver's warm start stays."""
        # The engine takes the whole state with every step, so there is nothing else to forget.
        self.positions[indices] = positions
        self.velocities[indices] = velocities

    def masses(self) -> torch.Tensor:
        """See `PhysicsEngine.masses`."""
        links = [link.get_mass_override(self._data) for link in self._model.links]
        return torch.from_numpy(np.sum(links, axis=0, dtype=np.float64))

    def set_properties(self, indices: torch.Tensor, *, base_mass: torch.Tensor, friction: torch.Tensor) -> None:
        """See `PhysicsEngine.set_properties`."""
        if len(indices) == 0:
            return
        if self._properties is None:
            ones = torch.ones(self.num_envs, dtype=torch.float64)
            self._properties = {"base_mass": ones.clone(), "friction": ones.clone()}
        self._properties["base_mass"][indices] = base_mass
        self._properties["friction"][indices] = friction
        some = self._data[self._motrixsim.DisjointIndices(indices.numpy().astype(np.uint32))]
        scale = base_mass.numpy().astype(np.float32)
        self._base.set_mass_override(some, self._base.mass * scale)
        self._base.set_inertia_override(some, self._inertia * scale[:, None])
        for geom in self._solid:
            sliding = friction.numpy() if geom.name == _GROUND else np.minimum(geom.friction[0], friction.numpy())
            values = np.tile(geom.friction, (len(indices), 1))
            values[:, 0] = sliding
            geom.set_friction_override(some, values.astype(np.float32))

    def state_dict(self) -> dict[str, Any]:
        """See `PhysicsEngine.state_dict`; goes on without the solver's warm start."""
        self._forget_warm_start()
        state: dict[str, Any] = {
            "engine": "motrixsim",
            "positions": self.positions.clone(),
            "velocities": self.velocities.clone(),
        }
        if self._properties is not None:
            state["properties"] = {name: values.clone() for name, values in self._properties.items()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `PhysicsEngine.load_state_dict`."""
        self._properties = state.get("properties")
        self._forget_warm_start()
        self.positions.copy_(state["positions"])
        self.velocities.copy_(state["velocities"])

    def _forget_warm_start(self) -> None:
        self._data = self._motrixsim.SceneData(self._model, batch=[self.num_envs])
        if self._properties is not None:
            properties = {name: values.clone() for name, values in self._properties.items()}
            self.set_properties(torch.arange(self.num_envs), **properties)

    def _push(self) -> None:
        # The order matters: the engine reads the buffer as it lies, and an index makes a transposed one.
        self._data.low.set_dof_positions_unchecked(self.positions.numpy()[:, _TO_ENGINE].astype(np.float32, order="C"))
        self._data.set_dof_vel(self.velocities.numpy().astype(np.float32))

    def _pull(self) -> None:
        self.positions.numpy()[:] = self._data.dof_pos[:, _FROM_ENGINE]
        self.velocities.numpy()[:] = self._data.dof_vel


def motrixsim_xml(collision: str) -> str:
    """Return the MJCF with a collision set.

    Args:
        collision: ``full``, or ``fast`` to let only feet and base collide.
    """
    root = ElementTree.fromstring(model_xml())  # noqa: S314 - our own file
    if collision == "fast":
        for geom in root.findall("./default/default[@class='leg']/geom"):
            geom.attrib.update(contype="0", conaffinity="0")
    return ElementTree.tostring(root, encoding="unicode")


def _import() -> Any:
    require_engine("motrixsim")
    with _quiet_stderr():  # it greets with the state of its profiler
        import motrixsim
    return motrixsim


def _load(motrixsim: Any, xml: str, threads: int) -> Any:
    # The engine warns of what it does not know in the file: integrator, cone, impratio, autoreset, size. It has one way
    # to do each of these.
    with _quiet_stderr():
        # Without this call it would bind one thread to each core, also where several workers share them.
        with contextlib.suppress(RuntimeError):
            motrixsim.init_thread_pool(threads)
        return motrixsim.load_mjcf_str(xml)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what a library writes straight to the file descriptor."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
