"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass

from vbot_campaign.spec.movement import MovementTotals
from vbot_campaign.spec.outcomes import EpisodeTotals


@dataclass(frozen=True)
class Evaluation:
    """Outcome of the first episodes of many environments, with one checkpoint in one engine."""

    checkpoint: str
    env_steps: int | None
    """Transitions the policy was trained for; None in files of other programs."""
    episodes: EpisodeTotals
    parts: dict[str, float]
    score: float
    physics: str = "mujoco"
    seeds: tuple[int, ...] = ()
    """Seeds of spawns and targets; the episodes of all of them are added up."""
    deterministic: bool = True
    """Played with the mean action, not with sampled ones."""
    movement: MovementTotals | None = None
    """None where nobody asked for it."""
    success_by_seed: tuple[float, ...] = ()
