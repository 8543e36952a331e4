"""MuJoCo's window on the first robots of a training."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import mujoco
import mujoco.viewer
import numpy as np

from vbot_campaign.envs.vbot.episodes import Verdict
from vbot_campaign.envs.vbot.model import LEG_GROUP
from vbot_campaign.envs.vbot.rewards import Transition
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import RenderingUnavailableError
from vbot_campaign.playback.record import Array
from vbot_campaign.playback.scene import mark_target, tiled_model
from vbot_campaign.playback.screen import ALTERNATIVE

ROBOTS = 4
"""Robots shown: each in its own world, drawn on one disc, where they pass through each other."""
PICTURES_PER_S = 30.0
SHARE = 0.05
"""Part of the training's time that showing may take; where it takes longer, there are fewer pictures."""

_CAMERA_DISTANCE_M, _CAMERA_ELEVATION_DEG = 5.0, -25.0


class TrainingWindow:
    """Shows a training as it goes on; closing the window ends the showing, not the training.

    Only copies of the robots' positions are shown, so a training with a window gives the same numbers as one without.
    Use as a context manager, after `screen.require_screen`.
    """

    def __init__(self) -> None:
        self._model = tiled_model(640, 480)
        # The window has one robot; the others are drawn into its scene from this second set of data.
        self._data, self._other = mujoco.MjData(self._model), mujoco.MjData(self._model)
        self._nothing = mujoco.MjvPerturb()
        self._next_picture = 0.0
        self.pictures = 0
        """Shown so far."""

    def __enter__(self) -> Self:
        """Open the window."""
        before = set(threading.enumerate())
        try:
            self._viewer = mujoco.viewer.launch_passive(
                self._model, self._data, show_left_ui=False, show_right_ui=False
            )
        except RuntimeError as error:  # on macOS, outside of MuJoCo's own launcher
            command = "mjpython -m vbot_campaign.cli train --render"
            message = f"--render: no window can be opened: {error}. On macOS use: {command}. {ALTERNATIVE}"
            raise RenderingUnavailableError(message) from None
        self._threads = set(threading.enumerate()) - before
        with self._viewer.lock():
            self._viewer.opt.geomgroup[LEG_GROUP] = 1
            self._viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            self._viewer.cam.trackbodyid = self._model.body("base").id
            self._viewer.cam.distance = _CAMERA_DISTANCE_M
            self._viewer.cam.elevation = _CAMERA_ELEVATION_DEG
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the window."""
        self._viewer.close()
        # Its thread must not be at work when the interpreter takes itself apart.
        for thread in self._threads:
            thread.join(timeout=5.0)

    def watch(self, env: VbotNavigation) -> None:
        """Show an environment's first robots from its next step on."""

        def show(transition: Transition, verdict: Verdict) -> None:
            started = time.monotonic()
            if started >= self._next_picture and self._viewer.is_running():
                robots = env.engine.positions[:ROBOTS].numpy().copy()
                targets = (transition.goal.offset + transition.base.position[:, :2])[:ROBOTS].cpu().numpy()
                self._show(robots, targets)
                ended = time.monotonic()
                self._next_picture = max(started + 1.0 / PICTURES_PER_S, ended + (ended - started) / SHARE)

        env.watch_steps(show)

    def _show(self, robots: Array, targets: Array) -> None:
        scene = self._viewer.user_scn
        scene.ngeom = 0
        for target in np.nan_to_num(targets):
            mark_target(scene, target)
        for robot in np.nan_to_num(robots[1:]):
            self._other.qpos[:] = robot
            mujoco.mj_forward(self._model, self._other)
            moving = mujoco.mjtCatBit.mjCAT_DYNAMIC
            mujoco.mjv_addGeoms(self._model, self._other, self._viewer.opt, self._nothing, moving, scene)
        self._data.qpos[:] = np.nan_to_num(robots[0])
        self._viewer.sync(state_only=True)
        self.pictures += 1
