"""Rules over the curve of a training, on recorded and on made-up curves."""

from __future__ import annotations

import pytest

from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.study import AlertSettings
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.supervisor.training_alerts import Progress, TrainingRules

# Trainings of this program with 1024 robots, in thirtieths of their env steps: episodes, success, falls, progress to
# the goal, reward of an episode, reward of an env step. The second one starts from the policy of the first.
SECTION001 = """
4 0.0 1.0 0.084 4.5 0.437
645 0.0 0.941 0.085 126.1 0.466
899 0.0 0.793 0.129 251.9 0.633
700 0.0 0.474 0.347 691.5 1.414
685 0.0 0.423 0.655 1318.5 2.569
558 0.0 0.226 0.939 3191.8 4.337
591 0.0 0.108 0.973 4500.5 5.373
538 0.0 0.082 0.964 5503.2 6.345
605 0.002 0.094 0.938 5940.8 6.764
547 0.007 0.055 0.965 6704.7 7.543
580 0.01 0.052 0.973 7253.6 7.741
571 0.04 0.035 0.974 7805.8 8.648
559 0.052 0.043 0.975 8100.3 8.258
584 0.12 0.027 0.99 8153.0 8.969
610 0.249 0.036 0.975 7679.4 8.62
634 0.334 0.038 0.983 7624.4 9.01
698 0.458 0.027 0.984 6897.3 8.606
717 0.533 0.028 0.982 6426.0 8.24
762 0.56 0.022 0.989 6497.0 8.703
801 0.634 0.027 0.988 5762.7 8.133
807 0.686 0.024 0.982 5452.5 8.08
863 0.742 0.019 0.99 5180.3 8.013
872 0.741 0.023 0.987 4829.4 7.898
905 0.722 0.03 0.989 4905.4 7.985
920 0.765 0.025 0.99 4609.2 7.802
915 0.758 0.024 0.99 4598.3 8.114
1007 0.791 0.022 0.989 4331.2 7.395
996 0.806 0.029 0.985 3997.6 7.683
1034 0.827 0.023 0.989 4133.0 7.273
"""
FAR = """
12 0.0 1.0 0.09 -25.5 1.794
18 0.5 0.5 0.615 1788.1 3.575
351 0.675 0.037 0.975 3994.4 4.829
485 0.726 0.025 0.978 4366.2 5.286
520 0.75 0.025 0.986 4471.2 5.528
515 0.751 0.035 0.984 4510.4 5.394
540 0.793 0.039 0.978 4268.1 5.372
516 0.833 0.033 0.984 4175.4 5.232
513 0.817 0.021 0.993 4262.9 5.443
549 0.77 0.044 0.977 4374.3 5.471
520 0.835 0.023 0.985 4212.2 5.377
575 0.89 0.019 0.989 4077.7 5.324
550 0.885 0.022 0.986 4145.4 5.318
547 0.899 0.018 0.991 3916.5 5.068
545 0.912 0.013 0.995 3847.6 5.134
580 0.931 0.017 0.993 3769.8 5.02
547 0.934 0.016 0.99 3703.8 5.263
564 0.899 0.023 0.985 4133.5 5.488
586 0.94 0.01 0.997 3885.6 5.045
567 0.949 0.023 0.983 3617.7 5.001
563 0.927 0.023 0.988 3628.4 5.003
603 0.929 0.023 0.981 3670.6 5.128
567 0.947 0.016 0.988 3593.7 4.81
613 0.974 0.008 0.997 3462.3 4.931
555 0.962 0.013 0.995 3510.5 4.933
590 0.961 0.01 0.998 3602.6 5.141
592 0.954 0.01 0.997 3701.2 5.029
582 0.973 0.01 0.999 3503.5 4.882
"""

STEP = 1000
LENGTH = 30


def training(**values):
    return TrainingSpec.model_validate(
        {"environment": "vbot_navigation_section001", "env_steps": STEP * LENGTH, "num_envs": 100, **values}
    )


def point(success, *, falls=0.0, progress=1.0, reward=1000.0, per_step=1.0, episodes=500):
    """Return a thirtieth of a training; what neither succeeds nor falls, the clock ends."""
    totals = EpisodeTotals(
        finished=episodes, success=success * episodes, reached=success * episodes, fell_before=falls * episodes,
        timed_out=(1.0 - success - falls) * episodes, goal_progress=progress * episodes, reward=reward * episodes,
        time_to_goal=5.0 * episodes,
    )  # fmt: skip
    return totals, per_step


def recorded(text):
    rows = [list(map(float, row.split())) for row in text.split("\n") if row]
    names = ("falls", "progress", "reward", "per_step")
    points = [point(row[1], episodes=row[0], **dict(zip(names, row[2:], strict=True))) for row in rows if row[0]]
    assert len(points) >= 27
    return points


def told(points, rules=None, **settings):
    """Return cause and place of the alerts that a curve brings."""
    rules = rules or TrainingRules(training(), 7, AlertSettings.model_validate(settings))
    alerts = []
    for i, (totals, per_step) in enumerate(points, start=1):
        alerts += [(alert.cause, i, alert) for alert in rules.feed(Progress(STEP * i, totals, per_step))]
    return alerts


def causes(points, **settings):
    return [cause for cause, _, _ in told(points, **settings)]


@pytest.mark.parametrize("curve", [SECTION001, FAR], ids=["from the start", "warm start"])
def test_a_healthy_training_brings_no_alert(curve):
    assert causes(recorded(curve)) == []


def test_the_same_training_backwards_is_a_gamed_reward_and_a_collapse():
    # Success goes from 83 % to nothing while the reward rises: a robot that lingers near the goal.
    assert causes(recorded(SECTION001)[::-1])[:2] == ["reward_hacking", "collapse"]


# --- collapse ---------------------------------------------------------------------------------------------------


def test_a_collapse_is_told_once_with_its_numbers():
    points = [point(0.9)] * 10 + [point(0.0, falls=0.9, per_step=0.2, reward=10.0)] * 10
    ((cause, at, alert),) = told(points)
    # Score 0.6 success + 0.25 survival + 0.15 progress, over three thirtieths: 0.94 at best; with one bad one of three
    # 0.685 (27 % less: no collapse yet), with two 0.6 * 0.3 + 0.25 * 0.4 + 0.15 = 0.43.
    assert (cause, at) == ("collapse", 12)
    assert alert.message == "the score fell from 0.940 to 0.430 (-54%) at 12,000 env steps"
    assert (alert.level, alert.trial, alert.stop, alert.once) == ("warning", 7, False, True)


def test_the_drop_can_be_set_and_switched_off():
    points = [point(0.9)] * 10 + [point(0.5, per_step=0.2, reward=10.0)] * 10
    assert causes(points, collapse={"drop": 0.3}) == []
    found = told(points, collapse={"drop": 0.2, "stop": True})
    assert {(cause, alert.stop) for cause, _, alert in found} == {("collapse", True)}
    assert len(found) > 1, "it stands for as long as it holds"
    gone = [point(0.9)] * 10 + [point(0.0, falls=1.0, progress=0.0, per_step=0.2, reward=1.0)] * 10
    assert causes(gone, collapse={"drop": 1.0}) == []


def test_low_scores_and_single_bad_stretches_are_no_collapse():
    low = [point(0.1, falls=0.9, progress=0.1), point(0.0, falls=1.0, progress=0.1)] * 10
    assert causes(low) == []
    assert causes([point(0.9)] * 10 + [point(0.5, falls=0.3)] + [point(0.9)] * 10) == []


# --- reward hacking ---------------------------------------------------------------------------------------------


def test_a_gamed_reward_is_told_with_its_numbers():
    points = [point(0.8)] * 12 + [point(0.6, reward=1300.0, per_step=1.1)] * 12
    ((cause, at, alert),) = told(points)
    # One new thirtieth of three is a third of the change: success 0.733 is no fall of 0.1 yet, 0.667 is.
    assert (cause, at) == ("reward_hacking", 14)
    assert alert.message == (
        "the reward per episode rose by 20% while the success rate fell from 80% to 67% (8,000 to 14,000 env steps)"
    )


def test_it_is_told_whether_the_reward_of_a_step_or_of_an_episode_rises():
    assert causes([point(0.8)] * 12 + [point(0.6, per_step=1.5)] * 12) == ["reward_hacking"]
    unknown = [(totals, None) for totals, _ in [point(0.8)] * 12 + [point(0.6, reward=1300.0)] * 12]
    assert causes(unknown) == ["reward_hacking"], "a worker that tells no reward per step"
    assert causes([point(0.8)] * 12 + [point(0.6)] * 12) == [], "no rise"
    assert causes([point(0.8)] * 12 + [point(0.75, reward=1300.0)] * 12) == [], "no fall"


def test_its_window_can_be_set():
    drift = [point(0.9 - 0.01 * i, reward=1000.0 + 20 * i) for i in range(30)]
    assert causes(drift) == [], "over a fifth of the training it is 6 points"
    ((cause, _, alert),) = told(drift, reward_hacking={"window": 0.5})
    assert (cause, alert.stop) == ("reward_hacking", False)


# --- lazy policies ----------------------------------------------------------------------------------------------


def test_a_policy_that_stands_until_the_clock_ends_is_lazy():
    ((cause, at, alert),) = told([point(0.0, falls=0.1, progress=0.05)] * 30)
    assert (cause, at) == ("lazy_policy", 7)
    assert alert.message == (
        "90% of the episodes last until the clock ends them, with 5% of the way covered (up to 7,000 env steps)"
    )


@pytest.mark.parametrize(
    "points",
    [
        [point(0.0, falls=0.5, progress=0.05)] * 30,
        [point(0.0, progress=0.9)] * 30,
        [point(0.0, progress=0.02 * i) for i in range(30)],
    ],
    ids=["falls", "walks and does not stop in the goal", "learns to walk"],
)
def test_what_is_not_lazy(points):
    assert causes(points) == []


# --- the curve --------------------------------------------------------------------------------------------------


def test_lines_that_are_read_again_change_nothing():
    rules = TrainingRules(training(), 7, AlertSettings())
    points = [point(0.9)] * 10 + [point(0.0, falls=0.9)] * 2
    assert told(points[:11], rules) == []
    assert [cause for cause, *_ in told(points, rules)] == ["collapse"]
    assert told(points, rules) == []


def test_stretches_wait_for_enough_episodes():
    rare = [point(0.9, episodes=20)] * 15 + [point(0.0, falls=1.0, episodes=20)] * 15
    ((cause, at, _),) = told(rare)
    assert (cause, at) == ("collapse", 25), "five thirtieths make a stretch of 100 episodes; two of three are bad"
    assert causes([point(0.9, episodes=1)] * 15 + [point(0.0, falls=1.0, episodes=1)] * 15) == []
