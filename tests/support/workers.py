"""Real workers on small trainings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.events import Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import TrainingSpec, TrialSpec

TINY: dict[str, Any] = {
    "env_steps": 48 * 32 * 16,
    "num_envs": 32,
    "seed": 7,
    "ppo": {
        "rollouts": 16,
        "learning_epochs": 2,
        "mini_batches": 2,
        "policy_hidden_layer_sizes": [32, 16],
        "value_hidden_layer_sizes": [32, 16],
        "lr_scheduler_type": "linear",
    },
    "env": {"episode_seconds": 1.0},
    "checkpoints": {"every_iterations": 7, "keep_last": 2},
    "evaluation": {"episodes": 8},
    "report_points": 10,
}
"""48 iterations of 512 env steps, in about two seconds."""


def tiny_trial(folder: Path, *, attempt: int = 1, **changes: Any) -> TrialPaths:
    """Write the ``trial.json`` of a tiny training and return its folder."""
    training = TrainingSpec.model_validate({**TINY, **changes})
    spec = TrialSpec(training=training, attempt=attempt, token=f"token-{attempt}", parameters={"ppo.rollouts": 16})
    paths = TrialPaths(folder)
    fs.write_json(paths.spec, spec.model_dump(mode="json"))
    return paths


SLOW_WORKER = Path(__file__).with_name("slow_worker.py")


def start_worker(paths: TrialPaths, slow_from: int | None = None) -> subprocess.Popen[bytes]:
    """Start a worker on a trial folder; its output goes to ``worker.log``.

    Args:
        paths: The trial folder.
        slow_from: Iteration from which on it takes its time, so that it is still at work when a signal comes.
    """
    environment, program = {**os.environ, "OMP_NUM_THREADS": "1"}, ["-m", "vbot_campaign.worker"]
    if slow_from is not None:
        training = fs.read_json(paths.spec)["training"]
        environment["SLOW_FROM"] = str(slow_from * training["num_envs"] * training["ppo"]["rollouts"])
        program = [str(SLOW_WORKER)]
    with paths.log.open("ab") as log:
        command = [sys.executable, *program, str(paths.root)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def run_worker(paths: TrialPaths) -> Result:
    """Run a worker to its end and return its result."""
    code = start_worker(paths).wait(timeout=300)
    result = Result.read(paths.result)
    assert result is not None, f"exit code {code}: {paths.log.read_text()}"
    return result


def wait_for_iteration(paths: TrialPaths, process: subprocess.Popen[bytes], iteration: int) -> None:
    """Wait until a worker has reported an iteration."""
    deadline = time.monotonic() + 240
    while not any(line.get("iteration", 0) >= iteration for line in fs.read_lines(paths.metrics)):
        assert process.poll() is None, paths.log.read_text()
        assert time.monotonic() < deadline, paths.log.read_text()
        time.sleep(0.005)


def kill_at_iteration(paths: TrialPaths, iteration: int, number: int = signal.SIGKILL) -> int:
    """Start a worker and send it a signal once it has reported an iteration; return its exit code."""
    process = start_worker(paths, slow_from=iteration)
    wait_for_iteration(paths, process, iteration)
    process.send_signal(number)
    return process.wait(timeout=240)
