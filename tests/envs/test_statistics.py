"""What a watcher of steps counts, on movements made by hand."""

from __future__ import annotations

import pytest
import torch

from tests.support.vbot import make_vbot, place
from vbot_campaign.envs.vbot.statistics import MovementWatcher
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.spec.movement import MovementTotals

ZERO = torch.zeros(1, 12)


def watched() -> tuple[VbotNavigation, MovementWatcher]:
    env = make_vbot(1, episode_seconds=2.0)
    env.count_first_episodes_only()
    env.reset()
    watcher = MovementWatcher(1)
    env.watch_steps(watcher)
    return env, watcher


def stand_at(env: VbotNavigation, *points: tuple[float, float]) -> None:
    """Put the robot to some places, one control step at each; the target is 4 m ahead of the start."""
    for x, y in points:
        env.engine.positions[:, 0], env.engine.positions[:, 1] = x, y
        env.engine.velocities[:] = 0
        env.step(ZERO)


def test_path_efficiency_and_arrival() -> None:
    """From 0 over (0, 1.5) and (2, 1.5) to (3.7, 0): 1.5 + 2 + 2.267 = 5.767 m for a straight line of 3.7 m."""
    env, watcher = watched()
    place(env, target=(4.0, 0.0))
    stand_at(env, (0.0, 0.0), (0.0, 1.5), (2.0, 1.5), (3.7, 0.0), (3.8, 0.0))
    seen = watcher.totals().measures()
    assert seen["path_efficiency"] == pytest.approx(3.7 / 5.767, abs=0.005)
    assert seen["time_to_goal_arrived_s"] == pytest.approx(0.04)


def test_an_episode_that_never_arrives_has_no_efficiency_and_is_stuck_where_it_stands() -> None:
    env, watcher = watched()
    place(env, target=(3.0, 0.0))
    for _ in range(200):
        env.step(ZERO)
    seen = watcher.totals().measures()
    assert seen["path_efficiency"] is None
    assert seen["time_to_goal_arrived_s"] is None
    assert seen["timed_out_by_ring"] == {"0-1": 0, "1-2": 0, "2-5": 1, "5-8": 0, "8-12": 0}
    assert seen["speed_by_ring_m_s"]["2-5"] < 0.1
    assert seen["speed_by_ring_m_s"]["0-1"] is None


def test_only_first_episodes_are_seen() -> None:
    env, watcher = watched()
    place(env, target=(3.0, 0.0))
    for _ in range(250):
        env.step(ZERO)
    assert watcher.totals().env_steps == 200


def test_saturation_counts_joint_steps_at_the_limit() -> None:
    env, watcher = watched()
    place(env, target=(3.0, 0.0))
    action = torch.zeros(1, 12)
    action[0, 0] = 100.0  # one of four hips, far beyond its 17 Nm
    for _ in range(4):
        env.engine.positions[0, 7:] = torch.tensor((0.0, 0.9, -1.8) * 4, dtype=torch.float64)
        env.engine.velocities[:] = 0
        env.step(action)
    seen = watcher.totals().measures()
    assert seen["saturation_by_joint"] == {"hip": 0.25, "thigh": 0.0, "calf": 0.0}
    assert seen["saturation"] == pytest.approx(1 / 12)


def test_totals_add_up() -> None:
    one = MovementTotals(arrival_s=(1.0,), ring_speed=(1.0, 0, 0, 0, 0), ring_steps=(2.0, 0, 0, 0, 0), env_steps=5)
    both = one + MovementTotals(arrival_s=(3.0,), ring_speed=(5.0, 0, 0, 0, 0), ring_steps=(2.0, 0, 0, 0, 0))
    assert both.measures()["time_to_goal_arrived_s"] == 2.0
    assert both.measures()["speed_by_ring_m_s"]["0-1"] == 1.5
    assert both.env_steps == 5
