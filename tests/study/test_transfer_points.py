"""Points of elsewhere, made to fit a study."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.snapshots import make_failed, make_pruned, make_snapshot, make_spec, make_trial
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.point_file import Candidate
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.transfer_points import Fitted, candidates_of, fit, fit_all

SPACE: dict[str, Any] = {
    "ppo": {
        "learning_rate": {"type": "loguniform", "low": 1e-4, "high": 1e-3, "prior": 3e-4},
        "learning_epochs": {"type": "choice", "values": [3, 5, 8], "prior": 5},
        "policy_hidden_layer_sizes": {
            "type": "categorical",
            "choices": [[128, 64], [256, 128, 64]],
            "prior": [128, 64],
        },
    },
    "reward": {
        "termination": {"type": "loguniform", "low": -200.0, "high": -50.0, "prior": -100.0},
        "arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0, "step": 10.0, "prior": 100.0},
    },
}


def spec(**overrides: Any) -> StudySpec:
    return make_spec(search_space=SPACE, **overrides)


def fitted(values: dict[str, Any], *, clip: bool = False, **overrides: Any) -> Fitted:
    return fit(spec(**overrides), Candidate("here", values), clip=clip)


def test_what_is_missing_takes_the_prior_and_what_is_not_searched_is_named() -> None:
    point = fitted(
        {
            "ppo.learning_rate": 5e-4,
            "reward.termination": -75,
            "ppo.lambda_param": 0.9,  # as the study has it
            "ppo.rollouts": 32,
            "max_env_steps": 15_000_000,
        }
    )
    assert point.parameters == {
        "ppo.learning_rate": 5e-4,
        "ppo.learning_epochs": 5,
        "ppo.policy_hidden_layer_sizes": [128, 64],
        "reward.termination": -75.0,
        "reward.arrival_bonus": 100.0,
    }
    assert point.priors == ("ppo.learning_epochs", "ppo.policy_hidden_layer_sizes", "reward.arrival_bonus")
    assert point.left_out == ("ppo.rollouts 32 (not searched; here 24)", "max_env_steps 15000000 (unknown here)")
    assert point.as_here == 1
    assert not point.refused


OUTSIDE = {
    "ppo.learning_rate": 5e-3,
    "ppo.learning_epochs": 6,
    "ppo.policy_hidden_layer_sizes": [512, 256],
    "reward.termination": -20.0,
    "reward.arrival_bonus": 84.9,
}


def test_values_out_of_range_are_refused_each_by_name() -> None:
    point = fitted(OUTSIDE)
    assert point.refused == (
        "ppo.learning_rate 0.005 is outside of 0.0001 .. 0.001",
        "ppo.learning_epochs 6 is outside of 3, 5, 8",
        "ppo.policy_hidden_layer_sizes [512, 256] is outside of [128, 64], [256, 128, 64]",
        "reward.termination -20 is outside of -200 .. -50",
        "reward.arrival_bonus 84.9 is outside of 50 .. 200 step 10",
    )
    assert not point.parameters
    assert point.can_clip


def test_values_out_of_range_are_moved_to_the_nearest_end_step_or_choice() -> None:
    point = fitted(OUTSIDE, clip=True)
    assert point.parameters == {
        "ppo.learning_rate": 1e-3,
        "ppo.learning_epochs": 5,
        "ppo.policy_hidden_layer_sizes": [128, 64],
        "reward.termination": -50.0,
        "reward.arrival_bonus": 80.0,
    }
    assert point.clipped == (
        "ppo.learning_rate 0.005 -> 0.001",
        "ppo.learning_epochs 6 -> 5",
        "ppo.policy_hidden_layer_sizes [512, 256] -> [128, 64], the prior",
        "reward.termination -20 -> -50",
        "reward.arrival_bonus 84.9 -> 80",
    )


def test_numbers_that_a_script_wrote_as_texts_are_read() -> None:
    point = fitted({"ppo.learning_rate": "0.0005", "ppo.policy_hidden_layer_sizes": "[256, 128, 64]"})
    assert point.parameters["ppo.learning_rate"] == 5e-4
    assert point.parameters["ppo.policy_hidden_layer_sizes"] == [256, 128, 64]
    word = fitted({"ppo.learning_rate": "fast"}, clip=True)
    assert word.refused == ("ppo.learning_rate 'fast' is outside of 0.0001 .. 0.001, and no number",)
    assert fitted({"ppo.learning_rate": float("nan")}, clip=True).refused


def test_a_point_that_a_constraint_refuses_is_left_out_with_the_reason() -> None:
    rule = {"skip_if": "ppo.learning_rate > 5e-4 and ppo.learning_epochs > 5", "reason": "unstable"}
    point = fitted({"ppo.learning_rate": 9e-4, "ppo.learning_epochs": 8}, constraints=[rule])
    assert point.refused == (f"a constraint refuses it: {rule['skip_if']} (unstable)",)
    assert not point.can_clip
    odd = fitted({"ppo.learning_rate": 3e-4}, fixed={"ppo": {"mini_batches": 7}})
    assert "7 does not divide" in odd.refused[0]


def test_a_conditional_parameter_that_does_not_apply_is_left_out() -> None:
    space = {
        "ppo": {
            "lr_scheduler_type": {"type": "choice", "values": ["none", "kl_adaptive"], "prior": "none"},
            "learning_rate_scheduler_kl_threshold": {
                "type": "loguniform",
                "low": 4e-3,
                "high": 2e-2,
                "when": "ppo.lr_scheduler_type == 'kl_adaptive'",
            },
        }
    }
    study = make_spec(search_space=space, fixed={})
    threshold = {"ppo.learning_rate_scheduler_kl_threshold": 0.008}
    off = fit(study, Candidate("off", threshold), clip=False)
    assert off.parameters == {"ppo.lr_scheduler_type": "none"}
    assert off.left_out == ("ppo.learning_rate_scheduler_kl_threshold 0.008 (does not apply at this point)",)
    on = fit(study, Candidate("on", {**threshold, "ppo.lr_scheduler_type": "kl_adaptive"}), clip=False)
    assert on.parameters == {**threshold, "ppo.lr_scheduler_type": "kl_adaptive"}


def test_a_point_that_is_there_already_is_left_out() -> None:
    candidates = [
        Candidate(name, {"ppo.learning_rate": rate}) for name, rate in (("a", 2e-4), ("b", 4e-4), ("c", 4e-4))
    ]
    there = fit(spec(), candidates[0], clip=False).parameters
    almost = {**there, "ppo.learning_rate": 2e-4 * (1 + 1e-12)}  # as a logarithm gives it back
    found = fit_all(spec(), candidates, [("trial 3", almost)], clip=False)
    assert [point.refused for point in found] == [
        ("is the same point as trial 3",),
        (),
        ("is the same point as b",),
    ]


def test_a_point_of_nothing_that_is_searched_is_left_out() -> None:
    assert fitted({"ppo.rollouts": 32}).refused == ("has no value for anything that the study searches",)


def test_trials_bring_along_what_their_study_had_fixed() -> None:
    earlier = make_snapshot(
        spec=make_spec(study="before", fixed={"ppo": {"learning_epochs": 8}}),
        trials=(
            make_trial(0, score=0.4),
            make_trial(1, score=0.7),
            make_pruned(2),
            make_failed(3),
            make_trial(4, score=0.7),
        ),
    )
    best = candidates_of(earlier, None, 2)
    assert [(candidate.origin, candidate.score) for candidate in best] == [("before:1", 0.7), ("before:4", 0.7)]
    point = fit(spec(), best[0], clip=False)
    assert point.parameters["ppo.learning_epochs"] == 8
    assert point.priors == ()
    assert [candidate.origin for candidate in candidates_of(earlier, [3, 2], 1)] == ["before:3", "before:2"]
    with pytest.raises(SpecError, match="no complete trial yet"):
        candidates_of(make_snapshot(trials=(make_pruned(0),)), None, 3)
