"""How long trials and studies still take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView


@dataclass(frozen=True)
class TrialProgress:
    """Where a trial is, from its metrics file where a worker is at it."""

    trial: TrialView
    score: float | None
    """The final score, or the last reported one."""
    env_steps: int
    budget: int
    """Env steps of a whole trial."""
    env_steps_per_s: float | None
    silent_s: float | None
    """Seconds since the worker's last line; None where none is at it."""
    eta_s: float | None

    @property
    def share(self) -> float:
        """Trained share of the budget, 0..1."""
        return min(self.env_steps / self.budget, 1.0)


def trial_progress(paths: StudyPaths, snapshot: StudySnapshot, trial: TrialView, now: datetime) -> TrialProgress:
    """Return a trial's progress; for a running one from the end of its metrics file, which is ahead of the database."""
    env_steps, speed, silent_s, eta_s = trial.env_steps, trial.env_steps_per_s, None, None
    budget = snapshot.spec.env_steps_per_trial
    if trial.state is TrialState.RUNNING and trial.folder is not None:
        metrics = TrialPaths(paths.root / trial.folder).metrics
        line = _last_progress(metrics)
        env_steps = int(line.get("env_steps", env_steps))
        timing = line.get("timing")
        speed = (timing or {}).get("env_steps_per_s") or speed
        silent_s = _age_s(metrics, now)
        eta_s = max(budget - env_steps, 0) / speed if speed else None
    score = trial.score if trial.score is not None else _last_report(trial)
    failed = trial.state is TrialState.FAILED
    return TrialProgress(trial, None if failed else score, env_steps, budget, speed, silent_s, eta_s)


def study_eta_s(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> float | None:
    """Return the seconds until the first budget is used up, or None while nothing is known or nothing runs."""
    if snapshot.state != "running":
        return None
    budget = snapshot.spec.budget
    estimates = [_until_trials_s(snapshot, progress)]
    if budget.hours is not None:
        estimates.append(max(budget.hours - snapshot.hours_used, 0.0) * 3600)
    speed = sum(p.env_steps_per_s or 0.0 for p in progress if p.trial.state is TrialState.RUNNING)
    if budget.env_steps is not None and speed > 0:
        estimates.append(max(budget.env_steps - snapshot.env_steps_used, 0) / speed)
    return min((estimate for estimate in estimates if estimate is not None), default=None)


def _until_trials_s(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> float | None:
    each_s = _trial_s(snapshot, progress)
    if snapshot.spec.budget.trials is None or each_s is None:
        return None
    running = [each_s if p.eta_s is None else p.eta_s for p in progress if p.trial.state is TrialState.RUNNING]
    waiting = sum(p.trial.state is TrialState.WAITING for p in progress)
    to_start = waiting + max(snapshot.spec.budget.trials - len(progress), 0)
    work_s = sum(running) + to_start * each_s
    return max([work_s / max(len(snapshot.slots), len(running), 1), *running])


def _trial_s(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> float | None:
    """Return how long a trial takes, pruned ones included: the median of those that ended, else from the speed."""
    ended = [
        (t.ended - t.started).total_seconds()
        for t in snapshot.trials
        if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.started and t.ended
    ]
    if ended:
        return statistics.median(ended)
    speeds = [p.env_steps_per_s for p in progress if p.env_steps_per_s]
    return snapshot.spec.env_steps_per_trial / statistics.median(speeds) if speeds else None


def _last_progress(metrics: Path) -> dict[str, Any]:
    lines = fs.read_last_lines(metrics, max_bytes=1 << 14)
    return next((line for line in reversed(lines) if line.get("kind") == "progress"), {})


def _age_s(path: Path, now: datetime) -> float | None:
    try:
        return max(now.timestamp() - path.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return None


def _last_report(trial: TrialView) -> float | None:
    return trial.reports[max(trial.reports)] if trial.reports else None
