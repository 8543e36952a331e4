"""How long a study still takes, with worked numbers."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.snapshots import (
    START,
    STEPS,
    make_attempt,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_spec,
    make_trial,
    write_study,
)
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.snapshot import RungView, StudySnapshot, TrialState
from vbot_campaign.watch.estimate import expected_share, slot_speed, study_eta_s, trial_progress


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


def eta_s(paths: CampaignPaths, snapshot: StudySnapshot) -> float | None:
    study = paths.study("walk")
    return study_eta_s(
        snapshot, [trial_progress(study, snapshot, trial, datetime.now(UTC)) for trial in snapshot.trials]
    )


def pruned_at(number: int, share: float) -> object:
    """Return a trial that was pruned after a share of its env steps, at the speed of the complete ones."""
    steps = int(share * STEPS)
    attempt = make_attempt(ended=START + share * timedelta(minutes=6), last_env_step=steps)
    return make_pruned(number, env_steps=steps, attempts=(attempt,))


@pytest.mark.parametrize(
    ("budget", "trials", "expected"),
    [
        # Two slots, 6 minutes per trial: four more trials after none is running.
        ({"trials": 5}, (make_trial(0),), 720.0),
        # One runs with 450 s left, three more of 360 s: 1530 s of work on two slots.
        ({"trials": 5}, (make_trial(0), make_running(1)), 765.0),
        # The last one alone: its own time, not half of it.
        ({"trials": 2}, (make_trial(0), make_running(1)), 450.0),
        # One waits after a quarter: three quarters of 360 s, on one of two slots.
        ({"trials": 2}, (make_trial(0), make_running(1, state=TrialState.WAITING)), 135.0),
        # Half an hour is used; the clock runs out first.
        ({"trials": 500, "hours": 0.6}, (make_trial(0),), 360.0),
        # 100 000 of the env step budget left at 1 000 per second.
        ({"env_steps": STEPS + 100_000}, (make_trial(0), make_running(1)), 100.0),
        # Nothing has ended yet: 600 000 env steps at 1 000 per second for each of two, one has 450 s left.
        ({"trials": 2}, (make_running(0),), 525.0),
        ({"trials": 5}, (), None),
        # Four more after one complete trial and three that were pruned after a fifth of it: together with the
        # imaginary one (1 + 1 + 0.6) / 5 = 0.52 of 360 s each.
        ({"trials": 8}, (make_trial(0), *(pruned_at(n, 0.2) for n in (1, 2, 3))), 4 * 0.52 * 360.0 / 2),
    ],
)
def test_time_left_for_the_study(
    paths: CampaignPaths, budget: dict[str, float], trials: tuple, expected: float | None
) -> None:
    snapshot = write_study(paths, make_snapshot(spec=make_spec(budget=budget), trials=trials))
    assert eta_s(paths, snapshot) == (None if expected is None else pytest.approx(expected))
    assert eta_s(paths, replace(snapshot, state="stopped")) is None


def test_the_mercy_of_the_pruner_shows_as_soon_as_there_is_any() -> None:
    whole = tuple(make_trial(n) for n in range(4))
    assert expected_share(make_snapshot(trials=())) == 1.0
    assert expected_share(make_snapshot(trials=whole)) == 1.0
    # A failed trial says nothing of the pruner.
    assert expected_share(make_snapshot(trials=(*whole, make_failed(4)))) == 1.0
    # Five whole ones, one of them imaginary, and three halves.
    halves = tuple(make_pruned(n) for n in range(5, 8))
    assert expected_share(make_snapshot(trials=(*whole, *halves))) == pytest.approx(6.5 / 8)
    # Few that are paused at a rung ever go on.
    paused = RungView(0, "paused at rung 1", 500)
    waiting = tuple(replace(trial, state=TrialState.WAITING, rung=paused) for trial in halves)
    assert expected_share(make_snapshot(trials=(*whole, *waiting))) == pytest.approx(6.5 / 8)


def test_the_speed_counts_the_start_and_the_evaluation_of_the_last_trials() -> None:
    slow = make_attempt(ended=START + timedelta(minutes=60))
    trials = (make_trial(0, attempts=(slow,)), *(make_trial(n) for n in range(1, 21)))
    # 600 000 env steps in six minutes, although the training alone makes 2 000 per second; the oldest is forgotten.
    assert slot_speed(make_snapshot(trials=trials), []) == pytest.approx(STEPS / 360)


def test_progress_of_a_running_trial_is_read_from_its_metrics(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=(make_running(0),)))
    stale = replace(snapshot.trials[0], env_steps=1, env_steps_per_s=1.0)
    metrics = TrialPaths(paths.study("walk").root / str(stale.folder)).metrics
    os.utime(metrics, (START.timestamp(), START.timestamp()))
    progress = trial_progress(paths.study("walk"), snapshot, stale, START + timedelta(minutes=3))
    assert (progress.env_steps, progress.env_steps_per_s, progress.eta_s) == (STEPS // 4, 1000.0, 450.0)
    assert progress.silent_s == 180.0
