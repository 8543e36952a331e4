"""Our environment with a clock of its own, so that trainers with any loop can be timed alike."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch

from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.spec.outcomes import EpisodeTotals


class TimedEnv:
    """Our environment, noting the time at which each iteration takes its first step.

    All trainers are timed by this one clock: from one rollout's first step to the next one's, with everything that
    the trainer does in between.
    """

    def __init__(self, env: VbotNavigation, rollouts: int) -> None:
        self._env = env
        self._rollouts = rollouts
        self._steps = 0
        self._began: list[float] = []
        self._totals: list[EpisodeTotals] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, actions: torch.Tensor) -> StepResult:
        if self._steps % self._rollouts == 0:
            self.take_totals()
            self._began.append(time.perf_counter())
            self._totals.append(EpisodeTotals())
        self._steps += 1
        return self._env.step(actions)

    def take_totals(self) -> EpisodeTotals:
        totals = self._env.take_totals()
        if self._totals:
            self._totals[-1] += totals
        return totals

    def figures(self) -> dict[str, list[float]]:
        """Return the seconds of each iteration, and reward sums and episodes finished in it."""
        self.take_totals()
        began = [*self._began, time.perf_counter()]
        return {
            "seconds": [after - before for before, after in pairwise(began)],
            "rewards": [totals.reward for totals in self._totals],
            "episodes": [totals.finished for totals in self._totals],
        }
