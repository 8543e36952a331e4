"""How long trials and studies still take.

A trial that is running takes what is left of its env steps at its own speed. One that is not takes
``expected_share * env_steps_per_trial / slot_speed`` seconds, where

* ``expected_share`` is the trained share of the trials that completed or were pruned, averaged together with one
  imaginary trial that was trained to its end: ``(1 + sum of shares) / (1 + trials)``. The first trials of a study are
  never pruned, so it starts at 1, and the pruner's mercy shows in it as soon as there is any;
* ``slot_speed`` is env steps per second of a worker's whole life, its start and its evaluation included, over the
  last `RECENT` trials that ended; before the first one the speed of those that run.

The work of all trials is spread over the slots, but takes no less than the running trial that takes longest. A budget
of hours or of env steps that is used up earlier ends the study then.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

RECENT = 20
"""Ended trials by which the speed is measured."""


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


def expected_share(snapshot: StudySnapshot) -> float:
    """Return the share of its env steps that a trial is trained for before it ends, completed or pruned; 0..1."""
    budget = snapshot.spec.env_steps_per_trial
    shares = [min(trial.env_steps / budget, 1.0) for trial in snapshot.trials if _has_ended(trial)]
    return (1.0 + sum(shares)) / (1.0 + len(shares))


def slot_speed(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> float | None:
    """Return env steps per second of one slot, or None while nothing was measured."""
    ended = [trial for trial in snapshot.trials if _has_ended(trial)][-RECENT:]
    attempts = [attempt for trial in ended for attempt in trial.attempts if attempt.ended is not None]
    env_steps = sum(attempt.last_env_step - attempt.first_env_step for attempt in attempts)
    seconds = sum((attempt.ended - attempt.started).total_seconds() for attempt in attempts if attempt.ended)
    if env_steps > 0 and seconds > 0:
        return env_steps / seconds
    speeds = [p.env_steps_per_s for p in progress if p.env_steps_per_s]
    return statistics.median(speeds) if speeds else None


def study_eta_s(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> float | None:
    """Return the seconds until the first budget is used up, or None while nothing is known or nothing runs.

    Args:
        snapshot: The study.
        progress: Of its running trials at least.
    """
    if snapshot.state != "running":
        return None
    budget = phase_budget(snapshot.spec.budget, "search")
    running = [p for p in progress if p.trial.state is TrialState.RUNNING]
    estimates = [_until_trials_s(snapshot, running)]
    if budget.hours is not None:
        estimates.append(max(budget.hours - snapshot.hours_used, 0.0) * 3600)
    speed = sum(p.env_steps_per_s or 0.0 for p in running)
    if budget.env_steps is not None and speed > 0:
        estimates.append(max(budget.env_steps - snapshot.env_steps_used, 0) / speed)
    return min((estimate for estimate in estimates if estimate is not None), default=None)


def _until_trials_s(snapshot: StudySnapshot, running: Sequence[TrialProgress]) -> float | None:
    speed = slot_speed(snapshot, running)
    if snapshot.spec.budget.trials is None or speed is None:
        return None
    share, budget = expected_share(snapshot), snapshot.spec.env_steps_per_trial
    unfinished = [trial for trial in snapshot.trials if trial.state is TrialState.WAITING]
    waiting = [trial.env_steps for trial in unfinished if not trial.is_paused]
    new = max(snapshot.spec.budget.trials - len(snapshot.trials), 0)
    to_start = share * (new * budget + sum(max(budget - env_steps, 0) for env_steps in waiting))
    still_running = [budget / speed if p.eta_s is None else p.eta_s for p in running]
    work_s = sum(still_running) + to_start / speed
    return max([work_s / max(len(snapshot.slots), len(running), 1), *still_running])


def _has_ended(trial: TrialView) -> bool:
    # Few of those that are paused at a rung ever go on.
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or trial.is_paused


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
