"""What the repetitions of a search say: env steps to a score, scores at a budget, and what its pruner lost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.search.table import Table, Training
from tests.benchmarks.search.world import Played, World

SHARES = (0.25, 0.5, 1.0)
"""Of the budget, at which the best score known is shown."""
CURVE_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Of a training, at which its curve is asked what it says of the end."""
SMOOTHED = 3
ORDERS = 2000
RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A median of repetitions, and where it would lie in 95 % of repeated benchmarks (bootstrap)."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Figures:
    """One row."""

    name: str
    steps: tuple[int, ...]
    """Env steps until the target was known, by repetition; the budget where it never was."""
    reached: float
    """Share of the repetitions in which it was."""
    scores: tuple[float, ...]
    """Median of the best score known at each of `SHARES`; 0 before a first configuration was trained to its end."""
    lost: float
    """Share of the repetitions in which the best configuration that was begun was stopped."""
    regret: float
    """By how much the best that was trained to its end scores lower than the best that was begun; mean."""
    begun: float
    """Configurations begun, median."""

    @property
    def interval(self) -> Interval:
        """Of `steps`."""
        return interval_of(self.steps)


def target_score(world: World, trials: int) -> float:
    """Return the score that random search knows after so many full trainings, in half of all random orders.

    Args:
        world: A repetition; with the seeds of another one, other scores can be reached.
        trials: Trainings to their end, each of another configuration.
    """
    scores = np.array([training.score or 0.0 for training in world.trainings.values()])
    rng = np.random.default_rng(0)
    best = [float(rng.permutation(scores)[:trials].max()) for _ in range(ORDERS)]
    # One that a training has, and no mean of two: it has to be reached.
    return statistics.median_low(best)


def figures_of(name: str, played: Sequence[tuple[World, Played]], targets: Sequence[float]) -> Figures:
    """Return a row.

    Args:
        name: Of the search.
        played: Its repetitions.
        targets: The score to be reached in each.
    """
    lost = [_winner_lost(world, one) for world, one in played]
    aimed = [(one, target, world.budget) for (world, one), target in zip(played, targets, strict=True)]
    return Figures(
        name=name,
        steps=tuple(steps_to(one, target, budget) for one, target, budget in aimed),
        reached=statistics.fmean(best_known(one, budget) >= target for one, target, budget in aimed),
        scores=tuple(
            statistics.median(best_known(one, share * world.budget) for world, one in played) for share in SHARES
        ),
        lost=statistics.fmean(is_lost for is_lost, _ in lost),
        regret=statistics.fmean(regret for _, regret in lost),
        begun=statistics.median(len(one.drawn) for _, one in played),
    )


def steps_to(played: Played, target: float, budget: int) -> int:
    """Return the env steps until a configuration of at least that score was trained to its end, or the budget."""
    reached = (end.spent for end in played.ended if end.score is not None and end.score >= target)
    return next(reached, budget)


def best_known(played: Played, spent: float) -> float:
    """Return the best score of what was trained to its end by then; 0 where nothing was."""
    return max((end.score or 0.0 for end in played.ended if end.spent <= spent), default=0.0)


def interval_of(values: Sequence[float]) -> Interval:
    """Return median and interval of repetitions."""
    sample = np.asarray(values, dtype=float)
    medians = np.median(sample[_resamples(len(sample))], axis=1)
    low, high = np.percentile(medians, _INTERVAL)
    return Interval(float(np.median(sample)), float(low), float(high))


def ratio_of(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the ratio of two medians; repetitions are drawn in pairs, as they share their seeds."""
    a, b = np.asarray(values, dtype=float), np.asarray(others, dtype=float)
    drawn = _resamples(len(a))
    ratios = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.percentile(ratios, _INTERVAL)
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def beaten_by(row: Figures, others: Sequence[Figures]) -> list[Figures]:
    """Return the rows whose median lies below a row's interval."""
    return [other for other in others if other is not row and other.interval.median < row.interval.low]


def rank_correlations(table: Table) -> Mapping[float, float]:
    """Return how well the order at a share of the training tells the order of the final scores (Spearman's rho)."""
    trainings = [table.known[number, seed] for number in table.complete for seed in table.seeds]
    final = _ranks([training.score or 0.0 for training in trainings])
    env_steps = table.spec.env_steps_per_trial
    return {
        share: _correlation(_ranks([_at(training, share * env_steps, 1) for training in trainings]), final)
        for share in CURVE_SHARES
    }


def places_of_best(worlds: Sequence[World]) -> Mapping[float, float]:
    """Return among which share of all configurations the two best ones of a repetition are at a share of the training.

    By the median of their last `SMOOTHED` scores, in 95 % of all cases: who keeps fewer there loses them more often.
    """
    found = {}
    for share in CURVE_SHARES:
        places: list[float] = []
        for world in worlds:
            trainings = sorted(world.trainings.values(), key=lambda training: -(training.score or 0.0))
            at = [_at(training, share * world.table.spec.env_steps_per_trial, SMOOTHED) for training in trainings]
            places += [sum(other >= score for other in at) / len(at) for score in at[:2]]
        found[share] = float(np.percentile(places, 95))
    return found


def seed_correlation(table: Table) -> float:
    """Return how well the final score with one seed tells that with another (Pearson's r, first and last seed)."""
    scores = [[table.known[n, seed].score or 0.0 for n in table.complete] for seed in table.seeds]
    return _correlation(scores[0], scores[-1])


def _at(training: Training, env_step: float, points: int) -> float:
    """Return the median of the last scores up to an env step, 0 before the first."""
    before = [score for step, score in training.curve if step <= env_step]
    return statistics.median(before[-points:]) if before else 0.0


def _winner_lost(world: World, played: Played) -> tuple[bool, float]:
    scores = {number: world.trainings[number].score or 0.0 for number in played.drawn}
    winner = max(scores, key=lambda number: scores[number])
    kept = max((scores[number] for number in scores if number not in played.stopped), default=0.0)
    return winner in played.stopped, scores[winner] - kept


def _resamples(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _ranks(values: Sequence[float]) -> Sequence[float]:
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    if len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return statistics.correlation(one, other)
