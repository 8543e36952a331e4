"""What a checkpoint folder keeps, what it refuses to load, and what it says then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.toy_env import PointEnv
from tests.support.workers import kill_at_iteration, run_worker, start_worker, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError
from vbot_campaign.events import Ended
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import CheckpointSettings, PpoSettings
from vbot_campaign.worker.checkpoints import CheckpointFolder
from vbot_campaign.worker.fence import Fence

PARTS = {"success_rate": 0.5}


def folder(paths: TrialPaths, **settings: Any) -> CheckpointFolder:
    chosen = CheckpointSettings(**settings)
    return CheckpointFolder(paths, attempt=1, settings=chosen, fence=Fence(paths.spec, "token-1"))


def state(env_steps: int) -> dict[str, Any]:
    """Return a learner's state as after so many env steps."""
    settings = PpoSettings(rollouts=2, mini_batches=1, policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,))
    found = Learner(PointEnv(2, seed=0), settings, iterations=10, seed=env_steps).state_dict()
    found["vbot_campaign"]["counters"] = {"iteration": env_steps // 100, "env_steps": env_steps}
    return found


def on_disk(paths: TrialPaths) -> set[str]:
    return {path.name for path in paths.checkpoints.glob("*.pt")}


def registered(paths: TrialPaths) -> dict[str, dict[str, Any]]:
    newest = {line["file"]: line for line in fs.read_lines(paths.checkpoint_log)}
    return {file: line for file, line in newest.items() if not line.get("deleted")}


# --- what stays -----------------------------------------------------------------------------------------------------


def test_the_best_policies_stay_by_score(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths, keep_best=3)
    for env_steps, score in [(100, 0.2), (200, 0.5), (300, 0.1), (400, 0.4), (500, 0.6), (600, 0.3)]:
        checkpoints.offer_best(state(env_steps), {}, score, PARTS)
    kept = {file: (line["kind"], line["env_steps"], line["score"]) for file, line in registered(paths).items()}
    assert kept == {
        "best_agent.pt": ("best", 500, 0.6),
        "best_200.pt": ("top", 200, 0.5),
        "best_400.pt": ("top", 400, 0.4),
    }
    assert on_disk(paths) == set(kept)
    for file, line in registered(paths).items():
        assert fs.sha256(paths.checkpoints / file) == line["sha256"]


@pytest.mark.parametrize(("keep_best", "files"), [(0, set()), (1, {"best_agent.pt"})])
def test_one_best_policy_or_none(tmp_path: Path, keep_best: int, files: set[str]) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths, keep_best=keep_best)
    for env_steps, score in [(100, 0.2), (200, 0.5), (300, 0.1)]:
        checkpoints.offer_best(state(env_steps), {}, score, PARTS)
    assert on_disk(paths) == files
    assert checkpoints.best_env_steps() == (200 if files else None)


def test_milestones_stay_beside_the_last_points(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths, keep_last=2)
    for env_steps in range(100, 1000, 100):
        checkpoints.save_resume_point(state(env_steps), {}, None, milestone=env_steps in (200, 500))
    assert on_disk(paths) == {"agent_200.pt", "agent_500.pt", "agent_800.pt", "agent_900.pt"}
    assert [file for file, line in registered(paths).items() if line.get("milestone")] == [
        "agent_200.pt",
        "agent_500.pt",
    ]


@pytest.mark.parametrize(
    ("milestones", "passed"), [(250, [0, 0, 1, 2, 4]), ((100, 600), [0, 1, 1, 1, 2]), ((), [0, 0, 0, 0, 0])]
)
def test_milestones_are_a_list_or_multiples(milestones: Any, passed: list[int]) -> None:
    settings = CheckpointSettings(milestones=milestones)
    assert [settings.milestones_passed(steps) for steps in (99, 249, 250, 599, 1000)] == passed


def test_a_worker_writes_a_point_at_each_milestone(tmp_path: Path) -> None:
    milestones = [512 * 3, 512 * 5 + 1]
    paths = tiny_trial(
        tmp_path, env_steps=512 * 10, checkpoints={"every_iterations": 4, "keep_last": 1, "milestones": milestones}
    )
    assert run_worker(paths).state is Ended.FINISHED
    points = {
        line["iteration"]: line.get("milestone", False)
        for line in registered(paths).values()
        if line["kind"] == "resume"
    }
    assert points == {3: True, 6: True, 10: False}


# --- what a crash leaves --------------------------------------------------------------------------------------------


def test_leftovers_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    folder(paths).save_resume_point(state(100), {}, None)
    for name in (".agent_200.pt.1a2b.part", "agent_200.pt", "best_150.pt"):
        (paths.checkpoints / name).write_bytes(b"half")
    (paths.checkpoints / "mine.pt").write_bytes(b"of a person")
    folder(paths)
    assert {path.name for path in paths.checkpoints.iterdir()} == {"agent_100.pt", "mine.pt", "checkpoints.jsonl"}


def test_a_best_policy_whose_line_is_missing_is_made_again_without_a_word(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths)
    checkpoints.save_best(state(100), {}, 0.2, PARTS)
    log = paths.checkpoint_log.read_bytes()
    checkpoints.save_best(state(300), {}, 0.4, PARTS)
    paths.checkpoint_log.write_bytes(log)  # killed between the file and its line
    checkpoints = folder(paths)
    checkpoints.forget_after(200)
    assert (checkpoints.best_env_steps(), checkpoints.problems, on_disk(paths)) == (None, [], set())


# --- what is refused ------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"no checkpoint at all")


def leave_out_the_optimizer(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["optimizer"]
    torch.save(content, path)


def vouch_for(paths: TrialPaths, file: str) -> None:
    """Write a line with the hash that a file has now."""
    line = {**registered(paths)[file], "sha256": fs.sha256(paths.checkpoints / file)}
    fs.append_line(paths.checkpoint_log, line)


DAMAGES = [
    (truncate, False, "was altered"),
    (alter, False, "was altered"),
    (Path.unlink, False, "no checkpoint at"),
    (write_nonsense, True, "cannot be read"),
    (leave_out_the_optimizer, True, "lacks optimizer"),
]
"""A damage, whether its hash is right all the same, and what is said."""


@pytest.mark.parametrize(("damage", "vouched", "words"), DAMAGES)
def test_the_point_before_a_bad_one_is_used(tmp_path: Path, damage: Any, vouched: bool, words: str) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths)
    for env_steps in (100, 200):
        checkpoints.save_resume_point(state(env_steps), {"score": {}}, None)
    bad = paths.checkpoint(200)
    damage(bad)
    if vouched:
        vouch_for(paths, bad.name)
    loaded = checkpoints.load_latest()
    assert loaded is not None
    assert loaded["vbot_campaign"]["counters"]["env_steps"] == 100
    assert (paths.quarantine / bad.name).exists() is (damage is not Path.unlink)
    assert on_disk(paths) == {"agent_100.pt"}
    assert len(checkpoints.problems) == 1
    assert re.search(words, checkpoints.problems[0])


def test_one_of_a_newer_program_is_left_where_it_is(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    checkpoints = folder(paths)
    checkpoints.save_resume_point(state(100), {"score": {}, "schema": 99}, None)
    with pytest.raises(CheckpointError, match="Update vbot-campaign"):
        checkpoints.load_latest()
    assert on_disk(paths) == {"agent_100.pt"}


def test_a_trial_whose_points_are_all_bad_starts_over_and_says_so(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=512 * 12)
    kill_at_iteration(paths, 8)
    points = sorted(paths.checkpoints.glob("agent_*.pt"))
    assert points
    for point in points:
        truncate(point)
    tiny_trial(tmp_path, attempt=2, env_steps=512 * 12)
    result = run_worker(paths)
    assert (result.state, result.iteration) == (Ended.FINISHED, 12)
    lines = fs.read_lines(paths.metrics)
    assert {line["attempt"] for line in lines} == {2}
    alerts = [line for line in lines if line["kind"] == "alert"]
    assert {line["cause"] for line in alerts} == {"checkpoint"}
    assert "starts over" in alerts[-1]["message"]
    assert "starts over" in paths.log.read_text()
    assert {path.name for path in paths.quarantine.iterdir()} == {point.name for point in points}


@pytest.mark.parametrize("vouched", [False, True])
def test_a_bad_best_policy_leaves_the_last_one(tmp_path: Path, vouched: bool) -> None:
    paths = tiny_trial(tmp_path, env_steps=512 * 4000, report_points=200)
    process = start_worker(paths)
    wait_for_iteration(paths, process, 24)
    process.terminate()
    assert process.wait(timeout=240) == 0
    reached = fs.read_lines(paths.metrics)[-1]["iteration"]
    assert paths.best_checkpoint.exists()
    write_nonsense(paths.best_checkpoint)
    if vouched:
        vouch_for(paths, "best_agent.pt")
    tiny_trial(tmp_path, attempt=2, env_steps=512 * reached)
    result = run_worker(paths)
    assert result.state is Ended.FINISHED, result.error
    assert result.score == result.final_score
    assert registered(paths)["best_agent.pt"]["env_steps"] == 512 * reached
    [alert] = [line for line in fs.read_lines(paths.metrics) if line["kind"] == "alert"]
    assert "best_agent.pt" in alert["message"]
    assert (paths.quarantine / "best_agent.pt").read_bytes() == b"no checkpoint at all"
