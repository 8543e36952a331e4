"""Few seeds, honestly summed up: the interquartile mean with a bootstrap interval.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20210831
_TRIM = 0.25


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it can be trusted."""

    iqm: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.iqm:.4f} [{self.low:.4f}, {self.high:.4f}]"


def iqm(scores: Sequence[float]) -> float:
    """Return the interquartile mean: the mean without the lowest and the highest quarter.

    As in the paper, only whole scores are left out: of 5 the lowest and the highest, of 3 none.
    """
    return float(_iqm(np.asarray([scores], dtype=float))[0])


def iqm_interval(strata: Sequence[Sequence[float]]) -> Interval:
    """Return the IQM of all scores with its stratified bootstrap interval of 95 % (percentiles).

    Scores are drawn again with replacement within their stratum, 2,000 times, with the same random numbers every time.

    Args:
        strata: Scores by stratum: one for each task, with one score for each seed.
    """
    random = np.random.default_rng(_SEED)
    drawn = [np.asarray(scores)[random.integers(len(scores), size=(RESAMPLES, len(scores)))] for scores in strata]
    means = _iqm(np.concatenate(drawn, axis=1))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(iqm([score for scores in strata for score in scores]), float(low), float(high))


def fresh_seeds(seed: int, count: int, used: Sequence[int] = ()) -> list[int]:
    """Return seeds of independent streams, none of which was used before.

    Args:
        seed: Where they come from: the same seed gives the same ones, and more of them begin with the same.
        count: How many.
        used: Seeds that were used.
    """
    random = np.random.default_rng(np.random.SeedSequence((seed, _SEED)))
    found: list[int] = []
    while len(found) < count:
        drawn = int(random.integers(2**31))
        if drawn not in used and drawn not in found:
            found.append(drawn)
    return found


def _iqm(rows: np.ndarray) -> np.ndarray:
    count = rows.shape[1]
    cut = int(count * _TRIM)
    means: np.ndarray = np.sort(rows, axis=1)[:, cut : count - cut].mean(axis=1)
    return means
