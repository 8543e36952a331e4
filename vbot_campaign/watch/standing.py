"""A running trial beside the others: what the pruner sees of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units


@dataclass(frozen=True)
class Standing:
    """A trial at its last report point."""

    env_step: int
    score: float
    """Reported there."""
    rank: int
    """1 for the best of all trials that reported there."""
    of: int
    """How many did, this one included."""
    bar: float | None = None
    """Score below which the pruner stops a trial there; None where it compares otherwise, or not yet."""
    bar_name: str = ""
    margin: float | None = None
    """What the pruner compares, the best score reported so far, less the bar; below zero the trial is stopped."""
    note: str = ""
    """Why there is no bar, where that is worth a word."""

    def words(self) -> str:
        """Return ``rank 2 of 9, peak 0.031 above the median (0.380)``."""
        rank = f"rank {self.rank} of {self.of}"
        if self.bar is None or self.margin is None:
            return f"{rank}, {self.note}" if self.note else rank
        side = "above" if self.margin >= 0 else "below"
        return f"{rank}, peak {abs(self.margin):.3f} {side} the {self.bar_name} ({self.bar:.3f})"


def standing(snapshot: StudySnapshot, trial: TrialView) -> Standing | None:
    """Return a trial's standing at its last report point, or None before the first one.

    Median and percentile pruners compare the best score so far with those of the complete trials at the same env step
    (`vbot_campaign.study.pruners`); for the others the rank is what can be said.
    """
    if not trial.reports:
        return None
    env_step = max(trial.reports)
    score = trial.reports[env_step]
    there = [_value(other.reports[env_step]) for other in snapshot.trials if env_step in other.reports]
    rank = 1 + sum(other > _value(score) for other in there)
    bar, name, note = _bar(snapshot, env_step)
    best = max(map(_value, trial.reports.values()))
    margin = None if bar is None else best - bar
    return Standing(env_step, score, rank, len(there), bar, name, margin, note)


def _value(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _bar(snapshot: StudySnapshot, env_step: int) -> tuple[float | None, str, str]:
    """Return the score that the pruner asks for at an env step, its name, and why there is none."""
    pruner = snapshot.spec.pruner
    if pruner.name not in ("median", "percentile"):
        return None, "", "" if pruner.name != "none" else "nothing is pruned"
    if env_step < _warmup(snapshot.spec):
        return None, "", f"not judged before {units.percent(pruner.warmup)}"
    complete = [trial for trial in snapshot.trials if trial.state is TrialState.COMPLETE]
    there = [t.reports[env_step] for t in complete if env_step in t.reports and not math.isnan(t.reports[env_step])]
    if len(complete) < pruner.least_trials or not there:
        return None, "", f"not judged before {pruner.least_trials} trials are complete"
    if pruner.name == "median":
        return statistics.median(there), "median", ""
    return percentile(there, 100.0 - pruner.percentile), f"best {pruner.percentile:g} %", ""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent of the values lie, interpolated as NumPy does."""
    ordered = sorted(values)
    place = percent / 100.0 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _warmup(spec: StudySpec) -> int:
    return math.ceil(spec.pruner.warmup * spec.env_steps_per_trial)
