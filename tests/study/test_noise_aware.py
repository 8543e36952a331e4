"""The pruner for noisy curves, on curves that can be followed by hand."""

from __future__ import annotations

import random

import optuna
import pytest

from tests.support.builders import study_spec
from vbot_campaign.study.noise_aware import NoiseAwarePruner, noise_of, replicates_among
from vbot_campaign.study.pruners import build_pruner, prune_reason

GRID = range(1000, 10_001, 1000)


def curve(end, *, up_to=10_000, noise=None):
    """Return a straight curve from zero, with something added to its points."""
    points = {step: end * step / 10_000 for step in GRID if step <= up_to}
    return {step: score + (noise(step) if noise else 0.0) for step, score in points.items()}


def pruner(**settings):
    # Of a budget that the curves below do not come to, so that what they become after a step is not asked.
    return NoiseAwarePruner(
        **{"warmup_steps": 2000, "env_steps": 20_000, "startup_trials": 2, "patience": 1, "smoothing": 1, **settings}
    )


def stopped_at(judge, ends, own):
    """Return the step at which a curve is stopped beside straight ones that are whole, or None."""
    others = [curve(end) for end in ends]
    steps = (step for step in GRID if judge.should_stop({s: v for s, v in own.items() if s <= step}, others))
    return next(steps, None)


def test_one_in_three_goes_on_after_the_warmup():
    six = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert stopped_at(pruner(), six, curve(0.85)) == 4000, "second of six: 2 places at 2000, 1 from 4000 on"
    assert stopped_at(pruner(), six, curve(0.75)) == 2000, "third of six"
    assert stopped_at(pruner(), six, curve(0.95)) is None, "the best one is never stopped"


def test_the_share_shrinks_with_the_budget_spent():
    compared = [pruner().compare(curve(0.5), [curve(0.9)] * 8, step) for step in (2000, 4000, 6000)]
    assert [(found.places, found.peers) for found in compared if found] == [(3, 9), (2, 9), (1, 9)]


def test_stopped_trials_count_as_worse_where_they_never_came():
    losers = [curve(0.2, up_to=2000)] * 6
    found = pruner().compare(curve(0.5), [curve(0.9), curve(0.8), *losers], 4000)
    assert found is not None
    assert (found.peers, found.places) == (9, 2)
    assert found.bar == pytest.approx(0.32), "the second best of the three that came here"
    assert found.falls_short


def test_nothing_is_stopped_before_the_warmup_or_beside_too_few():
    assert stopped_at(pruner(warmup_steps=6000), [0.9, 0.8, 0.7], curve(0.1)) == 6000
    assert stopped_at(pruner(startup_trials=4), [0.9, 0.8, 0.7], curve(0.1)) is None
    assert not pruner().should_stop({}, [curve(0.9)] * 5)


def test_it_must_fall_short_several_times_in_a_row():
    peers = [0.9, 0.8, 0.7]
    assert stopped_at(pruner(patience=3), peers, curve(0.1)) == 4000
    late = curve(0.1, noise=lambda step: 1.0 if step >= 4000 else 0.0)
    assert stopped_at(pruner(patience=2), peers, late) == 3000
    assert stopped_at(pruner(patience=3), peers, late) is None


def test_a_single_good_point_is_smoothed_away():
    peers = [0.9, 0.8, 0.7]
    jumps = curve(0.1, noise=lambda step: 2.0 if step == 3000 else 0.0)
    assert stopped_at(pruner(patience=2), peers, jumps) is None
    assert stopped_at(pruner(patience=2, smoothing=3), peers, jumps) == 3000


def test_a_trial_that_collapses_is_judged_by_the_best_policy_it_has():
    peers = [0.9, 0.8, 0.7]
    collapses = {step: score if step <= 5000 else 0.0 for step, score in curve(2.4).items()}
    assert stopped_at(pruner(smoothing=3), peers, collapses) is None
    assert stopped_at(pruner(smoothing=3), [*peers, 2.4], collapses) == 6000, "another one went on as well"


def test_how_differently_whole_curves_went_on_counts_as_noise():
    # From 0.3 each at 3000 to 0.3, 0.5 and 0.7: gains of 0.0, 0.2 and 0.4.
    whole = [{3000: 0.3, 10_000: end} for end in (0.3, 0.5, 0.7)]
    own = {3000: 0.2}
    judge = pruner(env_steps=10_000)
    assert judge.compare(own, whole, 3000).noise == pytest.approx(0.2)
    assert not judge.compare(own, whole, 3000).falls_short
    assert judge.compare(own, whole[:2], 3000).noise == 0.0, "two whole ones say too little"
    assert pruner().compare(own, whole, 3000).noise == 0.0, "none is whole"


def test_what_falls_short_by_less_than_the_noise_goes_on():
    def shake(step):
        return 0.06 if step // 1000 % 2 else -0.06

    peers = [curve(end, noise=shake) for end in (0.9, 0.85, 0.8, 0.75)]
    own = curve(0.8, noise=shake)
    found = pruner(smoothing=3).compare(own, peers, 10_000)
    assert found is not None
    # Second differences of such a curve are 0.24: 1.4826 * 0.24 / sqrt(6) = 0.1453, times sqrt(2 / 3).
    assert found.noise == pytest.approx(0.1186, abs=1e-4)
    assert not found.falls_short
    assert pruner(smoothing=3, noise_factor=0).compare(own, peers, 10_000).falls_short


def test_the_noise_of_points_is_found_on_a_curve_that_rises():
    rng = random.Random(1)
    curves = [curve(0.9, noise=lambda step: rng.gauss(0.0, 0.03)) for _ in range(40)]
    assert noise_of(curves, up_to=10_000) == pytest.approx(0.03, rel=0.2)
    assert noise_of([curve(0.9)], up_to=10_000) == pytest.approx(0.0, abs=1e-12)
    assert noise_of([curve(0.9, up_to=2000)], up_to=10_000) == 0.0


def test_replicates_tell_of_the_noise_between_seeds():
    # Curves without a shake, whose seeds end at 0.60 and 0.80: half of that at 5000, deviations of 0.05 each.
    pairs = [[curve(0.6), curve(0.8)], [curve(0.6), curve(0.8)]]
    peers = [curve(0.9), curve(0.88), curve(0.86)]
    own = curve(0.8)
    alone = pruner().compare(own, peers, 5000)
    found = pruner().compare(own, peers, 5000, pairs)
    assert (alone.noise, alone.falls_short) == (pytest.approx(0.0, abs=1e-9), True)
    # Four deviations of 0.05 with two degrees of freedom: sqrt(4 * 0.05^2 / 2) = 0.0707, times sqrt(2).
    assert found.noise == pytest.approx(0.1)
    assert not found.falls_short, "0.40 is not below 0.45 by more than 0.10"
    assert pruner().compare(own, peers, 5000, pairs[:1]).noise == alone.noise, "one pair says too little"


def test_replicates_are_trials_of_one_point_with_different_seeds():
    study = optuna.create_study()
    for rate, seed, end in [(1e-4, None, 0.1), (1e-4, 7, 0.2), (3e-4, 1, 0.3), (1e-4, 7, 0.4)]:
        study.enqueue_trial({"rate": rate})
        trial = study.ask({"rate": optuna.distributions.FloatDistribution(1e-5, 1e-3)})
        trial.set_user_attr("seed", seed)
        trial.report(end, 1000)
    study.ask()
    assert replicates_among(study.get_trials()) == [[{1000: 0.1}, {1000: 0.2}]], "a seed twice is the same training"


def test_the_reason_names_score_bar_noise_and_places():
    built = build_pruner(study_spec(pruner={"name": "noise_aware", "startup_trials": 2, "warmup": 0.2, "patience": 1}))
    study = optuna.create_study(direction="maximize", pruner=built)
    reason = None
    for end in (0.9, 0.8, 0.7, 0.6, 0.5, 0.3):
        trial = study.ask()
        for step in range(1000, 6001, 1000):
            trial.report(end * step / 30_000, step)
        reason = prune_reason(study, study.trials[-1], "noise_aware")
    # The medians of the last three points are those at 5000: 0.3 / 6 and, second best of six, 0.8 / 6.
    assert reason == (
        "noise_aware pruner: score 0.0500 is below 0.1333, the last of 2 places among 6 trials, by more than the noise "
        "of 0.0000, at 6,000 env steps"
    )


def test_a_study_file_builds_it_and_optuna_calls_it():
    built = build_pruner(study_spec(pruner={"name": "noise_aware", "startup_trials": 2, "warmup": 0.2}))
    study = optuna.create_study(direction="maximize", pruner=built)
    stopped = []
    for end in (0.9, 0.8, 0.7, 0.1, 1.0):
        trial = study.ask()
        for step in range(1000, 30_001, 1000):
            trial.report(end * step / 30_000, step)
            if trial.should_prune():
                stopped.append((trial.number, step))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, end)
    # From 6000 on, at the second point in a row; beside two others only one of three goes on.
    assert stopped == [(2, 7000), (3, 7000)]
