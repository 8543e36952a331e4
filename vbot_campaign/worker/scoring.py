"""Follows the score on the canonical grid of env steps, inside the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrainingSpec


@dataclass(frozen=True)
class PointScore:
    """Score of the training episodes that finished since the last point of the grid."""

    point: int
    score: float
    parts: dict[str, float]


class TrainingScore:
    """Scores training episodes at the points of the canonical grid.

    The same numbers that the supervisor reports to the pruner: both come from the progress lines. An interval in
    which no episode finished is joined to the next one.
    """

    def __init__(self, spec: TrainingSpec) -> None:
        self._spec = spec
        self._totals = EpisodeTotals()
        self._point = 0
        self.last: float | None = None

    def add(self, env_steps: int, episodes: EpisodeTotals) -> PointScore | None:
        """Add an iteration's episodes; return a score when a point of the grid was passed."""
        self._totals = self._totals + episodes
        point = self._spec.points_reached(env_steps)
        parts = self._totals.parts()
        if point <= self._point or parts is None:
            return None
        score = self._spec.objective.score(parts)
        self.last = score
        self._point, self._totals = point, EpisodeTotals()
        return PointScore(point, score, parts)

    def state_dict(self) -> dict[str, Any]:
        """Return everything later scores depend on, as plain values."""
        return {"totals": self._totals.as_dict(), "point": self._point, "last": self.last}

    def load_state_dict(self, state: dict[str, Any], env_steps: int) -> None:
        """Take over a `state_dict`.

        Args:
            state: Also of a shorter training that this one continues, whose grid was narrower.
            env_steps: Trained so far.
        """
        self._totals = EpisodeTotals.from_dict(state["totals"])
        self._point = min(int(state["point"]), self._spec.points_reached(env_steps))
        self.last = state["last"]
