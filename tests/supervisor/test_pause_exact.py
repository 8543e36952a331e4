"""A training that was paused at a rung and continued equals one that never was, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.builders import cpu_slots, study_spec
from tests.support.workers import TINY
from vbot_campaign import fs
from vbot_campaign.events import stable
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor import create_study, resume_study

ENV_STEPS = 64 * 32 * 16
RUNG = ENV_STEPS // 4
HALVING = {"name": "successive_halving", "pause": True, "warmup": 0.25, "reduction_factor": 2}
PATIENT_COMMAND = (sys.executable, str(Path("tests/support/patient_worker.py").absolute()))
"""The real worker, which does not run on while the supervisor looks elsewhere."""


def trained(root: Path, *, trials: int, pruner: dict[str, Any]) -> StudySnapshot:
    """Train equal trials with real workers, one after the other."""
    paths = CampaignPaths(root)
    spec = study_spec(
        env_steps_per_trial=ENV_STEPS,
        budget={"trials": trials},
        objective={"survival_rate": 0.5, "goal_progress": 0.5},
        sampler={"name": "queue"},
        pruner=pruner,
        fixed={"ppo": TINY["ppo"], "env": TINY["env"]},
        workers={"num_envs": 32, "slots": 1, "recording": "none"},
        checkpoints={"every_iterations": 7, "keep_last": 2},
        evaluation={"episodes": 8},
        report_points=16,
    )
    create_study(paths, spec)
    storage = open_storage(paths)
    CampaignStudy.open(storage, "toy").enqueue([QueuedTrial({}, "chosen")] * trials)
    storage.close()
    command = {"worker_command": PATIENT_COMMAND} if pruner.get("pause") else {}
    return resume_study(paths, "toy", slots=cpu_slots(1), poll_s=0.02, **command).snapshot


@pytest.mark.slow
def test_paused_and_continued_equals_never_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATIENT_AT", str(RUNG))
    # Both are the same training, so at the first rung the second is no better than the first, which then goes on.
    halved = trained(tmp_path / "halved", trials=2, pruner=HALVING)
    (whole,) = trained(tmp_path / "whole", trials=1, pruner={"name": "none"}).trials
    first, second = halved.trials

    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert second.reason.startswith("paused at rung 1 (score ")
    assert second.reason.endswith(", 2nd of 2; 1 goes on); no more trials come")
    assert [attempt.reason for attempt in first.attempts] == ["paused", "trained and evaluated"]
    assert (first.score, first.parts, first.reports) == (whole.score, whole.parts, whole.reports)

    continued = TrialPaths(tmp_path / "halved" / "toy" / str(first.folder))
    never = TrialPaths(tmp_path / "whole" / "toy" / str(whole.folder))
    assert [stable(line) for line in fs.read_lines(continued.metrics)] == [
        stable(line) for line in fs.read_lines(never.metrics)
    ]
    files = [torch.load(paths.checkpoint(ENV_STEPS), weights_only=True) for paths in (continued, never)]
    for name, tensor in files[1]["policy"].items():
        assert torch.equal(tensor, files[0]["policy"][name]), name

    pause, rest = first.attempts
    assert 0 == pause.first_env_step < pause.last_env_step == rest.first_env_step < rest.last_env_step == ENV_STEPS
    stretches = [a.last_env_step - a.first_env_step for trial in halved.trials for a in trial.attempts]
    assert sum(stretches) == halved.env_steps_used == ENV_STEPS + second.env_steps
