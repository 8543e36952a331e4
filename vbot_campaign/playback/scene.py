"""Pictures of the robot on its disc, drawn by MuJoCo without a screen."""

from __future__ import annotations

import math
from itertools import pairwise
from types import TracebackType
from typing import Self

import mujoco
import numpy as np

from vbot_campaign.envs.vbot.model import LEG_GROUP, model_xml
from vbot_campaign.envs.vbot.observation import GOAL_RADIUS
from vbot_campaign.envs.vbot.rewards import INNER_FENCE_RADIUS
from vbot_campaign.playback.record import Array, Episode

_GOAL_COLOUR = (0.1, 0.65, 0.25, 1.0)
_FENCE_COLOUR = (0.95, 0.55, 0.1, 1.0)
_BODY_COLOUR = (0.90, 0.45, 0.12, 1.0)
_LEG_COLOUR, _FOOT_COLOUR = (0.35, 0.38, 0.42, 1.0), (0.10, 0.10, 0.10, 1.0)
SMALL_THINGS = ((230, 115, 31), (140, 70, 19), (26, 166, 64), (242, 140, 26))
"""Colours of the robot's body in light and in shade, of the goal and of the fence, 0..255."""
_SEGMENTS = 40
_CAMERA_DISTANCE_M = 2.6
_LEASH_M = 0.25
"""How far the robot may move before the camera does; a still background keeps a GIF small."""
_CAMERA_ELEVATION_DEG = -24.0
_CAMERA_OFFSET_DEG = 28.0
"""Between the way to the target and the camera's view: from behind and a little from the side."""


class Scene:
    """Draws states of an episode; the camera follows the robot and looks towards the target.

    Use as a context manager: the drawing surface belongs to it.
    """

    def __init__(self, width: int, height: int) -> None:
        self._model = tiled_model(width, height)
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, height, width)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[LEG_GROUP] = 1
        # The light hangs far away, so its shadows are torn at this scale, and every frame would be drawn twice.
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.distance = _CAMERA_DISTANCE_M
        self._camera.elevation = _CAMERA_ELEVATION_DEG

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renderer.close()

    def draw(self, episode: Episode, step: int) -> Array:
        """Return the picture after ``step`` control steps, uint8 (height, width, 3).

        Draw the steps of an episode in their order, from 0 on: the camera moves along.
        """
        self._data.qpos[:] = np.nan_to_num(episode.positions[step])
        mujoco.mj_forward(self._model, self._data)
        way = episode.target - episode.positions[0, :2]
        self._camera.azimuth = math.degrees(math.atan2(way[1], way[0])) + _CAMERA_OFFSET_DEG
        self._follow(self._data.qpos[:2], jump=step == 0)
        self._renderer.update_scene(self._data, self._camera, self._options)
        mark_target(self._renderer.scene, episode.target)
        return np.asarray(self._renderer.render())

    def _follow(self, robot: Array, *, jump: bool) -> None:
        away = robot - self._camera.lookat[:2]
        distance = float(np.linalg.norm(away))
        share = 1.0 if jump else max(0.0, 1.0 - _LEASH_M / max(distance, 1e-9))
        self._camera.lookat[:] = (*(self._camera.lookat[:2] + share * away), 0.25)


def mark_target(scene: mujoco.MjvScene, target: Array) -> None:
    """Add the goal with a pole and its fence to what is drawn next.

    Args:
        scene: Where to add them.
        target: (2,), m.
    """
    _ring(scene, target, GOAL_RADIUS, _GOAL_COLOUR)
    _ring(scene, target, INNER_FENCE_RADIUS, _FENCE_COLOUR)
    _line(scene, (*target, 0.0), (*target, 0.9), 0.015, _GOAL_COLOUR)


def _ring(scene: mujoco.MjvScene, centre: Array, radius: float, colour: tuple[float, ...]) -> None:
    angles = np.linspace(0.0, 2 * math.pi, _SEGMENTS + 1)
    points = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a), 0.01) for a in angles]
    for begin, end in pairwise(points):
        _line(scene, begin, end, 0.012, colour)


def _line(
    scene: mujoco.MjvScene,
    begin: tuple[float, ...],
    end: tuple[float, ...],
    width: float,
    colour: tuple[float, ...],
) -> None:
    geom = scene.geoms[scene.ngeom]
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).flatten(), np.array(colour, np.float32))
    mujoco.mjv_connector(geom, kind, width, np.array(begin, np.float64), np.array(end, np.float64))
    geom.emission = 0.6
    scene.ngeom += 1


def tiled_model(width: int, height: int) -> mujoco.MjModel:
    """Return the model in colours, with tiles on the disc.

    Args:
        width: Largest width of an off-screen picture.
        height: Largest height of it.
    """
    # On a floor of one colour a camera that follows the robot shows a robot that walks on the spot.
    spec = mujoco.MjSpec.from_string(model_xml())
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.add_texture(
        name="tiles",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.80],
        rgb2=[0.70, 0.73, 0.72],
        width=64,
        height=64,
    )
    material = spec.add_material(name="tiles", texuniform=True, texrepeat=[0.5, 0.5], specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "tiles"
    for geom in spec.geoms:
        if geom.name != "C_Cylinder01":
            geom.rgba = _LEG_COLOUR if geom.group == LEG_GROUP else _BODY_COLOUR
            if geom.type == mujoco.mjtGeom.mjGEOM_SPHERE:
                geom.rgba = _FOOT_COLOUR
    floor = spec.geom("C_Cylinder01")
    floor.material = "tiles"
    floor.rgba = [1, 1, 1, 1]
    return spec.compile()
