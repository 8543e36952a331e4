"""A full disk ends an attempt cleanly: the checkpoint before is kept, and the next attempt goes on from it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.workers import run_worker, start_worker, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths

ENV_STEPS = 512 * 30
LIMITED = (
    "import os, resource, sys; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def assert_sound(paths: TrialPaths) -> None:
    """Check that the newest checkpoint is what its line says, and that nothing is left half written."""
    lines = [line for line in fs.read_lines(paths.checkpoint_log) if line["kind"] == "resume"]
    newest = {line["file"]: line for line in lines}
    alive = [line for line in newest.values() if not line.get("deleted")]
    assert alive
    for line in alive:
        assert fs.sha256(paths.checkpoints / line["file"]) == line["sha256"]
    assert not list(paths.root.rglob(".*.part"))


def assert_goes_on(paths: TrialPaths) -> None:
    """Check that the next attempt continues and finishes."""
    tiny_trial(paths.root, attempt=2, env_steps=ENV_STEPS)
    result = run_worker(paths)
    assert (result.state, result.attempt) == (Ended.FINISHED, 2), result.error
    iterations = [line["iteration"] for line in fs.read_lines(paths.metrics) if line["kind"] == "progress"]
    assert iterations == list(range(1, 31))
    assert fs.read_json(paths.meta)["resumed_from_env_step"] >= 7 * 512


def test_a_disk_that_fills_up_in_the_middle(small_disk: Path) -> None:
    paths = tiny_trial(small_disk / "trial", env_steps=ENV_STEPS)
    process = start_worker(paths, slow_from=9)
    wait_for_iteration(paths, process, 9)
    fill(small_disk / "filler")
    assert process.wait(timeout=240) == 12, paths.log.read_text()
    assert_sound(paths)
    result = Result.read(paths.result)
    # Where not even the result found room, the exit code has said it.
    assert result is None or (result.state is Ended.DISK_FULL and "No space left on device" in result.reason)
    (small_disk / "filler").unlink()
    assert_goes_on(paths)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=ENV_STEPS)
    process = start_worker(paths, slow_from=8)
    wait_for_iteration(paths, process, 8)
    process.kill()
    process.wait(timeout=240)
    # The next write of a checkpoint is too large; a line of metrics.jsonl may be, too.
    limit = paths.checkpoint(7 * 512).stat().st_size // 2
    tiny_trial(tmp_path, attempt=2, env_steps=ENV_STEPS)
    command = [sys.executable, "-c", LIMITED.format(limit), sys.executable, "-m", "vbot_campaign.worker", paths.root]
    with paths.log.open("ab") as log:
        code = subprocess.run(command, stdout=log, stderr=log, timeout=240).returncode
    assert code == 12, paths.log.read_text()
    result = Result.read(paths.result)
    assert result is not None
    assert (result.state, result.last_checkpoint) == (Ended.DISK_FULL, "agent_3584.pt")
    assert "File too large on the disk of" in result.reason
    assert_sound(paths)
    tiny_trial(tmp_path, attempt=3, env_steps=ENV_STEPS)
    assert run_worker(paths).state is Ended.FINISHED
