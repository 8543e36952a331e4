"""The state of a study on a screen of 80 columns."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
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
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.snapshot import AlertView, StudySnapshot, TrialState
from vbot_campaign.watch import units
from vbot_campaign.watch.program import program
from vbot_campaign.watch.screen import FINISHED_SHOWN, Room, fit
from vbot_campaign.watch.status import status_table
from vbot_campaign.watch.summary import best_summary

ALERT = AlertView(
    time="2026-01-31T12:34:56.000Z",
    level="warning",
    cause="collapse",
    message="its score fell from 0.41 to 0.12",
    advice="keep its best checkpoint and lower ppo.learning_rate",
    trial=3,
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    monkeypatch.chdir(tmp_path)
    return CampaignPaths(Path("runs"))


def shown(
    paths: CampaignPaths,
    snapshot: StudySnapshot,
    *,
    width: int = 80,
    height: int | None = None,
    now: datetime | None = None,
) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    console.print(status_table(paths, snapshot, now=now, height=height))
    return stream.getvalue()


def row(text: str, trial: int) -> list[str]:
    return next(line.split() for line in text.splitlines() if re.match(rf"\s*{trial} +(\w+:\d|[a-z]{{6,}}) ", line))


def all_kinds() -> tuple:
    waiting = make_running(4, state=TrialState.WAITING, reason="killed", attempts=(), reports={}, env_steps=0)
    return make_trial(0), make_pruned(1), make_failed(2), make_running(3), waiting


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("height", [8, 24, 50])
def test_it_stays_on_the_screen(paths: CampaignPaths, width: int, height: int) -> None:
    long_slot = make_attempt(ended=None, slot="gpu:11.3", number=12)
    wide = [make_running(100 + n, attempts=(long_slot,) * 12, env_steps_per_s=0.9) for n in range(16)]
    spec = make_spec(study="n" * 64, budget={"trials": 1000, "hours": 2400.5, "env_steps": 15_000_000_000})
    trials = (*all_kinds(), *wide, *(make_trial(200 + n) for n in range(40)))
    snapshot = make_snapshot(spec=spec, trials=trials, reason="a long reason " * 20, alerts=(ALERT,))
    for state in ("created", "running", "stopped", "finished"):
        lines = shown(paths, replace(snapshot, state=state), width=width, height=height).splitlines()
        assert max(len(line) for line in lines) <= width
        assert len(lines) <= height
        assert any(re.match(r" *3 +cpu:1", line) for line in lines), "the running trials are shown first"


def test_a_running_trial_is_told_in_two_lines(paths: CampaignPaths) -> None:
    spec = make_spec(pruner={"name": "median", "startup_trials": 2})
    curve = {STEPS // 8: 0.1, STEPS // 4: 0.3}
    done = [make_trial(n, reports={STEPS // 4: score}) for n, score in enumerate((0.1, 0.2, 0.6))]
    running = make_running(3, reports=curve, parts={"success_rate": 0.125})
    snapshot = write_study(paths, make_snapshot(spec=spec, trials=(*done, running)))
    written = TrialPaths(paths.study("walk").root / str(snapshot.trials[3].folder)).metrics
    os.utime(written, (START.timestamp(), START.timestamp()))
    text = shown(paths, snapshot, width=120, now=START)
    # 450 000 env steps left at 1 000 per second.
    assert row(text, 3) == ["3", "cpu:1", "━━━━━" + 15 * "┄", "25%", "0.300", "12%", "-", "-", "7m30s", "1", "0s", "▁█"]
    assert "rank 2 of 4, peak 0.100 above the median (0.200) · 1k steps/s · success 12%" in text


def test_what_waits_says_why_and_what_ended_how(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=all_kinds()))
    text = shown(paths, snapshot)
    assert row(text, 4)[1] == "waiting"
    assert "    killed\n" in text
    assert row(text, 0) == ["0", "complete", "0.600", "50%", "75%", "80%", "━━━━━━━━━━", "100%", "1", "6m00s"]
    assert row(text, 1)[1:3] == ["pruned", "0.200"]
    assert row(text, 2)[1:6] == ["failed", "-", "-", "-", "-"]
    assert "1 complete, 1 pruned, 1 failed, 1 running, 1 waiting" in text
    assert "5 of 4 trials · 30m00s of 2h00m · 600k env steps" in text
    assert "best 0.600 (trial 0)" in text


def test_a_trial_took_the_time_in_which_it_was_trained_and_not_the_night_between(paths: CampaignPaths) -> None:
    begun = START + timedelta(hours=9)
    attempts = (
        make_attempt(reason="interrupted"),
        make_attempt(number=2, started=begun, ended=begun + timedelta(minutes=2)),
    )
    trial = make_trial(0, attempts=attempts, ended=begun + timedelta(minutes=2))
    text = shown(paths, write_study(paths, make_snapshot(trials=(trial,))))
    assert row(text, 0)[-2:] == ["2", "8m00s"]


def test_slots_are_shown_with_their_trial(paths: CampaignPaths) -> None:
    lines = shown(paths, make_snapshot(trials=(make_running(3),))).splitlines()
    assert re.match(r"cpu:0 +free +- +- .*CPU, \d+ core", next(line for line in lines if line.startswith("cpu:0")))
    assert re.match(r"cpu:1 +3 ", next(line for line in lines if line.startswith("cpu:1")))


def test_the_last_alert_stands_on_top_with_what_to_do(paths: CampaignPaths) -> None:
    text = shown(paths, make_snapshot(alerts=(replace(ALERT, message="old"), ALERT)))
    assert "warning 12:34Z trial 3: its score fell from 0.41 to 0.12\n" in text
    assert "  → keep its best checkpoint and lower ppo.learning_rate\n" in text
    assert "old" not in text
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
    console.print(status_table(paths, make_snapshot(alerts=(replace(ALERT, level="error"),))))
    assert "\x1b[1;31merror" in stream.getvalue()


def test_news_of_an_earlier_supervisor_is_not_shown(paths: CampaignPaths) -> None:
    stopped = replace(ALERT, level="info", cause="stopped", message="stopped by SIGINT", trial=None)
    live = {"host": "box", "pid": 7, "started": START + timedelta(hours=1)}
    assert "stopped by SIGINT" in shown(paths, make_snapshot(alerts=(ALERT, stopped), state="stopped"))
    later = shown(paths, make_snapshot(alerts=(ALERT, stopped), supervisor=live))
    assert "stopped by SIGINT" not in later
    assert ALERT.message in later, "a warning stays"


def test_silence_turns_from_green_to_red(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=(make_running(3),)))
    metrics = TrialPaths(paths.study("walk").root / str(snapshot.trials[0].folder)).metrics
    os.utime(metrics, (START.timestamp(), START.timestamp()))
    for seconds, colour in ((3, "32m3s"), (70, "33m1m10s"), (400, "31m6m40s")):
        stream = io.StringIO()
        console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
        console.print(status_table(paths, snapshot, now=START + timedelta(seconds=seconds)))
        assert colour in stream.getvalue()


def test_a_worker_that_has_written_nothing_yet_has_no_estimate(paths: CampaignPaths) -> None:
    fresh = make_running(0, env_steps=0, env_steps_per_s=None, reports={}, parts=None)
    text = shown(paths, make_snapshot(trials=(fresh,)))
    assert "no score yet" in text
    assert "starts" in text


def test_what_to_do_next_depends_on_the_state(paths: CampaignPaths) -> None:
    snapshot = make_snapshot()
    policy = "runs/walk/trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt"
    assert policy in shown(paths, replace(snapshot, state="finished")).splitlines()
    stopped = replace(snapshot, state="stopped", reason="its supervisor is gone; resume it", slots=())
    text = shown(paths, stopped)
    assert "walk · stopped: its supervisor is gone; resume it" in text
    assert f"continue with: {program()} resume walk" in text
    assert "no trial has a policy" in shown(paths, make_snapshot(state="finished", trials=(make_failed(0),)))


def test_of_many_finished_trials_the_best_are_shown_and_the_rest_counted(paths: CampaignPaths) -> None:
    trials = tuple(make_trial(n, score=n / 100) for n in range(30))
    text = shown(paths, make_snapshot(trials=(*trials, make_pruned(30, score=0.9))))
    numbers = [line.split()[0] for line in text.splitlines() if re.match(r" *\d+  (complete|pruned)", line)]
    assert numbers == [str(n) for n in range(29, 29 - FINISHED_SHOWN, -1)]
    assert "21 more finished trials are not shown" in text


def test_a_wide_screen_shows_the_parameters(paths: CampaignPaths) -> None:
    assert "learning_rate" not in shown(paths, make_snapshot())
    assert "learning_rate 0.0003, policy_hidden_layer_sizes [256, 128, 64]" in shown(paths, make_snapshot(), width=140)


def test_it_is_ascii_where_the_terminal_is(paths: CampaignPaths) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    snapshot = make_snapshot(trials=(*all_kinds(), make_running(5, reports={1: 0.0, 2: 0.5, 3: 1.0})), alerts=(ALERT,))
    Console(file=stream, width=80, force_terminal=False).print(status_table(paths, snapshot))
    stream.seek(0)
    text = stream.read()
    assert "========== 100%" in text
    assert "_=#" in text
    assert "  > keep its best checkpoint" in text


ALL = Room(slots=True, details=True, unfinished=2, finished=5)


@pytest.mark.parametrize(
    ("height", "room"),
    [
        (None, ALL),
        # 4 of the header, 4 of slots, 6 of running trials, 8 of finished ones: titles and an empty line each.
        (22, ALL),
        (20, replace(ALL, finished=3)),
        (18, replace(ALL, details=False, finished=3)),
        (16, replace(ALL, slots=False, finished=3)),
        (14, Room(slots=False, details=False, unfinished=2, finished=3)),
        (12, Room(slots=False, details=True, unfinished=2, finished=0)),
        (9, Room(slots=False, details=False, unfinished=2, finished=0)),
        (8, Room(slots=False, details=False, unfinished=1, finished=0)),
    ],
)
def test_what_finds_room(height: int | None, room: Room) -> None:
    assert fit(height, fixed=4, slots=2, unfinished=2, finished=5) == room


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
