"""`best` and `summary`: what a person who takes a study over must know."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
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
    make_trial,
)
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.annotations import Annotations
from vbot_campaign.study.snapshot import AlertView, AuditView, StudySnapshot
from vbot_campaign.watch.handover import best_checkpoint, best_page, summary_page
from vbot_campaign.watch.page import render_markdown, render_text

PATHS = CampaignPaths(Path("runs"))
POLICY = "runs/walk/trials/0001_20260131T120000Z_PPO/checkpoints/best_agent.pt"


def finished() -> StudySnapshot:
    """Return a study of five trials; trial 1 is the best, trial 0 needed two attempts."""
    killed = make_attempt(reason="killed by signal 9", last_env_step=STEPS // 2)
    second = make_attempt(number=2, started=START + timedelta(minutes=10), ended=START + timedelta(minutes=16))
    trials = (
        make_trial(0, attempts=(killed, second)),
        make_trial(1, score=0.7),
        make_pruned(2),
        make_failed(3),
        make_failed(4),
    )
    return make_snapshot(trials=trials, state="finished", reason="all trials are done", env_steps_used=1_800_000)


def summary(snapshot: StudySnapshot, annotations: Annotations | None = None) -> str:
    text = render_text(summary_page(PATHS, snapshot, annotations or Annotations()))
    assert [line for line in text.splitlines() if len(line) > 80 and "runs/" not in line] == []
    return text


def test_the_summary_of_a_finished_study() -> None:
    text = summary(finished())
    assert text.startswith(
        "walk · finished (all trials are done)\n  2 complete, 1 pruned, 2 failed; created 2026-01-31"
    )
    assert "Best: trial 1, score 0.700: success 50%" in text
    assert f"  {POLICY}" in text.splitlines()
    assert "score = 0.6 success_rate + 0.4 survival_rate" in " ".join(text.split())
    assert "1e-05 .. 0.001" in text
    assert [line.split()[:5] for line in text.splitlines() if line.startswith(("  0 ", "  1 "))] == [
        ["1", "50%", "75%", "80%", "0.700"],
        ["0", "50%", "75%", "80%", "0.600"],
    ]
    assert "  - trial 3, 4: diverged: loss is not finite" in text.splitlines()
    assert "  - 1 attempt followed by another: killed by signal 9" in text.splitlines()
    # Six attempts of six minutes; the pruned trial was spared half of its 600k.
    assert "30m00s with a supervisor, 36m00s of training on all slots together, 1.8M env" in text
    assert "pruning saved 300k env steps (14% of what 5 trials take)" in " ".join(text.split())
    assert "resume" not in text


def test_the_summary_of_a_running_study() -> None:
    text = summary(make_snapshot(trials=(make_running(0),)))
    assert "No trial is complete yet." in text
    assert "Top" not in text
    assert text.splitlines()[-1].endswith(" status walk")


def test_a_stopped_study_is_gone_on_with() -> None:
    text = summary(replace(finished(), state="stopped", reason="asked to stop"))
    assert any(line.endswith(" resume walk") for line in text.splitlines())


def test_notes_tags_alerts_and_the_audit_are_in_it() -> None:
    alerts = tuple(AlertView("2026-01-31T12:34:56.000Z", "warning", "x", f"Number {n}.", trial=n) for n in range(12))
    audit = AuditView("2026-01-31T12:00:00Z", ("Standing still pays more.",), 8, 2, 1.0)
    annotations = Annotations(notes={1: "Limps.\n\nLeft."}, tags={0: ("slow",), 1: ("good gait",)})
    text = summary(replace(finished(), alerts=alerts, audit=audit), annotations)
    assert "  - trial 0: [slow]\n  - trial 1: [good gait] Limps. Left.\n" in text
    assert "Alerts (the last 10)\n  - audit of the reward: Standing still pays more.\n" in text
    assert "  - warning, 2026-01-31 12:34: trial 11: Number 11." in text
    assert "Number 1." not in text
    assert "good gait" in next(line for line in text.splitlines() if line.startswith("  1 "))


def test_the_summary_in_markdown() -> None:
    text = render_markdown(summary_page(PATHS, finished(), Annotations()))
    assert text.startswith("# walk · finished (all trials are done)\n\n")
    assert "\n| # | succ | surv | prog | score | tags; farthest from the first trial |\n| --- | ---: | " in text
    assert f"```\n{POLICY}\n```" in text


def test_best_says_how_to_use_its_policy() -> None:
    text = render_text(best_page(PATHS, finished()))
    assert text.startswith("walk · best is trial 1, score 0.700, of 2 complete, 1 pruned, 2 failed")
    assert best_checkpoint(PATHS, finished()).as_posix() == POLICY
    assert any(line.endswith(f" checkpoints export {POLICY}") for line in text.splitlines())
    assert any(line.endswith(" evaluate runs/walk/trials/0001_20260131T120000Z_PPO") for line in text.splitlines())
    assert "warm_start: {study: walk}" in text


def test_without_a_complete_trial_or_its_policy_there_is_none() -> None:
    with pytest.raises(StudyError, match=r"no trial is complete yet \(1 running\)"):
        best_checkpoint(PATHS, make_snapshot(trials=(make_running(0),)))
    with pytest.raises(StudyError, match="trial 0 of study 'walk': its policy is not on disk any more"):
        best_page(PATHS, make_snapshot(trials=(make_trial(0, checkpoints=()),)))
