"""What `vbot-campaign check` prints: worked times, dimensions and warnings."""

from __future__ import annotations

import pytest

from tests.support.study_text import study_text
from vbot_campaign.spec.describe import Dimension, StudyPlan, describe, render
from vbot_campaign.spec.loading import study_from_text


def plan(*edits: tuple[str, str], slots: int = 2, env_steps_per_s: float = 10_000) -> StudyPlan:
    return describe(study_from_text(study_text(*edits)), slots=slots, env_steps_per_s=env_steps_per_s)


def test_dimensions_and_the_first_trial() -> None:
    found = plan()
    assert found.dimensions[0] == Dimension("ppo.learning_rate", "loguniform", "0.0001 .. 0.001", 3e-4, None)
    assert found.dimensions[1].range == "16, 24, 32"
    assert found.first_trial["ppo.rollouts"] == 24
    assert found.fixed == {"ppo.discount_factor": 0.99, "env.spawn_outer_radius": 4.0}


def test_sizes_and_time() -> None:
    found = plan()
    # 512 environments x 24 rollouts; 2,000,000 / 12,288 = 162.8 iterations.
    assert (found.env_steps_per_iteration, found.iterations) == (12_288, 163)
    assert (found.trials, found.env_steps) == (10, 20_000_000)
    # Ten trials on two slots are five rounds of 2,000,000 / 5,000 = 400 s.
    assert found.hours == pytest.approx(2000 / 3600)
    assert found.trials_in_time == 10
    assert found.warnings == ()


def test_an_odd_trial_costs_a_whole_round() -> None:
    assert plan(("trials: 10", "trials: 9")).hours == pytest.approx(2000 / 3600)
    assert plan(("trials: 10", "trials: 8")).hours == pytest.approx(1600 / 3600)


def test_hours_alone_limit_a_study() -> None:
    found = plan(("trials: 10", "hours: 1"))
    # One hour holds nine rounds of 400 s on each of two slots.
    assert (found.trials, found.env_steps, found.hours, found.trials_in_time) == (None, None, 1, 18)


def test_env_steps_limit_the_trials() -> None:
    found = plan(("trials: 10", "trials: 10, env_steps: 7_000_000"))
    assert found.trials == 4
    assert "ends the study after 4 of 10 trials" in found.warnings[0]


def test_searching_rewards_and_scoring_by_reward_is_warned_of_loudly() -> None:
    reward = ("success_rate: 0.6", "episode_reward_mean: {weight: 0.6, scale: 100}")
    (warning,) = plan(reward).warnings
    assert warning.startswith("THE SCORE IS MEASURED WITH A YARDSTICK THAT EACH TRIAL BENDS")
    assert "arrival_bonus, near_target_speed" in warning
    assert "success_rate and goal_progress" in warning
    rewards = "  reward:\n    arrival_bonus: {type: uniform, low: 50, high: 200, prior: 100}\n"
    penalty = "    near_target_speed: {type: loguniform, low: -4, high: -0.5}\n"
    assert plan(reward, (rewards + penalty, "")).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2_000_000", "200_000", "as few as 13 iterations (num_envs 512 x rollouts 32 = 16384"),
        ("trials: 10", "trials: 10, hours: 0.2", "0.2 hours is not enough for 10 trials: they take about 0.6 hours"),
        ("low: 50", "low: -50", "reward.arrival_bonus is a reward (100 by default)"),
        ("startup_trials: 4", "startup_trials: 10", "All 10 trials are drawn at random"),
        ("{name: median}", "{name: median, startup_trials: 10}", "No trial can be pruned"),
        ("discount_factor: 0.99", "mini_batches: 12", "do not split into equal mini-batches; they are drawn again"),
        (
            "  reward:",
            "  env:\n    spawn_inner_radius: {type: uniform, low: 1, high: 5}\n  reward:",
            "spawn_inner_radius above",
        ),
    ],
)
def test_warnings(old: str, new: str, words: str) -> None:
    found = plan((old, new))
    assert len(found.warnings) == 1
    assert words in found.warnings[0]


def test_a_single_trial_is_not_warned_of_what_takes_several() -> None:
    assert plan(("trials: 10", "trials: 1")).warnings == ()


def test_the_text_has_everything_and_fits_a_terminal() -> None:
    text = render(plan(("success_rate: 0.6", "episode_reward_mean: {weight: 0.6, scale: 100}")))
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in (
        "Study tiny",
        "2,000,000 env steps = 163 iterations of 12,288",
        "10 trials = 20,000,000 env steps",
        "about 33 minutes on 2 slots at 10,000 env steps/s",
        "Searched (5), with the first trial",
        "0.0001 .. 0.001; first 0.0003",
        "ppo.discount_factor = 0.99",
        "WARNING: THE SCORE",
    ):
        assert words in text
