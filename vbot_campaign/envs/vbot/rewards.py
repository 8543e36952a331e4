"""The reward terms, in the order and under the names of the environment's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from vbot_campaign.envs.vbot.kinematics import BaseState
from vbot_campaign.envs.vbot.observation import Goal

INNER_FENCE_RADIUS = 0.75
_BOUNDARY_RADIUS = 10.0
_FINE_RADIUS = 2.5
_DEPARTURE_MARGIN = 0.01


@dataclass(frozen=True)
class Transition:
    """One step of all robots, as the reward sees it. Tensors are (num_envs,) unless said otherwise."""

    base: BaseState
    goal: Goal
    speed: torch.Tensor
    """Planar, world frame, m/s."""
    initial_distance: torch.Tensor
    previous_distance: torch.Tensor
    ever_reached: torch.Tensor
    """Bool: inside the goal now or before in this episode."""
    arrived: torch.Tensor
    """Bool: inside the goal for the first time in this episode."""
    fence_entered: torch.Tensor
    """Bool: closer than 0.75 m for the first time in this episode."""
    steps_since_arrival: torch.Tensor
    """Int64; only meaningful where `ever_reached`."""
    torques: torch.Tensor
    """Applied, (num_envs, 12), Nm."""
    joint_velocity_change: torch.Tensor
    """(num_envs, 12), rad/s; not divided by the time step."""
    action_change: torch.Tensor
    """Change of the filtered action, (num_envs, 12)."""
    terminated: torch.Tensor
    """Bool."""


@dataclass(frozen=True)
class RewardShape:
    """Settings inside the formulas; see the environment's declaration."""

    speed_cap: float
    braking_speed: float
    braking_gain: float
    stop_window_steps: int


Term = Callable[[Transition, float, RewardShape], torch.Tensor]


def _outside(t: Transition) -> torch.Tensor:
    return (~t.goal.reached).float()


def _position_tracking(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * (t.goal.distance / -5.0).exp()


def _fine_position_tracking(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    near = t.ever_reached & (t.goal.distance < _FINE_RADIUS)
    return weight * (t.goal.distance / -0.5).exp() * near


def _heading_tracking(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * (t.goal.heading_error.abs() / -0.5).exp() * _outside(t)


def _forward_velocity(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    direction = t.goal.offset / t.goal.distance.clamp_min(1e-6).unsqueeze(1)
    approach = (t.base.linear_velocity[:, :2] * direction).sum(dim=1)
    return weight * approach.clamp(-1.0, shape.speed_cap) * _outside(t)


def _distance_progress(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    share = 1.0 - t.goal.distance / t.initial_distance.clamp_min(1e-6)
    return weight * share.clamp(-0.5, 1.0) * _outside(t)


def _alive_bonus(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * _outside(t)


def _approach_scale(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    # The weight is inside the clip: it sets how fast an approach must be to earn the full point.
    return (weight * (t.previous_distance - t.goal.distance)).clamp(0.0, 1.0) * _outside(t)


def _arrival_bonus(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.arrived.float()


def _inner_fence_bonus(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.fence_entered.float()


def _may_stop(t: Transition, shape: RewardShape) -> torch.Tensor:
    return t.goal.reached & (t.speed < 0.3) & (t.steps_since_arrival < shape.stop_window_steps)


def _stop_scale(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    yaw_rate = t.base.angular_velocity[:, 2]
    still = 0.8 * (-(t.speed / 0.2).square()).exp() + 1.2 * (-(yaw_rate / 0.1).pow(4)).exp()
    return weight * still * _may_stop(t, shape)


def _zero_ang_bonus(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * (_may_stop(t, shape) & (t.base.angular_velocity[:, 2].abs() < 0.05)).float()


def _near_target_speed(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    allowed = (shape.braking_gain * t.goal.distance).clamp(0.05, shape.braking_speed)
    return weight * (t.speed - allowed).clamp_min(0.0).square()


def _departure_penalty(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    leaving = t.goal.distance - t.previous_distance
    return weight * leaving * (t.goal.reached & (leaving > _DEPARTURE_MARGIN))


def _boundary_penalty(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    radius = t.base.position[:, :2].square().sum(dim=1).sqrt()
    return weight * (radius - _BOUNDARY_RADIUS).clamp_min(0.0)


def _orientation(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.base.up[:, :2].square().sum(dim=1)


def _lin_vel_z(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.base.linear_velocity[:, 2].square()


def _ang_vel_xy(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.base.angular_velocity[:, :2].square().sum(dim=1)


def _torques(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.torques.square().sum(dim=1)


def _dof_vel(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.base.joint_velocities.square().sum(dim=1)


def _dof_acc(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.joint_velocity_change.square().sum(dim=1)


def _action_rate(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.action_change.square().sum(dim=1)


def _termination(t: Transition, weight: float, shape: RewardShape) -> torch.Tensor:
    return weight * t.terminated.float()


TERMS: dict[str, Term] = {
    "position_tracking": _position_tracking,
    "fine_position_tracking": _fine_position_tracking,
    "heading_tracking": _heading_tracking,
    "forward_velocity": _forward_velocity,
    "distance_progress": _distance_progress,
    "alive_bonus": _alive_bonus,
    "approach_scale": _approach_scale,
    "arrival_bonus": _arrival_bonus,
    "inner_fence_bonus": _inner_fence_bonus,
    "stop_scale": _stop_scale,
    "zero_ang_bonus": _zero_ang_bonus,
    "near_target_speed": _near_target_speed,
    "departure_penalty": _departure_penalty,
    "boundary_penalty": _boundary_penalty,
    "orientation": _orientation,
    "lin_vel_z": _lin_vel_z,
    "ang_vel_xy": _ang_vel_xy,
    "torques": _torques,
    "dof_vel": _dof_vel,
    "dof_acc": _dof_acc,
    "action_rate": _action_rate,
    "termination": _termination,
}


class RewardFunction:
    """The weighted sum of all terms."""

    def __init__(self, weights: Mapping[str, float], shape: RewardShape) -> None:
        self._weighted = [(TERMS[name], weights[name]) for name in TERMS]
        self._shape = shape

    def __call__(self, transition: Transition) -> torch.Tensor:
        """Return the weighted, gated terms, float32 (terms, num_envs), in the order of `TERMS`.

        A robot whose state is not finite earns the termination term alone: everything else would be noise or NaN.
        """
        terms = torch.stack([term(transition, weight, self._shape) for term, weight in self._weighted])
        return torch.nan_to_num(terms, nan=0.0, posinf=0.0, neginf=0.0)
