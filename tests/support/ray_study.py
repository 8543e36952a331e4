"""Toy studies on a Ray cluster: their supervisors, each in a process of its own, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.builders import TOY_COMMAND
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.snapshot import AttemptView, TrialView
from vbot_campaign.study.study import load_snapshot

_DRIVER = """
import json, sys
from pathlib import Path
from tests.support.builders import study_spec
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor import run_study
from vbot_campaign.supervisor.raycluster.launcher import RayLauncher
root, address, overrides, command = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
run_study(CampaignPaths(Path(root)), study_spec(**overrides), worker_command=command, poll_s=0.05,
    launcher=RayLauncher(address))
"""


def toy(iteration_s: float) -> list[str]:
    """Return the command of a toy worker whose iterations take so long."""
    return ["env", f"TOY_ITERATION_S={iteration_s}", *TOY_COMMAND]


def start(
    paths: CampaignPaths, address: str, iteration_s: float, *, before: Sequence[str] = (), **overrides: object
) -> subprocess.Popen[bytes]:
    """Start the supervisor of the study ``toy``.

    Args:
        paths: Its runs folder.
        address: Of the cluster.
        iteration_s: Duration of an iteration.
        before: What its command line begins with.
        **overrides: Keys of the study file.
    """
    arguments = [str(paths.root), address, json.dumps(overrides), json.dumps(toy(iteration_s))]
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen([*before, sys.executable, "-c", _DRIVER, *arguments], env=environ)


def attempts(paths: CampaignPaths) -> list[AttemptView]:
    """Return the last attempt of each trial that has one."""
    return [trial.attempts[-1] for trial in load_snapshot(paths, "toy").trials if trial.attempts]


def progress(paths: CampaignPaths, trial: TrialView) -> list[int]:
    """Return the env steps of all lines of a trial's metrics."""
    assert trial.folder is not None
    folder = TrialPaths(paths.study("toy").root / trial.folder)
    return [line["env_steps"] for line in fs.read_lines(folder.metrics)]


def checkpoints(paths: CampaignPaths, number: int) -> int:
    """Return how many checkpoints of a trial have come back."""
    logs = paths.study("toy").trials.glob(f"{number:04d}_*/checkpoints/checkpoints.jsonl")
    return sum(line.get("kind") == "resume" for log in logs for line in fs.read_lines(log))
