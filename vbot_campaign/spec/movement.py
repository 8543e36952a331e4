"""How the robots moved in an evaluation, as plain numbers: more than training counts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import Any

RINGS = ((0.0, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 8.0), (8.0, 12.0))
"""Distances to the target in metres."""
JOINT_KINDS = ("hip", "thigh", "calf")
_LEGS = 4


def ring_name(ring: tuple[float, float]) -> str:
    """Return a ring as ``2-5``."""
    return f"{ring[0]:g}-{ring[1]:g}"


@dataclass(frozen=True)
class MovementTotals:
    """Sums and single values over the episodes of an evaluation. Adding two joins them."""

    arrival_s: tuple[float, ...] = ()
    """Seconds until first inside the goal, of each episode that was."""
    path_efficiency: tuple[float, ...] = ()
    """Straight distance over path length up to there, of each of them."""
    ring_speed: tuple[float, ...] = (0.0,) * len(RINGS)
    """Sum of the planar speed over the steps in each ring, m/s."""
    ring_steps: tuple[float, ...] = (0.0,) * len(RINGS)
    timed_out_by_ring: tuple[float, ...] = (0.0,) * len(RINGS)
    """Episodes that ran out of time, by where they then were."""
    saturated: tuple[float, ...] = (0.0,) * len(JOINT_KINDS)
    """Joint-steps at the torque limit: hips, thighs, calves."""
    env_steps: int = 0

    def __add__(self, other: MovementTotals) -> MovementTotals:
        """Return the totals of both."""
        return MovementTotals(
            self.arrival_s + other.arrival_s,
            self.path_efficiency + other.path_efficiency,
            _sum(self.ring_speed, other.ring_speed),
            _sum(self.ring_steps, other.ring_steps),
            _sum(self.timed_out_by_ring, other.timed_out_by_ring),
            _sum(self.saturated, other.saturated),
            self.env_steps + other.env_steps,
        )

    def measures(self) -> dict[str, Any]:
        """Return means; None where nothing was counted."""
        rings = [ring_name(ring) for ring in RINGS]
        speeds = [total / n if n else None for total, n in zip(self.ring_speed, self.ring_steps, strict=True)]
        joint_steps = max(self.env_steps * _LEGS, 1)
        return {
            "time_to_goal_arrived_s": mean(self.arrival_s) if self.arrival_s else None,
            "time_to_goal_median_s": median(self.arrival_s) if self.arrival_s else None,
            "path_efficiency": mean(self.path_efficiency) if self.path_efficiency else None,
            "speed_by_ring_m_s": dict(zip(rings, speeds, strict=True)),
            "timed_out_by_ring": dict(zip(rings, self.timed_out_by_ring, strict=True)),
            "saturation": sum(self.saturated) / (joint_steps * len(JOINT_KINDS)),
            "saturation_by_joint": {
                kind: count / joint_steps for kind, count in zip(JOINT_KINDS, self.saturated, strict=True)
            },
        }


def _sum(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
