"""A machine that is taken away during the evaluation at the end takes nothing of the training with it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import start_worker, tiny_trial
from vbot_campaign import fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths

ENV_STEPS = 512 * 3
LONG: dict[str, Any] = {"env_steps": ENV_STEPS, "evaluation": {"episodes": 4000}, "env": {"episode_seconds": 60.0}}
"""An evaluation of robots that may walk for a minute."""


def in_the_evaluation(paths: TrialPaths) -> Any:
    """Start a worker and return it when all is trained."""
    process = start_worker(paths)
    deadline = time.monotonic() + 240
    while not any(line["env_steps"] == ENV_STEPS for line in fs.read_lines(paths.checkpoint_log)):
        assert process.poll() is None, paths.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_next_attempt_only_evaluates(tmp_path: Path, number: int, code: int) -> None:
    paths = tiny_trial(tmp_path, **LONG)
    process = in_the_evaluation(paths)
    process.send_signal(number)
    assert process.wait(timeout=240) == code, paths.log.read_text()
    result = Result.read(paths.result)
    if number == signal.SIGTERM:
        assert result is not None
        assert (result.state, result.reason, result.score) == (Ended.STOPPED, "signal SIGTERM", None)
        assert result.last_checkpoint == f"agent_{ENV_STEPS}.pt"
    else:
        assert result is None
    tiny_trial(tmp_path, attempt=2, **{**LONG, "evaluation": {"episodes": 8}, "env": {"episode_seconds": 1.0}})
    process = start_worker(paths)
    assert process.wait(timeout=240) == 0, paths.log.read_text()
    result = Result.read(paths.result)
    assert result is not None
    assert (result.state, result.iteration) == (Ended.FINISHED, 3)
    assert result.score is not None
    lines = fs.read_lines(paths.metrics)
    assert [line["attempt"] for line in lines if line["kind"] == "progress"] == [1, 1, 1]
    assert {line["attempt"] for line in lines if line["kind"] == "evaluation"} == {2}


def test_an_evaluation_that_was_cut_off_after_its_line_is_told_once(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=ENV_STEPS)
    assert start_worker(paths).wait(timeout=240) == 0, paths.log.read_text()
    before = fs.read_lines(paths.metrics)
    first = Result.read(paths.result)
    paths.result.unlink()  # killed after the line and before the result
    tiny_trial(tmp_path, attempt=2, env_steps=ENV_STEPS)
    assert start_worker(paths).wait(timeout=240) == 0, paths.log.read_text()
    again = Result.read(paths.result)
    assert fs.read_lines(paths.metrics) == before
    assert first is not None
    assert again is not None
    assert (again.score, again.parts) == (first.score, first.parts)
