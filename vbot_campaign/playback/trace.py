"""Episodes as arrays in one ``.npz`` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from vbot_campaign import fs
from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.kinematics import DISC_RADIUS
from vbot_campaign.envs.vbot.model import CONTACT_MARGIN, LEGS, load_model
from vbot_campaign.playback.record import Array, Episode

TRACE_SCHEMA = 1


def save_trace(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes one below the other; row by row, a step's action and torque stand beside the state it led to.

    The keys are described in ``docs/play.md``.
    """
    rows = [_rows(number, episode) for number, episode in enumerate(episodes)]
    arrays = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    per_episode = {
        "target": np.stack([episode.target for episode in episodes]),
        "outcome": np.array([episode.outcome.value for episode in episodes]),
        "spawn": np.stack([episode.positions[0, :3] for episode in episodes]),
        "arrived_s": np.array([np.nan if e.arrived_s is None else e.arrived_s for e in episodes]),
        "legs": np.array(LEGS),
        "schema": np.array(TRACE_SCHEMA),
    }
    with fs.replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, **per_episode)


def _rows(number: int, episode: Episode) -> dict[str, Array]:
    positions, velocities = episode.positions[1:], episode.velocities[1:]
    steps = len(positions)
    feet = foot_heights(positions)
    return {
        "episode": np.full(steps, number),
        "time_s": (np.arange(steps) + 1) * CONTROL_DT_S,
        "position": positions[:, :2],
        "height": positions[:, 2],
        "orientation_wxyz": positions[:, 3:7],
        "joint_angles": positions[:, 7:],
        "linear_velocity": velocities[:, :3],
        "angular_velocity": velocities[:, 3:6],
        "joint_velocities": velocities[:, 6:],
        "distance": episode.distance[1:],
        "actions": episode.actions,
        "torques": episode.torques,
        "rewards": episode.rewards,
        "foot_heights": feet,
        "foot_contacts": foot_contacts(positions, feet),
    }


def foot_heights(positions: Array) -> Array:
    """Return the height of each foot's lowest point above the disc, (n, 4), m, from states (n, 19)."""
    model = load_model("full")
    data = mujoco.MjData(model)
    feet = [model.geom(leg).id for leg in LEGS]
    heights = np.empty((len(positions), len(feet)))
    for row, position in enumerate(positions):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        heights[row] = data.geom_xpos[feet, 2] - model.geom_size[feet, 0]
    return heights


def foot_contacts(positions: Array, heights: Array) -> Array:
    """Return which feet touch the disc, bool (n, 4): from geometry, so the same for every engine."""
    on_disc = np.linalg.norm(positions[:, :2], axis=1) < DISC_RADIUS
    return np.asarray((heights < CONTACT_MARGIN) & on_disc[:, None])
