"""Builders of study snapshots, and of the files that such a study has on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vbot_campaign import fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.study.snapshot import AttemptView, CheckpointView, StudySnapshot, TrialState, TrialView

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
STEPS = 600_000

PARTS = {
    "success_rate": 0.5,
    "survival_rate": 0.75,
    "goal_progress": 0.8,
    "time_to_goal": 6.25,
    "episode_length": 700.0,
    "episode_reward_mean": 123.5,
}
EVALUATION = {
    "finished": 128,
    "success": 64,
    "reached": 80,
    "fell_before": 24,
    "fell_after": 8,
    "out_of_bounds": 0,
    "timed_out": 32,
}
PARAMETERS = {
    "ppo.learning_rate": 3.0e-4,
    "ppo.policy_hidden_layer_sizes": [256, 128, 64],
    "reward.arrival_bonus": 80.0,
}


def make_spec(**overrides: Any) -> StudySpec:
    """Return a study of three parameters and four trials."""
    content: dict[str, Any] = {
        "study": "walk",
        "environment": "vbot_navigation_section001",
        "env_steps_per_trial": STEPS,
        "budget": {"trials": 4, "hours": 2.0},
        "objective": {"success_rate": 0.6, "survival_rate": 0.4},
        "search_space": {
            "ppo": {
                "learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-3},
                "policy_hidden_layer_sizes": {"type": "categorical", "choices": [[128, 64], [256, 128, 64]]},
            },
            "reward": {"arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0}},
        },
        "fixed": {"ppo": {"lambda_param": 0.9}, "env": {"spawn_outer_radius": 4.0}},
        "workers": {"num_envs": 256},
    }
    return StudySpec.model_validate({**content, **overrides})


def make_attempt(**overrides: Any) -> AttemptView:
    """Return an attempt that ended after six minutes."""
    values: dict[str, Any] = {
        "number": 1,
        "token": "t1",
        "host": "box",
        "pid": 4242,
        "pid_started": 1.0e9,
        "slot": "cpu:0",
        "started": START,
        "ended": START + timedelta(minutes=6),
        "reason": "finished",
        "exit_code": 0,
        "first_env_step": 0,
        "last_env_step": STEPS,
        "memory_peak_mb": 512.0,
    }
    return AttemptView(**{**values, **overrides})


def make_checkpoint(trial: int = 0, **overrides: Any) -> CheckpointView:
    """Return a trial's best checkpoint; its file is what `write_study` writes."""
    folder = f"trials/{trial:04d}_20260131T120000Z_PPO"
    values: dict[str, Any] = {
        "trial": trial,
        "env_steps": STEPS,
        "kind": "best",
        "path": f"{folder}/checkpoints/best_agent.pt",
        "sha256": "0" * 64,
        "bytes": 0,
        "score": 0.6,
        "metrics": dict(PARTS),
        "created": START + timedelta(minutes=6),
        "verified": None,
    }
    return CheckpointView(**{**values, **overrides})


def make_trial(number: int = 0, **overrides: Any) -> TrialView:
    """Return a complete trial with a score of 0.6."""
    values: dict[str, Any] = {
        "number": number,
        "state": TrialState.COMPLETE,
        "reason": "finished",
        "parameters": dict(PARAMETERS),
        "score": 0.6,
        "parts": dict(PARTS),
        "env_steps": STEPS,
        "reports": {STEPS // 2: 0.25, STEPS: 0.5},
        "started": START,
        "ended": START + timedelta(minutes=6),
        "folder": f"trials/{number:04d}_20260131T120000Z_PPO",
        "attempts": (make_attempt(),),
        "checkpoints": (make_checkpoint(number),),
        "evaluation": dict(EVALUATION),
        "env_steps_per_s": 2000.0,
    }
    return TrialView(**{**values, **overrides})


def make_running(number: int = 0, **overrides: Any) -> TrialView:
    """Return a trial at a quarter of its budget, with one report."""
    values: dict[str, Any] = {
        "state": TrialState.RUNNING,
        "reason": "attempt 1 on cpu:1",
        "score": None,
        "parts": {**PARTS, "success_rate": 0.125},
        "env_steps": STEPS // 4,
        "reports": {STEPS // 4: 0.3},
        "ended": None,
        "attempts": (make_attempt(ended=None, reason=None, exit_code=None, slot="cpu:1", last_env_step=STEPS // 4),),
        "checkpoints": (),
        "evaluation": None,
    }
    return make_trial(number, **{**values, **overrides})


def make_pruned(number: int = 0, **overrides: Any) -> TrialView:
    """Return a trial that was stopped at half of its budget with a score of 0.2."""
    values: dict[str, Any] = {
        "state": TrialState.PRUNED,
        "reason": "median",
        "score": 0.2,
        "env_steps": STEPS // 2,
        "reports": {STEPS // 2: 0.2},
        "checkpoints": (),
        "evaluation": None,
    }
    return make_trial(number, **{**values, **overrides})


def make_failed(number: int = 0, **overrides: Any) -> TrialView:
    """Return a trial that diverged after it had reported a score."""
    values: dict[str, Any] = {
        "state": TrialState.FAILED,
        "reason": "diverged: loss is not finite",
        "score": None,
        "env_steps": STEPS // 4,
        "reports": {STEPS // 4: 0.1},
        "checkpoints": (),
        "evaluation": None,
    }
    return make_trial(number, **{**values, **overrides})


def make_snapshot(**overrides: Any) -> StudySnapshot:
    """Return a running study with one complete trial."""
    values: dict[str, Any] = {
        "spec": make_spec(),
        "created": START,
        "state": "running",
        "reason": "",
        "hours_used": 0.5,
        "env_steps_used": STEPS,
        "skipped": 0,
        "trials": (make_trial(0),),
        "supervisor": None,
        "slots": ("cpu:0", "cpu:1"),
    }
    return StudySnapshot(**{**values, **overrides})


def progress_line(iteration: int, env_steps: int, **overrides: Any) -> dict[str, Any]:
    """Return a metrics line whose reward terms are worked out from the iteration."""
    terms = dict.fromkeys(get_environment("vbot_navigation_section001").rewards, 0.0)
    terms.update({"alive_bonus": 0.25, "torques": -0.5 * iteration, "termination": -1.0})
    line = {
        "v": 1,
        "kind": "progress",
        "time": "2026-01-31T12:00:00.000Z",
        "attempt": 1,
        "token": "t1",
        "iteration": iteration,
        "env_steps": env_steps,
        "reward_mean": sum(terms.values()),
        "terms": terms,
        "timing": {"env_steps_per_s": 1000.0, "seconds": 6.0},
    }
    return {**line, **overrides}


def write_study(paths: CampaignPaths, snapshot: StudySnapshot) -> StudySnapshot:
    """Write the trial folders of a study as its workers would have, and return it with the real sizes and hashes."""
    return replace(snapshot, trials=tuple(_write_trial(paths, snapshot.spec, trial) for trial in snapshot.trials))


def _write_trial(paths: CampaignPaths, spec: StudySpec, trial: TrialView) -> TrialView:
    if trial.folder is None:
        return trial
    study = paths.study(spec.study)
    folder = TrialPaths(study.root / trial.folder)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    training = resolve_training(spec, trial.parameters)
    given = TrialSpec(study=spec.study, trial=trial.number, training=training, parameters=trial.parameters)
    fs.write_text(folder.spec, given.model_dump_json())
    points = range(1, max(trial.env_steps // (STEPS // 12), 1) + 1)
    lines = [progress_line(iteration=p, env_steps=p * STEPS // 12) for p in points]
    fs.write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in lines))
    if trial.state is TrialState.COMPLETE:
        Result(Ended.FINISHED, "finished", 1, trial.env_steps, len(lines), score=trial.score).write(folder.result)
    checkpoints = []
    for checkpoint in trial.checkpoints:
        file = study.root / checkpoint.path
        file.write_bytes(f"{trial.number} {checkpoint.path}".encode() * 1000)
        written = replace(checkpoint, sha256=fs.sha256(file), bytes=file.stat().st_size)
        record = {"file": file.name, "sha256": written.sha256, "bytes": written.bytes, "kind": written.kind}
        fs.append_line(folder.checkpoint_log, record)
        checkpoints.append(written)
    return replace(trial, checkpoints=tuple(checkpoints))
