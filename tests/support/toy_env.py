"""A small real environment: a point on a plane that must reach a target."""

from __future__ import annotations

from typing import Any

import torch

from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.spec.outcomes import EpisodeTotals

CLOCK = 32
"""Control steps per episode."""
GOAL_RADIUS = 0.2
BOUNDARY = 3.0
STEP = 0.15
"""Largest move per control step."""


class PointEnv:
    """Points that walk to the origin from a ring of radius 1.

    Observation: position, share of the clock used. Action: velocity. Inside the goal the episode is truncated as a
    success; outside the boundary it is terminated; at the end of the clock it is truncated.
    """

    observation_size = 3
    action_size = 2

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self._generator = torch.Generator().manual_seed(seed)
        self._position = torch.zeros(num_envs, 2)
        self._clock = torch.zeros(num_envs)
        self._reward = torch.zeros(num_envs)
        self._first_only = False
        self._counting = torch.ones(num_envs, dtype=torch.bool)
        self._totals = EpisodeTotals()
        self._terms = torch.zeros(2, dtype=torch.float64)
        self._steps = 0

    def reset(self) -> torch.Tensor:
        self._spawn(torch.ones(self.num_envs, dtype=torch.bool))
        self._counting.fill_(True)
        return self.observe()

    def observe(self) -> torch.Tensor:
        return torch.cat([self._position, self._clock.unsqueeze(-1) / CLOCK], dim=-1)

    def step(self, actions: torch.Tensor) -> StepResult:
        before = self._position.norm(dim=-1)
        self._position = self._position + actions.clamp(-1, 1) * STEP
        self._clock = self._clock + 1
        distance = self._position.norm(dim=-1)
        success, out = distance < GOAL_RADIUS, distance > BOUNDARY
        progress, bonus = before - distance, success.float()
        self._terms += torch.stack([progress.sum(), bonus.sum()]).double()
        self._steps += self.num_envs
        self._reward = self._reward + progress + bonus
        truncated = success | (self._clock >= CLOCK) & ~out
        final = self.observe()
        self._count(out | truncated, success, out)
        self._spawn(out | truncated)
        return StepResult(self.observe(), progress + bonus, out, truncated, final)

    def take_totals(self) -> EpisodeTotals:
        totals, self._totals = self._totals, EpisodeTotals()
        return totals

    def take_term_means(self) -> dict[str, float]:
        progress, bonus = (self._terms / max(self._steps, 1)).tolist()
        self._terms, self._steps = torch.zeros(2, dtype=torch.float64), 0
        return {"progress": progress, "bonus": bonus}

    def take_broken_share(self) -> float:
        return 0.0

    def count_first_episodes_only(self) -> None:
        self._first_only = True
        self._totals = EpisodeTotals()

    def all_first_episodes_done(self) -> bool:
        return not self._counting.any()

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self._position,
            "clock": self._clock,
            "reward": self._reward,
            "counting": self._counting,
            "totals": self._totals.as_dict(),
            "terms": self._terms,
            "steps": self._steps,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position = state["position"].clone()
        self._clock = state["clock"].clone()
        self._reward = state["reward"].clone()
        self._counting = state["counting"].clone()
        self._totals = EpisodeTotals.from_dict(state["totals"])
        self._terms = state["terms"].clone()
        self._steps = state["steps"]
        self._generator.set_state(state["generator"])

    def load_generators(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])

    def _spawn(self, which: torch.Tensor) -> None:
        # Everywhere, then only kept where wanted: the generator moves the same whatever the policy does.
        angle = 2 * torch.pi * torch.rand(self.num_envs, generator=self._generator)
        ring = torch.stack([angle.cos(), angle.sin()], dim=-1)
        self._position = torch.where(which.unsqueeze(-1), ring, self._position)
        self._clock = torch.where(which, 0.0, self._clock)
        self._reward = torch.where(which, 0.0, self._reward)

    def _count(self, ended: torch.Tensor, success: torch.Tensor, out: torch.Tensor) -> None:
        counted = ended & self._counting
        self._totals += EpisodeTotals(
            finished=int(counted.sum()),
            success=int((counted & success).sum()),
            reached=int((counted & success).sum()),
            out_of_bounds=int((counted & out).sum()),
            timed_out=int((counted & ~success & ~out).sum()),
            length=float(self._clock[counted].sum()),
            reward=float(self._reward[counted].sum()),
            final_distance=float(self._position[counted].norm(dim=-1).sum()),
        )
        if self._first_only:
            self._counting &= ~ended
