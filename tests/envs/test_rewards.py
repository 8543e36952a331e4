"""Each reward term on a hand-made step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vbot_campaign.envs.vbot.kinematics import BaseState
from vbot_campaign.envs.vbot.observation import Goal
from vbot_campaign.envs.vbot.rewards import TERMS, RewardFunction, RewardShape, Transition
from vbot_campaign.spec.environments import get_environment

DECLARATION = get_environment("vbot_navigation_section001")
SHAPE = RewardShape(speed_cap=0.6, braking_speed=0.6, braking_gain=0.5, stop_window_steps=50)


def transition(*, target: tuple[float, float] = (3.0, 0.0), **changes: Any) -> Transition:
    """Return a step of one robot at the origin that looks along x and walks with (0.8, 0.1, 0.2) m/s."""
    base = BaseState(
        position=changes.pop("position", torch.tensor([[0.0, 0.0, 0.26]])),
        linear_velocity=changes.pop("linear_velocity", torch.tensor([[0.8, 0.1, 0.2]])),
        angular_velocity=changes.pop("angular_velocity", torch.tensor([[0.1, 0.2, 0.3]])),
        up=torch.tensor([[0.1, -0.2, 0.97]]),
        yaw=torch.tensor([0.25]),
        joint_angles=torch.zeros(1, 12),
        joint_velocities=torch.full((1, 12), 2.0),
    )
    goal = Goal.seen_from(base, torch.tensor([target]))
    values = {
        "base": base,
        "goal": goal,
        "speed": base.linear_velocity[:, :2].square().sum(dim=1).sqrt(),
        "initial_distance": torch.tensor([4.0]),
        "previous_distance": goal.distance + 0.008,
        "ever_reached": goal.reached,
        "arrived": torch.tensor([False]),
        "fence_entered": torch.tensor([False]),
        "steps_since_arrival": torch.tensor([10]),
        "torques": torch.full((1, 12), 3.0),
        "joint_velocity_change": torch.full((1, 12), 0.5),
        "action_change": torch.full((1, 12), 0.1),
        "terminated": torch.tensor([False]),
    }
    return Transition(**{**values, **changes})


def term(name: str, step: Transition, weight: float = 2.0) -> float:
    return TERMS[name](step, weight, SHAPE).item()


SPEED = math.hypot(0.8, 0.1)

ON_THE_WAY = {
    "position_tracking": 2 * math.exp(-3 / 5),
    "fine_position_tracking": 0.0,
    "heading_tracking": 2 * math.exp(-0.25 / 0.5),
    "forward_velocity": 2 * 0.6,
    "distance_progress": 2 * (1 - 3 / 4),
    "alive_bonus": 2.0,
    "approach_scale": 2 * 0.008,
    "arrival_bonus": 0.0,
    "inner_fence_bonus": 0.0,
    "stop_scale": 0.0,
    "zero_ang_bonus": 0.0,
    "near_target_speed": 2 * (SPEED - 0.6) ** 2,
    "departure_penalty": 0.0,
    "boundary_penalty": 0.0,
    "orientation": 2 * (0.01 + 0.04),
    "lin_vel_z": 2 * 0.04,
    "ang_vel_xy": 2 * (0.01 + 0.04),
    "torques": 2 * 12 * 9.0,
    "dof_vel": 2 * 12 * 4.0,
    "dof_acc": 2 * 12 * 0.25,
    "action_rate": 2 * 12 * 0.01,
    "termination": 0.0,
}


def test_every_declared_term_is_computed_and_no_other() -> None:
    assert list(TERMS) == list(DECLARATION.rewards)
    assert set(ON_THE_WAY) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
def test_term_on_the_way(name: str) -> None:
    assert term(name, transition()) == pytest.approx(ON_THE_WAY[name], rel=1e-4, abs=1e-6)


INSIDE_SPEED, INSIDE_YAW_RATE = 0.1, 0.04

INSIDE = {
    "position_tracking": 2 * math.exp(-0.3 / 5),
    "fine_position_tracking": 2 * math.exp(-0.3 / 0.5),
    "heading_tracking": 0.0,
    "forward_velocity": 0.0,
    "distance_progress": 0.0,
    "alive_bonus": 0.0,
    "approach_scale": 0.0,
    "stop_scale": 2 * (0.8 * math.exp(-((0.1 / 0.2) ** 2)) + 1.2 * math.exp(-((0.04 / 0.1) ** 4))),
    "zero_ang_bonus": 2.0,
    "near_target_speed": 0.0,
}


def inside(**changes: Any) -> Transition:
    return transition(
        target=(0.3, 0.0),
        linear_velocity=torch.tensor([[INSIDE_SPEED, 0.0, 0.0]]),
        angular_velocity=torch.tensor([[0.0, 0.0, INSIDE_YAW_RATE]]),
        **changes,
    )


@pytest.mark.parametrize("name", INSIDE)
def test_term_inside_the_goal(name: str) -> None:
    assert term(name, inside()) == pytest.approx(INSIDE[name], rel=1e-5, abs=1e-7)


def test_stopping_pays_only_in_the_window_after_the_arrival() -> None:
    assert term("stop_scale", inside(steps_since_arrival=torch.tensor([49]))) > 0
    assert term("stop_scale", inside(steps_since_arrival=torch.tensor([50]))) == 0
    assert term("zero_ang_bonus", inside(steps_since_arrival=torch.tensor([50]))) == 0


def test_one_time_bonuses_pay_on_their_step() -> None:
    step = inside(arrived=torch.tensor([True]), fence_entered=torch.tensor([True]))
    assert term("arrival_bonus", step, 100.0) == 100.0
    assert term("inner_fence_bonus", step, 40.0) == 40.0


def test_approach_weight_is_inside_the_clip() -> None:
    fast = transition(previous_distance=torch.tensor([3.02]))
    assert term("approach_scale", fast, 30.0) == pytest.approx(0.6, rel=1e-3)
    assert term("approach_scale", fast, 80.0) == 1.0


def test_leaving_the_goal_costs_beyond_a_centimetre() -> None:
    assert term("departure_penalty", inside(previous_distance=torch.tensor([0.28])), -5.0) == pytest.approx(
        -0.1, rel=1e-4
    )
    assert term("departure_penalty", inside(previous_distance=torch.tensor([0.295])), -5.0) == 0.0


def test_boundary_penalty_begins_at_ten_metres() -> None:
    step = transition(position=torch.tensor([[0.0, 10.5, 0.26]]))
    assert term("boundary_penalty", step, -3.0) == pytest.approx(-1.5)


def test_a_fall_costs_its_weight() -> None:
    assert term("termination", transition(terminated=torch.tensor([True])), -100.0) == -100.0


def test_braking_zone_follows_its_settings() -> None:
    step = transition(target=(0.8, 0.0))
    shape = RewardShape(speed_cap=0.6, braking_speed=0.6, braking_gain=0.25, stop_window_steps=50)
    assert TERMS["near_target_speed"](step, -1.0, shape).item() == pytest.approx(-((SPEED - 0.2) ** 2), rel=1e-5)


def test_terms_sum_to_the_reward_and_a_broken_robot_pays_only_for_its_fall() -> None:
    weights = DECLARATION.resolve_rewards({})
    reward = RewardFunction(weights, SHAPE)
    broken = transition(linear_velocity=torch.full((1, 3), float("nan")), terminated=torch.tensor([True]))
    terms = dict(zip(TERMS, reward(broken)[:, 0].tolist(), strict=True))
    assert terms["termination"] == -100.0
    assert all(math.isfinite(value) for value in terms.values())
    assert terms["lin_vel_z"] == 0.0
