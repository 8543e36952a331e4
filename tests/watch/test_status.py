"""The state of a study on a screen of 80 columns, and as JSON."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

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
from tests.support.stored_study import store_study
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch import units
from vbot_campaign.watch.estimate import study_eta_s, trial_progress
from vbot_campaign.watch.program import program
from vbot_campaign.watch.status import list_studies, status_json, status_table, watch_status
from vbot_campaign.watch.summary import best_summary


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    monkeypatch.chdir(tmp_path)
    return CampaignPaths(Path("runs"))


@pytest.fixture
def stored(paths: CampaignPaths) -> Iterator[CampaignPaths]:
    store_study(paths)
    yield paths
    close_readers()


def shown(paths: CampaignPaths, snapshot: StudySnapshot, *, width: int = 80, max_rows: int | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    console.print(status_table(paths, snapshot, max_rows=max_rows))
    return stream.getvalue()


def row(text: str, trial: int) -> list[str]:
    return next(line.split() for line in text.splitlines() if re.match(rf"\s*{trial} +[a-z]+ +[\d-]", line))


def all_kinds() -> tuple:
    waiting = make_running(4, state=TrialState.WAITING, attempts=(), parts=None, reports={}, env_steps=0)
    return make_trial(0), make_pruned(1), make_failed(2), make_running(3), waiting


def test_no_line_is_longer_than_80_columns(paths: CampaignPaths) -> None:
    long_slot = make_attempt(ended=None, slot="cuda:11/share-3", number=12)
    wide = make_running(137, attempts=(long_slot,) * 12, env_steps_per_s=0.9)
    spec = make_spec(study="n" * 64, budget={"trials": 1000, "hours": 2400.5, "env_steps": 15_000_000_000})
    snapshot = make_snapshot(spec=spec, trials=(*all_kinds(), wide), reason="a long reason " * 20)
    write_study(paths, snapshot)
    for state in ("created", "running", "stopped", "finished"):
        lines = shown(paths, replace(snapshot, state=state)).splitlines()
        assert max(len(line) for line in lines) <= 80
    assert "137 " in shown(paths, snapshot)


def test_one_row_per_trial_says_what_it_does(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=all_kinds()))
    text = shown(paths, snapshot)
    assert row(text, 0)[1:6] == ["complete", "0.600", "50%", "75%", "80%"]
    assert row(text, 1)[1:3] == ["pruned", "0.200"]
    assert row(text, 2)[1:6] == ["failed", "-", "-", "-", "-"]
    running = row(text, 3)
    assert running[1:3] == ["running", "0.300"]
    # 450 000 env steps left at 1 000 per second.
    assert running[7:] == ["25%", "7m30s", "cpu:1", "1", "0s"]
    assert row(text, 4)[1] == "waiting"
    assert "1 complete, 1 pruned, 1 failed, 1 running, 1 waiting" in text
    assert "5 of 4 trials · 30m00s of 2h00m · 600k env steps" in text
    assert "best 0.600 (trial 0)" in text


def test_silence_is_the_age_of_the_last_line(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=(make_running(3),)))
    metrics = TrialPaths(paths.study("walk").root / str(snapshot.trials[0].folder)).metrics
    os.utime(metrics, (START.timestamp(), START.timestamp()))
    now = START + timedelta(minutes=3)
    assert status_json(paths, snapshot, now=now)["trials"][0]["silent_s"] == 180.0


def test_progress_of_a_running_trial_is_read_from_its_metrics(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=(make_running(0),)))
    stale = replace(snapshot.trials[0], env_steps=1, env_steps_per_s=1.0)
    progress = trial_progress(paths.study("walk"), snapshot, stale, datetime.now(UTC))
    assert (progress.env_steps, progress.env_steps_per_s, progress.eta_s) == (STEPS // 4, 1000.0, 450.0)


def test_a_worker_that_has_written_nothing_yet_has_no_estimate(paths: CampaignPaths) -> None:
    fresh = make_running(0, env_steps=0, env_steps_per_s=None, reports={}, parts=None)
    text = shown(paths, make_snapshot(trials=(fresh,)))
    assert row(text, 0)[1:3] == ["running", "-"]
    assert "no score yet" in text


@pytest.mark.parametrize(
    ("budget", "trials", "expected"),
    [
        # Two slots, 6 minutes per trial: four more trials after none is running.
        ({"trials": 5}, (make_trial(0),), 720.0),
        # One runs with 450 s left, three more of 360 s: 1530 s of work on two slots.
        ({"trials": 5}, (make_trial(0), make_running(1)), 765.0),
        # The last one alone: its own time, not half of it.
        ({"trials": 2}, (make_trial(0), make_running(1)), 450.0),
        # Half an hour is used; the clock runs out first.
        ({"trials": 500, "hours": 0.6}, (make_trial(0),), 360.0),
        # 100 000 of the env step budget left at 1 000 per second.
        ({"env_steps": STEPS + 100_000}, (make_trial(0), make_running(1)), 100.0),
        # Nothing has ended yet: 600 000 env steps at 1 000 per second for each of two, one has 450 s left.
        ({"trials": 2}, (make_running(0),), 525.0),
        ({"trials": 5}, (), None),
    ],
)
def test_time_left_for_the_study(
    paths: CampaignPaths, budget: dict[str, float], trials: tuple, expected: float | None
) -> None:
    snapshot = write_study(paths, make_snapshot(spec=make_spec(budget=budget), trials=trials))
    study = paths.study("walk")
    progress = [trial_progress(study, snapshot, trial, datetime.now(UTC)) for trial in snapshot.trials]
    assert study_eta_s(snapshot, progress) == (None if expected is None else pytest.approx(expected))
    assert study_eta_s(replace(snapshot, state="stopped"), progress) is None


def test_what_to_do_next_depends_on_the_state(paths: CampaignPaths) -> None:
    snapshot = make_snapshot()
    policy = "runs/walk/trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt"
    assert policy in shown(paths, replace(snapshot, state="finished")).splitlines()
    assert f"{program()} resume walk" in shown(paths, replace(snapshot, state="stopped"))
    assert "no trial has a policy" in shown(paths, make_snapshot(state="finished", trials=(make_failed(0),)))


def test_with_too_many_trials_the_unfinished_and_the_best_are_shown(paths: CampaignPaths) -> None:
    trials = tuple(make_trial(n, score=n / 100) for n in range(30))
    text = shown(paths, make_snapshot(trials=(*trials, make_running(30))), max_rows=3)
    assert [line.split()[0] for line in text.splitlines() if re.match(r"\s*\d+ +(complete|running) ", line)] == [
        "28",
        "29",
        "30",
    ]
    assert "28 more finished trials are not shown" in text


def test_bars_are_ascii_where_the_terminal_is(paths: CampaignPaths) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    Console(file=stream, width=80, force_terminal=False).print(status_table(paths, make_snapshot()))
    stream.seek(0)
    assert "========== 100%" in stream.read()


def test_json_is_plain_and_versioned(paths: CampaignPaths) -> None:
    trials = (*all_kinds(), make_trial(5, parts={"success_rate": float("nan")}, score=0.1))
    snapshot = write_study(paths, make_snapshot(trials=trials, supervisor={"host": "box", "pid": 7, "started": START}))
    content = status_json(paths, snapshot, now=START)
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert content["schema_version"] == 1
    assert content["time"] == content["supervisor"]["started"] == "2026-01-31T12:00:00Z"
    assert [trial["state"] for trial in content["trials"]][:4] == ["complete", "pruned", "failed", "running"]
    assert content["trials"][2]["score"] is None
    assert content["trials"][5]["parts"] == {"success_rate": None}
    assert content["best"] == {
        "trial": 0,
        "score": 0.6,
        "policy": "runs/walk/trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt",
    }


def test_summary_names_the_best_trial_and_three_commands(paths: CampaignPaths) -> None:
    snapshot = make_snapshot(state="finished", reason="all 4 trials are done", trials=(make_trial(0), make_pruned(1)))
    policy = "runs/walk/trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt"
    lines = best_summary(paths, snapshot).splitlines()
    assert lines[0] == "Study walk is finished (all 4 trials are done): 1 complete, 1 pruned."
    assert "Best trial 0: score 0.600" in lines
    assert lines[3].startswith("  success 50%, survival 75%, progress 80%, time to goal 6.2")
    assert "  ppo.learning_rate              0.0003" in lines
    assert f"  policy: {policy}" in lines
    assert lines[-4:] == [
        "Next:",
        f"  {program()} evaluate {policy}",
        f"  {program()} dashboard",
        f"  {program()} status walk",
    ]


def test_summary_of_a_stopped_study_says_first_how_to_go_on(paths: CampaignPaths) -> None:
    lines = best_summary(paths, make_snapshot(state="stopped", reason="Ctrl-C")).splitlines()
    assert lines[-3] == f"  {program()} resume walk"
    assert lines[-2].startswith(f"  {program()} evaluate runs/walk/")


def test_summary_without_a_complete_trial(paths: CampaignPaths) -> None:
    text = best_summary(paths, make_snapshot(state="stopped", trials=(make_failed(0),)))
    assert "No trial is complete yet" in text
    assert f"{program()} resume walk" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0s"), (59.6, "1m00s"), (250, "4m10s"), (3600, "1h00m"), (7500, "2h05m"), (273_600, "3d04h")],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.7, "1k"),
        (600_000, "600k"),
        (4_800_000, "4.8M"),
        (999_999_999, "1G"),
        (1.2e9, "1.2G"),
    ],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert units.count(number) == text


def test_a_finished_study_is_shown_once(stored: CampaignPaths) -> None:
    stream = io.StringIO()
    watch_status(stored, "walk", console=Console(file=stream, width=80, force_terminal=False))
    assert stream.getvalue().count("walk · finished: all 3 trials are done") == 1
    terminal = io.StringIO()
    watch_status(stored, "walk", console=Console(file=terminal, width=80, height=30, force_terminal=True))
    assert "finished" in terminal.getvalue()


def test_the_list_of_studies(stored: CampaignPaths, tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=False)
    console.print(list_studies(stored))
    assert "walk   finished  1 complete, 1 pruned, 1 failed  0.600" in stream.getvalue()
    console.print(list_studies(CampaignPaths(tmp_path / "empty")))
    assert "No studies in" in stream.getvalue()
