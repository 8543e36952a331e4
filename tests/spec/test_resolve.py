"""From a study and a point to a training; priors, conditions, constraints and changed definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support.study_text import STUDY, study_text
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.loading import study_from_text
from vbot_campaign.spec.resolve import definition_changes, is_active, prior_point, resolve_training, skipped_by
from vbot_campaign.spec.study import StudySpec

RATE = "{type: loguniform, low: 1e-4, high: 1e-3, prior: 3e-4}"
ROLLOUTS = "{type: choice, values: [16, 24, 32], prior: 24}"
BONUS = "{type: uniform, low: 50, high: 200, prior: 100}"

CONDITIONAL = (
    f"learning_rate: {RATE}",
    "lr_scheduler_type: {type: choice, values: [none, kl_adaptive], prior: %s}\n"
    "    learning_rate_scheduler_kl_threshold:\n"
    "      {type: loguniform, low: 4e-3, high: 2e-2, when: \"ppo.lr_scheduler_type == 'kl_adaptive'\"}\n"
    "    grad_norm_clip: {type: uniform, low: 0.5, high: 2, when: ppo.learning_rate_scheduler_kl_threshold > 0.005}\n"
    f"    learning_rate: {RATE}",
)


def study_with(*edits: tuple[str, str]) -> StudySpec:
    return study_from_text(study_text(*edits))


def conditional_study(prior: str) -> StudySpec:
    return study_with((CONDITIONAL[0], CONDITIONAL[1] % prior))


def test_sampled_values_win_over_fixed_ones_and_those_over_defaults() -> None:
    study = study_from_text(STUDY)
    training = resolve_training(study, {"ppo.rollouts": 32, "reward.arrival_bonus": 60.0})
    assert training.ppo.rollouts == 32
    assert training.ppo.discount_factor == 0.99
    assert training.ppo.learning_epochs == 5
    assert training.reward == {"arrival_bonus": 60.0}
    assert training.env == {"spawn_outer_radius": 4.0}
    assert (training.num_envs, training.env_steps, training.seed) == (512, 2_000_000, 42)
    assert training.objective == study.objective


def test_layer_sizes_come_as_lists_or_tuples() -> None:
    study = study_from_text(STUDY)
    for sizes in ([128, 64], (128, 64)):
        training = resolve_training(study, {"ppo.policy_hidden_layer_sizes": sizes})
        assert training.ppo.policy_hidden_layer_sizes == (128, 64)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ppo.rolouts": 24}, "ppo.rolouts: study 'tiny' does not search it. Did you mean 'ppo.rollouts'?"),
        ({"ppo.rollouts": 1}, "ppo.rollouts: 1 is not valid; expected a whole number from 2 to 1024."),
        ({"ppo.learning_rate": math.nan}, "ppo.learning_rate: nan is not valid"),
    ],
)
def test_points_that_cannot_be_trained(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve_training(study_from_text(STUDY), parameters)
    assert words in str(caught.value)


def test_the_first_trial_has_the_priors_and_defaults_that_lie_in_the_range() -> None:
    assert prior_point(study_from_text(STUDY)) == {
        "ppo.learning_rate": 3e-4,
        "ppo.rollouts": 24,
        "ppo.policy_hidden_layer_sizes": [256, 128, 64],
        "reward.arrival_bonus": 100.0,
        "reward.near_target_speed": -2.0,
    }


@pytest.mark.parametrize(
    ("old", "new", "name", "value"),
    [
        (RATE, "{type: loguniform, low: 1e-5, high: 1e-3}", "ppo.learning_rate", 1e-3),
        (RATE, "{type: loguniform, low: 1e-5, high: 1e-4}", "ppo.learning_rate", math.sqrt(1e-9)),
        (BONUS, "{type: uniform, low: 10, high: 50}", "reward.arrival_bonus", 30),
        (BONUS, "{type: uniform, low: 10, high: 40, step: 10}", "reward.arrival_bonus", 20),
        (BONUS, "{type: loguniform, low: -16, high: -4}", "reward.arrival_bonus", -8),
        (ROLLOUTS, "{type: int, low: 30, high: 50, step: 4}", "ppo.rollouts", 38),
        (ROLLOUTS, "{type: int, low: 4, high: 16, log: true}", "ppo.rollouts", 8),
        (ROLLOUTS, "{type: choice, values: [64, 32]}", "ppo.rollouts", 64),
        ("[[128, 64], [256, 128, 64]]", "[[64], [32]]", "ppo.policy_hidden_layer_sizes", [64]),
    ],
)
def test_without_a_prior_the_default_counts_and_else_the_middle_or_the_first_choice(
    old: str, new: str, name: str, value: object
) -> None:
    edits = [(old, new), ("ppo.learning_rate > 5e-4 and ppo.rollouts < 20", "ppo.rollouts < 3")]
    first = prior_point(study_with(*edits))[name]
    assert first == (pytest.approx(value) if isinstance(value, float) else value)


def test_conditional_parameters_are_active_where_their_condition_holds() -> None:
    study = conditional_study("none")
    threshold = "ppo.learning_rate_scheduler_kl_threshold"
    assert threshold not in prior_point(study)
    assert threshold in prior_point(conditional_study("kl_adaptive"))
    assert is_active(study, threshold, {"ppo.lr_scheduler_type": "kl_adaptive"})
    assert not is_active(study, threshold, {"ppo.lr_scheduler_type": "none"})
    # A condition over an inactive parameter does not hold.
    assert not is_active(study, "ppo.grad_norm_clip", {"ppo.lr_scheduler_type": "none"})
    assert is_active(study, "ppo.grad_norm_clip", {"ppo.lr_scheduler_type": "kl_adaptive", threshold: 0.01})
    assert is_active(study, "ppo.learning_rate", {})


def test_inactive_parameters_keep_their_default() -> None:
    training = resolve_training(conditional_study("none"), {"ppo.lr_scheduler_type": "none"})
    assert training.ppo.learning_rate_scheduler_kl_threshold == 0.01


def test_a_constraint_skips_what_it_names() -> None:
    study = study_from_text(STUDY)
    skipped = skipped_by(study, {"ppo.learning_rate": 6e-4, "ppo.rollouts": 16})
    assert skipped is study.constraints[0]
    assert skipped.reason == "unstable"
    assert skipped_by(study, {"ppo.learning_rate": 6e-4, "ppo.rollouts": 24}) is None


def test_a_constraint_sees_fixed_values_and_defaults() -> None:
    study = study_with(("ppo.rollouts < 20", "ppo.discount_factor == 0.99 and ppo.learning_epochs == 5"))
    assert skipped_by(study, {"ppo.learning_rate": 6e-4, "ppo.rollouts": 24}) is study.constraints[0]


def test_a_constraint_over_an_inactive_parameter_does_not_skip() -> None:
    study = study_with(
        (CONDITIONAL[0], CONDITIONAL[1] % "none"),
        ("ppo.learning_rate > 5e-4 and ppo.rollouts < 20", "ppo.learning_rate_scheduler_kl_threshold > 0"),
    )
    assert skipped_by(study, {"ppo.lr_scheduler_type": "none"}) is None
    assert skipped_by(study, {"ppo.learning_rate_scheduler_kl_threshold": 0.01}) is study.constraints[0]


def test_mini_batches_that_do_not_divide_are_skipped_with_a_reason() -> None:
    study = study_with((ROLLOUTS, ROLLOUTS + "\n    mini_batches: {type: choice, values: [4, 3]}"))
    assert skipped_by(study, {"ppo.rollouts": 24, "ppo.mini_batches": 3}) is None
    skipped = skipped_by(study, {"ppo.rollouts": 16, "ppo.mini_batches": 3})
    assert skipped is not None
    assert skipped.reason == (
        "ppo.mini_batches: 3 does not divide num_envs 512 x rollouts 16 = 8192 samples; the nearest that do: 2 and 4."
    )


# --- changed definitions --------------------------------------------------------------------------------------------


def changes(*edits: tuple[str, str], stored: tuple[tuple[str, str], ...] = ()) -> tuple[list[str], bool]:
    found = definition_changes(study_with(*stored), study_with(*edits))
    assert bool(found) is bool(found.differences)
    return list(found.differences), found.only_raises_budget


def test_the_same_study_written_differently_has_no_differences() -> None:
    edits = (("1e-3", "0.001"), ("{weight: 0.4}", "0.4"), ("{num_envs: 512}", "{num_envs: 512, slots_per_gpu: 1}"))
    assert changes(*edits)[0] == []


def test_differences_are_readable() -> None:
    words, only_raises_budget = changes(
        ("high: 1e-3", "high: 1e-2"),
        ("[16, 24, 32]", "[16, 24]"),
        ("{name: median}", "{name: none}"),
        ("arrival_bonus", "stop_scale"),
    )
    assert words[:3] == [
        "pruner.name: median -> none",
        "search_space.ppo.learning_rate.high: 0.001 -> 0.01",
        "search_space.ppo.rollouts.values: [16, 24, 32] -> [16, 24]",
    ]
    assert "search_space.reward.arrival_bonus.low: removed (was 50)" in words
    assert "search_space.reward.stop_scale.low: added 50" in words
    assert not only_raises_budget


@pytest.mark.parametrize(
    ("before", "after", "raises"),
    [
        ("{trials: 10}", "{trials: 20}", True),
        ("{trials: 10}", "{trials: 5}", False),
        ("{trials: 10, hours: 2}", "{trials: 20, hours: 3.5}", True),
        ("{trials: 10, hours: 2}", "{trials: 20, hours: 1}", False),
        ("{trials: 10, hours: 2}", "{trials: 10}", True),
        ("{trials: 10}", "{trials: 10, hours: 2}", False),
        ("{trials: 10}", "{trials: 10}", True),
    ],
    ids=["more", "fewer", "more of both", "mixed", "limit lifted", "limit added", "same"],
)
def test_raising_a_budget_is_told_from_other_changes(before: str, after: str, raises: bool) -> None:
    _, only_raises_budget = changes(("{trials: 10}", after), stored=(("{trials: 10}", before),))
    assert only_raises_budget is raises


def test_a_raised_budget_does_not_hide_another_change() -> None:
    words, only_raises_budget = changes(("{trials: 10}", "{trials: 20}"), ("num_envs: 512", "num_envs: 256"))
    assert words == ["budget.trials: 10 -> 20", "workers.num_envs: 512 -> 256"]
    assert not only_raises_budget
