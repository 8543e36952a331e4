"""How episodes ended, counted: the raw material of every score.

A worker writes totals, never averages, so that totals of several iterations add up without a weighting mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum


class Outcome(StrEnum):
    """How a finished episode ended. Every episode has exactly one."""

    SUCCESS = "success"
    """Stopped inside the goal: 50 consecutive steps within 0.5 m and below 0.15 m/s, never fallen."""
    FELL_BEFORE = "fell_before"
    """Fell without ever having been inside the goal."""
    FELL_AFTER = "fell_after"
    """Fell after having been inside the goal."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """Left the disc."""
    TIMED_OUT = "timed_out"
    """Still on its feet at the end of the clock."""


@dataclass(frozen=True)
class EpisodeTotals:
    """Sums over finished episodes. Adding two of them is adding their fields."""

    finished: float = 0
    success: float = 0
    reached: float = 0
    """Episodes that were inside the goal at any time, whatever came after."""
    fell_before: float = 0
    fell_after: float = 0
    out_of_bounds: float = 0
    timed_out: float = 0
    goal_progress: float = 0.0
    """Sum of the share of the initial distance (to the goal's edge) that was covered at the end, each 0..1."""
    time_to_goal: float = 0.0
    """Sum of seconds until first inside the goal; an episode that never was counts the full clock."""
    length: float = 0.0
    """Sum of control steps."""
    reward: float = 0.0
    """Sum of undiscounted episode rewards."""
    final_distance: float = 0.0
    """Sum of the planar distance to the target at the end, in metres."""

    def __add__(self, other: EpisodeTotals) -> EpisodeTotals:
        """Return the field-wise sum."""
        return EpisodeTotals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def from_dict(cls, record: Mapping[str, float | None]) -> EpisodeTotals:
        """Read totals from an event; unknown keys are ignored, missing or null ones are zero."""
        return cls(**{f.name: record.get(f.name) or 0 for f in fields(cls)})

    def as_dict(self) -> dict[str, float]:
        """Return the totals as plain numbers."""
        return asdict(self)

    def parts(self) -> dict[str, float] | None:
        """Return the score parts in their natural units, or None when no episode has finished."""
        if self.finished <= 0:
            return None
        n = self.finished
        return {
            "success_rate": self.success / n,
            "survival_rate": 1.0 - (self.fell_before + self.fell_after + self.out_of_bounds) / n,
            "goal_progress": self.goal_progress / n,
            "time_to_goal": self.time_to_goal / n,
            "episode_length": self.length / n,
            "episode_reward_mean": self.reward / n,
        }

    def rates(self) -> dict[str, float] | None:
        """Return each outcome's share plus ``reached``, or None when no episode has finished."""
        if self.finished <= 0:
            return None
        names = [*(outcome.value for outcome in Outcome), "reached"]
        return {name: getattr(self, name) / self.finished for name in names}
