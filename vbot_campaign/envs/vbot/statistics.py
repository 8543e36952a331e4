"""How the robots moved, gathered over the steps of an evaluation."""

from __future__ import annotations

import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.episodes import Verdict
from vbot_campaign.envs.vbot.model import TORQUE_LIMITS
from vbot_campaign.envs.vbot.rewards import Transition
from vbot_campaign.spec.movement import RINGS, MovementTotals


class MovementWatcher:
    """Adds up `MovementTotals` over the first episode of each environment; give it to `VbotNavigation.watch_steps`."""

    def __init__(self, num_envs: int) -> None:
        self._done = torch.zeros(num_envs, dtype=torch.bool)
        self._steps = 0
        self._start = torch.zeros(num_envs, 2)
        self._previous = torch.zeros(num_envs, 2)
        self._path = torch.zeros(num_envs)
        self._limits = torch.tensor(TORQUE_LIMITS) * (1 - 1e-6)
        self._edges = torch.tensor([ring[1] for ring in RINGS])
        self._ring_speed = torch.zeros(len(RINGS), dtype=torch.float64)
        self._ring_steps = torch.zeros(len(RINGS), dtype=torch.float64)
        self._stuck = torch.zeros(len(RINGS), dtype=torch.float64)
        self._saturated = torch.zeros(3, dtype=torch.float64)
        self._env_steps = 0
        self._efficiency: list[torch.Tensor] = []
        self._arrival_s: list[torch.Tensor] = []

    def __call__(self, transition: Transition, verdict: Verdict) -> None:
        """See one step of all environments."""
        point = torch.nan_to_num(transition.base.position[:, :2])
        if self._steps == 0:
            self._start, self._previous = point, point
        self._steps += 1
        active = ~self._done
        self._path += (point - self._previous).norm(dim=1)
        self._previous = point
        self._arrivals(transition, point, active)
        self._speeds(transition, verdict, active)
        self._saturated += (
            (transition.torques.abs() >= self._limits)[active].view(-1, 4, 3).sum(dim=(0, 1), dtype=torch.float64)
        )
        self._env_steps += int(active.sum())
        self._done = self._done | verdict.ended

    def _arrivals(self, transition: Transition, point: torch.Tensor, active: torch.Tensor) -> None:
        arrived = transition.arrived & active
        if not bool(arrived.any()):
            return
        straight = (point - self._start).norm(dim=1)
        self._efficiency.append((straight / self._path.clamp_min(1e-6))[arrived])
        # All first episodes begin together, so the number of steps is each one's clock.
        self._arrival_s.append(torch.full((int(arrived.sum()),), self._steps * CONTROL_DT_S))

    def _speeds(self, transition: Transition, verdict: Verdict, active: torch.Tensor) -> None:
        ring = torch.bucketize(transition.goal.distance, self._edges, right=True)
        seen = active & (ring < len(RINGS)) & torch.isfinite(transition.speed)
        self._ring_speed.index_add_(0, ring[seen], transition.speed[seen].double())
        self._ring_steps += torch.bincount(ring[seen], minlength=len(RINGS))
        late = verdict.timed_out & seen
        self._stuck += torch.bincount(ring[late], minlength=len(RINGS))

    def totals(self) -> MovementTotals:
        """Return what was seen so far."""
        none = torch.zeros(0)
        return MovementTotals(
            arrival_s=tuple(torch.cat([none, *self._arrival_s]).tolist()),
            path_efficiency=tuple(torch.cat([none, *self._efficiency]).tolist()),
            ring_speed=tuple(self._ring_speed.tolist()),
            ring_steps=tuple(self._ring_steps.tolist()),
            timed_out_by_ring=tuple(self._stuck.tolist()),
            saturated=tuple(self._saturated.tolist()),
            env_steps=self._env_steps,
        )
