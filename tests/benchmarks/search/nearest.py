"""From a point that a searcher suggests to the nearest configuration of a table that is still free.

A table has some tens of points, and a searcher may suggest any. Whoever has a model, our samplers, Optuna's or Ray's,
is given the nearest configuration that was not used yet, and is told that configuration's own values and not those it
had suggested: its model learns what is true. (Drawing from the finite set instead would need a part of each sampler
that libraries keep to themselves, so every row would have another search than its users.) Random search has no model
and takes any (`World.take_any`).

Values are those that Optuna stores. This module needs Optuna alone, because Ray's process has nothing else of ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Distributions = Mapping[str, BaseDistribution]


def nearest(distributions: Distributions, point: Mapping[str, Any], among: Mapping[int, Mapping[str, Any]]) -> int:
    """Return the number of the nearest point, the lowest of equally near ones.

    Args:
        distributions: The space.
        point: Stored values.
        among: Stored values by number; at least one.
    """
    return min(among, key=lambda number: (distance(distributions, point, among[number]), number))


def distance(distributions: Distributions, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the Euclidean distance of two points, each range (or its logarithm) taken as 0 to 1."""
    gaps = (_gap(distribution, one[name], other[name]) for name, distribution in distributions.items())
    return math.sqrt(sum(gap**2 for gap in gaps))


def free(points: Sequence[Mapping[str, Any]], used: Collection[int]) -> dict[int, Mapping[str, Any]]:
    """Return the points that are not used, by number."""
    return {number: point for number, point in enumerate(points) if number not in used}


def put_at(study: optuna.Study, trial: optuna.Trial, distributions: Distributions, stored: Mapping[str, Any]) -> None:
    """Let a trial that was asked have been at another point: that of the configuration which stands for it."""
    for name, distribution in distributions.items():
        internal = distribution.to_internal_repr(stored[name])
        study._storage.set_trial_param(trial._trial_id, name, internal, distribution)


def _gap(distribution: BaseDistribution, one: Any, other: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
            # Numbers in a row, such as epochs: neighbours are near.
            ranks = sorted(float(choice) for choice in choices if choice is not None)
            return abs(ranks.index(float(one)) - ranks.index(float(other))) / max(len(ranks) - 1, 1)
        return float(one != other)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        low, high, one, other = math.log(low), math.log(high), math.log(one), math.log(other)
    return abs(one - other) / (high - low) if high > low else 0.0
