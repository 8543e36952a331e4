"""`show` tells all there is to know of a trial, whatever has become of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.snapshots import (
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
from vbot_campaign import fs
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.annotations import Annotations
from vbot_campaign.study.snapshot import AlertView, StudySnapshot, TrialState, TrialView
from vbot_campaign.watch.page import render_markdown, render_text
from vbot_campaign.watch.trial_story import trial_story


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    monkeypatch.chdir(tmp_path)
    return CampaignPaths(Path("runs"))


def study(paths: CampaignPaths, *trials: TrialView, **overrides: Any) -> StudySnapshot:
    return write_study(paths, make_snapshot(trials=trials, **overrides))


def told(paths: CampaignPaths, snapshot: StudySnapshot, trial: int = 0, annotations: Annotations | None = None) -> str:
    text = render_text(trial_story(paths, snapshot, trial, annotations))
    wide = [line for line in text.splitlines() if len(line) > 80 and "runs/" not in line]
    assert wide == []
    return text


def section(text: str, title: str) -> list[str]:
    """Return the lines under a heading."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start:end]


def test_a_complete_trial(paths: CampaignPaths) -> None:
    text = told(paths, study(paths, make_trial(0, score=0.7), make_trial(1)), trial=1)
    assert text.startswith(
        "walk · trial 1 · complete: finished\n  score 0.600 (rank 2 of 2 complete), 600k of 600k env"
    )
    assert [line.split() for line in section(text, "Score, by the evaluation")][1:3] == [
        ["success", "50%", "0.6", "x", "0.500", "=", "0.300"],
        ["survival", "75%", "0.4", "x", "0.750", "=", "0.300"],
    ]
    assert section(text, "Score over training")[-1] == "  peak 0.500 at 600k, last 0.500 at 600k env steps"
    # The twelve iterations' torques term is -iteration / 2; the last ten have a mean of 7.5.
    assert ["torques", "-3.7500", "-1e-05"] in [line.split() for line in section(text, "Reward per step")]
    run = "runs/walk/trials/0001_20260131T120000Z_PPO"
    assert f"  {run}" in section(text, "Files")
    assert any(line.endswith(f" evaluate {run}") for line in section(text, "Use its policy"))
    assert "Warnings" not in text


def test_parameters_are_measured_from_the_first_trial(paths: CampaignPaths) -> None:
    space = {
        "ppo": {
            "learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-3, "prior": 1e-3},
            "policy_hidden_layer_sizes": {
                "type": "categorical",
                "choices": [[128, 64], [256, 128]],
                "prior": [128, 64],
            },
            "rollouts": {"type": "choice", "values": [16, 24, 32], "prior": 24},
        }
    }
    point = {"ppo.learning_rate": 1e-4, "ppo.policy_hidden_layer_sizes": [256, 128], "ppo.rollouts": 24}
    text = told(paths, study(paths, make_trial(0, parameters=point), spec=make_spec(search_space=space, fixed={})))
    assert [line.split()[-1] for line in section(text, "Parameters")[1:]] == ["-50%", "other", "="]


def test_each_attempt_has_a_row(paths: CampaignPaths) -> None:
    killed = make_attempt(
        last_env_step=STEPS // 2, reason="killed by signal 9, and whatever else there is to say about it"
    )
    trial = make_trial(0, attempts=(killed, make_attempt(number=2, first_env_step=STEPS // 2, memory_peak_mb=None)))
    rows = [line.split() for line in section(told(paths, study(paths, trial)), "Attempts")]
    assert rows[1][-5:] == ["12:00", "6m00s", "0-300k", "0", "512"]
    assert len(rows) > 3  # the reason of the first takes more than a line
    assert rows[-1][-5:] == ["12:00", "6m00s", "300k-600k", "0", "-"]


def test_a_running_trial_shows_what_there_is(paths: CampaignPaths) -> None:
    text = told(paths, study(paths, make_running(0)))
    assert "walk · trial 0 · running: attempt 1 on cpu:1" in text
    assert "no score, 150k of 600k env steps, 1 attempt" in text
    assert "at work" in section(text, "Attempts")[1]
    assert section(text, "Score, by the training episodes")
    assert "Use its policy" not in text


def test_a_trial_that_waits_has_only_its_parameters(paths: CampaignPaths) -> None:
    values: dict[str, Any] = {
        "state": TrialState.WAITING,
        "reason": "waits for a slot",
        "folder": None,
        "attempts": (),
        "reports": {},
    }
    text = told(paths, study(paths, make_running(0, **values, parts=None, env_steps=0, started=None)))
    assert "no worker has written yet what it runs with" in text
    assert "ppo.learning_rate" in text
    assert "Attempts" not in text


@pytest.mark.parametrize("make", [make_failed, make_pruned])
def test_other_ends_say_their_reason(paths: CampaignPaths, make: Any) -> None:
    trial = make(0)
    text = told(paths, study(paths, trial))
    assert f"{trial.state.value}: {trial.reason}" in text
    assert ("score 0.200" in text) is (trial.state is TrialState.PRUNED)


def test_warnings_notes_and_tags_are_told(paths: CampaignPaths) -> None:
    alert = AlertView("2026-01-31T12:00:00Z", "warning", "collapse", "The score fell.", "Lower the rate.", trial=0)
    other = replace(alert, message="Another trial's.", trial=1)
    snapshot = study(paths, make_trial(0), alerts=(alert, other))
    folder = TrialPaths(paths.study("walk").root / str(snapshot.trials[0].folder))
    fs.write_json(folder.meta, {"attempt": 1, "seed": 7, "host": "box", "device": "cpu", "versions": {"torch": "2.9"}})
    annotations = Annotations(notes={0: "Limps.\n\nLeft side."}, tags={0: ("keep", "slow")})
    text = told(paths, snapshot, annotations=annotations)
    assert section(text, "Warnings") == [
        "  - seed: ran with 7 (experiment_meta.json), was given 42",
        "  - warning: The score fell. Lower the rate.",
    ]
    assert "  on cpu of box, torch 2.9" in text
    assert "  tags: keep, slow" in text
    assert "Note\n  Limps.\n\n  Left side." in text


def test_markdown_has_the_same_sections(paths: CampaignPaths) -> None:
    text = render_markdown(trial_story(paths, study(paths, make_trial(0)), 0))
    assert text.startswith("# walk · trial 0 · complete: finished")
    assert "\n## Attempts\n\n| # | where | ended because |" in text


def test_a_trial_that_is_not_there_is_named(paths: CampaignPaths) -> None:
    with pytest.raises(StudyError, match="trial 5: study 'walk' has no such trial; it has 0 to 0"):
        trial_story(paths, study(paths, make_trial(0)), 5)
    with pytest.raises(StudyError, match="it has none yet"):
        trial_story(paths, study(paths), 0)
