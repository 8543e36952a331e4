"""From a worker's progress lines to scores on the canonical grid of env steps.

All trials of a study report at the same env steps, whatever their `num_envs × rollouts`. The score of a point is that
of the training episodes which finished since the point before. Where none did, the point repeats the score before it:
it is still what is known at that step, and a point left out would leave pruners without a partner to compare. Before
the first episode of a training has finished there is nothing to report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrainingSpec


@dataclass(frozen=True)
class Report:
    """The score at one point of the grid."""

    point: int
    """1..report_points."""
    env_step: int
    score: float
    parts: dict[str, float]


class GridReporter:
    """Turns the progress lines of one trial into reports.

    It may see lines twice (a resumed worker writes the stretch since its checkpoint again; a resumed supervisor reads
    the file from its beginning): an env step counts the first time it is seen. Iterations would not do, because they
    get shorter when memory runs out and the trial goes on with fewer environments.
    """

    def __init__(self, training: TrainingSpec) -> None:
        self._training = training
        self._env_steps = training.continuation.env_steps if training.continuation is not None else 0
        self._point = training.points_reached(self._env_steps)
        self._episodes = EpisodeTotals()
        self._parts: dict[str, float] | None = None

    def feed(self, line: Mapping[str, Any]) -> list[Report]:
        """Take one ``progress`` line.

        Returns:
            The grid points it passes, in order; none for a line seen before.
        """
        env_steps = int(line["env_steps"])
        if env_steps <= self._env_steps:
            return []
        self._env_steps = env_steps
        self._episodes += EpisodeTotals.from_dict(line.get("episodes") or {})
        reached = self._training.points_reached(env_steps)
        passed = range(self._point + 1, reached + 1)
        if not passed:
            return []
        self._point = reached
        self._parts = self._episodes.parts() or self._parts
        self._episodes = EpisodeTotals()
        return [] if self._parts is None else [self._report(point, self._parts) for point in passed]

    def _report(self, point: int, parts: dict[str, float]) -> Report:
        score = self._training.objective.score(parts)
        return Report(point, self._training.report_step(point), score, parts)
