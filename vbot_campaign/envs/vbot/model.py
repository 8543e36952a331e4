"""The robot: its MJCF and the numbers that the task needs of it."""

from __future__ import annotations

from importlib import resources

import mujoco

LEG_GROUP = 3
"""Geom group of thighs and calves, which the collision set ``fast`` leaves out."""

LEGS = ("FR", "FL", "RR", "RL")
JOINTS = ("hip", "thigh", "calf")
NUM_JOINTS = 12

DEFAULT_POSE = (0.0, 0.9, -1.8) * 4
"""Joint angles that the PD controller holds at a zero action, rad; leg order FR, FL, RR, RL."""

TORQUE_LIMITS = (17.0, 17.0, 34.0) * 4
"""Nm."""

STIFFNESS = 80.0
"""PD gain on the joint angle, Nm/rad."""
DAMPING = 6.0
"""PD gain on the joint velocity, Nm s/rad."""
ACTION_SCALE = 0.25
"""Radians of joint target per unit of filtered action."""
ACTION_FILTER = 0.3
"""Share of the new action in the low-pass filter."""

SPAWN_HEIGHT = {"default": 0.32, "zero": 0.5}
"""Base height at reset by reset pose, m; in both the feet are a few centimetres above the ground."""

CONTACT_MARGIN = 0.001
"""Distance below which MuJoCo makes a contact, m."""

BASE_BOXES = (
    ((0.0, 0.0, 0.004583), (0.133329, 0.101205, 0.068913)),
    ((0.18389, 0.0, 0.16552), (0.084602, 0.078997, 0.041873)),
    ((0.247938, 0.0, 0.006492), (0.0058255, 0.029011, 0.029011)),
    ((-0.249278, 0.0, 0.006492), (0.0058255, 0.029011, 0.023818)),
    ((0.083, 0.042, -0.086), (0.008, 0.008, 0.0065)),
    ((0.083, -0.042, -0.086), (0.008, 0.008, 0.0065)),
    ((-0.108, 0.042, -0.086), (0.008, 0.008, 0.0065)),
    ((-0.108, -0.042, -0.086), (0.008, 0.008, 0.0065)),
)
"""Centre and half-sizes of the base's collision boxes in the base frame, m; as in the MJCF."""


def model_xml() -> str:
    """Return the MJCF of robot and disc."""
    return resources.files("vbot_campaign.envs.vbot").joinpath("vbot.xml").read_text(encoding="utf-8")


def load_model(collision: str) -> mujoco.MjModel:
    """Compile the model.

    Args:
        collision: ``full``, or ``fast`` to let only feet and base collide.
    """
    model = mujoco.MjModel.from_xml_string(model_xml())
    if collision == "fast":
        legs = model.geom_group == LEG_GROUP
        model.geom_contype[legs] = 0
        model.geom_conaffinity[legs] = 0
    return model
