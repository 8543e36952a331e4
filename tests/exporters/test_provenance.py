"""A trial's summary says what really ran, and names every difference from what was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.snapshots import make_attempt, make_running, make_snapshot, make_spec, make_trial, write_study
from vbot_campaign import fs
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.exporters.verify import verify_snapshot
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.study.snapshot import StudySnapshot, TrialView

VERSIONS = {"vbot_campaign": "0.1.0", "torch": "2.9.0"}


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


def meta(trial: TrialView, **overrides: Any) -> dict[str, Any]:
    """Return the ``experiment_meta.json`` of a worker that trained what it was given."""
    training = resolve_training(make_spec(), trial.parameters)
    environment = get_environment(training.environment)
    values = {
        "attempt": 1,
        "host": "box",
        "device": "cpu",
        "versions": VERSIONS,
        "git": {"commit": "ab" * 20, "dirty": False},
        "env_name": training.environment,
        "physics": "mujoco",
        "trainer": "builtin",
        "seed": 42,
        "evaluation_seed": training.evaluation.seed,
        "num_envs": 256,
        "env_steps": training.env_steps,
        "rl_overrides": training.ppo.model_dump(mode="json"),
        "reward_scales": environment.resolve_rewards(training.reward),
        "env_overrides": environment.resolve_settings(training.env),
        "earlier_attempts": [],
    }
    return values | overrides


def summary(paths: CampaignPaths, trial: TrialView, written: dict[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a trial whose worker wrote ``written``; `verify` agrees with it."""
    snapshot = _study(paths, trial, written)
    MirrorExporter(paths, "walk").update(snapshot)
    if trial.state.is_finished:
        assert [found for found in verify_snapshot(paths, snapshot) if found.kind == "mirror"] == []
    content: dict[str, Any] = yaml.safe_load(paths.study("walk").experiment(0).read_text())
    return content


def _study(paths: CampaignPaths, trial: TrialView, written: dict[str, Any] | None) -> StudySnapshot:
    snapshot = write_study(paths, make_snapshot(trials=(trial,)))
    if written is not None:
        fs.write_json(_folder(paths, trial).meta, written)
    return snapshot


def _folder(paths: CampaignPaths, trial: TrialView) -> TrialPaths:
    return TrialPaths(paths.study("walk").root / str(trial.folder))


def test_a_trial_that_ran_as_given_has_no_warning(paths: CampaignPaths) -> None:
    content = summary(paths, make_trial(0), meta(make_trial(0)))
    assert content["warnings"] == []
    assert content["config"]["checked"] is True
    assert content["config"]["hyperparameters"]["learning_rate"] == 3.0e-4
    assert content["config"]["env_settings"]["spawn_outer_radius"] == 4.0
    assert content["ran_on"]["versions"] == VERSIONS
    assert content["ran_on"]["git"] == {"commit": "ab" * 20, "dirty": False}
    assert content["attempts"][0]["duration_hours"] == content["execution"]["duration_hours"] == 0.1


def test_every_difference_is_named_and_what_ran_is_shown(paths: CampaignPaths) -> None:
    trial = make_trial(0)
    ran = meta(trial, physics="motrixsim", seed=7)
    ran["rl_overrides"]["learning_rate"] = 1e-3
    ran["reward_scales"] = {**ran["reward_scales"], "alive_bonus": 5.0}
    content = summary(paths, trial, ran)
    assert content["warnings"] == [
        "ppo.learning_rate: ran with 0.001 (experiment_meta.json), was given 0.0003",
        "reward.alive_bonus: ran with 5 (experiment_meta.json), was given 0.15",
        "physics: ran with 'motrixsim' (experiment_meta.json), was given 'mujoco'",
        "seed: ran with 7 (experiment_meta.json), was given 42",
    ]
    assert content["config"]["hyperparameters"]["learning_rate"] == 1e-3
    assert content["results"]["reward_scales"]["alive_bonus"] == 5.0


def test_uncommitted_changes_are_named(paths: CampaignPaths) -> None:
    content = summary(paths, make_trial(0), meta(make_trial(0), git={"commit": "ab" * 20, "dirty": True}))
    assert content["warnings"] == ["the program's files had changes that are not in commit abababababab"]


def test_attempts_that_ran_with_something_else_are_named(paths: CampaignPaths) -> None:
    trial = make_trial(0, attempts=(make_attempt(number=1), make_attempt(number=2)))
    first = {"attempt": 1, "host": "box", "device": "cpu", "versions": {**VERSIONS, "torch": "2.8.0"}, "git": None}
    content = summary(paths, trial, meta(trial, attempt=2, git=None, earlier_attempts=[first], host="other"))
    assert content["warnings"] == [
        "attempt 2 ran with another torch (2.9.0, before 2.8.0), another host (other, before box)"
    ]


def test_fewer_environments_after_memory_ran_out_are_said_and_are_no_difference(paths: CampaignPaths) -> None:
    two = (make_attempt(number=1), make_attempt(number=2, ended=None, reason=None, exit_code=None))
    trial = make_running(0, attempts=two, num_envs=128)
    content = summary(paths, trial, meta(trial, num_envs=512))  # of attempt 1; attempt 2 has just been started
    assert content["warnings"] == ["memory ran out: it went on with 128 environments"]


def test_what_the_worker_complained_about_is_a_warning_once(paths: CampaignPaths) -> None:
    trial = make_trial(0)
    snapshot = _study(paths, trial, meta(trial))
    for level, cause in (("warning", "physics"), ("info", "hello"), ("warning", "physics")):
        fs.append_line(
            _folder(paths, trial).metrics, {"kind": "alert", "level": level, "cause": cause, "message": "unstable"}
        )
    with _folder(paths, trial).metrics.open("a") as file:
        file.write('{"kind":"alert","level":"err')
    MirrorExporter(paths, "walk").update(snapshot)
    assert yaml.safe_load(paths.study("walk").experiment(0).read_text())["warnings"] == ["physics: unstable"]


@pytest.mark.parametrize("text", [None, '{"torn', "[]", json.dumps({"versions": 3, "git": "x", "rl_overrides": []})])
def test_a_missing_or_damaged_file_stops_no_summary(paths: CampaignPaths, text: str | None) -> None:
    trial = make_trial(0)
    snapshot = _study(paths, trial, None)
    if text is not None:
        _folder(paths, trial).meta.write_text(text)
    MirrorExporter(paths, "walk").update(snapshot)
    content = yaml.safe_load(paths.study("walk").experiment(0).read_text())
    assert content["config"]["hyperparameters"]["learning_rate"] == 3.0e-4
    assert content["warnings"] == []


def test_a_trainer_is_named(paths: CampaignPaths) -> None:
    spec = make_spec(trainer={"command": ["python", "mine.py", "--fast"]})
    MirrorExporter(paths, "walk").update(write_study(paths, make_snapshot(spec=spec)))
    for path in (paths.study("walk").config(0), paths.study("walk").experiment(0)):
        content = yaml.safe_load(path.read_text())
        content = content.get("config", content)
        assert (content["trainer"], content["algorithm"]) == ("python mine.py --fast", "python mine.py --fast")
