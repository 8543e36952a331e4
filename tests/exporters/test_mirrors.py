"""Mirrors say what the database says, and a finished trial is not written again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.snapshots import (
    PARTS,
    STEPS,
    make_attempt,
    make_checkpoint,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_spec,
    make_trial,
    progress_line,
    write_study,
)
from vbot_campaign import fs
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.training import PpoSettings
from vbot_campaign.study.snapshot import StudySnapshot, TrialState


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture
def study(paths: CampaignPaths) -> StudyPaths:
    return paths.study("walk")


@pytest.fixture
def snapshot(paths: CampaignPaths) -> StudySnapshot:
    trials = (make_trial(0), make_pruned(1), make_failed(2), make_running(3))
    return write_study(paths, make_snapshot(trials=trials))


def export(paths: CampaignPaths, snapshot: StudySnapshot) -> None:
    MirrorExporter(paths, "walk").update(snapshot)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def test_every_mirror_names_its_study_and_version(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    files = [study.automl_state, study.registry, study.index]
    files += [path(n) for n in range(4) for path in (study.config, study.experiment)]
    assert sorted(study.root.rglob("*.yaml")) == sorted(files)
    for file in files:
        assert file.read_text(encoding="utf-8").startswith("# A mirror of study 'walk'")
        content = load(file)
        assert content["schema_version"] == 1
        assert content["study"] == "walk"


def test_automl_state_keeps_the_names_that_people_read(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    state = load(study.automl_state)
    assert (state["automl_id"], state["status"], state["mode"]) == ("walk", "running", "hp-search")
    assert (state["current_phase"], state["current_stage"], state["current_iteration"]) == ("hp_search", "walk", 3)
    assert (state["start_time"], state["elapsed_hours"], state["budget_hours"]) == ("2026-01-31T12:00:00Z", 0.5, 2.0)
    assert state["curriculum_progress"] == {"walk": "in_progress"}
    assert state["current_hp_config"]["policy_hidden_layer_sizes"] == [256, 128, 64]
    assert state["current_reward_config"] == {"arrival_bonus": 80.0}
    best = state["best_results"]["walk"]
    assert best["checkpoint"] == "trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt"
    assert best["hp_config"]["lambda_param"] == 0.9  # fixed in the study file: what was used, not a default
    assert best["hp_config"]["ratio_clip"] == PpoSettings().ratio_clip  # not named in the study file
    assert best["env_config"] == {"spawn_outer_radius": 4.0}


def test_history_has_failures_without_a_score(paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot) -> None:
    export(paths, snapshot)
    history = load(study.automl_state)["hp_search_history"]
    assert [(row["trial"], row["state"], row["score"]) for row in history] == [
        (0, "complete", 0.6),
        (1, "pruned", 0.2),
        (2, "failed", None),
    ]
    assert history[2]["metrics"] == {}
    assert history[2]["reason"] == "diverged: loss is not finite"
    assert history[0]["metrics"]["episode_length_mean"] == 700.0
    assert history[0]["metrics"]["termination_rate"] == 0.25


@pytest.mark.parametrize(
    ("state", "trials", "status"),
    [
        ("created", (), "initialized"),
        ("running", (), "running"),
        ("stopped", (make_trial(0),), "paused"),
        ("finished", (make_trial(0), make_failed(1)), "completed"),
        ("finished", (make_failed(0), make_failed(1)), "failed"),
    ],
)
def test_status_is_one_of_the_known_words(
    paths: CampaignPaths, study: StudyPaths, state: str, trials: tuple[Any, ...], status: str
) -> None:
    export(paths, make_snapshot(state=state, trials=trials))
    assert load(study.automl_state)["status"] == status


def test_index_has_a_row_for_every_trial(paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot) -> None:
    export(paths, snapshot)
    rows = load(study.index)["experiments"]
    assert [row["status"] for row in rows] == ["completed", "pruned", "failed", "running"]
    assert rows[0]["experiment_id"] == "walk_trial_0000"
    assert (rows[0]["final_reward"], rows[0]["success_rate"]) == (123.5, 0.5)
    assert (rows[2]["final_reward"], rows[2]["score"]) == (None, None)


def test_registry_lists_checkpoints_in_the_order_of_training(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    folder = "trials/0000_20260131T120000Z_PPO/checkpoints"
    later, earlier = (
        make_checkpoint(0, env_steps=steps, kind="resume", path=f"{folder}/agent_{steps}.pt", score=None, metrics=None)
        for steps in (400_000, 200_000)
    )
    first = replace(snapshot.trials[0], checkpoints=(*snapshot.trials[0].checkpoints, later, earlier))
    export(paths, replace(snapshot, trials=(first, *snapshot.trials[1:])))
    registry = load(study.registry)
    assert [(row["trial"], row["env_steps"], row["kind"]) for row in registry["checkpoints"]] == [
        (0, 200_000, "resume"),
        (0, 400_000, "resume"),
        (0, STEPS, "best"),
    ]
    assert registry["best"]["path"] == f"{folder}/best_agent.pt"
    assert registry["best"]["metrics"] == PARTS
    assert registry["best"]["created"] == "2026-01-31T12:06:00Z"


def test_configuration_holds_everything_that_was_used(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    config = load(study.config(0))
    assert set(config["ppo"]) == {*PpoSettings.model_fields, "num_envs"}
    assert config["ppo"]["learning_rate"] == 3.0e-4
    assert (config["reward"]["arrival_bonus"], config["reward"]["alive_bonus"]) == (80.0, 0.15)
    assert (config["env"]["spawn_outer_radius"], config["env"]["spawn_inner_radius"]) == (4.0, 2.0)
    assert config["sampled"] == snapshot.trials[0].parameters
    assert (config["num_envs"], config["seed"], config["env_steps"]) == (256, 42, STEPS)


def test_configuration_is_what_the_worker_was_given(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    file = TrialPaths(study.root / str(snapshot.trials[0].folder)).spec
    given = fs.read_json(file)
    given["training"]["num_envs"] = 128  # halved after an out-of-memory error
    fs.write_json(file, given)
    export(paths, snapshot)
    assert load(study.config(0))["num_envs"] == 128


def test_configuration_that_cannot_be_trained_says_why(paths: CampaignPaths, study: StudyPaths) -> None:
    radius = {"type": "uniform", "low": 1.0, "high": 9.0}
    space = {"env": {"spawn_inner_radius": radius, "spawn_outer_radius": radius}}
    point = {"env.spawn_inner_radius": 8.0, "env.spawn_outer_radius": 3.0}
    trial = make_failed(0, parameters=point, folder=None, reason="invalid")
    export(paths, make_snapshot(spec=make_spec(search_space=space, fixed={}), trials=(trial,)))
    config = load(study.config(0))
    assert "spawn_inner_radius" in config["problem"]
    assert config["env"] == {"spawn_inner_radius": 8.0, "spawn_outer_radius": 3.0}


def test_summary_groups_reward_terms_of_the_last_iterations(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    summary = load(study.experiment(0))
    components = summary["results"]["reward_components"]
    # The torques term is -iteration / 2; of 12 iterations the last ten have a mean of 7.5.
    assert components["efficiency"]["torques"] == pytest.approx(-3.75)
    assert components["navigation"]["alive_bonus"] == 0.25
    assert components["termination"] == {"termination": -1.0}
    assert components["other"] == {}
    assert components["active_count"] == len(components["active_components"]) == 22
    assert summary["execution"] == {
        "started_at": "2026-01-31T12:00:00Z",
        "completed_at": "2026-01-31T12:06:00Z",
        "duration_hours": 0.1,
        "status": "completed",
        "reason": "finished",
    }
    assert summary["outcomes"]["fell_before"] == 24 / 128


def test_summary_ignores_lines_that_the_database_has_not_seen(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    before = study.experiment(1).read_bytes()
    metrics = TrialPaths(study.root / str(snapshot.trials[1].folder)).metrics
    fs.append_line(metrics, progress_line(7, STEPS * 7 // 12))
    export(paths, snapshot)
    assert study.experiment(1).read_bytes() == before


def test_duration_leaves_out_the_time_without_a_worker(paths: CampaignPaths, study: StudyPaths) -> None:
    first = make_attempt()
    day = first.started.replace(day=first.started.day - 3)
    early = make_attempt(started=day, ended=day.replace(minute=30), reason="killed")
    trial = make_trial(0, attempts=(early, first), started=day)
    export(paths, make_snapshot(trials=(trial,)))
    assert load(study.experiment(0))["execution"]["duration_hours"] == pytest.approx(0.6)


def test_only_what_changed_is_written(paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot) -> None:
    exporter = MirrorExporter(paths, "walk")
    exporter.update(snapshot)
    finished = [path(n) for n in (0, 1, 2) for path in (study.config, study.experiment)]
    before = {path: identity(path) for path in [*finished, study.registry, study.config(3), study.experiment(3)]}

    running = replace(snapshot.trials[3], env_steps=STEPS // 2, reports={STEPS // 4: 0.3, STEPS // 2: 0.4})
    exporter.update(replace(snapshot, trials=(*snapshot.trials[:3], running)))

    changed = {path for path, known in before.items() if identity(path) != known}
    assert changed == {study.experiment(3)}
    assert load(study.index)["experiments"][3]["env_steps"] == STEPS // 2


def test_a_new_process_does_not_rewrite_equal_files(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    before = {path: identity(path) for path in study.root.rglob("*.yaml")}
    export(paths, snapshot)
    assert {path: identity(path) for path in study.root.rglob("*.yaml")} == before


def test_a_finished_trial_is_rendered_once(
    paths: CampaignPaths, snapshot: StudySnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = MirrorExporter(paths, "walk")
    exporter.update(snapshot)
    opened: list[str] = []
    read_json = fs.read_json
    monkeypatch.setattr(fs, "read_json", lambda path: opened.append(os.fspath(path)) or read_json(path))
    exporter.update(replace(snapshot, trials=(*snapshot.trials[:3], replace(snapshot.trials[3], env_steps=STEPS // 3))))
    assert {Path(path).parent.name[:4] for path in opened} == {"0003"}


def test_an_edited_or_deleted_mirror_comes_back(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    export(paths, snapshot)
    original = study.registry.read_bytes()
    study.registry.write_text("nonsense")
    study.index.unlink()
    export(paths, snapshot)
    assert study.registry.read_bytes() == original
    assert study.index.exists()


def test_what_was_deleted_under_a_supervisor_is_there_at_its_end(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    exporter = MirrorExporter(paths, "walk")
    exporter.update(snapshot)
    study.experiment(0).unlink()
    study.config(1).write_text("nonsense")
    exporter.update(replace(snapshot, supervisor=None))
    expected = exporter.render(replace(snapshot, supervisor=None))
    assert {path: path.read_text(encoding="utf-8") for path in expected} == expected


def test_a_study_without_trials_has_empty_mirrors(paths: CampaignPaths, study: StudyPaths) -> None:
    export(paths, make_snapshot(trials=(), state="created"))
    assert load(study.index)["experiments"] == []
    assert load(study.registry) == {"schema_version": 1, "study": "walk", "best": None, "checkpoints": []}
    assert load(study.automl_state)["best_results"] == {}


def test_a_damaged_trial_file_does_not_stop_the_mirrors(
    paths: CampaignPaths, study: StudyPaths, snapshot: StudySnapshot
) -> None:
    TrialPaths(study.root / str(snapshot.trials[0].folder)).spec.write_text('{"torn')
    export(paths, snapshot)
    assert load(study.config(0))["ppo"]["learning_rate"] == 3.0e-4


def test_waiting_trials_have_a_configuration_already(paths: CampaignPaths, study: StudyPaths) -> None:
    waiting = make_running(0, state=TrialState.WAITING, folder=None, attempts=(), started=None)
    export(paths, make_snapshot(trials=(waiting,)))
    assert load(study.config(0))["ppo"]["learning_rate"] == 3.0e-4
    assert load(study.index)["experiments"][0]["status"] == "waiting"
