"""Trials side by side: what differs, at equal env steps, in words and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.snapshots import (
    PARAMETERS,
    STEPS,
    make_pruned,
    make_running,
    make_snapshot,
    make_trial,
    progress_line,
    write_study,
)
from vbot_campaign import fs
from vbot_campaign.errors import SpecError, StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch.comparison import Comparison, compare_trials, comparison_page
from vbot_campaign.watch.curve_plot import colour, draw_curves, save_curves
from vbot_campaign.watch.page import render_text


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


def study(paths: CampaignPaths, *trials: TrialView) -> StudySnapshot:
    return write_study(paths, make_snapshot(trials=trials))


def rewrite(paths: CampaignPaths, trial: TrialView, *, until: int, speed: float = 1.0) -> None:
    """Give a trial forty iterations up to an env step, whose success grows with the env steps."""
    steps = range(until // 40, until + 1, until // 40)
    lines = [
        progress_line(n, s, std=1.0 + s / STEPS, episodes={"finished": 10, "success": 10 * min(speed * s / STEPS, 1.0)})
        for n, s in enumerate(steps, start=1)
    ]
    folder = TrialPaths(paths.study("walk").root / str(trial.folder))
    fs.write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in lines))


def text_of(comparison: Comparison) -> str:
    text = render_text(comparison_page(comparison))
    assert [line for line in text.splitlines() if len(line) > 80] == []
    return text


def cells(text: str, label: str) -> list[list[str]]:
    """Return the cells of every row with a label, in the order of the page."""
    rows = [line.strip() for line in text.splitlines() if line.strip().startswith(f"{label}  ")]
    return [row.removeprefix(label).split("  ") for row in rows]


def values(text: str, label: str) -> list[str]:
    return [cell.strip() for cell in cells(text, label)[0] if cell.strip()]


def test_only_what_differs_is_listed(paths: CampaignPaths) -> None:
    other = {**PARAMETERS, "ppo.learning_rate": 1e-4, "ppo.policy_hidden_layer_sizes": [128, 64]}
    text = text_of(compare_trials(paths, study(paths, make_trial(0), make_trial(1, parameters=other)), [0, 1]))
    assert values(text, "ppo.learning_rate") == ["0.0003", "0.0001"]
    assert values(text, "ppo.policy_hidden_layer_sizes") == ["256x128x64", "128x64"]
    assert "reward.arrival_bonus" not in text


def test_what_really_ran_counts(paths: CampaignPaths) -> None:
    snapshot = study(paths, make_trial(0), make_trial(1))
    folder = TrialPaths(paths.study("walk").root / str(snapshot.trials[1].folder))
    fs.write_json(folder.meta, {"rl_overrides": {"learning_rate": 0.5}, "num_envs": 128})
    text = text_of(compare_trials(paths, snapshot, [0, 1]))
    assert values(text, "ppo.learning_rate") == ["0.0003", "0.5"]
    assert values(text, "ppo.num_envs") == ["256", "128"]


def test_equal_trials_have_no_differences(paths: CampaignPaths) -> None:
    text = text_of(compare_trials(paths, study(paths, make_trial(0), make_trial(1)), [1, 0, 1]))
    assert text.startswith("walk · trials 1 and 0\n")
    assert "none: they ran with the same values" in text


def test_metrics_are_compared_at_the_last_env_step_that_all_have_reached(paths: CampaignPaths) -> None:
    trials = (make_trial(0), make_pruned(1))
    snapshot = study(paths, *trials)
    rewrite(paths, trials[0], until=STEPS)
    rewrite(paths, trials[1], until=STEPS // 2, speed=2.0)
    comparison = compare_trials(paths, snapshot, [0, 1])
    assert comparison.env_steps == STEPS // 2
    # Of the first trial's 20 iterations up to there the last is one stretch; of the other's 40 the last two are.
    assert comparison.trials[0].at_common("outcome/success_rate") == pytest.approx(0.5)
    assert comparison.trials[1].at_common("outcome/success_rate") == pytest.approx((39 / 40 + 1) / 2)
    text = text_of(comparison)
    assert "At 300,000 env steps, which all have reached" in text
    assert values(text, "reported score") == ["0.250", "0.200"]
    assert values(text, "peak") == ["0.500", "0.200"]
    assert values(text, "at env steps") == ["600k", "300k"]


def test_reward_terms_add_up_by_category(paths: CampaignPaths) -> None:
    text = text_of(compare_trials(paths, study(paths, make_trial(0), make_trial(1)), [0, 1]))
    # All but the last of 12 iterations: a stretch holds one. Torques are -iteration / 2.
    assert values(text, "torques") == ["-6.0000", "-6.0000"]
    assert values(text, "efficiency") == ["-6.0000", "-6.0000"]
    assert "arrival_bonus" not in text  # zero everywhere


def test_a_running_trial_is_compared_as_far_as_its_worker_got(paths: CampaignPaths) -> None:
    running = make_running(1)
    snapshot = study(paths, make_trial(0), running)
    rewrite(paths, running, until=STEPS // 4 + 40)  # ahead of the database
    comparison = compare_trials(paths, snapshot, [0, 1])
    assert comparison.env_steps == STEPS // 4 + 40
    assert values(text_of(comparison), "state") == ["complete", "running"]


def test_a_trial_without_metrics_stops_nothing(paths: CampaignPaths) -> None:
    waiting = make_running(1, state=TrialState.WAITING, folder=None, attempts=(), reports={}, env_steps=0)
    comparison = compare_trials(paths, study(paths, make_trial(0), waiting), [0, 1])
    assert "nothing yet: trial 1 has no metrics" in text_of(comparison)
    assert draw_curves(comparison).size == (1260, 564)


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([3], "walk: name two trials or more, such as: 3 4"),
        (list(range(9)), "9 trials are too many to read; name 8 at most"),
    ],
)
def test_too_few_and_too_many_trials_are_refused(paths: CampaignPaths, trials: list[int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        compare_trials(paths, study(paths, *map(make_trial, range(9))), trials)


def test_a_trial_that_is_not_there_is_named(paths: CampaignPaths) -> None:
    with pytest.raises(StudyError, match="trial 9"):
        compare_trials(paths, study(paths, make_trial(0)), [0, 9])


def test_eight_trials_fit_the_screen(paths: CampaignPaths) -> None:
    others: list[dict[str, Any]] = [{**PARAMETERS, "ppo.learning_rate": 1e-4 + n * 1.234567e-5} for n in range(8)]
    snapshot = study(paths, *(make_trial(n, parameters=others[n]) for n in range(8)))
    text = text_of(compare_trials(paths, snapshot, range(8)))
    assert sum(len(row) for row in cells(text, "ppo.learning_rate")) >= 8


def test_the_picture_has_a_line_in_each_trials_colour(paths: CampaignPaths, tmp_path: Path) -> None:
    trials = (make_trial(0), make_trial(1, reports={STEPS // 2: 0.1, STEPS: 0.2}))
    snapshot = study(paths, *trials)
    rewrite(paths, trials[0], until=STEPS)
    rewrite(paths, trials[1], until=STEPS, speed=0.5)
    save_curves(tmp_path / "curves.png", compare_trials(paths, snapshot, [0, 1]))
    with Image.open(tmp_path / "curves.png") as image:
        picture = image.convert("RGB")
    panel = picture.crop((60, 60, 420, 300))  # of the reported score
    seen = [pixel for _, pixel in panel.getcolors(1 << 20) or [] if isinstance(pixel, tuple)]

    def is_there(wanted: tuple[int, int, int]) -> bool:
        return any(max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) < 20 for pixel in seen)

    assert [is_there(colour(n)) for n in range(3)] == [True, True, False]


def test_a_picture_must_be_a_png(paths: CampaignPaths, tmp_path: Path) -> None:
    comparison = compare_trials(paths, study(paths, make_trial(0), make_trial(1)), [0, 1])
    with pytest.raises(SpecError, match=r"ends in \.png"):
        save_curves(tmp_path / "curves.jpg", comparison)
