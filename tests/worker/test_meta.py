"""`experiment_meta.json` says what ran, and keeps of earlier attempts where and with what they ran."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import vbot_campaign
from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import TrainingSpec, TrialSpec
from vbot_campaign.worker.meta import write_experiment_meta


def trial(attempt: int, num_envs: int = 64) -> TrialSpec:
    training = TrainingSpec(environment="vbot_navigation_section001", env_steps=10_000, num_envs=num_envs)
    return TrialSpec(training=training, attempt=attempt)


def test_each_attempt_keeps_the_ones_before_it(tmp_path: Path) -> None:
    paths = TrialPaths(tmp_path)
    write_experiment_meta(paths, trial(1), resumed_from=0)
    first = fs.read_json(paths.meta)
    assert first["earlier_attempts"] == []
    write_experiment_meta(paths, trial(2, num_envs=32), resumed_from=640)
    write_experiment_meta(paths, trial(3, num_envs=32), resumed_from=960)
    last = fs.read_json(paths.meta)
    assert [(a["attempt"], a["num_envs"], a["resumed_from_env_step"]) for a in last["earlier_attempts"]] == [
        (1, 64, 0),
        (2, 32, 640),
    ]
    assert last["earlier_attempts"][0]["versions"] == first["versions"]
    assert (last["attempt"], last["resumed_from_env_step"]) == (3, 960)


def test_the_same_attempt_started_again_and_a_damaged_file_leave_no_trace(tmp_path: Path) -> None:
    paths = TrialPaths(tmp_path)
    write_experiment_meta(paths, trial(1), resumed_from=0)
    write_experiment_meta(paths, trial(1), resumed_from=0)
    assert fs.read_json(paths.meta)["earlier_attempts"] == []
    paths.meta.write_text('{"torn')
    write_experiment_meta(paths, trial(2), resumed_from=0)
    assert fs.read_json(paths.meta)["earlier_attempts"] == []


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_checkout_is_looked_at_and_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "checkout" / "vbot_campaign" / "__init__.py"
    program.parent.mkdir(parents=True)
    program.write_text("")
    for command in ("init", "add .", "-c user.name=ada -c user.email=ada@example.org commit -m first"):
        subprocess.run(["git", "-C", tmp_path / "checkout", *command.split()], check=True, capture_output=True)
    os.utime(program, (0, 0))  # a plain `git status` notes the new time in the index, under a lock
    index = tmp_path / "checkout" / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setattr(vbot_campaign, "__file__", str(program))

    write_experiment_meta(TrialPaths(tmp_path), trial(1), resumed_from=0)

    assert fs.read_json(TrialPaths(tmp_path).meta)["git"]["dirty"] is False
    assert index.read_bytes() == before
