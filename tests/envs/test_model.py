"""The robot has the masses, joints and shapes of the contest's."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vbot_campaign.envs.vbot import model as vbot

LIMITS = {
    "FR_hip_joint": (-0.73304, 0.73304),
    "FL_thigh_joint": (-1.559, 3.1298),
    "RR_thigh_joint": (-0.51181, 4.177),
    "RL_calf_joint": (-2.6387, -0.7854),
}


@pytest.fixture(scope="module")
def robot() -> mujoco.MjModel:
    return vbot.load_model("full")


def test_total_mass(robot: mujoco.MjModel) -> None:
    assert robot.body_mass.sum() == pytest.approx(16.4275, abs=5e-5)


def test_base_inertia_is_the_given_tensor(robot: mujoco.MjModel) -> None:
    base = robot.body("base").id
    np.testing.assert_allclose(robot.body_inertia[base], (0.144346, 0.139797, 0.046654), atol=1e-6)
    np.testing.assert_allclose(robot.body_ipos[base], (0.026103, 0.000278, 0.024686), atol=1e-9)


def test_feet_weigh_what_their_density_says(robot: mujoco.MjModel) -> None:
    for leg in vbot.LEGS:
        foot = robot.body(f"{leg}_foot").id
        assert robot.body_mass[foot] == pytest.approx(0.038792, abs=1e-6)
        np.testing.assert_allclose(robot.body_inertia[foot], 6.843e-6, atol=1e-9)


def test_joints_and_motors_come_leg_by_leg(robot: mujoco.MjModel) -> None:
    wanted = [f"{leg}_{joint}_joint" for leg in ("FR", "FL", "RR", "RL") for joint in ("hip", "thigh", "calf")]
    assert [robot.joint(i).name for i in range(1, robot.njnt)] == wanted
    assert [robot.actuator(i).name for i in range(robot.nu)] == wanted


@pytest.mark.parametrize(("joint", "limits"), LIMITS.items())
def test_joint_limits(robot: mujoco.MjModel, joint: str, limits: tuple[float, float]) -> None:
    np.testing.assert_allclose(robot.joint(joint).range, limits, atol=1e-5)


def test_joint_dynamics(robot: mujoco.MjModel) -> None:
    calves = np.tile([False, False, True], 4)
    np.testing.assert_allclose(robot.dof_damping[6:], 0.1)
    np.testing.assert_allclose(robot.dof_frictionloss[6:], 0.2)
    np.testing.assert_allclose(robot.dof_armature[6:], np.where(calves, 0.04, 0.0043))
    np.testing.assert_allclose(robot.actuator_forcerange[:, 1], vbot.TORQUE_LIMITS)


def test_right_and_left_mirror_each_other(robot: mujoco.MjModel) -> None:
    flip = np.array([1.0, -1.0, 1.0])
    for right, left in (("FR", "FL"), ("RR", "RL")):
        for part in ("hip", "thigh", "calf", "foot"):
            a, b = robot.body(f"{right}_{part}").id, robot.body(f"{left}_{part}").id
            np.testing.assert_allclose(robot.body_pos[a], robot.body_pos[b] * flip, atol=1e-12)
            np.testing.assert_allclose(robot.body_ipos[a], robot.body_ipos[b] * flip, atol=1e-12)


def test_base_boxes_of_the_task_are_those_of_the_model(robot: mujoco.MjModel) -> None:
    base = robot.body("base").id
    geoms = np.flatnonzero(robot.geom_bodyid == base)
    assert len(geoms) == len(vbot.BASE_BOXES)
    for geom, (centre, half_sizes) in zip(geoms, vbot.BASE_BOXES, strict=True):
        np.testing.assert_allclose(robot.geom_pos[geom], centre, atol=1e-12)
        np.testing.assert_allclose(robot.geom_size[geom], half_sizes, atol=1e-12)


def test_fast_collision_leaves_out_thighs_and_calves() -> None:
    fast, full = vbot.load_model("fast"), vbot.load_model("full")
    assert (full.geom_contype > 0).sum() == 1 + 8 + 4 * (5 + 4 + 1)
    assert (fast.geom_contype > 0).sum() == 1 + 8 + 4
    assert fast.body_mass.sum() == pytest.approx(full.body_mass.sum(), abs=1e-12)


def test_standing_height_of_the_default_pose(robot: mujoco.MjModel) -> None:
    data = mujoco.MjData(robot)
    data.qpos[7:] = vbot.DEFAULT_POSE
    data.qpos[:3] = 0
    mujoco.mj_forward(robot, data)
    lowest = min(data.geom(leg).xpos[2] for leg in vbot.LEGS) - 0.021
    # The hanging height: base origin above the lowest point of the feet.
    assert -lowest == pytest.approx(0.277, abs=0.001)
