"""A worker whose folder was given to a later attempt writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.workers import start_worker, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.errors import FencedError
from vbot_campaign.events import EXIT_FENCED, Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import CheckpointSettings
from vbot_campaign.worker.checkpoints import CheckpointFolder
from vbot_campaign.worker.fence import Fence

SLOW = {
    "num_envs": 256,
    "env_steps": 256 * 32 * 10_000,
    "ppo": {"rollouts": 32, "policy_hidden_layer_sizes": [32], "value_hidden_layer_sizes": [32]},
    "checkpoints": {"every_iterations": 100_000},
    "report_points": 1,
}
"""Iterations that take a while, between whose reports nothing is written."""


def everything(paths: TrialPaths) -> dict[str, bytes]:
    """Return the content of every file of a folder but the lock and what the system wrote."""
    files = (path for path in paths.root.rglob("*") if path.is_file() and path not in (paths.lock, paths.log))
    return {path.relative_to(paths.root).as_posix(): path.read_bytes() for path in files}


def freeze_between_reports(paths: TrialPaths, process: subprocess.Popen[bytes]) -> None:
    """Hold a worker still, as on a machine that freezes, when its last iteration is in both logs."""
    wait_for_iteration(paths, process, 2)
    while True:
        process.send_signal(signal.SIGSTOP)
        [board] = paths.root.glob("events.out.tfevents.*")
        if board.read_bytes().count(b"Loss/policy") == len(fs.read_lines(paths.metrics)):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_from_the_instant_of_the_new_token_every_file_stays_as_it_is(tmp_path: Path, number: int | None) -> None:
    paths = tiny_trial(tmp_path, **SLOW)
    process = start_worker(paths)
    freeze_between_reports(paths, process)
    tiny_trial(tmp_path, attempt=2, **SLOW)
    Result(Ended.FINISHED, "by the later attempt", 2, 1, 1, token="token-2").write(paths.result)
    before = everything(paths)
    if number is not None:
        process.send_signal(number)  # would write a checkpoint and a result
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=240) == EXIT_FENCED, paths.log.read_text()
    assert everything(paths) == before
    assert "token-2" in paths.log.read_text()
    assert not fs.is_locked(paths.lock)


WAITS = """
import sys, time
from pathlib import Path
from vbot_campaign import fs
from vbot_campaign.worker.attempt import run_attempt

def wait(env):
    while fs.read_json(Path(sys.argv[1]) / "trial.json")["attempt"] == 1:
        time.sleep(0.01)

sys.exit(run_attempt(Path(sys.argv[1]), on_env=wait))
"""
"""A worker that begins to train when its folder is another attempt's."""


def test_an_error_of_a_fenced_attempt_is_not_told_either(tmp_path: Path) -> None:
    reward = {"alive_bonus": 1e38, "arrival_bonus": 1e38}
    paths = tiny_trial(tmp_path, **{**SLOW, "reward": reward})
    with paths.log.open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", WAITS, str(paths.root)], stdout=log, stderr=log)
    while not paths.meta.exists():  # it has its place by then, and trains nothing yet
        assert process.poll() is None, paths.log.read_text()
        time.sleep(0.005)
    tiny_trial(tmp_path, attempt=2, **SLOW)
    assert process.wait(timeout=240) == EXIT_FENCED, paths.log.read_text()
    assert not paths.result.exists()


# --- the fence itself -----------------------------------------------------------------------------------------------


def replace_with_the_same_times(paths: TrialPaths, attempt: int) -> None:
    """Replace trial.json so that neither its inode, nor its times, nor its size say so."""
    stat = paths.spec.stat()
    other = tiny_trial(paths.root / "other", attempt=attempt)
    paths.spec.write_bytes(other.spec.read_bytes())
    os.utime(paths.spec, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (paths.spec.stat().st_ino, paths.spec.stat().st_size) == (stat.st_ino, stat.st_size)


def test_a_replacement_is_seen_whatever_its_time_stamp(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    fence = Fence(paths.spec, "token-1")
    fence.check()
    replace_with_the_same_times(paths, attempt=2)
    with pytest.raises(FencedError, match="token-2"):
        fence.check()
    replace_with_the_same_times(paths, attempt=1)
    fence.check()


def test_the_same_attempt_may_be_described_anew(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    fence = Fence(paths.spec, "token-1")
    fence.check()
    tiny_trial(tmp_path, num_envs=16)
    fence.check()


@pytest.mark.parametrize("content", [None, b"{", b'{"token": ""}'])
def test_a_folder_without_a_readable_owner_is_not_ours(tmp_path: Path, content: bytes | None) -> None:
    paths = tiny_trial(tmp_path)
    fence = Fence(paths.spec, "token-1")
    fence.check()
    paths.spec.unlink()
    if content is not None:
        paths.spec.write_bytes(content)
    with pytest.raises(FencedError):
        fence.check()


def test_no_checkpoint_is_touched_behind_the_fence(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, attempt=2)
    with pytest.raises(FencedError):
        CheckpointFolder(paths, attempt=1, settings=CheckpointSettings(), fence=Fence(paths.spec, "token-1"))
    assert not paths.checkpoints.exists()
