"""A training that was killed and continued equals one that never was, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.workers import kill_at_iteration, run_worker, tiny_trial
from vbot_campaign import fs
from vbot_campaign.events import Ended, stable
from vbot_campaign.paths import TrialPaths


def lines(paths: TrialPaths) -> list[dict[str, Any]]:
    return [stable(line) for line in fs.read_lines(paths.metrics)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    paths = tiny_trial(tmp_path_factory.mktemp("uninterrupted"))
    assert run_worker(paths).state is Ended.FINISHED
    return paths


def assert_equal_training(killed: TrialPaths, whole: TrialPaths) -> None:
    wanted, found = lines(whole), lines(killed)
    assert [line["iteration"] for line in found] == [line["iteration"] for line in wanted]
    for a, b in zip(wanted, found, strict=True):
        assert a == b
    last = max(line["env_steps"] for line in wanted)
    files = [torch.load(p.checkpoint(last), weights_only=True) for p in (whole, killed)]
    for name, tensor in files[0]["policy"].items():
        assert torch.equal(tensor, files[1]["policy"][name]), name


@pytest.mark.parametrize("iteration", [3, 9, 23, 40])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, uninterrupted: TrialPaths, iteration: int) -> None:
    paths = tiny_trial(tmp_path)
    assert kill_at_iteration(paths, iteration) == -signal.SIGKILL
    assert not paths.result.exists()
    tiny_trial(tmp_path, attempt=2)
    result = run_worker(paths)
    assert (result.state, result.attempt) == (Ended.FINISHED, 2)
    assert_equal_training(paths, uninterrupted)


def test_killed_three_times(tmp_path: Path, uninterrupted: TrialPaths) -> None:
    for attempt, iteration in enumerate((8, 17, 33), start=1):
        paths = tiny_trial(tmp_path, attempt=attempt)
        kill_at_iteration(paths, iteration)
    tiny_trial(tmp_path, attempt=4)
    assert run_worker(paths).state is Ended.FINISHED
    assert_equal_training(paths, uninterrupted)


@pytest.mark.parametrize("physics", ["mujoco", "motrixsim"])
def test_noise_and_randomisation_continue_exactly_in_every_engine(tmp_path: Path, physics: str) -> None:
    env = {
        "episode_seconds": 1.0,
        "noise_level": 1.0,
        "randomise_mass": 0.2,
        "randomise_friction": 0.3,
        "randomise_strength": 0.1,
        "push_velocity": 0.5,
        "push_interval_seconds": 0.3,
    }
    changes: dict[str, Any] = {"physics": physics, "env": env, "env_steps": 512 * 24}
    whole, killed = tiny_trial(tmp_path / "whole", **changes), tiny_trial(tmp_path / "killed", **changes)
    assert run_worker(whole).state is Ended.FINISHED
    assert kill_at_iteration(killed, 12) == -signal.SIGKILL
    tiny_trial(tmp_path / "killed", attempt=2, **changes)
    assert run_worker(killed).state is Ended.FINISHED
    assert_equal_training(killed, whole)


def test_a_stopped_training_loses_nothing(tmp_path: Path, uninterrupted: TrialPaths) -> None:
    paths = tiny_trial(tmp_path)
    assert kill_at_iteration(paths, 10, signal.SIGTERM) == 0
    iterations = [line["iteration"] for line in lines(paths)]
    assert paths.checkpoint(iterations[-1] * 512).exists(), "a stop writes a checkpoint of the last iteration"
    tiny_trial(tmp_path, attempt=2)
    run_worker(paths)
    assert_equal_training(paths, uninterrupted)


@pytest.mark.parametrize("left", [0.5, 0.0])
def test_a_line_that_was_torn_after_its_checkpoint_is_written_again(
    tmp_path: Path, uninterrupted: TrialPaths, left: float
) -> None:
    paths = tiny_trial(tmp_path)
    assert kill_at_iteration(paths, 10, signal.SIGTERM) == 0
    content = paths.metrics.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    paths.metrics.write_bytes(content[: last + int(left * (len(content) - last))])
    tiny_trial(tmp_path, attempt=2)
    run_worker(paths)
    assert_equal_training(paths, uninterrupted)


def test_another_seed_is_another_training(tmp_path: Path, uninterrupted: TrialPaths) -> None:
    paths = tiny_trial(tmp_path, seed=8, env_steps=512 * 3)
    run_worker(paths)
    assert lines(paths)[0] != lines(uninterrupted)[0]
