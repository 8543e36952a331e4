"""The 54 numbers of a hand-set state, element by element."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.vbot import make_vbot, place
from vbot_campaign.envs.vbot.model import DEFAULT_POSE


def observation(**settings: object) -> torch.Tensor:
    env = make_vbot(1, **settings)
    env.reset()
    place(
        env,
        position=(1.0, 2.0, 0.3),
        yaw=math.pi / 2,
        target=(1.4, -1.0),
        velocity=(0.5, -0.2, 0.1),
        spin=(0.4, 0.8, -0.3),
    )
    env.engine.positions[0, 7] = 0.1
    env.engine.velocities[0, 7] = -2.0
    env._memory.filtered_action[0, 3] = 0.7
    env._memory.target_yaw[0] = 0.0
    return env.observe()[0]


def test_each_number_of_a_hand_set_state() -> None:
    seen = observation()
    wanted = torch.zeros(54)
    wanted[0:3] = torch.tensor([1.0, -0.4, 0.2])  # world velocity x 2
    wanted[3:6] = torch.tensor([0.1, 0.2, -0.075])  # gyro x 0.25
    wanted[8] = -1.0  # upright: gravity points down
    wanted[9] = 0.1  # FR hip, 0.1 rad off the default pose
    wanted[22] = -0.1  # FR thigh, -2 rad/s x 0.05
    wanted[36] = 0.7  # FL hip's filtered action
    wanted[45:47] = torch.tensor([0.8, -2.0])  # (0.4, -3) clipped to +-1, x 2
    bearing = math.atan2(-3.0, 0.4)
    turn = (bearing - math.pi / 2 + math.pi) % (2 * math.pi) - math.pi  # far to the left over the back
    wanted[47] = 0.25 * max(-1.0, min(1.0, turn))
    wanted[48:50] = torch.tensor([0.08, -0.6])  # (0.4, -3) / 5
    wanted[50] = -0.5  # target yaw 0 seen from yaw 90 degrees, over pi
    wanted[51] = math.hypot(0.4, 3.0) / 5
    torch.testing.assert_close(seen, wanted, atol=1e-6, rtol=0)


def test_position_scale_of_the_later_version() -> None:
    seen = observation(position_scale=12.0)
    torch.testing.assert_close(seen[48:50], torch.tensor([0.4 / 12, -0.25]))
    assert seen[51] == pytest.approx(math.hypot(0.4, 3.0) / 12)


def test_far_distances_are_clipped() -> None:
    env = make_vbot(1)
    env.reset()
    place(env, target=(7.0, 0.0))
    assert env.observe()[0, 51] == 1.0


def test_inside_the_goal_commands_vanish_and_flags_appear() -> None:
    env = make_vbot(1)
    env.reset()
    place(env, target=(0.3, 0.3), spin=(0.0, 0.0, 0.04))
    seen = env.observe()[0]
    assert seen[45:48].abs().sum() == 0
    assert seen[52:54].tolist() == [1.0, 1.0]
    place(env, target=(0.3, 0.3), spin=(0.0, 0.0, 0.06))
    assert env.observe()[0, 52:54].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("degrees", "wanted"), [(7.9, 0.0), (8.1, math.radians(8.1) * 0.25), (90.0, 0.25)])
def test_turn_command_has_a_dead_band_and_a_limit(degrees: float, wanted: float) -> None:
    env = make_vbot(1)
    env.reset()
    place(env, target=(3 * math.cos(math.radians(degrees)), 3 * math.sin(math.radians(degrees))))
    assert env.observe()[0, 47].item() == pytest.approx(wanted, abs=1e-6)


def test_gravity_of_a_tilted_robot() -> None:
    env = make_vbot(1)
    env.reset()
    place(env)
    half = math.radians(30.0) / 2
    env.engine.positions[0, 3:7] = torch.tensor([math.cos(half), 0.0, math.sin(half), 0.0])  # nose down by 30 degrees
    torch.testing.assert_close(env.observe()[0, 6:9], torch.tensor([0.5, 0.0, -math.sqrt(0.75)]), atol=1e-6, rtol=0)


def test_first_observation_has_the_reset_pose() -> None:
    default, zero = make_vbot(1), make_vbot(1, reset_pose="zero")
    assert default.reset()[0, 9:21].abs().max() < 1e-6
    torch.testing.assert_close(zero.reset()[0, 9:21], -torch.tensor(DEFAULT_POSE))
    assert zero.engine.positions[0, 2] == 0.5
