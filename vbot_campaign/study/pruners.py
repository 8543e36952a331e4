"""Optuna's pruners from a study file's settings, all in env steps.

Every trial reports on the same grid of env steps, so pruners that compare trials step by step always find a partner.
What to know of them (optuna 5):

* median and percentile compare the *best* score a trial has reported so far with what the *complete* trials reported
  at the same step; a trial that was good once is safe. They prune nothing before `startup_trials` have completed.
* rungs, and successive_halving with ``pause``, stop nothing here: see `vbot_campaign.study.halving`.
* hyperband and successive_halving compare the score *at* the rung. Their resources are given in env steps: the first
  rung is the warmup, or the first report point, and the last the whole budget. Left to itself ("auto"), hyperband
  prunes nothing until a first trial has completed.
* noise_aware is our own, for curves as reinforcement learning has them: see `vbot_campaign.study.noise_aware`.
* threshold looks at the last score only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from vbot_campaign.errors import SpecError
from vbot_campaign.spec.study import PrunerSettings, StudySpec
from vbot_campaign.study.noise_aware import NoiseAwarePruner


def build_pruner(spec: StudySpec) -> BasePruner:
    """Return the pruner of a study.

    Raises:
        SpecError: A threshold pruner without a threshold.
    """
    settings = spec.pruner
    pruner = _KINDS[settings.name](settings, spec)
    if settings.patience == 0 or settings.name in ("none", "rungs", "noise_aware"):
        return pruner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.pruners.PatientPruner(pruner, patience=settings.patience)


def prune_reason(study: optuna.Study, trial: FrozenTrial, name: str) -> str | None:
    """Ask a study's pruner about a trial after its last report, and return why it stops it, or None.

    Args:
        study: The study.
        trial: One of its trials, with a report.
        name: The pruner's in the study file.
    """
    step = max(trial.intermediate_values)
    if isinstance(study.pruner, NoiseAwarePruner):
        found = study.pruner.why(study, trial)
        said = None if found is None else f"score {found.words()},"
    else:
        said = f"score {trial.intermediate_values[step]:.4f}" if study.pruner.prune(study, trial) else None
    return None if said is None else f"{name} pruner: {said} at {step:,} env steps"


def warmup_steps(spec: StudySpec) -> int:
    """Return the env steps before which no trial is pruned."""
    return math.ceil(spec.pruner.warmup * spec.env_steps_per_trial)


def _first_rung(spec: StudySpec) -> int:
    return max(warmup_steps(spec), spec.env_steps_per_trial // spec.report_points, 1)


def _none(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return optuna.pruners.NopPruner()


def _median(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return optuna.pruners.MedianPruner(settings.least_trials, warmup_steps(spec))


def _percentile(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return optuna.pruners.PercentilePruner(settings.percentile, settings.least_trials, warmup_steps(spec))


def _hyperband(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return optuna.pruners.HyperbandPruner(_first_rung(spec), spec.env_steps_per_trial, settings.reduction_factor)


def _successive_halving(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(_first_rung(spec), settings.reduction_factor)


def _noise_aware(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    return NoiseAwarePruner(
        warmup_steps=_first_rung(spec),
        env_steps=spec.env_steps_per_trial,
        startup_trials=settings.least_trials,
        reduction_factor=settings.reduction_factor,
        smoothing=settings.smoothing,
        patience=settings.patience or 2,
        noise_factor=settings.noise_factor,
    )


def _threshold(settings: PrunerSettings, spec: StudySpec) -> BasePruner:
    if settings.lower is None and settings.upper is None:
        raise SpecError("pruner: threshold needs 'lower', 'upper' or both: the scores outside which a trial is pruned.")
    return optuna.pruners.ThresholdPruner(settings.lower, settings.upper, warmup_steps(spec))


_KINDS: dict[str, Callable[[PrunerSettings, StudySpec], BasePruner]] = {
    "none": _none,
    "median": _median,
    "percentile": _percentile,
    "hyperband": _hyperband,
    "successive_halving": _successive_halving,
    "noise_aware": _noise_aware,
    "rungs": _none,
    "threshold": _threshold,
}
