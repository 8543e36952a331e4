"""Each pruner, on curves that can be followed by hand."""

from __future__ import annotations

import warnings

import optuna
import pytest

from tests.support.builders import study_spec
from vbot_campaign.errors import SpecError
from vbot_campaign.study.pruners import build_pruner, warmup_steps

GRID = range(3000, 30_001, 3000)


def play(pruner, curves, name="toy"):
    """Report each curve point by point; return the step at which each trial is pruned, None where it is not."""
    study = optuna.create_study(study_name=name, direction="maximize", pruner=pruner)
    pruned_at = []
    for curve in curves:
        trial = study.ask()
        stopped = None
        for step, score in zip(GRID, curve, strict=True):
            trial.report(score, step)
            if trial.should_prune():
                stopped = step
                break
        study.tell(trial, None if stopped else curve[-1], optuna.trial.TrialState.PRUNED if stopped else None)
        pruned_at.append(stopped)
    return pruned_at


def line(end):
    return [end * step / 30_000 for step in GRID]


def pruner(**settings):
    return build_pruner(study_spec(pruner=settings))


def test_median_waits_for_its_startup_trials_and_for_the_warmup():
    median = pruner(name="median", startup_trials=2, warmup=0.35)
    # The second trial is worse and safe: only one is complete. The warmup of 10500 ends before the point at 12000.
    assert play(median, [line(1.0), line(0.9), line(0.1), line(1.1)]) == [None, None, 12_000, None]


def test_none_prunes_nothing():
    assert play(pruner(name="none"), [line(1.0)] * 3 + [line(0.0)]) == [None] * 4


def test_percentile_keeps_only_the_share_that_is_asked_for():
    top_half = pruner(name="percentile", percentile=50.0, startup_trials=2, warmup=0)
    assert play(top_half, [line(1.0), line(0.5), line(0.4)])[2] == 3000


def test_successive_halving_decides_at_its_rungs():
    # Rungs at 10 %, 30 % and 90 % of 30000 env steps.
    halving = pruner(name="successive_halving", warmup=0.1, reduction_factor=3)
    late_loser = [0.2 if step <= 3000 else 0.0 for step in GRID]
    assert play(halving, [line(1.0), line(0.5), late_loser]) == [None, 3000, 9000]


def test_hyperband_prunes_before_any_trial_is_complete():
    hyperband = pruner(name="hyperband", warmup=0.1, reduction_factor=3)
    study = optuna.create_study(study_name="toy", direction="maximize", pruner=hyperband)
    verdicts = []
    for score in [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]:
        trial = study.ask()
        trial.report(score, 3000)
        verdicts.append(trial.should_prune())
    assert any(verdicts), "about half of the trials are in the bracket whose first rung is at 3000"


def test_threshold_looks_at_the_last_score():
    assert play(pruner(name="threshold", lower=0.2, warmup=0.3), [line(1.0), line(0.4)]) == [None, 9000]


def test_threshold_without_a_threshold_is_refused():
    with pytest.raises(SpecError, match="threshold needs 'lower', 'upper' or both"):
        pruner(name="threshold")


def test_patience_holds_the_pruner_back_while_the_trial_improves():
    patient = pruner(name="median", startup_trials=1, warmup=0, patience=2)
    climbing = line(0.5)
    stuck = [0.04] * 3 + [0.01] * 7
    assert play(patient, [line(1.0), climbing, stuck]) == [None, None, 18_000]


@pytest.mark.parametrize("name", ["none", "median", "percentile", "hyperband", "successive_halving", "threshold"])
@pytest.mark.parametrize("patience", [0, 3])
def test_all_pruners_build_without_a_warning(name, patience):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pruner(name=name, patience=patience, lower=0.1) is not None


def test_the_warmup_is_a_share_of_the_env_steps():
    assert warmup_steps(study_spec(pruner={"name": "median", "warmup": 0.1})) == 3000
