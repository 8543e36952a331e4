"""Counts how episodes end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.memory import EpisodeMemory
from vbot_campaign.envs.vbot.observation import GOAL_RADIUS
from vbot_campaign.spec.outcomes import EpisodeTotals

_NAMES = tuple(EpisodeTotals.__dataclass_fields__)


@dataclass(frozen=True)
class Verdict:
    """Which episodes end in this step, and how. Bool tensors (num_envs,)."""

    terminated: torch.Tensor
    """Fell or left the disc."""
    success: torch.Tensor
    timed_out: torch.Tensor
    out_of_bounds: torch.Tensor

    @property
    def truncated(self) -> torch.Tensor:
        """Cut while still on its feet."""
        return self.success | self.timed_out

    @property
    def ended(self) -> torch.Tensor:
        """Over, one way or the other."""
        return self.terminated | self.success | self.timed_out


class EpisodeCounter:
    """Adds finished episodes up to `EpisodeTotals`."""

    def __init__(self, num_envs: int, clock_s: float) -> None:
        self.first_only = False
        self._clock_s = clock_s
        self._sums = torch.zeros(len(_NAMES), dtype=torch.float64)
        self._done = torch.zeros(num_envs, dtype=torch.bool)

    def add(self, memory: EpisodeMemory, distance: torch.Tensor, verdict: Verdict) -> None:
        """Count the episodes that end in this step.

        Args:
            memory: Of all environments, before the ended ones begin again.
            distance: Planar distance to the target, (num_envs,), m.
            verdict: How they end.
        """
        counted = verdict.ended & memory.counted
        if self.first_only:
            counted = counted & ~self._done
            self._done = self._done | verdict.ended
        if not bool(counted.any()):
            return
        fell = verdict.terminated & ~verdict.out_of_bounds
        distance = torch.nan_to_num(distance, nan=1e3).clamp_max(1e3)
        to_edge = (memory.initial_distance - GOAL_RADIUS).clamp_min(1e-6)
        progress = ((memory.initial_distance - distance) / to_edge).clamp(0.0, 1.0)
        progress = torch.where(distance < GOAL_RADIUS, 1.0, progress)
        seconds = (memory.arrival_step + 1) * CONTROL_DT_S
        columns = {
            "finished": counted,
            "success": verdict.success,
            "reached": memory.ever_reached,
            "fell_before": fell & ~memory.ever_reached,
            "fell_after": fell & memory.ever_reached,
            "out_of_bounds": verdict.out_of_bounds,
            "timed_out": verdict.timed_out,
            "goal_progress": progress,
            "time_to_goal": torch.where(memory.ever_reached, seconds, self._clock_s),
            "length": memory.steps,
            "reward": memory.reward,
            "final_distance": distance,
        }
        rows = torch.stack([columns[name][counted].double() for name in _NAMES])
        self._sums += rows.sum(dim=1)

    def take(self) -> EpisodeTotals:
        """Return the totals since the last call and start again from zero."""
        totals = EpisodeTotals(*self._sums.tolist())
        self._sums.zero_()
        return totals

    def all_done(self) -> bool:
        """Whether each environment has finished an episode, in the mode that counts first episodes only."""
        return bool(self._done.all())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later counts depend on."""
        return {"sums": self._sums.clone(), "done": self._done.clone(), "first_only": self.first_only}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`."""
        self._sums = state["sums"].clone()
        self._done = state["done"].clone()
        self.first_only = bool(state["first_only"])
