"""Learning curves: binned over env steps, rates weighted by episodes, hours without the gaps between attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.snapshots import progress_line
from vbot_campaign import fs
from vbot_campaign.exporters.curves import Curves, read_curves
from vbot_campaign.paths import TrialPaths


def write(folder: Path, lines: list[dict[str, Any]]) -> TrialPaths:
    """Write the progress lines of a trial."""
    fs.write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return TrialPaths(folder)


def line(iteration: int, **overrides: Any) -> dict[str, Any]:
    """Return the line of an iteration of a thousand env steps in 36 seconds."""
    return progress_line(iteration, iteration * 1000, timing={"env_steps_per_s": 27.0, "seconds": 36.0}, **overrides)


def test_a_short_training_has_one_point_per_iteration(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path, [line(1, kl=0.25), line(2), line(3, kl=0.5)]))

    assert curves.env_steps == (1000, 2000, 3000)
    assert curves.hours == pytest.approx((0.01, 0.02, 0.03))
    assert curves.values["kl"] == (0.25, None, 0.5)
    assert curves.values["term/torques"] == (-0.5, -1.0, -1.5)
    assert curves.values["speed"] == (27.0, 27.0, 27.0)


def test_a_long_training_is_averaged_over_even_stretches_of_env_steps(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path, [line(n, std=float(n)) for n in range(1, 101)]), points=10)

    assert curves.env_steps == tuple(range(10_000, 100_001, 10_000))
    assert curves.values["std"] == tuple(10.0 * n + 5.5 for n in range(10))
    assert curves.hours[-1] == pytest.approx(1.0)


def test_rates_are_weighted_by_the_episodes_that_finished(tmp_path: Path) -> None:
    lines = [
        line(1, episodes={"finished": 1, "success": 1, "length": 10}),
        line(2, episodes={"finished": 9, "success": 0, "fell_before": 9, "length": 90}),
        line(3, episodes={"finished": 0}),
    ]
    curves = read_curves(write(tmp_path, lines), points=1)

    assert curves.values["outcome/success_rate"] == curves.values["outcome/success"] == (0.1,)
    assert curves.values["outcome/survival_rate"] == pytest.approx((0.1,))
    assert curves.values["outcome/episode_length"] == (10.0,)


def test_a_stretch_without_a_finished_episode_has_no_outcome(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path, [line(1, episodes={"finished": 0}), line(2, episodes={"finished": 2.0})]))

    assert curves.values["outcome/success"] == (None, 0.0)


def test_lines_beyond_the_last_wanted_env_step_and_other_kinds_do_not_count(tmp_path: Path) -> None:
    evaluation = {"kind": "evaluation", "env_steps": 1500, "parts": {"success_rate": 1.0}}
    curves = read_curves(write(tmp_path, [line(1), evaluation, line(2), line(3)]), up_to=2500)

    assert curves.env_steps == (1000, 2000)


def test_a_line_without_most_of_its_parts_and_a_torn_one_are_no_error(tmp_path: Path) -> None:
    bare = {"kind": "progress", "env_steps": 500, "loss": None, "terms": None, "timing": None, "kl": "high"}
    folder = write(tmp_path, [bare, line(1, loss={"policy": None, "value": 2.0})])
    with folder.metrics.open("a") as file:
        file.write('{"kind":"progress","env_st')
    curves = read_curves(folder)

    assert curves.env_steps == (500, 1000)
    assert curves.values["loss/value"] == (None, 2.0)
    assert not {"loss/policy", "kl"} & set(curves.values)


def test_a_trial_without_metrics_has_empty_curves(tmp_path: Path) -> None:
    assert read_curves(TrialPaths(tmp_path / "nowhere")) == Curves()
