"""Drawing the next point of the search space.

A draw never touches the database. It happens in a copy of the study in memory, which is thrown away; the caller stores
the accepted point in one transaction. That gives three things:

* A kill in the middle of a draw leaves nothing behind: no trial without parameters, no gap in the numbers.
* A point that a constraint refuses costs no trial number and teaches the sampler nothing false: the next try starts
  from the same copy with another seed.
* The sampler is new for each draw, with a seed made from the study's seed and the trial's number, so a study that was
  stopped and resumed draws what one never stopped would have drawn after the same results.

A trial that diverged has no score, and a failed trial is invisible to Optuna's samplers, so they would go on looking
where every training blows up. In the copy such a trial is shown with the worst score so far and as infeasible; trials
that failed for another reason say nothing about their point and stay unseen.

The copy has no pruner. Optuna shows a sampler under hyperband only the trials of its bracket, and with some tens of
trials in a study that would leave the model with a handful.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.resolve import prior_point, skipped_by
from vbot_campaign.spec.study import SamplerSettings, StudySpec
from vbot_campaign.study import attributes, grid, space
from vbot_campaign.study.queue import QUEUED

MAX_TRIES = 100
"""Refused points before a draw is given up."""

_DIVERGED = "constraints:diverged"
"""Where Optuna looks for the value of a constraint; above zero it is violated."""


@dataclass(frozen=True)
class Draw:
    """A point that no constraint refuses, in Optuna's terms."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    system_attrs: dict[str, Any]
    """What the sampler wants to find again (CMA-ES keeps its state in them)."""
    skipped: int
    """Points that constraints refused on the way."""


def draw(spec: StudySpec, history: Sequence[FrozenTrial]) -> Draw | None:
    """Draw the point of the next trial; the priors make the first one that is drawn.

    Args:
        spec: The study.
        history: All its trials so far, by number; the next trial's number is their count.

    Returns:
        The point, or None when a grid has no further one, or the study makes queued trials only.

    Raises:
        StudyError: The constraints refuse everything that was drawn.
    """
    if spec.sampler.name == "queue":
        return None
    if spec.sampler.name == "grid":
        return _draw_from_grid(spec, history)
    prior = prior_point(spec) if _is_first(history) else {}
    for skipped in range(MAX_TRIES):
        with _quiet(), _torch_in_its_place(spec.sampler):
            trial = _sandbox(spec, history, skipped, prior if skipped == 0 else {}).ask()
            values = space.suggest(trial, spec)
        if skipped_by(spec, values) is None:
            return _taken(trial, skipped)
    raise StudyError(
        f"study {spec.study}: {MAX_TRIES} points in a row were refused by 'constraints'. "
        "Loosen the constraints or narrow the search space to where they hold."
    )


def at_point(spec: StudySpec, point: Mapping[str, Any], skipped: int = 0) -> Draw:
    """Return a chosen point as if it had been drawn.

    Args:
        spec: The study.
        point: Real values by real name, without inactive parameters.
        skipped: Points that constraints refused before.
    """
    searched = {name: spec.parameters[name] for name in point}
    distributions = {space.stored_name(name, p): space.distribution(p) for name, p in searched.items()}
    return Draw(space.encode(spec, point), distributions, {}, skipped)


def build_sampler(settings: SamplerSettings, seed: int) -> BaseSampler:
    """Return a sampler that draws one point.

    Args:
        settings: Any but the grid and the queue, which need no sampler of Optuna's.
        seed: From `draw_seed`.
    """
    with _quiet():
        return _KINDS[settings.name](settings, seed)


def draw_seed(seed: int, trial: int, tries: int) -> int:
    """Return the seed of one draw, independent of all others.

    Args:
        seed: The study's sampler seed.
        trial: Number of the trial to draw.
        tries: Refused points before.
    """
    return int(np.random.SeedSequence((seed, trial, tries)).generate_state(1)[0])


def has_diverged(trial: FrozenTrial) -> bool:
    """Tell whether a trial failed because its loss, weights or physics stopped being finite numbers."""
    reason = str(trial.user_attrs.get("reason", ""))
    said = trial.user_attrs.get("failure") == "diverged" or reason.startswith("diverged")
    return trial.state is TrialState.FAIL and said


def feasibility(state: TrialState, reason: str) -> dict[str, float | bool]:
    """Return what samplers are told of an ending trial's constraint, as attributes for people to see.

    optuna-dashboard shows no constraint of Optuna 5, and what `as_shown` says is never stored.

    Args:
        state: What it ends as.
        reason: Why. A trial that failed for another reason than that it diverged says nothing.
    """
    if state is TrialState.FAIL and not reason.startswith("diverged"):
        return {}
    diverged = state is TrialState.FAIL
    return {"constraint diverged": 1.0 if diverged else -1.0, "feasible": not diverged}


def as_shown(history: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials as a sampler is shown them.

    Those that diverged are infeasible, with the worst score seen. Those that are paused at a rung are pruned there: a
    sampler does not look at trials that run, and would learn nothing of most points before the end.

    Args:
        history: All trials by number; they stay as they are.
    """
    history = [_ended_if_paused(trial) for trial in history]
    if not any(map(has_diverged, history)):
        return history
    worst = min(filter(np.isfinite, map(_last_value, history)), default=0.0)
    return [_shown(trial, worst) for trial in history]


def _ended_if_paused(trial: FrozenTrial) -> FrozenTrial:
    at = attributes.rung(trial.user_attrs) if trial.state is TrialState.RUNNING else None
    if at is None or at.paused is None or at.env_step is None:
        return trial
    # What it has reported beyond the rung, before its worker heard of the pause, depends on the time of day.
    shown = copy.copy(trial)
    shown.state, shown.datetime_complete = TrialState.PRUNED, trial.datetime_start
    known = {step: score for step, score in trial.intermediate_values.items() if step <= at.env_step}
    shown.intermediate_values, shown.value = known, known[at.env_step]
    return shown


def _last_value(trial: FrozenTrial) -> float:
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return trial.value
    last = max(trial.intermediate_values, default=None) if trial.state is TrialState.PRUNED else None
    return trial.intermediate_values[last] if last is not None else np.nan


def _shown(trial: FrozenTrial, worst: float) -> FrozenTrial:
    # A copy: the trials belong to the storage's cache. The Gaussian process wants the constraint on every trial.
    diverged = has_diverged(trial)
    shown = copy.copy(trial)
    shown.system_attrs = {**trial.system_attrs, _DIVERGED: 1.0 if diverged else -1.0}
    if diverged:
        shown.state, shown.value = TrialState.COMPLETE, worst
    return shown


def _draw_from_grid(spec: StudySpec, history: Sequence[FrozenTrial]) -> Draw | None:
    prior = prior_point(spec)
    if _is_first(history) and skipped_by(spec, prior) is None:
        point, skipped = prior, 0
    else:
        found = grid.next_point(spec, [space.decode(spec, trial.params) for trial in history])
        if found is None:
            return None
        point, skipped = found
    return at_point(spec, point, skipped)


def _is_first(history: Sequence[FrozenTrial]) -> bool:
    return all(QUEUED in trial.user_attrs for trial in history)


def _sandbox(spec: StudySpec, history: Sequence[FrozenTrial], tries: int, prior: Mapping[str, Any]) -> optuna.Study:
    seed = draw_seed(spec.sampler.seed, len(history), tries)
    study = optuna.create_study(
        study_name=spec.study,
        direction="maximize",
        sampler=build_sampler(spec.sampler, seed),
        pruner=optuna.pruners.NopPruner(),
    )
    study.add_trials(as_shown(history))
    if prior:
        study.enqueue_trial(space.encode(spec, prior))
    return study


def _taken(trial: Trial, skipped: int) -> Draw:
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    return Draw(dict(frozen.params), dict(frozen.distributions), dict(frozen.system_attrs), skipped)


def _tpe(settings: SamplerSettings, seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=settings.startup_trials, seed=seed)


def _random(settings: SamplerSettings, seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _cmaes(settings: SamplerSettings, seed: int) -> BaseSampler:
    # Under a pruner most trials are pruned; without them a generation would hardly ever fill.
    return optuna.samplers.CmaEsSampler(
        n_startup_trials=max(settings.startup_trials, 1),
        warn_independent_sampling=False,
        seed=seed,
        consider_pruned_trials=True,
    )


def _gp(settings: SamplerSettings, seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(
        n_startup_trials=settings.startup_trials, warn_independent_sampling=False, seed=seed
    )


_KINDS: dict[str, Callable[[SamplerSettings, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "cmaes": _cmaes,
    "gp": _gp,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextlib.contextmanager
def _torch_in_its_place(settings: SamplerSettings) -> Iterator[None]:
    # The Gaussian process is the one thing in this process that needs torch. It is loaded with the GPUs hidden and
    # with one thread, so that it can neither hold a CUDA context nor compete with the workers for cores.
    if settings.name != "gp":
        yield
        return
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in hidden}
    os.environ.update(hidden)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
