"""The real command line on a small study with real workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.support.workers import TINY
from vbot_campaign import fs
from vbot_campaign.events import stable
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialView

COMMAND = (sys.executable, "-m", "vbot_campaign.cli")
ITERATION = 32 * 16
"""Env steps of one iteration of the tiny study."""
CHECKPOINT_EVERY = 7 * ITERATION
TIMEOUT_S = 900.0


def tiny_study(**changes: Any) -> dict[str, Any]:
    """Return a study file of four trials of 48 iterations, each of which takes some five seconds.

    Nothing is pruned, so that on one slot the study is the same every time: a pruned trial goes on for as many
    iterations as it takes the supervisor to stop it.

    Args:
        **changes: Keys of the file in place of the default ones.
    """
    values: dict[str, Any] = {
        "study": "tiny",
        "environment": "vbot_navigation_section001",
        "env_steps_per_trial": TINY["env_steps"],
        "budget": {"trials": 4},
        "objective": {"goal_progress": 0.6, "survival_rate": 0.4},
        "sampler": {"name": "tpe", "startup_trials": 2, "seed": 3},
        "pruner": {"name": "none"},
        "search_space": {
            "ppo": {"learning_rate": {"type": "loguniform", "low": 1e-4, "high": 1e-2, "prior": 1e-3}},
            "reward": {"forward_velocity": {"type": "uniform", "low": 1.0, "high": 2.5}},
        },
        "fixed": {"ppo": TINY["ppo"], "env": TINY["env"]},
        "workers": {"num_envs": TINY["num_envs"], "slots": 1, "recording": "none"},
        "checkpoints": TINY["checkpoints"],
        "evaluation": TINY["evaluation"],
        "report_points": TINY["report_points"],
    }
    return {**values, **changes}


@dataclass(frozen=True)
class Campaign:
    """A folder with a study file and its runs, and the command line on it."""

    folder: Path
    storage: str | None = None
    """Address of the database where that is on a server."""

    @property
    def runs(self) -> CampaignPaths:
        """The runs folder."""
        return CampaignPaths(self.folder / "runs", self.storage)

    @property
    def study(self) -> StudyPaths:
        """Files of the tiny study."""
        return self.runs.study("tiny")

    def write(self, **changes: Any) -> Path:
        """Write the tiny study file and return its path."""
        path = self.folder / "tiny.yaml"
        path.write_text(yaml.safe_dump(tiny_study(**changes), sort_keys=False), encoding="utf-8")
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the command line; both its outputs come through one pipe."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *arguments: str | Path, code: int = 0) -> str:
        """Run the command line to its end and return what it printed; another exit code than ``code`` fails."""
        return finish(self.start(*arguments), code)

    def environment(self) -> dict[str, str]:
        """Return the environment of a command: its runs folder, one thread, 80 columns."""
        return {
            **os.environ,
            RUNS_VARIABLE: str(self.runs.root),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "COLUMNS": "80",
            **({} if self.storage is None else {STORAGE_VARIABLE: self.storage}),
        }

    def snapshot(self) -> StudySnapshot:
        """Return what the database says of the tiny study."""
        return load_snapshot(self.runs, "tiny")

    def trial_folder(self, number: int) -> TrialPaths | None:
        """Return the folder of a trial, or None before it was made."""
        found = sorted(self.study.trials.glob(f"{number:04d}_*"))
        return TrialPaths(found[0]) if found else None

    def iteration(self, number: int) -> int:
        """Return the last iteration that a trial has reported, 0 before the first."""
        folder = self.trial_folder(number)
        lines = progress_lines(folder) if folder else []
        return lines[-1]["iteration"] if lines else 0

    def wait_for(self, process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
        """Wait until a condition holds while a command runs."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.01)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a command and return what it printed; another exit code than ``code`` fails."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == code, f"exit code {process.returncode}:\n{output}"
    return output


def kill_everything(process: subprocess.Popen[str]) -> int:
    """Kill a supervisor and all its workers as a power cut would, and return how many workers there were."""
    root = psutil.Process(process.pid)
    root.suspend()  # so that it starts no worker between the look and the kill
    children = root.children(recursive=True)
    workers = [child for child in children if _is_worker(child)]
    # It comes last: as long as it is there, no number of a process that it has started is given to another one.
    for victim in (*children, root):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    psutil.wait_procs(children, timeout=240)
    finish(process, -signal.SIGKILL)
    return len(workers)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "vbot_campaign.worker.reward_audit" not in process.cmdline()
    except psutil.NoSuchProcess:  # it has ended, and was perhaps not waited for: most likely the audit
        return False


def progress_lines(folder: TrialPaths) -> list[dict[str, Any]]:
    """Return the lines of a trial's iterations."""
    return [line for line in fs.read_lines(folder.metrics) if line["kind"] == "progress"]


def stable_lines(folder: TrialPaths) -> list[dict[str, Any]]:
    """Return all metrics lines without what differs between two runs of the same training."""
    return [stable(line) for line in fs.read_lines(folder.metrics)]


def assert_grows(folder: TrialPaths) -> None:
    """Check that no iteration of a trial is missing or was written twice."""
    iterations = [line["iteration"] for line in progress_lines(folder)]
    assert iterations == list(range(1, len(iterations) + 1))
    assert [line["env_steps"] for line in progress_lines(folder)] == [ITERATION * i for i in iterations]


def assert_at_most_one_interval_again(trial: TrialView, attempt: int, reached: int) -> None:
    """Check where an attempt went on.

    Args:
        trial: The trial.
        attempt: Number of the attempt that was started after the interruption.
        reached: Last env step that was reported before it.
    """
    first = trial.attempts[attempt - 1].first_env_step
    assert reached - CHECKPOINT_EVERY <= first <= reached, f"{first} after {reached}"


def assert_fits_80_columns(text: str) -> None:
    """Check the width of what was printed; a line with a path may be longer, so that it can be copied."""
    wide = [line for line in text.splitlines() if len(line) > 80 and "/" not in line]
    assert not wide, "\n".join(wide)


def json_of(text: str) -> Any:
    """Return the value of printed JSON."""
    return json.loads(text)
