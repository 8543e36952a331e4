"""A pruner for learning curves of reinforcement learning: noisy, sometimes late, and costly to lose.

Successive halving without rungs (Jamieson and Talwalkar 2016; Li et al. 2020, ASHA): at a share f of its budget a
trial must be among the best ``warmup / (f * reduction_factor)`` of all trials that came as far as the warmup. Five
things keep it from stopping a trial for noise, which plain halving does with curves like these (Hertel et al. 2020):

* scores are smoothed: the median of some neighbouring points is compared, not a single one;
* it is the best such median so far that is compared, because the score of a trial is that of its best policy, which a
  later collapse does not take away;
* a trial must fall short by more than the noise, the largest of three: how much neighbouring points of all curves
  differ once their trend is taken out; how much replicates differ where there are any, trials of one point with other
  seeds, which have what a curve shakes and what the seed makes of it; and how differently the curves that are whole
  went on from that env step, which is what an early comparison cannot know;
* it must do so at several points in a row;
* the best one so far is never stopped.

All of it depends on the reported scores alone, so that a study which was interrupted decides as one that was not, and
finished curves can be replayed under other settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from vbot_campaign.study.queue import SEED

Curve = Mapping[int, float]
"""Reported scores by env step."""
LEAST_REPLICATES = 2
"""Trials beyond the first of their point that have a score at a step, before replicates are believed there."""

LEAST_FINISHED = 3
"""Whole curves before what they became after a step is believed."""

_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class Comparison:
    """A trial beside all others at one env step. Scores are the best smoothed ones so far."""

    score: float
    bar: float
    """Score of the last one that may go on."""
    noise: float
    """By how much it may fall short of that."""
    places: int
    """How many may go on, of `peers`."""
    peers: int
    """Trials that came as far as the warmup, itself included."""

    @property
    def falls_short(self) -> bool:
        """Whether it is worse by more than the noise."""
        return self.score + self.noise < self.bar

    def words(self) -> str:
        """Return ``0.3100 is below 0.4200, the last of 3 places among 9 trials, by more than the noise of 0.0250``."""
        place = "the only place" if self.places == 1 else f"the last of {self.places} places"
        return (
            f"{self.score:.4f} is below {self.bar:.4f}, {place} among {self.peers} trials, "
            f"by more than the noise of {self.noise:.4f}"
        )


class NoiseAwarePruner(BasePruner):
    """Stops trials that are worse than most others by more than the noise.

    Args:
        warmup_steps: Env steps before which nothing is stopped.
        env_steps: Env steps of a whole curve.
        startup_trials: Trials that must have a score at a step, beside the trial itself, before one is stopped there.
        reduction_factor: Eta: one in so many goes on after the warmup.
        smoothing: Points whose median is compared.
        patience: Points in a row at which a trial must fall short.
        noise_factor: Standard deviations of the noise by which it must fall short.
    """

    def __init__(
        self,
        *,
        warmup_steps: int,
        env_steps: int,
        startup_trials: int = 4,
        reduction_factor: float = 3.0,
        smoothing: int = 3,
        patience: int = 2,
        noise_factor: float = 1.0,
    ) -> None:
        self._warmup_steps = max(1, warmup_steps)
        self._env_steps = env_steps
        self._startup_trials = startup_trials
        self._reduction_factor = reduction_factor
        self._smoothing = smoothing
        self._patience = max(1, patience)
        self._noise_factor = noise_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether a trial should be stopped after its last report."""
        return self.why(study, trial) is not None

    def why(self, study: optuna.Study, trial: FrozenTrial) -> Comparison | None:
        """Return for what a trial should be stopped after its last report, or None."""
        trials = study.get_trials(deepcopy=False)
        others = [known.intermediate_values for known in trials if known.number != trial.number]
        return self.verdict(trial.intermediate_values, others, replicates_among(trials))

    def should_stop(self, own: Curve, others: Sequence[Curve]) -> bool:
        """Tell whether a curve should be stopped after its last point, beside the curves of all other trials."""
        return self.verdict(own, others) is not None

    def verdict(
        self, own: Curve, others: Sequence[Curve], replicates: Sequence[Sequence[Curve]] = ()
    ) -> Comparison | None:
        """Return by what a curve falls short after its last point, or None where it goes on.

        Args:
            own: The curve.
            others: Those of all other trials.
            replicates: Curves of the same point with different seeds, for each point that has several.
        """
        steps = [step for step in sorted(own) if step >= self._warmup_steps][-self._patience :]
        if len(steps) < self._patience or steps[-1] != max(own):
            return None
        comparisons = [self.compare(own, others, step, replicates) for step in steps]
        return comparisons[-1] if all(found is not None and found.falls_short for found in comparisons) else None

    def compare(
        self, own: Curve, others: Sequence[Curve], step: int, replicates: Sequence[Sequence[Curve]] = ()
    ) -> Comparison | None:
        """Compare a curve with all others at a step; None where too few have come there."""
        there = [curve for curve in others if step in curve]
        if step not in own or len(there) < max(1, self._startup_trials):
            return None
        score = self._reached(own, step)
        ranked = sorted([score, *(self._reached(curve, step) for curve in there)], reverse=True)
        peers = 1 + sum(max(curve, default=0) >= self._warmup_steps for curve in others)
        places = max(1, math.ceil(peers * self._share(step) - 1e-9))
        bar = ranked[min(places, len(ranked)) - 1]
        single = max(noise_of([own, *others], up_to=step) / math.sqrt(self._smoothing), self._spread(replicates, step))
        # The first two are of one score, and two are compared.
        noise = max(math.sqrt(2.0) * single, self._drift(there, step))
        return Comparison(score, bar, self._noise_factor * noise, places, peers)

    def _spread(self, replicates: Sequence[Sequence[Curve]], step: int) -> float:
        """Return the standard deviation of smoothed scores of one point, pooled over the points; 0 with too few."""
        groups = [[self._reached(curve, step) for curve in group if step in curve] for group in replicates]
        freedom = sum(len(group) - 1 for group in groups if group)
        if freedom < LEAST_REPLICATES:
            return 0.0
        return math.sqrt(sum((score - fmean(group)) ** 2 for group in groups for score in group) / freedom)

    def _drift(self, others: Sequence[Curve], step: int) -> float:
        """Return the standard deviation of what whole curves gained after a step; 0 with too few."""
        whole = [curve for curve in others if max(curve) >= self._env_steps]
        if len(whole) < LEAST_FINISHED:
            return 0.0
        return stdev(self._reached(curve, self._env_steps) - self._reached(curve, step) for curve in whole)

    def _share(self, step: int) -> float:
        return min(1.0, self._warmup_steps / step) / self._reduction_factor

    def _reached(self, curve: Curve, step: int) -> float:
        """Return the best median of neighbouring points up to a step."""
        scores = [curve[known] for known in sorted(curve) if known <= step]
        ends = range(min(self._smoothing, len(scores)), len(scores) + 1)
        return max(median(scores[max(0, end - self._smoothing) : end]) for end in ends)


def noise_of(curves: Sequence[Curve], *, up_to: int) -> float:
    """Return the standard deviation of single points about their curve's trend.

    Args:
        curves: Scores by env step.
        up_to: Later points are left out, so that the answer at a step does not change afterwards by more than new
            curves change it.

    Returns:
        From the second differences of neighbouring points, which a straight trend leaves at zero; robust against the
        jumps of single curves. 0 with less than three points everywhere.
    """
    bends = [bend for curve in curves for bend in _bends([curve[s] for s in sorted(curve) if s <= up_to])]
    # The second difference of independent points has six times the variance of one.
    return _NORMAL * median(map(abs, bends)) / math.sqrt(6.0) if bends else 0.0


def replicates_among(trials: Iterable[FrozenTrial]) -> list[list[Curve]]:
    """Return the curves of trials with the same parameters and different seeds, by point; single ones are left out."""
    points: dict[str, dict[object, Curve]] = {}
    for trial in trials:
        if trial.params:
            seeds = points.setdefault(repr(sorted(trial.params.items())), {})
            seeds.setdefault(trial.user_attrs.get(SEED), trial.intermediate_values)
    return [list(seeds.values()) for seeds in points.values() if len(seeds) > 1]


def _bends(scores: Sequence[float]) -> list[float]:
    return [a - 2.0 * b + c for a, b, c in zip(scores, scores[1:], scores[2:], strict=False)]
