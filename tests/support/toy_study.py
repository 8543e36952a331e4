"""The toy study: run here or in a process of its own, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import process_alive
from vbot_campaign.study.snapshot import AttemptView, TrialState
from vbot_campaign.study.study import load_snapshot
from vbot_campaign.supervisor import Outcome, resume_study, run_study

DRIVER = """
import json, sys
from pathlib import Path
from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor import resume_study, run_study
root, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
slots = cpu_slots(int(sys.argv[3]))
options = dict(worker_command=TOY_COMMAND, slots=slots, poll_s=0.02, grace_s=20.0)
try:
    if overrides is None:
        outcome = resume_study(CampaignPaths(root), "toy", **options)
    else:
        outcome = run_study(CampaignPaths(root), study_spec(**overrides), **options)
except CampaignError as error:
    sys.exit(str(error))
assert "torch" not in sys.modules, "the supervisor loaded torch"
print(outcome.state, "|", outcome.reason)
"""


def options(**overrides: Any) -> dict[str, Any]:
    """Return options of a supervisor that is quick."""
    return {"worker_command": TOY_COMMAND, "slots": cpu_slots(), "poll_s": 0.02, "grace_s": 20.0, **overrides}


def run(paths: CampaignPaths, supervisor: dict[str, Any] | None = None, **overrides: Any) -> Outcome:
    """Run the toy study here.

    Args:
        paths: The runs folder.
        supervisor: Options of `Supervisor`.
        **overrides: Keys of the study file.
    """
    return run_study(paths, study_spec(**overrides), **options(**(supervisor or {})))


def resume(paths: CampaignPaths, **overrides: Any) -> Outcome:
    """Resume the toy study here, with the given options of `Supervisor`."""
    return resume_study(paths, "toy", **options(**overrides))


def start(paths: CampaignPaths, overrides: dict[str, Any] | None, *, slots: int = 2) -> subprocess.Popen[str]:
    """Start a supervisor in its own process; ``None`` resumes."""
    command = [sys.executable, "-c", DRIVER, str(paths.root), json.dumps(overrides), str(slots)]
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(supervisor: subprocess.Popen[str]) -> None:
    """Kill a supervisor alone; its workers live on."""
    supervisor.kill()
    supervisor.communicate()


def decisions(paths: CampaignPaths) -> list[dict[str, Any]]:
    """Return all decisions about the toy study."""
    return fs.read_lines(paths.study("toy").decisions)


def actions(paths: CampaignPaths, trial: int | None = None) -> list[str]:
    """Return the names of all decisions, or of those about one trial."""
    return [d["action"] for d in decisions(paths) if trial is None or d.get("trial") == trial]


def alerts(paths: CampaignPaths) -> list[str]:
    """Return what a person was told before the end."""
    return [a["reason"] for a in alert_lines(paths) if a["cause"] not in ("finished", "stopped")]


def alert_lines(paths: CampaignPaths) -> list[dict[str, Any]]:
    """Return the log's lines of all alerts."""
    return [d for d in decisions(paths) if d["action"] == "alert"]


def wait_until(condition: Callable[[], Any], timeout_s: float = 240.0) -> None:
    """Wait for a condition; one that does not come true fails the test, late: a machine may stand still for a while."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def states(outcome: Outcome) -> list[TrialState]:
    """Return the states of all trials."""
    return [trial.state for trial in outcome.snapshot.trials]


def checkpoint_lines(paths: CampaignPaths) -> int:
    """Return how many checkpoints were written, over all trials."""
    return sum(len(fs.read_lines(log)) for log in paths.study("toy").trials.glob("*/checkpoints/checkpoints.jsonl"))


def live_workers(paths: CampaignPaths) -> list[AttemptView]:
    """Return the attempts whose worker lives."""
    return [
        attempt
        for trial in load_snapshot(paths, "toy").trials
        for attempt in trial.attempts
        if process_alive(attempt.pid, attempt.pid_started)
    ]
