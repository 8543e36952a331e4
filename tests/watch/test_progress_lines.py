"""What a running study prints."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.snapshots import (
    STEPS,
    make_attempt,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_trial,
    write_study,
)
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.watch.progress_lines import ProgressLines, events, progress_line


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


def texts(earlier: StudySnapshot | None, later: StudySnapshot) -> list[str]:
    return [event.text + event.detail for event in events(earlier, later)]


def test_a_trial_is_told_from_start_to_end() -> None:
    nothing = make_snapshot(trials=())
    waiting = make_snapshot(trials=(make_running(0, state=TrialState.WAITING, attempts=()),))
    running = make_snapshot(trials=(make_running(0),))
    done = make_snapshot(trials=(make_trial(0),))
    assert texts(nothing, waiting) == []
    assert texts(waiting, running) == [
        "trial 0 started on cpu:1: learning_rate 0.0003, policy_hidden_layer_sizes [256, 128, 64], arrival_bonus 80"
    ]
    assert texts(running, running) == []
    assert texts(running, done) == [
        "trial 0 complete: score 0.600, the best so far (success 50%, survival 75%, progress 80%)"
    ]


def test_only_the_best_is_called_the_best() -> None:
    before = make_snapshot(trials=(make_trial(0), make_running(1)))
    after = make_snapshot(trials=(make_trial(0), make_trial(1, score=0.1)))
    assert texts(before, after) == ["trial 1 complete: score 0.100 (success 50%, survival 75%, progress 80%)"]


def test_pruned_and_failed_trials_say_why() -> None:
    before = make_snapshot(trials=(make_running(0), make_running(1)))
    after = make_snapshot(trials=(make_pruned(0), make_failed(1)))
    assert texts(before, after) == [
        "trial 0 pruned after 50% of its env steps, score 0.200: median",
        "trial 1 failed after 25% of its env steps: diverged: loss is not finite",
    ]


def test_a_second_attempt_goes_on() -> None:
    first = make_attempt(reason="killed", last_env_step=STEPS // 4)
    second = make_attempt(number=2, ended=None, slot="cpu:0", first_env_step=STEPS // 5)
    waiting = make_running(0, state=TrialState.WAITING, reason="killed by signal 9", attempts=(first,))
    before = make_snapshot(trials=(make_running(0),))
    between = make_snapshot(trials=(waiting,))
    after = make_snapshot(trials=(make_running(0, attempts=(first, second)),))
    assert texts(before, between) == ["trial 0 waits after 25% of its env steps: killed by signal 9"]
    assert texts(between, after) == ["trial 0 goes on at env step 120k on cpu:0, attempt 2"]


def test_an_adopted_worker_trains_on() -> None:
    supervisor = {"host": "box", "pid": 7, "started": datetime(2026, 1, 31, 13, tzinfo=UTC)}
    earlier = make_attempt(ended=None, started=datetime(2026, 1, 31, 12, 59, tzinfo=UTC))
    later = make_attempt(ended=None, started=datetime(2026, 1, 31, 13, 1, tzinfo=UTC))
    running = (make_running(0, attempts=(earlier,)), make_running(1, parameters={}, attempts=(later,)))
    assert texts(None, make_snapshot(trials=running, supervisor=supervisor)) == [
        "trial 0 trains on at env step 150k on cpu:0, its worker outlived the supervisor",
        "trial 1 started on cpu:0",
    ]


def test_at_the_start_finished_trials_are_no_news() -> None:
    assert texts(None, make_snapshot(trials=(make_trial(0), make_pruned(1)))) == []


def test_without_a_terminal_each_event_is_one_plain_line(paths: CampaignPaths) -> None:
    stream = io.StringIO()
    with ProgressLines(paths, Console(file=stream, width=80, force_terminal=False)) as lines:
        lines.update(make_snapshot(trials=(make_trial(0), make_running(1))))
        lines.update(make_snapshot(trials=(make_trial(0), make_pruned(1))))
    written = stream.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\dZ [a-z]", line) for line in written)
    assert [line[10:] for line in written] == [
        "study walk: 4 trials or 2 h on cpu:0, cpu:1, goes on after 1 complete",
        "trial 1 started on cpu:1: learning_rate 0.0003, policy_hidden_layer_sizes [256, 128, 64], arrival_bonus 80",
        "trial 1 pruned after 50% of its env steps, score 0.200: median",
    ]


def test_on_a_terminal_the_table_stays_below_the_events(paths: CampaignPaths) -> None:
    stream = io.StringIO()
    snapshot = write_study(paths, make_snapshot(trials=(make_running(0),)))
    with ProgressLines(paths, Console(file=stream, width=80, height=30, force_terminal=True)) as lines:
        lines.update(snapshot)
        lines.update(replace(snapshot, trials=(make_pruned(0),)))
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "trial 0 pruned after 50% of its env steps" in written
    last_table = written[written.rindex("walk · running") :]
    assert "pruned" in last_table
    assert "0.200" in last_table


def test_the_heartbeat_says_how_far_the_running_trials_are(paths: CampaignPaths) -> None:
    snapshot = write_study(paths, make_snapshot(trials=(make_trial(0), make_running(1))))
    line = progress_line(paths, snapshot, datetime.now(UTC))
    # One runs with 450 s left, two more of six minutes each: 1170 s of work on two slots.
    assert line == "1 trial done; trial 1 25% (0.300); about 9m45s left"


def test_warnings_are_said_once_and_only_when_the_study_has_begun(paths: CampaignPaths) -> None:
    output = io.StringIO()
    lines = ProgressLines(paths, Console(file=output, width=80), warnings=["WARNING: a bent yardstick"])
    assert output.getvalue() == ""
    for _ in range(2):
        lines.update(make_snapshot(trials=()))
    assert output.getvalue().count("WARNING: a bent yardstick") == 1


LEFT = """
import os, sys
from pathlib import Path
from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor import run_study
from vbot_campaign.watch.progress_lines import ProgressLines
paths = CampaignPaths(Path(sys.argv[1]))
with ProgressLines(paths) as lines:
    outcome = run_study(paths, study_spec(), worker_command=TOY_COMMAND, slots=cpu_slots(), observers=(lines,))
print("said to nobody")
print(outcome.reason, file=sys.stderr)
"""


def test_a_study_goes_on_when_nobody_reads_it_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.1")  # lines are printed for seconds after the reader has left
    with subprocess.Popen(
        [sys.executable, "-c", LEFT, tmp_path / "runs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as study:
        assert study.stdout is not None
        assert study.stderr is not None
        assert "study toy: 4 trials" in study.stdout.readline()
        study.stdout.close()
        said = study.stderr.read()
    assert (study.returncode, said) == (0, "all trials have ended\n")
